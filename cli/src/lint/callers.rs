//! Callers that usually may do more than others: those who look after a mesh, and its gateways.

use mesh_authz::policy::{Predicate, ServiceAccount, Source};

/// Words in the identities of those who look after workloads.
const OPERATORS: [&str; 25] = [
    "admin",
    "admins",
    "argocd",
    "backup",
    "datadog",
    "devops",
    "flux",
    "grafana",
    "jaeger",
    "kiali",
    "kube",
    "logging",
    "metrics",
    "monitoring",
    "observability",
    "operations",
    "operator",
    "ops",
    "otel",
    "platform",
    "prom",
    "prometheus",
    "sre",
    "superadmin",
    "telemetry",
];

/// Whether a source is for those who look after workloads, such as monitoring.
pub(super) fn is_operator(source: &Source) -> bool {
    is_one_of(source, |identity| {
        identity.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| OPERATORS.contains(&word))
    })
}

/// Whether a source is for gateways, or for the control plane.
pub(super) fn is_gateway(source: &Source) -> bool {
    const PARTS: [&str; 5] = ["egress", "gateway", "ingress", "istio-system", "kube-system"];
    is_one_of(source, |identity| PARTS.iter().any(|part| identity.contains(part)))
}

/// Whether a source asks for identities, and only for such ones.
fn is_one_of(source: &Source, is_such: impl Fn(&str) -> bool) -> bool {
    source.0.iter().any(|field| {
        let values = match field {
            Predicate::Principal(values) | Predicate::Namespace(values) => &values.any,
            Predicate::ServiceAccount(values) => {
                let name = |account: &ServiceAccount| {
                    format!("{}/{}", account.namespace.as_deref().unwrap_or_default(), account.name)
                };
                return !values.any.is_empty() && values.any.iter().all(|account| is_such(&name(account)));
            }
            _ => return false,
        };
        !values.is_empty() && values.iter().all(|identity| is_such(identity))
    })
}
