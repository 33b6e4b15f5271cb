//! Laws of the decision: the order does not matter, a DENY policy never allows anything, and a `not` field is the
//! negation of its field.

use mesh_authz::engine::Verdict;
use mesh_authz::request::Request;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::cases;
use crate::policies::{BOTH, CONDITIONS, engine, engine_with, named, several, spec};
use crate::requests::{Facts, answer, partly_readable, readable, verdict};

/// The same document with every list of values reversed.
fn turned(value: &Value) -> Value {
    match value {
        Value::Array(items) if items.iter().all(Value::is_string) => items.iter().rev().cloned().collect(),
        Value::Array(items) => items.iter().map(turned).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), turned(value))).collect(),
        other => other.clone(),
    }
}

#[test]
fn neither_the_order_of_policies_nor_of_values_matters() {
    let strategy = (several(), partly_readable(), select(&BOTH[..])).prop_flat_map(|(policies, facts, combining)| {
        (Just(policies.clone()), Just(policies).prop_shuffle(), Just(facts), Just(combining))
    });
    TestRunner::new(cases(250))
        .run(&strategy, |(policies, shuffled, facts, combining)| {
            let request = facts.request();
            let expected = answer(&engine_with(combining, &policies), &request);
            prop_assert_eq!(&answer(&engine_with(combining, &shuffled), &request), &expected);
            let turned: Vec<_> = policies.iter().map(turned).collect();
            prop_assert_eq!(&answer(&engine_with(combining, &turned), &request), &expected);
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_further_deny_policy_allows_nothing() {
    let strategy = (several(), spec("DENY"), partly_readable(), select(&BOTH[..]));
    TestRunner::new(cases(250))
        .run(&strategy, |(mut policies, deny, facts, combining)| {
            let before = verdict(&engine_with(combining, &policies), &facts);
            policies.push(named("further", deny));
            let after = verdict(&engine_with(combining, &policies), &facts);
            prop_assert!(before == Verdict::Allow || after == Verdict::Deny);
            Ok(())
        })
        .unwrap();
}

#[test]
fn removing_an_allow_policy_allows_nothing_while_another_remains() {
    let strategy = (several(), spec("ALLOW"), spec("ALLOW"), partly_readable(), select(&BOTH[..]));
    TestRunner::new(cases(250))
        .run(&strategy, |(mut policies, one, other, facts, combining)| {
            policies.push(named("stays", one));
            let without = verdict(&engine_with(combining, &policies), &facts);
            policies.push(named("goes", other));
            let with = verdict(&engine_with(combining, &policies), &facts);
            prop_assert!(with == Verdict::Allow || without == Verdict::Deny);
            Ok(())
        })
        .unwrap();
}

#[test]
fn an_audit_policy_changes_nothing() {
    let strategy = (several(), spec("AUDIT"), partly_readable(), select(&BOTH[..]));
    TestRunner::new(cases(150))
        .run(&strategy, |(mut policies, audit, facts, combining)| {
            let request = facts.request();
            let (verdict, rule, _) = answer(&engine_with(combining, &policies), &request);
            policies.push(named("audit", audit));
            let (audited, audited_rule, _) = answer(&engine_with(combining, &policies), &request);
            prop_assert_eq!((audited, audited_rule), (verdict, rule));
            Ok(())
        })
        .unwrap();
}

/// Whether the condition matches if it is the only condition in a policy with this action.
fn matches(action: &str, condition: &Value, facts: &Facts) -> bool {
    let policy = named("p", json!({ "action": action, "rules": [{ "when": [condition] }] }));
    engine(&[policy]).decide(&facts.request()).outcome.rule().is_some()
}

fn is_plain(facts: &Facts) -> bool {
    // A match that denies and a match that permits may differ for line feeds, NULs, and brackets in paths.
    facts.0.iter().all(|fact| fact.known().is_none_or(|text| !text.contains("\\n") && !text.contains(['\n', '\0'])))
}

#[test]
fn not_values_match_exactly_when_values_do_not() {
    let strategy = (select(&CONDITIONS[..]), any::<prop::sample::Index>(), readable());
    TestRunner::new(cases(3_000))
        .run(&strategy, |((key, pool), index, facts)| {
            let value = index.get(pool);
            let values = json!({ "key": key, "values": [value] });
            let not_values = json!({ "key": key, "notValues": [value] });
            let [allowed, allowed_not] = [&values, &not_values].map(|condition| matches("ALLOW", condition, &facts));
            let [denied, denied_not] = [&values, &not_values].map(|condition| matches("DENY", condition, &facts));
            prop_assert!(!(allowed && allowed_not), "never both where a match permits");
            prop_assert!(denied || denied_not, "never neither where a match denies");
            prop_assert!(!allowed || denied, "what matches where it permits matches where it denies");
            if is_plain(&facts) {
                prop_assert!(allowed != allowed_not && denied != denied_not && allowed == denied);
            }
            Ok(())
        })
        .unwrap();
}

/// Where a match denies, other forms of headers and hosts count too. Therefore a client gains nothing by sending one.
#[test]
fn another_form_of_a_header_or_a_host_never_turns_a_refusal_into_a_permission() {
    const VALUES: [&str; 6] = ["a", "ab", "a*", "*b", "b", "*"];
    const FORMS: [(&str, &str); 11] = [
        ("", ""),
        (" ", ""),
        ("", "\t"),
        (" \t", " "),
        ("u@", ""),
        ("@", ""),
        ("", "."),
        ("u:p@", "."),
        (" u@", ".. "),
        ("other,", ""),
        ("", ",other"),
    ];
    let values = || proptest::collection::vec(select(&VALUES[..]), 1..3);
    let rule = (values(), values(), any::<bool>(), any::<bool>());
    let strategy = (
        proptest::collection::vec((rule, any::<bool>()), 1..12),
        select(&["a", "ab", "b", "xb", "c"][..]),
        select(&["a", "ab", "b", "xb", "c"][..]),
        select(&FORMS[..4]),
        select(&FORMS[..]),
    );
    TestRunner::new(cases(500))
        .run(&strategy, |(rules, header, host, (before, behind), (before_host, behind_host))| {
            // Every match denies: fields of DENY policies, `not` fields of ALLOW policies.
            let policies = rules.iter().enumerate().map(|(number, ((hosts, roles, has_host, has_role), denies))| {
                let [of_hosts, of_values] = if *denies { ["hosts", "values"] } else { ["notHosts", "notValues"] };
                let mut rule = json!({});
                if *has_host {
                    rule["to"] = json!([{ "operation": { of_hosts: hosts } }]);
                }
                if *has_role || !*has_host {
                    rule["when"] = json!([{ "key": "request.headers[x]", of_values: roles }]);
                }
                let action = if *denies { "DENY" } else { "ALLOW" };
                named(&format!("p{number}"), json!({ "action": action, "rules": [rule] }))
            });
            let policies: Vec<_> = policies.collect();
            let engine = engine(&policies);
            let request =
                |host: &str, header: &str| Request::new("GET", "/").header(":authority", host).header("x", header);
            let plain = request(host, header);
            let dressed = request(&format!("{before_host}{host}{behind_host}"), &format!("{before}{header}{behind}"));
            let verdict = |request: &Request| engine.decide(request).outcome.verdict();
            prop_assert!(verdict(&plain) == Verdict::Allow || verdict(&dressed) == Verdict::Deny, "{policies:#?}");
            Ok(())
        })
        .unwrap();
}
