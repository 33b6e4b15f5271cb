//! The listeners of a standalone Envoy, and the application behind them.

use std::net::{IpAddr, SocketAddr};

use mesh_authz::policy::Traffic;

use crate::command::Failure;
use crate::load::request_authentication::host_and_port;
use crate::render::envoy::{ClientAddress, Listener, UpstreamProtocol};

/// The address that Envoy listens on if none is given.
const DEFAULT: &str = "127.0.0.1:15006";

/// Where Envoy listens, and where it forwards requests to.
#[derive(Clone, Debug, clap::Args)]
pub struct ListenerOptions {
    /// Address and port that Envoy listens on (repeatable); 127.0.0.1:15006 if neither this nor --listen-tcp is given. If
    /// policies look at ports, give it for each port of the application.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = socket)]
    listen: Vec<SocketAddr>,

    /// Address and port that Envoy listens on for connections that are none of HTTP, such as those to a database
    /// (repeatable). It needs Envoy 1.37 or later.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = socket)]
    listen_tcp: Vec<SocketAddr>,

    /// Host and port of the application, to which Envoy forwards requests and connections. Without a port, it is the port that Envoy has
    /// accepted the connection on.
    #[arg(long, value_name = "HOST[:PORT]", default_value = "127.0.0.1:8080", value_parser = upstream)]
    upstream: (String, Option<u16>),

    /// Version of HTTP that the application speaks.
    #[arg(long, value_name = "PROTOCOL", value_enum, default_value = "http1")]
    pub upstream_protocol: UpstreamProtocol,

    /// Number of proxies in front of Envoy that you trust, and that append the address of their client to X-Forwarded-For.
    /// `remote.ip` is then the address that the first of them has seen. Whoever reaches Envoy without going through them
    /// chooses its own address.
    #[arg(long, value_name = "NUMBER", default_value = "0")]
    trusted_hops: u8,

    /// Expect a header of the PROXY protocol at the start of each connection, from a load balancer. `remote.ip`,
    /// `destination.ip` and `destination.port` then come from it. Whoever reaches Envoy without the load balancer chooses its
    /// own address. Connections without the header are closed. Not together with --trusted-hops: X-Forwarded-For would win.
    #[arg(long, conflicts_with = "trusted_hops")]
    pub proxy_protocol: bool,
}

pub fn socket(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| match text.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => format!(
            "write an IP address before the port: 127.0.0.1:{port} for this machine only, 0.0.0.0:{port} for every machine; an \
             IPv6 address stands in brackets"
        ),
        _ => "write ADDRESS:PORT, such as 127.0.0.1:15006".to_owned(),
    })
}

fn upstream(text: &str) -> Result<(String, Option<u16>), String> {
    match host_and_port(text) {
        Some((host, port)) if !host.bytes().all(|b| b.is_ascii_digit()) => Ok((host.to_owned(), port)),
        _ => Err("write HOST:PORT, or HOST; an IPv6 address stands in brackets".to_owned()),
    }
}

impl ListenerOptions {
    /// The ports that Envoy listens on. `None` if the system chooses all of them.
    pub fn ports(&self) -> Option<Vec<u16>> {
        let all = || self.listen.iter().chain(&self.listen_tcp);
        let ports: Vec<_> = all().map(SocketAddr::port).filter(|port| *port > 0).collect();
        (all().next().is_none() || !ports.is_empty()).then_some(ports)
    }

    /// Whether Envoy learns the client's address from what somebody sends.
    pub fn is_told_the_client(&self) -> bool {
        self.trusted_hops > 0 || self.proxy_protocol
    }

    pub fn client_address(&self) -> ClientAddress {
        ClientAddress { trusted_hops: self.trusted_hops, proxy_protocol: self.proxy_protocol }
    }

    /// Whether there are listeners for TCP.
    pub fn are_for_tcp(&self) -> bool {
        !self.listen_tcp.is_empty()
    }

    /// The listeners, each with its application. There is at least one.
    pub fn listeners(&self) -> Result<Vec<Listener>, Failure> {
        let mut addresses: Vec<_> = self.listen.iter().map(|address| (*address, Traffic::Http)).collect();
        addresses.extend(self.listen_tcp.iter().map(|address| (*address, Traffic::Tcp)));
        if addresses.is_empty() {
            addresses.push((DEFAULT.parse().map_err(Failure::unusable)?, Traffic::Http));
        }
        let mut listeners = Vec::<Listener>::new();
        for (address, traffic) in addresses {
            let is_chosen = address.port() == 0;
            if !is_chosen && listeners.iter().any(|listener| listener.address == address) {
                return Err(Failure::Unusable(format!("--listen {address} is given twice")));
            }
            let (host, port) = &self.upstream;
            if port.is_none() && is_chosen {
                return Err(Failure::Unusable(format!(
                    "--listen {address}: the system chooses the port, so --upstream needs one; write --upstream {host}:PORT"
                )));
            }
            listeners.push(Listener { address, traffic, upstream: (host.clone(), port.unwrap_or(address.port())) });
        }
        let upstreams: Vec<_> = listeners.iter().map(|listener| &listener.upstream).collect();
        for Listener { address, .. } in &listeners {
            if let Some((host, port)) = upstreams.iter().find(|upstream| is_itself(*address, upstream)) {
                return Err(Failure::Unusable(format!(
                    "--listen {address}: the application is at {host}:{port}, so Envoy would forward requests to itself; give \
                     the two different ports or addresses, with --listen and --upstream"
                )));
            }
        }
        Ok(listeners)
    }
}

/// Fails if the admin interface is where Envoy listens, or where it forwards requests to.
pub fn keep_apart(admin: SocketAddr, listeners: &[Listener]) -> Result<(), Failure> {
    for Listener { address, upstream, .. } in listeners {
        if admin.port() != 0 && (*address == admin || is_itself(admin, upstream)) {
            return Err(Failure::Unusable(format!(
                "--admin {admin} is also where Envoy listens or forwards requests to; give it a port of its own"
            )));
        }
    }
    Ok(())
}

/// Whether a connection to the application would reach the listener.
fn is_itself(listener: SocketAddr, (host, port): &(String, u16)) -> bool {
    let is_reached = |ip: IpAddr| listener.ip() == ip || (listener.ip().is_unspecified() && ip.is_loopback());
    let is_here = || host.trim_end_matches('.').eq_ignore_ascii_case("localhost");
    let is_local = listener.ip().is_loopback() || listener.ip().is_unspecified();
    let is_reached = host.parse::<IpAddr>().map_or_else(|_| is_here() && is_local, |ip| is_reached(ip.to_canonical()));
    listener.port() == *port && is_reached
}
