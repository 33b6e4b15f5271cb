//! MA023. A policy in the root namespace without a selector.

use mesh_authz::diagnostic::Path;
use mesh_authz::policy::{Action, Target};

use super::{Check, Lint, LintContext, PolicyView, Reporter};

pub(super) static LINT: Lint = Lint {
    code: "MA023",
    name: "whole-mesh",
    summary: "a policy in the root namespace without a selector",
    explanation: "A policy in the root namespace applies to every workload of the mesh, unless a selector restricts \
            it. You may want that. But a policy that is there by mistake opens or closes everything. If you want it, \
            say so with the annotation `mesh-authz/allow: MA023`. An ALLOW policy without rules, which Istio recommends as the \
            default, is not reported: it only makes other ALLOW policies necessary.",
    bad: r"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: read
  namespace: istio-system
spec:
  rules:
  - to:
    - operation:
        methods: [GET]
",
    good: r"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: read
  namespace: istio-system
  annotations:
    mesh-authz/allow: MA023
spec:
  rules:
  - to:
    - operation:
        methods: [GET]
",
    trust_domain: None,
    check: Check::Policy(check),
};

fn check(policy: &PolicyView<'_>, context: &LintContext, reporter: &mut Reporter) {
    let allows_nothing = policy.policy().action == Action::Allow && policy.policy().rules.is_empty();
    if !allows_nothing
        && policy.policy().target == Target::Everything
        && policy.policy().name.namespace == context.mesh.root_namespace
    {
        reporter.report(
            &LINT,
            policy.resource,
            Path::of(["metadata", "namespace"]),
            format!(
                "in the root namespace and without a selector, this {} is for every workload of the mesh",
                policy.policy().action
            ),
            "say that it is meant with the annotation `mesh-authz/allow: MA023`; or add a selector, and then no other workload has this \
             policy",
        );
    }
}
