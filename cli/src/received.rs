//! What Envoy makes of a request before the filter sees it, and what the filter answers.
//!
//! A request in a test file or in the options of the command is what a client sends, with the claims of its token. Envoy
//! normalizes its path, joins the lines of some headers, and removes and adds others; `jwt_authn` splits some claims into
//! lists, as Istio configures it. Some of this depends on settings of Envoy. If the input does not say what they are,
//! each request is decided with Istio's default settings, and with those of this project's bootstraps.

mod headers;
mod known;
mod path;
mod settings;
mod tcp;
mod token;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use mesh_authz::document::{Node, Value};
use mesh_authz::engine::{Custom, Decision, Engine, RuleId, Verdict};
use mesh_authz::policy::Traffic;
use mesh_authz::request::Request;
use mesh_authz::request::headers::is_name;
use mesh_authz::request::metadata::{EFFECTIVE_POLICY, ENGINE_RESULT, NETWORK_RBAC, RBAC, RULE_PREFIX};

pub use self::headers::SOME_REQUEST_ID;
pub use self::known::{Known, says_settings};
pub use self::settings::{ClientCertificate, EscapedSlashes, HostPort, Origin, Protocol, Settings};
use crate::load::policy_set::PolicySet;
use crate::load::providers::Providers;
use crate::testfile::RequestFields;

/// An Envoy that a request can come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    pub settings: Settings,
    pub protocol: Protocol,
    /// Whether it is a version that drops the parameters of `.;x` and `..;x` in paths: 1.40 or later.
    pub drops_parameters: bool,
}

/// A request, as Envoy shows it to the filter.
#[derive(Debug)]
pub struct Received {
    /// The request, or why Envoy itself refuses it.
    pub request: Result<Request, String>,
    /// What Envoy has changed: sentences without a full stop.
    pub notes: Vec<String>,
}

/// An answer to a request, and the Envoys that give it.
#[derive(Debug)]
pub struct Answered<'e> {
    pub received: Received,
    /// `None` if Envoy itself refuses the request.
    pub decision: Option<Decision<'e>>,
    /// What the providers of CUSTOM policies have answered before, in the order in which Envoy asks them. It asks none if no
    /// such policy matches, and no further one after one that denies.
    pub asked: Vec<Asked<'e>>,
    pub ways: Vec<Way>,
}

/// What the provider of a CUSTOM policy answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked<'e> {
    pub provider: &'e str,
    /// The first of its rules that matches.
    pub rule: &'e RuleId,
    pub answer: Verdict,
    /// Whether the request says so. Otherwise, both answers are possible.
    pub is_given: bool,
}

impl Answered<'_> {
    /// Whether the request passes.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.decision.as_ref().map_or(Verdict::Deny, |decision| decision.outcome.verdict())
    }

    /// The rule that decides, if one does. If the provider denies, this is the rule because of which it is asked.
    #[must_use]
    pub fn rule(&self) -> Option<&RuleId> {
        match self.asked.last() {
            Some(Asked { answer: Verdict::Deny, rule, .. }) => Some(rule),
            _ => self.decision.as_ref()?.outcome.rule(),
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        let outcome = |answered: &Self| answered.decision.as_ref().map(|decision| decision.outcome.to_string());
        self.verdict() == other.verdict() && outcome(self) == outcome(other) && self.asked == other.asked
    }
}

/// Prints the decision and its reason.
impl fmt::Display for Answered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.decision, &self.received.request) {
            (Some(decision), _) => match self.asked.last() {
                Some(Asked { answer: Verdict::Deny, provider, rule, .. }) => write!(
                    f,
                    "DENY: rule {} of {} matched, and its provider `{provider}` denies",
                    rule.index, rule.policy
                ),
                _ => write!(f, "{}: {}", decision.outcome.verdict(), decision.outcome),
            },
            (None, Err(why)) => write!(f, "DENY: Envoy itself refuses the request, because {why}"),
            (None, Ok(_)) => Ok(()),
        }
    }
}

/// The answers to a request: one, or several if they depend on what the input does not say. The first is that with
/// the first settings of the input or, if it has none, with Istio's.
#[must_use]
pub fn answers<'e>(sent: &RequestFields, set: &PolicySet, engine: &'e Engine) -> Vec<Answered<'e>> {
    let providers = AskedProviders::of(set, sent.traffic());
    if sent.traffic() == Traffic::Tcp {
        return answers_about_connection(sent, set, &providers, engine);
    }
    let mut answers: Vec<Answered<'e>> = Vec::new();
    for way in ways(sent, set) {
        let Received { request, notes } = received(sent, set, &way);
        let decided = match request {
            Ok(request) if providers.names.is_empty() => {
                let decision = engine.decide(&request);
                vec![(Ok(request), Some(decision), Vec::new())]
            }
            Ok(request) => {
                let before = seen(sent, set, &way, Tokens::Before, &mut Vec::new()).map(|fields| fields.to_request());
                decided(&request, &before.unwrap_or_else(|_| Request::new("", "")), sent, &providers, engine)
            }
            Err(why) => vec![(Err(why), None, Vec::new())],
        };
        for (request, decision, asked) in decided {
            let mut notes = notes.clone();
            notes.extend(asked.iter().filter_map(|asked| providers.note(asked, sent)));
            let received = Received { request, notes };
            let answered = Answered { received, decision, asked, ways: vec![way] };
            match answers.iter_mut().find(|other| other.is_like(&answered)) {
                Some(same) => same.ways.push(way),
                None => answers.push(answered),
            }
        }
    }
    answers
}

/// The answers about a connection.
fn answers_about_connection<'e>(
    sent: &RequestFields,
    set: &PolicySet,
    providers: &AskedProviders<'_>,
    engine: &'e Engine,
) -> Vec<Answered<'e>> {
    let mut notes = tcp::notes(set, &providers.settings);
    let seen = RequestFields { sni: server_name(sent, &mut notes), ..sent.clone() };
    let request = seen.to_request();
    let decided = if providers.names.is_empty() {
        let decision = engine.decide(&request);
        vec![(Ok(request), Some(decision), Vec::new())]
    } else {
        decided(&request, &request, sent, providers, engine)
    };
    let answered = |(request, decision, asked)| {
        let received = Received { request, notes: notes.clone() };
        Answered { received, decision, asked, ways: Vec::new() }
    };
    decided.into_iter().map(answered).collect()
}

type Decided<'e> = (Result<Request, String>, Option<Decision<'e>>, Vec<Asked<'e>>);

/// What is decided about a request that Envoy shows the filter. If CUSTOM policies match, their providers are asked first: if
/// nobody says what one answers, there is a decision for each answer.
///
/// `before`: the request before `jwt_authn`, which can change headers. The CUSTOM policies see that one.
fn decided<'e>(
    request: &Request,
    before: &Request,
    sent: &RequestFields,
    providers: &AskedProviders<'_>,
    engine: &'e Engine,
) -> Vec<Decided<'e>> {
    let mut decided = Vec::new();
    let mut asked: Vec<Asked<'e>> = Vec::new();
    for (provider, rule) in engine.asked_about(before) {
        let given = providers.answer(provider, sent);
        let answered = |answer| Asked { provider, rule, answer, is_given: given.is_some() };
        if given != Some(Verdict::Allow) {
            // The filter never sees it. Without the trace of a policy that matches, the engine denies.
            let unasked = before.clone().metadata(providers.rbac, &providers.trace(&[]));
            let all = asked.iter().cloned().chain([answered(Verdict::Deny)]).collect();
            let decision = engine.decide(&unasked);
            decided.push((Ok(unasked), Some(decision), all));
        }
        if given == Some(Verdict::Deny) {
            return decided;
        }
        asked.push(answered(Verdict::Allow));
    }
    let names: Vec<_> = asked.iter().map(|asked| asked.provider).collect();
    let request = request.clone().metadata(providers.rbac, &providers.trace(&names));
    let decision = engine.decide(&request);
    // First comes what is decided if all allow.
    decided.insert(0, (Ok(request), Some(decision), asked));
    decided
}

/// The providers that Envoy asks.
struct AskedProviders<'s> {
    names: BTreeSet<&'s str>,
    custom: Custom,
    /// The filter that finds out which CUSTOM policies match.
    rbac: &'static str,
    /// What the mesh configuration in the input says of providers, if there is one.
    settings: Providers,
}

impl<'s> AskedProviders<'s> {
    fn of(set: &'s PolicySet, traffic: Traffic) -> Self {
        let settings = Providers::of(&set.resources);
        let rbac = match traffic {
            Traffic::Http => RBAC,
            Traffic::Tcp => NETWORK_RBAC,
        };
        Self { names: set.asked_providers(traffic, &settings), custom: set.mesh.custom(), rbac, settings }
    }

    /// What a provider answers, if the request says that, or if it cannot be asked.
    fn answer(&self, name: &str, sent: &RequestFields) -> Option<Verdict> {
        let said = sent.providers.iter().find(|(other, _)| other == name).map(|(_, answer)| *answer);
        self.without_asking(name, sent).or(said)
    }

    /// What stands for its answer about a CONNECT over HTTP: Envoy cannot ask it, which counts as no answer.
    fn without_asking(&self, name: &str, sent: &RequestFields) -> Option<Verdict> {
        let settings = self.settings.named(name)?;
        let cannot_ask = settings.http.is_some() && sent.method() == "CONNECT";
        cannot_ask.then_some(if settings.fail_open { Verdict::Allow } else { Verdict::Deny })
    }

    /// Says which headers it can set, since what it sets is not known here; or that it cannot be asked.
    fn note(&self, asked: &Asked<'_>, sent: &RequestFields) -> Option<String> {
        let name = asked.provider;
        if let Some(instead) = self.without_asking(name, sent) {
            let instead = match instead {
                Verdict::Allow => "with `failOpen`, the CONNECT counts as allowed, whatever the provider would answer",
                Verdict::Deny => "the CONNECT is refused, whatever the provider would answer",
            };
            return Some(format!("Envoy cannot ask the provider `{name}` about a CONNECT over HTTP: {instead}"));
        }
        if asked.answer == Verdict::Deny {
            return None;
        }
        let headers = match &self.settings.named(name)?.http {
            Some(http) if http.to_upstream.is_empty() => return None,
            Some(http) => http.to_upstream.join(", "),
            None => "any header".to_owned(),
        };
        Some(format!("the provider `{name}` can set {headers}, which is not taken into account here"))
    }

    /// The metadata by which Envoy's RBAC filters show that they have seen a request, and that a policy of each of these
    /// providers matches.
    fn trace(&self, matching: &[&str]) -> Node {
        let mut keys = BTreeMap::new();
        for name in &self.names {
            let prefix = self.custom.stat_prefix(name);
            let shown = || Node::from(Value::String(format!("{RULE_PREFIX}-{name}-ns[")));
            if matching.contains(name) {
                keys.insert(format!("{prefix}{EFFECTIVE_POLICY}"), shown());
            }
            keys.insert(format!("{prefix}{ENGINE_RESULT}"), shown());
        }
        Value::Map(keys.into_iter().collect()).into()
    }
}

/// In which Envoys a request gets an answer, compared with all that it can come to: "with Istio's default settings, over
/// HTTP/2".
#[must_use]
pub fn where_answered(answered: &Answered<'_>, all: &[Answered<'_>]) -> String {
    fn values<T: Ord>(ways: &[Way], of: impl Fn(&Way) -> T) -> BTreeSet<T> {
        ways.iter().map(of).collect()
    }
    fn names<T: fmt::Display>(values: &BTreeSet<T>) -> String {
        values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
    }
    let every: Vec<Way> = all.iter().flat_map(|answered| answered.ways.iter().copied()).collect();
    let mut parts = Vec::new();
    let unsaid = answered.asked.iter().filter(|asked| !asked.is_given).map(|Asked { provider, answer, .. }| {
        let answer = if *answer == Verdict::Allow { "allows" } else { "denies" };
        format!("the provider `{provider}` {answer}")
    });
    let unsaid: Vec<_> = unsaid.collect();
    if !unsaid.is_empty() {
        parts.push(format!("if {}", unsaid.join(" and ")));
    }
    let origins = values(&answered.ways, |way| way.settings.origin);
    if origins != values(&every, |way| way.settings.origin) {
        parts.push(names(&origins));
    }
    let protocols = values(&answered.ways, |way| way.protocol);
    if protocols != values(&every, |way| way.protocol) {
        parts.push(format!("over {}", names(&protocols)));
    }
    let versions = values(&answered.ways, |way| way.drops_parameters);
    if versions != values(&every, |way| way.drops_parameters) {
        let is_new = versions.contains(&true);
        parts.push(
            if is_new { "in Envoy with the fix for `..;`" } else { "in Envoy without the fix for `..;`" }.to_owned(),
        );
    }
    parts.join(", ")
}

/// The Envoys that a request can come to. The first has Istio's settings, if the input has none.
fn ways(sent: &RequestFields, set: &PolicySet) -> Vec<Way> {
    let is_gateway = set.workload.gateway.as_ref().is_some_and(|gateway| !gateway.waypoint);
    let on_this_workload = |settings: Settings| match settings.origin {
        // Istio lets gateways, and no sidecar, trust proxies before them. They write the header themselves.
        Origin::Istio | Origin::Mesh(_) if is_gateway => {
            Settings { use_remote_address: true, client_certificate: ClientCertificate::SanitizeSet, ..settings }
        }
        Origin::Istio | Origin::Mesh(_) => Settings { trusted_hops: 0, ..settings },
        Origin::Rendered | Origin::Manager(_) => settings,
    };
    let default = [Settings::ISTIO, Settings::RENDERED];
    let settings = if set.envoy.found.is_empty() { default.as_slice() } else { set.envoy.found.as_slice() };
    let protocols = sent.protocol.map_or_else(|| vec![Protocol::Http1, Protocol::Http2], |protocol| vec![protocol]);
    let versions = if path::has_parameters_of_dots(sent.path()) { &[true, false][..] } else { &[true] };
    let mut ways = Vec::new();
    for settings in settings.iter().copied().map(on_this_workload) {
        let settings =
            set.envoy.path_normalization.map_or(settings, |normalization| settings.with_paths(normalization));
        for protocol in &protocols {
            for drops_parameters in versions {
                ways.push(Way { settings, protocol: *protocol, drops_parameters: *drops_parameters });
            }
        }
    }
    ways
}

/// What this Envoy shows the filter of a request, on the workload of these policies.
#[must_use]
pub fn received(sent: &RequestFields, set: &PolicySet, way: &Way) -> Received {
    let mut notes = Vec::new();
    let request = seen(sent, set, way, Tokens::Behind, &mut notes).map(|fields| fields.to_request());
    Received { request, notes }
}

/// Where a request is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tokens {
    /// In front of the filter that verifies tokens, where CUSTOM policies are decided about.
    Before,
    /// Behind it.
    Behind,
}

fn seen(
    sent: &RequestFields,
    set: &PolicySet,
    Way { settings, protocol, drops_parameters }: &Way,
    tokens: Tokens,
    notes: &mut Vec<String>,
) -> Result<RequestFields, String> {
    let mut seen = sent.clone();
    let Target { path, host, scheme } = target(sent, *protocol)?;
    let normal = path::seen(&path, settings, *drops_parameters)?;
    if normal != path {
        notes.push(format!("Envoy makes `{normal}` of `{path}`"));
    }
    seen.path = Some(normal);
    let normal = normal_host(&host, settings, sent.destination_port);
    if normal != host {
        notes.push(format!("Envoy makes `{normal}` of the host `{host}`"));
    }
    seen.host = Some(normal);
    seen.sni = server_name(sent, notes);
    seen.headers = headers::seen(&sent.headers, *protocol, settings)?;
    for (name, value) in &seen.headers {
        let lines: Vec<_> = sent.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name)).collect();
        if lines.len() > 1 && seen.headers.iter().filter(|(other, _)| other == name).count() == 1 {
            notes.push(format!("Envoy joins the lines of `{name}`: `{value}`"));
        }
    }
    let names: BTreeSet<_> = sent.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    for name in names {
        if !seen.headers.iter().any(|(other, _)| *other == name) {
            notes.push(format!("Envoy removes `{name}`"));
        }
    }
    if sent.remote_ip.is_none()
        && let Some(client) = headers::client_address(&seen.headers, settings)
    {
        notes.push(format!("Envoy takes the client's address, {client}, from X-Forwarded-For"));
        seen.remote_ip = Some(client);
    }
    let is_waypoint = set.workload.gateway.as_ref().is_some_and(|gateway| gateway.waypoint);
    if is_waypoint && let Some(address) = seen.source_ip.take() {
        seen.remote_ip = seen.remote_ip.or(Some(address));
        notes.push("a waypoint does not know the direct peer's address, so it counts against the request".to_owned());
    }
    let is_tls = sent.principal.is_some() || sent.sni.is_some();
    headers::client_certificate(&mut seen.headers, sent.principal.as_deref(), settings);
    headers::add_own(&mut seen.headers, sent.source_ip, seen.remote_ip, is_tls, settings);
    seen.headers.push((
        ":scheme".to_owned(),
        scheme.unwrap_or_else(|| headers::scheme(&seen.headers, is_tls, *protocol)).to_owned(),
    ));
    if tokens == Tokens::Before {
        return Ok(seen);
    }
    if token::is_preflight(&seen) {
        if seen.jwt.take().is_some() {
            notes.push("Envoy reads no token of a CORS preflight request".to_owned());
        }
    } else {
        token::check(sent.jwt.as_ref(), set, notes)?;
    }
    token::change_headers(&mut seen, set, notes);
    if let Some(claims) = &mut seen.jwt {
        token::split(claims, set, notes);
    }
    if matches!(settings.origin, Origin::Manager(_)) {
        let options = set.envoy.not_considered.iter();
        notes.extend(options.map(|option| format!("the input sets `{option}`, which is not taken into account here")));
    }
    Ok(seen)
}

/// The server name of the handshake, as Envoy shows it.
fn server_name(sent: &RequestFields, notes: &mut Vec<String>) -> Option<String> {
    let name = sent.sni.as_ref()?;
    let lower = name.to_ascii_lowercase();
    if lower != *name {
        notes.push(format!("Envoy makes `{lower}` of the server name `{name}`"));
    }
    Some(lower)
}

/// What the first line of a request says.
struct Target {
    path: String,
    host: String,
    /// The scheme of a whole URL.
    scheme: Option<&'static str>,
}

/// The path and the host. Over HTTP/1.1, a client can send a whole URL instead of a path.
fn target(sent: &RequestFields, protocol: Protocol) -> Result<Target, String> {
    let has_content = sent.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    let is_taken = if sent.method() == "QUERY" { has_content } else { is_method(sent.method(), protocol) };
    if !is_taken {
        return Err(format!("`{}` is no method that {protocol} takes", sent.method()));
    }
    let target = url(sent.path()).filter(|_| protocol == Protocol::Http1).unwrap_or_else(|| Target {
        path: sent.path().to_owned(),
        host: sent.host().to_owned(),
        scheme: None,
    });
    let Target { path, host, scheme } = &target;
    let is_plain = |byte: u8| matches!(byte, b'!'..=b'~') || protocol == Protocol::Http2 && byte >= 0x80;
    if path.contains('#') {
        return Err(format!("`{path}` has a fragment"));
    }
    if !path.bytes().all(is_plain) {
        return Err(format!("the path `{path}` has characters that {protocol} does not take"));
    }
    if !path.starts_with('/') {
        return Err(format!("the path `{path}` does not begin with a slash"));
    }
    if host.is_empty() && scheme.is_some() {
        return Err("its URL has no host".to_owned());
    }
    let of_hosts = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:@[]".contains(&byte);
    if !host.bytes().all(of_hosts) || protocol == Protocol::Http2 && host.contains('@') {
        return Err(format!("`{host}` is no host that {protocol} takes"));
    }
    Ok(target)
}

/// The parts of a URL. User information is left out.
fn url(text: &str) -> Option<Target> {
    let is = |scheme: &&str| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    let scheme = ["http", "https"].into_iter().rev().find(is)?;
    let rest = text.get(scheme.len()..)?.strip_prefix("://")?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    let path = if path.is_empty() { "/" } else { path };
    Some(Target { path: path.to_owned(), host: host.to_owned(), scheme: Some(scheme) })
}

/// Whether Envoy takes this method. Over HTTP/1.1, it takes those that its parser knows.
fn is_method(method: &str, protocol: Protocol) -> bool {
    const KNOWN: [&str; 34] = [
        "ACL",
        "BIND",
        "CHECKOUT",
        "CONNECT",
        "COPY",
        "DELETE",
        "GET",
        "HEAD",
        "LINK",
        "LOCK",
        "M-SEARCH",
        "MERGE",
        "MKACTIVITY",
        "MKCALENDAR",
        "MKCOL",
        "MOVE",
        "NOTIFY",
        "OPTIONS",
        "PATCH",
        "POST",
        "PROPFIND",
        "PROPPATCH",
        "PURGE",
        "PUT",
        "REBIND",
        "REPORT",
        "SEARCH",
        "SOURCE",
        "SUBSCRIBE",
        "TRACE",
        "UNBIND",
        "UNLINK",
        "UNLOCK",
        "UNSUBSCRIBE",
    ];
    match protocol {
        Protocol::Http1 => KNOWN.contains(&method),
        Protocol::Http2 => is_name(method),
        Protocol::Tcp => false,
    }
}

/// The host without a dot at the end of its name, and without its port, if the settings say so.
fn normal_host(host: &str, settings: &Settings, local_port: Option<u16>) -> String {
    let port = host.rfind(':').filter(|at| host.get(at.saturating_add(1)..).is_some_and(is_port));
    let (name, port) = host.split_at(port.unwrap_or(host.len()));
    let without_dot = name.strip_suffix('.').filter(|_| settings.strip_trailing_host_dot);
    let number = port.strip_prefix(':').and_then(|port| port.parse::<u16>().ok());
    let is_stripped = match settings.host_port {
        HostPort::Keep => false,
        HostPort::StripMatching => number.is_some() && number == local_port,
        HostPort::StripAny => number.is_some(),
    };
    let port = if is_stripped { "" } else { port };
    without_dot.unwrap_or(name).to_owned() + port
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}
