//! MA037. Alternatives that each exclude another value: every request matches one of them.

use mesh_authz::attribute::Attribute;
use mesh_authz::policy::{Action, AllOf, Cidr, Clause, Form, Predicate, Rule};

use super::{Check, Lint, LintContext, PolicyView, Reporter, ValueList};

pub(super) static LINT: Lint = Lint {
    code: "MA037",
    name: "not-one-or-not-another",
    summary: "alternatives that each exclude another value: every request matches one",
    explanation: "The sources of a rule are alternatives, and so are its operations, and the rules of a policy: one of them has to match. A request from \
            namespace `a` is not from `b`, and a request from `b` is not from `a`. So with `notNamespaces: [a]` in one \
            source and `notNamespaces: [b]` in another one, every request matches. To exclude both, write both values into one \
            list.",
    bad: r#"
spec:
  action: DENY
  rules:
  - from:
    - source:
        notNamespaces: ["shop"]
    - source:
        notNamespaces: ["istio-system"]
"#,
    good: r#"
spec:
  action: DENY
  rules:
  - from:
    - source:
        notNamespaces: ["shop", "istio-system"]
"#,
    trust_domain: None,
    check: Check::Policy(check),
};

/// A source, an operation or a condition that consists of one predicate.
struct Alternative<'p, 'r> {
    list: &'p ValueList<'r>,
    /// The index of the rule, if a whole rule is the alternative.
    rule: Option<usize>,
}

fn check(policy: &PolicyView<'_>, _: &LintContext, reporter: &mut Reporter) {
    let rules = &policy.policy().rules;
    let mut of_rules = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let of_from = alternatives(policy, index, rule, |clause| matches!(clause, Clause::From(_)));
        let of_to = alternatives(policy, index, rule, |clause| matches!(clause, Clause::To(_)));
        report(policy, &of_from, reporter);
        report(policy, &of_to, reporter);
        let mut parts = rule.clauses().filter(|(_, all_of)| !all_of.0.is_empty());
        if parts.next().is_some() && parts.next().is_none() {
            let whole = alternatives(policy, index, rule, |_| true).into_iter().next();
            of_rules.extend(whole.map(|alternative| Alternative { rule: Some(index), ..alternative }));
        }
    }
    report(policy, &of_rules, reporter);
}

/// The clauses of a rule that consist of one list of values.
fn alternatives<'p, 'r>(
    policy: &'p PolicyView<'r>,
    rule: usize,
    of: &Rule,
    is_one: impl Fn(Clause) -> bool,
) -> Vec<Alternative<'p, 'r>> {
    let alone = |(clause, all_of): (Clause, &AllOf<Predicate>)| {
        let [only] = all_of.0.as_slice() else { return None };
        let path = |is_not| only.path(rule, clause, 0, is_not);
        let list = |is_not| policy.lists.iter().find(|list| list.path == path(is_not) && !list.values.is_empty());
        let ((Some(list), None) | (None, Some(list))) = (list(false), list(true)) else { return None };
        Some(Alternative { list, rule: None })
    };
    of.clauses().filter(|(clause, _)| is_one(*clause)).filter_map(alone).collect()
}

/// Reports alternatives of which one matches every request that an earlier one does not match.
fn report(policy: &PolicyView<'_>, alternatives: &[Alternative<'_, '_>], reporter: &mut Reporter) {
    for (number, Alternative { list, rule }) in alternatives.iter().enumerate() {
        let Some(earlier) = alternatives.iter().take(number).find(|other| match_all(list, other.list)) else {
            continue;
        };
        let before = match earlier.rule {
            Some(index) => format!("rule {index}"),
            None => "an alternative before it".to_owned(),
        };
        let (what, advice) = match (earlier.list.is_not && list.is_not, rule) {
            (true, None) => ("the other does not", "to exclude both, write both values into one list"),
            (true, Some(_)) => ("the other does not", "to exclude both, write both values into one list of one rule"),
            (false, _) => ("the other asks for", "remove the one that is not meant"),
        };
        let hint = match policy.policy().action {
            Action::Deny | Action::Custom => format!("{advice}, if the requests that then match nothing are to pass"),
            Action::Allow | Action::Audit => advice.to_owned(),
        };
        let message = format!("with {before}, it matches every request: what one excludes, {what}");
        reporter.report(&LINT, policy.resource, list.path.clone(), message, hint);
    }
}

/// Whether every request matches one of two lists of the same attribute.
fn match_all(one: &ValueList<'_>, other: &ValueList<'_>) -> bool {
    let attribute = one.predicate.attribute();
    if attribute != other.predicate.attribute() || !has_one_value(attribute) {
        return false;
    }
    let includes = |positive: &ValueList<'_>, negative: &ValueList<'_>| {
        negative.values.iter().all(|value| positive.values.contains(value))
    };
    match (one.is_not, other.is_not) {
        (true, true) => one.values.iter().all(|value| other.values.iter().all(|other| are_disjoint(value, other, one))),
        (false, true) => includes(one, other),
        (true, false) => includes(other, one),
        (false, false) => false,
    }
}

/// Whether a request has one value of the attribute at most.
fn has_one_value(attribute: Attribute) -> bool {
    !matches!(attribute, Attribute::Header | Attribute::Claim | Attribute::Metadata)
}

/// Whether no request has a value that matches both.
fn are_disjoint(one: &str, other: &str, list: &ValueList<'_>) -> bool {
    match list.predicate {
        Predicate::SourceIp(_) | Predicate::RemoteIp(_) | Predicate::DestinationIp(_) => {
            match (Cidr::parse(one), Cidr::parse(other)) {
                (Ok(one), Ok(other)) => !one.contains(other.address) && !other.contains(one.address),
                _ => false,
            }
        }
        Predicate::ServiceAccount(_) => {
            let own = &list.resource.policy.name.namespace;
            let whole =
                |account: &str| if account.contains('/') { account.to_owned() } else { format!("{own}/{account}") };
            whole(one) != whole(other)
        }
        _ => {
            let [one, other] = [one, other].map(str::to_ascii_lowercase);
            match (Form::of(&one), Form::of(&other)) {
                _ if one.contains('{') || other.contains('{') => false,
                (Form::Exact(one), Form::Exact(other)) => one != other && !one.contains('*') && !other.contains('*'),
                (Form::Exact(text), Form::Prefix(start)) | (Form::Prefix(start), Form::Exact(text)) => {
                    !text.starts_with(start) && !start.contains('*')
                }
                (Form::Exact(text), Form::Suffix(end)) | (Form::Suffix(end), Form::Exact(text)) => {
                    !text.ends_with(end) && !end.contains('*')
                }
                (Form::Prefix(one), Form::Prefix(other)) => !one.starts_with(other) && !other.starts_with(one),
                (Form::Suffix(one), Form::Suffix(other)) => !one.ends_with(other) && !other.ends_with(one),
                _ => false,
            }
        }
    }
}
