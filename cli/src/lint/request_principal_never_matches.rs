//! MA022. A request principal whose issuer and subject are split at the wrong slash.

use mesh_authz::policy::Predicate;

use super::{Check, Lint, LintContext, Remark, ValueList};

pub(super) static LINT: Lint = Lint {
    code: "MA022",
    name: "request-principal-never-matches",
    summary: "a request principal with issuer and subject split at the wrong slash",
    explanation: "A request principal has the form ISSUER/SUBJECT and is split at its last slash. If a wildcard \
            directly follows an issuer that is a URL without a path, the last slash is one of the two slashes after \
            `https:`. So `https://issuer.example*` requires the issuer `https:/` and never matches. To match every \
            subject of that issuer, write `https://issuer.example/*`. A subject with a slash, such as \
            `repo:acme/widgets`, is split too: compare it in a condition on request.auth.claims[sub].",
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
    let Remark { message, hint } = inside_scheme(value).or_else(|| inside_subject(value))?;
    Some(Remark::new(message, list.correct(hint)))
}

/// Whether this lint reports the value.
pub(super) fn is_split(value: &str) -> bool {
    inside_scheme(value).or_else(|| inside_subject(value)).is_some()
}

fn inside_scheme(value: &str) -> Option<Remark> {
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
        format!("write `{scheme}//{whole}/*` for every subject of that issuer"),
    ))
}

/// A subject with a colon and a slash, as build systems write it: `repo:acme/widgets:ref:refs/heads/main`.
fn inside_subject(value: &str) -> Option<Remark> {
    let (scheme, rest) = value.split_once("://")?;
    let (host, path) = rest.split_once('/')?;
    let (split, _) = path.rsplit_once('/')?;
    let before = split.get(..split.find(':')?)?;
    let before = before.rfind('/').and_then(|slash| before.get(..slash)).unwrap_or_default();
    let subject = path.get(before.len()..)?.trim_start_matches('/');
    let issuer = format!("{scheme}://{host}{}{before}", if before.is_empty() { "" } else { "/" });
    Some(Remark::new(
        format!("`{value}` is split at its last slash: it asks for the issuer `{scheme}://{host}/{split}`"),
        format!(
            "if the subject has a slash, use two conditions: request.auth.claims[iss] with `{issuer}`, and \
             request.auth.claims[sub] with `{subject}`"
        ),
    ))
}
