//! The table: what is filed under each hash, of all nodes and dimensions.
//!
//! There is one table for an index. It is open-addressed, so that a lookup usually reads a single cache line. An entry
//! holds a part of the hash only. A lookup therefore may find what is filed under another hash. See [`super::hash`] for
//! why this is harmless.

use super::node::{ListAt, NodeAt, Word};

/// Hashes, and what is filed under each.
#[derive(Debug)]
pub(super) struct Table {
    /// At most half of the entries are in use. Their number is a power of two, or zero.
    entries: Box<[Entry]>,
}

/// What is filed under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Posting {
    /// A single rule.
    Rule(Word),
    /// Rules, in order.
    List(ListAt),
    /// A node that divides the rules again, by another dimension, because they are too many to evaluate each of them.
    Node(NodeAt),
}

/// From the highest bit: 30 bits of the hash, two for the kind of posting, 32 for the posting. Zero if it is not in
/// use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Entry(u64);

const RULE: u64 = 1 << 32;
const LIST: u64 = 2 << 32;
const NODE: u64 = 3 << 32;
const HASH: u64 = !0 << 34;

impl Entry {
    fn new(hash: u64, posting: Posting) -> Self {
        Self(
            (hash & HASH)
                | match posting {
                    Posting::Rule(Word(word)) => RULE | u64::from(word),
                    Posting::List(ListAt(at)) => LIST | u64::from(at),
                    Posting::Node(NodeAt(at)) => NODE | u64::from(at),
                },
        )
    }

    fn posting(self) -> Posting {
        #[expect(clippy::cast_possible_truncation, reason = "the posting is in the lower half")]
        let value = self.0 as u32;
        match self.0 & NODE {
            RULE => Posting::Rule(Word(value)),
            LIST => Posting::List(ListAt(value)),
            _ => Posting::Node(NodeAt(value)),
        }
    }
}

/// An entry is at most so far from its first place. Entries of a single hash need less room than that: they are one for
/// each dimension with keys of this hash.
const FARTHEST: usize = 1_024;

/// How often the table is made twice as large to keep entries near their first places.
const DOUBLINGS: u32 = 4;

impl Table {
    /// Makes a table. `None` if somebody has constructed keys whose hashes are so alike that it would be slow.
    pub(super) fn new(postings: &[(u64, Posting)]) -> Option<Self> {
        let least = if postings.is_empty() { 0 } else { postings.len().checked_mul(2)?.checked_next_power_of_two()? };
        (0..=DOUBLINGS).find_map(|doublings| Self::of_size(least.checked_mul(1 << doublings)?, postings))
    }

    fn of_size(size: usize, postings: &[(u64, Posting)]) -> Option<Self> {
        let mut entries = vec![Entry::default(); size];
        for (hash, posting) in postings {
            let mut near = places(*hash, size).take(FARTHEST);
            let free = near.find(|at| entries.get(*at) == Some(&Entry::default()))?;
            *entries.get_mut(free)? = Entry::new(*hash, *posting);
        }
        Some(Self { entries: entries.into() })
    }

    /// The postings under a hash, and perhaps others. `Err` stands for so many entries of other hashes that they count
    /// as a visit of their own ([`ENTRIES_OF_A_VISIT`]).
    pub(super) fn postings(&self, hash: u64) -> impl Iterator<Item = Result<Posting, ()>> {
        let near = places(hash, self.entries.len()).take(FARTHEST);
        let in_use = near.map_while(|at| self.entries.get(at).filter(|entry| entry.0 != 0));
        in_use.enumerate().filter_map(move |(number, entry)| {
            if (entry.0 ^ hash) & HASH == 0 {
                Some(Ok(entry.posting()))
            } else if number % ENTRIES_OF_A_VISIT == ENTRIES_OF_A_VISIT - 1 {
                Some(Err(()))
            } else {
                None
            }
        })
    }
}

/// To read so many entries takes as long as to evaluate a rule. Nobody needs to read so many, unless somebody has
/// constructed keys with similar hashes.
const ENTRIES_OF_A_VISIT: usize = 64;

/// Where an entry with this hash can be, one place after another.
fn places(hash: u64, size: usize) -> impl Iterator<Item = usize> {
    let mask = size.wrapping_sub(1);
    #[expect(clippy::cast_possible_truncation, reason = "only the lowest bits count")]
    let start = hash as usize;
    (0..size).map(move |further| start.wrapping_add(further) & mask)
}
