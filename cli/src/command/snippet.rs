//! Writes findings for people: what is wrong and where, the line with a marker under the field, and the hint.

use std::fmt::Write as _;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Element, Group, Level, Renderer, Snippet};
use anstyle::{AnsiColor, Style};
use mesh_authz::document::Span;

use crate::load::finding::{Finding, Severity, SourceText};

const BOLD: Style = Style::new().bold();

/// Writes a finding: the line `FILE:LINE:COLUMN: …`, and below it the marked source lines and the hint.
pub fn finding(finding: &Finding, out: &mut String) {
    let color = match finding.severity {
        Severity::Error => AnsiColor::BrightRed,
        Severity::Warning => AnsiColor::Yellow,
    };
    let style = color.on_default().bold();
    let code = finding.code.map_or_else(String::new, |code| format!(" {code}"));
    let kind = match (finding.severity, finding.code) {
        // Scripts read this form of an error: it has no severity and no code before the message.
        (Severity::Error, None) => String::new(),
        (severity, _) => format!("{style}{severity}{code}:{style:#} "),
    };
    let place = place(&finding.source, finding.span);
    let _infallible = writeln!(out, "{BOLD}{place}:{BOLD:#} {kind}{}", printable(&finding.statement().to_string()));
    let snippet = |source, span, kind, label, path| snippet(source, span, kind, label, path).map(Element::from);
    let mut elements: Vec<Element<'_>> = Vec::new();
    elements.extend(finding.span.and_then(|span| snippet(&finding.source, span, AnnotationKind::Primary, None, false)));
    for related in &finding.related {
        let label = Some(related.message.as_str());
        let element =
            related.span.and_then(|span| snippet(&related.source, span, AnnotationKind::Primary, label, true));
        elements.extend(element);
    }
    let hint = finding.diagnostic.hint.as_deref().map(printable);
    elements.extend(hint.as_ref().map(|hint| Level::HELP.message(hint).into()));
    if elements.is_empty() {
        return;
    }
    let level = match finding.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let rendered = Renderer::styled().render(&[Group::with_level(level).elements(elements)]);
    let _infallible = writeln!(out, "{rendered}\n");
}

/// Writes a line of a file, with a marker under a part of it.
pub fn excerpt(source: &SourceText, span: Span, out: &mut String) {
    if let Some(snippet) = snippet(source, span, AnnotationKind::Primary, None, false) {
        let rendered = Renderer::styled().render(&[Group::with_level(Level::NOTE).element(snippet)]);
        let _infallible = writeln!(out, "{rendered}");
    }
}

/// `FILE:LINE:COLUMN`.
pub fn place(source: &SourceText, span: Option<Span>) -> String {
    let file = printable(&source.file.display().to_string());
    match span {
        Some(Span { start, .. }) => format!("{file}:{}:{}", start.line, start.column),
        None => file,
    }
}

/// The first line of a span. The renderer gets only this line, because it would search the whole text for it every
/// time.
fn snippet<'s>(
    source: &'s SourceText,
    span: Span,
    kind: AnnotationKind,
    label: Option<&'s str>,
    with_path: bool,
) -> Option<Snippet<'s, annotate_snippets::Annotation<'s>>> {
    let line = source.line(span.start.line)?;
    let offset = |column: u32| {
        let characters = usize::try_from(column).unwrap_or(usize::MAX).saturating_sub(1);
        if source.is_ascii() {
            return characters.min(line.len());
        }
        line.char_indices().nth(characters).map_or(line.len(), |(at, _)| at)
    };
    let start = offset(span.start.column);
    let end = if span.end.line == span.start.line { offset(span.end.column) } else { line.trim_end().len() };
    let (line, range) = window(line, start..end.max(start))?;
    let annotation = kind.span(range).label(label);
    let number = usize::try_from(span.start.line).unwrap_or(usize::MAX);
    let snippet = Snippet::source(line).line_start(number).annotation(annotation);
    Some(if with_path { snippet.path(source.file.display().to_string()) } else { snippet })
}

/// Cuts a line to the text around a part of it, because a line can be as long as a whole file.
fn window(line: &str, part: Range<usize>) -> Option<(&str, Range<usize>)> {
    const AROUND: usize = 160;
    let end = part.end.min(part.start.saturating_add(AROUND));
    let mut from = part.start.saturating_sub(AROUND);
    let mut to = end.saturating_add(AROUND).min(line.len());
    while !line.is_char_boundary(from) {
        from = from.saturating_sub(1);
    }
    while !line.is_char_boundary(to) {
        to = to.saturating_add(1);
    }
    let end = (end..=to).find(|at| line.is_char_boundary(*at))?;
    Some((line.get(from..to)?, part.start.saturating_sub(from)..end.saturating_sub(from)))
}

/// Text from a file, made safe for a terminal: control characters are escaped, and those that change the order of others.
pub fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || is_about_order(character) {
            printable.extend(character.escape_default());
        } else {
            printable.push(character);
        }
    }
    printable
}

/// Whether a character changes the order, or the line, in which others are shown.
fn is_about_order(character: char) -> bool {
    matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
