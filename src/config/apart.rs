//! Reads a field apart from the rest of a configuration, which may be wrong in any way.

use crate::document;

/// The value of a field that has one of these names. What comes before the first syntax error counts. `None` if the
/// field is missing, has no known value, or has two values.
pub(super) fn choice<T: Copy + PartialEq>(
    configuration: &[u8],
    field: &'static str,
    names: &[(&'static str, T)],
) -> Option<T> {
    let mut found = None;
    document::search(configuration, field, |node| {
        let known = |text: &str| names.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        let value = node.as_str().and_then(known);
        // `Some(None)`: the value is unknown, or contradicts an earlier one.
        found = Some(value.filter(|value| found.is_none_or(|before| before == Some(*value))));
    });
    found.flatten()
}
