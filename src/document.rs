//! A JSON-like tree, and a reader for it that reports every mistake instead of stopping at the first.
//!
//! Policies and configurations arrive as JSON text, as a protobuf `Struct` or, in the command, as YAML. Each of them
//! becomes a [`Node`].
//!
//! An [`Object`] returns the fields of a map by name. Then it reports the fields that nobody has asked for. So a
//! mistyped field is an error with a suggestion, and never a condition that silently disappears. Keys are kept as
//! written, including duplicates: two `action` keys are an error too.
//!
//! A node takes several times as much memory as its text. So for a list of thousands of items, `from_json_apart` and
//! `from_struct_apart` keep only one item at a time.

mod decode;
mod object;

pub use self::decode::{from_json, from_struct};
pub(crate) use self::decode::{from_json_apart, from_struct_apart, search};
pub use self::object::{Object, boolean, list, list_of_some, one_of, string, whole_number};
pub(crate) use self::object::{repeated, string_map};
use crate::diagnostic::{Part, Path, Segment};

/// A value, and where it is in the source.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The value itself.
    pub value: Value,
    /// Where the value is, if the source has lines.
    pub place: Option<Box<Place>>,
}

/// Where a value is in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The key in front of the value, if the value is in a map.
    pub key: Option<Span>,
    /// The value itself.
    pub value: Span,
}

/// A range of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first character.
    pub start: Position,
    /// The position after the last character.
    pub end: Position,
}

/// A position in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line, counted from 1.
    pub line: u32,
    /// The column in characters, counted from 1.
    pub column: u32,
}

impl Place {
    /// The range that a message shows: the key or the value, as `part` asks. If the value has several lines, its key is
    /// shown. If there is no key, the value is shown.
    fn shown(&self, part: Part) -> Span {
        let Self { key, value } = *self;
        match (part, key) {
            (Part::Key, Some(key)) => key,
            (_, Some(key)) if value.start.line < value.end.line => key,
            _ => value,
        }
    }
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as a double.
    Number(f64),
    /// A text.
    String(String),
    /// A list.
    List(Vec<Node>),
    /// A map. Its keys are in the order of the text, including duplicates.
    Map(Vec<(String, Node)>),
}

impl Value {
    /// The kind of the value, for an error message: `a list`, for example.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::List(_) => "a list",
            Self::Map(_) => "an object",
        }
    }

    /// The value for an error message about it, if it is short; otherwise its kind.
    #[must_use]
    pub fn shown(&self) -> String {
        const SHORT: usize = 64;
        match self {
            // To write any other number takes code that would be a twentieth of the filter.
            Self::Number(number) if number.fract() != 0.0 => "a fraction".to_owned(),
            Self::Number(number) => integer(*number).map_or_else(|| self.kind().to_owned(), |whole| whole.to_string()),
            Self::String(text) if text.len() <= SHORT => format!("`{text}`"),
            other => other.kind().to_owned(),
        }
    }
}

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        Self { value, place: None }
    }
}

impl Node {
    /// Whether this is `null`. In YAML, a field with nothing after its colon is `null` too.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    /// The field with this name, if this is a map that has one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(key, _)| key == name).map(|(_, node)| node),
            _ => None,
        }
    }

    /// The text, if this is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The node at `path`, if there is one.
    #[must_use]
    pub fn at(&self, path: &Path) -> Option<&Node> {
        path.0.iter().try_fold(self, Self::child)
    }

    /// Where the field at `path` is. If the field is missing, the place of the nearest node around it.
    #[must_use]
    pub fn locate(&self, path: &Path, part: Part) -> Option<Span> {
        let mut node = self;
        let mut shown = self.place.as_deref().map(|place| place.shown(part));
        for segment in &path.0 {
            let Some(child) = node.child(segment) else {
                // A node that lacks a field is shown by its key.
                return node.place.as_deref().map(|place| place.shown(Part::Key)).or(shown);
            };
            shown = child.place.as_deref().map(|place| place.shown(part)).or(shown);
            node = child;
        }
        shown
    }

    fn child(&self, segment: &Segment) -> Option<&Node> {
        match (&self.value, segment) {
            (Value::List(items), Segment::Index(index)) => items.get(*index),
            (_, Segment::Field(name)) => self.get(name),
            _ => None,
        }
    }
}

impl serde::Serialize for Node {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.value {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Number(number) => match integer(*number) {
                Some(integer) => serializer.serialize_i64(integer),
                None => serializer.serialize_f64(*number),
            },
            Value::String(text) => serializer.serialize_str(text),
            Value::List(items) => serializer.collect_seq(items),
            Value::Map(entries) => serializer.collect_map(entries.iter().map(|(key, node)| (key, node))),
        }
    }
}

/// The number as an integer, if it is an integer that a double holds exactly.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
fn integer(number: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT { Some(number as i64) } else { None }
}
