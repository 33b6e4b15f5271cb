//! Combines the policies that apply to a request into a decision.
//!
//! On a waypoint, two groups of policies apply to a request: those of the whole waypoint, and those of the service that
//! the request is for. Each group has an engine. So the rules of the whole waypoint are in memory once, and not once for
//! every service.

use super::decision::{AllowReason, Decision, DenyReason, DryRun, DryRunResult, Outcome, RuleId, Verdict};
use super::evaluate::Evaluation;
use super::index::FirstMatch;
use super::{AskedProvider, Combining, Engine, RuleSet};
use crate::attribute::Origin;
use crate::request::Attributes;

/// The policies that decide together: those of one engine, or of two. The decision is that of one engine with all of
/// them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Engines<'e> {
    pub first: &'e Engine,
    /// Its policies have the options of the first.
    pub second: Option<&'e Engine>,
}

impl<'e> From<&'e Engine> for Engines<'e> {
    fn from(only: &'e Engine) -> Self {
        Self { first: only, second: None }
    }
}

/// The policies of one action, in each of the engines.
struct RuleSets<'e> {
    first: &'e RuleSet,
    second: Option<&'e RuleSet>,
}

impl<'e> Engines<'e> {
    fn of(self, action: fn(&Engine) -> &RuleSet) -> RuleSets<'e> {
        RuleSets { first: action(self.first), second: self.second.map(action) }
    }

    /// Decides one request.
    pub fn decide_in<'r, A: Attributes>(self, evaluation: &Evaluation<'r, A>) -> Decision<'e>
    where
        'e: 'r,
    {
        let audited = self.of(|engine| &engine.audit).first_match(evaluation).rule;
        let dry_run = DryRun {
            deny: self.of(|engine| &engine.dry_run_deny).dry_run(evaluation, Verdict::Deny, Verdict::Allow),
            allow: self.of(|engine| &engine.dry_run_allow).dry_run(evaluation, Verdict::Allow, Verdict::Deny),
        };
        let (outcome, unreadable) = self.combine(evaluation);
        Decision { outcome, dry_run, audited, unreadable }
    }

    /// What the enforced policies decide, and the unreadable attribute that this rests on.
    pub fn combine<'r, A: Attributes>(self, evaluation: &Evaluation<'r, A>) -> (Outcome<'e>, Option<Origin>)
    where
        'e: 'r,
    {
        use Outcome::{Allowed, Denied};

        let custom_policies = self.of(|engine| &engine.custom);
        if !custom_policies.are_none() {
            let custom = custom_policies.first_match(evaluation);
            if let Some(rule) = custom.rule {
                return (Denied(DenyReason::NoProvider(rule)), custom.unreadable);
            }
        }
        if !self.asked().all(|provider| provider.was_asked(evaluation, self.asked())) {
            return (Denied(DenyReason::NotAsked), None);
        }
        let (deny_policies, allow_policies) = (self.of(|engine| &engine.deny), self.of(|engine| &engine.allow));
        match self.first.combining {
            Combining::DenyOverrides => {
                let deny = deny_policies.first_match(evaluation);
                if let Some(rule) = deny.rule {
                    return (Denied(DenyReason::Rule(rule)), deny.unreadable);
                }
                if allow_policies.are_none() {
                    return (Allowed(AllowReason::NoAllowApplies), None);
                }
                let allow = allow_policies.first_match(evaluation);
                match allow.rule {
                    Some(rule) => (Allowed(AllowReason::Rule(rule)), None),
                    None => (Denied(DenyReason::NoAllowMatched), allow.unreadable),
                }
            }
            Combining::PermitOverrides => {
                let allow = allow_policies.first_match(evaluation);
                if let Some(rule) = allow.rule {
                    return (Allowed(AllowReason::Rule(rule)), None);
                }
                if allow_policies.are_none() && deny_policies.are_none() {
                    return (Allowed(AllowReason::NoAllowApplies), None);
                }
                let deny = deny_policies.first_match(evaluation);
                match deny.rule {
                    Some(rule) => (Denied(DenyReason::Rule(rule)), deny.unreadable.or(allow.unreadable)),
                    None => (Denied(DenyReason::NoAllowMatched), allow.unreadable),
                }
            }
        }
    }

    fn asked(self) -> impl Iterator<Item = &'e AskedProvider> {
        [Some(self.first), self.second].into_iter().flatten().flat_map(|engine| &engine.asked)
    }
}

impl AskedProvider {
    /// Whether Envoy has asked this provider, if one of its policies matches. If none does, whether Envoy would have asked.
    /// `all`: the providers of all policies. If several share a trace, nobody should have been asked.
    fn was_asked<'r, A: Attributes>(
        &'r self,
        evaluation: &Evaluation<'r, A>,
        mut all: impl Iterator<Item = &'r Self>,
    ) -> bool {
        let Self { policies, trace, .. } = self;
        if policies.index.first_match(evaluation).rule.is_none() {
            return evaluation.metadata(&trace.result).known().is_some();
        }
        // Envoy must have found a policy of the same provider: only then, `ext_authz` has asked it.
        let is_only_one = all.all(|other| other.trace.policy != trace.policy || other.trace.prefix == trace.prefix);
        is_only_one && evaluation.string(&trace.policy).known().is_some_and(|found| found.starts_with(&trace.prefix))
    }
}

impl<'e> RuleSets<'e> {
    /// Whether no engine has a policy of this action.
    fn are_none(&self) -> bool {
        self.first.policy_count == 0 && self.second.is_none_or(|second| second.policy_count == 0)
    }

    /// The first rule that matches, in the order in which one index has all of them.
    fn first_match<'r, A: Attributes>(&self, evaluation: &Evaluation<'r, A>) -> FirstMatch<'e>
    where
        'e: 'r,
    {
        let found = self.first.index.first_match(evaluation);
        let Some(second) = self.second else { return found };
        let other = second.index.first_match(evaluation);
        let order = |found: &FirstMatch<'e>| {
            let by = found.rule.or(found.unproven);
            (found.rule.is_none(), by.is_none(), by.map(RuleId::as_str))
        };
        if order(&other) < order(&found) { other } else { found }
    }

    fn dry_run<'r, A: Attributes>(
        &self,
        evaluation: &Evaluation<'r, A>,
        on_match: Verdict,
        otherwise: Verdict,
    ) -> Option<DryRunResult<'e>>
    where
        'e: 'r,
    {
        if self.are_none() {
            return None;
        }
        let rule = self.first_match(evaluation).rule;
        Some(DryRunResult { verdict: if rule.is_some() { on_match } else { otherwise }, rule })
    }
}
