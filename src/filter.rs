//! The filter: a request comes in, a decision goes out.
//!
//! [`Plugin`] is one accepted configuration; [`Plugin::on_request`] answers one request through a [`Host`], which is Envoy
//! in `filter/host.rs` and an ordinary object in tests. `attributes` reads the request, and [`telemetry`] says what was decided. Nothing of that changes a decision: whatever goes wrong in it goes unsaid.

mod attributes;
// The boundary: the only module that calls the host, and the only one that natively does not exist.
#[cfg(target_arch = "wasm32")]
mod host;
pub mod property;
pub mod telemetry;

use std::cell::{Cell, RefCell};

use log::{Level, info, log_enabled};

use self::attributes::HostAttributes;
pub use self::telemetry::Telemetry;
use self::telemetry::limiter::Limiter;
use self::telemetry::metrics::{self, Counters, Metrics};
use self::telemetry::{filter_state, log_line};
use crate::config::{
    DebugHeader, DecisionLog, DenyResponse, FilterState, NodeMetadata, PluginConfig, PrincipalFrom, SourceIpFrom,
};
use crate::diagnostic::Diagnostic;
use crate::engine::explain::NearMiss;
use crate::engine::{Decision, DenyReason, Engine, Outcome, Peers, Verdict};
use crate::policy::scope::{Scope, scope};
use crate::request::{Attributes, Headers, Lookup};

/// What a decision takes from the proxy that the filter runs in.
pub trait Host {
    /// A property, by the parts of its path with a NUL between them.
    fn property(&self, path: &str) -> Lookup<Vec<u8>>;
    /// All request headers, in the host's encoding.
    fn request_headers(&self) -> Lookup<Vec<u8>>;
    /// One value of a request header. There may be more, unless the name begins with a colon.
    fn request_header(&self, name: &[u8]) -> Lookup<Vec<u8>>;
    /// Answers the request in the application's place.
    fn respond(&self, reply: &Reply, details: &str);
}

/// An answer, ready to be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: String,
    /// Further headers, in the host's encoding.
    pub headers: Vec<u8>,
}

impl From<DenyResponse> for Reply {
    fn from(DenyResponse { status, body, headers }: DenyResponse) -> Self {
        Self { status, body, headers: Headers::encode(&headers) }
    }
}

/// What becomes of the request in Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterStatus {
    /// To the next filter.
    Continue,
    /// It has been answered.
    Answered,
}

/// One accepted configuration.
#[derive(Debug)]
pub struct Plugin {
    engine: Engine,
    headers_from: HeadersFrom,
    principal_from: PrincipalFrom,
    source_ip_from: SourceIpFrom,
    refusal: Reply,
    debugging: Option<Debugging>,
    counters: Counters,
    filter_state: FilterState,
    log: DecisionLogger,
    /// Room for short texts, so that a refusal allocates nothing.
    room: RefCell<String>,
}

/// Which decisions are logged, and how many of them.
#[derive(Debug)]
struct DecisionLogger {
    decisions: DecisionLog,
    denied: Lines,
    /// Apart, so that they do not take the place of those that refuse a request.
    allowed: Lines,
    /// How often the nearest miss is looked for.
    misses: Limiter,
}

/// Lines of one kind.
#[derive(Debug)]
struct Lines {
    limiter: Limiter,
    suppressed: Cell<u64>,
}

/// Who sees in a refusal what it rests on.
#[derive(Debug)]
struct Debugging {
    name: String,
    peers: Peers,
    /// Those that every refusal has.
    headers: Vec<(String, String)>,
}

/// How the request line is read. A host call for all headers costs what two for single values do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HeadersFrom {
    /// One call for each part that is needed.
    EachByItself,
    /// One call for all headers, since some rule looks at others too, or rules look at every part of the line.
    Map,
}

impl HeadersFrom {
    fn of(engine: &Engine) -> Self {
        let (mut method, mut path, mut authority) = (false, false, false);
        for name in engine.headers() {
            match name {
                b":method" => method = true,
                b":path" => path = true,
                b":authority" => authority = true,
                _ => return Self::Map,
            }
        }
        if method && path && authority { Self::Map } else { Self::EachByItself }
    }
}

impl Plugin {
    /// Loads a configuration and logs what becomes of the policies in it.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration. Nothing of it is applied, and no metric is defined.
    pub fn load(bytes: Vec<u8>, node: &NodeMetadata, host: &impl Telemetry) -> Result<Self, Vec<Diagnostic>> {
        let PluginConfig {
            mut policies,
            workload,
            options,
            principal_from,
            source_ip_from,
            deny_response,
            decision_log,
            decision_log_rate,
            filter_state,
            debug_header,
            hash,
        } = PluginConfig::read(&bytes, node)?;
        // What a VM has once taken it keeps: whatever is not needed any more goes before the next thing is made of it.
        drop(bytes);
        let given = policies.len();
        policies.retain(|policy| {
            let scope = scope(policy, &workload);
            let dry_run = if policy.dry_run { " (dry run)" } else { "" };
            info!("policy {}: {}{dry_run}, {} rules: {scope}", policy.name, policy.action, policy.rules.len());
            scope == Scope::Applies
        });
        let applying = policies.len();
        let counters = Counters::define(host, policies.iter().map(|policy| &policy.name));
        let engine = Engine::new(policies, &options);
        let rules = engine.rules();
        metrics::record_configuration(host, applying, rules, hash);
        info!(
            "{applying} of {given} policies, with {rules} rules, apply to this workload in namespace {}",
            workload.namespace
        );
        let debugging = debug_header.map(|DebugHeader { name, principals }| Debugging {
            name,
            peers: Peers::named(&principals, &options.trust_domains),
            headers: deny_response.headers.clone(),
        });
        Ok(Self {
            headers_from: HeadersFrom::of(&engine),
            engine,
            principal_from,
            source_ip_from,
            refusal: deny_response.into(),
            debugging,
            counters,
            filter_state,
            log: DecisionLogger::new(decision_log, decision_log_rate, rules),
            room: RefCell::default(),
        })
    }

    /// Decides one request, and answers it if it is refused.
    pub fn on_request(&self, host: &(impl Host + Telemetry)) -> FilterStatus {
        let attributes = HostAttributes::new(host, self);
        let decision = self.engine.decide(&attributes);
        self.counters.count(&decision);
        if let Some(suppressed) = self.log.admits(decision.outcome.verdict(), host) {
            let nearest = self.nearest_miss(&decision, &attributes, host);
            info!("{}", log_line::decision(&decision, nearest, suppressed, &attributes));
        }
        let mut room = self.room.take();
        if self.filter_state.holds(&decision) {
            room.clear();
            filter_state::write(&mut room, &decision, None);
            host.set_filter_state(filter_state::NAME, &room);
        }
        let status = match decision.outcome.verdict() {
            Verdict::Allow => FilterStatus::Continue,
            Verdict::Deny => {
                let debugged = self.debugged(&decision, &attributes, host);
                room.clear();
                write_response_code_details(&decision, &mut room);
                host.respond(debugged.as_ref().unwrap_or(&self.refusal), &room);
                FilterStatus::Answered
            }
        };
        self.room.replace(room);
        status
    }

    /// Tells the host what has been counted since the last time.
    pub fn flush_counters(&self, host: &impl Metrics) {
        self.counters.flush(host);
    }

    /// The refusal for a peer that may see what it rests on.
    fn debugged(&self, decision: &Decision<'_>, attributes: &impl Attributes, host: &impl Telemetry) -> Option<Reply> {
        let Debugging { name, peers, headers } = self.debugging.as_ref()?;
        if !peers.include_peer_of(attributes) {
            return None;
        }
        let mut value = String::new();
        filter_state::write(&mut value, decision, self.nearest_miss(decision, attributes, host));
        let mut headers = headers.clone();
        headers.push((name.clone(), value));
        Some(Reply { headers: Headers::encode(&headers), ..self.refusal.clone() })
    }

    /// Which ALLOW rule came nearest to letting the request pass, unless that takes too long too often.
    fn nearest_miss(
        &self,
        decision: &Decision<'_>,
        attributes: &impl Attributes,
        host: &impl Telemetry,
    ) -> Option<NearMiss<'_>> {
        if decision.outcome == Outcome::Denied(DenyReason::NoAllowMatched) && self.log.misses.admits(host.now()) {
            self.engine.nearest_miss(attributes)
        } else {
            None
        }
    }
}

impl DecisionLogger {
    fn new(decisions: DecisionLog, rate: u32, rules: usize) -> Self {
        /// Looking for the nearest miss takes up to half a microsecond a rule, and shall take no more than a hundredth of a
        /// worker's time.
        const NANOSECONDS_A_RULE: u64 = 100 * 500;
        let lines = || Lines { limiter: Limiter::per_second(rate), suppressed: Cell::new(0) };
        let interval = u64::try_from(rules).unwrap_or(u64::MAX).saturating_mul(NANOSECONDS_A_RULE);
        Self { decisions, denied: lines(), allowed: lines(), misses: Limiter::every(interval) }
    }

    /// Whether a decision is to be logged, and if so, how many like it were not since the last that was. The cheapest
    /// question comes first: in a flood it is the only one.
    fn admits(&self, verdict: Verdict, host: &impl Telemetry) -> Option<u64> {
        let lines = match (self.decisions, verdict) {
            (DecisionLog::None, _) | (DecisionLog::Denied, Verdict::Allow) => return None,
            (DecisionLog::Denied | DecisionLog::All, Verdict::Deny) => &self.denied,
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

impl FilterState {
    /// Whether this decision is left with the request.
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

/// What Istio users' logs and alerts look for when a request was refused.
fn write_response_code_details(decision: &Decision<'_>, details: &mut String) {
    details.push_str("rbac_access_denied_matched_policy[");
    details.push_str(decision.outcome.rule().map_or("none", |rule| rule.as_str()));
    details.push(']');
}
