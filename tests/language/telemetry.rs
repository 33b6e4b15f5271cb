//! What the filter reports about decisions: how often it logs, and which calls to the host this needs.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use log::{LevelFilter, Log, Metadata, Record};
use mesh_authz::config::NodeMetadata;
use mesh_authz::filter::telemetry::limiter::{Limiter, TimeShare};
use mesh_authz::filter::telemetry::metrics::{ConfigSummary, Metric, MetricKind, Metrics};
use mesh_authz::filter::{Host, Plugin, Reply, Telemetry};
use mesh_authz::request::{Headers, Lookup};
use serde_json::{Value, json};

const SECOND: u64 = 1_000_000_000;

#[test]
fn a_limiter_lets_a_seconds_worth_through_at_once_and_then_as_many_as_come_evenly() {
    let limiter = Limiter::per_second(10);
    let start = 5 * SECOND;
    let through = |now: u64, of: usize| (0..of).filter(|_| limiter.admits(now)).count();
    assert_eq!(through(start, 100), 10);
    assert_eq!(through(start + SECOND / 10, 100), 1);
    assert_eq!(through(start + SECOND / 2, 100), 4);
    assert_eq!(through(start + 60 * SECOND, 100), 10, "no more is saved up than a second's worth");
    assert_eq!(through(start, 100), 10, "a clock that was set back starts anew");
    assert_eq!((0..1_000).filter(|n| limiter.admits(start + 9 * SECOND + n * SECOND / 100)).count(), 10 + 99);
}

#[test]
fn a_limiter_may_take_longer_than_a_second() {
    let limiter = Limiter::every(3 * SECOND);
    let through: Vec<_> = (10..20).filter(|second| limiter.admits(second * SECOND)).collect();
    assert_eq!(through, [10, 13, 16, 19]);
    assert!(Limiter::every(0).admits(0));
}

/// A host that provides almost no attributes and records what the filter reports.
#[derive(Default)]
pub struct Recorder {
    now: Cell<u64>,
    defines_nothing: bool,
    names: RefCell<Vec<String>>,
    counts: RefCell<BTreeMap<String, u64>>,
    states: RefCell<Vec<String>>,
    times_asked: Cell<usize>,
    /// How much later it is after each question about the time.
    step: Cell<u64>,
}

thread_local! {
    /// The lines that the test in this thread has logged.
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    /// The lowest level that is logged in this thread.
    static LEVEL: Cell<LevelFilter> = const { Cell::new(LevelFilter::Info) };
}

/// A logger that keeps the lines of each test apart. Each test runs in a thread of its own.
struct ThreadLog;

impl Log for ThreadLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= LEVEL.get()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            LINES.with_borrow_mut(|lines| lines.push(record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

fn lines() -> Vec<String> {
    LINES.with_borrow(Vec::clone)
}

impl Host for Recorder {
    fn property(&self, _: &str) -> Lookup<Vec<u8>> {
        Lookup::Absent
    }

    fn request_headers(&self) -> Lookup<Vec<u8>> {
        Lookup::Value(Headers::encode(&[(":method", "GET"), (":path", "/a")]))
    }

    fn respond(&self, _: &Reply, _: &str) {}
}

impl Telemetry for Recorder {
    fn now(&self) -> u64 {
        self.times_asked.update(|times| times + 1);
        self.now.replace(self.now.get() + self.step.get())
    }

    fn set_filter_state(&self, name: &str, value: &str) {
        assert_eq!(name, "mesh_authz");
        self.states.borrow_mut().push(value.to_owned());
    }
}

impl Metrics for Recorder {
    fn define(&self, _: MetricKind, name: &str) -> Option<Metric> {
        let mut names = self.names.borrow_mut();
        names.push(name.to_owned());
        (!self.defines_nothing).then(|| Metric(u32::try_from(names.len()).unwrap() - 1))
    }

    fn add(&self, Metric(number): Metric, more: u32) {
        let name = self.names.borrow()[usize::try_from(number).unwrap()].clone();
        *self.counts.borrow_mut().entry(name).or_default() += u64::from(more);
    }

    fn record(&self, metric: Metric, value: u64) {
        self.add(metric, u32::try_from(value & 0xff).unwrap());
    }
}

fn policy(name: &str, action: &str, path: &str) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": { "name": name },
        "spec": { "action": action, "rules": [{ "to": [{ "operation": { "paths": [path] } }] }] },
    })
}

fn plugin(policies: &[Value], more: Value, host: &Recorder) -> Plugin {
    let mut config = json!({ "policies": policies });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    // Setting the logger fails if another test has already set it. That is the same logger.
    let _same_logger = log::set_logger(&ThreadLog);
    log::set_max_level(LevelFilter::Trace);
    let plugin = Plugin::load(config.to_string().into_bytes(), &NodeMetadata::in_namespace("default"), host).unwrap();
    LINES.take();
    plugin
}

#[test]
fn an_allowed_request_is_counted_and_costs_no_call() {
    let host = Recorder::default();
    let plugin = plugin(&[policy("a", "ALLOW", "/a"), policy("b", "DENY", "/b")], json!({}), &host);
    for _ in 0..3 {
        plugin.on_request(&host);
    }
    assert_eq!((host.times_asked.get(), host.states.borrow().len(), lines().len()), (0, 0, 0));
    assert!(host.counts.borrow().is_empty(), "{:?}", host.counts);
    plugin.flush_counters(&host);
    plugin.flush_counters(&host);
    let counts = host.counts.borrow();
    let counted: Vec<_> = counts.iter().collect();
    let expected = [("mesh_authz.allowed", 3), ("mesh_authz.policy.default.a.matched", 3)];
    assert_eq!(
        counted,
        expected.map(|(name, count)| (name.to_owned(), count)).iter().map(|(n, c)| (n, c)).collect::<Vec<_>>()
    );
}

#[test]
fn in_a_flood_a_refusal_that_is_not_logged_asks_for_the_time_and_nothing_else() {
    let host = Recorder::default();
    let plugin = plugin(&[policy("a", "ALLOW", "/other")], json!({ "decisionLogRate": 2 }), &host);
    for _ in 0..2 {
        plugin.on_request(&host);
    }
    // Each request gets one line, with the nearest miss in it.
    assert_eq!((host.times_asked.get(), lines().len()), (6, 2));
    assert!(lines().iter().all(|line| line.contains("\"failed\":\"to[0].operation.paths\"")));
    for _ in 0..100 {
        plugin.on_request(&host);
    }
    assert_eq!((host.times_asked.get(), lines().len()), (106, 2));
    host.now.set(SECOND / 2);
    plugin.on_request(&host);
    assert!(lines()[2].ends_with(",\"suppressed\":100}"), "{:?}", lines());
}

#[test]
fn what_dry_runs_would_refuse_has_a_limit_of_its_own() {
    let dry_run = |mut policy: Value| {
        policy["metadata"]["annotations"] = json!({ "istio.io/dry-run": "true" });
        policy
    };
    for (tried, would_refuse) in [
        (dry_run(policy("t", "DENY", "/a")), true),
        (dry_run(policy("t", "ALLOW", "/other")), true),
        (dry_run(policy("t", "DENY", "/other")), false),
        (dry_run(policy("t", "ALLOW", "/a")), false),
    ] {
        for (log, all) in [("denied", false), ("all", true)] {
            let host = Recorder::default();
            let config = json!({ "decisionLogRate": 2, "decisionLog": log });
            let plugin = plugin(&[tried.clone(), policy("a", "ALLOW", "/a")], config, &host);
            for _ in 0..5 {
                plugin.on_request(&host);
            }
            assert_eq!(lines().len(), if would_refuse || all { 2 } else { 0 }, "{tried}");
            host.now.set(SECOND / 2);
            plugin.on_request(&host);
            assert_eq!(lines().last().is_some_and(|line| line.ends_with("\"suppressed\":3}")), would_refuse || all);
        }
        let host = Recorder::default();
        let plugin = plugin(&[tried.clone(), policy("a", "ALLOW", "/a")], json!({ "decisionLog": "none" }), &host);
        plugin.on_request(&host);
        assert!(lines().is_empty());
    }
}

#[test]
fn lines_that_nobody_reads_are_not_written() {
    let host = Recorder::default();
    LEVEL.set(LevelFilter::Warn);
    let plugin = plugin(&[policy("a", "ALLOW", "/other")], json!({ "decisionLog": "all" }), &host);
    plugin.on_request(&host);
    assert!(lines().is_empty());
}

#[test]
fn a_host_without_metrics_changes_no_decision() {
    let host = Recorder { defines_nothing: true, ..Recorder::default() };
    let plugin = plugin(&[policy("a", "DENY", "/a")], json!({}), &host);
    assert_eq!(plugin.on_request(&host), mesh_authz::filter::FilterStatus::Answered);
    plugin.flush_counters(&host);
    assert!(host.counts.borrow().is_empty());
}

#[test]
fn every_metric_is_defined_once_at_load_and_none_for_a_policy_that_does_not_apply() {
    let host = Recorder::default();
    let mut elsewhere = policy("c", "DENY", "/c");
    elsewhere["metadata"]["namespace"] = json!("elsewhere");
    let plugin = plugin(&[policy("b.c", "DENY", "/b"), elsewhere], json!({}), &host);
    let defined = host.names.borrow().len();
    plugin.on_request(&host);
    plugin.flush_counters(&host);
    assert_eq!(host.names.borrow().len(), defined);
    let names = host.names.borrow();
    let policies: Vec<_> = names.iter().filter(|name| name.contains(".policy.")).collect();
    assert_eq!(policies, ["mesh_authz.policy.default.b.c.matched"]);
}

#[test]
fn the_gauges_say_which_configuration_decides_and_several_plugins_have_their_own() {
    let host = Recorder::default();
    let summary = plugin(&[policy("a", "ALLOW", "/a")], json!({}), &host).summary();
    assert_eq!((summary.policies, summary.rules), (1, 1));
    ConfigSummary { hash: 7, ..summary }.publish(None, false, &host);
    ConfigSummary { hash: 9, ..ConfigSummary::default() }.publish(Some("other"), true, &host);
    let counts = host.counts.borrow();
    for (name, value) in [
        ("mesh_authz.config.policies", 1),
        ("mesh_authz.config.rules", 1),
        ("mesh_authz.config.hash", 7),
        ("mesh_authz.config.refused", 0),
        ("mesh_authz.instance.other.config.policies", 0),
        ("mesh_authz.instance.other.config.hash", 9),
        ("mesh_authz.instance.other.config.refused", 1),
    ] {
        assert_eq!(counts.get(name), Some(&value), "{name} in {counts:?}");
    }
}

#[test]
fn work_pays_for_its_time_with_a_pause_a_hundred_times_as_long() {
    let share = TimeShare::default();
    let start = 1_000 * SECOND;
    assert!(share.admits(start));
    // The pauses of one second are free after a quiet time.
    share.charge(start, start + SECOND / 200);
    assert!(share.admits(start + SECOND / 200));
    share.charge(start + SECOND / 100, start + SECOND / 50);
    assert!(!share.admits(start + SECOND / 50));
    assert!(!share.admits(start + SECOND / 2));
    assert!(share.admits(start + 2 * SECOND));
    // Very long work does not look like a clock that was set back.
    share.charge(start + 2 * SECOND, start + 12 * SECOND);
    assert!(!share.admits(start + 12 * SECOND));
    assert!(share.admits(start + 60 * SECOND));
    assert!(share.admits(start - 900 * SECOND), "the clock was set back");
}

#[test]
fn a_search_that_has_no_time_finds_nothing_instead_of_something_near() {
    let host = Recorder::default();
    let policies: Vec<_> = (0..20).map(|n| policy(&format!("p{n}"), "ALLOW", "/other")).collect();
    let plugin = plugin(&policies, json!({}), &host);
    // Each question about the time costs a millisecond.
    host.step.set(SECOND / 1_000);
    plugin.on_request(&host);
    let lines = lines();
    assert!(lines.len() == 1 && lines[0].contains("\"decision\":\"DENY\""), "{lines:?}");
    assert!(!lines[0].contains("\"nearest\""), "{lines:?}");
    assert!(host.times_asked.get() <= 5, "{} questions", host.times_asked.get());
}
