//! MA018. A path that is written as a regular expression or in a router's syntax.

use mesh_authz::policy::Predicate;

use super::path_with_query::query;
use super::{Check, Lint, LintContext, Remark, ValueList};

pub(super) static LINT: Lint = Lint {
    code: "MA018",
    name: "foreign-pattern",
    summary: "a path that is written as a regular expression or in a router's syntax",
    explanation: "Paths are neither regular expressions nor the patterns of a router. `.*`, `[0-9]+`, `:id` and `<id>` \
            are compared literally, and no request contains them. Use a prefix (`/api/*`), a suffix (`*.html`) or a \
            template (`/users/{*}/orders`).",
    bad: r#"
spec:
  rules:
  - to:
    - operation:
        paths: ["/users/:id/orders", "^/api/v[0-9]+$"]
"#,
    good: r#"
spec:
  rules:
  - to:
    - operation:
        paths: ["/users/{*}/orders", "/api/v*"]
"#,
    trust_domain: None,
    check: Check::Value(check),
};

fn check(value: &str, list: &ValueList<'_>, _: &LintContext) -> Option<Remark> {
    let Predicate::Path(_) = list.predicate else { return None };
    if query(value).is_some() || !is_foreign(value) {
        return None;
    }
    Some(Remark::new(
        format!("`{value}` is compared as it stands: paths are no regular expressions and no routes"),
        list.correct("use a prefix (`/api/*`), a suffix (`*.html`) or a template (`/users/{*}/orders`)"),
    ))
}

/// Whether a path looks like a regular expression, or has a parameter in a router's syntax.
pub(super) fn is_foreign(path: &str) -> bool {
    let parameter = |segment: &str| {
        segment.strip_prefix(':').is_some_and(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()))
            || (segment.starts_with('<') && segment.ends_with('>'))
    };
    // `/index.*` is a prefix. `.*` is a regular expression if text follows it, or if it is a whole segment.
    let beginning = path.strip_suffix('*').unwrap_or(path);
    path.starts_with('^')
        || path.ends_with("/.*")
        || [".*", ".+", "\\", "(?", "[^", "]+", "]*"].iter().any(|sign| beginning.contains(sign))
        || path.split('/').any(parameter)
}
