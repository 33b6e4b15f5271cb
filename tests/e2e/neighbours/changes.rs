//! Filters that change requests. Before mesh-authz, policies decide about what they have made of a request; after it,
//! about what the client sent.

use serde_json::{Value, json};
use testbed::{Http2Request, Request, Response};

use super::{
    Answered, Outcome, Refused, TO_ADMIN, allow_role_admin, both, deny_admin, deny_role_admin, get, http_filter, lua,
    outcome, outcome_of, passed, role, route, seen, send, typed, with,
};
use crate::jwt::{issuer, jwt_authn, with_token};
use crate::sidecar::{Blueprint, Sidecar, policy, to, when};

#[test]
fn lua_after_mesh_authz_changes_what_nobody_decided_about() {
    let [before, after] = both(&[deny_admin()], &lua(TO_ADMIN));
    assert_eq!([get(&before, "/data"), get(&after, "/data")], [Refused, passed("GET /admin")]);

    let policies = [
        policy("deny-delete", "DENY", &[to(json!({ "methods": ["DELETE"] }))]),
        policy("deny-host", "DENY", &[to(json!({ "hosts": ["admin.example"] }))]),
        deny_role_admin(),
    ];
    for (header, value, line) in
        [(":method", "DELETE", "DELETE /"), (":authority", "admin.example", "GET /"), ("x-role", "admin", "GET /")]
    {
        let [before, after] = both(&policies, &lua(&format!("request:headers():replace('{header}', '{value}')")));
        assert_eq!([get(&before, "/"), get(&after, "/")], [Refused, passed(line)], "{header}");
    }
}

/// A Wasm module that replaces the path by `/admin`.
fn rewriting_module() -> tempfile::NamedTempFile {
    let text = r#"(module
        (import "env" "proxy_replace_header_map_value" (func $replace (param i32 i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) ":path/admin")
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
        (func (export "proxy_on_context_create") (param i32 i32))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $replace (i32.const 0) (i32.const 0) (i32.const 5) (i32.const 5) (i32.const 6))))"#;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, wat::parse_str(text).unwrap()).unwrap();
    file
}

#[test]
fn so_does_another_wasm_filter() {
    let module = rewriting_module();
    let code = json!({ "local": { "filename": module.path() } });
    let vm = json!({ "vm_id": "rewriting", "runtime": "envoy.wasm.runtime.v8", "code": code });
    let filter = http_filter("wasm.v3.Wasm", json!({ "config": { "name": "rewriting", "vm_config": vm } }));
    let [before, after] = both(&[deny_admin()], &filter);
    assert_eq!([get(&before, "/data"), get(&after, "/data")], [Refused, passed("GET /admin")]);
}

fn header_mutation(mutations: Value) -> Value {
    http_filter("header_mutation.v3.HeaderMutation", json!({ "mutations": mutations }))
}

/// Sets a header, if Envoy allows it.
fn setting(name: &str, value: &str) -> Value {
    let header = json!({ "header": { "key": name, "value": value }, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD" });
    header_mutation(json!({ "request_mutations": [{ "append": header }] }))
}

#[test]
fn header_mutation_changes_headers_and_queries() {
    let [before, after] = both(&[deny_role_admin()], &setting("x-role", "admin"));
    assert_eq!([get(&before, "/"), get(&after, "/")], [Refused, passed("GET /")]);

    let deny_debug = policy("deny-debug", "DENY", &[when("request.headers[:path]", &["*debug=1"])]);
    let query = json!({ "query_parameter_mutations": [{ "append": { "record": { "key": "debug", "value": "1" } } }] });
    let [before, after] = both(&[deny_debug], &header_mutation(query));
    assert_eq!([get(&before, "/"), get(&after, "/")], [Refused, passed("GET /?debug=1")]);

    for name in [":path", ":method", ":authority", "host"] {
        let log = with(&[]).filter(setting(name, "other")).refused_shared();
        assert!(log.contains(":-prefixed or host headers may not be modified"), "{name}: {log}");
    }
}

/// An authorizer that accepts every path but `/refuse`, and gives accepted requests the header `x-role: admin`.
fn ext_authz(name: &str) -> Value {
    let role = json!({ "patterns": [{ "exact": "x-role" }] });
    http_filter(
        "ext_authz.v3.ExtAuthz",
        json!({
            "stat_prefix": name,
            "http_service": {
                "server_uri": { "uri": "http://helper", "cluster": "helper", "timeout": "5s" },
                "authorization_response": { "allowed_upstream_headers": role },
            },
        }),
    )
}

#[test]
fn policies_see_headers_of_ext_authz_only_if_it_is_before_mesh_authz() {
    let [before, after] = both(&[allow_role_admin()], &ext_authz("headers"));
    assert_eq!([get(&before, "/"), get(&after, "/")], [passed("GET /"), Refused]);

    // Anybody can send the header that the authorizer would set.
    assert_eq!(outcome(&after, &role("admin")), passed("GET /"));

    let [before, after] = both(&[deny_role_admin()], &ext_authz("headers"));
    assert_eq!([outcome(&before, &role("user")), outcome(&after, &role("user"))], [Refused, passed("GET /")]);
    assert_eq!(seen(&send(&after, &role("user")), "x-role"), ["admin"]);
}

#[test]
fn after_mesh_authz_ext_authz_is_not_asked_about_refused_requests() {
    let calls = |name: &str, sidecar: &Sidecar| {
        let stats = sidecar.envoy.stats().unwrap();
        ["ok", "denied"].map(|result| stats[&format!("http.inbound.ext_authz.{name}.{result}")])
    };
    let before = with(&[deny_admin()]).filter(ext_authz("calls-before")).start_shared();
    let after = with(&[deny_admin()]).filter_after(ext_authz("calls-after")).start_shared();
    for sidecar in [&before, &after] {
        let answers = ["/admin", "/data", "/refuse"].map(|path| get(sidecar, path));
        assert_eq!(answers, [Refused, passed("GET /data"), Answered(401)]);
    }
    assert_eq!([calls("calls-before", &before), calls("calls-after", &after)], [[2, 1], [1, 1]]);
}

#[test]
fn clear_route_cache_lets_headers_of_ext_authz_choose_the_route() {
    let of_admins = json!({
        "match": { "prefix": "/", "headers": [{ "name": "x-role", "string_match": { "exact": "admin" } }] },
        "direct_response": { "status": 204 },
    });
    for (clear, expected) in [(true, Answered(204)), (false, passed("GET /data"))] {
        let mut filter = ext_authz("route");
        filter["typed_config"]["clear_route_cache"] = json!(clear);
        let routes = [of_admins.clone(), route(json!({}))];
        for place in [Blueprint::filter, Blueprint::filter_after] {
            let sidecar = place(with(&[deny_admin()]).routes(&routes), filter.clone()).start_shared();
            assert_eq!([get(&sidecar, "/data"), get(&sidecar, "/admin")], [expected.clone(), Refused]);
        }
    }
}

#[test]
fn ext_proc_after_mesh_authz_changes_what_nobody_decided_about() {
    let filter = http_filter(
        "ext_proc.v3.ExternalProcessor",
        json!({
            "grpc_service": { "envoy_grpc": { "cluster_name": "grpc-servers" } },
            "processing_mode": { "request_header_mode": "SEND", "response_header_mode": "SKIP" },
        }),
    );
    let [before, after] = both(&[deny_admin()], &filter);
    assert_eq!([get(&before, "/data"), get(&after, "/data")], [Refused, passed("GET /admin")]);
}

#[test]
fn ext_authz_can_change_the_path_by_grpc() {
    let server = json!({ "envoy_grpc": { "cluster_name": "grpc-servers" } });
    let filter = http_filter("ext_authz.v3.ExtAuthz", json!({ "transport_api_version": "V3", "grpc_service": server }));
    let [before, after] = both(&[deny_admin()], &filter);
    assert_eq!([get(&before, "/data"), get(&after, "/data")], [Refused, passed("GET /admin")]);
}

#[test]
fn policies_see_metadata_only_of_filters_before_mesh_authz() {
    let namespace = "envoy.filters.example";
    let deny = policy("deny-role", "DENY", &[when("experimental.envoy.filters.example[role]", &["admin"])]);
    let fixed = json!({ "metadata": [{ "metadata_namespace": namespace, "value": { "role": "admin" } }] });
    let of_header = json!({ "request_rules": [{
        "header": "x-role",
        "on_header_present": { "metadata_namespace": namespace, "key": "role" },
        "remove": true,
    }] });
    for filter in
        [http_filter("set_metadata.v3.Config", fixed), http_filter("header_to_metadata.v3.Config", of_header.clone())]
    {
        let [before, after] = both(std::slice::from_ref(&deny), &filter);
        assert_eq!([outcome(&before, &role("admin")), outcome(&after, &role("admin"))], [Refused, passed("GET /")]);
    }

    // Policies about the header itself: the filter has removed it.
    let [before, after] = both(&[deny_role_admin()], &http_filter("header_to_metadata.v3.Config", of_header));
    assert_eq!([outcome(&before, &role("admin")), outcome(&after, &role("admin"))], [passed("GET /"), Refused]);
}

#[test]
fn transform_after_mesh_authz_adds_headers_that_nobody_decided_about() {
    let any: Sidecar = with(&[]).start_shared();
    if any.version() < (1, 37, 0) {
        return;
    }
    let mutation = json!({ "append": { "header": { "key": "x-role", "value": "%REQUEST_BODY(role)%" } } });
    let filter = http_filter(
        "transform.v3.TransformConfig",
        json!({
            "request_transformation": { "headers_mutations": [mutation] },
        }),
    );
    let [before, after] = both(&[deny_role_admin()], &filter);
    let request = Request::new("POST", "/").header("content-type", "application/json").body(r#"{"role": "admin"}"#);
    assert_eq!([outcome(&before, &request), outcome(&after, &request)], [Refused, passed("POST /")]);
}

fn of_principals(action: &str, field: &str, value: &str) -> Value {
    policy("principals", action, &[json!({ "from": [{ "source": { field: [value] } }] })])
}

fn token_of(subject: &str) -> Request {
    with_token(issuer(), &json!({ "iss": "i", "sub": subject, "role": "admin" }))
}

#[test]
fn without_jwt_authn_before_mesh_authz_there_are_no_claims() {
    for (policy, order_before, order_after) in [
        (of_principals("ALLOW", "requestPrincipals", "*"), passed("GET /"), Refused),
        (of_principals("DENY", "notRequestPrincipals", "*"), passed("GET /"), Refused),
        // These let everybody pass.
        (of_principals("DENY", "requestPrincipals", "i/mallory"), Refused, passed("GET /")),
        (of_principals("ALLOW", "notRequestPrincipals", "i/mallory"), Refused, passed("GET /")),
    ] {
        let [before, after] = both(std::slice::from_ref(&policy), &jwt_authn());
        let request = token_of("mallory");
        assert_eq!([outcome(&before, &request), outcome(&after, &request)], [order_before, order_after], "{policy}");
    }
}

#[test]
fn claim_to_headers_sets_headers_for_the_filters_after_it() {
    let mut filter = jwt_authn();
    let provider = &mut filter["typed_config"]["providers"]["test"];
    provider["claim_to_headers"] = json!([{ "header_name": "x-role", "claim_name": "role" }]);
    let [before, after] = both(&[deny_role_admin()], &filter);
    let request = token_of("alice");
    assert_eq!([outcome(&before, &request), outcome(&after, &request)], [Refused, passed("GET /")]);
    assert_eq!(seen(&send(&after, &request), "x-role"), ["admin"]);

    // A client cannot send the header itself.
    let [before, _] = both(&[allow_role_admin()], &filter);
    assert_eq!([outcome(&before, &request), outcome(&before, &role("admin"))], [passed("GET /"), Refused]);
}

#[test]
fn jwt_authn_takes_the_token_away_unless_it_forwards_it() {
    let allow_bearer = policy("bearer", "ALLOW", &[when("request.headers[authorization]", &["Bearer *"])]);
    for (forward, expected) in [(false, Refused), (true, passed("GET /"))] {
        let mut filter = jwt_authn();
        filter["typed_config"]["providers"]["test"]["forward"] = json!(forward);
        let sidecar = with(std::slice::from_ref(&allow_bearer)).filter(filter).start_shared();
        assert_eq!(outcome(&sidecar, &token_of("alice")), expected, "forward: {forward}");
    }
}

#[test]
fn policies_see_users_of_other_authentication_only_if_it_is_before_mesh_authz() {
    let basic = json!({
        "users": { "inline_string": "admin:{SHA}tESsBmE/yNY3lb6a0L6vVQEZNqw=" }, "forward_username_header": "x-role",
    });
    let key = json!({
        "credentials": [{ "key": "secret", "client": "admin" }],
        "key_sources": [{ "header": "x-key" }],
        "forwarding": { "header": "x-role", "hide_credentials": true },
    });
    for (filter, name, credential) in [
        (http_filter("basic_auth.v3.BasicAuth", basic), "authorization", "Basic YWRtaW46dGVzdDE="),
        (http_filter("api_key_auth.v3.ApiKeyAuth", key), "x-key", "secret"),
    ] {
        let request = Request::get("/").header(name, credential);
        let [before, after] = both(&[allow_role_admin()], &filter);
        assert_eq!([outcome(&before, &request), outcome(&after, &request)], [passed("GET /"), Refused], "{name}");
        // Before mesh-authz, the filter replaces what a client claims to be.
        let forged = request.clone().header("x-role", "user");
        assert_eq!(seen(&send(&before, &forged), "x-role"), ["admin"], "{name}");
    }
}

/// A `FileDescriptorSet` with the service of this file:
///
/// ```proto
/// syntax = "proto3"; package shop;
/// message Order { string id = 1; }
/// service Orders { rpc Drop(Order) returns (Order) { option (google.api.http) = { get: "/v1/orders/{id}" }; } }
/// ```
const ORDERS: &str = concat!(
    "CngKCnNob3AucHJvdG8SBHNob3AiFwoFT3JkZXISDgoCaWQYASABKAlSAmlkMkMKBk9yZGVycxI5CgREcm9wEgsuc2hvcC5P",
    "cmRlchoLLnNob3AuT3JkZXIiF4LT5JMCERIPL3YxL29yZGVycy97aWR9YgZwcm90bzM=",
);

fn transcoder(more: Value) -> Value {
    let mut config = json!({ "proto_descriptor_bin": ORDERS, "services": ["shop.Orders"] });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    http_filter("grpc_json_transcoder.v3.GrpcJsonTranscoder", config)
}

/// What becomes of `GET /v1/orders/7`, and of the gRPC call that it stands for.
fn rest_and_grpc(sidecar: &Sidecar) -> [Outcome; 2] {
    let requests = [Http2Request::get("/v1/orders/7"), Http2Request::grpc("/shop.Orders/Drop")];
    let responses = requests.map(|request| sidecar.plain_client().send_http2(&request).unwrap());
    responses.map(|response| match response.header("x-app") {
        Some(_) => passed("some"),
        None => outcome_of(&response),
    })
}

#[test]
fn before_mesh_authz_the_transcoder_shows_the_grpc_call_to_policies() {
    let deny_grpc = policy("grpc", "DENY", &[to(json!({ "paths": ["/shop.Orders/Drop"], "methods": ["POST"] }))]);
    let [before, after] = both(&[deny_grpc], &transcoder(json!({})));
    assert_eq!(rest_and_grpc(&before), [Refused, Refused]);
    assert_eq!(rest_and_grpc(&after), [passed("some"), Refused]);

    let deny_rest = policy("rest", "DENY", &[to(json!({ "paths": ["/v1/orders/{*}"], "methods": ["GET"] }))]);
    let [before, after] = both(&[deny_rest], &transcoder(json!({})));
    assert_eq!(rest_and_grpc(&before), [passed("some"), passed("some")]);
    assert_eq!(rest_and_grpc(&after), [Refused, passed("some")]);
}

#[test]
fn the_transcoder_chooses_the_route_anew_unless_told_otherwise() {
    let of_rest = json!({ "match": { "prefix": "/v1/" }, "direct_response": { "status": 204 } });
    for (keep, rest) in [(false, passed("some")), (true, Answered(204))] {
        let filter = transcoder(json!({ "match_incoming_request_route": keep }));
        let sidecar = with(&[]).routes(&[of_rest.clone(), route(json!({}))]).filter(filter).start_shared();
        assert_eq!(rest_and_grpc(&sidecar)[0], rest, "match_incoming_request_route: {keep}");
    }
}

#[test]
fn grpc_web_before_mesh_authz_makes_refusals_readable_for_browsers() {
    let deny = policy("deny-drop", "DENY", &[to(json!({ "paths": ["/shop.Orders/Drop"] }))]);
    let [before, after] = both(&[deny], &http_filter("grpc_web.v3.GrpcWeb", json!({})));
    let call = |method: &str| {
        let path = format!("/shop.Orders/{method}");
        Request::new("POST", path).header("content-type", "application/grpc-web+proto").body([0; 5])
    };
    for sidecar in [&before, &after] {
        assert_eq!(send(sidecar, &call("List")).header("x-app").as_deref(), Some("reached"));
    }
    let [refused_before, refused_after] = [&before, &after].map(|sidecar| send(sidecar, &call("Drop")));
    let status = (refused_before.status, refused_before.header("grpc-status"), outcome_of(&refused_before));
    assert_eq!(status, (403, Some("7".to_owned()), Refused));
    let status = (refused_after.status, refused_after.header("grpc-status"), outcome_of(&refused_after));
    assert_eq!(status, (403, None, Refused));
}

#[test]
fn grpc_web_changes_the_content_type_for_the_filters_after_it() {
    let deny = policy("deny-web", "DENY", &[when("request.headers[content-type]", &["application/grpc-web*"])]);
    let [before, after] = both(&[deny], &http_filter("grpc_web.v3.GrpcWeb", json!({})));
    let call = Request::new("POST", "/a.B/C").header("content-type", "application/grpc-web").body([0; 5]);
    assert!(send(&before, &call).header("x-app").is_some());
    assert_eq!(outcome(&after, &call), Refused);
}

#[test]
fn the_http1_bridge_changes_nothing_that_policies_see() {
    let [before, after] = both(&[deny_admin()], &http_filter("grpc_http1_bridge.v3.Config", json!({})));
    for sidecar in [&before, &after] {
        assert_eq!([get(sidecar, "/admin"), get(sidecar, "/data")], [Refused, passed("GET /data")]);
    }
}

/// The word "compressed", compressed by gzip.
const COMPRESSED: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03K\xce\xcf-(J-.NM\x01\x00\x1eKV\x97\x0a\x00\x00\x00";

/// What the application has seen of a request, without these headers and without the id that Envoy makes up.
fn others(response: &Response, except: &[&str]) -> Vec<(String, String)> {
    let headers: Vec<(String, String)> = serde_json::from_value(response.json().unwrap()["headers"].clone()).unwrap();
    headers.into_iter().filter(|(name, _)| name != "x-request-id" && !except.contains(&name.as_str())).collect()
}

#[test]
fn the_place_of_filters_for_bodies_makes_no_difference_to_decisions() {
    let of_body = ["content-encoding", "content-length", "transfer-encoding", "accept-encoding", "te"];
    let library = |kind: &str| json!({ "name": "gzip", "typed_config": typed(kind, json!({})) });
    let (compressor, decompressor) = ("compression.gzip.compressor.v3.Gzip", "compression.gzip.decompressor.v3.Gzip");
    let filters = [
        http_filter("decompressor.v3.Decompressor", json!({ "decompressor_library": library(decompressor) })),
        http_filter(
            "compressor.v3.Compressor",
            json!({
                "compressor_library": library(compressor),
                "request_direction_config": { "common_config": {
                    "enabled": { "default_value": true, "runtime_key": "unset" }, "min_content_length": 30,
                } },
                "response_direction_config": { "common_config": {
                    "enabled": { "default_value": false, "runtime_key": "unset" },
                } },
            }),
        ),
        http_filter("buffer.v3.Buffer", json!({ "max_request_bytes": 1000 })),
    ];
    let plain = Request::new("POST", "/data").header("content-type", "application/json");
    let requests = [
        plain.clone().header("accept-encoding", "gzip").body("x".repeat(100)),
        plain.clone().header("content-encoding", "gzip").body(COMPRESSED),
        Request { body: b"2\r\nhi\r\n0\r\n\r\n".to_vec(), ..plain.header("transfer-encoding", "chunked") },
    ];
    let unfiltered = with(&[]).start_shared();
    for filter in filters {
        for sidecar in both(&[deny_admin()], &filter) {
            for request in &requests {
                assert_eq!(outcome(&sidecar, &Request { path: b"/admin".to_vec(), ..request.clone() }), Refused);
                let [filtered, original] =
                    [&sidecar, &unfiltered].map(|sidecar| others(&send(sidecar, request), &of_body));
                assert_eq!(filtered, original, "{filter}");
            }
        }
    }
}

#[test]
fn a_buffer_before_mesh_authz_holds_requests_that_will_be_refused() {
    let buffer = http_filter("buffer.v3.Buffer", json!({ "max_request_bytes": 1000 }));
    let [before, after] = both(&[deny_admin()], &buffer);
    // The body never comes.
    let request = Request::new("POST", "/admin").header("content-length", "10");
    assert_eq!(outcome(&after, &request), Refused);
    let mut client = before.plain_client();
    client.timeout = std::time::Duration::from_millis(300);
    assert!(client.send(&request).unwrap_err().to_string().contains("reading the response"));
}
