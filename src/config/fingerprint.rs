//! A non-cryptographic fingerprint of a document; collisions are not a security concern.
//!
//! JSON text and a `Struct` with the same content have the same fingerprint, because the order of a map's entries does
//! not matter. A `Struct` has its entries in any order.

use std::hash::Hasher as _;

use fnv::FnvHasher;

use crate::document::{Node, Value};

/// The fingerprint of a document.
#[must_use]
pub fn of(node: &Node) -> u64 {
    match &node.value {
        Value::Null => text(0, &[]),
        Value::Bool(value) => text(1, &[u8::from(*value)]),
        Value::Number(value) => text(2, &value.to_bits().to_le_bytes()),
        Value::String(value) => text(3, value.as_bytes()),
        Value::List(items) => items.iter().fold(text(4, &[]), |hash, item| pair(hash, of(item))),
        Value::Map(entries) => {
            let entry = |(key, node): &(String, Node)| pair(text(5, key.as_bytes()), of(node));
            entries.iter().fold(text(6, &[]), |sum, one| sum.wrapping_add(entry(one)))
        }
    }
}

fn text(kind: u8, bytes: &[u8]) -> u64 {
    let mut hasher = FnvHasher::default();
    hasher.write_u8(kind);
    hasher.write(bytes);
    hasher.finish()
}

fn pair(one: u64, other: u64) -> u64 {
    let mut hasher = FnvHasher::with_key(one);
    hasher.write(&other.to_le_bytes());
    hasher.finish()
}
