//! Policies that allow what was allowed: made from the requests in logs that were allowed, and whose peers are known.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`observed`] | collects what was allowed and what was refused |
//! | [`paths`] | finds the parts of paths that vary |
//! | [`metrics`] | reads the peers of workloads from Istio's metrics |
//!
//! Nothing is guessed: a principal, a method or a path is in a policy only if a request had it and was allowed. A part of a path
//! becomes `{*}` only if many values were seen there, and never if the result would allow a request that was refused.

pub mod metrics;
pub mod observed;
pub mod paths;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use mesh_authz::config::Mesh;
use mesh_authz::engine::{Engine, Options, Verdict};
use mesh_authz::identity::{LOCAL_TRUST_DOMAIN, TrustDomains};
use mesh_authz::policy::scope::Workload;
use mesh_authz::policy::{AuthorizationPolicy, TargetKind, Traffic};
use mesh_authz::request::{Lookup, Request};
use serde_json::{Map, Value, json};

use self::observed::{Access, OfWorkload, Refused, What};
use self::paths::Patterns;
use crate::load::Resources;
use crate::load::finding::SourceText;

/// A policy, and what it is made of.
#[derive(Debug)]
pub struct Suggestion {
    /// The policy, as a resource.
    pub policy: Value,
    /// How many requests it is made of.
    pub requests: u64,
    /// The patterns that stand for several paths, and how many.
    pub generalized: BTreeMap<String, usize>,
    /// How many different requests were refused, and still are.
    pub refused: usize,
    /// How many different requests were both allowed and refused. They are allowed.
    pub also_refused: usize,
    /// What was allowed and is left out, and why.
    pub left_out: Vec<String>,
}

/// A policy that allows what a workload was seen to allow. `None`: it was not seen to allow anything.
///
/// # Errors
/// The policy is not valid.
pub fn suggest(
    name: &str,
    workload: &Workload,
    observed: OfWorkload,
    mesh: &Mesh,
) -> Result<Option<Suggestion>, String> {
    let mut left_out = Vec::new();
    let (mut observed, unnamed) = Names::new(mesh).of_observed(observed);
    for (principal, count) in unnamed {
        left_out.push(format!("{} of {principal}, {}", requests(count), why_not_to_be_named(mesh)));
    }
    let mut patterns = Patterns::of(observed.allowed.keys().filter_map(Access::path));
    let is_about_http = |access: &Access| access.path().is_some();
    if observed.allowed.keys().any(is_about_http) && !observed.allowed.keys().all(is_about_http) {
        let connections = observed.allowed.keys().filter(|access| !is_about_http(access)).count();
        observed.allowed.retain(|access, _| is_about_http(access));
        left_out.push(format!(
            "connections of {connections} kinds, because the workload answers requests too: a rule for a port would allow every \
             request to it"
        ));
    }
    // To whom these were refused is not known.
    let allowed: BTreeSet<_> = observed.allowed.keys().filter_map(Access::path).collect();
    for path in observed.refused_to_somebody.iter().filter_map(What::path).filter(|path| !allowed.contains(path)) {
        patterns.keep_apart(path);
    }
    loop {
        if observed.allowed.is_empty() {
            return Ok(None);
        }
        let policy = policy(name, workload, &observed, &patterns);
        let compiled = Compiled::new(&policy, mesh)?;
        // A pattern that a refused request matches says too much.
        let mut too_wide = Vec::new();
        for refused in observed.refused.iter().filter(|refused| !observed.allows(refused)) {
            if let (What::Http { path, .. }, true) =
                (&refused.what, compiled.allows(refused.principal.as_deref(), &refused.what))
            {
                too_wide.extend(patterns.keep_apart(path).into_iter().map(|pattern| (pattern, refused.clone())));
            }
        }
        // A wildcard of Envoy does not match every byte.
        let missed: Vec<_> =
            observed.allowed.keys().filter(|access| !compiled.allows(Some(&access.principal), &access.what)).collect();
        let mut is_kept = false;
        for path in missed.iter().filter_map(|access| access.path()) {
            is_kept |= patterns.keep(path);
        }
        if too_wide.is_empty() && !is_kept && missed.is_empty() {
            let (also_refused, refused): (Vec<_>, Vec<_>) =
                observed.refused.iter().partition(|refused| observed.allows(refused));
            return Ok(Some(Suggestion {
                requests: observed.allowed.values().fold(0, |sum, count| sum.saturating_add(*count)),
                generalized: patterns.generalized().clone(),
                refused: refused.len(),
                also_refused: also_refused.len(),
                left_out,
                policy,
            }));
        }
        if too_wide.is_empty() && !is_kept {
            let missed: BTreeSet<Access> = missed.into_iter().cloned().collect();
            left_out.extend(missed.iter().map(|access| format!("{access}, because no rule allows only that")));
            observed.allowed.retain(|access, _| !missed.contains(access));
        }
        for ((pattern, count), refused) in too_wide {
            if count > MOST_PATHS {
                let paths: BTreeSet<_> = patterns.paths_of(&pattern).map(str::to_owned).collect();
                observed.allowed.retain(|access, _| access.path().is_none_or(|path| !paths.contains(path)));
                left_out.push(format!("{count} paths like {pattern}, because {refused} was refused"));
            }
        }
    }
}

/// How a policy names peers.
#[derive(Debug)]
pub struct Names(TrustDomains);

impl Names {
    /// In this mesh.
    #[must_use]
    pub fn new(mesh: &Mesh) -> Self {
        Self(mesh.options().trust_domains)
    }

    /// The name for a principal: in a policy, all trust domains of the mesh mean the same. `None`: it would mean somebody else,
    /// because `cluster.local` stands for the mesh's trust domain.
    #[must_use]
    pub fn of(&self, principal: &str) -> Option<String> {
        let same = self.0.expand_principal(principal);
        same.iter().any(|same| same == principal).then(|| same.into_iter().next()).flatten()
    }

    /// Names all peers. Returns also how many requests came from those that have no name.
    fn of_observed(&self, observed: OfWorkload) -> (OfWorkload, BTreeMap<String, u64>) {
        let mut named = OfWorkload { refused_to_somebody: observed.refused_to_somebody, ..OfWorkload::default() };
        let mut unnamed: BTreeMap<String, u64> = BTreeMap::new();
        for (access, count) in observed.allowed {
            let counted = match self.of(&access.principal) {
                Some(principal) => named.allowed.entry(Access { principal, what: access.what }).or_default(),
                None => unnamed.entry(access.principal).or_default(),
            };
            *counted = counted.saturating_add(count);
        }
        for Refused { principal, what } in observed.refused {
            let principal = principal.map(|principal| self.of(&principal).unwrap_or(principal));
            named.refused.insert(Refused { principal, what });
        }
        (named, unnamed)
    }
}

/// So many requests.
#[must_use]
pub fn requests(count: u64) -> String {
    if count == 1 { "1 request".to_owned() } else { format!("{count} requests") }
}

/// Why a policy has no name for a principal.
#[must_use]
pub fn why_not_to_be_named(mesh: &Mesh) -> String {
    let own = &mesh.trust_domain;
    format!(
        "because `{LOCAL_TRUST_DOMAIN}` in a policy stands for the mesh's trust domain, which is {own}: see --trust-domain"
    )
}

/// A policy does not list more paths than this that one pattern would stand for.
const MOST_PATHS: usize = 1_000;

/// A policy of its own, with the engines that decide by it alone.
struct Compiled([Engine; 2]);

impl Compiled {
    fn new(policy: &Value, mesh: &Mesh) -> Result<Self, String> {
        let resources = Resources::of(&Arc::new(SourceText::new(PathBuf::from("the suggestion"), policy.to_string())));
        if let Some(finding) = resources.findings.first() {
            return Err(finding.to_string());
        }
        let policies: Vec<&AuthorizationPolicy> = resources.policies.iter().map(|resource| &resource.policy).collect();
        let engine = |traffic| Engine::new(policies.iter().copied(), &Options { traffic, ..mesh.options() });
        Ok(Self([engine(Traffic::Http), engine(Traffic::Tcp)]))
    }

    fn allows(&self, principal: Option<&str>, what: &What) -> bool {
        let Self([http, tcp]) = self;
        let with_peer = |request: Request| match principal {
            Some(principal) => request.principal(principal),
            None => request,
        };
        let (engine, request) = match what {
            What::Http { method, path } => (http, Request::new(method, path)),
            What::Tcp { port } => (tcp, Request::default().destination_port(Lookup::Value(*port))),
        };
        engine.decide(&with_peer(request)).outcome.verdict() == Verdict::Allow
    }
}

/// What a rule allows: methods and patterns of paths, or ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Allowed {
    Http { pattern: String, method: String },
    Tcp { port: u16 },
}

fn policy(name: &str, workload: &Workload, observed: &OfWorkload, patterns: &Patterns) -> Value {
    let mut of_peers: BTreeMap<&str, BTreeSet<Allowed>> = BTreeMap::new();
    let mut peers_of: BTreeMap<Allowed, BTreeSet<&str>> = BTreeMap::new();
    for Access { principal, what } in observed.allowed.keys() {
        let allowed = match what {
            What::Http { method, path } => {
                Allowed::Http { pattern: patterns.pattern(path).to_owned(), method: method.clone() }
            }
            What::Tcp { port } => Allowed::Tcp { port: *port },
        };
        of_peers.entry(principal).or_default().insert(allowed.clone());
        peers_of.entry(allowed).or_default().insert(principal);
    }
    // Peers that may do the same share a rule, or what the same peers may do does: whichever has fewer rules.
    let mut by_access: BTreeMap<BTreeSet<Allowed>, BTreeSet<&str>> = BTreeMap::new();
    for (peer, allowed) in of_peers {
        by_access.entry(allowed).or_default().insert(peer);
    }
    let mut by_peers: BTreeMap<BTreeSet<&str>, BTreeSet<Allowed>> = BTreeMap::new();
    for (allowed, peers) in peers_of {
        by_peers.entry(peers).or_default().insert(allowed);
    }
    let mut rules: Vec<(BTreeSet<&str>, BTreeSet<Allowed>)> = if by_peers.len() < by_access.len() {
        by_peers.into_iter().collect()
    } else {
        by_access.into_iter().map(|(allowed, peers)| (peers, allowed)).collect()
    };
    rules.sort();
    let rules: Vec<_> = rules
        .into_iter()
        .map(|(peers, allowed)| json!({ "from": [{ "source": { "principals": peers } }], "to": operations(allowed) }))
        .collect();
    let mut spec = Map::new();
    spec.insert("action".to_owned(), json!("ALLOW"));
    spec.insert("rules".to_owned(), json!(rules));
    target(workload, &mut spec);
    json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": { "name": name, "namespace": workload.namespace },
        "spec": spec,
    })
}

/// The operations of a rule: paths with the same methods are one.
fn operations(allowed: BTreeSet<Allowed>) -> Vec<Value> {
    let mut methods: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut ports = BTreeSet::new();
    for allowed in allowed {
        match allowed {
            Allowed::Http { pattern, method } => {
                methods.entry(pattern).or_default().insert(method);
            }
            Allowed::Tcp { port } => {
                ports.insert(port.to_string());
            }
        }
    }
    let mut paths: BTreeMap<BTreeSet<String>, BTreeSet<String>> = BTreeMap::new();
    for (pattern, methods) in methods {
        paths.entry(methods).or_default().insert(pattern);
    }
    let http = paths.into_iter().map(|(methods, paths)| json!({ "operation": { "methods": methods, "paths": paths } }));
    let tcp = (!ports.is_empty()).then(|| json!({ "operation": { "ports": ports } }));
    http.chain(tcp).collect()
}

/// Which workloads the policy is for.
fn target(workload: &Workload, spec: &mut Map<String, Value>) {
    if let Some(gateway) = &workload.gateway {
        let service = gateway.all_services().next();
        let reference = match service {
            Some((TargetKind::ServiceEntry, service)) => {
                json!({ "group": "networking.istio.io", "kind": "ServiceEntry", "name": service.name })
            }
            Some((_, service)) => json!({ "group": "", "kind": "Service", "name": service.name }),
            None => json!({ "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": gateway.name }),
        };
        spec.insert("targetRefs".to_owned(), json!([reference]));
        return;
    }
    let labels: BTreeMap<_, _> = workload.labels.iter().flat_map(|labels| labels.iter()).cloned().collect();
    if !labels.is_empty() {
        spec.insert("selector".to_owned(), json!({ "matchLabels": labels }));
    }
}
