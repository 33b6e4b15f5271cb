//! What is wrong with an input, said to the person who wrote it.
//!
//! Everything that reads a policy, a configuration or a test file reports here and goes on reading, so that one run
//! shows every mistake. A [`Diagnostic`] names the policy, the path of the field, what is wrong in plain words and,
//! where possible, the fix. Nothing here knows about files: a path finds its line through [`crate::document::Node`].

use std::fmt;

/// One step from a document's root towards a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// A key of a map.
    Field(String),
    /// A position in a list.
    Index(usize),
}

/// The way from a document's root to a field; prints as `spec.rules[0].when[1].key`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(pub Vec<Segment>);

impl Path {
    /// The path through these fields.
    #[must_use]
    pub fn of<const N: usize>(fields: [&str; N]) -> Self {
        Self(fields.map(|name| Segment::Field(name.to_owned())).into())
    }

    /// The path to a field of what this leads to.
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

/// Which part of a field is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// Its name.
    Key,
    /// What it holds.
    #[default]
    Value,
}

/// One mistake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostic {
    /// `namespace/name` of the policy it is about, where there is one.
    pub policy: Option<String>,
    /// The field it is about, from the document's root.
    pub path: Path,
    /// Which part of the field.
    pub part: Part,
    /// What is wrong: a lower-case sentence without a full stop.
    pub message: String,
    /// What to do about it.
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

/// What a finding can be in.
#[derive(Clone, Copy)]
enum Enclosing<'n> {
    Field(&'n str),
    Index(usize),
    Policy(&'n str),
}

/// Collects mistakes.
///
/// Where one is, it learns on the way out: every field and policy enclosing it adds its name to what was found within. Most
/// fields hold no mistake, and then no name is copied.
#[derive(Debug, Default)]
pub struct Diagnostics {
    found: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Nothing found yet, at the root of a document.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads what stands behind a key of a map.
    pub fn field<R>(&mut self, name: &str, read: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.found.len();
        let result = read(self);
        self.add(before, Enclosing::Field(name));
        result
    }

    /// Reads what stands at a position in a list.
    pub fn index<R>(&mut self, index: usize, read: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.found.len();
        let result = read(self);
        self.add(before, Enclosing::Index(index));
        result
    }

    /// Reads something that belongs to the policy of this name, if it has one.
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

    /// Adds to everything found since then what is enclosing it.
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

    /// The current field is wrong.
    pub fn error(&mut self, message: impl AsRef<str>) {
        self.push(Part::Value, message.as_ref(), None);
    }

    /// The current field is wrong, and this is what to do about it.
    pub fn error_with_hint(&mut self, message: impl AsRef<str>, hint: impl AsRef<str>) {
        self.push(Part::Value, message.as_ref(), Some(hint.as_ref()));
    }

    /// The current field should not be there, at least not under this name.
    pub(crate) fn key_error(&mut self, message: impl AsRef<str>, hint: Option<&str>) {
        self.push(Part::Key, message.as_ref(), hint);
    }

    /// Adds what was found elsewhere, as if it had been found in the current field.
    pub fn append(&mut self, other: Self) {
        self.found.extend(other.found);
    }

    #[cold]
    fn push(&mut self, part: Part, message: &str, hint: Option<&str>) {
        let (message, hint) = (message.to_owned(), hint.map(str::to_owned));
        self.found.push(Diagnostic { policy: None, path: Path::default(), part, message, hint });
    }

    /// How many mistakes were found so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.found.len()
    }

    /// Everything found, in the order of reading.
    #[must_use]
    pub fn into_found(self) -> Vec<Diagnostic> {
        self.found
    }
}

/// The known name that is nearest to an unknown one, if one is near.
///
/// Near is a third of the longer name's letters or fewer to change, a single one, or the same letters in another case.
#[must_use]
pub fn suggestion<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = unknown.to_ascii_lowercase();
    // Comparing takes as long as both names multiplied; what is much longer is not near.
    let lengths_are_near = |name: &&str| unknown.len() <= name.len().saturating_mul(2);
    known
        .into_iter()
        .filter(lengths_are_near)
        .map(|name| (strsim::damerau_levenshtein(&lower, &name.to_ascii_lowercase()), name))
        .filter(|(distance, name)| *distance <= 1 || distance.saturating_mul(3) <= unknown.len().max(name.len()))
        .filter(|(distance, name)| *distance < unknown.len().max(name.len()))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}
