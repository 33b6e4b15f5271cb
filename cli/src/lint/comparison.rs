//! Rules held against each other.
//!
//! Comparing every rule with every other would take a hundred million comparisons for ten thousand of them. Rules are kept by
//! namespace and label, and in each group an index finds the few that may cover a rule. Where even these are many, only the
//! first of them are compared ([`MOST_COMPARISONS`]); then something may stay unsaid.

use std::collections::{BTreeMap, HashMap};

use mesh_authz::analysis::{self, CompiledRule, RuleIndex, Witness};
use mesh_authz::policy::scope::covers;
use mesh_authz::policy::{Action, AuthorizationPolicy, Target};
use rayon::prelude::*;

use super::LintContext;
use crate::load::{Resource, Resources};

/// At most this many comparisons of two rules are made with the rules of one action: enough to compare 2,000 rules with each
/// other.
const MOST_COMPARISONS: usize = 4_000_000;

/// The rules of all policies, by action.
pub(super) struct AllRules<'r> {
    pub allow: Rules<'r>,
    pub deny: Rules<'r>,
    /// AUDIT and CUSTOM, and the dry runs of ALLOW and DENY.
    others: [Rules<'r>; 4],
}

/// The rules of the policies of one action.
pub(super) struct Rules<'r> {
    pub action: Action,
    groups: BTreeMap<Key<'r>, Group<'r>>,
}

/// A namespace, and a label that every workload carries which the policies of a group are for.
type Key<'r> = (&'r str, Option<&'r (String, String)>);

/// The rules of policies of one action with the same key.
struct Group<'r> {
    index: RuleIndex,
    /// The policy of each rule, and its place in the input.
    resources: Vec<(usize, &'r Resource)>,
}

/// A rule and where it comes from.
#[derive(Clone, Copy)]
pub(super) struct Placed<'s, 'r> {
    pub rule: &'s CompiledRule,
    order: usize,
    pub resource: &'r Resource,
}

impl<'r> AllRules<'r> {
    pub(super) fn new(resources: &'r Resources, context: &LintContext) -> Self {
        let by_name: HashMap<_, _> =
            resources.policies.iter().enumerate().map(|(order, found)| (&found.policy.name, (order, found))).collect();
        let options = context.mesh.options();
        let rules = |action, dry_run| {
            let policies = by_name.values().map(|(_, resource)| &resource.policy);
            let of_kind = policies.filter(|policy| policy.action == action && policy.dry_run == dry_run);
            let mut groups: BTreeMap<Key<'_>, Vec<CompiledRule>> = BTreeMap::new();
            for policy in of_kind {
                let key = (policy.name.namespace.as_str(), labels(policy).first());
                groups.entry(key).or_default().extend(analysis::rules(policy, &options));
            }
            let filed = |(key, rules)| {
                let index = RuleIndex::new(rules);
                let policies = index.rules().iter().filter_map(|rule| by_name.get(&*rule.id().policy).copied());
                (key, Group { resources: policies.collect(), index })
            };
            Rules { action, groups: groups.into_iter().map(filed).collect() }
        };
        let [allow, deny, audit, custom] =
            [Action::Allow, Action::Deny, Action::Audit, Action::Custom].map(|action| rules(action, false));
        Self { allow, deny, others: [audit, custom, rules(Action::Allow, true), rules(Action::Deny, true)] }
    }

    /// The rules of each action and, apart from them, of its dry runs.
    pub(super) fn all(&self) -> impl Iterator<Item = &Rules<'r>> {
        [&self.allow, &self.deny].into_iter().chain(&self.others)
    }
}

/// The labels of a policy's selector.
fn labels(policy: &AuthorizationPolicy) -> &[(String, String)] {
    match &policy.target {
        Target::Labels(labels) => labels,
        Target::Everything | Target::References(_) => &[],
    }
}

impl<'r> Group<'r> {
    fn placed(&self, at: usize) -> Option<Placed<'_, 'r>> {
        let (order, resource) = *self.resources.get(at)?;
        Some(Placed { rule: self.index.rules().get(at)?, order, resource })
    }

    fn all(&self) -> impl Iterator<Item = Placed<'_, 'r>> {
        (0..self.resources.len()).filter_map(|at| self.placed(at))
    }

    /// The rules that may cover the rule of this witness.
    fn candidates(&self, witness: &Witness) -> impl Iterator<Item = Placed<'_, 'r>> {
        self.index.candidates(witness).into_iter().filter_map(|at| self.placed(at))
    }
}

impl<'r> Rules<'r> {
    pub(super) fn all(&self) -> impl Iterator<Item = Placed<'_, 'r>> {
        self.groups.values().flat_map(Group::all)
    }

    /// Pairs each satisfiable rule of `narrower` with the preferred rule here that covers it, wherever its policy applies.
    ///
    /// `may` filters before two rules are compared, and `counts` after.
    pub(super) fn covering<'s>(
        &'s self,
        narrower: &'s Self,
        context: &'s LintContext,
        may: impl Fn(Placed<'s, 'r>, Placed<'s, 'r>) -> bool + Sync,
        counts: impl Fn(Placed<'s, 'r>, Placed<'s, 'r>) -> bool + Sync,
    ) -> Vec<(Placed<'s, 'r>, Placed<'s, 'r>)> {
        let root_namespace = context.mesh.root_namespace.as_str();
        let all: Vec<_> = narrower.all().filter(|narrow| !narrow.rule.never_matches()).collect();
        let most = MOST_COMPARISONS.checked_div(all.len()).unwrap_or_default();
        let find = |narrow: Placed<'s, 'r>| {
            let namespace = narrow.resource.policy.name.namespace.as_str();
            let root = Some(root_namespace).filter(|root| *root != namespace);
            // Whoever is for all workloads of this policy has no label, or one of this policy's.
            let labels = || std::iter::once(None).chain(labels(&narrow.resource.policy).iter().map(Some));
            let keys = [Some(namespace), root].into_iter().flatten();
            let keys = keys.flat_map(|namespace| labels().map(move |label| (namespace, label)));
            let near = keys.filter_map(|key| self.groups.get(&key));
            let witness = narrow.rule.witness();
            let candidates = near.flat_map(|rules| rules.candidates(&witness));
            let wider = candidates
                .filter(|wide| wide.reaches(narrow, root_namespace) && may(*wide, narrow))
                .take(most)
                .filter(|wide| wide.rule.covers(narrow.rule) && counts(*wide, narrow));
            Some((narrow, wider.min_by_key(|wide| (!wide.rule.is_unconditional(), wide.place()))?))
        };
        all.into_par_iter().filter_map(find).collect()
    }
}

impl Placed<'_, '_> {
    /// Where it stands in the input.
    pub(super) fn place(&self) -> (usize, usize) {
        (self.order, self.rule.id().index)
    }

    /// Whether its policy applies wherever the other's does.
    pub(super) fn reaches(&self, other: Placed<'_, '_>, root_namespace: &str) -> bool {
        covers(self.resource.policy.reach(), other.resource.policy.reach(), root_namespace)
    }
}

/// A rule, as messages name it.
pub(super) fn name(rule: &CompiledRule) -> String {
    format!("rule {} of {}", rule.id().index, rule.id().policy)
}
