//! What proxies log in the format of `examples/observability/replay-istio.yaml`, replayed: each request is decided as the proxy
//! has decided it.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use mesh_authz_istio::Pod;
use serde_json::{Value, json};
use testbed::Request;

use crate::{
    gateway::Gateway,
    place::{PATIENCE, Place, eventually, mesh_authz, status},
    plugin::policy,
    rendered::render,
    tunnel::{self, backend},
    waypoint::{Waypoint, waypoint_target},
};

/// Has the proxies of the place log so, and waits until this one does. `ask` sends it a request.
fn log_to_replay(place: &Place, pod: &Pod, ask: impl Fn()) {
    let telemetry = json!({
        "apiVersion": "telemetry.istio.io/v1",
        "kind": "Telemetry",
        "metadata": { "name": "replay" },
        "spec": { "accessLogging": [{ "providers": [{ "name": "replay" }] }] },
    });
    place.apply(&telemetry.to_string());
    eventually("the log", &true, || {
        ask();
        lines(&pod.log()) > 0
    });
}

fn lines(log: &str) -> usize {
    log.lines().filter(|line| line.contains("\"waypoint_peer\"")).count()
}

/// The report on what a proxy has logged since `before`, once it has so many lines.
fn replayed(place: &Place, pod: &Pod, before: &str, count: usize, policies: &[Value], workload: &[&str]) -> Value {
    let log = || pod.log()[before.len()..].to_owned();
    eventually("lines", &count, || lines(&log()));
    let folder = place.mesh.home().join(format!("replay-{}", place.namespace));
    fs::create_dir_all(&folder).unwrap();
    let file = |name: &str, content: String| {
        let file = folder.join(name);
        fs::write(&file, content).unwrap();
        file.display().to_string()
    };
    let mut policies = policies.to_vec();
    for policy in &mut policies {
        policy["metadata"]["namespace"] = json!(place.namespace);
    }
    let policies = file("policies.json", json!({ "apiVersion": "v1", "kind": "List", "items": policies }).to_string());
    let log = file("proxy.log", log());
    let config = place.mesh.home().join("mesh.json").display().to_string();
    let telemetry = file("telemetry.json", place.kubectl(&["get", "telemetry", "replay", "-o", "json"], ""));
    let arguments = ["replay", &policies, &log, "--config", &config, "--config", &telemetry, "--format", "json"];
    let namespace = ["--namespace", &place.namespace];
    let report = mesh_authz(&[&arguments[..], &namespace, workload].concat(), "");
    serde_json::from_str(&report).unwrap()
}

/// Asks until everything is answered as wanted, in time. Returns the log before that.
fn asked(pod: &Pod, wanted: &[u16], ask: impl Fn() -> Vec<u16>) -> String {
    let begin = Instant::now();
    loop {
        // What is still to come of earlier requests.
        thread::sleep(Duration::from_secs(1));
        let before = pod.log();
        let answers = ask();
        if answers == wanted {
            return before;
        }
        assert!(begin.elapsed() < PATIENCE, "{answers:?}, and not {wanted:?}");
    }
}

/// The report says that so many requests were allowed and denied, and nothing else.
fn assert_agrees(report: &Value, statuses: &[u16]) {
    let count = |wanted: u16| statuses.iter().filter(|status| **status == wanted).count();
    let decisions = json!({ "allow": count(200), "deny": count(403), "undecided": 0 });
    assert_eq!(report["decisions"], decisions, "{report:#}");
    assert_eq!(report["recorded"], statuses.len(), "{report:#}");
    for other in ["disagreements", "gained", "lost", "needs"] {
        assert_eq!(report[other], json!([]), "{report:#}");
    }
}

#[test]
fn the_log_of_a_sidecar_is_replayed_as_it_decided() {
    let backend = backend();
    let place = &backend.place;
    log_to_replay(place, &backend.pod, || _ = tunnel::answers(&backend));
    let principal = |account: &str| format!("cluster.local/ns/{}/sa/{account}", place.namespace);
    let rules = json!([
        { "from": [{ "source": { "principals": [principal("frontend")] } }], "to": [{ "operation": { "paths": ["/"] } }] },
        { "when": [{ "key": "request.headers[x-tenant]", "values": ["blue"] }], "to": [{ "operation": { "methods": ["GET"] } }] },
    ]);
    let allowed = policy("allowed", "backend", "ALLOW", rules);
    let denied = policy("denied", "backend", "DENY", json!([{ "to": [{ "operation": { "methods": ["DELETE"] } }] }]));
    let policies = [allowed, denied];
    let requests: Vec<Request> = vec![
        Request::get("/"),
        Request::get("/other?query"),
        Request::get("/other").header("x-tenant", "blue"),
        Request::get("/other").header("x-tenant", "green"),
        Request::new("POST", "/").header("x-tenant", "blue").body("text"),
        Request::new("DELETE", "/"),
        Request::get("/").header("x-envoy-original-path", "/forged").header("user-agent", "a \" \"quote"),
    ];
    let ask = || -> Vec<u16> {
        let clients = [&backend.frontend, &backend.stranger];
        let direct = clients.iter().flat_map(|client| requests.iter().map(|request| status(client, request)));
        direct.chain(tunnel::answers(&backend)).collect()
    };
    // Those through ztunnel and by sidecar: see `tunnel::answers`.
    let (yes, no) = (200, 403);
    let of_frontend = [yes, no, yes, no, yes, no, yes];
    let of_stranger = [no, no, yes, no, no, no, no];
    let wanted = [&of_frontend[..], &of_stranger, &[yes, yes, no, no]].concat();

    let native = json!({ "apiVersion": "v1", "kind": "List", "items": policies }).to_string();
    place.apply(&native);
    eventually("by Istio itself", &wanted, ask);
    let check = || {
        let before = asked(&backend.pod, &wanted, ask);
        let report = replayed(place, &backend.pod, &before, wanted.len(), &policies, &["--label", "app=backend"]);
        assert_agrees(&report, &wanted);
    };
    check();
    place.kubectl(&["delete", "-f", "-"], &native);
    eventually("without policies", &true, || ask().iter().all(|status| *status == 200));
    place.apply(&render(place, &policies, &["--policies-applied"]));
    eventually("by the plugin", &wanted, ask);
    check();
}

#[test]
fn the_log_of_a_waypoint_is_replayed_as_it_decided() {
    let waypoint = Waypoint::new();
    let Waypoint { place, pod, .. } = &waypoint;
    // Behind the policies, `/old` becomes `/`.
    let backend = json!([{ "name": "cart", "port": 8080 }]);
    let rewrite = json!({ "type": "URLRewrite", "urlRewrite": { "path": { "type": "ReplaceFullPath", "replaceFullPath": "/" } } });
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": { "name": "cart" },
        "spec": {
            "parentRefs": [{ "group": "", "kind": "Service", "name": "cart", "port": 8080 }],
            "rules": [
                { "matches": [{ "path": { "type": "Exact", "value": "/old" } }], "filters": [rewrite], "backendRefs": backend },
                { "backendRefs": backend },
            ],
        },
    });
    place.apply(&route.to_string());
    let ask = || -> Vec<u16> {
        let all = ["frontend", "stranger"].into_iter().flat_map(|account| {
            [("GET", "/"), ("POST", "/"), ("GET", "/other"), ("GET", "/old")]
                .map(|(method, path)| waypoint.ask("cart", account, method, path))
        });
        all.collect()
    };
    log_to_replay(place, pod, || _ = ask());
    let from = json!([{ "source": { "principals": [format!("cluster.local/ns/{}/sa/frontend", place.namespace)] } }]);
    let rules = json!([{ "from": from, "to": [{ "operation": { "methods": ["GET"], "paths": ["/old"] } }] }]);
    place.apply(include_str!("../../../examples/observability/replay-istio-gateways.yaml"));
    let mut allowed = policy("allowed", "", "ALLOW", rules);
    allowed["spec"].as_object_mut().unwrap().remove("selector");
    allowed["spec"]["targetRefs"] = waypoint_target();
    let wanted = vec![403, 403, 403, 200, 403, 403, 403, 403];
    place.apply(&allowed.to_string());
    eventually("by Istio itself", &wanted, ask);
    let before = asked(pod, &wanted, ask);
    let report = replayed(place, pod, &before, wanted.len(), &[allowed.clone()], &["--waypoint", "waypoint"]);
    assert_agrees(&report, &wanted);
    // The filter chain tells which service a request is for.
    for (service, is_of_it) in [("cart", true), ("orders", false)] {
        let workload = ["--waypoint", "waypoint", "--service", service];
        let report = replayed(place, pod, &before, wanted.len(), &[allowed.clone()], &workload);
        let left_out = report["notReplayed"].as_array().unwrap().iter();
        let of_another = left_out.filter(|entry| entry["reason"] == "of another service, or of none").count();
        assert_eq!((of_another == 0, report["recorded"] != 0), (is_of_it, is_of_it), "{report:#}");
    }
    // The test can fail: without the filter state, the path of the request that passed is another one.
    assert!(
        pod.log()[before.len()..]
            .lines()
            .any(|line| line.contains(r#""decided_path":"/old""#) && line.contains(r#""path":"/""#))
    );
}

#[test]
fn the_log_of_a_gateway_is_replayed_as_it_decided() {
    let gateway = Gateway::named("logged");
    let Gateway { place, pod, .. } = &gateway;
    // Behind the policies, the path and a header become others.
    let filters = json!([
        { "type": "URLRewrite", "urlRewrite": { "path": { "type": "ReplaceFullPath", "replaceFullPath": "/new" } } },
        { "type": "RequestHeaderModifier", "requestHeaderModifier": { "set": [{ "name": "x-tenant", "value": "green" }] } },
    ]);
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": { "name": "shop" },
        "spec": {
            "parentRefs": [{ "name": "logged" }],
            "rules": [{ "filters": filters, "backendRefs": [{ "name": "shop", "port": 8080 }] }],
        },
    });
    place.apply(&route.to_string());
    let ask = || -> Vec<u16> {
        let client = pod.client(8080, None);
        let all = [("/", Some("blue")), ("/", Some("green")), ("/", None), ("/admin", Some("blue"))];
        let request = |(path, tenant): (&str, Option<&str>)| {
            let request = Request::get(path).host("shop.example");
            tenant.map_or(request.clone(), |tenant| request.header("x-tenant", tenant))
        };
        all.map(|of| status(&client, &request(of))).into()
    };
    log_to_replay(place, pod, || _ = ask());
    let filter = include_str!("../../../examples/observability/replay-istio-gateways.yaml");
    place.apply(&filter.replace("name: waypoint", "name: logged"));
    let rules = json!([{
        "to": [{ "operation": { "paths": ["/"], "hosts": ["shop.example"] } }],
        "when": [{ "key": "request.headers[x-tenant]", "values": ["blue"] }],
    }]);
    let mut allowed = policy("allowed", "", "ALLOW", rules);
    allowed["spec"].as_object_mut().unwrap().remove("selector");
    allowed["spec"]["targetRefs"] =
        json!([{ "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "logged" }]);
    let wanted = vec![200, 403, 403, 403];
    place.apply(&allowed.to_string());
    eventually("by Istio itself", &wanted, ask);
    let before = asked(pod, &wanted, ask);
    let report = replayed(place, pod, &before, wanted.len(), &[allowed], &["--gateway", "logged"]);
    assert_agrees(&report, &wanted);
    // The test can fail: what the route made of the request that passed is denied.
    let log = pod.log();
    let passed = log[before.len()..].lines().find(|line| line.contains(r#""code":200"#)).unwrap();
    assert!(passed.contains(r#""path":"/new""#) && passed.contains(r#""x-tenant":"green""#), "{passed}");
}
