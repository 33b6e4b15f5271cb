//! Lints that check one policy.

use crate::{found, one_spelling, operation, paths, policy, source};

fn rules(action: &str, rules: &str) -> String {
    policy("p", &format!("{{ action: {action}, rules: {rules} }}"))
}

#[test]
fn a_deny_rule_that_stops_all_tcp_traffic() {
    for rule in [
        "to: [{ operation: { methods: [GET] } }]",
        "to: [{ operation: { paths: [/a*] } }, { operation: { hosts: [b*] } }]",
        "from: [{ source: { requestPrincipals: ['*'] } }]",
        "from: [{ source: { principals: [a/b] } }, { source: { requestPrincipals: ['*'] } }]",
        "to: [{ operation: { ports: ['80'] } }, { operation: { methods: [GET] } }]",
        "when: [{ key: 'request.headers[a]', values: [b] }]",
        "from: [{ source: { notRemoteIpBlocks: [10.0.0.0/8] } }], to: [{ operation: { hosts: [a.example, 'a.example:*'] } }]",
        "from: [{ source: { notPrincipals: ['a/b'] } }], to: [{ operation: { methods: [GET] } }]",
        "from: [{ source: { notNamespaces: [a], requestPrincipals: ['*'] } }]",
        "from: [{ source: { principals: ['*'] } }], to: [{ operation: { methods: [GET] } }]",
        "from: [{ source: { ipBlocks: ['0.0.0.0/0'] } }], to: [{ operation: { methods: [GET] } }]",
        "to: [{ operation: { methods: [GET] } }], when: [{ key: source.ip, notValues: [10.0.0.1] }]",
    ] {
        assert_eq!(
            paths("MA013", &rules("DENY", &format!("[{{ {rule} }}]")), &one_spelling()),
            ["spec.rules[0]"],
            "{rule}"
        );
        assert_eq!(paths("MA013", &rules("ALLOW", &format!("[{{ {rule} }}]")), &one_spelling()), [""; 0], "{rule}");
    }
    for rule in [
        "",
        "from: [{ source: { principals: [a/b] } }]",
        "from: [{ source: { notIpBlocks: [10.0.0.0/8] } }]",
        "to: [{ operation: { methods: [GET], ports: ['80'] } }]",
        "to: [{ operation: { notPorts: ['80'] } }]",
        "from: [{ source: { notPrincipals: ['a/b'] } }]",
        "from: [{ source: { notPrincipals: ['a/b'] } }], to: [{ operation: { methods: [GET], ports: ['80'] } }]",
        "from: [{ source: { notPrincipals: ['a/b'], namespaces: [x] } }], to: [{ operation: { methods: [GET] } }]",
        "from: [{ source: { principals: [a/b] } }], to: [{ operation: { methods: [GET] } }]",
        "to: [{ operation: { methods: [GET] } }], when: [{ key: destination.port, values: ['80'] }]",
    ] {
        assert_eq!(paths("MA013", &rules("DENY", &format!("[{{ {rule} }}]")), &one_spelling()), [""; 0], "{rule}");
    }
}

/// ztunnel leaves HTTP fields out, and a source or an operation without any field matches nothing there.
#[test]
fn a_deny_rule_that_ztunnel_never_matches() {
    let namespace = |labels: &str| {
        format!("---\n{{ apiVersion: v1, kind: Namespace, metadata: {{ name: default, labels: {{ {labels} }} }} }}\n")
    };
    let message = |rule: &str, namespace: &str| {
        let found = crate::findings(&(rules("DENY", &format!("[{{ {rule} }}]")) + namespace), &one_spelling());
        found.into_iter().find(|finding| finding.code == Some("MA013")).map(|finding| finding.diagnostic.message)
    };
    let ambient = namespace("istio.io/dataplane-mode: ambient");
    for rule in [
        "to: [{ operation: { methods: [GET] } }]",
        "from: [{ source: { principals: [a/b] } }], to: [{ operation: { methods: [GET] } }]",
        "when: [{ key: 'request.headers[a]', values: [b] }]",
    ] {
        assert!(message(rule, &ambient).unwrap().contains("ztunnel"), "{rule}");
        assert!(
            !message(rule, &namespace("istio-injection: enabled")).is_some_and(|text| text.contains("ztunnel")),
            "{rule}"
        );
    }
    for rule in [
        "from: [{ source: { principals: [a/b] } }]",
        "to: [{ operation: { methods: [GET], ports: ['80'] } }]",
        "from: [{ source: { requestPrincipals: ['*'] } }, { source: { principals: [a/b] } }]",
    ] {
        assert_eq!(message(rule, &ambient), None, "{rule}");
    }
    let waypoint = policy(
        "p",
        "{ action: DENY, targetRef: { kind: Service, name: s }, rules: [{ to: [{ operation: { methods: [GET] } }] }] }",
    );
    let found = crate::findings(&(waypoint + &ambient), &one_spelling());
    let found = found.into_iter().find(|finding| finding.code == Some("MA013")).unwrap();
    assert!(!found.diagnostic.message.contains("ztunnel"), "a waypoint is an Envoy");
}

#[test]
fn rules_that_no_request_can_match() {
    let when = |conditions: &str| rules("AUDIT", &format!("[{{ when: [{conditions}] }}]"));
    for conditions in [
        "{ key: 'request.headers[x]', values: [a, b], notValues: ['*'] }",
        "{ key: 'request.headers[x]', values: [ab], notValues: ['a*'] }",
        "{ key: source.ip, values: [10.1.0.0/16], notValues: [10.0.0.0/8] }",
        "{ key: source.ip, values: [10.1.0.0/16] }, { key: source.ip, values: [10.2.0.0/16] }",
        "{ key: destination.port, values: ['1', '2'] }, { key: destination.port, values: ['3'] }",
        "{ key: connection.sni, values: ['a*'] }, { key: connection.sni, values: ['b*'] }",
        "{ key: source.principal, values: ['td/ns/a/sa/b'], notValues: ['td/*'] }",
    ] {
        assert_eq!(paths("MA002", &when(conditions), &one_spelling()), ["spec.rules[0]"], "{conditions}");
    }
    for conditions in [
        "{ key: 'request.headers[x]', values: [a], notValues: [b] }",
        // A header, or a list in a token, can have both values.
        "{ key: 'request.headers[x]', values: [a] }, { key: 'request.headers[x]', values: [b] }",
        "{ key: 'request.auth.claims[x]', values: [a] }, { key: 'request.auth.claims[x]', values: [b] }",
        "{ key: source.ip, values: [10.0.0.0/8], notValues: [10.1.0.0/16] }",
        "{ key: source.ip, values: [10.0.0.0/8] }, { key: source.ip, values: [10.1.0.0/16] }",
        "{ key: source.ip, values: [10.0.0.0/8] }, { key: remote.ip, values: [11.0.0.0/8] }",
        "{ key: connection.sni, values: ['a*'] }, { key: connection.sni, values: ['*b'] }",
        "{ key: source.namespace, values: [a] }, { key: source.namespace, values: [b] }",
    ] {
        assert_eq!(paths("MA002", &when(conditions), &one_spelling()), [""; 0], "{conditions}");
    }
    let half = "[{ to: [{ operation: { methods: [GET], notMethods: [GET] } }, { operation: { methods: [PUT] } }] }]";
    assert_eq!(paths("MA002", &rules("ALLOW", half), &one_spelling()), [""; 0], "another operation can match");
}

#[test]
fn metadata_and_selectors() {
    let dry_run = "{ apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: { name: p, annotations: { \
                   istio.io/dry-run: 'true' } } }";
    assert_eq!(found(dry_run, &one_spelling()), [("MA024", "metadata.annotations[\"istio.io/dry-run\"]".to_owned())]);
    assert_eq!(paths("MA024", &dry_run.replace("true", "false"), &one_spelling()), [""; 0]);
    for selector in ["{}", "{ matchLabels: {} }"] {
        let text = policy("p", &format!("{{ selector: {selector} }}"));
        assert_eq!(found(&text, &one_spelling()), [("MA025", "spec.selector".to_owned())], "{selector}");
    }
    let everywhere = policy("istio-system/p", "{ rules: [{}] }");
    assert_eq!(found(&everywhere, &one_spelling()), [("MA023", "metadata.namespace".to_owned())]);
    let nothing = policy("istio-system/p", "{}");
    assert_eq!(found(&nothing, &one_spelling()), [], "the recommended default");
    let deny = policy("istio-system/p", "{ action: DENY, rules: [{}] }");
    assert_eq!(found(&deny, &one_spelling()), [("MA023", "metadata.namespace".to_owned())]);
    let selected = policy("istio-system/p", "{ selector: { matchLabels: { a: b } } }");
    assert_eq!(found(&selected, &one_spelling()), []);
}

#[test]
fn lists_without_a_value() {
    for (text, path) in [
        (operation("ALLOW", "methods: [GET], paths: []"), "spec.rules[0].to[0].operation.paths"),
        (operation("ALLOW", "methods: [GET], notMethods: []"), "spec.rules[0].to[0].operation.notMethods"),
        (source("ALLOW", "namespaces: [a], ipBlocks: []"), "spec.rules[0].from[0].source.ipBlocks"),
        (
            rules("ALLOW", "[{ when: [{ key: source.ip, values: [], notValues: [10.0.0.1] }] }]"),
            "spec.rules[0].when[0].values",
        ),
    ] {
        assert_eq!(found(&text, &one_spelling()), [("MA026", path.to_owned())], "{text}");
    }
}

#[test]
fn an_author_who_knows_better_says_so() {
    let with = |codes: &str| {
        format!(
            "{{ apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{ name: p, annotations: {{ \
             mesh-authz/allow: '{codes}' }} }}, spec: {{ rules: [{{ to: [{{ operation: {{ methods: [get], paths: [a] \
             }} }}] }}] }} }}"
        )
    };
    let codes = |text: &str| found(text, &one_spelling()).into_iter().map(|(code, _)| code).collect::<Vec<_>>();
    assert_eq!(codes(&with("")), ["MA006", "MA009"]);
    assert_eq!(codes(&with("MA006")), ["MA009"]);
    assert_eq!(codes(&with(" ma009 ,MA006")), [""; 0]);
    let mut resources = crate::resources(&with("MA006, MA999"));
    resources.findings.extend(mesh_authz_cli::lint::lint(&resources, &one_spelling()));
    let errors: Vec<_> =
        resources.findings.iter().filter(|finding| finding.code.is_none()).map(ToString::to_string).collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("`MA999` is no lint"), "{errors:?}");
}

#[test]
fn alternatives_that_exclude_different_values_match_everything() {
    let fires = |clauses: &str| {
        let text = crate::policy("p", &format!("{{ rules: [{{ {clauses} }}] }}"));
        !crate::paths("MA037", &text, &crate::one_spelling()).is_empty()
    };
    for clauses in [
        "from: [{ source: { notNamespaces: [a] } }, { source: { notNamespaces: [b] } }]",
        "from: [{ source: { notNamespaces: [a, c] } }, { source: { namespaces: [d] } }, { source: { notNamespaces: [b] } }]",
        "to: [{ operation: { notPaths: [/a] } }, { operation: { notPaths: [/b] } }]",
        "to: [{ operation: { notPorts: ['80'] } }, { operation: { notPorts: ['81'] } }]",
        "to: [{ operation: { notMethods: [GET] } }, { operation: { notMethods: [PUT] } }]",
        "to: [{ operation: { notPaths: ['/a*'] } }, { operation: { notPaths: ['/b*', '/c'] } }]",
        "to: [{ operation: { methods: [GET, PUT] } }, { operation: { notMethods: [PUT] } }]",
        "from: [{ source: { notIpBlocks: [10.0.0.0/8] } }, { source: { notIpBlocks: [192.168.0.0/16] } }]",
        "from: [{ source: { notPrincipals: ['td/ns/a/sa/b'] } }, { source: { notPrincipals: ['td/ns/a/sa/c'] } }]",
        "from: [{ source: { notServiceAccounts: [a] } }, { source: { notServiceAccounts: [other/a] } }]",
        "to: [{ operation: { notPaths: [/a] } }] }, { to: [{ operation: { notPaths: [/b] } }]",
        "when: [{ key: source.namespace, notValues: [a] }] }, { from: [{ source: { notNamespaces: [b] } }]",
    ] {
        assert!(fires(clauses), "{clauses}");
    }
    for clauses in [
        "from: [{ source: { notNamespaces: [a, b] } }]",
        "from: [{ source: { notNamespaces: [a] } }, { source: { notNamespaces: [a, b] } }]",
        "from: [{ source: { notNamespaces: ['a*'] } }, { source: { notNamespaces: [ab] } }]",
        "from: [{ source: { notNamespaces: [a] } }, { source: { namespaces: [b] } }]",
        "from: [{ source: { notNamespaces: [a], ipBlocks: [10.0.0.1] } }, { source: { notNamespaces: [b] } }]",
        "to: [{ operation: { notPaths: [/a] } }, { operation: { notMethods: [GET] } }]",
        "to: [{ operation: { notPaths: ['/a/{*}'] } }, { operation: { notPaths: [/a/b] } }]",
        "from: [{ source: { notNamespaces: [a] } }], to: [{ operation: { notPaths: [/b] } }]",
        "to: [{ operation: { notPaths: ['/a*'] } }, { operation: { notPaths: ['/ab*'] } }]",
        "to: [{ operation: { notPaths: ['/a*'] } }, { operation: { notPaths: ['*b'] } }]",
        "to: [{ operation: { methods: [GET] } }, { operation: { notMethods: [GET, PUT] } }]",
        "from: [{ source: { notIpBlocks: [10.0.0.0/8] } }, { source: { notIpBlocks: [10.1.0.0/16] } }]",
        "from: [{ source: { notServiceAccounts: [a] } }, { source: { notServiceAccounts: [default/a] } }]",
        "to: [{ operation: { notPaths: [/a] } }] }, { from: [{ source: { namespaces: [x] } }], to: [{ operation: { notPaths: [/b] } }]",
        "when: [{ key: 'request.headers[x]', notValues: [a] }] }, { when: [{ key: 'request.headers[x]', notValues: [b] }]",
    ] {
        assert!(!fires(clauses), "{clauses}");
    }
}

const FROM: &str = "{ from: [{ source: { namespaces: [a] } }] }";
const TOKEN: &str = "{ from: [{ source: { requestPrincipals: ['*'] } }] }";

fn to(fields: &str) -> String {
    format!("{{ to: [{{ operation: {{ {fields} }} }}] }}")
}

fn when(key: &str) -> String {
    format!("{{ when: [{{ key: '{key}', values: [v] }}] }}")
}

/// The rules at which the lint about split rules fires.
fn split(action: &str, all: &[&str]) -> Vec<String> {
    paths("MA038", &rules(action, &format!("[{}]", all.join(", "))), &one_spelling())
}

#[test]
fn one_rule_that_a_dash_splits() {
    for fields in [
        "paths: ['/cart*']",
        "methods: [GET]",
        "hosts: [a.example]",
        "ports: ['8080']",
        "notPaths: ['/admin*']",
        "methods: [GET], paths: [/info]",
    ] {
        let to = to(fields);
        assert_eq!(split("ALLOW", &[FROM, &to]), ["spec.rules[1]"], "{fields}");
        assert_eq!(split("ALLOW", &[&to, FROM]), ["spec.rules[0]"], "{fields}");
        assert_eq!(split("ALLOW", &[FROM, &to, FROM, &to]), ["spec.rules[1]", "spec.rules[3]"], "{fields}");
        assert_eq!(split("DENY", &[FROM, &to]), [""; 0], "each part refuses");
        assert_eq!(split("ALLOW", &[&to]), [""; 0], "nothing was split off");
    }
    let (cart, header, claim) =
        (to("paths: [/cart]"), when("request.headers[x-version]"), when("request.auth.claims[groups]"));
    assert_eq!(split("ALLOW", &[FROM, &header]), ["spec.rules[1]"]);
    assert_eq!(split("ALLOW", &[FROM, &cart, &header]), ["spec.rules[1]", "spec.rules[2]"]);
    assert_eq!(split("ALLOW", &[TOKEN, &claim]), ["spec.rules[1]"], "the token alone is enough");
    assert_eq!(
        split("ALLOW", &[TOKEN, &claim.replace("when", "to: [{ operation: { methods: [GET] } }], when")]),
        ["spec.rules[1]"]
    );
}

#[test]
fn alternatives_that_are_meant() {
    let whole = "{ from: [{ source: { namespaces: [a] } }], to: [{ operation: { paths: ['/cart'] } }] }";
    for fields in [
        "paths: [/healthz]",
        "paths: ['/health/*', /metrics]",
        "paths: ['*/livez']",
        "paths: ['/.well-known/*']",
        "paths: [/grpc.health.v1.Health/Check]",
        "methods: [OPTIONS]",
        "methods: [GET], paths: [/login]",
        "ports: ['15021']",
    ] {
        let public = to(fields);
        assert_eq!(split("ALLOW", &[whole, &public]), [""; 0], "{fields}");
        assert_eq!(split("ALLOW", &[FROM, &public]), [""; 0], "{fields}");
        assert_eq!(split("ALLOW", &[&public, FROM]), [""; 0], "{fields}");
    }
    let cart = to("paths: ['/catalogue*']");
    assert_eq!(split("ALLOW", &[whole, &cart]), [""; 0]);
    assert_eq!(split("ALLOW", &[FROM, whole, &cart]), [""; 0], "they are not side by side");
    assert_eq!(split("ALLOW", &[TOKEN, &when("request.auth.claims[iss]")]), [""; 0], "another issuer");
    let shop = to("paths: ['/catalogue', '/search']");
    assert_eq!(split("ALLOW", &[&shop, TOKEN]), [""; 0], "what needs a token comes after what is open");
    assert_eq!(split("ALLOW", &[TOKEN, &shop]), ["spec.rules[1]"]);
    let with_health = to("paths: ['/catalogue', '/health']");
    assert_eq!(split("ALLOW", &[TOKEN, &with_health]), [""; 0], "a list of what is open");
    let subject = "{ from: [{ source: { requestPrincipals: ['https://i/s'] } }] }";
    assert_eq!(split("ALLOW", &[subject, &when("request.auth.claims[groups]")]), [""; 0], "one subject, or a group");
    let absent = "{ when: [{ key: 'request.headers[x-user]', notValues: ['*'] }] }";
    assert_eq!(split("ALLOW", &[FROM, absent]), [""; 0], "for requests that do not name a user");
    for key in ["source.principal", "request.auth.claims[groups]", "remote.ip", "request.headers[user-agent]"] {
        let text =
            when(key).replace("values: [v]", if key == "remote.ip" { "values: [10.0.0.1]" } else { "values: [v]" });
        assert_eq!(split("ALLOW", &[FROM, &text]), [""; 0], "{key}");
    }
}

#[test]
fn one_operation_that_a_dash_splits() {
    let fires = |action: &str, operations: &str| {
        paths("MA038", &rules(action, &format!("[{{ to: [{operations}] }}]")), &one_spelling())
    };
    for operations in [
        "{ operation: { methods: [POST] } }, { operation: { paths: ['/api/*'] } }",
        "{ operation: { paths: ['/api/*'] } }, { operation: { methods: [GET, POST] } }",
        "{ operation: { hosts: [a.example] } }, { operation: { paths: ['/api/*'] } }",
        "{ operation: { ports: ['8080'] } }, { operation: { methods: [DELETE] } }",
    ] {
        assert_eq!(fires("ALLOW", operations), ["spec.rules[0].to[1].operation"], "{operations}");
        assert_eq!(fires("DENY", operations), [""; 0], "{operations}");
    }
    for operations in [
        "{ operation: { methods: [GET], paths: [/a] } }, { operation: { paths: ['/api/*'] } }",
        "{ operation: { methods: [OPTIONS] } }, { operation: { paths: ['/api/*'] } }",
        "{ operation: { methods: [GET] } }, { operation: { paths: [/healthz] } }",
        "{ operation: { methods: [GET, HEAD] } }, { operation: { paths: ['/upload/*'] } }",
        "{ operation: { paths: ['/upload/*'] } }, { operation: { methods: [GET] } }",
        "{ operation: { paths: [/a] } }, { operation: { paths: [/b] } }",
        "{ operation: { ports: ['9090'] } }, { operation: { paths: [/b] } }",
    ] {
        assert_eq!(fires("ALLOW", operations), [""; 0], "{operations}");
    }
}

#[test]
fn one_source_that_a_dash_splits() {
    let fires = |action: &str, sources: &str| {
        paths(
            "MA038",
            &rules(action, &format!("[{{ from: [{sources}], to: [{{ operation: {{ methods: [GET] }} }}] }}]")),
            &one_spelling(),
        )
    };
    for sources in [
        "{ source: { principals: ['*'] } }, { source: { namespaces: [shop] } }",
        "{ source: { namespaces: [shop] } }, { source: { principals: ['*'] } }",
        "{ source: { principals: ['*'] } }, { source: { serviceAccounts: [shop/web] } }",
        "{ source: { namespaces: [shop] } }, { source: { namespaces: [shop], ipBlocks: [10.0.0.0/8] } }",
        "{ source: { requestPrincipals: ['*'] } }, { source: { requestPrincipals: ['*'], namespaces: [shop] } }",
        "{ source: { principals: [a/ns/b/sa/c] } }, { source: { namespaces: [b] } }",
    ] {
        assert_eq!(fires("ALLOW", sources).len(), 1, "{sources}");
        assert_eq!(fires("DENY", sources), [""; 0], "{sources}");
    }
    for sources in [
        "{ source: { namespaces: [shop] } }, { source: { ipBlocks: [10.0.0.0/8] } }",
        "{ source: { namespaces: [shop] } }, { source: { requestPrincipals: ['*'] } }",
        "{ source: { principals: ['*'] } }, { source: { requestPrincipals: ['*'] } }",
        "{ source: { namespaces: [shop] } }, { source: { namespaces: [web] } }",
        "{ source: { namespaces: [shop, web] } }, { source: { namespaces: [web] } }",
        "{ source: { principals: [a/ns/b/sa/c], requestPrincipals: ['*'] } }, { source: { namespaces: [d] } }",
    ] {
        assert_eq!(fires("ALLOW", sources), [""; 0], "{sources}");
    }
}
