//! Questions that random policies hardly ask. Each is about a place where the search would go wrong with one reason less, or
//! with a look at less than everything.

use mesh_authz::analysis::{
    self, Budget, Effect, Policies, Possible, Proof, Sides, Undecided, Workloads, causes, effect, prove, words,
};
use mesh_authz::engine::{Combining, Engine, Verdict};
use mesh_authz::policy::AuthorizationPolicy;
use mesh_authz::policy::scope::Workload;
use mesh_authz::request::{Lookup, Request};
use serde_json::{Value, json};

use super::ROOT;
use crate::policies::{BOTH, named, options, read};

/// Little. Each question ends soon, if the search goes on with every step.
const FEW_STEPS: u64 = 3_000_000;

/// A workload that all policies here are for.
fn workload() -> Workloads {
    Workloads::One(Box::new(Workload {
        namespace: "a".to_owned(),
        root_namespace: ROOT.to_owned(),
        ..Workload::default()
    }))
}

fn policy(name: &str, action: &str, rule: &Value) -> AuthorizationPolicy {
    read(&named(name, json!({ "action": action, "rules": [rule] })))
}

fn compiled(policies: &[AuthorizationPolicy]) -> Policies<'_> {
    compiled_at(policies, &workload())
}

fn compiled_at<'p>(policies: &'p [AuthorizationPolicy], workloads: &Workloads) -> Policies<'p> {
    let refs: Vec<_> = policies.iter().collect();
    Policies::new(&refs, &options(Combining::DenyOverrides), workloads.clone())
}

fn engine_says(policies: &[AuthorizationPolicy], request: &Request) -> Verdict {
    Engine::new(policies, &options(Combining::DenyOverrides)).decide(request).outcome.verdict()
}

/// Whether all requests that a rule matches are denied. One that is not is allowed by the engine.
fn all_are_denied(policies: &[AuthorizationPolicy], rule: &Value) -> Result<bool, Undecided> {
    let rules = analysis::rules(&policy("region", "DENY", rule), &options(Combining::DenyOverrides));
    let compiled = compiled(policies);
    let mut sides = Sides::default();
    let (region, side) = (sides.region(&rules), sides.side(&compiled));
    Ok(match prove(&region, &side, Verdict::Deny, &mut Budget::of(FEW_STEPS))? {
        Proof::Holds | Proof::Empty => true,
        Proof::Fails(witness) => {
            assert_eq!(engine_says(policies, &witness.request()), Verdict::Allow, "{witness:?}");
            false
        }
    })
}

/// Whether somebody gains something by a change, or asks a provider less.
fn gains(old: &[AuthorizationPolicy], new: &[AuthorizationPolicy]) -> Result<bool, Undecided> {
    let (before, after) = (compiled(old), compiled(new));
    let mut sides = Sides::default();
    let (before, after) = (sides.side(&before), sides.side(&after));
    for cause in causes(&before, &after) {
        if let Effect::Difference(witness) = effect(&cause, &before, &after, &mut Budget::of(FEW_STEPS))? {
            if cause.provider().is_none() {
                let request = witness.request();
                let verdicts = [old, new].map(|policies| engine_says(policies, &request));
                assert_eq!(verdicts, [Verdict::Deny, Verdict::Allow], "{witness:?}");
            }
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
fn what_follows_from_a_missing_path_is_because_of_the_path() {
    // The first operation is that of a CONNECT without a path, so it is in the way of the method. The second is not.
    let allowed = json!({
        "to": [{ "operation": { "notPaths": ["*"] } }, { "operation": { "paths": ["/a"] } }],
        "when": [{ "key": "request.headers[:method]", "values": ["GET"] }],
    });
    assert_eq!(all_are_denied(&[policy("p", "ALLOW", &allowed)], &json!({})), Ok(false));
}

#[test]
fn only_a_connect_has_no_path() {
    for (method, is_denied) in [("GET", true), ("CONNECT", false), ("*", false)] {
        let allowed = json!({ "to": [{ "operation": { "notPaths": ["*"], "methods": [method] } }] });
        assert_eq!(all_are_denied(&[policy("p", "ALLOW", &allowed)], &json!({})), Ok(is_denied), "{method}");
    }
}

#[test]
fn a_scheme_is_one_of_two() {
    for (condition, is_denied) in [
        (json!({ "values": ["ftp"] }), true),
        (json!({ "notValues": ["http", "https"] }), true),
        (json!({ "values": ["https"] }), false),
        (json!({ "notValues": ["http"] }), false),
    ] {
        let mut condition = condition;
        condition["key"] = json!("request.headers[:scheme]");
        let allowed = json!({ "when": [condition] });
        assert_eq!(all_are_denied(&[policy("p", "ALLOW", &allowed)], &json!({})), Ok(is_denied), "{allowed}");
    }
}

#[test]
fn an_issuer_can_be_what_nobody_expects() {
    // The pair is cut at its last `/`, so that the issuer is the beginning of a URL.
    let allowed = json!({ "from": [{ "source": { "requestPrincipals": ["https://a"] } }] });
    assert_eq!(all_are_denied(&[policy("p", "ALLOW", &allowed)], &json!({})), Ok(false));
}

#[test]
fn a_pair_is_taken_out_as_a_whole() {
    // The first pair has the issuer of the request and another subject.
    let principals = |values: &[&str]| json!({ "from": [{ "source": { "requestPrincipals": values } }] });
    let [denied, allowed] = [policy("d", "DENY", &principals(&["i/s", "i/t"])), policy("p", "ALLOW", &json!({}))];
    let policies = [denied, allowed];
    for (values, is_denied) in [(&["i/t"][..], true), (&["i/s", "i/t"], true), (&["i/*"], false), (&["*/t"], false)] {
        assert_eq!(all_are_denied(&policies, &principals(values)), Ok(is_denied), "{values:?}");
    }
}

#[test]
fn an_upper_and_a_lower_letter_of_a_host_can_be_the_same() {
    // The field ignores the case of letters, and the condition does not.
    for (host, condition, is_denied) in [("A.x*", "a.x*", false), ("a.x*", "A.x*", false), ("A.x*", "b.x*", true)] {
        let allowed = json!({
            "to": [{ "operation": { "hosts": [host] } }],
            "when": [{ "key": "request.headers[host]", "values": [condition] }],
        });
        assert_eq!(all_are_denied(&[policy("p", "ALLOW", &allowed)], &json!({})), Ok(is_denied), "{host} {condition}");
    }
}

#[test]
fn who_asks_another_provider_asks_one_less() {
    let custom = |provider: &str, path: &str| {
        let rules = [json!({ "to": [{ "operation": { "paths": [path] } }] })];
        let spec = json!({ "action": "CUSTOM", "provider": { "name": provider }, "rules": rules });
        read(&named(&format!("of-{provider}"), spec))
    };
    for (provider, path, gains_something) in
        [("other", "/a", true), ("other", "/*", true), ("one", "/*", false), ("one", "/b", true)]
    {
        let (old, new) = (custom("one", "/a"), custom(provider, path));
        assert_eq!(gains(&[old], &[new]), Ok(gains_something), "{provider} {path}");
    }
}

#[test]
fn a_difference_that_the_engine_does_not_see_is_none() {
    // So many blanks are not taken away, so the header counts as excluded.
    let value = format!("{}a", " ".repeat(300));
    let odd = json!({ "when": [{ "key": "request.headers[x]", "values": [value], "notValues": ["b"] }] });
    let nothing = json!({ "to": [{ "operation": { "methods": ["X"] } }] });
    let old = policy("p", "ALLOW", &nothing);
    assert_ne!(gains(std::slice::from_ref(&old), &[old.clone(), policy("q", "ALLOW", &odd)]), Ok(true));
}

#[test]
fn who_may_be_asked_may_deny() {
    let custom = json!({
        "action": "CUSTOM", "provider": { "name": "one" },
        "rules": [{ "to": [{ "operation": { "ports": ["80"] } }] }],
    });
    let asking = read(&named("c", custom));
    let everything = policy("p", "ALLOW", &json!({}));
    let request = Request::default().destination_port(Lookup::Unreadable).header(":path", b"/a");
    for policies in [vec![asking.clone(), everything], vec![asking]] {
        let compiled = compiled(&policies);
        let possible = compiled.open(&request).possible(&mut Budget::of(FEW_STEPS));
        assert_eq!(possible, Ok(Possible { allow: true, deny: true }));
    }
}

/// What a provider answers is not known, so nothing that it is asked about is allowed for sure.
#[test]
fn what_a_provider_is_asked_about_is_not_proved_to_be_allowed() {
    let custom = json!({
        "action": "CUSTOM", "provider": { "name": "one" }, "rules": [{ "to": [{ "operation": { "paths": ["/a"] } }] }],
    });
    let policies = [read(&named("c", custom)), policy("p", "ALLOW", &json!({}))];
    let compiled = compiled(&policies);
    let options = options(Combining::DenyOverrides);
    for (path, expected, holds) in [
        ("/a", Verdict::Allow, false),
        ("/b", Verdict::Allow, true),
        ("/*", Verdict::Allow, false),
        ("/a", Verdict::Deny, false),
    ] {
        let rule = json!({ "to": [{ "operation": { "paths": [path] } }] });
        let rules = analysis::rules(&policy("region", "DENY", &rule), &options);
        let mut sides = Sides::default();
        let (region, side) = (sides.region(&rules), sides.side(&compiled));
        let proof = prove(&region, &side, expected, &mut Budget::of(FEW_STEPS));
        let proof = proof.map(|proof| matches!(proof, Proof::Holds));
        assert_eq!(proof, Ok(holds), "{path} {expected:?}");
    }
}

#[test]
fn allow_policies_that_do_not_count_let_nobody_through() {
    let everybody = policy("p", "ALLOW", &json!({}));
    let policies = [everybody.clone()];
    let compiled = compiled(&policies);
    let side = Sides::default().side(&compiled);
    for (allows, is_refused) in [(true, false), (false, true)] {
        let answer = side.refuses_plaintext(&everybody, |_| true, |_| allows, &mut Budget::of(FEW_STEPS));
        assert_eq!(answer, Ok(is_refused));
    }
}

#[test]
fn a_policy_for_the_class_of_waypoints_is_of_the_root_namespace() {
    let of_class = |namespace: &str, action: &str| {
        let class = json!({ "group": "gateway.networking.k8s.io", "kind": "GatewayClass", "name": "istio-waypoint" });
        let mut policy = named("p", json!({ "action": action, "rules": [{}], "targetRefs": [class] }));
        policy["metadata"]["namespace"] = json!(namespace);
        read(&policy)
    };
    let rules = analysis::rules(&policy("region", "DENY", &json!({})), &options(Combining::DenyOverrides));
    // Elsewhere, it applies to nothing.
    for (namespace, is_denied) in [("a", false), (ROOT, true)] {
        let mut everywhere = named("q", json!({ "action": "DENY", "rules": [{}] }));
        everywhere["metadata"]["namespace"] = json!(ROOT);
        let policies = [of_class(namespace, "DENY"), read(&everywhere)];
        let workloads = Workloads::All { root_namespace: ROOT.to_owned(), revision: None };
        let refs: Vec<_> = policies.iter().collect();
        let compiled = Policies::new(&refs, &options(Combining::DenyOverrides), workloads);
        let mut sides = Sides::default();
        let (region, side) = (sides.region(&rules), sides.side(&compiled));
        let proof = prove(&region, &side, Verdict::Deny, &mut Budget::of(FEW_STEPS)).unwrap();
        assert_eq!(matches!(proof, Proof::Holds), is_denied, "{namespace}: {proof:?}");
    }
}

#[test]
fn what_stays_is_no_cause() {
    let policies = [policy("p", "ALLOW", &json!({})), policy("d", "DENY", &json!({}))];
    for combining in BOTH {
        let compiled = || Policies::new(&policies.iter().collect::<Vec<_>>(), &options(combining), workload());
        let (before, after) = (compiled(), compiled());
        let mut sides = Sides::default();
        let (before, after) = (sides.side(&before), sides.side(&after));
        assert_eq!(causes(&before, &after).len(), 0, "{combining:?}");
    }
}

/// For the rule of a policy that is new: for each exception, what is said of it.
fn exceptions(old: &[AuthorizationPolicy], added: &AuthorizationPolicy) -> Vec<Vec<String>> {
    exceptions_at(old, added, &workload())
}

fn exceptions_at(old: &[AuthorizationPolicy], added: &AuthorizationPolicy, workloads: &Workloads) -> Vec<Vec<String>> {
    let new = [old, std::slice::from_ref(added)].concat();
    let (before, after) = (compiled_at(old, workloads), compiled_at(&new, workloads));
    let mut sides = Sides::default();
    let (before, after) = (sides.side(&before), sides.side(&after));
    let [cause] = &causes(&before, &after)[..] else { panic!("one rule is new") };
    let found = words::exceptions(cause, &before, &after, &mut Budget::of(FEW_STEPS)).unwrap().unwrap();
    let said = |exception: words::Exception<'_>| {
        exception.phrases.iter().map(|phrase| format!("{} {}", phrase.subject, phrase.says)).collect()
    };
    found.into_iter().map(said).collect()
}

#[test]
fn an_exception_says_all_that_does_not_hold_for_every_alternative() {
    let to = |operations: Value| json!({ "to": operations });
    let known = policy("p", "ALLOW", &to(json!([{ "operation": { "hosts": ["h"], "paths": ["/a"] } }])));
    let both = to(json!([{ "operation": { "hosts": ["h"] } }, { "operation": { "hosts": ["g"] } }]));
    let one = to(json!([{ "operation": { "hosts": ["h"] } }]));
    for (added, mut expected) in [(both, vec!["host is h", "path is /a"]), (one, vec!["path is /a"])] {
        let mut found = exceptions(std::slice::from_ref(&known), &policy("q", "ALLOW", &added));
        for phrases in &mut found {
            phrases.sort_unstable();
        }
        expected.sort_unstable();
        assert_eq!(found, [expected], "{added}");
    }
}

#[test]
fn each_exception_is_said_once() {
    let paths = |paths: &[&str]| json!({ "to": [{ "operation": { "paths": paths } }] });
    let known = [
        policy("a", "ALLOW", &paths(&["/a"])),
        policy("b", "ALLOW", &paths(&["/b"])),
        policy("b-again", "ALLOW", &paths(&["/b"])),
    ];
    let mut found = exceptions(&known, &policy("q", "ALLOW", &json!({})));
    found.sort_unstable();
    assert_eq!(found, [["path is /a"], ["path is /b"]]);
}

#[test]
fn an_exception_says_of_a_pair_what_does_not_hold_anyway() {
    let of = |field: &str, values: &[&str], paths: &[&str]| {
        let mut rule = json!({ "from": [{ "source": { field: values } }] });
        if !paths.is_empty() {
            rule["to"] = json!([{ "operation": { "paths": paths } }]);
        }
        rule
    };
    let (is, is_not) = ("requestPrincipals", "notRequestPrincipals");
    for (known, added, expected) in [
        (of(is, &["i/s"], &[]), of(is, &["i/*"], &[]), "request principal is i/s"),
        (of(is, &["i/s"], &[]), of(is, &["*/s"], &[]), "request principal is i/s"),
        (of(is, &["i/s"], &["/a"]), of(is, &["i/s"], &[]), "path is /a"),
        (of(is_not, &["i/s"], &[]), of(is, &["i/*"], &[]), "request principal is not i/s"),
        (of(is_not, &["i/s"], &["/a"]), of(is, &["j/*"], &[]), "path is /a"),
        (of(is_not, &["i/s"], &["/a"]), of(is, &["*/t"], &[]), "path is /a"),
        (of(is_not, &["i/s"], &["/a"]), of(is_not, &["i/s"], &[]), "path is /a"),
    ] {
        let found = exceptions(&[policy("p", "ALLOW", &known)], &policy("q", "ALLOW", &added));
        assert_eq!(found, [[expected]], "{known} {added}");
    }
}

#[test]
fn an_exception_says_which_workloads_it_is_about() {
    let workloads = Workloads::All { root_namespace: ROOT.to_owned(), revision: None };
    let placed = |name: &str, namespace: &str, target: &Value| {
        let mut spec = json!({ "action": "ALLOW", "rules": [{}] });
        if let Value::Object(target) = target {
            spec.as_object_mut().unwrap().extend(target.clone());
        }
        let mut policy = named(name, spec);
        policy["metadata"]["namespace"] = json!(namespace);
        read(&policy)
    };
    let labels = json!({ "selector": { "matchLabels": { "app": "x" } } });
    let target =
        |group: &str, kind: &str, name: &str| json!({ "targetRefs": [{ "group": group, "kind": kind, "name": name }] });
    let gateway_api = "gateway.networking.k8s.io";
    let every_waypoint = target(gateway_api, "GatewayClass", "istio-waypoint");
    for (namespace, known, added, expected) in [
        ("a", &Value::Null, &Value::Null, &["namespace of the workload is a"][..]),
        (ROOT, &labels, &Value::Null, &["label app of the workload is x"]),
        ("a", &target("", "Service", "s"), &every_waypoint, &["service is Service/a/s"]),
        (
            "a",
            &target(gateway_api, "Gateway", "g"),
            &every_waypoint,
            &["namespace of the workload is a", "workload is gateway g or waypoint g"],
        ),
        (ROOT, &every_waypoint, &target(gateway_api, "Gateway", "g"), &["workload is a waypoint"]),
    ] {
        let found = exceptions_at(&[placed("p", namespace, known)], &placed("q", ROOT, added), &workloads);
        assert_eq!(found, [expected], "{known} {added}");
    }
}

#[test]
fn exceptions_are_also_said_of_what_nobody_expects() {
    // Only a CONNECT has no path.
    let without_path = json!({ "to": [{ "operation": { "notPaths": ["*"] } }] });
    let mut with_header = without_path.clone();
    with_header["when"] = json!([{ "key": "request.headers[x]", "values": ["v"] }]);
    let found = exceptions(&[policy("p", "ALLOW", &with_header)], &policy("q", "ALLOW", &without_path));
    assert_eq!(found, [["header x is v"]]);
}

#[test]
fn a_request_that_people_send_is_found_where_there_is_one() {
    let everybody = |principals: &[&str]| {
        let sources: Vec<_> = principals.iter().map(|name| json!({ "source": { "principals": [name] } })).collect();
        json!({ "from": sources })
    };
    let gateway = json!([{ "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "w" }]);
    let service = json!([{ "group": "", "kind": "Service", "name": "s" }]);
    for references in [Value::Null, gateway, service] {
        let placed = |name: &str, action: &str, rule: Value| {
            let mut policy = named(name, json!({ "action": action, "rules": [rule] }));
            if references != Value::Null {
                policy["spec"]["targetRefs"] = references.clone();
            }
            read(&policy)
        };
        for (principals, is_expected) in
            [(&["not a name", "td/ns/a/sa/x"][..], true), (&["td/ns/a/sa/x"], true), (&["not a name"], false)]
        {
            let allowed = placed("p", "ALLOW", everybody(principals));
            let denied = placed("d", "DENY", json!({ "to": [{ "operation": { "paths": ["/secret"] } }] }));
            let workloads = || Workloads::All { root_namespace: ROOT.to_owned(), revision: None };
            let options = options(Combining::DenyOverrides);
            let before = Policies::new(&[&allowed, &denied], &options, workloads());
            let after = Policies::new(&[&allowed], &options, workloads());
            let mut sides = Sides::default();
            let (before, after) = (sides.side(&before), sides.side(&after));
            let [cause] = &causes(&before, &after)[..] else { panic!("one rule goes away") };
            let effect = effect(cause, &before, &after, &mut Budget::of(FEW_STEPS)).unwrap();
            let Effect::Difference(witness) = effect else { panic!("{effect:?}") };
            assert_eq!(witness.is_expected, is_expected, "{principals:?} {references}: {witness:?}");
        }
    }
}
