//! What the numbers were measured on, and with: without it they mean nothing.

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
    /// Asks the system.
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

    /// One line each.
    pub fn text(&self) -> String {
        let Self { cpu, cores, kernel, envoy, rustc } = self;
        let own = env!("CARGO_PKG_VERSION");
        format!("mesh-authz {own}, Envoy {envoy}, {rustc}\n{cpu}, {cores} cores, Linux {kernel}\n")
    }

    /// What fits under a plot.
    pub fn caption(&self) -> String {
        let Self { cpu, cores, envoy, .. } = self;
        format!("mesh-authz {}, Envoy {envoy}; {cpu}, {cores} cores", env!("CARGO_PKG_VERSION"))
    }

    /// The same, for programs.
    pub fn json(&self) -> Value {
        let Self { cpu, cores, kernel, envoy, rustc } = self;
        let own = env!("CARGO_PKG_VERSION");
        json!({ "meshAuthz": own, "envoy": envoy, "rustc": rustc, "cpu": cpu, "cores": cores, "kernel": kernel })
    }
}

/// Of "envoy  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL", the version.
fn version(envoy: &str) -> &str {
    envoy.rsplit_once(": ").and_then(|(_, version)| version.split('/').nth(1)).unwrap_or(envoy)
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("running {}", command.get_program().display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
