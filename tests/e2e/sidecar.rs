//! The sidecar that ships, `envoy/backend.yaml`, with a plugin configuration of the test's choice.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use mesh_authz::yaml;
use serde_json::{Value, json};
use testbed::{App, Authority, Certified, Client, Envoy, StartOptions, Tls};

/// A sidecar in front of an application, and the authority that its peers need certificates of.
pub struct Sidecar {
    pub envoy: Envoy,
    pub app: App,
}

/// The authority of the whole test run.
pub fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| Authority::new().unwrap())
}

/// A file of the project.
pub fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The filter, as it ships.
pub fn wasm() -> Vec<u8> {
    fs::read(project("dist/mesh_authz.wasm")).expect("dist/mesh_authz.wasm: run `make build`")
}

/// `envoy/backend.yaml`, on a port of the system's choice.
pub fn backend_bootstrap(plugin_config: &Value, app: &App) -> Value {
    let text = fs::read_to_string(project("envoy/backend.yaml")).unwrap();
    let document = yaml::documents(&text).unwrap().remove(0);
    let mut bootstrap = serde_json::to_value(document).unwrap();
    let resources = &mut bootstrap["static_resources"];
    resources["listeners"][0]["address"]["socket_address"]["port_value"] = json!(0);
    let endpoint = "/clusters/0/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/port_value";
    *resources.pointer_mut(endpoint).unwrap() = json!(app.address().port());
    *plugin_config_of(&mut bootstrap) = plugin_config.clone();
    bootstrap
}

/// The place of the plugin configuration in a bootstrap made from `envoy/backend.yaml`.
pub fn plugin_config_of(bootstrap: &mut Value) -> &mut Value {
    let filters = bootstrap
        .pointer_mut("/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters")
        .unwrap();
    let filters = filters.as_array_mut().unwrap();
    let ours = filters.iter_mut().find(|filter| filter["name"] == "mesh_authz").unwrap();
    ours.pointer_mut("/typed_config/config/configuration/value").unwrap()
}

/// The files that `envoy/backend.yaml` names.
pub fn backend_files() -> StartOptions {
    let backend = authority().server("cluster.local/ns/default/sa/backend").unwrap();
    StartOptions::default()
        .file("mesh_authz.wasm", wasm())
        .file("certs/ca.crt", authority().pem())
        .file("certs/backend.crt", &backend.cert_pem)
        .file("certs/backend.key", &backend.key_pem)
}

impl Sidecar {
    pub fn start(plugin_config: &Value) -> Self {
        let app = App::start().unwrap();
        let envoy = Envoy::start_with(&backend_bootstrap(plugin_config, &app), &backend_files()).unwrap();
        Self { envoy, app }
    }

    /// A client with this certificate.
    pub fn client_with(&self, certificate: &Certified) -> Client {
        Client::tls(self.envoy.address("inbound").unwrap(), Tls::mutual(authority().pem(), certificate))
    }

    /// A client of this identity, written without `spiffe://`.
    pub fn client(&self, principal: &str) -> Client {
        self.client_with(&authority().spiffe(principal).unwrap())
    }
}
