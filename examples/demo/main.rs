//! The demo: a frontend, a backend and a stranger, each behind a real Envoy. They use mutual TLS, and the backend's
//! Envoy enforces the tutorial's policies. `make demo` runs it. It fails if any outcome is not the expected one.
//! `make day` sends a day of traffic through the same mesh.

#![expect(clippy::indexing_slicing, reason = "JSON values of our own bootstraps: a missing key is null, never a panic")]

mod compose;
mod day;
mod mesh;
mod stages;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anstream::println;
use anstyle::AnsiColor;
use anyhow::Result;

use self::mesh::{Answer, Mesh, Ports};
use self::stages::{DemoRequest, REQUESTS, STAGES, Stage};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--keep-running"] => run(),
        ["--day", file] => day::log(Path::new(file)).map(|()| 0),
        ["--compose-files"] => compose::write_files().map(|()| 0),
        ["--compose-login-files"] => compose::write_login_files().map(|()| 0),
        ["--compose-redis-files"] => compose::write_redis_files().map(|()| 0),
        ["--compose", ..] => compose::demo(&arguments[1..]),
        _ => demo(),
    };
    match outcome {
        Ok(0) => ExitCode::SUCCESS,
        Ok(wrong) => {
            println!("\n{wrong} outcomes are not the expected ones.");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs all stages. Returns how many outcomes are wrong.
fn demo() -> Result<usize> {
    let mesh = Mesh::start(Ports::Free)?;
    let mut wrong = 0;
    for (number, stage) in (1_usize..).zip(&STAGES) {
        println!("\n{number}. {}", stage.title);
        heading(stage);
        let backend = mesh.backend(stage)?;
        for (request, expected) in REQUESTS.iter().zip(stage.expected) {
            wrong += row(request, expected, &mesh.send(&backend, request)?);
        }
        println!("  {}", stage.lesson);
    }
    if wrong == 0 {
        println!("\nAll outcomes are the expected ones.");
        println!("`make run` leaves the last stage running, to try by hand.");
    }
    Ok(wrong)
}

/// Prints a row of the table, which fits into 80 columns. Returns 1 if the outcome is wrong.
fn row(request: &DemoRequest, expected: u16, answer: &Answer) -> usize {
    let ok = answer.status == expected;
    let (mark, colour) = match answer.status {
        _ if !ok => ("!!", AnsiColor::BrightRed),
        200 => ("  ", AnsiColor::Green),
        _ => ("  ", AnsiColor::Yellow),
    };
    let style = colour.on_default();
    // All policies of the demo are in this namespace, and every rule that is named has matched.
    let reason = answer.reason.replace("default/", "").replace(", and no DENY policy matched", "");
    let reason = if reason.starts_with("rule") { reason.trim_end_matches(" matched") } else { reason.as_str() };
    println!("{mark}{:<26} {expected:<8} {style}{:<3}{style:#}  {reason}", request.to_string(), answer.status);
    usize::from(!ok)
}

fn heading(stage: &Stage) {
    let policies = if stage.policies.is_empty() { "none".to_owned() } else { stage.policies.join(" + ") };
    println!("   policies: {policies}");
    println!("   combining: {}\n", stage.combining);
    println!("  {:<26} {:<8} {:<3}  reason", "request", "expected", "got");
}

/// Starts the last stage on the ports that the bootstraps name, and leaves it running.
fn run() -> Result<usize> {
    // Without this, the folders of the Envoys would be left behind.
    let is_ended = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&is_ended);
    ctrlc::set_handler(move || ended.store(true, Ordering::Relaxed))?;
    let mesh = Mesh::start(Ports::AsWritten)?;
    let stage = &STAGES[STAGES.len() - 1];
    let backend = mesh.backend(stage)?;
    println!("\nRunning: {}", stage.title);
    println!("   policies: {}\n", stage.policies.join(" + "));
    for (request, expected) in REQUESTS.iter().zip(stage.expected) {
        println!("   {}   # {expected}", mesh.curl(request)?);
    }
    println!("\n   the backend's statistics and log level: http://{}", backend.admin_address());
    println!("   its log: {}", backend.dir().join("envoy.log").display());
    println!("\nCtrl-C ends it.");
    while !is_ended.load(Ordering::Relaxed) && backend.is_running() {
        std::thread::sleep(Duration::from_millis(200));
    }
    if is_ended.load(Ordering::Relaxed) {
        return Ok(0);
    }
    anyhow::bail!("the backend's Envoy has ended:\n{}", backend.log())
}
