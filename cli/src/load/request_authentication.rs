//! The typed `RequestAuthentication` resource of `security.istio.io/v1` and `v1beta1`, with every field.
//!
//! A `RequestAuthentication` says which tokens a workload verifies. Our filter never sees it. In a cluster, Istio turns
//! it into the filter that verifies tokens. In the bootstrap of a standalone Envoy, the command does this
//! ([`crate::render::jwt`]). This module refuses what Istio's admission check refuses.

mod jwk;
mod key_set;
mod read;
mod uri;

use std::time::Duration;

use mesh_authz::policy::scope::Reach;
use mesh_authz::policy::{PolicyName, Target};

pub use self::jwk::refusal;
pub use self::read::{KIND, duration, request_authentication};
pub use self::uri::{KeysUri, host_and_port};

/// A `RequestAuthentication`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestAuthentication {
    /// `metadata.namespace` and `metadata.name`.
    pub name: PolicyName,
    /// The label `istio.io/rev`: the revision of the control plane that it is for. `None`: it is for all.
    pub revision: Option<String>,
    /// `spec.selector`, `spec.targetRef` and `spec.targetRefs`: the workloads that it is for.
    pub target: Target,
    /// `spec.jwtRules`.
    pub rules: Vec<JwtRule>,
}

impl RequestAuthentication {
    /// The workloads that it is for, with its namespace.
    #[must_use]
    pub fn reach(&self) -> Reach<'_> {
        Reach { namespace: &self.name.namespace, target: &self.target, revision: self.revision.as_deref() }
    }
}

/// One of `jwtRules`: an issuer, its keys, and where requests carry its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtRule {
    /// `issuer`. `None`: any issuer that signs with the keys.
    pub issuer: Option<String>,
    /// `audiences`. Empty: any audience.
    pub audiences: Vec<String>,
    /// `jwks` and `jwksUri`.
    pub keys: Keys,
    /// `fromHeaders`. If no header, parameter or cookie is given, tokens are taken from `Authorization: Bearer …` and
    /// from the parameter `access_token`.
    pub from_headers: Vec<FromHeader>,
    /// `fromParams`.
    pub from_params: Vec<String>,
    /// `fromCookies`.
    pub from_cookies: Vec<String>,
    /// `outputPayloadToHeader`.
    pub output_payload_to_header: Option<String>,
    /// `forwardOriginalToken`.
    pub forward_original_token: bool,
    /// `outputClaimToHeaders`.
    pub output_claim_to_headers: Vec<ClaimToHeader>,
    /// `timeout` for fetching the keys.
    pub timeout: Option<Duration>,
    /// `spaceDelimitedClaims`.
    pub space_delimited_claims: Vec<String>,
    /// `presence`.
    pub presence: Presence,
}

/// `presence`: whether a request must have a token of this rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// A request may have a token. Only a token that is not valid is refused.
    #[default]
    Optional,
    /// A request without a valid token is refused, whatever other tokens it has.
    Required,
}

/// Claims that are lists of words separated by spaces, for every rule, as in Istio.
pub const SPACE_DELIMITED: [&str; 2] = ["permission", "scope"];

/// Where the keys that verify signatures come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// `jwks`: the keys themselves, as the text of a JSON Web Key Set.
    Inline(String),
    /// `jwksUri`: the URL that the keys are fetched from.
    Remote(KeysUri),
    /// Neither: Istio asks the issuer where the keys are.
    Discovered,
}

/// One of `fromHeaders`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FromHeader {
    /// The header's name.
    pub name: String,
    /// The text before the token in the header's value.
    pub prefix: String,
}

/// One of `outputClaimToHeaders`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimToHeader {
    /// The name of the header that is set.
    pub header: String,
    /// The name of the claim whose value the header gets.
    pub claim: String,
}
