//! The policies from files for one workload: which of them apply, and the engine that decides with them.

use mesh_authz::config::Mesh;
use mesh_authz::engine::Engine;
use mesh_authz::policy::scope::{NeedsLabels, Scope, Workload, scope};

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

    /// The policies that apply, compiled.
    #[must_use]
    pub fn engine(&self) -> Engine {
        Engine::new(self.applying().map(|resource| &resource.policy), &self.mesh.options())
    }
}
