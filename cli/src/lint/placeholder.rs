//! MA040. A placeholder that nothing has filled in.

use mesh_authz::diagnostic::{Path, Segment};
use mesh_authz::policy::{Predicate, Target};

use super::other_resources::selector_path;
use super::{Check, Input, Lint, PolicyView, Reporter, jwt_rules};

pub(super) static LINT: Lint = Lint {
    code: "MA040",
    name: "placeholder",
    summary: "a placeholder that nothing has filled in",
    explanation: "`${NAMESPACE}`, `{{ namespace }}`, `$(NAMESPACE)` and `<NAMESPACE>` are for envsubst, for templates, for scripts \
            and for readers. A policy, or a RequestAuthentication, takes them as they stand, and no request and no workload has them. Write the value, or \
            check what the tool that fills them in has printed.",
    bad: r#"
spec:
  rules:
  - from:
    - source:
        namespaces: ["${NAMESPACE}"]
"#,
    good: r#"
spec:
  rules:
  - from:
    - source:
        namespaces: ["shop"]
"#,
    trust_domain: None,
    check: Check::Input(check),
};

const WRITE: &str = "write the value, or check the output of the tool that fills it in";

fn check(input: &Input<'_>, reporter: &mut Reporter) {
    for resource in &input.resources.policies {
        policy(&PolicyView::new(resource), reporter);
    }
    for (found, path, rule) in jwt_rules(input) {
        let audiences = rule.audiences.iter().enumerate().map(|(index, audience)| {
            let mut path = path.with("audiences");
            path.0.push(Segment::Index(index));
            (path, audience)
        });
        let issuer = rule.issuer.iter().map(|issuer| (path.with("issuer"), issuer));
        for (path, text) in issuer.chain(audiences) {
            if let Some(placeholder) = in_text(text) {
                reporter.report(&LINT, found, path, message(placeholder), WRITE);
            }
        }
    }
}

fn message(found: &str) -> String {
    format!("`{found}` is a placeholder, and nothing has filled it in")
}

fn policy(policy: &PolicyView<'_>, reporter: &mut Reporter) {
    for list in &policy.lists {
        for (index, value) in list.values.iter().enumerate() {
            if let Some(found) = find(value, list.predicate) {
                let mut path = list.path.clone();
                path.0.push(Segment::Index(index));
                reporter.report(&LINT, policy.resource, path, message(found), list.correct(WRITE));
            }
        }
    }
    let hint = super::selector_matches_nothing::correct(policy.policy(), WRITE);
    if let Target::Labels(labels) = &policy.policy().target {
        for (key, value) in labels {
            if let Some(found) = in_name(key).or_else(|| in_name(value)) {
                let path = selector_path().with(key);
                reporter.report(&LINT, policy.resource, path, message(found), hint.clone());
            }
        }
    }
    if let Target::References(references) = &policy.policy().target {
        for found in references.iter().filter_map(|reference| in_name(&reference.name)) {
            reporter.report(&LINT, policy.resource, Path::of(["spec"]), message(found), hint.clone());
        }
    }
}

/// The placeholder in a value.
pub(super) fn find<'v>(value: &'v str, predicate: &Predicate) -> Option<&'v str> {
    match predicate {
        // Braces are an error there, `<id>` is a router's syntax, and a path can have a `$`.
        Predicate::Path(_) => between(value, "$(", ")"),
        Predicate::Header { .. }
        | Predicate::Claim { .. }
        | Predicate::Metadata { .. }
        | Predicate::RequestPrincipal(_) => in_text(value),
        _ => in_name(value),
    }
}

/// The placeholder in a text that can have any character.
fn in_text(text: &str) -> Option<&str> {
    let is_word =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-. ".contains(c));
    let whole =
        text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).filter(|name| is_word(name)).map(|_| text);
    let pairs = [("${", "}"), ("{{", "}}"), ("$(", ")"), ("#{", "}"), ("<%", "%>")];
    whole.or_else(|| pairs.iter().find_map(|(open, close)| between(text, open, close)))
}

/// The placeholder in a name, which has neither `$` nor `<`, `%` or `@`.
pub(super) fn in_name(name: &str) -> Option<&str> {
    let upper = |sign: &str| between(name, sign, sign).filter(|found| found.chars().any(|c| c.is_ascii_uppercase()));
    let variable = || {
        let rest = name.get(name.find('$')?..)?;
        let end = rest.find(|c: char| c != '$' && c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        rest.get(..end).filter(|found| found.len() > 1)
    };
    in_text(name)
        .or_else(|| between(name, "<", ">"))
        .or_else(|| ["%", "@", "__"].iter().find_map(|sign| upper(sign)))
        .or_else(variable)
}

/// The first part of a text that begins with `open` and ends with `close`, and has something in between.
fn between<'t>(text: &'t str, open: &str, close: &str) -> Option<&'t str> {
    let start = text.find(open)?;
    let inner = start.checked_add(open.len())?;
    let end = inner.checked_add(text.get(inner..)?.find(close)?)?;
    if end == inner {
        return None;
    }
    text.get(start..end.checked_add(close.len())?)
}
