//! The log in `examples/replay` is what Envoy writes today.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Command;

use flate2::read::GzDecoder;
use serde_json::Value;

/// The lines of a log, without the ports of one run.
fn lines(file: &Path) -> Vec<Value> {
    let lines = BufReader::new(GzDecoder::new(File::open(file).unwrap())).lines();
    let parsed = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap());
    let without_ports = parsed.map(|mut line: Value| {
        assert_eq!(line["upstream"].take() == Value::Null, line["code"] == 403, "{line}");
        assert!(line["destination_port"].take().is_number());
        line
    });
    without_ports.collect()
}

#[test]
fn the_log_of_the_day_is_what_envoy_writes() {
    let folder = tempfile::tempdir().unwrap();
    let now = folder.path().join("day.log.gz");
    let output = Command::new(env!("CARGO_BIN_EXE_demo")).arg("--day").arg(&now).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let stored = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../replay/day.log.gz"));
    let (now, stored) = (lines(&now), lines(stored));
    for (line, (now, stored)) in (1..).zip(now.iter().zip(&stored)) {
        assert_eq!(now, stored, "line {line}: `make day` writes the log anew");
    }
    assert_eq!(now.len(), stored.len());
}
