//! Lints about values and names that no request has.

use crate::{findings, found, one_spelling, operation, policy, source};

fn when(key: &str, value: &str) -> String {
    policy("p", &format!("{{ action: AUDIT, rules: [{{ when: [{{ key: '{key}', values: [\"{value}\"] }}] }}] }}"))
}

fn field(name: &str, value: &str) -> String {
    let values = format!("{name}: [\"{value}\"]");
    match name {
        "methods" | "paths" | "hosts" => operation("AUDIT", &values),
        _ => source("AUDIT", &values),
    }
}

/// The codes of the lints that fire, without the one that asks for a `RequestAuthentication`.
fn codes(text: &str) -> Vec<&'static str> {
    found(text, &one_spelling()).into_iter().map(|(code, _)| code).filter(|code| *code != "MA021").collect()
}

fn hint(text: &str) -> String {
    let found = findings(text, &one_spelling()).into_iter().find(|finding| finding.code != Some("MA021")).unwrap();
    found.diagnostic.hint.unwrap()
}

#[test]
fn several_values_in_one_text() {
    for (name, value, write) in [
        ("methods", "GET, POST", "`GET` and `POST`"),
        ("methods", "GET,POST,PUT", "`GET` and `POST` and `PUT`"),
        ("methods", "GET|POST", "`GET` and `POST`"),
        ("methods", "GET POST", "`GET` and `POST`"),
        ("methods", "get, post", "`get` and `post`"),
        ("paths", "/a,/b", "`/a` and `/b`"),
        ("paths", "/a*, /b*", "`/a*` and `/b*`"),
        ("paths", "/a /b", "`/a` and `/b`"),
        ("hosts", "a.example,b.example", "`a.example` and `b.example`"),
        ("namespaces", "a,b", "`a` and `b`"),
        ("namespaces", "a; b", "`a` and `b`"),
        ("serviceAccounts", "a/b,c", "`a/b` and `c`"),
        ("trustDomains", "td1,td2", "`td1` and `td2`"),
        ("principals", "td/ns/a/sa/b,td/ns/a/sa/c", "`td/ns/a/sa/b` and `td/ns/a/sa/c`"),
        ("requestPrincipals", "https://i/a,https://j/b", "`https://i/a` and `https://j/b`"),
    ] {
        let text = field(name, value);
        assert_eq!(codes(&text), ["MA039"], "{name} {value}");
        assert!(hint(&text).starts_with(&format!("write {write} as ")), "{name} {value}: {}", hint(&text));
    }
    for (name, value) in [
        ("paths", "/a,b"),
        ("paths", "/a;v=1/b"),
        ("paths", "/Products(1,2)"),
        ("principals", "*CN=a, O=b"),
        ("requestPrincipals", "https://i/cn=a,ou=b"),
    ] {
        assert_eq!(codes(&field(name, value)), [""; 0], "{name} {value}");
    }
    for key in ["request.headers[accept]", "request.auth.claims[name]", "request.auth.audiences"] {
        assert_eq!(codes(&when(key, "a, b")), [""; 0], "{key}");
    }
}

#[test]
fn spaces_around_a_value() {
    for (name, value) in [
        ("methods", "GET "),
        ("methods", " get"),
        ("paths", "/d "),
        ("hosts", " c.example"),
        ("namespaces", "a\\t"),
        ("principals", " cluster.local/ns/a/sa/b"),
        ("serviceAccounts", "a/b "),
        ("requestPrincipals", " https://i/s"),
    ] {
        assert_eq!(codes(&field(name, value)), ["MA039"], "{name} `{value}`");
    }
    for key in [
        "request.headers[x]",
        "request.auth.claims[x]",
        "request.auth.audiences",
        "experimental.envoy.filters.f[k]",
        "connection.sni",
    ] {
        assert_eq!(codes(&when(key, "a ")), ["MA039"], "{key}");
        assert_eq!(hint(&when(key, "a ")), "write `a`", "{key}");
        assert_eq!(codes(&when(key, "a*")), [""; 0], "{key}");
    }
}

#[test]
fn characters_that_were_copied_or_never_occur() {
    for (name, value) in [
        ("paths", "/direct/router       \u{2502}"),
        ("paths", "/caf\u{e9}"),
        ("paths", "/a b"),
        ("paths", "/\u{201c}a\u{201d}"),
        ("methods", "G\u{415}T"),
        ("methods", "GET\u{200b}"),
        ("methods", "GET."),
        ("hosts", "shop.ex\u{430}mple"),
        ("hosts", "shop\u{2013}a.example"),
        ("namespaces", "sh\u{43e}p"),
        ("namespaces", "a\u{a0}"),
        ("namespaces", "'shop'"),
        ("namespaces", "cluster.local/ns/shop"),
        ("namespaces", "my_shop"),
        ("serviceAccounts", "shop/w\u{435}b"),
        ("principals", "cluster.local/ns/shop/sa/w\u{435}b"),
        ("principals", "'cluster.local/ns/shop/sa/web'"),
    ] {
        assert_eq!(codes(&field(name, value)), ["MA039"], "{name} `{value}`");
    }
    for key in ["request.headers[x]", "request.auth.claims[x]"] {
        for value in ["a\u{200b}", "a\u{a0}b", "a\u{2502}"] {
            assert_eq!(codes(&when(key, value)), ["MA039"], "{key} {value}");
        }
        for value in ["Zo\u{eb}", "\u{c5}rhus \u{2013} Ops", "a b", "a_b", "50%", "a@b.example", "\u{65e5}\u{672c}"] {
            assert_eq!(codes(&when(key, value)), [""; 0], "{key} {value}");
        }
    }
    assert_eq!(hint(&field("paths", "/direct/router       \u{2502}")), "write `/direct/router`");
    assert_eq!(hint(&field("paths", "/caf\u{e9}")), "write `%C3%A9` for it, as clients do");
    assert_eq!(hint(&field("paths", "/a b")), "write `/a%20b`, as clients do");
    assert_eq!(hint(&field("namespaces", "'shop'")), "write `shop`");
}

#[test]
fn parts_that_the_attribute_does_not_have() {
    for (key, value) in [
        ("connection.sni", "a.example:443"),
        ("connection.sni", "https://a.example/"),
        ("connection.sni", "*.A.example"),
        ("request.headers[x-envoy-external-address]", "198.51.100.0/24"),
        ("request.headers[x-real-ip]", "2001:db8::/32"),
        ("request.auth.claims[ipaddr]", "198.51.100.0/24"),
        ("request.auth.claims[exp]", "*"),
        ("request.auth.claims[iat]", "1700000000"),
        ("request.auth.claims[scope]", "read write"),
    ] {
        assert_eq!(codes(&when(key, value)), ["MA039"], "{key} {value}");
    }
    for (key, value) in [
        ("connection.sni", "outbound_.80_._.a.shop.svc.cluster.local"),
        ("connection.sni", "*.example"),
        ("request.headers[x-real-ip]", "198.51.100.7"),
        ("request.headers[x-path]", "a/24"),
        ("request.auth.claims[sub]", "*"),
        ("request.auth.claims[scope]", "read"),
        ("request.auth.claims[department]", "read write"),
    ] {
        assert_eq!(codes(&when(key, value)), [""; 0], "{key} {value}");
    }
    assert_eq!(hint(&when("connection.sni", "https://a.example:443/x")), "write `a.example`");
    assert_eq!(hint(&when("connection.sni", "A.example")), "write `a.example`");
    for (name, value) in [
        ("requestPrincipals", "cluster.local/ns/shop/sa/web"),
        ("requestPrincipals", "spiffe://td1/ns/shop/sa/web"),
        ("principals", "https://issuer.example/alice"),
        ("principals", "system:serviceaccount:shop:web"),
        ("principals", "cluster.local/ns/shop/web"),
        ("principals", "cluster.local/ns/shop/sa/web/"),
        ("principals", "cluster.local/sa/web/ns/shop"),
        ("methods", "ALL"),
        ("methods", "ANY"),
        ("methods", "DELET"),
        ("methods", "PSOT"),
    ] {
        assert_eq!(codes(&field(name, value)), ["MA039"], "{name} {value}");
    }
    for (name, value) in [
        ("principals", "cluster.local/ns/shop/*"),
        ("principals", "cluster.local/ns/shop/sa/web"),
        ("principals", "vault.example/service/signer"),
        ("methods", "PATCH"),
        ("methods", "PURGE"),
        ("methods", "PROPFIND"),
        ("methods", "REPORT"),
        ("methods", "M-SEARCH"),
        ("methods", "UNLOCK"),
        ("methods", "SEARCH"),
    ] {
        assert_eq!(codes(&field(name, value)), [""; 0], "{name} {value}");
    }
    assert_eq!(hint(&field("methods", "DELET")), "write `DELETE`");
    let user = hint(&field("principals", "system:serviceaccount:shop:web"));
    assert_eq!(user, "write `TRUST-DOMAIN/ns/shop/sa/web`, with the trust domain of your mesh");
}

#[test]
fn regular_expressions() {
    for (key, value, write) in [
        ("request.headers[x-user]", "^admin$", "write `admin`"),
        ("request.headers[x-user]", ".*", "write `*`, which matches every value that is not empty"),
        ("request.headers[x-user]", "^admin.*$", "write `admin*`"),
        ("request.headers[x-user]", ".*-admin", "write `*-admin`"),
        ("request.headers[x-user]", "(a|b)", "list the values, or use one wildcard at one end"),
        ("request.auth.claims[groups]", "^ops-.*", "write `ops-*`"),
        ("request.auth.claims[id]", "[0-9]+x", "list the values, or use one wildcard at one end"),
        ("connection.sni", ".*[.]example", "list the values, or use one wildcard at one end"),
    ] {
        assert_eq!(codes(&when(key, value)), ["MA018"], "{key} {value}");
        assert_eq!(hint(&when(key, value)), write, "{key} {value}");
    }
    for (name, value) in [
        ("methods", "^(GET|POST)$"),
        ("namespaces", ".*-system"),
        ("hosts", ".*.example.com"),
        ("principals", "cluster.local/ns/.*/sa/web"),
    ] {
        assert_eq!(codes(&field(name, value)), ["MA018"], "{name} {value}");
    }
    for (key, value) in [
        ("request.headers[x-version]", "1.*"),
        ("request.headers[user-agent]", "Mozilla/5.0 (X11; Linux) Gecko*"),
        ("request.headers[x-price]", "5$"),
        ("experimental.envoy.filters.f[k]", "[a*]"),
        ("request.headers[accept]", "*/*"),
    ] {
        assert_eq!(codes(&when(key, value)), [""; 0], "{key} {value}");
    }
}

#[test]
fn placeholders() {
    for (name, value) in [
        ("principals", "cluster.local/ns/${NS}/sa/b"),
        ("principals", "cluster.local/ns/$NS/sa/b"),
        ("principals", "cluster.local/ns/<NAMESPACE>/sa/b"),
        ("namespaces", "{{ ns }}"),
        ("namespaces", "{{.Values.namespace}}"),
        ("namespaces", "$(NAMESPACE)"),
        ("namespaces", "%NAMESPACE%"),
        ("namespaces", "__NAMESPACE__"),
        ("hosts", "<your-host>"),
        ("hosts", "shop.${DOMAIN}"),
        ("methods", "<%= method %>"),
        ("requestPrincipals", "${ISSUER}/*"),
        ("paths", "/$(PREFIX)/x"),
    ] {
        assert_eq!(codes(&field(name, value)), ["MA040"], "{name} {value}");
    }
    for value in ["{{ .Values.group }}", "<GROUP>", "${GROUP}"] {
        assert_eq!(codes(&when("request.auth.claims[groups]", value)), ["MA040"], "{value}");
    }
    for value in ["<a@b.example>; rel=x", "5 < 6", "$5", "100%", "a {b}", "Ann <ann@b.example>"] {
        assert_eq!(codes(&when("request.headers[x]", value)), [""; 0], "{value}");
    }
    for value in ["/$metadata", "/%41%42", "/a@b/c@d", "/__init__"] {
        assert_eq!(codes(&field("paths", value)), [""; 0], "{value}");
    }
    let authentication = "{ apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: { name: r }, spec: { jwtRules: [{ \
                          issuer: 'https://${DOMAIN}', audiences: [shop, <AUDIENCE>], jwksUri: 'https://i/k' }] } }";
    let at = ["spec.jwtRules[0].audiences[1]", "spec.jwtRules[0].issuer"];
    let mut fires = crate::paths("MA040", authentication, &one_spelling());
    fires.sort();
    assert_eq!(fires, at);
    let selector = policy("p", "{ selector: { matchLabels: { app: '${APP}' } } }");
    assert_eq!(found(&selector, &one_spelling()), [("MA040", "spec.selector.matchLabels.app".to_owned())]);
}

#[test]
fn keys_that_name_nothing() {
    for (key, write) in [
        ("request.auth.claims[\\\"groups\\\"]", "request.auth.claims[groups]"),
        ("request.auth.claims[ groups ]", "request.auth.claims[groups]"),
        ("request.auth.claims[realm_access.roles]", "request.auth.claims[realm_access][roles]"),
        ("request.auth.claims[a.b.c]", "request.auth.claims[a][b][c]"),
        ("request.auth.claims[groups][0]", "request.auth.claims[groups]"),
        ("request.headers[\\\"x-user\\\"]", "request.headers[x-user]"),
        ("request.headers[ x-user ]", "request.headers[x-user]"),
    ] {
        let text = when(key, "v").replace(&format!("'{key}'"), &format!("\"{key}\""));
        let at = found(&text, &one_spelling()).into_iter().filter(|(code, _)| *code != "MA021").collect::<Vec<_>>();
        assert_eq!(at, [("MA041", "spec.rules[0].when[0].key".to_owned())], "{key}");
        assert_eq!(hint(&text), format!("write `{write}`"), "{key}");
    }
    for key in [
        "request.headers[x-user:]",
        "request.headers[:host]",
        "request.headers[x-*]",
        "request.headers[x user]",
        "request.auth.claims[*]",
        "request.auth.claims[${CLAIM}]",
        "request.headers[{{ name }}]",
    ] {
        assert_eq!(codes(&when(key, "v")), ["MA041"], "{key}");
    }
    for key in [
        "request.auth.claims[groups]",
        "request.auth.claims[realm_access][roles]",
        "request.auth.claims[https://shop.example/groups]",
        "request.auth.claims[kubernetes.io][namespace]",
        "request.auth.claims[com.example.groups]",
        "request.auth.claims[cognito:groups]",
        "request.headers[:path]",
        "request.headers[x_user.name]",
    ] {
        assert_eq!(codes(&when(key, "v")), [""; 0], "{key}");
    }
}
