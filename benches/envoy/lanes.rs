//! Open connections to one listener, and batches of requests over them.

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use testbed::{Authority, Certified, Client, Connection, Request, Tls};

use crate::contestant::Claims;
use crate::mix::{Call, ORDINARY_HEADERS};

/// The number of requests that are under way at a time, each on its own connection. With only one, Envoy would sleep
/// before each request, and waking up would be most of what is measured.
const WINDOW: usize = 8;

/// The smallest number of connections to a listener.
#[derive(Clone, Copy, Debug)]
pub struct Connections(usize);

impl Connections {
    /// As many as the largest realistic mix needs. More connections cost more, so all listeners of the mix have the
    /// same number.
    pub const MANY: Self = Self(32);
    /// As many as are used at a time.
    pub const FEW: Self = Self(WINDOW);
}

/// The principal and the address of a sender. Each connection serves only one such pair.
type Identity = (String, Ipv4Addr);

/// The senders of requests, with their certificates.
pub struct Callers {
    authority: Authority,
    certificates: HashMap<String, Certified>,
}

impl Callers {
    /// Callers with a certificate authority of their own.
    pub fn new() -> Result<Self> {
        Ok(Self { authority: Authority::new()?, certificates: HashMap::new() })
    }

    /// The authority that issues the callers' certificates.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    fn tls(&mut self, principal: &str) -> Result<Tls> {
        if !self.certificates.contains_key(principal) {
            self.certificates.insert(principal.to_owned(), self.authority.spiffe(principal)?);
        }
        let certificate = self.certificates.get(principal).context("was issued")?;
        Ok(Tls::mutual(self.authority.pem(), certificate))
    }
}

/// A request, ready to be sent.
pub struct Prepared {
    identity: Identity,
    method: &'static str,
    bytes: Vec<u8>,
}

impl Prepared {
    /// Encodes a call as bytes.
    pub fn new(call: &Call, claims: &Claims) -> Result<Self> {
        let mut request = Request::new(call.method, &call.path).host(call.host);
        for (name, value) in ORDINARY_HEADERS {
            request = request.header(name, value);
        }
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        if let Some(found) = &call.claims {
            let (name, value) = claims.header(found)?;
            request = request.header(name, value);
        }
        let identity = (call.principal.clone(), call.source_ip);
        Ok(Self { identity, method: call.method, bytes: request.to_bytes() })
    }

    /// The principal of the sender.
    pub fn principal(&self) -> &str {
        &self.identity.0
    }
}

/// The open connections to one listener.
pub struct Lanes {
    lanes: VecDeque<Lane>,
}

struct Lane {
    identity: Identity,
    connection: Connection,
}

impl Lanes {
    /// Opens one connection for each caller of these requests. If there are fewer callers than `connections`, some
    /// callers get several.
    pub fn open(
        address: SocketAddr,
        requests: &[Prepared],
        connections: Connections,
        callers: &mut Callers,
    ) -> Result<Self> {
        let mut identities: Vec<_> = requests.iter().map(|request| &request.identity).collect();
        identities.sort();
        identities.dedup();
        let mut lanes = VecDeque::new();
        for identity in identities.iter().cycle().take(connections.0.max(identities.len())) {
            let (principal, ip) = identity;
            let client = Client::tls(address, callers.tls(principal)?).from_ip(*ip);
            lanes.push_back(Lane { identity: (principal.clone(), *ip), connection: client.connect()? });
        }
        Ok(Self { lanes })
    }

    /// Sends the requests, in no particular order, and checks the status of every response.
    pub fn send<'r>(&mut self, requests: impl Iterator<Item = &'r Prepared>, status: u16) -> Result<()> {
        let mut waiting: HashMap<&Identity, Vec<&Prepared>> = HashMap::new();
        for request in requests {
            waiting.entry(&request.identity).or_default().push(request);
        }
        let mut finished = VecDeque::with_capacity(self.lanes.len());
        loop {
            let mut under_way = Vec::with_capacity(WINDOW);
            while under_way.len() < WINDOW
                && let Some(mut lane) = self.lanes.pop_front()
            {
                match waiting.get_mut(&lane.identity).and_then(Vec::pop) {
                    Some(request) => {
                        lane.connection.write(&request.bytes)?;
                        under_way.push((lane, request));
                    }
                    None => finished.push_back(lane),
                }
            }
            if under_way.is_empty() {
                break;
            }
            for (mut lane, request) in under_way {
                let response = lane.connection.read_response(request.method.as_bytes())?;
                ensure!(
                    response.status == status,
                    "answered with {} instead of {status}, to {} from {}:\n{}",
                    response.status,
                    request.identity.0,
                    request.identity.1,
                    String::from_utf8_lossy(request.bytes.get(..300).unwrap_or(&request.bytes))
                );
                self.lanes.push_back(lane);
            }
        }
        self.lanes = finished;
        ensure!(waiting.values().all(Vec::is_empty), "a caller has no connection");
        Ok(())
    }
}
