//! Renders a complete bootstrap for a standalone Envoy that enforces the policies.
//!
//! The bootstrap is the sidecar that the project ships, `envoy/backend.yaml`, with other addresses, files, workload and
//! policies. Listeners for TCP are those of `envoy/database.yaml`. The settings that decisions depend on are in these two
//! files and nowhere else.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use mesh_authz::config::Mesh;
use mesh_authz::document::Node;
use mesh_authz::engine::Custom;
use mesh_authz::policy::Traffic;
use serde_json::{Map, Value, json};

use super::version::EnvoyVersion;
use super::{FilterSettings, WorkloadSettings, plugin_config_of};
use crate::load::LoadedPolicy;
use crate::load::yaml;

/// The sidecars that the project ships: of an application that speaks HTTP, and of one that speaks TCP.
const TEMPLATE: &str = include_str!("../../../envoy/backend.yaml");
const TCP_TEMPLATE: &str = include_str!("../../../envoy/database.yaml");

/// The filter's name in the template.
const FILTER: &str = "mesh_authz";

/// The settings of the sidecar that can differ from the template. An address or a file that is not set stays the
/// template's.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Where Envoy listens, each with its application. If there are none, it is the template's.
    pub listeners: Vec<Listener>,
    /// Where the listeners get the client's address from.
    pub client_address: ClientAddress,
    /// The version of HTTP that the application speaks.
    pub upstream_protocol: UpstreamProtocol,
    /// The address and port of Envoy's admin interface.
    pub admin: Option<SocketAddr>,
    /// Whether the listener uses TLS, and with which certificate.
    pub tls: Tls,
    /// The filters that decide about requests.
    pub filters: Filters,
    /// The filters that decide about connections.
    pub tcp_filters: TcpFilters,
    /// The clusters from which `jwt_authn` fetches its keys.
    pub clusters: Vec<Value>,
    /// The version of Envoy that reads the bootstrap.
    pub version: EnvoyVersion,
}

/// A listener, and the application to which it forwards requests.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The address and port that Envoy listens on.
    pub address: SocketAddr,
    /// What comes there.
    pub traffic: Traffic,
    /// The application: a name or an IP address, and the port.
    pub upstream: (String, u16),
}

/// Where a listener gets the client's address from. By default, it is the address of the connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientAddress {
    /// How many trusted proxies in front of Envoy append an address to X-Forwarded-For.
    pub trusted_hops: u8,
    /// Whether each connection begins with a header of the PROXY protocol.
    pub proxy_protocol: bool,
}

/// The version of HTTP in which Envoy forwards requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum UpstreamProtocol {
    /// HTTP/1.1. Trailers get lost, so gRPC does not work.
    #[default]
    Http1,
    /// HTTP/2 without TLS, as gRPC needs it.
    Http2,
    /// The version in which the request came.
    Downstream,
}

/// The settings of the filters that decide about requests.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// The file with the filter's Wasm module.
    pub wasm: Option<String>,
    /// A file that Envoy watches, with the filter and its policies. If it is not set, both are in Envoy's configuration.
    pub watch: Option<String>,
    /// The filters that ask the providers of CUSTOM policies, before tokens are verified. If there are any, the filter
    /// refuses a request that they have not seen.
    pub asking: Vec<Value>,
    /// The filter that verifies tokens, before the policies are evaluated.
    pub jwt_authn: Option<Value>,
    /// Further fields of the plugin configuration.
    pub further: Vec<(String, Node)>,
}

/// The settings of the filters that decide about connections.
#[derive(Clone, Debug, Default)]
pub struct TcpFilters {
    /// The policies, which are not quite those for requests.
    pub policies: Vec<Node>,
    /// The filters that ask the providers of CUSTOM policies.
    pub asking: Vec<Value>,
}

/// The protection of the sidecar's listener.
#[derive(Clone, Debug)]
pub enum Tls {
    /// Mutual TLS. Files that are not named are the template's.
    Mutual {
        /// The certificate chain.
        certificate: Option<String>,
        /// The private key of the certificate.
        key: Option<String>,
        /// The certificate authority of the peers.
        authority: Option<String>,
    },
    /// TLS in which only Envoy has a certificate: no peer has an identity.
    ServerOnly {
        /// The certificate chain.
        certificate: Option<String>,
        /// The private key of the certificate.
        key: Option<String>,
    },
    /// No TLS: no peer has an identity.
    Plaintext,
}

impl Default for Tls {
    fn default() -> Self {
        Self::Mutual { certificate: None, key: None, authority: None }
    }
}

/// The error that a template lacks a place. It cannot occur unless `envoy/backend.yaml` or `envoy/database.yaml` changes its
/// shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError(pub String);

impl std::error::Error for TemplateError {}

impl std::fmt::Display for TemplateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "envoy/backend.yaml or envoy/database.yaml has nothing at {}", self.0)
    }
}

/// The settings of a connection manager that decisions depend on. The template has them, too.
pub const REQUIRED: &str = "\
normalize_path: true
merge_slashes: true
path_with_escaped_slashes_action: UNESCAPE_AND_FORWARD
strip_trailing_host_dot: true
use_remote_address: true
";

/// The network filter that tells our filter what it cannot see by itself.
const TELLING: &str = "envoy.filters.network.set_filter_state";
/// The field of [`TELLING`] with what it tells. Without TLS, Envoy applies it when a connection begins.
const ONCE_A_CONNECTION: &str = "on_downstream_tls_handshake";

const LISTENERS: &str = "/static_resources/listeners";
const LISTENER: &str = "/static_resources/listeners/0";
const CHAIN: &str = "/static_resources/listeners/0/filter_chains/0";
const MANAGER: &str = "/static_resources/listeners/0/filter_chains/0/filters/1/typed_config";
const ROUTE: &str = "/route_config/virtual_hosts/0/routes/0/route";
const CLUSTERS: &str = "/static_resources/clusters";
const APPLICATION: &str = "/static_resources/clusters/0";
const TLS: &str = "/transport_socket/typed_config/common_tls_context";

/// Renders the bootstrap.
///
/// The workload is in the node's metadata, where the filter looks for it, as in a cluster.
///
/// # Errors
/// The template does not have the shape that this function expects.
pub fn bootstrap(
    policies: &[&LoadedPolicy],
    workload: &WorkloadSettings,
    mesh: &Mesh,
    settings: &Settings,
) -> Result<Value, TemplateError> {
    let mut bootstrap = template()?;
    *slot(&mut bootstrap, "/node")? = node(workload);
    if let Some(address) = settings.admin {
        slot(&mut bootstrap, "/admin")?["address"] = socket_address(&address.ip().to_string(), address.port());
    }
    protect(slot(&mut bootstrap, CHAIN)?, &settings.tls)?;

    let described = WorkloadSettings {
        gateway: workload.gateway.clone(),
        revision: workload.revision.clone(),
        ..WorkloadSettings::default()
    };
    let deciding = http_filters(policies, &described, mesh, &settings.filters)?;
    let filters = list(&mut bootstrap, &format!("{MANAGER}/http_filters"))?;
    filters.splice(..position(filters)?.saturating_add(1), deciding);

    tell_client_address(&mut bootstrap, settings.client_address)?;
    let (tcp, http): (Vec<_>, Vec<_>) =
        settings.listeners.iter().cloned().partition(|listener| listener.traffic == Traffic::Tcp);
    listen(&mut bootstrap, &http)?;
    if !tcp.is_empty() {
        if http.is_empty() {
            list(&mut bootstrap, LISTENERS)?.clear();
            list(&mut bootstrap, CLUSTERS)?.clear();
        }
        listen_for_connections(&mut bootstrap, &tcp, &tcp_listener(&described, mesh, settings)?)?;
    }
    let clusters = list(&mut bootstrap, CLUSTERS)?;
    for application in clusters.iter_mut().filter_map(Value::as_object_mut) {
        let protocol = settings.upstream_protocol.options();
        application.extend(protocol.map(|options| ("typed_extension_protocol_options".to_owned(), options)));
    }
    clusters.extend(settings.clusters.iter().cloned());
    if !settings.version.tells_once_a_connection() {
        tell_at_every_request(&mut bootstrap)?;
    }
    Ok(bootstrap)
}

/// The listener for TCP, without name, address and cluster.
fn tcp_listener(workload: &WorkloadSettings, mesh: &Mesh, settings: &Settings) -> Result<Value, TemplateError> {
    let Settings { tls, client_address, filters: Filters { wasm, further, .. }, tcp_filters, .. } = settings;
    let mut template = parsed(TCP_TEMPLATE)?;
    let custom = if tcp_filters.asking.is_empty() { Custom::Refuse } else { mesh.custom() };
    let filter = FilterSettings { custom, further, ..FilterSettings::default() };
    let config = plugin_config_of(tcp_filters.policies.iter(), workload, mesh, filter);
    let chain = slot(&mut template, CHAIN)?;
    protect(chain, tls)?;
    let filters = list(chain, "/filters")?;
    let position = position(filters)?;
    if let Some(ours) = filters.get_mut(position) {
        configure(ours, json!(config), wasm.as_deref())?;
    }
    if matches!(tls, Tls::Plaintext) {
        let proxy = slot(chain, &format!("/filters/{}", position.saturating_add(1)))?;
        // Without TLS, there is no handshake to wait for, and the TLS inspector would wait for the client to speak.
        remove(proxy, "/typed_config", "upstream_connect_mode")?;
        remove(proxy, "/typed_config", "max_early_data_bytes")?;
        list(&mut template, &format!("{LISTENER}/listener_filters"))?.clear();
    }
    let filters = list(&mut template, &format!("{CHAIN}/filters"))?;
    filters.splice(position..position, tcp_filters.asking.iter().cloned());
    // X-Forwarded-For is of HTTP.
    tell_client_address(&mut template, ClientAddress { trusted_hops: 0, ..*client_address })?;
    Ok(slot(&mut template, LISTENER)?.take())
}

/// Adds these listeners for TCP, and the clusters of their applications.
fn listen_for_connections(
    bootstrap: &mut Value,
    listeners: &[Listener],
    template: &Value,
) -> Result<(), TemplateError> {
    let base = name_of(template).to_owned();
    for Listener { address, upstream: (host, port), .. } in listeners {
        let clusters = list(bootstrap, CLUSTERS)?;
        let same =
            clusters.iter().map(name_of).zip(&*clusters).find(|(name, known)| **known == cluster(name, host, *port));
        let cluster_name = if let Some((name, _)) = same {
            name.to_owned()
        } else {
            let name = unused(clusters, APPLICATION_NAME, *port);
            clusters.push(cluster(&name, host, *port));
            name
        };
        let all = list(bootstrap, LISTENERS)?;
        let name = unused(all, &base, address.port());
        let mut listener = template.clone();
        *slot(&mut listener, "/address")? = socket_address(&address.ip().to_string(), address.port());
        *slot(&mut listener, "/name")? = json!(name);
        let proxy = list(&mut listener, "/filter_chains/0/filters")?.last_mut();
        let proxy = proxy.ok_or_else(|| TemplateError("tcp_proxy".to_owned()))?;
        *slot(proxy, "/typed_config/stat_prefix")? = json!(name);
        *slot(proxy, "/typed_config/cluster")? = json!(cluster_name);
        all.push(listener);
    }
    Ok(())
}

fn name_of(value: &Value) -> &str {
    value.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// A name that none of these has: `BASE`, `BASE_PORT`, or one with a further number.
fn unused(all: &[Value], base: &str, port: u16) -> String {
    let mut candidates = [base.to_owned(), format!("{base}_{port}")].into_iter();
    let is_unused = |name: &String| !all.iter().any(|other| name_of(other) == name);
    candidates.find(is_unused).unwrap_or_else(|| format!("{base}_{port}_{}", all.len()))
}

/// The name of the first application's cluster in the templates.
const APPLICATION_NAME: &str = "application";

/// Replaces the network filter of every listener by the HTTP filter for versions of Envoy without it. The connection
/// manager becomes the only network filter.
fn tell_at_every_request(bootstrap: &mut Value) -> Result<(), TemplateError> {
    let telling = telling_filter(false)?;
    for listener in list(bootstrap, LISTENERS)? {
        let filters = list(listener, "/filter_chains/0/filters")?;
        filters.retain(|filter| filter.get("name").is_none_or(|name| name != TELLING));
        list(listener, "/filter_chains/0/filters/0/typed_config/http_filters")?.insert(0, telling.clone());
    }
    Ok(())
}

fn tell_client_address(bootstrap: &mut Value, address: ClientAddress) -> Result<(), TemplateError> {
    if address.trusted_hops > 0 {
        slot(bootstrap, MANAGER)?["xff_num_trusted_hops"] = json!(address.trusted_hops);
    }
    if address.proxy_protocol {
        let name = "envoy.filters.listener.proxy_protocol";
        let kind = "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol";
        // The header comes before the TLS handshake, which the next filter inspects.
        let filters = list(bootstrap, &format!("{LISTENER}/listener_filters"))?;
        filters.insert(0, json!({ "name": name, "typed_config": { "@type": kind } }));
    }
    Ok(())
}

impl UpstreamProtocol {
    /// The options of a cluster. `None`: the default ones.
    #[must_use]
    pub fn options(self) -> Option<Value> {
        let http2 = json!({ "http2_protocol_options": {} });
        let (field, options) = match self {
            Self::Http1 => return None,
            Self::Http2 => ("explicit_http_config", http2),
            Self::Downstream => ("use_downstream_protocol_config", http2),
        };
        let kind = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        Some(json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": { "@type": kind, field: options } }))
    }
}

/// Makes the listeners, which differ from the template's only in names and addresses, and the clusters of their
/// applications. All else in the template's listener must be set before.
fn listen(bootstrap: &mut Value, listeners: &[Listener]) -> Result<(), TemplateError> {
    let (inbound, application) = (name(bootstrap, LISTENER)?, name(bootstrap, APPLICATION)?);
    let mut names = BTreeSet::new();
    let (mut rendered, mut clusters) = (Vec::new(), Vec::<(_, Value)>::new());
    for Listener { address, upstream: upstream @ (host, port), .. } in listeners {
        let known = clusters.iter().find(|(known, _)| *known == upstream).map(|(_, cluster)| cluster["name"].clone());
        let cluster_name = known.unwrap_or_else(|| {
            let name = if clusters.is_empty() { application.clone() } else { format!("{application}_{port}") };
            clusters.push((upstream, cluster(&name, host, *port)));
            json!(name)
        });
        let port = address.port();
        let mut candidates = [inbound.clone(), format!("{inbound}_{port}")].into_iter();
        let unused = candidates.find(|name| !names.contains(name));
        let name = unused.unwrap_or_else(|| format!("{inbound}_{port}_{}", names.len()));
        let listener = slot(bootstrap, LISTENER)?;
        listener["name"] = json!(name);
        listener["address"] = socket_address(&address.ip().to_string(), port);
        slot(bootstrap, MANAGER)?["stat_prefix"] = json!(name);
        *slot(bootstrap, &format!("{MANAGER}{ROUTE}/cluster"))? = cluster_name;
        rendered.push(slot(bootstrap, LISTENER)?.clone());
        names.insert(name);
    }
    if !listeners.is_empty() {
        *list(bootstrap, LISTENERS)? = rendered;
        *list(bootstrap, CLUSTERS)? = clusters.into_iter().map(|(_, cluster)| cluster).collect();
    }
    Ok(())
}

fn name(bootstrap: &mut Value, pointer: &str) -> Result<String, TemplateError> {
    let name = slot(bootstrap, &format!("{pointer}/name"))?.as_str();
    name.map(str::to_owned).ok_or_else(|| TemplateError(format!("{pointer}/name")))
}

/// Renders the filters that decide about requests, in their order.
///
/// # Errors
/// The template does not have the shape that this function expects.
pub fn http_filters(
    policies: &[&LoadedPolicy],
    workload: &WorkloadSettings,
    mesh: &Mesh,
    Filters { wasm, watch, asking, jwt_authn, further }: &Filters,
) -> Result<Vec<Value>, TemplateError> {
    let mut template = template()?;
    let filters = list(&mut template, &format!("{MANAGER}/http_filters"))?;
    let position = position(filters)?;
    filters.truncate(position.saturating_add(1));
    if let Some(ours) = filters.get_mut(position) {
        if let Some(file) = watch {
            *ours = watching(FILTER, file, "wasm.v3.Wasm");
        } else {
            let policies = policies.iter().map(|resource| &resource.node);
            let custom = if asking.is_empty() { Custom::Refuse } else { mesh.custom() };
            let filter = FilterSettings { custom, further, ..FilterSettings::default() };
            let config = plugin_config_of(policies, workload, mesh, filter);
            configure(ours, json!(config), wasm.as_deref())?;
        }
    }
    filters.splice(position..position, asking.iter().chain(jwt_authn).cloned());
    Ok(std::mem::take(filters))
}

/// The position of our filter.
fn position(filters: &[Value]) -> Result<usize, TemplateError> {
    let is_ours = |filter: &Value| filter.get("name").is_some_and(|name| name == FILTER);
    filters.iter().position(is_ours).ok_or_else(|| TemplateError(format!("http_filters/{FILTER}")))
}

/// The content of the file that [`Filters::watch`] names: the filter with this plugin configuration.
///
/// # Errors
/// The template does not have the filter.
pub fn watched(config: &Node, wasm: &str, version: &str) -> Result<Value, TemplateError> {
    let mut filter = http_filter(FILTER)?;
    configure(&mut filter, json!(config), Some(wasm))?;
    let typed_config = slot(&mut filter, "/typed_config")?.take();
    Ok(discovered(FILTER, &typed_config, version))
}

/// The content of the file that a filter of [`watching`] names.
#[must_use]
pub fn discovered(name: &str, typed_config: &Value, version: &str) -> Value {
    json!({
        "version_info": version,
        "resources": [{
            "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            "name": name,
            "typed_config": typed_config,
        }],
    })
}

fn configure(filter: &mut Value, config: Value, wasm: Option<&str>) -> Result<(), TemplateError> {
    *slot(filter, "/typed_config/config/configuration/value")? = config;
    if let Some(file) = wasm {
        *slot(filter, "/typed_config/config/vm_config/code/local/filename")? = json!(file);
    }
    Ok(())
}

/// The filter that Envoy loads from this file. There is no default: while Envoy has no valid configuration from the
/// file, no request passes. `kind`: the type of the configuration, without what all filters begin with.
#[must_use]
pub fn watching(name: &str, file: &str, kind: &str) -> Value {
    // Envoy notices when a file, or a link to another folder as in a Kubernetes mount, is moved into a folder that it
    // watches.
    let (folder, file) = file.rsplit_once('/').unwrap_or((".", file));
    let folder = if folder.is_empty() { "/" } else { folder };
    json!({
        "name": name,
        "config_discovery": {
            "config_source": {
                "resource_api_version": "V3",
                "path_config_source": {
                    "path": format!("{}/{file}", folder.trim_end_matches('/')),
                    "watched_directory": { "path": folder },
                },
            },
            "type_urls": [format!("type.googleapis.com/envoy.extensions.filters.http.{kind}")],
        },
    })
}

/// The filter that tells our filter what it cannot see by itself. `once_a_connection`: the network filter of the
/// template, which is cheaper. Otherwise, an HTTP filter that tells the same at every request, for older versions.
///
/// # Errors
/// The template does not have it.
pub fn telling_filter(once_a_connection: bool) -> Result<Value, TemplateError> {
    let mut template = template()?;
    let filters = list(&mut template, &format!("{CHAIN}/filters"))?;
    let found = filters.iter_mut().find(|filter| filter.get("name").is_some_and(|found| found == TELLING));
    let network = found.ok_or_else(|| TemplateError(TELLING.to_owned()))?;
    if once_a_connection {
        return Ok(network.take());
    }
    let entries = slot(network, &format!("/typed_config/{ONCE_A_CONNECTION}"))?.take();
    Ok(json!({
        "name": "envoy.filters.http.set_filter_state",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config",
            "on_request_headers": entries,
        },
    }))
}

/// The part of a `tcp_proxy` that has Envoy connect to the application when the TLS handshake is over.
///
/// # Errors
/// The template does not have it.
pub fn connect_mode() -> Result<Value, TemplateError> {
    let mut template = parsed(TCP_TEMPLATE)?;
    let proxy = list(&mut template, &format!("{CHAIN}/filters"))?.last_mut();
    let proxy = proxy.ok_or_else(|| TemplateError("tcp_proxy".to_owned()))?;
    let name = slot(proxy, "/name")?.take();
    let config = slot(proxy, "/typed_config")?;
    let mut kept = Map::new();
    for field in ["@type", "upstream_connect_mode", "max_early_data_bytes"] {
        kept.insert(field.to_owned(), slot(config, &format!("/{field}"))?.take());
    }
    Ok(json!({ "name": name, "typed_config": kept }))
}

fn http_filter(name: &str) -> Result<Value, TemplateError> {
    let mut template = template()?;
    let filters = list(&mut template, &format!("{MANAGER}/http_filters"))?;
    let found = filters.iter().find(|filter| filter.get("name").is_some_and(|found| found == name));
    found.cloned().ok_or_else(|| TemplateError(name.to_owned()))
}

/// A cluster with one endpoint. If the host is a name, Envoy resolves it over DNS.
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
        // `localhost` has an IPv4 and an IPv6 address, and most servers listen on the IPv4 address.
        fields.insert("dns_lookup_family".to_owned(), json!("V4_PREFERRED"));
    }
    cluster
}

fn socket_address(host: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": host, "port_value": port } })
}

fn template() -> Result<Value, TemplateError> {
    parsed(TEMPLATE)
}

fn parsed(template: &str) -> Result<Value, TemplateError> {
    let not_yaml = |_| TemplateError("its start".to_owned());
    let document: Option<Node> = yaml::documents(template).map_err(not_yaml)?.into_iter().next();
    Ok(json!(document))
}

/// The node: the workload's namespace and labels. The names `id` and `cluster` are only for Envoy's own messages.
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

/// Sets the protection of a filter chain.
fn protect(chain: &mut Value, tls: &Tls) -> Result<(), TemplateError> {
    let (certificate, key, authority) = match tls {
        Tls::Plaintext => {
            remove(chain, "", "transport_socket")?;
            return Ok(());
        }
        Tls::ServerOnly { certificate, key } => {
            remove(chain, "/transport_socket/typed_config", "require_client_certificate")?;
            remove(chain, TLS, "validation_context")?;
            (certificate, key, &None)
        }
        Tls::Mutual { certificate, key, authority } => (certificate, key, authority),
    };
    let files = [
        ("/tls_certificates/0/certificate_chain/filename", certificate),
        ("/tls_certificates/0/private_key/filename", key),
        ("/validation_context/trusted_ca/filename", authority),
    ];
    for (place, file) in files {
        if let Some(file) = file {
            *slot(chain, &format!("{TLS}{place}"))? = json!(file);
        }
    }
    Ok(())
}

/// Removes a field of the object at this place.
fn remove(document: &mut Value, pointer: &str, field: &str) -> Result<(), TemplateError> {
    let object = slot(document, pointer)?.as_object_mut();
    let removed = object.and_then(|object| object.remove(field));
    removed.map(|_| ()).ok_or_else(|| TemplateError(format!("{pointer}/{field}")))
}

fn slot<'v>(document: &'v mut Value, pointer: &str) -> Result<&'v mut Value, TemplateError> {
    document.pointer_mut(pointer).ok_or_else(|| TemplateError(pointer.to_owned()))
}

fn list<'v>(document: &'v mut Value, pointer: &str) -> Result<&'v mut Vec<Value>, TemplateError> {
    slot(document, pointer)?.as_array_mut().ok_or_else(|| TemplateError(pointer.to_owned()))
}
