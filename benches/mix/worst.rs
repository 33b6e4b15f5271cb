//! The worst requests that Envoy lets through with its limit of 60 KiB for all headers, each against many rules of one
//! kind.
//!
//! In every set, a request is compared with as many rules as possible: they are alike in what the index looks at, or
//! they only say what must not be.

use std::iter;

use serde_json::{Map, Value, json};

use super::{Call, Set, allow};

const CALLER: &str = "cluster.local/ns/default/sa/caller";

/// A path that a further rule of every set allows. Requests for it are ordinary ones.
pub const ORDINARY_PATH: &str = "/ordinary";

/// The names of a hundred headers.
const HUNDRED: [&str; 100] = [
    "x-0", "x-1", "x-2", "x-3", "x-4", "x-5", "x-6", "x-7", "x-8", "x-9", "x-10", "x-11", "x-12", "x-13", "x-14",
    "x-15", "x-16", "x-17", "x-18", "x-19", "x-20", "x-21", "x-22", "x-23", "x-24", "x-25", "x-26", "x-27", "x-28",
    "x-29", "x-30", "x-31", "x-32", "x-33", "x-34", "x-35", "x-36", "x-37", "x-38", "x-39", "x-40", "x-41", "x-42",
    "x-43", "x-44", "x-45", "x-46", "x-47", "x-48", "x-49", "x-50", "x-51", "x-52", "x-53", "x-54", "x-55", "x-56",
    "x-57", "x-58", "x-59", "x-60", "x-61", "x-62", "x-63", "x-64", "x-65", "x-66", "x-67", "x-68", "x-69", "x-70",
    "x-71", "x-72", "x-73", "x-74", "x-75", "x-76", "x-77", "x-78", "x-79", "x-80", "x-81", "x-82", "x-83", "x-84",
    "x-85", "x-86", "x-87", "x-88", "x-89", "x-90", "x-91", "x-92", "x-93", "x-94", "x-95", "x-96", "x-97", "x-98",
    "x-99",
];

/// Sets with this many rules.
#[expect(clippy::too_many_lines, reason = "a table")]
pub fn worst(rules: usize) -> Vec<Set> {
    let path = |last: usize| format!("/a/b/c/{}/x{last}/{}", "d".repeat(25_000), "e/".repeat(15_000));
    let with_path = |path: String| Call::new(CALLER, "GET", path);
    let with_claims = |claims: Value| {
        let mut call = Call::new(CALLER, "GET", "/");
        call.claims = Some(claims);
        call
    };
    let with_headers = |values: Vec<String>| {
        values.into_iter().fold(Call::new(CALLER, "GET", "/"), |call, value| call.header("x-long", value))
    };
    let lines = |last: String| {
        let others = (0..99).map(|number| format!("{}x{}", "y".repeat(494), number + 1_000_000));
        with_headers(others.chain(iter::once(last)).collect())
    };
    let hundred = |end: &str| {
        let value = format!("{}{end}", "y".repeat(494));
        HUNDRED.iter().fold(Call::new(CALLER, "GET", "/"), |call, name| call.header(name, value.clone()))
    };
    let claims = |granted: usize| {
        let value = |number: usize| json!(if number == granted { "yes" } else { "no-no" });
        with_claims((0..3_000).map(|number| (format!("c{number}"), value(number))).collect::<Map<_, _>>().into())
    };
    let groups = |last: String| {
        let others = (0..2_999).map(|number| format!("other-group-{number}"));
        with_claims(json!({ "groups": others.chain(iter::once(last)).collect::<Vec<_>>() }))
    };
    let operation = |operation: Value| json!({ "to": [{ "operation": operation }] });
    let when = |key: &str, field: &str, values: Vec<String>| json!({ "when": [{ "key": key, field: values }] });
    let long = |number: usize| format!("{}x{number}", "y".repeat(494));
    let set = |name, rule: &dyn Fn(usize) -> Value, allowed, denied| {
        let ordinary = allow(rules, &operation(json!({ "paths": [ORDINARY_PATH] })));
        Set {
            name,
            policies: (0..rules).map(|number| allow(number, &rule(number))).chain(iter::once(ordinary)).collect(),
            allowed: vec![allowed],
            denied: vec![denied],
        }
    };
    let last = rules - 1;
    vec![
        set(
            "path, templates",
            &|number| operation(json!({ "paths": [format!("/{{*}}/{{*}}/{{*}}/{{*}}/x{number}/{{**}}")] })),
            with_path(path(last)),
            with_path(path(rules)),
        ),
        set(
            "path, templates at the end",
            &|number| operation(json!({ "paths": [format!("/{{*}}/{{**}}/x{number}")] })),
            with_path(format!("{}x{last}", path(0))),
            with_path(format!("{}x{rules}", path(0))),
        ),
        set(
            "path, not templates",
            &|number| operation(json!({ "notPaths": [format!("/{{*}}/{{*}}/x{number}/{{**}}"), "/a/{*}/c/{**}"] })),
            with_path(path(0).replacen("/a/b/c/", "/a/b/b/", 1)),
            with_path(path(0)),
        ),
        set(
            "path, nested prefixes",
            &|number| {
                operation(json!({ "paths": [format!("/a/b/c/{}*", "d".repeat(number))], "notPaths": ["/a/b/c/d*"] }))
            },
            with_path(ORDINARY_PATH.to_owned()),
            with_path(path(0)),
        ),
        set(
            "path, presence",
            &|number| operation(json!({ "paths": ["*"], "notPaths": [format!("/x{number}"), "/a*"] })),
            with_path(path(0).replacen("/a", "/b", 1)),
            with_path(path(0)),
        ),
        set(
            "path, not suffixes",
            &|number| operation(json!({ "notPaths": [format!("*{}{number}", "e/".repeat(30)), "*e/e/"] })),
            with_path(path(0) + "x"),
            with_path(path(0)),
        ),
        set(
            "token, claims",
            &|number| when(&format!("request.auth.claims[c{number}]"), "values", vec!["yes".to_owned()]),
            claims(last),
            claims(rules),
        ),
        set(
            "token, not claims",
            &|number| when(&format!("request.auth.claims[c{number}]"), "notValues", vec!["no-no".to_owned()]),
            claims(last),
            claims(rules),
        ),
        set(
            "token, groups",
            &|number| when("request.auth.claims[groups]", "values", vec![format!("group-{number}")]),
            groups(format!("group-{last}")),
            groups(format!("group-{rules}")),
        ),
        set(
            "token, not groups",
            &|number| {
                when("request.auth.claims[groups]", "notValues", vec![format!("group-{number}"), "leavers".to_owned()])
            },
            groups("stayers".to_owned()),
            groups("leavers".to_owned()),
        ),
        set(
            "headers, suffixes",
            &|number| when("request.headers[x-long]", "values", vec![format!("*{}x{number}", "y".repeat(50))]),
            lines(long(last)),
            lines(long(rules)),
        ),
        set(
            "headers, not a hundred",
            &|number| {
                when(
                    &format!("request.headers[x-{}]", number % 100),
                    "notValues",
                    vec![format!("*{number}"), "*y".to_owned()],
                )
            },
            hundred("z"),
            hundred("y"),
        ),
        set(
            "headers, not values",
            &|number| {
                when(
                    "request.headers[x-long]",
                    "notValues",
                    vec![format!("*{}x{number}", "y".repeat(50)), "*x9999999".to_owned()],
                )
            },
            lines(long(9_999_998)),
            lines(long(9_999_999)),
        ),
    ]
}
