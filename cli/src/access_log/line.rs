//! Lines in a text format, split by it.
//!
//! Envoy escapes nothing in a text format. A client that sends quotes and blanks can write a line that can be split in
//! several ways. What is not the same in all of them is ambiguous.

use std::collections::BTreeSet;
use std::ops::Range;

use memchr::memmem;

use super::format::{Operator, Piece, Tells};

/// A text format, ready to split lines.
#[derive(Debug)]
pub struct Splitter {
    /// What the values tell, in order.
    columns: Vec<Operator>,
    /// The texts around the values: one more than there are values.
    literals: Vec<Vec<u8>>,
    /// For each text between two values, what finds it, forward and backward.
    finders: Vec<(memmem::Finder<'static>, memmem::FinderRev<'static>)>,
    /// Whether a value that is absent leaves nothing behind.
    omits_empty: bool,
}

/// A value of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Column {
    /// It stands there.
    At(Range<usize>),
    /// The line can be split in several ways, and the value is not the same in all of them.
    Ambiguous,
}

impl Splitter {
    /// Prepares a format. Values without anything between them become one that says nothing. `omits_empty`: a value that is
    /// absent leaves nothing behind.
    #[must_use]
    pub fn new(pieces: &[Piece], omits_empty: bool) -> Self {
        let (mut columns, mut literals) = (Vec::new(), vec![Vec::new()]);
        let mut is_behind_value = false;
        for piece in pieces {
            match piece {
                Piece::Literal(text) => {
                    if let Some(last) = literals.last_mut() {
                        last.extend_from_slice(text.as_bytes());
                    }
                    is_behind_value = false;
                }
                Piece::Operator(_) if is_behind_value => {
                    if let Some(last) = columns.last_mut() {
                        *last = Operator { tells: Tells::Nothing, length: None };
                    }
                }
                Piece::Operator(operator) => {
                    columns.push(operator.clone());
                    literals.push(Vec::new());
                    is_behind_value = true;
                }
            }
        }
        // The line feed at the end is no part of a line.
        if let Some(last) = literals.last_mut()
            && last.ends_with(b"\n")
        {
            last.pop();
        }
        let between = literals.get(1..columns.len()).unwrap_or_default().iter();
        let finder =
            |text: &Vec<u8>| (memmem::Finder::new(text).into_owned(), memmem::FinderRev::new(text).into_owned());
        let finders = between.map(finder).collect();
        Self { columns, literals, finders, omits_empty }
    }

    /// What the values tell, in order.
    #[must_use]
    pub fn columns(&self) -> &[Operator] {
        &self.columns
    }

    /// Splits a line, which has no line feed at its end. `None`: it has another format.
    #[must_use]
    pub fn split(&self, line: &[u8]) -> Option<Vec<Column>> {
        let (first, last) = (self.literals.first()?, self.literals.last()?);
        if self.columns.is_empty() {
            return (line == &**first).then(Vec::new);
        }
        let end = line.len().checked_sub(last.len())?;
        if !line.starts_with(first) || !line.ends_with(last) || end < first.len() {
            return None;
        }
        let least = self.least_ends(line, first.len(), end)?;
        let greatest = self.greatest_ends(line, first.len(), end)?;
        if least == greatest {
            let starts = self.starts(first.len(), &least);
            let columns: Vec<_> = starts.into_iter().zip(least).map(|(start, end)| start..end).collect();
            let fits = |(operator, range): (&Operator, &Range<usize>)| self.fits(operator, line, range.clone());
            return self.columns.iter().zip(&columns).all(fits).then(|| columns.into_iter().map(Column::At).collect());
        }
        self.split_in_all_ways(line, first.len(), &least, &greatest)
    }

    /// Whether a value of this kind can stand there.
    fn fits(&self, operator: &Operator, line: &[u8], range: Range<usize>) -> bool {
        let text = line.get(range).unwrap_or_default();
        (self.omits_empty && text.is_empty()) || operator.tells.can_be(text)
    }

    /// The literals behind the values, but for the last.
    fn between(&self) -> &[Vec<u8>] {
        self.literals.get(1..self.columns.len()).unwrap_or_default()
    }

    fn starts(&self, first: usize, ends: &[usize]) -> Vec<usize> {
        let behind = ends.iter().zip(self.between()).map(|(end, literal)| end.saturating_add(literal.len()));
        std::iter::once(first).chain(behind).collect()
    }

    /// Where the values end at the earliest. In no way to split the line does one end earlier.
    fn least_ends(&self, line: &[u8], first: usize, end: usize) -> Option<Vec<usize>> {
        let mut ends = Vec::with_capacity(self.columns.len());
        let mut at = first;
        for (finder, _) in &self.finders {
            let found = at.checked_add(finder.find(line.get(at..end)?)?)?;
            ends.push(found);
            at = found.checked_add(finder.needle().len())?;
        }
        ends.push(end);
        (at <= end).then_some(ends)
    }

    /// Where the values end at the latest.
    fn greatest_ends(&self, line: &[u8], first: usize, end: usize) -> Option<Vec<usize>> {
        let mut ends = vec![end];
        let mut at = end;
        for (_, finder) in self.finders.iter().rev() {
            at = first.checked_add(finder.rfind(line.get(first..at)?)?)?;
            ends.push(at);
        }
        ends.reverse();
        Some(ends)
    }

    /// Looks at all ways to split the line in which each value is of its kind.
    fn split_in_all_ways(&self, line: &[u8], first: usize, least: &[usize], greatest: &[usize]) -> Option<Vec<Column>> {
        if self.has_too_many_ways(line, least, greatest) {
            return self.split_without_search(line, first, least, greatest);
        }
        let literals = self.between().iter().map(Some).chain([None]);
        // For each value, where it can end: there its literal follows.
        let ends = least.iter().zip(greatest).zip(literals).map(|((least, greatest), literal)| match literal {
            Some(literal) => occurrences(line, literal, *least, *greatest),
            None => BTreeSet::from([*least]),
        });
        let mut ends: Vec<_> = ends.collect();
        // Forward, the ends stay that a way from the beginning leads to. Backward, those from which one leads to the end.
        for (number, operator) in self.columns.iter().enumerate() {
            let starts = self.starts_of(number, first, &ends);
            keep_reached(line, &operator.tells, &starts, ends.get_mut(number)?);
        }
        for (number, operator) in self.columns.iter().enumerate().skip(1).rev() {
            let length = self.literals.get(number)?.len();
            let (before, at) = ends.split_at_mut(number);
            let (before, at) = (before.last_mut()?, at.first()?);
            keep_leading(line, &operator.tells, before, length, at);
        }
        let column = |number: usize| {
            let (starts, ends) = (self.starts_of(number, first, &ends), ends.get(number)?);
            match (starts.first()?, ends.first()?) {
                (start, end) if starts.len() == 1 && ends.len() == 1 => Some(Column::At(*start..*end)),
                _ => Some(Column::Ambiguous),
            }
        };
        (0..self.columns.len()).map(column).collect()
    }

    /// Whether there are so many ways to split the line that nobody should wait for them.
    fn has_too_many_ways(&self, line: &[u8], least: &[usize], greatest: &[usize]) -> bool {
        const MOST: usize = 4_096;
        let mut windows = least.iter().zip(greatest).zip(&self.finders);
        windows.any(|((least, greatest), (finder, _))| {
            let window = line.get(*least..greatest.saturating_add(finder.needle().len())).unwrap_or_default();
            finder.find_iter(window).nth(MOST).is_some()
        })
    }

    /// What is the same in all ways to split the line, as far as that is seen without looking at each.
    fn split_without_search(
        &self,
        line: &[u8],
        first: usize,
        least: &[usize],
        greatest: &[usize],
    ) -> Option<Vec<Column>> {
        let starts = self.starts(first, least).into_iter().zip(self.starts(first, greatest));
        let ends = least.iter().zip(greatest);
        let columns = starts.zip(ends).zip(&self.columns).map(|(((start, last_start), (end, last_end)), operator)| {
            if start != last_start || end != last_end {
                return Some(Column::Ambiguous);
            }
            self.fits(operator, line, start..*end).then_some(Column::At(start..*end))
        });
        columns.collect()
    }

    /// Where a value can start, by where the one before it can end.
    fn starts_of(&self, number: usize, first: usize, ends: &[BTreeSet<usize>]) -> BTreeSet<usize> {
        let Some(before) = number.checked_sub(1) else { return BTreeSet::from([first]) };
        let length = self.literals.get(number).map_or(0, Vec::len);
        ends.get(before).into_iter().flatten().map(|end| end.saturating_add(length)).collect()
    }
}

/// Where a literal stands, from one position to another. Occurrences can overlap.
fn occurrences(line: &[u8], literal: &[u8], from: usize, to: usize) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut at = from;
    let end = to.saturating_add(literal.len());
    while let Some(next) = line.get(at..end).and_then(|window| memmem::find(window, literal)) {
        at = at.saturating_add(next);
        found.insert(at);
        at = at.saturating_add(1);
    }
    found
}

/// Keeps those ends that a value of its kind may lead to from one of the starts. Each byte is looked at once.
fn keep_reached(line: &[u8], tells: &Tells, starts: &BTreeSet<usize>, ends: &mut BTreeSet<usize>) {
    let Some(first) = starts.first().copied() else { return ends.clear() };
    // From `since` on, all bytes before `at` can be in the value.
    let (mut since, mut at) = (first, first);
    ends.retain(|end| {
        if !tells.can_be_anything() {
            for byte in line.get(at..*end).unwrap_or_default() {
                at = at.saturating_add(1);
                if !can_have(tells, *byte) {
                    since = at;
                }
            }
        }
        since <= *end && starts.range(since..=*end).next().is_some()
    });
}

/// Keeps those ends behind which, and behind a literal of this length, a value of its kind may lead to one of the next ends.
fn keep_leading(line: &[u8], tells: &Tells, ends: &mut BTreeSet<usize>, length: usize, next: &BTreeSet<usize>) {
    // All bytes before `at` can be in a value that begins at `start`, or behind it.
    let mut at = 0;
    ends.retain(|end| {
        let start = end.saturating_add(length);
        if tells.can_be_anything() {
            return next.last().is_some_and(|next| start <= *next);
        }
        at = at.max(start);
        while line.get(at).is_some_and(|byte| can_have(tells, *byte)) {
            at = at.saturating_add(1);
        }
        next.range(start..=at).next().is_some()
    });
}

/// Whether a value of its kind, or `-` for none, can have this byte in it.
fn can_have(tells: &Tells, byte: u8) -> bool {
    byte == b'-' || tells.can_have(byte)
}
