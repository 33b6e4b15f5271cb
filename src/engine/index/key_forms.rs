//! The forms and lengths of the keys of one dimension. They say which hashes to look up for a value of a request.
//!
//! A lookup tries only the forms and lengths that some key has. These must not depend on hashes. Therefore every key
//! records its own form and length, even if another key already has its hash.
//!
//! # Exact values, prefixes and suffixes
//!
//! A value is hashed byte by byte. One pass from the front finds the prefix keys and the exact key: it looks up the
//! hash at every length that a prefix key has and, if an exact key may be as long as the value, after the last byte.
//! One pass from the back finds the suffix keys in the same way.
//!
//! # Templates
//!
//! `matchit` finds the templates. A template becomes a route, which may leave the end of the template to the evaluator.
//! A router returns only its best route for a path. Two different routes whose operators are in the same segments never
//! match the same path. Therefore each such shape has a router of its own, in which the best route is the only one.

use std::fmt::Write as _;
use std::net::IpAddr;

use matchit::{InsertError, Router};

use super::hash::{self, FiledId, Hash, KeyForm};
use super::key::{Dimension, Key};
use crate::matcher::template::{Tail, Template};

/// The forms and lengths of the keys of one dimension.
#[derive(Debug)]
pub(super) struct KeyForms {
    id: FiledId,
    /// For each length of an exact key, the bit with this number, counted from 0 again after 64.
    exact: u64,
    /// The lengths of all prefix keys or, for addresses, of IPv4 networks in bits. In ascending order.
    prefixes: Vec<u32>,
    /// The lengths of all suffix keys or, for addresses, of IPv6 networks in bits. In ascending order.
    suffixes: Vec<u32>,
    /// Only if there are templates.
    templates: Option<Box<Templates>>,
}

#[derive(Debug, Default)]
struct Templates {
    /// One router for each shape of templates. It holds the hash of each of its templates.
    routers: Vec<(String, Router<u64>)>,
    /// The hashes of templates that a router refused. There should be none. A lookup of any path visits them.
    unrouted: Vec<u64>,
}

/// Receives the hashes of the keys that a value may have, each with the number of bytes that were hashed for it. It may
/// receive a hash more than once.
pub(super) type Visit<'v> = &'v mut dyn FnMut(u64, usize) -> Visited;

/// The index cannot limit the rules to evaluate, because a value is unreadable or the values lead to too many rules.
#[derive(Debug)]
pub(super) struct Inconclusive;

/// The result of a lookup. An error ends the lookup.
pub(super) type Visited = Result<(), Inconclusive>;

impl KeyForms {
    pub(super) fn new(id: FiledId) -> Self {
        Self { id, exact: 0, prefixes: Vec::new(), suffixes: Vec::new(), templates: None }
    }

    /// Adds a key. Returns its hash.
    pub(super) fn add(&mut self, dimension: &Dimension, key: &Key<'_>) -> u64 {
        let hash = hash::of_key(self.id, dimension, key);
        match key {
            Key::Exact(text) => self.exact |= length_bit(text.len()),
            Key::Prefix(text) => insert(&mut self.prefixes, length(text)),
            Key::Suffix(text) => insert(&mut self.suffixes, length(text)),
            Key::Template(template) => self.templates.get_or_insert_default().add(template, hash),
            Key::Port(_) => {}
            Key::Block(block) => {
                let lengths = if block.address.is_ipv4() { &mut self.prefixes } else { &mut self.suffixes };
                insert(lengths, block.prefix.into());
            }
        }
        hash
    }

    /// How many templates the routers refused.
    #[cfg(test)]
    pub(super) fn unrouted(&self) -> usize {
        self.templates.as_ref().map_or(0, |templates| templates.unrouted.len())
    }

    /// Visits the hashes of the keys that match a text.
    pub(super) fn text(&self, text: &[u8], visit: Visit<'_>) -> Visited {
        self.bytes(text.iter().copied(), visit)
    }

    /// Like [`Self::text`], but upper and lower case are equal.
    pub(super) fn text_ignoring_case(&self, text: &[u8], visit: Visit<'_>) -> Visited {
        self.bytes(text.iter().map(u8::to_ascii_lowercase), visit)
    }

    /// Visits the hashes of the keys that match a path: text keys and templates. `as_text` is the path as text, for
    /// templates. matchit needs UTF-8. Only wildcards can match bytes that are not UTF-8, and a wildcard also matches
    /// the replacement character.
    pub(super) fn path<'p>(&self, path: &[u8], as_text: impl FnOnce() -> &'p str, visit: Visit<'_>) -> Visited {
        self.text(path, visit)?;
        match &self.templates {
            Some(templates) => templates.look_up(as_text(), visit),
            None => Ok(()),
        }
    }

    /// How many routers there are for templates. Each of them reads the whole path.
    pub(super) fn routers(&self) -> usize {
        self.templates.as_ref().map_or(0, |templates| templates.routers.len())
    }

    /// Visits the hash of a port.
    pub(super) fn port(&self, port: u16, visit: Visit<'_>) -> Visited {
        visit(hash::of_port(self.id, port), 0)
    }

    /// Visits the hashes of the networks that contain an address.
    pub(super) fn address(&self, address: IpAddr, visit: Visit<'_>) -> Visited {
        let lengths = if address.is_ipv4() { &self.prefixes } else { &self.suffixes };
        let lengths = lengths.iter().filter_map(|length| u8::try_from(*length).ok());
        lengths.into_iter().try_for_each(|length| visit(hash::of_block(self.id, address, length), 0))
    }

    fn bytes(
        &self,
        bytes: impl DoubleEndedIterator<Item = u8> + ExactSizeIterator + Clone,
        visit: Visit<'_>,
    ) -> Visited {
        let (hash, rest) = self.beginnings(bytes.clone(), &self.prefixes, KeyForm::Prefix, visit)?;
        if self.exact & length_bit(bytes.len()) != 0 {
            let further = rest.len();
            visit(rest.fold(hash, Hash::add).of(KeyForm::Exact, self.id), further)?;
        }
        self.beginnings(bytes.rev(), &self.suffixes, KeyForm::Suffix, visit).map(|_| ())
    }

    /// Visits the hashes of the first bytes, for each of these lengths. Returns the hash of the longest beginning that
    /// was visited, and the bytes after it.
    fn beginnings<B: ExactSizeIterator<Item = u8>>(
        &self,
        mut bytes: B,
        lengths: &[u32],
        form: KeyForm,
        visit: Visit<'_>,
    ) -> Result<(Hash, B), Inconclusive> {
        let mut hash = Hash::start();
        let mut hashed = 0;
        for length in lengths {
            let further = usize::try_from(length.saturating_sub(hashed)).unwrap_or(usize::MAX);
            if bytes.len() < further {
                break;
            }
            hash = bytes.by_ref().take(further).fold(hash, Hash::add);
            hashed = *length;
            visit(hash.of(form, self.id), further)?;
        }
        Ok((hash, bytes))
    }

    /// Visits the hash of this key, and the hashes of the keys that a request with this key probably also has. This is
    /// an estimate: it knows only the key, and not the values of a request.
    pub(super) fn together_with(&self, dimension: &Dimension, key: &Key<'_>, visit: Visit<'_>) -> Visited {
        match key {
            Key::Exact(text) | Key::Prefix(text) | Key::Suffix(text) if *dimension == Dimension::Host => {
                self.text_ignoring_case(text, visit)
            }
            Key::Exact(text) | Key::Prefix(text) | Key::Suffix(text) => self.text(text, visit),
            Key::Template(_) | Key::Port(_) => visit(hash::of_key(self.id, dimension, key), 0),
            Key::Block(block) => self.address(block.address, visit),
        }
    }
}

impl Templates {
    fn add(&mut self, template: &Template, hash: u64) {
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
            match router.insert(&route, hash) {
                Ok(()) => {}
                // The same route again: it has the same hash.
                Err(InsertError::Conflict { with }) if with == route => {}
                Err(_) => insert(&mut self.unrouted, hash),
            }
        }
    }

    #[inline(never)]
    fn look_up(&self, path: &str, visit: Visit<'_>) -> Visited {
        for (_, router) in &self.routers {
            if let Ok(route) = router.at(path) {
                visit(*route.value, path.len())?;
            }
        }
        self.unrouted.iter().try_for_each(|hash| visit(*hash, 0))
    }
}

fn length(text: &[u8]) -> u32 {
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}

fn length_bit(length: usize) -> u64 {
    1 << (length % 64)
}

/// Inserts a number into a sorted list, unless the list contains it.
fn insert<T: Ord>(numbers: &mut Vec<T>, number: T) {
    if let Err(at) = numbers.binary_search(&number) {
        numbers.insert(at, number);
    }
}

/// The end of a route that does not contain the whole template. The evaluator checks the rest.
const REST: &str = "{*rest}";

/// Translates a template into a route of `matchit`. A route has at most three operators, because a router handles three
/// without allocating. If the template has more, the third becomes `{*rest}`, and the evaluator checks the rest of the
/// path.
pub(super) fn route(template: &Template) -> String {
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
