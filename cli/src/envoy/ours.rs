//! Recognizes the filter in a connection manager, and reads its plugin configuration.

use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mesh_authz::config::{NodeMetadata, OnInvalid, Outgoing, PluginConfig};
use mesh_authz::diagnostic::{Diagnostic, Diagnostics};
use mesh_authz::document::{Node, Value, from_json};
use mesh_authz::policy::scope::{Scope, scope};
use mesh_authz::policy::{Action, AuthorizationPolicy, DEFAULT_NAMESPACE, Labels, PolicyName, read};
use mesh_authz::request::Lookup;

use super::Decides;
use super::catalogue::{FAIL_OPEN, NO_FILTER, OTHER_POLICIES, REFUSED, SAME_NAME, SWITCHED_OFF, UNKNOWN};
use super::chain::Chain;
use super::configuration::{Configuration, Documents};
use super::neighbours::{is_enabled_by_routes, per_filter_configs};
use super::place::Place;
use crate::load::finding::Finding;

/// The message of a Wasm filter.
pub const WASM: &str = "envoy.extensions.filters.http.wasm.v3.Wasm";

/// The message of a Wasm filter for connections.
pub const NETWORK_WASM: &str = "envoy.extensions.filters.network.wasm.v3.Wasm";

/// What Envoy must call, so that the filter decides.
const CALLED: [&str; 2] = ["proxy_on_context_create", "proxy_on_configure"];
const CALLED_FOR_REQUESTS: [&str; 1] = ["proxy_on_request_headers"];
const CALLED_FOR_CONNECTIONS: [&str; 4] = [
    "proxy_on_new_connection",
    "proxy_on_downstream_data",
    "proxy_on_upstream_data",
    "proxy_on_downstream_connection_close",
];

/// Without these, it cannot tell which filters have gone: it keeps their policies in memory, and none in force.
const ASKED: [&str; 2] = ["proxy_on_tick", "proxy_set_effective_context"];

/// The filter in a connection manager.
#[derive(Debug)]
pub struct Ours<'c> {
    /// The entry of `http_filters`.
    pub filter: Place<'c>,
    /// Its position.
    pub index: usize,
    /// What Envoy must call of it.
    called: &'static [&'static str],
    /// Whether another filter decides for which requests this one runs.
    pub is_conditional: bool,
    /// Why it decides about no request. `None`: it decides.
    pub idle: Option<Idle>,
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

/// Why the filter decides about no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    Disabled,
    NoPolicies,
    /// It lets through what the workload of a sidecar sends.
    Outgoing,
}

impl<'c> Ours<'c> {
    /// The filter, if this entry of `http_filters`, or this network filter, is the one.
    pub fn of(filter: &Place<'c>, index: usize, chain: &Chain<'c>, configuration: &Configuration<'c>) -> Option<Self> {
        let message = if chain.manager.is_some() { WASM } else { NETWORK_WASM };
        let extensions = configuration.extensions(filter);
        let config =
            extensions.iter().find(|extension| extension.name == message).and_then(|found| found.config.clone());
        if let Some(plugin) = config.and_then(|config| config.get("config")) {
            return is_ours(filter, &plugin).then(|| Self::read(filter, index, Some(plugin), chain, configuration));
        }
        if configuration.is_unknown(filter) || extensions.is_empty() {
            let is_ours = is_named(filter.text("name")) && filter.get("config_discovery").is_some();
            return is_ours.then(|| Self::read(filter, index, None, chain, configuration));
        }
        let inner = inside(&extensions.first()?.config.clone()?)?;
        Some(Self { is_conditional: true, ..Self::read(filter, index, Some(inner), chain, configuration) })
    }

    fn read(
        filter: &Place<'c>,
        index: usize,
        plugin: Option<Place<'c>>,
        chain: &Chain<'c>,
        configuration: &Configuration<'c>,
    ) -> Self {
        let mut ours = Self {
            filter: filter.clone(),
            index,
            called: if chain.manager.is_some() { &CALLED_FOR_REQUESTS } else { &CALLED_FOR_CONNECTIONS },
            is_conditional: false,
            idle: None,
            written: plugin.as_ref().and_then(|plugin| plugin.get("configuration")),
            plugin,
            config: None,
            policies: None,
            mistakes: Vec::new(),
        };
        if let Some(text) = ours.written.as_ref().and_then(text_of) {
            ours.read_text(&text, configuration);
        }
        ours.idle = ours.idle(chain, configuration);
        ours
    }

    fn read_text(&mut self, text: &[u8], configuration: &Configuration<'c>) {
        let node = configuration.node.as_ref();
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
                self.mistakes = mistakes;
                // Without the bootstrap, the workload is unknown, and what follows from that is no mistake.
                if node.is_none() && !configuration.has_bootstrap {
                    let known = PluginConfig::read(text, &NodeMetadata::in_namespace(DEFAULT_NAMESPACE));
                    let also = known.err().unwrap_or_default();
                    self.mistakes.retain(|mistake| also.iter().any(|other| other.to_string() == mistake.to_string()));
                }
            }
        }
    }

    fn idle(&self, chain: &Chain<'c>, configuration: &Configuration<'c>) -> Option<Idle> {
        if self.filter.is_true("disabled") && !is_enabled_by_routes(chain, self.name()) {
            return Some(Idle::Disabled);
        }
        let config = self.config.as_ref()?;
        // Policies that are only tried out decide nothing.
        if self.policies.as_ref().is_some_and(|policies| policies.iter().all(|policy| policy.dry_run)) {
            return Some(Idle::NoPolicies);
        }
        let node_id = configuration.node.as_ref().and_then(|node| node.text("id")).unwrap_or_default();
        let is_outgoing = chain.listener.get("traffic_direction").is_some_and(|found| found.is_value("OUTBOUND", 2.0));
        (config.outgoing == Outgoing::Pass && node_id.starts_with("sidecar~") && is_outgoing).then_some(Idle::Outgoing)
    }

    /// The name of the plugin, by which a configuration with mistakes finds the one before it, and what else it is found by.
    fn fallback(&self) -> Option<(&'c str, &PluginConfig)> {
        let config = self.config.as_ref()?;
        Some((self.plugin.as_ref()?.text("name").unwrap_or_default(), config))
    }

    fn denies_if_invalid(&self) -> bool {
        self.written.as_ref().and_then(text_of).is_some_and(|text| OnInvalid::read(&text) == OnInvalid::Deny)
    }

    /// The policies that decide here. There are none if they are not known.
    pub fn policies(&self) -> impl Iterator<Item = &AuthorizationPolicy> {
        self.policies.iter().flatten()
    }

    /// What differs between the policies that decide here and those that are given, as far as they are for this workload.
    pub fn differences(&self, given: &[&AuthorizationPolicy]) -> Vec<Finding> {
        let Some(config) = &self.config else { return Vec::new() };
        if given.is_empty() {
            return Vec::new();
        }
        // In a cluster, Istio enforces CUSTOM policies, and the filter does not have them.
        let is_for_it = |policy: &&AuthorizationPolicy| {
            scope(policy, &config.workload) == Scope::Applies && policy.action != Action::Custom
        };
        let wanted: BTreeMap<_, _> =
            given.iter().copied().filter(is_for_it).map(|policy| (&policy.name, policy)).collect();
        let known: BTreeMap<_, _> = self.policies().filter(is_for_it).map(|policy| (&policy.name, policy)).collect();
        let report = |name: &PolicyName, what: &str| {
            let hint = "render the configuration of the filter again, or give the policies that it is made from";
            self.filter.warning(&OTHER_POLICIES, format!("policy {name} {what}"), hint)
        };
        let of_wanted = wanted.iter().filter_map(|(name, policy)| match known.get(name) {
            None => Some(report(name, "is given and applies to this workload, and the filter does not have it")),
            Some(other) if other != policy => {
                Some(report(name, "is another one in the filter than the one that is given"))
            }
            Some(_) => None,
        });
        let further = known.keys().filter(|name| !wanted.contains_key(*name));
        of_wanted.chain(further.map(|name| report(name, "is in the filter, and not given"))).collect()
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
        let mut findings = Vec::new();
        if let Some(default) = self.filter.at(["config_discovery", "default_config"]) {
            let message = "until Envoy has the filter's own configuration, this one decides, or nothing does";
            findings.push(default.error(&SWITCHED_OFF, message, "remove it: then Envoy waits for the configuration"));
        }
        let Some(plugin) = &self.plugin else {
            let message =
                "the filter and its policies come from elsewhere, and are not in the input: all settings count";
            findings.push(self.filter.warning(&UNKNOWN, message, "give the file that it comes from as well"));
            return findings;
        };
        if self.idle == Some(Idle::NoPolicies) {
            let place = self.written.as_ref().unwrap_or(plugin);
            findings.push(place.warning(&NO_FILTER, "no policy applies here, so every request passes", "add policies"));
        }
        let policy = plugin.get("failure_policy").filter(|policy| policy.is_value("FAIL_OPEN", 3.0));
        let fail_open = plugin.get("fail_open").filter(|_| plugin.is_true("fail_open"));
        if let Some(place) = policy.or(fail_open) {
            let message = "requests pass while the filter cannot run";
            findings.push(place.error(&FAIL_OPEN, message, "write `failure_policy: FAIL_CLOSED`"));
        }
        if let Some(capabilities) = plugin.at(["capability_restriction_config", "allowed_capabilities"])
            && let Some(missing) = CALLED.iter().chain(self.called).find(|name| capabilities.get(name).is_none())
        {
            let message = format!("Envoy does not call {missing} of the filter, so the filter does not decide");
            findings.push(capabilities.error(&SWITCHED_OFF, message, "remove capability_restriction_config"));
        } else if let Some(capabilities) = plugin.at(["capability_restriction_config", "allowed_capabilities"])
            && let Some(missing) = ASKED.iter().find(|name| capabilities.get(name).is_none())
        {
            let message = format!(
                "without {missing}, the filter cannot tell which filters have gone: their policies stay in memory, and an update \
                 with errors leaves nothing in force"
            );
            findings.push(capabilities.warning(
                &SWITCHED_OFF,
                message,
                "add it, or remove capability_restriction_config",
            ));
        }
        let written = self.written.as_ref().unwrap_or(plugin);
        let in_a_struct = written.message_type() == "google.protobuf.Struct";
        for mistake in &self.mistakes {
            let place = if in_a_struct { written.get("value") } else { None };
            findings.push(place.map_or_else(
                || {
                    let without_hint = Diagnostic { hint: None, ..mistake.clone() };
                    let message = format!("the filter refuses its configuration: {without_hint}");
                    let hint = mistake.hint.clone().unwrap_or_else(|| "correct the plugin configuration".to_owned());
                    written.error(&REFUSED, message, hint)
                },
                |place| place.within(&REFUSED, mistake.clone()),
            ));
        }
        findings
    }

    /// The configurations of routes and virtual hosts for the filter.
    pub fn per_filter_configs(&self, chain: &Chain<'c>) -> Vec<Place<'c>> {
        per_filter_configs(chain, self.name())
    }
}

/// A plugin of ours in the configuration of another filter.
fn inside<'c>(place: &Place<'c>) -> Option<Place<'c>> {
    place.children().find_map(|(_, child)| {
        let (name, config) = child.message();
        let plugin = if name == WASM { config.get("config") } else { None };
        plugin.filter(|plugin| is_ours(&child, plugin)).or_else(|| inside(&child))
    })
}

/// Whether a Wasm filter is this one: it has our policies, or the module is named so.
fn is_ours(filter: &Place<'_>, plugin: &Place<'_>) -> bool {
    let code = plugin.at(["vm_config", "code"]);
    let file = code.as_ref().and_then(|code| code.get("local")?.text("filename"));
    let uri = code.as_ref().and_then(|code| code.at(["remote", "http_uri"])?.text("uri"));
    let is_named_so = match file.or(uri) {
        Some(place) => is_named(place.rsplit('/').next()),
        None => [filter.text("name"), plugin.text("name"), plugin.text("root_id")].into_iter().any(is_named),
    };
    is_named_so
        || plugin.get("configuration").and_then(|written| text_of(&written)).is_some_and(|text| has_policies(&text))
}

fn is_named(name: Option<&str>) -> bool {
    name.is_some_and(|name| name.replace('-', "_").contains("mesh_authz"))
}

/// Whether a plugin configuration has policies of Istio.
fn has_policies(text: &[u8]) -> bool {
    let Ok(document) = from_json(text) else { return false };
    let Some(Value::List(policies)) = document.get("policies").map(|policies| &policies.value) else { return false };
    let is_policy = |policy: &Node| {
        let text = |name| policy.get(name).and_then(Node::as_str).unwrap_or_default();
        text("apiVersion").starts_with("security.istio.io/") || text("kind") == read::KIND
    };
    policies.iter().any(is_policy)
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
    let namespace = metadata.as_ref().and_then(|metadata| metadata.node.get("NAMESPACE")).and_then(Node::as_str);
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

/// Warnings about plugins with one name and different policies. If the configuration of one is refused, the policies of the
/// other one decide in its place.
pub fn same_names(chains: &[Chain<'_>]) -> Vec<Finding> {
    let mut known: BTreeMap<&str, &Ours<'_>> = BTreeMap::new();
    let mut findings = Vec::new();
    for ours in chains.iter().flat_map(|chain| &chain.ours) {
        let Some((name, config)) = ours.fallback().filter(|(name, _)| !name.is_empty()) else { continue };
        let first = *known.entry(name).or_insert(ours);
        let differs = first.fallback().is_some_and(|(_, other)| other.policies != config.policies);
        if differs && [first, ours].iter().any(|ours| ours.denies_if_invalid()) {
            let message = format!(
                "another plugin has the name {name} too, and other policies: with `onInvalid: deny`, they decide here if this \
                 configuration has a mistake"
            );
            findings.push(ours.filter.error(
                &SAME_NAME,
                message,
                "give each filter with policies of its own another name",
            ));
        }
    }
    findings
}

/// A warning that the filter only lets pass what the workload sends.
pub fn only_outgoing(chains: &[Chain<'_>]) -> Option<Finding> {
    let mut with_filter = chains.iter().filter(|chain| !chain.ours.is_empty());
    if !with_filter.clone().all(|chain| chain.decides() == Decides::Outgoing) {
        return None;
    }
    let first = with_filter.next()?.ours.first()?;
    let message = "the filter lets pass what the workload sends, and nothing decides about what it receives";
    let hint = "put the filter into the listeners for what it receives, or give their configuration as well";
    Some(first.filter.warning(&NO_FILTER, message, hint))
}

/// The error that no connection manager has the filter.
pub fn missing(documents: &Documents, configuration: &Configuration<'_>, chains: &[Chain<'_>]) -> Option<Finding> {
    let hint = "`mesh-authz render filters` prints what to put before the router";
    let is_elsewhere = configuration.unknown().is_some();
    if let Some(manager) = chains.iter().find_map(|chain| chain.manager.as_ref()) {
        let place = manager.get("http_filters").unwrap_or_else(|| manager.clone());
        let message = "no connection manager has the filter, so nothing decides about requests";
        return Some(place.error(&NO_FILTER, message, hint));
    }
    if let Some(chain) = chains.first().filter(|_| !is_elsewhere) {
        let message = "no filter chain has the filter, so nothing decides about connections";
        let hint = "put it before `tcp_proxy`, or use http_connection_manager with the filter in it";
        return Some(chain.place.error(&NO_FILTER, message, hint));
    }
    let is_one = |place: &Place<'_>| {
        ["static_resources", "dynamic_resources", "resources", "configs"].iter().any(|name| place.get(name).is_some())
    };
    let (place, message) = match documents.all().find(is_one) {
        Some(place) if is_elsewhere => (place, "no listener in the input has the filter"),
        Some(place) => (place, "there is no listener in this configuration"),
        None => (documents.all().next()?, "this is no configuration of Envoy"),
    };
    Some(place.error(&NO_FILTER, message, "give a bootstrap with listeners, or the /config_dump of a running Envoy"))
}
