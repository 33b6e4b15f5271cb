//! Format strings of Envoy's access logs: what each column of a line says about a request.
//!
//! Envoy's syntax is `%NAME(ARGUMENT):LENGTH%`; `%%` is a percent sign. An operator that is not known here is a column that
//! says nothing.

use std::fmt;

use mesh_authz::request::Address;

/// Istio's text format, since 1.24. The format of 1.9 to 1.23 differs only in how it names the cluster.
pub const ISTIO_TEXT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
    %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
    \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \
    \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% \
    %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

/// Envoy's own format.
pub const ENVOY_TEXT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
    %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \
    \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

/// A part of a format string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// This text.
    Literal(String),
    /// A value.
    Operator(Operator),
}

/// An operator: a value of a request or of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// What the value is.
    pub tells: Tells,
    /// At most so many bytes of the value are logged.
    pub length: Option<usize>,
}

/// What an operator tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tells {
    /// A header, by its name in lower case, or a pseudo-header. `instead`: the header whose value stands there if the first is
    /// absent.
    Header {
        /// The name.
        name: String,
        /// The second name.
        instead: Option<String>,
        /// Which of its lines.
        lines: Lines,
    },
    /// The path with its query, without the query if `without_query`. `original`: before a route rewrote it, as the header
    /// `x-envoy-original-path` says, which a client can send too.
    Path {
        /// Whether the query is cut.
        without_query: bool,
        /// Whether the header can stand there.
        original: bool,
    },
    /// The URIs in the peer's certificate, with commas between them.
    PeerUris,
    /// The DNS names there.
    PeerDnsNames,
    /// Its subject.
    PeerSubject,
    /// The peer's principal at a waypoint.
    WaypointPeer,
    /// An address. `has_port`: with the port behind it.
    Address {
        /// Which one.
        which: Address,
        /// Whether there is a port.
        has_port: bool,
    },
    /// The local port.
    DestinationPort,
    /// The server name in the TLS handshake.
    ServerName,
    /// The version of TLS. There is none in plaintext.
    TlsVersion,
    /// Dynamic metadata of a filter, or what is under these keys of it.
    Metadata {
        /// The filter.
        filter: String,
        /// The keys.
        keys: Vec<String>,
    },
    /// The status of the response.
    Code,
    /// Why the response is what it is.
    CodeDetails,
    /// Why the connection ended.
    TerminationDetails,
    /// The flags of the response.
    Flags,
    /// The protocol of the request.
    Protocol,
    /// When the request began.
    StartTime,
    /// The cluster that the request was for.
    Cluster,
    /// The name of the filter chain.
    FilterChain,
    /// The host that the request was sent to.
    UpstreamHost,
    /// The decision of this project's filter.
    Decision,
    /// A header, by its name in lower case, or a pseudo-header: as it was when the policies were evaluated. A filter in front
    /// of them keeps it in the filter state `decided.path`, `decided.host` or `decided.scheme`; for other headers, `decided.first.NAME` has the
    /// first line, `decided.all.NAME` has all lines, and `decided.has.NAME` has `true` or `false`. The dynamic metadata
    /// `decided:NAME` has the lengths of all lines.
    Decided {
        /// The name.
        name: String,
        /// Which of its lines.
        lines: Lines,
    },
    /// The namespace of the pod that wrote the line.
    PodNamespace,
    /// When the line was written: at the start of the request, or at its end.
    LogType,
    /// How many bytes came from the client.
    BytesReceived,
    /// How many bytes went to the client.
    BytesSent,
    /// A number, such as a size or a duration.
    Number,
    /// Something without blanks that does not count.
    Word,
    /// Nothing that counts.
    Nothing,
}

/// What is logged of the lines of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// The first. Of headers that Envoy joins, all.
    First,
    /// All, with commas between them. An empty header looks like none.
    Joined,
    /// Whether there are any.
    Has,
    /// How long each of them is, with commas between the numbers.
    Lengths,
}

/// Why a text is no format string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatError {
    /// The position of the operator, in bytes.
    pub at: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the format, at byte {}: {}", self.at, self.message)
    }
}

impl std::error::Error for FormatError {}

/// Reads a format string.
///
/// # Errors
/// A percent sign does not begin an operator.
pub fn pieces(format: &str) -> Result<Vec<Piece>, FormatError> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut at = 0;
    while let Some(rest) = format.get(at..).filter(|rest| !rest.is_empty()) {
        let Some(behind) = rest.strip_prefix('%') else {
            let text = rest.split('%').next().unwrap_or(rest);
            literal.push_str(text);
            at = at.saturating_add(text.len());
            continue;
        };
        if behind.starts_with('%') {
            literal.push('%');
            at = at.saturating_add(2);
            continue;
        }
        let Some((operator, length)) = operator(behind) else {
            let shown: String = rest.chars().take(24).collect();
            return Err(FormatError {
                at,
                message: format!(
                    "`{shown}` is no operator; one is written %NAME%, %NAME(ARGUMENT)% or %NAME(ARGUMENT):LENGTH%, and %% \
                     is a percent sign"
                ),
            });
        };
        if !literal.is_empty() {
            pieces.push(Piece::Literal(std::mem::take(&mut literal)));
        }
        pieces.push(Piece::Operator(operator));
        at = at.saturating_add(1).saturating_add(length);
    }
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(pieces)
}

/// Reads the operator behind a percent sign. Returns also how long it is, with the percent sign at its end.
fn operator(text: &str) -> Option<(Operator, usize)> {
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let name = text.split(|c| !is_name(c)).next().filter(|name| !name.is_empty())?;
    let behind_name = text.get(name.len()..)?;
    let read = |argument: Option<&str>, rest: &str| {
        let (length, rest) = length(rest)?;
        let rest = rest.strip_prefix('%')?;
        let used = text.len().checked_sub(rest.len())?;
        Some((Operator { tells: Tells::of(name, argument), length }, used))
    };
    let Some(inner) = behind_name.strip_prefix('(') else { return read(None, behind_name) };
    // As in Envoy, the argument is as short as possible, but it can have parentheses.
    let line = inner.split('\n').next().unwrap_or(inner);
    line.match_indices(')').find_map(|(end, _)| read(line.get(..end), inner.get(end.saturating_add(1)..)?))
}

/// Reads `:LENGTH`, which can be missing.
fn length(text: &str) -> Option<(Option<usize>, &str)> {
    let Some(behind) = text.strip_prefix(':') else { return Some((None, text)) };
    let digits = behind.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    Some((Some(digits.parse().ok()?), behind.get(digits.len()..)?))
}

impl Tells {
    fn of(name: &str, argument: Option<&str>) -> Self {
        let address = |which, has_port| Self::Address { which, has_port };
        match (name, argument) {
            ("REQ" | "REQUEST_HEADER", Some(names)) => Self::header(names),
            ("REQ_WITHOUT_QUERY", Some(names)) => match Self::header(names) {
                Self::Path { original, .. } => Self::Path { without_query: true, original },
                _ => Self::Nothing,
            },
            ("PATH", argument) => {
                let argument = argument.unwrap_or_default();
                let (query, which) = argument.split_once(':').unwrap_or((argument, ""));
                match which {
                    "PATH" => Self::Path { without_query: query == "NQ", original: false },
                    "" | "ORIG_OR_PATH" => Self::Path { without_query: query == "NQ", original: true },
                    _ => Self::Nothing,
                }
            }
            ("CEL", Some(expression)) => Self::expression(expression),
            ("DOWNSTREAM_PEER_URI_SAN", None) => Self::PeerUris,
            ("DOWNSTREAM_PEER_DNS_SAN", None) => Self::PeerDnsNames,
            ("DOWNSTREAM_PEER_SUBJECT", None) => Self::PeerSubject,
            ("FILTER_STATE", Some("io.istio.peer_principal:PLAIN")) => Self::WaypointPeer,
            ("FILTER_STATE", Some("wasm.mesh_authz:PLAIN")) => Self::Decision,
            ("FILTER_STATE", Some(key)) => Self::filter_state(key),
            ("DOWNSTREAM_TLS_VERSION", None) => Self::TlsVersion,
            ("ENVIRONMENT", Some("POD_NAMESPACE")) => Self::PodNamespace,
            ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", None) => address(Address::Source, true),
            ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", None) => address(Address::Source, false),
            ("DOWNSTREAM_REMOTE_ADDRESS", None) => address(Address::Remote, true),
            ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", None) => address(Address::Remote, false),
            ("DOWNSTREAM_LOCAL_ADDRESS", None) => address(Address::Destination, true),
            ("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", None) => address(Address::Destination, false),
            ("DOWNSTREAM_LOCAL_PORT", None) => Self::DestinationPort,
            ("REQUESTED_SERVER_NAME", None) => Self::ServerName,
            ("DYNAMIC_METADATA", Some(path)) => Self::metadata(path),
            ("METADATA", Some(path)) => path.strip_prefix("DYNAMIC:").map_or(Self::Nothing, Self::metadata),
            ("RESPONSE_CODE", None) => Self::Code,
            // With an argument, it can have blanks.
            ("RESPONSE_CODE_DETAILS", None) => Self::CodeDetails,
            ("CONNECTION_TERMINATION_DETAILS", None) => Self::TerminationDetails,
            ("RESPONSE_FLAGS", None) => Self::Flags,
            ("PROTOCOL", None) => Self::Protocol,
            ("START_TIME", None) => Self::StartTime,
            ("UPSTREAM_HOST", None) => Self::UpstreamHost,
            ("UPSTREAM_LOCAL_ADDRESS", None) => Self::Word,
            ("UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW", None) => Self::Cluster,
            ("FILTER_CHAIN_NAME", None) => Self::FilterChain,
            ("ACCESS_LOG_TYPE", None) => Self::LogType,
            ("BYTES_RECEIVED", None) => Self::BytesReceived,
            ("BYTES_SENT", None) => Self::BytesSent,
            ("DURATION" | "CONNECTION_ID", None) => Self::Number,
            _ => Self::Nothing,
        }
    }

    /// The header with the first name or, if it is absent, with the second: `X?Y`.
    fn header(names: &str) -> Self {
        let names = names.to_ascii_lowercase();
        let (name, instead) = names.split_once('?').map_or((&*names, None), |(name, instead)| (name, Some(instead)));
        match (name, instead) {
            (":path", None) => Self::Path { without_query: false, original: false },
            ("x-envoy-original-path", Some(":path")) => Self::Path { without_query: false, original: true },
            _ => {
                let own = |name: &str| if name == "host" { ":authority".to_owned() } else { name.to_owned() };
                Self::Header { name: own(name), instead: instead.map(own), lines: Lines::First }
            }
        }
    }

    /// `decided.path:PLAIN`, for example.
    fn filter_state(key: &str) -> Self {
        let name = key.strip_suffix(":PLAIN").and_then(|key| key.strip_prefix("decided."));
        let decided = |name: &str, lines| Self::Decided { name: name.to_ascii_lowercase(), lines };
        match name.map(|name| name.split_once('.').unwrap_or((name, ""))) {
            Some(("path", "")) => decided(":path", Lines::First),
            Some(("scheme", "")) => decided(":scheme", Lines::First),
            Some(("host", "")) => decided(":authority", Lines::First),
            Some(("first", name)) => decided(name, Lines::First),
            Some(("all", name)) => decided(name, Lines::Joined),
            Some(("has", name)) => decided(name, Lines::Has),
            _ => Self::Nothing,
        }
    }

    /// The expressions that give a header with all its lines: `request.headers['NAME']`.
    fn expression(text: &str) -> Self {
        let inner = text.trim().strip_prefix("request.headers[").and_then(|rest| rest.strip_suffix(']'));
        let name = inner.and_then(|quoted| {
            let quote = quoted.chars().next().filter(|quote| ['\'', '"'].contains(quote))?;
            quoted.strip_prefix(quote)?.strip_suffix(quote).filter(|name| !name.contains([quote, '\\']))
        });
        match name {
            Some(name) => {
                let name = if name == "host" { ":authority".to_owned() } else { name.to_ascii_lowercase() };
                let is_one_line = name.starts_with(':');
                let lines = if is_one_line { Lines::First } else { Lines::Joined };
                if name == ":path" {
                    return Self::Path { without_query: false, original: false };
                }
                Self::Header { name, instead: None, lines }
            }
            None => Self::Nothing,
        }
    }

    /// `FILTER:KEY:KEY`.
    fn metadata(path: &str) -> Self {
        let mut parts = path.split(':').map(str::to_owned);
        match parts.next() {
            Some(filter) if filter == "decided" => {
                Self::Decided { name: parts.next().unwrap_or_default().to_ascii_lowercase(), lines: Lines::Lengths }
            }
            Some(filter) => Self::Metadata { filter, keys: parts.collect() },
            None => Self::Nothing,
        }
    }

    /// Whether a value of a text format can be any text. Otherwise, it has no blanks.
    #[must_use]
    pub fn can_be_anything(&self) -> bool {
        match self {
            Self::Header { name, .. } => name != ":method",
            Self::Path { .. }
            | Self::PeerUris
            | Self::PeerDnsNames
            | Self::PeerSubject
            | Self::WaypointPeer
            | Self::Metadata { .. }
            | Self::TerminationDetails
            | Self::Decision
            | Self::Decided { .. }
            | Self::PodNamespace
            | Self::Nothing => true,
            Self::Address { .. }
            | Self::DestinationPort
            | Self::ServerName
            | Self::TlsVersion
            | Self::UpstreamHost
            | Self::Cluster
            | Self::FilterChain
            | Self::LogType
            | Self::Code
            | Self::CodeDetails
            | Self::Flags
            | Self::Protocol
            | Self::StartTime
            | Self::BytesReceived
            | Self::BytesSent
            | Self::Number
            | Self::Word => false,
        }
    }

    /// Whether a value of a text format can be this text. `-` stands for none.
    #[must_use]
    pub fn can_be(&self, text: &[u8]) -> bool {
        let begins = |is_first: &dyn Fn(&u8) -> bool| text.first().is_some_and(is_first);
        let is_path = || begins(&|first| [b'/', b'*'].contains(first));
        match self {
            _ if text == b"-" => true,
            Self::Path { original: false, .. } => is_path(),
            Self::Decided { name, .. } if name == ":path" => is_path(),
            Self::PeerUris => text.contains(&b':'),
            _ if self.can_be_anything() => true,
            _ if text.is_empty() || !text.iter().all(|byte| self.can_have(*byte)) => false,
            Self::Protocol => [&b"HTTP/1.0"[..], b"HTTP/1.1", b"HTTP/2", b"HTTP/3"].contains(&text),
            Self::StartTime => begins(&u8::is_ascii_digit),
            Self::Address { .. } => begins(&|first| first.is_ascii_hexdigit() || b":[/@".contains(first)),
            _ => true,
        }
    }

    /// Whether a value that is not [anything](Self::can_be_anything) can have this byte in it.
    #[must_use]
    pub fn can_have(&self, byte: u8) -> bool {
        match self {
            Self::Code | Self::BytesReceived | Self::BytesSent | Self::Number | Self::DestinationPort => {
                byte.is_ascii_digit()
            }
            Self::Flags => byte.is_ascii_uppercase() || byte == b',',
            Self::Header { .. } => byte.is_ascii_graphic() && byte != b'"',
            _ => ![b' ', b'"'].contains(&byte),
        }
    }
}
