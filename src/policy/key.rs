//! Condition keys: the names of the attributes that `when` can ask about.

use super::value::ParseError;
use crate::attribute::{Attribute, Key};
use crate::diagnostic::suggestion;

/// What a condition looks at: its key, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConditionKey {
    /// An attribute that needs no further name.
    Whole(Attribute),
    /// `request.headers[NAME]`.
    Header(String),
    /// `request.auth.audiences`, `request.auth.presenter` or `request.auth.claims[A][B]`, as the path of the claim in
    /// the token's payload.
    Claim(Vec<String>),
    /// `experimental.envoy.filters.FILTER[KEY]`.
    Metadata {
        /// The namespace of the dynamic metadata, `envoy.filters.FILTER`.
        filter: String,
        /// The key in that namespace.
        key: String,
    },
}

/// The keys that mean one particular claim.
const CLAIM_KEYS: [(&str, &str); 2] = [("request.auth.audiences", "aud"), ("request.auth.presenter", "azp")];

/// Every key, as an author writes it. Keys with brackets come last, and are listed without their brackets.
fn known() -> Vec<&'static str> {
    let keys = || Attribute::ALL.iter().filter_map(|attribute| Some((*attribute, attribute.info().key?)));
    let whole = keys().flat_map(|(attribute, key)| match key {
        Key::Whole(key) => vec![key],
        Key::Bracketed(_) if attribute == Attribute::Claim => CLAIM_KEYS.map(|(key, _)| key).to_vec(),
        Key::Bracketed(_) => Vec::new(),
    });
    let bracketed = keys().filter_map(|(_, key)| match key {
        Key::Whole(_) => None,
        Key::Bracketed(key) => Some(key),
    });
    whole.chain(bracketed).collect()
}

impl ConditionKey {
    /// Reads a condition's `key`.
    ///
    /// # Errors
    /// The key is unknown, was removed from the language, or has malformed brackets.
    pub fn parse(key: &str) -> Result<Self, ParseError> {
        let is_it = |attribute: &&Attribute| matches!(attribute.info().key, Some(Key::Whole(known)) if known == key);
        if let Some(attribute) = Attribute::ALL.iter().find(is_it) {
            return Ok(Self::Whole(*attribute));
        }
        if let Some((_, claim)) = CLAIM_KEYS.iter().find(|(known, _)| *known == key) {
            return Ok(Self::Claim(vec![(*claim).to_owned()]));
        }
        Self::parse_bracketed(key)
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

/// The text between the first bracket and the last. The first bracket must be at the start, the last at the end.
fn in_brackets<'k>(key: &str, brackets: &'k str) -> Result<&'k str, ParseError> {
    brackets.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).filter(|name| !name.is_empty()).ok_or_else(
        || {
            let stem = key.strip_suffix(brackets).unwrap_or(key);
            ParseError::new(format!("`{key}` is not a valid key"), format!("write {stem}[NAME]"))
        },
    )
}

/// The parts of `[a][b]`. `None` if the brackets are not a plain sequence like that.
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
        _ => match suggestion(stem, known()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known keys: {}", known().join(", ")),
        },
    };
    ParseError::new(message, hint)
}
