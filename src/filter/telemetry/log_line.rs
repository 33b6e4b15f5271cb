//! The decision log: one line of JSON for each decision.
//!
//! A line says who wanted what, what was decided and why. From the request it has the peer's identity, the method, the
//! path without its query, and addresses. For the nearest miss it may also have the local port, the local address or
//! the TLS server name. It never has another header, and never a token.

use std::net::IpAddr;

use super::filter_state::{nearest, provenance, results};
use super::json::Object;
use crate::engine::Decision;
use crate::engine::explain::{NearMiss, ShownValue};
use crate::request::{Address, Attributes, PeerName, without_query};

/// Formats the log line for a decision. `suppressed` counts similar lines dropped since the last one.
#[must_use]
pub fn decision(
    decision: &Decision<'_>,
    near_miss: Option<NearMiss<'_>>,
    suppressed: u64,
    request: &impl Attributes,
) -> String {
    let mut line = String::new();
    let mut object = Object::begin(&mut line);
    provenance(&mut object, decision);
    object.raw("reason", format_args!("\"{}\"", decision.outcome));
    if let Some(near_miss) = near_miss {
        let actual = near_miss.actual(request);
        let mut object = nearest(&mut object, near_miss);
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
    object.text_or_null("method", header(b":method"));
    object.text_or_null("path", header(b":path").map(without_query));
    address(&mut object, "source_ip", request.address(Address::Source).known());
    address(&mut object, "remote_ip", request.address(Address::Remote).known());
    results(&mut object, decision);
    if suppressed > 0 {
        object.raw("suppressed", format_args!("{suppressed}"));
    }
    object.end();
    line
}

fn address(object: &mut Object<'_>, name: &str, address: Option<IpAddr>) {
    match address {
        Some(address) => object.raw(name, format_args!("\"{address}\"")),
        None => object.text_or_null(name, None),
    }
}
