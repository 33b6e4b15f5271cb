//! MA007. A principal that begins with `spiffe://`.

use mesh_authz::identity::SCHEME;
use mesh_authz::policy::Predicate;

use super::{Check, Lint, LintContext, Remark, ValueList};

pub(super) static LINT: Lint = Lint {
    code: "MA007",
    name: "scheme-in-principal",
    summary: "a principal that begins with `spiffe://`",
    explanation: "In a policy, a principal has no scheme: Istio adds `spiffe://` in front of it. If the value begins with \
            `spiffe://` already, Istio compares the peer with `spiffe://spiffe://…`, and no peer has such a name. Remove \
            `spiffe://` from the value.",
    bad: r#"
spec:
  rules:
  - from:
    - source:
        principals: ["spiffe://cluster.local/ns/default/sa/frontend"]
"#,
    good: r#"
spec:
  rules:
  - from:
    - source:
        principals: ["cluster.local/ns/default/sa/frontend"]
"#,
    trust_domain: None,
    check: Check::Value(check),
};

fn check(value: &str, list: &ValueList<'_>, _: &LintContext) -> Option<Remark> {
    let Predicate::Principal(_) = list.predicate else { return None };
    let without = value.strip_prefix(SCHEME)?;
    Some(Remark::new(
        format!("this stands for `{SCHEME}{value}`, and no peer has such a name"),
        list.correct(format!("write `{without}`")),
    ))
}
