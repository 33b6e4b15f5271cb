//! The machine and the versions that the numbers were measured with. Without them, the numbers mean nothing.

use std::fs;
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use testbed::envoy_binary;

/// The machine and the versions.
pub struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    envoy: String,
    rustc: String,
}

impl Machine {
    /// Asks the system for the description.
    pub fn describe() -> Result<Self> {
        let cpus = fs::read_to_string("/proc/cpuinfo").context("measuring needs Linux")?;
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let envoy = output(Command::new(envoy_binary()?).arg("--version"))?;
        Ok(Self {
            cpu: model.map_or("unknown CPU", |(_, model)| model).to_owned(),
            cores: thread::available_parallelism()?.get(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            envoy: version(&envoy).to_owned(),
            rustc: output(Command::new("rustc").arg("--version"))?,
        })
    }

    /// One line with the versions, and one with the machine.
    pub fn text(&self) -> String {
        let Self { cpu, cores, kernel, envoy, rustc } = self;
        let own = env!("CARGO_PKG_VERSION");
        format!("mesh-authz {own}, Envoy {envoy}, {rustc}\n{cpu}, {cores} cores, Linux {kernel}\n")
    }

    /// A short description, for the space under a plot.
    pub fn caption(&self) -> String {
        let Self { cpu, cores, envoy, .. } = self;
        format!("mesh-authz {}, Envoy {envoy}; {cpu}, {cores} cores", env!("CARGO_PKG_VERSION"))
    }

    /// The description as JSON, for programs.
    pub fn json(&self) -> Value {
        let Self { cpu, cores, kernel, envoy, rustc } = self;
        let own = env!("CARGO_PKG_VERSION");
        json!({ "meshAuthz": own, "envoy": envoy, "rustc": rustc, "cpu": cpu, "cores": cores, "kernel": kernel })
    }
}

/// The version in "envoy  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL".
fn version(envoy: &str) -> &str {
    envoy.rsplit_once(": ").and_then(|(_, version)| version.split('/').nth(1)).unwrap_or(envoy)
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("running {}", command.get_program().display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
