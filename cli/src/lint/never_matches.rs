//! MA002. A rule that no request can match.

use mesh_authz::policy::{Action, rule_path};

use super::comparison::contradictory;
use super::{Check, Lint, LintContext, PolicyView, Reporter};

pub(super) static LINT: Lint = Lint {
    code: "MA002",
    name: "never-matches",
    summary: "a rule that no request can match",
    explanation: "A rule matches if one of its sources, one of its operations and all of its conditions match. In \
            every such combination, some requirements of this rule exclude each other: a value that must match is also \
            a value that must not match, or fields require different values of the same attribute. A DENY rule \
            that matches nothing protects nothing. An ALLOW rule that matches nothing refuses everything, unless \
            another ALLOW rule permits it.",
    bad: r#"
spec:
  action: DENY
  rules:
  - to:
    - operation:
        ports: ["8080"]
    when:
    - key: destination.port
      values: ["9090"]
"#,
    good: r#"
spec:
  action: DENY
  rules:
  - to:
    - operation:
        ports: ["8080", "9090"]
"#,
    trust_domain: None,
    check: Check::Policy(check),
};

fn check(policy: &PolicyView<'_>, context: &LintContext, reporter: &mut Reporter) {
    let hint = match policy.policy().action {
        Action::Allow => "remove the one that is not meant, if the requests that the rule then matches are to pass",
        Action::Deny | Action::Audit | Action::Custom => "remove the one that is not meant",
    };
    let mesh = &context.mesh;
    for index in contradictory(policy.policy(), &mesh.options(), &mesh.root_namespace) {
        reporter.report(
            &LINT,
            policy.resource,
            rule_path(index),
            "no request can match this rule: some of its conditions exclude each other",
            hint,
        );
    }
}
