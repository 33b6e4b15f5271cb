//! Istio's `AuthorizationPolicy`, enforced by a Proxy-Wasm filter in any Envoy.
//!
//! The modules stand in the order in which data flows through them and can be read from top to bottom; the configuration
//! comes first, though it is made of what comes after it. Where a sentence of the documentation is decided:
//!
//! | sentence of the documentation | decided in |
//! | --- | --- |
//! | what a resource or a configuration may contain, field by field | [`document`], [`config`], [`policy`] |
//! | which values a field accepts (addresses, ports, templates, condition keys) | [`policy::value`], [`policy::key`] |
//! | what Istio's admission check refuses | [`policy::validate`] |
//! | which policies apply to a workload, and why not | [`policy::scope`] |
//! | trust domains, aliases, service accounts, namespaces | [`identity`] |
//! | `*`, `abc*`, `*abc`, exact; path templates; CIDRs | [`matcher`] |
//! | what a request is: present, absent, unreadable | [`request`] |
//! | allow or deny, and by which rule | [`engine`] |
//! | what a refused client gets, what is logged | [`filter`] |
//! | what the command renders from policies | `render` (not in the filter) |
//! | policies in files; test files | `yaml`, `input`, `testfile` (not in the filter) |
//!
//! Everything but [`filter`]'s host calls is pure: it runs natively in the tests and in the command just as it runs
//! inside Envoy, and the dependency that talks to Envoy exists for `wasm32` only.

// An overflow would be a panic in the filter, and with it an outage.
#![deny(clippy::arithmetic_side_effects)]

pub mod diagnostic;
pub mod wire;

pub mod document;

pub mod config;
pub mod policy;

pub mod identity;
pub mod matcher;

pub mod request;

pub mod engine;

pub mod filter;

#[cfg(not(target_arch = "wasm32"))]
pub mod yaml;

#[cfg(not(target_arch = "wasm32"))]
pub mod input;
#[cfg(not(target_arch = "wasm32"))]
pub mod testfile;

#[cfg(not(target_arch = "wasm32"))]
pub mod render;
