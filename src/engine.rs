//! The engine: compiles the policies of a workload, and decides requests. A decision names the rule that made it.
//!
//! | module | what it does | when |
//! | --- | --- | --- |
//! | `compile` | turns the rules of a policy into tests; each test knows whether a match permits or denies | load |
//! | `index` | stores rules under the values that they require; finds the rules that a request could match | load, request |
//! | `evaluate` | evaluates one rule for one request | request |
//! | `many` | remembers what is long or many in a request | request |
//! | `combine` | combines the policies of one engine, or of two, into a decision | request |
//! | [`decision`] | defines the types of a decision | request |
//! | [`explain`] | says why rules do not match | request |
//! | `peers` | a set of peers, named as in `principals` | load, request |
//!
//! [`Engine::decide`] looks for the first matching rule of one action after another, until the decision is made. It
//! cannot fail and cannot panic. It allocates memory only to look up a path that is not UTF-8 among templates, for a
//! long path, for a large token, for many headers, and for an odd form of a host.

mod combine;
pub(crate) mod compile;
pub mod decision;
pub(crate) mod evaluate;
pub mod explain;
pub(crate) mod index;
mod many;
mod peers;

use std::borrow::Borrow;

pub(crate) use self::combine::Engines;
use self::compile::{CompiledRule, CustomTrace, Test};
pub use self::decision::{AllowReason, Decision, DenyReason, DryRun, DryRunResult, Outcome, RuleId, Verdict};
use self::evaluate::Evaluation;
use self::index::Index;
pub(crate) use self::peers::Peers;
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

/// Who asks the providers of CUSTOM policies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Custom {
    /// Nobody: what such a policy matches is refused.
    #[default]
    Refuse,
    /// Envoy's own `ext_authz`, behind an RBAC filter that finds out what the policies match, as Istio configures the two.
    /// A request without the trace of that filter is refused.
    Native,
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
}

/// The policies of one workload, compiled.
#[derive(Debug)]
pub struct Engine {
    combining: Combining,
    /// Where Envoy says what CUSTOM policies match. `None`: nobody asks their providers.
    trace: Option<CustomTrace>,
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
        self.rule_sets().iter().map(|set| set.index.rules().len()).sum()
    }

    fn rule_sets(&self) -> [&RuleSet; 6] {
        let Self { combining: _, trace: _, custom, deny, allow, audit, dry_run_deny, dry_run_allow } = self;
        [custom, deny, allow, audit, dry_run_deny, dry_run_allow]
    }

    /// Decides one request.
    #[must_use]
    pub fn decide<A: Attributes>(&self, attributes: &A) -> Decision<'_> {
        Engines::from(self).decide_in(&Evaluation::new(attributes))
    }
}

/// The request headers that rules test.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each says whether rules test one header")]
pub(crate) struct TestedHeaders {
    pub method: bool,
    pub path: bool,
    pub authority: bool,
    /// Any other header.
    pub others: bool,
}

impl TestedHeaders {
    /// Adds the headers that the rules of an engine test.
    pub fn add(&mut self, engine: &Engine) {
        for rule in engine.rule_sets().into_iter().flat_map(|set| set.index.rules()) {
            for groups in [&rule.from, &rule.to] {
                groups.as_deref().unwrap_or_default().iter().for_each(|group| self.add_group(group));
            }
            self.add_group(&rule.when);
        }
    }

    fn add_group(&mut self, group: &[Test]) {
        for name in group.iter().filter_map(|test| test.check.header()) {
            *match name {
                b":method" => &mut self.method,
                b":path" => &mut self.path,
                b":authority" => &mut self.authority,
                _ => &mut self.others,
            } = true;
        }
    }
}

/// Compiles policies one by one.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    custom: Compiled,
    /// The providers of the CUSTOM policies, each once; two of them if there are more.
    providers: Vec<String>,
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
        if let Some(name) = &policy.provider
            && self.providers.len() < 2
            && !self.providers.contains(name)
        {
            self.providers.push(name.clone());
        }
        let compiled = match (policy.action, policy.dry_run) {
            (Action::Custom, false) => &mut self.custom,
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

    /// Files the rules. `index` makes the index of one action.
    pub fn finish(self, options: &Options, index: fn(Vec<CompiledRule>) -> Index) -> Engine {
        let Self { custom, providers, deny, allow, audit, dry_run_deny, dry_run_allow } = self;
        let provider = match providers.as_slice() {
            [only] => Some(only.as_str()),
            _ => None,
        };
        let rule_set = |Compiled { policy_count, rules }| RuleSet { policy_count, index: index(rules) };
        Engine {
            combining: options.combining,
            trace: (options.custom == Custom::Native).then(|| CustomTrace::new(provider)),
            custom: rule_set(custom),
            deny: rule_set(deny),
            allow: rule_set(allow),
            audit: rule_set(audit),
            dry_run_deny: rule_set(dry_run_deny),
            dry_run_allow: rule_set(dry_run_allow),
        }
    }
}
