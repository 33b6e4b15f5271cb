//! A whole bootstrap for a standalone Envoy that enforces these policies.
//!
//! It is the sidecar that ships, `envoy/backend.yaml`, with other addresses, files, workload and policies: the settings
//! that decisions depend on stand there and nowhere else.

use std::net::{IpAddr, SocketAddr};

use mesh_authz::config::Mesh;
use mesh_authz::document::Node;
use serde_json::{Map, Value, json};

use super::{WorkloadSettings, plugin_config_of};
use crate::load::Resource;
use crate::load::yaml;

/// The sidecar that ships.
const TEMPLATE: &str = include_str!("../../../envoy/backend.yaml");

/// The filter's name in it.
const FILTER: &str = "mesh_authz";

/// What of the sidecar may be otherwise.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Where it listens.
    pub listen: Option<SocketAddr>,
    /// The application: a name or an address, and its port.
    pub upstream: Option<(String, u16)>,
    /// Where it is administered.
    pub admin: Option<SocketAddr>,
    /// The filter's file.
    pub wasm: Option<String>,
    /// A file that Envoy watches, which has the filter and its policies; without it, both stand in the bootstrap.
    pub watch: Option<String>,
    /// Whether, and with which certificate, it speaks TLS.
    pub tls: Tls,
    /// Verifies tokens, before the policies are asked.
    pub jwt_authn: Option<Value>,
    /// Where the keys for that come from.
    pub clusters: Vec<Value>,
}

/// What protects the sidecar's listener.
#[derive(Clone, Debug)]
pub enum Tls {
    /// Mutual TLS; files that are not named are the template's.
    Mutual {
        /// The chain of certificates.
        certificate: Option<String>,
        /// Its private key.
        key: Option<String>,
        /// Who may certify peers.
        authority: Option<String>,
    },
    /// Nothing: no peer has an identity.
    Plaintext,
}

impl Default for Tls {
    fn default() -> Self {
        Self::Mutual { certificate: None, key: None, authority: None }
    }
}

/// A place that the template does not have: never, unless `envoy/backend.yaml` changes its shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError(pub String);

impl std::fmt::Display for TemplateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "envoy/backend.yaml has nothing at {}", self.0)
    }
}

const LISTENER: &str = "/static_resources/listeners/0";
const CHAIN: &str = "/static_resources/listeners/0/filter_chains/0";
const MANAGER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
const CLUSTERS: &str = "/static_resources/clusters";
const TLS: &str = "/transport_socket/typed_config/common_tls_context";

/// The bootstrap.
///
/// The workload stands in the node's metadata, where the filter looks for it, as in a cluster.
///
/// # Errors
/// The template has another shape than this function knows.
pub fn bootstrap(
    policies: &[&Resource],
    workload: &WorkloadSettings,
    mesh: &Mesh,
    settings: &Settings,
) -> Result<Value, TemplateError> {
    let mut bootstrap = template()?;
    *slot(&mut bootstrap, "/node")? = node(workload);
    if let Some(address) = settings.listen {
        slot(&mut bootstrap, LISTENER)?["address"] = socket_address(&address.ip().to_string(), address.port());
    }
    if let Some(address) = settings.admin {
        slot(&mut bootstrap, "/admin")?["address"] = socket_address(&address.ip().to_string(), address.port());
    }
    protect(&mut bootstrap, &settings.tls)?;

    let filters = list(&mut bootstrap, &format!("{MANAGER}/http_filters"))?;
    let is_ours = |filter: &Value| filter.get("name").is_some_and(|name| name == FILTER);
    let position = filters.iter().position(is_ours).ok_or_else(|| TemplateError(format!("http_filters/{FILTER}")))?;
    let described = WorkloadSettings { gateway: workload.gateway.clone(), ..WorkloadSettings::default() };
    let config = json!(plugin_config_of(policies.iter().map(|resource| &resource.node), &described, mesh));
    if let Some(ours) = filters.get_mut(position) {
        match &settings.watch {
            Some(file) => *ours = watching(file),
            None => configure(ours, config, settings.wasm.as_deref())?,
        }
    }
    if let Some(filter) = &settings.jwt_authn {
        filters.insert(position, filter.clone());
    }

    let clusters = list(&mut bootstrap, CLUSTERS)?;
    if let Some((host, port)) = &settings.upstream {
        let application = clusters.first_mut().ok_or_else(|| TemplateError(format!("{CLUSTERS}/0")))?;
        let name = application.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        *application = cluster(&name, host, *port);
    }
    clusters.extend(settings.clusters.iter().cloned());
    Ok(bootstrap)
}

/// What a file has to hold that [`Settings::watch`] names: the filter with this plugin configuration.
///
/// # Errors
/// The template has no filter.
pub fn watched(config: &Node, wasm: &str, version: &str) -> Result<Value, TemplateError> {
    let mut filter = http_filter(FILTER)?;
    configure(&mut filter, json!(config), Some(wasm))?;
    let typed_config = slot(&mut filter, "/typed_config")?.take();
    Ok(json!({
        "version_info": version,
        "resources": [{
            "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            "name": FILTER,
            "typed_config": typed_config,
        }],
    }))
}

fn configure(filter: &mut Value, config: Value, wasm: Option<&str>) -> Result<(), TemplateError> {
    *slot(filter, "/typed_config/config/configuration/value")? = config;
    if let Some(file) = wasm {
        *slot(filter, "/typed_config/config/vm_config/code/local/filename")? = json!(file);
    }
    Ok(())
}

/// The filter as whatever this file says. There is no default: while the file says nothing valid, no request passes.
fn watching(file: &str) -> Value {
    // Envoy sees a file come into a folder that it watches; and a link to another folder, as Kubernetes mounts one.
    let (folder, name) = file.rsplit_once('/').unwrap_or((".", file));
    let folder = if folder.is_empty() { "/" } else { folder };
    json!({
        "name": FILTER,
        "config_discovery": {
            "config_source": {
                "resource_api_version": "V3",
                "path_config_source": {
                    "path": format!("{}/{name}", folder.trim_end_matches('/')),
                    "watched_directory": { "path": folder },
                },
            },
            "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"],
        },
    })
}

/// The filter that tells ours what it cannot see by itself, as the template has it.
///
/// # Errors
/// The template has none.
pub fn set_filter_state() -> Result<Value, TemplateError> {
    http_filter("envoy.filters.http.set_filter_state")
}

fn http_filter(name: &str) -> Result<Value, TemplateError> {
    let mut template = template()?;
    let filters = list(&mut template, &format!("{MANAGER}/http_filters"))?;
    let found = filters.iter().find(|filter| filter.get("name").is_some_and(|found| found == name));
    found.cloned().ok_or_else(|| TemplateError(name.to_owned()))
}

/// A cluster of one endpoint: a name is asked for over DNS.
#[must_use]
pub fn cluster(name: &str, host: &str, port: u16) -> Value {
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": socket_address(host, port) } }] }],
        },
    });
    if host.parse::<IpAddr>().is_err()
        && let Some(fields) = cluster.as_object_mut()
    {
        fields.insert("type".to_owned(), json!("STRICT_DNS"));
        // `localhost` has two addresses, and most servers listen at the older one.
        fields.insert("dns_lookup_family".to_owned(), json!("V4_PREFERRED"));
    }
    cluster
}

fn socket_address(host: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": host, "port_value": port } })
}

fn template() -> Result<Value, TemplateError> {
    let not_yaml = |_| TemplateError("its start".to_owned());
    let document: Option<Node> = yaml::documents(TEMPLATE).map_err(not_yaml)?.into_iter().next();
    Ok(json!(document))
}

/// Who this is. A name is only for Envoy's own messages.
fn node(workload: &WorkloadSettings) -> Value {
    let labels = || workload.labels.iter().flatten();
    let app = labels().find(|(key, _)| key == "app").map_or(FILTER, |(_, value)| value);
    let mut metadata = Map::new();
    metadata.extend(workload.namespace.iter().map(|namespace| ("NAMESPACE".to_owned(), json!(namespace))));
    if workload.labels.is_some() {
        let labels: Map<_, _> = labels().map(|(key, value)| (key.clone(), json!(value))).collect();
        metadata.insert("LABELS".to_owned(), labels.into());
    }
    json!({ "id": app, "cluster": app, "metadata": metadata })
}

fn protect(bootstrap: &mut Value, tls: &Tls) -> Result<(), TemplateError> {
    let chain = slot(bootstrap, CHAIN)?;
    match tls {
        Tls::Plaintext => {
            chain.as_object_mut().and_then(|chain| chain.remove("transport_socket"));
        }
        Tls::Mutual { certificate, key, authority } => {
            let files = [
                ("/tls_certificates/0/certificate_chain/filename", certificate),
                ("/tls_certificates/0/private_key/filename", key),
                ("/validation_context/trusted_ca/filename", authority),
            ];
            for (place, file) in files {
                let slot = slot(chain, &format!("{TLS}{place}"))?;
                if let Some(file) = file {
                    *slot = json!(file);
                }
            }
        }
    }
    Ok(())
}

fn slot<'v>(document: &'v mut Value, pointer: &str) -> Result<&'v mut Value, TemplateError> {
    document.pointer_mut(pointer).ok_or_else(|| TemplateError(pointer.to_owned()))
}

fn list<'v>(document: &'v mut Value, pointer: &str) -> Result<&'v mut Vec<Value>, TemplateError> {
    slot(document, pointer)?.as_array_mut().ok_or_else(|| TemplateError(pointer.to_owned()))
}
