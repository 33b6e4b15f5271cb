//! MA012. A rule that another rule with the same action makes redundant.

use mesh_authz::policy::{Action, rule_path};

use super::comparison::{Placed, Rules, name};
use super::{Check, Input, Lint, Related, Reporter};

pub(super) static LINT: Lint = Lint {
    code: "MA012",
    name: "shadowed-rule",
    summary: "a rule that another rule with the same action makes redundant",
    explanation: "The other rule matches every request that this rule matches, on all workloads of this rule's policy. \
            So this rule changes no decision. Either this rule is no longer needed, or the other rule is wider than it \
            should be.",
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
    for rules in input.rules().all() {
        shadowed(rules, input, reporter);
    }
}

/// Reports rules that another rule with the same action makes redundant.
fn shadowed(rules: &Rules<'_>, input: &Input<'_>, reporter: &mut Reporter) {
    let root = &input.context.mesh.root_namespace;
    let shadows = |wide: Placed<'_, '_>, narrow: Placed<'_, '_>| {
        wide.place() != narrow.place()
            && !input.are_apart(&wide.resource.source, &narrow.resource.source)
            && wide.resource.policy.provider == narrow.resource.policy.provider
            // A DENY rule that matches everything may be the wrong one. Without it, the other rules are needed.
            && !(rules.action == Action::Deny && wide.rule.is_unconditional() && !narrow.rule.is_unconditional())
    };
    // If two rules cover each other, the later one is redundant.
    let is_left_over = |wide: Placed<'_, '_>, narrow: Placed<'_, '_>| {
        wide.place() < narrow.place() || !(narrow.reaches(wide, root) && narrow.rule.covers(wide.rule))
    };
    let does = match rules.action {
        Action::Allow => "allows",
        Action::Deny => "refuses",
        Action::Audit => "records",
        Action::Custom => "asks the provider about",
    };
    for (narrow, wide) in rules.covering(rules, input.context, shadows, is_left_over) {
        let name = name(wide.rule);
        let hint = match rules.action {
            Action::Allow => format!("remove this rule, or narrow {name}"),
            // Whoever narrows the other rule opens something.
            // Only a policy that allows can do without rules.
            _ if narrow.resource.policy.rules.len() == 1 => "remove this policy".to_owned(),
            Action::Deny | Action::Audit | Action::Custom => "remove this rule".to_owned(),
        };
        reporter.report_related(
            &LINT,
            narrow.resource,
            rule_path(narrow.rule.id().index),
            format!("{name} {does} all that this rule {does}: this one changes no decision"),
            hint,
            Related::new(wide.resource, &rule_path(wide.rule.id().index), "the wider rule"),
        );
    }
}
