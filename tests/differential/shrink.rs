//! From a difference to the smallest policies and request that still show it.

use serde_json::Value;

use crate::arena::{Answers, Arena};
use crate::{Case, Relation, connect, relation};

/// Most Envoys to start on the way.
const MOST_STEPS: usize = 40;

/// How many candidates one Envoy judges.
const CANDIDATES: usize = 64;

/// Removes one thing after another, as long as the difference stays.
pub fn shrink(mut case: Case, mut answers: Answers) -> (Case, Answers) {
    for _ in 0..MOST_STEPS {
        let candidates: Vec<_> = smaller(&case).into_iter().take(CANDIDATES).collect();
        let Some((smaller, its_answers)) = first_different(candidates) else { break };
        case = smaller;
        answers = its_answers;
    }
    (case, answers)
}

fn first_different(mut candidates: Vec<Case>) -> Option<(Case, Answers)> {
    // A candidate that is no valid policy any more would keep Envoy from starting.
    candidates.retain(|case| {
        let mut diagnostics = mesh_authz::diagnostic::Diagnostics::new();
        for node in case.set.nodes() {
            mesh_authz::policy::read::policy(&node, &mut diagnostics);
        }
        diagnostics.count_errors() == 0
    });
    let arena = Arena::start(candidates.iter().map(|case| (&case.set, case.link.from.is_none()))).ok()?;
    let addresses = arena.addresses().ok()?;
    for (index, case) in candidates.into_iter().enumerate() {
        let answers = connect(&addresses, index, &case.link).and_then(|mut open| open.ask(&case.question));
        if let Ok(answers) = answers
            && relation(&case.link, &case.question, &answers) == Relation::Different
        {
            return Some((case, answers));
        }
    }
    None
}

/// The same with one thing less, the largest things first.
fn smaller(case: &Case) -> Vec<Case> {
    let mut smaller = Vec::new();
    for index in 0..case.set.policies.len() {
        let mut candidate = case.clone();
        candidate.set.policies.remove(index);
        smaller.push(candidate);
    }
    let mut pointers = Vec::new();
    for (index, policy) in case.set.policies.iter().enumerate() {
        removable(&policy["spec"], &format!("/{index}/spec"), &mut pointers);
    }
    pointers.sort_by_key(|pointer| pointer.matches('/').count());
    for pointer in pointers {
        let mut candidate = case.clone();
        let mut policies = Value::Array(candidate.set.policies);
        remove(&mut policies, &pointer);
        candidate.set.policies = policies.as_array().cloned().unwrap_or_default();
        smaller.push(candidate);
    }
    for index in 0..case.question.headers.len() {
        let mut candidate = case.clone();
        candidate.question.headers.remove(index);
        smaller.push(candidate);
    }
    for index in 0..case.question.metadata.len() {
        let mut candidate = case.clone();
        candidate.question.metadata.remove(index);
        smaller.push(candidate);
    }
    if case.question.claims.is_some() {
        let mut candidate = case.clone();
        candidate.question.claims = None;
        smaller.push(candidate);
    }
    if case.question.forwarded_for.is_some() {
        let mut candidate = case.clone();
        candidate.question.forwarded_for = None;
        smaller.push(candidate);
    }
    smaller
}

/// Pointers to every list item and every field below `value`.
fn removable(value: &Value, pointer: &str, pointers: &mut Vec<String>) {
    let mut child = |key: &str, value: &Value| {
        let pointer = format!("{pointer}/{key}");
        pointers.push(pointer.clone());
        removable(value, &pointer, pointers);
    };
    match value {
        Value::Array(items) => items.iter().enumerate().for_each(|(index, item)| child(&index.to_string(), item)),
        Value::Object(fields) => fields.iter().for_each(|(key, value)| child(key, value)),
        _ => {}
    }
}

fn remove(root: &mut Value, pointer: &str) {
    let Some((parent, key)) = pointer.rsplit_once('/') else { return };
    match root.pointer_mut(parent) {
        Some(Value::Array(items)) => drop(items.remove(key.parse().unwrap())),
        Some(Value::Object(fields)) => drop(fields.remove(key)),
        _ => {}
    }
}
