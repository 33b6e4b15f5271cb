//! The API server, istiod and the registry.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::{Authority, Certified};

use crate::{
    network::{NODE, Network},
    pod::{Pod, PodSpec},
    process::{Process, run},
};

/// Where the mesh's programs and files are, and what it is to serve.
#[derive(Clone, Debug)]
pub struct MeshSettings {
    /// The folder that `make istio-programs` fills: `bin` and `share`.
    pub programs: PathBuf,
    /// The OCI layout that the registry serves, as `mesh-authz:TAG`.
    pub image: PathBuf,
}

impl MeshSettings {
    /// From the environment, where `make` puts them: `MESH_PROGRAMS` and `MESH_IMAGE`.
    ///
    /// # Errors
    /// If one of them is missing.
    pub fn from_environment() -> Result<Self> {
        let path =
            |name| env::var_os(name).map(PathBuf::from).with_context(|| format!("{name} is not set: run `make istio`"));
        Ok(Self { programs: path("MESH_PROGRAMS")?, image: path("MESH_IMAGE")? })
    }
}

/// A control plane, and what pods need from it. Dropping it ends its programs.
pub struct Mesh {
    // Fields are dropped in this order: what uses something before what it uses.
    _registry: Registry,
    istiod: Mutex<Option<Process>>,
    _kubernetes: Process,
    network: Network,
    settings: MeshSettings,
    authority: Authority,
    home: TempDir,
}

/// The namespace of istiod, and of policies for the whole mesh.
pub const ROOT_NAMESPACE: &str = "istio-system";

/// A registry with the filter's image: `mesh-authz:TAG`, and `private/mesh-authz:TAG`. Dropping it ends it.
#[derive(Debug)]
pub struct Registry {
    _process: Process,
    address: String,
}

impl Registry {
    /// Its address, as a part of an image's name.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// The port of the registry that runs as long as the mesh. Proxies also read from the next one without TLS.
const REGISTRY_PORT: u16 = 5000;
const REPOSITORY: &str = "mesh-authz";

impl Mesh {
    /// The user and the password for the registry's repository `private/mesh-authz`.
    pub const CREDENTIALS: (&str, &str) = ("puller", "pulls");

    /// Starts everything but pods. It takes about ten seconds.
    ///
    /// # Errors
    /// If a program does not start: what it said.
    pub fn start(settings: MeshSettings) -> Result<Self> {
        // This folder is in memory, and ends with the namespaces.
        let home = tempfile::Builder::new().prefix("mesh-").tempdir_in("/run")?;
        let authority = Authority::new()?;
        let network = Network::new(&settings.programs.join("bin/redirect"))?;
        let kubernetes = start_kubernetes(&settings, home.path())?;
        let kubectl = |arguments: &[&str], input: &str| run(kubectl(&settings, home.path()).args(arguments), input);
        let share = |name: &str| settings.programs.join("share").join(name).display().to_string();
        for resources in ["istio-crds.yaml", "gateway-api"] {
            kubectl(&["apply", "--server-side", "-f", &share(resources)], "")?;
        }
        kubectl(&["wait", "--for=condition=established", "crd", "--all"], "")?;
        kubectl(&["create", "namespace", ROOT_NAMESPACE], "")?;
        let istiod = start_istiod(&settings, home.path(), &authority)?;
        kubectl(&["apply", "--server-side", "-f", "-"], &validation(&authority).to_string())?;
        kubectl(&["apply", "--server-side", "-f", "-"], include_str!("../objects/plain-envoy.yaml"))?;
        let registry = start_registry(&settings, home.path(), REGISTRY_PORT)?;
        let istiod = Mutex::new(Some(istiod));
        Ok(Self { _registry: registry, istiod, _kubernetes: kubernetes, network, settings, authority, home })
    }

    /// Runs kubectl, with `input` as its standard input, and returns what it prints.
    ///
    /// # Errors
    /// If it fails: its command line, and what it said.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String> {
        self.kubectl_with(&[], arguments, input)
    }

    /// Like [`Mesh::kubectl`], with variables in its environment.
    ///
    /// # Errors
    /// If it fails: its command line, and what it said.
    pub fn kubectl_with(&self, variables: &[(&str, &str)], arguments: &[&str], input: &str) -> Result<String> {
        run(kubectl(&self.settings, self.home.path()).envs(variables.iter().copied()).args(arguments), input)
    }

    /// Applies resources, as the documents tell users to.
    ///
    /// # Errors
    /// If the API server or istiod's webhook refuses one of them.
    pub fn apply(&self, resources: &str) -> Result<String> {
        self.kubectl(&["apply", "--server-side", "-f", "-"], resources)
    }

    /// The configuration for kubectl.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        kubeconfig(self.home.path())
    }

    /// Starts a pod, and its proxy if it has one.
    ///
    /// # Errors
    /// If its proxy is not ready in time.
    pub fn pod(&self, spec: PodSpec) -> Result<Pod> {
        Pod::start(self, spec)
    }

    /// The certificate of a service account, as istiod would issue it.
    ///
    /// # Errors
    /// If it cannot be signed.
    pub fn certificate(&self, namespace: &str, account: &str) -> Result<Certified> {
        self.authority.spiffe(&format!("cluster.local/ns/{namespace}/sa/{account}"))
    }

    /// The mesh's certificate authority.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Ends istiod. Proxies go on with what they have.
    pub fn stop_istiod(&self) {
        self.held_istiod().take();
    }

    /// Starts istiod again after [`Mesh::stop_istiod`].
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_istiod(&self) -> Result<()> {
        let istiod = start_istiod(&self.settings, self.home.path(), &self.authority)?;
        self.held_istiod().replace(istiod);
        Ok(())
    }

    /// Changes fields of Istio's mesh configuration, for the whole mesh. istiod reads them within seconds.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn configure(&self, fields: &Value) -> Result<()> {
        write_mesh_config(self.home.path(), fields)
    }

    /// The registry that runs as long as the mesh, as a part of an image's name.
    #[must_use]
    pub fn registry(&self) -> String {
        format!("{NODE}:{REGISTRY_PORT}")
    }

    /// Starts another registry with the same images.
    ///
    /// # Errors
    /// If it does not start, for example because there already is one.
    pub fn another_registry(&self) -> Result<Registry> {
        start_registry(&self.settings, self.home.path(), REGISTRY_PORT + 1)
    }

    fn held_istiod(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.istiod.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// The folder that `make istio-programs` fills.
    #[must_use]
    pub fn programs(&self) -> &Path {
        &self.settings.programs
    }

    /// The folder of everything that the mesh writes.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }
}

fn kubeconfig(home: &Path) -> PathBuf {
    home.join("kubeconfig")
}

fn kubectl(settings: &MeshSettings, home: &Path) -> Command {
    let mut command = Command::new(settings.programs.join("bin/kubectl"));
    command.env("KUBECONFIG", kubeconfig(home)).env("KUBECACHEDIR", home.join("cache"));
    command
}

fn start_kubernetes(settings: &MeshSettings, home: &Path) -> Result<Process> {
    const TOKEN: &str = "administrator";
    const PORT: u16 = 6443;
    let path = |name: &str| home.join(name).display().to_string();
    let key = rcgen::KeyPair::generate().context("the key for tokens")?;
    fs::write(path("accounts.key"), key.serialize_pem())?;
    fs::write(path("accounts.pub"), key.public_key_pem())?;
    fs::write(path("tokens.csv"), format!("{TOKEN},admin,admin,\"system:masters\"\n"))?;
    let configuration = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "mesh",
        "clusters": [{ "name": "mesh", "cluster": {
            "server": format!("https://127.0.0.1:{PORT}"),
            "certificate-authority": path("kubernetes/apiserver.crt"),
        }}],
        "users": [{ "name": "admin", "user": { "token": TOKEN } }],
        "contexts": [{ "name": "mesh", "context": { "cluster": "mesh", "user": "admin" } }],
    });
    fs::write(kubeconfig(home), configuration.to_string())?;
    let mut command = Command::new(settings.programs.join("bin/kubernetes"));
    command.env("ETCD_DIRECTORY", path("etcd")).env("ETCD_PORT", "2379");
    command.args([
        "--etcd-servers=http://127.0.0.1:2379",
        &format!("--secure-port={PORT}"),
        "--bind-address=127.0.0.1",
        &format!("--advertise-address={NODE}"),
        "--service-cluster-ip-range=10.96.0.0/16",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--api-audiences=istio-ca,https://kubernetes.default.svc",
        "--authorization-mode=RBAC",
        // It would ask for accounts in every namespace, which a controller makes in a cluster.
        "--disable-admission-plugins=ServiceAccount",
    ]);
    for (flag, file) in [
        ("cert-dir", "kubernetes"),
        ("service-account-key-file", "accounts.pub"),
        ("service-account-signing-key-file", "accounts.key"),
        ("token-auth-file", "tokens.csv"),
    ] {
        command.arg(format!("--{flag}={}", path(file)));
    }
    let mut process = Process::start("kubernetes", home, command)?;
    process.wait_until(|| run(kubectl(settings, home).args(["get", "--raw", "/readyz"]), "").is_ok())?;
    Ok(process)
}

fn start_istiod(settings: &MeshSettings, home: &Path, authority: &Authority) -> Result<Process> {
    let directory = home.join("istiod");
    // istiod looks here for the keys of its authority, relative to the folder that it runs in.
    let keys = directory.join("etc/cacerts");
    fs::create_dir_all(&keys)?;
    for file in ["ca-cert.pem", "root-cert.pem", "cert-chain.pem"] {
        fs::write(keys.join(file), authority.pem())?;
    }
    fs::write(keys.join("ca-key.pem"), authority.key_pem())?;
    let mesh_file = home.join(MESH_CONFIG);
    if !mesh_file.exists() {
        write_mesh_config(home, &json!({}))?;
    }
    let mut command = Command::new(settings.programs.join("bin/pilot-discovery"));
    command.current_dir(&directory).arg("discovery");
    command.arg("--kubeconfig").arg(kubeconfig(home)).arg("--meshConfig").arg(&mesh_file);
    command.args(["--ctrlz_port", "0"]).args(["--httpAddr", ":15080"]);
    command.envs([
        ("POD_NAMESPACE", ROOT_NAMESPACE),
        ("POD_NAME", "istiod"),
        ("REVISION", "default"),
        ("ISTIOD_CUSTOM_HOST", &NODE.to_string()),
        ("PILOT_ENABLE_AMBIENT", "true"),
        // The webhook's configuration is written by this code, because there is no Service that leads to istiod.
        ("INJECTION_WEBHOOK_CONFIG_NAME", ""),
        ("VALIDATION_WEBHOOK_CONFIG_NAME", ""),
        // What only Istio's build of Envoy has is off here, or taken out by plain-envoy.yaml.
        ("PILOT_ENABLE_METADATA_EXCHANGE", "false"),
        ("AMBIENT_ENABLE_MULTI_NETWORK_WAYPOINT", "false"),
    ]);
    let mut process = Process::start("istiod", home, command)?;
    let node = testbed::Client::plain((NODE, 15080).into());
    process.wait_until(|| node.send(&testbed::Request::get("/ready")).is_ok_and(|response| response.status == 200))?;
    Ok(process)
}

const MESH_CONFIG: &str = "mesh.json";

fn write_mesh_config(home: &Path, fields: &Value) -> Result<()> {
    let mut mesh_config = json!({
        "trustDomain": "cluster.local",
        "accessLogFile": "/dev/stdout",
        "defaultConfig": { "discoveryAddress": format!("{NODE}:15012") },
        // For CUSTOM policies: Services that a test may make. For logs: what a Telemetry resource may name.
        "extensionProviders": [provider("allows"), provider("refuses"), log_provider()?],
        // Filters for statistics that only Istio's build of Envoy has.
        "defaultProviders": {},
    });
    for (key, value) in fields.as_object().into_iter().flatten() {
        mesh_config[key] = value.clone();
    }
    // In one step, because istiod watches the file.
    let new = home.join("mesh.json.new");
    fs::write(&new, mesh_config.to_string())?;
    Ok(fs::rename(new, home.join(MESH_CONFIG))?)
}

fn provider(name: &str) -> Value {
    let service = format!("{name}.{ROOT_NAMESPACE}.svc.cluster.local");
    json!({ "name": name, "envoyExtAuthzHttp": { "service": service, "port": 8000 } })
}

fn start_registry(settings: &MeshSettings, home: &Path, port: u16) -> Result<Registry> {
    let address = format!("{NODE}:{port}");
    let mut command = Command::new(settings.programs.join("bin/registry"));
    let (user, password) = Mesh::CREDENTIALS;
    command.arg(&address).arg(&settings.image).args([REPOSITORY, user, password]);
    let mut process = Process::start("registry", home, command)?;
    process.wait_until(|| std::net::TcpStream::connect((NODE, port)).is_ok())?;
    Ok(Registry { _process: process, address })
}

/// The access log to replay, as the example has it, with the header `x-tenant`, as its comment and that of the example for
/// gateways say.
fn log_provider() -> Result<Value> {
    let example: Value = serde_saphyr::from_str(include_str!("../../../examples/observability/replay-istio.yaml"))?;
    let mut provider = example["meshConfig"]["extensionProviders"][0].clone();
    let labels = &mut provider["envoyFileAccessLog"]["logFormat"]["labels"];
    labels["x-tenant"] = json!("%REQ(X-TENANT)%");
    labels["x-tenant-lines"] = json!("%CEL(request.headers['x-tenant'])%");
    labels["x-tenant-first-decided"] = json!("%FILTER_STATE(decided.first.x-tenant:PLAIN)%");
    labels["x-tenant-lines-decided"] = json!("%FILTER_STATE(decided.all.x-tenant:PLAIN)%");
    Ok(provider)
}

/// Has the API server ask istiod about each of Istio's resources, as in a cluster.
fn validation(authority: &Authority) -> Value {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": { "name": "istiod-default-validator" },
        "webhooks": [{
            "name": "validation.istio.io",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Fail",
            "clientConfig": {
                "url": format!("https://{NODE}:15017/validate"),
                "caBundle": STANDARD.encode(authority.pem()),
            },
            "rules": [{
                "operations": ["CREATE", "UPDATE"],
                "apiGroups": ["security.istio.io", "networking.istio.io", "telemetry.istio.io", "extensions.istio.io"],
                "apiVersions": ["*"],
                "resources": ["*"],
            }],
        }],
    })
}
