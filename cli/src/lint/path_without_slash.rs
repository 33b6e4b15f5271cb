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
    let path = value.trim();
    let path = match path.split_once("://") {
        // Of a URL, only what is behind the host is a path.
        Some((_, rest)) => rest.find('/').and_then(|slash| rest.get(slash..)).unwrap_or("/").to_owned(),
        None if path.starts_with('/') => path.to_owned(),
        None => format!("/{path}"),
    };
    Some(Remark::new(
        format!("`{value}` matches nothing: a request's path begins with a slash"),
        list.correct(format!("write `{path}`")),
    ))
}
