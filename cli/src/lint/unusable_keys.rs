//! MA048. A key set of which Envoy accepts no key.

use mesh_authz::diagnostic::Segment;
use mesh_authz::document::from_json;

use super::{Check, Input, Lint, Reporter, jwt_rules};
use crate::load::request_authentication::{Keys, refusal};

pub(super) static LINT: Lint = Lint {
    code: "MA048",
    name: "unusable-keys",
    summary: "a key set of which Envoy accepts no key",
    explanation: "If Envoy accepts no key in `jwks`, it refuses every listener with it, on each workload that the \
            RequestAuthentication is for. A running proxy goes on with the old listener: no token of the issuer is \
            verified with the new keys, and later changes of any policy have no effect. A proxy that starts gets no \
            listener. Istio accepts many of these key sets: its check looks neither at `alg` nor at what a value means. Envoy \
            accepts `kty` RSA with `n` and `e`, EC with `x` and `y` on the curve P-256, P-384 or P-521, OKP with `x` on the \
            curve Ed25519, and oct with `k`. The values are base64url. It reads no certificates in `x5c`. It leaves out \
            keys that it does not accept if there is another one. The lint does not compute whether `x` and `y` are on the curve.",
    bad: r#"
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata:
  name: issuer
spec:
  jwtRules:
  - issuer: https://issuer.example
    jwks: |
      {"keys": [{"kty": "OKP", "crv": "X25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}
"#,
    good: r#"
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata:
  name: issuer
spec:
  jwtRules:
  - issuer: https://issuer.example
    jwks: |
      {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}
"#,
    trust_domain: None,
    check: Check::Input(check),
};

fn check(input: &Input<'_>, reporter: &mut Reporter) {
    for (found, mut path, rule) in jwt_rules(input) {
        let Keys::Inline(text) = &rule.keys else { continue };
        let Some(why) = from_json(text.as_bytes()).ok().and_then(|set| refusal(&set)) else { continue };
        path.0.push(Segment::Field("jwks".to_owned()));
        reporter.report(
            &LINT,
            found,
            path,
            format!(
                "Envoy accepts no key of this set, and refuses every listener of the workloads: later changes of any policy \
                 have no effect there ({why})"
            ),
            "write the public keys as the issuer publishes them, or their https:// address into `jwksUri`",
        );
    }
}
