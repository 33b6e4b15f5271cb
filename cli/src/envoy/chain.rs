//! The filter chains of the listeners, and the clusters to which they lead.

use std::collections::BTreeMap;

use super::ChainSummary;
use super::configuration::Configuration;
use super::ours::Ours;
use super::place::Place;

const CONNECTION_MANAGER: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// A filter chain of a listener.
#[derive(Debug)]
pub struct Chain<'c> {
    pub listener: Place<'c>,
    /// The position in the listener. `None`: the default chain.
    index: Option<usize>,
    pub place: Place<'c>,
    /// The configuration of the connection manager. `None`: the chain is for connections.
    pub manager: Option<Place<'c>>,
    /// The filter; several if there are several.
    pub ours: Vec<Ours<'c>>,
    /// The route configurations that are in the input.
    pub routes: Vec<Place<'c>>,
    pub leads_to: LeadsTo<'c>,
}

/// The clusters to which a chain leads.
#[derive(Debug, Default)]
pub struct LeadsTo<'c> {
    /// Where it names them.
    pub named: BTreeMap<&'c str, Place<'c>>,
    /// Where a request chooses the cluster.
    pub chosen: Option<Place<'c>>,
    /// Where the routes come from, if they are not in the input.
    pub unknown: Option<Place<'c>>,
}

impl<'c> Chain<'c> {
    /// Every chain that leads anywhere.
    pub fn all(configuration: &Configuration<'c>) -> Vec<Self> {
        let mut chains = Vec::new();
        for listener in &configuration.listeners {
            let listed = listener.items("filter_chains").into_iter().enumerate();
            let listed = listed.map(|(index, chain)| (Some(index), chain));
            let default = listener.get("default_filter_chain").map(|chain| (None, chain));
            for (index, place) in listed.chain(default) {
                chains.extend(Self::of(listener, index, place, configuration));
            }
        }
        chains
    }

    fn of(
        listener: &Place<'c>,
        index: Option<usize>,
        place: Place<'c>,
        configuration: &Configuration<'c>,
    ) -> Option<Self> {
        let filters = place.items("filters");
        let manager = filters.iter().filter_map(Place::typed_config).find(|(name, _)| *name == CONNECTION_MANAGER);
        let manager = manager.map(|(_, manager)| manager);
        let mut chain = Self {
            listener: listener.clone(),
            index,
            place,
            ours: Vec::new(),
            routes: Vec::new(),
            leads_to: LeadsTo::default(),
            manager,
        };
        if let Some(manager) = chain.manager.clone() {
            let filters = manager.items("http_filters").into_iter().enumerate();
            chain.ours = filters.filter_map(|(index, filter)| Ours::of(&filter, index, configuration)).collect();
            chain.find_routes(&manager, configuration);
        } else {
            for filter in filters {
                chain.leads_to.add(&filter);
            }
        }
        let leads_nowhere = chain.manager.is_none() && chain.leads_to.named.is_empty();
        (!leads_nowhere).then_some(chain)
    }

    fn find_routes(&mut self, manager: &Place<'c>, configuration: &Configuration<'c>) {
        let mut wanted = Vec::new();
        if let Some(routes) = manager.get("route_config") {
            self.routes.push(routes);
        }
        if let Some(rds) = manager.get("rds") {
            wanted.push((rds.text("route_config_name").unwrap_or_default(), rds));
        }
        if let Some(scoped) = manager.get("scoped_routes") {
            let list = scoped.get("scoped_route_configurations_list");
            let scopes = list.map(|list| list.items("scoped_route_configurations"));
            for scope in scopes.clone().unwrap_or_default() {
                match scope.get("route_configuration") {
                    Some(routes) => self.routes.push(routes),
                    None => wanted.push((scope.text("route_configuration_name").unwrap_or_default(), scope)),
                }
            }
            if scopes.is_none() {
                self.leads_to.unknown = Some(scoped);
            }
        }
        for (name, place) in wanted {
            match configuration.routes.get(name) {
                Some(routes) => self.routes.push(routes.clone()),
                None => self.leads_to.unknown = Some(place),
            }
        }
        for routes in &self.routes {
            self.leads_to.add(routes);
        }
    }

    /// The listener with its address, and the position of the chain.
    pub fn name(&self) -> String {
        let ChainSummary { listener, chain, .. } = self.summary();
        match chain {
            _ if self.listener.items("filter_chains").len() == 1 && chain.is_some() => format!("listener {listener}"),
            Some(index) => format!("listener {listener}, filter_chains[{index}]"),
            None => format!("listener {listener}, default_filter_chain"),
        }
    }

    pub fn summary(&self) -> ChainSummary {
        let address = self.listener.at(["address", "socket_address"]);
        let port = |address: &Place<'_>| address.get("port_value").map(|_| address.number("port_value"));
        let address = address.map(|address| match port(&address) {
            Some(port) => format!("{}:{port}", address.text("address").unwrap_or_default()),
            None => address.text("address").unwrap_or_default().to_owned(),
        });
        let listener = match (self.listener.text("name").filter(|name| !name.is_empty()), address) {
            (Some(name), Some(address)) => format!("{name} ({address})"),
            (Some(name), None) => name.to_owned(),
            (None, Some(address)) => address,
            (None, None) => "without a name".to_owned(),
        };
        ChainSummary {
            listener,
            chain: self.index,
            decides: !self.ours.is_empty(),
            clusters: self.leads_to.named.keys().map(|name| (*name).to_owned()).collect(),
        }
    }

    /// The entries of the connection manager's `http_filters`.
    pub fn http_filters(&self) -> Vec<Place<'c>> {
        self.manager.as_ref().map(|manager| manager.items("http_filters")).unwrap_or_default()
    }

    /// The position of the first of our filters.
    pub fn first(&self) -> usize {
        self.ours.iter().map(|ours| ours.index).min().unwrap_or(usize::MAX)
    }
}

impl<'c> LeadsTo<'c> {
    /// Adds every cluster to which a route or a network filter in this configuration sends.
    fn add(&mut self, place: &Place<'c>) {
        for (name, child) in place.children() {
            match name {
                "cluster" => {
                    if let Some(cluster) = child.node.as_str() {
                        self.named.entry(cluster).or_insert(child);
                    }
                }
                "cluster_header"
                | "clusterHeader"
                | "cluster_specifier_plugin"
                | "clusterSpecifierPlugin"
                | "inline_cluster_specifier_plugin"
                | "inlineClusterSpecifierPlugin" => self.chosen = Some(child),
                "weighted_clusters" | "weightedClusters" => {
                    for weighted in child.items("clusters") {
                        match weighted.text("name") {
                            Some(cluster) => drop(self.named.entry(cluster).or_insert(weighted)),
                            None => self.add(&weighted),
                        }
                    }
                }
                // These belong to other filters.
                "typed_per_filter_config"
                | "typedPerFilterConfig"
                | "rate_limits"
                | "rateLimits"
                | "access_log"
                | "accessLog" => {}
                _ => self.add(&child),
            }
        }
    }
}
