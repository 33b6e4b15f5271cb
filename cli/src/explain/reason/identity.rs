//! Names of peers that look alike: SPIFFE IDs, and their parts.

use mesh_authz::identity::SCHEME;

use super::Reason;
use super::text::{self, matches, matches_as_glob};

pub(super) const PRINCIPAL: [Reason; 3] = [scheme, one_segment, without_trust_domain];

/// The parts of `TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`.
struct Id<'i> {
    trust_domain: &'i str,
    namespace: &'i str,
    account: &'i str,
}

impl<'i> Id<'i> {
    fn read(name: &'i str) -> Option<Self> {
        let mut segments = name.strip_prefix(SCHEME).unwrap_or(name).split('/');
        let mut next = || segments.next();
        let (trust_domain, ns, namespace, sa, account) = (next()?, next()?, next()?, next()?, next()?);
        (ns == "ns" && sa == "sa" && next().is_none()).then_some(Self { trust_domain, namespace, account })
    }
}

fn scheme(expected: &str, _: &str) -> Option<String> {
    expected.starts_with(SCHEME).then(|| "a principal is written without `spiffe://`".to_owned())
}

/// Principals that differ in one part only.
fn one_segment(expected: &str, actual: &str) -> Option<String> {
    let (wanted, id) = (Id::read(expected)?, Id::read(actual)?);
    let differs = |wanted: &str, actual: &str| !matches_as_glob(wanted, actual);
    let trust_domain = differs(wanted.trust_domain, id.trust_domain);
    let namespace = differs(wanted.namespace, id.namespace);
    let account = differs(wanted.account, id.account);
    match (trust_domain, namespace, account) {
        (true, false, false) => Some(format!(
            "only the trust domain differs from `{expected}`: is one an alias of the other? (--trust-domain, \
             --trust-domain-alias)"
        )),
        (false, true, false) => Some(only("namespace", expected, wanted.namespace, id.namespace)),
        (false, false, true) => Some(only("service account", expected, wanted.account, id.account)),
        (false, false, false) if !expected.contains('*') => Some(format!(
            "`{}` in a policy stands for the mesh's trust domain and its aliases, and the peer's is none of them \
             (--trust-domain, --trust-domain-alias)",
            wanted.trust_domain
        )),
        _ => None,
    }
}

fn only(what: &str, expected: &str, wanted: &str, actual: &str) -> String {
    let case = if wanted.eq_ignore_ascii_case(actual) { ", and upper and lower case count" } else { "" };
    format!("only the {what} differs from `{expected}`: it is `{actual}`{case}")
}

fn without_trust_domain(expected: &str, actual: &str) -> Option<String> {
    let (_, rest) = actual.strip_prefix(SCHEME)?.split_once('/')?;
    matches(expected.trim_start_matches('/'), rest)
        .then(|| format!("a principal begins with its trust domain, and `{expected}` has none"))
}

/// A namespace is compared with the part of the name between `/ns/` and the next slash.
pub(super) fn namespace(expected: &str, actual: &str) -> Option<String> {
    part("namespace", expected, actual, Id::read(actual)?.namespace)
}

pub(super) fn trust_domain(expected: &str, actual: &str) -> Option<String> {
    part("trust domain", expected, actual, Id::read(actual)?.trust_domain)
}

fn part(what: &str, expected: &str, actual: &str, value: &str) -> Option<String> {
    let other_part = || {
        let id = Id::read(actual)?;
        let parts = [("trust domain", id.trust_domain), ("namespace", id.namespace), ("service account", id.account)];
        let (found, _) = parts.into_iter().find(|(name, part)| *name != what && *part == expected)?;
        Some(format!("the {what} of the peer is `{value}`; `{expected}` is its {found}"))
    };
    let whole = || {
        let is_near = !expected.contains('*') && (value.starts_with(expected) || expected.starts_with(value));
        is_near.then(|| format!("the {what} of the peer is `{value}`, and is compared as a whole"))
    };
    let alike = || text::REASONS.iter().find_map(|reason| reason(expected, value));
    other_part().or_else(alike).or_else(whole)
}

/// `policy_namespace`: the namespace of the policy.
pub(super) fn service_account(expected: &str, actual: &str, policy_namespace: &str) -> Option<String> {
    let id = Id::read(actual)?;
    let (namespace, account) = expected.split_once('/').unwrap_or((policy_namespace, expected));
    if account == id.account && namespace != id.namespace {
        let wanted = match expected.split_once('/') {
            Some(_) => format!("not in `{namespace}`"),
            None => format!("and `{expected}` without a namespace means the policy's namespace, `{namespace}`"),
        };
        return Some(format!("the service account of the peer is in namespace `{}`, {wanted}", id.namespace));
    }
    if namespace == id.account && account == id.namespace {
        return Some(format!("`{expected}` has its parts in the wrong order: the namespace comes first"));
    }
    if namespace == id.namespace && account.eq_ignore_ascii_case(id.account) {
        return Some(format!("`{expected}` differs in upper and lower case only, which counts"));
    }
    None
}
