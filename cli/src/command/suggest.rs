//! `mesh-authz suggest`: makes policies of the requests in logs that were allowed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use mesh_authz::config::Mesh;
use mesh_authz::policy::Labels;
use mesh_authz::policy::scope::Workload;
use serde_json::Value;

use super::log_options::{
    LogOptions, about_lines, first, names_workload, only_one_standard_input, progress, workloads_of,
};
use super::options::Setting;
use super::{Answer, Failure, note};
use crate::access_log::request::Needs;
use crate::access_log::settings::Settings;
use crate::load::Resources;
use crate::logs::pods::Pods;
use crate::logs::{Count, Source, requests};
use crate::render::yaml;
use crate::suggest::metrics::Metrics;
use crate::suggest::observed::{Observed, OfWorkload, Peer};
use crate::suggest::{Names, Suggestion, of_peers, suggest};

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
  1  no request in the input can be in a policy
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
        Some(file) => of_metrics(&Metrics::read(file, &Names::new(&mesh))?, arguments, &mesh)?,
        None => of_logs(arguments, &mesh)?,
    };
    if policies.is_empty() {
        note("there is no policy: nothing in the input can be in one");
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
    let mut policies = Vec::new();
    let mut names = UniqueNames::default();
    let targets = match by_pods {
        Some(pods) => targets(pods, &workloads, observed.workloads, mesh),
        None => workloads.iter().cloned().zip(observed.workloads.into_values()).map(Target::of).collect(),
    };
    for Target { workload, observed: mut seen } in targets {
        // It can have been this workload. What a line says that cannot be read is not known at all.
        seen.merge(observed.refused_somewhere.clone());
        if observed.lines.unread() > 0 {
            seen.without_path.insert(Peer::Unknown);
        }
        let name = names.unique(&name(&workload), &workload.namespace);
        match suggest(&name, &workload, seen, mesh) {
            Ok(suggestion) => {
                report(&name, &suggestion);
                if !suggestion.policies.is_empty() && workload.gateway.is_none() {
                    note_root_namespace(&name, &workload.namespace, mesh);
                }
                policies.extend(suggestion.policies);
            }
            Err(why) => note(&format!("{name}: no valid policy can be made: {why}")),
        }
    }
    let place = |count: &Count| {
        let (file, line) = count.first?;
        Some(format!("{}:{line}", arguments.logs.get(file)?.display()))
    };
    for (why, count) in &observed.left_out {
        note(&format!("left out: {}, {why}{}", requests(count.lines), first(place(count))));
    }
    for text in about_lines(&observed.lines, place) {
        note(&text);
    }
    Ok(policies)
}

/// A workload that a policy is for, and what was seen there.
struct Target {
    workload: Workload,
    observed: OfWorkload,
}

impl Target {
    fn of((workload, observed): (Workload, OfWorkload)) -> Self {
        Self { workload, observed }
    }
}

/// Pods of one workload: those that differ only in their version, or in what each pod has for itself.
type Kind<'p> = (&'p str, Vec<(&'p str, &'p str)>);

fn kind<'p>(namespace: &'p str, labels: &'p Labels) -> Kind<'p> {
    let is_of_job = labels.iter().any(|(key, _)| OF_JOBS.contains(&key.as_str()));
    let labels = labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let labels = labels.filter(|(key, _)| !OF_ONE_POD.contains(key) && !OF_JOBS.contains(key));
    // The pods of a job are others than those that have the same labels otherwise.
    let mut labels: Vec<_> = labels.chain(is_of_job.then_some((OF_JOBS[0], ""))).collect();
    labels.sort_unstable();
    (namespace, labels)
}

/// The workloads that policies are for, by the labels that select no other pods of the file.
fn targets(pods: &Pods, workloads: &[Workload], mut observed: BTreeMap<usize, OfWorkload>, mesh: &Mesh) -> Vec<Target> {
    let mut kinds: BTreeMap<Kind<'_>, Vec<usize>> = BTreeMap::new();
    for (at, workload) in workloads.iter().enumerate() {
        if let Some(labels) = &workload.labels {
            kinds.entry(kind(&workload.namespace, labels)).or_default().push(at);
        }
    }
    // All pods by each of their labels: also those that have no address.
    let mut by_label: HashMap<(&str, &str), BTreeSet<Kind<'_>>> = HashMap::new();
    for (namespace, labels) in pods.labels() {
        for (key, value) in labels {
            by_label.entry((key, value)).or_default().insert(kind(namespace, labels));
        }
    }
    let mut targets = Vec::new();
    for (of, members) in &kinds {
        let (namespace, labels) = of;
        let mut seen: Option<OfWorkload> = None;
        for of_workload in members.iter().filter_map(|at| observed.remove(at)) {
            seen.get_or_insert_default().merge(of_workload);
        }
        let Some(seen) = seen else { continue };
        let own: Vec<_> = labels.iter().copied().filter(|(key, _)| !OF_JOBS.contains(key)).collect();
        let is_alone = |selector: &Vec<(&str, &str)>| {
            let sets = selector.iter().filter_map(|label| by_label.get(label));
            let smallest = sets.min_by_key(|kinds| kinds.len());
            smallest.is_some_and(|kinds| {
                kinds.iter().all(|other| {
                    let (other_namespace, other_labels) = other;
                    let is_elsewhere = other_namespace != namespace && *namespace != mesh.root_namespace;
                    other == of || is_elsewhere || !selector.iter().all(|label| other_labels.contains(label))
                })
            })
        };
        let named = NAMES.iter().filter_map(|name| own.iter().find(|(key, _)| key == name));
        let selector = named.map(|label| vec![*label]).chain([own.clone()]).find(is_alone);
        let shown = own.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
        match (selector, members.first().and_then(|at| workloads.get(*at))) {
            _ if own.iter().any(|(key, _)| *key == GATEWAY) => note(&format!(
                "left out: the pods in namespace {namespace} with {shown}, because they are a gateway: name it with --gateway, or with \
                 --waypoint and --service"
            )),
            (Some(selector), Some(first)) => {
                let labels = selector.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
                let workload = Workload { labels: Some(labels.collect()), ..first.clone() };
                targets.push(Target { workload, observed: seen });
            }
            _ if own.is_empty() => note(&format!(
                "left out: pods in namespace {namespace} without labels of their own, because a policy needs labels to select them"
            )),
            _ => note(&format!(
                "left out: the pods in namespace {namespace} with {shown}, because other pods have all these labels too, and a policy \
                 would be for them as well"
            )),
        }
    }
    targets
}

/// The label of gateways that Istio has made of a Gateway.
const GATEWAY: &str = "gateway.networking.k8s.io/gateway-name";

/// Labels of the pods of a job.
const OF_JOBS: [&str; 5] = [
    "batch.kubernetes.io/job-name",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-completion-index",
    "controller-uid",
    "job-name",
];

/// The labels by which people select a workload.
const NAMES: [&str; 3] = ["app", "app.kubernetes.io/name", "k8s-app"];

/// Labels that pods of one workload have in different ways.
const OF_ONE_POD: [&str; 10] = [
    "pod-template-hash",
    "rollouts-pod-template-hash",
    "pod-template-generation",
    "controller-revision-hash",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "version",
    "app.kubernetes.io/version",
    "service.istio.io/canonical-revision",
    "helm.sh/chart",
];

fn note_root_namespace(name: &str, namespace: &str, mesh: &Mesh) {
    if namespace == mesh.root_namespace {
        note(&format!("{name}: is in the root namespace, so it is for workloads in every namespace"));
    }
}

/// Names of policies, each once in a namespace.
#[derive(Default)]
struct UniqueNames(HashMap<(String, String), usize>);

impl UniqueNames {
    fn unique(&mut self, name: &str, namespace: &str) -> String {
        let of = |name: &str| (namespace.to_owned(), name.to_owned());
        let mut number = self.0.get(&of(name)).copied().unwrap_or_default();
        loop {
            number = number.saturating_add(1);
            let unique = if number == 1 { name.to_owned() } else { format!("{name}-{number}") };
            if number == 1 || !self.0.contains_key(&of(&unique)) {
                self.0.insert(of(&unique), 1);
                self.0.insert(of(name), number);
                return unique;
            }
        }
    }
}

/// Says what a policy is made of.
fn report(name: &str, suggestion: &Suggestion) {
    let Suggestion { policies, requests: count, generalized, refused, left_out } = suggestion;
    for why in left_out {
        note(&format!("{name}: left out: {why}"));
    }
    for (pattern, paths) in generalized {
        note(&format!("{name}: {pattern} stands for {paths} paths"));
    }
    if !policies.is_empty() {
        let still = match refused {
            0 => String::new(),
            1 => ", and not the one that was refused".to_owned(),
            several => format!(", and none of the {several} different ones that were refused"),
        };
        let all = if *count == 1 { "the request".to_owned() } else { format!("all of the {count} requests") };
        note(&format!("{name}: allows {all} that it is made of{still}"));
    }
}

/// The workload that options name.
fn one_workload(arguments: &Arguments, mesh: &Mesh) -> Result<Workload, Failure> {
    let workload = arguments.setting.workload.workload(mesh)?;
    if workload.labels.is_none() && workload.gateway.is_none() {
        let by_pods = if arguments.log.pods.is_some() {
            "without --namespace, --pods tells the workloads by their addresses"
        } else {
            "--pods tells the workloads by their addresses"
        };
        return Err(Failure::Unusable(format!(
            "give the labels of the workload with --label, because a policy without a selector denies to all workloads of the \
             namespace what it does not allow; --no-labels makes such a policy, and {by_pods}"
        )));
    }
    if workload.gateway.as_ref().is_some_and(|gateway| gateway.waypoint && gateway.all_services().next().is_none()) {
        return Err(Failure::unusable(
            "give --service NAMESPACE/NAME, or --service-entry: a policy of the whole waypoint would allow at each service what was \
             seen at another",
        ));
    }
    Ok(workload)
}

/// A name for the policy of a workload.
fn name(workload: &Workload) -> String {
    let gateway = workload.gateway.as_ref().map(|gateway| {
        gateway.all_services().next().map_or(gateway.name.as_str(), |(_, service)| service.name.as_str())
    });
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
    let is_app = |labels: &Labels| !labels.is_empty() && labels.iter().all(|(key, _)| key == "app");
    if options.gateway()?.is_some() || labels.as_ref().is_some_and(|labels| !is_app(labels)) {
        return Err(Failure::unusable(
            "metrics tell a workload by its namespace and its label `app`: give no other option about it",
        ));
    }
    let app = labels.as_ref().and_then(|labels| labels.get("app"));
    let mut policies = Vec::new();
    let mut names = UniqueNames::default();
    let mut is_any_meant = false;
    for (workload @ (namespace, of_app), principals) in &metrics.peers {
        let is_other = |wanted: Option<&str>, found: &str| wanted.is_some_and(|wanted| wanted != found);
        if is_other(options.namespace.as_deref(), namespace) || is_other(app, of_app) {
            continue;
        }
        is_any_meant = true;
        let name = names.unique(&named(of_app), namespace);
        for left_out in metrics.peers_left_out.get(workload).into_iter().flatten() {
            note(&format!("{name}: left out: {left_out}"));
        }
        let is_same_elsewhere = *namespace == mesh.root_namespace
            && metrics.workloads.iter().any(|(other, app)| other != namespace && app == of_app);
        if is_same_elsewhere {
            note(&format!(
                "{name}: left out: it would be for workloads in every namespace, and others have the same label `app`"
            ));
        }
        if principals.is_empty() || is_same_elsewhere {
            continue;
        }
        match of_peers(&name, namespace, options.revision.as_deref(), of_app, principals) {
            Ok(policy) => {
                let count = principals.len();
                let peers = if count == 1 { "1 peer".to_owned() } else { format!("{count} peers") };
                note(&format!("{name}: allows everything to {peers}: metrics have no methods and no paths"));
                note_root_namespace(&name, namespace, mesh);
                policies.push(policy);
            }
            Err(why) => note(&format!("{name}: no valid policy can be made: {why}")),
        }
    }
    if !is_any_meant && !metrics.peers.is_empty() {
        note("the metrics have no requests to a workload with this namespace and this label");
    }
    for (why, count) in &metrics.left_out {
        let series = if *count == 1 { "1 series".to_owned() } else { format!("{count} series") };
        note(&format!("left out: {series}, {why}"));
    }
    Ok(policies)
}
