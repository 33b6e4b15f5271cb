//! Generates sets of policies that test boundaries: every field and condition, every form of value, and several
//! policies that interact.

use fastrand::Rng;
use mesh_authz::document::Node;
use serde_json::{Value, json};

use crate::vocabulary::*;

/// Policies, and the trust domains that their meaning depends on.
#[derive(Clone, Debug)]
pub struct PolicySet {
    /// The policies as Kubernetes resources.
    pub policies: Vec<Value>,
    pub trust_domain: String,
    pub aliases: Vec<String>,
}

/// The workload's namespace. Its only label is `app: httpbin`.
pub const NAMESPACE: &str = "foo";
pub const ROOT_NAMESPACE: &str = "istio-system";

impl PolicySet {
    pub fn generate(rng: &mut Rng) -> Self {
        let (trust_domain, aliases): (&str, &[&str]) = match rng.u8(..6) {
            0 => ("td1", &["cluster.local"]),
            1 => ("td1", &["td2"]),
            2 => ("td2", &["td1", "cluster.local"]),
            3 => ("td1.example", &["td1"]),
            _ => ("cluster.local", &[]),
        };
        // A policy with a single field or condition exposes a mistake in its matcher. All other mistakes appear only in
        // combinations.
        let policies = if rng.u8(..5) < 2 {
            vec![focused(rng)]
        } else {
            let count = 1 + rng.usize(..4);
            (0..count).map(|index| policy(rng, index)).collect()
        };
        Self {
            policies,
            trust_domain: trust_domain.to_owned(),
            aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
        }
    }

    pub fn plugin_config(&self) -> Value {
        json!({
            "policies": self.policies,
            "workload": { "namespace": NAMESPACE, "labels": { "app": "httpbin" } },
            "trustDomain": self.trust_domain,
            "trustDomainAliases": self.aliases,
            "rootNamespace": ROOT_NAMESPACE,
            "decisionLog": "none",
            "allowNoneApplies": true,
        })
    }

    /// The texts in the policies that say where requests come from, without wildcards.
    pub fn words(&self) -> Vec<String> {
        fn add(value: &Value, words: &mut Vec<String>) {
            match value {
                Value::String(text) => words.push(text.replace('*', "")),
                Value::Array(items) => items.iter().for_each(|item| add(item, words)),
                Value::Object(fields) => {
                    for (_, field) in fields.iter().filter(|(key, _)| *key != "to") {
                        add(field, words);
                    }
                }
                _ => {}
            }
        }
        let mut words = Vec::new();
        self.policies.iter().for_each(|policy| add(&policy["spec"]["rules"], &mut words));
        words
    }

    /// The policies in the form that the project reads.
    pub fn nodes(&self) -> Vec<Node> {
        self.policies.iter().map(|policy| serde_json::from_value(policy.clone()).unwrap()).collect()
    }
}

/// A policy with one rule, which has one field or one condition.
fn focused(rng: &mut Rng) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": { "name": "focused", "namespace": pick(rng, &[NAMESPACE, NAMESPACE, ROOT_NAMESPACE]) },
        "spec": { "action": pick(rng, &["ALLOW", "DENY"]), "rules": [focused_rule(rng)] },
    })
}

/// A rule with one field or one condition.
fn focused_rule(rng: &mut Rng) -> Value {
    let mut fields = match rng.u8(..4) {
        // Sources have the most forms of values.
        0 | 1 => json!({ "from": [{ "source": source(rng) }] }),
        2 => json!({ "to": [{ "operation": operation(rng) }] }),
        _ => json!({ "when": [condition(rng)] }),
    };
    for group in ["/from/0/source", "/to/0/operation"] {
        if let Some(Value::Object(group)) = fields.pointer_mut(group) {
            let kept = rng.usize(..group.len());
            let mut position = 0..;
            group.retain(|_, _| position.next() == Some(kept));
        }
    }
    fields
}

fn policy(rng: &mut Rng, index: usize) -> Value {
    let action = pick(rng, &["ALLOW", "ALLOW", "ALLOW", "DENY", "DENY", "AUDIT"]);
    let dry_run = action != "AUDIT" && rng.u8(..8) == 0;
    let mut spec = json!({ "action": action });
    if action != "DENY" && rng.u8(..12) == 0 {
        // A policy without rules never matches.
    } else {
        // Several of many simple rules match a request. Which of them is the first is a question of their order.
        spec["rules"] = match rng.u8(..6) {
            0 => (0..12).map(|_| focused_rule(rng)).collect(),
            _ => (0..=rng.usize(..2)).map(|_| rule(rng)).collect(),
        };
    }
    match rng.u8(..8) {
        0 => spec["selector"] = json!({ "matchLabels": { "app": "httpbin" } }),
        1 => spec["selector"] = json!({ "matchLabels": { "app": "other" } }),
        _ => {}
    }
    let namespace = pick(rng, &[NAMESPACE, NAMESPACE, NAMESPACE, NAMESPACE, ROOT_NAMESPACE, "bar"]);
    let mut metadata = json!({ "name": format!("p{index}"), "namespace": namespace });
    if dry_run {
        metadata["annotations"] = json!({ "istio.io/dry-run": "true" });
    }
    json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": metadata, "spec": spec,
    })
}

fn rule(rng: &mut Rng) -> Value {
    let mut rule = json!({});
    if rng.u8(..5) < 3 {
        let count = 1 + rng.usize(..2);
        rule["from"] = (0..count).map(|_| json!({ "source": source(rng) })).collect();
    }
    if rng.u8(..5) < 3 {
        let count = 1 + rng.usize(..2);
        rule["to"] = (0..count).map(|_| json!({ "operation": operation(rng) })).collect();
    }
    if rng.u8(..5) < 2 {
        let count = 1 + rng.usize(..2);
        rule["when"] = (0..count).map(|_| condition(rng)).collect();
    }
    rule
}

/// Makes a value.
pub type Word = fn(&mut Rng) -> String;

fn principal(rng: &mut Rng) -> String {
    let identity = pick(rng, &IDENTITIES);
    match rng.u8(..10) {
        0 => format!("*{}", &identity[identity.find('/').unwrap_or(0)..]),
        1 => "*-td/ns/foo/sa/a".to_owned(),
        2 => "td*/ns/foo/sa/a".to_owned(),
        3 => "*1/ns/foo/sa/a".to_owned(),
        // What people write.
        5 => pick(rng, &["cluster.local/ns/foo/*", "td1/*", "cluster.local/*", "*/sa/a"]).to_owned(),
        // A name that is no SPIFFE id matches none of these.
        4 => pick(rng, &["*.example.com", "*localhost", "a.example*", "CN=a", "*a", "*bar"]).to_owned(),
        _ => form(rng, identity),
    }
}

fn namespace(rng: &mut Rng) -> String {
    let word = pick(rng, &NAMESPACES);
    form(rng, word)
}

fn service_account(rng: &mut Rng) -> String {
    pick(rng, &SERVICE_ACCOUNTS).to_owned()
}

fn trust_domain(rng: &mut Rng) -> String {
    let word = pick(rng, &TRUST_DOMAINS);
    match rng.u8(..8) {
        0 => format!("{}*", &word[..2]),
        1 => format!("*{}", &word[1..]),
        2 => "*".to_owned(),
        // The word may end another segment of an identity. The wildcard must not match across segments.
        3 | 4 => format!("*{}", pick(rng, &["foo", "a", "ns", "td1"])),
        _ => word.to_owned(),
    }
}

fn block(rng: &mut Rng) -> String {
    pick(rng, &BLOCKS).to_owned()
}

fn request_principal(rng: &mut Rng) -> String {
    pick(rng, &REQUEST_PRINCIPALS).to_owned()
}

fn host(rng: &mut Rng) -> String {
    let word = pick(rng, &HOSTS);
    form(rng, word)
}

fn method(rng: &mut Rng) -> String {
    let word = pick(rng, &METHODS);
    form(rng, word)
}

fn path(rng: &mut Rng) -> String {
    if rng.u8(..3) == 0 {
        return pick(rng, &TEMPLATES).to_owned();
    }
    let word = pick(rng, &PATHS);
    form(rng, word)
}

fn port(rng: &mut Rng) -> String {
    pick(rng, &PORTS).to_string()
}

fn header(rng: &mut Rng) -> String {
    let word = pick(rng, &HEADER_VALUES);
    form(rng, word.trim())
}

fn claim(rng: &mut Rng) -> String {
    let word = pick(rng, &CLAIM_VALUES);
    form(rng, word)
}

fn metadata_value(rng: &mut Rng) -> String {
    let value = claim(rng);
    if rng.bool() { format!("[{value}]") } else { value }
}

fn sni(rng: &mut Rng) -> String {
    let word = pick(rng, &SNIS);
    form(rng, word)
}

/// How the values of each field are made.
pub struct Words {
    pub principal: Word,
    pub namespace: Word,
    pub service_account: Word,
    pub trust_domain: Word,
    pub block: Word,
    pub request_principal: Word,
    pub host: Word,
    pub port: Word,
    pub method: Word,
    pub path: Word,
}

/// A field, its `not` twin, and how their values are made.
pub type Field = (&'static str, &'static str, Word);

impl Words {
    /// The fields of a source: those about the peer's identity, and the others. `serviceAccounts` cannot stand beside
    /// `principals` and `namespaces`.
    pub fn of_source(&self, with_service_accounts: bool) -> [Vec<Field>; 2] {
        let identity = if with_service_accounts {
            vec![("serviceAccounts", "notServiceAccounts", self.service_account)]
        } else {
            vec![("principals", "notPrincipals", self.principal), ("namespaces", "notNamespaces", self.namespace)]
        };
        let others = vec![
            ("trustDomains", "notTrustDomains", self.trust_domain),
            ("ipBlocks", "notIpBlocks", self.block),
            ("remoteIpBlocks", "notRemoteIpBlocks", self.block),
            ("requestPrincipals", "notRequestPrincipals", self.request_principal),
        ];
        [identity, others]
    }

    /// The fields of an operation. Paths have the most forms, so they come twice.
    pub fn of_operation(&self) -> [Field; 5] {
        [
            ("hosts", "notHosts", self.host),
            ("ports", "notPorts", self.port),
            ("methods", "notMethods", self.method),
            ("paths", "notPaths", self.path),
            ("paths", "notPaths", self.path),
        ]
    }
}

const WORDS: Words =
    Words { principal, namespace, service_account, trust_domain, block, request_principal, host, port, method, path };

fn source(rng: &mut Rng) -> Value {
    let with_service_accounts = rng.u8(..3) == 0;
    let [identity, others] = WORDS.of_source(with_service_accounts);
    fields(rng, &[identity.clone(), identity, others].concat())
}

fn operation(rng: &mut Rng) -> Value {
    fields(rng, &WORDS.of_operation())
}

/// One or two of these fields or of their `not` twins.
fn fields(rng: &mut Rng, known: &[Field]) -> Value {
    let mut fields = json!({});
    for _ in 0..=rng.usize(..2) {
        let (name, not_name, word) = pick(rng, known);
        let name = if rng.u8(..4) == 0 { not_name } else { name };
        fields[name] = values(rng, word);
    }
    fields
}

fn values(rng: &mut Rng, word: Word) -> Value {
    let count = 1 + rng.usize(..2);
    (0..count).map(|_| word(rng)).collect()
}

fn condition(rng: &mut Rng) -> Value {
    let fixed: [(&str, Word); 12] = [
        ("source.ip", block),
        ("remote.ip", block),
        ("source.namespace", namespace),
        ("source.serviceAccount", service_account),
        ("source.principal", principal),
        ("source.trustDomain", trust_domain),
        ("request.auth.principal", request_principal),
        ("request.auth.audiences", claim),
        ("request.auth.presenter", claim),
        ("destination.ip", block),
        ("destination.port", port),
        ("connection.sni", sni),
    ];
    let (key, word): (String, Word) = match rng.u8(..20) {
        0..=2 => (format!("request.headers[{}]", pick(rng, &HEADERS)), header),
        3 => ("request.headers[:path]".to_owned(), path_text),
        4 => ("request.headers[host]".to_owned(), host),
        5 | 6 => (format!("request.auth.claims[{}]", pick(rng, &CLAIMS)), claim),
        7 => (format!("request.auth.claims[a][{}]", pick(rng, &["b", "c"])), claim),
        8 | 9 => {
            let (filter, key) = pick(rng, &METADATA);
            (format!("experimental.{filter}[{key}]"), metadata_value)
        }
        _ => {
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

fn path_text(rng: &mut Rng) -> String {
    let word = format!("{}{}", pick(rng, &PATHS), pick(rng, &QUERIES));
    form(rng, &word)
}
