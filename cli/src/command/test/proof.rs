//! Proofs: what must hold for every request of a kind.

use std::fmt::Write as _;
use std::time::Instant;

use anstyle::Style;
use mesh_authz::analysis::{self, Budget, Example, Policies, Sides, Undecided, Workloads, prove};
use mesh_authz::engine::Verdict;
use mesh_authz::policy::Traffic;
use serde_json::{Value, json};

use super::super::explain::{self, Extent};
use super::{SHOWN_MISSES, Tested};
use crate::explain::Explanation;
use crate::load::policy_set::PolicySet;
use crate::received::{Answered, answers};
use crate::render::yaml;
use crate::testfile::{Proof, TestFile};
use crate::witness::{fields, request_as_json, shortest, workload_as_json};

/// Looks for a request that is decided otherwise than a proof says.
pub(super) fn proved(file: &TestFile, proof: &Proof, with_duration: bool) -> Tested {
    let start = Instant::now();
    let mesh = &file.set.mesh;
    let options = mesh.options();
    let workloads = match &proof.workload {
        Some(workload) => Workloads::One(Box::new(workload.clone())),
        None => {
            Workloads::All { root_namespace: mesh.root_namespace.clone(), revision: file.set.workload.revision.clone() }
        }
    };
    let policies = file.set.in_questions(Traffic::Http, proof.workload.as_ref());
    let rules = analysis::rules(&proof.requests, &options);
    let found = policies.map(|policies| {
        let policies: Vec<_> = policies.iter().collect();
        let policies = Policies::new(&policies, &options, workloads);
        let mut sides = Sides::default();
        prove(&sides.region(&rules), &sides.side(&policies), proof.expect, &mut Budget::default())
    });
    let (passed, got, explanation) = match found {
        Err(why) => (false, format!("undecided: {why}"), String::new()),
        Ok(found) => shown(file, proof, found),
    };
    Tested {
        name: proof.name.clone(),
        line: proof.position.map(|position| position.line),
        passed,
        expected: format!("{} for every such request", proof.expect),
        got,
        seconds: with_duration.then(|| start.elapsed().as_secs_f64()),
        explanation,
    }
}

/// Whether a proof holds, what was found, and why.
fn shown(file: &TestFile, proof: &Proof, found: Result<analysis::Proof, Undecided>) -> (bool, String, String) {
    match found {
        Ok(analysis::Proof::Holds) => (true, "proved".to_owned(), String::new()),
        Ok(analysis::Proof::Empty) => (
            false,
            "no request at all is one of these: conditions of `for` exclude each other".to_owned(),
            String::new(),
        ),
        Ok(analysis::Proof::Fails(example)) => {
            let (got, explanation) = counterexample(file, proof, &example);
            (false, got, explanation)
        }
        Err(Undecided) => (false, "undecided: to find out would take too long".to_owned(), String::new()),
    }
}

/// What is decided about a request for which a proof does not hold; why, and a test that shows it.
fn counterexample(file: &TestFile, proof: &Proof, example: &Example) -> (String, String) {
    let set = PolicySet { workload: example.workload.clone(), ..file.set.clone() };
    let engine = set.engine(Traffic::Http);
    // If a provider is asked, what it answers is not known: what is not expected counts.
    let decided = |fields: &_| -> Option<(String, bool)> {
        let answers = answers(fields, &set, &engine);
        let other = answers.iter().find(|answered| answered.verdict() != proof.expect);
        other
            .or(answers.first())
            .map(|answered: &Answered<'_>| (answered.to_string(), answered.verdict() != proof.expect))
    };
    let whole = fields(example, false);
    let Some(got) = decided(&whole) else { return Default::default() };
    // What is left out must not make the request one of others.
    let short = shortest(whole, |shorter| {
        let rules = analysis::rules(&proof.requests, &set.mesh.options());
        decided(shorter).as_ref() == Some(&got) && rules.iter().any(|rule| rule.matches(&shorter.to_request()))
    });
    let mut explanation = String::new();
    if !example.is_expected {
        explanation.push_str("Only for requests that hardly anybody sends, such as this one.\n");
    }
    let verdict = match proof.expect {
        Verdict::Allow => Verdict::Deny,
        Verdict::Deny => Verdict::Allow,
    };
    let test = json!([{
        "name": format!("counterexample: {}", proof.name),
        "request": request_as_json(&short),
        "expect": verdict.to_string(),
    }]);
    let mut text = workload_as_json(&example.workload);
    text.insert("tests".to_owned(), test);
    let bold = Style::new().bold();
    let _infallible = writeln!(explanation, "{bold}The request, as a test{bold:#}");
    for line in yaml::to_string(&Value::from(text)).unwrap_or_default().lines() {
        let _infallible = writeln!(explanation, "  {line}");
    }
    if let Some(Ok(request)) =
        answers(&short, &set, &engine).into_iter().map(|answered| answered.received.request).next()
    {
        explain::details(&Explanation::new(&set, &engine, &request), Extent::Nearest(SHOWN_MISSES), &mut explanation);
    }
    explanation.truncate(explanation.trim_end().len());
    (got.0, explanation)
}
