//! What Envoy makes of a request before the filter sees it.
//!
//! A request in a test file or in the options of the command is what a client sends, with the claims of its token. Envoy joins the
//! lines of some headers, and `jwt_authn` splits some claims into lists, as Istio configures it. What depends on Envoy's
//! settings, such as the normalization of paths, is not done here.

use std::collections::BTreeSet;

use mesh_authz::document::{Node, Value};
use mesh_authz::policy::scope::{Scope, scope_of};
use mesh_authz::request::{Request, is_normalized, without_query};

use crate::load::policy_set::PolicySet;
use crate::load::request_authentication::SPACE_DELIMITED;
use crate::testfile::RequestFields;

/// The headers whose lines Envoy joins, sorted by name. An end-to-end test asks Envoy.
pub const JOINED: [&str; 24] = [
    "accept",
    "accept-encoding",
    "access-control-request-headers",
    "access-control-request-method",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-type",
    "expect",
    "grpc-accept-encoding",
    "grpc-timeout",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "origin",
    "pragma",
    "referer",
    "user-agent",
    "via",
    "x-client-trace-id",
    "x-forwarded-for",
    "x-forwarded-host",
];

/// A request, as Envoy shows it to the filter.
#[derive(Debug)]
pub struct Received {
    pub request: Request,
    /// What Envoy has changed, or may change: sentences without a full stop.
    pub notes: Vec<String>,
}

/// What Envoy shows the filter of this request, on the workload of these policies.
#[must_use]
pub fn received(sent: &RequestFields, set: &PolicySet) -> Received {
    let mut notes = Vec::new();
    let mut shown = sent.clone();
    shown.headers = joined(&sent.headers, &mut notes);
    if let Some(claims) = &mut shown.jwt {
        split(claims, &space_delimited(claims, set), &mut notes);
    }
    let path = without_query(sent.path().as_bytes());
    if !is_normalized(path) {
        notes.push(format!(
            "an Envoy that normalizes paths makes another path of `{}`; this answer is for the path as it is",
            String::from_utf8_lossy(path)
        ));
    }
    Received { request: shown.to_request(), notes }
}

/// The headers, with one line for each name whose lines Envoy joins. Envoy leaves empty lines out of it.
fn joined(headers: &[(String, String)], notes: &mut Vec<String>) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut changed = BTreeSet::new();
    for (name, value) in headers {
        let lower = name.to_ascii_lowercase();
        let first = all.iter_mut().find(|(other, _)| other.eq_ignore_ascii_case(name));
        match first.filter(|_| JOINED.binary_search(&lower.as_str()).is_ok()) {
            None => all.push((name.clone(), value.clone())),
            Some((_, line)) => {
                if !line.is_empty() && !value.is_empty() {
                    line.push(',');
                }
                line.push_str(value);
                changed.insert(lower);
            }
        }
    }
    for name in changed {
        let line = all.iter().find(|(other, _)| other.eq_ignore_ascii_case(&name));
        notes.push(format!("Envoy joins the lines of `{name}`: `{}`", line.map_or("", |(_, line)| line.as_str())));
    }
    if all.iter().filter(|(name, _)| name.eq_ignore_ascii_case("cookie")).count() > 1 {
        let note = "over HTTP/2, Envoy joins the lines of `cookie` with `; `; this answer is for HTTP/1";
        notes.push(note.to_owned());
    }
    all
}

/// The claims that are lists of words in a token of this issuer.
fn space_delimited(claims: &Node, set: &PolicySet) -> BTreeSet<String> {
    let issuer = claims.get("iss").and_then(Node::as_str);
    let applies = |target, namespace: &str| scope_of(namespace, target, &set.workload) == Scope::Applies;
    let found = set.resources.request_authentications.iter().map(|found| &found.authentication);
    let rules = found.filter(|found| applies(&found.target, &found.name.namespace)).flat_map(|found| &found.rules);
    let of_issuer = rules.filter(|rule| rule.issuer.is_none() || rule.issuer.as_deref() == issuer);
    let own = of_issuer.flat_map(|rule| rule.space_delimited_claims.iter().cloned());
    own.chain(SPACE_DELIMITED.map(str::to_owned)).collect()
}

/// Splits these claims at their spaces.
fn split(claims: &mut Node, names: &BTreeSet<String>, notes: &mut Vec<String>) {
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
