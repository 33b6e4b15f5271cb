//! Documents of any shape. Reading them never panics, and a document with an error is never accepted.

use mesh_authz::config::{NodeMetadata, PluginConfig};
use mesh_authz::diagnostic::Diagnostics;
use mesh_authz::document::{from_json, from_struct};
use mesh_authz::policy::read;
use mesh_authz_cli::load::finding::SourceText;
use mesh_authz_cli::load::{Resources, yaml};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::cases;
use crate::policies::{condition, named, node, several};

const NAMES: [&str; 26] = [
    "apiVersion",
    "kind",
    "metadata",
    "name",
    "namespace",
    "annotations",
    "spec",
    "selector",
    "matchLabels",
    "targetRefs",
    "action",
    "provider",
    "rules",
    "from",
    "to",
    "when",
    "source",
    "operation",
    "principals",
    "notPaths",
    "ipBlocks",
    "key",
    "values",
    "policies",
    "workload",
    "",
];

const TEXTS: [&str; 16] = [
    "",
    "*",
    "a",
    "AuthorizationPolicy",
    "security.istio.io/v1",
    "DENY",
    "ALLOW",
    "10.0.0.0/8",
    "80",
    "/{*}",
    "{**}",
    "a/b/c",
    "request.headers[",
    "source.ip",
    "é\n\0",
    "true",
];

/// Any JSON, made from words that occur in policies.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        select(&TEXTS[..]).prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 40, 6, |inner| {
        let list = proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from);
        let map = proptest::collection::vec((select(&NAMES[..]), inner), 0..6).prop_map(|fields| {
            Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
        });
        prop_oneof![list, map]
    })
}

/// A valid policy in which one part is replaced by any JSON.
fn nearly_valid() -> impl Strategy<Value = Value> {
    (several(), condition(), any_json(), any::<prop::sample::Index>()).prop_map(|(policies, condition, odd, place)| {
        let mut policy = policies[0].clone();
        policy["spec"]["rules"][0]["when"] = json!([condition]);
        let pointers: [&str; 14] = [
            "/metadata",
            "/metadata/name",
            "/spec",
            "/spec/rules",
            "/spec/rules/0",
            "/spec/rules/0/from",
            "/spec/rules/0/to",
            "/spec/rules/0/when/0",
            "/spec/rules/0/when/0/key",
            "/spec/rules/0/when/0/values",
            "/spec/action",
            "/kind",
            "/spec/rules/0/to/0",
            "/spec/rules/0/from/0/source",
        ];
        match policy.pointer_mut(pointers[place.index(pointers.len())]) {
            Some(part) => *part = odd,
            None => policy["spec"]["extra"] = odd,
        }
        policy
    })
}

fn check_policy(value: &Value) -> Result<(), TestCaseError> {
    let mut diagnostics = Diagnostics::new();
    let policy = read::policy(&node(value), &mut diagnostics);
    let errors = diagnostics.count();
    prop_assert_eq!(policy.is_some(), errors == 0, "{}", value);
    let found = diagnostics.into_found();
    prop_assert_eq!(found.len(), errors);
    for found in found {
        prop_assert!(!found.to_string().is_empty());
    }
    Ok(())
}

fn check_config(bytes: &[u8]) -> Result<(), TestCaseError> {
    match PluginConfig::read(bytes, &NodeMetadata::in_namespace("default")) {
        Ok(_) => {}
        Err(found) => {
            prop_assert!(!found.is_empty());
        }
    }
    Ok(())
}

#[test]
fn any_json_is_a_policy_or_has_an_error() {
    TestRunner::new(cases(1_000)).run(&any_json(), |value| check_policy(&value)).unwrap();
    TestRunner::new(cases(500)).run(&nearly_valid(), |value| check_policy(&value)).unwrap();
}

#[test]
fn any_json_is_a_configuration_or_has_an_error() {
    let strategy = prop_oneof![
        any_json(),
        any_json().prop_map(|odd| json!({ "policies": odd })),
        any_json().prop_map(|odd| json!({ "policies": [odd] })),
        nearly_valid().prop_map(|policy| json!({ "policies": [policy] })),
        (select(&NAMES[..]), any_json())
            .prop_map(|(name, odd)| json!({ "policies": [named("p", json!({}))], name: odd })),
    ];
    TestRunner::new(cases(1_000)).run(&strategy, |value| check_config(value.to_string().as_bytes())).unwrap();
}

#[test]
fn any_bytes_are_a_configuration_or_have_an_error() {
    TestRunner::new(cases(2_000))
        .run(&proptest::collection::vec(any::<u8>(), 0..200), |mut bytes| {
            check_config(&bytes)?;
            bytes.insert(0, b'\n');
            check_config(&bytes)?;
            prop_assert!(from_struct(&bytes).is_ok() || from_json(&bytes).is_ok() || check_config(&bytes).is_ok());
            Ok(())
        })
        .unwrap();
}

#[test]
fn any_text_is_yaml_or_has_an_error() {
    TestRunner::new(cases(1_500))
        .run(&"[a-c{}\\[\\]:,&*!|>#%@`'\"\\-? \n0-9.]{0,60}", |text| {
            for document in yaml::documents(&text).unwrap_or_default() {
                read::policy(&document, &mut Diagnostics::new());
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn json_reads_alike_as_json_and_as_yaml() {
    let without_positions =
        |text: &str| yaml::documents(text).unwrap().iter().map(|n| serde_json::to_value(n).unwrap()).next();
    TestRunner::new(cases(150))
        .run(&several(), |policies| {
            let text = json!(policies).to_string();
            prop_assert_eq!(without_positions(&text), Some(json!(policies)));
            Ok(())
        })
        .unwrap();
}

/// `kubectl` and other readers do not agree about which of two values counts.
#[test]
fn a_field_of_a_list_or_of_another_resource_is_written_once() {
    for (text, field) in [
        (r#"{"apiVersion":"v1","kind":"List","items":[],"items":[]}"#, "items"),
        (r#"{"apiVersion":"v1","kind":"PeerAuthentication","kind":"AuthorizationPolicy","spec":{}}"#, "kind"),
        (r#"{"apiVersion":"v1","kind":"Service","spec":{},"spec":{}}"#, "spec"),
    ] {
        let source = std::sync::Arc::new(SourceText::new("p.json".into(), text.to_owned()));
        let resources = Resources::of(&source);
        let found: Vec<_> = resources.findings.iter().map(|finding| finding.diagnostic.path.to_string()).collect();
        assert_eq!(found, [field], "{text}");
        assert!(resources.others.is_empty() && resources.policies.is_empty());
    }
}
