//! Shrinks a difference to the smallest policies and request that still show it.
//!
//! Each round starts two Envoys. The first one tries each removal alone. The second one finds out how many of the
//! removals that keep the difference can be made together.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::arena::{Answers, Arena, ask};
use crate::parts::{self, Step};
use crate::{Case, Relation, connect, relation};

/// No new round starts after this time. The first rounds remove the most.
const LONGEST: Duration = Duration::from_secs(12);

/// A part that can be removed from a case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Removal {
    /// A policy, a rule, a field or a value, as a path through the list of policies.
    Policy(Vec<Step>),
    Header(usize),
    Metadata(usize),
    Claims,
    ForwardedFor,
}

/// Removes parts of the case until no further removal keeps the difference, or until [`LONGEST`] is over.
pub fn shrink(mut case: Case, mut answers: Answers) -> (Case, Answers) {
    let start = Instant::now();
    while start.elapsed() < LONGEST {
        let removals = removals(&case);
        let each = judge(removals.iter().map(|removal| without(&case, std::slice::from_ref(removal))));
        let keeping: Vec<_> =
            removals.into_iter().zip(each).filter_map(|(removal, judged)| judged.map(|_| removal)).collect();
        let together: Vec<_> = (1..=keeping.len()).map(|count| without(&case, &keeping[..count])).collect();
        let judged = judge(together.iter().cloned());
        let Some((smaller, its_answers)) = together.into_iter().zip(judged).rev().find_map(|(c, a)| Some((c, a?)))
        else {
            break;
        };
        case = smaller;
        answers = its_answers;
    }
    (case, answers)
}

/// For each case, the verdicts of both engines if they still differ.
fn judge(cases: impl Iterator<Item = Case>) -> Vec<Option<Answers>> {
    let cases: Vec<_> = cases.map(|case| is_valid(&case).then_some(case)).collect();
    let valid = cases.iter().flatten();
    let arena = Arena::start(valid.map(|case| (&case.set, case.link.from.is_none())));
    let Ok((arena, addresses)) = arena.and_then(|arena| arena.addresses().map(|addresses| (arena, addresses))) else {
        return vec![None; cases.len()];
    };
    let mut listener = 0;
    let judged = cases.into_iter().map(|case| {
        let case = case?;
        let answers = connect(&addresses, listener, &case.link).and_then(|mut open| ask(&mut open, &case.question));
        listener += 1;
        answers.ok().filter(|answers| relation(&case.link, &case.question, answers) == Relation::Different)
    });
    let judged = judged.collect();
    drop(arena);
    judged
}

/// Whether the policies are still valid. With an invalid policy, Envoy would not start.
fn is_valid(case: &Case) -> bool {
    let mut diagnostics = mesh_authz::diagnostic::Diagnostics::new();
    for node in case.set.nodes() {
        mesh_authz::policy::read::policy(&node, &mut diagnostics);
    }
    diagnostics.count() == 0
}

/// All parts that can be removed, the last ones first. In this order, a removal does not change the index of a later
/// one.
fn removals(case: &Case) -> Vec<Removal> {
    let mut removals = vec![Removal::Claims, Removal::ForwardedFor];
    removals.extend((0..case.question.headers.len()).map(Removal::Header));
    removals.extend((0..case.question.metadata.len()).map(Removal::Metadata));
    for (index, policy) in case.set.policies.iter().enumerate() {
        let path = vec![Step::Index(index)];
        removals.push(Removal::Policy(path.clone()));
        let of_spec = [path, vec![Step::Key("spec".to_owned())]].concat();
        removals.extend(parts::below(&policy["spec"], &of_spec).into_iter().map(Removal::Policy));
    }
    removals.sort();
    removals.reverse();
    removals
}

fn without(case: &Case, removals: &[Removal]) -> Case {
    let mut case = case.clone();
    let mut policies = Value::Array(std::mem::take(&mut case.set.policies));
    for removal in removals {
        match removal {
            Removal::Policy(path) => parts::remove(&mut policies, path),
            Removal::Header(index) => drop(case.question.headers.remove(*index)),
            Removal::Metadata(index) => drop(case.question.metadata.remove(*index)),
            Removal::Claims => case.question.claims = None,
            Removal::ForwardedFor => case.question.forwarded_for = None,
        }
    }
    if let Value::Array(policies) = policies {
        case.set.policies = policies;
    }
    case
}
