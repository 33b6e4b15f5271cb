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
use crate::wire::colliding;

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
    // A list can have a few strings among many values of other kinds.
    fn list(values: &[String]) -> Vec<Value> {
        values.iter().map(|text| json!(text)).chain((0..200).map(|number| json!(number))).collect()
    }
    let header: Make = |values| values.iter().fold(Request::default(), |request, value| request.header("x", value));
    let claim: Make = |values| {
        let payload = node(&json!({ "payload": { "iss": "i", "sub": "s", "groups": list(values) } }));
        Request::default().metadata("envoy.filters.http.jwt_authn", &payload)
    };
    let metadata: Make = |values| Request::default().metadata("envoy.filters.f", &node(&json!({ "k": list(values) })));
    let keys: [(&str, Make); 3] = [
        ("request.headers[x]", header),
        ("request.auth.claims[groups]", claim),
        ("experimental.envoy.filters.f[k]", metadata),
    ];
    // A list counts as long from 512 bytes on, and headers as many from 33 on.
    let strategy = (
        select(keys.to_vec()),
        select(&["ALLOW", "DENY"][..]),
        vec(value(), 12..20),
        prop_oneof![vec(text(), 1..5), vec(text(), 130..200)],
    );
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

/// What is remembered about a request changes no answer. A rule that is alone is evaluated without a memory.
#[test]
fn a_rule_matches_beside_others_as_it_does_alone() {
    const KEYS: [&str; 8] = [
        "request.headers[x]",
        "request.headers[host]",
        "request.headers[:authority]",
        "request.headers[:path]",
        "request.auth.claims[groups]",
        "request.auth.claims[n][m]",
        "request.auth.principal",
        "experimental.envoy.filters.f[k]",
    ];
    let host = || (select(&["", " ", "u@", "\t"][..]), text(), select(&["", ".", " ", ".:80", ":80"][..]));
    let host = || host().prop_map(|(before, name, behind)| format!("{before}{name}{behind}"));
    let long = prop_oneof![Just(0_usize), Just(0), 60..70_usize, 500..520_usize, 1_020..1_030_usize];
    let texts = || vec(prop_oneof![text(), host()], 0..120);
    let request = (host(), long, texts(), texts(), 0..60_usize);
    let rules = (select(&KEYS[..]), any::<bool>(), prop_oneof![value(), host().prop_map(|host| format!("{host}a"))]);
    let strategy = (select(&["ALLOW", "DENY"][..]), vec(rules, 24..30), request);
    let seen = std::cell::Cell::new([0, 0]);
    TestRunner::new(cases(300))
        .run(&strategy, |(action, rules, (host, long, lines, claims, others))| {
            let policies: Vec<_> = rules
                .iter()
                .enumerate()
                .map(|(number, (key, is_not, value))| {
                    let field = if *is_not { "notValues" } else { "values" };
                    let value = if *key == "request.headers[:path]" { format!("/{value}") } else { value.clone() };
                    let rule = json!({ "when": [{ "key": key, field: [value] }] });
                    named(&format!("p{number:02}"), json!({ "action": action, "rules": [rule] }))
                })
                .filter_map(|policy| {
                    let mut diagnostics = mesh_authz::diagnostic::Diagnostics::new();
                    mesh_authz::policy::read::policy(&node(&policy), &mut diagnostics)
                })
                .collect();
            let host = format!("{}{host}", "a".repeat(long));
            let mut request = Request::new("GET", &format!("/{}", "a".repeat(long))).header(":authority", host);
            for line in &lines {
                request = request.header("x", line);
            }
            for number in 0..others {
                request = request.header(format!("x-{number}"), "v");
            }
            let payload = json!({ "payload": { "iss": "i".repeat(long + 1), "sub": "s", "groups": claims, "n": { "m": claims } } });
            request = request.metadata("envoy.filters.http.jwt_authn", &node(&payload));
            request = request.metadata("envoy.filters.f", &node(&json!({ "k": "a".repeat(long) })));
            let options = options(Combining::DenyOverrides);
            let together = matches(&Engine::without_index(&policies, &options), &request);
            for (policy, together) in policies.iter().zip(together) {
                let alone = matches(&Engine::new([policy], &options), &request);
                prop_assert_eq!(&alone, &[together], "{:?}", policy);
                let [no, yes] = seen.get();
                seen.set(if together { [no, yes + 1] } else { [no + 1, yes] });
            }
            Ok(())
        })
        .unwrap();
    assert!(seen.get().iter().all(|count| *count > 300), "both results occur: {seen:?}");
}

#[test]
fn elements_that_were_made_to_collide_match_as_others_do() {
    let texts: Vec<_> = colliding().take(301).collect();
    let (absent, elements) = texts.split_last().unwrap();
    let payload = node(&json!({ "payload": { "iss": "i", "sub": "s", "groups": elements } }));
    let request = Request::default().metadata("envoy.filters.http.jwt_authn", &payload);
    // So many rules that the elements are looked up, and not read again for each rule.
    let policies: Vec<_> = (0..40)
        .map(|number| {
            let value = if number % 2 == 0 { &elements[number * 7] } else { absent };
            let rule = json!({ "when": [{ "key": "request.auth.claims[groups]", "values": [value] }] });
            read(&named(&format!("p{number:02}"), json!({ "action": "DENY", "rules": [rule] })))
        })
        .collect();
    let engine = Engine::without_index(&policies, &options(Combining::DenyOverrides));
    let expected: Vec<_> = (0..40).map(|number| number % 2 == 0).collect();
    assert_eq!(matches(&engine, &request), expected);
}
