//! Which rules a request could match, in the order in which they are reported.
//!
//! A plain scan: every rule is a candidate. Whatever replaces it must yield the candidates in the same order and leave
//! out no rule that matches; confirming a candidate stays the evaluator's task.

use super::compile::Rule;
use crate::request::Attributes;

/// Rules, sorted by id as strings: `rule[10]` comes before `rule[2]`, as in Envoy's own RBAC filter.
#[derive(Debug, Default)]
pub struct Index {
    rules: Vec<Rule>,
}

impl Index {
    /// Puts the rules in order.
    #[must_use]
    pub fn new(mut rules: Vec<Rule>) -> Self {
        rules.sort_by(|a, b| a.id().as_str().cmp(b.id().as_str()));
        Self { rules }
    }

    /// How many rules there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.rules.len()
    }

    /// The rules that the request could match, in order.
    pub fn candidates<A: Attributes>(&self, _attributes: &A) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }
}
