//! The resources that load the filter: WasmPlugin and TrafficExtension, the image, and the filters around it.

use serde_json::{Value, json};
use testbed::{Issuer, Request};

use crate::{
    place::{eventually, mesh, status},
    plugin::{Backend, CLOSED, ENFORCED, OPEN, TAG, digest, frontend_reads_data, http_filters, policy, wasm_plugin},
};

#[test]
fn a_wasm_plugin_decides_until_it_is_deleted() {
    let backend = Backend::new();
    let place = &backend.place;
    eventually("without policies", &OPEN, || backend.answers());
    let plugin = wasm_plugin(place, "plugin", "backend", &[frontend_reads_data(place, "backend")]);
    place.apply(&plugin.to_string());
    eventually("with the plugin", &ENFORCED, || backend.answers());
    place.kubectl(&["delete", "wasmplugin", "plugin"], "");
    eventually("without the plugin", &OPEN, || backend.answers());
}

#[test]
fn a_traffic_extension_decides() {
    let backend = Backend::new();
    let place = &backend.place;
    let plugin = wasm_plugin(place, "plugin", "backend", &[frontend_reads_data(place, "backend")]);
    place.apply(&as_traffic_extension(&plugin).to_string());
    eventually("with the extension", &ENFORCED, || backend.answers());
}

fn as_traffic_extension(plugin: &Value) -> Value {
    let mut spec = plugin["spec"].clone();
    let wasm: serde_json::Map<_, _> = ["url", "failStrategy", "pluginConfig"]
        .map(|field| (field.to_owned(), spec.as_object_mut().unwrap().remove(field).unwrap()))
        .into_iter()
        .collect();
    spec["wasm"] = json!(wasm);
    json!({
        "apiVersion": "extensions.istio.io/v1alpha1",
        "kind": "TrafficExtension",
        "metadata": plugin["metadata"],
        "spec": spec,
    })
}

#[test]
fn an_image_with_another_digest_refuses_everything() {
    let backend = Backend::new();
    let place = &backend.place;
    let mut plugin = wasm_plugin(place, "plugin", "backend", &[frontend_reads_data(place, "backend")]);
    plugin["spec"]["sha256"] = json!("0".repeat(64));
    place.apply(&plugin.to_string());
    eventually("with another digest", &CLOSED, || backend.answers());
    plugin["spec"]["sha256"] = json!(digest());
    place.apply(&plugin.to_string());
    eventually("with the image's digest", &ENFORCED, || backend.answers());
}

#[test]
fn a_private_image_needs_a_pull_secret() {
    let backend = Backend::new();
    let place = &backend.place;
    let mut plugin = wasm_plugin(place, "plugin", "backend", &[frontend_reads_data(place, "backend")]);
    plugin["spec"]["url"] = json!(format!("oci://{}/private/mesh-authz:{TAG}", mesh().registry()));
    place.apply(&plugin.to_string());
    eventually("without a secret", &CLOSED, || backend.answers());
    let (user, password) = mesh_authz_istio::Mesh::CREDENTIALS;
    place.kubectl(
        &[
            "create",
            "secret",
            "docker-registry",
            "registry",
            &format!("--docker-server={}", mesh().registry()),
            &format!("--docker-username={user}"),
            &format!("--docker-password={password}"),
        ],
        "",
    );
    plugin["spec"]["imagePullSecret"] = json!("registry");
    place.apply(&plugin.to_string());
    eventually("with the secret", &ENFORCED, || backend.answers());
}

#[test]
fn tokens_are_verified_before_the_filter_decides_and_native_policies_after() {
    let backend = Backend::new();
    let place = &backend.place;
    let issuer = Issuer::new().unwrap();
    let authentication = json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": { "name": "accounts" },
        "spec": {
            "selector": { "matchLabels": { "app": "backend" } },
            "jwtRules": [{ "issuer": "https://accounts.example", "jwks": issuer.jwks(), "forwardOriginalToken": true }],
        },
    });
    let editors = json!([{ "when": [{ "key": "request.auth.claims[group]", "values": ["editors"] }] }]);
    let plugin = wasm_plugin(place, "plugin", "backend", &[policy("editors", "backend", "ALLOW", editors)]);
    let no_drafts = json!([{ "to": [{ "operation": { "paths": ["/drafts/*"] } }] }]);
    for resource in [&authentication, &policy("no-drafts", "backend", "DENY", no_drafts), &plugin] {
        place.apply(&resource.to_string());
    }
    let token = |claims: Value| issuer.token(&claims).unwrap();
    let issued = |group: &str| token(json!({ "iss": "https://accounts.example", "sub": "alice", "group": group }));
    let ask = |path: &str, token: Option<&str>| {
        let request = Request::get(path);
        let request = match token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        };
        status(&backend.stranger, &request)
    };
    let (editor, reader) = (issued("editors"), issued("readers"));
    eventually("by token", &[200, 403, 403, 401, 403], || {
        [
            ask("/", Some(&editor)),
            ask("/", Some(&reader)),
            ask("/", None),
            ask("/", Some("no.valid.token")),
            ask("/drafts/1", Some(&editor)),
        ]
    });
    let filters = http_filters(&backend.pod, 8080);
    let place_of = |part: &str| {
        filters.iter().position(|name| name.contains(part)).unwrap_or_else(|| panic!("{part} is not in {filters:?}"))
    };
    assert!(place_of("jwt_authn") < place_of("plugin"), "{filters:?}");
    assert!(place_of("plugin") < place_of("rbac"), "{filters:?}");
    assert!(place_of("rbac") < place_of("router"), "{filters:?}");
}
