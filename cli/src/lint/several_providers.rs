//! MA049. CUSTOM policies of one workload that name different providers.

use mesh_authz::policy::Action;
use mesh_authz::policy::scope::covers;

use super::{Check, Input, Lint, Related, Reporter, provider_name};
use crate::load::LoadedPolicy;

pub(super) static LINT: Lint = Lint {
    code: "MA049",
    name: "several-providers",
    summary: "CUSTOM policies of one workload that name different providers",
    explanation: "Istio asks no provider for a workload whose CUSTOM policies name several: it refuses every request that \
            one of these policies matches. So does the filter. With the setting \
            PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS, istiod asks each provider about what its own policies match. \
            So does a standalone Envoy with `--several-providers`. With that option, there is no such finding.",
    bad: r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: login
  annotations:
    mesh-authz/allow: MA031
spec:
  action: CUSTOM
  provider:
    name: oauth2-proxy
  rules:
  - to:
    - operation:
        paths: ["/account*"]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: partners
  annotations:
    mesh-authz/allow: MA031
spec:
  action: CUSTOM
  provider:
    name: api-keys
  rules:
  - to:
    - operation:
        paths: ["/partners*"]
"#,
    good: r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: login
  annotations:
    mesh-authz/allow: MA031
spec:
  action: CUSTOM
  provider:
    name: oauth2-proxy
  rules:
  - to:
    - operation:
        paths: ["/account*", "/partners*"]
"#,
    trust_domain: None,
    check: Check::Input(check),
};

fn provider(resource: &LoadedPolicy) -> &str {
    resource.policy.provider.as_deref().unwrap_or_default()
}

/// The CUSTOM policies that name another provider, and that are for all workloads of this one, or this one for all of theirs.
pub(super) fn beside<'r>(input: &Input<'r>, own: &LoadedPolicy) -> Vec<&'r LoadedPolicy> {
    let (reach, root) = (own.policy.reach(), &input.context.mesh.root_namespace);
    let is_beside = |other: &&LoadedPolicy| {
        let theirs = other.policy.reach();
        other.policy.action == Action::Custom
            && provider(other) != provider(own)
            && (covers(theirs, reach, root) || covers(reach, theirs, root))
            && !input.are_apart(&other.source, &own.source)
    };
    input.policies(reach).filter(is_beside).collect()
}

fn check(input: &Input<'_>, reporter: &mut Reporter) {
    if input.context.mesh.several_providers {
        return;
    }
    let is_custom = |resource: &&LoadedPolicy| resource.policy.action == Action::Custom;
    let mut custom = input.resources.policies.iter().filter(is_custom).peekable();
    let Some(first) = custom.peek().copied().map(provider) else { return };
    if custom.clone().all(|resource| provider(resource) == first) {
        return;
    }
    let root = &input.context.mesh.root_namespace;
    for narrow in custom {
        let reach = narrow.policy.reach();
        // Of two policies for the same workloads, the later one is reported.
        let is_reported = |wide: &&LoadedPolicy| {
            covers(wide.policy.reach(), reach, root)
                && (!covers(reach, wide.policy.reach(), root) || wide.policy.name < narrow.policy.name)
        };
        let Some(wide) = beside(input, narrow).into_iter().find(is_reported) else { continue };
        let [own, others] = [narrow, wide].map(provider);
        let is_prefix = own.starts_with(others) || others.starts_with(own);
        let also = if is_prefix {
            ". One name begins the other: with that setting, only the order of Istio's filters tells them apart"
        } else {
            ""
        };
        reporter.report_related(
            &LINT,
            narrow,
            provider_name(),
            format!(
                "CUSTOM policy {} is for the same workloads and names the provider `{others}`: without \
                 PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS, Istio refuses what the two policies match, and asks neither \
                 provider. So does the filter{also}",
                wide.policy.name
            ),
            "let all CUSTOM policies of a workload name the same provider; or, if istiod has that setting, give --several-providers",
            Related::new(wide, &provider_name(), "the other provider"),
        );
    }
}
