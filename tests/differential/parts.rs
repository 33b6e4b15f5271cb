//! The parts of a JSON value, to leave some of them out.

use serde_json::Value;

/// A step from a value to one of its parts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Index(usize),
    Key(String),
}

/// The paths to all parts of a value that stands at this path.
pub fn below(value: &Value, path: &[Step]) -> Vec<Vec<Step>> {
    let children: Vec<(Step, &Value)> = match value {
        Value::Array(items) => items.iter().enumerate().map(|(index, item)| (Step::Index(index), item)).collect(),
        Value::Object(fields) => fields.iter().map(|(key, field)| (Step::Key(key.clone()), field)).collect(),
        _ => Vec::new(),
    };
    let with_its_parts = |(step, child): (Step, &Value)| {
        let path = [path, &[step]].concat();
        let parts = below(child, &path);
        parts.into_iter().chain([path])
    };
    children.into_iter().flat_map(with_its_parts).collect()
}

/// Removes the part at this path.
pub fn remove(value: &mut Value, path: &[Step]) {
    match (value, path) {
        (Value::Array(items), [Step::Index(index)]) if *index < items.len() => drop(items.remove(*index)),
        (Value::Object(fields), [Step::Key(key)]) => drop(fields.remove(key)),
        (Value::Array(items), [Step::Index(index), rest @ ..]) => {
            if let Some(item) = items.get_mut(*index) {
                remove(item, rest);
            }
        }
        (Value::Object(fields), [Step::Key(key), rest @ ..]) => {
            if let Some(field) = fields.get_mut(key) {
                remove(field, rest);
            }
        }
        _ => {}
    }
}
