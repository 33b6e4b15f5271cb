//! The policies of a filter, compiled, and which of them decide about a request or a connection.

use super::Host;
use crate::engine::index::Index;
use crate::engine::{Builder, Engine, Engines, Options};
use crate::policy::scope::{Workload, for_each_service};
use crate::policy::waypoint::{Destination, ServicesByHost};
use crate::policy::{AuthorizationPolicy, Traffic};
use crate::request::Lookup;

/// The policies that apply to a workload.
#[derive(Debug)]
pub(super) struct PolicySets {
    /// First the policies for every request. Then, on a waypoint, those for each of its services, by
    /// [`Gateway::all_services`](crate::policy::scope::Gateway::all_services).
    engines: Box<[Engine]>,
    /// The policies for every connection, in their form for TCP.
    connections: Engine,
    /// Set on a waypoint whose services are told apart.
    services: Option<ServicesByHost>,
}

impl PolicySets {
    /// Compiles policies that apply to the workload. Each is dropped as soon as it is compiled.
    pub fn new(policies: Vec<AuthorizationPolicy>, workload: &Workload, options: &Options) -> Self {
        let gateway = workload.gateway.as_ref().filter(|gateway| gateway.has_hosts());
        let count = gateway.map_or(0, |gateway| gateway.all_services().count());
        let mut builders: Vec<_> = (0..=count).map(|_| Builder::default()).collect();
        let options_for_tcp = Options { traffic: Traffic::Tcp, ..options.clone() };
        let mut connections = Builder::default();
        for (number, policy) in (0..).zip(policies) {
            let mut add = |service: usize| {
                if let Some(builder) = builders.get_mut(service) {
                    builder.add(number, &policy, options);
                }
            };
            let mut add_to_service = |_: &str, position: Option<usize>| {
                if let Some(position) = position {
                    add(position.saturating_add(1));
                }
            };
            if !for_each_service(&policy, workload, &mut add_to_service) {
                add(0);
                connections.add(number, &policy, &options_for_tcp);
            }
        }
        Self {
            engines: builders.into_iter().map(|builder| builder.finish(options, Index::new)).collect(),
            connections: connections.finish(&options_for_tcp, Index::new),
            services: gateway.map(|gateway| ServicesByHost::new(gateway).0),
        }
    }

    /// The request headers that rules test.
    pub fn test_paths(&self) -> bool {
        self.engines.iter().any(Engine::tests_paths)
    }

    /// The name of the request's filter chain. It is read only if it tells services apart.
    pub fn filter_chain(&self, host: &impl Host) -> Lookup<Vec<u8>> {
        match self.services {
            Some(_) => host.property("xds\0filter_chain_name"),
            None => Lookup::Absent,
        }
    }

    /// The policies that decide about a request or a connection of this filter chain. `None`: nobody can tell. So it is with
    /// all connections to a waypoint that tells services apart.
    pub fn of(&self, traffic: Traffic, filter_chain: &Lookup<Vec<u8>>) -> Option<Engines<'_>> {
        let everywhere = Engines::from(self.engines.first()?);
        match (traffic, &self.services) {
            (Traffic::Http, None) => Some(everywhere),
            (Traffic::Tcp, None) => Some(Engines::from(&self.connections)),
            (Traffic::Tcp, Some(_)) => None,
            (Traffic::Http, Some(services)) => match services.destination(filter_chain.as_slice().known()?) {
                Destination::Service(position) => {
                    Some(Engines { second: Some(self.engines.get(position.checked_add(1)?)?), ..everywhere })
                }
                Destination::Other => Some(everywhere),
                Destination::Unknown => None,
            },
        }
    }
}
