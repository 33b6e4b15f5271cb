//! Properties of every policy and every request: laws of the decision, no panics, and no broken input that allows a
//! request.
//!
//! Generated policies and requests take their values from small pools of similar values, so that they often match. Raw
//! bytes are random. The seeds are fixed, so every run is the same.

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

mod analysis;
mod cover;
mod exhaustive;
mod explain;
mod hard;
mod index;
mod laws;
mod log;
mod many;
mod mutations;
mod open;
mod robustness;
mod tcp;
mod unreadable;
mod waypoint;
mod wire;

use proptest::test_runner::{Config, RngSeed};

/// A configuration for `cases` cases. The seed is fixed, so the cases are the same in every run.
fn cases(cases: u32) -> Config {
    Config { cases, rng_seed: RngSeed::Fixed(0x6d65_7368), failure_persistence: None, ..Config::default() }
}
