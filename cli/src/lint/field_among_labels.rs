//! MA028. A label in the selector that has the name of a field.

use mesh_authz::diagnostic::Path;

use super::{Check, Lint, LintContext, PolicyView, Reporter};

pub(super) static LINT: Lint = Lint {
    code: "MA028",
    name: "field-among-labels",
    summary: "a label in the selector that has the name of a field",
    explanation: "A line that is indented too far becomes a label. The policy is still valid, but it requires a label \
            that no workload has, and it no longer has the field. A DENY policy that loses its action becomes an ALLOW \
            policy.",
    bad: r"
spec:
  selector:
    matchLabels:
      app: backend
      action: DENY
",
    good: r"
spec:
  selector:
    matchLabels:
      app: backend
  action: ALLOW
",
    trust_domain: None,
    check: Check::Policy(check),
};

fn check(policy: &PolicyView<'_>, _: &LintContext, reporter: &mut Reporter) {
    const FIELDS: [&str; 7] = ["action", "rules", "provider", "selector", "targetRef", "targetRefs", "matchLabels"];
    let labels = Path::of(["spec", "selector", "matchLabels"]);
    for key in policy.keys(&labels).filter(|key| FIELDS.contains(key)) {
        reporter.report(
            &LINT,
            policy.resource,
            labels.with(key),
            format!("`{key}` is a label here, that workloads must carry, and not the field of that name"),
            "correct the indentation of the line; then the policy is in force on more workloads, and what it allows passes there",
        );
    }
}
