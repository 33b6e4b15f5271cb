//! MA018. A value that is written as a regular expression, or a path in a router's syntax.

use mesh_authz::policy::Predicate;

use super::path_with_query::query;
use super::{Check, Lint, LintContext, Remark, ValueList};

pub(super) static LINT: Lint = Lint {
    code: "MA018",
    name: "foreign-pattern",
    summary: "a value that is written as a regular expression, or a path in a router's syntax",
    explanation: "Values are neither regular expressions nor the patterns of a router. `.*`, `^admin$`, `[0-9]+`, `:id` and \
            `<id>` are compared literally, and no request contains them. Use a prefix (`/api/*`), a suffix (`*.html`) or, for \
            paths, a template (`/users/{*}/orders`). `*` alone matches every value.",
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
    if is_foreign_text(value, list.predicate) {
        return Some(Remark::new(
            format!("`{value}` is compared as it stands: values are no regular expressions"),
            list.correct(instead(value)),
        ));
    }
    let Predicate::Path(_) = list.predicate else { return None };
    if query(value).is_some() || !is_foreign(value) {
        return None;
    }
    Some(Remark::new(
        format!("`{value}` is compared as it stands: paths are no regular expressions and no routes"),
        list.correct("use a prefix (`/api/*`), a suffix (`*.html`) or a template (`/users/{*}/orders`)"),
    ))
}

/// Whether a value that is no path is a regular expression.
pub(super) fn is_foreign_text(value: &str, predicate: &Predicate) -> bool {
    const SIGNS: [&str; 10] = ["\\d", "\\w", "\\s", "\\.", "[a-z", "[A-Z", "[0-9", "(?", ")+", ")*"];
    if matches!(predicate, Predicate::Path(_)) {
        return false;
    }
    // `1.*` is a prefix, and `a.*.example` is meant as a wildcard.
    let is_any = |sign: &str| {
        value.starts_with(sign) || value.split(sign).skip(1).any(|rest| !rest.is_empty() && !rest.starts_with('.'))
    };
    let is_choice = || {
        let inner = value.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(inner, _)| inner);
        inner.is_some_and(|inner| inner.contains('|') && !inner.contains(' '))
    };
    (value.starts_with('^') && value.ends_with(['$', '*', '+']))
        || is_any(".*")
        || is_any(".+")
        || SIGNS.iter().any(|sign| value.contains(sign))
        || is_choice()
}

/// What to write instead of a regular expression.
fn instead(value: &str) -> String {
    let inner = value.strip_prefix('^').unwrap_or(value);
    let inner = inner.strip_suffix('$').unwrap_or(inner);
    let is_plain = |text: &str| !text.is_empty() && !text.contains(|c: char| ".*+?()[]{}|\\^$".contains(c));
    match inner {
        ".*" | ".+" => "write `*`, which matches every value that is not empty".to_owned(),
        _ if is_plain(inner) => format!("write `{inner}`"),
        _ if inner.strip_suffix(".*").is_some_and(is_plain) => format!("write `{}*`", inner.trim_end_matches(".*")),
        _ if inner.strip_prefix(".*").is_some_and(is_plain) => format!("write `*{}`", inner.trim_start_matches(".*")),
        _ => "list the values, or use one wildcard at one end".to_owned(),
    }
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
