//! A day of traffic through the demo's mesh, in the access log of the backend's Envoy: `examples/replay`.
//!
//! The traffic of the day is sent within seconds. So the time in each line is replaced by the time that the plan has for it.
//! Everything else is what Envoy wrote.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use testbed::{Client, Request};

use crate::mesh::{Mesh, Ports, project, yaml};
use crate::stages::Peer;

/// The date in the log.
const DATE: &str = "2026-11-26";

const LOG: &str = "replay.log";

/// What a workload does again and again. Times are in minutes.
struct Habit {
    principal: &'static str,
    method: &'static str,
    /// `{}` stands for a number.
    path: &'static str,
    from: u64,
    to: u64,
    every: u64,
}

const fn habit(principal: &'static str, method: &'static str, path: &'static str, times: [u64; 3]) -> Habit {
    let [from, to, every] = times;
    Habit { principal, method, path, from, to, every }
}

const FRONTEND: &str = "cluster.local/ns/default/sa/frontend";
const NIGHTLY: &str = "cluster.local/ns/reports/sa/nightly";
const PROMETHEUS: &str = "cluster.local/ns/monitoring/sa/prometheus";
const STRANGER: &str = "cluster.local/ns/default/sa/stranger";

const HOUR: u64 = 60;
const DAY: u64 = 24 * HOUR;

const HABITS: [Habit; 8] = [
    habit(FRONTEND, "GET", "/api/v1/data?page={}", [1, DAY, 4]),
    habit(FRONTEND, "GET", "/api/v1/items/{}", [7 * HOUR, 22 * HOUR, 2]),
    habit(FRONTEND, "POST", "/api/v1/orders", [8 * HOUR, 21 * HOUR, 9]),
    // It looks whether its copy is still the newest.
    habit(FRONTEND, "HEAD", "/api/v1/data", [30, DAY, HOUR]),
    // Somebody tries this on the site, and the frontend forwards it.
    habit(FRONTEND, "GET", "/api/v1/admin/users", [13 * HOUR + 37, 13 * HOUR + 40, 1]),
    habit(NIGHTLY, "GET", "/api/v1/items/{}", [2 * HOUR, 2 * HOUR + 40, 1]),
    habit(PROMETHEUS, "GET", "/metrics", [0, DAY, 5]),
    habit(STRANGER, "GET", "/api/v1/items/{}", [3 * HOUR + 12, 3 * HOUR + 17, 1]),
];

/// Sends the traffic of a day to the backend, which has the policies of `examples/replay/before.yaml`, and writes its log.
pub fn log(file: &Path) -> Result<()> {
    let mesh = Mesh::start(Ports::Free)?;
    let example = yaml(&project("examples/observability/replay.yaml"))?;
    let config = json!({ "policies": [yaml(&project("examples/replay/before.yaml"))?], "decisionLog": "none" });
    let backend = mesh.start_backend(config, |manager| {
        let filters = manager["http_filters"].as_array_mut().context("filters")?;
        filters.splice(0..0, example["http_filters"].as_array().context("filters")?.iter().cloned());
        manager["access_log"] = example["access_log"].clone();
        Ok(())
    })?;
    let (nightly, prometheus) = (mesh.start_caller(NIGHTLY)?, mesh.start_caller(PROMETHEUS)?);
    let callers = [
        (FRONTEND, mesh.caller(Peer::Frontend)),
        (STRANGER, mesh.caller(Peer::Stranger)),
        (NIGHTLY, &nightly),
        (PROMETHEUS, &prometheus),
    ];

    let mut plan: Vec<(u64, &Habit)> = Vec::new();
    for habit in &HABITS {
        let times = (habit.from..habit.to).step_by(usize::try_from(habit.every)?);
        plan.extend(times.map(|minute| (minute, habit)));
    }
    plan.sort_by_key(|(minute, _)| *minute);
    for (number, (_, habit)) in (0_u64..).zip(&plan) {
        let (_, caller) = callers.iter().find(|(principal, _)| *principal == habit.principal).context("a sender")?;
        // Numbers that look like no sequence.
        let path = habit.path.replace("{}", &(number * 7_919 % 997).to_string());
        let request = Request::new(habit.method, path).host("backend.default.svc.cluster.local");
        Client::plain(caller.address("outbound")?).send(&request)?;
    }

    let lines = lines(&backend.dir().join(LOG), plan.len())?;
    let mut text = String::new();
    for (number, (line, (minute, _))) in lines.iter().zip(&plan).enumerate() {
        let start: Value = serde_json::from_str::<Value>(line)?["start"].take();
        let (hour, minute, milliseconds) = (minute / HOUR, minute % HOUR, number * 613 % 60_000);
        let time = format!("{DATE}T{hour:02}:{minute:02}:{:02}.{:03}Z", milliseconds / 1_000, milliseconds % 1_000);
        text += &line.replacen(start.as_str().context("a time")?, &time, 1);
        text.push('\n');
    }
    let file = File::create(file).with_context(|| file.display().to_string())?;
    let mut compressed = GzEncoder::new(file, Compression::best());
    compressed.write_all(text.as_bytes())?;
    compressed.finish()?;
    Ok(())
}

/// The lines of the log, once it has so many.
fn lines(log: &Path, count: usize) -> Result<Vec<String>> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let lines: Vec<String> = fs::read_to_string(log)?.lines().map(str::to_owned).collect();
        if lines.len() == count {
            return Ok(lines);
        }
        ensure!(Instant::now() < deadline, "{} has {} lines and not {count}", log.display(), lines.len());
        std::thread::sleep(Duration::from_millis(50));
    }
}
