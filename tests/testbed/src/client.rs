//! A client that never corrects what it is told to send.
//!
//! Ordinary HTTP libraries refuse, merge, escape or normalise exactly the requests that an attacker would write by
//! hand. So this client writes bytes. All calls block, and every wait ends, by default after ten seconds.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::Result;

use crate::{
    Certified, Connection, Http2Connection, Http2Request, Request, Response,
    transport::{Stream, TIMEOUT},
};

/// The address to connect to, and the identity to connect with.
#[derive(Clone, Debug)]
pub struct Client {
    /// The address of the listener.
    pub address: SocketAddr,
    /// The client's side of TLS. `None`: plain text.
    pub tls: Option<Tls>,
    /// The local address to connect from. On Linux, any address in 127.0.0.0/8 can be used.
    pub source_ip: Option<IpAddr>,
    /// The source and the destination to claim in a PROXY protocol header. The header is sent before TLS.
    pub proxy_protocol: Option<(SocketAddr, SocketAddr)>,
    /// How long to wait for a connection, and for each read and write.
    pub timeout: Duration,
}

/// The client's side of TLS.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The authority that must have issued the server's certificate. The name in that certificate is not checked.
    pub authority_pem: String,
    /// The client's own certificate.
    pub certificate: Option<Certified>,
    /// The server name indication. `None`: none is sent.
    pub server_name: Option<String>,
    /// The protocols to offer (ALPN). `None`: only the one that the client is about to speak.
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

    /// The same settings, with a server name indication.
    #[must_use]
    pub fn server_name(mut self, name: &str) -> Self {
        self.server_name = Some(name.to_owned());
        self
    }
}

impl Client {
    /// A client that speaks plain text.
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None, source_ip: None, proxy_protocol: None, timeout: TIMEOUT }
    }

    /// A client that speaks TLS.
    pub fn tls(address: SocketAddr, tls: Tls) -> Self {
        Self { tls: Some(tls), ..Self::plain(address) }
    }

    /// The same client, with another local address.
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

    /// Sends one HTTP/1.1 request over a new connection.
    pub fn send(&self, request: &Request) -> Result<Response> {
        self.connect()?.send(request)
    }

    /// Sends bytes over a new connection, and reads an HTTP/1.1 response. The bytes need not be HTTP.
    pub fn send_raw(&self, bytes: &[u8]) -> Result<Response> {
        self.connect()?.send_raw(bytes)
    }

    /// Sends one HTTP/2 request over a new connection.
    pub fn send_http2(&self, request: &Http2Request) -> Result<Response> {
        self.connect_http2()?.send(request)
    }

    /// Opens an HTTP/1.1 connection for several requests.
    pub fn connect(&self) -> Result<Connection> {
        Ok(Connection::new(Stream::open(self, "http/1.1")?))
    }

    /// Opens an HTTP/2 connection for several requests. Without TLS, the client assumes that the server speaks HTTP/2.
    pub fn connect_http2(&self) -> Result<Http2Connection> {
        Http2Connection::new(Stream::open(self, "h2")?)
    }
}
