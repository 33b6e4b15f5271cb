//! The same configuration in the shapes in which people have it.

use serde_json::{Value, json};

use super::{assert_finds, check, codes, tree};

/// The same tree with the names of all fields in `lowerCamelCase`, as protobuf's own JSON has them.
fn camel_case(value: &Value) -> Value {
    let camel = |name: &str| {
        let mut words = name.split('_');
        let first = words.next().unwrap_or_default().to_owned();
        words.fold(first, |name, word| format!("{name}{}{}", word[..1].to_uppercase(), &word[1..]))
    };
    match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (camel(name), camel_case(value))).collect(),
        Value::Array(items) => items.iter().map(camel_case).collect(),
        other => other.clone(),
    }
}

#[test]
fn names_of_fields_can_be_in_camel_case() {
    let camel = camel_case(&tree());
    assert!(camel.to_string().contains("mergeSlashes"));
    assert_finds(&camel.to_string(), &[]);
    let without = camel.to_string().replace("\"mergeSlashes\":true,", "");
    assert_finds(&without, &["ME006"]);
}

/// The `/config_dump` of a running Envoy with this configuration.
fn dump(tree: &Value) -> Value {
    let typed = |name: &str, value: &Value| {
        let mut value = value.clone();
        value["@type"] = json!(format!("type.googleapis.com/{name}"));
        value
    };
    let resources = &tree["static_resources"];
    let listener = typed("envoy.config.listener.v3.Listener", &resources["listeners"][0]);
    let cluster = typed("envoy.config.cluster.v3.Cluster", &resources["clusters"][0]);
    let old = json!({ "name": "old", "error_state": { "failed_configuration": typed("envoy.config.listener.v3.Listener", &json!({})) } });
    json!({ "configs": [
        { "@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump", "bootstrap": { "node": tree["node"] } },
        {
            "@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump",
            "dynamic_listeners": [{ "name": "inbound", "active_state": { "listener": listener } }, old],
        },
        { "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump", "dynamic_active_clusters": [{ "cluster": cluster }] },
    ] })
}

#[test]
fn a_dump_is_checked_like_a_bootstrap() {
    assert_finds(&dump(&tree()).to_string(), &[]);
    let mut tree = tree();
    super::manager(&mut tree)["merge_slashes"] = json!(false);
    let checked = assert_finds(&dump(&tree).to_string(), &["ME006"]);
    assert_eq!(checked.chains.len(), 1);
}

#[test]
fn routes_and_filters_in_a_dump_are_found_by_their_names() {
    let mut tree = tree();
    let manager = super::manager(&mut tree);
    let mut routes = manager["route_config"].take();
    manager.as_object_mut().unwrap().remove("route_config");
    manager["rds"] = json!({ "route_config_name": "inbound" });
    let extension = manager["http_filters"][2]["typed_config"].take();
    manager["http_filters"][2] =
        json!({ "name": "mesh_authz", "config_discovery": { "config_source": { "ads": {} } } });

    // Neither is there: the policies may look at anything, and the routes may lead anywhere.
    let checked = check(&dump(&tree).to_string());
    assert_eq!(codes(&checked), ["ME017 warning", "ME017 warning"], "{:?}", checked.findings);

    let mut dump = dump(&tree);
    let configs = dump["configs"].as_array_mut().unwrap();
    routes["@type"] = json!("type.googleapis.com/envoy.config.route.v3.RouteConfiguration");
    routes["name"] = json!("inbound");
    configs.push(json!({ "dynamic_route_configs": [{ "route_config": routes }] }));
    let ecds = json!({
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": "mesh_authz",
        "typed_config": extension,
    });
    configs.push(json!({ "ecds_filters": [{ "ecds_filter": ecds }] }));
    let checked = assert_finds(&dump.to_string(), &[]);
    assert_eq!((checked.policies, checked.chains[0].clusters.join(" ")), (1, "application".to_owned()));
}

#[test]
fn what_is_no_configuration_says_so() {
    for (text, says) in [
        ("kind: ConfigMap\n", "no configuration of Envoy"),
        ("[]", "no configuration of Envoy"),
        ("5", "no configuration of Envoy"),
        ("static_resources: {}", "no listener"),
        ("{\"configs\": []}", "no listener"),
    ] {
        let checked = assert_finds(text, &["ME001"]);
        assert!(checked.findings[0].diagnostic.message.contains(says), "{:?}", checked.findings);
    }
    assert_finds("static_resources: [", &["no code"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("empty.yaml");
    std::fs::write(&file, "").unwrap();
    assert!(mesh_authz_cli::envoy::check(&[file], &[]).is_err());
}
