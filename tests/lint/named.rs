//! Lints that compare what policies name with the accounts, Services and Gateways in the input.

use crate::{findings, one_spelling, operation, paths, policy, source};

fn resource(kind: &str, name: &str, rest: &str) -> String {
    let (version, kind) = kind.rsplit_once(' ').unwrap();
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    format!(
        "---\n{{ apiVersion: {version}, kind: {kind}, metadata: {{ name: {name}, namespace: {namespace} }}, spec: {{ {rest} }} }}\n"
    )
}

fn account(name: &str) -> String {
    resource("v1 ServiceAccount", name, "")
}

fn fires(code: &str, text: &str) -> bool {
    !paths(code, text, &one_spelling()).is_empty()
}

fn hint(code: &str, text: &str) -> String {
    let found = findings(text, &one_spelling()).into_iter().find(|finding| finding.code == Some(code)).unwrap();
    let hint = found.diagnostic.hint.unwrap();
    hint.strip_suffix(", if the requests that it then matches are to pass").unwrap_or(&hint).to_owned()
}

#[test]
fn accounts_that_a_namespace_does_not_have() {
    let accounts = account("shop/web") + &account("default/job");
    for fields in [
        "principals: ['cluster.local/ns/shop/sa/api-caller']",
        "principals: ['*/ns/shop/sa/api-caller']",
        "principals: ['cluster.local/ns/shop/sa/api-*']",
        "serviceAccounts: [shop/api-caller]",
        "serviceAccounts: [web]",
        "notPrincipals: ['cluster.local/ns/shop/sa/wbe']",
    ] {
        assert!(fires("MA044", &(source("ALLOW", fields) + &accounts)), "{fields}");
        assert!(!fires("MA044", &source("ALLOW", fields)), "{fields}: no account is known");
    }
    for fields in [
        "principals: ['cluster.local/ns/shop/sa/web']",
        "principals: ['cluster.local/ns/shop/sa/w*']",
        "principals: ['cluster.local/ns/shop/sa/default']",
        "principals: ['cluster.local/ns/other/sa/api-caller']",
        "principals: ['elsewhere/ns/shop/sa/api-caller']",
        "principals: ['cluster.local/ns/shop/*', '*/sa/x']",
        "serviceAccounts: [shop/web, job]",
        "namespaces: [other]",
    ] {
        assert!(!fires("MA044", &(source("ALLOW", fields) + &accounts)), "{fields}");
    }
    let runs_as = resource(
        "apps/v1 Deployment",
        "shop/d",
        "template: { metadata: { labels: { app: a } }, spec: { serviceAccountName: api-caller } }",
    );
    let text = source("ALLOW", "serviceAccounts: [shop/api-caller]") + &accounts + &runs_as;
    assert!(!fires("MA044", &text), "a workload runs as it");
    let near = source("ALLOW", "principals: ['cluster.local/ns/shop/sa/wbe']") + &accounts;
    assert_eq!(hint("MA044", &near), "write `cluster.local/ns/shop/sa/web`");
    let other = source("ALLOW", "serviceAccounts: [shop/batch]") + &accounts;
    assert_eq!(hint("MA044", &other), "write the account of the caller; the input has `web`");
}

#[test]
fn namespaces_with_a_mistyped_name() {
    let namespace = |name: &str| format!("---\n{{ apiVersion: v1, kind: Namespace, metadata: {{ name: {name} }} }}\n");
    let wrong = |name: &str, known: &str| {
        fires("MA044", &(source("ALLOW", &format!("namespaces: [{name}]")) + &namespace(known)))
    };
    for (name, known) in [
        ("shp", "shop"),
        ("shoop", "shop"),
        ("shpo", "shop"),
        ("monitorng", "monitoring"),
        ("shop-backnd", "shop-backend"),
    ] {
        assert!(wrong(name, known), "{name} {known}");
    }
    for (name, known) in [
        ("shop", "shop"),
        ("team-a", "team-b"),
        ("prod1", "prod2"),
        ("prod", "prod2"),
        ("istio-ingress", "shop"),
        ("dev", "test"),
        ("shop-dev", "shop-prd"),
    ] {
        assert!(!wrong(name, known), "{name} {known}");
    }
    let own = policy("shp/p", "{}") + &namespace("shop");
    assert_eq!(paths("MA044", &own, &one_spelling()), ["metadata.namespace"], "nothing else is in it");
    assert!(!fires("MA044", &(own + &account("shp/web"))), "the input has it too");
    let both = source("ALLOW", "namespaces: [shp]") + &namespace("shop") + &account("shp/web");
    assert!(!fires("MA044", &both), "the input has it too");
    let principal = source("ALLOW", "principals: ['cluster.local/ns/shp/sa/web']") + &namespace("shop");
    assert_eq!(hint("MA044", &principal), "write `cluster.local/ns/shop/sa/web`");
}

fn service(selector: &str, rest: &str) -> String {
    resource("v1 Service", "s", &format!("selector: {{ {selector} }}, {rest}"))
}

#[test]
fn ports_of_services_and_of_workloads() {
    let on = |selector: &str, port: &str| {
        policy(
            "p",
            &format!(
                "{{ selector: {{ matchLabels: {{ {selector} }} }}, rules: [{{ to: [{{ operation: {{ ports: ['{port}'] }} }}] }}] }}"
            ),
        )
    };
    let pod = |ports: &str| {
        format!(
            "---\n{{ apiVersion: v1, kind: Pod, metadata: {{ name: w, labels: {{ app: a }} }}, spec: {{ containers: [{{ ports: \
             [{ports}] }}] }} }}\n"
        )
    };
    let wrong = |port: &str, rest: &str| fires("MA045", &(on("app: a", port) + rest));
    let plain = service("app: a", "ports: [{ port: 80, targetPort: 8080 }]");
    assert!(wrong("80", &plain));
    assert!(!wrong("8080", &plain));
    assert!(!wrong("9090", &plain), "no port of the Service");
    let other = service("app: b", "ports: [{ port: 80, targetPort: 8080 }]");
    assert!(!wrong("80", &other), "another workload");
    assert!(!wrong("80", &service("app: a", "ports: [{ port: 80 }]")));
    let headless = service("app: a", "clusterIP: None, ports: [{ port: 80, targetPort: 8080 }]");
    assert!(!wrong("80", &headless), "clients connect to the workload");
    let both = service("app: a", "ports: [{ port: 80, targetPort: 8080 }, { port: 8000, targetPort: 80 }]");
    assert!(!wrong("80", &both));
    assert!(!wrong("80", &(plain.clone() + &pod("{ containerPort: 80 }"))), "the workload listens on it too");
    let named = service("app: a", "ports: [{ port: 80, targetPort: http }]");
    assert!(!wrong("80", &named), "nothing says what the name means");
    assert!(wrong("80", &(named.clone() + &pod("{ name: http, containerPort: 8080 }"))));
    assert!(!wrong("80", &(named + &pod("{ name: http, containerPort: 80 }"))));
    let everywhere = operation("ALLOW", "ports: ['80']");
    assert!(fires("MA045", &(everywhere.clone() + &plain)));
    let other = resource("v1 Service", "t", "selector: { app: b }, ports: [{ port: 80, targetPort: 80 }]");
    assert!(!fires("MA045", &(everywhere + &plain + &other)), "it is the port of another workload");
    let waypoint =
        policy("p", "{ targetRef: { kind: Service, name: s }, rules: [{ to: [{ operation: { ports: ['80'] } }] }] }");
    assert!(!fires("MA045", &(waypoint + &plain)), "a waypoint sees the Service's port");
    let condition = policy("p", "{ rules: [{ when: [{ key: destination.port, notValues: ['80'] }] }] }");
    assert!(fires("MA045", &(condition + &plain)));
    assert_eq!(hint("MA045", &(on("app: a", "80") + &plain)), "write `8080`");
}

#[test]
fn targets_that_do_not_exist() {
    const API: &str = "gateway.networking.k8s.io";
    let target = |namespace: &str, group: &str, kind: &str, name: &str| {
        policy(
            &format!("{namespace}/p"),
            &format!("{{ targetRefs: [{{ group: '{group}', kind: {kind}, name: {name} }}], rules: [{{}}] }}"),
        )
    };
    let gateway = resource("gateway.networking.k8s.io/v1 Gateway", "edge/website", "");
    let istio = resource("networking.istio.io/v1 Gateway", "edge/website", "selector: { istio: ingressgateway }");
    let web = target("edge", API, "Gateway", "web");
    assert_eq!(paths("MA046", &(web.clone() + &gateway), &one_spelling()), ["spec.targetRefs[0].name"]);
    assert!(!fires("MA046", &web), "no Gateway is known");
    assert!(!fires("MA046", &(web + &istio)), "that is another kind");
    assert!(!fires("MA046", &(target("edge", API, "Gateway", "website") + &gateway)));
    assert!(!fires("MA046", &(target("shop", API, "Gateway", "web") + &gateway)), "those of shop are in other files");
    let service = resource("v1 Service", "edge/cart", "");
    assert!(fires("MA046", &(target("edge", "", "Service", "crt") + &service)));
    assert!(!fires("MA046", &(target("edge", "", "Service", "cart") + &service)));
    let entry = resource("networking.istio.io/v1 ServiceEntry", "edge/api", "");
    assert!(fires("MA046", &(target("edge", "networking.istio.io", "ServiceEntry", "apii") + &entry)));
    for (namespace, class, wrong) in
        [("edge", "istio-waypoint", true), ("istio-system", "istio-waypoint", false), ("istio-system", "istio", true)]
    {
        assert_eq!(fires("MA046", &target(namespace, API, "GatewayClass", class)), wrong, "{namespace} {class}");
    }
}

#[test]
fn selectors_of_gateways() {
    let selecting = |label: &str| {
        policy("istio-system/p", &format!("{{ selector: {{ matchLabels: {{ {label} }} }}, rules: [{{}}] }}"))
    };
    let istio = resource("networking.istio.io/v1 Gateway", "shop/g", "selector: { istio: ingressgateway }");
    let made = resource("gateway.networking.k8s.io/v1 Gateway", "shop/website", "");
    let workload =
        "---\n{ apiVersion: v1, kind: Pod, metadata: { name: w, namespace: istio-system, labels: { app: a } } }\n";
    assert!(fires("MA010", &(selecting("istio: ingresgateway") + &istio)));
    assert!(fires("MA010", &(selecting("'gateway.networking.k8s.io/gateway-name': webste") + &made)));
    for (label, gateway) in
        [("istio: ingressgateway", &istio), ("'gateway.networking.k8s.io/gateway-name': website", &made)]
    {
        assert!(!fires("MA010", &(selecting(label) + gateway + workload)), "{label}");
        assert!(fires("MA010", &(selecting(label) + workload)), "{label}");
    }
    assert!(!fires("MA010", &(selecting("istio: egressgateway") + &made)));
}
