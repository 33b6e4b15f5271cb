//! Why a rule does not match a request.
//!
//! [`Engine::decide`] asks the index, and stops at the first rule that matches. [`Engine::explain`] evaluates every
//! rule, with the same evaluator. For each rule that does not match, it reports one failed condition: the one that an
//! author would look at first. If a rule has several sources or operations and none of them matches, the report is
//! about the nearest one, which is the one with the fewest failed conditions.
//!
//! [`Engine::nearest_miss`] reports, in the same way, only the ALLOW rule that came nearest to matching. It works
//! without the text of the policies, because the filter does not keep that text.

use std::cmp::Reverse;
use std::fmt;
use std::net::IpAddr;

use super::compile::{Check, CompiledRule, Expected, Group, Groups, Test, Text};
use super::evaluate::Evaluation;
use super::{Engine, Engines, RuleId};
use crate::attribute::{Key, Origin};
use crate::matcher::{Pattern, Polarity};
use crate::policy::{Action, CONDITION_FIELDS, Clause};
use crate::request::metadata::Value;
use crate::request::{Address, Attributes, Lookup, PeerName, forms};

/// The result of one rule for one request.
#[derive(Clone, Copy, Debug)]
pub struct Trace<'e> {
    /// The name of the rule.
    pub rule: &'e RuleId,
    /// What a match of the rule means.
    pub action: Action,
    /// Whether the policy of the rule is a dry run.
    pub dry_run: bool,
    /// Whether the rule matches.
    pub matches: bool,
    /// The unreadable attribute that this rests on, if there is one.
    pub unreadable: Option<Origin>,
    /// Why the rule does not match; `None` if it matches.
    pub miss: Option<Miss>,
}

/// The first failed condition of a rule.
#[derive(Clone, Copy, Debug)]
pub struct Miss {
    /// The source, operation or `when` clause that contains the condition.
    pub clause: Clause,
    /// The position of the field or condition, counted from 0, in the list that [`crate::policy::Rule::clause`]
    /// returns.
    pub field: usize,
    /// `true`: one of the `not` values matches. `false`: none of the values matches.
    pub is_not: bool,
    /// Whether a match of the values permits or denies.
    pub polarity: Polarity,
    /// How many conditions fail in total: those of the nearest source, of the nearest operation, and of `when`.
    pub distance: usize,
}

/// The rule that came nearest to matching.
#[derive(Clone, Copy, Debug)]
pub struct NearMiss<'e> {
    /// The name of the rule.
    pub rule: &'e RuleId,
    /// How many conditions fail in total: those of the nearest source, of the nearest operation, and of `when`.
    pub distance: usize,
    /// How the first of them fails.
    pub failure: Failure,
    clause: Clause,
    first: &'e Test,
}

/// How a condition fails. It says nothing about the values, so logs may show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The request does not have the attribute.
    Absent,
    /// The value in the token or in other metadata is neither a string nor a list.
    NotText,
    /// The request has the attribute, and no value matches.
    Different,
    /// As [`Self::Different`], for a host that would match with another port or without one.
    PortDiffers,
    /// One of the `not` values matches.
    Excluded,
    /// The host does not say whether the request has the attribute.
    Unreadable,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "absent",
            Self::NotText => "not a text",
            Self::Different => "different",
            Self::PortDiffers => "only the port differs",
            Self::Excluded => "excluded",
            Self::Unreadable => "unreadable",
        })
    }
}

/// A value of a request that logs may show. It comes from the connection, never from a header, a token or other
/// metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShownValue<'r> {
    /// The local port.
    Port(u16),
    /// The local address.
    Address(IpAddr),
    /// The server name of the TLS handshake.
    Text(&'r [u8]),
}

impl NearMiss<'_> {
    /// The request's own value of the attribute that the first failed condition tests. `None` for a value that may be
    /// secret, that the log line of a decision contains anyway, or that is absent or unreadable.
    pub fn actual<'r>(&self, request: &'r impl Attributes) -> Option<ShownValue<'r>> {
        match self.first.attribute.info().origin {
            Origin::DestinationPort => request.destination_port().known().map(ShownValue::Port),
            Origin::Address(which @ Address::Destination) => request.address(which).known().map(ShownValue::Address),
            Origin::Text(which) => request.text(which).known().map(ShownValue::Text),
            Origin::Address(Address::Source | Address::Remote)
            | Origin::PeerNames
            | Origin::Headers
            | Origin::Metadata => None,
        }
    }

    /// The key of the first failed condition, if it is in `when`. The path of another condition names the attribute
    /// itself.
    #[must_use]
    pub fn key(&self) -> Option<String> {
        if self.clause == Clause::When { self.first.key() } else { None }
    }
}

impl Test {
    /// The key of a condition that is about the same.
    pub(crate) fn key(&self) -> Option<String> {
        let (Key::Whole(key) | Key::Bracketed(key)) = self.attribute.info().key?;
        let mut text = key.to_owned();
        let names: &[_] = match &self.check {
            Check::Text(Text::Header(name), _) if &**name == b":authority" => &[&b"host"[..]],
            Check::Text(Text::Header(name), _) => &[&**name],
            // The first key leads to the payload of the token.
            Check::Text(Text::Metadata(path), _) => &path.keys.iter().skip(1).map(|name| &**name).collect::<Vec<_>>(),
            Check::Metadata(path, _) => {
                text.push_str(&String::from_utf8_lossy(path.filter.strip_prefix(b"envoy.filters").unwrap_or_default()));
                &path.keys.iter().map(|name| &**name).collect::<Vec<_>>()
            }
            _ => &[],
        };
        for name in names {
            text.extend(["[", &String::from_utf8_lossy(name), "]"]);
        }
        Some(text)
    }
}

/// Prints the path of the first failed condition within the rule: `from[0].source.principals`, `when[1].notValues`.
impl fmt::Display for NearMiss<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Test { expected, field, attribute, .. } = self.first;
        let [name, not_name] = match self.clause {
            Clause::When => CONDITION_FIELDS,
            Clause::From(_) | Clause::To(_) => attribute.info().fields.unwrap_or_default(),
        };
        match self.clause {
            Clause::From(index) => write!(f, "from[{index}].source.")?,
            Clause::To(index) => write!(f, "to[{index}].operation.")?,
            Clause::When => write!(f, "when[{field}].")?,
        }
        f.write_str(match expected {
            Expected::Match => name,
            Expected::NoMatch => not_name,
        })
    }
}

impl Engine {
    /// The ALLOW rule that came nearest to matching: the one with the fewest failed conditions. If two rules have
    /// equally many, the rule that has more conditions is the nearer one. `None` if there is no ALLOW rule, or if one
    /// matches. Also `None` if `has_time`, which is asked again and again, says that the search takes too long: a rule
    /// that is only the nearest of some could mislead.
    pub fn nearest_miss<A: Attributes>(&self, attributes: &A, has_time: impl FnMut() -> bool) -> Option<NearMiss<'_>> {
        Engines::from(self).nearest_miss_in(&Evaluation::new(attributes), has_time)
    }

    /// The result of every rule for this request, grouped by action: CUSTOM, DENY, ALLOW, AUDIT, dry runs of DENY, dry
    /// runs of ALLOW. Within a group, rules are in the order in which they are reported: by name, compared as text. CUSTOM
    /// rules whose provider Envoy asks come first, in the order in which it asks.
    pub fn explain<'e, A: Attributes>(&'e self, attributes: &A) -> Vec<Trace<'e>> {
        let evaluation = &Evaluation::new(attributes);
        let asked = self.asked.iter().map(|provider| (&provider.policies, Action::Custom, false));
        let sets = asked.chain([
            (&self.custom, Action::Custom, false),
            (&self.deny, Action::Deny, false),
            (&self.allow, Action::Allow, false),
            (&self.audit, Action::Audit, false),
            (&self.dry_run_deny, Action::Deny, true),
            (&self.dry_run_allow, Action::Allow, true),
        ]);
        let traces = sets.flat_map(|(set, action, dry_run)| {
            set.index.rules().iter().map(move |rule| {
                let truth = evaluation.rule(rule);
                Trace {
                    rule: rule.id(),
                    action,
                    dry_run,
                    matches: truth.counts(),
                    unreadable: truth.unreadable(),
                    miss: evaluation.miss(rule),
                }
            })
        });
        traces.collect()
    }
}

impl<'e> Engines<'e> {
    /// Like [`Engine::nearest_miss`], for a request that was evaluated before.
    pub(crate) fn nearest_miss_in<'r, A: Attributes>(
        self,
        evaluation: &Evaluation<'r, A>,
        mut has_time: impl FnMut() -> bool,
    ) -> Option<NearMiss<'e>>
    where
        'e: 'r,
    {
        let mut nearest: Option<(_, FailedTests<'e>, &'e RuleId)> = None;
        let further = self.second.into_iter().flat_map(|engine| engine.allow.index.rules());
        for (number, rule) in self.first.allow.index.rules().iter().chain(further).enumerate() {
            // The cost of a rule depends on the request: a path can be as long as all headers may be.
            if number.saturating_add(1).is_multiple_of(RULES_BETWEEN_CHECKS) && !has_time() {
                return None;
            }
            let (failed, distance) = evaluation.failures(rule)?;
            let key = (distance, Reverse(rule.tests().count()), rule.id().as_str());
            if nearest.as_ref().is_none_or(|(nearest, ..)| key < *nearest) {
                nearest = Some((key, failed, rule.id()));
            }
        }
        let ((distance, ..), FailedTests { clause, first, .. }, rule) = nearest?;
        Some(NearMiss { rule, distance, failure: evaluation.failure(first), clause, first })
    }
}

/// How many rules [`Engine::nearest_miss`] evaluates before it asks again whether it has time. Most rules take less
/// time than the question.
const RULES_BETWEEN_CHECKS: usize = 4;

/// The failed tests of a clause.
struct FailedTests<'e> {
    clause: Clause,
    first: &'e Test,
    count: usize,
}

impl<'r, A: Attributes> Evaluation<'r, A> {
    /// Why the rule does not match; `None` if it matches.
    fn miss(&self, rule: &'r CompiledRule) -> Option<Miss> {
        let (FailedTests { clause, first, .. }, distance) = self.failures(rule)?;
        let Test { expected, field, polarity, .. } = first;
        let is_not = *expected == Expected::NoMatch;
        Some(Miss { clause, field: usize::from(*field), is_not, polarity: *polarity, distance })
    }

    /// The first failed clause, and the number of failed tests in all clauses. `None` if the rule matches.
    fn failures<'e: 'r>(&self, rule: &'e CompiledRule) -> Option<(FailedTests<'e>, usize)> {
        let failed = [
            rule.from.as_ref().and_then(|groups| self.nearest(groups, Clause::From)),
            rule.to.as_ref().and_then(|groups| self.nearest(groups, Clause::To)),
            self.failed(&rule.when, Clause::When),
        ];
        let distance = failed.iter().flatten().map(|failed| failed.count).sum();
        Some((failed.into_iter().flatten().next()?, distance))
    }

    /// The failed tests of the nearest group: the group with the fewest of them. `None` if a group holds.
    fn nearest<'e: 'r>(&self, groups: &'e Groups, clause: fn(usize) -> Clause) -> Option<FailedTests<'e>> {
        let mut nearest: Option<FailedTests> = None;
        for (index, tests) in groups.iter().enumerate() {
            let failed = self.failed(tests, clause(index))?;
            if nearest.as_ref().is_none_or(|nearest| failed.count < nearest.count) {
                nearest = Some(failed);
            }
        }
        nearest
    }

    /// The failed tests of a group; `None` if all tests hold.
    fn failed<'e: 'r>(&self, tests: &'e Group, clause: Clause) -> Option<FailedTests<'e>> {
        let rank = |test: &Test| (test.field, test.expected == Expected::NoMatch);
        let mut count: usize = 0;
        let mut first: Option<&'e Test> = None;
        for test in tests.iter().filter(|test| !self.holds(test).counts()) {
            count = count.saturating_add(1);
            if first.is_none_or(|first| rank(test) < rank(first)) {
                first = Some(test);
            }
        }
        first.map(|first| FailedTests { clause, first, count })
    }

    /// How a test fails that does not hold.
    fn failure(&self, test: &'r Test) -> Failure {
        match self.check(&test.check, test.polarity) {
            Lookup::Unreadable => Failure::Unreadable,
            Lookup::Value(true) => Failure::Excluded,
            checked @ (Lookup::Value(false) | Lookup::Absent) => match &test.check {
                Check::Text(Text::Metadata(path), _) | Check::Metadata(path, _)
                    if self.metadata(path) == Lookup::Value(Value::Other) =>
                {
                    Failure::NotText
                }
                Check::Host(patterns) if self.has_host(patterns, <[u8]>::eq_ignore_ascii_case) => Failure::PortDiffers,
                Check::Text(Text::Header(name), patterns)
                    if &**name == b":authority" && self.has_host(patterns, |one, other| one == other) =>
                {
                    Failure::PortDiffers
                }
                check if self.has_value(check, checked) => Failure::Different,
                _ => Failure::Absent,
            },
        }
    }

    /// Whether the request has a value for a check, of which none matches. `checked`: the result of the check.
    fn has_value(&self, check: &'r Check, checked: Lookup<bool>) -> bool {
        let any = &mut |_: &[u8]| true;
        let present = match check {
            Check::Identity(_) => {
                let has = |which: &PeerName| self.attributes().checked_peer_name(*which).known().is_some();
                return PeerName::ALL.iter().any(has);
            }
            Check::Host(_) => self.header(b":authority", Polarity::Permits, any),
            Check::Text(text, _) => self.any_text(text, Polarity::Permits, any),
            _ => checked.map(|_| true),
        };
        present == Lookup::Value(true)
    }

    /// Whether the host of the request matches if ports do not count.
    fn has_host(&self, patterns: &[Pattern], are_same: fn(&[u8], &[u8]) -> bool) -> bool {
        let mut is_match = |host: &[u8]| {
            let (host, _) = forms::split_port(host);
            patterns.iter().any(|pattern| match pattern {
                Pattern::Exact(wanted) => are_same(forms::split_port(wanted).0, host),
                Pattern::Suffix(wanted) if !wanted.starts_with(b":") => {
                    let (wanted, _) = forms::split_port(wanted);
                    let start = host.len().checked_sub(wanted.len());
                    start.and_then(|start| host.get(start..)).is_some_and(|end| are_same(wanted, end))
                }
                // The port does not matter to these.
                Pattern::Suffix(_) | Pattern::Prefix(_) | Pattern::Present | Pattern::NonEmpty(_) => false,
            })
        };
        self.header(b":authority", Polarity::Permits, &mut is_match) == Lookup::Value(true)
    }
}
