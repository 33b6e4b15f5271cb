//! MA004. An ALLOW that only leaves identities out, which every plaintext peer satisfies.

use super::comparison::Placed;
use super::{Check, Input, Lint, Reporter, plaintext};

pub(super) static LINT: Lint = Lint {
    code: "MA004",
    name: "plaintext-satisfies-allow",
    summary: "an ALLOW that only leaves identities out, which every plaintext peer satisfies",
    explanation: "A `not` field holds when the request has no such thing. An ALLOW rule with notPrincipals, \
            notNamespaces, notServiceAccounts or notTrustDomains and nothing that asks for an identity therefore permits \
            every peer without one. Ask for an identity besides: `principals: [\"*\"]`. The lint is silent where \
            plaintext is refused anyway, as with MA003.",
    bad: r#"
spec:
  rules:
  - from:
    - source:
        notNamespaces: ["dev"]
"#,
    good: r#"
spec:
  rules:
  - from:
    - source:
        principals: ["*"]
        notNamespaces: ["dev"]
"#,
    trust_domain: None,
    check: Check::Input(check),
};

fn check(input: &Input<'_>, reporter: &mut Reporter) {
    for Placed { rule, resource, .. } in input.rules().allow.all() {
        if rule.only_excludes_identities() && !input.refuses_plaintext(resource) {
            reporter.report(
                &LINT,
                resource,
                plaintext::identity_path(resource, rule, true),
                "a peer in plaintext has no identity, so this `not` field holds for it and its request passes",
                "ask for an identity besides: `principals: [\"*\"]`",
            );
        }
    }
}
