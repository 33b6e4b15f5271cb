//! Which policies apply to a workload, and why the others do not.

use mesh_authz::policy::scope::{Gateway, Scope, ServiceName, Workload, covers, may_meet, scope};
use mesh_authz::policy::{AuthorizationPolicy, Labels};

use crate::support::{named, policies};

fn policy(namespace: &str, spec: &str) -> AuthorizationPolicy {
    policies(&named(namespace, "p", spec)).remove(0)
}

fn labels(labels: &[(&str, &str)]) -> Labels {
    labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn workload() -> Workload {
    Workload {
        namespace: "shop".to_owned(),
        labels: Some(labels(&[("app", "cart"), ("version", "v1")])),
        gateway: None,
        root_namespace: "istio-system".to_owned(),
        revision: None,
    }
}

fn gateway() -> Workload {
    let gateway = Gateway { name: "front".to_owned(), ..Gateway::default() };
    Workload { gateway: Some(gateway), ..workload() }
}

fn waypoint() -> Workload {
    let service = |namespace: &str, name: &str| ServiceName {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        host: None,
    };
    let gateway = Gateway {
        name: "waypoint".to_owned(),
        waypoint: true,
        services: vec![service("shop", "cart"), service("bank", "pay")],
        service_entries: vec![service("shop", "external")],
    };
    Workload { gateway: Some(gateway), ..workload() }
}

#[test]
fn a_policy_is_for_its_namespace_and_one_of_the_root_namespace_for_all() {
    let rows = [
        ("shop", Scope::Applies),
        ("istio-system", Scope::Applies),
        ("other", Scope::OtherNamespace),
        ("sho", Scope::OtherNamespace),
        ("shop2", Scope::OtherNamespace),
        ("default", Scope::OtherNamespace),
    ];
    for (namespace, expected) in rows {
        assert_eq!(scope(&policy(namespace, "{}"), &workload()), expected, "{namespace}");
    }
}

#[test]
fn the_root_namespace_can_be_another() {
    let workload = Workload { root_namespace: "mesh".to_owned(), ..workload() };
    assert_eq!(scope(&policy("mesh", "{}"), &workload), Scope::Applies);
    assert_eq!(scope(&policy("istio-system", "{}"), &workload), Scope::OtherNamespace);
}

#[test]
fn a_policy_without_a_namespace_is_in_default() {
    let text = "{ apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: { name: p }, spec: {} }";
    let policy = policies(text).remove(0);
    assert_eq!(policy.name.to_string(), "default/p");
    let in_default = Workload { namespace: "default".to_owned(), ..workload() };
    assert_eq!(scope(&policy, &in_default), Scope::Applies);
    assert_eq!(scope(&policy, &workload()), Scope::OtherNamespace);
}

#[test]
fn a_selector_is_a_subset_of_the_labels() {
    let rows = [
        ("{ app: cart }", Scope::Applies),
        ("{ app: cart, version: v1 }", Scope::Applies),
        ("{ version: v1 }", Scope::Applies),
        ("{}", Scope::Applies),
        ("{ app: Cart }", Scope::OtherLabels),
        ("{ app: car }", Scope::OtherLabels),
        ("{ app: cart, version: v2 }", Scope::OtherLabels),
        ("{ app: cart, missing: x }", Scope::OtherLabels),
        ("{ App: cart }", Scope::OtherLabels),
        ("{ app: \"\" }", Scope::OtherLabels),
    ];
    for (selector, expected) in rows {
        for namespace in ["shop", "istio-system"] {
            let policy = policy(namespace, &format!("{{ selector: {{ matchLabels: {selector} }} }}"));
            assert_eq!(scope(&policy, &workload()), expected, "{selector}");
        }
        let elsewhere = policy("other", &format!("{{ selector: {{ matchLabels: {selector} }} }}"));
        assert_eq!(scope(&elsewhere, &workload()), Scope::OtherNamespace);
    }
    assert_eq!(scope(&policy("shop", "{ selector: {} }"), &workload()), Scope::Applies);
}

#[test]
fn a_policy_of_a_revision_is_for_workloads_of_its_control_plane() {
    let labelled = |rev: &str| {
        let metadata = format!("{{ name: p, namespace: shop, labels: {{ istio.io/rev: '{rev}' }} }}");
        policies(&format!(
            "{{ apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {metadata}, spec: {{}} }}"
        ))
        .remove(0)
    };
    let of = |revision: &str| Workload { revision: Some(revision.to_owned()), ..workload() };
    let (canary, stable) = (labelled("canary"), labelled("stable"));
    assert_eq!(scope(&canary, &of("canary")), Scope::Applies);
    assert_eq!(scope(&stable, &of("canary")), Scope::OtherRevision);
    assert_eq!(scope(&labelled("Canary"), &of("canary")), Scope::OtherRevision);
    assert_eq!(scope(&policy("shop", "{}"), &of("canary")), Scope::Applies, "it is for all revisions");
    // A control plane without a revision reads all.
    assert_eq!([scope(&canary, &workload()), scope(&stable, &workload())], [Scope::Applies; 2]);
    let elsewhere = Workload { namespace: "other".to_owned(), ..of("canary") };
    assert_eq!(scope(&canary, &elsewhere), Scope::OtherNamespace);
    assert!(!may_meet(canary.reach(), stable.reach(), "istio-system"));
    assert!(!covers(canary.reach(), policy("shop", "{}").reach(), "istio-system"));
    assert!(covers(policy("shop", "{}").reach(), canary.reach(), "istio-system"));
}

#[test]
fn a_label_may_be_empty_and_is_still_a_label() {
    let workload = Workload { labels: Some(labels(&[("app", "")])), ..workload() };
    assert_eq!(scope(&policy("shop", "{ selector: { matchLabels: { app: \"\" } } }"), &workload), Scope::Applies);
}

#[test]
fn a_target_reference_is_never_for_a_sidecar() {
    for reference in [
        "{ kind: Service, name: cart }",
        "{ kind: Service, group: core, name: cart }",
        "{ kind: ServiceEntry, group: networking.istio.io, name: external }",
        "{ kind: Gateway, group: gateway.networking.k8s.io, name: front }",
        "{ kind: GatewayClass, group: gateway.networking.k8s.io, name: istio-waypoint }",
    ] {
        for namespace in ["shop", "istio-system", "other"] {
            let one = policy(namespace, &format!("{{ targetRef: {reference} }}"));
            let list = policy(namespace, &format!("{{ targetRefs: [{reference}] }}"));
            assert_eq!(scope(&one, &workload()), Scope::OnlyForGateways);
            assert_eq!(scope(&list, &workload()), Scope::OnlyForGateways);
        }
    }
}

#[test]
fn a_gateway_is_named_in_its_own_namespace() {
    let front = "{ targetRefs: [{ kind: Gateway, group: gateway.networking.k8s.io, name: front }] }";
    let back = "{ targetRef: { kind: Gateway, group: gateway.networking.k8s.io, name: back } }";
    assert_eq!(scope(&policy("shop", front), &gateway()), Scope::Applies);
    assert_eq!(scope(&policy("other", front), &gateway()), Scope::OtherTarget);
    assert_eq!(scope(&policy("istio-system", front), &gateway()), Scope::OtherTarget);
    assert_eq!(scope(&policy("shop", back), &gateway()), Scope::OtherTarget);
}

#[test]
fn one_of_several_references_is_enough() {
    let refs = "{ targetRefs: [{ kind: Service, name: cart }, { kind: Gateway, group: gateway.networking.k8s.io, name: \
                front }] }";
    assert_eq!(scope(&policy("shop", refs), &gateway()), Scope::Applies);
    assert_eq!(scope(&policy("shop", refs), &waypoint()), Scope::Applies);
}

#[test]
fn a_gateway_that_is_no_waypoint_serves_no_services_and_has_no_class() {
    for reference in [
        "{ kind: Service, name: cart }",
        "{ kind: GatewayClass, group: gateway.networking.k8s.io, name: istio-waypoint }",
    ] {
        for namespace in ["shop", "istio-system"] {
            let policy = policy(namespace, &format!("{{ targetRef: {reference} }}"));
            assert_eq!(scope(&policy, &gateway()), Scope::OtherTarget);
        }
    }
    let mut gateway = gateway();
    gateway.gateway.as_mut().unwrap().services = waypoint().gateway.unwrap().services;
    let policy = policy("shop", "{ targetRef: { kind: Service, name: cart } }");
    assert_eq!(scope(&policy, &gateway), Scope::OtherTarget, "services are a waypoint's");
}

#[test]
fn a_gateway_obeys_selectors_and_a_waypoint_does_not() {
    let with_selector = "{ selector: { matchLabels: { app: cart } } }";
    for namespace in ["shop", "istio-system"] {
        for spec in [with_selector, "{}", "{ selector: {} }", "{ targetRefs: [] }"] {
            assert_eq!(scope(&policy(namespace, spec), &gateway()), Scope::Applies);
            assert_eq!(scope(&policy(namespace, spec), &waypoint()), Scope::WaypointNeedsTarget);
        }
    }
    assert_eq!(scope(&policy("other", "{}"), &gateway()), Scope::OtherNamespace);
}

#[test]
fn a_waypoint_is_named_by_its_services_itself_and_its_class() {
    let service = "{ kind: Service, name: NAME }";
    let entry = "{ kind: ServiceEntry, group: networking.istio.io, name: NAME }";
    let gateway = "{ kind: Gateway, group: gateway.networking.k8s.io, name: NAME }";
    let class = "{ kind: GatewayClass, group: gateway.networking.k8s.io, name: NAME }";
    let rows = [
        ("shop", service, "cart", Scope::Applies),
        ("bank", service, "pay", Scope::Applies),
        ("shop", service, "pay", Scope::OtherTarget),
        ("bank", service, "cart", Scope::OtherTarget),
        ("istio-system", service, "cart", Scope::OtherTarget),
        ("shop", service, "external", Scope::OtherTarget),
        ("shop", entry, "external", Scope::Applies),
        ("shop", entry, "cart", Scope::OtherTarget),
        ("bank", entry, "external", Scope::OtherTarget),
        ("shop", gateway, "waypoint", Scope::Applies),
        ("shop", gateway, "front", Scope::OtherTarget),
        ("bank", gateway, "waypoint", Scope::OtherTarget),
        ("istio-system", class, "istio-waypoint", Scope::Applies),
        ("istio-system", class, "istio", Scope::OtherTarget),
        ("shop", class, "istio-waypoint", Scope::OtherTarget),
    ];
    for (namespace, reference, name, expected) in rows {
        let policy = policy(namespace, &format!("{{ targetRef: {} }}", reference.replace("NAME", name)));
        assert_eq!(scope(&policy, &waypoint()), expected, "{namespace} {reference} {name}");
    }
}

#[test]
fn every_answer_has_a_reason_in_words() {
    let rows = [
        (Scope::Applies, "applies"),
        (Scope::OtherNamespace, "does not apply: it is for another namespace"),
        (Scope::OtherLabels, "does not apply: its selector names labels that this workload does not carry"),
        (Scope::OnlyForGateways, "does not apply: its target reference is for a gateway or waypoint"),
        (Scope::OtherTarget, "does not apply: its target reference names something else"),
        (Scope::WaypointNeedsTarget, "does not apply: a waypoint obeys only policies with a target reference"),
    ];
    for (scope, words) in rows {
        assert_eq!(scope.to_string(), words);
    }
}
