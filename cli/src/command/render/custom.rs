//! What `render` says about CUSTOM policies.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::Path as FilePath;

use mesh_authz::config::{Mesh, PrincipalFrom};
use mesh_authz::engine::Custom;
use mesh_authz::policy::scope::Workload;
use mesh_authz::policy::{Action, AuthorizationPolicy, Traffic};
use serde_json::{Map, Value, json};

use crate::command::Failure;
use crate::lint;
use crate::load::finding::Finding;
use crate::load::providers::{Providers, is_provider_name};
use crate::load::{self, LoadedPolicy, Resources};
use crate::render::envoy;
use crate::render::rbac;
use crate::render::rbac::custom::Several;

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
        traffic: Traffic,
    ) -> Result<Self, Failure> {
        let providers = Providers::of(resources);
        if !providers.findings.is_empty() {
            return Err(Failure::Invalid(providers.findings));
        }
        let options = mesh.options();
        let place = rbac::Place {
            traffic,
            principal_from: PrincipalFrom::of(workload.gateway.as_ref()),
            trust_domains: &options.trust_domains,
        };
        let mut warnings = warnings(policies, &providers, mesh, place.traffic);
        let are_asked = warnings.is_empty();
        warnings.extend(refused_beside_others(policies, &providers, mesh));
        let mut by_provider: BTreeMap<&str, Vec<&AuthorizationPolicy>> = BTreeMap::new();
        for policy in policies.iter().map(|resource| &resource.policy).filter(|_| are_asked) {
            let Some(name) = &policy.provider else { continue };
            by_provider.entry(name).or_default().push(policy);
        }
        // Envoy reads each file when it likes, so it can have the new RBAC filter of a provider and its old ext_authz. The key
        // by which one finds the other therefore depends on the provider only, and on no setting.
        let have_own_traces = mesh.several_providers || kept == Kept::InFiles;
        let custom = match (by_provider.is_empty(), have_own_traces) {
            (true, _) => Custom::Refuse,
            (false, true) => Custom::NativeEach,
            (false, false) => Custom::Native,
        };
        if kept == Kept::InFiles {
            for provider in &providers.valid {
                by_provider.entry(&provider.name).or_default();
            }
        }
        let several = if have_own_traces { Several::OwnTraces } else { Several::Deny };
        let asked = by_provider.into_iter().filter_map(|(name, policies)| Some((providers.named(name)?, policies)));
        let mut asking = Self { pairs: Vec::new(), custom, clusters: Vec::new(), warnings, fails_open: false };
        let mut at = BTreeMap::new();
        for (provider, policies) in asked {
            let cluster = rbac::custom::standalone_cluster(provider);
            match at.insert(rbac::custom::cluster(provider), (&provider.name, cluster.clone())) {
                None => asking.clusters.push(cluster),
                Some((_, same)) if same == cluster => {}
                Some((other, _)) => {
                    return Err(Failure::Unusable(format!(
                        "the providers `{other}` and `{}` are both at {}:{}, one over HTTP and one over gRPC: give each its own port",
                        provider.name, provider.host, provider.port
                    )));
                }
            }
            let filters = rbac::custom::asking(provider, &policies, place, several);
            let filters = [RBAC, EXT_AUTHZ].into_iter().zip(filters.iter().map(in_snake_case)).collect();
            asking.pairs.push(Pair { provider: provider.name.clone(), filters });
            asking.fails_open |= provider.fail_open;
        }
        Ok(asking)
    }

    /// Whether this is one of the warnings.
    pub fn has_said(&self, warning: &Finding) -> bool {
        self.warnings.iter().any(|said| said.to_string() == warning.to_string())
    }

    /// Whether the finding of a lint holds. What becomes of CUSTOM policies is known here.
    pub fn agrees_with(&self, finding: &Finding) -> bool {
        match finding.code {
            Some(lint::CUSTOM_IS_REFUSED) => false,
            Some(lint::PROVIDER_FAILS_OPEN) => self.custom != Custom::Refuse,
            _ => true,
        }
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
        let files = self.pairs.iter().flat_map(|Pair { provider, filters }| {
            filters.iter().map(move |(kind, filter)| WatchedFilter {
                file: beside(deciding, &format!("{kind}_{provider}")),
                name: format!("{kind}_{provider}"),
                typed_config: filter.get("typed_config").cloned().unwrap_or_default(),
            })
        });
        files.collect()
    }

    /// The files of providers that are not here any more, which Envoy may still watch. In them, no request matches, so that
    /// nobody is asked.
    pub fn left_over(&self, deciding: &str) -> Vec<WatchedFilter> {
        let path = FilePath::new(deciding);
        let folder = path.parent().filter(|folder| *folder != FilePath::new("")).unwrap_or(FilePath::new("."));
        let stem = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
        let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        let (start, end) = (format!("{stem}.{RBAC}_"), format!(".{ending}"));
        let names =
            fs::read_dir(folder).into_iter().flatten().filter_map(|file| file.ok()?.file_name().into_string().ok());
        let provider = |name: String| Some(name.strip_prefix(&start)?.strip_suffix(&end)?.to_owned());
        let is_gone = |provider: &String| {
            let name = format!("{RBAC}_{provider}");
            is_provider_name(provider)
                && !self.pairs.iter().any(|pair| pair.provider == *provider)
                && in_watched_file(FilePath::new(&beside(deciding, &name)), "/resources/0/name") == Some(json!(name))
        };
        let gone: BTreeSet<_> = names.filter_map(provider).filter(is_gone).collect();
        let idle = |provider: String| {
            let name = format!("{RBAC}_{provider}");
            let nothing = rbac::custom::asks_about_nothing(&Custom::NativeEach.stat_prefix(&provider));
            WatchedFilter { file: beside(deciding, &name), name, typed_config: in_snake_case(&nothing) }
        };
        gone.into_iter().map(idle).collect()
    }
}

/// The short names of the filters that ask.
const RBAC: &str = "rbac";
const EXT_AUTHZ: &str = "ext_authz";

/// What the file, which Envoy watches, has at this place. `None`: there is no such file, or it has nothing there.
pub fn in_watched_file(file: &FilePath, pointer: &str) -> Option<Value> {
    let document = load::documents(file).ok()?.into_iter().next()?;
    json!(document).pointer(pointer).cloned()
}

/// The file of the filter with this name, beside the file of the filter that decides.
fn beside(deciding: &str, name: &str) -> String {
    let (stem, ending) = deciding.rsplit_once('.').unwrap_or((deciding, "yaml"));
    format!("{stem}.{name}.{ending}")
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

/// Warnings about CUSTOM policies whose provider is there, and is not asked because that of another policy is not.
fn refused_beside_others(policies: &[&LoadedPolicy], providers: &Providers, mesh: &Mesh) -> Vec<Finding> {
    let custom = policies.iter().filter_map(|resource| Some((*resource, resource.policy.provider.as_deref()?)));
    let (known, unknown): (Vec<_>, Vec<_>) = custom.partition(|(_, name)| providers.named(name).is_some());
    let Some((other, lacking)) = unknown.first().filter(|_| mesh.several_providers) else { return Vec::new() };
    let warning = |resource: &LoadedPolicy| {
        let message = format!(
            "this policy denies what it matches: no provider is asked, because the input has no provider called `{lacking}`, \
             which policy {} names",
            other.policy.name
        );
        lint::left_out(resource, lint::provider_name(), &message, "add it, or correct its name")
    };
    known.into_iter().filter_map(|(resource, _)| warning(resource)).collect()
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
            None => (
                format!("this policy denies what it matches: the input has no provider called `{own}`"),
                providers.hint(&own),
            ),
            Some(provider) if traffic == Traffic::Tcp && provider.http.is_some() => (
                format!("nobody enforces this policy over TCP: provider `{own}` is asked over HTTP"),
                "use a provider over gRPC".to_owned(),
            ),
            Some(_) => return None,
        };
        lint::left_out(resource, lint::provider_name(), &message, &hint)
    };
    custom.into_iter().filter_map(warning).collect()
}
