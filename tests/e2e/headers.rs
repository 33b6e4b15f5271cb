//! `request.headers[…]`: several values of a header, and values with any bytes.

use mesh_authz::request::headers::JOINED;
use serde_json::json;
use testbed::{Http2Request, Request};

use crate::question::{Answer::*, Asked, ask, ask_with, condition};
use crate::sidecar::FRONTEND;

fn about_roles() -> Asked {
    let role = |name, value| condition(name, "request.headers[X-Role]", &[value]);
    ask(vec![
        role("exact", "admin"),
        role("prefix", "adm*"),
        role("suffix", "*min"),
        role("any", "*"),
        role("accent", "\u{e9}t\u{e9}"),
        role("accent-prefix", "\u{e9}t*"),
    ])
}

const ALL: [&str; 6] = ["exact", "prefix", "suffix", "any", "accent", "accent-prefix"];

/// Asserts which questions the values of the header match, over both versions of HTTP.
#[track_caller]
fn expect(asked: &Asked, values: &[&[u8]], matching: &[&str]) {
    let client = asked.client(FRONTEND);
    let http1 = values.iter().fold(Request::get("/"), |request, value| request.header("x-role", value));
    let http2 = values.iter().fold(Http2Request::get("/"), |request, value| request.header("x-role", value));
    for name in ALL {
        let expected = if matching.contains(&name) { Match } else { NoMatch };
        assert_eq!(asked.answer(name, &client, &http1), expected, "{name}");
        assert_eq!(asked.answer(name, &client, &http2), expected, "{name} over HTTP/2");
    }
}

#[test]
fn a_header_matches_by_its_value_whatever_the_case_of_its_name() {
    let asked = about_roles();
    expect(&asked, &[b"admin"], &["exact", "prefix", "suffix", "any"]);
    expect(&asked, &[b"Admin"], &["suffix", "any"]);
    expect(&asked, &[], &[]);
    let upper = Request::get("/").header("X-ROLE", "admin");
    assert_eq!(asked.answer("exact", &asked.client(FRONTEND), &upper), Match);
}

#[test]
fn every_line_of_a_repeated_header_counts_in_either_order() {
    // CVE-2020-25017, CVE-2021-32777, CVE-2026-26308.
    let asked = about_roles();
    expect(&asked, &[b"user", b"admin"], &["exact", "prefix", "suffix", "any"]);
    expect(&asked, &[b"admin", b"user"], &["exact", "prefix", "suffix", "any"]);
    expect(&asked, &[b"user", b"guest"], &["any"]);
}

#[test]
fn one_line_with_a_comma_is_one_value() {
    let asked = about_roles();
    expect(&asked, &[b"user,admin"], &["suffix", "any"]);
    expect(&asked, &[b"admin,user"], &["prefix", "any"]);
}

#[test]
fn a_header_with_an_empty_value_is_present() {
    expect(&about_roles(), &[b""], &["any"]);
}

#[test]
fn header_values_are_bytes_not_text() {
    // CVE-2023-27488, CVE-2026-73552.
    let asked = about_roles();
    expect(&asked, &["\u{e9}t\u{e9}".as_bytes()], &["accent", "accent-prefix", "any"]);
    expect(&asked, &[b"\xe9t\xe9"], &["any"]);
    expect(&asked, &[b"\xff\xfe\x80admin"], &["suffix", "any"]);
    expect(&asked, &[b"admin\xff"], &["prefix", "any"]);
    expect(&asked, &[b"\xc3", b"admin"], &["exact", "prefix", "suffix", "any"]);
}

#[test]
fn pseudo_headers_are_headers_and_host_means_authority() {
    let header = |name, header, value| condition(name, &format!("request.headers[{header}]"), &[value]);
    let asked = ask(vec![
        header("host", "Host", "backend.example:80"),
        header("authority", ":authority", "backend.example:80"),
        header("path", ":path", "/a?x=1"),
        header("method", ":method", "GET"),
    ]);
    let client = asked.client(FRONTEND);
    let request = Request::get("/a?x=1").host("backend.example:80");
    let other = Request::new("HEAD", "/a").host("backend.example");
    let http2 = Http2Request::get("/a?x=1").replace(":authority", "backend.example:80");
    for name in ["host", "authority", "path", "method"] {
        assert_eq!(asked.answer(name, &client, &request), Match, "{name}");
        assert_eq!(asked.answer(name, &client, &http2), Match, "{name}");
        assert_eq!(asked.answer(name, &client, &other), NoMatch, "{name}");
    }
}

#[test]
fn cookie_lines_stay_apart() {
    let asked = ask(vec![condition("cookie", "request.headers[cookie]", &["b=2"])]);
    let client = asked.client(FRONTEND);
    let apart = Request::get("/").header("cookie", "a=1").header("cookie", "b=2");
    let joined = Request::get("/").header("cookie", "a=1; b=2");
    assert_eq!([asked.answer("cookie", &client, &apart), asked.answer("cookie", &client, &joined)], [Match, NoMatch]);
}

#[test]
fn a_forged_original_path_is_never_read() {
    // CVE-2023-27487.
    let asked = ask(vec![crate::question::operation("admin", "paths", &["/admin"])]);
    let client = asked.client(FRONTEND);
    let hidden = Request::get("/admin").header("x-envoy-original-path", "/public");
    let claimed = Request::get("/public").header("x-envoy-original-path", "/admin");
    assert_eq!([asked.answer("admin", &client, &hidden), asked.answer("admin", &client, &claimed)], [Match, NoMatch]);
}

#[test]
fn headers_of_fifty_kibibytes_are_decided_like_others() {
    let asked = ask_with(vec![condition("role", "request.headers[x-role]", &["admin"])], json!({}), |blueprint| {
        blueprint.setting("max_request_headers_kb", json!(96)).answering_by_itself()
    });
    let client = asked.client(FRONTEND);
    let filler = "x".repeat(50 * 1024);
    for (role, expected) in [("admin", Match), ("user", NoMatch)] {
        let request = Request::get("/").header("x-filler", &filler).header("x-role", role);
        assert_eq!(asked.answer("role", &client, &request), expected);
        let request = Http2Request::get("/").header("x-filler", &filler).header("x-role", role);
        assert_eq!(asked.answer("role", &client, &request), expected);
    }
    // This is close to Envoy's default limit of 100 header lines.
    let many =
        (0..80).fold(Request::get("/").header("x-role", "admin"), |request, n| request.header(format!("x-{n}"), "y"));
    assert_eq!(asked.answer("role", &client, &many), Match);
}

#[test]
fn headers_near_and_beyond_the_default_limit_never_pass_undecided() {
    let asked = ask(vec![condition("role", "request.headers[x-role]", &["admin"])]);
    let client = asked.client(FRONTEND);
    let with_filler =
        |kibibytes: usize| Request::get("/").header("x-filler", "x".repeat(kibibytes * 1024)).header("x-role", "admin");
    assert_eq!(asked.answer("role", &client, &with_filler(58)), Match);
    let beyond = client.send(&with_filler(61).header("x-rule", "deny-role-0")).unwrap();
    assert_eq!((beyond.status, beyond.header("x-app")), (431, None));
}

/// The names of headers that Envoy, its filters, browsers or proxies know, and others.
const NAMES: [&str; 77] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "access-control-request-headers",
    "access-control-request-method",
    "authorization",
    "baggage",
    "cache-control",
    "content-encoding",
    "content-language",
    "content-type",
    "cookie",
    "date",
    "dnt",
    "etag",
    "expect",
    "forwarded",
    "from",
    "grpc-accept-encoding",
    "grpc-encoding",
    "grpc-timeout",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "max-forwards",
    "origin",
    "pragma",
    "prefer",
    "priority",
    "proxy-authorization",
    "proxy-connection",
    "proxy-status",
    "range",
    "referer",
    "sec-fetch-mode",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "user-agent",
    "via",
    "warning",
    "x-api-key",
    "x-b3-traceid",
    "x-client-trace-id",
    "x-correlation-id",
    "x-csrf-token",
    "x-custom",
    "x-envoy-attempt-count",
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-external-address",
    "x-envoy-is-timeout-retry",
    "x-envoy-original-dst-host",
    "x-envoy-original-host",
    "x-envoy-original-path",
    "x-envoy-overloaded",
    "x-envoy-peer-metadata",
    "x-envoy-peer-metadata-id",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-original-url",
    "x-ot-span-context",
    "x-real-ip",
    "x-request-id",
    "x-requested-with",
    "x-scheme",
    "x-tenant",
    "x-user",
];

#[test]
fn repeated_lines_are_joined_offline_as_in_envoy() {
    let rule = |name: &&str| {
        json!({
            "to": [{ "operation": { "paths": [format!("/{name}")] } }],
            "when": [{ "key": format!("request.headers[{name}]"), "values": ["a,b"] }],
        })
    };
    let rules: Vec<_> = NAMES.iter().map(rule).collect();
    let policy = crate::sidecar::policy("joined", "ALLOW", &rules);
    // At the edge, Envoy removes some of them, or adds to them.
    let blueprint = crate::sidecar::Blueprint::new(&json!({ "policies": [policy] }));
    let sidecar = blueprint.setting("use_remote_address", json!(false)).start();
    let client = sidecar.client(FRONTEND);
    let joins = |name: &&&str| {
        let request = Request::get(format!("/{name}")).header(name, "a").header(name, "b");
        client.send(&request).unwrap().status == 200
    };
    let joined: Vec<_> = NAMES.iter().filter(joins).copied().collect();
    assert_eq!(joined, JOINED);
    let forwarded = ask(vec![
        condition("for", "request.headers[x-forwarded-for]", &["1.1.1.1,2.2.2.2*"]),
        condition("accept", "request.headers[accept]", &["b,c"]),
    ]);
    let lines =
        |name: &str, lines: &[&str]| lines.iter().fold(Request::get("/"), |request, line| request.header(name, line));
    let client = forwarded.client(FRONTEND);
    assert_eq!(forwarded.answer("for", &client, &lines("x-forwarded-for", &["1.1.1.1", "2.2.2.2"])), Match);
    // An empty line adds nothing, and no comma.
    for with_empty in [&["", "b", "c"][..], &["b", "", "c"], &["b", "c", ""]] {
        assert_eq!(forwarded.answer("accept", &client, &lines("accept", with_empty)), Match, "{with_empty:?}");
    }
}

/// So much white space counts as matching whatever a DENY policy asks for, also where there are so many rules that an index finds
/// them.
#[test]
fn too_much_white_space_is_refused_whatever_the_number_of_rules() {
    for count in [3, 40] {
        let rule = |number: usize| json!({ "when": [{ "key": "request.headers[x-role]", "values": [format!("role-{number}")] }] });
        let rules: Vec<_> = (0..count).map(rule).collect();
        let sidecar =
            crate::sidecar::Sidecar::start(&json!({ "policies": [crate::sidecar::policy("roles", "DENY", &rules)] }));
        let client = sidecar.client(FRONTEND);
        let status = |value: &str| client.send_http2(&Http2Request::get("/").header("x-role", value)).unwrap().status;
        assert_eq!(status(&format!("{}role-2", " ".repeat(300))), 403, "{count} rules");
        assert_eq!(status(" role-2"), 403, "{count} rules");
        assert_eq!(status("role-99"), 200, "{count} rules");
    }
}
