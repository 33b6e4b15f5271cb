//! The settings that decisions depend on: the rows of docs/envoy.md.

use mesh_authz::attribute::{Attribute, Subject};
use mesh_authz::config::{Paths, PrincipalFrom, SourceIpFrom};
use mesh_authz::document::Value;
use mesh_authz::request::metadata::DEFAULT_PAYLOAD_KEY;

use super::catalogue::{
    CLIENT_ADDRESS, DIRECT_PEER, EnvoyCheck, HOST_DOT, PATH, PATH_PARAMETERS, PEER_CERTIFICATE, SECOND_URI,
    SERVER_NAME, TOKENS, UNKNOWN,
};
use super::chain::Chain;
use super::needs::Needs;
use super::ours::Ours;
use super::place::Place;
use crate::load::finding::Finding;

const JWT_AUTHN: &str = "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication";
const SET_FILTER_STATE: &str = "envoy.extensions.filters.http.set_filter_state.v3.Config";
const NETWORK_SET_FILTER_STATE: &str = "envoy.extensions.filters.network.set_filter_state.v3.Config";
const TLS: &str = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
const QUIC: &str = "envoy.extensions.transport_sockets.quic.v3.QuicDownstreamTransport";
const TLS_INSPECTOR: &str = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector";

/// What is missing for the decisions of the filters in this chain.
pub fn missing(chain: &Chain<'_>, needs: &Needs) -> Vec<Finding> {
    let Some(manager) = &chain.manager else { return Vec::new() };
    let mut findings = Vec::new();
    paths(chain, manager, needs, &mut findings);
    hosts(manager, needs, &mut findings);
    client_address(chain, manager, needs, &mut findings);
    peer_certificate(chain, needs, &mut findings);
    tokens(chain, manager, needs, &mut findings);
    filter_state(chain, manager, needs, &mut findings);
    server_name(chain, needs, &mut findings);
    findings.extend(chain.leads_to.unknown.as_ref().map(|routes| {
        let message = "the routes come from elsewhere, and nothing is known of them";
        routes.warning(&UNKNOWN, message, "give the file with them as well, or the /config_dump of the running Envoy")
    }));
    findings
}

/// Whether a plugin configuration that is known says this. One that is not known does not.
fn all_say(chain: &Chain<'_>, says: impl Fn(&mesh_authz::config::PluginConfig) -> bool) -> bool {
    chain.ours.iter().all(|ours| ours.config.as_ref().is_some_and(&says))
}

fn paths(chain: &Chain<'_>, manager: &Place<'_>, needs: &Needs, findings: &mut Vec<Finding>) {
    let Some(because) = needs.attribute(Attribute::Path, "paths") else { return };
    if !all_say(chain, |config| config.paths == Paths::Strict) {
        let examples = [("normalize_path", "/public/../admin"), ("merge_slashes", "//admin")];
        for (setting, example) in examples.into_iter().filter(|(setting, _)| !manager.is_true(setting)) {
            let message = format!("{because}, and without `{setting}: true`, `{example}` is not `/admin` to it");
            findings.push(set(manager, setting, &PATH, message, format!("write `{setting}: true`")));
        }
        let setting = "path_with_escaped_slashes_action";
        let action = manager.get(setting);
        let is_safe = action.as_ref().is_some_and(|action| match &action.node.value {
            Value::String(name) => {
                ["REJECT_REQUEST", "UNESCAPE_AND_REDIRECT", "UNESCAPE_AND_FORWARD"].contains(&name.as_str())
            }
            Value::Number(number) => [2.0, 3.0, 4.0].contains(number),
            _ => false,
        });
        if !is_safe {
            let message = format!("{because}, and without `{setting}`, `/%2Fadmin` is not `/admin` to it");
            findings.push(set(manager, setting, &PATH, message, format!("write `{setting}: UNESCAPE_AND_FORWARD`")));
        }
    }
    for routes in &chain.routes {
        let setting = "ignore_path_parameters_in_path_matching";
        if let Some(place) = routes.get(setting).filter(|_| routes.is_true(setting)) {
            let message =
                format!("{because}, and a route for `/admin` also serves `/admin;x=y`, which is another path to it");
            findings.push(place.error(&PATH_PARAMETERS, message, "remove it"));
        }
    }
}

fn hosts(manager: &Place<'_>, needs: &Needs, findings: &mut Vec<Finding>) {
    let Some(because) = needs.attribute(Attribute::Host, "hosts") else { return };
    let setting = "strip_trailing_host_dot";
    if !manager.is_true(setting) {
        let message = format!("{because}, and without `{setting}: true`, `example.com.` is not `example.com` to it");
        findings.push(set(manager, setting, &HOST_DOT, message, format!("write `{setting}: true`")));
    }
}

fn client_address(chain: &Chain<'_>, manager: &Place<'_>, needs: &Needs, findings: &mut Vec<Finding>) {
    let is_remote = manager.is_true("use_remote_address");
    let hops = manager.number("xff_num_trusted_hops") > 0.0;
    let is_detected = !manager.items("original_ip_detection_extensions").is_empty();
    if let Some(because) = needs.attribute(Attribute::RemoteIp, "the client's address")
        && !is_remote
        && !hops
        && !is_detected
    {
        let message = format!("{because}, which a client chooses by itself, in X-Forwarded-For");
        let hint = "write `use_remote_address: true`; if a proxy that you trust is in front of Envoy, also \
                    `xff_num_trusted_hops`";
        findings.push(set(manager, "use_remote_address", &CLIENT_ADDRESS, message, hint.to_owned()));
    }
    let takes_it_for_the_peer = |ours: &&Ours<'_>| {
        ours.config.as_ref().is_some_and(|config| config.source_ip_from == SourceIpFrom::RemoteAddress)
    };
    if let Some(because) = needs.attribute(Attribute::SourceIp, "the address of the direct peer")
        && let Some(ours) = chain.ours.iter().find(takes_it_for_the_peer)
        && (!is_remote || hops || is_detected)
    {
        let message = format!(
            "{because}, and `sourceIpFrom: remote-address` takes the client's address for it, which comes from a header here"
        );
        let hint = "remove `sourceIpFrom`, and put `set_filter_state` before this filter";
        findings.push(ours.filter.error(&CLIENT_ADDRESS, message, hint));
    }
}

fn peer_certificate(chain: &Chain<'_>, needs: &Needs, findings: &mut Vec<Finding>) {
    let Some(because) = needs.subject(Subject::Identity, "the peer's identity") else { return };
    if all_say(chain, |config| config.principal_from == PrincipalFrom::FilterState) {
        return;
    }
    let Some(context) = tls(chain) else {
        let message = format!("{because}, and without TLS no peer has one");
        let hint = "add a transport_socket with `require_client_certificate: true` and a `trusted_ca`";
        findings.push(chain.place.error(&PEER_CERTIFICATE, message, hint));
        return;
    };
    let setting = "require_client_certificate";
    if !context.is_true(setting) {
        let message =
            format!("{because}, and a peer without a certificate has none: no DENY policy for an identity stops it");
        findings.push(set(&context, setting, &PEER_CERTIFICATE, message, format!("write `{setting}: true`")));
    }
    let Some(common) = context.get("common_tls_context") else { return };
    let validation = common
        .get("validation_context")
        .or_else(|| common.at(["combined_validation_context", "default_validation_context"]));
    let is_from_elsewhere = common.get("validation_context_sds_secret_config").is_some()
        || common.at(["combined_validation_context", "validation_context_sds_secret_config"]).is_some();
    let verifies = |context: &Place<'_>| {
        ["trusted_ca", "custom_validator_config", "ca_certificate_provider_instance"]
            .into_iter()
            .any(|name| context.get(name).is_some())
            || ["verify_certificate_spki", "verify_certificate_hash"].iter().any(|name| !context.items(name).is_empty())
    };
    if !is_from_elsewhere && !validation.as_ref().is_some_and(verifies) {
        let message = format!(
            "{because}, and without a trusted authority Envoy asks for no certificate, whatever `require_client_certificate` says"
        );
        let hint = "write `validation_context: { trusted_ca: { filename: … } }`, with an authority that you trust";
        findings.push(validation.as_ref().unwrap_or(&common).error(&PEER_CERTIFICATE, message, hint));
    }
    if let Some(place) = validation.and_then(|context| context.get("trust_chain_verification"))
        && (place.node.as_str() == Some("ACCEPT_UNTRUSTED") || place.node.value == Value::Number(1.0))
    {
        let message = format!("{because}, and Envoy accepts certificates that no trusted authority has signed");
        findings.push(place.error(&PEER_CERTIFICATE, message, "remove it"));
    }
}

/// The TLS configuration of a chain.
fn tls<'c>(chain: &Chain<'c>) -> Option<Place<'c>> {
    match chain.place.get("transport_socket")?.typed_config()? {
        (TLS, context) => Some(context),
        (QUIC, transport) => transport.get("downstream_tls_context"),
        // For example a socket that records what another one does.
        (_, other) => other.get("transport_socket").and_then(|inner| inner.typed_config()).map(|(_, context)| context),
    }
}

fn tokens(chain: &Chain<'_>, manager: &Place<'_>, needs: &Needs, findings: &mut Vec<Finding>) {
    let Some(because) = needs.subject(Subject::Token, "tokens") else { return };
    let filters = chain.http_filters();
    let verifying = || filters.iter().enumerate().filter(|(_, filter)| filter.extension_type() == JWT_AUTHN);
    let Some((_, first)) = verifying().next() else {
        let message = format!("{because}, and nothing verifies them: there are no claims");
        let hint = "put `jwt_authn` before the filter, with `payload_in_metadata: payload`; `mesh-authz render filters` makes it \
                    from RequestAuthentications";
        findings.push(set(manager, "http_filters", &TOKENS, message, hint.to_owned()));
        return;
    };
    let Some((_, before)) = verifying().find(|(index, _)| *index < chain.first()) else {
        let message = format!("{because}, and this filter verifies them only after the decision");
        findings.push(first.error(&TOKENS, message, "put it before the mesh-authz filter"));
        return;
    };
    if before.is_true("disabled") {
        findings.push(before.error(&TOKENS, format!("{because}, and this filter is disabled"), "remove `disabled`"));
    }
    let key = chain.ours.iter().find_map(|ours| Some(ours.config.as_ref()?.options.jwt_payload_key.clone()));
    let key = key.unwrap_or_else(|| DEFAULT_PAYLOAD_KEY.to_owned());
    let Some((_, config)) = before.typed_config() else { return };
    for (name, provider) in config.get("providers").map(|all| all.fields()).unwrap_or_default() {
        let setting = "payload_in_metadata";
        if provider.text(setting) != Some(&key) {
            let message = format!("{because}, and the filter does not see the claims of provider {name}");
            findings.push(set(&provider, setting, &TOKENS, message, format!("write `{setting}: {key}`")));
        }
    }
    let has_rules = !config.items("rules").is_empty()
        || config.get("filter_state_rules").is_some()
        || config.get("requirement_map").is_some();
    if !has_rules {
        let message = format!("{because}, and this filter has no rules, so it verifies nothing");
        let hint = "write `rules: [{ match: { prefix: / }, requires: … }]`";
        findings.push(before.error(&TOKENS, message, hint));
    }
}

/// What `set_filter_state` must provide.
fn filter_state(chain: &Chain<'_>, manager: &Place<'_>, needs: &Needs, findings: &mut Vec<Finding>) {
    let has_state = |key: &str, operator: &str| provides(chain, key, operator);
    let from_filter_state = chain
        .ours
        .iter()
        .any(|ours| ours.config.as_ref().is_none_or(|config| config.source_ip_from == SourceIpFrom::FilterState));
    let hint = |key: &str, operator: &str| {
        format!("put `set_filter_state` before the filter, with `object_key: {key}` and the text `{operator}`")
    };
    let (key, operator) = ("mesh_authz.source_ip", "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%");
    if let Some(because) = needs.attribute(Attribute::SourceIp, "the address of the direct peer")
        && from_filter_state
        && !has_state(key, operator)
    {
        let message = format!("{because}, and nothing provides it");
        findings.push(set(manager, "http_filters", &DIRECT_PEER, message, hint(key, operator)));
    }
    let (key, operator) = ("mesh_authz.peer_uris", "%DOWNSTREAM_PEER_URI_SAN%");
    if let Some(because) = needs.subject(Subject::Identity, "the peer's identity")
        && !all_say(chain, |config| config.principal_from == PrincipalFrom::FilterState)
        && !has_state(key, operator)
    {
        let message = format!("{because}, and nothing shows that a certificate has a second URI");
        findings.push(set(manager, "http_filters", &SECOND_URI, message, hint(key, operator)));
    }
}

/// Whether a filter before ours stores the value of this operator under this key.
fn provides(chain: &Chain<'_>, key: &str, operator: &str) -> bool {
    let first = chain.first();
    let before = chain
        .http_filters()
        .into_iter()
        .take(first)
        .filter(|filter| filter.extension_type() == SET_FILTER_STATE && !filter.is_true("disabled"));
    let of_connection =
        chain.place.items("filters").into_iter().filter(|filter| filter.extension_type() == NETWORK_SET_FILTER_STATE);
    before.chain(of_connection).filter_map(|filter| filter.typed_config()).any(|(_, config)| {
        let lists = config.fields().into_iter().filter(|(name, _)| name.starts_with("on_") || name.starts_with("onR"));
        lists.flat_map(|(_, list)| list.children()).any(|(_, value)| {
            let text = value.at(["format_string", "text_format_source"]).and_then(|text| text.text("inline_string"));
            value.text("object_key") == Some(key) && text == Some(operator)
        })
    })
}

fn server_name(chain: &Chain<'_>, needs: &Needs, findings: &mut Vec<Finding>) {
    let Some(because) = needs.attribute(Attribute::Sni, "the server name") else { return };
    let mut listener_filters = chain.listener.items("listener_filters").into_iter();
    if chain.place.get("transport_socket").is_none() && !listener_filters.any(|f| f.extension_type() == TLS_INSPECTOR) {
        let message = format!("{because}, and nothing reads it without TLS termination");
        let hint = "add the listener filter `tls_inspector`";
        findings.push(set(&chain.listener, "listener_filters", &SERVER_NAME, message, hint.to_owned()));
    }
}

/// An error about a setting that has a wrong value, or is missing.
fn set(place: &Place<'_>, setting: &str, check: &EnvoyCheck, message: String, hint: String) -> Finding {
    place.get(setting).as_ref().unwrap_or(place).error(check, message, hint)
}
