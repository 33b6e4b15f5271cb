//! Findings in files: mistakes and likely mistakes, each with its place.
//!
//! A [`Diagnostic`] knows the field. A [`Finding`] also knows the file, the line, the severity, and other places that
//! are related to it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use mesh_authz::diagnostic::Diagnostic;
use mesh_authz::document::{Node, Position, Span};

use super::InputError;

/// A text, and the file that it was read from.
#[derive(Debug)]
pub struct SourceText {
    /// The file; `-` for standard input.
    pub file: PathBuf,
    pub text: String,
    /// The byte at which each line begins; computed at the first use.
    lines: OnceLock<Vec<usize>>,
    /// Whether each character is one byte; computed at the first use.
    is_ascii: OnceLock<bool>,
}

impl SourceText {
    #[must_use]
    pub fn new(file: PathBuf, mut text: String) -> Self {
        // It says how the file is encoded, and is no part of its text.
        if text.starts_with('\u{feff}') {
            text.drain(..'\u{feff}'.len_utf8());
        }
        Self { file, text, lines: OnceLock::new(), is_ascii: OnceLock::new() }
    }

    /// Whether each character of the text is one byte.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        *self.is_ascii.get_or_init(|| self.text.is_ascii())
    }

    /// A line of the text, without its line break. Lines are counted from 1.
    #[must_use]
    pub fn line(&self, number: u32) -> Option<&str> {
        let lines = self.lines.get_or_init(|| {
            let behind = self.text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at.saturating_add(1));
            std::iter::once(0).chain(behind).collect()
        });
        let start = *lines.get(usize::try_from(number).ok()?.checked_sub(1)?)?;
        self.text.get(start..)?.lines().next()
    }

    /// The text of a range that is in one line.
    #[must_use]
    pub fn in_one_line(&self, Span { start, end }: Span) -> Option<&str> {
        let line = self.line(start.line).filter(|_| start.line == end.line)?;
        let byte = |column: u32| {
            let characters = usize::try_from(column).ok()?.checked_sub(1)?;
            let mut places = line.char_indices().map(|(at, _)| at).chain([line.len()]);
            places.nth(characters)
        };
        line.get(byte(start.column)?..byte(end.column)?)
    }
}

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The input is refused as a whole.
    Error,
    /// The input is accepted, but probably not what its author meant.
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

/// A mistake or a likely mistake in a file. It prints as `FILE:LINE:COLUMN: …`.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The file, with its text.
    pub source: Arc<SourceText>,
    /// The place in the file; `None` if it is not known.
    pub span: Option<Span>,
    pub severity: Severity,
    /// The code of the lint, if a lint found it.
    pub code: Option<&'static str>,
    /// The field, what is wrong with it, and the hint.
    pub diagnostic: Diagnostic,
    /// Other places that are related to it.
    pub related: Vec<Related>,
}

/// Another place that a finding mentions.
#[derive(Clone, Debug)]
pub struct Related {
    /// The file, with its text.
    pub source: Arc<SourceText>,
    /// The place in the file; `None` if it is not known.
    pub span: Option<Span>,
    /// What is at this place.
    pub message: String,
}

impl Finding {
    /// An error in a document of this source.
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

    /// The error that a file cannot be read.
    #[must_use]
    pub fn unreadable(error: InputError) -> Self {
        let InputError { file, message } = error;
        Self {
            source: Arc::new(SourceText::new(file, String::new())),
            span: None,
            severity: Severity::Error,
            code: None,
            diagnostic: Diagnostic { message: format!("cannot be read: {message}"), ..Diagnostic::default() },
            related: Vec::new(),
        }
    }

    /// The finding without its hint; prints as `policy POLICY: PATH: MESSAGE`.
    #[must_use]
    pub fn statement(&self) -> Diagnostic {
        Diagnostic { hint: None, ..self.diagnostic.clone() }
    }

    /// The path of the file; `-` for standard input.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.source.file
    }

    /// The sort key of findings: file, place, severity, code, message.
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
