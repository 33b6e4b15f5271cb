//! `gateway`: the gateway or waypoint that the filter protects, and the services behind a waypoint.

use super::read::{name, required};
use crate::diagnostic::Diagnostics;
use crate::document::{Node, Object, Value, boolean, list_of_some};
use crate::policy::resource;
use crate::policy::scope::{Gateway, ServiceName};
use crate::policy::waypoint::{self, ServicesByHost};

/// Reads a gateway: `{name, waypoint, services, serviceEntries}`. `namespace` is the namespace of the workload.
pub fn gateway(node: &Node, namespace: &str, diagnostics: &mut Diagnostics) -> Option<Gateway> {
    let mut object = Object::open(node, diagnostics)?;
    let gateway_name = required(&mut object, "name", diagnostics);
    let waypoint = object.read("waypoint", diagnostics, boolean).flatten().unwrap_or(false);
    let mut services = |field| {
        let is_of_cluster = field == "services";
        let read = |node: &Node, diagnostics: &mut Diagnostics| service(node, namespace, is_of_cluster, diagnostics);
        let services = object.read(field, diagnostics, |node, diagnostics| list_of_some(node, diagnostics, read));
        services.unwrap_or_default()
    };
    let (services, service_entries) = (services("services"), services("serviceEntries"));
    let count = services.len().saturating_add(service_entries.len());
    if count > 0 && !waypoint {
        diagnostics.error_with_hint("only a waypoint has services", "set `waypoint: true`");
    }
    let gateway = Gateway { name: String::new(), waypoint, services, service_entries };
    let is_for_one = gateway.all_services().any(|(_, service)| service.host.is_none());
    // With two services, a policy that permits requests to one of them would also permit requests to the other.
    if count > 1 && is_for_one {
        diagnostics.error_with_hint(
            "without their hosts, several services of a waypoint cannot be told apart",
            "write each one as {host, namespace, name}",
        );
    }
    if let (_, Some(host)) = ServicesByHost::new(&gateway) {
        diagnostics.error_with_hint(
            format!("the host `{host}` is there twice"),
            "keep one: Istio protects a host of a waypoint as one service",
        );
    }
    object.finish(diagnostics);
    Some(Gateway { name: gateway_name?, ..gateway })
}

/// Reads a service of a waypoint: `{host, namespace, name}`, or `namespace/name`, or `name` for a service in the
/// workload's namespace. `is_of_cluster`: it is a Service, whose host Kubernetes chooses.
#[inline(never)]
fn service(
    node: &Node,
    own_namespace: &str,
    is_of_cluster: bool,
    diagnostics: &mut Diagnostics,
) -> Option<ServiceName> {
    let (host, namespace, name) = if let Value::Map(_) = node.value {
        let mut object = Object::open(node, diagnostics)?;
        let host = required(&mut object, "host", diagnostics);
        let namespace = required(&mut object, "namespace", diagnostics);
        let name = required(&mut object, "name", diagnostics);
        object.finish(diagnostics);
        (Some(host?), namespace?, name?)
    } else {
        let text = name(node, diagnostics)?;
        let (namespace, name) = text.split_once('/').unwrap_or((own_namespace, &text));
        (None, namespace.to_owned(), name.to_owned())
    };
    resource::namespace_name(&namespace, diagnostics);
    resource::resource_name(&name, diagnostics);
    let service = ServiceName { namespace, name, host };
    if is_of_cluster && service.host.as_ref().is_some_and(|host| !host.starts_with(&waypoint::without_domain(&service)))
    {
        diagnostics.error_with_hint("is not the host of this Service", "write NAME.NAMESPACE.svc.DOMAIN");
    }
    Some(service)
}
