//! MA050. CUSTOM policies whose provider lets requests pass that it has not decided about.

use mesh_authz::diagnostic::Path;

use super::{Check, Input, Lint, Reporter};
use crate::load::providers::Providers;

pub(super) static LINT: Lint = Lint {
    code: "MA050",
    name: "provider-fails-open",
    summary: "CUSTOM policies whose provider has `failOpen`",
    explanation: "With `failOpen`, a request that a CUSTOM policy matches passes while its provider does not answer or \
            answers 5xx. A client may be able to cause that: Envoy asks over HTTP with the client's own method and path, \
            and many servers answer 501 to a method that they do not know. Over HTTP, Envoy cannot ask about a CONNECT \
            request at all, so that one always passes. If this is meant, disable the lint for the policy with the annotation \
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
    for resource in custom {
        let provider = resource.policy.provider.as_deref().and_then(|name| providers.named(name));
        let Some(provider) = provider.filter(|provider| provider.fail_open) else { continue };
        let message = format!(
            "provider `{}` has `failOpen`: while it does not answer, or answers 5xx, what this policy matches passes. A client may \
             be able to cause that",
            provider.name
        );
        reporter.report(&LINT, resource, Path::of(["spec", "provider", "name"]), message, "remove `failOpen`");
    }
}
