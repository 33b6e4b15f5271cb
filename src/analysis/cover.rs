//! Compares rules without a request: whether one rule matches every request that another rule matches, and whether a
//! rule can match at all.
//!
//! A rule is a set of alternatives. An alternative consists of one source, one operation, and all conditions.
//!
//! If these functions claim something, it holds for every request. If they cannot show it, they do not claim it. There
//! is one exception. Where a match permits, a wildcard accepts text only ([`crate::matcher::Wildcard`]), but here it is
//! treated as if it accepted every byte and so covered prefixes and suffixes. This makes a difference only for a
//! request that has a line feed, or bytes that are not UTF-8, in a place where nobody intends to allow them.

use crate::attribute::Cardinality;
use crate::engine::compile::{
    Check, CompiledRule, Expected, Groups, MetadataMatcher, PathMatcher, RequestPrincipalMatcher, Test, Text,
};
use crate::identity::IdentityMatcher;
use crate::matcher::template::{Tail, Template};
use crate::matcher::{Pattern, Polarity};
use crate::policy::Cidr;

/// One way to match a rule: the tests of a source, of an operation, and of all conditions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alternative<'r>([&'r [Test]; 3]);

impl<'r> Alternative<'r> {
    pub(super) fn tests(self) -> impl Iterator<Item = &'r Test> + Clone {
        self.0.into_iter().flatten()
    }

    /// Whether this alternative matches every request that the other one matches.
    fn covers(self, other: Self) -> bool {
        self.tests().all(|test| other.tests().any(|stronger| implies(stronger, test)))
    }

    /// Whether no request can match.
    fn is_contradictory(self) -> bool {
        self.tests().any(|one| self.tests().any(|other| exclude_each_other(one, other)))
    }

    /// Whether a test compares the identity of the peer and expects this result.
    fn identity(self, expected: Expected) -> bool {
        self.tests().any(|test| matches!(test.check, Check::Identity(_)) && test.expected == expected)
    }
}

impl CompiledRule {
    /// All ways to match the rule.
    pub(super) fn alternatives(&self) -> impl Iterator<Item = Alternative<'_>> {
        choices(self.from.as_ref()).flat_map(move |source| {
            choices(self.to.as_ref()).map(move |operation| Alternative([source, operation, &self.when]))
        })
    }

    /// Whether this rule matches every request that the other rule matches.
    ///
    /// There is one exception: where a match permits, a wildcard does not match a line feed or bytes that are not
    /// UTF-8, but here it is treated as if it did. This makes a difference only for a request that has such bytes in a
    /// place where nobody intends to allow them.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        // If both rules have many alternatives, comparing every pair of them is too much work.
        const MANY: usize = 4096;
        if self.count().saturating_mul(other.count()) > MANY {
            return self.covers_clause_by_clause(other);
        }
        other.alternatives().all(|theirs| self.alternatives().any(|ours| ours.covers(theirs)))
    }

    /// Like [`Self::covers`], but compares clause by clause: sources with sources, operations with operations,
    /// conditions with conditions. It costs less and shows less.
    fn covers_clause_by_clause(&self, other: &Self) -> bool {
        let clause = |ours: Option<&Groups>, theirs: Option<&Groups>| {
            let only = |tests| Alternative([tests, &[], &[]]);
            choices(theirs).all(|theirs| {
                let with_conditions = Alternative([theirs, &[], &other.when]);
                choices(ours).any(|ours| only(ours).covers(with_conditions))
            })
        };
        clause(self.from.as_ref(), other.from.as_ref())
            && clause(self.to.as_ref(), other.to.as_ref())
            && Alternative([&[], &[], &self.when]).covers(Alternative([&[], &[], &other.when]))
    }

    /// The number of alternatives.
    fn count(&self) -> usize {
        choices(self.from.as_ref()).count().saturating_mul(choices(self.to.as_ref()).count())
    }

    /// Whether the rule matches every request.
    #[must_use]
    pub fn is_unconditional(&self) -> bool {
        self.alternatives().any(|alternative| alternative.tests().next().is_none())
    }

    /// Whether no request can match the rule.
    #[must_use]
    pub fn never_matches(&self) -> bool {
        self.alternatives().all(Alternative::is_contradictory)
    }

    /// Whether every alternative requires a certain identity, so that no peer without an identity matches.
    #[must_use]
    pub fn needs_identity(&self) -> bool {
        self.alternatives().all(|alternative| alternative.identity(Expected::Match))
    }

    /// Whether some alternative requires a certain identity.
    #[must_use]
    pub fn can_need_identity(&self) -> bool {
        self.alternatives().any(|alternative| alternative.identity(Expected::Match))
    }

    /// Whether the rule matches every request of a peer without an identity.
    #[must_use]
    pub fn takes_all_plaintext(&self) -> bool {
        let holds = |test: &Test| matches!(test.check, Check::Identity(_)) && test.expected == Expected::NoMatch;
        self.alternatives().any(|alternative| alternative.tests().all(holds))
    }

    /// Whether some alternative only excludes certain identities and requires none. It does not exclude a peer without
    /// an identity.
    #[must_use]
    pub fn only_excludes_identities(&self) -> bool {
        let is_such = |alternative: Alternative<'_>| {
            alternative.identity(Expected::NoMatch) && !alternative.identity(Expected::Match)
        };
        self.alternatives().any(is_such)
    }
}

/// The groups of tests of a clause. An absent clause has one group, without tests.
fn choices(groups: Option<&Groups>) -> impl Iterator<Item = &[Test]> {
    let absent: Option<&[Test]> = groups.is_none().then_some(&[]);
    groups.into_iter().flatten().map(|tests| &**tests).chain(absent)
}

/// Whether `test` holds whenever `stronger` does.
fn implies(stronger: &Test, test: &Test) -> bool {
    match (stronger.expected, test.expected) {
        (Expected::Match, Expected::Match) => covers(&test.check, &stronger.check),
        (Expected::NoMatch, Expected::NoMatch) => covers(&stronger.check, &test.check),
        // The attribute has only one value. It matches a value of `stronger`, so it cannot match a value of `test`.
        (Expected::Match, Expected::NoMatch) => has_one_value(test) && disjoint(&stronger.check, &test.check),
        // `stronger` also holds if the attribute is absent, but `test` does not.
        (Expected::NoMatch, Expected::Match) => false,
    }
}

/// Whether the two tests cannot both hold.
fn exclude_each_other(one: &Test, other: &Test) -> bool {
    match (one.expected, other.expected) {
        (Expected::Match, Expected::NoMatch) => covers(&other.check, &one.check),
        (Expected::Match, Expected::Match) => has_one_value(one) && disjoint(&one.check, &other.check),
        (Expected::NoMatch, _) => false,
    }
}

/// Whether a request has at most one value for this test.
fn has_one_value(Test { check, attribute, .. }: &Test) -> bool {
    match check {
        // These headers have one value, whichever field or condition asks for them.
        Check::Text(Text::Header(name), _) => matches!(&**name, b":method" | b":path" | b":authority"),
        _ => attribute.info().cardinality == Cardinality::Single,
    }
}

/// Whether both checks look at the same thing, and some value of `wide` covers each value of `narrow`.
fn covers(wide: &Check, narrow: &Check) -> bool {
    fn all<T>(wide: &[T], narrow: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
        narrow.iter().all(|narrow| wide.iter().any(|wide| covers(wide, narrow)))
    }
    match (wide, narrow) {
        (Check::Identity(wide), Check::Identity(narrow)) => all(wide, narrow, identity_covers),
        (Check::Address(which, wide), Check::Address(other, narrow)) => {
            which == other && all(wide, narrow, block_covers)
        }
        (Check::DestinationPort(wide), Check::DestinationPort(narrow)) => all(wide, narrow, |a, b| a == b),
        (Check::Text(text, wide), Check::Text(other, narrow)) => text == other && all(wide, narrow, pattern_covers),
        (Check::Host(wide), Check::Host(narrow)) => {
            all(wide, narrow, |wide, narrow| pattern_covers(&lower_case(wide), &lower_case(narrow)))
        }
        (Check::Path(wide), Check::Path(narrow)) => all(wide, narrow, path_covers),
        (
            Check::RequestPrincipal { issuer, subject, matchers: wide },
            Check::RequestPrincipal { issuer: other_issuer, subject: other_subject, matchers: narrow },
        ) => {
            let both = |wide: &RequestPrincipalMatcher, narrow: &RequestPrincipalMatcher| {
                pattern_covers(&wide.issuer, &narrow.issuer) && pattern_covers(&wide.subject, &narrow.subject)
            };
            issuer == other_issuer && subject == other_subject && all(wide, narrow, both)
        }
        (Check::Metadata(path, wide), Check::Metadata(other, narrow)) => {
            let same_kind = |wide: &MetadataMatcher, narrow: &MetadataMatcher| match (wide, narrow) {
                (MetadataMatcher::Text(wide), MetadataMatcher::Text(narrow))
                | (MetadataMatcher::Element(wide), MetadataMatcher::Element(narrow)) => pattern_covers(wide, narrow),
                (MetadataMatcher::Text(_), MetadataMatcher::Element(_))
                | (MetadataMatcher::Element(_), MetadataMatcher::Text(_)) => false,
            };
            path == other && all(wide, narrow, same_kind)
        }
        _ => false,
    }
}

/// Whether both checks look at the same thing, and nothing matches a value of each. Two patterns are seen to be
/// disjoint only if one is exact, or if both are prefixes or both are suffixes.
fn disjoint(one: &Check, other: &Check) -> bool {
    fn none<T>(ones: &[T], others: &[T], disjoint: impl Fn(&T, &T) -> bool) -> bool {
        ones.iter().all(|one| others.iter().all(|other| disjoint(one, other)))
    }
    match (one, other) {
        (Check::Address(which, ones), Check::Address(other, others)) if which == other => {
            none(ones, others, |a, b| !block_covers(a, b) && !block_covers(b, a))
        }
        (Check::DestinationPort(ones), Check::DestinationPort(others)) => none(ones, others, |a, b| a != b),
        (Check::Host(ones), Check::Host(others)) => {
            none(ones, others, |one, other| pattern_excludes(&lower_case(one), &lower_case(other)))
        }
        (Check::Path(ones), Check::Path(others)) => none(ones, others, path_excludes),
        (Check::Text(text, ones), Check::Text(other, others)) if text == other => none(ones, others, pattern_excludes),
        _ => false,
    }
}

fn block_covers(wide: &Cidr, narrow: &Cidr) -> bool {
    wide.address.is_ipv4() == narrow.address.is_ipv4() && wide.prefix <= narrow.prefix && wide.contains(narrow.address)
}

fn pattern_covers(wide: &Pattern, narrow: &Pattern) -> bool {
    match (wide, narrow) {
        (Pattern::Present, _) | (Pattern::NonEmpty(_), Pattern::NonEmpty(_)) => true,
        (Pattern::NonEmpty(_), Pattern::Exact(text) | Pattern::Prefix(text) | Pattern::Suffix(text)) => {
            !text.is_empty()
        }
        (Pattern::Exact(wide), Pattern::Exact(narrow)) => wide == narrow,
        (Pattern::Prefix(wide), Pattern::Exact(narrow) | Pattern::Prefix(narrow)) => narrow.starts_with(wide),
        (Pattern::Suffix(wide), Pattern::Exact(narrow) | Pattern::Suffix(narrow)) => narrow.ends_with(wide),
        _ => false,
    }
}

fn pattern_excludes(one: &Pattern, other: &Pattern) -> bool {
    match (one, other) {
        (Pattern::Exact(text), pattern) | (pattern, Pattern::Exact(text)) => !pattern.matches(text),
        (Pattern::Prefix(one), Pattern::Prefix(other)) => !one.starts_with(other) && !other.starts_with(one),
        (Pattern::Suffix(one), Pattern::Suffix(other)) => !one.ends_with(other) && !other.ends_with(one),
        _ => false,
    }
}

/// The pattern in lower case. Hosts are compared without regard to case.
fn lower_case(pattern: &Pattern) -> Pattern {
    match pattern {
        Pattern::Present | Pattern::NonEmpty(_) => pattern.clone(),
        Pattern::Exact(text) => Pattern::Exact(text.to_ascii_lowercase().into()),
        Pattern::Prefix(text) => Pattern::Prefix(text.to_ascii_lowercase().into()),
        Pattern::Suffix(text) => Pattern::Suffix(text.to_ascii_lowercase().into()),
    }
}

fn path_covers(wide: &PathMatcher, narrow: &PathMatcher) -> bool {
    match (wide, narrow) {
        (PathMatcher::Text(wide), PathMatcher::Text(narrow)) => pattern_covers(wide, narrow),
        (PathMatcher::Text(wide), PathMatcher::Template(narrow)) => {
            pattern_covers(wide, &Pattern::Prefix(head(narrow).into()))
        }
        (PathMatcher::Template(wide), PathMatcher::Text(Pattern::Exact(text))) => wide.matches(text),
        (PathMatcher::Template(wide), PathMatcher::Text(Pattern::Prefix(text))) => {
            prefix(wide).is_some_and(|wide| text.starts_with(wide))
        }
        (PathMatcher::Template(wide), PathMatcher::Template(narrow)) => {
            wide.parts() == narrow.parts() || prefix(wide).is_some_and(|wide| head(narrow).starts_with(wide))
        }
        (PathMatcher::Template(_), PathMatcher::Text(_)) => false,
    }
}

fn path_excludes(one: &PathMatcher, other: &PathMatcher) -> bool {
    match (one, other) {
        (PathMatcher::Text(one), PathMatcher::Text(other)) => pattern_excludes(one, other),
        (PathMatcher::Template(template), PathMatcher::Text(Pattern::Exact(text)))
        | (PathMatcher::Text(Pattern::Exact(text)), PathMatcher::Template(template)) => !template.matches(text),
        _ => false,
    }
}

/// A prefix of every path that the template matches.
fn head(template: &Template) -> &[u8] {
    match template.parts() {
        ([first, ..], _) | ([], Tail::Literal(first) | Tail::Any(first, _)) => first,
    }
}

/// If the template matches exactly the paths with a certain prefix: that prefix.
fn prefix(template: &Template) -> Option<&[u8]> {
    match template.parts() {
        ([], Tail::Any(before, behind)) if behind.is_empty() && template.polarity() == Polarity::Denies => Some(before),
        _ => None,
    }
}

fn identity_covers(wide: &IdentityMatcher, narrow: &IdentityMatcher) -> bool {
    match (wide, narrow) {
        // No other matcher matches an empty name.
        (IdentityMatcher::Any(_), _) => true,
        (_, IdentityMatcher::Exact(name)) => wide.matches(name),
        (IdentityMatcher::Prefix(wide), IdentityMatcher::Prefix(narrow)) => narrow.starts_with(wide),
        (IdentityMatcher::Prefix(wide), IdentityMatcher::TrustDomain { before, .. }) => before.starts_with(wide),
        (IdentityMatcher::Suffix(wide, _), IdentityMatcher::Suffix(narrow, _)) => narrow.ends_with(wide),
        (IdentityMatcher::Namespace(wide, _), IdentityMatcher::Namespace(narrow, _)) => wide == narrow,
        (IdentityMatcher::Namespace(pieces, _), IdentityMatcher::ServiceAccount { namespace, .. }) => {
            matches!(&**pieces, [whole] if whole == namespace)
        }
        (
            IdentityMatcher::ServiceAccount { namespace, account, .. },
            IdentityMatcher::ServiceAccount { namespace: other_namespace, account: other_account, .. },
        ) => namespace == other_namespace && account == other_account,
        (
            IdentityMatcher::TrustDomain { before, after, .. },
            IdentityMatcher::TrustDomain { before: other_before, after: other_after, .. },
        ) => before == other_before && after == other_after,
        _ => false,
    }
}
