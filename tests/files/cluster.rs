//! Files are judged as a cluster judges them: Kubernetes' API server, Istio's schemas and istiod's webhook, and kubectl
//! before it. What the cluster makes of each file is in `cluster.jsonl`; CONTRIBUTING.md says how it got there.
//! `make istio` asks the cluster itself, about many more files.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::verdicts::{
    Verdict,
    compare::compare,
    differences::{STRICTER, UNKNOWN},
};

#[test]
fn files_are_judged_as_the_cluster_judged_them() {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (number, line) in include_str!("cluster.jsonl").lines().enumerate() {
        let verdict: Value = serde_json::from_str(line).unwrap();
        let text = verdict["text"].as_str().unwrap();
        let seen = compare(text, &Verdict::of(&verdict));
        let seen = seen.unwrap_or_else(|difference| panic!("line {}: {difference}\n{text}", number + 1));
        for what in seen {
            *counts.entry(what).or_default() += 1;
        }
    }
    println!("{counts:?}");
    assert!(counts["taken by both"] > 200 && counts["refused by both"] > 200, "{counts:?}");
}

#[test]
fn every_difference_that_is_meant_is_documented() {
    let documentation = include_str!("../../docs/differences-from-istio.md");
    let rows = STRICTER.iter().map(|reason| (reason.name, reason.row));
    for (name, row) in rows.chain(UNKNOWN.iter().map(|reason| (reason.name, reason.row))) {
        assert!(documentation.lines().any(|line| line.starts_with('|') && line.contains(row)), "{name}: {row}");
    }
}
