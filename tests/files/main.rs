//! The files that the command reads: YAML and JSON as people write them, every kind of mistake in them, and resources
//! that are not policies. Also: the resources that it renders for several workloads decide together like one filter.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    clippy::too_many_lines,
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "tests fail by panicking, and tables are long"
)]

#[path = "../properties/policies.rs"]
#[allow(dead_code, reason = "shared with the tests of the library")]
mod policies;
#[path = "../properties/requests.rs"]
#[allow(dead_code, reason = "shared with the tests of the library")]
mod requests;

mod causes;
mod cluster;
mod documents;
mod instances;
mod kubectl;
mod mistakes;
mod received;
mod request_authentication;
mod resources;
mod verdicts;
mod yaml;

use proptest::test_runner::{Config, RngSeed};

/// A configuration for `cases` cases. The seed is fixed, so the cases are the same in every run.
fn cases(cases: u32) -> Config {
    Config { cases, rng_seed: RngSeed::Fixed(0x6d65_7368), failure_persistence: None, ..Config::default() }
}
