//! CUSTOM policies as `mesh-authz render` renders them: a real Envoy asks a provider.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use testbed::bootstrap::{self, cluster, http_connection_manager};
use testbed::{App, Client, Envoy, Request, Response, StartOptions};

use crate::rendered::{Standalone, folder, render, text};
use crate::sidecar::{PATIENCE, policy, to, wasm};

/// A provider over HTTP. Its cluster in Envoy has a name by its host and port.
fn provider(more: Value) -> Value {
    let mut settings = json!({
        "service": "login/login.example.com",
        "port": 9000,
        "includeRequestHeadersInCheck": ["cookie"],
        "headersToUpstreamOnAllow": ["x-user"],
        "headersToDownstreamOnDeny": ["location"],
    });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "extensionProviders": [{ "name": "login", "envoyExtAuthzHttp": settings }] })
}

fn custom(provider: &str) -> Value {
    let mut custom = policy("custom", "CUSTOM", &[to(json!({ "paths": ["/app*"] }))]);
    custom["spec"]["provider"] = json!({ "name": provider });
    custom
}

/// A provider that lets through who has a cookie, says who that is, and sends others to a login. The application and Envoy itself.
struct Place {
    envoy: Envoy,
    _provider: Envoy,
    app: App,
}

fn answers() -> Vec<Value> {
    let header = |name: &str, value: &str| json!({ "header": { "key": name, "value": value } });
    let session = |value: &str| json!([{ "name": "cookie", "string_match": { "exact": format!("session={value}") } }]);
    let allowed = |user: &str| {
        json!({
            "match": { "prefix": "/", "headers": session(user) },
            "direct_response": { "status": 200 },
            "response_headers_to_add": [header("x-user", user)],
        })
    };
    let redirect = json!({
        "https_redirect": true,
        "host_redirect": "login.example.com",
        "path_redirect": "/",
        "response_code": "FOUND",
    });
    vec![allowed("alice"), allowed("mallory"), json!({ "match": { "prefix": "/" }, "redirect": redirect })]
}

impl Place {
    /// Envoy with the filters for these policies. `is_up`: whether the provider answers.
    fn start(documents: &[Value], is_up: bool) -> (Self, String) {
        let manager = http_connection_manager(&[], &answers());
        let provider =
            Envoy::start(&bootstrap::bootstrap(&[bootstrap::listener("provider", manager, None)], &[])).unwrap();
        let nowhere: SocketAddr = ([127, 0, 0, 1], 1).into();
        let address = if is_up { provider.address("provider").unwrap() } else { nowhere };
        let app = App::start().unwrap();
        let files = folder(documents);
        let (rendered, notes) = render(&["envoy-rbac", text(files.path()), "--namespace=default", "--no-labels"]);
        let manager = http_connection_manager(rendered.as_array().unwrap(), &[bootstrap::route_to("app")]);
        let clusters = [cluster("app", app.address()), cluster("outbound|9000||login.example.com", address)];
        let listener = bootstrap::listener("inbound", manager, None);
        let envoy = Envoy::start(&bootstrap::bootstrap(&[listener], &clusters)).unwrap();
        (Self { envoy, _provider: provider, app }, notes)
    }

    fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        let request = headers.iter().fold(Request::get(path), |request, (name, value)| request.header(name, value));
        Client::plain(self.envoy.address("inbound").unwrap()).send(&request).unwrap()
    }
}

#[test]
fn the_provider_is_asked_about_what_matches_and_about_nothing_else() {
    let (place, notes) = Place::start(&[custom("login"), provider(json!({}))], true);
    assert!(!notes.contains("denies what it matches"), "{notes}");
    let refused = place.get("/app", &[]);
    let location = refused.header("location");
    assert_eq!((refused.status, location.as_deref()), (302, Some("https://login.example.com/")));
    assert_eq!(place.app.requests(), 0);
    assert_eq!(place.get("/app/1", &[("cookie", "session=alice")]).status, 200);
    assert_eq!(place.app.last_request().unwrap().header_values("x-user"), [b"alice"]);
    // A client that names itself is somebody else afterwards.
    assert_eq!(place.get("/app", &[("cookie", "session=alice"), ("x-user", "root")]).status, 200);
    assert_eq!(place.app.last_request().unwrap().header_values("x-user"), [b"alice"]);
    assert_eq!(place.get("/public", &[]).status, 200);
}

/// The order of Istio: CUSTOM, then DENY and ALLOW, which see what the provider has set.
#[test]
fn other_policies_decide_after_the_provider() {
    let when = json!({ "when": [{ "key": "request.headers[x-user]", "values": ["mallory"] }] });
    let deny = policy("no-mallory", "DENY", &[when]);
    let (place, _) = Place::start(&[custom("login"), deny, provider(json!({}))], true);
    assert_eq!(place.get("/app", &[("cookie", "session=alice")]).status, 200);
    assert_eq!(place.get("/app", &[("cookie", "session=mallory")]).status, 403);
    // The provider refuses first.
    assert_eq!(place.get("/app", &[("x-user", "mallory")]).status, 302);
    assert_eq!(place.get("/public", &[("x-user", "mallory")]).status, 403);
}

#[test]
fn without_an_answer_a_request_is_refused_unless_the_provider_fails_open() {
    for (settings, status) in
        [(json!({}), 403), (json!({ "statusOnError": "503" }), 503), (json!({ "failOpen": true }), 200)]
    {
        let (place, _) = Place::start(&[custom("login"), provider(settings.clone())], false);
        assert_eq!(place.get("/app", &[("cookie", "session=alice")]).status, status, "{settings}");
        assert_eq!(place.get("/public", &[]).status, 200);
    }
}

#[test]
fn without_its_provider_a_custom_policy_denies() {
    for documents in [vec![custom("login")], vec![custom("logins"), provider(json!({}))]] {
        let (place, notes) = Place::start(&documents, true);
        assert!(notes.contains("this policy denies what it matches"), "{notes}");
        assert_eq!(place.get("/app", &[("cookie", "session=alice")]).status, 403);
        assert_eq!(place.get("/public", &[]).status, 200);
    }
    let mut second = custom("other");
    second["metadata"]["name"] = json!("second");
    second["spec"]["rules"] = json!([to(json!({ "paths": ["/second"] }))]);
    let (place, notes) = Place::start(&[custom("login"), second, provider(json!({}))], true);
    assert!(notes.contains("a workload can have policies for one provider only"), "{notes}");
    for (path, status) in [("/app", 403), ("/second", 403), ("/public", 200)] {
        assert_eq!(place.get(path, &[("cookie", "session=alice")]).status, status, "{path}");
    }
}

/// A provider as in [`answers`], and the mesh configuration that names it.
fn running_provider(more: Value) -> (Envoy, Value) {
    let manager = http_connection_manager(&[], &answers());
    let provider = Envoy::start(&bootstrap::bootstrap(&[bootstrap::listener("provider", manager, None)], &[])).unwrap();
    let mut settings = more;
    settings["service"] = json!("localhost");
    settings["port"] = json!(provider.address("provider").unwrap().port());
    (provider, self::provider(settings))
}

const CONFIGURATION: &str = "/typed_config/config/configuration/value";

/// `render envoy`: Envoy asks, and the filter decides with what the provider has set.
#[test]
fn a_rendered_bootstrap_asks_the_provider() {
    let (_provider, mesh) = running_provider(json!({}));
    let when = json!({ "when": [{ "key": "request.headers[x-user]", "values": ["mallory"] }] });
    let files = folder(&[custom("login"), policy("no-mallory", "DENY", &[when]), mesh]);
    let arguments = [text(files.path()), "--namespace=default", "--no-labels", "--plaintext"];
    let (standalone, notes) = Standalone::start(&arguments);
    assert!(!notes.contains("MA031") && !notes.contains("denies what it matches"), "{notes}");
    for (path, headers, status) in [
        ("/app", &[][..], 302),
        ("/app", &[("cookie", "session=alice")], 200),
        ("/app", &[("cookie", "session=mallory")], 403),
        ("/app", &[("x-user", "alice")], 302),
        ("/public", &[], 200),
        ("/public", &[("x-user", "mallory")], 403),
        ("//app/", &[], 302),
    ] {
        let request = headers.iter().fold(Request::get(path), |request, (name, value)| request.header(name, value));
        standalone.assert_answers(&request, status);
    }
    let alice = Request::get("/app").header("cookie", "session=alice");
    standalone.assert_answers(&alice, 200);
    assert_eq!(standalone.app.last_request().unwrap().header_values("x-user"), [b"alice"]);
}

/// What `explain --log` says about each line: whether it was allowed, and whether the policies decide the same.
fn explained(files: &Path, envoy: &Envoy) -> Vec<(bool, Option<bool>)> {
    let log = files.join("decisions.log");
    std::fs::write(&log, envoy.log()).unwrap();
    let mut explain = Command::new(env!("CARGO_BIN_EXE_mesh-authz"));
    explain.arg("explain").arg(files).arg("--log").arg(&log).args(["--no-labels", "--format", "json"]);
    let output = explain.output().unwrap();
    std::fs::remove_file(&log).unwrap();
    let entries: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    entries.iter().map(|entry| (entry["logged"]["decision"] == "ALLOW", entry["agrees"].as_bool())).collect()
}

/// The log has what the filter decided: after the provider, and not what the provider refused.
#[test]
fn explain_decides_as_the_log_says_behind_a_provider() {
    let (_provider, mesh) = running_provider(json!({}));
    let closed = policy("closed", "DENY", &[to(json!({ "paths": ["/app/closed"] }))]);
    let files = folder(&[custom("login"), closed, mesh]);
    let arguments =
        [text(files.path()), "--namespace=default", "--no-labels", "--plaintext", "--set", "decisionLog=all"];
    let (standalone, _) = Standalone::start(&arguments);
    for (path, user, status) in
        [("/app", "alice", 200), ("/app", "nobody", 302), ("/app/closed", "alice", 403), ("/public", "nobody", 200)]
    {
        standalone.assert_answers(&Request::get(path).header("cookie", format!("session={user}")), status);
    }
    standalone.envoy.wait_for_log("/public", PATIENCE).unwrap();
    assert_eq!(
        explained(files.path(), &standalone.envoy),
        [(true, Some(true)), (false, Some(true)), (true, Some(true))]
    );
}

/// `custom: native` promises that Envoy asks. Where its filters are missing, or see other policies than the filter, nothing
/// passes that they should have seen.
#[test]
fn without_the_filters_that_ask_nothing_passes() {
    let (provider, mesh) = running_provider(json!({}));
    let files = folder(&[custom("login"), mesh]);
    let (rendered, _) =
        render(&["filters", text(files.path()), "--namespace=default", "--no-labels", "--wasm=filter.wasm"]);
    let filters = rendered["http_filters"].as_array().unwrap();
    let ours = filters.iter().position(|filter| filter["name"] == "mesh_authz").unwrap();
    assert_eq!(filters[ours].pointer(CONFIGURATION).unwrap()["custom"], "native");
    let app = App::start().unwrap();
    let clusters = [&[cluster("app", app.address())][..], rendered["clusters"].as_array().unwrap().as_slice()].concat();
    let start = |filters: &[Value]| {
        let manager = http_connection_manager(filters, &[bootstrap::route_to("app")]);
        let listener = bootstrap::listener("inbound", manager, None);
        let options = StartOptions::default().file("filter.wasm", wasm());
        Envoy::start_with(&bootstrap::bootstrap(&[listener], &clusters), &options).unwrap()
    };
    let statuses = |envoy: &Envoy| {
        let client = Client::plain(envoy.address("inbound").unwrap());
        [("/app", "alice"), ("/app", "nobody"), ("/new", "alice"), ("/public", "nobody")].map(|(path, user)| {
            client.send(&Request::get(path).header("cookie", format!("session={user}"))).unwrap().status
        })
    };
    assert_eq!(statuses(&start(filters)), [200, 302, 200, 200]);

    let without = |name: &str| -> Vec<_> { filters.iter().filter(|filter| filter["name"] != name).cloned().collect() };
    let without_rbac = start(&without("envoy.filters.http.rbac"));
    assert_eq!(statuses(&without_rbac), [403; 4]);
    without_rbac.wait_for_log("Envoy's filters for CUSTOM policies are missing", PATIENCE).unwrap();
    let response = Client::plain(without_rbac.address("inbound").unwrap()).send(&Request::get("/public")).unwrap();
    assert_eq!(response.status, 403);
    let of_missing_filters = explained(files.path(), &without_rbac);
    let is_denied = of_missing_filters.iter().all(|line| *line == (false, Some(true)));
    assert!(!of_missing_filters.is_empty() && is_denied, "{of_missing_filters:?}");

    // The filter has a newer policy than the filters that ask.
    let mut newer = filters.clone();
    let policies = newer[ours].pointer_mut(CONFIGURATION).unwrap()["policies"].as_array_mut().unwrap();
    let mut second = policies[0].clone();
    second["metadata"]["name"] = json!("newer");
    second["spec"]["rules"] = json!([to(json!({ "paths": ["/new"] }))]);
    policies.push(second);
    assert_eq!(statuses(&start(&newer)), [200, 302, 403, 200]);

    // The filter's policy names another provider, which nobody asks: its name can even begin with the other's.
    for name in ["other", "login-strict", "log"] {
        let mut renamed = filters.clone();
        let config = renamed[ours].pointer_mut(CONFIGURATION).unwrap();
        config["policies"][0]["spec"]["provider"]["name"] = json!(name);
        assert_eq!(statuses(&start(&renamed)), [403, 302, 200, 200], "{name}");
    }

    // Behind mesh-authz, they come too late.
    let mut late = filters.clone();
    late.rotate_left(ours);
    assert_eq!(statuses(&start(&late))[0], 403);
    drop(provider);
    assert_eq!(statuses(&start(filters)), [403, 403, 200, 200], "without an answer");
}
