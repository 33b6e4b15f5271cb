//! What is remembered about a request, so that its bytes are not read again for every rule.
//!
//! - An attribute can have many values: the lines of a header, the elements of a list in a token. A rule that says what must not
//!   be is compared with all of them. So the values are sorted, and a pattern is compared with the only one that can match.
//! - A value can be as long as all headers may be. Whether it is text is found out once.

use std::cell::{OnceCell, RefCell};
use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::matcher::{Pattern, Polarity, Wildcard};
use crate::request::{HeaderValues, forms, metadata};

/// The attributes with many values that rules have looked at, by the address of the first value and by what a match means.
#[derive(Debug, Default)]
pub(super) struct SortedValues<'r>(RefCell<Vec<(Key, Looks, Option<Values<'r>>)>>);

type Key = (usize, Polarity);

/// How often rules have looked at an attribute.
type Looks = u32;

/// Values are sorted when they are looked at more often. Sorting them takes as long as a few looks.
const FEW_LOOKS: Looks = 4;

/// The values of one attribute.
#[derive(Debug, Default)]
struct Values<'r> {
    /// One of the values counts as matching whatever a policy asks for.
    matches_all: bool,
    by_start: Vec<Ordered<'r>>,
    /// The same values. Sorted when a suffix is first looked for.
    by_end: OnceCell<Vec<Ordered<'r>>>,
    /// Whether a value is text, and not empty. Found out when somebody asks.
    has_text: OnceCell<bool>,
}

/// The long values that a wildcard for text was compared with, by address, and whether it accepts them.
#[derive(Debug, Default)]
pub(super) struct LongTexts(RefCell<Vec<(usize, bool)>>);

impl LongTexts {
    /// Like [`Pattern::matches`], but a long value is read only once.
    pub fn matches(&self, pattern: &Pattern, value: &[u8]) -> bool {
        const LONG: usize = 512;
        let (Pattern::NonEmpty(Wildcard::Text), LONG..) = (pattern, value.len()) else { return pattern.matches(value) };
        let address = value.as_ptr().addr();
        let mut known = self.0.borrow_mut();
        if let Some((_, is_text)) = known.iter().find(|(other, _)| *other == address) {
            return *is_text;
        }
        let is_text = pattern.matches(value);
        known.push((address, is_text));
        is_text
    }
}

impl<'r> SortedValues<'r> {
    /// Whether one of the patterns matches one of the values of a header. `None` if it is not worth sorting them.
    pub fn header(
        &self,
        name: &[u8],
        values: &HeaderValues<'r>,
        polarity: Polarity,
        patterns: &[Pattern],
    ) -> Option<bool> {
        let Some(first) = values.clone().next() else { return Some(false) };
        self.any(first, polarity, patterns.iter(), || {
            let mut found = Vec::new();
            let mut matches_all = false;
            for value in values.clone() {
                found.push(value);
                if polarity == Polarity::Denies && !name.starts_with(b":") {
                    match forms::without_white_space(value) {
                        Some(trimmed) if trimmed.len() < value.len() => found.push(trimmed),
                        Some(_) => {}
                        None => matches_all = true,
                    }
                }
            }
            Some(Values::new(found, matches_all))
        })
    }

    /// Whether one of the patterns matches a string in the list. `None` if it is not worth sorting them, or if the list is
    /// malformed.
    pub fn list<'p>(&self, list: metadata::List<'r>, patterns: impl Iterator<Item = &'p Pattern>) -> Option<bool> {
        self.any(list.bytes(), Polarity::Permits, patterns, || {
            let mut found = Vec::new();
            let end = list.any_string(|text| {
                found.push(text);
                false
            });
            end.known().map(|_| Values::new(found, false))
        })
    }

    fn any<'p>(
        &self,
        key: &[u8],
        polarity: Polarity,
        mut patterns: impl Iterator<Item = &'p Pattern>,
        collect: impl FnOnce() -> Option<Values<'r>>,
    ) -> Option<bool> {
        let key = (key.as_ptr().addr(), polarity);
        let mut known = self.0.borrow_mut();
        if !known.iter().any(|(other, ..)| *other == key) {
            known.push((key, 0, None));
        }
        let (_, looks, values) = known.iter_mut().find(|(other, ..)| *other == key)?;
        *looks = looks.saturating_add(1);
        if *looks <= FEW_LOOKS {
            return None;
        }
        if values.is_none() {
            *values = collect();
        }
        let values = values.as_ref()?;
        Some(values.matches_all || patterns.any(|pattern| values.has_match(pattern)))
    }
}

impl<'r> Values<'r> {
    fn new(values: Vec<&'r [u8]>, matches_all: bool) -> Self {
        Self { matches_all, by_start: sorted(values.into_iter(), Side::Start), ..Self::default() }
    }

    fn has_match(&self, pattern: &Pattern) -> bool {
        let mut values = self.by_start.iter().map(|ordered| ordered.value);
        let (text, side, sorted) = match pattern {
            Pattern::Present => return values.next().is_some(),
            Pattern::NonEmpty(Wildcard::Bytes) => return values.any(|value| !value.is_empty()),
            Pattern::NonEmpty(Wildcard::Text) => {
                return *self.has_text.get_or_init(|| values.any(|value| pattern.matches(value)));
            }
            Pattern::Exact(text) | Pattern::Prefix(text) => (text, Side::Start, &self.by_start),
            Pattern::Suffix(text) => (text, Side::End, self.by_end.get_or_init(|| sorted(values, Side::End))),
        };
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
        let head = match side {
            Side::Start => metadata::head(value.iter()),
            Side::End => metadata::head(value.iter().rev()),
        };
        Self { head, value, side }
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
fn sorted<'r>(values: impl Iterator<Item = &'r [u8]>, side: Side) -> Vec<Ordered<'r>> {
    values.map(|value| Ordered::new(value, side)).collect::<BinaryHeap<_>>().into_sorted_vec()
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
