//! The data structure of the index: a tree of nodes. A lookup goes from the root to the rules, along the values of a
//! request.

use super::key::Dimension;
use super::table::Table;

/// The position of a rule in the sorted rules of the index. Rules are reported in this order.
pub(super) type Number = u32;

/// Rules that are filed by one or more dimensions, and rules that are not filed.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// The filed rules, dimension by dimension. The cheapest dimension comes first and is looked up first.
    pub filed: Box<[Filed]>,
    /// The other rules, in order. They are evaluated for every request that reaches the node.
    pub always: Box<[Number]>,
}

/// The rules that are filed by one dimension.
#[derive(Debug)]
pub(super) struct Filed {
    pub dimension: Dimension,
    /// The lowest number among these rules. If a rule with a lower number has matched, these rules are not looked up.
    pub first: Number,
    pub table: Table,
    /// What is filed under each key of the table, by slot.
    pub postings: Box<[Postings]>,
}

/// What is filed under one key.
#[derive(Debug)]
pub(super) enum Postings {
    /// Rules, in order.
    Rules(Box<[Number]>),
    /// A node that divides the rules again, by another dimension, because they are too many to evaluate each of them.
    Node(Box<Node>),
}
