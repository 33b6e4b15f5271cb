//! Code that several subcommands of `render` share.

use clap::ValueEnum;
use mesh_authz::policy::AuthorizationPolicy;
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
    require_one_that_may_apply(resources, workload, none_applies)?;
    Ok(applying)
}

/// Prints notes on standard error about the policies that do not apply to the workload, with the reason. If the labels
/// of the workload are unknown, only fails if no policy can apply.
pub fn say_scopes(resources: &Resources, workload: &Workload, none_applies: NoneAppliesOption) -> Result<(), Failure> {
    match workload.labels {
        Some(_) => applying(resources, workload, none_applies).map(|_| ()),
        None => require_one_that_may_apply(resources, workload, none_applies),
    }
}

/// Fails if there are policies, and none of them can apply to the workload. If the labels of the workload are unknown,
/// a policy with a selector can apply.
fn require_one_that_may_apply(
    resources: &Resources,
    workload: &Workload,
    none_applies: NoneAppliesOption,
) -> Result<(), Failure> {
    let may_apply = |policy: &AuthorizationPolicy| {
        let is_near = [&workload.namespace, &workload.root_namespace].contains(&&policy.name.namespace);
        (is_near && workload.missing_labels(&policy.target).is_some()) || scope(policy, workload) == Scope::Applies
    };
    let mut policies = resources.policies.iter().map(|resource| &resource.policy);
    let Some(first) = policies.clone().next() else { return Ok(()) };
    if none_applies.allow_none_applies || policies.any(may_apply) {
        return Ok(());
    }
    let (name, why, namespace) = (&first.name, scope(first, workload), &workload.namespace);
    Err(Failure::Unusable(format!(
        "nothing is protected: no policy applies to this workload in namespace {namespace}; for example, policy {name} {why}; \
         correct the workload or the policies, or give --allow-none-applies if no policy has to apply"
    )))
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
