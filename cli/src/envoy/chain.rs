//! The filter chains of the listeners, and the clusters to which they lead.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;

use mesh_authz::document::Node;

use super::configuration::Configuration;
use super::ours::{Idle, Ours};
use super::place::Place;
use super::routes::{LeadsTo, Routes};
use super::{ChainSummary, Decides};

pub const CONNECTION_MANAGER: &str =
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const MCP_ROUTER: &str = "envoy.extensions.filters.http.mcp_router.v3.McpRouter";
pub const NETWORK_STATE: &str = "envoy.extensions.filters.network.set_filter_state.v3.Config";
const SNI_CLUSTER: &str = "envoy.extensions.filters.network.sni_cluster.v3.SniCluster";

/// A filter chain of a listener.
#[derive(Debug)]
pub struct Chain<'c> {
    pub listener: Place<'c>,
    /// The position in the listener. `None`: the default chain, or the filters of the listener itself.
    index: Option<usize>,
    pub place: Place<'c>,
    /// The configuration of the connection manager. `None`: the chain is for connections.
    pub manager: Option<Place<'c>>,
    /// The entries of the connection manager's `http_filters`, or of the filters for an upgrade.
    pub http_filters: Vec<Place<'c>>,
    /// The filter; several if there are several.
    pub ours: Vec<Ours<'c>>,
    /// The route configurations that are in the input.
    pub routes: Vec<Rc<Routes<'c>>>,
    pub leads_to: Rc<LeadsTo<'c>>,
    /// Network filters that come from elsewhere.
    pub unknown_filters: Vec<Place<'c>>,
}

/// The routes of connection managers. Many listeners can have the same ones.
type Shared<'c> = HashMap<*const Node, Rc<Routes<'c>>>;

impl<'c> Chain<'c> {
    /// Every filter chain that Envoy has.
    pub fn all(configuration: &Configuration<'c>) -> Vec<Self> {
        let mut shared = Shared::new();
        let mut chains = Vec::new();
        for listener in &configuration.listeners {
            let listed = listener.items("filter_chains").into_iter().enumerate();
            let listed = listed.map(|(index, chain)| (Some(index), chain));
            let default = listener.get("default_filter_chain").map(|chain| (None, chain));
            let discovered = if listener.get("fcds_config").is_some() { &configuration.filter_chains[..] } else { &[] };
            let discovered = discovered.iter().map(|chain| (None, chain.clone()));
            for (index, place) in listed.chain(default).chain(discovered) {
                chains.push(Self::of(listener, index, place, configuration, &mut shared));
            }
            // A listener for UDP leads on without a chain.
            let mut leads_to = LeadsTo::default();
            for filter in listener.items("listener_filters") {
                if sets_cluster(&filter) {
                    leads_to.chosen = Some(filter.clone());
                }
                leads_to.add(&filter);
            }
            if !leads_to.named.is_empty() || leads_to.chosen.is_some() {
                chains.push(Self { leads_to: Rc::new(leads_to), ..Self::empty(listener, None, listener.clone()) });
            }
        }
        chains
    }

    fn empty(listener: &Place<'c>, index: Option<usize>, place: Place<'c>) -> Self {
        Self {
            listener: listener.clone(),
            index,
            place,
            manager: None,
            http_filters: Vec::new(),
            ours: Vec::new(),
            routes: Vec::new(),
            leads_to: Rc::default(),
            unknown_filters: Vec::new(),
        }
    }

    fn of(
        listener: &Place<'c>,
        index: Option<usize>,
        place: Place<'c>,
        configuration: &Configuration<'c>,
        shared: &mut Shared<'c>,
    ) -> Self {
        let filters = place.items("filters");
        let mut chain = Self::empty(listener, index, place);
        chain.manager = filters.iter().find_map(|filter| configuration.config(filter, CONNECTION_MANAGER));
        if let Some(manager) = chain.manager.clone() {
            chain.http_filters = manager.items("http_filters");
            chain.find_routes(&manager, configuration, shared);
            chain.find_ours(configuration);
            return chain;
        }
        let mut leads_to = LeadsTo::default();
        for filter in &filters {
            for extension in configuration.extensions(filter) {
                match (extension.name, extension.config) {
                    (SNI_CLUSTER, _) => leads_to.chosen = Some(filter.clone()),
                    (NETWORK_STATE, Some(config)) if sets_cluster(&config) => leads_to.chosen = Some(filter.clone()),
                    (_, Some(config)) => leads_to.add(&config),
                    (_, None) => {}
                }
            }
            if configuration.is_unknown(filter) {
                chain.unknown_filters.push(filter.clone());
            }
        }
        chain.leads_to = Rc::new(leads_to);
        let ours =
            filters.iter().enumerate().filter_map(|(index, filter)| Ours::of(filter, index, &chain, configuration));
        chain.ours = ours.collect();
        chain
    }

    fn find_ours(&mut self, configuration: &Configuration<'c>) {
        let filters = self.http_filters.iter().enumerate();
        self.ours = filters.filter_map(|(index, filter)| Ours::of(filter, index, self, configuration)).collect();
    }

    fn find_routes(&mut self, manager: &Place<'c>, configuration: &Configuration<'c>, shared: &mut Shared<'c>) {
        let mut own = LeadsTo::default();
        let mut found = Vec::new();
        let mut wanted = Vec::new();
        found.extend(manager.get("route_config"));
        if let Some(rds) = manager.get("rds") {
            wanted.push((rds.text("route_config_name").unwrap_or_default(), rds));
        }
        if let Some(scoped) = manager.get("scoped_routes") {
            let list = scoped.get("scoped_route_configurations_list");
            let scopes = match &list {
                Some(list) => list.items("scoped_route_configurations"),
                None => configuration.scopes.clone(),
            };
            if scopes.is_empty() {
                own.unknown.push(scoped);
            }
            for scope in scopes {
                match scope.get("route_configuration") {
                    Some(routes) => found.push(routes),
                    None => wanted.push((scope.text("route_configuration_name").unwrap_or_default(), scope)),
                }
            }
        }
        for (name, place) in wanted {
            match configuration.routes.get(name) {
                Some(routes) => found.extend(routes.iter().cloned()),
                None => own.unknown.push(place),
            }
        }
        for place in found {
            let routes = shared.entry(std::ptr::from_ref(place.node)).or_insert_with(|| Rc::new(Routes::of(&place)));
            self.routes.push(Rc::clone(routes));
        }
        for config in self.http_filters.iter().filter_map(|filter| configuration.config(filter, MCP_ROUTER)) {
            own.add(&config);
        }
        if let [only] = self.routes.as_slice()
            && own.named.is_empty()
            && own.unknown.is_empty()
        {
            self.leads_to = Rc::clone(&only.leads_to);
            return;
        }
        for routes in &self.routes {
            own.named.extend(routes.leads_to.named.iter().map(|(name, place)| (*name, place.clone())));
            own.chosen = own.chosen.or_else(|| routes.leads_to.chosen.clone());
            own.unknown.extend(routes.leads_to.unknown.iter().cloned());
        }
        self.leads_to = Rc::new(own);
    }

    /// The same chain for requests that ask for an upgrade, if these have filters of their own.
    pub fn upgraded(&self, upgrade: &Place<'c>, configuration: &Configuration<'c>) -> Self {
        let mut chain = Self {
            manager: self.manager.clone(),
            http_filters: upgrade.items("filters"),
            routes: self.routes.clone(),
            leads_to: Rc::clone(&self.leads_to),
            ..Self::empty(&self.listener, self.index, self.place.clone())
        };
        chain.find_ours(configuration);
        chain
    }

    /// The filters among which the filter stands: of the connection manager, or of the chain if it is for connections.
    pub fn filters(&self) -> Cow<'_, [Place<'c>]> {
        match self.manager {
            Some(_) => Cow::Borrowed(&self.http_filters),
            None => Cow::Owned(self.place.items("filters")),
        }
    }

    /// Whether the filter decides about the requests of this chain. A filter whose policies are not known does.
    pub fn decides(&self) -> Decides {
        if self.ours.iter().any(|ours| ours.idle.is_none()) {
            return Decides::Yes;
        }
        match self.ours.first().and_then(|ours| ours.idle) {
            Some(Idle::Disabled) => Decides::Disabled,
            Some(Idle::NoPolicies) => Decides::NoPolicies,
            Some(Idle::Outgoing) => Decides::Outgoing,
            None => Decides::No,
        }
    }

    /// Whether a request or a connection can go on from here.
    pub fn leads_anywhere(&self) -> bool {
        self.manager.is_some()
            || !self.leads_to.named.is_empty()
            || self.leads_to.chosen.is_some()
            || !self.unknown_filters.is_empty()
    }

    /// Whether only other chains of this Envoy lead to this one.
    pub fn is_internal(&self) -> bool {
        self.listener.get("internal_listener").is_some()
    }

    /// The listener with its address, and the position of the chain.
    pub fn name(&self) -> String {
        let ChainSummary { listener, chain, .. } = self.summary();
        match chain {
            _ if self.listener.items("filter_chains").len() == 1 && chain.is_some() => format!("listener {listener}"),
            Some(index) => format!("listener {listener}, filter_chains[{index}]"),
            None if self.listener.get("default_filter_chain").is_some() => {
                format!("listener {listener}, default_filter_chain")
            }
            None => format!("listener {listener}"),
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
            decides: self.decides(),
            clusters: self.leads_to.named.keys().map(|name| (*name).to_owned()).collect(),
        }
    }

    /// The position of the first of our filters.
    pub fn first(&self) -> usize {
        self.ours.iter().map(|ours| ours.index).min().unwrap_or(usize::MAX)
    }
}

/// Whether a network filter sets the cluster of `tcp_proxy` from what the client sends.
fn sets_cluster(config: &Place<'_>) -> bool {
    config.text("object_key") == Some("envoy.tcp_proxy.cluster")
        || config.children().any(|(_, child)| sets_cluster(&child))
}
