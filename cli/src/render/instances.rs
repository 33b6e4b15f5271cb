//! Plans which instances of the filter a cluster needs, and which policies each instance carries.
//!
//! Each `WasmPlugin` or `TrafficExtension` of Istio is a separate filter on every workload that it selects, and a
//! request must pass all of these filters. But policies are combined per workload, where the ALLOW policies are a
//! union. An instance with only one of two ALLOW policies refuses what the other one allows. An instance that lacks a
//! DENY policy allows what this policy refuses. So every instance must make the decision of all policies together on
//! its own:
//!
//! 1. **An instance carries every policy that can apply to any workload it is loaded on.** When the instance is loaded,
//!    it decides which of them apply, from the namespace and the labels in the node's metadata. A policy is left out
//!    only if it provably applies to none of the instance's workloads. This is so if both the policy and the instance
//!    are bound to namespaces, and these differ; or if both name a value of the same label, and these values differ. To
//!    carry too many policies is never wrong.
//! 2. **Where a policy applies, an instance is loaded.** There is one instance for every namespace and selector that
//!    policies have. An instance is left out if another one also selects all of its workloads, because the other one
//!    carries its policies too.
//!
//! **Labels change while a pod runs**, and its proxy does not learn of it: istiod selects by the new ones. So an instance
//! with a selector is told that its workload has these labels. The others can be out of date, and an instance would then
//! decide by the wrong ALLOW policies. Istio's own enforcement beside it closes that. If HTTP is let through Istio's ALLOW
//! policies, then only at places where nothing depends on labels that can be out of date: an instance with this very
//! selector stands there, and each ALLOW policy that can apply applies to all of the workloads, or is told apart by its
//! namespace.
//!
//! By 1, every instance on a workload makes the decision of the policies that apply to the workload, so all instances
//! together make the same decision. By 2, there is at least one instance. Therefore selectors may overlap, and the
//! order of the instances does not matter.
//!
//! **Directions.** Istio loads such a filter on all listeners of a proxy. On the outgoing listeners of a sidecar, an ALLOW
//! policy would refuse the requests that the workload sends to others. `match: [{mode: SERVER}]` would keep the filter away
//! from there, but also from gateways, which are clients to Istio. So there is no `match`: the filter itself knows where it
//! is, and lets pass what a sidecar's workload sends (`outgoing: pass`). One instance protects sidecars and gateways,
//! whatever their labels.
//!
//! **CUSTOM policies** stay with Istio, which asks their providers. No instance carries them.
//!
//! **Gateways and waypoints.** A policy with `targetRefs` to a Gateway gets an instance with the same target. Each waypoint
//! gets one instance, with the policies for it and for all services, see `waypoint`. Which Gateways are waypoints is given.
//! If the input has a Gateway of a waypoint's class that is not given, its policies are refused: on a waypoint, an instance
//! for a gateway decides nothing right.

mod gateways;
mod near;
mod waypoint;

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt;

use mesh_authz::diagnostic::{Diagnostic, Path, Segment};
use mesh_authz::policy::scope::{GATEWAY_NAME_LABEL, Gateway, WAYPOINT_CLASS};
use mesh_authz::policy::{Action, AuthorizationPolicy, Target, TargetKind, TargetReference, is_only_known_to_istiod};

pub use self::gateways::{Gateways, Known, Role};
use self::near::Near;
pub use self::waypoint::Hosts;
use crate::load::finding::Finding;
use crate::load::{LoadedPolicy, let_through};

/// What the command knows about the cluster.
#[derive(Clone, Debug)]
pub struct Topology<'m> {
    /// The namespace whose policies are for workloads in every namespace.
    pub root_namespace: &'m str,
    /// The waypoints to render for.
    pub waypoints: &'m BTreeSet<Waypoint>,
    /// The hosts of the services behind them.
    pub hosts: Hosts<'m>,
    /// The Gateways of the input.
    pub gateways: Gateways<'m>,
    /// The revision of the control plane to render for. `None`: policies of all revisions are rendered.
    pub revision: Option<&'m str>,
}

/// The namespace and the name of a waypoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waypoint {
    pub namespace: String,
    pub name: String,
}

impl Waypoint {
    fn is(&self, namespace: &str, name: &str) -> bool {
        self.namespace == namespace && self.name == name
    }

    /// The place of the instance on it.
    #[must_use]
    pub fn place(&self) -> Location {
        Location { namespace: self.namespace.clone(), attachment: Attachment::Gateway(self.name.clone()) }
    }
}

/// As the option `--waypoint` has it.
impl fmt::Display for Waypoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What a resource is attached to: in its own namespace or, for a selector in the root namespace, in every namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attachment {
    /// The workloads with these labels.
    Selector(BTreeSet<(String, String)>),
    /// The gateway or waypoint of this name.
    Gateway(String),
}

/// A resource's place: its namespace and what it is attached to there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    pub namespace: String,
    pub attachment: Attachment,
}

/// One extension resource: a `WasmPlugin` or a `TrafficExtension`.
#[derive(Clone, Debug)]
pub struct Instance<'r> {
    /// The place that it is loaded in.
    pub place: Location,
    /// What the filter is told about the waypoint that it is loaded on.
    pub waypoint: Option<Gateway>,
    /// The policies that it carries, sorted by name.
    pub policies: Vec<&'r LoadedPolicy>,
    /// Whether it is loaded on workloads that none of its policies applies to.
    pub reaches_further: bool,
}

/// An ALLOW policy at a place where HTTP is not let through.
#[derive(Clone, Debug)]
pub struct Native<'r> {
    pub place: Location,
    pub policy: &'r LoadedPolicy,
    /// Another ALLOW policy, which applies to a part of what is at this place: as labels decide or, on a waypoint, to one
    /// service.
    pub beside: &'r LoadedPolicy,
}

/// The resources that a cluster needs.
#[derive(Debug, Default)]
pub struct Plan<'r> {
    /// The extension resources, one for each place.
    pub instances: Vec<Instance<'r>>,
    /// The places where Envoy has to tell the filter what it cannot see by itself.
    pub needs_filter_state: Vec<Location>,
    /// Where an ALLOW policy is in force, so that Istio itself refuses what no ALLOW policy allows, and HTTP can be let
    /// through to an instance: one stands at each of these places, and knows which policies apply.
    pub restricted: Vec<Location>,
    /// ALLOW policies that Istio goes on to enforce about HTTP.
    pub native: Vec<Native<'r>>,
    /// All policies that are not for another revision, sorted by name.
    pub own: Vec<&'r LoadedPolicy>,
    /// The CUSTOM policies among them. No instance carries them.
    pub custom: Vec<&'r LoadedPolicy>,
    /// Policies that apply to nothing, whatever the cluster.
    pub idle: Vec<&'r LoadedPolicy>,
    /// Policies that are for every waypoint. Only the waypoints to render for have an instance with them.
    pub of_every_waypoint: Vec<&'r LoadedPolicy>,
    /// Policies for another revision of the control plane.
    pub other_revision: Vec<&'r LoadedPolicy>,
    /// Policies that cannot be rendered.
    pub refused: Vec<Finding>,
}

/// A set of workloads, as a resource or a policy describes it. If `namespace` is `None`, they are in any namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct WorkloadSet {
    namespace: Option<String>,
    labels: BTreeSet<(String, String)>,
}

impl WorkloadSet {
    fn of_labels(namespace: &str, labels: BTreeSet<(String, String)>, root_namespace: &str) -> Self {
        let namespace = (namespace != root_namespace).then(|| namespace.to_owned());
        Self { namespace, labels }
    }

    /// A gateway is in the namespace of the resource or policy that names it, even if that is the root namespace. The
    /// value of its label is its name.
    fn of_gateway(namespace: &str, name: &str) -> Self {
        let label = (GATEWAY_NAME_LABEL.to_owned(), name.to_owned());
        Self { namespace: Some(namespace.to_owned()), labels: BTreeSet::from([label]) }
    }

    /// Whether a workload may be in both sets.
    fn meets(&self, other: &Self) -> bool {
        let namespaces_differ =
            self.namespace.is_some() && other.namespace.is_some() && self.namespace != other.namespace;
        let differs = |(key, value): &(String, String)| {
            other.labels.iter().any(|(other_key, other_value)| key == other_key && value != other_value)
        };
        !namespaces_differ && !self.labels.iter().any(differs)
    }

    /// Whether every workload of the other set is in this one.
    fn covers(&self, other: &Self) -> bool {
        (self.namespace.is_none() || self.namespace == other.namespace) && self.labels.is_subset(&other.labels)
    }

    /// Whether labels decide whether a workload of this set is also in the other one.
    fn tells_apart_by_labels(&self, other: &Self) -> bool {
        self.meets(other) && !other.labels.is_subset(&self.labels)
    }

    fn place(&self, root_namespace: &str) -> Location {
        let namespace = self.namespace.clone().unwrap_or_else(|| root_namespace.to_owned());
        Location { namespace, attachment: Attachment::Selector(self.labels.clone()) }
    }
}

/// A place, and the workloads there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Reach {
    place: Location,
    workloads: WorkloadSet,
}

impl Reach {
    fn is_gateway(&self) -> bool {
        matches!(self.place.attachment, Attachment::Gateway(_))
    }

    fn covers(&self, other: &Self) -> bool {
        self.workloads.covers(&other.workloads)
    }
}

/// What a target reference means in the topology.
enum ResolvedTarget<'t> {
    Gateway(String),
    Waypoint(&'t Waypoint),
    EveryWaypoint,
    Service(TargetKind, String),
    NoWaypointGiven,
    /// A Gateway of the input that needs to be given as a waypoint.
    WaypointNotGiven(String, Known<'t>),
    /// A Gateway of the input that loads no filter.
    NoEnvoy(String, Known<'t>),
    Nothing,
}

impl Topology<'_> {
    fn meaning(&self, reference: &TargetReference, namespace: &str) -> ResolvedTarget<'_> {
        let TargetReference { kind, name } = reference;
        match kind {
            TargetKind::Gateway => self.gateway(namespace, name),
            TargetKind::GatewayClass if namespace != self.root_namespace || name != WAYPOINT_CLASS => {
                ResolvedTarget::Nothing
            }
            _ if self.waypoints.is_empty() => ResolvedTarget::NoWaypointGiven,
            TargetKind::GatewayClass => ResolvedTarget::EveryWaypoint,
            TargetKind::Service | TargetKind::ServiceEntry => ResolvedTarget::Service(*kind, name.clone()),
        }
    }

    fn gateway(&self, namespace: &str, name: &str) -> ResolvedTarget<'_> {
        if let Some(waypoint) = self.waypoints.iter().find(|waypoint| waypoint.is(namespace, name)) {
            return ResolvedTarget::Waypoint(waypoint);
        }
        let name = name.to_owned();
        match self.gateways.get(namespace, &name) {
            Some(known) if known.role.is_waypoint() => ResolvedTarget::WaypointNotGiven(name, known),
            Some(known) if known.role == Role::NoEnvoy => ResolvedTarget::NoEnvoy(name, known),
            _ => ResolvedTarget::Gateway(name),
        }
    }

    /// The waypoints of the input that are not given.
    pub fn waypoints_not_given(&self) -> impl Iterator<Item = Waypoint> {
        let of_input = self.gateways.waypoints();
        let of_input = of_input.map(|(namespace, name)| Waypoint { namespace: namespace.into(), name: name.into() });
        of_input.filter(|waypoint| !self.waypoints.contains(waypoint))
    }

    fn meanings(&self, policy: &AuthorizationPolicy) -> Vec<ResolvedTarget<'_>> {
        let Target::References(references) = &policy.target else { return Vec::new() };
        references.iter().map(|reference| self.meaning(reference, &policy.name.namespace)).collect()
    }

    /// The places that a policy is for, without waypoints.
    pub fn places(&self, policy: &AuthorizationPolicy) -> impl Iterator<Item = Location> {
        self.reaches(policy).into_iter().map(|reach| reach.place)
    }

    fn reaches(&self, policy: &AuthorizationPolicy) -> Vec<Reach> {
        let namespace = &policy.name.namespace;
        let selected = |labels| {
            let workloads = WorkloadSet::of_labels(namespace, labels, self.root_namespace);
            Reach { place: workloads.place(self.root_namespace), workloads }
        };
        match &policy.target {
            Target::Everything => vec![selected(BTreeSet::new())],
            Target::Labels(labels) => vec![selected(labels.iter().cloned().collect())],
            Target::References(_) => {
                let gateways = self.meanings(policy).into_iter().filter_map(|meaning| match meaning {
                    ResolvedTarget::Gateway(name) => Some(Reach {
                        workloads: WorkloadSet::of_gateway(namespace, &name),
                        place: Location { namespace: namespace.clone(), attachment: Attachment::Gateway(name) },
                    }),
                    _ => None,
                });
                gateways.collect()
            }
        }
    }
}

/// What Istio itself decides about HTTP requests, beside the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NativeHttp {
    /// All policies.
    All,
    /// DENY policies. ALLOW policies only where the plugin does not surely know which of them apply.
    Denials,
    /// As [`Self::Denials`], without DENY policies.
    Nothing,
}

/// Plans the instances for these policies.
#[must_use]
pub fn plan<'r>(resources: &'r [LoadedPolicy], topology: &Topology<'_>, native: NativeHttp) -> Plan<'r> {
    let is_own = |resource: &&LoadedPolicy| match (&resource.policy.revision, topology.revision) {
        (Some(revision), Some(own)) => revision == own,
        _ => true,
    };
    let given = resources.iter().filter(|resource| !let_through::is_stopper(&resource.node));
    let (mut policies, other_revision): (Vec<_>, Vec<_>) = given.partition(is_own);
    policies.sort_by(|a, b| a.policy.name.cmp(&b.policy.name));
    let mut plan = Plan { other_revision, own: policies.clone(), ..Plan::default() };
    (plan.custom, policies) = policies.into_iter().partition(|resource| resource.policy.action == Action::Custom);
    let (targeted, selecting): (Vec<&LoadedPolicy>, Vec<_>) =
        policies.iter().partition(|resource| matches!(resource.policy.target, Target::References(_)));

    // Each is compared with every instance, so that this is done once.
    let reaching: Vec<(&LoadedPolicy, Vec<Reach>)> =
        policies.iter().map(|resource| (*resource, topology.reaches(&resource.policy))).collect();
    let near = near(&reaching);
    let instance = |reach: &Reach| {
        let meeting =
            near.of(&reach.workloads).into_iter().filter(|(other, _)| reach.workloads.meets(&other.workloads));
        let meeting: Vec<_> = meeting.collect();
        let reaches_further = !meeting.iter().any(|(other, _)| other.covers(reach));
        let mut policies: Vec<_> = meeting.into_iter().map(|(_, resource)| resource).collect();
        // A policy can reach several places. They stand one after the other.
        policies.dedup_by(|one, other| std::ptr::eq(*one, *other));
        Instance { place: reach.place.clone(), waypoint: None, policies, reaches_further }
    };

    let (gateways, selected): (BTreeSet<_>, BTreeSet<_>) =
        reaching.iter().flat_map(|(_, reaches)| reaches).partition(|reach| reach.is_gateway());
    add_let_through(&mut plan, &reaching);
    // An instance has to be told that its workloads have these labels, where Istio may not decide by them. That does not
    // depend on other policies, so that a new policy never makes an instance vanish from the output.
    let may_be_decided_here = |resource: &LoadedPolicy| match native {
        NativeHttp::All => false,
        NativeHttp::Denials => restricts(resource),
        NativeHttp::Nothing => {
            restricts(resource) || (resource.policy.action == Action::Deny && !resource.policy.dry_run)
        }
    };
    let decided_here: BTreeSet<_> = reaching
        .iter()
        .filter(|(resource, _)| may_be_decided_here(resource))
        .flat_map(|(_, reaches)| reaches.iter().map(|reach| &reach.workloads))
        .collect();
    let replaces = |wider: &Reach, reach: &Reach| {
        wider.covers(reach)
            && (wider.workloads.labels == reach.workloads.labels || !decided_here.contains(&reach.workloads))
    };
    let gateways = || gateways.iter().copied();
    let mut selected_by = widest(&selected, replaces);
    // While resources are applied one after the other, a workload first gets those that know more of its labels.
    selected_by.sort_by_key(|reach| Reverse(reach.workloads.labels.len()));
    plan.instances.extend(selected_by.into_iter().chain(gateways()).map(instance));
    let widest = widest(&selected, Reach::covers).into_iter().chain(gateways());
    plan.needs_filter_state.extend(widest.map(|reach| reach.place.clone()));
    plan.refused.extend(selecting.iter().filter_map(|resource| unknown_to_the_filter(resource)));
    for resource in &targeted {
        let meanings = topology.meanings(&resource.policy);
        if meanings.iter().all(|meaning| matches!(meaning, ResolvedTarget::Nothing)) {
            plan.idle.push(resource);
        }
        if meanings.iter().any(|meaning| matches!(meaning, ResolvedTarget::EveryWaypoint)) {
            plan.of_every_waypoint.push(resource);
        }
        plan.refused.extend(refusals(resource, &meanings));
    }
    waypoint::add(&mut plan, &targeted, topology);
    plan
}

/// Adds the places where HTTP can be let through, without waypoints, and the ALLOW policies of other places.
fn add_let_through<'r>(plan: &mut Plan<'r>, reaching: &[(&'r LoadedPolicy, Vec<Reach>)]) {
    let restricting = || reaching.iter().filter(|(resource, _)| restricts(resource));
    let near = near(restricting());
    let mut certain = BTreeSet::new();
    for (resource, reach) in restricting().flat_map(|(resource, reaches)| reaches.iter().map(move |it| (*resource, it)))
    {
        let mut others = near.of(&reach.workloads).into_iter();
        match others.find(|(other, _)| reach.workloads.tells_apart_by_labels(&other.workloads)) {
            Some((_, beside)) => plan.native.push(Native { place: reach.place.clone(), policy: resource, beside }),
            None => drop(certain.insert(reach)),
        }
    }
    let is_wider = |wider: &Reach, reach: &Reach| wider.covers(reach) && !reach.covers(wider);
    plan.restricted.extend(widest(&certain, is_wider).into_iter().map(|reach| reach.place.clone()));
}

/// Whether Istio refuses what this policy, and no other one, allows.
fn restricts(resource: &LoadedPolicy) -> bool {
    resource.policy.action == Action::Allow && !resource.policy.dry_run
}

/// The places of policies, to find those that meet others.
fn near<'r, 'p>(
    reaching: impl IntoIterator<Item = &'p (&'r LoadedPolicy, Vec<Reach>), IntoIter: Clone>,
) -> Near<'p, (&'p Reach, &'r LoadedPolicy)>
where
    'r: 'p,
{
    let each = |(resource, reaches): &'p (&'r LoadedPolicy, Vec<Reach>)| {
        reaches.iter().map(move |reach| (&reach.workloads, (reach, *resource)))
    };
    Near::new(reaching.into_iter().flat_map(each))
}

/// The places that no other one replaces. What replaces a place also covers it.
fn widest<'p>(reaches: &BTreeSet<&'p Reach>, replaces: impl Fn(&Reach, &Reach) -> bool) -> Vec<&'p Reach> {
    let near = Near::new(reaches.iter().map(|reach| (&reach.workloads, *reach)));
    let is_replaced =
        |reach: &Reach| near.of(&reach.workloads).into_iter().any(|other| other != reach && replaces(other, reach));
    reaches.iter().copied().filter(|reach| !is_replaced(reach)).collect()
}

/// A policy that selects by a label of which the filter cannot know what istiod knows.
fn unknown_to_the_filter(resource: &LoadedPolicy) -> Option<Finding> {
    let Target::Labels(labels) = &resource.policy.target else { return None };
    let (key, _) = labels.iter().find(|(key, _)| is_only_known_to_istiod(key))?;
    Some(refusal_at(
        resource,
        Path::of(["spec", "selector", "matchLabels", key]),
        "a proxy does not know this label as istiod does, so the filter could not tell whether the policy applies",
        "select by another label; or apply this policy to Istio alone, and render only policies for other workloads",
    ))
}

/// Why a policy with these targets cannot be rendered.
fn refusals(resource: &LoadedPolicy, meanings: &[ResolvedTarget<'_>]) -> Vec<Finding> {
    let namespace = &resource.policy.name.namespace;
    let mut refusals = Vec::new();
    if meanings.iter().any(|meaning| matches!(meaning, ResolvedTarget::NoWaypointGiven)) {
        let message = "is for a waypoint, and the filter has to know which";
        refusals.push(refusal(resource, message, "name it with --waypoint NAMESPACE/NAME"));
    }
    for (index, meaning) in meanings.iter().enumerate() {
        let mut refuse = |message: &str, hint: &str| refusals.push(refusal_of(resource, Some(index), message, hint));
        match meaning {
            ResolvedTarget::WaypointNotGiven(name, Known { class, .. }) => {
                let message = format!(
                    "is for the Gateway {namespace}/{name}, which is a waypoint by its class `{class}`, and no --waypoint \
                     names it"
                );
                refuse(&message, &format!("name it with --waypoint {namespace}/{name}"));
            }
            ResolvedTarget::NoEnvoy(name, Known { class, .. }) => {
                let message = format!(
                    "is for the Gateway {namespace}/{name} of the class `{class}`, whose proxy is no Envoy and loads no plugin"
                );
                refuse(&message, "apply the policy as it is, and leave it out of the input");
            }
            _ => {}
        }
    }
    refusals
}

fn refusal(resource: &LoadedPolicy, message: &str, hint: &str) -> Finding {
    refusal_of(resource, None, message, hint)
}

/// The error about one of the policy's target references or, without its index, about all of them.
fn refusal_of(resource: &LoadedPolicy, index: Option<usize>, message: &str, hint: &str) -> Finding {
    let is_single = resource.node.get("spec").is_some_and(|spec| spec.get("targetRef").is_some());
    let mut path = Path::of(["spec", if is_single { "targetRef" } else { "targetRefs" }]);
    path.0.extend(index.filter(|_| !is_single).map(Segment::Index));
    refusal_at(resource, path, message, hint)
}

fn refusal_at(resource: &LoadedPolicy, path: Path, message: &str, hint: &str) -> Finding {
    let diagnostic = Diagnostic {
        policy: Some(resource.policy.name.to_string()),
        path,
        message: message.to_owned(),
        hint: Some(hint.to_owned()),
        ..Diagnostic::default()
    };
    Finding::error(&resource.source, &resource.node, diagnostic)
}
