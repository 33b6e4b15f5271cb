//! Texts that look alike.

use mesh_authz::matcher::{Pattern, Wildcard};
use mesh_authz::policy::Form;

use super::Reason;

/// The reasons for texts of every kind.
pub(super) const REASONS: [Reason; 8] =
    [empty, no_text, case, white_space, quotes, wildcard_inside, regular_expression, odd_character];

/// The reasons for values that could be lists.
pub(super) const PARTS: [Reason; 2] = [part_of_request, part_of_policy];

/// Whether a value of a policy matches, if `*` takes any bytes.
pub(super) fn matches(expected: &str, actual: &str) -> bool {
    Pattern::new(Form::of(expected), &Pattern::NonEmpty(Wildcard::Bytes)).matches(actual.as_bytes())
}

/// Whether a value of a policy would match if each `*` were a wildcard.
pub(super) fn matches_as_glob(expected: &str, actual: &str) -> bool {
    let mut pieces = expected.split('*');
    let Some(mut rest) = pieces.next().and_then(|first| actual.strip_prefix(first)) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        let Some((_, behind)) = rest.split_once(piece) else { return false };
        rest = behind;
    }
    rest.ends_with(last)
}

fn empty(expected: &str, actual: &str) -> Option<String> {
    (expected == "*" && actual.is_empty())
        .then(|| "the value is empty, and `*` matches only a value that is not empty".to_owned())
}

/// Values are shown as text, so bytes that are not UTF-8 are replacement characters here.
pub(super) fn no_text(expected: &str, actual: &str) -> Option<String> {
    let what = if actual.contains('\n') {
        "a line feed"
    } else if actual.contains(char::REPLACEMENT_CHARACTER) {
        "bytes that are not UTF-8"
    } else {
        return None;
    };
    matches(expected, actual).then(|| format!("the value has {what} in it, and a match that permits needs plain text"))
}

fn case(expected: &str, actual: &str) -> Option<String> {
    let lower = |text: &str| text.to_lowercase();
    (!matches(expected, actual) && matches(&lower(expected), &lower(actual)))
        .then(|| format!("`{expected}` differs in upper and lower case only, which counts"))
}

fn white_space(expected: &str, actual: &str) -> Option<String> {
    (!matches(expected, actual) && matches(expected.trim(), actual.trim()))
        .then(|| format!("`{expected}` differs in white space at its ends only, which counts"))
}

fn quotes(expected: &str, actual: &str) -> Option<String> {
    let bare = |text: &str| text.trim_matches(['"', '\'']).to_owned();
    (!matches(expected, actual) && matches(&bare(expected), &bare(actual)))
        .then(|| format!("`{expected}` differs in quotes only, which are characters here"))
}

fn wildcard_inside(expected: &str, actual: &str) -> Option<String> {
    (!matches(expected, actual) && matches_as_glob(expected, actual)).then(|| {
        format!("in `{expected}`, only a `*` at one end is a wildcard: any other `*` is an ordinary character")
    })
}

fn regular_expression(expected: &str, actual: &str) -> Option<String> {
    let bare = expected.strip_prefix('^').unwrap_or(expected);
    let bare = bare.strip_suffix('$').unwrap_or(bare);
    let glob = bare.replace(".*", "*").replace(".+", "*").replace("\\.", ".");
    (glob != expected && !matches(expected, actual) && matches_as_glob(&glob, actual))
        .then(|| format!("`{expected}` is compared as text: it is no regular expression"))
}

/// Characters that look like others, or like nothing.
fn odd_character(expected: &str, actual: &str) -> Option<String> {
    let name = |character: char| format!("U+{:04X}", u32::from(character));
    let is_invisible = |character: char| {
        character.is_control() || matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
    };
    let visible = |text: &str| text.chars().filter(|character| !is_invisible(*character)).collect::<String>();
    if matches(expected, actual) {
        return None;
    }
    if matches(&visible(expected), &visible(actual)) {
        let found = expected.chars().chain(actual.chars()).find(|character| is_invisible(*character))?;
        return Some(format!("`{expected}` differs in a character that cannot be seen only: {}", name(found)));
    }
    if expected.chars().count() != actual.chars().count() {
        return None;
    }
    let mut differing = expected.chars().zip(actual.chars()).filter(|(one, other)| one != other);
    let (one, other) = differing.next()?;
    (differing.next().is_none() && !(one.is_ascii() && other.is_ascii())).then(|| {
        format!("`{expected}` differs in one character only: it has {}, and the request {}", name(one), name(other))
    })
}

/// The parts of a value that looks like a list.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ';', ' ']).map(|part| part.trim_matches(['[', ']', '"', '\'', ' ', '\t']))
}

fn part_of_request(expected: &str, actual: &str) -> Option<String> {
    let part = parts(actual).find(|part| !part.is_empty() && *part != actual && matches(expected, part))?;
    Some(format!("`{part}` is only a part of the value: `{actual}` is one value, and is not split"))
}

fn part_of_policy(expected: &str, actual: &str) -> Option<String> {
    (parts(expected).count() > 1 && parts(expected).any(|part| part == actual))
        .then(|| format!("`{expected}` is one value, and is not split"))
}

/// The brackets that ask for an element of a list in metadata.
pub(super) fn brackets(expected: &str, actual: &str) -> Option<String> {
    let bare = |text: &str| text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).map(str::to_owned);
    match (bare(expected), bare(actual)) {
        (None, Some(element)) if matches(expected, &element) => {
            Some(format!("the value is a list: `{expected}` without brackets matches only a string"))
        }
        (Some(element), None) if matches(&element, actual) => {
            Some(format!("the value is a string: `{expected}` in brackets matches only an element of a list"))
        }
        _ => None,
    }
}

/// Why a value that does not look like one of the `not` values matches one of them.
pub(super) fn other_form(
    expected: &[String],
    actual: &[String],
    forms: &dyn Fn(&str) -> Vec<String>,
) -> Option<String> {
    let matches_one = |value: &str| expected.iter().any(|expected| matches(&lower(expected), &lower(value)));
    if actual.iter().any(|value| matches_one(value)) {
        return None;
    }
    let form = actual.iter().find_map(|value| forms(value).into_iter().find(|form| matches_one(form)))?;
    Some(format!("where a match denies, the value also counts as `{form}`"))
}

fn lower(text: &str) -> String {
    text.to_ascii_lowercase()
}
