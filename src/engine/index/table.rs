//! A table: gives a slot to each key of one dimension, and finds the keys that match a value of a request.
//!
//! # Hashes
//!
//! The table stores a 64-bit hash of the form and the text of each key. It never compares the text itself. Two keys
//! with the same hash share a slot, and somebody who writes policies can construct such keys. This is harmless: a
//! request then finds rules that it need not find, and the evaluator rejects them.
//!
//! A lookup tries only the forms and lengths that some key has. These must not depend on hashes. Therefore every key
//! records its own form and length, even if another key already has its hash.
//!
//! # Exact values, prefixes and suffixes
//!
//! A value is hashed byte by byte. One pass from the front finds the prefix keys and the exact key: it looks up the
//! hash at every length that a prefix key has and, if an exact key is as long as the value, after the last byte. One
//! pass from the back finds the suffix keys in the same way.
//!
//! # Templates
//!
//! `matchit` finds the templates. A template becomes a route, which may leave the end of the template to the evaluator.
//! A router returns only its best route for a path. Two different routes whose operators are in the same segments never
//! match the same path. Therefore each such shape has a router of its own, in which the best route is the only one.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;

use fnv::FnvHasher;
use matchit::{InsertError, Router};

use super::key::{Dimension, Key};
use crate::matcher::template::{Tail, Template};
use crate::policy::value::mask;

/// The keys of one dimension. Each key has a slot: a number, counted from 0.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: HashMap<u64, Slot, BuildHasherDefault<AsItIs>>,
    /// The lengths of all exact keys, in ascending order.
    exact: Vec<usize>,
    /// The lengths of all prefix keys, in ascending order.
    prefixes: Vec<usize>,
    /// The lengths of all suffix keys, in ascending order.
    suffixes: Vec<usize>,
    /// The prefix lengths of all network keys, in bits and in ascending order: first IPv4, then IPv6.
    blocks: [Vec<u8>; 2],
    /// One router for each shape of templates.
    routers: Vec<(String, Router<Slot>)>,
    /// The slots of templates that a router refused. There should be none. A lookup of any path visits them.
    unrouted: Vec<Slot>,
}

/// The number of a key, counted from 0.
pub(super) type Slot = usize;

/// Receives the slots that a lookup finds. It may receive a slot more than once.
pub(super) type Visit<'v> = &'v mut dyn FnMut(Slot) -> Visited;

/// The index cannot limit the rules to evaluate, because a value is unreadable or the values lead to too many rules.
#[derive(Debug)]
pub(super) struct Inconclusive;

/// The result of a lookup. An error ends the lookup.
pub(super) type Visited = Result<(), Inconclusive>;

impl Table {
    /// Returns the slot of a key. Adds the key if it is new.
    pub(super) fn slot(&mut self, dimension: &Dimension, key: &Key<'_>) -> Slot {
        let next = self.slots.len();
        let slot = *self.slots.entry(hash_of_key(dimension, key)).or_insert(next);
        match key {
            Key::Exact(text) => insert(&mut self.exact, text.len()),
            Key::Prefix(text) => insert(&mut self.prefixes, text.len()),
            Key::Suffix(text) => insert(&mut self.suffixes, text.len()),
            Key::Template(template) => self.add_routes(template, slot),
            Key::Port(_) => {}
            Key::Block(block) => {
                let [v4, v6] = &mut self.blocks;
                insert(if block.address.is_ipv4() { v4 } else { v6 }, block.prefix);
            }
        }
        slot
    }

    fn add_routes(&mut self, template: &Template, slot: Slot) {
        let route = route(template);
        let shape = shape(&route);
        let at = self.routers.iter().position(|(other, _)| *other == shape).unwrap_or_else(|| {
            self.routers.push((shape, Router::new()));
            self.routers.len().saturating_sub(1)
        });
        // `{**}` may match nothing, but `{*rest}` may not. So the route without it is added as well.
        let without_rest = route.strip_suffix(REST).map(str::to_owned);
        for route in std::iter::once(route).chain(without_rest) {
            let Some((_, router)) = self.routers.get_mut(at) else { continue };
            match router.insert(&route, slot) {
                Ok(()) => {}
                // The same route again: it has the same slot.
                Err(InsertError::Conflict { with }) if with == route => {}
                Err(_) => insert(&mut self.unrouted, slot),
            }
        }
    }

    /// How many templates the routers refused.
    #[cfg(test)]
    pub(super) fn unrouted(&self) -> usize {
        self.unrouted.len()
    }

    /// Visits the slots of the keys that match a text.
    pub(super) fn text(&self, text: &[u8], visit: Visit<'_>) -> Visited {
        self.bytes(text.iter().copied(), visit)
    }

    /// Like [`Self::text`], but upper and lower case are equal.
    pub(super) fn text_ignoring_case(&self, text: &[u8], visit: Visit<'_>) -> Visited {
        self.bytes(text.iter().map(u8::to_ascii_lowercase), visit)
    }

    /// Visits the slots of the keys that match a path: text keys and templates. `as_text` is the path as text, for
    /// templates. matchit needs UTF-8. Only wildcards can match bytes that are not UTF-8, and a wildcard also matches
    /// the replacement character.
    pub(super) fn path<'p>(&self, path: &[u8], as_text: impl FnOnce() -> &'p str, visit: Visit<'_>) -> Visited {
        self.text(path, visit)?;
        if !self.routers.is_empty() {
            let path = as_text();
            for (_, router) in &self.routers {
                if let Ok(route) = router.at(path) {
                    visit(*route.value)?;
                }
            }
        }
        self.unrouted.iter().try_for_each(|slot| visit(*slot))
    }

    /// How many routers there are for templates. Each of them reads the whole path.
    pub(super) fn routers(&self) -> usize {
        self.routers.len()
    }

    /// Visits the slot of a port.
    pub(super) fn port(&self, port: u16, visit: Visit<'_>) -> Visited {
        self.hash(hash_of_port(port), visit)
    }

    /// Visits the slots of the networks that contain an address.
    pub(super) fn address(&self, address: IpAddr, visit: Visit<'_>) -> Visited {
        let [v4, v6] = &self.blocks;
        let lengths = if address.is_ipv4() { v4 } else { v6 };
        lengths.iter().try_for_each(|length| self.hash(hash_of_block(address, *length), visit))
    }

    fn hash(&self, hash: u64, visit: Visit<'_>) -> Visited {
        self.slots.get(&hash).map_or(Ok(()), |slot| visit(*slot))
    }

    fn bytes(
        &self,
        bytes: impl DoubleEndedIterator<Item = u8> + ExactSizeIterator + Clone,
        visit: Visit<'_>,
    ) -> Visited {
        let (hash, rest) = self.beginnings(bytes.clone(), &self.prefixes, KeyForm::Prefix, visit)?;
        if self.exact.binary_search(&bytes.len()).is_ok() {
            let hash = rest.fold(hash, Hash::add);
            self.hash(hash.of(KeyForm::Exact), visit)?;
        }
        self.beginnings(bytes.rev(), &self.suffixes, KeyForm::Suffix, visit).map(|_| ())
    }

    /// Looks up the first bytes, for each of these lengths, and visits the slots that it finds. Returns the hash of the
    /// longest beginning that was looked up, and the bytes after it.
    fn beginnings<B: ExactSizeIterator<Item = u8>>(
        &self,
        mut bytes: B,
        lengths: &[usize],
        form: KeyForm,
        visit: Visit<'_>,
    ) -> Result<(Hash, B), Inconclusive> {
        let mut hash = Hash::start();
        let mut hashed: usize = 0;
        for length in lengths {
            let further = length.saturating_sub(hashed);
            if bytes.len() < further {
                break;
            }
            hash = bytes.by_ref().take(further).fold(hash, Hash::add);
            hashed = *length;
            self.hash(hash.of(form), visit)?;
        }
        Ok((hash, bytes))
    }

    /// Visits the slot of this key, and the slots of the keys that a request with this key probably also has. This is
    /// an estimate: it knows only the key, and not the values of a request.
    pub(super) fn together_with(&self, dimension: &Dimension, key: &Key<'_>, visit: Visit<'_>) -> Visited {
        match key {
            Key::Exact(text) | Key::Prefix(text) | Key::Suffix(text) if *dimension == Dimension::Host => {
                self.text_ignoring_case(text, visit)
            }
            Key::Exact(text) | Key::Prefix(text) | Key::Suffix(text) => self.text(text, visit),
            Key::Template(_) | Key::Port(_) => self.hash(hash_of_key(dimension, key), visit),
            Key::Block(block) => self.address(block.address, visit),
        }
    }
}

/// Inserts a number into a sorted list, unless the list contains it.
fn insert<T: Ord>(numbers: &mut Vec<T>, number: T) {
    if let Err(at) = numbers.binary_search(&number) {
        numbers.insert(at, number);
    }
}

/// The form of a key. It is part of the hash, because keys of different forms may have the same text.
#[derive(Clone, Copy, Debug)]
enum KeyForm {
    Exact = 1,
    Prefix,
    Suffix,
    Template,
    Port,
    Block,
}

/// The state of the hash function FNV-1a, which hashes byte by byte.
#[derive(Clone, Copy, Debug)]
struct Hash(u64);

impl Hash {
    fn start() -> Self {
        Self(FnvHasher::default().finish())
    }

    fn add(self, byte: u8) -> Self {
        let mut hasher = FnvHasher::with_key(self.0);
        hasher.write_u8(byte);
        Self(hasher.finish())
    }

    fn bytes(bytes: impl IntoIterator<Item = u8>) -> Self {
        bytes.into_iter().fold(Self::start(), Self::add)
    }

    /// The hash of a key of this form. It mixes in the form, and then spreads every bit over all bits, with the
    /// finalizer of `SplitMix64`.
    fn of(self, form: KeyForm) -> u64 {
        let mut hash = self.0.wrapping_add((form as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^= hash >> 31;
        // In unit tests, many keys have the same hash, so that the tests cover collisions.
        if cfg!(test) { hash % 7 } else { hash }
    }
}

fn hash_of_key(dimension: &Dimension, key: &Key<'_>) -> u64 {
    let byte = |byte: &u8| if *dimension == Dimension::Host { byte.to_ascii_lowercase() } else { *byte };
    let text = |bytes: &[u8]| Hash::bytes(bytes.iter().map(byte));
    match key {
        Key::Exact(exact) => text(exact).of(KeyForm::Exact),
        Key::Prefix(prefix) => text(prefix).of(KeyForm::Prefix),
        Key::Suffix(suffix) => Hash::bytes(suffix.iter().rev().map(byte)).of(KeyForm::Suffix),
        Key::Template(template) => text(route(template).as_bytes()).of(KeyForm::Template),
        Key::Port(port) => hash_of_port(*port),
        Key::Block(block) => hash_of_block(block.address, block.prefix),
    }
}

fn hash_of_port(port: u16) -> u64 {
    Hash::bytes(port.to_le_bytes()).of(KeyForm::Port)
}

fn hash_of_block(address: IpAddr, length: u8) -> u64 {
    let hash = match mask(address, length) {
        IpAddr::V4(v4) => Hash::bytes(v4.octets()),
        IpAddr::V6(v6) => Hash::bytes(v6.octets()),
    };
    hash.add(length).of(KeyForm::Block)
}

/// The end of a route that does not contain the whole template. The evaluator checks the rest.
const REST: &str = "{*rest}";

/// Translates a template into a route of `matchit`. A route has at most three operators, because a router handles three
/// without allocating. If the template has more, the third becomes `{*rest}`, and the evaluator checks the rest of the
/// path.
fn route(template: &Template) -> String {
    const MOST: usize = 3;
    let (segments, tail) = template.parts();
    let mut route = String::new();
    for (number, literal) in (1..=MOST).zip(segments) {
        route.push_str(&String::from_utf8_lossy(literal));
        let goes_on = segments.len() > number || matches!(tail, Tail::Any(..));
        if number == MOST && goes_on {
            route.push_str(REST);
            return route;
        }
        let _infallible = write!(route, "{{{number}}}");
    }
    let (Tail::Literal(literal) | Tail::Any(literal, _)) = tail;
    route.push_str(&String::from_utf8_lossy(literal));
    if matches!(tail, Tail::Any(..)) {
        route.push_str(REST);
    }
    route
}

/// The shape of a route: for each segment, whether it is a literal (`l`), an operator (`o`) or the rest (`r`).
fn shape(route: &str) -> String {
    let kind = |segment: &str| match segment {
        REST => 'r',
        _ if segment.starts_with('{') => 'o',
        _ => 'l',
    };
    route.split('/').map(kind).collect()
}

/// A hasher for keys that are hashes already. It returns them unchanged.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = Hash::bytes(bytes.iter().copied()).of(KeyForm::Exact);
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
