//! Logs held against policies: what the policies decide about the requests that the lines describe.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`input`] | reads log files in chunks of lines |
//! | [`pods`] | finds workloads and service accounts by the addresses of pods |
//! | [`tally`] | counts what is alike |
//!
//! Chunks are worked on in parallel and counted in order, so the result does not depend on how many threads there are. The
//! memory that this takes does not depend on how long the logs are.

pub mod input;
pub mod pods;
pub mod tally;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::ProgressBar;
use mesh_authz::analysis::{Budget, Open, OpenKey, Policies, Possible, Workloads};
use mesh_authz::document::Span;
use mesh_authz::engine::{Engine, Options, RuleId, Verdict};
use mesh_authz::identity::SCHEME;
use mesh_authz::policy::scope::{Scope, Workload, scope};
use mesh_authz::policy::{Action, AuthorizationPolicy, Labels, Traffic};
use mesh_authz::request::{Attributes, Lookup, PeerName};
use rayon::prelude::*;

use self::input::{Chunk, Input};
use self::pods::Pods;
use self::tally::{After, Before, Key, Kind, Peer, Seen, Tally};
use crate::access_log::happened::{DeniedBy, Happened, UNREADABLE};
use crate::access_log::record::{Format, Record};
use crate::access_log::request::{Line, LoggedRequest, Needs, Plan, Reading};
use crate::decision_log::{self, DecisionLog, Entry};
use crate::explain::{Explanation, FailedCondition};
use crate::load::InputError;
use crate::load::finding::SourceText;
use crate::load::policy_set::PolicySet;

/// The policies of a workload, as they were and, if there is a second set, as they will be.
#[derive(Debug)]
pub struct Protected {
    /// For each set, the policies with which requests are decided: HTTP, then TCP.
    questions: Vec<[Vec<AuthorizationPolicy>; 2]>,
    /// For explanations.
    pub sets: Vec<PolicySet>,
}

impl Protected {
    /// The policies of these sets that apply to the workload.
    ///
    /// # Errors
    /// The policies cannot be asked about a workload.
    pub fn new(sets: &[PolicySet], workload: &Workload) -> Result<Self, String> {
        let sets: Vec<_> = sets.iter().map(|set| PolicySet { workload: workload.clone(), ..set.clone() }).collect();
        let questions = sets.iter().map(|set| {
            let of = |traffic| {
                let mut policies = set.in_questions(traffic, Some(workload))?;
                policies.retain(|policy| scope(policy, workload) == Scope::Applies);
                Ok::<_, String>(policies)
            };
            Ok([of(Traffic::Http)?, of(Traffic::Tcp)?])
        });
        Ok(Self { questions: questions.collect::<Result<_, String>>()?, sets })
    }

    /// The workload.
    #[must_use]
    pub fn workload(&self) -> Option<&Workload> {
        self.sets.first().map(|set| &set.workload)
    }
}

/// The policies of a workload, compiled: for each set, those for requests and those for connections.
#[derive(Debug)]
struct Compiled<'p>(Vec<[Policies<'p>; 2]>);

/// Everything that lines are held against.
#[derive(Debug)]
pub struct Replay<'r> {
    workloads: &'r [Protected],
    compiled: Vec<Compiled<'r>>,
    formats: &'r [Format],
    plans: Vec<Plan<'r>>,
    reading: Reading,
    /// Which workload a line is of. `None`: it is of the only one.
    by_address: Option<ByAddress<'r>>,
    /// What can become of requests that leave the same open. A key has addresses of compiled rules, which stay where they are.
    known: Mutex<HashMap<OpenKey, Option<Possible>>>,
}

/// The workloads by the addresses of their pods.
#[derive(Debug)]
struct ByAddress<'r> {
    pods: &'r Pods,
    trust_domain: &'r str,
    positions: HashMap<(&'r str, &'r Labels), usize>,
    /// Only the peers are found by their addresses.
    has_one_workload: bool,
}

/// More keys than this are not kept.
const MOST_KEYS: usize = 100_000;

impl<'r> Replay<'r> {
    /// Prepares the policies of workloads. `needs`: what all of them look at.
    #[must_use]
    pub fn new(workloads: &'r [Protected], formats: &'r [Format], needs: &'r Needs, reading: Reading) -> Self {
        let compiled = workloads.par_iter().map(|protected| {
            let of_set = |(set, questions): (&'r PolicySet, &'r [Vec<AuthorizationPolicy>; 2])| {
                let [http, tcp] = questions;
                let compile = |traffic, policies: &'r [AuthorizationPolicy]| {
                    let options = Options { traffic, ..set.mesh.options() };
                    let policies: Vec<_> = policies.iter().collect();
                    Policies::new(&policies, &options, Workloads::One(Box::new(set.workload.clone())))
                };
                [compile(Traffic::Http, http), compile(Traffic::Tcp, tcp)]
            };
            Compiled(protected.sets.iter().zip(&protected.questions).map(of_set).collect())
        });
        Self {
            compiled: compiled.collect(),
            plans: formats.iter().map(|format| Plan::new(format, needs)).collect(),
            workloads,
            formats,
            reading,
            by_address: None,
            known: Mutex::new(HashMap::new()),
        }
    }

    /// Takes the workloads, or only the peers, of lines to be those pods that have their addresses.
    #[must_use]
    pub fn with_pods(mut self, pods: &'r Pods, trust_domain: &'r str, has_one_workload: bool) -> Self {
        let named = self.workloads.iter().enumerate().filter_map(|(position, protected)| {
            let workload = protected.workload()?;
            Some(((workload.namespace.as_str(), workload.labels.as_ref()?), position))
        });
        let positions = if has_one_workload { HashMap::new() } else { named.collect() };
        self.by_address = Some(ByAddress { pods, trust_domain, positions, has_one_workload });
        self
    }

    /// Replays files.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn run(&self, files: &[PathBuf], progress: &ProgressBar) -> Result<Tally, InputError> {
        let mut input = Input::new(files, progress.clone());
        let batch = rayon::current_num_threads().saturating_mul(4);
        let mut tally = Tally::default();
        let mut read = || -> Result<Vec<Chunk>, InputError> {
            let mut chunks = Vec::new();
            while chunks.len() < batch
                && let Some(chunk) = input.next_chunk()?
            {
                chunks.push(chunk);
            }
            Ok(chunks)
        };
        let mut chunks = read()?;
        while !chunks.is_empty() {
            let work = || chunks.par_iter().map(|chunk| self.chunk(chunk)).collect::<Vec<_>>();
            let (next, tallies) = rayon::join(&mut read, work);
            for found in tallies {
                tally.merge(found);
            }
            chunks = next?;
        }
        Ok(tally)
    }

    fn chunk(&self, chunk: &Chunk) -> Tally {
        let mut tally = Tally::default();
        if chunk.is_too_long {
            tally.skip("longer than 16 MiB", (chunk.file, chunk.first_line));
            return tally;
        }
        let lines = chunk.text.split_inclusive(|byte| *byte == b'\n');
        for (number, line) in (chunk.first_line..).zip(lines) {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            self.line(line, (chunk.file, number), &mut tally);
        }
        tally
    }

    /// Reads a line by the format that it has. `Err`: why that is not possible.
    fn record<'l>(&self, line: &'l [u8]) -> Result<(usize, Record<'l>), &'static str> {
        let mut found = self.formats.iter().enumerate().filter_map(|(at, format)| Some((at, format.read(line)?)));
        match (found.next(), found.next()) {
            (Some(found), None) => Ok(found),
            (Some(_), Some(_)) => Err("which can be of several formats"),
            (None, _) => Err("of another format or cut"),
        }
    }

    fn line(&self, line: &[u8], place: (usize, u64), tally: &mut Tally) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        tally.lines = tally.lines.saturating_add(1);
        match self.record(line) {
            Ok((at, record)) => {
                let Some(plan) = self.plans.get(at) else { return };
                if record.is_ambiguous {
                    tally.ambiguous.add(place);
                }
                let parsed = plan.line(&record, self.reading);
                self.access(line, parsed, place, tally);
            }
            Err(why) => match decision(line, place.1) {
                Some(Ok(entry)) => self.decision(line, &entry, place, tally),
                Some(Err(decision_log::Malformed)) => tally.skip("a decision that is cut or malformed", place),
                None if is_of_ztunnel(line) => tally.skip("of ztunnel, which logs no requests", place),
                None => tally.skip(why, place),
            },
        }
    }

    /// A line of an access log.
    fn access(&self, line: &[u8], parsed: Line<'_>, place: (usize, u64), tally: &mut Tally) {
        let Line { mut request, happened, start, namespace } = parsed;
        if let Happened::NotDecided(why) = happened {
            return tally.skip(why, place);
        }
        let (workload, is_inferred) = match self.find(&mut request, start.as_deref()) {
            Ok(found) => found,
            Err(why) => return tally.skip(why, place),
        };
        let of_workload = self.workloads.get(workload).and_then(Protected::workload);
        let of_other = namespace.is_some_and(|namespace| of_workload.is_some_and(|other| other.namespace != namespace));
        if of_other {
            return tally.skip("of a workload in another namespace", place);
        }
        let seen = Seen { place, start: start.as_deref(), line };
        let (traffic, happened) = (request.traffic, &happened);
        let replayed = Replayed { workload, traffic, request: &request, happened, is_inferred, seen: &seen };
        let what = || what(traffic, request.shown_method().as_deref(), request.shown_path().as_deref());
        self.decide(&replayed, what, tally);
    }

    /// A line of the decision log of this project's filter.
    fn decision(&self, line: &[u8], entry: &Entry, place: (usize, u64), tally: &mut Tally) {
        tally.suppressed = tally.suppressed.saturating_add(entry.suppressed);
        if entry.is_about_normalization()
            || entry.is_about_a_provider()
            || entry.is_about_missing_filters()
            || entry.is_about_the_service()
        {
            return tally.skip("refused by the filter before the policies", place);
        }
        if entry.verdict == Verdict::Deny && entry.unreadable.is_some() {
            return tally.skip(UNREADABLE, place);
        }
        if self.by_address.as_ref().is_some_and(|found| !found.has_one_workload) {
            return tally.skip("of the decision log, which has no address of its workload: name the workload", place);
        }
        let of_workload = self.workloads.first().and_then(Protected::workload);
        if of_workload
            .is_some_and(|workload| entry.namespace.as_ref().is_some_and(|other| *other != workload.namespace))
        {
            return tally.skip("of a workload in another namespace", place);
        }
        let happened = match (entry.verdict, &entry.rule) {
            (Verdict::Allow, _) => Happened::Allowed,
            (Verdict::Deny, Some((policy, index))) => {
                let index = usize::try_from(*index).unwrap_or(usize::MAX);
                Happened::Denied(DeniedBy::Rule { policy: policy.clone(), index })
            }
            (Verdict::Deny, None) => Happened::Denied(DeniedBy::NoAllow),
        };
        let request = &entry.request;
        let seen = Seen { place, start: None, line };
        let (traffic, happened) = (request.traffic, &happened);
        let replayed = Replayed { workload: 0, traffic, request, happened, is_inferred: false, seen: &seen };
        self.decide(&replayed, || what(traffic, request.method.as_deref(), request.path.as_deref()), tally);
    }

    /// The workload of a request, and whether its peer is inferred.
    fn find(&self, request: &mut LoggedRequest<'_>, start: Option<&str>) -> Result<(usize, bool), &'static str> {
        let Some(ByAddress { pods, trust_domain, positions, has_one_workload }) = &self.by_address else {
            return Ok((0, false));
        };
        let pod = |address: Option<IpAddr>| pods.at(address?, start);
        let workload = if *has_one_workload {
            0
        } else {
            let pod = pod(request.local_address()).ok_or("of no workload that the pods tell")?;
            *positions.get(&(pod.namespace.as_str(), &pod.labels)).ok_or("of no workload that the pods tell")?
        };
        let peer =
            if request.has_unknown_peer() && request.is_from_mesh() { pod(request.peer_address()) } else { None };
        if let Some(peer) = peer {
            let (namespace, account) = (&peer.namespace, &peer.service_account);
            request.infer_peer(format!("{SCHEME}{trust_domain}/ns/{namespace}/sa/{account}"));
        }
        Ok((workload, peer.is_some()))
    }

    /// Decides about a request, and counts what comes of it.
    fn decide(&self, replayed: &Replayed<'_, impl Attributes>, what: impl FnOnce() -> String, tally: &mut Tally) {
        let Replayed { workload, traffic, request, happened, seen, .. } = *replayed;
        let Some(Compiled(sets)) = self.compiled.get(workload) else { return };
        let answers = sets.iter().map(|[http, tcp]| {
            let policies = if traffic == Traffic::Tcp { tcp } else { http };
            let open = policies.open(request);
            let after = self.after(&open);
            (open, after)
        });
        let answers: Vec<_> = answers.collect();
        let (Some((first_open, first)), Some((last_open, last))) = (answers.first(), answers.last()) else { return };
        let has_two = answers.len() > 1;
        tally.count(last, happened);
        match (first, last) {
            (After::Undecided, After::Undecided) if has_two && first_open.is_same_as(last_open) => {
                tally.unchanged.add(seen.place);
            }
            (_, After::Undecided) => tally.needs(last_open.needs(), seen),
            (After::Undecided, _) => tally.needs(first_open.needs(), seen),
            _ => {}
        }
        let mut kinds = Vec::new();
        let before = Before::of(happened);
        let is_otherwise = before.differs(first);
        if is_by_another_rule(happened, first_open, first) || (has_two && is_otherwise) {
            kinds.push((Kind::Disagreement, before.clone(), first.clone()));
        }
        let before = if has_two { Before::from(first) } else { before };
        if before.differs(last) {
            kinds.push((Kind::Change, before, last.clone()));
        } else if matches!(last, After::Deny(_)) && !has_two {
            kinds.push((Kind::Denied, before, last.clone()));
        }
        if kinds.is_empty() {
            return;
        }
        let (peer, what) = (Peer { name: peer_name(request), is_inferred: replayed.is_inferred }, what());
        for (kind, before, after) in kinds {
            tally.group(Key { kind, workload, before, after, what: what.clone(), peer: peer.clone() }, seen);
        }
    }

    /// What policies decide about a request, whatever the line leaves open.
    fn after(&self, open: &Open<'_>) -> After {
        match self.possible(open).and_then(Possible::verdict) {
            Some(Verdict::Allow) => After::Allow,
            Some(Verdict::Deny) => After::Deny(match (open.denying().next(), open.may_deny().next()) {
                (Some(rule), _) => denied_by(rule),
                (None, None) => DeniedBy::NoAllow,
                (None, Some(_)) => DeniedBy::Unknown,
            }),
            None => After::Undecided,
        }
    }

    /// What can become of a request. `None`: to find out takes too long.
    fn possible(&self, open: &Open<'_>) -> Option<Possible> {
        if let Some(possible) = open.at_once() {
            return Some(possible);
        }
        let key = open.key();
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(possible) = lock().get(&key) {
            return *possible;
        }
        let possible = open.possible(&mut Budget::default()).ok();
        let mut known = lock();
        if known.len() < MOST_KEYS {
            known.insert(key, possible);
        }
        possible
    }

    /// Why a request is decided as it is, by the line that stands for a group. `None`: no line was kept.
    #[must_use]
    pub fn why(&self, key: &Key, line: &[u8]) -> Option<Why> {
        let protected = self.workloads.get(key.workload)?;
        // The old policies disagree with the log. Otherwise, it is about the new ones.
        let set = if key.kind == Kind::Disagreement { protected.sets.first() } else { protected.sets.last() }?;
        if let Ok((at, record)) = self.record(line) {
            let Line { mut request, start, .. } = self.plans.get(at)?.line(&record, self.reading);
            self.find(&mut request, start.as_deref()).ok()?;
            return Some(Why::new(set, &set.engine(request.traffic), &request));
        }
        let entry = decision(line, 1)?.ok()?;
        Some(Why::new(set, &set.engine(entry.request.traffic), &entry.request))
    }
}

/// A request, with what is known about it.
struct Replayed<'l, A> {
    workload: usize,
    traffic: Traffic,
    request: &'l A,
    happened: &'l Happened,
    /// Whether its peer is inferred.
    is_inferred: bool,
    seen: &'l Seen<'l>,
}

/// Why a request is decided as it is.
#[derive(Debug)]
pub struct Why {
    /// The place of the rule that decides.
    pub deciding: Option<(Arc<SourceText>, Option<Span>)>,
    /// The ALLOW rule that is nearest to matching.
    pub nearest: Option<Nearest>,
}

/// A rule that does not match.
#[derive(Debug)]
pub struct Nearest {
    pub rule: RuleId,
    pub source: Arc<SourceText>,
    /// The first condition of it that fails.
    pub failed: FailedCondition,
}

impl Why {
    fn new(set: &PolicySet, engine: &Engine, request: &impl Attributes) -> Self {
        let explanation = Explanation::new(set, engine, request);
        let deciding = explanation.deciding().map(|report| (Arc::clone(&report.resource.source), report.span));
        let misses = explanation.rules.into_iter().filter(|report| report.action == Action::Allow && !report.dry_run);
        let mut misses = misses.filter_map(|report| {
            let (rule, source) = (report.rule.clone(), Arc::clone(&report.resource.source));
            Some(Nearest { rule, source, failed: report.failed? })
        });
        Self { deciding, nearest: misses.next() }
    }
}

/// A request without what makes it one of many: its method, and the shape of its path.
fn what(traffic: Traffic, method: Option<&str>, path: Option<&str>) -> String {
    match traffic {
        Traffic::Tcp => "a TCP connection".to_owned(),
        Traffic::Http => format!("{} {}", method.unwrap_or("?"), path.map_or_else(|| "?".to_owned(), tally::shape)),
    }
}

/// The peer, for messages. `None`: the line does not say.
fn peer_name(request: &impl Attributes) -> Option<String> {
    match request.peer_name(PeerName::Uri) {
        Lookup::Value(name) => {
            let name = String::from_utf8_lossy(name);
            Some(name.strip_prefix(SCHEME).unwrap_or(&name).to_owned())
        }
        Lookup::Absent => Some("a peer without an identity".to_owned()),
        Lookup::Unreadable => None,
    }
}

/// Whether the log names another reason for a denial than the policies give.
fn is_by_another_rule(happened: &Happened, open: &Open<'_>, decided: &After) -> bool {
    match (happened, decided) {
        (Happened::Denied(DeniedBy::Rule { policy, index }), After::Deny(_) | After::Undecided) => {
            !open.may_deny().any(|rule| rule.index == *index && rule.policy.to_string() == *policy)
        }
        (Happened::Denied(DeniedBy::NoAllow), After::Deny(DeniedBy::Rule { .. })) => true,
        _ => false,
    }
}

fn denied_by(rule: &RuleId) -> DeniedBy {
    DeniedBy::Rule { policy: rule.policy.to_string(), index: rule.index }
}

/// Reads a line of the decision log. `None`: it is something else.
fn decision(line: &[u8], number: u64) -> Option<Result<Entry, decision_log::Malformed>> {
    // Most lines are not, and this is faster than to read them.
    memchr::memmem::find(line, b"\"decision\":")?;
    let text = String::from_utf8_lossy(line);
    DecisionLog::line(usize::try_from(number).unwrap_or(usize::MAX), &text)
}

/// Whether ztunnel wrote the line.
fn is_of_ztunnel(line: &[u8]) -> bool {
    let has = |text: &str| memchr::memmem::find(line, text.as_bytes()).is_some();
    has("connection complete") && has("src.addr")
}
