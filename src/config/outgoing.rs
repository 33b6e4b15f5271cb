//! `outgoing`: what the filter does about the requests that a sidecar's workload sends.

use super::apart;

/// What the filter does on the outgoing listeners of a sidecar. Everywhere else, it decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outgoing {
    /// `decide`: it decides about every request.
    #[default]
    Decide,
    /// `pass`: it lets every request pass. This is for resources of Istio, which load the filter on all listeners of a
    /// proxy. Policies are for the requests that a workload receives, not for those that it sends.
    Pass,
}

/// The name of the field.
pub(crate) const FIELD: &str = "outgoing";

impl Outgoing {
    /// The values of the field, by name.
    pub const NAMES: [(&'static str, Self); 2] = [("decide", Self::Decide), ("pass", Self::Pass)];

    /// Reads the field apart from the rest of a configuration, as [`OnInvalid::read`](super::OnInvalid::read) does. The
    /// result is [`Self::Decide`] if the field cannot be read.
    #[must_use]
    pub fn read(configuration: &[u8]) -> Self {
        apart::choice(configuration, FIELD, &Self::NAMES).unwrap_or_default()
    }
}
