//! Starts a real Envoy with the output of `mesh-authz render`, and checks that it enforces the policies.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use testbed::bootstrap::{self, ClientCertificate, direct_response, http_connection_manager, mutual_tls};
use testbed::{
    App, Certified, Client, Envoy, Issuer, Request, San, StartOptions, Tls, envoy_version, tells_once_a_connection,
};

use crate::jwt::{issuer, with_token};
use crate::sidecar::{Blueprint, FRONTEND, PATIENCE, STRANGER, authority, client_of, policy, project, to, wasm};

/// Runs `mesh-authz render … --format json`. Returns its standard output and the notes on its standard error.
pub fn render(arguments: &[&str]) -> (Value, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_mesh-authz"))
        .current_dir(project(""))
        .arg("render")
        .args(arguments)
        .args(version_option(arguments))
        .args(["--format", "json"])
        .output()
        .unwrap();
    let (out, notes) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{}: {out}{notes}", output.status);
    (serde_json::from_str(&out).unwrap(), notes)
}

/// The option for the version of the Envoy to test with, if the subcommand has it.
pub fn version_option(arguments: &[&str]) -> Vec<String> {
    match arguments.first() {
        Some(&"envoy" | &"filters") => vec!["--envoy-version".to_owned(), envoy_version().to_owned()],
        _ => Vec::new(),
    }
}

/// A temporary folder with one file per document. It is deleted when the value is dropped.
pub fn folder(documents: &[Value]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (number, document) in documents.iter().enumerate() {
        std::fs::write(folder.path().join(format!("{number}.yaml")), document.to_string()).unwrap();
    }
    folder
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// An Envoy with a rendered bootstrap, in front of an application. The system chooses its port.
pub struct Standalone {
    pub envoy: Envoy,
    pub app: App,
}

impl Standalone {
    pub fn start(arguments: &[&str]) -> (Self, String) {
        let app = App::start().unwrap();
        let upstream = format!("localhost:{}", app.address().port());
        let fixed = ["--listen", "127.0.0.1:0", "--upstream", &upstream];
        let (envoy, notes) = start_rendered(&[arguments, &fixed].concat());
        (Self { envoy, app }, notes)
    }

    pub fn address(&self) -> SocketAddr {
        self.envoy.address("inbound").unwrap()
    }

    #[track_caller]
    pub fn assert_answers(&self, request: &Request, status: u16) {
        let response = Client::plain(self.address()).send(request).unwrap();
        assert_eq!(response.status, status, "{request:?}\n{}", self.envoy.log());
    }
}

/// Starts Envoy with what `render envoy` prints, and returns the notes as well.
pub fn start_rendered(arguments: &[&str]) -> (Envoy, String) {
    let (bootstrap, notes) = render(&[&["envoy"], arguments, &["--wasm", "filter.wasm"]].concat());
    let backend = authority().server("cluster.local/ns/default/sa/backend").unwrap();
    let options = StartOptions::default()
        .file("filter.wasm", wasm())
        .file("ca.pem", authority().pem())
        .file("own.pem", &backend.cert_pem)
        .file("own.key", &backend.key_pem);
    (Envoy::start_with(&bootstrap, &options).unwrap(), notes)
}

pub const TLS_FILES: [&str; 6] = ["--certificate", "own.pem", "--key", "own.key", "--ca", "ca.pem"];
const ORDERS: [&str; 4] = ["--namespace", "shop", "--label", "app=orders"];

/// The example's `RequestAuthentication`, with other keys.
fn authentication(keys: &Value) -> Value {
    let rule = |issuer: &str| {
        let mut rule = keys.clone();
        rule["issuer"] = json!(issuer);
        rule
    };
    json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": { "name": "accounts", "namespace": "shop" },
        "spec": {
            "selector": { "matchLabels": { "app": "orders" } },
            "jwtRules": [rule("https://accounts.example.com"), rule("https://staff.example.com")],
        },
    })
}

fn start_orders(keys: &Value, more: &[&str]) -> Standalone {
    let folder = folder(&[authentication(keys)]);
    let files = ["examples/jwt/orders.yaml", "examples/jwt/require-token.yaml", text(folder.path()), "--plaintext"];
    Standalone::start(&[&files, &ORDERS[..], more].concat()).0
}

fn token(claims: Value) -> Request {
    of(&with_token(issuer(), &claims), "GET", "/orders/7")
}

/// The same headers with another method and path.
fn of(request: &Request, method: &str, path: &str) -> Request {
    Request { headers: request.headers.clone(), ..Request::new(method, path) }
}

fn customer() -> Request {
    token(json!({ "iss": "https://accounts.example.com", "sub": "alice", "aud": ["orders"] }))
}

#[test]
fn a_bootstrap_verifies_tokens_and_decides_by_their_claims() {
    let orders = start_orders(&json!({ "jwks": issuer().jwks() }), &[]);
    let staff = json!({ "iss": "https://staff.example.com", "sub": "bob", "realm_access": { "roles": ["support"] } });
    orders.assert_answers(&customer(), 200);
    orders.assert_answers(&of(&token(staff), "PATCH", "/orders/7/address"), 200);
    orders.assert_answers(&Request::get("/healthz"), 200);

    orders.assert_answers(&Request::get("/orders/7"), 403);
    orders.assert_answers(&of(&customer(), "DELETE", "/orders/7"), 403);
    orders.assert_answers(&token(json!({ "iss": "https://accounts.example.com", "sub": "alice", "aud": "x" })), 403);

    let forged = with_token(&Issuer::new().unwrap(), &json!({ "iss": "https://accounts.example.com", "sub": "alice" }));
    orders.assert_answers(&of(&forged, "GET", "/healthz"), 401);
    orders.assert_answers(&of(&token(json!({ "iss": "elsewhere", "sub": "alice" })), "GET", "/healthz"), 401);
    orders.assert_answers(&Request::get("/healthz").header("authorization", "Bearer nonsense"), 401);
}

/// An Envoy that was there before, with the filters and settings that `render filters` prints. Nothing in its bootstrap says
/// which workload it is.
fn existing(arguments: &[&str], tls: Option<Value>) -> (Envoy, String) {
    let (rendered, notes) = render(&[&["filters"], arguments, &["--wasm", "filter.wasm"]].concat());
    let filters = rendered["http_filters"].as_array().unwrap();
    let mut manager = http_connection_manager(filters, &[direct_response(200, "here")]);
    let settings = mesh_authz_cli::load::yaml::documents(mesh_authz_cli::render::envoy::REQUIRED).unwrap();
    let Value::Object(settings) = json!(settings[0]) else { panic!("{settings:?}") };
    manager["typed_config"].as_object_mut().unwrap().extend(settings);
    let mut listener = bootstrap::listener("inbound", manager, tls);
    let before = rendered.get("filters").and_then(Value::as_array).cloned().unwrap_or_default();
    listener["filter_chains"][0]["filters"].as_array_mut().unwrap().splice(0..0, before);
    let bootstrap = bootstrap::bootstrap(&[listener], &[]);
    let options = StartOptions::default().file("filter.wasm", wasm());
    (Envoy::start_with(&bootstrap, &options).unwrap(), notes)
}

#[test]
fn filters_decide_in_an_envoy_that_was_there_before() {
    let folder = folder(&[authentication(&json!({ "jwks": issuer().jwks() }))]);
    let files = ["examples/jwt/orders.yaml", "examples/jwt/require-token.yaml", text(folder.path())];
    let (envoy, _) = existing(&[&files, &ORDERS[..]].concat(), None);
    let forged = with_token(&Issuer::new().unwrap(), &json!({ "iss": "https://accounts.example.com", "sub": "alice" }));
    for (request, status) in [
        (customer(), 200),
        (Request::get("/healthz"), 200),
        (Request::get("/orders/7"), 403),
        (of(&customer(), "DELETE", "/orders/7"), 403),
        (of(&customer(), "DELETE", "//orders/./7"), 403),
        (of(&forged, "GET", "/healthz"), 401),
    ] {
        let response = Client::plain(envoy.address("inbound").unwrap()).send(&request).unwrap();
        assert_eq!(response.status, status, "{request:?}\n{}", envoy.log());
    }
}

#[test]
fn filters_know_the_peers_of_an_envoy_that_was_there_before() {
    let files = ["examples/tutorial/allow-frontend-get-data.yaml", "examples/tutorial/allow-nothing-backend.yaml"];
    let own = authority().server("cluster.local/ns/default/sa/backend").unwrap();
    let tls = mutual_tls(authority(), &own, ClientCertificate::Required);
    let (envoy, _) = existing(&[&files[..], &["--namespace", "default", "--label", "app=backend"]].concat(), Some(tls));
    let address = envoy.address("inbound").unwrap();
    for (client, path, status) in [
        (FRONTEND, "/api/v1/data", 200),
        (FRONTEND, "//api/v1/./data", 200),
        (FRONTEND, "/admin", 403),
        (FRONTEND, "/api/v1/data/../admin", 403),
        (STRANGER, "/api/v1/data", 403),
    ] {
        let response = client_of(address, client).send(&Request::get(path)).unwrap();
        assert_eq!(response.status, status, "{client} {path}\n{}", envoy.log());
    }
}

#[test]
fn every_field_of_a_rule_does_what_it_says() {
    let orders = start_orders(
        &json!({
            "jwks": issuer().jwks(),
            "audiences": ["orders"],
            "fromHeaders": [{ "name": "x-token", "prefix": "Token " }, { "name": "x-raw" }],
            "fromParams": ["token"],
            "fromCookies": ["session"],
            "outputPayloadToHeader": "x-payload",
            "outputClaimToHeaders": [{ "header": "x-user", "claim": "sub" }],
            "forwardOriginalToken": true,
            "spaceDelimitedClaims": ["groups"],
            "timeout": "0.5s",
        }),
        &[],
    );
    let claims = json!({ "iss": "https://accounts.example.com", "sub": "alice", "aud": ["orders"], "groups": "a b" });
    let token = issuer().token(&claims).unwrap();
    let get = || Request::get("/orders/7");
    for request in [
        get().header("x-token", format!("Token {token}")),
        get().header("x-raw", &token),
        Request::get(format!("/orders/7?token={token}")),
        get().header("cookie", format!("a=b; session={token}")),
    ] {
        orders.assert_answers(&request, 200);
        let seen = orders.app.last_request().unwrap();
        assert_eq!(seen.header_values("x-user"), [b"alice"]);
        assert_eq!(seen.header_values("x-payload").len(), 1);
    }
    orders.assert_answers(&get().header("x-raw", &token), 200);
    assert_eq!(orders.app.last_request().unwrap().header_values("x-raw"), [token.as_bytes()]);
    // With `fromHeaders`, the default header is no longer read.
    orders.assert_answers(&get().header("authorization", format!("Bearer {token}")), 403);
    // A header that the client sends is not a claim, and the application does not get it.
    orders.assert_answers(&Request::get("/healthz").header("x-user", "mallory"), 200);
    assert_eq!(orders.app.last_request().unwrap().header_values("x-user"), Vec::<&[u8]>::new());
    let other_audience = issuer().token(&json!({ "iss": "https://accounts.example.com", "sub": "alice", "aud": "x" }));
    let refused = orders.envoy.log_mark();
    orders.assert_answers(&Request::get("/healthz").header("x-raw", other_audience.unwrap()), 403);
    orders.envoy.wait_for_log_since(refused, "jwt_authn_access_denied", PATIENCE).unwrap();
}

/// Envoy's reader of YAML has other rules than kubectl's. The values of this policy are what the two disagree about.
#[test]
fn envoy_reads_rendered_yaml_as_it_is_meant() {
    const ODD: [&str; 40] = [
        "a\u{85}b",
        "\u{85}",
        "a\u{2028}b",
        "a\u{2029}b",
        "\u{feff}a",
        "a\u{a0}b",
        "\u{a0}",
        "é",
        "\u{1f511}",
        "a\tb",
        "yes",
        "on",
        "n",
        "1_000",
        "0o17",
        "0777",
        "0x1F",
        "0x1p3",
        "1e3",
        ".5",
        ".nan",
        "nan",
        "-nan",
        "inf",
        "2001-01-01",
        "12:30",
        "=",
        "<<",
        "~",
        "null",
        "a: b",
        "a #b",
        "- a",
        "---",
        "\"a\"",
        "\\N",
        "{a",
        "[a",
        "!a",
        "?",
    ];
    let values = |key: &str, values: &[&str]| json!({ "when": [{ "key": key, "values": values }] });
    let app = App::start().unwrap();
    let folder = folder(&[policy("odd", "ALLOW", &[values("request.headers[x-odd]", &ODD)])]);
    let output = Command::new(env!("CARGO_BIN_EXE_mesh-authz"))
        .args(["render", "envoy", text(folder.path()), "--namespace=default", "--label=app=backend", "--plaintext"])
        .args(version_option(&["envoy"]))
        .args(["--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--wasm=filter.wasm", "--upstream"])
        .arg(app.address().to_string())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut options = StartOptions::default().file("filter.wasm", wasm());
    options.extra_args.extend(["--config-yaml".to_owned(), String::from_utf8(output.stdout).unwrap()]);
    let backend = Standalone { envoy: Envoy::start_with(&json!({}), &options).unwrap(), app };
    for value in ODD {
        backend.assert_answers(&Request::get("/").header("x-odd", value), 200);
    }
    for value in ["a", "true", "1000", "15", "1", "8", "1000.0", "0.5", "a b"] {
        backend.assert_answers(&Request::get("/").header("x-odd", value), 403);
    }
}

#[test]
fn a_token_that_a_rule_requires_is_there_or_the_request_is_refused() {
    let rule = |issuer: &str, header: &str, presence: &str| json!({ "issuer": issuer, "jwks": crate::jwt::issuer().jwks(), "fromHeaders": [{ "name": header }], "presence": presence });
    let token = |issuer: &str| crate::jwt::issuer().token(&json!({ "iss": issuer, "sub": "alice" })).unwrap();
    let (a, b) = (token("a"), token("b"));
    // The rules, and the status without a token, with that of `a`, with that of `b`, and with both.
    for (rules, expected) in [
        (vec![rule("a", "x-a", "REQUIRED")], [401, 200, 401, 200]),
        (vec![rule("a", "x-a", "OPTIONAL")], [200; 4]),
        (vec![rule("a", "x-a", "REQUIRED"), rule("b", "x-b", "REQUIRED")], [401, 401, 401, 200]),
        (vec![rule("a", "x-a", "REQUIRED"), rule("b", "x-b", "OPTIONAL")], [401, 200, 401, 200]),
        (vec![rule("a", "x-a", "OPTIONAL"), rule("b", "x-b", "OPTIONAL")], [200; 4]),
    ] {
        let authentication = json!({
            "apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication", "metadata": { "name": "r" },
            "spec": { "jwtRules": rules },
        });
        let folder = folder(&[policy("all", "ALLOW", &[json!({})]), authentication]);
        let backend =
            Standalone::start(&[text(folder.path()), "--namespace=default", "--label=app=backend", "--plaintext"]).0;
        let get = || Request::get("/");
        let requests =
            [get(), get().header("x-a", &a), get().header("x-b", &b), get().header("x-a", &a).header("x-b", &b)];
        for (request, status) in requests.iter().zip(expected) {
            backend.assert_answers(request, status);
        }
        let preflight =
            Request::new("OPTIONS", "/").header("origin", "a").header("access-control-request-method", "PUT");
        backend.assert_answers(&preflight, 200);
    }
}

/// A server that returns the issuer's keys. Its certificate has this DNS name.
fn key_server(name: &str) -> Envoy {
    let certificate = authority().issue(&[San::Dns(name.to_owned())], None).unwrap();
    let tls = mutual_tls(authority(), &certificate, ClientCertificate::Optional);
    let manager = http_connection_manager(&[], &[direct_response(200, &issuer().jwks())]);
    Envoy::start(&bootstrap::bootstrap(&[bootstrap::listener("keys", manager, Some(tls))], &[])).unwrap()
}

#[test]
fn keys_are_fetched_from_whoever_can_prove_the_name() {
    for (name, expected) in [("localhost", 200), ("elsewhere.example", 401)] {
        let server = key_server(name);
        let uri = format!("https://localhost:{}/keys", server.address("keys").unwrap().port());
        let keys = json!({ "jwksUri": uri, "timeout": "2s" });
        let orders = start_orders(&keys, &["--jwks-ca", "ca.pem"]);
        orders.assert_answers(&Request::get("/healthz"), 200);
        orders.assert_answers(&customer(), expected);
        orders.assert_answers(&Request::get("/orders/7"), 403);
    }
}

#[test]
fn an_envoy_whose_keys_cannot_be_fetched_starts_and_refuses_tokens() {
    let orders = start_orders(&json!({ "jwksUri": "http://127.0.0.1:1/keys" }), &[]);
    orders.assert_answers(&Request::get("/healthz"), 200);
    orders.assert_answers(&customer(), 401);
}

#[test]
fn a_bootstrap_with_certificates_knows_its_peers() {
    let files = ["examples/tutorial/allow-frontend-get-data.yaml", "examples/tutorial/allow-nothing-backend.yaml"];
    let (backend, notes) =
        Standalone::start(&[&files, &["--namespace=default", "--label=app=backend"], &TLS_FILES[..]].concat());
    assert_eq!(notes, "");
    for (principal, path, expected) in [
        (FRONTEND, "/api/v1/data", 200),
        (FRONTEND, "//api/v1/./data", 200),
        (FRONTEND, "/api/v1/other", 403),
        (FRONTEND, "/api/v1/../v1//data", 200),
        (STRANGER, "/api/v1/data", 403),
    ] {
        let status = client_of(backend.address(), principal).send(&Request::get(path)).unwrap().status;
        assert_eq!(status, expected, "{principal} {path}");
    }
    assert!(Client::plain(backend.address()).send(&Request::get("/")).is_err(), "it does not speak in the clear");
}

#[test]
fn without_tls_nobody_has_an_identity_and_the_command_says_so() {
    let file = "examples/tutorial/allow-frontend-get-data.yaml";
    let (backend, notes) = Standalone::start(&[file, "--namespace=default", "--label", "app=backend", "--plaintext"]);
    backend.assert_answers(&Request::get("/api/v1/data"), 403);
    let expected =
        "policy default/allow-frontend-get-data: looks at the peer's identity, which no peer has without TLS\n";
    assert_eq!(notes, expected);
}

/// The policy with a selector that has one label.
fn selecting(mut policy: Value, key: &str, value: &str) -> Value {
    policy["spec"]["selector"] = json!({ "matchLabels": { key: value } });
    policy
}

/// The filters that Istio would generate from rendered resources, in order: the helper filters, then the project's
/// filters.
pub fn filters(items: &[Value], kind: &str) -> Vec<Value> {
    let mut filters = if tells_once_a_connection() { Vec::new() } else { telling(items) };
    for item in items.iter().filter(|item| item["kind"] == kind) {
        let mut blueprint = Blueprint::new(&json!({ "policies": [] }));
        let module = if kind == "WasmPlugin" { &item["spec"] } else { &item["spec"]["wasm"] };
        // Istio sends the configuration as JSON in a string.
        blueprint.wasm_filter()["configuration"] = json!({
            "@type": "type.googleapis.com/google.protobuf.StringValue", "value": module["pluginConfig"].to_string(),
        });
        blueprint.wasm_filter()["name"] = json!(format!("shop.{}", item["metadata"]["name"].as_str().unwrap()));
        let ours = blueprint.manager()["http_filters"].as_array().unwrap().iter();
        filters.extend(ours.filter(|filter| filter["name"] == "mesh_authz").cloned());
    }
    filters
}

/// The filters that tell what is known of the peer, from these resources: for the version of Envoy, one for each resource.
pub fn telling(items: &[Value]) -> Vec<Value> {
    let kind = if tells_once_a_connection() { "NETWORK_FILTER" } else { "HTTP_FILTER" };
    let helping = items.iter().filter(|item| item["kind"] == "EnvoyFilter");
    let patches = helping.flat_map(|item| item["spec"]["configPatches"].as_array().unwrap());
    let patches = patches.filter(|patch| patch["applyTo"] == kind && patch["match"]["context"] == "SIDECAR_INBOUND");
    patches.map(|patch| patch["patch"]["value"].clone()).collect()
}

#[test]
fn several_instances_on_one_workload_decide_as_one() {
    let local =
        json!({ "from": [{ "source": { "ipBlocks": ["127.0.0.0/8"] } }], "to": to(json!({ "paths": ["/b"] }))["to"] });
    let mut elsewhere = policy("elsewhere", "DENY", &[json!({})]);
    elsewhere["metadata"]["namespace"] = json!("shop");
    let documents = [
        selecting(policy("a", "ALLOW", &[to(json!({ "paths": ["/a", "/secret"] }))]), "app", "backend"),
        selecting(policy("b", "ALLOW", &[local]), "version", "v1"),
        selecting(policy("c", "DENY", &[to(json!({ "paths": ["/secret"] }))]), "version", "v1"),
        selecting(policy("d", "DENY", &[json!({})]), "version", "v2"),
    ];
    let folder = folder(&documents);
    for (command, kind) in [("wasm-plugin", "WasmPlugin"), ("traffic-extension", "TrafficExtension")] {
        let url = format!("oci://registry.example/mesh-authz@sha256:{}", "0".repeat(64));
        let allow = ["--allow=MA013", "--allow=MA017", "--allow=MA019"];
        let arguments = [command, text(folder.path()), "--url", &url];
        let (list, notes) = render(&[&arguments[..], &allow].concat());
        assert_eq!(notes, "");
        // The workload has the labels of two of the three selectors.
        let labels = json!({ "app": "backend", "version": "v1" });
        let selects = |item: &&Value| {
            let spec = &item["spec"];
            let wanted = spec.pointer("/selector/matchLabels").or(spec.pointer("/workloadSelector/labels"));
            let is_policy = item["kind"] == "AuthorizationPolicy";
            !is_policy && wanted.unwrap().as_object().unwrap().iter().all(|(key, value)| labels.get(key) == Some(value))
        };
        let items: Vec<_> = list["items"].as_array().unwrap().iter().filter(selects).cloned().collect();
        assert_eq!(items.len(), 4);
        let mut blueprint = Blueprint::new(&json!({ "policies": [] }));
        blueprint.options.component_log_level = "wasm:debug".to_owned();
        blueprint.bootstrap["node"]["metadata"] = json!({ "NAMESPACE": "default", "LABELS": labels });
        let router = blueprint.manager()["http_filters"].as_array().unwrap().last().unwrap().clone();
        if tells_once_a_connection() {
            // Each of the two resources adds one that tells the same.
            let telling = telling(&items);
            assert_eq!(telling.len(), 2);
            blueprint = blueprint.told_by(telling);
        }
        let mut all = filters(&items, kind);
        all.push(router);
        blueprint.manager()["http_filters"] = json!(all);
        let sidecar = blueprint.start();
        for (path, expected) in [("/a", 200), ("/b", 200), ("/c", 403), ("/secret", 403)] {
            let status = sidecar.client(FRONTEND).send(&Request::get(path)).unwrap().status;
            assert_eq!(status, expected, "{path}\n{}", sidecar.envoy.log());
        }
        sidecar.envoy.wait_for_log("policy default/d: DENY, 1 rules: does not apply", PATIENCE).unwrap();
    }
}

/// Envoy refuses long regular expressions by default. The command says so exactly where Envoy does.
#[test]
fn a_regular_expression_that_envoy_refuses_is_said() {
    let word = |letter: &str, bytes: usize| letter.repeat(bytes / letter.len());
    // A field, a value, the letter that stands for `_` in it many times, and how many bytes of it Envoy takes: 1.38 and older, and
    // newer versions.
    let shapes = [
        ("principals", "*_", "a", [79, 85]),
        ("principals", "*_", "é", [78, 84]),
        ("notPrincipals", "*._", "a", [78, 84]),
        ("namespaces", "_", "a", [75, 87]),
        ("namespaces", "_*", "a", [67, 85]),
        ("serviceAccounts", "_/b", "a", [42, 60]),
        ("trustDomains", "_*", "a", [70, 82]),
    ];
    let is_newer = Blueprint::new(&json!({ "policies": [] })).start_shared().version() >= (1, 40, 0);
    for (field, value, letter, most @ [older, newer]) in shapes {
        let own = most[usize::from(is_newer)];
        for bytes in [older, older + letter.len(), newer, newer + letter.len()] {
            let source = json!({ field: [value.replace('_', &word(letter, bytes))] });
            let folder = folder(&[policy("long", "ALLOW", &[json!({ "from": [{ "source": source }] })])]);
            let (rendered, notes) =
                render(&["envoy-rbac", text(folder.path()), "--namespace=default", "--label=app=backend"]);
            assert_eq!(notes.contains("a regular expression becomes a program of"), bytes > older, "{field}: {notes}");
            if bytes != own && bytes != own + letter.len() {
                continue;
            }
            let manager = http_connection_manager(rendered.as_array().unwrap(), &[direct_response(200, "passed")]);
            let listener = bootstrap::listener("listener", manager, None);
            let started = Envoy::start(&bootstrap::bootstrap(&[listener], &[]));
            assert_eq!(started.is_ok(), bytes == own, "{field} {bytes}");
        }
    }
    let mut with_limit = bootstrap::bootstrap(&[], &[]);
    with_limit["layered_runtime"]["layers"] =
        json!([{ "name": "static", "static_layer": { "re2": { "max_program_size": { "error_level": 32768 } } } }]);
    let source = json!({ "principals": [format!("*{}", "a".repeat(319))] });
    let folder = folder(&[policy("long", "ALLOW", &[json!({ "from": [{ "source": source }] })])]);
    let (rendered, _) = render(&["envoy-rbac", text(folder.path()), "--namespace=default", "--label=app=backend"]);
    let manager = http_connection_manager(rendered.as_array().unwrap(), &[direct_response(200, "passed")]);
    with_limit["static_resources"]["listeners"] = json!([bootstrap::listener("listener", manager, None)]);
    Envoy::start(&with_limit).unwrap();
}

/// The certificates of docs/certificates.md identify their callers, and Envoy says what its table says if a file is
/// missing.
#[test]
fn certificates_by_openssl_are_identities() {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("skipped: this machine has no openssl");
        return;
    }
    let page = std::fs::read_to_string(project("docs/certificates.md")).unwrap();
    let (_, script) = page.split_once("```sh\n").unwrap();
    let (script, _) = script.split_once("```\n").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new("sh").args(["-euc", script]).current_dir(&folder).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let read = |name: &str| std::fs::read_to_string(folder.path().join("certs").join(name)).unwrap();
    let certified = |name: &str| Certified::read(&read(&format!("{name}.crt")), &read(&format!("{name}.key"))).unwrap();

    let app = App::start().unwrap();
    let upstream = format!("localhost:{}", app.address().port());
    let policies = project("cli/src/command/init/allow-frontend.yaml");
    let arguments = ["envoy", text(&policies), "--namespace", "default", "--label", "app=backend"];
    let (bootstrap, _) = render(&[&arguments[..], &["--listen", "127.0.0.1:0", "--upstream", &upstream]].concat());
    let files = ["ca.crt", "backend.crt", "backend.key"].map(|name| (format!("certs/{name}"), read(name).into_bytes()));
    let files: Vec<_> = files.into_iter().chain([("mesh_authz.wasm".to_owned(), wasm())]).collect();
    let options = |files: &[(String, Vec<u8>)]| {
        files.iter().fold(StartOptions::default(), |options, (name, content)| options.file(name, content))
    };
    let envoy = Envoy::start_with(&bootstrap, &options(&files)).unwrap();
    let status = |tls: Tls| {
        let client = Client::tls(envoy.address("inbound").unwrap(), tls.server_name("localhost"));
        client.send(&Request::get("/orders")).map(|response| response.status)
    };
    let authority = read("ca.crt");
    assert_eq!(status(Tls::mutual(&authority, &certified("frontend"))).unwrap(), 200);
    assert_eq!(status(Tls::mutual(&authority, &certified("stranger"))).unwrap(), 403);
    assert!(status(Tls::new(&authority)).is_err());

    let said = |name: &str, content: Option<Vec<u8>>| {
        let mut files = files.clone();
        files.retain(|(file, _)| file != name);
        files.extend(content.map(|content| (name.to_owned(), content)));
        let log = Envoy::start_refused_with(&bootstrap, &options(&files)).unwrap();
        let (_, table) = page.split_once("## When Envoy does not start").unwrap();
        let mut rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        let is_said = |row: &str| row.split('…').all(|part| log.contains(part));
        let found = rows.find(|(row, _)| row.contains(name) && is_said(row));
        assert!(found.is_some(), "{name}: {log}");
    };
    for (name, _) in &files {
        said(name, None);
    }
    said("certs/backend.key", Some(read("frontend.key").into_bytes()));
}
