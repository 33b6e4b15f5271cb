//! Lints that check one value.

use mesh_authz_cli::lint::{LintContext, PathNormalization};

use crate::{found, mesh, one_spelling, operation, paths, policy, source};

/// Asserts that a lint fires on each value in `fires` and on no value in `silent`.
fn table(code: &str, of: impl Fn(&str) -> String, fires: &[&str], silent: &[&str]) {
    for value in fires {
        let text = of(&format!("[\"{value}\"]"));
        assert_eq!(paths(code, &text, &one_spelling()).len(), 1, "{code} on {value}");
    }
    for value in silent {
        let text = of(&format!("[\"{value}\"]"));
        assert_eq!(paths(code, &text, &one_spelling()), [""; 0], "{code} on {value}");
    }
}

#[test]
fn methods_are_in_capitals() {
    let of = |values: &str| operation("ALLOW", &format!("methods: {values}"));
    table("MA006", of, &["get", "Get", "pos*", "*t"], &["GET", "*", "P*", "M-SEARCH"]);
    assert_eq!(
        found(&operation("ALLOW", "methods: [GET], notMethods: [POST, put]"), &one_spelling()),
        [("MA006", "spec.rules[0].to[0].operation.notMethods[1]".to_owned())]
    );
}

#[test]
fn principals_have_no_scheme_and_a_trust_domain() {
    let of = |values: &str| source("ALLOW", &format!("principals: {values}"));
    table("MA007", of, &["spiffe://td/ns/a/sa/b", "spiffe://*"], &["td/ns/a/sa/b", "*", "spiffe/ns/a/sa/b"]);
    table(
        "MA014",
        of,
        &["frontend", "ns/a/sa/b", "ns/a/*"],
        &["td/ns/a/sa/b", "*", "*/ns/a/sa/b", "td/*", "front*", "*end", "example.org/service/x"],
    );
    let condition = policy("p", "{ rules: [{ when: [{ key: source.principal, values: [\"spiffe://x/y\"] }] }] }");
    assert_eq!(paths("MA007", &condition, &one_spelling()), ["spec.rules[0].when[0].values[0]"]);
}

#[test]
fn principals_that_aliases_do_not_reach() {
    let of = |value: &str| source("ALLOW", &format!("principals: [\"{value}\"]"));
    let fires = |value: &str, context: &LintContext| !paths("MA008", &of(value), context).is_empty();
    for value in ["cluster.local/ns/foo/*", "cluster.local/*", "td1/ns/foo/*", "td1/foo"] {
        assert!(!fires(value, &one_spelling()), "{value}: the mesh is cluster.local and has no alias");
        assert!(fires(value, &mesh("td1", &["old"])), "{value}");
    }
    assert!(fires("cluster.local/ns/foo/*", &mesh("td1", &[])));
    assert!(!fires("td1/ns/foo/*", &mesh("td1", &[])), "there is nothing else to stand for");
    for value in ["cluster.local/ns/foo/sa/bar", "td1/ns/foo/sa/*", "*/ns/foo/sa/bar", "elsewhere/ns/foo/*", "*"] {
        assert!(!fires(value, &mesh("td1", &["old"])), "{value}");
    }
}

#[test]
fn paths_begin_with_a_slash_and_have_no_query() {
    let of = |values: &str| operation("ALLOW", &format!("paths: {values}"));
    table("MA009", of, &["api", "api/*", "index.html"], &["/api", "*", "*.html", "/{*}", "/api?x"]);
    table("MA016", of, &["/a?b", "/a?*", "/a#b", "*?b"], &["/a", "/a%3Fb", "/a/{*}"]);
    assert_eq!(paths("MA016", &operation("ALLOW", "notPaths: ['/a?b']"), &one_spelling()).len(), 1);
}

#[test]
fn paths_in_another_language() {
    let of = |values: &str| operation("ALLOW", &format!("paths: {values}"));
    table(
        "MA018",
        of,
        &["/a/.*", "/a.*/b", "^/a", "/v[0-9]+/x", "/users/:id", "/users/<id>", "/a.+", "/a\\\\.b"],
        &["/a", "/a*", "/a.b", "/index.*", "/Products(1)", "/$metadata", "/a:b", "/8:30", "/a[1]", "/a+b", "*.js"],
    );
}

#[test]
fn a_wildcard_in_the_middle_is_a_character() {
    let path = |values: &str| operation("ALLOW", &format!("paths: {values}"));
    table("MA015", path, &["/a/*/b", "/a/**", "*a*", "/**/b"], &["/a*", "*a", "*", "/a/{*}/b", "/{**}"]);
    let principal = |values: &str| source("ALLOW", &format!("principals: {values}"));
    table("MA015", principal, &["td/ns/*/sa/x", "*/ns/a/*"], &["td/ns/a/*", "*/sa/x", "*"]);
    let host = |values: &str| operation("ALLOW", &format!("hosts: {values}"));
    table("MA015", host, &["a.*.b", "*.b.*"], &["*.b", "a.*"]);
    let user = |values: &str| source("ALLOW", &format!("requestPrincipals: {values}"));
    table("MA015", user, &["i/a*b", "*i*/s"], &["i/*", "*/s", "i/s*", "*s", "*"]);
    let header = |values: &str| {
        policy("p", &format!("{{ rules: [{{ when: [{{ key: 'request.headers[x]', values: {values} }}] }}] }}"))
    };
    table("MA015", header, &["a*b"], &["a*", "*b"]);
    let metadata = |values: &str| {
        policy(
            "p",
            &format!("{{ rules: [{{ when: [{{ key: 'experimental.envoy.filters.f[k]', values: {values} }}] }}] }}"),
        )
    };
    table("MA015", metadata, &["a*b", "[a*b]"], &["[a*]", "[*]", "a*"]);
    let namespaces = |values: &str| source("ALLOW", &format!("namespaces: {values}"));
    table("MA015", namespaces, &[], &["a*b", "*a*"]);
}

#[test]
fn the_hint_for_a_wildcard_in_a_path_is_a_template_that_works() {
    for (value, hint) in [
        ("/a/*/b", "write `/a/{*}/b`"),
        ("/a/**", "write `/a/{**}`"),
        ("/a*b/c", "use a template, such as `/users/{*}/orders`"),
    ] {
        for (action, end) in [("ALLOW", IF_MEANT), ("DENY", "")] {
            let text = operation(action, &format!("paths: ['{value}'], ports: ['80']"));
            let found = crate::findings(&text, &one_spelling());
            let found = found.into_iter().find(|finding| finding.code == Some("MA015")).unwrap();
            assert_eq!(found.diagnostic.hint, Some(format!("{hint}{end}")), "{value}");
        }
    }
}

#[test]
fn a_host_that_is_refused_is_refused_with_a_port_too() {
    let deny = |values: &str| operation("DENY", &format!("hosts: {values}, ports: ['80']"));
    table("MA005", deny, &["a.example", "*.example"], &["a.example:80", "a.example*", "*", "a.*"]);
    let allow = |values: &str| operation("ALLOW", &format!("hosts: {values}"));
    table("MA005", allow, &[], &["a.example", "*.example"]);
    let allow_not = |values: &str| operation("ALLOW", &format!("notHosts: {values}"));
    table("MA005", allow_not, &["a.example"], &["a.example:80"]);
    let text = operation("DENY", "hosts: ['a.example', 'A.example:*'], ports: ['80']");
    assert_eq!(paths("MA005", &text, &one_spelling()), [""; 0], "the other form is listed");
    table("MA027", allow, &["https://a.example", "a.example/x"], &["a.example", "*"]);
}

#[test]
fn a_path_that_is_refused_is_refused_with_and_without_its_slash() {
    let deny = |values: &str| operation("DENY", &format!("paths: {values}, ports: ['80']"));
    table("MA017", deny, &["/admin", "/admin/", "/admin/*", "/admin/{**}"], &["/admin*", "*", "/", "/a/{*}", "*.php"]);
    let allow = |values: &str| operation("ALLOW", &format!("paths: {values}"));
    table("MA017", allow, &[], &["/admin", "/admin/", "/admin/*"]);
    for both in
        ["['/admin', '/admin/']", "['/admin', '/admin/*']", "['/admin', '/admin/{**}']", "['/admin*', '/admin/']"]
    {
        assert_eq!(paths("MA017", &deny(both), &one_spelling()), [""; 0], "{both}");
    }
    let not = operation("ALLOW", "notPaths: ['/admin']");
    assert_eq!(paths("MA017", &not, &one_spelling()), ["spec.rules[0].to[0].operation.notPaths[0]"]);
}

#[test]
fn spellings_matter_where_a_path_is_refused_and_envoy_keeps_them() {
    let with = |normalization| LintContext { path_normalization: normalization, ..LintContext::default() };
    let deny = operation("DENY", "paths: ['/admin*'], ports: ['80']");
    let not = operation("ALLOW", "notPaths: ['/admin*']");
    for normalization in [PathNormalization::None, PathNormalization::Base, PathNormalization::MergeSlashes] {
        for text in [&deny, &not] {
            assert_eq!(paths("MA019", text, &with(normalization)).len(), 1, "{normalization:?}");
        }
    }
    for text in [&deny, &not] {
        assert_eq!(paths("MA019", text, &with(PathNormalization::DecodeAndMergeSlashes)), [""; 0]);
    }
    for text in [operation("ALLOW", "paths: ['/a']"), operation("DENY", "paths: ['*'], ports: ['80']")] {
        assert_eq!(paths("MA019", &text, &LintContext::default()), [""; 0], "{text}");
    }
}

/// What `paths` does not match passes in no spelling, whatever `notPaths` says.
#[test]
fn paths_beside_not_paths_exclude_other_spellings() {
    for (fields, fires) in [
        ("paths: ['/secure'], notPaths: ['/login']", false),
        ("paths: ['/api/*'], notPaths: ['/admin', '/admin/*']", false),
        ("paths: ['*.html'], notPaths: ['/login.html', '/login.html/']", true),
        ("paths: ['/*'], notPaths: ['/admin', '/admin/*']", true),
        ("paths: ['/public*'], notPaths: ['/public/admin', '/public/admin/*']", true),
        ("paths: ['/public/{*}/x'], notPaths: ['/public/admin/x', '/public/admin/x/']", false),
    ] {
        let text = operation("ALLOW", fields);
        assert_eq!(!paths("MA019", &text, &LintContext::default()).is_empty(), fires, "{fields}");
    }
    for (fields, fires) in [
        ("paths: ['/secure'], notPaths: ['/login']", false),
        ("paths: ['/api/*'], notPaths: ['/api/admin']", true),
        ("paths: ['/api', '/api/admin'], notPaths: ['/api/admin']", false),
        ("notPaths: ['/login']", true),
    ] {
        assert_eq!(!paths("MA017", &operation("ALLOW", fields), &one_spelling()).is_empty(), fires, "{fields}");
    }
}

#[test]
fn addresses_of_clients_in_ip_blocks() {
    let of = |values: &str| source("ALLOW", &format!("ipBlocks: {values}"));
    table(
        "MA020",
        of,
        &["203.0.113.9", "8.8.8.0/24", "2001:db8::/32", "172.32.0.0/16", "8.0.0.0/7"],
        &[
            "10.1.2.3",
            "10.0.0.0/8",
            "192.168.0.0/16",
            "172.16.5.0/24",
            "100.64.0.1",
            "127.0.0.1",
            "fd00::/8",
            "fe80::1",
            "::1",
            "0.0.0.0/0",
            "::/0",
        ],
    );
    let remote = source("ALLOW", "remoteIpBlocks: ['203.0.113.9']");
    assert_eq!(paths("MA020", &remote, &one_spelling()), [""; 0]);
}

#[test]
fn request_principals_that_are_split_inside_their_scheme() {
    let of = |values: &str| source("ALLOW", &format!("requestPrincipals: {values}"));
    table(
        "MA022",
        of,
        &[
            "https://issuer.example*",
            "https://issuer.example",
            "https://*",
            "https://ci.example/repo:acme/widgets:ref:refs/heads/main",
            "https://ci.example/repo:acme/*",
            "https://ci.example/_services/x/project_path:a/b",
        ],
        &[
            "https://issuer.example/*",
            "https://issuer.example/alice",
            "issuer/alice",
            "*",
            "https*",
            "a@b.example/x",
            "https://i.example:8443/realms/x/*",
            "https://i.example/system:serviceaccount:a:b",
        ],
    );
}

/// How advice ends that lets more requests pass.
const IF_MEANT: &str = ", if the requests that it then matches are to pass";

/// The hint of the only finding in a text. It must say that more requests pass; the rest is returned.
fn hint(text: &str) -> String {
    let findings = crate::findings(text, &one_spelling());
    assert_eq!(findings.len(), 1, "{findings:#?}");
    findings[0].diagnostic.hint.as_deref().unwrap().strip_suffix(IF_MEANT).unwrap().to_owned()
}

#[test]
fn no_hint_means_everything_or_nothing() {
    for path in ["*?token=abc", "?x", "#x"] {
        let hint = hint(&operation("ALLOW", &format!("paths: ['{path}']")));
        assert_eq!(hint, "use `request.headers[:path]`, which has the query", "{path}");
    }
    for host in ["*/admin", "/x", "https://"] {
        assert_eq!(hint(&operation("ALLOW", &format!("hosts: ['{host}']"))), "write the name without a path", "{host}");
    }
    let users = source("ALLOW", "requestPrincipals: ['https://*']");
    let findings = crate::findings(&users, &one_spelling());
    let of = |code: &str| findings.iter().find(|finding| finding.code == Some(code)).unwrap();
    assert_eq!(
        of("MA022").diagnostic.hint,
        Some(format!("write `https://ISSUER/*` for every subject of that issuer{IF_MEANT}"))
    );
    assert_eq!(hint(&source("ALLOW", "principals: ['ns/foo/sa/*']")), "write `cluster.local/ns/foo/sa/*`");
}

#[test]
fn a_hint_about_aliases_keeps_the_trust_domain() {
    let text = source("ALLOW", "principals: ['td1/ns/foo/*']");
    let findings = crate::findings(&text, &mesh("td1", &["td2"]));
    assert_eq!(
        findings[0].diagnostic.hint,
        Some(format!("write `namespaces: [\"foo\"]` and `trustDomains: [\"td1\"]` in one source{IF_MEANT}"))
    );
    let domain = source("ALLOW", "trustDomains: ['cluster.local']");
    assert_eq!(paths("MA008", &domain, &mesh("td1", &[])).len(), 1);
    assert_eq!(paths("MA008", &domain, &mesh("td1", &["cluster.local"])), [""; 0]);
    assert_eq!(paths("MA008", &domain, &one_spelling()), [""; 0]);
}

#[test]
fn one_port_is_not_every_port() {
    let deny =
        |values: &str| paths("MA005", &operation("DENY", &format!("hosts: {values}, ports: ['80']")), &one_spelling());
    assert_eq!(deny("['a.example', 'a.example:8080']").len(), 1);
    assert_eq!(deny("['*.example', '*.example:443']"), [""; 0], "a suffix cannot be given with every port");
}

#[test]
fn a_prefix_that_takes_the_other_spelling_is_no_hole() {
    let deny = |path: &str| operation("DENY", &format!("paths: ['{path}'], ports: ['80']"));
    for path in ["/*", "/{**}"] {
        assert_eq!(paths("MA019", &deny(path), &LintContext::default()), [""; 0], "{path}");
    }
}

#[test]
fn a_media_type_is_no_wildcard() {
    let text = policy("p", "{ rules: [{ when: [{ key: 'request.headers[accept]', values: ['*/*'] }] }] }");
    assert_eq!(paths("MA015", &text, &one_spelling()), [""; 0]);
}

/// What a help says to write is what the author meant, and passes every check.
#[test]
fn the_help_for_a_path_or_a_method_is_what_was_meant() {
    let hint = |field: &str, value: &str| {
        let text = crate::policy(
            "p",
            &format!("{{ action: DENY, rules: [{{ to: [{{ operation: {{ {field}: ['{value}'] }} }}] }}] }}"),
        );
        let found = crate::findings(&text, &one_spelling());
        let found = found.into_iter().find(|found| matches!(found.code, Some("MA006" | "MA009"))).unwrap();
        found.diagnostic.hint.unwrap()
    };
    for (value, path) in [
        (" /c", "/c"),
        ("api ", "/api"),
        ("https://shop.example/y", "/y"),
        ("https://shop.example", "/"),
        ("shop.example/y", "/shop.example/y"),
    ] {
        assert_eq!(hint("paths", value), format!("write `{path}`"), "{value}");
    }
    assert_eq!(hint("methods", "get"), "write `GET`");
    assert_eq!(hint("methods", "/acme.Store/Info"), "write `/acme.Store/Info` into `paths`, as for every gRPC method");
    let not = "write `/acme.Store/Info` into `notPaths`, as for every gRPC method, if the requests that it then matches are to pass";
    assert_eq!(hint("notMethods", "/acme.Store/Info"), not);
}
