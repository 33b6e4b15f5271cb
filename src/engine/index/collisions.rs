//! Group that rules are found even if their keys have the same hash. In unit tests there are only seven different
//! hashes.

use serde_json::{Value, json};

use super::Index;
use super::key::{Dimension, Key};
use super::key_forms::KeyForms;
use super::node::Word;
use super::table::{Posting, Table};
use crate::diagnostic::Diagnostics;
use crate::document::from_json;
use crate::engine::compile;
use crate::engine::evaluate::Evaluation;
use crate::engine::method::Methods;
use crate::engine::{Combining, Custom, Engine, Options};
use crate::identity::TrustDomains;
use crate::matcher::Polarity;
use crate::matcher::template::Template;
use crate::policy::{AuthorizationPolicy, Traffic, read};
use crate::request::{Lookup, Request};

fn policy(number: usize, action: &str, rule: &Value) -> AuthorizationPolicy {
    let policy = json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "name": format!("p{number}") }, "spec": { "action": action, "rules": [rule] },
    });
    read::policy(&from_json(policy.to_string().as_bytes()).unwrap(), &mut Diagnostics::new()).unwrap()
}

fn options() -> Options {
    Options {
        trust_domains: TrustDomains::new("td".to_owned(), []),
        combining: Combining::DenyOverrides,
        custom: Custom::default(),
        jwt_payload_key: "payload".to_owned(),
        traffic: Traffic::Http,
    }
}

fn engines(policies: &[AuthorizationPolicy]) -> [Engine; 2] {
    let options = options();
    [Engine::new(policies, &options), Engine::without_index(policies, &options)]
}

fn pick<'t>(random: &mut fastrand::Rng, of: &[&'t str]) -> &'t str {
    random.choice(of).unwrap()
}

#[test]
fn rules_are_found_though_their_keys_share_hashes() {
    const PATHS: [&str; 12] =
        ["/a", "/a*", "*a", "/a/b", "/a/b*", "*/b", "/{*}", "/{**}", "/a/{*}", "/{*}/b", "/a/{**}", "/a/{*}/c/{*}/e"];
    const BLOCKS: [&str; 6] = ["10.0.0.0/8", "10.0.0.0/9", "10.0.0.1", "::/0", "0.0.0.0/0", "::1"];
    const REQUESTS: [&str; 8] = ["/a", "/b", "/a/b", "/a/bb", "/b/b", "/ba", "/", "/a/x/c/x/e"];
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..300 {
        let action = if random.bool() { "ALLOW" } else { "DENY" };
        let rule = |random: &mut fastrand::Rng| match random.u8(0..7) {
            0 => json!({ "to": [{ "operation": { "ports": [random.u16(0..5).to_string()] } }] }),
            1 => json!({ "from": [{ "source": { "ipBlocks": [pick(random, &BLOCKS)] } }] }),
            2 => json!({ "from": [{ "source": { "notIpBlocks": [pick(random, &BLOCKS)] } }] }),
            3 | 4 => json!({ "to": [{ "operation": { "notPaths": [pick(random, &PATHS), pick(random, &PATHS)] } }] }),
            _ => json!({ "to": [{ "operation": { "paths": [pick(random, &PATHS)] } }] }),
        };
        let policies: Vec<_> = (0..random.usize(20..90)).map(|n| policy(n, action, &rule(&mut random))).collect();
        let [index, scan] = engines(&policies);
        for path in REQUESTS {
            let address = pick(&mut random, &["10.0.0.1", "10.200.0.1", "192.0.2.1", "::1"]);
            let request = Request::new("GET", path)
                .source_ip(Lookup::Value(address.parse().unwrap()))
                .destination_port(Lookup::Value(random.u16(0..8)));
            assert_eq!(index.decide(&request), scan.decide(&request), "{action} {path} {address}: {policies:#?}");
        }
    }
}

#[test]
fn every_template_has_a_route_of_its_own() {
    let mut forms = KeyForms::new(1);
    for _ in 0..2 {
        for text in
            ["/a/{*}", "/a/{**}", "/{*}/a", "/{*}/a/", "/{**}", "/{*}/{*}/{*}/{*}", "/{*}/{*}/{*}/{**}", "/a/{*}/{*}"]
        {
            let template = Template::new(text, Polarity::Denies);
            forms.add(&Dimension::Path, &Key::Template(&template));
        }
    }
    assert_eq!(forms.unrouted(), 0, "{forms:?}");
}

#[test]
fn a_table_takes_hashes_that_are_alike_as_long_as_a_lookup_stays_short() {
    let alike = |count: u32| {
        let posting = |number: u32| (u64::from(number) << 40, Posting::Rule(Word::new(number, Methods::ALL)));
        (0..count).map(posting).collect::<Vec<_>>()
    };
    let postings = alike(1_000);
    let table = Table::new(&postings).unwrap();
    for (hash, posting) in &postings {
        assert!(table.postings(*hash).any(|found| found == Ok(*posting)), "{posting:?}");
    }
    let visits = table.postings(u64::MAX << 34).filter(|found| *found == Err(())).count();
    assert!((10..20).contains(&visits), "{visits}");
    assert!(Table::new(&alike(2_000)).is_none());
    assert!(Table::new(&[]).unwrap().postings(0).next().is_none());
}

/// Under a hash, a lookup may find the node that it has come from. Nothing but the depth of nodes ends such a walk.
#[test]
fn a_walk_ends_though_a_node_is_found_under_hashes_of_its_own() {
    let policies: Vec<_> = (0..100)
        .map(|number| {
            let ports = [(number / 5 % 5 + 1).to_string()];
            let operation = json!({ "paths": [format!("/{}", number % 5)], "ports": ports });
            policy(number, "DENY", &json!({ "to": [{ "operation": operation }] }))
        })
        .collect();
    let options = options();
    let index = Index::new(policies.iter().flat_map(|policy| compile::policy(policy, &options)).collect());
    assert!(index.tree.as_ref().unwrap().nodes.len() > 1, "there are nodes below the root");
    for (path, port) in (0..5).flat_map(|path| (1..=5).map(move |port| (path, port))) {
        let request = Request::new("GET", &format!("/{path}")).destination_port(Lookup::Value(port));
        let evaluation = Evaluation::new(&request);
        let found = index.candidates(&evaluation);
        let matching = (0..index.rules().len()).filter(|at| evaluation.rule(&index.rules()[*at]).counts());
        assert!(
            matching.clone().count() == 4 && matching.clone().all(|at| found.contains(&at)),
            "{path} {port}: {found:?}"
        );
    }
}
