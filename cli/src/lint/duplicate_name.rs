//! MA011. Two policies with the same namespace and name.

use super::{Check, Lint};
use crate::load::DUPLICATE_NAME;

pub(super) static LINT: Lint = Lint {
    code: DUPLICATE_NAME,
    name: "duplicate-name",
    summary: "two policies with the same namespace and name",
    explanation: "A cluster keeps only one resource of a kind with a given namespace and name. The one that is applied \
            last silently replaces the other one. This is an error, not a warning.",
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
    check: Check::Reading,
};
