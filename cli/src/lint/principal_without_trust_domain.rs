//! MA014. A principal without a trust domain.

use mesh_authz::policy::Predicate;

use super::{Check, Lint, LintContext, Remark, ValueList};

pub(super) static LINT: Lint = Lint {
    code: "MA014",
    name: "principal-without-trust-domain",
    summary: "a principal without a trust domain",
    explanation: "A principal has the form TRUST-DOMAIN/ns/NAMESPACE/sa/NAME. A value that begins with `ns/`, or that \
            has no slash and no wildcard, matches no identity that a mesh issues. To match a service account in any \
            trust domain, use serviceAccounts with a value of the form NAMESPACE/NAME.",
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
        format!("write `{domain}/ns/NAMESPACE/sa/NAME`, or a name into namespaces, serviceAccounts or trustDomains")
    } else {
        return None;
    };
    Some(Remark::new(
        format!(
            "`{value}` has not the form TRUST-DOMAIN/ns/NAMESPACE/sa/NAME, so it is no identity that a mesh issues"
        ),
        list.correct(hint),
    ))
}
