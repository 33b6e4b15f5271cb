//! `mesh-authz suggest`: makes policies of the requests in logs that were allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use mesh_authz::config::Mesh;
use mesh_authz::policy::Labels;
use mesh_authz::policy::scope::Workload;
use serde_json::{Map, Value, json};

use super::log_options::{LogOptions, names_workload, only_one_standard_input, progress, workloads_of};
use super::options::Setting;
use super::{Answer, Failure, note};
use crate::access_log::request::Needs;
use crate::access_log::settings::Settings;
use crate::load::Resources;
use crate::logs::{Count, Source};
use crate::render::yaml;
use crate::suggest::metrics::Metrics;
use crate::suggest::observed::{MOST, Observed, OfWorkload};
use crate::suggest::{Names, Suggestion, requests, suggest, why_not_to_be_named};

/// Arguments of `mesh-authz suggest`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  mesh-authz suggest access.log.*.gz --namespace default \\
    --label app=backend > policies.yaml
  mesh-authz suggest logs/*.json --config mesh-config.yaml \\
    --pods pods.json > policies.yaml
  curl -s 'http://prometheus:9090/api/v1/query' \\
    --data-urlencode 'query=increase(istio_requests_total[7d])' |
    mesh-authz suggest --metrics - > policies.yaml

Exit status:
  0  there are policies
  1  no request in the logs can be in a policy
  2  wrong usage or unreadable input")]
pub struct Arguments {
    /// Files with lines of access logs, or of the filter's decision log, which may be compressed with gzip; `-` is standard
    /// input.
    #[arg(value_name = "LOG", required_unless_present = "metrics")]
    logs: Vec<PathBuf>,

    /// Instead of logs: an answer of Prometheus to a query of `istio_requests_total`. It tells only who calls which workload, so
    /// that the policies allow these peers everything.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["logs", "LogOptions"])]
    metrics: Option<PathBuf>,

    #[command(flatten)]
    log: LogOptions,

    #[command(flatten)]
    setting: Setting,
}

pub fn run(arguments: &Arguments, out: &mut String) -> Result<Answer, Failure> {
    let mesh = arguments.setting.mesh();
    let policies = match &arguments.metrics {
        Some(file) => of_metrics(&Metrics::read(file)?, arguments, &mesh)?,
        None => of_logs(arguments, &mesh)?,
    };
    if policies.is_empty() {
        note("there is no policy: no request in the input was allowed and is identified");
        return Ok(Answer::Bad);
    }
    let texts: Vec<_> = policies.iter().map(yaml::to_string).collect::<Result<_, _>>().map_err(Failure::unusable)?;
    *out = texts.join("---\n");
    Ok(Answer::Good)
}

fn of_logs(arguments: &Arguments, mesh: &Mesh) -> Result<Vec<Value>, Failure> {
    only_one_standard_input(arguments.logs.iter().chain(&arguments.log.config).chain(&arguments.log.pods))?;
    let resources =
        if arguments.log.config.is_empty() { Resources::default() } else { Resources::read(&arguments.log.config)? };
    let formats = arguments.log.formats(Settings::of(&super::diff::valid(resources)?))?;
    let pods = arguments.log.pods()?;
    let names = names_workload(&arguments.setting)?;
    let by_pods = pods.as_ref().filter(|_| !names);
    let workloads = match by_pods {
        Some(pods) => workloads_of(pods, &arguments.setting, &mesh.root_namespace)?,
        None => vec![one_workload(arguments, mesh)?],
    };
    let needs = Needs::default();
    let reading = arguments.log.reading(workloads.first().filter(|_| by_pods.is_none()));
    let mut source = Source::new(&workloads, &formats, &needs, reading);
    if let Some(pods) = &pods {
        source = source.with_pods(pods, &mesh.trust_domain, by_pods.is_some());
    }
    let progress = progress(&arguments.logs);
    let observed = source.read(&arguments.logs, &progress, |item, observed: &mut Observed| observed.add(item));
    progress.finish_and_clear();
    let observed = observed?;
    // By what a policy says about them. A policy is also for workloads of which the logs have nothing.
    let mut targets: BTreeMap<String, Target> = BTreeMap::new();
    for (position, workload) in workloads.iter().enumerate() {
        let selected = if by_pods.is_some() { without_changing_labels(workload) } else { workload.clone() };
        let key = format!("{} {:?}", selected.namespace, selected.labels);
        let target = targets.entry(key).or_insert_with(|| Target::of(selected));
        target.all = target.all.saturating_add(1);
        if let Some(of_workload) = observed.workloads.get(&position) {
            target.seen = target.seen.saturating_add(1);
            let _within_the_limit = target.observed.merge(of_workload.clone(), MOST);
        }
    }
    let mut policies = Vec::new();
    let mut names = BTreeSet::new();
    for Target { workload, observed, all, seen } in targets.into_values() {
        let name = unique(&name(&workload), &workload.namespace, &mut names);
        let suggested = suggest(&name, &workload, observed, mesh);
        let suggested =
            suggested.map_err(|why| Failure::Unusable(format!("{name}: no valid policy can be made: {why}")))?;
        if let Some(suggestion) = suggested {
            report(&name, &suggestion);
            if all > seen {
                note(&format!(
                    "{name}: selects {all} kinds of pods, by their labels, and the logs have requests to {seen} of them: the others \
                     would refuse everything else"
                ));
            }
            if workload.namespace == mesh.root_namespace && workload.gateway.is_none() {
                note(&format!("{name}: is in the root namespace, so it is for workloads in every namespace"));
            }
            policies.push(suggestion.policy);
        }
    }
    let place = |count: &Count| {
        let first = count
            .first
            .and_then(|(file, line)| Some(format!(" (first: {}:{line})", arguments.logs.get(file)?.display())));
        first.unwrap_or_default()
    };
    for (why, count) in &observed.left_out {
        note(&format!("left out: {}, {why}{}", requests(count.lines), place(count)));
    }
    for (why, count) in &observed.lines.skipped {
        note(&format!("not read: {}, {why}{}", lines(count.lines), place(count)));
    }
    Ok(policies)
}

/// The workloads that a policy is for.
struct Target {
    /// With the labels that the policy selects by.
    workload: Workload,
    observed: OfWorkload,
    /// How many kinds of pods have these labels.
    all: usize,
    /// How many of them the logs have requests to.
    seen: usize,
}

impl Target {
    fn of(workload: Workload) -> Self {
        Self { workload, observed: OfWorkload::default(), all: 0, seen: 0 }
    }
}

/// A name that no other policy in the namespace has.
fn unique(name: &str, namespace: &str, names: &mut BTreeSet<(String, String)>) -> String {
    let mut unique = name.to_owned();
    let mut number: usize = 1;
    while !names.insert((namespace.to_owned(), unique.clone())) {
        number = number.saturating_add(1);
        unique = format!("{name}-{number}");
    }
    unique
}

/// Says what a policy is made of.
fn report(name: &str, suggestion: &Suggestion) {
    let Suggestion { requests: count, generalized, refused, also_refused, left_out, .. } = suggestion;
    for why in left_out {
        note(&format!("{name}: left out: {why}"));
    }
    for (pattern, paths) in generalized {
        note(&format!("{name}: {pattern} stands for {paths} paths"));
    }
    let still = match refused {
        0 => String::new(),
        1 => ", and not the one that was refused".to_owned(),
        several => format!(", and none of the {several} different ones that were refused"),
    };
    note(&format!("{name}: allows all of the {} that it is made of{still}", requests(*count)));
    if *also_refused > 0 {
        let them =
            if *also_refused == 1 { "1 of them".to_owned() } else { format!("{also_refused} different ones of them") };
        note(&format!(
            "{name}: {them} were also refused at another time, to the same peer: what decided then is not in the policy"
        ));
    }
}

fn lines(count: u64) -> String {
    if count == 1 { "1 line".to_owned() } else { format!("{count} lines") }
}

/// The workload that options name.
fn one_workload(arguments: &Arguments, mesh: &Mesh) -> Result<Workload, Failure> {
    let workload = arguments.setting.workload.workload(mesh)?;
    if workload.labels.is_none() && workload.gateway.is_none() {
        return Err(Failure::unusable(
            "give the labels of the workload with --label, because a policy without a selector denies to all workloads of the \
             namespace what it does not allow; --no-labels makes such a policy, and --pods tells the workloads by their addresses",
        ));
    }
    Ok(workload)
}

/// A workload with the labels by which people select it.
fn without_changing_labels(workload: &Workload) -> Workload {
    const NAMES: [&str; 3] = ["app", "app.kubernetes.io/name", "k8s-app"];
    let labels = workload.labels.iter().flat_map(|labels| labels.iter());
    let named: Vec<_> = NAMES.iter().filter_map(|name| labels.clone().find(|(key, _)| key == name)).take(1).collect();
    let of_template = |key: &str| ["pod-template-hash", "controller-revision-hash"].contains(&key);
    let labels: Labels = if named.is_empty() {
        labels.filter(|(key, _)| !of_template(key)).cloned().collect()
    } else {
        named.into_iter().cloned().collect()
    };
    Workload { labels: Some(labels), ..workload.clone() }
}

/// A name for the policy of a workload.
fn name(workload: &Workload) -> String {
    let gateway = workload.gateway.as_ref().map(|gateway| gateway.name.as_str());
    let label = workload.labels.iter().flat_map(|labels| labels.iter()).next().map(|(_, value)| value.as_str());
    let text = gateway.or(label).unwrap_or(&workload.namespace);
    named(text)
}

/// A name for a policy that is made of this text.
fn named(text: &str) -> String {
    let allowed = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
    let text: String = text.chars().map(allowed).collect();
    format!("allow-{}", text.trim_matches('-')).trim_end_matches('-').to_owned()
}

/// The policies of what metrics tell.
fn of_metrics(metrics: &Metrics, arguments: &Arguments, mesh: &Mesh) -> Result<Vec<Value>, Failure> {
    let options = &arguments.setting.workload;
    let labels = options.labels()?;
    let app = labels.as_ref().and_then(|labels| labels.iter().find(|(key, _)| key == "app")).map(|(_, value)| value);
    let mut policies = Vec::new();
    let mut names = BTreeSet::new();
    for ((namespace, of_app), peers) in &metrics.peers {
        let is_other = |wanted: Option<&String>, found: &String| wanted.is_some_and(|wanted| wanted != found);
        if is_other(options.namespace.as_ref(), namespace) || is_other(app, of_app) {
            continue;
        }
        let name = unique(&named(of_app), namespace, &mut names);
        let (of_mesh, mut principals) = (Names::new(mesh), BTreeSet::new());
        for peer in peers {
            match of_mesh.of(peer) {
                Some(principal) => _ = principals.insert(principal),
                None => note(&format!("{name}: left out: {peer}, {}", why_not_to_be_named(mesh))),
            }
        }
        if principals.is_empty() {
            continue;
        }
        let mut spec = Map::new();
        spec.insert("action".to_owned(), json!("ALLOW"));
        spec.insert("selector".to_owned(), json!({ "matchLabels": { "app": of_app } }));
        spec.insert("rules".to_owned(), json!([{ "from": [{ "source": { "principals": principals } }] }]));
        let count = if principals.len() == 1 { "1 peer".to_owned() } else { format!("{} peers", principals.len()) };
        note(&format!("{name}: allows everything to {count}: metrics have no methods and no paths"));
        policies.push(json!({
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": { "name": name, "namespace": namespace },
            "spec": spec,
        }));
    }
    for (why, count) in &metrics.left_out {
        let series = if *count == 1 { "1 series".to_owned() } else { format!("{count} series") };
        note(&format!("left out: {series}, {why}"));
    }
    Ok(policies)
}
