//! Counters and gauges. Envoy's `/stats` shows them with `wasmcustom.` before their names.
//!
//! They are defined when a configuration is accepted, including one counter for each policy that applies. So a policy
//! that has never matched is a zero and not a gap.
//!
//! A host call for each counter that a request changes would cost a twentieth of what the whole filter costs. So
//! requests are counted here, and the host is told once a second.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;

use crate::engine::{Decision, DryRunResult, RuleId, Verdict};
use crate::policy::PolicyName;

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// A number that grows.
    Counter,
    /// A number that is set.
    Gauge,
}

/// The number that the host has for a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric(pub u32);

/// The metrics of the host.
pub trait Metrics {
    /// The metric with this name, new or existing. `None` if the host cannot provide one.
    fn define(&self, kind: MetricKind, name: &str) -> Option<Metric>;
    /// Adds `more` to a counter.
    fn add(&self, counter: Metric, more: u32);
    /// Sets a gauge to a value.
    fn record(&self, gauge: Metric, value: u64);
}

/// The counters for decisions.
#[derive(Debug)]
pub(crate) struct Counters {
    /// The counters of [`TOTALS`], followed by one for each policy, by
    /// [`RuleId::policy_number`](crate::engine::RuleId::policy_number).
    all: Box<[Counter]>,
    /// The positions of the counters that have changed since the last flush.
    moved: RefCell<Vec<usize>>,
}

#[derive(Debug)]
struct Counter {
    metric: Option<Metric>,
    /// What was counted since the last flush. The host does not know it yet.
    more: Cell<u32>,
}

/// The counters that do not belong to a policy, in the order of their positions.
const TOTALS: [&str; 9] = [
    "mesh_authz.allowed",
    "mesh_authz.denied",
    "mesh_authz.dry_run_allow.allowed",
    "mesh_authz.dry_run_allow.denied",
    "mesh_authz.dry_run_deny.allowed",
    "mesh_authz.dry_run_deny.denied",
    "mesh_authz.audited",
    "mesh_authz.unreadable_attribute",
    "mesh_authz.unnormalized_path",
];
const DECIDED: usize = 0;
const DRY_RUN_ALLOW: usize = 2;
const DRY_RUN_DENY: usize = 4;
const AUDITED: usize = 6;
const UNREADABLE: usize = 7;
const UNNORMALIZED_PATH: usize = 8;

impl Counters {
    /// Defines all counters, including one for each of these policies.
    pub fn define<'p>(host: &impl Metrics, policies: impl Iterator<Item = &'p PolicyName>) -> Self {
        let mut all: Vec<Counter> = Vec::with_capacity(policies.size_hint().0.saturating_add(TOTALS.len()));
        let mut define = |name: &str| {
            all.push(Counter { metric: host.define(MetricKind::Counter, name), more: Cell::new(0) });
        };
        TOTALS.into_iter().for_each(&mut define);
        let mut text = String::new();
        for PolicyName { namespace, name } in policies {
            text.clear();
            // A namespace has no dot in it, but a name may have one. The name is everything between the namespace and
            // the last word.
            let _infallible = write!(text, "mesh_authz.policy.{namespace}.{name}.matched");
            define(&text);
        }
        Self { all: all.into(), moved: RefCell::default() }
    }

    /// Counts a decision: the verdict, and every policy that took part in it or would have taken part.
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

    /// Counts a path that Envoy has not normalized.
    pub(crate) fn count_unnormalized_path(&self) {
        self.one_more(UNNORMALIZED_PATH);
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

    /// Reports to the host what was counted since the last flush.
    pub fn flush(&self, host: &impl Metrics) {
        let mut moved = self.moved.take();
        for position in moved.drain(..) {
            let Some(Counter { metric, more }) = self.all.get(position) else { continue };
            let more = more.take();
            if let Some(metric) = metric {
                host.add(*metric, more);
            }
        }
        // Keep its memory for the next counts.
        self.moved.replace(moved);
    }
}

/// What the gauges say about the configuration that decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfigSummary {
    /// How many policies apply to the workload.
    pub policies: u64,
    /// How many rules these policies have.
    pub rules: u64,
    /// A hash of the configuration; 0 if there is none.
    pub hash: u64,
}

impl ConfigSummary {
    /// Sets the gauges. `plugin`: the name of the plugin, if there are several in the virtual machine, which must not
    /// overwrite each other's gauges. `is_refused`: the last configuration was refused, and another one, or none,
    /// decides.
    pub fn publish(&self, plugin: Option<&str>, is_refused: bool, host: &impl Metrics) {
        let prefix = match plugin {
            None => "mesh_authz.config".to_owned(),
            Some(plugin) => format!("mesh_authz.instance.{plugin}.config"),
        };
        let set = |name: &str, value| {
            if let Some(gauge) = host.define(MetricKind::Gauge, name) {
                host.record(gauge, value);
            }
        };
        let Self { policies, rules, hash } = *self;
        for (name, value) in
            [("policies", policies), ("rules", rules), ("hash", hash), ("refused", u64::from(is_refused))]
        {
            set(&format!("{prefix}.{name}"), value);
        }
        set("mesh_authz.version", version());
    }
}

/// The version as a number: 1.2.3 is 1002003.
fn version() -> u64 {
    let parts = [env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"), env!("CARGO_PKG_VERSION_PATCH")];
    let numbers = parts.into_iter().map(|part| part.parse::<u64>().unwrap_or_default());
    numbers.fold(0, |version, number| version.saturating_mul(1_000).saturating_add(number))
}
