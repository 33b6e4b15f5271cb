//! A map whose keys are bytes of a request: the claims of a token, or the elements of a list.
//!
//! The sender of the request chooses the keys, and can choose thousands of them with the same hash. So the number of
//! steps for a key is limited, and no map is made of such keys.

use std::hash::Hasher as _;

use fnv::FnvHasher;

use crate::matcher::same;

/// Entries, and a hash table of their numbers.
#[derive(Debug)]
pub(crate) struct ByteMap<'a, V> {
    entries: Vec<(&'a [u8], V)>,
    /// The number of an entry, counted from 1, or 0. The table has four times as many slots as there are entries, or
    /// more. For a few entries there is no table.
    slots: Vec<u32>,
}

/// So many entries are compared one by one as fast as they are found by their hash.
const FEW: usize = 8;

/// How many slots a key is looked for in.
const MOST_SLOTS: usize = 64;

impl<'a, V> ByteMap<'a, V> {
    /// Makes a map. If there are several entries with a key, the last one counts. `None` if too many keys have similar
    /// hashes.
    pub fn new(entries: Vec<(&'a [u8], V)>) -> Option<Self> {
        if entries.len() <= FEW {
            return Some(Self { entries, slots: Vec::new() });
        }
        let mut slots = vec![0; entries.len().checked_mul(4)?.next_power_of_two()];
        for ((key, _), number) in entries.iter().zip(1_u32..) {
            let mut candidates = slots_of(key, slots.len());
            loop {
                let slot = slots.get_mut(candidates.next()?)?;
                if entry(&entries, *slot).is_none_or(|(known, _)| same(known, key)) {
                    *slot = number;
                    break;
                }
            }
        }
        Some(Self { entries, slots })
    }

    /// Every key. Each of many keys is there once.
    pub fn keys(&self) -> Vec<&'a [u8]> {
        let key = |(key, _): &(&'a [u8], V)| *key;
        if self.slots.is_empty() {
            return self.entries.iter().map(key).collect();
        }
        self.slots.iter().filter_map(|number| entry(&self.entries, *number).map(key)).collect()
    }

    /// The value of a key.
    pub fn get(&self, wanted: &[u8]) -> Option<&V> {
        if self.slots.is_empty() {
            return self.entries.iter().rev().find(|(key, _)| same(key, wanted)).map(|(_, value)| value);
        }
        slots_of(wanted, self.slots.len())
            .map_while(|at| entry(&self.entries, *self.slots.get(at)?))
            .find(|(key, _)| same(key, wanted))
            .map(|(_, value)| value)
    }
}

/// The entry with this number. `None` for 0.
fn entry<E>(entries: &[E], number: u32) -> Option<&E> {
    entries.get(usize::try_from(number).ok()?.checked_sub(1)?)
}

/// The slots that a key can be in, one after another. `count` is a power of two.
fn slots_of(key: &[u8], count: usize) -> impl Iterator<Item = usize> {
    let mut hasher = FnvHasher::default();
    hasher.write(key);
    let hash = hasher.finish().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let start = usize::try_from(hash).unwrap_or_default();
    (0..MOST_SLOTS).map(move |further| start.wrapping_add(further) & count.saturating_sub(1))
}
