//! Findings as workflow commands of GitHub Actions, which shows them at their lines in a pull request.

use std::fmt::Write as _;

use mesh_authz::document::Span;

use crate::load::finding::{Finding, Severity};

/// Writes a line for each finding: `::error file=…,line=…::…`.
pub fn annotations(findings: &[Finding], out: &mut String) {
    for finding in findings {
        let command = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let _infallible = write!(out, "::{command} file={}", property(&finding.file().display().to_string()));
        if let Some(Span { start, end }) = finding.span {
            let _infallible = write!(out, ",line={},endLine={}", start.line, end.line);
            // GitHub takes columns only within one line.
            if start.line == end.line {
                let _infallible = write!(out, ",col={},endColumn={}", start.column, end.column);
            }
        }
        let title = finding.code.map_or("mesh-authz".to_owned(), |code| format!("mesh-authz {code}"));
        let _infallible = writeln!(out, ",title={}::{}", property(&title), data(&finding.diagnostic.to_string()));
    }
}

/// A message: GitHub reads a command up to the end of its line.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
