//! MA035. A rule for tokens of any issuer.

use super::{Check, Input, Lint, Reporter, jwt_rules};

pub(super) static LINT: Lint = Lint {
    code: "MA035",
    name: "any-issuer",
    summary: "a rule for tokens that does not name the issuer",
    explanation: "A rule without `issuer` accepts every token that its keys have signed, whatever issuer the token names. So \
            whoever has these keys can make tokens of any issuer, also of one that another rule names and that policies trust. \
            Name the issuer.",
    bad: r"
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata:
  name: issuers
spec:
  jwtRules:
  - jwksUri: https://issuer.example/jwks.json
",
    good: r"
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata:
  name: issuers
spec:
  jwtRules:
  - issuer: https://issuer.example
    jwksUri: https://issuer.example/jwks.json
",
    trust_domain: None,
    check: Check::Input(check),
};

fn check(input: &Input<'_>, reporter: &mut Reporter) {
    for (found, path, _) in jwt_rules(input).filter(|(_, _, rule)| rule.issuer.is_none()) {
        reporter.report(
            &LINT,
            found,
            path,
            "accepts tokens of any issuer: whoever has its keys can make tokens that name another issuer",
            "write the `issuer` of these tokens",
        );
    }
}
