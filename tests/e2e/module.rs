//! The shipped module: which host functions it imports, which functions it exports, and its size.

use crate::sidecar::wasm;

/// The host functions of the Proxy-Wasm ABI 0.2.1 that Envoy registers (`exports.h` of proxy-wasm-cpp-host), without
/// the prefix `proxy_`.
const PROXY: [&str; 39] = [
    "add_header_map_value",
    "call_foreign_function",
    "close_stream",
    "continue_stream",
    "define_metric",
    "dequeue_shared_queue",
    "done",
    "enqueue_shared_queue",
    "get_buffer_bytes",
    "get_buffer_status",
    "get_current_time_nanoseconds",
    "get_header_map_pairs",
    "get_header_map_size",
    "get_header_map_value",
    "get_log_level",
    "get_metric",
    "get_property",
    "get_shared_data",
    "get_status",
    "grpc_call",
    "grpc_cancel",
    "grpc_close",
    "grpc_send",
    "grpc_stream",
    "http_call",
    "increment_metric",
    "log",
    "record_metric",
    "register_shared_queue",
    "remove_header_map_value",
    "replace_header_map_value",
    "resolve_shared_queue",
    "send_local_response",
    "set_buffer_bytes",
    "set_effective_context",
    "set_header_map_pairs",
    "set_property",
    "set_shared_data",
    "set_tick_period_milliseconds",
];

/// The functions of WASI that Envoy implements and that the standard library may import.
const WASI: [&str; 7] =
    ["clock_time_get", "environ_get", "environ_sizes_get", "fd_write", "proc_exit", "random_get", "sched_yield"];

/// The exports. Envoy calls the module for every exported callback, so each additional one makes every request more
/// expensive.
const EXPORTS: [&str; 13] = [
    "_initialize",
    "memory",
    "proxy_abi_version_0_2_1",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_downstream_connection_close",
    "proxy_on_downstream_data",
    "proxy_on_memory_allocate",
    "proxy_on_new_connection",
    "proxy_on_request_headers",
    "proxy_on_tick",
    "proxy_on_upstream_data",
    "proxy_on_vm_start",
];

/// A reader for the binary format of WebAssembly. It supports only what imports and exports need.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, length: usize) -> &'b [u8] {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    /// Reads an unsigned number in LEB128 encoding.
    fn number(&mut self) -> usize {
        let mut number = 0;
        for shift in (0..).step_by(7) {
            let byte = self.take(1)[0];
            number |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        number
    }

    fn name(&mut self) -> &'b str {
        let length = self.number();
        std::str::from_utf8(self.take(length)).unwrap()
    }
}

/// The content of the section with this id: the number of entries, followed by the entries.
fn section(wasm: &[u8], wanted: u8) -> Reader<'_> {
    let mut module = Reader(wasm);
    assert_eq!(module.take(8), b"\0asm\x01\0\0\0");
    loop {
        let id = module.take(1)[0];
        let length = module.number();
        let section = Reader(module.take(length));
        if id == wanted {
            return section;
        }
    }
}

/// The module and the name of every imported function.
fn imports(wasm: &[u8]) -> Vec<(String, String)> {
    const ID: u8 = 2;
    let mut section = section(wasm, ID);
    let count = section.number();
    let import = |_| {
        let names = (section.name().to_owned(), section.name().to_owned());
        assert_eq!(section.take(1), [0], "{names:?} is not a function");
        section.number();
        names
    };
    (0..count).map(import).collect()
}

/// The names of all exports, sorted.
fn exports(wasm: &[u8]) -> Vec<String> {
    const ID: u8 = 7;
    let mut section = section(wasm, ID);
    let count = section.number();
    let export = |_| {
        let name = section.name().to_owned();
        section.take(1);
        section.number();
        name
    };
    let mut names: Vec<_> = (0..count).map(export).collect();
    names.sort_unstable();
    names
}

#[test]
fn the_filter_asks_for_nothing_that_envoy_does_not_offer() {
    let imports = imports(&wasm());
    assert!(imports.contains(&("env".to_owned(), "proxy_get_property".to_owned())));
    for (module, name) in imports {
        let offered = match module.as_str() {
            "env" => name.strip_prefix("proxy_").is_some_and(|name| PROXY.contains(&name)),
            "wasi_snapshot_preview1" => WASI.contains(&name.as_str()),
            _ => false,
        };
        assert!(offered, "{module}.{name}");
    }
}

#[test]
fn only_what_the_filter_implements_is_exported() {
    assert_eq!(exports(&wasm()), EXPORTS);
}

#[test]
fn the_filter_is_smaller_than_400_kibibytes() {
    let size = wasm().len();
    assert!(size < 400 * 1024, "{size} bytes");
}
