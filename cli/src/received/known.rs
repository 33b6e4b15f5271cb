//! What the input says about the settings of Envoy: a mesh configuration of Istio, or the bootstrap of an Envoy.

use std::collections::BTreeSet;

use mesh_authz::document::{Node, Value, whole_number};

use super::settings::{ClientCertificate, EscapedSlashes, HostPort, Origin, Settings};
use crate::lint::PathNormalization;
use crate::load::providers::mesh_configuration;
use crate::load::{Other, Resources};

/// What is known of the Envoys that a request can come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// What becomes of paths, whatever the settings say.
    pub path_normalization: Option<PathNormalization>,
    /// The settings that the input has, each once. Empty: it has none.
    pub found: Vec<Settings>,
    /// The options in the input that can change a request, and that are not taken into account.
    pub not_considered: BTreeSet<&'static str>,
}

/// The options of an HTTP connection manager that can change a request, and that are not taken into account.
const NOT_CONSIDERED: [(&str, &str); 10] = [
    ("append_x_forwarded_port", "appendXForwardedPort"),
    ("early_header_mutation_extensions", "earlyHeaderMutationExtensions"),
    ("generate_request_id", "generateRequestId"),
    ("header_validation_config", "headerValidationConfig"),
    ("http_protocol_options", "httpProtocolOptions"),
    ("internal_address_config", "internalAddressConfig"),
    ("original_ip_detection_extensions", "originalIpDetectionExtensions"),
    ("path_normalization_options", "pathNormalizationOptions"),
    ("scheme_header_transformation", "schemeHeaderTransformation"),
    ("upgrade_configs", "upgradeConfigs"),
];

impl Known {
    /// What these resources say.
    #[must_use]
    pub fn of(resources: &Resources) -> Self {
        let mut known = Self::default();
        for (mesh, number) in resources.others.iter().filter_map(mesh_configuration).map(|(mesh, _)| mesh).zip(1..) {
            let settings = Settings { trusted_hops: trusted_proxies(&mesh), ..Settings::ISTIO };
            known.add(settings.with_paths(path_normalization(&mesh)), Origin::Mesh(number));
        }
        let mut managers = Vec::new();
        for other in resources.others.iter().filter(|other| is_bootstrap(other)) {
            connection_managers(&other.node, &mut managers);
        }
        for (manager, number) in managers.into_iter().zip(1..) {
            known.add(settings(manager), Origin::Manager(number));
            let options = NOT_CONSIDERED.into_iter().filter(|(snake, camel)| has_other(manager, snake, camel));
            known.not_considered.extend(options.map(|(snake, _)| snake));
        }
        known
    }

    fn add(&mut self, settings: Settings, origin: Origin) {
        if !self.found.iter().any(|known| Settings { origin, ..*known } == Settings { origin, ..settings }) {
            self.found.push(Settings { origin, ..settings });
        }
    }

    /// What becomes of paths at least.
    #[must_use]
    pub fn path_normalization(&self) -> Option<PathNormalization> {
        self.path_normalization.or(self.found.iter().map(Settings::path_normalization).min())
    }
}

/// Whether the manager has a value of this option that is not the one of rendered bootstraps, or the default.
fn has_other(manager: &Node, snake: &str, camel: &str) -> bool {
    let Some(value) = manager.get(snake).or_else(|| manager.get(camel)) else { return false };
    let is_websocket = |upgrade: &Node| {
        let kind = upgrade.get("upgrade_type").or_else(|| upgrade.get("upgradeType"));
        kind.and_then(Node::as_str) == Some("websocket")
    };
    match &value.value {
        Value::Bool(value) => *value == (snake != "generate_request_id"),
        Value::List(upgrades) if snake == "upgrade_configs" => !upgrades.iter().all(is_websocket),
        _ => true,
    }
}

/// Whether the document says something about the settings of Envoy.
#[must_use]
pub fn says_settings(other: &Other) -> bool {
    is_bootstrap(other) || mesh_configuration(other).is_some()
}

fn is_bootstrap(other: &Other) -> bool {
    let has = |name| other.node.get(name).is_some();
    other.text("kind").is_empty() && (has("static_resources") || has("staticResources"))
}

fn path_normalization(mesh: &Node) -> PathNormalization {
    let text = mesh.get("pathNormalization").and_then(|paths| paths.get("normalization")?.as_str());
    match text {
        Some("NONE") => PathNormalization::None,
        Some("MERGE_SLASHES") => PathNormalization::MergeSlashes,
        Some("DECODE_AND_MERGE_SLASHES") => PathNormalization::DecodeAndMergeSlashes,
        _ => PathNormalization::Base,
    }
}

fn trusted_proxies(mesh: &Node) -> usize {
    let topology = mesh.get("defaultConfig").and_then(|config| config.get("gatewayTopology"));
    topology.and_then(|topology| number(topology.get("numTrustedProxies")?)).unwrap_or_default()
}

fn number(node: &Node) -> Option<usize> {
    whole_number(node, u32::MAX).and_then(|number| usize::try_from(number).ok())
}

/// Adds every HTTP connection manager in a bootstrap.
fn connection_managers<'n>(node: &'n Node, found: &mut Vec<&'n Node>) {
    match &node.value {
        Value::Map(entries) => {
            let kind = node.get("@type").and_then(Node::as_str).unwrap_or_default();
            if kind.ends_with("v3.HttpConnectionManager") {
                found.push(node);
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
    // Envoy takes the name of a value, or its number.
    let chosen = |snake: &str, camel: &str, names: &[&'static str]| {
        let node = field(snake, camel)?;
        node.as_str().or_else(|| names.get(number(node)?).copied()).map(str::to_owned)
    };
    let action = chosen("path_with_escaped_slashes_action", "pathWithEscapedSlashesAction", &ESCAPED_SLASHES);
    let certificate = chosen("forward_client_cert_details", "forwardClientCertDetails", &CLIENT_CERTIFICATE);
    Settings {
        origin: Origin::Manager(0),
        normalize_path: is_true("normalize_path", "normalizePath"),
        merge_slashes: is_true("merge_slashes", "mergeSlashes"),
        escaped_slashes: match action.as_deref() {
            Some("UNESCAPE_AND_FORWARD") => EscapedSlashes::Decode,
            Some("REJECT_REQUEST" | "UNESCAPE_AND_REDIRECT") => EscapedSlashes::Refuse,
            _ => EscapedSlashes::Keep,
        },
        strip_trailing_host_dot: is_true("strip_trailing_host_dot", "stripTrailingHostDot"),
        host_port: if is_true("strip_any_host_port", "stripAnyHostPort") {
            HostPort::StripAny
        } else if is_true("strip_matching_host_port", "stripMatchingHostPort") {
            HostPort::StripMatching
        } else {
            HostPort::Keep
        },
        use_remote_address: is_true("use_remote_address", "useRemoteAddress"),
        skip_xff_append: is_true("skip_xff_append", "skipXffAppend"),
        preserve_external_request_id: is_true("preserve_external_request_id", "preserveExternalRequestId"),
        trusted_hops: field("xff_num_trusted_hops", "xffNumTrustedHops").and_then(number).unwrap_or_default(),
        client_certificate: match certificate.as_deref() {
            Some("FORWARD_ONLY") => ClientCertificate::ForwardOnly,
            Some("APPEND_FORWARD") => ClientCertificate::AppendForward,
            Some("SANITIZE_SET") => ClientCertificate::SanitizeSet,
            Some("ALWAYS_FORWARD_ONLY") => ClientCertificate::AlwaysForwardOnly,
            _ => ClientCertificate::Sanitize,
        },
    }
}

/// The values of `path_with_escaped_slashes_action`, by number.
const ESCAPED_SLASHES: [&str; 5] = [
    "IMPLEMENTATION_SPECIFIC_DEFAULT",
    "KEEP_UNCHANGED",
    "REJECT_REQUEST",
    "UNESCAPE_AND_REDIRECT",
    "UNESCAPE_AND_FORWARD",
];

/// The values of `forward_client_cert_details`, by number.
const CLIENT_CERTIFICATE: [&str; 5] =
    ["SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"];
