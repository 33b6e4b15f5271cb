//! A decision, explained: the rule that made it, and of every other rule the first condition that failed, with what it
//! expected and what the request has.

mod actual;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;

use mesh_authz::diagnostic::Segment;
use mesh_authz::document::{Node, Span, Value};
use mesh_authz::engine::explain::{Miss, Trace};
use mesh_authz::engine::{Decision, Engine, RuleId, Verdict};
use mesh_authz::identity::SCHEME;
use mesh_authz::matcher::{Pattern, Wildcard};
use mesh_authz::policy::scope::Scope;
use mesh_authz::policy::{Action, Cidr, Clause, Form, Predicate, Values, rule_path};
use mesh_authz::request::{Address, Attributes, Lookup};
use mesh_authz::{diagnostic, request};

pub use self::actual::Actual;
use self::actual::RequestView;
use crate::load::Resource;
use crate::load::policy_set::PolicySet;

/// A decision and everything that can be said about how it came about.
#[derive(Debug)]
pub struct Explanation<'e> {
    /// What is decided, what dry runs would decide, what is audited.
    pub decision: Decision<'e>,
    /// Every rule of the policies that apply: those that match first, then those whose match could have made the decision
    /// another one, then the others; nearest miss first.
    pub rules: Vec<RuleReport<'e>>,
    /// ALLOW and DENY policies without rules, which never match, and the like.
    pub without_rules: Vec<&'e Resource>,
    /// The policies that do not apply to the workload, and why.
    pub elsewhere: Vec<(&'e Resource, Scope)>,
}

/// What became of one rule.
#[derive(Debug)]
pub struct RuleReport<'e> {
    /// Its policy.
    pub resource: &'e Resource,
    /// The rule.
    pub rule: &'e RuleId,
    /// What a match of it means.
    pub action: Action,
    /// Whether its policy is a dry run.
    pub dry_run: bool,
    /// Where the rule stands.
    pub span: Option<Span>,
    /// Why it does not match; `None` if it does.
    pub failed: Option<FailedCondition>,
}

/// The first condition of a rule that fails.
#[derive(Debug)]
pub struct FailedCondition {
    /// Where its values stand.
    pub path: diagnostic::Path,
    /// Where that is in the file.
    pub span: Option<Span>,
    /// What it looks at, as a condition names it.
    pub attribute: String,
    /// Whether these are values that must not match, and one does.
    pub is_not: bool,
    /// Its values, as written.
    pub expected: Vec<String>,
    /// What the request has.
    pub actual: Actual,
    /// What may be the matter.
    pub hint: Option<String>,
    /// How many further conditions of the rule fail.
    pub further: usize,
}

impl<'e> Explanation<'e> {
    /// Explains what `engine`, made from `set`, decides about a request.
    #[must_use]
    pub fn new(set: &'e PolicySet, engine: &'e Engine, request: &request::Request) -> Self {
        let by_name: HashMap<_, _> = set.applying().map(|resource| (&resource.policy.name, resource)).collect();
        let payload_key = set.mesh.options().jwt_payload_key;
        let view = RequestView { request, payload_key: &payload_key };
        let report = |trace: Trace<'e>| rule_report(by_name.get(&*trace.rule.policy).copied()?, &trace, &view);
        let mut rules: Vec<_> = engine.explain(request).into_iter().filter_map(report).collect();
        let decision = engine.decide(request);
        // Sorting is stable: rules that are equally near stay in the order in which they are combined and reported.
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
    /// Whether the rule matches, or the decision could be another one if it did.
    fn would_change(&self, decision: &Decision<'_>) -> bool {
        let opposite = match decision.outcome.verdict() {
            Verdict::Allow => matches!(self.action, Action::Deny | Action::Custom),
            Verdict::Deny => self.action == Action::Allow,
        };
        self.failed.is_none() || (opposite && !self.dry_run)
    }
}

/// A report, and how far the rule is from matching.
fn rule_report<'e>(
    resource: &'e Resource,
    trace: &Trace<'e>,
    request: &RequestView<'_>,
) -> Option<((usize, Reverse<usize>), RuleReport<'e>)> {
    let Trace { rule, action, dry_run, matches: _, miss } = *trace;
    let failed = miss.and_then(|miss| failed(resource, rule, miss, request));
    let span = resource.node.locate(&rule_path(rule.index), diagnostic::Part::Value);
    // Of two that fail in as many places, the one that asks for more has come nearer.
    let conditions = resource.policy.rules.get(rule.index)?.clauses().map(|(_, all)| all.0.len()).sum();
    let distance = miss.map_or(0, |miss| miss.distance);
    Some(((distance, Reverse(conditions)), RuleReport { resource, rule, action, dry_run, span, failed }))
}

fn failed(resource: &Resource, rule: &RuleId, miss: Miss, request: &RequestView<'_>) -> Option<FailedCondition> {
    let Miss { clause, field, is_not, distance } = miss;
    let predicate = resource.policy.rules.get(rule.index)?.clause(clause)?.0.get(field)?;
    let path = predicate.path(rule.index, clause, field, is_not);
    let node = resource.node.at(&path)?;
    let expected = match &node.value {
        Value::List(items) => items.iter().filter_map(Node::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let actual = request.actual(predicate);
    Some(FailedCondition {
        span: resource.node.locate(&path, diagnostic::Part::Value),
        attribute: match clause {
            Clause::When => written_key(resource, rule.index, field).unwrap_or_else(|| predicate.name()),
            Clause::From(_) | Clause::To(_) => predicate.name(),
        },
        hint: if is_not { None } else { hint(predicate, &expected, &actual, request.request) },
        path,
        is_not,
        expected,
        actual,
        further: distance.saturating_sub(1),
    })
}

/// A condition's key as its author wrote it.
fn written_key(resource: &Resource, rule: usize, condition: usize) -> Option<String> {
    let mut path = Clause::When.path(rule);
    path.0.push(Segment::Index(condition));
    resource.node.at(&path.with("key"))?.as_str().map(str::to_owned)
}

/// What may be the matter, where a value nearly matches.
fn hint(predicate: &Predicate, expected: &[String], actual: &Actual, request: &request::Request) -> Option<String> {
    let Actual::Values(actual) = actual else { return None };
    let near = |near: &dyn Fn(&str, &str) -> bool| {
        expected.iter().find(|expected| actual.iter().any(|actual| near(expected, actual))).cloned()
    };
    let matches = |expected: &str, actual: &str| {
        Pattern::new(Form::of(expected), &Pattern::NonEmpty(Wildcard::Bytes)).matches(actual.as_bytes())
    };
    match predicate {
        Predicate::Path(_) => {
            if let Some(expected) = near(&|expected, actual| {
                let stem = expected.strip_suffix("{**}").or_else(|| expected.strip_suffix('*')).unwrap_or(expected);
                stem.trim_end_matches('/') == actual.trim_end_matches('/')
            }) {
                return Some(format!("`{expected}` and this path differ by a trailing slash, and do not match"));
            }
        }
        Predicate::Host(_) => {
            if let Some(expected) = near(&|expected, actual| {
                actual.rsplit_once(':').is_some_and(|(host, _)| host.eq_ignore_ascii_case(expected))
            }) {
                return Some(format!("the port is part of the host: list `{expected}:*` too"));
            }
        }
        Predicate::Principal(_) => {
            let id = |name: &str| name.strip_prefix(SCHEME).unwrap_or(name).to_owned();
            let behind = |name: &str| name.split_once('/').map(|(_, rest)| rest.to_owned());
            if let Some(expected) = near(&|expected, actual| {
                behind(expected).is_some_and(|rest| behind(&id(actual)).is_some_and(|other| rest == other))
            }) {
                return Some(format!(
                    "only the trust domain differs from `{expected}`: is one an alias of the other? (--trust-domain, \
                     --trust-domain-alias)"
                ));
            }
            if near(&|expected, _| expected.starts_with(SCHEME)).is_some() {
                return Some("a principal is written without `spiffe://`".to_owned());
            }
        }
        Predicate::SourceIp(values) => {
            return other_address(values, request.address(Address::Remote), "remote.ip", "remoteIpBlocks");
        }
        Predicate::RemoteIp(values) => {
            return other_address(values, request.address(Address::Source), "source.ip", "ipBlocks");
        }
        // These are compared in parts, or by their kind.
        Predicate::RequestPrincipal(_) | Predicate::Metadata { .. } => return None,
        _ => {}
    }
    let differs_in_case = |expected: &str, actual: &str| {
        !matches(expected, actual) && matches(&expected.to_ascii_lowercase(), &actual.to_ascii_lowercase())
    };
    near(&differs_in_case).map(|expected| format!("`{expected}` differs in upper and lower case only, which counts"))
}

/// `source.ip` and `remote.ip` are easily mistaken for each other: the address that would have matched is the other one.
fn other_address(values: &Values<Cidr>, other: Lookup<IpAddr>, attribute: &str, field: &str) -> Option<String> {
    let other = other.known()?;
    let would = values.any.iter().any(|block| block.contains(other));
    Some(if would {
        format!("{attribute} is {other}, which would match: is {field} meant?")
    } else {
        format!("{attribute} is {other}")
    })
}
