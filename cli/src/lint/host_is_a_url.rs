//! MA027. A host with a scheme or a path.

use mesh_authz::policy::Predicate;

use super::{Check, Lint, LintContext, Remark, ValueList};

pub(super) static LINT: Lint = Lint {
    code: "MA027",
    name: "host-is-a-url",
    summary: "a host with a scheme or a path",
    explanation: "The values of hosts are compared with the request's `:authority`, which is a host name, sometimes \
            with a port. A value that contains a slash matches nothing.",
    bad: r#"
spec:
  rules:
  - to:
    - operation:
        hosts: ["https://shop.example.com"]
"#,
    good: r#"
spec:
  rules:
  - to:
    - operation:
        hosts: ["shop.example.com", "shop.example.com:*"]
"#,
    trust_domain: None,
    check: Check::Value(check),
};

fn check(value: &str, list: &ValueList<'_>, _: &LintContext) -> Option<Remark> {
    let Predicate::Host(_) = list.predicate else { return None };
    if !value.contains('/') {
        return None;
    }
    let name = value.split_once("://").map_or(value, |(_, rest)| rest);
    let name = name.split('/').next().unwrap_or(name);
    let message = format!("`{value}` is no host: a request's host is a name, and perhaps a port");
    let is_name = name.contains(|c: char| c.is_ascii_alphanumeric());
    let hint = if is_name { format!("write `{name}`") } else { "write the name without a path".to_owned() };
    Some(Remark::new(message, list.correct(hint)))
}
