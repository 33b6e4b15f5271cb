//! A pod: its object, its network, its proxy and its application.

use std::{
    fs, net::Ipv4Addr, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command, sync::Mutex, time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use testbed::{Client, Request, Tls};

use crate::{
    Mesh, Recorder,
    network::{NODE, PodNetwork, inside},
    process::{Process, START_DEADLINE},
};

/// What a pod's proxy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// There is none.
    None,
    /// Beside an application, whose connections it gets.
    Sidecar,
    /// A gateway.
    Router,
    /// A waypoint.
    Waypoint,
}

/// The pod to start.
#[derive(Clone, Debug)]
pub struct PodSpec {
    /// Its namespace, which must exist.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its service account, which is made if there is none.
    pub account: String,
    /// Its labels.
    pub labels: Value,
    /// What its proxy is.
    pub role: Role,
}

/// A running pod. Dropping it ends its proxy, and removes its network. Its objects remain.
pub struct Pod {
    proxy: Mutex<Option<Process>>,
    spec: PodSpec,
    network: PodNetwork,
    home: PathBuf,
    programs: PathBuf,
    authority_pem: String,
}

impl Pod {
    pub(crate) fn start(mesh: &Mesh, spec: PodSpec) -> Result<Self> {
        let mut spec = spec;
        if spec.role == Role::Sidecar {
            // As Istio's injector does: callers use mutual TLS with such a pod.
            spec.labels["security.istio.io/tlsMode"] = json!("istio");
        }
        let PodSpec { namespace, name, account, labels, role } = &spec;
        let network = mesh.network().pod(*role == Role::Sidecar)?;
        let container = |name: &str| json!({ "name": name, "image": "none" });
        let objects = json!({ "apiVersion": "v1", "kind": "List", "items": [
            { "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": account, "namespace": namespace } },
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": { "name": name, "namespace": namespace, "labels": labels },
                "spec": {
                    "serviceAccountName": account,
                    "nodeName": "node",
                    "containers": [container("application"), container("istio-proxy")],
                },
            },
        ]});
        mesh.apply(&objects.to_string())?;
        // What a kubelet would report.
        let running = ["application", "istio-proxy"].map(|name| {
            json!({
                "name": name, "image": "none", "imageID": "", "ready": true, "restartCount": 0,
                "state": { "running": {} },
            })
        });
        let ip = network.ip();
        let status = json!({ "status": {
            "phase": "Running",
            "podIP": ip,
            "podIPs": [{ "ip": ip }],
            "conditions": [{ "type": "Ready", "status": "True" }],
            "containerStatuses": running,
        }});
        mesh.kubectl(
            &["-n", namespace, "patch", "pod", name, "--subresource=status", "--type=merge", "-p", &status.to_string()],
            "",
        )?;
        let home = mesh.home().join(format!("{namespace}-{name}"));
        let pod = Self {
            proxy: Mutex::default(),
            home,
            network,
            programs: mesh.programs().to_owned(),
            authority_pem: mesh.authority().pem().to_owned(),
            spec,
        };
        if pod.spec.role != Role::None {
            let PodSpec { namespace, account, .. } = &pod.spec;
            let token = mesh.kubectl(&["-n", namespace, "create", "token", account, "--audience", "istio-ca"], "")?;
            pod.prepare(mesh, &token)?;
            pod.start_proxy()?;
        }
        Ok(pod)
    }

    /// Writes the files that the agent reads.
    fn prepare(&self, mesh: &Mesh, token: &str) -> Result<()> {
        for folder in ["var/run/secrets/tokens", "var/run/secrets/istio", "etc/istio/pod", "data"] {
            fs::create_dir_all(self.home.join(folder))?;
        }
        fs::write(self.home.join("var/run/secrets/tokens/istio-token"), token)?;
        fs::write(self.home.join("var/run/secrets/istio/root-cert.pem"), mesh.authority().pem())?;
        // What a kubelet would write. The agent reads it when it starts.
        let labels = self.spec.labels.as_object().into_iter().flatten();
        let labels: Vec<_> = labels.map(|(key, value)| format!("{key}={value}\n")).collect();
        fs::write(self.home.join("etc/istio/pod/labels"), labels.concat())?;
        fs::copy(self.programs.join("share/bootstrap.json"), self.home.join("bootstrap.json"))?;
        // The agent keeps modules in a fixed folder. A container has it for itself, and so has this pod.
        let start = self.home.join("start.sh");
        fs::write(
            &start,
            "#!/bin/sh\nset -e\nmkdir -p /var/lib/istio/data\nmount --bind \"$DATA\" /var/lib/istio/data\nexec \"$@\"\n",
        )?;
        fs::set_permissions(&start, fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    /// Starts the proxy's agent, which starts Envoy, and waits until both are ready.
    ///
    /// # Errors
    /// If they are not ready in time.
    pub fn start_proxy(&self) -> Result<()> {
        self.start_proxy_within(START_DEADLINE)
    }

    /// Like [`Pod::start_proxy`], with another deadline. If it passes, the proxy goes on starting.
    ///
    /// # Errors
    /// If they are not ready in time.
    pub fn start_proxy_within(&self, deadline: Duration) -> Result<()> {
        let PodSpec { namespace, name, account, labels, role } = &self.spec;
        let role = match role {
            Role::None => anyhow::bail!("the pod has no proxy"),
            Role::Sidecar => "sidecar",
            Role::Router => "router",
            Role::Waypoint => "waypoint",
        };
        let ip = self.network.ip().to_string();
        let proxy_config = json!({
            "discoveryAddress": format!("{NODE}:15012"),
            "binaryPath": testbed::envoy_binary()?,
            "configPath": "./etc/istio/proxy",
            "proxyBootstrapTemplatePath": self.home.join("bootstrap.json"),
            "proxyStatsMatcher": { "inclusionPrefixes": ["wasmcustom"] },
            "concurrency": 1,
        });
        let mut command: Command = self.network.command(&self.home.join("start.sh"));
        command.arg(self.programs.join("bin/pilot-agent")).args(["proxy", role]);
        command.args(["--domain", &format!("{namespace}.svc.cluster.local")]);
        command.args(["--proxyLogLevel=warning", "--proxyComponentLogLevel=wasm:info"]);
        command.current_dir(&self.home).env("DATA", self.home.join("data")).envs([
            ("INSTANCE_IP", ip.as_str()),
            ("POD_NAME", name),
            ("POD_NAMESPACE", namespace),
            ("SERVICE_ACCOUNT", account),
            ("ISTIO_META_CLUSTER_ID", "Kubernetes"),
            ("ISTIO_META_INTERCEPTION_MODE", "REDIRECT"),
            // The proxy is built without one. Resources can be for proxies of some versions only.
            ("ISTIO_META_ISTIO_VERSION", "1.31-dev"),
            ("ISTIO_META_MESH_ID", "cluster.local"),
            ("WASM_INSECURE_REGISTRIES", &format!("{NODE}:5000,{NODE}:5001")),
            ("PROXY_CONFIG", &proxy_config.to_string()),
        ]);
        // As Istio's injector does.
        if labels["networking.istio.io/tunnel"] == "http" {
            command.env("ISTIO_META_ENABLE_HBONE", "true");
        }
        let mut process = Process::start("proxy", &self.home, command)?;
        let ready = || self.get(15021, "/healthz/ready").is_ok_and(|(status, _)| status == 200);
        let started =
            process.wait_until_within(deadline, ready).with_context(|| format!("the proxy of {namespace}/{name}"));
        self.held_proxy().replace(process);
        started
    }

    /// Ends the proxy and its agent.
    pub fn stop_proxy(&self) {
        self.held_proxy().take();
    }

    /// The pod's address.
    #[must_use]
    pub fn ip(&self) -> Ipv4Addr {
        self.network.ip()
    }

    /// The network namespace of the pod's application.
    #[must_use]
    pub fn application_network(&self) -> String {
        if self.spec.role == Role::Sidecar { self.network.application() } else { self.network.name().to_owned() }
    }

    /// Where the proxy and its agent log to.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.home.join("proxy.log")
    }

    /// What the proxy and its agent have logged so far, with Envoy's access log.
    #[must_use]
    pub fn log(&self) -> String {
        self.held_proxy().as_ref().map(Process::log).unwrap_or_default()
    }

    /// Starts an application on this port of the pod.
    ///
    /// # Errors
    /// If the port is taken.
    pub fn serve(&self, port: u16) -> Result<Recorder> {
        self.network.inside(|| Recorder::start(port, b""))?
    }

    /// As [`Self::serve`], and it speaks first on each connection.
    ///
    /// # Errors
    /// As above.
    pub fn serve_greeting(&self, port: u16, greeting: &'static [u8]) -> Result<Recorder> {
        self.network.inside(|| Recorder::start(port, greeting))?
    }

    /// Sends a GET request to Envoy's administration interface: status and body.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn admin(&self, path: &str) -> Result<String> {
        Ok(self.get(15000, path)?.1)
    }

    fn get(&self, port: u16, path: &str) -> Result<(u16, String)> {
        let client = Client::plain((Ipv4Addr::LOCALHOST, port).into());
        let response = self.network.inside(|| client.send(&Request::get(path)))??;
        Ok((response.status, response.text()))
    }

    /// A client of this pod that has a certificate of the mesh, or none. Its connections come from the node.
    #[must_use]
    pub fn client(&self, port: u16, certificate: Option<&testbed::Certified>) -> Client {
        let address = (self.ip(), port).into();
        match certificate {
            None => Client::plain(address),
            Some(certificate) => {
                let mut tls = Tls::mutual(&self.authority_pem, certificate);
                // What a sidecar offers: Istio recognises its own connections by it.
                tls.alpn = Some(vec!["istio-http/1.1".into()]);
                Client::tls(address, tls)
            }
        }
    }

    /// Does something as the pod's application, whose connections go to the sidecar.
    ///
    /// # Errors
    /// If the pod's network is gone.
    pub fn as_application<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T> {
        inside(&self.application_network(), act)
    }

    fn held_proxy(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.proxy.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A test that fails shows what the proxy said last.
impl Drop for Pod {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let PodSpec { namespace, name, .. } = &self.spec;
            let end = self.held_proxy().as_ref().map(|proxy| proxy.end_of_log(25)).unwrap_or_default();
            println!("the end of the log of {namespace}/{name}:\n{end}");
        }
    }
}
