//! `mesh-authz check`: finds mistakes and likely mistakes in policies.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::ValueEnum;
use mesh_authz::document::Span;
use serde::Serialize;

use super::options::{self, PathNormalizationOption, Setting, WarningOptions};
use super::{Answer, Failure, sarif, snippet};
use crate::lint::{self, CATALOGUE, Lint, LintContext, Plaintexts};
use crate::load::finding::{Finding, Severity};
use crate::load::{Resources, peer_authentication};

/// Arguments of `mesh-authz check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  mesh-authz check policies/
  mesh-authz check --deny-warnings 'policies/**/*.yaml' deployments/
  kubectl get authorizationpolicies -A -o yaml | mesh-authz check -
  mesh-authz check --format sarif policies/ > policies.sarif
  mesh-authz check --explain MA001

Exit status:
  0  the policies are valid; with --deny-warnings, there are also no warnings
  1  there are errors; with --deny-warnings, errors or warnings
  2  wrong usage or unreadable input")]
pub struct Arguments {
    /// Files, directories or patterns with policies, in YAML or JSON; `-` is standard input. The check also uses the
    /// workloads, `PeerAuthentications` and `RequestAuthentications` in them.
    #[arg(required_unless_present_any = ["explain", "list"], value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Output format. Code-scanning services read `sarif`.
    #[arg(long, value_enum, default_value = "human")]
    format: Format,

    /// Say that one cluster gets all of these files, so that two resources with the same name are an error. Without it,
    /// the kustomizations in the files say what is deployed together, and elsewhere it is a warning.
    #[arg(long)]
    together: bool,

    #[command(flatten)]
    warnings: WarningOptions,

    /// Explain a lint, with an example.
    #[arg(long, value_name = "CODE", value_parser = options::lint, conflicts_with = "files")]
    explain: Option<&'static Lint>,

    /// List all lints.
    #[arg(long, conflicts_with = "files")]
    list: bool,

    #[command(flatten)]
    setting: Setting,

    #[command(flatten)]
    path_normalization: PathNormalizationOption,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Text for people, with the source line of each finding.
    Human,
    /// One JSON object.
    Json,
    /// SARIF 2.1.0.
    Sarif,
}

pub fn run(arguments: &Arguments, out: &mut String) -> Result<Answer, Failure> {
    if let Some(lint) = arguments.explain {
        explain(lint, out);
        return Ok(Answer::Good);
    }
    if arguments.list {
        for Lint { code, name, summary, .. } in CATALOGUE {
            let _infallible = writeln!(out, "{code}  {name:<32} {summary}");
        }
        return Ok(Answer::Good);
    }
    let mut resources = Resources::read(&arguments.files)?;
    if !arguments.together {
        resources.keep_errors_about_what_is_deployed_together();
    }
    let mut findings = std::mem::take(&mut resources.findings);
    findings.extend(lint::lint(&resources, &arguments.context(&resources)?));
    arguments.warnings.select(&mut findings);
    let is_about_tokens_or_tls =
        !resources.request_authentications.is_empty() || resources.of_kind(peer_authentication::KIND).next().is_some();
    if resources.policies.is_empty()
        && !is_about_tokens_or_tls
        && findings.iter().all(|finding| finding.code == Some(lint::SKIPPED_RESOURCE))
    {
        return Err(Failure::Unusable(super::no_policy(&resources)));
    }
    let report = Report::new(&resources, &findings);
    match arguments.format {
        Format::Human => report.human(&findings, out),
        Format::Json => *out = super::json(&report)?,
        Format::Sarif => *out = super::json(&sarif::log(&findings))?,
    }
    let bad = report.errors > 0 || (arguments.warnings.deny_warnings && report.warnings > 0);
    Ok(if bad { Answer::Bad } else { Answer::Good })
}

impl Arguments {
    fn context(&self, resources: &Resources) -> Result<LintContext, Failure> {
        let labels = self.setting.workload.labels()?;
        Ok(LintContext {
            mesh: self.setting.mesh(),
            workload: labels.map(|labels| (self.setting.workload.namespace(), labels)),
            path_normalization: self.path_normalization.with(resources),
            plaintext: Plaintexts::AsInIstio,
        })
    }
}

/// The findings, in the shape of the JSON output.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'f> {
    policies: usize,
    errors: usize,
    warnings: usize,
    findings: Vec<JsonFinding<'f>>,
    skipped: Vec<String>,
    /// Those that no finding mentions, in one line.
    #[serde(skip)]
    silently_skipped: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonFinding<'f> {
    severity: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'f str>,
    #[serde(flatten)]
    place: JsonPlace,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'f str>,
    path: String,
    message: &'f str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'f str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    related: Vec<JsonRelated<'f>>,
}

#[derive(Serialize)]
struct JsonRelated<'f> {
    #[serde(flatten)]
    place: JsonPlace,
    message: &'f str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonPlace {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_column: Option<u32>,
}

impl JsonPlace {
    fn new(source: &crate::load::finding::SourceText, span: Option<Span>) -> Self {
        Self {
            file: source.file.display().to_string(),
            line: span.map(|span| span.start.line),
            column: span.map(|span| span.start.column),
            end_line: span.map(|span| span.end.line),
            end_column: span.map(|span| span.end.column),
        }
    }
}

impl<'f> Report<'f> {
    fn new(resources: &Resources, findings: &'f [Finding]) -> Self {
        let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
        let json = |finding: &'f Finding| JsonFinding {
            severity: finding.severity.to_string(),
            code: finding.code,
            place: JsonPlace::new(&finding.source, finding.span),
            policy: finding.diagnostic.policy.as_deref(),
            path: finding.diagnostic.path.to_string(),
            message: &finding.diagnostic.message,
            hint: finding.diagnostic.hint.as_deref(),
            related: finding
                .related
                .iter()
                .map(|r| JsonRelated { place: JsonPlace::new(&r.source, r.span), message: &r.message })
                .collect(),
        };
        let skipped = || resources.others.iter().filter(|other| lint::is_skipped(other));
        let is_reported = findings.iter().any(|finding| finding.code == Some(lint::SKIPPED_RESOURCE));
        let silent = skipped().filter(|other| !is_reported || other.is_test_file());
        Self {
            policies: resources.policies.len(),
            errors: count(Severity::Error),
            warnings: count(Severity::Warning),
            findings: findings.iter().map(json).collect(),
            skipped: skipped().map(ToString::to_string).collect(),
            silently_skipped: super::skipped(silent),
        }
    }

    fn human(&self, findings: &[Finding], out: &mut String) {
        for finding in findings {
            snippet::finding(finding, out);
        }
        let Self { policies, errors, warnings, .. } = self;
        if let Some(skipped) = &self.silently_skipped {
            let _infallible = writeln!(out, "{}", snippet::printable(skipped));
        }
        let _infallible = writeln!(out, "valid policies: {policies}, errors: {errors}, warnings: {warnings}");
        let codes = super::counted(findings.iter().filter_map(|finding| finding.code));
        if !codes.is_empty() {
            let _infallible = writeln!(out, "findings by code: {codes}");
        }
        if let Some(code) = findings.iter().find_map(|finding| finding.code) {
            let _infallible = writeln!(out, "what a code means: mesh-authz check --explain {code}");
        }
    }
}

fn explain(Lint { code, name, summary, explanation, bad, good, .. }: &Lint, out: &mut String) {
    let _infallible = writeln!(out, "{code} {name}: {summary}\n");
    for line in textwrap::wrap(explanation, 100) {
        let _infallible = writeln!(out, "{line}");
    }
    for (title, example) in [("It fires on", bad), ("It does not on", good)] {
        let _infallible = writeln!(out, "\n{title}\n");
        for line in example.trim().lines() {
            let _infallible = writeln!(out, "    {line}");
        }
    }
}
