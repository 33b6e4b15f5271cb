//! Measures the engine alone: the time of a decision, the time of loading, and how often a decision allocates.
//!
//! `make bench` runs it, and `cargo bench --bench engine -- 'decide/realistic mix'` runs a part of it. The policies and
//! requests are those of the comparison in Envoy ([`mix`]). Here a request is in memory, so the time includes nothing
//! of a host. `QUICK=1` measures for a shorter time.

mod mix;

use std::alloc::{GlobalAlloc, Layout, System};
use std::env;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use criterion::{BenchmarkId, Criterion, Throughput};
use mesh_authz::config::{NodeMetadata, PluginConfig};
use mesh_authz::document;
use mesh_authz::engine::{Engine, Verdict};
use mesh_authz::request::metadata::{DEFAULT_PAYLOAD_KEY, JWT_AUTHN};
use mesh_authz::request::{Lookup, Request};
use serde_json::json;

use self::mix::{Call, ORDINARY_HEADERS, Set};

const RULES: [usize; 5] = [1, 10, 100, 1_000, 10_000];
const WORST_RULES: usize = 2_000;
const ADVERSARIAL_RULES: [usize; 3] = [10, 1_000, 10_000];

/// Counts allocations. The engine promises that a decision about an ordinary request makes none.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the contract of the system's allocator is the same, and the caller keeps it.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// The compiled policies of a set, with requests.
struct Subject {
    name: &'static str,
    rules: usize,
    engine: Engine,
    allowed: Vec<Request>,
    denied: Vec<Request>,
}

impl Subject {
    fn new(set: &Set, rules: usize) -> Result<Self> {
        let config = read(&plugin_config(set))?;
        let requests = |calls: &[Call]| calls.iter().map(request).collect::<Result<Vec<_>>>();
        let subject = Self {
            name: set.name,
            rules,
            engine: engine(&config),
            allowed: requests(&set.allowed)?,
            denied: requests(&set.denied)?,
        };
        for (requests, expected) in [(&subject.allowed, Verdict::Allow), (&subject.denied, Verdict::Deny)] {
            for request in requests {
                let decision = subject.engine.decide(request);
                ensure!(
                    decision.outcome.verdict() == expected,
                    "{}, {rules} rules: {decision:?} for {request:?}",
                    set.name
                );
            }
        }
        Ok(subject)
    }
}

fn main() -> Result<()> {
    let subjects = subjects()?;
    count_allocations(&subjects);
    let mut criterion = criterion();
    decide(&mut criterion, &subjects);
    load(&mut criterion)?;
    criterion.final_summary();
    say_budget(&subjects);
    Ok(())
}

/// Compares the realistic mix with 10,000 rules with the budget: less than 300 ns, and no allocation.
fn say_budget(subjects: &[Subject]) {
    const DECISIONS: u32 = 200_000;
    let Some(subject) = subjects.iter().find(|subject| subject.rules == 10_000) else { return };
    let requests = || subject.allowed.iter().chain(&subject.denied);
    let allocations = ALLOCATIONS.load(Ordering::Relaxed);
    let mut took = Duration::MAX;
    // The best of some: everything else on the machine only makes it longer.
    for _ in 0..5 {
        let begin = Instant::now();
        for request in requests().cycle().take(DECISIONS as usize) {
            black_box(subject.engine.decide(black_box(request)).outcome.verdict());
        }
        took = took.min(begin.elapsed() / DECISIONS);
    }
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - allocations;
    let holds = if took.as_nanos() < 300 && allocations == 0 { "holds" } else { "does not hold" };
    println!(
        "4. the engine alone, 10,000 rules: {} ns a decision, {allocations} allocations; goal: < 300 ns, none: {holds}",
        took.as_nanos()
    );
}

fn criterion() -> Criterion {
    let quick = env::var("QUICK").is_ok_and(|value| !matches!(value.as_str(), "" | "0"));
    let (warm_up, measurement) = if quick { (100, 400) } else { (500, 1500) };
    Criterion::default()
        .warm_up_time(Duration::from_millis(warm_up))
        .measurement_time(Duration::from_millis(measurement))
        .sample_size(if quick { 10 } else { 50 })
        .configure_from_args()
}

fn subjects() -> Result<Vec<Subject>> {
    let mut subjects = Vec::new();
    for rules in RULES {
        subjects.push(Subject::new(&mix::realistic::realistic(rules), rules)?);
    }
    for rules in ADVERSARIAL_RULES {
        for set in mix::adversarial::adversarial(rules) {
            subjects.push(Subject::new(&set, rules)?);
        }
    }
    for set in mix::worst::worst(WORST_RULES) {
        subjects.push(Subject::new(&set, WORST_RULES)?);
    }
    Ok(subjects)
}

fn count_allocations(subjects: &[Subject]) {
    println!("{:24}{:>8}{:>10}{:>10}", "Allocations a decision", "rules", "allowed", "denied");
    for Subject { name, rules, engine, allowed, denied } in subjects {
        let [allowed, denied] = [allowed, denied].map(|requests| {
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            for request in requests {
                black_box(engine.decide(request));
            }
            let count = ALLOCATIONS.load(Ordering::Relaxed) - before;
            // Rounded up, so that 0 means none at all.
            count.div_ceil(requests.len() as u64)
        });
        println!("{name:24}{rules:>8}{allowed:>10}{denied:>10}");
    }
    println!();
}

fn decide(criterion: &mut Criterion, subjects: &[Subject]) {
    for Subject { name, rules, engine, allowed, denied } in subjects {
        let mut group = criterion.benchmark_group(format!("decide/{name}"));
        for (outcome, requests) in [("allowed", allowed), ("denied", denied)] {
            let mut requests = requests.iter().cycle();
            group.bench_function(BenchmarkId::new(outcome, rules), |bencher| {
                bencher.iter(|| requests.next().map(|request| engine.decide(black_box(request)).outcome.verdict()));
            });
        }
        group.finish();
    }
}

/// Measures how the bytes from Envoy become an engine.
fn load(criterion: &mut Criterion) -> Result<()> {
    const RULES: usize = 10_000;
    let json = plugin_config(&mix::realistic::realistic(RULES));
    let config = read(&json)?;
    let mut group = criterion.benchmark_group("load");
    group.sample_size(10);
    group.bench_function(BenchmarkId::new("compile", RULES), |bencher| bencher.iter(|| engine(&config)));
    group.throughput(Throughput::Bytes(json.len() as u64));
    group.bench_function(BenchmarkId::new("read", RULES), |bencher| bencher.iter(|| read(&json).is_ok()));
    group.finish();
    Ok(())
}

fn plugin_config(set: &Set) -> String {
    json!({ "policies": set.policies, "workload": { "namespace": "default", "labels": {} } }).to_string()
}

fn read(json: &str) -> Result<PluginConfig> {
    PluginConfig::read(json.as_bytes(), &NodeMetadata::default()).map_err(|errors| anyhow!("{:?}", errors.first()))
}

fn engine(config: &PluginConfig) -> Engine {
    Engine::new(&config.policies, &config.options)
}

/// The request of a call, as the filter sees it.
fn request(call: &Call) -> Result<Request> {
    let mut request = Request::new(call.method, &call.path)
        .principal(&call.principal)
        .source_ip(Lookup::Value(call.source_ip.into()))
        .remote_ip(Lookup::Value(call.source_ip.into()))
        .header(":authority", call.host)
        .header(":scheme", "https");
    for (name, value) in ORDINARY_HEADERS {
        request = request.header(name, value);
    }
    for (name, value) in &call.headers {
        request = request.header(name, value);
    }
    if let Some(claims) = &call.claims {
        let payload = json!({ DEFAULT_PAYLOAD_KEY: claims }).to_string();
        request = request.metadata(JWT_AUTHN, &document::from_json(payload.as_bytes()).context("the claims")?);
    }
    Ok(request)
}
