//! From the rules of a policy to tests.
//!
//! A field or condition becomes up to two tests, one for its values and one for its `not` values. Each test knows
//! from here on whether a match of its values permits or denies, so that nothing about polarity is left to decide when
//! a request comes.

use std::sync::Arc;

use super::{Options, RuleId};
use crate::identity::{IdentityMatcher, TrustDomains};
use crate::matcher::template::Template;
use crate::matcher::{Pattern, Polarity, Wildcard};
use crate::policy::{
    Action, AllOf, AuthorizationPolicy, Cidr, Form, MetadataValue, PathValue, Predicate, ServiceAccount, Values,
};
use crate::request::metadata::JWT_AUTHN;

/// A rule, ready to be held against requests.
#[derive(Debug)]
pub struct Rule {
    id: RuleId,
    /// Sources; `None`: from anywhere.
    pub(super) from: Option<AnyOf>,
    /// Operations; `None`: anything.
    pub(super) to: Option<AnyOf>,
    /// Conditions.
    pub(super) when: Tests,
}

/// Tests that must all hold.
pub(super) type Tests = Box<[Test]>;

/// Groups of tests, one of which must hold.
pub(super) type AnyOf = Box<[Tests]>;

impl Rule {
    /// The rule's name.
    #[must_use]
    pub fn id(&self) -> &RuleId {
        &self.id
    }

    /// The same rule, as one of the policy with this number.
    pub(super) fn of_policy(mut self, number: u32) -> Self {
        self.id.policy_number = number;
        self
    }

    /// Every test, wherever it stands.
    pub(super) fn tests(&self) -> impl Iterator<Item = &Test> {
        self.from.iter().chain(&self.to).flatten().chain(std::iter::once(&self.when)).flatten()
    }
}

/// One question about a request: do any of these values match?
#[derive(Debug)]
pub(super) struct Test {
    /// What is compared with what.
    pub check: Check,
    /// Whether the test holds when a value matches, or when none does.
    pub expected: Expected,
    /// What a match means for the decision.
    pub polarity: Polarity,
    /// The position, among the fields or conditions that it stands with, of the one that it was made from. Only to say so:
    /// the last position that fits stands for all beyond.
    pub field: u16,
    /// The name of that field and of its `not` twin; only where a field can be.
    pub names: Option<&'static [&'static str; 2]>,
}

/// The answer that a test is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// One of the values matches.
    Match,
    /// None of the values does: a `not` field.
    NoMatch,
}

/// An attribute and the values that it is compared with.
#[derive(Debug)]
pub(super) enum Check {
    Identity(Box<[IdentityMatcher]>),
    SourceIp(Box<[Cidr]>),
    RemoteIp(Box<[Cidr]>),
    DestinationIp(Box<[Cidr]>),
    DestinationPort(Box<[u16]>),
    Sni(Box<[Pattern]>),
    Host(Box<[Pattern]>),
    Path(Box<[PathMatcher]>),
    /// Methods too: `:method` is a header.
    Header(Arc<[u8]>, Box<[Pattern]>),
    RequestPrincipal {
        issuer: Arc<MetadataPath>,
        subject: Arc<MetadataPath>,
        matchers: Box<[RequestPrincipal]>,
    },
    Claim(Arc<MetadataPath>, Box<[Pattern]>),
    Metadata(Arc<MetadataPath>, Box<[MetadataMatcher]>),
}

/// Where a value stands in dynamic metadata.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MetadataPath {
    /// The filter that has set it.
    pub filter: Box<[u8]>,
    /// The keys that lead to it, outermost first.
    pub keys: Box<[Box<[u8]>]>,
}

/// A value of `paths`, compiled.
#[derive(Debug)]
pub(super) enum PathMatcher {
    Text(Pattern),
    Template(Template),
}

/// A value of `requestPrincipals`, compiled: both must match.
#[derive(Debug)]
pub(super) struct RequestPrincipal {
    pub issuer: Pattern,
    pub subject: Pattern,
}

/// A value of `experimental.envoy.filters.…`, compiled.
#[derive(Debug)]
pub(super) enum MetadataMatcher {
    Text(Pattern),
    Element(Pattern),
}

impl MetadataMatcher {
    /// What a string or an element of a list is compared with.
    pub(super) fn pattern(&self) -> &Pattern {
        match self {
            Self::Text(pattern) | Self::Element(pattern) => pattern,
        }
    }
}

/// The rules of a policy.
#[must_use]
pub fn policy(policy: &AuthorizationPolicy, options: &Options) -> Vec<Rule> {
    let name = Arc::new(policy.name.clone());
    let compiler = Compiler { action: policy.action, namespace: &policy.name.namespace, options };
    let groups = |groups: &[AllOf<Predicate>]| groups.iter().map(|all| compiler.tests(all)).collect();
    let rule = |(index, rule): (usize, &crate::policy::Rule)| Rule {
        id: RuleId::new(&name, index),
        from: rule.from.as_ref().map(|from| groups(&from.0)),
        to: rule.to.as_ref().map(|to| groups(&to.0)),
        when: compiler.tests(&rule.when),
    };
    policy.rules.iter().enumerate().map(rule).collect()
}

/// What a match of a rule's values means, in fields of this action.
///
/// CUSTOM counts as DENY: a request that slips past its rules is not shown to the provider.
fn polarity(action: Action, expected: Expected) -> Polarity {
    match (action, expected) {
        (Action::Deny | Action::Custom, Expected::Match) | (Action::Allow, Expected::NoMatch) => Polarity::Denies,
        (Action::Deny | Action::Custom, Expected::NoMatch) | (Action::Allow, Expected::Match) | (Action::Audit, _) => {
            Polarity::Permits
        }
    }
}

impl Check {
    const DEAREST: u8 = 5;

    /// How much it takes to answer, compared with other checks: the path settles most and is one short value, the rest of
    /// the request line is as near, and a certificate or a token costs the host the most.
    fn cost(&self) -> u8 {
        match self {
            Self::Path(_) => 0,
            Self::Header(..) | Self::Host(_) => 1,
            Self::DestinationPort(_) | Self::DestinationIp(_) | Self::RemoteIp(_) => 2,
            Self::SourceIp(_) | Self::Sni(_) => 3,
            Self::Identity(_) => 4,
            Self::RequestPrincipal { .. } | Self::Claim(..) | Self::Metadata(..) => Self::DEAREST,
        }
    }
}

impl Check {
    /// The request header that it looks at.
    pub(super) fn header(&self) -> Option<&[u8]> {
        match self {
            Self::Path(_) => Some(b":path"),
            Self::Host(_) => Some(b":authority"),
            Self::Header(name, _) => Some(name),
            Self::Identity(_)
            | Self::SourceIp(_)
            | Self::RemoteIp(_)
            | Self::DestinationIp(_)
            | Self::DestinationPort(_)
            | Self::Sni(_)
            | Self::RequestPrincipal { .. }
            | Self::Claim(..)
            | Self::Metadata(..) => None,
        }
    }
}

struct Compiler<'p> {
    action: Action,
    namespace: &'p str,
    options: &'p Options,
}

impl Compiler<'_> {
    /// The cheapest first; the order does not change the answer.
    fn tests(&self, predicates: &AllOf<Predicate>) -> Tests {
        let mut tests = Vec::with_capacity(predicates.0.len());
        for (field, predicate) in (0..=u16::MAX).chain(std::iter::repeat(u16::MAX)).zip(&predicates.0) {
            tests.extend(self.predicate(predicate).into_iter().map(|test| Test {
                field,
                names: predicate.fields(),
                ..test
            }));
        }
        let mut ordered = Vec::with_capacity(tests.len());
        for cost in 0..=Check::DEAREST {
            ordered.extend(tests.extract_if(.., |test| test.check.cost() == cost));
        }
        ordered.into()
    }

    /// Destructured variant by variant: a new kind of predicate cannot be forgotten here.
    fn predicate(&self, predicate: &Predicate) -> Vec<Test> {
        match predicate {
            Predicate::Principal(values) => self.pair(values, |values, polarity| {
                identity(expand(values, &self.options.trust_domains), |value| {
                    IdentityMatcher::principal(&value, polarity.into())
                })
            }),
            Predicate::RequestPrincipal(values) => self.pair(values, |values, polarity| self.jwt(values, polarity)),
            Predicate::ServiceAccount(values) => self.pair(values, |values, polarity| {
                identity(values, |ServiceAccount { namespace, name }| {
                    let namespace = namespace.as_deref().unwrap_or(self.namespace);
                    IdentityMatcher::service_account(namespace, name, polarity.into())
                })
            }),
            Predicate::TrustDomain(values) => self.pair(values, |values, polarity| {
                identity(self.options.trust_domains.expand_trust_domains(values), |value| {
                    IdentityMatcher::trust_domain(&value, polarity.into())
                })
            }),
            Predicate::Namespace(values) => self.pair(values, |values, polarity| {
                identity(values, |value| IdentityMatcher::namespace(value, polarity.into()))
            }),
            Predicate::RemoteIp(values) => self.pair(values, |values, _| Check::RemoteIp(values.into())),
            Predicate::SourceIp(values) => self.pair(values, |values, _| Check::SourceIp(values.into())),
            Predicate::DestinationIp(values) => self.pair(values, |values, _| Check::DestinationIp(values.into())),
            Predicate::DestinationPort(values) => self.pair(values, |values, _| Check::DestinationPort(values.into())),
            Predicate::Host(values) => self.pair(values, |values, _| Check::Host(patterns(values, &Pattern::Present))),
            Predicate::Method(values) => self.pair(values, |values, _| {
                Check::Header(":method".as_bytes().into(), patterns(values, &Pattern::Present))
            }),
            Predicate::Header { name, values } => self.pair(values, |values, _| {
                Check::Header(header_name(name).as_bytes().into(), patterns(values, &Pattern::Present))
            }),
            Predicate::Path(values) => self.pair(values, |values, polarity| Check::Path(paths(values, polarity))),
            Predicate::Sni(values) => {
                self.pair(values, |values, polarity| Check::Sni(patterns(values, &non_empty(polarity))))
            }
            Predicate::Claim { path, values } => self.pair(values, |values, polarity| {
                Check::Claim(self.claim(path), patterns(values, &non_empty(polarity)))
            }),
            Predicate::Metadata { filter, key, values } => self.pair(values, |values, polarity| {
                let path = MetadataPath { filter: bytes(filter), keys: [bytes(key)].into() };
                Check::Metadata(Arc::new(path), metadata(values, polarity))
            }),
        }
    }

    /// The tests for the values and for the `not` values, where there are any.
    fn pair<T>(&self, Values { any, none }: &Values<T>, check: impl Fn(&[T], Polarity) -> Check) -> Vec<Test> {
        let test = |values: &[T], expected| {
            let polarity = polarity(self.action, expected);
            Test { check: check(values, polarity), expected, polarity, field: 0, names: None }
        };
        let positive = (!any.is_empty()).then(|| test(any, Expected::Match));
        let negative = (!none.is_empty()).then(|| test(none, Expected::NoMatch));
        positive.into_iter().chain(negative).collect()
    }

    fn jwt(&self, values: &[String], polarity: Polarity) -> Check {
        Check::RequestPrincipal {
            issuer: self.claim(&["iss"]),
            subject: self.claim(&["sub"]),
            matchers: values.iter().map(|value| request_principal(value, polarity)).collect(),
        }
    }

    /// Where `jwt_authn` puts a claim.
    fn claim<K: AsRef<str>>(&self, path: &[K]) -> Arc<MetadataPath> {
        let payload = std::iter::once(self.options.jwt_payload_key.as_str());
        let keys = payload.chain(path.iter().map(AsRef::as_ref)).map(bytes).collect();
        Arc::new(MetadataPath { filter: bytes(JWT_AUTHN), keys })
    }
}

/// A header's name as Envoy has it.
fn header_name(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    if name == "host" { ":authority".to_owned() } else { name }
}

fn bytes(text: &str) -> Box<[u8]> {
    text.as_bytes().into()
}

fn identity<T>(values: impl IntoIterator<Item = T>, matcher: impl Fn(T) -> IdentityMatcher) -> Check {
    Check::Identity(values.into_iter().map(matcher).collect())
}

fn expand(principals: &[String], trust_domains: &TrustDomains) -> Vec<String> {
    principals.iter().flat_map(|principal| trust_domains.expand_principal(principal)).collect()
}

fn non_empty(polarity: Polarity) -> Pattern {
    Pattern::NonEmpty(Wildcard::from(polarity))
}

fn patterns(values: &[String], presence: &Pattern) -> Box<[Pattern]> {
    values.iter().map(|value| Pattern::new(Form::of(value), presence)).collect()
}

fn paths(values: &[PathValue], polarity: Polarity) -> Box<[PathMatcher]> {
    let compile = |value: &PathValue| match value {
        PathValue::Text(text) => PathMatcher::Text(Pattern::new(Form::of(text), &non_empty(polarity))),
        PathValue::Template(text) => PathMatcher::Template(Template::new(text, polarity)),
    };
    values.iter().map(compile).collect()
}

fn metadata(values: &[MetadataValue], polarity: Polarity) -> Box<[MetadataMatcher]> {
    let compile = |value: &MetadataValue| match value {
        MetadataValue::Text(text) => MetadataMatcher::Text(Pattern::new(Form::of(text), &non_empty(polarity))),
        MetadataValue::Element(text) => MetadataMatcher::Element(Pattern::new(Form::of(text), &non_empty(polarity))),
    };
    values.iter().map(compile).collect()
}

fn request_principal(value: &str, polarity: Polarity) -> RequestPrincipal {
    let (issuer, subject) = Form::of_request_principal(value);
    let presence = non_empty(polarity);
    RequestPrincipal { issuer: Pattern::new(issuer, &presence), subject: Pattern::new(subject, &presence) }
}
