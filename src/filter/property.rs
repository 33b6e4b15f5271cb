//! Decoding of what Envoy returns for a property. What does not have the expected form is unreadable.

use std::net::{IpAddr, SocketAddr};

use crate::policy::Labels;
use crate::request::{Headers, Lookup};

/// An address without a port: `10.0.0.1`, `2001:db8::1`.
#[must_use]
pub fn ip(bytes: &[u8]) -> Lookup<IpAddr> {
    match std::str::from_utf8(bytes).ok().and_then(parse_ip) {
        Some(address) => Lookup::Value(address),
        None => Lookup::Unreadable,
    }
}

/// The IP of `10.0.0.1:80` or `[2001:db8::1]:80`. The address of a Unix socket or an internal listener has none.
#[must_use]
pub fn ip_of_address(bytes: &[u8]) -> Lookup<IpAddr> {
    let Ok(text) = std::str::from_utf8(bytes) else { return Lookup::Unreadable };
    if text.starts_with(['/', '@']) || text.starts_with("envoy://") {
        return Lookup::Absent;
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Lookup::Value(address.ip());
    }
    // A scope id behind the address is a name on some systems, which the standard library does not read.
    let scoped = text.strip_prefix('[').and_then(|rest| rest.split_once(']')).and_then(|(ip, _)| parse_ip(ip));
    scoped.map_or(Lookup::Unreadable, Lookup::Value)
}

fn parse_ip(text: &str) -> Option<IpAddr> {
    let without_scope = text.split_once('%').map_or(text, |(address, _)| address);
    without_scope.parse().ok()
}

/// A port, as 64 bits, little-endian.
#[must_use]
pub fn port(bytes: &[u8]) -> Lookup<u16> {
    let number = <[u8; 8]>::try_from(bytes).ok().map(i64::from_le_bytes);
    match number.and_then(|number| u16::try_from(number).ok()) {
        Some(port) => Lookup::Value(port),
        None => Lookup::Unreadable,
    }
}

/// A text.
#[must_use]
pub fn text(bytes: &[u8]) -> Lookup<String> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Lookup::Value(text.to_owned()),
        Err(_) => Lookup::Unreadable,
    }
}

/// Labels: pairs in the encoding of headers.
///
/// Envoy encodes other types the same way: a number or a boolean as raw bytes, which no label has, and a list as keys
/// without values. Labels that have no value at all are too rare to be told from a list.
#[must_use]
pub fn labels(bytes: &[u8]) -> Lookup<Labels> {
    // A map without entries has its count; this is an empty string.
    if bytes.is_empty() {
        return Lookup::Unreadable;
    }
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().filter(|text| is_label_text(text)).map(str::to_owned);
    Headers::read(bytes).and_then(|pairs| {
        let labels: Option<Labels> = pairs.iter().map(|(key, value)| Some((text(key)?, text(value)?))).collect();
        let is_map = |labels: &Labels| labels.is_empty() || labels.iter().any(|(_, v)| !v.is_empty());
        labels.filter(is_map).map_or(Lookup::Unreadable, Lookup::Value)
    })
}

/// The characters that Kubernetes allows in the keys and values of labels.
fn is_label_text(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
}
