//! `mesh-authz test`: runs test files through the engine.

use std::fmt::Write as _;
use std::path::PathBuf;

use mesh_authz::testfile::{TestFile, TestFileError};

use super::{Answer, Failure};

/// Arguments of `mesh-authz test`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: mesh-authz test examples/*/tests.yaml")]
pub struct Arguments {
    /// Test files.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

pub fn run(arguments: &Arguments, out: &mut String) -> Result<Answer, Failure> {
    let (mut passed, mut failed) = (0_usize, 0_usize);
    for path in &arguments.files {
        let file = match TestFile::read(path) {
            Ok(file) => file,
            Err(TestFileError::Input(error)) => return Err(error.to_string()),
            Err(error @ TestFileError::Invalid(_)) => {
                let _infallible = writeln!(out, "{error}");
                failed = failed.saturating_add(1);
                continue;
            }
        };
        for (policy, scope) in
            file.set.scopes().filter(|(_, scope)| *scope != mesh_authz::policy::scope::Scope::Applies)
        {
            let _infallible = writeln!(out, "note   {}: policy {}: {scope}", path.display(), policy.policy.name);
        }
        let engine = file.set.engine();
        for test in &file.tests {
            let request = test.request.to_request();
            let decision = engine.decide(&request);
            let ok = test.expect.is_met_by(&decision);
            let count = if ok { &mut passed } else { &mut failed };
            *count = count.saturating_add(1);
            let _infallible =
                writeln!(out, "{} {}: {}", if ok { "ok    " } else { "FAILED" }, path.display(), test.name);
            if !ok {
                let (verdict, reason) = (decision.verdict, decision.reason);
                let _infallible = writeln!(out, "       expected {}, got {verdict}: {reason}", test.expect);
                if let Some(attribute) = decision.unreadable {
                    let _infallible = writeln!(out, "       the request does not say its {attribute}");
                }
            }
        }
    }
    let _infallible = writeln!(out, "{passed} passed, {failed} failed");
    Ok(if failed == 0 { Answer::Good } else { Answer::Bad })
}
