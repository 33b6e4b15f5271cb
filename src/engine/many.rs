//! What is remembered about a request, so that its bytes are not read again for every rule.
//!
//! - An attribute can have many values: the lines of a header, the elements of a list in a token. A rule that says what
//!   must not be is compared with all of them. So a whole value is looked up, and for a beginning or an end, the values
//!   are sorted: then only one of them can match.
//! - A value can be as long as all headers may be. Whether it is text is found out once.
//!
//! An ordinary request has few values, and an index that leaves few rules to compare them with. For such a request
//! nothing is remembered, and no memory is allocated.

use std::cell::{Cell, OnceCell, RefCell};
use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::matcher::{Pattern, Polarity, Wildcard};
use crate::request::byte_map::ByteMap;
use crate::request::{HeaderValues, forms, metadata};

/// The attributes that rules have looked at.
#[derive(Debug, Default)]
pub(super) struct SortedValues<'r> {
    /// The bytes that rules have looked through.
    looked_through: Cell<usize>,
    /// By name, and by what a match means.
    headers: Remembered<'r, (&'r [u8], Polarity)>,
    /// By address.
    lists: Remembered<'r, usize>,
}

/// In order of the keys. Boxed, because a new entry moves those behind it, and there can be thousands.
type Remembered<'r, K> = RefCell<Vec<(K, Box<Values<'r>>)>>;

/// From so many bytes on, it is worth remembering what was seen. A look through a few values counts as
/// [`BYTES_OF_A_LOOK`].
const FEW_BYTES: usize = 16 * BYTES_OF_A_LOOK;
const BYTES_OF_A_LOOK: usize = 256;

/// The values of one attribute.
#[derive(Debug, Default)]
struct Values<'r> {
    /// They are few and short, or malformed: it is not worth sorting them.
    is_plain: bool,
    /// One of the values counts as matching whatever a policy asks for.
    matches_all: bool,
    all: Vec<&'r [u8]>,
    /// The same values, to look one up. Made when a whole value is first looked for. `None` if they make no map.
    map: OnceCell<Option<ByteMap<'r, ()>>>,
    /// The same values. Sorted when a prefix is first looked for.
    by_start: OnceCell<Vec<Ordered<'r>>>,
    /// The same values. Sorted when a suffix is first looked for.
    by_end: OnceCell<Vec<Ordered<'r>>>,
    /// Whether a value is text, and not empty. Found out when somebody asks.
    has_text: OnceCell<bool>,
}

/// The long values that a wildcard for text was compared with, by address and length, and whether it accepts them.
#[derive(Debug, Default)]
pub(super) struct LongTexts(RefCell<Vec<((usize, usize), bool)>>);

impl LongTexts {
    /// Like [`Pattern::matches`], but a long value is read only once.
    pub fn matches(&self, pattern: &Pattern, value: &[u8]) -> bool {
        const LONG: usize = 64;
        let (Pattern::NonEmpty(Wildcard::Text), LONG..) = (pattern, value.len()) else { return pattern.matches(value) };
        let key = (value.as_ptr().addr(), value.len());
        let mut known = self.0.borrow_mut();
        match known.binary_search_by_key(&key, |(key, _)| *key) {
            Ok(position) => known.get(position).is_some_and(|(_, is_text)| *is_text),
            Err(position) => {
                let is_text = pattern.matches(value);
                known.insert(position, (key, is_text));
                is_text
            }
        }
    }
}

impl<'r> SortedValues<'r> {
    /// Whether one of the patterns matches one of the values of a header that is no pseudo-header. `None` if it is not
    /// worth remembering the values.
    pub fn header(
        &self,
        name: &'r [u8],
        values: &HeaderValues<'r>,
        polarity: Polarity,
        patterns: &[Pattern],
    ) -> Option<bool> {
        let collect = || {
            let mut found = Vec::new();
            let mut matches_all = false;
            for value in values.clone() {
                found.push(value);
                if polarity == Polarity::Denies {
                    match forms::without_white_space(value) {
                        Some(trimmed) if trimmed.len() < value.len() => found.push(trimmed),
                        Some(_) => {}
                        None => matches_all = true,
                    }
                }
            }
            Values::new(found, matches_all, values.bytes_to_look_through())
        };
        self.remembered(&self.headers, (name, polarity), values.bytes_to_look_through(), collect, patterns.iter())
    }

    /// Whether one of the patterns matches a string in the list. `None` if it is not worth remembering the strings, or
    /// if the list is malformed.
    pub fn list<'p>(&self, list: metadata::List<'r>, patterns: impl Iterator<Item = &'p Pattern>) -> Option<bool> {
        let collect = || {
            let mut found = Vec::new();
            let end = list.any_string(|text| {
                found.push(text);
                false
            });
            match end.known() {
                Some(_) => Values::new(found, false, list.bytes().len()),
                None => Values { is_plain: true, ..Values::default() },
            }
        };
        self.remembered(&self.lists, list.bytes().as_ptr().addr(), list.bytes().len(), collect, patterns)
    }

    fn remembered<'p, K: Ord>(
        &self,
        known: &Remembered<'r, K>,
        key: K,
        bytes: usize,
        collect: impl FnOnce() -> Values<'r>,
        mut patterns: impl Iterator<Item = &'p Pattern>,
    ) -> Option<bool> {
        let looked_through = self.looked_through.get().saturating_add(bytes.max(BYTES_OF_A_LOOK));
        if looked_through <= FEW_BYTES {
            self.looked_through.set(looked_through);
            return None;
        }
        let mut known = known.borrow_mut();
        let position = known.binary_search_by(|(other, _)| other.cmp(&key)).unwrap_or_else(|position| {
            known.insert(position, (key, Box::new(collect())));
            position
        });
        let (_, values) = known.get(position)?;
        let is_match = || values.matches_all || patterns.any(|pattern| values.has_match(pattern));
        (!values.is_plain).then(is_match)
    }
}

impl<'r> Values<'r> {
    /// `found_in`: the bytes that are read to find the values.
    fn new(values: Vec<&'r [u8]>, matches_all: bool, found_in: usize) -> Self {
        // So many values, of so many bytes altogether, are compared as fast as they are looked up.
        const FEW: usize = 4;
        const SHORT: usize = 256;
        const FOUND_AT_ONCE: usize = 128;
        let bytes: usize = values.iter().map(|value| value.len()).sum();
        let is_plain = !matches_all && (1..=FEW).contains(&values.len()) && bytes <= SHORT;
        if is_plain && found_in <= FOUND_AT_ONCE {
            return Self { is_plain: true, ..Self::default() };
        }
        Self { matches_all, all: values, ..Self::default() }
    }

    #[inline(never)]
    fn map(&self) -> Option<&ByteMap<'r, ()>> {
        let new = || ByteMap::new(self.all.iter().map(|value| (*value, ())).collect());
        self.map.get_or_init(new).as_ref()
    }

    fn has_match(&self, pattern: &Pattern) -> bool {
        let (text, side, sorted) = match pattern {
            Pattern::Present => return !self.all.is_empty(),
            Pattern::NonEmpty(Wildcard::Bytes) => return self.all.iter().any(|value| !value.is_empty()),
            Pattern::NonEmpty(Wildcard::Text) => {
                return *self.has_text.get_or_init(|| self.all.iter().any(|value| pattern.matches(value)));
            }
            Pattern::Exact(text) => {
                if let Some(map) = self.map() {
                    return map.get(text).is_some();
                }
                (text, Side::Start, &self.by_start)
            }
            Pattern::Prefix(text) => (text, Side::Start, &self.by_start),
            Pattern::Suffix(text) => (text, Side::End, &self.by_end),
        };
        let sorted = sorted.get_or_init(|| match self.map() {
            // Each value once: they can be thousands, and few different ones.
            Some(map) => in_order(&map.keys(), side),
            None => in_order(&self.all, side),
        });
        let wanted = Ordered::new(text, side);
        let least = sorted.partition_point(|ordered| *ordered < wanted);
        sorted.get(least).is_some_and(|ordered| pattern.matches(ordered.value))
    }
}

/// The side from which texts are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Start,
    End,
}

/// A value, ordered as its side says.
#[derive(Debug)]
struct Ordered<'r> {
    /// Its outermost bytes. In most comparisons, they are enough.
    head: u64,
    value: &'r [u8],
    side: Side,
}

impl<'r> Ordered<'r> {
    fn new(value: &'r [u8], side: Side) -> Self {
        let mut head = [0; 8];
        match side {
            Side::Start => head.iter_mut().zip(value).for_each(|(to, from)| *to = *from),
            Side::End => head.iter_mut().zip(value.iter().rev()).for_each(|(to, from)| *to = *from),
        }
        Self { head: u64::from_be_bytes(head), value, side }
    }
}

impl Ord for Ordered<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.head.cmp(&other.head).then_with(|| compare(self.value, other.value, self.side))
    }
}

impl PartialOrd for Ordered<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Eq for Ordered<'_> {}

impl PartialEq for Ordered<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

/// The values in order. A heap: the module has no other use for one of the larger sorting functions.
fn in_order<'r>(values: &[&'r [u8]], side: Side) -> Vec<Ordered<'r>> {
    values.iter().map(|value| Ordered::new(value, side)).collect::<BinaryHeap<_>>().into_sorted_vec()
}

/// Compares from one side, eight bytes at a time. In WebAssembly, the standard library compares bytes one by one.
fn compare(one: &[u8], other: &[u8], side: Side) -> Ordering {
    let common = one.len().min(other.len());
    let start = |text: &'_ [u8]| text.len().saturating_sub(common);
    let in_common = match side {
        Side::Start => {
            let (ones, rest) = one.get(..common).unwrap_or_default().as_chunks::<8>();
            let (others, other_rest) = other.get(..common).unwrap_or_default().as_chunks::<8>();
            let differing = ones.iter().zip(others).find(|(one, other)| one != other);
            differing.map_or_else(
                || rest.cmp(other_rest),
                |(one, other)| u64::from_be_bytes(*one).cmp(&u64::from_be_bytes(*other)),
            )
        }
        Side::End => {
            let (rest, ones) = one.get(start(one)..).unwrap_or_default().as_rchunks::<8>();
            let (other_rest, others) = other.get(start(other)..).unwrap_or_default().as_rchunks::<8>();
            let differing = ones.iter().rev().zip(others.iter().rev()).find(|(one, other)| one != other);
            differing.map_or_else(
                || rest.iter().rev().cmp(other_rest.iter().rev()),
                |(one, other)| u64::from_le_bytes(*one).cmp(&u64::from_le_bytes(*other)),
            )
        }
    };
    in_common.then(one.len().cmp(&other.len()))
}
