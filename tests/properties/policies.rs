//! Generators of policies. Each policy is JSON, so that tests can change it and write it.

use mesh_authz::diagnostic::Diagnostics;
use mesh_authz::document::{Node, from_json};
use mesh_authz::engine::{Combining, Custom, Engine, Options};
use mesh_authz::identity::TrustDomains;
use mesh_authz::policy::{AuthorizationPolicy, Traffic, read};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

/// The fields of a source. Their values match, or nearly match, the values in the pools of requests.
const SOURCE: [(&str, &[&str]); 7] = [
    ("principals", &["*", "td/ns/a/sa/x", "cluster.local/ns/a/sa/x", "td/*", "*/sa/x", "*d"]),
    ("namespaces", &["a", "*", "a*", "b", "*b*"]),
    ("serviceAccounts", &["a/x", "x", "b/y"]),
    ("trustDomains", &["td", "*", "t*", "*d", "alias"]),
    ("ipBlocks", &["10.0.0.0/8", "10.0.0.1", "::/0", "0.0.0.0/0"]),
    ("remoteIpBlocks", &["10.0.0.0/8", "192.0.2.1", "::/0"]),
    ("requestPrincipals", &["*", "i/s", "*s", "i*", "i/*", "*/s", "*i/s"]),
];

/// The fields of an operation, with such values.
const OPERATION: [(&str, &[&str]); 4] = [
    ("hosts", &["*", "h", "H*", "*.h", "h:80"]),
    ("methods", &["*", "GET", "P*", "*T"]),
    ("paths", &["*", "/a", "/a/*", "*b", "/a/{*}", "/a/{**}", "/{*}/b", "/{**}/b"]),
    ("ports", &["80", "0", "443"]),
];

/// The keys of conditions, with such values.
pub const CONDITIONS: [(&str, &[&str]); 18] = [
    ("source.ip", SOURCE[4].1),
    ("remote.ip", SOURCE[5].1),
    ("source.namespace", SOURCE[1].1),
    ("source.serviceAccount", SOURCE[2].1),
    ("source.principal", SOURCE[0].1),
    ("source.trustDomain", SOURCE[3].1),
    ("request.auth.principal", SOURCE[6].1),
    ("request.auth.audiences", &["*", "v", "v*", "*w"]),
    ("request.auth.presenter", &["*", "v", "v*", "*w"]),
    ("request.auth.claims[role]", &["*", "v", "v*", "*w"]),
    ("request.auth.claims[n][m]", &["*", "v", "v*", "*w"]),
    ("destination.ip", SOURCE[5].1),
    ("destination.port", OPERATION[3].1),
    ("connection.sni", &["*", "v", "v*", "*w"]),
    ("request.headers[x]", &["*", "v", "v*", "*w"]),
    ("request.headers[:path]", &["*", "/a", "/a*", "*b"]),
    ("request.headers[host]", OPERATION[0].1),
    ("experimental.envoy.filters.f[k]", &["*", "v", "v*", "[*]", "[v]", "[v*]", "[*w]"]),
];

fn some_values(pool: &'static [&'static str]) -> impl Strategy<Value = Value> {
    subsequence(pool, 1..=pool.len().min(3)).prop_shuffle().prop_map(|values| json!(values))
}

fn not(field: &str) -> String {
    format!("not{}{}", field[..1].to_ascii_uppercase(), &field[1..])
}

/// A source or an operation with one to three fields.
fn fields(pool: &'static [(&'static str, &'static [&'static str])]) -> impl Strategy<Value = Value> {
    let field = select(pool).prop_flat_map(|(name, values)| (Just(name), any::<bool>(), some_values(values)));
    proptest::collection::vec(field, 1..=3).prop_map(|fields| {
        let mut object = serde_json::Map::new();
        for (name, is_not, values) in fields {
            object.insert(if is_not { not(name) } else { name.to_owned() }, values);
        }
        if object.keys().any(|name| name.ends_with("erviceAccounts")) {
            object.retain(|name, _| !name.ends_with("rincipals") || name.ends_with("estPrincipals"));
            object.retain(|name, _| !name.ends_with("amespaces"));
        }
        Value::Object(object)
    })
}

pub fn condition() -> impl Strategy<Value = Value> {
    select(&CONDITIONS[..])
        .prop_flat_map(|(key, pool)| (Just(key), any::<u8>(), some_values(pool), some_values(pool)))
        .prop_map(|(key, form, values, not_values)| match form % 3 {
            0 => json!({ "key": key, "values": values }),
            1 => json!({ "key": key, "notValues": not_values }),
            _ => json!({ "key": key, "values": values, "notValues": not_values }),
        })
}

fn rule() -> impl Strategy<Value = Value> {
    let list = |name: &'static str, pool| {
        proptest::collection::vec(fields(pool), 0..=2)
            .prop_map(move |all| all.into_iter().map(|fields| json!({ name: fields })).collect::<Vec<_>>())
    };
    let when = proptest::collection::vec(condition(), 0..=2);
    (list("source", &SOURCE[..]), list("operation", &OPERATION[..]), when).prop_map(|(from, to, when)| {
        let mut rule = serde_json::Map::new();
        for (name, list) in [("from", from), ("to", to), ("when", when)] {
            if !list.is_empty() {
                rule.insert(name.to_owned(), json!(list));
            }
        }
        Value::Object(rule)
    })
}

/// The spec of a valid policy with this action.
pub fn spec(action: &'static str) -> impl Strategy<Value = Value> {
    proptest::collection::vec(rule(), 1..=3).prop_map(move |rules| json!({ "action": action, "rules": rules }))
}

/// Makes each rule say what must not be, and nothing else. Many requests have a value that every rule excludes, so that not
/// always one matches. `keeps`: a field that stays as it is.
pub fn only_excluding(mut spec: Value, keeps: &str) -> Value {
    for rule in spec["rules"].as_array_mut().unwrap() {
        let when = rule.as_object_mut().unwrap().entry("when").or_insert_with(|| json!([]));
        when.as_array_mut().unwrap().push(json!({ "key": "request.headers[x]", "notValues": ["v", "v*", "a*"] }));
        for (list, inner) in [("from", Some("source")), ("to", Some("operation")), ("when", None)] {
            for item in rule.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                let object = match inner {
                    Some(inner) => &mut item[inner],
                    None => item,
                };
                let fields = object.as_object_mut().unwrap();
                for (name, values) in std::mem::take(fields) {
                    let stays = name == keeps || name == "key" || name.starts_with("not");
                    fields.insert(if stays { name } else { not(&name) }, values);
                }
            }
        }
    }
    spec
}

/// One to four valid policies with different names.
pub fn several() -> impl Strategy<Value = Vec<Value>> {
    let one = select(&["ALLOW", "ALLOW", "DENY", "DENY", "AUDIT"][..]).prop_flat_map(spec);
    proptest::collection::vec(one, 1..=4)
        .prop_map(|specs| specs.into_iter().enumerate().map(|(n, spec)| named(&format!("p{n}"), spec)).collect())
}

pub fn named(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "name": name, "namespace": "a" }, "spec": spec,
    })
}

pub fn node(value: &Value) -> Node {
    from_json(value.to_string().as_bytes()).unwrap()
}

pub fn read(value: &Value) -> AuthorizationPolicy {
    let mut diagnostics = Diagnostics::new();
    let policy = read::policy(&node(value), &mut diagnostics);
    policy.unwrap_or_else(|| panic!("{value:#}\n{:#?}", diagnostics.into_found()))
}

pub fn options(combining: Combining) -> Options {
    Options {
        trust_domains: TrustDomains::new("td".to_owned(), ["alias".to_owned()]),
        combining,
        custom: Custom::Refuse,
        jwt_payload_key: "payload".to_owned(),
        traffic: Traffic::Http,
    }
}

pub fn engine_with(combining: Combining, policies: &[Value]) -> Engine {
    let policies: Vec<_> = policies.iter().map(read).collect();
    Engine::new(policies, &options(combining))
}

pub fn engine(policies: &[Value]) -> Engine {
    engine_with(Combining::DenyOverrides, policies)
}

pub const BOTH: [Combining; 2] = [Combining::DenyOverrides, Combining::PermitOverrides];
