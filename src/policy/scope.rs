//! Which policies apply to a workload, and why the others do not.
//!
//! A policy that applies to nothing is the classic security hole that nobody notices. So [`scope`] gives a reason with
//! every answer, and the filter logs that reason for every policy.

use std::fmt;

use super::{AuthorizationPolicy, Labels, Target, TargetKind, TargetReference};
use crate::diagnostic::Diagnostics;

/// The label that makes a workload an instance of a gateway. Its value is the name of the Gateway.
pub const GATEWAY_NAME_LABEL: &str = "gateway.networking.k8s.io/gateway-name";

/// The label that says who manages a gateway.
const MANAGED_LABEL: &str = "gateway.istio.io/managed";
/// The value of that label on a waypoint.
const WAYPOINT_CONTROLLER: &str = "istio.io-mesh-controller";

/// The gateway class of waypoints. A policy that targets this class is for every waypoint.
pub const WAYPOINT_CLASS: &str = "istio-waypoint";

/// The workload that a filter protects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// The namespace of the workload.
    pub namespace: String,
    /// The labels of the workload. `None`: they are unknown.
    pub labels: Option<Labels>,
    /// Set if the workload is a gateway or a waypoint.
    pub gateway: Option<Gateway>,
    /// The root namespace of the mesh: its policies are for every workload.
    pub root_namespace: String,
    /// The revision of the control plane that configures the workload. `None`: policies of all revisions are for it.
    pub revision: Option<String>,
}

/// A gateway or a waypoint: a workload that target references can name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gateway {
    /// The name of the Gateway resource.
    pub name: String,
    /// Whether it is a waypoint. A waypoint serves services and does not listen for traffic from outside.
    pub waypoint: bool,
    /// The Services that a waypoint serves.
    pub services: Vec<ServiceName>,
    /// The `ServiceEntry` resources that a waypoint serves.
    pub service_entries: Vec<ServiceName>,
}

/// A Service or `ServiceEntry` behind a waypoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceName {
    /// The namespace of the service.
    pub namespace: String,
    /// The name of the service in its namespace.
    pub name: String,
    /// A host of the service, as the names of the waypoint's filter chains have it. `None`: every request is for this
    /// service.
    pub host: Option<String>,
}

impl Gateway {
    /// The services behind the waypoint. A service with several hosts is there several times.
    pub fn all_services(&self) -> impl Iterator<Item = (TargetKind, &ServiceName)> {
        let services = self.services.iter().map(|service| (TargetKind::Service, service));
        services.chain(self.service_entries.iter().map(|service| (TargetKind::ServiceEntry, service)))
    }

    /// Whether the host of a request's filter chain tells which service the request is for.
    #[must_use]
    pub fn has_hosts(&self) -> bool {
        self.all_services().any(|(_, service)| service.host.is_some())
    }
}

impl Workload {
    /// A workload that policies of all revisions are for. If `gateway` is `None`, the labels decide: they may name a
    /// gateway.
    ///
    /// Reports an error if the labels and `gateway` contradict each other. Otherwise the policies for one of the two
    /// would be silently lost.
    pub fn new(
        namespace: String,
        labels: Option<Labels>,
        gateway: Option<Gateway>,
        root_namespace: String,
        diagnostics: &mut Diagnostics,
    ) -> Self {
        let label = |key| labels.as_ref().and_then(|labels| labels.get(key));
        let is_waypoint = label(MANAGED_LABEL) == Some(WAYPOINT_CONTROLLER);
        if is_waypoint && !gateway.as_ref().is_some_and(|gateway| gateway.waypoint) {
            diagnostics.error_with_hint(
                "by its labels this workload is a waypoint",
                "set `gateway`, with `waypoint: true` and the services that policies name",
            );
        }
        let labelled = label(GATEWAY_NAME_LABEL);
        if let (Some(gateway), Some(name)) = (&gateway, labelled)
            && gateway.name != name
        {
            diagnostics.error_with_hint(
                format!(
                    "by its labels this workload is the gateway `{name}`, by `gateway.name` it is `{}`",
                    gateway.name
                ),
                "correct one of the two",
            );
        }
        let gateway = gateway.or_else(|| labelled.map(|name| Gateway { name: name.to_owned(), ..Gateway::default() }));
        Self { namespace, labels, gateway, root_namespace, revision: None }
    }

    /// The part of this target that needs the labels of the workload, if these labels are unknown.
    ///
    /// Without the labels, a policy with a selector or a policy for a gateway would apply to nothing, and nobody would
    /// notice.
    #[must_use]
    pub fn missing_labels(&self, target: &Target) -> Option<NeedsLabels> {
        match target {
            _ if self.labels.is_some() => None,
            Target::Labels(_) => Some(NeedsLabels::Selector),
            Target::References(_) if self.gateway.is_none() => Some(NeedsLabels::TargetReference),
            Target::References(_) | Target::Everything => None,
        }
    }
}

/// The part of a resource that can only be decided with the labels of the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeedsLabels {
    /// `selector`.
    Selector,
    /// `targetRef` or `targetRefs`.
    TargetReference,
}

impl fmt::Display for NeedsLabels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Selector => "a selector",
            Self::TargetReference => "a target reference",
        })
    }
}

/// Whether a policy applies to a workload. It prints as the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The policy applies.
    Applies,
    /// The policy is for the control plane of another revision.
    OtherRevision,
    /// The namespace of the policy is neither the workload's nor the root namespace.
    OtherNamespace,
    /// The workload lacks a label of the policy's selector.
    OtherLabels,
    /// The policy is for gateways and waypoints, and the workload is neither.
    OnlyForGateways,
    /// The policy names another gateway, service or class.
    OtherTarget,
    /// The workload is a waypoint, which obeys only policies with a target reference. This policy has none.
    WaypointNeedsTarget,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Applies => "applies",
            Self::OtherRevision => "does not apply: its label istio.io/rev names another revision",
            Self::OtherNamespace => "does not apply: it is for another namespace",
            Self::OtherLabels => "does not apply: its selector names labels that this workload does not carry",
            Self::OnlyForGateways => "does not apply: its target reference is for a gateway or waypoint",
            Self::OtherTarget => "does not apply: its target reference names something else",
            Self::WaypointNeedsTarget => "does not apply: a waypoint obeys only policies with a target reference",
        })
    }
}

/// Whether the policy applies to the workload, and if not, why.
#[must_use]
pub fn scope(policy: &AuthorizationPolicy, workload: &Workload) -> Scope {
    scope_of(policy.reach(), workload)
}

/// Whether a resource that is for these workloads applies to the workload, and if not, why.
#[must_use]
pub fn scope_of(Reach { namespace, target, revision }: Reach<'_>, workload: &Workload) -> Scope {
    match (target, &workload.gateway) {
        _ if revision.is_some_and(|revision| workload.revision.as_deref().is_some_and(|own| own != revision)) => {
            Scope::OtherRevision
        }
        (Target::References(_), None) => Scope::OnlyForGateways,
        (Target::References(references), Some(gateway)) => {
            let names = |reference| targets(reference, namespace, gateway, workload);
            if references.iter().any(names) { Scope::Applies } else { Scope::OtherTarget }
        }
        (_, Some(gateway)) if gateway.waypoint => Scope::WaypointNeedsTarget,
        _ if namespace != workload.namespace && namespace != workload.root_namespace => Scope::OtherNamespace,
        (Target::Everything, _) => Scope::Applies,
        (Target::Labels(wanted), _) => {
            let has_all = workload.labels.as_ref().is_some_and(|labels| labels.include(wanted));
            if has_all || wanted.is_empty() { Scope::Applies } else { Scope::OtherLabels }
        }
    }
}

/// The workloads that a resource is for, as the resource itself says.
#[derive(Clone, Copy, Debug)]
pub struct Reach<'r> {
    /// The namespace of the resource.
    pub namespace: &'r str,
    /// The workloads in that namespace or, if that is the root namespace, in all namespaces.
    pub target: &'r Target,
    /// The revision of the control plane that these workloads have. `None`: any.
    pub revision: Option<&'r str>,
}

impl AuthorizationPolicy {
    /// The workloads that the policy is for.
    #[must_use]
    pub fn reach(&self) -> Reach<'_> {
        Reach { namespace: &self.name.namespace, target: &self.target, revision: self.revision.as_deref() }
    }
}

/// Whether the wider resource applies to every workload that the narrower resource applies to.
#[must_use]
pub fn covers(wider: Reach<'_>, narrower: Reach<'_>, root_namespace: &str) -> bool {
    let same_namespace = wider.namespace == narrower.namespace;
    if wider.revision.is_some() && wider.revision != narrower.revision {
        return false;
    }
    match (wider.target, narrower.target) {
        // A waypoint obeys only policies with a target reference.
        (Target::References(wider), Target::References(references)) => {
            same_namespace && references.iter().all(|reference| wider.contains(reference))
        }
        (Target::References(_), _) | (_, Target::References(_)) => false,
        _ if !same_namespace && wider.namespace != root_namespace => false,
        (Target::Everything, _) => true,
        (Target::Labels(_), Target::Everything) => false,
        (Target::Labels(wider), Target::Labels(labels)) => labels.include(wider),
    }
}

/// Whether a workload can exist that both resources apply to.
#[must_use]
pub fn may_meet(one: Reach<'_>, other: Reach<'_>, root_namespace: &str) -> bool {
    if one.revision.zip(other.revision).is_some_and(|(one, other)| one != other) {
        return false;
    }
    // A waypoint also serves services of namespaces other than its own.
    if matches!((one.target, other.target), (Target::References(_), Target::References(_))) {
        return true;
    }
    let near = one.namespace == other.namespace || [one.namespace, other.namespace].contains(&root_namespace);
    near && match (one.target, other.target) {
        (Target::Labels(labels), Target::Labels(others)) => !labels.exclude(others),
        _ => true,
    }
}

fn targets(reference: &TargetReference, namespace: &str, gateway: &Gateway, workload: &Workload) -> bool {
    match reference.kind {
        TargetKind::Service | TargetKind::ServiceEntry => {
            gateway.waypoint && gateway.all_services().any(|service| names(reference, namespace, service))
        }
        TargetKind::Gateway => namespace == workload.namespace && reference.name == gateway.name,
        TargetKind::GatewayClass => {
            gateway.waypoint && namespace == workload.root_namespace && reference.name == WAYPOINT_CLASS
        }
    }
}

/// Whether a reference of a policy in this namespace names the service.
fn names(reference: &TargetReference, namespace: &str, (kind, service): (TargetKind, &ServiceName)) -> bool {
    reference.kind == kind && reference.name == service.name && namespace == service.namespace
}

/// Calls `visit` with every service that a policy on a waypoint is for: its name and, if the waypoint has it, its first
/// position in [`Gateway::all_services`]. Returns false if the policy is not for single services, or if the filter does
/// not tell services apart.
pub fn for_each_service<'p>(
    policy: &'p AuthorizationPolicy,
    workload: &Workload,
    visit: &mut dyn FnMut(&'p str, Option<usize>),
) -> bool {
    let (Target::References(references), Some(gateway)) = (&policy.target, &workload.gateway) else { return false };
    let namespace = policy.name.namespace.as_str();
    let is_whole =
        |reference: &TargetReference| !reference.kind.is_service() && targets(reference, namespace, gateway, workload);
    if !gateway.has_hosts() || references.iter().any(is_whole) {
        return false;
    }
    for reference in references.iter().filter(|reference| reference.kind.is_service()) {
        visit(&reference.name, gateway.all_services().position(|service| names(reference, namespace, service)));
    }
    true
}
