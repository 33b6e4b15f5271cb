//! Several configurations of the filter in one virtual machine: each request is decided by the one of its own listener, also if
//! requests wait in front of the filter, and while configurations come and go.

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use testbed::bootstrap::{self, cluster, direct_response, http_connection_manager};
use testbed::{Client, Envoy, HttpAnswer, HttpAuthorizer, Request, StartOptions};

use crate::rendered::{folder, render, text};
use crate::shared::resources;
use crate::sidecar::{PATIENCE, manager_of, policy, to, wasm};

/// A filter that asks about every request, and gets its answer late if the path says so.
fn waiting(authorizer: &HttpAuthorizer) -> Value {
    let uri = format!("http://{}", authorizer.address());
    json!({
        "name": "waiting",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
            "http_service": { "server_uri": { "uri": uri, "cluster": "authorizer", "timeout": "5s" } },
        },
    })
}

fn authorizer() -> HttpAuthorizer {
    HttpAuthorizer::start(|question| match question.path.rsplit_once("/late-") {
        Some((_, milliseconds)) => HttpAnswer::Late(Duration::from_millis(milliseconds.parse().unwrap())),
        None => HttpAnswer::Response(200, vec![], ""),
    })
    .unwrap()
}

/// A listener that refuses what begins with this path.
fn listener(name: &str, refused: &str, authorizer: &HttpAuthorizer) -> Value {
    let files =
        folder(&[policy(&format!("no-{refused}"), "DENY", &[to(json!({ "paths": [format!("/{refused}/*")] }))])]);
    let arguments = ["filters", text(files.path()), "--namespace=default", "--no-labels", "--wasm=filter.wasm"];
    let (rendered, _) = render(&arguments);
    let mut filters = rendered["http_filters"].as_array().unwrap().clone();
    filters.insert(0, waiting(authorizer));
    bootstrap::listener(name, http_connection_manager(&filters, &[direct_response(200, "here")]), None)
}

/// An Envoy with one worker, so with one virtual machine for all of these listeners.
fn start(listeners: &[Value], authorizer: &HttpAuthorizer) -> Envoy {
    let mut bootstrap = bootstrap::bootstrap(&[], &[cluster("authorizer", authorizer.address())]);
    bootstrap["dynamic_resources"] = json!({ "lds_config": {
        "resource_api_version": "V3",
        "path_config_source": { "path": "./lds.json" },
    } });
    let mut options = StartOptions::default().file("filter.wasm", wasm()).file("lds.json", resources(listeners));
    options.concurrency = 1;
    Envoy::start_with(&bootstrap, &options).unwrap()
}

fn status(envoy: &Envoy, listener: &str, path: &str) -> u16 {
    Client::plain(envoy.address(listener).unwrap()).send(&Request::get(path)).unwrap().status
}

#[track_caller]
fn wait_for(envoy: &Envoy, listener: &str, path: &str, expected: u16) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = status(envoy, listener, path);
        if seen == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{listener}{path} stays {seen}:\n{}", envoy.log());
        thread::sleep(Duration::from_millis(10));
    }
}

/// Requests overtake each other in front of the filter.
#[test]
fn requests_that_wait_are_decided_by_the_policies_of_their_own_listener() {
    let authorizer = authorizer();
    let names = ["a", "b", "c"];
    let listeners: Vec<_> = names.iter().map(|name| listener(name, name, &authorizer)).collect();
    let envoy = start(&listeners, &authorizer);
    thread::scope(|scope| {
        for number in 0..12_usize {
            let envoy = &envoy;
            scope.spawn(move || {
                let own = names[number % 3];
                for round in 0..20_usize {
                    let asked = names[(number + round) % 3];
                    let path = format!("/{asked}/late-{}", (number * 7 + round * 13) % 40);
                    let expected = if own == asked { 403 } else { 200 };
                    assert_eq!(status(envoy, own, &path), expected, "{own}: {path}");
                }
            });
        }
    });
    assert!(!envoy.log().contains("unknown_context"), "{}", envoy.log());
}

/// A request that waits is decided by the policies that were in force when it came, also if their listener changes or goes
/// meanwhile.
#[test]
fn configurations_come_and_go_while_requests_wait() {
    let authorizer = authorizer();
    // A port that stays the same: only the filter chains of the listener are replaced.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let of_a = |refused: &str| {
        let mut listener = listener("a", refused, &authorizer);
        listener["address"]["socket_address"]["port_value"] = json!(free);
        listener
    };
    let (a, b) = (of_a("a"), listener("b", "b", &authorizer));
    let envoy = start(&[a.clone(), b.clone()], &authorizer);
    let replace = |listeners: &[Value]| envoy.write_file_atomically("lds.json", resources(listeners)).unwrap();
    assert_eq!([status(&envoy, "a", "/a/1"), status(&envoy, "a", "/b/1")], [403, 200]);

    let address = envoy.address("a").unwrap();
    let sent = |path: &'static str| {
        let waiting = thread::spawn(move || Client::plain(address).send(&Request::get(path)).unwrap().status);
        let asked = || authorizer.questions().iter().any(|question| question.path == path);
        let deadline = Instant::now() + PATIENCE;
        while !asked() {
            assert!(Instant::now() < deadline);
            thread::sleep(Duration::from_millis(5));
        }
        waiting
    };
    let changed = of_a("b");
    let waiting = [sent("/a/late-1500"), sent("/b/late-1501")];
    replace(&[changed.clone(), b.clone()]);
    wait_for(&envoy, "a", "/b/1", 403);
    assert_eq!(status(&envoy, "a", "/a/1"), 200);
    assert_eq!(waiting.map(|waiting| waiting.join().unwrap()), [403, 200]);

    // The other listener goes, and comes back with other policies; the first one changes again and again.
    for round in 0..6 {
        let second = listener("b", if round % 2 == 0 { "x" } else { "y" }, &authorizer);
        replace(std::slice::from_ref(&changed));
        wait_for(&envoy, "a", "/b/1", 403);
        replace(&[a.clone(), second]);
        wait_for(&envoy, "a", "/a/1", 403);
        wait_for(&envoy, "b", if round % 2 == 0 { "/x/1" } else { "/y/1" }, 403);
        assert_eq!(status(&envoy, "a", "/b/1"), 200);
    }
    assert!(!envoy.log().contains("unknown_context"), "{}", envoy.log());
}

/// Where Envoy does not let the filter ask which filters exist, none of their configurations stays in force.
#[test]
fn without_the_call_that_tells_what_exists_nothing_stays_in_force() {
    let authorizer = authorizer();
    let functions = [
        "environ_get",
        "environ_sizes_get",
        "fd_write",
        "proc_exit",
        "proxy_define_metric",
        "proxy_get_buffer_bytes",
        "proxy_get_current_time_nanoseconds",
        "proxy_get_header_map_pairs",
        "proxy_get_log_level",
        "proxy_get_property",
        "proxy_increment_metric",
        "proxy_log",
        "proxy_on_configure",
        "proxy_on_context_create",
        "proxy_on_request_headers",
        "proxy_on_tick",
        "proxy_on_vm_start",
        "proxy_record_metric",
        "proxy_send_local_response",
        "proxy_set_property",
        "proxy_set_tick_period_milliseconds",
        "random_get",
    ];
    for may_ask in [true, false] {
        let more = may_ask.then_some("proxy_set_effective_context");
        let allowed: Map<_, _> = functions.into_iter().chain(more).map(|name| (name.to_owned(), json!({}))).collect();
        let restricted = |refused: &str, is_valid: bool| {
            let mut listener = listener("a", refused, &authorizer);
            let manager = manager_of(&mut listener);
            let filters = manager["http_filters"].as_array_mut().unwrap();
            let ours = filters.iter_mut().find(|filter| filter["name"] == "mesh_authz").unwrap();
            let config = &mut ours["typed_config"]["config"];
            config["capability_restriction_config"] = json!({ "allowed_capabilities": allowed });
            config["configuration"]["value"]["onInvalid"] = json!("deny");
            if !is_valid {
                config["configuration"]["value"]["policies"] = json!(5);
            }
            listener
        };
        let envoy = start(&[restricted("a", true)], &authorizer);
        assert_eq!([status(&envoy, "a", "/a/1"), status(&envoy, "a", "/b/1")], [403, 200]);
        envoy.write_file_atomically("lds.json", resources(&[restricted("a", false)])).unwrap();
        if may_ask {
            envoy.wait_for_log("the previous one stays in force", PATIENCE).unwrap();
            assert_eq!([status(&envoy, "a", "/a/1"), status(&envoy, "a", "/b/1")], [403, 200]);
        } else {
            wait_for(&envoy, "a", "/b/1", 403);
            assert!(envoy.log().contains("does not let the filter call proxy_set_effective_context"));
        }
    }
}
