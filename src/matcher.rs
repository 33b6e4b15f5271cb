//! How one value of a policy is compared with one value of a request: on bytes, without regular expressions.
//!
//! Istio renders presence, suffixes of identities and namespaces as regular expressions, and those see text: their dot
//! matches neither a line feed nor a byte that is not UTF-8. Where that would let a request slip past a DENY, the
//! filter matches every byte; where a match permits, it asks for text just as the expression does. Which of the two
//! holds is known when a policy is compiled: its [`Polarity`] becomes a [`Wildcard`] in the matcher, and nothing is
//! decided about it during a request.

pub mod template;

use crate::policy::Form;

/// What it means that a matcher matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polarity {
    /// The request comes nearer to being allowed.
    Permits,
    /// The request comes nearer to being denied.
    Denies,
}

/// What a wildcard accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wildcard {
    /// Every byte.
    Bytes,
    /// Text as a regular expression's dot sees it: UTF-8 without line feeds.
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

/// A value with the four forms that most fields share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// `*` for a header, a host or a method: it is there, empty or not.
    Present,
    /// `*` for everything else: there is something in it.
    NonEmpty(Wildcard),
    /// `abc`.
    Exact(Box<[u8]>),
    /// `abc*`.
    Prefix(Box<[u8]>),
    /// `*abc`.
    Suffix(Box<[u8]>),
}

impl Pattern {
    /// The pattern of a form; `presence` is what presence means for the attribute.
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

    /// As [`Self::matches`], with ASCII letters of either case alike.
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

/// `==`, eight bytes at a time: in WebAssembly the standard library compares them one by one.
fn same(one: &[u8], other: &[u8]) -> bool {
    let ((ones, rest_of_one), (others, rest_of_other)) = (one.as_chunks::<8>(), other.as_chunks::<8>());
    let equal = |(one, other): (&[u8; 8], &[u8; 8])| u64::from_ne_bytes(*one) == u64::from_ne_bytes(*other);
    one.len() == other.len() && ones.iter().zip(others).all(equal) && rest_of_one == rest_of_other
}
