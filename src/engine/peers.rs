//! Principals without a policy around them.

use super::evaluate::Evaluation;
use crate::identity::{IdentityMatcher, TrustDomains};
use crate::matcher::Wildcard;
use crate::request::{Attributes, Lookup};

/// Peers, named as an ALLOW policy names them in `principals`.
#[derive(Debug)]
pub(crate) struct Peers(Box<[IdentityMatcher]>);

impl Peers {
    /// Those that one of these stands for.
    #[must_use]
    pub fn named(principals: &[String], trust_domains: &TrustDomains) -> Self {
        let expanded = principals.iter().flat_map(|principal| trust_domains.expand_principal(principal));
        Self(expanded.map(|principal| IdentityMatcher::principal(&principal, Wildcard::Text)).collect())
    }

    /// Whether the peer that has sent the request is one of them. One whose names cannot be read is not.
    pub(crate) fn include_peer_of(&self, attributes: &impl Attributes) -> bool {
        Evaluation::new(attributes).identity(&self.0) == Lookup::Value(true)
    }
}
