//! Request time: goes from the root to the rules that are filed under the values of a request.

use super::exclusion::Exclusions;
use super::key::Dimension;
use super::key_forms::{Inconclusive, KeyForms, Visit, Visited};
use super::node::{ListAt, Node, Number, Tree, Word};
use super::table::Posting;
use crate::engine::evaluate::Evaluation;
use crate::matcher::Polarity;
use crate::request::{Attributes, Lookup, PeerName};

const NAMESPACE: &[u8] = b"/ns/";
const ACCOUNT: &[u8] = b"/sa/";

/// The names of a peer except the subject. Only keys for namespaces can match a subject
/// ([`crate::identity::IdentityMatcher::takes_subjects`]).
const BEFORE_SUBJECT: [PeerName; 3] = [PeerName::Uri, PeerName::FurtherUris, PeerName::Dns];

/// To read so many bytes takes as long as to evaluate a rule.
const BYTES_OF_A_VISIT: usize = 256;

/// To look up a hash takes as long as to read so many bytes.
const BYTES_OF_A_HASH: usize = 32;

/// Receives the rules that a walk finds. It may receive a rule more than once.
pub(super) trait Visitor {
    /// Whether the rule with this number, or one behind it, still matters.
    fn matters(&self, _: Number) -> bool {
        true
    }

    /// Whether rules may be left out because the request has a value that they exclude.
    fn leaves_out_excluded(&self) -> bool {
        true
    }

    /// Receives a rule.
    fn visit(&mut self, word: Word) -> Visited;

    /// Counts so many visits against the limit. A limit is necessary because a header or a claim may have thousands of
    /// values that lead to the same rules again and again.
    fn spend(&mut self, visits: usize) -> Visited;
}

/// A walk from the root.
pub(super) struct Walk<'r, 'w, A> {
    pub tree: &'r Tree,
    pub request: &'w Evaluation<'r, A>,
    pub visitor: &'w mut dyn Visitor,
    /// The bytes that lookups have read and that no visit has paid for yet.
    pub unpaid: usize,
}

impl<'r, A: Attributes> Walk<'r, '_, A> {
    /// Visits what is filed in a node: first the filed rules, dimension by dimension, then the rules that are always
    /// evaluated.
    pub(super) fn node(&mut self, node: &'r Node) -> Visited {
        for filed in self.tree.filed(node) {
            if self.visitor.matters(filed.first) {
                if filed.dimension == Dimension::Path {
                    // Each router reads the path from the start.
                    let length = self.request.path().known().map_or(0, <[u8]>::len);
                    self.pay(length.saturating_add(BYTES_OF_A_HASH).saturating_mul(filed.forms.routers()))?;
                }
                let request = self.request;
                filed.dimension.look_up(&filed.forms, request, &mut |hash, bytes| {
                    self.pay(bytes.saturating_add(BYTES_OF_A_HASH))?;
                    self.hash(hash, node.depth)
                })?;
            }
        }
        match &node.exclusions {
            Some(exclusions) if self.visitor.leaves_out_excluded() => self.left_of(node.always, exclusions),
            Some(_) | None => self.list(node.always),
        }
    }

    /// Counts bytes that were read against the limit of visits. Without it, lookups that find nothing would cost
    /// nothing, however often a request leads to the same node.
    fn pay(&mut self, bytes: usize) -> Visited {
        self.unpaid = self.unpaid.saturating_add(bytes);
        if self.unpaid < BYTES_OF_A_VISIT {
            return Ok(());
        }
        let visits = self.unpaid / BYTES_OF_A_VISIT;
        self.unpaid %= BYTES_OF_A_VISIT;
        self.visitor.spend(visits)
    }

    /// Visits what is filed under a hash of a node at this depth.
    fn hash(&mut self, hash: u64, depth: u32) -> Visited {
        for posting in self.tree.table.postings(hash) {
            match posting {
                Ok(Posting::Rule(word)) => {
                    if self.visitor.matters(word.number()) {
                        self.visitor.visit(word)?;
                    }
                }
                Ok(Posting::List(at)) => self.list(at)?,
                Ok(Posting::Node(at)) => {
                    if let Some(below) = self.tree.node(at)
                        && below.depth == depth.saturating_add(1)
                    {
                        self.visitor.spend(1)?;
                        self.node(below)?;
                    }
                }
                Err(()) => self.visitor.spend(1)?,
            }
        }
        Ok(())
    }

    /// Visits these rules in order, as long as they matter.
    fn list(&mut self, at: ListAt) -> Visited {
        for word in self.tree.lists.get(at) {
            if !self.visitor.matters(word.number()) {
                break;
            }
            self.visitor.visit(*word)?;
        }
        Ok(())
    }

    /// Like [`Self::list`], without the rules that a value of the request excludes.
    #[inline(never)]
    fn left_of(&mut self, at: ListAt, exclusions: &'r Exclusions) -> Visited {
        let words = self.tree.lists.get(at);
        // A bit for each rule is written and read.
        self.pay(words.len() / 4)?;
        let left = exclusions.left(words.len(), self.request, self.visitor);
        for (words, mut bits) in words.chunks(64).zip(left) {
            while bits != 0 {
                let lowest = usize::try_from(bits.trailing_zeros()).unwrap_or_default();
                bits &= bits.wrapping_sub(1);
                let Some(word) = words.get(lowest) else { break };
                if !self.visitor.matters(word.number()) {
                    return Ok(());
                }
                self.visitor.visit(*word)?;
            }
        }
        Ok(())
    }
}

impl Dimension {
    /// Visits the hashes of all keys that the request may have in this dimension.
    fn look_up<'r, A: Attributes>(
        &'r self,
        forms: &KeyForms,
        evaluation: &Evaluation<'r, A>,
        visit: Visit<'_>,
    ) -> Visited {
        let request = evaluation.attributes();
        match self {
            Self::Path => each(evaluation.path(), |path| forms.path(path, || evaluation.path_text(), visit)),
            Self::Host => all(|found| {
                evaluation
                    .header(b":authority", Polarity::Denies, &mut |host| found(forms.text_ignoring_case(host, visit)))
            }),
            Self::DestinationPort => each(request.destination_port(), |port| forms.port(port, visit)),
            Self::Address(which) => each(request.address(*which), |address| forms.address(address, visit)),
            // Whether a match permits or denies is not known here. The evaluator tells the forms apart.
            Self::Text(text) => {
                all(|found| evaluation.any_text(text, Polarity::Denies, &mut |text| found(forms.text(text, visit))))
            }
            Self::PeerName => each_name(evaluation, &BEFORE_SUBJECT, |name| forms.text(name, visit)),
            Self::PeerNamespace => each_name(evaluation, &PeerName::ALL, |name| {
                segments(name, NAMESPACE).try_for_each(|segment| forms.text(segment, visit))
            }),
            Self::PeerAccount => each_name(evaluation, &BEFORE_SUBJECT, |name| {
                segments(name, ACCOUNT).try_for_each(|segment| forms.text(segment, visit))
            }),
            Self::RequestPrincipal(by, with) => {
                each(evaluation.string(with), |_| Ok(()))?;
                each(evaluation.string(by), |text| forms.text(text, visit))
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
        // True without an inconclusive lookup: a text counts as matching whatever a policy asks for. A lookup cannot
        // find every rule.
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
