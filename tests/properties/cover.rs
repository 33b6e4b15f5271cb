//! The analysis of rules needs no request. Its results must hold for every request.

use std::cell::Cell;

use mesh_authz::analysis::{self, CompiledRule, RuleIndex};
use mesh_authz::engine::Combining;
use mesh_authz::request::Lookup;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::cases;
use crate::policies::{named, options, read, spec};
use crate::requests::{Facts, partly_readable};

/// The rules of two policies, each in a policy of its own. The rules of the first policy also occur in a narrower form,
/// with clauses from a rule of the second.
fn rules(action: &'static str) -> impl Strategy<Value = Vec<Value>> {
    (spec(action), spec(action), vec(any::<bool>(), 3)).prop_map(move |(spec, other, keep)| {
        let mut all: Vec<Value> = spec["rules"].as_array().unwrap().clone();
        let others = other["rules"].as_array().unwrap();
        for (rule, other) in all.clone().iter().zip(others.iter().cycle()) {
            let mut narrow = rule.clone();
            for (clause, keep) in ["from", "to", "when"].into_iter().zip(&keep) {
                if let (Some(theirs), true) = (other.get(clause), *keep)
                    && (clause == "when" || rule.get(clause).is_none())
                {
                    let mut both = rule.get(clause).and_then(Value::as_array).cloned().unwrap_or_default();
                    both.extend(theirs.as_array().unwrap().iter().cloned());
                    narrow[clause] = json!(both);
                }
            }
            all.push(narrow);
        }
        all.extend(others.iter().cloned());
        all.into_iter().map(|rule| json!({ "action": action, "rules": [rule] })).collect()
    })
}

fn compiled(specs: &[Value]) -> Vec<CompiledRule> {
    let options = options(Combining::DenyOverrides);
    let policy = |(number, spec): (usize, &Value)| read(&named(&format!("p{number:02}"), spec.clone()));
    specs.iter().enumerate().map(policy).flat_map(|policy| analysis::rules(&policy, &options)).collect()
}

/// Whether every attribute is text that wildcards in ALLOW match. Metadata is JSON here, so it is checked for escapes
/// too.
fn is_text(facts: &Facts) -> bool {
    facts
        .0
        .iter()
        .all(|fact| !matches!(fact, Lookup::Value(text) if text.contains(['\n', '\0']) || text.contains("\\n")))
}

#[test]
fn a_wider_rule_matches_whatever_a_narrower_one_does() {
    let [claimed, matched] = [0, 0].map(Cell::new);
    for (wide_action, narrow_action) in [("ALLOW", "ALLOW"), ("DENY", "DENY"), ("AUDIT", "AUDIT"), ("DENY", "ALLOW")] {
        let requests = vec(partly_readable().prop_filter("text", is_text), 60);
        TestRunner::new(cases(60))
            .run(&(rules(narrow_action), requests), |(specs, requests)| {
                let with_action = |spec: &Value| {
                    let mut spec = spec.clone();
                    spec["action"] = json!(wide_action);
                    spec
                };
                let wides = compiled(&specs.iter().map(with_action).collect::<Vec<_>>());
                let narrows = compiled(&specs);
                for wide in &wides {
                    for narrow in narrows.iter().filter(|narrow| wide.covers(narrow)) {
                        claimed.set(claimed.get() + 1);
                        for facts in &requests {
                            let request = facts.request();
                            if narrow.matches(&request) {
                                matched.set(matched.get() + 1);
                                prop_assert!(wide.matches(&request), "{wide:?}\n{narrow:?}\n{facts:?}");
                            }
                        }
                    }
                }
                Ok(())
            })
            .unwrap();
    }
    assert!(claimed.get() > 2_000 && matched.get() > 2_000, "{} {}", claimed.get(), matched.get());
}

#[test]
fn the_index_finds_every_rule_that_is_wider() {
    let found = Cell::new(0);
    TestRunner::new(cases(150))
        .run(&vec(rules("ALLOW"), 1..8), |specs| {
            let specs = specs.concat();
            let (rules, index) = (compiled(&specs), RuleIndex::new(compiled(&specs)));
            for narrow in &rules {
                let candidates = index.candidates(&narrow.witness());
                for wide in rules.iter().filter(|wide| wide.covers(narrow)) {
                    found.set(found.get() + 1);
                    prop_assert!(
                        candidates.iter().any(|found| index.rules()[*found].id() == wide.id()),
                        "{wide:?}\n{narrow:?}"
                    );
                }
            }
            Ok(())
        })
        .unwrap();
    assert!(found.get() > 2_000, "{}", found.get());
}

#[test]
fn a_rule_that_never_matches_matches_nothing() {
    let claimed = Cell::new(0);
    TestRunner::new(cases(600))
        .run(
            &(rules("DENY"), vec(crate::requests::readable().prop_filter("text", is_text), 40)),
            |(specs, requests)| {
                for rule in compiled(&specs).iter().filter(|rule| rule.never_matches()) {
                    claimed.set(claimed.get() + 1);
                    for facts in &requests {
                        prop_assert!(!rule.matches(&facts.request()), "{rule:?}\n{facts:?}");
                    }
                }
                Ok(())
            },
        )
        .unwrap();
    assert!(claimed.get() > 100, "{}", claimed.get());
}

#[test]
fn rules_about_identities_and_peers_without_one() {
    TestRunner::new(cases(400))
        .run(&(rules("DENY"), vec(crate::requests::readable(), 30)), |(specs, requests)| {
            for rule in compiled(&specs) {
                for facts in &requests {
                    let mut facts = facts.clone();
                    for attribute in [crate::requests::Attribute::Uri, crate::requests::Attribute::Dns] {
                        facts = facts.with(attribute, Lookup::Absent);
                    }
                    facts = facts.with(crate::requests::Attribute::Subject, Lookup::Absent);
                    let matches = rule.matches(&facts.request());
                    prop_assert!(!(rule.needs_identity() && matches), "{rule:?}");
                    prop_assert!(!rule.takes_all_plaintext() || matches, "{rule:?}");
                }
            }
            Ok(())
        })
        .unwrap();
}

/// A rule can cover another one that never matches what the other one excludes, such as the other one itself.
#[test]
fn what_a_rule_excludes_does_not_hide_it_as_a_wider_one() {
    let rule = |operation: Value| json!({ "action": "ALLOW", "rules": [{ "to": [{ "operation": operation }] }] });
    let wide: Vec<_> = (0..40).map(|_| rule(json!({ "notPaths": ["/a"] }))).collect();
    let narrow = compiled(&[rule(json!({ "paths": ["/a*"], "notPaths": ["/a"] }))]);
    let index = RuleIndex::new(compiled(&wide));
    assert!(compiled(&wide)[0].covers(&narrow[0]));
    assert_eq!(index.candidates(&narrow[0].witness()).len(), 40);
}
