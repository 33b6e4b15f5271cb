//! Values that are more than text: addresses, ports, service accounts, paths, metadata.
//!
//! Each type parses itself, and says in plain words why it refuses a text. The limits are those of Istio's admission
//! check.

use std::fmt;
use std::net::IpAddr;

/// Why a text is not valid: what is wrong with it, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// What is wrong with the text.
    pub message: String,
    /// What would be right, or how to correct the text.
    pub hint: String,
}

impl ParseError {
    pub(super) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

/// A network: an address, and the number of its leading bits that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    /// The address, as written. Bits that do not count may be set.
    pub address: IpAddr,
    /// The number of bits that count, from the left: at most 32 for IPv4, at most 128 for IPv6.
    pub prefix: u8,
}

impl Cidr {
    /// Reads `10.0.0.1`, `10.0.0.0/8`, `2001:db8::1` or `2001:db8::/32`.
    ///
    /// # Errors
    /// The text has none of these forms.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        // A single address may have a zone. The zone says nothing about which host it is, so it is dropped, as in
        // Istio.
        let without_zone = match address.split_once('%') {
            Some((address, zone)) if prefix.is_none() && !zone.is_empty() && address.contains(':') => address,
            _ => address,
        };
        let Ok(address) = without_zone.parse::<IpAddr>() else {
            let what = if prefix.is_some() { "CIDR range" } else { "IP address" };
            return Err(ParseError::new(format!("`{text}` is not a valid {what}"), "such as 10.1.2.3 or 10.1.0.0/16"));
        };
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(digits) => {
                decimal(digits).and_then(|n| u8::try_from(n).ok()).filter(|n| *n <= bits).ok_or_else(|| {
                    ParseError::new(
                        format!("`{text}` is not a valid CIDR range"),
                        format!("the number behind the slash counts bits, 0 to {bits}"),
                    )
                })?
            }
        };
        Ok(Self { address, prefix })
    }

    /// Whether the address is in this network. An IPv4 network never contains an IPv6 address, not even
    /// `::ffff:10.0.0.1`, and an IPv6 network never contains an IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        mask(address, self.prefix) == mask(self.address, self.prefix)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// The address with all bits after the first `prefix` bits set to zero.
pub(crate) fn mask(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let host_bits = 32_u32.saturating_sub(prefix.into());
            IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(host_bits).unwrap_or(0)).into())
        }
        IpAddr::V6(v6) => {
            let host_bits = 128_u32.saturating_sub(prefix.into());
            IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(host_bits).unwrap_or(0)).into())
        }
    }
}

/// Reads digits without a leading zero: the form that Go's `netip` takes for a prefix length.
fn decimal(digits: &str) -> Option<u32> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    if plain { digits.parse().ok() } else { None }
}

/// Reads a port, 0 to 65535.
///
/// # Errors
/// The text is not such a number.
pub(crate) fn parse_port(text: &str) -> Result<u16, ParseError> {
    let digits_only = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|_| digits_only)
        .ok_or_else(|| ParseError::new(format!("`{text}` is not a valid port"), "a number from 0 to 65535"))
}

/// A service account: `namespace/name`, or `name` in the policy's own namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccount {
    /// The namespace. `None`: the policy's own.
    pub namespace: Option<String>,
    /// The name of the service account in its namespace.
    pub name: String,
}

impl ServiceAccount {
    /// The largest number of values in one list.
    pub(crate) const MOST_VALUES: usize = 16;

    /// Reads `namespace/name` or `name`.
    ///
    /// # Errors
    /// The text has a wildcard, an empty part, a second slash, or more than 320 bytes.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let form = "write `name` or `namespace/name`";
        if text.contains('*') {
            return Err(ParseError::new(
                format!("`{text}`: a service account takes no wildcard"),
                "list each one, or use `namespaces` or `principals`",
            ));
        }
        if text.len() > 320 {
            return Err(ParseError::new("is longer than 320 characters", form));
        }
        let account = match text.split_once('/') {
            Some((namespace, name)) => Self { namespace: Some(namespace.to_owned()), name: name.to_owned() },
            None => Self { namespace: None, name: text.to_owned() },
        };
        let empty = account.name.is_empty() || account.namespace.as_deref() == Some("");
        if empty || account.name.contains('/') {
            return Err(ParseError::new(format!("`{text}` is not a service account"), form));
        }
        Ok(account)
    }
}

/// A value of `paths`: a text or a path template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathValue {
    /// An exact path, `/prefix*`, `*suffix` or `*`.
    Text(String),
    /// A path template with `{*}` or `{**}`, as written. It has been checked.
    Template(String),
}

impl PathValue {
    const ONE: &'static str = "{*}";
    const ANY: &'static str = "{**}";
    const LONGEST_TEMPLATE: usize = 256;

    /// Reads a path or a path template.
    ///
    /// # Errors
    /// The text has braces that are not an operator, or an operator after `{**}`, or it is a template that Envoy would
    /// refuse.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        // The search of the standard library for a longer text is two kilobytes of the module.
        let has = |operator: &str| text.as_bytes().windows(operator.len()).any(|window| window == operator.as_bytes());
        if !has(Self::ONE) && !has(Self::ANY) {
            if text.contains(['{', '}']) {
                return Err(ParseError::new(
                    format!("`{text}`: braces stand for nothing but the operators {{*}} and {{**}}"),
                    "use {*} for one segment, {**} for any number of them",
                ));
            }
            return Ok(Self::Text(text.to_owned()));
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Err(ParseError::new(format!("`{text}`: a path template starts with a slash"), "add the slash"));
        };
        let mut any_seen = false;
        let mut length = text.len();
        let mut segments = rest.split('/').peekable();
        while let Some(segment) = segments.next() {
            let is_last = segments.peek().is_none();
            if segment == Self::ONE || segment == Self::ANY {
                // Envoy writes them without braces.
                length = length.saturating_sub(2);
            }
            match segment {
                Self::ONE | Self::ANY if any_seen => {
                    return Err(ParseError::new(
                        format!("`{text}`: {{**}} must be the last operator"),
                        "only literal text may follow it",
                    ));
                }
                Self::ONE => {}
                Self::ANY => any_seen = true,
                "" if is_last => {}
                "" => return Err(ParseError::new(format!("`{text}`: a segment is empty"), "remove a slash")),
                _ if segment.contains(['{', '}']) => {
                    return Err(ParseError::new(
                        format!("`{text}`: segment `{segment}` mixes an operator with text"),
                        "{*} and {**} stand alone between slashes",
                    ));
                }
                _ if !segment.bytes().all(is_literal_byte) => {
                    return Err(ParseError::new(
                        format!("`{text}`: segment `{segment}` has a character that a template cannot hold"),
                        "letters, digits and -._~%!$&'()+,;:@= are allowed",
                    ));
                }
                _ => {}
            }
        }
        if length > Self::LONGEST_TEMPLATE {
            return Err(ParseError::new(
                format!("this template is longer than {} bytes, without braces", Self::LONGEST_TEMPLATE),
                "Envoy's RBAC filter refuses it, and with it all policies: write a shorter one",
            ));
        }
        Ok(Self::Template(text.to_owned()))
    }
}

fn is_literal_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&byte)
}

/// A value of a condition on `experimental.envoy.filters.…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataValue {
    /// `value`: compared with a metadata value that is a string.
    Text(String),
    /// `[value]`, without its brackets: compared with each element of a metadata value that is a list.
    Element(String),
}

impl MetadataValue {
    /// Reads `value` or `[value]`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text.starts_with('[') && text.ends_with(']') {
            return Self::Element(text.trim_matches(['[', ']']).to_owned());
        }
        Self::Text(text.to_owned())
    }
}

/// The four forms that most values share. A `*` is a wildcard only at one end. Any other `*` is an ordinary character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form<'v> {
    /// `*`: the attribute is present.
    Any,
    /// `abc`: equal.
    Exact(&'v str),
    /// `abc*`: begins with `abc`.
    Prefix(&'v str),
    /// `*abc`: ends with `abc`.
    Suffix(&'v str),
}

impl<'v> Form<'v> {
    /// The form of a value.
    #[must_use]
    pub fn of(value: &'v str) -> Self {
        if value == "*" {
            Self::Any
        } else if let Some(suffix) = value.strip_prefix('*') {
            Self::Suffix(suffix)
        } else if let Some(prefix) = value.strip_suffix('*') {
            Self::Prefix(prefix)
        } else {
            Self::Exact(value)
        }
    }

    /// The forms of issuer and subject in a value of `requestPrincipals`.
    ///
    /// The last slash separates issuer and subject, because an issuer may be a URL. A wildcard at one end of the value
    /// belongs to the part at that end.
    ///
    /// | value | issuer | subject |
    /// | --- | --- | --- |
    /// | `ISSUER/SUBJECT` | exact | exact |
    /// | `*ISSUER/SUBJECT` | suffix, or any if it is only `*` | exact |
    /// | `ISSUER/SUBJECT*` | exact | prefix, or any if it is only `*` |
    /// | `ISSUER` | exact | exact, empty |
    /// | `ISSUER*` | prefix | any |
    /// | `*SUBJECT` | any | suffix |
    /// | `*` | any | any |
    #[must_use]
    pub fn of_request_principal(value: &'v str) -> (Self, Self) {
        match (value.rsplit_once('/'), Self::of(value)) {
            (_, Self::Any) => (Self::Any, Self::Any),
            (None, Self::Suffix(subject)) => (Self::Any, Self::Suffix(subject)),
            (None, Self::Prefix(issuer)) => (Self::Prefix(issuer), Self::Any),
            (None, Self::Exact(issuer)) => (Self::Exact(issuer), Self::Exact("")),
            (Some((issuer, subject)), Self::Suffix(_)) => (Self::of(issuer), Self::Exact(subject)),
            (Some((issuer, "*")), Self::Prefix(_)) => (Self::Exact(issuer), Self::Any),
            (Some((issuer, subject)), Self::Prefix(_)) => {
                (Self::Exact(issuer), Self::Prefix(subject.strip_suffix('*').unwrap_or(subject)))
            }
            (Some((issuer, subject)), Self::Exact(_)) => (Self::Exact(issuer), Self::Exact(subject)),
        }
    }
}
