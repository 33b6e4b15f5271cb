//! Policies that are accepted: for each validation rule, the values that are only just valid.

use crate::support::{findings, named, policies, policy};

fn accepted(text: &str) {
    assert_eq!(findings(text), Vec::<String>::new(), "{text}");
    assert_eq!(policies(text).len(), 1);
}

/// Asserts that each of these values of a field or condition is accepted. `before` is the rule, with VALUE in place of
/// the value.
fn values_accepted(before: &str, values: &[&str]) {
    for value in values {
        let value = serde_json::to_string(value).unwrap();
        accepted(&named("default", "p", &format!("{{ rules: [{{ {} }}] }}", before.replace("VALUE", &value))));
    }
}

#[test]
fn sixteen_service_accounts_of_320_characters() {
    let accounts = vec![format!("ns/{}", "a".repeat(317)); 16].join(", ");
    let source = format!("serviceAccounts: [{accounts}], notServiceAccounts: [{accounts}]");
    accepted(&named("default", "p", &format!("{{ rules: [{{ from: [{{ source: {{ {source} }} }}] }}] }}")));
    let condition = format!("key: source.serviceAccount, values: [{accounts}]");
    accepted(&named("default", "p", &format!("{{ rules: [{{ when: [{{ {condition} }}] }}] }}")));
    values_accepted("from: [{ source: { serviceAccounts: [VALUE] } }]", &["a", "a/b", "a.b/c-d", &"a".repeat(320)]);
}

#[test]
fn service_accounts_beside_other_fields_than_principals_and_namespaces() {
    let source = "serviceAccounts: [a], trustDomains: [td], ipBlocks: [10.0.0.0/8], requestPrincipals: ['*']";
    accepted(&named("default", "p", &format!("{{ rules: [{{ from: [{{ source: {{ {source} }} }}] }}] }}")));
    let separately = "[{ source: { serviceAccounts: [a] } }, { source: { principals: [b] } }]";
    accepted(&named("default", "p", &format!("{{ rules: [{{ from: {separately} }}] }}")));
}

#[test]
fn ports() {
    let ports = ["0", "1", "80", "65535", "080", "0000000000080"];
    values_accepted("to: [{ operation: { ports: [VALUE] } }]", &ports);
    values_accepted("when: [{ key: destination.port, notValues: [VALUE] }]", &ports);
}

#[test]
fn addresses_and_networks() {
    let addresses = [
        "10.1.2.3",
        "0.0.0.0",
        "10.1.2.3/8",
        "0.0.0.0/0",
        "10.0.0.0/32",
        "::",
        "::1",
        "::/0",
        "2001:db8::1/32",
        "::1/128",
        "::ffff:10.0.0.1",
        "::ffff:10.0.0.0/104",
        "2001:DB8::1",
        "1:2:3:4:5:6:7:8",
        "64:ff9b::192.0.2.1",
    ];
    for field in ["ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks"] {
        values_accepted(&format!("from: [{{ source: {{ {field}: [VALUE] }} }}]"), &addresses);
    }
    for key in ["source.ip", "remote.ip", "destination.ip"] {
        values_accepted(&format!("when: [{{ key: {key}, values: [VALUE] }}]"), &addresses);
    }
}

#[test]
fn an_ipv6_address_with_a_zone_is_an_address() {
    // Go's netip.ParseAddr accepts a zone after an address without a prefix length, and so does Istio's admission
    // check.
    values_accepted("from: [{ source: { ipBlocks: [VALUE] } }]", &["fe80::1%eth0"]);
}

#[test]
fn paths_and_templates() {
    let paths = [
        "*",
        "/",
        "/a",
        "/a*",
        "*a",
        "/a*b",
        "a",
        "/a//b",
        "//",
        "/a b",
        "/é",
        "/a?b",
        "/a#b",
        "/[a]",
        "/a/",
        "/{*}",
        "/{**}",
        "/a/{*}",
        "/{*}/b/{*}/",
        "/a/{**}/b/c",
        "/{*}/{**}",
        "/a-b._~%!$&'()+,;:@=/{*}",
        "/{*}/{*}/{*}/{*}/{*}/{*}",
    ];
    values_accepted("to: [{ operation: { paths: [VALUE] } }]", &paths);
    values_accepted("to: [{ operation: { notPaths: [VALUE] } }]", &paths);
    // Envoy takes templates of 256 bytes, in which an operator has no braces.
    let longest = format!("/{{*}}/{}/{{**}}", "a".repeat(250));
    values_accepted("to: [{ operation: { paths: [VALUE] } }]", &[&longest, &format!("/{}", "a".repeat(400))]);
}

#[test]
fn trust_domains() {
    let domains = ["*", "td", "td*", "*td", "*.example.org", "a.b-c"];
    values_accepted("from: [{ source: { trustDomains: [VALUE] } }]", &domains);
    values_accepted("when: [{ key: source.trustDomain, values: [VALUE] }]", &domains);
    values_accepted("when: [{ key: source.trustDomain, values: [VALUE] }]", &["td/ns", "*/x", "/"]);
}

#[test]
fn texts_take_anything_but_nothing() {
    let texts = [" ", "*", "**", "a*b", "\n", "\u{0}", "é", "[", "{x}", "a/b/c/d/e/f"];
    for before in [
        "from: [{ source: { principals: [VALUE] } }]",
        "from: [{ source: { notRequestPrincipals: [VALUE] } }]",
        "from: [{ source: { namespaces: [VALUE] } }]",
        "to: [{ operation: { hosts: [VALUE] } }]",
        "to: [{ operation: { notMethods: [VALUE] } }]",
        "when: [{ key: connection.sni, values: [VALUE] }]",
        "when: [{ key: 'request.headers[a]', values: [VALUE] }]",
        "when: [{ key: 'request.auth.claims[a][b]', notValues: [VALUE] }]",
        "when: [{ key: 'experimental.envoy.filters.a.b[c]', values: [VALUE] }]",
    ] {
        values_accepted(before, &texts);
    }
}

#[test]
fn condition_keys() {
    for key in [
        "source.namespace",
        "source.serviceAccount",
        "source.principal",
        "source.trustDomain",
        "request.auth.principal",
        "request.auth.audiences",
        "request.auth.presenter",
        "connection.sni",
        "request.headers[a]",
        "request.headers[:path]",
        "request.headers[a][b]",
        "request.auth.claims[a]",
        "request.auth.claims[a][b][c]",
        "request.auth.claims[a[b]",
        "experimental.envoy.filters.a[b]",
        "experimental.envoy.filters.a.b.c[d][e]",
        "experimental.envoy.filters.[k]",
    ] {
        for values in ["values: [a]", "notValues: [a]", "values: [a], notValues: [b]"] {
            let rules = format!("[{{ when: [{{ key: '{key}', {values} }}] }}]");
            accepted(&policy("p", "AUDIT", &rules));
        }
    }
}

#[test]
fn what_custom_may_look_at() {
    let rule = "{ from: [{ source: { ipBlocks: [10.0.0.0/8], notRemoteIpBlocks: [10.0.0.0/9] } }], to: [{ operation: { \
                hosts: [a], methods: [GET], paths: ['/a'], ports: ['80'] } }], when: [{ key: 'request.headers[a]', \
                values: [b] }, { key: connection.sni, values: [a] }, { key: destination.ip, values: [10.0.0.1] }, { \
                key: 'experimental.envoy.filters.a[b]', values: [c] }] }";
    accepted(&named("default", "p", &format!("{{ action: CUSTOM, provider: {{ name: opa }}, rules: [{rule}] }}")));
}

#[test]
fn as_many_rules_sources_and_references_as_there_may_be() {
    accepted(&policy("p", "ALLOW", &format!("[{}]", vec!["{}"; 512].join(", "))));
    let sources = vec!["{ source: { principals: [a] } }"; 512].join(", ");
    accepted(&policy("p", "ALLOW", &format!("[{{ from: [{sources}] }}]")));
    let operations = vec!["{ operation: { methods: [A] } }"; 600].join(", ");
    accepted(&policy("p", "ALLOW", &format!("[{{ to: [{operations}] }}]")));
    let references = vec!["{ kind: Service, name: a }"; 16].join(", ");
    accepted(&named("default", "p", &format!("{{ targetRefs: [{references}] }}")));
}

#[test]
fn targets() {
    for reference in [
        "{ kind: Service, name: a }",
        "{ kind: Service, group: '', name: a }",
        "{ kind: Service, group: core, name: a }",
        "{ kind: Service, name: a, namespace: '' }",
        "{ kind: ServiceEntry, group: networking.istio.io, name: a }",
        "{ kind: Gateway, group: gateway.networking.k8s.io, name: a }",
        "{ kind: GatewayClass, group: gateway.networking.k8s.io, name: a }",
    ] {
        accepted(&named("default", "p", &format!("{{ targetRef: {reference} }}")));
        accepted(&named("default", "p", &format!("{{ targetRefs: [{reference}] }}")));
    }
}

#[test]
fn labels_of_a_selector() {
    accepted(&named(
        "default",
        "p",
        &format!("{{ selector: {{ matchLabels: {{ a: '', b.c/d: {} }} }} }}", "x".repeat(63)),
    ));
}

#[test]
fn dry_run_takes_what_go_takes_for_a_boolean() {
    for (value, dry_run) in [
        ("1", true),
        ("t", true),
        ("T", true),
        ("TRUE", true),
        ("true", true),
        ("True", true),
        ("0", false),
        ("f", false),
        ("F", false),
        ("FALSE", false),
        ("false", false),
        ("False", false),
    ] {
        for action in ["ALLOW", "DENY"] {
            let text = policy("p", action, "[{}]").replace(
                "namespace: default",
                &format!("namespace: default, annotations: {{ a: b, istio.io/dry-run: '{value}' }}"),
            );
            accepted(&text);
            assert_eq!(policies(&text)[0].dry_run, dry_run, "{value}");
        }
    }
}

#[test]
fn both_versions_and_what_a_cluster_adds() {
    for version in ["v1", "v1beta1"] {
        accepted(&policy("p", "ALLOW", "[{}]").replace("istio.io/v1", &format!("istio.io/{version}")));
    }
    accepted(
        r#"{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{"name":"p","namespace":"a",
            "uid":"x","generation":3,"creationTimestamp":"2024-01-01T00:00:00Z","managedFields":[{"manager":"kubectl"}],
            "labels":null,"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{}"},"finalizers":null},
            "spec":{},"status":{"conditions":[]}}"#,
    );
    accepted("{ apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: { name: p } }");
}

#[test]
fn names() {
    let longest = format!("{}.b", "a".repeat(251));
    for name in ["a", "'0'", "a-b.c-d", "'1.2'", &longest] {
        accepted(&named("default", name, "{}"));
    }
    accepted(&named(&"n".repeat(63), "p", "{}"));
}
