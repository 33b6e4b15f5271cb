//! Reads JSON text, or an encoded `google.protobuf.Struct`, into the tree.

use std::{fmt, mem};

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{Node, Value};
use crate::wire::{Field, Fields, Malformed, map_entry};

/// How a value is read.
enum Role<'t> {
    /// The whole value becomes a node.
    Plain,
    /// The value is the document. If it is a map, its first field with this name is read as `Apart`.
    Root(&'static str, &'t mut dyn FnMut(Node)),
    /// If the value is a list, its items are handed over one after another, and the list stays empty.
    Apart(&'t mut dyn FnMut(Node)),
    /// The value is the document. If it is a map, the values of its fields with this name are handed over, and nothing
    /// else is kept.
    Search(&'static str, &'t mut dyn FnMut(Node)),
    /// The value is read, and not kept.
    Skip,
}

impl<'t> Role<'t> {
    /// The role of the value of a field, in a map that has this role.
    fn of_field(&mut self, key: &str) -> Role<'t> {
        match mem::replace(self, Role::Plain) {
            Role::Root(name, take) if name == key => Role::Apart(take),
            other => {
                let keeps = match &other {
                    Role::Search(name, _) => *name == key,
                    Role::Skip => false,
                    _ => true,
                };
                *self = other;
                if keeps { Role::Plain } else { Role::Skip }
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
        match self {
            Role::Apart(take) => {
                while let Some(item) = access.next_element()? {
                    take(item);
                }
            }
            Role::Search(..) | Role::Skip => while access.next_element_seed(Role::Skip)?.is_some() {},
            Role::Plain | Role::Root(..) => {
                while let Some(item) = access.next_element()? {
                    items.push(item);
                }
            }
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut access: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = access.next_key::<String>()? {
            let node = access.next_value_seed(self.of_field(&key))?;
            match &mut self {
                Role::Search(name, take) if *name == key => take(node),
                Role::Search(..) | Role::Skip => {}
                _ => entries.push((key, node)),
            }
        }
        Ok(Value::Map(entries))
    }
}

/// Reads JSON text.
///
/// # Errors
/// The text is not JSON, or is nested deeper than 128 levels. The error says where.
pub fn from_json(text: &[u8]) -> Result<Node, serde_json::Error> {
    json(text, Role::Plain)
}

/// Like [`from_json`], but hands over the items of one list as soon as each is read. That list is the field with this
/// name in the map at the root. In the result, the list is empty.
///
/// # Errors
/// Like [`from_json`]. Some items may have been handed over before the error.
pub(crate) fn from_json_apart(
    text: &[u8],
    name: &'static str,
    mut take: impl FnMut(Node),
) -> Result<Node, serde_json::Error> {
    json(text, Role::Root(name, &mut take))
}

/// Hands over the values of the fields with this name in the map at the root, of JSON or of an encoded
/// `google.protobuf.Struct`. Returns whether everything was read. What comes after a mistake is not read.
pub(crate) fn search(document: &[u8], name: &'static str, mut take: impl FnMut(Node)) -> bool {
    // JSON can begin with a line feed, too.
    let is_struct = document.starts_with(b"\n") && search_struct(document, name, &mut take).is_ok();
    is_struct || json(document, Role::Search(name, &mut take)).is_ok()
}

fn search_struct(message: &[u8], name: &str, take: &mut dyn FnMut(Node)) -> Result<(), Malformed> {
    for field in Fields::of(message) {
        let (1, Field::Bytes(entry)) = field? else { return Err(Malformed) };
        let (key, value) = map_entry(entry)?;
        if key == name.as_bytes() {
            take(struct_value(value, DEEPEST, Role::Plain)?);
        }
    }
    Ok(())
}

fn json(text: &[u8], role: Role<'_>) -> Result<Node, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let node = role.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(node)
}

/// The deepest nesting, as in `serde_json`.
const DEEPEST: usize = 128;

/// Reads an encoded `google.protobuf.Struct`.
///
/// # Errors
/// The message is malformed, holds text that is not UTF-8, or is nested deeper than 128 levels.
pub fn from_struct(message: &[u8]) -> Result<Node, Malformed> {
    struct_fields(message, DEEPEST, Role::Plain).map(Node::from)
}

/// Like [`from_json_apart`], for an encoded `google.protobuf.Struct`.
///
/// # Errors
/// Like [`from_struct`]. Some items may have been handed over before the error.
pub(crate) fn from_struct_apart(
    message: &[u8],
    name: &'static str,
    mut take: impl FnMut(Node),
) -> Result<Node, Malformed> {
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
        // If there are several values, the last one counts.
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
