//! The decision: policies compiled into rules, rules held against a request, one answer with its provenance.
//!
//! [`compile`] turns each rule into tests whose polarity is fixed, [`index`] finds the rules that a request could match,
//! [`evaluate`] holds one rule against one request, and [`Engine::decide`] combines what matched. Deciding allocates
//! nothing, cannot fail and cannot panic. [`explain`] says of every rule what became of it.
//! [`cover`] compares rules with each other, without a request. [`Peers`] are principals without a policy around them.

pub mod compile;
pub mod cover;
pub mod evaluate;
pub mod explain;
pub mod index;
mod peers;
pub mod witness;

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use self::compile::Rule;
use self::evaluate::{Evaluation, Unread};
use self::index::Index;
pub use self::peers::Peers;
use crate::identity::TrustDomains;
use crate::policy::{Action, AuthorizationPolicy, PolicyName};
use crate::request::Attributes;

/// How matches become a decision. Both names are XACML's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Combining {
    /// Istio's: a DENY that matches beats every ALLOW.
    #[default]
    DenyOverrides,
    /// An ALLOW that matches is an exception to every DENY.
    PermitOverrides,
}

/// What the meaning of a policy depends on besides its text.
#[derive(Clone, Debug)]
pub struct Options {
    /// The mesh's trust domain and its aliases.
    pub trust_domains: TrustDomains,
    /// The combining algorithm.
    pub combining: Combining,
    /// The key under which `jwt_authn` puts a token's payload.
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
    /// How many there are; one without rules counts.
    policies: usize,
    index: Index,
}

/// The name of a rule; prints as `ns[NAMESPACE]-policy[NAME]-rule[INDEX]`, as Istio names it in Envoy.
#[derive(Clone, Debug)]
pub struct RuleId {
    /// The policy.
    pub policy: Arc<PolicyName>,
    /// The rule's position in `spec.rules`.
    pub index: usize,
    policy_number: u32,
    text: Box<str>,
}

/// Wherever the policy stands among others, the rule is the same.
impl PartialEq for RuleId {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for RuleId {}

impl RuleId {
    fn new(policy: &Arc<PolicyName>, index: usize) -> Self {
        let text = format!("ns[{}]-policy[{}]-rule[{index}]", policy.namespace, policy.name);
        Self { policy: Arc::clone(policy), index, policy_number: 0, text: text.into() }
    }

    /// `ns[NAMESPACE]-policy[NAME]-rule[INDEX]`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The position of the policy among those that the engine was made from.
    #[must_use]
    pub fn policy_number(&self) -> u32 {
        self.policy_number
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What happens to the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes.
    Allow,
    /// It is refused.
    Deny,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "ALLOW",
            Self::Deny => "DENY",
        })
    }
}

/// What a decision rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason<'e> {
    /// This rule of an ALLOW or a DENY policy matched.
    Rule(&'e RuleId),
    /// This rule of a CUSTOM policy matched, and there is no provider to ask.
    NoProvider(&'e RuleId),
    /// Policies apply, and none of the ALLOW policies among them matched.
    NoAllowMatched,
    /// No ALLOW policy applies, and no DENY policy matched.
    NothingApplies,
}

impl<'e> Reason<'e> {
    /// The rule, if there is one.
    #[must_use]
    pub fn rule(&self) -> Option<&'e RuleId> {
        match self {
            Self::Rule(rule) | Self::NoProvider(rule) => Some(rule),
            Self::NoAllowMatched | Self::NothingApplies => None,
        }
    }
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(rule) => write!(f, "rule {} of {} matched", rule.index, rule.policy),
            Self::NoProvider(rule) => {
                write!(f, "rule {} of {} matched, and CUSTOM has no provider to ask here", rule.index, rule.policy)
            }
            Self::NoAllowMatched => f.write_str("no ALLOW policy matched"),
            Self::NothingApplies => f.write_str("no ALLOW policy applies, and no DENY policy matched"),
        }
    }
}

/// The answer for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'e> {
    /// Whether the request passes.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason<'e>,
    /// What the dry-run policies would have decided.
    pub dry_run: DryRun<'e>,
    /// The first AUDIT rule that matched.
    pub audited: Option<&'e RuleId>,
    /// An attribute that the host refused and that the decision rests on: the rule that decided matches for want of it,
    /// or, where no ALLOW matched, one might have.
    pub unreadable: Option<&'static str>,
}

/// What the dry-run policies would have decided; `None`: there are none of that action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DryRun<'e> {
    /// The DENY policies among them.
    pub deny: Option<WouldBe<'e>>,
    /// The ALLOW policies among them.
    pub allow: Option<WouldBe<'e>>,
}

/// A decision that was not enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WouldBe<'e> {
    /// Whether the request would pass.
    pub verdict: Verdict,
    /// The rule that matched, if one did.
    pub rule: Option<&'e RuleId>,
}

impl Engine {
    /// Compiles the policies that apply to a workload. Their order does not matter; what is given away is dropped policy by
    /// policy.
    pub fn new<P: Borrow<AuthorizationPolicy>>(policies: impl IntoIterator<Item = P>, options: &Options) -> Self {
        Self::with_index(Index::new, policies, options)
    }

    /// The same decisions by looking at every rule for every request, to compare with.
    pub fn without_index<P: Borrow<AuthorizationPolicy>>(
        policies: impl IntoIterator<Item = P>,
        options: &Options,
    ) -> Self {
        Self::with_index(Index::plain_scan, policies, options)
    }

    fn with_index<P: Borrow<AuthorizationPolicy>>(
        index: impl Fn(Vec<Rule>) -> Index,
        policies: impl IntoIterator<Item = P>,
        options: &Options,
    ) -> Self {
        let (mut custom, mut deny, mut allow, mut audit, mut dry_run_deny, mut dry_run_allow) = Default::default();
        for (number, policy) in (0..).zip(policies) {
            let policy = policy.borrow();
            let (policies, rules): &mut (usize, Vec<Rule>) = match (policy.action, policy.dry_run) {
                (Action::Custom, false) => &mut custom,
                (Action::Deny, false) => &mut deny,
                (Action::Allow, false) => &mut allow,
                (Action::Audit, false) => &mut audit,
                (Action::Deny, true) => &mut dry_run_deny,
                (Action::Allow, true) => &mut dry_run_allow,
                // Neither decides anything, and there is nothing to record of a trial.
                (Action::Custom | Action::Audit, true) => continue,
            };
            *policies = policies.saturating_add(1);
            rules.extend(compile::policy(policy, options).into_iter().map(|rule| rule.of_policy(number)));
        }
        let rule_set = |(policies, rules)| RuleSet { policies, index: index(rules) };
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

    /// How many rules there are to match.
    #[must_use]
    pub fn rules(&self) -> usize {
        self.rule_sets().iter().map(|set| set.index.rules().len()).sum()
    }

    /// The names of the request headers that rules look at, `:path` and the like among them, each as often as one does.
    pub fn headers(&self) -> impl Iterator<Item = &[u8]> {
        let rules = self.rule_sets().into_iter().flat_map(|set| set.index.rules());
        rules.flat_map(Rule::tests).filter_map(|test| test.check.header())
    }

    fn rule_sets(&self) -> [&RuleSet; 6] {
        let Self { combining: _, custom, deny, allow, audit, dry_run_deny, dry_run_allow } = self;
        [custom, deny, allow, audit, dry_run_deny, dry_run_allow]
    }

    /// Decides one request.
    #[must_use]
    pub fn decide<A: Attributes>(&self, attributes: &A) -> Decision<'_> {
        let evaluation = &Evaluation::new(attributes);
        let audited = self.audit.index.first_match(evaluation).rule;
        let dry_run = DryRun {
            deny: self.dry_run_deny.would_be(evaluation, Verdict::Deny, Verdict::Allow),
            allow: self.dry_run_allow.would_be(evaluation, Verdict::Allow, Verdict::Deny),
        };
        let (verdict, reason, unreadable) = self.combine(evaluation);
        Decision { verdict, reason, dry_run, audited, unreadable: unreadable.map(Unread::name) }
    }

    fn combine<A: Attributes>(&self, evaluation: &Evaluation<'_, A>) -> (Verdict, Reason<'_>, Option<Unread>) {
        let custom = self.custom.index.first_match(evaluation);
        if let Some(rule) = custom.rule {
            return (Verdict::Deny, Reason::NoProvider(rule), custom.unreadable);
        }
        match self.combining {
            Combining::DenyOverrides => {
                let deny = self.deny.index.first_match(evaluation);
                if let Some(rule) = deny.rule {
                    return (Verdict::Deny, Reason::Rule(rule), deny.unreadable);
                }
                if self.allow.policies == 0 {
                    return (Verdict::Allow, Reason::NothingApplies, None);
                }
                let allow = self.allow.index.first_match(evaluation);
                match allow.rule {
                    Some(rule) => (Verdict::Allow, Reason::Rule(rule), None),
                    None => (Verdict::Deny, Reason::NoAllowMatched, allow.unreadable),
                }
            }
            Combining::PermitOverrides => {
                let allow = self.allow.index.first_match(evaluation);
                if let Some(rule) = allow.rule {
                    return (Verdict::Allow, Reason::Rule(rule), None);
                }
                if self.allow.policies == 0 && self.deny.policies == 0 {
                    return (Verdict::Allow, Reason::NothingApplies, None);
                }
                let deny = self.deny.index.first_match(evaluation);
                match deny.rule {
                    Some(rule) => (Verdict::Deny, Reason::Rule(rule), deny.unreadable.or(allow.unreadable)),
                    None => (Verdict::Deny, Reason::NoAllowMatched, allow.unreadable),
                }
            }
        }
    }
}

/// What became of looking for a rule that matches.
#[derive(Debug)]
pub struct Found<'e> {
    /// The first rule that matches.
    pub rule: Option<&'e RuleId>,
    /// An attribute that could not be read: one that the rule's match rests on, or, if no rule matches, one for want of
    /// which the first of those that might does not.
    pub unreadable: Option<Unread>,
}

impl RuleSet {
    fn would_be<A: Attributes>(
        &self,
        evaluation: &Evaluation<'_, A>,
        on_match: Verdict,
        otherwise: Verdict,
    ) -> Option<WouldBe<'_>> {
        if self.policies == 0 {
            return None;
        }
        let rule = self.index.first_match(evaluation).rule;
        Some(WouldBe { verdict: if rule.is_some() { on_match } else { otherwise }, rule })
    }
}
