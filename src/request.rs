//! What a decision can look at: the attributes of one request.
//!
//! [`Attributes`] is implemented twice: by the filter, which asks Envoy for each attribute when a rule first needs it,
//! and by [`Request`], a request written down, for tests and tools. Both hand out headers and metadata in the encoding
//! in which Envoy gives them to a filter, so that one piece of code ([`headers`], [`metadata`]) reads them everywhere.

pub mod headers;
pub mod metadata;
pub mod owned;

use std::net::IpAddr;

pub use self::headers::{HeaderValues, Headers};
pub use self::metadata::Metadata;
pub use self::owned::Request;

/// The answer to a question about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<T> {
    /// This is it.
    Value(T),
    /// The request has no such thing.
    Absent,
    /// The request may or may not have it: the host does not say. Never the same as absent.
    Unreadable,
}

impl<T> Lookup<T> {
    /// The same answer about something computed from the value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Lookup<U> {
        self.and_then(|value| Lookup::Value(f(value)))
    }

    /// The answer to a further question about the value.
    pub fn and_then<U>(self, f: impl FnOnce(T) -> Lookup<U>) -> Lookup<U> {
        match self {
            Self::Value(value) => f(value),
            Self::Absent => Lookup::Absent,
            Self::Unreadable => Lookup::Unreadable,
        }
    }
}

impl<T> Lookup<T> {
    /// The value, if there is one to show. Not for decisions: these tell absent from unreadable.
    pub fn known(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Unreadable => None,
        }
    }
}

impl Lookup<Vec<u8>> {
    /// The same answer, borrowed.
    #[must_use]
    pub fn as_slice(&self) -> Lookup<&[u8]> {
        match self {
            Self::Value(bytes) => Lookup::Value(bytes),
            Self::Absent => Lookup::Absent,
            Self::Unreadable => Lookup::Unreadable,
        }
    }
}

/// A name in the peer's certificate, in the order in which Envoy compares them with a principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerName {
    /// The URI subject alternative name: the SPIFFE id.
    Uri,
    /// Further URIs, which SPIFFE forbids. Unreadable if there are any: a host tells that there are, not what they are.
    FurtherUris,
    /// The DNS subject alternative name.
    Dns,
    /// The subject, as RFC 2253 prints it.
    Subject,
}

impl PeerName {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Uri, Self::FurtherUris, Self::Dns, Self::Subject];
}

/// An address that belongs to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// The local address of the connection.
    Destination,
    /// The client's address, as Envoy derives it from X-Forwarded-For or the PROXY protocol.
    Remote,
    /// The direct peer's address.
    Source,
}

/// The attributes of one request. Each is asked for as often as rules need it; an implementation that pays for an
/// answer keeps it.
pub trait Attributes {
    /// A name of the peer. Plaintext, or TLS without a client certificate: absent.
    fn peer_name(&self, which: PeerName) -> Lookup<&[u8]>;
    /// A name of the peer, as decisions see it. A name with a NUL is unreadable: certificates should have none, and some
    /// programs cut a name off there.
    fn checked_peer_name(&self, which: PeerName) -> Lookup<&[u8]> {
        self.peer_name(which).and_then(|name| if name.contains(&0) { Lookup::Unreadable } else { Lookup::Value(name) })
    }
    /// One of the addresses.
    fn address(&self, which: Address) -> Lookup<IpAddr>;
    /// The local port of the connection.
    fn destination_port(&self) -> Lookup<u16>;
    /// The server name that the client asked for in its TLS handshake.
    fn sni(&self) -> Lookup<&[u8]>;
    /// The values of a request header, in order; `:method`, `:path` and `:authority` are headers. The name is in lower case.
    fn header<'a>(&'a self, name: &'a [u8]) -> Lookup<HeaderValues<'a>>;
    /// The dynamic metadata that other filters have set, the claims of a verified token among it.
    fn metadata(&self) -> Lookup<Metadata<'_>>;
}

/// The part of `:path` that policies mean by the path: up to the first `?` or `#`.
#[must_use]
pub fn without_query(path: &[u8]) -> &[u8] {
    path.split(|b| matches!(b, b'?' | b'#')).next().unwrap_or(path)
}
