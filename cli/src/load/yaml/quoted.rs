//! Puts scalars into quotes that libyaml does not read, and Kubernetes does.
//!
//! Between brackets, as in `[a:]`, Kubernetes reads `a:` as text. libyaml stops at the colon. In quotes, both read text.
//! Where libyaml stops is known only when it does, and then it begins again. So that it does not begin again for each
//! such scalar, the first time all texts that look like one get quotes. Those are guesses: a guess that did not become
//! a scalar in quotes was wrong, for example in a comment, and loses them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::events::NotYaml;

/// A document is read again, up to so many bytes in all.
const MOST_READ_AGAIN: usize = 64 << 20;

/// A text in which some scalars got quotes.
pub struct Quoted<'t> {
    original: &'t str,
    text: Cow<'t, str>,
    /// The scalars that got quotes: the first byte of each in the original.
    scalars: BTreeMap<usize, Scalar>,
    /// The bytes that were added to the text, in order.
    added: Vec<usize>,
    /// The ends in the text of the scalars that are guesses, with the start of each in the original.
    guesses: Vec<(usize, usize)>,
    /// How many bytes were read so far.
    read: usize,
}

#[derive(Clone, Copy)]
struct Scalar {
    /// The end in the original.
    end: usize,
    is_guess: bool,
}

impl<'t> Quoted<'t> {
    pub fn new(original: &'t str) -> Self {
        Self {
            original,
            text: Cow::Borrowed(original),
            scalars: BTreeMap::new(),
            added: Vec::new(),
            guesses: Vec::new(),
            read: 0,
        }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The byte of the original that is at this byte of the text.
    pub fn original(&self, at: usize) -> usize {
        at.saturating_sub(self.added.partition_point(|added| *added < at))
    }

    /// The scalar that ends with a colon where libyaml wants no colon.
    pub fn takes_no_colon(&self, error: &NotYaml) -> Option<(usize, usize)> {
        let (start, end) = (self.original(error.within), self.original(error.at).checked_add(1)?);
        let (scalar, behind) = (self.original.get(start..end)?, self.original.get(end..)?);
        let is_one = error.message.ends_with("found unexpected ':'")
            && behind.starts_with([',', ']', '}'])
            && !self.original.get(..start)?.ends_with(['\'', '"'])
            && !scalar.contains('?');
        is_one.then_some((start, end))
    }

    /// The guesses up to this byte that are no scalars. These are the ends of all scalars in single quotes.
    pub fn wrong_guesses(&self, ends: &[usize], before: usize) -> BTreeSet<usize> {
        let guesses = self.guesses.iter().filter(|(end, _)| *end <= before && ends.binary_search(end).is_err());
        guesses.map(|(_, start)| *start).collect()
    }

    /// Without these guesses.
    pub fn without(&self, guesses: &BTreeSet<usize>) -> Self {
        let mut scalars = self.scalars.clone();
        scalars.retain(|start, _| !guesses.contains(start));
        Self { read: self.read.saturating_add(self.text.len()), ..Self::new(self.original) }.written(scalars)
    }

    /// With quotes for the scalar that libyaml did not read, if it is one that Kubernetes reads.
    pub fn with(&self, error: &NotYaml) -> Option<Self> {
        let (start, end) = self.takes_no_colon(error)?;
        let read = self.read.saturating_add(self.text.len());
        if read >= MOST_READ_AGAIN {
            return None;
        }
        let mut scalars = self.scalars.clone();
        scalars.retain(|_, scalar| !(scalar.is_guess && scalar.end > start && scalar.end <= end));
        if scalars.is_empty() {
            scalars.extend(guesses(self.original, end));
        }
        scalars.insert(start, Scalar { end, is_guess: false });
        Some(Self { read, ..Self::new(self.original) }.written(scalars))
    }

    /// Writes the text with quotes for these scalars.
    fn written(mut self, scalars: BTreeMap<usize, Scalar>) -> Self {
        let mut text = String::with_capacity(self.original.len());
        let mut from = 0;
        let quote = |text: &mut String, added: &mut Vec<usize>| {
            added.push(text.len());
            text.push('\'');
        };
        for (start, Scalar { end, is_guess }) in &scalars {
            text.push_str(self.original.get(from..*start).unwrap_or_default());
            quote(&mut text, &mut self.added);
            for part in self.original.get(*start..*end).unwrap_or_default().split_inclusive('\'') {
                text.push_str(part);
                if part.ends_with('\'') {
                    quote(&mut text, &mut self.added);
                }
            }
            quote(&mut text, &mut self.added);
            if *is_guess {
                self.guesses.push((text.len(), *start));
            }
            from = *end;
        }
        text.push_str(self.original.get(from..).unwrap_or_default());
        if !scalars.is_empty() {
            self.text = Cow::Owned(text);
        }
        self.scalars = scalars;
        self
    }
}

/// The texts from this byte on that look like scalars with a colon at the end, between brackets.
fn guesses(original: &str, from: usize) -> impl Iterator<Item = (usize, Scalar)> {
    let is_usual = |c: char| matches!(c, ' ' | '\t') || !c.is_whitespace() && !",[]{}:'\"#&*!|>%@`?".contains(c);
    original.match_indices(':').filter(move |(at, _)| *at >= from).filter_map(move |(at, _)| {
        let end = at.checked_add(1)?;
        let (before, behind) = (original.get(from..at)?, original.get(end..)?);
        let outside = before.trim_end_matches(is_usual);
        let scalar = before.get(outside.len()..)?.trim_start();
        let is_one = outside.ends_with(['[', '{', ','])
            && behind.starts_with([',', ']', '}'])
            && !scalar.is_empty()
            && !scalar.starts_with('-');
        is_one.then_some((at.checked_sub(scalar.len())?, Scalar { end, is_guess: true }))
    })
}
