//! Lints that compare policies with the other resources in the input.

use mesh_authz::engine::Custom;
use mesh_authz_cli::lint::LintContext;

use crate::{findings, found, one_spelling, paths, policy, source};

fn deployment(namespace: &str, labels: &str) -> String {
    format!(
        "---\n{{ apiVersion: apps/v1, kind: Deployment, metadata: {{ name: d, namespace: {namespace} }}, spec: {{ \
         template: {{ metadata: {{ labels: {labels} }} }} }} }}\n"
    )
}

fn selecting(namespace: &str, labels: &str) -> String {
    policy(&format!("{namespace}/p"), &format!("{{ selector: {{ matchLabels: {labels} }} }}"))
}

#[test]
fn selectors_are_held_against_workloads() {
    let fires = |policy: String, workload: String| paths("MA010", &(policy + &workload), &one_spelling());
    let at = |key: &str| vec![format!("spec.selector.matchLabels.{key}")];
    assert_eq!(fires(selecting("shop", "{ app: a }"), deployment("shop", "{ app: a, v: x }")), [""; 0]);
    let elsewhere = deployment("other", "{ app: b }");
    assert_eq!(fires(selecting("shop", "{ app: a }"), elsewhere), [""; 0], "the workloads of shop are in other files");
    assert_eq!(fires(selecting("istio-system", "{ app: a }"), deployment("other", "{ app: a }")), [""; 0]);
    let tool = deployment("tools", "{ app: tool }");
    assert_eq!(fires(selecting("istio-system", "{ istio: ingressgateway }"), tool.clone()), [""; 0]);
    assert_eq!(fires(selecting("istio-system", "{ app: tol }"), tool), at("app"), "nearly a label that is known");
    assert_eq!(fires(selecting("shop", "{ app: a, v: z }"), deployment("shop", "{ app: a, v: x }")), at("v"));
    assert_eq!(fires(selecting("shop", "{ app: a }"), String::new()), [""; 0], "no workload is known");
    let apart = deployment("shop", "{ app: a }") + &deployment("shop", "{ v: x }");
    assert_eq!(fires(selecting("shop", "{ app: a, v: x }"), apart), ["spec.selector.matchLabels"]);
    for (kind, spec) in [
        ("Pod", "metadata: { name: d, namespace: shop, labels: { app: a } }"),
        ("WorkloadEntry", "metadata: { name: d, namespace: shop }, spec: { labels: { app: a } }"),
        ("WorkloadGroup", "metadata: { name: d, namespace: shop }, spec: { metadata: { labels: { app: a } } }"),
        (
            "CronJob",
            "metadata: { name: d, namespace: shop }, spec: { jobTemplate: { spec: { template: { metadata: { labels: { \
             app: a } } } } } }",
        ),
    ] {
        let workload = format!("---\n{{ apiVersion: v1, kind: {kind}, {spec} }}\n");
        assert_eq!(fires(selecting("shop", "{ app: a }"), workload.clone()), [""; 0], "{kind}");
        assert_eq!(fires(selecting("shop", "{ app: b }"), workload), at("app"), "{kind}");
    }
    let mut given = one_spelling();
    given.workload = Some(("shop".to_owned(), vec![("app".to_owned(), "a".to_owned())].into()));
    assert_eq!(paths("MA010", &selecting("shop", "{ app: a }"), &given), [""; 0]);
    assert_eq!(paths("MA010", &selecting("shop", "{ app: b }"), &given), at("app"));
}

#[test]
fn the_hint_names_the_label_that_is_near() {
    const THEN: &str = "What the policy allows then passes there";
    let hint = |policy: &str, labels: &str| {
        let text = selecting("shop", policy) + &deployment("shop", labels);
        crate::findings(&text, &one_spelling())[0].diagnostic.hint.clone().unwrap()
    };
    assert_eq!(hint("{ app: bakend }", "{ app: backend }"), format!("did you mean `backend`? {THEN}"));
    assert_eq!(hint("{ ap: backend }", "{ app: backend }"), format!("did you mean the label `app`? {THEN}"));
    assert_eq!(hint("{ app: cart }", "{ app: backend }"), "a workload in reach has `app: backend`");
    assert_eq!(hint("{ tier: x }", "{ app: backend }"), "no workload in namespace `shop` has a label `tier`");
}

fn request_authentication(namespace: &str, selector: &str) -> String {
    format!(
        "---\n{{ apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: {{ name: r, namespace: \
         {namespace} }}, spec: {{ {selector} jwtRules: [{{ issuer: i, jwksUri: 'https://i/jwks' }}] }} }}\n"
    )
}

#[test]
fn policies_about_tokens_need_something_that_verifies_them() {
    let source = source("ALLOW", "requestPrincipals: ['i/*']");
    let path = "spec.rules[0].from[0].source.requestPrincipals";
    assert_eq!(found(&source, &one_spelling()), [("MA021", path.to_owned())]);
    for (authentication, silent) in [
        (request_authentication("default", ""), true),
        (request_authentication("istio-system", ""), true),
        (request_authentication("other", ""), false),
        (request_authentication("default", "selector: { matchLabels: { a: b } },"), true),
    ] {
        let fires = paths("MA021", &(source.clone() + &authentication), &one_spelling());
        assert_eq!(fires.is_empty(), silent, "{authentication}");
    }
    let selected = policy(
        "p",
        "{ selector: { matchLabels: { a: c } }, action: DENY, rules: [{ when: [{ key: 'request.auth.claims[x]', notValues: [z] }] }] }",
    );
    let elsewhere = request_authentication("default", "selector: { matchLabels: { a: b } },");
    assert_eq!(paths("MA021", &(selected + &elsewhere), &one_spelling()), ["spec.rules[0].when[0].notValues"]);
}

fn peer_authentication(namespace: &str, spec: &str) -> String {
    format!(
        "---\n{{ apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {{ name: s, namespace: \
         {namespace} }}, spec: {{ {spec} }} }}\n"
    )
}

#[test]
fn where_plaintext_is_refused_nobody_slips_past() {
    let deny = source("DENY", "namespaces: [dev]");
    let allow = source("ALLOW", "notNamespaces: [dev]");
    let path = |field: &str| vec![format!("spec.rules[0].from[0].source.{field}")];
    assert_eq!(paths("MA003", &deny, &one_spelling()), path("namespaces"));
    assert_eq!(paths("MA004", &allow, &one_spelling()), path("notNamespaces"));
    for (authentication, silent) in [
        (peer_authentication("default", "mtls: { mode: STRICT }"), true),
        (peer_authentication("istio-system", "mtls: { mode: STRICT }"), true),
        (peer_authentication("default", "mtls: { mode: PERMISSIVE }"), false),
        (peer_authentication("other", "mtls: { mode: STRICT }"), false),
        (peer_authentication("default", "selector: { matchLabels: { a: b } }, mtls: { mode: STRICT }"), false),
        (
            peer_authentication("default", "mtls: { mode: STRICT }")
                + &peer_authentication(
                    "default",
                    "selector: { matchLabels: { a: b } }, mtls: { mode: STRICT }, portLevelMtls: { 80: { mode: DISABLE } }",
                ),
            false,
        ),
    ] {
        for (code, policy) in [("MA003", &deny), ("MA004", &allow)] {
            let fires = paths(code, &(policy.clone() + &authentication), &one_spelling());
            assert_eq!(fires.is_empty(), silent, "{code} {authentication}");
        }
    }
}

#[test]
fn the_strictness_of_one_namespace_is_not_that_of_all() {
    let deny = policy("istio-system/p", "{ action: DENY, rules: [{ from: [{ source: { namespaces: [dev] } }] }] }");
    let fires = |others: &str| !paths("MA003", &(deny.clone() + others), &one_spelling()).is_empty();
    assert!(fires(&peer_authentication("foo", "mtls: { mode: STRICT }")));
    assert!(!fires(&peer_authentication("istio-system", "mtls: { mode: STRICT }")));
    let own = source("DENY", "namespaces: [dev]")
        + &peer_authentication("istio-system", "mtls: { mode: PERMISSIVE }").replace("name: s", "name: root")
        + &peer_authentication("default", "mtls: { mode: STRICT }");
    assert_eq!(paths("MA003", &own, &one_spelling()), [""; 0], "the namespace's own counts");
    let gateway = policy(
        "p",
        "{ targetRef: { kind: Gateway, group: gateway.networking.k8s.io, name: g }, action: DENY, rules: [{ from: [{ source: { \
         namespaces: [dev] } }] }] }",
    ) + &peer_authentication("default", "mtls: { mode: STRICT }");
    assert_eq!(paths("MA003", &gateway, &one_spelling()).len(), 1, "a gateway's servers are their own");
}

#[test]
fn what_verifies_nothing_verifies_no_token() {
    let text = source("ALLOW", "requestPrincipals: ['i/*']")
        + "---\n{ apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: { name: r }, spec: {} }\n";
    assert_eq!(paths("MA021", &text, &one_spelling()).len(), 1);
}

fn document(head: &str) -> String {
    format!("---\n{{ {head}, metadata: {{ name: o }}, spec: {{}} }}\n")
}

#[test]
fn what_is_skipped_is_reported_once_for_each_kind() {
    let allow = policy("p", "{}");
    let alone = |text: &str| {
        let found = crate::findings(text, &one_spelling());
        assert!(found.iter().all(|finding| finding.code == Some("MA030")), "{found:#?}");
        found.into_iter().map(|finding| finding.diagnostic.message).collect::<Vec<_>>()
    };
    let reported = |text: &str| alone(&(allow.clone() + text));
    let secret = document("apiVersion: v1, kind: Secret");
    let config = document("apiVersion: v1, kind: ConfigMap");
    assert_eq!(reported(&secret), ["Secret of v1: skipped"]);
    assert_eq!(
        reported(&(secret.clone() + &config + &secret)),
        ["Secret of v1: skipped, 2 times", "ConfigMap of v1: skipped"]
    );
    assert_eq!(alone("---\n{ replicas: 3 }\n"), ["a document without `kind` and `apiVersion`: skipped"]);
    assert_eq!(alone("---\n{ kind: Odd }\n"), ["Odd without `apiVersion`: skipped"]);
    assert_eq!(alone("---\n{ apiVersion: v1 }\n"), ["a document of v1 without `kind`: skipped"]);
    assert_eq!(reported("---\n{ policies: [p.yaml], tests: [] }\n"), [""; 0], "a test file is for another command");
    for version_and_kind in [
        "v1, kind: Service",
        "v1, kind: ServiceAccount",
        "v1, kind: Namespace",
        "networking.istio.io/v1, kind: ServiceEntry",
        "networking.istio.io/v1, kind: Gateway",
        "gateway.networking.k8s.io/v1, kind: Gateway",
        "security.istio.io/v1, kind: PeerAuthentication",
    ] {
        assert_eq!(reported(&document(&format!("apiVersion: {version_and_kind}"))), [""; 0], "{version_and_kind}");
    }
    let knative = document("apiVersion: serving.knative.dev/v1, kind: Service");
    assert_eq!(reported(&knative), ["Service of serving.knative.dev/v1: skipped"]);
    for kind in ["Deployment", "Pod", "WasmPlugin", "TrafficExtension"] {
        assert_eq!(reported(&document(&format!("apiVersion: v1, kind: {kind}"))), [""; 0], "{kind}");
    }
    let accepted = secret.replace("name: o", "name: o, annotations: { mesh-authz/allow: MA030 }");
    assert_eq!(reported(&accepted), [""; 0]);
    assert_eq!(reported(&(accepted + &secret)), ["Secret of v1: skipped"]);
}

#[test]
fn keys_and_modules_come_over_tls_and_pinned() {
    let keys = |uri: &str| {
        let rules = format!("[{{ issuer: i, jwksUri: 'https://i/k' }}, {{ issuer: j, jwksUri: '{uri}' }}]");
        let text = request_authentication("default", "");
        paths("MA032", &text.replace("[{ issuer: i, jwksUri: 'https://i/jwks' }]", &rules), &one_spelling())
    };
    assert_eq!(keys("http://i/jwks"), ["spec.jwtRules[1].jwksUri"]);
    assert_eq!(keys("HTTP://i/jwks"), ["spec.jwtRules[1].jwksUri"]);
    assert_eq!(keys("https://i/jwks"), [""; 0]);
    for (issuer, fires) in [("http://i", vec!["spec.jwtRules[0].issuer"]), ("https://i", vec![])] {
        let text = request_authentication("default", "")
            .replace("issuer: i, jwksUri: 'https://i/jwks'", &format!("issuer: '{issuer}'"));
        assert_eq!(paths("MA032", &text, &one_spelling()), fires, "{issuer}: Istio asks the issuer for its keys");
    }

    let digest = "7d2032962f3cb0e326b523ab59b91f394a8ccacccdc15f48159480389a940bce";
    for (url, checksum, fires) in [
        ("http://h/f.wasm", "", true),
        ("https://h/f.wasm", "", true),
        ("oci://h/f:1", "", true),
        ("h/f:1", "", true),
        ("http://h/f.wasm", digest, false),
        ("oci://h/f:1", digest, false),
        (&format!("oci://h/f@sha256:{digest}"), "", false),
        (&format!("http://h/f.wasm?@sha256:{digest}"), "", true),
        (&format!("https://h/f.wasm@sha256:{digest}"), "", true),
        ("oci://h/f:1", "x", true),
        ("oci://h/f:1", &digest.to_uppercase(), true),
        ("file:///f.wasm", "", false),
    ] {
        for (kind, place) in [("WasmPlugin", "spec"), ("TrafficExtension", "spec.wasm")] {
            let module = format!("{{ url: '{url}', sha256: '{checksum}' }}");
            let spec = if place == "spec" { module } else { format!("{{ wasm: {module} }}") };
            let text = format!(
                "{{ apiVersion: extensions.istio.io/v1alpha1, kind: {kind}, metadata: {{ name: m }}, spec: {spec} }}\n"
            );
            let expected = if fires { vec![format!("{place}.url")] } else { vec![] };
            assert_eq!(paths("MA033", &text, &one_spelling()), expected, "{kind} {url} {checksum}");
        }
    }
}

#[test]
fn no_provider_can_be_asked() {
    let custom = policy("p", "{ action: CUSTOM, provider: { name: x }, rules: [{}] }");
    assert_eq!(paths("MA031", &custom, &one_spelling()), ["spec.provider"]);
    let mesh = |name: &str| {
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: istio, namespace: istio-system }}\ndata:\n  mesh: |\n    \
             extensionProviders: [{{ name: {name}, envoyExtAuthzHttp: {{ service: a.example, port: 80 }} }}]\n"
        )
    };
    // Somebody asks a provider that is known, unless it is known that nobody does.
    let asked = LintContext { custom: Custom::Native, ..one_spelling() };
    assert_eq!(paths("MA031", &custom, &asked), ["spec.provider"]);
    assert_eq!(paths("MA031", &(custom.clone() + &mesh("x")), &asked), [""; 0]);
    assert_eq!(paths("MA031", &(custom.clone() + &mesh("x")), &one_spelling()), ["spec.provider"]);
    let unknown = findings(&(custom.clone() + &mesh("xy")), &asked);
    let unknown = unknown.iter().find(|finding| finding.code == Some("MA031")).unwrap();
    assert!(unknown.diagnostic.message.contains("has no provider `x`"), "{unknown}");
}

#[test]
fn a_resource_that_loads_the_filter_closes_when_something_is_wrong() {
    let fires = |spec: &str| {
        let text = format!(
            "{{ apiVersion: extensions.istio.io/v1alpha1, kind: WasmPlugin, metadata: {{ name: m, namespace: n }}, spec: {{ \
             url: 'file:///f', {spec} }} }}\n"
        );
        paths("MA034", &text, &one_spelling())
    };
    let policy = "{ apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: { name: p }, spec: { selector: { \
                  matchLabels: { a: b } } } }";
    let with = |more: &str, config: &str| fires(&format!("{more}, pluginConfig: {{ {config}, policies: [{policy}] }}"));
    assert_eq!(with("phase: AUTHZ", "onInvalid: deny"), [""; 0]);
    assert_eq!(with("phase: AUTHZ, failStrategy: FAIL_OPEN", "onInvalid: deny"), ["spec.failStrategy"]);
    assert_eq!(with("phase: AUTHN", "onInvalid: deny"), ["spec.phase"]);
    assert_eq!(with("priority: 1", "onInvalid: deny"), ["spec"]);
    assert_eq!(with("phase: AUTHZ", "onInvalid: fail"), ["spec.pluginConfig.onInvalid"]);
    assert_eq!(with("phase: AUTHZ", "combining: x, onInvalid: deny"), ["spec.pluginConfig.combining"]);
    assert_eq!(fires("failStrategy: FAIL_OPEN"), [""; 0], "another filter");
    let mistake = fires("phase: AUTHZ, pluginConfig: { onInvalid: deny, policies: [{ kind: AuthorizationPolicy }] }");
    assert!(mistake.iter().all(|path| path.starts_with("spec.pluginConfig.policies[0]")) && !mistake.is_empty());
}

/// Lints about paths take what the input says of Envoy.
#[test]
fn a_mesh_configuration_says_how_paths_are_normalized() {
    let policy = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: a, namespace: default }\n\
        spec: { action: DENY, rules: [{ to: [{ operation: { paths: ['/admin*'], ports: ['80'] } }] }] }\n";
    let map = |normalization: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: istio, namespace: istio-system }}\n\
             data: {{ mesh: \"pathNormalization: {{ normalization: {normalization} }}\" }}\n{policy}"
        )
    };
    let check = |text: &str| {
        let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_mesh-authz"))
            .args(["check", file.path().to_str().unwrap()])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(check(policy).contains("MA019"));
    assert!(check(&map("BASE")).contains("MA019"));
    let decoded = check(&map("DECODE_AND_MERGE_SLASHES"));
    assert!(!decoded.contains("MA019") && !decoded.contains("MA030"), "{decoded}");
}
