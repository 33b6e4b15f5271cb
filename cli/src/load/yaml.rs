//! Reads YAML, with the line and column of every value.
//!
//! Scalars are read as Kubernetes reads them, which is YAML 1.1. For example, an unquoted `on` or `no` is a boolean. So
//! a file that the cluster refuses is refused here too. JSON files are read as well, because JSON is YAML.

use std::collections::HashMap;
use std::fmt;

use mesh_authz::document::{Node, Place, Position, Span, Value};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError};

/// Deepest nesting of lists and maps, the same as in `serde_json`.
const DEEPEST: usize = 128;

/// Largest size of one text with its aliases expanded. The size is the bytes of all scalars, and `BYTES_OF_A_VALUE` for
/// each value.
const MOST_BYTES: usize = 256 << 20;
const BYTES_OF_A_VALUE: usize = 64;

/// The error that a text is not YAML, is nested too deeply, or is too large.
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
        Self { position: Position { line: 1, column: 1 }, message, hint: None, within: None }
    }
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}:{}: {}", self.position.line, self.position.column, self.message)
    }
}

impl std::error::Error for YamlError {}

/// Reads all documents of a text. Empty documents are left out.
///
/// # Errors
/// The text is not YAML, is nested deeper than 128 levels, or expands to more than 256 MiB.
pub fn documents(text: &str) -> Result<Vec<Node>, YamlError> {
    match read(text) {
        (documents, None) => Ok(documents),
        (_, Some(error)) => Err(error),
    }
}

/// Like [`documents`], but if there is a mistake, returns it together with the documents before it.
#[must_use]
pub fn read(text: &str) -> (Vec<Node>, Option<YamlError>) {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let read = event.map_err(|error| builder.not_yaml(&error)).and_then(|(event, span)| {
            builder.event(event, Span { start: position(span.start), end: position(span.end) })
        });
        if let Err(error) = read {
            return (builder.documents, Some(error));
        }
    }
    (builder.documents, None)
}

fn position(marker: Marker) -> Position {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Position { line: number(marker.line()), column: number(marker.col()).saturating_add(1) }
}

/// A list or a map that is not complete yet.
struct Open {
    container: Container,
    anchor: usize,
    start: Position,
}

enum Container {
    List(Vec<Node>),
    /// The complete entries, and a key whose value is not read yet.
    Map(Vec<(String, Node)>, Option<(String, Span)>),
}

#[derive(Default)]
struct Builder {
    documents: Vec<Node>,
    open: Vec<Open>,
    /// The start and the end of the list or map that was completed last.
    ended: Option<(Position, Position)>,
    /// The values that have an anchor, with the size of each.
    anchors: HashMap<usize, (Value, usize)>,
    size: usize,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), YamlError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = style != ScalarStyle::Plain
                    || tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
                let value = if is_text { Value::String(text.into_owned()) } else { plain(&text) };
                let size = size(&value);
                self.add(value, anchor, size, span)
            }
            Event::SequenceStart(anchor, _) => self.start(Container::List(Vec::new()), anchor, span.start),
            Event::MappingStart(anchor, _) => self.start(Container::Map(Vec::new(), None), anchor, span.start),
            // The span of a closing bracket includes what follows it on its line, so its end is computed from its
            // start.
            Event::SequenceEnd | Event::MappingEnd if span.start < span.end => {
                let column = span.start.column.saturating_add(1);
                self.end(Position { column, ..span.start })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span.end),
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some((value, size)) => self.add(value, 0, size, span),
                None => Err(error(span.start, "the alias names no anchor that is complete")),
            },
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                Ok(())
            }
        }
    }

    /// Makes the error for a text that the scanner does not understand. It names the list or map that the text does not
    /// fit into. That is the outermost one that begins further to the right than the text, whether it is complete or
    /// not. If there is none, it is the innermost one that contains the text. The mistake is often at its start.
    fn not_yaml(&self, error: &ScanError) -> YamlError {
        let position = position(*error.marker());
        let ended = self.ended.filter(|(start, end)| *end == position && start.column > position.column);
        // For a list, the same column counts too: the dash of its next item may be missing.
        let is_right = |open: &&Open| match open.container {
            Container::List(_) => open.start.column >= position.column,
            Container::Map(..) => open.start.column > position.column,
        };
        let outermost = self.open.iter().find(is_right).map(|open| open.start);
        let within = outermost.or(ended.map(|(start, _)| start)).or(self.open.last().map(|open| open.start));
        let hint = within.map(|_| "what belongs together begins in the same column");
        YamlError { position, message: error.info().to_owned(), hint, within }
    }

    fn start(&mut self, container: Container, anchor: usize, start: Position) -> Result<(), YamlError> {
        if self.open.len() >= DEEPEST {
            return Err(error(start, "nested too deeply"));
        }
        self.open.push(Open { container, anchor, start });
        Ok(())
    }

    fn end(&mut self, end: Position) -> Result<(), YamlError> {
        let Some(Open { container, anchor, start }) = self.open.pop() else { return Ok(()) };
        self.ended = Some((start, end));
        let value = match container {
            Container::List(items) => Value::List(items),
            Container::Map(entries, _) => Value::Map(entries),
        };
        // The content was counted when it was added. An anchored value needs its whole size, for its aliases.
        let size = if anchor == 0 { BYTES_OF_A_VALUE } else { size(&value) };
        self.add(value, anchor, size, Span { start, end })
    }

    /// Adds a complete value to the list or map that contains it, or to the documents.
    fn add(&mut self, value: Value, anchor: usize, size: usize, span: Span) -> Result<(), YamlError> {
        self.size = self.size.saturating_add(size);
        if self.size > MOST_BYTES {
            return Err(error(span.start, "too much, with its aliases expanded"));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, (value.clone(), size));
        }
        let place = |key| Some(Box::new(Place { key, value: span }));
        match self.open.last_mut().map(|open| &mut open.container) {
            None => {
                if value != Value::Null {
                    self.documents.push(Node { value, place: place(None) });
                }
            }
            Some(Container::List(items)) => items.push(Node { value, place: place(None) }),
            Some(Container::Map(entries, waiting)) => match waiting.take() {
                None => match key(value, span.start)? {
                    merge if merge == "<<" => {
                        let message = "merge keys (`<<`) are not supported";
                        return Err(YamlError { hint: Some("write the fields out"), ..error(span.start, message) });
                    }
                    key => *waiting = Some((key, span)),
                },
                Some((key, key_span)) => entries.push((key, Node { value, place: place(Some(key_span)) })),
            },
        }
        Ok(())
    }
}

fn error(position: Position, message: &str) -> YamlError {
    YamlError { position, message: message.to_owned(), hint: None, within: None }
}

/// The approximate memory that a value takes, in bytes.
fn size(value: &Value) -> usize {
    let inner: usize = match value {
        Value::List(items) => items.iter().map(|item| size(&item.value)).sum(),
        Value::Map(entries) => entries.iter().map(|(_, node)| size(&node.value)).sum(),
        Value::String(text) => text.len(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    };
    inner.saturating_add(BYTES_OF_A_VALUE)
}

/// A key. A key is always a string, even if it looks like a boolean, a number or null.
fn key(value: Value, position: Position) -> Result<String, YamlError> {
    match value {
        Value::String(text) => Ok(text),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Null => Ok("null".to_owned()),
        Value::List(_) | Value::Map(_) => Err(error(position, "a key must be a string")),
    }
}

/// The value of an unquoted scalar.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Value::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

/// Reads a number: decimal, hexadecimal, octal or binary. `_` is allowed between digits, as in YAML 1.1.
fn number(text: &str) -> Option<f64> {
    let digits = text.replace('_', "");
    let unsigned = digits.strip_prefix(['+', '-']).unwrap_or(&digits);
    let radix =
        |prefix, radix| unsigned.strip_prefix(prefix).and_then(|digits| u64::from_str_radix(digits, radix).ok());
    if let Some(number) = radix("0x", 16).or_else(|| radix("0o", 8)).or_else(|| radix("0b", 2)) {
        #[expect(clippy::cast_precision_loss, reason = "no field holds a number that large")]
        return Some(number as f64);
    }
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return Some(f64::INFINITY);
    }
    if matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Some(f64::NAN);
    }
    let starts_as_number = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    if starts_as_number && unsigned.contains(|c: char| c.is_ascii_digit()) { digits.parse().ok() } else { None }
}
