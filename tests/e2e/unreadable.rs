//! Attributes that exist but cannot be read. They may neither make an ALLOW rule match nor exempt a request from a DENY
//! rule.

use serde_json::{Value, json};
use testbed::{Request, San};

use crate::question::{Answer::*, ask_alone, ask_with, source};
use crate::sidecar::{Blueprint, FRONTEND, denied_by};

/// A filter that sets filter state to the value of the header `x-value`. Without the header, it sets nothing.
fn filter_state_from_header(key: &str) -> Value {
    json!({
        "name": "test.set_filter_state",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config",
            "on_request_headers": [{
                "object_key": key,
                "factory_key": "envoy.string",
                "skip_if_empty": true,
                "format_string": { "text_format_source": { "inline_string": "%REQ(X-VALUE)%" }, "omit_empty_values": true },
            }],
        },
    })
}

#[test]
fn a_source_address_that_is_no_address_is_unreadable() {
    let asked = ask_with(vec![source("local", "ipBlocks", "source.ip", &["127.0.0.0/8"])], json!({}), |blueprint| {
        blueprint.without_source_ip().filter(filter_state_from_header("mesh_authz.source_ip"))
    });
    let client = asked.client(FRONTEND);
    for (value, expected) in [
        ("127.0.0.1", Match),
        ("10.0.0.1", NoMatch),
        // With a port, as in %DOWNSTREAM_DIRECT_REMOTE_ADDRESS%.
        ("127.0.0.1:80", Unreadable),
        ("127.0.0.1, 10.0.0.1", Unreadable),
        ("127.0.0.256", Unreadable),
        ("-", Unreadable),
    ] {
        let request = Request::get("/").header("x-value", value);
        assert_eq!(asked.answer("local", &client, &request), expected, "{value}");
    }
    assert_eq!(asked.answer("local", &client, &Request::get("/")), Unreadable);
}

#[test]
fn filter_state_that_envoy_cannot_turn_into_text_does_not_pass_for_an_address() {
    // Envoy reports such an object as absent, like an object that nothing has set.
    let object = json!({
        "name": "test.set_filter_state",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config",
            "on_request_headers": [{
                "object_key": "mesh_authz.source_ip",
                "factory_key": "envoy.network.application_protocols",
                "format_string": { "text_format_source": { "inline_string": "127.0.0.1" } },
            }],
        },
    });
    let asked = ask_with(vec![source("local", "ipBlocks", "source.ip", &["127.0.0.0/8"])], json!({}), |blueprint| {
        blueprint.without_source_ip().filter(object)
    });
    assert_eq!(asked.answer("local", &asked.client(FRONTEND), &Request::get("/")), Unreadable);
}

#[test]
fn the_decision_names_the_attribute_that_could_not_be_read() {
    for (question, attribute) in [
        (source("asked", "ipBlocks", "source.ip", &["10.0.0.0/8"]), "source.ip"),
        (source("asked", "principals", "source.principal", &["elsewhere"]), "source.principal"),
    ] {
        let asked = ask_alone(vec![question], json!({}), Blueprint::without_source_ip);
        let client = asked.client_named(&[San::UriBytes(b"spiffe://a\0b".to_vec())], None);
        let refused = client.send(&Request::get("/").header("x-rule", "deny-asked-0")).unwrap();
        assert_eq!((refused.status, refused.header("x-details")), (403, Some(denied_by("deny-asked-0", 0))));
        let decisions = asked.decisions();
        assert_eq!(decisions[0]["unreadable"], attribute);
        // No value is logged in place of the attribute that could not be read.
        assert_eq!([&decisions[0]["source_ip"], &decisions[0]["remote_ip"]], [&Value::Null, &json!("127.0.0.1")]);
    }
}
