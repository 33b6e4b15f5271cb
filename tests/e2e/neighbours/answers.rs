//! Filters that answer requests themselves. Before mesh-authz, nobody has decided about the requests that they answer.

use serde_json::{Value, json};
use testbed::{Request, Response};

use super::{
    Answered, Refused, both, deny_admin, deny_role_admin, get, http_filter, outcome, outcome_of, passed, send, typed,
    with,
};
use crate::jwt::{issuer, jwt_authn, with_token};
use crate::sidecar::{Blueprint, Sidecar, policy, to};

const SHOP: &str = "https://shop.example";

/// The filter `cors`, and the configuration of a virtual host that lets scripts of one page read responses.
fn cors() -> (Value, Value) {
    let filter = http_filter("cors.v3.Cors", json!({}));
    let allowed = typed(
        "filters.http.cors.v3.CorsPolicy",
        json!({ "allow_origin_string_match": [{ "exact": SHOP }], "allow_methods": "GET" }),
    );
    let for_host = json!({ filter["name"].as_str().unwrap(): allowed });
    (filter, for_host)
}

fn with_cors(blueprint: Blueprint, place: fn(Blueprint, Value) -> Blueprint) -> Sidecar {
    let (filter, for_host) = cors();
    let mut blueprint = place(blueprint, filter);
    blueprint.virtual_host()["typed_per_filter_config"] = for_host;
    blueprint.start_shared()
}

/// A browser's question whether a script of this page may send a GET request.
fn preflight(origin: &str) -> Request {
    Request::new("OPTIONS", "/").header("origin", origin).header("access-control-request-method", "GET")
}

fn readable_by(response: &Response) -> Option<String> {
    response.header("access-control-allow-origin")
}

fn needs_token() -> Value {
    policy("needs-token", "ALLOW", &[json!({ "from": [{ "source": { "requestPrincipals": ["*"] } }] })])
}

#[test]
fn cors_before_mesh_authz_answers_preflights_of_allowed_origins() {
    let allow_open = policy("open", "ALLOW", &[to(json!({ "paths": ["/open"] }))]);
    let start = |place| with_cors(with(&[needs_token(), allow_open.clone()]), place);
    let (before, after) = (start(Blueprint::filter), start(Blueprint::filter_after));

    let response = send(&before, &preflight(SHOP));
    assert_eq!((outcome_of(&response), readable_by(&response).as_deref()), (Answered(200), Some(SHOP)));
    let response = send(&after, &preflight(SHOP));
    assert_eq!((outcome_of(&response), readable_by(&response)), (Refused, None));

    // These are no preflight requests of an allowed origin, so the policies decide.
    let no_origin = Request::new("OPTIONS", "/").header("access-control-request-method", "GET");
    let no_preflight = Request::new("OPTIONS", "/").header("origin", SHOP);
    for request in [preflight("https://other.example"), no_origin, no_preflight] {
        assert_eq!(outcome(&before, &request), Refused, "{request:?}");
    }

    // A script can read the status of a refusal only if `cors` is before mesh-authz.
    for (sidecar, reader) in [(&before, Some(SHOP)), (&after, None)] {
        let response = send(sidecar, &Request::get("/").header("origin", SHOP));
        assert_eq!((outcome_of(&response), readable_by(&response).as_deref()), (Refused, reader));
        let response = send(sidecar, &Request::get("/open").header("origin", SHOP));
        assert_eq!((outcome_of(&response), readable_by(&response).as_deref()), (passed("GET /open"), Some(SHOP)));
    }
}

/// `jwt_authn` that refuses requests without a token.
fn requires_token(bypass_cors_preflight: bool) -> Value {
    let mut filter = jwt_authn();
    filter["typed_config"]["rules"][0]["requires"] = json!({ "provider_name": "test" });
    filter["typed_config"]["bypass_cors_preflight"] = json!(bypass_cors_preflight);
    filter
}

#[test]
fn bypass_cors_preflight_leaves_a_preflight_to_the_policies() {
    let start = |bypass, policies: &[Value]| with(policies).filter(requires_token(bypass)).start_shared();
    let deny_without = json!({ "from": [{ "source": { "notRequestPrincipals": ["*"] } }] });
    let deny_without = policy("deny-without-token", "DENY", &[deny_without]);
    assert_eq!(outcome(&start(false, &[]), &preflight(SHOP)), Answered(401));
    assert_eq!(outcome(&start(true, &[]), &preflight(SHOP)), passed("OPTIONS /"));
    assert_eq!(outcome(&start(true, &[deny_without]), &preflight(SHOP)), Refused);
    // The origin does not matter.
    assert_eq!(outcome(&start(true, &[]), &preflight("https://other.example")), passed("OPTIONS /"));

    // The token of a preflight request counts only without the setting.
    let token = with_token(issuer(), &json!({ "iss": "i", "sub": "alice" })).headers.remove(0).1;
    let with_token = preflight(SHOP).header("authorization", token);
    assert_eq!(outcome(&start(false, &[needs_token()]), &with_token), passed("OPTIONS /"));
    assert_eq!(outcome(&start(true, &[needs_token()]), &with_token), Refused);
}

#[test]
fn cors_before_jwt_authn_needs_no_bypass() {
    let sidecar = with_cors(with(&[needs_token()]).filter(requires_token(false)), Blueprint::filter);
    assert_eq!(outcome(&sidecar, &preflight(SHOP)), Answered(200));
    assert_eq!(get(&sidecar, "/"), Answered(401));
}

#[test]
fn a_health_check_filter_before_mesh_authz_answers_the_load_balancer() {
    let path = json!([{ "name": ":path", "string_match": { "exact": "/healthz" } }]);
    let filter = http_filter("health_check.v3.HealthCheck", json!({ "pass_through_mode": false, "headers": path }));
    let [before, after] = both(&[needs_token()], &filter);
    assert_eq!([get(&before, "/healthz"), get(&after, "/healthz")], [Answered(200), Refused]);
    assert_eq!([get(&before, "/other"), get(&before, "/healthz/x")], [Refused, Refused]);
}

#[test]
fn oauth2_before_mesh_authz_sends_users_to_the_login() {
    let secret = |name: &str| json!({ "name": name });
    let config = json!({ "config": {
        "token_endpoint": { "cluster": "helper", "uri": "https://accounts.example/token", "timeout": "1s" },
        "authorization_endpoint": "https://accounts.example/login",
        "redirect_uri": "https://shop.example/callback",
        "redirect_path_matcher": { "path": { "exact": "/callback" } },
        "signout_path": { "path": { "exact": "/signout" } },
        "credentials": {
            "client_id": "shop", "token_secret": secret("oauth-token"), "hmac_secret": secret("oauth-hmac"),
        },
    } });
    let [before, after] = both(&[needs_token()], &http_filter("oauth2.v3.OAuth2", config));
    let response = send(&before, &Request::get("/orders"));
    assert!(response.header("location").unwrap().starts_with("https://accounts.example/login"), "{response:?}");
    assert_eq!([get(&before, "/callback"), get(&before, "/signout")], [Answered(401), Answered(302)]);
    for path in ["/orders", "/callback", "/signout"] {
        assert_eq!(get(&after, path), Refused, "{path}");
    }
}

#[test]
fn a_cache_before_mesh_authz_passes_requests_without_a_decision() {
    for (cache, store) in [
        ("cache.v3.CacheConfig", "http.cache.simple_http_cache.v3.SimpleHttpCacheConfig"),
        ("cache_v2.v3.CacheV2Config", "http.cache_v2.simple_http_cache.v3.SimpleHttpCacheV2Config"),
    ] {
        let store = typed(store, json!({}));
        let [before, after] = both(&[deny_admin()], &http_filter(cache, json!({ "typed_config": store })));
        let admin = Request::get("/admin");
        assert_eq!([outcome(&before, &admin), outcome(&after, &admin)], [passed("GET /admin"), Refused], "{cache}");
        assert_eq!(get(&after, "/data"), passed("GET /data"), "{cache}");
        // The cache leaves these to the filters after it.
        let post = Request::new("POST", "/admin").body("");
        let with_credentials = admin.header("authorization", "x");
        assert_eq!([outcome(&before, &post), outcome(&before, &with_credentials)], [Refused, Refused], "{cache}");
    }
}

/// In either order, the response is an error of the filter that comes first. Nothing reaches the application.
#[test]
fn errors_of_other_filters_let_nothing_pass_in_either_order() {
    let percent = json!({ "default_value": { "numerator": 100 } });
    let everyone = json!([{ "any": true }]);
    let rows = [
        (
            http_filter(
                "fault.v3.HTTPFault",
                json!({ "abort": { "http_status": 418, "percentage": { "numerator": 100 } } }),
            ),
            Request::get("/"),
            418,
        ),
        (
            http_filter(
                "rbac.v3.RBAC",
                json!({ "rules": {
                "action": "DENY", "policies": { "all": { "permissions": everyone, "principals": everyone } },
            } }),
            ),
            Request::get("/"),
            403,
        ),
        (
            http_filter("csrf.v3.CsrfPolicy", json!({ "filter_enabled": percent })),
            Request::new("POST", "/").header("origin", "https://other.example").body(""),
            403,
        ),
        (
            http_filter("buffer.v3.Buffer", json!({ "max_request_bytes": 10 })),
            Request::new("POST", "/").body("more than ten bytes"),
            413,
        ),
        (
            http_filter(
                "basic_auth.v3.BasicAuth",
                json!({ "users": { "inline_string": "u:{SHA}tESsBmE/yNY3lb6a0L6vVQEZNqw=" } }),
            ),
            Request::get("/"),
            401,
        ),
        (
            http_filter(
                "api_key_auth.v3.ApiKeyAuth",
                json!({
                    "credentials": [{ "key": "k", "client": "c" }], "key_sources": [{ "header": "x-key" }],
                }),
            ),
            Request::get("/"),
            401,
        ),
        (requires_token(false), Request::get("/"), 401),
    ];
    for (filter, request, status) in rows {
        let [before, after] = both(&[deny_admin()], &filter);
        let at = |path: &str| Request { path: path.into(), ..request.clone() };
        let answers = |sidecar: &Sidecar| ["/admin", "/data"].map(|path| outcome(sidecar, &at(path)));
        assert_eq!(answers(&before), [Answered(status), Answered(status)], "{filter}");
        assert_eq!(answers(&after), [Refused, Answered(status)], "{filter}");
    }
}

#[test]
fn a_rate_limit_before_mesh_authz_counts_requests_that_will_be_refused() {
    let percent = json!({ "default_value": { "numerator": 100 } });
    let filter = http_filter(
        "local_ratelimit.v3.LocalRateLimit",
        json!({
            "stat_prefix": "limit",
            "token_bucket": { "max_tokens": 2, "tokens_per_fill": 2, "fill_interval": "3600s" },
            "filter_enabled": percent,
            "filter_enforced": percent,
        }),
    );
    let [before, after] = both(&[deny_admin()], &filter);
    let requests = ["/admin", "/admin", "/data", "/admin", "/data", "/data"];
    let answers = |sidecar: &Sidecar| requests.map(|path| get(sidecar, path));
    let limited = || Answered(429);
    let data = || passed("GET /data");
    assert_eq!(answers(&before), [Refused, Refused, limited(), limited(), limited(), limited()]);
    assert_eq!(answers(&after), [Refused, Refused, data(), Refused, data(), limited()]);
}

#[test]
fn a_rate_limit_service_is_asked_about_requests_that_come_so_far() {
    let filter = http_filter(
        "ratelimit.v3.RateLimit",
        json!({
            "domain": "test",
            // By default, Envoy waits for 20 ms, and lets the request pass then: too short on a busy machine.
            "timeout": "10s",
            "rate_limit_service": {
                "transport_api_version": "V3", "grpc_service": { "envoy_grpc": { "cluster_name": "grpc-servers" } },
            },
        }),
    );
    let limits = json!([{ "actions": [{ "generic_key": { "descriptor_value": "all" } }] }]);
    let start = |place: fn(Blueprint, Value) -> Blueprint| {
        let mut blueprint = place(with(&[deny_admin()]), filter.clone());
        blueprint.virtual_host()["rate_limits"] = limits.clone();
        blueprint.start_shared()
    };
    let (before, after) = (start(Blueprint::filter), start(Blueprint::filter_after));
    assert_eq!([get(&before, "/admin"), get(&before, "/data")], [Answered(429), Answered(429)]);
    assert_eq!([get(&after, "/admin"), get(&after, "/data")], [Refused, Answered(429)]);
}

#[test]
fn a_rate_limit_can_add_a_header_in_place_of_an_error() {
    let percent = |numerator: u32| json!({ "default_value": { "numerator": numerator } });
    let filter = http_filter(
        "local_ratelimit.v3.LocalRateLimit",
        json!({
            "stat_prefix": "marking",
            "token_bucket": { "max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "3600s" },
            "filter_enabled": percent(100),
            "filter_enforced": percent(0),
            "request_headers_to_add_when_not_enforced": [{ "header": { "key": "x-role", "value": "admin" } }],
        }),
    );
    let [before, after] = both(&[deny_role_admin()], &filter);
    let answers = |sidecar: &Sidecar| [get(sidecar, "/"), get(sidecar, "/")];
    assert_eq!(answers(&before), [passed("GET /"), Refused]);
    assert_eq!(answers(&after), [passed("GET /"), passed("GET /")]);
}
