//! Why a condition fails, where its values and the values of the request look alike.
//!
//! A reason says what differs. It never says how to make the condition hold: whether the request should match is not
//! known here, and a hint must not open anything.

mod identity;
mod missing;
mod network;
mod path;
mod request_principal;
mod text;

use mesh_authz::identity::SCHEME;
use mesh_authz::matcher::Polarity;
use mesh_authz::policy::Predicate;
use mesh_authz::request::{Address, Attributes};

use super::actual::{Actual, RequestView};

/// A failed condition, and the request that it failed for.
pub(super) struct Failed<'f, A> {
    pub predicate: &'f Predicate,
    /// Its values, as the policy has them.
    pub expected: &'f [String],
    /// What the request has for the attribute.
    pub actual: &'f Actual,
    /// Whether it failed because one of its `not` values matches.
    pub is_not: bool,
    /// Whether a match of its values permits or denies.
    pub polarity: Polarity,
    /// The namespace of the policy.
    pub namespace: &'f str,
    pub request: &'f RequestView<'f, A>,
}

/// Compares a value of a policy, which does not match, with a value of the request. Says why it does not match if
/// that is the reason.
type Reason = fn(&str, &str) -> Option<String>;

impl<A: Attributes> Failed<'_, A> {
    /// The reason, if the values look alike. Sentences without a full stop.
    pub fn reason(&self) -> Option<String> {
        if self.is_not {
            return self.other_form();
        }
        let Actual::Values(_) = self.actual else { return self.missing() };
        match self.predicate {
            Predicate::Path(_) => {
                let odd = |template: &str, path: &str| path::template(template, path, self.polarity);
                self.pairs(odd)
                    .or_else(|| self.first(&path::REASONS))
                    .or_else(|| self.first(&[path::segments]))
                    .or_else(|| self.first(&text::REASONS))
            }
            Predicate::Host(_) => self.first(&network::HOST).or_else(|| self.first(&text::REASONS)),
            Predicate::Header { name, .. } if name.eq_ignore_ascii_case("host") => {
                self.first(&network::HOST).or_else(|| self.first(&text::REASONS))
            }
            Predicate::Sni(_) => self.first(&network::HOST).or_else(|| self.first(&text::REASONS)),
            Predicate::Header { .. } | Predicate::Claim { .. } => {
                self.first(&text::REASONS).or_else(|| self.first(&text::PARTS))
            }
            Predicate::Method(_) => self.first(&text::REASONS),
            Predicate::Metadata { .. } => self
                .first(&[text::brackets])
                .or_else(|| self.first(&text::REASONS))
                .or_else(|| self.first(&text::PARTS)),
            Predicate::Principal(_) => {
                let of_id = |expected: &str, name: &str| {
                    let id = name.strip_prefix(SCHEME).unwrap_or(name);
                    text::REASONS.iter().find_map(|reason| reason(expected, id))
                };
                self.first(&identity::PRINCIPAL).or_else(|| self.pairs(of_id))
            }
            Predicate::Namespace(_) => self.pairs(identity::namespace),
            Predicate::TrustDomain(_) => self.pairs(identity::trust_domain),
            Predicate::ServiceAccount(_) => {
                self.pairs(|expected, actual| identity::service_account(expected, actual, self.namespace))
            }
            Predicate::RequestPrincipal(_) => {
                let (issuer, subject) = self.request.issuer_and_subject()?;
                request_principal::reason(self.expected, &issuer, &subject)
            }
            Predicate::SourceIp(values) => {
                network::address(values, self.request.request.address(Address::Source), || {
                    network::other(values, self.request.request.address(Address::Remote), "remote.ip", "remoteIpBlocks")
                })
            }
            Predicate::RemoteIp(values) => {
                network::address(values, self.request.request.address(Address::Remote), || {
                    network::other(values, self.request.request.address(Address::Source), "source.ip", "ipBlocks")
                })
            }
            Predicate::DestinationIp(values) => {
                network::address(values, self.request.request.address(Address::Destination), || None)
            }
            Predicate::DestinationPort(_) => {
                let hosts = self.request.request.header(b":authority").known();
                let host = hosts.and_then(|mut hosts| hosts.next()).map(String::from_utf8_lossy)?;
                network::port(self.expected, &host)
            }
        }
    }

    /// The first reason that holds for a pair of values.
    fn first(&self, reasons: &[Reason]) -> Option<String> {
        reasons.iter().find_map(|reason| self.pairs(reason))
    }

    fn pairs(&self, reason: impl Fn(&str, &str) -> Option<String>) -> Option<String> {
        let Actual::Values(actual) = self.actual else { return None };
        self.expected.iter().find_map(|expected| actual.iter().find_map(|actual| reason(expected, actual)))
    }

    /// Why a `not` value matches a value that looks different.
    fn other_form(&self) -> Option<String> {
        let Actual::Values(actual) = self.actual else { return None };
        match self.predicate {
            Predicate::Host(_) => text::other_form(self.expected, actual, &network::bare_hosts),
            Predicate::Header { .. } => {
                text::other_form(self.expected, actual, &|value| vec![value.trim_matches([' ', '\t']).to_owned()])
            }
            _ => None,
        }
    }

    /// Why the request has no value, where it has something near.
    fn missing(&self) -> Option<String> {
        match (self.predicate, self.actual) {
            (Predicate::Claim { path, .. }, Actual::Nothing(_)) => self.request.missing_claim(path),
            (Predicate::Header { name, .. }, Actual::Nothing(_)) => self.request.near_header(name),
            (Predicate::RequestPrincipal(_), Actual::Nothing(_)) => self.request.missing_subject(),
            _ => None,
        }
    }
}
