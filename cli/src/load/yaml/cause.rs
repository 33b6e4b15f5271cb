//! What a text that is not YAML is instead: a template, a merge conflict, or a usual mistake.

use mesh_authz::document::Position;

use super::YamlError;

/// The error for a line that Git writes between two versions of a text.
pub fn conflict(text: &str, first: u32) -> Option<YamlError> {
    marker(text, first, |line| line)
}

fn marker(text: &str, first: u32, marked: fn(&str) -> &str) -> Option<YamlError> {
    let is_marker = |line: &str| {
        let behind = ["<<<<<<<", ">>>>>>>", "|||||||"].iter().find_map(|marker| line.strip_prefix(marker));
        behind.is_some_and(|behind| behind.is_empty() || behind.starts_with(' ')) || line == "======="
    };
    let (_, line) = text.split('\n').zip(first..).find(|(line, _)| is_marker(marked(line)))?;
    Some(YamlError {
        message: "the document has a merge conflict that is not resolved".to_owned(),
        hint: Some("choose one of the two versions, and remove the lines between them"),
        ..YamlError::at(Position { line, column: 1 })
    })
}

/// The error for a text that is not YAML, with what it is instead.
pub fn instead(error: YamlError, text: &str, first: u32) -> YamlError {
    if let Some(conflict) = marker(text, first, str::trim) {
        return conflict;
    }
    let Some(sign) = ["{{", "{%", "<%"].into_iter().find(|sign| text.contains(sign)) else { return error };
    let hint = match sign {
        "{{" => "check what the template makes: for a Helm chart, `helm template CHART | mesh-authz check -`",
        _ => "check what the template makes",
    };
    YamlError {
        message: format!("a template (`{sign}`) is not YAML: {}", error.message),
        hint: Some(hint),
        within: None,
        ..error
    }
}

/// What is wrong, and what to do about it, where the scanner finds this character and says this.
pub fn mistake(message: &str, c: Option<char>) -> Option<(&'static str, &'static str)> {
    const IN_QUOTES: &str = "write the text in quotes";
    if message.ends_with("found character that cannot start any token") {
        return match c? {
            '\t' => Some(("a tab indents nothing in YAML", "write spaces")),
            '@' | '%' | '`' => Some((
                "no text without quotes begins with `@`, `%` or a backtick",
                "write it in quotes; if it is a placeholder, check the output of what fills it in",
            )),
            _ => None,
        };
    }
    if message.starts_with("while scanning an alias") {
        return Some(("without quotes, `*` begins the name of an anchor", IN_QUOTES));
    }
    if message.starts_with("while scanning an anchor") {
        return Some(("without quotes, `&` begins the name of an anchor", IN_QUOTES));
    }
    if message.ends_with("found unknown escape character") {
        return Some((
            "in double quotes, a backslash begins an escape, and this is none",
            "write the backslash twice, or the text in single quotes",
        ));
    }
    None
}

/// The placeholder in a text, for a tool that fills in values.
#[must_use]
pub fn placeholder(text: &str) -> Option<&str> {
    [("{{", "}}"), ("{%", "%}"), ("<%", "%>"), ("${", "}"), ("$(", ")")].into_iter().find_map(|(begin, end)| {
        let found = text.get(text.find(begin)?..)?;
        found.get(..found.find(end)?.checked_add(end.len())?)
    })
}
