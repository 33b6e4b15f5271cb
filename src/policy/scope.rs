//! Which policies a workload has to obey, and why it does not have to obey the others.
//!
//! A policy that applies to nothing is the classic silent hole: [`scope`] gives a reason with every answer, and the
//! filter logs it for every policy.

use std::fmt;
use std::ops::Deref;

use super::{AuthorizationPolicy, Target, TargetKind, TargetReference};
use crate::diagnostic::Diagnostics;

/// The label that makes a workload an instance of a gateway.
pub const GATEWAY_NAME_LABEL: &str = "gateway.networking.k8s.io/gateway-name";

/// The label that says who manages a gateway, and what it says of a waypoint.
const MANAGED_LABEL: &str = "gateway.istio.io/managed";
const WAYPOINT_CONTROLLER: &str = "istio.io-mesh-controller";

/// The gateway class whose policies are for every waypoint.
pub const WAYPOINT_CLASS: &str = "istio-waypoint";

/// The labels of a workload, or those that a selector asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Vec<(String, String)>);

impl Labels {
    /// The value of a label.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(other, _)| other == key).map(|(_, value)| value.as_str())
    }

    /// Whether all of the other labels are among these.
    #[must_use]
    pub fn include(&self, wanted: &Self) -> bool {
        wanted.iter().all(|label| self.contains(label))
    }

    /// Whether both have a label of one key with different values, so that no workload can have all of them.
    #[must_use]
    pub fn exclude(&self, other: &Self) -> bool {
        self.iter()
            .any(|(key, value)| other.iter().any(|(other_key, other_value)| key == other_key && value != other_value))
    }
}

impl Deref for Labels {
    type Target = [(String, String)];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<'l> IntoIterator for &'l Labels {
    type Item = &'l (String, String);
    type IntoIter = std::slice::Iter<'l, (String, String)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl From<Vec<(String, String)>> for Labels {
    fn from(labels: Vec<(String, String)>) -> Self {
        Self(labels)
    }
}

impl FromIterator<(String, String)> for Labels {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(labels: I) -> Self {
        Self(labels.into_iter().collect())
    }
}

/// The workload that a filter protects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// Its namespace.
    pub namespace: String,
    /// Its labels; `None`: unknown.
    pub labels: Option<Labels>,
    /// Set if it is a gateway or a waypoint.
    pub gateway: Option<Gateway>,
    /// The namespace whose policies are for every workload.
    pub root_namespace: String,
}

/// A workload that target references can name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gateway {
    /// The name of the Gateway.
    pub name: String,
    /// Whether it is a waypoint, which serves services instead of listening for the outside.
    pub waypoint: bool,
    /// The Services that a waypoint serves.
    pub services: Vec<ServiceName>,
    /// The `ServiceEntries` that a waypoint serves.
    pub service_entries: Vec<ServiceName>,
}

/// A Service or `ServiceEntry` behind a waypoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Workload {
    /// A workload. Its gateway, unless it is given, is the one that its labels name; reports where the two contradict each
    /// other, since one of them would then silently lose policies.
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
                "set `gateway`, with `waypoint: true` and the service that this filter protects",
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
        Self { namespace, labels, gateway, root_namespace }
    }

    /// What a resource with this target has that needs the labels of this workload, if these are unknown. Without them a
    /// policy with a selector would apply to nothing, and so would one for a gateway, and nobody would notice.
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

/// What of a resource can only be decided with the labels of the workload.
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

/// Whether a policy applies to a workload; prints as the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// It does.
    Applies,
    /// Its namespace is neither the workload's nor the root namespace.
    OtherNamespace,
    /// The workload lacks a label of its selector.
    OtherLabels,
    /// It is for gateways and waypoints, and the workload is neither.
    OnlyForGateways,
    /// It names another gateway, service or class.
    OtherTarget,
    /// A waypoint obeys only policies with a target reference.
    WaypointNeedsTarget,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Applies => "applies",
            Self::OtherNamespace => "does not apply: it is for another namespace",
            Self::OtherLabels => "does not apply: its selector names labels that this workload does not carry",
            Self::OnlyForGateways => "does not apply: its target reference is for a gateway or waypoint",
            Self::OtherTarget => "does not apply: its target reference names something else",
            Self::WaypointNeedsTarget => "does not apply: a waypoint obeys only policies with a target reference",
        })
    }
}

/// Whether the policy applies to the workload.
#[must_use]
pub fn scope(policy: &AuthorizationPolicy, workload: &Workload) -> Scope {
    scope_of(&policy.name.namespace, &policy.target, workload)
}

/// Whether a resource of this namespace with this target applies to the workload.
#[must_use]
pub fn scope_of(namespace: &str, target: &Target, workload: &Workload) -> Scope {
    match (target, &workload.gateway) {
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

/// Which workloads a resource is for: what it says itself.
#[derive(Clone, Copy, Debug)]
pub struct Reach<'r> {
    /// Its namespace.
    pub namespace: &'r str,
    /// Which workloads in it, or everywhere from the root namespace.
    pub target: &'r Target,
}

impl AuthorizationPolicy {
    /// Which workloads it is for.
    #[must_use]
    pub fn reach(&self) -> Reach<'_> {
        Reach { namespace: &self.name.namespace, target: &self.target }
    }
}

/// Whether the first resource applies to every workload to which the second one does.
#[must_use]
pub fn covers(wider: Reach<'_>, narrower: Reach<'_>, root_namespace: &str) -> bool {
    let same_namespace = wider.namespace == narrower.namespace;
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

/// Whether there can be a workload to which both resources apply.
#[must_use]
pub fn may_meet(one: Reach<'_>, other: Reach<'_>, root_namespace: &str) -> bool {
    // A waypoint serves services of other namespaces than its own.
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
    let serves = |services: &[ServiceName]| {
        gateway.waypoint && services.iter().any(|s| s.name == reference.name && s.namespace == namespace)
    };
    match reference.kind {
        TargetKind::Service => serves(&gateway.services),
        TargetKind::ServiceEntry => serves(&gateway.service_entries),
        TargetKind::Gateway => namespace == workload.namespace && reference.name == gateway.name,
        TargetKind::GatewayClass => {
            gateway.waypoint && namespace == workload.root_namespace && reference.name == WAYPOINT_CLASS
        }
    }
}
