//! MA037. Alternatives that each exclude another value: every request matches one of them.

use mesh_authz::diagnostic::Path;
use mesh_authz::policy::{Action, Clause, Predicate, Values};

use super::{Check, Lint, LintContext, PolicyView, Reporter, ValueList};

pub(super) static LINT: Lint = Lint {
    code: "MA037",
    name: "not-one-or-not-another",
    summary: "alternatives that each exclude another value, so that every request matches one of them",
    explanation: "The sources of a rule are alternatives, and so are its operations: one of them has to match. A request from \
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

fn check(policy: &PolicyView<'_>, _: &LintContext, reporter: &mut Reporter) {
    for (index, rule) in policy.policy().rules.iter().enumerate() {
        let alternatives: Vec<_> = rule
            .clauses()
            .filter_map(|(clause, all_of)| match (clause, all_of.0.as_slice()) {
                (Clause::From(_) | Clause::To(_), [only]) if excludes_only(only) => Some((clause, only)),
                _ => None,
            })
            .collect();
        for (number, (clause, one)) in alternatives.iter().enumerate() {
            let earlier = alternatives.iter().take(number);
            let other = earlier
                .filter(|(before, other)| is_from(*before) == is_from(*clause) && other.attribute() == one.attribute());
            let path = one.path(index, *clause, 0, true);
            let is_disjoint = |(before, other): &&(Clause, &Predicate)| {
                let values = (excluded(policy, &path), excluded(policy, &other.path(index, *before, 0, true)));
                matches!(values, (Some(ones), Some(others)) if !ones.values.iter().any(|value| others.values.contains(value)))
            };
            if other.clone().any(|pair| is_disjoint(&pair)) {
                let message =
                    "with an alternative before it, it matches every request: what one excludes, the other does not";
                let hint = match policy.policy().action {
                    Action::Deny | Action::Custom => {
                        "to exclude both, write both values into one list, if the requests with them are to pass"
                    }
                    Action::Allow | Action::Audit => "to exclude both, write both values into one list",
                };
                reporter.report(&LINT, policy.resource, path, message, hint);
            }
        }
    }
}

fn is_from(clause: Clause) -> bool {
    matches!(clause, Clause::From(_))
}

/// Whether the predicate only says what a single value of the request must not be.
fn excludes_only(predicate: &Predicate) -> bool {
    fn only<T>(values: &Values<T>) -> bool {
        values.any.is_empty() && !values.none.is_empty()
    }
    match predicate {
        Predicate::Namespace(values) | Predicate::Method(values) => only(values),
        Predicate::DestinationPort(values) => only(values),
        Predicate::Path(values) => only(values),
        _ => false,
    }
}

/// The list at this path, if none of its values has a wildcard.
fn excluded<'p, 'r>(policy: &'p PolicyView<'r>, path: &Path) -> Option<&'p ValueList<'r>> {
    let list = policy.lists.iter().find(|list| list.path == *path)?;
    (!list.values.iter().any(|value| value.contains(['*', '{']))).then_some(list)
}
