//! `mesh-authz render envoy`: a bootstrap for a standalone Envoy.

use std::net::SocketAddr;
use std::path::PathBuf;

use mesh_authz::attribute::Subject;
use mesh_authz::diagnostic::{Diagnostic, Path, Segment};
use mesh_authz::policy::scope::{Scope, Workload, scope_of};

use super::shared::{Format, applying, warn};
use crate::command::options::{NoneAppliesOption, Setting, WarningOptions};
use crate::command::{Failure, not_applying, note};
use crate::lint::{self, LintContext, PathNormalization, Plaintexts};
use crate::load::finding::Finding;
use crate::load::request_authentication::{Keys, host_and_port};
use crate::load::{Authentication, LoadedPolicy, Resources};
use crate::render::envoy::{self, Settings, Tls};
use crate::render::{WorkloadSettings, jwt};

pub const EXAMPLE: &str = "Example: mesh-authz render envoy policies/ --namespace default --label app=backend \
                           --upstream localhost:8080 --wasm dist/mesh_authz.wasm --plaintext > envoy.yaml";

/// Arguments of `mesh-authz render envoy`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Files, directories or patterns with policies, in YAML or JSON; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    #[command(flatten)]
    setting: Setting,
    #[command(flatten)]
    none_applies: NoneAppliesOption,
    #[command(flatten)]
    warnings: WarningOptions,

    /// Address and port that Envoy listens on.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:15006", value_parser = socket)]
    listen: SocketAddr,

    /// Host and port of the application, to which Envoy forwards requests.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080", value_parser = upstream)]
    upstream: (String, u16),

    /// Address and port of Envoy's admin interface. Anyone who can reach it can stop Envoy.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:15000", value_parser = socket)]
    admin: SocketAddr,

    /// The filter's Wasm module.
    #[arg(long, value_name = "FILE", default_value = "mesh_authz.wasm")]
    wasm: String,

    /// Leave the filter and its policies to this file, .json or .yaml, which Envoy watches. `render ecds` writes the
    /// file. Give --wasm, --combining, --trust-domain and --trust-domain-alias to `render ecds`, not here.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["wasm", "combining", "trust_domain", "aliases"],
        value_parser = watched
    )]
    watch: Option<String>,

    /// Envoy's certificate chain, in PEM.
    #[arg(long, value_name = "FILE", default_value = "certs/backend.crt")]
    certificate: String,

    /// Private key of Envoy's certificate, in PEM.
    #[arg(long, value_name = "FILE", default_value = "certs/backend.key")]
    key: String,

    /// Certificate authority of the peers, in PEM. Every peer with a certificate from this authority may connect.
    #[arg(long, value_name = "FILE", default_value = "certs/ca.crt")]
    ca: String,

    /// Listen without TLS. Peers then need no certificate, and have no identity.
    #[arg(long, conflicts_with_all = ["certificate", "key", "ca"])]
    plaintext: bool,

    /// Certificate authorities for the servers that a jwksUri names, in PEM.
    #[arg(long, value_name = "FILE", default_value = "/etc/ssl/certs/ca-certificates.crt")]
    jwks_ca: String,

    /// Output format.
    #[arg(long, value_enum, default_value = "yaml")]
    format: Format,
}

fn socket(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| match text.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => format!(
            "write an IP address before the port: 127.0.0.1:{port} for this machine only, 0.0.0.0:{port} for every machine; an \
             IPv6 address stands in brackets"
        ),
        _ => "write ADDRESS:PORT, such as 127.0.0.1:15006".to_owned(),
    })
}

fn upstream(text: &str) -> Result<(String, u16), String> {
    match host_and_port(text) {
        Some((host, Some(port))) => Ok((host.to_owned(), port)),
        _ => Err("write HOST:PORT; an IPv6 address stands in brackets".to_owned()),
    }
}

/// Checks the name of a file that Envoy watches: its ending tells Envoy whether it is JSON or YAML.
pub fn watched(text: &str) -> Result<String, String> {
    match text.rsplit_once('.') {
        Some((_, "json" | "yaml" | "yml")) => Ok(text.to_owned()),
        _ => Err("Envoy tells JSON from YAML by the name's ending: .json or .yaml".to_owned()),
    }
}

pub fn render(resources: &Resources, arguments: &Arguments) -> Result<String, Failure> {
    let Arguments { setting, listen, upstream, admin, wasm, watch, format, .. } = arguments;
    // The bootstrap is for one workload, which it names, so policies that do not apply to this workload are left out.
    let mesh = setting.mesh();
    setting.workload.required_namespace()?;
    let scope = setting.workload.workload(&mesh)?;
    let applying = applying(resources, &scope, arguments.none_applies)?;
    let authentications = authentications(resources, &scope)?;
    say(&applying, arguments.plaintext);
    let context = LintContext {
        mesh: mesh.clone(),
        workload: scope.labels.clone().map(|labels| (scope.namespace.clone(), labels)),
        // The bootstrap configures Envoy to do this.
        path_normalization: PathNormalization::DecodeAndMergeSlashes,
        plaintext: if arguments.plaintext { Plaintexts::Accepted } else { Plaintexts::Refused },
    };
    let mut warnings = lint::lint(resources, &context);
    if arguments.plaintext {
        warnings.extend(lint::skipped_peer_authentications(resources));
    }
    let verifies = authentications.iter().any(|found| !found.authentication.rules.is_empty());
    // Without any in the input, the lint says so.
    if !verifies && !resources.request_authentications.is_empty() {
        warnings.extend(
            applying
                .iter()
                .filter(|found| looks_at(found, Subject::Token))
                .filter_map(|found| lint::no_verified_tokens(found)),
        );
    }
    warn(warnings, &arguments.warnings)?;

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
    let described = WorkloadSettings { gateway: setting.workload.gateway()?, ..WorkloadSettings::from(&scope) };
    let bootstrap = envoy::bootstrap(&applying, &described, &mesh, &settings).map_err(Failure::unusable)?;
    format.print(&bootstrap)
}

/// The `RequestAuthentications` that apply to the workload. Prints notes on standard error about the others, with the
/// reason.
fn authentications<'r>(resources: &'r Resources, workload: &Workload) -> Result<Vec<&'r Authentication>, Failure> {
    let (mut applying, mut elsewhere) = (Vec::new(), Vec::new());
    for found in &resources.request_authentications {
        let (name, target) = (&found.authentication.name, &found.authentication.target);
        if let Some(what) = workload.missing_labels(target) {
            return Err(Failure::NeedsLabels { kind: "RequestAuthentication", name: name.clone(), what });
        }
        match scope_of(found.authentication.reach(), workload) {
            Scope::Applies => applying.push(found),
            scope => elsewhere.push((name, scope)),
        }
    }
    for line in not_applying("RequestAuthentication", &elsewhere) {
        note(&line);
    }
    Ok(applying)
}

/// Prints notes on standard error about what may surprise the user.
fn say(policies: &[&LoadedPolicy], plaintext: bool) {
    if policies.is_empty() {
        note("no policy applies to this workload: it allows everything");
    }
    for found in policies.iter().filter(|found| plaintext && looks_at(found, Subject::Identity)) {
        let name = &found.policy.name;
        note(&format!("policy {name}: looks at the peer's identity, which no peer has without TLS"));
    }
}

/// Whether the policy looks at an attribute of this subject.
fn looks_at(resource: &LoadedPolicy, subject: Subject) -> bool {
    resource.policy.predicates().any(|predicate| predicate.attribute().info().subject == subject)
}

/// An error for each rule that does not say where its keys are.
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
