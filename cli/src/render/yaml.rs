//! Writes YAML that all readers read alike: that of Envoy (yaml-cpp) and that of kubectl (a port of libyaml, with the
//! types of YAML 1.1).
//!
//! Readers disagree about characters, about escapes, and about texts that look like another type, such as `on`, `1_000`
//! or `0x1p3`. So a text stands without quotes only if every reader takes it for this text. Any other text is in double
//! quotes, on one line, with an escape for each unusual character. What is written is read back, and compared.

use std::fmt::{self, Write as _};

use mesh_authz::document::{self, Node};
use serde::Serialize;
use serde_json::Value;

use crate::load::yaml;

/// The error that a value cannot be written as YAML.
#[derive(Debug)]
pub enum NotWritten {
    /// The value is none that JSON has.
    NoJson(serde_json::Error),
    /// A reader would read another value.
    ReadDifferently,
}

impl fmt::Display for NotWritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoJson(error) => error.fmt(f),
            Self::ReadDifferently => f.write_str("this cannot be written as YAML: it would be read as another value"),
        }
    }
}

impl std::error::Error for NotWritten {}

/// Writes one document. Lists and maps are in block style, and the keys of a map are sorted.
///
/// # Errors
/// The value is none that JSON has, or a reader would not read the same value.
pub fn to_string(value: &impl Serialize) -> Result<String, NotWritten> {
    let value = serde_json::to_value(value).map_err(NotWritten::NoJson)?;
    let mut text = String::new();
    block(&value, 0, &mut text);
    let documents = yaml::documents(&text).unwrap_or_default();
    match documents.as_slice() {
        [document] if is_same(document, &value) => Ok(text),
        [] if value.is_null() => Ok(text),
        _ => Err(NotWritten::ReadDifferently),
    }
}

/// Writes a value from the current column on, which is `indent`. All further lines are indented.
fn block(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                begin_line(index, indent, out);
                out.push_str("- ");
                block(item, indent.saturating_add(2), out);
            }
        }
        Value::Object(fields) if !fields.is_empty() => {
            for (index, (key, value)) in fields.iter().enumerate() {
                begin_line(index, indent, out);
                if is_plain(key) && !key.contains(':') {
                    out.push_str(key);
                } else {
                    quoted(key, out);
                }
                out.push(':');
                field(value, indent, out);
            }
        }
        Value::String(text) if indent > 0 && is_literal(text) => literal(text, indent, out),
        scalar => {
            self::scalar(scalar, out);
            out.push('\n');
        }
    }
}

/// Writes the value behind a key in this column.
fn field(value: &Value, indent: usize, out: &mut String) {
    let deeper = indent.saturating_add(2);
    let inner = match value {
        // The items of a list begin in the column of its key.
        Value::Array(items) if !items.is_empty() => indent,
        Value::Object(fields) if !fields.is_empty() => deeper,
        _ => {
            out.push(' ');
            return block(value, deeper, out);
        }
    };
    out.push('\n');
    let _infallible = write!(out, "{:inner$}", "");
    block(value, inner, out);
}

/// The first line is begun already.
fn begin_line(index: usize, indent: usize, out: &mut String) {
    if index > 0 {
        let _infallible = write!(out, "{:indent$}", "");
    }
}

fn scalar(value: &Value, out: &mut String) {
    match value {
        Value::String(text) if is_plain(text) => out.push_str(text),
        Value::String(text) => quoted(text, out),
        // An empty list or map, a number, a boolean, or null: as in JSON.
        other => {
            let _infallible = write!(out, "{other}");
        }
    }
}

/// Whether every reader takes the lines for this text, with `|` before them.
fn is_literal(text: &str) -> bool {
    let is_line =
        |line: &str| !line.is_empty() && !line.ends_with(' ') && line.bytes().all(|b| matches!(b, b' '..=b'~'));
    text.contains('\n') && !text.starts_with(' ') && text.strip_suffix('\n').unwrap_or(text).split('\n').all(is_line)
}

fn literal(text: &str, indent: usize, out: &mut String) {
    out.push_str(if text.ends_with('\n') { "|\n" } else { "|-\n" });
    for line in text.lines() {
        let _infallible = writeln!(out, "{:indent$}{line}", "");
    }
}

/// Whether every reader takes the text without quotes, in a block, for this text.
fn is_plain(text: &str) -> bool {
    const OTHER_TYPES: [&str; 12] =
        ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf", "infinity"];
    let is_usual = |c: char| c == ' ' || c.is_ascii_graphic() && !"\"'\\`".contains(c);
    // A number, a date or a time has no slash.
    let is_begun = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        || text.starts_with(|c: char| c.is_ascii_digit()) && text.contains('/');
    is_begun
        && text.chars().all(is_usual)
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
        && !OTHER_TYPES.iter().any(|other| text.eq_ignore_ascii_case(other))
}

/// Writes a text in double quotes, with the escapes that all readers know.
fn quoted(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        let _infallible = match (c, u32::from(c)) {
            ('"' | '\\', _) => write!(out, "\\{c}"),
            ('\n', _) => write!(out, "\\n"),
            ('\r', _) => write!(out, "\\r"),
            ('\t', _) => write!(out, "\\t"),
            (' '..='~', _) => write!(out, "{c}"),
            (_, code @ 0xa1..) if c.is_alphanumeric() && code < 0x1_0000 => write!(out, "{c}"),
            (_, code @ ..0x1_0000) => write!(out, "\\u{code:04X}"),
            (_, code) => write!(out, "\\U{code:08X}"),
        };
    }
    out.push('"');
}

/// Whether what was read is what was meant.
fn is_same(read: &Node, meant: &Value) -> bool {
    match (&read.value, meant) {
        (document::Value::Null, Value::Null) => true,
        (document::Value::Bool(read), Value::Bool(meant)) => read == meant,
        (document::Value::Number(read), Value::Number(meant)) => meant.as_f64() == Some(*read),
        (document::Value::String(read), Value::String(meant)) => read == meant,
        (document::Value::List(read), Value::Array(meant)) => {
            read.len() == meant.len() && read.iter().zip(meant).all(|(read, meant)| is_same(read, meant))
        }
        (document::Value::Map(read), Value::Object(meant)) => {
            let is_entry = |(key, node): &(String, Node)| meant.get(key).is_some_and(|meant| is_same(node, meant));
            read.len() == meant.len() && read.iter().all(is_entry)
        }
        _ => false,
    }
}
