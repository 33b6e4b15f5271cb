//! What `render` prints, applied.

use mesh_authz_istio::{Pod, Recorder, Role};
use serde_json::{Value, json};
use testbed::{Client, Request};

use crate::{
    gateway::Gateway,
    place::{Place, always_until, eventually, mesh_authz, status},
    plugin::{Backend, ENFORCED, OPEN, digest, frontend_reads_data, image, policy, service},
};

/// Renders WasmPlugins for these policies of a namespace, with further options.
pub fn render(place: &Place, policies: &[Value], options: &[&str]) -> String {
    let mut policies = policies.to_vec();
    for policy in &mut policies {
        policy["metadata"]["namespace"] = json!(place.namespace);
    }
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": policies }).to_string();
    let (image, digest) = (image(), digest());
    let arguments = ["render", "wasm-plugin", "-", "--url", &image, "--sha256", &digest];
    mesh_authz(&[&arguments[..], options].concat(), &list)
}

/// Whether the proxy has loaded the plugin, with policies that apply.
pub fn has_plugin(pod: &Pod) -> bool {
    pod.log().contains("apply to this workload")
}

fn no_admin() -> Value {
    let mut denial = policy("no-admin", "", "DENY", json!([{ "to": [{ "operation": { "paths": ["/admin*"] } }] }]));
    denial["spec"].as_object_mut().unwrap().remove("selector");
    denial
}

/// A pod without a proxy, with an application at port 8080, and a Service of its name.
fn outside(place: &Place, name: &str) -> (Pod, Recorder) {
    let pod = place.pod(name, Role::None);
    let application = pod.serve(8080).unwrap();
    place.apply(&service(name, &[("http", 8080)]).to_string());
    place.endpoints(name, "http", 8080, &[pod.ip()]);
    (pod, application)
}

/// The plugin alone, so that it shows where it decides and where not.
#[test]
fn one_plugin_decides_on_sidecars_and_on_gateways_with_any_labels_and_not_on_what_a_sidecar_sends() {
    let gateway = Gateway::labelled(&json!({ "app": "public-gw", "istio": "public-gw" }));
    let place = &gateway.place;
    let backend = place.pod("backend", Role::Sidecar);
    let _application = backend.serve(8080).unwrap();
    let (_pod, _application) = outside(place, "elsewhere");
    let elsewhere = place.kubectl(&["get", "service", "elsewhere", "-o", "jsonpath={.spec.clusterIP}"], "");
    let elsewhere = Client::plain((elsewhere.parse::<std::net::Ipv4Addr>().unwrap(), 8080).into());
    let host = format!("elsewhere.{}.svc.cluster.local", place.namespace);
    let sends = |path: &str| {
        let request = Request::get(path).host(&host);
        backend.as_application(|| status(&elsewhere, &request)).unwrap()
    };
    let inbound = backend.client(8080, Some(&place.certificate("frontend")));
    eventually("what the backend sends", &200, || sends("/admin"));

    place.apply(&render(place, &[no_admin()], &["--policies-applied"]));
    eventually("on the sidecar", &[200, 403], || ["/", "/admin"].map(|path| status(&inbound, &Request::get(path))));
    eventually("on the gateway", &[200, 403, 200], || gateway.answers());
    assert_eq!([sends("/"), sends("/admin")], [200, 200], "what the backend sends");

    // What stands in for a module that cannot be fetched knows no sides.
    let broken = render(place, &[no_admin()], &["--policies-applied"]).replace(&digest(), &"a".repeat(64));
    place.apply(&broken);
    eventually("what comes in and goes out without the module", &[403, 403], || {
        [status(&inbound, &Request::get("/")), sends("/")]
    });
}

#[test]
fn beside_istio_the_policies_hold_before_and_after_the_plugin() {
    let backend = Backend::new();
    let place = &backend.place;
    let rendered = render(place, &[frontend_reads_data(place, "backend")], &[]);
    // Half of an apply: the policies come first, and hold before the plugin is there.
    let (policies, rest) = rendered.split_once("\n---\n").unwrap();
    assert!(policies.contains("kind: AuthorizationPolicy") && !rest.contains("\nkind: AuthorizationPolicy"));
    place.apply(policies);
    eventually("the policies", &ENFORCED, || backend.answers());
    place.apply(&rendered);
    let check = || assert_eq!(backend.answers(), ENFORCED, "while the plugin comes");
    always_until("the plugin comes", || has_plugin(&backend.pod), check);
    let plugin = place.kubectl(&["get", "wasmplugins", "-o", "name"], "");
    place.kubectl(&["delete", plugin.trim()], "");
    for _ in 0..50 {
        assert_eq!(backend.answers(), ENFORCED, "Istio alone");
    }
    place.kubectl(&["delete", "--ignore-not-found", "-f", "-"], &rendered);
    eventually("without both", &OPEN, || backend.answers());
}

#[test]
fn where_the_plugin_decides_http_an_exception_beats_a_denial_and_tcp_stays_closed() {
    let backend = Backend::new();
    let place = &backend.place;
    let tcp = backend.pod.serve(8082).unwrap();
    place.apply(&service("backend", &[("http", 8080), ("tcp", 8082)]).to_string());
    let deny_all = policy("deny-all", "backend", "DENY", json!([{}]));
    let policies = [deny_all, frontend_reads_data(place, "backend")];
    place.apply(&render(place, &policies, &["--combining", "permit-overrides", "--plugin-decides-http"]));
    eventually("over HTTP", &ENFORCED, || backend.answers());
    for account in ["stranger", "frontend"] {
        let client = backend.pod.client(8082, Some(&place.certificate(account)));
        let _ = client.send_raw(b"GET /api/v1/data HTTP/1.1\r\nHost: backend\r\n\r\n");
    }
    assert_eq!(tcp.reached(), 0, "over TCP");
    // What the page says of the time without the plugin shows who decides, and that HTTP is let through to it.
    let plugin = place.kubectl(&["get", "wasmplugins", "-o", "name"], "");
    place.kubectl(&["delete", plugin.trim()], "");
    eventually("over HTTP, without the plugin", &OPEN, || backend.answers());
    let client = backend.pod.client(8082, Some(&place.certificate("stranger")));
    let _ = client.send_raw(b"GET /api/v1/data HTTP/1.1\r\nHost: backend\r\n\r\n");
    assert_eq!(tcp.reached(), 0, "over TCP, without the plugin");
}

/// A policy for the workloads with this value of the label `tier`: this account may do everything.
fn of_tier(place: &Place, tier: &str, account: &str) -> Value {
    let source = json!({ "principals": [format!("cluster.local/ns/{}/sa/{account}", place.namespace)] });
    let mut policy = policy(account, "", "ALLOW", json!([{ "from": [{ "source": source }] }]));
    policy["spec"]["selector"] = json!({ "matchLabels": { "tier": tier } });
    policy
}

/// The filter learns of a new label only by the selector of the resource that istiod has chosen.
#[test]
fn a_label_that_a_running_pod_gets_opens_nothing_where_the_plugin_decides_http() {
    let backend = Backend::new();
    let place = &backend.place;
    place.apply(&render(place, &[no_admin(), of_tier(place, "data", "frontend")], &["--plugin-decides-http"]));
    let answers = || {
        let of = |client: &Client| [status(client, &Request::get("/")), status(client, &Request::get("/admin"))];
        [of(&backend.frontend), of(&backend.stranger)]
    };
    eventually("before", &[[200, 403], [200, 403]], answers);
    always_until("the plugin", || has_plugin(&backend.pod), || ());
    place.kubectl(&["label", "pod", "backend", "tier=data"], "");
    eventually("with the label", &[[200, 403], [403, 403]], answers);
    // Istio lets HTTP through, so it is the plugin that refuses the stranger.
    eventually("the plugin's own reason", &true, || {
        let _ = answers();
        backend.pod.log().contains("no ALLOW policy matched")
    });
    place.kubectl(&["label", "pod", "backend", "tier-"], "");
    eventually("without the label", &[[200, 403], [200, 403]], answers);
}

/// The filter does not learn that a label is gone, or has another value.
#[test]
fn a_label_that_a_running_pod_loses_opens_nothing_where_the_plugin_decides_http() {
    let backend = Backend::at(Place::new(), |_| json!({ "app": "backend", "tier": "web" }));
    let place = &backend.place;
    let mut everywhere = of_tier(place, "", "frontend");
    everywhere["spec"].as_object_mut().unwrap().remove("selector");
    place.apply(&render(place, &[everywhere, of_tier(place, "web", "stranger")], &["--plugin-decides-http"]));
    let answers = || [&backend.frontend, &backend.stranger].map(|client| status(client, &Request::get("/")));
    always_until("the plugin", || has_plugin(&backend.pod), || ());
    eventually("with the label", &[200, 200], answers);
    place.kubectl(&["label", "pod", "backend", "--overwrite", "tier=data"], "");
    eventually("with another value", &[200, 403], answers);
    place.kubectl(&["label", "pod", "backend", "--overwrite", "tier=web"], "");
    eventually("with the first value again", &[200, 200], answers);
    place.kubectl(&["label", "pod", "backend", "tier-"], "");
    eventually("without the label", &[200, 403], answers);
}

/// What server-side apply does with more than kubectl's annotation can hold.
#[test]
fn large_output_is_applied_as_a_whole() {
    let backend = Backend::new();
    let place = &backend.place;
    let paths: Vec<_> = (0..12_000).map(|number| format!("/archive/{number:06}/file")).collect();
    let archive = policy("archive", "backend", "ALLOW", json!([{ "to": [{ "operation": { "paths": paths } }] }]));
    let rendered = render(place, &[archive, frontend_reads_data(place, "backend")], &["--policies-applied"]);
    assert!(rendered.len() > 262_144);
    place.apply(&rendered);
    let archived = Request::get("/archive/011999/file");
    eventually("the plugin", &(ENFORCED, 200, 403), || {
        (
            backend.answers(),
            status(&backend.stranger, &archived),
            status(&backend.stranger, &Request::get("/archive/012000/file")),
        )
    });
}
