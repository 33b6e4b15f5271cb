//! The decision log: one line of JSON for each decision.
//!
//! A line says who wanted what from which workload, what was decided and why. From the request it has the peer's
//! identity, the method, the host without userinfo, the path without its query, addresses and the local port. From a
//! connection it has the TLS server name instead of what only HTTP has. For the nearest miss it names the condition that
//! failed, and how; it may also have the local address or the TLS server name.
//! It never has another header, and never a token.

use std::net::IpAddr;

use super::filter_state::{nearest, provenance, results};
use super::json::Object;
use crate::engine::Decision;
use crate::engine::explain::{NearMiss, ShownValue};
use crate::policy::Traffic;
use crate::policy::scope::Workload;
use crate::request::{Address, Attributes, ConnectionText, PeerName, without_query};

/// The workload, as log lines show it: an object with the namespace and, if they are known and short, the labels.
#[must_use]
pub fn workload(workload: &Workload) -> String {
    const LONGEST: usize = 512;
    let mut text = String::new();
    let mut object = Object::begin(&mut text);
    object.text("namespace", workload.namespace.as_bytes());
    // In this form, a label can have neither of these characters.
    let is_plain = |text: &str| !text.contains([',', '=']);
    if let Some(labels) = &workload.labels
        && labels.iter().all(|(key, value)| is_plain(key) && is_plain(value))
    {
        let mut text = String::new();
        for (key, value) in labels {
            let comma = if text.is_empty() { "" } else { "," };
            text.extend([comma, key, "=", value]);
        }
        if text.len() <= LONGEST {
            object.text("labels", text.as_bytes());
        }
    }
    object.end();
    text
}

/// What a log line says, besides what it reads from the request.
#[derive(Debug)]
pub struct Line<'l> {
    /// What the decision is about.
    pub traffic: Traffic,
    /// The decision.
    pub decision: &'l Decision<'l>,
    /// The rule that came nearest to matching, if no ALLOW policy matched.
    pub near_miss: Option<NearMiss<'l>>,
    /// What [`workload`] has made.
    pub workload: &'l str,
    /// The host of the service behind a waypoint.
    pub service: Option<&'l [u8]>,
    /// How many similar lines were dropped since the last one.
    pub suppressed: u64,
}

impl Line<'_> {
    /// Formats the line.
    #[must_use]
    pub fn write(&self, request: &impl Attributes) -> String {
        let mut line = String::new();
        let mut object = Object::begin(&mut line);
        provenance(&mut object, self.decision);
        object.raw("reason", format_args!("\"{}\"", self.decision.outcome));
        if let Some(near_miss) = self.near_miss {
            let actual = near_miss.actual(request);
            let mut object = nearest(&mut object, near_miss, near_miss.key());
            match actual {
                Some(ShownValue::Port(port)) => object.raw("actual", format_args!("\"{port}\"")),
                Some(ShownValue::Address(address)) => object.raw("actual", format_args!("\"{address}\"")),
                Some(ShownValue::Text(text)) => object.text("actual", text),
                None => {}
            }
            object.end();
        }
        let header = |name| request.header(name).known()?.next();
        object.text_or_null("principal", request.peer_name(PeerName::Uri).known());
        match self.traffic {
            Traffic::Http => {
                object.text_or_null("method", header(b":method"));
                object.text_or_null("host", header(b":authority").map(without_userinfo));
                object.text_or_null("path", header(b":path").map(without_query));
            }
            Traffic::Tcp => {
                object.text("protocol", b"tcp");
                object.text_or_null("sni", request.text(ConnectionText::Sni).known().filter(|name| !name.is_empty()));
            }
        }
        address(&mut object, "source_ip", request.address(Address::Source).known());
        address(&mut object, "remote_ip", request.address(Address::Remote).known());
        if let Some(port) = request.destination_port().known() {
            object.raw("destination_port", format_args!("{port}"));
        }
        object.raw("workload", format_args!("{}", self.workload));
        if let Some(service) = self.service {
            object.text("service", service);
        }
        results(&mut object, self.decision);
        if self.suppressed > 0 {
            object.raw("suppressed", format_args!("{}", self.suppressed));
        }
        object.end();
        line
    }
}

/// Userinfo can hold a password.
fn without_userinfo(host: &[u8]) -> &[u8] {
    host.rsplit(|byte| *byte == b'@').next().unwrap_or(host)
}

fn address(object: &mut Object<'_>, name: &str, address: Option<IpAddr>) {
    match address {
        Some(address) => object.raw(name, format_args!("\"{address}\"")),
        None => object.text_or_null(name, None),
    }
}
