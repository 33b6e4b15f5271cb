//! Other HTTP filters before and after mesh-authz, and settings of routes and of the connection manager that go around
//! it: every claim of docs/other-filters.md.

mod answers;
mod changes;
mod routes;
pub mod services;
mod wrapped;

use mesh_authz_cli::load::yaml;
use serde_json::{Value, json};
use testbed::{Request, Response};

use crate::sidecar::{Blueprint, DENIED_BY_NONE, Sidecar, policy, project, to, when};

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// It has reached the application, with this method and this path.
    Passed(String),
    /// The application has opened a tunnel.
    Opened,
    /// mesh-authz has refused it.
    Refused,
    /// Another part of Envoy has sent a response with this status.
    Answered(u16),
}
use Outcome::{Answered, Opened, Refused};

fn passed(line: &str) -> Outcome {
    Outcome::Passed(line.to_owned())
}

fn outcome_of(response: &Response) -> Outcome {
    let reached = response.header("x-app").is_some();
    let details = response.header("x-details").unwrap_or_default();
    let by_policy = details.starts_with("rbac_access_denied_matched_policy[ns[") || details == DENIED_BY_NONE;
    match response.status {
        101 if reached => Opened,
        // A refused gRPC call has status 200, and the reason in its headers.
        403 | 200 if by_policy => Refused,
        _ if reached => {
            let seen = response.json().unwrap();
            passed(&format!("{} {}", seen["method"].as_str().unwrap(), seen["path"].as_str().unwrap()))
        }
        status => Answered(status),
    }
}

/// The values of a header with which a request has reached the application.
fn seen(response: &Response, name: &str) -> Vec<String> {
    let headers: Vec<(String, String)> = serde_json::from_value(response.json().unwrap()["headers"].clone()).unwrap();
    headers.into_iter().filter(|(key, _)| key == name).map(|(_, value)| value).collect()
}

fn send(sidecar: &Sidecar, request: &Request) -> Response {
    sidecar.plain_client().send(request).unwrap()
}

fn outcome(sidecar: &Sidecar, request: &Request) -> Outcome {
    outcome_of(&send(sidecar, request))
}

fn get(sidecar: &Sidecar, path: &str) -> Outcome {
    outcome(sidecar, &Request::get(path))
}

/// A sidecar with these policies. Its clients have no identity.
fn with(policies: &[Value]) -> Blueprint {
    Blueprint::new(&json!({ "policies": policies })).plaintext().telling_details()
}

/// Two sidecars with the same policies. The filter is before mesh-authz in the first, and after it in the second.
fn both(policies: &[Value], filter: &Value) -> [Sidecar; 2] {
    [with(policies).filter(filter.clone()), with(policies).filter_after(filter.clone())].map(Blueprint::start_shared)
}

/// An HTTP filter of Envoy, such as `cors.v3.Cors`, with its usual name.
fn http_filter(kind: &str, config: Value) -> Value {
    let name = kind.split('.').next().unwrap();
    json!({ "name": format!("envoy.filters.http.{name}"), "typed_config": typed(&format!("filters.http.{kind}"), config) })
}

/// A message of Envoy's extensions, with its type.
fn typed(kind: &str, mut config: Value) -> Value {
    config["@type"] = json!(format!("type.googleapis.com/envoy.extensions.{kind}"));
    config
}

/// A filter that runs this Lua code for every request, as `request`.
pub fn lua(code: &str) -> Value {
    let code = format!("function envoy_on_request(request) {code} end");
    http_filter("lua.v3.Lua", json!({ "default_source_code": { "inline_string": code } }))
}

/// Replaces the path by `/admin`.
const TO_ADMIN: &str = "request:headers():replace(':path', '/admin')";

fn deny_admin() -> Value {
    policy("deny-admin", "DENY", &[to(json!({ "paths": ["/admin"] }))])
}

fn deny_role_admin() -> Value {
    policy("deny-role", "DENY", &[when("request.headers[x-role]", &["admin"])])
}

fn allow_role_admin() -> Value {
    policy("allow-role", "ALLOW", &[when("request.headers[x-role]", &["admin"])])
}

fn role(value: &str) -> Request {
    Request::get("/").header("x-role", value)
}

/// A route for every path to the application.
fn route(more: Value) -> Value {
    let mut route = json!({ "match": { "prefix": "/" }, "route": { "cluster": "application" } });
    merge(&mut route, more);
    route
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

/// The YAML in docs/other-filters.md: a Lua filter, a field of a route, and a field of the connection manager.
fn examples() -> [Value; 3] {
    let page = std::fs::read_to_string(project("docs/other-filters.md")).unwrap();
    let blocks = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let documents = blocks.map(|text| serde_json::to_value(yaml::documents(text).unwrap().remove(0)).unwrap());
    documents.collect::<Vec<_>>().try_into().unwrap()
}

#[test]
fn the_examples_of_the_page_do_what_it_says() {
    let [lua, for_route, for_manager] = examples();
    let [before, after] = both(&[deny_admin()], &lua[0]);
    assert_eq!([get(&before, "/data"), get(&after, "/data")], [Refused, passed("GET /admin")]);

    let sidecar = with(&[deny_admin()]).routes(&[route(for_route)]).start_shared();
    assert_eq!(get(&sidecar, "/admin"), passed("GET /admin"));

    let upgrades = for_manager["upgrade_configs"].clone();
    let sidecar = with(&[deny_admin()]).setting("upgrade_configs", upgrades).start_shared();
    let websocket = Request::get("/admin").header("connection", "upgrade").header("upgrade", "websocket");
    assert_eq!([outcome(&sidecar, &websocket), get(&sidecar, "/admin")], [Opened, Refused]);
}
