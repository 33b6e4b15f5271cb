//! Finds the rules that a request could match, without evaluating the other rules.
//!
//! # Access predicates
//!
//! An *access predicate* of a rule is a set of keys. Every request that matches the rule has at least one of these
//! keys. For example, `paths: ["/a", "/b/*"]` gives the predicate { path is `/a`, path starts with `/b/` }.
//!
//! At load time, the index chooses one access predicate for a rule, and files the rule under every key of it. At
//! request time, the index looks up the values of the request, and evaluates only the rules that it finds under them.
//! Therefore the cost of these rules depends on the request and not on how many of them there are.
//!
//! A rule may have several access predicates: one from its paths, for example, and one from its principals. The index
//! chooses the predicate that the fewest other rules share. Up to 16 rules count as few: among such predicates, the
//! index takes the one that is cheapest to look up. If many rules share even the chosen predicate, the index divides
//! these rules again, by another dimension.
//!
//! Some rules have no access predicate, such as rules of `not` fields only; or more than half of the rules share their
//! best one. Nothing that a request has finds these. If they are more than 16, the values that they exclude are filed
//! in an index of their own: a request that has such a value leaves out the rules that exclude it. The others are
//! evaluated for every request that reaches them.
//!
//! A rule is filed together with the methods that it takes. A request with another method leaves it out, without a look
//! at the rule.
//!
//! # Terms
//!
//! | term | meaning | module |
//! | --- | --- | --- |
//! | dimension | something to look requests up by: the path, the local port, the peer's namespace, … | [`key`] |
//! | key | an exact value of a dimension, or a pattern: a prefix, a suffix, a template, a network | [`key`] |
//! | forms | the forms and lengths of the keys of one dimension: they say which hashes a value has | [`key_forms`] |
//! | posting | what is filed under one key: a rule, a list of rules or, if there are many, another node | [`table`] |
//! | table | the postings of all keys, by hash | [`table`] |
//! | node | the dimensions in use; also the rules that are always evaluated | [`node`] |
//! | exclusions | the values that exclude some of these other rules | [`exclusion`] |
//!
//! `build` makes the tree of nodes at load time. At request time, `walk` goes through it, and `look_up` finds the first
//! rule that matches.
//!
//! # The result does not depend on the index
//!
//! The index only leaves rules out. The evaluator decides whether a rule matches. The result is the same as evaluating
//! every rule in order. In two cases, the index cannot help, and every rule is evaluated in order:
//!
//! - A value by which rules are filed is unreadable.
//! - The request has so many values that the index would evaluate more rules than a scan does, because several values
//!   may lead to the same rule.

mod build;
#[cfg(test)]
mod collisions;
mod exclusion;
mod hash;
mod key;
mod key_forms;
mod look_up;
mod node;
mod table;
mod walk;

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use self::build::Builder;
use self::key_forms::{Inconclusive, Visited};
pub(crate) use self::look_up::FirstMatch;
use self::look_up::Search;
use self::node::Tree;
use self::walk::{Visitor, Walk};
use super::compile::CompiledRule;
use super::evaluate::Evaluation;
use crate::request::Attributes;

/// Rules, and the tree of nodes in which they are filed. The rules are sorted by name, compared as text: `rule[10]`
/// comes before `rule[2]`, as in Envoy's own RBAC filter.
#[derive(Debug, Default)]
pub struct Index {
    rules: Box<[CompiledRule]>,
    /// `None` if none of the rules is filed.
    tree: Option<Box<Tree>>,
}

impl Index {
    /// Sorts the rules and files them.
    #[must_use]
    pub fn new(rules: Vec<CompiledRule>) -> Self {
        Self::in_this_order(Self::plain_scan(rules).rules)
    }

    fn in_this_order(rules: Box<[CompiledRule]>) -> Self {
        Self { tree: Builder::file(&rules).map(Box::new), rules }
    }

    /// Sorts the rules and files none of them, so that every rule is evaluated for every request. An index must give
    /// the same results.
    #[must_use]
    pub(crate) fn plain_scan(rules: Vec<CompiledRule>) -> Self {
        // Policies often come sorted.
        if rules.is_sorted_by(|one, other| one.id().as_str() <= other.id().as_str()) {
            return Self { rules: rules.into(), tree: None };
        }
        // A heap: the larger sorting functions are seven kilobytes of the module.
        let sorted = rules.into_iter().map(ByName).collect::<BinaryHeap<_>>().into_sorted_vec();
        Self { rules: sorted.into_iter().map(|ByName(rule)| rule).collect(), tree: None }
    }

    /// All rules, in order.
    #[must_use]
    pub fn rules(&self) -> &[CompiledRule] {
        &self.rules
    }

    /// Finds the first rule, in order, that matches the request.
    pub(crate) fn first_match<'i: 'r, 'r, A: Attributes>(&'i self, request: &Evaluation<'r, A>) -> FirstMatch<'i> {
        if self.rules.is_empty() { FirstMatch::default() } else { self.first_match_of_some(request) }
    }

    // A decision calls this function in several places. Inlining would put as many copies into the Wasm module.
    #[inline(never)]
    fn first_match_of_some<'i: 'r, 'r, A: Attributes>(&'i self, request: &Evaluation<'r, A>) -> FirstMatch<'i> {
        let mut search = Search::new(&self.rules, request);
        if self.walk(request, &mut search).is_err() {
            search = Search::new(&self.rules, request);
            search.scan();
        }
        search.found()
    }

    /// Visits the rules that are filed under the values of the request, and perhaps others.
    fn walk<'r, A: Attributes>(&'r self, request: &Evaluation<'r, A>, visitor: &mut dyn Visitor) -> Visited {
        let tree = self.tree.as_deref().ok_or(Inconclusive)?;
        Walk { tree, request, visitor, unpaid: 0 }.node(tree.root().ok_or(Inconclusive)?)
    }

    /// The positions of every rule that matches the request, and perhaps of some that do not. No rule is evaluated, and
    /// no rule is left out for what it excludes. This is for [`crate::analysis`], which compares rules.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn candidates<'r, A: Attributes>(&'r self, request: &Evaluation<'r, A>) -> Vec<usize> {
        let mut found = Candidates(Vec::new());
        if self.walk(request, &mut found).is_err() {
            return (0..self.rules.len()).collect();
        }
        found.0.sort_unstable();
        found.0.dedup();
        found.0
    }
}

/// A rule, in the order of its name as text.
struct ByName(CompiledRule);

impl Ord for ByName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.id().as_str().cmp(other.0.id().as_str())
    }
}

impl PartialOrd for ByName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Eq for ByName {}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

/// The positions of the rules that a walk finds.
#[cfg(not(target_arch = "wasm32"))]
struct Candidates(Vec<usize>);

#[cfg(not(target_arch = "wasm32"))]
impl Visitor for Candidates {
    fn leaves_out_excluded(&self) -> bool {
        false
    }

    fn visit(&mut self, word: node::Word) -> Visited {
        self.0.extend(usize::try_from(word.number()));
        Ok(())
    }

    fn spend(&mut self, _: usize) -> Visited {
        Ok(())
    }
}
