//! What the filter reports about its decisions. Nothing here changes a decision: if a report fails, only the report is
//! missing.

pub mod filter_state;
pub mod json;
pub mod limiter;
pub mod log_line;
pub mod metrics;

pub use self::metrics::Metrics;

/// What telemetry needs from the proxy. Log lines are written with the macros of the crate `log`.
pub trait Telemetry: Metrics {
    /// The time in nanoseconds, counted from some fixed point.
    fn now(&self) -> u64;
    /// Stores a text with the request, for access logs. Envoy puts `wasm.` before the name.
    fn set_filter_state(&self, name: &str, value: &str);
}
