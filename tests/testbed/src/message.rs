//! The requests that clients send, and the responses that they get.

use anyhow::{Context, Result};
use serde_json::Value;

/// An HTTP/1.1 request that is written as it is. Nothing is checked, escaped, merged or added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The first word of the request line.
    pub method: Vec<u8>,
    /// The second word of the request line.
    pub path: Vec<u8>,
    /// The `host` header, which is sent first. `None`: the request has none.
    pub host: Option<Vec<u8>>,
    /// The other headers, in order. Repeated headers are sent repeatedly.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// The bytes after the empty line. The caller must set the header that frames them. [`Request::body`] does that.
    pub body: Vec<u8>,
}

impl Request {
    /// A request to the host `localhost`, without other headers.
    pub fn new(method: impl AsRef<[u8]>, path: impl AsRef<[u8]>) -> Self {
        Self {
            method: method.as_ref().to_vec(),
            path: path.as_ref().to_vec(),
            host: Some(b"localhost".to_vec()),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// A GET request.
    pub fn get(path: impl AsRef<[u8]>) -> Self {
        Self::new("GET", path)
    }

    /// The same request, to another host.
    #[must_use]
    pub fn host(mut self, host: impl AsRef<[u8]>) -> Self {
        self.host = Some(host.as_ref().to_vec());
        self
    }

    /// The same request, without a `host` header.
    #[must_use]
    pub fn without_host(mut self) -> Self {
        self.host = None;
        self
    }

    /// The same request, with one more header line.
    #[must_use]
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// The same request, with this body and the `content-length` header for it.
    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        let length = self.body.len().to_string();
        self.header("content-length", length)
    }

    /// The bytes that go over the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256 + self.body.len());
        let mut put = |parts: &[&[u8]]| {
            parts.iter().for_each(|part| bytes.extend_from_slice(part));
        };
        put(&[&self.method, b" ", &self.path, b" HTTP/1.1\r\n"]);
        if let Some(host) = &self.host {
            put(&[b"host: ", host, b"\r\n"]);
        }
        for (name, value) in &self.headers {
            put(&[name, b": ", value, b"\r\n"]);
        }
        put(&[b"\r\n", &self.body]);
        bytes
    }
}

/// An HTTP/2 request. Pseudo-headers are headers too. Headers are sent in the order given, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http2Request {
    /// The headers in order, including pseudo-headers (`:method`, `:path`, …).
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// The body, at most 65,535 bytes.
    pub body: Vec<u8>,
    /// The headers after the body. If there are none, no trailers are sent.
    pub trailers: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether the stream ends after the request. `false` for a tunnel.
    pub ends: bool,
}

impl Http2Request {
    /// A request to the authority `localhost`, without a body.
    pub fn new(method: impl AsRef<[u8]>, path: impl AsRef<[u8]>) -> Self {
        Self { headers: Vec::new(), body: Vec::new(), trailers: Vec::new(), ends: true }
            .header(":method", method)
            .header(":scheme", "https")
            .header(":path", path)
            .header(":authority", "localhost")
    }

    /// A GET request.
    pub fn get(path: impl AsRef<[u8]>) -> Self {
        Self::new("GET", path)
    }

    /// A unary gRPC call with an empty message; `path` is `/package.Service/Method`.
    pub fn grpc(path: impl AsRef<[u8]>) -> Self {
        let mut request = Self::new("POST", path).header("content-type", "application/grpc").header("te", "trailers");
        request.body = vec![0; 5]; // uncompressed, length 0
        request
    }

    /// An extended CONNECT (RFC 8441), which leaves the stream open. `protocol` is `websocket`, for example.
    pub fn extended_connect(protocol: impl AsRef<[u8]>, path: impl AsRef<[u8]>) -> Self {
        let mut request = Self::new("CONNECT", path).header(":protocol", protocol);
        request.ends = false;
        request
    }

    /// The same request, with another value for the header `name`, at the same position.
    #[must_use]
    pub fn replace(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        for (existing, old) in &mut self.headers {
            if existing == name.as_bytes() {
                *old = value.as_ref().to_vec();
            }
        }
        self
    }

    /// The same request, with one more header field.
    #[must_use]
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// The same request, with this body.
    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }
}

/// A response over either version of HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The headers in order, with names as received, without pseudo-headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body, without its framing.
    pub body: Vec<u8>,
    /// The headers after the body.
    pub trailers: Vec<(String, Vec<u8>)>,
}

impl Response {
    /// The first header with this name, as text. Upper and lower case in the name count as the same.
    pub fn header(&self, name: &str) -> Option<String> {
        first(&self.headers, name)
    }

    /// The first trailer with this name, as text. Upper and lower case in the name count as the same.
    pub fn trailer(&self, name: &str) -> Option<String> {
        first(&self.trailers, name)
    }

    /// The values of all headers with this name, byte for byte.
    pub fn header_values(&self, name: &str) -> Vec<&[u8]> {
        values(&self.headers, name).collect()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("the body is not JSON: {}", self.text()))
    }
}

fn values<'a, 'n>(headers: &'a [(String, Vec<u8>)], name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
    headers.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_slice())
}

fn first(headers: &[(String, Vec<u8>)], name: &str) -> Option<String> {
    values(headers, name).next().map(|value| String::from_utf8_lossy(value).into_owned())
}
