//! Whatever bytes a request contains, its log line is one line of JSON that contains the same text.

use mesh_authz::engine::explain::NearMiss;
use mesh_authz::filter::telemetry::filter_state;
use mesh_authz::filter::telemetry::json::{LONGEST, Object};
use mesh_authz::filter::telemetry::log_line::Line;
use mesh_authz::policy::{Action, Traffic};
use mesh_authz::request::{Lookup, PeerName, Request};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::Value;

use crate::cases;
use crate::policies::{engine, several};
use crate::requests::readable;

/// Random bytes, and characters with a meaning for JSON, for terminals or for programs that read lines.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        vec(any::<u8>(), 0..20),
        prop::sample::select(vec![
            "\"", "\\", "\n", "\r\n", "\u{1b}", "\u{85}", "\u{2028}", "\u{202e}", "\u{feff}", "\0"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        any::<char>().prop_map(|character| character.to_string().into_bytes()),
    ];
    vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn is_one_plain_line(text: &str) -> bool {
    let forbidden = |c: char| c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c) || c == '\u{feff}';
    !text.contains(forbidden)
}

#[test]
fn any_bytes_become_a_string_that_reads_as_them() {
    TestRunner::new(cases(2_000))
        .run(&(hostile(), hostile()), |(one, other)| {
            let mut text = String::new();
            let mut object = Object::begin(&mut text);
            object.text("one", &one);
            let mut inner = object.object("inner");
            inner.text_or_null("other", Some(&other));
            inner.text_or_null("nothing", None);
            inner.end();
            object.end();
            prop_assert!(is_one_plain_line(&text), "{:?}", text);
            let read: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&read["one"], &lossy(&one));
            prop_assert_eq!(&read["inner"]["other"], &lossy(&other));
            prop_assert_eq!(&read["inner"]["nothing"], &Value::Null);
            Ok(())
        })
        .unwrap();
}

#[test]
fn what_is_too_long_is_cut_and_says_so() {
    let read = |bytes: &[u8]| {
        let mut text = String::new();
        let mut object = Object::begin(&mut text);
        object.text("text", bytes);
        object.end();
        serde_json::from_str::<Value>(&text).unwrap()["text"].as_str().unwrap().to_owned()
    };
    assert_eq!(read(&vec![b'a'; LONGEST]), "a".repeat(LONGEST));
    assert_eq!(read(&vec![b'a'; LONGEST + 1]), format!("{}…", "a".repeat(LONGEST)));
    assert!(read("é".repeat(LONGEST).as_bytes()).ends_with('…'));
}

#[test]
fn every_decision_about_any_request_is_a_line_without_a_header_in_it() {
    const SECRET: &str = "s3cret";
    TestRunner::new(cases(500))
        .run(
            &(several(), readable(), hostile(), hostile(), any::<u64>()),
            |(policies, facts, name, path, suppressed)| {
                let engine = engine(&policies);
                let request: Request = facts
                    .request()
                    .peer_name(PeerName::Uri, Lookup::Value(&name))
                    .header(":path", [&b"/"[..], &path].concat())
                    .header("authorization", SECRET)
                    .header("x-any", &path);
                let decision = engine.decide(&request);
                let nearest = engine.nearest_miss(&request, || true);
                let line = |traffic| {
                    let (decision, workload) = (&decision, "{}");
                    let line = Line { traffic, decision, near_miss: nearest, workload, service: None, suppressed };
                    line.write(&request)
                };
                let of_connection = line(Traffic::Tcp);
                prop_assert!(
                    is_one_plain_line(&of_connection) && !of_connection.contains(SECRET),
                    "{:?}",
                    of_connection
                );
                let line = line(Traffic::Http);
                prop_assert!(is_one_plain_line(&line) && !line.contains(SECRET), "{:?}", line);
                let line: Value = serde_json::from_str(&line).unwrap();
                prop_assert_eq!(line["decision"].as_str().unwrap(), decision.outcome.verdict().to_string());
                prop_assert_eq!(&line["principal"], &lossy(&name));
                let mut state = String::new();
                filter_state::write(&mut state, &decision, nearest);
                prop_assert!(state.is_ascii() && is_one_plain_line(&state), "{:?}", state);
                let state: Value = serde_json::from_str(&state).unwrap();
                prop_assert_eq!(&state["policy"], &line["policy"]);
                prop_assert_eq!(state.get("nearest").is_some(), nearest.is_some());
                prop_assert_eq!(failed(nearest), line["nearest"]["failed"].as_str().map(str::to_owned));
                Ok(())
            },
        )
        .unwrap();
}

fn failed(nearest: Option<NearMiss<'_>>) -> Option<String> {
    nearest.map(|nearest| nearest.to_string())
}

fn lossy(bytes: &[u8]) -> Value {
    String::from_utf8_lossy(bytes).into()
}

#[test]
fn the_nearest_miss_is_the_nearest_of_what_explain_tells() {
    TestRunner::new(cases(500))
        .run(&(several(), readable()), |(policies, facts)| {
            let engine = engine(&policies);
            let request = facts.request();
            let allow =
                engine.explain(&request).into_iter().filter(|trace| trace.action == Action::Allow && !trace.dry_run);
            let least = allow.map(|trace| trace.miss.map_or(0, |miss| miss.distance)).min();
            let nearest = engine.nearest_miss(&request, || true).map(|nearest| nearest.distance);
            prop_assert_eq!(nearest, least.filter(|distance| *distance > 0));
            Ok(())
        })
        .unwrap();
}
