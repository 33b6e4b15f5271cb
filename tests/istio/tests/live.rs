//! Random sets of policies, which Istio itself enforces on one sidecar, and the plugin alone on another: both answer
//! every request alike. The requests come from peers with and without certificates, from several addresses, with and
//! without tokens.
//!
//! `make istio TESTS=live COUNT=300 SEED=7` asks about more sets of policies, or others.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;
use mesh_authz_istio::{Pod, Recorder, Role};
use serde_json::{Value, json};
use testbed::{Client, Issuer, Tls};

use crate::{
    place::{PATIENCE, Place},
    plugin::service,
    policies::PolicySet,
    questions::{Open, Question},
    rendered::render,
    rendering::number,
    vocabulary::{IDENTITIES, ISSUERS, SNIS, pick},
};

const LINKS_OF_A_SET: usize = 4;
const QUESTIONS_OF_A_LINK: usize = 17;

/// The namespace in the words of policies and identities.
const WORD: &str = "foo";

/// A workload behind a sidecar.
struct Workload {
    name: &'static str,
    pod: Pod,
    _application: Recorder,
}

impl Workload {
    fn new(place: &Place, name: &'static str) -> Self {
        let pod = place.pod(name, Role::Sidecar);
        let application = pod.serve(8080).unwrap();
        place.apply(&service(name, &[("http", 8080)]).to_string());
        Self { name, pod, _application: application }
    }

    /// What Envoy decides new requests by.
    fn configuration(&self) -> String {
        let configs = |path: &str| {
            let dump: Value = serde_json::from_str(&self.pod.admin(path).unwrap_or_default()).unwrap_or_default();
            dump["configs"].as_array().cloned().unwrap_or_default()
        };
        let listeners = configs("/config_dump?resource=dynamic_listeners");
        let mut text: String = listeners.iter().map(|listener| listener["active_state"].to_string()).collect();
        text.extend(configs("/config_dump?resource=ecds_filters").iter().map(Value::to_string));
        text
    }
}

/// Who asks, and how.
#[derive(Clone, Debug)]
struct Link {
    /// Without an identity, the connection is in plain text.
    identity: Option<String>,
    sni: &'static str,
    http2: bool,
    /// The position of the client.
    client: usize,
}

/// The node, and pods without a proxy: each has an address of its own.
struct Clients(Vec<Pod>);

impl Clients {
    fn connect(&self, place: &Place, workload: &Workload, link: &Link) -> Open {
        let address = (workload.pod.ip(), 8080).into();
        let client = match &link.identity {
            None => Client::plain(address),
            Some(identity) => {
                let authority = place.mesh.authority();
                let mut tls = Tls::mutual(authority.pem(), &authority.spiffe(identity).unwrap());
                tls.server_name = Some(link.sni.to_owned());
                // What a sidecar offers.
                tls.alpn = Some(vec![if link.http2 { "istio-h2" } else { "istio-http/1.1" }.to_owned()]);
                Client::tls(address, tls)
            }
        };
        let open = || Open::connect(&client, link.http2).unwrap();
        match link.client.checked_sub(1).map(|index| &self.0[index]) {
            None => open(),
            Some(pod) => pod.as_application(open).unwrap(),
        }
    }
}

/// The status. 0: the connection ended without an answer.
fn ask(open: &mut Open, question: &Question, token: Option<&str>) -> u16 {
    let token = token.map(|token| ("authorization".to_owned(), format!("Bearer {token}")));
    open.send(question, token.into_iter().collect()).map_or(0, |response| response.status)
}

/// Policies for this workload. Words that mean something in a test network come in the place of those of a bootstrap.
fn policies(set: &PolicySet, place: &Place, app: &str, clients: &[Ipv4Addr]) -> Vec<Value> {
    let mut text = json!(set.policies).to_string().replace(WORD, &place.namespace);
    for (word, meant) in [
        ("\"127.0.0.1\"", clients[0].to_string()),
        ("\"127.0.0.3/30\"", clients[1].to_string()),
        ("\"127.0.0.0/24\"", format!("{}/32", clients[2])),
        ("\"127.0.0.0/8\"", "10.244.0.0/16".to_owned()),
    ] {
        text = text.replace(word, &json!(meant).to_string());
    }
    let mut policies: Vec<Value> = serde_json::from_str(&text).unwrap();
    // Every policy is for the workload, and of its namespace: others are in other tests.
    for policy in &mut policies {
        policy["spec"]["selector"] = json!({ "matchLabels": { "app": app } });
        policy["metadata"]["namespace"] = json!(place.namespace);
    }
    policies
}

/// The tests see by its name which policies are in force. It decides nothing that they ask.
fn marker(generation: u64) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": { "name": marker_name(generation) },
        "spec": { "action": "DENY", "rules": [{ "to": [{ "operation": { "paths": ["/marker"] } }] }] },
    })
}

fn marker_name(generation: u64) -> String {
    format!("marker-{generation:04}")
}

/// Applies a set, to the one workload natively, to the other by the plugin, and waits until both decide by it.
fn apply(place: &Place, set: &PolicySet, generation: u64, workloads: [&Workload; 2], clients: &[Ipv4Addr]) {
    let of = |workload: &Workload| {
        let set = PolicySet { policies: [&set.policies[..], &[marker(generation)]].concat(), ..set.clone() };
        policies(&set, place, workload.name, clients)
    };
    let [native, plugin] = workloads;
    let mut policies = of(native);
    for policy in &mut policies {
        let name = policy["metadata"]["name"].as_str().unwrap();
        policy["metadata"]["name"] =
            json!(if name.starts_with("marker") { name.to_owned() } else { format!("{name}-{generation}") });
        policy["metadata"]["labels"] = json!({ "generation": generation.to_string() });
    }
    let rendered = render(place, &of(plugin), &["--policies-applied", "--allow-none-applies"]);
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": policies });
    place.apply(&format!("{list}\n---\n{rendered}"));
    if let Some(before) = generation.checked_sub(1) {
        place.kubectl(&["delete", "authorizationpolicies", "--wait=false", "-l", &format!("generation={before}")], "");
    }
    let begin = Instant::now();
    let is_there = |workload: &Workload| {
        let configuration = workload.configuration();
        let before = generation.checked_sub(1).map(marker_name);
        configuration.contains(&marker_name(generation)) && before.is_none_or(|before| !configuration.contains(&before))
    };
    while !workloads.iter().all(|workload| is_there(workload)) {
        assert!(begin.elapsed() < PATIENCE, "set {generation} is not in force");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn istio_and_the_plugin_answer_random_requests_alike() {
    let (count, seed) = (number("COUNT", 12).min(3000), number("SEED", 20_261_127));
    let mut rng = Rng::with_seed(seed);
    let place = Place::new();
    let (native, plugin) = (Workload::new(&place, "native"), Workload::new(&place, "plugin"));
    let clients = Clients(["first", "second"].map(|name| place.pod(name, Role::None)).into());
    let node = Ipv4Addr::new(10, 244, 0, 1);
    let addresses = [node, clients.0[0].ip(), clients.0[1].ip()];
    let issuer = Issuer::new().unwrap();
    let rules: Vec<_> = ISSUERS.iter().map(|name| json!({ "issuer": name, "jwks": issuer.jwks() })).collect();
    for app in [native.name, plugin.name] {
        let authentication = json!({
            "apiVersion": "security.istio.io/v1",
            "kind": "RequestAuthentication",
            "metadata": { "name": app },
            "spec": { "selector": { "matchLabels": { "app": app } }, "jwtRules": rules },
        });
        place.apply(&authentication.to_string());
    }
    let own: Vec<_> = IDENTITIES.iter().filter(|identity| identity.starts_with("cluster.local/")).collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for generation in 0..count {
        let set = PolicySet::generate(&mut rng);
        apply(&place, &set, generation, [&native, &plugin], &addresses);
        for _ in 0..LINKS_OF_A_SET {
            let identity = pick(&mut rng, &own).replace(WORD, &place.namespace);
            let link = Link {
                identity: (rng.u8(..8) > 0).then_some(identity),
                sni: pick(&mut rng, &SNIS),
                http2: rng.u8(..4) == 0,
                client: rng.usize(..addresses.len()),
            };
            let connect = |workload| clients.connect(&place, workload, &link);
            let [mut to_native, mut to_plugin] = [connect(&native), connect(&plugin)];
            for _ in 0..QUESTIONS_OF_A_LINK {
                let mut question = Question::generate(&mut rng, link.http2);
                // Most tokens are from an issuer that Istio knows.
                if let Some(claims) = &mut question.claims
                    && rng.u8(..8) > 0
                {
                    claims["iss"] = json!(pick(&mut rng, &ISSUERS));
                }
                let token = question.claims.as_ref().map(|claims| issuer.token(claims).unwrap());
                let mut answers = [&mut to_native, &mut to_plugin].map(|open| ask(open, &question, token.as_deref()));
                let is_stricter = |answers: [u16; 2]| answers[1] == 403 && question.is_odd();
                if answers[0] != answers[1] && !is_stricter(answers) {
                    // A worker of Envoy can have the policies later than its administration says.
                    *counts.entry("asked again").or_default() += 1;
                    thread::sleep(Duration::from_secs(2));
                    answers =
                        [&native, &plugin].map(|workload| ask(&mut connect(workload), &question, token.as_deref()));
                }
                *counts.entry(match answers {
                    [200, 200] => "allowed by both",
                    [403, 403] => "denied by both",
                    [401, 401] => "with a token that is refused",
                    [one, other] if one == other => "refused by Envoy",
                    answers if is_stricter(answers) => "denied by the plugin only, as meant",
                    answers => panic!(
                        "SEED={seed}, set {generation}: Istio answers {}, and the plugin {}\n{:#}\n{link:#?}\n{question:#?}",
                        answers[0],
                        answers[1],
                        json!(policies(&set, &place, "native", &addresses)),
                    ),
                })
                .or_default() += 1;
                if answers.contains(&0) || answers.contains(&400) {
                    [to_native, to_plugin] = [connect(&native), connect(&plugin)];
                }
            }
        }
    }
    let asked: usize = counts.values().sum();
    println!("{asked} requests over {count} sets of policies, seed {seed}: {counts:#?}");
    let part = |what: &str| counts.get(what).copied().unwrap_or_default() * 20 > asked;
    assert!(part("allowed by both") && part("denied by both"), "{counts:?}");
}
