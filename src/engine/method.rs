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

    fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn in_both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The methods that the rule takes, and perhaps more. With any other method, it does not match, and nothing unreadable
    /// changes that.
    pub(super) fn of_rule(rule: &CompiledRule) -> Self {
        let of_group = |tests: &[Test]| tests.iter().map(of_test).fold(Self::ALL, Self::in_both);
        let of_operation =
            |groups: &[Box<[Test]>]| groups.iter().map(|group| of_group(group)).fold(Self::NONE, Self::and);
        rule.to.as_deref().map_or(Self::ALL, of_operation).in_both(of_group(&rule.when))
    }

    /// The method of the request. If it is unreadable, all methods.
    pub(super) fn of_request<A: Attributes>(request: &Evaluation<'_, A>) -> Self {
        let mut found = Self::NONE;
        let seen = request.header(b":method", Polarity::Denies, &mut |method| {
            found = found.and(Self::of(method));
            false
        });
        match seen {
            Lookup::Value(false) | Lookup::Absent => found,
            Lookup::Value(true) | Lookup::Unreadable => Self::ALL,
        }
    }
}

fn of_test(test: &Test) -> Methods {
    match &test.check {
        Check::Text(Text::Header(name), patterns) if **name == *b":method" && test.expected == Expected::Match => {
            let of_pattern = |pattern: &Pattern| match pattern {
                Pattern::Exact(method) => Methods::of(method),
                Pattern::Present | Pattern::NonEmpty(_) | Pattern::Prefix(_) | Pattern::Suffix(_) => Methods::ALL,
            };
            patterns.iter().map(of_pattern).fold(Methods::NONE, Methods::and)
        }
        _ => Methods::ALL,
    }
}
