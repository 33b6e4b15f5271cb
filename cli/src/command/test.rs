//! `mesh-authz test`: runs test files with the engine that enforces policies.

mod proof;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anstream::adapter::strip_str;
use anstyle::AnsiColor;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use mesh_authz::diagnostic::{self, Part};
use mesh_authz::policy::rule_path;
use mesh_authz::policy::scope::{Scope, Workload, scope};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use rayon::prelude::*;
use serde::Serialize;

use super::explain::Extent;
use super::options::{ExcludeOption, or_here};
use super::watch::WatchOption;
use super::{Answer, Failure, explain, note, snippet};
use crate::explain::Explanation;
use crate::load::finding::{Finding, Severity};
use crate::load::kustomization::Kustomizations;
use crate::load::policy_set::Engines;
use crate::load::{self, Excluded, InputError, LoadedPolicy, Resources};
use crate::received::{Answered, answers, where_answered};
use crate::testfile::{Test, TestFile, TestFileError};

/// How many rules that do not match are shown under a test that fails.
const SHOWN_MISSES: usize = 3;

/// Arguments of `mesh-authz test`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  mesh-authz test policies/tests.yaml
  mesh-authz test --watch --filter admin
  mesh-authz test --coverage policies/
  mesh-authz test --format junit 'policies/**/tests*.yaml' > results.xml

Exit status:
  0  every test passes
  1  a test fails; with --require-coverage, also if --coverage lists anything
  2  wrong usage or unreadable input")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct Arguments {
    /// Test files, directories or patterns; the current folder if there are none. In a directory, the files with a `tests`
    /// field are run.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    #[command(flatten)]
    exclude: ExcludeOption,

    /// Run only the tests whose name contains this text, in upper or lower case (repeatable).
    #[arg(long, value_name = "TEXT", conflicts_with = "require_coverage")]
    filter: Vec<String>,

    /// Print only the tests that fail, and the last lines.
    #[arg(long, short)]
    quiet: bool,

    /// Print how long each test takes.
    #[arg(long)]
    durations: bool,

    #[command(flatten)]
    pub watch: WatchOption,

    /// Output format.
    #[arg(long, value_enum, default_value = "human")]
    format: Format,

    /// List the rules that no test matches, and the policies in the given folders that apply to the workload of no test
    /// file.
    #[arg(long)]
    coverage: bool,

    /// Like --coverage, and fail if it lists anything.
    #[arg(long)]
    require_coverage: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Text for people, with an explanation under each test that fails.
    Human,
    /// One JSON object.
    Json,
    /// `JUnit` XML, which CI services read.
    Junit,
}

/// The result of one test file.
struct FileResult {
    file: String,
    /// The results of its tests, or why they could not be run.
    result: Result<Run, TestFileError>,
}

/// The results of the tests of one file.
struct Run {
    /// The policies that do not apply to the workload, and why.
    notes: Vec<String>,
    tests: Vec<Tested>,
    /// `None` if coverage is not requested.
    covered: Option<Covered>,
}

/// The result of one test.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tested {
    name: String,
    line: Option<u32>,
    passed: bool,
    expected: String,
    got: String,
    /// How long it took; `None` if nobody wants to know.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    /// The reason for the decision, for people; empty if the test passes.
    #[serde(serialize_with = "plain", skip_serializing_if = "str::is_empty")]
    explanation: String,
}

/// Identifies a policy: the canonical path of the file that contains it, and `namespace/name`.
type PolicyKey = (PathBuf, String);

/// Identifies a rule: its policy, and its index.
type RuleKey = (PolicyKey, usize);

/// The policies of some files and their rules, each with `FILE:LINE:COLUMN`. FILE is a path that leads there from a
/// folder that is named or from a test file, not the canonical path.
struct Places {
    policies: BTreeMap<PolicyKey, String>,
    rules: BTreeMap<RuleKey, String>,
}

impl Places {
    fn of<'r>(policies: impl IntoIterator<Item = &'r LoadedPolicy>) -> Self {
        let name = diagnostic::Path::of(["metadata", "name"]);
        let mut places = Self { policies: BTreeMap::new(), rules: BTreeMap::new() };
        for LoadedPolicy { policy, source, node } in policies {
            let file = source.file.canonicalize().unwrap_or_else(|_| source.file.clone());
            let key = (file, policy.name.to_string());
            for index in 0..policy.rules.len() {
                let place = snippet::place(source, node.locate(&rule_path(index), Part::Value));
                places.rules.insert((key.clone(), index), place);
            }
            places.policies.insert(key, snippet::place(source, node.locate(&name, Part::Value)));
        }
        places
    }
}

/// What the tests of one file cover.
struct Covered {
    /// The policies that the test file has.
    places: Places,
    /// Those of them that apply to its workload.
    applying: BTreeSet<PolicyKey>,
    /// Its path, and the workload of its tests.
    file: PathBuf,
    workload: Workload,
    /// The rules that a test matches: the name of the policy, and the index.
    matched: BTreeSet<(String, usize)>,
}

impl Covered {
    /// The policies that are missing in the test file, a line each: those beside it or below its folder that apply to its
    /// workload.
    fn missing<'p>(&self, policies: impl Iterator<Item = &'p LoadedPolicy>) -> Vec<(PolicyKey, String)> {
        let canonical = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let folder = canonical(&self.file).parent().map(Path::to_owned).unwrap_or_default();
        let missing = |LoadedPolicy { policy, source, .. }: &'p LoadedPolicy| {
            let key = (canonical(&source.file), policy.name.to_string());
            let is_missing = key.0.starts_with(&folder)
                && scope(policy, &self.workload) == Scope::Applies
                && !self.places.policies.contains_key(&key);
            let (test, name, place) = (self.file.display(), &policy.name, snippet::place(source, None));
            let line = format!("{test} does not have {name}, which applies to its workload  {place}");
            is_missing.then_some((key, line))
        };
        policies.filter_map(missing).collect()
    }
}

/// What the tests of all files cover.
struct Coverage {
    /// Every rule, with its place, and whether a test matches it.
    rules: BTreeMap<RuleKey, (String, bool)>,
    /// The policies in the folders that are named that apply to the workload of no test file, with their places.
    without_workload: BTreeMap<PolicyKey, String>,
    /// Policies in the folder of a test file that apply to its workload, and that it does not have: it tests a workload that
    /// does not exist.
    missing: Vec<(PolicyKey, String)>,
    /// The files in the folders that are named that have mistakes, so that their policies are unknown.
    not_valid: BTreeSet<PathBuf>,
}

impl Coverage {
    fn new(named: &[PathBuf], excluded: &Excluded, outcomes: &[FileResult]) -> Result<Self, InputError> {
        let folders: Vec<_> = named.iter().filter(|place| place.is_dir()).collect();
        let mut resources = Resources::read_except(&folders, excluded)?;
        resources.keep_errors_about_what_is_deployed_together();
        let kustomizations = Kustomizations::of(&resources);
        let is_whole = |policy: &&LoadedPolicy| !kustomizations.is_patch(&policy.source.file);
        let in_folders = Places::of(resources.policies.iter().filter(is_whole));
        let is_error =
            |finding: &&Finding| finding.severity == Severity::Error && !kustomizations.is_patch(finding.file());
        let mistakes = resources.findings.iter().filter(is_error);
        let mut coverage = Self {
            rules: in_folders.rules.into_iter().map(|(rule, place)| (rule, (place, false))).collect(),
            without_workload: in_folders.policies,
            missing: Vec::new(),
            not_valid: mistakes.map(|finding| finding.file().to_owned()).collect(),
        };
        let of_tests = outcomes.iter().filter_map(|outcome| outcome.result.as_ref().ok());
        for covered in of_tests.filter_map(|run| run.covered.as_ref()) {
            let Covered { places, applying, matched, .. } = covered;
            coverage.missing.extend(covered.missing(resources.policies.iter().filter(is_whole)));
            for policy in applying {
                coverage.without_workload.remove(policy);
            }
            for (rule, place) in &places.rules {
                let ((_, policy), index) = rule;
                let by_a_test = matched.contains(&(policy.clone(), *index));
                coverage.rules.entry(rule.clone()).or_insert_with(|| (place.clone(), false)).1 |= by_a_test;
            }
        }
        // A test file that cannot be used can be for any of these.
        if outcomes.iter().any(|outcome| outcome.result.is_err()) {
            coverage.without_workload.clear();
        }
        Ok(coverage)
    }

    fn uncovered(&self) -> impl Iterator<Item = (&RuleKey, &str)> {
        let rules = self.rules.iter().filter(|(_, (_, by_a_test))| !by_a_test);
        rules.map(|(rule, (place, _))| (rule, place.as_str()))
    }

    fn is_whole(&self) -> bool {
        self.without_workload.is_empty()
            && self.missing.is_empty()
            && self.not_valid.is_empty()
            && self.uncovered().next().is_none()
    }

    fn human(&self, out: &mut String) {
        let covered = self.rules.len().saturating_sub(self.uncovered().count());
        let _infallible = writeln!(out, "coverage: a test matches {covered} of {} rules", self.rules.len());
        for gap in self.gaps() {
            let _infallible = writeln!(out, "  {gap}");
        }
    }

    /// What is not covered, a line each.
    fn gaps(&self) -> Vec<String> {
        let of_known = self.uncovered().filter(|((policy, _), _)| !self.without_workload.contains_key(policy));
        let rules =
            of_known.map(|(((_, policy), index), place)| format!("none matches rule {index} of {policy}  {place}"));
        let is_missing = |policy: &PolicyKey| self.missing.iter().any(|(missing, _)| missing == policy);
        let policies = self.without_workload.iter().filter(|(policy, _)| !is_missing(policy));
        let policies = policies
            .map(|((_, policy), place)| format!("no test file has a workload to which {policy} applies  {place}"));
        let files = self.not_valid.iter().map(|file| {
            let file = snippet::printable(&file.display().to_string());
            format!("{file} is not valid; `mesh-authz check {file}` says why")
        });
        rules.chain(policies).chain(self.missing.iter().map(|(_, line)| line.clone())).chain(files).collect()
    }

    /// A suite with a test that fails for everything that is not covered.
    fn junit(&self) -> TestSuite {
        let mut suite = TestSuite::new("coverage");
        let gaps = self.gaps();
        if gaps.is_empty() {
            suite.add_test_case(TestCase::new("every rule is tested", TestCaseStatus::success()));
        }
        for gap in gaps {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(xml(&gap));
            suite.add_test_case(TestCase::new(xml(&gap), status));
        }
        suite
    }

    fn json(&self) -> JsonCoverage<'_> {
        let uncovered = self.uncovered().map(|(((_, policy), rule), place)| JsonRule { policy, rule: *rule, place });
        let without_workload = self.without_workload.iter().map(|((_, policy), place)| JsonPolicy { policy, place });
        JsonCoverage {
            rules: self.rules.len(),
            uncovered: uncovered.collect(),
            without_workload: without_workload.collect(),
            missing: self.missing.iter().map(|(_, line)| line.as_str()).collect(),
            not_valid: &self.not_valid,
        }
    }
}

pub fn run(arguments: &Arguments, out: &mut String) -> Result<Answer, Failure> {
    let named = or_here(&arguments.files);
    let excluded = arguments.exclude.excluded();
    let files = files(&named, &excluded)?;
    let with_coverage = arguments.coverage || arguments.require_coverage;
    let wanted = Wanted {
        names: arguments.filter.iter().map(|text| text.to_lowercase()).collect(),
        with_coverage,
        with_durations: arguments.durations,
    };
    let progress = progress(files.len());
    let run = |file: &PathBuf| {
        let outcome = FileResult::of(file, named.contains(file), &wanted);
        progress.inc(1);
        outcome
    };
    let outcomes: Result<Vec<_>, _> = files.par_iter().map(run).collect();
    progress.finish_and_clear();
    let outcomes = outcomes?;
    let coverage = with_coverage.then(|| Coverage::new(&named, &excluded, &outcomes)).transpose()?;
    let summary = Summary::new(outcomes, coverage);
    if !arguments.filter.is_empty() && summary.passed == 0 && summary.failed == 0 {
        let names = arguments.filter.join("` or `");
        return Err(Failure::Unusable(format!("no test has `{names}` in its name")));
    }
    let is_whole = !arguments.require_coverage || summary.coverage.as_ref().is_some_and(Coverage::is_whole);
    match arguments.format {
        Format::Human => summary.human(arguments.quiet, !is_whole, out),
        Format::Json => *out = super::json(&summary.json())?,
        Format::Junit => *out = summary.junit(arguments.require_coverage)?,
    }
    if !matches!(arguments.format, Format::Human) {
        // Whoever sends the output to a file sees why the command fails.
        summary.failures().iter().for_each(|failure| note(failure));
        let gaps = summary.coverage.iter().filter(|_| !is_whole).flat_map(Coverage::gaps);
        gaps.for_each(|gap| note(&format!("coverage: {gap}")));
    }
    Ok(if summary.failed > 0 || !is_whole { Answer::Bad } else { Answer::Good })
}

/// The places that the result depends on: what is named, and the files with the policies, which can be elsewhere.
pub fn watched(arguments: &Arguments) -> Vec<PathBuf> {
    let mut places = or_here(&arguments.files).into_owned();
    for file in files(&places, &arguments.exclude.excluded()).unwrap_or_default() {
        if let Ok(tests) = TestFile::read(&file) {
            places.extend(tests.set.resources.policies.iter().map(|policy| policy.source.file.clone()));
        }
    }
    places
}

/// What to do with the tests.
struct Wanted {
    /// Parts of names, in lower case. If there are any, only these tests run.
    names: Vec<String>,
    with_coverage: bool,
    with_durations: bool,
}

impl Wanted {
    fn runs(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|part| name.to_lowercase().contains(part))
    }
}

/// The test files that the arguments name. A file that is named counts as a test file. In a directory, only test
/// files are taken.
fn files(arguments: &[PathBuf], excluded: &Excluded) -> Result<Vec<PathBuf>, InputError> {
    let mut files = Vec::new();
    for argument in arguments {
        let found = load::all_files(std::slice::from_ref(argument), excluded)?;
        if !argument.is_dir() {
            files.extend(found);
            continue;
        }
        let (before, count) = (files.len(), found.len());
        for file in found {
            // A file that is not YAML may be meant as a test file: take it, so that its error is reported.
            if load::documents(&file).map_or(true, |all| all.iter().any(TestFile::is_one)) {
                files.push(file);
            }
        }
        if files.len() == before {
            let message =
                format!("the folder has no test file, a document with `policies` and `tests`, among its {count} files");
            return Err(InputError { file: argument.clone(), message });
        }
    }
    let mut seen = HashSet::new();
    files.retain(|file| seen.insert(file.canonicalize().unwrap_or(file.clone())));
    Ok(files)
}

/// A progress bar on standard error. There is none for a few files, and none if standard error is not a terminal.
fn progress(files: usize) -> ProgressBar {
    const FEW: usize = 20;
    if files <= FEW {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(u64::try_from(files).unwrap_or(u64::MAX));
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} test files") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

impl FileResult {
    /// Runs the tests of a file. Fails if a file that the arguments name cannot be read.
    fn of(path: &Path, is_named: bool, wanted: &Wanted) -> Result<Self, InputError> {
        let result = match TestFile::read(path) {
            Ok(file) => Ok(Run::of(&file, wanted)),
            Err(TestFileError::Input(error)) if is_named && error.file == path => return Err(error),
            Err(error) => Err(error),
        };
        Ok(Self { file: path.display().to_string(), result })
    }
}

impl Run {
    fn of(file: &TestFile, wanted: &Wanted) -> Self {
        let engines = Engines::of(&file.set);
        let elsewhere = file.set.scopes().filter(|(_, scope)| *scope != Scope::Applies);
        let elsewhere: Vec<_> = elsewhere.map(|(resource, scope)| (&resource.policy.name, scope)).collect();
        let tests = file.tests.par_iter().filter(|test| wanted.runs(&test.name));
        let tests = tests.map(|test| tested(file, &engines, test, wanted));
        let proofs = file.proofs.par_iter().filter(|proof| wanted.runs(&proof.name));
        Self {
            notes: if file.tests.is_empty() { Vec::new() } else { super::not_applying("policy", &elsewhere) },
            tests: tests.chain(proofs.map(|proof| proof::proved(file, proof, wanted.with_durations))).collect(),
            covered: wanted.with_coverage.then(|| covered(file, &engines, wanted)),
        }
    }
}

fn tested(file: &TestFile, engines: &Engines<'_>, test: &Test, wanted: &Wanted) -> Tested {
    let start = Instant::now();
    let engine = engines.engine(test.request.traffic());
    let answers = answers(&test.request, &file.set, engine);
    let is_wrong = |answered: &&Answered<'_>| !test.expect.is_met_by(answered);
    // An answer of the policies says more than one of Envoy itself.
    let of_policies = answers.iter().filter(|answered| answered.decision.is_some()).find(is_wrong);
    let wrong = of_policies.or_else(|| answers.iter().find(is_wrong));
    let mut explanation = String::new();
    if let Some(Answered { received, .. }) = wrong {
        for line in &received.notes {
            explanation.extend([line, "\n"]);
        }
        if let Ok(request) = &received.request {
            let found = Explanation::new(&file.set, engine, request);
            explain::details(&found, Extent::Nearest(SHOWN_MISSES), &mut explanation);
        }
        explanation.truncate(explanation.trim_end().len());
        explanation.drain(..explanation.len().saturating_sub(explanation.trim_start().len()));
    }
    Tested {
        name: test.name.clone(),
        line: test.position.map(|position| position.line),
        passed: wrong.is_none(),
        expected: test.expect.to_string(),
        got: wrong.or(answers.first()).map(|answered| got(answered, &answers)).unwrap_or_default(),
        seconds: wanted.with_durations.then(|| start.elapsed().as_secs_f64()),
        explanation,
    }
}

/// A decision as a test file writes it, its reason, and with which settings of Envoy the request gets it.
fn got(answered: &Answered<'_>, all: &[Answered<'_>]) -> String {
    let place = where_answered(answered, all);
    let depends_on_provider = answered.asked.iter().any(|asked| !asked.is_given);
    match place.as_str() {
        "" => answered.to_string(),
        place if depends_on_provider => format!("{answered} ({place}; the request can say `provider`)"),
        place => {
            format!("{answered} ({place}; the test file can say `mesh.pathNormalization`, and the request `protocol`)")
        }
    }
}

fn covered(file: &TestFile, engines: &Engines<'_>, wanted: &Wanted) -> Covered {
    let matched = |test: &Test| {
        let engine = engines.engine(test.request.traffic());
        let answers = answers(&test.request, &file.set, engine);
        let requests = answers.iter().filter_map(|answered| answered.received.request.as_ref().ok());
        let traces = requests.flat_map(|request| engine.explain(request)).filter(|trace| trace.miss.is_none());
        traces.map(|trace| (trace.rule.policy.to_string(), trace.rule.index)).collect::<Vec<_>>()
    };
    let tests = file.tests.par_iter().filter(|test| wanted.runs(&test.name));
    Covered {
        places: Places::of(&file.set.resources.policies),
        applying: Places::of(file.set.applying()).policies.into_keys().collect(),
        file: file.source.file.clone(),
        workload: file.set.workload.clone(),
        matched: tests.flat_map(matched).collect(),
    }
}

/// The results of all files.
struct Summary {
    outcomes: Vec<FileResult>,
    passed: usize,
    failed: usize,
    /// `None` if coverage is not requested.
    coverage: Option<Coverage>,
}

impl Summary {
    fn new(outcomes: Vec<FileResult>, coverage: Option<Coverage>) -> Self {
        let (mut passed, mut failed) = (0_usize, 0_usize);
        for outcome in &outcomes {
            match &outcome.result {
                Ok(run) => {
                    let passing = run.tests.iter().filter(|test| test.passed).count();
                    passed = passed.saturating_add(passing);
                    failed = failed.saturating_add(run.tests.len().saturating_sub(passing));
                }
                Err(_) => failed = failed.saturating_add(1),
            }
        }
        Self { outcomes, passed, failed, coverage }
    }

    fn human(&self, quiet: bool, lacks_coverage: bool, out: &mut String) {
        let (good, bad) = (AnsiColor::Green.on_default(), AnsiColor::BrightRed.on_default().bold());
        for FileResult { file, result } in &self.outcomes {
            let run = match result {
                Ok(run) => run,
                Err(TestFileError::Invalid(findings)) => {
                    for finding in findings {
                        snippet::finding(finding, out);
                    }
                    continue;
                }
                Err(TestFileError::Input(error)) => {
                    let _infallible =
                        writeln!(out, "{bad}FAILED{bad:#} {file}: {}", snippet::printable(&error.to_string()));
                    continue;
                }
            };
            for note in run.notes.iter().filter(|_| !quiet) {
                let _infallible = writeln!(out, "note   {file}: {note}");
            }
            for Tested { name, line, passed, expected, got, seconds, explanation } in &run.tests {
                let name = snippet::printable(name);
                let took = seconds.map_or_else(String::new, |seconds| format!(" ({:.3} ms)", seconds * 1000.0));
                if *passed {
                    if !quiet {
                        let _infallible = writeln!(out, "{good}ok{good:#}     {file}: {name}{took}");
                    }
                    continue;
                }
                let line = line.map_or_else(String::new, |line| format!(":{line}"));
                let _infallible = writeln!(out, "{bad}FAILED{bad:#} {file}{line}: {name}{took}");
                let _infallible = writeln!(out, "       expected {}", snippet::printable(expected));
                let _infallible = writeln!(out, "       got {got}\n");
                for line in explanation.lines() {
                    let _infallible = writeln!(out, "{}", format!("       {line}").trim_end());
                }
                out.push('\n');
            }
        }
        if let Some(coverage) = &self.coverage {
            coverage.human(out);
        }
        let uncovered = if lacks_coverage { "; FAILED, because coverage is required" } else { "" };
        let _infallible = writeln!(out, "{} passed, {} failed{uncovered}", self.passed, self.failed);
    }

    /// The tests that fail and the files that cannot be used, a line each.
    fn failures(&self) -> Vec<String> {
        let of_file = |FileResult { file, result }: &FileResult| match result {
            Ok(run) => {
                let failed = run.tests.iter().filter(|test| !test.passed);
                failed
                    .map(|Tested { name, expected, got, .. }| {
                        format!("FAILED {file}: {name}: expected {expected}, got {got}")
                    })
                    .collect()
            }
            Err(error) => vec![format!("FAILED {error}")],
        };
        self.outcomes.iter().flat_map(of_file).collect()
    }

    fn json(&self) -> Json<'_> {
        let files = self.outcomes.iter().map(JsonFile::from).collect();
        let coverage = self.coverage.as_ref().map(Coverage::json);
        Json { passed: self.passed, failed: self.failed, files, coverage }
    }

    /// `requires_coverage`: whether what is not covered is a failure.
    fn junit(&self, requires_coverage: bool) -> Result<String, Failure> {
        let mut report = Report::new("mesh-authz");
        if let Some(coverage) = self.coverage.as_ref().filter(|_| requires_coverage) {
            report.add_test_suite(coverage.junit());
        }
        for FileResult { file, result } in &self.outcomes {
            let mut suite = TestSuite::new(file);
            match result {
                Ok(run) => {
                    for test in &run.tests {
                        let mut status = TestCaseStatus::success();
                        if !test.passed {
                            status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                            status.set_message(xml(&format!("expected {}, got {}", test.expected, test.got)));
                            status.set_description(xml(&strip_str(&test.explanation).to_string()));
                        }
                        let mut case = TestCase::new(xml(&test.name), status);
                        case.set_classname(file);
                        if let Some(seconds) = test.seconds {
                            case.set_time(Duration::from_secs_f64(seconds));
                        }
                        suite.add_test_case(case);
                    }
                }
                Err(error) => {
                    let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
                    status.set_message("the test file is not valid").set_description(xml(&error.to_string()));
                    suite.add_test_case(TestCase::new("the file can be read", status));
                }
            }
            report.add_test_suite(suite);
        }
        report.to_string().map_err(Failure::unusable)
    }
}

/// Keeps only the characters that XML 1.0 allows. It does not allow the others even if they are escaped.
fn xml(text: &str) -> String {
    let is_one =
        |c: &char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    text.chars().filter(is_one).collect()
}

/// The results, in the shape of the JSON output.
#[derive(Serialize)]
struct Json<'s> {
    passed: usize,
    failed: usize,
    files: Vec<JsonFile<'s>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    coverage: Option<JsonCoverage<'s>>,
}

#[derive(Serialize)]
struct JsonFile<'s> {
    file: &'s str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<String>,
    tests: &'s [Tested],
}

impl<'s> From<&'s FileResult> for JsonFile<'s> {
    fn from(FileResult { file, result }: &'s FileResult) -> Self {
        match result {
            Ok(run) => Self { file, errors: Vec::new(), tests: &run.tests },
            Err(error) => Self { file, errors: error.to_string().lines().map(str::to_owned).collect(), tests: &[] },
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonCoverage<'s> {
    rules: usize,
    uncovered: Vec<JsonRule<'s>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    without_workload: Vec<JsonPolicy<'s>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<&'s str>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    not_valid: &'s BTreeSet<PathBuf>,
}

#[derive(Serialize)]
struct JsonRule<'s> {
    policy: &'s str,
    rule: usize,
    place: &'s str,
}

#[derive(Serialize)]
struct JsonPolicy<'s> {
    policy: &'s str,
    place: &'s str,
}

/// Serializes a text without its colours.
fn plain<S: serde::Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&strip_str(text))
}
