//! Any bytes as plugin configuration.

use mesh_authz::config::{NodeMetadata, OnInvalid, Outgoing};
use mesh_authz::filter::Plugin;

use crate::host::Empty;

/// Loads the bytes as plugin configuration, in a workload whose namespace is known or not.
pub fn run(input: &[u8]) {
    let _what_to_do = (OnInvalid::read(input), Outgoing::read(input));
    for node in [NodeMetadata::in_namespace("default"), NodeMetadata::default()] {
        match Plugin::load(input.to_vec(), &node, &Empty) {
            Ok(plugin) => {
                let _status = plugin.on_request(&Empty);
                plugin.flush_counters(&Empty);
            }
            Err(diagnostics) => {
                assert!(!diagnostics.is_empty(), "a refusal says why");
                assert!(diagnostics.iter().all(|diagnostic| !diagnostic.to_string().is_empty()));
            }
        }
    }
}
