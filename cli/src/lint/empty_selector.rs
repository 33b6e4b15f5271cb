//! MA025. A selector without labels, which selects everything.

use mesh_authz::diagnostic::Path;
use mesh_authz::policy::Target;

use super::{Check, Lint, LintContext, PolicyView, Reporter};

pub(super) static LINT: Lint = Lint {
    code: "MA025",
    name: "empty-selector",
    summary: "a selector without labels, which selects everything",
    explanation: "A selector without labels selects every workload of the namespace, as if there were no selector. If \
            you want that, remove the selector.",
    bad: r"
spec:
  selector: {}
",
    good: r"
spec:
  selector:
    matchLabels:
      app: backend
",
    trust_domain: None,
    check: Check::Policy(check),
};

fn check(policy: &PolicyView<'_>, _: &LintContext, reporter: &mut Reporter) {
    let selector = Path::of(["spec", "selector"]);
    if policy.policy().target == Target::Everything && policy.resource.node.at(&selector).is_some() {
        reporter.report(
            &LINT,
            policy.resource,
            selector,
            "selects every workload of the namespace",
            "remove the selector; or name a label, and then no other workload has this policy",
        );
    }
}
