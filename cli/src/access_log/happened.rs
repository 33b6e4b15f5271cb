//! What became of a request, as a line says: whether the policies decided about it, and how.
//!
//! The code of the response is no evidence: Envoy can be told to answer with another one. The details are.

use mesh_authz::policy::Traffic;
use serde_json::Value;

/// What a line says about a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// The policies allowed the request.
    Allowed,
    /// They denied it.
    Denied(DeniedBy),
    /// The line does not say.
    Unknown,
    /// No policy decided, for this reason.
    NotDecided(&'static str),
}

/// What denied a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeniedBy {
    /// No ALLOW policy matched.
    NoAllow,
    /// This rule.
    Rule {
        /// The policy, as `namespace/name`.
        policy: String,
        /// The index of the rule.
        index: usize,
    },
    /// The line does not say.
    Unknown,
}

/// What a line has about it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence<'l> {
    /// The response code details. `None`: the format has none. `Some(None)`: there are none.
    pub details: Option<Option<&'l str>>,
    /// Why the connection was closed.
    pub termination: Option<&'l str>,
    /// The flags of the response.
    pub flags: Option<&'l str>,
    /// The decision of this project's filter, as JSON.
    pub decision: Option<&'l str>,
    /// When the line was written.
    pub log_type: Option<&'l str>,
    /// Whether the client sent something over a connection, and the line says that there is no reason why it was closed.
    pub has_passed: bool,
    /// Whether the request was sent to a host.
    pub has_upstream: bool,
    /// Whether the line has a method or a path.
    pub has_request_line: bool,
}

/// What the details of a reply that Envoy gave before any policy begin with.
const BEFORE: [&str; 6] = [
    "low_version",
    "missing_host_header",
    "missing_path_rejected",
    "absolute_path_rejected",
    "path_normalization_failed",
    "request_headers_failed_strict_check",
];

/// What the details of a broken stream or connection begin with. Envoy writes them in the place of others, also after the
/// policies have decided: if the client resets a stream that they denied, for example.
const BROKEN: [&str; 6] = ["http1.", "http2.", "http3.", "http.", "codec_error", "overload"];

/// What the details of a reply begin with that comes from behind the policies: they allowed the request.
const BEHIND: [&str; 18] = [
    "via_upstream",
    "direct_response",
    "route_not_found",
    "cluster_not_found",
    "fault_filter_abort",
    "no_healthy_upstream",
    "upstream_reset",
    "upstream_response_timeout",
    "upstream_per_try_timeout",
    "upstream_max_stream_duration_reached",
    "upstream_per_try_idle_timeout",
    "response_timeout",
    "websocket_handshake_unsuccessful",
    "internal_redirect",
    "maintenance_mode",
    "early_upstream_reset",
    "late_upstream_reset",
    "response_payload_too_large",
];

impl Happened {
    /// What a line says.
    #[must_use]
    pub fn of(evidence: &Evidence<'_>, traffic: Traffic) -> Self {
        let ends = ["", "NotSet", "DownstreamEnd", "TcpConnectionEnd"];
        if evidence.log_type.is_some_and(|log_type| !ends.contains(&log_type)) {
            return Self::NotDecided(NOT_AT_THE_END);
        }
        let details = evidence.details.flatten();
        let decision: Option<Value> = evidence.decision.and_then(|json| serde_json::from_str(json).ok());
        if decision.as_ref().is_some_and(|decision| decision.get("unreadable").is_some() && is(decision, "DENY")) {
            return Self::NotDecided(UNREADABLE);
        }
        if let Some(by) = [details, evidence.termination].into_iter().flatten().find_map(DeniedBy::of_details) {
            return Self::Denied(by);
        }
        let is_before = details.is_some_and(|details| details.starts_with("mesh_authz_"));
        let said = decision.filter(|_| !is_before).as_ref().and_then(Self::of_filter);
        let has_flag = |wanted: &str| evidence.flags.is_some_and(|flags| flags.split(',').any(|flag| flag == wanted));
        let is_refused_by_authorizer =
            has_flag("UAEX") || details.is_some_and(|details| details.starts_with("ext_authz_"));
        match said {
            // The authorizer is asked behind the filter.
            Some(Self::Allowed) | None if is_refused_by_authorizer => return Self::NotDecided(BY_AUTHORIZER),
            Some(said) => return said,
            None => {}
        }
        match traffic {
            Traffic::Tcp if has_flag("NR") => Self::NotDecided("a connection that no filter chain takes"),
            // The policies decide at the first bytes.
            Traffic::Tcp if evidence.has_passed => Self::Allowed,
            Traffic::Tcp => Self::Unknown,
            Traffic::Http => Self::of_details(evidence),
        }
    }

    fn of_details(evidence: &Evidence<'_>) -> Self {
        let details = evidence.details.flatten().unwrap_or_default();
        let is_one_of = |all: &[&str]| all.iter().any(|beginning| details.starts_with(beginning));
        match details {
            _ if is_one_of(&BEFORE) => Self::NotDecided(BEFORE_POLICIES),
            _ if details.starts_with("jwt_authn_access_denied") => Self::NotDecided("refused because of its token"),
            _ if details.starts_with("mesh_authz_") => Self::NotDecided("refused by the filter before the policies"),
            // It came through to the host.
            _ if evidence.has_upstream && evidence.has_request_line => Self::Allowed,
            _ if !evidence.has_request_line && is_one_of(&BROKEN) => Self::NotDecided(BEFORE_POLICIES),
            _ if !evidence.has_request_line => Self::NotDecided("a request that was not read to the end"),
            _ if is_one_of(&BEHIND) => Self::Allowed,
            // The client left, or the connection broke.
            _ => Self::Unknown,
        }
    }

    /// What this project's filter decided. `None`: that is not its decision.
    fn of_filter(decision: &Value) -> Option<Self> {
        if is(decision, "ALLOW") {
            return Some(Self::Allowed);
        }
        let rule = decision.get("rule").and_then(Value::as_u64).and_then(|rule| usize::try_from(rule).ok());
        let rule = decision.get("policy").and_then(Value::as_str).zip(rule);
        let by = |(policy, index): (&str, _)| DeniedBy::Rule { policy: policy.to_owned(), index };
        is(decision, "DENY").then(|| Self::Denied(rule.map_or(DeniedBy::Unknown, by)))
    }
}

/// A sidecar also logs what its workload sends.
pub const SENT: &str = "sent by the workload, not received";

/// Envoy itself did not take the request.
pub const BEFORE_POLICIES: &str = "refused by Envoy before the policies";

/// The provider of a CUSTOM policy refused the request, or another authorizer did.
pub const BY_AUTHORIZER: &str = "refused by an external authorizer";

/// There is another line about the same request.
pub const NOT_AT_THE_END: &str = "not written at the end of the request";

/// The filter assumes the worst about what it cannot read, so that policies do not decide alone.
pub const UNREADABLE: &str = "denied because the filter could not read an attribute";

fn is(decision: &Value, verdict: &str) -> bool {
    decision.get("decision").and_then(Value::as_str) == Some(verdict)
}

impl DeniedBy {
    /// What Envoy's RBAC filter and this project's say: `rbac_access_denied_matched_policy[…]`.
    fn of_details(details: &str) -> Option<Self> {
        let name = details.strip_prefix("rbac_access_denied_matched_policy[")?.strip_suffix(']')?;
        if name == "none" {
            return Some(Self::NoAllow);
        }
        Some(Self::of_name(name).unwrap_or(Self::Unknown))
    }

    /// The name that Istio gives a rule: `ns[NAMESPACE]-policy[NAME]-rule[INDEX]`.
    fn of_name(name: &str) -> Option<Self> {
        let (namespace, rest) = name.strip_prefix("ns[")?.split_once("]-policy[")?;
        let (policy, rest) = rest.split_once("]-rule[")?;
        let index = rest.strip_suffix(']')?.parse().ok()?;
        Some(Self::Rule { policy: format!("{namespace}/{policy}"), index })
    }
}
