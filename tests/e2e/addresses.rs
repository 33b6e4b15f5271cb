//! The source and destination of a request: `ipBlocks`, `remoteIpBlocks`, `destination.ip`, `ports`, SNI.

use std::net::{Ipv6Addr, TcpListener};

use serde_json::json;
use testbed::{Client, Request};

use crate::question::{Answer, Answer::*, Asked, Question, ask, ask_alone, ask_with, condition, operation, source};
use crate::sidecar::{Blueprint, FRONTEND, authority};

fn direct(name: &str, block: &str) -> Question {
    source(name, "ipBlocks", "source.ip", &[block])
}

fn remote(name: &str, block: &str) -> Question {
    source(name, "remoteIpBlocks", "remote.ip", &[block])
}

fn port(name: &str, port: &str) -> Question {
    operation(name, "ports", &[port]).and(condition(name, "destination.port", &[port]))
}

fn answers<const N: usize>(asked: &Asked, names: [&str; N], client: &Client) -> [Answer; N] {
    names.map(|name| asked.answer(name, client, &Request::get("/")))
}

#[test]
fn ip_blocks_hold_the_direct_peer() {
    let asked = ask(vec![
        direct("address", "127.0.0.7"),
        direct("network", "127.0.1.0/24"),
        direct("host-bits", "127.0.1.99/24"),
        direct("everything", "0.0.0.0/0"),
        direct("mapped", "::ffff:127.0.0.0/104"),
        direct("ipv6", "::/0"),
    ]);
    let client = asked.client(FRONTEND);
    let names = ["address", "network", "host-bits", "everything", "mapped", "ipv6"];
    assert_eq!(
        answers(&asked, names, &client.clone().from_ip([127, 0, 0, 7])),
        [Match, NoMatch, NoMatch, Match, NoMatch, NoMatch]
    );
    assert_eq!(
        answers(&asked, names, &client.clone().from_ip([127, 0, 1, 7])),
        [NoMatch, Match, Match, Match, NoMatch, NoMatch]
    );
    assert_eq!(
        answers(&asked, names, &client.from_ip([127, 0, 2, 7])),
        [NoMatch, NoMatch, NoMatch, Match, NoMatch, NoMatch]
    );
}

#[test]
fn remote_ip_blocks_follow_x_forwarded_for_where_it_is_trusted_and_ip_blocks_never() {
    let questions = || vec![direct("direct", "127.0.0.0/8"), remote("remote", "9.9.9.0/24")];
    let forwarded = Request::get("/").header("x-forwarded-for", "9.9.9.9");
    for (use_remote_address, remote) in [(false, Match), (true, NoMatch)] {
        let asked = ask_with(questions(), json!({}), |blueprint| {
            blueprint.setting("use_remote_address", json!(use_remote_address))
        });
        let client = asked.client(FRONTEND);
        assert_eq!(asked.answer("remote", &client, &forwarded), remote);
        assert_eq!(asked.answer("direct", &client, &forwarded), Match);
        assert_eq!(asked.answer("remote", &client, &Request::get("/")), NoMatch);
        assert_eq!(asked.answer("direct", &client, &Request::get("/")), Match);
    }
}

#[test]
fn the_decision_log_tells_both_addresses() {
    let asked = ask_alone(vec![remote("remote", "9.9.9.0/24")], json!({}), |blueprint| {
        blueprint.setting("use_remote_address", json!(false))
    });
    let forwarded = Request::get("/").header("x-forwarded-for", "9.9.9.9");
    assert_eq!(asked.answer("remote", &asked.client(FRONTEND), &forwarded), Match);
    let decisions = asked.decisions();
    assert!(!decisions.is_empty());
    for decision in decisions {
        assert_eq!([&decision["source_ip"], &decision["remote_ip"]], ["127.0.0.1", "9.9.9.9"]);
    }
}

#[test]
fn without_a_trusted_source_the_direct_peers_address_is_unreadable() {
    let asked = ask_alone(
        vec![direct("inside", "127.0.0.0/8"), direct("outside", "10.0.0.0/8"), remote("remote", "127.0.0.0/8")],
        json!({}),
        Blueprint::without_source_ip,
    );
    let client = asked.client(FRONTEND);
    assert_eq!(answers(&asked, ["inside", "outside", "remote"], &client), [Unreadable, Unreadable, Match]);
    for name in ["inside", "outside"] {
        let policy = format!("default/deny-{name}-0");
        let decision = asked.decisions().into_iter().find(|line| line["policy"] == policy).unwrap();
        assert_eq!(decision["unreadable"], "source.ip");
    }
}

#[test]
fn the_remote_address_stands_for_the_direct_peers_if_the_configuration_says_so() {
    let asked = ask_with(
        vec![direct("forwarded", "9.9.9.9"), direct("peer", "127.0.0.1")],
        json!({ "sourceIpFrom": "remote-address" }),
        |blueprint| blueprint.without_source_ip().setting("use_remote_address", json!(false)),
    );
    let client = asked.client(FRONTEND);
    assert_eq!(answers(&asked, ["forwarded", "peer"], &client), [NoMatch, Match]);
    let forwarded = Request::get("/").header("x-forwarded-for", "9.9.9.9");
    assert_eq!(["forwarded", "peer"].map(|name| asked.answer(name, &client, &forwarded)), [Match, NoMatch]);
}

#[test]
fn the_proxy_protocol_tells_the_client_and_the_destination() {
    let asked = ask_with(
        vec![
            remote("remote", "203.0.113.0/24"),
            remote("remote-v6", "2001:db8::/32"),
            direct("direct", "127.0.0.0/8"),
            condition("destination", "destination.ip", &["10.0.0.0/24"]),
            condition("destination-v6", "destination.ip", &["2001:db8::2"]),
            port("port", "8443"),
        ],
        json!({}),
        Blueprint::proxy_protocol,
    );
    let names = ["remote", "remote-v6", "direct", "destination", "destination-v6", "port"];
    let client = asked.client(FRONTEND);
    let proxied =
        |source: &str, destination: &str| client.clone().proxied(source.parse().unwrap(), destination.parse().unwrap());
    assert_eq!(
        answers(&asked, names, &proxied("203.0.113.9:4000", "10.0.0.8:8443")),
        [Match, NoMatch, Match, Match, NoMatch, Match]
    );
    assert_eq!(
        answers(&asked, names, &proxied("[2001:db8::1]:4000", "[2001:db8::2]:443")),
        [NoMatch, Match, Match, NoMatch, Match, NoMatch]
    );
}

#[test]
fn several_listeners_are_told_apart_by_address_and_port() {
    // A port that the system has just reported as free, on an address that no other test uses.
    let free = TcpListener::bind(("127.0.0.9", 0)).unwrap().local_addr().unwrap();
    let asked = ask_alone(
        vec![
            condition("first", "destination.ip", &["127.0.0.1"]),
            condition("second", "destination.ip", &["127.0.0.9/32"]),
            condition("loopback", "destination.ip", &["127.0.0.0/8"]),
            port("port", &free.port().to_string()),
            port("zero", "0"),
        ],
        json!({}),
        |mut blueprint| {
            let mut second = blueprint.listener().clone();
            second["name"] = json!("second");
            second["address"]["socket_address"] = json!({ "address": "127.0.0.9", "port_value": free.port() });
            blueprint.bootstrap["static_resources"]["listeners"].as_array_mut().unwrap().push(second);
            blueprint
        },
    );
    let names = ["first", "second", "loopback", "port", "zero"];
    let first = asked.client(FRONTEND);
    let second = Client { address: asked.envoy.address("second").unwrap(), ..first.clone() };
    assert_eq!(answers(&asked, names, &first), [Match, NoMatch, Match, NoMatch, NoMatch]);
    assert_eq!(answers(&asked, names, &second), [NoMatch, Match, Match, Match, NoMatch]);
}

#[test]
fn ipv6_addresses_are_compared_as_such() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        println!("skipped: this machine has no ::1");
        return;
    }
    let asked = ask_with(
        vec![
            direct("direct", "::1"),
            remote("remote", "::/64"),
            condition("destination", "destination.ip", &["::1/128"]),
            direct("ipv4", "0.0.0.0/0"),
        ],
        json!({}),
        |mut blueprint| {
            blueprint.listener()["address"]["socket_address"]["address"] = json!("::1");
            blueprint
        },
    );
    let client = asked.client(FRONTEND);
    assert_eq!(answers(&asked, ["direct", "remote", "destination", "ipv4"], &client), [Match, Match, Match, NoMatch]);
}

#[test]
fn the_server_name_is_the_one_of_the_handshake() {
    let sni = |name, value| condition(name, "connection.sni", &[value]);
    let asked = ask(vec![
        sni("exact", "backend.example"),
        sni("prefix", "backend*"),
        sni("suffix", "*.example"),
        sni("any", "*"),
    ]);
    let names = ["exact", "prefix", "suffix", "any"];
    let named = |name: &str| {
        let mut client = asked.client(FRONTEND);
        client.tls = client.tls.map(|tls| tls.server_name(name));
        client
    };
    assert_eq!(answers(&asked, names, &named("backend.example")), [Match; 4]);
    assert_eq!(answers(&asked, names, &named("other.example")), [NoMatch, NoMatch, Match, Match]);
    assert_eq!(answers(&asked, names, &asked.client(FRONTEND)), [NoMatch; 4]);
}

#[test]
fn without_tls_there_is_no_server_name() {
    let asked = ask_with(
        vec![condition("any", "connection.sni", &["*"]), condition("exact", "connection.sni", &["localhost"])],
        json!({}),
        Blueprint::plaintext,
    );
    assert_eq!(answers(&asked, ["any", "exact"], &asked.plain_client()), [NoMatch; 2]);
}

#[test]
fn one_way_tls_has_a_server_name_and_no_identity() {
    let asked = ask_with(
        vec![
            condition("sni", "connection.sni", &["backend.example"]),
            source("principal", "principals", "source.principal", &["*"]),
        ],
        json!({}),
        Blueprint::optional_client_certificate,
    );
    let tls = testbed::Tls::new(authority().pem()).server_name("backend.example");
    let client = Client::tls(asked.address(), tls);
    assert_eq!(answers(&asked, ["sni", "principal"], &client), [Match, NoMatch]);
}
