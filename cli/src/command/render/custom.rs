//! What `render` says about CUSTOM policies.

use std::collections::BTreeMap;

use mesh_authz::config::{Mesh, PrincipalFrom};
use mesh_authz::diagnostic::{Path, suggestion};
use mesh_authz::engine::Custom;
use mesh_authz::policy::scope::Workload;
use mesh_authz::policy::{Action, AuthorizationPolicy};
use serde_json::{Map, Value};

use crate::command::Failure;
use crate::lint;
use crate::load::finding::Finding;
use crate::load::providers::Providers;
use crate::load::{LoadedPolicy, Resources};
use crate::render::envoy;
use crate::render::rbac::custom::Several;
use crate::render::rbac::{self, Traffic};

/// What asks the providers of CUSTOM policies, in an Envoy without Istio.
#[derive(Debug)]
pub struct Asking {
    pairs: Vec<Pair>,
    /// Who asks, for the filter itself. It refuses what CUSTOM policies match if a policy names a provider that cannot be asked.
    pub custom: Custom,
    /// The clusters of the providers.
    pub clusters: Vec<Value>,
    /// What the user should know.
    pub warnings: Vec<Finding>,
    /// Whether a provider lets requests pass that it cannot decide about.
    pub fails_open: bool,
}

/// The filters that ask a provider, in the order of Envoy.
#[derive(Debug)]
struct Pair {
    provider: String,
    /// The short name of each filter, and the filter.
    filters: Vec<(&'static str, Value)>,
}

/// The filters that ask are in Envoy's configuration, or each is in a file that Envoy watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Then only providers have filters that policies name.
    InConfiguration,
    /// Then all providers have filters, so that policies can change.
    InFiles,
}

impl Kept {
    /// `watched`: the file that Envoy watches, if it does.
    pub fn of(watched: Option<&str>) -> Self {
        if watched.is_some() { Self::InFiles } else { Self::InConfiguration }
    }
}

/// A file that Envoy watches, with a filter that asks.
#[derive(Debug)]
pub struct WatchedFilter {
    pub file: String,
    /// The name of the filter in Envoy.
    pub name: String,
    pub typed_config: Value,
}

impl Asking {
    /// Fails if a provider in the input has mistakes.
    pub fn of(
        resources: &Resources,
        policies: &[&LoadedPolicy],
        workload: &Workload,
        mesh: &Mesh,
        kept: Kept,
    ) -> Result<Self, Failure> {
        let providers = Providers::of(resources);
        if !providers.findings.is_empty() {
            return Err(Failure::Invalid(providers.findings));
        }
        let options = mesh.options();
        let place = rbac::Place {
            traffic: Traffic::Http,
            principal_from: PrincipalFrom::of(workload.gateway.as_ref()),
            trust_domains: &options.trust_domains,
        };
        let warnings = warnings(policies, &providers, mesh, place.traffic);
        let are_asked = warnings.is_empty();
        let mut by_provider: BTreeMap<&str, Vec<&AuthorizationPolicy>> = BTreeMap::new();
        for policy in policies.iter().map(|resource| &resource.policy).filter(|_| are_asked) {
            let Some(name) = &policy.provider else { continue };
            by_provider.entry(name).or_default().push(policy);
        }
        let custom = if by_provider.is_empty() { Custom::Refuse } else { mesh.custom() };
        if kept == Kept::InFiles {
            for provider in &providers.valid {
                by_provider.entry(&provider.name).or_default();
            }
        }
        let several = if mesh.several_providers { Several::OwnTraces } else { Several::Deny };
        let asked = by_provider.into_iter().filter_map(|(name, policies)| Some((providers.named(name)?, policies)));
        let mut asking = Self { pairs: Vec::new(), custom, clusters: Vec::new(), warnings, fails_open: false };
        for (provider, policies) in asked {
            let filters = rbac::custom::asking(provider, &policies, place, several);
            let filters = ["rbac", "ext_authz"].into_iter().zip(filters.iter().map(in_snake_case)).collect();
            asking.pairs.push(Pair { provider: provider.name.clone(), filters });
            asking.clusters.push(rbac::custom::standalone_cluster(provider));
            asking.fails_open |= provider.fail_open;
        }
        Ok(asking)
    }

    /// The filters, in the order of Envoy. `watched`: the file with the filter that decides, if Envoy watches files; then Envoy
    /// reads each of these from the file of its own.
    pub fn filters(&self, watched: Option<&str>) -> Vec<Value> {
        let Some(deciding) = watched else {
            return self.pairs.iter().flat_map(|pair| &pair.filters).map(|(_, filter)| filter.clone()).collect();
        };
        let watching = |WatchedFilter { file, name, typed_config }: WatchedFilter| {
            let kind = typed_config.get("@type").and_then(Value::as_str).unwrap_or_default();
            let kind = kind.rsplit_once("filters.http.").map_or(kind, |(_, kind)| kind);
            envoy::watching(&name, &file, kind)
        };
        self.in_files(deciding).into_iter().map(watching).collect()
    }

    /// The files with the filters, beside the file with the filter that decides.
    pub fn in_files(&self, deciding: &str) -> Vec<WatchedFilter> {
        let (stem, ending) = deciding.rsplit_once('.').unwrap_or((deciding, "yaml"));
        let files = self.pairs.iter().flat_map(|Pair { provider, filters }| {
            filters.iter().map(move |(kind, filter)| WatchedFilter {
                file: format!("{stem}.{kind}_{provider}.{ending}"),
                name: format!("{kind}_{provider}"),
                typed_config: filter.get("typed_config").cloned().unwrap_or_default(),
            })
        });
        files.collect()
    }
}

/// The same message with field names as bootstraps write them. The keys of maps, which are names of rules, stay as they are.
fn in_snake_case(message: &Value) -> Value {
    let is_field = |key: &str| key.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let snake = |key: &str| {
        key.chars().fold(String::new(), |mut snake, c| {
            if c.is_ascii_uppercase() {
                snake.push('_');
            }
            snake.push(c.to_ascii_lowercase());
            snake
        })
    };
    match message {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| (if is_field(key) { snake(key) } else { key.clone() }, in_snake_case(value)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(in_snake_case).collect::<Vec<_>>().into(),
        other => other.clone(),
    }
}

fn provider_name() -> Path {
    Path::of(["spec", "provider", "name"])
}

/// Warnings about CUSTOM policies whose provider is not asked.
pub fn warnings(policies: &[&LoadedPolicy], providers: &Providers, mesh: &Mesh, traffic: Traffic) -> Vec<Finding> {
    let custom: Vec<_> = policies.iter().filter(|resource| resource.policy.action == Action::Custom).collect();
    let name = |resource: &LoadedPolicy| resource.policy.provider.clone().unwrap_or_default();
    let first = custom.first().map(|resource| name(resource)).unwrap_or_default();
    let are_several = !mesh.several_providers && custom.iter().any(|resource| name(resource) != first);
    let warning = |resource: &&LoadedPolicy| {
        let own = name(resource);
        let (message, hint) = match providers.named(&own) {
            _ if are_several => (
                "this policy denies what it matches: a workload can have policies for one provider only, as in Istio by default"
                    .to_owned(),
                "let all CUSTOM policies of the workload name the same provider, or give --several-providers".to_owned(),
            ),
            None => {
                let known = providers.valid.iter().map(|provider| provider.name.as_str());
                let hint = match suggestion(&own, known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if providers.are_known => "add it to `extensionProviders` of the mesh configuration".to_owned(),
                    None => "give a mesh configuration with it in `extensionProviders` as well".to_owned(),
                };
                (format!("this policy denies what it matches: the input has no provider called `{own}`"), hint)
            }
            Some(provider) if traffic == Traffic::Tcp && provider.http.is_some() => (
                format!("nobody enforces this policy over TCP: provider `{own}` is asked over HTTP"),
                "use a provider over gRPC".to_owned(),
            ),
            Some(_) => return None,
        };
        lint::left_out(resource, provider_name(), &message, &hint)
    };
    custom.into_iter().filter_map(warning).collect()
}
