//! What reaches an application by another way than HTTP on a port that is declared as HTTP.

use std::time::Duration;

use mesh_authz_istio::{Pod, Recorder, Role};
use serde_json::json;
use testbed::Client;

use crate::{
    place::{Place, eventually, status},
    plugin::{frontend_reads_data, service, wasm_plugin},
};

/// A port of a pod, and how its Service declares it.
const PORTS: [(&str, u16); 4] = [("http", 8080), ("api", 8081), ("tcp", 8082), ("undeclared", 8083)];

/// What a stranger sends, who wants the data. The last three are no HTTP to Envoy, but many applications answer them.
const BYTES: [&[u8]; 4] = [
    b"GET /api/v1/data HTTP/1.1\r\nHost: backend\r\n\r\n",
    b"GET /api/v1/data\r\n\r\n",
    b"GET /api/v1/data HTTP/1.2\r\nHost: backend\r\n\r\n",
    b"GET\t/api/v1/data\tHTTP/1.1\r\nHost: backend\r\n\r\n",
];

struct Ports {
    place: Place,
    pod: Pod,
    applications: Vec<Recorder>,
}

impl Ports {
    fn new() -> Self {
        let place = Place::new();
        let pod = place.pod("backend", Role::Sidecar);
        let applications = PORTS.map(|(_, port)| pod.serve(port).unwrap()).into();
        place.apply(&service("backend", &PORTS[..3]).to_string());
        Self { place, pod, applications }
    }

    /// The ways that a connection can be made, by who makes it: with the certificate of an account and the protocols
    /// that it offers, or in plain text.
    fn clients(&self, port: u16, account: &str) -> Vec<(&'static str, Client)> {
        let certificate = self.place.certificate(account);
        let offering = |protocols: &[&str]| {
            let mut client = self.pod.client(port, Some(&certificate));
            client.timeout = Duration::from_secs(2);
            client.tls.as_mut().unwrap().alpn = Some(protocols.iter().map(|&name| name.to_owned()).collect());
            client
        };
        vec![
            ("as a sidecar", offering(&["istio-http/1.1"])),
            ("as a sidecar over TCP", offering(&["istio"])),
            ("with ALPN http/1.1", offering(&["http/1.1"])),
            ("without ALPN", offering(&[])),
            ("in plain text", self.pod.client(port, None)),
        ]
    }

    /// Everything by which this account reaches an application: port, client, bytes.
    fn ways_in(&self, account: &str) -> Vec<String> {
        let mut ways = Vec::new();
        for ((declared, port), application) in PORTS.into_iter().zip(&self.applications) {
            for (how, client) in self.clients(port, account) {
                for bytes in BYTES {
                    let before = application.reached();
                    // Whatever the answer is: it counts what the application got.
                    let _ = client.send_raw(bytes);
                    if application.reached() != before {
                        ways.push(format!("{declared}, {how}: {}", bytes[..20].escape_ascii()));
                    }
                }
            }
        }
        ways
    }

    fn frontend_reads(&self) -> u16 {
        status(&self.clients(8080, "frontend")[0].1, &testbed::Request::get("/api/v1/data"))
    }

    fn stranger_reads(&self) -> u16 {
        status(&self.clients(8080, "stranger")[0].1, &testbed::Request::get("/api/v1/data"))
    }
}

#[test]
fn beside_native_policies_a_stranger_has_no_way_in() {
    let ports = Ports::new();
    let Ports { place, .. } = &ports;
    let policy = frontend_reads_data(place, "backend");
    place.apply(&policy.to_string());
    place.apply(&wasm_plugin(place, "plugin", "backend", &[policy]).to_string());
    eventually("the plugin and the policy", &(200, 403), || (ports.frontend_reads(), ports.stranger_reads()));
    // Without a PeerAuthentication, Istio accepts plain text.
    assert_eq!(ports.ways_in("stranger"), Vec::<String>::new());
    place.apply(&strict().to_string());
    eventually("plain text is refused", &0, || {
        let (_, plain) = ports.clients(8080, "stranger").pop().unwrap();
        status(&plain, &testbed::Request::get("/api/v1/data"))
    });
    assert_eq!(ports.ways_in("stranger"), Vec::<String>::new());
    // The test can fail: the frontend has ways in, but not over TCP.
    let ways = ports.ways_in("frontend");
    assert!(ways.iter().any(|way| way.starts_with("http, as a sidecar: GET /api/v1/data HTT")), "{ways:#?}");
    assert!(!ways.iter().any(|way| way.starts_with("tcp")), "{ways:#?}");
}

/// The reason why policies stay with Istio too. docs/istio.md tells users.
#[test]
fn the_plugin_alone_leaves_open_what_is_not_http_to_istio() {
    let ports = Ports::new();
    let Ports { place, .. } = &ports;
    place.apply(&strict().to_string());
    place.apply(&wasm_plugin(place, "plugin", "backend", &[frontend_reads_data(place, "backend")]).to_string());
    eventually("the plugin", &(200, 403), || (ports.frontend_reads(), ports.stranger_reads()));
    let ways = ports.ways_in("stranger");
    assert!(!ways.iter().any(|way| way.starts_with("http,")), "{ways:#?}");
    for port in ["api", "tcp", "undeclared"] {
        assert!(ways.iter().any(|way| way.starts_with(port)), "no way in by port {port}: {ways:#?}");
    }
}

fn strict() -> serde_json::Value {
    json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": { "name": "default" },
        "spec": { "mtls": { "mode": "STRICT" } },
    })
}
