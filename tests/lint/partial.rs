//! What the input does not tell, no lint claims.

use crate::{found, one_spelling, paths, policy};

/// A Gateway in the namespace `edge`.
fn gateway(name: &str, class: &str) -> String {
    format!(
        "---\n{{ apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{ name: {name}, namespace: edge }}, spec: {{ \
         gatewayClassName: {class}, listeners: [{{ name: l, port: 80, protocol: HTTP }}] }} }}\n"
    )
}

#[test]
fn a_header_that_the_verified_token_sets_stands_for_the_token() {
    let fires = |rule: &str, header: &str| {
        let authentication = format!(
            "---\n{{ apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: {{ name: r, namespace: shop }}, spec: {{ \
             jwtRules: [{{ issuer: i, jwksUri: 'https://i/k', {rule} }}] }} }}\n"
        );
        let allow = format!("{{ rules: [{{ when: [{{ key: 'request.headers[{header}]', values: ['*'] }}] }}] }}");
        !paths("MA043", &(policy("shop/p", &allow) + &authentication), &one_spelling()).is_empty()
    };
    let claims = "outputClaimToHeaders: [{ header: x-user, claim: sub }]";
    assert!(!fires(claims, "X-User"));
    assert!(!fires("outputPayloadToHeader: x-payload", "x-payload"));
    assert!(fires(claims, "x-other"));
    assert!(fires("forwardOriginalToken: true", "x-user"));
}

#[test]
fn no_peer_in_plaintext_reaches_a_waypoint() {
    let fires = |target: &str| {
        let spec =
            format!("{{ {target}, action: DENY, rules: [{{ from: [{{ source: {{ namespaces: [dev] }} }}] }}] }}");
        let gateways = gateway("wp", "istio-waypoint") + &gateway("web", "istio");
        !paths("MA003", &(policy("edge/p", &spec) + &gateways), &one_spelling()).is_empty()
    };
    let reference = |kind: &str, name: &str| {
        format!("targetRefs: [{{ group: gateway.networking.k8s.io, kind: {kind}, name: {name} }}]")
    };
    assert!(fires("selector: { matchLabels: { app: api } }"));
    assert!(fires(&reference("Gateway", "web")));
    assert!(fires(&reference("Gateway", "elsewhere")));
    assert!(!fires(&reference("Gateway", "wp")));
    assert!(!fires("targetRefs: [{ kind: Service, name: api }]"));
}

#[test]
fn workloads_of_other_kinds_count() {
    let fires = |other: &str| {
        let selecting = policy("shop/p", "{ selector: { matchLabels: { app: cache } } }");
        let deployment = "---\n{ apiVersion: apps/v1, kind: Deployment, metadata: { name: d, namespace: shop }, spec: { template: { \
                          metadata: { labels: { app: web } }, spec: {} } } }\n---\n";
        !paths("MA010", &(selecting + deployment + other), &one_spelling()).is_empty()
    };
    let of = |version: &str, kind: &str, spec: &str| {
        format!(
            "{{ apiVersion: {version}, kind: {kind}, metadata: {{ name: o, namespace: shop }}, spec: {{ {spec} }} }}\n"
        )
    };
    let template =
        |label: &str| format!("template: {{ metadata: {{ labels: {{ app: {label} }} }}, spec: {{ containers: [] }} }}");
    assert!(!fires(&of("argoproj.io/v1alpha1", "Rollout", &template("cache"))));
    assert!(fires(&of("argoproj.io/v1alpha1", "Rollout", &template("other"))));
    assert!(!fires(&of("serving.knative.dev/v1", "Service", &template("cache"))));
    // Helm and operators make workloads that the input does not have.
    assert!(!fires(&of("helm.toolkit.fluxcd.io/v2", "HelmRelease", "chart: {}")));
    assert!(!fires(
        &of("helm.toolkit.fluxcd.io/v2", "HelmRelease", "targetNamespace: shop")
            .replace("namespace: shop", "namespace: flux-system")
    ));
    assert!(!fires(&of("redis.redis.opstreelabs.in/v1beta2", "Redis", "")));
    assert!(fires(&of("helm.toolkit.fluxcd.io/v2", "HelmRelease", "targetNamespace: other")));
    assert!(fires(&of("monitoring.coreos.com/v1", "ServiceMonitor", "")));
    assert!(fires(&of("rbac.authorization.k8s.io/v1", "Role", "")));
    assert!(fires(&of("v1", "ConfigMap", "")));
}

#[test]
fn names_and_claims_that_are_what_they_seem() {
    let claim = |key: &str, value: &str| {
        let spec = format!(
            "{{ action: AUDIT, rules: [{{ when: [{{ key: 'request.auth.claims{key}', values: ['{value}'] }}] }}] }}"
        );
        let codes = found(&policy("shop/p", &spec), &one_spelling()).into_iter().map(|(code, _)| code);
        codes.filter(|code| *code != "MA021").collect::<Vec<_>>()
    };
    assert_eq!(claim("[permissions]", "orders:*:read"), [""; 0], "a permission can have a star of its own");
    assert_eq!(claim("[permissions]", "orders*read"), ["MA015"]);
    assert_eq!(
        claim("[urn:zitadel:iam:org:project:roles][admin][164758230465]", "acme"),
        [""; 0],
        "the name of an organization"
    );
    assert_eq!(claim("[groups][0]", "acme"), ["MA041"]);
    let near = |from: &str| {
        let namespace = "---\n{ apiVersion: v1, kind: Namespace, metadata: { name: app } }\n";
        let policy = policy("app/p", &format!("{{ rules: [{{ from: [{{ source: {{ namespaces: [{from}] }} }}] }}] }}"));
        paths("MA044", &(policy + namespace), &one_spelling()).len()
    };
    assert_eq!(near("apps"), 0, "one and several are two names");
    assert_eq!(near("appp"), 1);
}

#[test]
fn labels_that_have_the_name_of_a_field() {
    let fires = |label: &str| {
        let spec = format!("{{ selector: {{ matchLabels: {{ app: a, {label} }} }}, rules: [{{}}] }}");
        !paths("MA028", &policy("shop/p", &spec), &one_spelling()).is_empty()
    };
    for label in ["action: DENY", "action: allow", "rules: a", "matchLabels: a"] {
        assert!(fires(label), "{label}");
    }
    for label in ["provider: stripe", "action: import", "role: rules"] {
        assert!(!fires(label), "{label}");
    }
}

#[test]
fn labels_that_no_workload_can_have() {
    let fires = |key: &str, value: &str| {
        let (key, value) = (serde_json::json!(key), serde_json::json!(value));
        let spec = format!("{{ selector: {{ matchLabels: {{ {key}: {value} }} }}, rules: [{{}}] }}");
        !paths("MA052", &policy("shop/p", &spec), &one_spelling()).is_empty()
    };
    let long = |length: usize| "a".repeat(length);
    for (key, value) in [
        ("app", "a b"),
        ("app", " a"),
        ("app", "-a"),
        ("app", "a."),
        ("app", "a/b"),
        ("app", "caf\u{e9}"),
        ("a b", "a"),
        ("-app", "a"),
        ("Example.com/app", "a"),
        ("example..com/app", "a"),
        ("/app", "a"),
        ("example.com/", "a"),
        ("a/b/c", "a"),
        (&long(64), "a"),
    ] {
        assert!(fires(key, value), "{key}: {value}");
    }
    for (key, value) in [
        ("app", "a"),
        ("app", "A_b.c-9"),
        ("app", &long(63)),
        ("app", ""),
        ("App", "a"),
        ("app.kubernetes.io/name", "a"),
        ("1-2.x/Y_z", "a"),
        (&format!("{}.{}/{}", long(63), long(189), long(63)), "a"),
    ] {
        assert!(!fires(key, value), "{key}: {value}");
    }
}

#[test]
fn the_help_about_plaintext_is_a_valid_policy() {
    let hint = |source: &str| {
        let text = crate::source("ALLOW", source);
        let found = crate::findings(&text, &one_spelling()).into_iter().find(|finding| finding.code == Some("MA004"));
        found.unwrap().diagnostic.hint.unwrap()
    };
    assert_eq!(hint("notNamespaces: [dev]"), "ask for an identity besides: `principals: [\"*\"]`");
    let condition = "{key: source.principal, values: [\"*\"]}";
    assert_eq!(hint("notServiceAccounts: [dev/web]"), format!("ask for an identity besides, in `when`: `{condition}`"));
    let applied =
        format!("{{ rules: [{{ from: [{{ source: {{ notServiceAccounts: [dev/web] }} }}], when: [{condition}] }}] }}");
    assert_eq!(found(&policy("p", &applied), &one_spelling()), []);
}

#[test]
fn clients_of_a_gateway_have_no_identity() {
    let warns = |name: &str, target: &str| {
        let spec = format!("{{ {target} action: DENY, rules: [{{ from: [{{ source: {{ namespaces: [dev] }} }}] }}] }}");
        let found = crate::findings(&policy(name, &spec), &one_spelling());
        let found = found.into_iter().find(|finding| finding.code == Some("MA003")).unwrap();
        found.diagnostic.hint.unwrap().contains("not at a gateway for clients from outside")
    };
    assert!(warns("istio-system/p", ""));
    assert!(warns("edge/p", "selector: { matchLabels: { istio: ingressgateway } },"));
    assert!(warns("edge/p", "targetRefs: [{ group: gateway.networking.k8s.io, kind: Gateway, name: web }],"));
    assert!(!warns("shop/p", ""));
    assert!(!warns("istio-system/p", "selector: { matchLabels: { app: api } },"));
}
