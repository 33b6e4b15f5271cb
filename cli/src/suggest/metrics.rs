//! The peers of workloads in Istio's metric `istio_requests_total`, as Prometheus answers a query.
//!
//! The metric has no paths and no methods. What a peer says about itself, such as the name of its workload, is no evidence; its
//! principal is from its certificate.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mesh_authz::identity::SCHEME;
use serde_json::Value;

use super::Names;
use super::observed::is_principal;
use crate::load::{self, InputError};

/// The peers of workloads, and what is left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Principals, by the namespace and the label `app` of the workload.
    pub peers: BTreeMap<(String, String), BTreeSet<String>>,
    /// All workloads of the series, by the same.
    pub workloads: BTreeSet<(String, String)>,
    /// How many series are left out, by the reason.
    pub left_out: BTreeMap<&'static str, u64>,
    /// Peers of a workload that are left out, in words.
    pub peers_left_out: BTreeMap<(String, String), Vec<String>>,
}

/// The flags of responses that come from behind the policies.
const BEHIND: [&str; 11] = ["-", "UF", "UH", "UO", "URX", "NC", "NR", "UT", "LR", "UR", "UC"];

/// Names, by the peer.
type ByPeer = BTreeMap<String, BTreeSet<String>>;

impl Metrics {
    /// Reads an answer of Prometheus.
    ///
    /// # Errors
    /// The file cannot be read, or is something else.
    pub fn read(file: &Path, of_mesh: &Names) -> Result<Self, InputError> {
        let error = |message: String| InputError { file: file.to_owned(), message };
        let answer: Value = serde_json::from_slice(&load::bytes(file)?).map_err(|found| {
            error(format!("is not JSON: {found}; it must be an answer of Prometheus' /api/v1/query"))
        })?;
        if answer.get("status").and_then(Value::as_str) == Some("error") {
            let text = answer.get("error").and_then(Value::as_str).unwrap_or_default();
            return Err(error(format!("is an error of Prometheus: {text}")));
        }
        let kind = answer.pointer("/data/resultType").and_then(Value::as_str);
        let is_of_series = kind.is_none_or(|kind| ["vector", "matrix"].contains(&kind));
        let result = answer.pointer("/data/result").and_then(Value::as_array).filter(|_| is_of_series);
        let result = result.ok_or_else(|| {
            error(
                "has no list of series in `data.result`; it must be an answer of Prometheus' /api/v1/query to \
                 istio_requests_total"
                    .to_owned(),
            )
        })?;
        let mut metrics = Self::default();
        let (mut allowed, mut refused) = (BTreeMap::<_, ByPeer>::new(), BTreeSet::new());
        let mut names: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
        let mut unnamed: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        for series in result {
            let label =
                |name: &str| series.pointer(&format!("/metric/{name}")).and_then(Value::as_str).unwrap_or_default();
            let workload = (label("destination_workload_namespace").to_owned(), label("destination_app").to_owned());
            let peer = label("source_principal");
            let peer = peer.strip_prefix(SCHEME).unwrap_or(peer);
            let name = Some(label("destination_workload")).filter(|name| !name.is_empty()).unwrap_or("(not named)");
            // Each cluster of the mesh has its own workload with this name.
            let cluster = label("destination_cluster");
            let name = if cluster.is_empty() { name.to_owned() } else { format!("{name} in cluster {cluster}") };
            names.entry(workload.clone()).or_default().insert(name.clone());
            if is_refused(label) {
                refused.insert((workload.clone(), of_mesh.of(peer).unwrap_or_default()));
            }
            match read(series, peer, label) {
                Ok(()) => match of_mesh.of(peer) {
                    Some(peer) => _ = allowed.entry(workload).or_default().entry(peer).or_default().insert(name),
                    None => unnamed.entry(workload).or_default().push(format!("{peer}, {}", of_mesh.why_none())),
                },
                Err(why) => {
                    let count = metrics.left_out.entry(why).or_default();
                    *count = count.saturating_add(1);
                }
            }
        }
        metrics.workloads = names.keys().cloned().collect();
        for workload in unnamed.keys() {
            allowed.entry(workload.clone()).or_default();
        }
        for (workload, peers) in allowed {
            let all = names.remove(&workload).unwrap_or_default();
            let left_out = metrics.peers_left_out.entry(workload.clone()).or_default();
            left_out.extend(unnamed.remove(&workload).unwrap_or_default());
            let mut kept = BTreeSet::new();
            for (principal, at) in peers {
                if refused.contains(&(workload.clone(), principal.clone())) {
                    left_out.push(format!("{principal}, because some of its requests were refused"));
                } else if at != all {
                    let list = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
                    left_out.push(format!(
                        "{principal}, because it called only {}, and the policy is for all with this label: {}",
                        list(&at),
                        list(&all)
                    ));
                } else {
                    kept.insert(principal);
                }
            }
            metrics.peers.insert(workload, kept);
        }
        Ok(metrics)
    }
}

/// Whether a series counts requests that were refused, by policies, by an external authorizer, or by the application.
fn is_refused<'s>(label: impl Fn(&str) -> &'s str) -> bool {
    let is_one_of = |name: &str, values: &[&str]| values.contains(&label(name));
    // Of gRPC: permission denied, and unauthenticated.
    is_one_of("response_code", &["401", "403"])
        || is_one_of("grpc_response_status", &["7", "16"])
        || label("response_flags").split(',').any(|flag| flag == "UAEX")
}

/// Whether a series shows that a peer was allowed something. `Err`: why it does not.
fn read<'s>(series: &Value, peer: &str, label: impl Fn(&str) -> &'s str + Copy) -> Result<(), &'static str> {
    let values = series.get("values").and_then(Value::as_array).into_iter().flatten().chain(series.get("value"));
    let count = |value: &Value| {
        let value = value.get(1)?;
        value.as_f64().or_else(|| value.as_str()?.parse().ok())
    };
    if !values.filter_map(count).any(|count| count.is_finite() && count > 0.0) {
        return Err("no request was counted");
    }
    match label("reporter") {
        "destination" => {}
        "waypoint" => return Err("reported by a waypoint: make policies for it of its access log"),
        "" => return Err("there is no label `reporter`: keep it when you sum up"),
        _ => return Err("not reported by the workload itself"),
    }
    if label("connection_security_policy") != "mutual_tls" {
        return Err("not over mutual TLS, as far as the label `connection_security_policy` says");
    }
    if is_refused(label) {
        return Err("refused, by policies, by an authorizer or by the application");
    }
    match (label("response_code"), label("request_protocol"), label("grpc_response_status")) {
        ("", ..) => return Err("there is no label `response_code`: keep it when you sum up"),
        (_, "", _) => return Err("there is no label `request_protocol`: keep it when you sum up"),
        (_, "grpc", "") => return Err("there is no label `grpc_response_status`: keep it when you sum up"),
        ("0", ..) => return Err("not answered"),
        _ => {}
    }
    match label("response_flags") {
        "" => return Err("there is no label `response_flags`: keep it when you sum up"),
        flags if !flags.split(',').all(|flag| BEHIND.contains(&flag)) => {
            return Err("answered by Envoy itself, perhaps before the policies");
        }
        _ => {}
    }
    if !is_principal(peer) {
        return Err("of peers without a principal");
    }
    let app = label("destination_app");
    if label("destination_workload_namespace").is_empty() || app.is_empty() || app == "unknown" {
        return Err("to workloads without a label `app`");
    }
    if label("destination_workload").is_empty() {
        return Err("there is no label `destination_workload`: keep it when you sum up");
    }
    Ok(())
}
