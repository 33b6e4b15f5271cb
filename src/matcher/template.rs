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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Template {
    /// Literal texts, each followed by one `{*}`.
    segments: Box<[Box<[u8]>]>,
    /// The part after the last `{*}`.
    tail: Tail,
    polarity: Polarity,
}

/// The part of a template after the last `{*}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
        while let Some((before, behind)) = split_once(rest, "{*}") {
            segments.push(before.as_bytes().into());
            rest = behind;
        }
        let tail = match split_once(rest, "{**}") {
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
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn polarity(&self) -> Polarity {
        self.polarity
    }

    /// Whether the template matches the whole path. `path` has no query and no fragment.
    #[must_use]
    pub fn matches(&self, path: &[u8]) -> bool {
        self.matches_split(&SplitPath::new(path))
    }

    /// Like [`Self::matches`]. The time depends on the template, and hardly on the length of the path.
    #[must_use]
    pub(crate) fn matches_split(&self, split: &SplitPath<'_>) -> bool {
        let mut rest = split.path;
        let mut slashes = &*split.slashes;
        for literal in &self.segments {
            let Some(behind) = rest.strip_prefix(&**literal) else { return false };
            let Some((segment, behind)) = split.segment(behind, &mut slashes) else { return false };
            if segment.is_empty() || !self.accepts(segment, behind.len(), split) {
                return false;
            }
            rest = behind;
        }
        match &self.tail {
            Tail::Literal(literal) => rest == &**literal,
            Tail::Any(before, behind) => rest
                .strip_prefix(&**before)
                .and_then(|rest| rest.strip_suffix(&**behind))
                .is_some_and(|run| self.accepts(run, behind.len(), split)),
        }
    }

    /// Whether a wildcard accepts a run of bytes, behind which the path has `behind` more bytes.
    fn accepts(&self, run: &[u8], behind: usize, split: &SplitPath<'_>) -> bool {
        match self.polarity {
            Polarity::Denies => true,
            Polarity::Permits => split.has_only_wildcard_bytes(run, behind),
        }
    }
}

/// A path, and what templates want to know about it. For a long path it is found out once, since a path can be as long
/// as all headers may be, and templates can be many.
#[derive(Debug)]
pub(crate) struct SplitPath<'p> {
    path: &'p [u8],
    /// The positions of the slashes in a long path.
    slashes: Vec<usize>,
    /// The positions of the bytes in a long path that Envoy's wildcards do not accept.
    odd: Vec<usize>,
}

/// A path that is longer than this is long. For a shorter one, no memory is allocated.
const LONG: usize = 128;

impl<'p> SplitPath<'p> {
    pub(crate) fn new(path: &'p [u8]) -> Self {
        let (mut slashes, mut odd) = (Vec::new(), Vec::new());
        let long = if path.len() > LONG { path } else { &[] };
        for (position, byte) in long.iter().enumerate() {
            if *byte == b'/' {
                slashes.push(position);
            } else if !is_wildcard_byte(*byte) {
                odd.push(position);
            }
        }
        Self { path, slashes, odd }
    }

    /// Splits the end of the path at its first slash. `slashes`: the slashes that may be in this end. Those before it
    /// are dropped.
    fn segment(&self, end: &'p [u8], slashes: &mut &[usize]) -> Option<(&'p [u8], &'p [u8])> {
        let slash = if self.path.len() > LONG {
            let start = self.path.len().checked_sub(end.len())?;
            while let [first, others @ ..] = slashes
                && *first < start
            {
                *slashes = others;
            }
            slashes.first().and_then(|slash| slash.checked_sub(start))
        } else {
            end.iter().position(|byte| *byte == b'/')
        };
        end.split_at_checked(slash.unwrap_or(end.len()))
    }

    /// Whether Envoy's wildcards accept a run of bytes, behind which the path has `behind` more bytes.
    fn has_only_wildcard_bytes(&self, run: &[u8], behind: usize) -> bool {
        if self.path.len() > LONG {
            let end = self.path.len().saturating_sub(behind);
            let start = end.saturating_sub(run.len());
            let first = self.odd.partition_point(|odd| *odd < start);
            self.odd.get(first).is_none_or(|odd| *odd >= end)
        } else {
            run.iter().all(|byte| *byte == b'/' || is_wildcard_byte(*byte))
        }
    }
}

/// Whether Envoy's own wildcards accept this byte. They also accept the slash.
pub(crate) fn is_wildcard_byte(byte: u8) -> bool {
    matches!(byte,
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z'
        | b'-' | b'.' | b'_' | b'~' | b'%' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'+' | b',' | b';' | b':' | b'@' | b'='
        | b'*')
}

/// As [`str::split_once`], whose search for a longer text is two kilobytes of the module.
fn split_once<'t>(text: &'t str, marker: &str) -> Option<(&'t str, &'t str)> {
    let at = text.as_bytes().windows(marker.len()).position(|window| window == marker.as_bytes())?;
    Some((text.get(..at)?, text.get(at.checked_add(marker.len())?..)?))
}
