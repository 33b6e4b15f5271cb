//! The methods that a rule takes, as bits: what most often excludes a rule, without a look at the rule itself.

use super::compile::{Check, CompiledRule, Expected, Test, Text};
use super::evaluate::Evaluation;
use crate::matcher::{Pattern, Polarity};
use crate::request::{Attributes, Lookup};

/// A set of methods. The common ones have a bit each, all others share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Methods(pub u8);

impl Methods {
    pub(super) const ALL: Self = Self(u8::MAX);
    const NONE: Self = Self(0);

    fn of(method: &[u8]) -> Self {
        Self(match method {
            b"GET" => 1,
            b"POST" => 1 << 1,
            b"PUT" => 1 << 2,
            b"DELETE" => 1 << 3,
            b"PATCH" => 1 << 4,
            b"HEAD" => 1 << 5,
            b"OPTIONS" => 1 << 6,
            _ => 1 << 7,
        })
    }

    fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn in_both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The methods that the rule takes, and perhaps more. With any other single method, it does not match, and nothing
    /// unreadable changes that.
    pub(super) fn of_rule(rule: &CompiledRule) -> Self {
        let of_group = |tests: &[Test]| tests.iter().map(of_test).fold(Self::ALL, Self::in_both);
        let of_operation =
            |groups: &[Box<[Test]>]| groups.iter().map(|group| of_group(group)).fold(Self::NONE, Self::or);
        rule.to.as_deref().map_or(Self::ALL, of_operation).in_both(of_group(&rule.when))
    }

    /// The method of the request. All methods if it is unreadable, or if there are several: each test of a rule may
    /// look at another one.
    pub(super) fn of_request<A: Attributes>(request: &Evaluation<'_, A>) -> Self {
        let (mut found, mut count) = (Self::NONE, 0_u32);
        let seen = request.header(b":method", Polarity::Denies, &mut |method| {
            found = Self::of(method);
            count = count.saturating_add(1);
            false
        });
        match seen {
            Lookup::Value(false) | Lookup::Absent if count <= 1 => found,
            _ => Self::ALL,
        }
    }

    /// Whether a rule for these methods can match a request with this method.
    pub(super) fn can_match(self, rule: Self) -> bool {
        // A rule can contradict itself, and take no method at all.
        self == Self::ALL || self.0 & rule.0 != 0
    }
}

fn of_test(test: &Test) -> Methods {
    match &test.check {
        Check::Text(Text::Header(name), patterns) if **name == *b":method" && test.expected == Expected::Match => {
            let of_pattern = |pattern: &Pattern| match pattern {
                Pattern::Exact(method) => Methods::of(method),
                Pattern::Present | Pattern::NonEmpty(_) | Pattern::Prefix(_) | Pattern::Suffix(_) => Methods::ALL,
            };
            patterns.iter().map(of_pattern).fold(Methods::NONE, Methods::or)
        }
        _ => Methods::ALL,
    }
}
