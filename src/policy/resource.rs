//! The parts that all resources of `security.istio.io` have in common: version, kind, metadata, and the workloads that
//! the resource is for.
//!
//! [`super::read`] builds an `AuthorizationPolicy` on top of this module. The command reads a `RequestAuthentication`
//! in the same way.

use super::{DEFAULT_NAMESPACE, Labels, PolicyName, Target, TargetKind, TargetReference};
use crate::diagnostic::Diagnostics;
use crate::document::{Node, Object, list, string, string_map};

/// The annotation that makes a policy a dry run.
pub const DRY_RUN: &str = "istio.io/dry-run";

/// The label that says for which revision of the control plane a resource is.
pub const REVISION: &str = "istio.io/rev";

/// The accepted values of `apiVersion`: the versions of Istio's group `security.istio.io`.
const API_VERSIONS: [&str; 2] = ["security.istio.io/v1", "security.istio.io/v1beta1"];
/// The other fields of Kubernetes' `ObjectMeta`. Their values are ignored.
const BOOKKEEPING: [&str; 11] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Annotations that Istio sets on resources that it derives from others. A user's resource must not carry them.
const RESERVED_ANNOTATIONS: [&str; 3] =
    ["internal.istio.io/parents", "internal.istio.io/parent-namespace", "internal.istio.io/webhook-always-reject"];

const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;
const MOST_LABELS: usize = 4096;

const MOST_TARGETS: usize = 16;

/// The name of a resource, as `namespace/name`, for its error messages. The resource may be invalid. `None` if it has
/// no name.
pub fn name_of(node: &Node) -> Option<String> {
    let metadata = node.get("metadata")?;
    let name = metadata.get("name")?.as_str()?;
    let namespace = metadata.get("namespace").and_then(Node::as_str).filter(|text| !text.is_empty());
    let namespace = namespace.unwrap_or(DEFAULT_NAMESPACE);
    Some(format!("{namespace}/{name}"))
}

/// Reads the parts that are the same in every resource: version, kind and metadata.
pub fn envelope(object: &mut Object<'_>, kind: &str, diagnostics: &mut Diagnostics) -> Option<Metadata> {
    match object.read("apiVersion", diagnostics, string).flatten() {
        Some(version) if API_VERSIONS.contains(&version) => {}
        Some(version) => diagnostics.field("apiVersion", |diagnostics| {
            diagnostics.error_with_hint(format!("`{version}` is not supported"), format!("use {}", API_VERSIONS[0]));
        }),
        None => missing(object, "apiVersion", diagnostics),
    }
    match object.read("kind", diagnostics, string).flatten() {
        Some(given) if given == kind => {}
        Some(given) => diagnostics.field("kind", |diagnostics| {
            let message = format!("must be {kind}, is `{given}`");
            if given.ends_with("List") {
                diagnostics.error_with_hint(message, "put its items here instead");
            } else {
                diagnostics.error(message);
            }
        }),
        None => missing(object, "kind", diagnostics),
    }
    let metadata = object.read("metadata", diagnostics, metadata).flatten();
    if metadata.is_none() {
        missing(object, "metadata", diagnostics);
    }
    metadata
}

/// Reports that a required field is missing. Does nothing if the field is there: then its error was already reported.
pub fn missing(object: &Object<'_>, name: &'static str, diagnostics: &mut Diagnostics) {
    if !object.has(name) {
        diagnostics.field(name, |diagnostics| diagnostics.error("is missing"));
    }
}

/// The parts of `metadata` that matter here.
#[derive(Debug)]
pub struct Metadata {
    /// Namespace and name. `None` if one of them could not be read, which was then reported.
    pub name: Option<PolicyName>,
    /// The value of the annotation [`DRY_RUN`], as written.
    pub dry_run: Option<String>,
    /// The value of the label [`REVISION`].
    pub revision: Option<String>,
}

/// Reads the parts of `metadata` that matter here. The rest is the cluster's bookkeeping.
pub fn metadata(node: &Node, diagnostics: &mut Diagnostics) -> Option<Metadata> {
    let mut object = Object::open(node, diagnostics)?;
    let name = object.string("name", diagnostics);
    match &name {
        Some(name) => diagnostics.field("name", |diagnostics| resource_name(name, diagnostics)),
        None => missing(&object, "name", diagnostics),
    }
    // To a cluster, an empty namespace is none.
    let is_given = |node: &&Node| !node.is_null() && node.as_str() != Some("");
    let namespace = match object.get("namespace").filter(is_given) {
        None => Some(DEFAULT_NAMESPACE.to_owned()),
        Some(node) => diagnostics.field("namespace", |diagnostics| {
            let namespace = string(node, diagnostics)?;
            namespace_name(namespace, diagnostics);
            Some(namespace.to_owned())
        }),
    };
    let mut string_map_of = |name| {
        let node = object.get(name).filter(|node| !node.is_null())?;
        Some(diagnostics.field(name, |diagnostics| string_map(node, diagnostics)))
    };
    let value = |map: Option<Vec<(String, String)>>, wanted: &str| {
        map?.into_iter().find(|(key, _)| key == wanted).map(|(_, value)| value)
    };
    let revision = value(string_map_of("labels"), REVISION);
    let annotations = string_map_of("annotations");
    for (key, _) in annotations.iter().flatten().filter(|(key, _)| RESERVED_ANNOTATIONS.contains(&key.as_str())) {
        diagnostics.field("annotations", |diagnostics| {
            diagnostics.field(key, |diagnostics| diagnostics.error("is reserved for Istio itself"));
        });
    }
    let dry_run = value(annotations, DRY_RUN);
    for bookkeeping in BOOKKEEPING {
        object.ignore(bookkeeping);
    }
    object.finish(diagnostics);
    let name = name.zip(namespace).map(|(name, namespace)| PolicyName { namespace, name });
    Some(Metadata { name, dry_run, revision })
}

/// Reads `spec.selector`: the labels that a workload must carry.
pub fn selector(node: &Node, diagnostics: &mut Diagnostics) -> Labels {
    let Some(mut object) = Object::open(node, diagnostics) else { return Labels::default() };
    let labels = object.read("matchLabels", diagnostics, string_map).unwrap_or_default();
    object.finish(diagnostics);
    labels.into()
}

/// Reads `spec.targetRefs`. An invalid entry is reported and left out.
pub fn target_references(node: &Node, diagnostics: &mut Diagnostics) -> Vec<TargetReference> {
    at_most(node, MOST_TARGETS, diagnostics, target_reference).into_iter().flatten().collect()
}

/// Reads `spec.targetRef`, or one entry of `spec.targetRefs`.
pub fn target_reference(node: &Node, diagnostics: &mut Diagnostics) -> Option<TargetReference> {
    let mut object = Object::open(node, diagnostics)?;
    let group = object.string("group", diagnostics).unwrap_or_default();
    let kind = object.string("kind", diagnostics);
    let name = object.string("name", diagnostics);
    let namespace = object.string("namespace", diagnostics);
    if kind.is_none() {
        missing(&object, "kind", diagnostics);
    }
    if name.is_none() {
        missing(&object, "name", diagnostics);
    }
    object.finish(diagnostics);

    match &name {
        Some(name) if name.is_empty() => {
            diagnostics.field("name", |diagnostics| diagnostics.error("must not be empty"));
        }
        Some(name) if name.len() > LONGEST_NAME => diagnostics.field("name", |diagnostics| {
            diagnostics.error(format!("is longer than {LONGEST_NAME} characters"));
        }),
        _ => {}
    }
    if namespace.is_some_and(|namespace| !namespace.is_empty()) {
        diagnostics.field("namespace", |diagnostics| {
            diagnostics.error_with_hint("a target in another namespace is not supported", "remove the field");
        });
    }
    let kind = match (group.as_str(), kind?.as_str()) {
        ("" | "core", "Service") => TargetKind::Service,
        ("networking.istio.io", "ServiceEntry") => TargetKind::ServiceEntry,
        ("gateway.networking.k8s.io", "Gateway") => TargetKind::Gateway,
        ("gateway.networking.k8s.io", "GatewayClass") => TargetKind::GatewayClass,
        (group, kind) => {
            diagnostics.error_with_hint(
                format!("`{kind}` of group `{group}` cannot be a target"),
                "use Service (no group), ServiceEntry (group networking.istio.io), or Gateway or GatewayClass (group \
                 gateway.networking.k8s.io)",
            );
            return None;
        }
    };
    Some(TargetReference { kind, name: name? })
}

/// The workloads that a resource is for, from its selector or its target references. Reports an error if more than one
/// of the three fields is set.
pub fn target(
    selector: Option<Labels>,
    target_ref: Option<Vec<TargetReference>>,
    target_refs: Option<Vec<TargetReference>>,
    diagnostics: &mut Diagnostics,
) -> Target {
    let given = [selector.is_some(), target_ref.is_some(), target_refs.is_some()];
    if given.into_iter().filter(|given| *given).count() > 1 {
        diagnostics.error_with_hint(
            "only one of selector, targetRef and targetRefs may be set",
            "a policy is for workloads or for gateways; split it in two",
        );
    }
    if let Some(labels) = selector {
        diagnostics.field("selector", |diagnostics| match_labels(&labels, diagnostics));
        return if labels.is_empty() { Target::Everything } else { Target::Labels(labels) };
    }
    let references: Vec<_> = target_ref.into_iter().flatten().chain(target_refs.into_iter().flatten()).collect();
    if references.is_empty() { Target::Everything } else { Target::References(references) }
}

/// Checks the labels that a workload must carry.
pub fn match_labels(labels: &[(String, String)], diagnostics: &mut Diagnostics) {
    diagnostics.field("matchLabels", |diagnostics| {
        if labels.len() > MOST_LABELS {
            diagnostics.error(format!("has {} labels, at most {MOST_LABELS} are allowed", labels.len()));
        }
        for (key, value) in labels {
            diagnostics.field(key, |diagnostics| {
                if key.is_empty() {
                    diagnostics.error("a label needs a key");
                }
                if key.contains('*') || value.contains('*') {
                    diagnostics.error_with_hint("a selector takes no wildcard", "name one label per workload instead");
                }
                if value.chars().count() > LONGEST_LABEL {
                    diagnostics.error(format!("is longer than {LONGEST_LABEL} characters"));
                }
            });
        }
    });
}

pub(super) fn at_most<'n, T>(
    node: &'n Node,
    most: usize,
    diagnostics: &mut Diagnostics,
    read: impl FnMut(&'n Node, &mut Diagnostics) -> T,
) -> Vec<T> {
    let items = list(node, diagnostics, read);
    if items.len() > most {
        let hint = "spread them over several policies";
        diagnostics.error_with_hint(format!("has {} entries, at most {most} are allowed", items.len()), hint);
    }
    items
}

/// Checks the name of a resource: it must be a DNS subdomain, as in Kubernetes. The name appears in logs and metrics.
pub(crate) fn resource_name(name: &str, diagnostics: &mut Diagnostics) {
    if name.len() > LONGEST_NAME || !name.split('.').all(is_dns_label) {
        diagnostics.error_with_hint(
            format!("{name:?} is not a valid name"),
            "lower-case letters, digits, `-` and `.`, at most 253, starting and ending with a letter or digit",
        );
    }
}

/// Checks the name of a namespace: it must be a DNS label.
pub(crate) fn namespace_name(name: &str, diagnostics: &mut Diagnostics) {
    if name.len() > LONGEST_LABEL || !is_dns_label(name) {
        diagnostics.error_with_hint(
            format!("{name:?} is not a valid namespace"),
            "lower-case letters, digits and `-`, at most 63, starting and ending with a letter or digit",
        );
    }
}

fn is_dns_label(label: &str) -> bool {
    let is_alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = label.as_bytes();
    bytes.first().is_some_and(is_alphanumeric)
        && bytes.last().is_some_and(is_alphanumeric)
        && bytes.iter().all(|b| is_alphanumeric(b) || *b == b'-')
}
