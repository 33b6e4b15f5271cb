//! MA010. A selector that matches none of the given workloads.

use mesh_authz::diagnostic::{Segment, suggestion};
use mesh_authz::policy::{Action, AuthorizationPolicy, Target};

use super::other_resources::{Workloads, selector_path, workloads};
use super::{Check, Input, Lint, Reporter};
use crate::load::LoadedPolicy;

pub(super) static LINT: Lint = Lint {
    code: "MA010",
    name: "selector-matches-nothing",
    summary: "a selector that matches none of the given workloads",
    explanation: "If no workload has the labels of a policy's selector, the policy applies to nothing, and nobody \
            notices. The lint takes workloads from the input (Pods, Deployments, StatefulSets, DaemonSets, \
            ReplicaSets, Jobs, CronJobs, WorkloadEntries and WorkloadGroups) and from --namespace and --label. Without \
            any workload in the namespace of the policy, it does not fire.",
    bad: r"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: backend
spec:
  selector:
    matchLabels:
      app: bakend
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: backend
spec:
  template:
    metadata:
      labels:
        app: backend
",
    good: r"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: backend
spec:
  selector:
    matchLabels:
      app: backend
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: backend
spec:
  template:
    metadata:
      labels:
        app: backend
",
    trust_domain: None,
    check: Check::Input(check),
};

fn check(input: &Input<'_>, reporter: &mut Reporter) {
    let workloads = workloads(input);
    if !workloads.is_empty() {
        for resource in &input.resources.policies {
            selector(input, resource, &workloads, reporter);
        }
    }
}

fn selector(input: &Input<'_>, resource: &LoadedPolicy, workloads: &Workloads, reporter: &mut Reporter) {
    let policy = &resource.policy;
    let Target::Labels(wanted) = &policy.target else { return };
    let namespace = &policy.name.namespace;
    let everywhere = *namespace == input.context.mesh.root_namespace;
    // The workloads of this namespace are in other files.
    if !everywhere && !workloads.contains_key(namespace) {
        return;
    }
    let in_reach = || {
        let of_others = workloads.iter().filter(move |(other, _)| everywhere && *other != namespace);
        workloads.get(namespace).into_iter().chain(of_others.map(|(_, all)| all)).flatten()
    };
    if in_reach().any(|labels| labels.include(wanted)) {
        return;
    }
    let lacking = |label: &&(String, String)| !in_reach().any(|labels| labels.contains(label));
    let mut path = selector_path();
    let Some((key, value)) = wanted.iter().find(lacking) else {
        let message = "no workload in reach carries all of these labels".to_owned();
        reporter.report(&LINT, resource, path, message, correct(policy, "split the policy, or correct a label."));
        return;
    };
    let carried = || in_reach().flat_map(|labels| labels.iter());
    let values = carried().filter(|(other, _)| other == key).map(|(_, value)| value.as_str());
    let keys = carried().map(|(key, _)| key.as_str());
    let hint = match (suggestion(value, values.clone()), suggestion(key, keys)) {
        (Some(near), _) => correct(policy, &format!("did you mean `{near}`?")),
        (None, Some(near)) if near != key => correct(policy, &format!("did you mean the label `{near}`?")),
        _ => match values.clone().next() {
            Some(other) => format!("a workload in reach has `{key}: {other}`"),
            None => format!("no workload in namespace `{}` has a label `{key}`", policy.name.namespace),
        },
    };
    path.0.push(Segment::Field(key.clone()));
    reporter.report(&LINT, resource, path, format!("no workload in the input carries `{key}: {value}`"), hint);
}

/// The advice to correct a selector. An ALLOW policy on one more workload lets its requests pass there.
pub(super) fn correct(policy: &AuthorizationPolicy, advice: &str) -> String {
    match policy.action {
        Action::Allow => format!("{advice} What the policy allows then passes there"),
        Action::Deny | Action::Audit | Action::Custom => advice.to_owned(),
    }
}
