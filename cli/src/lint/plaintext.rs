//! Code that the lints about peers without an identity share.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use mesh_authz::analysis::CompiledRule;
use mesh_authz::diagnostic;
use mesh_authz::engine::Combining;
use mesh_authz::policy::scope::{covers, may_meet};
use mesh_authz::policy::{Action, rule_path};

use super::comparison::{AllRules, Rules};
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

/// The policies that refuse peers without an identity.
pub(super) struct Plaintext<'r> {
    /// DENY policies with a rule that matches every peer without an identity.
    deny: Vec<&'r LoadedPolicy>,
    /// ALLOW policies; `true` if every rule of the policy requires an identity.
    allow: Vec<(&'r LoadedPolicy, bool)>,
    /// Cached results of [`Self::is_refused`], by namespace, target and, if there are kustomizations, file.
    known: HashMap<(&'r str, String, Option<&'r Path>), bool>,
}

impl<'r> Plaintext<'r> {
    pub(super) fn new(input: &Input<'r>) -> Self {
        let AllRules { allow, deny, .. } = input.rules();
        // Two files that are deployed apart can have policies of one name.
        let policies = |rules: &Rules<'r>, wanted: fn(&CompiledRule) -> bool| -> HashSet<*const LoadedPolicy> {
            rules.all().filter(|placed| wanted(placed.rule)).map(|placed| std::ptr::from_ref(placed.resource)).collect()
        };
        let takes_all = policies(deny, CompiledRule::takes_all_plaintext);
        let is_open = policies(allow, |rule| !rule.needs_identity());
        let overrides = input.context.mesh.combining == Combining::DenyOverrides;
        let all = || input.resources.policies.iter();
        let allow = all().filter(|LoadedPolicy { policy, .. }| policy.action == Action::Allow && !policy.dry_run);
        Self {
            deny: all().filter(|resource| overrides && takes_all.contains(&std::ptr::from_ref(*resource))).collect(),
            allow: allow.map(|resource| (resource, !is_open.contains(&std::ptr::from_ref(resource)))).collect(),
            known: HashMap::new(),
        }
    }

    /// Whether every workload that the policy applies to refuses every peer without an identity.
    pub(super) fn is_refused(&mut self, input: &Input<'r>, resource: &'r LoadedPolicy) -> bool {
        let policy = &resource.policy;
        let root = &input.context.mesh.root_namespace;
        let file = (!input.kustomizations().is_empty()).then_some(resource.source.file.as_path());
        let key = (policy.name.namespace.as_str(), format!("{:?}", policy.target), file);
        let Self { deny, allow, known } = self;
        *known.entry(key).or_insert_with(|| {
            let covers = |other: &LoadedPolicy| covers(other.policy.reach(), policy.reach(), root);
            let meets = |other: &LoadedPolicy| {
                may_meet(other.policy.reach(), policy.reach(), root)
                    && !input.are_apart(&other.source, &resource.source)
            };
            let by_deny = || deny.iter().any(|other| covers(other));
            // If any ALLOW policy applies, a request passes only if an ALLOW policy permits it.
            let by_allow = || {
                allow.iter().any(|(other, needs_identity)| *needs_identity && covers(other))
                    && allow.iter().all(|(other, needs_identity)| *needs_identity || !meets(other))
            };
            match input.context.plaintext {
                Plaintexts::Refused => true,
                Plaintexts::AsInIstio => by_deny() || by_allow() || other_resources::is_strict(input, resource),
                Plaintexts::Accepted => by_deny() || by_allow(),
            }
        })
    }
}
