//! Which proxies of Istio get which form of the filter that tells what is known of the peer.

use mesh_authz_cli::render::kubernetes::{NEWER_PROXIES, OLDER_PROXIES};
use regex::Regex;

/// Whether a proxy that says this version gets the network filter. It must get exactly one of the two.
fn is_newer(version: &str) -> bool {
    let matches = |expression: &str| Regex::new(expression).unwrap().is_match(version);
    let (newer, older) = (matches(NEWER_PROXIES), matches(OLDER_PROXIES));
    assert_ne!(newer, older, "{version:?}");
    newer
}

#[test]
fn proxies_with_envoy_1_37_at_least_get_the_network_filter() {
    for version in [
        "1.30.0",
        "1.30",
        "1.30-dev",
        "1.30-alpha.0123abc",
        "1.31.2",
        "1.39.9",
        "1.40.0",
        "1.99.1",
        "1.100.0",
        "1.100-dev",
    ] {
        assert!(is_newer(version), "{version}");
    }
}

#[test]
fn all_other_proxies_get_the_filter_that_every_envoy_has() {
    for version in [
        "1.0.0",
        "1.3",
        "1.3.0",
        "1.4-dev",
        "1.9.9",
        "1.10.0",
        "1.28.3",
        "1.29.1",
        "1.29-alpha.abc",
        "1.2",
        "1",
        "1.",
        "0.30.0",
        "2.0.0",
        "10.30.0",
        "11.30",
        "master-2026-04-09T19-02-13",
        "v1.30.0",
        "custom",
        "OSSM_2.6",
        "",
        " 1.30",
        "1.x",
        "1.-",
        "1.030",
        "x1.30.0",
    ] {
        assert!(!is_newer(version), "{version:?}");
    }
}

#[test]
fn exactly_one_form_is_for_every_text() {
    let letters = ['0', '1', '2', '3', '9', '.', '-', 'a', '\n', 'é'];
    let mut texts = vec![String::new()];
    for _ in 0..5 {
        let longer = |text: &String| letters.map(|letter| format!("{text}{letter}"));
        texts = texts.iter().flat_map(longer).collect();
        let [newer, older] = [NEWER_PROXIES, OLDER_PROXIES].map(|expression| Regex::new(expression).unwrap());
        for text in &texts {
            assert_ne!(newer.is_match(text), older.is_match(text), "{text:?}");
        }
    }
}
