//! Protocols: HTTP/2, gRPC, CONNECT, WebSocket. The decision does not depend on the protocol; the form of a refusal
//! does.

use serde_json::{Value, json};
use testbed::{Client, Http2Request, Request};

use crate::question::{Answer::*, ask_with, operation};
use crate::sidecar::{Blueprint, FRONTEND, Sidecar, denied_by, policy, to};

/// A sidecar that accepts an extended CONNECT.
pub fn start(policies: Value) -> Sidecar {
    let config = json!({ "policies": policies });
    Blueprint::new(&config)
        .telling_details()
        .setting("http2_protocol_options", json!({ "allow_connect": true }))
        .start_shared()
}

#[test]
fn a_refused_grpc_call_ends_with_permission_denied() {
    let sidecar = start(json!([policy("deny-drop", "DENY", &[to(json!({ "paths": ["/shop.Orders/Drop"] }))])]));
    let client = sidecar.client(FRONTEND);

    let passed = client.send_http2(&Http2Request::grpc("/shop.Orders/List")).unwrap();
    assert_eq!((passed.status, passed.trailer("grpc-status").as_deref()), (200, Some("0")));

    let refused = client.send_http2(&Http2Request::grpc("/shop.Orders/Drop")).unwrap();
    assert_eq!((refused.status, refused.header("grpc-status").as_deref()), (200, Some("7")));
    assert_eq!(refused.header("grpc-message").as_deref(), Some("RBAC: access denied"));
    assert_eq!(refused.header("x-details"), Some(denied_by("deny-drop", 0)));
    assert_eq!((refused.body.as_slice(), refused.header("x-app")), (&b""[..], None));
}

#[test]
fn many_requests_of_one_connection_are_decided_one_by_one() {
    let sidecar = start(json!([policy("deny-admin", "DENY", &[to(json!({ "paths": ["/admin"] }))])]));
    let mut http1 = sidecar.client(FRONTEND).connect().unwrap();
    let mut http2 = sidecar.client(FRONTEND).connect_http2().unwrap();
    for _ in 0..20 {
        for (path, status) in [("/data", 200), ("/admin", 403)] {
            assert_eq!(http1.send(&Request::get(path)).unwrap().status, status);
            assert_eq!(http2.send(&Http2Request::get(path)).unwrap().status, status);
        }
    }
}

/// If no policy compares other headers, the filter reads each pseudo-header of the request line separately. It relies
/// on each of them occurring only once.
#[test]
fn no_part_of_the_request_line_stands_there_twice() {
    let line = to(json!({ "methods": ["GET"], "paths": ["/public"] }));
    let mut with_header = line.clone();
    with_header["when"] = json!([{ "key": "request.headers[x-other]", "notValues": ["y"] }]);
    for rule in [line, with_header] {
        let sidecar = start(json!([policy("allow-public", "ALLOW", &[rule])]));
        assert_eq!(sidecar.client(FRONTEND).send_http2(&Http2Request::get("/public")).unwrap().status, 200);
        for (name, value) in [(":path", "/admin"), (":method", "POST"), (":authority", "elsewhere.example")] {
            let twice = Http2Request::get("/public").header(name, value);
            // Envoy resets the stream, or sends the response itself.
            if let Ok(response) = sidecar.client(FRONTEND).send_http2(&twice) {
                assert_eq!((response.status, response.header("x-app")), (400, None), "{name}");
            }
        }
    }
}

/// If an HTTP/1 request has two hosts, nobody can tell which one is meant. Envoy either refuses the request or makes
/// one value of them, which does not match an ALLOW rule for one of the hosts.
#[test]
fn two_hosts_are_not_the_first_of_them() {
    let operation = json!({ "hosts": ["public.example"] });
    let mut with_header = to(operation.clone());
    with_header["when"] = json!([{ "key": "request.headers[x-other]", "notValues": ["y"] }]);
    for rule in [to(operation), with_header] {
        let sidecar = start(json!([policy("allow-public", "ALLOW", &[rule])]));
        let once = Request::get("/").host("public.example");
        assert_eq!(sidecar.client(FRONTEND).send(&once).unwrap().status, 200);
        let response = sidecar.client(FRONTEND).send(&once.header("host", "admin.example")).unwrap();
        assert!([400, 403].contains(&response.status) && response.header("x-app").is_none(), "{}", response.status);
    }
}

/// Envoy makes one host of two lines, and an application can take either for its host.
#[test]
fn neither_of_two_hosts_slips_past_a_refusal() {
    let sidecar = start(json!([policy("no-admin", "DENY", &[to(json!({ "hosts": ["admin.example"] }))])]));
    for (first, second, status) in [
        ("public.example", None, 200),
        ("admin.example", None, 403),
        ("public.example", Some("admin.example"), 403),
        ("admin.example", Some("public.example"), 403),
    ] {
        let request = Request::get("/").host(first);
        let request = second.map_or(request.clone(), |host| request.header("host", host));
        let response = sidecar.client(FRONTEND).send(&request).unwrap();
        assert_eq!(response.status, status, "{first} {second:?}");
    }
}

#[test]
fn a_websocket_over_http1_opens_unless_it_is_refused() {
    let get_only = json!([policy("get-socket", "ALLOW", &[to(json!({ "methods": ["GET"], "paths": ["/socket"] }))])]);
    let sidecar = start(get_only);
    let upgrade = |path| Request::get(path).header("connection", "upgrade").header("upgrade", "websocket");

    let mut connection = sidecar.client(FRONTEND).connect().unwrap();
    assert_eq!(connection.send(&upgrade("/socket")).unwrap().status, 101);
    connection.write(b"echo").unwrap();
    assert_eq!(connection.read_exact(4).unwrap(), b"echo");

    let refused = sidecar.client(FRONTEND).send(&upgrade("/other")).unwrap();
    assert_eq!((refused.status, refused.header("x-app")), (403, None));
}

/// A request that stays open keeps the policies that decided it. This setting bounds how long (docs/updates.md).
#[test]
fn max_stream_duration_ends_what_is_held_open() {
    let blueprint = Blueprint::new(&json!({ "policies": [policy("all", "ALLOW", &[json!({})])] }));
    let sidecar = blueprint.setting("common_http_protocol_options", json!({ "max_stream_duration": "0.5s" })).start();
    let upgrade = Request::get("/socket").header("connection", "upgrade").header("upgrade", "websocket");
    let mut connection = sidecar.client(FRONTEND).connect().unwrap();
    assert_eq!(connection.send(&upgrade).unwrap().status, 101);
    // Nothing comes, until Envoy closes the connection.
    assert!(connection.read_exact(1).unwrap_err().to_string().contains("the connection ended"));
}

/// An extended CONNECT (RFC 8441) reaches filters as the equivalent GET with `upgrade`.
#[test]
fn a_websocket_over_http2_is_a_get() {
    for (method, status) in [("GET", 403), ("CONNECT", 200)] {
        let sidecar = start(json!([policy("deny-method", "DENY", &[to(json!({ "methods": [method] }))])]));
        let mut connection = sidecar.client(FRONTEND).connect_http2().unwrap();
        assert!(connection.allows_extended_connect());
        let response = connection.send(&Http2Request::extended_connect("websocket", "/socket")).unwrap();
        assert_eq!(response.status, status, "DENY {method}");
        assert_eq!(response.header("x-app").is_some(), status == 200, "DENY {method}");
    }
    let with_upgrade = json!({ "when": [{ "key": "request.headers[upgrade]", "values": ["websocket"] }] });
    let sidecar = start(json!([policy("deny-upgrade", "DENY", &[with_upgrade])]));
    let mut connection = sidecar.client(FRONTEND).connect_http2().unwrap();
    let response = connection.send(&Http2Request::extended_connect("websocket", "/socket")).unwrap();
    assert_eq!(response.status, 403);
}

/// A CONNECT (RFC 9113, section 8.5) with an authority, but without a scheme and a path.
pub fn connect(authority: &str) -> Http2Request {
    let mut request = Http2Request::new("CONNECT", "/");
    request.headers.retain(|(name, _)| !matches!(name.as_slice(), b":path" | b":scheme" | b":authority"));
    request.ends = false;
    request.header(":authority", authority)
}

/// Makes the sidecar accept a CONNECT and respond with 200.
pub fn accepting_connect(blueprint: Blueprint) -> Blueprint {
    let mut blueprint = blueprint
        .setting("http2_protocol_options", json!({ "allow_connect": true }))
        .setting("upgrade_configs", json!([{ "upgrade_type": "CONNECT" }, { "upgrade_type": "websocket" }]));
    let route = json!({ "match": { "connect_matcher": {} }, "direct_response": { "status": 200 } });
    let routes = &mut blueprint.manager()["route_config"]["virtual_hosts"][0]["routes"];
    routes.as_array_mut().unwrap().insert(0, route);
    blueprint
}

#[test]
fn a_connect_has_no_path() {
    // CVE-2026-73547: `paths` in DENY do not match a CONNECT; `notPaths` do.
    let asked = ask_with(
        vec![
            operation("path", "paths", &["/admin"]),
            operation("any-path", "paths", &["*"]),
            operation("template", "paths", &["/{**}"]),
            operation("method", "methods", &["CONNECT"]),
            operation("host", "hosts", &["backend.example:443"]),
        ],
        json!({}),
        accepting_connect,
    );
    let client = asked.client(FRONTEND);
    let http1 = Request::new("CONNECT", "backend.example:443").host("backend.example:443");
    for (name, expected) in
        [("path", NoMatch), ("any-path", NoMatch), ("template", NoMatch), ("method", Match), ("host", Match)]
    {
        assert_eq!(asked.answer(name, &client, &connect("backend.example:443")), expected, "{name}");
        assert_eq!(asked.answer(name, &client, &http1), expected, "{name} over HTTP/1.1");
    }
    assert_eq!(asked.answer("path", &client, &Request::get("/admin")), Match);
}

#[test]
fn plain_text_http2_is_decided_like_any_other() {
    let config = json!({ "policies": [policy("deny-admin", "DENY", &[to(json!({ "paths": ["/admin"] }))])] });
    let sidecar = Blueprint::new(&config).plaintext().start_shared();
    let client: Client = sidecar.plain_client();
    for (path, status) in [("/data", 200), ("/admin", 403)] {
        assert_eq!(client.send_http2(&Http2Request::get(path)).unwrap().status, status);
        assert_eq!(client.send(&Request::get(path)).unwrap().status, status);
    }
}
