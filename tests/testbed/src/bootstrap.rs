//! The parts of an Envoy bootstrap that every test needs, as JSON. They are values that a test can fill in and change.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::{Authority, Certified};

/// A bootstrap with these listeners and clusters. It has the node identity that a configuration from files requires.
pub fn bootstrap(listeners: &[Value], clusters: &[Value]) -> Value {
    json!({
        "node": { "id": "testbed", "cluster": "testbed" },
        "static_resources": { "listeners": listeners, "clusters": clusters },
    })
}

/// A listener on 127.0.0.1, with one chain of one filter. The system chooses the port.
///
/// `tls` is a transport socket, such as [`mutual_tls`] makes. The listener has the TLS inspector, which reads the
/// server name.
pub fn listener(name: &str, filter: Value, tls: Option<Value>) -> Value {
    let mut listener = json!({
        "name": name,
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } },
        "listener_filters": [{
            "name": "envoy.filters.listener.tls_inspector",
            "typed_config": { "@type": type_url("filters.listener.tls_inspector.v3.TlsInspector") },
        }],
        "filter_chains": [{ "filters": [filter] }],
    });
    if let Some(tls) = tls {
        listener["filter_chains"][0]["transport_socket"] = tls;
    }
    listener
}

/// An HTTP connection manager, with these filters before the router and these routes for every host.
///
/// It allows upgrades to WebSocket and extended CONNECT. Path normalisation is as in Envoy's default.
pub fn http_connection_manager(http_filters: &[Value], routes: &[Value]) -> Value {
    let mut filters = http_filters.to_vec();
    filters.push(json!({
        "name": "envoy.filters.http.router",
        "typed_config": { "@type": type_url("filters.http.router.v3.Router") },
    }));
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": type_url("filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": "testbed",
            "http2_protocol_options": { "allow_connect": true },
            "upgrade_configs": [{ "upgrade_type": "websocket" }],
            "http_filters": filters,
            "route_config": {
                "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": routes }],
            },
        },
    })
}

/// A route that sends every request to a cluster.
pub fn route_to(cluster: &str) -> Value {
    json!({ "match": { "prefix": "/" }, "route": { "cluster": cluster } })
}

/// A route that answers every request itself.
pub fn direct_response(status: u16, body: &str) -> Value {
    json!({
        "match": { "prefix": "/" },
        "direct_response": { "status": status, "body": { "inline_string": body } },
    })
}

/// A cluster with one address. Envoy speaks the same version of HTTP to it as the client.
pub fn cluster(name: &str, address: SocketAddr) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [{
            "endpoint": { "address": { "socket_address": {
                "address": address.ip().to_string(), "port_value": address.port(),
            } } },
        }] }] },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": type_url("upstreams.http.v3.HttpProtocolOptions"),
                "use_downstream_protocol_config": {
                    "http2_protocol_options": { "allow_connect": true },
                },
            },
        },
    })
}

/// Whether a listener requires a client certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// There is no handshake without a client certificate (STRICT).
    Required,
    /// A client certificate is verified if there is one.
    Optional,
}

/// The transport socket of a listener that presents the certificate `own` and verifies clients with `authority`.
pub fn mutual_tls(authority: &Authority, own: &Certified, client: ClientCertificate) -> Value {
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": type_url("transport_sockets.tls.v3.DownstreamTlsContext"),
            "require_client_certificate": client == ClientCertificate::Required,
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificates": [{
                    "certificate_chain": { "inline_string": own.cert_pem },
                    "private_key": { "inline_string": own.key_pem },
                }],
                "validation_context": { "trusted_ca": { "inline_string": authority.pem() } },
            },
        },
    })
}

fn type_url(name: &str) -> String {
    format!("type.googleapis.com/envoy.extensions.{name}")
}
