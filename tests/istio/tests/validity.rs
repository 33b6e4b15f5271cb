//! A policy is valid if Istio's webhook takes it. The policies here have what a reader could judge otherwise: a value, a
//! key, a selector or a target at the edge of what is allowed. No other code chooses among them, so that a mistake of the
//! code under test hides nothing.
//!
//! `make istio TESTS=validity COUNT=100000 SEED=7` asks about more policies, or others.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::{Value, json};

use crate::{
    language::{Question, any_rule},
    rendering::{Istio, STRICTER, number, read_policy},
    vocabulary::pick,
};

/// Why a policy is refused that Istio's webhook takes.
fn stricter() -> Vec<(&'static str, Option<&'static str>)> {
    // A list that is there, but empty, counts. The webhook does not look at the resource's schema, which says this.
    let of_schema = ["only one of selector, targetRef and targetRefs", "cannot stand beside principals or namespaces"];
    let keys = ("is not a valid key", "| a rule that never matches, or a condition that always holds |");
    let documented = STRICTER.into_iter().chain([keys]).map(|(reason, row)| (reason, Some(row)));
    documented.chain(of_schema.map(|reason| (reason, None))).collect()
}

const VALUES: [&str; 66] = [
    "",
    " ",
    "*",
    "**",
    "*a*",
    "a*b",
    "*a",
    "a*",
    "a",
    "A",
    "/",
    "a/",
    "/a",
    "a/b",
    "*/b",
    "a/*",
    "a*/b",
    "a/b/c",
    "[a]",
    "[]",
    "0",
    "00",
    "080",
    "80",
    "65535",
    "65536",
    "4294967376",
    "-1",
    "+80",
    "80 ",
    "0x50",
    "8.0",
    "10.0.0.1",
    "10.0.0.1/32",
    "10.0.0.1/33",
    "10.0.0.0/08",
    "10.0.0.0/+8",
    "10.0.0.0/",
    "/8",
    "10.0.0.0/8/8",
    "010.0.0.1",
    "10.0.0",
    "10.0.0.256",
    "::1",
    "::1/128",
    "::1/129",
    "::/0",
    ":::1",
    "[::1]",
    "::ffff:10.0.0.1",
    "::ffff:10.0.0.1/96",
    "::ffff:10.0.0.256",
    "fe80::1%eth0",
    "fe80::1%",
    "fe80::1%eth0/64",
    "10.0.0.1%eth0",
    "2001:DB8::1",
    "1:2:3:4:5:6:7:8:9",
    "/{*}",
    "/{**}",
    "/{**}/{*}",
    "/{*}/{**}/a",
    "/a{*}",
    "{*}",
    "/{a}",
    "/{*}/a b",
];

const SOURCE: [&str; 14] = [
    "principals",
    "notPrincipals",
    "requestPrincipals",
    "notRequestPrincipals",
    "serviceAccounts",
    "notServiceAccounts",
    "trustDomains",
    "notTrustDomains",
    "namespaces",
    "notNamespaces",
    "remoteIpBlocks",
    "notRemoteIpBlocks",
    "ipBlocks",
    "notIpBlocks",
];
const OPERATION: [&str; 8] = ["hosts", "notHosts", "ports", "notPorts", "methods", "notMethods", "paths", "notPaths"];
const KEYS: [&str; 22] = [
    "request.headers",
    "request.headers[a]",
    "request.auth.claims",
    "request.auth.claims[a]",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "request.auth",
    "source.ip",
    "remote.ip",
    "source.namespace",
    "source.serviceAccount",
    "source.principal",
    "source.trustDomain",
    "destination.ip",
    "destination.port",
    "connection.sni",
    "experimental.envoy.filters.a",
    "experimental.envoy.filters.",
    "destination.labels",
    "destination.namespace",
    "destination.user",
];
const BRACKETS: [&str; 18] =
    ["", "", "", "", "", "", "", "[a]", "[]", "[a", "a]", "[a][b]", "[a][]", "[][a]", "[[a]]", "[a]b", "[ ]", "[a]]"];
const LABELS: [&str; 6] = ["app", "a.b/c", "", "*", "a*", "A_1"];

fn policy(rng: &mut Rng) -> Value {
    let action = pick(rng, &["ALLOW", "DENY", "AUDIT", "CUSTOM"]);
    let mut spec = json!({ "action": action });
    match rng.u8(..12) {
        0 => {}
        1 => spec["rules"] = json!([]),
        _ => spec["rules"] = json!([rule(rng)]),
    }
    if (action == "CUSTOM") != (rng.u8(..12) == 0) {
        spec["provider"] =
            pick_json(rng, &[json!({ "name": "a" }), json!({ "name": "a" }), json!({ "name": "" }), json!({})]);
    }
    if rng.u8(..4) == 0 {
        let labels: serde_json::Map<_, _> =
            (0..rng.usize(..3)).map(|_| (pick(rng, &LABELS).to_owned(), json!(pick(rng, &LABELS)))).collect();
        spec["selector"] = json!({ "matchLabels": labels });
    }
    if rng.u8(..6) == 0 {
        spec["targetRef"] = reference(rng);
    }
    if rng.u8(..6) == 0 {
        spec["targetRefs"] = (0..rng.usize(..3)).map(|_| reference(rng)).collect();
    }
    let mut metadata = json!({ "name": "policy", "namespace": "foo" });
    if rng.u8(..6) == 0 {
        let value = pick(
            rng,
            &["true", "t", "T", "True", "TRUE", "tRUE", "1", "yes", "on", "false", "F", "0", "2", "", " true"],
        );
        metadata["annotations"] = json!({ "istio.io/dry-run": value });
    }
    json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": metadata,
        "spec": spec,
    })
}

fn pick_json(rng: &mut Rng, values: &[Value]) -> Value {
    values[rng.usize(..values.len())].clone()
}

fn reference(rng: &mut Rng) -> Value {
    let (group, kind) = pick(
        rng,
        &[
            ("", "Service"),
            ("core", "Service"),
            ("gateway.networking.k8s.io", "Gateway"),
            ("gateway.networking.k8s.io", "GatewayClass"),
            ("networking.istio.io", "ServiceEntry"),
        ],
    );
    let mut reference = json!({ "group": group, "kind": kind, "name": "a" });
    match rng.u8(..8) {
        0 => {
            reference["group"] =
                json!(pick(rng, &["", "core", "networking.istio.io", "gateway.networking.k8s.io", "apps"]))
        }
        1 => reference["kind"] = json!(pick(rng, &["Service", "Gateway", "ServiceEntry", "service", "Deployment"])),
        2 => reference["namespace"] = json!(pick(rng, &["", "foo", "bar"])),
        3 => reference["name"] = json!(""),
        _ => {}
    }
    reference
}

/// Some of the rules are those of the other tests, and most have doubtful values.
fn rule(rng: &mut Rng) -> Value {
    match rng.u8(..8) {
        0 | 1 => any_rule(rng),
        2 | 3 => json!({ "from": [{ "source": fields(rng, &SOURCE) }] }),
        4 => json!({ "to": [{ "operation": fields(rng, &OPERATION) }] }),
        _ => {
            let mut condition = fields(rng, &["values", "notValues"]);
            condition["key"] = json!(format!("{}{}", pick(rng, &KEYS), pick(rng, &BRACKETS)));
            json!({ "when": [condition] })
        }
    }
}

fn fields(rng: &mut Rng, names: &[&str]) -> Value {
    let mut fields = json!({});
    for _ in 0..1 + rng.usize(..2) {
        fields[pick(rng, names)] = match rng.u8(..9) {
            8 => json!([format!("/{{*}}/{}", "a".repeat(pick(rng, &[252, 253, 254, 255])))]),
            0 => vec!["a"; pick(rng, &[0, 16, 17])].into(),
            1 => json!([pick(rng, &["a", "é"]).repeat(pick(rng, &[160, 161, 320, 321]))]),
            _ => (0..1 + rng.usize(..2)).map(|_| pick(rng, &VALUES)).collect(),
        };
    }
    fields
}

#[test]
fn a_policy_is_valid_if_istio_takes_it() {
    let (count, seed) = (number("COUNT", 10_000), number("SEED", 20_261_127));
    let mut rng = Rng::with_seed(seed);
    let mut istio = Istio::start();
    let differences = include_str!("../../../docs/differences-from-istio.md");
    let stricter = stricter();
    let mut counts = BTreeMap::<String, usize>::new();
    let mut add = |what: &str| *counts.entry(what.to_owned()).or_default() += 1;
    let questions: Vec<_> = (0..count).map(|_| Question::about(policy(&mut rng))).collect();
    for (question, answer) in questions.iter().zip(istio.answer(&questions)) {
        let policy = &question.policies[0];
        match (read_policy(policy), answer["invalid"] == json!({})) {
            (Ok(_), true) => add("valid"),
            (Err(_), false) => add("invalid"),
            (Ok(_), false) => panic!("SEED={seed}: only Istio refuses {policy:#}: {}", answer["invalid"]),
            (Err(errors), true) => {
                let given = |(reason, _): &&(&str, _)| errors.iter().any(|error| error.contains(reason));
                let Some((reason, row)) = stricter.iter().find(given) else {
                    panic!("SEED={seed}: only Istio takes {policy:#}: {errors:#?}")
                };
                assert!(row.is_none_or(|row| differences.contains(row)), "{row:?}");
                add(&format!("invalid here only: {reason}"));
            }
        }
    }
    println!("{count} policies, seed {seed}: {counts:#?}");
    for (reason, _) in stricter {
        assert!(counts.contains_key(&format!("invalid here only: {reason}")), "nothing is refused because {reason}");
    }
    let part = |what: &str| counts.get(what).is_some_and(|n| *n as u64 * 10 > count);
    assert!(part("valid") && part("invalid"), "the generator makes too few of one kind");
}
