//! Reads files as kubectl reads them, with the line and column of every value.
//!
//! | part | what it does |
//! | --- | --- |
//! | this file | divides a file into documents; reads JSON |
//! | `cause` | what a text is that is not YAML |
//! | `entries` | the entries of a map, and merge keys |
//! | `events` | what libyaml finds in a document |
//! | `quoted` | quotes for scalars that libyaml does not read |
//! | `scalar` | what a scalar means: YAML 1.1, where an unquoted `on` or `no` is a boolean |
//! | `tree` | makes a tree of the events; expands aliases |
//!
//! kubectl divides a file before it reads YAML: at each line that begins with `---`. A file that begins with `{` is JSON, one
//! object after another, until something is not.

mod cause;
mod entries;
mod events;
mod quoted;
mod scalar;
mod tree;

use std::borrow::Cow;
use std::{fmt, iter, mem};

use mesh_authz::document::{Node, Place, Position, Span, Value, from_json};
use serde::de::IgnoredAny;

pub use self::cause::placeholder;

/// The error that a document cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YamlError {
    /// The place of the mistake.
    pub position: Position,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<&'static str>,
    /// The start of the list or map that the text at this place does not fit into.
    pub within: Option<Position>,
}

impl YamlError {
    /// An error that is about the whole text.
    #[must_use]
    pub fn new(message: String) -> Self {
        Self { message, ..Self::at(Position { line: 1, column: 1 }) }
    }

    fn at(position: Position) -> Self {
        Self { position, message: String::new(), hint: None, within: None }
    }
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}:{}: {}", self.position.line, self.position.column, self.message)
    }
}

impl std::error::Error for YamlError {}

/// Where the lines of a text are.
struct Lines<'t> {
    text: &'t str,
    /// The number of the first line.
    first: u32,
    /// The first byte of each line.
    starts: Vec<usize>,
    /// The bytes that are not the first one of their character.
    further: Vec<usize>,
}

impl<'t> Lines<'t> {
    /// The lines of a text whose first line has this number, counted from 1.
    fn of(text: &'t str, first: u32) -> Self {
        let bytes = || text.bytes().enumerate();
        let behind = bytes().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at.saturating_add(1));
        let further = bytes().filter(|(_, byte)| byte & 0xc0 == 0x80).map(|(at, _)| at);
        Self { text, first, starts: iter::once(0).chain(behind).collect(), further: further.collect() }
    }

    /// The position of a byte.
    fn position(&self, at: usize) -> Position {
        let at = at.min(self.text.len());
        let line = self.starts.partition_point(|start| *start <= at).saturating_sub(1);
        let start = self.starts.get(line).copied().unwrap_or_default();
        let further = |at| self.further.partition_point(|byte| *byte < at);
        let column = at.saturating_sub(start).saturating_sub(further(at).saturating_sub(further(start)));
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Position { line: self.first.saturating_add(number(line)), column: number(column).saturating_add(1) }
    }
}

/// Reads all documents of a text. Empty documents are left out.
///
/// # Errors
/// The first mistake: a document is not YAML, is nested deeper than 128 levels, or expands to more than 256 MiB.
pub fn documents(text: &str) -> Result<Vec<Node>, YamlError> {
    let (documents, errors) = read(text);
    errors.into_iter().next().map_or(Ok(documents), Err)
}

/// Like [`documents`], but returns every document that can be read, and the mistakes in all others.
#[must_use]
pub fn read(text: &str) -> (Vec<Node>, Vec<YamlError>) {
    // A mark of byte order at the start says how the file is encoded.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut found = Found::default();
    let rest = if text.trim_start().starts_with('{') { found.json(text) } else { Some((text, 1)) };
    if let Some((rest, line)) = rest {
        found.yaml(rest, line);
    }
    (found.documents, found.errors)
}

#[derive(Default)]
struct Found {
    documents: Vec<Node>,
    errors: Vec<YamlError>,
}

impl Found {
    /// Reads JSON objects, one after another. Returns what is left to be read as YAML, with the number of its first line: a text
    /// with one object or none may go on in YAML.
    fn json<'t>(&mut self, text: &'t str) -> Option<(&'t str, u32)> {
        let whole = without_lone_surrogates(text);
        let mut at = 0;
        let mut counted = LineCount { text, at: 0, line: 1 };
        for count in 0_usize.. {
            let rest = whole.get(at..).unwrap_or_default();
            let blank = rest.len().saturating_sub(rest.trim_start_matches([' ', '\t', '\r', '\n']).len());
            let start = at.saturating_add(blank);
            let rest = whole.get(start..).unwrap_or_default();
            if rest.is_empty() {
                return None;
            }
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<IgnoredAny>();
            let error = match values.next() {
                Some(Ok(_)) | None => None,
                Some(Err(error)) => Some(error),
            };
            let Some(error) = error else {
                let end = start.saturating_add(values.byte_offset());
                let line = counted.at(start);
                self.json_value(whole.get(start..end).unwrap_or_default(), line);
                at = end;
                continue;
            };
            if count <= 1 {
                // kubectl goes on after the white space, up to and including the first line feed.
                let behind = text.get(at..).unwrap_or_default();
                let blank = behind.len().saturating_sub(behind.trim_start().len());
                let line_feed = behind.find('\n').filter(|line_feed| *line_feed < blank);
                let skipped = line_feed.map_or(blank, |line_feed| line_feed.saturating_add(1));
                let from = at.saturating_add(skipped);
                if count > 0 && line_feed.is_none() {
                    let hint = "end the line behind the JSON";
                    self.errors.push(json_error(&error, counted.at(start), hint));
                    return None;
                }
                let is_begun = is_begun(rest);
                let line = counted.at(from);
                let left = text.get(from..).unwrap_or_default();
                if is_begun && read_yaml(left, line).1.is_empty() {
                    self.errors.push(json_error(
                        &error,
                        counted.at(start),
                        "JSON has no comments, and no text without quotes",
                    ));
                    return None;
                }
                return Some((left, line));
            }
            self.errors.push(json_error(&error, counted.at(start), "what comes after JSON must be JSON"));
            return None;
        }
        None
    }

    /// Adds a JSON value. YAML knows the places of its parts, and reads nearly all JSON.
    fn json_value(&mut self, text: &str, line: u32) {
        let lines = Lines::of(text, line);
        let whole = Span { start: lines.position(0), end: lines.position(text.len()) };
        let unknown = Node { value: Value::Null, place: Some(Box::new(Place { key: None, value: whole })) };
        let places = tree::document(&readable(text), &lines).ok().flatten().unwrap_or(unknown);
        match from_json(text.as_bytes()) {
            Ok(node) if node.value == Value::Null => {}
            Ok(node) => self.documents.push(with_places(node, &places)),
            Err(error) => self.errors.push(json_error(&error, line, "it cannot be read")),
        }
    }

    fn yaml(&mut self, text: &str, line: u32) {
        let (documents, errors) = read_yaml(text, line);
        self.documents.extend(documents);
        self.errors.extend(errors);
    }
}

/// Reads YAML documents, with lines of `---` between them. The first line of the text has this number.
fn read_yaml(text: &str, line: u32) -> (Vec<Node>, Vec<YamlError>) {
    let (mut documents, mut errors) = (Vec::new(), Vec::new());
    let mut piece = Piece { text: String::new(), line };
    for (line, number) in text.split_terminator('\n').zip(line..) {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let Some(behind) = line.strip_prefix("---") else {
            piece.push(line);
            continue;
        };
        let behind = behind.trim();
        if !behind.is_empty() && !behind.starts_with('#') {
            errors.push(YamlError {
                message: "kubectl takes nothing but a comment after `---`".to_owned(),
                hint: Some("write it on the next line"),
                ..YamlError::at(Position { line: number, column: 4 })
            });
        }
        // Before the first document, the line belongs to the document.
        if piece.text.is_empty() {
            piece.push(line);
        } else {
            let next = Piece { text: String::new(), line: number.saturating_add(1) };
            mem::replace(&mut piece, next).read(&mut documents, &mut errors);
        }
    }
    piece.read(&mut documents, &mut errors);
    (documents, errors)
}

/// The text of one document.
struct Piece {
    text: String,
    /// The number of its first line.
    line: u32,
}

impl Piece {
    fn push(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn read(self, documents: &mut Vec<Node>, errors: &mut Vec<YamlError>) {
        match read_document(self.text.trim_start_matches('\u{feff}'), self.line) {
            Ok(found) => documents.extend(found),
            Err(error) => errors.push(error),
        }
    }
}

fn read_document(text: &str, line: u32) -> Result<Option<Node>, YamlError> {
    let lines = Lines::of(text, line);
    if let Some(error) =
        cause::conflict(text, line).or_else(|| directive(text, line)).or_else(|| not_printable(text, &lines))
    {
        return Err(error);
    }
    tree::document(text, &lines).map_err(|error| cause::instead(error, text, line))
}

/// The error for a line with `%` before a document, such as `%YAML 1.2`.
fn directive(text: &str, first: u32) -> Option<YamlError> {
    let mut lines = text.split('\n').zip(first..);
    let (begin, line) = lines.find(|(line, _)| !line.trim().is_empty() && !line.starts_with('#'))?;
    begin.starts_with('%').then(|| YamlError {
        message: "kubectl reads no lines with `%` before a document".to_owned(),
        hint: Some("remove the line"),
        ..YamlError::at(Position { line, column: 1 })
    })
}

/// The error for the first character that YAML does not allow.
fn not_printable(text: &str, lines: &Lines<'_>) -> Option<YamlError> {
    let is_allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}' | '\u{10000}'..);
    let (at, c) = text.char_indices().find(|(_, c)| !is_allowed(*c))?;
    Some(YamlError {
        message: format!("U+{:04X} is a character that YAML does not allow here", u32::from(c)),
        hint: Some("remove it; in double quotes, it can be written as an escape"),
        ..YamlError::at(lines.position(at))
    })
}

/// Whether a text that is not JSON begins with a key of JSON.
fn is_begun(text: &str) -> bool {
    text.strip_prefix('{').is_some_and(|behind| behind.trim_start().starts_with('"'))
}

/// Counts the lines of a text.
struct LineCount<'t> {
    text: &'t str,
    at: usize,
    line: u32,
}

impl LineCount<'_> {
    /// The number of the line that contains this byte, which is not before the byte of the last call.
    fn at(&mut self, at: usize) -> u32 {
        let line_feeds = self.text.get(self.at..at).unwrap_or_default().matches('\n').count();
        self.line = self.line.saturating_add(u32::try_from(line_feeds).unwrap_or(u32::MAX));
        self.at = self.at.max(at);
        self.line
    }
}

fn json_error(error: &serde_json::Error, line: u32, hint: &'static str) -> YamlError {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let line = line.saturating_add(number(error.line()).saturating_sub(1));
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or(&message);
    YamlError {
        message: format!("this begins as JSON, and is not: {message}"),
        hint: Some(hint),
        ..YamlError::at(Position { line, column: number(error.column()).max(1) })
    }
}

/// JSON with other texts of the same length where a YAML reader does not know an escape.
fn readable(json: &str) -> String {
    let mut readable = String::with_capacity(json.len());
    let mut rest = json;
    while let Some((before, behind)) = rest.split_once('\\') {
        readable.push_str(before);
        let is_surrogate = behind.get(..3).is_some_and(|start| {
            start.starts_with('u')
                && start.ends_with(['8', '9', 'a', 'b', 'c', 'd', 'e', 'f', 'A', 'B', 'C', 'D', 'E', 'F'])
                && start.get(1..2).is_some_and(|digit| digit.eq_ignore_ascii_case("d"))
        });
        let length = behind.chars().next().map_or(0, char::len_utf8);
        if is_surrogate || behind.starts_with('/') {
            readable.push('_');
        } else {
            readable.push('\\');
        }
        let (escaped, further) = behind.split_at_checked(length).unwrap_or_default();
        readable.push_str(escaped);
        rest = further;
    }
    readable + rest
}

/// The values of one tree with the places of another one, as far as they have the same shape.
fn with_places(node: Node, places: &Node) -> Node {
    let value = match (node.value, &places.value) {
        (Value::List(items), Value::List(others)) if items.len() == others.len() => {
            Value::List(items.into_iter().zip(others).map(|(item, other)| with_places(item, other)).collect())
        }
        (Value::Map(entries), Value::Map(others)) if entries.len() == others.len() => {
            let entry = |((key, node), (_, other)): ((String, Node), &(String, Node))| (key, with_places(node, other));
            Value::Map(entries.into_iter().zip(others).map(entry).collect())
        }
        (value, _) => value,
    };
    Node { value, place: places.place.clone() }
}

/// A text in which escapes of half a character are escapes of the replacement character, as Kubernetes reads them.
fn without_lone_surrogates(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let unit = |at: usize| -> Option<u16> {
        let escape = bytes.get(at..at.checked_add(6)?)?;
        let digits = escape.strip_prefix(b"\\u").filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut changed: Option<String> = None;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        if *byte != b'\\' {
            at = at.saturating_add(1);
            continue;
        }
        let (is_lone, length) = match unit(at) {
            Some(0xd800..=0xdbff) => match unit(at.saturating_add(6)) {
                Some(0xdc00..=0xdfff) => (false, 12),
                _ => (true, 6),
            },
            Some(0xdc00..=0xdfff) => (true, 6),
            _ => (false, 2),
        };
        let end = at.saturating_add(length);
        if is_lone {
            changed.get_or_insert_with(|| text.to_owned()).replace_range(at..end, "\\ufffd");
        }
        at = end;
    }
    changed.map_or(Cow::Borrowed(text), Cow::Owned)
}
