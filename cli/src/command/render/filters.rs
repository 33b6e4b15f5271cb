//! `mesh-authz render filters`: the HTTP filters for an Envoy that exists already.

use std::path::PathBuf;

use mesh_authz::attribute::{Attribute, Subject};
use mesh_authz::policy::Predicate;
use serde_json::{Map, Value};

use super::bootstrap::watched;
use super::custom::Kept;
use super::plugin::{PluginFor, PluginOptions};
use super::shared::{Format, warn};
use super::standalone::{Enforced, looks_at};
use crate::command::Failure;
use crate::command::options::{NoneAppliesOption, PathNormalizationOption, Setting, WarningOptions};
use crate::lint::Plaintexts;
use crate::load::Resources;
use crate::render::WorkloadSettings;
use crate::render::envoy::{self, Filters};
use crate::render::version::EnvoyVersion;

pub const EXAMPLE: &str = "Example:
  mesh-authz render filters policies/ --namespace default --label app=backend \\
    --wasm /etc/envoy/mesh_authz.wasm > filters.yaml";

const PLACE: &str = "\
# HTTP filters that enforce the policies. Put them in front of the router, in this order, into `http_filters` of every
# connection manager that leads to this workload. A filter that changes the path, the method, the host or other headers
# that policies look at comes before them.
#
";

const TOLD_ONCE: &str = "\
# Put `filters` into the filter chain, before each of these connection managers:
#
# - set_filter_state tells mesh_authz, once a connection, what it cannot see: the direct peer's address, the port, and all
#   URIs of its certificate. Envoy has this since version 1.37; give --envoy-version for an older one.
#
# Of the HTTP filters:
#
";

const TOLD_AT_REQUESTS: &str = "\
# - set_filter_state tells mesh_authz what it cannot see: the direct peer's address, the port, and all URIs of its
#   certificate.
";

const ASKING: &str = "\
# - rbac refuses nothing: it finds out which requests match a CUSTOM policy. ext_authz asks the provider about them.
#   mesh_authz refuses a request that these two have not seen.
";

const FAIL_OPEN: &str = "\
#   ATTENTION: a provider has `failOpen`. While it does not answer, requests pass. About a CONNECT request, Envoy cannot
#   ask a provider over HTTP: it passes. So no connection manager with these filters may have CONNECT in
#   `upgrade_configs`.
";

const TOKENS: &str = "\
# - jwt_authn verifies tokens, and gives their claims to mesh_authz.
";

const DECIDES: &str = "\
# - mesh_authz decides. Its `failure_policy` must stay FAIL_CLOSED: with FAIL_OPEN, requests pass while it cannot run. It
#   needs nothing of Envoy's node metadata, because its configuration names the workload.
";

const WATCHED: &str = "\
# - mesh_authz decides. It is in the file that `mesh-authz render ecds` writes; while Envoy has no valid file, no request
#   passes. Give --namespace and --label to `render ecds`, too: then it needs nothing of Envoy's node metadata.
";

const SETTINGS: &str = "\
#
# The decisions are right only if the connection manager has these settings:
#
";

const ROUTES: &str = "\
#
# No route configuration may have `ignore_path_parameters_in_path_matching`: its routes for /admin also serve /admin;x=y.
#
# If a proxy that you trust is in front of Envoy, also set `xff_num_trusted_hops`: but not with
# `sourceIpFrom: remote-address` in the plugin configuration, which takes the client's address for that of the direct peer.
";

const IDENTITY: &str = "\
#
# Policies look at the peer's identity. It comes from the certificate, so the filter chain needs TLS with
# `require_client_certificate: true` and a `trusted_ca` whose certificates you trust.
";

const PORTS: &str = "\
#
# Policies look at the port. It is the one on which the listener accepts connections, so Envoy must listen on the ports
# that the policies name.
";

const SNI: &str = "\
#
# Policies look at the server name that the client asks for. The listener needs `tls_inspector`.
";

const CLUSTERS: &str = "\
#
# Add `clusters` to the clusters of Envoy: `jwt_authn` fetches the keys from them.
";

const PROVIDERS: &str = "\
#
# Add `clusters` to the clusters of Envoy: `ext_authz` finds the providers there, at the host and port of the mesh
# configuration, without TLS.
";

const REASONS: &str = "\
#
# The page docs/envoy.md of mesh-authz has the reasons, and docs/other-filters.md the order of filters.
# `mesh-authz check --envoy CONFIG` finds what Envoy lacks.
";

/// Arguments of `mesh-authz render filters`.
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
    path_normalization: PathNormalizationOption,
    #[command(flatten)]
    plugin: PluginOptions,

    /// The filter's Wasm module. A relative path starts at the folder that Envoy was started in.
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

pub fn render(resources: &Resources, arguments: &Arguments) -> Result<String, Failure> {
    let Arguments { setting, wasm, watch, format, .. } = arguments;
    let enforced = Enforced::of(resources, setting, arguments.none_applies, Kept::of(watch.as_deref()))?;
    let paths = arguments.path_normalization.with(resources);
    warn(enforced.warnings(resources, paths, Plaintexts::Accepted), &arguments.warnings)?;
    let Enforced { mesh, scope, policies, .. } = &enforced;
    // Nothing is known of the node of this Envoy.
    let described = WorkloadSettings { gateway: setting.workload.gateway()?, ..WorkloadSettings::from(scope) };
    let plugin = arguments.plugin.read(PluginFor::Standalone, [described.gateway.as_ref()])?;
    let (jwt_authn, mut clusters) = enforced.verification(&arguments.jwks_ca, plugin.payload_key())?;
    let (verifies_tokens, fetches_keys) = (jwt_authn.is_some(), !clusters.is_empty());
    clusters.extend(enforced.asking.clusters.iter().cloned());
    let filters = Filters {
        wasm: Some(wasm.clone()),
        watch: watch.clone(),
        asking: enforced.asking.filters(watch.as_deref()),
        jwt_authn,
        further: plugin.fields,
    };
    let mut filters = envoy::http_filters(policies, &described, mesh, &filters).map_err(Failure::unusable)?;

    let once = arguments.envoy_version.tells_once_a_connection();
    let telling = envoy::telling_filter(once).map_err(Failure::unusable)?;
    let told = if once { TOLD_ONCE } else { TOLD_AT_REQUESTS };
    let comments = comments(&enforced, told, watch.is_some(), verifies_tokens, fetches_keys);
    let mut output = Map::new();
    if once {
        output.insert("filters".to_owned(), vec![telling].into());
    } else {
        filters.insert(0, telling);
    }
    output.insert("http_filters".to_owned(), filters.into());
    if !clusters.is_empty() {
        output.insert("clusters".to_owned(), clusters.into());
    }
    let text = format.print(&Value::Object(output))?;
    Ok(match format {
        Format::Json => text,
        Format::Yaml => comments + &text,
    })
}

/// What the rest of Envoy's configuration needs, as comments in YAML.
fn comments(
    enforced: &Enforced<'_>,
    told: &str,
    is_watched: bool,
    verifies_tokens: bool,
    fetches_keys: bool,
) -> String {
    let Enforced { policies, scope, asking, .. } = enforced;
    let looks = |subject| policies.iter().any(|policy| looks_at(policy, subject));
    let predicates = || policies.iter().flat_map(|found| found.policy.predicates()).map(Predicate::attribute);
    let looks_at = |attribute| predicates().any(|found| found == attribute);
    // A waypoint's peers come through a tunnel, which has their certificates.
    let is_waypoint = scope.gateway.as_ref().is_some_and(|gateway| gateway.waypoint);
    let settings = envoy::REQUIRED.trim_end().replace('\n', "\n#   ");
    let settings = format!("#   {settings}\n");
    let comments = [
        (true, PLACE),
        (true, told),
        (!asking.clusters.is_empty(), ASKING),
        (asking.fails_open, FAIL_OPEN),
        (verifies_tokens, TOKENS),
        (true, if is_watched { WATCHED } else { DECIDES }),
        (true, SETTINGS),
        (true, &settings),
        (true, ROUTES),
        (looks(Subject::Identity) && !is_waypoint, IDENTITY),
        (looks_at(Attribute::DestinationPort), PORTS),
        (looks_at(Attribute::Sni), SNI),
        (fetches_keys, CLUSTERS),
        (!asking.clusters.is_empty(), PROVIDERS),
        (true, REASONS),
    ];
    comments.iter().filter(|(is_needed, _)| *is_needed).map(|(_, comment)| *comment).collect()
}
