//! MA011. Two policies with the same namespace and name.

use super::{Check, Input, Lint, Remark, Reported, Reporter};
use crate::load::kustomization::Deployment;
use crate::load::twins::{DUPLICATE_NAME, Twin};

pub(super) static LINT: Lint = Lint {
    code: DUPLICATE_NAME,
    name: "duplicate-name",
    summary: "two policies with the same namespace and name",
    explanation: "A cluster keeps only one resource of a kind with a given namespace and name. The one that is applied \
            last silently replaces the other one. In one file, and in two files that a kustomization deploys together, this is \
            an error. Two files that the kustomizations in the input keep apart, such as a base and a patch, or two overlays, \
            are not reported. For other files, nothing says whether one cluster gets both, so `check` warns: disable the \
            warning if they are for several clusters, or pass `--together` to make it an error. For every other command, it is \
            an error.",
    bad: r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: backend
spec: {}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: backend
spec:
  rules:
  - to:
    - operation:
        methods: ["GET"]
"#,
    good: r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: backend-nothing
spec: {}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: backend-get
spec:
  rules:
  - to:
    - operation:
        methods: ["GET"]
"#,
    trust_domain: None,
    check: Check::Input(check),
};

/// Reports resources of which nothing says whether they are deployed together. If they are, it is an error, which is
/// reported when the files are read.
fn check(input: &Input<'_>, reporter: &mut Reporter) {
    let Some(kustomizations) = &input.resources.kustomizations else { return };
    let twins = input.resources.twins(|one, other| kustomizations.relation(&one.file, &other.file));
    for twin in twins.iter().filter(|twin| twin.deployment == Deployment::Unknown) {
        let (earlier, _) = twin.earlier;
        let message = format!(
            "another policy, in {}, has the same namespace and name: a cluster that gets both keeps the last",
            earlier.file.display()
        );
        let hint = "if they are deployed together, rename or remove one; otherwise check them apart, or accept this with \
                    --allow MA011";
        let resource = Reported { source: twin.source, node: twin.node, name: Some(twin.name) };
        reporter.add(&LINT, resource, Twin::path(), Remark::new(message, hint), Some(twin.related()));
    }
}
