//! MA016. A path that contains a `?` or a `#`.

use mesh_authz::policy::Predicate;

use super::{Check, Lint, LintContext, Remark, ValueList};

pub(super) static LINT: Lint = Lint {
    code: "MA016",
    name: "path-with-query",
    summary: "a path that contains a `?` or a `#`",
    explanation: "The values of paths are compared with the request's path up to the first `?` or `#`, so a value that \
            contains one of them matches nothing. To compare the whole `:path`, including the query, use the condition \
            `request.headers[:path]`.",
    bad: r#"
spec:
  rules:
  - to:
    - operation:
        paths: ["/search?q=*"]
"#,
    good: r#"
spec:
  rules:
  - to:
    - operation:
        paths: ["/search"]
"#,
    trust_domain: None,
    check: Check::Value(check),
};

fn check(value: &str, list: &ValueList<'_>, _: &LintContext) -> Option<Remark> {
    let Predicate::Path(_) = list.predicate else { return None };
    let before = query(value)?;
    let whole = "use `request.headers[:path]`, which has the query";
    let hint = if before.starts_with('/') { format!("write `{before}`, or {whole}") } else { whole.to_owned() };
    Some(Remark::new(format!("`{value}` matches nothing: the query is not part of the path"), list.correct(hint)))
}

/// The part of a path before its query or fragment; `None` if it has neither.
pub(super) fn query(path: &str) -> Option<&str> {
    path.get(..path.find(['?', '#'])?)
}
