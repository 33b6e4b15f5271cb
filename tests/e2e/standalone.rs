//! What the options of `mesh-authz render envoy` do in a real Envoy.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::bootstrap::{bootstrap, direct_response, http_connection_manager, listener};
use testbed::{App, Client, Envoy, Http2Request, Request, StartOptions, Tls};

use crate::jwt::{issuer, with_token};
use crate::rendered::{Standalone, TLS_FILES, folder, render, start_rendered, text};
use crate::sidecar::{FRONTEND, PATIENCE, STRANGER, authority, client_of, filter_lines, policy, to, wasm, when};

const BACKEND: [&str; 2] = ["--namespace=default", "--label=app=backend"];

fn status(envoy: &Envoy, listener: &str, path: &str) -> u16 {
    Client::plain(envoy.address(listener).unwrap()).send(&Request::get(path)).unwrap().status
}

/// Two applications on the ports that the system has chosen, and the address with the same port on which Envoy listens.
/// No other test uses this address.
fn two_applications() -> [(App, String); 2] {
    [(); 2].map(|()| {
        let app = App::start().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 10], app.address().port()));
        (app, address.to_string())
    })
}

#[test]
fn policies_by_port_decide_on_the_ports_that_envoy_listens_on() {
    let [(one, first), (two, second)] = two_applications();
    let [one_port, two_port] = [&one, &two].map(|app| app.address().port().to_string());
    let documents = [
        policy("all", "ALLOW", &[json!({})]),
        policy("first", "DENY", &[to(json!({ "paths": ["/first"], "ports": [one_port] }))]),
        policy("second", "DENY", &[to(json!({ "paths": ["/second"], "notPorts": [one_port] }))]),
        policy("condition", "DENY", &[when("destination.port", &[&two_port])]),
    ];
    let (common, only_first) = documents.split_at(3);
    for (documents, last) in [(common, 200), (&[common, only_first].concat()[..], 403)] {
        let folder = folder(documents);
        let listen = ["--plaintext", "--listen", &first, "--listen", &second, "--upstream", "127.0.0.1"];
        let (envoy, _) = start_rendered(&[&[text(folder.path())], &BACKEND[..], &listen].concat());
        let other = format!("inbound_{two_port}");
        assert_eq!(envoy.address("inbound").unwrap().to_string(), first);
        assert_eq!(envoy.address(&other).unwrap().to_string(), second);
        for (listener, path, expected) in [
            ("inbound", "/first", 403),
            ("inbound", "/second", 200),
            (&other, "/first", last),
            (&other, "/second", 403),
        ] {
            assert_eq!(status(&envoy, listener, path), expected, "{listener} {path}\n{}", envoy.log());
        }
    }
    // Without a port, `--upstream` means the port of the listener.
    assert_eq!((one.requests(), two.requests()), (2, 1));
}

#[test]
fn all_listeners_have_the_upstream_that_has_a_port() {
    let [(one, first), (_two, second)] = two_applications();
    let folder = folder(&[policy("all", "ALLOW", &[json!({})])]);
    let upstream = one.address().to_string();
    let listen = ["--plaintext", "--listen", &first, "--listen", &second, "--upstream", &upstream];
    let (envoy, notes) = start_rendered(&[&[text(folder.path())], &BACKEND[..], &listen].concat());
    let other = format!("inbound_{}", second.rsplit_once(':').unwrap().1);
    assert_eq!([status(&envoy, "inbound", "/"), status(&envoy, &other, "/")], [200; 2]);
    assert_eq!((one.requests(), notes.as_str()), (2, ""));
}

#[test]
fn with_server_only_tls_peers_need_no_certificate_and_have_no_identity() {
    let mut owners = to(json!({ "paths": ["/frontend"] }));
    owners["from"] = json!([{ "source": { "principals": [FRONTEND] } }]);
    let folder = folder(&[policy("some", "ALLOW", &[owners, to(json!({ "paths": ["/public"] }))])]);
    let files = ["--certificate=own.pem", "--key=own.key", "--server-only-tls"];
    let (backend, notes) = Standalone::start(&[&[text(folder.path())], &BACKEND[..], &files].concat());
    let expected = "policy default/some: looks at the peer's identity, which no peer has with --server-only-tls\n";
    assert_eq!(notes, expected);
    let anonymous = Client::tls(backend.address(), Tls::new(authority().pem()));
    for client in [&anonymous, &client_of(backend.address(), FRONTEND)] {
        for (path, status) in [("/public", 200), ("/frontend", 403)] {
            assert_eq!(client.send(&Request::get(path)).unwrap().status, status, "{path}");
        }
        assert_eq!(client.send_http2(&Http2Request::get("/public")).unwrap().status, 200);
    }
    assert!(Client::plain(backend.address()).send(&Request::get("/public")).is_err(), "it does not speak in the clear");
}

/// A rule for one path, with this source.
fn from(path: &str, source: Value) -> Value {
    let mut rule = to(json!({ "paths": [path] }));
    rule["from"] = json!([{ "source": source }]);
    rule
}

#[test]
fn the_address_that_trusted_proxies_have_seen_is_the_clients() {
    let folder = folder(&[policy("office", "ALLOW", &[from("/", json!({ "remoteIpBlocks": ["203.0.113.0/24"] }))])]);
    let (office, other) = ("203.0.113.9", "198.51.100.7");
    for (hops, rows) in [
        // Nobody is trusted.
        ("0", vec![(vec![office], 403), (vec![], 403)]),
        // The last address is what the proxy has seen. A client can write all others.
        (
            "1",
            vec![
                (vec![office], 200),
                (vec![other, office], 200),
                (vec![office, other], 403),
                (vec![office, office, other], 403),
                (vec![], 403),
            ],
        ),
        // The last address is that of the first proxy, as the second has seen it.
        (
            "2",
            vec![
                (vec![office, "10.0.0.1"], 200),
                (vec![office, other, "10.0.0.1"], 403),
                (vec![other, office, "10.0.0.1"], 200),
                (vec![office], 403),
            ],
        ),
    ] {
        let arguments = ["--plaintext", "--trusted-hops", hops];
        let (backend, _) = Standalone::start(&[&[text(folder.path())], &BACKEND[..], &arguments].concat());
        for (addresses, status) in rows {
            let request = Request::get("/");
            let one_line = match addresses.as_slice() {
                [] => request.clone(),
                addresses => request.clone().header("x-forwarded-for", addresses.join(", ")),
            };
            backend.assert_answers(&one_line, status);
            let several = addresses.iter().fold(request, |request, address| request.header("x-forwarded-for", address));
            backend.assert_answers(&several, status);
        }
    }
}

/// A rule for one path, with this condition.
fn condition(path: &str, key: &str, value: &str) -> Value {
    let mut rule = to(json!({ "paths": [path] }));
    rule["when"] = json!([{ "key": key, "values": [value] }]);
    rule
}

#[test]
fn the_proxy_protocol_tells_the_client_and_the_port_of_the_load_balancer() {
    let folder = folder(&[policy(
        "office",
        "ALLOW",
        &[
            from("/remote", json!({ "remoteIpBlocks": ["203.0.113.0/24"] })),
            from("/direct", json!({ "ipBlocks": ["127.0.0.0/8"] })),
            from("/direct-is-client", json!({ "ipBlocks": ["203.0.113.0/24"] })),
            to(json!({ "paths": ["/port"], "ports": ["443"] })),
            condition("/destination", "destination.ip", "10.0.0.8"),
            condition("/sni", "connection.sni", "backend.example"),
            from("/peer", json!({ "principals": [FRONTEND] })),
        ],
    )]);
    let arguments = [&[text(folder.path()), "--proxy-protocol"], &BACKEND[..], &TLS_FILES].concat();
    let (backend, notes) = Standalone::start(&arguments);
    let expected = "policy default/office: looks at the port: with --proxy-protocol, that is the one on which the load \
                    balancer has accepted the connection\n";
    assert!(notes.starts_with(expected), "{notes}");
    let mut client = client_of(backend.address(), FRONTEND);
    client.tls = client.tls.map(|tls| tls.server_name("backend.example"));
    let proxied = |source: &str, destination: &str| {
        let proxied = client.clone().proxied(source.parse().unwrap(), destination.parse().unwrap());
        ["/remote", "/direct", "/direct-is-client", "/port", "/destination", "/peer", "/sni"]
            .map(|path| proxied.send(&Request::get(path)).unwrap().status)
    };
    assert_eq!(proxied("203.0.113.9:4000", "10.0.0.8:443"), [200, 200, 403, 200, 200, 200, 200]);
    assert_eq!(proxied("198.51.100.7:4000", "10.0.0.9:80"), [403, 200, 403, 403, 403, 200, 200]);
    // What a client writes into X-Forwarded-For counts no more than elsewhere.
    let forged = Request::get("/remote").header("x-forwarded-for", "203.0.113.9");
    let elsewhere = client.clone().proxied("198.51.100.7:4000".parse().unwrap(), "10.0.0.8:443".parse().unwrap());
    assert_eq!(elsewhere.send(&forged).unwrap().status, 403);
    assert!(client.send(&Request::get("/direct")).is_err(), "a connection without the header is closed");
}

/// An application that speaks only this version of HTTP: `HTTP1` or `HTTP2`.
fn application(codec: &str) -> Envoy {
    let mut manager = http_connection_manager(&[], &[direct_response(200, "here")]);
    manager["typed_config"]["codec_type"] = json!(codec);
    Envoy::start(&bootstrap(&[listener("application", manager, None)], &[])).unwrap()
}

#[test]
fn the_application_gets_the_version_of_http_that_it_speaks() {
    let folder = folder(&[policy("all", "ALLOW", &[json!({})])]);
    // The option, and whether a request over HTTP/1.1 and one over HTTP/2 reach the application.
    for (codec, rows) in [
        ("HTTP1", [("http1", [true, true]), ("http2", [false, false]), ("downstream", [true, false])]),
        ("HTTP2", [("http1", [false, false]), ("http2", [true, true]), ("downstream", [false, true])]),
    ] {
        let application = application(codec);
        let upstream = application.address("application").unwrap().to_string();
        for (protocol, expected) in rows {
            let arguments =
                ["--plaintext", "--listen=127.0.0.1:0", "--upstream", &upstream, "--upstream-protocol", protocol];
            let (envoy, _) = start_rendered(&[&[text(folder.path())], &BACKEND[..], &arguments].concat());
            let client = Client::plain(envoy.address("inbound").unwrap());
            let statuses = [
                client.send(&Request::get("/")).unwrap().status,
                client.send_http2(&Http2Request::get("/")).unwrap().status,
            ];
            assert_eq!(statuses.map(|status| status == 200), expected, "{codec} {protocol}: {statuses:?}");
        }
    }
}

#[test]
fn grpc_and_websockets_need_a_version_of_http_that_carries_them() {
    let folder = folder(&[policy("all", "ALLOW", &[json!({})])]);
    for (protocol, grpc_status) in [("http1", None), ("http2", Some("0")), ("downstream", Some("0"))] {
        let arguments = ["--plaintext", "--upstream-protocol", protocol];
        let (backend, _) = Standalone::start(&[&[text(folder.path())], &BACKEND[..], &arguments].concat());
        let client = Client::plain(backend.address());
        let response = client.send_http2(&Http2Request::grpc("/shop.Cart/Get")).unwrap();
        assert_eq!((response.status, response.trailer("grpc-status").as_deref()), (200, grpc_status), "{protocol}");
        let upgrade = Request::get("/").header("connection", "upgrade").header("upgrade", "websocket");
        let mut connection = client.connect().unwrap();
        assert_eq!(connection.send(&upgrade).unwrap().status, 101, "{protocol}");
        connection.write(b"echo").unwrap();
        assert_eq!(connection.read_exact(4).unwrap(), b"echo");
    }
}

/// By default, Envoy answers 504 after 15 seconds.
#[test]
fn a_response_may_take_its_time() {
    let folder = folder(&[policy("all", "ALLOW", &[json!({})])]);
    let slow = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let upstream = slow.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        let (mut connection, _) = slow.accept().unwrap();
        let mut request = [0; 1024];
        assert!(connection.read(&mut request).unwrap() > 0);
        thread::sleep(Duration::from_millis(15_500));
        connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    });
    let arguments = ["--plaintext", "--listen=127.0.0.1:0", "--upstream", &upstream];
    let (envoy, _) = start_rendered(&[&[text(folder.path())], &BACKEND[..], &arguments].concat());
    let mut client = Client::plain(envoy.address("inbound").unwrap());
    client.timeout = Duration::from_secs(30);
    assert_eq!(client.send(&Request::get("/")).unwrap().status, 200);
    server.join().unwrap();
}

#[test]
fn the_fields_of_the_plugin_configuration_are_those_that_are_given() {
    let plugin = tempfile::NamedTempFile::new().unwrap();
    let fields = "denyResponse: { status: 401, body: not here, headers: { x-reason: policy } }\ndecisionLog: none\n";
    std::fs::write(plugin.path(), fields).unwrap();
    let folder = folder(&[policy("some", "ALLOW", &[to(json!({ "paths": ["/public"] }))])]);
    let header = json!({ "name": "x-why", "principals": [FRONTEND] }).to_string();
    let set =
        ["--plugin", text(plugin.path()), "--set=denyResponse.status=404", &format!("--set=debugHeader={header}")];
    let start = |set: &[&str]| Standalone::start(&[&[text(folder.path())], &BACKEND[..], &TLS_FILES, set].concat()).0;
    let refused = |backend: &Standalone, principal: &str| {
        let response = client_of(backend.address(), principal).send(&Request::get("/private")).unwrap();
        let headers = ["x-why", "x-reason"].map(|name| response.header(name));
        (response.status, response.text(), headers.map(|value| value.is_some()))
    };
    let given = start(&set);
    assert_eq!(refused(&given, FRONTEND), (404, "not here".to_owned(), [true, true]));
    assert_eq!(refused(&given, STRANGER), (404, "not here".to_owned(), [false, true]));
    let default = start(&[]);
    assert_eq!(refused(&default, FRONTEND), (403, "RBAC: access denied".to_owned(), [false, false]));
    let is_logged =
        |backend: &Standalone| filter_lines(&backend.envoy.log()).iter().any(|line| line.contains("/private"));
    default.envoy.wait_for_log("/private", PATIENCE).unwrap();
    // Both have answered, and the one that logs has logged.
    assert_eq!([is_logged(&given), is_logged(&default)], [false, true]);
}

#[test]
fn tokens_are_verified_under_the_key_that_the_filter_looks_for() {
    let claims = json!({ "iss": "i", "sub": "alice" });
    let authentication = json!({
        "apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication", "metadata": { "name": "r" },
        "spec": { "jwtRules": [{ "issuer": "i", "jwks": issuer().jwks() }] },
    });
    let mut rule = when("request.auth.claims[sub]", &["alice"]);
    rule["from"] = json!([{ "source": { "requestPrincipals": ["i/alice"] } }]);
    let folder = folder(&[policy("alice", "ALLOW", &[rule]), authentication]);
    let arguments = [text(folder.path()), "--plaintext", "--set=jwt.payloadKey=claims"];
    let (backend, _) = Standalone::start(&[&arguments, &BACKEND[..]].concat());
    backend.assert_answers(&with_token(issuer(), &claims), 200);
    backend.assert_answers(&Request::get("/"), 403);
}

#[test]
fn all_listeners_watch_the_same_file() {
    let [(_one, first), (_two, second)] = two_applications();
    let folder = folder(&[policy("public", "ALLOW", &[to(json!({ "paths": ["/public"] }))])]);
    let (bootstrap, _) = render(
        &[
            &[
                "envoy",
                text(folder.path()),
                "--plaintext",
                "--watch=./ecds.json",
                "--listen",
                &first,
                "--listen",
                &second,
            ],
            &BACKEND[..],
            &["--upstream=127.0.0.1"],
        ]
        .concat(),
    );
    let set = "--set=denyResponse.status=404";
    let (file, _) = render(&[&["ecds", text(folder.path()), "--wasm=filter.wasm", set], &BACKEND[..]].concat());
    let options = StartOptions::default().file("filter.wasm", wasm()).file("ecds.json", file.to_string());
    let envoy = Envoy::start_with(&bootstrap, &options).unwrap();
    let other = format!("inbound_{}", second.rsplit_once(':').unwrap().1);
    for listener in ["inbound", &other] {
        assert_eq!(
            [status(&envoy, listener, "/public"), status(&envoy, listener, "/private")],
            [200, 404],
            "{listener}"
        );
    }
}
