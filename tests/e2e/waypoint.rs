//! A waypoint as Istio makes it: one filter chain for each service, and the same plugin on all of them.

use serde_json::{Value, json};
use testbed::Request;

use crate::sidecar::{Blueprint, FRONTEND, PATIENCE, STRANGER, Sidecar, policy, to};

/// What each filter chain is named, and the server name that leads to it.
const CHAINS: [(&str, Option<&str>); 8] = [
    ("inbound-vip|8080|http|cart.shop.svc.cluster.local", Some("cart.test")),
    ("inbound-vip|8081|http|pay.shop.svc.cluster.local", Some("pay.test")),
    ("inbound-vip|443|http|*.partner.example.com", Some("partner.test")),
    ("inbound-vip|8080|http|other.shop.svc.cluster.local", Some("other.test")),
    ("direct-http", Some("pod.test")),
    ("inbound-vip|8080|http|cart.shop.svc.mesh", Some("domain.test")),
    ("virtualInbound", Some("unknown.test")),
    ("", None),
];

fn for_target(name: &str, action: &str, rule: Value, reference: Value) -> Value {
    let mut policy = policy(name, action, &[rule]);
    policy["metadata"]["namespace"] = json!("shop");
    policy["spec"]["targetRefs"] = json!([reference]);
    policy
}

fn waypoint(more: &Value) -> Sidecar {
    let path = |path: &str| to(json!({ "paths": [path] }));
    let mut frontend = path("/pay");
    frontend["from"] = json!([{ "source": { "principals": [FRONTEND] } }]);
    let service = |name: &str| json!({ "kind": "Service", "name": name });
    let entry = json!({ "group": "networking.istio.io", "kind": "ServiceEntry", "name": "partners" });
    let gateway = json!({ "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "waypoint" });
    let host =
        |name: &str| json!({ "host": format!("{name}.shop.svc.cluster.local"), "namespace": "shop", "name": name });
    let mut config = json!({
        "policies": [
            for_target("whole", "DENY", path("/whole"), gateway),
            for_target("cart", "DENY", path("/cart"), service("cart")),
            for_target("pay", "ALLOW", frontend, service("pay")),
            for_target("partners", "DENY", path("/partners"), entry),
        ],
        "workload": { "namespace": "shop" },
        "gateway": {
            "name": "waypoint", "waypoint": true, "services": [host("cart"), host("pay")],
            "serviceEntries": [{ "host": "*.Partner.example.com", "namespace": "shop", "name": "partners" }],
        },
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut blueprint = Blueprint::new(&config).telling_details().filter(json!({
        "name": "envoy.filters.http.set_filter_state",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config",
            "on_request_headers": [{
                "object_key": "io.istio.peer_principal", "factory_key": "envoy.string",
                "format_string": { "text_format_source": { "inline_string": "%DOWNSTREAM_PEER_URI_SAN%" } },
            }],
        },
    }));
    let chain = blueprint.listener()["filter_chains"][0].clone();
    let chains = CHAINS.iter().map(|(name, server)| {
        let mut chain = chain.clone();
        if !name.is_empty() {
            chain["name"] = json!(name);
        }
        if let Some(server) = server {
            chain["filter_chain_match"] = json!({ "server_names": [server] });
        }
        chain
    });
    blueprint.listener()["filter_chains"] = chains.collect();
    blueprint.start()
}

/// The status of the response to this peer over the filter chain of this server name, and the response code details.
fn get(waypoint: &Sidecar, principal: &str, server: Option<&str>, path: &str) -> (u16, String) {
    let mut client = waypoint.client(principal);
    if let Some(server) = server {
        client.tls = client.tls.map(|tls| tls.server_name(server));
    }
    let response = client.send(&Request::get(path)).unwrap();
    (response.status, response.header("x-details").unwrap_or_default())
}

#[test]
fn the_filter_chain_of_a_request_tells_which_services_policies_decide() {
    let waypoint = waypoint(&json!({}));
    let refused = |policy: &str| (403, format!("rbac_access_denied_matched_policy[ns[shop]-policy[{policy}]-rule[0]]"));
    let none = || (403, "rbac_access_denied_matched_policy[none]".to_owned());
    let unknown = || (403, "mesh_authz_unknown_service".to_owned());
    let passed = || (200, "via_upstream".to_owned());
    for (chain, server) in CHAINS {
        let expected = |path: &str, principal: &str| match (server, path) {
            (Some("domain.test" | "unknown.test") | None, _) => unknown(),
            (_, "/whole") => refused("whole"),
            (Some("pay.test"), "/pay") if principal == FRONTEND => passed(),
            (Some("pay.test"), _) => none(),
            (Some("cart.test"), "/cart") => refused("cart"),
            (Some("partner.test"), "/partners") => refused("partners"),
            _ => passed(),
        };
        for principal in [FRONTEND, STRANGER] {
            for path in ["/whole", "/cart", "/pay", "/partners", "/free"] {
                let (status, details) = get(&waypoint, principal, server, path);
                let (expected_status, expected_details) = expected(path, principal);
                assert_eq!(status, expected_status, "{chain}: {principal} {path}\n{}", waypoint.envoy.log());
                assert!(status == 200 || details == expected_details, "{chain}: {path}: {details}");
            }
        }
    }
}

#[test]
fn counters_and_log_lines_are_those_of_all_services() {
    let waypoint = waypoint(&json!({ "decisionLog": "all" }));
    let count = |name: &str, expected: u64| {
        let name = format!("wasmcustom.mesh_authz.{name}");
        waypoint.envoy.wait_for_stat(&name, |count| count == expected, PATIENCE).unwrap();
    };
    count("config.policies", 4);
    count("config.rules", 4);
    for (server, path) in [
        (Some("cart.test"), "/whole"),
        (Some("cart.test"), "/cart"),
        (Some("pay.test"), "/whole"),
        (Some("pay.test"), "/pay"),
        (Some("pay.test"), "/cart"),
        (Some("pod.test"), "/cart"),
        (Some("domain.test"), "/free"),
        (None, "/free"),
    ] {
        get(&waypoint, FRONTEND, server, path);
    }
    for (name, expected) in [
        ("policy.shop.whole.matched", 2),
        ("policy.shop.cart.matched", 1),
        ("policy.shop.pay.matched", 1),
        ("policy.shop.partners.matched", 0),
        ("denied", 6),
        ("allowed", 2),
        ("unreadable_attribute", 0),
    ] {
        count(name, expected);
    }
    let services: Vec<_> = waypoint.decisions().iter().map(|line| line["service"].clone()).collect();
    let (cart, pay) = ("cart.shop.svc.cluster.local", "pay.shop.svc.cluster.local");
    let expected = [json!(cart), json!(cart), json!(pay), json!(pay), json!(pay), Value::Null];
    assert_eq!(services[..6], expected);
    assert_eq!(services[6..], [json!("cart.shop.svc.mesh"), Value::Null]);
    let reason = "the filter chain does not tell which service the request is for";
    assert!(waypoint.decisions()[6..].iter().all(|line| line["reason"] == reason));
    let refusal = waypoint.refusal_with_nearest(|| {
        get(&waypoint, FRONTEND, Some("pay.test"), "/cart");
    });
    let nearest = &refusal["nearest"];
    assert_eq!((&nearest["policy"], &nearest["key"]), (&json!("shop/pay"), &Value::Null), "{nearest}");
}

/// Elsewhere, the peer's identity is not where a waypoint has it, and everybody would be the same peer: nobody.
#[test]
fn a_configuration_for_a_waypoint_is_refused_on_other_proxies_of_istio() {
    let without = json!([{ "source": { "notPrincipals": [FRONTEND] } }]);
    let config = json!({
        "policies": [policy("others", "ALLOW", &[json!({ "from": without })])],
        "gateway": { "name": "waypoint", "waypoint": true },
        "workload": { "namespace": "default" },
        "allowNoneApplies": true,
    });
    let with = |node_id: &str| {
        let mut blueprint = Blueprint::new(&config);
        blueprint.bootstrap["node"]["id"] = json!(node_id);
        blueprint
    };
    for kind in ["sidecar", "router"] {
        let log = with(&format!("{kind}~10.0.0.1~backend-1.default~default.svc.cluster.local")).start_refused();
        assert!(log.contains("gateway: by its node id this proxy is no waypoint"), "{log}");
    }
    for id in ["waypoint~10.0.0.1~backend-1.default~default.svc.cluster.local", "my-envoy"] {
        with(id).start();
    }
}
