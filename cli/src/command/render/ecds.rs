//! `mesh-authz render ecds`: the file that an Envoy watches, so that policies change without a restart.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};

use mesh_authz::config::{Mesh, NodeMetadata, OnInvalid, PluginConfig};
use mesh_authz::policy::scope::{Scope, Workload, scope};
use mesh_authz::policy::{AuthorizationPolicy, Labels, Target, Traffic};
use mesh_authz::request::Lookup;
use serde_json::json;

use super::bootstrap::watched;
use super::custom::{Asking, Kept, WatchedFilter, in_watched_file};
use super::plugin::{PluginFor, PluginOptions};
use super::shared::{Format, say_scopes, warn};
use crate::command::options::{NoneAppliesOption, Setting, WarningOptions};
use crate::command::{Failure, note, replace};
use crate::lint::{self, Enforced, LintContext, PathNormalization, Plaintexts};
use crate::load::{LoadedPolicy, Resources};
use crate::render::{self, FilterSettings, envoy};

pub const EXAMPLE: &str = "Example:
  mesh-authz render ecds policies/ --namespace default \\
    --wasm dist/mesh_authz.wasm --output ecds/policies.json";

/// Arguments of `mesh-authz render ecds`.
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
    #[command(flatten)]
    plugin: PluginOptions,

    /// The filter's Wasm module. A relative path starts at the folder that Envoy was started in.
    #[arg(long, help_heading = "Envoy", value_name = "FILE", default_value = "mesh_authz.wasm")]
    wasm: String,

    /// Write to this file, .json or .yaml, in one step: a reader sees the old content or the new, never a part.
    #[arg(long, help_heading = "Envoy", value_name = "FILE", value_parser = watched)]
    output: Option<String>,

    /// Output format. With --output, the ending of the file's name decides instead.
    #[arg(long, help_heading = "Envoy", value_enum, default_value = "yaml", conflicts_with = "output")]
    format: Format,
}

pub fn render(resources: &Resources, arguments: &Arguments) -> Result<String, Failure> {
    let Arguments { setting, none_applies, plugin, wasm, output, warnings, format, .. } = arguments;
    let (workload, mesh) = (&setting.workload, setting.mesh());
    let namespace = workload.required_namespace()?;
    let labels = workload.labels()?;
    say_scopes(resources, &workload.workload(&mesh)?, *none_applies)?;
    let context = LintContext {
        mesh: mesh.clone(),
        workload: labels.clone().map(|labels| (namespace.clone(), labels)),
        // The bootstrap configures Envoy to do this.
        path_normalization: PathNormalization::DecodeAndMergeSlashes,
        plaintext: Plaintexts::Accepted,
        enforced: Enforced::ByThisFilter,
        ..LintContext::default()
    };
    let asking = asking(resources, &workload.workload(&mesh)?, &mesh)?;
    let mut found = lint::lint(resources, &context);
    found.retain(|finding| asking.agrees_with(finding));
    found.extend(asking.warnings.iter().cloned());
    found.extend(lint::skipped_request_authentications(resources));
    found.extend(lint::skipped_peer_authentications(resources));
    warn(found, warnings)?;

    let of_a_policy = labels_that_a_policy_selects(resources, &namespace, &mesh.root_namespace);
    let described = workload.settings()?;
    let allow_none_applies = none_applies.allow_none_applies;
    let plugin = plugin.read(PluginFor::WatchedFile, [described.gateway.as_ref()])?;
    let filter = FilterSettings {
        on_invalid: OnInvalid::Deny,
        allow_none_applies,
        custom: asking.custom,
        further: &plugin.fields,
        ..FilterSettings::default()
    };
    let config = render::plugin_config(resources, &described, &mesh, filter);
    // The filter reports this hash in its own statistics once it has loaded the configuration. Envoy's `version_text`
    // does not show that: it can be the version of a refused file.
    let version = hash(&config, of_a_policy)?.to_string();
    let document = envoy::watched(&config, wasm, &version).map_err(Failure::unusable)?;
    let discovered = |filter: &WatchedFilter| envoy::discovered(&filter.name, &filter.typed_config, &version);
    let Some(file) = output else {
        if !asking.in_files("").is_empty() {
            note(
                "the filters that ask the providers of CUSTOM policies are in files of their own: --output writes them",
            );
        }
        return format.print(&document);
    };
    let folder = Path::new(file).parent().filter(|folder| *folder != Path::new(""));
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(Failure::Unusable(format!("{file}: there is no folder {}", folder.display())));
    }
    let format = match Path::new(file).extension().and_then(OsStr::to_str) {
        Some("json") => Format::Json,
        _ => Format::Yaml,
    };
    let text = format.print(&document)?;
    require_module(wasm, file)?;
    // Two runs at once would leave some files of one, and some of the other.
    let folder = File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.lock().map(|()| folder));
    let _until_the_end =
        folder.map_err(|error| Failure::unusable(format!("{file}: its folder cannot be locked: {error}")))?;
    let before = workload_in(Path::new(file));
    let replace = |file: &str, text: &str| {
        replace::file(Path::new(file), text).map_err(|error| Failure::unusable(format!("{file}: {error}")))
    };
    // The filters that ask come first: until Envoy has all files, the filter that decides refuses what it does not find asked.
    for filter in asking.in_files(file) {
        if asks_elsewhere(&filter) {
            note(&format!(
                "{}: ATTENTION: before, it asked another address, or in another way: if Envoy's bootstrap has no cluster for that, \
                 it needs a new one",
                filter.file
            ));
        }
        replace(&filter.file, &format.print(&discovered(&filter))?)?;
        note(&format!("{}: written", filter.file));
    }
    for filter in asking.left_over(file) {
        replace(&filter.file, &format.print(&discovered(&filter))?)?;
        note(&format!("{}: nothing is asked any more, because the input does not have this provider", filter.file));
    }
    replace(file, &text)?;
    let which = which_apply(resources, &workload.workload(&mesh)?);
    note(&format!("{file}: written, policies: {}{which}, config.hash: {version}", resources.policies.len()));
    if let (Some(before), Some(now)) = (before, config.get("workload").map(|now| json!(now)))
        && before != now
    {
        note(&format!("{file}: ATTENTION: before, it was for another workload: {before}, and now {now}"));
    }
    Ok(String::new())
}

/// Whether the file exists, and its filter asks a cluster that is not that of the new one.
fn asks_elsewhere(filter: &WatchedFilter) -> bool {
    let service = |config: &serde_json::Value| {
        let named = |name: &str, at: &str| Some((name.to_owned(), config.get(name)?.pointer(at)?.clone()));
        named("http_service", "/server_uri/cluster").or_else(|| named("grpc_service", "/envoy_grpc/cluster_name"))
    };
    let before = in_watched_file(Path::new(&filter.file), "/resources/0/typed_config").as_ref().and_then(service);
    before.is_some_and(|before| service(&filter.typed_config) != Some(before))
}

/// Fails if the module is there and is none. The file can be for another machine, so a module that is not there only gets a note.
fn require_module(module: &str, file: &str) -> Result<(), Failure> {
    match std::fs::read(module) {
        Ok(bytes) if !bytes.starts_with(b"\0asm") => {
            Err(Failure::Unusable(format!("{module}: this is no Wasm module, so {file} is not written")))
        }
        Ok(_) => Ok(()),
        Err(error) => {
            note(&format!("{module}: {error}; Envoy must find the module there, or it refuses {file}"));
            Ok(())
        }
    }
}

/// Says how many of the policies apply, unless all do.
fn which_apply(resources: &Resources, workload: &Workload) -> String {
    let policies = || resources.policies.iter().map(|resource| &resource.policy);
    let near = [&workload.namespace, &workload.root_namespace];
    let is_unknown = |policy: &AuthorizationPolicy| {
        near.contains(&&policy.name.namespace) && workload.missing_labels(&policy.target).is_some()
    };
    if policies().any(is_unknown) {
        return " (without --label, nobody can tell which of them apply)".to_owned();
    }
    let applying = policies().filter(|policy| scope(policy, workload) == Scope::Applies).count();
    if applying == resources.policies.len() { String::new() } else { format!(" ({applying} of them apply)") }
}

/// The workload that the file names, if there is a file.
fn workload_in(file: &Path) -> Option<serde_json::Value> {
    in_watched_file(file, "/resources/0/typed_config/config/configuration/value/workload")
}

/// What asks the providers of the CUSTOM policies. Fails if nobody can tell whether one of them applies.
fn asking(resources: &Resources, workload: &Workload, mesh: &Mesh) -> Result<Asking, Failure> {
    let applies = |resource: &&LoadedPolicy| {
        let is_known = workload.missing_labels(&resource.policy.target).is_none();
        let found = scope(&resource.policy, workload);
        found == Scope::Applies || (!is_known && found == Scope::OtherLabels)
    };
    let policies: Vec<_> = resources.policies.iter().filter(applies).collect();
    // Envoy asks about all of them: unlike the filter that decides, it does not know the workload.
    for LoadedPolicy { policy, .. } in policies.iter().copied().filter(|resource| resource.policy.provider.is_some()) {
        if let Some(what) = workload.missing_labels(&policy.target) {
            return Err(Failure::NeedsLabels { kind: "CUSTOM policy", name: policy.name.clone(), what });
        }
    }
    Asking::of(resources, &policies, workload, mesh, Kept::InFiles, Traffic::Http)
}

/// Labels of a workload that a policy applies to.
fn labels_that_a_policy_selects(resources: &Resources, namespace: &str, root_namespace: &str) -> Labels {
    let mut policies = resources.policies.iter().map(|resource| &resource.policy);
    let reaches = |policy: &&AuthorizationPolicy| [namespace, root_namespace].contains(&policy.name.namespace.as_str());
    match policies.find(reaches).map(|policy| &policy.target) {
        Some(Target::Labels(labels)) => labels.clone(),
        _ => Labels::default(),
    }
}

/// The hash by which the filter identifies this configuration. Fails if the filter would refuse the configuration on a
/// workload that has these labels, if the configuration names none.
fn hash(config: &impl serde::Serialize, labels: Labels) -> Result<u64, Failure> {
    let node = NodeMetadata { labels: Lookup::Value(labels), ..NodeMetadata::default() };
    let config = serde_json::to_vec(config).map_err(Failure::unusable)?;
    PluginConfig::read(&config, &node).map(|config| config.hash).map_err(|refused| {
        let lines: Vec<_> = refused.iter().map(ToString::to_string).collect();
        Failure::Unusable(format!("the filter would refuse this: {}", lines.join("; ")))
    })
}
