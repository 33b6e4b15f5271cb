//! The lint about key sets of which Envoy accepts no key.

use std::sync::Arc;

use mesh_authz::document::from_json;
use mesh_authz_cli::load::{Resources, finding::SourceText, request_authentication::refusal};

use crate::key_sets::{accepted, refused, untold};
use crate::{findings, one_spelling, paths};

fn authentication(rules: &[&str]) -> String {
    let rule = |keys: &&str| format!("{{ issuer: 'https://i', jwks: '{}' }}", keys.replace('\'', "''"));
    let rules = rules.iter().map(rule).collect::<Vec<_>>().join(", ");
    format!(
        "---\n{{ apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: {{ name: r }}, spec: {{ jwtRules: \
         [{rules}] }} }}\n"
    )
}

/// What the lint says about sets with these keys. If a cluster refuses the set too, the lint does not see it.
fn said(keys: &[&str]) -> Option<String> {
    let set = format!(r#"{{"keys":[{}]}}"#, keys.join(","));
    let text = authentication(&[&set]);
    if Resources::of(&Arc::new(SourceText::new("r.yaml".into(), text.clone()))).has_errors() {
        return refusal(&from_json(set.as_bytes()).unwrap());
    }
    let found = findings(&text, &one_spelling());
    let found = found.into_iter().find(|finding| finding.code == Some("MA048"))?;
    let (message, why) = found.diagnostic.message.split_once(" (").unwrap();
    let refused = "Envoy accepts no key of this set, and refuses every listener of the workloads: later changes of any policy have \
                   no effect there";
    assert_eq!(message, refused);
    Some(why.strip_suffix(')').unwrap().to_owned())
}

#[test]
fn keys_that_envoy_accepts_and_keys_that_it_does_not() {
    for key in accepted() {
        assert_eq!(said(&[&key]), None, "{key}");
    }
    for (key, why) in refused() {
        let said = said(&[&key]).unwrap_or_else(|| panic!("silent: {key}"));
        assert!(said.contains(why), "{key}: {said}");
    }
    for key in untold() {
        assert_eq!(said(&[&key]), None, "{key}");
    }
}

#[test]
fn one_key_is_enough() {
    let (good, bad) = (r#"{"kty":"oct","k":"eA"}"#, r#"{"kty":"oct"}"#);
    assert_eq!(said(&[bad, good]), None);
    assert_eq!(said(&[good, bad]), None);
    assert_eq!(said(&[bad, bad]).unwrap(), "keys[0]: it has no `k`; keys[1]: it has no `k`");
    assert!(said(&[bad; 5]).unwrap().ends_with("keys[2]: it has no `k`; and 2 more"));
    let twice = r#"{"kty":"oct","k":"eA","kid":"1","kid":"2"}"#;
    assert_eq!(said(&[good, twice]).unwrap(), "`kid` stands twice in one object", "Envoy does not read the set");
}

#[test]
fn every_rule_has_a_set_of_its_own() {
    // A modulus of one bit.
    let (good, bad) = (r#"{"keys":[{"kty":"oct","k":"eA"}]}"#, r#"{"keys":[{"kty":"RSA","e":"AQAB","n":"AQ"}]}"#);
    let fires = |text: &str| paths("MA048", text, &one_spelling());
    assert_eq!(fires(&authentication(&[good, bad])), ["spec.jwtRules[1].jwks"]);
    assert_eq!(fires(&authentication(&[good, ""])), [""; 0], "no keys: Istio asks the issuer for them");
    let remote = authentication(&[good]).replace(&format!("jwks: '{good}'"), "jwksUri: 'https://i/k'");
    assert_eq!(fires(&remote), [""; 0]);
    let accepted = authentication(&[bad]).replace("name: r", "name: r, annotations: { mesh-authz/allow: MA048 }");
    assert_eq!(fires(&accepted), [""; 0]);
}
