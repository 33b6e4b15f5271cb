//! The filter: it makes a decision about every request and, in a network filter chain, about every connection.
//!
//! [`Plugin`] is one accepted configuration. [`Plugin::on_request`] answers one request through a [`Host`], and
//! [`Plugin::on_new_connection`] and [`Plugin::on_data`] decide about one connection. The host is Envoy in
//! `filter/host.rs`, and an ordinary object in tests. `attributes` reads the request or the connection, and [`telemetry`]
//! reports the decision. Telemetry never changes a decision: if a report fails, only the report is missing.

mod attributes;
pub mod direction;
// The boundary: the only module that calls the host. It does not exist in native builds, except when it is fuzzed.
#[cfg(any(target_arch = "wasm32", fuzzing))]
mod host;
pub mod in_force;
mod policies;
pub mod property;
pub mod telemetry;

use std::cell::{Cell, RefCell};

use log::{Level, debug, info, log_enabled, warn};

use self::attributes::{HostAttributes, Sources};
pub use self::attributes::{Speaker, Undecided};
use self::policies::PolicySets;
pub use self::telemetry::Telemetry;
use self::telemetry::limiter::{Limiter, TimeShare};
use self::telemetry::metrics::{ConfigSummary, Counters, Metrics};
use self::telemetry::{filter_state, log_line};
use crate::config::{
    DebugHeader, DecisionLog, DenyResponse, NodeMetadata, Outgoing, Paths, PluginConfig, StoredDecisions,
};
use crate::diagnostic::Diagnostic;
use crate::engine::evaluate::Evaluation;
use crate::engine::explain::NearMiss;
use crate::engine::{Decision, DenyReason, Engines, Outcome, Peers, Verdict};
use crate::policy::Traffic;
use crate::policy::scope::{Scope, scope};
use crate::policy::waypoint;
use crate::request::{Attributes, Headers, Lookup, is_normalized, without_query};

/// What the filter needs from the proxy to decide about a request.
pub trait Host {
    /// The value of a property. `path` has the parts of the property's path with a NUL between them.
    fn property(&self, path: &str) -> Lookup<Vec<u8>>;
    /// All request headers, in the host's encoding.
    fn request_headers(&self) -> Lookup<Vec<u8>>;
    /// Answers the request in place of the application. `details` are the response code details.
    fn respond(&self, reply: &Reply, details: &str);
}

/// A response that is ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body, as text.
    pub body: String,
    /// Further headers, in the host's encoding.
    pub headers: Vec<u8>,
}

impl From<DenyResponse> for Reply {
    fn from(DenyResponse { status, body, headers }: DenyResponse) -> Self {
        Self { status, body, headers: Headers::encode(&headers) }
    }
}

/// What happens to the request in Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterStatus {
    /// It goes to the next filter.
    Continue,
    /// The filter has answered it.
    Answered,
}

/// One accepted configuration.
#[derive(Debug)]
pub struct Plugin {
    policies: PolicySets,
    sources: Sources,
    refusal: Reply,
    debugging: Option<Debugging>,
    counters: Counters,
    summary: ConfigSummary,
    outgoing: Outgoing,
    paths: PathCheck,
    filter_state: StoredDecisions,
    log: DecisionLogger,
    /// A buffer for short texts, so that a refusal allocates nothing.
    room: RefCell<String>,
}

/// Looks for paths that Envoy has not normalized.
#[derive(Debug)]
struct PathCheck {
    /// Whether the policies, or the setting, look at paths at all.
    is_needed: bool,
    paths: Paths,
    has_warned: Cell<bool>,
}

/// Which decisions are logged, and how many of them. Each kind of line is counted separately, so that none takes the
/// place of another.
#[derive(Debug)]
struct DecisionLogger {
    decisions: DecisionLog,
    denied: Lines,
    /// Of allowed requests that dry-run policies would refuse.
    would_be_denied: Lines,
    allowed: Lines,
    /// The workload, as the lines show it.
    workload: String,
    /// Limits the time that searches for the nearest miss take.
    searches: TimeShare,
}

/// The log lines of one kind: their limit, and how many were suppressed since the last one.
#[derive(Debug)]
struct Lines {
    limiter: Limiter,
    suppressed: Cell<u64>,
}

/// The header that explains a refusal, and the peers that get it.
#[derive(Debug)]
struct Debugging {
    name: String,
    peers: Peers,
    /// The headers that every refusal has.
    headers: Vec<(String, String)>,
}

impl Plugin {
    /// Loads a configuration, and logs for each policy whether it applies.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration. None of it is applied then, and no metric is defined.
    pub fn load(bytes: Vec<u8>, node: &NodeMetadata, host: &impl Telemetry) -> Result<Self, Vec<Diagnostic>> {
        let PluginConfig {
            mut policies,
            workload,
            options,
            principal_from,
            source_ip_from,
            outgoing,
            paths,
            deny_response,
            decision_log,
            decision_log_rate,
            filter_state,
            debug_header,
            hash,
        } = PluginConfig::read(&bytes, node)?;
        // A Wasm VM never returns memory, so free each input before building the next structure.
        drop(bytes);
        let given = policies.len();
        policies.retain(|policy| {
            let scope = scope(policy, &workload);
            let dry_run = if policy.dry_run { " (dry run)" } else { "" };
            // At a lower level, because each worker of Envoy says it about each policy.
            debug!("policy {}: {}{dry_run}, {} rules: {scope}", policy.name, policy.action, policy.rules.len());
            scope == Scope::Applies
        });
        let applying = policies.len();
        let counters = Counters::define(host, policies.iter().map(|policy| &policy.name));
        let rules: usize = policies.iter().map(|policy| policy.rules.len()).sum();
        let policies = PolicySets::new(policies, &workload, &options);
        info!(
            "mesh-authz {}: {applying} of {given} policies, with {rules} rules, apply to this workload in namespace {}",
            env!("CARGO_PKG_VERSION"),
            workload.namespace
        );
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let debugging = debug_header.map(|DebugHeader { name, principals }| Debugging {
            name,
            peers: Peers::named(&principals, &options.trust_domains),
            headers: deny_response.headers.clone(),
        });
        Ok(Self {
            sources: Sources { principal: principal_from, source_ip: source_ip_from },
            outgoing,
            paths: PathCheck::new(paths, policies.test_paths()),
            policies,
            refusal: deny_response.into(),
            debugging,
            counters,
            summary: ConfigSummary { policies: count(applying), rules: count(rules), hash },
            filter_state,
            log: DecisionLogger::new(decision_log, decision_log_rate, log_line::workload(&workload)),
            room: RefCell::default(),
        })
    }

    /// Decides one request. If the request is refused, answers it.
    pub fn on_request(&self, host: &(impl Host + Telemetry)) -> FilterStatus {
        let attributes = HostAttributes::of_request(host, self.sources);
        let evaluation = Evaluation::new(&attributes);
        let chain = self.policies.filter_chain(host);
        let engines = self.policies.of(Traffic::Http, &chain);
        let mut decision = decide(engines, &evaluation);
        if self.paths.finds(&attributes) {
            self.counters.count_unnormalized_path();
            if self.paths.paths == Paths::Strict {
                decision.outcome = Outcome::Denied(DenyReason::UnnormalizedPath);
            }
        }
        self.report(Traffic::Http, &decision, engines, &chain, &evaluation, host);
        match decision.outcome.verdict() {
            Verdict::Allow => FilterStatus::Continue,
            Verdict::Deny => {
                let debugged = self.debugged(engines, &decision, &evaluation, host);
                let mut room = self.room.take();
                room.clear();
                write_response_code_details(&decision, &mut room);
                host.respond(debugged.as_ref().unwrap_or(&self.refusal), &room);
                self.room.replace(room);
                FilterStatus::Answered
            }
        }
    }

    /// Decides about a connection that has just begun.
    ///
    /// # Errors
    /// The policies ask for what the host does not know yet: who the peer is, if the connection has TLS.
    pub fn on_new_connection(&self, host: &(impl Host + Telemetry)) -> Result<Verdict, Undecided> {
        let attributes = HostAttributes::of_new_connection(host, self.sources);
        self.decide_connection(&attributes, true, host).ok_or_else(|| attributes.undecided())
    }

    /// Decides about a connection on which `speaker` is the first to send data. What the host does not know counts
    /// against the connection.
    pub fn on_data(&self, undecided: Undecided, speaker: Speaker, host: &(impl Host + Telemetry)) -> Verdict {
        let attributes = HostAttributes::of_connection(host, self.sources, undecided, speaker);
        self.decide_connection(&attributes, false, host).unwrap_or(Verdict::Deny)
    }

    /// `None`: the decision may change when the host knows more, and `may_wait`.
    fn decide_connection<H: Host + Telemetry>(
        &self,
        attributes: &HostAttributes<'_, H>,
        may_wait: bool,
        host: &H,
    ) -> Option<Verdict> {
        let evaluation = Evaluation::new(attributes);
        let chain = self.policies.filter_chain(host);
        let engines = self.policies.of(Traffic::Tcp, &chain);
        let is_denied = engines.is_none_or(|engines| engines.combine(&evaluation).0.verdict() == Verdict::Deny);
        if may_wait && attributes.wait() {
            return None;
        }
        let decision = decide(engines, &evaluation);
        // What is only tried out or audited keeps no connection waiting that is denied.
        if may_wait && !is_denied && attributes.wait() {
            return None;
        }
        self.report(Traffic::Tcp, &decision, engines, &chain, &evaluation, host);
        Some(decision.outcome.verdict())
    }

    /// Counts the decision, and logs and stores it if the configuration says so.
    fn report<'p: 'r, 'r, A: Attributes>(
        &'p self,
        traffic: Traffic,
        decision: &Decision<'_>,
        engines: Option<Engines<'p>>,
        filter_chain: &Lookup<Vec<u8>>,
        evaluation: &Evaluation<'r, A>,
        host: &impl Telemetry,
    ) {
        self.counters.count(decision);
        if let Some(suppressed) = self.log.admits(decision, host) {
            let line = log_line::Line {
                traffic,
                decision,
                near_miss: self.nearest_miss(engines, decision, evaluation, host),
                workload: &self.log.workload,
                service: filter_chain.as_slice().known().and_then(waypoint::host),
                suppressed,
            };
            info!("{}", line.write(evaluation.attributes()));
        }
        if self.filter_state.holds(decision) {
            let mut room = self.room.take();
            room.clear();
            filter_state::write(&mut room, decision, None);
            host.set_filter_state(filter_state::NAME, &room);
            self.room.replace(room);
        }
    }

    /// What the gauges say about the configuration.
    #[must_use]
    pub fn summary(&self) -> ConfigSummary {
        self.summary
    }

    /// What becomes of the requests that a sidecar's workload sends.
    #[must_use]
    pub fn outgoing(&self) -> Outgoing {
        self.outgoing
    }

    /// Reports to the host what was counted since the last flush.
    pub fn flush_counters(&self, host: &impl Metrics) {
        self.counters.flush(host);
    }

    /// The refusal with the header that explains it. `None` if the peer may not see the header.
    fn debugged<'p: 'r, 'r, A: Attributes>(
        &'p self,
        engines: Option<Engines<'p>>,
        decision: &Decision<'_>,
        evaluation: &Evaluation<'r, A>,
        host: &impl Telemetry,
    ) -> Option<Reply> {
        let Debugging { name, peers, headers } = self.debugging.as_ref()?;
        if !peers.include_peer_of(evaluation.attributes()) {
            return None;
        }
        let mut value = String::new();
        filter_state::write(&mut value, decision, self.nearest_miss(engines, decision, evaluation, host));
        let mut headers = headers.clone();
        headers.push((name.clone(), value));
        Some(Reply { headers: Headers::encode(&headers), ..self.refusal.clone() })
    }

    /// The ALLOW rule that came nearest to matching. `None` unless the request was refused because no ALLOW policy
    /// matched. Also `None` if such searches have taken too much time lately.
    fn nearest_miss<'p: 'r, 'r, A: Attributes>(
        &'p self,
        engines: Option<Engines<'p>>,
        decision: &Decision<'_>,
        evaluation: &Evaluation<'r, A>,
        host: &impl Telemetry,
    ) -> Option<NearMiss<'p>> {
        /// The longest time that a search takes, in nanoseconds. The time is measured, because it depends on the
        /// request.
        const LONGEST_SEARCH: u64 = 100_000;
        if decision.outcome != Outcome::Denied(DenyReason::NoAllowMatched) {
            return None;
        }
        let begin = host.now();
        if !self.log.searches.admits(begin) {
            return None;
        }
        let has_time = || host.now().saturating_sub(begin) < LONGEST_SEARCH;
        let nearest = engines?.nearest_miss_in(evaluation, has_time);
        self.log.searches.charge(begin, host.now());
        nearest
    }
}

/// Decides by these policies. If nobody can tell which ones apply, refuses.
fn decide<'e: 'r, 'r, A: Attributes>(engines: Option<Engines<'e>>, evaluation: &Evaluation<'r, A>) -> Decision<'e> {
    engines.map_or(Decision::UNKNOWN_SERVICE, |engines| engines.decide_in(evaluation))
}

impl PathCheck {
    fn new(paths: Paths, rules_test_paths: bool) -> Self {
        Self { is_needed: paths == Paths::Strict || rules_test_paths, paths, has_warned: Cell::new(false) }
    }

    /// Whether the path of the request has a form that Envoy would have changed. Warns the first time.
    fn finds(&self, attributes: &impl Attributes) -> bool {
        if !self.is_needed {
            return false;
        }
        let is_normalized = match attributes.header(b":path") {
            Lookup::Value(mut values) => values.all(|path| is_normalized(without_query(path))),
            Lookup::Absent => true,
            Lookup::Unreadable => self.paths == Paths::AsSent,
        };
        if !is_normalized && !self.has_warned.replace(true) {
            warn!(
                "a path has `//`, `/../`, `/..;`, `\\`, or an escape like `%2F` or `%61`: this Envoy does not normalize paths, or \
                 not those with parameters, so requests can slip past policies about paths; set normalize_path, merge_slashes \
                 and path_with_escaped_slashes_action in its connection manager, or `paths: strict` in the plugin configuration"
            );
        }
        !is_normalized
    }
}

impl DecisionLogger {
    fn new(decisions: DecisionLog, rate: u32, workload: String) -> Self {
        let lines = || Lines { limiter: Limiter::per_second(rate), suppressed: Cell::new(0) };
        let (denied, would_be_denied, allowed) = (lines(), lines(), lines());
        Self { decisions, denied, would_be_denied, allowed, workload, searches: TimeShare::default() }
    }

    /// If the decision is to be logged: how many similar decisions were not logged since the last one that was. `None`
    /// if it is not to be logged.
    ///
    /// The cheapest check comes first. In a flood of requests it is the only one.
    fn admits(&self, decision: &Decision<'_>, host: &impl Telemetry) -> Option<u64> {
        let lines = match (self.decisions, decision.outcome.verdict()) {
            (DecisionLog::Denied | DecisionLog::All, Verdict::Deny) => &self.denied,
            (DecisionLog::Denied | DecisionLog::All, Verdict::Allow) if decision.dry_run.denies() => {
                &self.would_be_denied
            }
            (DecisionLog::None, _) | (DecisionLog::Denied, Verdict::Allow) => return None,
            (DecisionLog::All, Verdict::Allow) => &self.allowed,
        };
        if !lines.limiter.admits(host.now()) {
            lines.suppressed.update(|count| count.saturating_add(1));
            return None;
        }
        let suppressed = lines.suppressed.take();
        log_enabled!(Level::Info).then_some(suppressed)
    }
}

impl StoredDecisions {
    /// Whether this decision is stored with the request.
    fn holds(self, decision: &Decision<'_>) -> bool {
        match self {
            Self::None => false,
            Self::Notable => {
                decision.outcome.verdict() == Verdict::Deny
                    || decision.audited.is_some()
                    || decision.dry_run.allow.is_some()
                    || decision.dry_run.deny.is_some()
            }
            Self::All => true,
        }
    }
}

/// Writes the response code details that the logs and alerts of Istio users look for when a request was refused.
fn write_response_code_details(decision: &Decision<'_>, details: &mut String) {
    let own = match decision.outcome {
        Outcome::Denied(DenyReason::UnnormalizedPath) => "mesh_authz_unnormalized_path",
        Outcome::Denied(DenyReason::UnknownService) => "mesh_authz_unknown_service",
        Outcome::Denied(DenyReason::NotAsked) => "mesh_authz_custom_not_asked",
        _ => "",
    };
    if !own.is_empty() {
        details.push_str(own);
        return;
    }
    details.push_str("rbac_access_denied_matched_policy[");
    details.push_str(decision.outcome.rule().map_or("none", |rule| rule.as_str()));
    details.push(']');
}
