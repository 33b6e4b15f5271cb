//! A value of a configuration, with its place in a file.

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
    path: Path,
}

impl<'c> Place<'c> {
    /// The whole document.
    pub fn document(source: &'c Arc<SourceText>, document: &'c Node) -> Self {
        Self { source, document, node: document, path: Path::default() }
    }

    /// A field. Its name is in `snake_case`; a configuration may also have it in `lowerCamelCase`. A field that is null counts
    /// as missing, as in protobuf.
    pub fn get(&self, name: &str) -> Option<Self> {
        let camel = camel_case(name);
        let (name, node) = [name, &camel].into_iter().find_map(|name| Some((name, self.node.get(name)?)))?;
        (!node.is_null()).then(|| Self { node, path: self.path.with(name), ..self.clone() })
    }

    /// A field of a field of this value, and so on.
    pub fn at<const N: usize>(&self, names: [&str; N]) -> Option<Self> {
        names.into_iter().try_fold(self.clone(), |place, name| place.get(name))
    }

    /// The items of a list. If there is no list, there are none.
    pub fn items(&self, name: &str) -> Vec<Self> {
        self.get(name).map(|list| list.elements()).unwrap_or_default()
    }

    fn elements(&self) -> Vec<Self> {
        let Value::List(items) = &self.node.value else { return Vec::new() };
        let place = |(index, node)| {
            let mut path = self.path.clone();
            path.0.push(Segment::Index(index));
            Self { node, path, ..self.clone() }
        };
        items.iter().enumerate().map(place).collect()
    }

    /// The fields of a map.
    pub fn fields(&self) -> Vec<(&'c str, Self)> {
        let Value::Map(fields) = &self.node.value else { return Vec::new() };
        let place = |(name, node): &'c (String, Node)| {
            (name.as_str(), Self { node, path: self.path.with(name), ..self.clone() })
        };
        fields.iter().map(place).collect()
    }

    /// The fields of a map, or the items of a list.
    pub fn children(&self) -> Vec<(&'c str, Self)> {
        match &self.node.value {
            Value::List(_) => self.elements().into_iter().map(|item| ("", item)).collect(),
            _ => self.fields(),
        }
    }

    /// The text of a field.
    pub fn text(&self, name: &str) -> Option<&'c str> {
        self.get(name)?.node.as_str()
    }

    /// Whether a field is `true`.
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|field| field.node.value == Value::Bool(true))
    }

    /// The number in a field; 0 if there is none.
    pub fn number(&self, name: &str) -> f64 {
        match self.get(name).map(|field| &field.node.value) {
            Some(Value::Number(number)) => *number,
            _ => 0.0,
        }
    }

    /// The name of the message that this is, by `@type`, without what precedes its last slash.
    pub fn message_type(&self) -> &'c str {
        last_part(self.node.get("@type").and_then(Node::as_str).unwrap_or_default())
    }

    /// The configuration of an extension, with the name of its message. A `TypedStruct` counts as what is in it.
    pub fn typed_config(&self) -> Option<(&'c str, Self)> {
        let config = self.get("typed_config")?;
        match config.message_type() {
            "xds.type.v3.TypedStruct" | "udpa.type.v1.TypedStruct" => {
                Some((last_part(config.text("type_url").unwrap_or_default()), config.get("value")?))
            }
            name => Some((name, config)),
        }
    }

    /// The name of the message of an extension's configuration.
    pub fn extension_type(&self) -> &'c str {
        self.typed_config().map(|(name, _)| name).unwrap_or_default()
    }

    /// An error at this place.
    pub fn error(&self, check: &EnvoyCheck, message: impl Into<String>, hint: impl Into<String>) -> Finding {
        self.finding(Severity::Error, check, message.into(), hint.into())
    }

    /// A warning at this place.
    pub fn warning(&self, check: &EnvoyCheck, message: impl Into<String>, hint: impl Into<String>) -> Finding {
        self.finding(Severity::Warning, check, message.into(), hint.into())
    }

    fn finding(&self, severity: Severity, check: &EnvoyCheck, message: String, hint: String) -> Finding {
        let diagnostic = Diagnostic { path: self.path.clone(), message, hint: Some(hint), ..Diagnostic::default() };
        Finding { severity, code: Some(check.code), ..Finding::error(self.source, self.document, diagnostic) }
    }

    /// A mistake within this value, whose path begins here.
    pub fn within(&self, check: &EnvoyCheck, diagnostic: Diagnostic) -> Finding {
        let path = Path(self.path.0.iter().cloned().chain(diagnostic.path.0).collect());
        let diagnostic = Diagnostic { path, ..diagnostic };
        Finding { code: Some(check.code), ..Finding::error(self.source, self.document, diagnostic) }
    }

    /// Mentions this place in another finding.
    pub fn related(&self, message: impl Into<String>) -> Related {
        let span = self.document.locate(&self.path, Part::Value);
        Related { source: Arc::clone(self.source), span, message: message.into() }
    }
}

fn last_part(type_url: &str) -> &str {
    type_url.rsplit('/').next().unwrap_or_default()
}

fn camel_case(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    for (index, word) in name.split('_').enumerate() {
        let mut letters = word.chars();
        match letters.next() {
            Some(first) if index > 0 => camel.push(first.to_ascii_uppercase()),
            first => camel.extend(first),
        }
        camel.push_str(letters.as_str());
    }
    camel
}
