//! What the log says about the nearest miss: the key of the condition, and how it failed.

use mesh_authz::document::from_json;
use mesh_authz::engine::explain::NearMiss;
use mesh_authz::engine::{Decision, Engine};
use mesh_authz::filter::telemetry::log_line;
use mesh_authz::policy::Traffic;
use mesh_authz::policy::scope::Workload;
use mesh_authz::request::metadata::JWT_AUTHN;
use mesh_authz::request::{Lookup, Request};
use serde_json::{Value, json};

use crate::support::{get, options, policies};

/// The line about a request.
fn line(decision: &Decision<'_>, near_miss: Option<NearMiss<'_>>, request: &Request) -> String {
    let traffic = Traffic::Http;
    log_line::Line { traffic, decision, near_miss, workload: "{}", service: None, suppressed: 0 }.write(request)
}

/// The nearest miss of an ALLOW policy with one rule, as a log line shows it.
fn nearest(rule: &str, request: &Request) -> Value {
    let policy = format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{ name: a }}\nspec: {{ rules: [{rule}] }}\n"
    );
    let engine = Engine::new(policies(&policy), &options());
    let decision = engine.decide(request);
    let line = line(&decision, engine.nearest_miss(request, || true), request);
    serde_json::from_str::<Value>(&line).unwrap()["nearest"].clone()
}

fn host(host: &str) -> Request {
    Request::new("GET", "/").header(":authority", host)
}

fn token(claims: &str) -> Request {
    let payload = format!("{{\"payload\": {claims}}}");
    get("/").metadata(JWT_AUTHN, &from_json(payload.as_bytes()).unwrap())
}

#[test]
fn a_condition_is_absent_or_different_or_excluded() {
    let header = get("/").header("x-env", "dev");
    let no_token = get("/");
    let peer = get("/").principal("cluster.local/ns/a/sa/b");
    for (key, values, request, how) in [
        ("request.headers[x-env]", "values", &header, "different"),
        ("request.headers[x-env]", "values", &get("/"), "absent"),
        ("request.headers[x-env]", "notValues", &get("/").header("x-env", "v"), "excluded"),
        ("request.auth.claims[a][b]", "values", &no_token, "absent"),
        ("request.auth.claims[a][b]", "values", &token(r#"{"a": {"b": "x"}}"#), "different"),
        ("request.auth.claims[a][b]", "values", &token(r#"{"a": {"b": ["x"]}}"#), "different"),
        ("request.auth.claims[a][b]", "values", &token(r#"{"a": {"b": []}}"#), "absent"),
        ("request.auth.claims[a][b]", "values", &token(r#"{"a": {"b": 7}}"#), "not a text"),
        ("request.auth.claims[a][b]", "values", &token(r#"{"a": {"b": true}}"#), "not a text"),
        ("request.auth.principal", "values", &no_token, "absent"),
        ("request.auth.principal", "values", &token(r#"{"iss": "i", "sub": "s"}"#), "different"),
        ("source.principal", "values", &get("/"), "absent"),
        ("source.principal", "values", &peer, "different"),
        ("source.namespace", "values", &peer, "different"),
        ("connection.sni", "values", &get("/"), "absent"),
        ("connection.sni", "values", &get("/").sni(Lookup::Value(b"x")), "different"),
        ("experimental.envoy.filters.http.x[k]", "values", &get("/"), "absent"),
        ("request.headers[x-env]", "values", &get("/").unreadable_headers(), "unreadable"),
    ] {
        let found = nearest(&format!("{{ when: [{{ key: '{key}', {values}: [v] }}] }}"), request);
        assert_eq!((&found["key"], &found["how"]), (&json!(key), &json!(how)), "{key} {values}");
    }
    for (key, value) in [("source.ip", "10.0.0.1"), ("destination.port", "80")] {
        let found = nearest(&format!("{{ when: [{{ key: '{key}', values: ['{value}'] }}] }}"), &get("/"));
        assert_eq!((&found["key"], &found["how"]), (&json!(key), &json!("unreadable")));
    }
}

#[test]
fn keys_are_named_as_policies_name_them() {
    for (key, shown) in [
        ("request.headers[X-Env]", "request.headers[x-env]"),
        ("request.headers[Host]", "request.headers[host]"),
        ("request.headers[:path]", "request.headers[:path]"),
        ("request.auth.audiences", "request.auth.claims[aud]"),
        ("request.auth.presenter", "request.auth.claims[azp]"),
        ("request.auth.claims[a.b]", "request.auth.claims[a.b]"),
    ] {
        assert_eq!(nearest(&format!("{{ when: [{{ key: '{key}', values: [v] }}] }}"), &get("/"))["key"], shown);
    }
    // The path of a field names the attribute.
    let field = nearest("{ to: [{ operation: { methods: [PUT] } }] }", &get("/"));
    assert_eq!((&field["failed"], field.get("key")), (&json!("to[0].operation.methods"), None));
}

#[test]
fn of_a_host_only_the_port_may_differ() {
    for (value, sent, how) in [
        ("shop.example", "shop.example:8080", "only the port differs"),
        ("shop.example:80", "shop.example", "only the port differs"),
        ("shop.example:80", "SHOP.example:8080", "only the port differs"),
        ("*.example", "shop.example:8080", "only the port differs"),
        ("[::1]", "[::1]:8080", "only the port differs"),
        ("shop.example", "store.example:8080", "different"),
        ("*:80", "shop.example:8080", "different"),
        ("[::1]", "[::2]", "different"),
    ] {
        let found = nearest(&format!("{{ to: [{{ operation: {{ hosts: ['{value}'] }} }}] }}"), &host(sent));
        assert_eq!(found["how"], how, "{value}, {sent}");
    }
    let header = "{ when: [{ key: 'request.headers[host]', values: [shop.example] }] }";
    assert_eq!(nearest(header, &host("shop.example:80"))["how"], "only the port differs");
    assert_eq!(nearest(header, &host("Shop.example:80"))["how"], "different", "case counts here");
}

#[test]
fn no_value_of_a_header_or_a_claim_is_shown() {
    for (key, request) in [
        ("request.headers[x]", get("/").header("x", "s3cret")),
        ("request.headers[x]", get("/").header("x", "s3cret,v")),
        ("request.auth.claims[x]", token(r#"{"x": "s3cret"}"#)),
        ("request.headers[:path]", get("/?s3cret")),
    ] {
        let found = nearest(&format!("{{ when: [{{ key: '{key}', values: [v] }}] }}"), &request);
        assert!(!found.to_string().contains("s3cret"), "{found}");
    }
}

#[test]
fn the_host_is_shown_without_userinfo() {
    let engine = Engine::new(policies(""), &options());
    for (sent, shown) in [("shop.example:80", "shop.example:80"), ("u:s3cret@shop.example", "shop.example")] {
        let request = host(sent);
        let line = line(&engine.decide(&request), None, &request);
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["host"], shown);
    }
}

#[test]
fn a_workload_is_shown_with_its_labels_if_these_are_known_and_short() {
    let shown = |labels: Option<&[(&str, &str)]>| {
        let labels = labels.map(|labels| labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        let workload = Workload { namespace: "shop".to_owned(), labels, ..Workload::default() };
        serde_json::from_str::<Value>(&log_line::workload(&workload)).unwrap()
    };
    let without_labels = json!({ "namespace": "shop" });
    assert_eq!(shown(Some(&[("app", "a"), ("x/y", "")])), json!({ "namespace": "shop", "labels": "app=a,x/y=" }));
    assert_eq!(shown(Some(&[])), json!({ "namespace": "shop", "labels": "" }));
    assert_eq!(shown(None), without_labels);
    assert_eq!(shown(Some(&[("app", &"a".repeat(600))])), without_labels);
    assert_eq!(shown(Some(&[("app", "a,b=c")])), without_labels);
}
