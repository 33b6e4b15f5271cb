//! MA044. A service account or a namespace that the input does not have.

use std::collections::{BTreeMap, BTreeSet};

use mesh_authz::diagnostic::{Path, Segment, suggestion};
use mesh_authz::identity::LOCAL_TRUST_DOMAIN;
use mesh_authz::policy::{DEFAULT_NAMESPACE, Form, Predicate};

use super::other_resources::{NamedKind, account_of_workload, namespace, workloads_are_known};
use super::selector_matches_nothing::correct;
use super::{Check, Input, Lint, PolicyView, Remark, Reporter, ValueList};
use crate::load::{LoadedPolicy, Other};

pub(super) static LINT: Lint = Lint {
    code: "MA044",
    name: "unknown-account",
    summary: "a service account or a namespace that the input does not have",
    explanation: "Kubernetes gives an identity only to service accounts that exist. If the input has ServiceAccounts of a \
            namespace, and none of them is the one that a policy names there, the value matches nobody. The account `default` \
            always exists, and an account that a workload in the input runs as counts too. A namespace, also the policy's own, is \
            reported if the input has one whose name differs by one letter. The lint says nothing about a namespace of which the input has \
            no ServiceAccount, or whose names a kustomization in the input changes.",
    bad: r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: callers
  namespace: shop
spec:
  rules:
  - from:
    - source:
        serviceAccounts: ["shop/frontend"]
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: web
  namespace: shop
"#,
    good: r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: callers
  namespace: shop
spec:
  rules:
  - from:
    - source:
        serviceAccounts: ["shop/web"]
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: web
  namespace: shop
"#,
    trust_domain: None,
    check: Check::Input(check),
};

fn check(input: &Input<'_>, reporter: &mut Reporter) {
    let is_known =
        [NamedKind::Namespace, NamedKind::ServiceAccount].iter().any(|kind| kind.all(input).next().is_some());
    if !is_known {
        return;
    }
    let declared: BTreeSet<_> = NamedKind::Namespace.all(input).filter_map(Other::name).collect();
    let mut known = Known { namespaces: namespaces(input), accounts: accounts(input), near: BTreeMap::new() };
    for resource in input.policies_as_written() {
        own_namespace(input, &declared, resource, reporter);
        for list in &PolicyView::new(resource).lists {
            for (index, value) in list.values.iter().enumerate() {
                let Some(Remark { message, hint }) = mistake(input, &mut known, value, list) else { continue };
                let mut path = list.path.clone();
                path.0.push(Segment::Index(index));
                reporter.report(&LINT, resource, path, message, list.correct(hint));
            }
        }
    }
}

/// Reports a policy whose own namespace is nearly one of the input, if nothing else is in it.
fn own_namespace(input: &Input<'_>, declared: &BTreeSet<&str>, resource: &LoadedPolicy, reporter: &mut Reporter) {
    let own = resource.policy.name.namespace.as_str();
    if declared.contains(own) || own == input.context.mesh.root_namespace {
        return;
    }
    let Some(near) = declared.iter().find(|known| differ_by_a_letter(own, known)) else { return };
    if !input.resources.others.iter().any(|other| namespace(&other.node) == own) {
        let message = format!("the input has the namespace `{near}`, and no namespace `{own}`");
        let hint = correct(&resource.policy, &format!("did you mean `{near}`?"));
        reporter.report(&LINT, resource, Path::of(["metadata", "namespace"]), message, hint);
    }
}

/// What the input has.
struct Known<'r> {
    namespaces: BTreeSet<&'r str>,
    accounts: Accounts<'r>,
    /// For each namespace that the input does not have: the one that is nearly its name.
    near: BTreeMap<String, Option<&'r str>>,
}

/// The service accounts of each namespace of which the input has any.
type Accounts<'r> = BTreeMap<&'r str, Vec<&'r str>>;

fn accounts<'r>(input: &Input<'r>) -> Accounts<'r> {
    let mut accounts = Accounts::new();
    if !NamedKind::ServiceAccount.is_known(input) || !workloads_are_known(input) {
        return accounts;
    }
    for other in NamedKind::ServiceAccount.all(input) {
        accounts.entry(namespace(&other.node)).or_insert_with(|| vec!["default"]).extend(other.name());
    }
    for other in &input.resources.others {
        if let (Some(known), Some(account)) = (accounts.get_mut(namespace(&other.node)), account_of_workload(other)) {
            known.push(account);
        }
    }
    accounts
}

/// The namespaces that the input names as its own.
fn namespaces<'r>(input: &Input<'r>) -> BTreeSet<&'r str> {
    let of_policies = input.resources.policies.iter().map(|resource| resource.policy.name.namespace.as_str());
    let of_others = input
        .resources
        .others
        .iter()
        .filter(|other| !NamedKind::Namespace.is(other))
        .map(|other| namespace(&other.node));
    let own = NamedKind::Namespace.all(input).filter_map(|other| other.name());
    let root = input.context.mesh.root_namespace.as_str();
    let given = input.context.workload.iter().map(|(namespace, _)| namespace.as_str());
    of_policies.chain(given).chain(of_others).chain(own).chain([root, DEFAULT_NAMESPACE, "kube-system"]).collect()
}

/// What a value names, with the text around the names.
struct Named<'v> {
    before: String,
    namespace: &'v str,
    between: &'static str,
    account: Option<&'v str>,
}

impl Named<'_> {
    fn with(&self, namespace: &str, account: Option<&str>) -> String {
        format!("write `{}{namespace}{}{}`", self.before, self.between, account.unwrap_or_default())
    }
}

fn named<'v>(input: &Input<'_>, value: &'v str, list: &'v ValueList<'_>) -> Option<Named<'v>> {
    let mesh = &input.context.mesh;
    Some(match list.predicate {
        Predicate::Namespace(_) if !value.contains('*') => {
            Named { before: String::new(), namespace: value, between: "", account: None }
        }
        Predicate::ServiceAccount(_) => {
            let own = list.resource.policy.name.namespace.as_str();
            let (namespace, account) = value.split_once('/').unwrap_or((own, value));
            Named { before: String::new(), namespace, between: "/", account: Some(account) }
        }
        Predicate::Principal(_) => {
            let (domain, rest) = value.split_once("/ns/")?;
            let is_ours = [LOCAL_TRUST_DOMAIN, "*", &mesh.trust_domain].contains(&domain)
                || mesh.aliases.iter().any(|alias| alias == domain);
            let (namespace, account) = rest.split_once("/sa/")?;
            if !is_ours || namespace.contains(['*', '/']) || account.contains('/') {
                return None;
            }
            Named { before: format!("{domain}/ns/"), namespace, between: "/sa/", account: Some(account) }
        }
        _ => return None,
    })
}

fn mistake(
    input: &Input<'_>,
    Known { namespaces, accounts, near }: &mut Known<'_>,
    value: &str,
    list: &ValueList<'_>,
) -> Option<Remark> {
    let found = named(input, value, list)?;
    let Named { namespace, account, .. } = found;
    if !namespaces.contains(namespace) {
        let find = || namespaces.iter().copied().find(|known| differ_by_a_letter(namespace, known));
        let near = near.entry(namespace.to_owned()).or_insert_with(find).as_ref()?;
        return Some(Remark::new(
            format!("the input has the namespace `{near}`, and no namespace `{namespace}`"),
            found.with(near, account),
        ));
    }
    let account = account?;
    let known = accounts.get(namespace)?;
    let matches = |name: &&str| match Form::of(account) {
        Form::Any => true,
        Form::Exact(exact) => **name == *exact,
        Form::Prefix(start) => name.starts_with(start),
        Form::Suffix(end) => name.ends_with(end),
    };
    if known.iter().any(matches) {
        return None;
    }
    let hint = if let Some(near) = suggestion(account, known.iter().copied()) {
        found.with(namespace, Some(near))
    } else {
        let names: BTreeSet<_> = known.iter().filter(|name| **name != "default").collect();
        let names: Vec<_> = names.into_iter().take(3).map(|name| format!("`{name}`")).collect();
        format!("write the account of the caller; the input has {}", names.join(", "))
    };
    Some(Remark::new(format!("namespace `{namespace}` has no service account `{account}` in the input"), hint))
}

/// Whether two names look like the same word, one of them misspelt: `shp` and `shop`, but not `team-a` and `team-b`.
fn differ_by_a_letter(one: &str, other: &str) -> bool {
    let (mut ones, mut others) = (one.split('-'), other.split('-'));
    let mut differing = Vec::new();
    loop {
        match (ones.next(), others.next()) {
            (None, None) => break,
            (Some(one), Some(other)) if one == other => {}
            (Some(one), Some(other)) => differing.push((one, other)),
            _ => return false,
        }
    }
    let [(one, other)] = differing.as_slice() else { return false };
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let start = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    let (one, other) = (one.get(start..).unwrap_or_default(), other.get(start..).unwrap_or_default());
    let end = one.iter().rev().zip(other.iter().rev()).take_while(|(one, other)| one == other).count();
    let middle = |text: &[u8]| text.get(..text.len().saturating_sub(end)).unwrap_or_default().to_vec();
    let (one, other) = (middle(one), middle(other));
    let is_letter = |text: &[u8]| text.iter().all(u8::is_ascii_alphabetic);
    let is_long = start.saturating_add(end) >= 2;
    is_long
        && is_letter(&one)
        && is_letter(&other)
        && match (one.as_slice(), other.as_slice()) {
            // A letter more or less; `app` and `apps` are two names.
            ([], [letter]) | ([letter], []) => end > 0 || *letter != b's',
            // Another letter, but not at the end: `prod1` and `prod2`, `teama` and `teamb` are two names.
            ([_], [_]) => end > 0,
            ([a, b], [c, d]) => a == d && b == c,
            _ => false,
        }
}
