//! `onInvalid`: what becomes of a configuration that cannot be used.

use super::{apart, fingerprint};
use crate::document::{self, Node, Value};

/// What becomes of a configuration that the filter cannot use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnInvalid {
    /// `fail`: the configuration does not load. If it comes from a bootstrap, Envoy does not start.
    #[default]
    Fail,
    /// `deny`: the configuration loads. The last valid configuration of the same plugin name and the same workload
    /// stays in force or, if there is none, every request is refused. This is for Envoys that get the filter by xDS: if
    /// the filter fails to load there, Envoy may go on with a listener that does not have it.
    Deny,
}

/// The name of the field.
pub(crate) const FIELD: &str = "onInvalid";

impl OnInvalid {
    /// The values of the field, by name.
    pub const NAMES: [(&'static str, Self); 2] = [("fail", Self::Fail), ("deny", Self::Deny)];

    /// Reads the field apart from the rest of a configuration, which may be wrong in any way. What comes before the
    /// first syntax error counts. The result is [`Self::Fail`] if the field is missing, has no known value, or has two
    /// values.
    #[must_use]
    pub fn read(configuration: &[u8]) -> Self {
        apart::choice(configuration, FIELD, &Self::NAMES).unwrap_or_default()
    }
}

/// What tells the configurations of one filter from those of another that has the same plugin name: a fingerprint of
/// the workload that they describe. `None` if that cannot be read.
#[must_use]
pub fn workload_of(configuration: &[u8]) -> Option<u64> {
    let mut fingerprints = [0, 0];
    for (fingerprint, field) in fingerprints.iter_mut().zip(["workload", "gateway"]) {
        let mut count = 0_u32;
        let is_complete = document::search(configuration, field, |mut node| {
            count = count.saturating_add(1);
            *fingerprint = if identifies(&mut node) { fingerprint::of(&node) } else { 0 };
        });
        match count {
            1 => {}
            // What was not read may have it.
            0 if is_complete => {}
            _ => return None,
        }
    }
    let [workload, gateway] = fingerprints;
    Some(workload.rotate_left(1) ^ gateway)
}

/// Leaves out what does not tell filters apart, and says whether anything is left. A field that is unknown, or says by
/// which labels Istio has chosen the configuration, makes no other filter. Nor do the services that a waypoint tells apart
/// by their hosts: one filter is for all of them, and remains the same when policies name another one.
fn identifies(node: &mut Node) -> bool {
    const IDENTIFYING: [&str; 6] = ["namespace", "labels", "name", "waypoint", "services", "serviceEntries"];
    let Value::Map(fields) = &mut node.value else { return true };
    fields.retain(|(field, _)| IDENTIFYING.contains(&field.as_str()));
    for (_, field) in &mut *fields {
        if let Value::List(services) = &mut field.value {
            services.retain(|service| !matches!(service.value, Value::Map(_)));
        }
    }
    !fields.is_empty()
}
