//! MA003. A DENY rule by identity, which does not match a peer without an identity.

use mesh_authz::analysis::CompiledRule;
use mesh_authz::policy::{Action, Target};

use super::comparison::contradictory;
use super::tcp_traffic::may_be_reached_directly;
use super::{Check, Input, Lint, Reporter, plaintext};

pub(super) static LINT: Lint = Lint {
    code: "MA003",
    name: "plaintext-slips-past-deny",
    summary: "a DENY rule by identity, which does not match a peer without an identity",
    explanation: "The values of principals, namespaces, serviceAccounts and trustDomains are compared with the \
            identity in the peer's certificate. A peer that connects in plaintext has no certificate. A DENY rule that \
            requires a match in one of these fields does not match such a peer, and the request passes unless \
            something else refuses it. The lint does not fire if something else refuses plaintext: a DENY rule with \
            `notPrincipals: [\"*\"]`, ALLOW policies that all require an identity, or a PeerAuthentication in the \
            input with `mtls.mode: STRICT`. Nor does it fire for a waypoint, which no peer in plaintext reaches.",
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
    let mesh = &input.context.mesh;
    for (resource, mut rules) in input.rules(Action::Deny) {
        rules.retain(CompiledRule::can_need_identity);
        if rules.is_empty() || input.refuses_plaintext(resource) {
            continue;
        }
        let policy = &resource.policy;
        let contradictory = contradictory(policy, &mesh.options(), &mesh.root_namespace);
        for rule in rules.iter().filter(|rule| !contradictory.contains(&rule.id().index)) {
            let is_for_mesh = policy.target == Target::Everything && policy.name.namespace == mesh.root_namespace;
            let hint = "refuse peers without an identity too, with a rule `from: [{source: {notPrincipals: [\"*\"]}}]`";
            // Clients of an ingress gateway have no identity.
            let hint = if is_for_mesh || may_be_reached_directly(&policy.target) {
                format!("{hint}, but not at a gateway for clients from outside, which it would refuse as well")
            } else {
                hint.to_owned()
            };
            reporter.report(
                &LINT,
                resource,
                plaintext::identity_path(resource, rule, false),
                "a peer in plaintext has no identity, so this DENY does not match it, and nothing in the input refuses it",
                hint,
            );
        }
    }
}
