//! The form of a policy for TCP is the policy without what only HTTP has.

use std::net::IpAddr;

use mesh_authz::attribute::Attribute;
use mesh_authz::engine::{Engine, Options};
use mesh_authz::policy::{Action, AllOf, AuthorizationPolicy, Predicate, Rule, Traffic, Values};
use mesh_authz::request::{Address, Attributes, ConnectionText, HeaderValues, Lookup, Metadata, PeerName, Request};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::cases;
use crate::policies::{BOTH, options, read, several};
use crate::requests::partly_readable;

/// Written down again, and not with the code of the project: what only HTTP has.
fn is_of_http(predicate: &Predicate) -> bool {
    matches!(
        predicate,
        Predicate::RequestPrincipal(_)
            | Predicate::Host(_)
            | Predicate::Method(_)
            | Predicate::Path(_)
            | Predicate::Header { .. }
            | Predicate::Claim { .. }
    )
}

/// The policy that means over HTTP what this one means over TCP.
fn form(policy: &AuthorizationPolicy) -> AuthorizationPolicy {
    let never = || Rule {
        when: AllOf(vec![Predicate::DestinationPort(Values { any: vec![0], none: vec![0] })]),
        ..Rule::default()
    };
    let without = |rule: &Rule| {
        let mut rule = rule.clone();
        let groups = rule.from.iter_mut().flat_map(|from| &mut from.0);
        let groups = groups.chain(rule.to.iter_mut().flat_map(|to| &mut to.0)).chain([&mut rule.when]);
        groups.for_each(|AllOf(predicates)| predicates.retain(|predicate| !is_of_http(predicate)));
        rule
    };
    let rule = |rule: &Rule| match policy.action {
        // The other rules keep their positions.
        Action::Allow if rule.clauses().any(|(_, all)| all.0.iter().any(is_of_http)) => never(),
        _ => without(rule),
    };
    AuthorizationPolicy { rules: policy.rules.iter().map(rule).collect(), ..policy.clone() }
}

/// A connection: it has no headers.
struct Connection<'r>(&'r Request);

impl Attributes for Connection<'_> {
    fn peer_name(&self, which: PeerName) -> Lookup<&[u8]> {
        Attributes::peer_name(self.0, which)
    }

    fn address(&self, which: Address) -> Lookup<IpAddr> {
        Attributes::address(self.0, which)
    }

    fn destination_port(&self) -> Lookup<u16> {
        Attributes::destination_port(self.0)
    }

    fn text(&self, which: ConnectionText) -> Lookup<&[u8]> {
        Attributes::text(self.0, which)
    }

    fn header<'a>(&'a self, name: &'a [u8]) -> Lookup<HeaderValues<'a>> {
        panic!("{} is read", name.escape_ascii())
    }

    fn metadata(&self) -> Lookup<Metadata<'_>> {
        Attributes::metadata(self.0)
    }
}

#[test]
fn over_tcp_a_policy_decides_as_without_what_only_http_has() {
    TestRunner::new(cases(800))
        .run(&(several(), proptest::collection::vec(partly_readable(), 1..6)), |(policies, requests)| {
            let policies: Vec<_> = policies.iter().map(read).collect();
            let forms: Vec<_> = policies.iter().map(form).collect();
            for combining in BOTH {
                let over_http = options(combining);
                let over_tcp = Options { traffic: Traffic::Tcp, ..over_http.clone() };
                let (tcp, scan) = (Engine::new(&policies, &over_tcp), Engine::without_index(&policies, &over_tcp));
                let expected = Engine::new(&forms, &over_http);
                for facts in &requests {
                    let request = facts.request();
                    let connection = Connection(&request);
                    let decision = tcp.decide(&connection);
                    prop_assert_eq!(decision, scan.decide(&connection), "the index");
                    let expected = expected.decide(&request);
                    prop_assert_eq!(decision.outcome, expected.outcome);
                    prop_assert_eq!(decision.audited, expected.audited);
                }
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn every_attribute_is_of_http_or_of_connections_as_istio_says() {
    let of_http = [
        Attribute::RequestPrincipal,
        Attribute::Header,
        Attribute::Claim,
        Attribute::Host,
        Attribute::Method,
        Attribute::Path,
    ];
    for attribute in Attribute::ALL {
        assert_eq!(attribute.is_http_only(), of_http.contains(attribute), "{attribute:?}");
    }
}
