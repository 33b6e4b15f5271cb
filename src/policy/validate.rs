//! What Istio's admission check refuses, beyond the form of a single value.
//!
//! [`super::read`] hands over a [`Draft`], whose every value is well-formed; here the fields have to make sense
//! together. The filter and the command accept exactly the policies that pass, so an invalid one is never half-applied.

use super::key::ParseError;
use super::{
    Action, AllOf, AuthorizationPolicy, PolicyName, Predicate, Rule, ServiceAccount, Target, TargetReference, Values,
};
use crate::diagnostic::Diagnostics;

/// The annotation that makes a policy a dry run.
pub const DRY_RUN: &str = "istio.io/dry-run";

/// Annotations that Istio sets on what it derives from other resources; a user's resource must not carry them.
pub(super) const RESERVED_ANNOTATIONS: [&str; 3] =
    ["internal.istio.io/parents", "internal.istio.io/parent-namespace", "internal.istio.io/webhook-always-reject"];

pub(super) const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;
const MOST_LABELS: usize = 4096;

/// A resource as read, before its fields are held against each other. Absent and empty are still different.
#[derive(Debug, Default)]
pub struct Draft {
    /// The value of the annotation [`DRY_RUN`].
    pub dry_run: Option<String>,
    /// `spec.selector.matchLabels`.
    pub selector: Option<Vec<(String, String)>>,
    /// `spec.targetRef`; empty if it was wrong.
    pub target_ref: Option<Vec<TargetReference>>,
    /// `spec.targetRefs`.
    pub target_refs: Option<Vec<TargetReference>>,
    /// `spec.action`.
    pub action: Action,
    /// `spec.provider`.
    pub provider: Option<Provider>,
    /// `spec.rules`.
    pub rules: Option<Vec<Rule>>,
}

/// A `provider` as read.
#[derive(Debug)]
pub struct Provider {
    /// Its name.
    pub name: Option<String>,
}

/// Holds the fields of a draft against each other. Reports every mistake; the result counts only if there was none.
pub fn policy(name: PolicyName, draft: Draft, diagnostics: &mut Diagnostics) -> AuthorizationPolicy {
    let Draft { dry_run, selector, target_ref, target_refs, action, provider, rules } = draft;
    let dry_run = dry_run.is_some_and(|value| self::dry_run(&value, action, diagnostics));
    let rules = rules.unwrap_or_default();
    let (target, provider) = diagnostics.field("spec", |diagnostics| {
        let target = target(selector, target_ref, target_refs, diagnostics);
        let provider = self::provider(provider, action, diagnostics);
        if rules.is_empty() && matches!(action, Action::Deny | Action::Custom) {
            diagnostics.field("rules", |diagnostics| {
                diagnostics.error_with_hint(
                    format!("{action} without rules never matches"),
                    "add an empty rule, `rules: [{}]`, to match every request",
                );
            });
        }
        diagnostics.field("rules", |diagnostics| {
            for (index, rule) in rules.iter().enumerate() {
                diagnostics.index(index, |diagnostics| self::rule(rule, action, diagnostics));
            }
        });
        (target, provider)
    });
    AuthorizationPolicy { name, dry_run, action, target, rules, provider }
}

/// The values that Go's `ParseBool` takes, on the actions that have a dry run.
fn dry_run(value: &str, action: Action, diagnostics: &mut Diagnostics) -> bool {
    let mut report = |message: String, hint: &str| {
        diagnostics.field("metadata", |diagnostics| {
            diagnostics.field("annotations", |diagnostics| {
                diagnostics.field(DRY_RUN, |diagnostics| diagnostics.error_with_hint(message, hint));
            });
        });
    };
    if !matches!(action, Action::Allow | Action::Deny) {
        report(format!("a dry run of {action} is not supported"), "only ALLOW and DENY have one");
    }
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => true,
        "0" | "f" | "F" | "FALSE" | "false" | "False" => false,
        _ => {
            report(format!("`{value}` is not a boolean"), "write \"true\" or \"false\"");
            false
        }
    }
}

/// Which workloads a resource is for: its selector or its target references.
pub(crate) fn target(
    selector: Option<Vec<(String, String)>>,
    target_ref: Option<Vec<TargetReference>>,
    target_refs: Option<Vec<TargetReference>>,
    diagnostics: &mut Diagnostics,
) -> Target {
    let given = [selector.is_some(), target_ref.is_some(), target_refs.is_some()];
    if given.into_iter().filter(|given| *given).count() > 1 {
        diagnostics.error_with_hint(
            "only one of selector, targetRef and targetRefs may be set",
            "a policy is for workloads or for gateways; split it in two",
        );
    }
    if let Some(labels) = selector {
        diagnostics.field("selector", |diagnostics| match_labels(&labels, diagnostics));
        return if labels.is_empty() { Target::Everything } else { Target::Labels(labels) };
    }
    let references: Vec<_> = target_ref.into_iter().flatten().chain(target_refs.into_iter().flatten()).collect();
    if references.is_empty() { Target::Everything } else { Target::References(references) }
}

fn match_labels(labels: &[(String, String)], diagnostics: &mut Diagnostics) {
    diagnostics.field("matchLabels", |diagnostics| {
        if labels.len() > MOST_LABELS {
            diagnostics.error(format!("has {} labels, at most {MOST_LABELS} are allowed", labels.len()));
        }
        for (key, value) in labels {
            diagnostics.field(key, |diagnostics| {
                if key.is_empty() {
                    diagnostics.error("a label needs a key");
                }
                if key.contains('*') || value.contains('*') {
                    diagnostics.error_with_hint("a selector takes no wildcard", "name one label per workload instead");
                }
                if value.chars().count() > LONGEST_LABEL {
                    diagnostics.error(format!("is longer than {LONGEST_LABEL} characters"));
                }
            });
        }
    });
}

fn provider(provider: Option<Provider>, action: Action, diagnostics: &mut Diagnostics) -> Option<String> {
    let is_custom = action == Action::Custom;
    diagnostics.field("provider", |diagnostics| match provider {
        Some(_) if !is_custom => {
            diagnostics.error_with_hint(format!("{action} takes no provider"), "only CUSTOM does");
            None
        }
        None if is_custom => {
            diagnostics.error_with_hint("is missing", "CUSTOM asks a provider: name one");
            None
        }
        Some(Provider { name }) => {
            let name = name.filter(|name| !name.is_empty());
            if name.is_none() {
                diagnostics.field("name", |diagnostics| diagnostics.error("must not be empty"));
            }
            name
        }
        None => None,
    })
}

fn rule(rule: &Rule, action: Action, diagnostics: &mut Diagnostics) {
    let sources = rule.from.iter().flat_map(|from| from.0.iter());
    diagnostics.field("from", |diagnostics| {
        for (index, source) in sources.clone().enumerate() {
            diagnostics.index(index, |diagnostics| {
                diagnostics.field("source", |diagnostics| self::source(source, action, diagnostics));
            });
        }
    });
    diagnostics.field("when", |diagnostics| {
        for (index, condition) in rule.when.0.iter().enumerate() {
            diagnostics.index(index, |diagnostics| {
                predicate(condition, diagnostics);
                if action == Action::Custom && not_for_custom(condition) {
                    diagnostics.field("key", |diagnostics| refuse_in_custom(condition, diagnostics));
                }
            });
        }
    });
}

fn source(source: &AllOf<Predicate>, action: Action, diagnostics: &mut Diagnostics) {
    for field in &source.0 {
        predicate(field, diagnostics);
        if action == Action::Custom && not_for_custom(field) {
            refuse_in_custom(field, diagnostics);
        }
    }
}

fn predicate(predicate: &Predicate, diagnostics: &mut Diagnostics) {
    if let Predicate::ServiceAccount(Values { any, none }) = predicate {
        let most = ServiceAccount::MOST_VALUES;
        if any.len().max(none.len()) > most {
            diagnostics.error_with_hint(format!("takes at most {most} service accounts"), "spread them over sources");
        }
    }
}

/// CUSTOM is decided before identities and tokens count.
fn not_for_custom(predicate: &Predicate) -> bool {
    match predicate {
        Predicate::Principal(_)
        | Predicate::RequestPrincipal(_)
        | Predicate::ServiceAccount(_)
        | Predicate::TrustDomain(_)
        | Predicate::Namespace(_)
        | Predicate::Claim { .. } => true,
        Predicate::RemoteIp(_)
        | Predicate::SourceIp(_)
        | Predicate::Host(_)
        | Predicate::Method(_)
        | Predicate::Path(_)
        | Predicate::DestinationPort(_)
        | Predicate::DestinationIp(_)
        | Predicate::Sni(_)
        | Predicate::Header { .. }
        | Predicate::Metadata { .. } => false,
    }
}

fn refuse_in_custom(predicate: &Predicate, diagnostics: &mut Diagnostics) {
    let name = predicate.name();
    diagnostics.error_with_hint(format!("CUSTOM cannot use {name}"), "let the provider look at the identity");
}

/// A value of `trustDomains`.
pub(super) fn trust_domain(text: &str) -> Result<String, ParseError> {
    if text.contains('/') {
        return Err(ParseError::new(
            format!("`{text}`: a trust domain has no slash"),
            "write the part between `spiffe://` and the first slash only",
        ));
    }
    trust_domain_condition(text)
}

/// A value of `source.trustDomain`, which may hold a slash.
pub(super) fn trust_domain_condition(text: &str) -> Result<String, ParseError> {
    let stars = text.matches('*').count();
    let at_an_end = text.starts_with('*') || text.ends_with('*');
    if stars > 1 || (stars == 1 && !at_an_end) {
        return Err(ParseError::new(
            format!("`{text}`: a trust domain takes one wildcard, at its start or end"),
            "such as `*.example.org` or `prod-*`",
        ));
    }
    Ok(text.to_owned())
}

/// A resource's name: a DNS subdomain, as Kubernetes has it. It ends up in logs and metrics.
pub fn resource_name(name: &str, diagnostics: &mut Diagnostics) {
    if name.len() > LONGEST_NAME || !name.split('.').all(is_dns_label) {
        diagnostics.error_with_hint(
            format!("{name:?} is not a valid name"),
            "lower-case letters, digits, `-` and `.`, at most 253, starting and ending with a letter or digit",
        );
    }
}

/// A namespace: a DNS label.
pub fn namespace_name(name: &str, diagnostics: &mut Diagnostics) {
    if name.len() > LONGEST_LABEL || !is_dns_label(name) {
        diagnostics.error_with_hint(
            format!("{name:?} is not a valid namespace"),
            "lower-case letters, digits and `-`, at most 63, starting and ending with a letter or digit",
        );
    }
}

fn is_dns_label(label: &str) -> bool {
    let is_alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = label.as_bytes();
    bytes.first().is_some_and(is_alphanumeric)
        && bytes.last().is_some_and(is_alphanumeric)
        && bytes.iter().all(|b| is_alphanumeric(b) || *b == b'-')
}
