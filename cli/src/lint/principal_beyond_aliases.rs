//! MA008. A principal in a trust domain of the mesh that does not match in the mesh's other trust domains.

use mesh_authz::config::Mesh;
use mesh_authz::identity::LOCAL_TRUST_DOMAIN;
use mesh_authz::policy::Predicate;

use super::{Check, Lint, LintContext, Remark, ValueList};

pub(super) static LINT: Lint = Lint {
    code: "MA008",
    name: "principal-beyond-aliases",
    summary: "a principal that does not match in all trust domains of the mesh",
    explanation: "A principal of exactly five parts has the form TRUST-DOMAIN/ns/NAMESPACE/sa/NAME. If it names the \
            mesh's trust domain, one of its aliases or cluster.local, it matches the same workload in all of the \
            mesh's trust domains. A principal with another number of parts, such as `cluster.local/ns/foo/*`, is \
            compared as written: in a mesh whose trust domain is `td1`, it matches nobody. In trustDomains, \
            `cluster.local` is never a placeholder for the mesh's trust domain.",
    bad: r#"
spec:
  rules:
  - from:
    - source:
        principals: ["cluster.local/ns/foo/*"]
"#,
    good: r#"
spec:
  rules:
  - from:
    - source:
        namespaces: ["foo"]
        trustDomains: ["td1"]
"#,
    trust_domain: Some("td1"),
    check: Check::Value(check),
};

fn check(value: &str, list: &ValueList<'_>, context: &LintContext) -> Option<Remark> {
    let Remark { message, hint } = match list.predicate {
        Predicate::Principal(_) => principal(value, list, &context.mesh),
        Predicate::TrustDomain(_) => trust_domain(value, list, &context.mesh),
        _ => None,
    }?;
    Some(Remark::new(message, list.correct(hint)))
}

/// Reports a principal that names one trust domain of the mesh and does not match in the others.
fn principal(value: &str, list: &ValueList<'_>, mesh: &Mesh) -> Option<Remark> {
    let (domain, rest) = value.split_once('/').filter(|(domain, _)| *domain != "ns")?;
    let all: Vec<&str> = std::iter::once(&mesh.trust_domain).chain(&mesh.aliases).map(String::as_str).collect();
    let is_ours = domain == LOCAL_TRUST_DOMAIN || all.contains(&domain);
    if !is_ours || rest.split('/').count() == 4 {
        return None;
    }
    let missed: Vec<&str> = all.into_iter().filter(|other| *other != domain).collect();
    if missed.is_empty() {
        return None;
    }
    let hint = match rest.strip_prefix("ns/").and_then(|rest| rest.strip_suffix("/*")) {
        // The value stays: peers of another mesh may have this trust domain.
        _ if list.denies() => format!("add the same for {}", missed.join(", ")),
        Some(namespace) if !namespace.contains('/') => {
            let own = &mesh.trust_domain;
            format!("write `namespaces: [\"{namespace}\"]` and `trustDomains: [\"{own}\"]` in one source")
        }
        _ => format!("write it out with `ns/NAMESPACE/sa/NAME`, or add the same for {}", missed.join(", ")),
    };
    let message = format!(
        "`{value}` does not have the five parts of a principal, and so stands for {domain} only, not for {}",
        missed.join(", ")
    );
    Some(Remark::new(message, hint))
}

/// Reports `cluster.local`, unless it is one of the mesh's trust domains. In principals it means the mesh's trust
/// domain; in trustDomains it means only itself.
fn trust_domain(value: &str, list: &ValueList<'_>, mesh: &Mesh) -> Option<Remark> {
    let is_ours = mesh.trust_domain == value || mesh.aliases.iter().any(|alias| alias == value);
    if value != LOCAL_TRUST_DOMAIN || is_ours {
        return None;
    }
    let message = format!("`{value}` is not one of this mesh's trust domains, and does not stand for them here");
    let verb = if list.denies() { "add" } else { "write" };
    Some(Remark::new(message, format!("{verb} `{}`", mesh.trust_domain)))
}
