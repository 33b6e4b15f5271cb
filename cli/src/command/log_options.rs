//! Options about logs, which several subcommands share.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use mesh_authz::policy::Labels;
use mesh_authz::policy::scope::Workload;

use super::options::Setting;
use super::{Failure, note};
use crate::access_log::record::Format;
use crate::access_log::request::Reading;
use crate::access_log::settings::Settings;
use crate::logs::input::Input;
use crate::logs::pods::Pods;
use crate::logs::{Count, Lines, lines};

/// How lines of logs are read.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Logs")]
pub struct LogOptions {
    /// Format of the lines: a format string of Envoy, a JSON object of them, `istio`, `istio-json` or `envoy`. `@FILE` reads
    /// it from a file. Without this option, the formats are those of the mesh configuration or of the Envoy configuration in
    /// the input. If there is none, they are Istio's and Envoy's own formats.
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,

    /// More files with resources: a mesh configuration, Telemetry, or the configuration of an Envoy (repeatable).
    #[arg(long, value_name = "FILE")]
    pub config: Vec<PathBuf>,

    /// Output of `kubectl get pods -A -o json`. It tells the workload of a line by its address, unless options name the
    /// workload, and the service account of a peer that the line does not name.
    #[arg(long, value_name = "FILE")]
    pub pods: Option<PathBuf>,

    /// Take each request to be as its line says: no client sends the header `x-envoy-original-path`, no route changes requests,
    /// and no header has several lines.
    #[arg(long)]
    as_logged: bool,
}

impl LogOptions {
    /// The formats of the lines.
    pub fn formats(&self, settings: Settings) -> Result<Vec<Format>, Failure> {
        let built_in = |name: &str| match name {
            "istio" => Some(Format::istio_text()),
            "istio-json" => Some(Format::istio_json()),
            "envoy" => Some(Format::envoy_text()),
            _ => None,
        };
        let Some(given) = &self.log_format else {
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
        let format = match built_in(text.trim()) {
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

    pub fn reading(&self, workload: Option<&Workload>) -> Reading {
        let gateway = workload.and_then(|workload| workload.gateway.as_ref());
        Reading {
            as_logged: self.as_logged,
            is_gateway: gateway.is_some(),
            is_waypoint: gateway.is_some_and(|gateway| gateway.waypoint),
        }
    }

    /// The pods, if there is a file with them.
    pub fn pods(&self) -> Result<Option<Pods>, Failure> {
        Ok(self.pods.as_deref().map(Pods::read).transpose()?)
    }
}

/// Fails if several of the inputs come from standard input.
pub fn only_one_standard_input<'f>(files: impl Iterator<Item = &'f PathBuf>) -> Result<(), Failure> {
    if files.filter(|file| *file == Path::new("-")).count() > 1 {
        return Err(Failure::unusable("only one of the inputs can come from standard input"));
    }
    Ok(())
}

/// Whether options name the workload.
pub fn names_workload(setting: &Setting) -> Result<bool, Failure> {
    let options = &setting.workload;
    Ok(options.namespace.is_some() || !options.labels.is_empty() || options.no_labels || options.gateway()?.is_some())
}

/// The workloads of pods, each once.
pub fn workloads_of(pods: &Pods, setting: &Setting, root_namespace: &str) -> Result<Vec<Workload>, Failure> {
    let mut workloads: Vec<_> = pods.all().map(|pod| (&pod.namespace, &pod.labels)).collect();
    workloads.sort_by_key(|(namespace, labels)| (*namespace, labels.to_vec()));
    workloads.dedup();
    if workloads.is_empty() {
        return Err(Failure::unusable("--pods: no pod has an address for itself"));
    }
    let workload = |(namespace, labels): (&String, &Labels)| Workload {
        namespace: namespace.clone(),
        labels: Some(labels.clone()),
        root_namespace: root_namespace.to_owned(),
        revision: setting.workload.revision.clone(),
        ..Workload::default()
    };
    Ok(workloads.into_iter().map(workload).collect())
}

/// What a reader of the logs has to know about their lines. `place` says where the first line of a kind is.
pub fn about_lines(all: &Lines, place: impl Fn(&Count) -> Option<String>) -> Vec<String> {
    let mut notes = Vec::new();
    for (why, count) in &all.skipped {
        notes.push(format!("Left out: {}, {why}{}", lines(count.lines), first(place(count))));
    }
    if all.ambiguous.lines > 0 {
        notes.push(format!(
            "{} can be split in several ways, because a client sent quotes or blanks: what differs counts as not logged{}; a JSON \
             format has no such lines",
            lines(all.ambiguous.lines),
            first(place(&all.ambiguous))
        ));
    }
    if all.without_direction.lines > 0 {
        notes.push(format!(
            "{} without a word on whether the workload received the request or sent it{}: if a sidecar wrote the log, it sent \
             those without a cluster; if the format has no cluster, add %UPSTREAM_CLUSTER_RAW%",
            lines(all.without_direction.lines),
            first(place(&all.without_direction))
        ));
    }
    if all.suppressed > 0 {
        notes.push(format!(
            "The filter did not log {} more decisions, because there were too many: raise `decisionLogRate`",
            all.suppressed
        ));
    }
    notes
}

/// Where the first line of a kind is, in parentheses.
pub fn first(place: Option<String>) -> String {
    place.map(|place| format!(" (first: {place})")).unwrap_or_default()
}

/// A progress bar on standard error, in bytes of the files. There is none if standard error is no terminal.
pub fn progress(logs: &[PathBuf]) -> ProgressBar {
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
