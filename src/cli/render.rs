//! `mesh-authz render`: from policies to what runs them.

use std::io::Write as _;
use std::path::PathBuf;

use clap::ValueEnum;
use mesh_authz::config::{DEFAULT_NAMESPACE, DEFAULT_ROOT_NAMESPACE, DEFAULT_TRUST_DOMAIN};
use mesh_authz::diagnostic::Diagnostics;
use mesh_authz::engine::Combining;
use mesh_authz::identity::TrustDomains;
use mesh_authz::input::Resources;
use mesh_authz::policy::scope::{Scope, Workload};
use mesh_authz::policy::{self, Target, validate};
use mesh_authz::render;
use mesh_authz::render::rbac::{self, Traffic};
use mesh_authz::testfile::Mesh;

use super::{Answer, Failure};

/// What to render.
#[derive(Debug, clap::Subcommand)]
pub enum Arguments {
    /// The filter's plugin configuration, as JSON.
    #[command(after_help = "Example: mesh-authz render plugin-config policies/ --label app=backend")]
    PluginConfig(PluginConfig),
    /// The RBAC filters that Istio's control plane generates for Envoy from the same policies.
    ///
    /// CUSTOM policies are left out: their rendering depends on the mesh's extension providers.
    #[command(after_help = "Example: mesh-authz render envoy-rbac policies/ --label app=backend")]
    EnvoyRbac(EnvoyRbac),
}

/// Arguments of `mesh-authz render plugin-config`.
#[derive(Debug, clap::Args)]
pub struct PluginConfig {
    #[command(flatten)]
    scope: ScopeArguments,

    /// How matches become a decision.
    #[arg(long, value_enum, default_value = "deny-overrides")]
    combining: CombiningName,
}

/// Arguments of `mesh-authz render envoy-rbac`.
#[derive(Debug, clap::Args)]
pub struct EnvoyRbac {
    #[command(flatten)]
    scope: ScopeArguments,

    /// For TCP connections instead of HTTP requests.
    #[arg(long)]
    tcp: bool,

    /// The form of the output.
    #[arg(long, value_enum, default_value = "yaml")]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// YAML.
    Yaml,
    /// JSON.
    Json,
}

/// Which policies, and for which workload.
#[derive(Debug, clap::Args)]
struct ScopeArguments {
    /// Files or directories with policies, YAML or JSON; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// The workload's namespace.
    #[arg(long, default_value = DEFAULT_NAMESPACE, value_parser = namespace)]
    namespace: String,

    /// A label of the workload; may be repeated. Without any, Envoy's node metadata has to name them.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,

    /// The mesh's trust domain.
    #[arg(long, default_value = DEFAULT_TRUST_DOMAIN)]
    trust_domain: String,

    /// Another name of the trust domain; may be repeated.
    #[arg(long = "trust-domain-alias", value_name = "TRUST_DOMAIN")]
    aliases: Vec<String>,

    /// The namespace whose policies are for every workload.
    #[arg(long, default_value = DEFAULT_ROOT_NAMESPACE, value_parser = namespace)]
    root_namespace: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CombiningName {
    /// Istio's: a DENY that matches beats every ALLOW.
    DenyOverrides,
    /// An ALLOW that matches is an exception to every DENY.
    PermitOverrides,
}

pub fn run(arguments: &Arguments, out: &mut String) -> Result<Answer, Failure> {
    let (Arguments::PluginConfig(PluginConfig { scope, .. }) | Arguments::EnvoyRbac(EnvoyRbac { scope, .. })) =
        arguments;
    let resources = Resources::read(&scope.files).map_err(|error| error.to_string())?;
    if resources.has_errors() {
        let lines: Vec<_> = resources.findings.iter().map(ToString::to_string).collect();
        out.push_str(&lines.join("\n"));
        out.push('\n');
        return Ok(Answer::Bad);
    }
    for note in resources.findings.iter().map(ToString::to_string).chain(resources.skipped.iter().cloned()) {
        let _closed_pipe = writeln!(std::io::stderr(), "{note}");
    }
    if resources.policies.is_empty() {
        return Err("there is no AuthorizationPolicy in the input; without any, everything is allowed".to_owned());
    }
    *out = match arguments {
        Arguments::PluginConfig(arguments) => plugin_config(&resources, arguments)?,
        Arguments::EnvoyRbac(arguments) => envoy_rbac(&resources, arguments)?,
    };
    Ok(Answer::Good)
}

fn plugin_config(resources: &Resources, PluginConfig { scope, combining }: &PluginConfig) -> Result<String, Failure> {
    let mesh = Mesh {
        trust_domain: scope.trust_domain.clone(),
        aliases: scope.aliases.clone(),
        root_namespace: scope.root_namespace.clone(),
        combining: match combining {
            CombiningName::DenyOverrides => Combining::DenyOverrides,
            CombiningName::PermitOverrides => Combining::PermitOverrides,
        },
    };
    json(&render::plugin_config(resources, &scope.workload(), &mesh))
}

fn envoy_rbac(resources: &Resources, EnvoyRbac { scope, tcp, format }: &EnvoyRbac) -> Result<String, Failure> {
    let workload = scope.workload();
    let policies: Vec<_> = resources.policies.iter().map(|resource| &resource.policy).collect();
    if let Some(policy) = policies.iter().find(|policy| matches!(policy.target, Target::Labels(_)))
        && workload.labels.is_none()
    {
        return Err(format!("{} has a selector: give the workload's labels with --label", policy.name));
    }
    let applying: Vec<_> =
        policies.into_iter().filter(|p| policy::scope::scope(p, &workload) == Scope::Applies).collect();
    let trust_domains = TrustDomains::new(scope.trust_domain.clone(), scope.aliases.clone());
    let traffic = if *tcp { Traffic::Tcp } else { Traffic::Http };
    let filters = rbac::filters(&applying, &trust_domains, traffic);
    match format {
        Format::Yaml => serde_saphyr::to_string(&filters).map_err(|error| error.to_string()),
        Format::Json => json(&filters),
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| error.to_string())?;
    Ok(text + "\n")
}

impl ScopeArguments {
    fn workload(&self) -> Workload {
        Workload {
            namespace: self.namespace.clone(),
            labels: if self.labels.is_empty() { None } else { Some(self.labels.clone()) },
            gateway: None,
            root_namespace: self.root_namespace.clone(),
        }
    }
}

fn namespace(text: &str) -> Result<String, String> {
    let mut diagnostics = Diagnostics::new();
    validate::namespace_name(text, &mut diagnostics);
    match diagnostics.into_found().first() {
        None => Ok(text.to_owned()),
        Some(diagnostic) => Err(diagnostic.to_string()),
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
