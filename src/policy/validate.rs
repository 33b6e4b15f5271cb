//! The checks of Istio's admission that go beyond the form of a single value.
//!
//! [`super::read`] hands over a [`Draft`] in which every value is well-formed. This module checks that the fields make
//! sense together. The filter and the command accept exactly the policies that pass. So an invalid policy is never
//! applied in part.

use super::resource::{DRY_RUN, target};
use super::value::ParseError;
use super::{
    Action, AllOf, AuthorizationPolicy, Labels, PolicyName, Predicate, Rule, ServiceAccount, TargetReference, Values,
};
use crate::diagnostic::Diagnostics;

/// A resource as read, before its fields are compared with each other. An absent field is still different from an empty
/// one.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    /// The value of the annotation [`DRY_RUN`].
    pub dry_run: Option<String>,
    pub revision: Option<String>,
    /// `spec.selector.matchLabels`.
    pub selector: Option<Labels>,
    /// `spec.targetRef`. Empty if the reference was invalid.
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
pub(crate) struct Provider {
    /// `spec.provider.name`.
    pub name: Option<String>,
}

/// Checks that the fields of a draft fit together. Reports every mistake. The result is only valid if there was none.
pub(crate) fn policy(name: PolicyName, draft: Draft, diagnostics: &mut Diagnostics) -> AuthorizationPolicy {
    let Draft { dry_run, revision, selector, target_ref, target_refs, action, provider, rules } = draft;
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
    AuthorizationPolicy { name, revision, dry_run, action, target, rules, provider }
}

/// Reads the annotation [`DRY_RUN`]. It takes the values that Go's `ParseBool` takes, on the actions that have a dry
/// run.
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

pub(crate) fn rule(rule: &Rule, action: Action, diagnostics: &mut Diagnostics) {
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
                if action == Action::Custom && !condition.attribute().is_known_to_custom() {
                    diagnostics.field("key", |diagnostics| refuse_in_custom(condition, diagnostics));
                }
            });
        }
    });
}

fn source(source: &AllOf<Predicate>, action: Action, diagnostics: &mut Diagnostics) {
    for field in &source.0 {
        predicate(field, diagnostics);
        if action == Action::Custom && !field.attribute().is_known_to_custom() {
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

fn refuse_in_custom(predicate: &Predicate, diagnostics: &mut Diagnostics) {
    let name = predicate.name();
    diagnostics.error_with_hint(format!("CUSTOM cannot use {name}"), "let the provider look at the identity");
}

/// Reads a value of the field `trustDomains`, which may not hold a slash.
pub(super) fn trust_domain(text: &str) -> Result<String, ParseError> {
    if text.contains('/') {
        return Err(ParseError::new(
            format!("`{text}`: a trust domain has no slash"),
            "write the part between `spiffe://` and the first slash only",
        ));
    }
    trust_domain_condition(text)
}

/// Reads a value of the condition `source.trustDomain`, which may hold a slash.
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
