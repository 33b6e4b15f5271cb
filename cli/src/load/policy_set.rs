//! The policies from files for one workload: which of them apply, and the engine that decides with them.

use std::collections::BTreeSet;

use mesh_authz::config::Mesh;
use mesh_authz::diagnostic::suggestion;
use mesh_authz::engine::{Custom, Engine, Options};
use mesh_authz::policy::Action;
use mesh_authz::policy::scope::{NeedsLabels, Scope, Workload, scope};

use crate::load::providers::Providers;
use crate::load::{LoadedPolicy, Resources};
use crate::received::Known;

/// Policies, and the workload and the mesh that their meaning depends on.
#[derive(Debug)]
pub struct PolicySet {
    /// The policies, and the other resources in the files.
    pub resources: Resources,
    /// The workload that they protect.
    pub workload: Workload,
    /// The mesh of the workload.
    pub mesh: Mesh,
    /// What is known of the Envoy before the workload.
    pub envoy: Known,
}

impl PolicySet {
    /// Each policy, and whether it applies to the workload.
    pub fn scopes(&self) -> impl Iterator<Item = (&LoadedPolicy, Scope)> {
        self.resources.policies.iter().map(|resource| (resource, scope(&resource.policy, &self.workload)))
    }

    /// The policies that apply to the workload.
    pub fn applying(&self) -> impl Iterator<Item = &LoadedPolicy> {
        self.scopes().filter(|(_, scope)| *scope == Scope::Applies).map(|(resource, _)| resource)
    }

    /// The first policy that may or may not apply because the workload's labels are unknown, and the field of it that
    /// needs the labels.
    #[must_use]
    pub fn missing_labels(&self) -> Option<(&LoadedPolicy, NeedsLabels)> {
        use Scope::{OtherNamespace, OtherRevision, WaypointNeedsTarget};
        let whatever_the_labels = |resource: &&LoadedPolicy| {
            matches!(scope(&resource.policy, &self.workload), OtherNamespace | OtherRevision | WaypointNeedsTarget)
        };
        let mut policies = self.resources.policies.iter().filter(|resource| !whatever_the_labels(resource));
        policies.find_map(|resource| Some((resource, self.workload.missing_labels(&resource.policy.target)?)))
    }

    /// The providers that Envoy asks, which CUSTOM policies that apply name. There are none if the policies name several and
    /// the mesh does not allow that, or if the mesh configuration in the input lacks one: then what they match is refused.
    /// `providers`: those of [`Self::resources`].
    #[must_use]
    pub fn asked_providers(&self, providers: &Providers) -> BTreeSet<&str> {
        let names: BTreeSet<_> = self.applying().filter_map(|resource| resource.policy.provider.as_deref()).collect();
        let is_known = |name: &&str| !providers.are_known || providers.named(name).is_some();
        let are_asked = (self.mesh.several_providers || names.len() == 1) && names.iter().all(is_known);
        if are_asked { names } else { BTreeSet::new() }
    }

    /// Says that no CUSTOM policy names one of these providers.
    #[must_use]
    pub fn unknown_provider<'n>(&self, mut names: impl Iterator<Item = &'n str>) -> Option<String> {
        let known: BTreeSet<_> =
            self.resources.policies.iter().filter_map(|resource| resource.policy.provider.as_deref()).collect();
        let unknown = names.find(|name| !known.contains(name))?;
        let hint = match suggestion(unknown, known.iter().copied()) {
            Some(near) => format!("; did you mean `{near}`?"),
            None => String::new(),
        };
        Some(format!("no CUSTOM policy in the input names the provider `{unknown}`{hint}"))
    }

    /// The policies that apply, compiled for a filter that refuses what CUSTOM policies match.
    #[must_use]
    pub fn engine_that_refuses(&self) -> Engine {
        Engine::new(self.applying().map(|resource| &resource.policy), &self.mesh.options())
    }

    /// The policies that apply, compiled, for requests that the providers of CUSTOM policies have allowed.
    #[must_use]
    pub fn engine_behind_provider(&self) -> Engine {
        let policies = self.applying().map(|resource| &resource.policy);
        Engine::new(policies.filter(|policy| policy.action != Action::Custom), &self.mesh.options())
    }

    /// The policies that apply, compiled. Envoy asks the providers, if it can.
    #[must_use]
    pub fn engine(&self) -> Engine {
        let providers = Providers::of(&self.resources);
        let custom = if self.asked_providers(&providers).is_empty() { Custom::Refuse } else { self.mesh.custom() };
        let options = Options { custom, ..self.mesh.options() };
        Engine::new(self.applying().map(|resource| &resource.policy), &options)
    }
}
