//! The filters for CUSTOM policies: what Istio generates, so that Envoy itself asks the provider.
//!
//! Envoy's RBAC filter only finds out which policy matches, and `ext_authz` asks if one does.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_authz::engine::Custom;
use mesh_authz::policy::{Action, AuthorizationPolicy, Traffic};
use mesh_authz::request::metadata::{EFFECTIVE_POLICY, RULE_PREFIX, STAT_PREFIX};
use serde_json::{Map, Value, json};

use super::{Place, filter_name, named_rules, type_url};
use crate::load::providers::{Body, HttpSettings, Provider};
use crate::render::envoy;

/// How long an answer may take, if nobody has said it.
const LONGEST: Duration = Duration::from_secs(600);

/// How CUSTOM policies are asked about that name different providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Several {
    /// Nobody is asked, and what they match is denied, as in Istio by default.
    Deny,
    /// Each provider is asked. All RBAC filters leave the same trace, as in Istio.
    OneTrace,
    /// Each provider is asked. Each RBAC filter has its own trace, for this project's filter.
    OwnTraces,
}

impl Several {
    fn stat_prefix(self, provider: &str) -> String {
        match self {
            Self::Deny | Self::OneTrace => STAT_PREFIX.to_owned(),
            Self::OwnTraces => Custom::NativeEach.stat_prefix(provider),
        }
    }
}

/// The filters for the CUSTOM policies among these, in the order of Envoy. A request that matches a policy whose provider is not
/// there is denied.
#[must_use]
pub fn filters(
    policies: &[&AuthorizationPolicy],
    providers: &[Provider],
    place: Place<'_>,
    several: Several,
) -> Vec<Value> {
    let mut by_provider: BTreeMap<&str, Vec<&AuthorizationPolicy>> = BTreeMap::new();
    for policy in policies.iter().filter(|policy| policy.action == Action::Custom) {
        by_provider.entry(policy.provider.as_deref().unwrap_or_default()).or_default().push(policy);
    }
    let are_denied = several == Several::Deny && by_provider.len() > 1;
    let mut filters = Vec::new();
    for (name, policies) in by_provider {
        match providers.iter().find(|provider| provider.name == name) {
            Some(provider) if !are_denied => filters.extend(asking(provider, &policies, place, several)),
            _ => filters.push(denying(name, &policies, place)),
        }
    }
    filters
}

/// The filter that denies what these policies match.
fn denying(provider: &str, policies: &[&AuthorizationPolicy], place: Place<'_>) -> Value {
    let suffix = "-deny-due-to-bad-CUSTOM-action";
    let rules = rules(provider, suffix, policies, place);
    rbac(place.traffic, json!({ "rules": rules }))
}

/// The filters that ask the provider about what these policies match: an RBAC filter and `ext_authz`. Over TCP, only a provider
/// over gRPC can be asked.
#[must_use]
pub fn asking(
    provider: &Provider,
    policies: &[&AuthorizationPolicy],
    place: Place<'_>,
    several: Several,
) -> Vec<Value> {
    if place.traffic == Traffic::Tcp && provider.http.is_some() {
        return Vec::new();
    }
    let rules = rules(&provider.name, "", policies, place);
    let stat_prefix = several.stat_prefix(&provider.name);
    let shadow = json!({ "shadowRules": rules, "shadowRulesStatPrefix": stat_prefix });
    vec![rbac(place.traffic, shadow), ext_authz(provider, several, place.traffic)]
}

/// The configuration of an RBAC filter that finds nothing about which to ask.
#[must_use]
pub fn asks_about_nothing(stat_prefix: &str) -> Value {
    let rules = json!({ "action": "DENY", "policies": {} });
    let shadow = json!({ "shadowRules": rules, "shadowRulesStatPrefix": stat_prefix });
    rbac(Traffic::Http, shadow).get("typedConfig").cloned().unwrap_or_default()
}

fn rules(provider: &str, suffix: &str, policies: &[&AuthorizationPolicy], place: Place<'_>) -> Value {
    let name = |name: String| format!("{RULE_PREFIX}-{provider}-{name}{suffix}");
    let rules = policies.iter().flat_map(|policy| named_rules(policy, place));
    let rules: Map<_, _> = rules.map(|(rule, value)| (name(rule), value)).collect();
    json!({ "action": "DENY", "policies": rules })
}

fn rbac(traffic: Traffic, fields: Value) -> Value {
    let mut config = Map::new();
    config.insert("@type".to_owned(), type_url(traffic, "rbac", "RBAC").into());
    if traffic == Traffic::Tcp {
        config.insert("statPrefix".to_owned(), "tcp.".into());
    }
    if let Value::Object(fields) = fields {
        config.extend(fields);
    }
    json!({ "name": filter_name(traffic, "rbac"), "typedConfig": config })
}

fn ext_authz(provider: &Provider, several: Several, traffic: Traffic) -> Value {
    let stat_prefix = several.stat_prefix(&provider.name);
    // Istio's prefix also fits the names of some other providers.
    let end = if several == Several::OwnTraces { "-ns[" } else { "" };
    let prefix = format!("{RULE_PREFIX}-{}{end}", provider.name);
    let metadata = json!({
        "filter": filter_name(traffic, "rbac"),
        "path": [{ "key": format!("{stat_prefix}{EFFECTIVE_POLICY}") }],
        "value": { "stringMatch": { "prefix": prefix } },
    });
    let mut config = Map::new();
    let mut set = |name: &str, value: Option<Value>| config.extend(value.map(|value| (name.to_owned(), value)));
    set("@type", Some(type_url(traffic, "ext_authz", "ExtAuthz").into()));
    set("filterEnabledMetadata", Some(metadata));
    set("failureModeAllow", provider.fail_open.then(|| true.into()));
    set("transportApiVersion", Some("V3".into()));
    let host = &provider.host;
    let cluster = cluster(provider);
    let timeout = seconds(provider.timeout.unwrap_or(LONGEST));
    let service = match &provider.http {
        Some(http) => {
            let server = json!({ "uri": format!("http://{host}"), "cluster": cluster, "timeout": timeout });
            ("httpService", http_service(http, &server))
        }
        None => {
            ("grpcService", json!({ "envoyGrpc": { "clusterName": cluster, "authority": host }, "timeout": timeout }))
        }
    };
    set(service.0, Some(service.1));
    match traffic {
        Traffic::Http => {
            let allowed = provider.http.as_ref().map(|http| &http.request_headers);
            set("allowedHeaders", allowed.and_then(|names| headers(names)));
            set("statusOnError", provider.status_on_error.map(|name| json!({ "code": name })));
            set("withRequestBody", provider.body.as_ref().map(body));
        }
        Traffic::Tcp => set("statPrefix", Some("tcp.".into())),
    }
    json!({ "name": filter_name(traffic, "ext_authz"), "typedConfig": config })
}

/// The cluster of a provider, for an Envoy that does not get it from Istio.
#[must_use]
pub fn standalone_cluster(provider: &Provider) -> Value {
    let mut cluster = envoy::cluster(&cluster(provider), &provider.host, provider.port);
    if provider.http.is_none()
        && let Some(fields) = cluster.as_object_mut()
    {
        let options = envoy::UpstreamProtocol::Http2.options();
        fields.extend(options.map(|options| ("typed_extension_protocol_options".to_owned(), options)));
    }
    cluster
}

/// The name that Istio gives to the cluster of a provider.
#[must_use]
pub fn cluster(provider: &Provider) -> String {
    format!("outbound|{}||{}", provider.port, provider.host)
}

fn http_service(http: &HttpSettings, server: &Value) -> Value {
    let mut service = Map::new();
    let mut set = |name: &str, value: Option<Value>| service.extend(value.map(|value| (name.to_owned(), value)));
    set("serverUri", Some(server.clone()));
    set("pathPrefix", (!http.path_prefix.is_empty()).then(|| http.path_prefix.clone().into()));
    let added = http.further_headers.iter().map(|(key, value)| json!({ "key": key, "value": value }));
    let added: Vec<_> = added.collect();
    set("authorizationRequest", (!added.is_empty()).then(|| json!({ "headersToAdd": added })));
    let mut response = Map::new();
    for (name, list) in [
        ("allowedUpstreamHeaders", &http.to_upstream),
        ("allowedClientHeaders", &http.to_client_on_deny),
        ("allowedClientHeadersOnSuccess", &http.to_client_on_allow),
    ] {
        response.extend(headers(list).map(|patterns| (name.to_owned(), patterns)));
    }
    set("authorizationResponse", (!response.is_empty()).then(|| response.into()));
    service.into()
}

/// Matchers of headers; `None` if there are none.
fn headers(names: &[String]) -> Option<Value> {
    let pattern = |name: &String| match (name.strip_prefix('*'), name.strip_suffix('*')) {
        (Some(suffix), _) => json!({ "suffix": suffix, "ignoreCase": true }),
        (None, Some(prefix)) => json!({ "prefix": prefix, "ignoreCase": true }),
        (None, None) => json!({ "exact": name, "ignoreCase": true }),
    };
    (!names.is_empty()).then(|| json!({ "patterns": names.iter().map(pattern).collect::<Vec<_>>() }))
}

fn body(Body { most_bytes, allow_partial, pack_as_bytes }: &Body) -> Value {
    let mut body = Map::new();
    body.insert("maxRequestBytes".to_owned(), (*most_bytes).into());
    for (name, is_set) in [("allowPartialMessage", *allow_partial), ("packAsBytes", *pack_as_bytes)] {
        body.extend(is_set.then(|| (name.to_owned(), true.into())));
    }
    body.into()
}

/// A duration as protobuf writes it: `10s`, `0.002s`.
fn seconds(duration: Duration) -> String {
    let (whole, nanos) = (duration.as_secs(), duration.subsec_nanos());
    if nanos == 0 { format!("{whole}s") } else { format!("{whole}.{:03}s", nanos / 1_000_000) }
}
