//! Settings of routes, of the connection manager and of clusters, which take effect without the filter or after it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::Request;

use super::services::upstream_filters;
use super::{
    Answered, Opened, Refused, TO_ADMIN, allow_role_admin, deny_admin, deny_role_admin, get, http_filter, lua, merge,
    outcome, outcome_of, passed, role, route, seen, send, typed, with,
};
use crate::protocols::{accepting_connect, connect};
use crate::sidecar::{Blueprint, PATIENCE, Sidecar, policy, to};

/// Switches mesh-authz off, in the `typed_per_filter_config` of a route or of what contains it.
fn switched_off() -> Value {
    json!({ "mesh_authz": { "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": true } })
}

#[test]
fn four_levels_of_routes_can_switch_the_filter_off() {
    let off = json!({ "typed_per_filter_config": switched_off() });
    let mut of_all_hosts = with(&[deny_admin()]);
    merge(&mut of_all_hosts.manager()["route_config"], off.clone());
    let mut of_a_host = with(&[deny_admin()]);
    merge(of_a_host.virtual_host(), off.clone());
    let of_a_route = with(&[deny_admin()]).routes(&[route(off)]);
    let cluster = json!({ "name": "application", "weight": 1, "typed_per_filter_config": switched_off() });
    let several = json!({ "match": { "prefix": "/" }, "route": { "weighted_clusters": { "clusters": [cluster] } } });
    let of_a_cluster = with(&[deny_admin()]).routes(&[several]);
    for (number, blueprint) in [of_all_hosts, of_a_host, of_a_route, of_a_cluster].into_iter().enumerate() {
        assert_eq!(get(&blueprint.start_shared(), "/admin"), passed("GET /admin"), "{number}");
    }
}

/// The filter in the connection manager's list has `disabled: true`.
fn disabled() -> Blueprint {
    let mut blueprint = with(&[deny_admin()]);
    let filters = blueprint.manager()["http_filters"].as_array_mut().unwrap();
    filters.iter_mut().find(|filter| filter["name"] == "mesh_authz").unwrap()["disabled"] = json!(true);
    blueprint
}

#[test]
fn a_filter_that_is_disabled_in_the_list_decides_only_where_a_route_enables_it() {
    assert_eq!(get(&disabled().start_shared(), "/admin"), passed("GET /admin"));

    let mut blueprint = disabled();
    let enabled = json!({ "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {} });
    blueprint.virtual_host()["typed_per_filter_config"] = json!({ "mesh_authz": enabled });
    assert_eq!(get(&blueprint.start_shared(), "/admin"), Refused);
}

/// Envoy chooses the filters of a request by the route of the request as the client sent it.
#[test]
fn a_request_keeps_the_filters_of_its_first_route() {
    let public = json!({ "match": { "prefix": "/public" }, "typed_per_filter_config": switched_off() });
    let rewrite = lua(&format!("{TO_ADMIN}; request:clearRouteCache()"));
    let sidecar = with(&[deny_admin()]).routes(&[route(public), route(json!({}))]).filter(rewrite).start_shared();
    assert_eq!(get(&sidecar, "/public"), passed("GET /admin"));
    assert_eq!(get(&sidecar, "/other"), Refused);
}

fn websocket(path: &str) -> Request {
    Request::get(path).header("connection", "upgrade").header("upgrade", "websocket")
}

#[test]
fn an_upgrade_with_filters_of_its_own_passes_without_a_decision() {
    let start = |upgrade: Value| with(&[deny_admin()]).setting("upgrade_configs", json!([upgrade])).start_shared();
    let router = http_filter("router.v3.Router", json!({}));
    let all = with(&[deny_admin()]).manager()["http_filters"].clone();

    let undecided = start(json!({ "upgrade_type": "websocket", "filters": [router] }));
    assert_eq!(outcome(&undecided, &websocket("/admin")), Opened);
    assert_eq!(get(&undecided, "/admin"), Refused);
    for decided in [json!({ "upgrade_type": "websocket" }), json!({ "upgrade_type": "websocket", "filters": all })] {
        let sidecar = start(decided);
        assert_eq!(outcome(&sidecar, &websocket("/admin")), Refused);
        assert_eq!(outcome(&sidecar, &websocket("/data")), Opened);
    }
}

#[test]
fn so_does_a_connect_with_filters_of_its_own() {
    let deny_connect = policy("deny-connect", "DENY", &[to(json!({ "methods": ["CONNECT"] }))]);
    let router = http_filter("router.v3.Router", json!({}));
    for (filters, expected) in [(json!([router]), Answered(200)), (json!([]), Refused)] {
        let upgrades = json!([{ "upgrade_type": "CONNECT", "filters": filters }]);
        let blueprint = accepting_connect(with(std::slice::from_ref(&deny_connect)));
        let sidecar = blueprint.setting("upgrade_configs", upgrades).start_shared();
        let http1 = Request::new("CONNECT", "backend.example:443").host("backend.example:443");
        assert_eq!(outcome(&sidecar, &http1), expected);
        let response = sidecar.plain_client().send_http2(&connect("backend.example:443")).unwrap();
        assert_eq!(outcome_of(&response), expected);
    }
}

// The router changes a request after all filters.

#[test]
fn policies_decide_about_the_path_before_a_route_rewrites_it() {
    let of = |more: Value| with(&[deny_admin()]).routes(&[route(more)]).start_shared();
    let regex = json!({ "pattern": { "regex": "^/pub" }, "substitution": "/admin" });
    let rewriting = of(json!({ "route": { "regex_rewrite": regex } }));
    assert_eq!([get(&rewriting, "/pub"), get(&rewriting, "/admin")], [passed("GET /admin"), Refused]);
    let prefix = json!({ "match": { "prefix": "/pub" }, "route": { "prefix_rewrite": "/admin" } });
    assert_eq!(get(&of(prefix), "/pub"), passed("GET /admin"));
    if rewriting.version() >= (1, 37, 0) {
        assert_eq!(get(&of(json!({ "route": { "path_rewrite": "/admin" } })), "/pub"), passed("GET /admin"));
    }
    let protects_the_way = policy("way", "DENY", &[to(json!({ "paths": ["/pub"] }))]);
    let rewrite = json!({ "route": { "prefix_rewrite": "/admin" } });
    let sidecar = with(&[protects_the_way]).routes(&[route(rewrite)]).start_shared();
    assert_eq!(get(&sidecar, "/pub"), Refused);
}

#[test]
fn policies_decide_about_the_host_before_a_route_rewrites_it() {
    let deny = policy("deny-host", "DENY", &[to(json!({ "hosts": ["admin.example"] }))]);
    let of_path = json!({ "pattern": { "regex": "^/(.*)" }, "substitution": "\\1" });
    let request = Request::get("/admin.example").header("x-host", "admin.example");
    for rewrite in [
        json!({ "host_rewrite_literal": "admin.example" }),
        json!({ "host_rewrite_header": "x-host" }),
        json!({ "host_rewrite_path_regex": of_path }),
    ] {
        let routes = [route(json!({ "route": rewrite }))];
        let sidecar = with(std::slice::from_ref(&deny)).routes(&routes).start_shared();
        assert_eq!(seen(&send(&sidecar, &request), "host"), ["admin.example"], "{rewrite}");
        assert_eq!(outcome(&sidecar, &request.clone().host("admin.example")), Refused, "{rewrite}");
    }
}

#[test]
fn policies_decide_about_headers_before_routes_change_them() {
    let setting = |name: &str| json!({ "request_headers_to_add": [{ "header": { "key": name, "value": "admin" } }] });
    let mut all_hosts = with(&[deny_role_admin()]);
    merge(&mut all_hosts.manager()["route_config"], setting("x-role"));
    let mut a_host = with(&[deny_role_admin()]);
    merge(a_host.virtual_host(), setting("x-role"));
    let a_route = with(&[deny_role_admin()]).routes(&[route(setting("x-role"))]);
    for blueprint in [all_hosts, a_host, a_route] {
        let sidecar = blueprint.start_shared();
        assert_eq!(seen(&send(&sidecar, &Request::get("/")), "x-role"), ["admin"]);
        assert_eq!(outcome(&sidecar, &role("admin")), Refused);
    }
    let removing = route(json!({ "request_headers_to_remove": ["x-role"] }));
    let sidecar = with(&[allow_role_admin()]).routes(&[removing]).start_shared();
    assert!(seen(&send(&sidecar, &role("admin")), "x-role").is_empty());
    for name in [":path", "host"] {
        let log = with(&[]).routes(&[route(setting(name))]).refused_shared();
        assert!(log.contains(":-prefixed or host headers may not be modified"), "{name}: {log}");
    }
}

#[test]
fn early_header_mutation_is_before_all_filters() {
    let mutation = json!({ "append": { "header": { "key": "x-role", "value": "admin" } } });
    let kind = "http.early_header_mutation.header_mutation.v3.HeaderMutation";
    let early = json!({ "name": "early", "typed_config": typed(kind, json!({ "mutations": [mutation] })) });
    let blueprint = with(&[deny_role_admin()]).setting("early_header_mutation_extensions", json!([early]));
    assert_eq!(get(&blueprint.start_shared(), "/"), Refused);
}

#[test]
fn what_a_route_answers_itself_is_decided_first() {
    let redirect = json!({ "match": { "prefix": "/" }, "redirect": { "path_redirect": "/elsewhere" } });
    let response = json!({ "match": { "prefix": "/" }, "direct_response": { "status": 204 } });
    let elsewhere = json!({ "match": { "prefix": "/elsewhere" }, "direct_response": { "status": 204 } });
    for (route, status) in [(redirect, 301), (response, 204), (elsewhere, 404)] {
        let sidecar = with(&[deny_admin()]).routes(&[route]).start_shared();
        assert_eq!([get(&sidecar, "/admin"), get(&sidecar, "/data")], [Refused, Answered(status)]);
    }
    let mut tls_only = with(&[deny_admin()]);
    tls_only.virtual_host()["require_tls"] = json!("ALL");
    let sidecar = tls_only.start_shared();
    assert_eq!([get(&sidecar, "/admin"), get(&sidecar, "/data")], [Refused, Answered(301)]);
}

/// The paths that begin with `/to-` go to a service that redirects to other paths, all others to the application.
fn following_redirects() -> Sidecar {
    let redirected = json!({
        "match": { "prefix": "/to-" }, "route": { "cluster": "helper", "internal_redirect_policy": {} },
    });
    with(&[deny_admin()]).routes(&[route(redirected), route(json!({}))]).start_shared()
}

#[test]
fn a_request_that_envoy_redirects_itself_is_decided_again() {
    let sidecar = following_redirects();
    assert_eq!(get(&sidecar, "/to-data"), passed("GET /data"));
    assert_eq!(get(&sidecar, "/to-admin"), Refused);
}

/// Sends refused requests again, to a page for errors.
fn custom_response(page: &str) -> Value {
    let by_status = json!({ "single_predicate": {
        "input": { "name": "status", "typed_config": {
            "@type": "type.googleapis.com/envoy.type.matcher.v3.HttpResponseStatusCodeMatchInput",
        } },
        "value_match": { "exact": "403" },
    } });
    let redirect = typed("http.custom_response.redirect_policy.v3.RedirectPolicy", json!({ "uri": page }));
    let action = json!({ "action": { "name": "page", "typed_config": redirect } });
    let matchers = json!([{ "predicate": by_status, "on_match": action }]);
    let matcher = json!({ "custom_response_matcher": { "matcher_list": { "matchers": matchers } } });
    http_filter("custom_response.v3.CustomResponse", matcher)
}

#[test]
fn a_page_for_refused_requests_is_decided_about_as_well() {
    let admin = |blueprint: Blueprint| get(&blueprint.start_shared(), "/admin");
    let (public, forbidden) = ("http://errors.example/sorry", "http://errors.example/admin");
    assert_eq!(admin(with(&[deny_admin()]).filter(custom_response(public))), passed("GET /sorry"));
    assert_eq!(admin(with(&[deny_admin()]).filter(custom_response(forbidden))), Refused);
    // After mesh-authz, the filter does not see the refusal.
    assert_eq!(admin(with(&[deny_admin()]).filter_after(custom_response(public))), Refused);
}

#[test]
fn refused_requests_are_not_mirrored() {
    let mirror = json!({ "route": { "request_mirror_policies": [{ "cluster": "copies" }] } });
    let sidecar = with(&[deny_admin()]).routes(&[route(mirror)]).start_shared();
    assert_eq!([get(&sidecar, "/admin"), get(&sidecar, "/data")], [Refused, passed("GET /data")]);
    let copies = "cluster.copies.upstream_rq_total";
    sidecar.envoy.wait_for_stat(copies, |count| count > 0, PATIENCE).unwrap();
    assert_eq!(sidecar.envoy.stats().unwrap()[copies], 1);
}

#[test]
fn a_request_is_decided_once_for_all_its_retries() {
    let retry = json!({ "route": {
        "cluster": "failing", "retry_policy": { "retry_on": "5xx", "num_retries": 2, "retry_back_off": { "base_interval": "0.001s" } },
    } });
    let mut blueprint = with(&[deny_admin()]).routes(&[route(retry)]);
    blueprint.wasm_filter()["configuration"]["value"]["decisionLog"] = json!("all");
    let sidecar = blueprint.start_shared();
    assert_eq!(get(&sidecar, "/fail"), Answered(503));
    assert_eq!(sidecar.envoy.stats().unwrap()["cluster.failing.upstream_rq_total"], 3);
    let decisions = || sidecar.decisions().iter().filter(|decision| decision["path"] == "/fail").count();
    let deadline = Instant::now() + PATIENCE;
    while decisions() == 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(decisions(), 1);
}

#[test]
fn filters_of_the_cluster_and_of_the_router_are_after_the_decision() {
    let of_cluster = with(&[deny_admin()]).routes(&[route(json!({ "route": { "cluster": "rewriting" } }))]);
    let mut of_router = with(&[deny_admin()]);
    let router = of_router.manager()["http_filters"].as_array_mut().unwrap().last_mut().unwrap();
    router["typed_config"]["upstream_http_filters"] = json!(upstream_filters());
    for blueprint in [of_cluster, of_router] {
        let sidecar = blueprint.start_shared();
        assert_eq!([get(&sidecar, "/data"), get(&sidecar, "/admin")], [passed("GET /admin"), Refused]);
    }
}

#[test]
fn the_administration_interface_is_not_decided_about() {
    let sidecar = with(&[policy("nothing", "ALLOW", &[])]).start_shared();
    assert_eq!(get(&sidecar, "/config_dump"), Refused);
    assert!(sidecar.envoy.config_dump().unwrap()["configs"].is_array());
}
