//! From policies to what runs them.

pub mod rbac;

use crate::config::COMBINING;
use crate::document::{Node, Value};
use crate::input::Resources;
use crate::policy::scope::Workload;
use crate::testfile::Mesh;

/// The plugin configuration for these policies and this workload: what Envoy is to hand to the filter.
///
/// Of each policy, what the filter ignores is left out.
#[must_use]
pub fn plugin_config(resources: &Resources, workload: &Workload, mesh: &Mesh) -> Node {
    let text = |text: &str| Node::from(Value::String(text.to_owned()));
    let policies = resources.policies.iter().map(|resource| without_bookkeeping(&resource.node)).collect();
    let mut described = vec![("namespace".to_owned(), text(&workload.namespace))];
    if let Some(labels) = &workload.labels {
        let labels = labels.iter().map(|(key, value)| (key.clone(), text(value))).collect();
        described.push(("labels".to_owned(), Value::Map(labels).into()));
    }
    let combining = COMBINING.iter().find(|(_, combining)| *combining == mesh.combining).map_or("", |(name, _)| *name);
    let aliases = mesh.aliases.iter().map(|alias| text(alias)).collect();
    let entries = [
        ("policies", Value::List(policies).into()),
        ("workload", Value::Map(described).into()),
        ("trustDomain", text(&mesh.trust_domain)),
        ("trustDomainAliases", Value::List(aliases).into()),
        ("rootNamespace", text(&mesh.root_namespace)),
        ("combining", text(combining)),
    ];
    Value::Map(entries.into_iter().map(|(name, node)| (name.to_owned(), node)).collect()).into()
}

/// A resource without its status, and without metadata that says nothing about its meaning.
fn without_bookkeeping(resource: &Node) -> Node {
    const METADATA: [&str; 4] = ["name", "namespace", "labels", "annotations"];
    let Value::Map(entries) = &resource.value else { return resource.clone() };
    let trim = |(name, node): &(String, Node)| match (name.as_str(), &node.value) {
        ("status", _) => None,
        ("metadata", Value::Map(fields)) => {
            let kept = fields.iter().filter(|(field, _)| METADATA.contains(&field.as_str())).cloned().collect();
            Some((name.clone(), Value::Map(kept).into()))
        }
        _ => Some((name.clone(), node.clone())),
    };
    Value::Map(entries.iter().filter_map(trim).collect()).into()
}
