//! Checks `metadata` as Kubernetes' API server does. The filter does not need these checks: what it gets has passed a cluster, or
//! the command.

use std::borrow::Cow;

use mesh_authz::diagnostic::Diagnostics;
use mesh_authz::document::{Node, Object, Value, boolean, list, string};
use mesh_authz::policy::resource::{missing, name_of};

use super::finding::SourceText;

/// The most bytes that all annotations of a resource have.
const MOST_ANNOTATION_BYTES: usize = 262_144;
const LONGEST_PREFIX: usize = 253;
const LONGEST_NAME: usize = 63;

/// Reports what a cluster refuses in the metadata of a resource, apart from its name and namespace.
pub fn check(resource: &Node, source: &SourceText, diagnostics: &mut Diagnostics) {
    diagnostics.policy(
        || name_of(resource),
        |diagnostics| {
            check_fields(resource, source, diagnostics);
            check_status(resource, diagnostics);
        },
    );
}

/// What a value can have within it. A cluster ignores the values in a status, and yet refuses fields that it does not know.
struct Shape {
    fields: &'static [(&'static str, &'static Self)],
    items: Option<&'static Self>,
}

const SCALAR: Shape = Shape { fields: &[], items: None };

const CONDITION: Shape = Shape {
    fields: &[
        ("lastProbeTime", &SCALAR),
        ("lastTransitionTime", &SCALAR),
        ("message", &SCALAR),
        ("observedGeneration", &SCALAR),
        ("reason", &SCALAR),
        ("status", &SCALAR),
        ("type", &SCALAR),
    ],
    items: None,
};

const MESSAGE: Shape =
    Shape { fields: &[("documentationUrl", &SCALAR), ("level", &SCALAR), ("type", &MESSAGE_TYPE)], items: None };

const MESSAGE_TYPE: Shape = Shape { fields: &[("code", &SCALAR), ("name", &SCALAR)], items: None };

/// The fields of `status` that a cluster knows. It may have others, with any value.
const STATUS: [(&str, &Shape); 3] = [
    ("conditions", &Shape { fields: &[], items: Some(&CONDITION) }),
    ("observedGeneration", &SCALAR),
    ("validationMessages", &Shape { fields: &[], items: Some(&MESSAGE) }),
];

fn check_status(resource: &Node, diagnostics: &mut Diagnostics) {
    let Some(status) = resource.get("status") else { return };
    diagnostics.field("status", |diagnostics| {
        for (name, shape) in STATUS {
            if let Some(value) = status.get(name) {
                diagnostics.field(name, |diagnostics| check_shape(value, shape, diagnostics));
            }
        }
    });
}

fn check_shape(node: &Node, shape: &'static Shape, diagnostics: &mut Diagnostics) {
    match &node.value {
        Value::Map(_) => {
            let Some(mut object) = Object::open(node, diagnostics) else { return };
            for (name, shape) in shape.fields {
                if let Some(value) = object.get(name) {
                    diagnostics.field(name, |diagnostics| check_shape(value, shape, diagnostics));
                }
            }
            object.finish(diagnostics);
        }
        Value::List(items) => {
            let shape = shape.items.unwrap_or(&SCALAR);
            for (index, item) in items.iter().enumerate() {
                diagnostics.index(index, |diagnostics| check_shape(item, shape, diagnostics));
            }
        }
        _ => {}
    }
}

fn check_fields(resource: &Node, source: &SourceText, diagnostics: &mut Diagnostics) {
    let Some(metadata) = resource.get("metadata").filter(|metadata| matches!(metadata.value, Value::Map(_))) else {
        return;
    };
    diagnostics.field("metadata", |diagnostics| {
        let Some(mut object) = Object::open(metadata, diagnostics) else { return };
        let mut given = |name| object.get(name).filter(|node| !node.is_null());
        if let Some(labels) = given("labels") {
            diagnostics.field("labels", |diagnostics| entries(labels, diagnostics, label));
        }
        if let Some(annotations) = given("annotations") {
            diagnostics.field("annotations", |diagnostics| check_annotations(annotations, diagnostics));
        }
        if let Some(node) = given("generateName") {
            diagnostics.field("generateName", |diagnostics| begin_of_name(node, diagnostics));
        }
        for name in ["resourceVersion", "selfLink", "uid"] {
            if let Some(node) = given(name) {
                diagnostics.field(name, |diagnostics| string(node, diagnostics));
            }
        }
        for name in ["deletionGracePeriodSeconds", "generation"] {
            if let Some(node) = given(name) {
                diagnostics.field(name, |diagnostics| integer(node, source, diagnostics));
            }
        }
        for name in ["creationTimestamp", "deletionTimestamp"] {
            if let Some(node) = given(name) {
                diagnostics.field(name, |diagnostics| time(node, diagnostics));
            }
        }
        if let Some(finalizers) = given("finalizers") {
            diagnostics.field("finalizers", |diagnostics| {
                let names = list(finalizers, diagnostics, |node, diagnostics| {
                    let name = string(node, diagnostics)?;
                    qualified_name(name, diagnostics);
                    Some(name)
                });
                if ["orphan", "foregroundDeletion"].iter().all(|name| names.contains(&Some(name))) {
                    diagnostics.error("orphan and foregroundDeletion exclude each other");
                }
            });
        }
        if let Some(managed) = given("managedFields") {
            diagnostics.field("managedFields", |diagnostics| list(managed, diagnostics, managed_fields));
        }
        if let Some(owners) = given("ownerReferences") {
            diagnostics.field("ownerReferences", |diagnostics| check_owners(owners, diagnostics));
        }
    });
}

fn entries(map: &Node, diagnostics: &mut Diagnostics, check: fn(&str, &str, &mut Diagnostics)) {
    // Whatever is no text was reported with the rest of the policy.
    let Value::Map(entries) = &map.value else { return };
    for (key, node) in entries {
        if let Some(value) = node.as_str() {
            diagnostics.field(key, |diagnostics| check(key, value, diagnostics));
        }
    }
}

fn label(key: &str, value: &str, diagnostics: &mut Diagnostics) {
    qualified_name(key, diagnostics);
    if !value.is_empty() && !is_name(value) {
        diagnostics.error_with_hint(
            format!("{value:?} is not a valid value of a label"),
            "letters, digits, `-`, `_` and `.`, at most 63, starting and ending with a letter or digit",
        );
    }
}

fn check_annotations(annotations: &Node, diagnostics: &mut Diagnostics) {
    entries(annotations, diagnostics, |key, _, diagnostics| qualified_name(&key.to_lowercase(), diagnostics));
    let Value::Map(entries) = &annotations.value else { return };
    let bytes = entries.iter().map(|(key, node)| key.len().saturating_add(node.as_str().unwrap_or_default().len()));
    let bytes: usize = bytes.sum();
    if bytes > MOST_ANNOTATION_BYTES {
        diagnostics.error(format!("have {bytes} bytes, at most {MOST_ANNOTATION_BYTES} are allowed"));
    }
}

/// Reads an entry of `managedFields`, as `kubectl get --show-managed-fields` prints it.
fn managed_fields(entry: &Node, diagnostics: &mut Diagnostics) {
    let Some(mut object) = Object::open(entry, diagnostics) else { return };
    let mut given = |name| object.get(name).filter(|node| !node.is_null());
    for name in ["manager", "operation", "apiVersion", "fieldsType", "subresource"] {
        if let Some(node) = given(name) {
            diagnostics.field(name, |diagnostics| string(node, diagnostics));
        }
    }
    if let Some(node) = given("time") {
        diagnostics.field("time", |diagnostics| time(node, diagnostics));
    }
    object.ignore("fieldsV1");
    object.finish(diagnostics);
}

/// Reports what kubectl does not read in a list, apart from its items. It knows the fields of a list of one kind, and
/// ignores others only if they are `null`.
pub fn check_list(list: &Node, diagnostics: &mut Diagnostics) {
    let is_of_one_kind = list.get("kind").and_then(Node::as_str) != Some("List");
    let Some(mut object) = Object::open(list, diagnostics) else { return };
    match object.read("apiVersion", diagnostics, string) {
        Some(_) => {}
        None => missing(&object, "apiVersion", diagnostics),
    }
    let metadata = object.get("metadata").filter(|metadata| !metadata.is_null());
    if is_of_one_kind {
        object.ignore("items");
        object.ignore("kind");
        ignore_null(&mut object, list);
        object.finish(diagnostics);
    }
    let Some(metadata) = metadata else { return };
    diagnostics.field("metadata", |diagnostics| {
        let Some(mut object) = Object::open(metadata, diagnostics) else { return };
        if let Value::Map(entries) = &metadata.value {
            for (key, node) in entries.iter().filter(|(_, node)| !node.is_null()) {
                diagnostics.field(key, |diagnostics| check_list_metadata(key, node, is_of_one_kind, diagnostics));
            }
        }
        if is_of_one_kind {
            for name in ["continue", "remainingItemCount", "resourceVersion", "selfLink"] {
                object.ignore(name);
            }
            ignore_null(&mut object, metadata);
            object.finish(diagnostics);
        }
    });
}

/// kubectl reads the metadata of a list like that of a resource: it knows the types of these fields.
fn check_list_metadata(key: &str, node: &Node, is_of_one_kind: bool, diagnostics: &mut Diagnostics) {
    match (key, &node.value) {
        ("generateName" | "name" | "namespace" | "resourceVersion" | "selfLink" | "uid", _) => {
            string(node, diagnostics);
        }
        ("annotations" | "labels", Value::Map(entries)) => {
            for (key, node) in entries.iter().filter(|(_, node)| !node.is_null()) {
                diagnostics.field(key, |diagnostics| string(node, diagnostics));
            }
        }
        ("annotations" | "labels", other) => {
            diagnostics.error(format!("must be an object, is {}", other.kind()));
        }
        ("continue", other @ (Value::Map(_) | Value::List(_))) if is_of_one_kind => {
            diagnostics.error(format!("must be a string, is {}", other.kind()));
        }
        ("remainingItemCount", Value::Number(_)) => {}
        ("remainingItemCount", other) if is_of_one_kind => {
            diagnostics.error(format!("must be a number, is {}", other.kind()));
        }
        _ => {}
    }
}

fn ignore_null<'n>(object: &mut Object<'n>, map: &'n Node) {
    let Value::Map(entries) = &map.value else { return };
    for (key, _) in entries.iter().filter(|(_, node)| node.is_null()) {
        object.ignore(key);
    }
}

fn check_owners(owners: &Node, diagnostics: &mut Diagnostics) {
    let mut controllers = 0_u32;
    list(owners, diagnostics, |owner, diagnostics| {
        let Some(mut object) = Object::open(owner, diagnostics) else { return };
        for name in ["apiVersion", "kind", "name", "uid"] {
            let text = object.string(name, diagnostics);
            let is_version = |text: &str| text.matches('/').count() <= 1 && !text.ends_with('/');
            if text.as_ref().is_none_or(String::is_empty) {
                diagnostics.field(name, |diagnostics| diagnostics.error("is missing"));
            } else if name == "apiVersion" && !text.as_deref().is_some_and(is_version) {
                diagnostics
                    .field(name, |diagnostics| diagnostics.error_with_hint("has no version", "write GROUP/VERSION"));
            }
        }
        object.read("blockOwnerDeletion", diagnostics, boolean);
        if object.read("controller", diagnostics, boolean).flatten() == Some(true) {
            controllers = controllers.saturating_add(1);
        }
        object.finish(diagnostics);
    });
    if controllers > 1 {
        diagnostics.error("only one owner can be the controller");
    }
}

/// Reports what is no number of 64 bits, written in digits. As a double, a large number is not exact. As JSON, a cluster
/// refuses `1.0` and `1e3`.
fn integer(node: &Node, source: &SourceText, diagnostics: &mut Diagnostics) {
    match &node.value {
        Value::Number(_) => {
            let written = node.place.as_deref().and_then(|place| source.in_one_line(place.value)).unwrap_or_default();
            let digits = written.strip_prefix('-').unwrap_or(written);
            let is_decimal = digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
            if !is_decimal || written.parse::<i64>().is_err() {
                diagnostics.error("must be a whole number of at most 64 bits, written in digits");
            }
        }
        Value::String(_) => diagnostics.error_with_hint("must be a number, is a string", "write it without quotes"),
        other => diagnostics.error(format!("must be a whole number, is {}", other.kind())),
    }
}

/// Reports what no name of a resource begins with.
fn begin_of_name(node: &Node, diagnostics: &mut Diagnostics) {
    let Some(text) = string(node, diagnostics).filter(|text| !text.is_empty()) else { return };
    // The cluster appends letters. Before it checks a name with a dash at its end, it has a letter in place of the last two
    // bytes.
    let begin = match text.strip_suffix('-').and_then(|begin| begin.len().checked_sub(1)) {
        Some(length) => text.get(..length).map(|begin| Cow::Owned(format!("{begin}a"))),
        None => Some(Cow::Borrowed(text)),
    };
    if !begin.is_some_and(|begin| is_subdomain(&begin)) {
        diagnostics.error_with_hint(
            format!("{text:?} is not the beginning of a valid name"),
            "lower-case letters, digits, `-` and `.`, at most 253",
        );
    }
}

/// Reports what is no time of RFC 3339, as Go reads it.
fn time(node: &Node, diagnostics: &mut Diagnostics) {
    if let Some(text) = string(node, diagnostics)
        && !is_time(text)
    {
        diagnostics.error_with_hint(format!("{text:?} is not a time"), "write it as in `2026-01-31T12:00:00Z`");
    }
}

fn is_time(text: &str) -> bool {
    let (date, rest) = text.split_at_checked(10).unwrap_or_default();
    // The hour can have one digit.
    let colon = rest.find(':').unwrap_or_default();
    let (clock, rest) = rest.split_at_checked(colon.saturating_add(6)).unwrap_or_default();
    let numbers = |text: &str, separator: char, lengths: &[usize]| -> Option<Vec<u32>> {
        let parts: Vec<_> = text.split(separator).collect();
        let is_whole = parts.iter().map(|part| part.len()).eq(lengths.iter().copied());
        let number = |part: &&str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok()).flatten();
        is_whole.then(|| parts.iter().map(number).collect()).flatten()
    };
    let is_date = numbers(date, '-', &[4, 2, 2]).is_some_and(|parts| match *parts {
        [year, month, day] => (1..=12).contains(&month) && (1..=days(year, month)).contains(&day),
        _ => false,
    });
    let is_below = |text: &str, lengths: &[usize], hour_limit: u32, limit: u32| {
        let parts = numbers(text, ':', lengths).unwrap_or_default();
        let (hours, others) = parts.split_at_checked(1).unwrap_or_default();
        hours.iter().any(|hour| *hour < hour_limit) && others.iter().all(|part| *part < limit)
    };
    let is_clock = |text: &str| [1, 2].iter().any(|digits| is_below(text, &[*digits, 2, 2], 24, 60));
    let zone = match rest.strip_prefix(['.', ',']) {
        Some(decimals) => {
            let zone = decimals.trim_start_matches(|c: char| c.is_ascii_digit());
            if zone.len() == decimals.len() { "" } else { zone }
        }
        None => rest,
    };
    let is_zone = zone == "Z" || zone.strip_prefix(['+', '-']).is_some_and(|offset| is_below(offset, &[2, 2], 25, 61));
    is_date && clock.strip_prefix('T').is_some_and(is_clock) && is_zone
}

fn days(year: u32, month: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Reports a key that is no qualified name: a name, perhaps with a DNS name and a slash before it.
fn qualified_name(key: &str, diagnostics: &mut Diagnostics) {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if !prefix.is_none_or(is_subdomain) || !is_name(name) {
        diagnostics.error_with_hint(
            format!("{key:?} is not a valid name here"),
            "letters, digits, `-`, `_` and `.`, at most 63; before them, perhaps a DNS name and `/`",
        );
    }
}

/// Whether it is a DNS name in lower case.
fn is_subdomain(text: &str) -> bool {
    let is_alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let is_label = |label: &str| {
        let ends = [label.bytes().next(), label.bytes().last()];
        ends.into_iter().all(|b| b.is_some_and(is_alphanumeric))
            && label.bytes().all(|b| is_alphanumeric(b) || b == b'-')
    };
    text.len() <= LONGEST_PREFIX && text.split('.').all(is_label)
}

fn is_name(text: &str) -> bool {
    let ends = [text.bytes().next(), text.bytes().last()];
    text.len() <= LONGEST_NAME
        && ends.into_iter().all(|b| b.is_some_and(|b| b.is_ascii_alphanumeric()))
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}
