//! MA001. An ALLOW rule that DENY rules always override.

use mesh_authz::policy::rule_path;

use super::comparison::{Comparison, Place};
use super::{Check, Input, Lint, Reporter};

pub(super) static LINT: Lint = Lint {
    code: "MA001",
    name: "unreachable-allow",
    summary: "an ALLOW rule that DENY rules always override",
    explanation: "In Istio, a DENY rule that matches overrides every ALLOW rule. Here, a DENY rule, or \
            several together, match every request that this ALLOW rule matches, on all workloads of the ALLOW policy. \
            So the ALLOW rule never lets a request pass. Often, the author meant the DENY policy as \"deny by default\". In Istio, an ALLOW policy \
            without rules does that. It matches no request. But once it applies to a workload, a request to this \
            workload passes only if another ALLOW policy matches it. Before you replace the DENY rule by such a \
            policy, remove the ALLOW rules that match too much: they then let requests pass. To refuse every request, \
            keep the DENY rule, and remove the ALLOW rules.",
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
    for covered in Comparison::new(input).unreachable() {
        let names = covered.names();
        let matches_all = covered.by.iter().any(|wide| wide.is_unconditional);
        // No hint may open what is closed without saying so.
        let (matches, hint) = match (matches_all, covered.rule.is_unconditional) {
            (true, true) => (
                "every request",
                "remove this ALLOW rule, and keep the DENY: without the DENY, this rule would let every request pass",
            ),
            (true, false) => (
                "every request",
                "if nothing is to pass, remove this ALLOW rule; to deny by default, first remove the ALLOW rules that match too \
                 much; then replace the DENY rule, and not the policy's other rules, by an ALLOW policy with the same selector \
                 and without rules: then exactly what ALLOW rules match passes",
            ),
            (false, _) => (
                "whatever this rule matches",
                "remove this ALLOW rule, but keep the policy even if it has no other rule: an ALLOW policy without rules refuses \
                 what nothing allows; only if these requests are to pass, narrow the DENY",
            ),
        };
        let message = if covered.are_several() {
            format!("{names}, all DENY, match {matches}, and a DENY beats every ALLOW: this rule never allows anything")
        } else {
            format!("{names}, a DENY, matches {matches}, and a DENY beats every ALLOW: this rule never allows anything")
        };
        let Place { resource, index, .. } = covered.rule;
        reporter.report_related(&LINT, resource, rule_path(index), message, hint, covered.related("the DENY rule"));
    }
}
