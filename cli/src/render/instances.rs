//! Plans which instances of the filter a cluster needs, and which policies each instance carries.
//!
//! Each `WasmPlugin` or `TrafficExtension` of Istio is a separate filter on every workload that it selects, and a
//! request must pass all of these filters. But policies are combined per workload, where the ALLOW policies are a
//! union. An instance with only one of two ALLOW policies refuses what the other one allows. An instance that lacks a
//! DENY policy allows what this policy refuses. So every instance must make the decision of all policies together on
//! its own:
//!
//! 1. **An instance carries every policy that can apply to any workload it is loaded on.** When the instance is loaded,
//!    it decides which of them apply, from the namespace and the labels in the node's metadata. A policy is left out
//!    only if it provably applies to none of the instance's workloads. This is so if both the policy and the instance
//!    are bound to namespaces, and these differ; or if both name a value of the same label, and these values differ. To
//!    carry too many policies is never wrong.
//! 2. **Where a policy applies, an instance is loaded.** There is one instance for every namespace and selector that
//!    policies have. An instance is left out if another one also selects all of its workloads, because the other one
//!    carries its policies too.
//!
//! By 1, every instance on a workload makes the decision of the policies that apply to the workload, so all instances
//! together make the same decision. By 2, there is at least one instance. Therefore selectors may overlap, and the
//! order of the instances does not matter.
//!
//! **Directions.** Without `match`, Istio also loads such a filter on the outgoing listeners of a sidecar. There an
//! ALLOW policy would refuse the requests that the workload sends to others. `match: [{mode: SERVER}]` restricts the
//! filter to incoming listeners. But for Istio a gateway is a client, so this `match` leaves out gateways. So an
//! instance that selects workloads is rendered for sidecars, with the `match`. Gateways, which are recognized by their
//! labels, get instances of their own, without a `match`.
//!
//! **Gateways and waypoints.** A policy with `targetRefs` to a Gateway gets an instance with the same target. A filter
//! on a waypoint protects one service. The filter must be told which service, and it is told the waypoint's name; this
//! is what [`Waypoint`] is for. One filter cannot serve a whole waypoint and also know the service of each request. So
//! policies are refused if some are for a whole waypoint and others for one of its services.

use std::collections::BTreeSet;

use mesh_authz::diagnostic::{Diagnostic, Path, Segment};
use mesh_authz::policy::scope::{GATEWAY_NAME_LABEL, Gateway, ServiceName, WAYPOINT_CLASS};
use mesh_authz::policy::{AuthorizationPolicy, Target, TargetKind, TargetReference};

use crate::load::LoadedPolicy;
use crate::load::finding::Finding;

/// Labels that gateways carry: the labels from Istio's installers, and the label of gateways that Istio deploys for the
/// Gateway API.
pub const GATEWAY_LABELS: [(&str, &str); 5] = [
    ("istio", "ingressgateway"),
    ("istio", "egressgateway"),
    ("istio", "ingress"),
    ("istio", "egress"),
    ("gateway.istio.io/managed", "istio.io-gateway-controller"),
];

/// Whether the labels in a policy's selector show that all workloads that it selects are gateways.
#[must_use]
pub fn selects_gateways(policy: &AuthorizationPolicy) -> bool {
    let Target::Labels(labels) = &policy.target else { return false };
    labels.iter().any(|(key, value)| is_gateway_key(key) || GATEWAY_LABELS.contains(&(key, value)))
}

/// Whether only gateways carry labels with this key. All of Istio's own components that carry `istio` and have a proxy
/// are gateways. The others are the labels of a gateway that is made for a `Gateway` resource.
fn is_gateway_key(key: &str) -> bool {
    ["istio", GATEWAY_NAME_LABEL, "gateway.networking.k8s.io/gateway-class-name", "istio.io/gateway-name"]
        .contains(&key)
}

/// What the command knows about the cluster.
#[derive(Clone, Debug)]
pub struct Topology<'m> {
    /// The namespace whose policies are for workloads in every namespace.
    pub root_namespace: &'m str,
    /// A workload with one of these labels is a gateway. Empty: no workload that policies select is a gateway.
    pub gateways: &'m [(String, String)],
    /// The waypoint to render for.
    pub waypoint: Option<&'m Waypoint>,
    /// The revision of the control plane to render for. `None`: policies of all revisions are rendered.
    pub revision: Option<&'m str>,
}

/// The namespace and the name of a waypoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waypoint {
    pub namespace: String,
    pub name: String,
}

/// What a resource is attached to: in its own namespace or, for a selector in the root namespace, in every namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attachment {
    /// The workloads with these labels.
    Selector(BTreeSet<(String, String)>),
    /// The gateway, or the whole waypoint, of this name.
    Gateway(String),
    /// A waypoint's traffic to this Service.
    Service(String),
    /// A waypoint's traffic to this `ServiceEntry`.
    ServiceEntry(String),
}

/// The listeners of a workload that an instance is loaded on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// The incoming listeners of a sidecar.
    Inbound,
    /// All listeners, because the workload is not a sidecar.
    Any,
}

/// A resource's place: its namespace and what it is attached to there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    pub namespace: String,
    pub attachment: Attachment,
}

/// One extension resource: a `WasmPlugin` or a `TrafficExtension`.
#[derive(Clone, Debug)]
pub struct Instance<'r> {
    /// The place that it is loaded in.
    pub place: Location,
    /// The listeners that it is loaded on.
    pub traffic: Direction,
    /// What the filter is told about the waypoint that it is loaded on.
    pub waypoint: Option<Gateway>,
    /// The policies that it carries, sorted by name.
    pub policies: Vec<&'r LoadedPolicy>,
    /// Whether it is loaded on workloads that none of its policies applies to.
    pub reaches_further: bool,
}

/// The resources that a cluster needs.
#[derive(Debug, Default)]
pub struct Plan<'r> {
    /// The extension resources, one for each place.
    pub instances: Vec<Instance<'r>>,
    /// The places where Envoy has to tell the filter what it cannot see by itself.
    pub needs_filter_state: Vec<Location>,
    /// Policies that apply to nothing, whatever the cluster.
    pub idle: Vec<&'r LoadedPolicy>,
    /// Policies that are for every waypoint, but are rendered for one.
    pub for_one_waypoint: Vec<&'r LoadedPolicy>,
    /// Policies for another revision of the control plane.
    pub other_revision: Vec<&'r LoadedPolicy>,
    /// Policies that cannot be rendered.
    pub refused: Vec<Finding>,
}

/// A set of workloads, as a resource or a policy describes it. If `namespace` is `None`, they are in any namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct WorkloadSet {
    namespace: Option<String>,
    labels: BTreeSet<(String, String)>,
}

impl WorkloadSet {
    fn of_labels(namespace: &str, labels: &BTreeSet<(String, String)>, root_namespace: &str) -> Self {
        let namespace = (namespace != root_namespace).then(|| namespace.to_owned());
        Self { namespace, labels: labels.clone() }
    }

    /// A gateway is in the namespace of the resource or policy that names it, even if that is the root namespace. The
    /// value of its label is its name.
    fn of_gateway(namespace: &str, name: &str) -> Self {
        let label = (GATEWAY_NAME_LABEL.to_owned(), name.to_owned());
        Self { namespace: Some(namespace.to_owned()), labels: BTreeSet::from([label]) }
    }

    /// Whether a workload may be in both sets.
    fn meets(&self, other: &Self) -> bool {
        let namespaces_differ =
            self.namespace.is_some() && other.namespace.is_some() && self.namespace != other.namespace;
        let differs = |(key, value): &(String, String)| {
            other.labels.iter().any(|(other_key, other_value)| key == other_key && value != other_value)
        };
        !namespaces_differ && !self.labels.iter().any(differs)
    }

    /// Whether every workload of the other set is in this one.
    fn covers(&self, other: &Self) -> bool {
        (self.namespace.is_none() || self.namespace == other.namespace) && self.labels.is_subset(&other.labels)
    }

    fn place(&self, root_namespace: &str) -> Location {
        let namespace = self.namespace.clone().unwrap_or_else(|| root_namespace.to_owned());
        Location { namespace, attachment: Attachment::Selector(self.labels.clone()) }
    }
}

/// What a target reference means in the topology.
enum ResolvedTarget {
    Gateway(String),
    Waypoint,
    Service(Attachment),
    NoWaypointGiven,
    Nothing,
}

impl Topology<'_> {
    fn meaning(&self, reference: &TargetReference, namespace: &str) -> ResolvedTarget {
        let TargetReference { kind, name } = reference;
        let is_ours = |w: &&Waypoint| w.namespace == namespace && w.name == *name;
        match kind {
            TargetKind::Gateway if self.waypoint.as_ref().is_some_and(is_ours) => ResolvedTarget::Waypoint,
            TargetKind::Gateway => ResolvedTarget::Gateway(name.clone()),
            TargetKind::GatewayClass if namespace != self.root_namespace || name != WAYPOINT_CLASS => {
                ResolvedTarget::Nothing
            }
            _ if self.waypoint.is_none() => ResolvedTarget::NoWaypointGiven,
            TargetKind::GatewayClass => ResolvedTarget::Waypoint,
            TargetKind::Service => ResolvedTarget::Service(Attachment::Service(name.clone())),
            TargetKind::ServiceEntry => ResolvedTarget::Service(Attachment::ServiceEntry(name.clone())),
        }
    }

    /// The label that shows that all workloads in this set are gateways, if there is one.
    fn gateway_label<'l>(&self, reach: &'l WorkloadSet) -> Option<&'l (String, String)> {
        let is_gateways = |label: &&(String, String)| {
            self.gateways.contains(label) || (is_gateway_key(&label.0) && !self.gateways.is_empty())
        };
        reach.labels.iter().find(is_gateways)
    }

    fn meanings(&self, policy: &AuthorizationPolicy) -> Vec<ResolvedTarget> {
        let Target::References(references) = &policy.target else { return Vec::new() };
        references.iter().map(|reference| self.meaning(reference, &policy.name.namespace)).collect()
    }

    /// The workloads that a policy is for, without waypoints.
    fn reaches(&self, policy: &AuthorizationPolicy) -> Vec<WorkloadSet> {
        let namespace = &policy.name.namespace;
        match &policy.target {
            Target::Everything => vec![WorkloadSet::of_labels(namespace, &BTreeSet::new(), self.root_namespace)],
            Target::Labels(labels) => {
                vec![WorkloadSet::of_labels(namespace, &labels.iter().cloned().collect(), self.root_namespace)]
            }
            Target::References(_) => {
                let gateways = self.meanings(policy).into_iter().filter_map(|meaning| match meaning {
                    ResolvedTarget::Gateway(name) => Some(WorkloadSet::of_gateway(namespace, &name)),
                    _ => None,
                });
                gateways.collect()
            }
        }
    }
}

/// Plans the instances for these policies.
#[must_use]
pub fn plan<'r>(resources: &'r [LoadedPolicy], topology: &Topology<'_>) -> Plan<'r> {
    let is_own = |resource: &&LoadedPolicy| match (&resource.policy.revision, topology.revision) {
        (Some(revision), Some(own)) => revision == own,
        _ => true,
    };
    let (mut policies, other_revision): (Vec<_>, Vec<_>) = resources.iter().partition(is_own);
    policies.sort_by(|a, b| a.policy.name.cmp(&b.policy.name));
    let mut plan = Plan { other_revision, ..Plan::default() };
    let (targeted, selecting): (Vec<&LoadedPolicy>, Vec<_>) =
        policies.iter().partition(|resource| matches!(resource.policy.target, Target::References(_)));

    let carried = |reach: &WorkloadSet| -> Vec<&'r LoadedPolicy> {
        let may_apply =
            |resource: &&&LoadedPolicy| topology.reaches(&resource.policy).iter().any(|other| reach.meets(other));
        policies.iter().filter(may_apply).copied().collect()
    };
    let instance = |place: Location, traffic, reach: &WorkloadSet| {
        let covers = |policy| topology.reaches(policy).iter().any(|other| other.covers(reach));
        let policies = carried(reach);
        let reaches_further = !policies.iter().any(|resource| covers(&resource.policy));
        Instance { place, traffic, waypoint: None, policies, reaches_further }
    };

    let selected: BTreeSet<_> = selecting.iter().flat_map(|resource| topology.reaches(&resource.policy)).collect();
    for reach in &widest(&selected) {
        let place = reach.place(topology.root_namespace);
        plan.needs_filter_state.push(place.clone());
        if topology.gateway_label(reach).is_none() {
            plan.instances.push(instance(place, Direction::Inbound, reach));
        }
    }
    // Use all sets that policies select, not only the widest ones: a narrower set may have a gateway's label.
    for reach in gateways(&selected, topology) {
        plan.instances.push(instance(reach.place(topology.root_namespace), Direction::Any, &reach));
    }

    let mut named = BTreeSet::new();
    for resource in &targeted {
        let meanings = topology.meanings(&resource.policy);
        let namespace = &resource.policy.name.namespace;
        if meanings.iter().all(|meaning| matches!(meaning, ResolvedTarget::Nothing)) {
            plan.idle.push(resource);
        }
        if meanings.iter().any(|meaning| matches!(meaning, ResolvedTarget::NoWaypointGiven)) {
            plan.refused.push(refusal(
                resource,
                "is for a waypoint, and the filter has to know which",
                "name it with --waypoint NAMESPACE/NAME",
            ));
        }
        named.extend(meanings.into_iter().filter_map(|meaning| match meaning {
            ResolvedTarget::Gateway(name) => Some((namespace.clone(), name)),
            _ => None,
        }));
    }
    for (namespace, name) in named {
        let reach = WorkloadSet::of_gateway(&namespace, &name);
        let place = Location { namespace, attachment: Attachment::Gateway(name) };
        plan.needs_filter_state.push(place.clone());
        plan.instances.push(instance(place, Direction::Any, &reach));
    }
    if let Some(waypoint) = topology.waypoint {
        on_waypoint(&mut plan, &targeted, topology, waypoint);
    }
    plan
}

/// The sets that no other set covers.
fn widest(reaches: &BTreeSet<WorkloadSet>) -> Vec<WorkloadSet> {
    let is_covered = |reach: &WorkloadSet| reaches.iter().any(|other| other != reach && other.covers(reach));
    reaches.iter().filter(|reach| !is_covered(reach)).cloned().collect()
}

/// The gateways among the workloads that policies select: one set for each namespace and gateway label. Smaller sets
/// would need many resources instead of one. It is not wrong if a resource carries policies that do not apply.
fn gateways(selected: &BTreeSet<WorkloadSet>, topology: &Topology<'_>) -> Vec<WorkloadSet> {
    let mut reaches = BTreeSet::new();
    for reach in selected {
        let of = |label: &(String, String)| WorkloadSet {
            namespace: reach.namespace.clone(),
            labels: BTreeSet::from([label.clone()]),
        };
        // If the set itself has a gateway label, this label alone finds its workloads.
        match topology.gateway_label(reach) {
            Some(label) => reaches.extend([of(label)]),
            None => reaches.extend(topology.gateways.iter().map(of).filter(|gateways| gateways.meets(reach))),
        }
    }
    widest(&reaches)
}

/// Adds the instances on a waypoint: one for the whole waypoint, or one for each service.
fn on_waypoint<'r>(plan: &mut Plan<'r>, targeted: &[&'r LoadedPolicy], topology: &Topology<'_>, waypoint: &Waypoint) {
    let (mut whole, mut services): (Vec<&LoadedPolicy>, Vec<(Location, Vec<&LoadedPolicy>)>) = (Vec::new(), Vec::new());
    for resource in targeted {
        let namespace = &resource.policy.name.namespace;
        for meaning in topology.meanings(&resource.policy) {
            match meaning {
                ResolvedTarget::Waypoint if !whole.iter().any(|other| std::ptr::eq(*other, *resource)) => {
                    whole.push(resource)
                }
                ResolvedTarget::Service(attachment) => {
                    let place = Location { namespace: namespace.clone(), attachment };
                    match services.iter_mut().find(|(other, _)| *other == place) {
                        Some((_, policies)) if policies.iter().any(|other| std::ptr::eq(*other, *resource)) => {}
                        Some((_, policies)) => policies.push(resource),
                        None => services.push((place, vec![resource])),
                    }
                }
                ResolvedTarget::Waypoint
                | ResolvedTarget::Gateway(_)
                | ResolvedTarget::NoWaypointGiven
                | ResolvedTarget::Nothing => {}
            }
        }
    }
    if let (Some(resource), Some((_, of_service))) = (whole.first(), services.first()) {
        let other = of_service.first().map(|other| other.policy.name.to_string()).unwrap_or_default();
        plan.refused.push(refusal(
            resource,
            &format!("is for a whole waypoint, and policy {other} for one service of it: a filter has to know both"),
            "name all the waypoint's services in its targetRefs instead",
        ));
        return;
    }
    let is_of_class = |resource: &&&LoadedPolicy| match &resource.policy.target {
        Target::References(references) => references.iter().any(|r| r.kind == TargetKind::GatewayClass),
        Target::Everything | Target::Labels(_) => false,
    };
    plan.for_one_waypoint.extend(whole.iter().filter(is_of_class));
    let gateway = Gateway { name: waypoint.name.clone(), waypoint: true, ..Gateway::default() };
    let everything =
        Location { namespace: waypoint.namespace.clone(), attachment: Attachment::Gateway(waypoint.name.clone()) };
    if !whole.is_empty() || !services.is_empty() {
        plan.needs_filter_state.push(everything.clone());
    }
    if !whole.is_empty() {
        plan.instances.push(Instance {
            place: everything,
            traffic: Direction::Any,
            waypoint: Some(gateway.clone()),
            policies: whole,
            reaches_further: false,
        });
    }
    services.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (place, policies) in services {
        let mut gateway = gateway.clone();
        let service = |name: &String| vec![ServiceName { namespace: place.namespace.clone(), name: name.clone() }];
        match &place.attachment {
            Attachment::Service(name) => gateway.services = service(name),
            Attachment::ServiceEntry(name) => gateway.service_entries = service(name),
            Attachment::Selector(_) | Attachment::Gateway(_) => {}
        }
        plan.instances.push(Instance {
            place,
            traffic: Direction::Any,
            waypoint: Some(gateway),
            policies,
            reaches_further: false,
        });
    }
}

fn refusal(resource: &LoadedPolicy, message: &str, hint: &str) -> Finding {
    let field = |name| resource.node.get("spec").is_some_and(|spec| spec.get(name).is_some());
    let name = if field("targetRef") { "targetRef" } else { "targetRefs" };
    let diagnostic = Diagnostic {
        policy: Some(resource.policy.name.to_string()),
        path: Path(["spec", name].map(|name| Segment::Field(name.to_owned())).into()),
        message: message.to_owned(),
        hint: Some(hint.to_owned()),
        ..Diagnostic::default()
    };
    Finding::error(&resource.source, &resource.node, diagnostic)
}
