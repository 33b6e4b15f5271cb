//! The access predicates of a rule: values of which a request that matches the rule must have one.
//!
//! Every test for a match, of an attribute with values to look up, is one for its group; a clause of several groups
//! takes one from each; and since all clauses of a rule must hold, any clause can stand for the rule. What a test is
//! filed under may be less than it asks for (a namespace, where the service account counts as well): the evaluator asks
//! for the rest.

use std::sync::Arc;

use super::table::{Found, Table};
use crate::engine::compile::{Check, Expected, MetadataPath, PathMatcher, RequestPrincipal, Rule, Test, Tests};
use crate::engine::evaluate::Evaluation;
use crate::identity::IdentityMatcher;
use crate::matcher::Pattern;
use crate::matcher::template::Template;
use crate::policy::Cidr;
use crate::request::metadata::Value;
use crate::request::{Attributes, Lookup, PeerName};

/// What requests are looked up by; the cheapest to ask for come first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Attribute {
    /// Without query and fragment.
    Path,
    /// Letters of either case alike.
    Host,
    Header(Arc<[u8]>),
    DestinationPort,
    DestinationIp,
    RemoteIp,
    SourceIp,
    Sni,
    /// A whole name.
    PeerName,
    /// What stands behind `/ns/` in a name, up to the next slash.
    PeerNamespace,
    /// What stands behind `/sa/` in a name, up to the next slash.
    PeerAccount,
    Metadata(Arc<MetadataPath>),
    /// The request principal, by one of its two claims: the first, while the second can be read as well. What is known of
    /// one says nothing while the other is unreadable.
    RequestPrincipal(Arc<MetadataPath>, Arc<MetadataPath>),
}

/// A value, or the values of one form, of an attribute.
#[derive(Clone, Copy, Debug)]
pub(super) enum Key<'r> {
    Exact(&'r [u8]),
    Prefix(&'r [u8]),
    Suffix(&'r [u8]),
    Template(&'r Template),
    Port(u16),
    Block(&'r Cidr),
}

/// The index cannot tell which rules to look at: an attribute could not be read, or it has found too many.
#[derive(Debug)]
pub(super) struct NoHelp;

/// What comes of looking something up.
pub(super) type Looked = Result<(), NoHelp>;

/// The keys of one test.
type Keys<'r> = (Attribute, Vec<Key<'r>>);

/// How many keys a rule has in all.
pub(super) fn keys(rule: &Rule) -> usize {
    let mut keys: usize = 0;
    each_key(rule, &[], &mut |_, _| keys = keys.saturating_add(1));
    keys
}

/// Every key of every test of the rule.
pub(super) fn each_key<'r>(rule: &'r Rule, used: &[Attribute], each: &mut dyn FnMut(&Attribute, &Key<'r>)) {
    for (attribute, keys) in rule.tests().flat_map(|test| of_test(test, used)) {
        for key in keys {
            each(&attribute, &key);
        }
    }
}

/// The rule's narrowest access predicate, and its share: how many rules a request may find by one of its keys, of which
/// the largest counts. `share` says that of a key. Shares of `few` and less are alike: then the attribute that costs less to
/// ask for is taken.
pub(super) fn narrowest<'r>(
    rule: &'r Rule,
    used: &[Attribute],
    few: usize,
    share: &dyn Fn(&Attribute, &Key<'r>) -> usize,
) -> Option<(usize, Vec<(Attribute, Key<'r>)>)> {
    let of_keys = |(attribute, keys): Keys<'r>| {
        let largest = keys.iter().map(|key| share(&attribute, key)).max().unwrap_or(0);
        (largest, attribute, keys)
    };
    let of_group = |tests: &'r [Test]| {
        let all = tests.iter().flat_map(|test| of_test(test, used)).map(of_keys);
        all.min_by(|(one, first, _), (other, second, _)| (few.max(*one), first).cmp(&(few.max(*other), second)))
    };
    let of_clause = |groups: &'r [Tests]| {
        let mut largest = 0;
        let mut access = Vec::new();
        for tests in groups {
            let (share, attribute, keys) = of_group(tests)?;
            largest = largest.max(share);
            access.extend(keys.into_iter().map(|key| (attribute.clone(), key)));
        }
        Some((largest, access))
    };
    let clauses = rule.to.iter().chain(&rule.from).map(|groups| &**groups);
    let conditions = std::slice::from_ref(&rule.when);
    clauses.chain(std::iter::once(conditions)).filter_map(of_clause).min_by_key(|(share, _)| few.max(*share))
}

/// What a test can be filed under: nothing, one attribute, or a choice of two.
fn of_test<'r>(test: &'r Test, used: &[Attribute]) -> Vec<Keys<'r>> {
    if test.expected == Expected::NoMatch {
        return Vec::new();
    }
    let mut all = of_check(&test.check);
    all.retain(|(attribute, _)| !used.contains(attribute));
    all
}

fn of_check(check: &Check) -> Vec<Keys<'_>> {
    let patterns = |attribute, patterns| one(attribute, keyed(patterns, pattern));
    let blocks = |attribute, blocks| one(attribute, keyed(blocks, |block| Some(Key::Block(block))));
    match check {
        Check::Identity(matchers) => [
            (Attribute::PeerName, keyed(matchers, name)),
            (Attribute::PeerNamespace, keyed(matchers, namespace)),
            (Attribute::PeerAccount, keyed(matchers, account)),
        ]
        .into_iter()
        .flat_map(|(attribute, keys)| one(attribute, keys))
        .collect(),
        Check::SourceIp(values) => blocks(Attribute::SourceIp, values),
        Check::RemoteIp(values) => blocks(Attribute::RemoteIp, values),
        Check::DestinationIp(values) => blocks(Attribute::DestinationIp, values),
        Check::DestinationPort(ports) => one(Attribute::DestinationPort, keyed(ports, |port| Some(Key::Port(*port)))),
        Check::Sni(values) => patterns(Attribute::Sni, values),
        Check::Host(values) => patterns(Attribute::Host, values),
        Check::Path(matchers) => one(Attribute::Path, keyed(matchers, path)),
        Check::Header(name, values) => patterns(Attribute::Header(Arc::clone(name)), values),
        Check::RequestPrincipal { issuer, subject, matchers } => {
            let of_issuer = keyed(matchers, |matcher: &RequestPrincipal| pattern(&matcher.issuer));
            let of_subject = keyed(matchers, |matcher: &RequestPrincipal| pattern(&matcher.subject));
            let mut keys = one(Attribute::RequestPrincipal(Arc::clone(subject), Arc::clone(issuer)), of_subject);
            keys.extend(one(Attribute::RequestPrincipal(Arc::clone(issuer), Arc::clone(subject)), of_issuer));
            keys
        }
        Check::Claim(path, values) => patterns(Attribute::Metadata(Arc::clone(path)), values),
        Check::Metadata(path, matchers) => {
            one(Attribute::Metadata(Arc::clone(path)), keyed(matchers, |matcher| pattern(matcher.pattern())))
        }
    }
}

fn one(attribute: Attribute, keys: Option<Vec<Key<'_>>>) -> Vec<Keys<'_>> {
    keys.map(|keys| (attribute, keys)).into_iter().collect()
}

/// The keys of all values, if each has one.
fn keyed<'r, T>(values: &'r [T], key: impl Fn(&'r T) -> Option<Key<'r>>) -> Option<Vec<Key<'r>>> {
    values.iter().map(key).collect()
}

fn pattern(pattern: &Pattern) -> Option<Key<'_>> {
    match pattern {
        Pattern::Present | Pattern::NonEmpty(_) => None,
        Pattern::Exact(exact) => Some(Key::Exact(exact)),
        Pattern::Prefix(prefix) => Some(Key::Prefix(prefix)),
        Pattern::Suffix(suffix) => Some(Key::Suffix(suffix)),
    }
}

fn path(matcher: &PathMatcher) -> Option<Key<'_>> {
    match matcher {
        PathMatcher::Text(text) => pattern(text),
        PathMatcher::Template(template) => Some(Key::Template(template)),
    }
}

fn name(matcher: &IdentityMatcher) -> Option<Key<'_>> {
    match matcher {
        IdentityMatcher::Exact(exact) => Some(Key::Exact(exact)),
        IdentityMatcher::Prefix(prefix) | IdentityMatcher::TrustDomain { before: prefix, .. } => {
            Some(Key::Prefix(prefix))
        }
        IdentityMatcher::Suffix(suffix, _) => Some(Key::Suffix(suffix)),
        IdentityMatcher::Any(_) | IdentityMatcher::Namespace(..) | IdentityMatcher::ServiceAccount { .. } => None,
    }
}

fn namespace(matcher: &IdentityMatcher) -> Option<Key<'_>> {
    match matcher {
        IdentityMatcher::Namespace(pieces, _) => match &**pieces {
            [whole] => Some(Key::Exact(one_segment(whole.strip_prefix(NAMESPACE)?.strip_suffix(b"/")?)?)),
            [first, ..] => Some(Key::Prefix(one_segment(first.strip_prefix(NAMESPACE)?)?)),
            [] => None,
        },
        IdentityMatcher::ServiceAccount { namespace, .. } => {
            Some(Key::Exact(one_segment(namespace.strip_prefix(NAMESPACE)?.strip_suffix(b"/")?)?))
        }
        IdentityMatcher::Any(_)
        | IdentityMatcher::Exact(_)
        | IdentityMatcher::Prefix(_)
        | IdentityMatcher::Suffix(..)
        | IdentityMatcher::TrustDomain { .. } => None,
    }
}

fn account(matcher: &IdentityMatcher) -> Option<Key<'_>> {
    match matcher {
        IdentityMatcher::ServiceAccount { account, .. } => {
            Some(Key::Exact(one_segment(account.strip_prefix(b"sa/")?)?))
        }
        IdentityMatcher::Any(_)
        | IdentityMatcher::Exact(_)
        | IdentityMatcher::Prefix(_)
        | IdentityMatcher::Suffix(..)
        | IdentityMatcher::Namespace(..)
        | IdentityMatcher::TrustDomain { .. } => None,
    }
}

const NAMESPACE: &[u8] = b"/ns/";
const ACCOUNT: &[u8] = b"/sa/";

/// The names that a value other than a namespace can match ([`IdentityMatcher::takes_subjects`]).
const BEFORE_SUBJECT: [PeerName; 3] = [PeerName::Uri, PeerName::FurtherUris, PeerName::Dns];

fn one_segment(text: &[u8]) -> Option<&[u8]> {
    if text.contains(&b'/') { None } else { Some(text) }
}

/// What stands behind each occurrence of `marker`, up to the next slash.
fn segments<'n>(name: &'n [u8], marker: &[u8]) -> impl Iterator<Item = &'n [u8]> {
    name.windows(marker.len()).enumerate().filter(move |(_, window)| *window == marker).filter_map(move |(at, _)| {
        let behind = name.get(at.checked_add(marker.len())?..)?;
        behind.split(|b| *b == b'/').next()
    })
}

impl Attribute {
    /// Hands out what is filed under the values that the request has.
    pub(super) fn look_up<A: Attributes>(
        &self,
        table: &Table,
        evaluation: &Evaluation<'_, A>,
        found: Found<'_>,
    ) -> Looked {
        let request = evaluation.attributes();
        match self {
            Self::Path => each(evaluation.path(), |path| table.path(path, found)),
            Self::Host => each(request.header(b":authority"), |mut values| {
                values.try_for_each(|value| table.text_ignoring_case(value, found))
            }),
            Self::Header(name) => {
                each(request.header(name), |mut values| values.try_for_each(|value| table.text(value, found)))
            }
            Self::DestinationPort => each(request.destination_port(), |port| table.port(port, found)),
            Self::DestinationIp => each(request.destination_ip(), |address| table.address(address, found)),
            Self::RemoteIp => each(request.remote_ip(), |address| table.address(address, found)),
            Self::SourceIp => each(request.source_ip(), |address| table.address(address, found)),
            Self::Sni => each(request.sni(), |name| table.text(name, found)),
            Self::PeerName => each_name(evaluation, &BEFORE_SUBJECT, |name| table.text(name, found)),
            Self::PeerNamespace => each_name(evaluation, &PeerName::ALL, |name| {
                segments(name, NAMESPACE).try_for_each(|segment| table.text(segment, found))
            }),
            Self::PeerAccount => each_name(evaluation, &BEFORE_SUBJECT, |name| {
                segments(name, ACCOUNT).try_for_each(|segment| table.text(segment, found))
            }),
            Self::Metadata(path) => each(evaluation.metadata(path), |value| match value {
                Value::String(text) => table.text(text, found),
                Value::List(list) => {
                    let mut result = Ok(());
                    let complete = list.any_string(|text| {
                        result = table.text(text, found);
                        result.is_err()
                    });
                    if complete == Lookup::Unreadable { Err(NoHelp) } else { result }
                }
                Value::Other => Ok(()),
            }),
            Self::RequestPrincipal(by, with) => {
                each(evaluation.string(with), |_| Ok(()))?;
                each(evaluation.string(by), |text| table.text(text, found))
            }
        }
    }
}

fn each<T>(value: Lookup<T>, look_up: impl FnOnce(T) -> Looked) -> Looked {
    match value {
        Lookup::Value(value) => look_up(value),
        Lookup::Absent => Ok(()),
        Lookup::Unreadable => Err(NoHelp),
    }
}

fn each_name<'r, A: Attributes>(
    evaluation: &Evaluation<'r, A>,
    names: &[PeerName],
    mut look_up: impl FnMut(&'r [u8]) -> Looked,
) -> Looked {
    names.iter().try_for_each(|which| each(evaluation.peer_name(*which), &mut look_up))
}
