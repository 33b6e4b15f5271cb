//! Lints are silent about what people write on purpose, and not about the mistakes that look like it.

use crate::{findings, found, one_spelling, operation, paths, policy};

fn message(code: &str, text: &str) -> Option<String> {
    let found = findings(text, &one_spelling()).into_iter().find(|finding| finding.code == Some(code));
    found.map(|finding| finding.diagnostic.message)
}

const NO_TRACE: &str = "action: DENY, rules: [{ to: [{ operation: { methods: [TRACE] } }] }]";

fn deny(namespace: &str, target: &str) -> String {
    policy(&format!("{namespace}/p"), &format!("{{ {target}, {NO_TRACE} }}"))
}

fn istio_gateway(selector: &str, server: &str) -> String {
    format!(
        "---\n{{ apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {{ name: g, namespace: edge }}, spec: {{ selector: {{ \
         {selector} }}, servers: [{{ hosts: ['*'], {server} }}] }} }}\n"
    )
}

fn gateway(name: &str, listener: &str) -> String {
    format!(
        "---\n{{ apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{ name: {name}, namespace: edge }}, spec: {{ \
         gatewayClassName: istio, listeners: [{{ name: l, {listener} }}] }} }}\n"
    )
}

fn service(labels: &str, ports: &str) -> String {
    format!(
        "---\n{{ apiVersion: v1, kind: Service, metadata: {{ name: api, namespace: edge }}, spec: {{ selector: {{ {labels} }}, ports: \
         [{ports}] }} }}\n"
    )
}

/// What a gateway listens on, other resources say.
#[test]
fn gateways_have_tcp_traffic_only_if_a_gateway_says_so() {
    let selectors = [
        "istio: ingressgateway",
        "istio: egressgateway",
        "istio: public-gw",
        "app: istio-ingress",
        "app: istio-ingressgateway",
        "gateway.networking.k8s.io/gateway-name: web",
    ];
    let http = "port: { number: 443, name: https, protocol: HTTPS }, tls: { mode: SIMPLE, credentialName: c }";
    let tcp = [
        "port: { number: 5432, name: pg, protocol: TCP }",
        "port: { number: 443, name: tls, protocol: TLS }, tls: { mode: PASSTHROUGH }",
        "port: { number: 443, name: https, protocol: HTTPS }, tls: { mode: PASSTHROUGH }",
    ];
    for selector in selectors {
        let policy = deny("edge", &format!("selector: {{ matchLabels: {{ '{}' }} }}", selector.replace(": ", "': '")));
        assert_eq!(message("MA013", &policy), None, "{selector}");
        assert_eq!(message("MA013", &(policy.clone() + &istio_gateway(selector, http))), None, "{selector}");
        for tcp in tcp {
            let message = message("MA013", &(policy.clone() + &istio_gateway(selector, tcp))).unwrap();
            assert!(message.contains("of a Gateway), without its HTTP fields"), "{selector} {tcp}: {message}");
        }
    }
    for selector in ["app: api", "istio: eastwestgateway", "istio: pilot"] {
        let policy = deny("edge", &format!("selector: {{ matchLabels: {{ {selector} }} }}"));
        assert!(message("MA013", &policy).is_some(), "{selector}");
    }
    let own = deny("edge", "selector: { matchLabels: { role: front } }");
    assert_eq!(
        message("MA013", &(own + &istio_gateway("role: front", http))),
        None,
        "the input says that it is a gateway"
    );
    let reference =
        |name: &str| format!("targetRefs: [{{ group: gateway.networking.k8s.io, kind: Gateway, name: {name} }}]");
    for (listener, fires) in [
        ("port: 80, protocol: HTTP", false),
        ("port: 443, protocol: HTTPS", false),
        ("port: 5432, protocol: TCP", true),
        ("port: 443, protocol: TLS, tls: { mode: Passthrough }", true),
    ] {
        let by_label = deny("edge", "selector: { matchLabels: { gateway.networking.k8s.io/gateway-name: web } }");
        for policy in [deny("edge", &reference("web")), by_label] {
            assert_eq!(message("MA013", &(policy + &gateway("web", listener))).is_some(), fires, "{listener}");
        }
        let other = deny("edge", &reference("other"))
            + &gateway("web", listener)
            + &gateway("other", "port: 80, protocol: HTTP");
        assert_eq!(message("MA013", &other), None, "the listeners of another gateway");
    }
    assert_eq!(message("MA013", &deny("edge", &reference("elsewhere"))), None, "the input does not know the gateway");
}

#[test]
fn ports_that_are_declared_say_whether_there_is_tcp_traffic() {
    let policy = deny("edge", "selector: { matchLabels: { app: api } }");
    for (ports, expected) in [
        ("{ name: http, port: 80 }", None),
        ("{ name: http-api, port: 80 }, { name: grpc, port: 90 }", None),
        ("{ name: web, port: 80, appProtocol: http }", None),
        ("{ name: dns, port: 53, protocol: UDP }, { name: http, port: 80 }", None),
        ("{ name: http, port: 80 }, { name: tcp-db, port: 5432 }", Some(" (5432 of the Service `api`)")),
        ("{ name: mongo, port: 27017 }", Some(" (27017 of the Service `api`)")),
        ("{ name: http, port: 80, appProtocol: tcp }", Some(" (80 of the Service `api`)")),
        ("{ name: https, port: 443 }", Some(" (443 of the Service `api`)")),
        // Envoy finds out, and an application can get both.
        ("{ name: web, port: 80 }", Some("")),
        ("{ port: 80 }", Some("")),
        ("{ name: httpbin, port: 80 }", Some("")),
        ("", Some("")),
    ] {
        let expected = expected.map(|place| {
            format!("Istio also applies this rule to TCP ports{place}, without its HTTP fields: there, it refuses every connection")
        });
        assert_eq!(message("MA013", &(policy.clone() + &service("app: api", ports))), expected, "{ports}");
    }
    let other = service("app: other", "{ name: http, port: 80 }");
    assert!(message("MA013", &(policy.clone() + &other)).is_some(), "the Service of another workload");
    let all = policy_for_all() + &service("app: api", "{ name: http, port: 80 }");
    assert_eq!(message("MA013", &all), None);
    let by_reference = deny("edge", "targetRefs: [{ kind: Service, name: api }]");
    assert!(message("MA013", &by_reference).is_some());
    assert_eq!(message("MA013", &(by_reference + &service("app: api", "{ name: http, port: 80 }"))), None);
}

#[test]
fn an_allow_policy_that_leaves_a_tcp_port_to_nobody_is_found() {
    let allow = |name: &str, rules: &str| {
        policy(&format!("edge/{name}"), &format!("{{ selector: {{ matchLabels: {{ app: api }} }}, rules: [{rules}] }}"))
    };
    let get = "{ to: [{ operation: { methods: [GET] } }] }";
    let port = "{ to: [{ operation: { ports: ['5432'] } }] }";
    let mixed = "{ to: [{ operation: { ports: ['5432'] } }, { operation: { methods: [GET] } }] }";
    let (tcp, http) =
        (service("app: api", "{ name: tcp-db, port: 5432 }"), service("app: api", "{ name: http, port: 80 }"));
    let fires = |text: &str| message("MA051", text).map(|text| text.contains("no ALLOW rule"));
    assert_eq!(fires(&(allow("a", get) + &tcp)), Some(true));
    assert_eq!(fires(&(allow("a", get) + &http)), None);
    assert_eq!(fires(&allow("a", get)), None, "nothing says that there is a TCP port");
    assert_eq!(fires(&(allow("a", port) + &tcp)), None);
    assert_eq!(fires(&(allow("a", &format!("{get}, {port}")) + &tcp)), None);
    assert_eq!(fires(&(allow("a", get) + &allow("b", port) + &tcp)), None, "another policy is for TCP");
    assert_eq!(fires(&(allow("a", mixed) + &allow("b", port) + &tcp)), Some(false), "an operation that does not count");
    assert_eq!(fires(&(allow("a", mixed) + &http)), None);
    assert_eq!(fires(&(allow("a", "") + &tcp)), None, "allow-nothing is meant");
}

/// Nothing in such a namespace but gateways.
#[test]
fn a_namespace_of_gateways_is_like_a_gateway() {
    for (namespace, fires) in [("istio-ingress", false), ("istio-egress", false), ("gateways", false), ("shop", true)] {
        let all = policy(&format!("{namespace}/p"), &format!("{{ {NO_TRACE} }}"));
        assert_eq!(message("MA013", &all).is_some(), fires, "{namespace}");
    }
    let tcp = istio_gateway("istio: ingress", "port: { number: 5432, name: pg, protocol: TCP }");
    assert!(message("MA013", &(policy("istio-ingress/p", &format!("{{ {NO_TRACE} }}")) + &tcp)).is_some());
}

fn policy_for_all() -> String {
    policy("edge/p", &format!("{{ {NO_TRACE} }}"))
}

#[test]
fn gateways_in_an_ambient_namespace_are_envoys() {
    let ambient = "---\n{ apiVersion: v1, kind: Namespace, metadata: { name: edge, labels: { istio.io/dataplane-mode: ambient } } }\n";
    let fires =
        |target: &str| message("MA013", &(deny("edge", target) + ambient)).is_some_and(|text| text.contains("ztunnel"));
    assert!(fires("selector: { matchLabels: { app: api } }"));
    assert!(!fires("selector: { matchLabels: { istio: ingressgateway } }"));
    let pod = |labels: &str| {
        format!(
            "---\n{{ apiVersion: v1, kind: Pod, metadata: {{ name: api, namespace: edge, labels: {{ app: api, {labels} }} }} }}\n"
        )
    };
    let with = |labels: &str| {
        message("MA013", &(deny("edge", "selector: { matchLabels: { app: api } }") + ambient + &pod(labels))).unwrap()
    };
    assert!(with("v: x").contains("ztunnel"));
    assert!(!with("sidecar.istio.io/inject: 'true'").contains("ztunnel"), "this workload has a sidecar");
    let root = deny("istio-system", "selector: { matchLabels: { app: api } }")
        + &ambient.replace("name: edge", "name: istio-system");
    assert!(!message("MA013", &root).is_some_and(|text| text.contains("ztunnel")), "it is for other namespaces too");
}

fn for_all(action: &str, rules: &str) -> String {
    policy("istio-system/p", &format!("{{ action: {action}, rules: [{rules}] }}"))
}

#[test]
fn what_is_usual_for_the_whole_mesh() {
    let fires = |text: &str| !paths("MA023", text, &one_spelling()).is_empty();
    for rules in [
        "{ from: [{ source: { notPrincipals: ['*'] } }] }",
        "{ from: [{ source: { notNamespaces: ['*'] } }] }",
        "{ from: [{ source: { notTrustDomains: ['*'] } }] }",
        "{ from: [{ source: { notTrustDomains: [td1, td2] } }] }",
        "{ from: [{ source: { notPrincipals: ['td1/*'] } }] }",
        "{ from: [{ source: { notPrincipals: ['*'] } }], to: [{ operation: { notPorts: ['15021'] } }] }",
        "{ from: [{ source: { notPrincipals: ['*'], notIpBlocks: [10.0.0.0/8] } }] }",
        "{ when: [{ key: source.principal, notValues: ['*'] }] }",
        "{ when: [{ key: source.namespace, notValues: ['*'] }] }",
    ] {
        assert!(!fires(&for_all("DENY", rules)), "{rules}");
        assert!(fires(&for_all("ALLOW", rules)), "{rules}");
    }
    for rules in [
        "{}",
        "{ from: [{ source: { principals: ['*'] } }] }",
        "{ from: [{ source: { notNamespaces: [shop] } }] }",
        "{ from: [{ source: { notPrincipals: ['td1/ns/a/sa/b'] } }] }",
        "{ from: [{ source: { notRequestPrincipals: ['*'] } }] }",
        "{ from: [{ source: { notPrincipals: ['*'] } }, { source: { namespaces: [dev] } }] }",
        "{ from: [{ source: { notPrincipals: ['*'] } }] }, { to: [{ operation: { paths: ['/admin*'] } }] }",
    ] {
        assert!(fires(&for_all("DENY", rules)), "{rules}");
    }
    let nothing = policy("istio-system/nothing", "{}");
    for (rules, is_usual) in [
        ("{ from: [{ source: { namespaces: [istio-ingress] } }] }", true),
        ("{ from: [{ source: { principals: [cluster.local/ns/monitoring/sa/prometheus] } }] }", true),
        ("{ to: [{ operation: { paths: [/healthz] } }] }", true),
        ("{ from: [{ source: { principals: [cluster.local/ns/shop/sa/web] } }] }", false),
        ("{ to: [{ operation: { methods: [GET] } }] }", false),
        ("{}", false),
    ] {
        let allow = for_all("ALLOW", rules);
        assert!(fires(&allow), "without the default, it closes everything else: {rules}");
        assert_eq!(fires(&(allow + &nothing)), !is_usual, "{rules}");
    }
    let everything = "{}";
    assert!(!fires(&for_all("AUDIT", everything)), "it decides nothing");
    let dry = for_all("DENY", everything).replace("name: p,", "name: p, annotations: { istio.io/dry-run: 'true' },");
    assert!(!fires(&dry), "it decides nothing");
}

fn split(rules: &[&str]) -> Vec<String> {
    paths("MA038", &policy("shop/p", &format!("{{ rules: [{}] }}", rules.join(", "))), &one_spelling())
}

#[test]
fn alternatives_for_callers_who_may_do_everything() {
    let from = |source: &str| format!("{{ from: [{{ source: {{ {source} }} }}] }}");
    let to = |operation: &str| format!("{{ to: [{{ operation: {{ {operation} }} }}] }}");
    let callers = [
        "namespaces: [monitoring]",
        "principals: [cluster.local/ns/observability/sa/prometheus]",
        "serviceAccounts: [shop/admin]",
        "remoteIpBlocks: [203.0.113.0/24]",
        "ipBlocks: [10.8.0.0/16]",
    ];
    for caller in callers {
        let caller = from(caller);
        for what in ["hosts: [shop.example.com]", "paths: ['/catalogue*']", "methods: [GET], paths: ['/catalogue*']"] {
            assert_eq!(split(&[&caller, &to(what)]), [""; 0], "{caller} {what}");
            assert_eq!(split(&[&to(what), &caller]), [""; 0], "{caller} {what}");
        }
        for what in [
            "paths: ['/admin*']",
            "hosts: [grafana.example.com]",
            "paths: ['/internal-api/*']",
            "methods: [GET]",
            "ports: ['8080']",
        ] {
            assert_eq!(split(&[&caller, &to(what)]), ["spec.rules[1]"], "{caller} {what}");
        }
    }
    let web = from("principals: [cluster.local/ns/shop/sa/web]");
    for what in
        ["hosts: [cart.shop]", "paths: ['/catalogue*']", "methods: [GET]", "ports: ['8080']", "paths: ['/admin*']"]
    {
        assert_eq!(split(&[&web, &to(what)]), ["spec.rules[1]"], "{what}");
    }
    for what in [
        "hosts: [www.example.com]",
        "ports: ['9090']",
        "ports: ['9443']",
        "paths: ['/validate-pods']",
        "paths: [/mutate]",
    ] {
        let expected: &[&str] = if what.contains("validate-") { &["spec.rules[1]"] } else { &[] };
        assert_eq!(split(&[&web, &to(what)]), expected, "{what}");
    }
    let own = from("namespaces: [shop]");
    assert_eq!(split(&[&to("paths: [/foo]"), &own]), ["spec.rules[0]"], "as Istio's documentation warns");
    let key =
        "{ to: [{ operation: { paths: ['/v1/*'] } }], when: [{ key: 'request.headers[x-api-key]', values: ['*'] }] }";
    assert_eq!(split(&[&own, key]), [""; 0], "who knows the key is a caller");
    let any = from("principals: ['*']");
    assert_eq!(
        split(&[&to("paths: ['/products*']"), &any]),
        [""; 0],
        "first what is open, then what needs an identity"
    );
    let whole = "{ from: [{ source: { namespaces: [a] } }], to: [{ operation: { paths: [/a] } }] }";
    assert_eq!(split(&[whole, &own, &to("paths: [/b]")]), [""; 0], "who writes one rule as a whole knows how");
}

#[test]
fn clients_may_connect_to_gateways_directly() {
    let by = |target: &str| {
        let spec = format!("{{ {target} rules: [{{ from: [{{ source: {{ ipBlocks: [203.0.113.0/24] }} }}] }}] }}");
        paths("MA020", &policy("edge/p", &spec), &one_spelling()).len()
    };
    assert_eq!(by(""), 1);
    assert_eq!(by("selector: { matchLabels: { app: api } },"), 1);
    assert_eq!(by("selector: { matchLabels: { istio: ingressgateway } },"), 0);
    assert_eq!(by("targetRefs: [{ group: gateway.networking.k8s.io, kind: Gateway, name: g }],"), 0);
    assert_eq!(
        by("targetRefs: [{ kind: Service, name: s }],"),
        0,
        "a waypoint does not know the address: MA047 says so"
    );
}

#[test]
fn methods_of_grpc_have_one_spelling() {
    let fires = |path: &str| {
        let text = operation("DENY", &format!("paths: ['{path}'], ports: ['8080']"));
        found(&text, &crate::LintContext::default()).into_iter().map(|(code, _)| code).collect::<Vec<_>>()
    };
    for path in ["/grpc.reflection.v1alpha.ServerReflection/*", "/shop.Cart/Empty", "/shop.v1.Cart/Get*"] {
        assert_eq!(fires(path), [""; 0], "{path}");
    }
    for path in ["/index.html", "/robots.txt", "/.env", "/api/openapi.json"] {
        assert_eq!(fires(path), ["MA019"], "{path}: no server reads a file with a slash at its end");
    }
    for path in ["/index.php", "/v1.2", "/shop.example/Admin", "/Admin/Users", "/a.b/c", "/shop.Cart/Empty/all"] {
        assert_eq!(fires(path), ["MA017", "MA019"], "{path}");
    }
}

#[test]
fn a_health_check_is_excluded_to_be_open() {
    let codes = |action: &str, field: &str, path: &str| {
        let spec = format!(
            "{{ action: {action}, rules: [{{ from: [{{ source: {{ principals: ['*'] }} }}], to: [{{ operation: {{ {field}: ['{path}'], \
             ports: ['8080'] }} }}] }}] }}"
        );
        let found = found(&policy("shop/p", &spec), &crate::LintContext::default()).into_iter().map(|(code, _)| code);
        found.filter(|code| ["MA017", "MA019"].contains(code)).collect::<Vec<_>>()
    };
    assert_eq!(codes("ALLOW", "notPaths", "/healthz"), [""; 0]);
    assert_eq!(codes("ALLOW", "notPaths", "/metrics"), ["MA017", "MA019"]);
    assert_eq!(codes("DENY", "paths", "/healthz"), ["MA017", "MA019"]);
}
