//! The instances on waypoints: one for each waypoint, with all services.
//!
//! Istio loads a filter that targets a waypoint on the filter chain of each service behind it. The host in the name of the
//! chain tells the filter which service a request is for, so one instance carries the policies of the whole waypoint and
//! of every service. Which waypoint serves a service need not be known.

use std::collections::{BTreeMap, BTreeSet};

use mesh_authz::diagnostic::Path;
use mesh_authz::document::{Node, Value};
use mesh_authz::policy::scope::{Gateway, ServiceName};
use mesh_authz::policy::{DEFAULT_NAMESPACE, TargetKind};

use super::{Instance, Native, Plan, ResolvedTarget, Topology, Waypoint, refusal, restricts};
use crate::load::{LoadedPolicy, Other};

/// The hosts of the services behind a waypoint, as Istio names them.
#[derive(Clone, Debug)]
pub struct Hosts<'m> {
    /// The domain of the cluster, in which Services have their hosts.
    pub cluster_domain: &'m str,
    /// The hosts of each `ServiceEntry` of the input, by namespace and name.
    service_entries: BTreeMap<(&'m str, &'m str), Vec<&'m str>>,
    /// The namespace and the name of each Service of the input.
    services: BTreeSet<(&'m str, &'m str)>,
}

impl<'m> Hosts<'m> {
    /// The hosts in a cluster with this domain. Some of the other resources may be Services and `ServiceEntries`.
    #[must_use]
    pub fn new(cluster_domain: &'m str, others: &'m [Other]) -> Self {
        let mut hosts = Self { cluster_domain, service_entries: BTreeMap::new(), services: BTreeSet::new() };
        for other in others {
            let at = |path: [&str; 2]| other.node.at(&Path::of(path));
            let namespace = at(["metadata", "namespace"]).and_then(Node::as_str).unwrap_or(DEFAULT_NAMESPACE);
            let Some(name) = other.name() else { continue };
            let group = other.text("apiVersion").split_once('/').map(|(group, _)| group);
            match (group, other.text("kind"), at(["spec", "hosts"]).map(|hosts| &hosts.value)) {
                (None, "Service", _) => {
                    hosts.services.insert((namespace, name));
                }
                (Some("networking.istio.io"), "ServiceEntry", Some(Value::List(of_entry))) => {
                    let of_entry = of_entry.iter().filter_map(Node::as_str).collect();
                    hosts.service_entries.insert((namespace, name), of_entry);
                }
                _ => {}
            }
        }
        hosts
    }

    /// The hosts of a service. `None`: they are unknown.
    fn of(&self, kind: TargetKind, namespace: &str, name: &str) -> Option<Vec<String>> {
        if kind == TargetKind::Service {
            return Some(vec![self.of_service(namespace, name)]);
        }
        let hosts = self.service_entries.get(&(namespace, name)).filter(|hosts| !hosts.is_empty())?;
        Some(hosts.iter().map(|host| (*host).to_owned()).collect())
    }

    fn of_service(&self, namespace: &str, name: &str) -> String {
        format!("{name}.{namespace}.svc.{}", self.cluster_domain)
    }

    /// The Service of the input that has this host.
    fn service_of_input(&self, host: &str) -> Option<(&'m str, &'m str)> {
        let mut services = self.services.iter();
        services.find(|(namespace, name)| self.of_service(namespace, name).eq_ignore_ascii_case(host)).copied()
    }
}

impl Hosts<'_> {
    /// The service with this host: a Service by the form of the host, or a `ServiceEntry` of the input.
    #[must_use]
    pub fn service(&self, host: &str) -> Option<(TargetKind, ServiceName)> {
        let of = |namespace: &str, name: &str| ServiceName {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            host: None,
        };
        if let Some((name, rest)) = host.split_once('.')
            && let Some((namespace, rest)) = rest.split_once('.')
            && rest.starts_with("svc.")
        {
            return Some((TargetKind::Service, of(namespace, name)));
        }
        let mut entries = self.service_entries.iter();
        let ((namespace, name), _) = entries.find(|(_, hosts)| hosts.iter().any(|h| h.eq_ignore_ascii_case(host)))?;
        Some((TargetKind::ServiceEntry, of(namespace, name)))
    }
}

/// Adds an instance for each waypoint, if policies are for it or for services. A service that another waypoint serves does
/// no harm: no request for its host comes to this one.
///
/// HTTP is let through at a waypoint only if no ALLOW policy is for a service. A policy that lets HTTP through to a service
/// would be attached to whatever waypoint serves it, also to one without the plugin; and one for the whole waypoint would be
/// for this service, too.
pub(super) fn add<'r>(plan: &mut Plan<'r>, targeted: &[&'r LoadedPolicy], topology: &Topology<'_>) {
    let is_of_service = |meaning: &ResolvedTarget<'_>| matches!(meaning, ResolvedTarget::Service(..));
    let restricts_service = |resource: &&&LoadedPolicy| {
        restricts(resource) && topology.meanings(&resource.policy).iter().any(is_of_service)
    };
    let of_service = targeted.iter().find(restricts_service).copied();
    let mut refused = BTreeSet::new();
    for waypoint in topology.waypoints {
        let place = waypoint.place();
        let mut served = Served::by(waypoint, &topology.hosts);
        let mut policies = Vec::new();
        let mut is_restricted = false;
        for resource in targeted {
            let meanings = topology.meanings(&resource.policy);
            if meanings.iter().any(|meaning| is_for_all_of(meaning, waypoint)) {
                policies.push(*resource);
                match of_service.filter(|_| restricts(resource)) {
                    Some(other) => plan.native.push(Native { place: place.clone(), policy: resource, beside: other }),
                    None => is_restricted |= restricts(resource),
                }
                continue;
            }
            let mut is_for_service = false;
            for meaning in meanings {
                let ResolvedTarget::Service(kind, name) = meaning else { continue };
                is_for_service = true;
                if let Err((message, hint)) = served.add(kind, &resource.policy.name.namespace, &name)
                    && refused.insert((&resource.policy.name, message.clone()))
                {
                    plan.refused.push(refusal(resource, &message, hint));
                }
            }
            policies.extend(is_for_service.then_some(*resource));
        }
        plan.restricted.extend(is_restricted.then(|| place.clone()));
        if !policies.is_empty() {
            plan.needs_filter_state.push(place.clone());
            let waypoint = Some(served.sorted());
            plan.instances.push(Instance { place, waypoint, policies, reaches_further: false });
        }
    }
}

/// Whether a policy for this target is for every request to the waypoint.
fn is_for_all_of(meaning: &ResolvedTarget<'_>, waypoint: &Waypoint) -> bool {
    match meaning {
        ResolvedTarget::Waypoint(named) => *named == waypoint,
        ResolvedTarget::EveryWaypoint => true,
        _ => false,
    }
}

/// The services that policies name.
struct Served<'t> {
    hosts: &'t Hosts<'t>,
    /// The waypoint, with these services.
    gateway: Gateway,
    /// The kind and the full name of the service that has a host, by the host in lower case.
    owners: BTreeMap<String, (TargetKind, String)>,
}

impl<'t> Served<'t> {
    fn by(waypoint: &Waypoint, hosts: &'t Hosts<'t>) -> Self {
        let gateway = Gateway { name: waypoint.name.clone(), waypoint: true, ..Gateway::default() };
        Self { hosts, gateway, owners: BTreeMap::new() }
    }

    /// Adds a service. If that is not possible, says why, and what helps.
    fn add(&mut self, kind: TargetKind, namespace: &str, name: &str) -> Result<(), (String, &'static str)> {
        let Some(hosts) = self.hosts.of(kind, namespace, name) else {
            let message = format!("is for the ServiceEntry {namespace}/{name}, and its hosts are unknown");
            return Err((message, "add the file with the ServiceEntry to the input"));
        };
        for host in hosts {
            let owner = (kind, format!("{namespace}/{name}"));
            let (service, full_name) = (noun(kind), &owner.1);
            match self.owners.get(&host.to_ascii_lowercase()) {
                Some(other) if *other == owner => continue,
                Some((other, other_name)) => {
                    let message = format!(
                        "{service} {full_name} has the host {host}, and so has {} {other_name}: Istio protects it as one \
                         of them, and nobody can tell which",
                        noun(*other)
                    );
                    return Err((message, "let policies name one of the two"));
                }
                None => {}
            }
            if kind == TargetKind::ServiceEntry
                && let Some((namespace, name)) = self.hosts.service_of_input(&host)
            {
                let message = format!(
                    "{service} {full_name} has the host {host} of the Service {namespace}/{name}, and Istio protects it \
                     as that Service"
                );
                return Err((message, "name the Service in targetRefs"));
            }
            self.owners.insert(host.to_ascii_lowercase(), owner);
            let services = match kind {
                TargetKind::Service => &mut self.gateway.services,
                _ => &mut self.gateway.service_entries,
            };
            services.push(ServiceName { namespace: namespace.to_owned(), name: name.to_owned(), host: Some(host) });
        }
        Ok(())
    }

    fn sorted(mut self) -> Gateway {
        for services in [&mut self.gateway.services, &mut self.gateway.service_entries] {
            services.sort_by(|a, b| (&a.namespace, &a.name, &a.host).cmp(&(&b.namespace, &b.name, &b.host)));
        }
        self.gateway
    }
}

fn noun(kind: TargetKind) -> &'static str {
    if kind == TargetKind::Service { "the Service" } else { "the ServiceEntry" }
}
