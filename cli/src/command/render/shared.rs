//! Code that several subcommands of `render` share.

use clap::ValueEnum;
use mesh_authz::policy::scope::{Scope, Workload, scope};
use mesh_authz::policy::{Action, AuthorizationPolicy};

use crate::command::{Failure, json, note};
use crate::load::{LoadedPolicy, Resources};

/// The policies that apply to the workload. Prints a note on standard error for each other policy, with the
/// reason.
pub fn applying<'r>(resources: &'r Resources, workload: &Workload) -> Result<Vec<&'r LoadedPolicy>, Failure> {
    let mut applying = Vec::new();
    for resource in &resources.policies {
        let policy = &resource.policy;
        if let Some(what) = workload.missing_labels(&policy.target) {
            return Err(Failure::NeedsLabels { kind: "policy", name: policy.name.clone(), what });
        }
        match scope(policy, workload) {
            Scope::Applies => applying.push(resource),
            scope => note(&format!("policy {}: {scope}", policy.name)),
        }
    }
    Ok(applying)
}

/// An output format.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    Yaml,
    Json,
}

impl Format {
    pub fn print(self, value: &impl serde::Serialize) -> Result<String, Failure> {
        match self {
            Self::Yaml => serde_saphyr::to_string(value).map_err(Failure::unusable),
            Self::Json => json(value),
        }
    }
}

/// Prints a note on standard error if the policy is a CUSTOM policy: a request that it matches is refused.
pub fn say_custom(policy: &AuthorizationPolicy) {
    if policy.action == Action::Custom {
        note(&format!("policy {}: its provider cannot be asked yet; what it matches is refused", policy.name));
    }
}
