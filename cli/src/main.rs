//! The binary `mesh-authz`. The library of this package implements it.

use std::process::ExitCode;

use clap::Parser as _;
use mesh_authz_cli::command;

fn main() -> ExitCode {
    command::run(&command::Arguments::parse())
}
