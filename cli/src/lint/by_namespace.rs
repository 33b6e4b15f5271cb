//! Resources by namespace, to find those that can apply to one workload without a look at all others.

use std::collections::BTreeMap;

use mesh_authz::policy::Target;
use mesh_authz::policy::scope::Reach;

/// Resources, by namespace.
pub(super) struct ByNamespace<'r, T>(BTreeMap<&'r str, Vec<&'r T>>);

impl<'r, T> ByNamespace<'r, T> {
    pub(super) fn new(resources: &'r [T], namespace: impl Fn(&'r T) -> &'r str) -> Self {
        let mut all = BTreeMap::<_, Vec<_>>::new();
        for resource in resources {
            all.entry(namespace(resource)).or_default().push(resource);
        }
        Self(all)
    }

    /// The resources of the same namespace, and those of the root namespace. If the other resource is for all namespaces,
    /// or for waypoints, which serve several, these are all resources.
    pub(super) fn near(&self, reach: Reach<'_>, root_namespace: &str) -> impl Iterator<Item = &'r T> {
        let is_everywhere = reach.namespace == root_namespace || matches!(reach.target, Target::References(_));
        let others = is_everywhere.then(|| self.0.values()).into_iter().flatten();
        let own = [reach.namespace, root_namespace].map(|namespace| self.0.get(namespace).filter(|_| !is_everywhere));
        own.into_iter().flatten().chain(others).flatten().copied()
    }
}
