//! MA009. A path that begins with neither a slash nor a wildcard.

use mesh_authz::policy::Predicate;

use super::foreign_pattern::is_foreign;
use super::path_with_query::query;
use super::{Check, Lint, LintContext, Remark, ValueList};

pub(super) static LINT: Lint = Lint {
    code: "MA009",
    name: "path-without-slash",
    summary: "a path that begins with neither a slash nor a wildcard",
    explanation: "The path of every request begins with a slash, so this value matches nothing.",
    bad: r#"
spec:
  rules:
  - to:
    - operation:
        paths: ["api/v1/data"]
"#,
    good: r#"
spec:
  rules:
  - to:
    - operation:
        paths: ["/api/v1/data"]
"#,
    trust_domain: None,
    check: Check::Value(check),
};

fn check(value: &str, list: &ValueList<'_>, _: &LintContext) -> Option<Remark> {
    let Predicate::Path(_) = list.predicate else { return None };
    if value.starts_with(['/', '*']) || query(value).is_some() || is_foreign(value) {
        return None;
    }
    Some(Remark::new(
        format!("`{value}` matches nothing: a request's path begins with a slash"),
        list.correct(format!("write `/{value}`")),
    ))
}
