//! Several values in one text, such as `GET, POST`.

use mesh_authz::policy::Predicate;

use super::placeholder::in_name;

/// The values that an author probably meant, if he wrote several of them into one text; none if it is not sure where one
/// ends and the next begins.
pub(super) fn several<'v>(value: &'v str, predicate: &Predicate) -> Vec<&'v str> {
    // The subject of a certificate can have commas. Only a suffix matches it.
    if matches!(predicate, Predicate::Principal(_)) && value.contains('=') {
        return Vec::new();
    }
    let split = |separators: &[char]| -> Vec<&'v str> {
        value.split(separators).map(str::trim).filter(|part| !part.is_empty()).collect()
    };
    let separators: &[char] = match predicate {
        Predicate::Method(_) => &[',', ';', '|', '/'],
        Predicate::RequestPrincipal(_) => &[','],
        _ => &[',', ';', '|'],
    };
    let parts = split(separators);
    if parts.len() > 1 {
        return if parts.iter().all(|part| is_value(part, predicate)) { parts } else { Vec::new() };
    }
    // A space can also stand for a dash, or be one too many.
    let parts = split(&[' ']);
    let are_values = parts.len() > 1 && parts.iter().all(|part| is_value(part, predicate) && is_whole(part, predicate));
    if are_values { parts } else { Vec::new() }
}

/// Whether a text can be a value of the attribute.
fn is_value(text: &str, predicate: &Predicate) -> bool {
    let has_only = |others: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c));
    match predicate {
        Predicate::Method(_) => text == "*" || is_registered(text),
        Predicate::Namespace(_) => has_only("-*"),
        Predicate::ServiceAccount(_) => has_only("-./"),
        Predicate::Principal(_) => has_only("-._/*:") && (text.contains("ns/") || text.contains('*')),
        Predicate::Host(_) => has_only("-._*:[]"),
        Predicate::TrustDomain(_) | Predicate::Sni(_) => has_only("-._*"),
        Predicate::Path(_) => text.starts_with(['/', '*']) && !text.contains(' ') && in_name(text).is_none(),
        Predicate::RequestPrincipal(_) => text.contains("://") && !text.contains(' '),
        _ => false,
    }
}

/// Whether a text is not only a part of a value of the attribute.
fn is_whole(text: &str, predicate: &Predicate) -> bool {
    match predicate {
        Predicate::Method(_) | Predicate::Path(_) => true,
        Predicate::ServiceAccount(_) => text.contains('/'),
        Predicate::Principal(_) => text.contains("ns/") && text.contains("/sa/"),
        Predicate::TrustDomain(_) | Predicate::Host(_) | Predicate::Sni(_) => {
            text.contains('.') && !text.starts_with('.') && !text.ends_with('.')
        }
        _ => false,
    }
}

/// Whether a method is registered with IANA, in capitals or not.
pub(super) fn is_registered(method: &str) -> bool {
    const REGISTERED: [&str; 40] = [
        "ACL",
        "BASELINE-CONTROL",
        "BIND",
        "CHECKIN",
        "CHECKOUT",
        "CONNECT",
        "COPY",
        "DELETE",
        "GET",
        "HEAD",
        "LABEL",
        "LINK",
        "LOCK",
        "MERGE",
        "MKACTIVITY",
        "MKCALENDAR",
        "MKCOL",
        "MKREDIRECTREF",
        "MKWORKSPACE",
        "MOVE",
        "OPTIONS",
        "ORDERPATCH",
        "PATCH",
        "POST",
        "PRI",
        "PROPFIND",
        "PROPPATCH",
        "PUT",
        "QUERY",
        "REBIND",
        "REPORT",
        "SEARCH",
        "TRACE",
        "UNBIND",
        "UNCHECKOUT",
        "UNLINK",
        "UNLOCK",
        "UPDATE",
        "UPDATEREDIRECTREF",
        "VERSION-CONTROL",
    ];
    REGISTERED.iter().any(|known| known.eq_ignore_ascii_case(method))
}
