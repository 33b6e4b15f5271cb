//! MA031. A CUSTOM policy, whose provider the filter does not ask itself.

use mesh_authz::diagnostic::Path;
use mesh_authz::engine::Custom;
use mesh_authz::policy::Action;

use super::{Check, Input, Lint, Reporter};
use crate::load::providers::Providers;

pub(super) static LINT: Lint = Lint {
    code: "MA031",
    name: "custom-is-refused",
    summary: "a CUSTOM policy, whose provider the filter does not ask itself",
    explanation: "The action CUSTOM leaves the decision to an authorization provider, which the mesh configuration \
            defines. The filter does not ask providers: Istio does, and elsewhere Envoy's own filters do, which `render \
            envoy` and `render filters` print. Without them, the filter refuses every request that a CUSTOM policy \
            matches. Where Istio itself enforces the policy, you can leave it out here. Elsewhere, render these filters, \
            or write its conditions as a DENY policy: without the policy, nothing else refuses these requests.",
    bad: r#"
spec:
  action: CUSTOM
  provider:
    name: oauth2-proxy
  rules:
  - to:
    - operation:
        paths: ["/account*"]
"#,
    good: r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: account
spec:
  action: DENY
  rules:
  - from:
    - source:
        notRequestPrincipals: ["https://issuer.example/*"]
    to:
    - operation:
        paths: ["/account*"]
        ports: ["8080"]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata:
  name: issuer
spec:
  jwtRules:
  - issuer: https://issuer.example
    jwksUri: https://issuer.example/jwks.json
"#,
    trust_domain: None,
    check: Check::Input(check),
};

fn check(input: &Input<'_>, reporter: &mut Reporter) {
    let custom = input.resources.policies.iter().filter(|resource| resource.policy.action == Action::Custom);
    let mut custom = custom.peekable();
    if custom.peek().is_none() {
        return;
    }
    let providers = Providers::of(input.resources);
    for resource in custom {
        let name = resource.policy.provider.as_deref().unwrap_or_default();
        let is_named = providers.named(name).is_some();
        let (message, hint) = match (is_named, input.context.custom) {
            (true, Custom::Native | Custom::NativeEach) => continue,
            (false, _) if providers.are_known => {
                let message = format!(
                    "the mesh configuration in the input has no provider `{name}`: Istio refuses what this policy matches, and so \
                     does the filter"
                );
                (message, providers.hint(name))
            }
            _ => (
                "the filter does not ask the provider itself: without Envoy's own filters, it refuses every request that this \
                 policy matches"
                    .to_owned(),
                "give the mesh configuration with the provider, and render these filters with `render envoy` or `render filters`; \
                 leave the policy out here only where Istio itself enforces it: elsewhere, nothing else refuses these requests"
                    .to_owned(),
            ),
        };
        reporter.report(&LINT, resource, Path::of(["spec", "provider"]), message, hint);
    }
}
