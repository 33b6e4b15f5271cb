//! What of the policies counts for a TCP connection.

use mesh_authz::policy::{Action, Predicate, Rule, Traffic};

use crate::load::policy_set::PolicySet;
use crate::load::providers::Providers;

/// Says which rules do not count, and which count without some of their fields: sentences without a full stop.
pub(super) fn notes(set: &PolicySet, providers: &Providers) -> Vec<String> {
    let mut notes = Vec::new();
    if set.workload.gateway.as_ref().is_some_and(|gateway| gateway.waypoint) {
        notes.push("on a waypoint that tells services apart, the filter refuses every TCP connection".to_owned());
    }
    for resource in set.applying() {
        let policy = &resource.policy;
        if !set.applying_to(Traffic::Tcp, providers).any(|applying| std::ptr::eq(applying, resource)) {
            let provider = policy.provider.as_deref().unwrap_or_default();
            notes.push(format!(
                "CUSTOM {} does not count over TCP: its provider `{provider}` is asked over HTTP",
                policy.name
            ));
            continue;
        }
        for (index, rule) in policy.rules.iter().enumerate() {
            let Some(fields) = http_fields(rule) else { continue };
            let name = format!("rule {index} of {}", policy.name);
            notes.push(if !Traffic::Tcp.has_rule(policy.action, rule) {
                format!("over TCP, {name} does not count: only HTTP has {fields}")
            } else if rule.predicates().any(|predicate| Traffic::Tcp.has(predicate)) {
                format!("over TCP, {name} counts without {fields}, which only HTTP has")
            } else {
                format!("over TCP, {name} {}: only HTTP has {fields}", meets_all(policy.action))
            });
        }
    }
    notes
}

/// What a rule does to every connection if none of its fields counts.
fn meets_all(action: Action) -> &'static str {
    match action {
        Action::Deny => "refuses every connection",
        Action::Custom => "has its provider asked about every connection",
        Action::Audit | Action::Allow => "matches every connection",
    }
}

/// The names of the fields and conditions of a rule that only HTTP has, each once.
fn http_fields(rule: &Rule) -> Option<String> {
    let mut names: Vec<String> = Vec::new();
    for name in rule.predicates().filter(|predicate| !Traffic::Tcp.has(predicate)).map(name) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let last = names.pop()?;
    Some(if names.is_empty() { last } else { format!("{} and {last}", names.join(", ")) })
}

fn name(predicate: &Predicate) -> String {
    let fields = predicate.attribute().info().fields;
    let name = fields.map_or_else(|| predicate.name(), |[field, _]| field.to_owned());
    format!("`{name}`")
}
