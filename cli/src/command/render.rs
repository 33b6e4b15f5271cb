//! `mesh-authz render`: from policies to what runs them.

mod bootstrap;
mod ecds;
mod resources;
mod shared;

use std::path::PathBuf;

use self::shared::{Format, applying};
use super::options::{MeshOptions, Setting, WorkloadOptions};
use super::{Answer, Failure, note};
use crate::load::Resources;
use crate::render::kubernetes::ExtensionKind;
use crate::render::rbac::{self, Traffic};
use crate::render::{self, WorkloadSettings};

/// What to render.
#[derive(Debug, clap::Subcommand)]
pub enum Arguments {
    /// The filter's plugin configuration, as JSON.
    ///
    /// A namespace and labels that are not given are left out: Envoy's node metadata has them then.
    #[command(after_help = "Example: mesh-authz render plugin-config policies/ --label app=backend")]
    PluginConfig(PluginConfig),
    /// The RBAC filters that Istio's control plane generates for Envoy from the same policies.
    ///
    /// CUSTOM policies are left out: their rendering depends on the mesh's extension providers.
    #[command(after_help = "Example: mesh-authz render envoy-rbac policies/ --label app=backend")]
    EnvoyRbac(EnvoyRbac),
    /// A whole bootstrap for a standalone Envoy that enforces the policies.
    ///
    /// It is the project's envoy/backend.yaml with the workload, the addresses and the files given here. Of
    /// `RequestAuthentications` that apply to the workload it gets a filter that verifies tokens, as in Istio.
    #[command(after_help = bootstrap::EXAMPLE)]
    Envoy(bootstrap::Arguments),
    /// The filter with the policies, as a file that a running Envoy watches.
    ///
    /// The bootstrap for it is made by `render envoy --watch FILE`. What the file says applies without a restart, from one
    /// request to the next. Nothing is written unless the policies are valid.
    #[command(after_help = ecds::EXAMPLE)]
    Ecds(ecds::Arguments),
    /// Istio `WasmPlugins` that load the filter, and the `EnvoyFilters` that help it.
    ///
    /// Each carries every policy that can apply where it is loaded, so that however many are loaded on a workload, each
    /// decides what all policies together decide.
    #[command(after_help = resources::WASM_PLUGIN_EXAMPLE)]
    WasmPlugin(resources::Arguments),
    /// As wasm-plugin, with `TrafficExtensions`, which newer versions of Istio have in place of `WasmPlugins`.
    #[command(after_help = resources::TRAFFIC_EXTENSION_EXAMPLE)]
    TrafficExtension(resources::Arguments),
}

/// Arguments of `mesh-authz render plugin-config`.
#[derive(Debug, clap::Args)]
pub struct PluginConfig {
    /// Files, directories or patterns with policies, YAML or JSON; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    #[command(flatten)]
    setting: Setting,
}

/// Arguments of `mesh-authz render envoy-rbac`.
#[derive(Debug, clap::Args)]
pub struct EnvoyRbac {
    /// Files, directories or patterns with policies, YAML or JSON; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    #[command(flatten)]
    workload: WorkloadOptions,
    #[command(flatten)]
    mesh: MeshOptions,

    /// For TCP connections instead of HTTP requests.
    #[arg(long)]
    tcp: bool,

    /// The form of the output.
    #[arg(long, value_enum, default_value = "yaml")]
    format: Format,
}

pub fn run(arguments: &Arguments, out: &mut String) -> Result<Answer, Failure> {
    let files = match arguments {
        Arguments::PluginConfig(PluginConfig { files, .. }) | Arguments::EnvoyRbac(EnvoyRbac { files, .. }) => files,
        Arguments::Envoy(arguments) => &arguments.files,
        Arguments::Ecds(arguments) => &arguments.files,
        Arguments::WasmPlugin(arguments) | Arguments::TrafficExtension(arguments) => &arguments.files,
    };
    let resources = super::valid_resources(files)?;
    *out = match arguments {
        Arguments::PluginConfig(arguments) => {
            say_skipped(&resources);
            plugin_config(&resources, arguments)?
        }
        Arguments::EnvoyRbac(arguments) => {
            say_skipped(&resources);
            envoy_rbac(&resources, arguments)?
        }
        Arguments::Envoy(arguments) => bootstrap::render(&resources, arguments)?,
        Arguments::Ecds(arguments) => {
            say_skipped(&resources);
            ecds::render(&resources, arguments)?
        }
        Arguments::WasmPlugin(arguments) => resources::render(&resources, ExtensionKind::WasmPlugin, arguments)?,
        Arguments::TrafficExtension(arguments) => {
            resources::render(&resources, ExtensionKind::TrafficExtension, arguments)?
        }
    };
    Ok(Answer::Good)
}

/// Verifying tokens is another filter's part.
fn say_skipped(resources: &Resources) {
    for found in &resources.request_authentications {
        note(&format!("{}: RequestAuthentication {}: skipped", found.source.file.display(), found.authentication.name));
    }
}

fn plugin_config(resources: &Resources, arguments: &PluginConfig) -> Result<String, Failure> {
    let (workload, mesh) = (&arguments.setting.workload, arguments.setting.mesh());
    let labels = workload.labels()?;
    if workload.namespace.is_some() && labels.is_some() {
        applying(resources, &workload.workload(&mesh)?)?;
    }
    let described = WorkloadSettings { namespace: workload.namespace.clone(), labels, gateway: None };
    Format::Json.print(&render::plugin_config(resources, &described, &mesh))
}

fn envoy_rbac(resources: &Resources, arguments: &EnvoyRbac) -> Result<String, Failure> {
    let EnvoyRbac { workload, mesh, tcp, format, .. } = arguments;
    let mesh = mesh.mesh();
    let traffic = if *tcp { Traffic::Tcp } else { Traffic::Http };
    let applying = applying(resources, &workload.workload(&mesh)?)?;
    let policies: Vec<_> = applying.iter().map(|resource| &resource.policy).collect();
    format.print(&rbac::filters(&policies, &mesh.options().trust_domains, traffic))
}
