//! Requests through a real Envoy with the filter that ships, `dist/mesh_authz.wasm` (`make build` makes it).

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

mod sidecar;
mod smoke;
