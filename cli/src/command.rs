//! What the command's subcommands share: their arguments' types, and the way from an answer to an exit status.

mod check;
mod explain;
mod generate;
mod options;
mod render;
mod replace;
mod sarif;
mod snippet;
mod test;

use std::fmt;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mesh_authz::policy::PolicyName;
use mesh_authz::policy::scope::NeedsLabels;

use crate::lint;
use crate::load::finding::Finding;
use crate::load::{InputError, Resources};

/// Checks, explains, tests and renders Istio authorization policies offline, with the engine that enforces them in Envoy.
#[derive(Debug, Parser)]
#[command(
    name = "mesh-authz",
    version,
    arg_required_else_help = true,
    after_help = "Examples:
  mesh-authz check policies/
  kubectl get authorizationpolicies -A -o yaml | mesh-authz check -
  mesh-authz explain policies/ --label app=backend --principal cluster.local/ns/default/sa/frontend --path /api/v1/data
  mesh-authz test --coverage policies/
  mesh-authz render envoy policies/ --label app=backend > envoy.yaml

Exit status: 0 fine; 1 the answer is bad (invalid policies, failed tests); 2 wrong usage or unreadable input."
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what is wrong with policies.
    Check(Box<check::Arguments>),
    /// Say what is decided about a request, and why.
    Explain(Box<explain::Arguments>),
    /// Run test files.
    Test(test::Arguments),
    /// Print what runs policies: plugin configuration, Envoy bootstrap, Istio resources, or Envoy's own RBAC filters.
    #[command(subcommand)]
    Render(Box<render::Arguments>),
    /// Print a script that completes the command's arguments in a shell.
    Completions(generate::Completions),
    /// Print or write manual pages.
    Man(generate::Man),
}

/// What a subcommand found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// All is well.
    Good,
    /// Something is wrong with what was asked about.
    Bad,
}

/// Why a subcommand could not answer.
#[derive(Debug)]
enum Failure {
    /// A file cannot be read.
    Unreadable(InputError),
    /// A resource has something that only the workload's labels decide, and they are not given.
    NeedsLabels { kind: &'static str, name: PolicyName, what: NeedsLabels },
    /// The input is wrong.
    Invalid(Vec<Finding>),
    /// What the arguments and the files say cannot be used; the text says why.
    Unusable(String),
}

impl From<InputError> for Failure {
    fn from(error: InputError) -> Self {
        Self::Unreadable(error)
    }
}

impl Failure {
    /// Where an error of a library says it all.
    #[expect(clippy::needless_pass_by_value, reason = "`map_err` passes it so")]
    fn unusable(message: impl ToString) -> Self {
        Self::Unusable(message.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => error.fmt(f),
            Self::NeedsLabels { kind, name, what } => {
                write!(f, "{kind} {name} has {what}: give the workload's labels with --label")
            }
            Self::Invalid(findings) => {
                let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
            Self::Unusable(message) => f.write_str(message),
        }
    }
}

/// The resources in files, all of them valid.
fn valid_resources(files: &[PathBuf]) -> Result<Resources, Failure> {
    let resources = Resources::read(files)?;
    if resources.has_errors() {
        return Err(Failure::Invalid(resources.findings));
    }
    if resources.policies.is_empty() {
        return Err(Failure::unusable(
            "there is no AuthorizationPolicy in the input; without any, everything is allowed",
        ));
    }
    for other in resources.others.iter().filter(|other| !lint::reads(other)) {
        note(&format!("{other}: skipped"));
    }
    Ok(resources)
}

/// Says on standard error what is wrong with an input that was to be made into something else.
fn complain(findings: &[Finding]) {
    let mut text = String::new();
    let mut findings: Vec<_> = findings.iter().collect();
    findings.sort_by(|one, other| one.order().cmp(&other.order()));
    for finding in findings {
        snippet::finding(finding, &mut text);
    }
    let _closed_pipe = write!(anstream::stderr(), "{text}");
}

/// Says something that is no part of the output.
fn note(text: &str) {
    let _closed_pipe = writeln!(anstream::stderr(), "{}", snippet::printable(text));
}

/// As JSON, for scripts.
fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::unusable)?;
    // JSON leaves it as it is, and output for terminals would lose it.
    Ok(text.replace('\u{7f}', "\\u007f") + "\n")
}

/// Runs the command, and turns its answer into an exit status.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    let mut out = String::new();
    let answer = match &arguments.command {
        Command::Check(arguments) => check::run(arguments, &mut out),
        Command::Explain(arguments) => explain::run(arguments, &mut out),
        Command::Test(arguments) => test::run(arguments, &mut out),
        Command::Render(arguments) => render::run(arguments, &mut out),
        Command::Completions(arguments) => generate::completions(arguments, &mut out),
        Command::Man(arguments) => generate::man(arguments, &mut out),
    };
    // Colours are for terminals, unless NO_COLOR says otherwise; what a program reads stays as it is. A reader that closes the
    // pipe early, such as `head`, is no failure.
    let _closed_pipe = match arguments.command {
        Command::Check(_) | Command::Explain(_) | Command::Test(_) => anstream::stdout().write_all(out.as_bytes()),
        Command::Render(_) | Command::Completions(_) | Command::Man(_) => std::io::stdout().write_all(out.as_bytes()),
    };
    match answer {
        Ok(Answer::Good) => ExitCode::SUCCESS,
        Ok(Answer::Bad) => ExitCode::from(1),
        Err(Failure::Invalid(findings)) => {
            complain(&findings);
            ExitCode::from(1)
        }
        Err(failure) => {
            let _closed_pipe = writeln!(std::io::stderr(), "mesh-authz: {failure}");
            ExitCode::from(2)
        }
    }
}
