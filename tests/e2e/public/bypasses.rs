//! The published bypasses of authorization in proxies, as requests to the public examples.

use std::net::IpAddr;

use serde_json::json;
use testbed::{Http2Request, Issuer, Request};

use super::running::{Running, http2};
use super::{DYNAMIC, EDGE_JWT, EXT_AUTHZ, Example, FRONT_PROXY, GRPC};
use crate::jwt::issuer;
pub use Ask::*;
use InVersion::{Http1, Http2};

/// Header lines.
type Lines = &'static [(&'static str, &'static str)];

/// A request that must be refused, by what is different from a request that is allowed.
#[derive(Clone, Debug)]
pub enum Ask {
    /// The path. `{parent}` and `{leaf}` are the parts of the path that policies refuse.
    Path(&'static str),
    /// The path that policies refuse, with further headers.
    Refused(Lines),
    /// The same, where only HTTP/1.1 has such a header.
    Upgrade(Lines),
    /// A path of its own, with further headers.
    At(&'static str, Lines),
    /// A method and a path, with these headers only.
    Bare(&'static str, &'static str, Lines),
    /// The host.
    Host(&'static str),
    /// Further headers.
    Headers(Lines),
    /// The address of the client, with further headers.
    Address(&'static str, Lines),
    /// A path, and the header `authorization`. Empty: there is none.
    Token(&'static str, fn() -> String),
    /// The token of a user, with further headers.
    User(&'static str, Lines),
    /// An extended CONNECT over HTTP/2, at the path that policies refuse.
    Tunnel(&'static str),
    /// CONNECT with this authority.
    Connect(&'static str),
}

const ALL: &[&Example] = &[&DYNAMIC, &EDGE_JWT, &EXT_AUTHZ, &FRONT_PROXY, &GRPC];
const TOKENS: &[&Example] = &[&EDGE_JWT];
const AUTHORIZER: &[&Example] = &[&EXT_AUTHZ];
const TRANSCODER: &[&Example] = &[&GRPC];
const ROUTES: &[&Example] = &[&DYNAMIC];

const PREFLIGHT: Lines = &[("origin", "https://a.example"), ("access-control-request-method", "GET")];

/// The bypass, the examples for which it means something, and the request.
pub const TABLE: &[(&str, &[&Example], Ask)] = &[
    ("as it is", ALL, Path("{parent}/{leaf}")),
    ("CVE-2019-9901", ALL, Path("{parent}/public/../{leaf}")),
    ("CVE-2019-9901", ALL, Path("{parent}/public/%2e%2e/{leaf}")),
    ("CVE-2019-9901", ALL, Path("{parent}/public/..%2f{leaf}")),
    ("CVE-2019-9901", ALL, Path("{parent}/./{leaf}")),
    ("CVE-2020-8595", ALL, Path("{parent}/{leaf}?x")),
    ("CVE-2020-8595", ALL, Path("{parent}/{leaf}?/../../data")),
    ("CVE-2020-8595, CVE-2021-39156", ALL, Path("{parent}/{leaf}#x")),
    ("CVE-2021-31920", ALL, Path("{parent}//{leaf}")),
    ("CVE-2021-31920", ALL, Path("{parent}///{leaf}")),
    ("CVE-2021-29492", ALL, Path("{parent}/%2F{leaf}")),
    ("CVE-2021-29492", ALL, Path("{parent}/%5c{leaf}")),
    ("CVE-2021-29492", ALL, Path("{parent}/\\{leaf}")),
    ("CVE-2025-46821", ALL, Path("{parent}/{leaf}/*x")),
    ("odd bytes under templates", ALL, Path("{parent}/{leaf}/a|b")),
    ("odd bytes under templates", ALL, Path("{parent}/{leaf}/a[1]")),
    ("CVE-2026-32811", ALL, Path("http://www.example.com{parent}/{leaf}")),
    ("CVE-2026-32811", ALL, Path("http://www.example.com{parent}//{leaf}")),
    ("CVE-2023-27487", ALL, Refused(&[("x-envoy-original-path", "/public")])),
    ("forged path", ALL, Refused(&[("x-original-url", "/public"), ("x-rewrite-url", "/public")])),
    ("forged method", ALL, Refused(&[("x-http-method-override", "OPTIONS")])),
    ("preflight", ALL, Bare("OPTIONS", "{parent}/{leaf}", PREFLIGHT)),
    ("host as it is", ALL, Host("secret.example.com")),
    ("CVE-2021-39155", ALL, Host("Secret.Example.COM")),
    ("host and port", ALL, Host("secret.example.com:10000")),
    ("host forms", ALL, Host("secret.example.com.")),
    ("host forms", ALL, Host("secret.example.com.:10000")),
    ("host forms", ALL, Host("u@secret.example.com")),
    ("host forms", ALL, Host("@secret.example.com")),
    ("CVE-2020-25017", ALL, Headers(&[("x-role", "user"), ("x-role", "guest")])),
    ("CVE-2021-32777", ALL, Headers(&[("x-role", "guest"), ("x-role", "user")])),
    ("upper case", ALL, Headers(&[("X-ROLE", "guest")])),
    ("white space", ALL, Headers(&[("x-role", " guest")])),
    ("white space", ALL, Headers(&[("x-role", "guest\t")])),
    ("remote address", ALL, Address("127.0.0.9", &[])),
    ("X-Forwarded-For", ALL, Address("127.0.0.9", &[("x-forwarded-for", "10.0.0.1")])),
    ("X-Forwarded-For", ALL, Address("127.0.0.9", &[("x-forwarded-for", "10.0.0.1, 10.0.0.2")])),
    ("X-Forwarded-For", ALL, Address("127.0.0.9", &[("x-envoy-external-address", "10.0.0.1")])),
    ("direct peer", ALL, Address("127.0.0.8", &[("x-forwarded-for", "10.0.0.1")])),
    ("upgrade", ALL, Upgrade(&[("connection", "upgrade"), ("upgrade", "websocket")])),
    ("upgrade", ALL, Upgrade(&[("connection", "upgrade, http2-settings"), ("upgrade", "h2c"), ("http2-settings", "")])),
    ("WebSocket over HTTP/2", ALL, Tunnel("websocket")),
    ("CVE-2026-73547", ALL, Connect("www.example.com:80")),
    ("claim", TOKENS, Token("/data", || token_of("suspended"))),
    ("no token", TOKENS, Token("/data", String::new)),
    ("CVE-2021-21378", TOKENS, Token("/data", forged)),
    ("CVE-2021-21378", TOKENS, Token("/data", unsigned)),
    ("CVE-2021-21378", TOKENS, Token("/data", of_another_issuer)),
    ("CVE-2021-21378", TOKENS, Token("/data", expired)),
    ("claim where tokens are optional", TOKENS, Token("/public", || token_of("suspended"))),
    ("CVE-2021-21378", TOKENS, Token("/public", forged)),
    ("CVE-2021-21378", TOKENS, Token("/public", unsigned)),
    ("no token at a path in other words", TOKENS, Token("/public/../data", String::new)),
    ("no token at a path in other words", TOKENS, Token("/public/%2e%2e/data", String::new)),
    ("forged payload", TOKENS, Refused(&[("x-jwt-payload", "eyJyb2xlIjoiYWRtaW4ifQ")])),
    ("refused user", AUTHORIZER, User("token3", &[])),
    ("no user", AUTHORIZER, User("none", &[])),
    ("forged user", AUTHORIZER, User("token3", &[("x-current-user", "user1")])),
    ("forged user", AUTHORIZER, User("token3", &[("x-current-user", "user1"), ("x-current-user", "user2")])),
    ("forged user", AUTHORIZER, User("none", &[("x-current-user", "user1")])),
    ("JSON", TRANSCODER, Bare("DELETE", "/all/orders", &[])),
    ("JSON", TRANSCODER, Bare("DELETE", "//all/orders", &[])),
    ("JSON", TRANSCODER, Bare("DELETE", "/say/../all/orders?x", &[])),
    ("JSON", TRANSCODER, Bare("DELETE", "/all%2Forders", &[])),
    ("JSON", TRANSCODER, Bare("POST", "/helloworld.Greeter/DeleteAll", &[])),
    ("route without the filter", ROUTES, At("/legacy/data", &[("x-role", "guest")])),
    ("route without the filter", ROUTES, At("/legacy/../admin", &[])),
];

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub enum From {
    Anywhere,
    Ip(IpAddr),
}

/// A request in one of the versions of HTTP.
#[derive(Clone, Debug)]
pub enum InVersion {
    Http1(Request),
    Http2(Http2Request),
}

#[derive(Clone, Debug)]
pub struct Sent {
    pub from: From,
    pub request: InVersion,
}

impl Sent {
    pub fn with_path(mut self, path: &str) -> Self {
        match &mut self.request {
            Http1(request) => request.path = path.into(),
            Http2(request) => *request = request.clone().replace(":path", path),
        }
        self
    }

    pub fn version(&self) -> &'static str {
        match self.request {
            Http1(_) => "HTTP/1.1",
            Http2(_) => "HTTP/2",
        }
    }
}

impl Ask {
    pub fn over_http1(&self, example: &Example) -> Sent {
        let from = match self {
            Address(ip, _) => From::Ip(ip.parse().unwrap()),
            _ => From::Anywhere,
        };
        Sent { from, request: Http1(self.request(example)) }
    }

    /// The requests: over HTTP/1.1 and over HTTP/2, where both have such a request.
    pub fn sent(&self, example: &Example) -> Vec<Sent> {
        let over_http1 = self.over_http1(example);
        let over_http2 = |request| Sent { request: Http2(request), ..over_http1.clone() };
        match self {
            Upgrade(_) => vec![over_http1],
            Path(path) if path.starts_with("http:") => vec![over_http1],
            Tunnel(protocol) => {
                let [parent, leaf] = example.refused;
                let tunnel = Http2Request::extended_connect(protocol, format!("{parent}/{leaf}"));
                vec![over_http2(tunnel.replace(":authority", "www.example.com"))]
            }
            Connect(authority) => {
                let connect = Http2Request { headers: Vec::new(), ..Http2Request::get("") };
                let second = over_http2(connect.header(":method", "CONNECT").header(":authority", authority));
                vec![over_http1, second]
            }
            _ => {
                let second = over_http2(http2(&self.request(example)));
                vec![over_http1, second]
            }
        }
    }

    fn request(&self, example: &Example) -> Request {
        let [parent, leaf] = example.refused;
        let in_full = |path: &str| path.replace("{parent}", parent).replace("{leaf}", leaf);
        let base = Running::base(example);
        let at = |path: &str| Request { path: path.into(), ..base.clone() };
        let bare = |path: &str| Request::get(path).host("www.example.com");
        let refused = || at(&in_full("{parent}/{leaf}"));
        match self {
            Path(path) => at(&in_full(path)),
            Refused(headers) | Upgrade(headers) => with(refused(), headers),
            At(path, headers) => with(at(path), headers),
            Bare(method, path, headers) => with(Request { method: (*method).into(), ..bare(&in_full(path)) }, headers),
            Host(host) => base.host(host),
            Headers(headers) | Address(_, headers) => with(base, headers),
            Token(path, token) => match token() {
                none if none.is_empty() => bare(path),
                token => bare(path).header("authorization", token),
            },
            User(token, headers) => with(bare("/data").header("authorization", format!("Bearer {token}")), headers),
            Tunnel(_) => refused(),
            Connect(authority) => Request::new("CONNECT", authority).host(authority),
        }
    }
}

fn with(request: Request, headers: &[(&str, &str)]) -> Request {
    headers.iter().fold(request, |request, (name, value)| request.header(name, value))
}

fn bearer(issuer: &Issuer, more: serde_json::Value) -> String {
    let mut claims = json!({ "iss": "https://accounts.example.com", "sub": "alice" });
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    format!("Bearer {}", issuer.token(&claims).unwrap())
}

/// A token of somebody with this role.
pub fn token_of(role: &str) -> String {
    bearer(issuer(), json!({ "role": role }))
}

/// Somebody else has signed it.
fn forged() -> String {
    bearer(&Issuer::new().unwrap(), json!({ "role": "customer" }))
}

/// `{"alg":"none"}` and `{"iss":"https://accounts.example.com","sub":"alice"}`, without a signature.
fn unsigned() -> String {
    "Bearer eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2FjY291bnRzLmV4YW1wbGUuY29tIiwic3ViIjoiYWxpY2UifQ.".to_owned()
}

fn of_another_issuer() -> String {
    bearer(issuer(), json!({ "iss": "https://other.example.com" }))
}

fn expired() -> String {
    bearer(issuer(), json!({ "exp": 1_000_000_000 }))
}
