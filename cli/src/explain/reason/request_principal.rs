//! Request principals. A value is split at its last slash, so a subject with a slash in it is easily cut in two.

use mesh_authz::matcher::{Pattern, Wildcard};
use mesh_authz::policy::Form;

use super::text;

/// Why none of the values matches this issuer and this subject.
pub(super) fn reason(expected: &[String], issuer: &str, subject: &str) -> Option<String> {
    let nearest = expected.iter().min_by_key(|value| distance(value, issuer, subject))?;
    let (wanted_issuer, wanted_subject) = Form::of_request_principal(nearest);
    let has_issuer = has(wanted_issuer, issuer);
    let has_subject = has(wanted_subject, subject);
    if has_issuer && has_subject {
        return text::no_text("*", subject).or_else(|| text::no_text("*", issuer));
    }
    let differs = match (has_issuer, has_subject) {
        (true, false) => alike(wanted_subject, subject, "subject"),
        (false, true) => alike(wanted_issuer, issuer, "issuer"),
        _ => None,
    };
    if differs.is_none() && !is_near(nearest, issuer, subject) {
        return None;
    }
    let wanted = format!(
        "`{nearest}` is split at the last slash: issuer {}, subject {}",
        shown(wanted_issuer),
        shown(wanted_subject)
    );
    let token = format!("the token has issuer `{issuer}`, subject `{subject}`");
    Some([wanted, token].into_iter().chain(differs).collect::<Vec<_>>().join("; "))
}

/// How far a value is from matching.
fn distance(value: &str, issuer: &str, subject: &str) -> u8 {
    let (wanted_issuer, wanted_subject) = Form::of_request_principal(value);
    match (is_near(value, issuer, subject), has(wanted_issuer, issuer), has(wanted_subject, subject)) {
        (true, ..) => 0,
        (_, true, false) => 1,
        (_, false, true) => 2,
        _ => 3,
    }
}

/// Whether the value would match if it were not split, or is an issuer alone.
fn is_near(value: &str, issuer: &str, subject: &str) -> bool {
    let merged = |text: &str| text.replace("//", "/");
    let whole = format!("{issuer}/{subject}");
    value.trim_end_matches('/') == issuer.trim_end_matches('/')
        || text::matches(value, &whole)
        || text::matches(&merged(value), &merged(&whole))
}

fn has(form: Form<'_>, value: &str) -> bool {
    Pattern::new(form, &Pattern::NonEmpty(Wildcard::Bytes)).matches(value.as_bytes())
}

fn shown(form: Form<'_>) -> String {
    match form {
        Form::Any => "`*`".to_owned(),
        Form::Exact("") => "empty".to_owned(),
        Form::Exact(text) => format!("`{text}`"),
        Form::Prefix(text) => format!("`{text}*`"),
        Form::Suffix(text) => format!("`*{text}`"),
    }
}

/// What differs between two parts that look alike.
fn alike(form: Form<'_>, value: &str, what: &str) -> Option<String> {
    let wanted = match form {
        Form::Any if value.is_empty() => return Some(format!("the {what} is empty, and `*` needs one that is not")),
        Form::Exact(text) => text,
        _ => return None,
    };
    if wanted.trim_end_matches('/') == value.trim_end_matches('/') {
        return Some(format!("the {what} differs by a trailing slash"));
    }
    wanted.eq_ignore_ascii_case(value).then(|| format!("the {what} differs in upper and lower case only"))
}
