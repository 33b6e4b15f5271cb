//! What a cluster's controllers do, as far as examples need it: pods for Deployments, and endpoints for Services.

use std::{fmt::Write as _, fs, net::Ipv4Addr, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{Mesh, Pod, PodSpec, Recorder, Role, process::run};

/// The pod of a Deployment. An application that answers everything listens on each of its ports.
pub struct Workload {
    /// The Deployment's namespace.
    pub namespace: String,
    /// The Deployment's name.
    pub name: String,
    /// The one pod, whose proxy is ready.
    pub pod: Pod,
    /// The applications, in the order of the ports.
    pub applications: Vec<Recorder>,
    labels: Value,
}

/// The workloads of a mesh.
#[derive(Default)]
pub struct Workloads {
    running: Vec<Workload>,
    endpoints: Vec<Value>,
}

impl Workloads {
    /// Starts a pod for each Deployment that has none, and writes the endpoints of Services that changed. Only pods
    /// with the label `sidecar.istio.io/inject: "true"` get a sidecar.
    ///
    /// # Errors
    /// If a pod does not start.
    pub fn update(&mut self, mesh: &Mesh) -> Result<()> {
        let listed = mesh.kubectl(&["get", "deployments,services", "--all-namespaces", "-o", "json"], "")?;
        let listed: Value = serde_json::from_str(&listed).context("what kubectl lists")?;
        let items = || listed["items"].as_array().into_iter().flatten();
        for deployment in items().filter(|item| item["kind"] == "Deployment") {
            let (namespace, name) = name_of(deployment);
            if !self.running.iter().any(|workload| workload.namespace == namespace && workload.name == name) {
                self.running.push(start(mesh, deployment)?);
            }
        }
        let endpoints: Vec<_> =
            items().filter(|item| item["kind"] == "Service").flat_map(|s| self.endpoints_of(s)).collect();
        for slice in endpoints.iter().filter(|slice| !self.endpoints.contains(slice)) {
            mesh.apply(&slice.to_string())?;
        }
        self.endpoints = endpoints;
        Ok(())
    }

    /// The workload of the Deployment with this name.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Workload> {
        self.running.iter().find(|workload| workload.namespace == namespace && workload.name == name)
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Workload] {
        &self.running
    }

    /// The slices of a Service that selects pods: one for each of its ports.
    fn endpoints_of(&self, service: &Value) -> Vec<Value> {
        let (namespace, name) = name_of(service);
        let Some(selector) = service["spec"]["selector"].as_object() else { return Vec::new() };
        let selects = |workload: &&Workload| {
            workload.namespace == namespace && selector.iter().all(|(key, value)| workload.labels[key] == *value)
        };
        let addresses: Vec<_> = self.running.iter().filter(selects).map(|workload| workload.pod.ip()).collect();
        let ports = service["spec"]["ports"].as_array().into_iter().flatten();
        ports
            .filter(|_| !addresses.is_empty())
            .filter_map(|port| {
                let target = port["targetPort"].as_u64().or_else(|| port["port"].as_u64())?;
                let target = target.try_into().ok()?;
                Some(endpoint_slice(&namespace, &name, port["name"].as_str(), target, &addresses))
            })
            .collect()
    }
}

/// What a controller would write: that these addresses are the endpoints of a Service's port.
#[must_use]
pub fn endpoint_slice(
    namespace: &str,
    service: &str,
    port_name: Option<&str>,
    port: u16,
    addresses: &[Ipv4Addr],
) -> Value {
    let endpoints: Vec<_> =
        addresses.iter().map(|address| json!({ "addresses": [address], "conditions": { "ready": true } })).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-{port}"),
            "namespace": namespace,
            "labels": { "kubernetes.io/service-name": service },
        },
        "addressType": "IPv4",
        "ports": [{ "name": port_name, "port": port }],
        "endpoints": endpoints,
    })
}

impl Mesh {
    /// Has the names of Services lead to their addresses, for every program in the mesh's namespaces, as the cluster's
    /// DNS would.
    ///
    /// # Errors
    /// If the file of hosts cannot be replaced.
    pub fn publish_names(&self) -> Result<()> {
        let listed = self.kubectl(&["get", "services", "--all-namespaces", "-o", "json"], "")?;
        let listed: Value = serde_json::from_str(&listed).context("what kubectl lists")?;
        let mut hosts = "127.0.0.1 localhost\n".to_owned();
        for service in listed["items"].as_array().into_iter().flatten() {
            let (namespace, name) = name_of(service);
            let address = service["spec"]["clusterIP"].as_str().unwrap_or_default();
            let mut names = format!("{name}.{namespace} {name}.{namespace}.svc {name}.{namespace}.svc.cluster.local");
            if namespace == "default" {
                names.push(' ');
                names.push_str(&name);
            }
            if address.starts_with(char::is_numeric) {
                writeln!(hosts, "{address} {names}")?;
            }
        }
        let file = self.hosts();
        let is_new = !file.exists();
        fs::write(&file, hosts)?;
        if is_new {
            run(Command::new("mount").arg("--bind").arg(&file).arg("/etc/hosts"), "")?;
        }
        Ok(())
    }

    fn hosts(&self) -> PathBuf {
        self.home().join("hosts")
    }
}

fn name_of(resource: &Value) -> (String, String) {
    let field = |name: &str| resource["metadata"][name].as_str().unwrap_or_default().to_owned();
    (field("namespace"), field("name"))
}

fn start(mesh: &Mesh, deployment: &Value) -> Result<Workload> {
    let (namespace, name) = name_of(deployment);
    let template = &deployment["spec"]["template"];
    let labels = template["metadata"]["labels"].clone();
    let role = if labels["sidecar.istio.io/inject"] == "true" { Role::Sidecar } else { Role::None };
    let account = template["spec"]["serviceAccountName"].as_str().unwrap_or("default").to_owned();
    let spec =
        PodSpec { namespace: namespace.clone(), name: format!("{name}-1"), account, labels: labels.clone(), role };
    let pod = mesh.pod(spec)?;
    let containers = template["spec"]["containers"].as_array().into_iter().flatten();
    let ports = containers.flat_map(|container| container["ports"].as_array().into_iter().flatten());
    let ports = ports.filter_map(|port| port["containerPort"].as_u64()?.try_into().ok());
    let applications = ports.map(|port| pod.serve(port)).collect::<Result<_>>()?;
    Ok(Workload { namespace, name, pod, applications, labels })
}
