//! What was found in files: mistakes, and what is probably not meant, each with its place.
//!
//! A [`Diagnostic`] knows the field; a [`Finding`] knows the file and the line too, how bad it is, and which other places
//! have to do with it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use mesh_authz::diagnostic::Diagnostic;
use mesh_authz::document::{Node, Position, Span};

/// A text that was read.
#[derive(Debug)]
pub struct SourceText {
    /// The file; `-` for standard input.
    pub file: PathBuf,
    /// What it holds.
    pub text: String,
    /// Where each line begins, once somebody has asked.
    lines: OnceLock<Vec<usize>>,
    /// Whether a column is a byte, likewise.
    is_ascii: OnceLock<bool>,
}

impl SourceText {
    /// This text of this file.
    #[must_use]
    pub fn new(file: PathBuf, text: String) -> Self {
        Self { file, text, lines: OnceLock::new(), is_ascii: OnceLock::new() }
    }

    /// Whether each of its characters is one byte.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        *self.is_ascii.get_or_init(|| self.text.is_ascii())
    }

    /// A line of it, counted from 1, without its end.
    #[must_use]
    pub fn line(&self, number: u32) -> Option<&str> {
        let lines = self.lines.get_or_init(|| {
            let behind = self.text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at.saturating_add(1));
            std::iter::once(0).chain(behind).collect()
        });
        let start = *lines.get(usize::try_from(number).ok()?.checked_sub(1)?)?;
        self.text.get(start..)?.lines().next()
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The input is refused as a whole.
    Error,
    /// The input is accepted and probably not what its author meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// Something wrong or doubtful in a file; prints as `FILE:LINE:COLUMN: …`.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The file.
    pub source: Arc<SourceText>,
    /// Where in it.
    pub span: Option<Span>,
    /// How bad.
    pub severity: Severity,
    /// The code of the lint, if one found it.
    pub code: Option<&'static str>,
    /// What.
    pub diagnostic: Diagnostic,
    /// Other places that have to do with it.
    pub related: Vec<Related>,
}

/// A place that a finding speaks of.
#[derive(Clone, Debug)]
pub struct Related {
    /// The file.
    pub source: Arc<SourceText>,
    /// Where in it.
    pub span: Option<Span>,
    /// What is there.
    pub message: String,
}

impl Finding {
    /// A mistake in a document of this source.
    #[must_use]
    pub fn error(source: &Arc<SourceText>, node: &Node, diagnostic: Diagnostic) -> Self {
        Self {
            source: Arc::clone(source),
            span: node.locate(&diagnostic.path, diagnostic.part),
            severity: Severity::Error,
            code: None,
            diagnostic,
            related: Vec::new(),
        }
    }

    /// What is wrong, without what to do about it: `POLICY: PATH: MESSAGE`.
    #[must_use]
    pub fn statement(&self) -> Diagnostic {
        Diagnostic { hint: None, ..self.diagnostic.clone() }
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.source.file
    }

    /// What findings are sorted by: the file, the place, then what is said.
    #[must_use]
    pub fn order(&self) -> impl Ord + '_ {
        (self.file(), self.span.map(|span| span.start), self.severity, self.code, &self.diagnostic.message)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file().display())?;
        if let Some(Span { start: Position { line, column }, .. }) = self.span {
            write!(f, "{line}:{column}:")?;
        }
        match (self.severity, self.code) {
            (Severity::Error, None) => {}
            (severity, None) => write!(f, " {severity}:")?,
            (severity, Some(code)) => write!(f, " {severity} {code}:")?,
        }
        write!(f, " {}", self.diagnostic)
    }
}
