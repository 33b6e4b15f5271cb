//! MA026. A list of values without a value, which restricts nothing.

use mesh_authz::diagnostic::Path;
use mesh_authz::document::{Node, Value};

use super::{Check, Lint, LintContext, PolicyView, Reporter};

pub(super) static LINT: Lint = Lint {
    code: "MA026",
    name: "empty-list",
    summary: "a list of values without a value, which restricts nothing",
    explanation: "A field whose list is empty is as good as absent: `principals: []` beside other fields lets the rule match \
            whoever the caller is. Name a value, or remove the field.",
    bad: r#"
spec:
  rules:
  - to:
    - operation:
        methods: ["GET"]
        paths: []
"#,
    good: r#"
spec:
  rules:
  - to:
    - operation:
        methods: ["GET"]
"#,
    trust_domain: None,
    check: Check::Policy(check),
};

/// Lists without a value. Where the whole field holds none, nothing of it is left in the policy as read.
fn check(policy: &PolicyView<'_>, _: &LintContext, reporter: &mut Reporter) {
    let empty = policy.lists.iter().filter(|list| list.values.is_empty());
    let mut lists: Vec<Path> = empty.map(|list| list.path.clone()).collect();
    for (index, rule) in policy.policy().rules.iter().enumerate() {
        for (clause, _) in rule.clauses() {
            let path = clause.path(index);
            let Some(Value::Map(entries)) = policy.resource.node.at(&path).map(|node: &Node| &node.value) else {
                continue;
            };
            for (name, _) in entries.iter().filter(|(_, node)| node.value == Value::List(Vec::new())) {
                let path = path.with(name);
                if !lists.contains(&path) {
                    lists.push(path);
                }
            }
        }
    }
    for path in lists {
        reporter.report(
            &LINT,
            policy.resource,
            path,
            "is empty, which restricts nothing",
            "remove it, or name a value",
        );
    }
}
