//! `render wasm-plugin --network-plugin`: on which ports the plugin for connections is loaded, and what is refused.

use std::process::Output;

use serde_json::{Value, json};

use crate::mesh_authz;

fn render(kind: &str, resources: &[Value], more: &[&str]) -> Output {
    let digest = format!("--sha256={}", "0".repeat(64));
    let arguments =
        ["render", kind, "-", "--url=oci://registry.example/a:1", &digest, "--network-plugin", "--format=json"];
    mesh_authz(&[&arguments, more].concat(), resources)
}

fn policy(namespace: &str, selector: &Value) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "name": "p", "namespace": namespace },
        "spec": {
            "selector": { "matchLabels": selector },
            "rules": [{ "from": [{ "source": { "principals": ["cluster.local/ns/a/sa/b"] } }] }],
        },
    })
}

fn service(name: &str, selector: &Value, ports: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name, "namespace": "data" }, "spec": { "selector": selector, "ports": ports },
    })
}

/// The ports of the plugins for connections, each with the place that it is loaded in.
fn ports(kind: &str, resources: &[Value]) -> Vec<(String, Vec<u64>)> {
    let output = render(kind, resources, &[]);
    let (out, notes) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{out}{notes}");
    let list: Value = serde_json::from_str(&out).unwrap();
    let items = list["items"].as_array().unwrap();
    let is_network = |item: &&Value| item["spec"]["type"] == "NETWORK" || item["spec"]["wasm"]["type"] == "NETWORK";
    let found = items.iter().filter(is_network).map(|item| {
        let numbers = item["spec"]["match"][0]["ports"].as_array().unwrap().iter();
        assert_eq!(item["spec"]["match"][0]["mode"], "SERVER");
        let name = item["metadata"]["name"].as_str().unwrap();
        // Envoy connects only when it knows the peer, on these ports and on no others.
        let filter = items.iter().find(|other| other["kind"] == "EnvoyFilter" && other["metadata"]["name"] == name);
        let patches = filter.expect("an EnvoyFilter of the same name")["spec"]["configPatches"].as_array().unwrap();
        let numbers: Vec<_> = numbers.map(|port| port["number"].as_u64().unwrap()).collect();
        let patched: Vec<_> = patches
            .iter()
            .map(|patch| patch["match"]["listener"]["filterChain"]["destinationPort"].as_u64().unwrap())
            .collect();
        assert_eq!(patched, numbers.iter().flat_map(|number| [*number, *number]).collect::<Vec<_>>());
        (item["metadata"]["namespace"].as_str().unwrap().to_owned(), numbers)
    });
    found.collect()
}

fn refusal(resources: &[Value]) -> String {
    let output = render("wasm-plugin", resources, &[]);
    assert!(!output.status.success() && output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_plugin_for_connections_is_on_the_ports_that_services_name_as_tcp() {
    let db = json!({ "app": "db" });
    let all = json!([
        { "name": "tcp-db", "port": 5432 },
        { "name": "http", "port": 80, "targetPort": 8080 },
        { "name": "admin", "port": 90, "targetPort": 9090, "appProtocol": "tcp" },
        { "name": "dns", "port": 53, "protocol": "UDP" },
        { "name": "grpc-api", "port": 91, "targetPort": "api" },
    ]);
    let of_db = service("db", &db, &all);
    let other = service("other", &json!({ "app": "other" }), &json!([{ "name": "tcp", "port": 1 }]));
    for kind in ["wasm-plugin", "traffic-extension"] {
        let found = ports(kind, &[policy("data", &db), of_db.clone(), other.clone()]);
        assert_eq!(found, [("data".to_owned(), vec![5432, 9090])]);
    }
    // A policy for the whole namespace, and for the whole mesh.
    assert_eq!(ports("wasm-plugin", &[policy("data", &json!({})), of_db.clone(), other.clone()])[0].1, [1, 5432, 9090]);
    let mesh = ports("wasm-plugin", &[policy("istio-system", &json!({})), of_db.clone(), other]);
    assert_eq!(mesh, [("istio-system".to_owned(), vec![1, 5432, 9090])]);
    // A Service for some of the workloads, and one for more of them.
    for selector in [json!({ "app": "db", "role": "primary" }), json!({ "tier": "data" })] {
        let found = ports(
            "wasm-plugin",
            &[policy("data", &db), service("s", &selector, &json!([{ "name": "tcp", "port": 7 }]))],
        );
        assert_eq!(found[0].1, [7], "{selector}");
    }
}

#[test]
fn a_port_on_which_http_can_come_is_refused() {
    let db = json!({ "app": "db" });
    let tcp = service("db", &db, &json!([{ "name": "tcp-db", "port": 5432 }]));
    let with = |ports: Value| refusal(&[policy("data", &db), tcp.clone(), service("more", &db, &ports)]);
    for (ports, expected) in [
        (json!([{ "name": "web", "port": 80 }]), "Istio detects the protocol of this port"),
        (json!([{ "port": 80, "targetPort": 5432 }]), "Istio detects the protocol of this port"),
        (json!([{ "name": "http", "port": 80, "targetPort": 5432 }]), "this port is for HTTP here"),
        (json!([{ "name": "tcp", "port": 80, "targetPort": "db" }]), "`targetPort` is the name of a container's port"),
    ] {
        let text = with(ports);
        assert!(text.contains(expected) && text.contains("Service more"), "{text}");
    }
    let nothing = refusal(&[policy("data", &db), service("db", &db, &json!([{ "name": "http", "port": 80 }]))]);
    assert!(nothing.contains("no Service in the input names a port of these workloads as TCP"), "{nothing}");
    let elsewhere = json!({ "app": "db" });
    let nothing = refusal(&[policy("other", &elsewhere), tcp]);
    assert!(nothing.contains("no Service in the input"), "{nothing}");
}
