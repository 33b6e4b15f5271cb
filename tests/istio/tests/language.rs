//! Random policies over the whole language: every field and condition, and every form of value that Istio treats in
//! its own way.

use fastrand::Rng;
use mesh_authz::policy::AuthorizationPolicy;
use serde_json::{Map, Value, json};

use crate::{
    policies::{Field, Word, Words},
    vocabulary::pick,
};

/// Where policies are, and what they are for.
pub const ROOT_NAMESPACE: &str = "istio-system";
const NAMESPACES: [&str; 4] = ["shop", "bar", "a-b", ROOT_NAMESPACE];
const LABELS: [(&str, &str); 5] =
    [("app", "cart"), ("app", "web"), ("version", "v1"), ("istio", "ingressgateway"), ("empty", "")];
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
const TRUST_DOMAINS: [&str; 8] = ["cluster.local", "td1", "td2", "old-td", "new-td", "td1.example", "a.b-c", "TD1"];

/// A set of policies, and the workload that they are for. See `tests/istio/istio/authorization`.
#[derive(Clone, Debug)]
pub struct Question {
    pub policies: Vec<Value>,
    pub namespace: String,
    pub labels: Vec<(String, String)>,
    pub trust_domain: String,
    pub aliases: Vec<String>,
    /// Set on a waypoint: kind, namespace and name of the service that a request is for.
    pub service: Option<[String; 3]>,
    /// The `extensionProviders` of the mesh.
    pub providers: Vec<Value>,
    /// Whether CUSTOM policies may name several of them.
    pub several_providers: bool,
}

impl Question {
    pub fn generate(rng: &mut Rng) -> Self {
        let place = rng.u8(..10);
        let namespace = pick(rng, &NAMESPACES).to_owned();
        let mut labels = labels(rng);
        let is_waypoint = place == 0;
        if place <= 2 {
            labels.retain(|(key, _)| key != GATEWAY_NAME);
            labels.push((GATEWAY_NAME.to_owned(), pick(rng, &["g", "h"]).to_owned()));
        }
        if is_waypoint {
            labels.push(("gateway.istio.io/managed".to_owned(), "istio.io-mesh-controller".to_owned()));
        }
        let service = is_waypoint
            .then(|| [pick(rng, &["Service", "ServiceEntry"]), pick(rng, &NAMESPACES), pick(rng, &["s", "t"])])
            .map(|service| service.map(str::to_owned));
        // Mostly distinct, as in a mesh; a domain that is named twice is possible, too.
        let mut domains: Vec<_> = (0..1 + rng.usize(..4)).map(|_| pick(rng, &TRUST_DOMAINS).to_owned()).collect();
        if rng.bool() {
            domains.insert(0, "cluster.local".to_owned());
        }
        let trust_domain = domains.remove(0);
        Self {
            policies: (0..1 + rng.usize(..5)).map(|index| policy(rng, index, &namespace, place)).collect(),
            namespace,
            labels,
            trust_domain,
            aliases: domains,
            service,
            providers: Vec::new(),
            several_providers: false,
        }
    }

    /// About one policy of the namespace `foo`, and a workload there.
    pub fn about(policy: Value) -> Self {
        Self {
            policies: vec![policy],
            namespace: "foo".to_owned(),
            labels: Vec::new(),
            trust_domain: "cluster.local".to_owned(),
            aliases: Vec::new(),
            service: None,
            providers: Vec::new(),
            several_providers: false,
        }
    }

    pub fn to_json(&self) -> Value {
        let service = self
            .service
            .as_ref()
            .map(|[kind, namespace, name]| json!({ "kind": kind, "namespace": namespace, "name": name }));
        json!({
            "policies": self.policies,
            "namespace": self.namespace,
            "labels": self.labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect::<Map<_, _>>(),
            "trustDomain": self.trust_domain,
            "aliases": self.aliases,
            "rootNamespace": ROOT_NAMESPACE,
            "service": service,
            "extensionProviders": self.providers,
            "severalProviders": self.several_providers,
        })
    }
}

fn labels(rng: &mut Rng) -> Vec<(String, String)> {
    let mut chosen: Vec<(String, String)> = Vec::new();
    for (key, value) in LABELS {
        if rng.bool() && !chosen.iter().any(|(other, _)| other == key) {
            chosen.push((key.to_owned(), value.to_owned()));
        }
    }
    chosen
}

fn policy(rng: &mut Rng, index: usize, namespace: &str, place: u8) -> Value {
    let action = pick(rng, &["ALLOW", "ALLOW", "ALLOW", "DENY", "DENY", "AUDIT"]);
    let mut spec = json!({});
    // ALLOW is the default.
    if action != "ALLOW" || rng.bool() {
        spec["action"] = json!(action);
    }
    match rng.u8(..16) {
        0 => {}
        1 => spec["rules"] = json!([]),
        2 => spec["rules"] = json!([{}]),
        _ => {
            let count = if rng.u8(..12) == 0 { 12 } else { 1 + rng.usize(..3) };
            spec["rules"] = (0..count).map(|_| rule(rng)).collect();
        }
    }
    let may_select = place > 2 || rng.u8(..4) == 0;
    if may_select && rng.u8(..3) == 0 {
        spec["selector"] = json!({ "matchLabels": selector(rng) });
    } else if rng.u8(..8) < if place <= 2 { 6 } else { 1 } {
        if rng.u8(..4) == 0 {
            spec["targetRef"] = reference(rng);
        } else {
            spec["targetRefs"] = (0..1 + rng.usize(..2)).map(|_| reference(rng)).collect();
        }
    }
    let namespace = if rng.bool() { namespace } else { pick(rng, &NAMESPACES) };
    let mut metadata = json!({ "name": name(rng, index), "namespace": namespace });
    // A dry run of AUDIT is not valid.
    if rng.u8(..if action == "AUDIT" { 48 } else { 6 }) == 0 {
        let value =
            pick(rng, &["true", "True", "T", "1", "t", "TRUE", "false", "0", "F", "true", "1", "yes", "", " true"]);
        metadata["annotations"] = json!({ "istio.io/dry-run": value });
    }
    json!({
        "apiVersion": pick(rng, &["security.istio.io/v1", "security.istio.io/v1beta1"]),
        "kind": "AuthorizationPolicy",
        "metadata": metadata,
        "spec": spec,
    })
}

fn selector(rng: &mut Rng) -> Map<String, Value> {
    let labels = labels(rng);
    // Few, so that most workloads have all of them.
    labels.into_iter().filter(|_| rng.u8(..3) == 0).map(|(key, value)| (key, json!(value))).collect()
}

fn name(rng: &mut Rng, index: usize) -> String {
    format!("{}{index}", pick(rng, &["p", "policy.with-dots.", "0-first", "z"]))
}

fn reference(rng: &mut Rng) -> Value {
    let [gateway, istio] = ["gateway.networking.k8s.io", "networking.istio.io"];
    match rng.u8(..8) {
        0 | 1 => json!({ "group": "", "kind": "Service", "name": pick(rng, &["s", "t"]) }),
        2 => json!({ "kind": "Service", "name": pick(rng, &["s", "t"]) }),
        3 => json!({ "group": istio, "kind": "ServiceEntry", "name": pick(rng, &["s", "t"]) }),
        4 => json!({ "group": gateway, "kind": "GatewayClass", "name": pick(rng, &["istio-waypoint", "istio"]) }),
        _ => json!({ "group": gateway, "kind": "Gateway", "name": pick(rng, &["g", "h"]) }),
    }
}

/// A rule. Most are valid, or sets of several rules would hardly ever be.
fn rule(rng: &mut Rng) -> Value {
    let mut rule = any_rule(rng);
    while !is_valid(&rule) && rng.u8(..16) > 0 {
        rule = any_rule(rng);
    }
    rule
}

fn is_valid(rule: &Value) -> bool {
    let policy = json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": { "name": "policy" },
        "spec": { "rules": [rule] },
    });
    AuthorizationPolicy::from_json(&policy.to_string()).is_ok()
}

pub fn any_rule(rng: &mut Rng) -> Value {
    let mut rule = json!({});
    // Several entries that share conditions are a case of their own.
    let count = |rng: &mut Rng| pick(rng, &[1, 1, 1, 2, 2, 3, 4]);
    if rng.u8(..5) < 3 {
        rule["from"] = (0..count(rng)).map(|_| json!({ "source": source(rng) })).collect();
    }
    if rng.u8(..5) < 3 {
        rule["to"] = (0..count(rng)).map(|_| json!({ "operation": operation(rng) })).collect();
    }
    if rng.u8(..5) < 2 {
        rule["when"] = (0..count(rng)).map(|_| condition(rng)).collect();
    }
    rule
}

/// Characters that regular expressions, globs, templates, keys or JSON give a meaning.
const SPECIAL: [char; 36] = [
    '.',
    '+',
    '*',
    '?',
    '(',
    ')',
    '|',
    '[',
    ']',
    '{',
    '}',
    '^',
    '$',
    '\\',
    '-',
    '_',
    '/',
    ':',
    '@',
    '%',
    '&',
    '~',
    '!',
    '\'',
    '"',
    ',',
    ';',
    '=',
    '<',
    '>',
    '#',
    ' ',
    'é',
    '`',
    'ß',
    '\u{1F600}',
];

/// A short text, now and then with characters that mean something.
fn text(rng: &mut Rng) -> String {
    let plain = pick(rng, &["a", "foo", "bar", "admin", "x-y", "ns", "sa", "v1", "0", "A"]);
    match rng.u8(..6) {
        0 => format!("{plain}{}", pick(rng, &SPECIAL)),
        1 => format!("{plain}{}{}", pick(rng, &SPECIAL), pick(rng, &["a", "b", ""])),
        2 => (0..1 + rng.usize(..5)).map(|_| pick(rng, &SPECIAL)).collect(),
        _ => plain.to_owned(),
    }
}

/// A word in one of the forms of values: exact, prefix, suffix, presence, and what only looks like one of them.
fn form(rng: &mut Rng, word: &str) -> String {
    match rng.u8(..16) {
        0 | 1 => format!("{word}*"),
        2 | 3 => format!("*{word}"),
        4 => "*".to_owned(),
        5 => format!("*{word}*"),
        6 => {
            let middle = word.char_indices().nth(word.chars().count() / 2).map_or(0, |(at, _)| at);
            format!("{}*{}", &word[..middle], &word[middle..])
        }
        7 => "**".to_owned(),
        _ => word.to_owned(),
    }
}

fn any_text(rng: &mut Rng) -> String {
    let word = text(rng);
    form(rng, &word)
}

fn trust_domain(rng: &mut Rng) -> String {
    let word = if rng.u8(..4) == 0 { text(rng) } else { pick(rng, &TRUST_DOMAINS).to_owned() };
    form(rng, &word)
}

fn principal(rng: &mut Rng) -> String {
    let domain = match rng.u8(..8) {
        0 => pick(rng, &["*-td", "*td", "td*", "*.local", "*1", "*", "cluster.local*", "*cluster.local"]).to_owned(),
        1 => trust_domain(rng),
        _ => pick(rng, &TRUST_DOMAINS).to_owned(),
    };
    let (namespace, account) = (text(rng), text(rng));
    match rng.u8(..12) {
        0 => any_text(rng),
        1 => format!("{domain}/ns/{namespace}/*"),
        2 => format!("{domain}/ns/{namespace}"),
        3 => format!("{domain}/ns/{namespace}/sa/{account}/extra"),
        4 => format!("{domain}/a/b/c/d"),
        5 => format!("{domain}/ns/{namespace}/sa/{account}*"),
        6 => format!("*/ns/{namespace}/sa/{account}"),
        _ => {
            let identity = format!("{domain}/ns/{namespace}/sa/{account}");
            if rng.u8(..4) == 0 { form(rng, &identity) } else { identity }
        }
    }
}

fn service_account(rng: &mut Rng) -> String {
    let (namespace, name) = (text(rng), text(rng));
    if rng.bool() { name } else { format!("{namespace}/{name}") }
}

fn block(rng: &mut Rng) -> String {
    let address = match rng.u8(..4) {
        0 => std::net::Ipv6Addr::from(rng.u128(..)).to_string(),
        1 => pick(rng, &["::1", "::", "2001:db8::", "fe80::1", "::ffff:10.0.0.1", "2001:DB8:0:0::1"]).to_owned(),
        _ => std::net::Ipv4Addr::from(rng.u32(..)).to_string(),
    };
    let most = if address.contains(':') { 128 } else { 32 };
    match rng.u8(..3) {
        0 => address,
        1 => format!("{address}/{}", pick(rng, &[0, 8, 24, most])),
        _ => format!("{address}/{}", rng.u8(..=most)),
    }
}

fn request_principal(rng: &mut Rng) -> String {
    let (issuer, subject) = (text(rng), text(rng));
    match rng.u8(..10) {
        0 => format!("https://{issuer}/{subject}"),
        1 => format!("{issuer}/*"),
        2 => format!("*/{subject}"),
        3 => format!("*{issuer}/{subject}"),
        4 => format!("{issuer}/{subject}*"),
        5 => pick(rng, &["*", "*/*", "a/", "/a", "/", "a/b/c", "*/", "a/**", "**/a"]).to_owned(),
        6 => any_text(rng),
        _ => format!("{issuer}/{subject}"),
    }
}

fn host(rng: &mut Rng) -> String {
    let word = match rng.u8(..5) {
        0 => text(rng),
        1 => "Example.COM:8080".to_owned(),
        2 => "[::1]:80".to_owned(),
        _ => pick(rng, &["example.com", "a.example.com", "localhost"]).to_owned(),
    };
    form(rng, &word)
}

fn method(rng: &mut Rng) -> String {
    let word = pick(rng, &["GET", "POST", "get", "PROPFIND", "M-SEARCH"]);
    form(rng, word)
}

fn path(rng: &mut Rng) -> String {
    match rng.u8(..6) {
        0 => {
            let segments: Vec<_> = (0..1 + rng.usize(..4))
                .map(|_| pick(rng, &["{*}", "a", "b.c", "{*}", "x~y", "a%20b", "a=b", "a@b", "-", "{x}", "a{*}"]))
                .collect();
            let end = pick(rng, &["", "", "/{**}", "/", "/{**}/z", "/{**}/{*}"]);
            format!("/{}{end}", segments.join("/"))
        }
        1 => pick(rng, &["/{**}", "/{*}", "/{**}/a", "{*}", "/{*", "/a}", "/*/{*}", "//{*}"]).to_owned(),
        2 => any_text(rng),
        _ => {
            let word = format!("/{}/{}", text(rng), text(rng));
            form(rng, &word)
        }
    }
}

fn port(rng: &mut Rng) -> String {
    match rng.u8(..8) {
        0 => pick(rng, &["0", "1", "65535", "080", "00"]).to_owned(),
        _ => rng.u16(1..).to_string(),
    }
}

fn metadata_value(rng: &mut Rng) -> String {
    let word = any_text(rng);
    match rng.u8(..4) {
        0 => format!("[{word}]"),
        1 => format!("[[{word}]]"),
        _ => word,
    }
}

const WORDS: Words = Words {
    principal,
    namespace: any_text,
    service_account,
    trust_domain,
    block,
    request_principal,
    host,
    port,
    method,
    path,
};

fn source(rng: &mut Rng) -> Value {
    let with_service_accounts = rng.u8(..3) == 0;
    fields(rng, &WORDS.of_source(with_service_accounts).concat())
}

fn operation(rng: &mut Rng) -> Value {
    fields(rng, &WORDS.of_operation())
}

/// One to three of these fields or of their `not` twins.
fn fields(rng: &mut Rng, known: &[Field]) -> Value {
    let mut fields = json!({});
    for _ in 0..=rng.usize(..3) {
        let (name, not_name, word) = pick(rng, known);
        let name = if rng.u8(..3) == 0 { not_name } else { name };
        fields[name] = values(rng, word);
    }
    fields
}

fn values(rng: &mut Rng, word: Word) -> Value {
    (0..pick(rng, &[1, 1, 1, 2, 2, 3])).map(|_| word(rng)).collect()
}

fn condition(rng: &mut Rng) -> Value {
    let (key, word): (String, Word) = match rng.u8(..24) {
        0..=2 => {
            let name = pick(rng, &["x-role", "X-Role", "host", ":path", ":authority", "cookie", "User-Agent", "a.b_c"]);
            (format!("request.headers[{name}]"), any_text)
        }
        3..=5 => {
            let keys = ["[iss]", "[groups]", "[a][b]", "[a][b][c]", "[a.b]", "[a-b]", "[https://x/y]", "[a/b][c]"];
            (format!("request.auth.claims{}", pick(rng, &keys)), any_text)
        }
        6 | 7 => {
            let filter = pick(rng, &["envoy.filters.http.x", "envoy.filters.network.mysql_proxy", "envoy.filters.a-b"]);
            let key = pick(rng, &["k", "db.table", "a[b]", "k-2", "a][b"]);
            (format!("experimental.{filter}[{key}]"), metadata_value)
        }
        // It is expanded in its own way, so it comes often.
        8..=12 => ("source.principal".to_owned(), principal),
        _ => {
            let fixed: [(&str, Word); 12] = [
                ("source.ip", block),
                ("remote.ip", block),
                ("source.namespace", any_text),
                ("source.serviceAccount", service_account),
                ("source.trustDomain", trust_domain),
                ("source.principal", principal),
                ("request.auth.principal", request_principal),
                ("request.auth.audiences", any_text),
                ("request.auth.presenter", any_text),
                ("destination.ip", block),
                ("destination.port", port),
                ("connection.sni", host),
            ];
            let (key, word) = pick(rng, &fixed);
            (key.to_owned(), word)
        }
    };
    let mut condition = json!({ "key": key });
    match rng.u8(..5) {
        0 => condition["notValues"] = values(rng, word),
        1 => {
            condition["values"] = values(rng, word);
            condition["notValues"] = values(rng, word);
        }
        _ => condition["values"] = values(rng, word),
    }
    condition
}
