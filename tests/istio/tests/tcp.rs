//! `--network-plugin`: the filter as a plugin for connections, on a port that a Service names as TCP.

use std::time::Duration;

use mesh_authz_istio::{Pod, Recorder, Role};
use serde_json::{Value, json};
use testbed::Client;

use crate::{
    place::{Place, eventually, mesh_authz},
    plugin::{digest, image, policy, service},
};

const PORT: u16 = 5432;

/// A workload with a sidecar, with an application at a port that its Service names as TCP.
struct Database {
    place: Place,
    pod: Pod,
    application: Recorder,
}

impl Database {
    fn new(mode: &str) -> Self {
        let place = Place::new();
        let pod = place.pod("database", Role::Sidecar);
        let application = pod.serve(PORT).unwrap();
        place.apply(&service("database", &[("tcp", PORT)]).to_string());
        let authentication = json!({
            "apiVersion": "security.istio.io/v1",
            "kind": "PeerAuthentication",
            "metadata": { "name": "mode" },
            "spec": { "mtls": { "mode": mode } },
        });
        place.apply(&authentication.to_string());
        Self { place, pod, application }
    }

    /// Whether a byte reaches the application from a client with the certificate of this account, or in plaintext.
    fn reaches(&self, account: Option<&str>) -> bool {
        let certificate = account.map(|account| self.place.certificate(account));
        let mut client: Client = self.pod.client(PORT, certificate.as_ref());
        client.timeout = Duration::from_secs(2);
        if let Some(tls) = &mut client.tls {
            tls.alpn = Some(vec!["istio".to_owned()]);
        }
        let before = self.application.reached();
        let _ = client.send_raw(b"SELECT 1;\r\n\r\n");
        self.application.reached() != before
    }

    /// Renders the policies of this rule with the Service, without the policies for Istio itself, and applies it.
    fn apply(&self, action: &str, rule: Value) {
        self.apply_with(action, rule, &service("database", &[("tcp", PORT)]));
    }

    fn apply_with(&self, action: &str, rule: Value, service: &Value) {
        let policy = policy("database", "database", action, json!([rule]));
        let mut resources = vec![policy, service.clone()];
        for resource in &mut resources {
            resource["metadata"]["namespace"] = json!(self.place.namespace);
        }
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": resources }).to_string();
        let (image, digest) = (image(), digest());
        let arguments = ["render", "wasm-plugin", "-", "--network-plugin", "--policies-applied", "--url", &image];
        // Only the plugin decides here, so that it shows what it does.
        self.place.apply(&mesh_authz(&[&arguments[..], &["--sha256", &digest]].concat(), &list));
    }

    fn log_has(&self, text: &str) -> bool {
        self.pod.log().contains(text)
    }
}

#[test]
fn a_network_plugin_decides_about_connections_and_says_why() {
    let database = Database::new("STRICT");
    let who = || [Some("orders"), Some("stranger")].map(|account| database.reaches(account));
    eventually("everybody", &[true, true], who);
    let orders = format!("cluster.local/ns/{}/sa/orders", database.place.namespace);
    database.apply("ALLOW", json!({ "from": [{ "source": { "principals": [orders] } }] }));
    eventually("the plugin", &[true, false], who);
    // So that an application that speaks first says nothing to whoever is refused.
    let dump = database.pod.admin("/config_dump?resource=dynamic_listeners").unwrap();
    assert!(dump.contains("ON_DOWNSTREAM_TLS_HANDSHAKE"), "{dump}");
    eventually("the reason is logged", &true, || {
        database.log_has("\"failed\":\"from[0].source.principals\"") && database.log_has("\"protocol\":\"tcp\"")
    });
    // Everybody but one: without a peer that is told, nobody would be refused.
    let stranger = format!("cluster.local/ns/{}/sa/stranger", database.place.namespace);
    database.apply("DENY", json!({ "from": [{ "source": { "principals": [stranger] } }] }));
    eventually("the other policy", &[true, false], who);
}

#[test]
fn a_network_plugin_decides_about_plaintext_too() {
    let database = Database::new("PERMISSIVE");
    let who = || [Some("orders"), None].map(|account| database.reaches(account));
    eventually("everybody", &[true, true], who);
    database.apply("DENY", json!({ "from": [{ "source": { "notPrincipals": ["*"] } }] }));
    eventually("peers without an identity are refused", &[true, false], who);
    let address = json!({ "from": [{ "source": { "notIpBlocks": ["203.0.113.0/24"] } }] });
    database.apply("ALLOW", address);
    eventually("the address of the peer is known", &[true, true], who);
}

const GREETING: &[u8] = b"220 ready";

/// What Istio's own filter cannot do: it decides at the first data of the client.
#[test]
fn with_the_plugin_an_application_that_speaks_first_says_nothing_to_whoever_is_refused() {
    let database = Database::new("STRICT");
    let Database { place, pod, .. } = &database;
    let port = PORT + 1;
    let _application = pod.serve_greeting(port, GREETING).unwrap();
    let mut speaker = service("speaker", &[("tcp", port)]);
    speaker["spec"]["selector"] = json!({ "app": "database" });
    place.apply(&speaker.to_string());
    let hears = |account: &str| {
        let mut client = pod.client(port, Some(&place.certificate(account)));
        client.timeout = Duration::from_millis(700);
        client.tls.as_mut().unwrap().alpn = Some(vec!["istio".to_owned()]);
        let heard = client.connect().and_then(|mut connection| connection.read_exact(GREETING.len()));
        heard.is_ok_and(|heard| heard == GREETING)
    };
    let who = || ["orders", "stranger"].map(&hears);
    eventually("everybody", &[true, true], who);
    let orders = format!("cluster.local/ns/{}/sa/orders", place.namespace);
    let rule = json!({ "from": [{ "source": { "principals": [orders] } }] });
    let native = policy("native", "database", "ALLOW", json!([&rule]));
    place.apply(&native.to_string());
    eventually("natively, nobody else is answered", &[true, false], || {
        [Some("orders"), Some("stranger")].map(|account| database.reaches(account))
    });
    assert_eq!(who(), [true, true], "but everybody hears the greeting");
    database.apply_with("ALLOW", rule, &speaker);
    eventually("the plugin", &[true, false], who);
}
