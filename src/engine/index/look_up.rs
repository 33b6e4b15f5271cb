//! Request time: finds the first rule that matches.

use super::key_forms::{Inconclusive, Visited};
use super::node::{Number, Word};
use super::walk::Visitor;
use crate::attribute::Origin;
use crate::engine::RuleId;
use crate::engine::compile::CompiledRule;
use crate::engine::evaluate::{Evaluation, Truth};
use crate::request::Attributes;

/// The result of a search for the first rule that matches.
#[derive(Debug, Default)]
pub(crate) struct FirstMatch<'e> {
    /// The first rule that matches, if one does.
    pub rule: Option<&'e RuleId>,
    /// The unreadable attribute that the match rests on. If no rule matches: the unreadable attribute because of which
    /// the first possible rule counts as not matched.
    pub unreadable: Option<Origin>,
    /// If no rule matches: the first possible rule.
    pub unproven: Option<&'e RuleId>,
}

/// A search for the first rule that matches.
pub(super) struct Search<'i: 'r, 's, 'r, A> {
    rules: &'i [CompiledRule],
    request: &'s Evaluation<'r, A>,
    /// The first matching rule so far, and the unreadable attribute that the match rests on.
    matched: Option<(Number, &'i RuleId, Option<Origin>)>,
    /// The first rule so far that might match if an attribute were readable, and this attribute.
    unproven: Option<(Number, &'i RuleId, Origin)>,
    /// How many more visits the search may make before it gives up: rules, nodes, and lookups ([`super::walk::Walk`]).
    left: usize,
}

impl<'i: 'r, 's, 'r, A: Attributes> Search<'i, 's, 'r, A> {
    pub(super) fn new(rules: &'i [CompiledRule], request: &'s Evaluation<'r, A>) -> Self {
        // Half as many again as there are rules, and some for what lies around a few rules.
        let left = rules.len().saturating_add(rules.len() / 2).saturating_add(64);
        Self { rules, request, matched: None, unproven: None, left }
    }

    /// Evaluates every rule in order, as long as a rule could still be the first that matches.
    pub(super) fn scan(&mut self) {
        for number in (0..).take(self.rules.len()) {
            if !self.matters(number) {
                break;
            }
            self.look_at(number);
        }
    }

    /// Evaluates one rule.
    fn look_at(&mut self, number: Number) {
        let Some(rule) = usize::try_from(number).ok().and_then(|number| self.rules.get(number)) else { return };
        match self.request.rule(rule) {
            Truth::No => {}
            Truth::Unproven(origin) => {
                if self.unproven.is_none_or(|(first, ..)| number < first) {
                    self.unproven = Some((number, rule.id(), origin));
                }
            }
            Truth::Assumed(origin) => self.matched = Some((number, rule.id(), Some(origin))),
            Truth::Yes => self.matched = Some((number, rule.id(), None)),
        }
    }

    pub(super) fn found(self) -> FirstMatch<'i> {
        match self.matched {
            Some((_, rule, unreadable)) => FirstMatch { rule: Some(rule), unreadable, unproven: None },
            None => FirstMatch {
                rule: None,
                unreadable: self.unproven.map(|(.., origin)| origin),
                unproven: self.unproven.map(|(_, rule, _)| rule),
            },
        }
    }
}

impl<A: Attributes> Visitor for Search<'_, '_, '_, A> {
    /// Whether the rule with this number could still be the first that matches.
    fn matters(&self, number: Number) -> bool {
        self.matched.is_none_or(|(first, ..)| number < first)
    }

    fn visit(&mut self, word: Word) -> Visited {
        self.spend(1)?;
        if self.request.has_method_of(word.methods()) {
            self.look_at(word.number());
        }
        Ok(())
    }

    fn spend(&mut self, visits: usize) -> Visited {
        self.left = self.left.checked_sub(visits).ok_or(Inconclusive)?;
        Ok(())
    }
}
