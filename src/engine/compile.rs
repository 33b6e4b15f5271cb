//! Load time: compiles the rules of a policy into tests.
//!
//! | in a policy | compiled |
//! | --- | --- |
//! | a rule | a [`CompiledRule`]: three clauses, `from`, `to` and `when`; all of them must hold |
//! | `from`, `to` | a clause with one group of tests for each source or operation; one of the groups must hold |
//! | `when` | a clause with a single group: the tests of all conditions |
//! | a source, an operation | a group of tests; all of them must hold |
//! | a field, a condition | up to two tests: one for its values, one for its `not` values |
//!
//! Each test stores whether a match of its values permits or denies. This polarity is known at load time, so nothing
//! about it is decided at request time.

use std::sync::Arc;

use super::{Custom, Options, RuleId};
use crate::attribute::Attribute;
use crate::identity::{IdentityMatcher, TrustDomains};
use crate::matcher::template::Template;
use crate::matcher::{Pattern, Polarity, Wildcard};
use crate::policy::{
    Action, AllOf, AuthorizationPolicy, Cidr, Form, MetadataValue, PathValue, Predicate, ServiceAccount, Traffic,
    Values,
};
use crate::request::metadata::{EFFECTIVE_POLICY, ENGINE_RESULT, JWT_AUTHN, NETWORK_RBAC, RBAC, RULE_PREFIX};
use crate::request::{Address, ConnectionText};

/// A compiled rule, ready to be evaluated for requests. It matches if all three clauses hold.
#[derive(Debug)]
pub struct CompiledRule {
    pub(crate) id: RuleId,
    /// One group of tests for each source. `None`: from anywhere.
    pub(crate) from: Option<Groups>,
    /// One group of tests for each operation. `None`: any operation.
    pub(crate) to: Option<Groups>,
    /// The tests of all conditions.
    pub(crate) when: Group,
}

/// A group: tests that must all hold.
pub(crate) type Group = Box<[Test]>;

/// A clause: groups of tests, one of which must hold.
pub(crate) type Groups = Box<[Group]>;

impl CompiledRule {
    /// The name of the rule.
    #[must_use]
    pub fn id(&self) -> &RuleId {
        &self.id
    }

    /// Sets the number of the policy that the rule belongs to.
    pub(crate) fn with_policy_number(mut self, number: u32) -> Self {
        self.id.policy_number = number;
        self
    }

    /// A rule that matches if this single value of a test does.
    pub(crate) fn of_value(&self, test: &Test, value: Check) -> Self {
        let test = Test { check: value, expected: Expected::Match, ..*test };
        Self { id: self.id.clone(), from: None, to: None, when: [test].into() }
    }

    /// Whether the conditions of the two compare the same values in the same way.
    pub(crate) fn has_conditions_of(&self, other: &Self) -> bool {
        let alike = |(one, other): (&Test, &Test)| {
            one.check == other.check && one.expected == other.expected && one.polarity == other.polarity
        };
        self.when.len() == other.when.len() && self.when.iter().zip(&other.when).all(alike)
    }

    /// The tests that must all hold. A test of one of several groups is none of them.
    pub(crate) fn required_tests(&self) -> impl Iterator<Item = &Test> {
        let clauses = [&self.to, &self.from].into_iter().flatten().filter(|groups| groups.len() == 1);
        clauses.flatten().chain(std::iter::once(&self.when)).flatten()
    }

    /// The tests of all clauses.
    pub(crate) fn tests(&self) -> impl Iterator<Item = &Test> {
        self.from.iter().chain(&self.to).flatten().chain(std::iter::once(&self.when)).flatten()
    }
}

/// One question about a request: does any of these values match?
#[derive(Clone, Debug)]
pub(crate) struct Test {
    /// The attribute to look at, and the values to compare it with.
    pub check: Check,
    /// Whether the test holds if a value matches, or if none does.
    pub expected: Expected,
    /// Whether a match permits or denies.
    pub polarity: Polarity,
    /// The attribute that the policy names.
    pub attribute: Attribute,
    /// The position of the field or condition in its source, operation or `when`. Only messages use it; a position
    /// above `u16::MAX` becomes `u16::MAX`.
    pub field: u16,
}

/// The result that makes a test hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// One of the values matches.
    Match,
    /// None of the values matches: a `not` field.
    NoMatch,
}

/// The attribute to look at, and the values to compare it with. Attributes that are compared in the same way share a
/// variant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Check {
    Identity(Box<[IdentityMatcher]>),
    Address(Address, Box<[Cidr]>),
    DestinationPort(Box<[u16]>),
    Text(Text, Box<[Pattern]>),
    Host(Box<[Pattern]>),
    Path(Box<[PathMatcher]>),
    RequestPrincipal { issuer: Arc<MetadataPath>, subject: Arc<MetadataPath>, matchers: Box<[RequestPrincipalMatcher]> },
    Metadata(Arc<MetadataPath>, Box<[MetadataMatcher]>),
}

/// A text of a request that is compared as it is. A request may have several such texts; it is enough that one matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Text {
    /// A text of the connection.
    Connection(ConnectionText),
    /// The values of a header, or of a pseudo-header such as `:method`.
    Header(Arc<[u8]>),
    /// A value in dynamic metadata, such as a claim: a string, or each string in a list.
    Metadata(Arc<MetadataPath>),
}

/// The place of a value in dynamic metadata.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MetadataPath {
    /// The filter that sets the value.
    pub filter: Box<[u8]>,
    /// The keys that lead to the value, outermost first.
    pub keys: Box<[Box<[u8]>]>,
}

/// Where Envoy's RBAC filter says what the CUSTOM policies of a provider match.
#[derive(Debug)]
pub(crate) struct CustomTrace {
    /// Whether one of them matches.
    pub result: MetadataPath,
    /// Which one matches; absent if none does.
    pub policy: MetadataPath,
    /// What its name begins with if this provider was asked.
    pub prefix: Box<[u8]>,
}

impl CustomTrace {
    pub fn new(custom: Custom, traffic: Traffic, provider: &str) -> Self {
        let stat_prefix = custom.stat_prefix(provider);
        let filter = match traffic {
            Traffic::Http => RBAC,
            Traffic::Tcp => NETWORK_RBAC,
        };
        let path =
            |key: &str| MetadataPath { filter: bytes(filter), keys: [bytes(&[&stat_prefix, key].concat())].into() };
        let prefix = bytes(&[RULE_PREFIX, "-", provider, "-ns["].concat());
        Self { result: path(ENGINE_RESULT), policy: path(EFFECTIVE_POLICY), prefix }
    }
}

/// A value of `paths`, compiled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PathMatcher {
    Text(Pattern),
    Template(Template),
}

/// A value of `requestPrincipals`, compiled. The issuer and the subject must both match.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RequestPrincipalMatcher {
    pub issuer: Pattern,
    pub subject: Pattern,
}

/// A value of `experimental.envoy.filters.…`, compiled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum MetadataMatcher {
    Text(Pattern),
    Element(Pattern),
}

impl MetadataMatcher {
    /// The pattern for a string, or for an element of a list.
    pub(crate) fn pattern(&self) -> &Pattern {
        match self {
            Self::Text(pattern) | Self::Element(pattern) => pattern,
        }
    }
}

/// Compiles the rules of a policy.
#[must_use]
pub fn policy(policy: &AuthorizationPolicy, options: &Options) -> Vec<CompiledRule> {
    let name = Arc::new(policy.name.clone());
    let compiler = Compiler { action: policy.action, namespace: &policy.name.namespace, options, expands_again: false };
    let groups = |groups: &[AllOf<Predicate>]| groups.iter().map(|all| compiler.tests(all)).collect();
    let rule = |(index, rule): (usize, &crate::policy::Rule)| CompiledRule {
        id: RuleId::new(&name, index),
        from: rule.from.as_ref().map(|from| groups(&from.0)),
        to: rule.to.as_ref().map(|to| groups(&to.0)),
        when: Compiler { expands_again: rule.expansions() > 1, ..compiler }.tests(&rule.when),
    };
    let counts = |(_, rule): &(usize, &crate::policy::Rule)| options.traffic.has_rule(policy.action, rule);
    policy.rules.iter().enumerate().filter(counts).map(rule).collect()
}

/// Whether a match of values permits or denies. `Expected::NoMatch` means the values of a `not` field.
///
/// | action | values | `not` values |
/// | --- | --- | --- |
/// | DENY, CUSTOM | denies | permits |
/// | ALLOW | permits | denies |
/// | AUDIT | permits | permits |
///
/// CUSTOM is treated like DENY, because a request that slips past its rules never reaches the provider.
fn polarity(action: Action, expected: Expected) -> Polarity {
    match (action, expected) {
        (Action::Deny | Action::Custom, Expected::Match) | (Action::Allow, Expected::NoMatch) => Polarity::Denies,
        (Action::Deny | Action::Custom, Expected::NoMatch) | (Action::Allow, Expected::Match) | (Action::Audit, _) => {
            Polarity::Permits
        }
    }
}

impl Check {
    /// A check for each of the values.
    pub(crate) fn single_values(&self) -> Vec<Self> {
        fn each<T: Clone>(values: &[T], check: impl Fn(Box<[T]>) -> Check) -> Vec<Check> {
            values.iter().map(|value| check(Box::from([value.clone()]))).collect()
        }
        match self {
            Self::Identity(values) => each(values, Self::Identity),
            Self::Address(which, values) => each(values, |value| Self::Address(*which, value)),
            Self::DestinationPort(values) => each(values, Self::DestinationPort),
            Self::Text(text, values) => each(values, |value| Self::Text(text.clone(), value)),
            Self::Host(values) => each(values, Self::Host),
            Self::Path(values) => each(values, Self::Path),
            Self::RequestPrincipal { issuer, subject, matchers } => each(matchers, |matchers| Self::RequestPrincipal {
                issuer: Arc::clone(issuer),
                subject: Arc::clone(subject),
                matchers,
            }),
            Self::Metadata(path, values) => each(values, |value| Self::Metadata(Arc::clone(path), value)),
        }
    }

    /// The number of values.
    pub(crate) fn values(&self) -> usize {
        match self {
            Self::Identity(values) => values.len(),
            Self::Address(_, values) => values.len(),
            Self::DestinationPort(values) => values.len(),
            Self::Text(_, values) | Self::Host(values) => values.len(),
            Self::Path(values) => values.len(),
            Self::RequestPrincipal { matchers, .. } => matchers.len(),
            Self::Metadata(_, values) => values.len(),
        }
    }

    const HIGHEST_COST: u8 = 5;

    /// The relative cost of the check. The checks of a group run in this order. The path comes first: it is short, and
    /// it excludes most requests. Then come the other headers. Last come certificates and tokens, for which Envoy needs
    /// the most time.
    fn cost(&self) -> u8 {
        match self {
            Self::Path(_) => 0,
            Self::Text(Text::Header(_), _) | Self::Host(_) => 1,
            Self::DestinationPort(_) | Self::Address(Address::Destination | Address::Remote, _) => 2,
            Self::Address(Address::Source, _) | Self::Text(Text::Connection(_), _) => 3,
            Self::Identity(_) => 4,
            Self::RequestPrincipal { .. } | Self::Text(Text::Metadata(_), _) | Self::Metadata(..) => Self::HIGHEST_COST,
        }
    }

    /// The name of the request header that the check looks at, if any.
    pub(crate) fn header(&self) -> Option<&[u8]> {
        match self {
            Self::Path(_) => Some(b":path"),
            Self::Host(_) => Some(b":authority"),
            Self::Text(Text::Header(name), _) => Some(name),
            Self::Text(Text::Connection(_) | Text::Metadata(_), _)
            | Self::Identity(_)
            | Self::Address(..)
            | Self::DestinationPort(_)
            | Self::RequestPrincipal { .. }
            | Self::Metadata(..) => None,
        }
    }
}

struct Compiler<'p> {
    action: Action,
    namespace: &'p str,
    options: &'p Options,
    /// Whether principals are expanded to the trust domains of the mesh more than once.
    expands_again: bool,
}

impl Compiler<'_> {
    /// Compiles a group of tests, and puts the cheapest first. The order does not change the answer.
    fn tests(&self, predicates: &AllOf<Predicate>) -> Group {
        let mut tests = Vec::with_capacity(predicates.0.len());
        let fields = (0..=u16::MAX).chain(std::iter::repeat(u16::MAX)).zip(&predicates.0);
        for (field, predicate) in fields.filter(|(_, predicate)| self.options.traffic.has(predicate)) {
            tests.extend(self.predicate(predicate).into_iter().map(|test| Test { field, ..test }));
        }
        let mut ordered = Vec::with_capacity(tests.len());
        for cost in 0..=Check::HIGHEST_COST {
            ordered.extend(tests.extract_if(.., |test| test.check.cost() == cost));
        }
        ordered.into()
    }

    /// Compiles one field or condition. The match lists every variant, so that nobody can forget a new kind of
    /// predicate here.
    fn predicate(&self, predicate: &Predicate) -> Vec<Test> {
        let attribute = predicate.attribute();
        match predicate {
            Predicate::Principal(values) => self.pair(attribute, values, |values, polarity| {
                let domains = &self.options.trust_domains;
                let expand = if self.expands_again {
                    TrustDomains::expand_principal_again
                } else {
                    TrustDomains::expand_principal
                };
                identity(values.iter().flat_map(|value| expand(domains, value)), |value| {
                    IdentityMatcher::principal(&value, polarity.into())
                })
            }),
            Predicate::RequestPrincipal(values) => {
                self.pair(attribute, values, |values, polarity| self.jwt(values, polarity))
            }
            Predicate::ServiceAccount(values) => self.pair(attribute, values, |values, polarity| {
                identity(values, |ServiceAccount { namespace, name }| {
                    let namespace = namespace.as_deref().unwrap_or(self.namespace);
                    IdentityMatcher::service_account(namespace, name, polarity.into())
                })
            }),
            Predicate::TrustDomain(values) => self.pair(attribute, values, |values, polarity| {
                identity(self.options.trust_domains.expand_trust_domains(values), |value| {
                    IdentityMatcher::trust_domain(&value, polarity.into())
                })
            }),
            Predicate::Namespace(values) => self.pair(attribute, values, |values, polarity| {
                identity(values, |value| IdentityMatcher::namespace(value, polarity.into()))
            }),
            Predicate::RemoteIp(values) => self.addresses(attribute, Address::Remote, values),
            Predicate::SourceIp(values) => self.addresses(attribute, Address::Source, values),
            Predicate::DestinationIp(values) => self.addresses(attribute, Address::Destination, values),
            Predicate::DestinationPort(values) => {
                self.pair(attribute, values, |values, _| Check::DestinationPort(values.into()))
            }
            Predicate::Host(values) => {
                self.pair(attribute, values, |values, _| Check::Host(patterns(values, &Pattern::Present)))
            }
            Predicate::Method(values) => self.header(attribute, ":method", values),
            Predicate::Header { name, values } => self.header(attribute, &header_name(name), values),
            Predicate::Path(values) => {
                self.pair(attribute, values, |values, polarity| Check::Path(paths(values, polarity)))
            }
            Predicate::Sni(values) => self.connection_text(attribute, ConnectionText::Sni, values),
            Predicate::Claim { path, values } => self.pair(attribute, values, |values, polarity| {
                Check::Text(Text::Metadata(self.claim(path)), patterns(values, &non_empty(polarity)))
            }),
            Predicate::Metadata { filter, key, values } => self.pair(attribute, values, |values, polarity| {
                let path = MetadataPath { filter: bytes(filter), keys: [bytes(key)].into() };
                Check::Metadata(Arc::new(path), metadata(values, polarity))
            }),
        }
    }

    fn addresses(&self, attribute: Attribute, address: Address, values: &Values<Cidr>) -> Vec<Test> {
        self.pair(attribute, values, |values, _| Check::Address(address, values.into()))
    }

    fn connection_text(&self, attribute: Attribute, which: ConnectionText, values: &Values<String>) -> Vec<Test> {
        self.pair(attribute, values, |values, polarity| {
            Check::Text(Text::Connection(which), patterns(values, &non_empty(polarity)))
        })
    }

    fn header(&self, attribute: Attribute, name: &str, values: &Values<String>) -> Vec<Test> {
        let text = || Text::Header(name.as_bytes().into());
        self.pair(attribute, values, |values, _| Check::Text(text(), patterns(values, &Pattern::Present)))
    }

    /// The test for the values, if there are any, and the test for the `not` values, if there are any.
    fn pair<T>(
        &self,
        attribute: Attribute,
        Values { any, none }: &Values<T>,
        check: impl Fn(&[T], Polarity) -> Check,
    ) -> Vec<Test> {
        let test = |values: &[T], expected| {
            let polarity = polarity(self.action, expected);
            Test { check: check(values, polarity), expected, polarity, attribute, field: 0 }
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

    /// The place where `jwt_authn` stores a claim.
    fn claim<K: AsRef<str>>(&self, path: &[K]) -> Arc<MetadataPath> {
        let payload = std::iter::once(self.options.jwt_payload_key.as_str());
        let keys = payload.chain(path.iter().map(AsRef::as_ref)).map(bytes).collect();
        Arc::new(MetadataPath { filter: bytes(JWT_AUTHN), keys })
    }
}

/// The name of a header in Envoy: in lower case, and `:authority` for `host`.
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

fn request_principal(value: &str, polarity: Polarity) -> RequestPrincipalMatcher {
    let (issuer, subject) = Form::of_request_principal(value);
    let presence = non_empty(polarity);
    RequestPrincipalMatcher { issuer: Pattern::new(issuer, &presence), subject: Pattern::new(subject, &presence) }
}
