//! One rule against one request.
//!
//! This is the only evaluator: enforcing and testing both go through it. A rule either matches or not; where an
//! attribute could not be read, the answer says besides that it rests on that. Operations come first, since they look
//! at the request line, which costs a host least and settles most; no order changes the answer.

use std::net::IpAddr;

use super::compile::{
    AnyOf, Check, Expected, MetadataMatcher, MetadataPath, PathMatcher, RequestPrincipal, Rule, Test, Tests,
};
use crate::identity::IdentityMatcher;
use crate::matcher::Polarity;
use crate::policy::Cidr;
use crate::request::metadata::Value;
use crate::request::{Attributes, Lookup, PeerName, without_query};

/// Whether a test, a group of tests or a rule holds; from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It does not, whatever is unreadable.
    No,
    /// It does not, but it might, were this attribute readable.
    NotShown(&'static str),
    /// It does, unless this attribute, which is unreadable, says otherwise.
    Assumed(&'static str),
    /// It does, whatever is unreadable.
    Yes,
}

impl Truth {
    fn rank(self) -> u8 {
        match self {
            Self::No => 0,
            Self::NotShown(_) => 1,
            Self::Assumed(_) => 2,
            Self::Yes => 3,
        }
    }

    /// The least of them.
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

    /// The most of them.
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

/// Whether the rule matches the request.
pub fn rule<A: Attributes>(rule: &Rule, request: &A) -> Truth {
    let group = |tests: &Tests| Truth::all(tests.iter().map(|test| holds(test, request)));
    let clause = |groups: &Option<AnyOf>| match groups {
        Some(groups) => Truth::any(groups.iter().map(group)),
        None => Truth::Yes,
    };
    let clauses = [&rule.to, &rule.from].into_iter().map(clause);
    Truth::all(clauses.chain(std::iter::once_with(|| group(&rule.when))))
}

fn holds<A: Attributes>(test: &Test, request: &A) -> Truth {
    match (check(&test.check, request), test.expected, test.polarity) {
        (Lookup::Value(true), Expected::Match, _) | (Lookup::Value(false) | Lookup::Absent, Expected::NoMatch, _) => {
            Truth::Yes
        }
        (Lookup::Value(true), Expected::NoMatch, _) | (Lookup::Value(false) | Lookup::Absent, Expected::Match, _) => {
            Truth::No
        }
        // Against the request, whichever way the test points.
        (Lookup::Unreadable, Expected::Match, Polarity::Denies)
        | (Lookup::Unreadable, Expected::NoMatch, Polarity::Permits) => Truth::Assumed(test.check.attribute()),
        (Lookup::Unreadable, Expected::Match, Polarity::Permits)
        | (Lookup::Unreadable, Expected::NoMatch, Polarity::Denies) => Truth::NotShown(test.check.attribute()),
    }
}

/// Whether one of the check's values matches the request.
fn check<A: Attributes>(check: &Check, request: &A) -> Lookup<bool> {
    match check {
        Check::Identity(matchers) => identity(matchers, request),
        Check::SourceIp(blocks) => in_one_of(request.source_ip(), blocks),
        Check::RemoteIp(blocks) => in_one_of(request.remote_ip(), blocks),
        Check::DestinationIp(blocks) => in_one_of(request.destination_ip(), blocks),
        Check::DestinationPort(ports) => request.destination_port().map(|port| ports.contains(&port)),
        Check::Sni(patterns) => request.sni().map(|name| patterns.iter().any(|p| p.matches(name))),
        Check::Host(patterns) => {
            header(request, b":authority", |host| patterns.iter().any(|p| p.matches_ignoring_case(host)))
        }
        Check::Path(matchers) => header(request, b":path", |path| {
            let path = without_query(path);
            matchers.iter().any(|matcher| match matcher {
                PathMatcher::Text(pattern) => pattern.matches(path),
                PathMatcher::Template(template) => template.matches(path),
            })
        }),
        Check::Header(name, patterns) => header(request, name, |value| patterns.iter().any(|p| p.matches(value))),
        Check::RequestPrincipal { issuer, subject, matchers } => string(request, issuer).and_then(|issuer| {
            string(request, subject).map(|subject| {
                let matches = |m: &RequestPrincipal| m.issuer.matches(issuer) && m.subject.matches(subject);
                matchers.iter().any(matches)
            })
        }),
        Check::Claim(path, patterns) => {
            let matches = |text: &[u8]| patterns.iter().any(|p| p.matches(text));
            match metadata(request, path) {
                Lookup::Value(Value::String(text)) => Lookup::Value(matches(text)),
                Lookup::Value(Value::List(list)) => list.any_string(matches),
                Lookup::Value(Value::Other) | Lookup::Absent => Lookup::Absent,
                Lookup::Unreadable => Lookup::Unreadable,
            }
        }
        Check::Metadata(path, matchers) => match metadata(request, path) {
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

/// Each name of the peer in turn, until one matches.
fn identity<A: Attributes>(matchers: &[IdentityMatcher], request: &A) -> Lookup<bool> {
    let mut answer = Lookup::Absent;
    for which in PeerName::ALL {
        if which == PeerName::Subject && !matchers.iter().any(IdentityMatcher::takes_subjects) {
            continue;
        }
        match peer_name(request, which) {
            Lookup::Value(name) if matchers.iter().any(|m| m.matches(name)) => return Lookup::Value(true),
            Lookup::Value(_) | Lookup::Absent => {}
            Lookup::Unreadable => answer = Lookup::Unreadable,
        }
    }
    answer
}

/// A name of the peer. One with a NUL, which certificates should not have and which programs cut off there, is
/// unreadable.
pub(super) fn peer_name<A: Attributes>(request: &A, which: PeerName) -> Lookup<&[u8]> {
    request.peer_name(which).and_then(|name| if name.contains(&0) { Lookup::Unreadable } else { Lookup::Value(name) })
}

/// Whether one of a header's values matches.
fn header<A: Attributes>(request: &A, name: &[u8], matches: impl Fn(&[u8]) -> bool) -> Lookup<bool> {
    request.header(name).map(|mut values| values.any(matches))
}

/// A value of metadata that must be a string.
fn string<'r, A: Attributes>(request: &'r A, path: &MetadataPath) -> Lookup<&'r [u8]> {
    metadata(request, path).and_then(|value| match value {
        Value::String(text) => Lookup::Value(text),
        Value::List(_) | Value::Other => Lookup::Absent,
    })
}

pub(super) fn metadata<'r, A: Attributes>(request: &'r A, path: &MetadataPath) -> Lookup<Value<'r>> {
    request.metadata().and_then(|metadata| metadata.get(&path.filter, &path.keys))
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
            Self::RequestPrincipal { .. } | Self::Claim(..) | Self::Metadata(..) => "metadata",
        }
    }
}
