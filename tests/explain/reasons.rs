//! Where the values of a failed condition look like those of the request, `explain` says what differs.

use std::io::Write as _;

use mesh_authz::config::Mesh;
use mesh_authz::diagnostic::Diagnostics;
use mesh_authz::policy::Traffic;
use mesh_authz::policy::scope::Workload;
use mesh_authz_cli::explain::{Actual, Explanation, FailedCondition};
use mesh_authz_cli::load::policy_set::PolicySet;
use mesh_authz_cli::load::{Resources, yaml};
use mesh_authz_cli::received::Known;
use mesh_authz_cli::testfile::RequestFields;

/// The reason why the first rule of a policy in namespace `default` does not match. Both are in YAML.
fn reason_in(action: &str, rule: &str, request: &str) -> Option<String> {
    let mut hint = None;
    explained(action, rule, request, &Mesh::default(), |failed| hint.clone_from(&failed.hint));
    hint
}

fn explained(action: &str, rule: &str, request: &str, mesh: &Mesh, look: impl FnOnce(&FailedCondition)) {
    let mut file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    write!(
        file,
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{ name: a }}\n\
         spec: {{ action: {action}, rules: [{rule}] }}\n"
    )
    .unwrap();
    let resources = Resources::read(&[file.path().to_owned()]).unwrap();
    assert!(!resources.has_errors(), "{:?}", resources.findings);
    let workload = Workload { namespace: "default".to_owned(), ..Workload::default() };
    let set = PolicySet { resources: resources.into(), workload, mesh: mesh.clone(), envoy: Known::default() };
    let engine = set.engine(Traffic::Http);
    let mut diagnostics = Diagnostics::new();
    let node = yaml::documents(request).unwrap().remove(0);
    let request = RequestFields::read(&node, &mut diagnostics).unwrap().to_request();
    assert_eq!(diagnostics.into_found(), []);
    let explanation = Explanation::new(&set, &engine, &request);
    let (_, failed) = explanation.missed().next().unwrap_or_else(|| panic!("{rule} matches"));
    look(failed);
}

fn reason(rule: &str, request: &str) -> Option<String> {
    reason_in("ALLOW", rule, request)
}

/// What the request has, in words, for the first condition that fails.
fn actual(rule: &str, request: &str) -> Actual {
    let mut found = None;
    explained("ALLOW", rule, request, &Mesh::default(), |failed| found = Some(failed.actual.clone()));
    found.unwrap()
}

/// Checks that the reason has these words in it.
fn check(rule: &str, request: &str, words: &[&str]) {
    let reason = reason(rule, request).unwrap_or_else(|| panic!("no reason: {rule}, {request}"));
    for word in words {
        assert!(reason.contains(word), "{word:?} is not in {reason:?}: {rule}, {request}");
    }
}

#[test]
fn a_request_principal_is_split_at_its_last_slash() {
    for (value, issuer, subject, words) in [
        (
            "https://ci.example/repo:acme/app:ref",
            "https://ci.example",
            "repo:acme/app:ref",
            &["issuer `https://ci.example/repo:acme`", "subject `app:ref`", "subject `repo:acme/app:ref`"][..],
        ),
        (
            "https://ci.example/repo:acme/*",
            "https://ci.example",
            "repo:acme/x",
            &["issuer `https://ci.example/repo:acme`"],
        ),
        ("https://idp.example/*", "https://idp.example/", "alice", &["the issuer differs by a trailing slash"]),
        ("https://idp.example//alice", "https://idp.example", "alice", &["the issuer differs by a trailing slash"]),
        ("https://idp.example/*", "https://idp.example/tenant", "alice", &["issuer `https://idp.example/tenant`"]),
        ("https://idp.example*", "https://idp.example", "alice", &["subject `idp.example*`"]),
        ("https://idp.example/Alice", "https://idp.example", "alice", &["the subject differs in upper and lower case"]),
        ("https://idp.example/*", "https://idp.example", "", &["the subject is empty"]),
        ("https://idp.example", "https://idp.example", "idp.example", &["subject `idp.example`"]),
    ] {
        let rule = format!("{{ from: [{{ source: {{ requestPrincipals: [{value:?}] }} }}] }}");
        check(&rule, &format!("jwt: {{ iss: {issuer:?}, sub: {subject:?} }}"), words);
        let rule = format!("{{ when: [{{ key: request.auth.principal, values: [{value:?}] }}] }}");
        check(&rule, &format!("jwt: {{ iss: {issuer:?}, sub: {subject:?} }}"), words);
    }
    let rule = "{ from: [{ source: { requestPrincipals: ['https://idp.example/*'] } }] }";
    check(rule, "jwt: { iss: 'https://idp.example' }", &["the token has no `sub`"]);
    check(rule, "jwt: { iss: 'https://idp.example', sub: 7 }", &["`sub` of the token is not a string"]);
    assert_eq!(reason(rule, "jwt: { iss: 'https://other.example', sub: alice }"), None);
    check(rule, "jwt: { iss: 'https://idp.example', sub: \"a\\nb\" }", &["a line feed"]);
}

#[test]
fn a_template_names_the_byte_that_it_does_not_take() {
    let rule = |path: &str| format!("{{ to: [{{ operation: {{ paths: [{path:?}] }} }}] }}");
    for (template, path, words) in [
        ("/a/{*}", "/a/b[1]", &["`{*}` does not take the byte `[`"][..]),
        ("/b/{**}", "/b/x|y", &["`{**}` does not take the byte `|`"]),
        ("/b/{**}", "/b/é", &["0xc3 0xa9"]),
        ("/b/{**}", "/b/a b", &["0x20"]),
        ("/c/{*}/d", "/c//d", &["not empty"]),
        ("/a/{*}", "/a/", &["not empty"]),
        ("/a/{*}", "/a/b/c", &["one segment"]),
        ("/b/{**}", "/b", &["trailing slash"]),
        ("/a/{*}", "/a/b/", &["trailing slash"]),
        ("/a/{*}/", "/a/b", &["trailing slash"]),
        ("/a/{*}", "/A/b", &["upper and lower case"]),
        ("/a/{*}", "//a/b", &["double slash"]),
        ("/a%2db/{*}", "/a-b/c", &["percent-encoding"]),
    ] {
        check(&rule(template), &format!("path: {path:?}"), words);
    }
    assert_eq!(reason(&rule("/a/{*}"), "path: /other"), None);
}

#[test]
fn paths_differ_in_a_slash_in_case_or_in_percent_encoding() {
    for (value, path, words) in [
        ("/api", "/api/", "trailing slash"),
        ("/api/*", "/api", "trailing slash"),
        ("/api/v1", "/API/v1", "upper and lower case"),
        ("/a b", "/a%20b", "percent-encoding"),
        ("/a%2Fb", "/a/b", "percent-encoding"),
        ("/caf%c3%a9*", "/caf%C3%A9/x", "percent-encoding"),
        ("/a/b", "/a//b", "double slash"),
        ("api", "/api", "begins with a slash"),
        ("/api?x=1", "/api?x=1", "without its query"),
        ("/api", "/api/v1", "nothing below it"),
        ("/api/*/items", "/api/7/items", "ordinary character"),
        ("^/api/.*$", "/api/7", "no regular expression"),
    ] {
        check(&format!("{{ to: [{{ operation: {{ paths: [{value:?}] }} }}] }}"), &format!("path: {path:?}"), &[words]);
    }
}

#[test]
fn hosts_differ_by_their_port_a_dot_or_a_scheme() {
    for (value, host, words) in [
        ("shop.example", "shop.example:8080", "only the port differs"),
        ("shop.example:8080", "shop.example", "only the port differs"),
        ("shop.example:8080", "Shop.example:8443", "only the port differs"),
        ("*.example", "shop.example:80", "only the port differs"),
        ("[::1]", "[::1]:80", "only the port differs"),
        ("shop.example", "shop.example.", "trailing dot"),
        ("shop.example", "u@shop.example", "`@`"),
        ("https://shop.example", "shop.example", "is a URL"),
        ("*.example", "example", "needs a name before the dot"),
    ] {
        check(&format!("{{ to: [{{ operation: {{ hosts: [{value:?}] }} }}] }}"), &format!("host: {host:?}"), &[words]);
    }
}

#[test]
fn peers_differ_in_one_part_of_their_names() {
    let request = "principal: cluster.local/ns/shop/sa/web";
    for (field, value, words) in [
        ("principals", "other.domain/ns/shop/sa/web", "only the trust domain differs"),
        ("principals", "cluster.local/ns/store/sa/web", "only the namespace differs"),
        ("principals", "cluster.local/ns/shop/sa/Web", "only the service account differs"),
        ("principals", "spiffe://cluster.local/ns/shop/sa/web", "without `spiffe://`"),
        ("principals", "ns/shop/sa/web", "begins with its trust domain"),
        ("principals", "cluster.local/ns/*/sa/web", "ordinary character"),
        ("principals", "cluster.local/NS/shop/sa/web", "upper and lower case"),
        ("serviceAccounts", "web", "the policy's namespace, `default`"),
        ("serviceAccounts", "store/web", "namespace `shop`, not in `store`"),
        ("serviceAccounts", "web/shop", "the wrong order"),
        ("serviceAccounts", "shop/Web", "upper and lower case"),
        ("namespaces", "Shop", "upper and lower case"),
        ("namespaces", "sho", "as a whole"),
        ("namespaces", "web", "is its service account"),
        ("trustDomains", "shop", "is its namespace"),
    ] {
        check(&format!("{{ from: [{{ source: {{ {field}: [{value:?}] }} }}] }}"), request, &[words]);
    }
    assert_eq!(reason("{ from: [{ source: { namespaces: [ops] } }] }", request), None, "these do not look alike");
}

#[test]
fn headers_and_claims_are_compared_as_a_whole() {
    for (key, value, request, words) in [
        ("request.headers[x-p]", "READ", "headers: { x-p: 'READ,WRITE' }", "`READ` is only a part of the value"),
        ("request.headers[x-p]", "READ*", "headers: { x-p: 'WRITE, READ-ALL' }", "`READ-ALL` is only a part"),
        ("request.headers[x-p]", "READ,WRITE", "headers: { x-p: [READ, WRITE] }", "is one value"),
        ("request.headers[accept]", "text/html", "headers: { accept: 'text/html; q=1' }", "only a part"),
        ("request.headers[x-p]", "prod", "headers: { x-p: Prod }", "upper and lower case"),
        ("request.headers[x-p]", "prod", "headers: { x-p: ' prod' }", "white space"),
        ("request.headers[x-p]", "^prod$", "headers: { x-p: prod }", "no regular expression"),
        ("request.headers[x-p]", "prod", "headers: { x-p: '\"prod\"' }", "quotes"),
        ("request.headers[x-p]", "prod", "headers: { x-p: \"pr\\u043ed\" }", "U+006F, and the request U+043E"),
        ("request.headers[x-p]", "prod", "headers: { x-p: \"pro\\u200bd\" }", "U+200B"),
        ("request.headers[host]", "shop.example", "host: 'shop.example:80'", "only the port differs"),
        ("request.auth.claims[g]", "ops", "jwt: { g: 'dev,ops' }", "only a part"),
        ("request.auth.claims[g]", "ops", "jwt: { g: '[\"dev\",\"ops\"]' }", "only a part"),
        ("request.auth.claims[g]", "*", "jwt: { g: '' }", "the value is empty"),
        ("request.auth.claims[g]", "*", "jwt: { g: \"a\\nb\" }", "a line feed"),
        ("request.auth.claims[r][roles]", "ops", "jwt: { r: { x: 1 } }", "the claim [r] is there, and has no `roles`"),
        ("request.auth.claims[r][roles]", "ops", "jwt: { r: ops }", "the claim [r] is a string"),
        ("request.auth.claims[Groups]", "ops", "jwt: { groups: [ops] }", "but it has `groups`"),
        ("request.auth.claims[\"groups\"]", "ops", "jwt: { groups: [ops] }", "but it has `groups`"),
        ("request.auth.claims[r][user_roles]", "ops", "jwt: { r: { userRoles: [ops] } }", "but it has `userRoles`"),
        ("request.auth.claims[r.roles]", "ops", "jwt: { r: { roles: [ops] } }", "the token has the claim [r][roles]"),
        ("request.headers[x_env]", "prod", "headers: { x-env: prod }", "but it has `x-env`"),
        ("request.headers[env]", "prod", "headers: { x-env: prod }", "but it has `x-env`"),
        ("destination.port", "80", "{ host: 'shop.example:80', destinationPort: 8080 }", "is the port in the host"),
        ("connection.sni", "shop.example", "sni: Shop.example", "upper and lower case"),
        ("connection.sni", "*", "sni: ''", "the value is empty"),
        ("experimental.envoy.filters.x[k]", "v", "metadata: { envoy.filters.x: { k: [v] } }", "the value is a list"),
        ("experimental.envoy.filters.x[k]", "[v]", "metadata: { envoy.filters.x: { k: v } }", "the value is a string"),
    ] {
        check(&format!("{{ when: [{{ key: {key:?}, values: [{value:?}] }}] }}"), request, &[words]);
    }
    let rule = "{ when: [{ key: 'request.auth.claims[g]', values: [x] }] }";
    assert_eq!((reason(rule, "jwt: { other: x }"), reason(rule, "path: /")), (None, None));
}

#[test]
fn a_value_that_never_matches_is_named_by_its_kind() {
    for (claims, words) in [
        ("{ level: 5 }", "it is a number"),
        ("{ level: true }", "it is a boolean"),
        ("{ level: null }", "it is null"),
        ("{ level: { a: b } }", "it is an object"),
        ("{ level: [5] }", "it is a list without a string in it"),
    ] {
        let found =
            actual("{ when: [{ key: 'request.auth.claims[level]', values: ['5'] }] }", &format!("jwt: {claims}"));
        assert!(matches!(found, Actual::Nothing(why) if why.starts_with(words)), "{claims}: {found:?}");
        let rule = "{ when: [{ key: 'experimental.envoy.filters.x[level]', values: ['5'] }] }";
        let found = actual(rule, &format!("metadata: {{ envoy.filters.x: {claims} }}"));
        assert!(matches!(found, Actual::Nothing(why) if why.starts_with(words)), "{claims}: {found:?}");
    }
}

/// In policies, `cluster.local` stands for the trust domain of the mesh.
#[test]
fn a_principal_that_looks_the_same_may_be_of_another_trust_domain() {
    let mesh = Mesh { trust_domain: "td1".to_owned(), ..Mesh::default() };
    let rule = "{ from: [{ source: { principals: [cluster.local/ns/shop/sa/web] } }] }";
    explained("ALLOW", rule, "principal: cluster.local/ns/shop/sa/web", &mesh, |failed| {
        let hint = failed.hint.as_deref().unwrap_or_default();
        assert!(hint.contains("stands for the mesh's trust domain"), "{hint}");
    });
}

#[test]
fn addresses_of_another_family_are_in_no_network() {
    for (block, address, words) in [
        ("10.0.0.0/8", "::ffff:10.0.0.1", "stands for 10.0.0.1"),
        ("10.0.0.0/8", "2001:db8::1", "is an IPv6 address, and 10.0.0.0/8 is an IPv4 network"),
        ("::/0", "10.0.0.1", "is an IPv4 address"),
    ] {
        let request = format!("{{ sourceIp: {address:?}, destinationIp: {address:?} }}");
        check(&format!("{{ from: [{{ source: {{ ipBlocks: [{block:?}] }} }}] }}"), &request, &[words, "remote.ip"]);
        check(&format!("{{ from: [{{ source: {{ remoteIpBlocks: [{block:?}] }} }}] }}"), &request, &[words]);
        check(&format!("{{ when: [{{ key: destination.ip, values: [{block:?}] }}] }}"), &request, &[words]);
    }
}

#[test]
fn where_a_match_denies_other_forms_of_a_value_count() {
    let host = "{ to: [{ operation: { notHosts: [admin.example] } }] }";
    check(host, "host: admin.example.", &["also counts as `admin.example`"]);
    check(host, "host: u@admin.example", &["also counts as `admin.example`"]);
    assert_eq!(reason(host, "host: Admin.example"), None, "this is plain to see");
    let header = "{ when: [{ key: 'request.headers[x]', notValues: [admin] }] }";
    check(header, "headers: { x: ' admin' }", &["also counts as `admin`"]);
}

/// A wildcard takes every byte where a match denies, so a template that fails there fails for another reason.
#[test]
fn a_deny_rule_does_not_fail_because_of_a_byte() {
    let rule = "{ to: [{ operation: { paths: ['/a/{*}'] } }] }";
    let reason = reason_in("DENY", rule, "path: '/a/b/c[1]'").unwrap();
    assert!(reason.contains("one segment") && !reason.contains('['), "{reason}");
}
