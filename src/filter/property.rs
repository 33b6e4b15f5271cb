//! Decodes what Envoy returns for a property. A value that does not have the expected form is unreadable.

use std::net::{IpAddr, SocketAddr};

use crate::policy::Labels;
use crate::request::{Headers, Lookup};

/// Reads an address without a port: `10.0.0.1`, `2001:db8::1`.
#[must_use]
pub fn ip(bytes: &[u8]) -> Lookup<IpAddr> {
    match std::str::from_utf8(bytes).ok().and_then(parse_ip) {
        Some(address) => Lookup::Value(address),
        None => Lookup::Unreadable,
    }
}

/// Reads the IP address in `10.0.0.1:80` or `[2001:db8::1]:80`. The address of a Unix socket or an internal listener
/// has none: it is absent.
#[must_use]
pub fn ip_of_address(bytes: &[u8]) -> Lookup<IpAddr> {
    let Ok(text) = std::str::from_utf8(bytes) else { return Lookup::Unreadable };
    if text.starts_with(['/', '@']) || text.starts_with("envoy://") {
        return Lookup::Absent;
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Lookup::Value(address.ip());
    }
    // On some systems, the scope id after the address is a name. The standard library does not read names.
    let scoped = text.strip_prefix('[').and_then(|rest| rest.split_once(']')).and_then(|(ip, _)| parse_ip(ip));
    scoped.map_or(Lookup::Unreadable, Lookup::Value)
}

fn parse_ip(text: &str) -> Option<IpAddr> {
    let without_scope = text.split_once('%').map_or(text, |(address, _)| address);
    without_scope.parse().ok()
}

/// Reads a port: 64 bits, little-endian.
#[must_use]
pub fn port(bytes: &[u8]) -> Lookup<u16> {
    let number = <[u8; 8]>::try_from(bytes).ok().map(i64::from_le_bytes);
    match number.and_then(|number| u16::try_from(number).ok()) {
        Some(port) => Lookup::Value(port),
        None => Lookup::Unreadable,
    }
}

/// Reads a port in decimal digits: `8080`.
#[must_use]
pub fn port_in_text(bytes: &[u8]) -> Option<u16> {
    let is_number = !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(bytes).ok().filter(|_| is_number)?.parse().ok()
}

/// Reads UTF-8 text.
#[must_use]
pub fn text(bytes: &[u8]) -> Lookup<String> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Lookup::Value(text.to_owned()),
        Err(_) => Lookup::Unreadable,
    }
}

/// Reads labels: pairs in the encoding of headers.
///
/// Envoy encodes values of other types in the same way. A number or a boolean is raw bytes, which no label has. A list
/// is keys without values. So labels without any value look like a list, and are unreadable. Such labels are too rare
/// to matter.
#[must_use]
pub fn labels(bytes: &[u8]) -> Lookup<Labels> {
    // A map without entries still has its count, so this is an empty string.
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

/// Whether the text has only characters that Kubernetes allows in the keys and values of labels.
fn is_label_text(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
}
