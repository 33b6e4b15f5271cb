//! MA026. An empty list of values, which restricts nothing.

use mesh_authz::diagnostic::Path;
use mesh_authz::document::{Node, Value};
use mesh_authz::policy::Action;

use super::{Check, Lint, LintContext, PolicyView, Reporter};

pub(super) static LINT: Lint = Lint {
    code: "MA026",
    name: "empty-list",
    summary: "an empty list of values, which restricts nothing",
    explanation: "A field with an empty list has the same effect as no field at all. If a source has `principals: []` \
            and other fields, its rule matches no matter who the caller is. Add a value, or remove the field.",
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

/// Reports lists without a value.
///
/// If neither the field nor its `not` twin has a value, the parsed policy does not contain the field. So the second
/// part looks at the document.
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
    let hint = match policy.policy().action {
        Action::Deny | Action::Custom => "remove it; or name a value, and then the rule refuses less",
        Action::Allow | Action::Audit => "remove it, or name a value",
    };
    for path in lists {
        reporter.report(&LINT, policy.resource, path, "is empty, which restricts nothing", hint);
    }
}
