//! Measures in rounds what a request costs at each station, in CPU time of Envoy's threads.
//!
//! A round visits every station. The order differs from round to round. A visit sends the same requests to the
//! station's listener and to the baseline, one directly after the other. So other work of the machine affects both. The
//! filter adds the median of the differences.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use fastrand::Rng;
use testbed::Envoy;

use crate::contestant::{Case, Contestant};
use crate::lanes::{Lanes, Prepared};
use crate::station::{Rig, Station};
use crate::statistics::Spread;

/// The number of requests in a batch. It is small, so that two batches are close in time. It is large enough that
/// entering cold code does not count.
const BATCH: u32 = 100;
/// The approximate duration of a batch at a slow listener. Such a batch has fewer requests.
const SLOW_BATCH: Duration = Duration::from_millis(30);
const SMALLEST_BATCH: u32 = 4;
/// The number of rounds whose results are thrown away. In these rounds V8 compiles hot code, and connections and caches
/// get warm.
const WARM_UP_ROUNDS: u32 = 5;
const FEWEST_ROUNDS: u32 = 10;
/// The time that Envoy needs after a response to tidy up before it sleeps.
const TIDYING_UP: Duration = Duration::from_micros(300);

/// What was measured in one Envoy.
#[derive(Default)]
pub struct Outcome {
    /// The cost of each case.
    pub results: Vec<Measured>,
    /// The number of rounds, without the warm-up rounds.
    pub rounds: u32,
    /// The total number of requests. All of them were answered as their policies say.
    pub requests: u64,
}

/// The cost of a case, in microseconds per request.
pub struct Measured {
    /// The name of the set.
    pub set: &'static str,
    /// The number of rules in the set.
    pub rules: usize,
    /// The filter that was measured.
    pub contestant: Contestant,
    /// The number of requests in a batch.
    pub batch: u32,
    /// The cost of the whole request.
    pub total: Costs<Spread>,
    /// The cost of the same requests at the baseline.
    pub baseline: Costs<Spread>,
    /// The difference from the baseline: what the filter adds.
    pub added: Costs<Spread>,
}

/// Costs in microseconds per request.
#[derive(Clone, Copy, Debug)]
pub struct Costs<T> {
    /// The cost of an allowed request.
    pub allowed: T,
    /// The cost of a refused request.
    pub denied: T,
    /// The average of the two.
    pub mix: T,
}

struct Visit {
    with: Costs<f64>,
    without: Costs<f64>,
}

/// A station, with the measurements taken there.
struct Series {
    station: Station,
    batch: u32,
    visits: Vec<Visit>,
}

/// Measures all cases in rounds, for this much time altogether.
pub fn measure(mut rig: Rig, cases: Vec<Case>, time: Duration) -> Result<Outcome> {
    // The order of visits is random, but the same in every run.
    let mut rng = Rng::with_seed(7);
    let stations = rig.stations(cases, &mut rng)?;
    let mut series: Vec<_> =
        stations.into_iter().map(|station| Series { station, batch: SMALLEST_BATCH, visits: Vec::new() }).collect();
    let mut order: Vec<usize> = (0..series.len()).collect();
    let mut meter = Meter { envoy: &rig.envoy, requests: 0 };
    for round in 0..WARM_UP_ROUNDS {
        for one in &mut series {
            let visit = one.visit(&mut meter, round, &mut rng).with_context(|| one.name())?;
            one.adapt_batch(&visit);
        }
    }
    let (start, mut rounds) = (Instant::now(), 0);
    while rounds < FEWEST_ROUNDS || start.elapsed() < time {
        rng.shuffle(&mut order);
        for &index in &order {
            let Some(one) = series.get_mut(index) else { continue };
            let visit = one.visit(&mut meter, rounds, &mut rng).with_context(|| one.name())?;
            one.visits.push(visit);
        }
        rounds += 1;
    }
    Ok(Outcome { results: series.iter().map(Series::summary).collect(), rounds, requests: meter.requests })
}

impl Series {
    fn visit(&mut self, meter: &mut Meter<'_>, round: u32, rng: &mut Rng) -> Result<Visit> {
        let status = self.station.case.contestant.status_of_denied();
        let Station { allowed, denied, with, without, .. } = &mut self.station;
        let mut both = |requests: &[Prepared], status| -> Result<(f64, f64)> {
            let mut with = |meter: &mut Meter<'_>| meter.batch(with, requests, status, self.batch, round);
            let mut without = |meter: &mut Meter<'_>| meter.batch(without, requests, 200, BATCH, round);
            // The second batch finds warmer caches, so chance decides which one is second.
            if rng.bool() {
                let with = with(meter)?;
                Ok((with, without(meter)?))
            } else {
                let without = without(meter)?;
                Ok((with(meter)?, without))
            }
        };
        let (allowed, denied) = (both(allowed, 200)?, both(denied, status)?);
        Ok(Visit { with: Costs::of(allowed.0, denied.0), without: Costs::of(allowed.1, denied.1) })
    }

    fn name(&self) -> String {
        let Case { set, rules, contestant, .. } = &self.station.case;
        format!("{}, {rules} rules, {contestant}", set.name)
    }

    fn adapt_batch(&mut self, visit: &Visit) {
        let fitting = SLOW_BATCH.as_secs_f64() * 1e6 / visit.with.mix;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between two such numbers")]
        let batch = fitting.clamp(SMALLEST_BATCH.into(), BATCH.into()) as u32;
        self.batch = batch;
    }

    fn summary(&self) -> Measured {
        let Case { set, rules, contestant, .. } = &self.station.case;
        let visits = &self.visits;
        Measured {
            set: set.name,
            rules: *rules,
            contestant: *contestant,
            batch: self.batch,
            total: Costs::spread(visits, |visit| visit.with),
            baseline: Costs::spread(visits, |visit| visit.without),
            added: Costs::spread(visits, |Visit { with, without }| Costs {
                allowed: with.allowed - without.allowed,
                denied: with.denied - without.denied,
                mix: with.mix - without.mix,
            }),
        }
    }
}

impl Costs<f64> {
    fn of(allowed: f64, denied: f64) -> Self {
        Self { allowed, denied, mix: f64::midpoint(allowed, denied) }
    }
}

impl Costs<Spread> {
    fn spread(visits: &[Visit], costs: impl Fn(&Visit) -> Costs<f64>) -> Self {
        let spread = |cost: fn(Costs<f64>) -> f64| Spread::of(visits.iter().map(|visit| cost(costs(visit))));
        Self {
            allowed: spread(|costs| costs.allowed),
            denied: spread(|costs| costs.denied),
            mix: spread(|costs| costs.mix),
        }
    }
}

/// Measures the CPU time of Envoy's threads, as the kernel counts it.
struct Meter<'e> {
    envoy: &'e Envoy,
    requests: u64,
}

impl Meter<'_> {
    /// The CPU time of one request, in microseconds, in a batch of this size. A round continues with the requests where
    /// the round before it ended.
    fn batch(&mut self, lanes: &mut Lanes, requests: &[Prepared], status: u16, size: u32, round: u32) -> Result<f64> {
        let (count, round) = (usize::try_from(size)?, usize::try_from(round)?);
        let batch = requests.iter().cycle().skip(round * count % requests.len()).take(count);
        let before = self.envoy.cpu_time()?;
        lanes.send(batch, status)?;
        thread::sleep(TIDYING_UP);
        let spent = self.envoy.cpu_time()?.saturating_sub(before);
        self.requests += u64::from(size);
        Ok(spent.as_secs_f64() * 1e6 / f64::from(size))
    }
}
