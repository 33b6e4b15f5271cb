//! Measures what it takes to load 10,000 policies in a running Envoy, and whether memory grows with each update.
//!
//! Envoy reads its listeners from a file, which is replaced. It needs time and memory for the text itself. So the same
//! text is also given to a filter that does nothing, and what is left counts. There are two VMs: one of the worker, and
//! one of the main thread.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use testbed::bootstrap::{bootstrap, direct_response, http_connection_manager, listener};
use testbed::{Envoy, StartOptions};

use crate::contestant::{FILTER, NO_OP, wasm};
use crate::mix::realistic::realistic;
use crate::station::{filter, no_op};
use crate::statistics::Spread;

const POLICIES: usize = 10_000;
/// The policies of each of many updates.
const POLICIES_OF_AN_UPDATE: usize = 1_000;
/// Until then, memory may grow.
const SETTLED: u32 = 20;
const VMS: f64 = 2.0;
const KIBIBYTES_OF_A_MEBIBYTE: f64 = 1024.0;
const PATIENCE: Duration = Duration::from_secs(60);
/// The time that Envoy needs after an update to tidy up.
const TIDYING_UP: Duration = Duration::from_millis(30);

/// What loading takes.
pub struct Loaded {
    /// The CPU time that one VM needs for 10,000 policies, in milliseconds.
    pub milliseconds: Spread,
    /// The memory that one VM takes with 10,000 policies, in MiB.
    pub mebibytes: f64,
    /// How many updates of 1,000 policies each were made one after another.
    pub updates: u32,
    /// By how much Envoy's memory has grown after the first twenty of these updates, in MiB.
    pub growth: f64,
}

/// Loads 10,000 policies this many times, and then makes this many updates.
pub fn measure(loads: u32, updates: u32) -> Result<Loaded> {
    let (mut ours, mut nothing) = (Updated::start(FILTER)?, Updated::start(NO_OP)?);
    let before = [ours.mebibytes()?, nothing.mebibytes()?];
    let mut milliseconds = Vec::new();
    let mut mebibytes = f64::NAN;
    for load in 0..loads {
        let (with, without) = (ours.update(POLICIES)?, nothing.update(POLICIES)?);
        milliseconds.push((with.as_secs_f64() - without.as_secs_f64()) * 1000.0 / VMS);
        if load == 0 {
            let [with_before, without_before] = before;
            mebibytes = ((ours.mebibytes()? - with_before) - (nothing.mebibytes()? - without_before)) / VMS;
        }
    }
    let mut settled = f64::NAN;
    for update in 1..=updates {
        ours.update(POLICIES_OF_AN_UPDATE)?;
        if update == SETTLED {
            settled = ours.mebibytes()?;
        }
    }
    let growth = ours.mebibytes()? - settled;
    Ok(Loaded { milliseconds: Spread::of(milliseconds.into_iter()), mebibytes, updates, growth })
}

/// An Envoy whose listener is replaced again and again.
struct Updated {
    envoy: Envoy,
    module: &'static str,
    updates: u64,
}

impl Updated {
    fn start(module: &'static str) -> Result<Self> {
        let mut bootstrap = bootstrap(&[], &[]);
        if let Value::Object(fields) = &mut bootstrap {
            let file = json!({ "lds_config": {
                "resource_api_version": "V3", "path_config_source": { "path": "./lds.json" },
            } });
            fields.insert("dynamic_resources".to_owned(), file);
        }
        let options = StartOptions {
            log_level: "warning".into(),
            // A listener that is replaced is removed at once.
            extra_args: ["--drain-time-s", "0"].map(str::to_owned).to_vec(),
            ..StartOptions::default()
        };
        let options = options.file(FILTER, filter()?).file(NO_OP, no_op()?).file("lds.json", listeners(module, 0, 1));
        Ok(Self { envoy: Envoy::start_with(&bootstrap, &options)?, module, updates: 0 })
    }

    /// Replaces the listener. Returns the CPU time that Envoy has used.
    fn update(&mut self, policies: usize) -> Result<Duration> {
        self.updates += 1;
        let before = self.envoy.cpu_time()?;
        self.envoy.write_file_atomically("lds.json", listeners(self.module, self.updates, policies))?;
        let is_there = |count| count == self.updates + 1;
        self.envoy.wait_for_stat("listener_manager.lds.update_success", is_there, PATIENCE)?;
        self.envoy.wait_for_stat("listener_manager.total_listeners_warming", |count| count == 0, PATIENCE)?;
        thread::sleep(TIDYING_UP);
        Ok(self.envoy.cpu_time()?.saturating_sub(before))
    }

    fn mebibytes(&self) -> Result<f64> {
        Ok(f64::from(self.envoy.memory()?) / KIBIBYTES_OF_A_MEBIBYTE)
    }
}

/// The file with a listener that has these many policies. `version` is in the text, so that no two texts are the same.
fn listeners(module: &str, version: u64, policies: usize) -> String {
    let config = json!({
        "policies": realistic(policies).policies,
        "workload": { "namespace": "default", "labels": { "version": version.to_string() } },
    });
    let manager = http_connection_manager(
        &[wasm("updated", module, &config.to_string())],
        &[direct_response(200, "RBAC: access passed")],
    );
    let mut listener = listener("inbound", manager, None);
    if let Value::Object(fields) = &mut listener {
        let kind = "type.googleapis.com/envoy.config.listener.v3.Listener";
        fields.insert("@type".to_owned(), json!(kind));
    }
    json!({ "resources": [listener] }).to_string()
}
