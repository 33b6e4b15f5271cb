//! A waypoint in front of two Services and a ServiceEntry.

use mesh_authz_istio::{Pod, Recorder, Role};
use serde_json::{Value, json};

use crate::{
    place::{Place, eventually},
    plugin::{plugin_with, policy, service},
    rendered::{has_plugin, render},
    tunnel,
};

/// A waypoint, and the application that all services behind it lead to.
pub struct Waypoint {
    pub place: Place,
    pub pod: Pod,
    _upstream: Pod,
    applications: Vec<Recorder>,
}

/// The ports of the Services: HTTP, a protocol that Istio detects, and TCP.
const PORTS: [(&str, u16); 3] = [("http", 8080), ("api", 8081), ("tcp", 8082)];

/// The plugin's targets, and the selector's place in a policy.
pub fn waypoint_target() -> Value {
    json!([{ "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "waypoint" }])
}

/// The host and the address of the ServiceEntry: other ones for each test, because they are the whole mesh's.
fn partner_host(place: &Place) -> String {
    format!("partner.{}.example", place.namespace)
}

fn partner_address(place: &Place) -> String {
    format!("240.0.0.{}", place.number)
}

impl Waypoint {
    /// With the Services `cart` and `orders`, and a ServiceEntry for `partner.example`.
    pub fn new() -> Self {
        let place = Place::new();
        let upstream = place.pod("upstream", Role::None);
        let applications = PORTS.map(|(_, port)| upstream.serve(port).unwrap()).into();
        let labels = json!({
            "gateway.networking.k8s.io/gateway-name": "waypoint",
            "gateway.istio.io/managed": "istio.io-mesh-controller",
        });
        let mut own = service("waypoint", &[("mesh", 15008)]);
        own["metadata"]["labels"] = json!({ "gateway.networking.k8s.io/gateway-name": "waypoint" });
        own["spec"]["selector"] = json!({ "gateway.networking.k8s.io/gateway-name": "waypoint" });
        own["spec"]["ports"][0]["appProtocol"] = json!("hbone");
        place.apply(&own.to_string());
        place.apply(
            &json!({
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "Gateway",
                "metadata": { "name": "waypoint", "labels": { "istio.io/waypoint-for": "service" } },
                "spec": {
                    "gatewayClassName": "istio-waypoint",
                    "listeners": [{ "name": "mesh", "port": 15008, "protocol": "HBONE" }],
                },
            })
            .to_string(),
        );
        // Without it, a plain Envoy refuses what istiod sends.
        place.apply(include_str!("../objects/plain-waypoint.yaml"));
        let pod = place.labelled_pod("waypoint", Role::Waypoint, labels);
        place.endpoints("waypoint", "mesh", 15008, &[pod.ip()]);
        for name in ["cart", "orders"] {
            let mut service = service(name, &PORTS);
            service["metadata"]["labels"] = json!({ "istio.io/use-waypoint": "waypoint" });
            place.apply(&service.to_string());
            for (port_name, port) in PORTS {
                place.endpoints(name, port_name, port, &[upstream.ip()]);
            }
        }
        place.apply(
            &json!({
                "apiVersion": "networking.istio.io/v1",
                "kind": "ServiceEntry",
                "metadata": { "name": "partner", "labels": { "istio.io/use-waypoint": "waypoint" } },
                "spec": {
                    "hosts": [partner_host(&place)],
                    "addresses": [partner_address(&place)],
                    "location": "MESH_INTERNAL",
                    "resolution": "STATIC",
                    "ports": [{ "number": 8080, "name": "http", "protocol": "HTTP" }],
                    "endpoints": [{ "address": upstream.ip() }],
                },
            })
            .to_string(),
        );
        let waypoint = Self { place, pod, _upstream: upstream, applications };
        for service in ["cart", "orders", "partner"] {
            eventually(service, &200, || waypoint.ask(service, "frontend", "GET", "/"));
        }
        waypoint
    }

    /// Asks a service behind the waypoint. The status, or 0 if there was no answer.
    pub fn ask(&self, service: &str, account: &str, method: &str, path: &str) -> u16 {
        let host = match service {
            "partner" => partner_host(&self.place),
            _ => format!("{service}.{}.svc.cluster.local", self.place.namespace),
        };
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = self.send(service, 8080, account, request.as_bytes());
        tunnel::status(&answer)
    }

    /// Sends bytes to a service as ztunnel does: over mutual TLS, in the tunnel of an HTTP/2 CONNECT to the service's
    /// address. Returns what comes back.
    fn send(&self, service: &str, port: u16, account: &str, bytes: &[u8]) -> Vec<u8> {
        let address = match service {
            "partner" => partner_address(&self.place),
            _ => self.place.kubectl(&["get", "service", service, "-o", "jsonpath={.spec.clusterIP}"], ""),
        };
        tunnel::send(&self.pod, &self.place.certificate(account), &format!("{address}:{port}"), bytes)
    }
}

#[test]
fn a_plugin_decides_on_a_whole_waypoint() {
    let waypoint = Waypoint::new();
    let Waypoint { place, .. } = &waypoint;
    let rules = json!([{
        "from": [{ "source": { "principals": [format!("cluster.local/ns/{}/sa/frontend", place.namespace)] } }],
        "to": [{ "operation": { "methods": ["GET"] } }],
    }]);
    let mut allowed = policy("frontend-reads", "", "ALLOW", rules);
    allowed["metadata"]["namespace"] = json!(place.namespace);
    allowed["spec"].as_object_mut().unwrap().remove("selector");
    allowed["spec"]["targetRefs"] = waypoint_target();
    let configuration = json!({
        "policies": [allowed],
        "onInvalid": "deny",
        "gateway": { "name": "waypoint", "waypoint": true },
        "principalFrom": "filter-state",
    });
    let mut plugin = plugin_with("plugin", "", &configuration);
    let spec = plugin["spec"].as_object_mut().unwrap();
    spec.remove("selector");
    spec.insert("targetRefs".into(), waypoint_target());
    place.apply(&plugin.to_string());
    for service in ["cart", "orders", "partner"] {
        eventually(service, &[200, 403, 403], || {
            [("frontend", "GET"), ("frontend", "POST"), ("stranger", "GET")]
                .map(|(account, method)| waypoint.ask(service, account, method, "/"))
        });
    }
}

/// Policies of the whole waypoint, of a Service and of a ServiceEntry, and none for the Service `orders`.
fn policies(place: &Place) -> [Value; 3] {
    let targeting = |name: &str, action: &str, group: &str, kind: &str, target: &str, rules: Value| {
        let mut policy = policy(name, "", action, rules);
        policy["metadata"]["namespace"] = json!(place.namespace);
        policy["spec"].as_object_mut().unwrap().remove("selector");
        policy["spec"]["targetRefs"] = json!([{ "group": group, "kind": kind, "name": target }]);
        policy
    };
    let frontend =
        json!([{ "source": { "principals": [format!("cluster.local/ns/{}/sa/frontend", place.namespace)] } }]);
    let methods = |methods: &[&str]| json!([{ "operation": { "methods": methods } }]);
    [
        targeting(
            "no-posts",
            "DENY",
            "gateway.networking.k8s.io",
            "Gateway",
            "waypoint",
            json!([{ "to": methods(&["POST"]) }]),
        ),
        targeting("cart", "ALLOW", "", "Service", "cart", json!([{ "from": frontend }])),
        targeting(
            "partner",
            "ALLOW",
            "networking.istio.io",
            "ServiceEntry",
            "partner",
            json!([{ "to": methods(&["GET", "POST"]) }]),
        ),
    ]
}

/// What every account gets from every service, with every method.
fn answers(waypoint: &Waypoint) -> Vec<(String, u16)> {
    let mut answers = Vec::new();
    for service in ["cart", "orders", "partner"] {
        for account in ["frontend", "stranger"] {
            for method in ["GET", "PUT", "POST"] {
                let status = waypoint.ask(service, account, method, "/");
                answers.push((format!("{account} {method} {service}"), status));
            }
        }
    }
    answers
}

#[test]
fn one_plugin_knows_which_service_a_request_is_for_as_istio_does() {
    let waypoint = Waypoint::new();
    let Waypoint { place, .. } = &waypoint;
    let policies = policies(place);
    let expected: Vec<(String, u16)> = answers(&waypoint)
        .into_iter()
        .map(|(request, _)| {
            let allowed = !request.contains("POST")
                && match request.split(' ').collect::<Vec<_>>()[..] {
                    [account, _, "cart"] => account == "frontend",
                    [_, method, "partner"] => method != "PUT",
                    _ => true,
                };
            (request, if allowed { 200 } else { 403 })
        })
        .collect();

    let native = json!({ "apiVersion": "v1", "kind": "List", "items": policies }).to_string();
    place.apply(&native);
    eventually("by Istio itself", &expected, || answers(&waypoint));
    place.kubectl(&["delete", "-f", "-"], &native);
    eventually("without policies", &true, || answers(&waypoint).iter().all(|(_, status)| *status == 200));

    let entry = place.kubectl(&["get", "serviceentry", "partner", "-o", "json"], "");
    let entry: Value = serde_json::from_str(&entry).unwrap();
    let with_entry = [&policies[..], &[entry]].concat();
    let own = format!("{}/waypoint", place.namespace);
    place.apply(&render(place, &with_entry, &["--waypoint", &own, "--policies-applied"]));
    eventually("by the plugin", &expected, || answers(&waypoint));

    // Both, as the documents say.
    place.apply(&render(place, &with_entry, &["--waypoint", &own]));
    eventually("by both", &expected, || answers(&waypoint));
}

#[test]
fn beside_native_policies_a_stranger_has_no_way_through_a_waypoint() {
    const BYTES: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: cart\r\nConnection: close\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.2\r\nHost: cart\r\nConnection: close\r\n\r\n",
        b"GET\t/\tHTTP/1.1\r\nHost: cart\r\nConnection: close\r\n\r\n",
    ];
    let waypoint = Waypoint::new();
    let Waypoint { place, applications, .. } = &waypoint;
    let ways_in = |account: &str| {
        let mut ways = Vec::new();
        for ((name, port), application) in PORTS.iter().zip(applications) {
            for bytes in BYTES {
                let before = application.reached();
                // Whatever the answer is: it counts what the application got.
                waypoint.send("cart", *port, account, bytes);
                if application.reached() != before {
                    ways.push(format!("{name}: {}", bytes.escape_ascii()));
                }
            }
        }
        ways
    };
    let [_, cart, _] = policies(place);
    let own = format!("{}/waypoint", place.namespace);
    place.apply(&render(place, &[cart], &["--waypoint", &own]));
    eventually("the policy and the plugin", &(200, 403), || {
        (waypoint.ask("cart", "frontend", "GET", "/"), waypoint.ask("cart", "stranger", "GET", "/"))
    });
    eventually("the plugin", &true, || has_plugin(&waypoint.pod));
    assert_eq!(ways_in("stranger"), Vec::<String>::new());
    // The test can fail: the frontend, whom the policy allows on every port, has ways in.
    assert!(ways_in("frontend").len() > 3);
}
