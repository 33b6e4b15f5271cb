//! Phases, priorities and namespaces of plugins.

use serde_json::{Value, json};
use testbed::Issuer;

use crate::{
    place::{Place, eventually},
    plugin::{Backend, ENFORCED, OPEN, frontend_reads_data, http_filters, plugin_with, policy, wasm_plugin},
};

fn names_of_plugins(backend: &Backend) -> Vec<String> {
    let filters = http_filters(&backend.pod, 8080);
    filters
        .into_iter()
        .filter(|name| name.contains("plugin") || name.contains("jwt") || name.contains("rbac"))
        .collect()
}

#[test]
fn a_higher_priority_comes_first_and_a_phase_before_its_place() {
    let backend = Backend::new();
    let place = &backend.place;
    let everything = policy("everything", "backend", "ALLOW", json!([{}]));
    let with = |name: &str, phase: &str, priority: i32| -> Value {
        let mut plugin = wasm_plugin(place, name, "backend", std::slice::from_ref(&everything));
        plugin["spec"]["phase"] = json!(phase);
        plugin["spec"]["priority"] = json!(priority);
        plugin
    };
    place.apply(&policy("native", "backend", "ALLOW", json!([{}])).to_string());
    let authentication = json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": { "name": "accounts" },
        "spec": {
            "selector": { "matchLabels": { "app": "backend" } },
            "jwtRules": [{ "issuer": "https://accounts.example", "jwks": Issuer::new().unwrap().jwks() }],
        },
    });
    place.apply(&authentication.to_string());
    for plugin in [
        with("plugin-low", "AUTHZ", 1),
        with("plugin-high", "AUTHZ", 9),
        with("plugin-first", "AUTHN", 0),
        with("plugin-last", "STATS", 0),
    ] {
        place.apply(&plugin.to_string());
    }
    let order = ["plugin-first", "jwt_authn", "plugin-high", "plugin-low", "rbac", "plugin-last"];
    eventually("the filters", &order.map(str::to_owned).to_vec(), || {
        let known = |name: &String| order.iter().find(|&&part| name.contains(part)).map(|&part| part.to_owned());
        let mut names: Vec<_> = names_of_plugins(&backend).iter().filter_map(known).collect();
        names.dedup();
        names
    });
}

#[test]
fn a_plugin_of_the_root_namespace_reaches_every_namespace() {
    let backend = Backend::new();
    let place = &backend.place;
    let app = format!("app-{}", place.namespace);
    let mut labels = frontend_reads_data(place, "backend");
    labels["metadata"]["namespace"] = json!(place.namespace);
    // A label of its own, because all tests share the root namespace.
    let mut plugin = plugin_with(&app, "backend", &json!({ "policies": [labels], "onInvalid": "deny" }));
    plugin["metadata"]["namespace"] = json!("istio-system");
    plugin["spec"]["selector"]["matchLabels"] = json!({ "app": "backend", "place": place.namespace });
    place.mesh.apply(&plugin.to_string()).unwrap();
    eventually("a selector that no label matches", &OPEN, || backend.answers());
    drop(backend);

    let backend = Backend::at(Place::new(), |place| json!({ "app": "backend", "place": place.namespace }));
    let place = &backend.place;
    let mut allowed = frontend_reads_data(place, "backend");
    allowed["metadata"]["namespace"] = json!(place.namespace);
    plugin["spec"]["pluginConfig"]["policies"] = json!([allowed]);
    plugin["spec"]["selector"]["matchLabels"] = json!({ "place": place.namespace });
    place.mesh.apply(&plugin.to_string()).unwrap();
    eventually("a selector that its labels match", &ENFORCED, || backend.answers());
    place.mesh.kubectl(&["-n", "istio-system", "delete", "wasmplugin", &app], "").unwrap();
}
