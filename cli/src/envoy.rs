//! Checks Envoy's own configuration: a bootstrap, or the `/config_dump` of a running Envoy. It finds what the decisions of the
//! filter depend on and is missing, and ways to an application that do not lead through the filter.
//!
//! | module | what it does |
//! | --- | --- |
//! | `catalogue` | the codes of the findings |
//! | `place` | a value of a configuration, with its place in a file |
//! | `configuration` | reads files; finds the listeners, routes, clusters and extensions in them |
//! | `chain` | the filter chains of the listeners, and the clusters to which they lead |
//! | `ours` | recognizes the filter, and reads its policies |
//! | `needs` | what the policies look at |
//! | `settings` | the settings that decisions depend on |
//! | `neighbours` | other filters, before and after the filter; what switches it off |
//! | `routes` | what route configurations say |
//! | `rewrites` | routes that change what the policies look at |
//! | `side_doors` | filter chains that lead to the same clusters without the filter |
//!
//! What the policies do not look at needs no setting. If they are unknown, they may look at anything.

mod catalogue;
mod chain;
mod configuration;
mod custom;
mod needs;
mod neighbours;
mod ours;
mod place;
mod rewrites;
mod routes;
mod settings;
mod side_doors;

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;

use mesh_authz::policy::AuthorizationPolicy;

pub use self::catalogue::{CATALOGUE, EnvoyCheck, find};
use self::chain::Chain;
use self::configuration::{Configuration, Documents};
use self::needs::Needs;
use self::ours::Ours;
use self::side_doors::Clusters;
use crate::load::InputError;
use crate::load::finding::Finding;

/// What a check of Envoy's configuration has found.
#[derive(Debug)]
pub struct Checked {
    pub findings: Vec<Finding>,
    /// Every filter chain that leads HTTP requests or connections anywhere.
    pub chains: Vec<ChainSummary>,
    /// How many different policies the filters have, together.
    pub policies: usize,
    /// What the surroundings of the filters are, for the lints.
    pub surroundings: Surroundings,
}

/// What the configuration says about the surroundings of its filters. Whatever it does not say is `false`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Surroundings {
    /// Envoy brings all spellings of a path to one, wherever there is a filter.
    pub normalizes_paths: bool,
    /// The Envoy is none of Istio's proxies.
    pub is_standalone: bool,
    /// A network filter chain has the filter.
    pub decides_tcp: bool,
}

/// A filter chain of a listener, in short.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChainSummary {
    /// The name of the listener, with its address if it has one.
    pub listener: String,
    /// The position of the chain in the listener. `None` for the default chain.
    pub chain: Option<usize>,
    /// Whether the filter decides about the requests of this chain.
    pub decides: Decides,
    /// The clusters to which it leads, sorted.
    pub clusters: Vec<String>,
}

/// Whether the filter decides about the requests of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Decides {
    Yes,
    /// The filter is not there.
    No,
    Disabled,
    NoPolicies,
    /// The filter lets through what the workload of a sidecar sends.
    Outgoing,
}

impl fmt::Display for Decides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Yes => "mesh-authz decides",
            Self::No => "without mesh-authz",
            Self::Disabled => "mesh-authz is disabled",
            Self::NoPolicies => "mesh-authz has no policies",
            Self::Outgoing => "mesh-authz lets pass what the workload sends",
        })
    }
}

/// Checks the configuration of one Envoy, which can be in several files. The policies are those of the filter, and these: they
/// count where the filter's own ones are not in the configuration.
///
/// # Errors
/// A file cannot be read.
pub fn check(files: &[PathBuf], given: &[&AuthorizationPolicy]) -> Result<Checked, InputError> {
    let documents = Documents::read(files)?;
    let mut findings = documents.errors();
    if documents.is_unreadable() {
        return Ok(Checked { findings, chains: Vec::new(), policies: 0, surroundings: Surroundings::default() });
    }
    if let (None, Some(file)) = (documents.all().next(), files.first()) {
        return Err(InputError { file: file.clone(), message: "has no configuration in it".to_owned() });
    }
    let configuration = Configuration::of(&documents);
    let chains = Chain::all(&configuration);
    let mut clusters = Clusters::of(&configuration, &chains);
    let protected = || chains.iter().filter(|chain| !chain.ours.is_empty());
    findings.extend(configuration.unknown());
    if protected().next().is_none() {
        findings.extend(ours::missing(&documents, &configuration, &chains));
    }
    findings.extend(ours::only_outgoing(&chains));
    findings.extend(ours::same_names(&chains));
    for chain in protected() {
        let upgrades = neighbours::upgrades(chain);
        let upgraded = upgrades.iter().map(|upgrade| (upgrade, chain.upgraded(upgrade, &configuration)));
        let upgraded: Vec<_> = upgraded.collect();
        let around = upgraded.iter().filter(|(_, chain)| chain.decides() != Decides::Yes);
        findings.extend(around.map(|(upgrade, _)| neighbours::around_by_upgrade(upgrade)));
        let through = upgraded.iter().map(|(_, chain)| chain).filter(|chain| !chain.ours.is_empty());
        for chain in std::iter::once(chain).chain(through) {
            findings.extend(chain.ours.iter().flat_map(Ours::mistakes));
            findings.extend(chain.ours.iter().flat_map(|ours| ours.differences(given)));
            findings.extend(chain.http_filters.iter().filter_map(|filter| configuration.several(filter)));
            let needs = Needs::of(&chain.ours, given);
            findings.extend(settings::missing(chain, &needs, &configuration));
            findings.extend(custom::missing(chain, &configuration));
            findings.extend(neighbours::around(chain, &needs, &configuration));
            findings.extend(rewrites::after_the_decision(chain, &needs));
            for behind in side_doors::behind(chain, &mut clusters) {
                findings.extend(rewrites::after_the_decision(behind, &needs));
                findings.extend(neighbours::behind(behind, &needs, &configuration));
            }
        }
    }
    findings.extend(side_doors::open(&mut clusters));
    let mut seen = HashSet::new();
    // What several chains share is found for each of them.
    findings.retain(|finding| seen.insert(finding.to_string()));
    let for_requests = || protected().filter(|chain| chain.manager.is_some());
    let is_of_istio = |id: &str| ["sidecar~", "router~", "waypoint~"].iter().any(|kind| id.starts_with(kind));
    let surroundings = Surroundings {
        normalizes_paths: for_requests().next().is_some()
            && for_requests().all(|chain| settings::normalizes_paths(chain, &configuration)),
        decides_tcp: protected().any(|chain| chain.manager.is_none()),
        is_standalone: configuration.node.as_ref().and_then(|node| node.text("id")).is_some_and(|id| !is_of_istio(id)),
    };
    let names = chains.iter().flat_map(|chain| &chain.ours).flat_map(Ours::policies).map(|policy| &policy.name);
    Ok(Checked {
        findings,
        policies: names.collect::<HashSet<_>>().len(),
        surroundings,
        chains: chains.iter().filter(|chain| chain.leads_anywhere()).map(Chain::summary).collect(),
    })
}
