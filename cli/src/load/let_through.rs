//! The policy that lets all HTTP through Istio's own enforcement, so that the plugin alone decides about it.
//!
//! `render` writes such policies. When it is read again, with the policies beside it, it is none of them: to the plugin
//! it would allow everything.

use mesh_authz::document::{Node, Value};
use serde_json::json;

/// The label of everything that `render` writes.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "mesh-authz");

/// What the names of these policies begin with. Envoy compares a request with the rules in the order of their policies'
/// names, up to the first that matches: in its namespace, this is the first one.
pub const NAME: &str = "0-mesh-authz-http";

/// The rules. Every HTTP request has a path, and no TCP connection has one.
#[must_use]
pub fn rules() -> serde_json::Value {
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

/// Whether the document is a policy that takes the place of one that let HTTP through: it allows nothing. The policies
/// beside it say what is allowed.
#[must_use]
pub fn is_stopper(node: &Node) -> bool {
    let metadata = |field: &str| node.get("metadata").and_then(|metadata| metadata.get(field));
    let (key, value) = MANAGED_BY;
    let is_managed = metadata("labels").and_then(|labels| labels.get(key)?.as_str()) == Some(value);
    let is_named = metadata("name").and_then(Node::as_str).is_some_and(|name| name.starts_with(NAME));
    let spec = |field: &str| node.get("spec").and_then(|spec| spec.get(field));
    is_managed
        && is_named
        && spec("action").and_then(Node::as_str) == Some("ALLOW")
        && spec("rules").is_some_and(|rules| matches!(&rules.value, Value::List(rules) if rules.is_empty()))
}
