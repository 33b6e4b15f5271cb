//! MA032. Keys that verify tokens are fetched without TLS.

use mesh_authz::diagnostic::Segment;

use super::{Check, Input, Lint, Reporter, jwt_rules};
use crate::load::request_authentication::Keys;

pub(super) static LINT: Lint = Lint {
    code: "MA032",
    name: "keys-in-plaintext",
    summary: "keys that verify tokens, and are fetched without TLS",
    explanation: "The keys behind `jwksUri` decide which tokens are valid. Anyone on the way between the proxy and an \
            `http:` server can answer with keys of their own, and then make tokens with any claims. Fetch the keys over \
            `https:`, or write them into `jwks`.",
    bad: r"
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata:
  name: issuer
spec:
  jwtRules:
  - issuer: https://issuer.example
    jwksUri: http://issuer.example/jwks.json
",
    good: r"
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata:
  name: issuer
spec:
  jwtRules:
  - issuer: https://issuer.example
    jwksUri: https://issuer.example/jwks.json
",
    trust_domain: None,
    check: Check::Input(check),
};

fn check(input: &Input<'_>, reporter: &mut Reporter) {
    for (found, mut path, rule) in jwt_rules(input) {
        let field = match (&rule.keys, &rule.issuer) {
            (Keys::Remote(uri), _) if !uri.tls => "jwksUri",
            // Istio asks the issuer where the keys are.
            (Keys::Discovered, Some(issuer)) if issuer.starts_with("http:") => "issuer",
            _ => continue,
        };
        path.0.push(Segment::Field(field.to_owned()));
        reporter.report(
            &LINT,
            found,
            path,
            "the keys that verify tokens come without TLS: anyone on the way can replace them, and then make tokens",
            "use https://, or write the keys into `jwks`",
        );
    }
}
