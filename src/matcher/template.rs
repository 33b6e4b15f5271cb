//! Path templates: `/orders/{*}/items/{**}`.
//!
//! | operator | matches |
//! | --- | --- |
//! | `{*}` | one whole segment, not empty |
//! | `{**}` | any number of bytes, including slashes, or none |
//!
//! Each operator is alone between slashes, and `{**}` is the last operator. Therefore a match needs no search.
//!
//! In Envoy, these wildcards accept only the characters that RFC 3986 allows in a path. There, a path such as
//! `/admin/a[1]` slips past `DENY paths: ["/admin/{**}"]`. Here, a wildcard accepts every byte if a match denies.

use super::Polarity;

/// A compiled template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Literal texts, each followed by one `{*}`.
    segments: Box<[Box<[u8]>]>,
    /// The part after the last `{*}`.
    tail: Tail,
    polarity: Polarity,
}

/// The part of a template after the last `{*}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// This text only.
    Literal(Box<[u8]>),
    /// The first text, a `{**}`, and the second text.
    Any(Box<[u8]>, Box<[u8]>),
}

impl Template {
    /// Compiles a template. [`crate::policy::PathValue::parse`] must have accepted it.
    #[must_use]
    pub fn new(text: &str, polarity: Polarity) -> Self {
        let mut segments = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("{*}") {
            segments.push(before.as_bytes().into());
            rest = behind;
        }
        let tail = match rest.split_once("{**}") {
            Some((before, behind)) => Tail::Any(before.as_bytes().into(), behind.as_bytes().into()),
            None => Tail::Literal(rest.as_bytes().into()),
        };
        Self { segments: segments.into(), tail, polarity }
    }

    /// The literal texts, each followed by one `{*}`, and the part after the last `{*}`.
    #[must_use]
    pub(crate) fn parts(&self) -> (&[Box<[u8]>], &Tail) {
        (&self.segments, &self.tail)
    }

    /// Whether a match permits or denies.
    #[must_use]
    pub(crate) fn polarity(&self) -> Polarity {
        self.polarity
    }

    /// Whether the template matches the whole path. `path` has no query and no fragment.
    #[must_use]
    pub fn matches(&self, path: &[u8]) -> bool {
        let mut rest = path;
        for literal in &self.segments {
            let Some(behind) = rest.strip_prefix(&**literal) else { return false };
            let end = behind.iter().position(|b| *b == b'/').unwrap_or(behind.len());
            let Some((segment, behind)) = behind.split_at_checked(end) else { return false };
            if segment.is_empty() || !self.accepts(segment) {
                return false;
            }
            rest = behind;
        }
        match &self.tail {
            Tail::Literal(literal) => rest == &**literal,
            Tail::Any(before, behind) => rest
                .strip_prefix(&**before)
                .and_then(|rest| rest.strip_suffix(&**behind))
                .is_some_and(|run| self.accepts(run)),
        }
    }

    fn accepts(&self, run: &[u8]) -> bool {
        match self.polarity {
            Polarity::Denies => true,
            Polarity::Permits => run.iter().all(|b| *b == b'/' || is_wildcard_byte(*b)),
        }
    }
}

/// Whether Envoy's own wildcards accept this byte. They also accept the slash.
fn is_wildcard_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=*".contains(&byte)
}
