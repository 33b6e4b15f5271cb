//! MA021. A policy about tokens, although nothing in the input verifies tokens.

use mesh_authz::policy::Predicate;

use super::{Check, Input, Lint, Reporter, each_predicate};
use crate::load::LoadedPolicy;

pub(super) static LINT: Lint = Lint {
    code: "MA021",
    name: "no-request-authentication",
    summary: "a policy about tokens, although nothing in the input verifies tokens",
    explanation: "The values of requestPrincipals and request.auth.* are compared with the claims of a verified token. \
            Tokens are verified only if a RequestAuthentication applies to the workload. Without one, no request has a \
            request principal: an ALLOW rule that requires one never matches, and a DENY rule with \
            `notRequestPrincipals` refuses everything. Give `check` the RequestAuthentication together with the \
            policies.",
    bad: r#"
spec:
  rules:
  - from:
    - source:
        requestPrincipals: ["https://issuer.example/*"]
"#,
    good: r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: users
spec:
  rules:
  - from:
    - source:
        requestPrincipals: ["https://issuer.example/*"]
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
    for resource in &input.resources.policies {
        policy(input, resource, reporter);
    }
}

fn policy(input: &Input<'_>, resource: &LoadedPolicy, reporter: &mut Reporter) {
    if input.authentications(resource.policy.reach()).next().is_some() {
        return;
    }
    let mut first = None;
    each_predicate(resource, |rule, clause, field, predicate| {
        let is_not = match predicate {
            Predicate::RequestPrincipal(values) | Predicate::Claim { values, .. } => values.any.is_empty(),
            _ => return,
        };
        first.get_or_insert_with(|| predicate.path(rule, clause, field, is_not));
    });
    let Some(path) = first else { return };
    reporter.report(
        &LINT,
        resource,
        path,
        "nothing in the input verifies tokens for this policy's workloads, and without that no request has claims",
        "give `check` the RequestAuthentication too, or create one for issuers that you trust",
    );
}
