//! What a route configuration says: where requests go, what changes them, and what filters have for some of them.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::place::Place;

/// A message around the configuration of a filter for a route.
const FILTER_CONFIG: &str = "envoy.config.route.v3.FilterConfig";

/// The clusters to which requests or connections go.
#[derive(Clone, Debug, Default)]
pub struct LeadsTo<'c> {
    /// Where it names them.
    pub named: BTreeMap<&'c str, Place<'c>>,
    /// Where a client chooses the cluster.
    pub chosen: Option<Place<'c>>,
    /// Where routes come from elsewhere.
    pub unknown: Vec<Place<'c>>,
}

/// A route configuration.
#[derive(Debug)]
pub struct Routes<'c> {
    pub place: Place<'c>,
    pub leads_to: Rc<LeadsTo<'c>>,
    pub filters: Vec<FilterOfRoute<'c>>,
    pub rewrites: Vec<Rewrite<'c>>,
    /// Where Envoy ends a tunnel.
    pub tunnels: Vec<Place<'c>>,
    /// The upgrades that routes allow.
    pub upgrades: Vec<Place<'c>>,
}

/// What a route, a virtual host or all routes have for a filter.
#[derive(Debug)]
pub struct FilterOfRoute<'c> {
    /// The name of the filter.
    pub name: &'c str,
    pub config: Place<'c>,
    /// Whether it is for all routes.
    pub is_for_all: bool,
    /// Whether it is for a route that leads to no application.
    pub leads_nowhere: bool,
}

/// What a route changes after all filters.
#[derive(Debug)]
pub struct Rewrite<'c> {
    pub what: Rewritten<'c>,
    pub place: Place<'c>,
    /// Whether a client chooses the result.
    pub is_chosen: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rewritten<'c> {
    Path,
    Host,
    Header(&'c str),
}

impl<'c> Routes<'c> {
    pub fn of(place: &Place<'c>) -> Self {
        let mut leads_to = LeadsTo::default();
        leads_to.unknown.extend(place.get("vhds"));
        leads_to.add(place);
        let mut routes = Self {
            leads_to: Rc::new(leads_to),
            filters: Vec::new(),
            rewrites: Vec::new(),
            tunnels: Vec::new(),
            upgrades: Vec::new(),
            place: place.clone(),
        };
        routes.find(place, true, false);
        routes
    }

    /// The configurations for the filter with this name, except those of routes that lead to no application.
    pub fn of_filter(&self, name: &str) -> impl Iterator<Item = &FilterOfRoute<'c>> {
        self.filters.iter().filter(move |found| found.name == name && !found.leads_nowhere)
    }

    fn find(&mut self, place: &Place<'c>, is_for_all: bool, leads_nowhere: bool) {
        let is_route = place.get("match").is_some();
        let answers = place.get("direct_response").is_some() || place.get("redirect").is_some();
        let leads_nowhere = leads_nowhere || (is_route && answers);
        for (name, child) in place.children() {
            let mut rewrite = |what, is_chosen| {
                // A text can have operators, which take something from the request.
                let is_chosen = is_chosen || child.node.as_str().is_some_and(|text| text.contains('%'));
                self.rewrites.push(Rewrite { what, place: child.clone(), is_chosen });
            };
            match &*name {
                "prefix_rewrite" | "regex_rewrite" | "path_rewrite_policy" | "path_rewrite" => {
                    rewrite(Rewritten::Path, false);
                }
                "host_rewrite_literal" | "host_rewrite" | "auto_host_rewrite" => rewrite(Rewritten::Host, false),
                "host_rewrite_header" | "host_rewrite_path_regex" => rewrite(Rewritten::Host, true),
                "request_headers_to_add" => {
                    for header in place.items("request_headers_to_add").iter().filter_map(|added| added.get("header")) {
                        let is_chosen = header.text("value").is_some_and(|value| value.contains('%'));
                        let what = Rewritten::Header(header.text("key").unwrap_or_default());
                        self.rewrites.push(Rewrite { what, place: header, is_chosen });
                    }
                }
                "typed_per_filter_config" => self.find_filters(&child, is_for_all, leads_nowhere),
                "connect_config" => self.tunnels.push(child),
                "upgrade_configs" => {
                    self.upgrades.extend(place.items("upgrade_configs"));
                    self.find(&child, false, leads_nowhere);
                }
                // Nothing goes to an application, or only a copy does.
                "redirect" | "direct_response" if is_route => {}
                "request_mirror_policies" => {}
                _ => self.find(&child, false, leads_nowhere),
            }
        }
    }

    fn find_filters(&mut self, all: &Place<'c>, is_for_all: bool, leads_nowhere: bool) {
        for (name, config) in all.fields() {
            let (kind, message) = config.message();
            let inner = if kind == FILTER_CONFIG { message.get("config").map(|inner| inner.message().1) } else { None };
            for config in std::iter::once(message).chain(inner) {
                // The one filter whose configuration for a route changes the host.
                if config.message_type().contains("dynamic_forward_proxy") {
                    self.find(&config, false, leads_nowhere);
                }
                self.filters.push(FilterOfRoute { name, config, is_for_all, leads_nowhere });
            }
        }
    }
}

impl<'c> LeadsTo<'c> {
    /// Adds every cluster to which a route or a network filter in this configuration sends.
    pub fn add(&mut self, place: &Place<'c>) {
        let is_route = place.get("match").is_some();
        for (name, child) in place.children() {
            match &*name {
                "cluster" => match child.node.as_str() {
                    Some(cluster) => {
                        self.named.entry(cluster).or_insert(child);
                    }
                    None => self.add(&child),
                },
                "cluster_header" | "cluster_specifier_plugin" | "inline_cluster_specifier_plugin" => {
                    self.chosen = Some(child);
                }
                "weighted_clusters" => {
                    for weighted in child.items("clusters") {
                        if let Some(cluster) = weighted.text("name").filter(|name| !name.is_empty()) {
                            self.named.entry(cluster).or_insert_with(|| weighted.clone());
                        }
                        self.chosen = self.chosen.take().or_else(|| weighted.get("cluster_header"));
                    }
                }
                // These belong to other filters, or lead nowhere.
                "typed_per_filter_config" | "rate_limits" | "access_log" => {}
                "redirect" | "direct_response" if is_route => {}
                _ => self.add(&child),
            }
        }
    }
}
