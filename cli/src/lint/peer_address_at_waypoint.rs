//! MA047. The direct peer's address in a policy for a waypoint, which does not know it.

use mesh_authz::diagnostic::Segment;
use mesh_authz::policy::{Action, Predicate, Target};

use super::other_resources::waypoint;
use super::{Check, Input, Lint, PolicyView, Reporter, ValueList};

pub(super) static LINT: Lint = Lint {
    code: "MA047",
    name: "peer-address-at-waypoint",
    summary: "the direct peer's address in a policy for a waypoint, which does not know it",
    explanation: "The values of ipBlocks and source.ip are compared with the address of the direct peer. At a waypoint, the direct \
            peer is the waypoint itself: it takes requests out of a tunnel and hands them on inside. Nobody knows an \
            address there. In Istio itself no address matches, so a DENY rule with ipBlocks refuses nobody, and an ALLOW rule with \
            notIpBlocks allows everybody. This filter counts the address against every request: the DENY rule refuses \
            everybody, and the ALLOW rule allows nobody. Say with `principals` who the callers are, or ask for addresses at \
            the gateway in front. A waypoint does have an address for remoteIpBlocks and remote.ip: the last one in X-Forwarded-For or, if \
            the request has no such header, the caller's in the tunnel. A caller inside the mesh can write this header, and \
            so choose its address. The lint fires if a target reference names a Service, a ServiceEntry, the GatewayClass \
            `istio-waypoint`, or a Gateway in the input that is of this class.",
    bad: r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: cart
  namespace: shop
spec:
  targetRefs:
  - kind: Service
    name: cart
  rules:
  - from:
    - source:
        ipBlocks: ["10.1.0.0/16"]
"#,
    good: r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: cart
  namespace: shop
spec:
  targetRefs:
  - kind: Service
    name: cart
  rules:
  - from:
    - source:
        principals: ["cluster.local/ns/shop/sa/frontend"]
"#,
    trust_domain: None,
    check: Check::Input(check),
};

fn check(input: &Input<'_>, reporter: &mut Reporter) {
    for resource in &input.resources.policies {
        let Target::References(references) = &resource.policy.target else { continue };
        let Some(noun) = references.iter().find_map(|reference| waypoint(input, resource, reference)) else { continue };
        for list in &PolicyView::new(resource).lists {
            if !matches!(list.predicate, Predicate::SourceIp(_)) || list.values.is_empty() {
                continue;
            }
            let (name, instead) = names(list);
            let message = format!(
                "the policy is for {noun}, and a waypoint does not know the address of the direct peer: {}",
                consequence(resource.policy.action, list.is_not)
            );
            let hint = format!(
                "say with `principals` who the callers are; `{instead}` compares an address that a waypoint has, the last one in \
                 X-Forwarded-For or the caller's, but write it instead of `{name}` only where you trust whoever writes this \
                 header: elsewhere, clients choose that address themselves"
            );
            reporter.report(&LINT, resource, list.path.clone(), message, hint);
        }
    }
}

/// The name of the list, and of the one about the client's address.
fn names(list: &ValueList<'_>) -> (&'static str, &'static str) {
    match list.path.0.last() {
        Some(Segment::Field(field)) if field == "ipBlocks" => ("ipBlocks", "remoteIpBlocks"),
        Some(Segment::Field(field)) if field == "notIpBlocks" => ("notIpBlocks", "notRemoteIpBlocks"),
        _ => ("source.ip", "remote.ip"),
    }
}

fn consequence(action: Action, is_not: bool) -> &'static str {
    match (action, is_not) {
        (Action::Allow, false) => "no request matches this",
        (Action::Allow, true) => {
            "in Istio itself this keeps nobody out, and this filter counts it against every request"
        }
        (Action::Deny | Action::Custom, true) => "every request matches this",
        (Action::Deny | Action::Custom, false) => {
            "in Istio itself no request matches this, and this filter counts it against every request"
        }
        (Action::Audit, _) => "this does not tell requests apart",
    }
}
