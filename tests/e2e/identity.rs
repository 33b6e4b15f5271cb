//! The identity of the peer: `principals`, `namespaces`, `serviceAccounts`, `trustDomains` and their conditions.

use serde_json::json;
use testbed::{Client, Request, San};

use crate::question::{Answer, Answer::*, Asked, ask, ask_alone, ask_with, source};
use crate::sidecar::{Blueprint, FRONTEND, STRANGER, authority};

/// The answer to a question for a plain `GET /` from this client.
fn answer(asked: &Asked, name: &str, client: &Client) -> Answer {
    asked.answer(name, client, &Request::get("/"))
}

fn principals(name: &str, value: &str) -> crate::question::Question {
    source(name, "principals", "source.principal", &[value])
}

#[test]
fn a_principal_is_the_uri_of_the_peers_certificate() {
    let asked = ask(vec![
        principals("exact", FRONTEND),
        principals("prefix", "cluster.local/ns/default/*"),
        principals("suffix", "*/sa/frontend"),
        principals("any", "*"),
        principals("literal-star", "cluster.local/*/sa/frontend"),
        principals("with-scheme", "spiffe://cluster.local/ns/default/sa/frontend"),
    ]);
    let (frontend, stranger) = (asked.client(FRONTEND), asked.client(STRANGER));
    for name in ["exact", "prefix", "suffix"] {
        assert_eq!(answer(&asked, name, &frontend), Match, "{name}");
        assert_eq!(answer(&asked, name, &stranger), NoMatch, "{name}");
    }
    assert_eq!(answer(&asked, "any", &stranger), Match);
    assert_eq!(answer(&asked, "literal-star", &frontend), NoMatch);
    assert_eq!(answer(&asked, "with-scheme", &frontend), NoMatch);
}

#[test]
fn a_principal_of_another_case_or_length_is_another_principal() {
    let asked = ask(vec![principals("exact", FRONTEND), principals("suffix", "*/ns/ns1/sa/foo")]);
    for other in [
        "cluster.local/ns/default/sa/Frontend",
        "cluster.local/ns/default/sa/frontend2",
        "cluster.local/ns/default/sa/fronten",
    ] {
        assert_eq!(answer(&asked, "exact", &asked.client(other)), NoMatch, "{other}");
    }
    // CVE-2020-16844: the identity contains the beginning of the suffix twice.
    assert_eq!(answer(&asked, "suffix", &asked.client("td/ns/ns1/sa/foo")), Match);
    assert_eq!(answer(&asked, "suffix", &asked.client("td/ns/ns/ns1/sa/foo")), Match);
    assert_eq!(answer(&asked, "suffix", &asked.client("td/ns/ns2/sa/foo")), NoMatch);
}

#[test]
fn namespaces_are_a_segment_of_the_identity() {
    let namespaces = |name, value| source(name, "namespaces", "source.namespace", &[value]);
    let asked = ask(vec![
        namespaces("exact", "default"),
        namespaces("wildcard", "team-*"),
        namespaces("middle", "te*-b"),
        namespaces("dot", "a.b"),
    ]);
    let of = |namespace: &str| asked.client(&format!("cluster.local/ns/{namespace}/sa/x"));
    assert_eq!(answer(&asked, "exact", &of("default")), Match);
    assert_eq!(answer(&asked, "exact", &of("default2")), NoMatch);
    for name in ["wildcard", "middle"] {
        assert_eq!(answer(&asked, name, &of("team-b")), Match, "{name}");
        assert_eq!(answer(&asked, name, &of("tee-c")), NoMatch, "{name}");
    }
    // istio#59992: a dot matches only a dot.
    assert_eq!(answer(&asked, "dot", &of("a.b")), Match);
    assert_eq!(answer(&asked, "dot", &of("axb")), NoMatch);
}

#[test]
fn service_accounts_name_a_namespace_or_mean_the_policys() {
    let accounts = |name, value| source(name, "serviceAccounts", "source.serviceAccount", &[value]);
    let asked = ask(vec![
        accounts("qualified", "other/reader"),
        accounts("own", "reader"),
        accounts("dot", "default/cert-manager.io"),
    ]);
    let own = asked.client("cluster.local/ns/default/sa/reader");
    let other = asked.client("cluster.local/ns/other/sa/reader");
    assert_eq!([answer(&asked, "qualified", &own), answer(&asked, "qualified", &other)], [NoMatch, Match]);
    assert_eq!([answer(&asked, "own", &own), answer(&asked, "own", &other)], [Match, NoMatch]);
    let longer = asked.client("cluster.local/ns/default/sa/reader2");
    assert_eq!(answer(&asked, "own", &longer), NoMatch);
    // CVE-2026-39350: a dot matches only a dot.
    assert_eq!(answer(&asked, "dot", &asked.client("cluster.local/ns/default/sa/cert-manager.io")), Match);
    assert_eq!(answer(&asked, "dot", &asked.client("cluster.local/ns/default/sa/cert-manager-io")), NoMatch);
}

#[test]
fn trust_domains_are_the_first_segment() {
    let domains = |name, value| source(name, "trustDomains", "source.trustDomain", &[value]);
    let asked = ask(vec![
        domains("any", "*"),
        domains("exact", "prod.example"),
        domains("prefix", "prod*"),
        domains("suffix", "*.example"),
    ]);
    let of = |domain: &str| asked.client(&format!("{domain}/ns/default/sa/x"));
    for name in ["any", "exact", "prefix", "suffix"] {
        assert_eq!(answer(&asked, name, &of("prod.example")), Match, "{name}");
    }
    for (name, expected) in [("any", Match), ("exact", NoMatch), ("prefix", NoMatch), ("suffix", NoMatch)] {
        assert_eq!(answer(&asked, name, &of("test.example.evil")), expected, "{name}");
    }
    // A wildcard matches only within the first segment.
    assert_eq!(answer(&asked, "suffix", &asked.client("evil/ns/prod.example/sa/x")), NoMatch);
    let without_uri = asked.client_named(&[San::Dns("prod.example".into())], None);
    assert_eq!(answer(&asked, "any", &without_uri), NoMatch);
}

#[test]
fn whoever_does_not_encrypt_is_nobody() {
    let asked = ask_with(
        vec![
            principals("any", "*"),
            principals("exact", FRONTEND),
            source("namespace", "namespaces", "source.namespace", &["*"]),
            source("account", "serviceAccounts", "source.serviceAccount", &["frontend"]),
            source("domain", "trustDomains", "source.trustDomain", &["*"]),
        ],
        json!({}),
        Blueprint::plaintext,
    );
    for name in ["any", "exact", "namespace", "account", "domain"] {
        assert_eq!(answer(&asked, name, &asked.plain_client()), NoMatch, "{name}");
    }
}

#[test]
fn whoever_presents_no_certificate_is_nobody() {
    let asked = ask_with(vec![principals("any", "*"), principals("exact", FRONTEND)], json!({}), |blueprint| {
        blueprint.optional_client_certificate()
    });
    let anonymous = asked.anonymous_client();
    assert_eq!([answer(&asked, "any", &anonymous), answer(&asked, "exact", &anonymous)], [NoMatch, NoMatch]);
    let frontend = asked.client(FRONTEND);
    assert_eq!([answer(&asked, "any", &frontend), answer(&asked, "exact", &frontend)], [Match, Match]);
}

#[test]
fn a_certificate_without_a_spiffe_id_is_somebody_by_its_dns_name_or_subject() {
    let asked = ask(vec![principals("any", "*"), principals("spiffe", "*frontend"), principals("prefix", "front*")]);
    let by_dns = asked.client_named(&[San::Dns("frontend".into())], None);
    let by_subject = asked.client_named(&[], Some("frontend"));
    for client in [&by_dns, &by_subject] {
        assert_eq!(answer(&asked, "any", client), Match);
        assert_eq!(answer(&asked, "spiffe", client), NoMatch);
        assert_eq!(answer(&asked, "prefix", client), NoMatch);
    }
}

#[test]
fn each_name_of_a_certificate_counts_in_its_turn() {
    let asked = ask(vec![principals("exact", FRONTEND)]);
    let dns = San::Dns(format!("spiffe://{FRONTEND}"));
    let uri = San::Uri(format!("spiffe://{STRANGER}"));
    assert_eq!(answer(&asked, "exact", &asked.client_named(&[uri, dns], None)), Match);
}

#[test]
fn further_uris_of_a_certificate_are_unreadable() {
    let asked = ask(vec![principals("frontend", FRONTEND), principals("stranger", STRANGER), principals("none", "x")]);
    let named = |ids: &[&str]| {
        let names: Vec<_> = ids.iter().map(|id| San::Uri(format!("spiffe://{id}"))).collect();
        asked.client_named(&names, None)
    };
    let answers = |client: &Client| ["frontend", "stranger", "none"].map(|name| answer(&asked, name, client));
    assert_eq!(answers(&named(&[FRONTEND])), [Match, NoMatch, NoMatch]);
    // Envoy's own filter would also compare the second URI. This filter knows that it exists, but not its value.
    assert_eq!(answers(&named(&[FRONTEND, STRANGER])), [Match, Unreadable, Unreadable]);
    assert_eq!(answers(&named(&[STRANGER, FRONTEND])), [Unreadable, Match, Unreadable]);
    // A comma inside the only URI does not make a second URI.
    assert_eq!(answers(&named(&[&format!("{FRONTEND},spiffe://{STRANGER}")])), [NoMatch; 3]);
}

#[test]
fn an_identity_with_a_nul_is_unreadable() {
    let questions = vec![
        principals("exact", FRONTEND),
        principals("prefix", "cluster.local/*"),
        principals("any", "*"),
        source("namespace", "namespaces", "source.namespace", &["default"]),
    ];
    let asked = ask_alone(questions, json!({}), |blueprint| blueprint);
    for uri in [
        &b"spiffe://cluster.local/ns/default/sa/frontend\0"[..],
        b"spiffe://cluster.local/ns/default/sa/frontend\0.evil",
        b"spiffe://cluster.local\0/ns/default/sa/frontend",
    ] {
        let client = asked.client_named(&[San::UriBytes(uri.to_vec())], None);
        for name in ["exact", "prefix", "any", "namespace"] {
            assert_eq!(answer(&asked, name, &client), Unreadable, "{name} {}", uri.escape_ascii());
        }
    }
    assert!(asked.decisions().iter().any(|line| line["unreadable"] == "source.principal"));
}

#[test]
fn a_principal_of_the_mesh_stands_for_itself_in_every_alias() {
    let asked = ask_with(
        vec![
            principals("mesh", "td1/ns/default/sa/frontend"),
            principals("alias", "td2/ns/default/sa/frontend"),
            principals("local", FRONTEND),
            principals("foreign", "td4/ns/default/sa/frontend"),
            principals("short", "cluster.local/ns/default/*"),
        ],
        json!({ "trustDomain": "td1", "trustDomainAliases": ["td2", "td3"] }),
        |blueprint| blueprint,
    );
    let of = |domain: &str| asked.client(&format!("{domain}/ns/default/sa/frontend"));
    for name in ["mesh", "alias", "local"] {
        for domain in ["td1", "td2", "td3"] {
            assert_eq!(answer(&asked, name, &of(domain)), Match, "{name} {domain}");
        }
        assert_eq!(answer(&asked, name, &of("td4")), NoMatch, "{name}");
    }
    assert_eq!([answer(&asked, "foreign", &of("td4")), answer(&asked, "foreign", &of("td1"))], [Match, NoMatch]);
    // This principal does not have five segments, so it is not expanded to the aliases.
    assert_eq!(answer(&asked, "short", &of("td1")), NoMatch);
}

#[test]
fn trust_domains_expand_if_they_are_listed() {
    let domains = |name, value| source(name, "trustDomains", "source.trustDomain", &[value]);
    let asked = ask_with(
        vec![domains("listed", "td2"), domains("local", "cluster.local")],
        json!({ "trustDomain": "td1", "trustDomainAliases": ["td2"] }),
        |blueprint| blueprint,
    );
    let of = |domain: &str| asked.client(&format!("{domain}/ns/default/sa/frontend"));
    assert_eq!([answer(&asked, "listed", &of("td1")), answer(&asked, "listed", &of("td2"))], [Match, Match]);
    assert_eq!(answer(&asked, "listed", &of("td3")), NoMatch);
    assert_eq!(answer(&asked, "local", &of("td1")), NoMatch);
}

#[test]
fn a_certificate_of_another_authority_does_not_get_in() {
    let asked = ask(vec![principals("exact", FRONTEND)]);
    let forger = testbed::Authority::new().unwrap();
    let mut client = asked.client_with(&forger.spiffe(FRONTEND).unwrap());
    assert!(client.send(&Request::get("/")).is_err());
    client.tls = Some(testbed::Tls::mutual(authority().pem(), &authority().spiffe(FRONTEND).unwrap()));
    assert_eq!(answer(&asked, "exact", &client), Match);
}

/// A filter that stores what a header says, as the identity of the peer of a tunnel.
fn peer_of_tunnel() -> serde_json::Value {
    stored("io.istio.peer_principal", "%REQ(X-PEER)%")
}

/// A filter that stores a text as filter state, unless it is empty.
fn stored(key: &str, format: &str) -> serde_json::Value {
    json!({
        "name": format!("envoy.filters.http.set_filter_state.{key}"),
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config",
            "on_request_headers": [{
                "object_key": key,
                "factory_key": "envoy.string",
                "skip_if_empty": true,
                "format_string": { "text_format_source": { "inline_string": format }, "omit_empty_values": true },
            }],
        },
    })
}

#[test]
fn without_a_certificate_the_identity_is_that_of_the_peer_of_a_tunnel() {
    let asked = ask_with(vec![principals("exact", FRONTEND), principals("any", "*")], json!({}), |blueprint| {
        blueprint.plaintext().filter(peer_of_tunnel())
    });
    let client = asked.plain_client();
    let from = |peer: &str| Request::get("/").header("x-peer", format!("spiffe://{peer}"));
    assert_eq!(asked.answer("exact", &client, &from(FRONTEND)), Match);
    assert_eq!(asked.answer("exact", &client, &from(STRANGER)), NoMatch);
    assert_eq!(asked.answer("any", &client, &Request::get("/")), NoMatch);
}

/// Envoy writes a dash for what is not there, unless it is told to leave that out.
#[test]
fn a_dash_in_place_of_the_uris_of_a_certificate_is_none() {
    let asked = ask_with(vec![principals("exact", FRONTEND), principals("any", "*")], json!({}), |blueprint| {
        blueprint.plaintext().untold().filter(stored("mesh_authz.peer", "127.0.0.1\n1\n-")).filter(peer_of_tunnel())
    });
    let client = asked.plain_client();
    let from = |peer: &str| Request::get("/").header("x-peer", format!("spiffe://{peer}"));
    assert_eq!(asked.answer("exact", &client, &from(FRONTEND)), Match);
    assert_eq!(asked.answer("exact", &client, &from(STRANGER)), NoMatch);
    assert_eq!(asked.answer("any", &client, &Request::get("/")), NoMatch);
}

#[test]
fn a_certificate_counts_more_than_the_peer_of_a_tunnel() {
    let asked =
        ask_with(vec![principals("exact", FRONTEND)], json!({}), |blueprint| blueprint.filter(peer_of_tunnel()));
    let from = |peer: &str| Request::get("/").header("x-peer", format!("spiffe://{peer}"));
    assert_eq!(asked.answer("exact", &asked.client(STRANGER), &from(FRONTEND)), NoMatch);
    assert_eq!(asked.answer("exact", &asked.client(FRONTEND), &from(STRANGER)), Match);
}

#[test]
fn the_identity_can_come_from_filter_state() {
    let asked = ask_with(
        vec![principals("exact", FRONTEND), principals("any", "*")],
        json!({ "principalFrom": "filter-state" }),
        |blueprint| blueprint.plaintext().filter(peer_of_tunnel()),
    );
    let client = asked.plain_client();
    let from = |peer: &str| Request::get("/").header("x-peer", peer);
    assert_eq!(asked.answer("exact", &client, &from(&format!("spiffe://{FRONTEND}"))), Match);
    assert_eq!(asked.answer("exact", &client, &from(&format!("spiffe://{STRANGER}"))), NoMatch);
    assert_eq!(asked.answer("any", &client, &from(&format!("spiffe://{STRANGER}"))), Match);
    assert_eq!(asked.answer("any", &client, &Request::get("/")), NoMatch);
}
