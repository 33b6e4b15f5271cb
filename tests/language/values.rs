//! The forms of values that fields share: `*`, `abc*`, `*abc` and exact. They are compared with any bytes, and with
//! absent, empty and odd attributes.

use mesh_authz::request::{Lookup, Request};

use crate::support::{Attribute, Matched, MatchedWhereItDenies, Unmatched, get, json, token};

/// An attribute that can have any text, and functions that make requests with and without it.
struct Text {
    name: &'static str,
    attribute: Attribute,
    with: fn(&[u8]) -> Request,
    without: fn() -> Request,
    /// Whether an empty value counts as present.
    empty_is_present: bool,
    /// Whether the comparison is case-sensitive.
    case_counts: bool,
}

const FILTER: &str = "envoy.filters.http.x";

fn utf8(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn claim(value: &str) -> Request {
    token(&serde_json::json!({ "role": value, "aud": value, "azp": value }).to_string())
}

fn texts() -> Vec<Text> {
    let text = |name, attribute, with, without| Text {
        name,
        attribute,
        with,
        without,
        empty_is_present: false,
        case_counts: true,
    };
    vec![
        Text {
            empty_is_present: true,
            ..text(
                "header",
                Attribute::condition("request.headers[X-Role]"),
                |v| get("/").header("x-role", v),
                || get("/"),
            )
        },
        Text {
            empty_is_present: true,
            ..text(
                "method",
                Attribute::field("operation", "methods", "notMethods"),
                |v| Request::default().header(":method", v).header(":path", "/"),
                || Request::default().header(":path", "/"),
            )
        },
        Text {
            empty_is_present: true,
            case_counts: false,
            ..text(
                "host",
                Attribute::field("operation", "hosts", "notHosts"),
                |v| Request::new("GET", "/").header(":authority", v),
                || Request::new("GET", "/"),
            )
        },
        text(
            "path",
            Attribute::field("operation", "paths", "notPaths"),
            |v| Request::default().header(":method", "GET").header(":path", v),
            || Request::default().header(":method", "GET"),
        ),
        text("sni", Attribute::condition("connection.sni"), |v| get("/").sni(Lookup::Value(v)), || get("/")),
        text(
            "claim",
            Attribute::condition("request.auth.claims[role]"),
            |v| claim(utf8(v)),
            || token(r#"{"iss":"i","sub":"s"}"#),
        ),
        text(
            "audience",
            Attribute::condition("request.auth.audiences"),
            |v| claim(utf8(v)),
            || token(r#"{"iss":"i","sub":"s"}"#),
        ),
        text(
            "presenter",
            Attribute::condition("request.auth.presenter"),
            |v| claim(utf8(v)),
            || token(r#"{"iss":"i","sub":"s"}"#),
        ),
        text(
            "metadata",
            Attribute::condition("experimental.envoy.filters.http.x[k]"),
            |v| get("/").metadata(FILTER, &json(&serde_json::json!({ "k": utf8(v) }).to_string())),
            || get("/").metadata(FILTER, &json(r#"{"other":"v"}"#)),
        ),
        text(
            "metadata list element",
            Attribute::condition("experimental.envoy.filters.http.x[k]"),
            |v| get("/").metadata(FILTER, &json(&serde_json::json!({ "k": ["zzz", utf8(v)] }).to_string())),
            || get("/").metadata(FILTER, &json(r#"{"k":[]}"#)),
        ),
    ]
}

impl Text {
    fn value(&self, value: &str) -> String {
        if self.name == "metadata list element" { format!("[{value}]") } else { value.to_owned() }
    }

    fn check(&self, value: &str, actual: &str, matched: bool) {
        println!("{}: {value:?} against {actual:?}", self.name);
        let is = if matched { Matched } else { Unmatched };
        self.attribute.check(&[&self.value(value)], &(self.with)(actual.as_bytes()), is);
    }
}

#[test]
fn a_value_is_exact_a_prefix_a_suffix_or_presence_and_a_star_elsewhere_is_a_character() {
    let rows = [
        ("abc", "abc", true),
        ("abc", "abcd", false),
        ("abc", "xabc", false),
        ("abc", "ab", false),
        ("abc", "", false),
        ("abc*", "abc", true),
        ("abc*", "abcd", true),
        ("abc*", "abc*", true),
        ("abc*", "ab", false),
        ("abc*", "xabc", false),
        ("abc*", "", false),
        ("*abc", "abc", true),
        ("*abc", "xabc", true),
        ("*abc", "*abc", true),
        ("*abc", "abcx", false),
        ("*abc", "bc", false),
        ("*abc", "", false),
        ("a*c", "a*c", true),
        ("a*c", "abc", false),
        ("a*c", "ac", false),
        ("*b*", "xb*", true),
        ("*b*", "xbx", false),
        ("**", "x*", true),
        ("**", "x", false),
        ("a.c", "a.c", true),
        ("a.c", "abc", false),
        ("a+", "aa", false),
        ("(a|b)", "a", false),
    ];
    for text in texts() {
        for (value, actual, matched) in rows {
            if actual.is_empty() || !value.contains("zzz") {
                text.check(value, actual, matched);
            }
        }
    }
}

#[test]
fn one_of_several_values_is_enough() {
    for text in texts() {
        let values = ["first", "sec*", "*rd"].map(|value| text.value(value));
        let values: Vec<_> = values.iter().map(String::as_str).collect();
        for (actual, is) in [("first", Matched), ("second", Matched), ("third", Matched), ("fourth", Unmatched)] {
            text.attribute.check(&values, &(text.with)(actual.as_bytes()), is);
        }
    }
}

#[test]
fn presence_needs_a_value_that_is_not_empty_except_for_headers_hosts_and_methods() {
    for text in texts() {
        if text.name != "metadata list element" {
            text.check("*", "anything", true);
            text.check("*", "", text.empty_is_present);
        }
    }
}

#[test]
fn what_is_absent_matches_no_value() {
    for text in texts() {
        for value in ["*", "abc", "abc*", "*abc"] {
            println!("{}: {value}", text.name);
            text.attribute.check(&[&text.value(value)], &(text.without)(), Unmatched);
        }
    }
}

#[test]
fn case_counts_except_in_hosts() {
    for text in texts() {
        for (value, actual) in [("abc", "ABC"), ("abc*", "AbCd"), ("*abc", "xaBC"), ("ABC", "abc")] {
            text.check(value, actual, !text.case_counts);
        }
        text.check("straße", "STRASSE", false);
        text.check("é", "É", false);
    }
}

#[test]
fn wildcards_at_an_end_take_every_byte() {
    for text in texts().iter().filter(|text| !["claim", "audience", "presenter"].contains(&text.name)) {
        if text.name.starts_with("metadata") {
            continue;
        }
        for odd in [&b"\n"[..], b"\r\n", b"\x00", b"\xff", b"\xc3", b"\x80\xbf", "é".as_bytes(), b" ", b"\t"] {
            println!("{}: {odd:?}", text.name);
            let around = |before: &[u8], behind: &[u8]| (text.with)(&[before, odd, behind].concat());
            text.attribute.check(&["abc*"], &around(b"abc", b""), Matched);
            text.attribute.check(&["*abc"], &around(b"", b"abc"), Matched);
            // Applications remove white space around a header's value.
            let is_removed = ["header", "host"].contains(&text.name) && [&b" "[..], b"\t"].contains(&odd);
            let otherwise = if is_removed { MatchedWhereItDenies } else { Unmatched };
            text.attribute.check(&["abc"], &around(b"abc", b""), otherwise);
            text.attribute.check(&["abc"], &around(b"", b"abc"), otherwise);
            text.attribute.check(&["abc*"], &around(b"", b"abc"), otherwise);
            text.attribute.check(&["*abc"], &around(b"abc", b""), otherwise);
        }
    }
    for text in texts() {
        for odd in ["\n", "\r", "\u{0}", "\u{7f}", "\u{2028}"] {
            text.check("abc*", &format!("abc{odd}"), true);
            text.check("*abc", &format!("{odd}abc"), true);
            text.check("abc", &format!("abc{odd}"), false);
        }
    }
}

#[test]
fn presence_is_text_where_it_permits_and_anything_where_it_denies() {
    for text in texts() {
        let is = if text.empty_is_present { Matched } else { MatchedWhereItDenies };
        if text.name == "metadata list element" {
            continue;
        }
        text.attribute.check(&["*"], &(text.with)(b"a\nb"), is);
        text.attribute.check(&["*"], &(text.with)(b"\n"), is);
        if !matches!(text.name, "claim" | "audience" | "presenter" | "metadata") {
            text.attribute.check(&["*"], &(text.with)(b"a\xffb"), is);
        }
        for text_with_odd_characters in ["\r", "\u{0}", "é", "\u{2028}", " "] {
            text.attribute.check(&["*"], &(text.with)(text_with_odd_characters.as_bytes()), Matched);
        }
    }
}

#[test]
fn a_very_long_value_is_a_value() {
    let long = "a".repeat(100_000);
    for text in texts() {
        text.check("a*", &long, true);
        text.check("*a", &long, true);
        text.check(&long, &long, true);
        text.check(&long, &long[1..], false);
    }
}
