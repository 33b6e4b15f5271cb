//! Callers through ztunnel: HTTP/2 CONNECT over mutual TLS (HBONE), and HTTP/1.1 in this tunnel.

use std::time::Duration;

use mesh_authz_istio::Pod;
use serde_json::{Value, json};
use testbed::{Certified, Client, Http2Request, Request};

use crate::{
    place::{self, Place, eventually},
    plugin::{Backend, policy},
    rendered::render,
};

/// Sends bytes to an address behind a waypoint, or to a pod, as ztunnel does. Returns what comes back.
pub fn send(proxy: &Pod, certificate: &Certified, address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut client: Client = proxy.client(15008, Some(certificate));
    client.tls.as_mut().unwrap().alpn = Some(vec!["h2".into()]);
    // Some of what tests send is never answered.
    client.timeout = Duration::from_secs(2);
    let mut connect = Http2Request::new("CONNECT", "");
    connect.headers = [(":method", "CONNECT"), (":authority", address)]
        .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .into();
    connect.ends = false;
    let answer = client.connect_http2().and_then(|mut connection| {
        let opened = connection.send(&connect)?;
        anyhow::ensure!(opened.status == 200, "CONNECT: {}", opened.status);
        connection.tunnel(bytes)
    });
    answer.unwrap_or_default()
}

/// The status in an HTTP/1.1 response, or 0 if it is none.
pub fn status(response: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(response);
    text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// A sidecar that takes tunnels too, as in a mesh with ztunnel.
pub fn backend() -> Backend {
    let place = Place::new();
    // Without it, a plain Envoy refuses what istiod sends.
    place.apply(include_str!("../objects/plain-hbone-sidecar.yaml"));
    Backend::at(place, |_| json!({ "app": "backend", "networking.istio.io/tunnel": "http" }))
}

/// What the frontend and a stranger get, each by their sidecar and through ztunnel.
pub fn answers(backend: &Backend) -> [u16; 4] {
    let through_ztunnel = |account: &str| {
        let address = format!("{}:8080", backend.pod.ip());
        let request = b"GET / HTTP/1.1\r\nHost: backend\r\nConnection: close\r\n\r\n";
        status(&send(&backend.pod, &backend.place.certificate(account), &address, request))
    };
    let get = Request::get("/");
    [
        place::status(&backend.frontend, &get),
        through_ztunnel("frontend"),
        place::status(&backend.stranger, &get),
        through_ztunnel("stranger"),
    ]
}

#[test]
fn a_sidecar_knows_its_callers_also_through_ztunnel_as_istio_does() {
    let backend = backend();
    let place = &backend.place;
    let account = |name: &str| format!("cluster.local/ns/{}/sa/{name}", place.namespace);
    let from = |field: &str, value: String| -> Value { json!([{ "from": [{ "source": { field: [value] } }] }]) };
    let only_the_frontend = [200, 200, 403, 403];
    for (action, rules, wanted) in [
        ("ALLOW", from("principals", account("frontend")), only_the_frontend),
        ("ALLOW", from("notPrincipals", account("stranger")), only_the_frontend),
        ("DENY", from("principals", account("stranger")), only_the_frontend),
        ("DENY", from("namespaces", place.namespace.clone()), [403; 4]),
        ("DENY", from("notPrincipals", "*".to_owned()), [200; 4]),
    ] {
        let policy = policy("policy", "backend", action, rules);
        let native = policy.to_string();
        place.apply(&native);
        eventually("by Istio itself", &wanted, || answers(&backend));
        place.kubectl(&["delete", "-f", "-"], &native);
        eventually("without the policy", &[200; 4], || answers(&backend));
        let rendered = render(place, &[policy], &["--policies-applied"]);
        place.apply(&rendered);
        eventually("by the plugin", &wanted, || answers(&backend));
        place.kubectl(&["delete", "-f", "-"], &rendered);
        eventually("without the plugin", &[200; 4], || answers(&backend));
    }
}
