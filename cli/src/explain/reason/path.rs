//! Paths that look alike.

use mesh_authz::matcher::Polarity;
use mesh_authz::matcher::template::Template;
use mesh_authz::policy::PathValue;

use super::Reason;
use super::text::matches;

pub(super) const REASONS: [Reason; 7] =
    [trailing_slash, percent_encoding, case, leading_slash, double_slash, query, below];

/// Whether a value matches a path, whatever bytes are in it.
fn fits(expected: &str, path: &str) -> bool {
    match PathValue::parse(expected) {
        Ok(PathValue::Template(template)) => Template::new(&template, Polarity::Denies).matches(path.as_bytes()),
        _ => matches(expected, path),
    }
}

/// Why a template does not match a path that its wildcards seem to take.
pub(super) fn template(expected: &str, path: &str, polarity: Polarity) -> Option<String> {
    let Ok(PathValue::Template(_)) = PathValue::parse(expected) else { return None };
    if polarity == Polarity::Permits && Template::new(expected, Polarity::Denies).matches(path.as_bytes()) {
        let odd = path.chars().find(|character| {
            let path = character.to_string();
            *character != '/' && !Template::new("/{**}", Polarity::Permits).matches(format!("/{path}").as_bytes())
        })?;
        let operator = if expected.contains("{**}") { "{**}" } else { "{*}" };
        let shown = match odd {
            char::REPLACEMENT_CHARACTER => "a byte that is not UTF-8".to_owned(),
            odd if odd.is_ascii_graphic() => format!("the byte `{odd}`"),
            odd => {
                let mut buffer = [0; 4];
                let bytes: Vec<_> = odd.encode_utf8(&mut buffer).bytes().map(|byte| format!("0x{byte:02x}")).collect();
                format!("the bytes {} of {odd:?}", bytes.join(" "))
            }
        };
        return Some(format!(
            "`{operator}` does not take {shown}: where a match permits, it takes letters, digits and \
             -._~%!$&'()+,;:@=* only"
        ));
    }
    None
}

/// Why the segments of a path do not fit a template.
pub(super) fn segments(expected: &str, path: &str) -> Option<String> {
    let Ok(PathValue::Template(_)) = PathValue::parse(expected) else { return None };
    let (wanted, given) = (expected.split('/'), path.split('/'));
    let fits = |(wanted, given): (&str, &str)| wanted == "{*}" || wanted == given;
    let counts = (wanted.clone().count(), given.clone().count());
    if !expected.contains("{**}") && counts.0 == counts.1 && wanted.clone().zip(given.clone()).all(fits) {
        return Some("`{*}` stands for a segment that is not empty".to_owned());
    }
    if expected.ends_with("{*}") && counts.0 < counts.1 && wanted.zip(given).all(fits) {
        return Some("`{*}` stands for one segment, and the path has more of them".to_owned());
    }
    None
}

fn trailing_slash(expected: &str, path: &str) -> Option<String> {
    let (with, without) = (format!("{path}/"), path.strip_suffix('/').unwrap_or(path));
    (!fits(expected, path) && (fits(expected, &with) || fits(expected, without)))
        .then(|| format!("`{expected}` and this path differ by a trailing slash, and do not match"))
}

fn case(expected: &str, path: &str) -> Option<String> {
    (!fits(expected, path) && fits(&expected.to_lowercase(), &path.to_lowercase()))
        .then(|| format!("`{expected}` differs in upper and lower case only, which counts"))
}

fn leading_slash(expected: &str, path: &str) -> Option<String> {
    (!expected.starts_with(['/', '*']) && matches(&format!("/{expected}"), path))
        .then(|| format!("a path begins with a slash, and `{expected}` does not"))
}

fn percent_encoding(expected: &str, path: &str) -> Option<String> {
    let (expected_decoded, decoded) = (decoded(expected), decoded(path));
    (!fits(expected, path) && fits(&expected_decoded, &decoded))
        .then(|| format!("`{expected}` and this path differ in percent-encoding only, which counts"))
}

fn double_slash(expected: &str, path: &str) -> Option<String> {
    let mut merged = path.to_owned();
    while merged.contains("//") {
        merged = merged.replace("//", "/");
    }
    (!fits(expected, path) && fits(expected, &merged))
        .then(|| format!("`{expected}` and this path differ by a double slash, which counts"))
}

fn query(expected: &str, path: &str) -> Option<String> {
    let (bare, _) = expected.split_once(['?', '#'])?;
    matches(bare, path).then(|| format!("a path is compared without its query, and `{expected}` has one"))
}

/// What is below a path does not match the path.
fn below(expected: &str, path: &str) -> Option<String> {
    let rest = path.strip_prefix(expected)?;
    (!expected.is_empty() && !expected.ends_with('/') && rest.starts_with('/'))
        .then(|| format!("`{expected}` without a wildcard matches this one path, and nothing below it"))
}

/// The text with its escapes decoded.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
