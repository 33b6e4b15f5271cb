//! Hosts and addresses that look alike.

use std::net::IpAddr;

use mesh_authz::policy::{Cidr, Values};
use mesh_authz::request::Lookup;

use super::Reason;
use super::text::matches;

pub(super) const HOST: [Reason; 5] = [case_and_port, trailing_dot, userinfo, url, apex];

/// Splits a host from its port. A colon within brackets belongs to an IPv6 address.
fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    }
}

/// Case does not count in hosts. In server names it does, but nothing else then differs.
fn host_matches(expected: &str, actual: &str) -> bool {
    matches(&expected.to_ascii_lowercase(), &actual.to_ascii_lowercase())
}

fn case_and_port(expected: &str, actual: &str) -> Option<String> {
    let ((name, port), (actual_name, actual_port)) = (split_port(expected), split_port(actual));
    if host_matches(expected, actual) || port == actual_port || !host_matches(name, actual_name) {
        return None;
    }
    Some(match (port, actual_port) {
        (None, Some(_)) => format!("only the port differs: the port is part of the host, and `{expected}` has none"),
        (Some(port), None) => format!("only the port differs: `{expected}` has the port {port}, and the host none"),
        _ => format!("only the port differs from `{expected}`: the port is part of the host"),
    })
}

fn trailing_dot(expected: &str, actual: &str) -> Option<String> {
    let bare = |host: &str| {
        let (name, port) = split_port(host);
        let name = name.strip_suffix('.').unwrap_or(name);
        port.map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"))
    };
    (!host_matches(expected, actual) && host_matches(&bare(expected), &bare(actual)))
        .then(|| format!("`{expected}` differs by a trailing dot, which counts where a match permits"))
}

fn userinfo(expected: &str, actual: &str) -> Option<String> {
    let (_, host) = actual.rsplit_once('@')?;
    host_matches(expected, host)
        .then(|| "the host has a user before an `@`, which counts where a match permits".to_owned())
}

fn url(expected: &str, actual: &str) -> Option<String> {
    let (_, rest) = expected.split_once("://")?;
    let host = rest.split('/').next().unwrap_or(rest);
    let is_it = host_matches(host, actual) || host_matches(host, split_port(actual).0);
    is_it.then(|| format!("`{expected}` is a URL, and a host has no scheme and no path"))
}

fn apex(expected: &str, actual: &str) -> Option<String> {
    let domain = expected.strip_prefix("*.")?;
    host_matches(domain, actual)
        .then(|| format!("`{expected}` needs a name before the dot, and does not match `{domain}` itself"))
}

/// The other forms of a host that count where a match denies.
pub(super) fn bare_hosts(host: &str) -> Vec<String> {
    let host = host.trim_matches([' ', '\t']);
    let behind = host.rsplit_once('@').map_or(host, |(_, behind)| behind);
    let without_dot = |host: &str| {
        let (name, port) = split_port(host);
        let name = name.trim_end_matches('.');
        port.map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"))
    };
    vec![host.to_owned(), without_dot(host), behind.to_owned(), without_dot(behind)]
}

/// The port in a host is not the port of the connection.
pub(super) fn port(expected: &[String], host: &str) -> Option<String> {
    let (_, port) = split_port(host);
    let port = expected.iter().find(|expected| port == Some(expected.as_str()))?;
    Some(format!("{port} is the port in the host `{host}`: the port on which the workload listens counts"))
}

/// Why an address is in none of the networks. `otherwise`: a further reason.
pub(super) fn address(
    values: &Values<Cidr>,
    address: Lookup<IpAddr>,
    otherwise: impl FnOnce() -> Option<String>,
) -> Option<String> {
    let address = address.known()?;
    let is_other_family = |block: &Cidr| block.address.is_ipv4() != address.is_ipv4();
    let family = |address: IpAddr| if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let canonical = address.to_canonical();
    let mapped = canonical != address && values.any.iter().any(|block| block.contains(canonical));
    let reason = match values.any.iter().find(|block| is_other_family(block)) {
        Some(block) if mapped => Some(format!(
            "{address} is an IPv6 address, although it stands for {canonical}: {} networks do not hold it",
            family(block.address)
        )),
        Some(block) if values.any.iter().all(is_other_family) => Some(format!(
            "{address} is an {} address, and {block} is an {} network",
            family(address),
            family(block.address)
        )),
        _ => None,
    };
    let both: Vec<_> = reason.into_iter().chain(otherwise()).collect();
    (!both.is_empty()).then(|| both.join("; "))
}

/// Shows the request's other address, because `source.ip` and `remote.ip` are easily confused. Asks whether the other
/// field is meant if the other address would have matched.
pub(super) fn other(values: &Values<Cidr>, other: Lookup<IpAddr>, attribute: &str, field: &str) -> Option<String> {
    let other = other.known()?;
    let would = values.any.iter().any(|block| block.contains(other));
    Some(if would {
        format!("{attribute} is {other}, which would match: is {field} meant?")
    } else {
        format!("{attribute} is {other}")
    })
}
