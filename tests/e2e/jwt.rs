//! `requestPrincipals` and `request.auth.…`: tokens that Envoy's own `jwt_authn` has verified.

use std::sync::OnceLock;

use serde_json::{Value, json};
use testbed::{Issuer, Request};

use crate::question::{Answer, Answer::*, Asked, Question, ask_with, condition, source};
use crate::sidecar::FRONTEND;

/// The issuer that signs the tokens in this test run.
pub fn issuer() -> &'static Issuer {
    static ISSUER: OnceLock<Issuer> = OnceLock::new();
    ISSUER.get_or_init(|| Issuer::new().unwrap())
}

/// Envoy's filter that verifies tokens of [`issuer`], configured as Istio does it. A request without a token is
/// accepted.
pub fn jwt_authn() -> Value {
    json!({
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": { "test": {
                "local_jwks": { "inline_string": issuer().jwks() },
                "payload_in_metadata": "payload",
                "normalize_payload_in_metadata": { "space_delimited_claims": ["scope", "permission"] },
            } },
            "rules": [{ "match": { "prefix": "/" }, "requires": { "requires_any": { "requirements": [
                { "provider_name": "test" }, { "allow_missing": {} },
            ] } } }],
        },
    })
}

/// A request with a token that has these claims.
pub fn with_token(issuer: &Issuer, claims: &Value) -> Request {
    Request::get("/").header("authorization", format!("Bearer {}", issuer.token(claims).unwrap()))
}

fn ask(questions: Vec<Question>) -> Asked {
    ask_with(questions, json!({}), |blueprint| blueprint.filter(jwt_authn()))
}

fn answer(asked: &Asked, name: &str, claims: &Value) -> Answer {
    asked.answer(name, &asked.client(FRONTEND), &with_token(issuer(), claims))
}

fn principal(name: &str, value: &str) -> Question {
    source(name, "requestPrincipals", "request.auth.principal", &[value])
}

fn claim(name: &str, key: &str, value: &str) -> Question {
    condition(name, &format!("request.auth.claims{key}"), &[value])
}

#[test]
fn a_request_principal_is_issuer_and_subject() {
    let asked = ask(vec![
        principal("any", "*"),
        principal("exact", "https://issuer.example/alice"),
        principal("issuer", "https://issuer.example/*"),
        principal("subject-prefix", "https://issuer.example/al*"),
        principal("subject", "*/alice"),
        principal("subject-suffix", "*ice"),
        principal("issuer-suffix", "*.example/alice"),
        principal("issuer-prefix", "https*"),
    ]);
    let names =
        ["any", "exact", "issuer", "subject-prefix", "subject", "subject-suffix", "issuer-suffix", "issuer-prefix"];
    let answers = |iss: &str, sub: &str| names.map(|name| answer(&asked, name, &json!({ "iss": iss, "sub": sub })));
    assert_eq!(answers("https://issuer.example", "alice"), [Match; 8]);
    assert_eq!(
        answers("https://issuer.example", "bob"),
        [Match, NoMatch, Match, NoMatch, NoMatch, NoMatch, NoMatch, Match]
    );
    assert_eq!(answers("other", "alice"), [Match, NoMatch, NoMatch, NoMatch, Match, Match, NoMatch, NoMatch]);
}

#[test]
fn an_issuer_pattern_that_splits_inside_its_slashes_matches_nobody() {
    let asked = ask(vec![principal("split", "https://issuer.example*")]);
    assert_eq!(answer(&asked, "split", &json!({ "iss": "https://issuer.example", "sub": "alice" })), NoMatch);
    assert_eq!(answer(&asked, "split", &json!({ "iss": "https:/", "sub": "issuer.example.evil" })), Match);
}

#[test]
fn a_token_without_issuer_or_subject_makes_no_principal() {
    let asked = ask(vec![principal("any", "*"), principal("empty", "/alice")]);
    for claims in [
        json!({ "iss": "i" }),
        json!({ "sub": "alice" }),
        json!({ "iss": "i", "sub": "" }),
        json!({ "iss": "", "sub": "alice" }),
        json!({}),
    ] {
        assert_eq!(answer(&asked, "any", &claims), NoMatch, "{claims}");
    }
    assert_eq!(answer(&asked, "empty", &json!({ "iss": "", "sub": "alice" })), Match);
    assert_eq!(answer(&asked, "any", &json!({ "iss": "i", "sub": "alice" })), Match);
}

#[test]
fn a_request_without_a_token_has_no_claims() {
    let asked = ask(vec![
        principal("any", "*"),
        condition("audience", "request.auth.audiences", &["*"]),
        condition("presenter", "request.auth.presenter", &["*"]),
        claim("claim", "[role]", "*"),
    ]);
    let client = asked.client(FRONTEND);
    for name in ["any", "audience", "presenter", "claim"] {
        assert_eq!(asked.answer(name, &client, &Request::get("/")), NoMatch, "{name}");
        // A browser's preflight request has no claims either.
        assert_eq!(asked.answer(name, &client, &Request::new("OPTIONS", "/")), NoMatch, "{name}");
    }
    let claims = json!({ "iss": "i", "sub": "s", "aud": "a", "azp": "p", "role": "r" });
    for name in ["any", "audience", "presenter", "claim"] {
        assert_eq!(answer(&asked, name, &claims), Match, "{name}");
    }
}

#[test]
fn a_forged_token_does_not_get_past_envoy() {
    let asked = ask(vec![principal("any", "*")]);
    let forged = with_token(&Issuer::new().unwrap(), &json!({ "iss": "i", "sub": "alice" }));
    for rule in ["deny-any-0", "allow-any-0"] {
        let response = asked.client(FRONTEND).send(&forged.clone().header("x-rule", rule)).unwrap();
        assert_eq!((response.status, response.header("x-app")), (401, None), "{rule}");
    }
}

#[test]
fn a_token_that_nobody_has_verified_says_nothing() {
    // CVE-2021-21378: without jwt_authn, the token is only the value of a header.
    let asked = crate::question::ask(vec![principal("any", "*")]);
    assert_eq!(answer(&asked, "any", &json!({ "iss": "i", "sub": "alice" })), NoMatch);
}

#[test]
fn audiences_and_presenter_are_strings_or_lists() {
    let asked = ask(vec![
        condition("audience", "request.auth.audiences", &["shop", "bank"]),
        condition("presenter", "request.auth.presenter", &["app*"]),
    ]);
    for (aud, expected) in [
        (json!("shop"), Match),
        (json!(["x", "bank"]), Match),
        (json!(["x", "y"]), NoMatch),
        (json!([]), NoMatch),
        (json!("x"), NoMatch),
    ] {
        assert_eq!(answer(&asked, "audience", &json!({ "aud": aud })), expected, "{aud}");
    }
    assert_eq!(answer(&asked, "presenter", &json!({ "azp": "app-1" })), Match);
    assert_eq!(answer(&asked, "presenter", &json!({ "azp": "other" })), NoMatch);
}

#[test]
fn claims_are_found_by_their_path() {
    let asked = ask(vec![
        claim("flat", "[groups]", "admin"),
        claim("nested", "[realm][roles]", "admin"),
        claim("prefix", "[groups]", "adm*"),
        claim("dotted", "[https://issuer.example/groups]", "admin"),
        // Malformed nesting is a single key: the text between the first and the last bracket.
        claim("odd", "[a]x[b]", "admin"),
    ]);
    for (name, claims, expected) in [
        ("flat", json!({ "groups": "admin" }), Match),
        ("flat", json!({ "groups": ["user", "admin"] }), Match),
        ("flat", json!({ "groups": ["user", 5, null, ["admin"]] }), NoMatch),
        ("flat", json!({ "groups": { "admin": "admin" } }), NoMatch),
        ("flat", json!({ "Groups": "admin" }), NoMatch),
        ("prefix", json!({ "groups": ["administrator"] }), Match),
        ("nested", json!({ "realm": { "roles": ["admin"] } }), Match),
        ("nested", json!({ "realm": { "roles": "admin" } }), Match),
        ("nested", json!({ "realm": ["admin"], "roles": ["admin"] }), NoMatch),
        ("dotted", json!({ "https://issuer.example/groups": "admin" }), Match),
        ("dotted", json!({ "groups": "admin" }), NoMatch),
        ("odd", json!({ "a]x[b": "admin" }), Match),
        ("odd", json!({ "a": { "b": "admin" } }), NoMatch),
    ] {
        assert_eq!(answer(&asked, name, &claims), expected, "{name}: {claims}");
    }
}

#[test]
fn numbers_booleans_and_null_match_nothing() {
    let asked = ask(vec![
        claim("any", "[v]", "*"),
        claim("number", "[v]", "5"),
        claim("boolean", "[v]", "true"),
        claim("null", "[v]", "null"),
    ]);
    for value in [json!(5), json!(true), json!(null), json!({}), json!([5, true, null])] {
        for name in ["any", "number", "boolean", "null"] {
            assert_eq!(answer(&asked, name, &json!({ "v": value })), NoMatch, "{name}: {value}");
        }
    }
    assert_eq!(answer(&asked, "number", &json!({ "v": "5" })), Match);
    assert_eq!(answer(&asked, "boolean", &json!({ "v": "true" })), Match);
}

#[test]
fn a_string_that_looks_like_a_list_is_a_string() {
    let asked = ask(vec![claim("role", "[role]", "admin"), claim("prefix", "[role]", "\u{1}*")]);
    // A list with one element `admin`: in the encoding in which Envoy passes lists to a filter, and as JSON.
    let encoded = "\u{1}\0\0\0\u{5}\0\0\0\0\0\0\0admin\0\0";
    for text in [encoded, "[\"admin\"]", "admin\0", "user admin", "admin,user"] {
        assert_eq!(answer(&asked, "role", &json!({ "role": text })), NoMatch, "{text:?}");
    }
    assert_eq!(answer(&asked, "prefix", &json!({ "role": encoded })), Match);
    assert_eq!(answer(&asked, "role", &json!({ "role": "admin" })), Match);
}

#[test]
fn a_scope_is_split_at_its_spaces() {
    let asked = ask(vec![claim("scope", "[scope]", "write")]);
    assert_eq!(answer(&asked, "scope", &json!({ "scope": "read write" })), Match);
    assert_eq!(answer(&asked, "scope", &json!({ "scope": "read overwrite" })), NoMatch);
}

#[test]
fn a_line_feed_neither_hides_a_subject_nor_makes_one_present() {
    // Istio's regular expression `.+` does not match a line feed, so its DENY rule would let the request pass.
    let asked = ask(vec![principal("any", "*"), claim("claim", "[role]", "*"), principal("exact", "i/alice")]);
    assert_eq!(answer(&asked, "any", &json!({ "iss": "i", "sub": "a\nb" })), Unreadable);
    assert_eq!(answer(&asked, "claim", &json!({ "role": "a\nb" })), Unreadable);
    assert_eq!(answer(&asked, "any", &json!({ "iss": "i", "sub": "ab" })), Match);
    assert_eq!(answer(&asked, "exact", &json!({ "iss": "i", "sub": "alice\n" })), NoMatch);
}

#[test]
fn the_payload_is_read_under_the_key_that_the_configuration_names() {
    let mut filter = jwt_authn();
    filter["typed_config"]["providers"]["test"]["payload_in_metadata"] = json!("claims");
    for (key, expected) in [("claims", Match), ("payload", NoMatch)] {
        let config = json!({ "jwt": { "payloadKey": key } });
        let asked = ask_with(vec![principal("any", "*")], config, |blueprint| blueprint.filter(filter.clone()));
        assert_eq!(answer(&asked, "any", &json!({ "iss": "i", "sub": "alice" })), expected, "{key}");
    }
}
