//! What the Envoy to test with can do.

use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::envoy_binary;

/// The version of the Envoy to test with, such as `1.40.0`.
///
/// # Panics
/// Envoy does not say its version.
pub fn envoy_version() -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| {
        let output = Command::new(envoy_binary().unwrap()).arg("--version").stdin(Stdio::null()).output().unwrap();
        // The format is `… version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL`.
        let text = String::from_utf8(output.stdout).unwrap();
        text.split('/').nth_back(3).unwrap_or_else(|| panic!("{text}")).to_owned()
    })
}

/// Whether Envoy has the network filter that tells what is known of the peer once a connection.
pub fn tells_once_a_connection() -> bool {
    let minor = envoy_version().split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    minor.is_some_and(|minor| minor >= 37)
}

/// For an Envoy without the network filter, replaces it by the HTTP filter that tells the same, in these listeners.
///
/// # Panics
/// A listener has no connection manager behind the network filter.
pub fn suit_listeners(listeners: &mut Value) {
    if tells_once_a_connection() {
        return;
    }
    let chains = listeners
        .as_array_mut()
        .into_iter()
        .flatten()
        .flat_map(|listener| listener["filter_chains"].as_array_mut().into_iter().flatten());
    for chain in chains {
        let filters = chain["filters"].as_array_mut().unwrap();
        let Some(position) =
            filters.iter().position(|filter| filter["name"] == "envoy.filters.network.set_filter_state")
        else {
            continue;
        };
        let entries = filters.remove(position)["typed_config"]["on_downstream_tls_handshake"].take();
        let http_filters = filters[position]["typed_config"]["http_filters"].as_array_mut().unwrap();
        let kind = "type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config";
        http_filters.insert(
            0,
            json!({
                "name": "envoy.filters.http.set_filter_state",
                "typed_config": { "@type": kind, "on_request_headers": entries },
            }),
        );
    }
}
