//! Filter chains that lead to the same clusters without the filter.

use std::collections::BTreeSet;

use mesh_authz::document::Value;

use super::catalogue::{SIDE_DOOR, UNKNOWN};
use super::chain::Chain;
use super::configuration::Configuration;
use super::place::Place;
use crate::load::finding::Finding;

/// A finding for each cluster to which a chain with the filter and a chain without it lead.
pub fn open(chains: &[Chain<'_>], configuration: &Configuration<'_>) -> Vec<Finding> {
    let (protected, others): (Vec<_>, Vec<_>) = chains.iter().partition(|chain| !chain.ours.is_empty());
    let mut applications = Vec::new();
    for chain in &protected {
        for (name, place) in &chain.leads_to.named {
            applications.push((*chain, place, reached(name, configuration)));
        }
    }
    let mut findings = Vec::new();
    if protected.is_empty() {
        return findings;
    }
    for chain in others {
        for (name, place) in &chain.leads_to.named {
            let own = reached(name, configuration);
            let same = applications.iter().find(|(_, _, application)| !application.is_disjoint(&own));
            if let Some((other, decided, application)) = same {
                findings.push(side_door(chain, (name, place), (other, decided), application.contains(*name)));
            }
        }
        findings.extend(chain.leads_to.chosen.as_ref().map(|place| {
            let message = format!(
                "{} has no filter, and a request chooses the cluster: it may be that of an application",
                chain.name()
            );
            place.warning(&SIDE_DOOR, message, "put the filters into this chain as well")
        }));
        findings.extend(chain.leads_to.unknown.as_ref().map(|place| {
            let message = format!("{} has no filter, and its routes come from elsewhere", chain.name());
            place.warning(
                &UNKNOWN,
                message,
                "give the file with the routes as well, or the /config_dump of the running Envoy",
            )
        }));
    }
    findings
}

fn side_door(
    chain: &Chain<'_>,
    (name, place): (&str, &Place<'_>),
    (other, decided): (&Chain<'_>, &Place<'_>),
    is_same_name: bool,
) -> Finding {
    let application = if is_same_name { "it" } else { "the same endpoint" };
    let message = format!("{} leads to cluster {name} without the filter", chain.name());
    let hint = "put the filters into this chain as well, or remove what leads to the cluster";
    let mut finding = place.error(&SIDE_DOOR, message, hint);
    finding.related.push(decided.related(format!("in {}, the filter decides who reaches {application}", other.name())));
    finding
}

/// What a cluster reaches: itself, its endpoints, and what the clusters reach that it is made of.
fn reached(name: &str, configuration: &Configuration<'_>) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut open = vec![name.to_owned()];
    while let Some(name) = open.pop() {
        let Some(cluster) = configuration.clusters.get(name.as_str()) else {
            reached.insert(name);
            continue;
        };
        if !reached.insert(name.clone()) {
            continue;
        }
        if let Some((_, custom)) = cluster.get("cluster_type").and_then(|custom| custom.typed_config()) {
            let members = custom.items("clusters").into_iter();
            open.extend(members.filter_map(|member| member.node.as_str().map(str::to_owned)));
        }
        let service = cluster.at(["eds_cluster_config"]).and_then(|eds| eds.text("service_name"));
        let discovered = configuration.endpoints.get(service.unwrap_or(&name)).cloned();
        for assignment in cluster.get("load_assignment").into_iter().chain(discovered) {
            add_endpoints(&assignment, &mut reached);
        }
    }
    reached
}

fn add_endpoints(place: &Place<'_>, reached: &mut BTreeSet<String>) {
    if let (Some(address), Some(port)) = (place.text("address"), place.get("port_value")) {
        let address = if address == "localhost" { "127.0.0.1" } else { address };
        if let Value::Number(port) = port.node.value {
            reached.insert(format!("{address}:{port}"));
        }
    }
    if let Some(path) = place.get("pipe").and_then(|pipe| pipe.text("path")) {
        reached.insert(path.to_owned());
    }
    for (name, child) in place.children() {
        if !matches!(name, "health_check_config" | "healthCheckConfig") {
            add_endpoints(&child, reached);
        }
    }
}
