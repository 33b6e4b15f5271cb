//! MA028. A label in the selector that has the name of a field.

use mesh_authz::diagnostic::Path;
use mesh_authz::document::Node;

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
    // A provider is no text, and so such a label is one.
    const FIELDS: [&str; 5] = ["rules", "selector", "targetRef", "targetRefs", "matchLabels"];
    const ACTIONS: [&str; 4] = ["ALLOW", "AUDIT", "CUSTOM", "DENY"];
    let labels = Path::of(["spec", "selector", "matchLabels"]);
    let is_action = |key: &str| {
        let value = policy.resource.node.at(&labels.with(key)).and_then(Node::as_str);
        key == "action" && value.is_some_and(|value| ACTIONS.iter().any(|action| action.eq_ignore_ascii_case(value)))
    };
    for key in policy.keys(&labels).filter(|key| FIELDS.contains(key) || is_action(key)) {
        reporter.report(
            &LINT,
            policy.resource,
            labels.with(key),
            format!("`{key}` is a label here, that workloads must carry, and not the field of that name"),
            "correct the indentation of the line; then the policy is in force on more workloads, and what it allows passes there",
        );
    }
}
