//! What is usually open to everybody: health checks, metrics, login pages.

use mesh_authz::policy::{AllOf, PathValue, Predicate, Rule, Values};

/// Words of paths that are usually open to everybody.
const WORDS: [&str; 39] = [
    "alive",
    "assets",
    "callback",
    "css",
    "favicon",
    "health",
    "healthcheck",
    "healthz",
    "img",
    "jwks",
    "live",
    "liveness",
    "livez",
    "login",
    "logout",
    "metrics",
    "oauth",
    "oauth2",
    "openapi",
    "ping",
    "probe",
    "prometheus",
    "public",
    "readiness",
    "ready",
    "readyz",
    "register",
    "robots",
    "signin",
    "signup",
    "startup",
    "startupz",
    "static",
    "status",
    "swagger",
    "version",
    "webhook",
    "webhooks",
    "well-known",
];

/// Ports of Istio's agent: metrics and health checks.
const PORTS: [u16; 3] = [15020, 15021, 15090];

/// Whether a rule only allows what is usually open to everybody.
pub(super) fn is_public(rule: &Rule) -> bool {
    let by_caller = rule.when.0.iter().any(|predicate| match predicate {
        Predicate::Header { name, values } => name.eq_ignore_ascii_case("user-agent") || is_absent(values),
        _ => false,
    });
    by_caller || rule.to.as_ref().is_some_and(|to| to.0.iter().all(is_public_operation))
}

/// Whether the header must be absent. Such a rule is for requests that do not say who they are.
fn is_absent(values: &Values<String>) -> bool {
    values.any.is_empty() && values.none.iter().any(|value| value == "*")
}

fn is_public_operation(operation: &AllOf<Predicate>) -> bool {
    operation.0.iter().any(|predicate| match predicate {
        // One health check among the paths says that the list is for everybody.
        Predicate::Path(values) => values.any.iter().any(is_public_path),
        Predicate::Method(values) => !values.any.is_empty() && values.any.iter().all(|method| method == "OPTIONS"),
        Predicate::DestinationPort(values) => {
            !values.any.is_empty() && values.any.iter().all(|port| PORTS.contains(port))
        }
        _ => false,
    })
}

fn is_public_path(path: &PathValue) -> bool {
    let (PathValue::Text(path) | PathValue::Template(path)) = path;
    let path = path.to_ascii_lowercase();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-';
    path == "/" || path.split(|c| !is_word(c)).any(|word| WORDS.contains(&word))
}
