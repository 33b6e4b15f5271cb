//! MA013. A DENY rule that also refuses all traffic on TCP ports.

use mesh_authz::policy::{Action, AllOf, AnyOf, Predicate, Rule, rule_path};

use super::{Check, Lint, LintContext, PolicyView, Reporter};

pub(super) static LINT: Lint = Lint {
    code: "MA013",
    name: "deny-on-tcp",
    summary: "a DENY rule that also refuses all traffic on TCP ports",
    explanation: "On a port that is not HTTP, Istio applies a DENY rule without its HTTP fields. The rule refuses \
            every connection there if nothing is left of one of its sources, one of its operations and all of its \
            conditions. List the ports for which the rule is meant. (This filter decides about HTTP only. In Istio, \
            the same policy also applies in the TCP filter.)",
    bad: r#"
spec:
  action: DENY
  rules:
  - to:
    - operation:
        methods: ["DELETE"]
"#,
    good: r#"
spec:
  action: DENY
  rules:
  - to:
    - operation:
        methods: ["DELETE"]
        ports: ["8080"]
"#,
    trust_domain: None,
    check: Check::Policy(check),
};

fn check(policy: &PolicyView<'_>, _: &LintContext, reporter: &mut Reporter) {
    let rules = policy.policy().rules.iter().enumerate();
    for (index, _) in rules.filter(|(_, rule)| policy.policy().action == Action::Deny && stops_all_tcp(rule)) {
        reporter.report(
            &LINT,
            policy.resource,
            rule_path(index),
            "on TCP ports this rule is applied without its HTTP fields, and refuses every connection",
            "name the ports that it is for, `ports: [\"8080\"]` in each operation, if requests to all other ports are to pass",
        );
    }
}

/// Whether a DENY rule refuses every connection on a TCP port. Istio applies it there without its HTTP fields. It
/// refuses everything if one of its sources, one of its operations and all conditions are then empty. A rule that had
/// no fields from the start does not count.
fn stops_all_tcp(rule: &Rule) -> bool {
    let is_empty = |all: &AllOf<Predicate>| all.0.iter().all(|predicate| predicate.attribute().is_http_only());
    let can_be_empty =
        |any: &Option<AnyOf<AllOf<Predicate>>>| any.as_ref().is_none_or(|any| any.0.iter().any(is_empty));
    let says_something = rule.clauses().any(|(_, all)| !all.0.is_empty());
    says_something && can_be_empty(&rule.from) && can_be_empty(&rule.to) && is_empty(&rule.when)
}
