//! A real Envoy for the end-to-end tests and the demo, with the other parts of a mesh around it.
//!
//! | part of a mesh | here |
//! | --- | --- |
//! | the certificate authority | [`Authority`], which also issues certificates that no honest authority would issue |
//! | the issuer of tokens | [`Issuer`] |
//! | the sidecar | [`Envoy`]: a process with its log, its statistics and its files |
//! | the application behind it | [`App`], which reports the requests that have reached it; [`TcpApp`] for TCP |
//! | what decides besides policies | [`HttpAuthorizer`] and [`GrpcAuthorizer`], with the feature `authorizers` |
//! | its clients, honest and hostile | [`Client`] with [`Request`] and [`Http2Request`], which write the given bytes |
//!
//! Nothing here knows what is being tested. An Envoy starts with any bootstrap that it is given, and [`bootstrap`] has
//! the parts that every bootstrap needs. All calls block, and every wait has an end. The system chooses every port, so
//! tests can run side by side.
//!
//! ```no_run
//! use testbed::{App, Authority, Client, Envoy, Request, Tls, bootstrap::*};
//!
//! let (authority, app) = (Authority::new()?, App::start()?);
//! let own = authority.server("cluster.local/ns/default/sa/backend")?;
//! let tls = mutual_tls(&authority, &own, ClientCertificate::Required);
//! let manager = http_connection_manager(&[], &[route_to("app")]);
//! let envoy = Envoy::start(&bootstrap(
//!     &[listener("inbound", manager, Some(tls))],
//!     &[cluster("app", app.address())],
//! ))?;
//!
//! let frontend = authority.spiffe("cluster.local/ns/default/sa/frontend")?;
//! let client = Client::tls(envoy.address("inbound")?, Tls::mutual(authority.pem(), &frontend));
//! assert_eq!(client.send(&Request::get("/api/v1/data"))?.status, 200);
//! # anyhow::Ok(())
//! ```

mod admin;
mod app;
#[cfg(feature = "authorizers")]
mod authorizer;
pub mod bootstrap;
mod certs;
mod client;
mod envoy;
mod http1;
mod http2;
mod jwt;
mod message;
mod process;
mod tcp_app;
mod transport;
mod version;

pub use admin::Admin;
pub use app::{App, SeenRequest};
#[cfg(feature = "authorizers")]
pub use authorizer::{GrpcAuthorizer, HttpAnswer, HttpAuthorizer, Question};
pub use certs::{Authority, Certified, San};
pub use client::{Client, Tls};
pub use envoy::{Envoy, StartOptions};
/// Messages of `ext_authz`.
#[cfg(feature = "authorizers")]
pub use envoy_types::{ext_authz, pb::google::rpc};
pub use http1::Connection;
pub use http2::Http2Connection;
pub use jwt::Issuer;
pub use message::{Http2Request, Request, Response};
pub use process::{envoy_binary, spawn};
pub use tcp_app::TcpApp;
/// The error of a gRPC call.
#[cfg(feature = "authorizers")]
pub use tonic::Status;
pub use version::{envoy_version, suit_listeners, tells_once_a_connection};
