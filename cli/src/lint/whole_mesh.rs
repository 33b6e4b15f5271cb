//! MA023. A policy in the root namespace without a selector.

use mesh_authz::diagnostic::Path;
use mesh_authz::policy::{Action, AuthorizationPolicy, Predicate, Rule, Source, Target};

use super::callers::{is_gateway, is_operator};
use super::public_endpoint::is_public;
use super::{Check, Input, Lint, Reporter};

pub(super) static LINT: Lint = Lint {
    code: "MA023",
    name: "whole-mesh",
    summary: "a policy in the root namespace without a selector",
    explanation: "A policy in the root namespace applies to every workload of the mesh, unless a selector restricts \
            it. You may want that. But a policy that is there by mistake opens or closes everything. If you want it, \
            say so with the annotation `mesh-authz/allow: MA023`. The lint is silent about what is usual there: an ALLOW policy \
            without rules, which Istio recommends as the default and which only makes other ALLOW policies necessary; beside it, \
            an ALLOW policy for health checks and metrics, or for monitoring and gateways; a DENY policy for peers without an \
            identity of the mesh; and what decides nothing, AUDIT and dry runs.",
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
    check: Check::Input(check),
};

fn check(input: &Input<'_>, reporter: &mut Reporter) {
    let root = input.context.mesh.root_namespace.as_str();
    let is_for_all =
        |policy: &AuthorizationPolicy| policy.target == Target::Everything && policy.name.namespace == root;
    let for_all = || input.resources.policies.iter().filter(|resource| is_for_all(&resource.policy));
    let has_default = for_all().any(|resource| allows_nothing(&resource.policy) && !resource.policy.dry_run);
    for resource in for_all() {
        let policy = &resource.policy;
        if policy.dry_run || is_usual(policy, has_default) {
            continue;
        }
        reporter.report(
            &LINT,
            resource,
            Path::of(["metadata", "namespace"]),
            format!("in the root namespace and without a selector, this {} is for every workload of the mesh", policy.action),
            "say that it is meant with the annotation `mesh-authz/allow: MA023`; or add a selector, and then no other workload has this \
             policy",
        );
    }
}

fn allows_nothing(policy: &AuthorizationPolicy) -> bool {
    policy.action == Action::Allow && policy.rules.is_empty()
}

/// Whether a policy is often meant for every workload. `has_default` says that such a policy allows nothing.
fn is_usual(policy: &AuthorizationPolicy, has_default: bool) -> bool {
    match policy.action {
        Action::Allow => policy.rules.is_empty() || (has_default && policy.rules.iter().all(is_for_infrastructure)),
        Action::Deny => policy.rules.iter().all(is_for_strangers),
        Action::Audit => true,
        Action::Custom => false,
    }
}

/// Whether a rule allows health checks and metrics, or is for monitoring and gateways.
fn is_for_infrastructure(rule: &Rule) -> bool {
    let is_infrastructure = |source: &Source| is_operator(source) || is_gateway(source);
    let by_source = rule.from.as_ref().is_some_and(|from| !from.0.is_empty() && from.0.iter().all(is_infrastructure));
    by_source || is_public(rule)
}

/// Whether a rule only matches peers without an identity, or without one in the trust domains of the mesh.
fn is_for_strangers(rule: &Rule) -> bool {
    let is_whole_domain = |value: &String| {
        value.strip_suffix('*').is_some_and(|rest| matches!(rest.split_once('/'), None | Some((_, ""))))
    };
    let excludes_all = |field: &Predicate| match field {
        Predicate::Principal(values) => values.any.is_empty() && values.none.iter().any(is_whole_domain),
        Predicate::Namespace(values) => values.any.is_empty() && values.none.iter().any(|value| value == "*"),
        Predicate::TrustDomain(values) => values.any.is_empty() && !values.none.is_empty(),
        _ => false,
    };
    let is_stranger = |source: &Source| source.0.iter().any(excludes_all);
    rule.when.0.iter().any(excludes_all)
        || rule.from.as_ref().is_some_and(|from| !from.0.is_empty() && from.0.iter().all(is_stranger))
}
