//! A value of a configuration, with its place in a file.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use mesh_authz::diagnostic::{Diagnostic, Part, Path, Segment};
use mesh_authz::document::{Node, Value};

use super::catalogue::EnvoyCheck;
use crate::load::finding::{Finding, Related, Severity, SourceText};

/// A value of a configuration, with its place in a file.
#[derive(Clone, Debug)]
pub struct Place<'c> {
    pub source: &'c Arc<SourceText>,
    document: &'c Node,
    pub node: &'c Node,
    /// The way to the value. `None`: it is the whole document.
    way: Option<Rc<Step<'c>>>,
}

/// A step on the way to a value, from the value around it.
#[derive(Debug)]
struct Step<'c> {
    key: Key<'c>,
    before: Option<Rc<Step<'c>>>,
}

#[derive(Clone, Copy, Debug)]
enum Key<'c> {
    Field(&'c str),
    Index(usize),
}

impl<'c> Place<'c> {
    /// The whole document.
    pub fn document(source: &'c Arc<SourceText>, document: &'c Node) -> Self {
        Self { source, document, node: document, way: None }
    }

    fn child(&self, key: Key<'c>, node: &'c Node) -> Self {
        Self { node, way: Some(Rc::new(Step { key, before: self.way.clone() })), ..*self }
    }

    /// A field, by its name in `snake_case`. A configuration can also have it in `lowerCamelCase`. If it is there twice, which is an
    /// error of its own, the last one counts. A field that is null counts as missing.
    pub fn get(&self, name: &str) -> Option<Self> {
        let Value::Map(fields) = &self.node.value else { return None };
        let (key, node) = fields.iter().rfind(|(key, _)| key == name || snake_case(key) == name)?;
        (!node.is_null()).then(|| self.child(Key::Field(key), node))
    }

    /// A field of a field of this value, and so on.
    pub fn at<const N: usize>(&self, names: [&str; N]) -> Option<Self> {
        names.into_iter().try_fold(self.clone(), |place, name| place.get(name))
    }

    /// The items of a list. If there is no list, there are none. Where there is only one item, Envoy takes it without its list.
    pub fn items(&self, name: &str) -> Vec<Self> {
        self.get(name).map(|list| list.elements()).unwrap_or_default()
    }

    fn elements(&self) -> Vec<Self> {
        match &self.node.value {
            Value::List(items) => {
                items.iter().enumerate().map(|(index, node)| self.child(Key::Index(index), node)).collect()
            }
            Value::Null => Vec::new(),
            _ => vec![self.clone()],
        }
    }

    /// The fields of a map, with their names as they are written.
    pub fn fields(&self) -> impl Iterator<Item = (&'c str, Self)> + use<'_, 'c> {
        let fields: &'c [(String, Node)] = match &self.node.value {
            Value::Map(fields) => fields,
            _ => &[],
        };
        fields.iter().map(|(key, node)| (key.as_str(), self.child(Key::Field(key), node)))
    }

    /// The fields of a map, or the items of a list. The names are in `snake_case`. Items have none, and neither have fields whose
    /// names a user chooses.
    pub fn children(&self) -> impl Iterator<Item = (Cow<'c, str>, Self)> + use<'_, 'c> {
        let is_free = self.has_free_names();
        let items: &'c [Node] = match &self.node.value {
            Value::List(items) => items,
            _ => &[],
        };
        let items = items.iter().enumerate();
        let items = items.map(|(index, node)| (Cow::Borrowed(""), self.child(Key::Index(index), node)));
        let name = move |name: &'c str| if is_free { Cow::Borrowed("") } else { snake_case(name) };
        items.chain(self.fields().map(move |(written, field)| (name(written), field)))
    }

    /// Whether the names of the fields are no fields of a message.
    fn has_free_names(&self) -> bool {
        match self.way.as_ref().map(|step| step.key) {
            Some(Key::Field(name)) => has_free_names(name),
            _ => false,
        }
    }

    /// The text of a field.
    pub fn text(&self, name: &str) -> Option<&'c str> {
        self.get(name)?.node.as_str()
    }

    /// Whether a field is `true`, in one of the forms that Envoy takes.
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|field| match &field.node.value {
            Value::Bool(is_true) => *is_true,
            Value::String(text) => text == "true",
            _ => field.get("value").is_some_and(|value| value.node.value == Value::Bool(true)),
        })
    }

    /// The number in a field; 0 if there is none.
    pub fn number(&self, name: &str) -> f64 {
        match self.get(name).map(|field| &field.node.value) {
            Some(Value::Number(number)) => *number,
            // protobuf takes a number as a text, too.
            Some(Value::String(text)) => text.parse().unwrap_or_default(),
            _ => 0.0,
        }
    }

    /// Whether this is a value of an enumeration, by its name or its number. Envoy takes the name in lower case, and the number as a
    /// text, too.
    pub fn is_value(&self, name: &str, number: f64) -> bool {
        match &self.node.value {
            Value::String(text) => text.eq_ignore_ascii_case(name) || text.parse() == Ok(number),
            value => *value == Value::Number(number),
        }
    }

    /// The name of the message that this is, by `@type`, without what precedes its last slash.
    pub fn message_type(&self) -> &'c str {
        last_part(self.node.get("@type").and_then(Node::as_str).unwrap_or_default())
    }

    /// The message that this is, with its name. A `TypedStruct` counts as what is in it.
    pub fn message(&self) -> (&'c str, Self) {
        match self.message_type() {
            "xds.type.v3.TypedStruct" | "udpa.type.v1.TypedStruct" => {
                let name = last_part(self.text("type_url").unwrap_or_default());
                (name, self.get("value").unwrap_or_else(|| self.clone()))
            }
            name => (name, self.clone()),
        }
    }

    /// The configuration of an extension, with the name of its message.
    pub fn typed_config(&self) -> Option<(&'c str, Self)> {
        self.get("typed_config").map(|config| config.message())
    }

    /// A finding at this place.
    pub fn report(
        &self,
        severity: Severity,
        check: &EnvoyCheck,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Finding {
        let diagnostic =
            Diagnostic { path: self.path(), message: message.into(), hint: Some(hint.into()), ..Diagnostic::default() };
        Finding { severity, code: Some(check.code), ..Finding::error(self.source, self.document, diagnostic) }
    }

    /// An error at this place.
    pub fn error(&self, check: &EnvoyCheck, message: impl Into<String>, hint: impl Into<String>) -> Finding {
        self.report(Severity::Error, check, message, hint)
    }

    /// A warning at this place.
    pub fn warning(&self, check: &EnvoyCheck, message: impl Into<String>, hint: impl Into<String>) -> Finding {
        self.report(Severity::Warning, check, message, hint)
    }

    /// A mistake within this value, whose path begins here.
    pub fn within(&self, check: &EnvoyCheck, diagnostic: Diagnostic) -> Finding {
        let path = Path(self.path().0.into_iter().chain(diagnostic.path.0).collect());
        let diagnostic = Diagnostic { path, ..diagnostic };
        Finding { code: Some(check.code), ..Finding::error(self.source, self.document, diagnostic) }
    }

    /// Mentions this place in another finding.
    pub fn related(&self, message: impl Into<String>) -> Related {
        let span = self.document.locate(&self.path(), Part::Value);
        Related { source: Arc::clone(self.source), span, message: message.into() }
    }

    fn path(&self) -> Path {
        let mut segments = Vec::new();
        let mut step = self.way.as_ref();
        while let Some(Step { key, before }) = step.map(Rc::as_ref) {
            segments.push(match key {
                Key::Field(name) => Segment::Field((*name).to_owned()),
                Key::Index(index) => Segment::Index(*index),
            });
            step = before.as_ref();
        }
        segments.reverse();
        Path(segments)
    }
}

/// Whether the value of this field is a map whose keys a user chooses.
pub fn has_free_names(field: &str) -> bool {
    const FREE: [&str; 10] = [
        "map",
        "providers",
        "requirement_map",
        "typed_per_filter_config",
        "filter_metadata",
        "typed_filter_metadata",
        "typed_extension_protocol_options",
        "metadata",
        "labels",
        "static_layer",
    ];
    FREE.contains(&&*snake_case(field))
}

/// Whether two values are the same, wherever they are.
pub fn is_same(one: &Node, other: &Node) -> bool {
    match (&one.value, &other.value) {
        (Value::List(one), Value::List(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Map(one), Value::Map(other)) => {
            let is_same = |((name, one), (other_name, other)): (&(String, Node), &(String, Node))| {
                name == other_name && is_same(one, other)
            };
            one.len() == other.len() && one.iter().zip(other).all(is_same)
        }
        (one, other) => one == other,
    }
}

/// What comes behind the last slash of a type's URL.
pub fn last_part(type_url: &str) -> &str {
    type_url.rsplit('/').next().unwrap_or_default()
}

/// The name of a field in `snake_case`.
pub fn snake_case(name: &str) -> Cow<'_, str> {
    if !name.contains(|c: char| c.is_ascii_uppercase()) {
        return Cow::Borrowed(name);
    }
    let mut snake = String::with_capacity(name.len().saturating_add(4));
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    Cow::Owned(snake)
}
