//! The policy that lets all HTTP through Istio's own enforcement, so that the plugin alone decides about it.
//!
//! `render` writes such policies. When it is read again, with the policies beside it, it is none of them: to the plugin
//! it would allow everything.

use mesh_authz::document::Node;
use serde_json::{Value, json};

/// The label of everything that `render` writes.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "mesh-authz");

/// The rules. Every HTTP request has a path, and no TCP connection has one.
#[must_use]
pub fn rules() -> Value {
    json!([{ "to": [{ "operation": { "paths": ["*"] } }] }])
}

/// Whether the document is such a policy: it has the label, and says nothing but that.
#[must_use]
pub fn is_one(node: &Node) -> bool {
    let (key, value) = MANAGED_BY;
    let label = node.get("metadata").and_then(|metadata| metadata.get("labels")?.get(key)?.as_str());
    let spec = |field: &str| node.get("spec").and_then(|spec| spec.get(field));
    label == Some(value)
        && spec("action").and_then(Node::as_str) == Some("ALLOW")
        && spec("rules").and_then(|rules| serde_json::to_value(rules).ok()) == Some(rules())
}
