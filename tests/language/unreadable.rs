//! Attributes that the host does not provide. They count against the request under every policy, and the decision names
//! them.

use mesh_authz::request::{Lookup, PeerName, Request};

use crate::support::{
    Outcome, allowed_by, allowed_by_default, decide, denied_by, denied_by_default, engine_with, get, options,
    permit_overrides, policy,
};

/// A request whose attributes are all unreadable.
fn dark() -> Request {
    Request::default()
        .peer_name(PeerName::Uri, Lookup::Unreadable)
        .peer_name(PeerName::Dns, Lookup::Unreadable)
        .peer_name(PeerName::Subject, Lookup::Unreadable)
        .sni(Lookup::Unreadable)
        .unreadable_headers()
        .encoded_metadata(Lookup::Unreadable)
}

const RULES: [(&str, &str); 16] = [
    ("source.principal", "[{ from: [{ source: { principals: [a] } }] }]"),
    ("source.principal", "[{ from: [{ source: { notPrincipals: [a] } }] }]"),
    ("source.principal", "[{ from: [{ source: { namespaces: [a] } }] }]"),
    ("source.principal", "[{ from: [{ source: { notServiceAccounts: [a] } }] }]"),
    ("source.principal", "[{ from: [{ source: { trustDomains: [a] } }] }]"),
    ("source.ip", "[{ from: [{ source: { ipBlocks: [10.0.0.0/8] } }] }]"),
    ("source.ip", "[{ from: [{ source: { notIpBlocks: [10.0.0.0/8] } }] }]"),
    ("remote.ip", "[{ from: [{ source: { remoteIpBlocks: [10.0.0.0/8] } }] }]"),
    ("destination.ip", "[{ when: [{ key: destination.ip, notValues: [10.0.0.0/8] }] }]"),
    ("destination.port", "[{ to: [{ operation: { notPorts: ['80'] } }] }]"),
    ("connection.sni", "[{ when: [{ key: connection.sni, values: [a] }] }]"),
    ("request.headers", "[{ to: [{ operation: { methods: [GET] } }] }]"),
    ("request.headers", "[{ to: [{ operation: { notPaths: ['/a/{*}'] } }] }]"),
    ("request.headers", "[{ when: [{ key: 'request.headers[x]', notValues: [a] }] }]"),
    ("metadata", "[{ from: [{ source: { notRequestPrincipals: ['*'] } }] }]"),
    ("metadata", "[{ when: [{ key: 'experimental.envoy.filters.x[k]', values: [a] }] }]"),
];

#[test]
fn whatever_is_unreadable_denies_and_the_decision_names_it() {
    for (attribute, rules) in RULES {
        for (action, expected) in [("ALLOW", denied_by_default()), ("DENY", denied_by("default/p", 0))] {
            for options in [options(), permit_overrides()] {
                let engine = engine_with(&options, &policy("p", action, rules));
                let request = dark();
                let decision = engine.decide(&request);
                assert_eq!(decision.unreadable.unwrap().to_string(), attribute, "{action} {rules}");
                assert_eq!(Outcome::from(decision), expected, "{action} {rules}");
            }
        }
    }
}

#[test]
fn what_no_policy_asks_for_may_be_unreadable() {
    for rules in ["[{}]", "[{ when: [] }]"] {
        assert_eq!(decide(&policy("p", "ALLOW", rules), &dark()), allowed_by("default/p", 0));
    }
    assert_eq!(decide("", &dark()), allowed_by_default());
    let engine = engine_with(&options(), &policy("p", "ALLOW", "[{}]"));
    assert_eq!(engine.decide(&dark()).unreadable, None);
}

#[test]
fn another_rule_that_can_be_read_still_allows() {
    let rules = "[{ from: [{ source: { ipBlocks: [10.0.0.0/8] } }] }, { to: [{ operation: { methods: [GET] } }] }]";
    assert_eq!(decide(&policy("p", "ALLOW", rules), &get("/")), allowed_by("default/p", 1));
}

#[test]
fn a_deny_rule_that_fails_elsewhere_does_not_match_for_an_unreadable_attribute() {
    let rules = "[{ from: [{ source: { ipBlocks: [10.0.0.0/8] } }], to: [{ operation: { methods: [PUT] } }] }]";
    assert_eq!(decide(&policy("p", "DENY", rules), &get("/")), allowed_by_default());
    assert_eq!(decide(&policy("p", "DENY", rules), &Request::new("PUT", "/")), denied_by("default/p", 0));
}

#[test]
fn values_and_not_values_of_one_unreadable_attribute_both_count_against_the_request() {
    let both = "[{ when: [{ key: source.ip, values: [10.0.0.0/8], notValues: [10.1.0.0/16] }] }]";
    assert_eq!(decide(&policy("p", "ALLOW", both), &get("/")), denied_by_default());
    assert_eq!(decide(&policy("p", "DENY", both), &get("/")), denied_by("default/p", 0));
}

#[test]
fn a_custom_rule_counts_as_a_deny() {
    let text = policy("p", "CUSTOM, provider: { name: opa }", "[{ from: [{ source: { ipBlocks: [10.0.0.0/8] } }] }]");
    assert_eq!(decide(&text, &get("/")), denied_by("default/p", 0));
}

#[test]
fn an_audit_rule_does_not_record_what_nobody_saw() {
    let engine = engine_with(&options(), &policy("p", "AUDIT", RULES[5].1));
    let request = get("/");
    assert_eq!(engine.decide(&request).audited, None);
}
