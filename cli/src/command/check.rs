//! `mesh-authz check`: finds mistakes and likely mistakes in policies, and in Envoy's own configuration.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::ValueEnum;
use mesh_authz::document::Span;
use serde::Serialize;

use super::options::{self, Documented, ExcludeOption, PathNormalizationOption, Setting, WarningOptions, or_here};
use super::watch::WatchOption;
use super::{Answer, Failure, github, sarif, snippet};
use crate::envoy::{self, ChainSummary, Checked, EnvoyCheck, Surroundings};
use crate::lint::{self, CATALOGUE, Enforced, Lint, LintContext, PathNormalization, Plaintexts};
use crate::load::finding::{Finding, Severity};
use crate::load::providers::Providers;
use crate::load::{Resources, peer_authentication};

/// Arguments of `mesh-authz check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  mesh-authz check policies/
  mesh-authz check --watch
  mesh-authz check --deny-warnings 'policies/**/*.yaml' deployments/
  kubectl get authorizationpolicies -A -o yaml | mesh-authz check -
  mesh-authz check --format sarif policies/ > policies.sarif
  mesh-authz check --envoy envoy.yaml
  curl -s localhost:15000/config_dump?include_eds | mesh-authz check --envoy -
  mesh-authz check --explain MA001

Exit status:
  0  there are no errors; with --deny-warnings, there are also no warnings
  1  there are errors; with --deny-warnings, errors or warnings
  2  wrong usage or unreadable input")]
pub struct Arguments {
    /// Files, directories or patterns with policies, in YAML or JSON; `-` is standard input. Without any, and without
    /// --envoy, this is the current folder. The check also uses the workloads, `PeerAuthentications` and
    /// `RequestAuthentications` in them.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    #[command(flatten)]
    exclude: ExcludeOption,

    /// Check this configuration of Envoy: a bootstrap, or the `/config_dump` of a running Envoy. It finds what decisions
    /// depend on and is missing, and ways to an application that do not lead through the filter. Repeat it for a configuration in
    /// several files; `-` is standard input.
    #[arg(long, value_name = "CONFIG")]
    envoy: Vec<PathBuf>,

    /// Output format. Code-scanning services read `sarif`.
    #[arg(long, value_enum, default_value = "human")]
    format: Format,

    /// Say that one cluster gets all of these files, so that two resources with the same name are an error. Without it,
    /// the kustomizations in the files say what is deployed together, and elsewhere it is a warning.
    #[arg(long)]
    together: bool,

    #[command(flatten)]
    warnings: WarningOptions,

    /// Explain a lint, or a check of Envoy's configuration.
    #[arg(long, value_name = "CODE", value_parser = options::documented, conflicts_with_all = ["files", "envoy"])]
    explain: Option<Documented>,

    /// List all lints and checks.
    #[arg(long, conflicts_with_all = ["files", "envoy"])]
    list: bool,

    #[command(flatten)]
    pub watch: WatchOption,

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
    /// Workflow commands of GitHub Actions: GitHub shows each finding at its line.
    Github,
}

pub fn run(arguments: &Arguments, out: &mut String) -> Result<Answer, Failure> {
    match arguments.explain {
        Some(Documented::Lint(lint)) => explain(lint, out),
        Some(Documented::EnvoyCheck(check)) => explain_check(check, out),
        None if arguments.list => list(out),
        None => return check(arguments, out),
    }
    Ok(Answer::Good)
}

fn list(out: &mut String) {
    let lints = CATALOGUE.into_iter().map(|lint| (lint.code, lint.name, lint.summary));
    let checks = envoy::CATALOGUE.into_iter().map(|check| (check.code, check.name, check.summary));
    for (code, name, summary) in lints.chain(checks) {
        let _infallible = writeln!(out, "{code}  {name:<32} {summary}");
    }
}

fn check(arguments: &Arguments, out: &mut String) -> Result<Answer, Failure> {
    let is_stdin = |file: &PathBuf| file.as_os_str() == "-";
    if arguments.files.iter().any(is_stdin) && arguments.envoy.iter().any(is_stdin) {
        return Err(Failure::unusable(
            "the policies and the configuration of Envoy cannot both be `-`, standard input: write one of them to a file",
        ));
    }
    let only_envoy = arguments.files.is_empty() && !arguments.envoy.is_empty();
    let mut resources = if only_envoy {
        Resources::default()
    } else {
        Resources::read_except(&or_here(&arguments.files), &arguments.exclude.excluded())?
    };
    if !arguments.together {
        resources.keep_errors_about_what_is_deployed_together();
    }
    let mut findings = std::mem::take(&mut resources.findings);
    findings.extend(Providers::of(&resources).findings);
    let checked = arguments.check_envoy(&resources)?;
    let surroundings = checked.as_ref().map(|checked| checked.surroundings).unwrap_or_default();
    findings.extend(lint::lint(&resources, &arguments.context(&resources, surroundings)?));
    findings.extend(checked.iter().flat_map(|checked| checked.findings.iter().cloned()));
    arguments.warnings.select(&mut findings);
    let is_about_tokens_or_tls =
        !resources.request_authentications.is_empty() || resources.of_kind(peer_authentication::KIND).next().is_some();
    if !only_envoy
        && resources.policies.is_empty()
        && !is_about_tokens_or_tls
        && findings.iter().all(|finding| finding.code == Some(lint::SKIPPED_RESOURCE))
    {
        return Err(Failure::Unusable(super::no_policy(&resources)));
    }
    let report = Report { envoy: checked.as_ref().map(Envoy::of), ..Report::new(&resources, &findings) };
    match arguments.format {
        Format::Human => report.human(&findings, out),
        Format::Json => *out = super::json(&report)?,
        Format::Sarif => *out = super::json(&sarif::log(&findings))?,
        Format::Github => {
            github::annotations(&findings, out);
            report.counts(&findings, out);
        }
    }
    let bad = report.errors > 0 || (arguments.warnings.deny_warnings && report.warnings > 0);
    Ok(if bad { Answer::Bad } else { Answer::Good })
}

impl Arguments {
    /// What is checked.
    pub fn places(&self) -> Vec<PathBuf> {
        let only_envoy = self.files.is_empty() && !self.envoy.is_empty();
        let files = if only_envoy { Vec::new() } else { or_here(&self.files).into_owned() };
        files.into_iter().chain(self.envoy.iter().cloned()).collect()
    }

    fn context(&self, resources: &Resources, envoy: Surroundings) -> Result<LintContext, Failure> {
        let labels = self.setting.workload.labels()?;
        Ok(LintContext {
            mesh: self.setting.mesh(),
            workload: labels.map(|labels| (self.setting.workload.namespace(), labels)),
            path_normalization: self.path_normalization.known(resources).unwrap_or(if envoy.normalizes_paths {
                PathNormalization::DecodeAndMergeSlashes
            } else {
                PathNormalization::default()
            }),
            plaintext: Plaintexts::AsInIstio,
            custom: self.setting.mesh().custom(),
            enforced: match (envoy.is_standalone, envoy.decides_tcp) {
                (true, false) => Enforced::ByThisFilter,
                (true, true) => Enforced::ByThisFilterAlsoOnTcp,
                (false, _) => Enforced::ByIstio,
            },
        })
    }

    /// Checks the configuration of Envoy, if there is one.
    fn check_envoy(&self, resources: &Resources) -> Result<Option<Checked>, Failure> {
        let policies: Vec<_> = resources.policies.iter().map(|resource| &resource.policy).collect();
        Ok(if self.envoy.is_empty() { None } else { Some(envoy::check(&self.envoy, &policies)?) })
    }
}

/// What the configuration of Envoy has, in the shape of the JSON output.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envoy<'c> {
    /// The policies of its filters.
    policies: usize,
    filter_chains: &'c [ChainSummary],
}

impl<'c> Envoy<'c> {
    fn of(checked: &'c Checked) -> Self {
        Self { policies: checked.policies, filter_chains: &checked.chains }
    }

    fn human(&self, out: &mut String) {
        for ChainSummary { listener, chain, decides, clusters } in self.filter_chains {
            let chain =
                chain.map_or_else(|| "default_filter_chain".to_owned(), |index| format!("filter_chains[{index}]"));
            let clusters = if clusters.is_empty() { "none".to_owned() } else { clusters.join(", ") };
            let line = format!("listener {listener}, {chain}: {decides}; clusters: {clusters}");
            let _infallible = writeln!(out, "{}", snippet::printable(&line));
        }
        let _infallible = writeln!(out, "policies of Envoy's filters: {}", self.policies);
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
    /// The folders of kustomizations that change or patch policies. What they build is not checked.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    not_built: BTreeSet<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    envoy: Option<Envoy<'f>>,
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
            not_built: resources.built_policies().into_iter().map(|(_, folder)| folder).collect(),
            silently_skipped: super::skipped(silent),
            envoy: None,
        }
    }

    fn human(&self, findings: &[Finding], out: &mut String) {
        for finding in findings {
            snippet::finding(finding, out);
        }
        self.counts(findings, out);
    }

    /// The last lines, which count.
    fn counts(&self, findings: &[Finding], out: &mut String) {
        let Self { policies, errors, warnings, .. } = self;
        if let Some(skipped) = &self.silently_skipped {
            let _infallible = writeln!(out, "{}", snippet::printable(skipped));
        }
        for folder in &self.not_built {
            let folder = snippet::printable(&folder.display().to_string());
            let _infallible = writeln!(
                out,
                "not checked: what the kustomization in {folder} makes of the policies; kubectl kustomize {folder} | mesh-authz check -"
            );
        }
        match &self.envoy {
            Some(envoy) => {
                envoy.human(out);
                let _infallible = writeln!(out, "errors: {errors}, warnings: {warnings}");
            }
            None => {
                let _infallible = writeln!(out, "valid policies: {policies}, errors: {errors}, warnings: {warnings}");
            }
        }
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

fn explain_check(EnvoyCheck { code, name, summary, explanation }: &EnvoyCheck, out: &mut String) {
    let _infallible = writeln!(out, "{code} {name}: {summary}\n");
    for line in textwrap::wrap(explanation, 100) {
        let _infallible = writeln!(out, "{line}");
    }
}
