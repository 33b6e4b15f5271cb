//! Code that several subcommands of `render` share.

use clap::ValueEnum;
use mesh_authz::policy::scope::{Scope, Workload, scope};

use crate::command::options::{NoneAppliesOption, WarningOptions};
use crate::command::{Failure, complain, json, not_applying, note};
use crate::load::finding::Finding;
use crate::load::{LoadedPolicy, Resources};
use crate::render::yaml;

/// The policies that apply to the workload. Prints notes on standard error about the others, with the reason.
pub fn applying<'r>(
    resources: &'r Resources,
    workload: &Workload,
    none_applies: NoneAppliesOption,
) -> Result<Vec<&'r LoadedPolicy>, Failure> {
    let (mut applying, mut elsewhere) = (Vec::new(), Vec::new());
    for resource in &resources.policies {
        let policy = &resource.policy;
        if let Some(what) = workload.missing_labels(&policy.target) {
            return Err(Failure::NeedsLabels { kind: "policy", name: policy.name.clone(), what });
        }
        match scope(policy, workload) {
            Scope::Applies => applying.push(resource),
            scope => elsewhere.push((&policy.name, scope)),
        }
    }
    for line in not_applying("policy", &elsewhere) {
        note(&line);
    }
    none_applies.require_one_that_may_apply(resources, workload)?;
    Ok(applying)
}

/// Prints notes on standard error about the policies that do not apply to the workload, with the reason. If the labels
/// of the workload are unknown, only fails if no policy can apply.
pub fn say_scopes(resources: &Resources, workload: &Workload, none_applies: NoneAppliesOption) -> Result<(), Failure> {
    match workload.labels {
        Some(_) => applying(resources, workload, none_applies).map(|_| ()),
        None => none_applies.require_one_that_may_apply(resources, workload),
    }
}

/// Prints warnings on standard error. Fails if warnings are errors, and there is one.
pub fn warn(mut warnings: Vec<Finding>, options: &WarningOptions) -> Result<(), Failure> {
    options.select(&mut warnings);
    if options.deny_warnings && !warnings.is_empty() {
        return Err(Failure::Invalid(warnings));
    }
    complain(&warnings);
    Ok(())
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
            Self::Yaml => yaml::to_string(value).map_err(Failure::unusable),
            Self::Json => json(value),
        }
    }
}
