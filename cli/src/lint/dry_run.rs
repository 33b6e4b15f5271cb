//! MA024. A policy that is only a dry run.

use mesh_authz::diagnostic::Path;
use mesh_authz::policy::Action;
use mesh_authz::policy::resource::DRY_RUN;

use super::{Check, Lint, LintContext, PolicyView, Reporter};

pub(super) static LINT: Lint = Lint {
    code: "MA024",
    name: "dry-run",
    summary: "a policy that is only a dry run",
    explanation: "A policy with the annotation `istio.io/dry-run: \"true\"` is evaluated and reported, but decides \
            nothing. A workload whose only ALLOW policies are dry runs is open. Remove the annotation when the trial \
            is over.",
    bad: r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: allow-nothing
  annotations:
    istio.io/dry-run: "true"
spec: {}
"#,
    good: r"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: allow-nothing
spec: {}
",
    trust_domain: None,
    check: Check::Policy(check),
};

fn check(policy: &PolicyView<'_>, _: &LintContext, reporter: &mut Reporter) {
    if policy.policy().dry_run {
        let hint = match policy.policy().action {
            Action::Allow => "remove the annotation once the trial is over; what the policy allows then passes",
            Action::Deny | Action::Audit | Action::Custom => "remove the annotation once the trial is over",
        };
        reporter.report(
            &LINT,
            policy.resource,
            Path::of(["metadata", "annotations", DRY_RUN]),
            "this policy is only tried out: it decides nothing",
            hint,
        );
    }
}
