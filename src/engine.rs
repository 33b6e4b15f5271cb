//! The engine: compiles the policies of a workload, and decides requests. A decision names the rule that made it.
//!
//! | module | what it does | when |
//! | --- | --- | --- |
//! | `compile` | turns the rules of a policy into tests; each test knows whether a match permits or denies | load |
//! | `index` | stores rules under the values that they require; finds the rules that a request could match | load, request |
//! | `evaluate` | evaluates one rule for one request | request |
//! | `many` | remembers what is long or many in a request | request |
//! | `method` | knows the methods that a rule takes | load, request |
//! | `combine` | combines the policies of one engine, or of two, into a decision | request |
//! | [`decision`] | defines the types of a decision | request |
//! | [`explain`] | says why rules do not match | request |
//! | `peers` | a set of peers, named as in `principals` | load, request |
//!
//! [`Engine::decide`] looks for the first matching rule of one action after another, until the decision is made. It
//! cannot fail and cannot panic. It allocates memory only to look up a path that is not UTF-8 among templates, for a
//! long path, for a large token, for many headers, for an odd form of a host, and for many rules of `not` fields only.

mod combine;
pub(crate) mod compile;
pub mod decision;
pub(crate) mod evaluate;
pub mod explain;
pub(crate) mod index;
mod many;
mod method;
mod peers;

use std::borrow::Borrow;

pub(crate) use self::combine::Engines;
use self::compile::{CompiledRule, CustomTrace, Test};
pub use self::decision::{AllowReason, Decision, DenyReason, DryRun, DryRunResult, Outcome, RuleId, Verdict};
use self::evaluate::Evaluation;
use self::index::Index;
pub(crate) use self::peers::Peers;
use crate::identity::TrustDomains;
use crate::policy::{Action, AuthorizationPolicy, Traffic};
use crate::request::Attributes;
use crate::request::metadata::STAT_PREFIX;

/// The combining algorithm: how matches become a decision. Both names come from XACML.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Combining {
    /// Istio's algorithm: a DENY that matches overrides every ALLOW.
    #[default]
    DenyOverrides,
    /// An ALLOW that matches is an exception to every DENY.
    PermitOverrides,
}

/// Who asks the providers of CUSTOM policies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Custom {
    /// Nobody: what such a policy matches is refused.
    #[default]
    Refuse,
    /// Envoy's own `ext_authz`, behind an RBAC filter that finds out what the policies match, as Istio configures the two.
    /// A request without the trace of that filter is refused. If the policies name several providers, nobody asks.
    Native,
    /// As [`Self::Native`], with two such filters for each provider. Each RBAC filter has its own trace.
    NativeEach,
}

impl Custom {
    /// What the keys begin with under which the RBAC filter for this provider stores what it finds.
    #[must_use]
    pub fn stat_prefix(self, provider: &str) -> String {
        let own = if self == Self::NativeEach { format!("{provider}_") } else { String::new() };
        format!("{STAT_PREFIX}{own}")
    }
}

/// The settings that change the meaning of a policy.
#[derive(Clone, Debug)]
pub struct Options {
    /// The mesh's trust domain and its aliases.
    pub trust_domains: TrustDomains,
    /// How matches become a decision.
    pub combining: Combining,
    /// Who asks the providers of CUSTOM policies.
    pub custom: Custom,
    /// The key under which `jwt_authn` stores the payload of a token in dynamic metadata.
    pub jwt_payload_key: String,
    /// What the engine decides about.
    pub traffic: Traffic,
}

/// The policies of one workload, compiled.
#[derive(Debug)]
pub struct Engine {
    combining: Combining,
    /// The CUSTOM policies whose provider nobody asks.
    custom: RuleSet,
    /// The other CUSTOM policies, by provider.
    asked: Vec<AskedProvider>,
    deny: RuleSet,
    allow: RuleSet,
    audit: RuleSet,
    dry_run_deny: RuleSet,
    dry_run_allow: RuleSet,
}

/// The CUSTOM policies of a provider that Envoy asks.
#[derive(Debug)]
struct AskedProvider {
    name: Box<str>,
    policies: RuleSet,
    trace: CustomTrace,
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
        Builder::of(policies, options).finish(options, Index::new)
    }

    /// Like [`Self::new`], but evaluates every rule for every request. The decisions are the same; this is for
    /// comparison.
    pub fn without_index<P: Borrow<AuthorizationPolicy>>(
        policies: impl IntoIterator<Item = P>,
        options: &Options,
    ) -> Self {
        Builder::of(policies, options).finish(options, Index::plain_scan)
    }

    /// The number of rules, over all actions.
    #[must_use]
    pub fn rule_count(&self) -> usize {
        self.rule_sets().map(|set| set.index.rules().len()).sum()
    }

    fn rule_sets(&self) -> impl Iterator<Item = &RuleSet> {
        let Self { combining: _, custom, asked, deny, allow, audit, dry_run_deny, dry_run_allow } = self;
        let asked = asked.iter().map(|provider| &provider.policies);
        asked.chain([custom, deny, allow, audit, dry_run_deny, dry_run_allow])
    }

    /// Whether a rule looks at the path of a request.
    pub(crate) fn tests_paths(&self) -> bool {
        let is_path = |test: &Test| test.check.header() == Some(b":path");
        let mut rules = self.rule_sets().flat_map(|set| set.index.rules());
        rules.any(|rule| {
            let groups = [&rule.from, &rule.to].into_iter().filter_map(|groups| groups.as_deref()).flatten();
            groups.chain([&rule.when]).any(|group| group.iter().any(is_path))
        })
    }

    /// The providers that Envoy asks about a request, in the order in which it asks, each with the first of its rules that
    /// matches.
    pub fn asked_about<'e, A: Attributes>(&'e self, attributes: &A) -> Vec<(&'e str, &'e RuleId)> {
        let evaluation = &Evaluation::new(attributes);
        let first = |provider: &'e AskedProvider| provider.policies.index.first_match(evaluation).rule;
        self.asked.iter().filter_map(|provider| Some((&*provider.name, first(provider)?))).collect()
    }

    /// Decides one request.
    #[must_use]
    pub fn decide<A: Attributes>(&self, attributes: &A) -> Decision<'_> {
        Engines::from(self).decide_in(&Evaluation::new(attributes))
    }
}

/// Compiles policies one by one.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    /// The CUSTOM policies, by provider, in the order of their names.
    custom: Vec<(Box<str>, Compiled)>,
    deny: Compiled,
    allow: Compiled,
    audit: Compiled,
    dry_run_deny: Compiled,
    dry_run_allow: Compiled,
}

/// The policies of one action, before their rules are filed in an index.
#[derive(Debug, Default)]
struct Compiled {
    policy_count: usize,
    rules: Vec<CompiledRule>,
}

impl Builder {
    fn of<P: Borrow<AuthorizationPolicy>>(policies: impl IntoIterator<Item = P>, options: &Options) -> Self {
        let mut builder = Self::default();
        for (number, policy) in (0..).zip(policies) {
            builder.add(number, policy.borrow(), options);
        }
        builder
    }

    /// Compiles a policy. `number`: what [`RuleId::policy_number`] returns for its rules.
    pub fn add(&mut self, number: u32, policy: &AuthorizationPolicy, options: &Options) {
        let compiled = match (policy.action, policy.dry_run) {
            (Action::Custom, false) => self.custom_of(policy.provider.as_deref().unwrap_or_default()),
            (Action::Deny, false) => &mut self.deny,
            (Action::Allow, false) => &mut self.allow,
            (Action::Audit, false) => &mut self.audit,
            (Action::Deny, true) => &mut self.dry_run_deny,
            (Action::Allow, true) => &mut self.dry_run_allow,
            // Istio has no dry run for these, and validation refuses one.
            (Action::Custom | Action::Audit, true) => return,
        };
        compiled.policy_count = compiled.policy_count.saturating_add(1);
        let rules = compile::policy(policy, options).into_iter();
        compiled.rules.extend(rules.map(|rule| rule.with_policy_number(number)));
    }

    fn custom_of(&mut self, provider: &str) -> &mut Compiled {
        let found = self.custom.binary_search_by(|(name, _)| (**name).cmp(provider));
        let position = found.unwrap_or_else(|position| {
            self.custom.insert(position, (provider.into(), Compiled::default()));
            position
        });
        #[expect(clippy::indexing_slicing, reason = "the position was found, or has just been filled")]
        &mut self.custom[position].1
    }

    /// Files the rules. `index` makes the index of one action.
    pub fn finish(self, options: &Options, index: fn(Vec<CompiledRule>) -> Index) -> Engine {
        let Self { custom, deny, allow, audit, dry_run_deny, dry_run_allow } = self;
        let rule_set = |Compiled { policy_count, rules }| RuleSet { policy_count, index: index(rules) };
        let is_asked = match options.custom {
            Custom::Refuse => false,
            Custom::Native => custom.len() == 1,
            Custom::NativeEach => true,
        };
        let (mut unasked, mut asked) = (Compiled::default(), Vec::new());
        for (provider, compiled) in custom {
            if is_asked {
                let trace = CustomTrace::new(options.custom, options.traffic, &provider);
                asked.push(AskedProvider { name: provider, policies: rule_set(compiled), trace });
            } else {
                unasked.policy_count = unasked.policy_count.saturating_add(compiled.policy_count);
                unasked.rules.extend(compiled.rules);
            }
        }
        Engine {
            combining: options.combining,
            custom: rule_set(unasked),
            asked,
            deny: rule_set(deny),
            allow: rule_set(allow),
            audit: rule_set(audit),
            dry_run_deny: rule_set(dry_run_deny),
            dry_run_allow: rule_set(dry_run_allow),
        }
    }
}
