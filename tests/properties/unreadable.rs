//! An unreadable attribute never allows more than a known one.
//!
//! If a request with an unreadable attribute passes, then it also passes with every value of the attribute, and without
//! the attribute. The converse does not hold: a request may be refused because an attribute is unreadable, although
//! every value of it would be allowed. The reason is that each test of the attribute is evaluated separately. This is
//! the safe side.

use std::cell::Cell;

use mesh_authz::engine::Verdict;
use mesh_authz::request::Lookup;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;

use crate::cases;
use crate::policies::{BOTH, engine_with, several};
use crate::requests::{Attribute, answer, lookup, partly_readable, verdict};

#[test]
fn what_passes_unread_passes_whatever_it_is() {
    let strategy = (several(), partly_readable(), select(&Attribute::ALL[..]), select(&BOTH[..]));
    let passed = Cell::new(0);
    TestRunner::new(cases(1_000))
        .run(&strategy, |(policies, facts, attribute, combining)| {
            let engine = engine_with(combining, &policies);
            let dark = facts.with(attribute, Lookup::Unreadable);
            if verdict(&engine, &dark) == Verdict::Allow {
                passed.set(passed.get() + 1);
                for value in attribute.pool() {
                    let known = facts.with(attribute, lookup(*value));
                    prop_assert_eq!(verdict(&engine, &known), Verdict::Allow, "{:?} {:?}", attribute, value);
                }
            }
            Ok(())
        })
        .unwrap();
    assert!(passed.get() > 100, "the law has something to say");
}

#[test]
fn a_refusal_that_names_nothing_unreadable_does_not_depend_on_it() {
    let strategy = (several(), crate::requests::readable(), select(&Attribute::ALL[..]), select(&BOTH[..]));
    TestRunner::new(cases(500))
        .run(&strategy, |(policies, facts, attribute, combining)| {
            let engine = engine_with(combining, &policies);
            let dark = answer(&engine, &facts.with(attribute, Lookup::Unreadable).request());
            if dark.0 == Verdict::Deny && dark.2.is_none() {
                for value in attribute.pool() {
                    let known = answer(&engine, &facts.with(attribute, lookup(*value)).request());
                    prop_assert_eq!((known.0, known.1), (dark.0, dark.1.clone()), "{:?} {:?}", attribute, value);
                }
            }
            Ok(())
        })
        .unwrap();
}
