//! Measures how long ordinary requests take alone, and beside ten of the worst requests a second. Envoy has one worker
//! thread, so a request that keeps it busy keeps all others waiting.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use fastrand::Rng;

use testbed::Issuer;

use crate::contestant::{Case, Claims};
use crate::lanes::{Connections, Lanes, Prepared};
use crate::mix::Call;
use crate::mix::worst::ORDINARY_PATH;
use crate::station::{Rig, Station};
use crate::statistics::Spread;

/// The time between two of the worst requests.
const BETWEEN_WORST: Duration = Duration::from_millis(100);
/// The time between two ordinary requests.
const BETWEEN_ORDINARY: Duration = Duration::from_millis(2);

/// How long ordinary requests took, in microseconds.
pub struct Waited {
    /// The name of the set that the worst requests belong to.
    pub set: &'static str,
    /// Without other requests.
    pub alone: Spread,
    /// Beside requests that are allowed and requests that are denied, in turn.
    pub beside: Spread,
}

/// Measures each case, for this much time alone and for as much beside the worst requests.
pub fn measure(cases: Vec<Case>, time: Duration) -> Result<Vec<Waited>> {
    if cases.is_empty() {
        return Ok(Vec::new());
    }
    let mut rig = Rig::start(&cases, Connections::FEW, Claims::Token(Box::new(Issuer::new()?)))?;
    let stations = rig.stations(cases, &mut Rng::with_seed(7))?;
    stations.into_iter().map(|station| one(&mut rig, station, time)).collect()
}

fn one(rig: &mut Rig, station: Station, time: Duration) -> Result<Waited> {
    let Station { case, allowed, denied, with: mut worst, address, .. } = station;
    let sender = allowed.first().context("there is an allowed request")?;
    let ordinary = rig.prepare(&Call::new(sender.principal(), "GET", ORDINARY_PATH))?;
    let mut lane = rig.open(address, std::slice::from_ref(&ordinary))?;
    let mut waits = |worst: Option<&mut Lanes>| measure_waits(&mut lane, &ordinary, worst, &allowed, &denied, time);
    // The first requests find cold caches.
    waits(Some(&mut worst))?;
    let (alone, beside) = (waits(None)?, waits(Some(&mut worst))?);
    Ok(Waited { set: case.set.name, alone, beside })
}

fn measure_waits(
    ordinary_lane: &mut Lanes,
    ordinary: &Prepared,
    worst_lanes: Option<&mut Lanes>,
    allowed: &[Prepared],
    denied: &[Prepared],
    time: Duration,
) -> Result<Spread> {
    thread::scope(|scope| {
        let start = Instant::now();
        let attack = worst_lanes.map(|lanes| {
            scope.spawn(move || {
                let mut both = allowed.iter().map(|one| (one, 200)).chain(denied.iter().map(|one| (one, 403))).cycle();
                while start.elapsed() < time
                    && let Some((request, status)) = both.next()
                {
                    lanes.send(std::iter::once(request), status)?;
                    thread::sleep(BETWEEN_WORST);
                }
                anyhow::Ok(())
            })
        });
        let mut waits = Vec::new();
        while start.elapsed() < time {
            let sent = Instant::now();
            ordinary_lane.send(std::iter::once(ordinary), 200)?;
            waits.push(sent.elapsed().as_secs_f64() * 1e6);
            thread::sleep(BETWEEN_ORDINARY);
        }
        if let Some(attack) = attack {
            attack.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(Spread::of(waits.into_iter()))
    })
}
