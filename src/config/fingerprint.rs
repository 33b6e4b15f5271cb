//! A number that stands for a document: FNV-1a, with which nobody has to be kept from finding two of the same number.
//!
//! It is the same for JSON text and for a `Struct`, whose entries come in any order.

use crate::document::{Node, Value};

const START: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

/// The number of a document.
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
    bytes.iter().fold(step(START, kind), |hash, byte| step(hash, *byte))
}

fn pair(one: u64, other: u64) -> u64 {
    other.to_le_bytes().into_iter().fold(one, step)
}

fn step(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(PRIME)
}
