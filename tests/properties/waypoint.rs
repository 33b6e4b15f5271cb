//! One filter for a whole waypoint decides about a request as the filter for only the service of the request.

use std::cell::RefCell;
use std::collections::BTreeMap;

use mesh_authz::config::NodeMetadata;
use mesh_authz::engine::Combining;
use mesh_authz::filter::telemetry::metrics::{Metric, MetricKind, Metrics};
use mesh_authz::filter::{FilterStatus, Host, Plugin, Reply, Telemetry};
use mesh_authz::request::{Headers, Lookup};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::cases;
use crate::policies::{BOTH, spec};
use crate::requests::{Attribute, Facts, partly_readable};

const ROOT: &str = "istio-system";
const NAMESPACES: [&str; 3] = ["a", "b", ROOT];

/// The services behind the waypoint: kind, namespace, name and hosts.
fn services() -> Vec<(&'static str, &'static str, &'static str, Vec<String>)> {
    let of = |namespace| {
        let service = move |name| ("Service", namespace, name, vec![format!("{name}.{namespace}.svc.mesh")]);
        let hosts = vec![format!("s.{namespace}.example"), format!("*.{namespace}.example")];
        [service("s"), service("t"), ("ServiceEntry", namespace, "s", hosts)]
    };
    NAMESPACES.into_iter().flat_map(of).collect()
}

fn reference(group: &str, kind: &str, name: &str) -> Value {
    json!({ "group": group, "kind": kind, "name": name })
}

fn policies() -> impl Strategy<Value = Vec<Value>> {
    let pool = vec![
        reference("gateway.networking.k8s.io", "Gateway", "w"),
        reference("gateway.networking.k8s.io", "GatewayClass", "istio-waypoint"),
        reference("", "Service", "s"),
        reference("", "Service", "s"),
        reference("", "Service", "t"),
        reference("networking.istio.io", "ServiceEntry", "s"),
    ];
    let action = select(&["ALLOW", "ALLOW", "DENY", "AUDIT", "CUSTOM"][..]).prop_flat_map(spec);
    let one = (action, subsequence(pool, 1..=2), select(&NAMESPACES[..]), proptest::bool::weighted(0.2));
    proptest::collection::vec(one, 1..=8).prop_map(|all| {
        let policy = |(n, (mut spec, targets, namespace, dry_run)): (usize, (Value, Vec<Value>, &str, bool))| {
            if spec["action"] == "CUSTOM" {
                spec = json!({ "action": "CUSTOM", "provider": { "name": "p" }, "rules": [{
                    "to": [{ "operation": { "paths": ["/a/*"] } }],
                }] });
            }
            let is_dry = dry_run && (spec["action"] == "DENY" || spec["action"] == "ALLOW");
            let annotations = if is_dry { json!({ "istio.io/dry-run": "true" }) } else { json!({}) };
            spec["targetRefs"] = json!(targets);
            json!({
                "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
                "metadata": { "name": format!("p{n}"), "namespace": namespace, "annotations": annotations },
                "spec": spec,
            })
        };
        all.into_iter().enumerate().map(policy).collect()
    })
}

/// A waypoint that has a request, and records what the filter does about it.
struct Proxy<'f> {
    facts: &'f Facts,
    chain: Lookup<String>,
    done: RefCell<Done>,
}

#[derive(Debug, Default, PartialEq)]
struct Done {
    replies: Vec<(u16, String)>,
    states: Vec<String>,
    counts: BTreeMap<String, u32>,
    names: Vec<String>,
    chain_is_read: usize,
}

impl Proxy<'_> {
    fn of(&self, attribute: Attribute) -> Lookup<&'static str> {
        self.facts.0[attribute as usize]
    }

    /// Every request in Envoy has a method.
    fn headers(&self) -> Lookup<Vec<(&'static str, &'static str)>> {
        match self.of(Attribute::Headers) {
            Lookup::Value(text) if !text.starts_with('-') => {
                let names = [":method", ":path", ":authority", "x", "x"];
                Lookup::Value(names.into_iter().zip(text.split(' ')).filter(|(_, value)| *value != "-").collect())
            }
            _ => Lookup::Unreadable,
        }
    }
}

impl Host for Proxy<'_> {
    fn property(&self, path: &str) -> Lookup<Vec<u8>> {
        let bytes = |text: &str| text.as_bytes().to_vec();
        let address = |text: &str| {
            if text.contains(':') { format!("[{text}]:1").into_bytes() } else { format!("{text}:1").into_bytes() }
        };
        match path {
            "filter_state\0io.istio.peer_principal" => self.of(Attribute::Uri).map(bytes),
            // Where both are known, a filter tells them in one entry. Otherwise older filter state and attributes do.
            "filter_state\0mesh_authz.peer" => match (self.of(Attribute::SourceIp), self.of(Attribute::Port)) {
                (Lookup::Value(ip), Lookup::Value(port)) => Lookup::Value(format!("{ip}\n{port}\n").into_bytes()),
                _ => Lookup::Absent,
            },
            "filter_state\0mesh_authz.source_ip" => self.of(Attribute::SourceIp).map(bytes),
            "source\0address" => self.of(Attribute::RemoteIp).map(address),
            "destination\0address" => self.of(Attribute::DestinationIp).map(address),
            "destination\0port" => {
                self.of(Attribute::Port).map(|text| text.parse::<i64>().unwrap().to_le_bytes().to_vec())
            }
            "connection\0requested_server_name" => self.of(Attribute::Sni).map(bytes),
            "xds\0filter_chain_name" => {
                self.done.borrow_mut().chain_is_read += 1;
                self.chain.clone().map(String::into_bytes)
            }
            "metadata" => self.of(Attribute::Metadata).and_then(|_| Lookup::Unreadable),
            _ => panic!("{path:?}"),
        }
    }

    fn request_headers(&self) -> Lookup<Vec<u8>> {
        self.headers().map(|headers| Headers::encode(&headers))
    }

    fn respond(&self, reply: &Reply, details: &str) {
        self.done.borrow_mut().replies.push((reply.status, details.to_owned()));
    }
}

impl Telemetry for Proxy<'_> {
    fn now(&self) -> u64 {
        0
    }

    fn set_filter_state(&self, _: &str, value: &str) {
        self.done.borrow_mut().states.push(value.to_owned());
    }
}

impl Metrics for Proxy<'_> {
    fn define(&self, _: MetricKind, name: &str) -> Option<Metric> {
        let names = &mut self.done.borrow_mut().names;
        names.push(name.to_owned());
        Some(Metric(u32::try_from(names.len()).unwrap() - 1))
    }

    fn add(&self, Metric(number): Metric, more: u32) {
        let mut done = self.done.borrow_mut();
        let name = done.names[usize::try_from(number).unwrap()].clone();
        // The waypoint's filter looks at paths if the policies of any service do.
        if name != "mesh_authz.unnormalized_path" {
            *done.counts.entry(name).or_default() += more;
        }
    }

    fn record(&self, _: Metric, _: u64) {}
}

/// What a filter with this configuration does about the request.
fn done(policies: &[Value], gateway: &Value, combining: Combining, facts: &Facts, chain: Lookup<String>) -> Done {
    let combining = if combining == Combining::DenyOverrides { "deny-overrides" } else { "permit-overrides" };
    let config = json!({
        "policies": policies, "gateway": gateway, "combining": combining, "trustDomain": "td",
        "trustDomainAliases": ["alias"], "filterState": "all", "decisionLog": "none", "allowNoneApplies": true,
        "debugHeader": { "name": "x-why", "principals": ["*"] },
    });
    let proxy = Proxy { facts, chain, done: RefCell::default() };
    let plugin = Plugin::load(config.to_string().into_bytes(), &NodeMetadata::in_namespace("a"), &proxy)
        .unwrap_or_else(|errors| panic!("{errors:#?}"));
    let status = plugin.on_request(&proxy);
    plugin.flush_counters(&proxy);
    let mut done = proxy.done.into_inner();
    assert_eq!(status == FilterStatus::Answered, done.replies.len() == 1);
    done.names.clear();
    done
}

/// The gateway of the filter for the whole waypoint.
fn whole() -> Value {
    let of = |wanted: &str| {
        let all = services().into_iter().filter(|(kind, ..)| *kind == wanted);
        let entries = all.flat_map(|(_, namespace, name, hosts)| {
            hosts.into_iter().map(move |host| json!({ "host": host, "namespace": namespace, "name": name }))
        });
        entries.collect::<Vec<_>>()
    };
    json!({ "name": "w", "waypoint": true, "services": of("Service"), "serviceEntries": of("ServiceEntry") })
}

#[test]
fn one_filter_for_a_waypoint_decides_as_the_filter_for_the_service_of_the_request() {
    let strategy = (policies(), proptest::collection::vec(partly_readable(), 3), select(&BOTH[..]));
    TestRunner::new(cases(60))
        .run(&strategy, |(policies, requests, combining)| {
            for facts in &requests {
                let decided = |chain: &str| {
                    let mut done = done(&policies, &whole(), combining, facts, Lookup::Value(chain.to_owned()));
                    assert_eq!(std::mem::take(&mut done.chain_is_read), 1);
                    done
                };
                for (kind, namespace, name, hosts) in services() {
                    let field = if kind == "Service" { "services" } else { "serviceEntries" };
                    let gateway = json!({ "name": "w", "waypoint": true, field: [format!("{namespace}/{name}")] });
                    let expected = done(&policies, &gateway, combining, facts, Lookup::Unreadable);
                    for host in hosts {
                        prop_assert_eq!(&decided(&format!("inbound-vip|80|http|{host}")), &expected, "{}", host);
                    }
                }
                let gateway = json!({ "name": "w", "waypoint": true });
                let expected = done(&policies, &gateway, combining, facts, Lookup::Unreadable);
                for chain in ["inbound-vip|80|http|u.a.svc.mesh", "inbound-vip|80|http|x.example", "direct-http"] {
                    prop_assert_eq!(&decided(chain), &expected, "{}", chain);
                }
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_request_is_refused_if_nobody_can_tell_its_service() {
    let strategy = (policies(), partly_readable(), select(&BOTH[..]));
    TestRunner::new(cases(200))
        .run(&strategy, |(policies, facts, combining)| {
            let chains = ["", "default", "inbound|80||", "direct-tcp", "inbound-vip|80|http|s.a.svc.cluster.local"];
            let chains = chains.map(|chain| Lookup::Value(chain.to_owned()));
            for chain in chains.into_iter().chain([Lookup::Absent, Lookup::Unreadable]) {
                let done = done(&policies, &whole(), combining, &facts, chain);
                prop_assert_eq!(&done.replies, &[(403, "mesh_authz_unknown_service".to_owned())]);
                prop_assert_eq!(done.counts, BTreeMap::from([("mesh_authz.denied".to_owned(), 1)]));
                prop_assert_eq!(done.states, [r#"{"decision":"DENY"}"#]);
            }
            Ok(())
        })
        .unwrap();
}
