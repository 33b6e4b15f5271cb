//! If an attribute has many values, they are sorted. A rule matches them as it matches each of them alone.

use mesh_authz::engine::{Combining, Engine};
use mesh_authz::request::Request;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::cases;
use crate::policies::{named, node, options, read};

/// Texts of a few letters, with beginnings and ends in common, some of them longer than eight bytes.
fn text() -> impl Strategy<Value = String> {
    let piece = select(&["a", "b", "ab", "aaaaaaaa", "bbbbbbbb", " ", "\t", "é", "\u{ff}"][..]);
    vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

fn value() -> impl Strategy<Value = String> {
    (select(&["", "", "prefix", "suffix", "any"][..]), text()).prop_map(|(form, text)| match form {
        "prefix" => format!("{text}*"),
        "suffix" => format!("*{text}"),
        "any" => "*".to_owned(),
        _ if text.is_empty() => "a".to_owned(),
        _ => text,
    })
}

/// For each value, whether the rule with this value matches the request.
fn matches(engine: &Engine, request: &Request) -> Vec<bool> {
    let mut traces: Vec<_> = engine.explain(request);
    traces.sort_by_key(|trace| trace.rule.to_string());
    traces.iter().map(|trace| trace.matches).collect()
}

#[test]
fn many_values_match_as_each_of_them_does() {
    type Make = fn(&[String]) -> Request;
    let header: Make = |values| values.iter().fold(Request::default(), |request, value| request.header("x", value));
    let claim: Make = |values| {
        let payload = node(&json!({ "payload": { "iss": "i", "sub": "s", "groups": values } }));
        Request::default().metadata("envoy.filters.http.jwt_authn", &payload)
    };
    let metadata: Make = |values| Request::default().metadata("envoy.filters.f", &node(&json!({ "k": values })));
    let keys: [(&str, Make); 3] = [
        ("request.headers[x]", header),
        ("request.auth.claims[groups]", claim),
        ("experimental.envoy.filters.f[k]", metadata),
    ];
    // A list counts as long from 512 bytes on, and headers as many from 33 on.
    let strategy = (select(keys.to_vec()), select(&["ALLOW", "DENY"][..]), vec(value(), 12..20), vec(text(), 130..200));
    let seen = std::cell::Cell::new([0, 0]);
    TestRunner::new(cases(150))
        .run(&strategy, |((key, make), action, patterns, values)| {
            let policies: Vec<Value> = patterns
                .iter()
                .enumerate()
                .map(|(number, pattern)| {
                    let pattern =
                        if key.starts_with("experimental") { format!("[{pattern}]") } else { pattern.clone() };
                    let rule = json!({ "when": [{ "key": key, "values": [pattern] }] });
                    named(&format!("p{number:02}"), json!({ "action": action, "rules": [rule] }))
                })
                .collect();
            let policies: Vec<_> = policies.iter().map(read).collect();
            let engine = Engine::without_index(&policies, &options(Combining::DenyOverrides));
            let together = matches(&engine, &make(&values));
            let mut expected = vec![false; patterns.len()];
            for value in &values {
                for (expected, alone) in expected.iter_mut().zip(matches(&engine, &make(std::slice::from_ref(value)))) {
                    *expected |= alone;
                }
            }
            prop_assert_eq!(&together, &expected, "{} {} {:?}", key, action, patterns);
            let [no, yes] = seen.get();
            let count = together.iter().filter(|matched| **matched).count();
            seen.set([no + together.len() - count, yes + count]);
            Ok(())
        })
        .unwrap();
    assert!(seen.get().iter().all(|count| *count > 300), "both results occur: {seen:?}");
}
