//! Istio's `AuthorizationPolicy`: the policy language, the engine that decides requests, and the Proxy-Wasm filter that
//! enforces the decisions in Envoy.
//!
//! ```
//! use mesh_authz::config::Mesh;
//! use mesh_authz::engine::{Engine, Verdict};
//! use mesh_authz::policy::AuthorizationPolicy;
//! use mesh_authz::request::Request;
//!
//! let policy = AuthorizationPolicy::from_json(
//!     r#"{ "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": { "name": "admins" },
//!          "spec": { "rules": [{
//!              "from": [{ "source": { "principals": ["cluster.local/ns/ops/sa/admin"] } }],
//!              "to": [{ "operation": { "paths": ["/admin*"] } }] }] } }"#,
//! )
//! .expect("a valid policy");
//! let engine = Engine::new([policy], &Mesh::default().options());
//!
//! let request = Request::new("GET", "/admin/users");
//! let stranger = engine.decide(&request);
//! assert_eq!(stranger.outcome.verdict(), Verdict::Deny);
//! assert_eq!(stranger.outcome.to_string(), "no ALLOW policy matched");
//!
//! let request = request.principal("cluster.local/ns/ops/sa/admin");
//! let admin = engine.decide(&request);
//! assert_eq!(admin.outcome.verdict(), Verdict::Allow);
//! assert_eq!(admin.outcome.to_string(), "rule 0 of default/admins matched");
//! ```
//!
//! The modules are in the order in which data flows through them, so you can read them from top to bottom. [`config`]
//! is an exception: it comes early, but it consists of types from later modules.
//!
//! | question | module |
//! | --- | --- |
//! | What can a policy ask about? Which attributes are identities, from a token, or only in HTTP? | [`attribute`] |
//! | How are mistakes reported? | [`diagnostic`] |
//! | How are JSON and protobuf `Struct`s read? How are duplicate keys and `null` found? | [`document`], [`wire`] |
//! | What is in the plugin configuration? | [`config`] |
//! | What is in a policy? | [`policy`], [`policy::read`], [`policy::resource`] |
//! | What is a valid address, port, service account, template or condition key? | [`policy::value`], [`policy::key`] |
//! | What else does Istio's admission check refuse? | `policy::validate` |
//! | Which policies apply to a workload, and why do others not apply? | [`policy::scope`] |
//! | What do trust domains and their aliases mean? What does a principal match? | [`identity`] |
//! | Which bytes do exact, prefix, suffix and presence values match? | [`matcher`], [`matcher::template`] |
//! | Which attributes does a request have? What if the host does not provide one? | [`request`] |
//! | What is the decision, and which rule made it? | [`engine`], [`engine::decision`] |
//! | Why does a rule not match? | [`engine::explain`] |
//! | What holds for all requests? Which of them does a change decide otherwise? | `analysis` |
//! | What does the filter ask Envoy for? What response does a refused client get? | [`filter`] |
//! | What do logs, metrics and access logs contain? | [`filter::telemetry`] |
//!
//! All code except the host calls in `filter/host.rs` is pure. It runs natively in tests and in the command exactly as
//! it runs inside Envoy.

// An overflow would panic, and a panic in the filter is an outage.
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

// The filter does without.
#[cfg(not(target_arch = "wasm32"))]
pub mod analysis;

pub mod filter;
