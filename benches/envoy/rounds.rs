//! Rounds: what a request costs at each station, in CPU time of Envoy's threads.
//!
//! A round visits every station, each time in another order. A visit sends the same requests to the station's listener and
//! to the baseline, back to back, so that whatever else the machine does meanwhile hits both. The median of the differences
//! is what the filter adds.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use fastrand::Rng;
use testbed::Envoy;

use crate::contestant::{Case, Contestant};
use crate::lanes::{Lanes, Prepared};
use crate::station::{Rig, Station};
use crate::statistics::Spread;

/// Requests in a batch: few enough that two batches are close in time, and enough that entering cold code does not count.
const BATCH: u32 = 100;
/// A batch at a slow listener is smaller: it takes about this time.
const SLOW_BATCH: Duration = Duration::from_millis(30);
const SMALLEST_BATCH: u32 = 4;
/// Their results are thrown away: V8 compiles what is hot, and connections and caches get warm.
const WARM_UP_ROUNDS: u32 = 5;
const FEWEST_ROUNDS: u32 = 10;
/// After a response, Envoy has to tidy up before it sleeps.
const TIDYING_UP: Duration = Duration::from_micros(300);

/// What was measured in one Envoy.
#[derive(Default)]
pub struct Outcome {
    /// What each case costs.
    pub results: Vec<Measured>,
    /// How many rounds there were, without those that were thrown away.
    pub rounds: u32,
    /// How many requests were answered, as their policies say, all in all.
    pub requests: u64,
}

/// What a case costs, in microseconds a request.
pub struct Measured {
    /// The set's name.
    pub set: &'static str,
    /// How many rules it has.
    pub rules: usize,
    /// What was measured.
    pub contestant: Contestant,
    /// How many requests were in a batch.
    pub batch: u32,
    /// The whole request.
    pub total: Costs<Spread>,
    /// The same requests at the baseline.
    pub baseline: Costs<Spread>,
    /// The difference to the baseline.
    pub added: Costs<Spread>,
}

/// Microseconds a request.
#[derive(Clone, Copy, Debug)]
pub struct Costs<T> {
    /// One that is allowed.
    pub allowed: T,
    /// One that is refused.
    pub denied: T,
    /// One of each, on average.
    pub mix: T,
}

struct Visit {
    with: Costs<f64>,
    without: Costs<f64>,
}

/// A station with what has been measured there.
struct Series {
    station: Station,
    batch: u32,
    visits: Vec<Visit>,
}

/// Measures each case for this long altogether.
pub fn measure(mut rig: Rig, cases: Vec<Case>, time: Duration) -> Result<Outcome> {
    // The order of visits is chance, but the same chance in every run.
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
            // Whoever comes second finds warmer caches.
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
        let Case { set, rules, contestant } = &self.station.case;
        format!("{}, {rules} rules, {contestant}", set.name)
    }

    fn adapt_batch(&mut self, visit: &Visit) {
        let fitting = SLOW_BATCH.as_secs_f64() * 1e6 / visit.with.mix;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between two such numbers")]
        let batch = fitting.clamp(SMALLEST_BATCH.into(), BATCH.into()) as u32;
        self.batch = batch;
    }

    fn summary(&self) -> Measured {
        let Case { set, rules, contestant } = &self.station.case;
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

/// Reads the kernel's account of Envoy's threads.
struct Meter<'e> {
    envoy: &'e Envoy,
    requests: u64,
}

impl Meter<'_> {
    /// The CPU time of a request in a batch of so many. A round goes on where the one before it ended.
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
