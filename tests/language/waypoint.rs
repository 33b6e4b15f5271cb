//! Which service of a waypoint a request is for: the name of its filter chain tells.

use std::cell::Cell;

use mesh_authz::config::NodeMetadata;
use mesh_authz::document::from_json;
use mesh_authz::filter::{Host, Plugin, Reply};
use mesh_authz::policy::scope::{Gateway, ServiceName};
use mesh_authz::policy::waypoint::{Destination, ServicesByHost};
use mesh_authz::request::owned::encode_value;
use mesh_authz::request::{Headers, Lookup};
use mesh_authz::wire::{Field, Fields};
use serde_json::json;

use crate::support::reports_nothing;

fn service(namespace: &str, name: &str, host: &str) -> ServiceName {
    ServiceName { namespace: namespace.to_owned(), name: name.to_owned(), host: Some(host.to_owned()) }
}

fn services() -> ServicesByHost {
    let gateway = Gateway {
        name: "w".to_owned(),
        waypoint: true,
        services: vec![
            service("shop", "cart", "cart.shop.svc.cluster.local"),
            service("bank", "cart", "cart.bank.svc.cluster.local"),
            service("svc", "cart", "cart.svc.svc.cluster.local"),
        ],
        service_entries: vec![
            service("shop", "out", "api.example.com"),
            service("shop", "out", "*.Example.com"),
            service("shop", "mixed", "app.default.mesh"),
        ],
    };
    let (services, twin) = ServicesByHost::new(&gateway);
    assert_eq!(twin, None);
    services
}

#[test]
fn the_host_in_the_name_of_the_chain_tells_the_service() {
    use Destination::{Other, Service, Unknown};
    let rows: &[(&[u8], Destination)] = &[
        (b"inbound-vip|8080|http|cart.shop.svc.cluster.local", Service(0)),
        (b"inbound-vip|80|http|cart.shop.svc.cluster.local", Service(0)),
        (b"inbound-vip|80|http/v1|cart.shop.svc.cluster.local", Service(0)),
        (b"inbound-vip|80||cart.shop.svc.cluster.local", Service(0)),
        (b"inbound-vip|8080|http|cart.bank.svc.cluster.local", Service(1)),
        (b"inbound-vip|8080|http|CART.Bank.svc.cluster.local", Service(1)),
        (b"inbound-vip|443|http|api.example.com", Service(3)),
        (b"inbound-vip|443|http|*.example.com", Service(3)),
        (b"inbound-vip|443|http|API.EXAMPLE.COM", Service(3)),
        (b"inbound-vip|8080|http|app.default.mesh", Service(5)),
        (b"inbound-vip|8080|http|cart.svc.svc.cluster.local", Service(2)),
        // No policy names these.
        (b"inbound-vip|8080|http|pay.shop.svc.cluster.local", Other),
        (b"inbound-vip|8080|http|cart.shopping.svc.cluster.local", Other),
        (b"inbound-vip|8080|http|x.cart.shop.svc.cluster.local", Other),
        (b"inbound-vip|8080|http|www.example.com", Other),
        (b"inbound-vip|8080|http|h", Other),
        (b"direct-http", Other),
        // The domain of the cluster is another one than the configuration says.
        (b"inbound-vip|8080|http|cart.shop.svc.mesh", Unknown),
        (b"inbound-vip|8080|http|Cart.shop.svc.mesh", Unknown),
        (b"inbound-vip|8080|http|cart.svc.svc.mesh", Unknown),
        (b"inbound-vip|8080|http|cart.bank.svc.clusterset.local", Unknown),
        // Not a chain for HTTP of a waypoint.
        (b"", Unknown),
        (b"default", Unknown),
        (b"direct-tcp", Unknown),
        (b"direct-http ", Unknown),
        (b"encap", Unknown),
        (b"inbound|8080||", Unknown),
        (b"inbound|8080|http|cart.shop.svc.cluster.local", Unknown),
        (b"outbound|8080|http|cart.shop.svc.cluster.local", Unknown),
        (b"virtualInbound", Unknown),
        (b"inbound-vip", Unknown),
        (b"inbound-vip|", Unknown),
        (b"inbound-vip|8080", Unknown),
        (b"inbound-vip|8080|http", Unknown),
        (b"inbound-vip|8080|cart.shop.svc.cluster.local", Unknown),
        (b"inbound-vip|8080|http|", Unknown),
        (b"inbound-vip|8080|http|cart.shop.svc.cluster.local|", Unknown),
        (b"inbound-vip|8080|http|x|cart.shop.svc.cluster.local", Unknown),
        (b"Inbound-vip|8080|http|cart.shop.svc.cluster.local", Unknown),
        (b" inbound-vip|8080|http|cart.shop.svc.cluster.local", Unknown),
    ];
    let services = services();
    for (chain, expected) in rows {
        assert_eq!(services.destination(chain), *expected, "{}", String::from_utf8_lossy(chain));
    }
}

#[test]
fn a_host_that_is_there_twice_is_found() {
    let twin = |services: Vec<ServiceName>, service_entries: Vec<ServiceName>| {
        let gateway = Gateway { name: "w".to_owned(), waypoint: true, services, service_entries };
        ServicesByHost::new(&gateway).1.map(str::to_owned)
    };
    let host = "cart.shop.svc.cluster.local";
    let cart = || service("shop", "cart", host);
    assert_eq!(twin(vec![cart()], vec![]), None);
    assert_eq!(twin(vec![cart(), cart()], vec![]).as_deref(), Some(host));
    assert_eq!(twin(vec![cart()], vec![service("a", "x", host)]).as_deref(), Some(host));
    assert_eq!(twin(vec![cart()], vec![service("a", "x", &host.to_uppercase())]), Some(host.to_uppercase()));
    let further = service("shop", "cart", "cart.shop.svc.clusterset.local");
    assert_eq!(twin(vec![cart(), further], vec![]), None, "a Service can have several hosts");
}

/// A waypoint with a request `GET /` for the service `s`, and what Envoy's RBAC filter has found about CUSTOM policies.
struct Asked {
    metadata: Vec<u8>,
    status: Cell<u16>,
}

impl Host for Asked {
    fn property(&self, path: &str) -> Lookup<Vec<u8>> {
        match path {
            "xds\0filter_chain_name" => Lookup::Value(b"inbound-vip|80|http|s.a.svc.cluster.local".to_vec()),
            "metadata" => Lookup::Value(self.metadata.clone()),
            _ => Lookup::Absent,
        }
    }

    fn request_headers(&self) -> Lookup<Vec<u8>> {
        Lookup::Value(Headers::encode(&[(":method", "GET"), (":path", "/"), (":authority", "s")]))
    }

    fn respond(&self, reply: &Reply, _: &str) {
        self.status.set(reply.status);
    }
}

reports_nothing!(Asked);

/// An `envoy.config.core.v3.Metadata` message with what the RBAC filter has set.
fn found(fields: &serde_json::Value) -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| {
        let [low, high] = [bytes.len() & 0x7f, bytes.len() >> 7].map(|part| u8::try_from(part).unwrap());
        [&[number << 3 | 2, low | 0x80, high], bytes].concat()
    };
    let value = encode_value(&from_json(fields.to_string().as_bytes()).unwrap());
    let Some(Ok((5, Field::Bytes(set)))) = Fields::of(&value).next() else { panic!("{fields}") };
    field(1, &[field(1, b"envoy.filters.http.rbac"), field(2, set)].concat())
}

/// The policies of the whole waypoint and those of the service are in two engines. With one trace, only one provider can be
/// asked: if the policies name two, nobody is, as in Istio by default. With a trace for each, both must have been asked.
#[test]
fn a_waypoint_and_its_service_name_one_provider_or_each_is_asked() {
    let custom = |name: &str, provider: &str, kind: &str, target: &str, path: &str| {
        let group = if kind == "Gateway" { "gateway.networking.k8s.io" } else { "" };
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": { "name": name, "namespace": "a" },
            "spec": {
                "action": "CUSTOM", "provider": { "name": provider },
                "targetRefs": [{ "group": group, "kind": kind, "name": target }],
                "rules": [{ "to": [{ "operation": { "paths": [path] } }] }],
            },
        })
    };
    let id = |provider: &str| format!("istio-ext-authz-{provider}-ns[a]-policy[x]-rule[0]");
    let status = |custom_field: &str, service_provider: &str, service_path: &str, fields: serde_json::Value| {
        let config = json!({
            "policies": [
                custom("whole", "p", "Gateway", "w", "/"),
                custom("of-service", service_provider, "Service", "s", service_path),
            ],
            "custom": custom_field,
            "workload": { "namespace": "a", "labels": {} },
            "gateway": {
                "name": "w", "waypoint": true,
                "services": [{ "host": "s.a.svc.cluster.local", "namespace": "a", "name": "s" }],
            },
        });
        let asked = Asked { metadata: found(&fields), status: Cell::new(200) };
        let plugin = Plugin::load(config.to_string().into_bytes(), &NodeMetadata::default(), &asked).unwrap();
        plugin.on_request(&asked);
        asked.status.get()
    };
    let shared = |provider: &str| json!({ "istio_ext_authz_shadow_engine_result": "denied", "istio_ext_authz_shadow_effective_policy_id": id(provider) });
    assert_eq!(status("native", "p", "/", shared("p")), 200);
    assert_eq!(status("native", "p", "/other", shared("p")), 200);
    for service_path in ["/", "/other"] {
        for asked in ["p", "q"] {
            assert_eq!(status("native", "q", service_path, shared(asked)), 403, "{service_path}, {asked}");
        }
    }
    let own = |asked: &[&str]| {
        let mut fields = json!({});
        for provider in ["p", "q"] {
            fields[format!("istio_ext_authz_{provider}_shadow_engine_result")] = json!("allowed");
        }
        for provider in asked {
            fields[format!("istio_ext_authz_{provider}_shadow_effective_policy_id")] = json!(id(provider));
        }
        fields
    };
    assert_eq!(status("native-each", "q", "/", own(&["p", "q"])), 200);
    assert_eq!(status("native-each", "q", "/other", own(&["p"])), 200);
    for asked in [&[][..], &["p"], &["q"]] {
        assert_eq!(status("native-each", "q", "/", own(asked)), 403, "{asked:?}");
    }
}
