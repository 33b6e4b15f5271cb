//! `strip-exports IN OUT`: a Proxy-Wasm module without the callbacks that do nothing.
//!
//! Envoy calls every callback that it finds, for each request. The SDK, on which the filter is built, exports all of the ABI,
//! with an empty body where a filter implements none; no argument of the linker takes back what a dependency exports. What is
//! left is what the filter needs, and this step makes sure that nothing of that is missing.

use std::collections::HashSet;
use std::env;
use std::fs;

use anyhow::{Context, Result, bail, ensure};
use walrus::{Module, passes};

/// What Envoy needs of a filter that looks at request headers and at nothing else.
///
/// Without `proxy_on_done` a context may go at once, and without `proxy_on_log` nothing is told to it when a request ends:
/// just what the SDK's own callbacks do.
/// `proxy_on_delete` is where contexts are dropped, and `proxy_on_tick` where counters are told.
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

fn main() -> Result<()> {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let [from, to] = arguments.as_slice() else { bail!("usage: strip-exports IN OUT") };
    let module = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    let stripped = strip(&module).with_context(|| format!("stripping {}", from.display()))?;
    // Whoever depends on the file need not run again if it is the same.
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
    for name in exported.iter().filter(|name| !KEPT.contains(&name.as_str())) {
        module.exports.remove(name)?;
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
