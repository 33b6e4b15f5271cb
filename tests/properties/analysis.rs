//! What is said about all requests holds for each. A request that is to show something shows it.

use std::cell::Cell;

use mesh_authz::analysis::{self, Budget, Effect, Policies, Proof, Sides, Workloads, causes, effect, prove};
use mesh_authz::engine::{Combining, Engine, Verdict};
use mesh_authz::policy::AuthorizationPolicy;
use mesh_authz::policy::scope::{Gateway, Scope, ServiceName, Workload, scope};
use mesh_authz::request::{Lookup, Request};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::cases;
use crate::policies::{BOTH, options, read, spec};
use crate::requests::{Attribute, Facts, partly_readable};

const ROOT: &str = "istio-system";

/// Adds a target, and a namespace.
fn placed(name: &str, mut spec: Value, place: u8) -> Value {
    let namespace = ["a", "a", "b", ROOT][usize::from(place % 4)];
    match place / 4 % 8 {
        0 => spec["selector"] = json!({ "matchLabels": { "app": "x" } }),
        1 => spec["selector"] = json!({ "matchLabels": { "app": "y", "v": "1" } }),
        2 => {
            spec["targetRefs"] = json!([{ "group": "", "kind": "Service", "name": "s" },
            { "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "w" }])
        }
        3 if namespace == ROOT => {
            spec["targetRefs"] =
                json!([{ "group": "gateway.networking.k8s.io", "kind": "GatewayClass", "name": "istio-waypoint" }]);
        }
        _ => {}
    }
    json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "name": name, "namespace": namespace }, "spec": spec,
    })
}

fn policy() -> impl Strategy<Value = Value> {
    (select(&["ALLOW", "ALLOW", "DENY", "DENY"][..]).prop_flat_map(spec), any::<u8>())
        .prop_map(|(spec, place)| placed("", spec, place))
}

/// Policies, and what a change makes of them.
fn change() -> impl Strategy<Value = [Vec<Value>; 2]> {
    (vec(policy(), 0..=4), vec(policy(), 0..=2), any::<[u8; 4]>()).prop_map(
        |(old, others, [what, which, rule, place])| {
            let name = |all: Vec<Value>| -> Vec<Value> {
                let named = |(n, mut policy): (usize, Value)| {
                    policy["metadata"]["name"] = json!(format!("p{n}"));
                    policy
                };
                all.into_iter().enumerate().map(named).collect()
            };
            let mut new = name(old.clone());
            let which = usize::from(which) % new.len().max(1);
            let mut other = others.into_iter();
            match (what % 6, new.get_mut(which)) {
                (0, Some(_)) => {
                    new.remove(which);
                }
                (1, Some(policy)) => {
                    let rules = policy["spec"]["rules"].as_array_mut().unwrap();
                    if rules.len() > 1 {
                        rules.remove(usize::from(rule) % rules.len());
                    }
                }
                (2, Some(policy)) => {
                    if let Some(other) = other.next() {
                        policy["spec"]["rules"] = other["spec"]["rules"].clone();
                    }
                }
                (3, Some(policy)) => {
                    let rules = policy["spec"]["rules"].as_array().unwrap().clone();
                    let at = usize::from(rule) % rules.len();
                    // In two rules what was in one, or less.
                    for list in ["from", "to", "when"] {
                        let items = policy["spec"]["rules"][at][list].as_array().cloned().unwrap_or_default();
                        if items.len() > 1 && list != "when" {
                            policy["spec"]["rules"][at][list] = json!(items[..1]);
                            let mut second = rules[at].clone();
                            second[list] = json!(items[1..]);
                            policy["spec"]["rules"].as_array_mut().unwrap().push(second);
                        }
                    }
                }
                (4, Some(policy)) => {
                    let spec = policy["spec"].clone();
                    let mut spec = spec.as_object().unwrap().clone();
                    spec.remove("selector");
                    spec.remove("targetRefs");
                    *policy = placed("", Value::Object(spec), place);
                }
                _ => {}
            }
            new.extend(other.take(usize::from(what) / 6 % 2));
            [name(old), name(new)]
        },
    )
}

fn workload(number: u8) -> Workload {
    let labels = [vec![], vec![("app", "x")], vec![("app", "y"), ("v", "1")], vec![("app", "y")]];
    let labels = labels[usize::from(number % 4)].iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let namespace = ["a", "b", "c", ROOT][usize::from(number / 4 % 4)].to_owned();
    let service = || ServiceName { namespace: "a".to_owned(), name: "s".to_owned(), host: None };
    let gateway = |waypoint, services| Gateway { name: "w".to_owned(), waypoint, services, service_entries: vec![] };
    let gateway = match number / 16 % 8 {
        0 => Some(gateway(false, vec![])),
        1 => Some(gateway(true, vec![])),
        2 => Some(gateway(true, vec![service()])),
        _ => None,
    };
    Workload { namespace, labels: Some(labels.collect()), gateway, root_namespace: ROOT.to_owned(), revision: None }
}

fn verdict(policies: &[AuthorizationPolicy], combining: Combining, workload: &Workload, request: &Request) -> Verdict {
    let applying = policies.iter().filter(|policy| scope(policy, workload) == Scope::Applies);
    Engine::new(applying, &options(combining)).decide(request).outcome.verdict()
}

/// A request that can come through Envoy.
pub fn possible() -> impl Strategy<Value = Facts> {
    partly_readable().prop_map(made_possible)
}

/// Replaces what cannot come through Envoy.
pub fn made_possible(mut facts: Facts) -> Facts {
    for attribute in [Attribute::SourceIp, Attribute::RemoteIp, Attribute::DestinationIp, Attribute::Port] {
        let fact = &mut facts.0[attribute as usize];
        if *fact == Lookup::Absent {
            *fact = Lookup::Unreadable;
        }
    }
    let fact = &mut facts.0[Attribute::Headers as usize];
    if !matches!(fact, Lookup::Value(text) if !text.contains(['\n', '#']) && !text.starts_with('-')) {
        *fact = Lookup::Value("POST /a/b?q H:80 w v");
    }
    for attribute in [Attribute::Sni, Attribute::Metadata] {
        let fact = &mut facts.0[attribute as usize];
        if matches!(fact, Lookup::Unreadable | Lookup::Value("")) {
            *fact = Lookup::Absent;
        }
    }
    facts
}

fn workloads() -> Workloads {
    Workloads::All { root_namespace: ROOT.to_owned(), revision: None }
}

#[test]
fn a_difference_is_one_and_without_one_nothing_is_decided_otherwise() {
    let [differences, equal, compared, asked, undecided] = [0; 5].map(Cell::new);
    for combining in BOTH {
        let requests = vec((possible(), any::<u8>()), 40);
        TestRunner::new(proptest::test_runner::Config { max_shrink_iters: 0, ..cases(250) })
            .run(&(change(), requests), |(sides, requests)| {
                let [old, new] = sides.map(|all| all.iter().map(read).collect::<Vec<_>>());
                let options = options(combining);
                let old_refs: Vec<_> = old.iter().collect();
                let new_refs: Vec<_> = new.iter().collect();
                let old_compiled = Policies::new(&old_refs, &options, workloads());
                let new_compiled = Policies::new(&new_refs, &options, workloads());
                let mut sides = Sides::default();
                let (old_side, new_side) = (sides.side(&old_compiled), sides.side(&new_compiled));
                for (refusing, allowing, before, after) in
                    [(&old_side, &new_side, &old, &new), (&new_side, &old_side, &new, &old)]
                {
                    let mut differs = false;
                    for cause in causes(refusing, allowing) {
                        let effect = effect(&cause, refusing, allowing, &mut Budget::of(50_000_000));
                        let Ok(effect) = effect else {
                            undecided.set(undecided.get() + 1);
                            differs = true;
                            continue;
                        };
                        asked.set(asked.get() + 1);
                        if let Effect::Difference(witness) = effect {
                            differs = true;
                            differences.set(differences.get() + 1);
                            let request = witness.request();
                            let verdict = |of| verdict(of, combining, &witness.workload, &request);
                            prop_assert_eq!(
                                (verdict(before), verdict(after)),
                                (Verdict::Deny, Verdict::Allow),
                                "{:#?}\n{:#?}",
                                &witness,
                                &cause
                            );
                        }
                    }
                    if !differs {
                        equal.set(equal.get() + 1);
                        for (facts, number) in &requests {
                            let (request, workload) = (facts.request(), workload(*number));
                            let verdict = |of| verdict(of, combining, &workload, &request);
                            compared.set(compared.get() + 1);
                            prop_assert!(
                                (verdict(before), verdict(after)) != (Verdict::Deny, Verdict::Allow),
                                "{facts:?}\n{workload:?}"
                            );
                        }
                    }
                }
                Ok(())
            })
            .unwrap();
    }
    let counts = [differences, equal, compared, asked, undecided].map(|count| count.get());
    let [differences, equal, compared, asked, undecided] = counts;
    assert!(differences > 300 && equal > 300 && compared > 10_000, "{counts:?}");
    // The policies exclude each other in far more ways than anybody writes.
    assert!(undecided * 100 <= asked, "{counts:?}");
}

#[test]
fn a_proof_holds_for_every_request_and_a_counterexample_is_one() {
    let [held, failed, compared] = [0, 0, 0].map(Cell::new);
    for combining in BOTH {
        let requests = vec((possible(), any::<u8>()), 40);
        let region = spec("DENY");
        TestRunner::new(proptest::test_runner::Config { max_shrink_iters: 0, ..cases(250) })
            .run(&(vec(policy(), 0..=4), region, any::<bool>(), requests), |(policies, region, allow, requests)| {
                let named = |(n, mut policy): (usize, Value)| {
                    policy["metadata"]["name"] = json!(format!("p{n}"));
                    read(&policy)
                };
                let policies: Vec<_> = policies.into_iter().enumerate().map(named).collect();
                let refs: Vec<_> = policies.iter().collect();
                let options = options(combining);
                let compiled = Policies::new(&refs, &options, workloads());
                let mut region = region;
                region["action"] = json!(if allow { "ALLOW" } else { "DENY" });
                let rules = analysis::rules(&read(&placed("region", region, 0)), &options);
                let expected = if allow { Verdict::Allow } else { Verdict::Deny };
                let mut sides = Sides::default();
                match prove(&sides.region(&rules), &sides.side(&compiled), expected, &mut Budget::of(50_000_000))
                    .expect("decided")
                {
                    Proof::Fails(witness) => {
                        failed.set(failed.get() + 1);
                        let request = witness.request();
                        prop_assert!(rules.iter().any(|rule| rule.matches(&request)), "{witness:#?}");
                        prop_assert_ne!(verdict(&policies, combining, &witness.workload, &request), expected);
                    }
                    proof => {
                        held.set(held.get() + 1);
                        for (facts, number) in &requests {
                            let (request, workload) = (facts.request(), workload(*number));
                            if rules.iter().any(|rule| rule.matches(&request)) {
                                compared.set(compared.get() + 1);
                                prop_assert!(matches!(proof, Proof::Holds), "{facts:?}");
                                prop_assert_eq!(verdict(&policies, combining, &workload, &request), expected);
                            }
                        }
                    }
                }
                Ok(())
            })
            .unwrap();
    }
    let counts = [held, failed, compared].map(|count| count.get());
    assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
}
