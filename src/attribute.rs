//! The attributes: everything that a policy can ask about a request or a connection.
//!
//! The table in this file has one row for each attribute. No other place classifies attributes; other code calls
//! [`Attribute::info`].
//!
//! | attributes are classified by | see |
//! | --- | --- |
//! | the condition key and the fields that name them | [`Info::key`], [`Info::fields`] |
//! | the traffic that has them: only HTTP requests, or connections too | [`Protocol`] |
//! | the subject that they say something about | [`Subject`] |
//! | the half of an Envoy RBAC policy into which Istio puts them | [`Side`] |
//! | the answer of the host that contains their values | [`Origin`] |
//!
//! CONTRIBUTING.md says what else a new attribute needs. The compiler finds these places, except in files and options
//! of the command.

use std::fmt;

use self::Key::{Bracketed, Whole};
use self::Protocol::{Any, Http};
use self::Side::{Permission, Principal};
use self::Subject::{Identity, Token, Traffic};

/// Generates the enum, [`Attribute::ALL`] and [`Attribute::info`] from rows, so that one row has everything about an
/// attribute.
macro_rules! table {
    ($($(#[$doc:meta])* $name:ident: $key:expr, $fields:expr, $protocol:expr, $subject:expr, $side:expr,
       $origin:expr;)*) => {
        /// Something that a policy can ask about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Attribute {
            $($(#[$doc])* $name,)*
        }

        impl Attribute {
            /// Every attribute, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The row of the attribute in the table.
            #[must_use]
            pub const fn info(self) -> Info {
                match self {
                    $(Self::$name => Info {
                        key: $key,
                        fields: $fields,
                        protocol: $protocol,
                        subject: $subject,
                        side: $side,
                        origin: $origin,
                    },)*
                }
            }
        }
    };
}

// The columns: condition key, field and its `not` twin, protocol, subject, side, origin.
table! {
    /// The address of the direct peer, which opened the connection.
    SourceIp: Some(Whole("source.ip")), Some(["ipBlocks", "notIpBlocks"]),
        Any, Traffic, Principal, Origin::Address(Address::Source);
    /// The client's address, as Envoy derives it from X-Forwarded-For or the PROXY protocol.
    RemoteIp: Some(Whole("remote.ip")), Some(["remoteIpBlocks", "notRemoteIpBlocks"]),
        Any, Traffic, Principal, Origin::Address(Address::Remote);
    /// The namespace in the peer's identity.
    SourceNamespace: Some(Whole("source.namespace")), Some(["namespaces", "notNamespaces"]),
        Any, Identity, Principal, Origin::PeerNames;
    /// The service account in the peer's identity.
    SourceServiceAccount: Some(Whole("source.serviceAccount")), Some(["serviceAccounts", "notServiceAccounts"]),
        Any, Identity, Principal, Origin::PeerNames;
    /// The peer's identity.
    SourcePrincipal: Some(Whole("source.principal")), Some(["principals", "notPrincipals"]),
        Any, Identity, Principal, Origin::PeerNames;
    /// The trust domain in the peer's identity.
    SourceTrustDomain: Some(Whole("source.trustDomain")), Some(["trustDomains", "notTrustDomains"]),
        Any, Identity, Principal, Origin::PeerNames;
    /// The issuer and the subject of the verified token.
    RequestPrincipal: Some(Whole("request.auth.principal")), Some(["requestPrincipals", "notRequestPrincipals"]),
        Http, Token, Principal, Origin::Metadata;
    /// A request header.
    Header: Some(Bracketed("request.headers")), None,
        Http, Traffic, Principal, Origin::Headers;
    /// A claim of the verified token.
    Claim: Some(Bracketed("request.auth.claims")), None,
        Http, Token, Principal, Origin::Metadata;
    /// The local address of the connection.
    DestinationIp: Some(Whole("destination.ip")), None,
        Any, Traffic, Permission, Origin::Address(Address::Destination);
    /// The local port of the connection.
    DestinationPort: Some(Whole("destination.port")), Some(["ports", "notPorts"]),
        Any, Traffic, Permission, Origin::DestinationPort;
    /// The server name in the client's TLS handshake.
    Sni: Some(Whole("connection.sni")), None,
        Any, Traffic, Permission, Origin::Text(ConnectionText::Sni);
    /// A value in the dynamic metadata that other filters have set.
    Metadata: Some(Bracketed("experimental.envoy.filters")), None,
        Any, Traffic, Permission, Origin::Metadata;
    /// `:authority`, with the port if the client sent one.
    Host: None, Some(["hosts", "notHosts"]),
        Http, Traffic, Permission, Origin::Headers;
    /// `:method`.
    Method: None, Some(["methods", "notMethods"]),
        Http, Traffic, Permission, Origin::Headers;
    /// `:path`, without query and fragment.
    Path: None, Some(["paths", "notPaths"]),
        Http, Traffic, Permission, Origin::Headers;
}

impl Attribute {
    /// Whether CUSTOM policies can ask for the attribute. They cannot ask for identities and tokens, because the
    /// provider is called before those are verified.
    #[must_use]
    pub const fn is_known_to_custom(self) -> bool {
        match self.info().subject {
            Identity | Token => false,
            Traffic => true,
        }
    }

    /// Whether only HTTP requests have the attribute.
    #[must_use]
    pub const fn is_http_only(self) -> bool {
        matches!(self.info().protocol, Http)
    }

    /// Whether the attribute says who the peer is.
    #[must_use]
    pub const fn is_identity(self) -> bool {
        matches!(self.info().subject, Identity)
    }

    /// The number of these attributes that have a field in sources or operations.
    pub(crate) const fn with_fields(attributes: &[Self]) -> usize {
        match attributes {
            [first, others @ ..] => {
                let one = if first.info().fields.is_some() { 1 } else { 0 };
                Self::with_fields(others).saturating_add(one)
            }
            [] => 0,
        }
    }
}

/// One row of the table: what is known about an attribute, independent of any request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// The key that names the attribute in a `when` condition. `None`: conditions cannot ask for it.
    pub key: Option<Key>,
    /// The field of a source or an operation, and its `not` twin. `None`: only conditions can ask for the attribute.
    pub fields: Option<[&'static str; 2]>,
    /// The traffic that has the attribute.
    pub protocol: Protocol,
    /// The subject that the attribute says something about.
    pub subject: Subject,
    /// The half of a policy in Envoy's RBAC filter into which Istio puts conditions on the attribute.
    pub side: Side,
    /// The answer of the host that contains the value.
    pub origin: Origin,
}

/// The key that names an attribute in a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// This key alone.
    Whole(&'static str),
    /// This key, followed by a name in brackets.
    Bracketed(&'static str),
}

/// The traffic that has an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP requests only. Istio leaves fields on such an attribute out of the policies for TCP.
    Http,
    /// Every connection, and therefore every request.
    Any,
}

/// The subject that an attribute says something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The peer, identified by its certificate.
    Identity,
    /// The user, identified by a verified token.
    Token,
    /// Anything else about the request or the connection.
    Traffic,
}

/// The two halves of a policy in Envoy's RBAC filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The half about who sends the request.
    Principal,
    /// The half about what the request wants.
    Permission,
}

/// A kind of address of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// The local address of the connection.
    Destination,
    /// The client's address, as Envoy derives it from X-Forwarded-For or the PROXY protocol.
    Remote,
    /// The direct peer's address.
    Source,
}

/// A text that belongs to the connection of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnectionText {
    /// The server name that the client asked for in its TLS handshake.
    Sni,
}

/// An answer of the host. One answer can contain the values of several attributes. It prints as in logs and
/// explanations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The names in the peer's certificate.
    PeerNames,
    /// An address.
    Address(Address),
    /// The local port of the connection.
    DestinationPort,
    /// A text of the connection.
    Text(ConnectionText),
    /// The request headers.
    Headers,
    /// The dynamic metadata.
    Metadata,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PeerNames => "source.principal",
            Self::Address(Address::Source) => "source.ip",
            Self::Address(Address::Remote) => "remote.ip",
            Self::Address(Address::Destination) => "destination.ip",
            Self::DestinationPort => "destination.port",
            Self::Text(ConnectionText::Sni) => "connection.sni",
            Self::Headers => "request.headers",
            Self::Metadata => "metadata",
        })
    }
}
