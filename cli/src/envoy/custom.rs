//! CUSTOM policies whose providers Envoy's own filters have to ask: those of a filter with `custom: native`.

use std::collections::BTreeMap;

use mesh_authz::engine::Custom;
use mesh_authz::policy::Action;
use mesh_authz::request::metadata::{EFFECTIVE_POLICY, RBAC};

use super::catalogue::PROVIDER;
use super::chain::Chain;
use super::configuration::Configuration;
use super::neighbours::{per_filter_configs, runs_everywhere};
use super::ours::Ours;
use super::place::Place;
use crate::load::finding::Finding;
use crate::render::rbac::custom::{PREFIX, STAT_PREFIX};

const RBAC_CONFIG: &str = "envoy.extensions.filters.http.rbac.v3.RBAC";
const EXT_AUTHZ: &str = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz";

const HINT: &str = "`mesh-authz render filters` prints the filters that ask; put them before this filter";

/// What is missing so that the providers are asked.
pub fn missing<'c>(chain: &Chain<'c>, configuration: &Configuration<'c>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let leaves_it_to_envoy =
        |ours: &&Ours<'c>| ours.config.as_ref().is_some_and(|config| config.options.custom == Custom::Native);
    for ours in chain.ours.iter().filter(leaves_it_to_envoy) {
        let custom = ours.policies().filter(|policy| policy.action == Action::Custom);
        let providers: BTreeMap<_, _> =
            custom.filter_map(|policy| Some((policy.provider.as_deref()?, &policy.name))).collect();
        for (provider, policy) in providers {
            let because = format!("CUSTOM policy {policy} names the provider {provider}");
            findings.extend(unless_asked(provider, &because, ours, chain, configuration));
        }
    }
    findings
}

fn unless_asked<'c>(
    provider: &str,
    because: &str,
    ours: &Ours<'c>,
    chain: &Chain<'c>,
    configuration: &Configuration<'c>,
) -> Vec<Finding> {
    let asking = chain.http_filters.iter().take(ours.index).enumerate().find_map(|(index, filter)| {
        let config = configuration.config(filter, EXT_AUTHZ).filter(|config| asks_about(config, provider))?;
        Some((index, filter, config))
    });
    let Some((index, filter, config)) = asking else {
        let message = format!("{because}, and no ext_authz before this filter asks it");
        return vec![ours.filter.error(&PROVIDER, message, HINT)];
    };
    let finds_what_matches = |filter: &&Place<'c>| {
        let config = configuration.config(filter, RBAC_CONFIG);
        config.is_some_and(|config| config.text("shadow_rules_stat_prefix") == Some(STAT_PREFIX))
    };
    let Some(rbac) = chain.http_filters.iter().take(index).find(finds_what_matches) else {
        let message = format!(
            "{because}, and no RBAC filter before this one finds out what the policy matches: no request passes"
        );
        return vec![filter.error(&PROVIDER, message, HINT)];
    };
    let switched_off = [rbac, filter].into_iter().filter_map(|filter| switched_off(filter, chain, because));
    switched_off.chain(open(&config, chain, because)).collect()
}

/// Whether `ext_authz` asks about requests that match a policy with this provider.
fn asks_about(config: &Place<'_>, provider: &str) -> bool {
    let Some(condition) = config.get("filter_enabled_metadata") else { return true };
    let keys: Vec<_> = condition.items("path").iter().filter_map(|segment| segment.text("key")).collect();
    let prefix = condition.at(["value", "string_match"]).and_then(|text| text.text("prefix"));
    condition.text("filter") == Some(RBAC)
        && keys == [EFFECTIVE_POLICY]
        && !condition.is_true("invert")
        && prefix.is_some_and(|prefix| format!("{PREFIX}-{provider}-").starts_with(prefix))
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
    if let Some(enabled) = config.get("filter_enabled") {
        let message = format!("{because}, and Envoy asks it about a share of the requests only");
        findings.push(enabled.error(&PROVIDER, message, "remove it"));
    }
    let Some(fails_open) = config.get("failure_mode_allow").filter(|_| config.is_true("failure_mode_allow")) else {
        return findings;
    };
    let message = format!("{because}, and requests pass while it does not answer");
    findings.push(fails_open.warning(&PROVIDER, message, "remove it, or accept it with --allow ME020"));
    let upgrades = chain.manager.iter().flat_map(|manager| manager.items("upgrade_configs"));
    let is_connect =
        |upgrade: &Place<'_>| upgrade.text("upgrade_type").is_some_and(|kind| kind.eq_ignore_ascii_case("CONNECT"));
    if let Some(connect) = upgrades.into_iter().find(is_connect) {
        let message = format!(
            "{because} with `failure_mode_allow`, and Envoy then lets a CONNECT request pass that the provider refuses"
        );
        findings.push(connect.error(&PROVIDER, message, "remove one of the two"));
    }
    findings
}
