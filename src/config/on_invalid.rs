//! `onInvalid`: what becomes of a configuration that cannot be used.

use crate::document::{self, Value};
use crate::wire::{Field, Fields, map_entry};

/// What becomes of a configuration that the filter cannot use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnInvalid {
    /// `fail`: the configuration does not load. If it comes from a bootstrap, Envoy does not start.
    #[default]
    Fail,
    /// `deny`: the configuration loads. The last valid configuration of the same plugin name stays in force or, if there is
    /// none, every request is refused. This is for Envoys that get the filter by xDS: if the filter fails to load there,
    /// Envoy may go on with a listener that does not have it.
    Deny,
}

/// The name of the field.
pub(crate) const FIELD: &str = "onInvalid";

impl OnInvalid {
    /// The values of the field, by name.
    pub const NAMES: [(&'static str, Self); 2] = [("fail", Self::Fail), ("deny", Self::Deny)];

    /// Reads the field apart from the rest of a configuration, which may be wrong in any way. What comes before the first
    /// syntax error counts. The result is [`Self::Fail`] if the field is missing, has no known value, or has two values.
    #[must_use]
    pub fn read(configuration: &[u8]) -> Self {
        let mut found = None;
        let mut add = |text: &[u8]| {
            let value = Self::NAMES.iter().find(|(name, _)| name.as_bytes() == text).map(|(_, value)| *value);
            // `Some(None)`: the value is unknown, or contradicts an earlier one.
            found = Some(value.filter(|value| found.is_none_or(|before| before == Some(*value))));
        };
        if configuration.starts_with(b"\n") {
            search_struct(configuration, &mut add);
        }
        document::search_json(configuration, FIELD, |node| match node.value {
            Value::String(text) => add(text.as_bytes()),
            _ => add(b""),
        });
        found.flatten().unwrap_or_default()
    }
}

fn search_struct(message: &[u8], add: &mut dyn FnMut(&[u8])) {
    for field in Fields::of(message) {
        let Ok((1, Field::Bytes(entry))) = field else { return };
        let Ok((key, value)) = map_entry(entry) else { return };
        if key == FIELD.as_bytes() {
            // `google.protobuf.Value.string_value`.
            add(match Fields::of(value).last() {
                Some(Ok((3, Field::Bytes(text)))) => text,
                _ => b"",
            });
        }
    }
}
