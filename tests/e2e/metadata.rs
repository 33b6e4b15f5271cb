//! `experimental.envoy.filters.FILTER[KEY]`: the dynamic metadata of other filters.

use serde_json::{Value, json};
use testbed::Request;

use crate::question::{Answer::*, Question, ask_with, condition};
use crate::sidecar::FRONTEND;

fn set_metadata(filter: &str, value: Value) -> Value {
    json!({
        "name": "envoy.filters.http.set_metadata",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.set_metadata.v3.Config",
            "metadata": [{ "metadata_namespace": filter, "value": value }],
        },
    })
}

fn metadata(name: &str, key: &str, value: &str) -> Question {
    condition(name, &format!("experimental.envoy.filters.http.demo[{key}]"), &[value])
}

#[test]
fn a_string_matches_a_value_and_a_list_matches_a_value_in_brackets() {
    let value =
        json!({ "text": "gold", "list": ["silver", "gold"], "number": 5, "truth": true, "empty": "", "line": "a\nb" });
    let asked = ask_with(
        vec![
            metadata("text", "text", "gold"),
            metadata("text-other", "text", "silver"),
            metadata("text-prefix", "text", "go*"),
            metadata("text-as-list", "text", "[gold]"),
            metadata("list", "list", "[gold]"),
            metadata("list-prefix", "list", "[go*]"),
            metadata("list-other", "list", "[bronze]"),
            metadata("list-as-text", "list", "gold"),
            metadata("number", "number", "5"),
            metadata("truth", "truth", "true"),
            metadata("any", "text", "*"),
            metadata("any-empty", "empty", "*"),
            metadata("any-line", "line", "*"),
            metadata("missing", "missing", "*"),
            condition("other-filter", "experimental.envoy.filters.http.other[text]", &["gold"]),
        ],
        json!({}),
        |blueprint| blueprint.filter(set_metadata("envoy.filters.http.demo", value)),
    );
    let client = asked.client(FRONTEND);
    for (name, expected) in [
        ("text", Match),
        ("text-other", NoMatch),
        ("text-prefix", Match),
        ("text-as-list", NoMatch),
        ("list", Match),
        ("list-prefix", Match),
        ("list-other", NoMatch),
        ("list-as-text", NoMatch),
        ("number", NoMatch),
        ("truth", NoMatch),
        ("any", Match),
        ("any-empty", NoMatch),
        // A DENY rule counts this value as present. An ALLOW rule does not.
        ("any-line", Unreadable),
        ("missing", NoMatch),
        ("other-filter", NoMatch),
    ] {
        assert_eq!(asked.answer(name, &client, &Request::get("/")), expected, "{name}");
    }
}

#[test]
fn what_a_filter_takes_from_a_header_can_be_matched() {
    let header_to_metadata = json!({
        "name": "envoy.filters.http.header_to_metadata",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config",
            "request_rules": [{
                "header": "x-tier",
                "on_header_present": { "metadata_namespace": "envoy.filters.http.demo", "key": "tier", "type": "STRING" },
            }],
        },
    });
    let asked =
        ask_with(vec![metadata("tier", "tier", "gold")], json!({}), |blueprint| blueprint.filter(header_to_metadata));
    let client = asked.client(FRONTEND);
    for (tier, expected) in [("gold", Match), ("silver", NoMatch), ("[gold]", NoMatch)] {
        assert_eq!(asked.answer("tier", &client, &Request::get("/").header("x-tier", tier)), expected, "{tier}");
    }
    assert_eq!(asked.answer("tier", &client, &Request::get("/")), NoMatch);
    for odd in [&b"gold\xff"[..], b"\xff\xfe", b"\xc3("] {
        let request = Request::get("/").header("x-tier", odd);
        assert_eq!(asked.answer("tier", &client, &request), NoMatch, "{}", odd.escape_ascii());
    }
}
