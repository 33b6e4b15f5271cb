//! A request made from a rule: the one that its first values describe.
//!
//! Whatever covers an alternative of a rule ([`super::cover`]) finds the witness of that alternative in an
//! [index](super::index): each of its values that must match is there in literal form, so a wider prefix begins it, a wider
//! network holds it, and a rule that asks for something else is left out.

use super::compile::{Check, Expected, MetadataMatcher, MetadataPath, PathMatcher};
use super::cover::Alternative;
use crate::document::{Node, Value};
use crate::identity::IdentityMatcher;
use crate::matcher::Pattern;
use crate::matcher::template::{Tail, Template};
use crate::request::{Lookup, PeerName, Request};

/// What stands where anything may.
const ANYTHING: &[u8] = b"x";

impl Alternative<'_> {
    /// The request that has the first value of each of its tests.
    #[must_use]
    pub fn witness(self) -> Request {
        let mut request = Request::default()
            .source_ip(Lookup::Absent)
            .remote_ip(Lookup::Absent)
            .destination_ip(Lookup::Absent)
            .destination_port(Lookup::Absent);
        let mut metadata: Vec<(String, Node)> = Vec::new();
        for check in self.tests().filter(|test| test.expected == Expected::Match).map(|test| &test.check) {
            request = match check {
                Check::Identity(matchers) => match matchers.first() {
                    Some(matcher) => request.peer_name(PeerName::Uri, Lookup::Value(&name(matcher))),
                    None => request,
                },
                Check::SourceIp(blocks) => match blocks.first() {
                    Some(block) => request.source_ip(Lookup::Value(block.address)),
                    None => request,
                },
                Check::RemoteIp(blocks) => match blocks.first() {
                    Some(block) => request.remote_ip(Lookup::Value(block.address)),
                    None => request,
                },
                Check::DestinationIp(blocks) => match blocks.first() {
                    Some(block) => request.destination_ip(Lookup::Value(block.address)),
                    None => request,
                },
                Check::DestinationPort(ports) => match ports.first() {
                    Some(port) => request.destination_port(Lookup::Value(*port)),
                    None => request,
                },
                Check::Sni(patterns) => request.sni(Lookup::Value(first(patterns))),
                Check::Host(patterns) => request.header(":authority", first(patterns)),
                Check::Path(matchers) => match matchers.first() {
                    Some(PathMatcher::Text(pattern)) => request.header(":path", text(pattern)),
                    Some(PathMatcher::Template(template)) => request.header(":path", path(template)),
                    None => request,
                },
                Check::Header(name, patterns) => request.header(name, first(patterns)),
                Check::RequestPrincipal { issuer, subject, matchers } => {
                    if let Some(matcher) = matchers.first() {
                        insert(&mut metadata, issuer, string(text(&matcher.issuer)));
                        insert(&mut metadata, subject, string(text(&matcher.subject)));
                    }
                    request
                }
                Check::Claim(path, patterns) => {
                    insert(&mut metadata, path, string(first(patterns)));
                    request
                }
                Check::Metadata(path, matchers) => {
                    let value = matchers.first().map(|matcher| match matcher {
                        MetadataMatcher::Text(pattern) => string(text(pattern)),
                        MetadataMatcher::Element(pattern) => Value::List(vec![string(text(pattern)).into()]),
                    });
                    insert(&mut metadata, path, value.unwrap_or(Value::Null));
                    request
                }
            };
        }
        metadata.iter().fold(request, |request, (filter, fields)| request.metadata(filter, fields))
    }
}

fn first(patterns: &[Pattern]) -> &[u8] {
    patterns.first().map_or(ANYTHING, text)
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

/// Puts a value under a path, with what leads to it.
fn insert(metadata: &mut Vec<(String, Node)>, path: &MetadataPath, value: Value) {
    let keys = std::iter::once(&path.filter).chain(&path.keys);
    let mut keys: Vec<_> = keys.map(|key| String::from_utf8_lossy(key).into_owned()).collect();
    let Some(last) = keys.pop() else { return };
    let mut entries = metadata;
    for key in keys {
        let at = entries.iter().position(|(name, _)| *name == key).unwrap_or_else(|| {
            entries.push((key, Value::Map(Vec::new()).into()));
            entries.len().saturating_sub(1)
        });
        match entries.get_mut(at).map(|(_, node)| &mut node.value) {
            Some(Value::Map(inner)) => entries = inner,
            // A claim cannot both be a text and have claims in it.
            _ => return,
        }
    }
    entries.push((last, value.into()));
}
