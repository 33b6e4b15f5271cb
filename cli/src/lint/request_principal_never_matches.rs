//! MA022. A request principal that is split inside `//`.

use mesh_authz::policy::Predicate;

use super::{Check, Lint, LintContext, Remark, ValueList};

pub(super) static LINT: Lint = Lint {
    code: "MA022",
    name: "request-principal-never-matches",
    summary: "a request principal that is split inside `//`",
    explanation: "A request principal has the form ISSUER/SUBJECT and is split at its last slash. If a wildcard \
            directly follows an issuer that is a URL without a path, the last slash is one of the two slashes after \
            `https:`. So `https://issuer.example*` requires the issuer `https:/` and never matches. To match every \
            subject of that issuer, write `https://issuer.example/*`.",
    bad: r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: users
spec:
  rules:
  - from:
    - source:
        requestPrincipals: ["https://issuer.example*"]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata:
  name: issuer
spec:
  jwtRules:
  - issuer: https://issuer.example
    jwksUri: https://issuer.example/jwks.json
"#,
    good: r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: users
spec:
  rules:
  - from:
    - source:
        requestPrincipals: ["https://issuer.example/*"]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata:
  name: issuer
spec:
  jwtRules:
  - issuer: https://issuer.example
    jwksUri: https://issuer.example/jwks.json
"#,
    trust_domain: None,
    check: Check::Value(check),
};

fn check(value: &str, list: &ValueList<'_>, _: &LintContext) -> Option<Remark> {
    let Predicate::RequestPrincipal(_) = list.predicate else { return None };
    let (issuer, _) = value.rsplit_once('/')?;
    let scheme = issuer.strip_suffix('/').filter(|scheme| scheme.ends_with(':'))?;
    // The text after the two slashes is a whole issuer, or the beginning of one.
    let rest = value.strip_prefix(issuer)?.strip_prefix('/')?;
    let whole = match rest.strip_suffix('*').unwrap_or(rest) {
        "" => "ISSUER",
        whole => whole,
    };
    Some(Remark::new(
        format!(
            "`{value}` is split at its last slash, inside `{scheme}//`: it asks for the issuer `{issuer}`, which none has"
        ),
        list.correct(format!("write `{scheme}//{whole}/*` for every subject of that issuer")),
    ))
}
