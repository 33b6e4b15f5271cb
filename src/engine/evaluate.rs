//! Evaluates one rule for one request.
//!
//! This is the only evaluator: enforcing, testing and explaining all use it. A rule either matches or it does not. If
//! the answer rests on an attribute that is unreadable, the answer also names this attribute.
//!
//! # Unreadable attributes
//! An unreadable attribute counts against the request. Each test has a polarity: a match of its values denies or
//! permits ([`super::compile`]). What an unreadable attribute does to the test follows from the polarity:
//!
//! | a match | the values count as | a test of values | a test of `not` values |
//! | --- | --- | --- | --- |
//! | denies | matching | holds | does not hold |
//! | permits | not matching | does not hold | holds |
//!
//! Therefore every test of an unreadable attribute holds in a DENY or CUSTOM policy, and no such test holds in an ALLOW
//! policy. In an AUDIT policy, every match counts as one that permits.
//!
//! # Order
//! Operations are evaluated first. Most of them need only the request line: Envoy gives it cheaply, and it excludes
//! most rules. The order does not change the answer.

use std::borrow::Cow;
use std::cell::OnceCell;

use super::compile::{
    Check, CompiledRule, Expected, Groups, MetadataMatcher, MetadataPath, PathMatcher, RequestPrincipalMatcher, Test,
    Text,
};
use super::many::{LongTexts, SortedValues};
use super::method::Methods;
use crate::attribute::Origin;
use crate::identity::IdentityMatcher;
use crate::matcher::template::SplitPath;
use crate::matcher::{Pattern, Polarity};
use crate::request::metadata::{IndexedMaps, List, Value};
use crate::request::{Attributes, Lookup, PeerName, forms, without_query};

/// A request for which rules are evaluated.
#[derive(Debug)]
pub(crate) struct Evaluation<'r, A> {
    attributes: &'r A,
    /// The path, once it has been read. It is kept because nearly every rule looks at it.
    path: OnceCell<Lookup<&'r [u8]>>,
    /// The same path, once a template has been compared with it.
    split_path: OnceCell<SplitPath<'r>>,
    /// The same path as text, once a template has been looked for.
    path_text: OnceCell<Cow<'r, str>>,
    /// The method, once a rule for some methods has been found.
    methods: OnceCell<Methods>,
    /// The large maps in the metadata that have been looked into.
    maps: IndexedMaps<'r>,
    /// The forms of the host, if it is long.
    hosts: OnceCell<Hosts>,
    /// The values of attributes that have many of them.
    many: SortedValues<'r>,
    /// The long values of which is known whether they are text.
    texts: LongTexts,
}

/// The forms of a long host.
#[derive(Debug)]
struct Hosts {
    address: usize,
    forms: Vec<Box<[u8]>>,
    /// The host counts as matching whatever a policy asks for.
    matches_all: bool,
}

/// Whether a test, a group of tests or a rule holds. The variants are in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    /// It does not hold. Unreadable attributes make no difference.
    No,
    /// It counts as not holding, because this attribute is unreadable. It might hold if the attribute were readable.
    Unproven(Origin),
    /// It counts as holding, because this attribute is unreadable. It might not hold if the attribute were readable.
    Assumed(Origin),
    /// It holds. Unreadable attributes make no difference.
    Yes,
}

impl Truth {
    /// Whether it counts as holding.
    #[must_use]
    pub fn counts(self) -> bool {
        match self {
            Self::Yes | Self::Assumed(_) => true,
            Self::No | Self::Unproven(_) => false,
        }
    }

    /// The unreadable attribute that it rests on.
    pub fn unreadable(self) -> Option<Origin> {
        match self {
            Self::Unproven(origin) | Self::Assumed(origin) => Some(origin),
            Self::Yes | Self::No => None,
        }
    }

    fn rank(self) -> u8 {
        match self {
            Self::No => 0,
            Self::Unproven(_) => 1,
            Self::Assumed(_) => 2,
            Self::Yes => 3,
        }
    }

    /// The lowest of these values: they must all hold.
    fn all(of: impl IntoIterator<Item = Self>) -> Self {
        let mut least = Self::Yes;
        for truth in of {
            if truth.rank() < least.rank() {
                least = truth;
            }
            if least == Self::No {
                break;
            }
        }
        least
    }

    /// The highest of these values: one of them must hold.
    fn any(of: impl IntoIterator<Item = Self>) -> Self {
        let mut most = Self::No;
        for truth in of {
            if truth.rank() > most.rank() {
                most = truth;
            }
            if most == Self::Yes {
                break;
            }
        }
        most
    }
}

impl<'r, A: Attributes> Evaluation<'r, A> {
    /// Starts the evaluation of rules for this request.
    pub fn new(attributes: &'r A) -> Self {
        Self {
            attributes,
            path: OnceCell::new(),
            split_path: OnceCell::new(),
            path_text: OnceCell::new(),
            methods: OnceCell::new(),
            maps: IndexedMaps::default(),
            hosts: OnceCell::new(),
            many: SortedValues::default(),
            texts: LongTexts::default(),
        }
    }

    /// Whether the rule matches.
    pub fn rule(&self, rule: &'r CompiledRule) -> Truth {
        let to = self.clause(rule.to.as_ref());
        if to == Truth::No {
            return to;
        }
        let from = self.clause(rule.from.as_ref());
        if from == Truth::No {
            return from;
        }
        Truth::all([to, from, self.group(&rule.when)])
    }

    /// If the rule matches: the positions of the first operation and of the first source that do. This is for
    /// [`crate::analysis`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn matching_groups(&self, rule: &'r CompiledRule) -> Option<[Option<usize>; 2]> {
        let first = |groups: Option<&'r Groups>| match groups {
            None => Some(None),
            Some(groups) => groups.iter().position(|tests| self.group(tests).counts()).map(Some),
        };
        let [to, from] = [first(rule.to.as_ref())?, first(rule.from.as_ref())?];
        self.group(&rule.when).counts().then_some([to, from])
    }

    fn clause(&self, groups: Option<&'r Groups>) -> Truth {
        groups.map_or(Truth::Yes, |groups| Truth::any(groups.iter().map(|tests| self.group(tests))))
    }

    #[inline(never)]
    fn group(&self, tests: &'r [Test]) -> Truth {
        Truth::all(tests.iter().map(|test| self.holds(test)))
    }

    pub fn holds(&self, test: &'r Test) -> Truth {
        let matched = match self.check(&test.check, test.polarity) {
            Lookup::Value(matched) => matched,
            Lookup::Absent => false,
            // This counts against the request: see the unreadable rule in the module comment.
            Lookup::Unreadable => {
                let unread = test.attribute.info().origin;
                return match (test.expected, test.polarity) {
                    (Expected::Match, Polarity::Denies) | (Expected::NoMatch, Polarity::Permits) => {
                        Truth::Assumed(unread)
                    }
                    (Expected::Match, Polarity::Permits) | (Expected::NoMatch, Polarity::Denies) => {
                        Truth::Unproven(unread)
                    }
                };
            }
        };
        let holds = match test.expected {
            Expected::Match => matched,
            Expected::NoMatch => !matched,
        };
        if holds { Truth::Yes } else { Truth::No }
    }

    /// Whether one of the values of the check matches the request. `polarity`: whether a match permits or denies.
    pub(super) fn check(&self, check: &'r Check, polarity: Polarity) -> Lookup<bool> {
        match check {
            Check::Identity(matchers) => self.identity(matchers),
            Check::Address(which, blocks) => {
                self.attributes.address(*which).map(|address| blocks.iter().any(|block| block.contains(address)))
            }
            Check::DestinationPort(ports) => self.attributes.destination_port().map(|port| ports.contains(&port)),
            Check::Text(text, patterns) => self.any_pattern(text, polarity, patterns),
            Check::Host(patterns) => {
                self.header(b":authority", polarity, &mut |host| patterns.iter().any(|p| p.matches_ignoring_case(host)))
            }
            Check::Path(matchers) => self.path().map(|path| {
                matchers.iter().any(|matcher| match matcher {
                    PathMatcher::Text(pattern) => self.texts.matches(pattern, path),
                    PathMatcher::Template(template) => {
                        template.matches_split(self.split_path.get_or_init(|| SplitPath::new(path)))
                    }
                })
            }),
            Check::RequestPrincipal { issuer, subject, matchers } => self.string(issuer).and_then(|issuer| {
                self.string(subject).map(|subject| {
                    let matches = |m: &RequestPrincipalMatcher| {
                        self.texts.matches(&m.issuer, issuer) && self.texts.matches(&m.subject, subject)
                    };
                    matchers.iter().any(matches)
                })
            }),
            Check::Metadata(path, matchers) => match self.metadata(path) {
                Lookup::Value(Value::String(text)) => Lookup::Value(matchers.iter().any(|matcher| match matcher {
                    MetadataMatcher::Text(pattern) => self.texts.matches(pattern, text),
                    MetadataMatcher::Element(_) => false,
                })),
                Lookup::Value(Value::List(list)) => {
                    let elements = matchers.iter().filter_map(|matcher| match matcher {
                        MetadataMatcher::Text(_) => None,
                        MetadataMatcher::Element(pattern) => Some(pattern),
                    });
                    self.any_element(list, &elements)
                }
                Lookup::Value(Value::Other) | Lookup::Absent => Lookup::Absent,
                Lookup::Unreadable => Lookup::Unreadable,
            },
        }
    }

    /// Whether one of the patterns matches one of the texts.
    fn any_pattern(&self, text: &'r Text, polarity: Polarity, patterns: &[Pattern]) -> Lookup<bool> {
        match text {
            // A request has one value of each pseudo-header, and a host has further forms.
            Text::Header(name) if !name.starts_with(b":") => {
                if let Lookup::Value(values) = self.attributes.header(name)
                    && let Some(found) = self.many.header(name, &values, polarity, patterns)
                {
                    return Lookup::Value(found);
                }
            }
            Text::Header(_) | Text::Connection(_) => {}
            Text::Metadata(path) => match self.metadata(path) {
                Lookup::Value(Value::List(list)) => return self.any_element(list, &patterns.iter()),
                Lookup::Value(Value::String(text)) => {
                    return Lookup::Value(patterns.iter().any(|pattern| self.texts.matches(pattern, text)));
                }
                Lookup::Value(Value::Other) | Lookup::Absent => return Lookup::Absent,
                Lookup::Unreadable => return Lookup::Unreadable,
            },
        }
        self.any_text(text, polarity, &mut |text| patterns.iter().any(|pattern| pattern.matches(text)))
    }

    /// Whether one of the patterns matches a string in the list.
    fn any_element<'p>(&self, list: List<'r>, patterns: &(impl Iterator<Item = &'p Pattern> + Clone)) -> Lookup<bool> {
        if let Some(found) = self.many.list(list, patterns.clone()) {
            return Lookup::Value(found);
        }
        list.any_string(|element| patterns.clone().any(|pattern| pattern.matches(element)))
    }

    /// Compares each name of the peer in turn, until one matches. If none matches and one of them is unreadable, the
    /// answer is unreadable.
    pub(super) fn identity(&self, matchers: &[IdentityMatcher]) -> Lookup<bool> {
        let mut answer = Lookup::Absent;
        for which in PeerName::ALL {
            if which == PeerName::Subject && !matchers.iter().any(IdentityMatcher::takes_subjects) {
                continue;
            }
            match self.attributes.checked_peer_name(which) {
                Lookup::Value(name) if matchers.iter().any(|m| m.matches(name)) => return Lookup::Value(true),
                Lookup::Value(_) | Lookup::Absent => {}
                Lookup::Unreadable => answer = Lookup::Unreadable,
            }
        }
        answer
    }

    /// Whether one of the texts matches. `matches` receives them in order, up to and including the first that matches.
    /// If a match denies, it also receives the other forms of header values ([`forms`]).
    pub(super) fn any_text(
        &self,
        text: &'r Text,
        polarity: Polarity,
        matches: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Lookup<bool> {
        match text {
            Text::Connection(which) => self.attributes.text(*which).map(matches),
            Text::Header(name) => self.header(name, polarity, matches),
            Text::Metadata(path) => match self.metadata(path) {
                Lookup::Value(Value::String(text)) => Lookup::Value(text).map(matches),
                Lookup::Value(Value::List(list)) => list.any_string(matches),
                Lookup::Value(Value::Other) | Lookup::Absent => Lookup::Absent,
                Lookup::Unreadable => Lookup::Unreadable,
            },
        }
    }

    /// Whether one of the values of a header matches. If a match denies, all forms of the values count.
    pub(super) fn header(
        &self,
        name: &[u8],
        polarity: Polarity,
        matches: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Lookup<bool> {
        self.attributes.header(name).map(|mut values| match polarity {
            Polarity::Permits => values.any(matches),
            Polarity::Denies if name == b":authority" => values.any(|host| self.any_host(host, matches)),
            Polarity::Denies => values.any(|value| forms::any(name, value, matches)),
        })
    }

    /// Whether one of the forms of a host matches. The forms of a long host are made once.
    fn any_host(&self, host: &[u8], matches: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        const LONG: usize = 64;
        if host.len() < LONG {
            return forms::any(b":authority", host, matches);
        }
        let Hosts { address, forms, matches_all } = self.hosts.get_or_init(|| {
            let mut forms = Vec::new();
            let mut add = |form: &[u8]| {
                forms.push(form.into());
                false
            };
            let matches_all = forms::any(b":authority", host, &mut add);
            Hosts { address: host.as_ptr().addr(), forms, matches_all }
        });
        // A valid request has one host.
        if *address != host.as_ptr().addr() {
            return forms::any(b":authority", host, matches);
        }
        forms.iter().any(|form| matches(form)) || *matches_all
    }

    /// A value in dynamic metadata. It must be a string; any other value is absent.
    pub(super) fn string(&self, path: &'r MetadataPath) -> Lookup<&'r [u8]> {
        self.metadata(path).and_then(|value| match value {
            Value::String(text) => Lookup::Value(text),
            Value::List(_) | Value::Other => Lookup::Absent,
        })
    }

    /// The path, without query and fragment. A valid request has at most one path. If there are two, the path is
    /// unreadable.
    pub(super) fn path(&self) -> Lookup<&'r [u8]> {
        *self.path.get_or_init(|| {
            self.attributes.header(b":path").and_then(|mut values| match (values.next(), values.next()) {
                (Some(path), None) => Lookup::Value(without_query(path)),
                (None, _) => Lookup::Absent,
                (Some(_), Some(_)) => Lookup::Unreadable,
            })
        })
    }

    /// Whether a rule for these methods can match.
    pub(super) fn has_method_of(&self, methods: Methods) -> bool {
        methods == Methods::ALL || self.methods.get_or_init(|| Methods::of_request(self)).can_match(methods)
    }

    /// The path as text. Bytes that are not UTF-8 become the replacement character.
    pub(super) fn path_text(&self) -> &str {
        self.path_text.get_or_init(|| String::from_utf8_lossy(self.path().known().unwrap_or_default()))
    }

    /// A value in dynamic metadata.
    pub(super) fn metadata(&self, path: &'r MetadataPath) -> Lookup<Value<'r>> {
        self.attributes.metadata().and_then(|metadata| metadata.get_with(&self.maps, &path.filter, &path.keys))
    }

    /// The attributes of the request.
    pub(crate) fn attributes(&self) -> &'r A {
        self.attributes
    }
}
