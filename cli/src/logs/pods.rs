//! The pods of a cluster, by their addresses: which workload a request was for, and which service account its peer has.
//!
//! The pods are those of now. What was yesterday is inferred from that, and says so.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

use mesh_authz::policy::Labels;
use serde_json::Value;

use crate::load::{self, InputError};

/// A pod that has its addresses for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub namespace: String,
    pub labels: Labels,
    pub service_account: String,
    /// When it got its addresses, as RFC 3339.
    pub since: Option<String>,
    /// Whether its proxy is that of a gateway or a waypoint.
    pub is_gateway: bool,
}

/// Pods.
#[derive(Debug, Default)]
pub struct Pods {
    /// An address of several pods leads to none.
    by_address: HashMap<IpAddr, Option<Pod>>,
    /// The namespaces and the labels of all pods, also of those without an address.
    labels: Vec<(String, Labels)>,
}

impl Pods {
    /// Reads what `kubectl get pods -o json` printed.
    ///
    /// # Errors
    /// The file cannot be read, or is something else.
    pub fn read(file: &Path) -> Result<Self, InputError> {
        let error = |message: String| InputError { file: file.to_owned(), message };
        let list: Value = serde_json::from_slice(&load::bytes(file)?).map_err(|found| {
            error(format!("is not JSON: {found}; it must be the output of `kubectl get pods -A -o json`"))
        })?;
        let single = std::slice::from_ref(&list);
        let items = match (list.get("items"), list.get("kind")) {
            (Some(Value::Array(items)), _) => items.as_slice(),
            (None, Some(kind)) if kind == "Pod" => single,
            _ => {
                return Err(error(
                    "has no list of pods; it must be the output of `kubectl get pods -A -o json`".to_owned(),
                ));
            }
        };
        let mut pods = Self::default();
        for item in items.iter().filter(|item| item.get("kind").is_none_or(|kind| kind == "Pod")) {
            if let Some(namespace) = item.pointer("/metadata/namespace").and_then(Value::as_str) {
                pods.labels.push((namespace.to_owned(), labels(item)));
            }
            for (pod, address) in pod(item) {
                pods.by_address.entry(address).and_modify(|found| *found = None).or_insert(Some(pod));
            }
        }
        Ok(pods)
    }

    /// The pod that had the address at this time.
    #[must_use]
    pub fn at(&self, address: IpAddr, time: Option<&str>) -> Option<&Pod> {
        let pod = self.by_address.get(&address.to_canonical())?.as_ref()?;
        let is_later = |since: &String| time.is_some_and(|time| time >= since.trim_end_matches('Z'));
        pod.since.as_ref().is_none_or(is_later).then_some(pod)
    }

    /// The namespaces and the labels of all pods, also of those without an address for themselves.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &Labels)> {
        self.labels.iter().map(|(namespace, labels)| (namespace.as_str(), labels))
    }

    /// All pods that have an address for themselves.
    pub fn all(&self) -> impl Iterator<Item = &Pod> {
        self.by_address.values().flatten()
    }
}

fn labels(item: &Value) -> Labels {
    let labels = item.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
    labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// A pod with each of its addresses, if it has them for itself.
fn pod(item: &Value) -> Vec<(Pod, IpAddr)> {
    let text = |path: &str| item.pointer(path).and_then(Value::as_str).map(str::to_owned);
    // The addresses of the node belong to many, and those of a pod that has ended belong to others.
    let is_on_node = item.pointer("/spec/hostNetwork").and_then(Value::as_bool) == Some(true);
    let has_ended = matches!(text("/status/phase").as_deref(), Some("Succeeded" | "Failed"));
    let Some(namespace) = text("/metadata/namespace").filter(|_| !is_on_node && !has_ended) else { return Vec::new() };
    let account = text("/spec/serviceAccountName").or_else(|| text("/spec/serviceAccount"));
    let pod = Pod {
        namespace,
        labels: labels(item),
        service_account: account.unwrap_or_else(|| "default".to_owned()),
        since: text("/status/startTime"),
        is_gateway: is_gateway(item),
    };
    let several = item.pointer("/status/podIPs").and_then(Value::as_array).into_iter().flatten();
    let mut addresses: Vec<IpAddr> = several.filter_map(|ip| ip.get("ip")?.as_str()?.parse().ok()).collect();
    addresses.extend(text("/status/podIP").and_then(|ip| ip.parse::<IpAddr>().ok()));
    addresses.sort_unstable();
    addresses.dedup();
    addresses.into_iter().map(|address| (pod.clone(), address)).collect()
}

/// Whether a container runs Istio's agent for a gateway or a waypoint: `proxy router`, `proxy waypoint`.
fn is_gateway(item: &Value) -> bool {
    let mut containers = item.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten();
    containers.any(|container| {
        let argument = |path: &str| container.pointer(path).and_then(Value::as_str);
        argument("/args/0") == Some("proxy") && matches!(argument("/args/1"), Some("router" | "waypoint"))
    })
}
