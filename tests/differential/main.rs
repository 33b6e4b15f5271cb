//! Compares the filter with Envoy's own RBAC filter, which has the configuration that Istio generates. Both must make
//! the same decisions, by the same rules.
//!
//! `make test` compares some thirty thousand decisions. `make differential SECONDS=600 SEED=7` compares as many as the time
//! allows. When the test finds a difference, it looks for the smallest policies and request that still show it, and
//! prints them with the seed.
//!
//! Some differences are intended: the generated RBAC lets a request through that the policy's author meant to refuse
//! (docs/policies.md, "Stricter than Istio"). All of these requests contain odd bytes. The test recognizes them by
//! these bytes and counts them. A request that the filter allows and RBAC refuses is never an intended difference.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    clippy::implicit_hasher,
    clippy::missing_errors_doc,
    clippy::must_use_candidate,
    clippy::wildcard_imports,
    missing_docs,
    reason = "tests fail by panicking"
)]

mod arena;
mod coverage;
mod examples;
mod logged;
mod parts;
mod policies;
mod questions;
mod raw;
mod shrink;
mod tcp;
mod vocabulary;

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use fastrand::Rng;

use self::arena::{Answers, Arena, ask, name};
use self::coverage::Coverage;
use self::logged::Replayed;
use self::policies::PolicySet;
use self::questions::{Link, Open, Question};
use self::vocabulary::HEADERS_LOGGED;

/// As many as run if no time is given.
const BATCHES: u64 = 6;
const SETS_OF_A_BATCH: usize = 100;
const LINKS_OF_A_SET: usize = 8;
const QUESTIONS_OF_A_LINK: usize = 6;
/// How many sets of a batch are asked with the examples of the analysis, too.
const SETS_WITH_EXAMPLES: usize = 30;

/// The number of batches that run at the same time. One batch keeps a processor busy, with the test and its Envoy.
const WORKERS: usize = 2;

#[derive(Clone, Debug, Default)]
struct Count {
    sets: usize,
    decisions: usize,
    allowed: usize,
    stricter: usize,
    /// How many of the decisions are about examples of the analysis of all requests.
    examples: usize,
    /// How many of the stricter decisions are about a header with white space around its value.
    white_space: usize,
    /// How many of them are about a host that servers take for the same as another.
    host_forms: usize,
    replayed: Replayed,
    coverage: Coverage,
}

impl Count {
    fn plus(self, other: Self) -> Self {
        Self {
            sets: self.sets + other.sets,
            decisions: self.decisions + other.decisions,
            allowed: self.allowed + other.allowed,
            stricter: self.stricter + other.stricter,
            examples: self.examples + other.examples,
            white_space: self.white_space + other.white_space,
            host_forms: self.host_forms + other.host_forms,
            replayed: self.replayed.plus(other.replayed),
            coverage: self.coverage.plus(other.coverage),
        }
    }
}

/// A set of policies, and one request to it.
#[derive(Clone, Debug)]
pub struct Case {
    pub set: PolicySet,
    pub link: Link,
    pub question: Question,
}

/// How the two verdicts on a request compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    Equal,
    /// The filter refuses the request, the native RBAC filter gives another verdict, and an odd byte in the request
    /// explains the difference.
    Stricter,
    Different,
}

pub fn relation(link: &Link, question: &Question, answers: &Answers) -> Relation {
    let odd = link.is_odd() || question.is_odd();
    if answers.native == answers.filter {
        Relation::Equal
    } else if odd && !answers.filter.allowed {
        // Either only the filter refuses the request, or both refuse it by different rules.
        Relation::Stricter
    } else {
        Relation::Different
    }
}

/// The number in a variable of the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().expect("a number"))
}

#[test]
fn native_rbac_and_the_filter_decide_alike() {
    let seed = number("SEED").unwrap_or(20_261_122);
    let deadline = number("SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let ipv6 = TcpListener::bind("[::1]:0").is_ok();
    let start = Instant::now();
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let work = || {
        let mut count = Count::default();
        loop {
            let batch = next.fetch_add(1, Ordering::Relaxed);
            let over = deadline.map_or(batch >= BATCHES, |deadline| Instant::now() >= deadline);
            if over || failed.load(Ordering::Relaxed) {
                return count;
            }
            if let Err(error) = run_batch(&mut Rng::with_seed(seed.wrapping_add(batch)), ipv6, &mut count) {
                failed.store(true, Ordering::Relaxed);
                panic!("SEED={} shows it in its first batch: {error:#}", seed.wrapping_add(batch));
            }
        }
    };
    let count = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("see above")).fold(Count::default(), Count::plus)
    });
    let seconds = start.elapsed().as_secs_f64();
    let Count { sets, decisions, allowed, stricter, examples, white_space, host_forms, replayed, coverage } = count;
    #[expect(clippy::cast_precision_loss, reason = "for display")]
    let (rate, share) = (decisions as f64 / seconds, 100.0 * allowed as f64 / decisions as f64);
    println!(
        "{decisions} decisions over {sets} sets of policies, {share:.1}% ALLOW, {stricter} stricter than native as meant \
         ({white_space} with white space around a header, {host_forms} with another form of a host), \
         no other difference; {examples} examples as claimed; {rate:.0} decisions a second, seed {seed}"
    );
    println!("{replayed}");
    println!("{}", coverage.report());
    assert!(decisions >= 2_000 && allowed > decisions / 20 && decisions - allowed > decisions / 20);
    assert!(examples > 100, "{examples} examples");
    assert!(
        stricter > 0 && white_space > 0 && host_forms > 0,
        "the generator no longer reaches the differences that are meant"
    );
}

fn run_batch(rng: &mut Rng, ipv6: bool, count: &mut Count) -> Result<()> {
    let sets: Vec<_> = (0..SETS_OF_A_BATCH).map(|_| PolicySet::generate(rng)).collect();
    // Some listeners are on ::1, so that the direct peer has an IPv6 address.
    let places: Vec<_> = sets.iter().map(|_| ipv6 && rng.u8(..6) == 0).collect();
    let arena = Arena::start(sets.iter().zip(places.iter().copied()))?;
    let addresses = arena.addresses()?;
    for (index, (set, on_ipv6)) in sets.iter().zip(places).enumerate() {
        count.sets += 1;
        count.coverage.add(set);
        let before = [count.decisions, count.allowed];
        if index < SETS_WITH_EXAMPLES {
            for claim in examples::claims(set, on_ipv6)? {
                let mut open = connect(&addresses, index, &claim.link).with_context(|| format!("{:#?}", claim.link))?;
                let examples::Claim { link, question, is_allowed } = claim;
                let answers =
                    ask(&mut open, &question).with_context(|| format!("{link:#?}\n{question:#?}\n{}", arena.log()))?;
                (count.decisions, count.examples) = (count.decisions + 1, count.examples + 1);
                count.allowed += usize::from(is_allowed);
                ensure!(
                    [answers.filter.allowed, answers.native.allowed] == [is_allowed; 2],
                    "Envoy contradicts the analysis\n{answers:#?}\npolicies: {}\n{link:#?}\n{question:#?}",
                    serde_json::to_string_pretty(&set.plugin_config())?,
                );
            }
        }
        let words = set.words();
        for _ in 0..LINKS_OF_A_SET {
            let link = Link::generate(rng, on_ipv6, &words);
            let mut open = connect(&addresses, index, &link)?;
            for _ in 0..QUESTIONS_OF_A_LINK {
                let question = Question::generate(rng, link.http2);
                let case = || Case { set: set.clone(), link: link.clone(), question: question.clone() };
                let answers =
                    ask(&mut open, &question).with_context(|| format!("{link:#?}\n{question:#?}\n{}", arena.log()))?;
                count.decisions += 1;
                count.allowed += usize::from(answers.filter.allowed);
                match relation(&link, &question, &answers) {
                    Relation::Equal => {}
                    Relation::Stricter => {
                        count.stricter += 1;
                        count.white_space += usize::from(question.has_white_space());
                        count.host_forms += usize::from(question.has_host_form());
                    }
                    Relation::Different => {
                        println!("a difference; looking for the smallest case that shows it");
                        let (case, answers) = shrink::shrink(case(), answers);
                        bail!(
                            "native RBAC and the filter differ\n{answers:#?}\npolicies: {}\n{:#?}\n{:#?}",
                            serde_json::to_string_pretty(&case.set.plugin_config())?,
                            case.link,
                            case.question
                        );
                    }
                }
            }
        }
        let [requests, allowed] = [count.decisions - before[0], count.allowed - before[1]].map(|count| count as u64);
        let (log, decided) = (arena.access_log(index), [allowed, requests - allowed]);
        let replayed = logged::replay(&logged::policy_set(set)?, &HEADERS_LOGGED, &log, decided)
            .with_context(|| serde_json::to_string_pretty(&set.plugin_config()).unwrap())?;
        count.replayed = count.replayed.plus(replayed);
    }
    Ok(())
}

pub fn connect(addresses: &HashMap<String, SocketAddr>, set: usize, link: &Link) -> Result<Open> {
    let address = addresses.get(&name(set)).context("no such listener")?;
    arena::connect(*address, link)
}
