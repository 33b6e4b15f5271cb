//! MA004. An ALLOW rule that only excludes identities, so that every plaintext peer satisfies it.

use mesh_authz::policy::{Action, Predicate};

use super::{Check, Input, Lint, Reporter, plaintext};

pub(super) static LINT: Lint = Lint {
    code: "MA004",
    name: "plaintext-satisfies-allow",
    summary: "an ALLOW rule that only excludes identities: every plaintext peer satisfies it",
    explanation: "A `not` field also holds for a request that does not have the attribute. So an ALLOW rule permits \
            every peer without an identity if it has notPrincipals, notNamespaces, notServiceAccounts or \
            notTrustDomains, and nothing that requires an identity. Also require an identity: `principals: [\"*\"]`. \
            As with MA003, the lint does not fire if something else refuses plaintext.",
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
    let rules = input.rules(Action::Allow);
    for (resource, rule) in rules.flat_map(|(resource, rules)| rules.into_iter().map(move |rule| (resource, rule))) {
        if rule.only_excludes_identities() && !input.refuses_plaintext(resource) {
            // Principals cannot stand beside service accounts.
            let sources = resource.policy.rules.get(rule.id().index).and_then(|rule| rule.from.as_ref());
            let mut fields = sources.into_iter().flat_map(|from| &from.0).flat_map(|source| &source.0);
            let hint = if fields.any(|field| matches!(field, Predicate::ServiceAccount(_))) {
                "ask for an identity besides, in `when`: `{key: source.principal, values: [\"*\"]}`"
            } else {
                "ask for an identity besides: `principals: [\"*\"]`"
            };
            reporter.report(
                &LINT,
                resource,
                plaintext::identity_path(resource, &rule, true),
                "a peer in plaintext has no identity, so this `not` field holds for it, and nothing in the input refuses it",
                hint,
            );
        }
    }
}
