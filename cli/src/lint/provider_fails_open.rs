//! MA050. CUSTOM policies whose provider lets requests pass that it has not decided about.

use super::{Check, Input, Lint, Related, Reporter, provider_name, several_providers};
use crate::load::LoadedPolicy;
use crate::load::providers::Providers;

pub(super) static LINT: Lint = Lint {
    code: "MA050",
    name: "provider-fails-open",
    summary: "CUSTOM policies whose provider has `failOpen`",
    explanation: "With `failOpen`, a request that a CUSTOM policy matches passes while its provider does not answer or \
            answers 5xx. A client may be able to cause that: Envoy asks over HTTP with the client's own method and path, \
            and many servers answer 501 to a method that they do not know. Over HTTP, Envoy cannot ask about a CONNECT \
            request at all, so that one always passes. With `--several-providers`, the lint also finds a provider that \
            gets only the beginning of a long body, because another provider gets the body before: Envoy then does not \
            refuse the request with 413. If this is meant, disable the lint for the policy with the annotation \
            `mesh-authz/allow: MA050`.",
    bad: r#"
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
spec:
  meshConfig:
    extensionProviders:
    - name: login
      envoyExtAuthzHttp:
        service: login.example.com
        port: 9000
        failOpen: true
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: login
  annotations:
    mesh-authz/allow: MA031
spec:
  action: CUSTOM
  provider:
    name: login
  rules:
  - to:
    - operation:
        notPaths: ["/healthz"]
"#,
    good: r#"
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
spec:
  meshConfig:
    extensionProviders:
    - name: login
      envoyExtAuthzHttp:
        service: login.example.com
        port: 9000
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: login
  annotations:
    mesh-authz/allow: MA031
spec:
  action: CUSTOM
  provider:
    name: login
  rules:
  - to:
    - operation:
        notPaths: ["/healthz"]
"#,
    trust_domain: None,
    check: Check::Input(check),
};

fn check(input: &Input<'_>, reporter: &mut Reporter) {
    let mut custom = input.resources.policies.iter().filter(|resource| resource.policy.provider.is_some()).peekable();
    if custom.peek().is_none() {
        return;
    }
    let providers = Providers::of(input.resources);
    let named = |resource: &LoadedPolicy| resource.policy.provider.as_deref().and_then(|name| providers.named(name));
    for resource in custom {
        let Some(provider) = named(resource) else { continue };
        // Otherwise, nobody is asked, and what the policy matches is refused.
        let is_asked = input.context.mesh.several_providers || several_providers::beside(input, resource).is_empty();
        if provider.fail_open && is_asked {
            let message = format!(
                "provider `{}` has `failOpen`: while it does not answer, or answers 5xx, what this policy matches passes. A client \
                 may be able to cause that",
                provider.name
            );
            reporter.report(&LINT, resource, provider_name(), message, "remove `failOpen`");
        }
        let wants_whole_body = provider.body.as_ref().is_some_and(|body| !body.allow_partial);
        if !wants_whole_body || !input.context.mesh.several_providers {
            continue;
        }
        let reads_before = |other: &&LoadedPolicy| {
            named(other).is_some_and(|other| other.name < provider.name && other.body.is_some())
        };
        if let Some(before) = several_providers::beside(input, resource).into_iter().find(reads_before) {
            let message = format!(
                "provider `{}` gets the beginning of a body that is longer than its `maxRequestBytes`, and the request can pass: that \
                 Envoy refuses a longer body, as without `allowPartialMessage`, holds only for the first provider that gets bodies",
                provider.name
            );
            let related = Related::new(before, &provider_name(), "this one's provider gets bodies before");
            let hint = "let it refuse what has the header `x-envoy-auth-partial-body: true`";
            reporter.report_related(&LINT, resource, provider_name(), message, hint, related);
        }
    }
}
