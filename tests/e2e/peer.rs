//! What Envoy tells the filter about the peer, in one entry, and what a peer can make of it.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::thread;

use serde_json::{Value, json};
use testbed::{Client, Http2Request, Request, San};

use crate::question::{Answer, Answer::*, Asked, Question, ask_with, operation, source};
use crate::sidecar::{Blueprint, FRONTEND, STRANGER, policy};

fn questions() -> Vec<Question> {
    vec![
        source("frontend", "principals", "source.principal", &[FRONTEND]),
        source("any", "principals", "source.principal", &["*"]),
        source("here", "ipBlocks", "source.ip", &["127.0.0.0/8"]),
        source("there", "ipBlocks", "source.ip", &["10.0.0.0/8"]),
        operation("port", "ports", &["9999"]),
    ]
}

fn ask(change: impl FnOnce(Blueprint) -> Blueprint) -> Asked {
    ask_with(questions(), json!({}), |blueprint| change(blueprint.answering_by_itself()))
}

/// Asks everything, over both versions of HTTP. The address and the port are always the true ones.
#[track_caller]
fn assert_identity(asked: &Asked, client: &Client, frontend: Answer, any: Answer, what: &str) {
    let expected = [("frontend", frontend), ("any", any), ("here", Match), ("there", NoMatch), ("port", NoMatch)];
    for (name, expected) in expected {
        assert_eq!(asked.answer(name, client, &Request::get("/")), expected, "{name}: {what}");
        assert_eq!(asked.answer(name, client, &Http2Request::get("/")), expected, "{name} over HTTP/2: {what}");
    }
}

/// As [`assert_identity`], of a peer that has made the entry unreadable by itself.
#[track_caller]
fn assert_unreadable(asked: &Asked, client: &Client, what: &str) {
    for name in ["here", "there", "port"] {
        assert_eq!(asked.answer(name, client, &Request::get("/")), Unreadable, "{name}: {what}");
        assert_eq!(asked.answer(name, client, &Http2Request::get("/")), Unreadable, "{name} over HTTP/2: {what}");
    }
    for name in ["frontend", "any"] {
        let answer = asked.answer(name, client, &Request::get("/"));
        // The first URI is known from elsewhere.
        assert_ne!(answer, NoMatch, "{name}: {what}");
        assert!(name == "any" || answer == Unreadable, "{name}: {what}");
    }
}

fn uri(text: &str) -> San {
    San::Uri(format!("spiffe://{text}"))
}

#[test]
fn no_name_in_a_certificate_forges_a_field() {
    let asked = ask(|blueprint| blueprint);
    let bytes = |bytes: &[u8]| San::UriBytes(bytes.to_vec());
    let long = |length| format!("{STRANGER}/{}", "x".repeat(length));
    let with_frontend = [uri(STRANGER), uri(FRONTEND)];
    for (names, frontend, any) in [
        (&[uri(FRONTEND)][..], Match, Match),
        (&[uri(STRANGER)], NoMatch, Match),
        (&[uri(&long(1_900))], NoMatch, Match),
        // An identity of more than 2,048 bytes is unreadable. The other fields are not.
        (&[uri(&long(6_000))], Unreadable, Unreadable),
        (&[bytes(b"spiffe://cluster.local/ns/default/sa/frontend\xff")], NoMatch, Unreadable),
        (&[bytes(b"\xff\xfe\x80")], NoMatch, Unreadable),
        (&[uri(&format!("{STRANGER},spiffe://{FRONTEND}"))], NoMatch, Match),
        (&[uri(&format!("{STRANGER}\r{FRONTEND}"))], NoMatch, Match),
        (&with_frontend, Unreadable, Match),
        (&[San::Dns("frontend".to_owned())], NoMatch, Match),
    ] {
        assert_identity(&asked, &asked.client_named(names, None), frontend, any, &format!("{names:?}"));
    }
    for text in [
        format!("{STRANGER}\n"),
        format!("\n10.0.0.1\n9999\nspiffe://{FRONTEND}"),
        format!("{STRANGER}\nspiffe://{FRONTEND}"),
        format!("{STRANGER}\n10.0.0.1\n9999\n"),
    ] {
        assert_unreadable(&asked, &asked.client_named(&[uri(&text)], None), &text);
    }
    let second = [uri(STRANGER), uri(&format!("x\n10.0.0.1\n9999\nspiffe://{FRONTEND}"))];
    assert_unreadable(&asked, &asked.client_named(&second, None), "the second URI");
}

#[test]
fn without_a_certificate_or_tls_the_peer_has_an_address_and_no_identity() {
    let asked = ask(Blueprint::optional_client_certificate);
    assert_identity(&asked, &asked.anonymous_client(), NoMatch, NoMatch, "no certificate");
    assert_identity(&asked, &asked.client(FRONTEND), Match, Match, "a certificate");
    let asked = ask(Blueprint::plaintext);
    assert_identity(&asked, &asked.plain_client(), NoMatch, NoMatch, "no TLS");
}

/// Behind a load balancer, the direct peer is the load balancer, whatever it says about the client.
#[test]
fn the_proxy_protocol_does_not_change_the_direct_peer() {
    let asked = ask(Blueprint::proxy_protocol);
    let proxied = |port: u16| {
        let destination = ([10, 0, 0, 8], port).into();
        asked.client(FRONTEND).proxied(([10, 9, 9, 9], 4_000).into(), destination)
    };
    for (port, expected) in [(9_999, Match), (80, NoMatch)] {
        let client = proxied(port);
        assert_eq!(asked.answer("here", &client, &Request::get("/")), Match);
        assert_eq!(asked.answer("there", &client, &Request::get("/")), NoMatch);
        assert_eq!(asked.answer("port", &client, &Request::get("/")), expected);
        assert_eq!(asked.answer("frontend", &client, &Request::get("/")), Match);
    }
}

#[test]
fn peers_on_connections_at_the_same_time_do_not_mix() {
    let asked = ask(|blueprint| blueprint);
    let allowed = || Request::get("/").header("x-rule", "allow-frontend-0");
    let denied = || Request::get("/").header("x-rule", "deny-frontend-0");
    let (frontend, stranger) = (asked.client(FRONTEND), asked.client(STRANGER));
    let (mut one, mut two) = (frontend.connect().unwrap(), stranger.connect().unwrap());
    let (mut three, mut four) = (frontend.connect_http2().unwrap(), stranger.connect_http2().unwrap());
    for _ in 0..5 {
        assert_eq!([one.send(&allowed()).unwrap().status, one.send(&denied()).unwrap().status], [200, 403]);
        assert_eq!([two.send(&allowed()).unwrap().status, two.send(&denied()).unwrap().status], [403, 200]);
        let over_http2 = |rule: &str| Http2Request::get("/").header("x-rule", rule);
        for (connection, expected) in [(&mut three, [200, 403]), (&mut four, [403, 200])] {
            let statuses =
                ["allow-frontend-0", "deny-frontend-0"].map(|rule| connection.send(&over_http2(rule)).unwrap().status);
            assert_eq!(statuses, expected);
        }
    }
    thread::scope(|scope| {
        for client in [&frontend, &stranger] {
            let expected = if std::ptr::eq(client, &raw const frontend) { 200 } else { 403 };
            scope.spawn(move || {
                for _ in 0..50 {
                    let request = Request::get("/").header("x-rule", "allow-frontend-0");
                    assert_eq!(client.send(&request).unwrap().status, expected);
                }
            });
        }
    });
}

/// A client that gives its own socket a path, which looks like an address.
const CLIENT: &str = "
import os, socket, sys
os.chdir(sys.argv[1])
client = socket.socket(socket.AF_UNIX)
client.bind(sys.argv[3])
client.connect(sys.argv[2])
client.sendall(sys.stdin.buffer.read())
sys.stdout.buffer.write(client.recv(65536))
";

#[test]
fn the_path_of_a_unix_socket_is_no_address() {
    let local = |name: &str, action: &str, field: &str| {
        policy(name, action, &[json!({ "from": [{ "source": { field: ["127.0.0.0/8"] } }] })])
    };
    let folder = tempfile::tempdir().unwrap();
    for (number, (policies, expected)) in [
        (vec![local("allow", "ALLOW", "ipBlocks")], "403"),
        (vec![local("deny", "DENY", "ipBlocks")], "403"),
        (vec![local("allow-not", "ALLOW", "notIpBlocks")], "403"),
        (vec![local("deny-not", "DENY", "notIpBlocks")], "403"),
        (vec![policy("all", "ALLOW", &[json!({})])], "200"),
    ]
    .into_iter()
    .enumerate()
    {
        let listens = folder.path().join(format!("envoy-{number}"));
        let mut blueprint = Blueprint::new(&json!({ "policies": policies })).plaintext().answering_by_itself();
        let address: Value = json!({ "pipe": { "path": listens } });
        blueprint.listener()["address"] = address;
        let sidecar = blueprint.start();
        for (index, path) in
            ["127.0.0.1", "127.0.0.1\n9999", "127.0.0.1\n9999\nx", "x\n127.0.0.1\n9999\n", "\n127.0.0.1"]
                .into_iter()
                .enumerate()
        {
            let own = folder.path().join(format!("client-{number}-{index}"));
            std::fs::create_dir(&own).unwrap();
            let mut client = Command::new("python3")
                .args(["-c", CLIENT, own.to_str().unwrap(), listens.to_str().unwrap(), path])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            client.stdin.take().unwrap().write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
            let mut answer = String::new();
            client.stdout.take().unwrap().read_to_string(&mut answer).unwrap();
            assert!(client.wait().unwrap().success());
            assert_eq!(answer.split(' ').nth(1), Some(expected), "{path:?}: {answer}\n{}", sidecar.envoy.log());
        }
    }
}
