//! MA041. A condition on a claim or a header whose name none has.

use mesh_authz::policy::{Clause, Predicate};

use super::impossible_value::{kind_of_odd, visible};
use super::placeholder::in_name;
use super::{Check, Lint, LintContext, PolicyView, Reporter};

pub(super) static LINT: Lint = Lint {
    code: "MA041",
    name: "misspelt-key",
    summary: "a condition on a claim or a header whose name no request has",
    explanation: "The brackets of a condition's key hold the name as it stands, without quotes and spaces. For the claim `roles` \
            inside the claim `realm_access`, write `request.auth.claims[realm_access][roles]`: in \
            `request.auth.claims[realm_access.roles]`, the dot is part of one name. A list needs no index, since every element \
            is compared. A name has no wildcard. The lint is silent about a name that looks like a domain or a URL, as many \
            claims do.",
    bad: r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: admins
spec:
  rules:
  - when:
    - key: request.auth.claims[realm_access.roles]
      values: ["admin"]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata:
  name: issuer
spec:
  jwtRules:
  - issuer: https://issuer.example
    jwksUri: https://issuer.example/jwks.json
"#,
    good: r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: admins
spec:
  rules:
  - when:
    - key: request.auth.claims[realm_access][roles]
      values: ["admin"]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata:
  name: issuer
spec:
  jwtRules:
  - issuer: https://issuer.example
    jwksUri: https://issuer.example/jwks.json
"#,
    trust_domain: None,
    check: Check::Policy(check),
};

fn check(policy: &PolicyView<'_>, _: &LintContext, reporter: &mut Reporter) {
    for (index, rule) in policy.policy().rules.iter().enumerate() {
        for (field, predicate) in rule.when.0.iter().enumerate() {
            let Some((message, advice)) = mistake(predicate) else { continue };
            let values = predicate.path(index, Clause::When, field, false);
            let not = predicate.path(index, Clause::When, field, true);
            let mut lists = policy.lists.iter().filter(|list| list.path == values || list.path == not);
            // Whoever corrects a key corrects both lists. It opens something if it does so for one of them.
            let hint = match lists.clone().find(|list| !list.denies()).or_else(|| lists.next()) {
                Some(list) => list.correct(advice),
                None => advice,
            };
            let mut path = values;
            path.0.pop();
            reporter.report(&LINT, policy.resource, path.with("key"), message, hint);
        }
    }
}

/// What is wrong with the name in a key, and what to write instead.
fn mistake(predicate: &Predicate) -> Option<(String, String)> {
    match predicate {
        Predicate::Header { name, .. } => header(name),
        Predicate::Claim { path, .. } => claim(path),
        _ => None,
    }
}

/// The names of headers that begin with a colon.
const PSEUDO: [&str; 5] = [":authority", ":method", ":path", ":protocol", ":scheme"];

fn header(name: &str) -> Option<(String, String)> {
    let key = |name: &str| format!("write `request.headers[{name}]`");
    if let Some(found) = in_name(name) {
        return Some(placeholder(found));
    }
    let is_known = |c: char| c.is_ascii_alphanumeric() || "!#$%&'+-.^_`|~:".contains(c);
    let wrong_colon = name.contains(':') && !PSEUDO.contains(&name);
    let is_wrong = |c: &char| !is_known(*c) || (*c == '\'' && name.starts_with('\'')) || (*c == ':' && wrong_colon);
    let found = name.chars().find(is_wrong)?;
    let message = match found {
        '*' => format!("`{name}`: a header's name takes no wildcard"),
        _ => format!("`{}`: no header has such a name", visible(name)),
    };
    let clean = clean(name);
    let advice = if clean == name || clean.chars().any(|c| !is_known(c)) {
        "write the name of one header".to_owned()
    } else {
        key(&clean)
    };
    Some((message, advice))
}

fn claim(path: &[String]) -> Option<(String, String)> {
    let key = |path: &[String]| format!("write `request.auth.claims[{}]`", path.join("]["));
    if let Some(found) = path.iter().find_map(|name| in_name(name)) {
        return Some(placeholder(found));
    }
    if let Some(name) = path.iter().find(|name| clean(name) != **name) {
        let path: Vec<String> = path.iter().map(|name| clean(name)).collect();
        let message =
            format!("`{}`: quotes and spaces are part of the name here, and no claim has them", visible(name));
        return Some((message, key(&path)));
    }
    if path.iter().any(|name| name == "*") {
        return Some(("a claim's name takes no wildcard".to_owned(), "write the name of the claim".to_owned()));
    }
    // A long number is the name of something, such as an organization.
    let is_number = |name: &String| name.len() < 3 && name.bytes().all(|byte| byte.is_ascii_digit());
    if let [names @ .., last] = path
        && !names.is_empty()
        && is_number(last)
    {
        let message = format!(
            "`[{last}]` is the name of a claim here: a list has no index, and all of its elements are compared"
        );
        return Some((message, key(names)));
    }
    let name = path.iter().find(|name| is_dotted(name))?;
    let path: Vec<String> = path.iter().flat_map(|name| name.split('.').map(str::to_owned)).collect();
    let message = format!("`{name}` is one name with a dot, not a claim inside another one");
    Some((message, key(&path)))
}

fn placeholder(found: &str) -> (String, String) {
    let message = format!("`{found}` is a placeholder, and nothing has filled it in");
    (message, "write the value, or check the output of the tool that fills it in".to_owned())
}

/// The name without quotes, spaces and odd characters around it.
fn clean(name: &str) -> String {
    let is_around = |c: char| c.is_whitespace() || "\"'`".contains(c) || kind_of_odd(c).is_some();
    name.trim_matches(is_around).to_owned()
}

/// Whether a claim's name has dots, and looks like neither a domain nor a URL.
fn is_dotted(name: &str) -> bool {
    const TOP_LEVEL: [&str; 12] =
        ["ai", "app", "cloud", "com", "dev", "example", "io", "internal", "local", "net", "org", "test"];
    let parts: Vec<&str> = name.split('.').collect();
    let is_word = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    let is_domain = parts
        .first()
        .zip(parts.last())
        .is_some_and(|(first, last)| TOP_LEVEL.contains(last) || TOP_LEVEL.contains(first));
    parts.len() > 1 && parts.iter().copied().all(is_word) && !is_domain
}
