//! Messages and hints say only what is true of Envoy, and what is surely meant.

use crate::{findings, found, one_spelling, operation, source};

/// A field, a value, the code of the lint that fires, its message and its hint.
const MESSAGES: &[(&str, &str, &str, &str, &str)] = &[
    // HTTP/2 takes every token as a method.
    ("methods", "GET.", "MA039", "`GET.` is no registered method, and Envoy refuses it over HTTP/1", "write `GET`"),
    (
        "methods",
        "DELET",
        "MA039",
        "`DELET` is no registered method, and Envoy refuses it over HTTP/1",
        "write `DELETE`",
    ),
    ("methods", "G(T", "MA039", "`G(T` has `(`, and no method has it", "write each method as a value of its own"),
    ("methods", "get", "MA006", "`get` is compared with its case, and clients send methods in capitals", "write `GET`"),
    (
        "methods",
        "fetch",
        "MA006",
        "`fetch` is compared with its case, and clients send methods in capitals",
        "write the method as clients send it",
    ),
    (
        "methods",
        "GET, POST",
        "MA039",
        "`GET, POST` is compared as one value, not as 2",
        "write `GET` and `POST` as 2 values",
    ),
    // Such a path is possible.
    ("paths", "/a,/b", "MA039", "`/a,/b` is compared as one value, not as 2", "write `/a` and `/b` as 2 values"),
    (
        "paths",
        "/a b",
        "MA039",
        "`/a b` has a space, and Envoy refuses a path that has one",
        "write `/a%20b`, as clients do",
    ),
    (
        "hosts",
        "it's.example",
        "MA039",
        "`it's.example` has `'`, and no name of a host has it",
        "write the name that the other side has",
    ),
    // A space can stand for a dash.
    (
        "principals",
        "td/ns/a/sa/we b",
        "MA039",
        "`td/ns/a/sa/we b` has ` `, and no SPIFFE identity has it",
        "write the name that the other side has",
    ),
    (
        "namespaces",
        "team a",
        "MA039",
        "`team a` has ` `, and no name of a namespace has it",
        "write the name that the other side has",
    ),
    (
        "hosts",
        "shop example.com",
        "MA039",
        "`shop example.com` has ` `, and no name of a host has it",
        "write the name that the other side has",
    ),
    (
        "serviceAccounts",
        "shop/we b",
        "MA039",
        "`shop/we b` has ` `, and no name of a service account has it",
        "write the name that the other side has",
    ),
    (
        "principals",
        "td/ns/a/sa/b td/ns/a/sa/c",
        "MA039",
        "`td/ns/a/sa/b td/ns/a/sa/c` is compared as one value, not as 2",
        "write `td/ns/a/sa/b` and `td/ns/a/sa/c` as 2 values",
    ),
    (
        "namespaces",
        "o'shop",
        "MA039",
        "`o'shop` has `'`, and no name of a namespace has it",
        "write the name that the other side has",
    ),
    (
        "namespaces",
        "sh\u{a0}op",
        "MA039",
        "`sh\u{fffd}op` has a space that is not the usual one, U+00A0",
        "type it anew",
    ),
    ("namespaces", "sh\u{200b}op", "MA039", "`sh\u{fffd}op` has an invisible character, U+200B", "write `shop`"),
    (
        "paths",
        "/\u{201c}a\u{201d}",
        "MA039",
        "`/\u{201c}a\u{201d}` has `\u{201c}`, U+201C, which is no ASCII character",
        "type it anew",
    ),
    (
        "principals",
        "cluster.local/vm/db",
        "MA039",
        "`cluster.local/vm/db` has not the form of the identities that Istio gives to workloads",
        "write `cluster.local/ns/NAMESPACE/sa/NAME`",
    ),
];

#[test]
fn messages_say_only_what_is_true_of_envoy() {
    let of = |name: &str, value: &str| {
        let fields = format!("{name}: [\"{value}\"]");
        let is_operation = ["methods", "paths", "hosts"].contains(&name);
        let text = if is_operation { operation("AUDIT", &fields) } else { source("AUDIT", &fields) };
        let found = findings(&text, &one_spelling()).into_iter().next().unwrap();
        (found.code.unwrap(), found.diagnostic.message, found.diagnostic.hint.unwrap())
    };
    for (name, value, code, says, write) in MESSAGES {
        let of = of(name, value);
        assert_eq!((of.0, of.1.as_str(), of.2.as_str()), (*code, *says, *write), "{name} {value}");
    }
    for (name, value) in [
        ("methods", "BAN"),
        ("methods", "QUERY"),
        ("methods", "UPDATE"),
        ("methods", "BASELINE-CONTROL"),
        ("hosts", "a!b.example"),
        ("paths", "/Products(1)"),
        ("paths", "/a|b"),
    ] {
        assert_eq!(
            found(&operation("AUDIT", &format!("{name}: [\"{value}\"]")), &one_spelling()),
            [],
            "{name} {value}"
        );
    }
}
