//! Cases in which the filter is stricter than the RBAC filter that Istio generates. In each case, Istio's filter lets
//! the request through.

use mesh_authz::request::{Lookup, Request};

use crate::support::{
    Outcome, allowed_by, allowed_by_default, decide, denied_by, denied_by_default, findings, get, policy, token,
};

/// Asserts that the request is refused by DENY with the field and by ALLOW with its `not` twin. Istio's own filter
/// would let it pass.
fn stopped(deny: &str, allow_not: &str, request: &Request) {
    assert_eq!(decide(&policy("p", "DENY", deny), request), denied_by("default/p", 0), "{deny}");
    assert_eq!(decide(&policy("p", "ALLOW", allow_not), request), denied_by_default(), "{allow_not}");
}

/// Asserts that the request is refused by ALLOW with the field and by DENY with its `not` twin. Both filters agree that
/// the field does not match.
fn not_permitted(allow: &str, deny_not: &str, request: &Request) {
    assert_eq!(decide(&policy("p", "ALLOW", allow), request), denied_by_default(), "{allow}");
    assert_eq!(decide(&policy("p", "DENY", deny_not), request), denied_by("default/p", 0), "{deny_not}");
}

#[test]
fn a_template_that_denies_takes_any_byte() {
    let paths = |field: &str, template: &str| format!("[{{ to: [{{ operation: {{ {field}: ['{template}'] }} }}] }}]");
    for path in ["/admin/a[1]", "/admin/a|b", "/admin/é", "/admin/\"", "/admin/a\\b", "/admin/<x>", "/admin/a b"] {
        for template in ["/admin/{**}", "/admin/{*}", "/{*}/{*}"] {
            stopped(&paths("paths", template), &paths("notPaths", template), &get(path));
            not_permitted(&paths("paths", template), &paths("notPaths", template), &get(path));
        }
    }
}

#[test]
fn one_segment_stays_one_segment_whatever_is_in_it() {
    let rules = "[{ to: [{ operation: { paths: ['/admin/{*}'] } }] }]";
    assert_eq!(decide(&policy("p", "DENY", rules), &get("/admin/a[1]/b")), allowed_by_default());
    assert_eq!(decide(&policy("p", "DENY", rules), &get("/admin/[")), denied_by("default/p", 0));
}

#[test]
fn presence_that_denies_takes_a_line_feed() {
    let rows = [
        (
            "[{ from: [{ source: { requestPrincipals: ['*'] } }] }]",
            "[{ from: [{ source: { notRequestPrincipals: ['*'] } }] }]",
            token(r#"{"iss":"i","sub":"a\nb"}"#),
        ),
        (
            "[{ when: [{ key: 'request.auth.claims[role]', values: ['*'] }] }]",
            "[{ when: [{ key: 'request.auth.claims[role]', notValues: ['*'] }] }]",
            token(r#"{"role":"a\nb"}"#),
        ),
        (
            "[{ when: [{ key: 'request.auth.audiences', values: ['*'] }] }]",
            "[{ when: [{ key: 'request.auth.audiences', notValues: ['*'] }] }]",
            token(r#"{"aud":["\n"]}"#),
        ),
        (
            "[{ when: [{ key: 'experimental.envoy.filters.x[k]', values: ['*'] }] }]",
            "[{ when: [{ key: 'experimental.envoy.filters.x[k]', notValues: ['*'] }] }]",
            get("/").metadata("envoy.filters.x", &crate::support::json(r#"{"k":"\n"}"#)),
        ),
        (
            "[{ when: [{ key: connection.sni, values: ['*'] }] }]",
            "[{ when: [{ key: connection.sni, notValues: ['*'] }] }]",
            get("/").sni(Lookup::Value(b"a\nb")),
        ),
        ("[{ to: [{ operation: { paths: ['*'] } }] }]", "[{ to: [{ operation: { notPaths: ['*'] } }] }]", get("/a\nb")),
        (
            "[{ from: [{ source: { principals: ['*'] } }] }]",
            "[{ from: [{ source: { notPrincipals: ['*'] } }] }]",
            get("/").principal("td/a\nb"),
        ),
    ];
    for (field, not_field, request) in rows {
        stopped(field, not_field, &request);
        not_permitted(field, not_field, &request);
    }
}

#[test]
fn presence_of_a_header_takes_a_line_feed_everywhere() {
    let rules = "[{ when: [{ key: 'request.headers[x]', values: ['*'] }] }]";
    let request = get("/").header("x", "a\nb");
    assert_eq!(decide(&policy("p", "ALLOW", rules), &request), allowed_by("default/p", 0));
}

#[test]
fn a_peer_address_that_nobody_vouches_for_counts_against_the_request() {
    let (inside, outside) = (
        "[{ from: [{ source: { ipBlocks: [10.0.0.0/8] } }] }]",
        "[{ from: [{ source: { notIpBlocks: [10.0.0.0/8] } }] }]",
    );
    let request = get("/").remote_ip(crate::support::ip("10.0.0.1"));
    stopped(inside, outside, &request);
    not_permitted(inside, outside, &request);
    let engine = crate::support::engine_with(&crate::support::options(), &policy("p", "DENY", inside));
    let decision = engine.decide(&request);
    assert_eq!(decision.unreadable.unwrap().to_string(), "source.ip");
    assert_eq!(Outcome::from(decision), denied_by("default/p", 0));
}

#[test]
fn what_a_cluster_would_drop_is_refused() {
    let rows = [
        ("[{ form: [{ source: { principals: [a] } }] }]", "spec.rules[0].form: unknown field, did you mean from?"),
        ("[{ from: [] }]", "spec.rules[0].from: must not be empty; remove `from` if anything may match"),
        ("[{ to: [] }]", "spec.rules[0].to: must not be empty; remove `to` if anything may match"),
        (
            "[{ when: [{ key: 'request.headersX[foo]', values: [a] }] }]",
            "spec.rules[0].when[0].key: `request.headersX[foo]` is not a valid key; write request.headers[NAME]",
        ),
        (
            "[{ to: [{ operation: { paths: ['a/{*}'] } }] }]",
            "spec.rules[0].to[0].operation.paths[0]: `a/{*}`: a path template starts with a slash; add the slash",
        ),
    ];
    for (rules, expected) in rows {
        assert_eq!(findings(&policy("p", "ALLOW", rules)), [format!("policy default/p: {expected}")]);
    }
}

#[test]
fn a_header_that_denies_is_compared_without_white_space_too() {
    let when = |values: &str, value: &str| {
        format!("[{{ when: [{{ key: 'request.headers[x-role]', {values}: ['{value}'] }}] }}]")
    };
    for sent in [" admin", "admin ", "\tadmin\t", " \t admin \t "] {
        let request = get("/").header("x-role", sent);
        for value in ["admin", "adm*", "*min"] {
            stopped(&when("values", value), &when("notValues", value), &request);
        }
        not_permitted(&when("values", "admin"), &when("notValues", "admin"), &request);
        // The second of two lines, and a policy whose own value has white space.
        stopped(
            &when("values", "admin"),
            &when("notValues", "admin"),
            &get("/").header("x-role", "a").header("x-role", sent),
        );
        stopped(&when("values", sent), &when("notValues", sent), &request);
    }
    let padded = format!("{}user", " ".repeat(300));
    stopped(&when("values", "admin"), &when("notValues", "admin"), &get("/").header("x-role", padded));
    for sent in ["ad min", "\u{a0}admin", "admin\u{b}", "", " ", "user"] {
        let request = get("/").header("x-role", sent);
        assert_eq!(decide(&policy("p", "DENY", &when("values", "admin")), &request), allowed_by_default(), "{sent:?}");
    }
}

#[test]
fn a_host_that_denies_is_compared_without_trailing_dot_and_userinfo_too() {
    let to = |field: &str, host: &str| format!("[{{ to: [{{ operation: {{ {field}: ['{host}'] }} }}] }}]");
    let when =
        |field: &str, host: &str| format!("[{{ when: [{{ key: 'request.headers[host]', {field}: ['{host}'] }}] }}]");
    let sent = |host: &str| Request::new("GET", "/").header(":authority", host);
    for host in [
        "admin.example.com.",
        "u@admin.example.com",
        "@admin.example.com",
        "u:p@admin.example.com.",
        " admin.example.com",
        "a@b@admin.example.com",
        "admin.example.com..",
    ] {
        for value in ["admin.example.com", "admin.*", "*.com"] {
            stopped(&to("hosts", value), &to("notHosts", value), &sent(host));
            stopped(&when("values", value), &when("notValues", value), &sent(host));
        }
        not_permitted(&to("hosts", "admin.example.com"), &to("notHosts", "admin.example.com"), &sent(host));
    }
    for host in ["admin.example.com.:8080", "u@admin.example.com:8080", "u:p@ADMIN.example.com.:8080"] {
        for value in ["admin.example.com:8080", "admin.example.com:*"] {
            stopped(&to("hosts", value), &to("notHosts", value), &sent(host));
        }
    }
    stopped(&to("hosts", "[::1]"), &to("notHosts", "[::1]"), &sent("[::1]."));
    // Nobody takes a host apart that no client sends.
    let long = format!("public.example.com{}", ".".repeat(2_000));
    stopped(&to("hosts", "admin.example.com"), &to("notHosts", "admin.example.com"), &sent(&long));
    // What a policy spells out counts as it is.
    stopped(&to("hosts", "admin.example.com."), &to("notHosts", "admin.example.com."), &sent("u@admin.example.com."));
    stopped(&to("hosts", "[::1]"), &to("notHosts", "[::1]"), &sent("u@[::1]"));
    for host in [
        "admin.example.com.evil",
        "admin.example.com@evil",
        ".admin.example.com",
        "admin.example.com:.",
        ".",
        "@",
        "@.",
        "",
    ] {
        let denied = policy("p", "DENY", &to("hosts", "admin.example.com"));
        assert_eq!(decide(&denied, &sent(host)), allowed_by_default(), "{host:?}");
    }
}
