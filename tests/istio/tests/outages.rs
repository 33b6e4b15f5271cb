//! What happens while the registry or istiod is away, or a proxy starts again.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use mesh_authz_istio::Role;
use serde_json::json;
use testbed::Request;

use crate::{
    place::{Place, eventually, mesh, status},
    plugin::{Backend, CLOSED, ENFORCED, OPEN, TAG, frontend_reads_data, policy, wasm_plugin},
};

/// Only one test at a time has the second registry.
static SECOND_REGISTRY: Mutex<()> = Mutex::new(());

#[test]
fn while_the_registry_is_away_everything_is_refused_and_a_change_of_the_resource_tries_again() {
    let _one_at_a_time = SECOND_REGISTRY.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let registry = mesh().another_registry().unwrap();
    let url = json!(format!("oci://{}/mesh-authz:{TAG}", registry.address()));
    drop(registry);

    let backend = Backend::new();
    let place = &backend.place;
    let mut plugin = wasm_plugin(place, "plugin", "backend", &[frontend_reads_data(place, "backend")]);
    plugin["spec"]["url"] = url;
    place.apply(&plugin.to_string());
    eventually("without the registry", &CLOSED, || backend.answers());

    // The agent has no timer: it tries again when istiod sends the resource again.
    let _registry = mesh().another_registry().unwrap();
    plugin["spec"]["pluginConfig"]["decisionLog"] = json!("none");
    place.apply(&plugin.to_string());
    eventually("with the registry, and a change", &ENFORCED, || backend.answers());
}

#[test]
fn an_update_to_an_image_that_cannot_be_fetched_refuses_everything_until_it_is_rolled_back() {
    let backend = Backend::new();
    let place = &backend.place;
    let good = wasm_plugin(place, "plugin", "backend", &[frontend_reads_data(place, "backend")]);
    place.apply(&good.to_string());
    eventually("the old image", &ENFORCED, || backend.answers());
    let mut update = good.clone();
    update["spec"]["url"] = json!(format!("oci://{}/mesh-authz:no-such-tag", mesh().registry()));
    place.apply(&update.to_string());
    eventually("the new image", &CLOSED, || backend.answers());
    place.apply(&good.to_string());
    eventually("after the rollback", &ENFORCED, || backend.answers());
}

#[test]
fn while_istiod_is_away_proxies_go_on_and_new_ones_do_not_start() {
    let backend = Backend::at(Place::alone(), |_| json!({ "app": "backend" }));
    let place = &backend.place;
    let data = frontend_reads_data(place, "backend");
    place.apply(&wasm_plugin(place, "plugin", "backend", std::slice::from_ref(&data)).to_string());
    eventually("with istiod", &ENFORCED, || backend.answers());
    let everything = policy("everything", "backend", "ALLOW", json!([{}]));
    let update = wasm_plugin(place, "plugin", "backend", &[data, everything]);

    mesh().stop_istiod();
    assert_eq!(backend.answers(), ENFORCED, "without istiod");
    // The API server cannot ask istiod about the update.
    let refused = mesh().kubectl(&["-n", &place.namespace, "apply", "--server-side", "-f", "-"], &update.to_string());
    assert!(refused.unwrap_err().to_string().contains("validation.istio.io"));
    backend.pod.stop_proxy();
    assert!(backend.pod.start_proxy_within(Duration::from_secs(3)).is_err(), "a proxy is ready without istiod");
    assert_eq!(backend.answers(), [0; 4], "a proxy that is not ready lets requests pass");
    backend.pod.stop_proxy();
    mesh().start_istiod().unwrap();
    backend.pod.start_proxy().unwrap();

    eventually("with istiod again", &ENFORCED, || backend.answers());
    place.apply(&update.to_string());
    eventually("the update", &OPEN, || backend.answers());
}

#[test]
fn a_proxy_that_starts_again_lets_nothing_pass_that_it_refused() {
    let backend = Backend::new();
    let place = &backend.place;
    place.apply(&wasm_plugin(place, "plugin", "backend", &[frontend_reads_data(place, "backend")]).to_string());
    eventually("at first", &ENFORCED, || backend.answers());
    let (done, read) = (AtomicBool::new(false), Request::get("/api/v1/data"));
    let passed = thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut passed = 0;
            while !done.load(Ordering::SeqCst) {
                passed += u64::from(status(&backend.stranger, &read) == 200);
                thread::sleep(Duration::from_millis(1));
            }
            passed
        });
        for _ in 0..3 {
            backend.pod.stop_proxy();
            backend.pod.start_proxy().unwrap();
            eventually("started again", &ENFORCED, || backend.answers());
        }
        done.store(true, Ordering::SeqCst);
        asking.join().unwrap()
    });
    assert_eq!(passed, 0, "requests of a stranger have passed");
}

#[test]
fn a_pod_that_starts_where_a_plugin_is_waiting_is_never_open() {
    let backend = Backend::new();
    let place = &backend.place;
    place.apply(&wasm_plugin(place, "plugin", "late", &[frontend_reads_data(place, "late")]).to_string());
    let late = place.pod("late", Role::Sidecar);
    let _application = late.serve(8080).unwrap();
    let stranger = late.client(8080, Some(&place.certificate("stranger")));
    let frontend = late.client(8080, Some(&place.certificate("frontend")));
    let read = Request::get("/api/v1/data");
    // The pod is ready only when its plugin is.
    assert_eq!(status(&stranger, &read), 403);
    assert_eq!(status(&frontend, &read), 200);
}
