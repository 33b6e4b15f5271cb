//! The JSON output of `mesh-authz explain`.

use mesh_authz::engine::DryRunResult;
use serde::Serialize;

use crate::explain::{Actual, Explanation, RuleReport};

/// An explanation, in the shape of the JSON output.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Json<'e> {
    decision: String,
    reason: String,
    rule: Option<JsonRule<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
    dry_run: JsonDryRun,
    audited: Option<String>,
    rules: Vec<JsonRule<'e>>,
    without_rules: Vec<JsonPolicy>,
    not_applying: Vec<JsonElsewhere>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonRule<'e> {
    policy: String,
    rule: usize,
    action: String,
    dry_run: bool,
    matched: bool,
    file: String,
    line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<JsonFailed<'e>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonFailed<'e> {
    path: String,
    attribute: &'e str,
    line: Option<u32>,
    must_not_match: bool,
    expected: &'e [String],
    actual: Option<&'e [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why_nothing: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'e str>,
    further: usize,
}

#[derive(Serialize)]
struct JsonDryRun {
    deny: Option<JsonWouldBe>,
    allow: Option<JsonWouldBe>,
}

#[derive(Serialize)]
struct JsonWouldBe {
    decision: String,
    rule: Option<String>,
}

/// A policy that applies and has no rules.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonPolicy {
    policy: String,
    action: String,
    dry_run: bool,
}

#[derive(Serialize)]
struct JsonElsewhere {
    policy: String,
    reason: String,
}

impl<'e> Json<'e> {
    pub fn new(explanation: &'e Explanation<'_>) -> Self {
        let decision = &explanation.decision;
        let would_be = |would_be: DryRunResult<'_>| JsonWouldBe {
            decision: would_be.verdict.to_string(),
            rule: would_be.rule.map(ToString::to_string),
        };
        let elsewhere = explanation.elsewhere.iter().map(|(resource, scope)| JsonElsewhere {
            policy: resource.policy.name.to_string(),
            reason: scope.to_string(),
        });
        let without_rules = explanation.without_rules.iter().map(|resource| JsonPolicy {
            policy: resource.policy.name.to_string(),
            action: resource.policy.action.to_string(),
            dry_run: resource.policy.dry_run,
        });
        Self {
            decision: decision.outcome.verdict().to_string(),
            reason: decision.outcome.to_string(),
            rule: explanation.deciding().map(JsonRule::new),
            unreadable: decision.unreadable.map(|origin| origin.to_string()),
            dry_run: JsonDryRun {
                deny: decision.dry_run.deny.map(would_be),
                allow: decision.dry_run.allow.map(would_be),
            },
            audited: decision.audited.map(ToString::to_string),
            rules: explanation.rules.iter().map(JsonRule::new).collect(),
            without_rules: without_rules.collect(),
            not_applying: elsewhere.collect(),
        }
    }
}

impl<'e> JsonRule<'e> {
    fn new(report: &'e RuleReport<'_>) -> Self {
        let failed = report.failed.as_ref().map(|failed| JsonFailed {
            path: failed.path.to_string(),
            attribute: &failed.attribute,
            line: failed.span.map(|span| span.start.line),
            must_not_match: failed.is_not,
            expected: &failed.expected,
            actual: match &failed.actual {
                Actual::Values(values) => Some(values),
                Actual::Nothing(_) | Actual::Unreadable => None,
            },
            why_nothing: match &failed.actual {
                Actual::Values(_) => None,
                Actual::Nothing(why) => Some(why),
                Actual::Unreadable => Some("unreadable"),
            },
            hint: failed.hint.as_deref(),
            further: failed.further,
        });
        Self {
            policy: report.rule.policy.to_string(),
            rule: report.rule.index,
            action: report.action.to_string(),
            dry_run: report.dry_run,
            matched: report.failed.is_none(),
            file: report.resource.source.file.display().to_string(),
            line: report.span.map(|span| span.start.line),
            failed,
        }
    }
}
