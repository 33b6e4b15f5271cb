//! `request.auth.claims[…]`, `request.auth.audiences` and `request.auth.presenter`.

use mesh_authz::request::Lookup;

use crate::support::{Attribute, Matched, MatchedWhereItDenies, Unmatched, Unreadable, get, json, token};

const ROLE: Attribute = Attribute::condition("request.auth.claims[role]");

#[test]
fn a_claim_is_a_string_or_an_element_of_a_list_of_strings() {
    let rows = [
        (r#"{"role":"admin"}"#, Matched),
        (r#"{"role":["user","admin"]}"#, Matched),
        (r#"{"role":["admin","user"]}"#, Matched),
        (r#"{"role":[null,5,true,{},[],"admin"]}"#, Matched),
        (r#"{"role":"user"}"#, Unmatched),
        (r#"{"role":["user"]}"#, Unmatched),
        (r#"{"role":[]}"#, Unmatched),
        (r#"{"role":[["admin"]]}"#, Unmatched),
        (r#"{"role":{"admin":"admin"}}"#, Unmatched),
        (r#"{"role":null}"#, Unmatched),
        (r#"{"role":true}"#, Unmatched),
        (r#"{"role":"user,admin"}"#, Unmatched),
        (r#"{"role":"user admin"}"#, Unmatched),
        (r#"{"role":"[admin]"}"#, Unmatched),
        (r#"{"role":"[\"admin\"]"}"#, Unmatched),
        (r#"{"role":"Admin"}"#, Unmatched),
        (r#"{"Role":"admin"}"#, Unmatched),
        (r#"{"roles":"admin"}"#, Unmatched),
        (r#"{"x":{"role":"admin"}}"#, Unmatched),
        ("{}", Unmatched),
    ];
    for (claims, is) in rows {
        println!("{claims}");
        ROLE.check(&["admin"], &token(claims), is);
    }
}

#[test]
fn numbers_booleans_and_null_match_nothing() {
    for claims in
        [r#"{"role":5}"#, r#"{"role":true}"#, r#"{"role":null}"#, r#"{"role":[5,true,null]}"#, r#"{"role":5.0}"#]
    {
        for value in ["5", "true", "null", "5*", "*", "*e"] {
            ROLE.check(&[value], &token(claims), Unmatched);
        }
    }
}

#[test]
fn presence_needs_one_string_that_is_not_empty() {
    let rows = [
        (r#"{"role":"a"}"#, Matched),
        (r#"{"role":""}"#, Unmatched),
        (r#"{"role":[""]}"#, Unmatched),
        (r#"{"role":["","a"]}"#, Matched),
        (r#"{"role":["a\nb"]}"#, MatchedWhereItDenies),
        (r#"{"role":["a\nb","c"]}"#, Matched),
        (r#"{"role":[]}"#, Unmatched),
    ];
    for (claims, is) in rows {
        ROLE.check(&["*"], &token(claims), is);
    }
}

#[test]
fn audiences_and_presenters_are_claims() {
    let audiences = Attribute::condition("request.auth.audiences");
    let presenter = Attribute::condition("request.auth.presenter");
    audiences.check(&["a"], &token(r#"{"aud":"a","azp":"b"}"#), Matched);
    audiences.check(&["b"], &token(r#"{"aud":"a","azp":"b"}"#), Unmatched);
    audiences.check(&["a"], &token(r#"{"aud":["x","a"]}"#), Matched);
    audiences.check(&["a", "b"], &token(r#"{"aud":["x","b"]}"#), Matched);
    audiences.check(&["x*"], &token(r#"{"aud":["xy"]}"#), Matched);
    audiences.check(&["a"], &token(r#"{"aud":"xa"}"#), Unmatched);
    presenter.check(&["b"], &token(r#"{"aud":"a","azp":"b"}"#), Matched);
    presenter.check(&["b"], &token(r#"{"azp":["b"]}"#), Matched);
    presenter.check(&["b"], &token(r#"{"aud":"b"}"#), Unmatched);
    Attribute::condition("request.auth.claims[aud]").check(&["a"], &token(r#"{"aud":["a"]}"#), Matched);
}

#[test]
fn claims_are_nested() {
    let deep = Attribute::condition("request.auth.claims[realm][access][roles]");
    deep.check(&["admin"], &token(r#"{"realm":{"access":{"roles":["user","admin"]}}}"#), Matched);
    deep.check(&["admin"], &token(r#"{"realm":{"access":{"roles":"admin"}}}"#), Matched);
    let rows = [
        r#"{"realm":{"access":{"roles":{"admin":"admin"}}}}"#,
        r#"{"realm":{"access":["roles"]}}"#,
        r#"{"realm":[{"access":{"roles":"admin"}}]}"#,
        r#"{"realm":{"access":null}}"#,
        r#"{"realm":"admin"}"#,
        r#"{"realm][access][roles":"admin"}"#,
        r#"{"roles":"admin"}"#,
        "{}",
    ];
    for claims in rows {
        deep.check(&["admin"], &token(claims), Unmatched);
        deep.check(&["*"], &token(claims), Unmatched);
    }
}

#[test]
fn malformed_nesting_is_one_literal_key() {
    let rows = [
        ("request.auth.claims[a[b]]", r#"{"a[b]":"v"}"#),
        ("request.auth.claims[a]b]", r#"{"a]b":"v"}"#),
        ("request.auth.claims[[a][b]]", r#"{"[a][b]":"v"}"#),
        ("request.auth.claims[a][b]x]", r#"{"a][b]x":"v"}"#),
        ("request.auth.claims[a] [b]", r#"{"a] [b":"v"}"#),
        ("request.auth.claims[https://example.com/claims/x]", r#"{"https://example.com/claims/x":"v"}"#),
        ("request.auth.claims[a.b]", r#"{"a.b":"v"}"#),
    ];
    for (key, claims) in rows {
        let claim = Attribute::condition(key);
        claim.check(&["v"], &token(claims), Matched);
        claim.check(&["v"], &token(r#"{"a":{"b":"v"}}"#), Unmatched);
    }
}

#[test]
fn only_the_claims_of_a_verified_token_count() {
    let elsewhere = get("/")
        .header("authorization", "Bearer eyJhbGciOiJub25lIn0.eyJyb2xlIjoiYWRtaW4ifQ.")
        .metadata("envoy.filters.http.other", &json(r#"{"payload":{"role":"admin"}}"#));
    ROLE.check(&["admin"], &elsewhere, Unmatched);
    let other_key =
        get("/").metadata("envoy.filters.http.jwt_authn", &json(r#"{"header":{"role":"admin"},"role":"admin"}"#));
    ROLE.check(&["admin"], &other_key, Unmatched);
    ROLE.check(&["*"], &get("/"), Unmatched);
}

#[test]
fn the_payload_may_stand_under_another_key() {
    let options = mesh_authz::engine::Options { jwt_payload_key: "verified".to_owned(), ..crate::support::options() };
    let request = get("/").metadata(
        "envoy.filters.http.jwt_authn",
        &json(r#"{"verified":{"role":"a","iss":"i","sub":"s"},"payload":{"role":"b"}}"#),
    );
    ROLE.check_with(&options, &["a"], &request, Matched);
    ROLE.check_with(&options, &["b"], &request, Unmatched);
    Attribute::condition("request.auth.principal").check_with(&options, &["i/s"], &request, Matched);
}

#[test]
fn claims_that_cannot_be_read_count_against_the_request() {
    ROLE.check(&["admin"], &get("/").encoded_metadata(Lookup::Unreadable), Unreadable);
    ROLE.check(&["*"], &get("/").encoded_metadata(Lookup::Value(b"\x0a\xff".to_vec())), Unreadable);
}

/// A large token is sorted before rules look into it. That must change no answer.
#[test]
fn many_other_claims_change_nothing() {
    let others = |names: &str| {
        let claims = (0..200).map(|number| format!("\"{names}{number}\":\"admin\""));
        claims.collect::<Vec<_>>().join(",")
    };
    let nested = Attribute::condition("request.auth.claims[a][role]");
    for names in ["", "a", "rol", "role", "roles", "z", "é"] {
        let others = others(names);
        for (claim, is) in [
            (r#""role":"admin""#, Matched),
            (r#""role":["user","admin"]"#, Matched),
            (r#""role":"user""#, Unmatched),
            (r#""role":{"x":"admin"}"#, Unmatched),
            (r#""rolE":"admin""#, Unmatched),
        ] {
            for claims in [format!("{{{claim},{others}}}"), format!("{{{others},{claim}}}")] {
                ROLE.check(&["admin"], &token(&claims), is);
                nested.check(&["admin"], &token(&format!("{{\"a\":{claims},{others}}}")), is);
            }
        }
        ROLE.check(&["admin"], &token(&format!("{{{others}}}")), Unmatched);
    }
}
