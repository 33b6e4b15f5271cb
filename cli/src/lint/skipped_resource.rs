//! MA030. A resource that nothing here reads.

use std::collections::BTreeMap;

use mesh_authz::diagnostic::Path;

use super::{Check, Input, Lint, Reporter, is_skipped};
use crate::load::Other;

pub(super) static LINT: Lint = Lint {
    code: "MA030",
    name: "skipped-resource",
    summary: "a resource that the command skips",
    explanation: "The command reads every AuthorizationPolicy, RequestAuthentication and PeerAuthentication, every \
            workload, the resources that policies name (Namespaces, ServiceAccounts, Services, ServiceEntries, Gateways, \
            GatewayClasses), kustomizations, and what loads the filter. It skips all others, so no answer of the command takes \
            them into account. For example, a VirtualService that rewrites paths changes which requests reach which \
            application, and a document without `kind` may be a policy that is written wrongly. The lint reports each kind once, \
            at its first resource. Give the command fewer files, or accept what is skipped: with `--allow MA030`, or \
            with the annotation `mesh-authz/allow: MA030` on the resource.",
    bad: r"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: allow-nothing
spec: {}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: shop
spec:
  hosts: [shop.example.com]
  http:
  - rewrite:
      uri: /internal/
    route:
    - destination:
        host: shop
",
    good: r"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: allow-nothing
spec: {}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: shop
  annotations:
    mesh-authz/allow: MA030
spec:
  hosts: [shop.example.com]
  http:
  - rewrite:
      uri: /internal/
    route:
    - destination:
        host: shop
",
    trust_domain: None,
    check: Check::Input(check),
};

fn check(input: &Input<'_>, reporter: &mut Reporter) {
    let mut by_kind = BTreeMap::<_, Vec<&Other>>::new();
    for other in input.resources.others.iter().filter(|other| is_skipped(other) && !other.is_test_file()) {
        if !LINT.is_allowed_by(&other.node) {
            by_kind.entry((other.text("kind"), other.text("apiVersion"))).or_default().push(other);
        }
    }
    for ((kind, version), others) in by_kind {
        let Some(first) = others.first() else { continue };
        let what = match (kind, version) {
            ("", "") => "a document without `kind` and `apiVersion`".to_owned(),
            ("", version) => format!("a document of {version} without `kind`"),
            (kind, "") => format!("{kind} without `apiVersion`"),
            (kind, version) => format!("{kind} of {version}"),
        };
        let more = match others.len() {
            1 => String::new(),
            count => format!(", {count} times"),
        };
        let (path, hint) = match kind {
            "" => (Path::default(), "write `apiVersion` and `kind` if it is meant to be a resource, or leave it out"),
            _ => (Path::of(["kind"]), "leave it out, or accept this with --allow MA030"),
        };
        reporter.report(&LINT, *first, path, format!("{what}: skipped{more}"), hint);
    }
}
