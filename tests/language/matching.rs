//! When a policy matches: rules, sources, operations, conditions, and which rule is reported.

use mesh_authz::request::{Lookup, Request};

use crate::support::{
    allowed_by, allowed_by_default, decide, denied_by, denied_by_default, engine_with, get, named, options, policies,
    policy,
};

fn allows(rules: &str, request: &Request) -> bool {
    let outcome = decide(&policy("p", "ALLOW", rules), request);
    let denies = decide(&policy("p", "DENY", rules), request);
    let allowed = outcome.verdict == mesh_authz::engine::Verdict::Allow;
    assert_eq!(allowed, denies.by.is_some(), "a rule on readable attributes matches alike under both actions: {rules}");
    allowed
}

fn request() -> Request {
    get("/data").principal("cluster.local/ns/shop/sa/cart").header("x-a", "1").destination_port(Lookup::Value(80))
}

#[test]
fn a_rule_without_anything_matches_and_no_rule_never_does() {
    assert!(allows("[{}]", &request()));
    assert_eq!(decide(&named("default", "p", "{}"), &request()), denied_by_default());
    assert!(allows("[{ when: [] }]", &request()));
}

#[test]
fn any_rule_is_enough_and_the_rule_that_matches_is_named() {
    let rules = "[{ to: [{ operation: { methods: [PUT] } }] }, { to: [{ operation: { methods: [GET] } }] }]";
    assert_eq!(decide(&policy("p", "ALLOW", rules), &get("/")), allowed_by("default/p", 1));
    assert_eq!(decide(&policy("p", "DENY", rules), &get("/")), denied_by("default/p", 1));
    assert_eq!(decide(&policy("p", "DENY", rules), &Request::new("POST", "/")), allowed_by_default());
}

#[test]
fn sources_operations_and_conditions_must_all_match() {
    let part = |matches| if matches { "1" } else { "2" };
    for from in [true, false] {
        for to in [true, false] {
            for when in [true, false] {
                let rules = format!(
                    "[{{ from: [{{ source: {{ namespaces: [{}] }} }}], to: [{{ operation: {{ methods: [{}] }} }}], \
                     when: [{{ key: 'request.headers[x-a]', values: ['{}'] }}] }}]",
                    if from { "shop" } else { "bank" },
                    if to { "GET" } else { "PUT" },
                    part(when)
                );
                assert_eq!(allows(&rules, &request()), from && to && when, "{rules}");
            }
        }
    }
}

#[test]
fn any_source_and_any_operation_is_enough() {
    let source = |namespace| format!("{{ source: {{ namespaces: [{namespace}] }} }}");
    let operation = |method| format!("{{ operation: {{ methods: [{method}] }} }}");
    let from = |one, other| format!("[{{ from: [{}, {}] }}]", source(one), source(other));
    let to = |one, other| format!("[{{ to: [{}, {}] }}]", operation(one), operation(other));
    assert!(allows(&from("bank", "shop"), &request()));
    assert!(allows(&from("shop", "bank"), &request()));
    assert!(!allows(&from("bank", "post"), &request()));
    assert!(allows(&to("PUT", "GET"), &request()));
    assert!(!allows(&to("PUT", "POST"), &request()));
}

#[test]
fn every_field_of_a_source_or_operation_must_match() {
    let rows = [
        ("{ methods: [GET], paths: [/data] }", true),
        ("{ methods: [GET], paths: [/other] }", false),
        ("{ methods: [PUT], paths: [/data] }", false),
        ("{ methods: [GET], notPaths: [/other] }", true),
        ("{ methods: [GET], notPaths: [/data] }", false),
        ("{ methods: [GET], paths: [/data], hosts: [backend], ports: ['80'] }", true),
        ("{ methods: [GET], paths: [/data], hosts: [backend], ports: ['81'] }", false),
        ("{ paths: ['/d*'], notPaths: [/data] }", false),
        ("{ paths: ['/d*'], notPaths: [/dat] }", true),
    ];
    for (operation, expected) in rows {
        assert_eq!(allows(&format!("[{{ to: [{{ operation: {operation} }}] }}]"), &request()), expected, "{operation}");
    }
    let rows = [
        ("{ namespaces: [shop], principals: ['*/sa/cart'] }", true),
        ("{ namespaces: [shop], principals: ['*/sa/pay'] }", false),
        ("{ namespaces: [shop], notPrincipals: ['*/sa/pay'] }", true),
        ("{ namespaces: [shop], notPrincipals: ['*/sa/cart'] }", false),
    ];
    for (source, expected) in rows {
        assert_eq!(allows(&format!("[{{ from: [{{ source: {source} }}] }}]"), &request()), expected, "{source}");
    }
}

#[test]
fn an_empty_list_beside_a_field_is_no_field() {
    assert!(allows("[{ to: [{ operation: { methods: [GET], paths: [], notHosts: [] } }] }]", &request()));
    assert!(!allows("[{ to: [{ operation: { methods: [PUT], paths: [] } }] }]", &request()));
}

#[test]
fn a_not_field_matches_if_none_of_its_values_does() {
    let rows = [("[POST]", true), ("[GET]", false), ("[POST, PUT]", true), ("[POST, GET]", false), ("['*']", false)];
    for (methods, expected) in rows {
        let rules = format!("[{{ to: [{{ operation: {{ notMethods: {methods} }} }}] }}]");
        assert_eq!(allows(&rules, &request()), expected, "{methods}");
    }
}

#[test]
fn a_condition_holds_if_a_value_matches_and_no_not_value_does() {
    let rows = [
        ("values: ['1']", true),
        ("values: ['2']", false),
        ("values: ['2', '1']", true),
        ("notValues: ['2']", true),
        ("notValues: ['1']", false),
        ("notValues: ['2', '1']", false),
        ("values: ['1'], notValues: ['2']", true),
        ("values: ['1'], notValues: ['1']", false),
        ("values: ['2'], notValues: ['3']", false),
        ("values: ['*'], notValues: ['1*']", false),
        ("values: [], notValues: ['2']", true),
        ("values: ['1'], notValues: []", true),
    ];
    for (values, expected) in rows {
        let rules = format!("[{{ when: [{{ key: 'request.headers[x-a]', {values} }}] }}]");
        assert_eq!(allows(&rules, &request()), expected, "{values}");
    }
}

#[test]
fn every_condition_must_hold_even_two_on_one_attribute() {
    let two = |one: &str, other: &str| {
        format!(
            "[{{ when: [{{ key: 'request.headers[x-a]', values: ['{one}'] }}, {{ key: 'request.headers[x-a]', values: \
             ['{other}'] }}] }}]"
        )
    };
    assert!(allows(&two("1", "*"), &request()));
    assert!(!allows(&two("1", "2"), &request()));
    let both = request().header("x-a", "2");
    assert!(allows(&two("1", "2"), &both), "each of two values of the header satisfies one condition");
}

#[test]
fn a_not_field_on_something_absent_is_true() {
    let plaintext = get("/");
    for (rules, what) in [
        ("[{ from: [{ source: { notPrincipals: ['*'] } }] }]", "a peer"),
        ("[{ from: [{ source: { notNamespaces: [shop] } }] }]", "a namespace"),
        ("[{ from: [{ source: { notServiceAccounts: [cart] } }] }]", "a service account"),
        ("[{ from: [{ source: { notTrustDomains: [cluster.local] } }] }]", "a trust domain"),
        ("[{ from: [{ source: { notRequestPrincipals: ['*'] } }] }]", "a token"),
        ("[{ when: [{ key: 'request.headers[x-b]', notValues: ['*'] }] }]", "a header"),
        ("[{ when: [{ key: 'request.auth.claims[a]', notValues: ['*'] }] }]", "a claim"),
        ("[{ when: [{ key: connection.sni, notValues: ['*'] }] }]", "a server name"),
        ("[{ when: [{ key: 'experimental.envoy.filters.x[k]', notValues: ['*'] }] }]", "metadata"),
    ] {
        assert_eq!(decide(&policy("p", "DENY", rules), &plaintext), denied_by("default/p", 0), "without {what}");
        assert_eq!(decide(&policy("p", "ALLOW", rules), &plaintext), allowed_by("default/p", 0), "without {what}");
    }
}

#[test]
fn the_first_rule_in_the_order_of_ids_as_text_is_reported() {
    let other = "{ to: [{ operation: { methods: [PUT] } }] }";
    let eleven = ["{}"; 11].join(", ");
    let but_the_first = format!("[{other}, {}]", ["{}"; 10].join(", "));
    let nine = format!("[{other}, {}]", ["{}"; 9].join(", "));
    assert_eq!(decide(&policy("p", "DENY", &format!("[{eleven}]")), &get("/")), denied_by("default/p", 0));
    assert_eq!(
        decide(&policy("p", "DENY", &but_the_first), &get("/")),
        denied_by("default/p", 10),
        "`10]` before `1]`"
    );
    assert_eq!(decide(&policy("p", "DENY", &nine), &get("/")), denied_by("default/p", 1));
    let mut rules = ["{ to: [{ operation: { methods: [PUT] } }] }"; 11];
    rules[2] = "{}";
    rules[10] = "{}";
    let rules = format!("[{}]", rules.join(", "));
    assert_eq!(decide(&policy("p", "DENY", &rules), &get("/")), denied_by("default/p", 10), "`10]` before `2]`");
    assert_eq!(decide(&policy("p", "ALLOW", &rules), &get("/")), allowed_by("default/p", 10));
}

#[test]
fn the_order_of_ids_is_that_of_the_whole_text() {
    let any = |namespace: &str, name: &str| named(namespace, name, "{ action: DENY, rules: [{}] }");
    let rows = [
        (any("default", "b") + &any("default", "a"), "default/a"),
        (any("zoo", "a") + &any("ark", "b"), "ark/b"),
        // The bracket after a name sorts before lower-case letters and after digits, hyphens and dots.
        (any("a", "x") + &any("ab", "x"), "a/x"),
        (any("a", "x") + &any("a-b", "x"), "a-b/x"),
        (any("a", "x") + &any("a1", "x"), "a1/x"),
        (any("a", "p") + &any("a", "p.q"), "a/p.q"),
    ];
    for (policies, first) in rows {
        assert_eq!(decide(&policies, &get("/")), denied_by(first, 0));
    }
}

#[test]
fn a_rule_is_named_as_istio_names_it() {
    let engine = engine_with(&options(), &named("shop", "deny.all", "{ action: DENY, rules: [{}, {}] }"));
    let request = get("/");
    let rule = engine.decide(&request).outcome.rule().unwrap().to_string();
    assert_eq!(rule, "ns[shop]-policy[deny.all]-rule[0]");
    assert_eq!(engine.rule_count(), 2);
    assert_eq!(policies(&named("shop", "deny.all", "{}"))[0].name.to_string(), "shop/deny.all");
}
