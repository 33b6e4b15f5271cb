//! Reads the tree into Rust values, and reports every mistake on the way.

use std::borrow::Cow;
use std::collections::HashMap;

use super::{Node, Value};
use crate::diagnostic::{Diagnostics, suggestion};

/// The initial capacity of the list of known fields. Nearly every kind of map has fewer fields, so the list rarely
/// grows.
const MOST_FIELDS: usize = 16;

/// A map that is being read. Every field that is asked for is known. Every other field is an error at
/// [`Object::finish`].
#[derive(Debug)]
pub struct Object<'n> {
    entries: &'n [(String, Node)],
    known: Vec<&'n str>,
}

impl<'n> Object<'n> {
    /// Starts to read a map. Reports anything that is not a map.
    pub fn open(node: &'n Node, diagnostics: &mut Diagnostics) -> Option<Self> {
        if let Value::Map(entries) = &node.value {
            return Some(Self { entries, known: Vec::with_capacity(MOST_FIELDS) });
        }
        diagnostics.error(format!("must be an object, is {}", node.value.kind()));
        None
    }

    /// The field with this name, even if it is `null`.
    pub fn get(&mut self, name: &'static str) -> Option<&'n Node> {
        self.known.push(name);
        self.entries.iter().find(|(key, _)| key == name).map(|(_, node)| node)
    }

    /// Whether the map has this field, with any value.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|(key, _)| key == name)
    }

    /// Reads a field with `read`, if the map has it.
    ///
    /// `null` is an error. A cluster silently drops a field that is `null`. A rule whose `from:` has lost its lines
    /// would then match every source.
    pub fn read<T>(
        &mut self,
        name: &'static str,
        diagnostics: &mut Diagnostics,
        read: impl FnOnce(&'n Node, &mut Diagnostics) -> T,
    ) -> Option<T> {
        let node = self.present(name, diagnostics)?;
        Some(diagnostics.field(name, |diagnostics| read(node, diagnostics)))
    }

    /// The field with this name. Reports `null`.
    #[inline(never)]
    fn present(&mut self, name: &'static str, diagnostics: &mut Diagnostics) -> Option<&'n Node> {
        let node = self.get(name)?;
        if node.is_null() {
            diagnostics.field(name, |d| d.error_with_hint("has no value", "give it one, or remove the field"));
            return None;
        }
        Some(node)
    }

    /// Reads a field that must hold a string.
    pub fn string(&mut self, name: &'static str, diagnostics: &mut Diagnostics) -> Option<String> {
        self.read(name, diagnostics, string)?.map(str::to_owned)
    }

    /// Reads a field that must hold a list of strings. If the field is absent, the result is empty.
    pub fn strings(&mut self, name: &'static str, diagnostics: &mut Diagnostics) -> Vec<String> {
        let item = |node: &'n Node, diagnostics: &mut Diagnostics| string(node, diagnostics).map(str::to_owned);
        self.read(name, diagnostics, |node, diagnostics| list_of_some(node, diagnostics, item)).unwrap_or_default()
    }

    /// Accepts a field with any value.
    pub fn ignore(&mut self, name: &'n str) {
        self.known.push(name);
    }

    /// Reports the fields that nobody asked for, and the keys that occur twice.
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

    /// Like [`Self::finish`], for a map that may have any other field too. Reports only the keys that occur twice.
    pub(crate) fn finish_open(self, diagnostics: &mut Diagnostics) {
        for name in twins(self.entries) {
            key(name, diagnostics, |diagnostics| {
                diagnostics.key_error("stands here twice", Some("keep one of the two"));
            });
        }
    }
}

/// The keys that have already occurred in the map.
fn twins(entries: &[(String, Node)]) -> Vec<&str> {
    let keys: Vec<_> = entries.iter().map(|(key, _)| key.as_str()).collect();
    repeated(&keys).into_iter().filter_map(|(later, _)| keys.get(later).copied()).collect()
}

/// The names that have occurred before: the position of each, and that of the last one before it.
pub(crate) fn repeated(names: &[&str]) -> Vec<(usize, usize)> {
    const FEW: usize = 16;
    // For a few names, comparing is faster than hashing.
    if names.len() <= FEW {
        let before = |(at, name): (usize, &&str)| Some((at, names.get(..at)?.iter().rposition(|other| other == name)?));
        return names.iter().enumerate().filter_map(before).collect();
    }
    let mut seen = HashMap::with_capacity(names.len());
    names.iter().enumerate().filter_map(|(at, name)| Some((at, seen.insert(*name, at)?))).collect()
}

/// Reads the value of a key that the input chose. In messages, a long key is shortened.
fn key<R>(key: &str, diagnostics: &mut Diagnostics, read: impl FnOnce(&mut Diagnostics) -> R) -> R {
    diagnostics.field(&shortened(key), read)
}

/// A name from the input, cut to a length that fits into a message.
fn shortened(name: &str) -> Cow<'_, str> {
    const LONGEST: usize = 100;
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => Cow::Owned(format!("{}…", name.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(name),
    }
}

/// The text of a string. Reports anything else, with a hint if YAML has read the text as a number or a boolean.
pub fn string<'n>(node: &'n Node, diagnostics: &mut Diagnostics) -> Option<&'n str> {
    match &node.value {
        Value::String(text) => return Some(text),
        Value::Number(_) => diagnostics.error_with_hint("must be a string, is a number", "write it in quotes"),
        Value::Bool(_) => diagnostics.error_with_hint("must be a string, is a boolean", "write it in quotes"),
        other => diagnostics.error(format!("must be a string, is {}", other.kind())),
    }
    None
}

/// A number without a fraction, from 0 to `most`. `None` for anything else.
#[must_use]
pub fn whole_number(node: &Node, most: u32) -> Option<u32> {
    let Value::Number(number) = node.value else { return None };
    let is_one = (0.0..=f64::from(most)).contains(&number) && number.fract().abs().total_cmp(&0.0).is_eq();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between two such numbers")]
    is_one.then_some(number as u32)
}

/// The value of a boolean. Reports anything else.
pub fn boolean(node: &Node, diagnostics: &mut Diagnostics) -> Option<bool> {
    if let Value::Bool(value) = node.value {
        return Some(value);
    }
    diagnostics.error_with_hint(format!("must be true or false, is {}", node.value.kind()), "write it without quotes");
    None
}

/// One of a few words. Reports anything else, and suggests the nearest word.
pub fn one_of<T: Copy>(node: &Node, choices: &[(&'static str, T)], diagnostics: &mut Diagnostics) -> Option<T> {
    let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
    let (_, value) = choices.get(position(node, &names, diagnostics)?)?;
    Some(*value)
}

/// The position of a word among a few.
// Not inlined, so that the module has one copy of this code.
#[inline(never)]
fn position(node: &Node, names: &[&str], diagnostics: &mut Diagnostics) -> Option<usize> {
    let text = string(node, diagnostics)?;
    let found = names.iter().position(|name| *name == text);
    if found.is_none() {
        let hint = match suggestion(text, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known here: {}", names.join(", ")),
        };
        diagnostics.error_with_hint(format!("`{text}` is unknown"), hint);
    }
    found
}

/// The items of a list, each read with `read`. Reports anything that is not a list.
pub fn list<'n, T>(
    node: &'n Node,
    diagnostics: &mut Diagnostics,
    mut read: impl FnMut(&'n Node, &mut Diagnostics) -> T,
) -> Vec<T> {
    list_of_some(node, diagnostics, |item, diagnostics| Some(read(item, diagnostics)))
}

/// Like [`list`], but leaves out the items for which `read` returns `None`.
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
    // `collect` would take memory for at least four items, because it does not know how many items pass the filter.
    let mut list = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        list.extend(diagnostics.index(index, |diagnostics| read(item, diagnostics)));
    }
    list
}

/// A map from names to strings, such as labels. Reports anything else, and names that occur twice.
pub(crate) fn string_map(node: &Node, diagnostics: &mut Diagnostics) -> Vec<(String, String)> {
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
