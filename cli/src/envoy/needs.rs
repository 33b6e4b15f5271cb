//! What the policies look at, so that Envoy's configuration must provide it.

use std::collections::BTreeMap;

use mesh_authz::attribute::{Attribute, Subject};
use mesh_authz::policy::AuthorizationPolicy;

use super::ours::Ours;

/// What the policies look at.
#[derive(Debug)]
pub struct Needs {
    /// A policy that looks at the attribute.
    by: BTreeMap<Attribute, String>,
    /// Whether there are policies that are not known.
    has_unknown: bool,
}

impl Needs {
    /// What the policies of these filters look at. If the policies of one are unknown, the others count for it, if there are any.
    pub fn of(filters: &[Ours<'_>], given: &[&AuthorizationPolicy]) -> Self {
        let mut by = BTreeMap::new();
        for policy in filters.iter().flat_map(Ours::policies).chain(given.iter().copied()) {
            for predicate in policy.predicates() {
                by.entry(predicate.attribute()).or_insert_with(|| policy.name.to_string());
            }
        }
        Self { by, has_unknown: given.is_empty() && !filters.iter().all(Ours::is_known) }
    }

    /// Why this attribute counts, as a clause. `None`: no policy looks at it.
    pub fn attribute(&self, attribute: Attribute, what: &str) -> Option<String> {
        self.any(|found| found == attribute, what)
    }

    /// Why attributes of this subject count, as a clause. `None`: no policy looks at them.
    pub fn subject(&self, subject: Subject, what: &str) -> Option<String> {
        self.any(|found| found.info().subject == subject, what)
    }

    fn any(&self, is_meant: impl Fn(Attribute) -> bool, what: &str) -> Option<String> {
        match self.by.iter().find(|(attribute, _)| is_meant(**attribute)) {
            Some((_, name)) => Some(format!("policy {name} looks at {what}")),
            None => self.has_unknown.then(|| format!("the policies are not in the input, and may look at {what}")),
        }
    }
}
