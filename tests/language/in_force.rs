//! Which configuration stays in force when a plugin gets one that it cannot use.

use std::rc::Rc;

use mesh_authz::config::{NodeMetadata, workload_of};
use mesh_authz::filter::Plugin;
use mesh_authz::filter::in_force::{FilterId, InForce, Registry};
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

fn id(name: &str) -> FilterId {
    FilterId { name: name.to_owned(), workload: workload_of(b"{}") }
}

fn stays(registry: &Registry, name: &str, expected: Option<&Rc<InForce>>) {
    let stays = registry.get(&id(name));
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
    let first = registry.put(&id("a"), plugin("/1"));
    stays(&registry, "a", Some(&first));
    stays(&registry, "b", None);
    drop(first);
    stays(&registry, "a", None);
    let second = registry.put(&id("a"), plugin("/2"));
    let of_b = registry.put(&id("b"), plugin("/b"));
    stays(&registry, "a", Some(&second));
    stays(&registry, "b", Some(&of_b));
}

/// A stream that stays open keeps the configuration that it began with.
#[test]
fn an_older_one_that_is_still_used_never_comes_back() {
    let registry = Registry::new();
    let first = registry.put(&id("a"), plugin("/1"));
    let second = registry.put(&id("a"), plugin("/2"));
    stays(&registry, "a", Some(&second));
    drop(second);
    stays(&registry, "a", None);
    let _of_b = registry.put(&id("b"), plugin("/b"));
    stays(&registry, "a", None);
    assert!(registry.is_newest(&id("a"), &first), "it decides about its own requests, which the gauges tell");
    drop(first);
    let third = registry.put(&id("a"), plugin("/3"));
    stays(&registry, "a", Some(&third));
}

#[test]
fn plugins_without_a_name_do_not_share_a_configuration() {
    let registry = Registry::new();
    let _first = registry.put(&id(""), plugin("/1"));
    stays(&registry, "", None);
}

#[test]
fn the_first_plugin_stays_the_first_over_its_updates() {
    let registry = Registry::new();
    let first = registry.put(&id("a"), plugin("/1"));
    let _other = registry.put(&id("b"), plugin("/b"));
    let second = registry.put(&id("a"), plugin("/2"));
    assert!(registry.is_newest(&id("a"), &second) && !registry.is_newest(&id("a"), &first));
    drop(first);
    assert!(registry.is_first(&id("a")) && !registry.is_first(&id("b")));
    drop(second);
    assert!(registry.is_first(&id("b")));
}

/// Two listeners of one Envoy can load filters with the same name, for two workloads.
#[test]
fn filters_of_two_workloads_do_not_share_a_configuration() {
    let with = |workload: &str| FilterId { name: "a".to_owned(), workload: workload_of(workload.as_bytes()) };
    let web = with(r#"{"workload":{"namespace":"web"},"policies":[]}"#);
    let registry = Registry::new();
    let in_force = registry.put(&web, plugin("/1"));
    let again = registry.get(&with(r#"{"onInvalid":"deny","workload":{"namespace":"web"},"policies":[5]}"#));
    assert!(again.is_some_and(|again| Rc::ptr_eq(&again, &in_force)), "the order of the fields says nothing");
    for other in [
        r#"{"workload":{"namespace":"vault"}}"#,
        r#"{"workload":{"namespace":"web","labels":{}}}"#,
        r#"{"workload":{"namespace":"web"},"gateway":{"name":"web"}}"#,
        r#"{"workload":{"namespace":"web"},"workload":{"namespace":"web"}}"#,
        r#"{"workload":5}"#,
        "{}",
        r#"{"onInvalid":"deny","policies":["#,
        "",
    ] {
        assert!(registry.get(&with(other)).is_none(), "{other}");
    }
    assert!(registry.is_first(&web) && !registry.is_first(&with("{}")));
}

#[test]
fn a_configuration_whose_workload_cannot_be_read_is_nobodys() {
    assert_eq!(workload_of(br#"{"onInvalid":"deny","policies":["#), None, "the workload may be in the rest");
    assert!(workload_of(br#"{"workload":{"namespace":"a"},"policies":["#).is_none(), "so may the gateway");
    assert_eq!(workload_of(b"{}"), workload_of(br#"{"policies":[]}"#));
    let registry = Registry::new();
    let id = FilterId { name: "a".to_owned(), workload: None };
    let _in_force = registry.put(&id, plugin("/1"));
    assert!(registry.get(&id).is_none());
}

/// An earlier module, or a mistake, must not leave the workload without a configuration.
#[test]
fn what_does_not_describe_the_workload_does_not_make_another_filter() {
    let with = |workload: &str| workload_of(format!(r#"{{"workload":{workload},"policies":[]}}"#).as_bytes());
    assert_eq!(with(r#"{"matchLabels":{"app":"x"}}"#), workload_of(b"{}"));
    let web = with(r#"{"namespace":"web"}"#);
    assert!(web.is_some() && web != workload_of(b"{}"));
    assert_eq!(with(r#"{"namespace":"web","matchLabels":{"app":"x"},"unknown":1}"#), web);
}

/// A policy for one more service must not leave the waypoint without a configuration if something else is wrong.
#[test]
fn the_services_that_a_waypoint_tells_apart_do_not_make_another_filter() {
    let with =
        |services: &str| workload_of(format!(r#"{{"gateway":{{"name":"w","services":[{services}]}}}}"#).as_bytes());
    let cart = r#"{"host":"cart.shop.svc.mesh","namespace":"shop","name":"cart"}"#;
    let pay = r#"{"host":"pay.shop.svc.mesh","namespace":"shop","name":"pay"}"#;
    assert!(with(cart).is_some());
    assert_eq!(with(cart), with(&format!("{cart},{pay}")));
    assert_eq!(with(cart), with(""));
    assert_ne!(with(r#""shop/cart""#), with(r#""shop/pay""#), "a filter for each service");
    assert_ne!(with(r#""shop/cart""#), with(cart));
}
