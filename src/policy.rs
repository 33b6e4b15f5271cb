//! The `AuthorizationPolicy` resource, typed: `security.istio.io/v1` and `v1beta1`, every field.
//!
//! A field of a `source`, a field of an `operation` and a `when` condition are the same thing, a [`Predicate`]: something
//! to look at, the values of which one must match, and the `not` values of which none may. [`read`] builds these
//! types and refuses everything they cannot hold; `validate` then asks the questions that span several fields;
//! [`scope`] says which policies a workload has to obey.

pub mod key;
pub mod read;
pub mod resource;
pub mod scope;
pub(crate) mod validate;
pub mod value;

use std::fmt;

pub use self::scope::Labels;
pub use self::value::{Cidr, Form, MetadataValue, PathValue, ServiceAccount};
use crate::attribute::{Attribute, Info, Key};
use crate::diagnostic::{Path, Segment};

/// A whole resource.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthorizationPolicy {
    /// `metadata.namespace` and `metadata.name`.
    pub name: PolicyName,
    /// The annotation `istio.io/dry-run`: the policy is evaluated and reported, and never decides.
    pub dry_run: bool,
    /// What a match means.
    pub action: Action,
    /// `spec.selector`, `spec.targetRef` and `spec.targetRefs`: which workloads it is for.
    pub target: Target,
    /// `spec.rules`; none: never matches.
    pub rules: Vec<Rule>,
    /// `spec.provider.name`, with CUSTOM.
    pub provider: Option<String>,
}

/// The namespace of what does not name one, as with kubectl.
pub const DEFAULT_NAMESPACE: &str = "default";

/// A policy's full name; prints as `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyName {
    /// `metadata.namespace`, `default` when absent.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What a match means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// The request may pass, unless another policy says otherwise.
    #[default]
    Allow,
    /// The request may not pass.
    Deny,
    /// The request is recorded.
    Audit,
    /// The provider is asked.
    Custom,
}

impl Action {
    /// Every action, as policies write it.
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

impl AuthorizationPolicy {
    /// Every field and condition of every rule.
    pub fn predicates(&self) -> impl Iterator<Item = &Predicate> {
        self.rules.iter().flat_map(|rule| {
            let sources = rule.from.iter().flat_map(|from| &from.0);
            let operations = rule.to.iter().flat_map(|to| &to.0);
            sources.chain(operations).chain([&rule.when]).flat_map(|all| &all.0)
        })
    }
}

/// Which workloads a policy is for, within its namespace or, from the root namespace, everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// All of them.
    Everything,
    /// Those that carry all of these labels.
    Labels(Labels),
    /// A gateway or waypoint that one of these names.
    References(Vec<TargetReference>),
}

/// One of `targetRefs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetReference {
    /// What it names.
    pub kind: TargetKind,
    /// Its name, in the policy's namespace.
    pub name: String,
}

/// The kinds that a target reference may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// A Kubernetes Service, behind a waypoint.
    Service,
    /// An Istio `ServiceEntry`, behind a waypoint.
    ServiceEntry,
    /// A Gateway of the Gateway API.
    Gateway,
    /// All waypoints, from the root namespace.
    GatewayClass,
}

/// One of a policy's rules. It matches if its sources, its operations and its conditions all do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// Where the request comes from; `None`: from anywhere.
    pub from: Option<AnyOf<Source>>,
    /// What it wants to do; `None`: anything.
    pub to: Option<AnyOf<Operation>>,
    /// What else must hold.
    pub when: AllOf<Predicate>,
}

/// A part of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Clause {
    /// This source of `from`.
    From(usize),
    /// This operation of `to`.
    To(usize),
    /// `when`.
    When,
}

impl Rule {
    /// Its sources, its operations and its conditions, each with what it asks for.
    pub fn clauses(&self) -> impl Iterator<Item = (Clause, &AllOf<Predicate>)> {
        let from =
            self.from.iter().flat_map(|from| from.0.iter().enumerate().map(|(n, source)| (Clause::From(n), source)));
        let to = self.to.iter().flat_map(|to| to.0.iter().enumerate().map(|(n, operation)| (Clause::To(n), operation)));
        from.chain(to).chain(std::iter::once((Clause::When, &self.when)))
    }

    /// What one of its clauses asks for.
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
    /// Where it stands in a policy, as part of the rule of this index.
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

/// `spec.rules[INDEX]`.
#[must_use]
pub fn rule_path(index: usize) -> Path {
    let mut path = Path::of(["spec", "rules"]);
    path.0.push(Segment::Index(index));
    path
}

/// Matches if one of these does.
#[derive(Clone, Debug, PartialEq)]
pub struct AnyOf<T>(pub Vec<T>);

/// Matches if all of these do.
#[derive(Clone, Debug, PartialEq)]
pub struct AllOf<T>(pub Vec<T>);

impl<T> Default for AllOf<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// The fields of a condition that hold its values, and its `not` values.
pub const CONDITION_FIELDS: [&str; 2] = ["values", "notValues"];

/// A `source`: its fields.
pub type Source = AllOf<Predicate>;

/// An `operation`: its fields.
pub type Operation = AllOf<Predicate>;

/// The values of a field or a condition, and those of its `not` twin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Values<T> {
    /// One of these must match, if there are any.
    pub any: Vec<T>,
    /// None of these may match.
    pub none: Vec<T>,
}

/// A field of a source or an operation, or a condition: what it looks at, and the values it compares that with.
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
        /// As written.
        name: String,
        /// What one of the header's values is compared with.
        values: Values<String>,
    },
    /// `request.auth.audiences`, `request.auth.presenter` and `request.auth.claims[A][B]`.
    Claim {
        /// The keys from the token's payload down: `aud`, `azp`, or those in brackets.
        path: Vec<String>,
        /// What the claim, or one of its elements, is compared with.
        values: Values<String>,
    },
    /// `experimental.envoy.filters.FILTER[KEY]`.
    Metadata {
        /// The namespace of the dynamic metadata.
        filter: String,
        /// The key there.
        key: String,
        /// What it is compared with.
        values: Values<MetadataValue>,
    },
}

impl Predicate {
    /// The attribute that it looks at.
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

    /// Where its values, or its `not` values, stand: it is the one at position `field` of a clause of a rule.
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

    /// What it looks at, as a condition names it; `hosts`, `methods` and `paths`, which conditions do not have, as fields.
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
