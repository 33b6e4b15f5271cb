//! Plugin configurations: which ones are refused and with which messages, how the workload is determined, and which
//! policies apply to it.

use serde_json::{Value, json};
use testbed::Request;

use crate::sidecar::{Blueprint, FRONTEND, Sidecar, filter_lines, policy, to};

fn deny(path: &str) -> Value {
    policy("deny", "DENY", &[to(json!({ "paths": [path] }))])
}

fn status(sidecar: &Sidecar, path: &str) -> u16 {
    sidecar.client(FRONTEND).send(&Request::get(path)).unwrap().status
}

/// The lines that the filter logs about a configuration that it refuses.
fn refusal(change: impl FnOnce(&mut Blueprint)) -> Vec<String> {
    let mut blueprint = Blueprint::new(&json!({ "policies": [] }));
    change(&mut blueprint);
    filter_lines(&blueprint.refused_shared())
}

fn refusal_of(config: Value) -> Vec<String> {
    refusal(|blueprint| blueprint.wasm_filter()["configuration"]["value"] = config)
}

#[track_caller]
fn assert_says(lines: &[String], expected: &str) {
    assert!(lines.iter().any(|line| line.contains(expected)), "{expected:?} is not in {lines:#?}");
}

#[test]
fn every_error_of_a_configuration_is_named_with_policy_field_and_hint() {
    let config = json!({ "policies": [
        {
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": { "name": "first" },
            "spec": { "action": "ALLOW", "rules": [
                { "from": [{ "source": { "principal": ["a"] } }] },
                { "to": [{ "operation": { "ports": ["http"], "paths": ["admin/{**}"] } }] },
                { "when": [{ "key": "request.headersX[foo]", "values": ["a"] }] },
            ] },
        },
        { "kind": "AuthorizationPolicy", "metadata": { "name": "second", "namespace": "shop" }, "spec": { "action": "DENY" } },
        policy("third", "DENY", &[json!({ "from": [{ "source": { "ipBlocks": ["10.0.0.0/33"] } }] })]),
    ] });
    // Envoy does not start with such a configuration.
    let lines = filter_lines(&Blueprint::new(&config).start_refused());
    for expected in [
        "policy default/first: policies[0].spec.rules[0].from[0].source.principal: unknown field, did you mean principals?",
        "policy default/first: policies[0].spec.rules[1].to[0].operation.ports[0]: `http` is not a valid port; ",
        "policy default/first: policies[0].spec.rules[1].to[0].operation.paths[0]: ",
        "policy default/first: policies[0].spec.rules[2].when[0].key: ",
        "policy shop/second: policies[1].apiVersion: is missing",
        "policy shop/second: policies[1].spec.rules: DENY without rules never matches; add an empty rule",
        "policy default/third: policies[2].spec.rules[0].from[0].source.ipBlocks[0]: `10.0.0.0/33` is not a valid CIDR range; ",
        "configuration refused: nothing of it is applied",
    ] {
        assert_says(&lines, expected);
    }
}

#[test]
fn unknown_fields_are_refused_with_a_suggestion() {
    let lines = refusal_of(json!({ "policys": [], "decisionLog": "loud", "denyResponse": { "status": 200 } }));
    assert_says(&lines, "policys: unknown field, did you mean policies?");
    assert_says(&lines, "policies: is missing");
    assert_says(&lines, "decisionLog: ");
    assert_says(&lines, "denyResponse.status: must be the status of a refusal");
}

#[test]
fn an_empty_configuration_is_refused() {
    let lines = refusal(|blueprint| {
        blueprint.wasm_filter().as_object_mut().unwrap().remove("configuration");
    });
    assert_says(&lines, "the plugin configuration is empty");
    assert_says(&refusal_of(json!({})), "the plugin configuration is empty");
}

#[test]
fn a_configuration_that_is_no_json_is_refused() {
    let text = |text: &str| {
        let configuration = json!({ "@type": "type.googleapis.com/google.protobuf.StringValue", "value": text });
        refusal(|blueprint| blueprint.wasm_filter()["configuration"] = configuration)
    };
    assert_says(&text("policies: []"), "the plugin configuration is not JSON");
    assert_says(&text(r#"{"policies": [], "policies": []}"#), "policies: ");
    assert_says(&text(r#"{"policies": []} {}"#), "the plugin configuration is not JSON");
}

#[test]
fn json_in_a_string_and_a_struct_mean_the_same() {
    let config = json!({ "policies": [deny("/admin")] });
    let mut as_text = Blueprint::new(&config);
    as_text.wasm_filter()["configuration"] =
        json!({ "@type": "type.googleapis.com/google.protobuf.StringValue", "value": config.to_string() });
    for sidecar in [as_text.start_shared(), Blueprint::new(&config).start_shared()] {
        assert_eq!([status(&sidecar, "/data"), status(&sidecar, "/admin")], [200, 403]);
    }
}

#[test]
fn no_policies_allow_everything() {
    let sidecar = Blueprint::new(&json!({ "policies": [] })).start_shared();
    assert_eq!(status(&sidecar, "/"), 200);
}

fn for_label(name: &str, app: &str) -> Value {
    let mut policy = policy(name, "DENY", &[to(json!({ "paths": [format!("/{name}")] }))]);
    policy["spec"]["selector"] = json!({ "matchLabels": { "app": app } });
    policy
}

fn in_namespace(namespace: &str) -> Value {
    let mut policy = policy("here", "DENY", &[to(json!({ "paths": [format!("/{namespace}")] }))]);
    policy["metadata"]["namespace"] = json!(namespace);
    policy
}

#[test]
fn policies_apply_by_namespace_and_labels_and_the_log_says_why() {
    let mut gateway = policy("for-gateway", "DENY", &[json!({})]);
    gateway["spec"]["targetRefs"] =
        json!([{ "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "entrance" }]);
    // The namespace and labels come from the node metadata in `envoy/backend.yaml`: default, app=backend.
    let policies = [
        in_namespace("default"),
        in_namespace("istio-system"),
        in_namespace("shop"),
        for_label("mine", "backend"),
        for_label("other", "frontend"),
        gateway,
    ];
    let mut blueprint = Blueprint::new(&json!({ "policies": policies }));
    blueprint.options.component_log_level = "wasm:debug".to_owned();
    let sidecar = blueprint.start();
    for path in ["/default", "/istio-system", "/mine"] {
        assert_eq!(status(&sidecar, path), 403, "{path}");
    }
    for path in ["/shop", "/other", "/elsewhere"] {
        assert_eq!(status(&sidecar, path), 200, "{path}");
    }
    // At level info, a load says as much about thousands of policies as about one.
    let at_info = Sidecar::start(&json!({ "policies": policies })).filter_log();
    assert_says(&at_info, "3 of 6 policies, with 3 rules, apply to this workload in namespace default");
    assert!(!at_info.iter().any(|line| line.contains("policy default/")), "{at_info:#?}");
    let lines = sidecar.filter_log();
    for expected in [
        "policy default/here: DENY, 1 rules: applies",
        "policy istio-system/here: DENY, 1 rules: applies",
        "policy shop/here: DENY, 1 rules: does not apply: it is for another namespace",
        "policy default/mine: DENY, 1 rules: applies",
        "policy default/other: DENY, 1 rules: does not apply: its selector names labels",
        "policy default/for-gateway: DENY, 1 rules: does not apply: its target reference is for a gateway",
        "3 of 6 policies, with 3 rules, apply to this workload in namespace default",
    ] {
        assert_says(&lines, expected);
    }
}

#[test]
fn the_configurations_workload_goes_before_the_node_metadata() {
    let sidecar = Blueprint::new(&json!({
        "policies": [in_namespace("default"), in_namespace("shop"), in_namespace("istio-system"), in_namespace("root")],
        "workload": { "namespace": "shop", "labels": { "app": "cart" } },
        "rootNamespace": "root",
    }))
    .start_shared();
    for (path, expected) in [("/shop", 403), ("/root", 403), ("/default", 200), ("/istio-system", 200)] {
        assert_eq!(status(&sidecar, path), expected, "{path}");
    }
}

/// A sidecar with this node metadata and one policy, which has a selector.
fn with_node_metadata(metadata: Value) -> Blueprint {
    let mut blueprint = Blueprint::new(&json!({ "policies": [for_label("mine", "backend")] }));
    blueprint.bootstrap["node"]["metadata"] = metadata;
    blueprint
}

#[test]
fn a_selector_is_refused_while_the_labels_are_unknown() {
    let lines = filter_lines(&with_node_metadata(json!({ "NAMESPACE": "default" })).start_refused());
    assert_says(
        &lines,
        "policy default/mine: has a selector, and the labels of this workload are unknown; set `workload.labels`",
    );
    // An empty map of labels counts as known labels.
    let lines = filter_lines(&with_node_metadata(json!({ "NAMESPACE": "default", "LABELS": {} })).start_refused());
    assert_says(&lines, "nothing is protected: policy default/mine does not apply: its selector names labels");
}

#[test]
fn labels_that_are_no_map_are_refused() {
    let lines = filter_lines(&with_node_metadata(json!({ "LABELS": ["app", "backend"] })).start_refused());
    assert_says(&lines, "LABELS");
}

#[test]
fn unknown_namespace_of_the_workload_is_refused() {
    let mut blueprint = Blueprint::new(&json!({ "policies": [in_namespace("default"), in_namespace("shop")] }));
    blueprint.bootstrap["node"].as_object_mut().unwrap().remove("metadata");
    assert_says(&filter_lines(&blueprint.start_refused()), "workload.namespace: is unknown");
}

#[test]
fn policies_none_of_which_applies_are_refused_unless_that_is_meant() {
    let elsewhere = |more: &Value| {
        let mut config = json!({ "policies": [in_namespace("elsewhere")] });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Blueprint::new(&config)
    };
    assert_says(&filter_lines(&elsewhere(&json!({})).start_refused()), "nothing is protected: policy elsewhere/");
    let sidecar = elsewhere(&json!({ "allowNoneApplies": true })).start();
    assert_eq!(status(&sidecar, "/elsewhere"), 200);
}

#[test]
fn a_gateway_obeys_the_policies_that_name_it() {
    let mut named = policy("named", "DENY", &[to(json!({ "paths": ["/named"] }))]);
    named["spec"]["targetRefs"] =
        json!([{ "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "entrance" }]);
    for (gateway, expected) in [(json!({ "name": "entrance" }), [403, 403]), (json!({ "name": "exit" }), [200, 403])] {
        let config = json!({ "policies": [named, in_namespace("default")], "gateway": gateway });
        let sidecar = Blueprint::new(&config).start_shared();
        assert_eq!([status(&sidecar, "/named"), status(&sidecar, "/default")], expected, "{gateway}");
    }
    let waypoint = json!({ "name": "entrance", "waypoint": true });
    let config = json!({ "policies": [named, in_namespace("default")], "gateway": waypoint });
    let sidecar = Blueprint::new(&config).start_shared();
    assert_eq!([status(&sidecar, "/named"), status(&sidecar, "/default")], [403, 200]);
}
