//! Single values and conditions that are refused, with the message, the place and the hint.

use crate::validation::{refused, spec};

/// As [`refused`], for single values of one field. The expected texts do not contain the place.
fn value_refused(action: &str, before: &str, place: &str, rows: &[(&str, &str)]) {
    for (value, expected) in rows {
        let value = serde_json::to_string(value).unwrap();
        let text = format!("{{ action: {action}, rules: [{{ {} }}] }}", before.replace("VALUE", &value));
        assert_eq!(spec(&text), [format!("spec.rules[0].{place}: {expected}")], "{text}");
    }
}

#[test]
fn there_are_no_empty_values() {
    // Only some fields take a wildcard.
    let expected = |field: &str| {
        let field = field.to_ascii_lowercase();
        let takes_none = ["ports", "ipblocks", "serviceaccounts", "source.ip", "destination.port"];
        let hint =
            if takes_none.iter().any(|other| field.contains(other)) { "" } else { ", or write \"*\" for any value" };
        format!("must not be empty; remove it{hint}")
    };
    let source = [
        "principals",
        "requestPrincipals",
        "serviceAccounts",
        "trustDomains",
        "namespaces",
        "ipBlocks",
        "remoteIpBlocks",
    ];
    let operation = ["hosts", "methods", "paths", "ports"];
    let not = |field: &str| format!("not{}{}", field[..1].to_uppercase(), &field[1..]);
    for (list, parent, fields) in [("from", "source", &source[..]), ("to", "operation", &operation[..])] {
        for field in fields.iter().flat_map(|field| [(*field).to_owned(), not(field)]) {
            let text = format!("{{ rules: [{{ {list}: [{{ {parent}: {{ {field}: [''] }} }}] }}] }}");
            let got = spec(&text);
            assert_eq!(got[0], format!("spec.rules[0].{list}[0].{parent}.{field}[0]: {}", expected(&field)));
            assert_eq!(got.len(), 1, "{got:?}");
        }
    }
    for key in ["source.ip", "destination.port", "connection.sni", "request.headers[a]", "request.auth.claims[a]"] {
        for field in ["values", "notValues"] {
            let text = format!("{{ rules: [{{ when: [{{ key: '{key}', {field}: [''] }}] }}] }}");
            assert_eq!(spec(&text), [format!("spec.rules[0].when[0].{field}[0]: {}", expected(key))]);
        }
    }
}

#[test]
fn service_accounts_stand_alone_and_have_a_form_and_limits() {
    let alone =
        "serviceAccounts cannot stand beside principals or namespaces; a service account names its namespace already";
    for (one, other) in [
        ("serviceAccounts", "principals"),
        ("serviceAccounts", "notPrincipals"),
        ("notServiceAccounts", "namespaces"),
        ("notServiceAccounts", "notNamespaces"),
    ] {
        let text = format!("{{ rules: [{{ from: [{{ source: {{ {one}: [a], {other}: [b] }} }}] }}] }}");
        assert_eq!(spec(&text), [format!("spec.rules[0].from[0].source: {alone}")]);
    }
    let text = "{ rules: [{ from: [{ source: { serviceAccounts: [a], principals: [] } }] }] }";
    assert_eq!(spec(text), [format!("spec.rules[0].from[0].source: {alone}")], "not even an empty list");
    let form = |value: &str| format!("`{value}` is not a service account; write `name` or `namespace/name`");
    let star = |value: &str| {
        format!("`{value}`: a service account takes no wildcard; list each one, or use `namespaces` or `principals`")
    };
    let long = "a".repeat(321);
    let too_long = "is longer than 320 characters; write `name` or `namespace/name`";
    let rows = [
        ("a/b/c", form("a/b/c")),
        ("/b", form("/b")),
        ("a/", form("a/")),
        ("/", form("/")),
        ("a/*", star("a/*")),
        ("*", star("*")),
        (&long, too_long.to_owned()),
    ];
    let rows: Vec<_> = rows.iter().map(|(value, expected)| (*value, expected.as_str())).collect();
    value_refused(
        "ALLOW",
        "from: [{ source: { serviceAccounts: [VALUE] } }]",
        "from[0].source.serviceAccounts[0]",
        &rows,
    );
    value_refused("DENY", "when: [{ key: source.serviceAccount, notValues: [VALUE] }]", "when[0].notValues[0]", &rows);
    let seventeen = vec!["a"; 17].join(", ");
    let many = "takes at most 16 service accounts; spread them over sources";
    assert_eq!(
        spec(&format!("{{ rules: [{{ from: [{{ source: {{ serviceAccounts: [{seventeen}] }} }}] }}] }}")),
        [format!("spec.rules[0].from[0].source: {many}")]
    );
    assert_eq!(
        spec(&format!("{{ rules: [{{ when: [{{ key: source.serviceAccount, notValues: [{seventeen}] }}] }}] }}")),
        [format!("spec.rules[0].when[0]: {many}")]
    );
}

#[test]
fn addresses_are_addresses() {
    let address = |value: &str| format!("`{value}` is not a valid IP address; such as 10.1.2.3 or 10.1.0.0/16");
    let range = |value: &str| format!("`{value}` is not a valid CIDR range; such as 10.1.2.3 or 10.1.0.0/16");
    let bits = |value: &str, most| {
        format!("`{value}` is not a valid CIDR range; the number behind the slash counts bits, 0 to {most}")
    };
    let rows = [
        ("10.0.0", address("10.0.0")),
        ("10.0.0.256", address("10.0.0.256")),
        ("010.0.0.1", address("010.0.0.1")),
        ("10.0.0.1 ", address("10.0.0.1 ")),
        ("0x0a000001", address("0x0a000001")),
        ("localhost", address("localhost")),
        ("*", address("*")),
        ("[::1]", address("[::1]")),
        ("10.0.0.1:80", address("10.0.0.1:80")),
        ("/8", range("/8")),
        ("10.0.0/8", range("10.0.0/8")),
        ("x/8", range("x/8")),
        ("fe80::1%eth0/64", range("fe80::1%eth0/64")),
        ("10.0.0.0/", bits("10.0.0.0/", 32)),
        ("10.0.0.0/33", bits("10.0.0.0/33", 32)),
        ("10.0.0.0/-1", bits("10.0.0.0/-1", 32)),
        ("10.0.0.0/+8", bits("10.0.0.0/+8", 32)),
        ("10.0.0.0/08", bits("10.0.0.0/08", 32)),
        ("10.0.0.0/8/8", bits("10.0.0.0/8/8", 32)),
        ("10.0.0.0/255.0.0.0", bits("10.0.0.0/255.0.0.0", 32)),
        ("10.0.0.0/4294967296", bits("10.0.0.0/4294967296", 32)),
        ("::/129", bits("::/129", 128)),
    ];
    let rows: Vec<_> = rows.iter().map(|(value, expected)| (*value, expected.as_str())).collect();
    for field in ["ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks"] {
        value_refused(
            "ALLOW",
            &format!("from: [{{ source: {{ {field}: [VALUE] }} }}]"),
            &format!("from[0].source.{field}[0]"),
            &rows,
        );
    }
    for key in ["source.ip", "remote.ip", "destination.ip"] {
        value_refused("DENY", &format!("when: [{{ key: {key}, values: [VALUE] }}]"), "when[0].values[0]", &rows);
    }
}

#[test]
fn ports_are_numbers_from_0_to_65535() {
    let bad = |value: &str| format!("`{value}` is not a valid port; a number from 0 to 65535");
    let rows =
        ["65536", "-1", "+80", "http", "80 ", "8_0", "0x50", "80.0", "1e2", "*", "80-90", "99999999999999999999"]
            .map(|value| (value, bad(value)));
    let rows: Vec<_> = rows.iter().map(|(value, expected)| (*value, expected.as_str())).collect();
    value_refused("AUDIT", "to: [{ operation: { ports: [VALUE] } }]", "to[0].operation.ports[0]", &rows);
    value_refused("ALLOW", "to: [{ operation: { notPorts: [VALUE] } }]", "to[0].operation.notPorts[0]", &rows);
    value_refused("DENY", "when: [{ key: destination.port, values: [VALUE] }]", "when[0].values[0]", &rows);
}

#[test]
fn path_templates_have_a_form() {
    let braces =
        "braces stand for nothing but the operators {*} and {**}; use {*} for one segment, {**} for any number of them";
    let last = "{**} must be the last operator; only literal text may follow it";
    let mixes = |segment: &str| {
        format!("segment `{segment}` mixes an operator with text; {{*}} and {{**}} stand alone between slashes")
    };
    let odd = |segment: &str| {
        format!(
            "segment `{segment}` has a character that a template cannot hold; letters, digits and -._~%!$&'()+,;:@= \
             are allowed"
        )
    };
    let rows = [
        ("/a/{x}", braces.to_owned()),
        ("/a/{}", braces.to_owned()),
        ("/a}", braces.to_owned()),
        ("/a/{***}", braces.to_owned()),
        ("/{**}/{*}", last.to_owned()),
        ("/{**}/{**}", last.to_owned()),
        ("/{**}/a/{*}", last.to_owned()),
        ("/a{*}", mixes("a{*}")),
        ("/{*}a", mixes("{*}a")),
        ("/{*}{*}", mixes("{*}{*}")),
        ("/{**}.js", mixes("{**}.js")),
        ("/{*}/{x}", mixes("{x}")),
        ("/a b/{*}", odd("a b")),
        ("/a*/{*}", odd("a*")),
        ("/*/{*}", odd("*")),
        ("/é/{*}", odd("é")),
        ("/a?b/{*}", odd("a?b")),
        ("/a[1]/{*}", odd("a[1]")),
        ("/a//{*}", "a segment is empty; remove a slash".to_owned()),
        ("//{*}", "a segment is empty; remove a slash".to_owned()),
        ("{*}", "a path template starts with a slash; add the slash".to_owned()),
        ("a/{**}", "a path template starts with a slash; add the slash".to_owned()),
    ];
    let rows: Vec<_> = rows.iter().map(|(value, expected)| (*value, format!("`{value}`: {expected}"))).collect();
    let rows: Vec<_> = rows.iter().map(|(value, expected)| (*value, expected.as_str())).collect();
    value_refused("ALLOW", "to: [{ operation: { paths: [VALUE] } }]", "to[0].operation.paths[0]", &rows);
    value_refused("ALLOW", "to: [{ operation: { notPaths: [VALUE] } }]", "to[0].operation.notPaths[0]", &rows);
    let too_long = format!("/{{*}}/{}/{{**}}", "a".repeat(251));
    let expected = "this template is longer than 256 bytes, without braces; Envoy's RBAC filter refuses it, and with it all \
                    policies: write a shorter one";
    let row = [(too_long.as_str(), expected)];
    value_refused("ALLOW", "to: [{ operation: { paths: [VALUE] } }]", "to[0].operation.paths[0]", &row);
}

#[test]
fn a_trust_domain_has_one_wildcard_at_an_end_and_no_slash() {
    let slash = |value: &str| {
        format!("`{value}`: a trust domain has no slash; write the part between `spiffe://` and the first slash only")
    };
    let star = |value: &str| {
        format!(
            "`{value}`: a trust domain takes one wildcard, at its start or end; such as `*.example.org` or `prod-*`"
        )
    };
    let stars = ["a*b", "*a*", "**", "a**"].map(|value| (value, star(value)));
    let stars: Vec<_> = stars.iter().map(|(value, expected)| (*value, expected.as_str())).collect();
    let slashes = ["a/b", "/", "spiffe://td", "*/x"].map(|value| (value, slash(value)));
    let slashes: Vec<_> = slashes.iter().map(|(value, expected)| (*value, expected.as_str())).collect();
    for field in ["trustDomains", "notTrustDomains"] {
        let (before, place) =
            (format!("from: [{{ source: {{ {field}: [VALUE] }} }}]"), format!("from[0].source.{field}[0]"));
        value_refused("ALLOW", &before, &place, &stars);
        value_refused("ALLOW", &before, &place, &slashes);
    }
    value_refused("ALLOW", "when: [{ key: source.trustDomain, values: [VALUE] }]", "when[0].values[0]", &stars);
}

#[test]
fn a_condition_has_a_known_key_and_values() {
    let no_key = |key: &str, hint: &str| format!("spec.rules[0].when[0].key: `{key}` is not a condition key; {hint}");
    let malformed =
        |key: &str, hint: &str| format!("spec.rules[0].when[0].key: `{key}` is not a valid key; write {hint}");
    let known = "known keys: source.ip, remote.ip, source.namespace, source.serviceAccount, source.principal, \
                 source.trustDomain, request.auth.principal, request.auth.audiences, request.auth.presenter, \
                 destination.ip, destination.port, connection.sni, request.headers, request.auth.claims, \
                 experimental.envoy.filters";
    let rows = [
        ("source.principals", no_key("source.principals", "did you mean `source.principal`?")),
        ("Source.IP", no_key("Source.IP", "did you mean `source.ip`?")),
        ("source.labels[x]", no_key("source.labels[x]", known)),
        ("request.header[x]", no_key("request.header[x]", "did you mean `request.headers`?")),
        (
            "destination.namespace",
            no_key("destination.namespace", "the policy's own namespace says which workloads it is for"),
        ),
        ("destination.labels[app]", no_key("destination.labels[app]", "use spec.selector.matchLabels")),
        ("destination.name", no_key("destination.name", "it went away with v1alpha1; use spec.selector")),
        ("destination.user", no_key("destination.user", "it went away with v1alpha1; use spec.selector")),
        ("something.else.entirely", no_key("something.else.entirely", known)),
        ("", no_key("", known)),
        ("request.headers", malformed("request.headers", "request.headers[NAME]")),
        ("request.headers[]", malformed("request.headers[]", "request.headers[NAME]")),
        ("request.headers[x", malformed("request.headers[x", "request.headers[NAME]")),
        ("request.headers[x]y", malformed("request.headers[x]y", "request.headers[NAME]")),
        ("request.headersX[x]", malformed("request.headersX[x]", "request.headers[NAME]")),
        ("request.auth.claims", malformed("request.auth.claims", "request.auth.claims[NAME]")),
        ("request.auth.claims[]", malformed("request.auth.claims[]", "request.auth.claims[NAME]")),
        (
            "request.auth.claims[][a]",
            "spec.rules[0].when[0].key: `request.auth.claims[][a]` is not a valid key; a claim in brackets needs a name"
                .to_owned(),
        ),
        ("request.auth.claims.a", malformed("request.auth.claims.a", "request.auth.claims[NAME]")),
        (
            "experimental.envoy.filters.x",
            malformed("experimental.envoy.filters.x", "experimental.envoy.filters.FILTER[KEY]"),
        ),
        (
            "experimental.envoy.filters.x[]",
            malformed("experimental.envoy.filters.x[]", "experimental.envoy.filters.FILTER[KEY]"),
        ),
        (
            "experimental.envoy.filters.x[k",
            malformed("experimental.envoy.filters.x[k", "experimental.envoy.filters.FILTER[KEY]"),
        ),
    ];
    for (key, expected) in rows {
        assert_eq!(spec(&format!("{{ rules: [{{ when: [{{ key: '{key}', values: [a] }}] }}] }}")), [expected]);
    }
    for (condition, expected) in [
        ("{ key: source.ip }", "condition on `source.ip` has no values; give `values` or `notValues`"),
        ("{ key: source.ip, values: [] }", "condition on `source.ip` has no values; give `values` or `notValues`"),
        (
            "{ key: source.ip, values: [], notValues: [] }",
            "condition on `source.ip` has no values; give `values` or `notValues`",
        ),
    ] {
        assert_eq!(
            spec(&format!("{{ rules: [{{ when: [{condition}] }}] }}")),
            [format!("spec.rules[0].when[0]: {expected}")]
        );
    }
    refused(&[("{ rules: [{ when: [{ values: [a] }] }] }", "spec.rules[0].when[0].key: is missing")]);
}
