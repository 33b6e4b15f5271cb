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
//! Some rules are evaluated for every request that reaches them: rules without an access predicate, such as rules of
//! `not` fields only; rules whose best predicate more than half of the rules share; and the rules of a group of up to
//! 16.
//!
//! # Terms
//!
//! | term | meaning | module |
//! | --- | --- | --- |
//! | dimension | something to look requests up by: the path, the local port, the peer's namespace, … | [`key`] |
//! | key | an exact value of a dimension, or a pattern: a prefix, a suffix, a template, a network | [`key`] |
//! | table | the keys of one dimension, each with a number: its slot | [`table`] |
//! | postings | what is filed under one key: rules or, if there are many rules, another node | [`node`] |
//! | node | for each dimension in use, a table and its postings; also the rules that are always evaluated | [`node`] |
//!
//! `build` makes the nodes at load time; `look_up` searches them at request time.
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
mod key;
mod look_up;
mod node;
mod table;

use self::build::Builder;
pub(crate) use self::look_up::FirstMatch;
use self::look_up::Search;
use self::node::Node;
use super::compile::CompiledRule;
use super::evaluate::Evaluation;
use crate::request::Attributes;

/// Rules, and the tree of nodes in which they are filed. The rules are sorted by name, compared as text: `rule[10]`
/// comes before `rule[2]`, as in Envoy's own RBAC filter.
#[derive(Debug, Default)]
pub struct Index {
    rules: Box<[CompiledRule]>,
    root: Node,
}

impl Index {
    /// Sorts the rules and files them.
    #[must_use]
    pub fn new(rules: Vec<CompiledRule>) -> Self {
        let Self { rules, root } = Self::plain_scan(rules);
        let root = Builder::new(&rules).node(&root.always, &[]);
        Self { rules, root }
    }

    /// Sorts the rules and files none of them, so that every rule is evaluated for every request. An index must give
    /// the same results.
    #[must_use]
    pub(crate) fn plain_scan(mut rules: Vec<CompiledRule>) -> Self {
        rules.sort_unstable_by(|a, b| a.id().as_str().cmp(b.id().as_str()));
        let always = (0..).take(rules.len()).collect();
        Self { rules: rules.into(), root: Node { filed: Box::default(), always } }
    }

    /// All rules, in order.
    #[must_use]
    pub fn rules(&self) -> &[CompiledRule] {
        &self.rules
    }

    /// Finds the first rule, in order, that matches the request.
    // A decision calls this function in several places. Inlining would put as many copies into the Wasm module.
    #[inline(never)]
    pub(crate) fn first_match<'i: 'r, 'r, A: Attributes>(&'i self, request: &Evaluation<'r, A>) -> FirstMatch<'i> {
        let start = || Search::new(&self.rules, request);
        let mut search = start();
        if search.node(&self.root).is_err() {
            search = start();
            for number in (0..).take(self.rules.len()) {
                if !search.matters(number) {
                    break;
                }
                search.look_at(number);
            }
        }
        search.found()
    }

    /// The positions of every rule that matches the request, and perhaps of some that do not: no rule is evaluated.
    /// This is for [`crate::analysis`], which compares rules.
    pub fn candidates<'r, A: Attributes>(&'r self, request: &Evaluation<'r, A>) -> Vec<usize> {
        let mut found = Vec::new();
        if self.root.find(request, &mut found).is_err() {
            return (0..self.rules.len()).collect();
        }
        found.sort_unstable();
        found.dedup();
        found.into_iter().filter_map(|number| usize::try_from(number).ok()).collect()
    }
}
