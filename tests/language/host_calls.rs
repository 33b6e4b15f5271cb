//! The filter's calls to the host. It reads only the attributes that rules need, each one once. It reads no more
//! attributes after the decision is certain.

use std::cell::RefCell;

use mesh_authz::config::NodeMetadata;
use mesh_authz::filter::{FilterStatus, Host, Plugin, Reply};
use mesh_authz::request::{Headers, Lookup};
use serde_json::{Value, json};

use crate::support::reports_nothing;

/// A host with the request `GET /a` from `spiffe://td/ns/shop/sa/cart`. It records the filter's calls.
#[derive(Default)]
struct Recorder {
    calls: RefCell<Vec<String>>,
}

const PEER: &str = "filter_state mesh_authz.peer";
const DNS: &str = "connection dns_san_peer_certificate";

impl Host for Recorder {
    fn property(&self, path: &str) -> Lookup<Vec<u8>> {
        let path = path.replace('\0', " ");
        let value: &[u8] = match path.as_str() {
            PEER => b"10.0.0.1\n8080\nspiffe://td/ns/shop/sa/cart",
            "metadata" => b"",
            _ => &[],
        };
        let known = matches!(path.as_str(), PEER | "metadata");
        self.calls.borrow_mut().push(path);
        if known { Lookup::Value(value.to_vec()) } else { Lookup::Absent }
    }

    fn request_headers(&self) -> Lookup<Vec<u8>> {
        self.calls.borrow_mut().push("headers".to_owned());
        let headers = [(":authority", "shop"), (":path", "/a"), (":method", "GET"), ("x-tenant", "t")];
        Lookup::Value(Headers::encode(&headers))
    }

    fn respond(&self, _: &Reply, _: &str) {}
}

reports_nothing!(Recorder);

fn policy(number: usize, action: &str, rule: &Value) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "name": format!("p{number:05}") }, "spec": { "action": action, "rules": [rule] },
    })
}

/// The filter's answer to the request, and the calls that it made for it.
fn asked(policies: &[Value]) -> (FilterStatus, Vec<String>) {
    let config = json!({ "policies": policies, "trustDomain": "td", "decisionLog": "none", "allowNoneApplies": true });
    let recorder = Recorder::default();
    let plugin =
        Plugin::load(config.to_string().into_bytes(), &NodeMetadata::in_namespace("default"), &recorder).unwrap();
    let outcome = plugin.on_request(&recorder);
    (outcome, recorder.calls.into_inner())
}

fn principal_and_path(path: &str) -> Value {
    json!({
        "from": [{ "source": { "principals": ["td/ns/shop/sa/cart"] } }],
        "to": [{ "operation": { "methods": ["GET"], "paths": [path] } }],
    })
}

#[test]
fn without_policies_nothing_is_asked() {
    assert_eq!(asked(&[]), (FilterStatus::Continue, vec![]));
    let elsewhere = json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "name": "elsewhere", "namespace": "elsewhere" }, "spec": {},
    });
    assert_eq!(asked(&[elsewhere]), (FilterStatus::Continue, vec![]), "with policies for other workloads only");
    assert_eq!(
        asked(&[policy(0, "DENY", &json!({}))]),
        (FilterStatus::Answered, vec![]),
        "a rule that asks for nothing"
    );
}

#[test]
fn a_request_line_that_does_not_match_settles_it() {
    assert_eq!(
        asked(&[policy(0, "ALLOW", &principal_and_path("/b"))]),
        (FilterStatus::Answered, vec!["headers".to_owned()])
    );
}

#[test]
fn what_matches_is_asked_for_once_each() {
    let rules: Vec<_> = ["/b", "/a", "/a", "/*"].map(principal_and_path).into();
    let policies: Vec<_> = rules.iter().enumerate().map(|(number, rule)| policy(number, "ALLOW", rule)).collect();
    let (outcome, calls) = asked(&policies);
    assert_eq!((outcome, calls), (FilterStatus::Continue, ["headers", PEER].map(str::to_owned).into()));
}

#[test]
fn a_thousand_rules_ask_for_no_more_than_one() {
    let rules = (0..1_000).map(|number| principal_and_path(&format!("/{number}")));
    let mut policies: Vec<_> = rules.enumerate().map(|(number, rule)| policy(number, "ALLOW", &rule)).collect();
    assert_eq!(asked(&policies), (FilterStatus::Answered, vec!["headers".to_owned()]));
    policies.push(policy(1_000, "ALLOW", &principal_and_path("/a")));
    assert_eq!(asked(&policies).1, ["headers", PEER]);
}

#[test]
fn all_headers_are_read_in_one_call() {
    let rule = json!({
        "to": [{ "operation": { "methods": ["GET"], "paths": ["/a"] } }],
        "when": [{ "key": "request.headers[x-tenant]", "values": ["t"] }],
    });
    assert_eq!(asked(&[policy(0, "ALLOW", &rule)]), (FilterStatus::Continue, vec!["headers".to_owned()]));
}

#[test]
fn further_names_of_the_peer_are_read_only_where_the_first_does_not_match() {
    let from = |field: &str, value: &str| policy(0, "ALLOW", &json!({ "from": [{ "source": { field: [value] } }] }));
    assert_eq!(asked(&[from("principals", "td/ns/shop/sa/cart")]).1, [PEER]);
    assert_eq!(asked(&[from("principals", "td/ns/shop/sa/pay")]).1, [PEER, DNS], "a subject is never a principal");
    assert_eq!(
        asked(&[from("namespaces", "warehouse")]).1,
        [PEER, DNS, "connection subject_peer_certificate"],
        "anything may hold a namespace"
    );
}

#[test]
fn what_is_told_about_the_connection_is_read_once() {
    let rule = json!({
        "from": [{ "source": { "principals": ["td/ns/shop/sa/cart"], "ipBlocks": ["10.0.0.1"] } }],
        "to": [{ "operation": { "ports": ["8080"] } }],
    });
    assert_eq!(asked(&[policy(0, "ALLOW", &rule)]), (FilterStatus::Continue, vec![PEER.to_owned()]));
}

#[test]
fn rules_that_come_too_late_to_be_the_first_are_not_looked_up() {
    let by_address = |number| {
        policy(number, "ALLOW", &json!({ "from": [{ "source": { "ipBlocks": [format!("10.0.{number}.0/24")] } }] }))
    };
    let mut policies: Vec<_> = (1..20).map(by_address).collect();
    assert_eq!(asked(&policies), (FilterStatus::Answered, vec![PEER.to_owned()]));
    policies.push(policy(0, "ALLOW", &json!({ "to": [{ "operation": { "paths": ["/a"] } }] })));
    policies.extend((20..40).map(|n| policy(n, "ALLOW", &principal_and_path(&format!("/{n}")))));
    assert_eq!(asked(&policies), (FilterStatus::Continue, vec!["headers".to_owned()]));
}
