//! Peer identities: SPIFFE ids, the trust domains of a mesh, and the fields that match on parts of an identity.
//!
//! `principals`, `namespaces`, `serviceAccounts` and `trustDomains` all look at the same names, those in the peer's
//! certificate. Istio turns each value into a comparison or a regular expression on such a name; the matchers here
//! accept the same names without an expression, except that where a match denies, no byte escapes a wildcard
//! ([`crate::matcher`]).

use crate::matcher::Wildcard;
use crate::policy::Form;

/// What a SPIFFE id begins with, and policies leave out.
pub const SCHEME: &str = "spiffe://";

/// What stands for the mesh's own trust domain in every mesh.
pub const LOCAL_TRUST_DOMAIN: &str = "cluster.local";

/// The trust domain of a mesh, followed by its aliases: a workload is the same whichever of them its identity names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustDomains(Vec<String>);

impl TrustDomains {
    /// The mesh's trust domain and its aliases.
    #[must_use]
    pub fn new(trust_domain: String, aliases: impl IntoIterator<Item = String>) -> Self {
        let mut all = vec![trust_domain];
        all.extend(aliases);
        Self(all)
    }

    /// The principals that a principal of a policy stands for.
    ///
    /// Only one of five segments whose first is not `*` names a trust domain; any other stands for itself, and so does
    /// one of a trust domain that is not the mesh's.
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

    /// The trust domains that the values of `trustDomains` stand for: a listed one brings all of them.
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

/// Whether one of the two covers the other: equal, or one of them a prefix or suffix form that the other fits.
fn alike(one: &str, other: &str) -> bool {
    let covers = |pattern: &str, text: &str| {
        pattern.strip_suffix('*').is_some_and(|prefix| text.starts_with(prefix))
            || pattern.strip_prefix('*').is_some_and(|suffix| text.ends_with(suffix))
    };
    one == other || covers(one, other) || covers(other, one)
}

/// A value of one of the identity fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IdentityMatcher {
    /// Any name that is not empty, SPIFFE or not.
    Any(Wildcard),
    /// The whole name.
    Exact(Box<[u8]>),
    /// How the name begins.
    Prefix(Box<[u8]>),
    /// A SPIFFE id, and how it ends.
    Suffix(Box<[u8]>, Wildcard),
    /// `…/ns/NAMESPACE/…`: literal pieces, with anything between, before and behind them.
    Namespace(Box<[Box<[u8]>]>, Wildcard),
    /// `spiffe://…/ns/NAMESPACE/[…/]sa/NAME[/…]`.
    ServiceAccount {
        /// `/ns/NAMESPACE/`.
        namespace: Box<[u8]>,
        /// `sa/NAME`.
        account: Box<[u8]>,
        /// What the gaps accept.
        wildcard: Wildcard,
    },
    /// `spiffe://BEFORE…AFTER/…`, with no slash in the gap.
    TrustDomain {
        /// The scheme and what precedes the wildcard.
        before: Box<[u8]>,
        /// What follows it, and the slash.
        after: Box<[u8]>,
        /// What the gap and the rest accept.
        wildcard: Wildcard,
    },
}

impl IdentityMatcher {
    /// A principal, after expansion.
    #[must_use]
    pub fn principal(value: &str, wildcard: Wildcard) -> Self {
        match Form::of(value) {
            Form::Any => Self::Any(wildcard),
            Form::Suffix(suffix) => Self::Suffix(suffix.as_bytes().into(), wildcard),
            Form::Prefix(prefix) => Self::Prefix(format!("{SCHEME}{prefix}").into_bytes().into()),
            Form::Exact(exact) => Self::Exact(format!("{SCHEME}{exact}").into_bytes().into()),
        }
    }

    /// A namespace, in which every `*` is a wildcard.
    #[must_use]
    pub fn namespace(value: &str, wildcard: Wildcard) -> Self {
        let framed = format!("/ns/{value}/");
        Self::Namespace(framed.split('*').map(|piece| piece.as_bytes().into()).collect(), wildcard)
    }

    /// A service account.
    #[must_use]
    pub fn service_account(namespace: &str, name: &str, wildcard: Wildcard) -> Self {
        Self::ServiceAccount {
            namespace: format!("/ns/{namespace}/").into_bytes().into(),
            account: format!("sa/{name}").into_bytes().into(),
            wildcard,
        }
    }

    /// A trust domain, after expansion.
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

    /// Whether a certificate's subject could match. All others ask for a name that begins with the scheme, and a subject
    /// begins with the type of its first attribute.
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

    /// Whether a name of the peer matches.
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

/// `spiffe://.+/ns/NAMESPACE/(.+/|)sa/NAME(/.+)?`, all of the name.
fn has_service_account(name: &[u8], namespace: &[u8], account: &[u8]) -> Option<()> {
    let id = name.strip_prefix(SCHEME.as_bytes())?;
    // At least one byte of trust domain. The first occurrence of the namespace leaves the most behind it, and whatever
    // could match behind a later one can match behind the first.
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
        // Look again one byte further on; from there on, what was skipped is the text before.
        rest = rest.get(before.len().checked_add(1)?..)?;
        at_start = false;
    }
}

/// What precedes and what follows the first occurrence of `piece`.
fn split_at<'t>(text: &'t [u8], piece: &[u8]) -> Option<(&'t [u8], &'t [u8])> {
    let at = if piece.is_empty() { 0 } else { text.windows(piece.len()).position(|window| window == piece)? };
    Some((text.get(..at)?, text.get(at.checked_add(piece.len())?..)?))
}
