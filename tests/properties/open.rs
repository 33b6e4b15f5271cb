//! What is said about a request of which something is unknown holds for whatever that is.

use std::cell::Cell;

use mesh_authz::analysis::{Budget, Policies, Possible, Workloads};
use mesh_authz::engine::Verdict;
use mesh_authz::policy::scope::Workload;
use mesh_authz::request::Lookup;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::TestRunner;

use crate::analysis::{made_possible, possible};
use crate::cases;
use crate::policies::{BOTH, engine_with, options, read, several};
use crate::requests::{Attribute, Facts, lookup, verdict};

/// Some requests with these attributes, each with all values that tests tell apart. All combinations are too many.
fn completed(facts: &Facts, unknown: &[Attribute]) -> Vec<Facts> {
    const MOST: usize = 400;
    let mut all = vec![facts.clone()];
    for attribute in unknown {
        let with = |facts: &Facts| {
            let values = attribute.pool().iter();
            values.map(|value| made_possible(facts.with(*attribute, lookup(*value)))).collect::<Vec<_>>()
        };
        all = all.iter().flat_map(with).take(MOST).collect();
    }
    all
}

#[test]
fn what_is_certain_holds_whatever_is_unknown() {
    let strategy = (several(), possible(), subsequence(Attribute::ALL.to_vec(), 1..=2), select(&BOTH[..]));
    let [certain, at_once, both] = [0, 0, 0].map(Cell::new);
    TestRunner::new(cases(600))
        .run(&strategy, |(policies, facts, unknown, combining)| {
            let engine = engine_with(combining, &policies);
            let read: Vec<_> = policies.iter().map(read).collect();
            let refs: Vec<_> = read.iter().collect();
            let workload = Workload { namespace: "a".to_owned(), ..Workload::default() };
            let compiled = Policies::new(&refs, &options(combining), Workloads::One(Box::new(workload)));
            let dark = unknown.iter().fold(facts.clone(), |facts, one| facts.with(*one, Lookup::Unreadable));
            let open = compiled.open(&dark.request());
            let Ok(possible) = open.possible(&mut Budget::of(50_000_000)) else { return Ok(()) };
            if let Some(seen) = open.at_once() {
                at_once.set(at_once.get() + 1);
                prop_assert_eq!(seen, possible);
            }
            let verdicts: Vec<_> = completed(&facts, &unknown).iter().map(|facts| verdict(&engine, facts)).collect();
            let has = |wanted: Verdict| verdicts.contains(&wanted);
            match possible.verdict() {
                Some(verdict) => {
                    certain.set(certain.get() + 1);
                    prop_assert!(verdicts.iter().all(|other| *other == verdict), "{:?} {:?}", unknown, verdicts);
                }
                None => both.set(both.get() + usize::from(has(Verdict::Allow) && has(Verdict::Deny))),
            }
            prop_assert!(possible.allow || !has(Verdict::Allow));
            prop_assert!(possible.deny || !has(Verdict::Deny));
            prop_assert_ne!(possible, Possible { allow: false, deny: false });
            Ok(())
        })
        .unwrap();
    let counts = [&certain, &at_once, &both].map(Cell::get);
    assert!(counts.iter().all(|count| *count > 40), "{counts:?}");
}
