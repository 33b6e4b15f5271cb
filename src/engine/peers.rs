//! Principals that are listed outside a policy, such as those in `debugHeader`.

use super::evaluate::Evaluation;
use crate::identity::{IdentityMatcher, TrustDomains};
use crate::matcher::Wildcard;
use crate::request::{Attributes, Lookup};

/// A set of peers. Its principals mean the same as `principals` in an ALLOW policy.
#[derive(Debug)]
pub(crate) struct Peers(Box<[IdentityMatcher]>);

impl Peers {
    /// The peers that have one of these principals. As in a policy, a principal of the mesh means the same in all of
    /// the mesh's trust domains.
    #[must_use]
    pub fn named(principals: &[String], trust_domains: &TrustDomains) -> Self {
        let expanded = principals.iter().flat_map(|principal| trust_domains.expand_principal(principal));
        Self(expanded.map(|principal| IdentityMatcher::principal(&principal, Wildcard::Text)).collect())
    }

    /// Whether the peer that sent the request is in the set. A peer is not in the set if its only matching
    /// names are unreadable.
    pub(crate) fn include_peer_of(&self, attributes: &impl Attributes) -> bool {
        Evaluation::new(attributes).identity(&self.0) == Lookup::Value(true)
    }
}
