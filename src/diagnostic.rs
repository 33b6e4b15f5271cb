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

/// Whether a finding makes the input unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The input is refused as a whole.
    Error,
    /// The input is accepted and probably not what its author meant.
    Warning,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// `namespace/name` of the policy it is about, where there is one.
    pub policy: Option<String>,
    /// The field it is about, from the document's root.
    pub path: Path,
    /// What is wrong: a lower-case sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.severity == Severity::Warning {
            write!(f, "warning: ")?;
        }
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

/// Collects findings, and knows which policy and which field is being read.
#[derive(Debug, Default)]
pub struct Diagnostics {
    policy: Option<String>,
    path: Path,
    found: Vec<Diagnostic>,
    errors: usize,
}

impl Diagnostics {
    /// Nothing found yet, at the root of a document.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads something below the current field.
    pub fn within<R>(&mut self, segment: Segment, read: impl FnOnce(&mut Self) -> R) -> R {
        self.path.0.push(segment);
        let result = read(self);
        self.path.0.pop();
        result
    }

    /// As [`Self::within`], for a key of a map.
    pub fn field<R>(&mut self, name: &str, read: impl FnOnce(&mut Self) -> R) -> R {
        self.within(Segment::Field(name.to_owned()), read)
    }

    /// As [`Self::within`], for a position in a list.
    pub fn index<R>(&mut self, index: usize, read: impl FnOnce(&mut Self) -> R) -> R {
        self.within(Segment::Index(index), read)
    }

    /// Reads something that belongs to the policy of this name.
    pub fn policy<R>(&mut self, name: String, read: impl FnOnce(&mut Self) -> R) -> R {
        let outer = self.policy.replace(name);
        let result = read(self);
        self.policy = outer;
        result
    }

    /// The current field is wrong.
    pub fn error(&mut self, message: impl Into<String>) {
        self.push(Severity::Error, message.into(), None);
    }

    /// The current field is wrong, and this is what to do about it.
    pub fn error_with_hint(&mut self, message: impl Into<String>, hint: impl Into<String>) {
        self.push(Severity::Error, message.into(), Some(hint.into()));
    }

    /// The current field is probably not what its author meant.
    pub fn warning(&mut self, message: impl Into<String>, hint: impl Into<String>) {
        self.push(Severity::Warning, message.into(), Some(hint.into()));
    }

    fn push(&mut self, severity: Severity, message: String, hint: Option<String>) {
        if severity == Severity::Error {
            self.errors = self.errors.saturating_add(1);
        }
        self.found.push(Diagnostic { severity, policy: self.policy.clone(), path: self.path.clone(), message, hint });
    }

    /// How many findings so far make the input unusable.
    #[must_use]
    pub fn count_errors(&self) -> usize {
        self.errors
    }

    /// How many warnings were found so far.
    #[must_use]
    pub fn count_warnings(&self) -> usize {
        self.found.len().saturating_sub(self.errors)
    }

    /// Drops all warnings but the first `kept`.
    pub fn forget_warnings(&mut self, kept: usize) {
        let mut warnings: usize = 0;
        self.found.retain(|diagnostic| {
            let is_warning = diagnostic.severity == Severity::Warning;
            warnings = warnings.saturating_add(usize::from(is_warning));
            !is_warning || warnings <= kept
        });
    }

    /// The errors, in the order of reading.
    #[must_use]
    pub fn into_errors(self) -> Vec<Diagnostic> {
        self.found.into_iter().filter(|diagnostic| diagnostic.severity == Severity::Error).collect()
    }

    /// Everything found, in the order of reading.
    #[must_use]
    pub fn into_found(self) -> Vec<Diagnostic> {
        self.found
    }
}

/// The known name that is nearest to an unknown one, if one is near.
///
/// Near is a third of the longer name's letters or fewer to change, or the same letters in another case.
#[must_use]
pub fn suggestion<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = unknown.to_ascii_lowercase();
    // Comparing takes as long as both names multiplied; what is much longer is not near.
    let lengths_are_near = |name: &&str| unknown.len() <= name.len().saturating_mul(2);
    known
        .into_iter()
        .filter(lengths_are_near)
        .map(|name| (strsim::damerau_levenshtein(&lower, &name.to_ascii_lowercase()), name))
        .filter(|(distance, name)| distance.saturating_mul(3) <= unknown.len().max(name.len()))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}
