//! Lines in a JSON format: the values that stand where the format has operators.
//!
//! Envoy escapes a value that is not UTF-8 byte by byte: `\u00e9` is the byte E9 then, and not the letter é. A program that
//! writes the line again, such as a log shipper, can lose that difference. A line that Envoy wrote has its keys sorted, and
//! no blanks around them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::format::{FormatError, Operator, Piece, Tells, pieces};
use super::line::Splitter;
use super::record::Said;

/// A JSON format, ready to read lines.
#[derive(Debug)]
pub struct Template {
    root: Node,
    columns: Vec<Operator>,
    /// All keys of its objects.
    keys: BTreeSet<String>,
}

/// A part of a format.
#[derive(Debug)]
enum Node {
    /// Sorted by name.
    Object(Vec<(String, Node)>),
    List(Vec<Node>),
    /// Exactly one operator: the number of its column.
    Operator(usize),
    /// A text with operators in it: the number of its first column.
    Text(Splitter, usize),
    Constant,
}

impl Template {
    /// Prepares a format: an object, of which texts have operators.
    ///
    /// # Errors
    /// A text is no format string, or the format is no object.
    pub fn new(format: &Value) -> Result<Self, FormatError> {
        let mut columns = Vec::new();
        let root = Node::new(format, &mut columns)?;
        match root {
            Node::Object(_) if columns.is_empty() => {
                Err(FormatError { at: 0, message: "there is no operator in it, such as %REQ(:METHOD)%".to_owned() })
            }
            Node::Object(_) => {
                let mut keys = BTreeSet::new();
                collect_keys(format, &mut keys);
                Ok(Self { root, columns, keys })
            }
            _ => Err(FormatError { at: 0, message: "a JSON format is an object".to_owned() }),
        }
    }

    /// What the values tell, in order.
    #[must_use]
    pub fn columns(&self) -> &[Operator] {
        &self.columns
    }

    /// Reads a line. `omits`: values that are absent can be left out, with their keys. `None`: it has another format.
    #[must_use]
    pub fn read<'l>(&self, line: &'l [u8], omits: bool) -> Option<Vec<Said<'l>>> {
        let line = std::str::from_utf8(line).ok()?;
        let mut found = Found { said: Vec::new(), lacks: false, is_sorted: true };
        found.said.resize_with(self.columns.len(), || Said::Absent);
        let mut deserializer = serde_json::Deserializer::from_str(line);
        Reader { template: self, node: &self.root, found: &mut found }.deserialize(&mut deserializer).ok()?;
        deserializer.end().ok()?;
        if found.lacks && !(omits && self.has_what_is_always_there(&found.said)) {
            return None;
        }
        let is_raw = |said: &Said<'_>| matches!(said, Said::Value(value) if !value.is_ascii());
        if found.said.iter().any(is_raw) && !(found.is_sorted && has_no_blanks(line)) {
            found.said.iter_mut().filter(|said| is_raw(said)).for_each(|said| *said = Said::Unknown);
        }
        Some(found.said)
    }
}

impl Template {
    /// Whether a column has a value that Envoy never leaves out. Otherwise, any object would be a line.
    fn has_what_is_always_there(&self, said: &[Said<'_>]) -> bool {
        let is_always_there = |tells: &Tells| {
            matches!(
                tells,
                Tells::StartTime | Tells::Code | Tells::Flags | Tells::BytesReceived | Tells::BytesSent | Tells::Number
            )
        };
        let mut columns = self.columns.iter().zip(said);
        columns.any(|(operator, said)| is_always_there(&operator.tells) && !said.is_absent())
    }
}

impl Node {
    fn new(format: &Value, columns: &mut Vec<Operator>) -> Result<Self, FormatError> {
        Ok(match format {
            Value::Object(fields) => {
                let mut nodes = Vec::new();
                for (name, value) in fields {
                    nodes.push((name.clone(), Self::new(value, columns)?));
                }
                nodes.sort_by(|(one, _), (other, _)| one.cmp(other));
                Self::Object(nodes)
            }
            Value::Array(items) => {
                let mut nodes = Vec::new();
                for item in items {
                    nodes.push(Self::new(item, columns)?);
                }
                Self::List(nodes)
            }
            Value::String(text) => {
                let pieces = pieces(text)?;
                match pieces.as_slice() {
                    [Piece::Operator(operator)] => {
                        columns.push(operator.clone());
                        Self::Operator(columns.len().saturating_sub(1))
                    }
                    pieces if pieces.iter().all(|piece| matches!(piece, Piece::Literal(_))) => Self::Constant,
                    pieces => {
                        let splitter = Splitter::new(pieces, true);
                        let first = columns.len();
                        columns.extend(splitter.columns().iter().cloned());
                        Self::Text(splitter, first)
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => Self::Constant,
        })
    }
}

/// What is found in a line.
struct Found<'l> {
    /// By the number of the column.
    said: Vec<Said<'l>>,
    /// Whether a key is missing.
    lacks: bool,
    /// Whether all keys are sorted.
    is_sorted: bool,
}

impl<'l> Found<'l> {
    fn set(&mut self, column: usize, said: Said<'l>) {
        if let Some(place) = self.said.get_mut(column) {
            *place = said;
        }
    }
}

/// Reads a value of a line along with the part of the format that it belongs to.
struct Reader<'t, 'f, 'l> {
    template: &'t Template,
    node: &'t Node,
    found: &'f mut Found<'l>,
}

impl<'l> DeserializeSeed<'l> for Reader<'_, '_, 'l> {
    type Value = ();

    fn deserialize<D: Deserializer<'l>>(self, deserializer: D) -> Result<(), D::Error> {
        let raw = |deserializer| <&RawValue as Deserialize>::deserialize(deserializer).map(RawValue::get);
        match self.node {
            Node::Object(_) => deserializer.deserialize_map(self),
            Node::List(_) => deserializer.deserialize_seq(self),
            Node::Constant => Foreign(&self.template.keys).deserialize(deserializer),
            Node::Operator(column) => {
                let raw = raw(deserializer)?;
                if raw.starts_with(['{', '[']) {
                    let mut value = serde_json::Deserializer::from_str(raw);
                    Foreign(&self.template.keys).deserialize(&mut value).map_err(D::Error::custom)?;
                }
                let said = said(raw).ok_or_else(|| D::Error::custom("no value"))?;
                self.found.set(*column, said);
                Ok(())
            }
            Node::Text(splitter, first) => {
                let Some(Said::Value(text)) = said(raw(deserializer)?) else { return Err(D::Error::custom("no text")) };
                // Envoy escapes each value by itself: a text that is not ASCII can have both kinds of escapes.
                let columns = if text.is_ascii() { splitter.split(&text) } else { Some(Vec::new()) };
                let columns = columns.ok_or_else(|| D::Error::custom("another text"))?;
                for number in 0..splitter.columns().len() {
                    let said = Said::of_column(columns.get(number), &text, b"-");
                    self.found.set(first.saturating_add(number), said.into_owned());
                }
                Ok(())
            }
        }
    }
}

impl<'l> Visitor<'l> for Reader<'_, '_, 'l> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what the format has")
    }

    fn visit_map<A: MapAccess<'l>>(self, mut map: A) -> Result<(), A::Error> {
        let Node::Object(nodes) = self.node else { return Err(A::Error::custom("an object")) };
        let mut seen = vec![false; nodes.len()];
        let mut last: Option<Cow<'l, str>> = None;
        while let Some(Key(key)) = map.next_key()? {
            self.found.is_sorted &= last.as_ref().is_none_or(|last| *last <= key);
            let position = nodes.binary_search_by(|(name, _)| (**name).cmp(&*key));
            last = Some(key);
            let Some(((_, node), seen)) = position.ok().and_then(|at| Some((nodes.get(at)?, seen.get_mut(at)?))) else {
                // Log shippers add keys.
                map.next_value_seed(Foreign(&self.template.keys))?;
                continue;
            };
            if std::mem::replace(seen, true) {
                return Err(A::Error::custom("a key is there twice"));
            }
            map.next_value_seed(Reader { template: self.template, node, found: &mut *self.found })?;
        }
        self.found.lacks |= seen.contains(&false);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'l>>(self, mut items: A) -> Result<(), A::Error> {
        let Node::List(nodes) = self.node else { return Err(A::Error::custom("a list")) };
        for node in nodes {
            let reader = Reader { template: self.template, node, found: &mut *self.found };
            if items.next_element_seed(reader)?.is_none() {
                // It is not known which one is missing.
                return Err(A::Error::custom("a list is shorter"));
            }
        }
        match items.next_element::<IgnoredAny>()? {
            Some(_) => Err(A::Error::custom("a list is longer")),
            None => Ok(()),
        }
    }
}

fn collect_keys(format: &Value, keys: &mut BTreeSet<String>) {
    match format {
        Value::Object(fields) => {
            for (name, value) in fields {
                keys.insert(name.clone());
                collect_keys(value, keys);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_keys(item, keys)),
        _ => {}
    }
}

/// A value without an object that has several keys of the format. Where the format is one of text that only looks like JSON,
/// Envoy escapes nothing: a client can close its own text, write what it likes, and hide the rest of the line in such an object.
/// It has at least the key that it hides, and that of the text in which the client closes the object.
struct Foreign<'t>(&'t BTreeSet<String>);

impl<'l> DeserializeSeed<'l> for Foreign<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'l>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'l> Visitor<'l> for Foreign<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'l>>(self, mut map: A) -> Result<(), A::Error> {
        let mut is_one_known = false;
        while let Some(Key(key)) = map.next_key()? {
            if self.0.contains(&*key) && std::mem::replace(&mut is_one_known, true) {
                return Err(A::Error::custom("keys are at another place"));
            }
            map.next_value_seed(Self(self.0))?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'l>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Self(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// A key, borrowed if it has no escapes.
struct Key<'l>(Cow<'l, str>);

impl<'l> Deserialize<'l> for Key<'l> {
    fn deserialize<D: Deserializer<'l>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'l> Visitor<'l> for KeyVisitor {
            type Value = Key<'l>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E: Error>(self, key: &'l str) -> Result<Key<'l>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }
            fn visit_str<E: Error>(self, key: &str) -> Result<Key<'l>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

/// What a value of a line says.
fn said(raw: &str) -> Option<Said<'_>> {
    Some(match raw.as_bytes().first()? {
        b'n' => Said::Absent,
        b'"' => Said::Value(bytes(raw)?),
        _ => Said::Json(Cow::Borrowed(raw)),
    })
}

/// The bytes that Envoy wrote as this JSON string.
fn bytes(raw: &str) -> Option<Cow<'_, [u8]>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner.as_bytes()));
    }
    let text: String = serde_json::from_str(raw).ok()?;
    // Only what is not UTF-8 has such escapes: each of them is a byte.
    let is_escaped_byte = |at: usize| {
        let digits = inner.get(at.saturating_add(2)..at.saturating_add(6));
        digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).is_some_and(|code| (0x80..=0xff).contains(&code))
    };
    let mut has_escaped_byte = false;
    let mut at = 0;
    while let Some(found) = inner.get(at..).and_then(|rest| rest.find('\\')) {
        let escape = at.saturating_add(found);
        has_escaped_byte |= inner.as_bytes().get(escape.saturating_add(1)) == Some(&b'u') && is_escaped_byte(escape);
        at = escape.saturating_add(2);
    }
    if !has_escaped_byte || !inner.is_ascii() {
        return Some(Cow::Owned(text.into_bytes()));
    }
    text.chars().map(|letter| u8::try_from(u32::from(letter)).ok()).collect::<Option<Vec<u8>>>().map(Cow::Owned)
}

/// Whether there are no blanks between the parts of a line. Envoy writes none.
fn has_no_blanks(line: &str) -> bool {
    let mut is_in_text = false;
    let mut is_escaped = false;
    for byte in line.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_in_text => is_escaped = true,
            b'"' => is_in_text = !is_in_text,
            b' ' | b'\t' if !is_in_text => return false,
            _ => {}
        }
    }
    true
}
