//! The filter: a request comes in, a decision goes out.
//!
//! [`Plugin`] is one accepted configuration; [`Plugin::on_request`] answers one request through a [`Host`], which is Envoy
//! in `filter/host.rs` and an ordinary object in tests. Attributes are read when a rule first needs them and kept for
//! the request; what Envoy refuses to give is unreadable, never absent.

#[cfg(target_arch = "wasm32")]
mod host;
pub mod log_line;
pub mod property;

use std::cell::{OnceCell, RefCell};
use std::net::IpAddr;

use crate::config::{DecisionLog, DenyResponse, NodeMetadata, PluginConfig, PrincipalFrom, SourceIpFrom};
use crate::diagnostic::Diagnostic;
use crate::engine::{Decision, Engine, Verdict};
use crate::policy::scope::{Scope, scope};
use crate::request::{Attributes, HeaderValues, Headers, Lookup, Metadata, PeerName};

/// What the filter needs from the proxy that it runs in.
pub trait Host {
    /// A property, by the parts of its path with a NUL between them.
    fn property(&self, path: &str) -> Lookup<Vec<u8>>;
    /// All request headers, in the host's encoding.
    fn request_headers(&self) -> Lookup<Vec<u8>>;
    /// One value of a request header. There may be more, unless the name begins with a colon.
    fn request_header(&self, name: &[u8]) -> Lookup<Vec<u8>>;
    /// Whether anybody reads lines at info level.
    fn logs_info(&self) -> bool;
    /// Answers the request in the application's place.
    fn respond(&self, reply: &Reply, details: &str);
}

/// An answer, ready to be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: String,
    /// Further headers, in the host's encoding.
    pub headers: Vec<u8>,
}

impl From<DenyResponse> for Reply {
    fn from(DenyResponse { status, body, headers }: DenyResponse) -> Self {
        Self { status, body, headers: Headers::encode(&headers) }
    }
}

/// Whether the request goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// To the next filter.
    Continue,
    /// It has been answered.
    Answered,
}

/// One accepted configuration.
#[derive(Debug)]
pub struct Plugin {
    engine: Engine,
    headers_from: HeadersFrom,
    principal_from: PrincipalFrom,
    source_ip_from: SourceIpFrom,
    refusal: Reply,
    /// Room for the response code details, so that a refusal allocates nothing.
    details: RefCell<String>,
    decision_log: DecisionLog,
}

/// How the request line is read. A host call for all headers costs what two for single values do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HeadersFrom {
    /// One call for each part that is needed.
    EachByItself,
    /// One call for all headers, since some rule looks at others too, or rules look at every part of the line.
    Map,
}

impl HeadersFrom {
    fn of(engine: &Engine) -> Self {
        let (mut method, mut path, mut authority) = (false, false, false);
        for name in engine.headers() {
            match name {
                b":method" => method = true,
                b":path" => path = true,
                b":authority" => authority = true,
                _ => return Self::Map,
            }
        }
        if method && path && authority { Self::Map } else { Self::EachByItself }
    }
}

impl Plugin {
    /// Loads a configuration and logs what becomes of the policies in it.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration. Nothing of it is applied.
    pub fn load(bytes: Vec<u8>, node: &NodeMetadata) -> Result<Self, Vec<Diagnostic>> {
        let PluginConfig {
            mut policies,
            workload,
            options,
            principal_from,
            source_ip_from,
            deny_response,
            decision_log,
        } = PluginConfig::read(&bytes, node)?;
        // What a VM has once taken it keeps: whatever is not needed any more goes before the next thing is made of it.
        drop(bytes);
        let given = policies.len();
        policies.retain(|policy| {
            let scope = scope(policy, &workload);
            let dry_run = if policy.dry_run { " (dry run)" } else { "" };
            log::info!("policy {}: {}{dry_run}, {} rules: {scope}", policy.name, policy.action, policy.rules.len());
            scope == Scope::Applies
        });
        let applying = policies.len();
        let engine = Engine::new(policies, &options);
        log::info!(
            "{applying} of {given} policies, with {} rules, apply to this workload in namespace {}",
            engine.rules(),
            workload.namespace
        );
        Ok(Self {
            headers_from: HeadersFrom::of(&engine),
            engine,
            principal_from,
            source_ip_from,
            refusal: deny_response.into(),
            details: RefCell::default(),
            decision_log,
        })
    }

    /// Decides one request, and answers it if it is refused.
    pub fn on_request(&self, host: &impl Host) -> Outcome {
        let attributes = HostAttributes::new(host, self);
        let decision = self.engine.decide(&attributes);
        if self.logs(decision.verdict) && host.logs_info() {
            log::info!("{}", log_line::decision(&decision, &attributes));
        }
        match decision.verdict {
            Verdict::Allow => Outcome::Continue,
            Verdict::Deny => {
                let mut details = self.details.take();
                details.clear();
                write_response_code_details(&decision, &mut details);
                host.respond(&self.refusal, &details);
                self.details.replace(details);
                Outcome::Answered
            }
        }
    }

    fn logs(&self, verdict: Verdict) -> bool {
        match self.decision_log {
            DecisionLog::None => false,
            DecisionLog::Denied => verdict == Verdict::Deny,
            DecisionLog::All => true,
        }
    }
}

/// What Istio users' logs and alerts look for when a request was refused.
fn write_response_code_details(decision: &Decision<'_>, details: &mut String) {
    details.push_str("rbac_access_denied_matched_policy[");
    details.push_str(decision.reason.rule().map_or("none", |rule| rule.as_str()));
    details.push(']');
}

/// The attributes of the request that the host is processing, each read at most once, and only when a rule needs it.
struct HostAttributes<'h, H> {
    host: &'h H,
    principal_from: PrincipalFrom,
    source_ip_from: SourceIpFrom,
    headers_from: HeadersFrom,
    method: OnceCell<Lookup<Vec<u8>>>,
    path: OnceCell<Lookup<Vec<u8>>>,
    authority: OnceCell<Lookup<Vec<u8>>>,
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

/// The URIs in the peer's certificate.
struct Uris {
    first: Lookup<Vec<u8>>,
    further: Lookup<Vec<u8>>,
}

impl<'h, H: Host> HostAttributes<'h, H> {
    fn new(host: &'h H, plugin: &Plugin) -> Self {
        Self {
            host,
            principal_from: plugin.principal_from,
            source_ip_from: plugin.source_ip_from,
            headers_from: plugin.headers_from,
            method: OnceCell::new(),
            path: OnceCell::new(),
            authority: OnceCell::new(),
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

    /// Envoy's attribute holds the first URI only. Where a filter before this one provides all of them, joined with commas,
    /// that is enough unless there is a comma: then it is the first URI, or there are more.
    fn uris(&self) -> &Uris {
        self.uris.get_or_init(|| {
            if self.principal_from == PrincipalFrom::FilterState {
                let first = self.host.property("filter_state\0io.istio.peer_principal");
                return Uris { first, further: Lookup::Absent };
            }
            let all = self.host.property("filter_state\0mesh_authz.peer_uris");
            if matches!(&all, Lookup::Value(all) if !all.is_empty() && all != b"-" && !all.contains(&b',')) {
                return Uris { first: all, further: Lookup::Absent };
            }
            let first = self.host.property("connection\0uri_san_peer_certificate");
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

/// The request headers, checked once. Every request has a method: a map without one is not the request's.
fn request_headers(host: &impl Host) -> Lookup<Vec<u8>> {
    host.request_headers().and_then(|bytes| match Headers::read(&bytes) {
        Lookup::Value(headers) if headers.values(b":method").next().is_some() => Lookup::Value(bytes),
        Lookup::Value(_) | Lookup::Absent | Lookup::Unreadable => Lookup::Unreadable,
    })
}

impl<H: Host> Attributes for HostAttributes<'_, H> {
    fn peer_name(&self, which: PeerName) -> Lookup<&[u8]> {
        match (which, self.principal_from) {
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

    fn source_ip(&self) -> Lookup<IpAddr> {
        match self.source_ip_from {
            SourceIpFrom::RemoteAddress => self.remote_ip(),
            // Nothing has set it: that is no statement about the peer.
            SourceIpFrom::FilterState => {
                match self.parsed(&self.source_ip, "filter_state\0mesh_authz.source_ip", property::ip) {
                    Lookup::Absent => Lookup::Unreadable,
                    known => known,
                }
            }
        }
    }

    fn remote_ip(&self) -> Lookup<IpAddr> {
        self.parsed(&self.remote_ip, "source\0address", property::ip_of_address)
    }

    fn destination_ip(&self) -> Lookup<IpAddr> {
        self.parsed(&self.destination_ip, "destination\0address", property::ip_of_address)
    }

    fn destination_port(&self) -> Lookup<u16> {
        self.parsed(&self.destination_port, "destination\0port", property::port)
    }

    fn sni(&self) -> Lookup<&[u8]> {
        self.bytes(&self.sni, "connection\0requested_server_name")
    }

    fn header<'a>(&'a self, name: &'a [u8]) -> Lookup<HeaderValues<'a>> {
        let single = match name {
            b":method" => Some(&self.method),
            b":path" => Some(&self.path),
            b":authority" => Some(&self.authority),
            _ => None,
        };
        if let (Some(cell), HeadersFrom::EachByItself) = (single, self.headers_from) {
            return cell.get_or_init(|| self.host.request_header(name)).as_slice().map(HeaderValues::only);
        }
        let all = self.headers.get_or_init(|| request_headers(self.host));
        all.as_slice().and_then(Headers::again).map(|headers| headers.values(name))
    }

    fn metadata(&self) -> Lookup<Metadata<'_>> {
        self.bytes(&self.metadata, "metadata").map(Metadata::new)
    }
}
