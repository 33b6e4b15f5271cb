//! Excludes rules by what they say must not be.
//!
//! Some rules have no access predicate, such as a rule of `notPaths` only. Nothing that a request has finds them; but
//! if a request has a value that such a rule excludes, the rule does not match. So these values are filed in an index
//! of their own, and under each value are the rules that it excludes. What is left is evaluated.
//!
//! Only the evaluator says that a value matches, never a hash: a rule that is excluded wrongly could be a DENY.

use super::Index;
use super::build::{FEW, Slots, content};
use super::hash::FiledId;
use super::key;
use super::key_forms::Visited;
use super::node::{Number, Word};
use super::walk::Visitor;
use crate::engine::compile::{Check, CompiledRule, Expected, Test};
use crate::engine::evaluate::{Evaluation, Truth};
use crate::request::Attributes;

/// The values that exclude rules of a list.
#[derive(Debug)]
pub(super) struct Exclusions {
    /// For each value, a rule that matches if the value does.
    values: Index,
    /// For each value, the positions in the list of the rules that it excludes.
    excluded: Box<[Excluded]>,
}

/// Positions in the list.
#[derive(Debug)]
enum Excluded {
    Few(Box<[u32]>),
    /// A bit for each rule of the list.
    Many(Box<[u64]>),
}

/// How many values the rule excludes.
pub(super) fn values(rule: &CompiledRule) -> usize {
    excluding(rule).map(|test| test.check.values()).sum()
}

/// The tests of `not` values that the rule cannot do without.
fn excluding(rule: &CompiledRule) -> impl Iterator<Item = &Test> {
    rule.required_tests().filter(|test| test.expected == Expected::NoMatch)
}

/// Different values, with the rules that they exclude.
#[derive(Default)]
struct Values {
    all: Vec<Value>,
    /// For each key, the positions of the values that have it, by slot.
    by_key: Vec<Vec<usize>>,
    slots: Slots,
    /// The positions of the values that have no key.
    without_key: Vec<usize>,
    last_id: FiledId,
}

struct Value {
    /// Matches if the value does.
    rule: CompiledRule,
    /// The positions in the list of the rules that it excludes.
    positions: Vec<u32>,
}

impl Values {
    /// Adds a value that excludes the rule at this position. Leaves it out if too many different values are alike.
    fn add(&mut self, rule: &CompiledRule, test: &Test, value: Check, position: u32) {
        const MOST_ALIKE: usize = 16;
        let rule = rule.of_value(test, value);
        let mut key = None;
        key::each_key(&rule, &[], &mut |dimension, found| {
            key = Some(self.slots.slot(&mut self.last_id, dimension, found));
        });
        let alike = match key {
            Some(slot) => content(&mut self.by_key, slot),
            None => Some(&mut self.without_key),
        };
        let Some(alike) = alike else { return };
        let is_same = |at: &&usize| self.all.get(**at).is_some_and(|other| other.rule.has_conditions_of(&rule));
        if let Some(at) = alike.iter().find(is_same).copied() {
            if let Some(Value { positions, .. }) = self.all.get_mut(at)
                && positions.last() != Some(&position)
            {
                positions.push(position);
            }
        } else if alike.len() < MOST_ALIKE {
            alike.push(self.all.len());
            self.all.push(Value { rule, positions: vec![position] });
        }
    }
}

impl Excluded {
    fn new(positions: &[u32], rules: usize) -> Self {
        let words = rules.div_ceil(64);
        // A bit for each rule takes less memory, or hardly more.
        if positions.len() < words {
            return Self::Few(positions.into());
        }
        let mut bits = vec![0; words];
        for position in positions {
            if let Some((word, bit)) = word_and_bit(&mut bits, *position) {
                *word |= bit;
            }
        }
        Self::Many(bits.into())
    }

    fn remove_from(&self, left: &mut [u64]) {
        match self {
            Self::Few(positions) => {
                for position in positions {
                    if let Some((word, bit)) = word_and_bit(left, *position) {
                        *word &= !bit;
                    }
                }
            }
            Self::Many(bits) => left.iter_mut().zip(bits).for_each(|(word, bits)| *word &= !bits),
        }
    }
}

/// The word that has the bit of a position, and the bit.
fn word_and_bit(words: &mut [u64], position: u32) -> Option<(&mut u64, u64)> {
    let word = words.get_mut(usize::try_from(position / u64::BITS).ok()?)?;
    Some((word, 1 << (position % u64::BITS)))
}

impl Exclusions {
    /// Files the values that exclude these rules. `None` if there are none.
    pub(super) fn new(rules: &[CompiledRule], numbers: &[Number]) -> Option<Self> {
        let mut found = Values::default();
        for (position, number) in (0..).zip(numbers) {
            let rule = rules.get(usize::try_from(*number).ok()?)?;
            for test in excluding(rule) {
                for value in test.check.single_values() {
                    found.add(rule, test, value, position);
                }
            }
        }
        // A value that excludes a few rules saves less than it costs, also in memory.
        found.all.retain(|value| value.positions.len() > FEW);
        if found.all.is_empty() {
            return None;
        }
        let (values, excluded): (Vec<_>, Vec<_>) =
            found.all.into_iter().map(|value| (value.rule, Excluded::new(&value.positions, numbers.len()))).unzip();
        Some(Self { values: Index::in_this_order(values.into()), excluded: excluded.into() })
    }

    /// The rules of a list that are left for a request: a bit for each of them, and of further ones. `for_whom`: who
    /// pays for the visits.
    pub(super) fn left<'r, A: Attributes>(
        &'r self,
        rules: usize,
        request: &Evaluation<'r, A>,
        for_whom: &mut dyn Visitor,
    ) -> Vec<u64> {
        let left = vec![u64::MAX; rules.div_ceil(64)];
        let mut search = Search { exclusions: self, request, left, for_whom };
        // What is not found excludes nothing.
        let _may_be_inconclusive = self.values.walk(request, &mut search);
        search.left
    }
}

/// A search for all values that match.
struct Search<'r, 's, A> {
    exclusions: &'r Exclusions,
    request: &'s Evaluation<'r, A>,
    left: Vec<u64>,
    for_whom: &'s mut dyn Visitor,
}

impl<A: Attributes> Visitor for Search<'_, '_, A> {
    fn visit(&mut self, word: Word) -> Visited {
        self.spend(1)?;
        let number = usize::try_from(word.number()).unwrap_or(usize::MAX);
        if let Some(value) = self.exclusions.values.rules().get(number)
            && self.request.rule(value) == Truth::Yes
            && let Some(excluded) = self.exclusions.excluded.get(number)
        {
            excluded.remove_from(&mut self.left);
        }
        Ok(())
    }

    fn spend(&mut self, visits: usize) -> Visited {
        self.for_whom.spend(visits)
    }
}
