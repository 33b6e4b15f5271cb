//! What stands in the output of `render wasm-plugin` and `traffic-extension` beside the plugin: the policies that Istio
//! enforces itself, and comments. What protects comes before what it protects, so that half an apply protects too.

use std::collections::BTreeSet;

use mesh_authz::engine::Combining;
use mesh_authz::policy::Action;
use serde_json::{Value, json};

use super::decides_http;
use super::shared::Format;
use crate::command::{Failure, note};
use crate::load::LoadedPolicy;
use crate::render::instances::{Instance, NativeHttp, Plan};
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
pub const FEW: usize = 10;

const OF_POLICY: &str =
    "Istio enforces this policy itself, beside the plugin: also on TCP, and while the plugin is not there.";

const OF_POLICY_ON_TCP: &str =
    "Istio enforces this policy itself, but not about HTTP where policies at the end let HTTP through to the plugin.
The plugin carries this policy, too.";

const OF_TRIAL: &str = "A dry run: Istio and the plugin report what this policy would decide.";

const OF_CUSTOM: &str = "Istio enforces this policy itself, and asks the provider. The plugin does not carry it.";

pub const OF_ENVOY_FILTER: &str =
    "Tells the plugin what it cannot see: the peer's own address, and how many URIs the peer's certificate has.";

pub const OF_NETWORK_ENVOY_FILTER: &str = "For the plugin for connections: tells it the peer, and has Envoy connect to the application when the peer is known.";

pub const OF_NETWORK_PLUGIN: &str =
    "The plugin for connections, on ports that Services name as TCP. Istio enforces the policies there, too.";

const OF_PLUGIN_AT_WAYPOINT: &str =
    "The plugin, with every policy that can apply where it is loaded. It decides about HTTP requests.";

const OF_PLUGIN: &str =
    "The plugin, with every policy that can apply where it is loaded. It decides about HTTP requests to sidecars and
gateways. What the workload of a sidecar sends passes (`outgoing: pass`).";

const OF_PERMIT_OVERRIDES: &str = "
Istio gets no DENY policies (permit-overrides): TCP is decided by ALLOW policies only, and passes where there is none.";

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
        decides_http::say(plan);
    }
    if !left_out.is_empty() {
        note(&format!(
            "combining permit-overrides: Istio must not enforce the DENY policies, or it would refuse what ALLOW policies \
             except; so while the plugin is not there, nothing refuses what they match, and TCP connections are decided by \
             ALLOW policies only, and pass where there is none; an ALLOW policy goes on to be an exception after a pod has lost \
             the label that it selects by; left out: {}",
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
