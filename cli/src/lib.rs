//! The command `mesh-authz`, as a library that its binary and the tests use.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`load`] | reads policies from files (YAML, JSON, lists, folders), and reports each mistake with its place |
//! | [`lint`] | checks valid policies for likely mistakes |
//! | [`envoy`] | checks Envoy's own configuration: what decisions depend on, and ways around the filter |
//! | [`explain`] | explains why a request is allowed or denied |
//! | [`testfile`] | reads files with tests of policies |
//! | [`witness`] | writes requests that the analysis of policies has found |
//! | [`access_log`] | reads access logs of Envoy: formats, lines, and the requests in them |
//! | [`decision_log`] | reads lines of the filter's decision log |
//! | [`received`] | what Envoy makes of a request before the filter sees it |
//! | [`logs`] | reads logs, in parallel: the requests in them, and what became of them |
//! | [`replay`] | holds logs against policies |
//! | [`suggest`] | makes policies of the requests that were allowed |
//! | [`render`] | turns policies into the configurations and resources that enforce them |
//! | [`schema`] | JSON Schemas, for editors |
//! | [`command`] | implements the subcommands |

#![expect(missing_docs, reason = "only this package's binary and the project's tests use it")]

pub mod access_log;
pub mod command;
pub mod decision_log;
pub mod envoy;
pub mod explain;
pub mod lint;
pub mod load;
pub mod logs;
pub mod received;
pub mod render;
pub mod replay;
pub mod schema;
pub mod suggest;
pub mod testfile;
pub mod witness;
