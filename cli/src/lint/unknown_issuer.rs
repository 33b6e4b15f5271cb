//! MA042. An issuer or an audience whose tokens no `RequestAuthentication` accepts.

use mesh_authz::diagnostic::{Segment, suggestion};
use mesh_authz::policy::{Form, Predicate};

use super::{Check, Input, Lint, PolicyView, Remark, Reporter, ValueList, request_principal_never_matches};
use crate::load::LoadedPolicy;
use crate::load::request_authentication::JwtRule;

pub(super) static LINT: Lint = Lint {
    code: "MA042",
    name: "unknown-issuer",
    summary: "an issuer or an audience whose tokens no RequestAuthentication accepts",
    explanation: "Tokens are verified as the RequestAuthentications for a workload say. A policy that names another issuer matches \
            none of these tokens. Issuers are compared as they stand, so `https://issuer.example` and `https://issuer.example/` \
            are two issuers. A request principal is the issuer, a slash and the subject: with an issuer that ends with a slash, \
            write two slashes. It is split at its last slash, so a subject with a slash needs conditions on \
            request.auth.claims[iss] and request.auth.claims[sub]. The lint is silent where no RequestAuthentication in the \
            input applies, or where one accepts every issuer.",
    bad: r#"
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
  - issuer: https://issuer.example/
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
        requestPrincipals: ["https://issuer.example//*"]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata:
  name: issuer
spec:
  jwtRules:
  - issuer: https://issuer.example/
    jwksUri: https://issuer.example/jwks.json
"#,
    trust_domain: None,
    check: Check::Input(check),
};

fn check(input: &Input<'_>, reporter: &mut Reporter) {
    if input.resources.request_authentications.is_empty() {
        return;
    }
    for resource in &input.resources.policies {
        let accepted = Accepted::by(input, resource);
        if accepted.rules.is_empty() {
            continue;
        }
        for list in &PolicyView::new(resource).lists {
            for (index, value) in list.values.iter().enumerate() {
                let Some(Remark { message, hint }) = accepted.mistake(value, list) else { continue };
                let mut path = list.path.clone();
                path.0.push(Segment::Index(index));
                reporter.report(&LINT, resource, path, message, list.correct(hint));
            }
        }
    }
}

/// The rules for the tokens that workloads of a policy accept.
struct Accepted<'r> {
    rules: Vec<&'r JwtRule>,
}

impl<'r> Accepted<'r> {
    fn by(input: &Input<'r>, resource: &LoadedPolicy) -> Self {
        let found = || input.authentications(resource.policy.reach());
        if found().all(|found| input.are_apart(&found.source, &resource.source)) {
            return Self { rules: Vec::new() };
        }
        Self { rules: found().flat_map(|found| &found.authentication.rules).collect() }
    }

    fn mistake(&self, value: &str, list: &ValueList<'_>) -> Option<Remark> {
        match list.predicate {
            Predicate::RequestPrincipal(_) => self.principal(value),
            Predicate::Claim { path, .. } => match path.as_slice() {
                [claim] if claim == "iss" => self.issuer(value),
                [claim] if claim == "aud" => self.audience(value),
                _ => None,
            },
            _ => None,
        }
    }

    /// The issuers of all tokens that are accepted; `None` if a rule accepts every issuer.
    fn issuers(&self) -> Option<Vec<&'r str>> {
        self.rules.iter().map(|rule| rule.issuer.as_deref()).collect()
    }

    fn principal(&self, value: &str) -> Option<Remark> {
        if request_principal_never_matches::is_split(value) {
            return None;
        }
        let issuers = self.issuers()?;
        let (issuer, _) = Form::of_request_principal(value);
        if issuers.iter().any(|known| matches(issuer, known)) {
            return None;
        }
        let Form::Exact(issuer) = issuer else { return Some(no_match(value, &issuers)) };
        // The subject has a slash, and so a part of it counts as the issuer.
        let has_slash = |known: &&&str| value.strip_prefix(**known).is_some_and(|rest| rest.starts_with('/'));
        if let Some(known) = issuers.iter().find(has_slash) {
            let subject = value.strip_prefix(known).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
            return Some(Remark::new(
                format!("`{value}` is split at its last slash, so it asks for the issuer `{issuer}`, which none has"),
                format!(
                    "use two conditions: request.auth.claims[iss] with `{known}`, and request.auth.claims[sub] with `{subject}`"
                ),
            ));
        }
        let subject = value.rsplit_once('/').map_or("*", |(_, subject)| subject);
        Some(match near(issuer, &issuers) {
            Some(near) => Remark::new(
                format!(
                    "no RequestAuthentication in the input accepts tokens of `{issuer}`, but one accepts those of `{near}`"
                ),
                format!("write `{near}/{subject}`"),
            ),
            None => none(issuer, &issuers),
        })
    }

    fn issuer(&self, value: &str) -> Option<Remark> {
        let issuers = self.issuers()?;
        if issuers.iter().any(|known| matches(Form::of(value), known)) {
            return None;
        }
        Some(match near(value, &issuers) {
            Some(near) => Remark::new(
                format!(
                    "no RequestAuthentication in the input accepts tokens of `{value}`, but one accepts those of `{near}`"
                ),
                format!("write `{near}`"),
            ),
            None if value.contains('*') => no_match(value, &issuers),
            None => none(value, &issuers),
        })
    }

    /// A token can be for several audiences, and one of them has to be accepted.
    fn audience(&self, value: &str) -> Option<Remark> {
        let accepted: Vec<&str> = self.rules.iter().flat_map(|rule| &rule.audiences).map(String::as_str).collect();
        let is_any = self.rules.iter().any(|rule| rule.audiences.is_empty());
        if is_any || accepted.iter().any(|known| matches(Form::of(value), known)) {
            return None;
        }
        let list = list_of(&accepted);
        let near = accepted.iter().find(|other| bare(other) == bare(value)).copied();
        let hint = match near.or_else(|| suggestion(value, accepted.iter().copied())) {
            Some(near) => format!("write `{near}`"),
            None => {
                format!("add `{value}` to the `audiences` of the RequestAuthentication, or write another audience here")
            }
        };
        Some(Remark::new(
            format!(
                "the RequestAuthentications in the input accept tokens for {list}: one that is only for `{value}` is refused"
            ),
            hint,
        ))
    }
}

fn matches(form: Form<'_>, text: &str) -> bool {
    match form {
        Form::Any => true,
        Form::Exact(exact) => text == exact,
        Form::Prefix(start) => text.starts_with(start),
        Form::Suffix(end) => text.ends_with(end),
    }
}

/// The issuer that is probably meant: the same one with or without its scheme or slash, or one of the same host.
fn near<'k>(text: &str, known: &[&'k str]) -> Option<&'k str> {
    let host = |text: &str| bare(text).split('/').next().unwrap_or_default().to_owned();
    let same = |part: &dyn Fn(&str) -> String| known.iter().find(|other| part(other) == part(text)).copied();
    same(&bare).or_else(|| same(&host))
}

/// The text without its scheme and the slash at its end.
fn bare(text: &str) -> String {
    let text = text.split_once("://").map_or(text, |(_, rest)| rest).trim_end_matches('/');
    text.to_ascii_lowercase()
}

fn no_match(value: &str, known: &[&str]) -> Remark {
    Remark::new(
        format!("`{value}` matches no issuer whose tokens a RequestAuthentication in the input accepts"),
        format!("write an issuer that is accepted ({}), or add a rule for another one if you trust it", list_of(known)),
    )
}

fn none(issuer: &str, known: &[&str]) -> Remark {
    Remark::new(
        format!("no RequestAuthentication in the input accepts tokens of `{issuer}`"),
        format!("write an issuer that is accepted ({}), or add a rule for this one if you trust it", list_of(known)),
    )
}

fn list_of(known: &[&str]) -> String {
    let mut known: Vec<_> = known.iter().map(|text| format!("`{text}`")).collect();
    known.sort_unstable();
    known.dedup();
    let more = known.len().saturating_sub(3);
    known.truncate(3);
    let list = known.join(", ");
    if more > 0 { format!("{list} and {more} others") } else { list }
}
