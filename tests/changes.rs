//! Changes of policies as people make them, in `tests/changes/`. Each has the answer that Istio's semantics give, and
//! `mesh-authz diff` must say it.
//!
//! A file is a list of changes:
//!
//! | field | meaning |
//! | --- | --- |
//! | `name` | what the change does |
//! | `old`, `new` | the policies: from `NAMESPACE/NAME` to the `spec`, which also has `labels` and `annotations` |
//! | `arguments` | further arguments for the command |
//! | `gained`, `lost` | the rules by which somebody gains or loses access; `RULE: WORDS` describes the requests |
//! | `unchanged` | what changes nothing; `RULE: REASON` says why |
//! | `odd` | `gained`, `lost` or both: hardly anybody sends the requests that show this difference |
//!
//! Words, and what changes nothing, are compared only where a file has them. The request that shows a difference must
//! be decided as claimed. What the provider of a CUSTOM policy answers is open, but the two decisions must differ.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "tests fail by panicking"
)]

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use mesh_authz_cli::load::yaml;
use rayon::prelude::*;
use serde_json::{Value, json};

const FIELDS: [&str; 8] = ["name", "old", "new", "arguments", "gained", "lost", "unchanged", "odd"];

/// The changes of all files, each with the name of its file.
fn changes() -> Vec<(String, Value)> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/changes"));
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let of = |file: PathBuf| {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let documents = yaml::documents(&std::fs::read_to_string(&file).unwrap());
        let documents = documents.unwrap_or_else(|error| panic!("{name}: {error}"));
        let Value::Array(changes) = json!(documents[0]) else { panic!("{name} is not a list") };
        changes.into_iter().map(move |change| (name.clone(), change)).collect::<Vec<_>>()
    };
    files.into_iter().flat_map(of).collect()
}

/// A field with a list. It is empty if the field is absent.
fn list<'c>(change: &'c Value, field: &str) -> &'c [Value] {
    match &change[field] {
        Value::Null => &[],
        Value::Array(items) => items,
        other => panic!("{field} is not a list: {other}"),
    }
}

/// The policies of one side, as JSON objects one after another.
fn policies(side: &Value) -> String {
    let Value::Object(policies) = side else { panic!("no policies: {side}") };
    let policy = |(name, spec): (&String, &Value)| {
        let (namespace, name) = name.split_once('/').unwrap();
        let mut metadata = json!({ "namespace": namespace, "name": name });
        let mut spec = spec.clone();
        for field in ["labels", "annotations"] {
            if let Some(value) = spec.as_object_mut().unwrap().remove(field) {
                metadata[field] = value;
            }
        }
        let kind = "AuthorizationPolicy";
        json!({ "apiVersion": "security.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec }).to_string()
    };
    policies.iter().map(policy).collect::<Vec<_>>().join("\n")
}

/// What the command says about a change.
fn compared(change: &Value) -> Result<Value, String> {
    let folder = tempfile::tempdir().unwrap();
    for side in ["old", "new"] {
        std::fs::write(folder.path().join(side), policies(&change[side])).unwrap();
    }
    let arguments = list(change, "arguments").iter().map(|argument| argument.as_str().unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_mesh-authz"));
    command.current_dir(folder.path()).args(["diff", "old", "new", "--format", "json"]).args(arguments);
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).map_err(|_| format!("no answer: {error}"))
}

/// Compares names. Where the file has a text with a name, also compares it with this field of the answer.
fn compare(expected: &[Value], answer: &[Value], field: &str) -> Result<(), String> {
    let parts = |expected: &Value| match expected {
        Value::String(name) => (name.clone(), None),
        Value::Object(fields) if fields.len() == 1 => {
            let (name, text) = fields.iter().next().unwrap();
            (name.clone(), Some(text.as_str().unwrap().to_owned()))
        }
        other => panic!("neither a name nor a name with a text: {other}"),
    };
    let expected: Vec<_> = expected.iter().map(parts).collect();
    let said: Vec<_> = answer.iter().map(|said| (said["name"].as_str().unwrap(), &said[field])).collect();
    let is_said = |(name, text): &(String, Option<String>)| {
        said.iter().any(|(known, said)| known == name && text.as_ref().is_none_or(|text| *said == text))
    };
    if expected.len() == said.len() && expected.iter().all(is_said) {
        return Ok(());
    }
    Err(format!("expected {expected:?}\n    got {said:?}"))
}

/// What is wrong with the example of a difference: the request is not decided as claimed, nobody can send it, or it is
/// odd where the file does not say so.
fn wrong_example(difference: &Value, verdicts: [&str; 2], is_odd: bool) -> Option<String> {
    let decided = [&difference["before"], &difference["after"]].map(|decision| decision.as_str().unwrap());
    let is_asked = difference.get("provider").is_some();
    let has_verdicts = decided.iter().zip(verdicts).all(|(decision, verdict)| decision.starts_with(verdict));
    let is_claimed = if is_asked { decided[0] != decided[1] } else { has_verdicts };
    let is_sent = difference["canBeSent"] == true && difference["isExpected"] == !is_odd;
    (!is_claimed || !is_sent).then(|| format!("the example is wrong: {difference}"))
}

/// All that is wrong with the answer about a change.
fn mistakes(change: &Value) -> Vec<String> {
    let fields = change.as_object().unwrap();
    if let Some(field) = fields.keys().find(|field| !FIELDS.contains(&field.as_str())) {
        return vec![format!("the field {field} is unknown")];
    }
    let answer = match compared(change) {
        Ok(answer) => answer,
        Err(error) => return vec![error],
    };
    let mut mistakes = Vec::new();
    if answer["undecided"] != json!([]) {
        mistakes.push(format!("undecided: {}", answer["undecided"]));
    }
    for (field, text) in [("gained", "requests"), ("lost", "requests"), ("unchanged", "reason")] {
        if (field != "unchanged" || fields.contains_key(field))
            && let Err(mistake) = compare(list(change, field), list(&answer, field), text)
        {
            mistakes.push(format!("{field}: {mistake}"));
        }
    }
    for (direction, verdicts) in [("gained", ["DENY", "ALLOW"]), ("lost", ["ALLOW", "DENY"])] {
        let is_odd = list(change, "odd").contains(&json!(direction));
        let differences = list(&answer, direction).iter();
        mistakes.extend(differences.filter_map(|difference| wrong_example(difference, verdicts, is_odd)));
    }
    mistakes
}

#[test]
fn changes_are_answered_as_istio_decides() {
    let changes = changes();
    let names: HashSet<_> = changes.iter().map(|(_, change)| change["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), changes.len(), "a name occurs twice");
    assert!(changes.len() >= 100, "{} changes", changes.len());
    let failures: Vec<_> = changes
        .par_iter()
        .flat_map_iter(|(file, change)| {
            mistakes(change).into_iter().map(move |mistake| format!("{file}: {}\n  {mistake}", change["name"]))
        })
        .collect();
    assert!(failures.is_empty(), "{} mistakes\n{}", failures.len(), failures.join("\n"));
}
