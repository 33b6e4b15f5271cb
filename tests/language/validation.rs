//! Policies that are refused: each rule of Istio's admission check, with the message, the place and the hint.

use crate::support::{findings, named, policy};

/// The findings about a policy `default/p` with this spec, without the prefix that names the policy.
pub fn spec(spec: &str) -> Vec<String> {
    let about_p = |finding: String| finding.replace("policy default/p: ", "");
    findings(&named("default", "p", spec)).into_iter().map(about_p).collect()
}

pub fn refused(rows: &[(&str, &str)]) {
    for (text, expected) in rows {
        assert_eq!(spec(text), [*expected], "{text}");
    }
}

const GATEWAY: &str = "kind: Gateway, group: gateway.networking.k8s.io, name: g";
const ONLY_ONE: &str = "spec: only one of selector, targetRef and targetRefs may be set; a policy is for workloads or \
                        for gateways; split it in two";
const NO_TARGET: &str = "use Service (no group), ServiceEntry (group networking.istio.io), or Gateway or GatewayClass \
                         (group gateway.networking.k8s.io)";

#[test]
fn selector_and_references_exclude_each_other() {
    for text in [
        format!("{{ selector: {{ matchLabels: {{ a: b }} }}, targetRef: {{ {GATEWAY} }} }}"),
        format!("{{ selector: {{ matchLabels: {{ a: b }} }}, targetRefs: [{{ {GATEWAY} }}] }}"),
        format!("{{ targetRef: {{ {GATEWAY} }}, targetRefs: [{{ {GATEWAY} }}] }}"),
        "{ selector: { matchLabels: { a: b } }, targetRefs: [] }".to_owned(),
        format!("{{ targetRef: {{ {GATEWAY} }}, targetRefs: [] }}"),
    ] {
        assert_eq!(spec(&text), [ONLY_ONE], "{text}");
    }
}

#[test]
fn a_selector_names_labels() {
    refused(&[
        ("{ selector: { matchLabels: { '': x } } }", "spec.selector.matchLabels[\"\"]: a label needs a key"),
        (
            "{ selector: { matchLabels: { a: 'x*' } } }",
            "spec.selector.matchLabels.a: a selector takes no wildcard; name one label per workload instead",
        ),
        (
            "{ selector: { matchLabels: { 'a*': x } } }",
            "spec.selector.matchLabels[\"a*\"]: a selector takes no wildcard; name one label per workload instead",
        ),
    ]);
    let long = "x".repeat(64);
    assert_eq!(
        spec(&format!("{{ selector: {{ matchLabels: {{ a: {long} }} }} }}")),
        ["spec.selector.matchLabels.a: is longer than 63 characters"]
    );
}

#[test]
fn a_reference_names_something_that_can_be_a_target() {
    let too_long = format!("kind: Service, name: {}", "a".repeat(254));
    let bad_kind = |group: &str, kind: &str| {
        format!("spec.targetRef: `{kind}` of group `{group}` cannot be a target; {NO_TARGET}")
    };
    for (reference, expected) in [
        ("kind: Service", "spec.targetRef.name: is missing".to_owned()),
        ("kind: Service, name: ''", "spec.targetRef.name: must not be empty".to_owned()),
        ("name: x", "spec.targetRef.kind: is missing".to_owned()),
        (&too_long, "spec.targetRef.name: is longer than 253 characters".to_owned()),
        (
            "kind: Service, name: x, namespace: other",
            "spec.targetRef.namespace: a target in another namespace is not supported; remove the field".to_owned(),
        ),
        ("kind: Pod, name: x", bad_kind("", "Pod")),
        ("kind: service, name: x", bad_kind("", "service")),
        ("kind: Gateway, name: x", bad_kind("", "Gateway")),
        ("kind: Service, group: networking.istio.io, name: x", bad_kind("networking.istio.io", "Service")),
        ("kind: Gateway, group: networking.istio.io, name: x", bad_kind("networking.istio.io", "Gateway")),
        ("kind: Service, nmae: x, name: z", "spec.targetRef.nmae: unknown field, did you mean name?".to_owned()),
    ] {
        assert_eq!(
            spec(&format!("{{ targetRef: {{ {reference} }} }}")),
            std::slice::from_ref(&expected),
            "{reference}"
        );
        let in_list = expected.replace("spec.targetRef", "spec.targetRefs[0]");
        assert_eq!(spec(&format!("{{ targetRefs: [{{ {reference} }}] }}")), [in_list], "{reference}");
    }
    let many = vec![format!("{{ {GATEWAY} }}"); 17].join(", ");
    assert_eq!(
        spec(&format!("{{ targetRefs: [{many}] }}")),
        ["spec.targetRefs: has 17 entries, at most 16 are allowed; spread them over several policies"]
    );
}

#[test]
fn deny_and_custom_need_rules_and_custom_a_provider() {
    let rules =
        "spec.rules: DENY without rules never matches; add an empty rule, `rules: [{}]`, to match every request";
    refused(&[
        ("{ action: DENY }", rules),
        ("{ action: DENY, rules: [] }", rules),
        ("{ action: CUSTOM, provider: { name: opa } }", &rules.replace("DENY", "CUSTOM")),
        ("{ action: CUSTOM, rules: [{}] }", "spec.provider: is missing; CUSTOM asks a provider: name one"),
        ("{ action: CUSTOM, rules: [{}], provider: {} }", "spec.provider.name: must not be empty"),
        ("{ action: CUSTOM, rules: [{}], provider: { name: '' } }", "spec.provider.name: must not be empty"),
        ("{ provider: { name: opa } }", "spec.provider: ALLOW takes no provider; only CUSTOM does"),
        (
            "{ action: DENY, rules: [{}], provider: { name: opa } }",
            "spec.provider: DENY takes no provider; only CUSTOM does",
        ),
        ("{ action: AUDIT, provider: { name: opa } }", "spec.provider: AUDIT takes no provider; only CUSTOM does"),
    ]);
}

#[test]
fn an_action_is_one_of_four() {
    refused(&[
        ("{ action: Deny, rules: [{}] }", "spec.action: `Deny` is unknown; did you mean `DENY`?"),
        ("{ action: ALOW }", "spec.action: `ALOW` is unknown; did you mean `ALLOW`?"),
        ("{ action: '' }", "spec.action: `` is unknown; known here: ALLOW, DENY, AUDIT, CUSTOM"),
        ("{ action: REJECT }", "spec.action: `REJECT` is unknown; known here: ALLOW, DENY, AUDIT, CUSTOM"),
    ]);
}

#[test]
fn custom_cannot_look_at_identities_or_tokens() {
    let custom = |rule: &str| format!("{{ action: CUSTOM, provider: {{ name: opa }}, rules: [{rule}] }}");
    for (field, name) in [
        ("principals", "source.principal"),
        ("notPrincipals", "source.principal"),
        ("requestPrincipals", "request.auth.principal"),
        ("notRequestPrincipals", "request.auth.principal"),
        ("namespaces", "source.namespace"),
        ("notNamespaces", "source.namespace"),
        ("serviceAccounts", "source.serviceAccount"),
        ("notServiceAccounts", "source.serviceAccount"),
        ("trustDomains", "source.trustDomain"),
        ("notTrustDomains", "source.trustDomain"),
    ] {
        let expected =
            format!("spec.rules[0].from[0].source: CUSTOM cannot use {name}; let the provider look at the identity");
        assert_eq!(spec(&custom(&format!("{{ from: [{{ source: {{ {field}: [a] }} }}] }}"))), [expected], "{field}");
    }
    for (key, name) in [
        ("source.principal", "source.principal"),
        ("source.namespace", "source.namespace"),
        ("source.serviceAccount", "source.serviceAccount"),
        ("source.trustDomain", "source.trustDomain"),
        ("request.auth.principal", "request.auth.principal"),
        ("request.auth.audiences", "request.auth.claims[aud]"),
        ("request.auth.presenter", "request.auth.claims[azp]"),
        ("request.auth.claims[a][b]", "request.auth.claims[a][b]"),
    ] {
        let expected =
            format!("spec.rules[0].when[0].key: CUSTOM cannot use {name}; let the provider look at the identity");
        assert_eq!(spec(&custom(&format!("{{ when: [{{ key: '{key}', notValues: [a] }}] }}"))), [expected], "{key}");
    }
}

#[test]
fn from_to_source_and_operation_are_not_empty() {
    let empty = "must not be empty; name at least one field";
    let rows = [
        ("from: []", "from: must not be empty; remove `from` if anything may match".to_owned()),
        ("to: []", "to: must not be empty; remove `to` if anything may match".to_owned()),
        ("from: [{}]", "from[0].source: is missing".to_owned()),
        ("to: [{}]", "to[0].operation: is missing".to_owned()),
        ("from: [{ source: {} }]", format!("from[0].source: {empty}")),
        ("to: [{ operation: {} }]", format!("to[0].operation: {empty}")),
        ("from: [{ source: { principals: [] } }]", format!("from[0].source: {empty}")),
        ("to: [{ operation: { paths: [], notHosts: [] } }]", format!("to[0].operation: {empty}")),
        ("from: [{ source: { principals: [a] } }, { source: {} }]", format!("from[1].source: {empty}")),
    ];
    for (rule, expected) in rows {
        assert_eq!(spec(&format!("{{ rules: [{{ {rule} }}] }}")), [format!("spec.rules[0].{expected}")], "{rule}");
    }
}

#[test]
fn there_are_at_most_512_rules_and_sources() {
    let rules = vec!["{}"; 513].join(", ");
    refused(&[(
        &format!("{{ rules: [{rules}] }}"),
        "spec.rules: has 513 entries, at most 512 are allowed; spread them over several policies",
    )]);
    let sources = vec!["{ source: { principals: [a] } }"; 513].join(", ");
    refused(&[(
        &format!("{{ rules: [{{ from: [{sources}] }}] }}"),
        "spec.rules[0].from: has 513 entries, at most 512 are allowed; spread them over several policies",
    )]);
}

#[test]
fn a_dry_run_is_a_boolean_on_allow_or_deny() {
    let with = |value: &str, action: &str| {
        let text = policy("p", action, "[{}]");
        text.replace(
            "namespace: default",
            &format!("namespace: default, annotations: {{ istio.io/dry-run: '{value}' }}"),
        )
    };
    let place = "policy default/p: metadata.annotations[\"istio.io/dry-run\"]";
    for value in ["yes", "tRUE", "on", "", " true", "2", "Y"] {
        let expected = format!("{place}: `{value}` is not a boolean; write \"true\" or \"false\"");
        assert_eq!(findings(&with(value, "ALLOW")), [expected]);
    }
    for (action, named) in [("AUDIT", "AUDIT"), ("CUSTOM, provider: { name: opa }", "CUSTOM")] {
        let expected = format!("{place}: a dry run of {named} is not supported; only ALLOW and DENY have one");
        assert_eq!(findings(&with("true", action)), std::slice::from_ref(&expected));
        assert_eq!(findings(&with("false", action)), [expected], "as in Istio");
    }
}

#[test]
fn all_that_is_wrong_with_a_policy_is_said_at_once() {
    let text = "{ action: DENI, selector: { matchLabels: { 'a*': b } }, provider: { name: x, extra: y }, rules: [{ \
                from: [{ source: { principals: [''], ipBlocks: [x], namspaces: [a] } }], to: [], when: [{ key: nope, \
                values: [1] }] }, { to: [{ operation: { ports: ['-1'], paths: ['/{x}'] } }] }] }";
    let found = spec(text);
    let places = [
        "spec.action",
        "spec.provider.extra",
        "spec.rules[0].from[0].source.principals[0]",
        "spec.rules[0].from[0].source.ipBlocks[0]",
        "spec.rules[0].from[0].source.namspaces",
        "spec.rules[0].to",
        "spec.rules[0].when[0].key",
        "spec.rules[0].when[0].values[0]",
        "spec.rules[1].to[0].operation.ports[0]",
        "spec.rules[1].to[0].operation.paths[0]",
        "spec.selector.matchLabels[\"a*\"]",
        "spec.provider",
    ];
    for place in places {
        assert!(found.iter().any(|finding| finding.starts_with(&format!("{place}: "))), "{place} in {found:#?}");
    }
    assert_eq!(found.len(), places.len(), "{found:#?}");
}
