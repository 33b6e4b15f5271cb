//! The access predicates of a rule: sets of keys. A request that matches the rule has at least one key of each set.
//!
//! | an access predicate of | is | because |
//! | --- | --- | --- |
//! | a test for a match, if each of its values has a key | the keys of all its values | one of the values must match |
//! | a group of tests | the predicate of any one of its tests | all tests must hold |
//! | a clause | the union of one predicate for each of its groups | one of the groups must hold |
//! | a rule | the predicate of any one of its clauses | all clauses must hold |
//!
//! A test of `not` values has no access predicate. Most tests for presence (`*`) have none either.
//!
//! A key may require less than its test. For example, a test for a service account may be filed under the namespace
//! alone. The evaluator checks the rest.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use fnv::FnvBuildHasher;

use crate::engine::compile::{Check, CompiledRule, Expected, Group, MetadataPath, PathMatcher, Test, Text};
use crate::identity::IdentityMatcher;
use crate::matcher::Pattern;
use crate::matcher::template::Template;
use crate::policy::Cidr;
use crate::request::Address;

/// Something that requests are looked up by. Most dimensions are attributes of the policy language. Some are parts of a
/// peer's name, and a request principal consists of two values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Dimension {
    /// The path, without query and fragment.
    Path,
    /// `:authority`. Upper and lower case are equal.
    Host,
    DestinationPort,
    Address(Address),
    Text(Text),
    /// A whole name of the peer.
    PeerName,
    /// The part of a peer's name between `/ns/` and the next slash.
    PeerNamespace,
    /// The part of a peer's name between `/sa/` and the next slash.
    PeerAccount,
    /// A request principal, looked up by the first of these two claims. If the second claim is unreadable, the lookup
    /// is inconclusive.
    RequestPrincipal(Arc<MetadataPath>, Arc<MetadataPath>),
}

impl Dimension {
    pub(super) const HIGHEST_COST: u8 = 10;

    pub(super) fn hash(&self) -> u64 {
        FnvBuildHasher::new().hash_one(self)
    }

    /// The relative cost of getting the value from the host. Cheaper dimensions are looked up first.
    pub(super) fn cost(&self) -> u8 {
        match self {
            Self::Path => 0,
            Self::Host => 1,
            Self::Text(Text::Header(_)) => 2,
            Self::DestinationPort => 3,
            Self::Address(_) => 4,
            Self::Text(Text::Connection(_)) => 5,
            Self::PeerName => 6,
            Self::PeerNamespace => 7,
            Self::PeerAccount => 8,
            Self::Text(Text::Metadata(_)) => 9,
            Self::RequestPrincipal(..) => Self::HIGHEST_COST,
        }
    }
}

/// One value of a dimension, or all values of one form, such as all values with a certain prefix.
#[derive(Clone, Copy, Debug)]
pub(super) enum Key<'r> {
    Exact(&'r [u8]),
    Prefix(&'r [u8]),
    Suffix(&'r [u8]),
    Template(&'r Template),
    Port(u16),
    Block(&'r Cidr),
}

/// The keys of one test in one dimension.
type Keys<'r> = (Dimension, Vec<Key<'r>>);

/// The number of keys in all tests of the rule.
pub(super) fn keys(rule: &CompiledRule) -> usize {
    let mut keys: usize = 0;
    each_key(rule, &[], &mut |_, _| keys = keys.saturating_add(1));
    keys
}

/// Calls `each` for every key of every test of the rule, except keys of the `used` dimensions.
pub(super) fn each_key<'r>(rule: &'r CompiledRule, used: &[Dimension], each: &mut dyn FnMut(&Dimension, &Key<'r>)) {
    for (dimension, keys) in rule.tests().flat_map(|test| of_test(test, used)) {
        for key in keys {
            each(&dimension, &key);
        }
    }
}

/// Chooses the rule's narrowest access predicate: the one with the smallest share. Returns the share and the keys.
///
/// The function `share` estimates the share of a key: how many rules a lookup finds for a request that has this key.
/// The share of a predicate is the largest share of its keys. All shares up to `few` count as equal. Among the tests of
/// a group with equal shares, the one with the cheapest dimension wins. Keys of the `used` dimensions are left out.
pub(super) fn narrowest<'r>(
    rule: &'r CompiledRule,
    used: &[Dimension],
    few: usize,
    share: &dyn Fn(&Dimension, &Key<'r>) -> usize,
) -> Option<(usize, Vec<(Dimension, Key<'r>)>)> {
    let of_keys = |(dimension, keys): Keys<'r>| {
        let largest = keys.iter().map(|key| share(&dimension, key)).max().unwrap_or(0);
        (largest, dimension, keys)
    };
    let of_group = |tests: &'r [Test]| {
        let all = tests.iter().flat_map(|test| of_test(test, used)).map(of_keys);
        // The hash decides at last, so that the order of the tests does not matter.
        all.min_by_key(|(share, dimension, _)| (few.max(*share), dimension.cost(), dimension.hash()))
    };
    let of_clause = |groups: &'r [Group]| {
        let mut largest = 0;
        let mut access = Vec::new();
        for tests in groups {
            let (share, dimension, keys) = of_group(tests)?;
            largest = largest.max(share);
            access.extend(keys.into_iter().map(|key| (dimension.clone(), key)));
        }
        Some((largest, access))
    };
    let clauses = rule.to.iter().chain(&rule.from).map(|groups| &**groups);
    let conditions = std::slice::from_ref(&rule.when);
    clauses.chain(std::iter::once(conditions)).filter_map(of_clause).min_by_key(|(share, _)| few.max(*share))
}

/// The dimensions under which the test can be filed, each with its keys. There may be several; the caller chooses one.
fn of_test<'r>(test: &'r Test, used: &[Dimension]) -> Vec<Keys<'r>> {
    if test.expected == Expected::NoMatch {
        return Vec::new();
    }
    let mut all = of_check(&test.check);
    all.retain(|(dimension, _)| !used.contains(dimension));
    all
}

fn of_check(check: &Check) -> Vec<Keys<'_>> {
    let patterns = |dimension, patterns| one(dimension, keyed(patterns, pattern));
    match check {
        Check::Identity(matchers) => {
            let mut keys = one(Dimension::PeerName, keyed(matchers, name));
            keys.extend(one(Dimension::PeerNamespace, keyed(matchers, namespace)));
            keys.extend(one(Dimension::PeerAccount, keyed(matchers, account)));
            keys
        }
        Check::Address(which, blocks) => {
            one(Dimension::Address(*which), keyed(blocks, |block| Some(Key::Block(block))))
        }
        Check::DestinationPort(ports) => one(Dimension::DestinationPort, keyed(ports, |port| Some(Key::Port(*port)))),
        Check::Text(text, values) => patterns(Dimension::Text(text.clone()), values),
        Check::Host(values) => patterns(Dimension::Host, values),
        Check::Path(matchers) => one(Dimension::Path, keyed(matchers, path)),
        Check::RequestPrincipal { issuer, subject, matchers } => {
            let of_issuer = keyed(matchers, |matcher| pattern(&matcher.issuer));
            let of_subject = keyed(matchers, |matcher| pattern(&matcher.subject));
            let mut keys = one(Dimension::RequestPrincipal(Arc::clone(subject), Arc::clone(issuer)), of_subject);
            keys.extend(one(Dimension::RequestPrincipal(Arc::clone(issuer), Arc::clone(subject)), of_issuer));
            keys
        }
        Check::Metadata(path, matchers) => one(
            Dimension::Text(Text::Metadata(Arc::clone(path))),
            keyed(matchers, |matcher| pattern(matcher.pattern())),
        ),
    }
}

fn one(dimension: Dimension, keys: Option<Vec<Key<'_>>>) -> Vec<Keys<'_>> {
    keys.map(|keys| (dimension, keys)).into_iter().collect()
}

/// The keys of all values. `None` if one of the values has no key: a request could match this value and have none of
/// the keys.
// A pointer to a function, and not a type for each: then the module has this code less often.
fn keyed<'r, T>(values: &'r [T], key: fn(&'r T) -> Option<Key<'r>>) -> Option<Vec<Key<'r>>> {
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

fn one_segment(text: &[u8]) -> Option<&[u8]> {
    if text.contains(&b'/') { None } else { Some(text) }
}
