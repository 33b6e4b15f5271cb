//! The forms of a header value that applications take for the same.
//!
//! HTTP/2 and HTTP/3 let white space around a value through. In a host, a trailing dot and userinfo change nothing
//! about the site that a server chooses. A match that denies therefore looks at all forms; otherwise a client could
//! slip past it. A match that permits looks only at the value as sent.

/// A longer host with a trailing dot, and a header with this much white space on one side, count as matching: no honest
/// client sends them, and to take them apart for every rule would take too long. Userinfo is looked for in as many last
/// bytes of a host, since no server has a longer name.
const LONGEST_HOST: usize = 1_024;
const MOST_WHITE_SPACE: usize = 256;

/// Whether one of the forms of the header value matches. `matches` receives them in order, up to and including the
/// first that matches. The value as sent comes first.
pub(crate) fn any(name: &[u8], value: &[u8], matches: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    matches(value) || any_other(name, value, matches)
}

#[inline(never)]
fn any_other(name: &[u8], value: &[u8], matches: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    let is_host = name == b":authority";
    // Envoy checks the other pseudo-headers.
    if name.starts_with(b":") && !is_host {
        return false;
    }
    let Some(trimmed) = without_white_space(value) else { return true };
    if trimmed.len() < value.len() && matches(trimmed) {
        return true;
    }
    if !is_host {
        return false;
    }
    // Envoy makes one host of two lines, with a comma between them, and an application can take either for the host.
    if trimmed.contains(&b',') {
        return true;
    }
    let end = end(trimmed);
    let without_userinfo = end.iter().rposition(|byte| *byte == b'@').and_then(|at| end.get(at.saturating_add(1)..));
    without_trailing_dot(trimmed, matches)
        || without_userinfo.is_some_and(|host| matches(host) || without_trailing_dot(host, matches))
}

/// The value without the white space around it. `None` if there is too much white space.
pub(crate) fn without_white_space(value: &[u8]) -> Option<&[u8]> {
    let is_blank = |byte: &&u8| matches!(byte, b' ' | b'\t');
    let before = value.iter().take(MOST_WHITE_SPACE).take_while(is_blank).count();
    let behind = value.iter().rev().take(MOST_WHITE_SPACE).take_while(is_blank).count();
    let is_too_much = before == MOST_WHITE_SPACE || behind == MOST_WHITE_SPACE;
    (!is_too_much).then(|| value.get(before..value.len().saturating_sub(behind)).unwrap_or_default())
}

/// The last bytes of a host.
fn end(host: &[u8]) -> &[u8] {
    host.get(host.len().saturating_sub(LONGEST_HOST)..).unwrap_or(host)
}

/// Whether the host matches without the dots at the end of its name. Does not try a host without such dots.
fn without_trailing_dot(host: &[u8], matches: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    let (mut name, port) = split_port(host);
    if name.last() != Some(&b'.') {
        return false;
    }
    if host.len() > LONGEST_HOST {
        return true;
    }
    while let [rest @ .., b'.'] = name {
        name = rest;
    }
    let mut host = name.to_vec();
    host.extend_from_slice(port);
    matches(&host)
}

/// Splits a host into its name and its port. The port begins with a colon, or is empty.
pub(crate) fn split_port(host: &[u8]) -> (&[u8], &[u8]) {
    let end = end(host);
    // A colon within brackets belongs to an IPv6 address.
    let colon = end.iter().rposition(|byte| matches!(byte, b':' | b']')).filter(|at| end.get(*at) == Some(&b':'));
    let port = colon.map_or(0, |at| end.len().saturating_sub(at));
    host.split_at_checked(host.len().saturating_sub(port)).unwrap_or((host, &[]))
}
