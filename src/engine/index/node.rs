//! What the index is made of: values, and the rules that are filed under them.

use super::key::Dimension;
use super::table::Table;

/// A rule's position in the order in which rules are reported.
pub(super) type Number = u32;

/// Rules, filed.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// In the order in which they are looked up: the cheapest first.
    pub filed: Box<[Filed]>,
    /// Rules without a useful access predicate, in order.
    pub always: Box<[Number]>,
}

/// The rules that are found by the values of one dimension.
#[derive(Debug)]
pub(super) struct Filed {
    pub dimension: Dimension,
    /// The first rule among them: none of them can come before it.
    pub first: Number,
    pub table: Table,
    /// What is filed, slot by slot.
    pub postings: Box<[Postings]>,
}

/// What is filed under one value.
#[derive(Debug)]
pub(super) enum Postings {
    /// Rules, in order.
    Rules(Box<[Number]>),
    /// Too many to look at each, filed among themselves.
    Node(Box<Node>),
}
