//! What the options of `mesh-authz render envoy` do in a real Envoy.

use std::net::SocketAddr;

use serde_json::json;
use testbed::{App, Client, Envoy, Http2Request, Request, Tls};

use crate::rendered::{Standalone, folder, start_rendered, text};
use crate::sidecar::{FRONTEND, authority, client_of, policy, to, when};

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
