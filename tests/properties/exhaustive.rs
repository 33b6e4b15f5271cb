//! Every answer about all requests is compared with every request that the policies can tell apart, both ways: where it
//! names a request, the engine decides it so; where it says that there is none, there is none.
//!
//! The policies ask about few things with few values, which are often in each other's way. So all requests that differ in
//! these values can be enumerated ([`universe`]), and the workloads too. The variable `MESH_AUTHZ_CASES` multiplies the
//! number of cases; `MESH_AUTHZ_SEED` chooses others.

mod directed;
mod model;
mod universe;

use std::collections::BTreeSet;

use mesh_authz::analysis::{
    self, Budget, Cause, Compared, CompiledRule, Coverage, Effect, Example, Policies, Proof, Reason, Sides, Undecided,
    Workloads, causes, effect, prove,
};
use mesh_authz::diagnostic::Diagnostics;
use mesh_authz::engine::{Options, RuleId, Verdict};
use mesh_authz::policy::scope::{Gateway, Scope, ServiceName, Workload, scope};
use mesh_authz::policy::{Action, AuthorizationPolicy, read};
use serde_json::{Value, json};

use self::model::{Matches, Model, Requests};
use self::universe::{Field, Place, Thing, Universe};
use crate::policies::{BOTH, node, options};

const ROOT: &str = "root";
const PROVIDERS: [&str; 2] = ["one", "other"];
const BUDGET: u64 = 100_000_000;

/// How often it was asked, and what came of it.
#[derive(Debug, Default)]
struct Counts {
    /// How many decisions were compared: a request on a workload, for each question.
    decisions: usize,
    /// How many times the engine said whether a rule matches a request.
    matches: usize,
    questions: usize,
    requests_found: usize,
    nothing_found: usize,
    undecided: usize,
}

fn cases(count: usize) -> usize {
    let factor = std::env::var("MESH_AUTHZ_CASES").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1);
    count * factor
}

fn seed(number: u64) -> u64 {
    let seed: u64 = std::env::var("MESH_AUTHZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    seed * 1_000_000 + number
}

/// The workloads that policies can tell apart.
fn every_workload() -> Vec<Workload> {
    let service = |namespace: &str, name: &str| ServiceName {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        host: None,
    };
    let mut gateways = vec![None];
    for name in ["w", "z"] {
        let gateway = |waypoint, services: &[ServiceName], entries: &[ServiceName]| {
            Some(Gateway {
                name: name.to_owned(),
                waypoint,
                services: services.into(),
                service_entries: entries.into(),
            })
        };
        gateways.push(gateway(false, &[], &[]));
        gateways.push(gateway(true, &[], &[]));
        for (namespace, service_name) in [("a", "s"), ("b", "s"), (ROOT, "s"), ("a", "t"), ("b", "t"), (ROOT, "t")] {
            gateways.push(gateway(true, &[service(namespace, service_name)], &[]));
            gateways.push(gateway(true, &[], &[service(namespace, service_name)]));
        }
    }
    let mut workloads = Vec::new();
    for namespace in ["a", "b", "c", ROOT] {
        for gateway in &gateways {
            for app in [None, Some("x"), Some("y"), Some("z")] {
                for version in [None, Some("1")] {
                    let label = |key: &str, value: Option<&str>| Some((key.to_owned(), value?.to_owned()));
                    let name =
                        gateway.as_ref().filter(|gateway| !gateway.waypoint).map(|gateway| gateway.name.as_str());
                    let labels = [label("app", app), label("v", version), label(GATEWAY_NAME, name)];
                    workloads.push(Workload {
                        namespace: namespace.to_owned(),
                        labels: Some(labels.into_iter().flatten().collect()),
                        gateway: gateway.clone(),
                        root_namespace: ROOT.to_owned(),
                        revision: None,
                    });
                }
            }
        }
    }
    workloads
}

const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// Generates policies about the fields of a universe.
struct Generator<'u> {
    fields: &'u [Field],
    /// Whether policies are for various workloads.
    has_places: bool,
    random: fastrand::Rng,
}

impl Generator<'_> {
    fn chance(&mut self, percent: u32) -> bool {
        self.random.u32(..100) < percent
    }

    fn values(&mut self, field: &Field) -> Value {
        let mut values = field.values.clone();
        self.random.shuffle(&mut values);
        values.truncate(1 + usize::from(self.random.u8(..4) == 0));
        json!(values)
    }

    /// A list of objects with some of the fields of a place.
    fn items(&mut self, place: Place, wrapped: Option<&str>) -> Vec<Value> {
        let fields: Vec<_> = self.fields.iter().filter(|field| field.place == place).cloned().collect();
        if fields.is_empty() {
            return Vec::new();
        }
        let count = [0, 1, 1, 1, 2, 2, 3][self.random.usize(..7)];
        let mut items = Vec::new();
        for _ in 0..count {
            let mut item = serde_json::Map::new();
            let most = if place == Place::When { 1 } else { 2 };
            for _ in 0..self.random.usize(1..=most) {
                let field = &fields[self.random.usize(..fields.len())];
                if place == Place::When {
                    item.insert("key".to_owned(), json!(field.name));
                }
                let has_both = self.chance(15);
                let is_not = self.chance(45);
                for is_not in [is_not, !is_not].into_iter().take(1 + usize::from(has_both)) {
                    let (name, values) = field.entry(&self.values(field), is_not);
                    item.insert(name, values);
                }
            }
            if item.keys().any(|name| name.ends_with("erviceAccounts")) {
                item.retain(|name, _| {
                    !["rincipals", "amespaces"].iter().any(|end| name.ends_with(end)) || name.ends_with("estPrincipals")
                });
            }
            items.push(match wrapped {
                Some(wrapped) => json!({ wrapped: item }),
                None => Value::Object(item),
            });
        }
        items
    }

    fn rule(&mut self) -> Value {
        let mut rule = serde_json::Map::new();
        for (name, place, wrapped) in [
            ("from", Place::Source, Some("source")),
            ("to", Place::Operation, Some("operation")),
            ("when", Place::When, None),
        ] {
            let items = self.items(place, wrapped);
            if !items.is_empty() {
                rule.insert(name.to_owned(), json!(items));
            }
        }
        Value::Object(rule)
    }

    fn place(&mut self, policy: &mut Value) {
        let namespace = ["a", "b", ROOT, ROOT][self.random.usize(..4)];
        policy["metadata"]["namespace"] = json!(namespace);
        let spec = policy["spec"].as_object_mut().unwrap();
        spec.remove("selector");
        spec.remove("targetRefs");
        if !self.has_places {
            return;
        }
        let gateway = |name: &str| json!({ "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": name });
        let service = |name: &str| json!({ "group": "", "kind": "Service", "name": name });
        let entry = |name: &str| json!({ "group": "networking.istio.io", "kind": "ServiceEntry", "name": name });
        let class = json!({ "group": "gateway.networking.k8s.io", "kind": "GatewayClass", "name": "istio-waypoint" });
        let references = match self.random.usize(..10) {
            0 => json!([gateway("w")]),
            1 => json!([service("s"), gateway("w")]),
            2 => json!([service("s"), service("t")]),
            3 => json!([entry("s")]),
            4 if namespace == ROOT => json!([class]),
            _ => Value::Null,
        };
        if references != Value::Null {
            policy["spec"]["targetRefs"] = references;
            return;
        }
        let labels = match self.random.usize(..8) {
            0 => json!({ "app": "x" }),
            1 => json!({ "app": "y", "v": "1" }),
            2 => json!({ "v": "1" }),
            3 => json!({ GATEWAY_NAME: "w" }),
            _ => return,
        };
        policy["spec"]["selector"] = json!({ "matchLabels": labels });
    }

    fn policy(&mut self, name: usize) -> Value {
        let action = ["ALLOW", "ALLOW", "ALLOW", "DENY", "DENY", "DENY", "CUSTOM", "AUDIT"][self.random.usize(..8)];
        let rules: Vec<_> = (0..self.random.usize(1..=3)).map(|_| self.rule()).collect();
        let mut policy = json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": { "name": format!("p{name}"), "namespace": "a" },
            "spec": { "action": action, "rules": rules },
        });
        if action == "CUSTOM" {
            policy["spec"]["provider"] = json!({ "name": PROVIDERS[self.random.usize(..2)] });
        }
        if ["ALLOW", "DENY"].contains(&action) && self.chance(5) {
            policy["metadata"]["annotations"] = json!({ "istio.io/dry-run": "true" });
        }
        if self.has_places && self.chance(15) {
            let revision = ["one", "other"][self.random.usize(..2)];
            policy["metadata"]["labels"] = json!({ "istio.io/rev": revision });
        }
        self.place(&mut policy);
        valid(policy)
    }

    fn policies(&mut self) -> Vec<Value> {
        (0..self.random.usize(1..=4)).map(|number| self.policy(number)).collect()
    }

    /// What a change makes of policies.
    fn changed(&mut self, old: &[Value]) -> Vec<Value> {
        let mut new = old.to_vec();
        for _ in 0..self.random.usize(1..=2) {
            let at = self.random.usize(..new.len().max(1));
            let kind = self.random.usize(..8);
            let other = self.rule();
            let Some(policy) = new.get_mut(at) else {
                new.push(self.policy(9));
                continue;
            };
            let rules = policy["spec"]["rules"].as_array_mut().unwrap();
            let rule = self.random.usize(..rules.len());
            match kind {
                0 => {
                    new.remove(at);
                }
                1 if rules.len() > 1 => {
                    rules.remove(rule);
                }
                2 => rules[rule] = other,
                3 => rules.push(other),
                4 => {
                    let list = ["from", "to", "when"][self.random.usize(..3)];
                    match other.get(list) {
                        Some(items) => rules[rule][list] = items.clone(),
                        None => {
                            rules[rule].as_object_mut().unwrap().remove(list);
                        }
                    }
                }
                5 => {
                    let action = policy["spec"]["action"].clone();
                    let swapped = if action == "ALLOW" { "DENY" } else { "ALLOW" };
                    if action != "CUSTOM" {
                        policy["metadata"].as_object_mut().unwrap().remove("annotations");
                        policy["spec"]["action"] = json!(swapped);
                    }
                }
                6 => self.place(policy),
                _ => new.push(self.policy(9)),
            }
        }
        // No two of a namespace have the same name.
        let mut names = BTreeSet::new();
        new.retain(|policy| names.insert(policy["metadata"].to_string()));
        new.into_iter().map(valid).collect()
    }
}

/// A provider does not know who the peer is. So a policy that asks it about that is a DENY.
fn valid(mut policy: Value) -> Value {
    if read(&policy).is_none() {
        policy["spec"]["action"] = json!("DENY");
        policy["spec"].as_object_mut().unwrap().remove("provider");
    }
    policy
}

fn read(policy: &Value) -> Option<AuthorizationPolicy> {
    read::policy(&node(policy), &mut Diagnostics::new())
}

/// A workload for each way in which the policies apply.
fn workloads_apart(policies: &[&AuthorizationPolicy], every: &[Workload]) -> Vec<Workload> {
    let mut seen = BTreeSet::new();
    let applies = |workload: &Workload| -> Vec<bool> {
        policies.iter().map(|policy| scope(policy, workload) == Scope::Applies).collect()
    };
    every.iter().filter(|workload| seen.insert(applies(workload))).cloned().collect()
}

/// Two sets of policies, and every request on every workload.
struct Case<'u> {
    universe: &'u Universe,
    workloads: &'u [Workload],
    options: &'u Options,
    counts: Counts,
    shown: String,
}

impl Case<'_> {
    /// Whether policies ask for request principals. Where they exclude each other, a rule that never matches is not always known
    /// to be one.
    fn has_pairs(&self) -> bool {
        let names = ["requestPrincipals", "request.auth.principal"];
        self.universe.fields.iter().any(|field| names.contains(&field.name))
    }

    /// Whether policies ask for hosts. Which hosts people expect is not said here.
    fn has_hosts(&self) -> bool {
        self.universe.fields.iter().any(|field| ["hosts", "request.headers[host]"].contains(&field.name))
    }

    /// A place in the universe, if there is one for which this says so.
    fn somewhere(&mut self, requests: impl Fn(&Workload) -> Requests) -> Option<(usize, usize)> {
        self.counts.decisions += self.workloads.len() * self.universe.requests.len();
        let place = |number: usize| Some((number, requests(&self.workloads[number]).first()?));
        (0..self.workloads.len()).find_map(place)
    }

    fn show(&self, place: Option<(usize, usize)>) -> String {
        let place = place.map(|(workload, request)| (&self.workloads[workload], &self.universe.requests[request]));
        format!("{place:?}\n{}", self.shown)
    }

    /// Counts an answer. `None`: it is undecided.
    fn answer<T>(&mut self, answer: Result<T, Undecided>, is_request: impl Fn(&T) -> bool) -> Option<T> {
        self.counts.questions += 1;
        match answer {
            Err(Undecided) => {
                self.counts.undecided += 1;
                None
            }
            Ok(answer) => {
                let count =
                    if is_request(&answer) { &mut self.counts.requests_found } else { &mut self.counts.nothing_found };
                *count += 1;
                Some(answer)
            }
        }
    }

    /// Whether the request that was found, and there should be one.
    fn is_expected(&self, place: Option<(usize, usize)>, found: Option<&Example>, says: &str) {
        assert!(place.is_some() == found.is_some(), "{says}: {found:?}, and the universe has {}", self.show(place));
    }
}

/// What a cause is about, as the model has it.
struct About<'c> {
    cause: &'c Cause<'c>,
    rule: Option<usize>,
}

fn rule_of(model: &Model<'_>, cause: &Cause<'_>) -> Option<usize> {
    let id = cause.rule()?;
    let is_it = |rule: &model::Rule| model.policies[rule.policy].name == *id.policy && rule.index == id.index;
    model.rules.iter().position(is_it)
}

impl About<'_> {
    /// What the cause is about on a workload.
    fn matched(&self, of: &Model<'_>, everything: &Requests, workload: &Workload) -> Requests {
        if scope(self.cause.policy, workload) != Scope::Applies {
            return everything.without(everything);
        }
        match self.rule {
            Some(rule) => (*of.rules[rule].matched).clone(),
            None => everything.clone(),
        }
    }
}

/// The requests of what a cause is about that show its difference, as the documentation of the causes says.
fn shows(
    cause: &About<'_>,
    refusing: &Model<'_>,
    allowing: &Model<'_>,
    everything: &Requests,
    workload: &Workload,
) -> Requests {
    let of = if cause.cause.is_of_refusing_side() { refusing } else { allowing };
    let matched = cause.matched(of, everything, workload);
    let nothing = everything.without(everything);
    match (cause.cause.provider(), cause.rule, cause.cause.is_of_refusing_side()) {
        (Some(provider), ..) => matched.and(&allowing.allowed(workload)).without(&allowing.asked(provider, workload)),
        (None, Some(_), true) => matched.and(&allowing.allowed(workload)),
        (None, rule, _) => {
            let counts = match rule {
                Some(_) => refusing.has_refusing_policy(workload),
                None => !allowing.has_refusing_policy(workload),
            };
            let left = matched
                .without(&allowing.overriding(workload))
                .without(&refusing.overriding(workload))
                .without(&refusing.of_action(Action::Allow, workload));
            if counts { left } else { nothing }
        }
    }
}

/// Compares what a cause comes to with the universe.
fn check_effect(
    case: &mut Case<'_>,
    cause: &Cause<'_>,
    answer: Result<Effect<'_>, Undecided>,
    [refusing, allowing]: [&Model<'_>; 2],
    everything: &Requests,
) -> Option<bool> {
    let says = format!("{:?} {:?} {:?}", cause.rule(), cause.provider(), cause.policy.name);
    let of = if cause.is_of_refusing_side() { refusing } else { allowing };
    let own = About { cause, rule: rule_of(of, cause) };
    let place = case.somewhere(|workload| shows(&own, refusing, allowing, everything, workload));
    let effect = case.answer(answer, |effect| matches!(effect, Effect::Difference(_)))?;
    match &effect {
        Effect::Difference(witness) => {
            case.is_expected(place, Some(witness), &says);
            let (workload, request) = (&witness.workload, witness.request());
            let verdict = |of: &Model<'_>| of.verdict(case.options, workload, &request);
            assert_eq!(verdict(allowing), Verdict::Allow, "{says}: {witness:?}\n{}", case.shown);
            let is_refused = match cause.provider() {
                None => verdict(refusing) == Verdict::Deny,
                Some(provider) => {
                    let asks = |of: &Model<'_>| {
                        let asking = of.applying(Action::Custom, workload).map(|number| &of.policies[number]);
                        let mut asking = asking.filter(|policy| policy.provider.as_deref() == Some(provider));
                        asking.any(|policy| {
                            analysis::rules(policy, case.options).iter().any(|rule| rule.matches(&request))
                        })
                    };
                    asks(refusing) && !asks(allowing)
                }
            };
            assert!(is_refused, "{says}: {witness:?}\n{}", case.shown);
        }
        Effect::Nothing(reason) => {
            case.is_expected(place, None, &says);
            check_reason(case, &own, reason, [refusing, allowing], everything);
        }
    }
    Some(matches!(effect, Effect::Difference(_)))
}

/// Whether the reason for which a cause comes to nothing is one.
fn check_reason(
    case: &mut Case<'_>,
    cause: &About<'_>,
    reason: &Reason<'_>,
    [refusing, allowing]: [&Model<'_>; 2],
    everything: &Requests,
) {
    let of = if cause.cause.is_of_refusing_side() { refusing } else { allowing };
    let matched = |workload: &Workload| cause.matched(of, everything, workload);
    let nothing = everything.without(everything);
    // Where the reason does not hold.
    let place = match reason {
        Reason::NeverMatches => case.somewhere(matched),
        Reason::Decided { .. } if cause.cause.provider().is_some() => None,
        Reason::Decided { denied, allowed } => {
            // With these rules and no others, there is no difference either.
            let is_named = |policy: &AuthorizationPolicy, index: usize| {
                let is_it = |id: &&&RuleId| *id.policy == policy.name && id.index == index;
                denied.iter().chain(allowed).any(|id| is_it(&id))
            };
            let decided = |of: &Model<'_>, action: Action, workload: &Workload| {
                let applying: Vec<_> = of.applying(action, workload).collect();
                let rules = of
                    .rules
                    .iter()
                    .filter(|rule| applying.contains(&rule.policy) && is_named(&of.policies[rule.policy], rule.index));
                rules.fold(nothing.clone(), |all, rule| all.or(&rule.matched))
            };
            case.somewhere(|workload| {
                let overriding = |of: &Model<'_>| {
                    if of.denies_first() { decided(of, Action::Deny, workload) } else { nothing.clone() }
                };
                let left = matched(workload).without(&overriding(allowing));
                if cause.rule.is_some() && cause.cause.is_of_refusing_side() {
                    return if allowing.has_refusing_policy(workload) {
                        left.and(&allowing.of_action(Action::Allow, workload))
                    } else {
                        left
                    };
                }
                let counts = match cause.rule {
                    Some(_) => refusing.has_refusing_policy(workload),
                    None => !allowing.has_refusing_policy(workload),
                };
                let left = left.without(&overriding(refusing)).without(&decided(refusing, Action::Allow, workload));
                if counts { left } else { nothing.clone() }
            })
        }
        Reason::NoAllowApplies => {
            case.somewhere(
                |workload| {
                    if refusing.has_refusing_policy(workload) { matched(workload) } else { nothing.clone() }
                },
            )
        }
        Reason::OtherAllowApplies => {
            case.somewhere(
                |workload| {
                    if allowing.has_refusing_policy(workload) { nothing.clone() } else { matched(workload) }
                },
            )
        }
        Reason::NotAllowed => case.somewhere(|workload| {
            let matched = matched(workload);
            if allowing.has_refusing_policy(workload) {
                matched.and(&allowing.of_action(Action::Allow, workload))
            } else {
                matched
            }
        }),
    };
    assert!(place.is_none(), "{:?} {reason:?}: {}", cause.cause.rule(), case.show(place));
    if !matches!(reason, Reason::NeverMatches) {
        assert!(
            case.somewhere(matched).is_some(),
            "{:?} {reason:?}: it never matches\n{}",
            cause.cause.rule(),
            case.shown
        );
    }
}

/// Compares the differences in one direction.
fn check_direction(
    case: &mut Case<'_>,
    sides: [&analysis::Side<'_>; 2],
    models: [&Model<'_>; 2],
    everything: &Requests,
) {
    let ([refusing, allowing], [refusing_model, allowing_model]) = (sides, models);
    let (mut differs, mut asks, mut is_decided) = (false, false, true);
    for cause in causes(refusing, allowing) {
        let answer = effect(&cause, refusing, allowing, &mut Budget::of(BUDGET));
        match check_effect(case, &cause, answer, models, everything) {
            None => is_decided = false,
            Some(is_difference) if cause.provider().is_some() => asks |= is_difference,
            Some(is_difference) => differs |= is_difference,
        }
    }
    if !is_decided {
        return;
    }
    let place = case.somewhere(|workload| allowing_model.allowed(workload).without(&refusing_model.allowed(workload)));
    assert!(place.is_some() == differs, "differs {differs}: {}", case.show(place));
    let place = case.somewhere(|workload| {
        PROVIDERS.iter().fold(everything.without(everything), |all, provider| {
            let asked = refusing_model.asked(provider, workload).without(&allowing_model.asked(provider, workload));
            all.or(&asked.and(&allowing_model.allowed(workload)))
        })
    });
    assert!(place.is_some() == asks, "asks {asks}: {}", case.show(place));
}

/// Compares what is proved about a region.
fn check_proofs(
    case: &mut Case<'_>,
    region: &Value,
    policies: &Policies<'_>,
    model: &Model<'_>,
    matches: &Matches<'_>,
) {
    let everything = matches.all();
    for (action, expected) in [("ALLOW", Verdict::Allow), ("DENY", Verdict::Deny)] {
        let mut region = region.clone();
        region["spec"]["action"] = json!(action);
        let Some(policy) = read(&region) else { continue };
        let rules = analysis::rules(&policy, case.options);
        let inside = (0..rules.len())
            .fold(everything.without(&everything), |all, index| all.or(&matches.rule(&policy, index, case.options)));
        let place = case.somewhere(|workload| match expected {
            Verdict::Deny => inside.and(&model.allowed(workload)),
            Verdict::Allow => {
                let is_asked = PROVIDERS
                    .iter()
                    .fold(everything.without(&everything), |all, provider| all.or(&model.asked(provider, workload)));
                inside.without(&model.allowed(workload).without(&is_asked))
            }
        });
        let mut sides = Sides::default();
        let (region, side) = (sides.region(&rules), sides.side(policies));
        let proof = prove(&region, &side, expected, &mut Budget::of(BUDGET));
        let Some(proof) = case.answer(proof, |proof| matches!(proof, Proof::Fails(_))) else { continue };
        let says = format!("prove {expected:?}");
        match proof {
            Proof::Fails(witness) => {
                case.is_expected(place, Some(&witness), &says);
                let (workload, request) = (&witness.workload, witness.request());
                assert!(rules.iter().any(|rule| rule.matches(&request)), "{says}: {witness:?}\n{}", case.shown);
                let is_asked = || {
                    let mut asking = model.applying(Action::Custom, workload).map(|number| &model.policies[number]);
                    asking.any(|policy| analysis::rules(policy, case.options).iter().any(|rule| rule.matches(&request)))
                };
                let is_other = model.verdict(case.options, workload, &request) != expected;
                assert!(is_other || expected == Verdict::Allow && is_asked(), "{says}: {witness:?}\n{}", case.shown);
            }
            Proof::Holds | Proof::Empty => {
                case.is_expected(place, None, &says);
                let is_right = matches!(proof, Proof::Empty) == inside.is_empty();
                assert!(is_right, "{says}\n{}", case.shown);
            }
        }
    }
}

/// Compares which rules are covered by others, and which contradict themselves.
fn check_coverage(case: &mut Case<'_>, written: &[Value], model: &Model<'_>, matches: &Matches<'_>) {
    let expected = Requests::of(case.universe.is_expected.iter().copied());
    for action in [Action::Allow, Action::Deny] {
        let policies = model.policies.iter().filter(|policy| policy.action == action);
        let compared = Compared::new(policies, case.options, ROOT);
        let mut sides = Sides::default();
        let rules = sides.rules(&compared);
        for rule in rules.all() {
            let id = rule.compiled().id();
            let number = |id: &RuleId| {
                let is_it = |one: &model::Rule| model.policies[one.policy].name == *id.policy && one.index == id.index;
                model.rules.iter().position(is_it).unwrap()
            };
            let own = &model.rules[number(id)];
            let applies = |rule: &model::Rule, workload: &Workload| {
                scope(&model.policies[rule.policy], workload) == Scope::Applies
            };
            let nothing = own.matched.without(&own.matched);
            let matched = |rule: &model::Rule, workload: &Workload| {
                if applies(rule, workload) { (*rule.matched).clone() } else { nothing.clone() }
            };
            let counts = |_: &AuthorizationPolicy, other: &CompiledRule| other.id() != id;
            let policy = &model.policies[own.policy];
            assert_eq!(rules.policy(rule).map(|policy| &policy.name), Some(&policy.name));
            check_contradiction(case, (&rules, rule), &written[own.policy], own, matches);
            for requests in [analysis::Requests::All, analysis::Requests::Expected] {
                let has_expected = !own.matched.and(&expected).is_empty();
                if requests == analysis::Requests::Expected && (case.has_hosts() || !has_expected) {
                    continue;
                }
                // If people expect none, it is about all.
                let counted = |matched: Requests| {
                    if requests == analysis::Requests::Expected && has_expected {
                        matched.and(&expected)
                    } else {
                        matched
                    }
                };
                let coverage = rules.coverage(rule, &counts, requests, &mut Budget::of(BUDGET));
                let Some(coverage) = case.answer(coverage, |coverage| matches!(coverage, Coverage::No)) else {
                    continue;
                };
                let says = format!("{id:?}, {requests:?}: {coverage:?}");
                let left = |by: &[usize], workload: &Workload| {
                    by.iter().fold(counted(matched(own, workload)), |left, other| {
                        left.without(&matched(&model.rules[*other], workload))
                    })
                };
                let others: Vec<_> = (0..model.rules.len())
                    .filter(|other| model.policies[model.rules[*other].policy].action == action && *other != number(id))
                    .collect();
                let of_some = case.somewhere(|workload| matched(own, workload));
                let is_never = matches!(coverage, Coverage::Never);
                let is_right = is_never == of_some.is_none();
                assert!(is_right, "{says}: {}", case.show(of_some));
                match &coverage {
                    Coverage::Never => {}
                    Coverage::No => {
                        let place = case.somewhere(|workload| left(&others, workload));
                        assert!(place.is_some(), "{says}\n{}", case.shown);
                    }
                    Coverage::By(by) => {
                        let by: Vec<_> = by
                            .iter()
                            .map(|one| {
                                let is_it = |rule: &model::Rule| {
                                    model.policies[rule.policy].name == one.policy.name && rule.index == one.index
                                };
                                model.rules.iter().position(is_it).unwrap()
                            })
                            .collect();
                        let place = case.somewhere(|workload| left(&by, workload));
                        assert!(place.is_none(), "{says}: {}", case.show(place));
                        assert!(by.iter().all(|one| others.contains(one)), "{says}\n{}", case.shown);
                        for one in by.iter().filter(|_| by.len() > 1) {
                            let place = case.somewhere(|workload| left(&[*one], workload));
                            assert!(place.is_some(), "{says}: one is enough\n{}", case.shown);
                        }
                    }
                }
            }
        }
    }
}

/// Whether a rule contradicts itself: no request that people expect matches it, although one matches each of its tests.
fn check_contradiction(
    case: &mut Case<'_>,
    (rules, rule): (&analysis::ComparedRules<'_>, &analysis::Rule<'_>),
    policy: &Value,
    own: &model::Rule,
    matches: &Matches<'_>,
) {
    let claim = rules.contradicts_itself(rule, &mut Budget::of(BUDGET));
    let Some(claim) = case.answer(claim, |claim| !claim) else { return };
    let says = format!("{:?} contradicts itself: {claim}", rule.compiled().id());
    let expected = Requests::of(matches.universe.is_expected.iter().copied());
    let place = own.matched.and(&expected).first().map(|request| (0, request));
    assert!(!claim || place.is_none(), "{says}: {}", case.show(place));
    // One name can be in many sets, and not all such names are among the requests.
    let has_names = case.universe.fields.iter().any(|field| {
        ["principals", "namespaces", "serviceAccounts", "trustDomains"].contains(&field.name)
            || field.name.starts_with("source.") && field.name != "source.ip"
    });
    if claim || place.is_some() || has_names || case.has_hosts() || case.has_pairs() {
        return;
    }
    // One of its tests cannot hold alone.
    let can_hold = |rule: &Value| {
        let mut policy = policy.clone();
        policy["spec"]["rules"] = json!([rule]);
        let matched = matches.rule(&read(&policy).unwrap(), 0, case.options);
        !matched.and(&expected).is_empty()
    };
    assert!(!tests(&policy["spec"]["rules"][own.index]).iter().all(can_hold), "{says}\n{}", case.shown);
}

/// The tests of a rule, each as a rule.
fn tests(rule: &Value) -> Vec<Value> {
    let mut tests = Vec::new();
    for (list, inner) in [("from", "source"), ("to", "operation")] {
        for item in rule[list].as_array().into_iter().flatten() {
            let fields = item[inner].as_object().unwrap().iter();
            tests.extend(fields.map(|(name, values)| json!({ list: [{ inner: { name: values } }] })));
        }
    }
    for condition in rule["when"].as_array().into_iter().flatten() {
        for name in ["values", "notValues"] {
            if let Some(values) = condition.get(name) {
                tests.push(json!({ "when": [{ "key": condition["key"], name: values }] }));
            }
        }
    }
    tests
}

/// Compares where peers without an identity are refused.
fn check_plaintext(case: &mut Case<'_>, policies: &Policies<'_>, model: &Model<'_>) {
    let plaintext = Requests::of(case.universe.is_plaintext.iter().copied());
    let mut sides = Sides::default();
    let side = sides.side(policies);
    for policy in model.policies {
        let is_refused = side.refuses_plaintext(policy, |_| true, |_| true, &mut Budget::of(BUDGET));
        let Some(is_refused) = case.answer(is_refused, |is_refused| !is_refused) else { continue };
        let place = case.somewhere(|workload| {
            let requests = plaintext.and(&model.allowed(workload));
            if scope(policy, workload) == Scope::Applies { requests } else { requests.without(&requests) }
        });
        assert_eq!(place.is_none(), is_refused, "{:?}: {}", policy.name, case.show(place));
    }
}

/// Compares all answers about some generated policies. `things`: what they ask about.
fn check_all(name: &str, families: &[&[Thing]], has_places: bool, universes: usize, most: usize) {
    const PAIRS: usize = 8;
    let mut counts = Counts::default();
    let every = every_workload();
    let mut at = 0;
    let mut done = 0;
    while done < cases(universes) {
        at += 1;
        let number = seed(at);
        let mut random = fastrand::Rng::with_seed(number);
        let family = families[random.usize(..families.len())];
        let Some(universe) = Universe::new(family, most, &mut random) else { continue };
        done += 1;
        let matches = Matches::new(&universe);
        let everything = matches.all();
        let mut generator = Generator { fields: &universe.fields, has_places, random };
        for pair in 0..PAIRS {
            let old = generator.policies();
            let new = generator.changed(&old);
            let region = generator.policy(0);
            let combining = BOTH[generator.random.usize(..2)];
            let options = options(combining);
            let lines = |policies: &[Value]| policies.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
            let (old_lines, new_lines) = (lines(&old), lines(&new));
            let shown = format!(
                "seed {number}, pair {pair}, {combining:?}\nold\n{old_lines}\nnew\n{new_lines}\nregion\n{region}"
            );
            let written = old.clone();
            let [old, new] = [old, new].map(|all| all.iter().map(|one| read(one).expect(&shown)).collect::<Vec<_>>());
            let all: Vec<_> = old.iter().chain(&new).collect();
            // Each control plane configures its own workloads.
            let revision = generator.chance(25).then(|| "one".to_owned());
            let of_revision = |workload: Workload| Workload { revision: revision.clone(), ..workload };
            let every: Vec<_> = every.iter().cloned().map(of_revision).collect();
            let apart = workloads_apart(&all, &every);
            // About one of the workloads, or about all.
            let one = generator.chance(25).then(|| vec![apart[generator.random.usize(..apart.len())].clone()]);
            let workloads = match &one {
                Some(one) => Workloads::One(Box::new(one[0].clone())),
                None => Workloads::All { root_namespace: ROOT.to_owned(), revision: revision.clone() },
            };
            let universe = &universe;
            let mut case = Case {
                universe,
                workloads: one.as_deref().unwrap_or(&apart),
                options: &options,
                counts: Counts::default(),
                shown,
            };
            let models = [&old, &new].map(|policies| Model::new(policies, &options, &matches));
            let compiled = [&old, &new]
                .map(|policies| Policies::new(&policies.iter().collect::<Vec<_>>(), &options, workloads.clone()));
            // The model decides as the engine does.
            for _ in 0..8 {
                let request = generator.random.usize(..universe.requests.len());
                let workload = &case.workloads[generator.random.usize(..case.workloads.len())];
                for model in &models {
                    let one = Requests::of((0..universe.requests.len()).map(|number| number == request));
                    let is_allowed = !model.allowed(workload).and(&one).is_empty();
                    let verdict = model.verdict(&options, workload, &universe.requests[request]);
                    assert_eq!(verdict == Verdict::Allow, is_allowed, "{}", case.shown);
                }
            }
            let mut sides = Sides::default();
            let [before, after] = [sides.side(&compiled[0]), sides.side(&compiled[1])];
            check_direction(&mut case, [&before, &after], [&models[0], &models[1]], &everything);
            check_direction(&mut case, [&after, &before], [&models[1], &models[0]], &everything);
            check_proofs(&mut case, &region, &compiled[0], &models[0], &matches);
            check_plaintext(&mut case, &compiled[0], &models[0]);
            if one.is_none() && revision.is_none() {
                check_coverage(&mut case, &written, &models[0], &matches);
            }
            let Counts { decisions, matches: _, questions, requests_found, nothing_found, undecided } = case.counts;
            counts.decisions += decisions;
            counts.questions += questions;
            counts.requests_found += requests_found;
            counts.nothing_found += nothing_found;
            counts.undecided += undecided;
        }
        counts.matches += matches.asked.get();
    }
    println!("{name}: {counts:?}");
    assert!(
        counts.requests_found * 10 > counts.questions && counts.nothing_found * 10 > counts.questions,
        "{counts:?}"
    );
    assert!(counts.undecided * 100 <= counts.questions, "{counts:?}");
}

#[test]
fn about_http_every_answer_is_that_of_all_requests() {
    use Thing::{Host, Line, Lines, Method, Path};
    let families: [&[Thing]; 6] =
        [&[Path, Method], &[Path, Lines], &[Host, Line], &[Lines, Line], &[Host, Method], &[Path]];
    check_all("http", &families, false, 10, 700);
}

#[test]
fn about_connections_every_answer_is_that_of_all_requests() {
    use Thing::{Destination, Peer, Port, Remote, Sni, Source};
    let families: [&[Thing]; 5] =
        [&[Peer], &[Peer, Sni], &[Source, Remote, Port], &[Destination, Port, Sni], &[Peer, Port]];
    check_all("connections", &families, false, 11, 700);
}

#[test]
fn about_tokens_every_answer_is_that_of_all_requests() {
    use Thing::{Claim, Metadata, Method, Nested, Principal};
    let families: [&[Thing]; 6] =
        [&[Principal], &[Principal], &[Principal, Method], &[Claim, Nested], &[Principal, Claim], &[Metadata, Nested]];
    check_all("tokens", &families, false, 20, 700);
}

#[test]
fn about_workloads_every_answer_is_that_of_all_requests() {
    use Thing::{Host, Method, Path, Port, Principal, Source};
    let families: [&[Thing]; 6] = [&[Method], &[Path], &[Port, Method], &[Source], &[Host], &[Principal]];
    check_all("workloads", &families, true, 15, 150);
}
