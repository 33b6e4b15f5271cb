//! What the command's subcommands share: their arguments' types, and the way from an answer to an exit status.

mod check;
mod render;
mod test;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Checks, tests and renders Istio authorization policies offline, with the engine that enforces them in Envoy.
///
/// Exit status: 0 fine; 1 the answer is bad (invalid policies, failed tests); 2 wrong usage or unreadable input.
#[derive(Debug, Parser)]
#[command(name = "mesh-authz", version, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what is wrong with policies.
    Check(check::Arguments),
    /// Run test files.
    Test(test::Arguments),
    /// Print what runs policies: plugin configuration, Envoy bootstrap, Istio resources, or Envoy's own RBAC filters.
    #[command(subcommand)]
    Render(Box<render::Arguments>),
}

/// What a subcommand found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// All is well.
    Good,
    /// Something is wrong with what was asked about.
    Bad,
}

/// Why a subcommand could not answer; the text says it all.
type Failure = String;

/// Runs the command, and turns its answer into an exit status.
pub fn run(arguments: &Arguments) -> ExitCode {
    let mut out = String::new();
    let answer = match &arguments.command {
        Command::Check(arguments) => check::run(arguments, &mut out),
        Command::Test(arguments) => test::run(arguments, &mut out),
        Command::Render(arguments) => render::run(arguments, &mut out),
    };
    // A reader that closes the pipe early, such as `head`, is no failure.
    let _closed_pipe = std::io::stdout().write_all(out.as_bytes());
    match answer {
        Ok(Answer::Good) => ExitCode::SUCCESS,
        Ok(Answer::Bad) => ExitCode::from(1),
        Err(failure) => {
            let _closed_pipe = writeln!(std::io::stderr(), "mesh-authz: {failure}");
            ExitCode::from(2)
        }
    }
}
