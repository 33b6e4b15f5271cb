//! Generates connections, and requests over them; and sends them.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use base64::Engine as _;
use fastrand::Rng;
use mesh_authz::document::Node;
use mesh_authz::request::owned::encode_value;
use serde_json::{Value, json};
use testbed::{Client, Connection, Http2Connection, Http2Request, Request, Response};

use crate::vocabulary::*;

/// The client's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A certificate with this URI, written here without `spiffe://`.
    Spiffe(&'static str),
    /// A certificate with this DNS name and no URI.
    Dns(&'static str),
    /// A certificate with only this subject.
    Subject(&'static str),
    /// A certificate with a URI of these bytes.
    Odd(&'static [u8]),
    /// TLS without a client certificate.
    Anonymous,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    pub peer: Peer,
    pub sni: Option<&'static str>,
    /// The last byte N of the direct peer's address, 127.0.0.N. `None`: the address is `::1`.
    pub from: Option<u8>,
    /// The client's address and the local address in the PROXY protocol header.
    pub proxied: (SocketAddr, SocketAddr),
    pub http2: bool,
}

/// A request over a connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    pub method: &'static str,
    pub path: Vec<u8>,
    pub host: &'static str,
    pub headers: Vec<(&'static str, Vec<u8>)>,
    pub forwarded_for: Option<&'static str>,
    pub claims: Option<Value>,
    pub metadata: Vec<(usize, Value)>,
}

/// The last two end as identities do: a suffix without the scheme would match them.
const DNS_NAMES: [&str; 4] = ["a.example.com", "localhost", "a", "bar"];
const ODD_URIS: [&[u8]; 3] =
    [b"spiffe://td1/ns/foo/sa/a\nb", b"spiffe://td1/ns/foo/sa/\xff", b"spiffe://td1/ns/foo/sa/a\0b"];

impl Link {
    /// A connection to a listener with policies that have these words. Many peers match one of them, or nearly do.
    pub fn generate(rng: &mut Rng, on_ipv6: bool, words: &[String]) -> Self {
        let dns = DNS_NAMES.map(|name| (name, Peer::Dns(name)));
        let spiffe = IDENTITIES.map(|id| (id, Peer::Spiffe(id)));
        let is_near = |(name, _): &(&str, Peer)| words.iter().any(|word| is_near(name, word));
        let near: Vec<_> = dns.into_iter().chain(spiffe).filter(is_near).collect();
        let peer = match rng.u8(..24) {
            0 => Peer::Dns(pick(rng, &DNS_NAMES)),
            1 => Peer::Subject(pick(rng, &["a", "cluster.local/ns/foo/sa/a"])),
            2 | 3 => Peer::Anonymous,
            4 => Peer::Odd(pick(rng, &ODD_URIS)),
            5..=14 if !near.is_empty() => near[rng.usize(..near.len())].1.clone(),
            _ => Peer::Spiffe(pick(rng, &IDENTITIES)),
        };
        let (client, local) = if rng.bool() { (&IPV4[..], &IPV4[..]) } else { (&IPV6[..], &IPV6[..]) };
        let address = |rng: &mut Rng, ips: &[&str]| -> SocketAddr {
            SocketAddr::new(pick(rng, ips).parse::<IpAddr>().unwrap(), pick(rng, &PORTS))
        };
        Self {
            peer,
            sni: if rng.u8(..3) == 0 { None } else { Some(pick(rng, &SNIS)) },
            from: if on_ipv6 { None } else { Some(1 + rng.u8(..4)) },
            proxied: (address(rng, client), address(rng, local)),
            http2: rng.u8(..4) == 0,
        }
    }

    /// Whether the identity has bytes that Envoy's regular expressions treat differently from others.
    pub fn is_odd(&self) -> bool {
        matches!(self.peer, Peer::Odd(_))
    }
}

/// An open connection.
pub enum Open {
    Http1(Box<Connection>),
    Http2(Box<Http2Connection>),
}

impl Open {
    pub fn connect(client: &Client, http2: bool) -> Result<Self> {
        Ok(if http2 {
            Self::Http2(Box::new(client.connect_http2()?))
        } else {
            Self::Http1(Box::new(client.connect()?))
        })
    }

    /// Sends a request, with further headers.
    pub fn send(&mut self, question: &Question, more: Vec<(String, String)>) -> Result<Response> {
        let forwarded = question.forwarded_for.map(|ip| ("x-forwarded-for".to_owned(), ip.as_bytes().to_vec()));
        let more = more.into_iter().map(|(name, value)| (name, value.into_bytes()));
        let own = question.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let headers = own.chain(forwarded).chain(more);
        match self {
            Self::Http1(connection) => {
                let request = Request::new(question.method, &question.path).host(question.host);
                connection.send(&headers.fold(request, |request, (name, value)| request.header(name, value)))
            }
            Self::Http2(connection) => {
                let request = Http2Request::new(question.method, &question.path).replace(":authority", question.host);
                // HTTP/2 forbids white space around a value; in HTTP/1, the receiver removes it.
                let add = |request: Http2Request, (name, value): (String, Vec<u8>)| {
                    request.header(name.to_ascii_lowercase(), value.trim_ascii())
                };
                connection.send(&headers.fold(request, add))
            }
        }
    }
}

/// Whether the name has all segments of the word, perhaps without their last characters.
fn is_near(name: &str, word: &str) -> bool {
    word.trim_matches('*').split('/').all(|segment| {
        let mut characters = segment.chars();
        characters.next_back();
        name.contains(characters.as_str())
    })
}

impl Question {
    pub fn generate(rng: &mut Rng, http2: bool) -> Self {
        let mut headers = Vec::new();
        for _ in 0..rng.usize(..3) {
            let value = match rng.u8(..12) {
                0 => vec![0xff, 0xfe],
                1 => "admïn".as_bytes().to_vec(),
                _ => pick(rng, &HEADER_VALUES).as_bytes().to_vec(),
            };
            headers.push((pick(rng, &HEADER_NAMES_SENT), value));
        }
        let metadata = (0..METADATA.len()).filter(|_| rng.u8(..3) == 0).collect::<Vec<_>>();
        Self {
            method: pick(rng, if http2 { &METHODS } else { &METHODS[..4] }),
            path: path(rng, http2),
            host: match rng.u8(..6) {
                // Over HTTP/2, Envoy closes the connection if the host has userinfo.
                0 => pick(rng, if http2 { &HOST_FORMS[..2] } else { &HOST_FORMS }),
                _ => pick(rng, &HOSTS),
            },
            headers,
            forwarded_for: match rng.u8(..4) {
                0 => Some(pick(rng, &IPV4)),
                1 => Some(pick(rng, &IPV6)),
                _ => None,
            },
            claims: if rng.u8(..5) < 2 { None } else { Some(claims(rng)) },
            metadata: metadata.into_iter().map(|index| (index, claim(rng))).collect(),
        }
    }

    /// Whether a header has white space around its value, which only HTTP/2 lets through.
    pub fn has_white_space(&self) -> bool {
        let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        self.headers.iter().any(|(_, value)| is_blank(value.first()) || is_blank(value.last()))
    }

    /// Whether the host is one that servers take for the same as another.
    pub fn has_host_form(&self) -> bool {
        HOST_FORMS.contains(&self.host)
    }

    /// Whether the request has bytes that Envoy's regular expressions and templates treat differently from others.
    pub fn is_odd(&self) -> bool {
        let path = self.path.split(|b| matches!(b, b'?' | b'#')).next().unwrap();
        let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=*/".contains(b);
        let values = self.claims.iter().chain(self.metadata.iter().map(|(_, value)| value));
        self.has_white_space()
            || self.has_host_form()
            || !path.iter().all(plain)
            || values.map(Value::to_string).any(|json| json.contains("\\n"))
    }

    /// The headers with the claims and the metadata. A filter before the two engines turns them into dynamic metadata
    /// and removes them.
    pub fn metadata_headers(&self) -> Vec<(String, String)> {
        let encode = |value: &Value| {
            let node: Node = serde_json::from_value(value.clone()).unwrap();
            base64::engine::general_purpose::STANDARD.encode(encode_value(&node))
        };
        let claims = self.claims.iter().map(|claims| ("x-claims".to_owned(), encode(claims)));
        let metadata = self.metadata.iter().map(|(index, value)| (format!("x-metadata-{index}"), encode(value)));
        claims.chain(metadata).collect()
    }
}

fn path(rng: &mut Rng, http2: bool) -> Vec<u8> {
    let path: Vec<u8> = match rng.u8(..20) {
        0 if http2 => pick(rng, &ODD_HTTP2_PATHS).to_vec(),
        1 if http2 => pick(rng, &ODD_PATHS).as_bytes().to_vec(),
        0 | 1 => b"/a/b[1]".to_vec(),
        _ => pick(rng, &PATHS).as_bytes().to_vec(),
    };
    [&path, pick(rng, &QUERIES).as_bytes()].concat()
}

/// The payload of a token, with values of every JSON type in the claims that policies compare.
fn claims(rng: &mut Rng) -> Value {
    let mut claims = json!({});
    if rng.u8(..8) > 0 {
        claims["iss"] = if rng.u8(..10) == 0 { claim(rng) } else { json!(pick(rng, &ISSUERS)) };
    }
    if rng.u8(..8) > 0 {
        claims["sub"] = match rng.u8(..12) {
            0 => claim(rng),
            1 => json!("su\nb"),
            _ => json!(pick(rng, &SUBJECTS)),
        };
    }
    for name in ["aud", "azp", "groups", "n", "s"] {
        if rng.u8(..3) == 0 {
            claims[name] = claim(rng);
        }
    }
    if rng.u8(..3) == 0 {
        claims["a"] = if rng.bool() { json!({ "b": claim(rng), "c": claim(rng) }) } else { claim(rng) };
    }
    claims
}

/// A value of any JSON type.
fn claim(rng: &mut Rng) -> Value {
    let word = |rng: &mut Rng| json!(pick(rng, &CLAIM_VALUES));
    match rng.u8(..16) {
        0 => Value::Null,
        1 => json!(5),
        2 => json!(true),
        3 => json!([]),
        4 => json!(["user", word(rng)]),
        5 => json!([5, null, word(rng)]),
        6 => json!([[word(rng)]]),
        7 => json!({ "b": word(rng) }),
        8 => json!("ad\nmin"),
        9 => json!(["ad\nmin"]),
        _ => word(rng),
    }
}
