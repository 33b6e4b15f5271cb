//! The entries of a map, and what a merge key (`<<`) does to them.

use std::collections::HashMap;

use mesh_authz::document::{Node, Value};

/// The entries of a map.
#[derive(Default)]
pub struct Entries {
    all: Vec<Entry>,
    /// Where the entry with a key is. Kept from the first merge key on.
    by_key: Option<HashMap<String, usize>>,
}

struct Entry {
    key: String,
    node: Node,
    /// It comes from a merge key (`<<`).
    is_merged: bool,
}

impl Entries {
    /// Adds an entry. It takes the place of one with the same key that comes from a merge key. A key may be there twice otherwise:
    /// that is reported later.
    pub fn add(&mut self, key: String, node: Node) {
        let known = self.by_key.as_ref().and_then(|by_key| by_key.get(&key).copied());
        match known.and_then(|at| self.all.get_mut(at)).filter(|entry| entry.is_merged) {
            Some(entry) => *entry = Entry { key, node, is_merged: false },
            None => self.push(Entry { key, node, is_merged: false }),
        }
    }

    /// Adds the entries of the maps in the value of a merge key. They take the place of entries before the merge key. Of several
    /// maps, the first one counts.
    pub fn merge(&mut self, value: Value) -> Result<(), NoMaps> {
        let maps = match value {
            Value::Map(map) => vec![map],
            Value::List(items) => items
                .into_iter()
                .rev()
                .map(|item| if let Value::Map(map) = item.value { Ok(map) } else { Err(NoMaps) })
                .collect::<Result<_, _>>()?,
            _ => return Err(NoMaps),
        };
        let known = self.all.iter().enumerate().map(|(at, entry)| (entry.key.clone(), at));
        let mut by_key = self.by_key.take().unwrap_or_else(|| known.collect());
        for (key, node) in maps.into_iter().flatten() {
            let next = self.all.len();
            let at = *by_key.entry(key.clone()).or_insert(next);
            let entry = Entry { key, node, is_merged: true };
            match self.all.get_mut(at) {
                Some(before) => *before = entry,
                None => self.all.push(entry),
            }
        }
        self.by_key = Some(by_key);
        Ok(())
    }

    /// The entries, with their keys.
    pub fn into_map(self) -> Vec<(String, Node)> {
        self.all.into_iter().map(|Entry { key, node, .. }| (key, node)).collect()
    }

    fn push(&mut self, entry: Entry) {
        if let Some(by_key) = &mut self.by_key {
            by_key.insert(entry.key.clone(), self.all.len());
        }
        self.all.push(entry);
    }
}

/// The value of a merge key is no map and no list of maps.
pub struct NoMaps;
