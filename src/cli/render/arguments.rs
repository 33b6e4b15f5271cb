//! Arguments that several kinds of rendering take, and what they share.

use std::collections::HashSet;
use std::io::Write as _;
use std::path::PathBuf;

use clap::ValueEnum;
use mesh_authz::config::{self, COMBINING, DEFAULT_ROOT_NAMESPACE, DEFAULT_TRUST_DOMAIN, Mesh};
use mesh_authz::diagnostic::Diagnostics;
use mesh_authz::document::{Node, Value};
use mesh_authz::input::{Resource, Resources};
use mesh_authz::policy::scope::{Scope, Workload, scope};
use mesh_authz::policy::{Action, AuthorizationPolicy, DEFAULT_NAMESPACE};

use super::Stop;
use crate::cli::Failure;

/// The policies.
#[derive(Debug, clap::Args)]
pub struct Files {
    /// Files or directories with policies, YAML or JSON; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Files {
    /// What they hold; nothing of it is wrong. Says on standard error what is skipped.
    pub fn read(&self) -> Result<Resources, Stop> {
        let resources = Resources::read(&self.files).map_err(|error| error.to_string())?;
        if resources.has_errors() {
            return Err(Stop::Findings(resources.findings));
        }
        for other in &resources.others {
            note(&format!("{other}: skipped"));
        }
        if resources.policies.is_empty() {
            let failure = "there is no AuthorizationPolicy in the input; without any, everything is allowed";
            return Err(Stop::Failure(failure.to_owned()));
        }
        Ok(resources)
    }
}

/// What is the same for all workloads.
#[derive(Debug, clap::Args)]
pub struct MeshArguments {
    /// The mesh's trust domain.
    #[arg(long, default_value = DEFAULT_TRUST_DOMAIN, value_parser = trust_domain)]
    pub trust_domain: String,

    /// Another name of the trust domain; may be repeated.
    #[arg(long = "trust-domain-alias", value_name = "TRUST_DOMAIN", value_parser = trust_domain)]
    pub aliases: Vec<String>,

    /// The namespace whose policies are for every workload.
    #[arg(long, default_value = DEFAULT_ROOT_NAMESPACE, value_parser = namespace)]
    pub root_namespace: String,
}

impl MeshArguments {
    pub fn to_mesh(&self, combining: &str) -> Mesh {
        Mesh {
            trust_domain: self.trust_domain.clone(),
            aliases: self.aliases.clone(),
            root_namespace: self.root_namespace.clone(),
            combining: COMBINING.iter().find(|(name, _)| *name == combining).map(|(_, c)| *c).unwrap_or_default(),
        }
    }
}

/// For which workload.
#[derive(Debug, clap::Args)]
pub struct WorkloadArguments {
    /// The workload's namespace. In a plugin configuration, Envoy's node metadata names it otherwise; elsewhere it is
    /// `default`.
    #[arg(long, value_parser = namespace)]
    pub namespace: Option<String>,

    /// A label of the workload; may be repeated. In a plugin configuration, Envoy's node metadata names them otherwise.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
}

impl WorkloadArguments {
    /// The labels, if there are any. A key that stands there twice is an error, as it is to the filter.
    pub fn labels(&self) -> Result<Option<Vec<(String, String)>>, Failure> {
        let mut seen = HashSet::new();
        match self.labels.iter().map(|(key, _)| key.as_str()).find(|key| !seen.insert(*key)) {
            Some(twin) => Err(format!("the label {twin} is given twice")),
            None if self.labels.is_empty() => Ok(None),
            None => Ok(Some(self.labels.clone())),
        }
    }

    pub fn workload(&self, root_namespace: &str) -> Result<Workload, Failure> {
        let mut diagnostics = Diagnostics::new();
        let namespace = self.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
        let workload = Workload::new(namespace, self.labels()?, None, root_namespace.to_owned(), &mut diagnostics);
        match diagnostics.into_found().first() {
            Some(error) => Err(error.to_string()),
            None => Ok(workload),
        }
    }

    /// The policies that apply to the workload. Says on standard error which do not, and why.
    pub fn applying<'r>(&self, resources: &'r Resources, root_namespace: &str) -> Result<Vec<&'r Resource>, Failure> {
        let workload = self.workload(root_namespace)?;
        let mut applying = Vec::new();
        for resource in &resources.policies {
            let policy = &resource.policy;
            if let Some(what) = workload.lacks_labels_for(policy) {
                return Err(format!("policy {} has {what}: give the workload's labels with --label", policy.name));
            }
            match scope(policy, &workload) {
                Scope::Applies => applying.push(resource),
                scope => note(&format!("policy {}: {scope}", policy.name)),
            }
        }
        Ok(applying)
    }
}

/// The combining algorithm, as an argument.
pub mod combining {
    use clap::builder::PossibleValuesParser;
    use mesh_authz::config::COMBINING;

    /// Istio's.
    pub const DEFAULT: &str = COMBINING[0].0;

    pub fn parser() -> PossibleValuesParser {
        PossibleValuesParser::new(COMBINING.map(|(name, _)| name))
    }
}

/// The form of the output.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    /// YAML.
    Yaml,
    /// JSON.
    Json,
}

impl Format {
    pub fn print(self, value: &impl serde::Serialize) -> Result<String, Failure> {
        match self {
            Self::Yaml => serde_saphyr::to_string(value).map_err(|error| error.to_string()),
            Self::Json => {
                let text = serde_json::to_string_pretty(value).map_err(|error| error.to_string())?;
                Ok(text + "\n")
            }
        }
    }
}

/// Says something that is no part of the output.
pub fn note(text: &str) {
    let _closed_pipe = writeln!(std::io::stderr(), "{text}");
}

/// Says on standard error what becomes of a CUSTOM policy.
pub fn say_custom(policy: &AuthorizationPolicy) {
    if policy.action == Action::Custom {
        note(&format!("policy {}: its provider cannot be asked yet; what it matches is refused", policy.name));
    }
}

pub fn namespace(text: &str) -> Result<String, String> {
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

pub fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
