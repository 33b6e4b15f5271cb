//! Recognizes the filter in a connection manager, and reads its plugin configuration.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mesh_authz::config::{NodeMetadata, PluginConfig};
use mesh_authz::diagnostic::{Diagnostic, Diagnostics};
use mesh_authz::document::{Node, Value, from_json};
use mesh_authz::policy::scope::{Scope, scope};
use mesh_authz::policy::{AuthorizationPolicy, Labels, read};
use mesh_authz::request::Lookup;

use super::catalogue::{FAIL_OPEN, NO_FILTER, REFUSED, UNKNOWN};
use super::chain::Chain;
use super::configuration::{Configuration, Documents};
use super::place::Place;
use crate::load::finding::Finding;

/// The message of a Wasm filter.
pub const WASM: &str = "envoy.extensions.filters.http.wasm.v3.Wasm";

/// The filter in a connection manager.
#[derive(Debug)]
pub struct Ours<'c> {
    /// The entry of `http_filters`.
    pub filter: Place<'c>,
    /// Its position.
    pub index: usize,
    /// Whether another filter decides for which requests this one runs.
    pub is_conditional: bool,
    /// The plugin. `None`: it comes from elsewhere, and is not in the input.
    plugin: Option<Place<'c>>,
    /// The plugin configuration, if it can be read.
    pub config: Option<PluginConfig>,
    /// The valid policies, if the plugin configuration is known: those that apply, or, if that is not known, all.
    policies: Option<Vec<AuthorizationPolicy>>,
    mistakes: Vec<Diagnostic>,
    /// Where the mistakes are.
    written: Option<Place<'c>>,
}

impl<'c> Ours<'c> {
    /// The filter, if this entry of `http_filters` is the one.
    pub fn of(filter: &Place<'c>, index: usize, configuration: &Configuration<'c>) -> Option<Self> {
        if let Some(plugin) = plugin_of(filter) {
            return is_ours(filter, &plugin).then(|| Self::read(filter, index, Some(plugin), configuration));
        }
        if let Some(discovery) = filter.get("config_discovery") {
            let found = configuration.extensions.get(filter.text("name")?).cloned();
            let plugin = found.as_ref().or(Some(&discovery)).and_then(plugin_of);
            return match plugin {
                Some(plugin) => {
                    is_ours(filter, &plugin).then(|| Self::read(filter, index, Some(plugin), configuration))
                }
                None => (found.is_none() && is_named(filter.text("name")))
                    .then(|| Self::read(filter, index, None, configuration)),
            };
        }
        let inner = inside(&filter.get("typed_config")?)?;
        Some(Self { is_conditional: true, ..Self::read(filter, index, Some(inner), configuration) })
    }

    fn read(filter: &Place<'c>, index: usize, plugin: Option<Place<'c>>, configuration: &Configuration<'c>) -> Self {
        let mut ours = Self {
            filter: filter.clone(),
            index,
            is_conditional: false,
            written: plugin.as_ref().and_then(|plugin| plugin.get("configuration")),
            plugin,
            config: None,
            policies: None,
            mistakes: Vec::new(),
        };
        if let Some(text) = ours.written.as_ref().and_then(text_of) {
            ours.read_text(&text, configuration.node.as_ref());
        }
        ours
    }

    fn read_text(&mut self, text: &[u8], node: Option<&Place<'_>>) {
        match PluginConfig::read(text, &metadata_of(node)) {
            Ok(config) => {
                let applies = |policy: &&AuthorizationPolicy| scope(policy, &config.workload) == Scope::Applies;
                self.policies = Some(config.policies.iter().filter(applies).cloned().collect());
                self.config = Some(config);
            }
            Err(mistakes) => {
                self.policies = from_json(text).ok().and_then(|document| {
                    let Value::List(policies) = &document.get("policies")?.value else { return None };
                    Some(policies.iter().filter_map(|node| read::policy(node, &mut Diagnostics::new())).collect())
                });
                // Without the bootstrap, the workload is unknown, and what follows from that is no mistake.
                if node.is_some() {
                    self.mistakes = mistakes;
                }
            }
        }
    }

    /// The policies that decide here. There are none if they are not known.
    pub fn policies(&self) -> impl Iterator<Item = &AuthorizationPolicy> {
        self.policies.iter().flatten()
    }

    /// Whether the input has the policies.
    pub fn is_known(&self) -> bool {
        self.policies.is_some()
    }

    /// The name of the filter, by which routes can configure it.
    pub fn name(&self) -> &'c str {
        self.filter.text("name").unwrap_or_default()
    }

    /// What is wrong with the filter itself.
    pub fn mistakes(&self) -> Vec<Finding> {
        let Some(plugin) = &self.plugin else {
            let message =
                "the filter and its policies come from elsewhere, and are not in the input: all settings count";
            return vec![self.filter.warning(&UNKNOWN, message, "give the file that it comes from as well")];
        };
        let mut findings = Vec::new();
        let policy = plugin.get("failure_policy");
        let fail_open = plugin.get("fail_open").filter(|_| plugin.is_true("fail_open"));
        let is_open = |place: &Place<'_>| {
            place.node.as_str() == Some("FAIL_OPEN") || matches!(place.node.value, Value::Number(2.0))
        };
        if let Some(place) = policy.filter(is_open).or(fail_open) {
            let message = "requests pass while the filter cannot run";
            findings.push(place.error(&FAIL_OPEN, message, "write `failure_policy: FAIL_CLOSED`"));
        }
        let written = self.written.as_ref().unwrap_or(plugin);
        let in_a_struct = written.message_type() == "google.protobuf.Struct";
        for mistake in &self.mistakes {
            let place = if in_a_struct { written.get("value") } else { None };
            findings.push(place.map_or_else(
                || {
                    let message = format!(
                        "the filter refuses its configuration: {}",
                        Diagnostic { hint: None, ..mistake.clone() }
                    );
                    let hint = mistake.hint.clone().unwrap_or_else(|| "correct the plugin configuration".to_owned());
                    written.error(&REFUSED, message, hint)
                },
                |place| place.within(&REFUSED, mistake.clone()),
            ));
        }
        findings
    }
}

/// The plugin of a Wasm filter.
fn plugin_of<'c>(extension: &Place<'c>) -> Option<Place<'c>> {
    let (name, config) = extension.typed_config().or_else(|| {
        let default = extension.get("default_config")?;
        Some((default.message_type(), default))
    })?;
    (name == WASM).then(|| config.get("config")).flatten()
}

/// A plugin of ours in the configuration of another filter.
fn inside<'c>(place: &Place<'c>) -> Option<Place<'c>> {
    place.children().into_iter().find_map(|(_, child)| {
        let plugin = if child.message_type() == WASM { child.get("config") } else { None };
        plugin.filter(|plugin| is_ours(&child, plugin)).or_else(|| inside(&child))
    })
}

/// Whether a Wasm filter is this one: it has policies, or something is named so.
fn is_ours(filter: &Place<'_>, plugin: &Place<'_>) -> bool {
    let code = plugin.at(["vm_config", "code"]);
    let file = code.as_ref().and_then(|code| code.get("local")?.text("filename"));
    let uri = code.as_ref().and_then(|code| code.at(["remote", "http_uri"])?.text("uri"));
    [filter.text("name"), plugin.text("name"), plugin.text("root_id"), file, uri].into_iter().any(is_named)
        || plugin.get("configuration").and_then(|written| text_of(&written)).is_some_and(|text| has_policies(&text))
}

fn is_named(name: Option<&str>) -> bool {
    name.is_some_and(|name| name.replace('-', "_").contains("mesh_authz"))
}

fn has_policies(text: &[u8]) -> bool {
    from_json(text).is_ok_and(|document| document.get("policies").is_some())
}

/// A plugin configuration as JSON.
fn text_of(written: &Place<'_>) -> Option<Vec<u8>> {
    let value = written.get("value");
    match written.message_type() {
        "google.protobuf.StringValue" => Some(value?.node.as_str()?.as_bytes().to_vec()),
        "google.protobuf.BytesValue" => STANDARD.decode(value?.node.as_str()?).ok(),
        "google.protobuf.Struct" => serde_json::to_vec(value?.node).ok(),
        _ => None,
    }
}

/// What the bootstrap says about the workload.
fn metadata_of(node: Option<&Place<'_>>) -> NodeMetadata {
    let metadata = node.and_then(|node| node.get("metadata"));
    let namespace = metadata.as_ref().and_then(|metadata| metadata.text("NAMESPACE"));
    let labels = metadata.as_ref().and_then(|metadata| metadata.node.get("LABELS"));
    let labels = labels.and_then(|labels| {
        let Value::Map(fields) = &labels.value else { return None };
        let label = |(key, value): &(String, Node)| Some((key.clone(), value.as_str()?.to_owned()));
        fields.iter().map(label).collect::<Option<HashMap<_, _>>>()
    });
    let id = node.and_then(|node| node.text("id")).unwrap_or_default();
    NodeMetadata {
        namespace: namespace.map_or(Lookup::Absent, |name| Lookup::Value(name.to_owned())),
        labels: labels.map_or(Lookup::Absent, |labels| Lookup::Value(Labels::from_iter(labels))),
        is_no_waypoint: id.starts_with("sidecar~") || id.starts_with("router~"),
    }
}

/// The error that no connection manager has the filter.
pub fn missing(documents: &Documents, chains: &[Chain<'_>]) -> Option<Finding> {
    let manager = chains.iter().find_map(|chain| chain.manager.as_ref());
    let (place, message, hint) = match manager {
        Some(manager) => (
            manager.get("http_filters").unwrap_or_else(|| manager.clone()),
            "no connection manager has the filter, so nothing decides about requests",
            "`mesh-authz render filters` prints what to put before the router",
        ),
        None => (
            documents.all().next()?,
            "there is no connection manager in this configuration",
            "give a bootstrap with listeners, or the /config_dump of a running Envoy",
        ),
    };
    Some(place.error(&NO_FILTER, message, hint))
}
