//! Istio's `AuthorizationPolicy`, enforced by a Proxy-Wasm filter in any Envoy.
//!
//! The modules stand in the order in which data flows through them and can be read from top to bottom; the configuration
//! comes first, though it is made of what comes after it. Where a sentence of the documentation is decided:
//!
//! | sentence of the documentation | decided in |
//! | --- | --- |
//! | the plugin configuration, field by field | [`config`] |
//! | a policy, field by field; what stands there twice or has no value | [`policy::read`], [`document`] |
//! | addresses and CIDRs, ports, service accounts, the syntax of templates, the four forms of a value | [`policy::value`] |
//! | condition keys | [`policy::key`] |
//! | what else Istio's admission check refuses | [`policy::validate`] |
//! | which policies apply to a workload, and why not | [`policy::scope`] |
//! | trust domains and aliases; principals, namespaces, service accounts | [`identity`] |
//! | presence, prefix, suffix, exact, on bytes; what a wildcard takes | [`matcher`] |
//! | what a template matches | [`matcher::template`] |
//! | which attributes a request has; absent and unreadable | [`request`] |
//! | headers, one by one; claims and metadata, typed | [`request::headers`], [`request::metadata`] |
//! | whether a match permits or denies, and what follows from it | [`engine::compile`] |
//! | when a rule matches; what becomes of an unreadable attribute | [`engine::evaluate`] |
//! | which rules are asked at all | [`engine::index`] |
//! | the combining algorithms, dry runs, the rule that is reported | [`engine`] |
//! | which attribute comes from where in Envoy; what a refused client gets | [`filter`], [`filter::property`] |
//! | the decision log; how many lines; one line whatever bytes | [`filter::log_line`], [`filter::limiter`], [`filter::json`] |
//! | counters and gauges | [`filter::metrics`] |
//! | filter state, for access logs; the debug header | [`filter::filter_state`] |
//! | why a rule does not match; which one came nearest; which are wider than others | [`engine::explain`], [`engine::cover`] |
//!
//! Everything but [`filter`]'s host calls is pure: it runs natively in the tests and in the command just as it runs
//! inside Envoy, and the dependency that talks to Envoy exists for `wasm32` only.

// An overflow would be a panic in the filter, and with it an outage.
#![deny(clippy::arithmetic_side_effects)]

pub mod attribute;
pub mod diagnostic;
pub mod wire;

pub mod document;

pub mod config;
pub mod policy;

pub mod identity;
pub mod matcher;

pub mod request;

pub mod engine;

pub mod analysis;

pub mod filter;
