//! MA002. A rule that no request can match.

use mesh_authz::analysis;
use mesh_authz::policy::rule_path;

use super::{Check, Lint, LintContext, PolicyView, Reporter};

pub(super) static LINT: Lint = Lint {
    code: "MA002",
    name: "never-matches",
    summary: "a rule that no request can match",
    explanation: "Two conditions of the rule exclude each other in every alternative: a value that must match is also \
            among those that must not, or two fields ask for different values of one thing. A DENY that matches nothing \
            protects nothing; an ALLOW that matches nothing refuses everything.",
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
    for rule in analysis::rules(policy.policy(), &context.mesh.options()) {
        if rule.never_matches() {
            reporter.report(
                &LINT,
                policy.resource,
                rule_path(rule.id().index),
                "no request can match this rule: two of its conditions exclude each other",
                "remove the one that is not meant",
            );
        }
    }
}
