//! The decision, as a text that stays with the request. Access logs print it with
//! `%FILTER_STATE(wasm.mesh_authz:PLAIN)%`.
//!
//! The text names the decision and the rules that made it. It holds nothing that the request has sent. It has the
//! results of dry runs twice, the second time under the names that Istio's own proxies use.

use super::json::Object;
use crate::engine::explain::NearMiss;
use crate::engine::{Decision, DryRunResult, Verdict};

/// The name of the filter state. Envoy puts `wasm.` before it.
pub const NAME: &str = "mesh_authz";

/// Writes the decision as JSON in ASCII. `nearest`, the nearest miss, is given only for the debug header.
pub fn write(text: &mut String, decision: &Decision<'_>, nearest: Option<NearMiss<'_>>) {
    let mut object = Object::begin(text);
    provenance(&mut object, decision);
    if let Some(nearest) = nearest {
        // A header is ASCII.
        self::nearest(&mut object, nearest, nearest.key().filter(|key| key.is_ascii())).end();
    }
    results(&mut object, decision);
    let shadows = [
        (
            decision.dry_run.allow,
            "istio_dry_run_allow_shadow_engine_result",
            "istio_dry_run_allow_shadow_effective_policy_id",
        ),
        (
            decision.dry_run.deny,
            "istio_dry_run_deny_shadow_engine_result",
            "istio_dry_run_deny_shadow_effective_policy_id",
        ),
    ];
    for (dry_run, result, policy) in shadows {
        let Some(DryRunResult { verdict, rule }) = dry_run else { continue };
        object.text(result, if verdict == Verdict::Allow { b"allowed" } else { b"denied" });
        if let Some(rule) = rule {
            object.text(policy, rule.as_str().as_bytes());
        }
    }
    object.end();
}

/// Writes the decision, the rule that made it and the attribute that could not be read, if there are such.
pub(super) fn provenance(object: &mut Object<'_>, decision: &Decision<'_>) {
    object.text("decision", name(decision.outcome.verdict()).as_bytes());
    if let Some(rule) = decision.outcome.rule() {
        object.raw("policy", format_args!("\"{}\"", rule.policy));
        object.raw("rule", format_args!("{}", rule.index));
    }
    if let Some(origin) = decision.unreadable {
        object.raw("unreadable", format_args!("\"{origin}\""));
    }
}

/// Writes the rule that came nearest to matching. `key`: the key of the condition that failed. The caller may add more
/// fields, and must end the object.
pub(super) fn nearest<'o>(object: &'o mut Object<'_>, near_miss: NearMiss<'_>, key: Option<String>) -> Object<'o> {
    let NearMiss { rule, distance, failure, .. } = near_miss;
    let mut object = object.object("nearest");
    object.raw("policy", format_args!("\"{}\"", rule.policy));
    object.raw("rule", format_args!("{}", rule.index));
    object.raw("failed", format_args!("\"{near_miss}\""));
    if let Some(key) = key {
        object.text("key", key.as_bytes());
    }
    object.raw("how", format_args!("\"{failure}\""));
    object.raw("further", format_args!("{}", distance.saturating_sub(1)));
    object
}

/// Writes the rule that was audited, and what dry runs would have decided.
pub(super) fn results(object: &mut Object<'_>, decision: &Decision<'_>) {
    if let Some(rule) = decision.audited {
        object.text("audited", rule.as_str().as_bytes());
    }
    for (name, result) in [("dry_run_allow", decision.dry_run.allow), ("dry_run_deny", decision.dry_run.deny)] {
        let Some(DryRunResult { verdict, rule }) = result else { continue };
        let mut object = object.object(name);
        object.text("decision", self::name(verdict).as_bytes());
        object.text_or_null("rule", rule.map(|rule| rule.as_str().as_bytes()));
        object.end();
    }
}

fn name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "ALLOW",
        Verdict::Deny => "DENY",
    }
}
