//! Helpers for the tests: policies from text, outcomes that can be compared, and tables whose values are tested in
//! every place where a policy can have them.

use std::fmt::Write as _;

use mesh_authz::diagnostic::{Diagnostic, Diagnostics};
use mesh_authz::document::{Node, from_json};
use mesh_authz::engine::{Combining, Custom, Decision, Engine, Options, Verdict};
use mesh_authz::identity::TrustDomains;
use mesh_authz::policy::{AuthorizationPolicy, Traffic, read};
use mesh_authz::request::{Lookup, Request};

/// The decision on a request, and the rule that decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub verdict: Verdict,
    /// `namespace/name` of the policy, and the index of the rule. `None` if no rule decided.
    pub by: Option<(String, usize)>,
}

pub fn allowed_by(policy: &str, rule: usize) -> Outcome {
    Outcome { verdict: Verdict::Allow, by: Some((policy.to_owned(), rule)) }
}

pub fn denied_by(policy: &str, rule: usize) -> Outcome {
    Outcome { verdict: Verdict::Deny, by: Some((policy.to_owned(), rule)) }
}

/// The request is denied because ALLOW policies apply and none of them matched.
pub fn denied_by_default() -> Outcome {
    Outcome { verdict: Verdict::Deny, by: None }
}

/// The request is allowed, but not by a rule.
pub fn allowed_by_default() -> Outcome {
    Outcome { verdict: Verdict::Allow, by: None }
}

impl From<Decision<'_>> for Outcome {
    fn from(decision: Decision<'_>) -> Self {
        let by = decision.outcome.rule().map(|rule| (rule.policy.to_string(), rule.index));
        Self { verdict: decision.outcome.verdict(), by }
    }
}

/// The mesh `cluster.local` without aliases, with deny-overrides.
pub fn options() -> Options {
    mesh(&["cluster.local"])
}

/// A mesh whose trust domain is the first of these domains. The others are its aliases.
pub fn mesh(domains: &[&str]) -> Options {
    let mut domains = domains.iter().map(|domain| (*domain).to_owned());
    Options {
        trust_domains: TrustDomains::new(domains.next().unwrap(), domains),
        combining: Combining::DenyOverrides,
        custom: Custom::Refuse,
        jwt_payload_key: "payload".to_owned(),
        traffic: Traffic::Http,
    }
}

pub fn permit_overrides() -> Options {
    Options { combining: Combining::PermitOverrides, ..options() }
}

/// The documents in a YAML text. YAML keeps the tables short. Duplicate keys are kept, because the library must find
/// them.
fn documents(text: &str) -> Vec<Node> {
    let options = serde_saphyr::options! { duplicate_keys: serde_saphyr::DuplicateKeyPolicy::PassThrough };
    serde_saphyr::from_multiple_with_options(text, options).unwrap_or_else(|error| panic!("{error} in\n{text}"))
}

/// The policies in a text. All of them must be valid.
pub fn policies(text: &str) -> Vec<AuthorizationPolicy> {
    let documents = documents(text);
    let read = |node: &Node| {
        let mut diagnostics = Diagnostics::new();
        read::policy(node, &mut diagnostics).unwrap_or_else(|| panic!("{:#?} in\n{text}", diagnostics.into_found()))
    };
    documents.iter().map(read).collect()
}

pub fn engine_with(options: &Options, text: &str) -> Engine {
    Engine::new(policies(text), options)
}

pub fn decide_with(options: &Options, text: &str, request: &Request) -> Outcome {
    engine_with(options, text).decide(request).into()
}

pub fn decide(text: &str, request: &Request) -> Outcome {
    decide_with(&options(), text, request)
}

/// A policy `default/NAME` with this action and these rules. The rules are in YAML's flow style.
pub fn policy(name: &str, action: &str, rules: &str) -> String {
    named("default", name, &format!("{{ action: {action}, rules: {rules} }}"))
}

pub fn named(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\n{{ apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{ name: {name}, namespace: \
         {namespace} }},\n  spec: {spec} }}\n"
    )
}

pub fn get(path: &str) -> Request {
    Request::new("GET", path).header(":authority", "backend")
}

/// JSON text as a document.
pub fn json(text: &str) -> Node {
    from_json(text.as_bytes()).unwrap()
}

/// A request with a verified token that has these claims.
pub fn token(claims: &str) -> Request {
    get("/").metadata("envoy.filters.http.jwt_authn", &json(&format!("{{\"payload\":{claims}}}")))
}

/// The findings about the policies in a text, as they are printed.
pub fn findings(text: &str) -> Vec<String> {
    let mut diagnostics = Diagnostics::new();
    for node in documents(text) {
        read::policy(&node, &mut diagnostics);
    }
    diagnostics.into_found().iter().map(Diagnostic::to_string).collect()
}

/// Whether a value matches a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Is {
    /// The value matches.
    Matched,
    /// The value does not match.
    Unmatched,
    /// The value matches only where a match denies: in the positive fields of DENY rules and in the `not` fields of
    /// ALLOW rules.
    MatchedWhereItDenies,
    /// As [`Is::MatchedWhereItDenies`], because the attribute cannot be read. The decision names the attribute.
    Unreadable,
}
pub use Is::{Matched, MatchedWhereItDenies, Unmatched, Unreadable};

/// The places where a policy can have values for an attribute.
pub struct Attribute {
    /// `source` or `operation`, the name of the field, and the name of its `not` twin.
    pub field: Option<[&'static str; 3]>,
    /// The key of the condition.
    pub key: Option<&'static str>,
}

impl Attribute {
    pub const fn field(parent: &'static str, name: &'static str, not_name: &'static str) -> Self {
        Self { field: Some([parent, name, not_name]), key: None }
    }

    pub const fn condition(key: &'static str) -> Self {
        Self { field: None, key: Some(key) }
    }

    pub const fn or_condition(self, key: &'static str) -> Self {
        Self { key: Some(key), ..self }
    }

    /// The rules with these values: as a field and as a condition, each also in its `not` form. The boolean marks the
    /// `not` form.
    pub fn rules(&self, values: &[&str]) -> Vec<(String, bool)> {
        let values = serde_json::to_string(values).unwrap();
        let mut rules = Vec::new();
        if let Some([parent, name, not_name]) = self.field {
            let list = if parent == "source" { "from" } else { "to" };
            rules.push((format!("[{{ {list}: [{{ {parent}: {{ {name}: {values} }} }}] }}]"), false));
            rules.push((format!("[{{ {list}: [{{ {parent}: {{ {not_name}: {values} }} }}] }}]"), true));
        }
        if let Some(key) = self.key {
            let key = serde_json::to_string(key).unwrap();
            rules.push((format!("[{{ when: [{{ key: {key}, values: {values} }}] }}]"), false));
            rules.push((format!("[{{ when: [{{ key: {key}, notValues: {values} }}] }}]"), true));
        }
        rules
    }

    /// Checks the values against the request in every place, under both actions.
    pub fn check_with(&self, options: &Options, values: &[&str], request: &Request, is: Is) {
        let mut wrong = String::new();
        for (rules, inverted) in self.rules(values) {
            for action in ["ALLOW", "DENY"] {
                let match_denies = (action == "DENY") != inverted;
                let matched = match is {
                    Matched => true,
                    Unmatched => false,
                    MatchedWhereItDenies | Unreadable => match_denies,
                };
                let holds = matched != inverted;
                let expected = match (action, holds) {
                    ("ALLOW", true) => allowed_by("default/p", 0),
                    ("ALLOW", false) => denied_by_default(),
                    (_, true) => denied_by("default/p", 0),
                    (_, false) => allowed_by_default(),
                };
                let engine = engine_with(options, &policy("p", action, &rules));
                let decision = engine.decide(request);
                if decision.unreadable.is_some() != (is == Unreadable) {
                    writeln!(wrong, "{action} {rules}: unreadable is {:?}", decision.unreadable).unwrap();
                }
                let got = Outcome::from(decision);
                if got != expected {
                    writeln!(wrong, "{action} {rules}: expected {expected:?}, got {got:?}").unwrap();
                }
            }
        }
        assert!(wrong.is_empty(), "{values:?} is to be {is:?} by {request:?}\n{wrong}");
    }

    pub fn check(&self, values: &[&str], request: &Request, is: Is) {
        self.check_with(&options(), values, request, is);
    }
}

/// Checks a table. Each row has a single value, a request, and whether the value matches.
pub fn check_all(attribute: &Attribute, rows: &[(&str, Request, Is)]) {
    for (value, request, is) in rows {
        attribute.check(&[value], request, *is);
    }
}

pub fn ip(text: &str) -> Lookup<std::net::IpAddr> {
    Lookup::Value(text.parse().unwrap())
}

/// Lets a host keep its time and its telemetry to itself.
macro_rules! reports_nothing {
    ($host:ty) => {
        impl mesh_authz::filter::Telemetry for $host {
            fn now(&self) -> u64 {
                0
            }

            fn set_filter_state(&self, _: &str, _: &str) {}
        }

        impl mesh_authz::filter::telemetry::metrics::Metrics for $host {
            fn define(
                &self,
                _: mesh_authz::filter::telemetry::metrics::MetricKind,
                _: &str,
            ) -> Option<mesh_authz::filter::telemetry::metrics::Metric> {
                None
            }

            fn add(&self, _: mesh_authz::filter::telemetry::metrics::Metric, _: u32) {}

            fn record(&self, _: mesh_authz::filter::telemetry::metrics::Metric, _: u64) {}
        }
    };
}
pub(crate) use reports_nothing;
