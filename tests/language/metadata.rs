//! `experimental.envoy.filters.…`: dynamic metadata.

use mesh_authz::request::{Lookup, Request};

use crate::support::{Attribute, Matched, MatchedWhereItDenies, Unmatched, Unreadable, get, json};

const KEY: Attribute = Attribute::condition("experimental.envoy.filters.http.x[k]");

fn set(fields: &str) -> Request {
    get("/").metadata("envoy.filters.http.x", &json(fields))
}

#[test]
fn a_plain_value_is_compared_with_a_string() {
    let rows = [
        ("v", r#"{"k":"v"}"#, Matched),
        ("v*", r#"{"k":"vw"}"#, Matched),
        ("*v", r#"{"k":"wv"}"#, Matched),
        ("*", r#"{"k":"x"}"#, Matched),
        ("*", r#"{"k":""}"#, Unmatched),
        ("v", r#"{"k":["v"]}"#, Unmatched),
        ("*", r#"{"k":["v"]}"#, Unmatched),
        ("5", r#"{"k":5}"#, Unmatched),
        ("true", r#"{"k":true}"#, Unmatched),
        ("*", r#"{"k":null}"#, Unmatched),
        ("*", r#"{"k":{"v":"v"}}"#, Unmatched),
        ("v", r#"{"K":"v"}"#, Unmatched),
        ("v", r#"{"x":{"k":"v"}}"#, Unmatched),
        ("v", "{}", Unmatched),
    ];
    for (value, fields, is) in rows {
        KEY.check(&[value], &set(fields), is);
    }
}

#[test]
fn a_value_in_brackets_is_compared_with_the_elements_of_a_list() {
    let rows = [
        ("[v]", r#"{"k":["u","v"]}"#, Matched),
        ("[v*]", r#"{"k":["u","vw"]}"#, Matched),
        ("[*v]", r#"{"k":["uv"]}"#, Matched),
        ("[*]", r#"{"k":["x"]}"#, Matched),
        ("[*]", r#"{"k":[""]}"#, Unmatched),
        ("[*]", r#"{"k":["a\nb"]}"#, MatchedWhereItDenies),
        ("[*]", r#"{"k":[]}"#, Unmatched),
        ("[*]", r#"{"k":[5,null,true,["x"],{}]}"#, Unmatched),
        ("[v]", r#"{"k":"v"}"#, Unmatched),
        ("[v]", r#"{"k":"[v]"}"#, Unmatched),
        ("[v]", r#"{"k":[["v"]]}"#, Unmatched),
        ("[[v]]", r#"{"k":["v"]}"#, Matched),
        ("[[v]]", r#"{"k":["[v]"]}"#, Unmatched),
        ("[]", r#"{"k":[""]}"#, Matched),
        ("[]", r#"{"k":["a"]}"#, Unmatched),
        ("[]", r#"{"k":[]}"#, Unmatched),
        ("[v", r#"{"k":"[v"}"#, Matched),
        ("v]", r#"{"k":"v]"}"#, Matched),
        ("[", r#"{"k":"["}"#, Matched),
        ("[*", r#"{"k":"[x"}"#, Matched),
    ];
    for (value, fields, is) in rows {
        println!("{value} {fields}");
        KEY.check(&[value], &set(fields), is);
    }
}

#[test]
fn both_kinds_of_value_stand_in_one_list() {
    for (fields, is) in [
        (r#"{"k":"a"}"#, Matched),
        (r#"{"k":["b"]}"#, Matched),
        (r#"{"k":"b"}"#, Unmatched),
        (r#"{"k":["a"]}"#, Unmatched),
    ] {
        KEY.check(&["a", "[b]"], &set(fields), is);
    }
}

#[test]
fn the_key_names_the_filter_and_one_key_of_it() {
    let other = get("/").metadata("envoy.filters.http.y", &json(r#"{"k":"v"}"#));
    KEY.check(&["v"], &other, Unmatched);
    let both = other.metadata("envoy.filters.http.x", &json(r#"{"k":"v"}"#));
    KEY.check(&["v"], &both, Matched);
    KEY.check(&["v"], &get("/").metadata("http.x", &json(r#"{"k":"v"}"#)), Unmatched);
    let odd = |key, fields| Attribute::condition(key).check(&["v"], &set(fields), Matched);
    odd("experimental.envoy.filters.http.x[a][b]", r#"{"a][b":"v"}"#);
    odd("experimental.envoy.filters.http.x[a]]", r#"{"a]":"v"}"#);
    odd("experimental.envoy.filters.http.x[a.b]", r#"{"a.b":"v"}"#);
}

#[test]
fn metadata_that_cannot_be_read_counts_against_the_request() {
    KEY.check(&["v"], &get("/").encoded_metadata(Lookup::Unreadable), Unreadable);
    KEY.check(&["[v]"], &get("/").encoded_metadata(Lookup::Value(vec![0x0a, 0x05])), Unreadable);
    KEY.check(&["v"], &get("/").encoded_metadata(Lookup::Absent), Unmatched);
}

#[test]
fn a_value_of_no_known_kind_cannot_be_read() {
    // The key k has a Value whose string field has the wire type of an integer, or a Value with an unknown field.
    for value in [&[0x18, 0x01][..], &[0x1a, 0x01, b'v', 0x3a, 0x00]] {
        let entry = [&[0x0a, 0x01, b'k', 0x12, u8::try_from(value.len()).unwrap()], value].concat();
        let fields = [&[0x0a, u8::try_from(entry.len()).unwrap()], &entry[..]].concat();
        let name = b"envoy.filters.http.x";
        let mut filter = vec![0x0a, u8::try_from(name.len()).unwrap()];
        filter.extend(name);
        filter.extend([0x12, u8::try_from(fields.len()).unwrap()]);
        filter.extend(&fields);
        let message = [&[0x0a, u8::try_from(filter.len()).unwrap()], &filter[..]].concat();
        let request = get("/").encoded_metadata(Lookup::Value(message));
        KEY.check(&["v"], &request, Unreadable);
    }
}
