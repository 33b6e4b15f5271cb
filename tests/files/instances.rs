//! Resources for Istio: the resources that a workload loads decide together like all policies in one filter.
//!
//! This file implements a second time which resources Istio loads on a workload. [`loads`] follows Istio's
//! documentation and uses only the rendered resource.

use std::sync::Arc;

use mesh_authz::config::{Mesh, NodeMetadata, PluginConfig};
use mesh_authz::diagnostic::Diagnostics;
use mesh_authz::engine::{Combining, Engine, Verdict};
use mesh_authz::policy::scope::{Gateway, Scope, ServiceName, Workload, scope};
use mesh_authz::request::Lookup;
use mesh_authz_cli::load::LoadedPolicy;
use mesh_authz_cli::load::finding::SourceText;
use mesh_authz_cli::render::instances::{GATEWAY_LABELS, Plan, Topology, Waypoint, plan};
use mesh_authz_cli::render::kubernetes::{ExtensionKind, Image, extension};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::cases;
use crate::policies::{BOTH, node, read, spec};
use crate::requests::{Facts, partly_readable, verdict};

const ROOT: &str = "istio-system";
const NAMESPACES: [&str; 3] = ["a", "b", ROOT];
const LABELS: [(&str, &str); 6] = [
    ("app", "x"),
    ("app", "y"),
    ("version", "v1"),
    ("istio", "ingressgateway"),
    ("role", "edge"),
    ("gateway.networking.k8s.io/gateway-name", "g"),
];
const GATEWAY: &str = "gateway.networking.k8s.io";

fn waypoint() -> Waypoint {
    Waypoint { namespace: "a".to_owned(), name: "w".to_owned() }
}

fn options(combining: Combining) -> Mesh {
    Mesh {
        trust_domain: "td".to_owned(),
        aliases: vec!["alias".to_owned()],
        root_namespace: ROOT.to_owned(),
        combining,
    }
}

/// Up to `most` labels, all with different keys.
fn labels(most: usize) -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    subsequence(&LABELS[..], 0..=most).prop_map(|mut labels| {
        labels.dedup_by_key(|(key, _)| *key);
        labels
    })
}

fn reference(kind: &str, name: &str) -> Value {
    match kind {
        "Service" => json!({ "kind": kind, "name": name }),
        "ServiceEntry" => json!({ "group": "networking.istio.io", "kind": kind, "name": name }),
        _ => json!({ "group": GATEWAY, "kind": kind, "name": name }),
    }
}

/// Target references for one case. They refer either to the whole waypoint, or to single services of it.
fn references(whole: bool) -> impl Strategy<Value = Vec<Value>> {
    let mut pool = vec![reference("Gateway", "g"), reference("Gateway", "h"), reference("GatewayClass", "elsewhere")];
    if whole {
        pool.extend([reference("Gateway", "w"), reference("GatewayClass", "istio-waypoint")]);
    } else {
        pool.extend(["s", "t"].map(|name| reference("Service", name)));
        pool.push(reference("ServiceEntry", "s"));
    }
    subsequence(pool, 1..=3)
}

fn target(whole: bool) -> impl Strategy<Value = Value> {
    prop_oneof![
        2 => Just(json!({})),
        4 => labels(2).prop_map(|labels| json!({ "selector": { "matchLabels": object(&labels) } })),
        2 => references(whole).prop_map(|references| json!({ "targetRefs": references })),
    ]
}

fn object(labels: &[(&str, &str)]) -> Value {
    labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect::<serde_json::Map<_, _>>().into()
}

fn policies() -> impl Strategy<Value = Vec<Value>> {
    any::<bool>().prop_flat_map(|whole| {
        let action = select(&["ALLOW", "ALLOW", "DENY", "AUDIT"][..]).prop_flat_map(spec);
        let one = (action, target(whole), select(&NAMESPACES[..]));
        proptest::collection::vec(one, 1..=5).prop_map(|all| {
            let policy = |(n, (mut spec, target, namespace)): (usize, (Value, Value, &str))| {
                spec.as_object_mut().unwrap().extend(target.as_object().unwrap().clone());
                json!({
                    "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
                    "metadata": { "name": format!("p{n}"), "namespace": namespace }, "spec": spec,
                })
            };
            all.into_iter().enumerate().map(policy).collect()
        })
    })
}

/// The proxy that receives a request.
#[derive(Clone, Debug)]
struct Proxy {
    namespace: &'static str,
    labels: Vec<(&'static str, &'static str)>,
    /// Set on a waypoint: the kind, namespace and name of the service that the request is for.
    service: Option<(&'static str, &'static str, &'static str)>,
}

impl Proxy {
    fn is_gateway(&self) -> bool {
        self.labels.iter().any(|label| GATEWAY_LABELS.contains(label)) || self.gateway_name().is_some()
    }

    fn gateway_name(&self) -> Option<&'static str> {
        self.labels.iter().find(|(key, _)| *key == LABELS[5].0).map(|(_, value)| *value)
    }

    fn metadata(&self) -> NodeMetadata {
        let labels = self.labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        NodeMetadata { namespace: Lookup::Value(self.namespace.to_owned()), labels: Lookup::Value(labels) }
    }

    fn workload(&self) -> Workload {
        let gateway = self.service.map(|(kind, namespace, name)| {
            let service = ServiceName { namespace: namespace.to_owned(), name: name.to_owned() };
            let gateway = Gateway { name: "w".to_owned(), waypoint: true, ..Gateway::default() };
            match kind {
                "Service" => Gateway { services: vec![service], ..gateway },
                _ => Gateway { service_entries: vec![service], ..gateway },
            }
        });
        let Lookup::Value(labels) = self.metadata().labels else { panic!() };
        let mut diagnostics = Diagnostics::new();
        let workload =
            Workload::new(self.namespace.to_owned(), Some(labels), gateway, ROOT.to_owned(), &mut diagnostics);
        assert_eq!(diagnostics.count(), 0);
        workload
    }
}

fn proxies() -> impl Strategy<Value = Proxy> {
    // A gateway of the Gateway API also has the label of the controller that deployed it.
    let managed = |mut labels: Vec<_>| {
        if labels.iter().any(|(key, _)| *key == LABELS[5].0) {
            labels.push(GATEWAY_LABELS[4]);
        }
        labels
    };
    let workload = (select(&NAMESPACES[..]), labels(5)).prop_map(move |(namespace, labels)| Proxy {
        namespace,
        labels: managed(labels),
        service: None,
    });
    let service = (select(&["Service", "ServiceEntry"][..]), select(&NAMESPACES[..]), select(&["s", "t"][..]));
    let waypoint = service.prop_map(|service| Proxy {
        namespace: "a",
        labels: vec![(LABELS[5].0, "w"), ("gateway.istio.io/managed", "istio.io-mesh-controller")],
        service: Some(service),
    });
    prop_oneof![4 => workload, 1 => waypoint]
}

/// Whether Istio loads a resource on a proxy's listeners. `outgoing` means the outgoing listeners of a sidecar.
fn loads(resource: &Value, proxy: &Proxy, outgoing: bool) -> bool {
    let spec = &resource["spec"];
    let namespace = resource["metadata"]["namespace"].as_str().unwrap();
    // In Istio, sidecars and waypoints are servers for incoming requests. Gateways are clients.
    let is_server = !outgoing && (proxy.service.is_some() || !proxy.is_gateway());
    if spec.get("match").is_some_and(|matches| *matches != json!([{ "mode": "SERVER" }]) || !is_server) {
        return false;
    }
    if let Some(references) = spec.get("targetRefs") {
        return references.as_array().unwrap().iter().any(|reference| {
            let is = |kind: &str, name: &str| reference["kind"] == kind && reference["name"] == name;
            let name = proxy.service.map_or(proxy.gateway_name(), |_| Some("w"));
            let is_service = proxy.service.is_some_and(|(kind, of, name)| of == namespace && is(kind, name));
            is_service || (namespace == proxy.namespace && name.is_some_and(|name| is("Gateway", name)))
        });
    }
    if proxy.service.is_some() || (namespace != ROOT && namespace != proxy.namespace) {
        return false;
    }
    let wanted = spec.pointer("/selector/matchLabels").and_then(Value::as_object);
    wanted.into_iter().flatten().all(|(key, value)| proxy.labels.iter().any(|(k, v)| k == key && value == v))
}

fn resources(policies: &[Value]) -> Vec<LoadedPolicy> {
    let source = Arc::new(SourceText::new("policies.yaml".into(), String::new()));
    let resource =
        |policy: &Value| LoadedPolicy { source: Arc::clone(&source), node: node(policy), policy: read(policy) };
    policies.iter().map(resource).collect()
}

fn planned<'r>(resources: &'r [LoadedPolicy], gateways: &[(String, String)]) -> Plan<'r> {
    let waypoint = waypoint();
    plan(resources, &Topology { root_namespace: ROOT, gateways, waypoint: Some(&waypoint), revision: None })
}

fn gateways() -> Vec<(String, String)> {
    GATEWAY_LABELS.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

fn rendered(plan: &Plan<'_>, kind: ExtensionKind, combining: Combining) -> Vec<Value> {
    let image = Image { url: "oci://registry.example/m:1".to_owned(), sha256: None, pull_secret: None };
    plan.instances.iter().map(|instance| extension(kind, instance, &image, &options(combining), None)).collect()
}

/// The engine of a filter that is loaded on this proxy with the configuration of this resource.
fn engine(resource: &Value, proxy: &Proxy) -> Engine {
    let config = [&resource["spec"]["pluginConfig"], &resource["spec"]["wasm"]["pluginConfig"]];
    let config = config.into_iter().find(|config| config.is_object()).unwrap();
    let config = PluginConfig::read(config.to_string().as_bytes(), &proxy.metadata())
        .unwrap_or_else(|errors| panic!("{errors:#?} in {resource:#} on {proxy:?}"));
    let applying = config.policies.iter().filter(|policy| scope(policy, &config.workload) == Scope::Applies);
    Engine::new(applying, &config.options)
}

#[test]
fn the_instances_on_a_workload_decide_together_what_all_policies_decide() {
    let strategy = (policies(), proxies(), proptest::collection::vec(partly_readable(), 4), select(&BOTH[..]));
    TestRunner::new(cases(600))
        .run(&strategy, |(policies, proxy, requests, combining)| {
            let resources = resources(&policies);
            let gateways = gateways();
            let plan = planned(&resources, &gateways);
            prop_assert!(plan.refused.is_empty(), "{:?}", plan.refused);
            let workload = proxy.workload();
            let applying = resources.iter().map(|resource| &resource.policy);
            let applying: Vec<_> = applying.filter(|policy| scope(policy, &workload) == Scope::Applies).collect();
            let all = Engine::new(applying.iter().copied(), &crate::policies::options(combining));
            for kind in [ExtensionKind::WasmPlugin, ExtensionKind::TrafficExtension] {
                let rendered = rendered(&plan, kind, combining);
                let loaded: Vec<_> = rendered.iter().filter(|resource| loads(resource, &proxy, false)).collect();
                prop_assert!(applying.is_empty() || !loaded.is_empty(), "nothing is loaded");
                let engines: Vec<_> = loaded.iter().map(|resource| engine(resource, &proxy)).collect();
                for facts in &requests {
                    let expected = verdict(&all, facts);
                    prop_assert_eq!(together(&engines, facts), expected);
                }
                // A sidecar loads no resource for the outgoing requests of its workload.
                if !proxy.is_gateway() {
                    prop_assert!(!rendered.iter().any(|resource| loads(resource, &proxy, true)));
                }
            }
            Ok(())
        })
        .unwrap();
}

/// The verdict of several filters: a request passes if every filter allows it.
fn together(engines: &[Engine], facts: &Facts) -> Verdict {
    let denied = engines.iter().any(|engine| verdict(engine, facts) == Verdict::Deny);
    if denied { Verdict::Deny } else { Verdict::Allow }
}

#[test]
fn resources_do_not_depend_on_the_order_of_policies_and_have_names_of_their_own() {
    let strategy = policies().prop_flat_map(|policies| (Just(policies.clone()), Just(policies).prop_shuffle()));
    TestRunner::new(cases(300))
        .run(&strategy, |(policies, shuffled)| {
            let gateways = gateways();
            let rendered = |policies: &[Value]| {
                let resources = resources(policies);
                self::rendered(&planned(&resources, &gateways), ExtensionKind::WasmPlugin, Combining::DenyOverrides)
            };
            let all = rendered(&policies);
            prop_assert_eq!(&rendered(&shuffled), &all);
            let mut names: Vec<_> = all.iter().map(|resource| resource["metadata"].to_string()).collect();
            names.sort();
            names.dedup();
            prop_assert_eq!(names.len(), all.len());
            Ok(())
        })
        .unwrap();
}

#[test]
fn whatever_is_selected_by_its_label_istio_is_a_gateway() {
    let mut policy = crate::policies::named("p", json!({ "rules": [{}] }));
    policy["spec"]["selector"] = json!({ "matchLabels": { "istio": "entrance", "app": "x" } });
    let resources = resources(&[policy]);
    let gateways = gateways();
    let plan = planned(&resources, &gateways);
    let rendered = rendered(&plan, ExtensionKind::WasmPlugin, Combining::DenyOverrides);
    let proxy = Proxy { namespace: "a", labels: vec![("istio", "entrance"), ("app", "x")], service: None };
    assert_eq!(rendered.len(), 1);
    assert_eq!(rendered[0]["spec"].get("match"), None, "{rendered:#?}");
    assert!(loads(&rendered[0], &proxy, false));
}

#[test]
fn a_gateway_that_one_policy_selects_is_one_to_a_wider_policy_too() {
    let mut narrow = crate::policies::named("p", json!({ "action": "DENY", "rules": [{}] }));
    narrow["spec"]["selector"] = json!({ "matchLabels": { "istio": "entrance" } });
    for namespace in ["a", ROOT] {
        let mut wide = crate::policies::named("q", json!({ "rules": [{}] }));
        wide["metadata"]["namespace"] = json!(namespace);
        let resources = resources(&[narrow.clone(), wide]);
        let gateways = gateways();
        let rendered = rendered(&planned(&resources, &gateways), ExtensionKind::WasmPlugin, Combining::DenyOverrides);
        let proxy = Proxy { namespace: "a", labels: vec![("istio", "entrance")], service: None };
        let of_gateways = |resource: &&Value| resource["spec"].get("match").is_none();
        let loaded: Vec<_> =
            rendered.iter().filter(of_gateways).filter(|resource| loads(resource, &proxy, false)).collect();
        assert!(!loaded.is_empty(), "{namespace}: {rendered:#?}");
        for resource in loaded {
            assert_eq!(resource["spec"]["pluginConfig"]["policies"].as_array().map(Vec::len), Some(2));
        }
    }
}

#[test]
fn a_policy_for_a_service_needs_to_know_the_waypoint() {
    let mut policy = crate::policies::named("p", json!({ "rules": [{}] }));
    policy["spec"]["targetRefs"] = json!([reference("Service", "s")]);
    let resources = resources(&[policy.clone()]);
    let plan = plan(&resources, &Topology { root_namespace: ROOT, gateways: &[], waypoint: None, revision: None });
    let said: Vec<_> = plan.refused.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        ["policies.yaml: policy a/p: spec.targetRefs: is for a waypoint, and the filter has to know which; name it \
             with --waypoint NAMESPACE/NAME"]
    );
}

#[test]
fn a_whole_waypoint_and_one_of_its_services_are_refused_together() {
    let policy = |name: &str, kind: &str, target: &str| {
        let mut policy = crate::policies::named(name, json!({ "rules": [{}] }));
        policy["spec"]["targetRefs"] = json!([reference(kind, target)]);
        policy
    };
    let resources = resources(&[policy("p", "Gateway", "w"), policy("q", "Service", "s")]);
    let plan = planned(&resources, &[]);
    assert_eq!(plan.refused.len(), 1);
    assert!(
        plan.refused[0].to_string().contains("policy a/p: spec.targetRefs: is for a whole waypoint, and policy a/q")
    );
}
