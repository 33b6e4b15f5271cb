//! Request time: the rules that are filed under the values of a request, and the first of them that matches.

use super::key::Dimension;
use super::node::{Filed, Node, Number, Postings};
use super::table::{Inconclusive, LookUp, Table, Visit};
use crate::attribute::Origin;
use crate::engine::RuleId;
use crate::engine::compile::{CompiledRule, Text};
use crate::engine::evaluate::{Evaluation, Truth};
use crate::request::{Attributes, Lookup, PeerName};

const NAMESPACE: &[u8] = b"/ns/";
const ACCOUNT: &[u8] = b"/sa/";

/// The names that a value other than a namespace can match ([`crate::identity::IdentityMatcher::takes_subjects`]).
const BEFORE_SUBJECT: [PeerName; 3] = [PeerName::Uri, PeerName::FurtherUris, PeerName::Dns];

/// What came of looking for a rule that matches.
#[derive(Debug)]
pub(crate) struct FirstMatch<'e> {
    /// The first rule that matches.
    pub rule: Option<&'e RuleId>,
    /// The unreadable value that the match rests on or, if no rule matches, the one that kept the first candidate from
    /// matching.
    pub unreadable: Option<Origin>,
}

/// A search for the first rule that matches.
pub(super) struct Search<'i, 's, 'r, A> {
    rules: &'i [CompiledRule],
    request: &'s Evaluation<'r, A>,
    /// The first rule so far that matches, and what that rests on.
    matched: Option<(Number, &'i RuleId, Option<Origin>)>,
    /// The first rule so far that might match, were this readable.
    not_shown: Option<(Number, Origin)>,
    /// How many times more something may be found. A header or a claim may have thousands of values that find the same
    /// rules again and again.
    left: usize,
}

impl<'i, 's, 'r, A: Attributes> Search<'i, 's, 'r, A> {
    pub(super) fn new(rules: &'i [CompiledRule], request: &'s Evaluation<'r, A>) -> Self {
        Self { rules, request, matched: None, not_shown: None, left: rules.len() }
    }

    /// Whether a rule of this number could still be the first.
    pub(super) fn matters(&self, number: Number) -> bool {
        self.matched.is_none_or(|(first, ..)| number < first)
    }

    pub(super) fn node(&mut self, node: &'i Node) -> LookUp {
        for Filed { dimension, first, table, postings } in &node.filed {
            if self.matters(*first) {
                dimension.look_up(table, self.request, &mut |slot| match postings.get(slot) {
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

    fn in_order(&mut self, numbers: &[Number]) -> LookUp {
        for number in numbers {
            if !self.matters(*number) {
                break;
            }
            self.spend_one()?;
            self.look_at(*number);
        }
        Ok(())
    }

    fn spend_one(&mut self) -> LookUp {
        self.left = self.left.checked_sub(1).ok_or(Inconclusive)?;
        Ok(())
    }

    pub(super) fn look_at(&mut self, number: Number) {
        let Some(rule) = usize::try_from(number).ok().and_then(|number| self.rules.get(number)) else { return };
        match self.request.rule(rule) {
            Truth::No => {}
            Truth::NotShown(origin) => {
                if self.not_shown.is_none_or(|(first, _)| number < first) {
                    self.not_shown = Some((number, origin));
                }
            }
            Truth::Assumed(origin) => self.matched = Some((number, rule.id(), Some(origin))),
            Truth::Yes => self.matched = Some((number, rule.id(), None)),
        }
    }

    pub(super) fn found(self) -> FirstMatch<'i> {
        match self.matched {
            Some((_, rule, unreadable)) => FirstMatch { rule: Some(rule), unreadable },
            None => FirstMatch { rule: None, unreadable: self.not_shown.map(|(_, origin)| origin) },
        }
    }
}

impl Node {
    pub(super) fn find<A: Attributes>(&self, request: &Evaluation<'_, A>, found: &mut Vec<Number>) -> LookUp {
        for Filed { dimension, table, postings, .. } in &self.filed {
            dimension.look_up(table, request, &mut |slot| match postings.get(slot) {
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

impl Dimension {
    /// Hands out what is filed under the values that the request has.
    fn look_up<A: Attributes>(&self, table: &Table, evaluation: &Evaluation<'_, A>, visit: Visit<'_>) -> LookUp {
        let request = evaluation.attributes();
        match self {
            Self::Path => each(evaluation.path(), |path| table.path(path, visit)),
            Self::Host => each(request.header(b":authority"), |mut values| {
                values.try_for_each(|value| table.text_ignoring_case(value, visit))
            }),
            Self::DestinationPort => each(request.destination_port(), |port| table.port(port, visit)),
            Self::Address(which) => each(request.address(*which), |address| table.address(address, visit)),
            Self::Text(text) => each_text(evaluation, text, |text| table.text(text, visit)),
            Self::PeerName => each_name(evaluation, &BEFORE_SUBJECT, |name| table.text(name, visit)),
            Self::PeerNamespace => each_name(evaluation, &PeerName::ALL, |name| {
                segments(name, NAMESPACE).try_for_each(|segment| table.text(segment, visit))
            }),
            Self::PeerAccount => each_name(evaluation, &BEFORE_SUBJECT, |name| {
                segments(name, ACCOUNT).try_for_each(|segment| table.text(segment, visit))
            }),
            Self::RequestPrincipal(by, with) => {
                each(evaluation.string(with), |_| Ok(()))?;
                each(evaluation.string(by), |text| table.text(text, visit))
            }
        }
    }
}

fn each<T>(value: Lookup<T>, look_up: impl FnOnce(T) -> LookUp) -> LookUp {
    match value {
        Lookup::Value(value) => look_up(value),
        Lookup::Absent => Ok(()),
        Lookup::Unreadable => Err(Inconclusive),
    }
}

fn each_name<'r, A: Attributes>(
    evaluation: &Evaluation<'r, A>,
    names: &[PeerName],
    mut look_up: impl FnMut(&'r [u8]) -> LookUp,
) -> LookUp {
    names.iter().try_for_each(|which| each(evaluation.attributes().checked_peer_name(*which), &mut look_up))
}

fn each_text<A: Attributes>(
    evaluation: &Evaluation<'_, A>,
    text: &Text,
    mut look_up: impl FnMut(&[u8]) -> LookUp,
) -> LookUp {
    let mut result = Ok(());
    let complete = evaluation.any_text(text, |text| {
        result = look_up(text);
        result.is_err()
    });
    if complete == Lookup::Unreadable { Err(Inconclusive) } else { result }
}

/// What stands behind each occurrence of `marker`, up to the next slash.
fn segments<'n>(name: &'n [u8], marker: &[u8]) -> impl Iterator<Item = &'n [u8]> {
    name.windows(marker.len()).enumerate().filter(move |(_, window)| *window == marker).filter_map(move |(at, _)| {
        let behind = name.get(at.checked_add(marker.len())?..)?;
        behind.split(|b| *b == b'/').next()
    })
}
