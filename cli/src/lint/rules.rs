//! One policy at a time: its rules, and what its metadata says.

use super::{Linter, Site};
use crate::load::Resource;
use mesh_authz::diagnostic::{Path, suggestion};
use mesh_authz::document::{Node, Value};
use mesh_authz::engine::compile;
use mesh_authz::policy::resource::DRY_RUN;
use mesh_authz::policy::{Action, AllOf, AnyOf, Predicate, Rule, Target, rule_path};

pub(super) fn policy<'r>(linter: &mut Linter<'r>, resource: &'r Resource, sites: &[Site<'r>]) {
    let policy = &resource.policy;
    for (index, rule) in policy.rules.iter().enumerate() {
        if policy.action == Action::Deny && stops_all_tcp(rule) {
            linter.report(
                "MA013",
                resource,
                rule_path(index),
                "on TCP ports this rule is applied without its HTTP fields, and refuses every connection".to_owned(),
                "name the ports that it is for: `ports: [\"8080\"]` in each operation".to_owned(),
            );
        }
    }
    for rule in compile::policy(policy, &linter.surroundings.mesh.options()) {
        if rule.never_matches() {
            linter.report(
                "MA002",
                resource,
                rule_path(rule.id().index),
                "no request can match this rule: two of its conditions exclude each other".to_owned(),
                "remove the one that is not meant".to_owned(),
            );
        }
    }
    if policy.dry_run {
        linter.report(
            "MA024",
            resource,
            Path::of(["metadata", "annotations", DRY_RUN]),
            "this policy is only tried out: it decides nothing".to_owned(),
            "remove the annotation once the trial is over".to_owned(),
        );
    }
    let selector = Path::of(["spec", "selector"]);
    if policy.target == Target::Everything && resource.node.at(&selector).is_some() {
        linter.report(
            "MA025",
            resource,
            selector,
            "selects every workload of the namespace".to_owned(),
            "remove the selector, or name a label".to_owned(),
        );
    }
    if policy.target == Target::Everything && policy.name.namespace == linter.surroundings.mesh.root_namespace {
        linter.report(
            "MA023",
            resource,
            Path::of(["metadata", "namespace"]),
            format!(
                "in the root namespace and without a selector, this {} is for every workload of the mesh",
                policy.action
            ),
            "add a selector, or say that it is meant with the annotation `mesh-authz/allow: MA023`".to_owned(),
        );
    }
    empty_lists(linter, resource, sites);
    misplaced(linter, resource);
}

/// What stands among names that are the author's, and was probably meant to be one of ours.
fn misplaced<'r>(linter: &mut Linter<'r>, resource: &'r Resource) {
    const FIELDS: [&str; 7] = ["action", "rules", "provider", "selector", "targetRef", "targetRefs", "matchLabels"];
    let labels = Path::of(["spec", "selector", "matchLabels"]);
    let annotations = Path::of(["metadata", "annotations"]);
    for key in keys(resource, &labels).filter(|key| FIELDS.contains(key)) {
        linter.report(
            "MA028",
            resource,
            labels.with(key),
            format!("`{key}` is a label here, that workloads must carry, and not the field of that name"),
            "correct the indentation of the line".to_owned(),
        );
    }
    for key in keys(resource, &annotations).filter(|key| *key != DRY_RUN && suggestion(key, [DRY_RUN]).is_some()) {
        linter.report(
            "MA029",
            resource,
            annotations.with(key),
            format!("`{key}` means nothing: the policy decides"),
            format!("did you mean `{DRY_RUN}`?"),
        );
    }
}

fn keys<'r>(resource: &'r Resource, path: &Path) -> impl Iterator<Item = &'r str> {
    let entries = match resource.node.at(path).map(|node| &node.value) {
        Some(Value::Map(entries)) => entries.as_slice(),
        _ => &[],
    };
    entries.iter().map(|(key, _)| key.as_str())
}

/// Lists without a value. Where the whole field holds none, nothing of it is left in the policy as read.
fn empty_lists<'r>(linter: &mut Linter<'r>, resource: &'r Resource, sites: &[Site<'r>]) {
    let empty = sites.iter().filter(|site| site.values.is_empty());
    let mut lists: Vec<Path> = empty.map(|site| site.path.clone()).collect();
    for (index, rule) in resource.policy.rules.iter().enumerate() {
        for (clause, _) in rule.clauses() {
            let path = clause.path(index);
            let Some(Value::Map(entries)) = resource.node.at(&path).map(|node: &Node| &node.value) else { continue };
            for (name, _) in entries.iter().filter(|(_, node)| node.value == Value::List(Vec::new())) {
                let path = path.with(name);
                if !lists.contains(&path) {
                    lists.push(path);
                }
            }
        }
    }
    for path in lists {
        linter.report(
            "MA026",
            resource,
            path,
            "is empty, which restricts nothing".to_owned(),
            "remove it, or name a value".to_owned(),
        );
    }
}

/// Whether a DENY rule refuses every connection on a TCP port, where it is applied without its HTTP fields: one of its sources,
/// one of its operations and all conditions are empty then, and were not all empty before.
fn stops_all_tcp(rule: &Rule) -> bool {
    let is_empty = |all: &AllOf<Predicate>| all.0.iter().all(Predicate::is_http_only);
    let can_be_empty =
        |any: &Option<AnyOf<AllOf<Predicate>>>| any.as_ref().is_none_or(|any| any.0.iter().any(is_empty));
    let says_something = rule.clauses().any(|(_, all)| !all.0.is_empty());
    says_something && can_be_empty(&rule.from) && can_be_empty(&rule.to) && is_empty(&rule.when)
}
