//! Values that rules are filed under, visit again by the values of a request.
//!
//! A key is filed by a 64-bit hash of its text and its form. Nothing compares the text itself: two keys of one hash, which
//! whoever writes policies can make, share what is filed under them, and what is visit for nothing is one more rule for the
//! evaluator to refuse. What must not depend on hashes is what a value is looked up by: every key leaves its form and length
//! behind, whatever else has its hash. A value is hashed byte by byte, so that one pass from the front finds its exact key
//! and all of its prefixes, for the lengths that prefixes have; one from the back finds its suffixes.
//!
//! Templates are visit by `matchit`, which knows the best route for a path and no other. Templates whose operators stand
//! in the same segments can only match the same path if they are the same; so each such shape has a router of its own,
//! in which the best route is the only one.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;

use fnv::FnvHasher;
use matchit::{InsertError, Router};

use super::key::{Dimension, Key};
use crate::matcher::template::{Tail, Template};
use crate::policy::value::mask;

/// The keys under which something is filed, all of one dimension. Each has a slot: a number, counted from 0.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: HashMap<u64, Slot, BuildHasherDefault<AsItIs>>,
    /// Whether there are keys for whole texts.
    exact: bool,
    /// The lengths that prefixes have, in order.
    prefixes: Vec<usize>,
    /// The lengths that suffixes have, in order.
    suffixes: Vec<usize>,
    /// The lengths that networks have, in order, for each family.
    blocks: [Vec<u8>; 2],
    /// The routes of templates, shape by shape.
    routers: Vec<(String, Router<Slot>)>,
    /// Templates that a router has refused. There should be none.
    unrouted: Vec<Slot>,
}

/// The number of a key.
pub(super) type Slot = usize;

/// Receives what is visit, some of it perhaps twice.
pub(super) type Visit<'v> = &'v mut dyn FnMut(Slot) -> LookUp;

/// The index cannot tell which rules to look at: something could not be read, or led to too many of them.
#[derive(Debug)]
pub(super) struct Inconclusive;

/// What comes of looking something up.
pub(super) type LookUp = Result<(), Inconclusive>;

impl Table {
    /// The slot of a key, which is filed if it is not yet.
    pub(super) fn slot(&mut self, dimension: &Dimension, key: &Key<'_>) -> Slot {
        let next = self.slots.len();
        let slot = *self.slots.entry(hash_of_key(dimension, key)).or_insert(next);
        match key {
            Key::Exact(_) => self.exact = true,
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
        // A `{**}` may stand for nothing, matchit's may not.
        let without_rest = route.strip_suffix(REST).map(str::to_owned);
        for route in std::iter::once(route).chain(without_rest) {
            let Some((_, router)) = self.routers.get_mut(at) else { continue };
            match router.insert(&route, slot) {
                Ok(()) => {}
                // The same template once more; it has the same slot.
                Err(InsertError::Conflict { with }) if with == route => {}
                Err(_) => insert(&mut self.unrouted, slot),
            }
        }
    }

    /// How many templates the routers have refused.
    #[cfg(test)]
    pub(super) fn unrouted(&self) -> usize {
        self.unrouted.len()
    }

    /// Hands out what is filed under a text.
    pub(super) fn text(&self, text: &[u8], visit: Visit<'_>) -> LookUp {
        self.bytes(text.iter().copied(), visit)
    }

    /// The same, with letters of either case alike.
    pub(super) fn text_ignoring_case(&self, text: &[u8], visit: Visit<'_>) -> LookUp {
        self.bytes(text.iter().map(u8::to_ascii_lowercase), visit)
    }

    /// Hands out what is filed under a path, as text or as a template.
    pub(super) fn path(&self, path: &[u8], visit: Visit<'_>) -> LookUp {
        self.text(path, visit)?;
        if !self.routers.is_empty() {
            // Only wildcards take what is not UTF-8, and they take what stands in its place as well.
            let path = str::from_utf8(path).map_or_else(|_| String::from_utf8_lossy(path), Cow::Borrowed);
            for (_, router) in &self.routers {
                if let Ok(route) = router.at(&path) {
                    visit(*route.value)?;
                }
            }
        }
        self.unrouted.iter().try_for_each(|slot| visit(*slot))
    }

    /// Hands out what is filed under a port.
    pub(super) fn port(&self, port: u16, visit: Visit<'_>) -> LookUp {
        self.hash(hash_of_port(port), visit)
    }

    /// Hands out what is filed under the networks that an address lies in.
    pub(super) fn address(&self, address: IpAddr, visit: Visit<'_>) -> LookUp {
        let [v4, v6] = &self.blocks;
        let lengths = if address.is_ipv4() { v4 } else { v6 };
        lengths.iter().try_for_each(|length| self.hash(hash_of_block(address, *length), visit))
    }

    fn hash(&self, hash: u64, visit: Visit<'_>) -> LookUp {
        self.slots.get(&hash).map_or(Ok(()), |slot| visit(*slot))
    }

    fn bytes(
        &self,
        bytes: impl DoubleEndedIterator<Item = u8> + ExactSizeIterator + Clone,
        visit: Visit<'_>,
    ) -> LookUp {
        let (hash, rest) = self.beginnings(bytes.clone(), &self.prefixes, KeyForm::Prefix, visit)?;
        if self.exact {
            let hash = rest.fold(hash, Hash::add);
            self.hash(hash.of(KeyForm::Exact), visit)?;
        }
        self.beginnings(bytes.rev(), &self.suffixes, KeyForm::Suffix, visit).map(|_| ())
    }

    /// Hands out what is filed under the beginnings of these lengths. Returns the hash of the longest, and the bytes behind
    /// it.
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

    /// The slots of all keys that a request finds together with this one, as far as that can be told from the key.
    pub(super) fn together_with(&self, dimension: &Dimension, key: &Key<'_>, visit: Visit<'_>) -> LookUp {
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

/// Keeps a list in order, each number once.
fn insert<T: Ord>(numbers: &mut Vec<T>, number: T) {
    if let Err(at) = numbers.binary_search(&number) {
        numbers.insert(at, number);
    }
}

/// Why the same text is filed.
#[derive(Clone, Copy, Debug)]
enum KeyForm {
    Exact = 1,
    Prefix,
    Suffix,
    Template,
    Port,
    Block,
}

/// The state of FNV-1a, which hashes byte by byte.
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

    /// The hash of a key: its form in it, and every bit spread over all of them (the finalizer of `SplitMix64`).
    fn of(self, form: KeyForm) -> u64 {
        let mut hash = self.0.wrapping_add((form as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^= hash >> 31;
        // In the unit tests, keys share their hashes all the time.
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

/// What ends the route of a template with `{**}`. What follows the operator is left to the evaluator.
const REST: &str = "{*rest}";

/// A template as `matchit` writes it, as far as it has as many operators as a router holds without allocating.
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

/// Where a route has its operators.
fn shape(route: &str) -> String {
    let kind = |segment: &str| match segment {
        REST => 'r',
        _ if segment.starts_with('{') => 'o',
        _ => 'l',
    };
    route.split('/').map(kind).collect()
}

/// Keys are hashes already.
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
