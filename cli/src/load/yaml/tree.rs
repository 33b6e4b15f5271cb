//! Makes a tree of a YAML document.

use std::collections::HashMap;

use mesh_authz::document::{Node, Place, Position, Span, Value};

use super::entries::{Entries, NoMaps};
use super::events::{Event, Events, Located, NotYaml, Style};
use super::quoted::Quoted;
use super::scalar::{self, Scalar};
use super::{Lines, YamlError, cause};

/// Deepest nesting of lists and maps, the same as in `serde_json`.
const DEEPEST: usize = 128;

/// Largest size of one document with its aliases expanded. The size is the bytes of all scalars, and `BYTES_OF_A_VALUE` for
/// each value.
const MOST_BYTES: usize = 256 << 20;
const BYTES_OF_A_VALUE: usize = 64;

/// kubectl refuses a document of which more than this share are values of aliases.
const MOST_ALIASED: f64 = 0.99;
/// The values and keys of a document up to which that is its share, and from which on the share is the lowest.
const FEW_VALUES: f64 = 400_000.0;
const MANY_VALUES: f64 = 4_000_000.0;
const LEAST_ALIASED: f64 = 0.10;

/// The document in a text. `None` if it is empty.
pub fn document(text: &str, lines: &Lines<'_>) -> Result<Option<Node>, YamlError> {
    let mut quoted = Quoted::new(text);
    loop {
        let mut builder = Builder::new(&quoted, lines);
        let built = builder.build();
        let Builder { quoted_ends, root, .. } = &mut builder;
        match built {
            Ok(()) => {
                let wrong = quoted.wrong_guesses(quoted_ends, usize::MAX);
                if wrong.is_empty() {
                    return Ok(root.take().filter(|node| node.value != Value::Null));
                }
                quoted = quoted.without(&wrong);
            }
            Err(Mistake::Scanner(error)) => {
                let before = if quoted.takes_no_colon(&error).is_some() { error.at } else { usize::MAX };
                let wrong = quoted.wrong_guesses(quoted_ends, before);
                let next = if wrong.is_empty() { quoted.with(&error) } else { Some(quoted.without(&wrong)) };
                quoted = next.ok_or_else(|| builder.not_yaml(error))?;
            }
            Err(Mistake::Meaning(error)) => {
                let wrong = quoted.wrong_guesses(quoted_ends, usize::MAX);
                if wrong.is_empty() {
                    return Err(error);
                }
                quoted = quoted.without(&wrong);
            }
        }
    }
}

/// What the scanner says of text after a document.
const NO_DOCUMENT: &str = "did not find expected <document start>";

/// Why there is no tree.
enum Mistake {
    Scanner(NotYaml),
    Meaning(YamlError),
}

impl From<YamlError> for Mistake {
    fn from(error: YamlError) -> Self {
        Self::Meaning(error)
    }
}

/// Bytes of the text, counted from 0.
#[derive(Clone, Copy)]
struct Range {
    start: usize,
    end: usize,
}

/// Whether the text in double quotes has the escape `\/`.
fn has_escaped_slash(text: &str) -> bool {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\\' && chars.next() == Some('/') {
            return true;
        }
    }
    false
}

/// A list or a map that is not complete yet.
struct Open {
    container: Container,
    anchor: Option<String>,
    is_flow: bool,
    start: usize,
    /// The end of what was read last in it.
    end: usize,
}

enum Container {
    List(Vec<Node>),
    /// The complete entries, and a key whose value is not read yet.
    Map(Entries, Option<Key>),
}

struct Key {
    text: String,
    place: Span,
    /// `<<` without quotes: the entries of its value belong to this map.
    is_merge: bool,
}

/// A complete value.
#[derive(Clone)]
enum Found {
    Scalar(Scalar, /* whether it is a merge key, if it is a key */ bool),
    Tree(Value),
}

struct Builder<'t> {
    quoted: &'t Quoted<'t>,
    /// The ends of the scalars in single quotes, in the order of the text.
    quoted_ends: Vec<usize>,
    lines: &'t Lines<'t>,
    open: Vec<Open>,
    /// The start of the list or map that was completed last, and the place where that was seen.
    ended: Option<(usize, usize)>,
    /// The values that have an anchor, with the size of each.
    anchors: HashMap<String, (Found, usize)>,
    size: usize,
    /// The values and keys so far, and how many of them are values of aliases.
    values: usize,
    aliased: usize,
    root: Option<Node>,
    /// Whether the document is complete. Kubernetes does not read on.
    is_complete: bool,
}

impl<'t> Builder<'t> {
    fn new(quoted: &'t Quoted<'t>, lines: &'t Lines<'t>) -> Self {
        Self {
            quoted,
            quoted_ends: Vec::new(),
            lines,
            open: Vec::new(),
            ended: None,
            anchors: HashMap::new(),
            size: 0,
            values: 0,
            aliased: 0,
            root: None,
            is_complete: false,
        }
    }

    fn build(&mut self) -> Result<(), Mistake> {
        let mut events = Events::of(self.quoted.text());
        let mut is_begun = false;
        loop {
            let Located { event, start, end } = events.next().map_err(Mistake::Scanner)?;
            let place = Range { start, end };
            match event {
                Event::StreamStart => {}
                Event::DocumentEnd => self.is_complete = true,
                Event::StreamEnd => return Ok(()),
                Event::DocumentStart if is_begun => {
                    let error =
                        self.error(place, "this does not belong to the document before it, and kubectl ignores it");
                    return Err(YamlError { hint: Some("begin the next document with a line `---`"), ..error }.into());
                }
                Event::DocumentStart => is_begun = true,
                Event::Alias(name) => self.alias(&name, place)?,
                Event::Scalar { text, style, anchor, tag } => {
                    if style == Style::DoubleQuoted && self.quoted.text().get(start..end).is_some_and(has_escaped_slash)
                    {
                        let error = self.error(place, "in YAML, Kubernetes does not know the escape `\\/`");
                        return Err(YamlError { hint: Some("write `/`"), ..error }.into());
                    }
                    if style == Style::Other {
                        self.quoted_ends.push(end);
                    }
                    self.scalar(text, style == Style::Plain, anchor, tag.as_deref(), place)?;
                }
                Event::ListStart { anchor, is_flow } => {
                    self.start(Container::List(Vec::new()), anchor, is_flow, place)?
                }
                Event::MapStart { anchor, is_flow } => {
                    self.start(Container::Map(Entries::default(), None), anchor, is_flow, place)?;
                }
                Event::ListEnd | Event::MapEnd => self.end(place)?,
            }
        }
    }

    fn position(&self, at: usize) -> Position {
        self.lines.position(self.quoted.original(at))
    }

    fn span(&self, place: Range) -> Span {
        Span { start: self.position(place.start), end: self.position(place.end) }
    }

    fn error(&self, place: Range, message: impl Into<String>) -> YamlError {
        YamlError { message: message.into(), ..YamlError::at(self.position(place.start)) }
    }

    /// Makes the error for a text that the scanner does not understand. It names the list or map that the text does not
    /// fit into. That is the outermost one that begins further to the right than the text, whether it is complete or
    /// not. If there is none, it is the innermost one that contains the text. The mistake is often at its start.
    fn not_yaml(&self, error: NotYaml) -> YamlError {
        let NotYaml { mut message, at, within } = error;
        if self.is_complete {
            NO_DOCUMENT.clone_into(&mut message);
        }
        if message == "while scanning a quoted scalar, found unexpected end of stream" {
            return YamlError {
                message: "the quote that begins here has no end".to_owned(),
                hint: Some("close it; two single quotes, or `\\\"` in double quotes, are a quote in the text"),
                ..YamlError::at(self.position(within))
            };
        }
        let position = self.position(at);
        let c = self.quoted.text().get(at..).and_then(|rest| rest.chars().next());
        if let Some((message, hint)) = cause::mistake(&message, c) {
            return YamlError { message: message.to_owned(), hint: Some(hint), ..YamlError::at(position) };
        }
        let start = |open: &Open| self.position(open.start);
        let ended = self.ended.map(|(start, seen)| (self.position(start), seen));
        let ended = ended.filter(|(start, seen)| *seen == at && start.column > position.column);
        // For a list, the same column counts too: the dash of its next item may be missing.
        let is_right = |open: &&Open| match open.container {
            Container::List(_) => start(open).column >= position.column,
            Container::Map(..) => start(open).column > position.column,
        };
        let outermost = self.open.iter().find(is_right).map(start);
        let within = outermost.or(ended.map(|(start, _)| start)).or(self.open.last().map(start));
        let mut hint = within.map(|_| "what belongs together begins in the same column");
        if message == NO_DOCUMENT {
            "this does not belong to the document before it, and kubectl ignores it".clone_into(&mut message);
            hint = hint.or(Some("begin the next document with a line `---`"));
        }
        YamlError { message, hint, within, ..YamlError::at(position) }
    }

    fn alias(&mut self, name: &str, place: Range) -> Result<(), YamlError> {
        if let Some((Found::Tree(value), _)) = self.anchors.get(name) {
            let values = count(value);
            self.values = self.values.saturating_add(values);
            self.aliased = self.aliased.saturating_add(values);
            if self.has_too_many_aliases() {
                return Err(self.error(place, "the document has so many aliases that kubectl refuses it"));
            }
        }
        match self.anchors.get(name).cloned() {
            // An alias of `<<` is a key like any other.
            Some((Found::Scalar(scalar, _), size)) => self.add(Found::Scalar(scalar, false), None, size, place),
            Some((tree @ Found::Tree(_), size)) => self.add(tree, None, size, place),
            None => Err(self.error(place, "the alias names no anchor that is complete")),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a document has not that many values")]
    fn has_too_many_aliases(&self) -> bool {
        let (values, aliased) = (self.values as f64, self.aliased as f64);
        let part = ((values - FEW_VALUES) / (MANY_VALUES - FEW_VALUES)).clamp(0.0, 1.0);
        let most = MOST_ALIASED - (MOST_ALIASED - LEAST_ALIASED) * part;
        self.aliased > 100 && self.values > 1000 && aliased / values > most
    }

    fn scalar(
        &mut self,
        text: String,
        is_plain: bool,
        anchor: Option<String>,
        tag: Option<&str>,
        place: Range,
    ) -> Result<(), YamlError> {
        let is_in_flow = self.open.last().is_some_and(|open| open.is_flow);
        if is_plain && is_in_flow && text.contains('?') {
            return Err(YamlError {
                hint: Some("write it in quotes"),
                ..self.error(place, "Kubernetes takes a `?` between brackets for an indicator, and not for text")
            });
        }
        if tag.is_some() && is_in_flow && !self.has_space_behind_tag(place) {
            return Err(YamlError {
                hint: Some("write a space behind the tag, or the value in quotes without a tag"),
                ..self.error(place, "Kubernetes wants white space behind a tag")
            });
        }
        let is_merge = text == "<<" && (is_plain && tag.is_none() || tag == Some("tag:yaml.org,2002:merge"));
        let size = text.len().saturating_add(BYTES_OF_A_VALUE);
        let scalar = scalar::resolve(text, is_plain, tag).map_err(|message| self.error(place, message))?;
        self.add(Found::Scalar(scalar, is_merge), anchor, size, place)
    }

    /// Whether white space ends the tag of the scalar here.
    fn has_space_behind_tag(&self, place: Range) -> bool {
        let properties = self.quoted.text().get(place.start..).unwrap_or_default();
        let tag = properties.find('!').and_then(|tag| properties.get(tag..)).unwrap_or_default();
        // A tag in angle brackets can have a comma in it.
        let end = match tag.strip_prefix("!<").and_then(|_| tag.find('>')) {
            Some(last) => last.checked_add(1),
            None => tag.find(|c: char| c.is_whitespace() || ",[]{}".contains(c)),
        };
        end.and_then(|end| tag.get(end..)).is_none_or(|behind| behind.starts_with(char::is_whitespace))
    }

    fn start(
        &mut self,
        container: Container,
        anchor: Option<String>,
        is_flow: bool,
        place: Range,
    ) -> Result<(), YamlError> {
        if self.open.len() >= DEEPEST {
            return Err(self.error(place, "nested too deeply"));
        }
        // A pair in a flow list, such as `[a: b]`, is a map without brackets.
        let is_flow = is_flow || self.open.last().is_some_and(|open| open.is_flow);
        self.open.push(Open { container, anchor, is_flow, start: place.start, end: place.end });
        Ok(())
    }

    fn end(&mut self, place: Range) -> Result<(), YamlError> {
        let Some(Open { container, anchor, start, end, .. }) = self.open.pop() else { return Ok(()) };
        // A closing bracket is somewhere. Without one, the end is known only when something else begins.
        let end = if place.start < place.end { place.end } else { end };
        self.ended = Some((start, place.start));
        let value = match container {
            Container::List(items) => Value::List(items),
            Container::Map(entries, _) => Value::Map(entries.into_map()),
        };
        // The content was counted when it was added. An anchored value needs its whole size, for its aliases.
        let size = if anchor.is_none() { BYTES_OF_A_VALUE } else { size(&value) };
        self.add(Found::Tree(value), anchor, size, Range { start, end })
    }

    /// Adds a complete value to the list or map that contains it, or to the documents.
    fn add(&mut self, found: Found, anchor: Option<String>, size: usize, place: Range) -> Result<(), YamlError> {
        self.size = self.size.saturating_add(size);
        self.values = self.values.saturating_add(1);
        if self.size > MOST_BYTES {
            return Err(self.error(place, "too much, with its aliases expanded"));
        }
        let span = self.span(place);
        if let Some(open) = self.open.last_mut() {
            open.end = place.end;
        }
        let is_key = matches!(self.open.last(), Some(Open { container: Container::Map(_, None), .. }));
        if is_key {
            if let Some(anchor) = anchor {
                self.anchors.insert(anchor, (found.clone(), size));
            }
            let key = self.key(found, span, place)?;
            if let Some(Open { container: Container::Map(_, waiting), .. }) = self.open.last_mut() {
                *waiting = Some(key);
            }
            return Ok(());
        }
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, (found.clone(), size));
        }
        let value = match found {
            Found::Tree(value) => value,
            Found::Scalar(scalar, _) => scalar
                .value()
                .ok_or_else(|| self.error(place, "Kubernetes has no such number: write it in quotes if it is text"))?,
        };
        let at = |key| Some(Box::new(Place { key, value: span }));
        match self.open.last_mut().map(|open| &mut open.container) {
            None => self.root = Some(Node { value, place: at(None) }),
            Some(Container::List(items)) => items.push(Node { value, place: at(None) }),
            Some(Container::Map(entries, waiting)) => match waiting.take() {
                Some(Key { is_merge: true, .. }) => entries.merge(value).map_err(|NoMaps| YamlError {
                    hint: Some("write an alias of a map, or a list of such aliases"),
                    ..self.error(place, "a merge key (`<<`) takes a map, or a list of maps")
                })?,
                Some(Key { text, place, .. }) => {
                    entries.add(text, Node { value, place: at(Some(place)) });
                }
                None => {}
            },
        }
        Ok(())
    }

    /// A key. A key is always text, even if it looks like a boolean or a number.
    fn key(&self, found: Found, span: Span, place: Range) -> Result<Key, YamlError> {
        let (text, is_merge) = match found {
            Found::Scalar(scalar, is_merge) => (scalar.key(), is_merge),
            Found::Tree(_) => return Err(self.error(place, "a key must be a string")),
        };
        let text = text.ok_or_else(|| YamlError {
            hint: Some("write it in quotes"),
            ..self.error(place, "a key must be a string, and not null")
        })?;
        Ok(Key { text, place: span, is_merge })
    }
}

/// The number of values and keys in a value, with itself.
fn count(value: &Value) -> usize {
    let inner: usize = match value {
        Value::List(items) => items.iter().map(|item| count(&item.value)).sum(),
        Value::Map(entries) => entries.iter().map(|(_, node)| count(&node.value).saturating_add(1)).sum(),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    };
    inner.saturating_add(1)
}

/// The approximate memory that a value takes, in bytes.
fn size(value: &Value) -> usize {
    let inner: usize = match value {
        Value::List(items) => items.iter().map(|item| size(&item.value)).sum(),
        Value::Map(entries) => entries.iter().map(|(_, node)| size(&node.value)).sum(),
        Value::String(text) => text.len(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    };
    inner.saturating_add(BYTES_OF_A_VALUE)
}
