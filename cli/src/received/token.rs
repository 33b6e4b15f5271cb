//! What `jwt_authn` makes of the claims of a token, as the resources in the input configure it.

use std::collections::BTreeSet;

use mesh_authz::document::{Node, Value};
use mesh_authz::policy::PolicyName;
use mesh_authz::policy::scope::{Scope, scope_of};

use crate::load::policy_set::PolicySet;
use crate::load::request_authentication::{JwtRule, Presence, SPACE_DELIMITED};
use crate::testfile::RequestFields;

/// Whether a browser asks with it what it may ask. In Istio and in rendered bootstraps, `jwt_authn` lets such a request through.
pub fn is_preflight(request: &RequestFields) -> bool {
    let has =
        |wanted| request.headers.iter().any(|(name, value)| name.eq_ignore_ascii_case(wanted) && !value.is_empty());
    request.method() == "OPTIONS" && has("origin") && has("access-control-request-method")
}

/// Checks that the request has a token that the workload requires. It names only one token: if the workload requires several, the
/// others are taken to be there, and a note says so.
///
/// # Errors
/// Why Envoy answers 401: the request has no such token.
pub fn check(claims: Option<&Node>, set: &PolicySet, notes: &mut Vec<String>) -> Result<(), String> {
    let issuer = claims.and_then(|claims| claims.get("iss")).and_then(Node::as_str);
    let is_there = |rule: &JwtRule| claims.is_some() && (rule.issuer.is_none() || rule.issuer.as_deref() == issuer);
    let required = rules(set).filter(|(_, rule)| rule.presence == Presence::Required);
    let (there, others): (Vec<_>, Vec<_>) = required.partition(|(_, rule)| is_there(rule));
    let Some((name, rule)) = others.first() else { return Ok(()) };
    let of_issuer = rule.issuer.as_ref().map_or_else(String::new, |issuer| format!(" of `{issuer}`"));
    let why = format!("RequestAuthentication {name} requires a token{of_issuer}");
    if there.is_empty() {
        return Err(why);
    }
    notes.push(format!("{why}: this answer is for a request that has it too"));
    Ok(())
}

/// Makes lists of the claims that hold words.
pub fn split(claims: &mut Node, set: &PolicySet, notes: &mut Vec<String>) {
    let names = space_delimited(claims, set);
    let Value::Map(entries) = &mut claims.value else { return };
    for (name, node) in entries.iter_mut().filter(|(name, _)| names.contains(name)) {
        let Value::String(text) = &node.value else { continue };
        let words: Vec<_> = text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        if words.len() > 1 {
            notes.push(format!("Envoy makes a list of the claim `{name}`: {}", words.join(", ")));
        }
        node.value = Value::List(words.into_iter().map(|word| Value::String(word).into()).collect());
    }
}

/// The rules about tokens that apply to the workload, and the names of the resources that have them.
fn rules(set: &PolicySet) -> impl Iterator<Item = (&PolicyName, &JwtRule)> {
    let found = set.resources.request_authentications.iter().map(|found| &found.authentication);
    found
        .filter(move |found| scope_of(found.reach(), &set.workload) == Scope::Applies)
        .flat_map(|found| found.rules.iter().map(|rule| (&found.name, rule)))
}

/// The claims that are lists of words in a token of this issuer.
fn space_delimited(claims: &Node, set: &PolicySet) -> BTreeSet<String> {
    let issuer = claims.get("iss").and_then(Node::as_str);
    let rules = rules(set).map(|(_, rule)| rule);
    let of_issuer = rules.filter(|rule| rule.issuer.is_none() || rule.issuer.as_deref() == issuer);
    let own = of_issuer.flat_map(|rule| rule.space_delimited_claims.iter().cloned());
    own.chain(SPACE_DELIMITED.map(str::to_owned)).collect()
}
