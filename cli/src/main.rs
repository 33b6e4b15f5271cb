//! The command `mesh-authz`. What it does is in the library of this package.

use std::process::ExitCode;

use clap::Parser as _;
use mesh_authz_cli::command;

fn main() -> ExitCode {
    command::run(&command::Arguments::parse())
}
