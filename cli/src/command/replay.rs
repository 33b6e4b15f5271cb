//! `mesh-authz replay`: says what policies would have decided about the requests in logs.

mod output;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use mesh_authz::policy::scope::Workload;
use rayon::prelude::*;

use self::output::Report;
use super::options::{NoneAppliesOption, Setting};
use super::{Answer, Failure, note};
use crate::access_log::record::Format;
use crate::access_log::request::{Needs, Reading};
use crate::access_log::settings::Settings;
use crate::load::Resources;
use crate::load::policy_set::PolicySet;
use crate::logs::Source;
use crate::logs::input::Input;
use crate::logs::pods::Pods;
use crate::received::Known;
use crate::replay::tally::Kind;
use crate::replay::{Protected, Replay};

/// Arguments of `mesh-authz replay`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kubectl logs deploy/backend -c istio-proxy |
    mesh-authz replay policies/ - --label app=backend
  mesh-authz replay old/ access.log.*.gz --then new/ --label app=backend
  mesh-authz replay policies/ logs/*.json --config mesh-config.yaml \\
    --pods pods.json
  mesh-authz replay policies/ envoy.log --label app=backend \\
    --log-format '%REQ(:METHOD)% %REQ(:PATH)% %DOWNSTREAM_PEER_URI_SAN%'

Exit status:
  0  the logs are replayed; with --fail-on, nothing of that kind is found
  1  the policies are invalid; with --fail-on, something of that kind is found,
     or cannot be ruled out because a line says too little
  2  wrong usage or unreadable input")]
pub struct Arguments {
    /// File, folder or pattern with the policies; `-` is standard input.
    #[arg(value_name = "POLICIES")]
    policies: PathBuf,

    /// Files with lines of access logs, or of the filter's decision log, which may be compressed with gzip; `-` is standard
    /// input.
    #[arg(required = true, value_name = "LOG")]
    logs: Vec<PathBuf>,

    /// Other policies: says what they decide otherwise. POLICIES are those that were in force then.
    #[arg(long, value_name = "POLICIES")]
    then: Option<PathBuf>,

    /// Format of the lines: a format string of Envoy, a JSON object of them, `istio`, `istio-json` or `envoy`. `@FILE` reads
    /// it from a file. Without this option, the formats are those of the mesh configuration or of the Envoy configuration in
    /// the input. If there is none, they are Istio's and Envoy's own formats.
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,

    /// More files with resources: a mesh configuration, Telemetry, or the configuration of an Envoy (repeatable).
    #[arg(long, value_name = "FILE")]
    config: Vec<PathBuf>,

    /// Output of `kubectl get pods -A -o json`. It tells the workload of a line by its address, unless options name the
    /// workload, and the service account of a peer that the line does not name.
    #[arg(long, value_name = "FILE")]
    pods: Option<PathBuf>,

    /// Take each request to be as its line says: no client sends the header `x-envoy-original-path`, no route changes requests,
    /// and no header has several lines.
    #[arg(long)]
    as_logged: bool,

    /// Exit with status 1 if a request is denied that was allowed (`lost`), if one is allowed that was denied (`gained`), or
    /// if either is so (`any`).
    #[arg(long, value_enum, value_name = "WHAT")]
    fail_on: Option<FailOn>,

    /// Output format.
    #[arg(long, value_enum, default_value = "human")]
    format: OutputFormat,

    /// Show all groups of requests. Otherwise: the largest ten of each kind.
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    setting: Setting,

    #[command(flatten)]
    none_applies: NoneAppliesOption,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FailOn {
    /// A request is denied that was allowed.
    Lost,
    /// A request is allowed that was denied.
    Gained,
    /// Either of them.
    Any,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OutputFormat {
    /// Text for people.
    Human,
    /// One JSON object.
    Json,
    /// A comment on a pull request.
    Markdown,
}

pub fn run(arguments: &Arguments, out: &mut String) -> Result<Answer, Failure> {
    only_one_standard_input(arguments)?;
    let mesh = arguments.setting.mesh();
    let mut paths = vec![arguments.policies.clone()];
    paths.extend(arguments.config.iter().cloned());
    let resources = super::diff::valid(Resources::read(&paths)?)?;
    let settings = Settings::of(&resources);
    let formats = formats(arguments, settings)?;
    let mut all = vec![resources];
    if let Some(then) = &arguments.then {
        all.push(super::diff::valid(Resources::read(std::slice::from_ref(then))?)?);
    }
    for (resources, which) in all.iter().zip(["", "new "]) {
        if resources.policies.is_empty() {
            note(&format!(
                "there is no AuthorizationPolicy in the {which}policies: without any, everything is allowed"
            ));
        }
    }
    let policies = all.iter().flat_map(|resources| &resources.policies).map(|resource| &resource.policy);
    let needs = Needs::of(policies, &mesh.options().jwt_payload_key);
    let pods = arguments.pods.as_deref().map(Pods::read).transpose()?;
    let sets: Vec<_> = all
        .into_iter()
        .map(|resources| PolicySet {
            workload: Workload::default(),
            mesh: mesh.clone(),
            envoy: Known::of(&resources),
            resources: Arc::new(resources),
        })
        .collect();
    let is_by_pods = pods.is_some() && !names_workload(&arguments.setting)?;
    let workloads = if is_by_pods {
        workloads_of(pods.as_ref(), arguments, &mesh.root_namespace)?
    } else {
        vec![one_workload(arguments, &sets)?]
    };
    let protected = workloads.par_iter().map(|workload| Protected::new(&sets, workload));
    let protected = protected.collect::<Result<Vec<_>, String>>().map_err(Failure::Unusable)?;
    let gateway = workloads.first().and_then(|workload| workload.gateway.as_ref()).filter(|_| !is_by_pods);
    let reading = Reading {
        as_logged: arguments.as_logged,
        is_gateway: gateway.is_some(),
        is_waypoint: gateway.is_some_and(|gateway| gateway.waypoint),
    };
    let mut source = Source::new(&workloads, &formats, &needs, reading);
    if let Some(pods) = &pods {
        source = source.with_pods(pods, &mesh.trust_domain, is_by_pods);
    }
    let replay = Replay::new(&source, &protected);
    let progress = progress(&arguments.logs);
    let tally = replay.run(&arguments.logs, &progress);
    progress.finish_and_clear();
    let tally = tally?;
    if tally.lines.all == 0 {
        return Err(Failure::unusable("the logs have no lines"));
    }
    let report = Report {
        replay: &replay,
        tally: &tally,
        logs: &arguments.logs,
        source: &source,
        has_two: arguments.then.is_some(),
        most: if arguments.all { usize::MAX } else { 10 },
    };
    if report.is_nothing_replayed() {
        complain_about(&report);
    }
    match arguments.format {
        OutputFormat::Human => report.human(out),
        OutputFormat::Json => *out = super::json(&report.json())?,
        OutputFormat::Markdown => report.markdown(out),
    }
    let is_found = |is_wanted: fn(&output::Direction) -> bool| {
        let mut changes = tally.groups(Kind::Change).into_iter().filter_map(|(key, _)| output::Direction::of(key));
        changes.any(|direction| is_wanted(&direction)) || report.may_have_missed()
    };
    Ok(match arguments.fail_on {
        None => Answer::Good,
        Some(FailOn::Lost) if !is_found(|direction| *direction == output::Direction::Lost) => Answer::Good,
        Some(FailOn::Gained) if !is_found(|direction| *direction == output::Direction::Gained) => Answer::Good,
        Some(FailOn::Any) if !is_found(|_| true) => Answer::Good,
        Some(_) => Answer::Bad,
    })
}

fn only_one_standard_input(arguments: &Arguments) -> Result<(), Failure> {
    let files =
        [&arguments.policies].into_iter().chain(&arguments.logs).chain(&arguments.then).chain(&arguments.config);
    let all = files.chain(&arguments.pods).filter(|file| *file == Path::new("-"));
    if all.count() > 1 {
        return Err(Failure::unusable("only one of the inputs can come from standard input"));
    }
    Ok(())
}

/// Whether options name the workload.
fn names_workload(setting: &Setting) -> Result<bool, Failure> {
    let options = &setting.workload;
    Ok(options.namespace.is_some() || !options.labels.is_empty() || options.no_labels || options.gateway()?.is_some())
}

/// The formats of the lines.
fn formats(arguments: &Arguments, settings: Settings) -> Result<Vec<Format>, Failure> {
    let built_in = |name: &str| match name {
        "istio" => Some(Format::istio_text()),
        "istio-json" => Some(Format::istio_json()),
        "envoy" => Some(Format::envoy_text()),
        _ => None,
    };
    let Some(given) = &arguments.log_format else {
        for error in &settings.errors {
            note(error);
        }
        for text in &settings.notes {
            note(text);
        }
        if !settings.formats.is_empty() {
            return Ok(settings.formats);
        }
        if !settings.errors.is_empty() {
            return Err(Failure::unusable("no format in the input can be used: correct it, or give --log-format"));
        }
        let all = ["istio", "istio-json", "envoy"].into_iter().filter_map(built_in);
        return all.collect::<Result<_, _>>().map_err(Failure::unusable);
    };
    let text = match given.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file)
            .map_err(|error| Failure::Unusable(format!("--log-format: {file}: {error}")))?,
        None => given.clone(),
    };
    let format = match built_in(&text) {
        Some(format) => format,
        None if text.trim_start().starts_with('{') => {
            let json = serde_json::from_str(&text).map_err(|error| {
                Failure::Unusable(format!("--log-format begins with `{{` and is not JSON: {error}"))
            })?;
            Format::json("--log-format", &json, false)
        }
        None if text.contains('%') => {
            let line = text.trim_end_matches('\n');
            Format::text("--log-format", line.strip_suffix("\\n").unwrap_or(line), false)
        }
        None => {
            return Err(Failure::Unusable(format!(
                "--log-format {text}: is no format: give `istio`, `istio-json`, `envoy`, a format string of Envoy such as \
                 '%REQ(:METHOD)% %REQ(:PATH)%', a JSON object of them, or @FILE with one of these"
            )));
        }
    };
    format.map(|format| vec![format]).map_err(|error| Failure::Unusable(format!("--log-format: {error}")))
}

/// The workload that the options name.
fn one_workload(arguments: &Arguments, sets: &[PolicySet]) -> Result<Workload, Failure> {
    let Some(mesh) = sets.first().map(|set| &set.mesh) else { return Ok(Workload::default()) };
    let workload = arguments.setting.workload.workload(mesh)?;
    for set in sets {
        if arguments.setting.workload.namespace.is_none() {
            super::explain::require_a_policy_in(&workload, &set.resources)?;
        }
        let of_workload = PolicySet { workload: workload.clone(), ..set.clone() };
        if let Some((resource, what)) = of_workload.missing_labels() {
            return Err(Failure::NeedsLabels { kind: "policy", name: resource.policy.name.clone(), what });
        }
    }
    let is_for_services =
        |set: &PolicySet| set.resources.policies.iter().any(|resource| super::diff::is_for_services(&resource.policy));
    if super::diff::is_waypoint_without_service(&workload) && sets.iter().any(is_for_services) {
        return Err(Failure::unusable(
            "a policy is for services of waypoints: give the service that the requests are for too, with --service",
        ));
    }
    // One of the sets can be without policies for it.
    let applies = |set: &PolicySet| arguments.none_applies.require_one_that_may_apply(&set.resources, &workload);
    match sets.iter().map(applies).find(Result::is_ok) {
        Some(_) => Ok(workload),
        None => sets.iter().try_for_each(applies).map(|()| workload),
    }
}

/// The workloads of pods, each once.
fn workloads_of(pods: Option<&Pods>, arguments: &Arguments, root_namespace: &str) -> Result<Vec<Workload>, Failure> {
    let mut workloads: Vec<_> = pods.into_iter().flat_map(Pods::all).map(|pod| (&pod.namespace, &pod.labels)).collect();
    workloads.sort_by_key(|(namespace, labels)| (*namespace, labels.to_vec()));
    workloads.dedup();
    if workloads.is_empty() {
        return Err(Failure::unusable("--pods: no pod has an address for itself"));
    }
    let workload = |(namespace, labels): (&String, &mesh_authz::policy::Labels)| Workload {
        namespace: namespace.clone(),
        labels: Some(labels.clone()),
        root_namespace: root_namespace.to_owned(),
        revision: arguments.setting.workload.revision.clone(),
        ..Workload::default()
    };
    Ok(workloads.into_iter().map(workload).collect())
}

/// A progress bar on standard error, in bytes of the files. There is none if standard error is no terminal.
fn progress(logs: &[PathBuf]) -> ProgressBar {
    let Some(size) = Input::size(logs).filter(|_| std::io::stderr().is_terminal()) else {
        return ProgressBar::hidden();
    };
    let bar = ProgressBar::new(size);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes}, {eta} left") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Says why no line was replayed.
fn complain_about(report: &Report<'_>) {
    let formats: Vec<_> = report.source.formats().iter().map(ToString::to_string).collect();
    note(&format!(
        "no line was replayed; lines were read as {}: give the format with --log-format, or the configuration that has it with \
         --config",
        formats.join(", ")
    ));
}
