//! What `render` says about CUSTOM policies.

use std::collections::BTreeSet;

use mesh_authz::config::{Mesh, PrincipalFrom};
use mesh_authz::diagnostic::{Path, suggestion};
use mesh_authz::policy::Action;
use mesh_authz::policy::scope::Workload;
use serde_json::{Map, Value};

use crate::command::Failure;
use crate::lint;
use crate::load::finding::Finding;
use crate::load::providers::Providers;
use crate::load::{LoadedPolicy, Resources};
use crate::render::rbac::{self, Traffic};

/// What asks the providers of CUSTOM policies, in an Envoy without Istio.
#[derive(Debug, Default)]
pub struct Asking {
    /// The filters, in the order of Envoy. There are none if no policy asks, or if a policy names a provider that cannot be
    /// asked: then the filter itself refuses what CUSTOM policies match.
    pub filters: Vec<Value>,
    /// The clusters of the providers.
    pub clusters: Vec<Value>,
    /// What the user should know.
    pub warnings: Vec<Finding>,
    /// Whether a provider lets requests pass that it cannot decide about.
    pub fails_open: bool,
}

impl Asking {
    /// Fails if a provider in the input has mistakes.
    pub fn of(
        resources: &Resources,
        policies: &[&LoadedPolicy],
        workload: &Workload,
        mesh: &Mesh,
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
        let warnings = warnings(policies, &providers, place.traffic);
        if !warnings.is_empty() {
            return Ok(Self { warnings, ..Self::default() });
        }
        let warnings = policies.iter().filter_map(|resource| fails_open(resource, &providers)).collect();
        let policies: Vec<_> = policies.iter().map(|resource| &resource.policy).collect();
        let names: BTreeSet<_> = policies.iter().filter_map(|policy| policy.provider.as_deref()).collect();
        let asked: Vec<_> = names.iter().filter_map(|name| providers.named(name)).collect();
        Ok(Self {
            filters: rbac::custom::filters(&policies, &providers.valid, place).iter().map(in_snake_case).collect(),
            clusters: asked.iter().map(|provider| rbac::custom::standalone_cluster(provider)).collect(),
            warnings,
            fails_open: asked.iter().any(|provider| provider.fail_open),
        })
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

/// The warning that requests pass which the provider of this policy has not allowed.
fn fails_open(resource: &LoadedPolicy, providers: &Providers) -> Option<Finding> {
    let own = resource.policy.provider.as_deref()?;
    providers.named(own).filter(|provider| provider.fail_open)?;
    let message = format!(
        "provider `{own}` has `failOpen`: while it does not answer, or answers 5xx, what this policy matches passes. A client may \
         be able to cause that"
    );
    lint::left_out(resource, provider_name(), &message, "remove `failOpen`")
}

fn provider_name() -> Path {
    Path::of(["spec", "provider", "name"])
}

/// Warnings about CUSTOM policies whose provider is not asked.
pub fn warnings(policies: &[&LoadedPolicy], providers: &Providers, traffic: Traffic) -> Vec<Finding> {
    let custom: Vec<_> = policies.iter().filter(|resource| resource.policy.action == Action::Custom).collect();
    let name = |resource: &LoadedPolicy| resource.policy.provider.clone().unwrap_or_default();
    let first = custom.first().map(|resource| name(resource)).unwrap_or_default();
    let are_several = custom.iter().any(|resource| name(resource) != first);
    let warning = |resource: &&LoadedPolicy| {
        let own = name(resource);
        let (message, hint) = match providers.named(&own) {
            _ if are_several => (
                "this policy denies what it matches: a workload can have policies for one provider only, as in Istio by default"
                    .to_owned(),
                "let all CUSTOM policies of the workload name the same provider".to_owned(),
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
