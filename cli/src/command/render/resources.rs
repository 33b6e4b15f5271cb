//! `mesh-authz render wasm-plugin` and `traffic-extension`: the resources that make Istio load the filter.

use std::collections::BTreeSet;
use std::path::PathBuf;

use mesh_authz::config::Mesh;
use mesh_authz::diagnostic::Path;
use mesh_authz::policy::Predicate;
use mesh_authz::policy::resource::REVISION;
use mesh_authz::policy::scope::Scope;
use serde_json::Value;

use super::beside::{self, Document, NativeOptions};
use super::decides_http;
use super::plugin::{PluginFor, PluginOptions};
use super::shared::{Format, warn};
use super::waypoints::{self, WaypointOptions};
use crate::command::options::{
    CombiningOption, MeshOptions, NoneAppliesOption, PathNormalizationOption, WarningOptions, namespace,
};
use crate::command::{Failure, note};
use crate::lint::{self, LintContext, Plaintexts};
use crate::load::{LoadedPolicy, Resources};
use crate::render::instances::{self, Gateways, Hosts, Instance, Plan, Topology};
use crate::render::kubernetes::{self, ExtensionKind, Image};
use crate::render::tcp_ports;

pub const WASM_PLUGIN_EXAMPLE: &str = "Example:
  mesh-authz render wasm-plugin policies/ --sha256 DIGEST \\
    --url oci://registry.example/mesh-authz:0.1.0 |
    kubectl apply --server-side -f -";
pub const TRAFFIC_EXTENSION_EXAMPLE: &str = "Example:
  mesh-authz render traffic-extension policies/ --sha256 DIGEST \\
    --url oci://registry.example/mesh-authz:0.1.0 |
    kubectl apply --server-side -f -";

/// Largest resource that etcd accepts, in bytes.
const LARGEST: usize = 1 << 20;

/// Arguments of `mesh-authz render wasm-plugin` and `traffic-extension`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Files, directories or patterns with policies, in YAML or JSON; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    #[command(flatten)]
    mesh: MeshOptions,

    #[command(flatten)]
    combining: CombiningOption,

    #[command(flatten)]
    none_applies: NoneAppliesOption,
    #[command(flatten)]
    warnings: WarningOptions,
    #[command(flatten)]
    path_normalization: PathNormalizationOption,
    #[command(flatten)]
    plugin: PluginOptions,

    /// URL from which Istio gets the filter: oci://, https://, http:// or file://.
    #[arg(long, help_heading = "Istio's resources", value_parser = url)]
    url: String,

    /// SHA-256 checksum of the module or the image: 64 hexadecimal digits in lower case.
    #[arg(long, help_heading = "Istio's resources", value_parser = sha256)]
    sha256: Option<String>,

    /// Secret with the credentials for the registry. It must exist in every namespace that gets a resource.
    #[arg(long, help_heading = "Istio's resources", value_name = "SECRET")]
    image_pull_secret: Option<String>,

    #[command(flatten)]
    native: NativeOptions,

    #[command(flatten, next_help_heading = "Istio's resources")]
    waypoints: WaypointOptions,

    /// Revision of the control plane to render for. Policies with the label `istio.io/rev` are for one revision only.
    #[arg(long, help_heading = "Istio's resources", value_parser = namespace)]
    revision: Option<String>,

    /// Leave out the `EnvoyFilters`. Then ipBlocks and source.ip count against every request, because the filter cannot
    /// read the peer's address. It also sees only the first URI of a certificate.
    #[arg(long, help_heading = "Istio's resources")]
    no_envoy_filter: bool,

    /// Also load the plugin for connections, on the ports that Services in the input name as TCP. Istio enforces the policies
    /// there anyway; the plugin says why it refuses a connection. Needs Istio 1.30 or later.
    #[arg(long, help_heading = "Istio's resources", conflicts_with = "no_envoy_filter")]
    network_plugin: bool,

    /// Output format; JSON is one List.
    #[arg(long, help_heading = "Istio's resources", value_enum, default_value = "yaml")]
    format: Format,
}

fn url(text: &str) -> Result<String, String> {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("is no URL".to_owned());
    }
    match scheme {
        None | Some("oci" | "https" | "http" | "file") => Ok(text.to_owned()),
        Some(other) => Err(format!("Istio fetches nothing over {other}: write oci://, https://, http:// or file://")),
    }
}

fn sha256(text: &str) -> Result<String, String> {
    if !lint::is_sha256(text) {
        return Err("write 64 digits and letters from a to f, without `sha256:`".to_owned());
    }
    Ok(text.to_owned())
}

pub fn render(resources: &Resources, kind: ExtensionKind, arguments: &Arguments) -> Result<String, Failure> {
    let Arguments { mesh, url, sha256, image_pull_secret, .. } = arguments;
    let mesh = mesh.combining(&arguments.combining);
    arguments.native.check(mesh.combining)?;
    let revision = arguments.revision.as_deref();
    let gateways = Gateways::new(&resources.others);
    let topology = Topology {
        root_namespace: &mesh.root_namespace,
        waypoints: &arguments.waypoints.waypoints(&gateways)?,
        hosts: Hosts::new(&arguments.waypoints.cluster_domain, &resources.others),
        gateways,
        revision,
    };
    let native = arguments.native.http(mesh.combining);
    let plan = instances::plan(&resources.policies, &topology, native);
    if !plan.refused.is_empty() {
        return Err(Failure::Invalid(plan.refused));
    }
    if plan.instances.is_empty() && !arguments.none_applies.allow_none_applies {
        return Err(Failure::unusable(nothing_to_load(&plan)));
    }
    let context = LintContext {
        mesh: mesh.clone(),
        workload: None,
        path_normalization: arguments.path_normalization.with(resources),
        plaintext: Plaintexts::AsInIstio,
        ..LintContext::default()
    };
    let mut warnings = lint::lint(resources, &context);
    // Istio enforces them, and asks their providers.
    warnings.retain(|finding| finding.code != Some(lint::CUSTOM_IS_REFUSED));
    let of_idle = |resource: &&LoadedPolicy| {
        let message = format!(
            "applies to nothing: only `istio-waypoint` in {} is a GatewayClass that policies are for",
            mesh.root_namespace
        );
        let hint = "name the Gateway, or correct the class or the namespace";
        lint::left_out(resource, Path::of(["spec"]), &message, hint)
    };
    warnings.extend(plan.idle.iter().filter_map(of_idle));
    warnings.extend(waypoints::of_every_waypoint(&plan, &topology));
    let of_a_revision = |resource: &LoadedPolicy| {
        let field = Path::of(["metadata", "labels", REVISION]);
        let message = "is for the control plane of one revision, and this output is for all";
        lint::left_out(resource, field, message, "give --revision, once for each revision")
    };
    if revision.is_none() {
        let labelled = resources.policies.iter().filter(|resource| resource.policy.revision.is_some());
        warnings.extend(labelled.filter_map(of_a_revision));
    }
    for resource in &plan.other_revision {
        note(&format!("policy {}: {}", resource.policy.name, Scope::OtherRevision));
    }
    warnings.extend(lint::unpinned_module("--url", url, sha256.is_some()));
    warn(warnings, &arguments.warnings)?;
    decides_http::check(&plan, &topology, native)?;
    waypoints::say(&plan, &topology);
    let waypoints = plan.instances.iter().filter_map(|instance| instance.waypoint.as_ref());
    let plugin = arguments.plugin.read(PluginFor::Cluster, [None].into_iter().chain(waypoints.map(Some)))?;
    let image = Image { url: url.clone(), sha256: sha256.clone(), pull_secret: image_pull_secret.clone() };
    let mut documents = beside::native(&plan, &arguments.native, mesh.combining);
    documents.extend(decides_http::stoppers(&plan, &arguments.native, revision));
    if arguments.no_envoy_filter {
        note("without the EnvoyFilters, the filter sees only the first URI of a certificate");
        for resource in &resources.policies {
            if resource.policy.predicates().any(|predicate| matches!(predicate, Predicate::SourceIp(_))) {
                note(&format!(
                    "policy {}: looks at the peer's address, which nothing tells the filter: it counts against every \
                     request",
                    resource.policy.name
                ));
            }
        }
    } else {
        for place in &plan.needs_filter_state {
            let resource = kubernetes::envoy_filter(place, revision).map_err(Failure::unusable)?;
            documents.push(Document { comment: beside::OF_ENVOY_FILTER.to_owned(), resource });
        }
    }
    for instance in &plan.instances {
        let resource = kubernetes::extension(kind, instance, &image, &mesh, revision, &plugin.fields, None);
        say(instance, &resource, &topology.gateways, arguments.native.plugin_decides_http)?;
        documents.push(Document { comment: beside::of_plugin(instance, mesh.combining), resource });
    }
    if arguments.network_plugin {
        let ports = tcp_ports(&plan, resources, &mesh)?;
        for (instance, ports) in &ports {
            let comment = beside::OF_NETWORK_ENVOY_FILTER.to_owned();
            let resource =
                kubernetes::network_envoy_filter(&instance.place, revision, ports).map_err(Failure::unusable)?;
            documents.push(Document { comment, resource });
        }
        for (instance, ports) in &ports {
            let fields = &plugin.fields;
            let resource = kubernetes::extension(kind, instance, &image, &mesh, revision, fields, Some(ports));
            say(instance, &resource, &topology.gateways, false)?;
            documents.push(Document { comment: beside::OF_NETWORK_PLUGIN.to_owned(), resource });
        }
    }
    documents.extend(decides_http::let_through(&plan, &arguments.native, revision));
    beside::print(arguments.format, &documents)
}

/// The instances on workloads with ports for TCP, each with these ports.
fn tcp_ports<'p, 'r>(
    plan: &'p Plan<'r>,
    resources: &Resources,
    mesh: &Mesh,
) -> Result<Vec<(&'p Instance<'r>, BTreeSet<u16>)>, Failure> {
    let (mut found, mut refused) = (Vec::new(), Vec::new());
    for instance in &plan.instances {
        match tcp_ports::of(instance, &resources.others, &mesh.root_namespace) {
            Ok(ports) if ports.is_empty() => {}
            Ok(ports) => found.push((instance, ports)),
            // Several instances can be for the same Service.
            Err(findings) => refused.extend(findings),
        }
    }
    refused.sort_by_key(ToString::to_string);
    refused.dedup_by_key(|finding| finding.to_string());
    if !refused.is_empty() {
        return Err(Failure::Invalid(refused));
    }
    if found.is_empty() {
        return Err(Failure::unusable(
            "--network-plugin: no Service in the input names a port of these workloads as TCP; give the Services too, with \
             `appProtocol: tcp` or a port name such as tcp-db",
        ));
    }
    Ok(found)
}

/// Why there is no resource that loads the filter.
fn nothing_to_load(plan: &Plan<'_>) -> &'static str {
    match plan.custom.as_slice() {
        [] => {
            "nothing is protected: no policy applies to anything; correct the policies, or give --allow-none-applies if no \
             policy has to apply"
        }
        _ => {
            "only CUSTOM policies apply to anything, and Istio enforces them itself: the filter has nothing to do; apply them \
             as they are, or give --allow-none-applies if that is meant"
        }
    }
}

/// Prints a note on standard error if a cluster may refuse the resource, or if its gateway may in fact be a waypoint.
/// Fails if a cluster may refuse it, and the rest of the output would let HTTP through to nobody.
fn say(instance: &Instance<'_>, resource: &Value, gateways: &Gateways<'_>, decides_http: bool) -> Result<(), Failure> {
    let of = |path: &str| resource.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let name = format!("{} {}/{}", of("/kind"), of("/metadata/namespace"), of("/metadata/name"));
    let size = resource.to_string().len();
    if size > LARGEST {
        let text = format!("{name}: {size} bytes with all its policies; a cluster takes no more than about a mebibyte");
        if decides_http {
            return Err(Failure::Unusable(format!(
                "{text}; kubectl would apply the rest, and with --plugin-decides-http, HTTP requests would pass: leave it out"
            )));
        }
        note(&text);
    }
    if let Some(why) = waypoints::may_be_waypoint(instance, gateways) {
        note(&format!("{name}: {why}"));
    }
    Ok(())
}
