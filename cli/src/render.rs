//! Turns policies into the configurations and resources that enforce them.

pub mod envoy;
pub mod instances;
pub mod jwt;
pub mod kubernetes;
pub mod rbac;
pub mod tcp_ports;
pub mod version;
pub mod yaml;

use mesh_authz::config::{COMBINING, CUSTOM, Mesh, OnInvalid, Outgoing};
use mesh_authz::document::{Node, Value};
use mesh_authz::engine::Custom;
use mesh_authz::policy::Labels;
use mesh_authz::policy::scope::{Gateway, ServiceName, Workload};

use crate::load::Resources;

/// The annotation with a copy of the whole resource, which kubectl writes.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What a plugin configuration says about the workload. The filter takes what is not set from Envoy's node metadata.
#[derive(Clone, Debug, Default)]
pub struct WorkloadSettings {
    pub namespace: Option<String>,
    pub labels: Option<Labels>,
    /// The labels by which Istio selects the workload, so that it has them, whatever its proxy knows.
    pub match_labels: Option<Labels>,
    /// Set if the workload is a gateway or a waypoint.
    pub gateway: Option<Gateway>,
    /// The revision of the control plane.
    pub revision: Option<String>,
}

impl From<&Workload> for WorkloadSettings {
    fn from(workload: &Workload) -> Self {
        Self {
            namespace: Some(workload.namespace.clone()),
            labels: workload.labels.clone(),
            match_labels: None,
            gateway: workload.gateway.clone(),
            revision: workload.revision.clone(),
        }
    }
}

/// What a plugin configuration says about the filter itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct FilterSettings<'f> {
    /// What becomes of a configuration that the filter cannot use.
    pub on_invalid: OnInvalid,
    /// What becomes of outgoing requests.
    pub outgoing: Outgoing,
    /// Whether it is meant that none of the policies applies.
    pub allow_none_applies: bool,
    /// Who asks the providers of CUSTOM policies.
    pub custom: Custom,
    /// Further fields, as they were given.
    pub further: &'f [(String, Node)],
}

/// The plugin configuration for these policies and this workload, which Envoy hands to the filter.
///
/// The parts of a policy that the filter ignores are left out.
#[must_use]
pub fn plugin_config(
    resources: &Resources,
    workload: &WorkloadSettings,
    mesh: &Mesh,
    filter: FilterSettings<'_>,
) -> Node {
    plugin_config_of(resources.policies.iter().map(|resource| &resource.node), workload, mesh, filter)
}

/// Like [`plugin_config`], for the documents of these policies, as written.
pub fn plugin_config_of<'n>(
    policies: impl Iterator<Item = &'n Node>,
    workload: &WorkloadSettings,
    mesh: &Mesh,
    filter: FilterSettings<'_>,
) -> Node {
    let text = |text: &str| Node::from(Value::String(text.to_owned()));
    let policies = policies.map(without_bookkeeping).collect();
    let map = |entries: Vec<(&str, Node)>| {
        Node::from(Value::Map(entries.into_iter().map(|(name, node)| (name.to_owned(), node)).collect()))
    };
    let names = |services: &[ServiceName]| {
        let name = |ServiceName { namespace, name, host }: &ServiceName| match host {
            Some(host) => map(vec![("host", text(host)), ("namespace", text(namespace)), ("name", text(name))]),
            None => text(&format!("{namespace}/{name}")),
        };
        Node::from(Value::List(services.iter().map(name).collect()))
    };
    let labels = |labels: &Labels| {
        Node::from(Value::Map(labels.iter().map(|(key, value)| (key.clone(), text(value))).collect()))
    };
    let gateway = |gateway: &Gateway| {
        map(vec![
            ("name", text(&gateway.name)),
            ("waypoint", Value::Bool(gateway.waypoint).into()),
            ("services", names(&gateway.services)),
            ("serviceEntries", names(&gateway.service_entries)),
        ])
    };
    let described = [
        workload.namespace.as_deref().map(|namespace| ("namespace", text(namespace))),
        workload.labels.as_ref().map(|given| ("labels", labels(given))),
        workload.match_labels.as_ref().map(|given| ("matchLabels", labels(given))),
    ];
    let described: Vec<_> = described.into_iter().flatten().collect();
    let combining = COMBINING.iter().find(|(_, combining)| *combining == mesh.combining).map_or("", |(name, _)| *name);
    let aliases = mesh.aliases.iter().map(|alias| text(alias)).collect();
    let mut entries = Vec::new();
    // The filter finds these two even if what follows is no JSON. What is the filter's default is left out.
    if filter.on_invalid != OnInvalid::default() {
        let name = OnInvalid::NAMES.iter().find(|(_, value)| *value == filter.on_invalid).map_or("", |(name, _)| *name);
        entries.push(("onInvalid", text(name)));
    }
    if filter.outgoing != Outgoing::default() {
        let name = Outgoing::NAMES.iter().find(|(_, value)| *value == filter.outgoing).map_or("", |(name, _)| *name);
        entries.push(("outgoing", text(name)));
    }
    if filter.allow_none_applies {
        entries.push(("allowNoneApplies", Value::Bool(true).into()));
    }
    entries.push(("policies", Value::List(policies).into()));
    if !described.is_empty() {
        entries.push(("workload", map(described)));
    }
    entries.extend(workload.gateway.as_ref().map(|given| ("gateway", gateway(given))));
    entries.extend(workload.revision.as_ref().map(|given| ("revision", text(given))));
    entries.extend([
        ("trustDomain", text(&mesh.trust_domain)),
        ("trustDomainAliases", Value::List(aliases).into()),
        ("rootNamespace", text(&mesh.root_namespace)),
        ("combining", text(combining)),
    ]);
    if filter.custom != Custom::default() {
        let name = CUSTOM.iter().find(|(_, custom)| *custom == filter.custom).map_or("", |(name, _)| *name);
        entries.push(("custom", text(name)));
    }
    entries.extend(filter.further.iter().map(|(name, node)| (name.as_str(), node.clone())));
    map(entries)
}

/// A resource without its status, and without the metadata that does not change its meaning.
fn without_bookkeeping(resource: &Node) -> Node {
    const METADATA: [&str; 4] = ["name", "namespace", "labels", "annotations"];
    let without_last_applied = |node: &Node| match &node.value {
        Value::Map(entries) => {
            Value::Map(entries.iter().filter(|(key, _)| key != LAST_APPLIED).cloned().collect()).into()
        }
        _ => node.clone(),
    };
    let Value::Map(entries) = &resource.value else { return resource.clone() };
    let trim = |(name, node): &(String, Node)| match (name.as_str(), &node.value) {
        ("status", _) => None,
        ("metadata", Value::Map(fields)) => {
            let kept = fields.iter().filter(|(field, _)| METADATA.contains(&field.as_str()));
            let kept = kept.map(|(field, node)| match field.as_str() {
                "annotations" => (field.clone(), without_last_applied(node)),
                _ => (field.clone(), node.clone()),
            });
            Some((name.clone(), Value::Map(kept.collect()).into()))
        }
        _ => Some((name.clone(), node.clone())),
    };
    Value::Map(entries.iter().filter_map(trim).collect()).into()
}
