//! `requestPrincipals` and `request.auth.principal`: issuer and subject of a verified token.

use mesh_authz::request::{Lookup, Request};

use crate::support::{Attribute, Matched, MatchedWhereItDenies, Unmatched, Unreadable, check_all, get, json, token};

const PRINCIPALS: Attribute =
    Attribute::field("source", "requestPrincipals", "notRequestPrincipals").or_condition("request.auth.principal");

fn user(issuer: &str, subject: &str) -> Request {
    token(&serde_json::json!({ "iss": issuer, "sub": subject }).to_string())
}

#[test]
fn presence_needs_an_issuer_and_a_subject() {
    check_all(
        &PRINCIPALS,
        &[
            ("*", user("i", "s"), Matched),
            ("*", user("", "s"), Unmatched),
            ("*", user("i", ""), Unmatched),
            ("*", token(r#"{"iss":"i"}"#), Unmatched),
            ("*", token(r#"{"sub":"s"}"#), Unmatched),
            ("*", token("{}"), Unmatched),
            ("*", get("/"), Unmatched),
            ("*", user("i", "a\nb"), MatchedWhereItDenies),
            ("*", user("a\nb", "s"), MatchedWhereItDenies),
            ("*", user("\n", "\n"), MatchedWhereItDenies),
        ],
    );
}

#[test]
fn a_suffix_without_a_slash_is_the_end_of_the_subject() {
    check_all(
        &PRINCIPALS,
        &[
            ("*lice", user("i", "alice"), Matched),
            ("*alice", user("i", "alice"), Matched),
            ("*lice", user("i", "alicex"), Unmatched),
            ("*lice", user("", "alice"), Unmatched),
            ("*lice", user("lice", "bob"), Unmatched),
            ("*lice", token(r#"{"sub":"alice"}"#), Unmatched),
            ("*lice", user("a\nb", "alice"), MatchedWhereItDenies),
            ("*lice", user("i", "\nlice"), Matched),
            ("**", user("i", "x*"), Matched),
            ("**", user("i", "x"), Unmatched),
            ("*a*", user("i", "xa*"), Matched),
            ("*a*", user("i", "xab"), Unmatched),
        ],
    );
}

#[test]
fn a_suffix_with_a_slash_is_the_end_of_the_issuer_and_the_whole_subject() {
    check_all(
        &PRINCIPALS,
        &[
            ("*.example/alice", user("https://i.example", "alice"), Matched),
            ("*.example/alice", user(".example", "alice"), Matched),
            ("*.example/alice", user("https://i.example", "alice2"), Unmatched),
            ("*.example/alice", user("https://i.example.evil", "alice"), Unmatched),
            ("*/alice", user("any", "alice"), Matched),
            ("*/alice", user("", "alice"), Unmatched),
            ("*/alice", user("any", "xalice"), Unmatched),
            ("*/alice", user("a\nb", "alice"), MatchedWhereItDenies),
            ("*/*", user("any", "*"), Matched),
            ("*/*", user("any", "alice"), Unmatched),
            ("*x/", user("ax", ""), Matched),
            ("*x/", user("ax", "s"), Unmatched),
            ("*a/b/c", user("xa/b", "c"), Matched),
            ("**/c", user("x*", "c"), Matched),
            ("**/c", user("x", "c"), Unmatched),
        ],
    );
}

#[test]
fn a_prefix_without_a_slash_is_the_beginning_of_the_issuer() {
    check_all(
        &PRINCIPALS,
        &[
            ("accounts*", user("accounts.example", "bob"), Matched),
            ("accounts*", user("accounts", "bob"), Matched),
            ("accounts*", user("accounts.example", ""), Unmatched),
            ("accounts*", user("xaccounts", "bob"), Unmatched),
            ("accounts*", user("accounts", "a\nb"), MatchedWhereItDenies),
            ("https://issuer.example*", user("https://issuer.example", "bob"), Unmatched),
            ("https://issuer.example*", user("https://issuer.example.org", "bob"), Unmatched),
            ("https://issuer.example*", user("https:/", "issuer.example"), Matched),
        ],
    );
}

#[test]
fn a_prefix_with_a_slash_is_the_whole_issuer_and_the_beginning_of_the_subject() {
    check_all(
        &PRINCIPALS,
        &[
            ("https://i.example/al*", user("https://i.example", "alice"), Matched),
            ("https://i.example/al*", user("https://i.example", "al"), Matched),
            ("https://i.example/al*", user("https://i.example", "bob"), Unmatched),
            ("https://i.example/al*", user("https://i.example/", "alice"), Unmatched),
            ("https://i.example/*", user("https://i.example", "alice"), Matched),
            ("https://i.example/*", user("https://i.example", ""), Unmatched),
            ("https://i.example/*", user("https://i.example.evil", "alice"), Unmatched),
            ("https://i.example/*", user("https://i.example", "a\nb"), MatchedWhereItDenies),
            ("i*/a*", user("i*", "ab"), Matched),
            ("i*/a*", user("ix", "ab"), Unmatched),
            ("/*", user("", "s"), Matched),
            ("/*", user("i", "s"), Unmatched),
        ],
    );
}

#[test]
fn anything_else_is_the_issuer_and_the_subject() {
    check_all(
        &PRINCIPALS,
        &[
            ("https://i.example/alice", user("https://i.example", "alice"), Matched),
            ("https://i.example/alice", user("https://i.example/", "alice"), Unmatched),
            ("https://i.example/alice", user("https://i.example", "Alice"), Unmatched),
            ("https://i.example/alice", user("https://i.example", "alice\n"), Unmatched),
            ("a/b/c", user("a/b", "c"), Matched),
            ("a/b/c", user("a", "b/c"), Unmatched),
            ("issuer", user("issuer", ""), Matched),
            ("issuer", user("issuer", "s"), Unmatched),
            ("issuer", token(r#"{"iss":"issuer"}"#), Unmatched),
            ("i/", user("i", ""), Matched),
            ("/s", user("", "s"), Matched),
            ("/", user("", ""), Matched),
            ("i*x/s", user("i*x", "s"), Matched),
            ("i*x/s", user("iyx", "s"), Unmatched),
        ],
    );
}

#[test]
fn issuer_and_subject_are_strings() {
    for claims in [
        r#"{"iss":5,"sub":"s"}"#,
        r#"{"iss":"i","sub":5}"#,
        r#"{"iss":["i"],"sub":"s"}"#,
        r#"{"iss":"i","sub":["s"]}"#,
        r#"{"iss":null,"sub":"s"}"#,
        r#"{"iss":"i","sub":{"s":"s"}}"#,
    ] {
        for value in ["*", "i/s", "*s", "i*", "i/*", "*/s"] {
            PRINCIPALS.check(&[value], &token(claims), Unmatched);
        }
    }
}

#[test]
fn one_of_several_principals_is_enough_but_not_half_of_each() {
    PRINCIPALS.check(&["a/x", "b/y"], &user("b", "y"), Matched);
    PRINCIPALS.check(&["a/x", "b/y"], &user("a", "y"), Unmatched);
}

#[test]
fn a_token_that_nobody_verified_is_no_token() {
    let bearer = get("/").header("authorization", "Bearer eyJhbGciOiJub25lIn0.eyJpc3MiOiJpIiwic3ViIjoicyJ9.");
    PRINCIPALS.check(&["*"], &bearer, Unmatched);
    let elsewhere = get("/").metadata("other", &json(r#"{"payload":{"iss":"i","sub":"s"}}"#));
    PRINCIPALS.check(&["*"], &elsewhere, Unmatched);
}

#[test]
fn a_token_that_cannot_be_read_counts_against_the_request() {
    PRINCIPALS.check(&["*"], &get("/").encoded_metadata(Lookup::Unreadable), Unreadable);
    PRINCIPALS.check(&["i/s"], &get("/").encoded_metadata(Lookup::Value(vec![0xff])), Unreadable);
}
