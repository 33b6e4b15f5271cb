//! MA001. An ALLOW rule that a DENY rule always overrides.

use mesh_authz::engine::Combining;
use mesh_authz::policy::rule_path;

use super::comparison::name;
use super::{Check, Input, Lint, Related, Reporter};

pub(super) static LINT: Lint = Lint {
    code: "MA001",
    name: "unreachable-allow",
    summary: "an ALLOW rule that a DENY rule always overrides",
    explanation: "In Istio, a DENY rule that matches overrides every ALLOW rule. Here, a DENY rule matches every \
            request that this ALLOW rule matches, on all workloads of the ALLOW policy. So the ALLOW rule never lets a \
            request pass. Often, the author meant the DENY policy as \"deny by default\". In Istio, deny by default is \
            an ALLOW policy without rules. Such a policy never matches, but because it applies, every request that no \
            other ALLOW policy permits is refused.",
    bad: r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: deny-all
spec:
  action: DENY
  rules:
  - {}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: allow-frontend
spec:
  rules:
  - from:
    - source:
        principals: ["cluster.local/ns/default/sa/frontend"]
"#,
    good: r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: allow-nothing
spec: {}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: allow-frontend
spec:
  rules:
  - from:
    - source:
        principals: ["cluster.local/ns/default/sa/frontend"]
"#,
    trust_domain: None,
    check: Check::Input(check),
};

fn check(input: &Input<'_>, reporter: &mut Reporter) {
    if input.context.mesh.combining != Combining::DenyOverrides {
        return;
    }
    let rules = input.rules();
    for (narrow, wide) in rules.deny.covering(&rules.allow, input.context, |_, _| true, |_, _| true) {
        let name = name(wide.rule);
        let (matches, hint) = match (wide.rule.is_unconditional(), wide.resource.policy.rules.len()) {
            (true, 1) => (
                "every request",
                "to deny by default, replace the DENY by an ALLOW policy with the same selector and without rules",
            ),
            (true, _) => (
                "every request",
                "to deny by default, replace that rule, and not the policy's other rules, by an ALLOW policy with the same \
                 selector and without rules",
            ),
            (false, _) => ("whatever this rule matches", "narrow the DENY, if this is to be allowed"),
        };
        reporter.report_related(
            &LINT,
            narrow.resource,
            rule_path(narrow.rule.id().index),
            format!("{name}, a DENY, matches {matches}, and a DENY beats every ALLOW: this rule never allows anything"),
            hint,
            Related::new(wide.resource, &rule_path(wide.rule.id().index), "the DENY rule"),
        );
    }
}
