//! What the input says about TCP traffic of the workloads that a policy is for.

use std::collections::BTreeMap;

use mesh_authz::diagnostic::Path;
use mesh_authz::document::Node;
use mesh_authz::policy::scope::GATEWAY_NAME_LABEL;
use mesh_authz::policy::{AuthorizationPolicy, Labels, Target, TargetKind, TargetReference};

use super::Input;
use super::other_resources::{NamedKind, labels, labels_of_workload, namespace, number};
use crate::load::{Other, items};

/// What is known of the TCP traffic of a policy's workloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tcp {
    /// There is some: on this port, or on this listener.
    Has(String),
    /// Nothing in the input says that there is any, and usually there is none: all ports are declared as HTTP, or the
    /// workloads are gateways, which listen only as other resources say.
    HttpOnly,
    /// A sidecar, and the input does not declare its ports.
    Unknown,
}

/// The ports of Services and the listeners of gateways in the input.
pub(super) struct Traffic<'r> {
    /// The listeners of each gateway that is selected by labels.
    by_labels: Vec<(Labels, Vec<Port>)>,
    /// The listeners of each Gateway of the Gateway API, by namespace and name.
    gateways: BTreeMap<(&'r str, &'r str), Vec<Port>>,
    /// The Services of each namespace.
    services: BTreeMap<&'r str, Vec<Service<'r>>>,
    /// The hosts outside the mesh, by namespace and name.
    entries: BTreeMap<(&'r str, &'r str), Vec<Port>>,
}

struct Service<'r> {
    name: &'r str,
    selector: Labels,
    ports: Vec<Port>,
}

/// A port that a resource declares.
#[derive(Clone, Debug)]
struct Port {
    name: String,
    protocol: DeclaredProtocol,
}

/// What a port is declared to be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeclaredProtocol {
    Http,
    Tcp,
    /// Envoy finds out for each connection.
    Detected,
}

impl<'r> Traffic<'r> {
    pub(super) fn new(input: &Input<'r>) -> Self {
        let key = |other: &'r Other| Some((namespace(&other.node), other.name()?));
        let istio = NamedKind::IstioGateway.all(input).map(|other| {
            (labels(&other.node, &Path::of(["spec", "selector"])), ports(other, ["spec", "servers"], of_server))
        });
        let injected = input.resources.others.iter().filter_map(injected_gateway).map(|labels| (labels, Vec::new()));
        let mut services = BTreeMap::<_, Vec<_>>::new();
        for other in NamedKind::Service.all(input) {
            let selector = labels(&other.node, &Path::of(["spec", "selector"]));
            let Some(name) = other.name() else { continue };
            let ports = ports(other, ["spec", "ports"], of_service_port);
            services.entry(namespace(&other.node)).or_default().push(Service { name, selector, ports });
        }
        let gateways = NamedKind::Gateway.all(input);
        let entries = NamedKind::ServiceEntry.all(input);
        Self {
            by_labels: istio.chain(injected).filter(|(labels, _)| !labels.is_empty()).collect(),
            gateways: gateways
                .filter_map(|other| Some((key(other)?, ports(other, ["spec", "listeners"], of_listener))))
                .collect(),
            services,
            entries: entries
                .filter_map(|other| Some((key(other)?, ports(other, ["spec", "ports"], of_entry))))
                .collect(),
        }
    }

    pub(super) fn of(&self, policy: &AuthorizationPolicy) -> Tcp {
        let namespace = policy.name.namespace.as_str();
        match &policy.target {
            Target::References(references) => {
                sum(references.iter().map(|reference| self.of_reference(namespace, reference)))
            }
            Target::Labels(labels) if self.is_gateway(labels) => {
                let selected = self.by_labels.iter().filter(|(of_gateway, _)| agree(of_gateway, labels));
                let made = labels.iter().filter(|(key, _)| key == GATEWAY_NAME_LABEL);
                let made = made.filter_map(|(_, name)| self.gateways.get(&(namespace, name.as_str())));
                let listeners = selected.map(|(_, ports)| ports).chain(made).flatten();
                sum(listeners.filter(|port| port.protocol == DeclaredProtocol::Tcp).map(Port::tcp))
            }
            Target::Everything if is_for_gateways(namespace) => {
                let made = self.gateways.iter().filter(|((of, _), _)| *of == namespace).map(|(_, ports)| ports);
                let selected = self.by_labels.iter().map(|(_, ports)| ports);
                let listeners = made.chain(selected).flatten();
                sum(listeners.filter(|port| port.protocol == DeclaredProtocol::Tcp).map(Port::tcp))
            }
            target => {
                let of_target = |service: &&Service<'_>| match target {
                    Target::Labels(labels) => agree(&service.selector, labels),
                    _ => !service.selector.is_empty(),
                };
                let services = self.services.get(namespace).into_iter().flatten().filter(of_target);
                let mut ports = services.flat_map(Service::tcp).peekable();
                if ports.peek().is_none() { Tcp::Unknown } else { sum(ports) }
            }
        }
    }

    /// Whether the labels are those of a gateway: as Istio's charts give them, or as the input says.
    pub(super) fn is_gateway(&self, wanted: &Labels) -> bool {
        is_gateway(wanted) || self.by_labels.iter().any(|(of_gateway, _)| agree(of_gateway, wanted))
    }

    fn of_reference(&self, namespace: &str, reference: &TargetReference) -> Tcp {
        let name = reference.name.as_str();
        let of = |ports: &[Port]| sum(ports.iter().map(Port::tcp));
        match reference.kind {
            TargetKind::Gateway => match self.gateways.get(&(namespace, name)) {
                Some(listeners) => of(listeners),
                None => Tcp::HttpOnly,
            },
            // A waypoint is for services that the input may not have.
            TargetKind::GatewayClass => Tcp::HttpOnly,
            TargetKind::ServiceEntry => self.entries.get(&(namespace, name)).map_or(Tcp::Unknown, |ports| of(ports)),
            TargetKind::Service => {
                let mut services = self.services.get(namespace).into_iter().flatten();
                services.find(|service| service.name == name).map_or(Tcp::Unknown, |service| sum(service.tcp()))
            }
        }
    }
}

impl Service<'_> {
    fn tcp(&self) -> impl Iterator<Item = Tcp> {
        self.ports.iter().map(|port| match port.tcp() {
            Tcp::Has(port) => Tcp::Has(format!("{port} of the Service `{}`", self.name)),
            other => other,
        })
    }
}

impl Port {
    fn tcp(&self) -> Tcp {
        match self.protocol {
            DeclaredProtocol::Http => Tcp::HttpOnly,
            DeclaredProtocol::Tcp => Tcp::Has(self.name.clone()),
            DeclaredProtocol::Detected => Tcp::Unknown,
        }
    }
}

/// What is known of several together. Nothing is known of none.
fn sum(all: impl Iterator<Item = Tcp>) -> Tcp {
    all.fold(Tcp::HttpOnly, |one, other| match (&one, &other) {
        (Tcp::Has(_), _) | (_, Tcp::HttpOnly) => one,
        _ => other,
    })
}

/// Whether a workload can have both sets of labels, which have one in common.
fn agree(one: &Labels, other: &Labels) -> bool {
    !one.exclude(other) && one.iter().any(|label| other.contains(label))
}

/// Whether the workloads are gateways, to which clients may connect without a proxy in between.
pub(super) fn may_be_reached_directly(target: &Target) -> bool {
    match target {
        Target::Labels(labels) => is_gateway(labels),
        Target::References(references) => references.iter().all(|reference| reference.kind == TargetKind::Gateway),
        Target::Everything => false,
    }
}

/// Whether the labels are among those that gateways usually have.
#[must_use]
pub fn is_gateway(labels: &Labels) -> bool {
    labels.iter().any(|(key, value)| is_gateway_label(key, value))
}

/// Whether a namespace has the name of one that is for gateways only.
fn is_for_gateways(namespace: &str) -> bool {
    ["ingress", "egress", "gateway"].iter().any(|word| namespace.contains(word))
}

/// Whether Istio's charts, or its controller for the Gateway API, give this label to gateways. A gateway between clusters
/// is none of them: it passes TLS on.
fn is_gateway_label(key: &str, value: &str) -> bool {
    match key {
        GATEWAY_NAME_LABEL => true,
        "istio" => !["pilot", "istiod"].contains(&value) && !value.starts_with("eastwest"),
        "app" | "app.kubernetes.io/name" => {
            let is_istio =
                value.starts_with("istio-") && ["gateway", "ingress", "egress"].iter().any(|word| value.contains(word));
            (is_istio || value.ends_with("ingressgateway") || value.ends_with("egressgateway"))
                && !value.contains("eastwest")
        }
        _ => false,
    }
}

/// The labels of a workload into which Istio injects a gateway.
fn injected_gateway(other: &Other) -> Option<Labels> {
    let path = labels_of_workload(other)?;
    let mut annotations = path.clone();
    annotations.0.pop();
    let templates = other.node.at(&annotations.with("annotations").with("inject.istio.io/templates"))?.as_str()?;
    templates.split(',').any(|template| template.trim() == "gateway").then(|| labels(&other.node, &path))
}

/// The ports that a resource declares at a path. Policies are not about UDP.
fn ports(other: &Other, path: [&str; 2], read: fn(&Node) -> Port) -> Vec<Port> {
    items(other.node.at(&Path::of(path))).iter().filter(|node| text(node, "protocol") != "UDP").map(read).collect()
}

fn text<'n>(node: &'n Node, field: &str) -> &'n str {
    node.get(field).and_then(Node::as_str).unwrap_or_default()
}

fn port_number(node: &Node, field: &str) -> String {
    node.get(field).and_then(number).map_or_else(|| "a port".to_owned(), |number| number.to_string())
}

/// A listener of a Gateway of the Gateway API.
fn of_listener(listener: &Node) -> Port {
    let protocol = match text(listener, "protocol") {
        "TCP" | "TLS" => DeclaredProtocol::Tcp,
        _ => DeclaredProtocol::Http,
    };
    Port { name: format!("the listener `{}`", text(listener, "name")), protocol }
}

/// A server of an Istio Gateway.
fn of_server(server: &Node) -> Port {
    let port = server.get("port").unwrap_or(server);
    let is_passed_on = server.get("tls").is_some_and(|tls| text(tls, "mode").ends_with("PASSTHROUGH"));
    let protocol = match text(port, "protocol").to_ascii_uppercase().as_str() {
        "TCP" | "TLS" | "MONGO" | "MYSQL" | "REDIS" => DeclaredProtocol::Tcp,
        _ if is_passed_on => DeclaredProtocol::Tcp,
        _ => DeclaredProtocol::Http,
    };
    Port { name: format!("{} of a Gateway", port_number(port, "number")), protocol }
}

fn of_service_port(port: &Node) -> Port {
    Port { name: port_number(port, "port"), protocol: protocol_of_service_port(port) }
}

/// What a port of a Service is for. The application protocol counts, and otherwise the beginning of the name.
#[must_use]
pub fn protocol_of_service_port(port: &Node) -> DeclaredProtocol {
    declared_protocol(match text(port, "appProtocol") {
        "" => text(port, "name"),
        protocol => protocol,
    })
}

/// A port of a `ServiceEntry`.
fn of_entry(port: &Node) -> Port {
    Port { name: port_number(port, "number"), protocol: declared_protocol(text(port, "protocol")) }
}

/// What Istio makes of an application protocol, or of the name of a port. It passes on what is already TLS.
fn declared_protocol(declared: &str) -> DeclaredProtocol {
    let declared = declared.to_ascii_lowercase();
    let declared = declared.strip_prefix("kubernetes.io/").unwrap_or(&declared);
    let is = |known: &[&str]| {
        known
            .iter()
            .any(|known| declared.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')))
    };
    if is(&["https", "tcp", "tls", "mongo", "mysql", "redis"]) {
        DeclaredProtocol::Tcp
    } else if is(&["http", "http2", "grpc", "grpc-web", "h2c", "ws"]) {
        DeclaredProtocol::Http
    } else {
        DeclaredProtocol::Detected
    }
}
