//! MA045. The port of a Service, where the port of the workload is meant.

use std::collections::{BTreeMap, BTreeSet};

use mesh_authz::diagnostic::{Path, Segment};
use mesh_authz::document::Node;
use mesh_authz::policy::{Labels, Predicate, Target};

use super::other_resources::{Listening, NamedKind, labels, listening, namespace, number, workloads_are_known};
use super::{Check, Input, Lint, PolicyView, Reporter};
use crate::load::{Other, items};

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
    if !NamedKind::Service.is_known(input) || !workloads_are_known(input) {
        return;
    }
    let mut by_namespace = BTreeMap::<_, Vec<_>>::new();
    let workloads = listening(input);
    for other in NamedKind::Service.all(input) {
        let in_namespace = workloads.get(namespace(&other.node)).map_or(&[][..], Vec::as_slice);
        by_namespace.entry(namespace(&other.node)).or_default().extend(service(other, in_namespace));
    }
    for resource in input.policies_as_written() {
        let namespace = resource.policy.name.namespace.as_str();
        let Some(services) = by_namespace.get(namespace) else { continue };
        let services: Vec<_> = services.iter().filter(|service| service.serves(&resource.policy.target)).collect();
        let ports = || services.iter().flat_map(|service| service.ports.iter().map(move |port| (service.name, port)));
        let mut listens: BTreeSet<u16> = ports().flat_map(|(_, port)| port.targets.iter().copied()).collect();
        let in_reach =
            workloads.get(namespace).into_iter().flatten().filter(|workload| match &resource.policy.target {
                Target::Labels(wanted) => workload.labels.include(wanted),
                _ => true,
            });
        listens.extend(in_reach.flat_map(|workload| workload.ports.iter().map(|(_, port)| *port)));
        for list in PolicyView::new(resource).lists {
            let Predicate::DestinationPort(_) = list.predicate else { continue };
            for (index, value) in list.values.iter().enumerate() {
                let Ok(named) = value.parse::<u16>() else { continue };
                let mut of_service = ports().filter(|(_, port)| port.port == named);
                if listens.contains(&named) || of_service.clone().any(|(_, port)| port.targets.is_empty()) {
                    continue;
                }
                let Some((service, ServicePort { targets, .. })) = of_service.next() else { continue };
                let targets: Vec<_> = targets.iter().map(|port| format!("`{port}`")).collect();
                let targets = targets.join(" and ");
                let message =
                    format!("{named} is a port of the Service `{service}`: its workload listens on {targets}");
                let mut path = list.path.clone();
                path.0.push(Segment::Index(index));
                reporter.report(&LINT, resource, path, message, list.correct(format!("write {targets}")));
            }
        }
    }
}

/// A Service, and where its connections go.
struct Service<'r> {
    name: &'r str,
    selector: Labels,
    ports: Vec<ServicePort>,
}

/// A port of a Service.
struct ServicePort {
    port: u16,
    /// The ports of the workloads behind it; none if they are not known.
    targets: Vec<u16>,
}

impl Service<'_> {
    /// Whether it may be for a workload with this target.
    fn serves(&self, target: &Target) -> bool {
        match target {
            Target::Everything => true,
            Target::Labels(wanted) => {
                !wanted.exclude(&self.selector) && wanted.iter().any(|label| self.selector.contains(label))
            }
            // A waypoint sees the port of the Service.
            Target::References(_) => false,
        }
    }
}

/// Reads a Service. `None` if it selects no workloads.
fn service<'r>(other: &'r Other, workloads: &[Listening<'_>]) -> Option<Service<'r>> {
    let selector = labels(&other.node, &Path::of(["spec", "selector"]));
    if selector.is_empty() {
        return None;
    }
    let spec = other.node.get("spec")?;
    // Clients of a headless Service connect to the workloads directly.
    let is_headless = spec.get("clusterIP").and_then(Node::as_str) == Some("None");
    let named = |name: &str| {
        let selected = workloads.iter().filter(|workload| workload.labels.include(&selector));
        let ports = selected.flat_map(|workload| &workload.ports);
        ports.filter(|(port, _)| *port == Some(name)).map(|(_, port)| *port).collect::<BTreeSet<_>>()
    };
    let read = |node: &Node| {
        let port = number(node.get("port")?)?;
        let target = node.get("targetPort").filter(|_| !is_headless);
        let targets = match target.map(|target| (number(target), target.as_str())) {
            None | Some((Some(0), _)) => vec![port],
            Some((Some(target), _)) => vec![target],
            Some((None, name)) => named(name?).into_iter().collect(),
        };
        Some(ServicePort { port, targets })
    };
    let ports = items(spec.get("ports")).iter().filter_map(read).collect();
    Some(Service { name: other.name()?, selector, ports })
}
