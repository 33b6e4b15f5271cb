//! Files are judged as a cluster judges them: the API server with Istio's schemas and istiod's webhook, and kubectl
//! before it.
//!
//! | part | what it does |
//! | --- | --- |
//! | `cases` | makes files, number by number, from a seed |
//! | `grammar`, `vocabulary` | write resources over every field |
//! | `named` | files with a name: what once differed |
//! | `style` | gives a document one of the many forms of YAML and JSON |
//! | `probes` | small files with one value that may be wrong |
//! | `mutate` | makes mistakes, in documents and in texts |
//! | `cluster` | asks the cluster |
//! | `verdicts` | compares the verdicts, and the values that were read; knows where the command is meant to differ |
//!
//! `make istio TESTS=files COUNT=20000 SEED=7` compares more files, or others.

mod cases;
mod cluster;
mod grammar;
mod mutate;
mod named;
mod probes;
mod style;
mod tree;
#[path = "../../files/verdicts/mod.rs"]
mod verdicts;
#[rustfmt::skip]
mod vocabulary;

use std::{collections::BTreeMap, env, fs, path::Path};

use fastrand::Rng;
use mesh_authz_cli::load::Resources;
use serde_json::{Value, json};

use self::{
    cases::Material,
    cluster::Cluster,
    grammar::Grammar,
    named::Expected,
    style::Style,
    verdicts::{
        Verdict,
        compare::{compare, read},
        differences::{STRICTER, UNKNOWN},
        typed,
    },
};
use crate::{
    place::{Place, mesh_authz},
    rendering::number,
};

const COUNT: u64 = 8_000;
const SEED: u64 = 1;

/// The number of generated files that are recorded, and the length that they have at most.
const RECORDED: usize = 600;
const SHORT: usize = 2_000;

/// The most differences that are printed, and cut down.
const MOST_SHOWN: usize = 60;

#[test]
fn files_are_judged_as_a_cluster_judges_them() {
    let place = Place::new();
    let mut cluster = Cluster::of(place.mesh);
    let (count, seed) = (number("COUNT", COUNT), number("SEED", SEED));
    let material = Material::new();
    let files: Vec<String> = (0..count).map(|number| cases::file(seed, number, &material)).collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut different: BTreeMap<String, Vec<(usize, String)>> = BTreeMap::new();
    cluster.ask(&files, |number, verdict| match compare(&files[number], &Verdict::of(&verdict)) {
        Ok(seen) => seen.into_iter().for_each(|what| *counts.entry(what).or_default() += 1),
        Err(difference) => different.entry(kind(&difference)).or_default().push((number, difference)),
    });
    println!("{count} files of seed {seed}: {counts:#?}");
    for of_one_kind in different.values().take(MOST_SHOWN) {
        let (number, difference) = of_one_kind.iter().min().unwrap();
        let text = shrunk(&mut cluster, &files[*number], difference);
        println!("\n{} files; seed {seed}, file {number}: {difference}\n{text:?}\n{text}", of_one_kind.len());
    }
    assert!(different.is_empty(), "{} of {count} files differ", different.values().flatten().count());
}

#[test]
fn files_with_a_name() {
    let place = Place::new();
    let files = named::files();
    let texts: Vec<String> = files.iter().map(|(_, text, _)| text.clone()).collect();
    let mut different = Vec::new();
    Cluster::of(place.mesh).ask(&texts, |number, verdict| {
        let (name, text, expected) = &files[number];
        let found = compare(text, &Verdict::of(&verdict));
        let is_expected = match expected {
            Expected::Taken => found.as_ref().is_ok_and(|seen| seen.iter().all(|what| *what == "taken by both")),
            Expected::Refused => found.as_ref().is_ok_and(|seen| seen.iter().all(|what| *what == "refused by both")),
            Expected::Differs(why) => found.as_ref().is_ok_and(|seen| seen.contains(why)),
        };
        if !is_expected {
            let text: String = text.chars().take(2_000).collect();
            different.push(format!("{name}: {expected:?}, and not {found:?}: {verdict}\n{text}"));
        }
    });
    assert!(different.is_empty(), "{}", different.join("\n"));
    let differences = STRICTER.iter().map(|reason| (reason.name, reason.row));
    for (name, row) in differences.chain(UNKNOWN.iter().map(|reason| (reason.name, reason.row))) {
        let is_it = |expected: &Expected| matches!(expected, Expected::Differs(why) if *why == name);
        assert!(files.iter().any(|(_, _, expected)| is_it(expected)), "no file has this difference: {name}: {row}");
    }
}

/// What `kubectl get` prints of applied resources is taken as it comes, and means what was applied.
#[test]
fn what_kubectl_prints_means_what_was_applied() {
    let place = Place::new();
    let mut rng = Rng::with_seed(SEED);
    let mut applied = Vec::new();
    while applied.len() < 40 {
        let mut resource = Grammar { rng: &mut rng, oddness: 0 }.resource();
        if !resource.named(&place.namespace, &format!("r{}", applied.len())) {
            continue;
        }
        let text = Style::of(&mut rng).file(&[resource]);
        let before = read(&text);
        if before.has_errors() || place.mesh.kubectl(&["apply", "-f", "-"], &text).is_err() {
            continue;
        }
        applied.push(before);
    }
    let understood = |resources: &Resources| -> BTreeMap<String, Value> {
        let policies = resources.policies.iter().map(|found| {
            let policy = &found.policy;
            let spec = json!({ "dry run": policy.dry_run, "revision": policy.revision, "spec": typed::policy(policy) });
            (format!("AuthorizationPolicy {}", policy.name), spec)
        });
        let authentications = resources.request_authentications.iter().map(|found| {
            let authentication = &found.authentication;
            let spec = json!({ "revision": authentication.revision, "spec": typed::authentication(authentication) });
            (format!("RequestAuthentication {}", authentication.name), spec)
        });
        policies.chain(authentications).collect()
    };
    let expected: BTreeMap<_, _> = applied.iter().flat_map(understood).collect();
    let count = |kind: &str| expected.keys().filter(|name| name.starts_with(kind)).count();
    assert!(count("AuthorizationPolicy") > 10 && count("RequestAuthentication") > 5);
    let kinds = "authorizationpolicies,requestauthentications,peerauthentications";
    for options in [&["-o", "yaml"][..], &["-o", "json"], &["-o", "yaml", "--show-managed-fields"]] {
        let printed = place.kubectl(&[&["get", kinds], options].concat(), "");
        mesh_authz(&["check", "-"], &printed);
        let found = read(&printed);
        assert!(!found.has_errors(), "{options:?}: {:?}", found.findings);
        assert_eq!(understood(&found), expected, "{options:?}");
    }
}

/// `make test` compares with the recorded verdicts. `UPDATE=1 make istio TESTS=recorded` records them anew.
#[test]
fn recorded_verdicts_are_those_of_this_cluster() {
    let place = Place::new();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../files/cluster.jsonl");
    let texts: Vec<String> = if env::var_os("UPDATE").is_some() {
        let material = Material::new();
        let generated =
            (2..).step_by(3).map(|number| cases::file(SEED, number, &material)).filter(|text| text.len() < SHORT);
        let named = named::files().into_iter().map(|(_, text, _)| text).filter(|text| text.len() < SHORT);
        named.chain(generated.take(RECORDED)).collect()
    } else {
        let recorded = fs::read_to_string(&path).unwrap();
        let lines = recorded.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|line| line["text"].as_str().unwrap().to_owned()).collect()
    };
    let mut verdicts = vec![Value::Null; texts.len()];
    Cluster::of(place.mesh).ask(&texts, |number, verdict| verdicts[number] = recorded(&texts[number], &verdict));
    let lines: String = verdicts.iter().map(|verdict| format!("{verdict}\n")).collect();
    if env::var_os("UPDATE").is_some() {
        fs::write(&path, lines).unwrap();
    } else {
        // The API server says what is wrong in any order.
        let without_errors = |line: &str| {
            let mut verdict: Value = serde_json::from_str(line).unwrap();
            verdict["error"] = verdict["error"].is_string().into();
            for object in verdict["objects"].as_array_mut().unwrap() {
                object["error"] = object["error"].is_string().into();
            }
            verdict
        };
        let before = fs::read_to_string(&path).unwrap();
        for (line, (before, now)) in before.lines().zip(lines.lines()).enumerate() {
            assert_eq!(without_errors(before), without_errors(now), "line {} of {}", line + 1, path.display());
        }
    }
}

/// What is kept of a verdict: what does not change from run to run.
fn recorded(text: &str, verdict: &Value) -> Value {
    let object = |object: &Value| {
        let mut kept = json!({ "kind": object["kind"], "namespace": object["namespace"], "name": object["name"] });
        match object.get("object") {
            Some(object) => {
                for (field, of) in [("labels", "metadata"), ("annotations", "metadata"), ("spec", ""), ("data", "")] {
                    let value = if of.is_empty() { &object[field] } else { &object[of][field] };
                    let place = if of.is_empty() { &mut kept["object"] } else { &mut kept["object"][of] };
                    if !value.is_null() {
                        place[field] = value.clone();
                    }
                }
                kept["object"]["kind"] = object["kind"].clone();
            }
            None => kept["error"] = first_line(&object["error"]).into(),
        }
        kept
    };
    let objects: Vec<Value> = verdict["objects"].as_array().into_iter().flatten().map(object).collect();
    match &verdict["error"] {
        Value::Null => json!({ "text": text, "objects": objects }),
        error => json!({ "text": text, "error": first_line(error), "objects": objects }),
    }
}

fn first_line(error: &Value) -> String {
    error.as_str().unwrap_or_default().lines().next().unwrap_or_default().chars().take(200).collect()
}

/// A difference without names, numbers and what stands in quotes.
fn kind(difference: &str) -> String {
    // Which values are not the same is not a kind of its own.
    let difference = difference.split_once(" than in the cluster: ").map_or(difference, |(kind, _)| kind);
    let outside: String = difference.split(['`', '"']).step_by(2).collect();
    let is_name = |word: &str| word.starts_with("file.yaml:") || word.contains('/') || word.ends_with(".default:");
    let words: Vec<&str> = outside.split_whitespace().filter(|word| !is_name(word)).collect();
    words.join(" ").chars().filter(|c| !c.is_ascii_digit()).take(160).collect()
}

/// A text with fewer lines that still differs in this way.
fn shrunk(cluster: &mut Cluster, text: &str, difference: &str) -> String {
    let mut text = text.to_owned();
    loop {
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let without = |from: usize, count: usize| [&lines[..from], &lines[from + count..]].concat().concat();
        let shorter: Vec<String> = [16, 8, 4, 2, 1]
            .into_iter()
            .filter(|count| *count <= lines.len())
            .flat_map(|count| (0..=lines.len() - count).map(move |from| (from, count)))
            .map(|(from, count)| without(from, count))
            .collect();
        let mut differs: Vec<usize> = Vec::new();
        cluster.ask(&shorter, |number, verdict| {
            let found = compare(&shorter[number], &Verdict::of(&verdict));
            if found.is_err_and(|other| kind(&other) == kind(difference)) {
                differs.push(number);
            }
        });
        match differs.into_iter().min() {
            Some(first) => text.clone_from(&shorter[first]),
            None => return text,
        }
    }
}
