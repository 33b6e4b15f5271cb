//! Other filters, before and after the filter; and what takes the filter out of the way.

use mesh_authz::attribute::{Attribute, Subject};
use mesh_authz::document::Value;

use super::catalogue::{ANSWERED_BEFORE, CHANGED_AFTERWARDS, DIRECT_PEER, REWRITTEN, SWITCHED_OFF, TOKENS};
use super::chain::Chain;
use super::configuration::Configuration;
use super::needs::{Because, Needs};
use super::place::Place;
use super::routes::Routes;
use super::settings::{JWT_AUTHN, SET_FILTER_STATE};
use crate::load::finding::Finding;

/// What all names of HTTP filters begin with.
const HTTP: &str = "envoy.extensions.filters.http.";

/// What a filter can do to a request.
#[derive(Clone, Copy, Debug)]
enum Effect {
    /// It can change everything.
    Anything,
    /// It changes these headers; any header if there are no names.
    Headers(&'static [&'static str]),
    /// It changes something only if this says so.
    If(fn(&Place<'_>) -> Change),
    /// It changes nothing that policies look at.
    Nothing,
}

/// What a filter changes, by its configuration.
enum Change {
    Nothing,
    Anything,
    /// Perhaps anything, depending on another program.
    Perhaps,
    /// These headers; any header if there are no names.
    Headers(Vec<String>),
}

/// What HTTP filters do to requests, by the name of their message without [`HTTP`].
const EFFECTS: &[(&str, Effect)] = &[
    ("a2a.v3.A2a", Effect::Nothing),
    ("adaptive_concurrency.v3.AdaptiveConcurrency", Effect::Nothing),
    ("admission_control.v3.AdmissionControl", Effect::Nothing),
    ("ai_protocol_manager.v3.AiProtocolManager", Effect::Nothing),
    ("alternate_protocols_cache.v3.FilterConfig", Effect::Nothing),
    (
        "api_key_auth.v3.ApiKeyAuth",
        Effect::If(|config| {
            any_header_if(config.get("forwarding").is_some_and(|f| has(&f, &["header", "hide_credentials"])))
        }),
    ),
    ("aws_eventstream_parser.v3.AwsEventstreamParser", Effect::Nothing),
    ("aws_lambda.v3.Config", Effect::Anything),
    (
        "aws_request_signing.v3.AwsRequestSigning",
        Effect::If(|config| {
            const SIGNATURE: [&str; 4] =
                ["authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token"];
            if has(config, &["host_rewrite"]) { Change::Anything } else { headers(&SIGNATURE) }
        }),
    ),
    ("bandwidth_limit.v3.BandwidthLimit", Effect::Nothing),
    ("bandwidth_share.v3.BandwidthShare", Effect::Nothing),
    ("basic_auth.v3.BasicAuth", Effect::If(|config| named_header(config.text("forward_username_header")))),
    ("body_size_limit.v3.BodySizeLimit", Effect::Nothing),
    ("buffer.v3.Buffer", Effect::Nothing),
    ("cache.v3.CacheConfig", Effect::Nothing),
    ("cache_v2.v3.CacheV2Config", Effect::Nothing),
    ("cdn_loop.v3.CdnLoopConfig", Effect::Headers(&["cdn-loop"])),
    ("compressor.v3.Compressor", Effect::Headers(&["accept-encoding", "content-encoding", "content-length"])),
    ("connect_grpc_bridge.v3.FilterConfig", Effect::Anything),
    ("cors.v3.Cors", Effect::Nothing),
    (
        "credential_injector.v3.CredentialInjector",
        Effect::If(|config| {
            let header = find(config, "header").and_then(|header| header.node.as_str());
            named_header(Some(header.unwrap_or("authorization")))
        }),
    ),
    ("csrf.v3.CsrfPolicy", Effect::Nothing),
    ("custom_response.v3.CustomResponse", Effect::Nothing),
    ("decompressor.v3.Decompressor", Effect::Headers(&["accept-encoding", "content-encoding", "content-length"])),
    ("dynamic_forward_proxy.v3.FilterConfig", Effect::Nothing),
    ("dynamic_modules.v3.DynamicModuleFilter", Effect::Anything),
    ("ext_authz.v3.ExtAuthz", Effect::If(ext_authz)),
    ("ext_proc.v3.ExternalProcessor", Effect::If(ext_proc)),
    ("fault.v3.HTTPFault", Effect::Nothing),
    ("file_server.v3.FileServerConfig", Effect::Nothing),
    ("file_system_buffer.v3.FileSystemBufferFilterConfig", Effect::Nothing),
    ("gcp_authn.v3.GcpAuthnFilterConfig", Effect::Headers(&[])),
    ("geoip.v3.Geoip", Effect::Headers(&[])),
    ("golang.v3alpha.Config", Effect::Anything),
    ("grpc_field_extraction.v3.GrpcFieldExtractionConfig", Effect::Nothing),
    ("grpc_http1_bridge.v3.Config", Effect::Headers(&["content-type", "content-length"])),
    ("grpc_http1_reverse_bridge.v3.FilterConfig", Effect::Headers(&["content-type", "accept", "content-length"])),
    ("grpc_json_reverse_transcoder.v3.GrpcJsonReverseTranscoder", Effect::Anything),
    ("grpc_json_transcoder.v3.GrpcJsonTranscoder", Effect::Anything),
    ("grpc_stats.v3.FilterConfig", Effect::Nothing),
    (
        "grpc_web.v3.GrpcWeb",
        Effect::Headers(&["content-type", "accept", "te", "grpc-accept-encoding", "content-length"]),
    ),
    ("header_mutation.v3.HeaderMutation", Effect::If(header_mutation)),
    (
        "header_to_metadata.v3.Config",
        Effect::If(|config| any_header_if(config.items("request_rules").iter().any(|rule| rule.is_true("remove")))),
    ),
    ("health_check.v3.HealthCheck", Effect::Nothing),
    ("ip_tagging.v3.IPTagging", Effect::Headers(&[])),
    ("json_to_metadata.v3.JsonToMetadata", Effect::Nothing),
    (
        "jwt_authn.v3.JwtAuthentication",
        Effect::If(|config| any_header_if(has(config, &["forward_payload_header", "claim_to_headers"]))),
    ),
    (
        "local_ratelimit.v3.LocalRateLimit",
        Effect::If(|config| any_header_if(has(config, &["request_headers_to_add_when_not_enforced"]))),
    ),
    ("lua.v3.Lua", Effect::Anything),
    ("mcp.v3.Mcp", Effect::Nothing),
    ("mcp_json_rest_bridge.v3.McpJsonRestBridge", Effect::Anything),
    ("mcp_router.v3.McpRouter", Effect::Nothing),
    ("oauth2.v3.OAuth2", Effect::Headers(&["authorization", "cookie"])),
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
    (
        "transform.v3.TransformConfig",
        Effect::If(|config| if has(config, &["request_transformation"]) { Change::Anything } else { Change::Nothing }),
    ),
    ("upstream_codec.v3.UpstreamCodec", Effect::Nothing),
    ("wasm.v3.Wasm", Effect::Anything),
];

/// Filters that hold other filters, and change nothing themselves.
const WRAPPERS: [&str; 6] = [
    "envoy.extensions.common.matching.v3.ExtensionWithMatcher",
    "composite.v3.Composite",
    "composite.v3.ExecuteFilterAction",
    "match_delegate.v3.ExtensionWithMatcher",
    "filter_chain.v3.FilterChainConfig",
    "filter_chain.v3.FilterChainConfigPerRoute",
];

fn any_header_if(is_set: bool) -> Change {
    if is_set { Change::Headers(Vec::new()) } else { Change::Nothing }
}

fn named_header(name: Option<&str>) -> Change {
    match name {
        Some(name) if !name.is_empty() => Change::Headers(vec![name.to_ascii_lowercase()]),
        _ => Change::Nothing,
    }
}

fn headers(names: &[&str]) -> Change {
    Change::Headers(names.iter().map(|name| (*name).to_owned()).collect())
}

/// An authorizer over HTTP changes headers, if they are listed. One over gRPC can change more.
fn ext_authz(config: &Place<'_>) -> Change {
    let lists = ["allowed_upstream_headers", "allowed_upstream_headers_to_append"];
    if has(config, &["grpc_service"]) {
        return Change::Perhaps;
    }
    let Some(response) = find(config, "authorization_response").filter(|response| has(response, &lists)) else {
        return Change::Nothing;
    };
    let patterns = lists.iter().filter_map(|list| response.get(list)).flat_map(|list| list.items("patterns"));
    let names: Option<Vec<_>> = patterns.map(|pattern| pattern.text("exact").map(str::to_ascii_lowercase)).collect();
    Change::Headers(names.unwrap_or_default())
}

/// The first field of this name, at any depth.
fn find<'c>(place: &Place<'c>, name: &str) -> Option<Place<'c>> {
    place.get(name).or_else(|| place.children().find_map(|(_, child)| find(&child, name)))
}

fn ext_proc(config: &Place<'_>) -> Change {
    let mode = config.at(["processing_mode", "request_header_mode"]);
    let skips = mode.is_some_and(|mode| mode.is_value("SKIP", 2.0)) && !config.is_true("allow_mode_override");
    if skips { Change::Nothing } else { Change::Anything }
}

/// Envoy refuses mutations of the path, the method and the host; `remove` takes any name.
fn header_mutation(config: &Place<'_>) -> Change {
    let mutations: Vec<_> = config.get("mutations").into_iter().collect();
    if mutations.iter().any(|mutations| has(mutations, &["query_parameter_mutations"])) {
        return Change::Anything;
    }
    let mut names = Vec::new();
    for mutation in mutations.iter().flat_map(|mutations| mutations.items("request_mutations")) {
        let added = mutation.at(["append", "header"]).and_then(|header| header.text("key"));
        match added.or_else(|| mutation.text("remove")) {
            Some(name) if name.eq_ignore_ascii_case("host") || name.starts_with(':') => return Change::Anything,
            Some(name) => names.push(name.to_ascii_lowercase()),
            None => return Change::Headers(Vec::new()),
        }
    }
    if names.is_empty() { Change::Nothing } else { Change::Headers(names) }
}

/// Filters that answer with what the application has, or in its place.
const ANSWERING: [&str; 3] = ["cache.v3.CacheConfig", "cache_v2.v3.CacheV2Config", "file_server.v3.FileServerConfig"];

/// What the filters around ours, and the routes, do to decisions.
pub fn around<'c>(chain: &Chain<'c>, needs: &Needs, configuration: &Configuration<'c>) -> Vec<Finding> {
    let mut findings = Vec::new();
    switched_off(chain, configuration, &mut findings);
    helpers_switched_off(chain, needs, configuration, &mut findings);
    let is_ours = |index: usize| chain.ours.iter().any(|ours| ours.index == index);
    let others = chain.http_filters.iter().enumerate().filter(|(index, _)| !is_ours(*index));
    for (index, filter) in others.filter(|(_, filter)| runs_somewhere(filter, chain)) {
        if index > chain.first() {
            let hint = "put it before the mesh-authz filter, so that the policies see what it makes of the request";
            findings.extend(changed_afterwards(filter, hint, needs, chain, configuration));
            continue;
        }
        let types = parts(filter, chain, configuration);
        if let Some(part) = types.iter().find(|part| ANSWERING.contains(&short(part.name))) {
            let message = format!("{} answers requests before anybody has decided about them", short_name(part.name));
            findings.push(filter.error(&ANSWERED_BEFORE, message, "put it behind the mesh-authz filter"));
        }
        findings.extend(changed_before(filter, &types, needs, chain, configuration));
    }
    for filter in upstream_filters(chain, configuration) {
        let hint = "move it into http_filters, before the mesh-authz filter, so that the policies see what it makes of the request";
        findings.extend(changed_afterwards(&filter, hint, needs, chain, configuration));
    }
    findings
}

/// What the filters of a chain do to which the filter has let requests pass.
pub fn behind<'c>(chain: &Chain<'c>, needs: &Needs, configuration: &Configuration<'c>) -> Vec<Finding> {
    let hint = "put it before the mesh-authz filter, so that the policies see what it makes of the request";
    let filters = chain.http_filters.iter().filter(|filter| runs_somewhere(filter, chain));
    filters.filter_map(|filter| changed_afterwards(filter, hint, needs, chain, configuration)).collect()
}

/// Whether a filter runs for some requests at least: a route can enable one that is disabled.
pub fn runs_somewhere<'c>(filter: &Place<'c>, chain: &Chain<'c>) -> bool {
    let name = filter.text("name").unwrap_or_default();
    !filter.is_true("disabled") || !per_filter_configs(chain, name).is_empty()
}

/// Whether a filter runs for every request, as far as all routes of a configuration say it. A single route can disable it.
pub fn runs_everywhere<'c>(filter: &Place<'c>, chain: &Chain<'c>) -> bool {
    let name = filter.text("name").unwrap_or_default();
    !filter.is_true("disabled") || is_enabled_by_routes(chain, name)
}

/// Whether all routes enable the filter with this name.
pub fn is_enabled_by_routes(chain: &Chain<'_>, name: &str) -> bool {
    let enables =
        |routes: &Routes<'_>| routes.of_filter(name).any(|found| found.is_for_all && !found.config.is_true("disabled"));
    !chain.routes.is_empty() && chain.routes.iter().all(|routes| enables(routes))
}

/// The filters between the router and the application.
fn upstream_filters<'c>(chain: &Chain<'c>, configuration: &Configuration<'c>) -> Vec<Place<'c>> {
    let configs = chain.http_filters.iter().filter_map(|filter| Some(filter.typed_config()?.1));
    let of_router = configs.flat_map(|config| config.items("upstream_http_filters"));
    let named: Vec<_> = match chain.leads_to.chosen {
        // A client chooses among all of them.
        Some(_) => configuration.clusters.values().flatten().collect(),
        None => chain.leads_to.named.keys().filter_map(|name| configuration.clusters.get(name)).flatten().collect(),
    };
    let options = named.into_iter().filter_map(|cluster| cluster.get("typed_extension_protocol_options"));
    let options: Vec<_> = options.flat_map(|options| options.fields().collect::<Vec<_>>()).collect();
    let of_clusters = options.into_iter().flat_map(|(_, options)| options.message().1.items("http_filters"));
    of_router.chain(of_clusters).collect()
}

/// A part of a filter: itself, or a filter that it holds.
struct FilterPart<'c> {
    name: &'c str,
    /// `None`: it is not known.
    config: Option<Place<'c>>,
}

/// The filter, and the filters within it. A filter that only holds others is left out, if it holds any.
fn parts<'c>(filter: &Place<'c>, chain: &Chain<'c>, configuration: &Configuration<'c>) -> Vec<FilterPart<'c>> {
    let mut parts = Vec::new();
    for extension in configuration.extensions(filter) {
        if let Some(config) = &extension.config {
            add_parts(config, &mut parts);
        }
        parts.push(FilterPart { name: extension.name, config: extension.config });
    }
    let is_wrapper = |part: &FilterPart<'_>| WRAPPERS.contains(&short(part.name));
    if parts.iter().any(is_wrapper) {
        // Routes can give it others.
        for config in per_filter_configs(chain, filter.text("name").unwrap_or_default()) {
            add_parts(&config, &mut parts);
        }
        if parts.iter().any(|part| !is_wrapper(part)) {
            parts.retain(|part| !is_wrapper(part));
        }
    }
    parts
}

fn add_parts<'c>(place: &Place<'c>, parts: &mut Vec<FilterPart<'c>>) {
    // The router has filters of its own, which are looked at one by one.
    for (_, child) in place.children().filter(|(name, _)| name != "upstream_http_filters") {
        let (name, config) = child.message();
        if name.starts_with(HTTP) {
            parts.push(FilterPart { name, config: Some(config.clone()) });
        }
        add_parts(&config, parts);
    }
}

fn changed_afterwards<'c>(
    filter: &Place<'c>,
    hint: &str,
    needs: &Needs,
    chain: &Chain<'c>,
    configuration: &Configuration<'c>,
) -> Option<Finding> {
    parts(filter, chain, configuration).into_iter().find_map(|part| {
        let name = short_name(part.name);
        let because = match change(filter, &part, chain) {
            Some(Change::Nothing) => return None,
            Some(Change::Anything) => anything(needs)?,
            Some(Change::Perhaps) => needs.header(&[]).or_else(|| anything(needs).map(Because::milder))?,
            Some(Change::Headers(names)) => headers_matter(&names, needs)?,
            None => {
                let what =
                    format!("{name} is not known: if it changes the request, nobody has decided about the result");
                return Some(anything(needs)?.milder().report_behind(filter, &CHANGED_AFTERWARDS, &what, hint));
            }
        };
        let what = format!("{name} can change the request after the decision");
        Some(because.report_behind(filter, &CHANGED_AFTERWARDS, &what, hint))
    })
}

/// Why headers matter. A header can be the path, the method or the host.
fn headers_matter(names: &[String], needs: &Needs) -> Option<Because> {
    let is_more = |name: &String| name.starts_with(':') || name == "host";
    let of_more = if names.iter().any(is_more) { anything(needs) } else { None };
    of_more.or_else(|| needs.header(&names.iter().map(String::as_str).collect::<Vec<_>>()))
}

/// What a filter changes. `None`: nobody knows.
fn change<'c>(filter: &Place<'c>, part: &FilterPart<'c>, chain: &Chain<'c>) -> Option<Change> {
    let (_, effect) = EFFECTS.iter().find(|(known, _)| *known == short(part.name))?;
    Some(match effect {
        Effect::Nothing => Change::Nothing,
        Effect::Anything => Change::Anything,
        Effect::Headers(names) => headers(names),
        Effect::If(says) => {
            let of_routes = per_filter_configs(chain, filter.text("name").unwrap_or_default());
            let mut all = Vec::new();
            let of_routes = of_routes.iter().filter(|config| !config.is_true("disabled"));
            for config in part.config.iter().chain(of_routes) {
                match says(config) {
                    Change::Nothing => {}
                    Change::Headers(names) if names.is_empty() => return Some(Change::Headers(names)),
                    Change::Headers(names) => all.extend(names),
                    other => return Some(other),
                }
            }
            match part.config {
                None => Change::Perhaps,
                Some(_) if all.is_empty() => Change::Nothing,
                Some(_) => Change::Headers(all),
            }
        }
    })
}

/// Why a filter that changes anything matters.
fn anything(needs: &Needs) -> Option<Because> {
    let attributes = [(Attribute::Path, "paths"), (Attribute::Method, "methods"), (Attribute::Host, "hosts")];
    attributes.into_iter().find_map(|(attribute, what)| needs.attribute(attribute, what)).or_else(|| needs.header(&[]))
}

/// What a filter before ours does to what policies look at.
fn changed_before<'c>(
    filter: &Place<'c>,
    parts: &[FilterPart<'c>],
    needs: &Needs,
    chain: &Chain<'c>,
    configuration: &Configuration<'c>,
) -> Option<Finding> {
    if parts.iter().any(|part| short(part.name) == "grpc_json_transcoder.v3.GrpcJsonTranscoder") {
        let what = "the policies see the method of gRPC that this filter calls, and POST, in place of the path and the method of \
                    the request";
        let hint = "write the policies about `/package.Service/Method`";
        return Some(needs.not_grpc()?.report_behind(filter, &REWRITTEN, what, hint));
    }
    let name = filter.text("name").unwrap_or_default();
    let asks_always =
        |config: &Place<'c>| !config.is_true("failure_mode_allow") && config.get("filter_enabled").is_none();
    let is_skipped = !runs_everywhere(filter, chain)
        || per_filter_configs(chain, name).iter().any(|config| has(config, &["disabled"]))
        || configuration.extensions(filter).iter().any(|found| found.config.as_ref().is_some_and(|c| !asks_always(c)));
    if !is_skipped {
        return None;
    }
    parts.iter().find_map(|part| {
        let Some(Change::Headers(names)) = change(filter, part, chain) else { return None };
        // A filter that only takes its own headers away gives nothing that a policy could rely on.
        let is_relied_on = matches!(
            short(part.name).split('.').next(),
            Some("ext_authz" | "jwt_authn" | "basic_auth" | "api_key_auth" | "oauth2" | "ip_tagging" | "geoip")
        );
        let because = headers_matter(&names, needs).filter(|_| is_relied_on)?;
        let what = "where this filter does not run, a client itself sends the header that the filter sets";
        let hint = "let it run for every request";
        Some(because.report_behind(filter, &CHANGED_AFTERWARDS, what, hint))
    })
}

/// Whether one of these fields is set, at any depth.
fn has(place: &Place<'_>, fields: &[&str]) -> bool {
    let is_set = |field: &Place<'_>| match &field.node.value {
        Value::Bool(is_set) => *is_set,
        Value::List(items) => !items.is_empty(),
        _ => true,
    };
    place.children().any(|(name, child)| (fields.contains(&&*name) && is_set(&child)) || has(&child, fields))
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
fn switched_off<'c>(chain: &Chain<'c>, configuration: &Configuration<'c>, findings: &mut Vec<Finding>) {
    let off = |place: &Place<'_>, message: &str, hint: &str| place.error(&SWITCHED_OFF, message, hint);
    for ours in &chain.ours {
        for (setting, message) in [
            ("disabled", "the filter is disabled: it decides only where a route enables it"),
            ("is_optional", "an Envoy that cannot load the filter goes on without it"),
        ] {
            let is_meant = setting == "disabled" && is_enabled_by_routes(chain, ours.name());
            if let Some(place) = ours.filter.get(setting).filter(|_| ours.filter.is_true(setting) && !is_meant) {
                findings.push(off(&place, message, "remove it"));
            }
        }
        if ours.is_conditional {
            let message = "another filter decides for which requests the mesh-authz filter runs; the others pass";
            findings.push(off(&ours.filter, message, "put the mesh-authz filter itself into http_filters"));
        }
        for config in ours.per_filter_configs(chain).iter().filter(|config| config.is_true("disabled")) {
            let message = "here, the mesh-authz filter is disabled: requests pass without a decision";
            findings.push(off(config, message, "remove it"));
        }
    }
    for tunnel in chain.routes.iter().flat_map(|routes| &routes.tunnels) {
        let message = "Envoy ends a tunnel here, and nobody decides about the requests in it";
        findings.push(off(tunnel, message, "remove it, or lead the tunnel to a listener that has the filter"));
    }
    let clusters = chain.leads_to.named.keys().filter_map(|name| configuration.clusters.get(name)).flatten();
    for pool in clusters.filter_map(|cluster| cluster.get("upstream_config")) {
        if pool.typed_config().is_some_and(|(name, _)| name.ends_with("TcpConnectionPoolProto")) {
            let message = "the bodies of requests go on as a connection, and nobody decides about the requests in them";
            findings.push(off(&pool, message, "remove it"));
        }
    }
}

/// The upgrades for which a connection manager has filters of their own.
pub fn upgrades<'c>(chain: &Chain<'c>) -> Vec<Place<'c>> {
    let upgrades = chain.manager.iter().flat_map(|manager| manager.items("upgrade_configs"));
    let is_off = |upgrade: &Place<'c>| upgrade.get("enabled").is_some() && !upgrade.is_true("enabled");
    let may_be = |upgrade: &Place<'c>| {
        let kind = upgrade.text("upgrade_type").unwrap_or_default();
        let allows = |found: &Place<'c>| {
            !is_off(found) && found.text("upgrade_type").is_some_and(|found| found.eq_ignore_ascii_case(kind))
        };
        !is_off(upgrade) || chain.routes.iter().flat_map(|routes| &routes.upgrades).any(allows)
    };
    upgrades.filter(|upgrade| !upgrade.items("filters").is_empty() && may_be(upgrade)).collect()
}

/// The error that requests with an upgrade go around the filter.
pub fn around_by_upgrade(upgrade: &Place<'_>) -> Finding {
    let kind = upgrade.text("upgrade_type").unwrap_or_default();
    let message =
        format!("requests that ask for an upgrade to {kind} go through these filters only, without a decision");
    let place = upgrade.get("filters").unwrap_or_else(|| upgrade.clone());
    place.error(&SWITCHED_OFF, message, "add the mesh-authz filter, and what it needs, or remove `filters`")
}

/// Routes that disable the filters from which ours learns what the policies look at.
fn helpers_switched_off<'c>(
    chain: &Chain<'c>,
    needs: &Needs,
    configuration: &Configuration<'c>,
    findings: &mut Vec<Finding>,
) {
    for filter in chain.http_filters.iter().take(chain.first()) {
        let extensions = configuration.extensions(filter);
        let is = |name: &str| extensions.iter().any(|found| found.name == name);
        let (check, because) = if is(JWT_AUTHN) {
            (&TOKENS, needs.open_subject(Subject::Token, "tokens"))
        } else if is(SET_FILTER_STATE) {
            let address = needs.attribute(Attribute::SourceIp, "the address of the direct peer");
            (&DIRECT_PEER, address.or_else(|| needs.subject(Subject::Identity, "the peer's identity")))
        } else {
            continue;
        };
        let Some(because) = because else { continue };
        let name = filter.text("name").unwrap_or_default();
        for config in per_filter_configs(chain, name).iter().filter(|config| has(config, &["disabled"])) {
            let and = "a filter that shows it to ours is disabled here";
            findings.push(because.report(config, check, and, "remove it"));
        }
    }
}

/// The configurations of routes and virtual hosts for the filter with this name.
pub fn per_filter_configs<'c>(chain: &Chain<'c>, name: &str) -> Vec<Place<'c>> {
    let found = chain.routes.iter().flat_map(|routes| routes.of_filter(name));
    found.map(|found| found.config.clone()).collect()
}
