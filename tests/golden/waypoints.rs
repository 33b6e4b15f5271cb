//! What `render wasm-plugin` says about waypoints: which `--waypoint` is missing, and which one is too much.

use serde_json::{Value, json};

use crate::beside::{gateway, is_let_through, is_stopper, names, policy, refusal, render};

fn service(name: &str) -> Value {
    json!({ "targetRefs": [{ "kind": "Service", "name": name }] })
}

/// A Gateway of the input, with this class.
fn of_class(name: &str, class: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": { "name": name, "namespace": "shop" }, "spec": { "gatewayClassName": class },
    })
}

fn given(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("--waypoint=shop/{name}")).collect()
}

/// What is printed for these waypoints, and the notes.
#[track_caller]
fn render_for(resources: &[Value], waypoints: &[&str], more: &[&str]) -> (Vec<Value>, String) {
    let given = given(waypoints);
    let given: Vec<_> = given.iter().map(String::as_str).collect();
    render("wasm-plugin", resources, &[&["--policies-applied", "--allow=MA046"], &given[..], more].concat())
}

#[track_caller]
fn refusal_for(resources: &[Value], waypoints: &[&str], more: &[&str]) -> String {
    let given = given(waypoints);
    let given: Vec<_> = given.iter().map(String::as_str).collect();
    refusal(resources, &[&given[..], more].concat())
}

fn two() -> Vec<Value> {
    vec![policy("a", "ALLOW", &gateway("way-a")), policy("b", "ALLOW", &gateway("way-b"))]
}

#[test]
fn each_waypoint_is_printed_once_in_an_order_of_its_own() {
    let (resources, _) = render_for(&two(), &["way-a", "way-b"], &["--plugin-decides-http"]);
    assert_eq!(resources.len(), 6);
    for more in [&["way-b", "way-a"][..], &["way-b", "way-a", "way-b"]] {
        assert_eq!(render_for(&two(), more, &["--plugin-decides-http"]).0, resources);
    }
    let plugins = resources.iter().filter(|resource| resource["kind"] == "WasmPlugin");
    for plugin in plugins {
        let config = &plugin["spec"]["pluginConfig"];
        assert_eq!(config["gateway"]["waypoint"], true);
        assert_eq!(config["gateway"]["name"], plugin["spec"]["targetRefs"][0]["name"]);
        assert_eq!(config["policies"].as_array().unwrap().len(), 1);
    }
    let both = ["way-a", "way-b"].map(gateway).map(|target| target["targetRefs"].clone());
    let let_through = resources.iter().filter(|resource| is_let_through(resource));
    assert_eq!(let_through.map(|policy| policy["spec"]["targetRefs"].clone()).collect::<Vec<_>>(), both);
}

#[test]
fn http_is_let_through_only_on_a_waypoint_with_an_allow_policy() {
    let policies = [policy("a", "ALLOW", &gateway("way-a")), policy("b", "DENY", &gateway("way-b"))];
    let (resources, _) = render_for(&policies, &["way-a", "way-b"], &["--plugin-decides-http"]);
    let let_through: Vec<_> = resources.iter().filter(|resource| is_let_through(resource)).collect();
    assert_eq!(let_through.len(), 1);
    assert_eq!(let_through[0]["spec"]["targetRefs"], gateway("way-a")["targetRefs"]);
}

#[test]
fn a_gateway_that_may_be_a_waypoint_gets_a_note() {
    let note = "it counts as an ordinary gateway";
    let (_, notes) = render_for(&two(), &["way-a"], &[]);
    assert!(notes.contains("the Gateway shop/way-b, which the input does not have: it counts as"), "{notes}");
    assert!(
        notes.contains("if it is a waypoint, give --waypoint shop/way-b") && !notes.contains("shop/way-a,"),
        "{notes}"
    );
    let with = |class: &str| render_for(&[two(), vec![of_class("way-b", class)]].concat(), &["way-a"], &[]).1;
    assert!(!with("istio").contains(note));
    let notes = with("own");
    assert!(notes.contains("whose class `own` the input does not have") && notes.contains(note), "{notes}");
}

#[test]
fn a_waypoint_that_is_none_is_refused() {
    for (class, why) in [
        ("istio", "which is no class of waypoints"),
        ("istio-remote", "which is no class of waypoints"),
        ("own", "add the GatewayClass to the input"),
        ("istio-agentgateway-waypoint", "no Envoy and loads no plugin"),
    ] {
        // Also if no policy is for it.
        for policies in [two(), vec![policy("cart", "DENY", &service("cart"))]] {
            let said = refusal_for(&[policies, vec![of_class("way-b", class)]].concat(), &["way-a", "way-b"], &[]);
            assert!(said.contains("--waypoint shop/way-b: the Gateway in ") && said.contains(why), "{said}");
        }
    }
    let class = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
        "metadata": { "name": "own" }, "spec": { "controllerName": "istio.io/mesh-controller" },
    });
    let resources = [two(), vec![of_class("way-b", "own"), class]].concat();
    let (_, notes) = render_for(&resources, &["way-a", "way-b"], &["--deny-warnings", "--allow=MA033"]);
    assert!(!notes.contains("MA030"), "the GatewayClass is read: {notes}");
}

#[test]
fn a_waypoint_that_no_policy_is_for_gets_a_note() {
    let (resources, notes) = render_for(&two(), &["way-a", "way-b", "way-c"], &[]);
    assert!(notes.contains("--waypoint shop/way-c: no policy of a plugin is for it"), "{notes}");
    assert!(!names(&resources).iter().any(|name| name.contains("way-c")));
    let all = [two(), vec![policy("cart", "DENY", &service("cart"))]].concat();
    let (resources, notes) = render_for(&all, &["way-a", "way-b", "way-c"], &[]);
    assert!(!notes.contains("no policy of a plugin"), "policies for services are for every waypoint: {notes}");
    assert!(names(&resources).iter().any(|name| name.contains("way-c")));
}

#[test]
fn a_waypoint_with_a_misspelt_name_gets_a_note() {
    let policies = |name: &str| vec![policy("cart", "ALLOW", &service("cart")), of_class(name, "istio-waypoint")];
    let (_, notes) = render_for(&policies("way-a"), &["way-a", "wya-a"], &[]);
    let said = "--waypoint shop/wya-a: the input has Gateways of the namespace shop, and none with this name; did you mean \
                shop/way-a?";
    assert!(notes.contains(said) && notes.matches("none with this name").count() == 1, "{notes}");
    let mut elsewhere = policies("way-a");
    elsewhere[1]["metadata"]["namespace"] = json!("infra");
    let (_, notes) = render_for(&elsewhere, &["wya-a"], &[]);
    assert!(!notes.contains("none with this name"), "{notes}");
}

/// What lets HTTP through to a service does so on every waypoint that serves it, whatever the input says.
#[test]
fn http_is_never_let_through_to_a_single_service() {
    let gateways = vec![of_class("way-a", "istio-waypoint"), of_class("way-b", "istio-waypoint")];
    let with = |action: &str| [vec![policy("cart", action, &service("cart"))], gateways.clone()].concat();
    for waypoints in [&["way-a"][..], &["way-a", "way-b"]] {
        let (resources, notes) = render_for(&with("ALLOW"), waypoints, &["--plugin-decides-http"]);
        assert!(!names(&resources).iter().any(|name| name.starts_with("0-mesh-authz-http")), "{:?}", names(&resources));
        assert!(notes.contains("HTTP is let through nowhere"), "{notes}");
        // Nor to the whole waypoint, which would let it through to the service. What an earlier output let through is replaced.
        let both = [with("ALLOW"), vec![policy("whole", "ALLOW", &gateway("way-a"))]].concat();
        let (resources, notes) = render_for(&both, waypoints, &["--plugin-decides-http"]);
        let stoppers: Vec<_> =
            resources.iter().filter(|it| is_stopper(it)).map(|it| &it["spec"]["targetRefs"]).collect();
        assert_eq!(stoppers, [&gateway("way-a")["targetRefs"]]);
        assert!(!resources.iter().any(is_let_through));
        assert!(
            notes.contains("by policy shop/whole, too: policy shop/cart is for a part of the same traffic"),
            "{notes}"
        );
    }
    for (action, more) in [("ALLOW", &[][..]), ("DENY", &["--plugin-decides-http"])] {
        let (_, notes) = render_for(&with(action), &["way-a"], more);
        assert!(notes.contains("the Gateway shop/way-b is a waypoint, and no --waypoint names it"), "{notes}");
    }
    let (_, notes) = render_for(&[two()[..1].to_vec(), gateways].concat(), &["way-a"], &[]);
    assert!(!notes.contains("way-b"), "no policy is for it: {notes}");
}

#[test]
fn a_policy_for_every_waypoint_is_rendered_for_all_that_are_given() {
    let target = json!({ "group": "gateway.networking.k8s.io", "kind": "GatewayClass", "name": "istio-waypoint" });
    let mut everywhere = policy("everywhere", "ALLOW", &json!({ "targetRefs": [target] }));
    everywhere["metadata"]["namespace"] = json!("istio-system");
    let (resources, notes) = render_for(&[everywhere.clone()], &["way-a", "way-b"], &["--plugin-decides-http"]);
    assert_eq!(resources.len(), 6, "{:?}", names(&resources));
    assert!(notes.contains("this output is for shop/way-a, shop/way-b"), "{notes}");
    let gateways = vec![of_class("way-a", "istio-waypoint"), of_class("way-b", "istio-waypoint")];
    let resources = [vec![everywhere], gateways].concat();
    let (_, notes) = render_for(&resources, &["way-a"], &[]);
    assert!(notes.contains("MA030") && notes.contains("give --waypoint for shop/way-b, too"), "{notes}");
    let (_, notes) = render_for(&resources, &["way-a", "way-b"], &[]);
    assert!(!notes.contains("MA030"), "{notes}");
}
