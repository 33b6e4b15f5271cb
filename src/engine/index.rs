//! Which rules a request could match, without looking at the others.
//!
//! Each rule is filed under its *access predicate*: a set of values of which a request that matches the rule must have
//! one ([`access`]). Values are kept in one table for each attribute ([`table`]), and a request is looked up by its own
//! values, so that what it costs depends on the request and not on how many rules there are. Of the predicates that a
//! rule offers, the one is taken that the fewest other rules share. Where many share even that, they are filed once
//! more among themselves, by another attribute. Rules that offer nothing, such as one that consists of `not` fields,
//! are looked at for every request.
//!
//! The index only leaves rules out; whether a rule matches is the evaluator's answer, and the answer of the whole is that
//! of asking about every rule in order. That is also what is done where the index does not help: where an attribute that
//! rules are filed by cannot be read, and where a request has so many values that more rules have been found than there are.

mod access;
#[cfg(test)]
mod collisions;
mod table;

use std::collections::BTreeMap;
use std::mem;

use self::access::{Attribute, Key, Looked, NoHelp};
use self::table::Table;
use super::compile::Rule;
use super::evaluate::{Evaluation, Truth, Unread};
use super::{Found, RuleId};
use crate::request::Attributes;

/// A rule's position in the order in which rules are reported.
type Number = u32;

/// So many rules are looked at as they are. To look at one takes some 50 ns; to ask a host for one more attribute, by which
/// they could be told apart, takes thousands.
const FEW: usize = 16;

/// Rules, sorted by id as strings: `rule[10]` comes before `rule[2]`, as in Envoy's own RBAC filter.
#[derive(Debug, Default)]
pub struct Index {
    rules: Box<[Rule]>,
    root: Node,
}

/// Rules, filed.
#[derive(Debug, Default)]
struct Node {
    /// In the order in which attributes are asked for: the cheapest first.
    filed: Box<[Filed]>,
    /// Rules without a useful access predicate, in order.
    always: Box<[Number]>,
}

/// The rules that are found by the values of one attribute.
#[derive(Debug)]
struct Filed {
    attribute: Attribute,
    /// The first rule among them: none of them can come before it.
    first: Number,
    table: Table,
    /// What is filed, slot by slot.
    postings: Box<[Postings]>,
}

/// What is filed under one value.
#[derive(Debug)]
enum Postings {
    /// Rules, in order.
    Rules(Box<[Number]>),
    /// Too many to look at each, filed among themselves.
    Node(Box<Node>),
}

impl Index {
    /// Puts the rules in order and files them.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        let Self { rules, root } = Self::plain_scan(rules);
        let root = Builder::new(&rules).node(&root.always, &[]);
        Self { rules, root }
    }

    /// The same rules, none of them filed: what an index must agree with.
    #[must_use]
    pub fn plain_scan(mut rules: Vec<Rule>) -> Self {
        rules.sort_unstable_by(|a, b| a.id().as_str().cmp(b.id().as_str()));
        let always = (0..).take(rules.len()).collect();
        Self { rules: rules.into(), root: Node { filed: Box::default(), always } }
    }

    /// The rules, in order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The first rule, in order, that matches the request.
    // A decision calls it in eight places, and each copy would be part of the module.
    #[inline(never)]
    pub fn first_match<A: Attributes>(&self, request: &Evaluation<'_, A>) -> Found<'_> {
        let start = || Search { rules: &self.rules, request, matched: None, not_shown: None, left: self.rules.len() };
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

impl Node {
    fn find<A: Attributes>(&self, request: &Evaluation<'_, A>, found: &mut Vec<Number>) -> Looked {
        for Filed { attribute, table, postings, .. } in &self.filed {
            attribute.look_up(table, request, &mut |slot| match postings.get(slot) {
                Some(Postings::Rules(numbers)) => {
                    found.extend(numbers);
                    Ok(())
                }
                Some(Postings::Node(node)) => node.find(request, found),
                None => Ok(()),
            })?;
        }
        found.extend(&self.always);
        Ok(())
    }
}

/// A search for the first rule that matches.
struct Search<'i, 's, 'r, A> {
    rules: &'i [Rule],
    request: &'s Evaluation<'r, A>,
    /// The first rule so far that matches, and what that rests on.
    matched: Option<(Number, &'i RuleId, Option<Unread>)>,
    /// The first rule so far that might match, were this attribute readable.
    not_shown: Option<(Number, Unread)>,
    /// How many times more something may be found. A header or a claim may have thousands of values that find the same
    /// rules again and again.
    left: usize,
}

impl<'i, A: Attributes> Search<'i, '_, '_, A> {
    /// Whether a rule of this number could still be the first.
    fn matters(&self, number: Number) -> bool {
        self.matched.is_none_or(|(first, ..)| number < first)
    }

    fn node(&mut self, node: &'i Node) -> Looked {
        for Filed { attribute, first, table, postings } in &node.filed {
            if self.matters(*first) {
                attribute.look_up(table, self.request, &mut |slot| match postings.get(slot) {
                    Some(Postings::Rules(numbers)) => self.in_order(numbers),
                    Some(Postings::Node(node)) => {
                        self.spend_one()?;
                        self.node(node)
                    }
                    None => Ok(()),
                })?;
            }
        }
        self.in_order(&node.always)
    }

    fn in_order(&mut self, numbers: &[Number]) -> Looked {
        for number in numbers {
            if !self.matters(*number) {
                break;
            }
            self.spend_one()?;
            self.look_at(*number);
        }
        Ok(())
    }

    fn spend_one(&mut self) -> Looked {
        self.left = self.left.checked_sub(1).ok_or(NoHelp)?;
        Ok(())
    }

    fn look_at(&mut self, number: Number) {
        let Some(rule) = usize::try_from(number).ok().and_then(|number| self.rules.get(number)) else { return };
        match self.request.rule(rule) {
            Truth::No => {}
            Truth::NotShown(attribute) => {
                if self.not_shown.is_none_or(|(first, _)| number < first) {
                    self.not_shown = Some((number, attribute));
                }
            }
            Truth::Assumed(attribute) => self.matched = Some((number, rule.id(), Some(attribute))),
            Truth::Yes => self.matched = Some((number, rule.id(), None)),
        }
    }

    fn found(self) -> Found<'i> {
        match self.matched {
            Some((_, rule, unreadable)) => Found { rule: Some(rule), unreadable },
            None => Found { rule: None, unreadable: self.not_shown.map(|(_, attribute)| attribute) },
        }
    }
}

/// Files rules.
struct Builder<'r> {
    rules: &'r [Rule],
    /// How many keys each has.
    keys: Box<[usize]>,
    /// How many more keys may be filed. It keeps the index within a multiple of what the policies hold, whatever they are:
    /// rules that are filed under many values, and under each of them again, stay together when it is used up.
    keys_left: usize,
}

impl<'r> Builder<'r> {
    fn new(rules: &'r [Rule]) -> Self {
        let keys: Box<[_]> = rules.iter().map(access::keys).collect();
        let keys_left = keys.iter().sum::<usize>().saturating_mul(8);
        Self { rules, keys, keys_left }
    }

    fn node(&mut self, numbers: &[Number], used: &[Attribute]) -> Node {
        if numbers.len() <= FEW {
            return Node { filed: Box::default(), always: numbers.into() };
        }
        let rules: Vec<_> = numbers.iter().filter_map(|number| Some((*number, self.rule(*number)?))).collect();
        let mut shares = Cabinet::<usize>::default();
        for (_, rule) in &rules {
            access::each_key(rule, used, &mut |attribute, key| {
                shares.change(attribute, key, &mut |count| *count = count.saturating_add(1));
            });
        }
        let mut always = Vec::new();
        let mut cabinet = Cabinet::<Vec<Number>>::default();
        for (number, rule) in &rules {
            match access::narrowest(rule, used, FEW, &|attribute, key| shares.share(attribute, key)) {
                // Where more than half of the rules share it, looking at each costs no more.
                Some((share, keys)) if share <= rules.len() / 2 => {
                    for (attribute, key) in keys {
                        cabinet.change(&attribute, &key, &mut |numbers| {
                            if numbers.last() != Some(number) {
                                numbers.push(*number);
                            }
                        });
                    }
                }
                _ => always.push(*number),
            }
        }
        drop(shares);
        let Cabinet { mut drawers, of } = cabinet;
        let filed = of.into_iter().filter_map(|(attribute, at)| {
            let Drawer { table, contents } = drawers.get_mut(at).map(mem::take)?;
            let used = [used, std::slice::from_ref(&attribute)].concat();
            let first = contents.iter().filter_map(|numbers| numbers.first().copied()).min().unwrap_or_default();
            let postings = contents.into_iter().map(|numbers| self.postings(numbers, &used)).collect();
            Some(Filed { attribute, first, table, postings })
        });
        Node { filed: filed.collect(), always: always.into() }
    }

    fn postings(&mut self, numbers: Vec<Number>, used: &[Attribute]) -> Postings {
        if numbers.len() > FEW {
            let keys: usize = numbers.iter().filter_map(|number| self.keys.get(usize::try_from(*number).ok()?)).sum();
            if let Some(left) = self.keys_left.checked_sub(keys) {
                self.keys_left = left;
                let node = self.node(&numbers, used);
                if !node.filed.is_empty() {
                    return Postings::Node(Box::new(node));
                }
            }
        }
        Postings::Rules(numbers.into())
    }

    fn rule(&self, number: Number) -> Option<&'r Rule> {
        self.rules.get(usize::try_from(number).ok()?)
    }
}

/// Something for each key of each attribute, while rules are filed.
#[derive(Default)]
struct Cabinet<T> {
    drawers: Vec<Drawer<T>>,
    /// Which drawer is an attribute's.
    of: BTreeMap<Attribute, usize>,
}

#[derive(Default)]
struct Drawer<T> {
    table: Table,
    /// Slot by slot.
    contents: Vec<T>,
}

impl<T: Default> Cabinet<T> {
    /// Changes what is filed under a key.
    fn change(&mut self, attribute: &Attribute, key: &Key<'_>, change: &mut dyn FnMut(&mut T)) {
        let next = self.drawers.len();
        let at = *self.of.entry(attribute.clone()).or_insert(next);
        if at == next {
            self.drawers.push(Drawer::default());
        }
        let Some(Drawer { table, contents }) = self.drawers.get_mut(at) else { return };
        let slot = table.slot(attribute, key);
        if slot == contents.len() {
            contents.push(T::default());
        }
        if let Some(content) = contents.get_mut(slot) {
            change(content);
        }
    }
}

impl Cabinet<usize> {
    /// How many have been counted under the keys that a request finds together with this one.
    fn share(&self, attribute: &Attribute, key: &Key<'_>) -> usize {
        let mut sum: usize = 0;
        if let Some(Drawer { table, contents }) = self.of.get(attribute).and_then(|at| self.drawers.get(*at)) {
            let _nothing_is_read_here = table.together_with(attribute, key, &mut |slot| {
                sum = sum.saturating_add(contents.get(slot).copied().unwrap_or_default());
                Ok(())
            });
        }
        sum
    }
}
