//! Starts three Envoys and an application from the bootstraps under `envoy/`.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testbed::{App, Authority, Certified, Client, Envoy, Request, StartOptions, envoy_binary};

use crate::stages::{DemoRequest, Peer, Stage};

/// The folder for all files that the bootstraps name, so that the bootstraps can be started by hand.
const FOLDER: &str = "target/demo";

/// The ports on which the sidecars listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Free ports, so that the demo disturbs nothing.
    Free,
    /// The ports that the bootstraps name, so that others can find the sidecars.
    AsWritten,
}

/// Everything except the backend's sidecar, which starts anew for every stage.
pub struct Mesh {
    authority: Authority,
    app: App,
    backend_port: u16,
    backend: StartOptions,
    frontend: Envoy,
    stranger: Envoy,
}

/// The outcome of a request.
pub struct Answer {
    pub status: u16,
    pub reason: String,
}

impl Mesh {
    /// Makes certificates, and starts the application and the sidecars of its callers. Prints each step.
    pub fn start(ports: Ports) -> Result<Self> {
        say("Envoy");
        println!("  {}", envoy_binary()?.display());
        say("certificates for frontend, backend and a stranger, all of one authority");
        let authority = Authority::new()?;
        let backend = authority.server("cluster.local/ns/default/sa/backend")?;
        let frontend = authority.spiffe("cluster.local/ns/default/sa/frontend")?;
        let stranger = authority.spiffe("cluster.local/ns/default/sa/stranger")?;
        let backend_port = match ports {
            Ports::AsWritten => listener_port(&mut bootstrap("envoy/backend.yaml")?)?,
            Ports::Free => TcpListener::bind("127.0.0.1:0")?.local_addr()?.port(),
        };
        say("an application, and the sidecars of the frontend and of the stranger");
        let mesh = Self {
            app: App::start()?,
            backend_port,
            frontend: caller(&authority, &frontend, backend_port, ports)?,
            stranger: caller(&authority, &stranger, backend_port, Ports::Free)?,
            backend: files(&authority, "backend", &backend).file("mesh_authz.wasm", wasm()?),
            authority,
        };
        mesh.write_folder(&frontend)?;
        println!("  {FOLDER} has everything to start them by hand");
        Ok(mesh)
    }

    /// Starts the backend's sidecar with the policies of a stage.
    pub fn backend(&self, stage: &Stage) -> Result<Envoy> {
        let mut policies = Vec::new();
        for name in stage.policies {
            let file = project(&format!("examples/tutorial/{name}.yaml"));
            policies.push(yaml(&file)?);
        }
        let config = json!({ "policies": policies, "combining": stage.combining, "decisionLog": "all" });
        self.start_backend(config, |_| Ok(()))
    }

    /// Starts the backend's sidecar with this configuration of the filter. `change` gets its connection manager.
    pub fn start_backend(&self, config: Value, change: impl FnOnce(&mut Value) -> Result<()>) -> Result<Envoy> {
        let mut bootstrap = bootstrap("envoy/backend.yaml")?;
        set_port(listener_address(&mut bootstrap), self.backend_port);
        set_port(cluster_address(&mut bootstrap), self.app.address().port());
        let manager = manager(&mut bootstrap).context("envoy/backend.yaml has no connection manager")?;
        *plugin_config(manager).context("envoy/backend.yaml has no filter called mesh_authz")? = config;
        change(manager)?;
        Envoy::start_with(&bootstrap, &self.backend)
    }

    /// Starts a sidecar that calls the backend as this principal.
    pub fn start_caller(&self, principal: &str) -> Result<Envoy> {
        caller(&self.authority, &self.authority.spiffe(principal)?, self.backend_port, Ports::Free)
    }

    /// Sends a request through its sender's sidecar. The backend's log tells the reason for the answer.
    pub fn send(&self, backend: &Envoy, request: &DemoRequest) -> Result<Answer> {
        let client = Client::plain(self.caller(request.peer).address("outbound")?);
        let mark = backend.log_mark();
        let message = Request::new(request.method, request.path).host("backend.default.svc.cluster.local");
        let response = client.send(&message)?;
        let reached = response.header("x-app").is_some();
        ensure!(reached == (response.status == 200), "status {} does not fit the application's part", response.status);
        Ok(Answer { status: response.status, reason: reason(backend, mark)? })
    }

    /// The curl command that sends a request.
    pub fn curl(&self, request: &DemoRequest) -> Result<String> {
        let address = self.caller(request.peer).address("outbound")?;
        let method = if request.method == "GET" { String::new() } else { format!("-X {} ", request.method) };
        Ok(format!("curl -i {method}http://{address}{}", request.path))
    }

    /// The sidecar of a caller.
    pub fn caller(&self, peer: Peer) -> &Envoy {
        match peer {
            Peer::Frontend => &self.frontend,
            Peer::Stranger => &self.stranger,
        }
    }

    /// Writes all files that the bootstraps name into one folder.
    fn write_folder(&self, frontend: &Certified) -> Result<()> {
        let folder = project(FOLDER);
        let frontend = files(&self.authority, "frontend", frontend);
        for (name, content) in self.backend.files.iter().chain(&frontend.files) {
            let file = folder.join(name);
            fs::create_dir_all(file.parent().context("a file has a folder")?)?;
            fs::write(file, content)?;
        }
        for bootstrap in ["backend.yaml", "frontend.yaml"] {
            fs::copy(project("envoy").join(bootstrap), folder.join(bootstrap))?;
        }
        Ok(())
    }
}

fn say(what: &str) {
    println!("• {what}");
}

/// Starts a sidecar that calls the backend with this certificate.
fn caller(authority: &Authority, certificate: &Certified, backend_port: u16, ports: Ports) -> Result<Envoy> {
    let mut bootstrap = bootstrap("envoy/frontend.yaml")?;
    if ports == Ports::Free {
        set_port(listener_address(&mut bootstrap), 0);
    }
    set_port(cluster_address(&mut bootstrap), backend_port);
    Envoy::start_with(&bootstrap, &files(authority, "frontend", certificate))
}

/// The certificates, under the file names that the bootstraps use.
fn files(authority: &Authority, name: &str, certificate: &Certified) -> StartOptions {
    StartOptions::default()
        .file("certs/ca.crt", authority.pem())
        .file(&format!("certs/{name}.crt"), &certificate.cert_pem)
        .file(&format!("certs/{name}.key"), &certificate.key_pem)
}

/// A path in the project's folder.
pub fn project(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(path)
}

/// The filter.
pub fn wasm() -> Result<Vec<u8>> {
    fs::read(project("dist/mesh_authz.wasm")).context("dist/mesh_authz.wasm: run `make build`")
}

/// A bootstrap for the Envoy that runs the demo.
fn bootstrap(path: &str) -> Result<Value> {
    let mut bootstrap = yaml(&project(path))?;
    testbed::suit_listeners(&mut bootstrap["static_resources"]["listeners"]);
    Ok(bootstrap)
}

/// A file of one document.
pub fn yaml(file: &Path) -> Result<Value> {
    let name = || file.display().to_string();
    serde_saphyr::from_str(&fs::read_to_string(file).with_context(name)?).with_context(name)
}

fn listener_address(bootstrap: &mut Value) -> &mut Value {
    &mut bootstrap["static_resources"]["listeners"][0]["address"]
}

fn cluster_address(bootstrap: &mut Value) -> &mut Value {
    &mut bootstrap["static_resources"]["clusters"][0]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
        ["address"]
}

fn set_port(address: &mut Value, port: u16) {
    address["socket_address"]["port_value"] = json!(port);
}

fn listener_port(bootstrap: &mut Value) -> Result<u16> {
    let port = listener_address(bootstrap)["socket_address"]["port_value"].as_u64().context("a port")?;
    Ok(u16::try_from(port)?)
}

fn manager(bootstrap: &mut Value) -> Option<&mut Value> {
    let chain = &mut bootstrap["static_resources"]["listeners"][0]["filter_chains"][0];
    chain["filters"].as_array_mut()?.last_mut()?.get_mut("typed_config")
}

fn plugin_config(manager: &mut Value) -> Option<&mut Value> {
    let filters = manager["http_filters"].as_array_mut()?;
    let filter = filters.iter_mut().find(|filter| filter["name"] == "mesh_authz")?;
    filter.pointer_mut("/typed_config/config/configuration/value")
}

/// The reason in the next line of the decision log after `mark`.
fn reason(backend: &Envoy, mark: usize) -> Result<String> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        let log = backend.log_since(mark);
        let line = log.lines().find_map(|line| line.split_once("wasm log mesh_authz: "));
        if let Some(decision) = line.and_then(|(_, json)| serde_json::from_str::<Value>(json).ok()) {
            return Ok(decision["reason"].as_str().unwrap_or_default().to_owned());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    anyhow::bail!("the backend has logged no decision:\n{}", backend.log_since(mark))
}
