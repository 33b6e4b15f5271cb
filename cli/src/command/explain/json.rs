//! The JSON output of `mesh-authz explain`.

use mesh_authz::engine::DryRunResult;
use serde::Serialize;

use crate::explain::{Actual, Explanation, RuleReport};
use crate::received::{Answered, where_answered};

/// An explanation, in the shape of the JSON output.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Json<'e> {
    decision: String,
    reason: String,
    /// What Envoy changes in the request.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    changed: &'e [String],
    /// All answers, if there is more than one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    answers: Vec<JsonAnswer<'e>>,
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

/// An answer with some settings of Envoy.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonAnswer<'e> {
    decision: String,
    reason: String,
    rule: Option<String>,
    #[serde(rename = "where")]
    place: String,
    changed: &'e [String],
}

impl<'e> Json<'e> {
    /// `explanation` is that of the first answer. `None` if Envoy itself refuses the request. There are no answers for a
    /// request that the filter has seen.
    pub fn new(explanation: Option<&'e Explanation<'_>>, answers: &'e [Answered<'_>]) -> Self {
        let first = answers.first();
        let would_be = |would_be: DryRunResult<'_>| JsonWouldBe {
            decision: would_be.verdict.to_string(),
            rule: would_be.rule.map(ToString::to_string),
        };
        let elsewhere = explanation.iter().flat_map(|explanation| &explanation.elsewhere);
        let without_rules = explanation.iter().flat_map(|explanation| &explanation.without_rules);
        let decision = explanation.map(|explanation| &explanation.decision);
        let dry_run = decision.map(|decision| decision.dry_run);
        let depends = answers.len() > 1;
        let several = answers.iter().filter(|_| depends);
        Self {
            decision: first
                .filter(|_| !depends)
                .map(|answered| answered.verdict().to_string())
                .or(decision.filter(|_| !depends).map(|decision| decision.outcome.verdict().to_string()))
                .unwrap_or_else(|| "DEPENDS".to_owned()),
            reason: depends
                .then(|| "the answers depend on what the input does not say".to_owned())
                .or(first.map(reason))
                .or(decision.map(|decision| decision.outcome.to_string()))
                .unwrap_or_default(),
            changed: first.map(|answered| answered.received.notes.as_slice()).unwrap_or_default(),
            answers: several.map(|answered| JsonAnswer::new(answered, answers)).collect(),
            rule: explanation.and_then(|explanation| explanation.deciding().map(JsonRule::new)),
            unreadable: decision.and_then(|decision| decision.unreadable.map(|origin| origin.to_string())),
            dry_run: JsonDryRun {
                deny: dry_run.and_then(|dry_run| dry_run.deny.map(would_be)),
                allow: dry_run.and_then(|dry_run| dry_run.allow.map(would_be)),
            },
            audited: decision.and_then(|decision| decision.audited.map(ToString::to_string)),
            rules: explanation.iter().flat_map(|explanation| &explanation.rules).map(JsonRule::new).collect(),
            without_rules: without_rules
                .map(|resource| JsonPolicy {
                    policy: resource.policy.name.to_string(),
                    action: resource.policy.action.to_string(),
                    dry_run: resource.policy.dry_run,
                })
                .collect(),
            not_applying: elsewhere
                .map(|(resource, scope)| JsonElsewhere {
                    policy: resource.policy.name.to_string(),
                    reason: scope.to_string(),
                })
                .collect(),
        }
    }
}

impl<'e> JsonAnswer<'e> {
    fn new(answered: &'e Answered<'_>, all: &[Answered<'_>]) -> Self {
        Self {
            decision: answered.verdict().to_string(),
            reason: reason(answered),
            rule: answered.rule().map(ToString::to_string),
            place: where_answered(answered, all),
            changed: &answered.received.notes,
        }
    }
}

fn reason(answered: &Answered<'_>) -> String {
    let text = answered.to_string();
    text.split_once(": ").map(|(_, reason)| reason.to_owned()).unwrap_or_default()
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
