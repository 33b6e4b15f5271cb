//! The shipped sidecar, `envoy/backend.yaml`, with the plugin configuration and the other changes that a test needs.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use mesh_authz_cli::load::yaml;
use serde_json::{Value, json};
use testbed::{App, Authority, Certified, Client, Envoy, San, StartOptions, Tls, suit_listeners};

use crate::neighbours::services;
use crate::shared::{Shared, resources};

/// The longest time that a test waits for something that normally takes only a moment.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub const FRONTEND: &str = "cluster.local/ns/default/sa/frontend";
pub const STRANGER: &str = "cluster.local/ns/elsewhere/sa/stranger";

/// A version of Envoy: major, minor, patch.
pub type Version = (u32, u32, u32);

/// A sidecar in front of an application. No test may make it crash; its `Drop` checks this.
pub struct Sidecar {
    pub envoy: Arc<Envoy>,
    pub app: Arc<App>,
    listener: String,
}

/// The certificate authority of the whole test run.
pub fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| Authority::new().unwrap())
}

pub fn project(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}

/// The shipped filter.
pub fn wasm() -> Vec<u8> {
    fs::read(project("dist/mesh_authz.wasm")).expect("dist/mesh_authz.wasm: run `make build`")
}

/// A sidecar before it is started: `envoy/backend.yaml` with the changes of a test.
pub struct Blueprint {
    pub bootstrap: Value,
    pub options: StartOptions,
    app: Arc<App>,
}

impl Blueprint {
    /// The shipped sidecar with this plugin configuration. The system chooses its port.
    pub fn new(plugin_config: &Value) -> Self {
        Self::in_front_of(Arc::new(App::start().unwrap()), plugin_config)
    }

    fn in_front_of(app: Arc<App>, plugin_config: &Value) -> Self {
        let text = fs::read_to_string(project("envoy/backend.yaml")).unwrap();
        let document = yaml::documents(&text).unwrap().remove(0);
        let mut bootstrap = serde_json::to_value(document).unwrap();
        suit_listeners(&mut bootstrap["static_resources"]["listeners"]);
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

    /// The configuration of the HTTP connection manager.
    pub fn manager(&mut self) -> &mut Value {
        manager_of(self.listener())
    }

    fn http_filters(&mut self) -> &mut Vec<Value> {
        self.manager()["http_filters"].as_array_mut().unwrap()
    }

    /// The `config` of the Wasm filter.
    pub fn wasm_filter(&mut self) -> &mut Value {
        let ours = self.http_filters().iter_mut().find(|filter| filter["name"] == "mesh_authz").unwrap();
        &mut ours["typed_config"]["config"]
    }

    /// Replaces the filter's module.
    pub fn replace_module(&mut self, module: Vec<u8>) {
        self.options.files.iter_mut().find(|(name, _)| name == "mesh_authz.wasm").unwrap().1 = module;
    }

    /// Removes TLS, so that peers have no identity.
    pub fn plaintext(mut self) -> Self {
        self.listener()["filter_chains"][0].as_object_mut().unwrap().remove("transport_socket");
        self
    }

    /// Also accepts TLS peers without a certificate.
    pub fn optional_client_certificate(mut self) -> Self {
        self.listener()["filter_chains"][0]["transport_socket"]["typed_config"]["require_client_certificate"] =
            json!(false);
        self
    }

    /// Adds a filter before all others.
    pub fn filter(mut self, filter: Value) -> Self {
        self.http_filters().insert(0, filter);
        self
    }

    /// Adds a filter after the project's filter, before the router.
    pub fn filter_after(mut self, filter: Value) -> Self {
        let filters = self.http_filters();
        let router = filters.len() - 1;
        filters.insert(router, filter);
        self
    }

    /// Removes what tells the project's filter about the peer.
    pub fn untold(mut self) -> Self {
        let tells = |filter: &Value| {
            let name = filter["name"].as_str().unwrap_or_default();
            name.starts_with("envoy.filters.") && name.ends_with(".set_filter_state")
        };
        self.http_filters().retain(|filter| !tells(filter));
        self.listener()["filter_chains"][0]["filters"].as_array_mut().unwrap().retain(|filter| !tells(filter));
        self
    }

    /// Lets these network filters tell the project's filter about the peer.
    pub fn told_by(self, filters: Vec<Value>) -> Self {
        let mut blueprint = self.untold();
        blueprint.listener()["filter_chains"][0]["filters"].as_array_mut().unwrap().splice(0..0, filters);
        blueprint
    }

    /// Removes what tells the address of the direct peer. The URIs are told in older filter state.
    pub fn without_source_ip(self) -> Self {
        self.untold().filter(json!({
            "name": "test.peer_uris",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config",
                "on_request_headers": [{
                    "object_key": "mesh_authz.peer_uris",
                    "factory_key": "envoy.string",
                    "skip_if_empty": true,
                    "format_string": {
                        "text_format_source": { "inline_string": "%DOWNSTREAM_PEER_URI_SAN%" },
                        "omit_empty_values": true,
                    },
                }],
            },
        }))
    }

    /// Changes a setting of the connection manager.
    pub fn setting(mut self, name: &str, value: Value) -> Self {
        self.manager()[name] = value;
        self
    }

    /// Turns off Envoy's path normalisation. The filter then sees paths as the client sent them.
    pub fn without_normalisation(self) -> Self {
        self.setting("normalize_path", json!(false))
            .setting("merge_slashes", json!(false))
            .setting("path_with_escaped_slashes_action", json!("KEEP_UNCHANGED"))
    }

    /// Responds with 200 to every request that passes, instead of the application, which may accept less than Envoy
    /// does.
    pub fn answering_by_itself(mut self) -> Self {
        let route = testbed::bootstrap::direct_response(200, "passed");
        self.manager()["route_config"]["virtual_hosts"][0]["routes"] = json!([route]);
        self
    }

    /// Replaces the routes of all hosts.
    pub fn routes(mut self, routes: &[Value]) -> Self {
        self.virtual_host()["routes"] = json!(routes);
        self
    }

    /// The virtual host, which has the routes of all hosts.
    pub fn virtual_host(&mut self) -> &mut Value {
        &mut self.manager()["route_config"]["virtual_hosts"][0]
    }

    /// Adds the clusters of [`services`].
    pub fn add_services(&mut self) {
        services::add(&mut self.bootstrap, self.app.address());
    }

    /// Accepts connections from a load balancer that uses the PROXY protocol.
    pub fn proxy_protocol(mut self) -> Self {
        let name = "envoy.filters.listener.proxy_protocol";
        let kind = "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol";
        let filter = json!({ "name": name, "typed_config": { "@type": kind } });
        self.listener()["listener_filters"].as_array_mut().unwrap().insert(0, filter);
        self
    }

    /// Uses the same version of HTTP for the application as the client does, also for tunnels.
    pub fn same_protocol_upstream(mut self) -> Self {
        let address = self.app.address();
        *self.cluster() = testbed::bootstrap::cluster("application", address);
        self
    }

    /// Replaces the listener by these listeners, in a file that Envoy reads again each time the file is replaced.
    pub fn with_listeners(mut self, listeners: &[Value]) -> Self {
        self.bootstrap["static_resources"]["listeners"] = json!([]);
        self.bootstrap["dynamic_resources"] = json!({ "lds_config": {
            "resource_api_version": "V3",
            "path_config_source": { "path": "./lds.json" },
        } });
        self.options = self.options.file("lds.json", resources(listeners));
        self
    }

    /// Adds a header `x-details` with the response code details to every response that Envoy itself sends.
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

    /// Adds the sidecar as a listener to an Envoy that many tests share. The log and the statistics also contain those
    /// of other tests. Changes outside the listener have no effect: the shared Envoy's bootstrap is used.
    pub fn start_shared(mut self) -> Sidecar {
        let shared = Shared::get();
        let listener = shared.add(self.listener());
        Sidecar { envoy: Arc::clone(&shared.envoy), app: Arc::clone(&shared.app), listener }
    }

    /// Adds the sidecar to the Envoy of [`Blueprint::start_shared`], which must refuse it. Returns what Envoy logs.
    pub fn refused_shared(mut self) -> String {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        // Each call has its own listener and its own virtual machine. Envoy may say once more that it has refused an earlier
        // listener, and in a machine that has failed and still exists, it does not try another plugin.
        let name = format!("refused-{}.", CALLS.fetch_add(1, Ordering::Relaxed));
        self.wasm_filter()["vm_config"]["vm_id"] = json!(name);
        Shared::get().refuse(&name, self.listener())
    }

    /// Starts Envoy, which must refuse the configuration. Returns its log.
    pub fn start_refused(self) -> String {
        Envoy::start_refused_with(&self.bootstrap, &self.options).unwrap()
    }
}

/// The files that `envoy/backend.yaml` refers to.
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
        // The format is commit/1.40.0/Clean/RELEASE/BoringSSL.
        let version = info["version"].as_str().and_then(|version| version.split('/').nth(1)).unwrap();
        let numbers: Vec<u32> = version.split('.').map(|number| number.parse().expect(version)).collect();
        (numbers[0], numbers[1], numbers[2])
    }

    /// Whether this Envoy has a fix. `releases` are the first releases with it: one of each minor version, in order.
    /// All later minor versions have the fix from the start.
    pub fn has_fix(&self, releases: &[Version]) -> bool {
        let version @ (major, minor, _) = self.version();
        releases.iter().rfind(|release| (release.0, release.1) <= (major, minor)).is_some_and(|first| version >= *first)
    }

    /// A client with this certificate.
    pub fn client_with(&self, certificate: &Certified) -> Client {
        Client::tls(self.address(), Tls::mutual(authority().pem(), certificate))
    }

    /// A client with this identity, written without `spiffe://`.
    pub fn client(&self, principal: &str) -> Client {
        client_of(self.address(), principal)
    }

    /// A client whose certificate has these names and this subject.
    pub fn client_named(&self, names: &[San], subject: Option<&str>) -> Client {
        self.client_with(&authority().issue(names, subject).unwrap())
    }

    /// A client without TLS.
    pub fn plain_client(&self) -> Client {
        Client::plain(self.address())
    }

    /// A client with TLS but without a certificate.
    pub fn anonymous_client(&self) -> Client {
        Client::tls(self.address(), Tls::new(authority().pem()))
    }

    /// The text of the lines that the filter has logged so far.
    pub fn filter_log(&self) -> Vec<String> {
        filter_lines(&self.envoy.log())
    }

    /// The decision log so far. Every line that starts with `{` must be JSON.
    pub fn decisions(&self) -> Vec<Value> {
        let lines = self.filter_log();
        let decisions = lines.iter().filter(|line| line.starts_with('{'));
        decisions.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }

    /// The line of the decision log about a request that `refuse` sends and the filter refuses. Sends it again while
    /// the line lacks the nearest miss: the time for such searches is limited, and on a busy machine it can run out.
    pub fn refusal_with_nearest(&self, refuse: impl Fn()) -> Value {
        let begin = Instant::now();
        loop {
            let before = self.decisions().len();
            refuse();
            let mut decisions = self.decisions();
            assert_eq!(decisions.len(), before + 1);
            let line = decisions.swap_remove(before);
            if line.get("nearest").is_some() || begin.elapsed() > PATIENCE {
                return line;
            }
            thread::sleep(Duration::from_millis(200));
        }
    }
}

/// The configuration of the connection manager in the first filter chain.
pub fn manager_of(listener: &mut Value) -> &mut Value {
    let filters = listener["filter_chains"][0]["filters"].as_array_mut().unwrap();
    &mut filters.last_mut().unwrap()["typed_config"]
}

/// A client with this identity, over mutual TLS.
pub fn client_of(address: SocketAddr, principal: &str) -> Client {
    Client::tls(address, Tls::mutual(authority().pem(), &authority().spiffe(principal).unwrap()))
}

/// The filter's lines in Envoy's log: the text after `wasm log mesh_authz: `.
pub fn filter_lines(log: &str) -> Vec<String> {
    log.lines()
        .filter_map(|line| line.split_once("wasm log"))
        .filter_map(|(_, line)| line.split_once(": "))
        .map(|(_, text)| text.to_owned())
        .collect()
}

impl Drop for Sidecar {
    /// Checks that Envoy is still running and that the filter has not failed. No test's requests may bring
    /// either of them down.
    fn drop(&mut self) {
        if thread::panicking() {
            println!("{}", self.envoy.log());
            return;
        }
        let log = self.envoy.log();
        assert!(self.envoy.is_running(), "Envoy has ended:\n{log}");
        // Envoy also logs a line when the filter refuses a configuration. That is not a failure of the filter.
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

/// A rule with a single operation.
pub fn to(operation: Value) -> Value {
    json!({ "to": [{ "operation": operation }] })
}

/// A rule with a single condition.
pub fn when(key: &str, values: &[&str]) -> Value {
    json!({ "when": [{ "key": key, "values": values }] })
}

/// The response code details of a refusal by this rule of a policy in namespace `default`.
pub fn denied_by(policy: &str, rule: usize) -> String {
    format!("rbac_access_denied_matched_policy[ns[default]-policy[{policy}]-rule[{rule}]]")
}

/// The response code details of a refusal because no ALLOW policy matched.
pub const DENIED_BY_NONE: &str = "rbac_access_denied_matched_policy[none]";
