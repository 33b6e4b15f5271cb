//! Checks configurations of Envoy that lack one thing each, and what makes no difference.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "tests fail by panicking"
)]

mod peer;
mod public;
mod rendered;
mod reported;
mod several_files;
mod shapes;

use std::path::PathBuf;

use mesh_authz::document::Node;
use mesh_authz::policy::AuthorizationPolicy;
use mesh_authz_cli::envoy::{self, Checked, Decides};
use mesh_authz_cli::load::finding::Severity;
use mesh_authz_cli::load::yaml;
use serde_json::{Value, json};

/// An Envoy that has everything on which decisions depend.
const COMPLETE: &str = include_str!("complete.yaml");

fn check(text: &str) -> Checked {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("envoy.yaml");
    std::fs::write(&file, text).unwrap();
    envoy::check(&[file], &[]).unwrap()
}

/// The codes and severities of all findings, in order.
fn codes(checked: &Checked) -> Vec<String> {
    let code = |finding: &mesh_authz_cli::load::finding::Finding| match finding.severity {
        Severity::Error => finding.code.unwrap_or("no code").to_owned(),
        Severity::Warning => format!("{} warning", finding.code.unwrap_or("no code")),
    };
    let mut codes: Vec<_> = checked.findings.iter().map(code).collect();
    codes.sort();
    codes
}

/// The complete configuration with other text in place of this one, which it must have exactly once.
#[track_caller]
fn with(from: &str, to: &str) -> String {
    assert_eq!(COMPLETE.matches(from).count(), 1, "{from}");
    COMPLETE.replace(from, to)
}

#[track_caller]
fn assert_finds(text: &str, expected: &[&str]) -> Checked {
    let checked = check(text);
    let lines: Vec<_> = checked.findings.iter().map(ToString::to_string).collect();
    assert_eq!(codes(&checked), expected, "{}", lines.join("\n"));
    checked
}

/// The complete configuration as a tree, to change in ways that text does not lend itself to.
fn tree() -> Value {
    let documents: Vec<Node> = yaml::documents(COMPLETE).unwrap();
    json!(documents[0])
}

const MANAGER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";

fn manager(tree: &mut Value) -> &mut Value {
    tree.pointer_mut(MANAGER).unwrap()
}

/// The HTTP filters; ours is the third of four.
fn http_filters(tree: &mut Value) -> &mut Vec<Value> {
    manager(tree)["http_filters"].as_array_mut().unwrap()
}

fn route(tree: &mut Value) -> &mut Value {
    manager(tree).pointer_mut("/route_config/virtual_hosts/0/routes/0").unwrap()
}

#[track_caller]
fn assert_tree_finds(change: impl FnOnce(&mut Value), expected: &[&str]) -> Checked {
    let mut tree = tree();
    change(&mut tree);
    assert_finds(&tree.to_string(), expected)
}

#[test]
fn nothing_is_missing_in_the_complete_configuration_and_in_the_sidecar_that_the_project_ships() {
    let checked = assert_finds(COMPLETE, &[]);
    assert_eq!(checked.policies, 1);
    let chains: Vec<_> = checked.chains.iter().map(|chain| (chain.decides, chain.clusters.join(" "))).collect();
    assert_eq!(chains, [(Decides::Yes, "application".to_owned())]);
    for shipped in ["../envoy/backend.yaml", "../envoy/database.yaml"] {
        let shipped = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(shipped);
        assert!(envoy::check(&[shipped], &[]).unwrap().findings.is_empty());
    }
}

/// What a listener for TCP lacks.
#[test]
fn each_setting_that_is_missing_for_tcp_is_found() {
    let shipped = include_str!("../../envoy/database.yaml");
    let ours = "- name: mesh_authz\n        typed_config:\n          \"@type\": type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm";
    for (from, to, code) in [
        ("require_client_certificate: true", "require_client_certificate: false", "ME010 warning"),
        ("trusted_ca: { filename: certs/ca.crt }", "max_verify_depth: 3", "ME010 warning"),
        ("failure_policy: FAIL_CLOSED", "failure_policy: FAIL_OPEN", "ME011"),
        ("object_key: mesh_authz.peer", "object_key: other", "ME014 warning"),
        ("on_downstream_tls_handshake:", "on_new_connection:", "ME014 warning"),
        (
            "upstream_connect_mode: ON_DOWNSTREAM_TLS_HANDSHAKE",
            "upstream_connect_mode: ON_DOWNSTREAM_DATA",
            "ME022 warning",
        ),
        ("          upstream_connect_mode: ON_DOWNSTREAM_TLS_HANDSHAKE\n", "", "ME022 warning"),
        ("action: ALLOW", "action: ALOW", "ME016"),
        (ours, "- name: rbac\n        typed_config:\n          \"@type\": type.googleapis.com/a.b", "ME001"),
    ] {
        assert_eq!(shipped.matches(from).count(), 1, "{from}");
        assert_finds(&shipped.replace(from, to), &[code]);
    }
    // Who it is that is told behind the filter, nobody knows in time.
    let mut swapped: Value = json!(yaml::documents(shipped).unwrap()[0]);
    swapped
        .pointer_mut("/static_resources/listeners/0/filter_chains/0/filters")
        .unwrap()
        .as_array_mut()
        .unwrap()
        .swap(0, 1);
    assert_finds(&swapped.to_string(), &["ME013"]);
    // The addresses that a header says.
    let mut proxied: Value = json!(yaml::documents(shipped).unwrap()[0]);
    let listener = proxied.pointer_mut("/static_resources/listeners/0").unwrap();
    let inspector = listener["listener_filters"][0].clone();
    listener["listener_filters"] = json!([{ "name": "p", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
    } }, inspector]);
    let config = "/filter_chains/0/filters/1/typed_config/config/configuration/value";
    let rule = |source: Value| json!([{ "from": [{ "source": source }] }]);
    listener.pointer_mut(config).unwrap()["policies"][0]["spec"]["rules"] =
        rule(json!({ "remoteIpBlocks": ["10.0.0.0/8"] }));
    assert_finds(&proxied.to_string(), &["ME009 warning"]);
    let listener = proxied.pointer_mut("/static_resources/listeners/0").unwrap();
    let value = listener.pointer_mut(config).unwrap();
    value["policies"][0]["spec"]["rules"] = rule(json!({ "ipBlocks": ["10.0.0.0/8"] }));
    value["sourceIpFrom"] = json!("remote-address");
    assert_finds(&proxied.to_string(), &["ME009"]);
    // A chain for TCP without the filter leads to the same application.
    let both = shipped.replace("  clusters:\n", "  - name: other\n    address: { socket_address: { address: 0.0.0.0, port_value: 1 } }\n    filter_chains:\n    - filters:\n      - name: tcp\n        typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, cluster: application }\n  clusters:\n");
    assert_finds(&both, &["ME002"]);
}

/// Only `tls_inspector` reads the server name, for HTTP and for TCP, and also where Envoy ends TLS.
#[test]
fn a_server_name_that_nothing_reads_is_found() {
    for shipped in [include_str!("../../envoy/backend.yaml"), include_str!("../../envoy/database.yaml")] {
        let mut tree: Value = json!(yaml::documents(shipped).unwrap()[0]);
        let text = tree.to_string().replace(r#""action":"ALLOW""#, r#""action":"DENY""#);
        let text =
            text.replace(r#""rules":[{"#, r#""rules":[{"when":[{"key":"connection.sni","values":["a.example"]}],"#);
        tree = serde_json::from_str(&text).unwrap();
        let find = |tree: &Value| {
            codes(&check(&tree.to_string())).into_iter().filter(|code| code.starts_with("ME015")).collect::<Vec<_>>()
        };
        assert_eq!(find(&tree), Vec::<String>::new());
        let mut without = tree.clone();
        without["static_resources"]["listeners"][0]["listener_filters"] = json!([]);
        assert_eq!(find(&without), ["ME015"]);
        let mut slow = tree.clone();
        slow["static_resources"]["listeners"][0]["continue_on_listener_filters_timeout"] = json!(true);
        assert_eq!(find(&slow), ["ME015"]);
        let mut disabled = tree;
        disabled["static_resources"]["listeners"][0]["listener_filters"][0]["filter_disabled"] =
            json!({ "any_match": true });
        assert_eq!(find(&disabled), ["ME015"]);
    }
}

/// A refused configuration goes on with the last one of the same name.
#[test]
fn filters_with_one_name_and_different_policies_are_found() {
    let (http, tcp) = (include_str!("../../envoy/backend.yaml"), include_str!("../../envoy/database.yaml"));
    let parsed = |text: &str| -> Value { json!(yaml::documents(text).unwrap()[0]) };
    let (mut both, other) = (parsed(http), parsed(tcp));
    let mut listener = other["static_resources"]["listeners"][0].clone();
    // Of another application.
    let proxy = listener.pointer_mut("/filter_chains/0/filters/2/typed_config").unwrap();
    proxy["cluster"] = json!("database");
    both["static_resources"]["listeners"].as_array_mut().unwrap().push(listener);
    let find = |tree: &Value| {
        codes(&check(&tree.to_string())).into_iter().filter(|code| code.starts_with("ME023")).collect::<Vec<_>>()
    };
    let config = "/static_resources/listeners/1/filter_chains/0/filters/1/typed_config/config";
    both.pointer_mut(config).unwrap()["configuration"]["value"]["onInvalid"] = json!("deny");
    both.pointer_mut(config).unwrap()["configuration"]["value"]["allowNoneApplies"] = json!(true);
    assert_eq!(find(&both), Vec::<String>::new(), "the shipped filters have different names");
    both.pointer_mut(config).unwrap()["name"] = json!("mesh_authz");
    assert_eq!(find(&both), ["ME023"]);
    both.pointer_mut(config).unwrap()["configuration"]["value"]["onInvalid"] = json!("fail");
    assert_eq!(find(&both), Vec::<String>::new());
}

/// The rows of the table of settings in docs/envoy.md.
#[test]
fn each_setting_that_is_missing_is_found() {
    let rows = [
        ("          normalize_path: true\n", "", "ME006"),
        ("normalize_path: true", "normalize_path: false", "ME006"),
        ("          merge_slashes: true\n", "", "ME006"),
        ("          path_with_escaped_slashes_action: UNESCAPE_AND_FORWARD\n", "", "ME006"),
        ("UNESCAPE_AND_FORWARD", "KEEP_UNCHANGED", "ME006"),
        ("UNESCAPE_AND_FORWARD", "IMPLEMENTATION_SPECIFIC_DEFAULT", "ME006"),
        ("          strip_trailing_host_dot: true\n", "", "ME008 warning"),
        ("          use_remote_address: true\n", "", "ME009"),
        (
            "          route_config:\n",
            "          route_config:\n            ignore_path_parameters_in_path_matching: true\n",
            "ME007",
        ),
        ("          require_client_certificate: true\n", "", "ME010"),
        ("require_client_certificate: true", "require_client_certificate: false", "ME010"),
        ("              trusted_ca: { filename: certs/ca.crt }\n", "              max_verify_depth: 3\n", "ME010"),
        (
            "trusted_ca: { filename: certs/ca.crt }\n",
            "trusted_ca: { filename: certs/ca.crt }\n              trust_chain_verification: ACCEPT_UNTRUSTED\n",
            "ME010",
        ),
        ("FAIL_CLOSED", "FAIL_OPEN", "ME011"),
        ("failure_policy: FAIL_CLOSED", "fail_open: true", "ME011"),
        ("                  payload_in_metadata: payload\n", "", "ME012"),
        ("payload_in_metadata: payload", "payload_in_metadata: claims", "ME012"),
        ("object_key: mesh_authz.source_ip", "object_key: source_ip", "ME013"),
        ("%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "ME013"),
        ("object_key: mesh_authz.peer_uris", "object_key: peer_uris", "ME014"),
        ("%DOWNSTREAM_PEER_URI_SAN%", "%REQ(X-PEER)%", "ME014"),
        ("kind: AuthorizationPolicy", "kind: AuthorisationPolicy", "ME016"),
        ("paths: [\"/admin\"]", "path: [\"/admin\"]", "ME016"),
        ("    NAMESPACE: default\n", "", "ME016"),
    ];
    for (from, to, code) in rows {
        let text = with(from, to);
        let checked = check(&text);
        // Policies that cannot be read may look at anything, and this configuration has everything.
        assert_eq!(codes(&checked), [code], "{from} → {to}: {:?}", checked.findings);
        let finding = &checked.findings[0];
        assert!(finding.span.is_some() && (finding.diagnostic.hint.is_some() || code == "ME016"), "{finding}");
    }
}

#[test]
fn the_same_settings_in_other_words_are_enough() {
    for (from, to) in [
        ("UNESCAPE_AND_FORWARD", "UNESCAPE_AND_REDIRECT"),
        ("UNESCAPE_AND_FORWARD", "REJECT_REQUEST"),
        ("UNESCAPE_AND_FORWARD", "4"),
        ("FAIL_CLOSED", "FAIL_RELOAD"),
        ("failure_policy: FAIL_CLOSED", "fail_open: false"),
        ("trusted_ca: { filename: certs/ca.crt }", "verify_certificate_hash: [\"df6ff72f\"]"),
        ("normalize_path: true", "normalizePath: true"),
    ] {
        assert_finds(&with(from, to), &[]);
    }
    // The filter itself refuses paths that Envoy has not normalized.
    let strict =
        with("                    policies:\n", "                    paths: strict\n                    policies:\n");
    assert_finds(
        &strict.replace("normalize_path: true", "normalize_path: false").replace("merge_slashes: true", ""),
        &[],
    );
}

#[test]
fn a_chain_without_tls_has_no_identities_and_needs_the_inspector() {
    let plaintext = |tree: &mut Value| {
        tree.pointer_mut("/static_resources/listeners/0/filter_chains/0")
            .unwrap()
            .as_object_mut()
            .unwrap()
            .remove("transport_socket");
    };
    assert_tree_finds(plaintext, &["ME010"]);
    assert_tree_finds(
        |tree| {
            plaintext(tree);
            tree.pointer_mut("/static_resources/listeners/0").unwrap()["listener_filters"] = json!([]);
        },
        &["ME010", "ME015"],
    );
    // TLS termination does not read the server name.
    assert_tree_finds(
        |tree| tree.pointer_mut("/static_resources/listeners/0").unwrap()["listener_filters"] = json!([]),
        &["ME015"],
    );
}

#[test]
fn a_filter_that_is_missing_or_too_late_is_found() {
    assert_tree_finds(|tree| drop(http_filters(tree).remove(0)), &["ME013", "ME014"]);
    assert_tree_finds(|tree| http_filters(tree).swap(0, 2), &["ME012", "ME013", "ME014"]);
    assert_tree_finds(|tree| drop(http_filters(tree).remove(1)), &["ME012"]);
    assert_tree_finds(|tree| http_filters(tree).swap(1, 2), &["ME012"]);
    assert_tree_finds(|tree| http_filters(tree)[1]["disabled"] = json!(true), &["ME012"]);
    assert_tree_finds(|tree| http_filters(tree)[1]["typed_config"]["rules"] = json!([]), &["ME012"]);
    let checked = assert_tree_finds(|tree| drop(http_filters(tree).remove(2)), &["ME001"]);
    assert!(checked.findings[0].to_string().contains("nothing decides"), "{}", checked.findings[0]);
}

#[test]
fn only_what_policies_look_at_counts() {
    let bare = |policy: &str| {
        format!(
            "
static_resources:
  listeners:
  - filter_chains:
    - filters:
      - typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          http_filters:
          - name: authz
            typed_config:
              '@type': type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
              config:
                configuration:
                  '@type': type.googleapis.com/google.protobuf.StringValue
                  value: '{}'
node: {{ metadata: {{ NAMESPACE: default, LABELS: {{}} }} }}
",
            json!({ "policies": [{
                "apiVersion": "security.istio.io/v1",
                "kind": "AuthorizationPolicy",
                "metadata": { "name": "only" },
                "spec": yaml::documents(policy).unwrap()[0],
            }] })
        )
    };
    let rule = |field: &str| format!("rules: [{{ to: [{{ operation: {{ {field} }} }}] }}]");
    let source = |field: &str| format!("rules: [{{ from: [{{ source: {{ {field} }} }}] }}]");
    for (spec, expected) in [
        ("{}".to_owned(), vec![]),
        (rule("methods: [GET]"), vec![]),
        (rule("ports: ['80']"), vec![]),
        (rule("paths: [/a]"), vec!["ME006", "ME006", "ME006"]),
        (rule("notPaths: [/a]"), vec!["ME006", "ME006", "ME006"]),
        (rule("hosts: [a.example]"), vec!["ME008 warning"]),
        (source("remoteIpBlocks: [10.0.0.1]"), vec!["ME009"]),
        (source("principals: ['*']"), vec!["ME010 warning", "ME014 warning"]),
        (source("notPrincipals: ['*']"), vec!["ME010", "ME014"]),
        (source("namespaces: [a]"), vec!["ME010 warning", "ME014 warning"]),
        (source("namespaces: [a]").replacen("rules", "action: DENY\nrules", 1), vec!["ME010", "ME014"]),
        (source("ipBlocks: [10.0.0.1]"), vec!["ME013"]),
        (source("requestPrincipals: ['*']"), vec!["ME012"]),
        ("rules: [{ when: [{ key: 'request.auth.claims[iss]', values: [a] }] }]".to_owned(), vec!["ME012"]),
        ("rules: [{ when: [{ key: connection.sni, values: [a] }] }]".to_owned(), vec!["ME015"]),
    ] {
        assert_finds(&bare(&spec), &expected);
    }
    // A policy for another workload does not count here.
    let elsewhere =
        bare("selector: { matchLabels: { app: other } }\nrules: [{ to: [{ operation: { paths: [/a] } }] }]");
    let elsewhere = elsewhere.replace("value: '{", "value: '{\"allowNoneApplies\": true, ");
    assert_finds(&elsewhere, &["ME001 warning"]);
}

#[test]
fn an_address_from_a_header_is_not_that_of_the_peer() {
    let remote = with(
        "                    policies:\n",
        "                    sourceIpFrom: remote-address\n                    policies:\n",
    );
    assert_finds(&remote, &[]);
    assert_finds(&remote.replace("use_remote_address: true", "xff_num_trusted_hops: 1"), &["ME009", "ME009"]);
    assert_finds(
        &remote.replace("use_remote_address: true", "use_remote_address: true\n          xff_num_trusted_hops: 1"),
        &["ME009"],
    );
}

fn filter(name: &str, config: Value) -> Value {
    let mut config = config;
    config["@type"] = json!(format!("type.googleapis.com/envoy.extensions.filters.http.{name}"));
    json!({ "name": name, "typed_config": config })
}

/// An authorizer over HTTP whose answer can set this header.
fn upstream_headers(name: &str) -> Value {
    let patterns = json!({ "patterns": [{ "exact": name }] });
    json!({ "http_service": { "authorization_response": { "allowed_upstream_headers": patterns } } })
}

fn mutation(of_request: &Value) -> Value {
    filter("header_mutation.v3.HeaderMutation", json!({ "mutations": { "request_mutations": [of_request] } }))
}

#[test]
fn what_changes_a_request_after_the_decision_is_found() {
    let wrapped = json!({
        "name": "match",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher",
            "extension_config": filter("lua.v3.Lua", json!({})),
        },
    });
    let typed_struct = json!({
        "name": "lua",
        "typed_config": {
            "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
            "type_url": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            "value": {},
        },
    });
    let discovered = json!({
        "name": "later",
        "config_discovery": { "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"] },
    });
    for (found, expected) in [
        (filter("lua.v3.Lua", json!({})), vec!["ME004"]),
        (filter("wasm.v3.Wasm", json!({ "config": { "name": "other" } })), vec!["ME004"]),
        (filter("ext_proc.v3.ExternalProcessor", json!({})), vec!["ME004"]),
        (
            filter("ext_proc.v3.ExternalProcessor", json!({ "processing_mode": { "request_header_mode": "SKIP" } })),
            vec![],
        ),
        (filter("ext_authz.v3.ExtAuthz", json!({ "grpc_service": {} })), vec!["ME004"]),
        (filter("ext_authz.v3.ExtAuthz", json!({ "http_service": {} })), vec![]),
        (filter("ext_authz.v3.ExtAuthz", upstream_headers("x-role")), vec!["ME004"]),
        (filter("ext_authz.v3.ExtAuthz", upstream_headers("x-other")), vec![]),
        (filter("grpc_web.v3.GrpcWeb", json!({})), vec![]),
        (filter("aws_request_signing.v3.AwsRequestSigning", json!({ "host_rewrite": "a" })), vec!["ME004"]),
        (filter("aws_request_signing.v3.AwsRequestSigning", json!({})), vec![]),
        (mutation(&json!({ "append": { "header": { "key": "X-Role" } } })), vec!["ME004"]),
        (mutation(&json!({ "append": { "header": { "key": "x-trace" } } })), vec![]),
        (mutation(&json!({ "remove": "x-role" })), vec!["ME004"]),
        (mutation(&json!({ "remove": "host" })), vec!["ME004"]),
        (filter("header_mutation.v3.HeaderMutation", json!({ "mutations": { "response_mutations": [{}] } })), vec![]),
        (filter("header_to_metadata.v3.Config", json!({ "request_rules": [{ "remove": true }] })), vec!["ME004"]),
        (filter("header_to_metadata.v3.Config", json!({ "request_rules": [{ "remove": false }] })), vec![]),
        (filter("compressor.v3.Compressor", json!({})), vec![]),
        (filter("cors.v3.Cors", json!({})), vec![]),
        (filter("something.v9.New", json!({})), vec!["ME004 warning"]),
        (wrapped, vec!["ME004"]),
        (typed_struct, vec!["ME004"]),
        (discovered, vec!["ME004"]),
    ] {
        assert_tree_finds(|tree| http_filters(tree).insert(3, found.clone()), &expected);
        // Before the filter, they can do what they like.
        assert_tree_finds(|tree| http_filters(tree).insert(0, found), &[]);
    }
    // The policies are not about methods of gRPC.
    let transcoder = || filter("grpc_json_transcoder.v3.GrpcJsonTranscoder", json!({}));
    assert_tree_finds(|tree| http_filters(tree).insert(3, transcoder()), &["ME004"]);
    assert_tree_finds(|tree| http_filters(tree).insert(0, transcoder()), &["ME019"]);
    let lua = || filter("lua.v3.Lua", json!({}));
    assert_tree_finds(
        |tree| http_filters(tree)[3]["typed_config"]["upstream_http_filters"] = json!([lua()]),
        &["ME004"],
    );
    let options = json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": { "http_filters": [lua()] } });
    assert_tree_finds(
        |tree| tree.pointer_mut("/static_resources/clusters/0").unwrap()["typed_extension_protocol_options"] = options,
        &["ME004"],
    );
    // A filter that is disabled does nothing, unless a route enables it.
    let mut disabled = lua();
    disabled["disabled"] = json!(true);
    assert_tree_finds(|tree| http_filters(tree).insert(3, disabled.clone()), &[]);
    assert_tree_finds(
        |tree| {
            http_filters(tree).insert(3, disabled);
            route(tree)["typed_per_filter_config"] = json!({ "lua.v3.Lua": {} });
        },
        &["ME004"],
    );
}

#[test]
fn a_cache_before_the_filter_is_found() {
    assert_tree_finds(|tree| http_filters(tree).insert(0, filter("cache.v3.CacheConfig", json!({}))), &["ME005"]);
    assert_tree_finds(|tree| http_filters(tree).insert(3, filter("cache.v3.CacheConfig", json!({}))), &[]);
}

#[test]
fn what_takes_the_filter_out_of_the_way_is_found() {
    assert_tree_finds(|tree| http_filters(tree)[2]["disabled"] = json!(true), &["ME003"]);
    assert_tree_finds(|tree| http_filters(tree)[2]["is_optional"] = json!(true), &["ME003"]);
    let off = json!({ "mesh_authz": { "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": true } });
    assert_tree_finds(|tree| route(tree)["typed_per_filter_config"] = off.clone(), &["ME003"]);
    assert_tree_finds(|tree| manager(tree)["route_config"]["typed_per_filter_config"] = off.clone(), &["ME003"]);
    assert_tree_finds(
        |tree| {
            let weighted = json!({ "name": "application", "weight": 1, "typed_per_filter_config": off });
            route(tree)["route"] = json!({ "weighted_clusters": { "clusters": [weighted] } });
        },
        &["ME003"],
    );
    // That of another filter has no effect on this one, unless this one needs it.
    let other = |name: &str| json!({ name: { "disabled": true } });
    assert_tree_finds(|tree| route(tree)["typed_per_filter_config"] = other("cors"), &[]);
    assert_tree_finds(
        |tree| route(tree)["typed_per_filter_config"] = other("envoy.filters.http.jwt_authn"),
        &["ME012"],
    );
    assert_tree_finds(
        |tree| route(tree)["typed_per_filter_config"] = other("envoy.filters.http.set_filter_state"),
        &["ME013"],
    );

    let upgrade = |filters: Value| json!([{ "upgrade_type": "websocket", "filters": filters }]);
    let router = http_filters(&mut tree())[3].clone();
    let ours = http_filters(&mut tree())[2].clone();
    assert_tree_finds(|tree| manager(tree)["upgrade_configs"] = upgrade(json!([router])), &["ME003"]);
    // The filter needs the same for these requests.
    let helpless = upgrade(json!([ours, router]));
    assert_tree_finds(|tree| manager(tree)["upgrade_configs"] = helpless, &["ME012", "ME013", "ME014"]);
    assert_tree_finds(|tree| manager(tree)["upgrade_configs"] = upgrade(json!(http_filters(tree).clone())), &[]);
    let off = |filters: Value| json!([{ "upgrade_type": "websocket", "enabled": false, "filters": filters }]);
    assert_tree_finds(|tree| manager(tree)["upgrade_configs"] = off(json!([router])), &[]);
    assert_tree_finds(
        |tree| {
            manager(tree)["upgrade_configs"] = off(json!([router]));
            route(tree)["route"]["upgrade_configs"] = json!([{ "upgrade_type": "WebSocket" }]);
        },
        &["ME003"],
    );

    let conditional = |tree: &mut Value| {
        let ours = &mut http_filters(tree)[2];
        let mut inner = ours.clone();
        inner.as_object_mut().unwrap().remove("disabled");
        *ours = json!({
            "name": "mesh_authz",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher",
                "extension_config": inner,
            },
        });
    };
    assert_tree_finds(conditional, &["ME003"]);
}

fn listeners(tree: &mut Value) -> &mut Vec<Value> {
    tree["static_resources"]["listeners"].as_array_mut().unwrap()
}

/// A listener with one connection manager, without the filter.
fn listener(route: &Value) -> Value {
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "http_filters": [filter("router.v3.Router", json!({}))],
        "route_config": { "virtual_hosts": [{ "domains": ["*"], "routes": [route] }] },
    });
    json!({ "name": "other", "filter_chains": [{ "filters": [{ "typed_config": manager }] }] })
}

fn tcp_proxy(cluster: Value) -> Value {
    let mut config = cluster;
    config["@type"] = json!("type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy");
    json!({ "filters": [{ "name": "tcp", "typed_config": config }] })
}

#[test]
fn ways_to_the_application_without_the_filter_are_found() {
    let to = |cluster: &str| json!({ "match": { "prefix": "/" }, "route": { "cluster": cluster } });
    let checked = assert_tree_finds(|tree| listeners(tree).push(listener(&to("application"))), &["ME002"]);
    let finding = &checked.findings[0];
    assert!(
        finding.diagnostic.message.contains("listener other leads to cluster application without the filter"),
        "{finding}"
    );
    assert!(
        finding.related[0].message.contains("in listener inbound (127.0.0.1:15006), the filter decides"),
        "{finding:?}"
    );

    let weighted = json!({ "match": { "prefix": "/" }, "route": { "weighted_clusters": { "clusters": [{ "name": "application" }] } } });
    assert_tree_finds(|tree| listeners(tree).push(listener(&weighted)), &["ME002"]);
    let mirror = json!({ "match": {}, "route": { "cluster": "elsewhere", "request_mirror_policies": [{ "cluster": "application" }] } });
    assert_tree_finds(|tree| listeners(tree).push(listener(&mirror)), &["ME002"]);
    let chosen = json!({ "match": {}, "route": { "cluster_header": "x-cluster" } });
    assert_tree_finds(|tree| listeners(tree).push(listener(&chosen)), &["ME002"]);
    assert_tree_finds(|tree| listeners(tree).push(listener(&to("elsewhere"))), &[]);
    let redirect = json!({ "match": {}, "redirect": { "https_redirect": true } });
    assert_tree_finds(|tree| listeners(tree).push(listener(&redirect)), &[]);

    // Another chain of the same listener, and the default chain.
    let of_first = |tree: &mut Value, name: &str, chain: Value| match name {
        "filter_chains" => listeners(tree)[0][name].as_array_mut().unwrap().push(chain),
        _ => listeners(tree)[0][name] = chain,
    };
    for name in ["filter_chains", "default_filter_chain"] {
        let tcp = tcp_proxy(json!({ "cluster": "application" }));
        let checked = assert_tree_finds(|tree| of_first(tree, name, tcp), &["ME002"]);
        assert!(checked.findings[0].diagnostic.message.contains(name), "{:?}", checked.findings);
        let weighted =
            tcp_proxy(json!({ "weighted_clusters": { "clusters": [{ "name": "application", "weight": 1 }] } }));
        assert_tree_finds(|tree| of_first(tree, name, weighted), &["ME002"]);
        assert_tree_finds(|tree| of_first(tree, name, tcp_proxy(json!({ "cluster": "elsewhere" }))), &[]);
    }
}

#[test]
fn another_cluster_with_the_same_endpoint_is_the_same_application() {
    let cluster = |name: &str, address: &str, port: u16| {
        let address = json!({ "socket_address": { "address": address, "port_value": port } });
        let endpoint = json!({ "endpoint": { "address": address } });
        json!({ "name": name, "load_assignment": { "endpoints": [{ "lb_endpoints": [endpoint] }] } })
    };
    let to = |cluster: &str| json!({ "match": { "prefix": "/" }, "route": { "cluster": cluster } });
    let with_cluster = |cluster: Value, expected: &[&str]| {
        let name = cluster["name"].as_str().unwrap().to_owned();
        assert_tree_finds(
            |tree| {
                tree["static_resources"]["clusters"].as_array_mut().unwrap().push(cluster);
                listeners(tree).push(listener(&to(&name)));
            },
            expected,
        );
    };
    with_cluster(cluster("again", "127.0.0.1", 8080), &["ME002"]);
    with_cluster(cluster("again", "localhost", 8080), &["ME002"]);
    with_cluster(cluster("again", "127.0.0.1", 8081), &[]);
    let aggregate = json!({ "typed_config": { "@type": "…/envoy.extensions.clusters.aggregate.v3.ClusterConfig", "clusters": ["application"] } });
    with_cluster(json!({ "name": "aggregate", "cluster_type": aggregate }), &["ME002"]);
}

#[test]
fn without_a_node_what_does_not_follow_from_it_is_still_refused() {
    let mut bootstrap = tree();
    bootstrap.as_object_mut().unwrap().remove("node");
    let checked = check(&bootstrap.to_string());
    assert_eq!(codes(&checked), ["ME016"], "a bootstrap is what Envoy starts with");
    assert!(checked.findings[0].to_string().contains("workload.namespace: is unknown"), "{}", checked.findings[0]);

    let mut listener = listeners(&mut bootstrap)[0].clone();
    listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
    let alone = json!({ "resources": [listener] }).to_string();
    assert!(!codes(&check(&alone)).contains(&"ME016".to_owned()), "without the bootstrap, the node is unknown");
    let refused = alone.replace("AuthorizationPolicy", "AuthorisationPolicy");
    assert!(codes(&check(&refused)).contains(&"ME016".to_owned()));
}

/// The policies of a folder, and those that an Envoy enforces.
#[test]
fn policies_that_the_filter_does_not_have_are_found() {
    let policy = |name: &str, namespace: &str, action: &str| {
        let text = format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{ name: {name}, namespace: {namespace} }}\n\
             spec: {{ action: {action}, rules: [{{ to: [{{ operation: {{ methods: [GET] }} }}] }}] }}"
        );
        let node = yaml::documents(&text).unwrap().remove(0);
        let read = mesh_authz::policy::read::policy(&node, &mut mesh_authz::diagnostic::Diagnostics::new()).unwrap();
        (json!(node), read)
    };
    let (in_filter, same) = policy("a", "default", "ALLOW");
    let mut tree = tree();
    let filters = tree.pointer_mut("/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters");
    let ours =
        filters.unwrap().as_array_mut().unwrap().iter_mut().find(|filter| filter["name"] == "mesh_authz").unwrap();
    ours["typed_config"]["config"]["configuration"]["value"]["policies"] = json!([in_filter]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("envoy.json");
    std::fs::write(&file, tree.to_string()).unwrap();
    let messages = |given: &[&AuthorizationPolicy]| {
        let findings = envoy::check(std::slice::from_ref(&file), given).unwrap().findings;
        let of_code = findings.into_iter().filter(|finding| finding.code == Some("ME021"));
        of_code.map(|finding| finding.diagnostic.message).collect::<Vec<_>>()
    };
    assert_eq!(messages(&[]), [""; 0], "nothing is given");
    assert_eq!(messages(&[&same, &policy("b", "elsewhere", "ALLOW").1]), [""; 0]);
    let (_, second) = policy("b", "default", "DENY");
    let missing = "policy default/b is given and applies to this workload, and the filter does not have it";
    assert_eq!(messages(&[&same, &second]), [missing]);
    assert_eq!(messages(&[&second]), [missing, "policy default/a is in the filter, and not given"]);
    let (_, changed) = policy("a", "default", "DENY");
    assert_eq!(messages(&[&changed]), ["policy default/a is another one in the filter than the one that is given"]);
}

#[test]
fn the_documentation_names_every_code() {
    let page = |name: &str| {
        std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)).unwrap()
    };
    let pages = page("envoy.md") + &page("commands/check.md");
    let missing: Vec<_> =
        envoy::CATALOGUE.iter().map(|check| check.code).filter(|code| !pages.contains(code)).collect();
    assert_eq!(missing, ["ME016"], "Envoy itself says what ME016 says");
}
