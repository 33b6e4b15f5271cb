//! What tells the plugin about the peer: a network filter, once a connection, on proxies with a new enough Envoy.

use mesh_authz_istio::Pod;
use serde_json::{Value, json};

use crate::{
    gateway::Gateway,
    place::eventually,
    plugin::policy,
    rendered::render,
    tunnel,
    waypoint::{Waypoint, waypoint_target},
};

/// A policy that concerns nobody whose address is known.
fn denies_an_address(app: &str) -> Value {
    policy("policy", app, "DENY", json!([{ "from": [{ "source": { "ipBlocks": ["203.0.113.0/24"] } }] }]))
}

/// The same policy, with a target instead of a selector.
fn denies_an_address_at(target: &Value) -> Value {
    let mut policy = denies_an_address("");
    policy["spec"].as_object_mut().unwrap().remove("selector");
    policy["spec"]["targetRefs"] = target.clone();
    policy
}

/// How many filter chains have the network filter, and how many HTTP filters tell the same.
fn telling(pod: &Pod) -> (usize, usize) {
    let dump: Value = serde_json::from_str(&pod.admin("/config_dump?resource=dynamic_listeners").unwrap()).unwrap();
    let listeners = dump["configs"].as_array().unwrap().iter().map(|found| &found["active_state"]["listener"]);
    let chains = listeners.flat_map(|listener| {
        let listed = listener["filter_chains"].as_array().into_iter().flatten();
        listed.chain(listener.get("default_filter_chain"))
    });
    let tells = |filter: &Value| filter.to_string().contains("mesh_authz.peer");
    let (mut network, mut http) = (0, 0);
    for filter in chains.flat_map(|chain| chain["filters"].as_array().unwrap()) {
        let filters = filter["typed_config"]["http_filters"].as_array();
        http += filters.into_iter().flatten().filter(|filter| tells(filter)).count();
        network += usize::from(filter["name"] == "envoy.filters.network.set_filter_state" && tells(filter));
    }
    (network, http)
}

fn assert_told_once(pod: &Pod) {
    let (network, http) = telling(pod);
    assert!(network > 0 && http == 0, "{network} network filters, {http} HTTP filters");
}

#[test]
fn a_sidecar_is_told_once_a_connection_also_through_ztunnel() {
    let backend = tunnel::backend();
    let place = &backend.place;
    place.apply(&render(place, &[denies_an_address("backend")], &["--policies-applied"]));
    // Nobody knows the address of a caller through ztunnel, so it counts against the caller.
    eventually("an address", &[200, 403, 200, 403], || tunnel::answers(&backend));
    assert_told_once(&backend.pod);
    let ports =
        |port: &str| policy("policy", "backend", "ALLOW", json!([{ "to": [{ "operation": { "ports": [port] } }] }]));
    place.apply(&render(place, &[ports("8080")], &["--policies-applied"]));
    eventually("the port", &[200; 4], || tunnel::answers(&backend));
    place.apply(&render(place, &[ports("8081")], &["--policies-applied"]));
    eventually("another port", &[403; 4], || tunnel::answers(&backend));
}

#[test]
fn a_gateway_is_told_once_a_connection() {
    let gateway = Gateway::named("told");
    let target = json!([{ "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "told" }]);
    let mut open = denies_an_address_at(&target);
    open["spec"]["action"] = json!("ALLOW");
    gateway.place.apply(&render(&gateway.place, &[open.clone()], &["--policies-applied"]));
    eventually("another address", &[403; 3], || gateway.answers());
    open["spec"]["rules"] = json!([{ "from": [{ "source": { "ipBlocks": ["0.0.0.0/0", "::/0"] } }] }]);
    gateway.place.apply(&render(&gateway.place, &[open], &["--policies-applied"]));
    eventually("every address", &[200; 3], || gateway.answers());
    assert_told_once(&gateway.pod);
}

#[test]
fn a_waypoint_has_the_network_filter_and_knows_no_address() {
    let waypoint = Waypoint::new();
    let place = &waypoint.place;
    let own = format!("{}/waypoint", place.namespace);
    let policy = denies_an_address_at(&waypoint_target());
    place.apply(&render(place, &[policy], &["--waypoint", &own, "--policies-applied"]));
    eventually("no address is known", &403, || waypoint.ask("orders", "frontend", "GET", "/"));
    assert_told_once(&waypoint.pod);
}
