//! Lints that compare policies with every `RequestAuthentication` in the input.

use crate::{findings, one_spelling, paths, policy, source};

/// A `RequestAuthentication` with these rules.
fn authentication(namespace: &str, selector: &str, rules: &str) -> String {
    format!(
        "---\n{{ apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: {{ name: r, namespace: \
         {namespace} }}, spec: {{ {selector} jwtRules: [{rules}] }} }}\n"
    )
}

fn issuer(issuer: &str) -> String {
    format!("{{ issuer: '{issuer}', jwksUri: 'https://i.example/k' }}")
}

fn when(key: &str, value: &str) -> String {
    policy("p", &format!("{{ rules: [{{ when: [{{ key: '{key}', values: ['{value}'] }}] }}] }}"))
}

fn principal(value: &str) -> String {
    source("ALLOW", &format!("requestPrincipals: ['{value}']"))
}

fn fires(text: &str, rules: &str) -> bool {
    !paths("MA042", &(text.to_owned() + &authentication("default", "", rules)), &one_spelling()).is_empty()
}

fn hint(code: &str, text: &str) -> String {
    let found = findings(text, &one_spelling());
    let found = found.into_iter().find(|finding| finding.code == Some(code)).unwrap();
    let hint = found.diagnostic.hint.unwrap();
    hint.strip_suffix(", if the requests that it then matches are to pass").unwrap_or(&hint).to_owned()
}

#[test]
fn issuers_that_are_not_accepted() {
    let with_slash = issuer("https://i.example/");
    let without = issuer("https://i.example");
    let realm = issuer("https://i.example/realms/shop");
    for (text, rules) in [
        (principal("https://i.example/*"), &with_slash),
        (principal("https://i.example//*"), &without),
        (principal("https://i.example/alice"), &realm),
        (principal("https://i.example/realms/*"), &realm),
        (principal("http://i.example/*"), &without),
        (principal("https://other.example/*"), &without),
        (principal("*other.example/alice"), &without),
        (when("request.auth.principal", "https://i.example/alice"), &with_slash),
        (when("request.auth.claims[iss]", "https://i.example"), &with_slash),
        (when("request.auth.claims[iss]", "https://other*"), &without),
        (source("ALLOW", "notRequestPrincipals: ['https://other.example/*']"), &without),
        (source("DENY", "notRequestPrincipals: ['https://i.example/*']"), &with_slash),
    ] {
        assert!(fires(&text, rules), "{text} {rules}");
    }
    for (text, rules) in [
        (principal("https://i.example//*"), &with_slash),
        (principal("https://i.example/alice"), &without),
        (principal("https://i.example/realms/shop/*"), &realm),
        (principal("*"), &without),
        (principal("*/alice"), &without),
        (principal("*alice"), &without),
        (principal("*example/alice"), &without),
        (when("request.auth.claims[iss]", "https://i.example"), &without),
        (when("request.auth.claims[iss]", "https://i*"), &without),
        (when("request.auth.claims[sub]", "https://other.example"), &without),
    ] {
        assert!(!fires(&text, rules), "{text} {rules}");
    }
    let both = format!("{}, {}", issuer("https://j.example"), without);
    assert!(!fires(&principal("https://i.example/*"), &both));
    let any = format!("{without}, {{ jwksUri: 'https://i.example/k' }}");
    assert!(!fires(&principal("https://other.example/*"), &any), "every issuer is accepted");
}

#[test]
fn only_what_applies_to_the_workloads_counts() {
    let text = policy(
        "p",
        "{ selector: { matchLabels: { app: a } }, rules: [{ from: [{ source: { requestPrincipals: ['https://j.example/*'] } }] }] }",
    );
    let fires = |namespace: &str, selector: &str| {
        let text = text.clone() + &authentication(namespace, selector, &issuer("https://i.example"));
        paths("MA042", &text, &one_spelling()).len()
    };
    assert_eq!(fires("default", ""), 1);
    assert_eq!(fires("default", "selector: { matchLabels: { app: a } },"), 1);
    assert_eq!(fires("istio-system", ""), 1);
    assert_eq!(fires("default", "selector: { matchLabels: { app: b } },"), 0, "it is for other workloads");
    assert_eq!(fires("elsewhere", ""), 0);
}

#[test]
fn the_help_names_the_issuer() {
    let slash = authentication("default", "", &issuer("https://i.example/"));
    assert_eq!(hint("MA042", &(principal("https://i.example/*") + &slash)), "write `https://i.example//*`");
    assert_eq!(
        hint("MA042", &(when("request.auth.claims[iss]", "https://i.example") + &slash)),
        "write `https://i.example/`"
    );
    let other = principal("https://staff.example/*") + &slash;
    assert_eq!(
        hint("MA042", &other),
        "write an issuer that is accepted (`https://i.example/`), or add a rule for this one if you trust it"
    );
    let plain = authentication("default", "", &issuer("https://ci.example"));
    assert_eq!(
        hint("MA022", &(principal("https://ci.example/repo:acme/*") + &plain)),
        "if the subject has a slash, use two conditions: request.auth.claims[iss] with `https://ci.example`, and \
         request.auth.claims[sub] with `repo:acme/*`"
    );
    assert_eq!(
        hint("MA042", &(principal("https://ci.example/team/alice") + &plain)),
        "use two conditions: request.auth.claims[iss] with `https://ci.example`, and request.auth.claims[sub] with `team/alice`"
    );
}

#[test]
fn audiences_that_are_not_accepted() {
    let shop = "{ issuer: 'https://i.example', audiences: [shop, web], jwksUri: 'https://i.example/k' }";
    let audience = |value: &str| when("request.auth.audiences", value);
    assert!(fires(&audience("orders"), shop));
    assert!(fires(&when("request.auth.claims[aud]", "orders"), shop));
    for value in ["shop", "web", "s*", "*"] {
        assert!(!fires(&audience(value), shop), "{value}");
    }
    assert!(!fires(&audience("orders"), &issuer("https://i.example")), "every audience is accepted");
}

#[test]
fn tokens_that_no_policy_requires() {
    let tokens = authentication("default", "selector: { matchLabels: { app: a } },", &issuer("https://i.example"));
    let fires = |text: &str| !paths("MA043", &(tokens.clone() + text), &one_spelling()).is_empty();
    let get = "rules: [{ to: [{ operation: { methods: [GET] } }] }]";
    assert!(fires(&policy("p", &format!("{{ {get} }}"))));
    assert!(fires(&policy("istio-system/p", &format!("{{ {get} }}"))));
    assert!(fires(&policy("p", "{ action: DENY, rules: [{ to: [{ operation: { paths: [/admin] } }] }] }")));
    assert!(fires(&policy(
        "p",
        "{ selector: { matchLabels: { app: b } }, rules: [{ from: [{ source: { requestPrincipals: ['*'] } }] }] }"
    )));
    assert!(!fires(&principal("https://i.example/*")));
    assert!(!fires(&source("DENY", "notRequestPrincipals: ['*']")));
    assert!(!fires(&when("request.auth.claims[groups]", "a")));
    assert!(!fires(&policy("p", "{}")), "nothing passes");
    assert!(!fires(&policy("p", "{ action: DENY, rules: [{}] }")), "nothing passes");
    let any = policy("p", &format!("{{ {get} }}"));
    for (presence, expected) in [("OPTIONAL", true), ("REQUIRED", false)] {
        let rule = format!("{{ issuer: 'https://i.example', jwksUri: 'https://i.example/k', presence: {presence} }}");
        let text = authentication("default", "", &rule) + &any;
        assert_eq!(!paths("MA043", &text, &one_spelling()).is_empty(), expected, "{presence}");
    }
    assert!(!fires(""), "the policies are in other files");
    assert!(
        !fires(&policy("elsewhere/p", &format!("{{ {get} }}"))),
        "the policies of this namespace are in other files"
    );
}
