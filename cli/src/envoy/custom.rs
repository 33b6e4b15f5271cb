//! CUSTOM policies whose providers Envoy's own filters have to ask: those of a filter with `custom: native`.

use std::collections::BTreeMap;

use mesh_authz::engine::Custom;
use mesh_authz::policy::{Action, AuthorizationPolicy};
use mesh_authz::request::metadata::{EFFECTIVE_POLICY, NETWORK_RBAC, RBAC, RULE_PREFIX};

use super::catalogue::PROVIDER;
use super::chain::Chain;
use super::configuration::Configuration;
use super::neighbours::{per_filter_configs, runs_everywhere};
use super::ours::Ours;
use super::place::{Place, snake_case};
use crate::load::finding::Finding;

/// The messages of the two filters, and the namespace in which the first one stores what it finds.
struct Names {
    rbac: &'static str,
    ext_authz: &'static str,
    stored: &'static str,
}

const FOR_REQUESTS: Names = Names {
    rbac: "envoy.extensions.filters.http.rbac.v3.RBAC",
    ext_authz: "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
    stored: RBAC,
};
const FOR_CONNECTIONS: Names = Names {
    rbac: "envoy.extensions.filters.network.rbac.v3.RBAC",
    ext_authz: "envoy.extensions.filters.network.ext_authz.v3.ExtAuthz",
    stored: NETWORK_RBAC,
};

const HINT: &str = "`mesh-authz render filters` prints the filters that ask; put them before this filter";

/// The fields of `ext_authz` with which it still refuses what the provider refuses. Others are newer, or switch that off.
const KNOWN: [&str; 24] = [
    "allowed_headers",
    "bootstrap_metadata_labels_key",
    "charge_cluster_response_stats",
    "clear_route_cache",
    "decoder_header_mutation_rules",
    "deny_at_disable",
    "disallowed_headers",
    "emit_filter_state_stats",
    "enable_dynamic_metadata_ingestion",
    "encode_raw_headers",
    "failure_mode_allow",
    "failure_mode_allow_header_add",
    "filter_enabled",
    "filter_enabled_metadata",
    "filter_metadata",
    "grpc_service",
    "http_service",
    "include_peer_certificate",
    "include_tls_session",
    "stat_prefix",
    "status_on_error",
    "transport_api_version",
    "validate_mutations",
    "with_request_body",
];

/// What is missing so that the providers are asked.
pub fn missing<'c>(chain: &Chain<'c>, configuration: &Configuration<'c>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for ours in &chain.ours {
        let Some(custom) = ours.config.as_ref().map(|config| config.options.custom) else { continue };
        if custom == Custom::Refuse {
            continue;
        }
        let mut providers: BTreeMap<&str, Vec<&AuthorizationPolicy>> = BTreeMap::new();
        for policy in ours.policies().filter(|policy| policy.action == Action::Custom) {
            providers.entry(policy.provider.as_deref().unwrap_or_default()).or_default().push(policy);
        }
        for (provider, policies) in providers {
            findings.extend(unless_asked(provider, custom, &policies, ours, chain, configuration));
        }
    }
    findings
}

fn unless_asked<'c>(
    provider: &str,
    custom: Custom,
    policies: &[&AuthorizationPolicy],
    ours: &Ours<'c>,
    chain: &Chain<'c>,
    configuration: &Configuration<'c>,
) -> Vec<Finding> {
    let Some(first) = policies.first() else { return Vec::new() };
    let because = format!("CUSTOM policy {} names the provider {provider}", first.name);
    let stat_prefix = custom.stat_prefix(provider);
    let names = if chain.manager.is_some() { FOR_REQUESTS } else { FOR_CONNECTIONS };
    let filters = chain.filters();
    let asking = filters.iter().take(ours.index).enumerate().find_map(|(index, filter)| {
        let config = configuration
            .config(filter, names.ext_authz)
            .filter(|config| asks_about(config, provider, &stat_prefix, names.stored))?;
        Some((index, filter, config))
    });
    let Some((index, filter, config)) = asking else {
        let message = format!("{because}, and no ext_authz before this filter asks about what this provider decides");
        return vec![ours.filter.error(&PROVIDER, message, HINT)];
    };
    let stores = |filter: &&Place<'c>| {
        let config = configuration.config(filter, names.rbac);
        config.is_some_and(|config| config.text("shadow_rules_stat_prefix") == Some(&stat_prefix))
    };
    // Of several, each one takes the place of what the one before has found.
    let Some(rbac) = filters.get(..index).unwrap_or_default().iter().rfind(stores) else {
        let message = format!(
            "{because}, and no RBAC filter before this one finds out what the policy matches: no request passes"
        );
        return vec![filter.error(&PROVIDER, message, HINT)];
    };
    let known = configuration.config(rbac, names.rbac).and_then(|config| config.at(["shadow_rules", "policies"]));
    let has = |name: &str| known.iter().any(|rules| rules.node.get(name).is_some());
    let rules = policies.iter().flat_map(|policy| (0..policy.rules.len()).map(move |index| (&policy.name, index)));
    let lacking = rules.filter(|(name, index)| {
        !has(&format!("{RULE_PREFIX}-{provider}-ns[{}]-policy[{}]-rule[{index}]", name.namespace, name.name))
    });
    let lacking = lacking.map(|(name, index)| {
        let message = format!(
            "the RBAC filter before ext_authz has no rule {index} of CUSTOM policy {name} with the provider {provider}: it is not asked \
             about what the rule matches"
        );
        rbac.error(&PROVIDER, message, HINT)
    });
    let switched_off = [rbac, filter].into_iter().filter_map(|filter| switched_off(filter, chain, &because));
    lacking.chain(switched_off).chain(open(&config, chain, &because)).collect()
}

/// Whether `ext_authz` asks about requests that match a policy with this provider, and not about those of a provider whose
/// name begins this one's.
fn asks_about(config: &Place<'_>, provider: &str, stat_prefix: &str, stored: &str) -> bool {
    let Some(condition) = config.get("filter_enabled_metadata") else { return false };
    let keys: Vec<_> = condition.items("path").iter().filter_map(|segment| segment.text("key")).collect();
    let prefix = condition.at(["value", "string_match"]).and_then(|text| text.text("prefix"));
    let own = format!("{RULE_PREFIX}-{provider}");
    condition.text("filter") == Some(stored)
        && keys == [format!("{stat_prefix}{EFFECTIVE_POLICY}")]
        && !condition.is_true("invert")
        && prefix.is_some_and(|prefix| ["", "-", "-ns["].iter().any(|end| prefix.strip_prefix(&own) == Some(end)))
}

/// What takes one of the two filters out of the way of some requests.
fn switched_off(filter: &Place<'_>, chain: &Chain<'_>, because: &str) -> Option<Finding> {
    let name = filter.text("name").unwrap_or_default();
    let hint = "remove it, or accept it with --allow ME020";
    if !runs_everywhere(filter, chain) {
        let disabled = filter.get("disabled").unwrap_or_else(|| filter.clone());
        return Some(disabled.error(
            &PROVIDER,
            format!("{because}, and this filter, which it needs, is disabled"),
            hint,
        ));
    }
    let of_route = per_filter_configs(chain, name).into_iter().next()?;
    let message = format!("{because}, and this changes or disables a filter that it needs, for a route");
    Some(of_route.error(&PROVIDER, message, hint))
}

/// Settings with which requests pass that the provider has not allowed.
fn open(config: &Place<'_>, chain: &Chain<'_>, because: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, place) in config.fields().filter(|(name, _)| *name != "@type" && !KNOWN.contains(&&*snake_case(name))) {
        let message = format!("{because}, and `{name}` can let requests pass that it refuses, or is not known here");
        findings.push(place.error(&PROVIDER, message, "remove it, or accept it with --allow ME020"));
    }
    if let Some(enabled) = config.get("filter_enabled") {
        let message = format!("{because}, and Envoy asks it about a share of the requests only");
        findings.push(enabled.error(&PROVIDER, message, "remove it"));
    }
    let Some(fails_open) = config.get("failure_mode_allow").filter(|_| config.is_true("failure_mode_allow")) else {
        return findings;
    };
    let message = format!(
        "{because}, and requests pass while it does not answer or answers 5xx: a client may be able to cause that"
    );
    findings.push(fails_open.warning(&PROVIDER, message, "remove it, or accept it with --allow ME020"));
    let upgrades = chain.manager.iter().flat_map(|manager| manager.items("upgrade_configs"));
    let is_connect =
        |upgrade: &Place<'_>| upgrade.text("upgrade_type").is_some_and(|kind| kind.eq_ignore_ascii_case("CONNECT"));
    // Over gRPC, Envoy asks about a CONNECT as about any other request.
    let over_http = config.get("http_service").is_some();
    if let Some(connect) = upgrades.into_iter().find(is_connect).filter(|_| over_http) {
        let message = format!(
            "{because} with `failure_mode_allow`, and Envoy, which cannot ask about a CONNECT over HTTP, lets every CONNECT pass"
        );
        findings.push(connect.error(&PROVIDER, message, "remove one of the two"));
    }
    findings
}
