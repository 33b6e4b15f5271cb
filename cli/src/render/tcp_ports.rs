//! The ports on which a plugin for connections decides, in a cluster: those that Services name as TCP.
//!
//! Istio loads such a plugin before connection managers, too. So it must not be on a port on which HTTP can come: there it
//! would decide about requests by the rules for TCP.

use std::collections::{BTreeMap, BTreeSet};

use mesh_authz::diagnostic::{Diagnostic, Part, Path, Segment};
use mesh_authz::document::{Node, Value, whole_number};
use mesh_authz::policy::{DEFAULT_NAMESPACE, Labels};

use super::instances::{Attachment, Instance};
use crate::lint::{DeclaredProtocol, has_labels_of_a_gateway, protocol_of_service_port};
use crate::load::finding::Finding;
use crate::load::{Other, items};

/// The ports of the workloads on which this instance is loaded. There are none on gateways and waypoints.
///
/// # Errors
/// A port can be for HTTP, or nobody knows its number.
pub fn of(instance: &Instance<'_>, others: &[Other], root_namespace: &str) -> Result<BTreeSet<u16>, Vec<Finding>> {
    let Attachment::Selector(selected) = &instance.place.attachment else { return Ok(BTreeSet::new()) };
    let selected: Labels = selected.iter().cloned().collect();
    if instance.waypoint.is_some() || has_labels_of_a_gateway(&selected) {
        return Ok(BTreeSet::new());
    }
    let namespace = &instance.place.namespace;
    let is_near = |service: &&Other| {
        let own = service.node.at(&Path::of(["metadata", "namespace"])).and_then(Node::as_str);
        namespace == root_namespace || own.unwrap_or(DEFAULT_NAMESPACE) == namespace
    };
    let services = others.iter().filter(|other| other.text("kind") == "Service" && other.text("apiVersion") == "v1");
    let mut ports: BTreeMap<u16, Vec<(&Other, usize, DeclaredProtocol)>> = BTreeMap::new();
    let mut findings = Vec::new();
    for service in services.filter(is_near) {
        let selector = selector(&service.node);
        if selector.is_empty() || selector.exclude(&selected) {
            continue;
        }
        for (index, port) in items(service.node.at(&Path::of(["spec", "ports"]))).iter().enumerate() {
            if port.get("protocol").and_then(Node::as_str).is_some_and(|protocol| protocol != "TCP") {
                continue;
            }
            let protocol = protocol_of_service_port(port);
            match number(port) {
                Some(number) => ports.entry(number).or_default().push((service, index, protocol)),
                None if protocol == DeclaredProtocol::Http => {}
                None => findings.push(error(
                    service,
                    index,
                    "`targetPort` is the name of a container's port, whose number nobody tells here",
                    "write the number as `targetPort`",
                )),
            }
        }
    }
    let mut for_tcp = BTreeSet::new();
    for (number, declared) in ports {
        if declared.iter().all(|(.., protocol)| *protocol == DeclaredProtocol::Http) {
            continue;
        }
        let other = declared.iter().find(|(.., protocol)| *protocol != DeclaredProtocol::Tcp);
        let Some((service, index, protocol)) = other else {
            for_tcp.insert(number);
            continue;
        };
        let what = match protocol {
            DeclaredProtocol::Http => "this port is for HTTP here, and another Service names it as TCP",
            DeclaredProtocol::Detected | DeclaredProtocol::Tcp => {
                "Istio detects the protocol of this port, so HTTP can come there"
            }
        };
        findings.push(error(
            service,
            *index,
            &format!("{what}: a plugin for connections would decide about its requests by the rules for TCP"),
            "say in `appProtocol` what comes there, such as tcp or http; or leave out --network-plugin",
        ));
    }
    if findings.is_empty() { Ok(for_tcp) } else { Err(findings) }
}

fn selector(service: &Node) -> Labels {
    let Some(node) = service.at(&Path::of(["spec", "selector"])) else { return Labels::default() };
    let Value::Map(entries) = &node.value else { return Labels::default() };
    entries.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// The port of the workload. `None`: it has a name.
fn number(port: &Node) -> Option<u16> {
    let target = port.get("targetPort").or_else(|| port.get("port"))?;
    u16::try_from(whole_number(target, u16::MAX.into())?).ok()
}

fn error(service: &Other, index: usize, message: &str, hint: &str) -> Finding {
    let mut path = Path::of(["spec", "ports"]);
    path.0.push(Segment::Index(index));
    let name = service.node.at(&Path::of(["metadata", "name"])).and_then(Node::as_str).unwrap_or_default();
    let message = format!("Service {name}: {message}");
    let diagnostic =
        Diagnostic { path, part: Part::Value, message, hint: Some(hint.to_owned()), ..Diagnostic::default() };
    Finding::error(&service.source, &service.node, diagnostic)
}
