//! `strip-exports IN OUT`: removes the callbacks that do nothing from a Proxy-Wasm module.
//!
//! Envoy calls every callback that it finds, for each request. The filter is built on the SDK, which exports the whole
//! ABI. A callback that the filter does not implement is exported with an empty body. No argument of the linker removes
//! an export of a dependency.
//!
//! This step keeps the exports that the filter needs, and makes sure that none of them is missing.

use std::collections::HashMap;
use std::env;
use std::fs;

use anyhow::{Context, Result, bail, ensure};
use walrus::{Module, passes};

/// The exports that every filter needs.
const KEPT: [&str; 4] = ["_initialize", "memory", "proxy_abi_version_0_2_1", "proxy_on_memory_allocate"];

/// The callbacks that Envoy makes to a filter that looks at request headers and at nothing else, without the prefix
/// `proxy_on_`.
///
/// Two callbacks are left out, with the same effect as the SDK's own ones:
/// - Without `proxy_on_done`, a context may go at once.
/// - Without `proxy_on_log`, a context is told nothing when a request ends.
///
/// Two callbacks are kept for these reasons:
/// - In `proxy_on_delete`, contexts are dropped.
/// - In `proxy_on_tick`, counters are reported.
const CALLBACKS: [&str; 6] = ["configure", "context_create", "delete", "request_headers", "tick", "vm_start"];

/// The callbacks in a network filter chain.
const CALLBACKS_OF_CONNECTIONS: [&str; 3] = ["new_connection", "downstream_data", "upstream_data"];

/// The prefix of the callbacks that a filter exports itself. Without this, they are those of the SDK.
const OWN: &str = "mesh_authz_on_";

fn main() -> Result<()> {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let [from, to] = arguments.as_slice() else { bail!("usage: strip-exports IN OUT") };
    let module = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    let stripped = strip(&module).with_context(|| format!("stripping {}", from.display()))?;
    // An unchanged file is not written again, so that steps that depend on it need not run again.
    if fs::read(to).is_ok_and(|before| before == stripped) {
        return Ok(());
    }
    fs::write(to, stripped).with_context(|| format!("writing {}", to.display()))
}

fn strip(wasm: &[u8]) -> Result<Vec<u8>> {
    let mut module = Module::from_buffer(wasm)?;
    let exported: HashMap<_, _> = module.exports.iter().map(|export| (export.name.clone(), export.item)).collect();
    let has_own = exported.keys().any(|name| name.starts_with(OWN));
    let mut wanted: Vec<_> = KEPT.into_iter().map(|name| (name.to_owned(), name.to_owned())).collect();
    let own = if has_own { OWN } else { "proxy_on_" };
    wanted.extend(CALLBACKS.map(|name| (format!("{own}{name}"), format!("proxy_on_{name}"))));
    if has_own {
        wanted.extend(CALLBACKS_OF_CONNECTIONS.map(|name| (format!("{own}{name}"), format!("proxy_on_{name}"))));
    }
    let missing: Vec<_> =
        wanted.iter().map(|(from, _)| from.as_str()).filter(|from| !exported.contains_key(*from)).collect();
    ensure!(missing.is_empty(), "the module does not export {}", missing.join(", "));
    for name in exported.keys() {
        module.exports.remove(name)?;
    }
    for (from, to) in wanted {
        if let Some(item) = exported.get(&from) {
            module.exports.add(&to, *item);
        }
    }
    passes::gc::run(&mut module);
    Ok(module.emit_wasm())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_lacks_an_export_is_refused() {
        let error = strip(b"\0asm\x01\0\0\0").unwrap_err().to_string();
        assert!(error.contains("proxy_on_request_headers"), "{error}");
    }
}
