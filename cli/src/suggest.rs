//! Policies that allow what was allowed: made from the requests in logs that were allowed, and whose peers are known.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`observed`] | collects what was allowed and what was refused |
//! | [`paths`] | finds the parts of paths that vary |
//! | [`metrics`] | reads the peers of workloads from Istio's metrics |
//!
//! Nothing is guessed: a principal, a method or a path is in a policy only if a request had it and was allowed, and never was
//! refused. A part of a path becomes `{*}` only if the same peer used many values there, with the same method, and never if the
//! result would allow a request that was not seen to be allowed.

pub mod metrics;
pub mod observed;
pub mod paths;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use mesh_authz::config::Mesh;
use mesh_authz::engine::{Engine, Options, Verdict};
use mesh_authz::identity::{LOCAL_TRUST_DOMAIN, TrustDomains};
use mesh_authz::policy::scope::{Scope, Workload, scope};
use mesh_authz::policy::{AuthorizationPolicy, TargetKind, Traffic};
use mesh_authz::request::{Lookup, Request};
use serde_json::{Map, Value, json};

use self::observed::{Access, OfWorkload, Peer, Refused, Wanted, What};
use self::paths::{Patterns, Tree};
use crate::load::Resources;
use crate::load::finding::SourceText;
use crate::logs::requests;

/// What is made of what a workload was seen to allow.
#[derive(Debug, Default)]
pub struct Suggestion {
    /// The policies, as resources: several if one cannot have all rules, and none if nothing can be in one.
    pub policies: Vec<Value>,
    /// How many requests it is made of.
    pub requests: u64,
    /// The patterns that stand for several paths, and for how many.
    pub generalized: BTreeMap<String, usize>,
    /// How many different requests were refused, and still are.
    pub refused: usize,
    /// What was allowed and is left out, and why.
    pub left_out: Vec<String>,
}

/// Istio's schema allows no more in one policy.
const MOST_RULES: usize = 512;

/// A policy does not list more paths than this for one peer and one method.
const MOST_PATHS: usize = 1_000;

/// Makes a policy that allows what a workload was seen to allow.
///
/// # Errors
/// The policy is not valid, is not for the workload, or would allow what was refused.
pub fn suggest(name: &str, workload: &Workload, observed: OfWorkload, mesh: &Mesh) -> Result<Suggestion, String> {
    let mut left_out = Vec::new();
    if observed.not_kept > 0 {
        left_out.push(format!("{}, because there are too many different ones", requests(observed.not_kept)));
    }
    let names = Names::new(mesh);
    let (mut observed, unnamed) = names.of_observed(observed);
    for (principal, count) in unnamed {
        left_out.push(format!("{} of {principal}, {}", requests(count), names.why_none()));
    }
    leave_out_connections(&mut observed, &mut left_out);
    leave_out_contradictions(&mut observed, &mut left_out);
    forget_what_was_allowed_too(&mut observed);
    let mut patterns = AllPatterns::of(&observed);
    patterns.keep_apart(&observed, &mut left_out);
    loop {
        leave_out_long_lists(&mut observed, &patterns, &mut left_out);
        if observed.allowed.is_empty() {
            return Ok(Suggestion { left_out, ..Suggestion::default() });
        }
        let policies = policies(name, workload, &observed, &patterns);
        let compiled = Compiled::new(&policies, workload, mesh)?;
        // A wildcard of Envoy does not match every byte.
        let missed: Vec<_> = observed.allowed.keys().filter(|access| !compiled.allows(access)).cloned().collect();
        if !missed.is_empty() {
            let mut is_kept = false;
            for access in &missed {
                is_kept |= patterns.keep(access);
            }
            if !is_kept {
                for access in &missed {
                    left_out.push(format!("{access}, because no rule allows only that"));
                    observed.allowed.remove(access);
                }
            }
            continue;
        }
        let mut refused = observed.refused.iter().filter_map(Refused::as_access);
        if let Some(refused) = refused.find(|access| compiled.allows(access)) {
            return Err(format!("it would allow {refused}, which was not seen to be allowed"));
        }
        return Ok(Suggestion {
            policies,
            requests: observed.allowed.values().fold(0, |sum, count| sum.saturating_add(*count)),
            generalized: patterns.generalized(&observed),
            refused: observed.refused.iter().filter(|r| r.is_denied && r.as_access().is_some()).count(),
            left_out,
        });
    }
}

/// A rule for a port would allow every request to it.
fn leave_out_connections(observed: &mut OfWorkload, left_out: &mut Vec<String>) {
    let connections = observed.allowed.keys().filter(|access| access.path().is_none()).count();
    if observed.has_requests && connections > 0 {
        observed.allowed.retain(|access, _| access.path().is_some());
        left_out.push(format!(
            "connections of {connections} kinds, because the workload answers requests too: a rule for a port would allow every \
             request to it"
        ));
    }
}

/// What was allowed and also refused depends on something that is not in the policy, or the policies have changed.
fn leave_out_contradictions(observed: &mut OfWorkload, left_out: &mut Vec<String>) {
    const FEW: usize = 10;
    for peer in &observed.forgotten {
        let Peer::Named(name) = peer else { continue };
        if observed.allowed.keys().any(|access| access.principal == *name) {
            observed.allowed.retain(|access, _| access.principal != *name);
            left_out.push(format!("all requests of {name}, because more was refused to it than can be kept"));
        }
    }
    // `None`: perhaps to each of the peers.
    let refused =
        observed.refused.iter().filter(|refused| refused.is_denied).map(|Refused { peer, what, .. }| match peer {
            Peer::Named(name) => (Some(name.as_str()), what.clone()),
            Peer::Unknown => (None, what.clone()),
        });
    let refused: BTreeSet<(Option<&str>, Wanted)> = refused.collect();
    let was_refused = |Access { principal, what }: &Access| {
        let wanted = match what {
            What::Tcp { port } => vec![Wanted::Tcp { port: *port }],
            What::Http { method, path } => {
                [Some(method.clone()), None].map(|method| Wanted::Http { method, path: path.clone() }).to_vec()
            }
        };
        let by = |wanted: &Wanted, peer| refused.contains(&(peer, wanted.clone()));
        wanted.iter().any(|wanted| by(wanted, Some(principal)) || by(wanted, None))
    };
    let contradictory: Vec<_> = observed.allowed.keys().filter(|access| was_refused(access)).cloned().collect();
    for access in &contradictory {
        observed.allowed.remove(access);
    }
    for access in contradictory.iter().take(FEW) {
        left_out.push(format!("{access}, because that was refused, too"));
    }
    if let Some(more @ 1..) = contradictory.len().checked_sub(FEW) {
        left_out.push(format!("{more} more kinds of requests that were refused, too"));
    }
}

/// What became of a request is not known, but the same was allowed at another time.
fn forget_what_was_allowed_too(observed: &mut OfWorkload) {
    let allowed = &observed.allowed;
    observed
        .refused
        .retain(|refused| refused.is_denied || refused.as_access().is_none_or(|access| !allowed.contains_key(&access)));
}

/// Nobody reads a policy of thousands of paths.
fn leave_out_long_lists(observed: &mut OfWorkload, patterns: &AllPatterns, left_out: &mut Vec<String>) {
    let mut lists: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for Access { principal, what } in observed.allowed.keys() {
        if let What::Http { method, path } = what {
            lists.entry((principal, method)).or_default().insert(patterns.pattern(principal, method, path));
        }
    }
    let is_pattern = |path: &&&str| path.contains('{');
    let long = lists.into_iter().filter(|(_, paths)| paths.len() > MOST_PATHS);
    let long: BTreeMap<(String, String), bool> = long
        .map(|((principal, method), paths)| {
            let has_too_many_patterns = paths.iter().filter(is_pattern).count() > MOST_PATHS;
            ((principal.to_owned(), method.to_owned()), has_too_many_patterns)
        })
        .collect();
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let is_left_out = |Access { principal, what }: &Access| {
        let What::Http { method, path } = what else { return false };
        let all = long.get(&(principal.clone(), method.clone()));
        all.is_some_and(|all| *all || patterns.pattern(principal, method, path) == path)
    };
    for access in observed.allowed.keys().filter(|access| is_left_out(access)) {
        if let What::Http { method, .. } = &access.what {
            let count = counts.entry((&access.principal, method)).or_default();
            *count = count.saturating_add(1);
        }
    }
    for ((principal, method), count) in counts {
        left_out.push(format!(
            "{method} of {count} paths from {principal}: a policy would have a list of more than {MOST_PATHS}"
        ));
    }
    observed.allowed.retain(|access, _| !is_left_out(access));
}

/// The patterns of each peer and method.
struct AllPatterns(BTreeMap<(String, String), Patterns>);

impl AllPatterns {
    fn of(observed: &OfWorkload) -> Self {
        let mut paths: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
        for Access { principal, what } in observed.allowed.keys() {
            if let What::Http { method, path } = what {
                paths.entry((principal.clone(), method.clone())).or_default().push(path);
            }
        }
        let all = paths.into_iter().map(|(of, paths)| (of, Patterns::of(paths.into_iter(), is_valid_path)));
        Self(all.collect())
    }

    fn pattern<'p>(&'p self, principal: &str, method: &str, path: &'p str) -> &'p str {
        let patterns = self.0.get(&(principal.to_owned(), method.to_owned()));
        patterns.map_or(path, |patterns| patterns.pattern(path))
    }

    /// Does without patterns that could allow what was not seen to be allowed.
    fn keep_apart(&mut self, observed: &OfWorkload, left_out: &mut Vec<String>) {
        let is_unknown = |peers: &BTreeSet<Peer>| peers.contains(&Peer::Unknown);
        let is_any = is_unknown(&observed.without_path) || is_unknown(&observed.forgotten);
        let mut is_without = false;
        for ((principal, _), patterns) in &mut self.0 {
            if is_any || observed.without_path.contains(&Peer::Named(principal.clone())) {
                is_without |= patterns.used().next().is_some();
                patterns.keep_all_apart();
            }
        }
        if is_without {
            left_out.push(
                "patterns for paths, because requests were refused whose path or peer the line does not say, or too many, or \
                 because lines cannot be read"
                    .to_owned(),
            );
        }
        let Some(excluded) = self.excluded(observed) else {
            self.0.values_mut().for_each(Patterns::keep_all_apart);
            left_out.push("patterns for paths, because there are too many".to_owned());
            return;
        };
        for (of, pattern) in excluded {
            if let Some(patterns) = self.0.get_mut(&of) {
                patterns.do_without(&pattern);
            }
        }
    }

    /// The patterns that match what was refused, with the peer and the method that each is for. `None`: to find them takes too
    /// long.
    fn excluded(&self, observed: &OfWorkload) -> Option<BTreeSet<((String, String), String)>> {
        const MOST_SEGMENTS: usize = 50_000;
        let mut steps = 50_000_000;
        let used = || self.0.iter().flat_map(|(of, patterns)| patterns.used().map(move |pattern| (of, pattern)));
        let segments = used().map(|(_, pattern)| pattern.split('/').count()).fold(0, usize::saturating_add);
        if segments > MOST_SEGMENTS {
            return None;
        }
        let trees: BTreeMap<&(String, String), Tree<'_>> =
            self.0.iter().map(|(of, patterns)| (of, Tree::of(patterns.used()))).collect();
        let all = Tree::of(used().map(|(_, pattern)| pattern));
        let mut of_pattern: BTreeMap<&str, Vec<&(String, String)>> = BTreeMap::new();
        for (of, pattern) in used() {
            of_pattern.entry(pattern).or_default().push(of);
        }
        let mut excluded = BTreeSet::new();
        for refused in &observed.refused {
            let Wanted::Http { method, path } = &refused.what else { continue };
            if let (Peer::Named(name), Some(method)) = (&refused.peer, method) {
                let of = (name.clone(), method.clone());
                if let Some(tree) = trees.get(&of) {
                    let patterns = tree.matching(path, &mut steps)?;
                    excluded.extend(patterns.into_iter().map(|pattern| (of.clone(), pattern.to_owned())));
                }
                continue;
            }
            // Of any peer, with this method, or with any.
            for pattern in all.matching(path, &mut steps)? {
                let users = of_pattern.get(pattern).into_iter().flatten();
                for of in users.filter(|(_, of)| method.as_ref().is_none_or(|method| method == of)) {
                    steps = steps.checked_sub(1)?;
                    excluded.insert(((*of).clone(), pattern.to_owned()));
                }
            }
        }
        Some(excluded)
    }

    /// Lets the path stand for itself. Returns whether it did not.
    fn keep(&mut self, Access { principal, what }: &Access) -> bool {
        let What::Http { method, path } = what else { return false };
        let patterns = self.0.get_mut(&(principal.clone(), method.clone()));
        patterns.is_some_and(|patterns| patterns.keep(path))
    }

    /// The patterns that are used, and for how many paths they stand.
    fn generalized(&self, observed: &OfWorkload) -> BTreeMap<String, usize> {
        let mut paths: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for Access { principal, what } in observed.allowed.keys() {
            if let What::Http { method, path } = what {
                let pattern = self.pattern(principal, method, path);
                if pattern != path {
                    paths.entry(pattern.to_owned()).or_default().insert(path);
                }
            }
        }
        paths.into_iter().map(|(pattern, paths)| (pattern, paths.len())).collect()
    }
}

/// Whether `paths` of a policy can have this value.
fn is_valid_path(path: &str) -> bool {
    let rules = json!([{ "to": [{ "operation": { "paths": [path] } }] }]);
    let policy = resource("path", "default", None, &Map::from_iter([("rules".to_owned(), rules)]));
    resources(&policy).findings.is_empty()
}

/// A policy. `revision`: it is for workloads of this revision of the control plane only.
fn resource(name: &str, namespace: &str, revision: Option<&str>, spec: &Map<String, Value>) -> Value {
    let mut metadata = Map::from_iter([("name".to_owned(), json!(name)), ("namespace".to_owned(), json!(namespace))]);
    metadata.extend(revision.map(|revision| ("labels".to_owned(), json!({ "istio.io/rev": revision }))));
    json!({ "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": metadata, "spec": spec })
}

fn resources(policy: &Value) -> Resources {
    Resources::of(&Arc::new(SourceText::new(PathBuf::from("the suggestion"), policy.to_string())))
}

/// How a policy names peers.
#[derive(Debug)]
pub struct Names {
    trust_domains: TrustDomains,
    own: String,
}

impl Names {
    /// In this mesh.
    #[must_use]
    pub fn new(mesh: &Mesh) -> Self {
        Self { trust_domains: mesh.options().trust_domains, own: mesh.trust_domain.clone() }
    }

    /// The name for a principal: in a policy, all trust domains of the mesh mean the same. `None`: it would mean somebody else,
    /// because `cluster.local` stands for the mesh's trust domain.
    #[must_use]
    pub fn of(&self, principal: &str) -> Option<String> {
        let same = self.trust_domains.expand_principal(principal);
        same.iter().any(|same| same == principal).then(|| same.into_iter().next()).flatten()
    }

    /// Why a policy has no name for a principal.
    #[must_use]
    pub fn why_none(&self) -> String {
        let own = &self.own;
        format!(
            "because `{LOCAL_TRUST_DOMAIN}` in a policy stands for the mesh's trust domain, which is {own}: see --trust-domain"
        )
    }

    /// Names all peers. Returns also how many requests came from those that have no name.
    fn of_observed(&self, observed: OfWorkload) -> (OfWorkload, BTreeMap<String, u64>) {
        let mut named = OfWorkload {
            has_requests: observed.has_requests,
            without_path: self.of_peers(observed.without_path),
            forgotten: self.of_peers(observed.forgotten),
            ..OfWorkload::default()
        };
        let mut unnamed: BTreeMap<String, u64> = BTreeMap::new();
        for (access, count) in observed.allowed {
            let counted = match self.of(&access.principal) {
                Some(principal) => named.allowed.entry(Access { principal, what: access.what }).or_default(),
                None => unnamed.entry(access.principal).or_default(),
            };
            *counted = counted.saturating_add(count);
        }
        for refused in observed.refused {
            named.refused.extend(self.of_peer(refused.peer.clone()).map(|peer| Refused { peer, ..refused }));
        }
        (named, unnamed)
    }

    /// `None`: a policy has no name for the peer, so that it allows it nothing.
    fn of_peer(&self, peer: Peer) -> Option<Peer> {
        match peer {
            Peer::Named(name) => self.of(&name).map(Peer::Named),
            Peer::Unknown => Some(Peer::Unknown),
        }
    }

    fn of_peers(&self, peers: BTreeSet<Peer>) -> BTreeSet<Peer> {
        peers.into_iter().filter_map(|peer| self.of_peer(peer)).collect()
    }
}

/// Policies, with the engines that decide by them alone.
struct Compiled([Engine; 2]);

impl Compiled {
    fn new(policies: &[Value], workload: &Workload, mesh: &Mesh) -> Result<Self, String> {
        let resources = resources(&json!({ "apiVersion": "v1", "kind": "List", "items": policies }));
        if let Some(finding) = resources.findings.first() {
            return Err(finding.to_string());
        }
        let policies: Vec<&AuthorizationPolicy> = resources.policies.iter().map(|resource| &resource.policy).collect();
        if let Some(policy) = policies.iter().find(|policy| scope(policy, workload) != Scope::Applies) {
            return Err(format!("it is not for the workload: it {}", scope(policy, workload)));
        }
        let engine = |traffic| Engine::new(policies.iter().copied(), &Options { traffic, ..mesh.options() });
        Ok(Self([engine(Traffic::Http), engine(Traffic::Tcp)]))
    }

    fn allows(&self, Access { principal, what }: &Access) -> bool {
        let Self([http, tcp]) = self;
        let (engine, request) = match what {
            What::Http { method, path } => (http, Request::new(method, path)),
            What::Tcp { port } => (tcp, Request::default().destination_port(Lookup::Value(*port))),
        };
        engine.decide(&request.principal(principal)).outcome.verdict() == Verdict::Allow
    }
}

/// A policy that allows these peers everything.
///
/// # Errors
/// It is not valid.
pub fn of_peers(
    name: &str,
    namespace: &str,
    revision: Option<&str>,
    app: &str,
    principals: &BTreeSet<String>,
) -> Result<Value, String> {
    let mut spec = Map::new();
    spec.insert("action".to_owned(), json!("ALLOW"));
    spec.insert("selector".to_owned(), json!({ "matchLabels": { "app": app } }));
    spec.insert("rules".to_owned(), json!([{ "from": [{ "source": { "principals": principals } }] }]));
    let policy = resource(name, namespace, revision, &spec);
    match resources(&policy).findings.first() {
        Some(finding) => Err(finding.to_string()),
        None => Ok(policy),
    }
}

/// What a rule allows: methods and patterns of paths, or ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Allowed {
    Http { pattern: String, method: String },
    Tcp { port: u16 },
}

fn policies(name: &str, workload: &Workload, observed: &OfWorkload, patterns: &AllPatterns) -> Vec<Value> {
    let mut of_peers: BTreeMap<&str, BTreeSet<Allowed>> = BTreeMap::new();
    let mut peers_of: BTreeMap<Allowed, BTreeSet<&str>> = BTreeMap::new();
    for Access { principal, what } in observed.allowed.keys() {
        let allowed = match what {
            What::Http { method, path } => {
                let pattern = patterns.pattern(principal, method, path);
                Allowed::Http { pattern: pattern.to_owned(), method: method.clone() }
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
    let parts = rules.chunks(MOST_RULES).zip(1_usize..).map(|(rules, number)| {
        let mut spec = Map::new();
        spec.insert("action".to_owned(), json!("ALLOW"));
        spec.insert("rules".to_owned(), json!(rules));
        let namespace = target(workload, &mut spec);
        // The name of a workload becomes one without a dot, so that no other policy has this name.
        let name = if number == 1 { name.to_owned() } else { format!("{name}.part-{number}") };
        resource(&name, &namespace, workload.revision.as_deref(), &spec)
    });
    parts.collect()
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

/// Which workloads the policy is for. Returns its namespace: a policy for a service is in the namespace of the service.
fn target(workload: &Workload, spec: &mut Map<String, Value>) -> String {
    if let Some(gateway) = &workload.gateway {
        let (reference, namespace) = match gateway.all_services().next() {
            Some((TargetKind::ServiceEntry, service)) => (
                json!({ "group": "networking.istio.io", "kind": "ServiceEntry", "name": service.name }),
                &service.namespace,
            ),
            Some((_, service)) => (json!({ "group": "", "kind": "Service", "name": service.name }), &service.namespace),
            None => (
                json!({ "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": gateway.name }),
                &workload.namespace,
            ),
        };
        spec.insert("targetRefs".to_owned(), json!([reference]));
        return namespace.clone();
    }
    let labels: BTreeMap<_, _> = workload.labels.iter().flat_map(|labels| labels.iter()).cloned().collect();
    if !labels.is_empty() {
        spec.insert("selector".to_owned(), json!({ "matchLabels": labels }));
    }
    workload.namespace.clone()
}
