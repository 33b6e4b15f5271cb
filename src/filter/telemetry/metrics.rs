//! Counters and gauges, on Envoy's `/stats` with `wasmcustom.` before their names.
//!
//! They are defined when a configuration is accepted, those of each policy that applies among them, so that a policy that
//! has never matched is a zero and not a gap. A call to the host for each counter that a request moves would be a twentieth
//! of what the whole filter costs; so requests are counted here, and the host is told once a second.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;

use crate::engine::{Decision, DryRunResult, RuleId, Verdict};
use crate::policy::PolicyName;

/// What a metric holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// A number that grows.
    Counter,
    /// A number that is set.
    Gauge,
}

/// A metric, as the host numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric(pub u32);

/// Where metrics are kept.
pub trait Metrics {
    /// The metric of this name, new or not; `None` if the host has none to give.
    fn define(&self, kind: MetricKind, name: &str) -> Option<Metric>;
    /// Counts so many more.
    fn add(&self, counter: Metric, more: u32);
    /// Sets a gauge.
    fn record(&self, gauge: Metric, value: u64);
}

/// What decisions are counted by.
#[derive(Debug)]
pub(crate) struct Counters {
    /// Those of [`TOTALS`], and behind them one for each policy, by
    /// [`RuleId::policy_number`](crate::engine::RuleId::policy_number).
    all: Box<[Counter]>,
    /// The positions of those that have something to tell.
    moved: RefCell<Vec<usize>>,
}

#[derive(Debug)]
struct Counter {
    metric: Option<Metric>,
    /// What the host does not know of yet.
    more: Cell<u32>,
}

/// The counters that are not a policy's, in the order of their positions.
const TOTALS: [&str; 8] = [
    "mesh_authz.allowed",
    "mesh_authz.denied",
    "mesh_authz.dry_run_allow.allowed",
    "mesh_authz.dry_run_allow.denied",
    "mesh_authz.dry_run_deny.allowed",
    "mesh_authz.dry_run_deny.denied",
    "mesh_authz.audited",
    "mesh_authz.unreadable_attribute",
];
const DECIDED: usize = 0;
const DRY_RUN_ALLOW: usize = 2;
const DRY_RUN_DENY: usize = 4;
const AUDITED: usize = 6;
const UNREADABLE: usize = 7;

impl Counters {
    /// Defines the counters, one for each of the policies among them.
    pub fn define<'p>(host: &impl Metrics, policies: impl Iterator<Item = &'p PolicyName>) -> Self {
        let mut all: Vec<Counter> = Vec::with_capacity(policies.size_hint().0.saturating_add(TOTALS.len()));
        let mut define = |name: &str| {
            all.push(Counter { metric: host.define(MetricKind::Counter, name), more: Cell::new(0) });
        };
        TOTALS.into_iter().for_each(&mut define);
        let mut text = String::new();
        for PolicyName { namespace, name } in policies {
            text.clear();
            // No namespace has a dot in it. A name may: it is whatever stands between the namespace and the last word.
            let _infallible = write!(text, "mesh_authz.policy.{namespace}.{name}.matched");
            define(&text);
        }
        Self { all: all.into(), moved: RefCell::default() }
    }

    /// Counts a decision: what was decided, and every policy that had a part in it or would have had.
    pub fn count(&self, decision: &Decision<'_>) {
        let Decision { outcome, dry_run, audited, unreadable } = decision;
        self.count_verdict(DECIDED, outcome.verdict());
        self.count_rule(outcome.rule());
        for (first, result) in [(DRY_RUN_ALLOW, dry_run.allow), (DRY_RUN_DENY, dry_run.deny)] {
            if let Some(DryRunResult { verdict, rule }) = result {
                self.count_verdict(first, verdict);
                self.count_rule(rule);
            }
        }
        if audited.is_some() {
            self.one_more(AUDITED);
            self.count_rule(*audited);
        }
        if unreadable.is_some() {
            self.one_more(UNREADABLE);
        }
    }

    fn count_verdict(&self, first: usize, verdict: Verdict) {
        self.one_more(match verdict {
            Verdict::Allow => first,
            Verdict::Deny => first.saturating_add(1),
        });
    }

    fn count_rule(&self, rule: Option<&RuleId>) {
        let policy = rule.and_then(|rule| usize::try_from(rule.policy_number()).ok());
        if let Some(policy) = policy {
            self.one_more(TOTALS.len().saturating_add(policy));
        }
    }

    fn one_more(&self, position: usize) {
        let Some(Counter { more, .. }) = self.all.get(position) else { return };
        if more.get() == 0
            && let Ok(mut moved) = self.moved.try_borrow_mut()
        {
            moved.push(position);
        }
        more.set(more.get().saturating_add(1));
    }

    /// Tells the host what it does not know yet.
    pub fn flush(&self, host: &impl Metrics) {
        let mut moved = self.moved.take();
        for position in moved.drain(..) {
            let Some(Counter { metric, more }) = self.all.get(position) else { continue };
            let more = more.take();
            if let Some(metric) = metric {
                host.add(*metric, more);
            }
        }
        // Its room is used again.
        self.moved.replace(moved);
    }
}

/// Says which configuration is in force.
pub(crate) fn record_configuration(host: &impl Metrics, policies: usize, rules: usize, hash: u64) {
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let values = [
        ("mesh_authz.config.policies", count(policies)),
        ("mesh_authz.config.rules", count(rules)),
        ("mesh_authz.config.hash", hash),
    ];
    for (name, value) in values {
        if let Some(gauge) = host.define(MetricKind::Gauge, name) {
            host.record(gauge, value);
        }
    }
}
