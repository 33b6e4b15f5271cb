//! Paths that Istio's default normalization leaves as they are.

use serde_json::json;
use testbed::Request;

use crate::{
    place::{eventually, mesh, status},
    plugin::{Backend, plugin_with, policy},
};

/// One test, because the setting is the whole mesh's.
#[test]
fn only_normalization_or_strict_paths_keep_odd_spellings_out() {
    let backend = Backend::new();
    let place = &backend.place;
    let mut denial = policy(
        "no-admin",
        "backend",
        "DENY",
        json!([{ "to": [{ "operation": { "paths": ["/admin", "/admin/*"] } }] }]),
    );
    denial["metadata"]["namespace"] = json!(place.namespace);
    let plugin = |paths: &str| {
        let configuration = json!({ "policies": [denial], "onInvalid": "deny", "paths": paths });
        plugin_with("plugin", "backend", &configuration).to_string()
    };
    let answers = || {
        ["/", "/admin", "/x/../admin", "//admin", "/%2Fadmin", "/admin%2Fusers", "/Admin"]
            .map(|path| status(&backend.frontend, &Request::get(path)))
    };
    // Istio's default, BASE: dots are resolved, and slashes stay.
    place.apply(&plugin("as-sent"));
    eventually("BASE", &[200, 403, 403, 200, 200, 200, 200], answers);
    place.apply(&plugin("strict"));
    eventually("BASE, and strict paths", &[200, 403, 403, 403, 403, 403, 200], answers);
    place.apply(&plugin("as-sent"));
    eventually("BASE again", &[200, 403, 403, 200, 200, 200, 200], answers);
    mesh().configure(&json!({ "pathNormalization": { "normalization": "DECODE_AND_MERGE_SLASHES" } })).unwrap();
    eventually("DECODE_AND_MERGE_SLASHES", &[200, 403, 403, 403, 403, 403, 200], answers);
    mesh().configure(&json!({})).unwrap();
    eventually("the default again", &[200, 403, 403, 200, 200, 200, 200], answers);
}
