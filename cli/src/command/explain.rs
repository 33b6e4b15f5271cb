//! `mesh-authz explain`: explains why a request is allowed or denied.

mod json;
mod log;
mod request;

use std::fmt::Write as _;
use std::path::PathBuf;

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use mesh_authz::attribute::Origin;
use mesh_authz::engine::{DryRunResult, RuleId, Verdict};
use mesh_authz::policy::scope::{Scope, Workload};
use mesh_authz::policy::{Action, PolicyName};
use mesh_authz::request::{Address, ConnectionText};

use self::json::Json;
use self::request::RequestOptions;
use super::options::{NoneAppliesOption, PathNormalizationOption, Setting, namespaces};
use super::{Answer, Failure, not_applying, note, snippet};
use crate::explain::{Actual, Explanation, FailedCondition, RuleReport};
use crate::lint;
use crate::load::Resources;
use crate::load::policy_set::PolicySet;
use crate::received::{Answered, Known, answers, where_answered};

/// Arguments of `mesh-authz explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  mesh-authz explain policies/ --label app=backend --path /api/v1/data \\
    --principal cluster.local/ns/default/sa/frontend
  mesh-authz explain policies/ --label app=orders --path /orders/7 \\
    --claim iss=https://issuer.example --claim sub=alice
  mesh-authz explain policies/ --request request.yaml --format json
  kubectl logs deploy/backend -c istio-proxy |
    mesh-authz explain policies/ --log -

Exit status:
  0  there is a decision, whether the request is allowed or denied
  1  the policies are invalid, or decide otherwise than the log
  2  wrong usage or unreadable input")]
pub struct Arguments {
    /// Files, directories or patterns with policies, in YAML or JSON; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// File with lines of the filter's decision log; `-` is standard input. Explains each request that is logged, and
    /// compares the decision with the line. Lines may have Envoy's prefix, and other lines are skipped.
    #[arg(long, value_name = "FILE", conflicts_with = "RequestOptions")]
    log: Option<PathBuf>,

    #[command(flatten)]
    request: RequestOptions,

    #[command(flatten)]
    setting: Setting,

    #[command(flatten)]
    none_applies: NoneAppliesOption,

    #[command(flatten)]
    path_normalization: PathNormalizationOption,

    /// Output format.
    #[arg(long, value_enum, default_value = "human")]
    format: Format,

    /// Show all rules and all policies. Otherwise: the nearest ten of the rules that do not match, and a count of the
    /// policies that do not apply.
    #[arg(long)]
    all: bool,
}

/// How much of an explanation is shown to people.
#[derive(Clone, Copy, Debug)]
pub enum Extent {
    /// So many of the rules that do not match, and counts of what is long.
    Nearest(usize),
    All,
}

impl Extent {
    /// How many items of a list are shown, if its first `most` items say enough.
    fn most(self, most: usize) -> usize {
        match self {
            Self::Nearest(_) => most,
            Self::All => usize::MAX,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Text for people.
    Human,
    /// One JSON object.
    Json,
}

pub fn run(arguments: &Arguments, out: &mut String) -> Result<Answer, Failure> {
    let mesh = arguments.setting.mesh();
    if let Some(file) = &arguments.log
        && log::is_read_twice(file, &arguments.files)
    {
        return Err(Failure::unusable("policies and the log cannot both come from standard input"));
    }
    arguments.request.no_second_standard_input(&arguments.files)?;
    let resources = super::valid_resources(&arguments.files, lint::is_skipped)?;
    if let Some(file) = &arguments.log {
        let extent = if arguments.all { Extent::All } else { Extent::Nearest(1) };
        let is_json = matches!(arguments.format, Format::Json);
        return log::run(file, resources, &arguments.setting, mesh, (is_json, extent), out);
    }
    let workload = arguments.setting.workload.workload(&mesh)?;
    if arguments.setting.workload.namespace.is_none() {
        require_a_policy_in(&workload, &resources)?;
    }
    if let (Some(gateway), None) = (&workload.gateway, arguments.setting.workload.gateway()?) {
        let name = &gateway.name;
        note(&format!(
            "by its label, this workload is the gateway {name}; if it is a waypoint, give --waypoint {name}"
        ));
    }
    let mut envoy = Known::of(&resources);
    envoy.path_normalization = arguments.path_normalization.given();
    let set = PolicySet { resources: resources.into(), workload, mesh, envoy };
    if let Some((resource, what)) = set.missing_labels() {
        return Err(Failure::NeedsLabels { kind: "policy", name: resource.policy.name.clone(), what });
    }
    let request = arguments.request.read()?;
    if let Some(why) = set.unknown_provider(request.providers.iter().map(|(name, _)| name.as_str())) {
        return Err(Failure::Unusable(why));
    }
    if let Err(failure) = arguments.none_applies.require_one_that_may_apply(&set.resources, &set.workload) {
        let scopes: Vec<_> = set.scopes().map(|(resource, scope)| (&resource.policy.name, scope)).collect();
        for line in not_applying("policy", &scopes) {
            note(&line);
        }
        return Err(failure);
    }
    let engine = set.engine(request.traffic());
    let answers = answers(&request, &set, &engine);
    for line in answers.first().iter().flat_map(|first| &first.received.notes) {
        note(line);
    }
    // The first answer of the policies.
    let explained = answers.iter().find_map(|answered| Some((answered, answered.received.request.as_ref().ok()?)));
    let explanation = explained.map(|(_, request)| Explanation::new(&set, &engine, request));
    match arguments.format {
        Format::Human => {
            verdict(&answers, out);
            if let (Some((answered, _)), [_, _, ..]) = (explained, answers.as_slice()) {
                let _infallible = writeln!(out, "\n{BOLD}The answer {}{BOLD:#}", where_answered(answered, &answers));
            }
            if let Some(explanation) = &explanation {
                details(explanation, if arguments.all { Extent::All } else { Extent::Nearest(10) }, out);
            }
        }
        Format::Json => *out = super::json(&Json::new(explanation.as_ref(), &answers))?,
    }
    Ok(Answer::Good)
}

/// Fails if the policies are for other namespaces than the one that is taken because none is given.
pub(super) fn require_a_policy_in(workload: &Workload, resources: &Resources) -> Result<(), Failure> {
    let policies = || resources.policies.iter().map(|resource| &resource.policy);
    let elsewhere = || policies().filter(|policy| policy.name.namespace != workload.root_namespace);
    if elsewhere().next().is_none() || policies().any(|policy| policy.name.namespace == workload.namespace) {
        return Ok(());
    }
    Err(Failure::Unusable(format!(
        "--namespace is not given, and no policy is for namespace {}; the policies are for {}: give --namespace",
        workload.namespace,
        namespaces(elsewhere()),
    )))
}

const BOLD: Style = Style::new().bold();

/// Writes the decision and its reason, and every other answer that the request can get.
fn verdict(answers: &[Answered<'_>], out: &mut String) {
    for (index, answered) in answers.iter().enumerate() {
        let color = match answered.verdict() {
            Verdict::Allow => AnsiColor::Green,
            Verdict::Deny => AnsiColor::BrightRed,
        };
        let style = color.on_default().bold();
        let text = answered.to_string();
        let reason = text.split_once(": ").map_or("", |(_, reason)| reason);
        let but = if index > 0 { "but " } else { "" };
        let _infallible = write!(out, "{but}{style}{}{style:#}", answered.verdict());
        if answers.len() > 1 {
            let _infallible = write!(out, " {}", where_answered(answered, answers));
        }
        let _infallible = writeln!(out, ": {}", snippet::printable(reason));
        for note in answered.received.notes.iter().filter(|_| index > 0) {
            let _infallible = writeln!(out, "  {}", snippet::printable(note));
        }
    }
}

/// Writes the explanation without the decision and its reason.
pub fn details(explanation: &Explanation<'_>, extent: Extent, out: &mut String) {
    let decision = &explanation.decision;
    if let Some(attribute) = decision.unreadable {
        let _infallible =
            writeln!(out, "This rests on {attribute}, which the request does not say{}.", how_to_say(attribute));
    }
    if let Some(RuleReport { resource, span, .. }) = explanation.deciding() {
        let _infallible = writeln!(out, "  {}", snippet::place(&resource.source, *span));
        if let Some(span) = span {
            snippet::excerpt(&resource.source, *span, out);
        }
    }
    others(explanation, extent, out);
    let missed: Vec<_> = explanation.missed().collect();
    if !missed.is_empty() {
        let _infallible = writeln!(out, "\n{BOLD}Rules that do not match, nearest miss first{BOLD:#}");
    }
    let most = match extent {
        Extent::Nearest(most) => most,
        Extent::All => usize::MAX,
    };
    for (report, failed) in missed.iter().take(most) {
        miss(report, failed, out);
    }
    if let Some(more @ 1..) = missed.len().checked_sub(most) {
        let _infallible = writeln!(out, "\n  and {more} more: `mesh-authz explain --all` shows them");
    }
    without_rules(explanation, extent, out);
    elsewhere(explanation, extent, out);
}

/// How a request says what it does not say: the option, and the field in a file.
fn how_to_say(attribute: Origin) -> String {
    let (option, field) = match attribute {
        Origin::Address(Address::Source) => ("--source-ip", "sourceIp"),
        Origin::Address(Address::Remote) => ("--remote-ip", "remoteIp"),
        Origin::Address(Address::Destination) => ("--destination-ip", "destinationIp"),
        Origin::DestinationPort => ("--port", "destinationPort"),
        Origin::Text(ConnectionText::Sni) => ("--sni", "sni"),
        Origin::PeerNames | Origin::Headers | Origin::Metadata => return String::new(),
    };
    format!(": give {option}, or `{field}` in a file")
}

/// Lists of more policies than this are summed up.
const FEW: usize = 5;

/// Writes which policies apply, and never match.
fn without_rules(explanation: &Explanation<'_>, extent: Extent, out: &mut String) {
    let policies = &explanation.without_rules;
    let most = if policies.len() > FEW { extent.most(1) } else { FEW };
    for resource in policies.iter().take(most) {
        let (name, action) = (&resource.policy.name, resource.policy.action);
        let dry_run = if resource.policy.dry_run { " (dry run)" } else { "" };
        let _infallible = writeln!(out, "\n{action}{dry_run} {name} has no rules: it applies, and never matches");
    }
    if let Some(more @ 1..) = policies.len().checked_sub(most) {
        let _infallible =
            writeln!(out, "and so do {more} more policies without rules: `mesh-authz explain --all` shows them");
    }
}

/// Writes which policies do not apply. Of many policies, it writes how many there are for each reason.
fn elsewhere(explanation: &Explanation<'_>, extent: Extent, out: &mut String) {
    let policies = &explanation.elsewhere;
    if policies.len() <= extent.most(FEW) {
        for (resource, scope) in policies {
            let _infallible = writeln!(out, "\n{} {}: {scope}", resource.policy.action, resource.policy.name);
        }
        return;
    }
    let _infallible =
        writeln!(out, "\n{} policies do not apply: `mesh-authz explain --all` shows them", policies.len());
    let mut groups: Vec<(Scope, Vec<&PolicyName>)> = Vec::new();
    for (resource, scope) in policies {
        match groups.iter_mut().find(|(other, _)| other == scope) {
            Some((_, names)) => names.push(&resource.policy.name),
            None => groups.push((*scope, vec![&resource.policy.name])),
        }
    }
    for (scope, names) in groups {
        let scope = scope.to_string();
        let why = scope.strip_prefix("does not apply: ").unwrap_or(&scope);
        let first: Vec<_> = names.iter().take(FEW).map(ToString::to_string).collect();
        let more = match names.len().checked_sub(FEW) {
            Some(more @ 1..) => format!(" and {more} more"),
            _ => String::new(),
        };
        let _infallible = writeln!(out, "  {}{more}: {why}", first.join(", "));
    }
}

/// Writes the results that do not decide: dry runs, the AUDIT rule, and other rules that match.
fn others(explanation: &Explanation<'_>, extent: Extent, out: &mut String) {
    let decision = &explanation.decision;
    let would_be = |name: &str, would_be: Option<DryRunResult<'_>>, out: &mut String| {
        let Some(DryRunResult { verdict, rule }) = would_be else { return };
        let why = rule.map_or_else(|| "no rule of theirs matches".to_owned(), matched);
        let _infallible =
            writeln!(out, "Dry run: the {name} policies that are tried out would {}: {why}", verb(verdict));
    };
    would_be("DENY", decision.dry_run.deny, out);
    would_be("ALLOW", decision.dry_run.allow, out);
    if let Some(rule) = decision.audited {
        let _infallible = writeln!(out, "AUDIT: {}", matched(rule));
    }
    let deciding = decision.outcome.rule();
    let matching = explanation.rules.iter().filter(|report| report.failed.is_none() && !report.dry_run);
    let also: Vec<_> =
        matching.filter(|report| Some(report.rule) != deciding && Some(report.rule) != decision.audited).collect();
    let most = extent.most(10);
    for RuleReport { rule, action, .. } in also.iter().take(most) {
        let _infallible = match action {
            // Its provider may decide.
            Action::Custom => writeln!(out, "Also matches: {action} {}", name(rule)),
            _ => writeln!(out, "Also matches, and does not decide: {action} {}", name(rule)),
        };
    }
    if let Some(more @ 1..) = also.len().checked_sub(most) {
        let _infallible =
            writeln!(out, "{more} more rules match, and do not decide: `mesh-authz explain --all` shows them");
    }
}

fn verb(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
    }
}

fn matched(rule: &RuleId) -> String {
    format!("{} matches", name(rule))
}

fn name(rule: &RuleId) -> String {
    format!("rule {} of {}", rule.index, rule.policy)
}

fn miss(report: &RuleReport<'_>, failed: &FailedCondition, out: &mut String) {
    let RuleReport { resource, rule, action, dry_run, .. } = report;
    let dry_run = if *dry_run { " (dry run)" } else { "" };
    let place = snippet::place(&resource.source, failed.span);
    let _infallible = writeln!(out, "\n  {BOLD}{action}{dry_run} {}{BOLD:#}  {place}", name(rule));
    let path = failed.path.to_string();
    let path = path.strip_prefix(&format!("spec.rules[{}].", rule.index)).unwrap_or(&path);
    // The path of a condition does not name its attribute.
    let attribute = if path.starts_with("when") { format!(" ({})", failed.attribute) } else { String::new() };
    let _infallible = writeln!(out, "    {path}{}", snippet::printable(&attribute));
    let wanted = if failed.is_not { "must not be" } else { "expected" };
    let _infallible = writeln!(out, "      {wanted:<12} {}", list(&failed.expected));
    let actual = match &failed.actual {
        Actual::Values(values) => list(values),
        Actual::Nothing(why) => (*why).to_owned(),
        Actual::Unreadable => "the request does not say, which counts against it".to_owned(),
    };
    let _infallible = writeln!(out, "      {:<12} {actual}", "actual");
    if let Some(hint) = &failed.hint {
        let _infallible = writeln!(out, "      {}", snippet::printable(hint));
    }
    match failed.further {
        0 => {}
        1 => out.push_str("      one more condition fails\n"),
        further => {
            let _infallible = writeln!(out, "      {further} more conditions fail");
        }
    }
}

/// The first few values in quotes, and how many more there are.
pub(super) fn list(values: &[String]) -> String {
    const MOST: usize = 8;
    let mut shown: Vec<_> = values.iter().take(MOST).map(|value| format!("{value:?}")).collect();
    if let Some(more @ 1..) = values.len().checked_sub(MOST) {
        shown.push(format!("and {more} more"));
    }
    shown.join(", ")
}
