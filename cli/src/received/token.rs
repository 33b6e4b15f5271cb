//! What `jwt_authn` makes of the claims of a token, as the resources in the input configure it.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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

/// Checks that the workload accepts the token, and that it has all tokens that it requires. The request names only one token: if
/// the workload requires several, the others are taken to be there, and a note says so.
///
/// # Errors
/// Why Envoy refuses the request.
pub fn check(claims: Option<&Node>, set: &PolicySet, notes: &mut Vec<String>) -> Result<(), String> {
    if let Some(claims) = claims {
        accepted(claims, set)?;
    }
    let is_there = |rule: &JwtRule| claims.is_some_and(|claims| is_of_issuer(rule, claims));
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

/// Whether a rule accepts a token with these claims. Where no rule applies, something else verifies tokens.
fn accepted(claims: &Node, set: &PolicySet) -> Result<(), String> {
    let Some((name, _)) = rules(set).next() else { return Ok(()) };
    let of_issuer: Vec<_> = rules(set).filter(|(_, rule)| is_of_issuer(rule, claims)).collect();
    if of_issuer.is_empty() {
        let issuer = claims.get("iss").map_or_else(|| "no issuer".to_owned(), |issuer| issuer.value.shown());
        return Err(format!("its token is of {issuer}, which RequestAuthentication {name} does not accept"));
    }
    if !of_issuer.iter().any(|(_, rule)| is_for_audience(rule, claims)) {
        return Err(format!("its token is not for an audience that RequestAuthentication {name} accepts"));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
    let time = |claim: &str| match claims.get(claim)?.value {
        Value::Number(time) => Some(time),
        _ => None,
    };
    if time("exp").is_some_and(|expires| expires + CLOCK_SKEW < now) {
        return Err("its token has expired (`exp`)".to_owned());
    }
    if time("nbf").is_some_and(|begins| begins - CLOCK_SKEW > now) {
        return Err("its token is not valid yet (`nbf`)".to_owned());
    }
    Ok(())
}

/// How many seconds the clock of an issuer may differ.
const CLOCK_SKEW: f64 = 60.0;

fn is_of_issuer(rule: &JwtRule, claims: &Node) -> bool {
    let issuer = claims.get("iss").and_then(Node::as_str);
    rule.issuer.is_none() || rule.issuer.as_deref() == issuer
}

fn is_for_audience(rule: &JwtRule, claims: &Node) -> bool {
    let is_one = |node: &Node| node.as_str().is_some_and(|text| rule.audiences.iter().any(|one| one == text));
    let is_named = match claims.get("aud").map(|audience| &audience.value) {
        Some(Value::List(items)) => items.iter().any(is_one),
        Some(Value::String(_)) => claims.get("aud").is_some_and(is_one),
        _ => false,
    };
    rule.audiences.is_empty() || is_named
}

/// Removes what clients may not write: the headers into which Envoy copies claims. Writes them for a verified token, and
/// removes the token itself unless it is forwarded.
pub fn change_headers(request: &mut RequestFields, set: &PolicySet, notes: &mut Vec<String>) {
    let mut set_headers: Vec<(String, String)> = Vec::new();
    for (_, rule) in rules(set) {
        let of_token = request.jwt.as_ref().filter(|claims| is_of_issuer(rule, claims));
        let claims = rule.output_claim_to_headers.iter().map(|output| (&output.header, claim(of_token, &output.claim)));
        let payload = rule.output_payload_to_header.iter().map(|header| (header, of_token.map(|_| "e30".to_owned())));
        for (header, value) in claims.chain(payload) {
            if remove(&mut request.headers, header) {
                notes.push(format!("Envoy removes `{header}`, which it writes itself for a token"));
            }
            set_headers.extend(value.map(|value| (header.to_ascii_lowercase(), value)));
        }
        if request.jwt.as_ref().is_some_and(|claims| is_of_issuer(rule, claims)) && !rule.forward_original_token {
            let default = ["authorization".to_owned()];
            let has_own =
                !(rule.from_headers.is_empty() && rule.from_params.is_empty() && rule.from_cookies.is_empty());
            let names: Vec<_> = rule.from_headers.iter().map(|from| from.name.clone()).collect();
            for header in if has_own { names.as_slice() } else { default.as_slice() } {
                if remove(&mut request.headers, header) {
                    notes.push(format!("Envoy removes `{header}` with the token"));
                }
            }
        }
    }
    request.headers.extend(set_headers);
}

fn remove(headers: &mut Vec<(String, String)>, name: &str) -> bool {
    let count = headers.len();
    headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
    headers.len() < count
}

/// The text that a header gets for a claim, which can be inside others. Lists and objects are encoded.
fn claim(claims: Option<&Node>, path: &str) -> Option<String> {
    let found = claims?.get(path).or_else(|| path.split('.').try_fold(claims?, Node::get))?;
    match &found.value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::List(_) | Value::Map(_) => serde_json::to_vec(found).ok().map(|json| STANDARD.encode(json)),
    }
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
    let of_issuer = rules(set).map(|(_, rule)| rule).filter(|rule| is_of_issuer(rule, claims));
    let own = of_issuer.flat_map(|rule| rule.space_delimited_claims.iter().cloned());
    own.chain(SPACE_DELIMITED.map(str::to_owned)).collect()
}
