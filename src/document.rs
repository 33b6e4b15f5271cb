//! A JSON-like tree, and a reader of it that reports every mistake instead of stopping at the first.
//!
//! Policies and configurations arrive as JSON text, as protobuf `Struct` and, in the command, as YAML; each becomes a
//! [`Node`]. An [`Object`] hands out the fields of a map by name and then reports the ones that nobody asked for, so
//! that a mistyped field is an error with a suggestion and never a condition that silently disappears. Keys are kept
//! as written, twins included: two `action` keys are an error too.
//!
//! A node is several times as large as its text. Of a list of thousands, `from_json_apart` and `from_struct_apart` keep one item at a time.

mod decode;
mod object;

pub use self::decode::{from_json, from_struct};
pub(crate) use self::decode::{from_json_apart, from_struct_apart};
pub(crate) use self::object::string_map;
pub use self::object::{Object, boolean, list, list_of_some, one_of, string, whole_number};
use crate::diagnostic::{Part, Path, Segment};

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What is there.
    pub value: Value,
    /// Where, when the source has lines.
    pub place: Option<Box<Place>>,
}

/// Where a value stands in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The key before it, in a map.
    pub key: Option<Span>,
    /// The value.
    pub value: Span,
}

/// A stretch of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first character.
    pub start: Position,
    /// What follows its last character.
    pub end: Position,
}

/// A position in a text, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

impl Place {
    /// What to show of it: the key or the value, as asked for; of a value that goes on for several lines, its key, or where
    /// it begins.
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
    /// Any number.
    Number(f64),
    /// Text.
    String(String),
    /// A list.
    List(Vec<Node>),
    /// A map, with its keys in the order of the text, twins included.
    Map(Vec<(String, Node)>),
}

impl Value {
    /// What this is, for an error message.
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
}

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        Self { value, place: None }
    }
}

impl Node {
    /// Whether this is `null`: in YAML, a field with nothing behind its colon.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    /// The field of this name, if this is a map that has it.
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

    /// The value at `path`, if it is there.
    #[must_use]
    pub fn at(&self, path: &Path) -> Option<&Node> {
        path.0.iter().try_fold(self, Self::child)
    }

    /// Where the field at `path` stands; of one that is missing, the nearest thing around it.
    #[must_use]
    pub fn locate(&self, path: &Path, part: Part) -> Option<Span> {
        let mut node = self;
        let mut shown = self.place.as_deref().map(|place| place.shown(part));
        for segment in &path.0 {
            let Some(child) = node.child(segment) else {
                // What lacks something is named by its key.
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

/// The integer that this number is, if it is one that a double holds exactly.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
fn integer(number: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT { Some(number as i64) } else { None }
}
