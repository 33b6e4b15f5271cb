//! The analysis of rules needs no request. Its results must hold for every request.

use std::cell::Cell;

use mesh_authz::analysis::{Budget, Compared, CompiledRule, Coverage, Policies, Requests, Sides, Workloads};
use mesh_authz::engine::{Combining, Engine, Verdict};
use mesh_authz::policy::{Action, AuthorizationPolicy};
use mesh_authz::request::Lookup;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::analysis::possible;
use crate::cases;
use crate::policies::{named, options, read, spec};
use crate::requests::{Attribute, Facts};

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
        // Two that together match what the first one does.
        if let Some(first) = all.first().cloned() {
            for (key, values) in [("values", "v"), ("notValues", "v")] {
                let mut part = first.clone();
                let when = part.as_object_mut().unwrap().entry("when").or_insert_with(|| json!([]));
                when.as_array_mut().unwrap().push(json!({ "key": "request.headers[part]", key: [values] }));
                all.push(part);
            }
        }
        all.into_iter().map(|rule| json!({ "action": action, "rules": [rule] })).collect()
    })
}

fn policies(specs: &[Value]) -> Vec<AuthorizationPolicy> {
    let policy = |(number, spec): (usize, &Value)| read(&named(&format!("p{number:02}"), spec.clone()));
    specs.iter().enumerate().map(policy).collect()
}

/// Whether people expect such a request: all of it is readable text, and the host is written as usual. Metadata is JSON here, so it
/// is checked for escapes too.
fn is_expected(facts: &Facts) -> bool {
    let is_text = |fact: &Lookup<&str>| match fact {
        Lookup::Value(text) => !text.contains(['\n', '\0']) && !text.contains("\\n"),
        Lookup::Absent => true,
        Lookup::Unreadable => false,
    };
    let headers = &facts.0[Attribute::Headers as usize];
    let is_usual = |headers: &str| !headers.contains([',', '@']) && !headers.contains(". ") && !headers.contains(".:");
    let names = [Attribute::Uri, Attribute::Dns, Attribute::Subject].map(|name| facts.0[name as usize]);
    facts.0.iter().all(is_text)
        && matches!(headers, Lookup::Value(headers) if is_usual(headers))
        && names.iter().filter(|name| **name != Lookup::Absent).count() <= 1
}

#[test]
fn whatever_a_covered_rule_matches_others_do() {
    let [covered, several, matched] = [0, 0, 0].map(Cell::new);
    for (wide_action, narrow_action, requests) in [
        ("ALLOW", "ALLOW", Requests::All),
        ("DENY", "DENY", Requests::All),
        ("AUDIT", "AUDIT", Requests::Expected),
        ("DENY", "ALLOW", Requests::Expected),
        ("ALLOW", "ALLOW", Requests::Expected),
    ] {
        TestRunner::new(cases(10))
            .run(&(rules(narrow_action), vec(possible(), 60)), |(specs, facts)| {
                let with_action = |spec: &Value| {
                    let mut spec = spec.clone();
                    spec["action"] = json!(wide_action);
                    spec
                };
                let wides = policies(&specs.iter().map(with_action).collect::<Vec<_>>());
                let narrows = policies(&specs);
                let options = options(Combining::DenyOverrides);
                let [wides, narrows] = [&wides, &narrows].map(|all| Compared::new(all, &options, "istio-system"));
                let mut sides = Sides::default();
                let (wides, narrows) = (sides.rules(&wides), sides.rules(&narrows));
                for narrow in narrows.all() {
                    let counts = |_: &AuthorizationPolicy, wide: &CompiledRule| {
                        wide_action != narrow_action || wide.id().policy != narrow.compiled().id().policy
                    };
                    let coverage = wides.coverage(narrow, &counts, requests, &mut Budget::default()).unwrap();
                    let by = match coverage {
                        Coverage::No => continue,
                        Coverage::Never => Vec::new(),
                        Coverage::By(rules) => rules,
                    };
                    covered.set(covered.get() + 1);
                    several.set(several.get() + usize::from(by.len() > 1));
                    let by: Vec<_> = wides
                        .all()
                        .filter(|wide| by.iter().any(|found| *wide.compiled().id().policy == found.policy.name))
                        .collect();
                    for facts in facts.iter().filter(|facts| requests == Requests::All || is_expected(facts)) {
                        let request = facts.request();
                        if narrow.compiled().matches(&request) {
                            matched.set(matched.get() + 1);
                            let is_matched = by.iter().any(|wide| wide.compiled().matches(&request));
                            prop_assert!(is_matched, "{narrow:?}\n{by:?}\n{facts:?}");
                        }
                    }
                }
                Ok(())
            })
            .unwrap();
    }
    let counts = [covered.get(), several.get(), matched.get()];
    assert!(counts[0] > 200 && counts[1] > 3 && counts[2] > 500, "{counts:?}");
}

#[test]
fn a_rule_that_contradicts_itself_matches_nothing() {
    let claimed = Cell::new(0);
    TestRunner::new(cases(60))
        .run(&(rules("DENY"), vec(possible(), 40)), |(specs, requests)| {
            let policies = policies(&specs);
            let compared = Compared::new(&policies, &options(Combining::DenyOverrides), "istio-system");
            let rules = Sides::default().rules(&compared);
            for rule in rules.all().filter(|rule| rules.contradicts_itself(rule, &mut Budget::default()).unwrap()) {
                claimed.set(claimed.get() + 1);
                for facts in requests.iter().filter(|facts| is_expected(facts)) {
                    prop_assert!(!rule.compiled().matches(&facts.request()), "{rule:?}\n{facts:?}");
                }
            }
            Ok(())
        })
        .unwrap();
    assert!(claimed.get() > 10, "{}", claimed.get());
}

#[test]
fn where_plaintext_is_refused_no_peer_without_an_identity_passes() {
    let [refused, asked] = [0, 0].map(Cell::new);
    TestRunner::new(cases(60))
        .run(&(rules("DENY"), rules("ALLOW"), vec(possible(), 30)), |(deny, allow, requests)| {
            let policies = policies(&[deny, allow].concat());
            let (allow, deny): (Vec<_>, Vec<_>) = policies.iter().partition(|policy| policy.action == Action::Allow);
            // Alone and together.
            for policies in [&deny, &allow, &[&deny[..], &allow[..]].concat()] {
                let workloads = Workloads::All { root_namespace: "istio-system".to_owned(), revision: None };
                let compiled = Policies::new(policies, &options(Combining::DenyOverrides), workloads);
                let side = Sides::default().side(&compiled);
                let is_refused =
                    side.refuses_plaintext(policies[0], |_| true, |_| true, &mut Budget::default()).unwrap();
                asked.set(asked.get() + 1);
                if !is_refused {
                    continue;
                }
                refused.set(refused.get() + 1);
                for facts in &requests {
                    let facts = [Attribute::Uri, Attribute::Dns, Attribute::Subject]
                        .into_iter()
                        .fold(facts.clone(), |facts, one| facts.with(one, Lookup::Absent));
                    let engine = Engine::new(policies.iter().copied().cloned(), &options(Combining::DenyOverrides));
                    let verdict = engine.decide(&facts.request()).outcome.verdict();
                    prop_assert!(verdict == Verdict::Deny, "{policies:?}\n{facts:?}");
                }
            }
            Ok(())
        })
        .unwrap();
    assert!(refused.get() > 5 && refused.get() < asked.get(), "{} {}", refused.get(), asked.get());
}
