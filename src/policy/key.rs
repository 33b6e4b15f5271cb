//! Condition keys: the attributes that `when` can name.

use crate::diagnostic::suggestion;

/// Why a text is not what it should be: what is wrong, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub hint: String,
}

impl ParseError {
    pub(super) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

/// What a condition looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConditionKey {
    /// `source.ip`.
    SourceIp,
    /// `remote.ip`.
    RemoteIp,
    /// `source.namespace`.
    SourceNamespace,
    /// `source.serviceAccount`.
    SourceServiceAccount,
    /// `source.principal`.
    SourcePrincipal,
    /// `source.trustDomain`.
    SourceTrustDomain,
    /// `request.auth.principal`.
    RequestPrincipal,
    /// `destination.ip`.
    DestinationIp,
    /// `destination.port`.
    DestinationPort,
    /// `connection.sni`.
    Sni,
    /// `request.headers[NAME]`.
    Header(String),
    /// `request.auth.audiences`, `request.auth.presenter`, `request.auth.claims[A][B]`: the path below the payload.
    Claim(Vec<String>),
    /// `experimental.envoy.filters.FILTER[KEY]`.
    Metadata {
        /// The namespace of the dynamic metadata, `envoy.filters.FILTER`.
        filter: String,
        /// The key there.
        key: String,
    },
}

/// Every key, as an author writes it; those with brackets by example.
const KNOWN: [&str; 15] = [
    "source.ip",
    "remote.ip",
    "source.namespace",
    "source.serviceAccount",
    "source.principal",
    "source.trustDomain",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "destination.ip",
    "destination.port",
    "connection.sni",
    "request.headers",
    "request.auth.claims",
    "experimental.envoy.filters",
];

impl ConditionKey {
    /// Reads a condition's `key`.
    ///
    /// # Errors
    /// The key is unknown, was removed from the language, or has malformed brackets.
    pub fn parse(key: &str) -> Result<Self, ParseError> {
        Ok(match key {
            "source.ip" => Self::SourceIp,
            "remote.ip" => Self::RemoteIp,
            "source.namespace" => Self::SourceNamespace,
            "source.serviceAccount" => Self::SourceServiceAccount,
            "source.principal" => Self::SourcePrincipal,
            "source.trustDomain" => Self::SourceTrustDomain,
            "request.auth.principal" => Self::RequestPrincipal,
            "request.auth.audiences" => Self::Claim(vec!["aud".to_owned()]),
            "request.auth.presenter" => Self::Claim(vec!["azp".to_owned()]),
            "destination.ip" => Self::DestinationIp,
            "destination.port" => Self::DestinationPort,
            "connection.sni" => Self::Sni,
            _ => return Self::parse_bracketed(key),
        })
    }

    fn parse_bracketed(key: &str) -> Result<Self, ParseError> {
        if let Some(brackets) = key.strip_prefix("request.headers") {
            return Ok(Self::Header(in_brackets(key, brackets)?.to_owned()));
        }
        if let Some(brackets) = key.strip_prefix("request.auth.claims") {
            let whole = in_brackets(key, brackets)?;
            let path = nested(brackets).unwrap_or_else(|| vec![whole.to_owned()]);
            if path.iter().any(String::is_empty) {
                return Err(ParseError::new(format!("`{key}` is not a valid key"), "a claim in brackets needs a name"));
            }
            return Ok(Self::Claim(path));
        }
        if let Some(rest) = key.strip_prefix("experimental.envoy.filters.") {
            let (filter, metadata_key) = rest
                .split_once('[')
                .and_then(|(filter, rest)| Some((filter, rest.strip_suffix(']')?)))
                .filter(|(_, metadata_key)| !metadata_key.is_empty())
                .ok_or_else(|| {
                    ParseError::new(
                        format!("`{key}` is not a valid key"),
                        "write experimental.envoy.filters.FILTER[KEY]",
                    )
                })?;
            let filter = format!("envoy.filters.{filter}");
            return Ok(Self::Metadata { filter, key: metadata_key.to_owned() });
        }
        Err(unknown(key))
    }
}

/// The text between the first bracket, which must come at once, and the last, which must end the key.
fn in_brackets<'k>(key: &str, brackets: &'k str) -> Result<&'k str, ParseError> {
    brackets.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).filter(|name| !name.is_empty()).ok_or_else(
        || {
            let stem = key.strip_suffix(brackets).unwrap_or(key);
            ParseError::new(format!("`{key}` is not a valid key"), format!("write {stem}[NAME]"))
        },
    )
}

/// `[a][b]` as its parts; `None` if the brackets are not a plain sequence of that kind.
fn nested(brackets: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = brackets;
    while !rest.is_empty() {
        let (part, behind) = rest.strip_prefix('[')?.split_once(']')?;
        if part.contains('[') {
            return None;
        }
        parts.push(part.to_owned());
        rest = behind;
    }
    Some(parts)
}

fn unknown(key: &str) -> ParseError {
    let message = format!("`{key}` is not a condition key");
    let stem = key.split('[').next().unwrap_or(key);
    let hint = match stem {
        "destination.namespace" => "the policy's own namespace says which workloads it is for".to_owned(),
        "destination.labels" => "use spec.selector.matchLabels".to_owned(),
        "destination.name" | "destination.user" => "it went away with v1alpha1; use spec.selector".to_owned(),
        _ => match suggestion(stem, KNOWN) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known keys: {}", KNOWN.join(", ")),
        },
    };
    ParseError::new(message, hint)
}
