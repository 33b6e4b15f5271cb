//! Other resources in the input: workloads, and every `PeerAuthentication`, which says whether workloads accept
//! plaintext.

use std::collections::BTreeMap;

use mesh_authz::diagnostic::Path;
use mesh_authz::document::{Node, Value};
use mesh_authz::policy::resource::REVISION;
use mesh_authz::policy::scope::{Reach, covers, may_meet};
use mesh_authz::policy::{AuthorizationPolicy, DEFAULT_NAMESPACE, Labels, Target};

use super::Input;
use super::unpinned_module::loads_a_module;
use crate::load::peer_authentication;

/// The labels of all workloads, by namespace.
pub(super) type Workloads = BTreeMap<String, Vec<Labels>>;

/// The workloads in the input, and the workload in the context.
pub(super) fn workloads(input: &Input<'_>) -> Workloads {
    let given = input.context.workload.iter().cloned();
    let in_input = input.resources.others.iter().filter_map(|other| {
        let labels = labels_of_workload(other.text("kind"))?;
        Some((namespace(&other.node).to_owned(), self::labels(&other.node, &labels)))
    });
    let mut workloads = Workloads::new();
    for (namespace, labels) in given.chain(in_input) {
        workloads.entry(namespace).or_default().push(labels);
    }
    workloads
}

/// The path of the workload's labels in a resource of this kind; `None` if such a resource is not a workload.
fn labels_of_workload(kind: &str) -> Option<Path> {
    Some(match kind {
        "Pod" => Path::of(["metadata", "labels"]),
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" => {
            Path::of(["spec", "template", "metadata", "labels"])
        }
        "CronJob" => Path::of(["spec", "jobTemplate", "spec", "template", "metadata", "labels"]),
        "WorkloadEntry" => Path::of(["spec", "labels"]),
        "WorkloadGroup" => Path::of(["spec", "metadata", "labels"]),
        _ => return None,
    })
}

/// Whether lints use resources of this kind.
pub(super) fn reads(kind: &str) -> bool {
    kind == peer_authentication::KIND || labels_of_workload(kind).is_some() || loads_a_module(kind)
}

fn namespace(node: &Node) -> &str {
    node.at(&Path::of(["metadata", "namespace"])).and_then(Node::as_str).unwrap_or(DEFAULT_NAMESPACE)
}

/// The labels at a path of a resource.
fn labels(node: &Node, path: &Path) -> Labels {
    match node.at(path).map(|node| &node.value) {
        Some(Value::Map(entries)) => {
            entries.iter().filter_map(|(key, node)| Some((key.clone(), node.as_str()?.to_owned()))).collect()
        }
        _ => Labels::default(),
    }
}

pub(super) fn selector_path() -> Path {
    Path::of(["spec", "selector", "matchLabels"])
}

/// Whether all workloads of the policy refuse plaintext, according to each `PeerAuthentication` in the input.
pub(super) fn is_strict(input: &Input<'_>, policy: &AuthorizationPolicy) -> bool {
    // Another resource decides whether the servers of a gateway accept plaintext.
    if matches!(policy.target, Target::References(_)) {
        return false;
    }
    let root = &input.context.mesh.root_namespace;
    let mode = Path::of(["spec", "mtls", "mode"]);
    let all: Vec<PeerAuthentication> = input
        .resources
        .of_kind(peer_authentication::KIND)
        .map(|other| {
            let labels = labels(&other.node, &selector_path());
            PeerAuthentication {
                namespace: namespace(&other.node),
                revision: other
                    .node
                    .get("metadata")
                    .and_then(|metadata| metadata.get("labels")?.get(REVISION)?.as_str()),
                target: if labels.is_empty() { Target::Everything } else { Target::Labels(labels) },
                // A setting for a single port may accept plaintext on that port.
                is_strict: other.node.at(&mode).and_then(Node::as_str) == Some("STRICT")
                    && other.node.at(&Path::of(["spec", "portLevelMtls"])).is_none(),
            }
        })
        .collect();
    // A PeerAuthentication for the policy's whole namespace overrides the one for the whole mesh.
    let own = all.iter().filter(|other| other.namespace == policy.name.namespace);
    let is_own = own.clone().any(|other| other.target == Target::Everything);
    let counts = |other: &&PeerAuthentication| {
        !is_own || other.namespace == policy.name.namespace || other.target != Target::Everything
    };
    let in_reach = || all.iter().filter(counts).filter(|other| may_meet(other.reach(), policy.reach(), root));
    in_reach().any(|other| covers(other.reach(), policy.reach(), root)) && in_reach().all(|other| other.is_strict)
}

/// The part of a `PeerAuthentication` that says whether workloads accept plaintext.
struct PeerAuthentication<'r> {
    namespace: &'r str,
    target: Target,
    revision: Option<&'r str>,
    is_strict: bool,
}

impl PeerAuthentication<'_> {
    fn reach(&self) -> Reach<'_> {
        Reach { namespace: self.namespace, target: &self.target, revision: self.revision }
    }
}
