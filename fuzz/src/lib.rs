//! What `make fuzz` runs: functions that take any bytes and must not panic. libFuzzer makes up the bytes;
//! `tests/corpus.rs` replays those that it found before.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::allow_attributes,
    reason = "a fuzz target fails by panicking"
)]

// The callbacks need `filter/host.rs`, which exists natively only for this.
#[cfg(fuzzing)]
pub mod callbacks;
pub mod configuration;
pub mod decisions;
pub mod host;
pub mod properties;
