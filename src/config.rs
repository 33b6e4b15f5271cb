//! The plugin configuration: what Envoy hands to the filter, JSON text or a protobuf `Struct`, and what it means.
//!
//! A configuration is accepted as a whole or refused as a whole, with every mistake in it named. Unknown fields are
//! mistakes.

mod fingerprint;
mod read;

pub use self::read::{WorkloadFields, gateway, namespace, trust_domain, workload};
use crate::engine::{Combining, Options};
use crate::identity::TrustDomains;
use crate::policy::scope::Workload;
use crate::policy::{AuthorizationPolicy, Labels};
use crate::request::Lookup;
use crate::request::metadata::DEFAULT_PAYLOAD_KEY;

/// The namespace whose policies are for every workload, unless the mesh says otherwise.
pub const DEFAULT_ROOT_NAMESPACE: &str = "istio-system";

/// The trust domain of a mesh that does not name one.
pub const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";

/// The combining algorithms, by name.
pub const COMBINING: [(&str, Combining); 2] =
    [("deny-overrides", Combining::DenyOverrides), ("permit-overrides", Combining::PermitOverrides)];

/// A configuration, valid.
#[derive(Debug)]
pub struct PluginConfig {
    /// Every policy in it, whether it applies or not.
    pub policies: Vec<AuthorizationPolicy>,
    /// The workload that the filter protects.
    pub workload: Workload,
    /// What else the meaning of the policies depends on.
    pub options: Options,
    /// Where the peer's identity comes from.
    pub principal_from: PrincipalFrom,
    /// Where the direct peer's address comes from.
    pub source_ip_from: SourceIpFrom,
    /// What a refused client gets.
    pub deny_response: DenyResponse,
    /// Which decisions are logged.
    pub decision_log: DecisionLog,
    /// So many of them a second in each worker.
    pub decision_log_rate: u32,
    /// Which decisions are left with the request, for access logs.
    pub filter_state: FilterState,
    /// Who sees in a refusal what it rests on.
    pub debug_header: Option<DebugHeader>,
    /// The same for the same configuration, in whichever encoding it came: 48 bits, which every reader of numbers keeps.
    pub hash: u64,
}

/// What Envoy's bootstrap, or Istio's, says about the workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeMetadata {
    /// `NAMESPACE`.
    pub namespace: Lookup<String>,
    /// `LABELS`.
    pub labels: Lookup<Labels>,
}

impl Default for NodeMetadata {
    fn default() -> Self {
        Self { namespace: Lookup::Absent, labels: Lookup::Absent }
    }
}

/// What is the same for all workloads of a mesh.
#[derive(Clone, Debug)]
pub struct Mesh {
    /// `trustDomain`.
    pub trust_domain: String,
    /// `trustDomainAliases`.
    pub aliases: Vec<String>,
    /// `rootNamespace`.
    pub root_namespace: String,
    /// `combining`.
    pub combining: Combining,
}

impl Default for Mesh {
    fn default() -> Self {
        Self {
            trust_domain: DEFAULT_TRUST_DOMAIN.to_owned(),
            aliases: Vec::new(),
            root_namespace: DEFAULT_ROOT_NAMESPACE.to_owned(),
            combining: Combining::default(),
        }
    }
}

impl Mesh {
    /// What the meaning of the mesh's policies depends on.
    #[must_use]
    pub fn options(&self) -> Options {
        Options {
            trust_domains: TrustDomains::new(self.trust_domain.clone(), self.aliases.clone()),
            combining: self.combining,
            jwt_payload_key: DEFAULT_PAYLOAD_KEY.to_owned(),
        }
    }
}

/// Where the peer's identity comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrincipalFrom {
    /// The certificate that the peer presented.
    #[default]
    PeerCertificate,
    /// Filter state `io.istio.peer_principal`, as waypoints set it.
    FilterState,
}

/// Where the direct peer's address comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceIpFrom {
    /// Filter state `mesh_authz.source_ip`, set by a filter before this one.
    #[default]
    FilterState,
    /// The address that Envoy derives, which a client can choose where X-Forwarded-For is trusted.
    RemoteAddress,
}

/// Which decisions are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DecisionLog {
    /// None.
    None,
    /// Those that refuse a request.
    #[default]
    Denied,
    /// All of them.
    All,
}

/// How many decisions are logged a second, unless the configuration says otherwise.
pub(crate) const DEFAULT_DECISION_LOG_RATE: u32 = 10;

/// Which decisions are left with the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FilterState {
    /// None.
    None,
    /// Those that say more than that the request was allowed: refusals, and what audits and dry runs have found.
    #[default]
    Notable,
    /// All of them.
    All,
}

/// A header in refusals that says what they rest on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugHeader {
    /// The header's name.
    pub name: String,
    /// The peers that get it, in the forms of `principals`.
    pub principals: Vec<String>,
}

/// What a refused client gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DenyResponse {
    /// 400 to 599.
    pub status: u16,
    /// The body.
    pub body: String,
    /// Further headers.
    pub headers: Vec<(String, String)>,
}

impl Default for DenyResponse {
    fn default() -> Self {
        Self { status: 403, body: "RBAC: access denied".to_owned(), headers: Vec::new() }
    }
}
