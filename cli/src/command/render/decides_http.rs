//! `--plugin-decides-http`: where Istio lets HTTP through to the plugin, and where it does not.

use std::collections::{BTreeMap, BTreeSet};

use mesh_authz::policy::scope::GATEWAY_NAME_LABEL;
use mesh_authz::policy::{Action, Target, TargetKind};

use super::beside::{Document, FEW, NativeOptions};
use crate::command::{Failure, note};
use crate::load::LoadedPolicy;
use crate::render::instances::{Attachment, Location, NativeHttp, Plan, Topology};
use crate::render::kubernetes;

const OF_STOPPER: &str =
    "Allows nothing, in the place of a policy that lets HTTP through in an earlier output. Istio goes on to decide about HTTP
here, since the plugin does not surely know which ALLOW policies apply.";

const OF_LET_THROUGH: &str =
    "Lets all HTTP requests through Istio's own ALLOW policies to the plugin, and says nothing about TCP.
Apply it last, when the plugin decides, and remove it before the plugin: without the plugin, it allows every HTTP request
that no DENY policy refuses.";

/// Says on standard error where HTTP is let through, and where not.
pub fn say(plan: &Plan<'_>) {
    let say = |text: &str| note(&format!("--plugin-decides-http: {text}"));
    if !plan.restricted.is_empty() {
        say(
            "while the plugin is not there, Istio lets HTTP requests pass that only ALLOW policies would refuse; the first time, \
             apply the policies at the end of the output only when the plugin decides",
        );
    } else if plan.native.is_empty() {
        say("HTTP is let through nowhere: no ALLOW policy is in force for workloads, a gateway or a whole waypoint");
    }
    say(
        "if an earlier output is in the cluster, first delete its policies `0-mesh-authz-http…` that this output does not have, or \
         HTTP goes on to pass there; then apply this one, and delete what else it does not have: kubectl get \
         authorizationpolicies,wasmplugins,trafficextensions,envoyfilters -A -l app.kubernetes.io/managed-by=mesh-authz",
    );
    let native: BTreeMap<_, _> =
        plan.native.iter().map(|native| (&native.policy.policy.name, &native.beside.policy.name)).collect();
    for (policy, beside) in native.iter().take(FEW) {
        say(&format!(
            "Istio goes on to decide about HTTP by policy {policy}, too: policy {beside} is for a part of the same traffic, as \
             labels decide, which can change, or as one service of a waypoint"
        ));
    }
    if let Some(more @ 1..) = native.len().checked_sub(FEW) {
        say(&format!("Istio goes on to decide about HTTP by {more} more policies"));
    }
}

/// Fails if Istio would let HTTP through where the plugin does not decide about it.
pub fn check(plan: &Plan<'_>, topology: &Topology<'_>, native: NativeHttp) -> Result<(), Failure> {
    if native == NativeHttp::All {
        return Ok(());
    }
    let fail = |message: String| Err(Failure::Unusable(format!("--plugin-decides-http: {message}")));
    let enforced = || plan.own.iter().copied().filter(|resource| !resource.policy.dry_run);
    let is_left_out =
        |resource: &&LoadedPolicy| native == NativeHttp::Nothing && resource.policy.action == Action::Deny;
    let is_decided_here = |resource: &&LoadedPolicy| resource.policy.action == Action::Allow || is_left_out(resource);
    let of_revision = enforced().filter(is_decided_here).find(|resource| resource.policy.revision.is_some());
    if let (None, Some(resource)) = (topology.revision, of_revision) {
        return fail(format!(
            "policy {} is for one revision of the control plane, and Istio would let HTTP through for all; give --revision, \
             once for each revision",
            resource.policy.name
        ));
    }
    let is_of_waypoints = |resource: &&LoadedPolicy| match &resource.policy.target {
        Target::References(references) => references.iter().any(|reference| reference.kind != TargetKind::Gateway),
        Target::Everything | Target::Labels(_) => false,
    };
    if let Some(resource) = enforced().filter(is_left_out).find(is_of_waypoints) {
        return fail(format!(
            "with permit-overrides, Istio would not enforce the DENY policy {}, also at waypoints without the plugin; write it \
             for the waypoint's Gateway, or leave out --combining",
            resource.policy.name
        ));
    }
    // Whether resources at this place reach the proxy of a Gateway.
    let reaches = |place: &Location, namespace: &str, name: &str| match &place.attachment {
        Attachment::Gateway(_) => false,
        Attachment::Selector(labels) => {
            let is_its_name = |(key, value): &(String, String)| key == GATEWAY_NAME_LABEL && value == name;
            (place.namespace == namespace || place.namespace == topology.root_namespace)
                && labels.iter().all(is_its_name)
        }
    };
    for (namespace, name) in topology.gateways.without_envoy() {
        let left_out = enforced().filter(is_left_out).flat_map(|resource| topology.places(&resource.policy));
        if let Some(place) =
            plan.restricted.iter().cloned().chain(left_out).find(|place| reaches(place, namespace, name))
        {
            return fail(format!(
                "the proxy of the Gateway {namespace}/{name} is no Envoy and loads no plugin, and policies in {} without a \
                 selector, or with its name in the selector, are for it too; write these for other labels, or leave out the \
                 option",
                place.namespace
            ));
        }
    }
    Ok(())
}

/// The policies in the place of those that let HTTP through in an earlier output. They only close, so they come before the
/// plugin.
pub fn stoppers(plan: &Plan<'_>, options: &NativeOptions, revision: Option<&str>) -> Vec<Document> {
    let native = plan.native.iter().filter(|_| options.plugin_decides_http);
    let places: BTreeSet<_> = native.map(|native| &native.place).collect();
    let document =
        |place| Document { comment: OF_STOPPER.to_owned(), resource: kubernetes::let_through(place, revision, true) };
    places.into_iter().map(document).collect()
}

/// The policies that let HTTP through to the plugin. They are only where a plugin stands, and where Istio itself would
/// refuse what no ALLOW policy allows: elsewhere, such a policy would close TCP.
pub fn let_through(plan: &Plan<'_>, options: &NativeOptions, revision: Option<&str>) -> Vec<Document> {
    let document = |place| Document {
        comment: OF_LET_THROUGH.to_owned(),
        resource: kubernetes::let_through(place, revision, false),
    };
    plan.restricted.iter().filter(|_| options.plugin_decides_http).map(document).collect()
}
