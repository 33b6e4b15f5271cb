//! Updates, rollback, and an upgrade of the module.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use mesh_authz_istio::Role;
use serde_json::json;
use testbed::Request;

use crate::{
    place::{always_until, eventually, status},
    plugin::{Backend, CLOSED, ENFORCED, OPEN, TAG, digest_of, frontend_reads_data, plugin_with, policy, wasm_plugin},
};

#[test]
fn updates_under_load_interrupt_nothing() {
    const UPDATES: usize = 20;
    let backend = Backend::new();
    let place = &backend.place;
    let data = frontend_reads_data(place, "backend");
    let strangers =
        policy("strangers", "backend", "ALLOW", json!([{ "to": [{ "operation": { "methods": ["GET"] } }] }]));
    let versions = [
        (wasm_plugin(place, "plugin", "backend", std::slice::from_ref(&data)), ENFORCED),
        (wasm_plugin(place, "plugin", "backend", &[data, strangers]), [200, 403, 200, 200]),
    ];
    place.apply(&versions[0].0.to_string());
    eventually("the first version", &ENFORCED, || backend.answers());

    let done = AtomicBool::new(false);
    let load = |client, method| {
        let request = Request::new(method, "/api/v1/data");
        let mut seen = BTreeMap::new();
        while !done.load(Ordering::SeqCst) {
            *seen.entry(status(client, &request)).or_insert(0) += 1;
        }
        seen
    };
    let (reads, writes) = thread::scope(|scope| {
        let reads = scope.spawn(|| load(&backend.frontend, "GET"));
        let writes = scope.spawn(|| load(&backend.stranger, "POST"));
        for (version, answers) in versions.iter().cycle().take(UPDATES) {
            place.apply(&version.to_string());
            eventually("the next version", answers, || backend.answers());
        }
        done.store(true, Ordering::SeqCst);
        (reads.join().unwrap(), writes.join().unwrap())
    });
    assert_eq!(reads.keys().collect::<Vec<_>>(), [&200], "reads that every version allows: {reads:?}");
    assert_eq!(writes.keys().collect::<Vec<_>>(), [&403], "writes that no version allows: {writes:?}");
    println!("{UPDATES} updates during {} requests", reads[&200] + writes[&403]);
}

/// docs/istio.md: the module first. Another form of the same image stands for a new version.
#[test]
fn a_new_image_takes_over_without_an_interruption() {
    let backend = Backend::new();
    let place = &backend.place;
    let mut plugin = wasm_plugin(place, "plugin", "backend", &[frontend_reads_data(place, "backend")]);
    place.apply(&plugin.to_string());
    eventually("the old image", &ENFORCED, || backend.answers());
    for tag in [format!("{TAG}-artifact"), TAG.to_owned()] {
        plugin["spec"]["url"] = json!(format!("oci://{}/mesh-authz:{tag}", place.mesh.registry()));
        plugin["spec"]["sha256"] = json!(digest_of(&tag));
        place.apply(&plugin.to_string());
        let fetched = format!("with tag {tag}");
        always_until(&fetched, || backend.pod.log().contains(&fetched), || assert_eq!(backend.answers(), ENFORCED));
    }
}

/// docs/istio.md: the configuration second.
#[test]
fn a_configuration_of_a_later_version_leaves_the_old_one_in_force() {
    let backend = Backend::new();
    let place = &backend.place;
    let plugin = wasm_plugin(place, "plugin", "backend", &[frontend_reads_data(place, "backend")]);
    place.apply(&plugin.to_string());
    eventually("this version", &ENFORCED, || backend.answers());
    let mut later = plugin.clone();
    later["spec"]["pluginConfig"]["fieldOfALaterVersion"] = json!(true);
    place.apply(&later.to_string());
    eventually("it is refused", &true, || gauge(&backend, "config.refused") == Some(1));
    assert_eq!(backend.answers(), ENFORCED);
    place.apply(&plugin.to_string());
    eventually("after the rollback", &true, || gauge(&backend, "config.refused") == Some(0));
    assert_eq!(backend.answers(), ENFORCED);
}

/// One of the filter's gauges, as Istio lets Envoy keep them: `proxyStatsMatcher` has the prefix `wasmcustom`.
fn gauge(backend: &Backend, name: &str) -> Option<u64> {
    let stats = backend.pod.admin("/stats?usedonly").unwrap();
    let line = stats.lines().find(|line| line.contains("mesh_authz") && line.contains(name))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn a_configuration_that_is_bad_from_the_start_refuses_everything() {
    let backend = Backend::new();
    let place = &backend.place;
    place.apply(&plugin_with("plugin", "backend", &json!({ "policies": 1, "onInvalid": "deny" })).to_string());
    eventually("a bad configuration", &CLOSED, || backend.answers());
    place.kubectl(&["delete", "wasmplugin", "plugin"], "");
    eventually("deleted", &OPEN, || backend.answers());
    place.apply(&wasm_plugin(place, "plugin", "backend", &[frontend_reads_data(place, "backend")]).to_string());
    eventually("a good one under the same name", &ENFORCED, || backend.answers());
}

/// A plugin for the whole namespace, with policies for one workload.
#[test]
fn an_unrelated_workload_in_reach_of_a_plugin_goes_on_as_before() {
    let backend = Backend::new();
    let place = &backend.place;
    let other = place.pod("other", Role::Sidecar);
    let _application = other.serve(8080).unwrap();
    let client = other.client(8080, Some(&place.certificate("stranger")));
    let others = || status(&client, &Request::get("/"));
    let mut plugin = wasm_plugin(place, "plugin", "backend", &[frontend_reads_data(place, "backend")]);
    plugin["spec"].as_object_mut().unwrap().remove("selector");
    plugin["spec"]["pluginConfig"]["allowNoneApplies"] = json!(true);
    place.apply(&plugin.to_string());
    eventually("the workload of the policies, and the other one", &(ENFORCED, 200), || (backend.answers(), others()));
    plugin["spec"]["pluginConfig"]["fieldOfALaterVersion"] = json!(true);
    place.apply(&plugin.to_string());
    eventually("it is refused", &true, || gauge(&backend, "config.refused") == Some(1));
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(1) {
        assert_eq!((backend.answers(), others()), (ENFORCED, 200));
    }
}
