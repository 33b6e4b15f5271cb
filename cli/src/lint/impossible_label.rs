//! MA052. A label in the selector that no workload can have.

use mesh_authz::policy::{Labels, Target};

use super::impossible_value::visible;
use super::other_resources::selector_path;
use super::{Check, Lint, LintContext, PolicyView, Reporter, placeholder, selector_matches_nothing};

pub(super) static LINT: Lint = Lint {
    code: "MA052",
    name: "impossible-label",
    summary: "a label in the selector that no workload can have",
    explanation: "Kubernetes refuses a label with a space on a workload, but takes it in the selector of a policy. The policy \
            then applies to nothing, and nobody notices. A value has at most 63 characters: letters, \
            digits, `-`, `_` and `.`, and it begins and ends with a letter or a digit. So does the name of a label, before \
            which a domain in lower case and `/` can stand.",
    bad: r#"
spec:
  selector:
    matchLabels:
      app: "backend frontend"
"#,
    good: r"
spec:
  selector:
    matchLabels:
      app: backend
",
    trust_domain: None,
    check: Check::Policy(check),
};

fn check(policy: &PolicyView<'_>, _: &LintContext, reporter: &mut Reporter) {
    let Target::Labels(labels) = &policy.policy().target else { return };
    for (key, value) in labels {
        // MA040 reports these.
        if placeholder::in_name(key).or_else(|| placeholder::in_name(value)).is_some() {
            continue;
        }
        let (is_possible, what, text): (fn(&str) -> bool, _, _) =
            if is_name(key) { (is_value, "value", value) } else { (is_name, "name", key) };
        if is_possible(text) {
            continue;
        }
        let trimmed = text.trim();
        let hint = if is_possible(trimmed) {
            format!("write `{trimmed}`")
        } else {
            format!("correct the {what} of the label")
        };
        reporter.report(
            &LINT,
            policy.resource,
            selector_path().with(key),
            format!("no label in Kubernetes can have the {what} `{}`, so the policy applies to nothing", visible(text)),
            selector_matches_nothing::correct(policy.policy(), &hint),
        );
    }
}

/// Whether no workload can have one of the labels.
pub(super) fn has_one(labels: &Labels) -> bool {
    labels.iter().any(|(key, value)| !is_name(key) || !is_value(value))
}

/// Whether a label can have this name: <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/>.
fn is_name(key: &str) -> bool {
    const LONGEST_DOMAIN: usize = 253;
    let (domain, name) = key.split_once('/').map_or((None, key), |(domain, name)| (Some(domain), name));
    let is_in_domain = |part: &str| {
        let is_one = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        part.bytes().all(is_one) && !part.is_empty() && !part.starts_with('-') && !part.ends_with('-')
    };
    let is_domain = |domain: &str| domain.len() <= LONGEST_DOMAIN && domain.split('.').all(is_in_domain);
    domain.is_none_or(is_domain) && !name.is_empty() && is_value(name)
}

/// Whether a label can have this value.
fn is_value(value: &str) -> bool {
    const LONGEST: usize = 63;
    let is_one = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_end = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
    value.len() <= LONGEST && value.bytes().all(is_one) && is_end(value.bytes().next()) && is_end(value.bytes().last())
}
