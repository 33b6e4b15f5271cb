//! Other filters, before and after the filter; and what takes the filter out of the way.

use mesh_authz::attribute::{Attribute, Subject};
use mesh_authz::document::Value;

use super::catalogue::{ANSWERED_BEFORE, CHANGED_AFTERWARDS, DIRECT_PEER, SWITCHED_OFF, TOKENS};
use super::chain::Chain;
use super::configuration::Configuration;
use super::needs::Needs;
use super::ours::{Ours, WASM};
use super::place::Place;
use crate::load::finding::{Finding, Severity};

/// What all names of HTTP filters begin with.
const HTTP: &str = "envoy.extensions.filters.http.";

/// What a filter can do to a request.
#[derive(Clone, Copy, Debug)]
enum Effect {
    /// It can change everything.
    Anything,
    /// It can change the method, the path or the host, depending on another program.
    MaybeAnything,
    /// It changes headers only.
    Headers,
    /// It changes the request only if one of these fields is set.
    IfSet(&'static [&'static str]),
    /// It changes nothing that policies look at.
    Nothing,
}

/// What HTTP filters do to requests, by the name of their message without [`HTTP`].
const EFFECTS: &[(&str, Effect)] = &[
    ("a2a.v3.A2a", Effect::Nothing),
    ("adaptive_concurrency.v3.AdaptiveConcurrency", Effect::Nothing),
    ("admission_control.v3.AdmissionControl", Effect::Nothing),
    ("ai_protocol_manager.v3.AiProtocolManager", Effect::Nothing),
    ("alternate_protocols_cache.v3.FilterConfig", Effect::Nothing),
    ("api_key_auth.v3.ApiKeyAuth", Effect::IfSet(&["forwarding"])),
    ("aws_eventstream_parser.v3.AwsEventstreamParser", Effect::Nothing),
    ("aws_lambda.v3.Config", Effect::Anything),
    ("aws_request_signing.v3.AwsRequestSigning", Effect::Headers),
    ("bandwidth_limit.v3.BandwidthLimit", Effect::Nothing),
    ("bandwidth_share.v3.BandwidthShare", Effect::Nothing),
    ("basic_auth.v3.BasicAuth", Effect::IfSet(&["forward_username_header"])),
    ("body_size_limit.v3.BodySizeLimit", Effect::Nothing),
    ("buffer.v3.Buffer", Effect::Nothing),
    ("cache.v3.CacheConfig", Effect::Nothing),
    ("cache_v2.v3.CacheV2Config", Effect::Nothing),
    ("cdn_loop.v3.CdnLoopConfig", Effect::Nothing),
    ("compressor.v3.Compressor", Effect::Nothing),
    ("connect_grpc_bridge.v3.FilterConfig", Effect::Anything),
    ("cors.v3.Cors", Effect::Nothing),
    ("credential_injector.v3.CredentialInjector", Effect::Headers),
    ("csrf.v3.CsrfPolicy", Effect::Nothing),
    ("custom_response.v3.CustomResponse", Effect::Nothing),
    ("decompressor.v3.Decompressor", Effect::Nothing),
    ("dynamic_forward_proxy.v3.FilterConfig", Effect::Nothing),
    ("dynamic_modules.v3.DynamicModuleFilter", Effect::Anything),
    ("ext_authz.v3.ExtAuthz", Effect::MaybeAnything),
    ("ext_proc.v3.ExternalProcessor", Effect::Anything),
    ("fault.v3.HTTPFault", Effect::Nothing),
    ("file_server.v3.FileServerConfig", Effect::Nothing),
    ("file_system_buffer.v3.FileSystemBufferFilterConfig", Effect::Nothing),
    ("gcp_authn.v3.GcpAuthnFilterConfig", Effect::Headers),
    ("geoip.v3.Geoip", Effect::Headers),
    ("golang.v3alpha.Config", Effect::Anything),
    ("grpc_field_extraction.v3.GrpcFieldExtractionConfig", Effect::Nothing),
    ("grpc_http1_bridge.v3.Config", Effect::Headers),
    ("grpc_http1_reverse_bridge.v3.FilterConfig", Effect::Headers),
    ("grpc_json_reverse_transcoder.v3.GrpcJsonReverseTranscoder", Effect::Anything),
    ("grpc_json_transcoder.v3.GrpcJsonTranscoder", Effect::Anything),
    ("grpc_stats.v3.FilterConfig", Effect::Nothing),
    ("grpc_web.v3.GrpcWeb", Effect::Headers),
    ("header_mutation.v3.HeaderMutation", Effect::IfSet(&["request_mutations", "query_parameter_mutations"])),
    ("header_to_metadata.v3.Config", Effect::IfSet(&["remove"])),
    ("health_check.v3.HealthCheck", Effect::Nothing),
    ("ip_tagging.v3.IPTagging", Effect::Headers),
    ("json_to_metadata.v3.JsonToMetadata", Effect::Nothing),
    ("jwt_authn.v3.JwtAuthentication", Effect::Headers),
    ("local_ratelimit.v3.LocalRateLimit", Effect::IfSet(&["request_headers_to_add_when_not_enforced"])),
    ("lua.v3.Lua", Effect::Anything),
    ("mcp.v3.Mcp", Effect::Nothing),
    ("mcp_json_rest_bridge.v3.McpJsonRestBridge", Effect::Anything),
    ("oauth2.v3.OAuth2", Effect::Headers),
    ("on_demand.v3.OnDemand", Effect::Nothing),
    ("original_src.v3.OriginalSrc", Effect::Nothing),
    ("proto_api_scrubber.v3.ProtoApiScrubberConfig", Effect::Nothing),
    ("proto_message_extraction.v3.ProtoMessageExtractionConfig", Effect::Nothing),
    ("rate_limit_quota.v3.RateLimitQuotaFilterConfig", Effect::Nothing),
    ("ratelimit.v3.RateLimit", Effect::Nothing),
    ("rbac.v3.RBAC", Effect::Nothing),
    ("router.v3.Router", Effect::Nothing),
    ("set_filter_state.v3.Config", Effect::Nothing),
    ("set_metadata.v3.Config", Effect::Nothing),
    ("sse_to_metadata.v3.SseToMetadata", Effect::Nothing),
    ("stateful_session.v3.StatefulSession", Effect::Nothing),
    ("tap.v3.Tap", Effect::Nothing),
    ("thrift_to_metadata.v3.ThriftToMetadata", Effect::Nothing),
    ("transform.v3.TransformConfig", Effect::IfSet(&["request_transformation"])),
    ("upstream_codec.v3.UpstreamCodec", Effect::Nothing),
    ("wasm.v3.Wasm", Effect::Anything),
];

/// Filters that answer with what the application has, or in its place.
const ANSWERING: [&str; 3] = ["cache.v3.CacheConfig", "cache_v2.v3.CacheV2Config", "file_server.v3.FileServerConfig"];

/// What the filters around ours, and the routes, do to decisions.
pub fn around(chain: &Chain<'_>, needs: &Needs, configuration: &Configuration<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    switched_off(chain, configuration, &mut findings);
    helpers_switched_off(chain, needs, &mut findings);
    let filters = chain.http_filters();
    let last = chain.ours.iter().map(|ours| ours.index).max().unwrap_or_default();
    let is_ours = |index: usize| chain.ours.iter().any(|ours| ours.index == index);
    let may_run = |filter: &Place<'_>| {
        !filter.is_true("disabled") || !per_filter_configs(chain, filter.text("name").unwrap_or_default()).is_empty()
    };
    for (index, filter) in filters.iter().enumerate().filter(|(index, filter)| !is_ours(*index) && may_run(filter)) {
        if index > last {
            findings.extend(changed_afterwards(filter, needs, chain, configuration));
        }
        if index < chain.first()
            && let Some(name) = types(filter, configuration).iter().find(|name| ANSWERING.contains(&short(name)))
        {
            let message = format!("{} answers requests before anybody has decided about them", short_name(name));
            findings.push(filter.error(&ANSWERED_BEFORE, message, "put it behind the mesh-authz filter"));
        }
    }
    for filter in upstream_filters(chain, configuration) {
        findings.extend(changed_afterwards(&filter, needs, chain, configuration));
    }
    findings
}

/// The filters between the router and the application.
fn upstream_filters<'c>(chain: &Chain<'c>, configuration: &Configuration<'c>) -> Vec<Place<'c>> {
    let configs = chain.http_filters().into_iter().filter_map(|filter| filter.typed_config());
    let of_router = configs.flat_map(|(_, config)| config.items("upstream_http_filters"));
    let clusters = chain.leads_to.named.keys().filter_map(|name| configuration.clusters.get(name));
    let options = clusters.filter_map(|cluster| cluster.get("typed_extension_protocol_options"));
    let of_clusters =
        options.flat_map(|options| options.fields()).flat_map(|(_, options)| options.items("http_filters"));
    of_router.chain(of_clusters).collect()
}

fn changed_afterwards(
    filter: &Place<'_>,
    needs: &Needs,
    chain: &Chain<'_>,
    configuration: &Configuration<'_>,
) -> Option<Finding> {
    let attributes = [
        (Attribute::Path, "paths"),
        (Attribute::Method, "methods"),
        (Attribute::Host, "hosts"),
        (Attribute::Header, "headers"),
    ];
    let headers = || needs.attribute(Attribute::Header, "headers");
    let anything = || attributes.iter().find_map(|(attribute, what)| needs.attribute(*attribute, what));
    let hint = "put it before the mesh-authz filter, so that the policies see what it makes of the request";
    let found = types(filter, configuration).into_iter().find_map(|name| {
        let effect = EFFECTS.iter().find(|(known, _)| *known == short(name)).map(|(_, effect)| *effect);
        let name = short_name(name);
        let can_change = format!("{name} can change the request after the decision");
        match effect {
            Some(Effect::Nothing) => None,
            Some(Effect::IfSet(fields)) if !sets(filter, chain, fields) => None,
            Some(Effect::Anything | Effect::IfSet(_)) => Some((Severity::Error, can_change, anything()?)),
            Some(Effect::MaybeAnything) => Some((Severity::Warning, can_change, anything()?)),
            Some(Effect::Headers) => {
                Some((Severity::Error, format!("{name} changes headers after the decision"), headers()?))
            }
            None => {
                let message =
                    format!("{name} is not known: if it changes the request, nobody has decided about the result");
                Some((Severity::Warning, message, anything()?))
            }
        }
    });
    let (severity, message, because) = found?;
    let finding = filter.error(&CHANGED_AFTERWARDS, format!("{message}, and {because}"), hint);
    Some(Finding { severity, ..finding })
}

/// Whether one of these fields is set anywhere in the configuration of the filter, or of a route for it.
fn sets(filter: &Place<'_>, chain: &Chain<'_>, fields: &[&str]) -> bool {
    let of_routes = per_filter_configs(chain, filter.text("name").unwrap_or_default());
    filter.get("typed_config").into_iter().chain(of_routes).any(|config| has(&config, fields))
}

fn has(place: &Place<'_>, fields: &[&str]) -> bool {
    let is_set = |field: &Place<'_>| match &field.node.value {
        Value::Bool(is_set) => *is_set,
        Value::List(items) => !items.is_empty(),
        _ => true,
    };
    fields.iter().any(|name| place.get(name).is_some_and(|field| is_set(&field)))
        || place.children().iter().any(|(_, child)| has(child, fields))
}

/// The messages of a filter, and of the filters within it.
fn types<'c>(filter: &Place<'c>, configuration: &Configuration<'c>) -> Vec<&'c str> {
    let found = || configuration.extensions.get(filter.text("name")?).cloned();
    let mut types = Vec::new();
    match (filter.get("typed_config"), filter.get("config_discovery")) {
        (Some(_), _) => {
            types.push(filter.extension_type());
            types_within(filter, &mut types);
        }
        (None, Some(discovery)) => match found() {
            Some(extension) => types.push(extension.extension_type()),
            None => types.extend(discovery.items("type_urls").iter().filter_map(|url| url.node.as_str())),
        },
        (None, None) => {}
    }
    // A filter that only chooses among others.
    if types.iter().any(|name| EFFECTS.iter().any(|(known, _)| *known == short(name))) {
        types.retain(|name| EFFECTS.iter().any(|(known, _)| *known == short(name)));
    }
    types
}

fn types_within<'c>(place: &Place<'c>, types: &mut Vec<&'c str>) {
    // The router has filters of its own, which are looked at one by one.
    for (_, child) in place.children().into_iter().filter(|(name, _)| !name.starts_with("upstream")) {
        let name = child.message_type();
        if name.starts_with(HTTP) {
            types.push(name);
        }
        types_within(&child, types);
    }
}

/// The name of a message without what all HTTP filters begin with.
fn short(name: &str) -> &str {
    let name = name.rsplit('/').next().unwrap_or_default();
    name.strip_prefix(HTTP).unwrap_or(name)
}

/// The name of a filter, such as `lua`.
fn short_name(name: &str) -> String {
    match short(name).split('.').next() {
        Some(first) if !first.is_empty() && first != "envoy" => format!("the filter `{first}`"),
        _ => format!("the filter {name}"),
    }
}

/// What takes the filter out of the way of some or all requests.
fn switched_off(chain: &Chain<'_>, configuration: &Configuration<'_>, findings: &mut Vec<Finding>) {
    for ours in &chain.ours {
        let off = |place: &Place<'_>, message: &str, hint: &str| place.error(&SWITCHED_OFF, message, hint);
        for (setting, message) in [
            ("disabled", "the filter is disabled: it decides only where a route enables it"),
            ("is_optional", "an Envoy that cannot load the filter goes on without it"),
        ] {
            if let Some(place) = ours.filter.get(setting).filter(|_| ours.filter.is_true(setting)) {
                findings.push(off(&place, message, "remove it"));
            }
        }
        if ours.is_conditional {
            let message = "another filter decides for which requests the mesh-authz filter runs; the others pass";
            findings.push(off(&ours.filter, message, "put the mesh-authz filter itself into http_filters"));
        }
        for config in per_filter_configs(chain, ours.name()).iter().filter(|config| config.is_true("disabled")) {
            findings.push(off(
                config,
                "here, the mesh-authz filter is disabled: requests pass without a decision",
                "remove it",
            ));
        }
        let default = ours.filter.at(["config_discovery", "default_config"]);
        if let Some(default) = default.filter(|default| default.message_type() != WASM) {
            let message = "until Envoy has the filter's configuration, requests go through this instead";
            findings.push(off(&default, message, "remove it: then Envoy waits for the configuration"));
        }
    }
    let Some(manager) = &chain.manager else { return };
    for upgrade in manager.items("upgrade_configs") {
        let is_enabled = upgrade.get("enabled").is_none_or(|enabled| enabled.node.value != Value::Bool(false));
        let filters = upgrade.items("filters");
        let has_ours =
            filters.iter().enumerate().any(|(index, filter)| Ours::of(filter, index, configuration).is_some());
        if is_enabled && !filters.is_empty() && !has_ours {
            let kind = upgrade.text("upgrade_type").unwrap_or_default();
            let message =
                format!("requests that ask for an upgrade to {kind} go through these filters only, without mesh-authz");
            let place = upgrade.get("filters").unwrap_or(upgrade);
            findings.push(place.error(
                &SWITCHED_OFF,
                message,
                "add the mesh-authz filter, and what it needs, or remove `filters`",
            ));
        }
    }
}

/// Routes that disable the filters from which ours learns what the policies look at.
fn helpers_switched_off(chain: &Chain<'_>, needs: &Needs, findings: &mut Vec<Finding>) {
    let filters = chain.http_filters();
    for filter in filters.iter().take(chain.first()) {
        let (check, because) = match short(filter.extension_type()) {
            "jwt_authn.v3.JwtAuthentication" => (&TOKENS, needs.subject(Subject::Token, "tokens")),
            "set_filter_state.v3.Config" => (
                &DIRECT_PEER,
                needs
                    .attribute(Attribute::SourceIp, "the address of the direct peer")
                    .or_else(|| needs.subject(Subject::Identity, "the peer's identity")),
            ),
            _ => continue,
        };
        let Some(because) = because else { continue };
        let name = filter.text("name").unwrap_or_default();
        for config in per_filter_configs(chain, name).iter().filter(|config| config.is_true("disabled")) {
            let message = format!("{because}, and here, {} is disabled", short_name(filter.extension_type()));
            findings.push(config.error(check, message, "remove it"));
        }
    }
}

/// The configurations of routes and virtual hosts for the filter with this name.
fn per_filter_configs<'c>(chain: &Chain<'c>, name: &str) -> Vec<Place<'c>> {
    let mut found = Vec::new();
    for routes in &chain.routes {
        add_per_filter_configs(routes, name, &mut found);
    }
    found
}

fn add_per_filter_configs<'c>(place: &Place<'c>, name: &str, found: &mut Vec<Place<'c>>) {
    for (field, child) in place.children() {
        if matches!(field, "typed_per_filter_config" | "typedPerFilterConfig") {
            found.extend(child.fields().into_iter().filter(|(key, _)| *key == name).map(|(_, config)| config));
        } else {
            add_per_filter_configs(&child, name, found);
        }
    }
}
