//! MA029. An annotation whose name is almost `istio.io/dry-run`.

use mesh_authz::diagnostic::{Path, suggestion};
use mesh_authz::policy::resource::DRY_RUN;

use super::{Check, Lint, LintContext, PolicyView, Reporter};

pub(super) static LINT: Lint = Lint {
    code: "MA029",
    name: "nearly-dry-run",
    summary: "an annotation whose name is almost `istio.io/dry-run`",
    explanation: "Annotations can have any name, so a misspelled annotation is valid and has no effect. The policy is \
            not a dry run: it decides.",
    bad: r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: allow-nothing
  annotations:
    istio.io/dryrun: "true"
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
    let annotations = Path::of(["metadata", "annotations"]);
    for key in policy.keys(&annotations).filter(|key| *key != DRY_RUN && suggestion(key, [DRY_RUN]).is_some()) {
        reporter.report(
            &LINT,
            policy.resource,
            annotations.with(key),
            format!("`{key}` means nothing: the policy decides"),
            format!(
                "did you mean `{DRY_RUN}`? Then the policy protects nothing; if it is no trial, remove the annotation"
            ),
        );
    }
}
