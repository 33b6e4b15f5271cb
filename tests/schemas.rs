//! The JSON Schemas for editors take what the readers take, and know every field that the readers know.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "tests fail by panicking"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use mesh_authz::config::{NodeMetadata, PluginConfig};
use mesh_authz::document::Node;
use mesh_authz::policy::Labels;
use mesh_authz::request::Lookup;
use mesh_authz_cli::load::yaml;
use mesh_authz_cli::schema;
use mesh_authz_cli::testfile::TestFile;
use serde_json::{Value, json};

fn project(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}

fn mistakes(schema: &Value, instance: &Value) -> Vec<String> {
    let validator = jsonschema::validator_for(schema).unwrap();
    validator.iter_errors(instance).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

fn documents(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    let documents: Vec<Node> = yaml::documents(&text).unwrap();
    documents.iter().map(|document| json!(document)).collect()
}

/// The files in this folder and below it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// What the reader of plugin configurations says.
fn refused(config: &Value) -> Vec<String> {
    let node = NodeMetadata { labels: Lookup::Value(Labels::default()), ..NodeMetadata::in_namespace("default") };
    let read = PluginConfig::read(config.to_string().as_bytes(), &node);
    read.err().into_iter().flatten().map(|mistake| mistake.to_string()).collect()
}

#[test]
fn every_test_file_of_the_project_is_valid() {
    let schema = schema::test_file();
    let mut count = 0;
    for folder in ["examples", "tests/cases"] {
        let all = files(&project(folder)).into_iter();
        for file in all.filter(|file| file.extension().is_some_and(|extension| extension == "yaml")) {
            if TestFile::read(&file).is_ok() {
                assert_eq!(mistakes(&schema, &documents(&file)[0]), Vec::<String>::new(), "{}", file.display());
                count += 1;
            }
        }
    }
    assert!(count > 20, "{count}");
}

#[test]
fn rendered_plugin_configurations_are_valid() {
    let schema = schema::plugin_config();
    let bootstrap = &documents(&project("envoy/backend.yaml"))[0];
    let filters =
        bootstrap.pointer("/static_resources/listeners/0/filter_chains/0/filters/1/typed_config/http_filters");
    let ours = filters.unwrap().as_array().unwrap().iter().find(|filter| filter["name"] == "mesh_authz").unwrap();
    let config = ours.pointer("/typed_config/config/configuration/value").unwrap();
    assert_eq!(mistakes(&schema, config), Vec::<String>::new());
    let mut count = 0;
    let rendered = files(&project("tests/golden/rendered")).into_iter();
    let name = |file: &Path| file.file_name().unwrap().to_str().unwrap().to_owned();
    for file in rendered.filter(|file| name(file).starts_with("wasm-plugin")) {
        // Some are what the command says in place of a result.
        let Ok(documents) = yaml::documents(&std::fs::read_to_string(&file).unwrap()) else { continue };
        let documents = documents.iter().map(|document| json!(document));
        let plugins = documents.filter(|document| !document["spec"]["pluginConfig"].is_null());
        for plugin in plugins {
            assert_eq!(mistakes(&schema, &plugin["spec"]["pluginConfig"]), Vec::<String>::new(), "{}", file.display());
            count += 1;
        }
    }
    assert!(count > 3, "{count}");
}

/// Every value of a field that the schema takes.
fn values(field: &Value) -> Vec<Value> {
    match field["enum"].as_array() {
        Some(values) => values.clone(),
        None => Vec::new(),
    }
}

#[test]
fn the_reader_knows_every_field_and_value_of_the_schema_of_plugin_configurations() {
    let schema = schema::plugin_config();
    for (name, field) in schema["properties"].as_object().unwrap() {
        let mut config = json!({ "policies": [] });
        config[name] = json!([[1]]);
        let said = refused(&config);
        assert!(said.iter().any(|line| line.starts_with(name.as_str())), "{name}: {said:?}");
        assert!(!said.iter().any(|line| line.contains("unknown field")), "{name}: {said:?}");
        for value in values(field) {
            config[name] = value.clone();
            assert_eq!(refused(&config), Vec::<String>::new(), "{name}: {value}");
        }
        if !values(field).is_empty() {
            config[name] = json!("something else");
            assert!(!refused(&config).is_empty() && !mistakes(&schema, &config).is_empty(), "{name}");
        }
    }
    let unknown = json!({ "policies": [], "policy": [] });
    assert!(!refused(&unknown).is_empty() && !mistakes(&schema, &unknown).is_empty());
}

/// The names in the first column of the tables that have this head.
fn documented(page: &str, heads: &[&str]) -> BTreeSet<String> {
    let text = std::fs::read_to_string(project(page)).unwrap();
    let mut names = BTreeSet::new();
    let mut is_within = false;
    for line in text.lines() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        is_within = line.starts_with('|') && (is_within || heads.contains(&cells[1]));
        if is_within && cells[1].starts_with('`') {
            names.extend(cells[1].split(',').map(|name| name.trim().trim_matches('`').to_owned()));
        }
    }
    names
}

fn properties(schema: &Value) -> BTreeSet<String> {
    schema["properties"].as_object().unwrap().keys().cloned().collect()
}

#[test]
fn the_documentation_has_the_fields_of_the_schemas() {
    assert_eq!(documented("README.md", &["field"]), properties(&schema::plugin_config()));
    let file = schema::test_file();
    let request = &file["properties"]["tests"]["items"]["properties"]["request"];
    let page = "docs/commands/test.md";
    assert_eq!(documented(page, &["field"]), properties(&file));
    assert_eq!(documented(page, &["field of `request`"]), properties(request));
}

#[test]
fn the_reader_knows_every_field_of_the_schema_of_test_files() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("policies.yaml"),
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: a }\n",
    )
    .unwrap();
    let test = json!({ "name": "a", "request": {}, "expect": { "decision": "ALLOW" } });
    let valid = json!({ "policies": ["policies.yaml"], "workload": { "labels": {} }, "mesh": {}, "tests": [test] });
    let file = folder.path().join("tests.yaml");
    let said = |content: &Value| {
        std::fs::write(&file, content.to_string()).unwrap();
        TestFile::read(&file).err().map(|error| error.to_string()).unwrap_or_default()
    };
    let schema = schema::test_file();
    assert_eq!((said(&valid).as_str(), mistakes(&schema, &valid)), ("", vec![]));
    let places = [
        ("", "/properties"),
        ("/workload", "/properties/workload/properties"),
        ("/mesh", "/properties/mesh/properties"),
        ("/tests/0", "/properties/tests/items/properties"),
        ("/tests/0/request", "/properties/tests/items/properties/request/properties"),
        ("/tests/0/expect", "/properties/tests/items/properties/expect/anyOf/1/properties"),
    ];
    for (place, of_schema) in places {
        for name in schema.pointer(of_schema).unwrap().as_object().unwrap().keys() {
            let mut content = valid.clone();
            content.pointer_mut(place).unwrap()[name] = json!([[1]]);
            let said = said(&content);
            assert!(!said.is_empty() && !said.contains("unknown field"), "{place}/{name}: {said}");
            assert!(!mistakes(&schema, &content).is_empty(), "{place}/{name}");
        }
        let mut content = valid.clone();
        content.pointer_mut(place).unwrap()["nothing"] = json!(1);
        assert!(said(&content).contains("unknown field") && !mistakes(&schema, &content).is_empty(), "{place}");
    }
}

#[test]
fn a_mistake_in_a_policy_is_one_for_editors_too() {
    let schema = schema::plugin_config();
    let policy = |spec: Value| {
        json!({ "policies": [{
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": { "name": "a" },
            "spec": spec,
        }] })
    };
    let good = json!({ "rules": [{
        "from": [{ "source": { "principals": ["*"], "notIpBlocks": ["10.0.0.1"] } }],
        "to": [{ "operation": { "paths": ["/a"], "notMethods": ["GET"] } }],
        "when": [{ "key": "request.headers[a]", "values": ["b"] }],
    }] });
    assert_eq!((refused(&policy(good.clone())), mistakes(&schema, &policy(good))), (vec![], vec![]));
    for spec in [
        json!({ "rule": [] }),
        json!({ "action": "DENI" }),
        json!({ "rules": [{ "from": [] }] }),
        json!({ "rules": [{ "from": [{ "source": { "principal": ["*"] } }] }] }),
        json!({ "rules": [{ "to": [{ "operation": { "ports": [80] } }] }] }),
        json!({ "rules": [{ "when": [{ "values": ["b"] }] }] }),
    ] {
        let config = policy(spec);
        assert!(!refused(&config).is_empty() && !mistakes(&schema, &config).is_empty(), "{config}");
    }
}
