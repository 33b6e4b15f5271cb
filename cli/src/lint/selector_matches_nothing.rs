//! MA010. A selector that matches none of the given workloads.

use std::collections::BTreeSet;

use mesh_authz::diagnostic::{Segment, suggestion};
use mesh_authz::policy::scope::GATEWAY_NAME_LABEL;
use mesh_authz::policy::{Action, AuthorizationPolicy, Labels, Target};

use super::other_resources::{
    Workloads, labels_of_gateways, makes_workloads, selector_path, workloads, workloads_are_known,
};
use super::{Check, Input, Lint, Reporter, impossible_label};
use crate::load::LoadedPolicy;

pub(super) static LINT: Lint = Lint {
    code: "MA010",
    name: "selector-matches-nothing",
    summary: "a selector that matches none of the given workloads",
    explanation: "If no workload has the labels of a policy's selector, the policy applies to nothing, and nobody \
            notices. The lint knows the workloads in the input: Pods, Deployments, StatefulSets, DaemonSets, \
            ReplicaSets, Jobs, CronJobs, WorkloadEntries, WorkloadGroups and Gateways. It also knows the one of \
            --namespace and --label. In two cases, it only compares gateways: if it knows no workload in the namespace \
            of the policy, and if a kustomization in the input changes namespaces, names or labels.",
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
    let (workloads, gateways) = (workloads(input), labels_of_gateways(input));
    let is_known = !workloads.is_empty() && workloads_are_known(input);
    let makers: BTreeSet<&str> = input.resources.others.iter().filter_map(makes_workloads).collect();
    for resource in input.policies_as_written() {
        if !gateway(resource, &gateways, reporter) && is_known {
            selector(input, resource, &workloads, &makers, reporter);
        }
    }
}

/// Whether the policy selects the workload of a gateway. Reports a label that is nearly a gateway's.
fn gateway(resource: &LoadedPolicy, gateways: &[Labels], reporter: &mut Reporter) -> bool {
    let Target::Labels(wanted) = &resource.policy.target else { return false };
    if gateways.iter().any(|labels| labels.include(wanted)) {
        return true;
    }
    let is_of_gateways = |key: &str| key == GATEWAY_NAME_LABEL || key == "istio";
    for (key, value) in wanted.iter().filter(|(key, _)| is_of_gateways(key)) {
        let values = gateways.iter().filter_map(|labels| labels.get(key));
        if let Some(near) = suggestion(value, values).filter(|near| near != value) {
            let mut path = selector_path();
            path.0.push(Segment::Field(key.clone()));
            let message = format!("no gateway in the input has `{key}: {value}`");
            let hint = correct(&resource.policy, &format!("did you mean `{near}`?"));
            reporter.report(&LINT, resource, path, message, hint);
            return true;
        }
    }
    false
}

fn selector(
    input: &Input<'_>,
    resource: &LoadedPolicy,
    workloads: &Workloads,
    makers: &BTreeSet<&str>,
    reporter: &mut Reporter,
) {
    let policy = &resource.policy;
    let Target::Labels(wanted) = &policy.target else { return };
    // MA052 reports these.
    if impossible_label::has_one(wanted) {
        return;
    }
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
    // Most workloads of the mesh are in other files, and Helm and operators make some. Only a label that is nearly one of
    // those here is a mistake then.
    let only_near = !workloads.contains_key(namespace) || makers.contains(namespace.as_str());
    let lacking = |label: &&(String, String)| !in_reach().any(|labels| labels.contains(label));
    let mut path = selector_path();
    let Some((key, value)) = wanted.iter().find(lacking) else {
        if only_near {
            return;
        }
        let message = "no workload in reach has all of these labels".to_owned();
        reporter.report(&LINT, resource, path, message, correct(policy, "split the policy, or correct a label"));
        return;
    };
    let carried = || in_reach().flat_map(|labels| labels.iter());
    let values = carried().filter(|(other, _)| other == key).map(|(_, value)| value.as_str());
    let keys = carried().map(|(key, _)| key.as_str());
    let hint = match (suggestion(value, values.clone()), suggestion(key, keys)) {
        (Some(near), _) => correct(policy, &format!("did you mean `{near}`?")),
        _ if only_near => return,
        (None, Some(near)) if near != key => correct(policy, &format!("did you mean the label `{near}`?")),
        _ => match values.clone().next() {
            Some(other) => format!("a workload in reach has `{key}: {other}`"),
            None => format!("no workload in namespace `{}` has a label `{key}`", policy.name.namespace),
        },
    };
    path.0.push(Segment::Field(key.clone()));
    reporter.report(&LINT, resource, path, format!("no workload in the input has the label `{key}: {value}`"), hint);
}

/// The advice to correct a selector. An ALLOW policy on one more workload lets its requests pass there.
pub(super) fn correct(policy: &AuthorizationPolicy, advice: &str) -> String {
    match policy.action {
        Action::Allow if advice.ends_with('?') => format!("{advice} What the policy allows then passes there"),
        Action::Allow => format!("{advice}; what the policy allows then passes there"),
        Action::Deny | Action::Audit | Action::Custom => advice.to_owned(),
    }
}
