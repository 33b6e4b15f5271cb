//! Policies held against what else is in the input: the workloads that they are for, and what verifies peers and tokens.

use super::{Linter, each_predicate};
use std::collections::BTreeMap;

use crate::load::{Authentication, Resource};
use mesh_authz::diagnostic::{Path, Segment, suggestion};
use mesh_authz::document::{Node, Value};
use mesh_authz::policy::scope::{Reach, covers, may_meet};
use mesh_authz::policy::{AuthorizationPolicy, DEFAULT_NAMESPACE, Predicate, Target};

pub(super) fn policies(linter: &mut Linter<'_>) {
    let workloads = workloads(linter);
    let resources = linter.resources;
    for resource in &resources.policies {
        if !workloads.is_empty() {
            selector(linter, resource, &workloads);
        }
        request_authentication(linter, resource);
    }
}

/// The workloads of each namespace.
type Workloads = BTreeMap<String, Vec<Labels>>;

/// What a workload carries, as far as selectors care.
type Labels = Vec<(String, String)>;

/// The workloads in the input, and the one named by hand.
fn workloads(linter: &Linter<'_>) -> Workloads {
    let given = linter.surroundings.workload.iter().cloned();
    let in_input = linter.resources.others.iter().filter_map(|other| {
        let labels = labels_of_workload(other.text("kind"))?;
        Some((namespace(&other.node).to_owned(), self::labels(&other.node, &labels)))
    });
    let mut workloads = Workloads::new();
    for (namespace, labels) in given.chain(in_input) {
        workloads.entry(namespace).or_default().push(labels);
    }
    workloads
}

/// Where a resource of this kind has the labels of the workload that it makes; `None` if it makes none.
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

/// Whether a resource of this kind says something about policies.
pub(super) fn reads(kind: &str) -> bool {
    kind == "PeerAuthentication" || labels_of_workload(kind).is_some()
}

fn namespace(node: &Node) -> &str {
    node.at(&Path::of(["metadata", "namespace"])).and_then(Node::as_str).unwrap_or(DEFAULT_NAMESPACE)
}

/// The labels at a place of a resource.
fn labels(node: &Node, path: &Path) -> Labels {
    match node.at(path).map(|node| &node.value) {
        Some(Value::Map(entries)) => {
            entries.iter().filter_map(|(key, node)| Some((key.clone(), node.as_str()?.to_owned()))).collect()
        }
        _ => Vec::new(),
    }
}

fn selector<'r>(linter: &mut Linter<'r>, resource: &'r Resource, workloads: &Workloads) {
    let policy = &resource.policy;
    let Target::Labels(wanted) = &policy.target else { return };
    let namespace = &policy.name.namespace;
    let everywhere = *namespace == linter.surroundings.mesh.root_namespace;
    let in_reach = || {
        let of_others = workloads.iter().filter(move |(other, _)| everywhere && *other != namespace);
        workloads.get(namespace).into_iter().chain(of_others.map(|(_, all)| all)).flatten()
    };
    if in_reach().any(|labels| wanted.iter().all(|label| labels.contains(label))) {
        return;
    }
    let lacking = |label: &&(String, String)| !in_reach().any(|labels| labels.contains(label));
    let mut path = selector_path();
    let Some((key, value)) = wanted.iter().find(lacking) else {
        let message = "no workload in reach carries all of these labels".to_owned();
        linter.report("MA010", resource, path, message, "split the policy, or correct a label".to_owned());
        return;
    };
    let carried = || in_reach().flatten();
    let values = carried().filter(|(other, _)| other == key).map(|(_, value)| value.as_str());
    let keys = carried().map(|(key, _)| key.as_str());
    let hint = match (suggestion(value, values.clone()), suggestion(key, keys)) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, Some(near)) if near != key => format!("did you mean the label `{near}`?"),
        _ => match values.clone().next() {
            Some(other) => format!("a workload in reach has `{key}: {other}`"),
            None => format!("no workload in namespace `{}` has a label `{key}`", policy.name.namespace),
        },
    };
    path.0.push(Segment::Field(key.clone()));
    linter.report("MA010", resource, path, format!("no workload in the input carries `{key}: {value}`"), hint);
}

fn selector_path() -> Path {
    Path::of(["spec", "selector", "matchLabels"])
}

fn request_authentication<'r>(linter: &mut Linter<'r>, resource: &'r Resource) {
    let root = &linter.surroundings.mesh.root_namespace;
    let mut verified = linter.resources.request_authentications.iter();
    let verifies = |found: &Authentication| {
        !found.authentication.rules.is_empty() && may_meet(found.authentication.reach(), resource.policy.reach(), root)
    };
    if verified.any(verifies) {
        return;
    }
    let mut first = None;
    each_predicate(resource, |rule, clause, field, predicate| {
        let is_not = match predicate {
            Predicate::RequestPrincipal(values) | Predicate::Claim { values, .. } => values.any.is_empty(),
            _ => return,
        };
        first.get_or_insert_with(|| predicate.path(rule, clause, field, is_not));
    });
    let Some(path) = first else { return };
    linter.report(
        "MA021",
        resource,
        path,
        "nothing in the input verifies tokens for this policy's workloads, and without that no request has claims"
            .to_owned(),
        "give `check` the RequestAuthentication too, or create one".to_owned(),
    );
}

/// Whether the input says that the policy's workloads take no plaintext.
pub(super) fn is_strict(linter: &Linter<'_>, policy: &AuthorizationPolicy) -> bool {
    // What a gateway's own servers take is another resource's matter.
    if matches!(policy.target, Target::References(_)) {
        return false;
    }
    let root = &linter.surroundings.mesh.root_namespace;
    let mode = Path::of(["spec", "mtls", "mode"]);
    let all: Vec<PeerAuthentication> = linter
        .resources
        .of_kind("PeerAuthentication")
        .map(|other| {
            let labels = labels(&other.node, &selector_path());
            PeerAuthentication {
                namespace: namespace(&other.node),
                target: if labels.is_empty() { Target::Everything } else { Target::Labels(labels) },
                // One for a single port may take plaintext there.
                is_strict: other.node.at(&mode).and_then(Node::as_str) == Some("STRICT")
                    && other.node.at(&Path::of(["spec", "portLevelMtls"])).is_none(),
            }
        })
        .collect();
    // The policy's own namespace says more than the root namespace does.
    let own = all.iter().filter(|other| other.namespace == policy.name.namespace);
    let is_own = own.clone().any(|other| other.target == Target::Everything);
    let counts = |other: &&PeerAuthentication| {
        !is_own || other.namespace == policy.name.namespace || other.target != Target::Everything
    };
    let in_reach = || all.iter().filter(counts).filter(|other| may_meet(other.reach(), policy.reach(), root));
    in_reach().any(|other| covers(other.reach(), policy.reach(), root)) && in_reach().all(|other| other.is_strict)
}

/// What says whether workloads take plaintext.
struct PeerAuthentication<'r> {
    namespace: &'r str,
    target: Target,
    is_strict: bool,
}

impl PeerAuthentication<'_> {
    fn reach(&self) -> Reach<'_> {
        Reach { namespace: self.namespace, target: &self.target }
    }
}
