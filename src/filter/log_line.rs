//! The decision log: one line of JSON a decision.
//!
//! It says who wanted what, what was decided and why. Of the request it holds the peer's identity, the method, the path
//! without its query, and both addresses; never another header, never a token. Bytes that are not UTF-8 are replaced, and
//! everything is escaped, so that a line stays a line.

use std::fmt::Write as _;
use std::net::IpAddr;

use serde::Serialize;

use crate::engine::{Decision, RuleId, WouldBe};
use crate::request::{Attributes, PeerName, without_query};

#[derive(Serialize)]
struct Line<'d> {
    decision: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<usize>,
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<&'d str>,
    principal: Option<String>,
    method: Option<String>,
    path: Option<String>,
    source_ip: Option<IpAddr>,
    remote_ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audited: Option<&'d str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dry_run_allow: Option<Shadow<'d>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dry_run_deny: Option<Shadow<'d>>,
}

#[derive(Serialize)]
struct Shadow<'d> {
    decision: String,
    rule: Option<&'d str>,
}

/// The line for a decision.
#[must_use]
pub fn decision(decision: &Decision<'_>, request: &impl Attributes) -> String {
    let rule = decision.reason.rule();
    let header = |name| request.header(name).known()?.next();
    let line = Line {
        decision: decision.verdict.to_string(),
        policy: rule.map(|rule| rule.policy.to_string()),
        rule: rule.map(|rule| rule.index),
        reason: decision.reason.to_string(),
        unreadable: decision.unreadable,
        principal: request.peer_name(PeerName::Uri).known().map(lossy),
        method: header(b":method").map(lossy),
        path: header(b":path").map(without_query).map(lossy),
        source_ip: request.source_ip().known(),
        remote_ip: request.remote_ip().known(),
        audited: decision.audited.map(RuleId::as_str),
        dry_run_allow: decision.dry_run.allow.map(shadow),
        dry_run_deny: decision.dry_run.deny.map(shadow),
    };
    let json = serde_json::to_string(&line).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"));
    if json.is_ascii() && !json.contains('\x7f') { json } else { without_controls(&json) }
}

/// JSON leaves some characters as they are that end a line for some readers, or command a terminal.
fn without_controls(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') {
            let _infallible = write!(escaped, "\\u{:04x}", u32::from(character));
        } else {
            escaped.push(character);
        }
    }
    escaped
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn shadow(would_be: WouldBe<'_>) -> Shadow<'_> {
    Shadow { decision: would_be.verdict.to_string(), rule: would_be.rule.map(RuleId::as_str) }
}
