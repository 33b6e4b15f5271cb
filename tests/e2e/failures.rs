//! Filters that do not start, and filters that fail later. No request passes, and Envoy's log says why.

use serde_json::json;
use testbed::{Envoy, Request};

use crate::neighbours::lua;
use crate::sidecar::{Blueprint, FRONTEND, Sidecar, client_of, policy, to, wasm};

fn nothing_to_decide() -> Blueprint {
    Blueprint::new(&json!({ "policies": [] }))
}

/// Asserts that Envoy does not start with this module in place of the filter, and that it logs the cause.
#[track_caller]
fn assert_refused(module: &[u8], cause: &str) {
    let mut blueprint = nothing_to_decide();
    blueprint.replace_module(module.to_vec());
    let log = blueprint.start_refused();
    for says in [cause, "Unable to create Wasm"] {
        assert!(log.contains(says), "{says:?} is not in:\n{log}");
    }
}

#[test]
fn envoy_does_not_start_without_the_module() {
    let mut blueprint = nothing_to_decide();
    blueprint.wasm_filter()["vm_config"]["code"]["local"]["filename"] = json!("elsewhere.wasm");
    let log = blueprint.start_refused();
    assert!(log.contains("Invalid path: elsewhere.wasm"), "{log}");
}

#[test]
fn envoy_does_not_start_with_half_a_module() {
    let whole = wasm();
    assert_refused(&whole[..whole.len() / 2], "Failed to load Wasm code");
}

#[test]
fn envoy_does_not_start_with_a_page_that_a_server_sent_in_place_of_the_module() {
    assert_refused(b"<!doctype html><title>404</title>", "Failed to load Wasm code");
}

#[test]
fn nothing_passes_if_the_module_does_nothing() {
    let mut blueprint = nothing_to_decide();
    blueprint.replace_module(b"\0asm\x01\0\0\0".to_vec());
    match Envoy::start_with(&blueprint.bootstrap, &blueprint.options) {
        Err(refused) => assert!(refused.to_string().contains("Unable to create Wasm"), "{refused}"),
        Ok(envoy) => {
            let client = client_of(envoy.address("inbound").unwrap(), FRONTEND);
            let answer = client.send(&Request::get("/")).map(|response| response.status);
            assert!(answer.as_ref().is_ok_and(|status| *status >= 500), "{answer:?}");
        }
    }
}

#[test]
fn envoy_does_not_start_with_a_module_that_wants_more_memory_than_it_may_have() {
    assert_refused(&module(65_536, "(i32.const 0)"), "Failed to initialize Wasm code");
}

/// A module that Envoy accepts as a filter. It has `pages` pages of memory and runs `on_request` for every request.
fn module(pages: u32, on_request: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
            (memory (export "memory") {pages})
            (func (export "proxy_abi_version_0_2_1"))
            (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
            (func (export "proxy_on_context_create") (param i32 i32))
            (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (i32.const 1))
            (func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.const 1))
            (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) {on_request}))"#
    );
    wat::parse_str(text).unwrap()
}

/// A module that traps on every request.
pub fn trapping_module() -> Vec<u8> {
    module(1, "unreachable")
}

/// Asserts that no request passes if the module fails on requests.
fn assert_breaks_down(module: Vec<u8>, cause: &str) {
    let mut blueprint = nothing_to_decide();
    blueprint.replace_module(module);
    let envoy = Envoy::start_with(&blueprint.bootstrap, &blueprint.options).unwrap();
    let client = client_of(envoy.address("inbound").unwrap(), FRONTEND);
    for _ in 0..3 {
        let answer = client.send(&Request::get("/")).unwrap();
        assert_eq!((answer.status, answer.header("x-app")), (503, None));
    }
    let log = envoy.log();
    for says in ["Function: proxy_on_request_headers failed", cause] {
        assert!(log.contains(says), "{says:?} is not in:\n{log}");
    }
    assert!(envoy.is_running());
}

#[test]
fn nothing_passes_while_the_vm_fails_on_requests() {
    assert_breaks_down(trapping_module(), "RuntimeError: unreachable");
}

/// With `FAIL_RELOAD`, Envoy starts a new VM for the next request if enough time has passed since the last start.
#[test]
fn nothing_passes_while_a_vm_that_fails_is_reloaded() {
    let mut blueprint = nothing_to_decide();
    blueprint.replace_module(trapping_module());
    blueprint.wasm_filter()["failure_policy"] = json!("FAIL_RELOAD");
    let envoy = Envoy::start_with(&blueprint.bootstrap, &blueprint.options).unwrap();
    for _ in 0..20 {
        let answer = client_of(envoy.address("inbound").unwrap(), FRONTEND).send(&Request::get("/")).unwrap();
        assert_eq!((answer.status, answer.header("x-app")), (503, None));
    }
}

#[test]
fn nothing_passes_once_the_vm_has_taken_all_the_memory_there_is() {
    // Allocates one mebibyte at a time until the memory is exhausted, and then writes behind its end.
    let grow = "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
                (i32.store (i32.const -8) (i32.const 1)) (i32.const 0)";
    assert_breaks_down(module(1, grow), "memory access out of bounds");
}

#[test]
fn nothing_passes_while_the_vm_calls_itself_without_end() {
    let overflow = "(call 5 (local.get 0) (local.get 1) (local.get 2))";
    assert_breaks_down(module(1, overflow), "Maximum call stack size exceeded");
}

#[test]
fn envoy_does_not_start_with_a_wrong_configuration_and_says_what_is_wrong() {
    let log = Blueprint::new(&json!({ "policies": [], "decisionLogs": "all" })).start_refused();
    assert!(log.contains("decisionLogs: unknown field, did you mean decisionLog?"), "{log}");
    assert!(log.contains("Unable to create Wasm plugin mesh_authz"), "{log}");
}

#[test]
fn envoy_does_not_start_without_the_labels_that_policies_ask_for() {
    let mut mine = policy("mine", "DENY", &[json!({})]);
    mine["spec"]["selector"] = json!({ "matchLabels": { "app": "backend" } });
    let mut blueprint = Blueprint::new(&json!({ "policies": [mine] }));
    blueprint.bootstrap["node"].as_object_mut().unwrap().remove("metadata");
    let log = blueprint.start_refused();
    assert!(log.contains("policy default/mine: has a selector, and the labels of this workload are unknown"), "{log}");
}

fn status(sidecar: &Sidecar, path: &str) -> u16 {
    sidecar.client(FRONTEND).send(&Request::get(path)).unwrap().status
}

fn denies_admin() -> Blueprint {
    Blueprint::new(&json!({ "policies": [policy("deny", "DENY", &[to(json!({ "paths": ["/admin"] }))])] }))
}

#[test]
fn a_filter_ahead_that_clears_the_route_changes_nothing() {
    let sidecar = denies_admin().filter(lua("request:clearRouteCache()")).start();
    assert_eq!([status(&sidecar, "/admin"), status(&sidecar, "/data")], [403, 200]);

    // The filter decides by the path that the application gets.
    let rewrite = "request:headers():replace(':path', '/admin') request:clearRouteCache()";
    let sidecar = denies_admin().filter(lua(rewrite)).start();
    assert_eq!([status(&sidecar, "/admin"), status(&sidecar, "/data")], [403, 403]);
    assert_eq!(sidecar.app.requests(), 0);
}

#[test]
fn a_request_without_a_route_is_decided_all_the_same() {
    let mut blueprint = denies_admin().filter(lua("request:clearRouteCache()"));
    blueprint.manager()["route_config"]["virtual_hosts"] = json!([]);
    let sidecar = blueprint.start();
    assert_eq!([status(&sidecar, "/admin"), status(&sidecar, "/data")], [403, 404]);
}
