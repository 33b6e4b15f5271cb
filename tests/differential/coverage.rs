//! Counts what the generated policies contained, so that a result of "no difference" says what was compared.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::policies::PolicySet;

/// How often each field and condition occurred, and how often each form of value.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    fields: BTreeMap<String, usize>,
    forms: BTreeMap<&'static str, usize>,
}

impl Coverage {
    pub fn add(&mut self, set: &PolicySet) {
        for policy in &set.policies {
            let action = policy["spec"]["action"].as_str().unwrap_or_default();
            for rule in policy["spec"]["rules"].as_array().into_iter().flatten() {
                let groups = |list: &str, name: &str| {
                    let items = rule[list].as_array().cloned().unwrap_or_default();
                    items.into_iter().map(move |item| item[name].clone()).collect::<Vec<_>>()
                };
                for group in groups("from", "source").iter().chain(&groups("to", "operation")) {
                    for (field, values) in group.as_object().into_iter().flatten() {
                        self.field(format!("{action} {field}"), values);
                    }
                }
                for condition in rule["when"].as_array().into_iter().flatten() {
                    let key = condition["key"].as_str().unwrap_or_default();
                    for name in ["values", "notValues"] {
                        if let Some(values) = condition.get(name) {
                            self.field(format!("{action} {key} {name}"), values);
                        }
                    }
                }
            }
        }
    }

    fn field(&mut self, name: String, values: &Value) {
        *self.fields.entry(name).or_default() += 1;
        for value in values.as_array().into_iter().flatten().filter_map(Value::as_str) {
            *self.forms.entry(form(value)).or_default() += 1;
        }
    }

    pub fn plus(mut self, other: Self) -> Self {
        for (name, count) in other.fields {
            *self.fields.entry(name).or_default() += count;
        }
        for (form, count) in other.forms {
            *self.forms.entry(form).or_default() += count;
        }
        self
    }

    /// Two lines: the number of different fields and conditions with the rarest one, and the count of each form.
    pub fn report(&self) -> String {
        let rarest = self.fields.iter().min_by_key(|(_, count)| **count);
        let rarest = rarest.map(|(name, count)| format!("{name} ({count} times)")).unwrap_or_default();
        format!("{} fields and conditions, the rarest {rarest}\nforms: {:?}", self.fields.len(), self.forms)
    }
}

fn form(value: &str) -> &'static str {
    if value.contains("{*}") || value.contains("{**}") {
        "template"
    } else if value == "*" {
        "presence"
    } else if value.starts_with('[') && value.ends_with(']') {
        "list element"
    } else if value.starts_with('*') {
        "suffix"
    } else if value.ends_with('*') {
        "prefix"
    } else if value.contains('*') {
        "literal star"
    } else {
        "exact"
    }
}
