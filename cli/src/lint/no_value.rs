//! MA036. `spec` or `rules` without a value.

use mesh_authz::diagnostic::Path;
use mesh_authz::document::Node;

use super::{Check, Lint, LintContext, PolicyView, Reporter};

pub(super) static LINT: Lint = Lint {
    code: "MA036",
    name: "no-value",
    summary: "`spec` or `rules` without a value",
    explanation: "A cluster takes `spec:` and `rules:` without a value, for example if all lines below them are comments, and drops \
            them. The policy then has no rules: it allows nothing, so the requests to its workloads pass only if another ALLOW \
            policy allows them. If that is meant, write `spec: {}`, or leave `rules` out.",
    bad: r"
spec:
  rules:
",
    good: r"
spec: {}
",
    trust_domain: None,
    check: Check::Policy(check),
};

fn check(policy: &PolicyView<'_>, _: &LintContext, reporter: &mut Reporter) {
    for path in [Path::of(["spec"]), Path::of(["spec", "rules"])] {
        if policy.resource.node.at(&path).is_some_and(Node::is_null) {
            reporter.report(
                &LINT,
                policy.resource,
                path,
                "has no value, so the policy has no rules and allows nothing",
                "if that is meant, write `spec: {}`, or leave `rules` out",
            );
        }
    }
}
