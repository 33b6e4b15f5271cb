//! Logs, read line by line: for each request, what the line says about it, which workload it was for, and what became of it.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`input`] | reads log files in chunks of lines |
//! | [`pods`] | finds workloads and service accounts by the addresses of pods |
//!
//! Chunks are worked on in parallel and counted in order, so the result does not depend on how many threads there are.

pub mod input;
pub mod pods;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;

use indicatif::ProgressBar;
use mesh_authz::engine::Verdict;
use mesh_authz::identity::SCHEME;
use mesh_authz::policy::scope::Workload;
use mesh_authz::policy::waypoint::{self, Destination, ServicesByHost};
use mesh_authz::policy::{Labels, Traffic};
use mesh_authz::request::{Address, Attributes, ConnectionText, HeaderValues, Lookup, Metadata, PeerName};
use rayon::prelude::*;
use serde_json::Value;

use self::input::{Chunk, Input};
use self::pods::{Pod, Pods};
use crate::access_log::happened::{DeniedBy, Happened, UNREADABLE};
use crate::access_log::record::{Format, Record};
use crate::access_log::request::{Line, LoggedRequest, Needs, Plan, Proxy, Reading};
use crate::decision_log::{self, DecisionLog, Entry};
use crate::load::InputError;

/// What lines are read by.
#[derive(Debug)]
pub struct Source<'r> {
    formats: &'r [Format],
    plans: Vec<Plan<'r>>,
    reading: Reading,
    workloads: &'r [Workload],
    /// The services of a waypoint that lines must be about. `None`: they can be about any.
    services: Option<ServicesByHost>,
    /// Which workload a line is of. `None`: it is of the only one.
    by_address: Option<ByAddress<'r>>,
}

/// The workloads by the addresses of their pods.
#[derive(Debug)]
struct ByAddress<'r> {
    pods: &'r Pods,
    trust_domain: &'r str,
    /// Empty: only the peers are found by their addresses.
    positions: HashMap<(&'r str, &'r Labels), usize>,
}

/// A request of a log.
#[derive(Debug)]
pub enum Logged<'l> {
    /// From an access log.
    Access(LoggedRequest<'l>),
    /// From the decision log of this project's filter.
    Decision(decision_log::LoggedRequest),
}

/// A request, and what is known about it.
#[derive(Debug)]
pub struct Item<'l> {
    pub request: Logged<'l>,
    /// The position of the workload. `None`: the line does not say, and it can be any.
    pub workload: Option<usize>,
    pub happened: Happened,
    /// Whether the peer is inferred from its address.
    pub is_inferred: bool,
    /// Whether it is certain which service of a waypoint it was for, if that matters.
    pub is_of_service: bool,
    /// Whether Envoy found no route for it.
    pub has_no_route: bool,
    /// When the request began.
    pub start: Option<Cow<'l, str>>,
    pub line: &'l [u8],
    pub place: Place,
}

/// The number of a file, and that of a line in it, counted from 1.
pub type Place = (usize, u64);

/// How many lines there are, and which is the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub lines: u64,
    pub first: Option<Place>,
}

/// How many lines of each kind there are.
#[derive(Debug, Default)]
pub struct Lines {
    /// The lines that are not empty.
    pub all: u64,
    /// Lines that can be split in several ways, because a client has sent quotes or blanks.
    pub ambiguous: Count,
    /// Lines that do not tell whether the workload has received the request or sent it.
    pub without_direction: Count,
    /// How many decisions were not logged, because there were too many.
    pub suppressed: u64,
    /// Lines that no request was read from, by the reason.
    pub skipped: BTreeMap<&'static str, Count>,
}

/// Why a line cannot be understood.
const OTHER_FORMAT: &str = "of another format or cut";
const SEVERAL_FORMATS: &str = "which can be of several formats";
const TOO_LONG: &str = "longer than 16 MiB";
const MALFORMED: &str = "a decision that is cut or malformed";

const OF_NO_WORKLOAD: &str = "of no workload that the pods tell";
const WITHOUT_WORKLOAD: &str =
    "that do not tell their workload: log %DOWNSTREAM_LOCAL_ADDRESS% and %START_TIME%, in a JSON format";
const OF_ANOTHER_SERVICE: &str = "of another service, or of none";
const OF_GATEWAY: &str = "of a gateway: name it with --gateway, or with --waypoint and --service";

/// So many requests.
#[must_use]
pub fn requests(count: u64) -> String {
    if count == 1 { "1 request".to_owned() } else { format!("{count} requests") }
}

/// So many lines.
#[must_use]
pub fn lines(count: u64) -> String {
    if count == 1 { "1 line".to_owned() } else { format!("{count} lines") }
}

/// What is made of requests.
pub trait Collect: Default + Send {
    /// The lines that were read.
    fn lines(&mut self) -> &mut Lines;
    /// Adds what is made of later lines, but for their counts.
    fn merge(&mut self, later: Self);
}

impl Count {
    /// Counts a line.
    pub fn add(&mut self, place: Place) {
        self.merge(&Self { lines: 1, first: Some(place) });
    }

    /// Adds later lines.
    pub fn merge(&mut self, later: &Self) {
        self.lines = self.lines.saturating_add(later.lines);
        self.first = self.first.or(later.first);
    }
}

impl Lines {
    fn skip(&mut self, why: &'static str, place: Place) {
        self.skipped.entry(why).or_default().add(place);
    }

    /// How many lines were not understood, or do not tell their workload.
    #[must_use]
    pub fn unread(&self) -> u64 {
        let reasons = [OTHER_FORMAT, SEVERAL_FORMATS, TOO_LONG, MALFORMED, WITHOUT_WORKLOAD];
        let counts = reasons.iter().filter_map(|why| self.skipped.get(why)).map(|count| count.lines);
        counts.fold(0, u64::saturating_add)
    }

    /// Adds later lines.
    pub fn merge(&mut self, later: Self) {
        self.all = self.all.saturating_add(later.all);
        self.suppressed = self.suppressed.saturating_add(later.suppressed);
        self.ambiguous.merge(&later.ambiguous);
        self.without_direction.merge(&later.without_direction);
        for (why, count) in later.skipped {
            self.skipped.entry(why).or_default().merge(&count);
        }
    }
}

impl<'r> Source<'r> {
    /// Lines of one workload. `needs`: what policies look at.
    #[must_use]
    pub fn new(workloads: &'r [Workload], formats: &'r [Format], needs: &'r Needs, reading: Reading) -> Self {
        let plans = formats.iter().map(|format| Plan::new(format, needs)).collect();
        let gateway = workloads.first().and_then(|workload| workload.gateway.as_ref());
        let named = gateway.filter(|gateway| gateway.waypoint && gateway.all_services().next().is_some());
        let services = named.cloned().map(|mut gateway| {
            for service in &mut gateway.services {
                if service.host.is_none() {
                    service.host = Some([&waypoint::without_domain(service), CLUSTER_DOMAIN].concat());
                }
            }
            ServicesByHost::new(&gateway).0
        });
        Self { formats, plans, reading, workloads, services, by_address: None }
    }

    /// Takes the peers of lines to be those pods that have their addresses. `also_workloads`: the workloads as well.
    #[must_use]
    pub fn with_pods(mut self, pods: &'r Pods, trust_domain: &'r str, also_workloads: bool) -> Self {
        let named = self.workloads.iter().enumerate().filter(|_| also_workloads).filter_map(|(position, workload)| {
            Some(((workload.namespace.as_str(), workload.labels.as_ref()?), position))
        });
        self.by_address = Some(ByAddress { pods, trust_domain, positions: named.collect() });
        self
    }

    /// The workloads that lines can be of.
    #[must_use]
    pub fn workloads(&self) -> &'r [Workload] {
        self.workloads
    }

    /// The formats that lines can have.
    #[must_use]
    pub fn formats(&self) -> &'r [Format] {
        self.formats
    }

    /// Reads files, and makes something of each request.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn read<T: Collect>(
        &self,
        files: &[PathBuf],
        progress: &ProgressBar,
        each: impl Fn(&Item<'_>, &mut T) + Sync,
    ) -> Result<T, InputError> {
        let mut input = Input::new(files, progress.clone());
        let batch = rayon::current_num_threads().saturating_mul(4);
        let mut found = T::default();
        let mut next = || -> Result<Vec<Chunk>, InputError> {
            let mut chunks = Vec::new();
            while chunks.len() < batch
                && let Some(chunk) = input.next_chunk()?
            {
                chunks.push(chunk);
            }
            Ok(chunks)
        };
        let mut chunks = next()?;
        while !chunks.is_empty() {
            let work = || chunks.par_iter().map(|chunk| self.chunk(chunk, &each)).collect::<Vec<_>>();
            let (read, all) = rayon::join(&mut next, work);
            for mut later in all {
                found.lines().merge(std::mem::take(later.lines()));
                found.merge(later);
            }
            chunks = read?;
        }
        Ok(found)
    }

    fn chunk<T: Collect>(&self, chunk: &Chunk, each: &impl Fn(&Item<'_>, &mut T)) -> T {
        let mut found = T::default();
        if chunk.is_too_long {
            let lines = found.lines();
            lines.all = 1;
            lines.skip(TOO_LONG, (chunk.file, chunk.first_line));
            return found;
        }
        let lines = chunk.text.split_inclusive(|byte| *byte == b'\n');
        for (number, line) in (chunk.first_line..).zip(lines) {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let place = (chunk.file, number);
            let lines = found.lines();
            lines.all = lines.all.saturating_add(1);
            match self.item(line, place, lines) {
                Ok(item) => {
                    if item.workload.is_none() {
                        found.lines().skip(WITHOUT_WORKLOAD, place);
                    } else if let Happened::NotDecided(why) = item.happened {
                        found.lines().skip(why, place);
                    }
                    each(&item, &mut found);
                }
                Err(why) => found.lines().skip(why, place),
            }
        }
        found
    }

    /// Reads a line again that a request was read from.
    #[must_use]
    pub fn again<'l>(&self, line: &'l [u8]) -> Option<Item<'l>> {
        self.item(line, (0, 0), &mut Lines::default()).ok()
    }

    /// Reads a line. `Err`: why there is no request in it.
    fn item<'l>(&self, line: &'l [u8], place: Place, lines: &mut Lines) -> Result<Item<'l>, &'static str> {
        match self.record(line) {
            Ok((at, record)) => {
                if record.is_ambiguous {
                    lines.ambiguous.add(place);
                }
                let plan = self.plans.get(at).ok_or(OTHER_FORMAT)?;
                let line_of_log = plan.line(&record, self.reading);
                if line_of_log.may_be_outbound {
                    lines.without_direction.add(place);
                }
                self.access(line_of_log, line, place)
            }
            Err(OTHER_FORMAT) => match decision(line) {
                Some(Ok(entry)) => {
                    lines.suppressed = lines.suppressed.saturating_add(entry.suppressed);
                    self.decision(entry, line, place)
                }
                Some(Err(decision_log::Malformed)) => Err(MALFORMED),
                None if is_of_ztunnel(line) => Err("of ztunnel, which logs no requests"),
                None if is_of_process(line) => Err("of the log of Envoy itself, or of Istio's agent"),
                None => Err(OTHER_FORMAT),
            },
            Err(why) => Err(why),
        }
    }

    /// Reads a line by the format that it has. `Err`: why that is not possible.
    fn record<'l>(&self, line: &'l [u8]) -> Result<(usize, Record<'l>), &'static str> {
        let mut found = self.formats.iter().enumerate().filter_map(|(at, format)| Some((at, format.read(line)?)));
        match (found.next(), found.next()) {
            (Some(found), None) => Ok(found),
            (Some(_), Some(_)) => Err(SEVERAL_FORMATS),
            (None, _) => Err(OTHER_FORMAT),
        }
    }

    /// A line of an access log.
    fn access<'l>(&self, parsed: Line<'l>, line: &'l [u8], place: Place) -> Result<Item<'l>, &'static str> {
        let Line { mut request, happened, start, namespace, filter_chain, proxy, has_no_route, .. } = parsed;
        let located = self.find(&mut request, start.as_deref()).and_then(|(workload, is_inferred)| {
            if let Some(workload) = workload {
                self.check_namespace(workload, namespace.as_deref())?;
                self.check_proxy(workload, proxy)?;
            }
            Ok((workload, is_inferred, self.check_service(filter_chain.as_deref())?))
        });
        match (located, happened) {
            (Err(OF_GATEWAY), _) => Err(OF_GATEWAY),
            (Err(_), Happened::NotDecided(why)) | (Err(why), _) => Err(why),
            (Ok((workload, is_inferred, is_of_service)), happened) => {
                let request = Logged::Access(request);
                Ok(Item { request, workload, happened, is_inferred, is_of_service, has_no_route, start, line, place })
            }
        }
    }

    /// A line of the decision log of this project's filter.
    fn decision<'l>(&self, entry: Entry, line: &'l [u8], place: Place) -> Result<Item<'l>, &'static str> {
        if entry.is_about_normalization()
            || entry.is_about_a_provider()
            || entry.is_about_missing_filters()
            || entry.is_about_the_service()
        {
            return Err("refused by the filter before the policies");
        }
        if self.by_address.as_ref().is_some_and(|found| !found.positions.is_empty()) {
            return Err("of the decision log, which has no address of its workload: name the workload");
        }
        self.check_namespace(0, entry.namespace.as_deref())?;
        self.check_labels(entry.labels.as_ref())?;
        self.check_proxy(0, if entry.service.is_some() { Proxy::Waypoint } else { Proxy::Any })?;
        let filter_chain = entry.service.as_ref().map(|host| format!("inbound-vip|0|http|{host}"));
        let is_of_service = self.check_service(filter_chain.as_deref())?;
        let happened = match (entry.verdict, &entry.rule) {
            (Verdict::Deny, _) if entry.unreadable.is_some() => Happened::NotDecided(UNREADABLE),
            (Verdict::Allow, _) => Happened::Allowed,
            (Verdict::Deny, Some((policy, index))) => {
                let index = usize::try_from(*index).unwrap_or(usize::MAX);
                Happened::Denied(DeniedBy::Rule { policy: policy.clone(), index })
            }
            (Verdict::Deny, None) => Happened::Denied(DeniedBy::NoAllow),
        };
        let request = Logged::Decision(entry.request);
        Ok(Item {
            request,
            workload: Some(0),
            happened,
            is_inferred: false,
            is_of_service,
            has_no_route: false,
            start: None,
            line,
            place,
        })
    }

    /// Whether the workload that options name can be this pod.
    fn is_meant(&self, pod: &Pod) -> bool {
        self.workloads.first().is_none_or(|workload| {
            let has_labels = workload.labels.as_ref().is_none_or(|wanted| pod.labels.include(wanted));
            workload.gateway.is_some() || (pod.namespace == workload.namespace && has_labels)
        })
    }

    fn check_namespace(&self, workload: usize, namespace: Option<&str>) -> Result<(), &'static str> {
        let of_workload = self.workloads.get(workload);
        match (of_workload, namespace) {
            (Some(workload), Some(other)) if workload.namespace != other => Err("of a workload in another namespace"),
            _ => Ok(()),
        }
    }

    /// These are the labels of the workload that has decided.
    fn check_labels(&self, labels: Option<&Labels>) -> Result<(), &'static str> {
        let wanted = self.workloads.first().filter(|workload| workload.gateway.is_none());
        match (wanted.and_then(|workload| workload.labels.as_ref()), labels) {
            (Some(wanted), Some(labels)) if !labels.include(wanted) => Err("of a workload with other labels"),
            _ => Ok(()),
        }
    }

    /// Such a proxy can be that of the workload.
    fn check_proxy(&self, workload: usize, proxy: Proxy) -> Result<(), &'static str> {
        let gateway = self.workloads.get(workload).and_then(|workload| workload.gateway.as_ref());
        match (proxy, gateway) {
            (Proxy::Sidecar, Some(_)) => Err("of a sidecar"),
            (Proxy::Waypoint, None) => Err("of a waypoint: name it with --waypoint and --service"),
            (Proxy::Waypoint, Some(gateway)) if !gateway.waypoint => {
                Err("of a waypoint: name it with --waypoint and --service")
            }
            _ => Ok(()),
        }
    }

    /// The request is for a service that is named with the waypoint. Returns whether that is certain.
    fn check_service(&self, filter_chain: Option<&str>) -> Result<bool, &'static str> {
        let Some(services) = &self.services else { return Ok(true) };
        let Some(filter_chain) = filter_chain.map(str::as_bytes) else { return Ok(false) };
        let Some(host) = waypoint::host(filter_chain) else { return Err(OF_ANOTHER_SERVICE) };
        match services.destination(filter_chain) {
            Destination::Service(_) => Ok(true),
            // In another domain: a `ServiceEntry` can have such a host.
            Destination::Unknown => Ok(false),
            // The hosts of a `ServiceEntry` are not known.
            Destination::Other if self.names_service_entry() && memchr::memmem::find(host, b".svc.").is_none() => {
                Ok(true)
            }
            Destination::Other => Err(OF_ANOTHER_SERVICE),
        }
    }

    fn names_service_entry(&self) -> bool {
        let gateway = self.workloads.first().and_then(|workload| workload.gateway.as_ref());
        gateway.is_some_and(|gateway| !gateway.service_entries.is_empty())
    }

    /// The workload of a request, and whether its peer is inferred.
    fn find(
        &self,
        request: &mut LoggedRequest<'_>,
        start: Option<&str>,
    ) -> Result<(Option<usize>, bool), &'static str> {
        let Some(ByAddress { pods, trust_domain, positions }) = &self.by_address else { return Ok((Some(0), false)) };
        let pod = |address: IpAddr| pods.at(address, start);
        let local = request.local_address();
        let workload = if positions.is_empty() {
            if local.and_then(pod).is_some_and(|local| !self.is_meant(local)) {
                return Err("of another workload, as the pods tell");
            }
            Some(0)
        } else if let Some(local) = local {
            match pod(local) {
                Some(pod) if pod.is_gateway => return Err(OF_GATEWAY),
                Some(pod) => Some(*positions.get(&(pod.namespace.as_str(), &pod.labels)).ok_or(OF_NO_WORKLOAD)?),
                // The time is not known, and the pod had the address at some time.
                None if start.is_none() && pods.at(local, Some(LAST)).is_some() => None,
                None => return Err(OF_NO_WORKLOAD),
            }
        } else {
            None
        };
        let is_unknown = request.has_unknown_peer() && request.is_from_mesh();
        let peer = if is_unknown { request.peer_address().and_then(pod) } else { None };
        if let Some(peer) = peer {
            let (namespace, account) = (&peer.namespace, &peer.service_account);
            request.infer_peer(format!("{SCHEME}{trust_domain}/ns/{namespace}/sa/{account}"));
        }
        Ok((workload, peer.is_some()))
    }
}

/// The domain of a cluster that has no other: the host of its Services ends with it.
const CLUSTER_DOMAIN: &str = "cluster.local";

/// Later than every time in a log.
const LAST: &str = "9999";

/// Reads a line of the decision log. `None`: it is something else. In front of the decision there can only be what Envoy writes
/// there, or the line is a field of a log shipper: a client can write a decision into other lines.
fn decision(line: &[u8]) -> Option<Result<Entry, decision_log::Malformed>> {
    const BEGINNING: &str = "{\"decision\":";
    // Most lines are not, and this is faster than to read them.
    memchr::memmem::find(line, b"decision")?;
    let text = std::str::from_utf8(line).ok()?.trim();
    let shipped: Option<Value> =
        if text.starts_with('{') && !text.starts_with(BEGINNING) { serde_json::from_str(text).ok() } else { None };
    let text = match &shipped {
        // The container's output says so. An application that writes JSON itself can have a client's text in such a field.
        Some(object) if object.get("stream").is_none_or(|stream| stream != "stdout" && stream != "stderr") => {
            return None;
        }
        Some(object) => ["log", "message", "msg"].iter().find_map(|name| object.get(name)?.as_str())?.trim(),
        None => text,
    };
    let start = text.find(BEGINNING)?;
    let (before, object) = text.split_at_checked(start)?;
    let is_prefix = before.is_empty() || (is_of_process(before.as_bytes()) && before.contains("[wasm]"));
    if !is_prefix {
        return None;
    }
    match serde_json::from_str::<Value>(object) {
        Ok(_) => DecisionLog::line(1, object),
        Err(_) => Some(Err(decision_log::Malformed)),
    }
}

/// Whether Envoy itself wrote the line, and not its access log, or Istio's agent did: `[DATE][THREAD][LEVEL]…`, or a time, a tab
/// and a level.
fn is_of_process(line: &[u8]) -> bool {
    const LONGEST: usize = 64;
    let beginning = line.get(..LONGEST.min(line.len())).unwrap_or_default();
    if !beginning.strip_prefix(b"[").unwrap_or(beginning).first().is_some_and(u8::is_ascii_digit) {
        return false;
    }
    let levels: [&[u8]; 5] = [b"info\t", b"warn\t", b"error\t", b"debug\t", b"fatal\t"];
    match (beginning.first(), memchr::memchr(b']', beginning), memchr::memchr(b'\t', beginning)) {
        (Some(b'['), Some(end), _) => {
            let rest = beginning.get(end.saturating_add(1)..).unwrap_or_default();
            let number = rest.strip_prefix(b"[").and_then(|rest| rest.split(|byte| *byte == b']').next());
            number.is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
        }
        (_, _, Some(end)) => {
            let rest = beginning.get(end.saturating_add(1)..).unwrap_or_default();
            levels.iter().any(|level| rest.starts_with(level))
        }
        _ => false,
    }
}

/// Whether ztunnel wrote the line.
fn is_of_ztunnel(line: &[u8]) -> bool {
    let has = |text: &str| memchr::memmem::find(line, text.as_bytes()).is_some();
    has("connection complete") && has("src.addr")
}

impl Logged<'_> {
    /// Whether it is a request, or a connection that is none of HTTP.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        match self {
            Self::Access(request) => request.traffic,
            Self::Decision(request) => request.traffic,
        }
    }

    /// The method, for messages.
    #[must_use]
    pub fn shown_method(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Access(request) => request.shown_method().map(Cow::Owned),
            Self::Decision(request) => request.method.as_deref().map(Cow::Borrowed),
        }
    }

    /// The path without its query, for messages. Another path can have been decided about.
    #[must_use]
    pub fn shown_path(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Access(request) => request.shown_path(),
            Self::Decision(request) => request.path.as_deref().map(Cow::Borrowed),
        }
    }

    /// The peer, for messages: without the scheme of its name. `None`: the line does not say.
    #[must_use]
    pub fn shown_peer(&self) -> Option<Cow<'_, str>> {
        match self.peer_name(PeerName::Uri) {
            Lookup::Value(name) => {
                let name = String::from_utf8_lossy(name);
                Some(match name.strip_prefix(SCHEME) {
                    Some(name) => Cow::Owned(name.to_owned()),
                    None => name,
                })
            }
            Lookup::Absent => Some(Cow::Borrowed("a peer without an identity")),
            Lookup::Unreadable => None,
        }
    }
}

impl Attributes for Logged<'_> {
    fn peer_name(&self, which: PeerName) -> Lookup<&[u8]> {
        match self {
            Self::Access(request) => request.peer_name(which),
            Self::Decision(request) => match (request.peer_name(PeerName::Uri), which) {
                // The decision log has no other names, and a peer can have others.
                (Lookup::Absent, PeerName::Dns | PeerName::Subject) => Lookup::Unreadable,
                _ => request.peer_name(which),
            },
        }
    }

    fn address(&self, which: Address) -> Lookup<IpAddr> {
        match self {
            Self::Access(request) => request.address(which),
            Self::Decision(request) => request.address(which),
        }
    }

    fn destination_port(&self) -> Lookup<u16> {
        match self {
            Self::Access(request) => request.destination_port(),
            Self::Decision(request) => request.destination_port(),
        }
    }

    fn text(&self, which: ConnectionText) -> Lookup<&[u8]> {
        match self {
            Self::Access(request) => request.text(which),
            Self::Decision(request) => request.text(which),
        }
    }

    fn header<'a>(&'a self, name: &'a [u8]) -> Lookup<HeaderValues<'a>> {
        match self {
            Self::Access(request) => request.header(name),
            Self::Decision(request) => request.header(name),
        }
    }

    fn metadata(&self) -> Lookup<Metadata<'_>> {
        match self {
            Self::Access(request) => request.metadata(),
            Self::Decision(request) => request.metadata(),
        }
    }
}
