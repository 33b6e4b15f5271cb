//! MA051. ALLOW rules that do not count on TCP ports.

use mesh_authz::diagnostic::Path;
use mesh_authz::policy::{Action, AllOf, Predicate, Rule, Traffic as Protocol, rule_path};

use super::tcp_traffic::{Tcp, Traffic};
use super::{Check, Enforced, Input, Lint, Reporter};
use crate::load::LoadedPolicy;

pub(super) static LINT: Lint = Lint {
    code: "MA051",
    name: "allow-on-tcp",
    summary: "ALLOW rules that do not count on a TCP port",
    explanation: "Over TCP, an ALLOW rule with a field that only HTTP has does not count at all, even if only one of its \
            operations has the field. If no rule of a workload's ALLOW policies is left, every connection to its TCP ports is \
            refused. The lint fires if the input says that the workload has a TCP port: by a Service, by a listener of a \
            gateway, or with --envoy. It says nothing if another ALLOW policy, which can be for the same workload, has a rule \
            for TCP; but it reports a rule that has one operation for TCP and another one for HTTP.",
    bad: r#"
apiVersion: v1
kind: Service
metadata:
  name: sessions
spec:
  selector:
    app: sessions
  ports:
  - name: redis
    port: 6379
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: sessions
spec:
  selector:
    matchLabels:
      app: sessions
  rules:
  - from:
    - source:
        principals: ["cluster.local/ns/default/sa/shop"]
    to:
    - operation:
        methods: ["*"]
"#,
    good: r#"
apiVersion: v1
kind: Service
metadata:
  name: sessions
spec:
  selector:
    app: sessions
  ports:
  - name: redis
    port: 6379
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: sessions
spec:
  selector:
    matchLabels:
      app: sessions
  rules:
  - from:
    - source:
        principals: ["cluster.local/ns/default/sa/shop"]
    to:
    - operation:
        ports: ["6379"]
"#,
    trust_domain: None,
    check: Check::Input(check),
};

fn check(input: &Input<'_>, reporter: &mut Reporter) {
    if input.context.enforced == Enforced::ByThisFilter {
        return;
    }
    let traffic = Traffic::new(input);
    let decides = |resource: &&LoadedPolicy| resource.policy.action == Action::Allow && !resource.policy.dry_run;
    for resource in input.resources.policies.iter().filter(decides) {
        let policy = &resource.policy;
        let place = match (traffic.of(policy), input.context.enforced) {
            (Tcp::Has(place), _) => format!(" ({place})"),
            (Tcp::Unknown, Enforced::ByThisFilterAlsoOnTcp) => String::new(),
            (Tcp::Unknown | Tcp::HttpOnly, _) => continue,
        };
        for (index, rule) in policy.rules.iter().enumerate().filter(|(_, rule)| !counts(rule)) {
            if has_an_operation_for_tcp(rule) {
                let message = format!(
                    "this rule does not count on TCP ports{place}, not even its operations that only name ports: another one looks \
                     at what only HTTP has"
                );
                let hint = "if connections there are to pass, write the operations with what only HTTP has into a rule of their \
                            own";
                reporter.report(&LINT, resource, rule_path(index), message, hint);
            }
        }
        let mut others = input.policies(policy.reach()).filter(decides);
        let is_left = others.any(|other| other.policy.rules.iter().any(counts));
        if !is_left && !policy.rules.is_empty() {
            let message = format!(
                "no ALLOW rule for this workload counts on its TCP ports{place}: each looks at what only HTTP has, so every \
                 connection is refused"
            );
            let hint = "if connections there are to pass, add a rule for them without fields of HTTP, and with the port in \
                        `ports`";
            reporter.report(&LINT, resource, Path::of(["spec", "rules"]), message, hint);
        }
    }
}

fn counts(rule: &Rule) -> bool {
    Protocol::Tcp.has_rule(Action::Allow, rule)
}

/// Whether the rule has operations for HTTP beside operations that only name ports.
fn has_an_operation_for_tcp(rule: &Rule) -> bool {
    let is_for_tcp = |operation: &AllOf<Predicate>| operation.0.iter().all(|predicate| Protocol::Tcp.has(predicate));
    rule.to.as_ref().is_some_and(|to| to.0.iter().any(is_for_tcp) && !to.0.iter().all(is_for_tcp))
}
