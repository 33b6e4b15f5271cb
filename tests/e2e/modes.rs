//! How policies are combined: AUDIT, dry run, CUSTOM, `permit-overrides`. Also: which one of several rules is reported.

use serde_json::{Value, json};
use testbed::Request;

use crate::sidecar::{Blueprint, DENIED_BY_NONE, FRONTEND, Sidecar, denied_by, policy, to};

fn blueprint(policies: Value, combining: &str) -> Blueprint {
    let config = json!({ "policies": policies, "combining": combining, "decisionLog": "all" });
    Blueprint::new(&config).telling_details()
}

fn start(policies: Value, combining: &str) -> Sidecar {
    blueprint(policies, combining).start_shared()
}

/// As [`start`], but in an Envoy of its own, so that the log has no lines of other tests.
fn start_alone(policies: Value, combining: &str) -> Sidecar {
    blueprint(policies, combining).start()
}

fn get(sidecar: &Sidecar, path: &str) -> (u16, Option<String>) {
    let response = sidecar.client(FRONTEND).send(&Request::get(path)).unwrap();
    (response.status, response.header("x-details"))
}

/// The last line of the decision log with this path.
fn decision(sidecar: &Sidecar, path: &str) -> Value {
    sidecar.decisions().into_iter().rfind(|line| line["path"] == path).unwrap()
}

fn dry_run(mut policy: Value) -> Value {
    policy["metadata"]["annotations"] = json!({ "istio.io/dry-run": "true" });
    policy
}

fn paths(path: &str) -> Value {
    to(json!({ "paths": [path] }))
}

#[test]
fn audit_and_dry_run_record_and_never_decide() {
    let policies = json!([
        policy("audit", "AUDIT", &[paths("/audited")]),
        dry_run(policy("shadow-deny", "DENY", &[paths("/shadow")])),
        dry_run(policy("shadow-allow", "ALLOW", &[paths("/only-this")])),
        policy("deny", "DENY", &[paths("/denied")]),
    ]);
    let sidecar = start_alone(policies, "deny-overrides");
    // There is no enforced ALLOW policy, so every path except `/denied` passes.
    for path in ["/audited", "/shadow", "/only-this", "/other"] {
        assert_eq!(get(&sidecar, path), (200, None), "{path}");
    }
    assert_eq!(get(&sidecar, "/denied"), (403, Some(denied_by("deny", 0))));

    let allow = json!({ "decision": "ALLOW", "rule": null });
    let deny = json!({ "decision": "DENY", "rule": null });
    let audited = decision(&sidecar, "/audited");
    assert_eq!(audited["audited"], "ns[default]-policy[audit]-rule[0]");
    assert_eq!([&audited["dry_run_deny"], &audited["dry_run_allow"]], [&allow, &deny]);
    let shadow = decision(&sidecar, "/shadow");
    assert_eq!(shadow["audited"], Value::Null);
    assert_eq!(
        shadow["dry_run_deny"],
        json!({ "decision": "DENY", "rule": "ns[default]-policy[shadow-deny]-rule[0]" })
    );
    let only = decision(&sidecar, "/only-this");
    assert_eq!(
        only["dry_run_allow"],
        json!({ "decision": "ALLOW", "rule": "ns[default]-policy[shadow-allow]-rule[0]" })
    );
    assert_eq!(only["decision"], "ALLOW");
    assert_eq!(decision(&sidecar, "/denied")["decision"], "DENY");
}

#[test]
fn a_dry_run_does_not_override_an_enforced_allow_policy() {
    let policies =
        json!(
            [dry_run(policy("shadow-allow", "ALLOW", &[json!({})])), policy("allow", "ALLOW", &[paths("/allowed")]),]
        );
    let sidecar = start_alone(policies, "deny-overrides");
    assert_eq!(get(&sidecar, "/allowed"), (200, None));
    assert_eq!(get(&sidecar, "/other"), (403, Some(DENIED_BY_NONE.to_owned())));
    assert_eq!(decision(&sidecar, "/other")["dry_run_allow"]["decision"], "ALLOW");
}

#[test]
fn a_custom_policy_that_matches_denies_and_says_why() {
    let mut custom = policy("ask-somebody", "CUSTOM", &[paths("/custom")]);
    custom["spec"]["provider"] = json!({ "name": "somebody" });
    let policies = json!([custom, policy("allow", "ALLOW", &[json!({})])]);
    for combining in ["deny-overrides", "permit-overrides"] {
        let sidecar = start_alone(policies.clone(), combining);
        assert_eq!(get(&sidecar, "/custom"), (403, Some(denied_by("ask-somebody", 0))), "{combining}");
        assert_eq!(get(&sidecar, "/other"), (200, None), "{combining}");
        let reason = decision(&sidecar, "/custom")["reason"].to_string();
        assert!(reason.contains("CUSTOM has no provider"), "{reason}");
    }
}

#[test]
fn under_permit_overrides_an_allow_rule_is_an_exception() {
    let policies = json!([policy("deny-all", "DENY", &[json!({})]), policy("allow-data", "ALLOW", &[paths("/data")])]);
    let sidecar = start(policies.clone(), "permit-overrides");
    assert_eq!(get(&sidecar, "/data"), (200, None));
    assert_eq!(get(&sidecar, "/other"), (403, Some(denied_by("deny-all", 0))));
    let sidecar = start(policies, "deny-overrides");
    assert_eq!(get(&sidecar, "/data"), (403, Some(denied_by("deny-all", 0))));
}

#[test]
fn under_permit_overrides_a_policy_that_applies_denies_what_nothing_allows() {
    let sidecar = start(json!([policy("deny-admin", "DENY", &[paths("/admin")])]), "permit-overrides");
    assert_eq!(get(&sidecar, "/other"), (403, Some(DENIED_BY_NONE.to_owned())));
    assert_eq!(get(&sidecar, "/admin"), (403, Some(denied_by("deny-admin", 0))));
    let sidecar = start(json!([]), "permit-overrides");
    assert_eq!(get(&sidecar, "/other"), (200, None));
}

#[test]
fn the_first_rule_by_its_name_is_the_one_reported() {
    // Names are compared as strings: rule[10] comes before rule[2].
    let rules: Vec<_> = (0..12).map(|index| paths(if index == 2 || index == 10 { "/both" } else { "/one" })).collect();
    let policies = json!([
        policy("z", "DENY", &[paths("/names")]),
        policy("rules", "DENY", &rules),
        policy("a", "DENY", &[paths("/names")])
    ]);
    let sidecar = start(policies, "deny-overrides");
    assert_eq!(get(&sidecar, "/both"), (403, Some(denied_by("rules", 10))));
    assert_eq!(get(&sidecar, "/one"), (403, Some(denied_by("rules", 0))));
    assert_eq!(get(&sidecar, "/names"), (403, Some(denied_by("a", 0))));
}

#[test]
fn an_allow_policy_without_rules_allows_nothing() {
    let sidecar = start(json!([policy("nothing", "ALLOW", &[])]), "deny-overrides");
    assert_eq!(get(&sidecar, "/"), (403, Some(DENIED_BY_NONE.to_owned())));
    let sidecar = start(json!([policy("everything", "ALLOW", &[json!({})])]), "deny-overrides");
    assert_eq!(get(&sidecar, "/"), (200, None));
}
