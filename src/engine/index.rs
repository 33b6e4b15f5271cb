//! Which rules a request could match, without looking at the others.
//!
//! Each rule is filed under its *access predicate*: a set of values of which a request that matches the rule must have one
//! ([`key`]). A request is looked up by its own values, so its cost depends on the request and not on the number of rules. Of
//! the predicates that a rule offers, the index takes the one that the fewest other rules share. Where many rules share even
//! that, they are filed once more among themselves, by another value. Rules that offer no predicate, such as rules of `not`
//! fields only, are looked at for every request.
//!
//! The index only leaves rules out. Whether a rule matches is the evaluator's answer, and the result is the same as asking
//! every rule in order. The index does just that where it is of no help: when a value that rules are filed by cannot be read,
//! and when a request has so many values that they lead to more rules than there are.
//!
//! ```text
//! key ← table ← node ← build      load time
//!                    ← look_up    request time
//! ```

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

/// Rules, sorted by id as strings: `rule[10]` comes before `rule[2]`, as in Envoy's own RBAC filter.
#[derive(Debug, Default)]
pub struct Index {
    rules: Box<[CompiledRule]>,
    root: Node,
}

impl Index {
    /// Puts the rules in order and files them.
    #[must_use]
    pub fn new(rules: Vec<CompiledRule>) -> Self {
        let Self { rules, root } = Self::plain_scan(rules);
        let root = Builder::new(&rules).node(&root.always, &[]);
        Self { rules, root }
    }

    /// The same rules, none of them filed: what an index must agree with.
    #[must_use]
    pub(crate) fn plain_scan(mut rules: Vec<CompiledRule>) -> Self {
        rules.sort_unstable_by(|a, b| a.id().as_str().cmp(b.id().as_str()));
        let always = (0..).take(rules.len()).collect();
        Self { rules: rules.into(), root: Node { filed: Box::default(), always } }
    }

    /// The rules, in order.
    #[must_use]
    pub fn rules(&self) -> &[CompiledRule] {
        &self.rules
    }

    /// The first rule, in order, that matches the request.
    // A decision calls it in eight places, and each copy would be part of the module.
    #[inline(never)]
    pub(crate) fn first_match<A: Attributes>(&self, request: &Evaluation<'_, A>) -> FirstMatch<'_> {
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

    /// The positions of the rules that this request could match: of all that do, and of others. For whoever compares rules.
    pub fn candidates<A: Attributes>(&self, request: &Evaluation<'_, A>) -> Vec<usize> {
        let mut found = Vec::new();
        if self.root.find(request, &mut found).is_err() {
            return (0..self.rules.len()).collect();
        }
        found.sort_unstable();
        found.dedup();
        found.into_iter().filter_map(|number| usize::try_from(number).ok()).collect()
    }
}
