//! Code that the lints about peers without an identity share.

use std::collections::HashMap;
use std::path::Path;

use mesh_authz::analysis::{CompiledRule, Policies, Sides, Workloads};
use mesh_authz::diagnostic;
use mesh_authz::policy::scope::may_meet;
use mesh_authz::policy::{Action, AuthorizationPolicy, Rule, rule_path};
use rayon::prelude::*;

use super::comparison::budget;
use super::{Input, Plaintexts, each_predicate, other_resources};
use crate::load::LoadedPolicy;

/// The path of the first field of a rule that compares the peer's identity. `is_not` selects the `not` fields. If the
/// rule has no such field, this is the path of the rule.
pub(super) fn identity_path(resource: &LoadedPolicy, rule: &CompiledRule, is_not: bool) -> diagnostic::Path {
    let index = rule.id().index;
    let mut found = None;
    each_predicate(resource, |of, clause, field, predicate| {
        if of == index && predicate.attribute().is_identity() && found.is_none() {
            let path = predicate.path(index, clause, field, is_not);
            found = resource.node.at(&path).map(|_| path);
        }
    });
    found.unwrap_or_else(|| rule_path(index))
}

/// What is known about the workloads of policies.
pub(super) struct Plaintext<'r> {
    /// Whether they refuse every peer without an identity.
    known: HashMap<Key<'r>, bool>,
}

/// What is the same for policies that apply to the same workloads: namespace, target, revision and, if there are
/// kustomizations, file.
type Key<'r> = (&'r str, String, Option<&'r str>, Option<&'r Path>);

fn key<'r>(input: &Input<'r>, LoadedPolicy { policy, source, .. }: &'r LoadedPolicy) -> Key<'r> {
    let file = (!input.kustomizations().is_empty()).then_some(source.file.as_path());
    (&policy.name.namespace, format!("{:?}", policy.target), policy.revision.as_deref(), file)
}

impl<'r> Plaintext<'r> {
    /// Answers for all policies that are about identities.
    pub(super) fn new(input: &Input<'r>) -> Self {
        let context = input.context;
        let root = &context.mesh.root_namespace;
        let resources = || input.resources.policies.iter();
        let by_policy: HashMap<_, _> = resources().map(|one| (std::ptr::from_ref(&one.policy).addr(), one)).collect();
        let all: Vec<_> = resources().map(|resource| &resource.policy).collect();
        let workloads = Workloads::All { root_namespace: root.clone(), revision: None };
        let policies = Policies::new(&all, &context.mesh.options(), workloads);
        let mut sides = Sides::default();
        let side = sides.side(&policies);
        let asked: HashMap<_, _> =
            resources().filter(|one| is_asked_about(one)).map(|one| (key(input, one), one)).collect();
        let count = asked.len();
        let is_refused = |resource: &LoadedPolicy| {
            let LoadedPolicy { policy, source, .. } = resource;
            let is_apart = |other: &AuthorizationPolicy| {
                let other = by_policy.get(&std::ptr::from_ref(other).addr());
                other.is_some_and(|other| input.are_apart(&other.source, source))
            };
            // Whether all policies of the input are in one cluster is not known.
            let by_policies = |with_all: bool| {
                let refuses = |other: &AuthorizationPolicy| {
                    (other.revision.is_none() || other.revision == policy.revision) && (with_all || !is_apart(other))
                };
                let allows = |other: &AuthorizationPolicy| {
                    may_meet(other.reach(), policy.reach(), root) && (with_all || !is_apart(other))
                };
                side.refuses_plaintext(policy, refuses, allows, &mut budget(count)).unwrap_or(true)
            };
            let by_policies = || by_policies(false) || (!input.kustomizations().is_empty() && by_policies(true));
            match context.plaintext {
                Plaintexts::Refused => true,
                Plaintexts::AsInIstio => other_resources::is_strict(input, resource) || by_policies(),
                Plaintexts::Accepted => by_policies(),
            }
        };
        Self { known: asked.into_par_iter().map(|(key, resource)| (key, is_refused(resource))).collect() }
    }

    /// Whether every workload that the policy applies to refuses every peer without an identity, as far as is known.
    pub(super) fn is_refused(&self, input: &Input<'r>, resource: &'r LoadedPolicy) -> bool {
        self.known.get(&key(input, resource)).copied().unwrap_or(true)
    }
}

fn is_asked_about(LoadedPolicy { policy, .. }: &LoadedPolicy) -> bool {
    let fields =
        |rule: &Rule| rule.clauses().any(|(_, all_of)| all_of.0.iter().any(|one| one.attribute().is_identity()));
    !policy.dry_run && matches!(policy.action, Action::Allow | Action::Deny) && policy.rules.iter().any(fields)
}
