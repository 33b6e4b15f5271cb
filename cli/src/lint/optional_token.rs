//! MA043. A `RequestAuthentication` whose tokens no policy requires.

use mesh_authz::diagnostic::Path;
use mesh_authz::policy::scope::{Reach, covers};
use mesh_authz::policy::{Action, AuthorizationPolicy, Predicate, Rule, Target};

use super::{Check, Input, Lint, Reporter};
use crate::load::Authentication;
use crate::load::request_authentication::{JwtRule, Presence};

pub(super) static LINT: Lint = Lint {
    code: "MA043",
    name: "optional-token",
    summary: "a RequestAuthentication whose tokens no policy requires",
    explanation: "A RequestAuthentication refuses wrong tokens. It does not refuse requests without a token, \
            unless a rule of it has `presence: REQUIRED`: an AuthorizationPolicy has to do that. No policy in the input \
            that applies to these workloads looks at tokens, so whoever sends none has the same access as whoever sends a valid one. To require a token, add a DENY policy with \
            `notRequestPrincipals: [\"*\"]`, or ask for requestPrincipals in the ALLOW policies. The lint looks only at \
            RequestAuthentications in whose namespace, or in the root namespace, the input has a policy.",
    bad: r#"
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata:
  name: issuer
spec:
  jwtRules:
  - issuer: https://issuer.example
    jwksUri: https://issuer.example/jwks.json
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: read
spec:
  rules:
  - to:
    - operation:
        methods: ["GET"]
"#,
    good: r#"
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata:
  name: issuer
spec:
  jwtRules:
  - issuer: https://issuer.example
    jwksUri: https://issuer.example/jwks.json
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: read
spec:
  rules:
  - from:
    - source:
        requestPrincipals: ["https://issuer.example/*"]
    to:
    - operation:
        methods: ["GET"]
"#,
    trust_domain: None,
    check: Check::Input(check),
};

fn check(input: &Input<'_>, reporter: &mut Reporter) {
    for found in &input.resources.request_authentications {
        let rules = &found.authentication.rules;
        let is_required = rules.iter().any(|rule| rule.presence == Presence::Required);
        if !rules.is_empty() && !is_required && is_optional(input, found) {
            reporter.report(
                &LINT,
                found,
                Path::of(["spec", "jwtRules"]),
                "no policy in the input requires these tokens: a request without one has the same access",
                "to require a token, add a DENY policy with `notRequestPrincipals: [\"*\"]`, or ask for requestPrincipals in the ALLOW policies",
            );
        }
    }
}

/// Whether the input has policies for these workloads, and requests without a token pass all of them.
fn is_optional(input: &Input<'_>, Authentication { authentication, source, .. }: &Authentication) -> bool {
    let root = input.context.mesh.root_namespace.as_str();
    let reach = authentication.reach();
    let in_namespace = Reach { target: &Target::Everything, ..reach };
    let is_near = input
        .policies(in_namespace)
        .any(|resource| !resource.policy.dry_run && !input.are_apart(&resource.source, source));
    let meeting = || input.policies(reach).map(|resource| &resource.policy).filter(|policy| !policy.dry_run);
    let covering = || meeting().filter(|policy| covers(policy.reach(), reach, root));
    let allows = |policy: &&AuthorizationPolicy| policy.action == Action::Allow;
    let nothing_passes = covering()
        .any(|policy| policy.action == Action::Deny && policy.rules.iter().any(is_unconditional))
        || (covering().any(|policy| allows(&policy)) && meeting().filter(allows).all(|policy| policy.rules.is_empty()));
    // A provider can require a token.
    let is_asked = meeting().any(|policy| policy.action == Action::Custom);
    let looks_at_tokens =
        |policy: &AuthorizationPolicy| policy.predicates().any(|field| is_about_token(field, &authentication.rules));
    is_near && !meeting().any(looks_at_tokens) && !nothing_passes && !is_asked
}

/// Whether a field is about the token, or about a header that only what verifies the token sets.
fn is_about_token(field: &Predicate, rules: &[JwtRule]) -> bool {
    match field {
        Predicate::RequestPrincipal(_) | Predicate::Claim { .. } => true,
        Predicate::Header { name, .. } => rules.iter().any(|rule| {
            let of_claims = rule.output_claim_to_headers.iter().map(|claim| &claim.header);
            of_claims.chain(&rule.output_payload_to_header).any(|header| header.eq_ignore_ascii_case(name))
        }),
        _ => false,
    }
}

fn is_unconditional(rule: &Rule) -> bool {
    rule.clauses().all(|(_, all_of)| all_of.0.is_empty())
}
