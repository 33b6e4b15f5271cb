//! Policies that look at ports, and the ports that a standalone Envoy listens on.
//!
//! Istio captures connections and leaves their ports as they are. A standalone Envoy listens on ports of its own, so a
//! policy means what it says only if Envoy listens on the ports that the policy names.

use std::collections::BTreeSet;

use mesh_authz::diagnostic::{Diagnostic, Path};
use mesh_authz::policy::{AllOf, Predicate, Rule, Values};

use crate::command::{Failure, note};
use crate::load::LoadedPolicy;
use crate::load::finding::Finding;

/// What the port of a policy is.
const MEANING: &str = "the port of a policy is the one on which the connection arrives: behind a Kubernetes Service, its \
                       targetPort, and not the port of the Service";

/// Fails if a policy looks at ports, and `given` is empty: then nobody has said which ports Envoy listens on. Also fails if
/// a rule is only for ports that are not among those given.
pub fn check(policies: &[&LoadedPolicy], given: &[u16]) -> Result<(), Failure> {
    let found: Vec<_> = if given.is_empty() {
        policies.iter().filter_map(|policy| not_given(policy)).collect()
    } else {
        policies.iter().flat_map(|policy| elsewhere(policy, given)).collect()
    };
    if found.is_empty() { Ok(()) } else { Err(Failure::Invalid(found)) }
}

/// Says which policies look at a port that comes from the header of the PROXY protocol.
pub fn say_of_proxy_protocol(policies: &[&LoadedPolicy]) {
    for resource in policies.iter().filter(|resource| resource.policy.predicates().any(|found| ports(found).is_some()))
    {
        note(&format!(
            "policy {}: looks at the port: with --proxy-protocol, that is the one on which the load balancer has accepted \
             the connection",
            resource.policy.name
        ));
    }
}

fn ports(predicate: &Predicate) -> Option<&Values<u16>> {
    match predicate {
        Predicate::DestinationPort(values) => Some(values),
        _ => None,
    }
}

/// The error that a policy looks at ports, and no address is given that Envoy listens on.
fn not_given(resource: &LoadedPolicy) -> Option<Finding> {
    let rules = resource.policy.rules.iter().enumerate();
    let (path, _) = rules.flat_map(|(number, rule)| places(rule, number)).next()?;
    let named: Vec<_> = resource.policy.predicates().filter_map(ports).collect();
    let all: BTreeSet<u16> = named.iter().flat_map(|values| values.any.iter().chain(&values.none)).copied().collect();
    let positive: BTreeSet<u16> = named.iter().flat_map(|values| &values.any).copied().collect();
    let message =
        format!("looks at {}, and without --listen, Envoy listens on 15006, which no policy means", listed(&all));
    let example = match options(&positive) {
        none if none.is_empty() => "--listen ADDRESS:PORT".to_owned(),
        options => options.join(" "),
    };
    let hint = format!("say which ports of the application Envoy listens on: {example}; {MEANING}");
    Some(error(resource, path, message, hint))
}

/// The rules that never match, because they are only for ports on which Envoy does not listen.
fn elsewhere(resource: &LoadedPolicy, given: &[u16]) -> Vec<Finding> {
    let rules = resource.policy.rules.iter().enumerate();
    let never_matches = |(number, rule): (usize, &Rule)| {
        let wanted = ports_of_rule(rule)?;
        // A rule that is for no port at all has nothing to do with Envoy.
        if wanted.is_empty() || given.iter().any(|port| wanted.contains(port)) {
            return None;
        }
        let (path, _) = places(rule, number).into_iter().find(|(_, values)| !values.any.is_empty())?;
        let given: BTreeSet<u16> = given.iter().copied().collect();
        let message = format!(
            "rule {number} never matches: it is for {} only, and Envoy listens on {}",
            listed(&wanted),
            listed(&given)
        );
        let hint = format!("also give {}, or correct the policy; {MEANING}", options(&wanted).join(" or "));
        Some(error(resource, path, message, hint))
    };
    rules.filter_map(never_matches).collect()
}

/// The places of a rule that look at the port, with the ports that they name.
fn places(rule: &Rule, number: usize) -> Vec<(Path, &Values<u16>)> {
    let mut found = Vec::new();
    for (clause, all) in rule.clauses() {
        for (field, predicate) in all.0.iter().enumerate() {
            if let Some(values) = ports(predicate) {
                found.push((predicate.path(number, clause, field, values.any.is_empty()), values));
            }
        }
    }
    found
}

/// The ports that a rule is only for. `None` if it does not name them: it is for all ports, or for all but some.
fn ports_of_rule(rule: &Rule) -> Option<BTreeSet<u16>> {
    let operations = rule.to.iter().flat_map(|to| &to.0);
    // If one operation does not name ports, all of them together do not.
    let of_operations = operations.map(ports_of_clause).collect::<Option<Vec<_>>>().filter(|found| !found.is_empty());
    let of_operations = of_operations.map(|found| found.into_iter().flatten().collect());
    both(of_operations, ports_of_clause(&rule.when))
}

/// The ports that an operation or the conditions are only for.
fn ports_of_clause(all: &AllOf<Predicate>) -> Option<BTreeSet<u16>> {
    let named = all.0.iter().filter_map(ports).filter(|values| !values.any.is_empty());
    named.map(|values| Some(values.any.iter().copied().collect())).fold(None, both)
}

/// What is in both sets, where `None` is the set of all ports.
fn both(one: Option<BTreeSet<u16>>, other: Option<BTreeSet<u16>>) -> Option<BTreeSet<u16>> {
    match (one, other) {
        (Some(one), Some(other)) => Some(&one & &other),
        (one, other) => one.or(other),
    }
}

fn options(ports: &BTreeSet<u16>) -> Vec<String> {
    ports.iter().map(|port| format!("--listen ADDRESS:{port}")).collect()
}

fn listed(ports: &BTreeSet<u16>) -> String {
    let word = if ports.len() == 1 { "port" } else { "ports" };
    let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
    format!("{word} {}", ports.join(", "))
}

fn error(resource: &LoadedPolicy, path: Path, message: String, hint: String) -> Finding {
    let policy = Some(resource.policy.name.to_string());
    let diagnostic = Diagnostic { policy, path, message, hint: Some(hint), ..Diagnostic::default() };
    Finding::error(&resource.source, &resource.node, diagnostic)
}
