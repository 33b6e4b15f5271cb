//! What `render` says about CUSTOM policies.

use mesh_authz::diagnostic::{Path, suggestion};
use mesh_authz::policy::Action;

use crate::lint;
use crate::load::LoadedPolicy;
use crate::load::finding::Finding;
use crate::load::providers::Providers;
use crate::render::rbac::Traffic;

/// Warnings about CUSTOM policies whose provider is not asked.
pub fn warnings(policies: &[&LoadedPolicy], providers: &Providers, traffic: Traffic) -> Vec<Finding> {
    let custom: Vec<_> = policies.iter().filter(|resource| resource.policy.action == Action::Custom).collect();
    let name = |resource: &LoadedPolicy| resource.policy.provider.clone().unwrap_or_default();
    let first = custom.first().map(|resource| name(resource)).unwrap_or_default();
    let are_several = custom.iter().any(|resource| name(resource) != first);
    let path = || Path::of(["spec", "provider", "name"]);
    let warning = |resource: &&LoadedPolicy| {
        let own = name(resource);
        let (message, hint) = match providers.named(&own) {
            _ if are_several => (
                "this policy denies what it matches: a workload can have policies for one provider only, as in Istio by default"
                    .to_owned(),
                "let all CUSTOM policies of the workload name the same provider".to_owned(),
            ),
            None => {
                let known = providers.valid.iter().map(|provider| provider.name.as_str());
                let hint = match suggestion(&own, known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if providers.are_known => "add it to `extensionProviders` of the mesh configuration".to_owned(),
                    None => "give a mesh configuration with it in `extensionProviders` as well".to_owned(),
                };
                (format!("this policy denies what it matches: the input has no provider called `{own}`"), hint)
            }
            Some(provider) if traffic == Traffic::Tcp && provider.http.is_some() => (
                format!("nobody enforces this policy over TCP: provider `{own}` is asked over HTTP"),
                "use a provider over gRPC".to_owned(),
            ),
            Some(_) => return None,
        };
        lint::left_out(resource, path(), &message, &hint)
    };
    custom.into_iter().filter_map(warning).collect()
}
