//! `mesh-authz render envoy`: a bootstrap for a standalone Envoy.

use std::net::SocketAddr;
use std::path::PathBuf;

use mesh_authz::diagnostic::{Diagnostic, Path, Segment};
use mesh_authz::policy::Predicate;
use mesh_authz::policy::scope::{Scope, Workload, scope_of};

use super::shared::{Format, applying, say_custom};
use crate::command::options::Setting;
use crate::command::{Failure, note};
use crate::load::finding::Finding;
use crate::load::request_authentication::{Keys, host_and_port};
use crate::load::{Authentication, Resource, Resources};
use crate::render::envoy::{self, Settings, Tls};
use crate::render::{WorkloadSettings, jwt};

pub const EXAMPLE: &str = "Example: mesh-authz render envoy policies/ --label app=backend --upstream localhost:8080 \
                           --wasm dist/mesh_authz.wasm --plaintext > envoy.yaml";

/// Arguments of `mesh-authz render envoy`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Files, directories or patterns with policies, YAML or JSON; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    #[command(flatten)]
    setting: Setting,

    /// Where Envoy listens.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:15006")]
    listen: SocketAddr,

    /// The application.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080", value_parser = upstream)]
    upstream: (String, u16),

    /// Where Envoy is administered. Whoever reaches it can stop Envoy.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:15000")]
    admin: SocketAddr,

    /// The filter.
    #[arg(long, value_name = "FILE", default_value = "mesh_authz.wasm")]
    wasm: String,

    /// Leave the filter, the policies and what they mean to a file that Envoy watches, .json or .yaml: `render ecds` writes
    /// it, and takes the options for that.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["wasm", "combining", "trust_domain", "aliases"],
        value_parser = watched
    )]
    watch: Option<String>,

    /// Envoy's certificate chain, PEM.
    #[arg(long, value_name = "FILE", default_value = "certs/backend.crt")]
    certificate: String,

    /// Its private key, PEM.
    #[arg(long, value_name = "FILE", default_value = "certs/backend.key")]
    key: String,

    /// Whoever this authority certifies may connect, PEM.
    #[arg(long, value_name = "FILE", default_value = "certs/ca.crt")]
    ca: String,

    /// No TLS: peers need no certificate, and have no identity.
    #[arg(long, conflicts_with_all = ["certificate", "key", "ca"])]
    plaintext: bool,

    /// The authorities that may vouch for the servers of jwksUri, PEM.
    #[arg(long, value_name = "FILE", default_value = "/etc/ssl/certs/ca-certificates.crt")]
    jwks_ca: String,

    /// The form of the output.
    #[arg(long, value_enum, default_value = "yaml")]
    format: Format,
}

fn upstream(text: &str) -> Result<(String, u16), String> {
    match host_and_port(text) {
        Some((host, Some(port))) => Ok((host.to_owned(), port)),
        _ => Err("write HOST:PORT; an IPv6 address stands in brackets".to_owned()),
    }
}

/// A file that Envoy can read: it goes by the ending.
pub fn watched(text: &str) -> Result<String, String> {
    match text.rsplit_once('.') {
        Some((_, "json" | "yaml" | "yml")) => Ok(text.to_owned()),
        _ => Err("Envoy tells JSON from YAML by the name's ending: .json or .yaml".to_owned()),
    }
}

pub fn render(resources: &Resources, arguments: &Arguments) -> Result<String, Failure> {
    let Arguments { setting, listen, upstream, admin, wasm, watch, format, .. } = arguments;
    // Left out is what does not apply: the bootstrap is one workload's, and says so.
    let mesh = setting.mesh();
    let scope = setting.workload.workload(&mesh)?;
    let applying = applying(resources, &scope)?;
    let authentications = authentications(resources, &scope)?;
    say(&applying, &authentications, arguments.plaintext);

    let without_keys = without_keys(&authentications);
    if !without_keys.is_empty() {
        return Err(Failure::Invalid(without_keys));
    }
    let rules: Vec<_> = authentications.iter().flat_map(|found| &found.authentication.rules).collect();
    let (jwt_authn, clusters) = jwt::filter(&rules, scope.gateway.is_some(), &arguments.jwks_ca).unzip();
    let file = |name: &String| Some(name.clone());
    let Arguments { certificate, key, ca, .. } = arguments;
    let settings = Settings {
        listen: Some(*listen),
        upstream: Some(upstream.clone()),
        admin: Some(*admin),
        wasm: file(wasm),
        watch: watch.clone(),
        tls: if arguments.plaintext {
            Tls::Plaintext
        } else {
            Tls::Mutual { certificate: file(certificate), key: file(key), authority: file(ca) }
        },
        jwt_authn,
        clusters: clusters.unwrap_or_default(),
    };
    let described = WorkloadSettings { gateway: None, ..WorkloadSettings::from(&scope) };
    let bootstrap = envoy::bootstrap(&applying, &described, &mesh, &settings).map_err(Failure::unusable)?;
    format.print(&bootstrap)
}

/// Those that apply to the workload. Says on standard error which do not, and why.
fn authentications<'r>(resources: &'r Resources, workload: &Workload) -> Result<Vec<&'r Authentication>, Failure> {
    let mut applying = Vec::new();
    for found in &resources.request_authentications {
        let (name, target) = (&found.authentication.name, &found.authentication.target);
        if let Some(what) = workload.missing_labels(target) {
            return Err(Failure::NeedsLabels { kind: "RequestAuthentication", name: name.clone(), what });
        }
        match scope_of(&name.namespace, target, workload) {
            Scope::Applies => applying.push(found),
            scope => note(&format!("RequestAuthentication {name}: {scope}")),
        }
    }
    Ok(applying)
}

/// Says on standard error what may surprise.
fn say(policies: &[&Resource], authentications: &[&Authentication], plaintext: bool) {
    if policies.is_empty() {
        note("no policy applies to this workload: it allows everything");
    }
    let verifies = authentications.iter().any(|found| !found.authentication.rules.is_empty());
    for policy in policies.iter().map(|resource| &resource.policy) {
        let uses = |what: fn(&Predicate) -> bool| policy.predicates().any(what);
        if !verifies && uses(is_of_token) {
            note(&format!(
                "policy {}: looks at tokens, and no RequestAuthentication applies: no request has a verified one",
                policy.name
            ));
        }
        if plaintext && uses(is_of_peer) {
            note(&format!("policy {}: looks at the peer's identity, which no peer has without TLS", policy.name));
        }
        say_custom(policy);
    }
}

fn is_of_token(predicate: &Predicate) -> bool {
    matches!(predicate, Predicate::RequestPrincipal(_) | Predicate::Claim { .. })
}

fn is_of_peer(predicate: &Predicate) -> bool {
    matches!(
        predicate,
        Predicate::Principal(_) | Predicate::ServiceAccount(_) | Predicate::TrustDomain(_) | Predicate::Namespace(_)
    )
}

/// The rules that say not where their keys are.
fn without_keys(authentications: &[&Authentication]) -> Vec<Finding> {
    let field = |name: &str| Segment::Field(name.to_owned());
    let mut findings = Vec::new();
    for found in authentications {
        let rules = found.authentication.rules.iter().enumerate();
        for (index, _) in rules.filter(|(_, rule)| rule.keys == Keys::Discovered) {
            let diagnostic = Diagnostic {
                policy: Some(found.authentication.name.to_string()),
                path: Path(vec![field("spec"), field("jwtRules"), Segment::Index(index)]),
                message: "has neither jwks nor jwksUri: Istio would ask the issuer for its keys, by OpenID Connect \
                          discovery, and a standalone Envoy cannot"
                    .to_owned(),
                hint: Some(
                    "write jwksUri; the issuer's /.well-known/openid-configuration has it as jwks_uri".to_owned(),
                ),
                ..Diagnostic::default()
            };
            findings.push(Finding::error(&found.source, &found.node, diagnostic));
        }
    }
    findings
}
