//! The policies and requests of both benchmarks. They are the same for the engine alone and for a whole Envoy.
//!
//! [`realistic`] is a set like the policies of a busy service. [`adversarial`] has sets that make an index useless,
//! each in its own way. [`worst`] has the requests that take the most time. Everything depends only on the number of
//! rules, so two runs measure the same thing.
//!
//! Every policy is an ALLOW policy with one rule. So an engine without an index compares a refused request with every
//! rule. A request that passes matches exactly one rule of the realistic mix.

pub mod adversarial;
pub mod realistic;
pub mod worst;

use std::net::Ipv4Addr;

use serde_json::{Value, json};

/// Policies, with requests that they allow and requests that they refuse.
#[derive(Clone)]
pub struct Set {
    /// The name of the set in the results.
    pub name: &'static str,
    /// `AuthorizationPolicy` resources, one rule each.
    pub policies: Vec<Value>,
    /// Requests that match a rule.
    pub allowed: Vec<Call>,
    /// Requests that match no rule.
    pub denied: Vec<Call>,
}

/// A request, with its sender and the sender's address.
#[derive(Clone, Debug)]
pub struct Call {
    /// The sender's SPIFFE id, without its scheme.
    pub principal: String,
    /// The sender's address, in 127.0.0.0/8.
    pub source_ip: Ipv4Addr,
    /// The HTTP method.
    pub method: &'static str,
    /// The host.
    pub host: &'static str,
    /// The request path.
    pub path: String,
    /// Headers beyond [`ORDINARY_HEADERS`].
    pub headers: Vec<(&'static str, String)>,
    /// The claims of the verified token, if the request has one.
    pub claims: Option<Value>,
}

/// The headers that a client sends with every request.
pub const ORDINARY_HEADERS: [(&str, &str); 6] = [
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("accept", "application/json"),
    ("accept-language", "en-GB,en;q=0.8"),
    ("accept-encoding", "gzip, br"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("cache-control", "no-cache"),
];

impl Call {
    pub fn new(principal: impl Into<String>, method: &'static str, path: impl Into<String>) -> Self {
        Self {
            principal: principal.into(),
            source_ip: Ipv4Addr::LOCALHOST,
            method,
            host: "backend.example.com",
            path: path.into(),
            headers: Vec::new(),
            claims: None,
        }
    }

    fn at(mut self, ip: Ipv4Addr) -> Self {
        self.source_ip = ip;
        self
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
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

/// An ALLOW policy with one rule. The number in its name has leading zeros, so that every engine has the rules in this
/// order.
pub fn allow(number: usize, rule: &Value) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": { "name": format!("allow-{number:05}"), "namespace": "default" },
        "spec": { "action": "ALLOW", "rules": [rule] },
    })
}

/// A rule with one source and one operation.
fn from_to(source: &Value, operation: &Value) -> Value {
    json!({ "from": [{ "source": source }], "to": [{ "operation": operation }] })
}
