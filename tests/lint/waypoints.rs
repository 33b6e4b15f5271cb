//! The lint about what a waypoint does not know, and how it is known that a policy is for a waypoint.

use crate::{findings, one_spelling, paths, policy};

const API: &str = "group: gateway.networking.k8s.io, kind: Gateway";

fn gateway(name: &str, class: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap();
    format!(
        "---\n{{ apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{ name: {name}, namespace: {namespace} }}, \
         spec: {{ gatewayClassName: {class} }} }}\n"
    )
}

fn by_address(namespace: &str, target: &str) -> String {
    let rules = "rules: [{ from: [{ source: { ipBlocks: [10.0.0.0/8] } }] }]";
    policy(&format!("{namespace}/p"), &format!("{{ {target} {rules} }}"))
}

fn fires(text: &str) -> bool {
    !paths("MA047", text, &one_spelling()).is_empty()
}

#[test]
fn the_input_shows_which_policies_are_for_a_waypoint() {
    let web = format!("targetRefs: [{{ {API}, name: web }}],");
    let class = |name: &str| format!("targetRefs: [{{ {API}Class, name: {name} }}],");
    let [waypoint, ingress] = ["istio-waypoint", "istio"].map(|class| gateway("edge/web", class));
    for text in [
        by_address("edge", "targetRefs: [{ kind: Service, name: s }],"),
        by_address("edge", "targetRefs: [{ group: '', kind: Service, name: s }],"),
        by_address("edge", "targetRef: { kind: Service, name: s },"),
        by_address("edge", "targetRefs: [{ group: networking.istio.io, kind: ServiceEntry, name: s }],"),
        by_address("edge", &format!("targetRefs: [{{ {API}, name: g }}, {{ kind: Service, name: s }}],")),
        by_address("istio-system", &class("istio-waypoint")),
        by_address("edge", &web) + &waypoint,
    ] {
        assert!(fires(&text), "{text}");
    }
    for text in [
        by_address("edge", ""),
        by_address("istio-system", ""),
        by_address("edge", "selector: { matchLabels: { app: a } },") + &waypoint,
        by_address("edge", &web),
        by_address("edge", &web) + &ingress,
        by_address("edge", &web) + &gateway("edge/web", "some-waypoint"),
        by_address("edge", &web) + &gateway("shop/web", "istio-waypoint"),
        by_address("edge", &web) + &gateway("edge/other", "istio-waypoint"),
        by_address("edge", &web) + &waypoint + &ingress,
        by_address("edge", &class("istio-waypoint")),
        by_address("istio-system", &class("istio")),
    ] {
        assert!(!fires(&text), "{text}");
    }
}

#[test]
fn every_list_of_the_peers_addresses_is_reported_and_no_other() {
    let rule = |rule: &str| {
        let text = policy("p", &format!("{{ targetRef: {{ kind: Service, name: s }}, rules: [{{ {rule} }}] }}"));
        paths("MA047", &text, &one_spelling())
    };
    assert_eq!(
        rule(
            "from: [{ source: { ipBlocks: [10.0.0.0/8], notIpBlocks: [10.0.0.1] } }, { source: { namespaces: [a] } }]"
        ),
        ["spec.rules[0].from[0].source.ipBlocks", "spec.rules[0].from[0].source.notIpBlocks"]
    );
    assert_eq!(
        rule("when: [{ key: source.ip, values: [10.0.0.0/8], notValues: [10.0.0.1] }]"),
        ["spec.rules[0].when[0].values", "spec.rules[0].when[0].notValues"]
    );
    for silent in [
        "from: [{ source: { remoteIpBlocks: [10.0.0.0/8], notRemoteIpBlocks: [10.0.0.1] } }]",
        "when: [{ key: remote.ip, values: [10.0.0.0/8] }]",
        "when: [{ key: destination.ip, values: [10.0.0.0/8] }]",
        "from: [{ source: { principals: ['cluster.local/ns/a/sa/b'] } }]",
    ] {
        assert_eq!(rule(silent), [""; 0], "{silent}");
    }
    let accepted = by_address("edge", "targetRef: { kind: Service, name: s },")
        .replace("name: p", "name: p, annotations: { mesh-authz/allow: MA047 }");
    assert!(!fires(&accepted));
}

#[test]
fn what_istio_and_this_filter_make_of_an_address_that_nobody_knows() {
    let message = |action: &str, field: &str| {
        let rules = format!("rules: [{{ from: [{{ source: {{ {field}: [203.0.113.0/24] }} }}] }}]");
        let text = policy("p", &format!("{{ action: {action}, targetRef: {{ kind: Service, name: s }}, {rules} }}"));
        let codes: Vec<_> = findings(&text, &one_spelling()).iter().filter_map(|finding| finding.code).collect();
        assert!(!codes.contains(&"MA020"), "clients never connect directly: {codes:?}");
        let found = findings(&text, &one_spelling()).into_iter().find(|finding| finding.code == Some("MA047")).unwrap();
        let (start, consequence) = found.diagnostic.message.split_once(": ").unwrap();
        assert_eq!(
            start,
            "the policy is for the Service `s`, and a waypoint does not know the address of the direct peer"
        );
        consequence.to_owned()
    };
    let differs = "and this filter counts it against every request";
    assert_eq!(message("ALLOW", "ipBlocks"), "no request matches this");
    assert_eq!(message("ALLOW", "notIpBlocks"), format!("in Istio itself this keeps nobody out, {differs}"));
    assert_eq!(message("DENY", "ipBlocks"), format!("in Istio itself no request matches this, {differs}"));
    assert_eq!(message("DENY", "notIpBlocks"), "every request matches this");
    assert_eq!(message("AUDIT", "ipBlocks"), "this does not tell requests apart");
}
