//! A request in memory: for tests, for the command, and for everything else that runs without Envoy.

use std::collections::BTreeMap;
use std::net::IpAddr;

use prost::encoding::{WireType, encode_key, encode_varint};

use super::{Address, Attributes, ConnectionText, HeaderValues, Headers, Lookup, Metadata, PeerName};
use crate::document::{Node, Value};

/// A request with every attribute in memory.
///
/// The default request has no headers and no metadata, and is in plaintext. Its addresses and its port are unreadable
/// until they are set.
#[derive(Clone, Debug)]
pub struct Request {
    uri: Lookup<Vec<u8>>,
    further_uris: Lookup<Vec<u8>>,
    dns: Lookup<Vec<u8>>,
    subject: Lookup<Vec<u8>>,
    /// An address that is not here is unreadable.
    addresses: BTreeMap<Address, Lookup<IpAddr>>,
    destination_port: Lookup<u16>,
    /// A text that is not here is absent.
    texts: BTreeMap<ConnectionText, Lookup<Vec<u8>>>,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    encoded_headers: Lookup<Vec<u8>>,
    metadata: Lookup<Vec<u8>>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            uri: Lookup::Absent,
            further_uris: Lookup::Absent,
            dns: Lookup::Absent,
            subject: Lookup::Absent,
            addresses: BTreeMap::new(),
            destination_port: Lookup::Unreadable,
            texts: BTreeMap::new(),
            headers: Vec::new(),
            encoded_headers: Lookup::Value(Vec::new()),
            metadata: Lookup::Value(Vec::new()),
        }
    }
}

impl Request {
    /// A plaintext request with this method and path.
    #[must_use]
    pub fn new(method: &str, path: &str) -> Self {
        Self::default().header(":method", method).header(":path", path)
    }

    /// Sets the peer's principal, written without `spiffe://`: the URI in the peer's certificate.
    #[must_use]
    pub fn principal(self, principal: &str) -> Self {
        self.peer_name(PeerName::Uri, Lookup::Value(format!("spiffe://{principal}").as_bytes()))
    }

    /// Sets one of the names in the peer's certificate.
    #[must_use]
    pub fn peer_name(mut self, which: PeerName, name: Lookup<&[u8]>) -> Self {
        let name = name.map(<[u8]>::to_vec);
        match which {
            PeerName::Uri => self.uri = name,
            PeerName::FurtherUris => self.further_uris = name,
            PeerName::Dns => self.dns = name,
            PeerName::Subject => self.subject = name,
        }
        self
    }

    /// Sets the address of the direct peer.
    #[must_use]
    pub fn source_ip(self, address: Lookup<IpAddr>) -> Self {
        self.with_address(Address::Source, address)
    }

    /// Sets the address of the client.
    #[must_use]
    pub fn remote_ip(self, address: Lookup<IpAddr>) -> Self {
        self.with_address(Address::Remote, address)
    }

    /// Sets the local address of the connection.
    #[must_use]
    pub fn destination_ip(self, address: Lookup<IpAddr>) -> Self {
        self.with_address(Address::Destination, address)
    }

    /// Sets the local port of the connection.
    #[must_use]
    pub fn destination_port(mut self, port: Lookup<u16>) -> Self {
        self.destination_port = port;
        self
    }

    /// Sets the server name of the TLS handshake.
    #[must_use]
    pub fn sni(self, name: Lookup<&[u8]>) -> Self {
        self.with_text(ConnectionText::Sni, name)
    }

    /// Sets one of the addresses.
    #[must_use]
    pub fn with_address(mut self, which: Address, address: Lookup<IpAddr>) -> Self {
        self.addresses.insert(which, address);
        self
    }

    /// Sets a text of the connection.
    #[must_use]
    pub fn with_text(mut self, which: ConnectionText, text: Lookup<&[u8]>) -> Self {
        self.texts.insert(which, text.map(<[u8]>::to_vec));
        self
    }

    /// Adds a header. The name is converted to lower case. Earlier headers with the same name stay.
    #[must_use]
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.as_ref().to_ascii_lowercase(), value.as_ref().to_vec()));
        self.encoded_headers = Lookup::Value(Headers::encode(&self.headers));
        self
    }

    /// Makes the headers unreadable, as if the host failed to provide them.
    #[must_use]
    pub fn unreadable_headers(mut self) -> Self {
        self.encoded_headers = Lookup::Unreadable;
        self
    }

    /// Adds the dynamic metadata that one filter has set under its name. Call this only once for each filter.
    #[must_use]
    pub fn metadata(mut self, filter: &str, fields: &Node) -> Self {
        if let (Lookup::Value(message), Value::Map(entries)) = (&mut self.metadata, &fields.value) {
            encode_entry(filter, &encode_fields(entries), message);
        }
        self
    }

    /// Sets all of the dynamic metadata, in Envoy's encoding. The message may be malformed.
    #[must_use]
    pub fn encoded_metadata(mut self, message: Lookup<Vec<u8>>) -> Self {
        self.metadata = message;
        self
    }
}

impl Attributes for Request {
    fn peer_name(&self, which: PeerName) -> Lookup<&[u8]> {
        match which {
            PeerName::Uri => self.uri.as_slice(),
            PeerName::FurtherUris => self.further_uris.as_slice(),
            PeerName::Dns => self.dns.as_slice(),
            PeerName::Subject => self.subject.as_slice(),
        }
    }

    fn address(&self, which: Address) -> Lookup<IpAddr> {
        self.addresses.get(&which).copied().unwrap_or(Lookup::Unreadable)
    }

    fn destination_port(&self) -> Lookup<u16> {
        self.destination_port
    }

    fn text(&self, which: ConnectionText) -> Lookup<&[u8]> {
        self.texts.get(&which).map_or(Lookup::Absent, Lookup::as_slice)
    }

    fn header<'a>(&'a self, name: &'a [u8]) -> Lookup<HeaderValues<'a>> {
        self.encoded_headers.as_slice().and_then(Headers::again).map(|headers| headers.values(name))
    }

    fn metadata(&self) -> Lookup<Metadata<'_>> {
        self.metadata.as_slice().map(Metadata::new)
    }
}

/// Encodes the fields of a `google.protobuf.Struct`.
fn encode_fields(entries: &[(String, Node)]) -> Vec<u8> {
    let mut message = Vec::new();
    for (key, node) in entries {
        encode_entry(key, &encode_value(node), &mut message);
    }
    message
}

/// Encodes a `google.protobuf.Value`.
#[must_use]
pub fn encode_value(node: &Node) -> Vec<u8> {
    let mut message = Vec::new();
    match &node.value {
        Value::Null => encode_integer(1, 0, &mut message),
        Value::Number(number) => {
            encode_key(2, WireType::SixtyFourBit, &mut message);
            message.extend(number.to_le_bytes());
        }
        Value::String(text) => encode_bytes(3, text.as_bytes(), &mut message),
        Value::Bool(value) => encode_integer(4, u64::from(*value), &mut message),
        Value::Map(entries) => encode_bytes(5, &encode_fields(entries), &mut message),
        Value::List(items) => {
            let mut list = Vec::new();
            for item in items {
                encode_bytes(1, &encode_value(item), &mut list);
            }
            encode_bytes(6, &list, &mut message);
        }
    }
    message
}

/// Dynamic metadata of which not everything is known, for tools.
#[derive(Clone, Debug)]
pub enum PartlyKnown {
    /// This value.
    Value(Node),
    /// These fields.
    Fields(Vec<(String, PartlyKnown)>),
    /// There may be a value.
    Unknown,
}

impl PartlyKnown {
    /// The encoded metadata of these filters. What is unknown is malformed there, and so unreadable. What is not there is absent.
    #[must_use]
    pub fn encode(filters: &[(String, Self)]) -> Vec<u8> {
        let mut message = Vec::new();
        for (filter, fields) in filters {
            encode_entry(filter, &fields.encode_fields(), &mut message);
        }
        message
    }

    /// As a `google.protobuf.Struct`.
    fn encode_fields(&self) -> Vec<u8> {
        match self {
            Self::Value(Node { value: Value::Map(entries), .. }) => encode_fields(entries),
            Self::Value(_) => Vec::new(),
            Self::Fields(fields) => {
                let mut message = Vec::new();
                for (key, value) in fields {
                    encode_entry(key, &value.encode_value(), &mut message);
                }
                message
            }
            Self::Unknown => MALFORMED.to_vec(),
        }
    }

    /// As a `google.protobuf.Value`.
    fn encode_value(&self) -> Vec<u8> {
        match self {
            Self::Value(node) => encode_value(node),
            Self::Fields(_) => {
                let mut message = Vec::new();
                encode_bytes(5, &self.encode_fields(), &mut message);
                message
            }
            Self::Unknown => MALFORMED.to_vec(),
        }
    }
}

/// A field that ends too early.
const MALFORMED: [u8; 2] = [0x1a, 0x7f];

fn encode_entry(key: &str, value: &[u8], message: &mut Vec<u8>) {
    let mut entry = Vec::new();
    encode_bytes(1, key.as_bytes(), &mut entry);
    encode_bytes(2, value, &mut entry);
    encode_bytes(1, &entry, message);
}

fn encode_bytes(number: u32, bytes: &[u8], message: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, message);
    encode_varint(bytes.len() as u64, message);
    message.extend_from_slice(bytes);
}

fn encode_integer(number: u32, value: u64, message: &mut Vec<u8>) {
    encode_key(number, WireType::Varint, message);
    encode_varint(value, message);
}
