//! `mesh-authz render envoy`: a bootstrap for a standalone Envoy.

use std::net::SocketAddr;
use std::path::PathBuf;

use mesh_authz::attribute::Subject;

use super::custom::Kept;
use super::listeners::{ListenerOptions, keep_apart, socket};
use super::plugin::{PluginFor, PluginOptions};
use super::ports;
use super::shared::{Format, warn};
use super::standalone::{Enforced, looks_at};
use super::tls::TlsOptions;
use crate::command::options::{NoneAppliesOption, Setting, WarningOptions};
use crate::command::{Failure, note};
use crate::lint::{self, PathNormalization};
use crate::load::{LoadedPolicy, Resources};
use crate::render::WorkloadSettings;
use crate::render::envoy::{self, Filters, Settings, TcpFilters};
use crate::render::version::EnvoyVersion;

pub const EXAMPLE: &str = "Example:
  mesh-authz render envoy policies/ --namespace default --label app=backend \\
    --upstream localhost:8080 --wasm dist/mesh_authz.wasm --plaintext \\
    > envoy.yaml";

/// Arguments of `mesh-authz render envoy`.
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

    #[command(flatten, next_help_heading = "Listeners and application")]
    listeners: ListenerOptions,

    /// Address and port of Envoy's admin interface. Anyone who can reach it can stop Envoy.
    #[arg(long, help_heading = "Envoy", value_name = "ADDRESS:PORT", default_value = "127.0.0.1:15000", value_parser = socket)]
    admin: SocketAddr,

    /// The filter's Wasm module.
    #[arg(long, help_heading = "Envoy", value_name = "FILE", default_value = "mesh_authz.wasm")]
    wasm: String,

    /// Leave the filter and its policies to this file, .json or .yaml, which Envoy watches. `render ecds` writes the
    /// file. Give --wasm, --combining, --trust-domain, --trust-domain-alias, --plugin and --set to `render ecds`, not here.
    #[arg(
        long,
        help_heading = "Envoy",
        value_name = "FILE",
        conflicts_with_all = ["wasm", "combining", "trust_domain", "aliases", "plugin", "set"],
        value_parser = watched
    )]
    watch: Option<String>,

    #[command(flatten, next_help_heading = "TLS")]
    tls: TlsOptions,

    /// Version of Envoy, such as 1.36 or 1.36.4. Before 1.37, Envoy needs an HTTP filter to see the peer, which costs more
    /// than the network filter.
    #[arg(long, help_heading = "Envoy", value_name = "VERSION", default_value_t)]
    envoy_version: EnvoyVersion,

    /// Certificate authorities for the servers that a jwksUri names, in PEM.
    #[arg(long, help_heading = "Envoy", value_name = "FILE", default_value = "/etc/ssl/certs/ca-certificates.crt")]
    jwks_ca: String,

    /// Output format.
    #[arg(long, help_heading = "Envoy", value_enum, default_value = "yaml")]
    format: Format,
}

/// Checks the name of a file that Envoy watches: its ending tells Envoy whether it is JSON or YAML.
pub fn watched(text: &str) -> Result<String, String> {
    match text.rsplit_once('.') {
        Some((stem, "json" | "yaml" | "yml")) if !stem.is_empty() && !stem.ends_with('/') => Ok(text.to_owned()),
        _ => Err("Envoy tells JSON from YAML by the name's ending: .json or .yaml".to_owned()),
    }
}

pub fn render(resources: &Resources, arguments: &Arguments) -> Result<String, Failure> {
    let Arguments { setting, listeners, tls, admin, wasm, watch, format, .. } = arguments;
    let enforced = Enforced::of(resources, setting, arguments.none_applies, Kept::of(watch.as_deref()))?;
    let listens = listeners.listeners()?;
    if listeners.are_for_tcp() && watch.is_some() {
        return Err(Failure::unusable("--watch is for HTTP only: leave out --listen-tcp, or --watch"));
    }
    if listeners.are_for_tcp() && !arguments.envoy_version.tells_once_a_connection() {
        return Err(Failure::unusable(
            "--listen-tcp needs Envoy 1.37 or later: an older one does not say who the peer of a connection is",
        ));
    }
    keep_apart(*admin, &listens)?;
    if listeners.proxy_protocol {
        ports::say_of_proxy_protocol(&enforced.policies);
    } else if let Some(ports) = listeners.ports() {
        ports::check(&enforced.policies, &ports)?;
    }
    say(&enforced.policies, tls.why_no_identity());
    // The bootstrap configures Envoy to do this.
    let paths = PathNormalization::DecodeAndMergeSlashes;
    let (over_tcp, asking_over_tcp) = enforced.over_tcp(resources)?;
    let (where_enforced, of_tcp) = if listeners.are_for_tcp() {
        (lint::Enforced::ByThisFilterAlsoOnTcp, asking_over_tcp.warnings.as_slice())
    } else {
        (lint::Enforced::ByThisFilter, &[][..])
    };
    let mut warnings = enforced.warnings_where(resources, paths, tls.plaintexts(), where_enforced);
    warnings.extend(of_tcp.iter().filter(|warning| !enforced.asking.has_said(warning)).cloned());
    warn(warnings, &arguments.warnings)?;

    let described =
        WorkloadSettings { gateway: setting.workload.gateway()?, ..WorkloadSettings::from(&enforced.scope) };
    let plugin = arguments.plugin.read(PluginFor::Standalone, [described.gateway.as_ref()])?;
    if plugin.takes_client_for_peer() && listeners.is_told_the_client() {
        return Err(Failure::unusable(
            "with --trusted-hops and --proxy-protocol, the client's address comes from what is sent, and `sourceIpFrom: \
             remote-address` takes it for the address of the direct peer; leave `sourceIpFrom` out",
        ));
    }
    let (jwt_authn, mut clusters) = enforced.verification(&arguments.jwks_ca, plugin.payload_key())?;
    clusters.extend(enforced.asking.clusters.iter().cloned());
    if listeners.are_for_tcp() {
        let further = asking_over_tcp.clusters.iter().filter(|cluster| !clusters.contains(cluster)).cloned();
        clusters.extend(further.collect::<Vec<_>>());
    }
    let asking = enforced.asking.filters(watch.as_deref());
    let settings = Settings {
        listeners: listens,
        client_address: listeners.client_address(),
        upstream_protocol: listeners.upstream_protocol,
        admin: Some(*admin),
        tls: tls.tls(),
        tcp_filters: TcpFilters {
            policies: over_tcp.iter().map(|resource| resource.node.clone()).collect(),
            asking: asking_over_tcp.filters(None),
        },
        filters: Filters { wasm: Some(wasm.clone()), watch: watch.clone(), asking, jwt_authn, further: plugin.fields },
        clusters,
        version: arguments.envoy_version,
    };
    let Enforced { mesh, policies, .. } = &enforced;
    let bootstrap = envoy::bootstrap(policies, &described, mesh, &settings).map_err(Failure::unusable)?;
    format.print(&bootstrap)
}

/// Prints notes on standard error about what may surprise the user. `why_no_identity` is set if no peer has an identity.
fn say(policies: &[&LoadedPolicy], why_no_identity: Option<&str>) {
    if policies.is_empty() {
        note("no policy applies to this workload: it allows everything");
    }
    let Some(why) = why_no_identity else { return };
    for found in policies.iter().filter(|found| looks_at(found, Subject::Identity)) {
        note(&format!("policy {}: looks at the peer's identity, {why}", found.policy.name));
    }
}
