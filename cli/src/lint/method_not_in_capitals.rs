//! MA006. A method with a lower-case letter.

use mesh_authz::policy::Predicate;

use super::several_values::is_registered;
use super::{Check, Lint, LintContext, Remark, ValueList};

pub(super) static LINT: Lint = Lint {
    code: "MA006",
    name: "method-not-in-capitals",
    summary: "a method with a lower-case letter",
    explanation: "The comparison of methods is case-sensitive, and clients send methods in capitals. So `get` does not match \
            a GET. Envoy refuses the method `get` over HTTP/1, and takes it over HTTP/2.",
    bad: r#"
spec:
  rules:
  - to:
    - operation:
        methods: ["get"]
"#,
    good: r#"
spec:
  rules:
  - to:
    - operation:
        methods: ["GET"]
"#,
    trust_domain: None,
    check: Check::Value(check),
};

fn check(value: &str, list: &ValueList<'_>, _: &LintContext) -> Option<Remark> {
    let Predicate::Method(_) = list.predicate else { return None };
    if value.starts_with('/') {
        return Some(Remark::new(
            format!("`{value}` is a path, and no method has a slash"),
            list.correct(format!(
                "write `{value}` into `{}`, as for every gRPC method",
                if list.is_not { "notPaths" } else { "paths" }
            )),
        ));
    }
    let capitals = value.to_ascii_uppercase();
    let advice = if is_registered(capitals.trim_matches('*')) {
        format!("write `{capitals}`")
    } else {
        "write the method as clients send it".to_owned()
    };
    (value != capitals).then(|| {
        Remark::new(
            format!("`{value}` is compared with its case, and clients send methods in capitals"),
            list.correct(advice),
        )
    })
}
