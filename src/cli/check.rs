//! `mesh-authz check`: every error and warning, one a line.

use std::fmt::Write as _;
use std::path::PathBuf;

use mesh_authz::finding::Severity;
use mesh_authz::input::Resources;

use super::{Answer, Failure};

/// Arguments of `mesh-authz check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: kubectl get authorizationpolicies -A -o yaml | mesh-authz check -")]
pub struct Arguments {
    /// Files or directories with policies, YAML or JSON; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Count warnings as errors.
    #[arg(long)]
    deny_warnings: bool,
}

pub fn run(arguments: &Arguments, out: &mut String) -> Result<Answer, Failure> {
    let resources = Resources::read(&arguments.files).map_err(|error| error.to_string())?;
    for finding in &resources.findings {
        let _infallible = writeln!(out, "{finding}");
    }
    for other in &resources.others {
        let _infallible = writeln!(out, "{other}: skipped");
    }
    if resources.policies.is_empty() && !resources.has_errors() {
        return Err("there is no AuthorizationPolicy in the input".to_owned());
    }
    let count = |severity| resources.findings.iter().filter(|f| f.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let valid = resources.policies.len();
    let _infallible = writeln!(out, "valid policies: {valid}, errors: {errors}, warnings: {warnings}");
    let bad = errors > 0 || (arguments.deny_warnings && warnings > 0);
    Ok(if bad { Answer::Bad } else { Answer::Good })
}
