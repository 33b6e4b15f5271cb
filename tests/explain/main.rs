//! What `mesh-authz explain` says about requests and about lines of the decision log.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    missing_docs,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

mod log;
mod reasons;
