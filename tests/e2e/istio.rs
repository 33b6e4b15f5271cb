//! Loads into a real Envoy what Istio's proxy loads from `examples/istio`: the filters in the same order, the
//! configuration as JSON in a string, and the node metadata of Istio's bootstrap.

use std::path::Path;

use mesh_authz_cli::load;
use serde_json::{Value, json};
use testbed::{Request, tells_once_a_connection};

use crate::rendered::{filters, render, telling};
use crate::sidecar::{Blueprint, FRONTEND, PATIENCE, STRANGER, Sidecar, manager_of, project};

fn resources(file: &str) -> Vec<Value> {
    let documents = load::documents(Path::new(&project(&format!("examples/istio/{file}")))).unwrap();
    documents.into_iter().map(|document| serde_json::to_value(document).unwrap()).collect()
}

/// The node metadata that Istio's bootstrap has for a pod with these labels.
fn node_metadata(labels: &Value) -> Value {
    let mut labels = labels.clone();
    for (key, value) in [
        ("pod-template-hash", "6d84d49667"),
        ("security.istio.io/tlsMode", "istio"),
        ("service.istio.io/canonical-name", "backend"),
        ("service.istio.io/canonical-revision", "latest"),
    ] {
        labels[key] = json!(value);
    }
    json!({
        "ANNOTATIONS": { "istio.io/rev": "default", "kubernetes.io/config.source": "api" },
        "APP_CONTAINERS": "backend",
        "CLUSTER_ID": "Kubernetes",
        "ENVOY_PROMETHEUS_PORT": 15090,
        "INSTANCE_IPS": "10.244.0.9",
        "INTERCEPTION_MODE": "REDIRECT",
        "ISTIO_VERSION": "1.27.0",
        "LABELS": labels,
        "MESH_ID": "cluster.local",
        "NAME": "backend-6d84d49667-jzt7b",
        "NAMESPACE": "default",
        "OWNER": "kubernetes://apis/apps/v1/namespaces/default/deployments/backend",
        "PILOT_SAN": ["istiod.istio-system.svc"],
        "PROXY_CONFIG": { "concurrency": 2, "statusPort": 15020, "tracing": { "zipkin": { "address": "z:9411" } } },
        "SERVICE_ACCOUNT": "backend",
        "WORKLOAD_NAME": "backend",
    })
}

/// The filter that Istio generates from the `RequestAuthentication`.
fn jwt_authn() -> Value {
    let files = ["examples/istio/request-authentication.yaml", "examples/tutorial/allow-nothing-backend.yaml"];
    let (mut bootstrap, _) =
        render(&[&["envoy"], &files[..], &["--namespace", "default", "--label", "app=backend"]].concat());
    let filters = &manager_of(&mut bootstrap["static_resources"]["listeners"][0])["http_filters"];
    let mut filters = filters.as_array().unwrap().iter();
    filters.find(|filter| filter["name"] == "envoy.filters.http.jwt_authn").unwrap().clone()
}

fn sidecar(file: &str, kind: &str, direction: &str) -> Sidecar {
    let backend = resources("backend.yaml");
    let deployment = backend.iter().find(|resource| resource["kind"] == "Deployment").unwrap();
    let mut blueprint = Blueprint::new(&json!({ "policies": [] })).telling_details();
    blueprint.bootstrap["node"]["id"] =
        json!("sidecar~10.244.0.9~backend-6d84d49667-jzt7b.default~default.svc.cluster.local");
    blueprint.listener()["traffic_direction"] = json!(direction);
    blueprint.bootstrap["node"]["metadata"] = node_metadata(&deployment["spec"]["template"]["metadata"]["labels"]);
    let router = blueprint.manager()["http_filters"].as_array().unwrap().last().unwrap().clone();
    // The order: a filter with INSERT_FIRST, then Istio's own filter, then filters in the phase AUTHZ.
    let resources = resources(file);
    let mut all = filters(&resources, kind);
    if tells_once_a_connection() {
        blueprint = blueprint.told_by(telling(&resources));
        all.insert(0, jwt_authn());
    } else {
        all.insert(1, jwt_authn());
    }
    all.push(router);
    let names: Vec<_> = all.iter().map(|filter| filter["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), if tells_once_a_connection() { 3 } else { 4 }, "{names:?}");
    blueprint.manager()["http_filters"] = json!(all);
    blueprint.start()
}

#[test]
fn a_cluster_with_the_example_does_what_its_readme_says() {
    for (file, kind) in [("wasm-plugin.yaml", "WasmPlugin"), ("traffic-extension.yaml", "TrafficExtension")] {
        let sidecar = sidecar(file, kind, "INBOUND");
        for (principal, method, path, expected) in [
            (FRONTEND, "GET", "/api/v1/data", 200),
            (FRONTEND, "POST", "/api/v1/data", 403),
            (FRONTEND, "GET", "/api/v1/other", 403),
            (STRANGER, "GET", "/api/v1/data", 403),
        ] {
            let response = sidecar.client(principal).send(&Request::new(method, path)).unwrap();
            assert_eq!(response.status, expected, "{kind}: {principal} {method} {path}\n{}", sidecar.envoy.log());
        }
        // Istio's filter checks the token first.
        let nonsense = Request::get("/api/v1/data").header("authorization", "Bearer nonsense");
        assert_eq!(sidecar.client(FRONTEND).send(&nonsense).unwrap().status, 401);
        let applies = "2 of 2 policies, with 1 rules, apply to this workload in namespace default";
        sidecar.envoy.wait_for_log(applies, PATIENCE).unwrap();
    }
}

/// The resource has no `match`, so Istio loads the filter on the outgoing listeners of the sidecar, too.
#[test]
fn what_the_workload_of_the_example_sends_is_not_decided() {
    for (file, kind) in [("wasm-plugin.yaml", "WasmPlugin"), ("traffic-extension.yaml", "TrafficExtension")] {
        let sidecar = sidecar(file, kind, "OUTBOUND");
        let response = sidecar.client(STRANGER).send(&Request::new("POST", "/elsewhere")).unwrap();
        assert_eq!(response.status, 200, "{kind}: {}", sidecar.envoy.log());
    }
}
