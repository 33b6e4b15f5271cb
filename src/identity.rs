//! Peer identities: SPIFFE ids, the trust domains of a mesh, and the fields that match an identity or a part of it.
//!
//! `principals`, `namespaces`, `serviceAccounts` and `trustDomains` all look at the same names: the names in the peer's
//! certificate. Istio turns each value into a comparison or into a regular expression. The matchers here accept the
//! same names without a regular expression. There is one difference: if a match denies, a wildcard accepts every byte
//! ([`crate::matcher`]).

use crate::matcher::Wildcard;
use crate::policy::Form;

/// The scheme of a SPIFFE id. Principals in policies are written without it.
pub const SCHEME: &str = "spiffe://";

/// A name for the mesh's own trust domain that is valid in every mesh.
pub const LOCAL_TRUST_DOMAIN: &str = "cluster.local";

/// The trust domain of a mesh, followed by its aliases. Identities that differ only in which of these they name are the
/// same workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustDomains(Vec<String>);

impl TrustDomains {
    /// Puts together the mesh's trust domain and its aliases.
    #[must_use]
    pub fn new(trust_domain: String, aliases: impl IntoIterator<Item = String>) -> Self {
        let mut all = vec![trust_domain];
        all.extend(aliases);
        Self(all)
    }

    /// Expands a principal of a policy to all trust domains of the mesh.
    ///
    /// | principal | result |
    /// | --- | --- |
    /// | five segments, the first a trust domain of the mesh or `cluster.local` | one for each of the mesh's domains |
    /// | five segments, the first another trust domain or `*` | the principal as written |
    /// | any other number of segments | the principal as written |
    ///
    /// The first segment and the mesh's trust domains may have a `*` at one end. They are the same if one of them
    /// matches the other. A first segment `*SUFFIX` stays as written for each trust domain that it matches.
    #[must_use]
    pub fn expand_principal(&self, principal: &str) -> Vec<String> {
        let as_written = || vec![principal.to_owned()];
        let Some((named, rest)) = principal.split_once('/') else { return as_written() };
        if named == "*" || rest.split('/').count() != 4 {
            return as_written();
        }
        if named != LOCAL_TRUST_DOMAIN && !self.0.iter().any(|domain| alike(named, domain)) {
            return as_written();
        }
        let mut expanded: Vec<String> = Vec::with_capacity(self.0.len());
        for domain in &self.0 {
            let covered = named.strip_prefix('*').is_some_and(|suffix| domain.ends_with(suffix));
            let principal = if covered { principal.to_owned() } else { format!("{domain}/{rest}") };
            if !expanded.contains(&principal) {
                expanded.push(principal);
            }
        }
        expanded
    }

    /// Expands a principal, and what that has made of it once more.
    ///
    /// Istio shares the conditions of a rule among its `from` entries, and expands a `source.principal` once for each of
    /// them. The second time finds further domains for a principal whose first segment is `*SUFFIX`. After that, values
    /// only repeat.
    #[must_use]
    pub fn expand_principal_again(&self, principal: &str) -> Vec<String> {
        let mut expanded = self.expand_principal(principal);
        // All of them that name a domain of the mesh become the same.
        if let Some(named) = expanded.iter().find(|value| *value != principal) {
            for value in self.expand_principal(named) {
                if !expanded.contains(&value) {
                    expanded.push(value);
                }
            }
        }
        expanded
    }

    /// Expands the values of `trustDomains`. A value that is a trust domain of the mesh becomes all of them; any other
    /// value stays as written.
    #[must_use]
    pub fn expand_trust_domains(&self, values: &[String]) -> Vec<String> {
        let mut expanded: Vec<String> = Vec::with_capacity(values.len());
        for value in values {
            let domains = if self.0.contains(value) { self.0.as_slice() } else { std::slice::from_ref(value) };
            for domain in domains {
                if !expanded.contains(domain) {
                    expanded.push(domain.clone());
                }
            }
        }
        expanded
    }
}

/// Whether the two are equal, or one of them is a prefix form (`abc*`) or a suffix form (`*abc`) that matches the
/// other.
fn alike(one: &str, other: &str) -> bool {
    let covers = |pattern: &str, text: &str| {
        pattern.strip_suffix('*').is_some_and(|prefix| text.starts_with(prefix))
            || pattern.strip_prefix('*').is_some_and(|suffix| text.ends_with(suffix))
    };
    one == other || covers(one, other) || covers(other, one)
}

/// A value of one of the identity fields.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum IdentityMatcher {
    /// Any name that is not empty, SPIFFE or not.
    Any(Wildcard),
    /// A name that is equal to this text.
    Exact(Box<[u8]>),
    /// A name that starts with this text.
    Prefix(Box<[u8]>),
    /// A SPIFFE id that ends with this text.
    Suffix(Box<[u8]>, Wildcard),
    /// `…/ns/NAMESPACE/…`: a name that contains these pieces in this order, with any text before, between and after
    /// them.
    Namespace(Box<[Box<[u8]>]>, Wildcard),
    /// `spiffe://…/ns/NAMESPACE/[…/]sa/NAME[/…]`.
    ServiceAccount {
        /// `/ns/NAMESPACE/`.
        namespace: Box<[u8]>,
        /// `sa/NAME`.
        account: Box<[u8]>,
        /// Which bytes the gaps accept.
        wildcard: Wildcard,
    },
    /// `spiffe://BEFORE…AFTER/…`, with no slash in the gap.
    TrustDomain {
        /// The scheme, and the text before the wildcard.
        before: Box<[u8]>,
        /// The text after the wildcard, and the slash.
        after: Box<[u8]>,
        /// Which bytes the gap and the rest accept.
        wildcard: Wildcard,
    },
}

impl IdentityMatcher {
    /// Compiles a principal that has been expanded.
    #[must_use]
    pub fn principal(value: &str, wildcard: Wildcard) -> Self {
        match Form::of(value) {
            Form::Any => Self::Any(wildcard),
            Form::Suffix(suffix) => Self::Suffix(suffix.as_bytes().into(), wildcard),
            Form::Prefix(prefix) => Self::Prefix(format!("{SCHEME}{prefix}").into_bytes().into()),
            Form::Exact(exact) => Self::Exact(format!("{SCHEME}{exact}").into_bytes().into()),
        }
    }

    /// Compiles a namespace. Every `*` in it is a wildcard.
    #[must_use]
    pub fn namespace(value: &str, wildcard: Wildcard) -> Self {
        let framed = format!("/ns/{value}/");
        Self::Namespace(framed.split('*').map(|piece| piece.as_bytes().into()).collect(), wildcard)
    }

    /// Compiles a service account.
    #[must_use]
    pub fn service_account(namespace: &str, name: &str, wildcard: Wildcard) -> Self {
        Self::ServiceAccount {
            namespace: format!("/ns/{namespace}/").into_bytes().into(),
            account: format!("sa/{name}").into_bytes().into(),
            wildcard,
        }
    }

    /// Compiles a trust domain that has been expanded.
    #[must_use]
    pub fn trust_domain(value: &str, wildcard: Wildcard) -> Self {
        if value == "*" {
            return Self::Prefix(SCHEME.as_bytes().into());
        }
        match value.split_once('*') {
            None => Self::Prefix(format!("{SCHEME}{value}/").into_bytes().into()),
            Some((before, after)) => Self::TrustDomain {
                before: format!("{SCHEME}{before}").into_bytes().into(),
                after: format!("{after}/").into_bytes().into(),
                wildcard,
            },
        }
    }

    /// Whether this matcher can match the subject of a certificate. Most cannot: they require a name that starts with
    /// the scheme, but a subject starts with the type of its first attribute.
    #[must_use]
    pub(crate) fn takes_subjects(&self) -> bool {
        match self {
            Self::Any(_) | Self::Namespace(..) => true,
            Self::Exact(_)
            | Self::Prefix(_)
            | Self::Suffix(..)
            | Self::ServiceAccount { .. }
            | Self::TrustDomain { .. } => false,
        }
    }

    /// Whether this name of a peer matches.
    #[must_use]
    pub fn matches(&self, name: &[u8]) -> bool {
        match self {
            Self::Any(wildcard) => !name.is_empty() && wildcard.accepts(name),
            Self::Exact(exact) => name == &**exact,
            Self::Prefix(prefix) => name.starts_with(prefix),
            Self::Suffix(suffix, wildcard) => {
                let id = name.strip_prefix(SCHEME.as_bytes());
                id.is_some_and(|id| id.ends_with(suffix)) && wildcard.accepts(name)
            }
            Self::Namespace(pieces, wildcard) => {
                let behind = |rest, piece: &[u8]| Some(split_at(rest, piece)?.1);
                pieces.iter().try_fold(name, |rest, piece| behind(rest, piece)).is_some() && wildcard.accepts(name)
            }
            Self::ServiceAccount { namespace, account, wildcard } => {
                has_service_account(name, namespace, account).is_some() && wildcard.accepts(name)
            }
            Self::TrustDomain { before, after, wildcard } => {
                name.strip_prefix(&**before).is_some_and(|rest| {
                    let gap_ends = rest.iter().position(|b| *b == b'/').unwrap_or(rest.len());
                    (0..=gap_ends).any(|start| rest.get(start..).is_some_and(|rest| rest.starts_with(after)))
                }) && wildcard.accepts(name)
            }
        }
    }
}

/// Returns `Some` if the whole name matches `spiffe://.+/ns/NAMESPACE/(.+/|)sa/NAME(/.+)?`.
fn has_service_account(name: &[u8], namespace: &[u8], account: &[u8]) -> Option<()> {
    let id = name.strip_prefix(SCHEME.as_bytes())?;
    // The trust domain has at least one byte. It is enough to search the text after the first occurrence of the
    // namespace: this text is the longest, and every match after a later occurrence is also a match after the first.
    let (_, mut rest) = split_at(id.get(1..)?, namespace)?;
    let mut at_start = true;
    loop {
        let (before, behind) = split_at(rest, account)?;
        let begins =
            if at_start { before.is_empty() || matches!(before, [_, .., b'/']) } else { before.ends_with(b"/") };
        let ends = behind.is_empty() || matches!(behind, [b'/', _, ..]);
        if begins && ends {
            return Some(());
        }
        // Search again, one byte further on. From now on, there is text before the account: the skipped bytes.
        rest = rest.get(before.len().checked_add(1)?..)?;
        at_start = false;
    }
}

/// The text before and the text after the first occurrence of `piece`; `None` if there is no occurrence.
fn split_at<'t>(text: &'t [u8], piece: &[u8]) -> Option<(&'t [u8], &'t [u8])> {
    let at = if piece.is_empty() { 0 } else { text.windows(piece.len()).position(|window| window == piece)? };
    Some((text.get(..at)?, text.get(at.checked_add(piece.len())?..)?))
}
