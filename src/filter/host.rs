//! Envoy, as the filter sees it: the only file with host calls.
//!
//! The SDK has the entry point, the version of the ABI, and the memory that Envoy asks for. Calls and callbacks are
//! declared here by hand, for these reasons:
//! - If Envoy answers with an unexpected status, the SDK's calls panic, and a panic is an outage. Its callbacks panic
//!   if they do not know the context.
//! - The SDK's local response has no parameter for the response code details.
//! - The SDK does not know all of Envoy's log levels.
//! - The SDK's contexts bring methods for everything that a filter could do: a tenth of the module.
//!
//! A dependency exports its own callbacks, and the linker allows no second function of one name. So the callbacks have
//! the prefix `mesh_authz_on_` here, and the build gives them the names that Envoy knows (`tools/strip-exports`).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ptr;
use std::rc::Rc;

use fnv::FnvBuildHasher;
use log::{Level, LevelFilter, Log, Metadata, Record, error, info};

use super::direction;
use super::in_force::{FilterId, InForce, Registry};
use super::telemetry::filter_state;
use super::telemetry::metrics::{ConfigSummary, Metric, MetricKind, Metrics};
use super::{FilterStatus, Host, Plugin, Reply, Speaker, Telemetry, Undecided, property};
use crate::config::{DenyResponse, NodeMetadata, OnInvalid, Outgoing, workload_of};
use crate::engine::Verdict;
use crate::request::Lookup;

proxy_wasm::main! {{
    // This fails only if other code in the module has already set a logger.
    if log::set_logger(&EnvoyLogger).is_ok() {
        log::set_max_level(LevelFilter::Debug);
    }
    std::panic::set_hook(Box::new(|panic| write_log(CRITICAL, &panic.to_string())));
}}

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, message_size: usize) -> u32;

    fn proxy_get_log_level(level: *mut u32) -> u32;

    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;

    fn proxy_close_stream(kind: u32) -> u32;

    fn proxy_set_effective_context(number: u32) -> u32;

    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;

    fn proxy_get_buffer_bytes(
        buffer_type: u32,
        start: usize,
        most: usize,
        value: *mut *mut u8,
        value_size: *mut usize,
    ) -> u32;

    fn proxy_get_property(path: *const u8, path_size: usize, value: *mut *mut u8, value_size: *mut usize) -> u32;

    fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> u32;

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

    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, metric: *mut u32) -> u32;

    fn proxy_increment_metric(metric: u32, by: i64) -> u32;

    fn proxy_record_metric(metric: u32, value: u64) -> u32;
}

const STATUS_OK: u32 = 0;
const STATUS_NOT_FOUND: u32 = 1;
const HTTP_REQUEST_HEADERS: u32 = 0;
const PLUGIN_CONFIGURATION: u32 = 7;
/// The side of a connection on which the client is.
const DOWNSTREAM: u32 = 2;
/// The answer to a callback that lets Envoy go on.
const CONTINUE: u32 = 0;
/// The answer to a callback that keeps Envoy from going on.
const PAUSE: u32 = 1;
/// Envoy's most severe log level. The crate `log` does not have it.
const CRITICAL: u32 = 5;
/// Lets Envoy derive the gRPC status from the HTTP status.
const NO_GRPC_STATUS: i32 = -1;
/// The response code details if Envoy names a context that it has not created.
const UNKNOWN_CONTEXT: &str = "mesh_authz_unknown_context";
/// Nanoseconds between two searches for filters that have gone: less than the time between two calls of a timer.
const DEAD_ROOTS_EVERY: u64 = 900_000_000;
/// Milliseconds between two flushes of the counters.
const COUNTERS_EVERY: u32 = 1_000;

thread_local! {
    /// The filters that Envoy has created, by the number of their root context.
    static ROOTS: RefCell<HashMap<u32, Root, FnvBuildHasher>> =
        const { RefCell::new(HashMap::with_hasher(FnvBuildHasher::new())) };

    /// The context that Envoy has created last, and the root context that it belongs to. Envoy creates the context of a
    /// request just before it gives its headers.
    static LAST_CREATED: Cell<(u32, u32)> = const { Cell::new((0, 0)) };

    /// The metrics of the virtual machine, by name. If a metric is defined again, Envoy gives it a new number, and
    /// keeps all numbers. So each name is defined only once.
    static METRICS: RefCell<HashMap<Box<str>, Metric, FnvBuildHasher>> =
        const { RefCell::new(HashMap::with_hasher(FnvBuildHasher::new())) };

    /// The configurations in force in the virtual machine.
    static REGISTRY: Registry = const { Registry::new() };

    /// When the dead roots were last dropped, in nanoseconds.
    static LAST_SEARCH: Cell<u64> = const { Cell::new(0) };

    /// Whether the log says already that dead roots cannot be found.
    static HAS_WARNED_OF_ROOTS: Cell<bool> = const { Cell::new(false) };

    /// The connections of network filter chains that are not closed, by the number of their context.
    static CONNECTIONS: RefCell<HashMap<u32, Connection, FnvBuildHasher>> =
        const { RefCell::new(HashMap::with_hasher(FnvBuildHasher::new())) };
}

/// What is decided about a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Connection {
    /// Nothing yet. It belongs to this root context.
    Undecided {
        root: u32,
        undecided: Undecided,
    },
    Allowed,
    Denied,
}

/// A filter in Envoy's configuration. Several filters may share a virtual machine if their code is the same.
#[derive(Default)]
struct Root {
    id: FilterId,
    state: State,
    /// What the last configuration that Envoy has given says about outgoing requests, even if the rest is invalid.
    outgoing: Outgoing,
    is_sidecar: bool,
    /// Set once the gauges are published: whether it was the first plugin of the virtual machine.
    published: Cell<Option<bool>>,
}

/// What decides about the requests of a root context.
#[derive(Default)]
enum State {
    /// Nothing yet.
    #[default]
    NotConfigured,
    /// This configuration. `is_own`: it is the last one that Envoy has given, and not the one before.
    Decides { in_force: Rc<InForce>, is_own: bool },
    /// Nothing: the configuration was refused, and there is no other one.
    Refused,
}

impl Root {
    /// Reports to Envoy which configuration decides, if that has changed, and what was counted since the last report.
    ///
    /// Envoy may load a configuration and then reject the update that brings it. Therefore the gauges are not set when
    /// a configuration is loaded, but by the timer.
    fn report_metrics(&self) {
        let (summary, is_refused) = match &self.state {
            State::NotConfigured => return,
            State::Decides { in_force, is_own } => {
                in_force.plugin.flush_counters(&Envoy);
                if !REGISTRY.with(|registry| registry.is_newest(&self.id, in_force)) {
                    self.published.set(None);
                    return;
                }
                (in_force.plugin.summary(), !is_own)
            }
            State::Refused => (ConfigSummary::default(), true),
        };
        let is_first = REGISTRY.with(|registry| registry.is_first(&self.id));
        if self.published.replace(Some(is_first)) != Some(is_first) {
            // Not said when the configuration is loaded: Envoy tries it first in a virtual machine that decides
            // nothing.
            match &self.state {
                State::Decides { is_own: false, .. } => {
                    write_log(CRITICAL, "the last configuration was refused; the previous one stays in force");
                }
                State::Refused => write_log(
                    CRITICAL,
                    "the last configuration was refused, and there is no previous one: every request is refused",
                ),
                _ => {}
            }
            summary.publish((!is_first).then_some(&self.id.name), is_refused, &Envoy);
        }
    }

    /// The plugin that decides about a new request or, if there is none, the response code details of the refusal.
    fn plugin(&self) -> Result<Rc<Plugin>, &'static str> {
        match &self.state {
            State::Decides { in_force, is_own: true } => Ok(Rc::clone(&in_force.plugin)),
            // A later configuration may have come meanwhile, and Envoy may still, or again, use this root context.
            State::Decides { is_own: false, .. } => match REGISTRY.with(|registry| registry.get(&self.id)) {
                Some(last) => Ok(Rc::clone(&last.plugin)),
                None => Err("mesh_authz_configuration_refused"),
            },
            State::Refused => Err("mesh_authz_configuration_refused"),
            State::NotConfigured => Err("mesh_authz_not_configured"),
        }
    }

    /// Whether the workload of a sidecar sends the request whose headers have come, and the configuration lets it pass.
    /// What is unknown is not outgoing.
    fn passes(&self, plugin: Option<&Rc<Plugin>>) -> bool {
        let is_configured =
            self.outgoing == Outgoing::Pass || plugin.is_some_and(|plugin| plugin.outgoing() == Outgoing::Pass);
        self.is_sidecar && is_configured && direction::is_outbound(&Envoy.property(direction::LISTENER_DIRECTION))
    }

    /// `others_exist`: whether the other roots are known to exist, so that one of their configurations can stay in force.
    fn configure(&mut self, others_exist: bool) -> Result<(), OnInvalid> {
        self.published.set(None);
        let configuration = configuration();
        self.is_sidecar = direction::is_sidecar(&Envoy.property(direction::NODE_ID));
        self.outgoing = Outgoing::read(configuration.as_deref().unwrap_or_default());
        if self.is_sidecar && self.outgoing == Outgoing::Pass {
            info!("`outgoing: pass`: every request on an outgoing listener of this sidecar passes");
        }
        let on_invalid = OnInvalid::read(configuration.as_deref().unwrap_or_default());
        self.id.workload = configuration.as_deref().and_then(workload_of);
        match configuration.map(|bytes| Plugin::load(bytes, &node_metadata(), &Envoy)) {
            Some(Ok(plugin)) => {
                let in_force = REGISTRY.with(|registry| registry.put(&self.id, plugin));
                self.state = State::Decides { in_force, is_own: true };
                return Ok(());
            }
            Some(Err(diagnostics)) => diagnostics.iter().for_each(|diagnostic| error!("{diagnostic}")),
            None => error!("Envoy does not give the plugin configuration"),
        }
        if on_invalid == OnInvalid::Fail {
            error!("configuration refused: nothing of it is applied");
            return Err(on_invalid);
        }
        write_log(CRITICAL, "configuration refused: nothing of it is applied");
        self.state = match REGISTRY.with(|registry| registry.get(&self.id)).filter(|_| others_exist) {
            Some(in_force) => State::Decides { in_force, is_own: false },
            None => State::Refused,
        };
        Err(on_invalid)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if let State::Decides { in_force, .. } = &self.state {
            in_force.plugin.flush_counters(&Envoy);
        }
    }
}

impl Root {
    /// Keeps the root under this number. What was there goes: it makes calls of its own, so nothing is borrowed then.
    fn keep(self, number: u32) {
        let _before = ROOTS.with_borrow_mut(|roots| roots.insert(number, self));
    }

    /// Takes the root with this number away.
    fn take(number: u32) -> Option<Self> {
        ROOTS.with_borrow_mut(|roots| roots.remove(&number))
    }
}

/// Drops the roots that Envoy no longer has. It does not say so: a callback when a context is deleted would be a call for
/// every request. `own`: the root that Envoy calls. Returns whether the roots that are left exist.
fn drop_dead_roots(own: u32) -> bool {
    // SAFETY: the call takes only a number.
    let exists = |number| unsafe { proxy_set_effective_context(number) } == STATUS_OK;
    LAST_SEARCH.set(Envoy.now());
    // Otherwise, the answers would not say which ones are dead.
    if !exists(own) {
        if !HAS_WARNED_OF_ROOTS.replace(true) {
            write_log(
                CRITICAL,
                "Envoy does not let the filter call proxy_set_effective_context: the policies of filters that have gone stay in \
                 memory, and an update with errors leaves nothing in force; allow it in capability_restriction_config",
            );
        }
        return false;
    }
    let dead: Vec<_> = ROOTS.with_borrow(|roots| roots.keys().copied().filter(|number| !exists(*number)).collect());
    // What follows is done for the root that Envoy calls.
    exists(own);
    for number in dead {
        drop(Root::take(number));
    }
    true
}

/// The plugin of a root context that decides. `None`: the workload of a sidecar sends the request or has opened the
/// connection, and it passes. If there is no plugin: the response code details of the refusal.
fn plugin(root: u32) -> Result<Option<Rc<Plugin>>, &'static str> {
    ROOTS.with_borrow(|roots| match roots.get(&root) {
        Some(root) => match root.plugin() {
            plugin if root.passes(plugin.as_ref().ok()) => Ok(None),
            plugin => plugin.map(Some),
        },
        None => Err(UNKNOWN_CONTEXT),
    })
}

/// The virtual machine starts. It has no configuration of its own.
#[unsafe(export_name = "mesh_authz_on_vm_start")]
extern "C" fn on_vm_start(_root: u32, _size: usize) -> u32 {
    1
}

/// Envoy creates a filter, or with `root` a request or a connection of that filter.
#[unsafe(export_name = "mesh_authz_on_context_create")]
extern "C" fn on_context_create(number: u32, root: u32) {
    if root == 0 {
        Root::default().keep(number);
    } else {
        LAST_CREATED.set((number, root));
    }
}

/// Envoy gives a filter its configuration. The answer is whether the filter can be used.
#[unsafe(export_name = "mesh_authz_on_configure")]
extern "C" fn on_configure(number: u32, _size: usize) -> u32 {
    // Their configurations must not stay in force.
    let others_exist = drop_dead_roots(number);
    let Some(mut root) = Root::take(number) else { return 0 };
    if let Lookup::Value(name) = Envoy.property("plugin_name") {
        root.id.name = String::from_utf8(name).unwrap_or_default();
    }
    let result = root.configure(others_exist);
    root.keep(number);
    if result == Err(OnInvalid::Fail) {
        return 0;
    }
    // SAFETY: the call takes only a number.
    let status = unsafe { proxy_set_tick_period_milliseconds(COUNTERS_EVERY) };
    if status != STATUS_OK {
        error!("Envoy sets no timer, and counters will not move: status {status}");
    }
    1
}

/// The timer of a filter.
#[unsafe(export_name = "mesh_authz_on_tick")]
extern "C" fn on_tick(number: u32) {
    // Each filter has a timer. One of them is enough.
    if Envoy.now().abs_diff(LAST_SEARCH.get()) >= DEAD_ROOTS_EVERY {
        drop_dead_roots(number);
    }
    ROOTS.with_borrow(|roots| {
        if let Some(root) = roots.get(&number) {
            root.report_metrics();
        }
    });
}

/// The headers of a request have come.
#[unsafe(export_name = "mesh_authz_on_request_headers")]
extern "C" fn on_request_headers(number: u32, _count: usize, _is_last: u32) -> u32 {
    let (last, root) = LAST_CREATED.get();
    let plugin = if last == number { plugin(root) } else { Err(UNKNOWN_CONTEXT) };
    let status = match plugin {
        Ok(Some(plugin)) => plugin.on_request(&Envoy),
        Ok(None) => FilterStatus::Continue,
        // There is no plugin: these are the response code details of the refusal.
        Err(details) => {
            Envoy.respond(&DenyResponse::default().into(), details);
            FilterStatus::Answered
        }
    };
    match status {
        FilterStatus::Continue => CONTINUE,
        FilterStatus::Answered => PAUSE,
    }
}

/// A connection of a network filter chain begins.
#[unsafe(export_name = "mesh_authz_on_new_connection")]
extern "C" fn on_new_connection(number: u32) -> u32 {
    let (last, root) = LAST_CREATED.get();
    let plugin = if last == number { plugin(root) } else { Err(UNKNOWN_CONTEXT) };
    Connection::of(plugin, |plugin| match plugin.on_new_connection(&Envoy) {
        Ok(verdict) => verdict.into(),
        Err(undecided) => Connection::Undecided { root, undecided },
    })
    .go_on(number)
}

/// The client has sent data on a connection, or has closed its half.
#[unsafe(export_name = "mesh_authz_on_downstream_data")]
extern "C" fn on_downstream_data(number: u32, _size: usize, _is_last: u32) -> u32 {
    Connection::take(number).decided(Speaker::Client).go_on(number)
}

/// The application has sent data on a connection, or has closed its half.
#[unsafe(export_name = "mesh_authz_on_upstream_data")]
extern "C" fn on_upstream_data(number: u32, _size: usize, _is_last: u32) -> u32 {
    Connection::take(number).decided(Speaker::Application).go_on(number)
}

/// A connection is closed.
#[unsafe(export_name = "mesh_authz_on_downstream_connection_close")]
extern "C" fn on_downstream_connection_close(number: u32, _by_whom: u32) {
    Connection::take(number);
}

impl Connection {
    /// Asks the plugin. If there is none, says so in the access log: a connection has no response code details.
    fn of(plugin: Result<Option<Rc<Plugin>>, &'static str>, ask: impl FnOnce(&Plugin) -> Self) -> Self {
        match plugin {
            Ok(Some(plugin)) => ask(&plugin),
            Ok(None) => Self::Allowed,
            Err(details) => {
                let decision = format!("{{\"decision\":\"DENY\",\"reason\":\"{details}\"}}");
                Envoy.set_filter_state(filter_state::NAME, &decision);
                Self::Denied
            }
        }
    }

    /// Takes what is known of a connection away. Of one that is not known, nothing passes.
    fn take(number: u32) -> Self {
        CONNECTIONS.with_borrow_mut(|connections| connections.remove(&number)).unwrap_or(Self::Denied)
    }

    /// The connection with a decision, now that somebody sends data.
    fn decided(self, speaker: Speaker) -> Self {
        match self {
            Self::Undecided { root, undecided } => {
                Self::of(plugin(root), |plugin| plugin.on_data(undecided, speaker, &Envoy).into())
            }
            decided => decided,
        }
    }

    /// Lets the connection go on, and remembers it. Or closes it.
    fn go_on(self, number: u32) -> u32 {
        if self != Self::Denied {
            let _none = CONNECTIONS.with_borrow_mut(|connections| connections.insert(number, self));
            return CONTINUE;
        }
        // SAFETY: the call takes only a number.
        let status = unsafe { proxy_close_stream(DOWNSTREAM) };
        if status != STATUS_OK {
            error!("Envoy does not close a connection: status {status}");
        }
        // Nothing passes, even if the connection stays open.
        PAUSE
    }
}

impl From<Verdict> for Connection {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Allow => Self::Allowed,
            Verdict::Deny => Self::Denied,
        }
    }
}

/// The plugin configuration. `None` if Envoy does not give it.
fn configuration() -> Option<Vec<u8>> {
    let configuration = read(|value, size| {
        // SAFETY: the results are written before the call returns.
        unsafe { proxy_get_buffer_bytes(PLUGIN_CONFIGURATION, 0, usize::MAX, value, size) }
    });
    match configuration {
        Lookup::Value(bytes) => Some(bytes),
        Lookup::Absent => Some(Vec::new()),
        Lookup::Unreadable => None,
    }
}

/// The description of the workload in Envoy's bootstrap. It counts unless the plugin configuration describes the
/// workload.
fn node_metadata() -> NodeMetadata {
    NodeMetadata {
        namespace: Envoy.property("xds\0node\0metadata\0NAMESPACE").and_then(|bytes| property::text(&bytes)),
        labels: Envoy.property("xds\0node\0metadata\0LABELS").and_then(|bytes| property::labels(&bytes)),
        is_no_waypoint: direction::is_sidecar_or_gateway(&Envoy.property(direction::NODE_ID)),
    }
}

fn write_log(level: u32, line: &str) {
    // SAFETY: the line is valid for its length, and Envoy copies it. If the line is not logged, there is nobody to
    // tell.
    let _status = unsafe { proxy_log(level, line.as_ptr(), line.len()) };
}

/// Writes what the macros of the crate `log` log to Envoy's log.
struct EnvoyLogger;

impl EnvoyLogger {
    /// The number that Envoy has for a level.
    fn number(level: Level) -> u32 {
        match level {
            Level::Trace => 0,
            Level::Debug => 1,
            Level::Info => 2,
            Level::Warn => 3,
            Level::Error => 4,
        }
    }
}

impl Log for EnvoyLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // If Envoy's level is higher than critical, nothing is logged.
        let mut least = 0;
        // SAFETY: the result is written before the call returns.
        let status = unsafe { proxy_get_log_level(&raw mut least) };
        status != STATUS_OK || Self::number(metadata.level()) >= least
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            write_log(Self::number(record.level()), &record.args().to_string());
        }
    }

    fn flush(&self) {}
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

    fn respond(&self, reply: &Reply, details: &str) {
        // SAFETY: every pointer is valid for the length that follows it, and Envoy copies what it keeps.
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
        // If Envoy sends no response, the request still does not pass, because it stays paused.
        if status != STATUS_OK {
            error!("Envoy does not send the local response: status {status}");
        }
    }
}

impl Telemetry for Envoy {
    fn now(&self) -> u64 {
        let mut now = 0;
        // SAFETY: the result is written before the call returns. The status does not matter: Envoy always knows the
        // time.
        let _status = unsafe { proxy_get_current_time_nanoseconds(&raw mut now) };
        now
    }

    fn set_filter_state(&self, name: &str, value: &str) {
        // SAFETY: name and value are valid for their lengths, and Envoy copies them. The status does not matter: a
        // request is not refused because its access log lacks this text.
        let _status = unsafe { proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
    }
}

impl Metrics for Envoy {
    fn define(&self, kind: MetricKind, name: &str) -> Option<Metric> {
        if let Some(known) = METRICS.with_borrow(|metrics| metrics.get(name).copied()) {
            return Some(known);
        }
        let number = match kind {
            MetricKind::Counter => 0,
            MetricKind::Gauge => 1,
        };
        let mut metric = 0;
        // SAFETY: the name is valid for its length; the result is written before the call returns.
        let status = unsafe { proxy_define_metric(number, name.as_ptr(), name.len(), &raw mut metric) };
        if status != STATUS_OK {
            error!("Envoy does not define the metric {name}: status {status}");
            return None;
        }
        METRICS.with_borrow_mut(|metrics| metrics.insert(name.into(), Metric(metric)));
        Some(Metric(metric))
    }

    fn add(&self, Metric(counter): Metric, more: u32) {
        // SAFETY: the call takes only numbers. For a number that it does not know, Envoy counts nothing.
        let _status = unsafe { proxy_increment_metric(counter, more.into()) };
    }

    fn record(&self, Metric(gauge): Metric, value: u64) {
        // SAFETY: as above.
        let _status = unsafe { proxy_record_metric(gauge, value) };
    }
}

/// Calls the host for bytes. The host allocates them in this module's memory.
#[expect(clippy::same_length_and_capacity, reason = "the host allocates exactly as much as it writes")]
fn read(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Lookup<Vec<u8>> {
    let (mut value, mut size) = (ptr::null_mut(), 0);
    match call(&raw mut value, &raw mut size) {
        STATUS_OK if value.is_null() => Lookup::Value(Vec::new()),
        // SAFETY: the host got these bytes from `proxy_on_memory_allocate`, which allocates exactly `size` of them with
        // the global allocator. The host does not keep them.
        STATUS_OK => Lookup::Value(unsafe { Vec::from_raw_parts(value, size, size) }),
        STATUS_NOT_FOUND => Lookup::Absent,
        _ => Lookup::Unreadable,
    }
}
