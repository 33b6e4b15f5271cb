//! Path templates: `/orders/{*}/items/{**}`.
//!
//! `{*}` is one whole segment and `{**}` any run of bytes, slashes included; each stands alone between slashes, and
//! `{**}` is the last operator, so a match needs no search. Envoy's wildcards take the characters of a path as RFC 3986
//! has them and no other; a path such as `/admin/a[1]` thus slips past `DENY paths: ["/admin/{**}"]` there. Here a
//! wildcard takes any byte wherever a match denies.

use super::Polarity;

/// A compiled template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Literal text, each followed by one `{*}`.
    segments: Box<[Box<[u8]>]>,
    /// What follows the last `{*}`.
    tail: Tail,
    polarity: Polarity,
}

/// The end of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Nothing but this text.
    Literal(Box<[u8]>),
    /// This text, a `{**}`, and this text.
    Any(Box<[u8]>, Box<[u8]>),
}

impl Template {
    /// Compiles a template that [`crate::policy::PathValue::parse`] has accepted.
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

    /// Its parts: literal texts, each followed by one `{*}`, and what follows the last of these.
    #[must_use]
    pub(crate) fn parts(&self) -> (&[Box<[u8]>], &Tail) {
        (&self.segments, &self.tail)
    }

    /// What it means that it matches.
    #[must_use]
    pub(crate) fn polarity(&self) -> Polarity {
        self.polarity
    }

    /// Whether a path, without query and fragment, matches as a whole.
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

/// The bytes that Envoy's own wildcards take, besides the slash.
fn is_wildcard_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=*".contains(&byte)
}
