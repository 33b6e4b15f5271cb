//! The attributes of one request, on which a decision is based.
//!
//! [`Attributes`] has two implementations:
//!
//! | implementation | source of the attributes |
//! | --- | --- |
//! | the filter | asks Envoy for an attribute when a rule first needs it |
//! | [`Request`] | has all attributes in memory; for tests and tools |
//!
//! Both provide headers and metadata in the encoding in which Envoy passes them to a filter. So the same code
//! ([`headers`], [`metadata`]) reads them everywhere.

pub(crate) mod byte_map;
pub(crate) mod forms;
pub mod headers;
pub mod metadata;
pub mod owned;

use std::net::IpAddr;

pub use self::headers::{HeaderValues, Headers};
pub use self::metadata::Metadata;
pub use self::owned::{PartlyKnown, Request};
pub use crate::attribute::{Address, ConnectionText};

/// The result of asking for an attribute of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<T> {
    /// The request has it, and this is its value.
    Value(T),
    /// The request does not have it.
    Absent,
    /// The request may or may not have it: the host does not tell. This is never treated as absent.
    Unreadable,
}

impl<T> Lookup<T> {
    /// Applies a function to the value. Absent and unreadable stay as they are.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Lookup<U> {
        self.and_then(|value| Lookup::Value(f(value)))
    }

    /// Looks something up in the value. Absent and unreadable stay as they are.
    pub fn and_then<U>(self, f: impl FnOnce(T) -> Lookup<U>) -> Lookup<U> {
        match self {
            Self::Value(value) => f(value),
            Self::Absent => Lookup::Absent,
            Self::Unreadable => Lookup::Unreadable,
        }
    }
}

impl<T> Lookup<T> {
    /// The value, if there is one to show. Do not use this for decisions: they must distinguish absent from unreadable.
    pub fn known(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Unreadable => None,
        }
    }
}

impl Lookup<Vec<u8>> {
    /// The same result, borrowed.
    #[must_use]
    pub fn as_slice(&self) -> Lookup<&[u8]> {
        match self {
            Self::Value(bytes) => Lookup::Value(bytes),
            Self::Absent => Lookup::Absent,
            Self::Unreadable => Lookup::Unreadable,
        }
    }
}

/// A kind of name in the peer's certificate. The order is the one in which Envoy compares the names with a principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerName {
    /// The URI subject alternative name: the SPIFFE id.
    Uri,
    /// The further URI subject alternative names, which SPIFFE forbids. If there are any, this is unreadable: the host
    /// tells that they exist, but not their values.
    FurtherUris,
    /// The DNS subject alternative name.
    Dns,
    /// The subject, as RFC 2253 prints it.
    Subject,
}

impl PeerName {
    /// All kinds of names, in order.
    pub const ALL: [Self; 4] = [Self::Uri, Self::FurtherUris, Self::Dns, Self::Subject];
}

/// The attributes of one request. The engine asks for an attribute every time a rule needs it. An implementation for
/// which an answer is expensive keeps the answer.
pub trait Attributes {
    /// A name of the peer. It is absent in plaintext, and in TLS without a client certificate.
    fn peer_name(&self, which: PeerName) -> Lookup<&[u8]>;
    /// A name of the peer, as decisions use it. A name with a NUL is unreadable: a certificate should not have one, and
    /// some programs cut off the name there. So is a name that is longer than a SPIFFE ID can be: every rule would read
    /// it.
    fn checked_peer_name(&self, which: PeerName) -> Lookup<&[u8]> {
        const LONGEST: usize = 2_048;
        self.peer_name(which).and_then(|name| {
            if name.len() > LONGEST || name.contains(&0) { Lookup::Unreadable } else { Lookup::Value(name) }
        })
    }
    /// An address of this kind.
    fn address(&self, which: Address) -> Lookup<IpAddr>;
    /// The local port of the connection.
    fn destination_port(&self) -> Lookup<u16>;
    /// A text of the connection.
    fn text(&self, which: ConnectionText) -> Lookup<&[u8]>;
    /// The values of a request header, in order. `name` is in lower case. `:method`, `:path` and `:authority` are
    /// headers too.
    fn header<'a>(&'a self, name: &'a [u8]) -> Lookup<HeaderValues<'a>>;
    /// The dynamic metadata that other filters have set. It includes the claims of a verified token.
    fn metadata(&self) -> Lookup<Metadata<'_>>;
}

/// The part of `:path` that policies call the path: everything before the first `?` or `#`.
#[must_use]
pub fn without_query(path: &[u8]) -> &[u8] {
    path.split(|b| matches!(b, b'?' | b'#')).next().unwrap_or(path)
}

/// Whether Envoy's normalization would keep a path, without its query, as it is: the path has no `.` or `..` segment, also
/// not with parameters (`..;a=b`), no `//`, no `\`, no escaped slash or backslash, and no other escape that Envoy decodes: of a letter, a digit, `-`,
/// `.`, `_` or `~`.
///
/// Envoy also escapes some bytes, such as `{`. That hides no path from a policy, so it does not count.
#[must_use]
pub fn is_normalized(path: &[u8]) -> bool {
    let mut rest = path;
    while let [first, after @ ..] = rest {
        let is_changed = match first {
            b'/' => after.first() == Some(&b'/') || begins_with_dot_segment(after),
            b'%' => is_decoded(after),
            b'\\' => true,
            _ => false,
        };
        if is_changed {
            return false;
        }
        rest = after;
    }
    true
}

/// Whether Envoy decodes an escape, of which these are the bytes after `%`.
fn is_decoded(digits: &[u8]) -> bool {
    let [high, low, ..] = digits else { return false };
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => byte & 0xf,
        _ => (byte & 0xf).wrapping_add(9),
    };
    let byte = digit(*high).wrapping_mul(16).wrapping_add(digit(*low));
    high.is_ascii_hexdigit() && low.is_ascii_hexdigit() && (byte.is_ascii_alphanumeric() || b"-._~/\\".contains(&byte))
}

fn begins_with_dot_segment(path: &[u8]) -> bool {
    // An escaped dot is found by itself.
    matches!(path, [b'.'] | [b'.', b'/' | b';', ..] | [b'.', b'.'] | [b'.', b'.', b'/' | b';', ..])
}
