//! The command `mesh-authz`, as a library for its binary and for the tests.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`load`] | files with policies: YAML, JSON, lists, folders; what is wrong where |
//! | [`lint`] | questions about valid policies |
//! | [`explain`] | why a request is allowed or denied |
//! | [`testfile`] | files with tests of policies |
//! | [`render`] | from policies to what enforces them |
//! | [`command`] | the subcommands, one file each |

#![expect(missing_docs, reason = "only this package's binary and the project's tests use it")]

pub mod command;
pub mod explain;
pub mod lint;
pub mod load;
pub mod render;
pub mod testfile;
