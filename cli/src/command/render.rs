//! `mesh-authz render`: turns policies into the configurations and resources that enforce them.

mod beside;
mod bootstrap;
mod custom;
mod decides_http;
mod ecds;
mod filters;
mod listeners;
mod plugin;
mod ports;
mod resources;
mod shared;
mod standalone;
mod tls;
mod waypoints;

use std::path::PathBuf;

use mesh_authz::config::PrincipalFrom;
use mesh_authz::policy::Traffic;

use self::plugin::{PluginFor, PluginOptions};
use self::shared::{Format, applying, say_scopes, warn};
use super::options::{
    MeshOptions, NoneAppliesOption, PathNormalizationOption, Setting, WarningOptions, WorkloadOptions,
};
use super::{Answer, Failure, note};
use crate::lint::{self, LintContext, Plaintexts};
use crate::load::finding::Finding;
use crate::load::providers::Providers;
use crate::load::{Other, Resources};
use crate::render::kubernetes::ExtensionKind;
use crate::render::rbac;
use crate::render::rbac::custom::Several;
use crate::render::{self, FilterSettings};

/// The subcommands of `mesh-authz render`, one for each kind of output.
#[derive(Debug, clap::Subcommand)]
pub enum Arguments {
    /// Print the filter's plugin configuration, as JSON.
    ///
    /// A namespace or labels that are not given are left out. The filter then takes them from Envoy's node metadata.
    #[command(after_help = "Example:\n  mesh-authz render plugin-config policies/ --label app=backend")]
    PluginConfig(PluginConfig),
    /// Print the RBAC filters that Istio's control plane generates for Envoy from the same policies.
    ///
    /// For CUSTOM policies, these are the filters that ask the provider. The providers come from a mesh configuration in the
    /// input; without its provider, a CUSTOM policy denies what it matches.
    #[command(after_help = "Example:\n  mesh-authz render envoy-rbac policies/ --label app=backend")]
    EnvoyRbac(EnvoyRbac),
    /// Print a complete bootstrap for a standalone Envoy that enforces the policies.
    ///
    /// The bootstrap is the project's envoy/backend.yaml with the workload, the addresses and the files given here. If
    /// `RequestAuthentications` apply to the workload, it also has a filter that verifies tokens, as in Istio.
    #[command(after_help = bootstrap::EXAMPLE)]
    Envoy(bootstrap::Arguments),
    /// Print HTTP filters that enforce the policies, for an Envoy that you have already.
    ///
    /// Paste them into its configuration, in this order, before the router. Comments say what else it needs.
    #[command(after_help = filters::EXAMPLE)]
    Filters(filters::Arguments),
    /// Print or write the filter with its policies, as a file that a running Envoy watches.
    ///
    /// `render envoy --watch FILE` makes the bootstrap for it. A change of the file takes effect without a restart,
    /// from one request to the next. Nothing is written unless the policies are valid.
    #[command(after_help = ecds::EXAMPLE)]
    Ecds(ecds::Arguments),
    /// Print the policies, Istio `WasmPlugins` that load the filter, and the `EnvoyFilters` that help it.
    ///
    /// Istio enforces the policies too, beside the filter: on TCP, and while the filter is not there. Each `WasmPlugin`
    /// carries every policy that can apply where it is loaded, except CUSTOM policies. So each of them makes the decision of
    /// all policies together, even if several are loaded on one workload.
    #[command(after_help = resources::WASM_PLUGIN_EXAMPLE)]
    WasmPlugin(resources::Arguments),
    /// Like wasm-plugin, but with `TrafficExtensions`, which newer versions of Istio have instead of `WasmPlugins`.
    #[command(after_help = resources::TRAFFIC_EXTENSION_EXAMPLE)]
    TrafficExtension(resources::Arguments),
}

/// Arguments of `mesh-authz render plugin-config`.
#[derive(Debug, clap::Args)]
pub struct PluginConfig {
    /// Files, directories or patterns with policies, in YAML or JSON; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    #[command(flatten)]
    setting: Setting,
    #[command(flatten)]
    none_applies: NoneAppliesOption,
    #[command(flatten)]
    warnings: WarningOptions,
    #[command(flatten)]
    path_normalization: PathNormalizationOption,
    #[command(flatten)]
    plugin: PluginOptions,
}

/// Arguments of `mesh-authz render envoy-rbac`.
#[derive(Debug, clap::Args)]
pub struct EnvoyRbac {
    /// Files, directories or patterns with policies, in YAML or JSON; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    #[command(flatten)]
    workload: WorkloadOptions,
    #[command(flatten)]
    mesh: MeshOptions,
    #[command(flatten)]
    none_applies: NoneAppliesOption,
    #[command(flatten)]
    warnings: WarningOptions,
    #[command(flatten)]
    path_normalization: PathNormalizationOption,

    /// Render for TCP connections instead of HTTP requests.
    #[arg(long)]
    tcp: bool,

    /// Output format.
    #[arg(long, value_enum, default_value = "yaml")]
    format: Format,
}

pub fn run(arguments: &Arguments, out: &mut String) -> Result<Answer, Failure> {
    let files = match arguments {
        Arguments::PluginConfig(PluginConfig { files, .. }) | Arguments::EnvoyRbac(EnvoyRbac { files, .. }) => files,
        Arguments::Envoy(arguments) => &arguments.files,
        Arguments::Filters(arguments) => &arguments.files,
        Arguments::Ecds(arguments) => &arguments.files,
        Arguments::WasmPlugin(arguments) | Arguments::TrafficExtension(arguments) => &arguments.files,
    };
    let resources = super::valid_resources(files, Other::is_test_file)?;
    *out = match arguments {
        Arguments::PluginConfig(arguments) => plugin_config(&resources, arguments)?,
        Arguments::EnvoyRbac(arguments) => envoy_rbac(&resources, arguments)?,
        Arguments::Envoy(arguments) => bootstrap::render(&resources, arguments)?,
        Arguments::Filters(arguments) => filters::render(&resources, arguments)?,
        Arguments::Ecds(arguments) => ecds::render(&resources, arguments)?,
        Arguments::WasmPlugin(arguments) => resources::render(&resources, ExtensionKind::WasmPlugin, arguments)?,
        Arguments::TrafficExtension(arguments) => {
            resources::render(&resources, ExtensionKind::TrafficExtension, arguments)?
        }
    };
    Ok(Answer::Good)
}

/// What lints find, and what the output leaves out.
fn warnings_of(resources: &Resources, context: &LintContext) -> Vec<Finding> {
    let mut found = lint::lint(resources, context);
    found.extend(lint::skipped_request_authentications(resources));
    found.extend(lint::skipped_peer_authentications(resources));
    found
}

fn plugin_config(resources: &Resources, arguments: &PluginConfig) -> Result<String, Failure> {
    let (workload, mesh) = (&arguments.setting.workload, arguments.setting.mesh());
    let labels = workload.labels()?;
    let none_applies = arguments.none_applies;
    if workload.namespace.is_some() {
        say_scopes(resources, &workload.workload(&mesh)?, none_applies)?;
    }
    let context = LintContext {
        mesh: mesh.clone(),
        workload: workload.namespace.clone().zip(labels.clone()),
        path_normalization: arguments.path_normalization.with(resources),
        plaintext: Plaintexts::Accepted,
        ..LintContext::default()
    };
    warn(warnings_of(resources, &context), &arguments.warnings)?;
    let described = workload.settings()?;
    let plugin = arguments.plugin.read(PluginFor::Workload, [described.gateway.as_ref()])?;
    let allow_none_applies = none_applies.allow_none_applies;
    let filter = FilterSettings { allow_none_applies, further: &plugin.fields, ..FilterSettings::default() };
    Format::Json.print(&render::plugin_config(resources, &described, &mesh, filter))
}

fn envoy_rbac(resources: &Resources, arguments: &EnvoyRbac) -> Result<String, Failure> {
    let EnvoyRbac { workload, mesh, none_applies, warnings, path_normalization, tcp, format, .. } = arguments;
    let mesh = mesh.mesh();
    let traffic = if *tcp { Traffic::Tcp } else { Traffic::Http };
    let described = workload.workload(&mesh)?;
    let principal_from = PrincipalFrom::of(described.gateway.as_ref());
    let applying = applying(resources, &described, *none_applies)?;
    let context = LintContext {
        mesh: mesh.clone(),
        workload: workload.labels()?.map(|labels| (workload.namespace(), labels)),
        path_normalization: path_normalization.with(resources),
        plaintext: Plaintexts::Accepted,
        ..LintContext::default()
    };
    let mut found = warnings_of(resources, &context);
    // Nothing refuses here what a CUSTOM policy matches.
    found.retain(|finding| finding.code != Some(lint::CUSTOM_IS_REFUSED));
    let providers = Providers::of(resources);
    if !providers.findings.is_empty() {
        return Err(Failure::Invalid(providers.findings));
    }
    found.extend(custom::warnings(&applying, &providers, &mesh, traffic));
    warn(found, warnings)?;
    let policies: Vec<_> = applying.iter().map(|resource| &resource.policy).collect();
    let place = rbac::Place { traffic, principal_from, trust_domains: &mesh.options().trust_domains };
    // In Istio, too, the providers are asked before tokens are verified, and before other policies decide.
    let several = if mesh.several_providers { Several::OneTrace } else { Several::Deny };
    let mut filters = rbac::custom::filters(&policies, &providers.valid, place, several);
    filters.extend(rbac::filters(&policies, place));
    if filters.is_empty() && !policies.is_empty() && !none_applies.allow_none_applies {
        return Err(Failure::unusable(
            "nothing is protected: no provider can be asked over TCP; give --allow-none-applies if that is meant",
        ));
    }
    let largest = rbac::largest_program(&filters);
    if largest.older > rbac::LARGEST_PROGRAM {
        note(&format!(
            "a regular expression becomes a program of {} instructions in Envoy 1.40, and of {} in 1.38 and older, and Envoy takes \
             {} by default: set `re2.max_program_size.error_level: 32768` in a static layer of its `layered_runtime`, as Istio does",
            largest.newer,
            largest.older,
            rbac::LARGEST_PROGRAM
        ));
    }
    format.print(&filters)
}
