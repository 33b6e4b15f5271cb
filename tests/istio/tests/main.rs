//! What the documents say of Istio, asked of a real one: `make istio`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "tests fail by panicking"
)]

mod actions;
mod examples;
mod files;
mod gateway;
mod in_step;
mod language;
mod live;
mod logs;
mod outages;
#[path = "../../differential/parts.rs"]
mod parts;
mod paths;
mod peer;
mod phases;
mod place;
mod plugin;
#[allow(dead_code, reason = "shared with the differential tests")]
#[path = "../../differential/policies.rs"]
mod policies;
mod ports;
#[allow(dead_code, reason = "shared with the differential tests")]
#[path = "../../differential/questions.rs"]
mod questions;
mod rendered;
mod rendering;
mod resources;
mod sequences;
mod tcp;
mod tunnel;
mod updates;
mod validity;
#[allow(dead_code, reason = "shared with the differential tests")]
#[path = "../../differential/vocabulary.rs"]
mod vocabulary;
mod waypoint;
