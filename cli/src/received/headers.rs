//! What Envoy makes of the headers of a request, and of the client's address.

use std::collections::BTreeSet;
use std::net::IpAddr;

use mesh_authz::request::headers::{is_joined, is_name as is_header_name};

use super::settings::{ClientCertificate, Protocol, Settings};

/// The headers about the connection, which end at Envoy.
const OF_THE_CONNECTION: [&str; 5] = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// The headers that no client may set.
const INTERNAL: [&str; 16] = [
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-force-trace",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-internal",
    "x-envoy-ip-tags",
    "x-envoy-max-retries",
    "x-envoy-original-url",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    "x-envoy-retry-grpc-on",
    "x-envoy-retry-on",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-stream-duration-ms",
];

/// The headers that a client may not set where `use_remote_address` is true.
const INTERNAL_AT_THE_EDGE: [&str; 6] = [
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-external-address",
    "x-envoy-original-host",
    "x-envoy-original-path",
];

/// The headers that `connection` may not name.
const NEVER_NOMINATED: [&str; 3] = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];

pub type Headers = Vec<(String, String)>;

/// The headers with which the filter sees a request, or why Envoy itself refuses it.
pub fn seen(sent: &[(String, String)], protocol: Protocol, settings: &Settings) -> Result<Headers, String> {
    let mut nominated = BTreeSet::new();
    let mut seen: Headers = Vec::new();
    for (name, value) in sent {
        let name = name.to_ascii_lowercase();
        if name == "connection" {
            nominated.extend(value.split(',').map(|token| token.trim().to_ascii_lowercase()));
        }
        if !is_header_name(&name) {
            return Err(format!("`{name}` is not the name of a header"));
        }
        if value.contains(|character: char| character.is_ascii_control() && character != '\t') {
            return Err(format!("a value of the header `{name}` has a control character in it"));
        }
        if name == "content-length" && !value.trim().bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("`content-length` is no number".to_owned());
        }
        // Over HTTP/2, the value is what was sent.
        let value = if protocol == Protocol::Http1 { value.trim_matches([' ', '\t']) } else { value };
        if protocol == Protocol::Http2
            && (OF_THE_CONNECTION.contains(&name.as_str()) || name == "te" && value != "trailers")
        {
            return Err(format!("HTTP/2 has no header `{name}: {value}`"));
        }
        let is_joined = is_joined(name.as_bytes());
        match seen.iter_mut().find(|(other, _)| is_joined && *other == name) {
            None => seen.push((name, value.to_owned())),
            Some((_, line)) => {
                if !line.is_empty() && !value.is_empty() {
                    line.push(',');
                }
                line.push_str(value);
            }
        }
    }
    if let Some(name) = NEVER_NOMINATED.into_iter().find(|name| nominated.contains(*name)) {
        return Err(format!("the header `connection` names `{name}`"));
    }
    let upgrade = seen.iter().find(|(name, _)| name == "upgrade").map(|(_, value)| value.to_ascii_lowercase());
    let is_upgrade = match upgrade.filter(|_| nominated.contains("upgrade")).as_deref() {
        None | Some("h2c") => false,
        Some("websocket") => true,
        Some(other) => return Err(format!("it upgrades no connection to `{other}`")),
    };
    let is_removed = |name: &str, value: &str| {
        OF_THE_CONNECTION.contains(&name) && !(is_upgrade && ["connection", "upgrade"].contains(&name))
            || INTERNAL.contains(&name)
            || settings.use_remote_address && INTERNAL_AT_THE_EDGE.contains(&name)
            || nominated.contains(name) && name != "te" && !is_upgrade
            || name == "te" && !value.is_empty() && !has_trailers(value)
            || name == "expect" && value.eq_ignore_ascii_case("100-continue")
            || name == "referer" && !is_referer(value)
    };
    seen.retain(|(name, value)| !is_removed(name, value));
    if let Some((_, value)) = seen.iter_mut().find(|(name, value)| name == "te" && has_trailers(value)) {
        "trailers".clone_into(value);
    }
    if protocol == Protocol::Http2 {
        join_cookies(&mut seen);
    }
    Ok(seen)
}

/// Whether `te` has the one word that Envoy passes on.
fn has_trailers(value: &str) -> bool {
    value.split(',').any(|word| word.trim() == "trailers")
}

/// Whether Envoy takes the value for a URL without fragment and user information.
fn is_referer(value: &str) -> bool {
    let is_letters = |scheme: &str| !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphabetic());
    if let Some((_, rest)) = value.split_once("://").filter(|(scheme, _)| is_letters(scheme)) {
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let port = authority.rsplit_once(':').filter(|(_, port)| !port.contains(']')).map(|(_, port)| port);
        return !authority.is_empty()
            && !authority.contains('@')
            && port.is_none_or(|port| port.parse::<u16>().is_ok())
            && rest.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    }
    let first = value.split('/').next().unwrap_or_default();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:@/?".contains(&byte);
    !first.contains(':') && value.bytes().all(is_plain)
}

/// Makes one line of all lines of `cookie`. An empty line adds nothing before the others.
fn join_cookies(headers: &mut Headers) {
    let mut joined = String::new();
    for (_, value) in headers.iter().filter(|(name, _)| name == "cookie") {
        if !joined.is_empty() {
            joined.push_str("; ");
        }
        joined.push_str(value);
    }
    headers.retain(|(name, _)| name != "cookie");
    if !joined.is_empty() {
        headers.push(("cookie".to_owned(), joined));
    }
}

/// The address that Envoy takes for the client's. `None`: it is that of the peer.
pub fn client_address(headers: &[(String, String)], settings: &Settings) -> Option<IpAddr> {
    let further = match (settings.use_remote_address, settings.trusted_hops) {
        (true, 0) => return None,
        (true, hops) => hops.saturating_sub(1),
        (false, hops) => hops,
    };
    let (_, line) = headers.iter().find(|(name, _)| name == "x-forwarded-for")?;
    line.rsplit(',').nth(further)?.trim().parse().ok()
}

/// Keeps, changes or removes what is said of the client's certificate. `principal`: the identity in the certificate.
pub fn client_certificate(headers: &mut Headers, principal: Option<&str>, settings: &Settings) {
    const NAME: &str = "x-forwarded-client-cert";
    // The real one also has hashes.
    let own = principal.map(|principal| format!("URI=spiffe://{principal}"));
    let sent = headers.iter().find(|(name, _)| name == NAME).map(|(_, value)| value.clone());
    let value = match (settings.client_certificate, own) {
        (ClientCertificate::AlwaysForwardOnly, _) | (ClientCertificate::ForwardOnly, Some(_)) => sent,
        (ClientCertificate::Sanitize, _) | (_, None) => None,
        (ClientCertificate::SanitizeSet, own) => own,
        (ClientCertificate::AppendForward, Some(own)) => {
            Some(sent.map_or_else(|| own.clone(), |sent| format!("{sent},{own}")))
        }
    };
    headers.retain(|(name, _)| name != NAME);
    headers.extend(value.map(|value| (NAME.to_owned(), value)));
}

/// Adds what Envoy says of the client, where it is at the edge of the mesh, and the headers that every request has.
pub fn add_own(headers: &mut Headers, peer: Option<IpAddr>, client: Option<IpAddr>, is_tls: bool, settings: &Settings) {
    let has = |headers: &Headers, name: &str| headers.iter().any(|(other, _)| other == name);
    let set = |headers: &mut Headers, name: &str, value: String| {
        headers.retain(|(other, _)| other != name);
        headers.push((name.to_owned(), value));
    };
    if settings.use_remote_address {
        if let Some(peer) = peer.filter(|_| !settings.skip_xff_append) {
            let line = headers.iter().find(|(name, _)| name == "x-forwarded-for").map(|(_, line)| line.as_str());
            let line = line.filter(|line| !line.is_empty()).map_or_else(String::new, |line| format!("{line},"));
            let line = format!("{line}{peer}");
            set(headers, "x-forwarded-for", line);
        }
        if let Some(client) = client.or(peer) {
            set(headers, "x-envoy-external-address", client.to_string());
        }
    }
    if !has(headers, "x-forwarded-proto") || settings.use_remote_address && settings.trusted_hops == 0 {
        set(headers, "x-forwarded-proto", if is_tls { "https" } else { "http" }.to_owned());
    }
    // Its value is random.
    let keeps_request_id = !settings.use_remote_address || settings.preserve_external_request_id;
    if !has(headers, "x-request-id") || !keeps_request_id {
        set(headers, "x-request-id", SOME_REQUEST_ID.to_owned());
    }
}

/// The scheme: what the header says, over HTTP/1.1, or that of the connection.
pub fn scheme(headers: &[(String, String)], is_tls: bool, protocol: Protocol) -> &'static str {
    let forwarded = headers.iter().find(|(name, _)| name == "x-forwarded-proto").map(|(_, value)| value.as_str());
    match forwarded.filter(|_| protocol == Protocol::Http1) {
        Some("http") => "http",
        Some("https") => "https",
        _ if is_tls => "https",
        _ => "http",
    }
}

/// A request ID like those that Envoy makes.
pub const SOME_REQUEST_ID: &str = "00000000-0000-4000-8000-000000000000";
