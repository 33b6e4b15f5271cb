//! Other resources in the input: workloads, and every `PeerAuthentication`, which says whether workloads accept
//! plaintext.

use std::collections::BTreeMap;

use mesh_authz::diagnostic::Path;
use mesh_authz::document::{Node, Value, whole_number};
use mesh_authz::policy::resource::REVISION;
use mesh_authz::policy::scope::{GATEWAY_NAME_LABEL, Reach, WAYPOINT_CLASS, covers, may_meet};
use mesh_authz::policy::{DEFAULT_NAMESPACE, Labels, Target, TargetKind, TargetReference};

use super::Input;
use super::unpinned_module::loads_a_module;
use crate::load::kustomization::is_kustomization;
use crate::load::{LoadedPolicy, Other, items, peer_authentication};

/// The labels of all workloads, by namespace.
pub(super) type Workloads = BTreeMap<String, Vec<Labels>>;

/// The workloads in the input, and the workload in the context.
pub(super) fn workloads(input: &Input<'_>) -> Workloads {
    let given = input.context.workload.iter().cloned();
    let in_input = input.resources.others.iter().filter_map(|other| {
        let labels = labels_of_workload(other)?;
        Some((namespace(&other.node).to_owned(), self::labels(&other.node, &labels)))
    });
    let mut workloads = Workloads::new();
    for (namespace, labels) in given.chain(in_input) {
        workloads.entry(namespace).or_default().push(labels);
    }
    workloads
}

/// The path of the workload's labels in a resource; `None` if it is not a workload.
pub(super) fn labels_of_workload(other: &Other) -> Option<Path> {
    Some(match other.text("kind") {
        "Pod" => Path::of(["metadata", "labels"]),
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" => {
            Path::of(["spec", "template", "metadata", "labels"])
        }
        "CronJob" => Path::of(["spec", "jobTemplate", "spec", "template", "metadata", "labels"]),
        "WorkloadEntry" => Path::of(["spec", "labels"]),
        "WorkloadGroup" => Path::of(["spec", "metadata", "labels"]),
        // Many other kinds make Pods from a template, such as Argo's `Rollout` and Knative's `Service`.
        _ => {
            other.node.at(&Path::of(["spec", "template", "spec"]))?;
            Path::of(["spec", "template", "metadata", "labels"])
        }
    })
}

/// Whether lints use the resource.
pub(super) fn reads(other: &Other) -> bool {
    let kind = other.text("kind");
    kind == peer_authentication::KIND
        || labels_of_workload(other).is_some()
        || loads_a_module(kind)
        || NamedKind::ALL.iter().any(|named| named.is(other))
        || is_kustomization(other)
}

/// A kind of resource that policies name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NamedKind {
    Namespace,
    ServiceAccount,
    Service,
    ServiceEntry,
    /// A Gateway of the Gateway API.
    Gateway,
    GatewayClass,
    /// A Gateway of Istio, which names the labels of a gateway's workload.
    IstioGateway,
}

impl NamedKind {
    const ALL: [Self; 7] = [
        Self::Namespace,
        Self::ServiceAccount,
        Self::Service,
        Self::ServiceEntry,
        Self::Gateway,
        Self::GatewayClass,
        Self::IstioGateway,
    ];

    pub(super) fn is(self, other: &Other) -> bool {
        let (kind, group) = match self {
            Self::Namespace => ("Namespace", ""),
            Self::ServiceAccount => ("ServiceAccount", ""),
            Self::Service => ("Service", ""),
            Self::ServiceEntry => ("ServiceEntry", "networking.istio.io"),
            Self::Gateway => ("Gateway", "gateway.networking.k8s.io"),
            Self::GatewayClass => ("GatewayClass", "gateway.networking.k8s.io"),
            Self::IstioGateway => ("Gateway", "networking.istio.io"),
        };
        let version = other.text("apiVersion");
        other.text("kind") == kind
            && version.split_once('/').map_or("", |(group, _)| group) == group
            && !version.is_empty()
    }

    /// The resources of this kind in the input.
    pub(super) fn all<'r>(self, input: &Input<'r>) -> impl Iterator<Item = &'r Other> {
        input.resources.others.iter().filter(move |other| self.is(other))
    }

    /// Whether all resources of this kind are deployed as they are written. Otherwise, the input does not tell which names
    /// there are.
    pub(super) fn is_known(self, input: &Input<'_>) -> bool {
        self.all(input).all(|other| input.is_as_written(&other.source))
    }

    /// The names of the resources of this kind in a namespace.
    pub(super) fn names<'r>(self, input: &Input<'r>, namespace: &str) -> Vec<&'r str> {
        self.all(input).filter(|other| self::namespace(&other.node) == namespace).filter_map(Other::name).collect()
    }
}

/// Whether all workloads are deployed as they are written.
pub(super) fn workloads_are_known(input: &Input<'_>) -> bool {
    let mut workloads = input.resources.others.iter().filter(|other| labels_of_workload(other).is_some());
    workloads.all(|other| input.is_as_written(&other.source))
}

/// The namespace in which a resource may make workloads that the input does not have, as Helm and operators do; `None` if
/// it makes none, or if the input has them.
pub(super) fn makes_workloads(other: &Other) -> Option<&str> {
    const OTHERS: [&str; 9] = [
        "",
        "apps",
        "autoscaling",
        "batch",
        "bitnami.com",
        "cert-manager.io",
        "external-secrets.io",
        "monitoring.coreos.com",
        "policy",
    ];
    let group = other.text("apiVersion").split_once('/').map_or("", |(group, _)| group);
    if OTHERS.contains(&group) || group.ends_with(".k8s.io") || group.ends_with(".istio.io") || reads(other) {
        return None;
    }
    let elsewhere = [Path::of(["spec", "targetNamespace"]), Path::of(["spec", "destination", "namespace"])];
    let elsewhere = elsewhere.iter().find_map(|path| other.node.at(path)?.as_str());
    Some(elsewhere.unwrap_or_else(|| namespace(&other.node)))
}

/// The labels of the workloads of gateways: those that an Istio Gateway selects, and the one that a Gateway of the Gateway
/// API gives to the workload that is made for it.
pub(super) fn labels_of_gateways(input: &Input<'_>) -> Vec<Labels> {
    let selected = NamedKind::IstioGateway.all(input).map(|other| labels(&other.node, &Path::of(["spec", "selector"])));
    let made = NamedKind::Gateway
        .all(input)
        .filter_map(|other| Some((GATEWAY_NAME_LABEL.to_owned(), other.name()?.to_owned())));
    selected.chain(made.map(|label| Labels::from(vec![label]))).filter(|labels| !labels.is_empty()).collect()
}

/// The service account that a workload runs as.
pub(super) fn account_of_workload(other: &Other) -> Option<&str> {
    let path = match other.text("kind") {
        "WorkloadEntry" => Path::of(["spec", "serviceAccount"]),
        "WorkloadGroup" => Path::of(["spec", "template", "serviceAccount"]),
        _ => specification(other)?.with("serviceAccountName"),
    };
    other.node.at(&path).and_then(Node::as_str)
}

/// The path of the specification of the Pods of a workload; `None` if there are no Pods.
fn specification(other: &Other) -> Option<Path> {
    Some(match other.text("kind") {
        "Pod" => Path::of(["spec"]),
        "CronJob" => Path::of(["spec", "jobTemplate", "spec", "template", "spec"]),
        "WorkloadEntry" | "WorkloadGroup" => return None,
        _ => labels_of_workload(other).map(|_| Path::of(["spec", "template", "spec"]))?,
    })
}

/// The labels of a workload, and the ports of its containers.
pub(super) struct Listening<'r> {
    pub labels: Labels,
    /// The name of each port, if it has one, and its number.
    pub ports: Vec<(Option<&'r str>, u16)>,
}

/// The workloads in the input whose containers say on which ports they listen, by namespace.
pub(super) fn listening<'r>(input: &Input<'r>) -> BTreeMap<&'r str, Vec<Listening<'r>>> {
    let mut all = BTreeMap::<_, Vec<_>>::new();
    for other in &input.resources.others {
        let Some((path, spec)) = labels_of_workload(other).zip(specification(other)) else { continue };
        let Some(spec) = other.node.at(&spec) else { continue };
        let containers = ["containers", "initContainers"].into_iter().flat_map(|field| items(spec.get(field)));
        let port =
            |node: &'r Node| Some((node.get("name").and_then(Node::as_str), number(node.get("containerPort")?)?));
        let ports = containers.flat_map(|container| items(container.get("ports"))).filter_map(port).collect();
        all.entry(namespace(&other.node)).or_default().push(Listening { labels: labels(&other.node, &path), ports });
    }
    all
}

/// A port as a number.
pub(super) fn number(node: &Node) -> Option<u16> {
    match &node.value {
        Value::String(text) => text.parse().ok(),
        _ => whole_number(node, u16::MAX.into()).and_then(|number| u16::try_from(number).ok()),
    }
}

pub(super) fn namespace(node: &Node) -> &str {
    node.at(&Path::of(["metadata", "namespace"])).and_then(Node::as_str).unwrap_or(DEFAULT_NAMESPACE)
}

/// The labels at a path of a resource.
pub(super) fn labels(node: &Node, path: &Path) -> Labels {
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
pub(super) fn is_strict(input: &Input<'_>, resource: &LoadedPolicy) -> bool {
    let policy = &resource.policy;
    // Another resource decides whether the servers of a gateway accept plaintext. A waypoint never does.
    if let Target::References(references) = &policy.target {
        return references.iter().all(|reference| is_waypoint(input, &policy.name.namespace, reference));
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
                is_apart: input.are_apart(&other.source, &resource.source),
            }
        })
        .collect();
    // A PeerAuthentication for the policy's whole namespace overrides the one for the whole mesh.
    let own = all.iter().filter(|other| other.namespace == policy.name.namespace);
    let is_own = own.clone().any(|other| other.target == Target::Everything && !other.is_apart);
    let counts = |other: &&PeerAuthentication| {
        !is_own || other.namespace == policy.name.namespace || other.target != Target::Everything
    };
    let in_reach = || all.iter().filter(counts).filter(|other| may_meet(other.reach(), policy.reach(), root));
    in_reach().any(|other| other.is_strict && covers(other.reach(), policy.reach(), root))
        && in_reach().all(|other| other.is_strict || other.is_apart)
}

/// Whether a reference is to a waypoint, or to a Service behind one.
fn is_waypoint(input: &Input<'_>, namespace: &str, reference: &TargetReference) -> bool {
    let is_it = |other: &&Other| self::namespace(&other.node) == namespace && other.name() == Some(&reference.name);
    let is_of_waypoints = |other: &Other| class_of_gateway(other).is_some_and(|class| class.ends_with("-waypoint"));
    match reference.kind {
        TargetKind::Service | TargetKind::ServiceEntry | TargetKind::GatewayClass => true,
        TargetKind::Gateway => NamedKind::Gateway.all(input).find(is_it).is_some_and(is_of_waypoints),
    }
}

/// What a reference names, if the input shows that its policies are for a waypoint.
pub(super) fn waypoint(input: &Input<'_>, resource: &LoadedPolicy, reference: &TargetReference) -> Option<String> {
    let TargetReference { kind, name } = reference;
    let own = resource.policy.name.namespace.as_str();
    match kind {
        TargetKind::Service => Some(format!("the Service `{name}`")),
        TargetKind::ServiceEntry => Some(format!("the ServiceEntry `{name}`")),
        TargetKind::GatewayClass => {
            (name == WAYPOINT_CLASS && own == input.context.mesh.root_namespace).then(|| "every waypoint".to_owned())
        }
        TargetKind::Gateway => {
            let is_it = |other: &&Other| {
                namespace(&other.node) == own
                    && other.name() == Some(name)
                    && !input.are_apart(&other.source, &resource.source)
            };
            let is_of_class = |other: &Other| class_of_gateway(other) == Some(WAYPOINT_CLASS);
            let mut gateways = NamedKind::Gateway.all(input).filter(is_it).peekable();
            (gateways.peek().is_some() && gateways.all(is_of_class)).then(|| format!("the waypoint `{name}`"))
        }
    }
}

/// `spec.gatewayClassName` of a Gateway.
fn class_of_gateway(other: &Other) -> Option<&str> {
    other.node.at(&Path::of(["spec", "gatewayClassName"])).and_then(Node::as_str)
}

/// The part of a `PeerAuthentication` that says whether workloads accept plaintext.
struct PeerAuthentication<'r> {
    namespace: &'r str,
    target: Target,
    revision: Option<&'r str>,
    is_strict: bool,
    /// Whether the kustomizations keep it apart from the policy.
    is_apart: bool,
}

impl PeerAuthentication<'_> {
    fn reach(&self) -> Reach<'_> {
        Reach { namespace: self.namespace, target: &self.target, revision: self.revision }
    }
}
