//! Which keys of an issuer Envoy accepts. `check` says the same (MA048).

use std::process::Command;

use serde_json::{Value, json};
use testbed::bootstrap::{bootstrap, direct_response, http_connection_manager, listener};
use testbed::envoy_binary;

#[path = "../lint/key_sets.rs"]
mod key_sets;

/// Asks Envoy whether it takes a configuration in which each issuer has one of these sets. The error, if it does not.
fn refusal(sets: &[String]) -> Option<String> {
    let provider = |(number, set): (usize, &String)| {
        let provider = json!({ "issuer": format!("https://{number}"), "local_jwks": { "inline_string": set } });
        (number.to_string(), provider)
    };
    let providers: Value = sets.iter().enumerate().map(provider).collect();
    let jwt_authn = json!({
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": providers,
        },
    });
    let manager = http_connection_manager(&[jwt_authn], &[direct_response(200, "")]);
    let config = bootstrap(&[listener("l", manager, None)], &[]).to_string();
    let output = Command::new(envoy_binary().unwrap())
        .args(["--mode", "validate", "--log-level", "error", "--config-yaml", &config])
        .output()
        .unwrap();
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

fn set(keys: &[String]) -> String {
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

#[test]
fn envoy_accepts_the_keys_about_which_check_is_silent() {
    let sets: Vec<_> = key_sets::accepted().into_iter().map(|key| set(&[key])).collect();
    assert_eq!(refusal(&sets), None);
}

#[test]
fn envoy_refuses_every_set_without_a_key_that_it_accepts() {
    let refused = key_sets::refused().into_iter().map(|(key, _)| key).chain(key_sets::untold());
    let sets = refused.map(|key| set(&[key])).chain([set(&[]), "{}".to_owned(), "keys".to_owned()]);
    for set in sets {
        let error = refusal(std::slice::from_ref(&set)).unwrap_or_else(|| panic!("Envoy accepts {set}"));
        assert!(error.contains("has invalid local jwks"), "{set}: {error}");
    }
}

#[test]
fn one_key_that_envoy_accepts_is_enough() {
    let good = r#"{"kty":"oct","k":"eA"}"#.to_owned();
    // What stands twice is in no JSON that Envoy reads.
    let is_json = |(_, why): &(String, &str)| !why.contains("stands twice");
    let refused = key_sets::refused().into_iter().filter(is_json).map(|(key, _)| key);
    let sets: Vec<_> = refused.map(|key| set(&[key, good.clone()])).collect();
    assert_eq!(refusal(&sets), None);
}
