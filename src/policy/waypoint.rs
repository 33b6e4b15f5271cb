//! Tells which service of a waypoint a request is for.
//!
//! Istio gives a waypoint one filter chain for each port of each service, and the name of a chain has the service's host:
//! `inbound-vip|8080|http|app.default.svc.cluster.local`. The chain `direct-http` is for requests to the address of a pod.
//! For these, as for services that no policy names, only the policies of the whole waypoint apply.

use super::TargetKind;
use super::scope::{Gateway, ServiceName};

/// The services of a waypoint, by their hosts.
///
/// Each Service is also there with its host up to the cluster's domain. So a wrong domain is found out.
#[derive(Debug, Default)]
pub struct ServicesByHost(Vec<(Box<str>, usize)>);

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The service whose first position in [`Gateway::all_services`] is this one.
    Service(usize),
    /// A service that no policy names, or a pod.
    Other,
    /// Nobody can tell.
    Unknown,
}

impl ServicesByHost {
    /// The services behind a waypoint, and a host that is there twice, if there is one.
    #[must_use]
    pub fn new(gateway: &Gateway) -> (Self, Option<&str>) {
        let (mut services, mut twin) = (Self::default(), None);
        for (kind, service) in gateway.all_services() {
            let is_same = |(other, ServiceName { namespace, name, .. }): (TargetKind, &ServiceName)| {
                other == kind && *name == service.name && *namespace == service.namespace
            };
            let position = gateway.all_services().position(is_same).unwrap_or_default();
            if let Some(host) = &service.host
                && !services.add(host, position)
            {
                twin = Some(host.as_str());
            }
            if kind == TargetKind::Service {
                services.add(&without_domain(service), position);
            }
        }
        (services, twin)
    }

    /// Adds a service. Returns false if the host is there already.
    fn add(&mut self, host: &str, position: usize) -> bool {
        let host = host.to_ascii_lowercase();
        let place = self.find(host.as_bytes());
        if let Err(place) = place {
            self.0.insert(place, (host.into(), position));
        }
        place.is_err()
    }

    /// The place of a host in lower case, or where it would be.
    fn find(&self, host: &[u8]) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.as_bytes().cmp(host))
    }

    /// What requests of this filter chain are for.
    #[must_use]
    pub fn destination(&self, filter_chain: &[u8]) -> Destination {
        if filter_chain == b"direct-http" {
            return Destination::Other;
        }
        let Some(host) = host(filter_chain).map(<[u8]>::to_ascii_lowercase) else { return Destination::Unknown };
        if let Some((_, position)) = self.find(&host).ok().and_then(|place| self.0.get(place)) {
            return Destination::Service(*position);
        }
        // A namespace can have the name `svc`, so there may be several.
        let has_other_domain = (0..host.len())
            .filter(|&at| host.get(at..).is_some_and(|rest| rest.starts_with(SVC.as_bytes())))
            .any(|at| host.get(..at.saturating_add(SVC.len())).is_some_and(|service| self.find(service).is_ok()));
        if has_other_domain { Destination::Unknown } else { Destination::Other }
    }
}

/// What stands between the namespace of a Service and the domain of its cluster.
const SVC: &str = ".svc.";

/// The host of a Service, up to the domain of its cluster.
#[must_use]
pub fn without_domain(ServiceName { namespace, name, .. }: &ServiceName) -> String {
    [name, ".", namespace, SVC].concat()
}

/// The host in the name of a filter chain: `inbound-vip|PORT|SUBSET|HOST`.
#[must_use]
pub fn host(filter_chain: &[u8]) -> Option<&[u8]> {
    let mut parts = filter_chain.strip_prefix(b"inbound-vip|")?.split(|byte| *byte == b'|');
    let host = parts.nth(2)?;
    (!host.is_empty() && parts.next().is_none()).then_some(host)
}
