//! Where a set of keys is fetched from, taken apart as far as Envoy has to know.

/// The URL of a key set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysUri {
    /// As written.
    pub text: String,
    /// Whether the scheme is `https`.
    pub tls: bool,
    /// A name or an address; an IPv6 address without its brackets.
    pub host: String,
    /// As written, or the scheme's.
    pub port: u16,
}

impl KeysUri {
    /// Longest URL that a cluster takes.
    const LONGEST: usize = 2048;

    /// Takes a URL apart.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence that begins with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > Self::LONGEST {
            return Err("is longer than 2048 characters");
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("has a character that a URL does not have");
        }
        let (scheme, rest) = text.split_once("://").ok_or("is not a URL")?;
        let (tls, default) = match scheme.to_ascii_lowercase().as_str() {
            "https" => (true, 443),
            "http" => (false, 80),
            _ => return Err("is neither http nor https"),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err("has a user name in it");
        }
        let (host, port) = host_and_port(authority).ok_or("has no valid host and port")?;
        Ok(Self { text: text.to_owned(), tls, host: host.to_owned(), port: port.unwrap_or(default) })
    }
}

/// `host`, `host:port`, `[address]` or `[address]:port`, taken apart; the brackets of an IPv6 address are left out.
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
