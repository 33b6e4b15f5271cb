//! The plugin beside Istio's own policies of every action. The plugin allows what the frontend reads, and no more.

use mesh_authz_istio::{PodSpec, Role, endpoint_slice};
use serde_json::json;
use testbed::Request;

use crate::{
    place::{eventually, status},
    plugin::{Backend, policy, service, wasm_plugin},
    rendered::{has_plugin, render},
};

#[test]
fn a_request_passes_if_the_plugin_and_istio_let_it_pass() {
    let backend = Backend::new();
    let place = &backend.place;
    let read = json!([{ "to": [{ "operation": { "methods": ["GET"] } }] }]);
    let plugin = wasm_plugin(place, "plugin", "backend", &[policy("reads", "backend", "ALLOW", read)]);
    place.apply(&plugin.to_string());
    let answers = || {
        [("GET", "/"), ("GET", "/private"), ("POST", "/"), ("POST", "/private")]
            .map(|(method, path)| status(&backend.frontend, &Request::new(method, path)))
    };
    eventually("the plugin alone", &[200, 200, 403, 403], answers);
    let private = json!([{ "to": [{ "operation": { "paths": ["/private"] } }] }]);
    for (action, wanted) in
        [("ALLOW", [403, 200, 403, 403]), ("DENY", [200, 403, 403, 403]), ("AUDIT", [200, 200, 403, 403])]
    {
        place.apply(&policy("native", "backend", action, private.clone()).to_string());
        eventually(action, &wanted, answers);
        place.kubectl(&["delete", "authorizationpolicy", "native"], "");
        eventually("the plugin alone", &[200, 200, 403, 403], answers);
    }
}

/// A provider at port 8000 that allows everything, and one that nobody answers for.
#[test]
fn istio_asks_the_providers_of_custom_policies_beside_the_plugin() {
    let backend = Backend::new();
    let place = &backend.place;
    let root = "istio-system".to_owned();
    let (name, account) = ("provider".to_owned(), "provider".to_owned());
    let provider = place
        .mesh
        .pod(PodSpec { namespace: root.clone(), name, account, labels: json!({ "app": "allows" }), role: Role::None })
        .unwrap();
    let asked = provider.serve(8000).unwrap();
    for name in ["allows", "refuses"] {
        let mut service = service(name, &[("http", 8000)]);
        service["metadata"]["namespace"] = json!(root);
        place.mesh.apply(&service.to_string()).unwrap();
    }
    let endpoints = endpoint_slice(&root, "allows", Some("http"), 8000, &[provider.ip()]);
    place.mesh.apply(&endpoints.to_string()).unwrap();

    let custom = |provider: &str| {
        let rules = json!([{ "to": [{ "operation": { "paths": ["/login", "/login/*"] } }] }]);
        let mut policy = policy("login", "backend", "CUSTOM", rules);
        policy["spec"]["provider"] = json!({ "name": provider });
        policy
    };
    let reads = policy("reads", "backend", "ALLOW", json!([{ "to": [{ "operation": { "methods": ["GET"] } }] }]));
    let answers = || {
        [("GET", "/"), ("GET", "/login"), ("POST", "/login")]
            .map(|(method, path)| status(&backend.frontend, &Request::new(method, path)))
    };
    place.apply(&render(place, &[custom("allows"), reads.clone()], &[]));
    eventually("a provider that allows", &[200, 200, 403], answers);
    assert!(asked.reached() > 0, "nobody has asked the provider");
    eventually("the plugin", &true, || has_plugin(&backend.pod));
    place.apply(&render(place, &[custom("refuses"), reads], &[]));
    eventually("a provider that nobody answers for", &[200, 403, 403], answers);
}
