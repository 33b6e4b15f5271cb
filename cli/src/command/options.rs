//! Options that several subcommands share: the workload and the mesh. This module also reads both from the arguments.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use mesh_authz::config::{self, COMBINING, DEFAULT_ROOT_NAMESPACE, DEFAULT_TRUST_DOMAIN, Mesh};
use mesh_authz::diagnostic::Diagnostics;
use mesh_authz::document::{Node, Value};
use mesh_authz::policy::scope::{Gateway, Scope, Workload, scope};
use mesh_authz::policy::{AuthorizationPolicy, DEFAULT_NAMESPACE, Labels};

use super::Failure;
use crate::envoy::{self, EnvoyCheck};
use crate::lint::{self, Lint, PathNormalization};
use crate::load::finding::{Finding, Severity};
use crate::load::{Excluded, Resources};
use crate::received::Known;
use crate::render::WorkloadSettings;

/// The workload that policies protect.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Workload and mesh")]
pub struct WorkloadOptions {
    /// Namespace of the workload. `render envoy`, `filters` and `ecds` need it. If it is not given elsewhere, it is `default`,
    /// and `render plugin-config` leaves it to Envoy's node metadata.
    #[arg(long, value_parser = namespace)]
    pub namespace: Option<String>,

    /// Label of the workload (repeatable).
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = key_value)]
    pub labels: Vec<(String, String)>,

    /// The workload has no labels. Without this option and without --label, its labels are unknown.
    #[arg(long, conflicts_with = "labels")]
    pub no_labels: bool,

    /// The workload is a gateway: an instance of the Gateway with this name.
    #[arg(long, value_name = "NAME")]
    gateway: Option<String>,

    /// The workload is a waypoint: an instance of the Gateway with this name.
    #[arg(long, value_name = "NAME", conflicts_with = "gateway")]
    waypoint: Option<String>,

    /// Service behind the waypoint that requests are for: NAMESPACE/NAME, or NAME in the namespace of the workload.
    #[arg(long, value_name = "SERVICE", requires = "waypoint")]
    service: Option<String>,

    /// Like --service, for a `ServiceEntry`.
    #[arg(long, value_name = "SERVICE", requires = "waypoint", conflicts_with = "service")]
    service_entry: Option<String>,

    /// Revision of the control plane. Policies with the label `istio.io/rev` are for one revision only. If it is not
    /// given, policies of all revisions apply.
    #[arg(long)]
    pub revision: Option<String>,
}

/// Whether policies of which none applies are meant.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct NoneAppliesOption {
    /// Accept that none of the policies applies. Otherwise this is an error, because it protects nothing.
    #[arg(long, help_heading = "Workload and mesh")]
    pub allow_none_applies: bool,
}

/// Which warnings there are, and what they do.
#[derive(Clone, Debug, clap::Args)]
pub struct WarningOptions {
    /// Treat warnings as errors.
    #[arg(long, help_heading = "Warnings")]
    pub deny_warnings: bool,

    /// Disable these lints (repeatable). The annotation `mesh-authz/allow: CODE,…` does the same for one resource.
    #[arg(long, value_name = "CODE,…", help_heading = "Warnings", value_parser = code, value_delimiter = ',')]
    allow: Vec<&'static str>,
}

/// What Envoy makes of a path.
#[derive(Clone, Debug, clap::Args)]
pub struct PathNormalizationOption {
    /// Path normalization that Envoy applies before policies are evaluated; the names are Istio's. If it is not given, the
    /// input can say it: a mesh configuration of Istio, or the bootstrap of an Envoy. If that does not either, lints take
    /// Istio's default, `base`, and a request is decided with that and with the one of this project's bootstraps,
    /// `decode-and-merge-slashes`.
    #[arg(
        long = "path-normalization",
        value_name = "PATH_NORMALIZATION",
        help_heading = "Workload and mesh",
        value_parser = PossibleValuesParser::new(PathNormalization::NAMES.map(|(name, _)| name))
    )]
    name: Option<String>,
}

/// The mesh that the workload is part of.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Workload and mesh")]
pub struct MeshOptions {
    /// Trust domain of the mesh.
    #[arg(long, default_value = DEFAULT_TRUST_DOMAIN, value_parser = trust_domain)]
    trust_domain: String,

    /// Alias of the trust domain (repeatable).
    #[arg(long = "trust-domain-alias", value_name = "TRUST_DOMAIN", value_parser = trust_domain)]
    aliases: Vec<String>,

    /// Root namespace of the mesh: its policies are for workloads in every namespace.
    #[arg(long, default_value = DEFAULT_ROOT_NAMESPACE, value_parser = namespace)]
    root_namespace: String,

    /// CUSTOM policies of a workload may name several providers: each is asked about what its own policies match. istiod does
    /// this with `PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS`. Without this option, they deny what they match.
    #[arg(long)]
    several_providers: bool,
}

/// The combining algorithm: how matching rules become a decision.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Workload and mesh")]
pub struct CombiningOption {
    /// How matching rules become a decision. `deny-overrides`, as in Istio: a DENY that matches beats every ALLOW.
    /// `permit-overrides`: an ALLOW that matches beats every DENY.
    #[arg(long, default_value = COMBINING[0].0, value_parser = PossibleValuesParser::new(COMBINING.map(|(name, _)| name)))]
    combining: String,
}

/// The workload, its mesh, and the combining algorithm.
#[derive(Clone, Debug, clap::Args)]
pub struct Setting {
    #[command(flatten)]
    pub workload: WorkloadOptions,
    #[command(flatten)]
    mesh: MeshOptions,
    #[command(flatten)]
    combining: CombiningOption,
}

impl Setting {
    pub fn mesh(&self) -> Mesh {
        self.mesh.combining(&self.combining)
    }
}

impl MeshOptions {
    /// The mesh, with Istio's combining algorithm.
    pub fn mesh(&self) -> Mesh {
        Mesh {
            trust_domain: self.trust_domain.clone(),
            aliases: self.aliases.clone(),
            root_namespace: self.root_namespace.clone(),
            several_providers: self.several_providers,
            ..Mesh::default()
        }
    }

    /// The mesh, with the combining algorithm of the option.
    pub fn combining(&self, option: &CombiningOption) -> Mesh {
        let found = COMBINING.iter().find(|(name, _)| *name == option.combining);
        Mesh { combining: found.map(|(_, combining)| *combining).unwrap_or_default(), ..self.mesh() }
    }
}

impl NoneAppliesOption {
    /// Fails if there are policies, and none of them can apply to the workload. If the labels of the workload are
    /// unknown, a policy with a selector can apply.
    pub fn require_one_that_may_apply(self, resources: &Resources, workload: &Workload) -> Result<(), Failure> {
        let may_apply = |policy: &AuthorizationPolicy| {
            let is_near = [&workload.namespace, &workload.root_namespace].contains(&&policy.name.namespace);
            (is_near && workload.missing_labels(&policy.target).is_some()) || scope(policy, workload) == Scope::Applies
        };
        let policies = || resources.policies.iter().map(|resource| &resource.policy);
        let Some(first) = policies().next() else { return Ok(()) };
        if self.allow_none_applies || policies().any(may_apply) {
            return Ok(());
        }
        let why = if policies().all(|policy| scope(policy, workload) == Scope::OtherNamespace) {
            format!("the policies are for {}", namespaces(policies()))
        } else {
            format!("for example, policy {} {}", first.name, scope(first, workload))
        };
        let namespace = &workload.namespace;
        Err(Failure::Unusable(format!(
            "nothing is protected: no policy applies to this workload in namespace {namespace}; {why}; correct the \
             workload or the policies, or give --allow-none-applies if no policy has to apply"
        )))
    }
}

/// The namespaces of policies, in words. Of many, it names the first and counts the others.
pub fn namespaces<'p>(policies: impl Iterator<Item = &'p AuthorizationPolicy>) -> String {
    const FEW: usize = 5;
    let names: BTreeSet<_> = policies.map(|policy| policy.name.namespace.as_str()).collect();
    let shown = names.iter().take(FEW).copied().collect::<Vec<_>>().join(", ");
    match (names.len(), names.len().checked_sub(FEW)) {
        (1, _) => format!("namespace {shown}"),
        (_, Some(more @ 1..)) => format!("the namespaces {shown} and {more} more"),
        _ => format!("the namespaces {shown}"),
    }
}

impl WarningOptions {
    /// Leaves out the warnings of disabled lints, and sorts by place.
    pub fn select(&self, findings: &mut Vec<Finding>) {
        findings.retain(|finding| {
            let is_allowed = finding.code.is_some_and(|code| self.allow.contains(&code));
            // What is wrong with a policy cannot be accepted. What Envoy's configuration lacks can be meant.
            let is_a_mistake = finding.severity == Severity::Error && finding.code.and_then(envoy::find).is_none();
            is_a_mistake || !is_allowed
        });
        findings.sort_by(|one, other| one.order().cmp(&other.order()));
    }
}

impl PathNormalizationOption {
    pub fn given(&self) -> Option<PathNormalization> {
        self.name.as_deref().and_then(PathNormalization::named)
    }

    /// The normalization for lints.
    pub fn with(&self, resources: &Resources) -> PathNormalization {
        self.known(resources).unwrap_or_default()
    }

    /// What the option or the resources say.
    pub fn known(&self, resources: &Resources) -> Option<PathNormalization> {
        self.given().or_else(|| Known::of(resources).path_normalization())
    }
}

/// What is left out of the input.
#[derive(Debug, clap::Args)]
pub struct ExcludeOption {
    /// Leave out files and folders with this name, or, if the pattern has a slash, this path (repeatable). Files that are named
    /// are always read.
    #[arg(long, value_name = "PATTERN", value_parser = pattern)]
    exclude: Vec<glob::Pattern>,
}

impl ExcludeOption {
    pub fn excluded(&self) -> Excluded {
        Excluded(self.exclude.clone())
    }
}

fn pattern(text: &str) -> Result<glob::Pattern, String> {
    glob::Pattern::new(text.trim_end_matches('/')).map_err(|error| error.to_string())
}

/// The files that are given; the current folder if there are none.
pub fn or_here(files: &[PathBuf]) -> Cow<'_, [PathBuf]> {
    if files.is_empty() { Cow::Owned(vec![PathBuf::from(".")]) } else { Cow::Borrowed(files) }
}

/// What a code stands for.
#[derive(Clone, Copy, Debug)]
pub enum Documented {
    Lint(&'static Lint),
    EnvoyCheck(&'static EnvoyCheck),
}

/// Finds the lint or the check with this code, in upper or lower case.
pub fn documented(text: &str) -> Result<Documented, String> {
    let code = text.trim();
    let lint = lint::find(code).map(Documented::Lint);
    lint.or_else(|| envoy::find(code).map(Documented::EnvoyCheck))
        .ok_or_else(|| "there is no such code; `mesh-authz check --list` has them all".to_owned())
}

fn code(text: &str) -> Result<&'static str, String> {
    documented(text).map(|found| match found {
        Documented::Lint(lint) => lint.code,
        Documented::EnvoyCheck(check) => check.code,
    })
}

impl WorkloadOptions {
    /// The namespace, for an output that fixes the workload.
    pub fn required_namespace(&self) -> Result<String, Failure> {
        self.namespace.clone().ok_or_else(|| {
            Failure::unusable(
                "the namespace of the workload is unknown, so nobody can tell which policies apply; give --namespace NAMESPACE",
            )
        })
    }

    pub fn namespace(&self) -> String {
        self.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())
    }

    /// The labels. `None` if neither `--label` nor `--no-labels` is given: then they are unknown.
    pub fn labels(&self) -> Result<Option<Labels>, Failure> {
        let mut seen = HashSet::new();
        match self.labels.iter().find(|(key, _)| !seen.insert(key)) {
            Some((key, _)) => Err(Failure::Unusable(format!("the label {key} is given twice"))),
            None if self.labels.is_empty() && !self.no_labels => Ok(None),
            None => Ok(Some(self.labels.clone().into())),
        }
    }

    /// The gateway or waypoint, if one is given.
    pub fn gateway(&self) -> Result<Option<Gateway>, Failure> {
        let Some(name) = self.gateway.as_ref().or(self.waypoint.as_ref()) else { return Ok(None) };
        let text = |text: &String| Node::from(Value::String(text.clone()));
        let list = |names: &Option<String>| Node::from(Value::List(names.iter().map(text).collect()));
        let fields = [
            ("name", text(name)),
            ("waypoint", Value::Bool(self.waypoint.is_some()).into()),
            ("services", list(&self.service)),
            ("serviceEntries", list(&self.service_entry)),
        ];
        let node = Value::Map(fields.map(|(name, node)| (name.to_owned(), node)).into()).into();
        let mut diagnostics = Diagnostics::new();
        let gateway = config::gateway(&node, &self.namespace(), &mut diagnostics);
        match diagnostics.into_found().first() {
            Some(error) => Err(Failure::Unusable(format!("the gateway: {error}"))),
            None => Ok(gateway),
        }
    }

    pub fn workload(&self, mesh: &Mesh) -> Result<Workload, Failure> {
        let mut diagnostics = Diagnostics::new();
        let (labels, gateway) = (self.labels()?, self.gateway()?);
        let root_namespace = mesh.root_namespace.clone();
        let workload = Workload::new(self.namespace(), labels, gateway, root_namespace, &mut diagnostics);
        match diagnostics.into_found().first() {
            Some(error) => Err(Failure::unusable(error)),
            None => Ok(Workload { revision: self.revision.clone(), ..workload }),
        }
    }

    /// What a plugin configuration says about the workload: what is given.
    pub fn settings(&self) -> Result<WorkloadSettings, Failure> {
        Ok(WorkloadSettings {
            namespace: self.namespace.clone(),
            labels: self.labels()?,
            match_labels: None,
            gateway: self.gateway()?,
            revision: self.revision.clone(),
        })
    }
}

pub fn namespace(text: &str) -> Result<String, String> {
    read(text, config::namespace)
}

fn trust_domain(text: &str) -> Result<String, String> {
    read(text, config::trust_domain)
}

/// Reads an argument by the same rules as the field of the same name in a plugin configuration.
fn read(text: &str, read: fn(&Node, &mut Diagnostics) -> Option<String>) -> Result<String, String> {
    let mut diagnostics = Diagnostics::new();
    let value = read(&Value::String(text.to_owned()).into(), &mut diagnostics);
    match (value, diagnostics.into_found().first()) {
        (Some(value), None) => Ok(value),
        (_, error) => Err(error.map(ToString::to_string).unwrap_or_default()),
    }
}

/// Reads `KEY=VALUE`.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a `=` and a value are missing")?;
    if key.is_empty() {
        return Err("nothing stands before `=`".to_owned());
    }
    Ok((key.to_owned(), value.to_owned()))
}
