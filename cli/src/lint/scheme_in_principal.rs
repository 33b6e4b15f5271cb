//! MA007. A principal that begins with `spiffe://`.

use mesh_authz::identity::SCHEME;
use mesh_authz::policy::Predicate;

use super::{Check, Lint, LintContext, Remark, ValueList};

pub(super) static LINT: Lint = Lint {
    code: "MA007",
    name: "scheme-in-principal",
    summary: "a principal that begins with `spiffe://`",
    explanation: "Write a principal without the scheme. Istio adds `spiffe://` in front of every principal, so it \
            compares a value that already has the scheme as `spiffe://spiffe://…`. Such a value matches nobody.",
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
        format!("`{value}` is compared as `{SCHEME}{value}`, which nobody is called"),
        list.correct(format!("write `{without}`")),
    ))
}
