//! Resources for Istio: the resources that a workload loads decide together like all policies in one filter.
//!
//! This file implements a second time which resources Istio loads on a workload. [`loads`] follows Istio's
//! documentation and uses only the rendered resource.

mod waypoints;

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_authz::config::{Mesh, NodeMetadata, Outgoing, PluginConfig};
use mesh_authz::diagnostic::Diagnostics;
use mesh_authz::engine::{Combining, Engine, Verdict};
use mesh_authz::policy::scope::{Gateway, Scope, ServiceName, Workload, scope};
use mesh_authz::policy::{Action, Target, TargetKind};
use mesh_authz::request::Lookup;
use mesh_authz_cli::load::finding::SourceText;
use mesh_authz_cli::load::{LoadedPolicy, Other};
use mesh_authz_cli::render::instances::{Gateways, Hosts, NativeHttp, Plan, Topology, Waypoint, plan};
use mesh_authz_cli::render::kubernetes::{ExtensionKind, Image, extension, let_through};
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

/// The waypoints that may be given. Two have the same name.
const WAYPOINTS: [(&str, &str); 3] = [("a", "w"), ("a", "v"), ("b", "w")];

fn waypoints(given: &[(&str, &str)]) -> BTreeSet<Waypoint> {
    let waypoint = |(namespace, name): &(&str, &str)| Waypoint { namespace: (*namespace).into(), name: (*name).into() };
    given.iter().map(waypoint).collect()
}

fn options(combining: Combining) -> Mesh {
    Mesh {
        trust_domain: "td".to_owned(),
        aliases: vec!["alias".to_owned()],
        root_namespace: ROOT.to_owned(),
        combining,
        ..Mesh::default()
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

fn references() -> impl Strategy<Value = Vec<Value>> {
    let mut pool = vec![reference("Gateway", "g"), reference("Gateway", "h"), reference("GatewayClass", "elsewhere")];
    pool.extend(["v", "w"].map(|name| reference("Gateway", name)));
    pool.push(reference("GatewayClass", "istio-waypoint"));
    pool.extend(["s", "t"].map(|name| reference("Service", name)));
    pool.extend(["s", "t"].map(|name| reference("ServiceEntry", name)));
    subsequence(pool, 1..=3)
}

fn target() -> impl Strategy<Value = Value> {
    prop_oneof![
        2 => Just(json!({})),
        4 => labels(2).prop_map(|labels| json!({ "selector": { "matchLabels": object(&labels) } })),
        3 => references().prop_map(|references| json!({ "targetRefs": references })),
    ]
}

fn object(labels: &[(&str, &str)]) -> Value {
    labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect::<serde_json::Map<_, _>>().into()
}

fn policies() -> impl Strategy<Value = Vec<Value>> {
    let custom = json!({ "action": "CUSTOM", "provider": { "name": "asked" }, "rules": [{ "to": [{ "operation": { "paths": ["/a*"] } }] }] });
    let action = prop_oneof![
        6 => select(&["ALLOW", "ALLOW", "DENY", "AUDIT"][..]).prop_flat_map(spec),
        1 => Just(custom),
    ];
    let one = (action, target(), select(&NAMESPACES[..]), proptest::bool::weighted(0.2));
    proptest::collection::vec(one, 1..=5).prop_map(|all| {
        let policy = |(n, (mut spec, target, namespace, dry_run)): (usize, (Value, Value, &str, bool))| {
            let may_be_dry_run = ["ALLOW", "DENY"].contains(&spec["action"].as_str().unwrap());
            spec.as_object_mut().unwrap().extend(target.as_object().unwrap().clone());
            let mut policy = json!({
                "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
                "metadata": { "name": format!("p{n}"), "namespace": namespace }, "spec": spec,
            });
            if dry_run && may_be_dry_run {
                policy["metadata"]["annotations"] = json!({ "istio.io/dry-run": "true" });
            }
            policy
        };
        all.into_iter().enumerate().map(policy).collect()
    })
}

/// The hosts of a service behind the waypoint.
fn hosts(kind: &str, namespace: &str, name: &str) -> Vec<String> {
    match kind {
        "Service" => vec![format!("{name}.{namespace}.svc.mesh")],
        _ => vec![format!("{name}.{namespace}.example"), format!("*.{name}.{namespace}.example")],
    }
}

fn service_entries() -> Vec<Other> {
    let source = Arc::new(SourceText::new("entries.yaml".into(), String::new()));
    let entry = |(namespace, name): (&str, &str)| {
        let entry = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
            "metadata": { "name": name, "namespace": namespace },
            "spec": { "hosts": hosts("ServiceEntry", namespace, name) },
        });
        Other { source: Arc::clone(&source), node: node(&entry) }
    };
    NAMESPACES.into_iter().flat_map(|namespace| [(namespace, "s"), (namespace, "t")]).map(entry).collect()
}

/// The proxy that receives a request.
#[derive(Clone, Debug)]
struct Proxy {
    namespace: &'static str,
    labels: Vec<(&'static str, &'static str)>,
    /// Whether it is a gateway. Any workload can be one, whatever its labels.
    is_gateway: bool,
    /// Set on a waypoint: the kind, namespace and name of the service that the request is for.
    service: Option<(&'static str, &'static str, &'static str)>,
}

impl Proxy {
    /// Whether the filter decides about a request. `outgoing` means the outgoing listeners of a sidecar.
    fn decides(&self, config: &PluginConfig, outgoing: bool) -> bool {
        let is_sidecar = !self.is_gateway && self.service.is_none();
        !(is_sidecar && outgoing && config.outgoing == Outgoing::Pass)
    }

    fn gateway_name(&self) -> Option<&'static str> {
        self.labels.iter().find(|(key, _)| *key == LABELS[5].0).map(|(_, value)| *value)
    }

    fn metadata(&self) -> NodeMetadata {
        let labels = self.labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        NodeMetadata { labels: Lookup::Value(labels), ..NodeMetadata::in_namespace(self.namespace) }
    }

    fn workload(&self) -> Workload {
        let gateway = self.service.map(|(kind, namespace, name)| {
            let service = ServiceName { namespace: namespace.to_owned(), name: name.to_owned(), host: None };
            let name = self.gateway_name().unwrap().to_owned();
            let gateway = Gateway { name, waypoint: true, ..Gateway::default() };
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

/// Some waypoints that are given, and a proxy: one of these, or no waypoint.
fn proxies() -> impl Strategy<Value = (Vec<(&'static str, &'static str)>, Proxy)> {
    subsequence(&WAYPOINTS[..], 1..=3).prop_flat_map(|given| (Just(given.clone()), proxy(given)))
}

/// A sidecar or a gateway.
fn workload() -> impl Strategy<Value = Proxy> {
    (select(&NAMESPACES[..]), labels(5), any::<bool>()).prop_map(|(namespace, labels, is_gateway)| {
        // A workload with the name of a Gateway is one.
        let is_gateway = is_gateway || labels.iter().any(|(key, _)| *key == LABELS[5].0);
        Proxy { namespace, labels, is_gateway, service: None }
    })
}

fn proxy(waypoints: Vec<(&'static str, &'static str)>) -> impl Strategy<Value = Proxy> {
    let service = (select(&["Service", "ServiceEntry"][..]), select(&NAMESPACES[..]), select(&["s", "t"][..]));
    let waypoint = (select(waypoints), service).prop_map(|((namespace, name), service)| Proxy {
        namespace,
        labels: vec![(LABELS[5].0, name), ("gateway.istio.io/managed", "istio.io-mesh-controller")],
        is_gateway: false,
        service: Some(service),
    });
    prop_oneof![3 => workload(), 2 => waypoint]
}

/// Whether Istio loads a resource on a proxy, or enforces a policy there. Without `match`, it does so on all listeners.
fn loads(resource: &Value, proxy: &Proxy) -> bool {
    let spec = &resource["spec"];
    let namespace = resource["metadata"]["namespace"].as_str().unwrap();
    assert_eq!(spec.get("match"), None, "it would leave listeners out");
    if let Some(references) = spec.get("targetRefs") {
        return references.as_array().unwrap().iter().any(|reference| {
            let is = |kind: &str, name: &str| reference["kind"] == kind && reference["name"] == name;
            let name = proxy.gateway_name();
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

fn planned<'r>(resources: &'r [LoadedPolicy], given: &[(&str, &str)]) -> Plan<'r> {
    let (waypoints, entries) = (waypoints(given), service_entries());
    plan(resources, &topology(&waypoints, &entries), NativeHttp::All)
}

fn planned_alone<'r>(resources: &'r [LoadedPolicy], given: &[(&str, &str)]) -> Plan<'r> {
    let (waypoints, entries) = (waypoints(given), service_entries());
    plan(resources, &topology(&waypoints, &entries), NativeHttp::Denials)
}

fn topology<'t>(waypoints: &'t BTreeSet<Waypoint>, others: &'t [Other]) -> Topology<'t> {
    let (hosts, gateways) = (Hosts::new("mesh", others), Gateways::new(others));
    Topology { root_namespace: ROOT, waypoints, hosts, gateways, revision: None }
}

fn rendered(plan: &Plan<'_>, kind: ExtensionKind, combining: Combining) -> Vec<Value> {
    let image = Image { url: "oci://registry.example/m:1".to_owned(), sha256: None, pull_secret: None };
    plan.instances
        .iter()
        .map(|instance| extension(kind, instance, &image, &options(combining), None, &[], None))
        .collect()
}

/// The configuration of this resource, as a filter on this proxy reads it.
fn config(resource: &Value, proxy: &Proxy) -> PluginConfig {
    let config = [&resource["spec"]["pluginConfig"], &resource["spec"]["wasm"]["pluginConfig"]];
    let config = config.into_iter().find(|config| config.is_object()).unwrap();
    PluginConfig::read(config.to_string().as_bytes(), &proxy.metadata())
        .unwrap_or_else(|errors| panic!("{errors:#?} in {resource:#} on {proxy:?}"))
}

/// The engines of the filters that are loaded on this proxy with the configuration of this resource: on a waypoint, one
/// for each filter chain of the service.
fn engines(resource: &Value, proxy: &Proxy) -> Vec<Engine> {
    let mut config = config(resource, proxy);
    let gateway = config.workload.gateway.clone();
    let mut engine = |gateway| {
        config.workload.gateway = gateway;
        let applying = config.policies.iter().filter(|policy| scope(policy, &config.workload) == Scope::Applies);
        Engine::new(applying, &config.options)
    };
    let (Some(gateway), Some((kind, namespace, name))) = (&gateway, proxy.service) else {
        return vec![engine(gateway)];
    };
    let of_host = |host: String| {
        let named = |services: &[ServiceName]| -> Vec<ServiceName> {
            services.iter().filter(|service| service.host.as_ref() == Some(&host)).cloned().collect()
        };
        let (services, service_entries) = (named(&gateway.services), named(&gateway.service_entries));
        engine(Some(Gateway { services, service_entries, ..gateway.clone() }))
    };
    hosts(kind, namespace, name).into_iter().map(of_host).collect()
}

#[test]
fn the_instances_on_a_workload_decide_together_what_all_policies_decide() {
    let strategy = (policies(), proxies(), proptest::collection::vec(partly_readable(), 4), select(&BOTH[..]));
    TestRunner::new(cases(600))
        .run(&strategy, |(policies, (given, proxy), requests, combining)| {
            let resources = resources(&policies);
            let plan = planned(&resources, &given);
            prop_assert!(plan.refused.is_empty(), "{:?}", plan.refused);
            let workload = proxy.workload();
            let applying = resources.iter().map(|resource| &resource.policy);
            // Istio enforces CUSTOM policies itself.
            let applying: Vec<_> = applying
                .filter(|policy| policy.action != Action::Custom && scope(policy, &workload) == Scope::Applies)
                .collect();
            let all = Engine::new(applying.iter().copied(), &crate::policies::options(combining));
            for kind in [ExtensionKind::WasmPlugin, ExtensionKind::TrafficExtension] {
                let rendered = rendered(&plan, kind, combining);
                let loaded: Vec<_> = rendered.iter().filter(|resource| loads(resource, &proxy)).collect();
                prop_assert!(applying.is_empty() || !loaded.is_empty(), "nothing is loaded");
                let engines: Vec<_> = loaded.iter().flat_map(|resource| engines(resource, &proxy)).collect();
                for facts in &requests {
                    let expected = verdict(&all, facts);
                    prop_assert_eq!(together(&engines, facts), expected);
                }
                // On a sidecar, every instance lets pass what the workload sends. Gateways and waypoints have no such side.
                for resource in &loaded {
                    let config = config(resource, &proxy);
                    prop_assert!(proxy.decides(&config, false));
                    prop_assert_eq!(proxy.decides(&config, true), proxy.is_gateway || proxy.service.is_some());
                    prop_assert!(config.policies.iter().all(|policy| policy.action != Action::Custom));
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
            let rendered = |policies: &[Value]| {
                let resources = resources(policies);
                self::rendered(&planned(&resources, &WAYPOINTS), ExtensionKind::WasmPlugin, Combining::DenyOverrides)
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

/// The policy that lets HTTP through stands only where Istio itself would refuse what no ALLOW policy allows, and only
/// where a plugin stands: elsewhere, it would open HTTP, or close TCP.
#[test]
fn http_is_let_through_only_where_a_plugin_decides_about_it() {
    TestRunner::new(cases(600))
        .run(&(policies(), proxies()), |(policies, (given, proxy))| {
            let resources = resources(&policies);
            let plan = planned_alone(&resources, &given);
            let rendered = rendered(&plan, ExtensionKind::WasmPlugin, Combining::DenyOverrides);
            let let_through: Vec<_> = plan.restricted.iter().map(|place| let_through(place, None, false)).collect();
            let is_let_through = let_through.iter().any(|policy| loads(policy, &proxy));
            let has_plugin = rendered.iter().any(|resource| loads(resource, &proxy));
            prop_assert!(has_plugin || !is_let_through, "{:?}", let_through);
            let workload = proxy.workload();
            let restricts = |resource: &LoadedPolicy| {
                let policy = &resource.policy;
                policy.action == Action::Allow && !policy.dry_run && scope(policy, &workload) == Scope::Applies
            };
            let is_restricted = resources.iter().any(restricts);
            let is_native = plan.native.iter().any(|native| restricts(native.policy));
            // Policies for single services stay with Istio, and so does a waypoint that may serve them.
            let is_of_service = |resource: &LoadedPolicy| match &resource.policy.target {
                Target::References(references) => {
                    let kinds = [TargetKind::Service, TargetKind::ServiceEntry];
                    references.iter().any(|reference| kinds.contains(&reference.kind))
                }
                Target::Everything | Target::Labels(_) => false,
            };
            let is_of_services = resources.iter().any(|it| restricts(it) && is_of_service(it));
            prop_assert!(proxy.service.is_none() || !is_of_services || !is_let_through, "{:?}", let_through);
            prop_assert!(is_let_through || is_native || is_of_services || !is_restricted, "{:?}", let_through);
            prop_assert!(is_restricted || !is_let_through, "{:?}", let_through);
            Ok(())
        })
        .unwrap();
}

/// The policies that let HTTP through or, in their place, stop that.
fn all_let_through(plan: &Plan<'_>) -> Vec<Value> {
    let stopped = plan.native.iter().map(|native| let_through(&native.place, None, true));
    stopped.chain(plan.restricted.iter().map(|place| let_through(place, None, false))).collect()
}

/// Whether Istio alone allows a request to a workload, by these resources and the labels that it now has.
fn natively(policies: &[LoadedPolicy], let_through: &[Value], proxy: &Proxy, facts: &Facts) -> Verdict {
    let let_through: Vec<_> = let_through.iter().map(read).collect();
    let all = policies.iter().map(|resource| &resource.policy).chain(&let_through);
    let workload = proxy.workload();
    let applying = all.filter(|policy| scope(policy, &workload) == Scope::Applies);
    verdict(&Engine::new(applying, &crate::policies::options(Combining::DenyOverrides)), facts)
}

/// istiod selects resources by the labels that a pod has now. Its proxy knows those that the pod started with.
#[test]
fn labels_that_change_while_a_pod_runs_open_nothing() {
    let strategy = (policies(), workload(), workload(), proptest::collection::vec(partly_readable(), 4));
    let strategy = (strategy, proptest::bool::weighted(0.7), any::<proptest::sample::Index>());
    let strategy = strategy.prop_map(|((policies, now, started, requests), alone, fewer)| {
        (policies, now, started, requests, alone, fewer)
    });
    let let_through_and_allowed = std::cell::Cell::new(0);
    TestRunner::new(cases(1500))
        .run(&strategy, |(mut policies, now, started, requests, alone, fewer)| {
            policies.retain(|policy| policy["spec"]["action"] != "CUSTOM");
            let resources = resources(&policies);
            let started = Proxy { namespace: now.namespace, ..started };
            let plan = if alone { planned_alone(&resources, &WAYPOINTS) } else { planned(&resources, &WAYPOINTS) };
            let rendered = rendered(&plan, ExtensionKind::WasmPlugin, Combining::DenyOverrides);
            let let_through = if alone { all_let_through(&plan) } else { Vec::new() };
            // An earlier output, with fewer policies, left some that this one does not have.
            let earlier = planned_alone(&resources[..fewer.index(resources.len() + 1)], &WAYPOINTS);
            let names: BTreeSet<_> = let_through.iter().map(|policy| policy["metadata"].to_string()).collect();
            let left = all_let_through(&earlier).into_iter().filter(|_| alone);
            let left = left.filter(|policy| !names.contains(&policy["metadata"].to_string()));
            let let_through: Vec<_> = left.chain(let_through.clone()).collect();
            // A configuration that is refused refuses every request.
            let loaded: Result<Vec<_>, _> = rendered
                .iter()
                .filter(|resource| loads(resource, &now))
                .map(|resource| {
                    let config = resource["spec"]["pluginConfig"].to_string();
                    PluginConfig::read(config.as_bytes(), &started.metadata())
                })
                .collect();
            let Ok(loaded) = loaded else { return Ok(()) };
            let engine = |config: &PluginConfig| {
                let applying =
                    config.policies.iter().filter(|policy| scope(policy, &config.workload) == Scope::Applies);
                Engine::new(applying, &config.options)
            };
            let engines: Vec<_> = loaded.iter().map(engine).collect();
            for facts in &requests {
                let by_istio = natively(&resources, &let_through, &now, facts);
                let both = if by_istio == Verdict::Deny { by_istio } else { together(&engines, facts) };
                prop_assert!(both == Verdict::Deny || natively(&resources, &[], &now, facts) == Verdict::Allow);
                if both == Verdict::Allow && let_through.iter().any(|policy| loads(policy, &now)) {
                    let_through_and_allowed.set(let_through_and_allowed.get() + 1);
                }
            }
            Ok(())
        })
        .unwrap();
    assert!(let_through_and_allowed.get() > 0);
}

#[test]
fn one_resource_protects_sidecars_and_gateways_whatever_their_labels() {
    let mut narrow = crate::policies::named("p", json!({ "action": "DENY", "rules": [{}] }));
    narrow["spec"]["selector"] = json!({ "matchLabels": { "app": "public-gw" } });
    let mut wide = crate::policies::named("q", json!({ "rules": [{}] }));
    wide["metadata"]["namespace"] = json!(ROOT);
    let proxy = |is_gateway| Proxy { namespace: "a", labels: vec![("app", "public-gw")], is_gateway, service: None };
    for (policies, carried) in [(vec![narrow.clone()], 1), (vec![narrow, wide], 2)] {
        let resources = resources(&policies);
        let rendered = rendered(&planned(&resources, &[]), ExtensionKind::WasmPlugin, Combining::DenyOverrides);
        let [only] = rendered.as_slice() else { panic!("{rendered:#?}") };
        for is_gateway in [false, true] {
            assert!(loads(only, &proxy(is_gateway)));
            assert_eq!(config(only, &proxy(is_gateway)).policies.len(), carried);
        }
    }
}
