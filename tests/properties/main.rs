//! What holds for every policy and every request: laws of the decision, and that nothing panics or opens.
//!
//! Generated policies and requests draw from small pools of values that are near each other, so that they meet; raw
//! bytes come from nowhere. Seeds are fixed: a run is the same every time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "tests fail by panicking"
)]

mod policies;
mod requests;

mod cover;
mod explain;
mod index;
mod laws;
mod log;
mod mutations;
mod robustness;
mod unreadable;
mod wire;

use proptest::test_runner::{Config, RngSeed};

/// So many cases, the same in every run.
fn cases(cases: u32) -> Config {
    Config { cases, rng_seed: RngSeed::Fixed(0x6d65_7368), failure_persistence: None, ..Config::default() }
}
