//! An explanation agrees with the decision, and the condition that it names really fails.

use std::cell::Cell;

use mesh_authz::analysis;
use mesh_authz::engine::explain::Trace;
use mesh_authz::engine::{AllowReason, Combining, DenyReason, Engine, Outcome, RuleId};
use mesh_authz::policy::{Action, AllOf, AnyOf, AuthorizationPolicy, Clause, Predicate, Rule, Values};
use mesh_authz::request::Request;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;

use crate::cases;
use crate::policies::{BOTH, options, read, several};
use crate::requests::partly_readable;

/// The first matching rule of an action in an explanation.
fn first<'e>(traces: &[Trace<'e>], action: Action) -> Option<&'e str> {
    let matches = traces.iter().find(|trace| trace.action == action && !trace.dry_run && trace.miss.is_none());
    matches.map(|trace| trace.rule.as_str())
}

#[test]
fn an_explanation_agrees_with_the_decision() {
    let strategy = (several(), vec(partly_readable(), 20), select(&BOTH[..]));
    TestRunner::new(cases(400))
        .run(&strategy, |(policies, requests, combining)| {
            let policies: Vec<_> = policies.iter().map(read).collect();
            let engine = Engine::new(&policies, &options(combining));
            for facts in requests {
                let request = facts.request();
                let (decision, traces) = (engine.decide(&request), engine.explain(&request));
                prop_assert!(traces.iter().all(|trace| trace.matches == trace.miss.is_none()));
                let [allow, deny, audit] =
                    [Action::Allow, Action::Deny, Action::Audit].map(|action| first(&traces, action));
                let expected = match combining {
                    Combining::DenyOverrides => deny.or(allow),
                    Combining::PermitOverrides => allow.or(deny),
                };
                if let Outcome::Allowed(AllowReason::Rule(rule)) | Outcome::Denied(DenyReason::Rule(rule)) =
                    decision.outcome
                {
                    prop_assert_eq!(Some(rule.as_str()), expected);
                } else {
                    prop_assert_eq!(None, expected);
                }
                prop_assert_eq!(decision.audited.map(RuleId::as_str), audit);
            }
            Ok(())
        })
        .unwrap();
}

/// A copy of a predicate with only its values, or only its `not` values.
fn only(predicate: &Predicate, is_not: bool) -> Predicate {
    fn keep<T: Clone>(values: &Values<T>, is_not: bool) -> Values<T> {
        let Values { any, none } = values.clone();
        if is_not { Values { any: Vec::new(), none } } else { Values { any, none: Vec::new() } }
    }
    match predicate {
        Predicate::Principal(values) => Predicate::Principal(keep(values, is_not)),
        Predicate::RequestPrincipal(values) => Predicate::RequestPrincipal(keep(values, is_not)),
        Predicate::ServiceAccount(values) => Predicate::ServiceAccount(keep(values, is_not)),
        Predicate::TrustDomain(values) => Predicate::TrustDomain(keep(values, is_not)),
        Predicate::Namespace(values) => Predicate::Namespace(keep(values, is_not)),
        Predicate::RemoteIp(values) => Predicate::RemoteIp(keep(values, is_not)),
        Predicate::SourceIp(values) => Predicate::SourceIp(keep(values, is_not)),
        Predicate::Host(values) => Predicate::Host(keep(values, is_not)),
        Predicate::Method(values) => Predicate::Method(keep(values, is_not)),
        Predicate::Path(values) => Predicate::Path(keep(values, is_not)),
        Predicate::DestinationPort(values) => Predicate::DestinationPort(keep(values, is_not)),
        Predicate::DestinationIp(values) => Predicate::DestinationIp(keep(values, is_not)),
        Predicate::Sni(values) => Predicate::Sni(keep(values, is_not)),
        Predicate::Header { name, values } => Predicate::Header { name: name.clone(), values: keep(values, is_not) },
        Predicate::Claim { path, values } => Predicate::Claim { path: path.clone(), values: keep(values, is_not) },
        Predicate::Metadata { filter, key, values } => {
            Predicate::Metadata { filter: filter.clone(), key: key.clone(), values: keep(values, is_not) }
        }
    }
}

/// A copy of the policy with a single rule, which has only this predicate.
fn alone(policy: &AuthorizationPolicy, clause: Clause, predicate: Predicate) -> AuthorizationPolicy {
    let all = AllOf(vec![predicate]);
    let rule = match clause {
        Clause::From(_) => Rule { from: Some(AnyOf(vec![all])), ..Rule::default() },
        Clause::To(_) => Rule { to: Some(AnyOf(vec![all])), ..Rule::default() },
        Clause::When => Rule { when: all, ..Rule::default() },
    };
    AuthorizationPolicy { rules: vec![rule], ..policy.clone() }
}

fn matches(policy: &AuthorizationPolicy, request: &Request) -> bool {
    analysis::rules(policy, &options(Combining::DenyOverrides)).iter().any(|rule| rule.matches(request))
}

#[test]
fn the_condition_that_is_named_does_fail() {
    let named = Cell::new(0);
    TestRunner::new(cases(300))
        .run(&(several(), vec(partly_readable(), 10)), |(policies, requests)| {
            let policies: Vec<_> = policies.iter().map(read).collect();
            let engine = Engine::new(&policies, &options(Combining::DenyOverrides));
            for facts in requests {
                let request = facts.request();
                for Trace { rule, miss, .. } in engine.explain(&request) {
                    let Some(miss) = miss else { continue };
                    let policy = policies.iter().find(|policy| policy.name == *rule.policy).unwrap();
                    let predicate = &policy.rules[rule.index].clause(miss.clause).unwrap().0[miss.field];
                    let alone = alone(policy, miss.clause, only(predicate, miss.is_not));
                    prop_assert!(!matches(&alone, &request), "{rule} {miss:?} {facts:?}");
                    prop_assert!(miss.distance >= 1);
                    named.set(named.get() + 1);
                }
            }
            Ok(())
        })
        .unwrap();
    assert!(named.get() > 10_000, "{}", named.get());
}
