//! The URL that a key set is fetched from, split into the parts that Envoy needs.

/// The URL of a key set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysUri {
    /// The URL, as written.
    pub text: String,
    /// Whether the scheme is `https`.
    pub tls: bool,
    /// A name or an IP address. An IPv6 address has no brackets.
    pub host: String,
    /// The port, as written, or the default port of the scheme.
    pub port: u16,
}

impl KeysUri {
    /// Longest URL that a cluster accepts, in bytes.
    const LONGEST: usize = 2048;

    /// Splits a URL into its parts.
    ///
    /// # Errors
    /// The URL is wrong. The text completes a sentence that begins with the URL.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > Self::LONGEST {
            return Err("is longer than 2048 characters");
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("has a character that a URL does not have");
        }
        let is_escape = |behind: &str| behind.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
        if !text.split('%').skip(1).all(is_escape) {
            return Err("has a `%` without two hexadecimal digits behind it");
        }
        let (scheme, rest) = text.split_once("://").ok_or("is not a URL")?;
        let (tls, default) = match scheme.to_ascii_lowercase().as_str() {
            "https" => (true, 443),
            "http" => (false, 80),
            _ => return Err("is neither http nor https"),
        };
        // To a cluster, a fragment can only follow a path.
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err("has a user name in it");
        }
        let (host, port) = host_and_port(authority).ok_or("has no valid host and port")?;
        Ok(Self { text: text.to_owned(), tls, host: host.to_owned(), port: port.unwrap_or(default) })
    }
}

/// Splits `host`, `host:port`, `[address]` or `[address]:port`. The brackets of an IPv6 address are left out.
///
/// Returns `None` for a text of another form.
#[must_use]
pub fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (address, after)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
    if host.is_empty() || !host.bytes().all(is_name) {
        return None;
    }
    match port.strip_prefix(':') {
        None if port.is_empty() => Some((host, None)),
        None => None,
        Some(digits) => {
            let port = digits.parse().ok().filter(|port| *port != 0 && digits.bytes().all(|b| b.is_ascii_digit()))?;
            Some((host, Some(port)))
        }
    }
}
