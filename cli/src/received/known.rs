//! What the input says about the settings of Envoy: a mesh configuration of Istio, or the bootstrap of an Envoy.

use mesh_authz::document::{Node, Value};

use super::settings::{EscapedSlashes, Origin, Settings};
use crate::lint::PathNormalization;
use crate::load::{Other, Resources, yaml};

/// What is known of the Envoys that a request can come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    pub path_normalization: Option<PathNormalization>,
    /// How many proxies before a gateway it trusts.
    pub trusted_proxies: Option<usize>,
    /// All settings.
    pub settings: Option<Settings>,
}

impl Known {
    /// What these resources say. Nothing where they contradict each other.
    #[must_use]
    pub fn of(resources: &Resources) -> Self {
        let mesh: Vec<_> = resources.others.iter().filter_map(mesh_configuration).collect();
        let mut managers = Vec::new();
        for other in resources.others.iter().filter(|other| is_bootstrap(other)) {
            connection_managers(&other.node, &mut managers);
        }
        Self {
            path_normalization: the_only(mesh.iter().filter_map(path_normalization)),
            trusted_proxies: the_only(mesh.iter().filter_map(trusted_proxies)),
            settings: the_only(managers.into_iter()),
        }
    }
}

impl Known {
    /// What becomes of paths.
    #[must_use]
    pub fn path_normalization(&self) -> Option<PathNormalization> {
        self.path_normalization.or(self.settings.map(|settings| settings.path_normalization()))
    }
}

/// Whether the document says something about the settings of Envoy.
#[must_use]
pub fn says_settings(other: &Other) -> bool {
    is_bootstrap(other) || mesh_configuration(other).is_some()
}

fn is_bootstrap(other: &Other) -> bool {
    other.text("kind").is_empty() && other.node.get("static_resources").is_some()
}

/// The value, if all are the same.
fn the_only<T: PartialEq>(mut values: impl Iterator<Item = T>) -> Option<T> {
    let first = values.next()?;
    values.all(|other| other == first).then_some(first)
}

/// The `MeshConfig` in the `ConfigMap` named `istio`, or in an `IstioOperator`.
fn mesh_configuration(other: &Other) -> Option<Node> {
    match other.text("kind") {
        "ConfigMap" if other.name().is_some_and(|name| name == "istio" || name.starts_with("istio-")) => {
            let text = other.node.get("data")?.get("mesh")?.as_str()?;
            yaml::documents(text).ok()?.into_iter().next()
        }
        "IstioOperator" => other.node.get("spec")?.get("meshConfig").cloned(),
        _ => None,
    }
}

fn path_normalization(mesh: &Node) -> Option<PathNormalization> {
    match mesh.get("pathNormalization")?.get("normalization")?.as_str()? {
        "NONE" => Some(PathNormalization::None),
        "DEFAULT" | "BASE" => Some(PathNormalization::Base),
        "MERGE_SLASHES" => Some(PathNormalization::MergeSlashes),
        "DECODE_AND_MERGE_SLASHES" => Some(PathNormalization::DecodeAndMergeSlashes),
        _ => None,
    }
}

fn trusted_proxies(mesh: &Node) -> Option<usize> {
    number(mesh.get("defaultConfig")?.get("gatewayTopology")?.get("numTrustedProxies")?)
}

fn number(node: &Node) -> Option<usize> {
    match &node.value {
        Value::Number(number) => format!("{number}").parse().ok(),
        _ => None,
    }
}

/// Adds the settings of every HTTP connection manager in a bootstrap.
fn connection_managers(node: &Node, found: &mut Vec<Settings>) {
    match &node.value {
        Value::Map(entries) => {
            let kind = node.get("@type").and_then(Node::as_str).unwrap_or_default();
            if kind.ends_with("v3.HttpConnectionManager") {
                found.push(settings(node));
            }
            for (_, inner) in entries {
                connection_managers(inner, found);
            }
        }
        Value::List(items) => {
            for item in items {
                connection_managers(item, found);
            }
        }
        _ => {}
    }
}

fn settings(manager: &Node) -> Settings {
    let field = |snake: &str, camel: &str| manager.get(snake).or_else(|| manager.get(camel));
    let is_true =
        |snake: &str, camel: &str| field(snake, camel).is_some_and(|node| matches!(node.value, Value::Bool(true)));
    let action = field("path_with_escaped_slashes_action", "pathWithEscapedSlashesAction").and_then(Node::as_str);
    Settings {
        origin: Origin::Input,
        normalize_path: is_true("normalize_path", "normalizePath"),
        merge_slashes: is_true("merge_slashes", "mergeSlashes"),
        escaped_slashes: match action {
            Some("UNESCAPE_AND_FORWARD") => EscapedSlashes::Decode,
            Some("REJECT_REQUEST" | "UNESCAPE_AND_REDIRECT") => EscapedSlashes::Refuse,
            _ => EscapedSlashes::Keep,
        },
        strip_trailing_host_dot: is_true("strip_trailing_host_dot", "stripTrailingHostDot"),
        use_remote_address: is_true("use_remote_address", "useRemoteAddress"),
        trusted_hops: field("xff_num_trusted_hops", "xffNumTrustedHops").and_then(number).unwrap_or_default(),
    }
}
