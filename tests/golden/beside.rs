//! What `render wasm-plugin` prints beside the plugin: the policies that Istio enforces itself, in an order in which half
//! an apply protects.

use std::process::{Command, Output};

use mesh_authz::diagnostic::Diagnostics;
use mesh_authz::document::from_json;
use mesh_authz::identity::TrustDomains;
use mesh_authz::policy::{Traffic, read};
use mesh_authz_cli::render::rbac::{Place, filters};
use serde_json::{Value, json};

const KINDS: [&str; 2] = ["wasm-plugin", "traffic-extension"];

/// Runs `render` on these resources.
fn run(kind: &str, resources: &[Value], more: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("input.json");
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": resources });
    std::fs::write(&file, list.to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mesh-authz"));
    command.args(["render", kind, "--url=file:///f.wasm", file.to_str().unwrap()]).args(more).output().unwrap()
}

/// What `render` prints for these resources, and its notes.
#[track_caller]
pub fn render(kind: &str, resources: &[Value], more: &[&str]) -> (Vec<Value>, String) {
    let output = run(kind, resources, &[more, &["--format=json"]].concat());
    let notes = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{notes}");
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    (list["items"].as_array().unwrap().clone(), notes)
}

#[track_caller]
pub fn refusal(resources: &[Value], more: &[&str]) -> String {
    let output = run("wasm-plugin", resources, more);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

pub fn policy(name: &str, action: &str, target: &Value) -> Value {
    let mut policy = json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "name": name, "namespace": "shop" },
        "spec": { "action": action, "rules": [{ "to": [{ "operation": { "ports": ["8080"] } }] }] },
    });
    policy["spec"].as_object_mut().unwrap().extend(target.as_object().unwrap().clone());
    if action == "CUSTOM" {
        policy["spec"]["provider"] = json!({ "name": "asked" });
    }
    policy
}

fn selecting(app: &str) -> Value {
    json!({ "selector": { "matchLabels": { "app": app } } })
}

pub fn gateway(name: &str) -> Value {
    json!({ "targetRefs": [{ "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": name }] })
}

fn of<'r>(resources: &'r [Value], kind: &'static str) -> impl Iterator<Item = &'r Value> {
    resources.iter().filter(move |resource| resource["kind"] == kind)
}

pub fn names(resources: &[Value]) -> Vec<&str> {
    resources.iter().map(|resource| resource["metadata"]["name"].as_str().unwrap()).collect()
}

pub fn is_let_through(resource: &Value) -> bool {
    has_its_name(resource) && resource["spec"]["rules"] != json!([])
}

/// Whether it takes the place of a policy that lets HTTP through.
pub fn is_stopper(resource: &Value) -> bool {
    has_its_name(resource) && !is_let_through(resource)
}

fn has_its_name(resource: &Value) -> bool {
    resource["metadata"]["name"].as_str().unwrap().starts_with("0-mesh-authz-http")
}

/// The policies in the configurations of the plugins.
fn carried(resources: &[Value]) -> Vec<&str> {
    let configs = resources.iter().flat_map(|resource| {
        [&resource["spec"]["pluginConfig"]["policies"], &resource["spec"]["wasm"]["pluginConfig"]["policies"]]
    });
    let policies = configs.filter_map(Value::as_array).flatten();
    policies.map(|policy| policy["metadata"]["name"].as_str().unwrap()).collect()
}

fn of_every_action() -> Vec<Value> {
    ["AUDIT", "ALLOW", "DENY", "CUSTOM"].map(|action| policy(&action.to_lowercase(), action, &selecting("x"))).into()
}

#[test]
fn policies_are_printed_as_given_and_what_protects_comes_first() {
    for kind in KINDS {
        let (resources, notes) = render(kind, &of_every_action(), &[]);
        let plugin = if kind == "wasm-plugin" { "WasmPlugin" } else { "TrafficExtension" };
        let kinds: Vec<_> = resources.iter().map(|resource| resource["kind"].as_str().unwrap()).collect();
        let policy = "AuthorizationPolicy";
        assert_eq!(kinds, [policy, policy, policy, policy, "EnvoyFilter", plugin]);
        assert_eq!(names(&resources)[..4], ["custom", "deny", "allow", "audit"]);
        for policy in of_every_action() {
            assert!(resources.contains(&policy), "{policy}");
        }
        assert_eq!(carried(&resources), ["allow", "audit", "deny"]);
        assert!(notes.contains("CUSTOM policies stay with Istio") && notes.contains("shop/custom"), "{notes}");
    }
}

#[test]
fn a_policy_keeps_every_field_but_those_that_kubectl_and_the_server_write() {
    let mut given = policy("p", "ALLOW", &json!({}));
    given["metadata"] = json!({
        "name": "p", "labels": { "team": "a" }, "finalizers": ["example.com/f"],
        "annotations": { "note": "n", "kubectl.kubernetes.io/last-applied-configuration": "{}" },
        "resourceVersion": "7", "uid": "u", "managedFields": [],
    });
    given["status"] = json!({});
    let (resources, _) = render("wasm-plugin", &[given.clone()], &[]);
    given.as_object_mut().unwrap().remove("status");
    given["metadata"] = json!({
        "name": "p", "namespace": "default", "labels": { "team": "a" }, "finalizers": ["example.com/f"],
        "annotations": { "note": "n" },
    });
    assert_eq!(resources[0], given);
}

#[test]
fn policies_that_the_cluster_has_are_named_and_not_printed() {
    let (resources, notes) = render("wasm-plugin", &of_every_action(), &["--policies-applied"]);
    assert_eq!(of(&resources, "AuthorizationPolicy").count(), 0);
    assert_eq!(resources.len(), 2);
    assert!(
        notes.contains("these policies must be in the cluster: shop/custom, shop/deny, shop/allow, shop/audit"),
        "{notes}"
    );
}

#[test]
fn http_is_let_through_where_an_allow_policy_is_in_force_and_last() {
    let mut trial = policy("trial", "ALLOW", &selecting("tried"));
    trial["metadata"]["annotations"] = json!({ "istio.io/dry-run": "true" });
    let policies = [
        policy("allow", "ALLOW", &selecting("x")),
        policy("closed", "DENY", &selecting("y")),
        policy("everywhere", "DENY", &json!({})),
        policy("entrance", "ALLOW", &gateway("entrance")),
        policy("exit", "DENY", &gateway("exit")),
        trial,
    ];
    let alone = |policies: &[Value]| render("wasm-plugin", policies, &["--plugin-decides-http"]);
    let [by_label, by_target] = [selecting("x"), gateway("entrance")];
    let (_, of_gateway) = policies.split_at(1);
    let of_label: Vec<_> = policies.iter().filter(|policy| policy["metadata"]["name"] != "entrance").cloned().collect();
    for (policies, field, target) in
        [(&of_label[..], "selector", &by_label["selector"]), (of_gateway, "targetRefs", &by_target["targetRefs"])]
    {
        let (resources, notes) = alone(policies);
        let last = resources.last().unwrap();
        assert_eq!(resources.iter().filter(|resource| has_its_name(resource)).count(), 1);
        assert_eq!(
            last["spec"],
            json!({
                "action": "ALLOW",
                "rules": [{ "to": [{ "operation": { "paths": ["*"] } }] }],
                field: target,
            })
        );
        assert_eq!(last["metadata"]["labels"], json!({ "app.kubernetes.io/managed-by": "mesh-authz" }));
        assert_eq!(last["metadata"]["namespace"], "shop");
        assert_eq!(of(&resources, "AuthorizationPolicy").count(), policies.len() + 1);
        assert!(notes.contains("while the plugin is not there"), "{notes}");
        assert!(
            notes.contains("first delete its policies `0-mesh-authz-http…` that this output does not have"),
            "{notes}"
        );
    }
    // A workload may have the label and be the gateway, for now. What an earlier output let through is replaced.
    let (resources, notes) = alone(&policies);
    let stoppers: Vec<_> = resources.iter().filter(|resource| is_stopper(resource)).map(|it| &it["spec"]).collect();
    let [of_label, of_gateway] = [("selector", &by_label), ("targetRefs", &by_target)]
        .map(|(field, target)| json!({ "action": "ALLOW", "rules": [], field: target[field] }));
    assert_eq!(stoppers, [&of_label, &of_gateway]);
    assert!(!resources.iter().any(is_let_through));
    let of_plugin = resources.iter().position(|resource| resource["kind"] != "AuthorizationPolicy").unwrap();
    assert!(!resources[of_plugin..].iter().any(is_stopper), "they close something, so they come before the plugin");
    let names = |options: &[&str]| {
        let (resources, _) = render("wasm-plugin", &policies, options);
        of(&resources, "WasmPlugin").map(|plugin| plugin["metadata"]["name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&["--plugin-decides-http"]).len(), 4, "a plugin does not vanish because of another policy");
    assert!(
        notes.contains("by policy shop/entrance, too: policy shop/allow is for a part of the same traffic"),
        "{notes}"
    );
    assert_eq!(alone(&resources).0, resources, "the output, read again, is not a policy more");
    let (resources, _) = render("wasm-plugin", &policies, &[]);
    assert_eq!(resources.iter().filter(|resource| is_let_through(resource)).count(), 0);
    let (resources, notes) = render("wasm-plugin", &policies[1..2], &["--plugin-decides-http"]);
    assert_eq!(resources.iter().filter(|resource| is_let_through(resource)).count(), 0);
    assert!(notes.contains("HTTP is let through nowhere: no ALLOW policy is in force"), "{notes}");
}

/// Istio would let HTTP through where no plugin decides about it.
#[test]
fn http_is_not_let_through_where_no_plugin_can_decide() {
    let mut of_revision = policy("canary", "ALLOW", &json!({}));
    of_revision["metadata"]["labels"] = json!({ "istio.io/rev": "canary" });
    let everywhere = policy("everywhere", "ALLOW", &json!({}));
    let both = [everywhere.clone(), of_revision];
    let refused = refusal(&both, &["--plugin-decides-http"]);
    assert!(refused.contains("policy shop/canary is for one revision of the control plane"), "{refused}");
    render("wasm-plugin", &both, &["--plugin-decides-http", "--revision=canary"]);
    let mut denial = both[1].clone();
    denial["spec"]["action"] = json!("DENY");
    render("wasm-plugin", &[everywhere.clone(), denial], &["--plugin-decides-http"]);
    render("wasm-plugin", &both, &[]);

    let permit = ["--plugin-decides-http", "--combining=permit-overrides", "--waypoint=shop/w"];
    let service = json!({ "targetRefs": [{ "kind": "Service", "name": "cart" }] });
    let mut of_class = policy(
        "class",
        "DENY",
        &json!({ "targetRefs": [{
        "group": "gateway.networking.k8s.io", "kind": "GatewayClass", "name": "istio-waypoint",
    }] }),
    );
    of_class["metadata"]["namespace"] = json!("istio-system");
    for denial in [policy("cart", "DENY", &service), of_class] {
        let refused = refusal(&[denial.clone(), everywhere.clone()], &permit);
        assert!(refused.contains("also at waypoints without the plugin"), "{refused}");
        render("wasm-plugin", &[denial], &["--plugin-decides-http", "--waypoint=shop/w"]);
    }
    render("wasm-plugin", &[policy("whole", "DENY", &gateway("w"))], &permit);

    let agent = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": { "name": "agents", "namespace": "shop" }, "spec": { "gatewayClassName": "istio-agentgateway" },
    });
    let refused = refusal(&[everywhere.clone(), agent.clone()], &["--plugin-decides-http"]);
    assert!(refused.contains("the proxy of the Gateway shop/agents is no Envoy"), "{refused}");
    let refused = refusal(&[policy("none", "DENY", &json!({})), agent.clone()], &permit[..2]);
    assert!(refused.contains("the proxy of the Gateway shop/agents is no Envoy"), "{refused}");
    let by_name = json!({ "selector": { "matchLabels": { "gateway.networking.k8s.io/gateway-name": "agents" } } });
    let refused = refusal(&[policy("named", "ALLOW", &by_name), agent.clone()], &["--plugin-decides-http"]);
    assert!(refused.contains("the proxy of the Gateway shop/agents is no Envoy"), "{refused}");
    render("wasm-plugin", &[policy("x", "ALLOW", &selecting("x")), agent], &["--plugin-decides-http"]);
}

/// A selector gets a plugin of its own only where Istio does not decide by its labels.
#[test]
fn selectors_get_plugins_of_their_own_only_where_they_need_them() {
    let policies = [
        policy("everywhere", "DENY", &json!({})),
        policy("allow", "ALLOW", &selecting("x")),
        policy("deny", "DENY", &selecting("y")),
        policy("audit", "AUDIT", &selecting("z")),
    ];
    for (options, plugins) in
        [(&[][..], 1), (&["--plugin-decides-http"], 2), (&["--plugin-decides-http", "--combining=permit-overrides"], 3)]
    {
        let (resources, _) = render("wasm-plugin", &policies, options);
        assert_eq!(of(&resources, "WasmPlugin").count(), plugins, "{options:?}");
    }
}

/// What Istio generates from these policies.
fn native(policies: &[&Value], traffic: Traffic) -> Value {
    let read = |policy: &&Value| {
        let mut diagnostics = Diagnostics::new();
        read::policy(&from_json(policy.to_string().as_bytes()).unwrap(), &mut diagnostics).unwrap()
    };
    let policies: Vec<_> = policies.iter().map(read).collect();
    let trust_domains = TrustDomains::new("cluster.local".to_owned(), []);
    serde_json::to_value(filters(&policies.iter().collect::<Vec<_>>(), Place::of_workload(traffic, &trust_domains)))
        .unwrap()
}

/// Beside an ALLOW policy, it adds a rule for HTTP, which matches everything. On TCP it adds nothing.
#[test]
fn what_lets_http_through_says_nothing_about_tcp() {
    let allow = policy("allow", "ALLOW", &selecting("x"));
    let (resources, _) = render("wasm-plugin", std::slice::from_ref(&allow), &["--plugin-decides-http"]);
    let let_through = resources.last().unwrap();
    assert_eq!(native(&[&allow, let_through], Traffic::Tcp), native(&[&allow], Traffic::Tcp));
    let http = native(&[&allow, let_through], Traffic::Http);
    let rules = http[0]["typedConfig"]["rules"]["policies"].as_object().unwrap();
    let (first, rule) = rules.iter().next().unwrap();
    assert!(rules.len() == 2 && first.contains("[0-mesh-authz-http"), "Envoy looks at it first: {http:#}");
    assert_eq!(rule["principals"], json!([{ "andIds": { "ids": [{ "any": true }] } }]));
}

#[test]
fn permit_overrides_needs_the_plugin_to_decide_and_istio_not_to_deny() {
    let permit = "--combining=permit-overrides";
    for more in [&[permit][..], &[permit, "--policies-applied"]] {
        assert!(refusal(&of_every_action(), more).contains("give --plugin-decides-http"));
    }
    let (resources, notes) = render("wasm-plugin", &of_every_action(), &[permit, "--plugin-decides-http"]);
    assert_eq!(names(&resources)[..3], ["custom", "allow", "audit"]);
    assert!(carried(&resources).contains(&"deny"), "the plugin carries it");
    assert!(of(&resources, "AuthorizationPolicy").all(|policy| policy["spec"]["action"] != "DENY"));
    assert_eq!(resources.iter().filter(|resource| is_let_through(resource)).count(), 1);
    assert!(notes.contains("TCP connections are decided by ALLOW policies only"), "{notes}");
    let applied = [permit, "--plugin-decides-http", "--policies-applied"];
    let (_, notes) = render("wasm-plugin", &of_every_action(), &applied);
    assert!(notes.contains("these policies must not be in the cluster: shop/deny"), "{notes}");
}

/// Read as a policy, it would allow everything.
#[test]
fn the_output_can_be_read_again() {
    let policies = [policy("allow", "ALLOW", &selecting("x"))];
    let (first, _) = render("wasm-plugin", &policies, &["--plugin-decides-http"]);
    let (second, notes) = render("wasm-plugin", &first, &["--plugin-decides-http", "--allow=MA030"]);
    assert_eq!(first, second);
    assert!(notes.contains("lets HTTP through to the plugin"), "{notes}");
    assert_eq!(carried(&second), ["allow"]);
    // Another policy with the label is a policy.
    let mut labelled = policy("labelled", "ALLOW", &selecting("x"));
    labelled["metadata"]["labels"] = json!({ "app.kubernetes.io/managed-by": "mesh-authz" });
    let (resources, _) = render("wasm-plugin", &[labelled], &[]);
    assert_eq!(carried(&resources), ["labelled"]);
}

#[test]
fn no_resource_takes_the_place_of_another() {
    let policies = [policy("allow", "ALLOW", &selecting("x"))];
    let (resources, _) = render("wasm-plugin", &policies, &["--plugin-decides-http"]);
    let name = names(&resources).last().copied().unwrap();
    let twin = policy(name, "DENY", &selecting("x"));
    let said = refusal(&[policies[0].clone(), twin], &["--plugin-decides-http"]);
    let twice = |name: &str| format!("AuthorizationPolicy shop/{name} would be twice in the output");
    assert!(said.contains(&twice(name)), "{said}");
}

/// kubectl applies what comes after a resource that the cluster refuses.
#[test]
fn nothing_is_let_through_to_a_plugin_that_is_too_large_for_a_cluster() {
    let mut large = policy("large", "ALLOW", &selecting("x"));
    let paths: Vec<_> = (0..40_000).map(|number| format!("/a/path/that/is/long/{number}")).collect();
    large["spec"]["rules"] = json!([{ "to": [{ "operation": { "paths": paths } }] }]);
    let (_, notes) = render("wasm-plugin", std::slice::from_ref(&large), &[]);
    assert!(notes.contains("a cluster takes no more than about a mebibyte"), "{notes}");
    assert!(refusal(&[large], &["--plugin-decides-http"]).contains("HTTP requests would pass: leave it out"));
}

#[test]
fn names_are_short_enough_with_a_revision() {
    let policies = [policy("allow", "ALLOW", &selecting(&"a".repeat(63)))];
    let (resources, _) = render("wasm-plugin", &policies, &["--plugin-decides-http", "--revision=canary"]);
    let rendered = &names(&resources)[1..];
    assert_eq!(rendered.len(), 3);
    assert!(rendered.iter().all(|name| name.len() == 63 && name.ends_with("-canary")), "{rendered:?}");
}

#[test]
fn policies_that_istio_enforces_alone_need_no_plugin() {
    let custom = [policy("custom", "CUSTOM", &selecting("x"))];
    assert!(refusal(&custom, &[]).contains("only CUSTOM policies apply"));
    let (resources, _) = render("wasm-plugin", &custom, &["--allow-none-applies"]);
    assert_eq!(names(&resources), ["custom"]);
}

#[test]
fn a_comment_says_what_each_resource_is_for() {
    for kind in KINDS {
        let text = String::from_utf8(run(kind, &of_every_action(), &["--plugin-decides-http"]).stdout).unwrap();
        let (json, _) = render(kind, &of_every_action(), &["--plugin-decides-http"]);
        let parts: Vec<_> = text.split("---\n").collect();
        assert_eq!(parts.len(), json.len());
        assert!(parts.iter().all(|part| part.starts_with("# ")), "{text}");
        assert!(text.is_ascii());
        let read = mesh_authz_cli::load::yaml::documents(&text).unwrap();
        let read: Vec<_> = read.into_iter().map(|node| serde_json::to_value(node).unwrap()).collect();
        assert_eq!(read, json);
    }
}
