//! What tells the filter about the peer: in `mesh_authz.peer`, in one of two forms, or in older filter state.

use serde_json::{Value, json};

use crate::reported::chain;
use crate::{assert_tree_finds, http_filters, route};

const TEXT: &str =
    "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%\n%DOWNSTREAM_LOCAL_PORT%\n%DOWNSTREAM_PEER_URI_SAN%";

fn entry(text: &str) -> Value {
    json!({
        "object_key": "mesh_authz.peer",
        "factory_key": "envoy.string",
        "format_string": { "omit_empty_values": true, "text_format_source": { "inline_string": text } },
    })
}

fn network(field: &str, entry: &Value) -> Value {
    json!({
        "name": "envoy.filters.network.set_filter_state",
        "typed_config": { "@type": "x/envoy.extensions.filters.network.set_filter_state.v3.Config", field: [entry] },
    })
}

/// Takes away the older filter state, and adds a network filter.
fn told(tree: &mut Value, filter: Value) {
    http_filters(tree)[0]["typed_config"]["on_request_headers"] = json!([]);
    chain(tree)["filters"].as_array_mut().unwrap().insert(0, filter);
}

const ONCE: &str = "on_downstream_tls_handshake";

#[test]
fn each_form_is_enough_by_itself() {
    assert_tree_finds(|tree| told(tree, network(ONCE, &entry(TEXT))), &[]);
    assert_tree_finds(|tree| told(tree, network("onDownstreamTlsHandshake", &entry(TEXT))), &[]);
    assert_tree_finds(|tree| http_filters(tree)[0]["typed_config"]["on_request_headers"] = json!([entry(TEXT)]), &[]);
    let mut without_omitting = entry(TEXT);
    without_omitting["format_string"]["omit_empty_values"].take();
    assert_tree_finds(|tree| told(tree, network(ONCE, &without_omitting)), &[]);
}

#[test]
fn the_older_filter_state_beside_it_does_not_matter() {
    assert_tree_finds(
        |tree| chain(tree)["filters"].as_array_mut().unwrap().insert(0, network(ONCE, &entry(TEXT))),
        &[],
    );
}

#[test]
fn nothing_is_found_missing_twice_with_different_advice() {
    let checked = assert_tree_finds(
        |tree| http_filters(tree)[0]["typed_config"]["on_request_headers"] = json!([]),
        &["ME013", "ME014"],
    );
    let hints: Vec<_> = checked.findings.iter().map(|finding| finding.diagnostic.hint.clone().unwrap()).collect();
    assert_eq!(hints[0], hints[1]);
    assert!(
        hints[0].starts_with("put the network filter `set_filter_state` before the connection manager"),
        "{hints:?}"
    );
}

#[test]
fn before_the_handshake_no_certificate_is_known() {
    let early = || network("on_new_connection", &entry(TEXT));
    let checked = assert_tree_finds(|tree| told(tree, early()), &["ME014"]);
    assert!(checked.findings[0].diagnostic.message.contains("before the TLS handshake"), "{:?}", checked.findings);
    // Without TLS, there is no certificate to wait for.
    let plaintext = |tree: &mut Value| {
        chain(tree)["transport_socket"].take();
        told(tree, early());
    };
    assert_tree_finds(plaintext, &["ME010"]);
}

#[test]
fn both_forms_at_once_are_found() {
    let both = |tree: &mut Value| {
        http_filters(tree)[0]["typed_config"]["on_request_headers"] = json!([entry(TEXT)]);
        chain(tree)["filters"].as_array_mut().unwrap().insert(0, network(ONCE, &entry(TEXT)));
    };
    let checked = assert_tree_finds(both, &["ME013", "ME014"]);
    assert_eq!(checked.findings[0].diagnostic.hint.as_deref(), Some("remove the HTTP filter"));
}

#[test]
fn another_text_is_found_wherever_it_is() {
    for text in [
        "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%\n%DOWNSTREAM_LOCAL_PORT%\n%DOWNSTREAM_PEER_URI_SAN%",
        "%REQ(X-PEER)%\n%DOWNSTREAM_LOCAL_PORT%\n%DOWNSTREAM_PEER_URI_SAN%",
        "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%\\n%DOWNSTREAM_LOCAL_PORT%\\n%DOWNSTREAM_PEER_URI_SAN%",
        "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
        &format!("{TEXT}\n"),
    ] {
        assert_tree_finds(|tree| told(tree, network(ONCE, &entry(text))), &["ME013", "ME014"]);
    }
    let mut other_factory = entry(TEXT);
    other_factory["factory_key"] = json!("envoy.network.upstream_server_name");
    assert_tree_finds(|tree| told(tree, network(ONCE, &other_factory)), &["ME013", "ME014"]);
    // A route has its own value.
    let of_route =
        json!({ "envoy.filters.http.set_filter_state": { "on_request_headers": [entry("%REQ(x-ip)%\n1\n")] } });
    let with_route = |tree: &mut Value| {
        route(tree)["typed_per_filter_config"] = of_route;
        told(tree, network(ONCE, &entry(TEXT)));
    };
    assert_tree_finds(with_route, &["ME013", "ME014"]);
    let also_early = |tree: &mut Value| {
        told(tree, network(ONCE, &entry(TEXT)));
        chain(tree)["filters"].as_array_mut().unwrap().insert(0, network("on_new_connection", &entry("10.0.0.1\n1\n")));
    };
    assert_tree_finds(also_early, &["ME013", "ME014"]);
}

#[test]
fn what_is_not_set_for_every_request_is_found() {
    let of_some = |tree: &mut Value| {
        http_filters(tree)[0]["typed_config"]["on_request_headers"] = json!([entry(TEXT)]);
        http_filters(tree)[0]["disabled"] = json!(true);
    };
    assert_tree_finds(of_some, &["ME013", "ME014"]);
    assert_tree_finds(|tree| told(tree, network("on_downstream_data", &entry(TEXT))), &["ME013", "ME014"]);
}
