//! The `RequestAuthentication` resource, typed: `security.istio.io/v1` and `v1beta1`, every field.
//!
//! It says which tokens a workload verifies. The filter never sees it: in a cluster Istio makes of it the filter that
//! verifies tokens, and of a standalone Envoy's bootstrap the command does ([`crate::render::jwt`]). What Istio's
//! admission check refuses is refused here.

mod read;
mod uri;

use std::time::Duration;

use mesh_authz::policy::scope::Reach;
use mesh_authz::policy::{PolicyName, Target};

pub use self::read::{KIND, request_authentication};
pub use self::uri::{KeysUri, host_and_port};

/// A whole resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestAuthentication {
    /// `metadata.namespace` and `metadata.name`.
    pub name: PolicyName,
    /// `spec.selector`, `spec.targetRef` and `spec.targetRefs`: which workloads it is for.
    pub target: Target,
    /// `spec.jwtRules`.
    pub rules: Vec<JwtRule>,
}

impl RequestAuthentication {
    /// Which workloads it is for.
    #[must_use]
    pub fn reach(&self) -> Reach<'_> {
        Reach { namespace: &self.name.namespace, target: &self.target }
    }
}

/// One of `jwtRules`: an issuer, and where its tokens are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtRule {
    /// `issuer`; `None`: whoever signs with the keys.
    pub issuer: Option<String>,
    /// `audiences`; none: any.
    pub audiences: Vec<String>,
    /// `jwks` and `jwksUri`.
    pub keys: Keys,
    /// `fromHeaders`. With no place given anywhere, `Authorization: Bearer …` and the parameter `access_token`.
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
    /// `timeout`, of fetching keys.
    pub timeout: Option<Duration>,
    /// `spaceDelimitedClaims`.
    pub space_delimited_claims: Vec<String>,
}

/// Where the keys that verify signatures come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// `jwks`: they stand here.
    Inline(String),
    /// `jwksUri`: they are fetched.
    Remote(KeysUri),
    /// Neither: Istio asks the issuer where they are.
    Discovered,
}

/// One of `fromHeaders`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FromHeader {
    /// The header's name.
    pub name: String,
    /// What stands before the token.
    pub prefix: String,
}

/// One of `outputClaimToHeaders`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimToHeader {
    /// The header that is set.
    pub header: String,
    /// The claim whose value it gets.
    pub claim: String,
}
