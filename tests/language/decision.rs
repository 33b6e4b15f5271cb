//! Allow or deny: how each of the two combining algorithms makes one decision from the matching policies.

use mesh_authz::engine::{self, Custom, Decision, DenyReason, Engine, Options, Verdict};
use mesh_authz::request::{Lookup, Request};

use crate::support::{
    Outcome, allowed_by, allowed_by_default, decide, decide_with, denied_by, denied_by_default, engine_with, get, json,
    named, options, permit_overrides, policy,
};

const GET: &str = "[{ to: [{ operation: { methods: [GET] } }] }]";
const POST: &str = "[{ to: [{ operation: { methods: [POST] } }] }]";

#[test]
fn the_whole_table_of_deny_overrides() {
    // For each action: a matching policy, a policy that does not match, or no policy.
    let rule = |action: &str, state| match state {
        Some(true) => policy(&action.to_lowercase(), action, GET),
        Some(false) => policy(&action.to_lowercase(), action, POST),
        None => String::new(),
    };
    for deny in [None, Some(false), Some(true)] {
        for allow in [None, Some(false), Some(true)] {
            let policies = rule("DENY", deny) + &rule("ALLOW", allow);
            let expected = match (deny, allow) {
                (Some(true), _) => denied_by("default/deny", 0),
                (_, None) => allowed_by_default(),
                (_, Some(true)) => allowed_by("default/allow", 0),
                (_, Some(false)) => denied_by_default(),
            };
            assert_eq!(decide(&policies, &get("/")), expected, "{policies}");
            let expected = match (allow, deny) {
                (Some(true), _) => allowed_by("default/allow", 0),
                (_, Some(true)) => denied_by("default/deny", 0),
                (None, None) => allowed_by_default(),
                _ => denied_by_default(),
            };
            assert_eq!(decide_with(&permit_overrides(), &policies, &get("/")), expected, "{policies}");
        }
    }
}

#[test]
fn an_allow_policy_without_rules_denies_everything() {
    for spec in ["{}", "{ action: ALLOW }", "{ rules: [] }"] {
        assert_eq!(decide(&named("default", "nothing", spec), &get("/")), denied_by_default());
    }
}

#[test]
fn an_allow_policy_with_an_empty_rule_allows_everything() {
    assert_eq!(decide(&policy("all", "ALLOW", "[{}]"), &get("/")), allowed_by("default/all", 0));
    assert_eq!(decide(&policy("all", "ALLOW", "[{}]"), &Request::default()), allowed_by("default/all", 0));
}

#[test]
fn a_deny_policy_with_an_empty_rule_beats_every_allow_policy() {
    let policies = policy("deny-all", "DENY", "[{}]") + &policy("allow-all", "ALLOW", "[{}]");
    assert_eq!(decide(&policies, &get("/")), denied_by("default/deny-all", 0));
    assert_eq!(decide_with(&permit_overrides(), &policies, &get("/")), allowed_by("default/allow-all", 0));
}

#[test]
fn the_action_is_allow_unless_it_is_named() {
    let policies = named("default", "p", &format!("{{ rules: {GET} }}"));
    assert_eq!(decide(&policies, &get("/")), allowed_by("default/p", 0));
    assert_eq!(decide(&policies, &Request::new("POST", "/")), denied_by_default());
}

#[test]
fn no_policy_is_no_restriction() {
    assert_eq!(decide("", &get("/")), allowed_by_default());
    assert_eq!(decide_with(&permit_overrides(), "", &get("/")), allowed_by_default());
}

#[test]
fn a_custom_policy_that_matches_denies_while_there_is_no_provider_to_ask() {
    let custom = named("default", "ask", &format!("{{ action: CUSTOM, provider: {{ name: opa }}, rules: {GET} }}"));
    let allow = policy("allow", "ALLOW", "[{}]");
    for options in [options(), permit_overrides()] {
        let engine = engine_with(&options, &(custom.clone() + &allow));
        let request = get("/");
        let decision = engine.decide(&request);
        assert!(matches!(decision.outcome, engine::Outcome::Denied(DenyReason::NoProvider(_))));
        assert_eq!(Outcome::from(decision), denied_by("default/ask", 0));
        let other = Request::new("POST", "/");
        assert_eq!(Outcome::from(engine.decide(&other)), allowed_by("default/allow", 0));
    }
}

/// With `native`, Envoy's filters ask before this filter decides. What they leave in the metadata shows that they are there.
#[test]
fn where_envoy_asks_the_provider_a_request_must_show_it() {
    const RBAC: &str = "envoy.filters.http.rbac";
    const RESULT: &str = r#""istio_ext_authz_shadow_engine_result":"denied""#;
    const POLICY: &str =
        r#""istio_ext_authz_shadow_effective_policy_id":"istio-ext-authz-opa-ns[default]-policy[ask]-rule[0]""#;
    let custom = named("default", "ask", &format!("{{ action: CUSTOM, provider: {{ name: opa }}, rules: {GET} }}"));
    let policies = custom + &policy("allow", "ALLOW", "[{ to: [{ operation: { paths: ['/open'] } }] }]");
    let with = |method: &str, path: &str, filter: &str, fields: &[&str]| {
        let fields = format!("{{{}}}", fields.join(","));
        Request::new(method, path).metadata(filter, &json(&fields))
    };
    for options in [options(), permit_overrides()] {
        let engine = engine_with(&Options { custom: Custom::Native, ..options }, &policies);
        let outcome = |request: &Request| engine.decide(request).outcome;
        let not_asked = engine::Outcome::Denied(DenyReason::NotAsked);
        for request in [
            get("/open"),
            with("GET", "/open", RBAC, &[]),
            // Envoy has found nothing that matches, so it has not asked.
            with("GET", "/open", RBAC, &[RESULT]),
            with("GET", "/open", "envoy.filters.http.rbac2", &[RESULT, POLICY]),
            // Another provider has been asked.
            with("GET", "/open", RBAC, &[RESULT, &POLICY.replace("opa", "opa-b")]),
            with("GET", "/open", RBAC, &[RESULT, &POLICY.replace("opa", "op")]),
            get("/open").encoded_metadata(Lookup::Unreadable),
            // What matches no CUSTOM policy needs to show it too: the filters are missing, and somebody should notice.
            Request::new("POST", "/open"),
            with("POST", "/open", RBAC, &[]),
        ] {
            assert_eq!(outcome(&request), not_asked, "{request:?}");
        }
        // The other policies decide about what was asked about, and about what need not be.
        for request in [with("GET", "/open", RBAC, &[RESULT, POLICY]), with("POST", "/open", RBAC, &[RESULT])] {
            assert_eq!(Outcome::from(engine.decide(&request)), allowed_by("default/allow", 0));
        }
        for request in [with("GET", "/", RBAC, &[RESULT, POLICY]), with("POST", "/", RBAC, &[RESULT])] {
            assert_eq!(Outcome::from(engine.decide(&request)), denied_by_default());
        }
    }
    // Policies for several providers refuse what they match, because nobody asks, as in Istio by default.
    let second =
        named("default", "other", &format!("{{ action: CUSTOM, provider: {{ name: other }}, rules: {POST} }}"));
    let engine = engine_with(&Options { custom: Custom::Native, ..options() }, &(policies + &second));
    for (method, policy) in [("GET", "default/ask"), ("POST", "default/other")] {
        let decision = engine.decide(&with(method, "/open", RBAC, &[RESULT, POLICY]));
        assert!(matches!(decision.outcome, engine::Outcome::Denied(DenyReason::NoProvider(_))));
        assert_eq!(Outcome::from(decision), denied_by(policy, 0));
    }
    let neither = with("PUT", "/open", RBAC, &[]);
    assert_eq!(Outcome::from(engine.decide(&neither)), allowed_by("default/allow", 0));
    // Without CUSTOM policies, nobody needs to ask.
    let engine = engine_with(&Options { custom: Custom::Native, ..options() }, &policy("all", "ALLOW", "[{}]"));
    assert_eq!(Outcome::from(engine.decide(&get("/"))), allowed_by("default/all", 0));
}

/// With `native-each`, Envoy's filters leave a trace for each provider.
#[test]
fn where_envoy_asks_several_providers_a_request_must_show_each() {
    const RBAC: &str = "envoy.filters.http.rbac";
    let custom = |name: &str, provider: &str, path: &str| {
        let rules = format!("[{{ to: [{{ operation: {{ paths: ['{path}'] }} }}] }}]");
        named("default", name, &format!("{{ action: CUSTOM, provider: {{ name: {provider} }}, rules: {rules} }}"))
    };
    let policies = custom("people", "a", "/a*") + &custom("more", "a", "/c") + &custom("machines", "a-b", "/a/b");
    let engine = engine_with(&Options { custom: Custom::NativeEach, ..options() }, &policies);
    let result = |provider: &str| format!(r#""istio_ext_authz_{provider}_shadow_engine_result":"allowed""#);
    let policy = |key: &str, provider: &str| {
        format!(
            r#""istio_ext_authz_{key}_shadow_effective_policy_id":"istio-ext-authz-{provider}-ns[default]-policy[p]-rule[0]""#
        )
    };
    let both = || vec![result("a"), result("a-b")];
    let with = |path: &str, more: &[&String]| {
        let fields: Vec<_> = both().into_iter().chain(more.iter().map(|field| (*field).clone())).collect();
        get(path).metadata(RBAC, &json(&format!("{{{}}}", fields.join(","))))
    };
    let (of_a, of_b) = (policy("a", "a"), policy("a-b", "a-b"));
    for request in [
        with("/", &[]),
        with("/a", &[&of_a]),
        with("/c", &[&of_a]),
        with("/a/b", &[&of_a, &of_b]),
        // Envoy has asked more than it had to.
        with("/", &[&of_a]),
    ] {
        assert_eq!(Outcome::from(engine.decide(&request)), allowed_by_default(), "{request:?}");
    }
    let shared = r#""istio_ext_authz_shadow_engine_result":"denied""#.to_owned();
    let shared_policy = policy("", "a").replace("authz__shadow", "authz_shadow");
    for request in [
        get("/"),
        with("/a", &[]),
        with("/c", &[&of_b]),
        with("/a/b", &[&of_a]),
        with("/a/b", &[&of_b]),
        // The trace of one provider does not count for the other.
        with("/a/b", &[&of_a, &policy("a-b", "a")]),
        with("/a", &[&policy("a", "a-b")]),
        with("/a", &[&shared, &shared_policy]),
        get("/").metadata(RBAC, &json(&format!("{{{}}}", result("a")))),
        get("/").metadata(RBAC, &json(&format!("{{{}}}", result("a-b")))),
        get("/a").metadata(RBAC, &json(&format!("{{{shared},{shared_policy}}}"))),
    ] {
        assert_eq!(engine.decide(&request).outcome, engine::Outcome::Denied(DenyReason::NotAsked), "{request:?}");
    }
    let asked: Vec<_> =
        engine.asked_about(&get("/a/b")).into_iter().map(|(name, rule)| (name, rule.policy.to_string())).collect();
    assert_eq!(asked, [("a", "default/people".to_owned()), ("a-b", "default/machines".to_owned())]);
}

#[test]
fn custom_comes_before_deny() {
    let custom = named("default", "ask", "{ action: CUSTOM, provider: { name: opa }, rules: [{}] }");
    let deny = policy("deny", "DENY", "[{}]");
    assert_eq!(decide(&(deny + &custom), &get("/")), denied_by("default/ask", 0));
}

#[test]
fn an_audit_policy_is_recorded_and_decides_nothing() {
    let audit = policy("audit", "AUDIT", GET);
    for (others, expected) in [
        (String::new(), allowed_by_default()),
        (policy("allow", "ALLOW", GET), allowed_by("default/allow", 0)),
        (policy("allow", "ALLOW", POST), denied_by_default()),
        (policy("deny", "DENY", GET), denied_by("default/deny", 0)),
    ] {
        for options in [options(), permit_overrides()] {
            let engine = engine_with(&options, &(audit.clone() + &others));
            let request = get("/");
            let decision = engine.decide(&request);
            let audited = decision.audited.map(mesh_authz::engine::RuleId::as_str);
            assert_eq!(audited, Some("ns[default]-policy[audit]-rule[0]"));
            assert_eq!(Outcome::from(decision), expected);
            assert_eq!(engine.decide(&Request::new("POST", "/")).audited, None);
        }
    }
}

fn dry_run(name: &str, action: &str, rules: &str) -> String {
    policy(name, action, rules)
        .replace("namespace: default", "namespace: default, annotations: { istio.io/dry-run: \"true\" }")
}

fn would_be(engine: &Engine, request: &Request) -> [Option<(Verdict, Option<String>)>; 2] {
    let Decision { dry_run, .. } = engine.decide(request);
    [dry_run.deny, dry_run.allow]
        .map(|would_be| would_be.map(|would_be| (would_be.verdict, would_be.rule.map(ToString::to_string))))
}

#[test]
fn a_dry_run_decides_nothing_and_says_what_it_would_have_decided() {
    let policies = dry_run("d", "DENY", GET) + &dry_run("a", "ALLOW", POST);
    for options in [options(), permit_overrides()] {
        let engine = engine_with(&options, &policies);
        let rule = |name: &str| Some(format!("ns[default]-policy[{name}]-rule[0]"));
        assert_eq!(Outcome::from(engine.decide(&get("/"))), allowed_by_default());
        assert_eq!(
            would_be(&engine, &get("/")),
            [Some((Verdict::Deny, rule("d"))), Some((Verdict::Deny, None))],
            "DENY and ALLOW separately"
        );
        let post = Request::new("POST", "/");
        assert_eq!(Outcome::from(engine.decide(&post)), allowed_by_default());
        assert_eq!(would_be(&engine, &post), [Some((Verdict::Allow, None)), Some((Verdict::Allow, rule("a")))]);
    }
}

#[test]
fn without_a_dry_run_of_an_action_there_is_nothing_to_say_about_it() {
    let engine = engine_with(&options(), &policy("a", "ALLOW", GET));
    assert_eq!(would_be(&engine, &get("/")), [None, None]);
    let engine = engine_with(&options(), &dry_run("a", "ALLOW", GET));
    assert_eq!(would_be(&engine, &get("/"))[0], None);
    let engine = engine_with(&options(), &dry_run("d", "DENY", GET));
    assert_eq!(would_be(&engine, &get("/"))[1], None);
}

#[test]
fn a_workload_whose_only_allow_policies_are_dry_runs_has_none() {
    assert_eq!(decide(&dry_run("a", "ALLOW", POST), &get("/")), allowed_by_default());
    let with_another = dry_run("a", "ALLOW", GET) + &policy("b", "ALLOW", POST);
    assert_eq!(decide(&with_another, &get("/")), denied_by_default());
}

#[test]
fn a_dry_run_that_is_switched_off_is_none() {
    let policies = dry_run("d", "DENY", GET).replace("\"true\"", "\"false\"");
    assert_eq!(decide(&policies, &get("/")), denied_by("default/d", 0));
}

#[test]
fn reasons_read_as_sentences() {
    let custom = "{ action: CUSTOM, provider: { name: opa }, rules: [{}] }";
    let rows = [
        (String::new(), "no ALLOW policy applies, and no DENY policy matched"),
        (policy("a", "ALLOW", POST), "no ALLOW policy matched"),
        (policy("a", "ALLOW", GET), "rule 0 of default/a matched"),
        (named("default", "c", custom), "rule 0 of default/c matched, and CUSTOM has no provider to ask here"),
    ];
    for (policies, words) in rows {
        assert_eq!(engine_with(&options(), &policies).decide(&get("/")).outcome.to_string(), words);
    }
}
