//! The command `mesh-authz`: arguments, and the exit status that scripts rely on.
//!
//! 0: fine. 1: the answer is bad: invalid policies, failed tests. 2: wrong usage, or input that cannot be read.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    cli::run(&cli::Arguments::parse())
}
