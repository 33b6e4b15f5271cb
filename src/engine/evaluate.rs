//! One rule against one request.
//!
//! This is the only evaluator: enforcing and testing both go through it.

use std::cell::Cell;
use std::net::IpAddr;

use super::compile::{AnyOf, Check, Expected, MetadataMatcher, PathMatcher, RequestPrincipal, Rule, Test};
use crate::identity::IdentityMatcher;
use crate::matcher::Polarity;
use crate::policy::Cidr;
use crate::request::metadata::{JWT_AUTHN, Value};
use crate::request::{Attributes, Lookup, PeerName, without_query};

/// A request while rules are held against it.
#[derive(Debug)]
pub struct Evaluation<'r, A> {
    attributes: &'r A,
    /// The first attribute that the rule at hand needed and the host refused.
    unreadable: Cell<Option<&'static str>>,
}

impl<'r, A: Attributes> Evaluation<'r, A> {
    /// Starts with a request.
    pub fn new(attributes: &'r A) -> Self {
        Self { attributes, unreadable: Cell::new(None) }
    }

    /// The request.
    pub fn attributes(&self) -> &'r A {
        self.attributes
    }

    /// The first attribute that the last rule needed and the host refused.
    pub fn unreadable(&self) -> Option<&'static str> {
        self.unreadable.get()
    }

    /// Whether the rule matches.
    pub fn matches(&self, rule: &Rule) -> bool {
        self.unreadable.set(None);
        let all = |tests: &[Test]| tests.iter().all(|test| self.holds(test));
        let any = |groups: &Option<AnyOf>| groups.as_ref().is_none_or(|groups| groups.iter().any(|tests| all(tests)));
        any(&rule.from) && any(&rule.to) && all(&rule.when)
    }

    fn holds(&self, test: &Test) -> bool {
        let matched = match self.check(&test.check) {
            Lookup::Value(matched) => matched,
            Lookup::Absent => false,
            // Against the request, whichever way the test points.
            Lookup::Unreadable => {
                if self.unreadable.get().is_none() {
                    self.unreadable.set(Some(test.check.attribute()));
                }
                test.polarity == Polarity::Denies
            }
        };
        match test.expected {
            Expected::Match => matched,
            Expected::NoMatch => !matched,
        }
    }

    /// Whether one of the check's values matches the request.
    fn check(&self, check: &Check) -> Lookup<bool> {
        let request = self.attributes;
        match check {
            Check::Identity(matchers) => self.identity(matchers),
            Check::SourceIp(blocks) => in_one_of(request.source_ip(), blocks),
            Check::RemoteIp(blocks) => in_one_of(request.remote_ip(), blocks),
            Check::DestinationIp(blocks) => in_one_of(request.destination_ip(), blocks),
            Check::DestinationPort(ports) => request.destination_port().map(|port| ports.contains(&port)),
            Check::Sni(patterns) => request.sni().map(|name| patterns.iter().any(|p| p.matches(name))),
            Check::Host(patterns) => {
                self.header(b":authority", |host| patterns.iter().any(|p| p.matches_ignoring_case(host)))
            }
            Check::Path(matchers) => self.header(b":path", |path| {
                let path = without_query(path);
                matchers.iter().any(|matcher| match matcher {
                    PathMatcher::Text(pattern) => pattern.matches(path),
                    PathMatcher::Template(template) => template.matches(path),
                })
            }),
            Check::Header(name, patterns) => self.header(name, |value| patterns.iter().any(|p| p.matches(value))),
            Check::RequestPrincipal { issuer, subject, matchers } => self.claim(issuer).and_then(|issuer| {
                self.claim(subject).map(|subject| {
                    let matches = |m: &RequestPrincipal| m.issuer.matches(issuer) && m.subject.matches(subject);
                    matchers.iter().any(matches)
                })
            }),
            Check::Claim(path, patterns) => {
                let matches = |text: &[u8]| patterns.iter().any(|p| p.matches(text));
                match self.metadata(JWT_AUTHN.as_bytes(), path) {
                    Lookup::Value(Value::String(text)) => Lookup::Value(matches(text)),
                    Lookup::Value(Value::List(list)) => list.any_string(matches),
                    Lookup::Value(Value::Other) | Lookup::Absent => Lookup::Absent,
                    Lookup::Unreadable => Lookup::Unreadable,
                }
            }
            Check::Metadata { filter, key, matchers } => match self.metadata(filter, key) {
                Lookup::Value(Value::String(text)) => Lookup::Value(matchers.iter().any(|matcher| match matcher {
                    MetadataMatcher::Text(pattern) => pattern.matches(text),
                    MetadataMatcher::Element(_) => false,
                })),
                Lookup::Value(Value::List(list)) => list.any_string(|element| {
                    matchers.iter().any(|matcher| match matcher {
                        MetadataMatcher::Text(_) => false,
                        MetadataMatcher::Element(pattern) => pattern.matches(element),
                    })
                }),
                Lookup::Value(Value::Other) | Lookup::Absent => Lookup::Absent,
                Lookup::Unreadable => Lookup::Unreadable,
            },
        }
    }

    /// Each name of the peer in turn, until one matches. A name with a NUL, which certificates should not have and
    /// which programs cut off there, is unreadable.
    fn identity(&self, matchers: &[IdentityMatcher]) -> Lookup<bool> {
        let mut answer = Lookup::Absent;
        for which in PeerName::ALL {
            match self.attributes.peer_name(which) {
                Lookup::Value(name) if name.contains(&0) => answer = Lookup::Unreadable,
                Lookup::Value(name) if matchers.iter().any(|m| m.matches(name)) => return Lookup::Value(true),
                Lookup::Value(_) | Lookup::Absent => {}
                Lookup::Unreadable => answer = Lookup::Unreadable,
            }
        }
        answer
    }

    /// Whether one of a header's values matches.
    fn header(&self, name: &[u8], matches: impl Fn(&[u8]) -> bool) -> Lookup<bool> {
        self.attributes.headers().map(|headers| headers.values(name).any(matches))
    }

    /// A claim that must be a string.
    fn claim(&self, path: &[Box<[u8]>]) -> Lookup<&'r [u8]> {
        self.metadata(JWT_AUTHN.as_bytes(), path).and_then(|value| match value {
            Value::String(text) => Lookup::Value(text),
            Value::List(_) | Value::Other => Lookup::Absent,
        })
    }

    fn metadata(&self, filter: &[u8], path: &[Box<[u8]>]) -> Lookup<Value<'r>> {
        self.attributes.metadata().and_then(|metadata| metadata.get(filter, path))
    }
}

fn in_one_of(address: Lookup<IpAddr>, blocks: &[Cidr]) -> Lookup<bool> {
    address.map(|address| blocks.iter().any(|block| block.contains(address)))
}

impl Check {
    /// The attribute, for the decision to say which one was unreadable.
    fn attribute(&self) -> &'static str {
        match self {
            Self::Identity(_) => "source.principal",
            Self::SourceIp(_) => "source.ip",
            Self::RemoteIp(_) => "remote.ip",
            Self::DestinationIp(_) => "destination.ip",
            Self::DestinationPort(_) => "destination.port",
            Self::Sni(_) => "connection.sni",
            Self::Host(_) | Self::Path(_) | Self::Header(..) => "request.headers",
            Self::RequestPrincipal { .. } | Self::Claim(..) | Self::Metadata { .. } => "metadata",
        }
    }
}
