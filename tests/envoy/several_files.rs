//! Configurations in several files, given or named by another one.

use mesh_authz::policy::AuthorizationPolicy;
use mesh_authz_cli::envoy;
use serde_json::{Value, json};

use super::{codes, http_filters, listeners, tree};

/// Splits the filter off into a file that Envoy watches.
fn watched(path: &str) -> (Value, Value) {
    let mut tree = tree();
    let typed_config = http_filters(&mut tree)[2]["typed_config"].take();
    http_filters(&mut tree)[2] = json!({
        "name": "mesh_authz",
        "config_discovery": { "config_source": { "path_config_source": { "path": path } } },
    });
    let resource = json!({
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": "mesh_authz",
        "typed_config": typed_config,
    });
    (tree, json!({ "resources": [resource] }))
}

#[test]
fn a_watched_file_is_found_from_the_folder_of_the_bootstrap() {
    let (bootstrap, watched) = watched("policies/watched.json");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("envoy.json");
    std::fs::write(&file, bootstrap.to_string()).unwrap();
    let checked = envoy::check(std::slice::from_ref(&file), &[]).unwrap();
    assert_eq!((codes(&checked), checked.policies), (vec!["ME017 warning".to_owned()], 0));

    std::fs::create_dir(folder.path().join("policies")).unwrap();
    std::fs::write(folder.path().join("policies/watched.json"), watched.to_string()).unwrap();
    let checked = envoy::check(&[file], &[]).unwrap();
    assert_eq!((codes(&checked), checked.policies), (vec![], 1));
}

#[test]
fn policies_that_are_given_count_where_those_of_the_filter_are_unknown() {
    let (bootstrap, _) = watched("nowhere.json");
    let without = bootstrap.to_string().replace("\"merge_slashes\":true", "\"merge_slashes\":false");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("envoy.json");
    std::fs::write(&file, without).unwrap();
    let policy = |operation: &str| {
        AuthorizationPolicy::from_json(&format!(
            r#"{{ "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {{ "name": "given" }},
                 "spec": {{ "rules": [{{ "to": [{{ "operation": {{ {operation} }} }}] }}] }} }}"#
        ))
        .unwrap()
    };
    let check = |given: &[&AuthorizationPolicy]| codes(&envoy::check(std::slice::from_ref(&file), given).unwrap());
    // Nobody knows whether they look at paths.
    assert_eq!(check(&[]), ["ME006 warning", "ME017 warning"]);
    assert_eq!(check(&[&policy(r#""methods": ["GET"]"#)]), ["ME017 warning"]);
    assert_eq!(check(&[&policy(r#""paths": ["/a"]"#)]), ["ME006", "ME017 warning"]);
}

#[test]
fn listeners_from_a_file_are_checked_and_listeners_from_elsewhere_are_a_warning() {
    let mut bootstrap = tree();
    let mut listener = listeners(&mut bootstrap).remove(0);
    listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, value: &Value| {
        let file = folder.path().join(name);
        std::fs::write(&file, value.to_string()).unwrap();
        file
    };
    bootstrap["dynamic_resources"] = json!({ "lds_config": { "path_config_source": { "path": "lds.json" } } });
    let file = write("envoy.json", &bootstrap);
    let checked = envoy::check(std::slice::from_ref(&file), &[]).unwrap();
    assert_eq!(codes(&checked), ["ME001", "ME017 warning"]);

    let lds = write("lds.json", &json!({ "resources": [listener] }));
    let checked = envoy::check(std::slice::from_ref(&file), &[]).unwrap();
    assert_eq!((codes(&checked), checked.policies), (vec![], 1));
    // Files can also be given one by one, and each counts once.
    let checked = envoy::check(&[file, lds], &[]).unwrap();
    assert_eq!((codes(&checked), checked.chains.len()), (vec![], 1));
}

/// Envoy is started in one folder, also if the files are in several.
#[test]
fn what_a_file_in_another_folder_names_is_found_from_the_folder_of_the_bootstrap() {
    let (mut bootstrap, watched) = watched("./policies/watched.json");
    let mut listener = listeners(&mut bootstrap).remove(0);
    listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
    bootstrap["dynamic_resources"] =
        json!({ "lds_config": { "path_config_source": { "path": "./listeners/lds.json" } } });
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, value: &Value| {
        let file = folder.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, value.to_string()).unwrap();
        file
    };
    let file = write("envoy.json", &bootstrap);
    write("listeners/lds.json", &json!({ "resources": [listener] }));
    // Envoy does not look for it here.
    write("listeners/policies/watched.json", &watched);
    let checked = envoy::check(std::slice::from_ref(&file), &[]).unwrap();
    assert_eq!((codes(&checked), checked.policies), (vec!["ME017 warning".to_owned()], 0));
    write("policies/watched.json", &watched);
    let checked = envoy::check(&[file], &[]).unwrap();
    assert_eq!((codes(&checked), checked.policies), (vec![], 1));
}
