//! The data structure of the index: a tree of nodes. A lookup goes from the root to the rules, along the values of a
//! request.
//!
//! A decision is made rarely enough that its data is no longer in the cache of the processor. Therefore the parts are
//! in few, contiguous pieces of memory, and refer to each other by position.

use std::ops::Range;

use super::exclusion::Exclusions;
use super::key::Dimension;
use super::key_forms::KeyForms;
use super::table::Table;
use crate::engine::method::Methods;

/// The position of a rule in the sorted rules of the index. Rules are reported in this order.
pub(super) type Number = u32;

/// A rule as it is filed: its number, and the methods that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(pub u32);

impl Word {
    const BITS_OF_NUMBER: u32 = 24;
    /// An index holds at most so many rules.
    pub(super) const MOST: usize = 1 << Self::BITS_OF_NUMBER;

    pub(super) fn new(number: Number, methods: Methods) -> Self {
        Self(number | (u32::from(methods.0) << Self::BITS_OF_NUMBER))
    }

    pub(super) fn number(self) -> Number {
        self.0 & ((1 << Self::BITS_OF_NUMBER) - 1)
    }

    pub(super) fn methods(self) -> Methods {
        let [methods, ..] = self.0.to_be_bytes();
        Methods(methods)
    }
}

/// The position of a list among all lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ListAt(pub u32);

/// The position of a node among all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeAt(pub u32);

/// All nodes of an index, and what they refer to.
#[derive(Debug)]
pub(super) struct Tree {
    /// The last of them is the root.
    pub nodes: Box<[Node]>,
    pub filed: Box<[Filed]>,
    pub lists: Lists,
    pub table: Table,
}

impl Tree {
    pub(super) fn root(&self) -> Option<&Node> {
        self.nodes.last()
    }

    pub(super) fn node(&self, NodeAt(at): NodeAt) -> Option<&Node> {
        self.nodes.get(usize::try_from(at).ok()?)
    }

    pub(super) fn filed(&self, node: &Node) -> &[Filed] {
        self.filed.get(node.filed.clone()).unwrap_or_default()
    }
}

/// Lists of rules, one behind another. Before each is its length.
#[derive(Debug, Default)]
pub(super) struct Lists(Vec<Word>);

impl Lists {
    pub(super) fn add(&mut self, words: &[Word]) -> ListAt {
        let at = ListAt(u32::try_from(self.0.len()).unwrap_or(u32::MAX));
        self.0.push(Word(u32::try_from(words.len()).unwrap_or(u32::MAX)));
        self.0.extend(words);
        at
    }

    /// The length of all lists together.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get(&self, ListAt(at): ListAt) -> &[Word] {
        let list = usize::try_from(at).ok().and_then(|at| self.0.get(at..)?.split_first());
        list.and_then(|(Word(length), rest)| rest.get(..usize::try_from(*length).ok()?)).unwrap_or_default()
    }
}

/// Rules that are filed by one or more dimensions, and rules that are not filed.
#[derive(Debug)]
pub(super) struct Node {
    /// The filed rules, dimension by dimension. The cheapest dimension comes first and is looked up first.
    pub filed: Range<usize>,
    /// How many nodes are above this one. A lookup goes on only to nodes one level below, so that it ends whatever it
    /// finds under a wrong hash.
    pub depth: u32,
    /// The other rules, in order. They are evaluated for every request that reaches the node.
    pub always: ListAt,
    /// The values that exclude some of these other rules, if there are many.
    pub exclusions: Option<Box<Exclusions>>,
}

/// The rules that are filed by one dimension.
#[derive(Debug)]
pub(super) struct Filed {
    pub dimension: Dimension,
    /// The lowest number among these rules. If a rule with a lower number has matched, these rules are not looked up.
    pub first: Number,
    pub forms: KeyForms,
}
