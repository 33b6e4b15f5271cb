//! MA045. The port of a Service, where the port of the workload is meant.

use std::collections::BTreeSet;

use mesh_authz::diagnostic::{Path, Segment};
use mesh_authz::document::Node;
use mesh_authz::policy::{Labels, Predicate, Target};

use super::other_resources::{NamedKind, container_ports, items, labels, namespace, number};
use super::{Check, Input, Lint, PolicyView, Reporter};
use crate::load::{LoadedPolicy, Other};

pub(super) static LINT: Lint = Lint {
    code: "MA045",
    name: "service-port",
    summary: "the port of a Service, where the port of the workload is meant",
    explanation: "The values of ports (destination.port) are compared with the port on which the workload listens: the targetPort \
            of its Service. A client connects to the Service's own port, but no policy of the workload sees that port. The lint \
            compares policies with the Services in the input that are for the same workloads. It is silent about policies \
            with target references, and about a targetPort that is a name which no workload in the input explains.",
    bad: r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: api
spec:
  selector:
    matchLabels:
      app: api
  rules:
  - to:
    - operation:
        ports: ["80"]
---
apiVersion: v1
kind: Service
metadata:
  name: api
spec:
  selector:
    app: api
  ports:
  - port: 80
    targetPort: 8080
"#,
    good: r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: api
spec:
  selector:
    matchLabels:
      app: api
  rules:
  - to:
    - operation:
        ports: ["8080"]
---
apiVersion: v1
kind: Service
metadata:
  name: api
spec:
  selector:
    app: api
  ports:
  - port: 80
    targetPort: 8080
"#,
    trust_domain: None,
    check: Check::Input(check),
};

fn check(input: &Input<'_>, reporter: &mut Reporter) {
    let services: Vec<_> = NamedKind::Service.all(input).collect();
    if services.is_empty() {
        return;
    }
    for resource in &input.resources.policies {
        let in_reach = services.iter().filter(|service| serves(service, resource));
        let ports: Vec<_> = in_reach.flat_map(|service| ports(input, service, resource)).collect();
        if ports.is_empty() {
            continue;
        }
        let labels = match &resource.policy.target {
            Target::Labels(labels) => labels.clone(),
            _ => Labels::default(),
        };
        let mut listens: BTreeSet<u16> = ports.iter().flat_map(|port| port.targets.iter().copied()).collect();
        let of_containers = container_ports(input, &resource.policy.name.namespace, &[&labels]);
        listens.extend(of_containers.into_iter().map(|(_, port)| port));
        for list in PolicyView::new(resource).lists {
            let Predicate::DestinationPort(_) = list.predicate else { continue };
            for (index, value) in list.values.iter().enumerate() {
                let Ok(named) = value.parse::<u16>() else { continue };
                let mut of_service = ports.iter().filter(|port| port.port == named);
                if listens.contains(&named) || of_service.clone().any(|port| port.targets.is_empty()) {
                    continue;
                }
                let Some(ServicePort { service, targets, .. }) = of_service.next() else { continue };
                let targets: Vec<_> = targets.iter().map(|port| format!("`{port}`")).collect();
                let mut path = list.path.clone();
                path.0.push(Segment::Index(index));
                reporter.report(
                    &LINT,
                    resource,
                    path,
                    format!(
                        "{named} is a port of the Service `{service}`: its workload listens on {}",
                        targets.join(" and ")
                    ),
                    list.correct(format!("write {}", targets.join(" and "))),
                );
            }
        }
    }
}

/// Whether a Service may be for a workload of the policy.
fn serves(service: &Other, LoadedPolicy { policy, .. }: &LoadedPolicy) -> bool {
    let selector = labels(&service.node, &selector());
    namespace(&service.node) == policy.name.namespace
        && !selector.is_empty()
        && match &policy.target {
            Target::Everything => true,
            Target::Labels(wanted) => !wanted.exclude(&selector) && wanted.iter().any(|label| selector.contains(label)),
            Target::References(_) => false,
        }
}

fn selector() -> Path {
    Path::of(["spec", "selector"])
}

/// A port of a Service.
struct ServicePort<'r> {
    service: &'r str,
    port: u16,
    /// The ports of the workloads behind it; none if they are not known.
    targets: Vec<u16>,
}

fn ports<'r>(input: &Input<'r>, service: &'r Other, resource: &LoadedPolicy) -> Vec<ServicePort<'r>> {
    let selector = labels(&service.node, &selector());
    let spec = |field: &str| service.node.get("spec").and_then(|spec| spec.get(field));
    // Clients of such a Service connect to the workloads directly.
    let is_headless = spec("clusterIP").and_then(Node::as_str) == Some("None");
    let of_containers = container_ports(input, &resource.policy.name.namespace, &[&selector]);
    let read = |node: &'r Node| {
        let port = number(node.get("port")?)?;
        let targets = match node.get("targetPort") {
            _ if is_headless => vec![port],
            None => vec![port],
            Some(target) => match number(target) {
                Some(0) => vec![port],
                Some(target) => vec![target],
                None => {
                    let named = of_containers.iter().filter(|(name, _)| name.is_some() && *name == target.as_str());
                    named.map(|(_, port)| *port).collect()
                }
            },
        };
        Some(ServicePort { service: service.name()?, port, targets })
    };
    items(spec("ports")).iter().filter_map(read).collect()
}
