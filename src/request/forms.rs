//! The forms of a header value that applications take for the same.
//!
//! HTTP/2 and HTTP/3 let white space around a value through. In a host, a trailing dot and userinfo change nothing about the
//! site that a server chooses. A match that denies therefore looks at all forms; otherwise a client could slip past it. A
//! match that permits looks only at the value as sent.

/// Whether one of the forms of the header value matches. `matches` receives them in order, up to and including the first
/// that matches. The value as sent comes first.
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
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let from = value.iter().position(|byte| !is_blank(byte)).unwrap_or(value.len());
    let to = value.iter().rposition(|byte| !is_blank(byte)).map_or(from, |last| last.saturating_add(1));
    let trimmed = value.get(from..to).unwrap_or_default();
    if trimmed.len() < value.len() && matches(trimmed) {
        return true;
    }
    if !is_host {
        return false;
    }
    without_trailing_dot(trimmed, matches)
        || trimmed
            .iter()
            .rposition(|byte| *byte == b'@')
            .and_then(|at| trimmed.get(at.saturating_add(1)..))
            .is_some_and(|without_userinfo| {
                matches(without_userinfo) || without_trailing_dot(without_userinfo, matches)
            })
}

/// Whether the host matches without the dots at the end of its name. Does not try a host without such dots.
fn without_trailing_dot(host: &[u8], matches: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    let end = host.iter().rposition(|byte| *byte == b':').unwrap_or(host.len());
    let (dotted, port) = host.split_at_checked(end).unwrap_or((host, &[]));
    let mut name = dotted;
    while let [rest @ .., b'.'] = name {
        name = rest;
    }
    name.len() < dotted.len() && if port.is_empty() { matches(name) } else { matches(&[name, port].concat()) }
}
