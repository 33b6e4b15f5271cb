//! MA012. A rule that other rules with the same action make redundant.

use mesh_authz::policy::{Action, rule_path};

use super::comparison::{Comparison, Place};
use super::{Check, Input, Lint, Reporter};

pub(super) static LINT: Lint = Lint {
    code: "MA012",
    name: "shadowed-rule",
    summary: "a rule that other rules with the same action make redundant",
    explanation: "Other rules, one or several together, match every request that this rule matches, on all workloads of this \
            rule's policy. So this rule changes no decision. Either this rule is no longer needed, or the other rules are \
            wider than they should be. All rules that the lint reports can be removed together.",
    bad: r#"
spec:
  rules:
  - to:
    - operation:
        paths: ["/api/*"]
  - to:
    - operation:
        methods: ["GET"]
        paths: ["/api/v1/data"]
"#,
    good: r#"
spec:
  rules:
  - to:
    - operation:
        methods: ["GET"]
        paths: ["/api/*"]
  - to:
    - operation:
        methods: ["POST"]
        paths: ["/api/v1/data"]
"#,
    trust_domain: None,
    check: Check::Input(check),
};

fn check(input: &Input<'_>, reporter: &mut Reporter) {
    for covered in Comparison::new(input).shadowed() {
        let Place { resource, index, .. } = covered.rule;
        let (does, do_it) = match resource.policy.action {
            Action::Allow => ("allows", "allow"),
            Action::Deny => ("refuses", "refuse"),
            Action::Audit => ("records", "record"),
            Action::Custom => ("asks the provider about", "ask the provider about"),
        };
        let names = covered.names();
        let they_do = if covered.are_several() { do_it } else { does };
        let hint = match resource.policy.action {
            Action::Allow => format!("remove this rule, or narrow {names}"),
            // Whoever narrows the other rule opens something.
            // Only a policy that allows can do without rules.
            _ if resource.policy.rules.len() == 1 => "remove this policy".to_owned(),
            Action::Deny | Action::Audit | Action::Custom => "remove this rule".to_owned(),
        };
        reporter.report_related(
            &LINT,
            resource,
            rule_path(index),
            format!("{names} {they_do} all that this rule {does}: this one changes no decision"),
            hint,
            covered.related("the wider rule"),
        );
    }
}
