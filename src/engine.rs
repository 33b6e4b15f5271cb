//! The engine: compiles the policies of a workload, and decides requests. A decision names the rule that made it.
//!
//! | module | what it does | when |
//! | --- | --- | --- |
//! | `compile` | turns the rules of a policy into tests; each test knows whether a match permits or denies | load |
//! | `index` | stores rules under the values that they require; finds the rules that a request could match | load, request |
//! | `evaluate` | evaluates one rule for one request | request |
//! | `many` | remembers what is long or many in a request | request |
//! | [`decision`] | defines the types of a decision | request |
//! | [`explain`] | says why rules do not match | request |
//! | `peers` | a set of peers, named as in `principals` | load, request |
//!
//! [`Engine::decide`] looks for the first matching rule of one action after another, until the decision is made. It
//! cannot fail and cannot panic. It allocates memory only to look up a path that is not UTF-8 among templates, for a
//! long path, for a large token, for many headers, and for an odd form of a host.

pub(crate) mod compile;
pub mod decision;
pub(crate) mod evaluate;
pub mod explain;
pub(crate) mod index;
mod many;
mod peers;

use std::borrow::Borrow;

use self::compile::CompiledRule;
pub use self::decision::{AllowReason, Decision, DenyReason, DryRun, DryRunResult, Outcome, RuleId, Verdict};
use self::evaluate::Evaluation;
use self::index::Index;
pub(crate) use self::peers::Peers;
use crate::attribute::Origin;
use crate::identity::TrustDomains;
use crate::policy::{Action, AuthorizationPolicy};
use crate::request::Attributes;

/// The combining algorithm: how matches become a decision. Both names come from XACML.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Combining {
    /// Istio's algorithm: a DENY that matches overrides every ALLOW.
    #[default]
    DenyOverrides,
    /// An ALLOW that matches is an exception to every DENY.
    PermitOverrides,
}

/// The settings that change the meaning of a policy.
#[derive(Clone, Debug)]
pub struct Options {
    /// The mesh's trust domain and its aliases.
    pub trust_domains: TrustDomains,
    /// How matches become a decision.
    pub combining: Combining,
    /// The key under which `jwt_authn` stores the payload of a token in dynamic metadata.
    pub jwt_payload_key: String,
}

/// The policies of one workload, compiled.
#[derive(Debug)]
pub struct Engine {
    combining: Combining,
    custom: RuleSet,
    deny: RuleSet,
    allow: RuleSet,
    audit: RuleSet,
    dry_run_deny: RuleSet,
    dry_run_allow: RuleSet,
}

/// The policies of one action.
#[derive(Debug)]
struct RuleSet {
    /// The number of policies, including policies without rules.
    policy_count: usize,
    index: Index,
}

impl Engine {
    /// Compiles the policies that apply to a workload. Their order does not change a decision.
    ///
    /// Policies that are passed by value are dropped one by one, each as soon as it is compiled.
    pub fn new<P: Borrow<AuthorizationPolicy>>(policies: impl IntoIterator<Item = P>, options: &Options) -> Self {
        Self::with_index(Index::new, policies, options)
    }

    /// Like [`Self::new`], but evaluates every rule for every request. The decisions are the same; this is for
    /// comparison.
    pub fn without_index<P: Borrow<AuthorizationPolicy>>(
        policies: impl IntoIterator<Item = P>,
        options: &Options,
    ) -> Self {
        Self::with_index(Index::plain_scan, policies, options)
    }

    fn with_index<P: Borrow<AuthorizationPolicy>>(
        index: impl Fn(Vec<CompiledRule>) -> Index,
        policies: impl IntoIterator<Item = P>,
        options: &Options,
    ) -> Self {
        let (mut custom, mut deny, mut allow, mut audit, mut dry_run_deny, mut dry_run_allow) = Default::default();
        for (number, policy) in (0..).zip(policies) {
            let policy = policy.borrow();
            let (policies, rules): &mut (usize, Vec<CompiledRule>) = match (policy.action, policy.dry_run) {
                (Action::Custom, false) => &mut custom,
                (Action::Deny, false) => &mut deny,
                (Action::Allow, false) => &mut allow,
                (Action::Audit, false) => &mut audit,
                (Action::Deny, true) => &mut dry_run_deny,
                (Action::Allow, true) => &mut dry_run_allow,
                // Istio has no dry run for these, and validation refuses one.
                (Action::Custom | Action::Audit, true) => continue,
            };
            *policies = policies.saturating_add(1);
            rules.extend(compile::policy(policy, options).into_iter().map(|rule| rule.with_policy_number(number)));
        }
        let rule_set = |(policy_count, rules)| RuleSet { policy_count, index: index(rules) };
        Self {
            combining: options.combining,
            custom: rule_set(custom),
            deny: rule_set(deny),
            allow: rule_set(allow),
            audit: rule_set(audit),
            dry_run_deny: rule_set(dry_run_deny),
            dry_run_allow: rule_set(dry_run_allow),
        }
    }

    /// The number of rules, over all actions.
    #[must_use]
    pub fn rule_count(&self) -> usize {
        self.rule_sets().iter().map(|set| set.index.rules().len()).sum()
    }

    /// The names of the request headers that rules test, including `:path` and other pseudo-headers. A name appears
    /// once for each test.
    pub fn headers(&self) -> impl Iterator<Item = &[u8]> {
        let rules = self.rule_sets().into_iter().flat_map(|set| set.index.rules());
        rules.flat_map(CompiledRule::tests).filter_map(|test| test.check.header())
    }

    fn rule_sets(&self) -> [&RuleSet; 6] {
        let Self { combining: _, custom, deny, allow, audit, dry_run_deny, dry_run_allow } = self;
        [custom, deny, allow, audit, dry_run_deny, dry_run_allow]
    }

    /// Decides one request.
    #[must_use]
    pub fn decide<A: Attributes>(&self, attributes: &A) -> Decision<'_> {
        self.decide_in(&Evaluation::new(attributes))
    }

    /// Like [`Self::decide`], for a request about which more will be asked.
    pub(crate) fn decide_in<'e: 'r, 'r, A: Attributes>(&'e self, evaluation: &Evaluation<'r, A>) -> Decision<'e> {
        let audited = self.audit.index.first_match(evaluation).rule;
        let dry_run = DryRun {
            deny: self.dry_run_deny.dry_run(evaluation, Verdict::Deny, Verdict::Allow),
            allow: self.dry_run_allow.dry_run(evaluation, Verdict::Allow, Verdict::Deny),
        };
        let (outcome, unreadable) = self.combine(evaluation);
        Decision { outcome, dry_run, audited, unreadable }
    }

    fn combine<'e: 'r, 'r, A: Attributes>(&'e self, evaluation: &Evaluation<'r, A>) -> (Outcome<'e>, Option<Origin>) {
        use Outcome::{Allowed, Denied};

        let custom = self.custom.index.first_match(evaluation);
        if let Some(rule) = custom.rule {
            return (Denied(DenyReason::NoProvider(rule)), custom.unreadable);
        }
        match self.combining {
            Combining::DenyOverrides => {
                let deny = self.deny.index.first_match(evaluation);
                if let Some(rule) = deny.rule {
                    return (Denied(DenyReason::Rule(rule)), deny.unreadable);
                }
                if self.allow.policy_count == 0 {
                    return (Allowed(AllowReason::NoAllowApplies), None);
                }
                let allow = self.allow.index.first_match(evaluation);
                match allow.rule {
                    Some(rule) => (Allowed(AllowReason::Rule(rule)), None),
                    None => (Denied(DenyReason::NoAllowMatched), allow.unreadable),
                }
            }
            Combining::PermitOverrides => {
                let allow = self.allow.index.first_match(evaluation);
                if let Some(rule) = allow.rule {
                    return (Allowed(AllowReason::Rule(rule)), None);
                }
                if self.allow.policy_count == 0 && self.deny.policy_count == 0 {
                    return (Allowed(AllowReason::NoAllowApplies), None);
                }
                let deny = self.deny.index.first_match(evaluation);
                match deny.rule {
                    Some(rule) => (Denied(DenyReason::Rule(rule)), deny.unreadable.or(allow.unreadable)),
                    None => (Denied(DenyReason::NoAllowMatched), allow.unreadable),
                }
            }
        }
    }
}

impl RuleSet {
    fn dry_run<'e: 'r, 'r, A: Attributes>(
        &'e self,
        evaluation: &Evaluation<'r, A>,
        on_match: Verdict,
        otherwise: Verdict,
    ) -> Option<DryRunResult<'e>> {
        if self.policy_count == 0 {
            return None;
        }
        let rule = self.index.first_match(evaluation).rule;
        Some(DryRunResult { verdict: if rule.is_some() { on_match } else { otherwise }, rule })
    }
}
