//! `mesh-authz render`: from policies to what runs them.

use std::collections::HashSet;
use std::io::Write as _;
use std::path::PathBuf;

use clap::ValueEnum;
use clap::builder::PossibleValuesParser;
use mesh_authz::config::{self, COMBINING, DEFAULT_ROOT_NAMESPACE, DEFAULT_TRUST_DOMAIN, Mesh};
use mesh_authz::diagnostic::Diagnostics;
use mesh_authz::document::{Node, Value};
use mesh_authz::identity::TrustDomains;
use mesh_authz::input::Resources;
use mesh_authz::policy::scope::{Scope, Workload};
use mesh_authz::policy::{self, AuthorizationPolicy, DEFAULT_NAMESPACE};
use mesh_authz::render::rbac::{self, Traffic};
use mesh_authz::render::{self, Described};

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
    #[arg(long, default_value = COMBINING[0].0, value_parser = PossibleValuesParser::new(COMBINING.map(|(name, _)| name)))]
    combining: String,
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

    /// The workload's namespace. In a plugin configuration, Envoy's node metadata names it otherwise; elsewhere it is
    /// `default`.
    #[arg(long, value_parser = namespace)]
    namespace: Option<String>,

    /// A label of the workload; may be repeated. In a plugin configuration, Envoy's node metadata names them otherwise.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,

    /// The mesh's trust domain.
    #[arg(long, default_value = DEFAULT_TRUST_DOMAIN, value_parser = trust_domain)]
    trust_domain: String,

    /// Another name of the trust domain; may be repeated.
    #[arg(long = "trust-domain-alias", value_name = "TRUST_DOMAIN", value_parser = trust_domain)]
    aliases: Vec<String>,

    /// The namespace whose policies are for every workload.
    #[arg(long, default_value = DEFAULT_ROOT_NAMESPACE, value_parser = namespace)]
    root_namespace: String,
}

pub fn run(arguments: &Arguments, out: &mut String) -> Result<Answer, Failure> {
    let (Arguments::PluginConfig(PluginConfig { scope, .. }) | Arguments::EnvoyRbac(EnvoyRbac { scope, .. })) =
        arguments;
    if let Some(key) = scope.twin_label() {
        return Err(format!("the label {key} is given twice"));
    }
    let resources = Resources::read(&scope.files).map_err(|error| error.to_string())?;
    if resources.has_errors() {
        let lines: Vec<_> = resources.findings.iter().map(ToString::to_string).collect();
        out.push_str(&lines.join("\n"));
        out.push('\n');
        return Ok(Answer::Bad);
    }
    for other in &resources.others {
        note(&format!("{other}: skipped"));
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
        combining: COMBINING.iter().find(|(name, _)| name == combining).map(|(_, c)| *c).unwrap_or_default(),
    };
    if scope.namespace.is_some() && !scope.labels.is_empty() {
        scope.applying(resources)?;
    }
    let described = Described { namespace: scope.namespace.clone(), labels: scope.labels(), gateway: None };
    json(&render::plugin_config(resources, &described, &mesh))
}

fn envoy_rbac(resources: &Resources, EnvoyRbac { scope, tcp, format }: &EnvoyRbac) -> Result<String, Failure> {
    let trust_domains = TrustDomains::new(scope.trust_domain.clone(), scope.aliases.clone());
    let traffic = if *tcp { Traffic::Tcp } else { Traffic::Http };
    let filters = rbac::filters(&scope.applying(resources)?, &trust_domains, traffic);
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
    /// A label's key that stands there twice; the filter would refuse the configuration.
    fn twin_label(&self) -> Option<&str> {
        let mut seen = HashSet::new();
        self.labels.iter().map(|(key, _)| key.as_str()).find(|key| !seen.insert(*key))
    }

    fn labels(&self) -> Option<Vec<(String, String)>> {
        if self.labels.is_empty() { None } else { Some(self.labels.clone()) }
    }

    /// The policies that apply to the workload. Says on standard error which do not, and why.
    fn applying<'r>(&self, resources: &'r Resources) -> Result<Vec<&'r AuthorizationPolicy>, Failure> {
        let mut diagnostics = Diagnostics::new();
        let namespace = self.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
        let workload = Workload::new(namespace, self.labels(), None, self.root_namespace.clone(), &mut diagnostics);
        if let Some(error) = diagnostics.into_found().first() {
            return Err(error.to_string());
        }
        let mut applying = Vec::new();
        for policy in resources.policies.iter().map(|resource| &resource.policy) {
            if let Some(what) = workload.lacks_labels_for(policy) {
                return Err(format!("policy {} has {what}: give the workload's labels with --label", policy.name));
            }
            match policy::scope::scope(policy, &workload) {
                Scope::Applies => applying.push(policy),
                scope => note(&format!("policy {}: {scope}", policy.name)),
            }
        }
        Ok(applying)
    }
}

/// Says something that is no part of the output.
fn note(text: &str) {
    let _closed_pipe = writeln!(std::io::stderr(), "{text}");
}

fn namespace(text: &str) -> Result<String, String> {
    read(text, config::namespace)
}

fn trust_domain(text: &str) -> Result<String, String> {
    read(text, config::trust_domain)
}

/// Reads an argument as a plugin configuration's field of the same name is read.
fn read(text: &str, read: fn(&Node, &mut Diagnostics) -> Option<String>) -> Result<String, String> {
    let mut diagnostics = Diagnostics::new();
    let value = read(&Value::String(text.to_owned()).into(), &mut diagnostics);
    match (value, diagnostics.into_found().first()) {
        (Some(value), None) => Ok(value),
        (_, error) => Err(error.map(ToString::to_string).unwrap_or_default()),
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
