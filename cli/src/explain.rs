//! Explains a decision: the rule that made it and, for every rule that does not match, the first condition that failed,
//! with the values that it expected and the values that the request has.

mod actual;
mod reason;

use std::cmp::Reverse;
use std::collections::HashMap;

use mesh_authz::diagnostic;
use mesh_authz::diagnostic::Segment;
use mesh_authz::document::{Node, Span, Value};
use mesh_authz::engine::explain::{Miss, Trace};
use mesh_authz::engine::{Decision, Engine, RuleId, Verdict};
use mesh_authz::identity::SCHEME;
use mesh_authz::policy::scope::Scope;
use mesh_authz::policy::{Action, Clause, Predicate, rule_path};
use mesh_authz::request::Attributes;

pub use self::actual::Actual;
use self::actual::RequestView;
use crate::load::LoadedPolicy;
use crate::load::policy_set::PolicySet;

/// A decision, and everything that explains it.
#[derive(Debug)]
pub struct Explanation<'e> {
    /// The decision, what the dry-run policies would decide, and the first AUDIT rule that matches.
    pub decision: Decision<'e>,
    /// Every rule of the policies that apply. First come the rules that match, then the rules that could have changed
    /// the decision if they had matched, then all others. Among rules that do not match, the nearest miss comes first.
    pub rules: Vec<RuleReport<'e>>,
    /// The policies that apply and have no rules, whatever their action. They never match.
    pub without_rules: Vec<&'e LoadedPolicy>,
    /// The policies that do not apply to the workload, and why.
    pub elsewhere: Vec<(&'e LoadedPolicy, Scope)>,
}

/// The result of one rule for the request.
#[derive(Debug)]
pub struct RuleReport<'e> {
    /// The policy that contains the rule.
    pub resource: &'e LoadedPolicy,
    pub rule: &'e RuleId,
    /// The action of its policy.
    pub action: Action,
    /// Whether its policy is a dry run.
    pub dry_run: bool,
    /// The place of the rule in the file.
    pub span: Option<Span>,
    /// Why it does not match; `None` if it does.
    pub failed: Option<FailedCondition>,
    /// Whether that rests on an attribute that is unreadable.
    pub is_uncertain: bool,
}

/// The first condition of a rule that fails.
#[derive(Debug)]
pub struct FailedCondition {
    /// The path of its values in the resource.
    pub path: diagnostic::Path,
    /// The place of its values in the file.
    pub span: Option<Span>,
    /// The attribute that it looks at, by the name that conditions use.
    pub attribute: String,
    /// Whether it failed because one of its `not` values matches.
    pub is_not: bool,
    /// Its values, as the policy has them.
    pub expected: Vec<String>,
    /// What the request has for the attribute.
    pub actual: Actual,
    /// What differs, if its values and those of the request look alike.
    pub hint: Option<String>,
    /// How many further conditions of the rule fail.
    pub further: usize,
}

impl<'e> Explanation<'e> {
    /// Explains what `engine`, made from `set`, decides about a request.
    #[must_use]
    pub fn new(set: &'e PolicySet, engine: &'e Engine, request: &impl Attributes) -> Self {
        let by_name: HashMap<_, _> = set.applying().map(|resource| (&resource.policy.name, resource)).collect();
        let payload_key = set.mesh.options().jwt_payload_key;
        let view = RequestView { request, payload_key: &payload_key };
        let report = |trace: Trace<'e>| rule_report(by_name.get(&*trace.rule.policy).copied()?, &trace, &view);
        let mut rules: Vec<_> = engine.explain(request).into_iter().filter_map(report).collect();
        let decision = engine.decide(request);
        // The sort is stable: rules at the same distance keep the order in which they are combined and reported.
        rules.sort_by_key(|(distance, report)| (!report.would_change(&decision), *distance));
        Self {
            decision,
            rules: rules.into_iter().map(|(_, report)| report).collect(),
            without_rules: set.applying().filter(|resource| resource.policy.rules.is_empty()).collect(),
            elsewhere: set.scopes().filter(|(_, scope)| *scope != Scope::Applies).collect(),
        }
    }

    /// The report of the rule that made the decision, if one did.
    #[must_use]
    pub fn deciding(&self) -> Option<&RuleReport<'e>> {
        let deciding = self.decision.outcome.rule()?;
        self.rules.iter().find(|report| report.rule == deciding)
    }

    /// The rules that do not match, nearest miss first.
    pub fn missed(&self) -> impl Iterator<Item = (&RuleReport<'e>, &FailedCondition)> {
        self.rules.iter().filter_map(|report| Some((report, report.failed.as_ref()?)))
    }
}

impl RuleReport<'_> {
    /// Whether the rule matches, or could have changed the decision if it had matched.
    fn would_change(&self, decision: &Decision<'_>) -> bool {
        let opposite = match decision.outcome.verdict() {
            Verdict::Allow => matches!(self.action, Action::Deny | Action::Custom),
            Verdict::Deny => self.action == Action::Allow,
        };
        self.failed.is_none() || (opposite && !self.dry_run)
    }
}

/// A report, and the key to sort it by: how far the rule is from matching.
fn rule_report<'e>(
    resource: &'e LoadedPolicy,
    trace: &Trace<'e>,
    request: &RequestView<'_, impl Attributes>,
) -> Option<((usize, Reverse<usize>), RuleReport<'e>)> {
    let Trace { rule, action, dry_run, matches: _, unreadable, miss } = *trace;
    let is_uncertain = unreadable.is_some();
    let failed = miss.and_then(|miss| failed(resource, rule, miss, request));
    let span = resource.node.locate(&rule_path(rule.index), diagnostic::Part::Value);
    // If the same number of conditions fails in two rules, the rule with more conditions is nearer.
    let conditions = resource.policy.rules.get(rule.index)?.clauses().map(|(_, all)| all.0.len()).sum();
    let distance = miss.map_or(0, |miss| miss.distance);
    Some(((distance, Reverse(conditions)), RuleReport { resource, rule, action, dry_run, span, failed, is_uncertain }))
}

fn failed(
    resource: &LoadedPolicy,
    rule: &RuleId,
    miss: Miss,
    request: &RequestView<'_, impl Attributes>,
) -> Option<FailedCondition> {
    let Miss { clause, field, is_not, polarity, distance } = miss;
    let predicate = resource.policy.rules.get(rule.index)?.clause(clause)?.0.get(field)?;
    let path = predicate.path(rule.index, clause, field, is_not);
    let node = resource.node.at(&path)?;
    let expected = match &node.value {
        Value::List(items) => items.iter().filter_map(Node::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let actual = request.actual(predicate);
    let reason = reason::Failed {
        predicate,
        expected: &expected,
        actual: &actual,
        is_not,
        polarity,
        namespace: &resource.policy.name.namespace,
        request,
    };
    let hint = reason.reason();
    Some(FailedCondition {
        span: resource.node.locate(&path, diagnostic::Part::Value),
        attribute: match clause {
            Clause::When => written_key(resource, rule.index, field).unwrap_or_else(|| predicate.name()),
            Clause::From(_) | Clause::To(_) => predicate.name(),
        },
        hint,
        path,
        is_not,
        expected,
        actual: as_policies_write(actual, predicate),
        further: distance.saturating_sub(1),
    })
}

/// Names of peers without the scheme, as policies write them.
fn as_policies_write(actual: Actual, predicate: &Predicate) -> Actual {
    match actual {
        Actual::Values(names) if predicate.attribute().is_identity() => {
            let without_scheme = |name: String| name.strip_prefix(SCHEME).map(str::to_owned).unwrap_or(name);
            Actual::Values(names.into_iter().map(without_scheme).collect())
        }
        actual => actual,
    }
}

/// The key of a condition, as its author wrote it.
fn written_key(resource: &LoadedPolicy, rule: usize, condition: usize) -> Option<String> {
    let mut path = Clause::When.path(rule);
    path.0.push(Segment::Index(condition));
    resource.node.at(&path.with("key"))?.as_str().map(str::to_owned)
}
