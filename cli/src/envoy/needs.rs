//! What the policies look at, so that Envoy's configuration must provide it.

use std::collections::{BTreeMap, BTreeSet};

use mesh_authz::attribute::{Attribute, Subject};
use mesh_authz::policy::{Action, AuthorizationPolicy, PathValue, Predicate, Values};

use super::catalogue::EnvoyCheck;
use super::ours::Ours;
use super::place::Place;
use crate::load::finding::{Finding, Severity};

/// What the policies look at.
#[derive(Debug, Default)]
pub struct Needs {
    /// For each attribute, a policy that looks at it.
    by: BTreeMap<Attribute, String>,
    /// For each attribute, a policy that lets a request pass if the attribute is missing.
    opening: BTreeMap<Attribute, String>,
    /// For each header, in lower case, a policy that looks at it.
    headers: BTreeMap<String, String>,
    /// The first keys of claims.
    claims: BTreeSet<String>,
    /// A policy with a path that is no method of gRPC.
    not_grpc: Option<String>,
    /// Whether there are policies that are not known.
    has_unknown: bool,
}

/// Why something is needed.
#[derive(Clone, Debug)]
pub struct Because {
    /// A clause, such as `policy default/a looks at paths`.
    pub text: String,
    severity: Severity,
}

impl Because {
    /// A finding whose message begins with the reason. It is an error, unless nobody knows whether the reason is true.
    pub fn report(&self, place: &Place<'_>, check: &EnvoyCheck, and: &str, hint: impl Into<String>) -> Finding {
        place.report(self.severity, check, format!("{}, and {and}", self.text), hint)
    }

    /// The same reason for something that is not that bad.
    pub fn milder(self) -> Self {
        Self { severity: Severity::Warning, ..self }
    }

    /// A finding whose message ends with the reason.
    pub fn report_behind(&self, place: &Place<'_>, check: &EnvoyCheck, what: &str, hint: impl Into<String>) -> Finding {
        place.report(self.severity, check, format!("{what}, and {}", self.text), hint)
    }
}

impl Needs {
    /// What the policies of these filters look at. If those of one are unknown, the policies that are given count, if any are.
    pub fn of(filters: &[Ours<'_>], given: &[&AuthorizationPolicy]) -> Self {
        let has_unknown = given.is_empty() && !filters.iter().all(Ours::is_known);
        let mut needs = Self { has_unknown, ..Self::default() };
        for policy in filters.iter().flat_map(Ours::policies).chain(given.iter().copied()) {
            for predicate in policy.predicates() {
                needs.add(policy, predicate);
            }
        }
        needs
    }

    fn add(&mut self, policy: &AuthorizationPolicy, predicate: &Predicate) {
        let name = || policy.name.to_string();
        let (has_any, has_none) = sides(predicate);
        let opens = match policy.action {
            Action::Allow => has_none,
            Action::Deny | Action::Custom => has_any,
            Action::Audit => false,
        };
        for attribute in attributes(predicate) {
            self.by.entry(attribute).or_insert_with(name);
            if opens {
                self.opening.entry(attribute).or_insert_with(name);
            }
        }
        match predicate {
            Predicate::Header { name: header, .. } => {
                self.headers.entry(header.to_ascii_lowercase()).or_insert_with(name);
            }
            Predicate::Claim { path, .. } => self.claims.extend(path.first().cloned()),
            Predicate::Path(Values { any, none }) if any.iter().chain(none).any(is_not_grpc) => {
                self.not_grpc.get_or_insert_with(name);
            }
            _ => {}
        }
    }

    /// Why this attribute is needed. `None`: no policy looks at it.
    pub fn attribute(&self, attribute: Attribute, what: &str) -> Option<Because> {
        self.any(&self.by, |found| found == attribute, what)
    }

    /// Why attributes of this subject are needed. `None`: no policy looks at them.
    pub fn subject(&self, subject: Subject, what: &str) -> Option<Because> {
        self.any(&self.by, |found| found.info().subject == subject, what)
    }

    /// Like [`Self::subject`]. If no request passes because the attribute is missing, this is milder.
    pub fn open_subject(&self, subject: Subject, what: &str) -> Option<Because> {
        let of_subject = |found: Attribute| found.info().subject == subject;
        self.any(&self.opening, of_subject, what).or_else(|| self.subject(subject, what).map(Because::milder))
    }

    /// Why one of these headers is needed; any header if there are no names.
    pub fn header(&self, names: &[&str]) -> Option<Because> {
        let found = self.headers.iter().find(|(header, _)| names.is_empty() || names.contains(&header.as_str()));
        let what = || found.map_or_else(|| "headers".to_owned(), |(header, _)| format!("the header {header}"));
        self.reason(found.map(|(_, policy)| policy), &what())
    }

    /// Why a path that is no method of gRPC is needed.
    pub fn not_grpc(&self) -> Option<Because> {
        self.reason(self.not_grpc.as_ref(), "paths other than `/package.Service/Method`")
    }

    /// Whether a policy looks at a claim whose first key this is.
    pub fn has_claim(&self, name: &str) -> bool {
        self.claims.contains(name)
    }

    fn any(
        &self,
        table: &BTreeMap<Attribute, String>,
        is_meant: impl Fn(Attribute) -> bool,
        what: &str,
    ) -> Option<Because> {
        self.reason(table.iter().find(|(attribute, _)| is_meant(**attribute)).map(|(_, name)| name), what)
    }

    fn reason(&self, policy: Option<&String>, what: &str) -> Option<Because> {
        match policy {
            Some(name) => Some(Because { text: format!("policy {name} looks at {what}"), severity: Severity::Error }),
            None if self.has_unknown => Some(Because {
                text: format!("the policies are not in the input, and may look at {what}"),
                severity: Severity::Warning,
            }),
            None => None,
        }
    }
}

/// The attribute that a predicate looks at, and, for a header that Envoy has for another attribute, this one as well.
fn attributes(predicate: &Predicate) -> impl Iterator<Item = Attribute> {
    let further = match predicate {
        Predicate::Header { name, .. } if name.eq_ignore_ascii_case(":path") => Some(Attribute::Path),
        Predicate::Header { name, .. } if name.eq_ignore_ascii_case(":method") => Some(Attribute::Method),
        Predicate::Header { name, .. } if [":authority", "host"].iter().any(|host| name.eq_ignore_ascii_case(host)) => {
            Some(Attribute::Host)
        }
        _ => None,
    };
    std::iter::once(predicate.attribute()).chain(further)
}

/// Whether a predicate has values, and whether it has `not` values.
fn sides(predicate: &Predicate) -> (bool, bool) {
    fn of<T>(values: &Values<T>) -> (bool, bool) {
        (!values.any.is_empty(), !values.none.is_empty())
    }
    match predicate {
        Predicate::Principal(values)
        | Predicate::RequestPrincipal(values)
        | Predicate::TrustDomain(values)
        | Predicate::Namespace(values)
        | Predicate::Host(values)
        | Predicate::Method(values)
        | Predicate::Sni(values)
        | Predicate::Header { values, .. }
        | Predicate::Claim { values, .. } => of(values),
        Predicate::ServiceAccount(values) => of(values),
        Predicate::RemoteIp(values) | Predicate::SourceIp(values) | Predicate::DestinationIp(values) => of(values),
        Predicate::Path(values) => of(values),
        Predicate::DestinationPort(values) => of(values),
        Predicate::Metadata { values, .. } => of(values),
    }
}

/// Whether a path cannot be a method of gRPC: `/package.Service/Method`.
fn is_not_grpc(value: &PathValue) -> bool {
    let (PathValue::Text(text) | PathValue::Template(text)) = value;
    let service = text.trim_start_matches('/').split('/').next().unwrap_or_default();
    !service.contains('.') && text != "*" && text != "/*" && text != "/{**}"
}
