//! MA038. Two alternatives of an ALLOW policy, where one rule or one operation was probably meant.

use std::collections::BTreeSet;

use mesh_authz::analysis::{self, Compared, CompiledRule, Coverage, Requests, Sides};
use mesh_authz::attribute::{Attribute, Subject};
use mesh_authz::policy::{
    Action, AllOf, AnyOf, AuthorizationPolicy, Clause, Operation, Predicate, Rule, Source, rule_path,
};

use super::callers::is_operator;
use super::comparison::budget;
use super::public_endpoint::{is_private, is_public};
use super::{Check, Lint, LintContext, PolicyView, Related, Reporter};

pub(super) static LINT: Lint = Lint {
    code: "MA038",
    name: "split-rule",
    summary: "a rule of an ALLOW policy that a dash splits in two",
    explanation: "The rules of a policy are alternatives. If one rule has only `from` and the next one only `to` or `when`, \
            the callers in `from` may do everything, and everybody may do what `to` says. Often, one rule was meant, and the \
            dash before `to` is one too many. The operations of a rule are alternatives too: `methods` in one and `paths` in \
            another one allow these methods on every path, and every method on these paths. So are the sources: `principals: \
            [\"*\"]` in one and `namespaces` in another one let in whoever has an identity. The lint is silent where the \
            alternatives are probably meant: if another rule of the policy has both `from` and `to`; about what is usually open \
            to everybody, such as health checks, metrics and login pages; about hosts and paths beside a rule for addresses, or \
            for monitoring and other operators, unless a name such as `/admin` says that they are not for everybody; and about \
            methods that only read. If alternatives that it reports are meant, say so with the annotation \
            `mesh-authz/allow: MA038`.",
    bad: r#"
spec:
  rules:
  - from:
    - source:
        principals: ["cluster.local/ns/shop/sa/web"]
  - to:
    - operation:
        paths: ["/cart/*"]
"#,
    good: r#"
spec:
  rules:
  - from:
    - source:
        principals: ["cluster.local/ns/shop/sa/web"]
    to:
    - operation:
        paths: ["/cart/*"]
"#,
    trust_domain: None,
    check: Check::Policy(check),
};

fn check(policy: &PolicyView<'_>, context: &LintContext, reporter: &mut Reporter) {
    if policy.policy().action != Action::Allow {
        return;
    }
    rules(policy, reporter);
    for (index, rule) in policy.policy().rules.iter().enumerate() {
        operations(policy, index, rule, reporter);
        two_sources(policy, context, index, rule, reporter);
    }
}

/// Reports rules without `from` that stand beside a rule of `from` only.
fn rules(policy: &PolicyView<'_>, reporter: &mut Reporter) {
    let rules = &policy.policy().rules;
    // Who writes one rule as a whole knows how.
    if rules.iter().any(is_complete) {
        return;
    }
    for (index, rule) in rules.iter().enumerate() {
        let at = |index: Option<usize>| Some((index?, rules.get(index?)?));
        let before = |distance| at(index.checked_sub(distance));
        // `- from`, `- to` and `- when` are three parts of one rule.
        let is_third_part = !has_operations(rule) && before(1).is_some_and(|(_, before)| has_only_operations(before));
        // What is open to everybody often comes first, and then what needs any token, or any identity.
        let after = at(index.checked_add(1)).filter(|(_, after)| !is_for_anybody(after));
        let neighbours = [before(1), before(2).filter(|_| is_third_part), after];
        let split_from = |(_, other): &(usize, &Rule)| sources(other).is_some_and(|sources| is_split(sources, rule));
        let Some((other, _)) = neighbours.into_iter().flatten().find(split_from) else { continue };
        let part = if has_operations(rule) { "to" } else { "when" };
        let place = Related::new(policy.resource, &rule_path(other), "the rule that says who");
        let message = if rule.when.0.iter().any(says_who) {
            format!(
                "rule {other} allows everything to its callers, whatever this rule asks for: rules are alternatives"
            )
        } else {
            format!(
                "allows this to everybody, and rule {other} allows everything to its callers: rules are alternatives"
            )
        };
        reporter.report_related(
            &LINT,
            policy.resource,
            rule_path(index),
            message,
            format!(
                "write `from` and `{part}` into one rule, without a dash before the second; if both are meant, accept them with the \
                 annotation `mesh-authz/allow: MA038`"
            ),
            place,
        );
    }
}

/// The sources of a rule that has nothing else.
fn sources(rule: &Rule) -> Option<&[Source]> {
    let sources = rule.from.as_ref()?.0.as_slice();
    (rule.to.is_none() && rule.when.0.is_empty() && sources.iter().any(|source| !source.0.is_empty()))
        .then_some(sources)
}

/// Whether a rule has both a source and something else.
fn is_complete(rule: &Rule) -> bool {
    let has_source = rule.from.as_ref().is_some_and(|from| from.0.iter().any(|source| !source.0.is_empty()));
    has_source && (has_operations(rule) || !rule.when.0.is_empty())
}

/// Whether the sources of a rule only ask for tokens, or for any identity.
fn is_for_anybody(rule: &Rule) -> bool {
    let is_any = |field: &Predicate| match field {
        Predicate::Principal(values) | Predicate::Namespace(values) => values.any.iter().any(|value| value == "*"),
        _ => field.attribute().info().subject == Subject::Token,
    };
    rule.from.as_ref().is_some_and(|from| from.0.iter().all(|source| source.0.iter().all(is_any)))
}

fn has_operations(rule: &Rule) -> bool {
    rule.to.as_ref().is_some_and(|to| to.0.iter().any(|operation| !operation.0.is_empty()))
}

fn has_only_operations(rule: &Rule) -> bool {
    rule.from.is_none() && rule.when.0.is_empty() && has_operations(rule)
}

/// Whether a rule looks like the other half of one that has only these sources.
fn is_split(sources: &[Source], rule: &Rule) -> bool {
    if rule.from.is_some() || (!has_operations(rule) && rule.when.0.is_empty()) {
        return false;
    }
    let is_any_token = |all: &AllOf<Predicate>| all.0.iter().any(takes_any_subject);
    let who = rule.when.0.iter().filter(|predicate| says_who(predicate)).collect::<Vec<_>>();
    // A rule that says who is a whole rule. But beside a rule for every token, a condition on the token has no effect.
    if !who.is_empty() {
        return sources.iter().any(is_any_token) && who.into_iter().all(is_about_role);
    }
    let may_be_meant = || names_something(rule) && sources.iter().all(may_do_everything) && !is_private(rule);
    !is_public(rule) && !may_be_meant()
}

/// Whether callers often may do everything: operators, and those at certain addresses.
fn may_do_everything(source: &Source) -> bool {
    let is_address = |field: &Predicate| matches!(field, Predicate::SourceIp(_) | Predicate::RemoteIp(_));
    is_operator(source) || (!source.0.is_empty() && source.0.iter().all(is_address))
}

/// Whether a rule names hosts or paths, which may be for everybody.
fn names_something(rule: &Rule) -> bool {
    let is_name = |field: &Predicate| match field {
        Predicate::Host(values) => !values.any.is_empty(),
        Predicate::Path(values) => !values.any.is_empty(),
        _ => false,
    };
    rule.to.as_ref().is_some_and(|to| to.0.iter().all(|operation| operation.0.iter().any(is_name)))
}

/// Whether a field takes every token of an issuer.
fn takes_any_subject(field: &Predicate) -> bool {
    matches!(field, Predicate::RequestPrincipal(values) if values.any.iter().any(|value| value.ends_with('*')))
}

/// Whether a condition is about a claim that many tokens of one issuer have in common.
fn is_about_role(predicate: &Predicate) -> bool {
    const WHO: [&str; 4] = ["iss", "sub", "aud", "azp"];
    matches!(predicate, Predicate::Claim { path, .. } if !path.iter().any(|claim| WHO.contains(&claim.as_str())))
}

/// Whether a condition says who may do something.
fn says_who(predicate: &Predicate) -> bool {
    match predicate {
        Predicate::SourceIp(_) | Predicate::RemoteIp(_) => true,
        Predicate::Header { name, .. } => is_credential(name),
        _ => predicate.attribute().info().subject != Subject::Traffic,
    }
}

/// Whether a header says who the client is, or is a secret that it knows.
fn is_credential(header: &str) -> bool {
    const PARTS: [&str; 15] = [
        "api-key",
        "apikey",
        "auth",
        "caller",
        "cert",
        "client",
        "cookie",
        "forwarded",
        "key",
        "origin",
        "secret",
        "signature",
        "tenant",
        "token",
        "user",
    ];
    let header = header.to_ascii_lowercase();
    PARTS.iter().any(|part| header.contains(part))
}

/// Reports an operation of one field only beside one of another field only.
fn operations(policy: &PolicyView<'_>, index: usize, rule: &Rule, reporter: &mut Reporter) {
    let Some(to) = &rule.to else { return };
    for (number, pair) in to.0.windows(2).enumerate() {
        let [one, other] = pair else { continue };
        let alone = |operation: &Operation| Rule { to: Some(AnyOf(vec![operation.clone()])), ..Rule::default() };
        if !is_half(one, other) || is_public(&alone(one)) || is_public(&alone(other)) {
            continue;
        }
        let second = number.saturating_add(1);
        reporter.report(
            &LINT,
            policy.resource,
            Clause::To(second).path(index),
            format!("operations are alternatives: what operation {number} names is allowed for everything here, and the reverse"),
            "write both fields into one operation, without a dash before the second",
        );
    }
}

/// Whether the operations name one field each, which belong together: methods and something else, or hosts and paths.
/// Methods that only read are often allowed everywhere.
fn is_half(one: &Operation, other: &Operation) -> bool {
    let only = |operation: &Operation| match operation.0.as_slice() {
        [Predicate::Method(values)] if values.any.iter().any(|method| !only_reads(method)) => Some(Attribute::Method),
        [Predicate::Path(values)] if !values.any.is_empty() => Some(Attribute::Path),
        [Predicate::Host(values)] if !values.any.is_empty() => Some(Attribute::Host),
        [Predicate::DestinationPort(values)] if !values.any.is_empty() => Some(Attribute::DestinationPort),
        _ => None,
    };
    match (only(one), only(other)) {
        (Some(Attribute::Method), Some(other)) | (Some(other), Some(Attribute::Method)) => other != Attribute::Method,
        (Some(Attribute::Host), Some(Attribute::Path)) | (Some(Attribute::Path), Some(Attribute::Host)) => true,
        _ => false,
    }
}

fn only_reads(method: &str) -> bool {
    ["GET", "HEAD", "OPTIONS"].contains(&method)
}

/// Reports a source that another source of the rule, with other fields, makes redundant.
fn two_sources(policy: &PolicyView<'_>, context: &LintContext, index: usize, rule: &Rule, reporter: &mut Reporter) {
    const MOST_SOURCES: usize = 8;
    let sources = rule.from.as_ref().map_or(&[][..], |from| from.0.as_slice());
    if !(2..=MOST_SOURCES).contains(&sources.len()) {
        return;
    }
    let alone = |source: &Source| Rule { from: Some(AnyOf(vec![source.clone()])), ..Rule::default() };
    let parts = AuthorizationPolicy { rules: sources.iter().map(alone).collect(), ..policy.policy().clone() };
    let compared = Compared::new([&parts], &context.mesh.options(), &context.mesh.root_namespace);
    let rules = Sides::default().rules(&compared);
    let position = |rule: &analysis::Rule<'_>| rule.compiled().id().index;
    let fields = |rule: &analysis::Rule<'_>| {
        let source = sources.get(position(rule));
        source.into_iter().flat_map(|source| &source.0).map(Predicate::attribute).collect::<BTreeSet<_>>()
    };
    let covers = |wide: &analysis::Rule<'_>, narrow: &analysis::Rule<'_>| {
        let is_wide = |_: &AuthorizationPolicy, rule: &CompiledRule| rule.id().index == position(wide);
        matches!(rules.coverage(narrow, &is_wide, Requests::Expected, &mut budget(1)), Ok(Coverage::By(_)))
    };
    for narrow in rules.all() {
        let is_wider = |wide: &&analysis::Rule<'_>| {
            fields(wide) != fields(narrow) && covers(wide, narrow) && !covers(narrow, wide)
        };
        let Some(wide) = rules.all().find(is_wider) else { continue };
        reporter.report(
            &LINT,
            policy.resource,
            Clause::From(position(narrow)).path(index),
            format!(
                "source {} matches every caller that this one matches: sources are alternatives, so this one adds nothing",
                position(wide)
            ),
            "write the fields of both into one source, without a dash before the second; or remove this one",
        );
    }
}
