//! MA017. A path that is meant to be refused, but is listed only with, or only without, a trailing slash.

use mesh_authz::policy::Predicate;

use super::path_spelling::{is_grpc, matches, may_pass};
use super::{Check, Lint, LintContext, Remark, ValueList};

pub(super) static LINT: Lint = Lint {
    code: "MA017",
    name: "trailing-slash",
    summary: "a path to be refused that is listed only with, or only without, a trailing slash",
    explanation: "For a policy, `/admin` and `/admin/` are two different paths. For many applications, they are the \
            same path. Where a match refuses the request (paths in DENY, notPaths in ALLOW), list both. The prefix \
            `/admin/*` and the template `/admin/{**}` do not match `/admin` itself. The lint is silent about methods of gRPC and \
            about files such as `/index.html`, which servers take in one spelling only.",
    bad: r#"
spec:
  action: DENY
  rules:
  - to:
    - operation:
        paths: ["/admin"]
        ports: ["8080"]
"#,
    good: r#"
spec:
  action: DENY
  rules:
  - to:
    - operation:
        paths: ["/admin", "/admin/*"]
        ports: ["8080"]
"#,
    trust_domain: None,
    check: Check::Value(check),
};

/// Reports a path if the list does not also match the path with its trailing slash added or removed.
fn check(value: &str, list: &ValueList<'_>, _: &LintContext) -> Option<Remark> {
    let Predicate::Path(values) = list.predicate else { return None };
    if !list.denies() {
        return None;
    }
    let head = value.strip_suffix("{**}").or_else(|| value.strip_suffix('*')).unwrap_or(value);
    let has_operator = head.contains('{');
    let is_open = head.len() < value.len();
    if !value.starts_with('/')
        || is_grpc(value)
        || is_file(value)
        || has_operator
        || head.len() < 2
        || (is_open && !head.ends_with('/'))
    {
        return None;
    }
    let twin = match head.strip_suffix('/') {
        Some(without) => without.to_owned(),
        None => format!("{head}/"),
    };
    let listed = if list.is_not { &values.none } else { &values.any };
    if listed.iter().any(|listed| matches(listed, &twin)) || !may_pass(list, &twin) {
        return None;
    }
    let hint = if is_open || head.ends_with('/') {
        format!("add `{twin}`")
    } else {
        format!("add `{twin}`, or `{twin}*` for everything below")
    };
    Some(Remark::new(format!("`{value}` does not match `{twin}`, which many applications take for the same"), hint))
}

/// Whether a path names a file that a server only reads, or a hidden one.
fn is_file(path: &str) -> bool {
    const TYPES: [&str; 15] =
        ["css", "gif", "html", "ico", "jpg", "js", "json", "map", "pdf", "png", "svg", "txt", "xml", "yaml", "yml"];
    path.rsplit('/')
        .next()
        .and_then(|name| name.rsplit_once('.'))
        .is_some_and(|(name, kind)| name.is_empty() || TYPES.contains(&kind))
}
