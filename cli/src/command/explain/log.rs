//! `mesh-authz explain --log`: decides the requests in a decision log again, and compares.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anstyle::AnsiColor;
use mesh_authz::attribute::Origin;
use mesh_authz::config::Mesh;
use mesh_authz::diagnostic::Diagnostics;
use mesh_authz::engine::{Combining, DryRun, Verdict};
use mesh_authz::policy::scope::{Gateway, ServiceName, Workload};
use mesh_authz::policy::{Action, Labels, TargetKind, Traffic};
use serde::Serialize;

use super::json::Json;
use super::{BOLD, Extent, details};
use crate::command::options::Setting;
use crate::command::{Answer, Failure, note, snippet};
use crate::decision_log::{DecisionLog, Entry};
use crate::explain::Explanation;
use crate::load;
use crate::load::Resources;
use crate::load::policy_set::PolicySet;
use crate::load::providers::Providers;
use crate::received::Known;
use crate::render::instances::Hosts;

/// What a line says about its workload.
#[derive(PartialEq)]
struct LoggedWorkload {
    namespace: String,
    labels: Option<Labels>,
    /// The service behind a waypoint.
    service: Option<(TargetKind, ServiceName)>,
}

/// How a decision compares with the one in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Comparison {
    Agrees,
    Differs,
    /// The decision rests on these attributes, which the line does not have.
    Unknown(Vec<String>),
    /// The filter refused the request before any policy counts, for this reason.
    BeforePolicies(&'static str),
}

/// How many entries there are of each kind.
#[derive(Default)]
struct Totals {
    agree: usize,
    differ: usize,
    unknown: usize,
    skipped: usize,
}

/// An entry of the log, decided again, in the shape of the JSON output.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonEntry<'e> {
    line: usize,
    alike: usize,
    logged: JsonLogged<'e>,
    agrees: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_in_the_line: Vec<String>,
    explanation: Json<'e>,
}

#[derive(Serialize)]
struct JsonLogged<'e> {
    decision: String,
    reason: &'e str,
    nearest: Option<&'e str>,
}

/// Explains the requests in the log. The answer is bad if a decision differs from the one in the log.
pub(super) fn run(
    log: &Path,
    resources: Resources,
    setting: &Setting,
    mesh: Mesh,
    (is_json, extent): (bool, Extent),
    out: &mut String,
) -> Result<Answer, Failure> {
    let text = String::from_utf8_lossy(&load::bytes(log)?).into_owned();
    let decisions = DecisionLog::read(&text);
    for line in &decisions.malformed {
        note(&format!("{}:{line}: a decision that is cut or malformed: skipped", log.display()));
    }
    if decisions.entries.is_empty() {
        return Err(Failure::Unusable(format!(
            "{}: there is no line of a decision log; such a line has `{{\"decision\":`, and Envoy logs it at level info",
            log.display()
        )));
    }
    let hosts = Hosts::new("", &resources.others);
    let mut workloads: Vec<(LoggedWorkload, Vec<usize>)> = Vec::new();
    for (position, entry) in decisions.entries.iter().enumerate() {
        let workload = workload(entry, setting, &hosts)?;
        match workloads.iter_mut().find(|(other, _)| *other == workload) {
            Some((_, positions)) => positions.push(position),
            None => workloads.push((workload, vec![position])),
        }
    }
    let mut set =
        PolicySet { resources: resources.into(), workload: Workload::default(), mesh, envoy: Known::default() };
    let mut totals = Totals::default();
    let mut texts: Vec<(usize, String)> = Vec::new();
    let mut values: Vec<(usize, serde_json::Value)> = Vec::new();
    for (LoggedWorkload { namespace, labels, service }, positions) in workloads {
        let mut diagnostics = Diagnostics::new();
        let root_namespace = set.mesh.root_namespace.clone();
        let gateway = setting.workload.gateway()?.map(|gateway| in_front_of(gateway, service));
        let workload = Workload::new(namespace, labels, gateway, root_namespace, &mut diagnostics);
        set.workload = Workload { revision: setting.workload.revision.clone(), ..workload };
        // Another workload must not hide the answers for this one.
        let why = match (diagnostics.into_found().first(), set.missing_labels()) {
            (Some(_), _) => {
                Some("by its labels it is a waypoint: give --waypoint, and --service if a policy names one".to_owned())
            }
            (None, Some((resource, what))) => Some(format!(
                "policy {} has {what}, and the lines have no labels: give --label, or --no-labels",
                resource.policy.name
            )),
            (None, None) => None,
        };
        if let Some(why) = why {
            note(&format!(
                "decisions of a workload in {}: {}, skipped: {why}",
                set.workload.namespace,
                positions.len()
            ));
            totals.skipped = totals.skipped.saturating_add(positions.len());
            continue;
        }
        // The filter sees only what the provider has allowed, unless nobody asks it.
        let providers = Providers::of(&set.resources);
        let engines = [Traffic::Http, Traffic::Tcp].map(|traffic| {
            let is_asked = !set.asked_providers(traffic, &providers).is_empty();
            (traffic, set.engine_that_refuses(traffic), is_asked.then(|| set.engine_behind_provider(traffic)))
        });
        let mut names: HashMap<&'static str, Vec<String>> = HashMap::new();
        for position in positions {
            let Some(entry) = decisions.entries.get(position) else { continue };
            let of_traffic = engines.iter().find(|(traffic, ..)| *traffic == entry.request.traffic);
            let Some((_, engine, behind)) = of_traffic else { continue };
            let engine = behind.as_ref().filter(|_| !entry.is_about_a_provider()).unwrap_or(engine);
            let mut explanation = Explanation::new(&set, engine, &entry.request);
            // Nobody knows what these rest on that the line does not have.
            explanation.decision.dry_run = DryRun::default();
            explanation.decision.audited = None;
            let comparison = compare(entry, &set, &explanation, |origin| {
                names.entry(name(origin)).or_insert_with(|| attributes(&set, origin)).clone()
            });
            totals.count(&comparison);
            if is_json {
                let entry = JsonEntry::new(entry, &comparison, &explanation);
                values.push((position, serde_json::to_value(entry).map_err(Failure::unusable)?));
            } else {
                let mut text = String::new();
                human(entry, &set, &comparison, &explanation, extent, &mut text);
                texts.push((position, text));
            }
        }
    }
    if totals.skipped == decisions.entries.len() {
        return Err(Failure::unusable("no line of the log is of a workload that is known well enough"));
    }
    if is_json {
        values.sort_by_key(|(position, _)| *position);
        let values: Vec<_> = values.into_iter().map(|(_, value)| value).collect();
        *out = crate::command::json(&values)?;
    } else {
        texts.sort_by_key(|(position, _)| *position);
        out.extend(texts.into_iter().map(|(_, text)| text));
        totals.human(decisions.others, out);
    }
    Ok(if totals.differ > 0 { Answer::Bad } else { Answer::Good })
}

/// The workload of a line. Options count more than the line.
fn workload(entry: &Entry, setting: &Setting, hosts: &Hosts<'_>) -> Result<LoggedWorkload, Failure> {
    let options = &setting.workload;
    let namespace = match (&options.namespace, &entry.namespace) {
        (Some(namespace), _) | (None, Some(namespace)) => namespace.clone(),
        (None, None) => {
            return Err(Failure::Unusable(format!(
                "line {} of the log does not name its workload: give --namespace, and --label if a policy has a selector",
                entry.line
            )));
        }
    };
    Ok(LoggedWorkload {
        namespace,
        labels: options.labels()?.or_else(|| entry.labels.clone()),
        service: entry.service.as_deref().and_then(|host| hosts.service(host)),
    })
}

/// The waypoint with the service that a line names, unless options name one.
fn in_front_of(mut gateway: Gateway, service: Option<(TargetKind, ServiceName)>) -> Gateway {
    if gateway.waypoint && gateway.all_services().next().is_none() {
        match service {
            Some((TargetKind::Service, service)) => gateway.services.push(service),
            Some((_, service)) => gateway.service_entries.push(service),
            None => {}
        }
    }
    gateway
}

fn compare(
    entry: &Entry,
    set: &PolicySet,
    explanation: &Explanation<'_>,
    names: impl FnOnce(Origin) -> Vec<String>,
) -> Comparison {
    let decision = &explanation.decision;
    if entry.is_about_normalization() {
        return Comparison::BeforePolicies("because of its path, before the policies (`paths: strict`)");
    }
    if entry.is_about_missing_filters() {
        return Comparison::BeforePolicies("because Envoy's filters for CUSTOM policies are missing");
    }
    if entry.is_about_the_service() {
        return Comparison::BeforePolicies(
            "because the name of its filter chain does not tell which service of the waypoint it is for",
        );
    }
    // Another rule refuses the request, whatever the line lacks.
    let is_certain = set.mesh.combining == Combining::DenyOverrides
        && explanation.rules.iter().any(|report| {
            let refuses = matches!(report.action, Action::Deny | Action::Custom) && !report.dry_run;
            refuses && report.failed.is_none() && !report.is_uncertain
        });
    match decision.unreadable.filter(|_| !is_certain) {
        // The filter could not read it either.
        Some(origin) if entry.unreadable != Some(origin.to_string()) => Comparison::Unknown(names(origin)),
        _ if decision.outcome.verdict() == entry.verdict => Comparison::Agrees,
        _ => Comparison::Differs,
    }
}

fn name(origin: Origin) -> &'static str {
    match origin {
        Origin::PeerNames => "source.principal",
        Origin::Address(_) => "the address",
        Origin::DestinationPort => "destination.port",
        Origin::Text(_) => "connection.sni",
        Origin::Headers => "a header",
        Origin::Metadata => "a claim or other metadata",
    }
}

/// What the policies look at and a line does not have: the attributes of this origin.
fn attributes(set: &PolicySet, origin: Origin) -> Vec<String> {
    let all = set.applying().flat_map(|resource| resource.policy.predicates());
    let names: BTreeSet<_> = all
        .filter(|predicate| predicate.attribute().info().origin == origin)
        .filter(|predicate| predicate.attribute().info().key.is_some())
        .map(mesh_authz::policy::Predicate::name)
        .collect();
    if names.is_empty() { vec![origin.to_string()] } else { names.into_iter().collect() }
}

impl Totals {
    fn count(&mut self, comparison: &Comparison) {
        let count = match comparison {
            Comparison::Agrees | Comparison::BeforePolicies(_) => &mut self.agree,
            Comparison::Differs => &mut self.differ,
            Comparison::Unknown(_) => &mut self.unknown,
        };
        *count = count.saturating_add(1);
    }

    fn human(&self, others: usize, out: &mut String) {
        let Self { agree, differ, unknown, skipped } = self;
        let _infallible = writeln!(
            out,
            "{BOLD}Decisions{BOLD:#}: {agree} as in the log, {differ} otherwise, {unknown} not known from the line. Other \
             lines: {others}."
        );
        if *skipped > 0 {
            let _infallible = writeln!(out, "Skipped, because the workload is not known well enough: {skipped}.");
        }
        if *unknown > 0 {
            out.push_str(
                "A line has no headers, no claims and no query. If you know them, describe the request with options.\n",
            );
        }
    }
}

impl<'e> JsonEntry<'e> {
    fn new(entry: &'e Entry, comparison: &Comparison, explanation: &'e Explanation<'_>) -> Self {
        Self {
            line: entry.line,
            alike: entry.alike,
            logged: JsonLogged {
                decision: entry.verdict.to_string(),
                reason: &entry.reason,
                nearest: entry.nearest.as_deref(),
            },
            agrees: match comparison {
                Comparison::Agrees | Comparison::BeforePolicies(_) => Some(true),
                Comparison::Differs => Some(false),
                Comparison::Unknown(_) => None,
            },
            not_in_the_line: match comparison {
                Comparison::Unknown(names) => names.clone(),
                _ => Vec::new(),
            },
            explanation: Json::new(Some(explanation), &[]),
        }
    }
}

/// Writes an entry for people.
fn human(
    entry: &Entry,
    set: &PolicySet,
    comparison: &Comparison,
    explanation: &Explanation<'_>,
    extent: Extent,
    out: &mut String,
) {
    let decision = &explanation.decision;
    let color = match decision.outcome.verdict() {
        Verdict::Allow => AnsiColor::Green,
        Verdict::Deny => AnsiColor::BrightRed,
    };
    let style = color.on_default().bold();
    let alike = match entry.alike {
        0 => String::new(),
        alike => format!(" and {alike} more like it"),
    };
    let (verdict, outcome) = (decision.outcome.verdict(), decision.outcome);
    let _infallible = write!(out, "{BOLD}Line {}{alike}{BOLD:#}: ", entry.line);
    let _infallible = match comparison {
        Comparison::Unknown(names) => {
            writeln!(out, "this depends on {}, which the line does not have", snippet::printable(&some(names)))
        }
        Comparison::BeforePolicies(why) => writeln!(out, "the filter refused the request {why}"),
        Comparison::Agrees | Comparison::Differs => writeln!(out, "{style}{verdict}{style:#}: {outcome}"),
    };
    let _infallible = writeln!(out, "  {}", snippet::printable(&request(entry, set)));
    let logged = snippet::printable(&format!("{}: {}", entry.verdict, entry.reason));
    let _infallible = match comparison {
        Comparison::Agrees if entry.reason == outcome.to_string() => writeln!(out, "  The log says the same."),
        Comparison::Agrees => writeln!(out, "  The log has the same decision, for another reason: {logged}"),
        Comparison::Differs => writeln!(
            out,
            "  The log says otherwise: {logged}\n  The filter had other policies, or a setting that is not given here."
        ),
        Comparison::Unknown(_) | Comparison::BeforePolicies(_) => writeln!(out, "  The log says {logged}"),
    };
    if let Some(nearest) = &entry.nearest {
        let _infallible = writeln!(out, "  The nearest miss in the log: {}", snippet::printable(nearest));
    }
    details(explanation, extent, out);
    out.push('\n');
}

/// The request and the workload, in one line.
fn request(entry: &Entry, set: &PolicySet) -> String {
    let request = &entry.request;
    let or_unknown = |value: &Option<String>| value.clone().unwrap_or_else(|| "?".to_owned());
    let host = request.host.as_ref().map_or_else(String::new, |host| format!(" at {host}"));
    let peer = request.principal.as_ref().map_or_else(|| "a peer without an identity".to_owned(), Clone::clone);
    let labels = set.workload.labels.iter().flatten().map(|(key, value)| format!("{key}={value}"));
    let labels: Vec<_> = labels.collect();
    let workload = match labels.as_slice() {
        [] => format!("a workload in {}", set.workload.namespace),
        labels => format!("workload {} in {}", labels.join(","), set.workload.namespace),
    };
    let what = match request.traffic {
        Traffic::Http => format!("{} {}{host}", or_unknown(&request.method), or_unknown(&request.path)),
        Traffic::Tcp => "a TCP connection".to_owned(),
    };
    format!("{what}, from {peer}, to {workload}")
}

/// The first few names, and how many more there are.
fn some(names: &[String]) -> String {
    const FEW: usize = 3;
    let first = names.iter().take(FEW).cloned().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(FEW) {
        Some(more @ 1..) => format!("{first} and {more} more"),
        _ => first,
    }
}

/// Whether two inputs are both standard input, which can be read only once.
pub(super) fn is_read_twice(log: &Path, files: &[PathBuf]) -> bool {
    let is_stdin = |file: &Path| file == Path::new("-");
    is_stdin(log) && files.iter().any(|file| is_stdin(file))
}
