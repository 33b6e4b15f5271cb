//! How much work the shipped filter does for the worst requests, `dist/mesh_authz.wasm` (built by `make build`).
//!
//! An interpreter runs the module, and counts its WebAssembly instructions. The count is the same in every run, so this
//! test says what a clock cannot: the work for a request is bounded by its bytes, however many rules it meets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    missing_docs,
    reason = "tests fail by panicking"
)]

#[allow(dead_code, reason = "the benchmarks use all of it")]
#[path = "../../benches/mix/mod.rs"]
mod mix;

mod machine;

use std::thread;

use serde_json::json;

use self::machine::Machine;
use self::mix::Set;
use self::mix::worst::worst;

const RULES: usize = 2_000;

/// A proxy executes some forty of these instructions in a nanosecond: many of them only move a value to the stack.
const MOST_INSTRUCTIONS: u64 = 40_000_000;

#[test]
fn the_worst_requests_take_a_bounded_number_of_instructions() {
    let failed: Vec<_> = thread::scope(|scope| {
        let running: Vec<_> = worst(RULES).into_iter().map(|set| scope.spawn(|| too_many_instructions(set))).collect();
        running.into_iter().flat_map(|set| set.join().unwrap()).collect()
    });
    assert!(failed.is_empty(), "{failed:#?}");
}

/// The requests of the set for which the filter executes too many instructions.
fn too_many_instructions(Set { name, policies, allowed, denied }: Set) -> Vec<String> {
    let mut machine = Machine::start(&json!({
        "policies": policies,
        "workload": { "namespace": "default", "labels": {} },
    }));
    let mut failed = Vec::new();
    for (call, expected) in [(&allowed[0], 200), (&denied[0], 403)] {
        // The interpreter translates a function when it is first called, and counts that too.
        let (status, _) = machine.request(call);
        assert_eq!(status, expected, "{name}");
        let (_, instructions) = machine.request(call);
        if instructions > MOST_INSTRUCTIONS {
            failed.push(format!("{name}, {status}: {instructions} instructions"));
        }
    }
    failed
}
