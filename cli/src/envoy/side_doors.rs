//! Filter chains that lead to the same clusters without the filter, or with other policies.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::rc::Rc;

use mesh_authz::policy::{Action, AuthorizationPolicy};

use super::Decides;
use super::catalogue::{SIDE_DOOR, UNKNOWN};
use super::chain::Chain;
use super::configuration::Configuration;
use super::place::Place;
use crate::load::finding::{Finding, Severity};

/// What a cluster reaches.
#[derive(Debug, Default)]
struct Reached {
    /// The names of clusters, and the addresses of their endpoints.
    names: BTreeSet<String>,
    /// Clusters of which the input does not say what they reach.
    unknown: BTreeSet<String>,
    /// Where a client chooses the address, and whether it is free to.
    chosen: Option<Severity>,
    /// Chains without the filter on the way.
    chains: BTreeSet<usize>,
}

/// The chains without the filter through which requests go that this chain has let pass.
pub fn behind<'k, 'c>(chain: &Chain<'c>, clusters: &mut Clusters<'k, 'c>) -> Vec<&'k Chain<'c>> {
    let mut found = BTreeSet::new();
    for name in chain.leads_to.named.keys() {
        found.extend(clusters.reached(name).chains.iter().copied());
    }
    found.into_iter().filter_map(|index| clusters.chains.get(index)).collect()
}

/// A finding for each cluster to which a chain with the filter and a chain without it lead.
pub fn open(clusters: &mut Clusters<'_, '_>) -> Vec<Finding> {
    let chains = clusters.chains;
    let (protected, others): (Vec<_>, Vec<_>) = chains.iter().partition(|chain| chain.decides() == Decides::Yes);
    let mut findings = Vec::new();
    if protected.is_empty() {
        return findings;
    }
    // What a chain with the filter reaches, by name and address.
    let mut applications: HashMap<String, Vec<(&Chain<'_>, &Place<'_>)>> = HashMap::new();
    let mut unknown = BTreeMap::new();
    for chain in &protected {
        for (name, place) in &chain.leads_to.named {
            let reached = clusters.reached(name);
            for name in &reached.names {
                applications.entry(name.clone()).or_default().push((chain, place));
            }
            unknown.extend(reached.unknown.iter().map(|name| (name.clone(), place.clone())));
        }
    }
    let leads_anywhere = protected.iter().find_map(|chain| chain.leads_to.chosen.clone());
    // Chains of internal listeners count where other chains lead to them.
    for chain in others.iter().filter(|chain| !chain.is_internal()) {
        for (name, place) in &chain.leads_to.named {
            let reached = clusters.reached(name);
            let same = reached.names.iter().find_map(|name| applications.get(name)?.first());
            if let Some((other, decided)) = same {
                findings.push(side_door(chain, (name, place), (other, decided)));
                continue;
            }
            if let Some(severity) = reached.chosen {
                let message =
                    format!("{} has no filter, and its cluster {name} lets a client choose the address", chain.name());
                let hint = "put the filters into this chain as well, or remove what leads to the cluster";
                findings.push(place.report(severity, &SIDE_DOOR, message, hint));
            }
            unknown.extend(reached.unknown.iter().map(|name| (name.clone(), place.clone())));
            if let Some(anywhere) = &leads_anywhere {
                let message = format!("{} leads to cluster {name} without the filter", chain.name());
                let hint = "put the filters into this chain as well, or name the clusters in the routes";
                let mut finding = place.warning(&SIDE_DOOR, message, hint);
                finding
                    .related
                    .push(anywhere.related("behind the filter, a request chooses the cluster: it may be this one"));
                findings.push(finding);
            }
        }
        findings.extend(chain.leads_to.chosen.as_ref().map(|place| {
            let message = format!("{} has no filter, and a client chooses the cluster", chain.name());
            place.error(&SIDE_DOOR, message, "put the filters into this chain as well")
        }));
        let unknown = chain
            .leads_to
            .unknown
            .iter()
            .map(|place| (place, "routes"))
            .chain(chain.unknown_filters.iter().map(|place| (place, "filter")));
        findings.extend(unknown.map(|(place, what)| {
            let message =
                format!("{} does not have the mesh-authz filter, and its {what} comes from elsewhere", chain.name());
            place.warning(&UNKNOWN, message, "give the file as well, or the /config_dump of the running Envoy")
        }));
    }
    let has_others = others.iter().any(|chain| !chain.leads_to.named.is_empty());
    findings.extend(unknown.into_iter().filter(|_| has_others).map(|(name, place)| {
        let message =
            format!("the input does not have the endpoints of cluster {name}: another chain may lead to them, too");
        place.warning(&UNKNOWN, message, "give the /config_dump?include_eds of the running Envoy")
    }));
    findings.extend(other_policies(&protected, clusters));
    findings
}

fn side_door(
    chain: &Chain<'_>,
    (name, place): (&str, &Place<'_>),
    (other, decided): (&Chain<'_>, &Place<'_>),
) -> Finding {
    let application = if other.leads_to.named.contains_key(name) { "it" } else { "the same application" };
    let without = match chain.decides() {
        Decides::Yes | Decides::No => "without the filter",
        Decides::Disabled => "with a filter that is disabled",
        Decides::NoPolicies => "with a filter that has no policies",
        Decides::Outgoing => "with a filter that lets pass what the workload sends",
    };
    let message = format!("{} leads to cluster {name} {without}", chain.name());
    let hint = if chain.manager.is_some() {
        "put the filters, with the same policies, into this chain as well, or remove what leads to the cluster"
    } else {
        "put the filter, with the same policies, before `tcp_proxy` in this chain as well, or remove what leads to the cluster"
    };
    let mut finding = place.error(&SIDE_DOOR, message, hint);
    finding.related.push(decided.related(format!("in {}, the filter decides who reaches {application}", other.name())));
    finding
}

/// Errors for chains that lead to the same application with other policies than another chain.
fn other_policies(protected: &[&Chain<'_>], clusters: &mut Clusters<'_, '_>) -> Vec<Finding> {
    let set = |chain: &Chain<'_>| -> Option<BTreeMap<String, AuthorizationPolicy>> {
        let is_known = chain.ours.iter().all(super::ours::Ours::is_known);
        let policies = chain.ours.iter().flat_map(super::ours::Ours::policies);
        is_known.then(|| policies.map(|policy| (policy.name.to_string(), policy.clone())).collect())
    };
    let sets: Vec<_> = protected.iter().map(|chain| set(chain)).collect();
    let mut first: HashMap<String, usize> = HashMap::new();
    let mut findings = Vec::new();
    for (index, chain) in protected.iter().enumerate() {
        let Some(Some(own)) = sets.get(index) else { continue };
        let mut compared = BTreeSet::new();
        for (name, place) in &chain.leads_to.named {
            for reached in &clusters.reached(name).names {
                let other = *first.entry(reached.clone()).or_insert(index);
                let is_new = other != index && compared.insert(other);
                let Some(Some(theirs)) = sets.get(other).filter(|_| is_new) else { continue };
                // Over TCP, a provider over HTTP is not asked, and its policies do not count.
                let are_alike =
                    protected.get(other).is_some_and(|other| other.manager.is_some() == chain.manager.is_some());
                let lacks = |own: &BTreeMap<String, AuthorizationPolicy>,
                             theirs: &BTreeMap<String, AuthorizationPolicy>| {
                    let different = theirs.iter().find(|(name, policy)| {
                        (are_alike || policy.action != Action::Custom) && own.get(*name) != Some(policy)
                    });
                    different.map(|(name, _)| name.clone())
                };
                let Some(policy) = lacks(own, theirs).or_else(|| lacks(theirs, own)) else { continue };
                let message = format!(
                    "{} and another chain lead to the same application with different policies: policy {policy} decides only in one",
                    chain.name()
                );
                let mut finding = place.error(&SIDE_DOOR, message, "give the filters of both chains the same policies");
                if let Some(other) = protected.get(other)
                    && let Some(there) = other.leads_to.named.values().next()
                {
                    finding.related.push(there.related(format!("the other one is {}", other.name())));
                }
                findings.push(finding);
            }
        }
    }
    findings
}

/// What clusters reach, each found out once.
pub struct Clusters<'k, 'c> {
    configuration: &'k Configuration<'c>,
    chains: &'k [Chain<'c>],
    /// The chains without the filter, by position, with the addresses at which they listen.
    without_filter: Vec<(usize, &'k Chain<'c>, BTreeSet<String>)>,
    known: HashMap<String, Rc<Reached>>,
}

impl<'k, 'c> Clusters<'k, 'c> {
    pub fn of(configuration: &'k Configuration<'c>, chains: &'k [Chain<'c>]) -> Self {
        let others = chains.iter().enumerate().filter(|(_, chain)| chain.decides() != Decides::Yes);
        let without_filter = others.map(|(index, chain)| {
            let mut own = BTreeSet::new();
            if let Some(address) = chain.listener.get("address") {
                add_endpoints(&address, &mut own);
            }
            own.extend(chain.listener.text("name").filter(|_| chain.is_internal()).map(internal));
            (index, chain, own)
        });
        Self { configuration, chains, without_filter: without_filter.collect(), known: HashMap::new() }
    }

    /// What a cluster reaches: itself, its endpoints, the clusters of which it is made, and, if an endpoint is a listener of this
    /// Envoy without the filter, what that listener reaches.
    fn reached(&mut self, name: &str) -> Rc<Reached> {
        if let Some(known) = self.known.get(name) {
            return Rc::clone(known);
        }
        let mut reached = Reached::default();
        let mut open = vec![name.to_owned()];
        let mut seen = BTreeSet::new();
        while let Some(name) = open.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            reached.names.insert(name.clone());
            let Some(clusters) = self.configuration.clusters.get(name.as_str()) else {
                reached.unknown.insert(name);
                continue;
            };
            for cluster in clusters {
                open.extend(self.add(&name, cluster, &mut reached));
            }
        }
        let reached = Rc::new(reached);
        self.known.insert(name.to_owned(), Rc::clone(&reached));
        reached
    }

    /// Adds the endpoints of a cluster. Returns the further clusters to which they lead.
    fn add(&self, name: &str, cluster: &Place<'_>, reached: &mut Reached) -> Vec<String> {
        let mut further = Vec::new();
        let custom = cluster.get("cluster_type");
        if let Some((kind, config)) = custom.as_ref().and_then(Place::typed_config) {
            for member in config.items("clusters") {
                further.extend(member.node.as_str().or_else(|| member.text("name")).map(str::to_owned));
            }
            if kind.contains("dynamic_forward_proxy") {
                reached.chosen = Some(Severity::Error);
            }
        }
        let kind = cluster.get("type");
        if kind.as_ref().is_some_and(|kind| kind.is_value("ORIGINAL_DST", 4.0)) {
            let by_header =
                cluster.get("original_dst_lb_config").is_some_and(|config| config.is_true("use_http_header"));
            let severity = if by_header { Severity::Error } else { Severity::Warning };
            reached.chosen = reached.chosen.into_iter().chain([severity]).min();
        }
        let service = cluster.get("eds_cluster_config").and_then(|eds| eds.text("service_name"));
        let service = service.filter(|service| !service.is_empty()).unwrap_or(name);
        let discovered = self.configuration.endpoints.get(service).cloned();
        let is_discovered = kind.is_some_and(|kind| kind.is_value("EDS", 3.0));
        if is_discovered && discovered.is_none() {
            reached.unknown.insert(name.to_owned());
        }
        let mut addresses = BTreeSet::new();
        for assignment in cluster.get("load_assignment").into_iter().chain(discovered) {
            add_endpoints(&assignment, &mut addresses);
        }
        for (index, chain, own) in &self.without_filter {
            if !own.is_disjoint(&addresses) {
                further.extend(chain.leads_to.named.keys().map(|name| (*name).to_owned()));
                reached.chains.insert(*index);
                if chain.leads_to.chosen.is_some() {
                    reached.chosen = Some(Severity::Error);
                }
            }
        }
        reached.names.extend(addresses);
        further
    }
}

/// An internal listener, as an address.
fn internal(name: &str) -> String {
    format!("internal listener {name}")
}

fn add_endpoints(place: &Place<'_>, addresses: &mut BTreeSet<String>) {
    if let Some(address) = place.text("address").filter(|_| place.get("port_value").is_some()) {
        addresses.insert(format!("{}:{}", host(address), place.number("port_value")));
    }
    if let Some(path) = place.get("pipe").and_then(|pipe| pipe.text("path")) {
        addresses.insert(path.to_owned());
    }
    if let Some(name) = place.text("server_listener_name") {
        addresses.insert(internal(name));
    }
    for (name, child) in place.children() {
        if name != "health_check_config" {
            add_endpoints(&child, addresses);
        }
    }
}

/// A host in the form in which others can be compared with it. Every address of this machine counts as the same.
fn host(address: &str) -> String {
    const HERE: &str = "localhost";
    let name = address.trim_end_matches('.').to_ascii_lowercase();
    match name.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(ip) if ip.is_loopback() || ip.is_unspecified() => HERE.to_owned(),
        Ok(ip) => ip.to_string(),
        Err(_) => name,
    }
}
