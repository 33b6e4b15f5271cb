//! The shape of a resource: unknown fields, wrong types, null and duplicate keys at every level.

use mesh_authz::policy::{Action, AuthorizationPolicy};
use serde_json::json;

use crate::support::findings;

/// A policy with a field of every kind, as JSON. The place of a field is its path in this document.
const WHOLE: &str = r#"{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy",
 "metadata":{"name":"p","namespace":"default","labels":{"a":"b"},"annotations":{"c":"d"}},
 "spec":{"selector":{"matchLabels":{"app":"x"}},"action":"ALLOW",
  "rules":[{"from":[{"source":{"principals":["a"]}}],"to":[{"operation":{"methods":["GET"]}}],
   "when":[{"key":"source.ip","values":["10.0.0.1"]}]}]}}"#;

/// The policy with the value at a JSON pointer replaced or added.
fn with(pointer: &str, value: serde_json::Value) -> String {
    let mut whole: serde_json::Value = serde_json::from_str(WHOLE).unwrap();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match whole.pointer_mut(parent).unwrap() {
        serde_json::Value::Object(object) => {
            object.insert(name.to_owned(), value);
        }
        serde_json::Value::Array(list) => list[name.parse::<usize>().unwrap()] = value,
        other => panic!("{other}"),
    }
    whole.to_string()
}

fn only(pointer: &str, value: serde_json::Value, expected: &str) {
    let found = findings(&with(pointer, value.clone()));
    assert_eq!(found, [format!("policy default/p: {expected}")], "{pointer} {value}");
}

#[test]
fn the_whole_policy_is_valid() {
    assert_eq!(findings(WHOLE), Vec::<String>::new());
}

#[test]
fn an_unknown_field_is_an_error_with_a_suggestion_at_every_level() {
    let rows = [
        ("/Spec", "Spec: unknown field, did you mean spec?"),
        ("/data", "data: unknown field; known here: apiVersion, kind, metadata, spec, status"),
        ("/spec/rule", "spec.rule: unknown field, did you mean rules?"),
        ("/spec/Action", "spec.Action: unknown field, did you mean action?"),
        (
            "/spec/matchLabels",
            "spec.matchLabels: unknown field; known here: selector, targetRef, targetRefs, action, provider, rules",
        ),
        ("/spec/selector/matchLabel", "spec.selector.matchLabel: unknown field, did you mean matchLabels?"),
        ("/spec/selector/matchExpressions", "spec.selector.matchExpressions: unknown field; known here: matchLabels"),
        ("/spec/rules/0/form", "spec.rules[0].form: unknown field, did you mean from?"),
        ("/spec/rules/0/conditions", "spec.rules[0].conditions: unknown field; known here: from, to, when"),
        ("/spec/rules/0/from/0/sources", "spec.rules[0].from[0].sources: unknown field, did you mean source?"),
        ("/spec/rules/0/from/0/principals", "spec.rules[0].from[0].principals: unknown field; known here: source"),
        (
            "/spec/rules/0/from/0/source/principal",
            "spec.rules[0].from[0].source.principal: unknown field, did you mean principals?",
        ),
        (
            "/spec/rules/0/from/0/source/notprincipals",
            "spec.rules[0].from[0].source.notprincipals: unknown field, did you mean notPrincipals?",
        ),
        (
            "/spec/rules/0/from/0/source/IpBlocks",
            "spec.rules[0].from[0].source.IpBlocks: unknown field, did you mean ipBlocks?",
        ),
        ("/spec/rules/0/to/0/operations", "spec.rules[0].to[0].operations: unknown field, did you mean operation?"),
        ("/spec/rules/0/to/0/operation/path", "spec.rules[0].to[0].operation.path: unknown field, did you mean paths?"),
        (
            "/spec/rules/0/to/0/operation/noPaths",
            "spec.rules[0].to[0].operation.noPaths: unknown field, did you mean notPaths?",
        ),
        ("/spec/rules/0/when/0/value", "spec.rules[0].when[0].value: unknown field, did you mean values?"),
        ("/spec/rules/0/when/0/notvalues", "spec.rules[0].when[0].notvalues: unknown field, did you mean notValues?"),
    ];
    for (pointer, expected) in rows {
        only(pointer, serde_json::json!(["x"]), expected);
    }
}

#[test]
fn a_value_of_the_wrong_type_is_an_error_at_every_level() {
    let object = |place: &str| format!("{place}: must be an object, is a string");
    for (pointer, place) in [
        ("/spec", "spec"),
        ("/spec/selector", "spec.selector"),
        ("/spec/selector/matchLabels", "spec.selector.matchLabels"),
        ("/spec/rules/0", "spec.rules[0]"),
        ("/spec/rules/0/from/0", "spec.rules[0].from[0]"),
        ("/spec/rules/0/from/0/source", "spec.rules[0].from[0].source"),
        ("/spec/rules/0/to/0", "spec.rules[0].to[0]"),
        ("/spec/rules/0/to/0/operation", "spec.rules[0].to[0].operation"),
        ("/spec/rules/0/when/0", "spec.rules[0].when[0]"),
        ("/metadata/labels", "metadata.labels"),
        ("/metadata/annotations", "metadata.annotations"),
    ] {
        let found = findings(&with(pointer, serde_json::json!("x")));
        assert_eq!(found[0], format!("policy default/p: {}", object(place)), "{found:?}");
    }
    for (pointer, place) in [
        ("/spec/rules/0/from", "spec.rules[0].from"),
        ("/spec/rules/0/to", "spec.rules[0].to"),
        ("/spec/rules/0/when", "spec.rules[0].when"),
        ("/spec/rules/0/from/0/source/principals", "spec.rules[0].from[0].source.principals"),
        ("/spec/rules/0/to/0/operation/methods", "spec.rules[0].to[0].operation.methods"),
        ("/spec/rules/0/when/0/values", "spec.rules[0].when[0].values"),
    ] {
        for (value, kind, hint) in [
            (serde_json::json!("x"), "a string", "put it in brackets: [ … ]"),
            (serde_json::json!({"x": "y"}), "an object", "put a dash before it"),
            (serde_json::json!(5), "a number", "put it in brackets: [ … ]"),
        ] {
            let found = findings(&with(pointer, value));
            assert_eq!(found[0], format!("policy default/p: {place}: must be a list, is {kind}; {hint}"), "{found:?}");
        }
    }
    for (pointer, place) in [
        ("/apiVersion", "apiVersion"),
        ("/kind", "kind"),
        ("/spec/action", "spec.action"),
        ("/spec/selector/matchLabels/app", "spec.selector.matchLabels.app"),
        ("/spec/rules/0/from/0/source/principals/0", "spec.rules[0].from[0].source.principals[0]"),
        ("/spec/rules/0/when/0/key", "spec.rules[0].when[0].key"),
        ("/spec/rules/0/when/0/values/0", "spec.rules[0].when[0].values[0]"),
        ("/metadata/annotations/c", "metadata.annotations.c"),
    ] {
        for (value, problem) in [
            (serde_json::json!(80), "must be a string, is a number; write it in quotes"),
            (serde_json::json!(true), "must be a string, is a boolean; write it in quotes"),
            (serde_json::json!(["x"]), "must be a string, is a list"),
            (serde_json::json!({}), "must be a string, is an object"),
        ] {
            let found = findings(&with(pointer, value));
            assert_eq!(found[0], format!("policy default/p: {place}: {problem}"), "{found:?}");
        }
    }
}

#[test]
fn null_is_an_error_where_a_cluster_would_drop_the_field() {
    for (pointer, place) in [
        ("/apiVersion", "apiVersion"),
        ("/spec/selector", "spec.selector"),
        ("/spec/targetRefs", "spec.targetRefs"),
        ("/spec/provider", "spec.provider"),
        ("/spec/action", "spec.action"),
        ("/spec/selector/matchLabels", "spec.selector.matchLabels"),
        ("/spec/rules/0/from", "spec.rules[0].from"),
        ("/spec/rules/0/to", "spec.rules[0].to"),
        ("/spec/rules/0/when", "spec.rules[0].when"),
        ("/spec/rules/0/from/0/source", "spec.rules[0].from[0].source"),
        ("/spec/rules/0/from/0/source/notPrincipals", "spec.rules[0].from[0].source.notPrincipals"),
        ("/spec/rules/0/to/0/operation/ports", "spec.rules[0].to[0].operation.ports"),
        ("/spec/rules/0/when/0/notValues", "spec.rules[0].when[0].notValues"),
        ("/spec/rules/0/when/0/key", "spec.rules[0].when[0].key"),
    ] {
        only(pointer, serde_json::Value::Null, &format!("{place}: has no value; give it one, or remove the field"));
    }
    // Here, what a cluster makes of it allows nothing. In a DENY policy, it denies nothing.
    for pointer in ["/spec", "/spec/rules"] {
        let policy = AuthorizationPolicy::from_json(&with(pointer, serde_json::Value::Null)).unwrap();
        assert_eq!((policy.action, policy.rules.len()), (Action::Allow, 0), "{pointer}");
    }
    let denies = r#"{ "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": { "name": "p" },
        "spec": { "action": "DENY", "rules": null } }"#;
    let expected = "policy default/p: spec.rules: DENY without rules never matches; add an empty rule";
    assert!(findings(denies)[0].starts_with(expected), "{:?}", findings(denies));
    for (pointer, place) in [
        ("/spec/rules/0", "spec.rules[0]: must be an object, is null"),
        ("/spec/rules/0/from/0", "spec.rules[0].from[0]: must be an object, is null"),
        ("/spec/rules/0/when/0", "spec.rules[0].when[0]: must be an object, is null"),
        ("/spec/rules/0/when/0/values/0", "spec.rules[0].when[0].values[0]: must be a string, is null"),
    ] {
        only(pointer, serde_json::Value::Null, place);
    }
}

#[test]
fn a_field_that_stands_there_twice_is_an_error_at_every_level() {
    for (once, twice, place) in [
        ("\"kind\":", "\"kind\":\"AuthorizationPolicy\",\"kind\":", "kind"),
        ("\"spec\":{", "\"spec\":{},\"spec\":{", "spec"),
        ("\"action\":", "\"action\":\"DENY\",\"action\":", "spec.action"),
        ("\"rules\":", "\"rules\":[],\"rules\":", "spec.rules"),
        ("\"app\":", "\"app\":\"y\",\"app\":", "spec.selector.matchLabels.app"),
        ("\"from\":", "\"from\":[{\"source\":{\"principals\":[\"b\"]}}],\"from\":", "spec.rules[0].from"),
        ("\"source\":", "\"source\":{\"principals\":[\"b\"]},\"source\":", "spec.rules[0].from[0].source"),
        ("\"principals\":", "\"principals\":[\"b\"],\"principals\":", "spec.rules[0].from[0].source.principals"),
        ("\"methods\":", "\"methods\":[\"b\"],\"methods\":", "spec.rules[0].to[0].operation.methods"),
        ("\"values\":", "\"values\":[\"10.0.0.2\"],\"values\":", "spec.rules[0].when[0].values"),
        ("\"key\":", "\"key\":\"remote.ip\",\"key\":", "spec.rules[0].when[0].key"),
        ("\"c\":", "\"c\":\"x\",\"c\":", "metadata.annotations.c"),
    ] {
        let text = WHOLE.replacen(once, twice, 1);
        let expected = format!("policy default/p: {place}: stands here twice; keep one of the two");
        assert_eq!(findings(&text), [expected], "{text}");
    }
}

#[test]
fn a_field_of_the_metadata_that_stands_there_twice_is_an_error() {
    // A cluster keeps the last of the two fields. A person who reads the other one is wrong about the policy.
    for (once, twice, place) in [
        ("\"name\":", "\"name\":\"q\",\"name\":", "metadata.name"),
        ("\"namespace\":", "\"namespace\":\"other\",\"namespace\":", "metadata.namespace"),
        (
            "\"annotations\":",
            "\"annotations\":{\"istio.io/dry-run\":\"true\"},\"annotations\":",
            "metadata.annotations",
        ),
    ] {
        let text = WHOLE.replacen(once, twice, 1);
        let found = findings(&text);
        let expected = format!("{place}: stands here twice; keep one of the two");
        assert!(found.iter().any(|finding| finding.ends_with(&expected)), "{place}: {found:?}");
    }
}

#[test]
fn annotations_that_are_istios_own_are_refused() {
    for name in
        ["internal.istio.io/parents", "internal.istio.io/parent-namespace", "internal.istio.io/webhook-always-reject"]
    {
        let found = findings(&with("/metadata/annotations", serde_json::json!({ name: "x" })));
        let expected = format!("policy default/p: metadata.annotations[{name:?}]: is reserved for Istio itself");
        assert_eq!(found, [expected]);
    }
}

#[test]
fn the_envelope_of_a_resource() {
    let missing = |field: &str| {
        let mut whole: serde_json::Value = serde_json::from_str(WHOLE).unwrap();
        whole.as_object_mut().unwrap().remove(field);
        findings(&whole.to_string())
    };
    assert_eq!(missing("apiVersion"), ["policy default/p: apiVersion: is missing"]);
    assert_eq!(missing("kind"), ["policy default/p: kind: is missing"]);
    assert_eq!(missing("metadata"), ["metadata: is missing"]);
    only(
        "/apiVersion",
        serde_json::json!("security.istio.io/v2"),
        "apiVersion: `security.istio.io/v2` is not supported; use security.istio.io/v1",
    );
    only(
        "/kind",
        serde_json::json!("RequestAuthentication"),
        "kind: must be AuthorizationPolicy, is `RequestAuthentication`",
    );
    assert_eq!(findings("[]"), ["must be an object, is a list"]);
    assert_eq!(findings("text"), ["must be an object, is a string"]);
}

#[test]
fn names_are_those_of_kubernetes() {
    let name = "lower-case letters, digits, `-` and `.`, at most 253, starting and ending with a letter or digit";
    let namespace = "lower-case letters, digits and `-`, at most 63, starting and ending with a letter or digit";
    let (long, longer) = ("a".repeat(64), "a".repeat(254));
    for text in ["", "A", "a_b", "-a", "a-", "a..b", ".a", "a b", "a\nb", "a/b", "é", &longer] {
        let found = findings(&with("/metadata/name", serde_json::json!(text)));
        assert_eq!(found, [format!("policy default/{text}: metadata.name: {text:?} is not a valid name; {name}")]);
    }
    for text in ["A", "a.b", "a_b", "-a", "a-", "a/b", &long] {
        let found = findings(&with("/metadata/namespace", serde_json::json!(text)));
        assert_eq!(
            found,
            [format!("policy {text}/p: metadata.namespace: {text:?} is not a valid namespace; {namespace}")]
        );
    }
    // To a cluster, an empty namespace is none.
    assert_eq!(findings(&with("/metadata/namespace", serde_json::json!(""))), Vec::<String>::new());
    let mut whole: serde_json::Value = serde_json::from_str(WHOLE).unwrap();
    whole["metadata"].as_object_mut().unwrap().remove("name");
    assert_eq!(findings(&whole.to_string()), ["metadata.name: is missing"]);
}

#[test]
fn a_mistyped_field_of_the_metadata_is_an_error_and_bookkeeping_is_not() {
    only("/metadata/namepsace", json!("prod"), "metadata.namepsace: unknown field, did you mean namespace?");
    for bookkeeping in ["uid", "resourceVersion", "creationTimestamp", "managedFields", "ownerReferences"] {
        assert_eq!(findings(&with(&format!("/metadata/{bookkeeping}"), json!(null))), [""; 0], "{bookkeeping}");
    }
}
