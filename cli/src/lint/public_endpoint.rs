//! What is usually open to everybody: health checks, metrics, login pages.

use mesh_authz::policy::{AllOf, PathValue, Predicate, Rule, Values};

/// Words of paths that are usually open to everybody.
const WORDS: [&str; 58] = [
    "alive",
    "assets",
    "auth",
    "authorize",
    "callback",
    "callbacks",
    "certs",
    "convert",
    "css",
    "discovery",
    "docs",
    "favicon",
    "fonts",
    "health",
    "healthcheck",
    "healthz",
    "heartbeat",
    "images",
    "img",
    "jwks",
    "js",
    "live",
    "liveness",
    "livez",
    "login",
    "logout",
    "metrics",
    "mutate",
    "oauth",
    "oauth2",
    "oidc",
    "openapi",
    "ping",
    "probe",
    "prometheus",
    "public",
    "readiness",
    "ready",
    "readyz",
    "register",
    "reset-password",
    "robots",
    "saml",
    "signin",
    "signup",
    "sitemap",
    "sso",
    "startup",
    "startupz",
    "static",
    "status",
    "swagger",
    "token",
    "validate",
    "version",
    "webhook",
    "webhooks",
    "well-known",
];

/// First labels of hosts that are usually open to everybody.
const HOSTS: [&str; 9] = ["assets", "blog", "cdn", "docs", "help", "public", "static", "status", "www"];

/// Words of paths and hosts that are hardly open to everybody.
const PRIVATE: [&str; 24] = [
    "actuator",
    "admin",
    "administration",
    "argocd",
    "backoffice",
    "console",
    "dashboard",
    "debug",
    "grafana",
    "internal",
    "intranet",
    "jenkins",
    "kiali",
    "kibana",
    "manage",
    "management",
    "manager",
    "ops",
    "private",
    "secret",
    "secrets",
    "secure",
    "staging",
    "vault",
];

/// Ports of metrics, health checks and admission webhooks.
const PORTS: [u16; 13] = [9090, 9091, 9100, 9102, 9113, 9121, 9187, 9404, 9443, 9464, 15020, 15021, 15090];

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
        Predicate::Host(values) => {
            let is_public = |host: &String| HOSTS.iter().any(|label| host.split('.').next() == Some(label));
            !values.any.is_empty() && values.any.iter().all(is_public)
        }
        _ => false,
    })
}

/// Whether a path is that of a health check.
pub(super) fn is_health_check(path: &str) -> bool {
    const HEALTH: [&str; 15] = [
        "alive",
        "health",
        "healthcheck",
        "healthz",
        "heartbeat",
        "live",
        "liveness",
        "livez",
        "ping",
        "probe",
        "readiness",
        "ready",
        "readyz",
        "startup",
        "startupz",
    ];
    has_word(&path.to_ascii_lowercase(), &HEALTH)
}

fn is_public_path(path: &PathValue) -> bool {
    let path = text(path);
    path == "/" || has_word(&path, &WORDS)
}

/// Whether a rule names something in a path or a host that is hardly meant for everybody, such as `/admin`.
pub(super) fn is_private(rule: &Rule) -> bool {
    let operations = rule.to.iter().flat_map(|to| &to.0);
    operations.flat_map(|operation| &operation.0).any(|predicate| match predicate {
        Predicate::Path(values) => values.any.iter().any(|path| has_private_word(&text(path))),
        Predicate::Host(values) => values.any.iter().any(|host| has_private_word(&host.to_ascii_lowercase())),
        _ => false,
    })
}

fn has_private_word(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| PRIVATE.contains(&word))
}

fn text(path: &PathValue) -> String {
    let (PathValue::Text(path) | PathValue::Template(path)) = path;
    path.to_ascii_lowercase()
}

fn has_word(text: &str, words: &[&str]) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').any(|word| words.contains(&word))
}
