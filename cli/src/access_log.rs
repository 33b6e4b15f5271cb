//! Access logs of Envoy, read back: what a line says about a request.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`mod@format`] | reads a format string |
//! | [`mod@line`] | splits a line by a format string |

pub mod format;
pub mod line;
