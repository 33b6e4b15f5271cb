//! The formats of access logs that the input has: in a mesh configuration of Istio, or in the configuration of an Envoy.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use mesh_authz::document::{Node, Value};

use super::format::FormatError;
use super::record::Format;
use crate::load::providers::mesh_configuration;
use crate::load::{Other, Resources, items};

/// The formats, and what else the input says about the logs.
#[derive(Debug, Default)]
pub struct Settings {
    /// The formats, each once.
    pub formats: Vec<Format>,
    /// What is wrong with a format, and where it is.
    pub errors: Vec<String>,
    /// What a reader of the logs has to know.
    pub notes: Vec<String>,
}

/// Istio's Telemetry resources name the providers that log, and have no formats.
const TELEMETRY: &str = "Telemetry";

impl Settings {
    /// What the resources say.
    #[must_use]
    pub fn of(resources: &Resources) -> Self {
        let mut settings = Self::default();
        let named = settings.telemetry(resources);
        for other in &resources.others {
            match mesh_configuration(other) {
                Some((mesh, _)) => settings.mesh(other, &mesh, named.as_ref()),
                None if other.text("kind").is_empty() => settings.envoy(other, &other.node),
                None => {}
            }
        }
        settings
    }

    /// The providers that Telemetry resources name. `None`: no resource names one.
    fn telemetry(&mut self, resources: &Resources) -> Option<BTreeSet<String>> {
        let mut named = BTreeSet::new();
        for other in resources.others.iter().filter(|other| other.text("kind") == TELEMETRY) {
            for logging in items(other.node.get("spec").and_then(|spec| spec.get("accessLogging"))) {
                let providers = items(logging.get("providers")).iter();
                named.extend(providers.filter_map(|provider| provider.get("name")?.as_str().map(str::to_owned)));
                let expression = logging.get("filter").and_then(|filter| filter.get("expression")?.as_str());
                if let Some(expression) = expression {
                    self.notes.push(format!(
                        "{}: only some requests are logged: `{expression}`",
                        other.source.file.display()
                    ));
                }
            }
        }
        (!named.is_empty()).then_some(named)
    }

    fn mesh(&mut self, other: &Other, mesh: &Node, named: Option<&BTreeSet<String>>) {
        let file = other.source.file.display();
        let text = |field: &str| mesh.get(field).and_then(Node::as_str).filter(|text| !text.is_empty());
        let default_providers = items(mesh.get("defaultProviders").and_then(|all| all.get("accessLogging")));
        let defaults: BTreeSet<_> = default_providers.iter().filter_map(Node::as_str).map(str::to_owned).collect();
        let used = named.or(Some(&defaults).filter(|defaults| !defaults.is_empty()));
        let uses = |name: &str| used.is_some_and(|used| used.contains(name));
        // The provider `envoy` is built in, and has these settings too.
        if (used.is_none() && text("accessLogFile").is_some()) || uses("envoy") || text("accessLogFormat").is_some() {
            let is_json = text("accessLogEncoding") == Some("JSON");
            let format = match (text("accessLogFormat"), is_json) {
                (None, false) => Format::istio_text(),
                (None, true) => Format::istio_json(),
                (Some(format), false) => Format::text(format!("accessLogFormat in {file}"), format, false),
                // Istio takes its own format if this is no JSON.
                (Some(format), true) => match serde_json::from_str(format) {
                    Ok(format) => Format::json(format!("accessLogFormat in {file}"), &format, false),
                    Err(error) => {
                        self.errors.push(format!(
                            "accessLogFormat in {file} is not JSON, although accessLogEncoding is: {error}; Istio takes its own \
                             JSON format instead"
                        ));
                        Format::istio_json()
                    }
                },
            };
            self.add(&format!("accessLogFormat in {file}"), format);
        }
        for provider in items(mesh.get("extensionProviders")) {
            let name = provider.get("name").and_then(Node::as_str).unwrap_or_default();
            let Some(log) = provider.get("envoyFileAccessLog") else { continue };
            if used.is_some() && !uses(name) {
                continue;
            }
            let from = format!("provider {name} in {file}");
            let omits = log.get("omitEmptyValues").is_some_and(is_true);
            let format = log.get("logFormat");
            let format =
                match (format.and_then(|format| format.get("text")), format.and_then(|format| format.get("labels"))) {
                    (Some(text), _) => Format::text(&from, text.as_str().unwrap_or_default(), omits),
                    (None, Some(labels)) => match json(labels) {
                        serde_json::Value::Object(fields) if fields.is_empty() => Format::istio_json(),
                        labels => Format::json(&from, &labels, omits),
                    },
                    (None, None) => Format::istio_text(),
                };
            self.add(&from, format);
        }
    }

    /// The access logs in the configuration of an Envoy.
    fn envoy(&mut self, other: &Other, node: &Node) {
        match &node.value {
            Value::Map(fields) => {
                for (name, value) in fields {
                    if name == "access_log" || name == "accessLog" {
                        for log in items(Some(value)) {
                            self.envoy_log(other, log);
                        }
                    } else {
                        self.envoy(other, value);
                    }
                }
            }
            Value::List(items) => {
                for item in items {
                    self.envoy(other, item);
                }
            }
            _ => {}
        }
    }

    fn envoy_log(&mut self, other: &Other, log: &Node) {
        let file = other.source.file.display();
        let Some(config) = either(log, "typed_config", "typedConfig") else { return };
        let kind = config.get("@type").and_then(Node::as_str).unwrap_or_default();
        let is_known = ["FileAccessLog", "StdoutAccessLog", "StderrAccessLog"].iter().any(|name| kind.ends_with(name));
        if !is_known {
            return;
        }
        if log.get("filter").is_some() {
            self.notes.push(format!("{file}: only some requests are logged: an access log has a filter"));
        }
        let from = format!("an access log in {file}");
        let format = either(config, "log_format", "logFormat");
        let omits =
            format.and_then(|format| either(format, "omit_empty_values", "omitEmptyValues")).is_some_and(is_true);
        let text = |node: &Node| node.as_str().map(str::to_owned);
        let source = format.and_then(|format| either(format, "text_format_source", "textFormatSource"));
        let inline = source.and_then(|source| either(source, "inline_string", "inlineString")).and_then(text);
        let bytes = source.and_then(|source| either(source, "inline_bytes", "inlineBytes")).and_then(text);
        let bytes = bytes.and_then(|bytes| String::from_utf8(BASE64_STANDARD.decode(bytes).ok()?).ok());
        let named = source.and_then(|source| source.get("filename")).and_then(Node::as_str);
        let of_file = named.and_then(|name| {
            let beside = other.source.file.parent().map(|folder| folder.join(name));
            std::fs::read_to_string(name).ok().or_else(|| std::fs::read_to_string(beside?).ok())
        });
        let old = either(config, "format", "format")
            .or(format.and_then(|format| either(format, "text_format", "textFormat")));
        let as_text = inline.or(bytes).or(of_file).or_else(|| old.and_then(text));
        let as_json = format
            .and_then(|format| either(format, "json_format", "jsonFormat"))
            .or_else(|| either(config, "json_format", "jsonFormat"))
            .or_else(|| either(config, "typed_json_format", "typedJsonFormat"));
        let format = match (as_text, as_json) {
            (Some(text), _) => Format::text(&from, &text, omits),
            (None, Some(labels)) => Format::json(&from, &json(labels), omits),
            (None, None) if source.is_some() => {
                self.errors.push(format!("{from}: its format is not in the input: give it with --log-format"));
                return;
            }
            (None, None) => Format::envoy_text(),
        };
        self.add(&from, format);
    }

    fn add(&mut self, from: &str, format: Result<Format, FormatError>) {
        match format {
            Ok(format) if self.formats.iter().any(|known| known.is_same_as(&format)) => {}
            Ok(format) => self.formats.push(format),
            Err(error) => self.errors.push(format!("{from}: {error}")),
        }
    }
}

fn either<'n>(node: &'n Node, name: &str, other_name: &str) -> Option<&'n Node> {
    node.get(name).or_else(|| node.get(other_name))
}

fn is_true(node: &Node) -> bool {
    matches!(node.value, Value::Bool(true))
}

/// The same as JSON.
fn json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => (*number).into(),
        Value::String(text) => text.as_str().into(),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(fields) => {
            serde_json::Value::Object(fields.iter().map(|(name, value)| (name.clone(), json(value))).collect())
        }
    }
}
