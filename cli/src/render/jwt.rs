//! Renders the filter that verifies tokens, `envoy.filters.http.jwt_authn`, as Istio's control plane generates it from
//! `RequestAuthentications`. A standalone Envoy fetches keys by itself, so the clusters that it fetches them from are
//! rendered too.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use mesh_authz::request::metadata::{DEFAULT_PAYLOAD_KEY, JWT_AUTHN};
use serde_json::{Map, Value, json};

use crate::load::request_authentication::{JwtRule, Keys, KeysUri, Presence, SPACE_DELIMITED};

/// The timeout for fetching keys if a rule does not set one, as in Istio.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long Envoy keeps keys, as in Istio.
const KEPT: &str = "300s";

/// The filter for these rules, and its clusters. `None` if there are no rules.
///
/// | request | passes |
/// | --- | --- |
/// | without a token | yes |
/// | with valid tokens | yes |
/// | with a token that is not valid | no |
/// | without the token of a rule with `presence: REQUIRED` | no |
///
/// After the verification, only a gateway chooses the route again, as in Istio. `authorities` is the file with the
/// certificate authorities for the servers that the keys are fetched from. `payload_key` is the key of a token's claims in the
/// metadata, if it is not the one that the filter looks for by default.
///
/// A rule whose keys Istio would ask the issuer for ([`Keys::Discovered`]) has no keys here: none of its tokens is
/// valid.
#[must_use]
pub fn filter(
    rules: &[&JwtRule],
    is_gateway: bool,
    authorities: &str,
    payload_key: Option<&str>,
) -> Option<(Value, Vec<Value>)> {
    if rules.is_empty() {
        return None;
    }
    // Istio numbers the providers in the order of the issuers.
    let mut rules = rules.to_vec();
    rules.sort_by_key(|rule| &rule.issuer);
    let mut providers = Map::new();
    let mut named = Vec::new();
    let mut clusters = BTreeMap::new();
    for (number, rule) in rules.into_iter().enumerate() {
        let name = format!("origins-{number}");
        providers.insert(name.clone(), provider(rule, is_gateway, payload_key.unwrap_or(DEFAULT_PAYLOAD_KEY)));
        named.push((name, rule.presence));
        if let Keys::Remote(uri) = &rule.keys {
            clusters.entry(cluster_name(uri)).or_insert_with(|| cluster(uri, authorities));
        }
    }
    let filter = json!({
        "name": JWT_AUTHN,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
            "bypass_cors_preflight": true,
            "providers": providers,
            "rules": [{ "match": { "prefix": "/" }, "requires": requirement(&named) }],
        },
    });
    Some((filter, clusters.into_values().collect()))
}

/// The requirement that each provider's token is valid, or missing where it is optional.
///
/// If several providers take their tokens from the same place, each refuses the tokens of the others. So a token that
/// one provider accepts is enough, unless a token is required: then every provider is asked.
fn requirement(providers: &[(String, Presence)]) -> Value {
    let own = |(name, presence): &(String, Presence)| match presence {
        Presence::Required => json!({ "provider_name": name }),
        Presence::Optional => any(vec![json!({ "provider_name": name }), json!({ "allow_missing": {} })]),
    };
    if let [only] = providers {
        return own(only);
    }
    let all = json!({ "requires_all": { "requirements": providers.iter().map(own).collect::<Vec<_>>() } });
    if providers.iter().any(|(_, presence)| *presence == Presence::Required) {
        return all;
    }
    any(providers.iter().map(|(name, _)| json!({ "provider_name": name })).chain([all]).collect())
}

fn any(requirements: Vec<Value>) -> Value {
    json!({ "requires_any": { "requirements": Value::Array(requirements) } })
}

fn provider(rule: &JwtRule, is_gateway: bool, payload_key: &str) -> Value {
    let JwtRule {
        issuer,
        audiences,
        keys,
        from_headers,
        from_params,
        from_cookies,
        output_payload_to_header,
        forward_original_token,
        output_claim_to_headers,
        timeout,
        space_delimited_claims,
        // It is part of the requirement.
        presence: _,
    } = rule;
    let mut provider = Map::new();
    let mut set = |name: &str, value: Value| provider.insert(name.to_owned(), value);
    let claims = space_delimited_claims.iter().map(String::as_str).chain(SPACE_DELIMITED).collect::<BTreeSet<_>>();
    set("payload_in_metadata", json!(payload_key));
    set("normalize_payload_in_metadata", json!({ "space_delimited_claims": claims }));
    match keys {
        Keys::Inline(keys) => set("local_jwks", json!({ "inline_string": keys })),
        Keys::Remote(uri) => set(
            "remote_jwks",
            json!({
                "http_uri": {
                    "uri": uri.text,
                    "cluster": cluster_name(uri),
                    "timeout": seconds(timeout.unwrap_or(PATIENCE)),
                },
                "cache_duration": KEPT,
                // Envoy fetches the keys before the first request comes, and again before they are too old.
                "async_fetch": {},
            }),
        ),
        Keys::Discovered => set("local_jwks", json!({ "inline_string": "{\"keys\":[]}" })),
    };
    if let Some(issuer) = issuer {
        set("issuer", json!(issuer));
    }
    if let Some(name) = output_payload_to_header {
        set("forward_payload_header", json!(name));
    }
    if *forward_original_token {
        set("forward", json!(true));
    }
    if is_gateway {
        set("clear_route_cache", json!(true));
    }
    for (name, values) in [("audiences", audiences), ("from_params", from_params), ("from_cookies", from_cookies)] {
        if !values.is_empty() {
            set(name, json!(values));
        }
    }
    if !from_headers.is_empty() {
        let headers = from_headers.iter().map(|header| match header.prefix.as_str() {
            "" => json!({ "name": header.name }),
            prefix => json!({ "name": header.name, "value_prefix": prefix }),
        });
        set("from_headers", headers.collect());
    }
    if !output_claim_to_headers.is_empty() {
        let copied = output_claim_to_headers.iter();
        let copied = copied.map(|copy| json!({ "header_name": copy.header, "claim_name": copy.claim }));
        set("claim_to_headers", copied.collect());
    }
    provider.into()
}

/// A duration in protobuf's JSON format.
fn seconds(duration: Duration) -> String {
    let (seconds, milliseconds) = (duration.as_secs(), duration.subsec_millis());
    if milliseconds == 0 { format!("{seconds}s") } else { format!("{seconds}.{milliseconds:03}s") }
}

fn cluster_name(uri: &KeysUri) -> String {
    format!("jwks|{}|{}|{}", if uri.tls { "https" } else { "http" }, uri.host, uri.port)
}

fn cluster(uri: &KeysUri, authorities: &str) -> Value {
    let mut cluster = super::envoy::cluster(&cluster_name(uri), &uri.host, uri.port);
    if uri.tls
        && let Some(fields) = cluster.as_object_mut()
    {
        let kind = if uri.host.parse::<IpAddr>().is_ok() { "IP_ADDRESS" } else { "DNS" };
        let mut tls = json!({
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": { "validation_context": {
                "trusted_ca": { "filename": authorities },
                // The authorities certify many servers; only this server has the keys.
                "match_typed_subject_alt_names": [{ "san_type": kind, "matcher": { "exact": uri.host } }],
            } },
        });
        // The server name in a TLS handshake must be a name, not an address (RFC 6066).
        if let (Some(tls), "DNS") = (tls.as_object_mut(), kind) {
            tls.insert("sni".to_owned(), json!(uri.host));
        }
        let socket = json!({ "name": "envoy.transport_sockets.tls", "typed_config": tls });
        fields.insert("transport_socket".to_owned(), socket);
    }
    cluster
}
