//! Hashes of keys.
//!
//! The index knows a key only by a 64-bit hash of its dimension, its form and its text. It never compares the text
//! itself. Two keys may have the same hash, and somebody who writes policies can construct such keys. This is harmless:
//! a request then finds rules that it need not find, and the evaluator rejects them.

use std::hash::Hasher;
use std::net::IpAddr;

use fnv::FnvHasher;

use super::key::{Dimension, Key};
use super::key_forms::route;
use crate::policy::value::mask;

/// The number of the rules that are filed together by one dimension. It is part of the hash, so that all of them can
/// share a table.
pub(super) type FiledId = u32;

/// The form of a key. It is part of the hash, because keys of different forms may have the same text.
#[derive(Clone, Copy, Debug)]
pub(super) enum KeyForm {
    Exact = 1,
    Prefix,
    Suffix,
    Template,
    Port,
    Block,
}

/// The state of the hash function FNV-1a, which hashes byte by byte.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hash(u64);

impl Hash {
    pub(super) fn start() -> Self {
        Self(FnvHasher::default().finish())
    }

    pub(super) fn add(self, byte: u8) -> Self {
        let mut hasher = FnvHasher::with_key(self.0);
        hasher.write_u8(byte);
        Self(hasher.finish())
    }

    pub(super) fn bytes(bytes: impl IntoIterator<Item = u8>) -> Self {
        bytes.into_iter().fold(Self::start(), Self::add)
    }

    /// The hash of a key of this form. It mixes in the form and the dimension, and then spreads every bit over all
    /// bits, with the finalizer of `SplitMix64`.
    pub(super) fn of(self, form: KeyForm, id: FiledId) -> u64 {
        // In unit tests, many keys have the same hash, so that the tests cover collisions.
        if cfg!(test) {
            return (self.0 ^ form as u64) % 7;
        }
        let salt = (u64::from(id) << 3) | form as u64;
        let mut hash = self.0.wrapping_add(salt.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^ (hash >> 31)
    }
}

pub(super) fn of_key(id: FiledId, dimension: &Dimension, key: &Key<'_>) -> u64 {
    let byte = |byte: &u8| if *dimension == Dimension::Host { byte.to_ascii_lowercase() } else { *byte };
    let text = |bytes: &[u8]| Hash::bytes(bytes.iter().map(byte));
    match key {
        Key::Exact(exact) => text(exact).of(KeyForm::Exact, id),
        Key::Prefix(prefix) => text(prefix).of(KeyForm::Prefix, id),
        Key::Suffix(suffix) => Hash::bytes(suffix.iter().rev().map(byte)).of(KeyForm::Suffix, id),
        Key::Template(template) => text(route(template).as_bytes()).of(KeyForm::Template, id),
        Key::Port(port) => of_port(id, *port),
        Key::Block(block) => of_block(id, block.address, block.prefix),
    }
}

pub(super) fn of_port(id: FiledId, port: u16) -> u64 {
    Hash::bytes(port.to_le_bytes()).of(KeyForm::Port, id)
}

pub(super) fn of_block(id: FiledId, address: IpAddr, length: u8) -> u64 {
    let hash = match mask(address, length) {
        IpAddr::V4(v4) => Hash::bytes(v4.octets()),
        IpAddr::V6(v6) => Hash::bytes(v6.octets()),
    };
    hash.add(length).of(KeyForm::Block, id)
}

/// A hasher for keys that are hashes already. It returns them unchanged.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = Hash::bytes(bytes.iter().copied()).0;
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
