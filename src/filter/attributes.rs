//! The attributes of the request, or of the connection, that the host is processing. Each is read at most once, and only
//! when it is needed.
//!
//! If the host refuses to give an attribute, the attribute is unreadable, never absent. So is an attribute of a
//! connection that the host does not know yet.

use std::cell::{Cell, OnceCell};
use std::net::IpAddr;

use super::{Host, property};
use crate::config::{PrincipalFrom, SourceIpFrom};
use crate::request::{Address, Attributes, ConnectionText, HeaderValues, Headers, Lookup, Metadata, PeerName};

/// Where attributes come from: part of a plugin's configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sources {
    pub principal: PrincipalFrom,
    pub source_ip: SourceIpFrom,
}

/// How much the host knows of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// Everything.
    All,
    /// What other network filters find out in the data is not there yet.
    Peer,
    /// The TLS handshake may not be over either. Until then, the certificate is what somebody claims, and no certificate
    /// looks like a connection without TLS.
    Handshake,
}

/// A connection about which nothing could be decided when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undecided {
    /// A filter before this one has told the peer then. So it says nothing about the TLS handshake.
    is_told_too_early: bool,
}

/// Who sends data on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// The client. It can send data only when the TLS handshake is over.
    Client,
    /// The application. It can send data at any time.
    Application,
}

/// The request, with the attributes that have been read so far.
pub(super) struct HostAttributes<'h, H> {
    host: &'h H,
    sources: Sources,
    known: Known,
    /// Whether an attribute was asked for that may be there later.
    waits: Cell<bool>,
    peer: OnceCell<Lookup<Vec<u8>>>,
    uris: OnceCell<Uris>,
    dns: OnceCell<Lookup<Vec<u8>>>,
    subject: OnceCell<Lookup<Vec<u8>>>,
    sni: OnceCell<Lookup<Vec<u8>>>,
    headers: OnceCell<Lookup<Vec<u8>>>,
    metadata: OnceCell<Lookup<Vec<u8>>>,
    source_ip: OnceCell<Lookup<IpAddr>>,
    remote_ip: OnceCell<Lookup<IpAddr>>,
    destination_ip: OnceCell<Lookup<IpAddr>>,
    destination_port: OnceCell<Lookup<u16>>,
}

/// What a filter before this one tells about the connection: three fields with a line feed between them.
const PEER: &str = "filter_state\0mesh_authz.peer";

/// A field of [`PEER`]. No field before the last one holds what a peer chooses as it likes.
#[derive(Clone, Copy)]
enum PeerField {
    /// The address of the direct peer.
    Ip,
    /// The port that the peer has connected to.
    Port,
    /// The URIs in the peer's certificate, joined with commas.
    Uris,
}

/// The identity of the peer of a tunnel, in which the request has come. Waypoints and sidecars of Istio set it.
const PEER_OF_TUNNEL: &str = "filter_state\0io.istio.peer_principal";

/// The URIs in the peer's certificate.
struct Uris {
    first: Lookup<Vec<u8>>,
    further: Lookup<Vec<u8>>,
}

impl<'h, H: Host> HostAttributes<'h, H> {
    pub(super) fn of_request(host: &'h H, sources: Sources) -> Self {
        Self::new(host, sources, Known::All)
    }

    /// A connection that has just begun.
    pub(super) fn of_new_connection(host: &'h H, sources: Sources) -> Self {
        Self::new(host, sources, if is_tls(host) { Known::Handshake } else { Known::Peer })
    }

    /// A connection on which somebody sends data for the first time.
    pub(super) fn of_connection(host: &'h H, sources: Sources, undecided: Undecided, speaker: Speaker) -> Self {
        if speaker == Speaker::Client {
            return Self::new(host, sources, Known::All);
        }
        let attributes = Self::of_new_connection(host, sources);
        // The filter before this one tells the peer when the handshake is over.
        let is_over = !undecided.is_told_too_early && attributes.told(PeerField::Uris) != Lookup::Absent;
        Self { known: if is_over { Known::Peer } else { attributes.known }, ..attributes }
    }

    /// What to remember of a connection that has just begun.
    pub(super) fn undecided(&self) -> Undecided {
        Undecided { is_told_too_early: self.told(PeerField::Uris) != Lookup::Absent }
    }

    /// Whether a decision about these attributes may change when the host knows more.
    pub(super) fn wait(&self) -> bool {
        self.waits.get()
    }

    fn later<T>(&self) -> Lookup<T> {
        self.waits.set(true);
        Lookup::Unreadable
    }

    fn new(host: &'h H, sources: Sources, known: Known) -> Self {
        Self {
            host,
            sources,
            known,
            waits: Cell::new(false),
            peer: OnceCell::new(),
            uris: OnceCell::new(),
            dns: OnceCell::new(),
            subject: OnceCell::new(),
            sni: OnceCell::new(),
            headers: OnceCell::new(),
            metadata: OnceCell::new(),
            source_ip: OnceCell::new(),
            remote_ip: OnceCell::new(),
            destination_ip: OnceCell::new(),
            destination_port: OnceCell::new(),
        }
    }

    /// A field of [`PEER`]. It is absent if no filter tells anything. If the number of fields is wrong, a path or a URI
    /// with a line feed is in it, and nobody can tell where which field begins: then all fields are unreadable.
    fn told(&self, field: PeerField) -> Lookup<&[u8]> {
        let peer = self.peer.get_or_init(|| {
            self.host.property(PEER).and_then(|peer| {
                let fields = peer.split(|byte| *byte == b'\n').count();
                if fields == 3 { Lookup::Value(peer) } else { Lookup::Unreadable }
            })
        });
        peer.as_slice().and_then(|peer| match peer.split(|byte| *byte == b'\n').nth(field as usize) {
            Some(value) => Lookup::Value(value),
            None => Lookup::Unreadable,
        })
    }

    /// The URIs in the peer's certificate. Envoy's own attribute holds only the first of them.
    ///
    /// A filter before this one can provide all of them, joined with commas. If there is no comma in that text, it is
    /// the only URI. If there is a comma, the text is either the first URI, with a comma in it, or several URIs.
    ///
    /// A sidecar of Istio that callers reach through a tunnel (HBONE) has the peer's certificate on the connection of the
    /// tunnel only, and tells in filter state what it says.
    fn uris(&self) -> &Uris {
        self.uris.get_or_init(|| {
            let of_tunnel = || Uris { first: self.host.property(PEER_OF_TUNNEL), further: Lookup::Absent };
            if self.sources.principal == PrincipalFrom::FilterState {
                return of_tunnel();
            }
            let all = match self.told(PeerField::Uris) {
                Lookup::Absent => self.host.property("filter_state\0mesh_authz.peer_uris"),
                told => told.map(<[u8]>::to_vec),
            };
            let says_nothing = match &all {
                Lookup::Value(all) => all.is_empty() || all == b"-",
                Lookup::Absent => true,
                Lookup::Unreadable => false,
            };
            if !says_nothing && matches!(&all, Lookup::Value(all) if !all.contains(&b',')) {
                return Uris { first: all, further: Lookup::Absent };
            }
            let first = self.host.property("connection\0uri_san_peer_certificate");
            if says_nothing && first == Lookup::Absent {
                return of_tunnel();
            }
            let more = match &all {
                Lookup::Value(joined) => joined.contains(&b',') && all != first,
                Lookup::Absent => false,
                Lookup::Unreadable => true,
            };
            Uris { first, further: if more { Lookup::Unreadable } else { Lookup::Absent } }
        })
    }

    fn bytes<'c>(&self, cell: &'c OnceCell<Lookup<Vec<u8>>>, path: &str) -> Lookup<&'c [u8]> {
        cell.get_or_init(|| self.host.property(path)).as_slice()
    }

    fn parsed<T: Copy>(
        &self,
        cell: &OnceCell<Lookup<T>>,
        path: &str,
        parse: impl FnOnce(&[u8]) -> Lookup<T>,
    ) -> Lookup<T> {
        *cell.get_or_init(|| self.host.property(path).and_then(|bytes| parse(&bytes)))
    }
}

/// Whether a connection has TLS. It is known before the handshake.
fn is_tls(host: &impl Host) -> bool {
    host.property("connection\0tls_version") != Lookup::Absent
}

/// The request headers, checked once. One call for all of them costs hardly more than one for a single value. Every request
/// has a method, so a map without one is not the map of the request.
fn request_headers(host: &impl Host) -> Lookup<Vec<u8>> {
    host.request_headers().and_then(|bytes| match Headers::read(&bytes) {
        Lookup::Value(headers) if headers.values(b":method").next().is_some() => Lookup::Value(bytes),
        Lookup::Value(_) | Lookup::Absent | Lookup::Unreadable => Lookup::Unreadable,
    })
}

impl<H: Host> Attributes for HostAttributes<'_, H> {
    fn peer_name(&self, which: PeerName) -> Lookup<&[u8]> {
        if self.known == Known::Handshake {
            return self.later();
        }
        match (which, self.sources.principal) {
            (PeerName::Uri, _) => self.uris().first.as_slice(),
            (PeerName::FurtherUris, _) => self.uris().further.as_slice(),
            (PeerName::Dns | PeerName::Subject, PrincipalFrom::FilterState) => Lookup::Absent,
            (PeerName::Dns, PrincipalFrom::PeerCertificate) => {
                self.bytes(&self.dns, "connection\0dns_san_peer_certificate")
            }
            (PeerName::Subject, PrincipalFrom::PeerCertificate) => {
                self.bytes(&self.subject, "connection\0subject_peer_certificate")
            }
        }
    }

    fn address(&self, which: Address) -> Lookup<IpAddr> {
        match (which, self.sources.source_ip) {
            (Address::Destination, _) => {
                self.parsed(&self.destination_ip, "destination\0address", property::ip_of_address)
            }
            (Address::Remote, _) | (Address::Source, SourceIpFrom::RemoteAddress) => {
                self.parsed(&self.remote_ip, "source\0address", property::ip_of_address)
            }
            (Address::Source, SourceIpFrom::FilterState) => {
                let ip = || match self.told(PeerField::Port).map(property::port_in_text) {
                    Lookup::Value(Some(_)) => self.told(PeerField::Ip).and_then(property::ip),
                    // A client can give its Unix socket a path that looks like an address. But such a connection has no
                    // port.
                    Lookup::Value(None) | Lookup::Unreadable => Lookup::Unreadable,
                    Lookup::Absent => match self.host.property("filter_state\0mesh_authz.source_ip") {
                        // No filter has set the address. That says nothing about the peer, so the address is unreadable.
                        Lookup::Absent => Lookup::Unreadable,
                        known => known.and_then(|bytes| property::ip(&bytes)),
                    },
                };
                match *self.source_ip.get_or_init(ip) {
                    // A network filter behind this one may still tell it.
                    Lookup::Unreadable if self.known != Known::All => self.later(),
                    ip => ip,
                }
            }
        }
    }

    fn destination_port(&self) -> Lookup<u16> {
        *self.destination_port.get_or_init(|| {
            match self.told(PeerField::Port).map(property::port_in_text) {
                Lookup::Value(Some(port)) => Lookup::Value(port),
                // A Unix socket, for example, has no port there. Envoy's own attribute says what there is instead.
                Lookup::Value(None) | Lookup::Absent => {
                    self.host.property("destination\0port").and_then(|bytes| property::port(&bytes))
                }
                Lookup::Unreadable => Lookup::Unreadable,
            }
        })
    }

    fn text(&self, which: ConnectionText) -> Lookup<&[u8]> {
        match which {
            ConnectionText::Sni => self.bytes(&self.sni, "connection\0requested_server_name"),
        }
    }

    fn header<'a>(&'a self, name: &'a [u8]) -> Lookup<HeaderValues<'a>> {
        let all = self.headers.get_or_init(|| request_headers(self.host));
        all.as_slice().and_then(Headers::again).map(|headers| headers.values(name))
    }

    fn metadata(&self) -> Lookup<Metadata<'_>> {
        if self.known != Known::All {
            return self.later();
        }
        self.bytes(&self.metadata, "metadata").map(Metadata::new)
    }
}
