//! Why a rule does not match a request.
//!
//! [`Engine::decide`] asks the index and stops at the first rule that matches; [`Engine::explain`] looks at every rule, with
//! the same evaluator, and keeps of each that does not match the condition that an author would look at first. Of several
//! sources or operations, none of which fits, that is one in the alternative that is nearest: the one with the fewest
//! conditions that fail. [`Engine::nearest_miss`] does the same for the ALLOW rules of a filter that has forgotten how its
//! policies were written.

use std::cmp::Reverse;
use std::fmt;
use std::net::IpAddr;

use super::compile::{AnyOf, CompiledRule, Expected, Test, Tests};
use super::evaluate::Evaluation;
use super::{Engine, RuleId};
use crate::attribute::Attribute;
use crate::policy::{Action, CONDITION_FIELDS, Clause};
use crate::request::{Address, Attributes};

/// What became of one rule.
#[derive(Clone, Copy, Debug)]
pub struct Trace<'e> {
    /// The rule.
    pub rule: &'e RuleId,
    /// What a match of it means.
    pub action: Action,
    /// Whether its policy is a dry run.
    pub dry_run: bool,
    /// Whether it matches.
    pub matches: bool,
    /// Why it does not; `None` if it does.
    pub miss: Option<Miss>,
}

/// The first condition of a rule that fails.
#[derive(Clone, Copy, Debug)]
pub struct Miss {
    /// Where it stands in the rule.
    pub clause: Clause,
    /// Which field of the source or operation, or which condition: its position among those that are there, in the order
    /// of [`crate::policy::Rule`].
    pub field: usize,
    /// Whether one of its `not` values matches, or none of its values does.
    pub is_not: bool,
    /// How many conditions fail, in the alternatives that are nearest.
    pub distance: usize,
}

/// The rule that came nearest to matching.
#[derive(Clone, Copy, Debug)]
pub struct NearMiss<'e> {
    /// The rule.
    pub rule: &'e RuleId,
    /// How many of its conditions fail, in the alternatives that are nearest.
    pub distance: usize,
    clause: Clause,
    first: &'e Test,
}

/// A value of a request that may be shown: it comes from the connection, never from a header, a token or other metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShownValue<'r> {
    /// A port.
    Port(u16),
    /// An address.
    Address(IpAddr),
    /// The name of a server.
    Text(&'r [u8]),
}

impl NearMiss<'_> {
    /// What the request has in place of what the first failed condition asks for. `None` where that must not be shown, or
    /// where a line about a decision has it anyway.
    pub fn actual<'r>(&self, request: &'r impl Attributes) -> Option<ShownValue<'r>> {
        match self.first.attribute {
            Attribute::DestinationPort => request.destination_port().known().map(ShownValue::Port),
            Attribute::DestinationIp => request.address(Address::Destination).known().map(ShownValue::Address),
            Attribute::Sni => request.sni().known().map(ShownValue::Text),
            _ => None,
        }
    }
}

/// Prints where the first condition that fails stands in the rule: `from[0].source.principals`, `when[1].notValues`.
impl fmt::Display for NearMiss<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Test { expected, field, attribute, .. } = self.first;
        let [name, not_name] = match self.clause {
            Clause::When => CONDITION_FIELDS,
            Clause::From(_) | Clause::To(_) => attribute.info().fields.unwrap_or_default(),
        };
        match self.clause {
            Clause::From(index) => write!(f, "from[{index}].source.")?,
            Clause::To(index) => write!(f, "to[{index}].operation.")?,
            Clause::When => write!(f, "when[{field}].")?,
        }
        f.write_str(match expected {
            Expected::Match => name,
            Expected::NoMatch => not_name,
        })
    }
}

impl Engine {
    /// The ALLOW rule that came nearest to matching; of two that fail in as many places, the one that asks for more. `None`
    /// if there is none, or one matches.
    pub fn nearest_miss<'e, A: Attributes>(&'e self, attributes: &A) -> Option<NearMiss<'e>> {
        let evaluation = &Evaluation::new(attributes);
        let mut nearest: Option<(_, NearMiss<'e>)> = None;
        for rule in self.allow.index.rules() {
            let (FailedTests { clause, first, .. }, distance) = evaluation.failures(rule)?;
            let key = (distance, Reverse(rule.tests().count()));
            if nearest.as_ref().is_none_or(|(nearest, _)| key < *nearest) {
                nearest = Some((key, NearMiss { rule: rule.id(), distance, clause, first }));
            }
        }
        nearest.map(|(_, miss)| miss)
    }

    /// What becomes of every rule, in the order in which policies are combined: CUSTOM, DENY, ALLOW, AUDIT, and the dry
    /// runs of DENY and ALLOW; within each in the order in which rules are reported.
    pub fn explain<'e, A: Attributes>(&'e self, attributes: &A) -> Vec<Trace<'e>> {
        let evaluation = &Evaluation::new(attributes);
        let sets = [
            (&self.custom, Action::Custom, false),
            (&self.deny, Action::Deny, false),
            (&self.allow, Action::Allow, false),
            (&self.audit, Action::Audit, false),
            (&self.dry_run_deny, Action::Deny, true),
            (&self.dry_run_allow, Action::Allow, true),
        ];
        let traces = sets.into_iter().flat_map(|(set, action, dry_run)| {
            set.index.rules().iter().map(move |rule| Trace {
                rule: rule.id(),
                action,
                dry_run,
                matches: evaluation.rule(rule).counts(),
                miss: evaluation.miss(rule),
            })
        });
        traces.collect()
    }
}

/// The tests of a clause that fail.
struct FailedTests<'e> {
    clause: Clause,
    first: &'e Test,
    count: usize,
}

impl<A: Attributes> Evaluation<'_, A> {
    /// Why the rule does not match; `None` if it does.
    fn miss(&self, rule: &CompiledRule) -> Option<Miss> {
        let (FailedTests { clause, first: Test { expected, field, .. }, .. }, distance) = self.failures(rule)?;
        let is_not = *expected == Expected::NoMatch;
        Some(Miss { clause, field: usize::from(*field), is_not, distance })
    }

    /// The first clause that fails, and how many conditions do in all.
    fn failures<'e>(&self, rule: &'e CompiledRule) -> Option<(FailedTests<'e>, usize)> {
        let failed = [
            rule.from.as_ref().and_then(|groups| self.nearest(groups, Clause::From)),
            rule.to.as_ref().and_then(|groups| self.nearest(groups, Clause::To)),
            self.failed(&rule.when, Clause::When),
        ];
        let distance = failed.iter().flatten().map(|failed| failed.count).sum();
        Some((failed.into_iter().flatten().next()?, distance))
    }

    /// What fails in the group that is nearest to holding; nothing, if one holds.
    fn nearest<'e>(&self, groups: &'e AnyOf, clause: fn(usize) -> Clause) -> Option<FailedTests<'e>> {
        let mut nearest: Option<FailedTests> = None;
        for (index, tests) in groups.iter().enumerate() {
            let failed = self.failed(tests, clause(index))?;
            if nearest.as_ref().is_none_or(|nearest| failed.count < nearest.count) {
                nearest = Some(failed);
            }
        }
        nearest
    }

    /// The tests that fail; `None` if all hold.
    fn failed<'e>(&self, tests: &'e Tests, clause: Clause) -> Option<FailedTests<'e>> {
        let fails = |test: &&Test| !self.holds(test).counts();
        let failed = tests.iter().filter(fails);
        let first = failed.clone().min_by_key(|test| (test.field, test.expected == Expected::NoMatch))?;
        Some(FailedTests { clause, first, count: failed.count() })
    }
}
