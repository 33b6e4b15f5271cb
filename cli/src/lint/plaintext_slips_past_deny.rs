//! MA003. A DENY by identity, which a peer without an identity does not match.

use super::comparison::Placed;
use super::{Check, Input, Lint, Reporter, plaintext};

pub(super) static LINT: Lint = Lint {
    code: "MA003",
    name: "plaintext-slips-past-deny",
    summary: "a DENY by identity, which a peer without an identity does not match",
    explanation: "principals, namespaces, serviceAccounts and trustDomains look at the peer's certificate. A peer that \
            comes in plaintext has none, so a DENY rule that asks for one of these does not match it, and the request \
            passes unless something else stops it. The lint is silent where something does: a DENY with \
            `notPrincipals: [\"*\"]`, ALLOW policies that all ask for an identity, or a PeerAuthentication in the \
            input with `mtls.mode: STRICT`.",
    bad: r#"
spec:
  action: DENY
  rules:
  - from:
    - source:
        namespaces: ["dev"]
"#,
    good: r#"
spec:
  action: DENY
  rules:
  - from:
    - source:
        namespaces: ["dev"]
  - from:
    - source:
        notPrincipals: ["*"]
"#,
    trust_domain: None,
    check: Check::Input(check),
};

fn check(input: &Input<'_>, reporter: &mut Reporter) {
    for Placed { rule, resource, .. } in input.rules().deny.all() {
        let asks = rule.can_need_identity() && !rule.never_matches();
        if asks && !input.refuses_plaintext(resource) {
            reporter.report(
                &LINT,
                resource,
                plaintext::identity_path(resource, rule, false),
                "a peer in plaintext has no identity, so this DENY does not match it and its request passes",
                "refuse peers without an identity too, with a rule `from: [{source: {notPrincipals: [\"*\"]}}]`",
            );
        }
    }
}
