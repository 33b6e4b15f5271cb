//! The plugin configuration: its form, and its meaning. Envoy hands it to the filter as JSON text or as a protobuf
//! `Struct`.
//!
//! A configuration is accepted as a whole or refused as a whole. A refusal names every mistake. An unknown field is a
//! mistake.

mod apart;
mod fingerprint;
mod gateway;
mod on_invalid;
mod outgoing;
mod read;

pub use self::gateway::gateway;
pub use self::on_invalid::{OnInvalid, workload_of};
pub use self::outgoing::Outgoing;
pub use self::read::{WorkloadFields, namespace, trust_domain, workload};
use crate::engine::{Combining, Custom, Options};
use crate::identity::TrustDomains;
use crate::policy::scope::{Gateway, Workload};
use crate::policy::{AuthorizationPolicy, Labels, Traffic};
use crate::request::Lookup;
use crate::request::metadata::DEFAULT_PAYLOAD_KEY;

/// The default root namespace. The policies of the root namespace are for every workload.
pub const DEFAULT_ROOT_NAMESPACE: &str = "istio-system";

/// The default trust domain of a mesh.
pub const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";

/// The combining algorithms, by their names in a configuration.
pub const COMBINING: [(&str, Combining); 2] =
    [("deny-overrides", Combining::DenyOverrides), ("permit-overrides", Combining::PermitOverrides)];

/// Who asks the providers of CUSTOM policies, by their names in a configuration.
pub const CUSTOM: [(&str, Custom); 3] =
    [("refuse", Custom::Refuse), ("native", Custom::Native), ("native-each", Custom::NativeEach)];

/// A valid configuration.
#[derive(Debug)]
pub struct PluginConfig {
    /// Every policy in the configuration, including those that do not apply to the workload.
    pub policies: Vec<AuthorizationPolicy>,
    /// The workload that the filter protects.
    pub workload: Workload,
    /// The other settings that change what the policies mean.
    pub options: Options,
    /// Where the filter gets the peer's identity from.
    pub principal_from: PrincipalFrom,
    /// Where the filter gets the direct peer's address from.
    pub source_ip_from: SourceIpFrom,
    /// What becomes of the requests that a sidecar's workload sends.
    pub outgoing: Outgoing,
    /// What becomes of a request whose path Envoy has not normalized.
    pub paths: Paths,
    /// The response to a refused request.
    pub deny_response: DenyResponse,
    /// Which decisions are logged.
    pub decision_log: DecisionLog,
    /// At most this many log lines per second and worker, counted separately for denied requests, for those that dry-run
    /// policies would deny, and for other allowed requests.
    pub decision_log_rate: u32,
    /// Which decisions are stored with the request as filter state, for access logs.
    pub filter_state: StoredDecisions,
    /// The header that explains a refusal, and the peers that get it.
    pub debug_header: Option<DebugHeader>,
    /// A hash of the configuration. It is the same for JSON text and for a `Struct`. It has 48 bits, so that every
    /// program that reads it as a number keeps all of them.
    pub hash: u64,
}

/// What Envoy's bootstrap, or Istio's, says about the workload in `node.metadata`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeMetadata {
    /// `NAMESPACE`: the namespace of the workload.
    pub namespace: Lookup<String>,
    /// `LABELS`: the labels of the workload.
    pub labels: Lookup<Labels>,
    /// Whether the node id says that the proxy is a sidecar or a gateway of Istio.
    pub is_no_waypoint: bool,
}

impl NodeMetadata {
    /// The metadata of a workload in this namespace, whose labels are unknown.
    #[must_use]
    pub fn in_namespace(name: &str) -> Self {
        Self { namespace: Lookup::Value(name.to_owned()), ..Self::default() }
    }
}

impl Default for NodeMetadata {
    fn default() -> Self {
        Self { namespace: Lookup::Absent, labels: Lookup::Absent, is_no_waypoint: false }
    }
}

/// The settings that are the same for all workloads of a mesh.
#[derive(Clone, Debug)]
pub struct Mesh {
    /// `trustDomain`: the trust domain of the mesh.
    pub trust_domain: String,
    /// `trustDomainAliases`: further trust domains, with the same identities as `trustDomain`.
    pub aliases: Vec<String>,
    /// `rootNamespace`: the namespace whose policies are for every workload.
    pub root_namespace: String,
    /// `combining`: the combining algorithm.
    pub combining: Combining,
    /// Whether CUSTOM policies of a workload may name several providers: the setting
    /// `PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS` of istiod.
    pub several_providers: bool,
}

impl Default for Mesh {
    fn default() -> Self {
        Self {
            trust_domain: DEFAULT_TRUST_DOMAIN.to_owned(),
            aliases: Vec::new(),
            root_namespace: DEFAULT_ROOT_NAMESPACE.to_owned(),
            combining: Combining::default(),
            several_providers: false,
        }
    }
}

impl Mesh {
    /// How Envoy asks the providers of CUSTOM policies in this mesh.
    #[must_use]
    pub fn custom(&self) -> Custom {
        if self.several_providers { Custom::NativeEach } else { Custom::Native }
    }

    /// The engine's options for the policies of this mesh. The key of a token's payload is the default one.
    #[must_use]
    pub fn options(&self) -> Options {
        Options {
            trust_domains: TrustDomains::new(self.trust_domain.clone(), self.aliases.clone()),
            combining: self.combining,
            custom: Custom::Refuse,
            jwt_payload_key: DEFAULT_PAYLOAD_KEY.to_owned(),
            traffic: Traffic::Http,
        }
    }
}

/// Where the filter gets the peer's identity from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrincipalFrom {
    /// The certificate that the peer presented.
    #[default]
    PeerCertificate,
    /// The filter state `io.istio.peer_principal`, which waypoints set.
    FilterState,
}

impl PrincipalFrom {
    /// Where a workload has it. The peers of a waypoint come through a tunnel that ends before the waypoint, so the waypoint
    /// never sees their certificates.
    #[must_use]
    pub fn of(gateway: Option<&Gateway>) -> Self {
        if gateway.is_some_and(|gateway| gateway.waypoint) { Self::FilterState } else { Self::PeerCertificate }
    }
}

/// What becomes of a request whose path Envoy has not normalized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Paths {
    /// `as-sent`: the policies decide about the path as it is. The filter counts it, and warns once.
    #[default]
    AsSent,
    /// `strict`: the filter refuses the request.
    Strict,
}

/// Where the filter gets the direct peer's address from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceIpFrom {
    /// The filter state `mesh_authz.peer`, which a filter before this one sets.
    #[default]
    FilterState,
    /// The address that Envoy derives. A client can choose it if Envoy trusts X-Forwarded-For.
    RemoteAddress,
}

/// Which decisions are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DecisionLog {
    /// No decisions.
    None,
    /// Decisions that refuse a request, or that dry-run policies would change into a refusal.
    #[default]
    Denied,
    /// All decisions.
    All,
}

/// The default number of log lines per second.
pub(crate) const DEFAULT_DECISION_LOG_RATE: u32 = 10;

/// Which decisions are stored with the request as filter state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoredDecisions {
    /// No decisions.
    None,
    /// Decisions that say more than that the request was allowed: refusals, and results of audits and dry runs.
    #[default]
    Notable,
    /// All decisions.
    All,
}

/// A header that explains a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugHeader {
    /// The name of the header.
    pub name: String,
    /// The peers that get the header, in the forms that `principals` takes.
    pub principals: Vec<String>,
}

/// The response to a refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DenyResponse {
    /// The HTTP status, 400 to 599.
    pub status: u16,
    /// The body, as text.
    pub body: String,
    /// Further headers, as pairs of name and value.
    pub headers: Vec<(String, String)>,
}

impl Default for DenyResponse {
    fn default() -> Self {
        Self { status: 403, body: "RBAC: access denied".to_owned(), headers: Vec::new() }
    }
}
