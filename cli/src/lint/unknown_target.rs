//! MA046. A target reference that names nothing.

use mesh_authz::diagnostic::{Path, Segment, suggestion};
use mesh_authz::policy::scope::WAYPOINT_CLASS;
use mesh_authz::policy::{Target, TargetKind, TargetReference};

use super::other_resources::NamedKind;
use super::selector_matches_nothing::correct;
use super::{Check, Input, Lint, Remark, Reporter};
use crate::load::LoadedPolicy;

pub(super) static LINT: Lint = Lint {
    code: "MA046",
    name: "unknown-target",
    summary: "a target reference that names nothing",
    explanation: "A target reference names a Gateway, a Service or a ServiceEntry in the policy's own namespace. If the input has \
            resources of that kind in that namespace, and none of them has the name, the policy applies to nothing. A \
            GatewayClass is obeyed only in the root namespace, and only if it is `istio-waypoint`. The lint says nothing about a \
            kind of which the input has no resource in the namespace.",
    bad: r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: hosts
  namespace: edge
spec:
  targetRefs:
  - group: gateway.networking.k8s.io
    kind: Gateway
    name: web
  rules:
  - to:
    - operation:
        hosts: ["shop.example.com"]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: website
  namespace: edge
spec:
  gatewayClassName: istio
  listeners:
  - name: http
    port: 80
    protocol: HTTP
"#,
    good: r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: hosts
  namespace: edge
spec:
  targetRefs:
  - group: gateway.networking.k8s.io
    kind: Gateway
    name: website
  rules:
  - to:
    - operation:
        hosts: ["shop.example.com"]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: website
  namespace: edge
spec:
  gatewayClassName: istio
  listeners:
  - name: http
    port: 80
    protocol: HTTP
"#,
    trust_domain: None,
    check: Check::Input(check),
};

fn check(input: &Input<'_>, reporter: &mut Reporter) {
    for resource in input.policies_as_written() {
        let Target::References(references) = &resource.policy.target else { continue };
        for (index, reference) in references.iter().enumerate() {
            let Some(Remark { message, hint }) = mistake(input, resource, reference) else { continue };
            let mut path = Path::of(["spec", "targetRefs"]);
            path.0.push(Segment::Index(index));
            if resource.node.at(&path).is_none() {
                path = Path::of(["spec", "targetRef"]);
            }
            reporter.report(&LINT, resource, path.with("name"), message, correct(&resource.policy, &hint));
        }
    }
}

fn mistake(input: &Input<'_>, resource: &LoadedPolicy, reference: &TargetReference) -> Option<Remark> {
    let TargetReference { kind, name } = reference;
    let namespace = resource.policy.name.namespace.as_str();
    let (kind, noun) = match kind {
        TargetKind::Gateway => (NamedKind::Gateway, "Gateway"),
        TargetKind::Service => (NamedKind::Service, "Service"),
        TargetKind::ServiceEntry => (NamedKind::ServiceEntry, "ServiceEntry"),
        TargetKind::GatewayClass => return class(input, namespace, name),
    };
    let known = kind.names(input, namespace);
    if known.is_empty() || known.contains(&name.as_str()) || !kind.is_known(input) {
        return None;
    }
    let message =
        format!("namespace `{namespace}` has no {noun} `{name}` in the input, so the policy applies to nothing there");
    let hint = match suggestion(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("write the name of a {noun}, such as `{}`", known.first()?),
    };
    Some(Remark::new(message, hint))
}

fn class(input: &Input<'_>, namespace: &str, name: &str) -> Option<Remark> {
    let root = &input.context.mesh.root_namespace;
    if namespace != root {
        return Some(Remark::new(
            format!(
                "a GatewayClass is obeyed only in the root namespace, `{root}`: in `{namespace}` the policy applies to nothing"
            ),
            format!("move the policy to `{root}`, and it is for every waypoint; or name a Gateway of `{namespace}`"),
        ));
    }
    (name != WAYPOINT_CLASS).then(|| {
        Remark::new(
            format!("only the GatewayClass `{WAYPOINT_CLASS}` can be a target: the policy applies to nothing"),
            format!("write `{WAYPOINT_CLASS}`, or name a Gateway"),
        )
    })
}
