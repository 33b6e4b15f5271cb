//! Mistakes in an input, described for the person who wrote it.
//!
//! All code that reads a policy, a configuration or a test file reports here and goes on reading, so that one run shows
//! every mistake. A [`Diagnostic`] names the policy and the path of the field. It says in plain words what is wrong
//! and, where possible, how to correct it. Nothing here knows about files: [`crate::document::Node`] finds the line of
//! a path.

use std::fmt;

/// One step on the path from a document's root to a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// A key of a map.
    Field(String),
    /// A position in a list.
    Index(usize),
}

/// The path from a document's root to a field. It prints as `spec.rules[0].when[1].key`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(pub Vec<Segment>);

impl Path {
    /// The path that goes through these fields, from the root.
    #[must_use]
    pub fn of<const N: usize>(fields: [&str; N]) -> Self {
        Self(fields.map(|name| Segment::Field(name.to_owned())).into())
    }

    /// This path, followed by one more field.
    #[must_use]
    pub fn with(&self, field: &str) -> Self {
        let mut path = self.clone();
        path.0.push(Segment::Field(field.to_owned()));
        path
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Field(name) if is_plain(name) => {
                    let dot = if position == 0 { "" } else { "." };
                    write!(f, "{dot}{name}")?;
                }
                Segment::Field(name) => write!(f, "[{name:?}]")?,
            }
        }
        Ok(())
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// The part of a field that a mistake is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// The name of the field.
    Key,
    /// The value of the field.
    #[default]
    Value,
}

/// One mistake in an input. It prints as `policy NAME: PATH: MESSAGE; HINT`, without the parts that it does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostic {
    /// The policy that the mistake is in, as `namespace/name`, if there is one.
    pub policy: Option<String>,
    /// The path of the field, from the document's root.
    pub path: Path,
    /// The part of the field that is wrong.
    pub part: Part,
    /// What is wrong: a lower-case sentence without a full stop.
    pub message: String,
    /// How to correct it.
    pub hint: Option<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(policy) = &self.policy {
            write!(f, "policy {policy}: ")?;
        }
        if !self.path.0.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

/// What can enclose a mistake.
#[derive(Clone, Copy)]
enum Enclosing<'n> {
    Field(&'n str),
    Index(usize),
    Policy(&'n str),
}

/// Collects mistakes.
///
/// Paths are built on the way out: each field and each policy adds its name to the mistakes that were found inside it.
/// Most fields hold no mistake, so no name is copied for them.
#[derive(Debug, Default)]
pub struct Diagnostics {
    found: Vec<Diagnostic>,
}

impl Diagnostics {
    /// A collection without mistakes, at the root of a document.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `read` on the value of a field. The mistakes that it finds get the name of the field.
    pub fn field<R>(&mut self, name: &str, read: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.found.len();
        let result = read(self);
        self.add(before, Enclosing::Field(name));
        result
    }

    /// Runs `read` on an item of a list. The mistakes that it finds get the position of the item.
    pub fn index<R>(&mut self, index: usize, read: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.found.len();
        let result = read(self);
        self.add(before, Enclosing::Index(index));
        result
    }

    /// Runs `read` on something that belongs to a policy. The mistakes that it finds get the name of the policy, if it
    /// has one.
    pub fn policy<R>(&mut self, name: impl FnOnce() -> Option<String>, read: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.found.len();
        let result = read(self);
        if self.found.len() > before
            && let Some(name) = name()
        {
            self.add(before, Enclosing::Policy(&name));
        }
        result
    }

    /// Adds the enclosing field, position or policy to every mistake after the first `before` ones.
    #[inline(never)]
    fn add(&mut self, before: usize, enclosing: Enclosing<'_>) {
        for diagnostic in self.found.iter_mut().skip(before) {
            match enclosing {
                Enclosing::Field(name) => diagnostic.path.0.insert(0, Segment::Field(name.to_owned())),
                Enclosing::Index(index) => diagnostic.path.0.insert(0, Segment::Index(index)),
                Enclosing::Policy(name) if diagnostic.policy.is_none() => diagnostic.policy = Some(name.to_owned()),
                Enclosing::Policy(_) => {}
            }
        }
    }

    /// Reports that the current field is wrong.
    pub fn error(&mut self, message: impl AsRef<str>) {
        self.push(Part::Value, message.as_ref(), None);
    }

    /// Reports that the current field is wrong, and how to correct it.
    pub fn error_with_hint(&mut self, message: impl AsRef<str>, hint: impl AsRef<str>) {
        self.push(Part::Value, message.as_ref(), Some(hint.as_ref()));
    }

    /// Reports that the current field should not be there, at least not under this name.
    pub(crate) fn key_error(&mut self, message: impl AsRef<str>, hint: Option<&str>) {
        self.push(Part::Key, message.as_ref(), hint);
    }

    /// Adds mistakes that were found elsewhere, as if they had been found in the current field.
    pub fn append(&mut self, other: Self) {
        self.found.extend(other.found);
    }

    #[cold]
    fn push(&mut self, part: Part, message: &str, hint: Option<&str>) {
        let (message, hint) = (message.to_owned(), hint.map(str::to_owned));
        self.found.push(Diagnostic { policy: None, path: Path::default(), part, message, hint });
    }

    /// The number of mistakes found so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.found.len()
    }

    /// All mistakes, in the order of reading.
    #[must_use]
    pub fn into_found(self) -> Vec<Diagnostic> {
        self.found
    }
}

/// The known name that is nearest to an unknown one, if one is near enough.
///
/// Upper and lower case count as the same. A name is near enough if one change turns it into the other, or if the
/// number of changes is at most a third of the longer name's length.
#[must_use]
pub fn suggestion<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = unknown.to_ascii_lowercase();
    // The time to compare two names grows with the product of their lengths. A much longer name is not near, so it is
    // skipped.
    let lengths_are_near = |name: &&str| unknown.len() <= name.len().saturating_mul(2);
    known
        .into_iter()
        .filter(lengths_are_near)
        .map(|name| (strsim::osa_distance(&lower, &name.to_ascii_lowercase()), name))
        .filter(|(distance, name)| *distance <= 1 || distance.saturating_mul(3) <= unknown.len().max(name.len()))
        .filter(|(distance, name)| *distance < unknown.len().max(name.len()))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}
