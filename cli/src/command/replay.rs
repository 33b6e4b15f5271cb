//! `mesh-authz replay`: says what policies would have decided about the requests in logs.

mod output;

use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use mesh_authz::policy::scope::Workload;
use rayon::prelude::*;

use self::output::Report;
use super::log_options::{LogOptions, names_workload, only_one_standard_input, progress, workloads_of};
use super::options::{NoneAppliesOption, Setting};
use super::{Answer, Failure, note};
use crate::access_log::request::Needs;
use crate::access_log::settings::Settings;
use crate::load::Resources;
use crate::load::policy_set::PolicySet;
use crate::logs::Source;
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
     or cannot be ruled out
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

    #[command(flatten)]
    log: LogOptions,

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
    let files = [&arguments.policies].into_iter().chain(&arguments.logs).chain(&arguments.then);
    only_one_standard_input(files.chain(&arguments.log.config).chain(&arguments.log.pods))?;
    let mesh = arguments.setting.mesh();
    let mut paths = vec![arguments.policies.clone()];
    paths.extend(arguments.log.config.iter().cloned());
    let resources = super::diff::valid(Resources::read(&paths)?)?;
    let settings = Settings::of(&resources);
    let formats = arguments.log.formats(settings)?;
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
    let pods = arguments.log.pods()?;
    let names = names_workload(&arguments.setting)?;
    let sets: Vec<_> = all
        .into_iter()
        .map(|resources| PolicySet {
            workload: Workload::default(),
            mesh: mesh.clone(),
            envoy: Known::of(&resources),
            resources: Arc::new(resources),
        })
        .collect();
    let by_pods = pods.as_ref().filter(|_| !names);
    let workloads = match by_pods {
        Some(pods) => workloads_of(pods, &arguments.setting, &mesh.root_namespace)?,
        None => vec![one_workload(arguments, &sets)?],
    };
    let protected = workloads.par_iter().map(|workload| Protected::new(&sets, workload));
    let protected = protected.collect::<Result<Vec<_>, String>>().map_err(Failure::Unusable)?;
    let reading = arguments.log.reading(workloads.first().filter(|_| by_pods.is_none()));
    let mut source = Source::new(&workloads, &formats, &needs, reading);
    if let Some(pods) = &pods {
        source = source.with_pods(pods, &mesh.trust_domain, by_pods.is_some());
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

/// Says why no line was replayed.
fn complain_about(report: &Report<'_>) {
    if report.is_all_sent() {
        note("no line was replayed: the workload sent all of these requests; if it is a gateway, give --gateway NAME");
        return;
    }
    let formats: Vec<_> = report.source.formats().iter().map(ToString::to_string).collect();
    note(&format!(
        "no line was replayed; lines were read as {}: give the format with --log-format, or the configuration that has it with \
         --config; a line has nothing in front of it that another program writes, such as the name of a pod",
        formats.join(", ")
    ));
}
