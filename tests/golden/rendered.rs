//! The exact output of `mesh-authz render`. `rendered/NAME.out` has the standard output, `rendered/NAME.err` the notes
//! on standard error.
//!
//! `UPDATE=1 cargo test --test golden` writes the files again. Then review the diff.

use std::path::PathBuf;
use std::process::Command;

use mesh_authz_cli::load::yaml;
use mesh_authz_cli::render::envoy;
use serde_json::{Value, json};

use crate::project;
use crate::yaml::ODD;

const URL: [&str; 2] = ["--url", "oci://registry.example/mesh-authz:0.1.0"];
const SHA256: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A run of the command: the name of its golden files, the expected exit status, and the arguments.
type Case = (&'static str, i32, Vec<&'static str>);

#[allow(clippy::too_many_lines, reason = "a list")]
fn cases() -> Vec<Case> {
    let orders = ["--namespace", "shop", "--label", "app=orders"];
    let plugin = |file: &'static str, more: &[&'static str]| [&["wasm-plugin", file], &URL[..], more].concat();
    vec![
        ("envoy", 0, [&["envoy", "shop.yaml"], &orders[..]].concat()),
        ("envoy-older", 0, [&["envoy", "shop.yaml", "--envoy-version=1.36.4"], &orders[..]].concat()),
        ("envoy-too-old", 2, [&["envoy", "shop.yaml", "--envoy-version=1.35"], &orders[..]].concat()),
        ("envoy-no-version", 2, [&["envoy", "shop.yaml", "--envoy-version=latest"], &orders[..]].concat()),
        ("filters-older", 0, [&["filters", "shop.yaml", "--envoy-version=1.36"], &orders[..]].concat()),
        (
            "envoy-elsewhere",
            0,
            vec![
                "envoy",
                "shop.yaml",
                "--namespace=shop",
                "--label=app=cart",
                "--listen=[::]:443",
                "--admin=127.0.0.1:9",
                "--upstream=cart.example:80",
                "--wasm=/lib/m.wasm",
                "--certificate=a",
                "--key=b",
                "--ca=c",
                "--trust-domain=td",
                "--trust-domain-alias=old",
                "--combining=permit-overrides",
                "--format=json",
            ],
        ),
        ("envoy-gateway", 0, {
            let label = "gateway.networking.k8s.io/gateway-name=entrance";
            vec!["envoy", "shop.yaml", "--namespace=shop", "--label", label, "--plaintext"]
        }),
        ("envoy-watching", 0, [&["envoy", "shop.yaml", "--watch=/etc/envoy/ecds/policies.json"], &orders[..]].concat()),
        ("envoy-watching-nothing", 2, [&["envoy", "shop.yaml", "--watch=policies"], &orders[..]].concat()),
        ("envoy-ports", 0, {
            let listen = ["--listen=10.0.0.1:8080", "--listen=[::]:9090", "--listen=10.0.0.2:9090", "--upstream=cart"];
            [&["envoy", "ports.yaml", "--namespace=shop", "--plaintext"], &listen[..]].concat()
        }),
        ("envoy-ports-not-given", 1, vec!["envoy", "ports.yaml", "--namespace=shop"]),
        (
            "envoy-ports-elsewhere",
            1,
            vec!["envoy", "ports.yaml", "--namespace=shop", "--listen=10.0.0.1:80", "--listen=10.0.0.1:81"],
        ),
        ("envoy-server-only-tls", 0, {
            let files = ["--server-only-tls", "--certificate=a", "--key=b", "--format=json"];
            [&["envoy", "shop.yaml"], &orders[..], &files].concat()
        }),
        ("envoy-behind-a-load-balancer", 0, {
            let options = ["--proxy-protocol", "--upstream-protocol=http2", "--plaintext"];
            [&["envoy", "ports.yaml", "--namespace=shop"], &options[..]].concat()
        }),
        ("envoy-downstream", 0, {
            let options = ["--upstream-protocol=downstream", "--plaintext", "--format=json", "--trusted-hops=2"];
            [&["envoy", "shop.yaml"], &orders[..], &options].concat()
        }),
        ("envoy-hops", 2, [&["envoy", "shop.yaml", "--trusted-hops=256"], &orders[..]].concat()),
        ("envoy-listen-twice", 2, {
            [&["envoy", "shop.yaml", "--listen=10.0.0.1:80", "--listen=10.0.0.1:80"], &orders[..]].concat()
        }),
        ("envoy-to-itself", 2, [&["envoy", "shop.yaml", "--listen=[::]:8080"], &orders[..]].concat()),
        ("envoy-no-upstream-port", 2, {
            [&["envoy", "shop.yaml", "--listen=10.0.0.1:0", "--upstream=cart"], &orders[..]].concat()
        }),
        ("ecds", 0, vec!["ecds", "ingress.yaml", "--namespace=istio-system"]),
        ("ecds-no-namespace", 2, vec!["ecds", "ingress.yaml"]),
        ("ecds-nothing-applies", 2, vec!["ecds", "selectors.yaml", "--namespace=elsewhere"]),
        (
            "ecds-nothing-has-to-apply",
            0,
            vec!["ecds", "selectors.yaml", "--namespace=elsewhere", "--allow-none-applies"],
        ),
        ("ecds-elsewhere", 0, {
            let more = ["--wasm=/lib/m.wasm", "--trust-domain=td", "--combining=permit-overrides", "--format=json"];
            [&["ecds", "shop.yaml"], &orders[..], &more].concat()
        }),
        ("ecds-warnings", 1, vec!["ecds", "ports.yaml", "--namespace=shop", "--deny-warnings"]),
        ("envoy-no-keys", 1, vec!["envoy", "no-keys.yaml", "--namespace=shop"]),
        ("envoy-no-labels", 2, vec!["envoy", "shop.yaml", "--namespace=shop"]),
        ("envoy-no-namespace", 2, vec!["envoy", "shop.yaml", "--label=app=orders"]),
        ("envoy-nothing-applies", 2, vec!["envoy", "shop.yaml", "--namespace=elsewhere", "--label=app=x"]),
        (
            "envoy-nothing-has-to-apply",
            0,
            vec!["envoy", "shop.yaml", "--namespace=elsewhere", "--label=app=x", "--plaintext", "--allow-none-applies"],
        ),
        ("envoy-rbac-nothing-applies", 2, vec!["envoy-rbac", "shop.yaml", "--namespace=elsewhere", "--label=app=x"]),
        ("plugin-config-nothing-applies", 2, vec!["plugin-config", "shop.yaml", "--namespace=elsewhere"]),
        ("plugin-config", 0, [&["plugin-config", "shop.yaml"], &orders[..]].concat()),
        ("wasm-plugin", 0, plugin("shop.yaml", &[])),
        ("plugin-config-fields", 0, {
            let fields = [
                "--plugin=../plugin.yaml",
                "--set=denyResponse.status=404",
                "--set=decisionLog=all",
                "--set=paths=strict",
            ];
            [&["plugin-config", "shop.yaml"], &orders[..], &fields].concat()
        }),
        ("plugin-config-wrong-fields", 1, {
            let set = [
                "--set=denyResponse.status=200",
                "--set=decisionLogs=all",
                "--set=jwt={payloadKey: a}",
                "--set=rootNamespace=a",
            ];
            let more = ["--plugin=../wrong-plugin.yaml", "--set=denyResponse.body=5", "--set=debugHeader.name=x-why"];
            [&["plugin-config", "shop.yaml"], &orders[..], &set, &more].concat()
        }),
        ("plugin-config-fields-twice", 1, {
            let set = ["--set=denyResponse.status=404", "--set=denyResponse={}", "--set=denyResponse.status.code=1"];
            [&["plugin-config", "shop.yaml"], &orders[..], &set].concat()
        }),
        (
            "plugin-config-no-object",
            2,
            [&["plugin-config", "shop.yaml", "--plugin=no-keys.yaml"], &orders[..]].concat(),
        ),
        ("envoy-fields", 0, {
            let fields =
                ["--plugin=../plugin.yaml", "--set=jwt.payloadKey=claims", "--set=filterState=all", "--plaintext"];
            [&["envoy", "shop.yaml"], &orders[..], &fields].concat()
        }),
        ("envoy-watching-fields", 2, {
            [&["envoy", "shop.yaml", "--watch=a.json", "--set=paths=strict"], &orders[..]].concat()
        }),
        ("filters", 0, [&["filters", "shop.yaml"], &orders[..]].concat()),
        ("filters-json", 0, [&["filters", "shop.yaml", "--format=json"], &orders[..]].concat()),
        ("filters-watching", 0, [&["filters", "shop.yaml", "--watch=ecds/policies.json"], &orders[..]].concat()),
        ("filters-sni-and-ports", 0, {
            vec!["filters", "sni.yaml", "--namespace=edge", "--no-labels", "--wasm=/lib/m.wasm"]
        }),
        ("filters-waypoint", 0, {
            vec!["filters", "whole-waypoint.yaml", "--namespace=shop", "--no-labels", "--waypoint=waypoint"]
        }),
        ("filters-no-namespace", 2, vec!["filters", "shop.yaml"]),
        ("filters-fields", 0, [&["filters", "shop.yaml", "--plugin=../plugin.yaml"], &orders[..]].concat()),
        ("ecds-fields", 0, vec!["ecds", "ingress.yaml", "--namespace=istio-system", "--set=decisionLogRate=100"]),
        ("wasm-plugin-fields", 0, plugin("shop.yaml", &["--plugin=../plugin.yaml", "--set=denyResponse.status=404"])),
        ("wasm-plugin-waypoint-fields", 1, {
            plugin("waypoint.yaml", &["--waypoint=shop/waypoint", "--set=principalFrom=peer-certificate"])
        }),
        ("traffic-extension-fields", 0, {
            [&["traffic-extension", "shop.yaml", "--set=decisionLog=none", "--policies-applied"], &URL[..]].concat()
        }),
        ("wasm-plugin-list", 0, {
            let more = ["--format=json", "--sha256", SHA256, "--image-pull-secret=registry"];
            plugin("selectors.yaml", &more)
        }),
        ("wasm-plugin-gateways", 0, plugin("selectors.yaml", &["ingress.yaml", "--no-envoy-filter"])),
        ("wasm-plugin-unhelped", 0, plugin("shop.yaml", &["--no-envoy-filter"])),
        ("wasm-plugin-custom", 0, plugin("custom.yaml", &[])),
        ("wasm-plugin-applied", 0, plugin("custom.yaml", &["--policies-applied"])),
        ("wasm-plugin-decides-http", 0, plugin("custom.yaml", &["--plugin-decides-http", "--revision=canary"])),
        ("wasm-plugin-decides-http-gateway", 0, plugin("shop.yaml", &["--plugin-decides-http", "--policies-applied"])),
        (
            "wasm-plugin-permit",
            0,
            plugin("custom.yaml", &["--combining=permit-overrides", "--plugin-decides-http", "--policies-applied"]),
        ),
        ("wasm-plugin-permit-alone", 2, plugin("custom.yaml", &["--combining=permit-overrides"])),
        ("wasm-plugin-services", 0, plugin("waypoint.yaml", &["--waypoint=shop/waypoint"])),
        ("wasm-plugin-waypoint", 0, plugin("whole-waypoint.yaml", &["--waypoint=shop/waypoint"])),
        ("wasm-plugin-waypoint-and-services", 0, {
            let files = ["whole-waypoint.yaml", "partners.yaml", "service-entry.yaml"];
            let more = ["--waypoint=infra/waypoint", "--cluster-domain=mesh.example"];
            plugin("waypoint.yaml", &[&files[..], &more].concat())
        }),
        (
            "wasm-plugin-decides-http-services",
            0,
            plugin("waypoint.yaml", &["--waypoint=shop/waypoint", "--plugin-decides-http"]),
        ),
        ("wasm-plugin-unknown-label", 1, plugin("unknown-label.yaml", &[])),
        ("wasm-plugin-waypoints", 0, {
            let more = ["gateways-of-waypoints.yaml", "--waypoint=shop/outside", "--waypoint=shop/inside"];
            plugin("two-waypoints.yaml", &[&more[..], &["--policies-applied"]].concat())
        }),
        ("wasm-plugin-waypoint-not-named", 1, {
            plugin("two-waypoints.yaml", &["gateways-of-waypoints.yaml", "--waypoint=shop/inside"])
        }),
        ("wasm-plugin-waypoint-not-in-input", 0, plugin("two-waypoints.yaml", &["--waypoint=shop/inside"])),
        ("wasm-plugin-no-waypoint-but-gateway", 2, {
            plugin("two-waypoints.yaml", &["gateways-of-waypoints.yaml", "--waypoint=shop/entrance"])
        }),
        ("wasm-plugin-no-service-entry", 1, plugin("partners.yaml", &["--waypoint=infra/waypoint"])),
        ("wasm-plugin-no-domain", 2, plugin("waypoint.yaml", &["--waypoint=infra/waypoint", "--cluster-domain=.mesh"])),
        ("wasm-plugin-no-waypoint", 1, plugin("waypoint.yaml", &[])),
        ("wasm-plugin-no-url", 2, vec!["wasm-plugin", "shop.yaml"]),
        ("traffic-extension", 0, [&["traffic-extension", "selectors.yaml"], &URL[..]].concat()),
        ("traffic-extension-services", 0, {
            [&["traffic-extension", "waypoint.yaml", "--waypoint=shop/waypoint"], &URL[..]].concat()
        }),
    ]
}

fn folder() -> PathBuf {
    project("tests/golden/rendered")
}

fn run((name, status, arguments): &(&str, i32, Vec<&str>)) -> (String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_mesh-authz"))
        .current_dir(folder())
        .arg("render")
        .args(arguments)
        .output()
        .unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert_eq!(output.status.code(), Some(*status), "{name}: {out}{err}");
    (out, err)
}

#[test]
fn the_command_prints_what_it_printed_before() {
    let update = std::env::var_os("UPDATE").is_some();
    for case in cases() {
        let name = case.0;
        let (out, err) = run(&case);
        for (printed, extension) in [(out, "out"), (err, "err")] {
            let file = folder().join(format!("{name}.{extension}"));
            if update && printed.is_empty() {
                let _was_not_there = std::fs::remove_file(&file);
            } else if update {
                std::fs::write(&file, &printed).unwrap();
            }
            let expected = std::fs::read_to_string(&file).unwrap_or_default();
            assert!(printed == expected, "{name}.{extension} is now:\n{printed}");
        }
    }
}

#[test]
fn yaml_and_json_say_the_same_whatever_is_in_a_policy() {
    let policy = serde_json::json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "name": "odd", "labels": { "on": "off" } },
        "spec": { "rules": [{ "when": [{ "key": "request.headers[x]", "values": ODD.as_slice() }] }] },
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("odd.json");
    std::fs::write(&file, policy.to_string()).unwrap();
    for command in
        [&["envoy", "--namespace=default"][..], &["wasm-plugin", "--url=x"], &["traffic-extension", "--url=x"]]
    {
        let [yaml, json] = ["yaml", "json"].map(|format| {
            let arguments = [command, &[file.to_str().unwrap(), "--format", format]].concat();
            let (out, _) = run(&("odd", 0, arguments));
            let documents = mesh_authz_cli::load::yaml::documents(&out).unwrap();
            let documents: Vec<_> = documents.into_iter().map(|node| serde_json::to_value(node).unwrap()).collect();
            match documents.first().map(|first| &first["items"]) {
                Some(Value::Array(items)) => items.clone(),
                _ => documents,
            }
        });
        assert_eq!(yaml, json, "{command:?}");
        assert!(json[0].to_string().contains("request.headers[x]"));
    }
}

/// `UPDATE=1` also writes these files.
#[test]
fn the_example_for_a_cluster_is_what_the_command_prints() {
    let project = project("");
    for kind in ["wasm-plugin", "traffic-extension"] {
        let output = Command::new(env!("CARGO_BIN_EXE_mesh-authz"))
            .current_dir(&project)
            .args(["render", kind, "examples/tutorial/allow-frontend-get-data.yaml"])
            .args(["examples/tutorial/allow-nothing-backend.yaml", "--sha256", &"0".repeat(64)])
            .args(URL)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let file = project.join(format!("examples/istio/{kind}.yaml"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&file, &output.stdout).unwrap();
        }
        assert!(output.stdout == std::fs::read(&file).unwrap(), "{} is not what `render` prints", file.display());
    }
}

/// The resources in an example's folder.
pub fn example(name: &str) -> Vec<Value> {
    let folder = project("examples").join(name);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    let documents = files.iter().flat_map(|file| mesh_authz_cli::load::documents(file).unwrap());
    documents.map(|document| serde_json::to_value(document).unwrap()).collect()
}

#[test]
fn the_example_for_a_cluster_holds_together() {
    let resources = example("istio");
    let of = |kind: &'static str| resources.iter().filter(move |resource| resource["kind"] == kind);
    let listed = of("Kustomization").next().unwrap()["resources"].as_array().unwrap();
    let folder = project("examples/istio");
    let kustomization = of("Kustomization").next().unwrap();
    assert_eq!(kustomization["sortOptions"]["order"], "fifo", "kustomize would put Deployments first");
    assert_eq!(listed[0], "wasm-plugin.yaml", "what protects comes first");
    assert!(listed.iter().all(|file| folder.join(file.as_str().unwrap()).is_file()), "{listed:?}");
    assert!(!listed.contains(&Value::from("traffic-extension.yaml")), "one of the two, or the filter is loaded twice");
    for deployment in of("Deployment") {
        let template = &deployment["spec"]["template"];
        let account = &template["spec"]["serviceAccountName"];
        assert!(of("ServiceAccount").any(|found| found["metadata"]["name"] == *account), "{account}");
        assert_eq!(deployment["spec"]["selector"]["matchLabels"]["app"], template["metadata"]["labels"]["app"]);
    }
    let selector = &of("WasmPlugin").next().unwrap()["spec"]["selector"]["matchLabels"];
    assert!(
        of("Deployment").any(|deployment| deployment["spec"]["selector"]["matchLabels"] == *selector),
        "{selector}"
    );
}

/// All Kubernetes resources that the cases print.
pub fn resources() -> Vec<Value> {
    let cases = cases()
        .into_iter()
        .filter(|(_, status, arguments)| *status == 0 && ["wasm-plugin", "traffic-extension"].contains(&arguments[0]));
    let documents = cases.flat_map(|case| mesh_authz_cli::load::yaml::documents(&run(&case).0).unwrap());
    let resources = documents.flat_map(|document| match serde_json::to_value(document).unwrap() {
        list if list["kind"] == "List" => list["items"].as_array().unwrap().clone(),
        resource => vec![resource],
    });
    resources.collect()
}

/// All resources that the cases read.
pub fn inputs() -> Vec<Value> {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    let documents = files.flat_map(|file| mesh_authz_cli::load::documents(&file).unwrap());
    documents.map(|document| serde_json::to_value(document).unwrap()).collect()
}

#[test]
fn names_are_labels_and_nothing_fails_open() {
    let resources = resources();
    assert!(resources.len() > 20, "only {}", resources.len());
    for resource in resources {
        let name = resource["metadata"]["name"].as_str().unwrap();
        let is_label = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        assert!(name.len() <= 63 && name.bytes().all(is_label), "{name}");
        if ["WasmPlugin", "TrafficExtension"].iter().any(|kind| resource["kind"] == *kind) {
            let text = resource.to_string();
            assert!(text.contains(r#""failStrategy":"FAIL_CLOSE""#) && text.contains(r#""phase":"AUTHZ""#), "{text}");
        }
    }
}

#[test]
fn every_render_counts_warnings() {
    const NAMESPACE: &str = "--namespace=default";
    let renders: [&[&str]; 6] = [
        &["plugin-config", NAMESPACE],
        &["envoy-rbac", NAMESPACE],
        &["envoy", NAMESPACE],
        &["ecds", NAMESPACE],
        &["wasm-plugin", "--url=file:///f.wasm"],
        &["traffic-extension", "--url=file:///f.wasm"],
    ];
    let resource = |kind: &str, spec: Value| {
        let version = if kind == "ConfigMap" { "v1" } else { "security.istio.io/v1" };
        serde_json::json!({ "apiVersion": version, "kind": kind, "metadata": { "name": "x" }, "spec": spec })
    };
    let keys = |uri: &str| serde_json::json!({ "jwtRules": [{ "issuer": "i", "jwksUri": uri }] });
    let good = || resource("AuthorizationPolicy", serde_json::json!({}));
    let mut custom = resource(
        "AuthorizationPolicy",
        serde_json::json!({ "action": "CUSTOM", "provider": { "name": "p" }, "rules": [{}] }),
    );
    custom["metadata"]["name"] = "custom".into();
    let strict = resource("PeerAuthentication", serde_json::json!({ "mtls": { "mode": "STRICT" } }));
    let deny = serde_json::json!({ "action": "DENY", "rules": [{ "from": [{ "source": { "namespaces": ["x"] } }] }] });
    let deny = resource("AuthorizationPolicy", deny);
    // What is also in the input, the code of the warning, and the renders that warn of it.
    let all: &[&str] = &["plugin-config", "envoy-rbac", "envoy", "ecds", "wasm-plugin", "traffic-extension"];
    let cases = [
        (vec![good()], "", &[][..]),
        (vec![good(), resource("ConfigMap", serde_json::json!({}))], "MA030", all),
        (
            vec![good(), resource("RequestAuthentication", keys("https://i/k"))],
            "MA030",
            &["plugin-config", "envoy-rbac", "ecds"],
        ),
        (vec![good(), resource("RequestAuthentication", keys("http://i/k"))], "MA032", all),
        // The filter refuses what it matches; in `envoy-rbac`, nothing does. In a cluster, Istio enforces it.
        (vec![good(), custom], "MA03", &["plugin-config", "envoy-rbac", "envoy", "ecds"]),
        (vec![good(), strict.clone()], "MA030", &["plugin-config", "envoy-rbac", "ecds"]),
        // A PeerAuthentication refuses plaintext only where somebody enforces it. This Envoy requires a certificate.
        (vec![deny, strict], "MA003", &["plugin-config", "envoy-rbac", "ecds"]),
    ];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("list.json");
    let output = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mesh-authz"));
        let output = command.arg("render").args(arguments).arg(&file).output().unwrap();
        let [out, notes] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        (output.status.code(), out, notes)
    };
    for (resources, code, warned) in cases {
        let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": resources });
        std::fs::write(&file, list.to_string()).unwrap();
        for render in renders {
            let (status, out, notes) = output(render);
            assert!(status == Some(0) && !out.is_empty(), "{render:?}: {notes}");
            let is_warned = warned.contains(&render[0]);
            assert_eq!(!code.is_empty() && notes.contains(code), is_warned, "{render:?}: {notes}");
            let (status, out, notes) = output(&[render, &["--deny-warnings"]].concat());
            assert_eq!((status, out.is_empty()), (Some(i32::from(is_warned)), is_warned), "{render:?}: {notes}");
            if !code.is_empty() {
                let code = if code == "MA03" { "MA031" } else { code };
                let allow = [&format!("--allow={code}"), "--allow=MA030", "--deny-warnings"];
                let (status, _, notes) = output(&[render, &allow[..]].concat());
                assert_eq!(status, Some(0), "{render:?}: {notes}");
            }
        }
    }
    std::fs::write(&file, good().to_string()).unwrap();
    for (url, is_warned) in [
        ("http://h/f", true),
        ("https://h/f", true),
        ("oci://h/f:1", true),
        ("oci://h/f@sha256:0", true),
        (&format!("oci://h/f@sha256:{}", "0".repeat(64)), false),
    ] {
        for kind in ["wasm-plugin", "traffic-extension"] {
            let url = format!("--url={url}");
            let (status, out, notes) = output(&[kind, &url, "--deny-warnings"]);
            assert_eq!((status, out.is_empty()), (Some(i32::from(is_warned)), is_warned), "{url}: {notes}");
            assert_eq!(notes.contains("MA033"), is_warned, "{url}: {notes}");
            let sum = format!("--sha256={}", "0".repeat(64));
            assert_eq!(output(&[kind, &url, "--deny-warnings", &sum]).0, Some(0));
        }
    }
}

#[test]
fn the_shipped_sidecar_has_what_the_filters_need() {
    let document = |text: &str| json!(yaml::documents(text).unwrap().first());
    let sidecar = document(include_str!("../../envoy/backend.yaml"));
    let manager = &sidecar["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][1]["typed_config"];
    let required = document(envoy::REQUIRED);
    let page = include_str!("../../docs/envoy.md");
    for (name, value) in required.as_object().unwrap() {
        assert_eq!(&manager[name], value, "{name}");
        assert!(page.contains(name), "{name}");
    }
}
