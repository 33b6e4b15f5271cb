//! Everything that a policy can ask about a request or a connection: one row for each attribute.
//!
//! This table is the only place that sorts attributes: by the fields and the condition key that name them, by who has them
//! (only HTTP requests, or connections too), by what they tell, and by what the host is asked for. Whatever needs to know
//! asks [`Attribute::info`]. CONTRIBUTING.md lists what else a new attribute needs; the compiler finds the places.

use std::fmt;

use self::Cardinality::{Set, Single};
use self::Key::{Bracketed, Whole};
use self::Protocol::{Any, Http};
use self::Side::{Permission, Principal};
use self::Subject::{Identity, Token, Traffic};

/// Makes the enum, [`Attribute::ALL`] and [`Attribute::info`] from rows, so that a row is all in one place.
macro_rules! table {
    ($($(#[$doc:meta])* $name:ident: $key:expr, $fields:expr, $protocol:expr, $subject:expr, $side:expr,
       $cardinality:expr, $origin:expr;)*) => {
        /// Something that a policy can ask about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Attribute {
            $($(#[$doc])* $name,)*
        }

        impl Attribute {
            /// Every attribute, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// What is known about the attribute.
            #[must_use]
            pub const fn info(self) -> Info {
                match self {
                    $(Self::$name => Info {
                        key: $key,
                        fields: $fields,
                        protocol: $protocol,
                        subject: $subject,
                        side: $side,
                        cardinality: $cardinality,
                        origin: $origin,
                    },)*
                }
            }
        }
    };
}

// The columns: condition key, field and its `not` twin, protocol, subject, side, cardinality, origin.
table! {
    /// The address of whoever opened the connection.
    SourceIp: Some(Whole("source.ip")), Some(["ipBlocks", "notIpBlocks"]),
        Any, Traffic, Principal, Single, Origin::SourceIp;
    /// The client's address, as Envoy derives it from X-Forwarded-For or the PROXY protocol.
    RemoteIp: Some(Whole("remote.ip")), Some(["remoteIpBlocks", "notRemoteIpBlocks"]),
        Any, Traffic, Principal, Single, Origin::RemoteIp;
    /// The namespace in the peer's identity.
    SourceNamespace: Some(Whole("source.namespace")), Some(["namespaces", "notNamespaces"]),
        Any, Identity, Principal, Set, Origin::PeerNames;
    /// The service account in the peer's identity.
    SourceServiceAccount: Some(Whole("source.serviceAccount")), Some(["serviceAccounts", "notServiceAccounts"]),
        Any, Identity, Principal, Set, Origin::PeerNames;
    /// The peer's identity.
    SourcePrincipal: Some(Whole("source.principal")), Some(["principals", "notPrincipals"]),
        Any, Identity, Principal, Set, Origin::PeerNames;
    /// The trust domain in the peer's identity.
    SourceTrustDomain: Some(Whole("source.trustDomain")), Some(["trustDomains", "notTrustDomains"]),
        Any, Identity, Principal, Set, Origin::PeerNames;
    /// Issuer and subject of the verified token.
    RequestPrincipal: Some(Whole("request.auth.principal")), Some(["requestPrincipals", "notRequestPrincipals"]),
        Http, Token, Principal, Single, Origin::Metadata;
    /// A request header.
    Header: Some(Bracketed("request.headers")), None,
        Http, Traffic, Principal, Set, Origin::Headers;
    /// A claim of the verified token.
    Claim: Some(Bracketed("request.auth.claims")), None,
        Http, Token, Principal, Set, Origin::Metadata;
    /// The local address of the connection.
    DestinationIp: Some(Whole("destination.ip")), None,
        Any, Traffic, Permission, Single, Origin::DestinationIp;
    /// The local port of the connection.
    DestinationPort: Some(Whole("destination.port")), Some(["ports", "notPorts"]),
        Any, Traffic, Permission, Single, Origin::DestinationPort;
    /// The server name in the client's TLS handshake.
    Sni: Some(Whole("connection.sni")), None,
        Any, Traffic, Permission, Single, Origin::Sni;
    /// A value in the dynamic metadata that other filters have set.
    Metadata: Some(Bracketed("experimental.envoy.filters")), None,
        Any, Traffic, Permission, Set, Origin::Metadata;
    /// `:authority`, with the port if the client sent one.
    Host: None, Some(["hosts", "notHosts"]),
        Http, Traffic, Permission, Single, Origin::Headers;
    /// `:method`.
    Method: None, Some(["methods", "notMethods"]),
        Http, Traffic, Permission, Single, Origin::Headers;
    /// `:path`, without query and fragment.
    Path: None, Some(["paths", "notPaths"]),
        Http, Traffic, Permission, Single, Origin::Headers;
}

impl Attribute {
    /// Whether CUSTOM policies can ask for it. The provider is asked before identities and tokens are verified.
    #[must_use]
    pub const fn is_known_to_custom(self) -> bool {
        match self.info().subject {
            Identity | Token => false,
            Traffic => true,
        }
    }

    /// Whether only HTTP requests have it.
    #[must_use]
    pub const fn is_http_only(self) -> bool {
        matches!(self.info().protocol, Http)
    }

    /// Whether it tells who the peer is.
    #[must_use]
    pub const fn is_identity(self) -> bool {
        matches!(self.info().subject, Identity)
    }

    /// How many of these have fields.
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

/// What is known about an attribute, whatever a request's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// How a `when` condition names it; `None`: conditions cannot.
    pub key: Option<Key>,
    /// The field of a source or an operation, and its `not` twin; `None`: only conditions can ask for it.
    pub fields: Option<[&'static str; 2]>,
    /// Which traffic has it.
    pub protocol: Protocol,
    /// What it tells.
    pub subject: Subject,
    /// Where Istio puts a condition on it in Envoy's RBAC filter.
    pub side: Side,
    /// How many values a request can have.
    pub cardinality: Cardinality,
    /// What the host is asked for.
    pub origin: Origin,
}

/// How a condition names an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// By this key.
    Whole(&'static str),
    /// By this key and a name in brackets behind it.
    Bracketed(&'static str),
}

/// Which traffic has an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP requests only. Istio leaves a field on it out of the policies for TCP.
    Http,
    /// Every connection, and so every request.
    Any,
}

/// What an attribute tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Who the peer is, by its certificate.
    Identity,
    /// Who the user is, by a verified token.
    Token,
    /// Anything else.
    Traffic,
}

/// The two halves of a policy in Envoy's RBAC filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who asks.
    Principal,
    /// What is asked for.
    Permission,
}

/// How many values of an attribute a request can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cardinality {
    /// One at most.
    Single,
    /// Any number; a condition asks whether one of them matches.
    Set,
}

/// What a host is asked for: the value of several attributes can be in one answer. Prints as in logs and explanations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The names in the peer's certificate.
    PeerNames,
    /// The direct peer's address.
    SourceIp,
    /// The client's address.
    RemoteIp,
    /// The local address.
    DestinationIp,
    /// The local port.
    DestinationPort,
    /// The server name of the TLS handshake.
    Sni,
    /// The request headers.
    Headers,
    /// The dynamic metadata.
    Metadata,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PeerNames => "source.principal",
            Self::SourceIp => "source.ip",
            Self::RemoteIp => "remote.ip",
            Self::DestinationIp => "destination.ip",
            Self::DestinationPort => "destination.port",
            Self::Sni => "connection.sni",
            Self::Headers => "request.headers",
            Self::Metadata => "metadata",
        })
    }
}
