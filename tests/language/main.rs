//! The policy language, sentence by sentence: which policies apply, what they match, how they decide, and which are
//! refused.
//!
//! Each module tests one chapter of the language's definition. Most tests are tables. Each row has a value, a request
//! and an outcome. [`support`] tests the value in every place where a policy can have it.

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

mod support;

mod decision;
mod matching;
mod scope;

mod addresses;
mod claims;
mod connection;
mod headers;
mod metadata;
mod paths;
mod request_line;
mod values;

mod identity;
mod jwt;
mod templates;

mod accepted;
mod configuration;
mod configuration_errors;
mod in_force;
mod invalid_values;
mod shapes;
mod validation;

mod host_calls;
mod nearest;
mod peer;
mod stricter;
mod telemetry;
mod unreadable;
mod waypoint;
