//! The peers of workloads in Istio's metric `istio_requests_total`, as Prometheus answers a query.
//!
//! The metric has no paths and no methods. What a peer says about itself, such as the name of its workload, is no evidence; its
//! principal is from its certificate.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mesh_authz::identity::SCHEME;
use serde_json::Value;

use super::observed::is_principal;
use crate::load::{self, InputError};

/// The peers of a workload, and how many requests are left out, by the reason.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Principals, by the namespace and the label `app` of the workload.
    pub peers: BTreeMap<(String, String), BTreeSet<String>>,
    /// How many series are left out, by the reason.
    pub left_out: BTreeMap<&'static str, u64>,
}

impl Metrics {
    /// Reads an answer of Prometheus.
    ///
    /// # Errors
    /// The file cannot be read, or is something else.
    pub fn read(file: &Path) -> Result<Self, InputError> {
        let error = |message: String| InputError { file: file.to_owned(), message };
        let answer: Value = serde_json::from_slice(&load::bytes(file)?).map_err(|found| {
            error(format!("is not JSON: {found}; it must be an answer of Prometheus' /api/v1/query"))
        })?;
        if answer.get("status").and_then(Value::as_str) == Some("error") {
            let text = answer.get("error").and_then(Value::as_str).unwrap_or_default();
            return Err(error(format!("is an error of Prometheus: {text}")));
        }
        let result = answer.pointer("/data/result").and_then(Value::as_array);
        let result = result.ok_or_else(|| {
            error(
                "has no `data.result`; it must be an answer of Prometheus' /api/v1/query to istio_requests_total"
                    .to_owned(),
            )
        })?;
        let mut metrics = Self::default();
        for series in result {
            match peer(series) {
                Ok((workload, principal)) => {
                    metrics.peers.entry(workload).or_default().insert(principal);
                }
                Err(why) => {
                    let count = metrics.left_out.entry(why).or_default();
                    *count = count.saturating_add(1);
                }
            }
        }
        Ok(metrics)
    }
}

/// The workload and the peer of a series, if its requests were allowed and the peer is certain.
fn peer(series: &Value) -> Result<((String, String), String), &'static str> {
    let label = |name: &str| series.pointer(&format!("/metric/{name}")).and_then(Value::as_str).unwrap_or_default();
    let values = series.get("values").and_then(Value::as_array).into_iter().flatten().chain(series.get("value"));
    let count = |value: &Value| value.get(1)?.as_str()?.parse::<f64>().ok();
    if !values.filter_map(count).any(|count| count.is_finite() && count > 0.0) {
        return Err("no request was counted");
    }
    match label("reporter") {
        "destination" | "waypoint" => {}
        "" => return Err("there is no label `reporter`: keep it when you sum up"),
        _ => return Err("not reported by the workload itself"),
    }
    if label("connection_security_policy") != "mutual_tls" {
        return Err("not over mutual TLS, as far as the label `connection_security_policy` says");
    }
    match label("response_code") {
        "" => return Err("there is no label `response_code`: keep it when you sum up"),
        "0" | "401" | "403" => return Err("refused, or not answered"),
        _ => {}
    }
    let name = label("source_principal");
    let principal = name.strip_prefix(SCHEME).unwrap_or(name);
    if !is_principal(principal) {
        return Err("of peers without a principal");
    }
    let workload = (label("destination_workload_namespace"), label("destination_app"));
    if workload.0.is_empty() || workload.1.is_empty() || workload.1 == "unknown" {
        return Err("to workloads without a label `app`");
    }
    Ok(((workload.0.to_owned(), workload.1.to_owned()), principal.to_owned()))
}
