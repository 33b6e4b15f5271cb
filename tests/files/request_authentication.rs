//! `RequestAuthentication`: the fields that are read, the errors that Istio's admission check also reports, and the
//! documents that must not be skipped.

use std::time::Duration;

use mesh_authz::diagnostic::{Diagnostic, Diagnostics};
use mesh_authz::policy::Target;
use mesh_authz_cli::load::Resources;
use mesh_authz_cli::load::request_authentication::{
    ClaimToHeader, FromHeader, JwtRule, Keys, KeysUri, Presence, RequestAuthentication, request_authentication,
};
use mesh_authz_cli::load::yaml;
use mesh_authz_cli::render::jwt::filter;
use serde_json::{Value, json};

fn with_spec(spec: &str) -> String {
    format!(
        "{{ apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: {{ name: r, namespace: shop }}, \
         spec: {spec} }}"
    )
}

fn read(text: &str) -> (Option<RequestAuthentication>, Vec<String>) {
    let mut diagnostics = Diagnostics::new();
    let document = yaml::documents(text).unwrap().remove(0);
    let read = request_authentication(&document, &mut diagnostics);
    (read, diagnostics.into_found().iter().map(Diagnostic::to_string).collect())
}

/// The findings about a spec, without their common prefix.
fn spec(text: &str) -> Vec<String> {
    let (read, found) = read(&with_spec(text));
    assert_eq!(read.is_some(), found.is_empty(), "{text}");
    found.into_iter().map(|finding| finding.replace("policy shop/r: spec", "")).collect()
}

fn rule(text: &str) -> Vec<String> {
    let found = spec(&format!("{{ jwtRules: [{{ {text} }}] }}"));
    found.into_iter().map(|finding| finding.replace(".jwtRules[0]", "")).collect()
}

fn refused(rows: &[(&str, &str)]) {
    for (text, expected) in rows {
        assert_eq!(rule(text), [*expected], "{text}");
    }
}

const JWKS: &str = r#"{"keys":[{"kty":"oct","k":"eA"}]}"#;

#[test]
fn every_field_is_read() {
    let (read, found) = read(&with_spec(&format!(
        "{{ selector: {{ matchLabels: {{ app: x }} }}, jwtRules: [{{ issuer: i, audiences: [a, b], jwks: '{JWKS}', \
         fromHeaders: [{{ name: x-token, prefix: 'Token ' }}, {{ name: z }}], fromParams: [p], fromCookies: [c], \
         outputPayloadToHeader: x-payload, forwardOriginalToken: true, \
         outputClaimToHeaders: [{{ header: x-sub, claim: sub }}], timeout: 1.25s, spaceDelimitedClaims: [roles], presence: REQUIRED }}] }}"
    )));
    assert_eq!(found, Vec::<String>::new());
    let read = read.unwrap();
    let text = |text: &str| text.to_owned();
    assert_eq!(read.name.to_string(), "shop/r");
    assert_eq!(read.target, Target::Labels(vec![(text("app"), text("x"))].into()));
    let expected = JwtRule {
        issuer: Some(text("i")),
        audiences: vec![text("a"), text("b")],
        keys: Keys::Inline(text(JWKS)),
        from_headers: vec![
            FromHeader { name: text("x-token"), prefix: text("Token ") },
            FromHeader { name: text("z"), prefix: String::new() },
        ],
        from_params: vec![text("p")],
        from_cookies: vec![text("c")],
        output_payload_to_header: Some(text("x-payload")),
        forward_original_token: true,
        output_claim_to_headers: vec![ClaimToHeader { header: text("x-sub"), claim: text("sub") }],
        timeout: Some(Duration::from_millis(1250)),
        space_delimited_claims: vec![text("roles")],
        presence: Presence::Required,
    };
    assert_eq!(read.rules, [expected]);
}

#[test]
fn what_says_little_is_valid() {
    let valid = ["{}", "{ jwtRules: [] }", "{ jwtRules: [{ issuer: i }] }", "{ selector: {} }"];
    for text in valid {
        assert_eq!(spec(text), Vec::<String>::new(), "{text}");
    }
    let text = "{ apiVersion: security.istio.io/v1beta1, kind: RequestAuthentication, metadata: { name: r } }";
    let (read, found) = read(text);
    assert_eq!((read.unwrap().name.to_string().as_str(), found), ("default/r", vec![]));
}

#[test]
fn every_key_of_a_set_is_one_that_a_cluster_accepts() {
    let found = |key: &str| rule(&format!("issuer: i, jwks: '{{\"keys\":[{{\"kty\":\"oct\",\"k\":\"eA\"}},{key}]}}'"));
    for key in [
        r#"{"kty":"oct","k":"+/8="}"#,
        r#"{"kty":"oct","k":"e-_8","alg":null,"kid":"x","key_ops":["verify"],"x5c":[],"more":1}"#,
        r#"{"kty":"RSA","e":"AQAB","n":"AQ","p":1}"#,
        r#"{"kty":"EC","crv":"P-1","x":"AQ","y":"AQ"}"#,
        r#"{"kty":"OKP","crv":"Ed25519","x":"","d":"AQ"}"#,
    ] {
        assert_eq!(found(key), Vec::<String>::new(), "{key}");
    }
    for (key, mistake) in [
        ("1", "it has no `kty`"),
        (r#"{"kty":null}"#, "its `kty` is not a string"),
        (r#"{"kty":"rsa"}"#, "`rsa` is no `kty` of RSA, EC, OKP and oct"),
        (r#"{"kty":"oct"}"#, "it has no `k`"),
        (r#"{"kty":"oct","k":"e A"}"#, "its `k` is not base64url"),
        (r#"{"kty":"oct","k":"+_8="}"#, "its `k` is not base64url"),
        (r#"{"kty":"oct","k":"eA="}"#, "its `k` is not base64url"),
        (r#"{"kty":"oct","k":1}"#, "its `k` is not a string"),
        (r#"{"kty":"RSA","e":"AQAB","n":"AQ","d":"AQ","p":1}"#, "its `p` is not a string"),
        (r#"{"kty":"EC","x":"AQ","y":"AQ"}"#, "it has no `crv`"),
        (r#"{"kty":"OKP","crv":1,"x":"AQ"}"#, "its `crv` is not a string"),
        (r#"{"kty":"oct","k":"eA","kid":1}"#, "its `kid` is not a string"),
        (r#"{"kty":"oct","k":"eA","key_ops":"verify"}"#, "its `key_ops` is not a list of texts"),
        (r#"{"kty":"oct","k":"eA","x5c":["!"]}"#, "its `x5c` is not a list of texts"),
    ] {
        assert_eq!(found(key), [format!(".jwks: keys[1] is no key: {mistake}")], "{key}");
    }
}

#[test]
fn a_rule_needs_an_issuer_or_a_url_of_keys() {
    let missing = ".issuer: is missing; write the `iss` of the tokens; only jwksUri does without";
    let inline = format!("jwks: '{JWKS}'");
    refused(&[("", missing), (inline.as_str(), missing), ("issuer: ''", ".issuer: must not be empty")]);
    assert_eq!(rule("jwksUri: 'https://i/keys'"), Vec::<String>::new());
    // A URL that is wrong is one mistake, and not two.
    assert_eq!(rule("jwksUri: 'https://i:0/keys'").len(), 1);
}

#[test]
fn a_url_of_keys_is_taken_apart() {
    let uri = |text: &str| KeysUri::parse(text).map(|uri| (uri.tls, uri.host, uri.port));
    let ok = |tls, host: &str, port| Ok((tls, host.to_owned(), port));
    for (text, expected) in [
        ("https://issuer.example/keys", ok(true, "issuer.example", 443)),
        ("http://issuer.example:8080?a=b", ok(false, "issuer.example", 8080)),
        ("HTTPS://issuer.example", ok(true, "issuer.example", 443)),
        ("https://[::1]:8443/keys", ok(true, "::1", 8443)),
        ("https://127.0.0.1/keys", ok(true, "127.0.0.1", 443)),
        ("issuer.example/keys", Err("is not a URL")),
        ("ftp://issuer.example", Err("is neither http nor https")),
        ("https:///keys", Err("has no valid host and port")),
        ("https://issuer.example:0/", Err("has no valid host and port")),
        ("https://issuer.example:70000/", Err("has no valid host and port")),
        ("https://issuer.example:+80/", Err("has no valid host and port")),
        ("https://::1/", Err("has no valid host and port")),
        ("https://[::1/", Err("has no valid host and port")),
        ("https://[issuer]/", Err("has no valid host and port")),
        ("https://user:secret@issuer.example/", Err("has a user name in it")),
        ("https://issuer.example/ke ys", Err("has a character that a URL does not have")),
    ] {
        assert_eq!(uri(text), expected, "{text}");
    }
    let hint = "write http:// or https://, a host and a path";
    assert_eq!(
        rule("issuer: i, jwksUri: /keys"),
        [format!(".jwksUri: `/keys` is not a URL; {hint}")],
        "the finding names the field"
    );
    assert_eq!(rule("issuer: i, jwks_uri: /keys"), [format!(".jwks_uri: `/keys` is not a URL; {hint}")]);
}

#[test]
fn keys_come_from_one_place() {
    let one = ": only one of jwks and jwksUri may be set; remove the others";
    let inline = format!("issuer: i, jwksUri: 'https://i/', jwks: '{JWKS}'");
    refused(&[(&inline, one), ("issuer: i, jwksUri: 'https://i/', jwks_uri: 'https://i/'", one)]);
}

#[test]
fn inline_keys_are_a_key_set() {
    let hint = "write {\"keys\": [ … ]}";
    let not_a_set = format!(".jwks: is not a set of keys; {hint}");
    refused(&[
        ("issuer: i, jwks: '{}'", &not_a_set),
        ("issuer: i, jwks: '{\"keys\": []}'", &not_a_set),
        ("issuer: i, jwks: '{\"keys\": {}}'", &not_a_set),
        ("issuer: i, jwks: '{\"keys\": [{}]}'", ".jwks: keys[0] is no key: it has no `kty`"),
        ("issuer: i, jwks: {keys: []}", ".jwks: must be a string, is an object"),
    ]);
    assert!(rule("issuer: i, jwks: 'keys'")[0].starts_with(".jwks: is not JSON: "));
}

#[test]
fn names_are_not_empty_and_headers_are_headers() {
    let empty = "must not be empty";
    for (text, place) in [
        ("audiences: ['']", ".audiences[0]"),
        ("fromParams: [a, '']", ".fromParams[1]"),
        ("fromCookies: ['']", ".fromCookies[0]"),
        ("spaceDelimitedClaims: ['']", ".spaceDelimitedClaims[0]"),
        ("fromHeaders: [{ name: '' }]", ".fromHeaders[0].name"),
        ("outputClaimToHeaders: [{ header: '', claim: a }]", ".outputClaimToHeaders[0].header"),
        ("outputClaimToHeaders: [{ header: a, claim: '' }]", ".outputClaimToHeaders[0].claim"),
    ] {
        assert_eq!(rule(&format!("issuer: i, {text}")), [format!("{place}: {empty}")]);
    }
    refused(&[
        ("issuer: i, fromHeaders: [{ prefix: a }]", ".fromHeaders[0].name: is missing"),
        ("issuer: i, fromHeaders: [{ name: 'a b' }]", ".fromHeaders[0].name: `a b` is not the name of a header"),
        ("issuer: i, outputPayloadToHeader: 'a:b'", ".outputPayloadToHeader: `a:b` is not the name of a header"),
        ("issuer: i, outputClaimToHeaders: [{ header: a }]", ".outputClaimToHeaders[0].claim: is missing"),
        ("issuer: i, outputClaimToHeaders: [{ claim: a }]", ".outputClaimToHeaders[0].header: is missing"),
        (
            "issuer: i, outputClaimToHeaders: [{ header: a.b, claim: a }]",
            ".outputClaimToHeaders[0].header: `a.b` is not the name of a header; letters, digits, `-`, `_`",
        ),
    ]);
    let many = vec!["a"; 65].join(", ");
    let found = rule(&format!("issuer: i, spaceDelimitedClaims: [{many}]"));
    assert_eq!(found, [".spaceDelimitedClaims: takes at most 64 names"]);
}

#[test]
fn a_timeout_is_a_duration() {
    for text in ["5s", "0.001s", "60s", "5m", "1m30s"] {
        assert_eq!(rule(&format!("issuer: i, timeout: {text}")), Vec::<String>::new(), "{text}");
    }
    for text in ["0s", "-1s", "0.0005s", "1e3s", "5 s"] {
        let expected = format!(
            ".timeout: `{text}` is not a duration of whole milliseconds, one or more; write numbers with units: `5s`, `500ms` or \
             `1m30s`"
        );
        assert_eq!(rule(&format!("issuer: i, timeout: '{text}'")), [expected]);
    }
    refused(&[("issuer: i, timeout: 5", ".timeout: must be a string, is a number; write it in quotes")]);
}

#[test]
fn a_token_is_optional_or_required() {
    for (text, expected) in [
        ("", Presence::Optional),
        (", presence: OPTIONAL", Presence::Optional),
        (", presence: REQUIRED", Presence::Required),
    ] {
        let (read, found) = read(&with_spec(&format!("{{ jwtRules: [{{ issuer: i{text} }}] }}")));
        assert_eq!((read.unwrap().rules[0].presence, found.len()), (expected, 0), "{text}");
    }
    refused(&[
        ("issuer: i, presence: REQUIERD", ".presence: `REQUIERD` is unknown; did you mean `REQUIRED`?"),
        ("issuer: i, presence: required", ".presence: `required` is unknown; did you mean `REQUIRED`?"),
        ("issuer: i, presence: MANDATORY", ".presence: `MANDATORY` is unknown; known here: OPTIONAL, REQUIRED"),
        ("issuer: i, presence: true", ".presence: must be a string, is a boolean; write it in quotes"),
    ]);
}

/// The requirements are those that Istio's control plane generates.
#[test]
fn what_is_required_is_rendered() {
    let requires = |presences: &[&str]| {
        let rules: Vec<_> = presences.iter().map(|presence| format!("{{ issuer: i, presence: {presence} }}")).collect();
        let (read, _) = read(&with_spec(&format!("{{ jwtRules: [{}] }}", rules.join(", "))));
        let rules = read.unwrap().rules;
        let (filter, _) = filter(&rules.iter().collect::<Vec<_>>(), false, "ca.pem", None).unwrap();
        filter["typed_config"]["rules"][0]["requires"].clone()
    };
    let required = |number: usize| json!({ "provider_name": format!("origins-{number}") });
    let any = |requirements: Value| json!({ "requires_any": { "requirements": requirements } });
    let all = |requirements: Value| json!({ "requires_all": { "requirements": requirements } });
    let optional = |number: usize| any(json!([required(number), { "allow_missing": {} }]));
    assert_eq!(requires(&["REQUIRED"]), required(0));
    assert_eq!(requires(&["OPTIONAL"]), optional(0));
    assert_eq!(requires(&["REQUIRED", "REQUIRED"]), all(json!([required(0), required(1)])));
    assert_eq!(requires(&["OPTIONAL", "REQUIRED"]), all(json!([optional(0), required(1)])));
    let both = all(json!([optional(0), optional(1)]));
    assert_eq!(requires(&["OPTIONAL", "OPTIONAL"]), any(json!([required(0), required(1), both])));
}

#[test]
fn unknown_fields_are_refused_with_a_suggestion() {
    refused(&[
        ("issuer: i, audience: [a]", ".audience: unknown field, did you mean audiences?"),
        ("issuer: i, jwksURI: 'https://i/'", ".jwksURI: unknown field, did you mean jwksUri?"),
        (
            "issuer: i, fromHeaders: [{ name: a, prefx: b }]",
            ".fromHeaders[0].prefx: unknown field, did you mean prefix?",
        ),
        (
            "issuer: i, outputClaimToHeaders: [{ header: a, claim: b, claims: c }]",
            ".outputClaimToHeaders[0].claims: unknown field, did you mean claim?",
        ),
        ("issuer: i, issuer: j", ".issuer: stands here twice; keep one of the two"),
        ("issuer: i, audiences:", ".audiences: has no value; give it one, or remove the field"),
    ]);
    assert_eq!(spec("{ jwtRule: [] }"), [".jwtRule: unknown field, did you mean jwtRules?"]);
    let only_one = ": only one of selector, targetRef and targetRefs may be set; a policy is for workloads or for \
                    gateways; split it in two";
    assert_eq!(spec("{ selector: { matchLabels: { a: b } }, targetRefs: [] }"), [only_one]);
}

/// The findings in a file with this text, and the numbers of policies, request authentications and other resources.
fn file(text: &str) -> (Vec<String>, [usize; 3]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.yaml");
    std::fs::write(&path, text).unwrap();
    let resources = Resources::read(&[&path]).unwrap();
    let prefix = format!("{}:", path.display());
    let found = resources.findings.iter().map(|finding| finding.to_string().replace(&prefix, "")).collect();
    (found, [resources.policies.len(), resources.request_authentications.len(), resources.others.len()])
}

#[test]
fn a_mistyped_kind_is_not_skipped() {
    let named = |version: &str, kind: &str| format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{ name: r }}\n");
    for kind in ["RequestAuthenticaton", "Requestauthentication", "RequestAuth", "RequestAuthorization"] {
        let (found, counts) = file(&named("security.istio.io/v1", kind));
        assert_eq!((found.len(), counts), (1, [0; 3]), "{kind}: {found:?}");
        assert!(found[0].contains(&format!("is `{kind}`")), "{found:?}");
    }
    let (found, counts) = file(&named("security.istio.io/v2", "RequestAuthentication"));
    assert_eq!(counts, [0; 3]);
    assert!(found[0].contains("apiVersion: `security.istio.io/v2` is not supported"), "{found:?}");
    for (version, kind) in [
        ("security.istio.io/v1", "PeerAuthentication"),
        ("auth.example/v1", "RequestAuthentication"),
        ("networking.istio.io/v1", "DestinationRule"),
        ("v1", "Service"),
    ] {
        assert_eq!(file(&named(version, kind)), (vec![], [0, 0, 1]), "{version} {kind}");
    }
}

#[test]
fn lists_are_read_and_twins_are_found() {
    let one = with_spec("{ jwtRules: [{ issuer: i }] }");
    for kind in ["List", "RequestAuthenticationList"] {
        let (found, counts) = file(&format!("{{ apiVersion: v1, kind: {kind}, items: [{one}] }}"));
        assert_eq!((found, counts), (vec![], [0, 1, 0]), "{kind}");
    }
    let (found, counts) = file(&format!("{one}\n---\n{one}\n"));
    assert_eq!(counts, [0, 2, 0]);
    assert!(found.len() == 1 && found[0].contains("has the same namespace and name"), "{found:?}");
    // A policy with the same name is a different resource.
    let policy =
        one.replace("RequestAuthentication", "AuthorizationPolicy").replace("jwtRules: [{ issuer: i }]", "rules: [{}]");
    assert_eq!(file(&format!("{one}\n---\n{policy}\n")), (vec![], [1, 1, 0]));
}
