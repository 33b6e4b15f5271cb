//! MA015. A `*` in the middle of a value, where it is an ordinary character.

use mesh_authz::policy::{Form, PathValue, Predicate};

use super::{Check, Lint, LintContext, Remark, ValueList};

pub(super) static LINT: Lint = Lint {
    code: "MA015",
    name: "literal-wildcard",
    summary: "a `*` in the middle of a value, where it is an ordinary character",
    explanation: "A `*` is a wildcard only at the beginning or at the end of a value, and only one of the two can be a \
            wildcard. Anywhere else, it is the character `*`. For paths, use \
            a template: `{*}` matches one segment, `{**}` any number of segments. For principals, use namespaces, \
            serviceAccounts and trustDomains.",
    bad: r#"
spec:
  rules:
  - to:
    - operation:
        paths: ["/users/*/orders"]
"#,
    good: r#"
spec:
  rules:
  - to:
    - operation:
        paths: ["/users/{*}/orders"]
"#,
    trust_domain: None,
    check: Check::Value(check),
};

fn check(value: &str, list: &ValueList<'_>, _: &LintContext) -> Option<Remark> {
    let inner = |form| match form {
        Form::Any => "",
        Form::Exact(text) | Form::Prefix(text) | Form::Suffix(text) => text,
    };
    let has_star = match list.predicate {
        Predicate::RequestPrincipal(_) => {
            let (issuer, subject) = Form::of_request_principal(value);
            inner(issuer).contains('*') || inner(subject).contains('*')
        }
        Predicate::Path(_) if value.contains("{*}") || value.contains("{**}") => false,
        // `*/*` is a media type.
        Predicate::Header { .. } if value == "*/*" => false,
        // Permissions in tokens have a `*` of their own, such as `orders:*:read`.
        Predicate::Claim { .. } if value.contains(":*:") => false,
        Predicate::Metadata { .. } => inner(Form::of(value.trim_matches(['[', ']']))).contains('*'),
        Predicate::Principal(_)
        | Predicate::Host(_)
        | Predicate::Method(_)
        | Predicate::Path(_)
        | Predicate::Sni(_)
        | Predicate::Header { .. }
        | Predicate::Claim { .. } => inner(Form::of(value)).contains('*'),
        // In a namespace, every `*` is a wildcard. In the other fields, a `*` that is not a wildcard is an error.
        Predicate::Namespace(_)
        | Predicate::ServiceAccount(_)
        | Predicate::TrustDomain(_)
        | Predicate::RemoteIp(_)
        | Predicate::SourceIp(_)
        | Predicate::DestinationIp(_)
        | Predicate::DestinationPort(_) => false,
    };
    has_star.then(|| {
        let message = format!("`{value}` has a `*` that is no wildcard: it is one at the beginning or at the end only");
        Remark::new(message, list.correct(instead_of_wildcard(value, list.predicate)))
    })
}

fn instead_of_wildcard(value: &str, predicate: &Predicate) -> String {
    match predicate {
        Predicate::Path(_) => {
            let segments = value.split('/').map(|segment| match segment {
                "*" => "{*}",
                "**" => "{**}",
                other => other,
            });
            let template = segments.collect::<Vec<_>>().join("/");
            match PathValue::parse(&template) {
                Ok(PathValue::Template(_)) => format!("write `{template}`"),
                _ => "use a template, such as `/users/{*}/orders`".to_owned(),
            }
        }
        Predicate::Principal(_) => {
            "use namespaces, serviceAccounts or trustDomains, which look at parts of the identity".to_owned()
        }
        Predicate::Host(_) => "list the hosts, or use one wildcard at one end".to_owned(),
        _ => "list the values, or use one wildcard at one end".to_owned(),
    }
}
