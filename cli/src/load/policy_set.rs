//! The policies from files for one workload: which of them apply, and the engine that decides with them.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use mesh_authz::config::Mesh;
use mesh_authz::diagnostic::suggestion;
use mesh_authz::engine::{Custom, Engine, Options};
use mesh_authz::policy::scope::{NeedsLabels, Scope, Workload, covers, may_meet, scope};
use mesh_authz::policy::{Action, AuthorizationPolicy, Traffic};

use crate::load::providers::Providers;
use crate::load::{LoadedPolicy, Resources};
use crate::received::Known;

/// Policies, and the workload and the mesh that their meaning depends on.
#[derive(Clone, Debug)]
pub struct PolicySet {
    /// The policies, and the other resources in the files.
    pub resources: Arc<Resources>,
    /// The workload that they protect.
    pub workload: Workload,
    /// The mesh of the workload.
    pub mesh: Mesh,
    /// What is known of the Envoy before the workload.
    pub envoy: Known,
}

/// Whether Istio enforces the policy on this traffic: over TCP, it asks no provider over HTTP.
fn is_enforced(policy: &AuthorizationPolicy, traffic: Traffic, providers: &Providers) -> bool {
    let provider = policy.provider.as_deref().and_then(|name| providers.named(name));
    traffic == Traffic::Http || provider.is_none_or(|provider| provider.http.is_none())
}

impl PolicySet {
    /// Each policy, and whether it applies to the workload.
    pub fn scopes(&self) -> impl Iterator<Item = (&LoadedPolicy, Scope)> {
        self.resources.policies.iter().map(|resource| (resource, scope(&resource.policy, &self.workload)))
    }

    /// The policies that apply to the workload.
    pub fn applying(&self) -> impl Iterator<Item = &LoadedPolicy> {
        self.scopes().filter(|(_, scope)| *scope == Scope::Applies).map(|(resource, _)| resource)
    }

    /// The first policy that may or may not apply because the workload's labels are unknown, and the field of it that
    /// needs the labels.
    #[must_use]
    pub fn missing_labels(&self) -> Option<(&LoadedPolicy, NeedsLabels)> {
        use Scope::{OtherNamespace, OtherRevision, WaypointNeedsTarget};
        let whatever_the_labels = |resource: &&LoadedPolicy| {
            matches!(scope(&resource.policy, &self.workload), OtherNamespace | OtherRevision | WaypointNeedsTarget)
        };
        let mut policies = self.resources.policies.iter().filter(|resource| !whatever_the_labels(resource));
        policies.find_map(|resource| Some((resource, self.workload.missing_labels(&resource.policy.target)?)))
    }

    /// The policies that apply to this traffic. Istio enforces no CUSTOM policy over TCP if its provider is asked over HTTP.
    /// `providers`: those of [`Self::resources`].
    pub fn applying_to(&self, traffic: Traffic, providers: &Providers) -> impl Iterator<Item = &LoadedPolicy> {
        self.applying().filter(move |resource| is_enforced(&resource.policy, traffic, providers))
    }

    /// The providers that Envoy asks, which CUSTOM policies that apply name. There are none if the policies name several and
    /// the mesh does not allow that, or if the mesh configuration in the input lacks one: then what they match is refused.
    /// `providers`: those of [`Self::resources`].
    #[must_use]
    pub fn asked_providers(&self, traffic: Traffic, providers: &Providers) -> BTreeSet<&str> {
        let applying = self.applying_to(traffic, providers);
        let names: BTreeSet<_> = applying.filter_map(|resource| resource.policy.provider.as_deref()).collect();
        let are_known = names.iter().all(|name| providers.may_have(name));
        let are_asked = (self.mesh.several_providers || names.len() == 1) && are_known;
        if are_asked { names } else { BTreeSet::new() }
    }

    /// The policies as questions about all requests need them: for this workload, or for all if there is none. A CUSTOM policy
    /// becomes a DENY policy where its provider is not asked ([`Self::asked_providers`]), and is left out where it is not enforced.
    ///
    /// # Errors
    /// Whether a provider is asked differs between workloads that the policy applies to.
    pub fn in_questions(
        &self,
        traffic: Traffic,
        workload: Option<&Workload>,
    ) -> Result<Vec<AuthorizationPolicy>, String> {
        let providers = Providers::of(&self.resources);
        let root = &self.mesh.root_namespace;
        let policies = self.resources.policies.iter().map(|resource| &resource.policy);
        let enforced = policies.filter(|policy| is_enforced(policy, traffic, &providers));
        let is_custom = |policy: &&AuthorizationPolicy| policy.action == Action::Custom && !policy.dry_run;
        let custom: Vec<_> = enforced.clone().filter(is_custom).collect();
        let clash = |one: &AuthorizationPolicy, other: &AuthorizationPolicy| {
            let is_unknown = other.provider.as_deref().is_some_and(|name| !providers.may_have(name));
            is_unknown || (!self.mesh.several_providers && one.provider != other.provider)
        };
        let applies =
            |policy: &AuthorizationPolicy| workload.is_none_or(|workload| scope(policy, workload) == Scope::Applies);
        let in_question = |policy: &AuthorizationPolicy| {
            if !is_custom(&policy) || !applies(policy) {
                return Ok(policy.clone());
            }
            let mut clashing = custom.iter().filter(|other| clash(policy, other) && applies(other));
            let is_always =
                |other: &&&AuthorizationPolicy| workload.is_some() || covers(other.reach(), policy.reach(), root);
            if clashing.clone().any(|other| is_always(&other)) {
                return Ok(AuthorizationPolicy { action: Action::Deny, provider: None, ..policy.clone() });
            }
            match clashing.find(|other| may_meet(other.reach(), policy.reach(), root)) {
                None => Ok(policy.clone()),
                Some(other) => Err(format!(
                    "the CUSTOM policies {} and {} can apply to one workload, and nobody is asked there; elsewhere, the provider of \
                     {} is: name the workload",
                    policy.name, other.name, policy.name
                )),
            }
        };
        enforced.map(in_question).collect()
    }

    /// Says that no CUSTOM policy names one of these providers.
    #[must_use]
    pub fn unknown_provider<'n>(&self, mut names: impl Iterator<Item = &'n str>) -> Option<String> {
        let known: BTreeSet<_> =
            self.resources.policies.iter().filter_map(|resource| resource.policy.provider.as_deref()).collect();
        let unknown = names.find(|name| !known.contains(name))?;
        let hint = match suggestion(unknown, known.iter().copied()) {
            Some(near) => format!("; did you mean `{near}`?"),
            None => String::new(),
        };
        Some(format!("no CUSTOM policy in the input names the provider `{unknown}`{hint}"))
    }

    /// The policies that apply, compiled for a filter that refuses what CUSTOM policies match.
    #[must_use]
    pub fn engine_that_refuses(&self, traffic: Traffic) -> Engine {
        let policies = self.applying().map(|resource| &resource.policy);
        Engine::new(policies, &Options { traffic, ..self.mesh.options() })
    }

    /// The policies that apply, compiled, for what the providers of CUSTOM policies have allowed.
    #[must_use]
    pub fn engine_behind_provider(&self, traffic: Traffic) -> Engine {
        let policies = self.applying().map(|resource| &resource.policy);
        let options = Options { traffic, ..self.mesh.options() };
        Engine::new(policies.filter(|policy| policy.action != Action::Custom), &options)
    }

    /// The policies that apply to this traffic, compiled. Envoy asks the providers, if it can.
    #[must_use]
    pub fn engine(&self, traffic: Traffic) -> Engine {
        let providers = Providers::of(&self.resources);
        let is_asked = !self.asked_providers(traffic, &providers).is_empty();
        let custom = if is_asked { self.mesh.custom() } else { Custom::Refuse };
        let options = Options { custom, traffic, ..self.mesh.options() };
        Engine::new(self.applying_to(traffic, &providers).map(|resource| &resource.policy), &options)
    }
}

/// The policies of a set, compiled when they are first needed.
#[derive(Debug)]
pub struct Engines<'s> {
    set: &'s PolicySet,
    http: OnceLock<Engine>,
    tcp: OnceLock<Engine>,
}

impl<'s> Engines<'s> {
    /// Those of this set.
    #[must_use]
    pub fn of(set: &'s PolicySet) -> Self {
        Self { set, http: OnceLock::new(), tcp: OnceLock::new() }
    }

    /// The policies for this traffic.
    pub fn engine(&self, traffic: Traffic) -> &Engine {
        let engine = match traffic {
            Traffic::Http => &self.http,
            Traffic::Tcp => &self.tcp,
        };
        engine.get_or_init(|| self.set.engine(traffic))
    }
}
