//! What the filter says about its decisions. Nothing here changes a decision: whatever goes wrong is left unsaid.

pub mod filter_state;
pub mod json;
pub mod limiter;
pub mod log_line;
pub mod metrics;

pub use self::metrics::Metrics;

/// What telemetry needs from the proxy. Lines are logged with the macros of the crate `log`.
pub trait Telemetry: Metrics {
    /// The time, in nanoseconds since some fixed point.
    fn now(&self) -> u64;
    /// Leaves a text with the request, for access logs. Envoy puts `wasm.` before the name.
    fn set_filter_state(&self, name: &str, value: &str);
}
