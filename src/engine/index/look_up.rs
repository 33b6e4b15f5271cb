//! Request time: finds the rules that are filed under the values of a request, and the first of them that matches.

use super::key::Dimension;
use super::node::{Filed, Node, Number, Postings};
use super::table::{Inconclusive, Table, Visit, Visited};
use crate::attribute::Origin;
use crate::engine::RuleId;
use crate::engine::compile::CompiledRule;
use crate::engine::evaluate::{Evaluation, Truth};
use crate::matcher::Polarity;
use crate::request::{Attributes, Lookup, PeerName};

const NAMESPACE: &[u8] = b"/ns/";
const ACCOUNT: &[u8] = b"/sa/";

/// The names of a peer except the subject. Only keys for namespaces can match a subject
/// ([`crate::identity::IdentityMatcher::takes_subjects`]).
const BEFORE_SUBJECT: [PeerName; 3] = [PeerName::Uri, PeerName::FurtherUris, PeerName::Dns];

/// To read so many bytes takes as long as to evaluate a rule.
const BYTES_OF_A_VISIT: usize = 256;

/// The result of a search for the first rule that matches.
#[derive(Debug)]
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
    /// How many more rules and nodes the search may visit before it gives up. It starts with the number of rules. A
    /// limit is necessary because a header or a claim may have thousands of values that lead to the same rules again
    /// and again.
    left: usize,
}

impl<'i: 'r, 's, 'r, A: Attributes> Search<'i, 's, 'r, A> {
    pub(super) fn new(rules: &'i [CompiledRule], request: &'s Evaluation<'r, A>) -> Self {
        Self { rules, request, matched: None, unproven: None, left: rules.len() }
    }

    /// Whether the rule with this number could still be the first that matches.
    pub(super) fn matters(&self, number: Number) -> bool {
        self.matched.is_none_or(|(first, ..)| number < first)
    }

    /// Searches a node: first the filed rules, dimension by dimension, then the rules that are always evaluated.
    pub(super) fn node(&mut self, node: &'i Node) -> Visited {
        for Filed { dimension, first, table, postings } in &node.filed {
            if self.matters(*first) {
                if *dimension == Dimension::Path {
                    // Each router reads the path from the start.
                    let length = self.request.path().known().map_or(0, <[u8]>::len);
                    self.spend((length / BYTES_OF_A_VISIT).saturating_mul(table.routers()))?;
                }
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

    /// Evaluates these rules in order, as long as a rule could still be the first that matches.
    fn in_order(&mut self, numbers: &[Number]) -> Visited {
        for number in numbers {
            if !self.matters(*number) {
                break;
            }
            self.spend_one()?;
            self.look_at(*number);
        }
        Ok(())
    }

    /// Counts one visit against the limit.
    fn spend_one(&mut self) -> Visited {
        self.spend(1)
    }

    fn spend(&mut self, visits: usize) -> Visited {
        self.left = self.left.checked_sub(visits).ok_or(Inconclusive)?;
        Ok(())
    }

    /// Evaluates one rule.
    pub(super) fn look_at(&mut self, number: Number) {
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

impl Node {
    /// Adds the numbers of all rules that are filed under the values of the request, without evaluating them. A number
    /// may be added twice.
    pub(super) fn find<'r, A: Attributes>(&'r self, request: &Evaluation<'r, A>, found: &mut Vec<Number>) -> Visited {
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
    /// Visits the slots of all keys that the request has in this dimension.
    fn look_up<'r, A: Attributes>(
        &'r self,
        table: &Table,
        evaluation: &Evaluation<'r, A>,
        visit: Visit<'_>,
    ) -> Visited {
        let request = evaluation.attributes();
        match self {
            Self::Path => each(evaluation.path(), |path| table.path(path, || evaluation.path_text(), visit)),
            Self::Host => all(|found| {
                evaluation
                    .header(b":authority", Polarity::Denies, &mut |host| found(table.text_ignoring_case(host, visit)))
            }),
            Self::DestinationPort => each(request.destination_port(), |port| table.port(port, visit)),
            Self::Address(which) => each(request.address(*which), |address| table.address(address, visit)),
            // Whether a match permits or denies is not known here. The evaluator tells the forms apart.
            Self::Text(text) => {
                all(|found| evaluation.any_text(text, Polarity::Denies, &mut |text| found(table.text(text, visit))))
            }
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

/// Looks up a value. An absent value finds nothing. An unreadable value is inconclusive.
fn each<T>(value: Lookup<T>, look_up: impl FnOnce(T) -> Visited) -> Visited {
    match value {
        Lookup::Value(value) => look_up(value),
        Lookup::Absent => Ok(()),
        Lookup::Unreadable => Err(Inconclusive),
    }
}

fn each_name<'r, A: Attributes>(
    evaluation: &Evaluation<'r, A>,
    names: &[PeerName],
    mut look_up: impl FnMut(&'r [u8]) -> Visited,
) -> Visited {
    names.iter().try_for_each(|which| each(evaluation.attributes().checked_peer_name(*which), &mut look_up))
}

/// Looks up all texts that `visit_all` visits, until a lookup is inconclusive. `visit_all` passes on the result of each
/// lookup, and stops when the function that it passes it to returns true.
fn all(visit_all: impl FnOnce(&mut dyn FnMut(Visited) -> bool) -> Lookup<bool>) -> Visited {
    let mut result = Ok(());
    let complete = visit_all(&mut |visited| {
        result = visited;
        result.is_err()
    });
    match complete {
        // True without an inconclusive look-up: a text counts as matching whatever a policy asks for. No look-up finds all rules.
        Lookup::Unreadable | Lookup::Value(true) => Err(Inconclusive),
        Lookup::Value(false) | Lookup::Absent => result,
    }
}

/// For each occurrence of `marker`, the text between it and the next slash.
fn segments<'n>(name: &'n [u8], marker: &[u8]) -> impl Iterator<Item = &'n [u8]> {
    name.windows(marker.len()).enumerate().filter(move |(_, window)| *window == marker).filter_map(move |(at, _)| {
        let behind = name.get(at.checked_add(marker.len())?..)?;
        behind.split(|b| *b == b'/').next()
    })
}
