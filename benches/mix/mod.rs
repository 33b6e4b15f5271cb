//! The policies and requests that both benchmarks measure with: the same for the engine alone and for a whole Envoy.
//!
//! [`realistic`] is what a busy service's policies look like; [`adversarial`] are sets that make an index useless, each in
//! its own way. Everything is a function of the number of rules: two runs measure the same thing.
//!
//! A policy has one rule, and all of them ALLOW. So a request that is refused has been compared with every rule, by an
//! engine that compares it with every rule; and a request that passes matches one rule of the realistic mix and no other.

pub mod adversarial;
pub mod realistic;

use std::net::Ipv4Addr;

use serde_json::{Value, json};

/// Policies, with requests that they allow and requests that they refuse.
pub struct Set {
    /// What it is called in the results.
    pub name: &'static str,
    /// `AuthorizationPolicy` resources, one rule each.
    pub policies: Vec<Value>,
    /// Requests that match a rule.
    pub allowed: Vec<Call>,
    /// Requests that match none.
    pub denied: Vec<Call>,
}

/// A request, with who sends it and from where.
#[derive(Clone, Debug)]
pub struct Call {
    /// The SPIFFE id, without its scheme.
    pub principal: String,
    /// The address it comes from, one of 127.0.0.0/8.
    pub source_ip: Ipv4Addr,
    /// The method.
    pub method: &'static str,
    /// The path.
    pub path: String,
    /// Headers beyond [`ORDINARY_HEADERS`].
    pub headers: Vec<(&'static str, String)>,
    /// The claims of the verified token, if it has one.
    pub claims: Option<Value>,
}

/// What a client sends with every request, whatever it asks for.
pub const ORDINARY_HEADERS: [(&str, &str); 6] = [
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("accept", "application/json"),
    ("accept-language", "en-GB,en;q=0.8"),
    ("accept-encoding", "gzip, br"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("cache-control", "no-cache"),
];

impl Call {
    fn new(principal: impl Into<String>, method: &'static str, path: impl Into<String>) -> Self {
        Self {
            principal: principal.into(),
            source_ip: Ipv4Addr::LOCALHOST,
            method,
            path: path.into(),
            headers: Vec::new(),
            claims: None,
        }
    }

    fn at(mut self, ip: Ipv4Addr) -> Self {
        self.source_ip = ip;
        self
    }

    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn group(mut self, group: &str) -> Self {
        self.claims = Some(json!({
            "iss": "https://accounts.example.com", "sub": "1234567890", "groups": ["users", group],
        }));
        self
    }
}

/// An ALLOW policy of one rule. The numbers in the names have leading zeros: rules are in this order for every engine.
fn allow(number: usize, rule: &Value) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": { "name": format!("allow-{number:05}"), "namespace": "default" },
        "spec": { "action": "ALLOW", "rules": [rule] },
    })
}

/// A rule of one source and one operation.
fn from_to(source: &Value, operation: &Value) -> Value {
    json!({ "from": [{ "source": source }], "to": [{ "operation": operation }] })
}
