//! The requests that Envoy has decided, read back from its access log: `mesh-authz replay` decides them as Envoy did.
//!
//! The log has the format of `examples/observability/replay.yaml`, with the headers and the metadata that the policies look at.
//! `mesh-authz suggest` makes policies of the same log, and they are held against it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use indicatif::ProgressBar;
use mesh_authz::config::Mesh;
use mesh_authz::engine::{Engine, Options, Verdict};
use mesh_authz::policy::Traffic;
use mesh_authz::request::{Lookup, Request};
use mesh_authz_cli::access_log::happened::UNREADABLE;
use mesh_authz_cli::access_log::record::Format;
use mesh_authz_cli::access_log::request::{Needs, Reading};
use mesh_authz_cli::lint::{LintContext, lint};
use mesh_authz_cli::load::Resources;
use mesh_authz_cli::load::finding::{Finding, Severity, SourceText};
use mesh_authz_cli::load::policy_set;
use mesh_authz_cli::load::yaml;
use mesh_authz_cli::logs::Source;
use mesh_authz_cli::received::Known;
use mesh_authz_cli::replay::tally::{After, Before, Key, Kind, Tally};
use mesh_authz_cli::replay::{Protected, Replay};
use mesh_authz_cli::suggest::observed::{Observed, What};
use mesh_authz_cli::suggest::suggest;
use serde_json::{Value, json};

use crate::arena::workload;
use crate::policies::{PolicySet, ROOT_NAMESPACE};
use crate::vocabulary::METADATA;

/// What the replay of some requests found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Replayed {
    pub requests: u64,
    pub allowed: u64,
    pub undecided: u64,
    /// How many the filter denied because it could not read something.
    pub unreadable: u64,
    /// How many of the allowed requests suggested policies are made of.
    pub suggested: u64,
}

impl fmt::Display for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, allowed, undecided, unreadable, suggested } = self;
        write!(
            f,
            "{requests} replayed from the access log: {allowed} allowed, {undecided} undecided, {unreadable} denied because the \
             filter could not read something, all others denied, as Envoy did; suggested policies allow {suggested} of them again, \
             whose peer, method and path are certain, and deny everything to a stranger"
        )
    }
}

impl Replayed {
    pub fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            allowed: self.allowed + other.allowed,
            undecided: self.undecided + other.undecided,
            unreadable: self.unreadable + other.unreadable,
            suggested: self.suggested + other.suggested,
        }
    }
}

fn example() -> Result<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/observability/replay.yaml");
    let documents = yaml::documents(&std::fs::read_to_string(path)?).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    Ok(serde_json::to_value(documents.first().context("a document")?)?)
}

/// The same for each of these headers. The example has only one.
fn for_headers(entries: &[Value], headers: &[&str]) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for entry in entries {
        let text = entry.to_string();
        if text.contains("tenant") {
            for header in headers {
                let entry = text.replace("x-tenant", header).replace("X-TENANT", &header.to_ascii_uppercase());
                all.push(serde_json::from_str(&entry)?);
            }
        } else {
            all.push(entry.clone());
        }
    }
    Ok(all)
}

/// The filters that keep what the policies see, with these headers.
pub fn decided(headers: &[&str]) -> Result<Vec<Value>> {
    let mut filters = example()?["http_filters"].as_array().context("filters")?.clone();
    let [state, lines] = filters.as_mut_slice() else { anyhow::bail!("two filters") };
    let entries = &mut state["typed_config"]["on_request_headers"];
    *entries = for_headers(entries.as_array().context("entries")?, headers)?.into();
    let code = &mut lines["typed_config"]["default_source_code"]["inline_string"];
    let quoted = headers.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    *code = json!(code.as_str().context("a text")?.replace("\"x-tenant\"", &quoted));
    Ok(filters)
}

/// The format of the log, with these headers.
fn format(headers: &[&str]) -> Result<Value> {
    let mut format = example()?["access_log"][0]["typed_config"]["log_format"]["json_format"].clone();
    let of_example = format["headers"].clone();
    format["headers"] = for_headers(&[of_example], headers)?.into();
    for (index, (filter, key)) in METADATA.iter().enumerate() {
        format[format!("metadata-{index}")] = json!(format!("%DYNAMIC_METADATA({filter}:{key})%"));
    }
    Ok(format)
}

/// The access log of a listener, in a file.
pub fn access_log(file: &str, headers: &[&str]) -> Result<Value> {
    let mut log = example()?["access_log"][0].clone();
    log["typed_config"]["path"] = json!(file);
    log["typed_config"]["log_format"]["json_format"] = format(headers)?;
    Ok(log)
}

/// The policies of a set in the form that the command reads.
pub fn policy_set(set: &PolicySet) -> Result<policy_set::PolicySet> {
    let text = json!({ "apiVersion": "v1", "kind": "List", "items": set.policies }).to_string();
    let resources = Resources::of(&Arc::new(SourceText::new(PathBuf::from("policies.json"), text)));
    ensure!(resources.policies.len() == set.policies.len(), "{:?}", resources.findings);
    let mesh = Mesh {
        trust_domain: set.trust_domain.clone(),
        aliases: set.aliases.clone(),
        root_namespace: ROOT_NAMESPACE.to_owned(),
        ..Mesh::default()
    };
    Ok(policy_set::PolicySet { workload: workload(), mesh, envoy: Known::default(), resources: Arc::new(resources) })
}

/// Replays a log, once it has all requests. `decided`: how many of them Envoy allowed, and how many it denied.
pub fn replay(set: &policy_set::PolicySet, headers: &[&str], log: &Path, decided: [u64; 2]) -> Result<Replayed> {
    let needs = Needs::of(set.resources.policies.iter().map(|resource| &resource.policy), "payload");
    let protected = Protected::new(std::slice::from_ref(set), &set.workload).map_err(|why| anyhow::anyhow!(why))?;
    let formats = [Format::json("the example", &format(headers)?, false)?];
    let (protected, workloads) = ([protected], [set.workload.clone()]);
    let source = Source::new(&workloads, &formats, &needs, Reading::default());
    let replay = Replay::new(&source, &protected);
    let [allowed, denied] = decided;
    let requests = allowed + denied;
    let deadline = Instant::now() + Duration::from_secs(20);
    let tally = loop {
        let tally = replay.run(&[log.to_owned()], &ProgressBar::hidden())?;
        if tally.allowed + tally.denied + tally.undecided + unreadable(&tally) >= requests {
            break tally;
        }
        ensure!(Instant::now() < deadline, "{}: {requests} requests, {tally:#?}", log.display());
        std::thread::sleep(Duration::from_millis(20));
    };
    for kind in [Kind::Change, Kind::Disagreement] {
        if let Some((key, group)) = tally.groups(kind).first() {
            let line = group.example.as_deref().map(String::from_utf8_lossy);
            anyhow::bail!("replay contradicts Envoy: {key:#?}\n{}", line.unwrap_or_default());
        }
    }
    ensure!(tally.needs.is_empty() && tally.undecided == 0, "{tally:#?}");
    let unreadable = unreadable(&tally);
    ensure!(tally.recorded == requests - unreadable, "{requests} requests, {tally:#?}");
    ensure!(tally.allowed <= allowed && tally.allowed + tally.undecided >= allowed, "{allowed} allowed, {tally:#?}");
    ensure!(tally.denied + unreadable <= denied, "{denied} denied, {tally:#?}");
    let suggested = suggested(set, &formats, log, allowed)?;
    Ok(Replayed { requests, allowed: tally.allowed, undecided: tally.undecided, unreadable, suggested })
}

/// Somebody whom the log does not have.
const STRANGER: &str = "cluster.local/ns/elsewhere/sa/stranger";

/// Lets `suggest` make a policy of the log, and holds it against the log. Returns how many requests it is made of.
fn suggested(set: &policy_set::PolicySet, formats: &[Format], log: &Path, allowed: u64) -> Result<u64> {
    let (workloads, needs) = ([set.workload.clone()], Needs::default());
    let source = Source::new(&workloads, formats, &needs, Reading::default());
    let (files, hidden) = ([log.to_owned()], ProgressBar::hidden());
    let observed = source.read(&files, &hidden, |item, observed: &mut Observed| observed.add(item))?;
    let Some(observed) = observed.workloads.get(&0) else { return Ok(0) };
    let suggestion =
        suggest("suggested", &set.workload, observed.clone(), &set.mesh).map_err(|why| anyhow::anyhow!(why))?;
    if suggestion.policies.is_empty() {
        return Ok(0);
    }
    let text = json!({ "apiVersion": "v1", "kind": "List", "items": suggestion.policies }).to_string();
    let resources = Resources::of(&Arc::new(SourceText::new(PathBuf::from("suggested.json"), text.clone())));
    ensure!(resources.policies.len() == 1, "{suggestion:#?}");
    let context = LintContext { mesh: set.mesh.clone(), ..LintContext::default() };
    let findings: Vec<_> = resources.findings.iter().cloned().chain(lint(&resources, &context)).collect();
    // Clients send odd methods and paths, and a lint says so.
    let is_about_operation = |finding: &Finding| {
        let path = finding.diagnostic.path.to_string();
        finding.severity == Severity::Warning && path.contains("operation.")
    };
    ensure!(findings.iter().all(is_about_operation), "{findings:#?}\n{text}");

    let set = policy_set::PolicySet { resources: Arc::new(resources), ..set.clone() };
    let protected = Protected::new(std::slice::from_ref(&set), &set.workload).map_err(|why| anyhow::anyhow!(why))?;
    let tally = Replay::new(&source, &[protected]).run(&files, &hidden)?;
    let is_lost = |key: &Key| key.before == Before::Allowed && key.after != After::Allow;
    let changes = tally.groups(Kind::Change);
    let lost: u64 = changes.iter().filter(|(key, _)| is_lost(key)).map(|(_, group)| group.count.lines).sum();
    ensure!(lost + suggestion.requests <= allowed, "{lost} of {allowed} are lost: {tally:#?}\n{text}");
    ensure!(tally.allowed >= suggestion.requests, "{tally:#?}\n{text}");
    if let Some((key, group)) = changes.iter().find(|(key, _)| !is_lost(key)) {
        let line = group.example.as_deref().map(String::from_utf8_lossy);
        anyhow::bail!("it allows what was denied: {key:#?}\n{}\n{text}", line.unwrap_or_default());
    }

    let policies: Vec<_> = set.resources.policies.iter().map(|resource| &resource.policy).collect();
    let of = |traffic| Engine::new(policies.iter().copied(), &Options { traffic, ..set.mesh.options() });
    let (http, tcp) = (of(Traffic::Http), of(Traffic::Tcp));
    for access in observed.allowed.keys() {
        let (engine, request) = match &access.what {
            What::Http { method, path } => (&http, Request::new(method, path)),
            What::Tcp { port } => (&tcp, Request::default().destination_port(Lookup::Value(*port))),
        };
        ensure!(engine.decide(&request).outcome.verdict() == Verdict::Deny, "{access} without an identity\n{text}");
        let verdict = engine.decide(&request.principal(STRANGER)).outcome.verdict();
        ensure!(access.principal != STRANGER && verdict == Verdict::Deny, "{access} from a stranger\n{text}");
    }
    Ok(suggestion.requests)
}

/// How many requests the filter denied because it could not read something.
fn unreadable(tally: &Tally) -> u64 {
    tally.lines.skipped.get(UNREADABLE).map_or(0, |count| count.lines)
}
