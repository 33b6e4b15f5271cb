//! A client that never mends what it is told to send.
//!
//! Ordinary HTTP libraries refuse, merge, escape or normalise exactly the requests that an attacker would write by hand,
//! so this one writes bytes. Everything blocks, and every wait ends after ten seconds.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use crate::{Certified, Connection, Http2Connection, Http2Request, Request, Response, transport::Stream};

/// Where to connect to, and as whom.
#[derive(Clone, Debug)]
pub struct Client {
    /// The listener.
    pub address: SocketAddr,
    /// TLS, or plain text if `None`.
    pub tls: Option<Tls>,
    /// The local address to connect from: all of 127.0.0.0/8 is there to choose from (on Linux).
    pub source_ip: Option<IpAddr>,
    /// The source and the destination to claim in a PROXY protocol header, sent before TLS.
    pub proxy_protocol: Option<(SocketAddr, SocketAddr)>,
}

/// The client's side of TLS.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Who must have issued the server's certificate, whose name is not looked at.
    pub authority_pem: String,
    /// The client's own certificate.
    pub certificate: Option<Certified>,
    /// The server name indication; none is sent if `None`.
    pub server_name: Option<String>,
    /// The protocols to offer; if `None`, the one that is about to be spoken.
    pub alpn: Option<Vec<String>>,
}

impl Tls {
    /// TLS without a client certificate and without a server name.
    pub fn new(authority_pem: &str) -> Self {
        Self { authority_pem: authority_pem.to_owned(), certificate: None, server_name: None, alpn: None }
    }

    /// Mutual TLS.
    pub fn mutual(authority_pem: &str, certificate: &Certified) -> Self {
        Self { certificate: Some(certificate.clone()), ..Self::new(authority_pem) }
    }

    /// The same with a server name indication.
    #[must_use]
    pub fn server_name(mut self, name: &str) -> Self {
        self.server_name = Some(name.to_owned());
        self
    }
}

impl Client {
    /// A client that speaks plain text.
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None, source_ip: None, proxy_protocol: None }
    }

    /// A client that speaks TLS.
    pub fn tls(address: SocketAddr, tls: Tls) -> Self {
        Self { tls: Some(tls), ..Self::plain(address) }
    }

    /// The same client from another local address.
    #[must_use]
    pub fn from_ip(mut self, ip: impl Into<IpAddr>) -> Self {
        self.source_ip = Some(ip.into());
        self
    }

    /// The same client behind a load balancer that speaks the PROXY protocol.
    #[must_use]
    pub fn proxied(mut self, source: SocketAddr, destination: SocketAddr) -> Self {
        self.proxy_protocol = Some((source, destination));
        self
    }

    /// Sends one HTTP/1.1 request over a connection of its own.
    pub fn send(&self, request: &Request) -> Result<Response> {
        self.connect()?.send(request)
    }

    /// Sends bytes that need not be HTTP and reads an HTTP/1.1 response.
    pub fn send_raw(&self, bytes: &[u8]) -> Result<Response> {
        self.connect()?.send_raw(bytes)
    }

    /// Sends one HTTP/2 request over a connection of its own.
    pub fn send_http2(&self, request: &Http2Request) -> Result<Response> {
        self.connect_http2()?.send(request)
    }

    /// Opens an HTTP/1.1 connection for several requests.
    pub fn connect(&self) -> Result<Connection> {
        Ok(Connection::new(Stream::open(self, "http/1.1")?))
    }

    /// Opens an HTTP/2 connection for several requests; without TLS, by prior knowledge.
    pub fn connect_http2(&self) -> Result<Http2Connection> {
        Http2Connection::new(Stream::open(self, "h2")?)
    }
}
