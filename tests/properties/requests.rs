//! Generators of requests. Each attribute is kept separately, so that tests can replace it or make it unreadable.

use std::net::IpAddr;

use mesh_authz::attribute::Origin;
use mesh_authz::engine::{Engine, Verdict};
use mesh_authz::request::{Lookup, PeerName, Request};
use proptest::prelude::*;
use proptest::sample::select;

use crate::policies::node;

/// An attribute, as an index into [`Facts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    Uri,
    Dns,
    Subject,
    SourceIp,
    RemoteIp,
    DestinationIp,
    Port,
    Sni,
    Headers,
    Metadata,
}

impl Attribute {
    pub const ALL: [Self; 10] = [
        Self::Uri,
        Self::Dns,
        Self::Subject,
        Self::SourceIp,
        Self::RemoteIp,
        Self::DestinationIp,
        Self::Port,
        Self::Sni,
        Self::Headers,
        Self::Metadata,
    ];

    /// Values of the attribute that policies treat differently. `None` means that it is absent.
    pub fn pool(self) -> &'static [Option<&'static str>] {
        match self {
            Self::Uri => &[
                None,
                Some(""),
                Some("spiffe://td/ns/a/sa/x"),
                Some("spiffe://alias/ns/a/sa/x"),
                Some("spiffe://td/ns/b/sa/y"),
                Some("spiffe://other/ns/a/sa/x"),
                Some("spiffe://t\nd/ns/a/sa/x"),
                Some("https://x"),
                Some("spiffe://cluster.local/ns/a/sa/x"),
                Some("spiffe://td/x\0y"),
            ],
            Self::Dns => &[None, Some("dns.example"), Some("spiffe://td/ns/a/sa/x"), Some("")],
            Self::Subject => &[None, Some("CN=x"), Some("")],
            Self::SourceIp | Self::RemoteIp | Self::DestinationIp => {
                &[None, Some("10.0.0.1"), Some("10.9.9.9"), Some("192.0.2.1"), Some("::1"), Some("::ffff:10.0.0.1")]
            }
            Self::Port => &[None, Some("80"), Some("443"), Some("0"), Some("8080")],
            Self::Sni => &[None, Some(""), Some("v"), Some("vw"), Some("xw"), Some("a\nb")],
            // The method, the path, the host and the values of `x`, separated by spaces. `-` means absent.
            Self::Headers => &[
                Some("GET /a h v"),
                Some("POST /a/b?q H:80 w v"),
                Some("PUT /a/[x] x.h"),
                Some("GET /a/x/b h:80 vw"),
                Some("- - -"),
                Some("GET /b#f a.H a\nb"),
                Some("DELETE /a/ h -"),
                None,
            ],
            Self::Metadata => &[
                None,
                Some("{}"),
                Some(concat!(
                    r#"{"envoy.filters.http.jwt_authn":{"payload":{"iss":"i","sub":"s","aud":["v"],"role":"vw"}},"#,
                    r#""envoy.filters.f":{"k":"v"}}"#
                )),
                Some(concat!(
                    r#"{"envoy.filters.http.jwt_authn":"#,
                    r#"{"payload":{"iss":"ii","sub":"ss","azp":"v","n":{"m":["xw"]}}},"#,
                    r#""envoy.filters.f":{"k":["v"]}}"#
                )),
                Some(concat!(
                    r#"{"envoy.filters.http.jwt_authn":{"payload":{"iss":"i","sub":"a\nb","role":["",5,null]}},"#,
                    r#""envoy.filters.f":{"k":5}}"#
                )),
                Some(concat!(
                    r#"{"envoy.filters.http.jwt_authn":{"payload":{"iss":"","sub":"s","role":"a\nb","n":"v"}},"#,
                    r#""envoy.filters.f":{"k":["a\nb"]}}"#
                )),
                Some(concat!(r#"{"envoy.filters.http.jwt_authn":{"payload":"x"},"#, r#""envoy.filters.f":{"k":""}}"#)),
            ],
        }
    }
}

/// The state of each attribute: a value, absent or unreadable.
#[derive(Clone, Debug)]
pub struct Facts(pub Vec<Lookup<&'static str>>);

impl Facts {
    pub fn with(&self, attribute: Attribute, value: Lookup<&'static str>) -> Self {
        let mut facts = self.clone();
        facts.0[attribute as usize] = value;
        facts
    }

    pub fn request(&self) -> Request {
        let of = |attribute: Attribute| self.0[attribute as usize];
        let bytes = |attribute| of(attribute).map(str::as_bytes);
        let address = |attribute| of(attribute).map(|text| text.parse::<IpAddr>().unwrap());
        let mut request = Request::default()
            .peer_name(PeerName::Uri, bytes(Attribute::Uri))
            .peer_name(PeerName::Dns, bytes(Attribute::Dns))
            .peer_name(PeerName::Subject, bytes(Attribute::Subject))
            .source_ip(address(Attribute::SourceIp))
            .remote_ip(address(Attribute::RemoteIp))
            .destination_ip(address(Attribute::DestinationIp))
            .destination_port(of(Attribute::Port).map(|text| text.parse().unwrap()))
            .sni(bytes(Attribute::Sni));
        match of(Attribute::Headers) {
            Lookup::Value(text) => {
                let names = [":method", ":path", ":authority", "x", "x"];
                for (name, value) in names.into_iter().zip(text.split(' ')).filter(|(_, value)| *value != "-") {
                    request = request.header(name, value);
                }
            }
            Lookup::Absent => {}
            Lookup::Unreadable => request = request.unreadable_headers(),
        }
        match of(Attribute::Metadata) {
            Lookup::Value(text) => {
                let filters: serde_json::Map<_, _> = serde_json::from_str(text).unwrap();
                filters.iter().fold(request, |request, (filter, fields)| request.metadata(filter, &node(fields)))
            }
            Lookup::Absent => request.encoded_metadata(Lookup::Absent),
            Lookup::Unreadable => request.encoded_metadata(Lookup::Unreadable),
        }
    }
}

pub fn lookup(value: Option<&'static str>) -> Lookup<&'static str> {
    value.map_or(Lookup::Absent, Lookup::Value)
}

/// A request whose attributes are all readable.
pub fn readable() -> impl Strategy<Value = Facts> {
    let of = |attribute: Attribute| select(attribute.pool()).prop_map(lookup);
    Attribute::ALL.map(of).to_vec().prop_map(Facts)
}

/// A request in which some attributes may be unreadable.
pub fn partly_readable() -> impl Strategy<Value = Facts> {
    (readable(), proptest::collection::vec(proptest::bool::weighted(0.1), Attribute::ALL.len())).prop_map(
        |(mut facts, dark)| {
            for (fact, dark) in facts.0.iter_mut().zip(dark) {
                if dark {
                    *fact = Lookup::Unreadable;
                }
            }
            facts
        },
    )
}

/// The verdict, the rule that decided, and the attribute that could not be read.
pub type Answer = (Verdict, Option<String>, Option<Origin>);

pub fn answer(engine: &Engine, request: &Request) -> Answer {
    let decision = engine.decide(request);
    (decision.outcome.verdict(), decision.outcome.rule().map(ToString::to_string), decision.unreadable)
}

pub fn verdict(engine: &Engine, facts: &Facts) -> Verdict {
    engine.decide(&facts.request()).outcome.verdict()
}
