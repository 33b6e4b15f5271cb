//! Compares rules with each other.
//!
//! Ten thousand rules would need a hundred million comparisons if every rule were compared with every other. So this
//! module groups rules by namespace and label. In each group, an index finds the few rules that may cover a given rule.
//! If there are still too many of them, only the first are compared ([`MOST_COMPARISONS`]). A lint can then miss a
//! finding.

use std::collections::{BTreeMap, HashMap};

use mesh_authz::analysis::{self, CompiledRule, RuleIndex, Witness};
use mesh_authz::policy::scope::covers;
use mesh_authz::policy::{Action, AuthorizationPolicy, Target};
use rayon::prelude::*;

use super::LintContext;
use crate::load::{LoadedPolicy, Resources};

/// The maximum number of comparisons of two rules for the rules of one action. It is enough to compare 2,000 rules with
/// each other.
const MOST_COMPARISONS: usize = 4_000_000;

/// The rules of all policies, by action.
pub(super) struct AllRules<'r> {
    pub allow: Rules<'r>,
    pub deny: Rules<'r>,
    /// AUDIT, CUSTOM, dry runs of ALLOW, dry runs of DENY.
    others: [Rules<'r>; 4],
}

/// The rules of the policies of one action.
pub(super) struct Rules<'r> {
    pub action: Action,
    groups: BTreeMap<Key<'r>, Group<'r>>,
}

/// The namespace of the policies in a group, and the first label of their selectors. Every workload that these policies
/// select has this label. `None`: the policies select no labels.
type Key<'r> = (&'r str, Option<&'r (String, String)>);

/// The rules of all policies that have the same action and the same key.
struct Group<'r> {
    index: RuleIndex,
    /// For each rule: the position of its policy in the input, and the policy.
    resources: Vec<(usize, &'r LoadedPolicy)>,
}

/// A rule, its policy, and the position of the policy in the input.
#[derive(Clone, Copy)]
pub(super) struct Placed<'s, 'r> {
    pub rule: &'s CompiledRule,
    order: usize,
    pub resource: &'r LoadedPolicy,
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

    /// The rules of each action. Dry runs are separate.
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

    /// The rules that may cover the rule that `witness` was made from.
    fn candidates(&self, witness: &Witness) -> impl Iterator<Item = Placed<'_, 'r>> {
        self.index.candidates(witness).into_iter().filter_map(|at| self.placed(at))
    }
}

impl<'r> Rules<'r> {
    pub(super) fn all(&self) -> impl Iterator<Item = Placed<'_, 'r>> {
        self.groups.values().flat_map(Group::all)
    }

    /// Pairs each satisfiable rule of `narrower` with the preferred rule in `self` that covers it and whose policy
    /// applies to the same workloads, or to more. Rules that nothing covers are left out.
    ///
    /// A rule that matches every request is preferred; otherwise, the first rule in the input is. `may` filters before
    /// two rules are compared, `counts` after.
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
            // A policy that applies to all workloads of this policy has no label, or has one of this policy's labels.
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
    /// The positions of its policy in the input and of the rule in the policy.
    pub(super) fn place(&self) -> (usize, usize) {
        (self.order, self.rule.id().index)
    }

    /// Whether its policy applies to every workload that the other rule's policy applies to.
    pub(super) fn reaches(&self, other: Placed<'_, '_>, root_namespace: &str) -> bool {
        covers(self.resource.policy.reach(), other.resource.policy.reach(), root_namespace)
    }
}

/// The name of a rule in messages.
pub(super) fn name(rule: &CompiledRule) -> String {
    format!("rule {} of {}", rule.id().index, rule.id().policy)
}
