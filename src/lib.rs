//! Istio's `AuthorizationPolicy`: the language, the engine that decides, and the Proxy-Wasm filter that enforces it in Envoy.
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
//! The modules stand in the order in which data flows through them, so they can be read from top to bottom. [`config`] is an
//! exception: it comes early, and is made of what comes after it.
//!
//! | question | module |
//! | --- | --- |
//! | What can a policy ask about? What is an identity, what comes from a token, what does only HTTP have? | [`attribute`] |
//! | How are mistakes reported? | [`diagnostic`] |
//! | How are JSON text and a protobuf `Struct` read, duplicate keys and fields without a value found? | [`document`], [`wire`] |
//! | What is in the plugin configuration? | [`config`] |
//! | What is in a policy? | [`policy`], [`policy::read`], [`policy::resource`] |
//! | What is a valid address, port, service account, path template, condition key? | [`policy::value`], [`policy::key`] |
//! | What else does Istio's admission check refuse? | `policy::validate` |
//! | Which policies apply to a workload, and why not? | [`policy::scope`] |
//! | What do trust domains and their aliases mean? What does a principal match? | [`identity`] |
//! | What do exact, prefix, suffix and presence match, on bytes? | [`matcher`], [`matcher::template`] |
//! | What does a request have, and what if the host does not tell? | [`request`] |
//! | What is decided, and by which rule? | [`engine`], [`engine::decision`] |
//! | Why does a rule not match? | [`engine::explain`] |
//! | Does one rule match whatever another one does? | [`analysis`] |
//! | What does the filter ask Envoy, and what does a refused client get? | [`filter`] |
//! | What do logs, metrics and access logs say? | [`filter::telemetry`] |
//!
//! Everything but the host calls in `filter/host.rs` is pure. It runs natively in tests and in the command just as it runs inside
//! Envoy.

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
