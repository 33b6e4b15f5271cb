//! `strip-exports IN OUT`: removes the callbacks that do nothing from a Proxy-Wasm module.
//!
//! Envoy calls every callback that it finds, for each request. The filter is built on the SDK, which exports the whole
//! ABI. A callback that the filter does not implement is exported with an empty body. No argument of the linker removes
//! an export of a dependency.
//!
//! This step keeps the exports that the filter needs, and makes sure that none of them is missing.

use std::collections::HashSet;
use std::env;
use std::fs;

use anyhow::{Context, Result, bail, ensure};
use walrus::{Module, passes};

/// The exports that Envoy needs from a filter that looks at request headers and at nothing else.
///
/// Two callbacks are left out, with the same effect as the SDK's own ones:
/// - Without `proxy_on_done`, a context may go at once.
/// - Without `proxy_on_log`, a context is told nothing when a request ends.
///
/// Two callbacks are kept for these reasons:
/// - In `proxy_on_delete`, contexts are dropped.
/// - In `proxy_on_tick`, counters are reported.
const KEPT: [&str; 10] = [
    "_initialize",
    "memory",
    "proxy_abi_version_0_2_1",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_delete",
    "proxy_on_memory_allocate",
    "proxy_on_request_headers",
    "proxy_on_tick",
    "proxy_on_vm_start",
];

/// Exports that replace callbacks of the SDK, whose names they get. A dependency exports its own; the linker allows no second
/// function of one name.
const REPLACEMENTS: [(&str, &str); 3] = [
    ("mesh_authz_on_new_connection", "proxy_on_new_connection"),
    ("mesh_authz_on_downstream_data", "proxy_on_downstream_data"),
    ("mesh_authz_on_upstream_data", "proxy_on_upstream_data"),
];

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
    let exported: HashSet<_> = module.exports.iter().map(|export| export.name.clone()).collect();
    let missing: Vec<_> = KEPT.into_iter().filter(|name| !exported.contains(*name)).collect();
    ensure!(missing.is_empty(), "the module does not export {}", missing.join(", "));
    let replacements: Vec<_> = REPLACEMENTS
        .into_iter()
        .filter_map(|(from, to)| Some((to, module.exports.iter().find(|export| export.name == from)?.item)))
        .collect();
    for name in exported.iter().filter(|name| !KEPT.contains(&name.as_str())) {
        module.exports.remove(name)?;
    }
    for (name, item) in replacements {
        module.exports.add(name, item);
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
