//! The sidecar that ships, `envoy/backend.yaml`, with a plugin configuration of the test's choice, and with whatever else
//! a test has to have otherwise.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use mesh_authz_cli::load::yaml;
use serde_json::{Value, json};
use testbed::{App, Authority, Certified, Client, Envoy, San, StartOptions, Tls};

use crate::shared::{Shared, resources};

/// How long anything may take that takes a moment.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub const FRONTEND: &str = "cluster.local/ns/default/sa/frontend";
pub const STRANGER: &str = "cluster.local/ns/elsewhere/sa/stranger";

/// A version of Envoy: major, minor, patch.
pub type Version = (u32, u32, u32);

/// A sidecar in front of an application. Whatever a test does to it, it must not fall over: see its `Drop`.
pub struct Sidecar {
    pub envoy: Arc<Envoy>,
    pub app: Arc<App>,
    listener: String,
}

/// The authority of the whole test run.
pub fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| Authority::new().unwrap())
}

/// A file of the project.
pub fn project(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}

/// The filter, as it ships.
pub fn wasm() -> Vec<u8> {
    fs::read(project("dist/mesh_authz.wasm")).expect("dist/mesh_authz.wasm: run `make build`")
}

/// A sidecar to be: `envoy/backend.yaml`, and what a test changes in it.
pub struct Blueprint {
    pub bootstrap: Value,
    pub options: StartOptions,
    app: Arc<App>,
}

impl Blueprint {
    /// The sidecar as it ships, on a port of the system's choice, with this plugin configuration.
    pub fn new(plugin_config: &Value) -> Self {
        Self::in_front_of(Arc::new(App::start().unwrap()), plugin_config)
    }

    fn in_front_of(app: Arc<App>, plugin_config: &Value) -> Self {
        let text = fs::read_to_string(project("envoy/backend.yaml")).unwrap();
        let document = yaml::documents(&text).unwrap().remove(0);
        let bootstrap = serde_json::to_value(document).unwrap();
        let mut blueprint = Self { bootstrap, options: backend_files(), app };
        blueprint.listener()["address"]["socket_address"]["port_value"] = json!(0);
        let endpoint = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/port_value";
        let port = json!(blueprint.app.address().port());
        *blueprint.cluster().pointer_mut(endpoint).unwrap() = port;
        blueprint.wasm_filter()["configuration"]["value"] = plugin_config.clone();
        blueprint
    }

    pub fn listener(&mut self) -> &mut Value {
        &mut self.bootstrap["static_resources"]["listeners"][0]
    }

    pub fn cluster(&mut self) -> &mut Value {
        &mut self.bootstrap["static_resources"]["clusters"][0]
    }

    /// The connection manager's configuration.
    pub fn manager(&mut self) -> &mut Value {
        &mut self.listener()["filter_chains"][0]["filters"][0]["typed_config"]
    }

    fn http_filters(&mut self) -> &mut Vec<Value> {
        self.manager()["http_filters"].as_array_mut().unwrap()
    }

    /// The `config` of the Wasm filter.
    pub fn wasm_filter(&mut self) -> &mut Value {
        let ours = self.http_filters().iter_mut().find(|filter| filter["name"] == "mesh_authz").unwrap();
        &mut ours["typed_config"]["config"]
    }

    /// Another module in the filter's place.
    pub fn replace_module(&mut self, module: Vec<u8>) {
        self.options.files.iter_mut().find(|(name, _)| name == "mesh_authz.wasm").unwrap().1 = module;
    }

    /// No TLS: peers have no identity.
    pub fn plaintext(mut self) -> Self {
        self.listener()["filter_chains"][0].as_object_mut().unwrap().remove("transport_socket");
        self
    }

    /// TLS with which a peer may come without a certificate.
    pub fn optional_client_certificate(mut self) -> Self {
        self.listener()["filter_chains"][0]["transport_socket"]["typed_config"]["require_client_certificate"] =
            json!(false);
        self
    }

    /// Another filter, ahead of all others.
    pub fn filter(mut self, filter: Value) -> Self {
        self.http_filters().insert(0, filter);
        self
    }

    /// Without what tells our filter the direct peer's address.
    pub fn without_source_ip(mut self) -> Self {
        for filter in self.http_filters() {
            if let Some(states) = filter.pointer_mut("/typed_config/on_request_headers") {
                states.as_array_mut().unwrap().retain(|state| state["object_key"] != "mesh_authz.source_ip");
            }
        }
        self
    }

    /// Another value for a setting of the connection manager.
    pub fn setting(mut self, name: &str, value: Value) -> Self {
        self.manager()[name] = value;
        self
    }

    /// Without Envoy's normalisation: the filter sees paths as the client has written them.
    pub fn without_normalisation(self) -> Self {
        self.setting("normalize_path", json!(false))
            .setting("merge_slashes", json!(false))
            .setting("path_with_escaped_slashes_action", json!("KEEP_UNCHANGED"))
    }

    /// Without an application, which may be choosier than Envoy: whatever passes is answered with 200.
    pub fn answering_by_itself(mut self) -> Self {
        let route = testbed::bootstrap::direct_response(200, "passed");
        self.manager()["route_config"]["virtual_hosts"][0]["routes"] = json!([route]);
        self
    }

    /// Behind a load balancer that speaks the PROXY protocol.
    pub fn proxy_protocol(mut self) -> Self {
        let name = "envoy.filters.listener.proxy_protocol";
        let kind = "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol";
        let filter = json!({ "name": name, "typed_config": { "@type": kind } });
        self.listener()["listener_filters"].as_array_mut().unwrap().insert(0, filter);
        self
    }

    /// Speaks to the application in the version of HTTP that the client uses, tunnels included.
    pub fn same_protocol_upstream(mut self) -> Self {
        let address = self.app.address();
        *self.cluster() = testbed::bootstrap::cluster("application", address);
        self
    }

    /// With these listeners in place of its own, in a file that Envoy reads again whenever it is replaced.
    pub fn with_listeners(mut self, listeners: &[Value]) -> Self {
        self.bootstrap["static_resources"]["listeners"] = json!([]);
        self.bootstrap["dynamic_resources"] = json!({ "lds_config": {
            "resource_api_version": "V3",
            "path_config_source": { "path": "./lds.json" },
        } });
        self.options = self.options.file("lds.json", resources(listeners));
        self
    }

    /// A header `x-details` with the response code details on every answer that Envoy gives by itself.
    pub fn telling_details(self) -> Self {
        self.setting(
            "local_reply_config",
            json!({ "mappers": [{
                "filter": { "status_code_filter": { "comparison": {
                    "op": "GE", "value": { "default_value": 100, "runtime_key": "unset" },
                } } },
                "headers_to_add": [{ "header": { "key": "x-details", "value": "%RESPONSE_CODE_DETAILS%" } }],
            }] }),
        )
    }

    pub fn start(self) -> Sidecar {
        let envoy = Envoy::start_with(&self.bootstrap, &self.options).unwrap();
        Sidecar { envoy: Arc::new(envoy), app: self.app, listener: "inbound".to_owned() }
    }

    /// Starts the sidecar as one more listener of an Envoy that many tests share: its log and its statistics are not
    /// this test's alone. What is not in the listener is as it ships.
    pub fn start_shared(mut self) -> Sidecar {
        let shared = Shared::get();
        let listener = shared.add(self.listener());
        Sidecar { envoy: Arc::clone(&shared.envoy), app: Arc::clone(&shared.app), listener }
    }

    /// Offers the sidecar to the Envoy of [`Blueprint::start_shared`], which must refuse it, and returns what it logs.
    pub fn refused_shared(mut self) -> String {
        Shared::get().refuse(self.listener())
    }

    /// Starts Envoy, which must refuse, and returns its log.
    pub fn start_refused(self) -> String {
        Envoy::start_refused_with(&self.bootstrap, &self.options).unwrap()
    }
}

/// The files that `envoy/backend.yaml` names.
fn backend_files() -> StartOptions {
    let backend = authority().server("cluster.local/ns/default/sa/backend").unwrap();
    StartOptions::default()
        .file("mesh_authz.wasm", wasm())
        .file("certs/ca.crt", authority().pem())
        .file("certs/backend.crt", &backend.cert_pem)
        .file("certs/backend.key", &backend.key_pem)
}

impl Sidecar {
    pub fn start(plugin_config: &Value) -> Self {
        Blueprint::new(plugin_config).start()
    }

    pub fn address(&self) -> SocketAddr {
        self.envoy.address(&self.listener).unwrap()
    }

    /// The version of Envoy.
    pub fn version(&self) -> Version {
        let info: Value = serde_json::from_str(&self.envoy.admin_get("/server_info").unwrap()).unwrap();
        // commit/1.40.0/Clean/RELEASE/BoringSSL
        let version = info["version"].as_str().and_then(|version| version.split('/').nth(1)).unwrap();
        let numbers: Vec<u32> = version.split('.').map(|number| number.parse().expect(version)).collect();
        (numbers[0], numbers[1], numbers[2])
    }

    /// Whether this Envoy has what came with these releases: the first of each minor version that had it, in order. Minor
    /// versions after the last have it from the start.
    pub fn has_fix(&self, releases: &[Version]) -> bool {
        let version @ (major, minor, _) = self.version();
        releases.iter().rfind(|release| (release.0, release.1) <= (major, minor)).is_some_and(|first| version >= *first)
    }

    /// A client with this certificate.
    pub fn client_with(&self, certificate: &Certified) -> Client {
        Client::tls(self.address(), Tls::mutual(authority().pem(), certificate))
    }

    /// A client of this identity, written without `spiffe://`.
    pub fn client(&self, principal: &str) -> Client {
        client_of(self.address(), principal)
    }

    /// A client whose certificate has these names and this subject.
    pub fn client_named(&self, names: &[San], subject: Option<&str>) -> Client {
        self.client_with(&authority().issue(names, subject).unwrap())
    }

    /// A client that does not encrypt.
    pub fn plain_client(&self) -> Client {
        Client::plain(self.address())
    }

    /// A client that encrypts and presents no certificate.
    pub fn anonymous_client(&self) -> Client {
        Client::tls(self.address(), Tls::new(authority().pem()))
    }

    /// The lines that the filter has logged so far, by their text.
    pub fn filter_log(&self) -> Vec<String> {
        filter_lines(&self.envoy.log())
    }

    /// The decision log so far. Every line that looks like one must be JSON.
    pub fn decisions(&self) -> Vec<Value> {
        let lines = self.filter_log();
        let decisions = lines.iter().filter(|line| line.starts_with('{'));
        decisions.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }
}

/// A client with mutual TLS.
pub fn client_of(address: SocketAddr, principal: &str) -> Client {
    Client::tls(address, Tls::mutual(authority().pem(), &authority().spiffe(principal).unwrap()))
}

/// What the filter says in a log of Envoy's: everything behind `wasm log mesh_authz: `.
pub fn filter_lines(log: &str) -> Vec<String> {
    log.lines()
        .filter_map(|line| line.split_once("wasm log"))
        .filter_map(|(_, line)| line.split_once(": "))
        .map(|(_, text)| text.to_owned())
        .collect()
}

impl Drop for Sidecar {
    /// No request may bring Envoy or the filter down, whatever the test was about.
    fn drop(&mut self) {
        if thread::panicking() {
            println!("{}", self.envoy.log());
            return;
        }
        let log = self.envoy.log();
        assert!(self.envoy.is_running(), "Envoy has ended:\n{log}");
        // What Envoy says of a configuration that the filter refuses is no failure of the filter.
        let failures = log.lines().filter(|line| !line.contains("Failed to configure base Wasm plugin"));
        let failed =
            |line: &str| ["panicked", "Wasm VM failed", "Function: proxy_on_"].iter().any(|sign| line.contains(sign));
        let failures: Vec<_> = failures.filter(|line| failed(line)).collect();
        assert!(failures.is_empty(), "the filter has failed: {failures:#?}");
    }
}

/// An `ALLOW`, `DENY`, … policy in namespace `default`.
pub fn policy(name: &str, action: &str, rules: &[Value]) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": { "name": name },
        "spec": { "action": action, "rules": rules },
    })
}

/// A rule about `to` alone.
pub fn to(operation: Value) -> Value {
    json!({ "to": [{ "operation": operation }] })
}

/// A rule of one condition.
pub fn when(key: &str, values: &[&str]) -> Value {
    json!({ "when": [{ "key": key, "values": values }] })
}

/// The details of a refusal by this rule of a policy in namespace `default`.
pub fn denied_by(policy: &str, rule: usize) -> String {
    format!("rbac_access_denied_matched_policy[ns[default]-policy[{policy}]-rule[{rule}]]")
}

/// The details of a refusal because no ALLOW policy matched.
pub const DENIED_BY_NONE: &str = "rbac_access_denied_matched_policy[none]";
