//! Questions that are hard, or about values that are longer than anybody writes. Each ends within a bounded budget. It may
//! be undecided, but an answer is right.

use mesh_authz::analysis::{self, Budget, Example, Policies, Proof, Sides, Undecided, Workloads, prove};
use mesh_authz::engine::{Combining, Engine, Verdict};
use mesh_authz::policy::AuthorizationPolicy;
use mesh_authz::policy::scope::Workload;
use serde_json::{Value, json};

use crate::policies::{named, options, read};

/// Little enough for a test without optimization.
const BUDGET: u64 = 10_000_000;

fn policies(specs: &[Value]) -> Vec<AuthorizationPolicy> {
    specs.iter().enumerate().map(|(number, spec)| read(&named(&format!("p{number}"), spec.clone()))).collect()
}

/// Whether all requests that a rule matches are decided so. A request that is not is one.
fn ask(specs: &[Value], rule: &Value, expected: Verdict) -> Result<bool, Undecided> {
    ask_within(BUDGET, specs, rule, expected)
}

fn ask_within(budget: u64, specs: &[Value], rule: &Value, expected: Verdict) -> Result<bool, Undecided> {
    let options = options(Combining::DenyOverrides);
    let policies = policies(specs);
    let workload = Workload { namespace: "a".to_owned(), root_namespace: "a".to_owned(), ..Workload::default() };
    let workloads = Workloads::One(Box::new(workload));
    let compiled = Policies::new(&policies.iter().collect::<Vec<_>>(), &options, workloads);
    let action = if expected == Verdict::Allow { "ALLOW" } else { "DENY" };
    let rules = analysis::rules(&read(&named("region", json!({ "action": action, "rules": [rule] }))), &options);
    let mut sides = Sides::default();
    let (region, side) = (sides.region(&rules), sides.side(&compiled));
    Ok(match prove(&region, &side, expected, &mut Budget::of(budget))? {
        Proof::Holds | Proof::Empty => true,
        Proof::Fails(witness) => {
            assert_is_one(&witness, &policies, &rules, expected);
            false
        }
    })
}

fn assert_is_one(
    witness: &Example,
    policies: &[AuthorizationPolicy],
    rules: &[analysis::CompiledRule],
    expected: Verdict,
) {
    let request = witness.request();
    assert!(rules.iter().any(|rule| rule.matches(&request)), "{witness:?}");
    let engine = Engine::new(policies, &options(Combining::DenyOverrides));
    assert_ne!(engine.decide(&request).outcome.verdict(), expected, "{witness:?}");
}

/// Asks, and compares with what is known.
fn assert_right_or_undecided(specs: &[Value], rule: &Value, expected: Verdict, holds: bool) {
    if let Ok(answer) = ask(specs, rule, expected) {
        assert_eq!(answer, holds, "{specs:?}\n{rule}");
    }
}

fn deny(rules: &[Value]) -> Value {
    json!({ "action": "DENY", "rules": rules })
}

fn header(name: &str, is_present: bool) -> Value {
    let values = if is_present { "values" } else { "notValues" };
    json!({ "key": format!("request.headers[{name}]"), values: ["*"] })
}

/// DENY rules that leave a request only if so many pigeons fit into so many holes, one into each.
fn pigeonhole(pigeons: usize, holes: usize) -> Value {
    let is_in = |pigeon: usize, hole: usize| format!("x-{pigeon}-{hole}");
    let mut rules = Vec::new();
    for pigeon in 0..pigeons {
        let nowhere: Vec<_> = (0..holes).map(|hole| header(&is_in(pigeon, hole), false)).collect();
        rules.push(json!({ "when": nowhere }));
        for other in 0..pigeon {
            for hole in 0..holes {
                let both = [pigeon, other].map(|pigeon| header(&is_in(pigeon, hole), true));
                rules.push(json!({ "when": both }));
            }
        }
    }
    deny(&rules)
}

#[test]
fn pigeons_fit_into_as_many_holes_and_no_fewer() {
    for holes in [1, 2, 3, 4, 6, 9] {
        for pigeons in [holes, holes + 1] {
            assert_right_or_undecided(&[pigeonhole(pigeons, holes)], &json!({}), Verdict::Deny, pigeons > holes);
        }
    }
    assert_eq!(ask(&[pigeonhole(3, 2)], &json!({}), Verdict::Deny), Ok(true));
    assert_eq!(ask(&[pigeonhole(3, 3)], &json!({}), Verdict::Deny), Ok(false));
}

#[test]
fn with_less_budget_an_answer_is_the_same_or_undecided() {
    let paths = json!({ "to": [{ "operation": { "paths": ["/a/{*}", "*b"], "notPaths": ["/a/b"] } }] });
    for specs in [[pigeonhole(3, 2)], [pigeonhole(3, 3)], [deny(&[paths])]] {
        let whole = ask(&specs, &json!({}), Verdict::Deny).unwrap();
        let budgets = (0..).map(|number| 1 << number).take_while(|budget| *budget < BUDGET);
        let answers: Vec<_> = budgets.map(|budget| ask_within(budget, &specs, &json!({}), Verdict::Deny)).collect();
        assert_eq!(answers[0], Err(Undecided));
        let first = answers.iter().position(Result::is_ok).unwrap();
        assert!(answers[first..].iter().all(|answer| *answer == Ok(whole)), "{answers:?}");
    }
}

#[test]
fn random_clauses_leave_a_request_exactly_if_they_can_be_satisfied() {
    const NAMES: usize = 9;
    let random = &mut fastrand::Rng::with_seed(9);
    let [mut decided, mut satisfied] = [0, 0];
    for _ in 0..40 {
        let count = random.usize(25..50);
        let clause = |random: &mut fastrand::Rng| [(); 3].map(|()| (random.usize(..NAMES), random.bool()));
        let clauses: Vec<_> = (0..count).map(|_| clause(random)).collect();
        // A clause that does not hold denies.
        let rule = |clause: &[(usize, bool); 3]| {
            let when: Vec<_> = clause.iter().map(|(name, holds)| header(&format!("x-{name}"), !holds)).collect();
            json!({ "when": when })
        };
        let is_satisfied = (0..1_usize << NAMES).any(|all| {
            clauses.iter().all(|clause| clause.iter().any(|(name, holds)| (all >> name & 1 == 1) == *holds))
        });
        satisfied += usize::from(is_satisfied);
        if let Ok(holds) = ask(&[deny(&clauses.iter().map(rule).collect::<Vec<_>>())], &json!({}), Verdict::Deny) {
            decided += 1;
            assert_eq!(holds, !is_satisfied, "{clauses:?}");
        }
    }
    assert!(decided > 30 && (5..35).contains(&satisfied), "{decided} {satisfied}");
}

/// Two lists of a field: what is listed is denied, so a request is allowed exactly if it is in neither list.
fn assert_lists(list: &str, item: &str, field: &str, values: &[String]) {
    let not = format!("not{}{}", field[..1].to_ascii_uppercase(), &field[1..]);
    let (some, others) = values.split_at(values.len() / 2);
    let rule = |fields: Value| json!({ list: [{ item: fields }] });
    let each: Vec<_> = values.iter().map(|value| rule(json!({ field: [value] }))).collect();
    for denied in [deny(&each), deny(&[rule(json!({ field: values }))])] {
        let denied = std::slice::from_ref(&denied);
        assert_right_or_undecided(denied, &rule(json!({ field: values })), Verdict::Deny, true);
        assert_right_or_undecided(denied, &rule(json!({ field: some, &not: others })), Verdict::Deny, true);
        assert_right_or_undecided(denied, &rule(json!({ &not: values })), Verdict::Deny, false);
        assert_right_or_undecided(denied, &rule(json!({ field: some })), Verdict::Allow, false);
    }
}

#[test]
fn many_values_are_no_wrong_answer() {
    let paths = |number: usize| match number % 5 {
        0 => format!("/a{number}*"),
        1 => format!("*b{number}"),
        2 => format!("/{{*}}/c{number}/{{**}}"),
        3 => format!("/d{number}/{{*}}/e/{{*}}"),
        _ => format!("/{{**}}/f{number}"),
    };
    assert_lists("to", "operation", "paths", &(0..15).map(paths).collect::<Vec<_>>());
    let hosts = |number: usize| format!("h{number}.example");
    assert_lists("to", "operation", "hosts", &(0..3).map(hosts).collect::<Vec<_>>());
    let names = |number: usize| match number % 3 {
        0 => format!("td/ns/n{number}/sa/x"),
        1 => format!("*/sa/y{number}"),
        _ => format!("td/ns/n{number}/*"),
    };
    assert_lists("from", "source", "principals", &(0..30).map(names).collect::<Vec<_>>());
    let namespaces = |number: usize| format!("*a{number}*b*c{number}*");
    assert_lists("from", "source", "namespaces", &(0..8).map(namespaces).collect::<Vec<_>>());
}

#[test]
fn a_name_that_has_to_be_in_many_sets_is_no_wrong_answer() {
    let one = |number: usize| json!({ "key": "source.namespace", "values": [format!("*n{number}*")] });
    for count in [2, 5, 10, 20] {
        let all: Vec<_> = (0..count).map(one).collect();
        let none: Vec<_> = (0..count).map(|number| json!({ "when": [one(number)] })).collect();
        // A certificate has a name for some of them, and the names can contain each other.
        assert_right_or_undecided(&[], &json!({ "when": all }), Verdict::Deny, false);
        assert_right_or_undecided(&[deny(&none)], &json!({ "when": all }), Verdict::Deny, true);
        assert_right_or_undecided(&[deny(&none)], &json!({}), Verdict::Deny, false);
    }
}

#[test]
fn long_values_are_no_wrong_answer() {
    for length in [100, 500] {
        let long = "a".repeat(length);
        assert_lists("to", "operation", "paths", &[format!("/{long}"), format!("/{long}/*"), format!("*/{long}")]);
        assert_lists("from", "source", "principals", &[long.clone(), format!("{long}/*"), format!("*/{long}")]);
    }
}

/// The automaton of such a list has too many states.
#[test]
fn a_value_of_a_list_that_is_too_large_is_no_wrong_answer() {
    let path = |path: &str| json!({ "to": [{ "operation": { "paths": [path] } }] });
    let name = |number: usize| format!("/customers/{number}/invoices-of-{number}");
    let names: Vec<_> = (0..1_500).map(name).chain(["/admin/*".to_owned()]).collect();
    let denied = deny(&[json!({ "to": [{ "operation": { "paths": names } }] })]);
    let denied = std::slice::from_ref(&denied);
    assert_right_or_undecided(denied, &path(&name(0)), Verdict::Allow, false);
    assert_right_or_undecided(denied, &path(&name(0)), Verdict::Deny, true);
    assert_right_or_undecided(denied, &path("/other"), Verdict::Allow, true);
    let long = "a".repeat(20_000);
    let denied = deny(&[json!({ "to": [{ "operation": { "paths": [format!("/{long}"), format!("/{long}/*")] } }] })]);
    assert_right_or_undecided(&[denied], &path(&format!("/{long}")), Verdict::Allow, false);
}

/// What is longer than the engine takes apart counts against the request, whatever a policy asks for.
#[test]
fn values_that_nobody_takes_apart_are_no_wrong_answer() {
    let blanks = " ".repeat(300);
    let host = |end: &str| format!("{}{end}", "h".repeat(1_100));
    let only = |key: &str, value: &str| json!({ "when": [{ "key": key, "values": [value] }] });
    let (header, authority) = ("request.headers[x]", "request.headers[host]");
    for (key, value) in [
        (header, format!("{blanks}a")),
        (header, format!("a{blanks}")),
        (authority, host(".")),
        (authority, host(".:80")),
    ] {
        // A DENY rule matches such a value.
        let denied = deny(&[only(key, "other")]);
        assert_right_or_undecided(&[denied], &only(key, &value), Verdict::Deny, true);
        // So does what an ALLOW rule excludes.
        let when = json!({ "when": [{ "key": key, "values": [value], "notValues": ["other"] }] });
        let allowed = json!({ "action": "ALLOW", "rules": [when] });
        assert_right_or_undecided(&[allowed], &json!({}), Verdict::Deny, true);
    }
    // A name that is too long counts as unreadable.
    let name = format!("td/ns/{}/sa/x", "n".repeat(2_100));
    let allowed = json!({ "action": "ALLOW", "rules": [only("source.principal", &name)] });
    assert_right_or_undecided(&[allowed], &json!({}), Verdict::Deny, true);
}
