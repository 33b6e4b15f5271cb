//! Access logs of Envoy, read back: what a line says about a request.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`mod@format`] | reads a format string |
//! | [`mod@line`] | splits a line of a text format |
//! | [`json`] | reads a line of a JSON format |
//! | [`settings`] | finds the formats in a mesh configuration or in the configuration of an Envoy |
//! | [`record`] | what the columns of a line say |
//! | [`happened`] | what became of the request, as the line says |
//! | [`request`] | the request, as far as the line has it |

pub mod format;
pub mod happened;
pub mod json;
pub mod line;
pub mod record;
pub mod request;
pub mod settings;
