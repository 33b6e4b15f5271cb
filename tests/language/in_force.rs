//! Which configuration stays in force when a plugin gets one that it cannot use.

use std::rc::Rc;

use mesh_authz::config::NodeMetadata;
use mesh_authz::filter::Plugin;
use mesh_authz::filter::in_force::{InForce, Registry};
use serde_json::json;

use crate::telemetry::Recorder;

fn plugin(path: &str) -> Plugin {
    let policy = json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": { "name": "p" },
        "spec": { "rules": [{ "to": [{ "operation": { "paths": [path] } }] }] },
    });
    let config = json!({ "policies": [policy] }).to_string().into_bytes();
    Plugin::load(config, &NodeMetadata::in_namespace("default"), &Recorder::default()).unwrap()
}

fn stays(registry: &Registry, name: &str, expected: Option<&Rc<InForce>>) {
    let stays = registry.get(name);
    match (&stays, expected) {
        (Some(stays), Some(expected)) => assert!(Rc::ptr_eq(stays, expected), "another one stays in force"),
        (None, None) => {}
        _ => panic!("{name}: {} stays in force", stays.is_some()),
    }
}

#[test]
fn the_last_one_of_the_same_name_stays_as_long_as_it_is_used() {
    let registry = Registry::new();
    stays(&registry, "a", None);
    let first = registry.put("a", plugin("/1"));
    stays(&registry, "a", Some(&first));
    stays(&registry, "b", None);
    drop(first);
    stays(&registry, "a", None);
    let second = registry.put("a", plugin("/2"));
    let of_b = registry.put("b", plugin("/b"));
    stays(&registry, "a", Some(&second));
    stays(&registry, "b", Some(&of_b));
}

/// A stream that stays open keeps the configuration that it began with.
#[test]
fn an_older_one_that_is_still_used_never_comes_back() {
    let registry = Registry::new();
    let first = registry.put("a", plugin("/1"));
    let second = registry.put("a", plugin("/2"));
    stays(&registry, "a", Some(&second));
    drop(second);
    stays(&registry, "a", None);
    let _of_b = registry.put("b", plugin("/b"));
    stays(&registry, "a", None);
    assert!(registry.is_newest("a", &first), "it decides about its own requests, which the gauges tell");
    drop(first);
    let third = registry.put("a", plugin("/3"));
    stays(&registry, "a", Some(&third));
}

#[test]
fn plugins_without_a_name_do_not_share_a_configuration() {
    let registry = Registry::new();
    let _first = registry.put("", plugin("/1"));
    stays(&registry, "", None);
}

#[test]
fn the_first_plugin_stays_the_first_over_its_updates() {
    let registry = Registry::new();
    let first = registry.put("a", plugin("/1"));
    let _other = registry.put("b", plugin("/b"));
    let second = registry.put("a", plugin("/2"));
    assert!(registry.is_newest("a", &second) && !registry.is_newest("a", &first));
    drop(first);
    assert!(registry.is_first("a") && !registry.is_first("b"));
    drop(second);
    assert!(registry.is_first("b"));
}
