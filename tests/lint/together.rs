//! Lints that compare rules with each other.

use mesh_authz::engine::Combining;

use crate::{findings, one_spelling, paths, policy};

const GET: &str = "to: [{ operation: { methods: [GET], ports: ['80'] } }]";
const ANY: &str = "";

fn rules(action: &str, selector: &str, rules: &[&str]) -> String {
    let rules: Vec<_> = rules.iter().map(|rule| format!("{{ {rule} }}")).collect();
    format!("{{ action: {action}, {selector} rules: [{}] }}", rules.join(", "))
}

#[test]
fn an_allow_behind_a_deny_that_matches_as_much() {
    let fires = |deny: &str, allow: &str| {
        let text = policy("deny", &rules("DENY", "", &[deny])) + &policy("allow", &rules("ALLOW", "", &[allow]));
        !paths("MA001", &text, &one_spelling()).is_empty()
    };
    assert!(fires(ANY, GET));
    assert!(fires(ANY, ANY));
    assert!(fires(GET, GET));
    assert!(fires("to: [{ operation: { paths: ['/a*'] } }]", "to: [{ operation: { paths: ['/ab', '/ac/{*}'] } }]"));
    assert!(!fires("to: [{ operation: { paths: ['/a*'] } }]", "to: [{ operation: { paths: ['/ab', '/b'] } }]"));
    assert!(!fires(GET, ANY));
    assert!(!fires(GET, "to: [{ operation: { methods: [POST] } }]"));
    assert!(!fires("from: [{ source: { notPrincipals: ['*'] } }]", GET));
    assert!(fires(
        "from: [{ source: { notPrincipals: ['td/ns/a/sa/b'] } }]",
        "from: [{ source: { notPrincipals: ['td/*', '*/x'] } }], to: [{ operation: { methods: [GET] } }]"
    ));
}

#[test]
fn only_where_the_deny_applies_to_all_of_the_allows_workloads() {
    let allow = rules("ALLOW", "selector: { matchLabels: { app: a, v: x } },", &[GET]);
    let fires = |deny_name: &str, selector: &str| {
        let text = policy(deny_name, &rules("DENY", selector, &[ANY])) + &policy("shop/allow", &allow);
        !paths("MA001", &text, &one_spelling()).is_empty()
    };
    assert!(fires("shop/deny", ""));
    assert!(fires("istio-system/deny", ""));
    assert!(!fires("other/deny", ""));
    assert!(fires("shop/deny", "selector: { matchLabels: { app: a } },"));
    assert!(fires("istio-system/deny", "selector: { matchLabels: { v: x } },"));
    assert!(!fires("shop/deny", "selector: { matchLabels: { app: b } },"));
    assert!(!fires("shop/deny", "selector: { matchLabels: { app: a, v: x, w: z } },"));
    assert!(!fires("shop/deny", "targetRef: { kind: Service, name: s },"));
}

#[test]
fn several_rules_together_match_as_much() {
    let get = "to: [{ operation: { paths: ['/a', '/b/c'], methods: [GET] } }]";
    let parts = [
        "to: [{ operation: { paths: ['/a'] } }]",
        "to: [{ operation: { paths: ['/b/*'] } }], when: [{ key: 'request.headers[x]', values: [v] }]",
        "to: [{ operation: { paths: ['/b/*'] } }], when: [{ key: 'request.headers[x]', notValues: [v] }]",
    ];
    let deny =
        |parts: &[&str]| policy("deny", &rules("DENY", "", parts)) + &policy("allow", &rules("ALLOW", "", &[get]));
    assert_eq!(paths("MA001", &deny(&parts), &one_spelling()), ["spec.rules[0]"]);
    let found = findings(&deny(&parts), &one_spelling());
    let message = &found.iter().find(|found| found.code == Some("MA001")).unwrap().diagnostic.message;
    assert!(
        message.contains("rule 0 of default/deny, rule 1 of default/deny and rule 2 of default/deny together"),
        "{message}"
    );
    for left_out in 0..parts.len() {
        let rest: Vec<_> = parts.iter().enumerate().filter(|(n, _)| *n != left_out).map(|(_, part)| *part).collect();
        assert_eq!(paths("MA001", &deny(&rest), &one_spelling()), [""; 0], "without {left_out}");
    }
    let all = [get, parts[0], parts[1], parts[2]];
    let same = |action| paths("MA012", &policy("p", &rules(action, "", &all)), &one_spelling());
    assert_eq!((same("DENY"), same("ALLOW")), (vec!["spec.rules[0]".to_owned()], vec!["spec.rules[0]".to_owned()]));
}

/// Two rules make each other redundant, together with others. Whoever removes both opens or closes something.
#[test]
fn what_is_reported_can_be_removed_together() {
    let rule =
        |methods: &str, paths: &str| format!("to: [{{ operation: {{ methods: [{methods}], paths: [{paths}] }} }}]");
    let all = [
        rule("GET, PUT", "/a"),
        rule("PUT, POST", "/a"),
        rule("POST, GET", "/a"),
        rule("GET", "/b*"),
        rule("GET", "/b"),
    ];
    for action in ["ALLOW", "DENY"] {
        for turn in 0..all.len() {
            let turned: Vec<_> = all.iter().cycle().skip(turn).take(all.len()).map(String::as_str).collect();
            let found = paths("MA012", &policy("p", &rules(action, "", &turned)), &one_spelling());
            assert_eq!(found.len(), 2, "{turned:?} {found:?}");
            assert!(
                found.iter().all(|path| !turned[path[11..12].parse::<usize>().unwrap()].contains("/b*")),
                "{found:?}"
            );
        }
    }
}

#[test]
fn a_dry_run_and_the_other_combining_algorithm_make_nothing_unreachable() {
    let deny = policy("deny", &rules("DENY", "", &[ANY]));
    let allow = policy("allow", &rules("ALLOW", "", &[GET]));
    let tried = deny.replace("namespace: default", "namespace: default, annotations: { istio.io/dry-run: 'true' }");
    assert_eq!(paths("MA001", &(tried + &allow), &one_spelling()), [""; 0]);
    let mut permit = one_spelling();
    permit.mesh.combining = Combining::PermitOverrides;
    assert_eq!(paths("MA001", &(deny + &allow), &permit), [""; 0]);
}

#[test]
fn the_finding_points_at_the_deny() {
    let text = policy("deny", &rules("DENY", "", &[ANY])) + &policy("allow", &rules("ALLOW", "", &[GET]));
    let finding = &findings(&text, &one_spelling())[0];
    assert_eq!(finding.diagnostic.policy.as_deref(), Some("default/allow"));
    assert_eq!(finding.span.unwrap().start.line, 4);
    assert_eq!(finding.related[0].span.unwrap().start.line, 2);
}

/// The paths of the shadowed rules that are reported in a policy with these rules.
fn shadowed(action: &str, all: &[&str]) -> Vec<String> {
    paths("MA012", &policy("p", &rules(action, "", all)), &one_spelling())
}

#[test]
fn rules_that_another_one_makes_pointless() {
    let wide = "to: [{ operation: { paths: ['/api*'] } }]";
    let narrow = "to: [{ operation: { paths: ['/api/x'], methods: [GET] } }]";
    assert_eq!(shadowed("ALLOW", &[wide, narrow]), ["spec.rules[1]"]);
    assert_eq!(shadowed("ALLOW", &[narrow, wide]), ["spec.rules[0]"], "order does not matter: the wider one wins");
    assert_eq!(shadowed("DENY", &[wide, narrow]), ["spec.rules[1]"]);
    assert_eq!(shadowed("AUDIT", &[wide, narrow]), ["spec.rules[1]"]);
    assert_eq!(shadowed("ALLOW", &[narrow, narrow]), ["spec.rules[1]"], "of twins, the second");
    assert_eq!(shadowed("ALLOW", &[ANY, narrow, wide]), ["spec.rules[1]", "spec.rules[2]"]);
    let other = "to: [{ operation: { paths: ['/other'] } }]";
    assert_eq!(shadowed("ALLOW", &[wide, other]), [""; 0]);
}

#[test]
fn every_kind_of_value_can_be_wider_than_another() {
    let source = |fields: &str| format!("from: [{{ source: {{ {fields} }} }}]");
    let operation = |fields: &str| format!("to: [{{ operation: {{ {fields} }} }}]");
    let when = |key: &str, values: &str| format!("when: [{{ key: '{key}', values: [{values}] }}]");
    for (wide, narrow) in [
        (source("principals: ['*']"), source("namespaces: [a]")),
        (source("principals: ['td/*']"), source("principals: ['td/ns/a/sa/b']")),
        (source("principals: ['*/sa/b']"), source("principals: ['td/ns/a/sa/b']")),
        (source("namespaces: [a]"), source("principals: ['td/ns/a/sa/b']")),
        (source("namespaces: [a]"), source("serviceAccounts: ['a/b']")),
        (source("serviceAccounts: ['a/b']"), source("principals: ['td/ns/a/sa/b', 'other/ns/a/sa/b']")),
        (source("trustDomains: ['td']"), source("principals: ['td/ns/a/sa/b']")),
        (source("trustDomains: ['t*']"), source("principals: ['td/ns/a/sa/b']")),
        (source("ipBlocks: ['10.0.0.0/8']"), source("ipBlocks: ['10.1.0.0/16', '10.2.3.4']")),
        (source("remoteIpBlocks: ['::/0']"), source("remoteIpBlocks: ['2001:db8::/32']")),
        (source("requestPrincipals: ['i/*']"), source("requestPrincipals: ['i/s']")),
        (source("requestPrincipals: ['*']"), source("requestPrincipals: ['i/*']")),
        (operation("hosts: ['*.EXAMPLE']"), operation("hosts: ['a.example']")),
        (operation("ports: ['80', '81']"), operation("ports: ['80']")),
        (operation("paths: ['/a/{*}']"), operation("paths: ['/a/b']")),
        (operation("paths: ['/a/*']"), operation("paths: ['/a/{*}/b']")),
        (operation("notPaths: ['/a']"), operation("notPaths: ['/a*']")),
        (operation("notPaths: ['/a']"), operation("paths: ['/b']")),
        (operation("notMethods: [GET]"), operation("methods: [PUT, POST]")),
        (when("request.headers[x]", "'a*'"), when("request.headers[X]", "ab")),
        (when("request.auth.claims[x]", "'*'"), when("request.auth.claims[x]", "ab")),
        (when("connection.sni", "'*.b'"), when("connection.sni", "a.b")),
        (when("destination.ip", "10.0.0.0/8"), when("destination.ip", "10.0.0.1")),
        (when("experimental.envoy.filters.f[k]", "'[a*]'"), when("experimental.envoy.filters.f[k]", "'[ab]'")),
    ] {
        assert_eq!(shadowed("AUDIT", &[&wide, &narrow]), ["spec.rules[1]"], "{wide} is wider than {narrow}");
    }
    for (one, other) in [
        (source("principals: ['td/*']"), source("principals: ['td2/ns/a/sa/b']")),
        (source("namespaces: [a]"), source("namespaces: [b]")),
        (source("namespaces: [a]"), source("principals: ['td/ns/ab/sa/b']")),
        (source("trustDomains: ['td']"), source("principals: ['td2/ns/a/sa/b']")),
        (source("ipBlocks: ['10.0.0.0/16']"), source("ipBlocks: ['10.1.0.0/16']")),
        (source("ipBlocks: ['10.0.0.0/8']"), source("remoteIpBlocks: ['10.1.0.0/16']")),
        (source("ipBlocks: ['0.0.0.0/0']"), source("ipBlocks: ['2001:db8::/32']")),
        (operation("hosts: [a]"), operation("hosts: ['a:80']")),
        (operation("paths: ['/a/{*}']"), operation("paths: ['/a/b/c']")),
        (operation("paths: ['/a/*']"), operation("paths: ['/a']")),
        // A header can have both values, so a request that matches the second rule need not match the first.
        ("when: [{ key: 'request.headers[x]', notValues: [a] }]".to_owned(), when("request.headers[x]", "b")),
        (when("request.headers[x]", "'*'"), when("request.headers[y]", "b")),
        (when("request.auth.claims[x]", "'*'"), when("request.auth.claims[x][y]", "b")),
        (when("experimental.envoy.filters.f[k]", "'a*'"), when("experimental.envoy.filters.f[k]", "'[ab]'")),
    ] {
        assert_eq!(shadowed("AUDIT", &[&one, &other]), [""; 0], "{one} and {other}");
    }
}

#[test]
fn plaintext_that_something_else_refuses() {
    let deny = policy("deny", &rules("DENY", "", &["from: [{ source: { namespaces: [dev] } }]"]));
    let fires = |other: &str| !paths("MA003", &(deny.clone() + other), &one_spelling()).is_empty();
    assert!(fires(""));
    let identity = "from: [{ source: { principals: ['*'] } }]";
    assert!(!fires(&policy("other", &rules("ALLOW", "", &[identity]))), "only identities are allowed");
    assert!(fires(&policy("other", &rules("ALLOW", "", &[identity, GET]))), "plaintext may GET");
    assert!(!fires(&policy("other", "{}")), "nothing is allowed");
    assert!(fires(&policy("elsewhere/other", "{}")));
    assert!(fires(&policy("other", &rules("ALLOW", "selector: { matchLabels: { a: b } },", &[identity]))));
    let refuse = "from: [{ source: { notPrincipals: ['*'] } }]";
    assert!(!fires(&policy("other", &rules("DENY", "", &[refuse]))));
    assert!(fires(&policy("other", &rules("DENY", "", &[&format!("{refuse}, {GET}")]))), "only for GET");
}

#[test]
fn beside_a_deny_of_everything_the_other_denials_are_not_pointless() {
    assert_eq!(shadowed("DENY", &[ANY, GET]), [""; 0]);
    assert_eq!(shadowed("DENY", &[ANY, ANY]), ["spec.rules[1]"]);
    assert_eq!(shadowed("ALLOW", &[ANY, GET]), ["spec.rules[1]"]);
    let text = policy("deny", &rules("DENY", "", &[ANY, GET])) + &policy("allow", &rules("ALLOW", "", &[GET]));
    let hint = findings(&text, &one_spelling())[0].diagnostic.hint.clone().unwrap();
    assert!(hint.contains("and not the policy's other rules"), "{hint}");
}

/// Somebody has closed everything, beside a rule that permits everything. To replace the DENY would open everything.
#[test]
fn no_hint_replaces_a_deny_of_everything_beside_an_allow_of_everything() {
    let text = policy("kill-switch", &rules("DENY", "", &[ANY])) + &policy("everybody", &rules("ALLOW", "", &[ANY]));
    let found = findings(&text, &one_spelling());
    let hint = found.iter().find(|found| found.code == Some("MA001")).unwrap().diagnostic.hint.clone().unwrap();
    assert!(hint.starts_with("remove this ALLOW rule, and keep the DENY"), "{hint}");
    assert!(!hint.contains("replace"), "{hint}");
}

#[test]
fn providers_are_asked_one_by_one() {
    let custom = |name: &str, provider: &str| {
        policy(name, &format!("{{ action: CUSTOM, provider: {{ name: {provider} }}, rules: [{{ {GET} }}] }}"))
    };
    let fires = |one, other| !paths("MA012", &(custom("a", one) + &custom("b", other)), &one_spelling()).is_empty();
    assert!(fires("opa", "opa"));
    assert!(!fires("opa", "other"));
}

#[test]
fn one_source_by_identity_is_enough_for_plaintext_to_slip_past_it() {
    let mixed = "from: [{ source: { namespaces: [dev] } }, { source: { remoteIpBlocks: [203.0.113.7] } }]";
    let text = policy("p", &rules("DENY", "", &[mixed]));
    assert_eq!(paths("MA003", &text, &one_spelling()), ["spec.rules[0].from[0].source.namespaces"]);
    let not = "from: [{ source: { principals: [a/b] } }, { source: { notNamespaces: [dev] } }]";
    let text = policy("p", &rules("ALLOW", "", &[not]));
    assert_eq!(paths("MA004", &text, &one_spelling()), ["spec.rules[0].from[1].source.notNamespaces"]);
}

#[test]
fn many_alternatives_are_compared_clause_by_clause() {
    let sources =
        |most: usize| (0..most).map(|n| format!("{{ source: {{ namespaces: [n{n}] }} }},")).collect::<Vec<_>>();
    let paths =
        |most: usize| (0..most).map(|n| format!("{{ operation: {{ paths: ['/p{n}'] }} }},")).collect::<Vec<_>>();
    let rule = |most| format!("from: [{}], to: [{}]", sources(most).concat(), paths(most).concat());
    assert_eq!(shadowed("ALLOW", &[&rule(100), &rule(99)]), ["spec.rules[1]"]);
    assert_eq!(shadowed("ALLOW", &[&rule(99), &rule(100)]), ["spec.rules[0]"]);
}

#[test]
fn several_providers_for_one_workload() {
    let custom = |name: &str, provider: &str, selector: &str| {
        let spec = format!("{{ action: CUSTOM, provider: {{ name: {provider} }}, {selector} rules: [{{ {GET} }}] }}");
        policy(name, &spec)
    };
    let found = |one: &str, other: &str| {
        let found = findings(&format!("{one}{other}"), &one_spelling()).into_iter();
        found.filter(|finding| finding.code == Some("MA049")).collect::<Vec<_>>()
    };
    let app = "selector: { matchLabels: { app: a } },";
    let login = custom("shop/login", "login", "");
    let fires = |other: &str| found(&login, other).len();
    assert_eq!(fires(&custom("shop/other", "keys", "")), 1, "the later one, not both");
    assert_eq!(fires(&custom("shop/other", "keys", app)), 1);
    assert_eq!(fires(&custom("istio-system/other", "keys", "")), 1);
    assert_eq!(fires(&custom("shop/other", "login", app)), 0, "the same provider");
    assert_eq!(fires(&custom("other/other", "keys", "")), 0, "other workloads");
    assert_eq!(fires(&custom("shop/other", "keys", "targetRef: { kind: Service, name: s },")), 0);
    assert_eq!(fires(&policy("shop/other", &rules("DENY", "", &[GET]))), 0);
    let [one, other] = ["app", "tier"].map(|label| {
        custom(&format!("shop/{label}"), label, &format!("selector: {{ matchLabels: {{ {label}: a }} }},"))
    });
    assert_eq!(found(&one, &other).len(), 0, "perhaps no workload has both labels");

    let says = |provider: &str| found(&login, &custom("shop/other", provider, app))[0].diagnostic.message.clone();
    assert!(!says("keys").contains("mixes"), "{}", says("keys"));
    for provider in ["login-admin", "log"] {
        assert!(says(provider).contains("One name begins the other"), "{provider}: {}", says(provider));
    }
}
