//! Reads JSON text or an encoded `Struct` into a valid configuration, and reports every mistake on the way.

use super::{
    COMBINING, CUSTOM, DEFAULT_DECISION_LOG_RATE, DEFAULT_ROOT_NAMESPACE, DEFAULT_TRUST_DOMAIN, DebugHeader,
    DecisionLog, DenyResponse, NodeMetadata, OnInvalid, Outgoing, Paths, PluginConfig, PrincipalFrom, SourceIpFrom,
    StoredDecisions, fingerprint, gateway, on_invalid, outgoing,
};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::document::{self, Node, Object, boolean, list, one_of, repeated, string, string_map, whole_number};
use crate::engine::Options;
use crate::identity::{SCHEME, TrustDomains};
use crate::policy::scope::{Gateway, Scope, Workload, for_each_service, scope};
use crate::policy::{AuthorizationPolicy, Labels, Target, Traffic, is_only_known_to_istiod, read, resource};
use crate::request::metadata::DEFAULT_PAYLOAD_KEY;
use crate::request::{Lookup, headers};

impl PluginConfig {
    /// Reads a configuration from JSON text or from an encoded `google.protobuf.Struct`.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration.
    pub fn read(bytes: &[u8], node: &NodeMetadata) -> Result<Self, Vec<Diagnostic>> {
        let mut diagnostics = Diagnostics::new();
        let config = document(bytes, &mut diagnostics).and_then(|(document, policies)| {
            let mut object = Object::open(&document, &mut diagnostics)?;
            // A sum, because the order of policies does not matter.
            let hash = policies.hash.wrapping_add(fingerprint::of(&document)) >> 16;
            let config = plugin_config(&mut object, policies, node, hash, &mut diagnostics);
            object.finish(&mut diagnostics);
            Some(config)
        });
        match config {
            Some(config) if diagnostics.count() == 0 => Ok(config),
            _ => Err(diagnostics.into_found()),
        }
    }
}

/// The field that is read item by item, because it can hold thousands of policies.
const POLICIES: &str = "policies";

/// The policies that have been read so far, and the mistakes in them.
#[derive(Debug)]
struct Policies {
    /// One entry for each position in the list. `None`: the policy at this position is invalid.
    read: Vec<Option<AuthorizationPolicy>>,
    diagnostics: Diagnostics,
    hash: u64,
}

/// Reads a document and the policies in it. An error about a policy names the policy. An invalid policy does not keep
/// the others from being read.
fn document(bytes: &[u8], diagnostics: &mut Diagnostics) -> Option<(Node, Policies)> {
    if bytes.is_empty() {
        diagnostics.error_with_hint("the plugin configuration is empty", "give it at least `policies: []`");
        return None;
    }
    // A Struct begins with the tag of its first entry, which is a line feed. JSON text may begin with a line feed too,
    // but a Struct also has bytes that JSON cannot hold, so no JSON text is read as a Struct.
    if bytes.starts_with(b"\n") {
        let mut policies = Policies::new();
        if let Ok(node) = document::from_struct_apart(bytes, POLICIES, |node| policies.add(&node)) {
            return Some((node, policies));
        }
    }
    let mut policies = Policies::new();
    match document::from_json_apart(bytes, POLICIES, |node| policies.add(&node)) {
        Ok(node) => Some((node, policies)),
        Err(error) => {
            diagnostics.error_with_hint(
                format!("the plugin configuration is not JSON: {error}"),
                "send a google.protobuf.StringValue that holds JSON, or a google.protobuf.Struct",
            );
            None
        }
    }
}

fn plugin_config(
    object: &mut Object<'_>,
    policies: Policies,
    node: &NodeMetadata,
    hash: u64,
    d: &mut Diagnostics,
) -> PluginConfig {
    let policies = object.read(POLICIES, d, |node, d| {
        // If this is a list, it is empty by now. Anything else is an error.
        list(node, d, |_, _| ());
        policies.finish(d)
    });
    if policies.is_none() && !object.has(POLICIES) {
        d.field(POLICIES, |d| d.error_with_hint("is missing", "an empty list, `[]`, allows everything"));
    }
    let root_namespace = object.read("rootNamespace", d, namespace).flatten();
    let ((namespace, labels), selector) = object.read("workload", d, selected_workload).unwrap_or_default();
    // The placeholder is never used: an unknown namespace is an error.
    let namespace = namespace.or_else(|| node_namespace(node, d)).unwrap_or_default();
    let labels_are_given = labels.is_some();
    let labels = labels.or_else(|| node_labels(node, d)).map(|labels| labels.updated_by(selector));
    let gateway = object.read("gateway", d, |node, d| gateway::gateway(node, &namespace, d)).flatten();
    if gateway.as_ref().is_some_and(|gateway| gateway.waypoint) && node.is_no_waypoint {
        let message =
            "by its node id this proxy is no waypoint, and the peer's identity is not where a waypoint has it";
        d.field("gateway", |d| d.error_with_hint(message, "leave out `waypoint: true`"));
    }
    let root_namespace = root_namespace.unwrap_or_else(|| DEFAULT_ROOT_NAMESPACE.to_owned());
    let revision = object.read("revision", d, name).flatten();
    let workload = Workload { revision, ..Workload::new(namespace, labels, gateway, root_namespace, d) };
    let domain = object.read("trustDomain", d, trust_domain).flatten();
    let aliases = object.read("trustDomainAliases", d, |node, d| list(node, d, trust_domain));
    let source_ip_from = [("filter-state", SourceIpFrom::FilterState), ("remote-address", SourceIpFrom::RemoteAddress)];
    let filter_state =
        [("none", StoredDecisions::None), ("notable", StoredDecisions::Notable), ("all", StoredDecisions::All)];
    let paths = [("as-sent", Paths::AsSent), ("strict", Paths::Strict)];
    let decision_log = [("none", DecisionLog::None), ("denied", DecisionLog::Denied), ("all", DecisionLog::All)];
    let config = PluginConfig {
        policies: policies.unwrap_or_default(),
        options: Options {
            trust_domains: TrustDomains::new(
                domain.unwrap_or_else(|| DEFAULT_TRUST_DOMAIN.to_owned()),
                aliases.into_iter().flatten().flatten(),
            ),
            combining: choice(object, "combining", &COMBINING, d),
            custom: choice(object, "custom", &CUSTOM, d),
            jwt_payload_key: object.read("jwt", d, jwt).flatten().unwrap_or_else(|| DEFAULT_PAYLOAD_KEY.to_owned()),
            traffic: Traffic::Http,
        },
        principal_from: principal_from(object, workload.gateway.as_ref(), d),
        workload,
        source_ip_from: choice(object, "sourceIpFrom", &source_ip_from, d),
        outgoing: choice(object, outgoing::FIELD, &Outgoing::NAMES, d),
        paths: choice(object, "paths", &paths, d),
        deny_response: object.read("denyResponse", d, deny_response).unwrap_or_default(),
        decision_log: choice(object, "decisionLog", &decision_log, d),
        decision_log_rate: object
            .read("decisionLogRate", d, decision_log_rate)
            .flatten()
            .unwrap_or(DEFAULT_DECISION_LOG_RATE),
        filter_state: choice(object, "filterState", &filter_state, d),
        debug_header: object.read("debugHeader", d, debug_header).flatten(),
        hash,
    };
    // It has been read before; here it must be well-formed.
    let _read_apart = choice(object, on_invalid::FIELD, &OnInvalid::NAMES, d);
    let none_may_apply = object.read("allowNoneApplies", d, boolean).flatten().unwrap_or(false);
    require_places(&config, labels_are_given, d);
    if d.count() == 0 && !none_may_apply {
        require_one_that_applies(&config, d);
    }
    config
}

impl Policies {
    fn new() -> Self {
        Self { read: Vec::new(), diagnostics: Diagnostics::new(), hash: 0 }
    }

    fn add(&mut self, node: &Node) {
        let index = self.read.len();
        self.hash = self.hash.wrapping_add(fingerprint::of(node));
        self.read.push(self.diagnostics.index(index, |diagnostics| read::policy(node, diagnostics)));
    }

    /// Returns the valid policies. Reports the mistakes in the others, and every policy that has the name of an earlier
    /// one.
    fn finish(self, diagnostics: &mut Diagnostics) -> Vec<AuthorizationPolicy> {
        diagnostics.append(self.diagnostics);
        let named: Vec<_> =
            (0..).zip(&self.read).filter_map(|(at, policy)| Some((at, policy.as_ref()?.name.to_string()))).collect();
        let names: Vec<_> = named.iter().map(|(_, name)| name.as_str()).collect();
        for (later, first) in repeated(&names) {
            let (Some((index, name)), Some((first, _))) = (named.get(later), named.get(first)) else { continue };
            diagnostics.index(*index, |diagnostics| {
                diagnostics.policy(
                    || Some(name.clone()),
                    |diagnostics| {
                        diagnostics.error_with_hint(
                            format!("another policy, at position {first}, has the same namespace and name"),
                            "rename or remove one; a cluster cannot hold both",
                        );
                    },
                );
            });
        }
        self.read.into_iter().flatten().collect()
    }
}

/// The namespace in the node's metadata. An unknown namespace is an error: policies of the workload's real namespace
/// would silently not apply.
fn node_namespace(node: &NodeMetadata, diagnostics: &mut Diagnostics) -> Option<String> {
    match &node.namespace {
        Lookup::Value(name) => in_node_metadata("NAMESPACE", diagnostics, |diagnostics| {
            resource::namespace_name(name, diagnostics);
            Some(name.clone())
        }),
        Lookup::Absent => {
            diagnostics.field("workload", |diagnostics| {
                diagnostics.field("namespace", |diagnostics| {
                    diagnostics.error_with_hint(
                        "is unknown: it is neither here nor in node.metadata.NAMESPACE of Envoy's bootstrap",
                        "set one of the two; without it, nobody can tell which policies apply",
                    );
                });
            });
            None
        }
        Lookup::Unreadable => in_node_metadata("NAMESPACE", diagnostics, |diagnostics| {
            diagnostics.error_with_hint(
                "is not a string",
                "write one, or set `workload.namespace` in the plugin configuration",
            );
            None
        }),
    }
}

fn node_labels(node: &NodeMetadata, diagnostics: &mut Diagnostics) -> Option<Labels> {
    in_node_metadata("LABELS", diagnostics, |diagnostics| match &node.labels {
        Lookup::Value(labels) => Some(labels.clone()),
        Lookup::Absent => None,
        Lookup::Unreadable => {
            diagnostics.error_with_hint(
                "is not a map of strings, or has no value in it",
                "write numbers and booleans in quotes, or set `workload.labels` in the plugin configuration",
            );
            None
        }
    })
}

fn in_node_metadata<R>(name: &str, diagnostics: &mut Diagnostics, read: impl FnOnce(&mut Diagnostics) -> R) -> R {
    diagnostics.field("node", |diagnostics| diagnostics.field("metadata", |diagnostics| diagnostics.field(name, read)))
}

/// Reports every policy of which nobody can tell whether it applies, or to which requests. `labels_are_given`: by the
/// configuration, and not by a proxy.
fn require_places(config: &PluginConfig, labels_are_given: bool, diagnostics: &mut Diagnostics) {
    let workload = &config.workload;
    for policy in &config.policies {
        let mut unknown = None;
        for_each_service(policy, workload, &mut |name, position| {
            if position.is_none() {
                unknown = Some(name);
            }
        });
        let (message, hint) = if let Some(what) = workload.missing_labels(&policy.target) {
            (
                format!("has {what}, and the labels of this workload are unknown"),
                "set `workload.labels` in the plugin configuration, or node.metadata.LABELS in Envoy's bootstrap",
            )
        } else if let Some(label) = unknown_label(policy, workload).filter(|_| !labels_are_given) {
            (
                format!("selects by the label `{label}`, which a proxy does not know as istiod does"),
                "select by another label, or leave this policy to Istio",
            )
        } else if let Some(service) = unknown
            && scope(policy, workload) != Scope::OtherRevision
        {
            (
                format!("is for `{service}`, whose host is unknown"),
                "add {host, namespace, name} to `gateway.services` or `gateway.serviceEntries`",
            )
        } else {
            continue;
        };
        let report = |diagnostics: &mut Diagnostics| diagnostics.error_with_hint(message, hint);
        diagnostics.policy(|| Some(policy.name.to_string()), report);
    }
}

/// The label that decides whether a policy applies, if the node's metadata cannot say what istiod knows about it.
fn unknown_label<'p>(policy: &'p AuthorizationPolicy, workload: &Workload) -> Option<&'p str> {
    let (Target::Labels(wanted), Some(known)) = (&policy.target, &workload.labels) else { return None };
    let (unknown, others): (Vec<_>, Vec<_>) = wanted.iter().partition(|(key, _)| is_only_known_to_istiod(key));
    let is_near = policy.name.namespace == workload.namespace || policy.name.namespace == workload.root_namespace;
    let is_waypoint = workload.gateway.as_ref().is_some_and(|gateway| gateway.waypoint);
    let may_apply = is_near && !is_waypoint && others.into_iter().all(|label| known.contains(label));
    unknown.first().filter(|_| may_apply).map(|(key, _)| key.as_str())
}

/// Policies of which none applies protect nothing, which nobody means.
fn require_one_that_applies(config: &PluginConfig, diagnostics: &mut Diagnostics) {
    let mut scopes = config.policies.iter().map(|policy| (policy, scope(policy, &config.workload)));
    let Some((first, why)) = scopes.clone().next() else { return };
    if scopes.any(|(_, scope)| scope == Scope::Applies) {
        return;
    }
    let namespace = &config.workload.namespace;
    let message = match config.policies.len() {
        1 => format!("nothing is protected: policy {} {why}; this workload is in namespace {namespace}", first.name),
        count => format!(
            "nothing is protected: none of the {count} policies applies to this workload in namespace {namespace}; for \
             example, policy {} {why}",
            first.name
        ),
    };
    diagnostics.error_with_hint(
        message,
        "correct the workload or the policies, or set `allowNoneApplies: true` if no policy has to apply",
    );
}

/// Reads `principalFrom`.
fn principal_from(object: &mut Object<'_>, gateway: Option<&Gateway>, diagnostics: &mut Diagnostics) -> PrincipalFrom {
    let choices = [("peer-certificate", PrincipalFrom::PeerCertificate), ("filter-state", PrincipalFrom::FilterState)];
    let default = PrincipalFrom::of(gateway);
    let given = object.read("principalFrom", diagnostics, |node, diagnostics| {
        let choice = one_of(node, &choices, diagnostics);
        if default == PrincipalFrom::FilterState && choice == Some(PrincipalFrom::PeerCertificate) {
            diagnostics.error_with_hint("a waypoint does not see its peers' certificates", "use `filter-state`");
        }
        choice
    });
    given.flatten().unwrap_or(default)
}

fn choice<T: Copy + Default>(
    object: &mut Object<'_>,
    name: &'static str,
    choices: &[(&'static str, T)],
    diagnostics: &mut Diagnostics,
) -> T {
    object.read(name, diagnostics, |node, diagnostics| one_of(node, choices, diagnostics)).flatten().unwrap_or_default()
}

/// The namespace and the labels of a workload. Each is `None` if it is not given.
pub type WorkloadFields = (Option<String>, Option<Labels>);

/// Reads a workload: `{namespace, labels}`.
pub fn workload(node: &Node, diagnostics: &mut Diagnostics) -> WorkloadFields {
    let Some(mut object) = Object::open(node, diagnostics) else { return WorkloadFields::default() };
    let fields = workload_fields(&mut object, diagnostics);
    object.finish(diagnostics);
    fields
}

/// Reads a workload that a selector has found: `{namespace, labels, matchLabels}`. Also returns `matchLabels`: what the
/// workload has, whatever its proxy knows.
fn selected_workload(node: &Node, diagnostics: &mut Diagnostics) -> (WorkloadFields, Labels) {
    let Some(mut object) = Object::open(node, diagnostics) else { return Default::default() };
    let fields = workload_fields(&mut object, diagnostics);
    let selector = object.read("matchLabels", diagnostics, string_map).unwrap_or_default();
    object.finish(diagnostics);
    (fields, selector.into())
}

fn workload_fields(object: &mut Object<'_>, diagnostics: &mut Diagnostics) -> WorkloadFields {
    (
        object.read("namespace", diagnostics, namespace).flatten(),
        object.read("labels", diagnostics, string_map).map(Labels::from),
    )
}

/// Reads the name of a namespace.
pub fn namespace(node: &Node, diagnostics: &mut Diagnostics) -> Option<String> {
    let name = string(node, diagnostics)?;
    resource::namespace_name(name, diagnostics);
    Some(name.to_owned())
}

/// Reads a name. Reports an error if it is empty.
pub(super) fn name(node: &Node, diagnostics: &mut Diagnostics) -> Option<String> {
    let name = string(node, diagnostics)?;
    if name.is_empty() {
        diagnostics.error("must not be empty");
    }
    Some(name.to_owned())
}

/// Reads a name that must be there.
#[inline(never)]
pub(super) fn required(object: &mut Object<'_>, field: &'static str, diagnostics: &mut Diagnostics) -> Option<String> {
    require(object, field, diagnostics);
    object.read(field, diagnostics, name).flatten()
}

/// Reports a field that is missing.
fn require(object: &Object<'_>, field: &str, diagnostics: &mut Diagnostics) {
    if !object.has(field) {
        diagnostics.field(field, |diagnostics| diagnostics.error("is missing"));
    }
}

/// Reads a trust domain. It must not be empty, and must not hold a slash.
pub fn trust_domain(node: &Node, diagnostics: &mut Diagnostics) -> Option<String> {
    let text = string(node, diagnostics)?;
    if text.is_empty() || text.contains('/') {
        diagnostics.error_with_hint(
            format!("`{text}` is not a trust domain"),
            "write the part between `spiffe://` and the first slash only",
        );
        return None;
    }
    Some(text.to_owned())
}

fn jwt(node: &Node, diagnostics: &mut Diagnostics) -> Option<String> {
    let mut object = Object::open(node, diagnostics)?;
    let key = object.read("payloadKey", diagnostics, name).flatten();
    object.finish(diagnostics);
    key
}

fn deny_response(node: &Node, diagnostics: &mut Diagnostics) -> DenyResponse {
    let mut response = DenyResponse::default();
    let Some(mut object) = Object::open(node, diagnostics) else { return response };
    if let Some(status) = object.read("status", diagnostics, status).flatten() {
        response.status = status;
    }
    if let Some(body) = object.string("body", diagnostics) {
        response.body = body;
    }
    if let Some(headers) = object.read("headers", diagnostics, response_headers) {
        response.headers = headers;
    }
    object.finish(diagnostics);
    response
}

fn decision_log_rate(node: &Node, diagnostics: &mut Diagnostics) -> Option<u32> {
    const MOST: u32 = 1_000_000;
    let rate = whole_number(node, MOST).filter(|rate| *rate > 0);
    if rate.is_none() {
        let found = node.value.shown();
        diagnostics.error(format!("must be a whole number of lines a second, from 1 to {MOST}, is {found}"));
    }
    rate
}

fn debug_header(node: &Node, diagnostics: &mut Diagnostics) -> Option<DebugHeader> {
    let mut object = Object::open(node, diagnostics)?;
    let header = object.read("name", diagnostics, |node, diagnostics| {
        let name = string(node, diagnostics)?;
        header_name(name, diagnostics);
        Some(name.to_owned())
    });
    let principals = object.read("principals", diagnostics, |node, diagnostics| list(node, diagnostics, principal));
    for field in ["name", "principals"] {
        require(&object, field, diagnostics);
    }
    object.finish(diagnostics);
    Some(DebugHeader { name: header.flatten()?, principals: principals?.into_iter().flatten().collect() })
}

/// Reads a principal, in one of the forms that policies use.
fn principal(node: &Node, diagnostics: &mut Diagnostics) -> Option<String> {
    let principal = name(node, diagnostics)?;
    if principal.starts_with(SCHEME) {
        diagnostics.error_with_hint(format!("`{principal}` matches nobody"), "leave out `spiffe://`");
    }
    Some(principal)
}

fn header_name(name: &str, diagnostics: &mut Diagnostics) {
    if !headers::is_name(name) {
        diagnostics.error("is not the name of a header");
    }
}

fn status(node: &Node, diagnostics: &mut Diagnostics) -> Option<u16> {
    let status = whole_number(node, 599).filter(|status| *status >= 400);
    let status = status.and_then(|status| u16::try_from(status).ok());
    if status.is_none() {
        let found = node.value.shown();
        diagnostics.error(format!("must be the status of a refusal, a number from 400 to 599, is {found}"));
    }
    status
}

fn response_headers(node: &Node, diagnostics: &mut Diagnostics) -> Vec<(String, String)> {
    let headers = string_map(node, diagnostics);
    for (name, value) in &headers {
        diagnostics.field(name, |diagnostics| {
            header_name(name, diagnostics);
            if value.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
                diagnostics.error("a header's value has no line breaks and no NUL");
            }
        });
    }
    headers
}
