//! The logs and metrics that operators read: who was refused, by which policy and why, and what dry runs would change.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use mesh_authz::policy::Traffic;
use mesh_authz_cli::access_log::happened::{Evidence, Happened};
use mesh_authz_cli::load::yaml;
use serde_json::{Value, json};
use testbed::{Http2Request, Request, Response, San};

use crate::shared::resources;
use crate::sidecar::{
    Blueprint, FRONTEND, PATIENCE, STRANGER, Sidecar, denied_by, manager_of, policy, project, to, when,
};
use crate::updates::listener;

/// A policy that matches all paths below `path`.
fn below(name: &str, action: &str, path: &str) -> Value {
    policy(name, action, &[to(json!({ "paths": [format!("{path}/*")] }))])
}

fn dry_run(mut policy: Value) -> Value {
    policy["metadata"]["annotations"] = json!({ "istio.io/dry-run": "true" });
    policy
}

fn get(sidecar: &Sidecar, path: &str) -> Response {
    sidecar.client(FRONTEND).send(&Request::get(path)).unwrap()
}

/// The counters and gauges of the filter, by name. The common prefix of the names is removed.
fn metrics(sidecar: &Sidecar) -> BTreeMap<String, u64> {
    let stats = sidecar.envoy.stats().unwrap();
    let ours = stats
        .into_iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("wasmcustom.mesh_authz.")?.to_owned(), value)));
    ours.collect()
}

fn wait_for(sidecar: &Sidecar, metric: &str, value: u64) {
    sidecar.envoy.wait_for_stat(&format!("wasmcustom.mesh_authz.{metric}"), |now| now == value, PATIENCE).unwrap();
}

/// The decision in the access log's line about a path.
fn access_log(sidecar: &Sidecar, path: &str) -> Value {
    // A line of the decision log also has the path, but another field after it.
    let line = format!("\"path\":{},\"peer\"", json!(path));
    sidecar.envoy.wait_for_log(&line, PATIENCE).unwrap();
    let log = sidecar.envoy.log();
    let line = log.lines().find(|text| text.starts_with('{') && text.contains(&line)).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    line["mesh_authz"].as_str().map_or(Value::Null, |text| serde_json::from_str(text).unwrap())
}

/// Policies of every kind. Each one matches paths of its own.
fn every_kind() -> Vec<Value> {
    vec![
        below("allow", "ALLOW", "/open"),
        below("allow-more", "ALLOW", "/audited"),
        below("allow-tried", "ALLOW", "/tried"),
        below("deny.everything", "DENY", "/closed"),
        below("audit", "AUDIT", "/audited"),
        dry_run(below("try-allow", "ALLOW", "/open")),
        dry_run(below("try-deny", "DENY", "/tried")),
    ]
}

#[test]
fn counters_say_what_was_decided_and_by_which_policy() {
    let mut blueprint = Blueprint::new(&json!({ "policies": every_kind() }));
    blueprint.options.concurrency = 2;
    let sidecar = blueprint.start();
    wait_for(&sidecar, "config.policies", 7);
    let before = metrics(&sidecar);
    let policies = ["allow", "allow-more", "allow-tried", "deny.everything", "audit", "try-allow", "try-deny"];
    for policy in policies {
        assert_eq!(before.get(&format!("policy.default.{policy}.matched")), Some(&0), "{before:#?}");
    }
    let is_counter = |name: &str| !name.starts_with("config.") && name != "version";
    assert_eq!(before.iter().filter(|(name, value)| is_counter(name) && **value != 0).count(), 0);
    assert_eq!((before["config.policies"], before["config.rules"]), (7, 7));
    assert_ne!(before["config.hash"], 0);

    for (path, status) in
        [("/open/1", 200), ("/open/2", 200), ("/audited/1", 200), ("/tried/1", 200), ("/closed/1", 403), ("/none", 403)]
    {
        assert_eq!(get(&sidecar, path).status, status, "{path}");
    }
    wait_for(&sidecar, "denied", 2);
    wait_for(&sidecar, "allowed", 4);
    let expected = [
        ("allowed", 4),
        ("audited", 1),
        ("denied", 2),
        ("dry_run_allow.allowed", 2),
        ("dry_run_allow.denied", 4),
        ("dry_run_deny.allowed", 5),
        ("dry_run_deny.denied", 1),
        ("policy.default.allow-more.matched", 1),
        ("policy.default.allow-tried.matched", 1),
        ("policy.default.allow.matched", 2),
        ("policy.default.audit.matched", 1),
        ("policy.default.deny.everything.matched", 1),
        ("policy.default.try-allow.matched", 2),
        ("policy.default.try-deny.matched", 1),
        ("unnormalized_path", 0),
        ("unreadable_attribute", 0),
    ];
    // Two workers may report their counters at different times.
    for (name, value) in expected {
        wait_for(&sidecar, name, value);
    }
    let now = metrics(&sidecar);
    let counters: Vec<_> = now.iter().filter(|(name, _)| is_counter(name)).collect();
    assert_eq!(
        counters,
        expected.map(|(name, value)| (name.to_owned(), value)).iter().map(|(n, v)| (n, v)).collect::<Vec<_>>()
    );
    assert_eq!(now["version"], version_number());
}

/// 1.2.3 is 1002003.
fn version_number() -> u64 {
    env!("CARGO_PKG_VERSION").split('.').fold(0, |number, part| number * 1_000 + part.parse::<u64>().unwrap())
}

#[test]
fn counters_of_several_workers_add_up_exactly() {
    let mut blueprint = Blueprint::new(&json!({ "policies": every_kind() }));
    blueprint.options.concurrency = 4;
    let sidecar = blueprint.start();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for path in ["/open/1", "/closed/1"].repeat(25) {
                    get(&sidecar, path);
                }
            });
        }
    });
    wait_for(&sidecar, "allowed", 200);
    wait_for(&sidecar, "denied", 200);
    wait_for(&sidecar, "policy.default.allow.matched", 200);
    wait_for(&sidecar, "policy.default.deny.everything.matched", 200);
}

#[test]
fn an_attribute_that_cannot_be_read_is_counted() {
    let deny = policy("address", "DENY", &[json!({ "from": [{ "source": { "ipBlocks": ["192.0.2.0/24"] } }] })]);
    let sidecar = Blueprint::new(&json!({ "policies": [deny] })).without_source_ip().start();
    assert_eq!(get(&sidecar, "/").status, 403);
    wait_for(&sidecar, "unreadable_attribute", 1);
    assert_eq!(access_log(&sidecar, "/")["unreadable"], "source.ip");
}

#[test]
fn prometheus_gets_namespace_and_name_of_a_policy_as_labels() {
    let mut elsewhere = below("a.b-1.matched", "DENY", "/closed");
    elsewhere["metadata"]["namespace"] = json!("istio-system");
    let sidecar = Sidecar::start(&json!({ "policies": [elsewhere, below("allow", "ALLOW", "/open")] }));
    get(&sidecar, "/closed/1");
    wait_for(&sidecar, "policy.istio-system.a.b-1.matched.matched", 1);
    let text = sidecar.envoy.prometheus().unwrap();
    let ours: Vec<_> = text.lines().filter(|line| line.contains("mesh_authz_")).collect();
    for line in [
        "mesh_authz_policy_matched{policy_namespace=\"istio-system\",policy=\"a.b-1.matched\"} 1",
        "mesh_authz_policy_matched{policy_namespace=\"default\",policy=\"allow\"} 0",
        "mesh_authz_denied{} 1",
        "mesh_authz_allowed{} 0",
        "# TYPE mesh_authz_policy_matched counter",
        "# TYPE mesh_authz_config_hash gauge",
        "mesh_authz_config_rules{} 2",
    ] {
        assert!(ours.contains(&line), "{line} is not in {ours:#?}");
    }
}

#[test]
fn a_refused_configuration_leaves_no_metric_and_an_accepted_one_says_which_it_is() {
    let with = |policies: &[Value]| listener(&json!({ "policies": policies }));
    let sidecar = Blueprint::new(&json!({})).with_listeners(&[with(&[below("first", "DENY", "/1")])]).start();
    let update = |listener: Value| sidecar.envoy.write_file_atomically("lds.json", resources(&[listener])).unwrap();
    wait_for(&sidecar, "config.policies", 1);
    wait_for(&sidecar, "config.refused", 0);
    let first = metrics(&sidecar);
    let mut wrong = below("wrong", "DENY", "/2");
    wrong["spec"]["rulez"] = json!([]);
    update(with(&[below("second", "DENY", "/2"), wrong]));
    sidecar.envoy.wait_for_stat("listener_manager.lds.update_rejected", |count| count == 1, PATIENCE).unwrap();
    assert_eq!(metrics(&sidecar), first);

    update(with(&[below("second", "DENY", "/2"), below("third", "DENY", "/3")]));
    wait_for(&sidecar, "config.policies", 2);
    let struct_hash = metrics(&sidecar)["config.hash"];
    assert_ne!(struct_hash, first["config.hash"]);
    // The same policies as JSON, in another order.
    let mut blueprint = Blueprint::new(&json!({}));
    let policies = [below("third", "DENY", "/3"), below("second", "DENY", "/2")];
    blueprint.wasm_filter()["configuration"] = json!({
        "@type": "type.googleapis.com/google.protobuf.StringValue",
        "value": json!({ "policies": policies }).to_string(),
    });
    wait_for(&blueprint.start(), "config.hash", struct_hash);
}

#[test]
fn plugins_that_share_a_virtual_machine_do_not_overwrite_each_others_gauges() {
    let mut blueprint = Blueprint::new(&json!({ "policies": [below("one", "DENY", "/1")] }));
    let filters = blueprint.manager()["http_filters"].as_array_mut().unwrap();
    let position = filters.iter().position(|filter| filter["name"] == "mesh_authz").unwrap();
    let mut second = filters[position].clone();
    second["name"] = json!("second");
    second["typed_config"]["config"]["name"] = json!("second");
    second["typed_config"]["config"]["configuration"]["value"] =
        json!({ "policies": [below("two", "DENY", "/2"), below("three", "DENY", "/3")] });
    filters.insert(position + 1, second);
    blueprint.options.concurrency = 2;
    let sidecar = blueprint.start();
    assert_eq!(["/1/x", "/2/x", "/3/x", "/4"].map(|path| get(&sidecar, path).status), [403, 403, 403, 200]);
    wait_for(&sidecar, "config.policies", 1);
    wait_for(&sidecar, "instance.second.config.policies", 2);
    wait_for(&sidecar, "instance.second.config.refused", 0);
    let hashes = || {
        let now = metrics(&sidecar);
        (now["config.hash"], now["instance.second.config.hash"])
    };
    let first = hashes();
    assert_ne!(first.0, first.1);
    // Every worker has reported by now.
    thread::sleep(Duration::from_millis(2_500));
    assert_eq!(hashes(), first);
}

/// Envoy rejects the whole update, also the filters in it that are valid.
#[test]
fn after_an_update_that_envoy_rejects_the_gauges_tell_what_decides() {
    let config = |name: &str| json!({ "policies": [below(name, "DENY", "/1")] });
    let sidecar = Blueprint::new(&json!({})).with_listeners(&[listener(&config("first"))]).start();
    wait_for(&sidecar, "config.policies", 1);
    let first = metrics(&sidecar)["config.hash"];
    let mut update = listener(&json!({ "policies": [below("second", "DENY", "/1"), below("third", "DENY", "/3")] }));
    let filters = manager_of(&mut update)["http_filters"].as_array_mut().unwrap();
    let position = filters.iter().position(|filter| filter["name"] == "mesh_authz").unwrap();
    let mut invalid = filters[position].clone();
    invalid["name"] = json!("invalid");
    invalid["typed_config"]["config"]["configuration"]["value"] = json!({ "policies": 7 });
    filters.insert(position + 1, invalid);
    sidecar.envoy.write_file_atomically("lds.json", resources(&[update])).unwrap();
    sidecar.envoy.wait_for_stat("listener_manager.lds.update_rejected", |count| count == 1, PATIENCE).unwrap();
    for _ in 0..25 {
        assert_eq!((get(&sidecar, "/1/x").status, get(&sidecar, "/3/x").status), (403, 200));
        assert_eq!((metrics(&sidecar)["config.hash"], metrics(&sidecar)["config.policies"]), (first, 1));
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn what_an_old_configuration_has_counted_is_not_lost_when_it_goes() {
    let config = |name: &str| listener(&json!({ "policies": [below(name, "DENY", "/closed")] }));
    let mut blueprint = Blueprint::new(&json!({})).with_listeners(&[config("first")]);
    blueprint.options.extra_args = ["--drain-time-s", "0"].map(str::to_owned).to_vec();
    let sidecar = blueprint.start();
    get(&sidecar, "/closed/1");
    sidecar.envoy.write_file_atomically("lds.json", resources(&[config("second")])).unwrap();
    sidecar.envoy.wait_for_stat("listener_manager.lds.update_success", |count| count == 2, PATIENCE).unwrap();
    wait_for(&sidecar, "policy.default.first.matched", 1);
    get(&sidecar, "/closed/1");
    wait_for(&sidecar, "policy.default.second.matched", 1);
    wait_for(&sidecar, "denied", 2);
}

#[test]
fn the_access_log_has_what_dry_runs_and_audits_found_also_by_istios_names() {
    let sidecar = Sidecar::start(&json!({ "policies": every_kind() }));
    for path in ["/open/1", "/audited/1", "/tried/1", "/none"] {
        get(&sidecar, path);
    }
    let id = |policy: &str| format!("ns[default]-policy[{policy}]-rule[0]");
    assert_eq!(
        access_log(&sidecar, "/open/1"),
        json!({
            "decision": "ALLOW", "policy": "default/allow", "rule": 0,
            "dry_run_allow": { "decision": "ALLOW", "rule": id("try-allow") },
            "dry_run_deny": { "decision": "ALLOW", "rule": null },
            "istio_dry_run_allow_shadow_engine_result": "allowed",
            "istio_dry_run_allow_shadow_effective_policy_id": id("try-allow"),
            "istio_dry_run_deny_shadow_engine_result": "allowed",
        })
    );
    let tried = access_log(&sidecar, "/tried/1");
    assert_eq!(tried["decision"], "ALLOW");
    assert_eq!(tried["istio_dry_run_allow_shadow_engine_result"], "denied");
    assert_eq!(tried.get("istio_dry_run_allow_shadow_effective_policy_id"), None);
    assert_eq!(tried["istio_dry_run_deny_shadow_engine_result"], "denied");
    assert_eq!(tried["istio_dry_run_deny_shadow_effective_policy_id"], id("try-deny"));
    assert_eq!(access_log(&sidecar, "/audited/1")["audited"], id("audit"));
    let none = access_log(&sidecar, "/none");
    assert_eq!((&none["decision"], none.get("policy")), (&json!("DENY"), None));
}

#[test]
fn filter_state_is_set_for_what_the_configuration_asks_for() {
    for (setting, allowed, denied) in [
        (json!("none"), Value::Null, Value::Null),
        (json!("notable"), Value::Null, json!("DENY")),
        (json!("all"), json!("ALLOW"), json!("DENY")),
    ] {
        let config = json!({ "policies": [below("deny", "DENY", "/closed")], "filterState": setting });
        let sidecar = Blueprint::new(&config).start();
        get(&sidecar, "/open/1");
        get(&sidecar, "/closed/1");
        let decision = |path| access_log(&sidecar, path).get("decision").cloned().unwrap_or_default();
        assert_eq!([decision("/open/1"), decision("/closed/1")], [allowed, denied], "{setting}");
    }
}

#[test]
fn an_access_log_can_be_text() {
    let mut blueprint = Blueprint::new(&json!({ "policies": [below("deny", "DENY", "/closed")] }));
    blueprint.manager()["access_log"][0]["typed_config"]["log_format"] = json!({ "text_format_source": { "inline_string":
        "%REQ(:METHOD)% %RESPONSE_CODE% %RESPONSE_CODE_DETAILS% authz=%FILTER_STATE(wasm.mesh_authz:PLAIN)%\n" } });
    let sidecar = blueprint.start();
    get(&sidecar, "/closed/1");
    get(&sidecar, "/open/1");
    let details = denied_by("deny", 0);
    let line = format!("GET 403 {details} authz={{\"decision\":\"DENY\",\"policy\":\"default/deny\",\"rule\":0}}\n");
    sidecar.envoy.wait_for_log(&line, PATIENCE).unwrap();
    sidecar.envoy.wait_for_log("GET 200 via_upstream authz=-\n", PATIENCE).unwrap();
}

#[test]
fn a_refusal_because_nothing_allowed_it_is_logged_with_the_nearest_miss() {
    let from = |principal: &str| json!([{ "source": { "principals": [principal] } }]);
    let operation = |method: &str, path: &str| json!([{ "operation": { "methods": [method], "paths": [path] } }]);
    let rules = [
        json!({ "from": from(STRANGER), "to": operation("GET", "/data") }),
        json!({ "from": from(FRONTEND), "to": operation("GET", "/data") }),
        json!({ "from": from(FRONTEND), "to": [{ "operation": { "ports": ["1"], "methods": ["GET"], "notPaths": ["/p"] } }] }),
        when("request.headers[x-tenant]", &["t"]),
    ];
    let mut last = policy("z", "ALLOW", &[rules[3].clone()]);
    last["spec"]["rules"][0]["from"] = from(FRONTEND);
    last["spec"]["rules"][0]["to"] =
        json!([{ "operation": { "methods": ["GET"], "paths": ["/tenant"], "hosts": ["*"] } }]);
    let sidecar = Sidecar::start(
        &json!({ "policies": [policy("allow", "ALLOW", &rules[..2]), policy("ports", "ALLOW", &rules[2..3]), last] }),
    );
    let nearest = |request: Request| {
        let request = request.header("x-secret", "s3cret");
        let line = sidecar.refusal_with_nearest(|| {
            assert_eq!(sidecar.client(FRONTEND).send(&request).unwrap().status, 403);
        });
        assert_eq!(line["reason"], "no ALLOW policy matched");
        line["nearest"].clone()
    };
    assert_eq!(
        nearest(Request::new("DELETE", "/data")),
        json!({ "policy": "default/allow", "rule": 1, "failed": "to[0].operation.methods", "how": "different", "further": 0 })
    );
    let port = sidecar.address().port().to_string();
    assert_eq!(
        nearest(Request::get("/elsewhere")),
        json!({
            "policy": "default/ports", "rule": 0, "failed": "to[0].operation.ports", "how": "different", "further": 0,
            "actual": port,
        })
    );
    for (request, how) in
        [(Request::get("/tenant").header("x-tenant", "s3cret"), "different"), (Request::get("/tenant"), "absent")]
    {
        let key = "request.headers[x-tenant]";
        assert_eq!(
            nearest(request),
            json!({ "policy": "default/z", "rule": 0, "failed": "when[0].values", "key": key, "how": how, "further": 0 })
        );
    }
    assert!(!sidecar.envoy.log().contains("s3cret"));
}

#[test]
fn what_dry_runs_would_refuse_is_logged_at_a_rate_of_its_own() {
    let policies = [below("closed", "DENY", "/closed"), dry_run(below("try-deny", "DENY", "/tried"))];
    let sidecar = Sidecar::start(&json!({ "policies": policies, "decisionLogRate": 1 }));
    for (path, status) in [("/open/1", 200), ("/closed/1", 403), ("/tried/1", 200), ("/tried/2", 200)] {
        assert_eq!(get(&sidecar, path).status, status, "{path}");
    }
    let decisions = sidecar.decisions();
    let paths: Vec<_> = decisions.iter().map(|line| (&line["decision"], &line["path"])).collect();
    assert_eq!(paths, [(&json!("DENY"), &json!("/closed/1")), (&json!("ALLOW"), &json!("/tried/1"))]);
    let rule = "ns[default]-policy[try-deny]-rule[0]";
    assert_eq!(decisions[1]["dry_run_deny"], json!({ "decision": "DENY", "rule": rule }));
    thread::sleep(Duration::from_millis(1_100));
    get(&sidecar, "/tried/3");
    let decisions = sidecar.decisions();
    assert_eq!((&decisions[2]["path"], &decisions[2]["suppressed"]), (&json!("/tried/3"), &json!(1)));
}

/// Envoy's log goes to `explain --log` as it is.
#[test]
fn the_lines_of_the_log_are_enough_to_decide_again() {
    let policies = [
        policy("allow", "ALLOW", &[to(json!({ "paths": ["/open/*"], "methods": ["GET"], "hosts": ["localhost"] }))]),
        policy("port", "ALLOW", &[to(json!({ "paths": ["/port"], "ports": ["1"] }))]),
        policy("header", "ALLOW", &[when("request.headers[x-env]", &["prod"])]),
        below("deny", "DENY", "/open/closed"),
    ];
    let sidecar = Sidecar::start(&json!({ "policies": policies, "decisionLog": "all" }));
    let dir = tempfile::tempdir().unwrap();
    let explain = |policies: &[Value], log: &str| {
        let text = policies.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n---\n");
        fs::write(dir.path().join("policies.yaml"), text).unwrap();
        fs::write(dir.path().join("log"), log).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_mesh-authz"));
        command.current_dir(&dir).args(["explain", "policies.yaml", "--log", "log", "--format", "json"]);
        let output = command.output().unwrap();
        let entries: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let seen = |entry: &Value| (entry["logged"]["decision"].as_str() == Some("ALLOW"), entry["agrees"].as_bool());
        entries.iter().map(seen).collect::<Vec<_>>()
    };
    for (path, status) in [("/open/1?x", 200), ("/open/closed/1", 403)] {
        assert_eq!(get(&sidecar, path).status, status, "{path}");
    }
    assert_eq!(sidecar.client(FRONTEND).send(&Request::get("/port").header("x-env", "prod")).unwrap().status, 200);
    sidecar.decisions();
    let log = sidecar.envoy.log();
    assert_eq!(explain(&policies, &log), [(true, Some(true)), (false, Some(true)), (true, None)]);
    // With other policies, the answers differ.
    assert_eq!(explain(&policies[..1], &log), [(true, Some(true)), (false, Some(false)), (true, Some(false))]);
}

#[test]
fn a_flood_is_logged_at_the_rate_that_is_configured_and_what_is_left_out_is_counted() {
    const REQUESTS: u64 = 300;
    let config = json!({ "policies": [below("allow", "ALLOW", "/open")], "decisionLogRate": 5 });
    let sidecar = Sidecar::start(&config);
    let client = sidecar.client(FRONTEND);
    let mut connection = client.connect().unwrap();
    for _ in 0..REQUESTS {
        assert_eq!(connection.send(&Request::get("/closed")).unwrap().status, 403);
    }
    // After a second, a line is logged again. It says how many lines were suppressed before it.
    thread::sleep(Duration::from_millis(1_100));
    assert_eq!(connection.send(&Request::get("/closed/last")).unwrap().status, 403);
    let lines = sidecar.decisions();
    let suppressed: u64 = lines.iter().filter_map(|line| line["suppressed"].as_u64()).sum();
    assert_eq!(lines.len() as u64 + suppressed, REQUESTS + 1);
    assert!(lines.len() >= 6 && lines.len() < 60, "{} lines", lines.len());
    assert_eq!(lines.last().unwrap()["path"], "/closed/last");
    assert!(lines[..5].iter().all(|line| line.get("suppressed").is_none()));
    wait_for(&sidecar, "denied", REQUESTS + 1);
}

#[test]
fn lines_about_allowed_requests_do_not_take_the_place_of_refusals() {
    let config = json!({ "policies": [below("allow", "ALLOW", "/open")], "decisionLogRate": 1, "decisionLog": "all" });
    let sidecar = Sidecar::start(&config);
    for path in ["/open/1", "/open/2", "/open/3", "/closed"] {
        get(&sidecar, path);
    }
    let decisions = sidecar.decisions();
    let paths: Vec<_> = decisions.iter().map(|line| line["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["/open/1", "/closed"]);
}

#[test]
fn a_refusal_tells_those_who_are_named_what_it_rests_on_and_nobody_else() {
    let rule = json!({ "from": [{ "source": { "principals": [FRONTEND] } }], "to": [{ "operation": { "paths": ["/open"] } }] });
    let policies = [policy("allow", "ALLOW", &[rule]), below("deny", "DENY", "/closed")];
    let with = |principals: Value| {
        let debug = json!({ "name": "x-authz-debug", "principals": principals });
        let config =
            json!({ "policies": policies, "debugHeader": debug, "denyResponse": { "headers": { "x-why": "policy" } } });
        Blueprint::new(&config).optional_client_certificate().start_shared()
    };
    let debugged = |sidecar: &Sidecar, client: testbed::Client, path: &str| {
        let response = client.send(&Request::get(path)).unwrap();
        if response.status == 403 {
            assert_eq!(response.header("x-why").as_deref(), Some("policy"));
        }
        assert!(sidecar.envoy.is_running());
        response.header("x-authz-debug").map(|text| serde_json::from_str::<Value>(&text).unwrap())
    };
    for principals in [json!([FRONTEND]), json!(["cluster.local/ns/default/*"]), json!(["*/frontend"])] {
        let sidecar = with(principals);
        let told = |path: &str| debugged(&sidecar, sidecar.client(FRONTEND), path);
        assert_eq!(told("/closed/1"), Some(json!({ "decision": "DENY", "policy": "default/deny", "rule": 0 })));
        let nearest = json!({
            "policy": "default/allow", "rule": 0, "failed": "to[0].operation.paths", "how": "different", "further": 0,
        });
        assert_eq!(told("/other"), Some(json!({ "decision": "DENY", "nearest": nearest })));
        assert_eq!(told("/open"), None, "allowed");
        for client in [sidecar.client(STRANGER), sidecar.anonymous_client()] {
            assert_eq!(debugged(&sidecar, client, "/closed/1"), None);
        }
    }
    // `*` requires a client certificate.
    let anyone = with(json!(["*"]));
    assert!(debugged(&anyone, anyone.client(STRANGER), "/closed/1").is_some());
    assert_eq!(debugged(&anyone, anyone.anonymous_client(), "/closed/1"), None);
    let off = Blueprint::new(&json!({ "policies": policies })).start_shared();
    let names = off.client(FRONTEND).send(&Request::get("/closed/1")).unwrap().headers;
    assert!(names.iter().all(|(name, _)| !name.contains("debug")), "{names:?}");
}

/// Bytes that end a line or a string, or that break the encoding, for some readers, and that Envoy accepts in a
/// request.
const HOSTILE: [&[u8]; 17] = [
    b"\"",
    b"\\",
    b"\",\"decision\":\"ALLOW\",\"x\":\"",
    b"{}[],:",
    b"\xff",
    b"\xc3(",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xf0\x9f\x92",
    b"\xc2\x85",
    b"\xc2\x9b31m",
    b"\xe2\x80\xa8",
    b"\xe2\x80\xae",
    b"\xef\xbb\xbf",
    b"%0a%0d%00",
    b"\\u0000\\ud800",
    b"'`$(){}<!--",
];

/// CVE-2024-45808. `HOSTILE=100000` sends that many requests.
#[test]
fn no_request_leaves_a_line_that_does_not_parse() {
    let requests: usize = env::var("HOSTILE").map_or(1_500, |requests| requests.parse().unwrap());
    let config =
        json!({ "policies": [below("allow", "ALLOW", "/open")], "decisionLogRate": 1_000_000, "filterState": "all" });
    let mut blueprint = Blueprint::new(&config).without_normalisation().answering_by_itself();
    // The access log gets its own file, because the buffers of two streams may be written in the middle of a line.
    let access_log = &mut blueprint.manager()["access_log"][0]["typed_config"];
    access_log["@type"] = json!("type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog");
    access_log["path"] = json!("access.log");
    let sidecar = blueprint.start();
    let identity = "spiffe://evil/\"}\n{\"decision\":\"ALLOW\"}\r\n\u{1b}[31m\u{2028}";
    let client = sidecar.client_named(&[San::Uri(identity.to_owned())], None);
    let mut rng = fastrand::Rng::with_seed(45_808);
    let mut connection = client.connect_http2().unwrap();
    let mut refused: u64 = 0;
    for _ in 0..requests {
        let mut path = b"/".to_vec();
        for _ in 0..rng.usize(1..6) {
            path.extend_from_slice(HOSTILE[rng.usize(..HOSTILE.len())]);
        }
        if rng.u8(..) == 0 {
            path.resize(8 * 1024, b"\"\xffa\\"[rng.usize(..4)]);
        }
        if rng.u8(..16) == 0 {
            path.push(rng.u8(0x80..));
        }
        let value = HOSTILE[rng.usize(..HOSTILE.len())];
        let request = Http2Request::get(&path).header("x-hostile", value).header("authorization", "Bearer s3cret");
        let response = connection.send(&request).unwrap();
        assert_eq!(response.status, 403, "{}", path.escape_ascii());
        refused += 1;
    }
    // Envoy itself refuses control characters.
    for byte in (0..0x20).chain([0x7f]) {
        let request = [&b"GET /"[..], &[byte], b" HTTP/1.1\r\nhost: a\r\nx: \x01\r\n\r\n"].concat();
        let response = client.send_raw(&request).unwrap();
        assert!([400, 426].contains(&response.status), "{byte:#x}: {}", response.status);
    }
    wait_for(&sidecar, "denied", refused);
    let log = sidecar.envoy.log();
    let (mut decisions, mut warnings): (u64, u64) = (0, 0);
    for line in log.lines() {
        assert!(line.starts_with('['), "{line:?} is a part of another line");
        let Some((_, json)) = line.split_once("wasm log mesh_authz: ") else { continue };
        let ends_lines = |c: char| c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c);
        assert!(!json.contains(ends_lines), "{json:?}");
        if json.contains("this Envoy does not normalize paths") {
            warnings += 1;
            continue;
        }
        let decision: Value = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"));
        assert_eq!((&decision["decision"], &decision["principal"]), (&json!("DENY"), &json!(identity)));
        decisions += 1;
    }
    assert_eq!(decisions, refused);
    assert!(warnings <= 1, "one warning about paths that Envoy has not normalized");
    let read = || fs::read_to_string(sidecar.envoy.dir().join("access.log")).unwrap_or_default();
    let asked = Instant::now();
    while u64::try_from(read().matches("\"DENY\\\"}\"").count()).unwrap() < refused && asked.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(50));
    }
    let access_log = read();
    let lines =
        access_log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {line}")));
    let states: Vec<_> = lines.filter_map(|line| line["mesh_authz"].as_str().map(str::to_owned)).collect();
    assert_eq!(u64::try_from(states.len()).unwrap(), refused);
    assert!(states.iter().all(|state| state == r#"{"decision":"DENY"}"#));
    assert!(!log.contains("s3cret") && !access_log.contains("s3cret"));
}

/// The names of the filter's metrics that occur in a text.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("mesh_authz_")).map(str::to_owned).collect()
}

#[test]
fn every_metric_of_the_dashboard_and_the_alerts_is_there() {
    let example = |name: &str| fs::read_to_string(project(&format!("examples/observability/{name}"))).unwrap();
    let dashboard: Value = serde_json::from_str(&example("dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let expressions: Vec<_> = targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect();
    let alerts = serde_json::to_value(yaml::documents(&example("alerts.yaml")).unwrap().remove(0)).unwrap();
    let rules = alerts["groups"][0]["rules"].as_array().unwrap();
    let alerting: Vec<_> = rules.iter().map(|rule| rule["expr"].as_str().unwrap().to_owned()).collect();
    assert!(expressions.len() >= 9 && alerting.len() >= 6);

    let sidecar = Sidecar::start(&json!({ "policies": every_kind() }));
    wait_for(&sidecar, "config.policies", 7);
    wait_for(&sidecar, "config.refused", 0);
    let exposed = sidecar.envoy.prometheus().unwrap();
    let exposed: Vec<_> =
        exposed.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).map(str::to_owned).collect();
    let mut all = metrics_in(&serde_json::to_string(&dashboard).unwrap());
    for expression in expressions.iter().chain(&alerting) {
        assert!(!metrics_in(expression).is_empty(), "{expression} is about something else");
        all.extend(metrics_in(expression));
    }
    for metric in &all {
        assert!(exposed.contains(metric), "{metric} is not in {exposed:#?}");
    }
    // Conversely, the dashboard or the alerts use every metric of the filter.
    let ours = exposed.iter().filter(|name| name.starts_with("mesh_authz_"));
    assert_eq!(ours.filter(|name| !all.contains(*name)).count(), 0, "{exposed:#?}");
}

/// Queries can hold passwords.
#[test]
fn no_log_has_a_query() {
    let text = fs::read_to_string(project("examples/observability/access-log.yaml")).unwrap();
    let example = serde_json::to_value(yaml::documents(&text).unwrap().remove(0)).unwrap();
    let blueprint = || Blueprint::new(&json!({ "policies": [below("deny", "DENY", "/closed")], "decisionLog": "all" }));
    let as_shipped = blueprint().start();
    let as_in_the_example = blueprint().setting("access_log", example["access_log"].clone()).start();
    for sidecar in [as_shipped, as_in_the_example] {
        for (path, status) in [("/closed/1", 403), ("/open/2", 200), ("/%2Fclosed/../open/3", 200)] {
            assert_eq!(get(&sidecar, &format!("{path}?password=s3cret&x=?s3cret")).status, status, "{path}");
        }
        // When this line is there, those before it are.
        get(&sidecar, "/open/last");
        sidecar.envoy.wait_for_log("\"path\":\"/open/last\",\"peer\"", PATIENCE).unwrap();
        for path in ["/closed/1", "/open/2", "/open/3"] {
            assert!(sidecar.envoy.log().contains(&format!("\"path\":\"{path}\",\"peer\"")), "{path}");
        }
        assert!(!sidecar.envoy.log().contains("s3cret"));
    }
}

/// If a client resets a stream that was denied, Envoy logs that, and no longer why it was denied. So such a line does not tell.
#[test]
fn the_log_of_a_stream_that_is_reset_does_not_say_that_it_was_denied() {
    const DETAILS: &str = "http2.remote_reset";
    let config = json!({ "policies": [below("deny", "DENY", "/closed")] });
    let log = json!([{
        "name": "envoy.access_loggers.stdout",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
            "log_format": { "text_format_source": {
                "inline_string": "logged: %REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %UPSTREAM_HOST%\n",
            } },
        },
    }]);
    let sidecar = Blueprint::new(&config).setting("access_log", log).start();
    let mut client = sidecar.client(FRONTEND).connect_http2().unwrap();
    assert_eq!(client.give_up(&Http2Request::get("/closed/1")).unwrap(), 403);
    sidecar.envoy.wait_for_log(&format!("logged: /closed/1 403 {DETAILS} -\n"), PATIENCE).unwrap();
    let evidence = Evidence { details: Some(Some(DETAILS)), has_request_line: true, ..Evidence::default() };
    assert_eq!(Happened::of(&evidence, Traffic::Http), Happened::Unknown);
    // One that was allowed has come to a host.
    assert_eq!(client.give_up(&Http2Request::get("/open")).unwrap(), 200);
    sidecar.envoy.wait_for_log(&format!("logged: /open 200 {DETAILS} 127.0.0.1:"), PATIENCE).unwrap();
    let evidence = Evidence { has_upstream: true, ..evidence };
    assert_eq!(Happened::of(&evidence, Traffic::Http), Happened::Allowed);
}

#[test]
fn the_access_logs_of_the_examples_are_envoys() {
    let text = fs::read_to_string(project("examples/observability/access-log.yaml")).unwrap();
    let example = serde_json::to_value(yaml::documents(&text).unwrap().remove(0)).unwrap();
    let config = json!({ "policies": [below("deny", "DENY", "/closed")] });
    let sidecar = Blueprint::new(&config).setting("access_log", example["access_log"].clone()).start();
    get(&sidecar, "/closed/1");
    let details = denied_by("deny", 0);
    let decision = r#"{"decision":"DENY","policy":"default/deny","rule":0}"#;
    sidecar.envoy.wait_for_log(&format!("] GET 403 {details} {decision}\n"), PATIENCE).unwrap();
    sidecar.envoy.wait_for_log(&format!("\"mesh_authz\":{},", json!(decision)), PATIENCE).unwrap();
}
