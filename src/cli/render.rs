//! `mesh-authz render`: from policies to what runs them.

use std::path::PathBuf;

use clap::ValueEnum;
use mesh_authz::config::{DEFAULT_NAMESPACE, DEFAULT_ROOT_NAMESPACE, DEFAULT_TRUST_DOMAIN};
use mesh_authz::engine::Combining;
use mesh_authz::input::Resources;
use mesh_authz::policy::scope::Workload;
use mesh_authz::render;
use mesh_authz::testfile::Mesh;

use super::{Answer, Failure};

/// What to render.
#[derive(Debug, clap::Subcommand)]
pub enum Arguments {
    /// The filter's plugin configuration, as JSON.
    #[command(after_help = "Example: mesh-authz render plugin-config policies/ --label app=backend")]
    PluginConfig(PluginConfig),
}

/// Arguments of `mesh-authz render plugin-config`.
#[derive(Debug, clap::Args)]
pub struct PluginConfig {
    /// Files or directories with policies, YAML or JSON; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// The workload's namespace.
    #[arg(long, default_value = DEFAULT_NAMESPACE)]
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
    #[arg(long, default_value = DEFAULT_ROOT_NAMESPACE)]
    root_namespace: String,

    /// How matches become a decision.
    #[arg(long, value_enum, default_value = "deny-overrides")]
    combining: CombiningName,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CombiningName {
    /// Istio's: a DENY that matches beats every ALLOW.
    DenyOverrides,
    /// An ALLOW that matches is an exception to every DENY.
    PermitOverrides,
}

pub fn run(arguments: &Arguments, out: &mut String) -> Result<Answer, Failure> {
    let Arguments::PluginConfig(arguments) = arguments;
    let resources = Resources::read(&arguments.files).map_err(|error| error.to_string())?;
    if resources.has_errors() {
        let lines: Vec<_> = resources.findings.iter().map(ToString::to_string).collect();
        out.push_str(&lines.join("\n"));
        out.push('\n');
        return Ok(Answer::Bad);
    }
    let workload = Workload {
        namespace: arguments.namespace.clone(),
        labels: if arguments.labels.is_empty() { None } else { Some(arguments.labels.clone()) },
        gateway: None,
        root_namespace: arguments.root_namespace.clone(),
    };
    let mesh = Mesh {
        trust_domain: arguments.trust_domain.clone(),
        aliases: arguments.aliases.clone(),
        root_namespace: arguments.root_namespace.clone(),
        combining: match arguments.combining {
            CombiningName::DenyOverrides => Combining::DenyOverrides,
            CombiningName::PermitOverrides => Combining::PermitOverrides,
        },
    };
    let config = render::plugin_config(&resources, &workload, &mesh);
    *out = serde_json::to_string_pretty(&config).map_err(|error| error.to_string())?;
    out.push('\n');
    Ok(Answer::Good)
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
