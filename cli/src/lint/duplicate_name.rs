//! MA011. Two policies of one namespace and name.

use super::{Check, Lint};
use crate::load::DUPLICATE_NAME;

pub(super) static LINT: Lint = Lint {
    code: DUPLICATE_NAME,
    name: "duplicate-name",
    summary: "two policies of one namespace and name",
    explanation: "A cluster keeps one resource of a name: the one applied last replaces the other without a word. This is \
            an error, not a warning.",
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
