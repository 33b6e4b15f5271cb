//! Many resources for a cluster: their names, and how much there is of them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::mesh_authz;

fn policy(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": { "name": name, "namespace": namespace },
        "spec": spec,
    })
}

/// A policy for the workloads with these labels.
fn selecting(namespace: &str, name: &str, labels: &Value) -> Value {
    let rules = json!([{ "to": [{ "operation": { "methods": ["GET"] } }] }]);
    policy(namespace, name, &json!({ "selector": { "matchLabels": labels }, "rules": rules }))
}

/// What `render wasm-plugin` prints for these policies.
fn rendered(policies: &[Value], more: &[&str]) -> String {
    let arguments = ["render", "wasm-plugin", "-", "--url=x", "--format=json"];
    let output = mesh_authz(&[&arguments, more].concat(), policies);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The names of the plugins.
fn names(policies: &[Value]) -> Vec<String> {
    let list: Value = serde_json::from_str(&rendered(policies, &[])).unwrap();
    let plugins = list["items"].as_array().unwrap().iter().filter(|item| item["kind"] == "WasmPlugin");
    plugins.map(|plugin| plugin["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// A name, the policy with a number, other policies, and options.
type Case<'c> = (&'c str, &'c dyn Fn(usize) -> Value, Vec<Value>, &'c [&'c str]);

/// The size is exactly proportional, apart from what is there once: each policy has as many bytes as any other.
#[test]
fn twice_as_many_policies_are_twice_as_much() {
    let separate = |number: usize| selecting(&format!("ns{number:05}"), "p", &json!({ "app": "orders" }));
    let in_one_namespace =
        |number: usize| selecting("shop", &format!("p{number:05}"), &json!({ "app": format!("app{number:05}") }));
    let for_all = || policy("istio-system", "all", &json!({ "rules": [{}] }));
    let cases: [Case<'_>; 5] = [
        ("separate namespaces", &separate, vec![], &[]),
        ("one namespace", &in_one_namespace, vec![], &[]),
        ("a policy for the whole mesh", &separate, vec![for_all()], &[]),
        ("HTTP is for the plugin", &separate, vec![], &["--plugin-decides-http"]),
        ("HTTP is for the plugin, one namespace", &in_one_namespace, vec![], &["--plugin-decides-http"]),
    ];
    for (name, policy, common, more) in cases {
        let [small, middle, large] = [50, 100, 200].map(|count| {
            let mut policies = common.clone();
            policies.extend((0..count).map(policy));
            rendered(&policies, more).len()
        });
        assert_eq!(large - middle, 2 * (middle - small), "{name}: {small}, {middle}, {large}");
    }
}

#[test]
fn selectors_that_look_alike_have_names_of_their_own() {
    let long = |end: &str| format!("{}{end}", "a".repeat(62));
    let selectors = [
        json!({ "app": "a-b" }),
        json!({ "app": "a.b" }),
        json!({ "app": "A-B" }),
        json!({ "app": "a_b" }),
        json!({ "app": "a", "version": "b" }),
        json!({ "app": "b", "version": "a" }),
        json!({ "version": "a-b" }),
        json!({ "app": long("1") }),
        json!({ "app": long("2") }),
        json!({ "app": "gateway-a" }),
    ];
    let mut policies: Vec<_> =
        selectors.iter().enumerate().map(|(number, labels)| selecting("shop", &format!("p{number}"), labels)).collect();
    let gateway = json!([{ "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "a" }]);
    policies.push(policy("shop", "gateway", &json!({ "targetRefs": gateway, "rules": [{}] })));
    let names = names(&policies);
    assert_eq!(names.len(), policies.len(), "{names:?}");
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    assert!(names.iter().all(|name| name.len() <= 63), "{names:?}");
}

/// The SHA-256 hashes of these two selectors begin with the same 40 bits. A name has 80 bits, for which nobody can find two
/// selectors.
#[test]
fn selectors_that_collide_in_a_short_hash_have_names_of_their_own() {
    let values = ["app-44ab3", "app-bc077"];
    let policies = values.map(|value| selecting("shop", value, &json!({ "app": value })));
    let names = names(&policies);
    let hashes: Vec<_> = names.iter().map(|name| name.rsplit_once('-').unwrap().1).collect();
    assert_eq!([&hashes[0][..10], &hashes[1][..10]], ["1cd34a2358"; 2]);
    assert_eq!([hashes[0].len(), hashes[1].len()], [20; 2]);
    assert_ne!(hashes[0], hashes[1]);
}
