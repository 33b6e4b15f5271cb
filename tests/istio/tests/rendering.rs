//! `render envoy-rbac` prints what Istio's own code generates, over the whole language, for HTTP and TCP, on sidecars,
//! gateways and waypoints; and a policy is valid if Istio's webhook takes it.
//!
//! `make istio TESTS=rendering COUNT=20000 SEED=7` asks about more sets of policies, or others.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader, BufWriter, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use fastrand::Rng;
use mesh_authz::{
    config::PrincipalFrom,
    diagnostic::Diagnostics,
    document::from_json,
    identity::TrustDomains,
    policy::{
        AuthorizationPolicy, Traffic, read,
        scope::{Gateway, Scope, ServiceName, Workload, scope},
    },
};
use mesh_authz_cli::{
    load::{Resources, providers::Providers},
    render::rbac::{self, Place, custom::Several},
};
use serde_json::{Value, json};

use crate::{
    language::{Question, ROOT_NAMESPACE},
    parts,
    vocabulary::pick,
};

/// Why a policy is refused that Istio's webhook takes, and what docs/differences-from-istio.md says of it.
pub const STRICTER: [(&str, &str); 3] = [
    ("a path template starts with a slash", "| a template that Envoy refuses |"),
    ("a segment is empty", "| a template that Envoy refuses |"),
    ("this template is longer than 256 bytes", "| a template that Envoy refuses |"),
];

/// Every field and key that the language has.
const FIELDS: [&str; 40] = [
    "connection.sni",
    "destination.ip",
    "destination.port",
    "experimental",
    "from",
    "hosts",
    "ipBlocks",
    "methods",
    "namespaces",
    "notHosts",
    "notIpBlocks",
    "notMethods",
    "notNamespaces",
    "notPaths",
    "notPorts",
    "notPrincipals",
    "notRemoteIpBlocks",
    "notRequestPrincipals",
    "notServiceAccounts",
    "notTrustDomains",
    "notValues",
    "paths",
    "ports",
    "principals",
    "remote.ip",
    "remoteIpBlocks",
    "request.auth.audiences",
    "request.auth.claims",
    "request.auth.presenter",
    "request.auth.principal",
    "request.headers",
    "requestPrincipals",
    "serviceAccounts",
    "source.ip",
    "source.namespace",
    "source.principal",
    "source.serviceAccount",
    "source.trustDomain",
    "to",
    "trustDomains",
];

/// Istio's own code: `tests/istio/istio/authorization`.
pub struct Istio {
    child: Child,
    questions: BufWriter<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Istio {
    pub fn start() -> Self {
        let programs = env::var_os("MESH_PROGRAMS").expect("MESH_PROGRAMS is not set: run `make istio`");
        let program = std::path::Path::new(&programs).join("bin/authorization");
        let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let questions = BufWriter::new(child.stdin.take().unwrap());
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, questions, answers }
    }

    /// What Istio makes of each.
    pub fn answer(&mut self, questions: &[Question]) -> Vec<Value> {
        let answer = |answers: &mut BufReader<ChildStdout>| {
            let mut line = String::new();
            answers.read_line(&mut line).unwrap();
            assert!(!line.is_empty(), "Istio's code ended: what it said is above");
            serde_json::from_str(&line).unwrap()
        };
        let mut given = Vec::with_capacity(questions.len());
        // A few at a time, so that neither side waits for the other with full pipes.
        for some in questions.chunks(8) {
            for question in some {
                writeln!(self.questions, "{}", question.to_json()).unwrap();
            }
            self.questions.flush().unwrap();
            given.extend(some.iter().map(|_| answer(&mut self.answers)));
        }
        given
    }
}

impl Drop for Istio {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a policy. If it is invalid, returns what is wrong.
pub fn read_policy(policy: &Value) -> Result<AuthorizationPolicy, Vec<String>> {
    let node = from_json(policy.to_string().as_bytes()).unwrap();
    let mut diagnostics = Diagnostics::new();
    read::policy(&node, &mut diagnostics)
        .ok_or_else(|| diagnostics.into_found().iter().map(|found| found.message.clone()).collect())
}

/// The filters for HTTP and for TCP, in the shape of Istio's.
fn render(question: &Question) -> [Vec<Value>; 2] {
    let policies: Vec<_> = question.policies.iter().map(|policy| read_policy(policy).unwrap()).collect();
    let gateway = question.service.as_ref().map(|[kind, namespace, name]| {
        let service = ServiceName { namespace: namespace.clone(), name: name.clone(), host: None };
        let (_, waypoint) = question.labels.iter().find(|(key, _)| key.ends_with("/gateway-name")).unwrap();
        let gateway = Gateway { name: waypoint.clone(), waypoint: true, ..Gateway::default() };
        match kind.as_str() {
            "Service" => Gateway { services: vec![service], ..gateway },
            _ => Gateway { service_entries: vec![service], ..gateway },
        }
    });
    let principal_from = PrincipalFrom::of(gateway.as_ref());
    let mut diagnostics = Diagnostics::new();
    let workload = Workload::new(
        question.namespace.clone(),
        Some(question.labels.clone().into()),
        gateway,
        ROOT_NAMESPACE.to_owned(),
        &mut diagnostics,
    );
    assert_eq!(diagnostics.count(), 0);
    let applying: Vec<_> = policies.iter().filter(|policy| scope(policy, &workload) == Scope::Applies).collect();
    let trust_domains = TrustDomains::new(question.trust_domain.clone(), question.aliases.clone());
    let providers = providers(question).valid;
    let several = if question.several_providers { Several::OneTrace } else { Several::Deny };
    [Traffic::Http, Traffic::Tcp].map(|traffic| {
        let place = Place { traffic, principal_from, trust_domains: &trust_domains };
        let mut filters = rbac::custom::filters(&applying, &providers, place, several);
        filters.extend(rbac::filters(&applying, place));
        filters
    })
}

/// The providers of the mesh, as the command reads them.
fn providers(question: &Question) -> Providers {
    if question.providers.is_empty() {
        return Providers::default();
    }
    let mut file = tempfile::NamedTempFile::with_suffix(".json").unwrap();
    write!(file, "{}", json!({ "extensionProviders": question.providers })).unwrap();
    Providers::of(&Resources::read(&[file.path()]).unwrap())
}

fn differs(question: &Question, answer: &Value) -> bool {
    let [http, tcp] = render(question);
    json!(http) != answer["http"] || json!(tcp) != answer["tcp"]
}

/// Leaves out parts of the policies as long as what is rendered differs.
fn shrink(istio: &mut Istio, mut question: Question) -> Question {
    loop {
        let policies = json!(question.policies);
        // The largest parts first.
        let mut paths = parts::below(&policies, &[]);
        paths.sort_by_key(Vec::len);
        let smaller = paths.into_iter().find_map(|path| {
            let mut fewer = policies.clone();
            parts::remove(&mut fewer, &path);
            let Value::Array(policies) = fewer else { return None };
            let smaller = Question { policies, ..question.clone() };
            let is_valid = smaller.policies.iter().all(|policy| read_policy(policy).is_ok());
            let answer = is_valid.then(|| istio.answer(std::slice::from_ref(&smaller)).remove(0))?;
            (answer["invalid"] == json!({}) && differs(&smaller, &answer)).then_some(smaller)
        });
        match smaller {
            Some(smaller) => question = smaller,
            None => return question,
        }
    }
}

/// The smallest part of the question that is rendered otherwise, and both renderings.
fn difference(istio: &mut Istio, question: Question) -> String {
    let question = shrink(istio, question);
    let answer = istio.answer(std::slice::from_ref(&question)).remove(0);
    let [http, tcp] = render(&question);
    format!(
        "another rendering of {:#}\nIstio: {answer:#}\nhere: {:#}",
        question.to_json(),
        json!({ "http": http, "tcp": tcp }),
    )
}

/// A number from the environment.
pub fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().filter(|text| !text.is_empty()).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn the_filters_are_those_that_istio_generates() {
    let (count, seed) = (number("COUNT", 3000), number("SEED", 20_261_127));
    let mut rng = Rng::with_seed(seed);
    let mut istio = Istio::start();
    let differences = include_str!("../../../docs/differences-from-istio.md");
    let (mut counts, mut fields) = (BTreeMap::<String, usize>::new(), BTreeMap::new());
    let mut add = |what: &str| *counts.entry(what.to_owned()).or_default() += 1;
    for number in 0..count {
        let mut question = Question::generate(&mut rng);
        let all = question.policies.clone();
        // A set is about the policies that both take.
        question.policies.retain(|policy| read_policy(policy).is_ok());
        for policy in &all {
            let alone = Question { policies: vec![policy.clone()], ..question.clone() };
            match read_policy(policy) {
                Ok(_) => {
                    add("valid policies");
                    count_fields(&policy["spec"]["rules"], &mut fields);
                }
                Err(errors) => {
                    let answer = istio.answer(std::slice::from_ref(&alone)).remove(0);
                    let intended =
                        STRICTER.iter().find(|(reason, _)| errors.iter().any(|error| error.contains(reason)));
                    match (answer["invalid"] == json!({}), intended) {
                        (true, Some((reason, row))) => {
                            assert!(differences.contains(row), "{row}");
                            add(&format!("invalid here only: {reason}"));
                        }
                        (true, None) => panic!("SEED={seed}, set {number}: only Istio takes {policy:#}: {errors:#?}"),
                        (false, _) => add("invalid policies"),
                    }
                }
            }
        }
        let answer = istio.answer(std::slice::from_ref(&question)).remove(0);
        assert_eq!(answer["invalid"], json!({}), "SEED={seed}, set {number}: Istio refuses {:#?}", question.policies);
        if differs(&question, &answer) {
            panic!("SEED={seed}, set {number}: {}", difference(&mut istio, question));
        }
        let filters = answer["http"].as_array().unwrap().len();
        add(&format!("sets with {filters} filters"));
        if question.service.is_some() && filters > 0 {
            add("sets with filters for waypoints");
        }
    }
    println!("{count} sets of policies, seed {seed}: {counts:#?}\n{fields:#?}");
    assert!(counts["sets with filters for waypoints"] > 20);
    let missing: Vec<_> = FIELDS.iter().filter(|field| fields.get(**field).is_none_or(|count| *count < 20)).collect();
    assert!(missing.is_empty(), "the generator hardly reaches {missing:?}");
}

/// Counts the fields and the keys of conditions, up to a name in brackets.
fn count_fields(value: &Value, fields: &mut BTreeMap<String, usize>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| count_fields(item, fields)),
        Value::Object(entries) => {
            for (key, field) in entries {
                let name = match (key.as_str(), field) {
                    ("key", Value::String(key)) if key.starts_with("experimental.") => "experimental",
                    ("key", Value::String(key)) => key.split('[').next().unwrap_or(key),
                    _ => key,
                };
                *fields.entry(name.to_owned()).or_default() += 1;
                count_fields(field, fields);
            }
        }
        _ => {}
    }
}

/// A provider with any of the fields, and with values that Istio reads in its own way.
fn provider(rng: &mut Rng, name: &str) -> Value {
    let is_http = rng.bool();
    let mut settings = json!({
        "service": pick(rng, &["a.example.com", "shop/a.example.com", "b.example.com"]),
        "port": pick(rng, &[80, 9000, 65535]),
    });
    let names = |rng: &mut Rng| -> Value {
        (0..rng.usize(..4)).map(|_| pick(rng, &["cookie", "X-User", "x-*", "*-id", "authorization"])).collect()
    };
    let mut set = |rng: &mut Rng, field: &str, value: Value| {
        if rng.u8(..3) == 0 {
            settings[field] = value;
        }
    };
    let timeout = pick(rng, &["1s", "0.25s", "90s", "0.001s", "600s"]);
    set(rng, "timeout", json!(timeout));
    let fails_open = rng.bool();
    set(rng, "failOpen", json!(fails_open));
    let status = pick(rng, &["403", "503", "401", "500", "429"]);
    set(rng, "statusOnError", json!(status));
    let body =
        json!({ "maxRequestBytes": rng.u32(1..9000), "allowPartialMessage": rng.bool(), "packAsBytes": rng.bool() });
    set(rng, "includeRequestBodyInCheck", body);
    if is_http {
        let prefix = pick(rng, &["/check", "/", "/a/b"]);
        set(rng, "pathPrefix", json!(prefix));
        set(rng, "includeAdditionalHeadersInCheck", json!({ "x-b": "1", "x-a": "a b" }));
        for field in [
            "includeRequestHeadersInCheck",
            "headersToUpstreamOnAllow",
            "headersToDownstreamOnDeny",
            "headersToDownstreamOnAllow",
        ] {
            let names = names(rng);
            set(rng, field, names);
        }
    }
    json!({ "name": name, if is_http { "envoyExtAuthzHttp" } else { "envoyExtAuthzGrpc" }: settings })
}

/// Istio with and without `PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS`.
#[test]
fn the_filters_that_ask_providers_are_those_that_istio_generates() {
    const NAMES: [&str; 4] = ["login", "login-admin", "login-ns", "a"];
    let (count, seed) = (number("COUNT", 1500), number("SEED", 20_261_127));
    let mut rng = Rng::with_seed(seed);
    let mut istio = Istio::start();
    let mut counts = BTreeMap::<String, usize>::new();
    for number in 0..count {
        let mut question = Question::generate(&mut rng);
        question.several_providers = rng.bool();
        for name in NAMES {
            if rng.u8(..4) > 0 {
                question.providers.push(provider(&mut rng, name));
            }
        }
        let errors: Vec<_> = providers(&question).findings.into_iter().map(|found| found.diagnostic).collect();
        assert!(errors.is_empty(), "SEED={seed}, set {number}: {errors:#?}");
        for policy in &mut question.policies {
            if rng.u8(..4) > 0 {
                policy["spec"]["action"] = json!("CUSTOM");
                policy["spec"]["provider"] = json!({ "name": pick(&mut rng, &NAMES) });
                policy["metadata"].as_object_mut().unwrap().remove("annotations");
                // Few conditions and sources are valid in such a policy.
                if read_policy(policy).is_err() {
                    for rule in policy["spec"]["rules"].as_array_mut().into_iter().flatten() {
                        rule.as_object_mut().unwrap().retain(|name, _| name == "to");
                    }
                }
            }
        }
        question.policies.retain(|policy| read_policy(policy).is_ok());
        let answer = istio.answer(std::slice::from_ref(&question)).remove(0);
        assert_eq!(answer["invalid"], json!({}), "SEED={seed}, set {number}: Istio refuses {:#?}", question.policies);
        if differs(&question, &answer) {
            panic!("SEED={seed}, set {number}: {}", difference(&mut istio, question));
        }
        for traffic in ["http", "tcp"] {
            let text = answer[traffic].to_string();
            let pairs = text.matches("ext_authz.v3.ExtAuthz").count();
            let denies = text.matches("-deny-due-to-bad-CUSTOM-action").count().min(1);
            *counts.entry(format!("{traffic}: {pairs} providers asked, some deny: {}", denies == 1)).or_default() += 1;
        }
    }
    println!("{count} sets of policies, seed {seed}: {counts:#?}");
    for kind in [
        "http: 2 providers asked, some deny: false",
        "http: 0 providers asked, some deny: true",
        "tcp: 1 providers asked, some deny: false",
    ] {
        assert!(counts.get(kind).is_some_and(|count| *count > 10), "the generator hardly reaches {kind}");
    }
}

/// What once was rendered otherwise.
#[test]
fn a_condition_is_expanded_once_for_each_source() {
    let mut istio = Istio::start();
    let blocks = ["0.0.0.0/0", "::/0", "10.0.0.0/8", "192.168.0.0/16"];
    for (sources, values) in (1..=4).flat_map(|sources| {
        ["new-td/ns/foo/sa/b", "*-td/ns/foo/sa/b", "*-td/ns/foo/sa/b*"].map(|value| (sources, value))
    }) {
        for (action, field) in [("DENY", "values"), ("ALLOW", "notValues"), ("AUDIT", "values")] {
            let from: Vec<_> =
                blocks[..sources].iter().map(|block| json!({ "source": { "ipBlocks": [block] } })).collect();
            let rule = json!({ "from": from, "when": [{ "key": "source.principal", field: [values] }] });
            let question = Question {
                policies: vec![json!({
                    "apiVersion": "security.istio.io/v1",
                    "kind": "AuthorizationPolicy",
                    "metadata": { "name": "p", "namespace": "foo" },
                    "spec": { "action": action, "rules": [rule] },
                })],
                namespace: "foo".to_owned(),
                labels: Vec::new(),
                trust_domain: "old-td".to_owned(),
                aliases: vec!["new-td".to_owned(), "td2".to_owned()],
                ..Question::about(Value::Null)
            };
            let answer = istio.answer(std::slice::from_ref(&question)).remove(0);
            assert!(!differs(&question, &answer), "{question:#?}");
        }
    }
}
