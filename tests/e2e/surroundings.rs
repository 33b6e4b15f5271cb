//! What `mesh-authz check --envoy` says about a configuration is what a real Envoy does with it.

use mesh_authz_cli::envoy;
use serde_json::{Value, json};
use testbed::bootstrap::{self, cluster, direct_response, http_connection_manager, listener, route_to};
use testbed::{Authority, Client, Envoy, Request, StartOptions, Tls};

use crate::sidecar::{Blueprint, FRONTEND, Sidecar, authority, policy, to};

const TLS_CONTEXT: &str = "/filter_chains/0/transport_socket/typed_config";

/// The codes of what the check finds, sorted.
fn codes(configuration: &Value) -> Vec<&'static str> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("envoy.json");
    std::fs::write(&file, serde_json::to_string_pretty(configuration).unwrap()).unwrap();
    let checked = envoy::check(&[file], &[]).unwrap();
    let mut codes: Vec<_> = checked.findings.iter().filter_map(|finding| finding.code).collect();
    codes.sort_unstable();
    codes
}

fn only_frontend() -> Value {
    let from = json!([{ "source": { "principals": [FRONTEND] } }]);
    json!({ "policies": [policy("frontend", "ALLOW", &[json!({ "from": from })])] })
}

fn no_admin() -> Value {
    json!({ "policies": [policy("no-admin", "DENY", &[to(json!({ "paths": ["/admin"] }))])] })
}

/// The status of a request with a certificate for this identity.
fn status_of(sidecar: &Sidecar, issuer: &Authority, identity: &str) -> Option<u16> {
    let client = Client::tls(sidecar.address(), Tls::mutual(authority().pem(), &issuer.spiffe(identity).unwrap()));
    client.send(&Request::get("/")).ok().map(|response| response.status)
}

#[test]
fn without_a_trusted_authority_no_peer_is_known() {
    let stranger = Authority::new().unwrap();
    let as_shipped = Blueprint::new(&only_frontend());
    assert_eq!(codes(&as_shipped.bootstrap), Vec::<&str>::new());
    assert_eq!(status_of(&as_shipped.start_shared(), &stranger, FRONTEND), None);

    let common = format!("{TLS_CONTEXT}/common_tls_context");
    let statuses = |validation: Value, expected: &[&str]| {
        let mut blueprint = Blueprint::new(&only_frontend());
        blueprint.listener().pointer_mut(&common).unwrap()["validation_context"] = validation;
        assert_eq!(codes(&blueprint.bootstrap), expected);
        let sidecar = blueprint.start_shared();
        let anonymous = sidecar.anonymous_client().send(&Request::get("/")).ok().map(|response| response.status);
        (status_of(&sidecar, &stranger, FRONTEND), anonymous)
    };
    // Without an authority, Envoy asks for no certificate, although one is required. Nobody has an identity.
    for validation in [json!(null), json!({}), json!({ "max_verify_depth": 3 })] {
        assert_eq!(statuses(validation, &["ME010"]), (Some(403), Some(403)));
    }
    let accepting =
        json!({ "trusted_ca": { "filename": "certs/ca.crt" }, "trust_chain_verification": "ACCEPT_UNTRUSTED" });
    assert_eq!(statuses(accepting, &["ME010"]), (Some(200), None));
    // The hash of a certificate takes the place of an authority.
    let other = "df6ff72fe9116521268f6f2dd4966f51df479883fe7037b39f75916ac3049d1a";
    assert_eq!(statuses(json!({ "verify_certificate_hash": [other] }), &[]), (None, None));
}

#[test]
fn the_dump_of_a_running_envoy_says_the_same_as_its_bootstrap() {
    let mut blueprint = Blueprint::new(&no_admin());
    blueprint.listener().pointer_mut(&format!("{TLS_CONTEXT}/require_client_certificate")).unwrap().take();
    let good = blueprint.start();
    assert_eq!(codes(&good.envoy.config_dump().unwrap()), Vec::<&str>::new());

    let mut blueprint = Blueprint::new(&no_admin()).setting("merge_slashes", json!(false));
    let manager = http_connection_manager(&[], &[route_to("application")]);
    let second = listener("second", manager, None);
    blueprint.bootstrap["static_resources"]["listeners"].as_array_mut().unwrap().push(second);
    let expected = ["ME002", "ME006"];
    assert_eq!(codes(&blueprint.bootstrap), expected);
    let bad = blueprint.start();
    assert_eq!(codes(&bad.envoy.config_dump().unwrap()), expected);
    // What is found is true.
    let status = |listener: &str, path: &str| {
        let address = bad.envoy.address(listener).unwrap();
        let client = if listener == "second" { Client::plain(address) } else { bad.client(FRONTEND) };
        client.send(&Request::get(path)).unwrap().status
    };
    assert_eq!(status("inbound", "/admin"), 403);
    assert_eq!(status("inbound", "//admin"), 200);
    assert_eq!(status("second", "/admin"), 200);
}

#[test]
fn listeners_and_routes_from_files_are_in_the_dump() {
    let shared = Blueprint::new(&no_admin()).setting("normalize_path", json!(false)).start_shared();
    let dump = shared.envoy.config_dump().unwrap();
    assert!(codes(&dump).contains(&"ME006"));
}

/// A second cluster for the same application.
#[test]
fn another_cluster_for_the_same_endpoint_is_a_side_door() {
    let mut blueprint = Blueprint::new(&no_admin());
    let port = blueprint
        .cluster()
        .pointer("/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/port_value");
    let address = format!("127.0.0.1:{}", port.unwrap()).parse().unwrap();
    let resources = &mut blueprint.bootstrap["static_resources"];
    resources["clusters"].as_array_mut().unwrap().push(cluster("again", address));
    let second = listener("second", http_connection_manager(&[], &[route_to("again")]), None);
    resources["listeners"].as_array_mut().unwrap().push(second);
    assert_eq!(codes(&blueprint.bootstrap), ["ME002"]);
    let sidecar = blueprint.start();
    let response = Client::plain(sidecar.envoy.address("second").unwrap()).send(&Request::get("/admin")).unwrap();
    assert_eq!(response.status, 200);
}

#[test]
fn a_value_of_an_enumeration_has_several_forms() {
    let escaped = |action: Value| {
        let blueprint = Blueprint::new(&no_admin()).plaintext().setting("path_with_escaped_slashes_action", action);
        let codes = codes(&blueprint.bootstrap);
        let sidecar = blueprint.start_shared();
        (codes, sidecar.plain_client().send(&Request::get("/%2Fadmin")).unwrap().status)
    };
    for unescape in [json!("UNESCAPE_AND_FORWARD"), json!("unescape_and_forward"), json!(4), json!("4")] {
        assert_eq!(escaped(unescape), (vec![], 403));
    }
    for keep in [json!("KEEP_UNCHANGED"), json!("keep_unchanged"), json!(1), json!("1")] {
        assert_eq!(escaped(keep), (vec!["ME006"], 200));
    }
}

#[test]
fn in_yaml_each_start_of_envoy_takes_one_of_two_spellings_at_random() {
    let mut manager = http_connection_manager(&[], &[direct_response(200, "")]);
    manager["typed_config"]["normalize_path"] = json!(true);
    manager["typed_config"]["normalizePath"] = json!(false);
    let mut options = StartOptions::default();
    let both = bootstrap::bootstrap(&[listener("inbound", manager, None)], &[]);
    options.extra_args.extend(["--config-yaml".to_owned(), both.to_string()]);
    let taken = || {
        let dump = Envoy::start_with(&json!({}), &options).unwrap().config_dump().unwrap().to_string();
        dump.contains(r#""normalize_path":true"#)
    };
    let first = taken();
    assert!((0..40).any(|_| taken() != first), "always {first}");
}
