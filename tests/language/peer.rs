//! What a filter before this one tells about the connection, in `mesh_authz.peer` or in older filter state.

use std::collections::BTreeMap;

use mesh_authz::config::NodeMetadata;
use mesh_authz::filter::{FilterStatus, Host, Plugin, Reply};
use mesh_authz::request::{Headers, Lookup};
use serde_json::{Value, json};

use crate::support::reports_nothing;

/// A host that knows these properties, and cannot read one of them.
#[derive(Clone, Default)]
struct Envoy {
    known: BTreeMap<&'static str, Vec<u8>>,
    unreadable: Option<&'static str>,
}

const PEER: &str = "filter_state mesh_authz.peer";
const OLD_IP: &str = "filter_state mesh_authz.source_ip";
const OLD_URIS: &str = "filter_state mesh_authz.peer_uris";
const FIRST_URI: &str = "connection uri_san_peer_certificate";
const TUNNEL: &str = "filter_state io.istio.peer_principal";
const PORT: &str = "destination port";

impl Envoy {
    fn with(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        self.known.insert(name, value.as_ref().to_vec());
        self
    }

    fn refusing(mut self, name: &'static str) -> Self {
        self.unreadable = Some(name);
        self
    }
}

impl Host for Envoy {
    fn property(&self, path: &str) -> Lookup<Vec<u8>> {
        let path = path.replace('\0', " ");
        if self.unreadable == Some(path.as_str()) {
            return Lookup::Unreadable;
        }
        self.known.get(path.as_str()).map_or(Lookup::Absent, |value| Lookup::Value(value.clone()))
    }

    fn request_headers(&self) -> Lookup<Vec<u8>> {
        Lookup::Value(Headers::encode(&[(":method", "GET"), (":path", "/a")]))
    }

    fn respond(&self, _: &Reply, _: &str) {}
}

reports_nothing!(Envoy);

/// What a rule makes of a request.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Match,
    NoMatch,
    /// It neither permits nor spares the request.
    Unreadable,
}
use Answer::{Match, NoMatch, Unreadable};

/// What a rule makes of the request, found out by an ALLOW and a DENY policy.
fn answer_with(rule: &Value, settings: &Value, envoy: &Envoy) -> Answer {
    let passes = |action: &str| {
        let policy = json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": { "name": "asked" }, "spec": { "action": action, "rules": [rule] },
        });
        let mut config = json!({ "policies": [policy], "decisionLog": "none" });
        config.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let node = NodeMetadata::in_namespace("default");
        Plugin::load(config.to_string().into_bytes(), &node, envoy).unwrap().on_request(envoy) == FilterStatus::Continue
    };
    match (passes("ALLOW"), passes("DENY")) {
        (true, false) => Match,
        (false, true) => NoMatch,
        (false, false) => Unreadable,
        (true, true) => panic!("a rule cannot both match and not match"),
    }
}

fn address(envoy: &Envoy) -> Answer {
    answer_with(&json!({ "from": [{ "source": { "ipBlocks": ["10.0.0.0/8"] } }] }), &json!({}), envoy)
}

fn port(envoy: &Envoy) -> Answer {
    answer_with(&json!({ "to": [{ "operation": { "ports": ["8080"] } }] }), &json!({}), envoy)
}

fn principal(envoy: &Envoy) -> Answer {
    answer_with(&json!({ "from": [{ "source": { "principals": ["td/ns/a/sa/b"] } }] }), &json!({}), envoy)
}

/// A connection about which a filter tells this.
fn told(peer: impl AsRef<[u8]>) -> Envoy {
    Envoy::default().with(PEER, peer)
}

const URI: &str = "spiffe://td/ns/a/sa/b";
const OTHER: &str = "spiffe://td/ns/c/sa/d";

#[test]
fn the_three_fields_are_the_address_the_port_and_the_uris() {
    let envoy = told(format!("10.1.2.3\n8080\n{URI}"));
    assert_eq!([address(&envoy), port(&envoy), principal(&envoy)], [Match, Match, Match]);
    let envoy = told(format!("192.0.2.1\n80\n{OTHER}"));
    assert_eq!([address(&envoy), port(&envoy), principal(&envoy)], [NoMatch, NoMatch, NoMatch]);
}

#[test]
fn with_another_number_of_fields_all_of_them_are_unreadable() {
    for peer in
        ["", "10.1.2.3", "10.1.2.3\n8080", &format!("10.1.2.3\n8080\n{URI}\n"), &format!("\n10.1.2.3\n8080\n{URI}")]
    {
        // What else Envoy says does not take the place of what cannot be told apart.
        let envoy = told(peer).with(FIRST_URI, URI).with(PORT, 8080_i64.to_le_bytes());
        assert_eq!([address(&envoy), port(&envoy)], [Unreadable, Unreadable], "{peer:?}");
        let envoy = envoy.with(FIRST_URI, OTHER);
        assert_eq!(principal(&envoy), Unreadable, "{peer:?}");
    }
}

#[test]
fn a_path_or_a_uri_with_line_feeds_forges_no_field() {
    // The path of a client's Unix socket, and a URI in a client's certificate.
    for peer in [
        format!("/tmp/\n10.1.2.3\n8080\n{URI}\n8080\n"),
        format!("10.1.2.3\n8080\n{URI}\n0\n"),
        format!("192.0.2.1\n80\nspiffe://x\n10.1.2.3\n8080\n{URI}"),
        format!("192.0.2.1\n80\n\n{URI}"),
    ] {
        let envoy = told(&peer).with(FIRST_URI, OTHER);
        assert_eq!(
            [address(&envoy), port(&envoy), principal(&envoy)],
            [Unreadable, Unreadable, Unreadable],
            "{peer:?}"
        );
    }
}

#[test]
fn an_address_that_is_none_does_not_spoil_the_other_fields() {
    for address_text in ["", "-", "/tmp/socket", "envoy://internal/", "10.0.0.1:80", "10.0.0.256", "10.0.0.1 "] {
        let envoy = told(format!("{address_text}\n8080\n{URI}"));
        assert_eq!([address(&envoy), port(&envoy), principal(&envoy)], [Unreadable, Match, Match], "{address_text:?}");
    }
}

#[test]
fn if_the_port_is_none_envoys_attribute_counts() {
    for text in ["", "-", "http", "65536", "+8080", " 8080", "8080 "] {
        let envoy = told(format!("10.1.2.3\n{text}\n{URI}"));
        assert_eq!(port(&envoy.clone().with(PORT, 8080_i64.to_le_bytes())), Match, "{text:?}");
        assert_eq!(port(&envoy.clone().with(PORT, 81_i64.to_le_bytes())), NoMatch, "{text:?}");
        assert_eq!(port(&envoy.clone().refusing(PORT)), Unreadable, "{text:?}");
        assert_eq!(principal(&envoy), Match, "{text:?}");
        // A path of a Unix socket can look like an address, and a connection of Unix sockets has no port.
        assert_eq!(address(&envoy), Unreadable, "{text:?}");
    }
    let envoy = told(format!("10.1.2.3\n8080\n{URI}")).with(PORT, 81_i64.to_le_bytes());
    assert_eq!(port(&envoy), Match);
}

#[test]
fn without_uris_envoys_attribute_counts_and_then_the_peer_of_a_tunnel() {
    for uris in ["", "-"] {
        let envoy = told(format!("10.1.2.3\n8080\n{uris}"));
        assert_eq!(principal(&envoy), NoMatch);
        assert_eq!(principal(&envoy.clone().with(FIRST_URI, URI)), Match);
        assert_eq!(principal(&envoy.clone().with(TUNNEL, URI)), Match);
        assert_eq!(principal(&envoy.with(TUNNEL, URI).with(FIRST_URI, OTHER)), NoMatch);
    }
}

#[test]
fn a_comma_is_in_the_only_uri_or_between_several() {
    let both = format!("{URI},{OTHER}");
    let envoy = told(format!("10.1.2.3\n8080\n{both}"));
    assert_eq!(principal(&envoy.clone().with(FIRST_URI, URI)), Match);
    assert_eq!(principal(&envoy.clone().with(FIRST_URI, OTHER)), Unreadable);
    assert_eq!(principal(&envoy.with(FIRST_URI, both)), NoMatch);
}

#[test]
fn bytes_that_are_no_text_are_compared_as_bytes() {
    let envoy = told(b"10.1.2.3\n8080\nspiffe://td/ns/a/sa/b\xff");
    assert_eq!([address(&envoy), port(&envoy), principal(&envoy)], [Match, Match, NoMatch]);
    let envoy = told([b"10.1.2.3\xff\n8080\xff\n", URI.as_bytes()].concat());
    assert_eq!([address(&envoy), port(&envoy), principal(&envoy)], [Unreadable, NoMatch, Match]);
}

#[test]
fn what_the_host_refuses_is_unreadable_and_older_filter_state_does_not_replace_it() {
    let envoy = Envoy::default().with(OLD_IP, "10.1.2.3").with(OLD_URIS, URI).with(FIRST_URI, OTHER).refusing(PEER);
    let envoy = envoy.with(PORT, 8080_i64.to_le_bytes());
    assert_eq!([address(&envoy), port(&envoy), principal(&envoy)], [Unreadable, Unreadable, Unreadable]);
}

#[test]
fn older_filter_state_is_read_if_there_is_no_newer() {
    let envoy = Envoy::default().with(OLD_IP, "10.1.2.3").with(OLD_URIS, URI).with(PORT, 8080_i64.to_le_bytes());
    assert_eq!([address(&envoy), port(&envoy), principal(&envoy)], [Match, Match, Match]);
    assert_eq!(address(&Envoy::default().with(OLD_IP, "192.0.2.1")), NoMatch);
    assert_eq!(address(&Envoy::default()), Unreadable);
    let several = Envoy::default().with(OLD_URIS, format!("{URI},{OTHER}"));
    assert_eq!(principal(&several.clone().with(FIRST_URI, OTHER)), Unreadable);
    assert_eq!(principal(&several.with(FIRST_URI, URI)), Match);
}

#[test]
fn older_filter_state_that_differs_is_not_read() {
    let envoy = told(format!("192.0.2.1\n80\n{OTHER}")).with(OLD_IP, "10.1.2.3").with(OLD_URIS, URI);
    assert_eq!([address(&envoy), principal(&envoy)], [NoMatch, NoMatch]);
    // Not even in place of what is empty.
    let envoy = told("\n\n").with(OLD_IP, "10.1.2.3").with(OLD_URIS, URI);
    assert_eq!([address(&envoy), principal(&envoy)], [Unreadable, NoMatch]);
}

#[test]
fn other_sources_of_the_address_and_the_identity_do_not_depend_on_it() {
    let envoy = told(format!("10.1.2.3\n8080\n{URI}")).with("source address", "192.0.2.1:1").with(TUNNEL, OTHER);
    let by_address = json!({ "from": [{ "source": { "ipBlocks": ["10.0.0.0/8"] } }] });
    assert_eq!(answer_with(&by_address, &json!({ "sourceIpFrom": "remote-address" }), &envoy), NoMatch);
    let by_name = json!({ "from": [{ "source": { "principals": ["td/ns/a/sa/b"] } }] });
    assert_eq!(answer_with(&by_name, &json!({ "principalFrom": "filter-state" }), &envoy), NoMatch);
}
