//! Renders the Kubernetes resources that make Istio load the filter: `WasmPlugin` or `TrafficExtension`, the `EnvoyFilter`
//! that tells the filter what it cannot see by itself, and the policies that Istio enforces beside the filter.

use std::collections::BTreeSet;

use mesh_authz::config::{Mesh, OnInvalid, Outgoing};
use mesh_authz::document::Node;
use mesh_authz::policy::Labels;
use mesh_authz::policy::resource::REVISION;
use mesh_authz::policy::scope::GATEWAY_NAME_LABEL;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::envoy::{self, TemplateError};
use super::instances::{Attachment, Instance, Location};
use super::{FilterSettings, LAST_APPLIED, WorkloadSettings, plugin_config_of};
use crate::load::{LoadedPolicy, let_through};

/// Longest name of a resource. Istio derives some label values from it, and label values have this limit.
const LONGEST_NAME: usize = 63;

/// What the names of rendered resources begin with.
const NAME: &str = "mesh-authz";
/// The same for the resources that are about connections.
const NETWORK_NAME: &str = "mesh-authz-tcp";

/// The kinds of resources that load a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtensionKind {
    /// `extensions.istio.io/v1alpha1` `WasmPlugin`.
    WasmPlugin,
    /// `TrafficExtension`, the successor of `WasmPlugin`.
    TrafficExtension,
}

/// Where Istio gets the filter.
#[derive(Clone, Debug)]
pub struct Image {
    /// A URL that begins with `oci://`, `https://`, `http://` or `file://`.
    pub url: String,
    /// The SHA-256 checksum of the module or the image, in hexadecimal.
    pub sha256: Option<String>,
    /// The secret with the registry's credentials, in the resource's namespace.
    pub pull_secret: Option<String>,
}

/// The resource that loads an instance, for the control plane of this revision. The plugin configuration has these further
/// fields. `ports`: those on which it decides about connections. `None`: it decides about requests.
#[must_use]
pub fn extension(
    kind: ExtensionKind,
    instance: &Instance<'_>,
    image: &Image,
    mesh: &Mesh,
    revision: Option<&str>,
    further: &[(String, Node)],
    ports: Option<&BTreeSet<u16>>,
) -> Value {
    let workload = WorkloadSettings {
        // A waypoint is told its name.
        match_labels: labels_of(&instance.place).filter(|_| instance.waypoint.is_none()),
        gateway: instance.waypoint.clone(),
        revision: revision.map(str::to_owned),
        ..WorkloadSettings::default()
    };
    // Istio gives the filter to Envoy by xDS. To Istio, a sidecar with the label of a Gateway is that Gateway.
    let outgoing = if instance.waypoint.is_none() { Outgoing::Pass } else { Outgoing::Decide };
    let allow_none_applies = instance.reaches_further;
    let filter = FilterSettings {
        on_invalid: OnInvalid::Deny,
        outgoing,
        allow_none_applies,
        further,
        ..FilterSettings::default()
    };
    let policies = instance.policies.iter().map(|resource| &resource.node);
    let config = plugin_config_of(policies, &workload, mesh, filter);
    let mut module = Map::new();
    let mut set = |name: &str, value: Value| module.insert(name.to_owned(), value);
    set("type", json!(if ports.is_some() { "NETWORK" } else { "HTTP" }));
    set("url", json!(image.url));
    // If the filter cannot run, no request passes.
    set("failStrategy", json!("FAIL_CLOSE"));
    set("pluginConfig", json!(config));
    if let Some(sha256) = &image.sha256 {
        set("sha256", json!(sha256));
    }
    if let Some(secret) = &image.pull_secret {
        set("imagePullSecret", json!(secret));
    }
    let mut spec = Map::new();
    // The filter runs after Istio has verified tokens, and before Istio's own policies.
    spec.insert("phase".to_owned(), json!("AUTHZ"));
    attach(&mut spec, &instance.place, |labels| ("selector", json!({ "matchLabels": labels })));
    if let Some(ports) = ports {
        let ports: Vec<_> = ports.iter().map(|number| json!({ "number": number })).collect();
        spec.insert("match".to_owned(), json!([{ "mode": "SERVER", "ports": ports }]));
    }
    let name = match kind {
        ExtensionKind::WasmPlugin => {
            spec.extend(module);
            "WasmPlugin"
        }
        ExtensionKind::TrafficExtension => {
            spec.insert("wasm".to_owned(), module.into());
            "TrafficExtension"
        }
    };
    let prefix = if ports.is_some() { NETWORK_NAME } else { NAME };
    resource("extensions.istio.io/v1alpha1", name, prefix, &instance.place, revision, &spec)
}

/// The labels that istiod has found at every workload of this place. The proxy only knows those that it started with.
fn labels_of(place: &Location) -> Option<Labels> {
    match &place.attachment {
        Attachment::Selector(labels) if !labels.is_empty() => Some(labels.iter().cloned().collect()),
        Attachment::Gateway(name) => Some(Labels::from(vec![(GATEWAY_NAME_LABEL.to_owned(), name.clone())])),
        Attachment::Selector(_) => None,
    }
}

/// The policy as Istio gets it: as it was given, without what only kubectl and the API server write. Its namespace is always
/// written, because the other resources say theirs, too.
#[must_use]
pub fn native(policy: &LoadedPolicy) -> Value {
    // `kubectl apply` refuses a resource with these fields, or takes them for a request to check them.
    const OF_THE_SERVER: [&str; 3] = ["managedFields", "resourceVersion", "uid"];
    let mut resource = serde_json::to_value(&policy.node).unwrap_or_default();
    if let Some(fields) = resource.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = resource.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|field, _| !OF_THE_SERVER.contains(&field.as_str()));
        metadata.insert("namespace".to_owned(), json!(policy.policy.name.namespace));
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(LAST_APPLIED);
        }
    }
    resource
}

/// The policy that lets all HTTP through to the plugin at this place. With `is_stopper`, the policy of the same name that
/// lets nothing through.
#[must_use]
pub fn let_through(place: &Location, revision: Option<&str>, is_stopper: bool) -> Value {
    let mut spec = Map::new();
    spec.insert("action".to_owned(), json!("ALLOW"));
    // An empty list, and not none: it replaces the rules also if another tool has applied them.
    spec.insert("rules".to_owned(), if is_stopper { json!([]) } else { let_through::rules() });
    attach(&mut spec, place, |labels| ("selector", json!({ "matchLabels": labels })));
    resource("security.istio.io/v1", "AuthorizationPolicy", let_through::NAME, place, revision, &spec)
}

/// The proxies of Istio 1.30 and later. Their Envoy has what the network filter needs.
pub const NEWER_PROXIES: &str = r"^1\.([3-9][0-9]|[1-9][0-9][0-9])";
/// All other proxies that say a version, also builds whose name or number is not Istio's. Istio's regular expressions
/// cannot be negated, so this one spells out every text that [`NEWER_PROXIES`] does not match.
pub const OLDER_PROXIES: &str = r"^($|[^1]|1($|[^.]|\.($|[^1-9]|[12]($|[^0-9]|[0-9]($|[^0-9]))|[3-9]($|[^0-9]))))";

/// The resource that inserts the `set_filter_state` filter before all other filters, for the control plane of this
/// revision. Newer proxies get the network filter, and older ones the HTTP filter, which costs more.
///
/// # Errors
/// See [`envoy::telling_filter`].
pub fn envoy_filter(place: &Location, revision: Option<&str>) -> Result<Value, TemplateError> {
    let (network, http) = (envoy::telling_filter(true)?, envoy::telling_filter(false)?);
    let manager = "envoy.filters.network.http_connection_manager";
    let forms = [
        ("NETWORK_FILTER", "INSERT_BEFORE", NEWER_PROXIES, network),
        ("HTTP_FILTER", "INSERT_FIRST", OLDER_PROXIES, http),
    ];
    // For Istio, the listeners of a waypoint are those of a sidecar.
    let contexts = ["SIDECAR_INBOUND", "GATEWAY"];
    let patches = contexts.iter().flat_map(|context| forms.iter().map(move |form| (context, form)));
    let patch = |(context, (kind, operation, proxies, filter)): (&&str, &(&str, &str, &str, Value))| {
        json!({
            "applyTo": kind,
            "match": {
                "context": context,
                "proxy": { "proxyVersion": proxies },
                "listener": { "filterChain": { "filter": { "name": manager } } },
            },
            "patch": { "operation": operation, "value": filter },
        })
    };
    let mut spec = Map::new();
    spec.insert("configPatches".to_owned(), patches.map(patch).collect());
    attach(&mut spec, place, |labels| ("workloadSelector", json!({ "labels": labels })));
    Ok(resource("networking.istio.io/v1alpha3", "EnvoyFilter", NAME, place, revision, &spec))
}

/// The resource that prepares these ports for an [`extension`] that decides about connections, for the control plane of this
/// revision: Envoy tells the peer when the TLS handshake is over, and connects to the application only then. Older proxies
/// can do neither.
///
/// # Errors
/// See [`envoy::telling_filter`].
pub fn network_envoy_filter(
    place: &Location,
    revision: Option<&str>,
    ports: &BTreeSet<u16>,
) -> Result<Value, TemplateError> {
    let forms = [("INSERT_FIRST", envoy::telling_filter(true)?), ("MERGE", envoy::connect_mode()?)];
    let patch = |port: &u16, (operation, value): &(&str, Value)| {
        json!({
            "applyTo": "NETWORK_FILTER",
            "match": {
                "context": "SIDECAR_INBOUND",
                "proxy": { "proxyVersion": NEWER_PROXIES },
                "listener": { "filterChain": {
                    "destinationPort": port,
                    "filter": { "name": "envoy.filters.network.tcp_proxy" },
                } },
            },
            "patch": { "operation": operation, "value": value },
        })
    };
    let patches = ports.iter().flat_map(|port| forms.iter().map(move |form| patch(port, form)));
    let mut spec = Map::new();
    spec.insert("configPatches".to_owned(), patches.collect());
    attach(&mut spec, place, |labels| ("workloadSelector", json!({ "labels": labels })));
    Ok(resource("networking.istio.io/v1alpha3", "EnvoyFilter", NETWORK_NAME, place, revision, &spec))
}

fn attach(spec: &mut Map<String, Value>, place: &Location, select: impl FnOnce(Value) -> (&'static str, Value)) {
    let (field, value) = match &place.attachment {
        Attachment::Selector(labels) if labels.is_empty() => return,
        Attachment::Selector(labels) => {
            let labels: Map<_, _> = labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
            select(labels.into())
        }
        Attachment::Gateway(name) => {
            let gateway = json!({ "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": name });
            ("targetRefs", json!([gateway]))
        }
    };
    spec.insert(field.to_owned(), value);
}

fn resource(
    version: &str,
    kind: &str,
    prefix: &str,
    place: &Location,
    revision: Option<&str>,
    spec: &Map<String, Value>,
) -> Value {
    // The resources of two revisions are there at the same time.
    let suffix = revision.map(|revision| format!("-{revision}")).unwrap_or_default();
    let name = name(prefix, &place.attachment, &suffix);
    let mut labels = Map::from_iter([(let_through::MANAGED_BY.0.to_owned(), json!(let_through::MANAGED_BY.1))]);
    if let Some(revision) = revision {
        labels.insert(REVISION.to_owned(), json!(revision));
    }
    json!({
        "apiVersion": version,
        "kind": kind,
        "metadata": { "name": name, "namespace": place.namespace, "labels": labels },
        "spec": spec,
    })
}

/// A name that depends only on the place. It is readable, and differs from the name of every other place in the
/// namespace.
fn name(prefix: &str, attachment: &Attachment, suffix: &str) -> String {
    let (readable, exact) = match attachment {
        Attachment::Selector(labels) if labels.is_empty() => return format!("{prefix}{suffix}"),
        Attachment::Selector(labels) => {
            let values: Vec<_> = labels.iter().map(|(_, value)| value.as_str()).collect();
            (values.join("-"), json!({ "labels": labels }))
        }
        Attachment::Gateway(name) => (format!("gateway-{name}"), json!({ "gateway": name })),
    };
    // Names must stay the same from release to release. Nobody can find another selector with the same hash, whose resource
    // would replace this one.
    let digest = Sha256::digest(exact.to_string());
    let hash = digest.iter().take(10).fold(String::new(), |hash, byte| format!("{hash}{byte:02x}"));
    let letters = readable.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
    let taken = [prefix, "--", &hash, suffix].map(str::len);
    let room = taken.iter().fold(LONGEST_NAME, |room, length| room.saturating_sub(*length));
    let readable: String = letters.take(room).collect();
    match readable.trim_matches('-') {
        "" => format!("{prefix}-{hash}{suffix}"),
        readable => format!("{prefix}-{readable}-{hash}{suffix}"),
    }
}
