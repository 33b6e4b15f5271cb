//! Resources that tests apply, and what a proxy says of them.

use mesh_authz_istio::{Pod, Role};
use serde_json::{Value, json};
use testbed::{Client, Request};

use crate::place::{Place, mesh, status};

pub const TAG: &str = "0.1.0";

/// The filter's image in the mesh's registry.
pub fn image() -> String {
    format!("oci://{}/mesh-authz:{TAG}", mesh().registry())
}

/// The digest of the image, without `sha256:`.
pub fn digest() -> String {
    digest_of(TAG)
}

/// The digest of the image with this tag.
pub fn digest_of(tag: &str) -> String {
    let layout = std::env::var("MESH_IMAGE").unwrap();
    let index: Value = serde_json::from_slice(&std::fs::read(format!("{layout}/index.json")).unwrap()).unwrap();
    let manifests = index["manifests"].as_array().unwrap();
    let tagged = |manifest: &&Value| manifest["annotations"]["org.opencontainers.image.ref.name"] == tag;
    let digest = manifests.iter().find(tagged).unwrap()["digest"].as_str().unwrap();
    digest.strip_prefix("sha256:").unwrap().to_owned()
}

/// An AuthorizationPolicy for the pods with the label `app: APP`.
pub fn policy(name: &str, app: &str, action: &str, rules: Value) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": { "name": name },
        "spec": { "selector": { "matchLabels": { "app": app } }, "action": action, "rules": rules },
    })
}

/// The policy of the tutorial: only the frontend reads, and only the data.
pub fn frontend_reads_data(place: &Place, app: &str) -> Value {
    let rule = json!({
        "from": [{ "source": { "principals": [format!("cluster.local/ns/{}/sa/frontend", place.namespace)] } }],
        "to": [{ "operation": { "methods": ["GET"], "paths": ["/api/v1/data"] } }],
    });
    policy("frontend-reads-data", app, "ALLOW", json!([rule]))
}

/// A WasmPlugin for the pods with the label `app: APP`, with these policies in their namespace.
pub fn wasm_plugin(place: &Place, name: &str, app: &str, policies: &[Value]) -> Value {
    let mut policies = policies.to_vec();
    for policy in &mut policies {
        policy["metadata"]["namespace"] = json!(place.namespace);
    }
    plugin_with(name, app, &json!({ "policies": policies, "onInvalid": "deny", "outgoing": "pass" }))
}

/// A WasmPlugin for the pods with the label `app: APP`, with this configuration.
pub fn plugin_with(name: &str, app: &str, configuration: &Value) -> Value {
    json!({
        "apiVersion": "extensions.istio.io/v1alpha1",
        "kind": "WasmPlugin",
        "metadata": { "name": name },
        "spec": {
            "selector": { "matchLabels": { "app": app } },
            "url": image(),
            "phase": "AUTHZ",
            "failStrategy": "FAIL_CLOSE",
            "pluginConfig": configuration,
        },
    })
}

/// A workload with a sidecar, with an application at port 8080, and its callers.
pub struct Backend {
    pub place: Place,
    pub pod: Pod,
    _application: mesh_authz_istio::Recorder,
    pub frontend: Client,
    pub stranger: Client,
}

impl Backend {
    pub fn new() -> Self {
        Self::at(Place::new(), |_| json!({ "app": "backend" }))
    }

    /// In this place, with these labels.
    pub fn at(place: Place, labels: impl Fn(&Place) -> Value) -> Self {
        let pod = place.labelled_pod("backend", Role::Sidecar, labels(&place));
        let application = pod.serve(8080).unwrap();
        // A declared port with a name that says HTTP. Without it, Istio detects the protocol.
        place.apply(&service("backend", &[("http", 8080)]).to_string());
        let client = |account| pod.client(8080, Some(&place.certificate(account)));
        let (frontend, stranger) = (client("frontend"), client("stranger"));
        Self { place, pod, _application: application, frontend, stranger }
    }

    /// What the tutorial's requests get: the frontend reads the data, writes it, reads something else; a stranger
    /// reads the data.
    pub fn answers(&self) -> [u16; 4] {
        let read = Request::get("/api/v1/data");
        [
            status(&self.frontend, &read),
            status(&self.frontend, &Request::new("POST", "/api/v1/data").body("{}")),
            status(&self.frontend, &Request::get("/api/v1/other")),
            status(&self.stranger, &read),
        ]
    }
}

/// What the tutorial's requests get where its policy is enforced.
pub const ENFORCED: [u16; 4] = [200, 403, 403, 403];
/// What they get where nothing is enforced.
pub const OPEN: [u16; 4] = [200; 4];
/// What they get where everything is refused.
pub const CLOSED: [u16; 4] = [403; 4];

/// A Service of the pods with the label `app: NAME`. Its ports are those of the pods.
pub fn service(name: &str, ports: &[(&str, u16)]) -> Value {
    let ports: Vec<_> = ports.iter().map(|(name, port)| json!({ "name": name, "port": port })).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name },
        "spec": { "selector": { "app": name }, "ports": ports },
    })
}

/// The names of the HTTP filters on a sidecar's inbound chain for this port, in their order. Empty if there is no chain.
pub fn http_filters(pod: &Pod, port: u16) -> Vec<String> {
    let dump: Value = serde_json::from_str(&pod.admin("/config_dump?resource=dynamic_listeners").unwrap()).unwrap();
    let listeners = dump["configs"].as_array().unwrap().iter();
    let inbound =
        listeners.map(|listener| &listener["active_state"]["listener"]).find(|l| l["name"] == "virtualInbound");
    let chains = inbound.expect("an inbound listener")["filter_chains"].as_array().unwrap().iter();
    let chain = chains.filter(|chain| chain["filter_chain_match"]["destination_port"] == port);
    let managers = chain.flat_map(|chain| chain["filters"].as_array().unwrap());
    let filters = managers.filter_map(|filter| filter["typed_config"]["http_filters"].as_array()).next();
    filters.into_iter().flatten().map(|filter| filter["name"].as_str().unwrap().to_owned()).collect()
}
