//! The subcommands, and what they share: argument types, failures, and the exit status for each answer.

mod check;
mod diff;
mod explain;
mod generate;
mod github;
mod init;
mod log_options;
mod options;
mod render;
mod replace;
mod replay;
mod sarif;
mod snippet;
mod suggest;
mod test;
mod watch;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mesh_authz::policy::PolicyName;
use mesh_authz::policy::scope::{NeedsLabels, Scope};

use crate::load::finding::Finding;
use crate::load::providers::Providers;
use crate::load::{InputError, Other, Resources};

/// Check, explain, test and render Istio authorization policies offline, with the engine that enforces them in Envoy.
#[derive(Debug, Parser)]
#[command(
    name = "mesh-authz",
    version,
    arg_required_else_help = true,
    after_help = "Examples:
  mesh-authz init
  mesh-authz check policies/
  kubectl get authorizationpolicies -A -o yaml | mesh-authz check -
  mesh-authz explain policies/ --label app=backend --path /api/v1/data \\
    --principal cluster.local/ns/default/sa/frontend
  mesh-authz test --coverage policies/
  mesh-authz render envoy policies/ --namespace default \\
    --label app=backend > envoy.yaml

Exit status:
  0  success
  1  a negative result, such as invalid policies or failed tests
  2  wrong usage or unreadable input"
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check policies for mistakes and likely mistakes.
    Check(Box<check::Arguments>),
    /// Explain why a request is allowed or denied.
    Explain(Box<explain::Arguments>),
    /// Say who gains access by a change of policies, and who loses it.
    Diff(Box<diff::Arguments>),
    /// Say what policies would have decided about the requests in access logs.
    Replay(Box<replay::Arguments>),
    /// Make policies that allow what was allowed, of access logs.
    Suggest(Box<suggest::Arguments>),
    /// Run policy tests from test files.
    Test(test::Arguments),
    /// Render policies as a plugin configuration, an Envoy bootstrap, Istio resources or Envoy's own RBAC filters.
    #[command(subcommand)]
    Render(Box<render::Arguments>),
    /// Write first policies, tests for them, and a recipe for CI.
    Init(init::Arguments),
    /// Print a shell completion script.
    Completions(generate::Completions),
    /// Print or write manual pages.
    Man(generate::Man),
    /// Print a JSON Schema, so that editors complete and check a file.
    Schema(generate::Schema),
}

/// The result of a subcommand that ran to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// No problem: exit status 0.
    Good,
    /// There is a problem in the input, such as an invalid policy or a failed test: exit status 1.
    Bad,
}

/// Why a subcommand has no result. The exit status is 1 for [`Self::Invalid`], and 2 for all others.
#[derive(Debug)]
enum Failure {
    /// A file cannot be read.
    Unreadable(InputError),
    /// The workload's labels are not given, and without them it is unknown whether a resource applies.
    NeedsLabels { kind: &'static str, name: PolicyName, what: NeedsLabels },
    /// The input has mistakes.
    Invalid(Vec<Finding>),
    /// The arguments or the files cannot be used; the text says why.
    Unusable(String),
}

impl From<InputError> for Failure {
    fn from(error: InputError) -> Self {
        Self::Unreadable(error)
    }
}

impl Failure {
    /// Turns an error of a library into a failure with the same message.
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
                write!(
                    f,
                    "{kind} {name} has {what}: give the workload's labels with --label, or --no-labels if it has none"
                )
            }
            Self::Invalid(findings) => {
                let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
            Self::Unusable(message) => f.write_str(message),
        }
    }
}

/// Reads resources from files. Fails if one is invalid or if there is no policy. Prints a note on standard error about
/// the documents that are skipped without a warning.
fn valid_resources(files: &[PathBuf], is_noted: fn(&Other) -> bool) -> Result<Resources, Failure> {
    let resources = Resources::read(files)?;
    if let Some((file, folder)) = resources.built_policies().first() {
        return Err(Failure::Unusable(not_what_is_deployed(file, folder)));
    }
    let of_providers = Providers::of(&resources).findings;
    if resources.has_errors() || !of_providers.is_empty() {
        return Err(Failure::Invalid(resources.findings.into_iter().chain(of_providers).collect()));
    }
    if resources.policies.is_empty() {
        return Err(Failure::Unusable(format!("{}; without any, everything is allowed", no_policy(&resources))));
    }
    let is_noted = |other: &&Other| is_noted(other) || other.lets_http_through();
    if let Some(skipped) = skipped(resources.others.iter().filter(is_noted)) {
        note(&skipped);
    }
    Ok(resources)
}

/// Says that a kustomization makes other policies of those in a file.
fn not_what_is_deployed(file: &Path, folder: &Path) -> String {
    format!(
        "{}: the kustomization in {} changes what it deploys, so a cluster gets other policies than this file has; give what it \
         builds: kubectl kustomize {} | mesh-authz … -",
        file.display(),
        folder.display(),
        folder.display(),
    )
}

/// Says that there is no policy, and what there is instead.
fn no_policy(resources: &Resources) -> String {
    let authentications = resources.request_authentications.iter().map(|_| "RequestAuthentication");
    match counted(authentications.chain(resources.others.iter().map(Other::what))).as_str() {
        "" => "there is no AuthorizationPolicy in the input, and no other document".to_owned(),
        found => format!("there is no AuthorizationPolicy in the input, only: {found}"),
    }
}

/// Says in one line what is skipped. `None` if nothing is.
fn skipped<'o>(others: impl Iterator<Item = &'o Other>) -> Option<String> {
    let others: Vec<_> = others.collect();
    match others.as_slice() {
        [] => None,
        [only] => Some(format!("skipped {only}")),
        several => {
            let kinds = counted(several.iter().map(|other| other.what()));
            Some(format!("skipped {} documents: {kinds}", several.len()))
        }
    }
}

/// Says which resources do not apply to the workload, and why. Of many, it names the first and counts the others.
fn not_applying(kind: &str, all: &[(&PolicyName, Scope)]) -> Vec<String> {
    const FEW: usize = 5;
    let shown = if all.len() > FEW { 1 } else { FEW };
    let mut lines: Vec<_> = all.iter().take(shown).map(|(name, scope)| format!("{kind} {name}: {scope}")).collect();
    if let Some(more @ 1..) = all.len().checked_sub(shown) {
        lines.push(format!("{kind}: {more} more do not apply either"));
    }
    lines
}

/// How often each name occurs, the most frequent one first: `Deployment 300, ConfigMap 100`.
fn counted<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut counts = BTreeMap::<_, usize>::new();
    for name in names {
        let count = counts.entry(name).or_default();
        *count = count.saturating_add(1);
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| Reverse(*count));
    counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

/// Prints findings on standard error, sorted by place. It is for subcommands whose standard output is the result.
fn complain(findings: &[Finding]) {
    let mut text = String::new();
    let mut findings: Vec<_> = findings.iter().collect();
    findings.sort_by(|one, other| one.order().cmp(&other.order()));
    for finding in findings {
        snippet::finding(finding, &mut text);
    }
    let _closed_pipe = write!(anstream::stderr(), "{text}");
}

/// Prints a line on standard error that is not part of the output.
fn note(text: &str) {
    let _closed_pipe = writeln!(anstream::stderr(), "{}", snippet::printable(text));
}

/// Serializes a value as JSON, for scripts.
fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::unusable)?;
    // JSON does not escape this control character, and output for terminals would lose it.
    Ok(text.replace('\u{7f}', "\\u007f") + "\n")
}

fn write(stream: &mut impl io::Write, text: &str) -> io::Result<()> {
    stream.write_all(text.as_bytes())?;
    stream.flush()
}

/// Runs the command, and returns the exit status for its answer.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    let once = || run_once(&arguments.command);
    let failure = match &arguments.command {
        Command::Check(check) if check.watch.watch => watch::forever(
            || check.places(),
            || {
                once();
            },
        ),
        Command::Test(test) if test.watch.watch => watch::forever(
            || test::watched(test),
            || {
                once();
            },
        ),
        _ => return once(),
    };
    report(&failure)
}

fn run_once(command: &Command) -> ExitCode {
    let mut out = String::new();
    let answer = match command {
        Command::Check(arguments) => check::run(arguments, &mut out),
        Command::Explain(arguments) => explain::run(arguments, &mut out),
        Command::Diff(arguments) => diff::run(arguments, &mut out),
        Command::Replay(arguments) => replay::run(arguments, &mut out),
        Command::Suggest(arguments) => suggest::run(arguments, &mut out),
        Command::Test(arguments) => test::run(arguments, &mut out),
        Command::Render(arguments) => render::run(arguments, &mut out),
        Command::Init(arguments) => init::run(arguments, &mut out),
        Command::Completions(arguments) => generate::completions(arguments, &mut out),
        Command::Man(arguments) => generate::man(arguments, &mut out),
        Command::Schema(arguments) => generate::schema(arguments, &mut out),
    };
    // Output for people has colours only on a terminal, and only if NO_COLOR is not set. Output for programs is written
    // unchanged. A reader that closes the pipe early, such as `head`, is not a failure.
    let written = match command {
        Command::Check(_)
        | Command::Diff(_)
        | Command::Explain(_)
        | Command::Replay(_)
        | Command::Test(_)
        | Command::Init(_) => write(&mut anstream::stdout(), &out),
        Command::Render(_) | Command::Suggest(_) | Command::Completions(_) | Command::Man(_) | Command::Schema(_) => {
            write(&mut std::io::stdout(), &out)
        }
    };
    let answer = match written {
        Err(error) if answer.is_ok() && error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::Unusable(format!("the output cannot be written: {error}")))
        }
        _ => answer,
    };
    match answer {
        Ok(Answer::Good) => ExitCode::SUCCESS,
        Ok(Answer::Bad) => ExitCode::from(1),
        Err(failure) => report(&failure),
    }
}

/// Says on standard error why there is no result. Returns the exit status.
fn report(failure: &Failure) -> ExitCode {
    if let Failure::Invalid(findings) = failure {
        complain(findings);
        return ExitCode::from(1);
    }
    let _closed_pipe = writeln!(std::io::stderr(), "mesh-authz: {failure}");
    ExitCode::from(2)
}
