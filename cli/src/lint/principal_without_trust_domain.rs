//! MA014. A principal that has no trust domain in it.

use mesh_authz::policy::Predicate;

use super::{Check, Lint, LintContext, Remark, ValueList};

pub(super) static LINT: Lint = Lint {
    code: "MA014",
    name: "principal-without-trust-domain",
    summary: "a principal that has no trust domain in it",
    explanation: "A principal is TRUST-DOMAIN/ns/NAMESPACE/sa/NAME. A value that begins with `ns/`, or has no slash and no \
            wildcard, matches no identity that a mesh hands out. serviceAccounts takes NAMESPACE/NAME, of whatever trust \
            domain.",
    bad: r#"
spec:
  rules:
  - from:
    - source:
        principals: ["ns/default/sa/frontend"]
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

fn check(value: &str, list: &ValueList<'_>, context: &LintContext) -> Option<Remark> {
    let Predicate::Principal(_) = list.predicate else { return None };
    let domain = &context.mesh.trust_domain;
    let hint = if value.starts_with("ns/") {
        format!("write `{domain}/{value}`")
    } else if !value.contains(['/', '*']) {
        format!("write `{domain}/ns/{}/sa/{value}`", list.resource.policy.name.namespace)
    } else {
        return None;
    };
    Some(Remark::new(format!("`{value}` has no trust domain, so it is no peer's identity"), hint))
}
