//! MA013. A DENY rule that also refuses all traffic on TCP ports.

use mesh_authz::diagnostic::Path;
use mesh_authz::document::Node;
use mesh_authz::policy::{Action, AllOf, AnyOf, Labels, Predicate, Rule, Target, rule_path};

use super::other_resources::{NamedKind, workloads};
use super::tcp_traffic::{Tcp, Traffic};
use super::{Check, Enforced, Input, Lint, Reporter};
use crate::load::{LoadedPolicy, Other};

pub(super) static LINT: Lint = Lint {
    code: "MA013",
    name: "deny-on-tcp",
    summary: "a DENY rule that also refuses all traffic on TCP ports",
    explanation: "Istio also applies a policy to ports that are not HTTP. There, a sidecar or a gateway leaves out the \
            HTTP fields of a DENY rule. If nothing is left of one of its sources, one of its operations and all of its \
            conditions, the rule refuses every connection. If only `not` fields are left, it refuses nearly every \
            connection. List the ports that the rule is for. The lint says nothing if all ports of the workload's \
            Services in the input are HTTP. It says nothing about gateways, unless a Gateway in the input has a \
            listener for TCP or passes TLS on. In an Envoy without Istio, this happens only if a network \
            filter chain has the filter: give the Envoy's configuration with --envoy, or --allow MA013. In ambient mode, \
            ztunnel leaves the HTTP fields out too, but a source or an operation without any other field then matches \
            nothing. If the input says that the policy's namespace is in ambient mode, the lint reports the rules that \
            ztunnel never matches: they need a waypoint, and targetRefs.",
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
    check: Check::Input(check),
};

fn check(input: &Input<'_>, reporter: &mut Reporter) {
    // The filter decides about HTTP only there.
    if input.context.enforced == Enforced::ByThisFilter {
        return;
    }
    let ambient: Vec<&str> =
        NamedKind::Namespace.all(input).filter(|other| is_ambient(other)).filter_map(Other::name).collect();
    let (traffic, workloads) = (Traffic::new(input), workloads(input));
    let is_deny = |resource: &&LoadedPolicy| resource.policy.action == Action::Deny;
    for resource in input.resources.policies.iter().filter(is_deny) {
        let policy = &resource.policy;
        let namespace = policy.name.namespace.as_str();
        let has_envoy = match &policy.target {
            Target::References(_) => true,
            Target::Labels(labels) => traffic.is_gateway(labels),
            Target::Everything => false,
        };
        // A policy of the root namespace is for every namespace.
        let is_for_ztunnel = !has_envoy
            && ambient.contains(&namespace)
            && namespace != input.context.mesh.root_namespace
            && !workloads
                .get(namespace)
                .is_some_and(|all| all.iter().any(|labels| has_sidecar(labels, &policy.target)));
        for (index, rule) in policy.rules.iter().enumerate() {
            if is_for_ztunnel {
                if is_unknown_to_ztunnel(rule) {
                    let message = "the namespace is in ambient mode, and ztunnel knows no HTTP: it never matches this rule, so nothing is refused";
                    let hint = "name a waypoint, or a Service behind one, in `targetRefs` instead of the selector";
                    reporter.report(&LINT, resource, rule_path(index), message, hint);
                }
                continue;
            }
            let Some(refused) = on_tcp(rule) else { continue };
            let place = match traffic.of(policy) {
                Tcp::HttpOnly => continue,
                Tcp::Has(place) => format!(" ({place})"),
                Tcp::Unknown => String::new(),
            };
            reporter.report(
                &LINT,
                resource,
                rule_path(index),
                format!("Istio also applies this rule to TCP ports{place}, without its HTTP fields: there, it refuses {refused}"),
                "name the ports that it is for, `ports: [\"8080\"]` in each operation, if requests to all other ports are to \
                 pass; for an Envoy without Istio, give --envoy CONFIG or --allow MA013",
            );
        }
    }
}

fn is_ambient(namespace: &Other) -> bool {
    let label = Path::of(["metadata", "labels", "istio.io/dataplane-mode"]);
    namespace.node.at(&label).and_then(Node::as_str) == Some("ambient")
}

/// Whether the policy is for a workload with these labels, and they say that it has a sidecar.
fn has_sidecar(labels: &Labels, target: &Target) -> bool {
    let is_selected = match target {
        Target::Labels(wanted) => labels.include(wanted),
        _ => true,
    };
    is_selected && labels.iter().any(|(key, value)| key == "sidecar.istio.io/inject" && value == "true")
}

/// What a DENY rule refuses on a TCP port, where Istio applies it without its HTTP fields; `None` if it still says what it
/// is for. A rule that had no HTTP field from the start does not count.
fn on_tcp(rule: &Rule) -> Option<&'static str> {
    let is_http = |predicate: &Predicate| predicate.attribute().is_http_only();
    if !rule.clauses().any(|(_, all)| all.0.iter().any(is_http)) {
        return None;
    }
    let is_left = |can_stay: fn(&Predicate) -> bool| {
        let is_wide = |all: &AllOf<Predicate>| all.0.iter().all(|predicate| is_http(predicate) || can_stay(predicate));
        let any_is_wide =
            |any: &Option<AnyOf<AllOf<Predicate>>>| any.as_ref().is_none_or(|any| any.0.iter().any(is_wide));
        any_is_wide(&rule.from) && any_is_wide(&rule.to) && is_wide(&rule.when)
    };
    if is_left(|_| false) {
        Some("every connection")
    } else if is_left(excludes_only) {
        Some("every connection that its `not` fields do not exclude")
    } else {
        None
    }
}

/// Whether nearly every connection matches: the predicate only says what a value is not, or that there is one. A port is no
/// such value, since it says which connections are meant.
fn excludes_only(predicate: &Predicate) -> bool {
    match predicate {
        Predicate::SourceIp(values) | Predicate::RemoteIp(values) | Predicate::DestinationIp(values) => {
            values.any.iter().any(|block| block.prefix == 0) || values.any.is_empty()
        }
        Predicate::Principal(values) | Predicate::Namespace(values) | Predicate::TrustDomain(values) => {
            values.any.is_empty() || values.any.iter().any(|value| value == "*")
        }
        Predicate::ServiceAccount(values) => values.any.is_empty(),
        Predicate::Sni(values) => values.any.is_empty(),
        _ => false,
    }
}

/// Whether ztunnel never matches a rule. It leaves out what it does not know, and what is then empty matches nothing.
fn is_unknown_to_ztunnel(rule: &Rule) -> bool {
    let is_known = |predicate: &Predicate| {
        matches!(
            predicate,
            Predicate::SourceIp(_)
                | Predicate::Namespace(_)
                | Predicate::ServiceAccount(_)
                | Predicate::Principal(_)
                | Predicate::DestinationIp(_)
                | Predicate::DestinationPort(_)
        )
    };
    let says_something = |all: &AllOf<Predicate>| all.0.iter().any(is_known);
    let is_empty =
        |any: &Option<AnyOf<AllOf<Predicate>>>| any.as_ref().is_some_and(|any| !any.0.iter().any(says_something));
    let has_clauses = rule.clauses().any(|(_, all)| !all.0.is_empty());
    let has_nothing_left = !rule.clauses().any(|(_, all)| says_something(all));
    has_clauses && (is_empty(&rule.from) || is_empty(&rule.to) || has_nothing_left)
}
