//! A JSON-like tree, and a reader of it that reports every mistake instead of stopping at the first.
//!
//! Policies and configurations arrive as JSON text, as protobuf `Struct` and, in the command, as YAML; each becomes a
//! [`Node`]. An [`Object`] hands out the fields of a map by name and then reports the ones that nobody asked for, so
//! that a mistyped field is an error with a suggestion and never a condition that silently disappears. Keys are kept
//! as written, twins included: two `action` keys are an error too.
//!
//! A node is several times as large as its text. Of a list of thousands, [`from_json_apart`] and [`from_struct_apart`] keep one item at a time.

use std::borrow::Cow;
use std::collections::HashSet;
use std::{fmt, mem};

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::diagnostic::{Diagnostics, Part, Path, Segment, suggestion};
use crate::wire::{Field, Fields, Malformed, map_entry};

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

/// What becomes of a value while it is read.
enum Role<'t> {
    /// A node, whole.
    Plain,
    /// The document. If it is a map, its first field of this name is to be read apart.
    Root(&'static str, &'t mut dyn FnMut(Node)),
    /// If it is a list, its items are handed over one after another, and it stays empty.
    Apart(&'t mut dyn FnMut(Node)),
}

impl<'t> Role<'t> {
    /// The role of the value behind a key of the map that has this role.
    fn of_field(&mut self, key: &str) -> Role<'t> {
        match mem::replace(self, Role::Plain) {
            Role::Root(name, take) if name == key => Role::Apart(take),
            other => {
                *self = other;
                Role::Plain
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Role::Plain.deserialize(deserializer)
    }
}

impl<'de> DeserializeSeed<'de> for Role<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self).map(Node::from)
    }
}

impl<'de> Visitor<'de> for Role<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    #[expect(clippy::cast_precision_loss, reason = "no field holds a number that large")]
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "no field holds a number that large")]
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value as f64))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        if let Role::Apart(take) = self {
            while let Some(item) = access.next_element()? {
                take(item);
            }
        } else {
            while let Some(item) = access.next_element()? {
                items.push(item);
            }
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut access: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = access.next_key::<String>()? {
            let node = access.next_value_seed(self.of_field(&key))?;
            entries.push((key, node));
        }
        Ok(Value::Map(entries))
    }
}

/// Reads JSON text.
///
/// # Errors
/// The text is not JSON, or is nested deeper than 128 levels; says where.
pub fn from_json(text: &[u8]) -> Result<Node, serde_json::Error> {
    json(text, Role::Plain)
}

/// As [`from_json`], with the items of the list under this name in the map at the root handed over one after another, as
/// soon as each is read. The list itself is left empty.
///
/// # Errors
/// As [`from_json`]; by then items may have been handed over.
pub fn from_json_apart(text: &[u8], name: &'static str, mut take: impl FnMut(Node)) -> Result<Node, serde_json::Error> {
    json(text, Role::Root(name, &mut take))
}

fn json(text: &[u8], role: Role<'_>) -> Result<Node, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let node = role.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(node)
}

/// Deepest nesting, as in `serde_json`.
const DEEPEST: usize = 128;

/// Reads an encoded `google.protobuf.Struct`.
///
/// # Errors
/// The message is malformed, holds text that is not UTF-8, or is nested deeper than 128 levels.
pub fn from_struct(message: &[u8]) -> Result<Node, Malformed> {
    struct_fields(message, DEEPEST, Role::Plain).map(Node::from)
}

/// As [`from_json_apart`], for an encoded `google.protobuf.Struct`.
///
/// # Errors
/// As [`from_struct`]; by then items may have been handed over.
pub fn from_struct_apart(message: &[u8], name: &'static str, mut take: impl FnMut(Node)) -> Result<Node, Malformed> {
    struct_fields(message, DEEPEST, Role::Root(name, &mut take)).map(Node::from)
}

fn struct_fields(message: &[u8], depth: usize, mut role: Role<'_>) -> Result<Value, Malformed> {
    let depth = depth.checked_sub(1).ok_or(Malformed)?;
    let mut entries = Vec::new();
    for field in Fields::of(message) {
        let (1, Field::Bytes(entry)) = field? else { return Err(Malformed) };
        let (key, value) = map_entry(entry)?;
        let key = utf8(key)?;
        let node = struct_value(value, depth, role.of_field(&key))?;
        entries.push((key, node));
    }
    Ok(Value::Map(entries))
}

fn struct_value(message: &[u8], depth: usize, mut role: Role<'_>) -> Result<Node, Malformed> {
    let mut value = Value::Null;
    let mut fields = Fields::of(message).peekable();
    while let Some(field) = fields.next() {
        // Of several values the last one counts.
        let is_last = fields.peek().is_none();
        let role = if is_last { mem::replace(&mut role, Role::Plain) } else { Role::Plain };
        value = match field? {
            (1, Field::Varint(_)) => Value::Null,
            (2, Field::Fixed64(bytes)) => Value::Number(f64::from_le_bytes(bytes)),
            (3, Field::Bytes(bytes)) => Value::String(utf8(bytes)?),
            (4, Field::Varint(flag)) => Value::Bool(flag != 0),
            (5, Field::Bytes(bytes)) => struct_fields(bytes, depth, Role::Plain)?,
            (6, Field::Bytes(bytes)) => struct_list(bytes, depth, role)?,
            _ => return Err(Malformed),
        };
    }
    Ok(value.into())
}

fn struct_list(message: &[u8], depth: usize, role: Role<'_>) -> Result<Value, Malformed> {
    let depth = depth.checked_sub(1).ok_or(Malformed)?;
    let item = |field| match field {
        Ok((1, Field::Bytes(item))) => struct_value(item, depth, Role::Plain),
        Ok(_) | Err(Malformed) => Err(Malformed),
    };
    let mut items = Fields::of(message).map(item);
    if let Role::Apart(take) = role {
        items.try_for_each(|item| item.map(&mut *take))?;
        return Ok(Value::List(Vec::new()));
    }
    Ok(Value::List(items.collect::<Result<_, _>>()?))
}

fn utf8(bytes: &[u8]) -> Result<String, Malformed> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Malformed)
}

/// More fields than nearly every kind of map has: a guess that saves growing.
const MOST_FIELDS: usize = 16;

/// A map being read: every field that is asked for is known, every other is an error at [`Object::finish`].
#[derive(Debug)]
pub struct Object<'n> {
    entries: &'n [(String, Node)],
    known: Vec<&'static str>,
}

impl<'n> Object<'n> {
    /// Starts reading a map; reports anything else.
    pub fn open(node: &'n Node, diagnostics: &mut Diagnostics) -> Option<Self> {
        if let Value::Map(entries) = &node.value {
            return Some(Self { entries, known: Vec::with_capacity(MOST_FIELDS) });
        }
        diagnostics.error(format!("must be an object, is {}", node.value.kind()));
        None
    }

    /// The field of this name, `null` included.
    pub fn get(&mut self, name: &'static str) -> Option<&'n Node> {
        self.known.push(name);
        self.entries.iter().find(|(key, _)| key == name).map(|(_, node)| node)
    }

    /// Whether the field stands there, whatever it holds.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|(key, _)| key == name)
    }

    /// Reads a field with `read`, if it is there.
    ///
    /// `null` is an error: a cluster drops such a field without a word, and a rule whose `from:` has lost its lines
    /// would match every source.
    pub fn read<T>(
        &mut self,
        name: &'static str,
        diagnostics: &mut Diagnostics,
        read: impl FnOnce(&'n Node, &mut Diagnostics) -> T,
    ) -> Option<T> {
        let node = self.present(name, diagnostics)?;
        Some(diagnostics.field(name, |diagnostics| read(node, diagnostics)))
    }

    /// The field of this name; reports `null`.
    #[inline(never)]
    fn present(&mut self, name: &'static str, diagnostics: &mut Diagnostics) -> Option<&'n Node> {
        let node = self.get(name)?;
        if node.is_null() {
            diagnostics.field(name, |d| d.error_with_hint("has no value", "give it one, or remove the field"));
            return None;
        }
        Some(node)
    }

    /// A field that holds a string.
    pub fn string(&mut self, name: &'static str, diagnostics: &mut Diagnostics) -> Option<String> {
        self.read(name, diagnostics, string)?.map(str::to_owned)
    }

    /// A field that holds a list of strings; an absent one is empty.
    pub fn strings(&mut self, name: &'static str, diagnostics: &mut Diagnostics) -> Vec<String> {
        let item = |node: &'n Node, diagnostics: &mut Diagnostics| string(node, diagnostics).map(str::to_owned);
        self.read(name, diagnostics, |node, diagnostics| list_of_some(node, diagnostics, item)).unwrap_or_default()
    }

    /// Accepts a field whatever it holds.
    pub fn ignore(&mut self, name: &'static str) {
        self.known.push(name);
    }

    /// Reports the fields that nobody asked for, and the ones that stand there twice.
    pub fn finish(self, diagnostics: &mut Diagnostics) {
        let is_unknown = |name: &&String| !self.known.contains(&name.as_str());
        for name in self.entries.iter().map(|(name, _)| name).filter(is_unknown) {
            key(name, diagnostics, |diagnostics| {
                if let Some(near) = suggestion(name, self.known.iter().copied()) {
                    diagnostics.key_error(format!("unknown field, did you mean {near}?"), None);
                } else {
                    diagnostics.key_error("unknown field", Some(&format!("known here: {}", self.known.join(", "))));
                }
            });
        }
        self.finish_open(diagnostics);
    }

    /// As [`Self::finish`], for a map that may hold anything besides: reports what stands there twice.
    pub fn finish_open(self, diagnostics: &mut Diagnostics) {
        for name in twins(self.entries) {
            key(name, diagnostics, |diagnostics| {
                diagnostics.key_error("stands here twice", Some("keep one of the two"));
            });
        }
    }
}

/// The keys that stand in the map before.
fn twins(entries: &[(String, Node)]) -> Vec<&str> {
    const FEW: usize = 16;
    let keys = || entries.iter().map(|(key, _)| key.as_str());
    // Comparing a few with one another is quicker than hashing them.
    if entries.len() <= FEW {
        let is_twin = |(index, key): &(usize, &str)| keys().take(*index).any(|before| before == *key);
        return keys().enumerate().filter(is_twin).map(|(_, key)| key).collect();
    }
    let mut seen = HashSet::new();
    keys().filter(|key| !seen.insert(*key)).collect()
}

/// Reads what stands behind a key of the input's choice.
fn key<R>(key: &str, diagnostics: &mut Diagnostics, read: impl FnOnce(&mut Diagnostics) -> R) -> R {
    diagnostics.field(&shortened(key), read)
}

/// A name from the input as a message can hold it.
fn shortened(name: &str) -> Cow<'_, str> {
    const LONGEST: usize = 100;
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => Cow::Owned(format!("{}…", name.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(name),
    }
}

/// A string; reports anything else, with a hint where YAML has made something else of it.
pub fn string<'n>(node: &'n Node, diagnostics: &mut Diagnostics) -> Option<&'n str> {
    match &node.value {
        Value::String(text) => return Some(text),
        Value::Number(_) => diagnostics.error_with_hint("must be a string, is a number", "write it in quotes"),
        Value::Bool(_) => diagnostics.error_with_hint("must be a string, is a boolean", "write it in quotes"),
        other => diagnostics.error(format!("must be a string, is {}", other.kind())),
    }
    None
}

/// A number without a fraction, from 0 to `most`; `None` for anything else.
#[must_use]
pub fn whole_number(node: &Node, most: u32) -> Option<u32> {
    let Value::Number(number) = node.value else { return None };
    let is_one = (0.0..=f64::from(most)).contains(&number) && number.fract().abs().total_cmp(&0.0).is_eq();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between two such numbers")]
    is_one.then_some(number as u32)
}

/// A boolean; reports anything else.
pub fn boolean(node: &Node, diagnostics: &mut Diagnostics) -> Option<bool> {
    if let Value::Bool(value) = node.value {
        return Some(value);
    }
    diagnostics.error_with_hint(format!("must be true or false, is {}", node.value.kind()), "write it without quotes");
    None
}

/// One of a few words; reports anything else, with the nearest of them.
pub fn one_of<T: Copy>(node: &Node, choices: &[(&'static str, T)], diagnostics: &mut Diagnostics) -> Option<T> {
    let text = string(node, diagnostics)?;
    let found = choices.iter().find(|(name, _)| *name == text);
    if found.is_none() {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        let hint = match suggestion(text, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known here: {}", names.join(", ")),
        };
        diagnostics.error_with_hint(format!("`{text}` is unknown"), hint);
    }
    found.map(|(_, value)| *value)
}

/// A list, each item read with `read`; reports anything else.
pub fn list<'n, T>(
    node: &'n Node,
    diagnostics: &mut Diagnostics,
    mut read: impl FnMut(&'n Node, &mut Diagnostics) -> T,
) -> Vec<T> {
    list_of_some(node, diagnostics, |item, diagnostics| Some(read(item, diagnostics)))
}

/// As [`list`], without the items of which `read` makes nothing.
pub fn list_of_some<'n, T>(
    node: &'n Node,
    diagnostics: &mut Diagnostics,
    mut read: impl FnMut(&'n Node, &mut Diagnostics) -> Option<T>,
) -> Vec<T> {
    let Value::List(items) = &node.value else {
        let hint = match node.value {
            Value::Map(_) => "put a dash before it",
            _ => "put it in brackets: [ … ]",
        };
        diagnostics.error_with_hint(format!("must be a list, is {}", node.value.kind()), hint);
        return Vec::new();
    };
    // Collecting what is left of an iterator would take memory for four.
    let mut list = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        list.extend(diagnostics.index(index, |diagnostics| read(item, diagnostics)));
    }
    list
}

/// A map from names to strings, such as labels; reports anything else, and names that stand there twice.
pub fn string_map(node: &Node, diagnostics: &mut Diagnostics) -> Vec<(String, String)> {
    let Some(object) = Object::open(node, diagnostics) else { return Vec::new() };
    let mut map = Vec::with_capacity(object.entries.len());
    for (name, node) in object.entries {
        if let Some(value) = key(name, diagnostics, |diagnostics| string(node, diagnostics)) {
            map.push((name.clone(), value.to_owned()));
        }
    }
    object.finish_open(diagnostics);
    map
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
