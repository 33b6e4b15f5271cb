//! The Gateways of the input: which of them are waypoints.
//!
//! Istio starts the proxy of a Gateway as a gateway or as a waypoint. That depends on the controller of the Gateway's class.
//! Istio makes some classes itself. A `GatewayClass` in the cluster can name one of the same controllers.

use std::collections::BTreeMap;

use mesh_authz::diagnostic::Path;
use mesh_authz::document::Node;
use mesh_authz::policy::DEFAULT_NAMESPACE;
use mesh_authz::policy::scope::WAYPOINT_CLASS;

use crate::load::Other;
use crate::load::finding::SourceText;

/// The group of the Gateway API.
const GROUP: &str = "gateway.networking.k8s.io";

/// The classes that Istio makes itself, each with its controller.
const CLASSES: [(&str, &str); 6] = [
    ("istio", "istio.io/gateway-controller"),
    ("istio-remote", "istio.io/unmanaged-gateway"),
    (WAYPOINT_CLASS, "istio.io/mesh-controller"),
    ("istio-east-west", "istio.io/eastwest-controller"),
    ("istio-agentgateway", "istio.io/agentgateway-controller"),
    ("istio-agentgateway-waypoint", "istio.io/agentgateway-waypoint-controller"),
];

/// What runs for a Gateway. If the input has several Gateways of one name, such as those of two environments, the one whose
/// role is the last in this list counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A proxy that is no Envoy: it loads no filter.
    NoEnvoy,
    /// No waypoint.
    Gateway,
    /// The input does not say what the class is.
    Unknown,
    /// A waypoint between networks. It passes on all traffic as TCP.
    EastWest,
    /// A waypoint.
    Waypoint,
}

impl Role {
    fn of_controller(controller: &str) -> Self {
        match controller {
            "istio.io/mesh-controller" => Self::Waypoint,
            "istio.io/eastwest-controller" => Self::EastWest,
            "istio.io/agentgateway-controller" | "istio.io/agentgateway-waypoint-controller" => Self::NoEnvoy,
            _ => Self::Gateway,
        }
    }

    /// Whether Istio starts the proxy as a waypoint.
    #[must_use]
    pub fn is_waypoint(self) -> bool {
        matches!(self, Self::Waypoint | Self::EastWest)
    }
}

/// A Gateway of the input.
#[derive(Clone, Copy, Debug)]
pub struct Known<'m> {
    /// `spec.gatewayClassName`.
    pub class: &'m str,
    /// What the class says about the proxy.
    pub role: Role,
    /// The text that contains the Gateway.
    pub source: &'m SourceText,
}

/// The Gateways of the input, by namespace and name.
#[derive(Clone, Debug, Default)]
pub struct Gateways<'m>(BTreeMap<(&'m str, &'m str), Known<'m>>);

impl<'m> Gateways<'m> {
    /// The Gateways among these resources.
    #[must_use]
    pub fn new(others: &'m [Other]) -> Self {
        let of_kind = |kind: &'static str| others.iter().filter(move |other| is(other, kind));
        let role = |class: &str| {
            let of_input = of_kind("GatewayClass").filter(|other| other.name() == Some(class));
            let of_input = of_input.filter_map(|other| spec(other, "controllerName").map(Role::of_controller)).max();
            let of_istio = CLASSES.iter().find(|(name, _)| *name == class);
            // In a cluster, a `GatewayClass` counts before what Istio would make.
            of_input
                .or_else(|| of_istio.map(|(_, controller)| Role::of_controller(controller)))
                .unwrap_or(Role::Unknown)
        };
        let mut gateways = Self::default();
        for other in of_kind("Gateway") {
            // A patch for a Gateway may have no class.
            let Some((name, class)) = other.name().zip(spec(other, "gatewayClassName")) else { continue };
            let namespace = other.node.at(&Path::of(["metadata", "namespace"])).and_then(Node::as_str);
            let namespace = namespace.filter(|namespace| !namespace.is_empty()).unwrap_or(DEFAULT_NAMESPACE);
            let known = Known { class, role: role(class), source: &other.source };
            let found = gateways.0.entry((namespace, name)).or_insert(known);
            if found.role < known.role {
                *found = known;
            }
        }
        gateways
    }

    /// The Gateway with this name. `None`: the input does not have it.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Known<'m>> {
        self.0.get(&(namespace, name)).copied()
    }

    /// The names of the Gateways in a namespace.
    pub fn names(&self, namespace: &str) -> impl Iterator<Item = &'m str> {
        self.0.keys().filter(move |(of, _)| *of == namespace).map(|(_, name)| *name)
    }

    /// The namespace and the name of each Gateway that loads no filter.
    pub fn without_envoy(&self) -> impl Iterator<Item = (&'m str, &'m str)> {
        self.0.iter().filter(|(_, known)| known.role == Role::NoEnvoy).map(|(name, _)| *name)
    }

    /// The namespace and the name of each waypoint that decides about HTTP.
    pub fn waypoints(&self) -> impl Iterator<Item = (&'m str, &'m str)> {
        self.0.iter().filter(|(_, known)| known.role == Role::Waypoint).map(|(name, _)| *name)
    }
}

fn is(other: &Other, kind: &str) -> bool {
    let group = other.text("apiVersion").split_once('/').map(|(group, _)| group);
    other.text("kind") == kind && group == Some(GROUP)
}

fn spec<'m>(other: &'m Other, field: &str) -> Option<&'m str> {
    other.node.at(&Path::of(["spec", field]))?.as_str()
}
