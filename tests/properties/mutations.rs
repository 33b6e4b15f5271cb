//! Ten thousand broken configurations. Each one is refused, or means what its own text says.
//!
//! They are mutations of a configuration that denies everything. It has a DENY policy with an empty rule, an ALLOW
//! policy without rules, and an ALLOW policy with many fields. A mutation that is accepted must satisfy two laws.
//!
//! 1. *It means what a cluster would have stored.* Another JSON reader reads the text. If a key occurs twice, this
//!    reader uses the last one. The result is written as JSON again. Both texts must lead to the same decisions. This
//!    finds anything that the filter overlooks in one of the texts, for example duplicate keys.
//! 2. *It does not open.* If the other reader still finds a DENY policy in force (for this namespace, without a
//!    selector, a target or a dry run, with an empty rule), every request must be denied.
//!
//! Some kinds of mutation have stricter tests: a renamed field, a field of another type and a null must be refused.

use std::cell::Cell;

use mesh_authz::config::{NodeMetadata, PluginConfig};
use mesh_authz::engine::{Engine, Verdict};
use mesh_authz::policy::scope::{Scope, scope};
use mesh_authz::request::Request;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::cases;

fn base() -> Value {
    let policy = |name: &str, spec: Value| {
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": { "name": name, "namespace": "shop" }, "spec": spec,
        })
    };
    json!({
        "policies": [
            policy("allow-nothing", json!({})),
            policy("deny-all", json!({ "action": "DENY", "rules": [{}] })),
            policy("allow-some", json!({
                "selector": { "matchLabels": { "app": "cart" } }, "action": "ALLOW",
                "rules": [{
                    "from": [{ "source": { "principals": ["td/ns/a/sa/x"], "notNamespaces": ["b"] } }],
                    "to": [{ "operation": { "methods": ["GET"], "paths": ["/a/{*}"], "notPorts": ["80"] } }],
                    "when": [{ "key": "request.headers[x]", "values": ["v"], "notValues": ["w*"] }],
                }],
            })),
        ],
        "workload": { "namespace": "shop", "labels": { "app": "cart" } },
        "rootNamespace": "root", "trustDomain": "td", "trustDomainAliases": ["old"], "combining": "deny-overrides",
        "jwt": { "payloadKey": "payload" }, "denyResponse": { "status": 403, "body": "no", "headers": { "x": "y" } },
        "principalFrom": "peer-certificate", "sourceIpFrom": "filter-state", "decisionLog": "denied",
    })
}

/// The engine of a configuration; `None` if the configuration is refused.
fn accepted(text: &[u8]) -> Option<Engine> {
    let config = PluginConfig::read(text, &NodeMetadata::in_namespace("default")).ok()?;
    let applying = config.policies.iter().filter(|policy| scope(policy, &config.workload) == Scope::Applies);
    Some(Engine::new(applying, &config.options))
}

fn decisions(engine: &Engine) -> Vec<(Verdict, Option<String>)> {
    let request = |method, path| Request::new(method, path).header(":authority", "h");
    let requests = [
        Request::default(),
        request("GET", "/"),
        request("GET", "/a/b").principal("td/ns/a/sa/x").header("x", "v"),
        request("POST", "/a/b").principal("old/ns/a/sa/x").header("x", "v"),
    ];
    let decide = |request: &Request| {
        let decision = engine.decide(request);
        (decision.outcome.verdict(), decision.outcome.rule().map(ToString::to_string))
    };
    requests.iter().map(decide).collect()
}

/// Whether a policy that denies everything is in force, according to a simple reading of the configuration.
fn denies_all(config: &Value) -> bool {
    let namespaces = [&config["workload"]["namespace"], &config["rootNamespace"]];
    let gateway = config.get("gateway").is_some();
    config["combining"] != json!("permit-overrides")
        && !gateway
        && config["policies"].as_array().into_iter().flatten().any(|policy| {
            let spec = &policy["spec"];
            let none = |name: &str| spec.get(name).is_none();
            spec["action"] == json!("DENY")
                && spec["rules"].as_array().is_some_and(|rules| rules.contains(&json!({})))
                && none("selector")
                && none("targetRef")
                && none("targetRefs")
                && policy["metadata"].get("annotations").is_none()
                && namespaces.contains(&&policy["metadata"]["namespace"])
        })
}

fn check(text: &[u8]) -> Result<bool, TestCaseError> {
    let Some(engine) = accepted(text) else { return Ok(false) };
    let got = decisions(&engine);
    let plain: Value =
        serde_json::from_slice(text).map_err(|error| TestCaseError::fail(format!("accepted, and no JSON: {error}")))?;
    let Some(stored) = accepted(plain.to_string().as_bytes()) else {
        return Err(TestCaseError::fail("accepted, and refused when written down again"));
    };
    prop_assert_eq!(&decisions(&stored), &got, "{}", String::from_utf8_lossy(text));
    if denies_all(&plain) {
        prop_assert!(got.iter().all(|(verdict, _)| *verdict == Verdict::Deny), "{}", String::from_utf8_lossy(text));
    }
    Ok(true)
}

/// Adds the JSON pointers of all fields below this value. Fields that Kubernetes or the author may name freely are left
/// out.
fn places(value: &Value, at: &str, places: &mut Vec<String>) {
    let is_free = at.ends_with("/labels") || at.ends_with("/matchLabels") || at.ends_with("/headers");
    match value {
        Value::Object(fields) if !is_free => {
            for (name, inner) in fields {
                let at = format!("{at}/{name}");
                places.push(at.clone());
                self::places(inner, &at, places);
            }
        }
        Value::Array(items) => {
            for (index, inner) in items.iter().enumerate() {
                self::places(inner, &format!("{at}/{index}"), places);
            }
        }
        _ => {}
    }
}

fn all_places() -> Vec<String> {
    let mut all = Vec::new();
    places(&base(), "", &mut all);
    all
}

fn parent(pointer: &str) -> (&str, &str) {
    pointer.rsplit_once('/').unwrap()
}

#[test]
fn the_configuration_denies_everything() {
    let engine = accepted(base().to_string().as_bytes()).unwrap();
    let expected = (Verdict::Deny, Some("ns[shop]-policy[deny-all]-rule[0]".to_owned()));
    assert!(decisions(&engine).iter().all(|decision| *decision == expected));
    assert!(denies_all(&base()));
}

#[test]
fn flipped_cut_repeated_and_replaced_bytes() {
    let text = base().to_string().into_bytes();
    let edits = proptest::collection::vec((any::<Index>(), any::<Index>(), any::<u8>(), 0..5_u8), 1..=3);
    let survived = Cell::new(0);
    TestRunner::new(cases(8_000))
        .run(&edits, |edits| {
            let mut text = text.clone();
            for (from, length, byte, kind) in edits {
                if text.len() < 2 {
                    break;
                }
                let from = from.index(text.len());
                let to = (from + 1 + length.index(40)).min(text.len());
                match kind {
                    0 => text[from] ^= 1 << (byte % 8),
                    1 => text.truncate(from.max(text.len().saturating_sub(20))),
                    2 => drop(text.drain(from..to)),
                    3 => text = [&text[..to], &text[from..]].concat(),
                    _ => text[from] = b"\"{}[],:*/ aA0"[usize::from(byte) % 13],
                }
            }
            survived.set(survived.get() + u32::from(check(&text)?));
            Ok(())
        })
        .unwrap();
    println!("{} of 8000 were accepted", survived.get());
}

#[test]
fn deleted_and_repeated_fields() {
    let places = all_places();
    TestRunner::new(cases(1_600))
        .run(&(any::<Index>(), any::<Index>(), any::<bool>()), |(place, other, is_deletion)| {
            let (place, other) = (place.get(&places), other.get(&places));
            let (above, name) = parent(place);
            let mut config = base();
            if is_deletion {
                config.pointer_mut(above).unwrap().as_object_mut().unwrap().remove(name);
                check(config.to_string().as_bytes())?;
                return Ok(());
            }
            // The field occurs twice. The two texts have different values for the second one: that of another field,
            // and that of the field itself.
            let twin = base().pointer(other).unwrap().to_string();
            let marker = "\u{1}twin\u{1}";
            config.pointer_mut(above).unwrap().as_object_mut().unwrap().insert(marker.to_owned(), json!(marker));
            let both = format!("{}:{}", json!(marker), json!(marker));
            for text in [
                config.to_string().replace(&both, &format!("{}:{twin}", json!(name))),
                config.to_string().replace(&both, &format!("{}:{}", json!(name), base().pointer(place).unwrap())),
            ] {
                check(text.as_bytes())?;
                prop_assert!(accepted(text.as_bytes()).is_none(), "{place} twice is accepted: {text}");
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn renamed_fields_and_fields_of_another_type_are_refused() {
    for place in all_places() {
        let (above, name) = parent(&place);
        let mut renamed = base();
        let object = renamed.pointer_mut(above).unwrap().as_object_mut().unwrap();
        let value = object.remove(name).unwrap();
        object.insert(format!("{name}X"), value);
        let is_bookkeeping = above.ends_with("/metadata");
        if !is_bookkeeping || name == "name" {
            assert!(accepted(renamed.to_string().as_bytes()).is_none(), "{place} renamed");
        }
        for odd in [json!(null), json!(true), json!(5), json!("x"), json!([[]]), json!({ "x": 5 })] {
            let mut changed = base();
            let before = std::mem::replace(changed.pointer_mut(&place).unwrap(), odd.clone());
            // A policy without `spec` or without rules allows nothing.
            let is_optional = is_bookkeeping && name == "namespace" || ["spec", "rules"].contains(&name);
            let may_be_null = is_optional && odd.is_null();
            if std::mem::discriminant(&before) != std::mem::discriminant(&odd) && !may_be_null {
                assert!(accepted(changed.to_string().as_bytes()).is_none(), "{place} is {odd}");
            }
        }
    }
}
