//! Sends requests through a real Envoy with the shipped filter, `dist/mesh_authz.wasm` (built by `make build`).

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
#![allow(clippy::needless_pass_by_value, reason = "`json!(…)` needs no borrow to be read")]

mod addresses;
mod bypasses;
mod cases;
mod configuration;
mod custom;
mod failures;
mod headers;
mod identity;
mod istio;
mod jwt;
mod keys;
mod laptop;
mod login;
mod metadata;
mod modes;
mod module;
mod neighbours;
mod normalization;
mod observability;
mod outgoing;
mod peer;
mod pinned;
mod protocols;
mod providers;
mod public;
mod question;
mod redis;
mod rendered;
mod replies;
mod requests;
mod roots;
mod several_providers;
mod shared;
mod sidecar;
mod standalone;
mod stricter;
mod surroundings;
mod tcp;
mod unreadable;
mod updates;
mod watched;
mod waypoint;
