//! The instances on waypoints: which policies each of them has, and what cannot be rendered.

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_authz::engine::Combining;
use mesh_authz_cli::load::Other;
use mesh_authz_cli::load::finding::SourceText;
use mesh_authz_cli::render::instances::{Attachment, Location, NativeHttp, plan};
use mesh_authz_cli::render::kubernetes::ExtensionKind;
use proptest::prelude::*;
use proptest::sample::subsequence;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::{ROOT, WAYPOINTS, planned, policies, reference, rendered, resources, service_entries, topology, waypoints};
use crate::cases;
use crate::policies::node;

#[test]
fn a_policy_for_a_service_needs_to_know_the_waypoint() {
    let mut policy = crate::policies::named("p", json!({ "rules": [{}] }));
    policy["spec"]["targetRefs"] = json!([reference("Service", "s")]);
    let resources = resources(&[policy.clone()]);
    let plan = planned(&resources, &[]);
    let said: Vec<_> = plan.refused.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        ["policies.yaml: policy a/p: spec.targetRefs: is for a waypoint, and the filter has to know which; name it \
             with --waypoint NAMESPACE/NAME"]
    );
}

fn policy_for(name: &str, kind: &str, target: &str) -> Value {
    let mut policy = crate::policies::named(name, json!({ "rules": [{}] }));
    policy["spec"]["targetRefs"] = json!([reference(kind, target)]);
    policy
}

#[test]
fn a_whole_waypoint_and_its_services_get_one_instance() {
    let resources = resources(&[
        policy_for("p", "Gateway", "w"),
        policy_for("q", "Service", "s"),
        policy_for("r", "ServiceEntry", "t"),
        policy_for("s", "Service", "s"),
    ]);
    let plan = planned(&resources, &WAYPOINTS[..1]);
    assert!(plan.refused.is_empty(), "{:?}", plan.refused);
    let rendered = rendered(&plan, ExtensionKind::WasmPlugin, Combining::DenyOverrides);
    assert_eq!(rendered.len(), 1);
    let spec = &rendered[0]["spec"];
    assert_eq!(rendered[0]["metadata"]["namespace"], "a");
    assert_eq!(spec["targetRefs"], json!([reference("Gateway", "w")]));
    assert_eq!(spec.get("match"), None);
    assert_eq!(spec["pluginConfig"]["policies"].as_array().map(Vec::len), Some(4));
    let entry = |host: &str| json!({ "host": host, "namespace": "a", "name": "t" });
    let gateway = json!({
        "name": "w", "waypoint": true,
        "services": [{ "host": "s.a.svc.mesh", "namespace": "a", "name": "s" }],
        "serviceEntries": [entry("*.t.a.example"), entry("t.a.example")],
    });
    assert_eq!(spec["pluginConfig"]["gateway"], gateway);
    let place = &plan.needs_filter_state;
    assert_eq!(place.len(), 1, "the EnvoyFilter targets the waypoint: {place:?}");
}

#[test]
fn each_waypoint_gets_one_instance_with_the_policies_of_the_whole_waypoint_and_of_all_services() {
    let mut of_class = policy_for("class", "GatewayClass", "istio-waypoint");
    of_class["metadata"]["namespace"] = json!(ROOT);
    let resources = resources(&[
        policy_for("v", "Gateway", "v"),
        policy_for("w", "Gateway", "w"),
        policy_for("service", "Service", "s"),
        of_class,
    ]);
    let plan = planned(&resources, &WAYPOINTS);
    assert!(plan.refused.is_empty(), "{:?}", plan.refused);
    let carried: Vec<_> = plan
        .instances
        .iter()
        .map(|instance| {
            let gateway = instance.waypoint.as_ref().unwrap();
            let policies = instance.policies.iter().map(|resource| resource.policy.name.name.as_str());
            (instance.place.namespace.as_str(), gateway.name.as_str(), policies.collect::<Vec<_>>())
        })
        .collect();
    let expected = [
        ("a", "v", vec!["service", "v", "class"]),
        ("a", "w", vec!["service", "w", "class"]),
        ("b", "w", vec!["service", "class"]),
    ];
    assert_eq!(carried, expected);
    assert!(plan.restricted.is_empty(), "a policy is for a service: {:?}", plan.restricted);
    let stopped: BTreeSet<_> = plan.native.iter().map(|native| &native.place).collect();
    assert_eq!(stopped.len(), 3, "{stopped:?}");
    assert_eq!(plan.of_every_waypoint.len(), 1);
}

/// A Gateway of the input, with this class.
fn gateway(name: &str, class: &str) -> Other {
    gateway_of("a", name, class)
}

fn gateway_of(namespace: &str, name: &str, class: &str) -> Other {
    other(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": { "name": name, "namespace": namespace }, "spec": { "gatewayClassName": class },
    }))
}

fn gateway_class(name: &str, controller: &str) -> Other {
    other(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
        "metadata": { "name": name }, "spec": { "controllerName": controller },
    }))
}

fn other(document: Value) -> Other {
    let source = Arc::new(SourceText::new("others.yaml".into(), String::new()));
    Other { source, node: node(&document) }
}

#[test]
fn a_waypoint_of_the_input_that_is_not_given_is_never_taken_for_a_gateway() {
    let resources = resources(&[policy_for("p", "Gateway", "v")]);
    let said = |given: &[(&str, &str)], others: &[Other]| {
        let waypoints = waypoints(given);
        let plan = plan(&resources, &topology(&waypoints, others), NativeHttp::All);
        let are_waypoints: Vec<_> = plan.instances.iter().map(|instance| instance.waypoint.is_some()).collect();
        (plan.refused.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"), are_waypoints)
    };
    let own = |controller: &str| vec![gateway("v", "own"), gateway_class("own", controller)];
    for (others, class) in [
        (vec![gateway("v", "istio-waypoint")], "istio-waypoint"),
        (vec![gateway("v", "istio-east-west")], "istio-east-west"),
        (own("istio.io/mesh-controller"), "own"),
        // Of two environments, one has the waypoint.
        (vec![gateway("v", "istio-waypoint"), gateway("v", "istio")], "istio-waypoint"),
        (vec![gateway("v", "istio"), gateway("v", "istio-waypoint")], "istio-waypoint"),
    ] {
        let expected = format!(
            "policies.yaml: policy a/p: spec.targetRefs[0]: is for the Gateway a/v, which is a waypoint by its class `{class}`, \
             and no --waypoint names it; name it with --waypoint a/v"
        );
        for given in [&[][..], &[("a", "w")], &[("b", "v")]] {
            let (refused, _) = said(given, &others);
            assert_eq!(refused, expected, "{given:?}");
        }
        assert_eq!(said(&[("a", "v"), ("a", "w")], &others), (String::new(), vec![true]), "{class}");
    }
    for others in [
        vec![],
        vec![gateway("v", "istio")],
        vec![gateway("v", "own")],
        vec![gateway("w", "istio-waypoint")],
        own("istio.io/gateway-controller"),
        own("example.com/mesh-controller"),
        vec![gateway("v", "istio-waypoint"), gateway_class("istio-waypoint", "example.com/own")],
    ] {
        assert_eq!(said(&[], &others), (String::new(), vec![false]), "{others:?}");
    }
    for class in ["istio-agentgateway", "istio-agentgateway-waypoint"] {
        let (refused, _) = said(&[], &[gateway("v", class)]);
        assert!(refused.contains("whose proxy is no Envoy and loads no plugin"), "{refused}");
    }
}

/// If a policy for it is left over, the output is refused. Whatever is planned, nothing of it is for the waypoint as a
/// gateway, and nothing lets HTTP through there.
#[test]
fn a_waypoint_of_the_input_that_is_not_given_gets_nothing() {
    let mut others = service_entries();
    others.extend(WAYPOINTS.map(|(namespace, name)| gateway_of(namespace, name, "istio-waypoint")));
    TestRunner::new(cases(400))
        .run(&(policies(), subsequence(&WAYPOINTS[..], 0..=3)), |(policies, given)| {
            let (resources, waypoints) = (resources(&policies), waypoints(&given));
            let plan = plan(&resources, &topology(&waypoints, &others), NativeHttp::All);
            let names = |place: &Location, (namespace, name): (&str, &str)| {
                place.namespace == namespace && place.attachment == Attachment::Gateway(name.to_owned())
            };
            for waypoint in WAYPOINTS {
                let instances: Vec<_> = plan.instances.iter().filter(|one| names(&one.place, waypoint)).collect();
                let is_given = given.contains(&waypoint);
                prop_assert!(instances.len() <= usize::from(is_given));
                prop_assert!(instances.iter().all(|instance| instance.waypoint.is_some()));
                let is_let_through = plan.restricted.iter().any(|place| names(place, waypoint));
                prop_assert!(!is_let_through || instances.len() == 1);
                let is_named = |policy: &Value| {
                    let references = policy["spec"]["targetRefs"].as_array();
                    policy["spec"]["action"] != "CUSTOM"
                        && policy["metadata"]["namespace"] == waypoint.0
                        && references.is_some_and(|all| all.contains(&reference("Gateway", waypoint.1)))
                };
                let is_left_over = !is_given && policies.iter().any(is_named);
                let said: Vec<_> = plan.refused.iter().map(ToString::to_string).collect();
                let hint = format!("name it with --waypoint {}/{}", waypoint.0, waypoint.1);
                prop_assert_eq!(said.iter().any(|text| text.ends_with(&hint)), is_left_over, "{:?}", said);
            }
            Ok(())
        })
        .unwrap();
}

fn refused(policies: &[Value], others: &[Other]) -> Vec<String> {
    // A mistake is said once, however many waypoints there are.
    let (resources, waypoints) = (resources(policies), waypoints(&WAYPOINTS));
    let plan = plan(&resources, &topology(&waypoints, others), NativeHttp::All);
    plan.refused.iter().map(ToString::to_string).collect()
}

#[test]
fn the_hosts_of_a_service_entry_must_be_in_the_input() {
    let policies = [policy_for("p", "ServiceEntry", "t")];
    let expected = "policies.yaml: policy a/p: spec.targetRefs: is for the ServiceEntry a/t, and its hosts are unknown; add \
                    the file with the ServiceEntry to the input";
    let entry = |version: &str, kind: &str, namespace: &str, hosts: Value| {
        [other(json!({
            "apiVersion": version, "kind": kind, "metadata": { "name": "t", "namespace": namespace },
            "spec": { "hosts": hosts },
        }))]
    };
    let istio = "networking.istio.io/v1beta1";
    assert_eq!(refused(&policies, &entry(istio, "ServiceEntry", "a", json!(["h"]))), [""; 0]);
    for others in [
        entry(istio, "ServiceEntry", "b", json!(["h"])),
        entry(istio, "ServiceEntry", "a", json!([])),
        entry(istio, "WorkloadEntry", "a", json!(["h"])),
        entry("example.com/v1", "ServiceEntry", "a", json!(["h"])),
    ] {
        assert_eq!(refused(&policies, &others), [expected], "{others:?}");
    }
    assert_eq!(refused(&policies, &[]), [expected]);
}

#[test]
fn two_services_with_one_host_are_refused() {
    let entries = |namespace: &str, host: &str| {
        other(json!({
            "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
            "metadata": { "name": "t", "namespace": namespace }, "spec": { "hosts": [host, host] },
        }))
    };
    let mut of_b = policy_for("q", "ServiceEntry", "t");
    of_b["metadata"]["namespace"] = json!("b");
    let said = |first: &str, second: &str, host: &str, policy: &str| {
        format!(
            "policies.yaml: policy {policy}: spec.targetRefs: {second} has the host {host}, and so has {first}: Istio \
             protects it as one of them, and nobody can tell which; let policies name one of the two"
        )
    };
    let (a, b) = ("the ServiceEntry a/t", "the ServiceEntry b/t");
    assert_eq!(
        refused(&[policy_for("p", "ServiceEntry", "t"), of_b.clone()], &[entries("a", "h"), entries("b", "H")]),
        [said(a, b, "H", "b/q")]
    );
    assert_eq!(
        refused(&[policy_for("p", "Service", "s"), of_b.clone()], &[entries("b", "s.a.svc.mesh")]),
        [said("the Service a/s", b, "s.a.svc.mesh", "b/q")]
    );
    assert_eq!(
        refused(&[of_b.clone()], &[entries("b", "h"), entries("a", "h")]),
        [""; 0],
        "no policy names the other one"
    );
    let service = |kind: &str, version: &str, namespace: &str| {
        other(json!({ "apiVersion": version, "kind": kind, "metadata": { "name": "s", "namespace": namespace } }))
    };
    let of_b = [of_b];
    assert_eq!(
        refused(&of_b, &[entries("b", "S.a.svc.mesh"), service("Service", "v1", "a")]),
        [
            "policies.yaml: policy b/q: spec.targetRefs: the ServiceEntry b/t has the host S.a.svc.mesh of the Service a/s, and \
          Istio protects it as that Service; name the Service in targetRefs"
        ]
    );
    for other in [service("Service", "v1", "b"), service("Deployment", "v1", "a"), service("Service", "x.dev/v1", "a")]
    {
        assert_eq!(refused(&of_b, &[entries("b", "s.a.svc.mesh"), other]), [""; 0]);
    }
}
