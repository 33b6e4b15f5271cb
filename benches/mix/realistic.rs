//! Policies like those of a service with many callers.
//!
//! | share | a rule names |
//! | --- | --- |
//! | 60% | a principal, a method, an exact path; three rules per path |
//! | 20% | a namespace, a prefix of the path |
//! | 10% | a method, a template of the path |
//! | 5% | a CIDR block, and nothing else |
//! | 2.5% | the value of a header, and nothing else |
//! | 2.5% | the value of a claim, and nothing else |
//!
//! The kinds alternate, so ten rules have almost these proportions, and forty rules have exactly these. The first rule
//! is of the first kind.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::{Call, Set, allow, from_to};

/// The largest number of different requests for each outcome. They are spread over the rules.
const REQUESTS: usize = 200;

const SERVICE_ACCOUNTS: usize = 20;
const NAMESPACES: usize = 5;

/// The methods that rules name. No rule names DELETE.
const METHODS: [&str; 3] = ["GET", "POST", "PUT"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Principal,
    Namespace,
    Template,
    Cidr,
    Header,
    Claim,
}

const ALTERNATING: [Kind; 20] = {
    use Kind::{Cidr, Header, Namespace as N, Principal as P, Template as T};
    // In every second turn, `Claim` replaces `Header`.
    [P, N, P, T, P, P, N, P, Cidr, P, P, N, P, P, T, P, N, P, P, Header]
};

/// A rule: the `nth` of its kind, counted from 0.
#[derive(Clone, Copy, Debug)]
struct Rule {
    kind: Kind,
    nth: usize,
}

/// The mix, with this many rules.
pub fn realistic(rules: usize) -> Set {
    let rules = mix(rules);
    let chosen = spread_over(&rules);
    Set {
        name: "realistic mix",
        policies: rules.iter().enumerate().map(|(number, rule)| allow(number, &rule.json())).collect(),
        allowed: chosen.iter().map(|rule| rule.matching()).collect(),
        denied: (0..REQUESTS).zip(chosen.iter().cycle()).map(|(turn, rule)| rule.near_miss(turn)).collect(),
    }
}

fn mix(rules: usize) -> Vec<Rule> {
    let mut counts = [0; 6];
    (0..rules)
        .zip(ALTERNATING.iter().cycle())
        .map(|(number, kind)| {
            let second_turn = (number / ALTERNATING.len()) % 2 == 1;
            let kind = if *kind == Kind::Header && second_turn { Kind::Claim } else { *kind };
            let count = counts.get_mut(kind as usize).map_or(0, |count| {
                *count += 1;
                *count
            });
            Rule { kind, nth: count - 1 }
        })
        .collect()
}

/// Rules of every kind, in the proportions of the mix, evenly spread from the first to the last.
fn spread_over(rules: &[Rule]) -> Vec<Rule> {
    let mut sorted = rules.to_vec();
    sorted.sort_by_key(|rule| (rule.kind as usize, rule.nth));
    let count = rules.len().min(REQUESTS);
    (0..count).filter_map(|i| sorted.get(i * rules.len() / count).copied()).collect()
}

fn principal(number: usize) -> String {
    let number = number % SERVICE_ACCOUNTS;
    format!("cluster.local/ns/{}/sa/service-{number}", namespace(number))
}

fn namespace(number: usize) -> String {
    format!("team-{}", number % NAMESPACES)
}

/// An address in one of the blocks 127.16.0.0/24, 127.16.1.0/24, and so on. A client on this machine can have an
/// address in any of them.
fn address(block: usize, host: u32) -> Ipv4Addr {
    let block = u32::try_from(block).unwrap_or(u32::MAX);
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 16, 0, host_octet(host)).to_bits() + (block << 8))
}

fn host_octet(host: u32) -> u8 {
    u8::try_from(host % 256).unwrap_or_default()
}

impl Rule {
    fn json(self) -> Value {
        let Self { kind, nth } = self;
        match kind {
            Kind::Principal => from_to(
                &json!({ "principals": [self.principal()] }),
                &json!({ "methods": [self.method()], "paths": [self.path()] }),
            ),
            Kind::Namespace => {
                from_to(&json!({ "namespaces": [namespace(nth)] }), &json!({ "paths": [format!("/files/{nth}/*")] }))
            }
            Kind::Template => {
                let template = format!("/stores-{}/{{*}}/orders-{}/{{**}}", nth % 25, nth / 25);
                json!({ "to": [{ "operation": { "methods": ["GET"], "paths": [template] } }] })
            }
            Kind::Cidr => json!({ "from": [{ "source": { "ipBlocks": [format!("{}/24", address(nth, 0))] } }] }),
            Kind::Header => json!({ "when": [{
                "key": "request.headers[x-tenant]", "values": [format!("tenant-{nth}")],
            }] }),
            Kind::Claim => json!({ "when": [{
                "key": "request.auth.claims[groups]", "values": [format!("group-{nth}")],
            }] }),
        }
    }

    /// A request that this rule matches and no other rule does.
    fn matching(self) -> Call {
        let Self { kind, nth } = self;
        match kind {
            Kind::Principal => Call::new(self.principal(), self.method(), self.path()),
            Kind::Namespace => Call::new(principal(nth), "GET", format!("/files/{nth}/2025/report.pdf")),
            Kind::Template => {
                Call::new(principal(nth), "GET", format!("/stores-{}/berlin/orders-{}/4711", nth % 25, nth / 25))
            }
            Kind::Cidr => Call::new(principal(nth), "GET", "/status").at(address(nth, 9)),
            Kind::Header => {
                Call::new(principal(nth), "GET", "/reports/today").header("x-tenant", format!("tenant-{nth}"))
            }
            Kind::Claim => Call::new(principal(nth), "GET", "/reports/today").group(&format!("group-{nth}")),
        }
    }

    /// A request that this rule almost matches. No other rule matches it either. The difference changes with each turn.
    fn near_miss(self, turn: usize) -> Call {
        let Self { kind, nth } = self;
        let call = self.matching();
        match (kind, turn % 3) {
            (Kind::Principal, 0) => Call { path: format!("{}/history", call.path), ..call },
            (Kind::Principal, 1) | (Kind::Template, 0 | 1) => Call { method: "DELETE", ..call },
            // The other rules with this path have other methods.
            (Kind::Principal, _) => Call { principal: "cluster.local/ns/team-0/sa/stranger".to_owned(), ..call },
            (Kind::Namespace, 0 | 1) => Call { path: format!("/files/{nth}"), ..call },
            (Kind::Namespace, _) => Call { principal: principal(nth + 1), ..call },
            (Kind::Template, _) => Call { path: call.path.replace("orders", "returns"), ..call },
            (Kind::Cidr, _) => Call { principal: principal(0), ..call }.at(Ipv4Addr::new(127, 200, 0, 9)),
            (Kind::Header, _) => Call { headers: Vec::new(), ..call }.header("x-tenant", "tenant-unknown"),
            (Kind::Claim, _) => call.group("group-unknown"),
        }
    }

    fn principal(self) -> String {
        principal(self.nth * 7)
    }

    fn method(self) -> &'static str {
        METHODS.get(self.nth % METHODS.len()).copied().unwrap_or("GET")
    }

    fn path(self) -> String {
        format!("/api/v1/orders/{}", self.nth / METHODS.len())
    }
}
