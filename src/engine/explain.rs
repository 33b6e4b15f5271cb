//! Why a rule does not match a request.
//!
//! [`Engine::decide`] asks the index and stops at the first rule that matches; [`Engine::explain`] looks at every rule, with
//! the same evaluator, and keeps of each that does not match the condition that an author would look at first. Of several
//! sources or operations, none of which fits, that is one in the alternative that is nearest: the one with the fewest
//! conditions that fail.

use super::compile::{AnyOf, Expected, Rule, Test, Tests};
use super::evaluate::{Evaluation, Truth};
use super::{Engine, RuleId};
use crate::policy::{Action, Clause};
use crate::request::Attributes;

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
    pub truth: Truth,
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

impl Engine {
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
                truth: evaluation.rule(rule),
                miss: evaluation.miss(rule),
            })
        });
        traces.collect()
    }
}

/// Conditions that fail.
struct Failed<'e> {
    clause: Clause,
    first: &'e Test,
    count: usize,
}

impl<A: Attributes> Evaluation<'_, A> {
    /// Why the rule does not match; `None` if it does.
    fn miss(&self, rule: &Rule) -> Option<Miss> {
        let failed = [
            rule.from.as_ref().and_then(|groups| self.nearest(groups, Clause::From)),
            rule.to.as_ref().and_then(|groups| self.nearest(groups, Clause::To)),
            self.failed(&rule.when, Clause::When),
        ];
        let distance = failed.iter().flatten().map(|failed| failed.count).sum();
        let Failed { clause, first: Test { expected, field, .. }, .. } = failed.into_iter().flatten().next()?;
        let is_not = *expected == Expected::NoMatch;
        Some(Miss { clause, field: usize::from(*field), is_not, distance })
    }

    /// What fails in the group that is nearest to holding; nothing, if one holds.
    fn nearest<'e>(&self, groups: &'e AnyOf, clause: fn(usize) -> Clause) -> Option<Failed<'e>> {
        let mut nearest: Option<Failed> = None;
        for (index, tests) in groups.iter().enumerate() {
            let failed = self.failed(tests, clause(index))?;
            if nearest.as_ref().is_none_or(|nearest| failed.count < nearest.count) {
                nearest = Some(failed);
            }
        }
        nearest
    }

    /// The tests that fail; `None` if all hold.
    fn failed<'e>(&self, tests: &'e Tests, clause: Clause) -> Option<Failed<'e>> {
        let fails = |test: &&Test| !self.holds(test).counts();
        let failed = tests.iter().filter(fails);
        let first = failed.clone().min_by_key(|test| (test.field, test.expected == Expected::NoMatch))?;
        Some(Failed { clause, first, count: failed.count() })
    }
}
