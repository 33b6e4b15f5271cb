//! The `AuthorizationPolicy` resource as Rust types: `security.istio.io/v1` and `v1beta1`, every field.
//!
//! A field of a `source`, a field of an `operation` and a `when` condition all have the same form, a [`Predicate`]. A
//! predicate names an attribute of the request and two lists of values: one of the values must match, and none of the
//! `not` values may match.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`read`] | builds these types, and refuses everything that they cannot hold |
//! | `validate` | makes the checks that involve several fields |
//! | [`scope`] | says which policies apply to a workload |
//! | [`waypoint`] | tells which service of a waypoint a request is for |

pub mod key;
mod labels;
pub mod read;
pub mod resource;
pub mod scope;
pub(crate) mod validate;
pub mod value;
pub mod waypoint;

use std::fmt;

pub use self::labels::{Labels, is_only_known_to_istiod};
pub use self::value::{Cidr, Form, MetadataValue, PathValue, ServiceAccount};
use crate::attribute::{Attribute, Info, Key};
use crate::diagnostic::{Path, Segment};

/// A whole `AuthorizationPolicy` resource.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthorizationPolicy {
    /// `metadata.namespace` and `metadata.name`.
    pub name: PolicyName,
    /// The label `istio.io/rev`: the revision of the control plane that the policy is for. `None`: it is for all.
    pub revision: Option<String>,
    /// The annotation `istio.io/dry-run`. Such a policy is evaluated and reported, but it never decides.
    pub dry_run: bool,
    /// What happens to a request that the policy matches.
    pub action: Action,
    /// `spec.selector`, `spec.targetRef` and `spec.targetRefs`: the workloads that the policy is for.
    pub target: Target,
    /// `spec.rules`. A policy without rules never matches.
    pub rules: Vec<Rule>,
    /// `spec.provider.name`. Only CUSTOM policies have it.
    pub provider: Option<String>,
}

/// The namespace of a resource that does not name one, as with kubectl.
pub const DEFAULT_NAMESPACE: &str = "default";

/// The full name of a policy. It prints as `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyName {
    /// `metadata.namespace`, or `default` if that is absent.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What happens to a request that a policy matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// The request may pass, unless another policy says otherwise.
    #[default]
    Allow,
    /// The request may not pass.
    Deny,
    /// The request is recorded.
    Audit,
    /// The policy's provider is asked.
    Custom,
}

impl Action {
    /// Every action, with its name in policies.
    pub const NAMES: [(&'static str, Self); 4] =
        [("ALLOW", Self::Allow), ("DENY", Self::Deny), ("AUDIT", Self::Audit), ("CUSTOM", Self::Custom)];
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "ALLOW",
            Self::Deny => "DENY",
            Self::Audit => "AUDIT",
            Self::Custom => "CUSTOM",
        })
    }
}

/// What a policy is read for. A policy has two forms, because HTTP requests have attributes that TCP connections do not
/// have ([`Attribute::is_http_only`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Traffic {
    /// HTTP requests: the policy as it is written.
    #[default]
    Http,
    /// TCP connections. If a rule has a field or a condition that only HTTP has, an ALLOW policy leaves out the rule, and a
    /// policy of another action leaves out the field or the condition.
    Tcp,
}

impl Traffic {
    /// Whether the rule counts, in a policy of this action. A policy none of whose rules counts never matches.
    #[must_use]
    pub fn has_rule(self, action: Action, rule: &Rule) -> bool {
        action != Action::Allow || rule.predicates().all(|predicate| self.has(predicate))
    }

    /// Whether the field or the condition counts, in a rule that does.
    #[must_use]
    pub fn has(self, predicate: &Predicate) -> bool {
        self == Self::Http || !predicate.attribute().is_http_only()
    }
}

impl AuthorizationPolicy {
    /// The fields and conditions of all rules.
    pub fn predicates(&self) -> impl Iterator<Item = &Predicate> {
        self.rules.iter().flat_map(Rule::predicates)
    }
}

/// The workloads that a policy is for: those of its own namespace or, if that is the root namespace, those of all
/// namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// All workloads.
    Everything,
    /// The workloads that carry all of these labels.
    Labels(Labels),
    /// The gateways and waypoints that at least one of these references names.
    References(Vec<TargetReference>),
}

/// `spec.targetRef`, or one entry of `spec.targetRefs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetReference {
    /// The kind of the resource that the reference names.
    pub kind: TargetKind,
    /// The name of that resource. It is in the policy's namespace.
    pub name: String,
}

/// The kinds of resource that a target reference may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// A Kubernetes Service, behind a waypoint.
    Service,
    /// An Istio `ServiceEntry`, behind a waypoint.
    ServiceEntry,
    /// A Gateway of the Gateway API.
    Gateway,
    /// A `GatewayClass` of the Gateway API: all waypoints, if the policy is in the root namespace.
    GatewayClass,
}

impl TargetKind {
    /// Whether it is a service behind a waypoint.
    #[must_use]
    pub fn is_service(self) -> bool {
        matches!(self, Self::Service | Self::ServiceEntry)
    }
}

/// One rule of a policy. It matches if its sources, its operations and its conditions all match.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// Where the request comes from. `None`: from anywhere.
    pub from: Option<AnyOf<Source>>,
    /// What the request wants to do. `None`: anything.
    pub to: Option<AnyOf<Operation>>,
    /// Further conditions, all of which must hold.
    pub when: AllOf<Predicate>,
}

impl Rule {
    /// The fields of all sources and operations, and the conditions.
    pub fn predicates(&self) -> impl Iterator<Item = &Predicate> {
        let sources = self.from.iter().flat_map(|from| &from.0);
        let operations = self.to.iter().flat_map(|to| &to.0);
        sources.chain(operations).chain([&self.when]).flat_map(|all| &all.0)
    }

    /// How many times Istio expands the trust domains of the principals in `when`: once for each entry of `from`.
    #[must_use]
    pub fn expansions(&self) -> usize {
        self.from.as_ref().map_or(1, |from| from.0.len().max(1))
    }
}

/// One part of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Clause {
    /// The source at this position of `from`.
    From(usize),
    /// The operation at this position of `to`.
    To(usize),
    /// The conditions, `when`.
    When,
}

impl Rule {
    /// The clauses of the rule: each source, each operation and the conditions. Each comes with its predicates.
    pub fn clauses(&self) -> impl Iterator<Item = (Clause, &AllOf<Predicate>)> {
        let from =
            self.from.iter().flat_map(|from| from.0.iter().enumerate().map(|(n, source)| (Clause::From(n), source)));
        let to = self.to.iter().flat_map(|to| to.0.iter().enumerate().map(|(n, operation)| (Clause::To(n), operation)));
        from.chain(to).chain(std::iter::once((Clause::When, &self.when)))
    }

    /// The predicates of one clause. `None` if the rule has no such source or operation.
    #[must_use]
    pub fn clause(&self, clause: Clause) -> Option<&AllOf<Predicate>> {
        match clause {
            Clause::From(index) => self.from.as_ref()?.0.get(index),
            Clause::To(index) => self.to.as_ref()?.0.get(index),
            Clause::When => Some(&self.when),
        }
    }
}

impl Clause {
    /// The path of this clause in a policy, such as `spec.rules[0].from[1].source`. `rule` is the index of the rule.
    #[must_use]
    pub fn path(self, rule: usize) -> Path {
        let mut path = rule_path(rule);
        let (list, item) = match self {
            Self::From(index) => ("from", Some((index, "source"))),
            Self::To(index) => ("to", Some((index, "operation"))),
            Self::When => ("when", None),
        };
        path.0.push(Segment::Field(list.to_owned()));
        path.0.extend(item.map(|(index, _)| Segment::Index(index)));
        path.0.extend(item.map(|(_, name)| Segment::Field(name.to_owned())));
        path
    }
}

/// The path of a rule: `spec.rules[INDEX]`.
#[must_use]
pub fn rule_path(index: usize) -> Path {
    let mut path = Path::of(["spec", "rules"]);
    path.0.push(Segment::Index(index));
    path
}

/// Matches if at least one of these matches.
#[derive(Clone, Debug, PartialEq)]
pub struct AnyOf<T>(pub Vec<T>);

/// Matches if all of these match.
#[derive(Clone, Debug, PartialEq)]
pub struct AllOf<T>(pub Vec<T>);

impl<T> Default for AllOf<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// The two fields of a condition that hold its values and its `not` values.
pub const CONDITION_FIELDS: [&str; 2] = ["values", "notValues"];

/// A `source`: the list of its fields.
pub type Source = AllOf<Predicate>;

/// An `operation`: the list of its fields.
pub type Operation = AllOf<Predicate>;

/// The values of a field or a condition, and the values of its `not` twin: for example `principals` and
/// `notPrincipals`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Values<T> {
    /// At least one of these must match, unless the list is empty.
    pub any: Vec<T>,
    /// None of these may match.
    pub none: Vec<T>,
}

/// A field of a source or an operation, or a condition: an attribute, and the values that it is compared with.
///
/// Each variant lists the field and the condition key that it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Predicate {
    /// `principals`, `source.principal`.
    Principal(Values<String>),
    /// `requestPrincipals`, `request.auth.principal`.
    RequestPrincipal(Values<String>),
    /// `serviceAccounts`, `source.serviceAccount`.
    ServiceAccount(Values<ServiceAccount>),
    /// `trustDomains`, `source.trustDomain`.
    TrustDomain(Values<String>),
    /// `namespaces`, `source.namespace`.
    Namespace(Values<String>),
    /// `remoteIpBlocks`, `remote.ip`.
    RemoteIp(Values<Cidr>),
    /// `ipBlocks`, `source.ip`.
    SourceIp(Values<Cidr>),
    /// `hosts`.
    Host(Values<String>),
    /// `methods`.
    Method(Values<String>),
    /// `paths`.
    Path(Values<PathValue>),
    /// `ports`, `destination.port`.
    DestinationPort(Values<u16>),
    /// `destination.ip`.
    DestinationIp(Values<Cidr>),
    /// `connection.sni`.
    Sni(Values<String>),
    /// `request.headers[NAME]`.
    Header {
        /// The name of the header, as the policy writes it.
        name: String,
        /// Each value of the header is compared with these.
        values: Values<String>,
    },
    /// `request.auth.audiences`, `request.auth.presenter` and `request.auth.claims[A][B]`.
    Claim {
        /// The keys from the token's payload down to the claim: `aud`, `azp`, or the names in brackets.
        path: Vec<String>,
        /// The claim is compared with these. If the claim is a list, each of its elements is.
        values: Values<String>,
    },
    /// `experimental.envoy.filters.FILTER[KEY]`.
    Metadata {
        /// The namespace of the dynamic metadata: `envoy.filters.FILTER`.
        filter: String,
        /// The key in that namespace.
        key: String,
        /// The metadata value is compared with these.
        values: Values<MetadataValue>,
    },
}

impl Predicate {
    /// The attribute that this predicate looks at.
    #[must_use]
    pub fn attribute(&self) -> Attribute {
        match self {
            Self::Principal(_) => Attribute::SourcePrincipal,
            Self::RequestPrincipal(_) => Attribute::RequestPrincipal,
            Self::ServiceAccount(_) => Attribute::SourceServiceAccount,
            Self::TrustDomain(_) => Attribute::SourceTrustDomain,
            Self::Namespace(_) => Attribute::SourceNamespace,
            Self::RemoteIp(_) => Attribute::RemoteIp,
            Self::SourceIp(_) => Attribute::SourceIp,
            Self::Host(_) => Attribute::Host,
            Self::Method(_) => Attribute::Method,
            Self::Path(_) => Attribute::Path,
            Self::DestinationPort(_) => Attribute::DestinationPort,
            Self::DestinationIp(_) => Attribute::DestinationIp,
            Self::Sni(_) => Attribute::Sni,
            Self::Header { .. } => Attribute::Header,
            Self::Claim { .. } => Attribute::Claim,
            Self::Metadata { .. } => Attribute::Metadata,
        }
    }

    /// The path of the predicate's values or, if `is_not` is set, of its `not` values. `rule` is the index of the rule,
    /// and `field` is the position of the predicate in its clause.
    #[must_use]
    pub fn path(&self, rule: usize, clause: Clause, field: usize, is_not: bool) -> Path {
        let mut path = clause.path(rule);
        let [name, not_name] = match clause {
            Clause::When => {
                path.0.push(Segment::Index(field));
                CONDITION_FIELDS
            }
            Clause::From(_) | Clause::To(_) => self.attribute().info().fields.unwrap_or_default(),
        };
        path.0.push(Segment::Field(if is_not { not_name } else { name }.to_owned()));
        path
    }

    /// The name of the attribute, as condition keys write it. Conditions have no keys for hosts, methods and paths, so
    /// these have the names of their fields: `hosts`, `methods` and `paths`.
    #[must_use]
    pub fn name(&self) -> String {
        let Info { key, fields, .. } = self.attribute().info();
        match (key, self) {
            (Some(Key::Bracketed(key)), Self::Header { name, .. }) => format!("{key}[{name}]"),
            (Some(Key::Bracketed(key)), Self::Claim { path, .. }) => format!("{key}[{}]", path.join("][")),
            (_, Self::Metadata { filter, key, .. }) => format!("experimental.{filter}[{key}]"),
            (Some(Key::Whole(key) | Key::Bracketed(key)), _) => key.to_owned(),
            (None, _) => fields.unwrap_or_default()[0].to_owned(),
        }
    }
}
