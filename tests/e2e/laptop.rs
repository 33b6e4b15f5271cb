//! `envoy/func-e.yaml` works as `envoy/func-e.md` says: it needs only the filter.

use std::fs;

use mesh_authz_cli::load::yaml;
use serde_json::json;
use testbed::{Client, Envoy, Request, StartOptions, suit_listeners};

use crate::sidecar::{PATIENCE, filter_lines, project, wasm};

#[test]
fn a_laptop_needs_neither_certificates_nor_an_application() {
    let text = fs::read_to_string(project("envoy/func-e.yaml")).unwrap();
    let mut bootstrap = serde_json::to_value(yaml::documents(&text).unwrap().remove(0)).unwrap();
    suit_listeners(&mut bootstrap["static_resources"]["listeners"]);
    let address = &mut bootstrap["static_resources"]["listeners"][0]["address"]["socket_address"];
    assert_eq!((&address["address"], &address["port_value"]), (&json!("127.0.0.1"), &json!(15006)));
    address["port_value"] = json!(0);
    let options = StartOptions::default().file("dist/mesh_authz.wasm", wasm());
    let envoy = Envoy::start_with(&bootstrap, &options).unwrap();
    let client = Client::plain(envoy.address("inbound").unwrap());
    for (method, path, expected) in [
        ("GET", "/", (200, "allowed\n")),
        ("POST", "/", (403, "RBAC: access denied")),
        ("GET", "/public/../admin", (403, "RBAC: access denied")),
        ("GET", "//admin/users", (403, "RBAC: access denied")),
        ("GET", "/%2Fadmin", (403, "RBAC: access denied")),
    ] {
        let response = client.send(&Request::new(method, path)).unwrap();
        assert_eq!((response.status, response.text().as_str()), expected, "{method} {path}");
    }
    envoy.wait_for_log("rule 0 of default/no-admin matched", PATIENCE).unwrap();
    let applies = ": 2 of 2 policies, with 2 rules, apply to this workload in namespace default";
    let expected = format!("mesh-authz {}{applies}", env!("CARGO_PKG_VERSION"));
    assert!(filter_lines(&envoy.log()).contains(&expected));
}
