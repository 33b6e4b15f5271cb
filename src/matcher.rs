//! Compares one value of a policy with one value of a request. It compares bytes, without regular expressions.
//!
//! Istio renders presence, suffixes of identities and namespaces as regular expressions. Such an expression matches
//! text only: its dot matches neither a line feed nor a byte that is not UTF-8. A request with such bytes could slip
//! past a DENY. Therefore a wildcard accepts different bytes here, depending on what a match means:
//!
//! | a match | a wildcard accepts |
//! | --- | --- |
//! | denies | every byte |
//! | permits | text only, as the regular expression does |
//!
//! This is known when a policy is compiled: the [`Polarity`] becomes a [`Wildcard`] in the matcher. Nothing is decided
//! about it at request time.

pub mod template;

use crate::policy::Form;

/// What a match means for the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Polarity {
    /// A match brings the request nearer to being allowed.
    Permits,
    /// A match brings the request nearer to being denied.
    Denies,
}

/// Which bytes a wildcard accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wildcard {
    /// Every byte.
    Bytes,
    /// Text only, like the dot of a regular expression: UTF-8 without line feeds.
    Text,
}

impl From<Polarity> for Wildcard {
    fn from(polarity: Polarity) -> Self {
        match polarity {
            Polarity::Permits => Self::Text,
            Polarity::Denies => Self::Bytes,
        }
    }
}

impl Wildcard {
    /// Whether the wildcard accepts all of these bytes.
    #[must_use]
    pub fn accepts(self, bytes: &[u8]) -> bool {
        match self {
            Self::Bytes => true,
            Self::Text => !bytes.contains(&b'\n') && std::str::from_utf8(bytes).is_ok(),
        }
    }
}

/// A value of a policy, in one of the four forms that most fields share: presence, exact, prefix and suffix.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// `*` for a header, a host or a method: present, even if it is empty.
    Present,
    /// `*` for every other attribute: present and not empty.
    NonEmpty(Wildcard),
    /// `abc`: equal to these bytes.
    Exact(Box<[u8]>),
    /// `abc*`: starts with these bytes.
    Prefix(Box<[u8]>),
    /// `*abc`: ends with these bytes.
    Suffix(Box<[u8]>),
}

impl Pattern {
    /// Compiles a form. `presence` is the pattern that `*` means for the attribute.
    #[must_use]
    pub fn new(form: Form<'_>, presence: &Self) -> Self {
        match form {
            Form::Any => presence.clone(),
            Form::Exact(text) => Self::Exact(text.as_bytes().into()),
            Form::Prefix(text) => Self::Prefix(text.as_bytes().into()),
            Form::Suffix(text) => Self::Suffix(text.as_bytes().into()),
        }
    }

    /// Whether these bytes match.
    #[must_use]
    pub fn matches(&self, bytes: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::NonEmpty(wildcard) => !bytes.is_empty() && wildcard.accepts(bytes),
            Self::Exact(exact) => same(bytes, exact),
            Self::Prefix(prefix) => bytes.get(..prefix.len()).is_some_and(|start| same(start, prefix)),
            Self::Suffix(suffix) => {
                let start = bytes.len().checked_sub(suffix.len());
                start.and_then(|start| bytes.get(start..)).is_some_and(|end| same(end, suffix))
            }
        }
    }

    /// Like [`Self::matches`], but upper and lower case of ASCII letters are equal.
    #[must_use]
    pub fn matches_ignoring_case(&self, bytes: &[u8]) -> bool {
        let alike = |part: Option<&[u8]>, expected: &[u8]| part.is_some_and(|part| part.eq_ignore_ascii_case(expected));
        match self {
            Self::Present | Self::NonEmpty(_) => self.matches(bytes),
            Self::Exact(exact) => bytes.eq_ignore_ascii_case(exact),
            Self::Prefix(prefix) => alike(bytes.get(..prefix.len()), prefix),
            Self::Suffix(suffix) => {
                alike(bytes.len().checked_sub(suffix.len()).and_then(|start| bytes.get(start..)), suffix)
            }
        }
    }
}

/// Like `==`, but eight bytes at a time. In WebAssembly, the standard library compares bytes one by one.
pub(crate) fn same(one: &[u8], other: &[u8]) -> bool {
    let ((ones, rest_of_one), (others, rest_of_other)) = (one.as_chunks::<8>(), other.as_chunks::<8>());
    let equal = |(one, other): (&[u8; 8], &[u8; 8])| u64::from_ne_bytes(*one) == u64::from_ne_bytes(*other);
    one.len() == other.len() && ones.iter().zip(others).all(equal) && rest_of_one == rest_of_other
}
