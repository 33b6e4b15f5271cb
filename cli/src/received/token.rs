//! What `jwt_authn` makes of the claims of a token, as the resources in the input configure it.

use std::collections::BTreeSet;

use mesh_authz::document::{Node, Value};
use mesh_authz::policy::PolicyName;
use mesh_authz::policy::scope::{Scope, scope_of};

use crate::load::policy_set::PolicySet;
use crate::load::request_authentication::{JwtRule, Presence, SPACE_DELIMITED};

/// Why Envoy answers 401: the request has no token that the workload requires.
pub fn missing(claims: Option<&Node>, set: &PolicySet) -> Option<String> {
    let issuer = claims.and_then(|claims| claims.get("iss")).and_then(Node::as_str);
    let is_missing = |rule: &JwtRule| claims.is_none() || rule.issuer.is_some() && rule.issuer.as_deref() != issuer;
    let (name, rule) = rules(set).find(|(_, rule)| rule.presence == Presence::Required && is_missing(rule))?;
    let of_issuer = rule.issuer.as_ref().map_or_else(String::new, |issuer| format!(" of `{issuer}`"));
    Some(format!("RequestAuthentication {name} requires a token{of_issuer}"))
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
