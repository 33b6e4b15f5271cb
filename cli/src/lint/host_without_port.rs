//! MA005. A host that is meant to be refused, but is listed only without a port.

use mesh_authz::matcher::Pattern;
use mesh_authz::policy::{Form, Predicate};

use super::{Check, Lint, LintContext, Remark, ValueList};

pub(super) static LINT: Lint = Lint {
    code: "MA005",
    name: "host-without-port",
    summary: "a host that is meant to be refused, but is listed only without a port",
    explanation: "The values of hosts are compared with the `:authority` that the client sent, including the port. \
            `httpbin.com` does not match `httpbin.com:80`, although both reach the same application. Where a match \
            refuses the request (hosts in DENY, notHosts in ALLOW), list the host with a port too.",
    bad: r#"
spec:
  action: DENY
  rules:
  - to:
    - operation:
        hosts: ["httpbin.com"]
        ports: ["8080"]
"#,
    good: r#"
spec:
  action: DENY
  rules:
  - to:
    - operation:
        hosts: ["httpbin.com", "httpbin.com:*"]
        ports: ["8080"]
"#,
    trust_domain: None,
    check: Check::Value(check),
};

fn check(value: &str, list: &ValueList<'_>, _: &LintContext) -> Option<Remark> {
    let Predicate::Host(_) = list.predicate else { return None };
    let has_port = value.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    if !list.denies() || value.contains('/') || has_port || value.ends_with('*') {
        return None;
    }
    // Port 1 represents all ports that are not listed. A suffix must be listed with each port, so here any such entry
    // is enough.
    let with_port = format!("{value}:1");
    let is_listed = list.values.iter().any(|other| {
        Pattern::new(Form::of(other), &Pattern::Present).matches_ignoring_case(with_port.as_bytes())
            || (value.starts_with('*') && other.rsplit_once(':').is_some_and(|(host, _)| host == value))
    });
    if is_listed {
        return None;
    }
    // A suffix cannot have a wildcard as its port: it would then have wildcards at both ends.
    let hint = if value.starts_with('*') {
        format!("list it with each port that clients may write, such as `{value}:443`")
    } else {
        format!("add `{value}:*`")
    };
    Some(Remark::new(format!("`{value}` does not match the same host with a port, such as `{value}:8080`"), hint))
}
