//! Makes a request, the *witness*, from one alternative of a rule ([`super::cover`]).
//!
//! The witness contains the first value of each test for a match, in literal form. In an [index](crate::engine::index),
//! it finds every rule that covers the alternative: a wider prefix is a prefix of the literal value, and a wider
//! network contains it. Rules that ask for something else are left out.

use super::cover::Alternative;
use crate::attribute::Origin;
use crate::document::{Node, Value};
use crate::engine::compile::{Check, Expected, MetadataMatcher, MetadataPath, PathMatcher, Text};
use crate::identity::IdentityMatcher;
use crate::matcher::Pattern;
use crate::matcher::template::{Tail, Template};
use crate::request::{Lookup, PeerName, Request};

/// The text for a place where any text is valid.
const ANYTHING: &[u8] = b"x";

impl Alternative<'_> {
    /// A request with the first value of each test for a match. `None` if two tests ask for something that a request
    /// has only once, such as an address.
    #[must_use]
    pub(super) fn witness(self) -> Option<Request> {
        let mut request = Request::default()
            .source_ip(Lookup::Absent)
            .remote_ip(Lookup::Absent)
            .destination_ip(Lookup::Absent)
            .destination_port(Lookup::Absent);
        let mut names = [PeerName::Uri, PeerName::FurtherUris, PeerName::Dns].into_iter();
        let mut metadata: Vec<(String, Node)> = Vec::new();
        let matches = self.tests().filter(|test| test.expected == Expected::Match);
        let mut given_once = Vec::new();
        for origin in matches.clone().map(|test| test.attribute.info().origin).filter(|origin| is_given_once(*origin)) {
            if given_once.contains(&origin) {
                return None;
            }
            given_once.push(origin);
        }
        for check in matches.map(|test| &test.check) {
            request = match check {
                Check::Identity(matchers) => request.peer_name(names.next()?, Lookup::Value(&name(matchers.first()?))),
                Check::Address(which, blocks) => request.with_address(*which, Lookup::Value(blocks.first()?.address)),
                Check::DestinationPort(ports) => request.destination_port(Lookup::Value(*ports.first()?)),
                Check::Text(which, patterns) => match which {
                    Text::Connection(which) => request.with_text(*which, Lookup::Value(text(patterns.first()?))),
                    Text::Header(name) => request.header(name, text(patterns.first()?)),
                    Text::Metadata(path) => {
                        insert(&mut metadata, path, string(text(patterns.first()?)))?;
                        request
                    }
                },
                Check::Host(patterns) => request.header(":authority", text(patterns.first()?)),
                Check::Path(matchers) => match matchers.first()? {
                    PathMatcher::Text(pattern) => request.header(":path", text(pattern)),
                    PathMatcher::Template(template) => request.header(":path", path(template)),
                },
                Check::RequestPrincipal { issuer, subject, matchers } => {
                    let matcher = matchers.first()?;
                    insert(&mut metadata, issuer, string(text(&matcher.issuer)))?;
                    insert(&mut metadata, subject, string(text(&matcher.subject)))?;
                    request
                }
                Check::Metadata(path, matchers) => {
                    let value = match matchers.first()? {
                        MetadataMatcher::Text(pattern) => string(text(pattern)),
                        MetadataMatcher::Element(pattern) => Value::List(vec![string(text(pattern)).into()]),
                    };
                    insert(&mut metadata, path, value)?;
                    request
                }
            };
        }
        Some(metadata.iter().fold(request, |request, (filter, fields)| request.metadata(filter, fields)))
    }
}

/// Whether a request has only one value of this origin, so that a witness cannot have the values of two tests.
fn is_given_once(origin: Origin) -> bool {
    match origin {
        Origin::Address(_) | Origin::DestinationPort | Origin::Text(_) => true,
        Origin::PeerNames | Origin::Headers | Origin::Metadata => false,
    }
}

fn text(pattern: &Pattern) -> &[u8] {
    match pattern {
        Pattern::Present | Pattern::NonEmpty(_) => ANYTHING,
        Pattern::Exact(text) | Pattern::Prefix(text) | Pattern::Suffix(text) => text,
    }
}

fn path(template: &Template) -> Vec<u8> {
    let (segments, tail) = template.parts();
    let mut path = Vec::new();
    for literal in segments {
        path.extend_from_slice(literal);
        path.extend_from_slice(ANYTHING);
    }
    match tail {
        Tail::Literal(literal) => path.extend_from_slice(literal),
        Tail::Any(before, behind) => path.extend([&**before, &**behind].concat()),
    }
    path
}

fn name(matcher: &IdentityMatcher) -> Vec<u8> {
    let id: [&[u8]; 3] = match matcher {
        IdentityMatcher::Any(_) => [b"spiffe://", ANYTHING, b""],
        IdentityMatcher::Exact(text) | IdentityMatcher::Prefix(text) => [text, b"", b""],
        IdentityMatcher::Suffix(text, _) => [b"spiffe://", text, b""],
        IdentityMatcher::Namespace(pieces, _) => return [b"spiffe://x", &*pieces.concat(), b"sa/x"].concat(),
        IdentityMatcher::ServiceAccount { namespace, account, .. } => [b"spiffe://x", namespace, account],
        IdentityMatcher::TrustDomain { before, after, .. } => [before, after, b"ns/x/sa/x"],
    };
    id.concat()
}

fn string(bytes: &[u8]) -> Value {
    Value::String(String::from_utf8_lossy(bytes).into_owned())
}

/// Sets a value at a path, and creates the maps that lead to it. `None` if the path already has a value.
fn insert(metadata: &mut Vec<(String, Node)>, path: &MetadataPath, value: Value) -> Option<()> {
    let keys = std::iter::once(&path.filter).chain(&path.keys);
    let mut keys: Vec<_> = keys.map(|key| String::from_utf8_lossy(key).into_owned()).collect();
    let last = keys.pop()?;
    let mut entries = metadata;
    for key in keys {
        let at = entries.iter().position(|(name, _)| *name == key).unwrap_or_else(|| {
            entries.push((key, Value::Map(Vec::new()).into()));
            entries.len().saturating_sub(1)
        });
        entries = match entries.get_mut(at).map(|(_, node)| &mut node.value) {
            Some(Value::Map(inner)) => inner,
            _ => return None,
        };
    }
    if entries.iter().any(|(name, _)| *name == last) {
        return None;
    }
    entries.push((last, value.into()));
    Some(())
}
