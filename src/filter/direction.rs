//! Which requests the workload of a sidecar sends, and which it receives.
//!
//! Envoy says it in two properties. The node id is the same for all requests. The direction is known only for a request,
//! and each request is asked for it: Envoy may use one root context for listeners of several directions.

use crate::request::Lookup;

/// The property with the node id, as Istio writes it: `sidecar~10.0.0.1~backend-1.default~default.svc.cluster.local`.
pub const NODE_ID: &str = "xds\0node\0id";

/// The property with the direction of the listener.
pub const LISTENER_DIRECTION: &str = "xds\0listener_direction";

/// `envoy.config.core.v3.TrafficDirection.OUTBOUND`. The listeners of gateways have this direction too.
const OUTBOUND: i64 = 2;

/// Whether the proxy is a sidecar of Istio. Gateways have `router~` in place of `sidecar~`, and waypoints `waypoint~`.
#[must_use]
pub fn is_sidecar(node_id: &Lookup<Vec<u8>>) -> bool {
    matches!(node_id, Lookup::Value(id) if id.starts_with(b"sidecar~"))
}

/// Whether the proxy is a sidecar or a gateway of Istio, and so no waypoint.
#[must_use]
pub fn is_sidecar_or_gateway(node_id: &Lookup<Vec<u8>>) -> bool {
    is_sidecar(node_id) || matches!(node_id, Lookup::Value(id) if id.starts_with(b"router~"))
}

/// Whether the listener is an outgoing one. What is absent or unreadable is not.
#[must_use]
pub fn is_outbound(direction: &Lookup<Vec<u8>>) -> bool {
    matches!(direction, Lookup::Value(bytes) if *bytes == OUTBOUND.to_le_bytes())
}
