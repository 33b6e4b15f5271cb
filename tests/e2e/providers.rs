//! What Envoy sends to the provider of a CUSTOM policy, and what it makes of the answer: with what `render envoy` prints, and
//! with real authorizers over HTTP and gRPC.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::bootstrap::{self, direct_response, http_connection_manager};
use testbed::ext_authz::v3::pb::{
    CheckRequest, CheckResponse, DeniedHttpResponse, HeaderValue, HeaderValueOption, HttpResponse, HttpStatus,
    OkHttpResponse,
};
use testbed::{
    Client, Envoy, GrpcAuthorizer, Http2Request, HttpAnswer, HttpAuthorizer, Request, Response, StartOptions, Status,
};

use crate::jwt::issuer;
use crate::protocols::connect;
use crate::rendered::{Standalone, folder, render, text};
use crate::sidecar::{policy, to, wasm};

const HTTP: &str = "envoyExtAuthzHttp";
const GRPC: &str = "envoyExtAuthzGrpc";

/// Envoy with the filters that ask this provider about all paths but `/public`, and then decide by these policies.
fn start(kind: &str, provider: SocketAddr, settings: Value, policies: &[Value]) -> Standalone {
    let mut settings = settings;
    settings["service"] = json!("localhost");
    settings["port"] = json!(provider.port());
    let mut custom = policy("ask", "CUSTOM", &[to(json!({ "notPaths": ["/public"] }))]);
    custom["spec"]["provider"] = json!({ "name": "provider" });
    let mesh = json!({ "extensionProviders": [{ "name": "provider", (kind): settings }] });
    let files = folder(&[&[custom, mesh][..], policies].concat());
    Standalone::start(&[text(files.path()), "--namespace=default", "--no-labels", "--plaintext"]).0
}

fn send(standalone: &Standalone, request: &Request) -> Response {
    Client::plain(standalone.address()).send(request).unwrap()
}

fn post(path: &str, body: &str) -> Request {
    Request::new("POST", path).body(body)
}

fn ok() -> HttpAnswer {
    HttpAnswer::Response(200, vec![], "")
}

#[test]
fn a_provider_over_http_gets_the_request_and_the_headers_that_are_listed() {
    let provider = HttpAuthorizer::start(|_| ok()).unwrap();
    let settings = json!({
        "pathPrefix": "/check",
        "includeRequestHeadersInCheck": ["cookie", "x-team*"],
        "includeAdditionalHeadersInCheck": { "x-from": "envoy", "x-team-lead": "none" },
    });
    let standalone = start(HTTP, provider.address(), settings, &[]);
    let request = Request::new("PUT", "/a/b?c=d")
        .host("app.example")
        .header("authorization", "Bearer abc")
        .header("x-team", "one")
        .header("x-team", "two")
        .header("x-team-lead", "mallory")
        .header("x-other", "no")
        .header("x-forwarded-for", "203.0.113.7")
        .header("cookie", "s\u{e9}ance");
    assert_eq!(send(&standalone, &request).status, 200);
    let [question] = provider.questions().try_into().unwrap();
    assert_eq!((question.method.as_str(), question.path.as_str()), ("PUT", "/check/a/b?c=d"));
    for (name, values) in [
        ("host", &["app.example"][..]),
        ("authorization", &["Bearer abc"]),
        ("x-team", &["one,two"]),
        ("x-team-lead", &["none"]),
        ("x-from", &["envoy"]),
        ("content-length", &["0"]),
        ("x-other", &[]),
        ("x-forwarded-for", &[]),
    ] {
        assert_eq!(question.header_values(name), values, "{name}");
    }
    assert_eq!(send(&standalone, &Request::get("/public")).status, 200);
    assert_eq!(provider.questions().len(), 1);
}

#[test]
fn the_answer_of_a_provider_over_http_changes_the_request_and_the_response() {
    let provider = HttpAuthorizer::start(|question| {
        let headers = vec![
            ("x-user", "alice"),
            ("x-user", "bob"),
            ("x-internal", "secret"),
            ("x-app", "provider"),
            ("set-cookie", "session=1"),
            ("location", "https://login.example/"),
        ];
        let status = match question.path.as_str() {
            "/created" => 201,
            "/empty" => 204,
            "/login" => 302,
            "/no" => 403,
            _ => 200,
        };
        HttpAnswer::Response(status, headers, if status == 204 { "" } else { "said the provider" })
    })
    .unwrap();
    let settings = json!({
        "headersToUpstreamOnAllow": ["x-user"],
        "headersToDownstreamOnAllow": ["set-cookie", "x-app"],
        "headersToDownstreamOnDeny": ["location"],
    });
    let no_bob = policy(
        "no-bob",
        "DENY",
        &[json!({
            "to": [{ "operation": { "paths": ["/bob"] } }],
            "when": [{ "key": "request.headers[x-user]", "values": ["bob"] }],
        })],
    );
    let standalone = start(HTTP, provider.address(), settings, &[no_bob]);
    let allowed = send(&standalone, &Request::get("/").header("x-user", "root"));
    assert_eq!(allowed.status, 200);
    // The last value wins, and takes the place of what the client has sent.
    let seen = standalone.app.last_request().unwrap();
    assert_eq!((seen.header_values("x-user"), seen.header_values("x-internal").len()), (vec![&b"bob"[..]], 0));
    assert_eq!(allowed.header("set-cookie").as_deref(), Some("session=1"));
    // A header for the client is added to those of the application.
    let of_app = allowed.header_values("x-app");
    assert_eq!(of_app.len(), 2, "{of_app:?}");
    // Policies see what the provider has set.
    assert_eq!(send(&standalone, &Request::get("/bob")).status, 403);
    let before = standalone.app.requests();
    for (path, status, location) in
        [("/created", 201, true), ("/empty", 204, true), ("/login", 302, true), ("/no", 403, true)]
    {
        let refused = send(&standalone, &Request::get(path));
        let has_location = refused.header("location").is_some();
        assert_eq!((refused.status, has_location), (status, location), "{path}");
        assert!(refused.header("set-cookie").is_none(), "{path}");
        if status != 204 {
            assert_eq!(refused.text(), "said the provider", "{path}");
        }
    }
    assert_eq!(standalone.app.requests(), before, "any status but 200 refuses");
}

/// A provider that does not answer, in every way, with every setting for it.
#[test]
fn without_an_answer_a_request_is_refused_unless_the_provider_fails_open() {
    for (settings, expected) in
        [(json!({}), 403), (json!({ "statusOnError": "503" }), 503), (json!({ "failOpen": true }), 200)]
    {
        let provider = HttpAuthorizer::start(|question| match question.path.as_str() {
            "/500" => HttpAnswer::Response(500, vec![], ""),
            "/503" => HttpAnswer::Response(503, vec![], ""),
            "/reset" => HttpAnswer::Reset,
            "/late" => HttpAnswer::Late(Duration::from_secs(5)),
            _ => ok(),
        })
        .unwrap();
        let mut with_timeout = settings.clone();
        with_timeout["timeout"] = json!("0.3s");
        let standalone = start(HTTP, provider.address(), with_timeout, &[]);
        assert_eq!(send(&standalone, &Request::get("/")).status, 200);
        for path in ["/500", "/503", "/reset", "/late"] {
            assert_eq!(send(&standalone, &Request::get(path)).status, expected, "{path} with {settings}");
        }
        drop(provider);
        assert_eq!(send(&standalone, &Request::get("/")).status, expected, "nobody with {settings}");
        assert_eq!(send(&standalone, &Request::get("/public")).status, 200);
    }
}

#[test]
fn a_provider_gets_as_much_of_a_body_as_the_configuration_says() {
    let body = |partial: bool| json!({ "includeRequestBodyInCheck": { "maxRequestBytes": 8, "allowPartialMessage": partial } });
    for (partial, status) in [(true, 200), (false, 413)] {
        let provider = HttpAuthorizer::start(|_| ok()).unwrap();
        let standalone = start(HTTP, provider.address(), body(partial), &[]);
        assert_eq!(send(&standalone, &post("/", "1234")).status, 200);
        assert_eq!(provider.questions()[0].body, b"1234");
        assert_eq!(send(&standalone, &post("/", "123456789")).status, status, "partial: {partial}");
        let bodies: Vec<_> = provider.questions().into_iter().map(|question| question.body).collect();
        if partial {
            assert_eq!(bodies[1], b"12345678");
        }
        assert_eq!(bodies.len(), if partial { 2 } else { 1 });
    }
    // Over HTTP/2, Envoy asks with a part of the body even if that is not allowed. The provider can see it.
    let provider = HttpAuthorizer::start(|_| ok()).unwrap();
    let standalone = start(HTTP, provider.address(), body(false), &[]);
    let client = Client::plain(standalone.address());
    assert_eq!(client.send_http2(&Http2Request::new("POST", "/").body("123456789")).unwrap().status, 200);
    let [question] = provider.questions().try_into().unwrap();
    assert_eq!(question.body, b"12345678");
    assert_eq!(question.header_values("x-envoy-auth-partial-body"), ["true"]);
    // Over gRPC, the body is text unless it is packed.
    for packed in [false, true] {
        let provider = GrpcAuthorizer::start(|_| Ok(CheckResponse::default())).unwrap();
        let mut settings = body(true);
        settings["includeRequestBodyInCheck"]["packAsBytes"] = json!(packed);
        let standalone = start(GRPC, provider.address(), settings, &[]);
        assert_eq!(send(&standalone, &post("/", "123456789")).status, 200);
        let http = provider.questions()[0].attributes.clone().unwrap().request.unwrap().http.unwrap();
        let expected = if packed { ("", &b"12345678"[..]) } else { ("12345678", &b""[..]) };
        assert_eq!((http.body.as_str(), http.raw_body.as_slice()), expected, "packed: {packed}");
    }
}

fn header(key: &str, value: &str) -> HeaderValueOption {
    let header = HeaderValue { key: key.to_owned(), value: value.to_owned(), ..HeaderValue::default() };
    HeaderValueOption { header: Some(header), ..HeaderValueOption::default() }
}

fn answer(code: i32, http: HttpResponse) -> CheckResponse {
    let status = testbed::rpc::Status { code, ..testbed::rpc::Status::default() };
    CheckResponse { status: Some(status), http_response: Some(http), ..CheckResponse::default() }
}

fn grpc_answer(question: &CheckRequest) -> Result<CheckResponse, Status> {
    let http = question.attributes.as_ref().unwrap().request.as_ref().unwrap().http.as_ref().unwrap();
    let ok = || {
        HttpResponse::OkResponse(OkHttpResponse {
            headers: vec![header("x-user", "alice")],
            ..OkHttpResponse::default()
        })
    };
    let denied = |status| {
        HttpResponse::DeniedResponse(DeniedHttpResponse {
            status: Some(HttpStatus { code: status }),
            headers: vec![header("location", "https://login.example/")],
            body: "said the provider".to_owned(),
        })
    };
    let response = match http.path.as_str() {
        "/empty" => CheckResponse::default(),
        "/login" => answer(7, denied(302)),
        "/no" => answer(16, denied(401)),
        // The status decides, and not what comes with it.
        "/denied-with-ok" => answer(7, ok()),
        "/allowed-with-denied" => answer(0, denied(302)),
        "/error" => return Err(Status::permission_denied("an error, and no answer")),
        "/unavailable" => return Err(Status::unavailable("an error, and no answer")),
        _ => answer(0, ok()),
    };
    Ok(response)
}

#[test]
fn a_provider_over_grpc_answers_by_its_status() {
    for fails_open in [false, true] {
        let provider = GrpcAuthorizer::start(grpc_answer).unwrap();
        let standalone = start(GRPC, provider.address(), json!({ "failOpen": fails_open }), &[]);
        let response = send(&standalone, &Request::get("/").header("x-user", "root"));
        assert_eq!(response.status, 200);
        assert_eq!(standalone.app.last_request().unwrap().header_values("x-user"), [b"alice"]);
        for (path, status) in [
            ("/empty", 200),
            ("/login", 302),
            ("/no", 401),
            ("/denied-with-ok", 403),
            ("/allowed-with-denied", 200),
            ("/error", if fails_open { 200 } else { 403 }),
            ("/unavailable", if fails_open { 200 } else { 403 }),
        ] {
            let response = send(&standalone, &Request::get(path));
            assert_eq!(response.status, status, "{path}, failOpen: {fails_open}");
            if [302, 401].contains(&status) {
                assert_eq!(response.header("location").as_deref(), Some("https://login.example/"));
                assert_eq!(response.text(), "said the provider");
            }
        }
        let questions = provider.questions();
        let http = questions[0].attributes.as_ref().unwrap().request.as_ref().unwrap().http.as_ref().unwrap();
        assert_eq!((http.method.as_str(), http.path.as_str()), ("GET", "/"));
        assert_eq!(http.headers.get("x-user").map(String::as_str), Some("root"), "it gets all headers");
    }
}

/// The order of Istio: the provider is asked before tokens are verified. So it can provide the token.
#[test]
fn a_provider_can_set_the_token_that_is_verified_next() {
    let claims = json!({ "iss": "https://issuer.example", "sub": "alice" });
    let token: &'static str = format!("Bearer {}", issuer().token(&claims).unwrap()).leak();
    let provider = HttpAuthorizer::start(move |question| match question.header_values("x-session").as_slice() {
        [session] if session == "alice" => HttpAnswer::Response(200, vec![("authorization", token)], ""),
        _ => ok(),
    })
    .unwrap();
    let settings = json!({
        "includeRequestHeadersInCheck": ["x-session"],
        "headersToUpstreamOnAllow": ["authorization"],
    });
    let authentication = json!({
        "apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication",
        "metadata": { "name": "tokens", "namespace": "default" },
        "spec": { "jwtRules": [{ "issuer": "https://issuer.example", "jwks": issuer().jwks() }] },
    });
    let alice = json!({ "from": [{ "source": { "requestPrincipals": ["https://issuer.example/alice"] } }] });
    let policies = [authentication, policy("alice", "ALLOW", &[alice])];
    let standalone = start(HTTP, provider.address(), settings, &policies);
    assert_eq!(send(&standalone, &Request::get("/").header("x-session", "alice")).status, 200);
    assert_eq!(send(&standalone, &Request::get("/").header("x-session", "bob")).status, 403);
}

/// What a client gets that sends CONNECT, if the provider allows or denies everything.
fn connected(kind: &str, fails_open: bool, allows: bool) -> u16 {
    let (status, code) = if allows { (200, 0) } else { (403, 7) };
    let over_http = HttpAuthorizer::start(move |_| HttpAnswer::Response(status, vec![], "")).unwrap();
    let over_grpc = GrpcAuthorizer::start(move |_| {
        let status = Some(testbed::rpc::Status { code, ..testbed::rpc::Status::default() });
        Ok(CheckResponse { status, ..CheckResponse::default() })
    })
    .unwrap();
    let provider = if kind == HTTP { over_http.address() } else { over_grpc.address() };
    let mut custom = policy("ask", "CUSTOM", &[json!({})]);
    custom["spec"]["provider"] = json!({ "name": "provider" });
    let settings = json!({ "service": "localhost", "port": provider.port(), "failOpen": fails_open });
    let mesh = json!({ "extensionProviders": [{ "name": "provider", (kind): settings }] });
    let files = folder(&[custom, mesh]);
    let arguments = ["filters", text(files.path()), "--namespace=default", "--no-labels", "--wasm=filter.wasm"];
    let (rendered, _) = render(&arguments);
    let route = json!({ "match": { "connect_matcher": {} }, "direct_response": { "status": 200 } });
    let routes = [route, direct_response(200, "")];
    let mut manager = http_connection_manager(rendered["http_filters"].as_array().unwrap(), &routes);
    manager["typed_config"]["upgrade_configs"] = json!([{ "upgrade_type": "CONNECT" }]);
    let listener = bootstrap::listener("inbound", manager, None);
    let bootstrap = bootstrap::bootstrap(&[listener], rendered["clusters"].as_array().unwrap());
    let envoy = Envoy::start_with(&bootstrap, &StartOptions::default().file("filter.wasm", wasm())).unwrap();
    let client = Client::plain(envoy.address("inbound").unwrap());
    assert_eq!(client.send(&Request::get("/")).unwrap().status, status);

    let file = files.path().join("envoy.json");
    std::fs::write(&file, bootstrap.to_string()).unwrap();
    let checked = mesh_authz_cli::envoy::check(&[file], &[]).unwrap();
    let is_found = checked
        .findings
        .iter()
        .any(|finding| finding.code == Some("ME020") && finding.diagnostic.message.contains("CONNECT"));
    assert_eq!(is_found, fails_open && kind == HTTP);
    let seen = client.send_http2(&connect("a.example:443")).unwrap().status;
    let answer = format!("--provider=provider={}", if allows { "allow" } else { "deny" });
    let mut explain = std::process::Command::new(env!("CARGO_BIN_EXE_mesh-authz"));
    explain.args(["explain", &answer, "--namespace=default", "--no-labels", "--method=CONNECT"]).arg(files.path());
    std::fs::remove_file(files.path().join("envoy.json")).unwrap();
    let explained = String::from_utf8(explain.output().unwrap().stdout).unwrap();
    assert_eq!(explained.starts_with("ALLOW"), seen == 200, "{explained}");
    seen
}

/// Envoy cannot ask about a CONNECT over HTTP: only `failOpen` decides. `render filters` warns of it, `check --envoy` finds
/// it, and `explain` says it.
#[test]
fn a_connect_passes_a_provider_over_http_only_if_it_fails_open() {
    for (kind, fails_open, allows, status) in [
        (HTTP, false, false, 403),
        (HTTP, false, true, 403),
        (HTTP, true, false, 200),
        (HTTP, true, true, 200),
        (GRPC, false, false, 403),
        (GRPC, false, true, 200),
        (GRPC, true, false, 403),
        (GRPC, true, true, 200),
    ] {
        let seen = connected(kind, fails_open, allows);
        assert_eq!(seen, status, "{kind}, failOpen: {fails_open}, the provider allows: {allows}");
    }
}
