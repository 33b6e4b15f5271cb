//! What `mesh-authz render` writes for a standalone Envoy passes `mesh-authz check --envoy`.

use std::path::{Path, PathBuf};
use std::process::Command;

use mesh_authz_cli::envoy;
use serde_json::{Value, json};

use super::codes;

fn project(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}

fn render(arguments: &[&str], folder: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_mesh-authz"))
        .current_dir(folder)
        .arg("render")
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The codes of what is found in a bootstrap with these options.
fn found(files: &[&str], options: &[&str]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<_> = files.iter().map(|file| project(file).to_str().unwrap().to_owned()).collect();
    let files: Vec<_> = files.iter().map(String::as_str).collect();
    let bootstrap = folder.path().join("envoy.yaml");
    std::fs::write(&bootstrap, render(&[&["envoy"], files.as_slice(), options].concat(), folder.path())).unwrap();
    if options.contains(&"--watch") {
        let of_workload = ["--namespace", "default", "--label", "app=backend", "--output", "watched.yaml"];
        render(&[&["ecds"], files.as_slice(), &of_workload].concat(), folder.path());
    }
    codes(&envoy::check(&[bootstrap], &[]).unwrap())
}

const TUTORIAL: [&str; 2] =
    ["examples/tutorial/allow-frontend-get-data.yaml", "examples/tutorial/allow-nothing-backend.yaml"];
const BACKEND: [&str; 4] = ["--namespace", "default", "--label", "app=backend"];

fn with_options(options: &[&str]) -> Vec<String> {
    found(&TUTORIAL, &[&BACKEND, options].concat())
}

#[test]
fn rendered_bootstraps_have_everything_that_decisions_depend_on() {
    for options in [
        &[][..],
        &["--listen", "127.0.0.1:8080", "--listen", "127.0.0.1:9090", "--upstream", "10.0.0.1"],
        &["--trusted-hops", "1"],
        &["--upstream-protocol", "http2"],
        &["--set", "decisionLog=all", "--set", "paths=strict"],
        &["--watch", "watched.yaml"],
    ] {
        assert_eq!(with_options(options), Vec::<&str>::new(), "{options:?}");
    }
    let orders =
        ["examples/jwt/orders.yaml", "examples/jwt/require-token.yaml", "examples/jwt/request-authentication.yaml"];
    let workload =
        ["--namespace", "shop", "--label", "app=orders", "--listen", "127.0.0.1:8080", "--upstream", "10.0.0.1"];
    assert_eq!(found(&orders, &workload), Vec::<&str>::new());
    assert_eq!(found(&orders, &[&workload[..], &["--set", "jwt.payloadKey=claims"]].concat()), Vec::<&str>::new());
}

/// Here, somebody has said that peers need no identity, or that others say what the client's address is.
#[test]
fn what_an_option_gives_up_is_found() {
    assert_eq!(with_options(&["--plaintext"]), ["ME010 warning"]);
    assert_eq!(with_options(&["--server-only-tls"]), ["ME010 warning", "ME010 warning"]);
    // No policy of the tutorial looks at the client's address.
    assert_eq!(with_options(&["--proxy-protocol"]), Vec::<&str>::new());
}

const CUSTOM: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: login }
spec:
  action: CUSTOM
  provider: { name: login }
  rules: [{ to: [{ operation: { methods: [GET] } }] }]
";
const MESH: &str = "
extensionProviders:
- name: login
  envoyExtAuthzHttp: { service: login.example.com, port: 9000 }
";

/// The connection manager of a rendered bootstrap with a CUSTOM policy.
struct Asking {
    folder: tempfile::TempDir,
    bootstrap: Value,
}

impl Asking {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("custom.yaml"), CUSTOM).unwrap();
        std::fs::write(folder.path().join("mesh.yaml"), MESH).unwrap();
        let arguments = ["envoy", "custom.yaml", "mesh.yaml", "--namespace", "default", "--format", "json"];
        let bootstrap = serde_json::from_str(&render(&arguments, folder.path())).unwrap();
        Self { folder, bootstrap }
    }

    /// What is found about the provider if the connection manager is changed.
    fn with(&self, change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut bootstrap = self.bootstrap.clone();
        change(bootstrap.pointer_mut("/static_resources/listeners/0/filter_chains/0/filters/1/typed_config").unwrap());
        let file = self.folder.path().join("envoy.json");
        std::fs::write(&file, bootstrap.to_string()).unwrap();
        let checked = envoy::check(&[file], &[]).unwrap();
        let of_providers = checked.findings.iter().filter(|finding| finding.code == Some("ME020"));
        of_providers.map(|finding| finding.diagnostic.message.clone()).collect()
    }

    fn without(&self, name: &str) -> Vec<String> {
        self.with(|manager| {
            let at = position(manager, name);
            manager["http_filters"].as_array_mut().unwrap().remove(at);
        })
    }
}

fn position(manager: &Value, name: &str) -> usize {
    let filters = manager["http_filters"].as_array().unwrap();
    filters.iter().position(|filter| filter["name"] == format!("envoy.filters.http.{name}")).unwrap()
}

fn set_ext_authz(manager: &mut Value, field: &str, value: Value) {
    let at = position(manager, "ext_authz");
    manager["http_filters"][at]["typed_config"][field] = value;
}

#[track_caller]
fn finds(found: &[String], parts: &[&str]) {
    assert_eq!(found.len(), parts.len(), "{found:#?}");
    for (message, part) in found.iter().zip(parts) {
        assert!(message.contains("CUSTOM policy default/login") && message.contains(part), "{message}");
    }
}

/// The filters that ask the provider of a CUSTOM policy, each with one thing missing.
#[test]
fn a_provider_that_is_not_asked_is_found() {
    let asking = Asking::new();
    finds(&asking.with(|_| ()), &[]);
    finds(&asking.without("ext_authz"), &["no ext_authz before this filter asks"]);
    finds(&asking.without("rbac"), &["no RBAC filter before this one"]);
    finds(
        &asking.with(|manager| manager["http_filters"].as_array_mut().unwrap().swap(0, 1)),
        &["no RBAC filter before"],
    );
    let last = asking.with(|manager| {
        let filters = manager["http_filters"].as_array_mut().unwrap();
        let asking = filters.remove(1);
        let router = filters.len() - 1;
        filters.insert(router, asking);
    });
    finds(&last, &["no ext_authz before this filter asks"]);
    for (prefix, is_asked) in [
        ("istio-ext-authz-login-", true),
        ("istio-ext-authz-login-ns[", true),
        ("istio-ext-authz-", false),
        ("istio-ext-authz-log", false),
        ("istio-ext-authz-other", false),
        ("istio-ext-authz-login-strict", false),
        // Another provider's: it would be asked in place of this one.
        ("istio-ext-authz-login-ns", false),
    ] {
        let condition = json!({ "string_match": { "prefix": prefix } });
        let found = asking.with(|manager| {
            let at = position(manager, "ext_authz");
            manager["http_filters"][at]["typed_config"]["filter_enabled_metadata"]["value"] = condition.clone();
        });
        assert_eq!(found.is_empty(), is_asked, "{prefix}: {found:?}");
    }
    let share = json!({ "default_value": { "numerator": 50 } });
    finds(
        &asking.with(|manager| set_ext_authz(manager, "filter_enabled", share.clone())),
        &["about a share of the requests only"],
    );
    let open = |manager: &mut Value| set_ext_authz(manager, "failureModeAllow", json!(true));
    finds(&asking.with(open), &["requests pass while it does not answer or answers 5xx"]);
    let with_connect = asking.with(|manager| {
        open(manager);
        manager["upgrade_configs"] = json!([{ "upgrade_type": "CONNECT" }]);
    });
    finds(&with_connect, &["requests pass while it does not answer", "lets every CONNECT pass"]);
    // About a CONNECT, it is asked over gRPC.
    let over_grpc = asking.with(|manager| {
        open(manager);
        manager["upgrade_configs"] = json!([{ "upgrade_type": "CONNECT" }]);
        let at = position(manager, "ext_authz");
        let config = manager["http_filters"][at]["typed_config"].as_object_mut().unwrap();
        config.remove("http_service").unwrap();
        config.insert("grpc_service".to_owned(), json!({ "envoy_grpc": { "cluster_name": "login" } }));
    });
    finds(&over_grpc, &["requests pass while it does not answer"]);
    for name in ["rbac", "ext_authz"] {
        let disabled = asking.with(|manager| {
            let at = position(manager, name);
            manager["http_filters"][at]["disabled"] = json!(true);
        });
        finds(&disabled, &["is disabled"]);
        let for_a_route = asking.with(|manager| {
            manager["route_config"]["virtual_hosts"][0]["typed_per_filter_config"] =
                json!({ format!("envoy.filters.http.{name}"): { "disabled": true } });
        });
        finds(&for_a_route, &["for a route"]);
    }
}

/// Filters that look like those that ask the provider.
#[test]
fn filters_that_ask_somebody_else_are_found() {
    let asking = Asking::new();
    // Nobody knows whether one that asks about everything asks this provider.
    let global = asking.with(|manager| {
        let at = position(manager, "ext_authz");
        manager["http_filters"][at]["typed_config"].as_object_mut().unwrap().remove("filter_enabled_metadata");
    });
    finds(&global, &["no ext_authz before this filter asks"]);
    for field in ["shadow_mode", "shadowMode", "a_newer_field"] {
        finds(
            &asking.with(|manager| set_ext_authz(manager, field, json!(true))),
            &["can let requests pass that it refuses"],
        );
    }
    // The RBAC filter is of another time, or another one comes between.
    let outdated = asking.with(|manager| {
        let at = position(manager, "rbac");
        let rules = manager["http_filters"][at]["typed_config"]["shadow_rules"]["policies"].as_object_mut().unwrap();
        let rule = rules.remove("istio-ext-authz-login-ns[default]-policy[login]-rule[0]").unwrap();
        rules.insert("istio-ext-authz-old-ns[default]-policy[login]-rule[0]".to_owned(), rule);
    });
    assert!(
        outdated.len() == 1 && outdated[0].contains("has no rule 0 of CUSTOM policy default/login"),
        "{outdated:?}"
    );
    let between = asking.with(|manager| {
        let at = position(manager, "rbac");
        let filters = manager["http_filters"].as_array_mut().unwrap();
        let mut other = filters[at].clone();
        other["typed_config"]["shadow_rules"]["policies"] = json!({});
        filters.insert(at + 1, other);
    });
    assert!(between.len() == 1 && between[0].contains("has no rule 0 of CUSTOM policy default/login"), "{between:?}");
}

/// For connections, the filters are other ones, and what is missing is the same.
#[test]
fn what_keeps_a_provider_from_being_asked_about_connections_is_found() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("custom.yaml"), CUSTOM).unwrap();
    let mesh = MESH.replace("envoyExtAuthzHttp", "envoyExtAuthzGrpc");
    std::fs::write(folder.path().join("mesh.yaml"), mesh).unwrap();
    let arguments = ["envoy", "custom.yaml", "mesh.yaml", "--namespace", "default", "--format", "json"];
    let arguments = [&arguments[..], &["--listen-tcp", "127.0.0.1:5432", "--upstream", "10.0.0.1"]].concat();
    let bootstrap: Value = serde_json::from_str(&render(&arguments, folder.path())).unwrap();
    let found = |change: fn(&mut Vec<Value>)| {
        let mut bootstrap = bootstrap.clone();
        let filters = bootstrap.pointer_mut("/static_resources/listeners/0/filter_chains/0/filters").unwrap();
        change(filters.as_array_mut().unwrap());
        let file = folder.path().join("envoy.json");
        std::fs::write(&file, bootstrap.to_string()).unwrap();
        codes(&envoy::check(&[file], &[]).unwrap())
    };
    // 0 tells the peer, 1 is the RBAC filter, 2 asks, 3 is ours.
    assert_eq!(found(|_| ()), Vec::<String>::new());
    assert_eq!(found(|filters| drop(filters.remove(2))), ["ME020"]);
    assert_eq!(found(|filters| drop(filters.remove(1))), ["ME020"]);
    assert_eq!(found(|filters| filters.swap(1, 2)), ["ME020"]);
    assert_eq!(found(|filters| filters.swap(2, 3)), ["ME020"]);
    assert_eq!(found(|filters| filters[2]["typed_config"]["failure_mode_allow"] = json!(true)), ["ME020 warning"]);
    assert_eq!(found(|filters| filters[1]["typed_config"]["shadow_rules"]["policies"] = json!({})), ["ME020"]);
}

/// A provider over HTTP is not asked about connections, so the two listeners have different policies.
#[test]
fn listeners_for_http_and_tcp_are_no_side_doors_of_each_other() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("custom.yaml"), CUSTOM).unwrap();
    std::fs::write(folder.path().join("mesh.yaml"), MESH).unwrap();
    let allow = CUSTOM
        .replace("CUSTOM", "ALLOW")
        .replace("  provider: { name: login }\n", "")
        .replace("methods: [GET]", "ports: ['5432', '8080']");
    std::fs::write(folder.path().join("allow.yaml"), allow.replace("name: login", "name: all")).unwrap();
    let arguments = ["envoy", "custom.yaml", "mesh.yaml", "allow.yaml", "--namespace", "default", "--allow", "MA030"];
    let both = ["--listen", "127.0.0.1:8080", "--listen-tcp", "127.0.0.1:5432", "--upstream", "10.0.0.1:80"];
    let file = folder.path().join("envoy.yaml");
    std::fs::write(&file, render(&[&arguments[..], &both].concat(), folder.path())).unwrap();
    let codes = codes(&envoy::check(&[file], &[]).unwrap());
    assert!(!codes.iter().any(|code| code.starts_with("ME002")), "{codes:?}");
}
