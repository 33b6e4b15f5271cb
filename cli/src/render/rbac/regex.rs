//! The regular expressions that Istio generates.

use serde_json::{Value, json};

/// Envoy refuses a regular expression that becomes a larger program, unless its runtime says otherwise. Istio sets it to
/// 32,768.
pub const LARGEST_PROGRAM: usize = 100;

pub fn matcher(regex: &str) -> Value {
    json!({ "safeRegex": { "regex": regex } })
}

/// Escapes the characters that RE2 would read as operators.
pub fn quote(literal: &str) -> String {
    let mut quoted = String::with_capacity(literal.len());
    for character in literal.chars() {
        if "\\.+*?()|[]{}^$".contains(character) {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted
}

/// How large a program Envoy makes of a regular expression, in RE2's instructions. Versions of Envoy count differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgramSize {
    /// In Envoy 1.38 and older.
    pub older: usize,
    /// In Envoy 1.40.
    pub newer: usize,
}

/// The largest program of a regular expression in these filters. 0 if there is none.
#[must_use]
pub fn largest_program(filters: &[Value]) -> ProgramSize {
    let of = |value: &Value| match value {
        Value::Array(items) => largest_program(items),
        Value::Object(fields) => match fields.get("safeRegex").and_then(|regex| regex.get("regex")?.as_str()) {
            Some(regex) => program_size(regex),
            None => fields
                .values()
                .map(|field| largest_program(std::slice::from_ref(field)))
                .fold(ProgramSize::default(), max),
        },
        _ => ProgramSize::default(),
    };
    filters.iter().map(of).fold(ProgramSize::default(), max)
}

fn max(one: ProgramSize, other: ProgramSize) -> ProgramSize {
    ProgramSize { older: one.older.max(other.older), newer: one.newer.max(other.newer) }
}

/// As Envoy counts it, for the few shapes that Istio generates: one instruction for each byte of text, and some for what
/// stands between the texts.
fn program_size(regex: &str) -> ProgramSize {
    const OF_SERVICE_ACCOUNT: [&str; 3] = [".+/ns/", "/(.+/|)sa/", "(/.+)?"];
    /// What older versions need more for each part that stands for any characters.
    const MORE: usize = 6;
    let text = |text: &str| {
        let mut characters = text.chars();
        let mut bytes = 0;
        while let Some(character) = characters.next() {
            let character = if character == '\\' { characters.next().unwrap_or(character) } else { character };
            bytes += character.len_utf8();
        }
        bytes
    };
    if regex.contains(OF_SERVICE_ACCOUNT[1]) {
        let rest = OF_SERVICE_ACCOUNT.iter().fold(regex.to_owned(), |rest, part| rest.replacen(part, "", 1));
        let newer = text(&rest) + 30;
        return ProgramSize { older: newer + MORE * OF_SERVICE_ACCOUNT.len(), newer };
    }
    let gaps = |gap: &str| regex.matches(gap).count();
    let between = gaps(".*") + gaps("[^/]*");
    let newer = text(&regex.replace(".*", "").replace("[^/]*", "")) + 4 + 2 * between;
    ProgramSize { older: newer + MORE * between, newer }
}
