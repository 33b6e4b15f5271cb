//! What stands in the output of `render wasm-plugin` and `traffic-extension` beside the plugin: the policies that Istio
//! enforces itself, and comments. What protects comes before what it protects, so that half an apply protects too.

use std::collections::{BTreeMap, BTreeSet};

use mesh_authz::engine::Combining;
use mesh_authz::policy::{Action, Target, TargetKind};
use serde_json::{Value, json};

use super::shared::Format;
use crate::command::{Failure, note};
use crate::load::LoadedPolicy;
use crate::render::instances::{Attachment, Instance, NativeHttp, Plan, Topology};
use crate::render::kubernetes;

/// What Istio enforces itself, beside the plugin.
#[derive(Clone, Debug, clap::Args)]
pub struct NativeOptions {
    /// Leave the policies out of the output: the cluster has them already. Istio must enforce them beside the plugin,
    /// which sees HTTP requests only.
    #[arg(long, help_heading = "Istio's own enforcement")]
    policies_applied: bool,

    /// Let the plugin alone decide about HTTP: one more policy for each selector of ALLOW policies lets all HTTP requests
    /// through Istio's own ALLOW policies. While the plugin is not there, these requests pass.
    #[arg(long, help_heading = "Istio's own enforcement")]
    pub plugin_decides_http: bool,
}

impl NativeOptions {
    /// Fails if Istio's own enforcement would refuse what the plugin allows.
    pub fn check(&self, combining: Combining) -> Result<(), Failure> {
        if combining == Combining::PermitOverrides && !self.plugin_decides_http {
            return Err(Failure::unusable(
                "combining permit-overrides: Istio itself would refuse what a DENY policy matches, also if an ALLOW policy \
                 excepts it; give --plugin-decides-http, so that the plugin alone decides about HTTP, or leave out \
                 --combining",
            ));
        }
        Ok(())
    }

    /// What Istio itself decides about HTTP.
    pub fn http(&self, combining: Combining) -> NativeHttp {
        match combining {
            _ if !self.plugin_decides_http => NativeHttp::All,
            Combining::DenyOverrides => NativeHttp::Denials,
            Combining::PermitOverrides => NativeHttp::Nothing,
        }
    }
}

/// A resource, and a comment that says what it is for.
#[derive(Debug)]
pub struct Document {
    pub comment: String,
    pub resource: Value,
}

/// Of more policies than this, a note names the first ones.
const FEW: usize = 10;

const OF_POLICY: &str =
    "Istio enforces this policy itself, beside the plugin: also on TCP, and while the plugin is not there.";

const OF_POLICY_ON_TCP: &str =
    "Istio enforces this policy itself, but not about HTTP where policies at the end let HTTP through to the plugin.
The plugin carries this policy, too.";

const OF_TRIAL: &str = "A dry run: Istio and the plugin report what this policy would decide.";

const OF_CUSTOM: &str = "Istio enforces this policy itself, and asks the provider. The plugin does not carry it.";

pub const OF_ENVOY_FILTER: &str =
    "Tells the plugin what it cannot see: the peer's own address, and how many URIs the peer's certificate has.";

const OF_PLUGIN_AT_WAYPOINT: &str =
    "The plugin, with every policy that can apply where it is loaded. It decides about HTTP requests.";

const OF_PLUGIN: &str = "The plugin, with every policy that can apply where it is loaded. It decides about HTTP requests to sidecars and gateways.
What the workload of a sidecar sends passes (`outgoing: pass`).";

const OF_PERMIT_OVERRIDES: &str = "
Istio gets no DENY policies (permit-overrides): TCP is decided by ALLOW policies only, and passes where there is none.";

const OF_STOPPER: &str = "Lets nothing through, in the place of a policy that an earlier output may have here. Istio goes on to decide about HTTP, since
labels that can change decide which ALLOW policies apply here.";

const OF_LET_THROUGH: &str =
    "Lets all HTTP requests through Istio's own ALLOW policies to the plugin, and says nothing about TCP.
Apply it last, when the plugin decides, and remove it before the plugin: without the plugin, it allows every HTTP request
that no DENY policy refuses.";

/// What a plugin is for.
pub fn of_plugin(instance: &Instance<'_>, combining: Combining) -> String {
    let text = if instance.waypoint.is_none() { OF_PLUGIN } else { OF_PLUGIN_AT_WAYPOINT };
    match combining {
        Combining::DenyOverrides => text.to_owned(),
        Combining::PermitOverrides => format!("{text}{OF_PERMIT_OVERRIDES}"),
    }
}

/// The policies for Istio itself: DENY policies first, so that an ALLOW policy never opens what one of them closes. Says on
/// standard error what is not in the output.
pub fn native(plan: &Plan<'_>, options: &NativeOptions, combining: Combining) -> Vec<Document> {
    let is_left_out =
        |resource: &LoadedPolicy| combining == Combining::PermitOverrides && resource.policy.action == Action::Deny;
    let (left_out, mut native): (Vec<_>, Vec<_>) = plan.own.iter().copied().partition(|resource| is_left_out(resource));
    native.sort_by_key(|resource| match resource.policy.action {
        Action::Custom => 0,
        Action::Deny => 1,
        Action::Allow => 2,
        Action::Audit => 3,
    });
    if options.plugin_decides_http {
        if !plan.restricted.is_empty() {
            note(
                "--plugin-decides-http: while the plugin is not there, Istio lets HTTP requests pass that only ALLOW policies \
                 would refuse; the first time, apply the policies at the end of the output only when the plugin decides",
            );
        } else if plan.told_apart_by_labels.is_empty() {
            note(
                "--plugin-decides-http: no ALLOW policy is in force, so Istio lets HTTP through to the plugin already",
            );
        }
        note(
            "--plugin-decides-http: if an earlier output is in the cluster, delete its policies `0-mesh-authz-http…` that this \
             output does not have, or HTTP goes on to pass there: kubectl get authorizationpolicies -A -l \
             app.kubernetes.io/managed-by=mesh-authz",
        );
        let told_apart: BTreeMap<_, _> = plan
            .told_apart_by_labels
            .iter()
            .map(|(_, resource, other)| (&resource.policy.name, &other.policy.name))
            .collect();
        for (policy, other) in told_apart.iter().take(FEW) {
            note(&format!(
                "--plugin-decides-http: Istio goes on to decide about HTTP by policy {policy}, too: policy {other} applies \
                 to some of the same workloads only, by their labels, and the plugin does not learn of labels that change"
            ));
        }
        if let Some(more @ 1..) = told_apart.len().checked_sub(FEW) {
            note(&format!("--plugin-decides-http: Istio goes on to decide about HTTP by {more} more policies"));
        }
    }
    if !left_out.is_empty() {
        note(&format!(
            "combining permit-overrides: Istio must not enforce the DENY policies, or it would refuse what ALLOW policies \
             except; so while the plugin is not there, nothing refuses what they match, and TCP connections are decided by \
             ALLOW policies only, and pass where there is none; left out: {}",
            names(&left_out)
        ));
    }
    if !plan.custom.is_empty() {
        note(&format!(
            "CUSTOM policies stay with Istio, which asks their providers; the plugin does not carry them: {}",
            names(&plan.custom)
        ));
    }
    if options.policies_applied {
        note(&format!("--policies-applied: these policies must be in the cluster: {}", names(&native)));
        if !left_out.is_empty() {
            note(&format!("--policies-applied: these policies must not be in the cluster: {}", names(&left_out)));
        }
        return Vec::new();
    }
    let document = |resource: &LoadedPolicy| Document {
        comment: match resource.policy.action {
            _ if resource.policy.dry_run => OF_TRIAL,
            Action::Custom => OF_CUSTOM,
            Action::Allow if !plan.restricted.is_empty() && options.plugin_decides_http => OF_POLICY_ON_TCP,
            Action::Allow | Action::Deny | Action::Audit => OF_POLICY,
        }
        .to_owned(),
        resource: kubernetes::native(resource),
    };
    native.into_iter().map(document).collect()
}

/// The names of the policies. Of many, it names the first and counts the others.
fn names(policies: &[&LoadedPolicy]) -> String {
    let mut names: Vec<_> = policies.iter().take(FEW).map(|resource| resource.policy.name.to_string()).collect();
    if let Some(more @ 1..) = policies.len().checked_sub(FEW) {
        names.push(format!("and {more} more"));
    }
    names.join(", ")
}

/// Fails if Istio would let HTTP through where the plugin does not decide about it.
pub fn check(plan: &Plan<'_>, topology: &Topology<'_>, native: NativeHttp) -> Result<(), Failure> {
    if native == NativeHttp::All {
        return Ok(());
    }
    let fail = |message: String| Err(Failure::Unusable(format!("--plugin-decides-http: {message}")));
    let enforced = || plan.own.iter().filter(|resource| !resource.policy.dry_run);
    if let (None, Some(resource)) = (topology.revision, enforced().find(|it| it.policy.revision.is_some())) {
        return fail(format!(
            "policy {} is for one revision of the control plane, and Istio would let HTTP through for all; give --revision, \
             once for each revision",
            resource.policy.name
        ));
    }
    // Both would be attached to whatever waypoint serves the service.
    let services = plan.restricted.iter().filter_map(|place| match &place.attachment {
        Attachment::Service(name) => Some(format!("Service {}/{name}", place.namespace)),
        Attachment::ServiceEntry(name) => Some(format!("ServiceEntry {}/{name}", place.namespace)),
        Attachment::Selector(_) | Attachment::Gateway(_) => None,
    });
    let services: Vec<_> = services.collect();
    if !services.is_empty() {
        return fail(format!(
            "there are ALLOW policies for {}; Istio would let HTTP through at whatever waypoint serves them, also at one \
             without the plugin; leave out the option for the policies of services, or write them for the waypoint's Gateway",
            services.join(", ")
        ));
    }
    let is_left_out =
        |resource: &&&LoadedPolicy| native == NativeHttp::Nothing && resource.policy.action == Action::Deny;
    let is_of_waypoints = |resource: &&&LoadedPolicy| match &resource.policy.target {
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
    let everywhere = plan.restricted.iter().filter(|place| place.attachment == Attachment::Selector(BTreeSet::new()));
    let left_out = enforced().filter(is_left_out).filter(|resource| resource.policy.target == Target::Everything);
    let namespaces = everywhere.map(|place| place.namespace.as_str());
    for namespace in namespaces.chain(left_out.map(|resource| resource.policy.name.namespace.as_str())) {
        let is_reached = |of: &str| namespace == of || namespace == topology.root_namespace;
        if let Some((of, name)) = topology.gateways.without_envoy().find(|(of, _)| is_reached(of)) {
            return fail(format!(
                "the proxy of the Gateway {of}/{name} is no Envoy and loads no plugin, and policies without a selector in \
                 {namespace} reach it; write these for a selector, or leave out the option"
            ));
        }
    }
    Ok(())
}

/// The policies that let HTTP through to the plugin. They are only where a plugin stands, and where Istio itself would
/// refuse what no ALLOW policy allows: elsewhere, such a policy would close TCP. Before them, policies of the same name for
/// the places where HTTP is not let through any more.
pub fn let_through(plan: &Plan<'_>, options: &NativeOptions, revision: Option<&str>) -> Vec<Document> {
    if !options.plugin_decides_http {
        return Vec::new();
    }
    let document = |place, is_stopper| Document {
        comment: if is_stopper { OF_STOPPER } else { OF_LET_THROUGH }.to_owned(),
        resource: kubernetes::let_through(place, revision, is_stopper),
    };
    let stopped: BTreeSet<_> = plan.told_apart_by_labels.iter().map(|(place, _, _)| place).collect();
    let stoppers = stopped.into_iter().map(|place| document(place, true));
    stoppers.chain(plan.restricted.iter().map(|place| document(place, false))).collect()
}

/// The documents in this order. Fails if two of them have the same name: the second would replace the first.
pub fn print(format: Format, documents: &[Document]) -> Result<String, Failure> {
    let mut seen = BTreeSet::new();
    for Document { resource, .. } in documents {
        let of = |path: &str| resource.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let name = (of("/kind"), of("/metadata/namespace"), of("/metadata/name"));
        if !seen.insert(name) {
            let (kind, namespace, name) = name;
            return Err(Failure::Unusable(format!(
                "{kind} {namespace}/{name} would be twice in the output, and the second would replace the first: rename one, \
                 or leave the output of an earlier `render` out of the input"
            )));
        }
    }
    match format {
        Format::Json => {
            let items: Vec<_> = documents.iter().map(|document| &document.resource).collect();
            Format::Json.print(&json!({ "apiVersion": "v1", "kind": "List", "items": items }))
        }
        Format::Yaml => {
            let mut parts = Vec::new();
            for Document { comment, resource } in documents {
                let comment = comment.replace('\n', "\n# ");
                parts.push(format!("# {comment}\n{}", Format::Yaml.print(resource)?));
            }
            Ok(parts.join("---\n"))
        }
    }
}
