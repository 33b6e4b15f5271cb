//! Envoy, as the filter sees it: the only file with host calls.
//!
//! The SDK runs the contexts, the log and the configuration's buffer. Some calls are declared here by hand. Reading a
//! property or a header through the SDK ends in a panic, and with it in an outage, when Envoy answers with a status
//! that the SDK does not expect; its local response has no room for the response code details; and it does not know all
//! of Envoy's log levels.

use std::ptr;
use std::rc::Rc;

use log::error;
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, BufferType, ContextType, LogLevel};

use super::{Host, Outcome, Plugin, Reply, property};
use crate::config::{DenyResponse, NodeMetadata};
use crate::request::Lookup;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root { plugin: None }));
}}

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_get_property(path: *const u8, path_size: usize, value: *mut *mut u8, value_size: *mut usize) -> u32;

    fn proxy_get_log_level(level: *mut u32) -> u32;

    fn proxy_get_header_map_value(
        map_type: u32,
        key: *const u8,
        key_size: usize,
        value: *mut *mut u8,
        value_size: *mut usize,
    ) -> u32;

    fn proxy_get_header_map_pairs(map_type: u32, pairs: *mut *mut u8, pairs_size: *mut usize) -> u32;

    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
}

const STATUS_OK: u32 = 0;
const STATUS_NOT_FOUND: u32 = 1;
const HTTP_REQUEST_HEADERS: u32 = 0;
const INFO: u32 = 2;
/// Lets Envoy derive the gRPC status from the HTTP status.
const NO_GRPC_STATUS: i32 = -1;

struct Root {
    plugin: Option<Rc<Plugin>>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        match configure() {
            Ok(plugin) => {
                self.plugin = Some(Rc::new(plugin));
                true
            }
            Err(errors) => {
                for error in errors {
                    error!("{error}");
                }
                error!("configuration refused: nothing of it is applied");
                false
            }
        }
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { plugin: self.plugin.clone() }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream {
    plugin: Option<Rc<Plugin>>,
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let outcome = if let Some(plugin) = &self.plugin {
            plugin.on_request(&Envoy)
        } else {
            Envoy.respond(&DenyResponse::default().into(), "mesh_authz_not_configured");
            Outcome::Answered
        };
        match outcome {
            Outcome::Continue => Action::Continue,
            Outcome::Answered => Action::Pause,
        }
    }
}

fn configure() -> Result<Plugin, Vec<String>> {
    let configuration = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, usize::MAX)
        .map_err(|status| vec![format!("Envoy does not give the plugin configuration: {status:?}")])?;
    Plugin::load(configuration.unwrap_or_default(), &node_metadata())
        .map_err(|diagnostics| diagnostics.iter().map(ToString::to_string).collect())
}

/// Where the workload is described, unless the configuration does it.
fn node_metadata() -> NodeMetadata {
    NodeMetadata {
        namespace: Envoy.property("xds\0node\0metadata\0NAMESPACE").and_then(|bytes| property::text(&bytes)),
        labels: Envoy.property("xds\0node\0metadata\0LABELS").and_then(|bytes| property::labels(&bytes)),
    }
}

/// As Envoy numbers them: trace is 0, and what is off is beyond critical.
fn log_level() -> u32 {
    let mut level = INFO;
    // SAFETY: the result is written before the call returns.
    let status = unsafe { proxy_get_log_level(&raw mut level) };
    if status == STATUS_OK { level } else { INFO }
}

struct Envoy;

impl Host for Envoy {
    fn property(&self, path: &str) -> Lookup<Vec<u8>> {
        read(|value, size| {
            // SAFETY: the path is valid for its length; the results are written before the call returns.
            unsafe { proxy_get_property(path.as_ptr(), path.len(), value, size) }
        })
    }

    fn request_headers(&self) -> Lookup<Vec<u8>> {
        // SAFETY: the results are written before the call returns.
        read(|value, size| unsafe { proxy_get_header_map_pairs(HTTP_REQUEST_HEADERS, value, size) })
    }

    fn request_header(&self, name: &[u8]) -> Lookup<Vec<u8>> {
        read(|value, size| {
            // SAFETY: the name is valid for its length; the results are written before the call returns.
            unsafe { proxy_get_header_map_value(HTTP_REQUEST_HEADERS, name.as_ptr(), name.len(), value, size) }
        })
    }

    fn logs_info(&self) -> bool {
        log_level() <= INFO
    }

    fn respond(&self, reply: &Reply, details: &str) {
        // SAFETY: every pointer is valid for the length behind it, and Envoy copies what it keeps.
        let status = unsafe {
            proxy_send_local_response(
                reply.status.into(),
                details.as_ptr(),
                details.len(),
                reply.body.as_ptr(),
                reply.body.len(),
                reply.headers.as_ptr(),
                reply.headers.len(),
                NO_GRPC_STATUS,
            )
        };
        // The request stays paused, so it does not pass either way.
        if status != STATUS_OK {
            error!("Envoy does not send the local response: status {status}");
        }
    }
}

/// Calls the host for bytes that it allocates in this module's memory.
#[expect(clippy::same_length_and_capacity, reason = "the host allocates exactly as much as it writes")]
fn read(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Lookup<Vec<u8>> {
    let (mut value, mut size) = (ptr::null_mut(), 0);
    match call(&raw mut value, &raw mut size) {
        STATUS_OK if value.is_null() => Lookup::Value(Vec::new()),
        // SAFETY: the host has got these bytes from `proxy_on_memory_allocate`, which allocates exactly `size` of them
        // with the global allocator, and it does not keep them.
        STATUS_OK => Lookup::Value(unsafe { Vec::from_raw_parts(value, size, size) }),
        STATUS_NOT_FOUND => Lookup::Absent,
        _ => Lookup::Unreadable,
    }
}
