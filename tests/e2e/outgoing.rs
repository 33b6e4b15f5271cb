//! `outgoing: pass`: the filter is on all listeners of a proxy, as a resource of Istio without `match` loads it. Only the
//! requests that the workload of a sidecar sends pass undecided.

use serde_json::{Value, json};
use testbed::Request;

use crate::shared::resources;
use crate::sidecar::{Blueprint, FRONTEND, PATIENCE, Sidecar, client_of, policy};

const SIDECAR: &str = "sidecar~10.0.0.1~backend-1.default~default.svc.cluster.local";

/// The directions of listeners that every proxy of these tests has.
const DIRECTIONS: [&str; 3] = ["INBOUND", "OUTBOUND", "UNSPECIFIED"];

fn deny_all() -> Value {
    json!([policy("deny", "DENY", &[json!({})])])
}

/// The listener for each direction, named after it. Each has the filter with this configuration: a value, or a text.
fn listeners(config: &Value) -> (Blueprint, Vec<Value>) {
    let mut blueprint = Blueprint::new(config);
    if config.is_string() {
        blueprint.wasm_filter()["configuration"] =
            json!({ "@type": "type.googleapis.com/google.protobuf.StringValue", "value": config });
    }
    let listener = blueprint.listener().clone();
    let towards = |direction: &&str| {
        let mut listener = listener.clone();
        listener["name"] = json!(direction);
        listener["traffic_direction"] = json!(direction);
        listener
    };
    let listeners = DIRECTIONS.iter().map(towards).collect();
    (blueprint, listeners)
}

/// A proxy with this node id, with one listener for each direction. Without an id, the node has none.
fn start(node_id: Option<&str>, config: &Value) -> Sidecar {
    let (mut blueprint, listeners) = listeners(config);
    match node_id {
        Some(id) => blueprint.bootstrap["node"]["id"] = json!(id),
        None => drop(blueprint.bootstrap["node"].as_object_mut().unwrap().remove("id")),
    }
    blueprint.bootstrap["static_resources"]["listeners"] = json!(listeners);
    blueprint.start()
}

/// The status of a request, by the direction of the listener.
fn statuses(proxy: &Sidecar) -> [u16; 3] {
    DIRECTIONS.map(|direction| {
        let client = client_of(proxy.envoy.address(direction).unwrap(), FRONTEND);
        let [first, second] = [(); 2].map(|()| client.send(&Request::get("/")).unwrap().status);
        assert_eq!(first, second, "{direction}");
        first
    })
}

#[test]
fn only_what_the_workload_of_a_sidecar_sends_passes() {
    let pass = json!({ "policies": deny_all(), "outgoing": "pass" });
    let router = "router~10.0.0.1~gateway-1.default~default.svc.cluster.local";
    for (node_id, expected) in [
        (Some(SIDECAR), [403, 200, 403]),
        (Some("sidecar~"), [403, 200, 403]),
        (Some(router), [403; 3]),
        (Some("waypoint~10.0.0.1~waypoint-1.default~default.svc.cluster.local"), [403; 3]),
        (Some("sidecar"), [403; 3]),
        (Some(" sidecar~10.0.0.1"), [403; 3]),
        (Some("Sidecar~10.0.0.1"), [403; 3]),
        (None, [403; 3]),
    ] {
        assert_eq!(statuses(&start(node_id, &pass)), expected, "{node_id:?}");
    }
    let decide = json!({ "policies": deny_all(), "outgoing": "decide" });
    for config in [decide, json!({ "policies": deny_all() })] {
        assert_eq!(statuses(&start(Some(SIDECAR), &config)), [403; 3], "{config}");
    }
}

#[test]
fn what_passes_is_not_counted_and_the_log_says_that_it_passes() {
    let proxy = start(Some(SIDECAR), &json!({ "policies": deny_all(), "outgoing": "pass", "filterState": "all" }));
    assert_eq!(statuses(&proxy), [403, 200, 403]);
    proxy.envoy.wait_for_log("every request on an outgoing listener of this sidecar passes", PATIENCE).unwrap();
    proxy.envoy.wait_for_stat("wasmcustom.mesh_authz.denied", |denied| denied == 4, PATIENCE).unwrap();
    assert_eq!(proxy.envoy.stats().unwrap().get("wasmcustom.mesh_authz.allowed").copied().unwrap_or(0), 0);

    let gateway = start(Some("router~"), &json!({ "policies": deny_all(), "outgoing": "pass" }));
    assert!(!gateway.envoy.log().contains("outgoing listener"), "it has none");
}

/// The field is read apart from the rest, like `onInvalid`.
#[test]
fn a_bad_configuration_refuses_what_the_workload_receives_and_not_what_it_sends() {
    let cut_off = r#"{"onInvalid":"deny","outgoing":"pass","policies":[{"#;
    for (config, expected) in [
        (json!({ "onInvalid": "deny", "outgoing": "pass", "policies": 5 }), [403, 200, 403]),
        (json!({ "onInvalid": "deny", "outgoing": "pass", "policies": deny_all(), "unknown": 1 }), [403, 200, 403]),
        (json!(cut_off), [403, 200, 403]),
        // What nobody can read does not let anything pass.
        (json!({ "onInvalid": "deny", "outgoing": "pas", "policies": [] }), [403; 3]),
        (json!({ "onInvalid": "deny", "outgoing": ["pass"], "policies": [] }), [403; 3]),
        (json!(r#"{"onInvalid":"deny","outgoing":"pass","outgoing":"decide","policies":[]}"#), [403; 3]),
        (json!(r#"{"onInvalid":"deny","policies":[{"outgoing":"pass"},],"outgoing":"pass"}"#), [403; 3]),
        (json!({ "onInvalid": "deny", "policies": 5 }), [403; 3]),
    ] {
        assert_eq!(statuses(&start(Some(SIDECAR), &config)), expected, "{config}");
    }
    assert_eq!(statuses(&start(Some("router~1"), &json!(cut_off))), [403; 3]);
}

#[test]
fn after_a_bad_update_outgoing_requests_go_on_as_before() {
    let lets_through = json!([policy("allow", "ALLOW", &[json!({})])]);
    let good = json!({ "onInvalid": "deny", "outgoing": "pass", "policies": deny_all() });
    let stays = "the previous one stays in force";
    for (bad, says, expected) in [
        // The configuration that stays in force says that they pass.
        (json!({ "onInvalid": "deny", "policies": 5 }), stays, [403, 200, 403]),
        (
            json!({ "onInvalid": "deny", "outgoing": "decide", "policies": lets_through, "x": 1 }),
            stays,
            [403, 200, 403],
        ),
        // Nobody can tell which configuration came before one that is cut off.
        (json!(r#"{"onInvalid":"deny","policies":[{"#), "there is no previous one", [403; 3]),
    ] {
        let (mut blueprint, first) = listeners(&good);
        blueprint.bootstrap["node"]["id"] = json!(SIDECAR);
        let proxy = blueprint.with_listeners(&first).start();
        assert_eq!(statuses(&proxy), [403, 200, 403]);
        let mark = proxy.envoy.log_mark();
        proxy.envoy.write_file_atomically("lds.json", resources(&listeners(&bad).1)).unwrap();
        proxy.envoy.wait_for_log_since(mark, says, PATIENCE).unwrap();
        assert_eq!(statuses(&proxy), expected, "{bad}");
    }
}
