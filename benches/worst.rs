//! The worst requests that Envoy lets through with its limit of 60 KiB for all headers.

use serde_json::{Map, json};

use super::mix::{Call, Set, allow};

const CALLER: &str = "cluster.local/ns/default/sa/caller";

/// Each request is against this many rules that it concerns.
pub fn requests(rules: usize) -> Vec<Set> {
    vec![long_path(rules), large_token(rules), long_headers(rules)]
}

/// A path of 55 kB against templates that no index tells apart.
fn long_path(rules: usize) -> Set {
    let rule = |number: usize| json!({ "to": [{ "operation": { "paths": [format!("/{{*}}/{{*}}/{{*}}/{{*}}/x{number}/{{**}}")] } }] });
    let path = |last: usize| format!("/a/b/c/{}/x{last}/{}", "d".repeat(25_000), "e/".repeat(15_000));
    Set {
        name: "path of 55 kB",
        policies: (0..rules).map(|number| allow(number, &rule(number))).collect(),
        allowed: vec![Call::new(CALLER, "GET", path(rules - 1))],
        denied: vec![Call::new(CALLER, "GET", path(rules))],
    }
}

/// A token of 54 kB with 3,000 claims against rules that each ask for another claim.
fn large_token(rules: usize) -> Set {
    let claim = |number: usize| format!("c{number}");
    let rule = |number: usize| json!({ "when": [{ "key": format!("request.auth.claims[{}]", claim(number)), "values": ["yes"] }] });
    let call = |granted: usize| {
        let value = |number: usize| if number == granted { "yes" } else { "no-no" };
        let mut call = Call::new(CALLER, "GET", "/");
        call.claims =
            Some((0..3_000).map(|number| (claim(number), json!(value(number)))).collect::<Map<_, _>>().into());
        call
    };
    Set {
        name: "token of 54 kB",
        policies: (0..rules).map(|number| allow(number, &rule(number))).collect(),
        allowed: vec![call(rules - 1)],
        denied: vec![call(rules)],
    }
}

/// 100 headers of 500 bytes, all of the same name, against rules that each ask for another suffix.
fn long_headers(rules: usize) -> Set {
    let rule = |number: usize| json!({ "when": [{ "key": "request.headers[x-long]", "values": [format!("*{}x{number}", "y".repeat(50))] }] });
    let call = |last: usize| {
        (0..100).fold(Call::new(CALLER, "GET", "/"), |call, number| {
            let value = format!("{}x{}", "y".repeat(494), if number == 99 { last } else { number + 1_000_000 });
            call.header("x-long", value)
        })
    };
    Set {
        name: "100 headers of 500 bytes",
        policies: (0..rules).map(|number| allow(number, &rule(number))).collect(),
        allowed: vec![call(rules - 1)],
        denied: vec![call(rules)],
    }
}
