//! The waypoints that `render wasm-plugin` and `traffic-extension` render for, and what is said about them.

use std::collections::BTreeSet;

use mesh_authz::diagnostic::{Path, suggestion};
use mesh_authz::policy::scope::GATEWAY_NAME_LABEL;
use mesh_authz::policy::{Action, Target};

use crate::command::options::namespace;
use crate::command::{Failure, note};
use crate::lint;
use crate::load::LoadedPolicy;
use crate::load::finding::Finding;
use crate::render::instances::{Attachment, Gateways, Instance, Known, Plan, Role, Topology, Waypoint};

/// Which Gateways are waypoints, and the domain of the services behind them.
#[derive(Clone, Debug, clap::Args)]
pub struct WaypointOptions {
    /// Waypoint to render for (repeatable). Give all of them in one run if policies have targetRefs to a waypoint, a Service
    /// or a `ServiceEntry`.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = waypoint)]
    waypoint: Vec<Waypoint>,

    /// Domain of the cluster: Services have hosts NAME.NAMESPACE.svc.DOMAIN. Only for --waypoint. It is not the trust
    /// domain.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local", value_parser = cluster_domain)]
    pub cluster_domain: String,
}

fn waypoint(text: &str) -> Result<Waypoint, String> {
    let (in_namespace, name) = text.split_once('/').ok_or("write NAMESPACE/NAME")?;
    // The name of a Gateway must be a valid value of a label, like the name of a namespace: so the same check fits.
    Ok(Waypoint { namespace: namespace(in_namespace)?, name: namespace(name)? })
}

fn cluster_domain(text: &str) -> Result<String, String> {
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !text.split('.').all(is_label) {
        return Err("write a domain without a dot at its ends, such as cluster.local".to_owned());
    }
    Ok(text.to_owned())
}

impl WaypointOptions {
    /// The waypoints, each once. Fails if the input has a Gateway with one of these names that is no waypoint: on a
    /// gateway, the plugin would look for peers and services where only a waypoint has them.
    pub fn waypoints(&self, gateways: &Gateways<'_>) -> Result<BTreeSet<Waypoint>, Failure> {
        for waypoint in &self.waypoint {
            let Some(known) = gateways.get(&waypoint.namespace, &waypoint.name) else { continue };
            if let Some(why) = no_waypoint(known.role) {
                return Err(Failure::Unusable(format!(
                    "--waypoint {waypoint}: the Gateway in {} has the class `{}`, {why}",
                    known.source.file.display(),
                    known.class
                )));
            }
        }
        Ok(self.waypoint.iter().cloned().collect())
    }
}

/// Why the plugin for a waypoint cannot be on this Gateway, and what to do.
fn no_waypoint(role: Role) -> Option<&'static str> {
    match role {
        Role::Waypoint | Role::EastWest => None,
        Role::Gateway => Some("which is no class of waypoints: correct the name, or leave out this --waypoint"),
        Role::NoEnvoy => Some("whose proxy is no Envoy and loads no plugin: leave out this --waypoint"),
        Role::Unknown => Some(
            "and nothing says that this class makes waypoints: add the GatewayClass to the input, or correct the name",
        ),
    }
}

/// Says on standard error what the output does not have.
pub fn say(plan: &Plan<'_>, topology: &Topology<'_>) {
    for waypoint in topology.waypoints {
        if let Some(remark) = unknown(waypoint, &topology.gateways) {
            note(&format!("--waypoint {waypoint}: {remark}"));
        }
        if !plan.instances.iter().any(|instance| instance.place == waypoint.place()) {
            note(&format!("--waypoint {waypoint}: no policy of a plugin is for it, so there is no plugin for it"));
        }
    }
    let names_services =
        plan.own.iter().any(|resource| resource.policy.action != Action::Custom && is_for_service(resource));
    for waypoint in topology.waypoints_not_given().filter(|_| names_services) {
        note(&format!(
            "the Gateway {waypoint} is a waypoint, and no --waypoint names it: for services behind it, there is no plugin, and \
             only Istio enforces policies"
        ));
    }
}

/// What is said about a waypoint that the input may not have because its name is misspelt.
fn unknown(waypoint: &Waypoint, gateways: &Gateways<'_>) -> Option<String> {
    let Waypoint { namespace, name } = waypoint;
    let known: Vec<_> = gateways.names(namespace).collect();
    if known.is_empty() || known.contains(&name.as_str()) {
        return None;
    }
    let hint = suggestion(name, known).map(|near| format!("; did you mean {namespace}/{near}?")).unwrap_or_default();
    Some(format!("the input has Gateways of the namespace {namespace}, and none with this name{hint}"))
}

fn is_for_service(resource: &LoadedPolicy) -> bool {
    match &resource.policy.target {
        Target::References(references) => references.iter().any(|reference| reference.kind.is_service()),
        Target::Everything | Target::Labels(_) => false,
    }
}

/// A warning about each policy that is for every waypoint, unless the input says that these are all.
pub fn of_every_waypoint(plan: &Plan<'_>, topology: &Topology<'_>) -> Vec<Finding> {
    let mut of_input = topology.gateways.waypoints().peekable();
    let are_known = of_input.peek().is_some();
    let not_given: Vec<_> = topology.waypoints_not_given().map(|waypoint| waypoint.to_string()).collect();
    if are_known && not_given.is_empty() {
        return Vec::new();
    }
    let given: Vec<_> = topology.waypoints.iter().map(Waypoint::to_string).collect();
    let message = format!("is for every waypoint, and this output is for {}", given.join(", "));
    let hint = match not_given.as_slice() {
        [] => "give --waypoint for each of the others, too".to_owned(),
        others => format!("give --waypoint for {}, too", others.join(", ")),
    };
    let warning = |resource: &&LoadedPolicy| lint::left_out(resource, Path::of(["spec"]), &message, &hint);
    plan.of_every_waypoint.iter().filter_map(warning).collect()
}

/// Why the plugin counts the place of this instance as an ordinary gateway, if it may be a waypoint.
pub fn may_be_waypoint(instance: &Instance<'_>, gateways: &Gateways<'_>) -> Option<String> {
    let (Attachment::Gateway(name), None) = (&instance.place.attachment, &instance.waypoint) else { return None };
    let namespace = &instance.place.namespace;
    let (why, what_helps) = match gateways.get(namespace, name) {
        None => ("which the input does not have".to_owned(), "give"),
        Some(Known { role: Role::Unknown, class, .. }) => {
            (format!("whose class `{class}` the input does not have"), "add the GatewayClass to the input, and give")
        }
        Some(_) => return None,
    };
    Some(format!(
        "is for the Gateway {namespace}/{name}, {why}: it counts as an ordinary gateway, known by its label \
         {GATEWAY_NAME_LABEL}; if it is a waypoint, {what_helps} --waypoint {namespace}/{name}"
    ))
}
