//! The operation of a request: `hosts`, `methods`, `paths`, path templates.

use serde_json::json;
use testbed::{Http2Request, Request};

use crate::question::{Answer::*, ask, ask_with, operation};
use crate::sidecar::FRONTEND;

#[test]
fn hosts_are_compared_without_case_and_with_the_port_as_sent() {
    let asked = ask(vec![
        operation("exact", "hosts", &["secret.example"]),
        operation("upper", "hosts", &["SECRET.example"]),
        operation("with-port", "hosts", &["secret.example:80"]),
        operation("prefix", "hosts", &["secret.example:*"]),
        operation("suffix", "hosts", &["*.EXAMPLE"]),
        operation("any", "hosts", &["*"]),
    ]);
    let client = asked.client(FRONTEND);
    for (host, names) in [
        ("secret.example", &["exact", "upper", "any"][..]),
        // CVE-2021-39155.
        ("Secret.Example", &["exact", "upper", "any"]),
        ("secret.example:80", &["with-port", "prefix", "any"]),
        ("SECRET.EXAMPLE:80", &["with-port", "prefix", "any"]),
        ("a.example", &["suffix", "any"]),
        ("other.test", &["any"]),
    ] {
        for name in ["exact", "upper", "with-port", "prefix", "suffix", "any"] {
            let expected = if names.contains(&name) { Match } else { NoMatch };
            // `*.example` matches any text before the dot.
            let expected = if name == "suffix" && host.to_lowercase().ends_with(".example") { Match } else { expected };
            assert_eq!(asked.answer(name, &client, &Request::get("/").host(host)), expected, "{name}: {host}");
            let http2 = Http2Request::get("/").replace(":authority", host);
            assert_eq!(asked.answer(name, &client, &http2), expected, "{name}: {host} over HTTP/2");
        }
    }
}

#[test]
fn methods_are_compared_with_case() {
    let asked = ask(vec![
        operation("exact", "methods", &["GET"]),
        operation("prefix", "methods", &["P*"]),
        operation("any", "methods", &["*"]),
        operation("custom", "methods", &["PURGE"]),
    ]);
    let client = asked.client(FRONTEND);
    for (method, matching) in [
        ("GET", &["exact", "any"][..]),
        ("POST", &["prefix", "any"]),
        ("OPTIONS", &["any"]),
        ("PURGE", &["custom", "prefix", "any"]),
    ] {
        for name in ["exact", "prefix", "any", "custom"] {
            let expected = if matching.contains(&name) { Match } else { NoMatch };
            let request = Request::new(method, "/").header("content-length", "0");
            assert_eq!(asked.answer(name, &client, &request), expected, "{name}: {method}");
        }
    }
    assert_eq!(asked.answer("exact", &client, &Http2Request::new("get", "/")), NoMatch);
}

#[test]
fn paths_are_compared_without_their_query() {
    let asked = ask(vec![
        operation("exact", "paths", &["/admin"]),
        operation("prefix", "paths", &["/admin*"]),
        operation("suffix", "paths", &["*.php"]),
        operation("any", "paths", &["*"]),
        operation("literal-star", "paths", &["/a*b"]),
    ]);
    let client = asked.client(FRONTEND);
    asked.expect(
        "exact",
        &client,
        &[
            ("/admin", Match),
            // CVE-2020-8595, CVE-2026-32811.
            ("/admin?x", Match),
            ("/admin?/x", Match),
            ("/Admin", NoMatch),
            ("/admin/", NoMatch),
            ("/x?/admin", NoMatch),
        ],
    );
    asked.expect("prefix", &client, &[("/admin", Match), ("/admin/x?y", Match), ("/x", NoMatch)]);
    asked.expect("suffix", &client, &[("/x.php?y", Match), ("/x.html?.php", NoMatch)]);
    asked.expect("any", &client, &[("/", Match), ("/?", Match)]);
    asked.expect("literal-star", &client, &[("/a*b", Match), ("/axb", NoMatch)]);
}

#[test]
fn a_fragment_never_hides_a_path() {
    // CVE-2020-8595, CVE-2021-39156: Envoy itself refuses a path with a fragment.
    let asked = ask(vec![operation("exact", "paths", &["/admin"])]);
    let client = asked.client(FRONTEND);
    for rule in ["deny-exact-0", "allow-exact-0"] {
        let request = Request::get("/admin#x").header("x-rule", rule);
        let response = client.send(&request).unwrap();
        assert_eq!((response.status, response.header("x-app")), (400, None));
    }
}

#[test]
fn templates_take_segments_and_runs() {
    let asked = ask(vec![
        operation("segment", "paths", &["/orders/{*}/items"]),
        operation("run", "paths", &["/admin/{**}"]),
        operation("both", "paths", &["/v/{*}/x/{**}/end"]),
    ]);
    let client = asked.client(FRONTEND);
    asked.expect(
        "segment",
        &client,
        &[("/orders/7/items", Match), ("/orders/7/items?x", Match), ("/orders/7/8/items", NoMatch)],
    );
    asked.expect(
        "run",
        &client,
        // CVE-2025-46821: a star is an ordinary character in a path.
        &[
            ("/admin/", Match),
            ("/admin/a/b", Match),
            ("/admin/*x", Match),
            ("/admin", NoMatch),
            ("/x/admin/a", NoMatch),
        ],
    );
    asked.expect(
        "both",
        &client,
        &[("/v/1/x/a/b/end", Match), ("/v/1/x/a/b/end2", NoMatch), ("/v/1/2/x/a/end", NoMatch)],
    );
}

#[test]
fn odd_bytes_under_a_template_are_refused_by_deny_and_by_allow() {
    // The wildcards of Envoy's own filter do not match these paths, so its DENY rule would let the requests pass.
    let asked = ask(vec![operation("run", "paths", &["/admin/{**}"]), operation("segment", "paths", &["/a/{*}"])]);
    let client = asked.client(FRONTEND);
    for path in ["/admin/a[1]", "/admin/[", "/a/x[y]"] {
        let name = if path.starts_with("/admin") { "run" } else { "segment" };
        assert_eq!(asked.answer(name, &client, &Request::get(path)), Unreadable, "{path}");
        assert_eq!(asked.answer(name, &client, &Http2Request::get(path)), Unreadable, "{path}");
    }
    asked.expect("segment", &client, &[("/a/x", Match), ("/b/x[y]", NoMatch)]);
}

#[test]
fn odd_bytes_without_normalisation_are_refused_by_deny_and_by_allow() {
    let asked = ask_with(vec![operation("run", "paths", &["/admin/{**}"])], json!({}), |blueprint| {
        blueprint.setting("normalize_path", json!(false)).answering_by_itself()
    });
    let client = asked.client(FRONTEND);
    for byte in "|\"<>\\^`{}[]".bytes() {
        let path = [b"/admin/a", &[byte][..], b"b"].concat();
        let answer = asked.answer("run", &client, &Http2Request::get(&path));
        assert_eq!(answer, Unreadable, "{}", path.escape_ascii());
    }
    assert_eq!(asked.answer("run", &client, &Http2Request::get("/admin/%7C")), Match);
}

#[test]
fn bytes_beyond_ascii_in_a_path_are_just_bytes() {
    let asked = ask_with(
        vec![
            operation("exact", "paths", &["/menu/caf\u{e9}"]),
            operation("prefix", "paths", &["/menu/caf*"]),
            operation("any", "paths", &["*"]),
            operation("template", "paths", &["/menu/{**}"]),
        ],
        json!({}),
        |blueprint| blueprint.setting("normalize_path", json!(false)).answering_by_itself(),
    );
    let client = asked.client(FRONTEND);
    let utf8 = Http2Request::get(b"/menu/caf\xc3\xa9");
    let latin1 = Http2Request::get(b"/menu/caf\xe9");
    assert_eq!([asked.answer("exact", &client, &utf8), asked.answer("exact", &client, &latin1)], [Match, NoMatch]);
    for request in [&utf8, &latin1] {
        assert_eq!(asked.answer("prefix", &client, request), Match);
        assert_eq!(asked.answer("template", &client, request), Unreadable);
    }
    // The dot of Envoy's regular expressions matches only text, so presence in ALLOW permits only text.
    assert_eq!([asked.answer("any", &client, &utf8), asked.answer("any", &client, &latin1)], [Match, Unreadable]);
}

#[test]
fn one_path_in_many_spellings_is_one_path() {
    // CVE-2019-9901, CVE-2021-29492, CVE-2021-31920: in the shipped bootstrap, Envoy normalises paths.
    let asked = ask(vec![operation("exact", "paths", &["/admin"])]);
    let client = asked.client(FRONTEND);
    for path in ["/public/../admin", "//admin", "/%2Fadmin", "/%5cadmin", "/%2e/admin", "/x/%2e%2e/admin", "/./admin"] {
        let request = Http2Request::get(path);
        for rule in ["deny-exact-0", "allow-exact-1"] {
            let request = request.clone().header("x-rule", rule);
            let status = client.send_http2(&request).unwrap_or_else(|e| panic!("{path}: {e}")).status;
            assert!(matches!(status, 400 | 403), "{path} {rule}: {status}");
        }
    }
    asked.expect(
        "exact",
        &client,
        &[("/public/../admin", Match), ("//admin", Match), ("/%61dmin", Match), ("/adminx", NoMatch)],
    );
}
