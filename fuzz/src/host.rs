//! A host that knows nothing and remembers nothing.

use mesh_authz::filter::telemetry::metrics::{Metric, MetricKind};
use mesh_authz::filter::telemetry::{Metrics, Telemetry};
use mesh_authz::filter::{Host, Reply};
use mesh_authz::request::Lookup;

/// Every attribute is absent.
pub struct Empty;

impl Host for Empty {
    fn property(&self, _: &str) -> Lookup<Vec<u8>> {
        Lookup::Absent
    }

    fn request_headers(&self) -> Lookup<Vec<u8>> {
        Lookup::Absent
    }

    fn respond(&self, _: &Reply, _: &str) {}
}

impl Telemetry for Empty {
    fn now(&self) -> u64 {
        0
    }

    fn set_filter_state(&self, _: &str, _: &str) {}
}

impl Metrics for Empty {
    fn define(&self, _: MetricKind, _: &str) -> Option<Metric> {
        Some(Metric(0))
    }

    fn add(&self, _: Metric, _: u32) {}

    fn record(&self, _: Metric, _: u64) {}
}
