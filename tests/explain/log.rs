//! `explain --log`: requests are decided again from the lines of the decision log.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use mesh_authz::engine::Verdict;
use mesh_authz::policy::Labels;
use mesh_authz::request::{Address, Attributes, ConnectionText, Lookup, PeerName};
use mesh_authz_cli::decision_log::{DecisionLog, Entry};
use serde_json::{Value, json};

/// A line of the decision log about `GET /a` at `a.example`, changed as `change` says.
fn line(change: Value) -> String {
    let mut line = json!({
        "decision": "DENY", "reason": "no ALLOW policy matched", "principal": "spiffe://cluster.local/ns/a/sa/b",
        "method": "GET", "host": "a.example", "path": "/a", "source_ip": null, "remote_ip": "192.0.2.1",
        "destination_port": 8080, "workload": { "namespace": "default", "labels": "app=a,v=1" },
    });
    line.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    // As the filter writes it, `decision` comes first.
    let mut text = format!("{{\"decision\":{}", line["decision"]);
    for (name, value) in line.as_object().unwrap().iter().filter(|(name, _)| *name != "decision") {
        write!(text, ",{}:{value}", json!(name)).unwrap();
    }
    text + "}"
}

fn only(log: &str) -> Entry {
    let mut all = DecisionLog::read(log);
    assert_eq!((all.entries.len(), all.malformed.len()), (1, 0), "{log}");
    all.entries.remove(0)
}

#[test]
fn a_line_is_found_behind_any_prefix_and_inside_json() {
    let line = line(json!({}));
    for log in [
        line.clone(),
        format!("[2026-01-02 03:04:05.678][12][info][wasm] [source/wasm/context.cc:1] wasm log mesh_authz: {line}"),
        format!("2026-01-02T03:04:05Z info envoy wasm wasm log default.mesh-authz: {line}\tthread=12"),
        format!("web-7d9 istio-proxy {line}\r"),
        json!({ "log": format!("[x] wasm log: {line}\n"), "stream": "stderr" }).to_string(),
        json!({ "msg": line, "level": "info" }).to_string(),
        serde_json::to_string_pretty(&serde_json::from_str::<Value>(&line).unwrap()).unwrap(),
        format!("other\n\n{{\"a\": 1}}\n{line}\nother"),
    ] {
        let entry = only(&log);
        assert_eq!((entry.verdict, entry.namespace.as_deref()), (Verdict::Deny, Some("default")), "{log}");
    }
}

#[test]
fn other_lines_are_skipped_and_cut_lines_are_named() {
    let line = line(json!({}));
    let access_log = json!({ "method": "GET", "mesh_authz": "{\"decision\":\"DENY\"}" });
    let cut = &line[..40];
    let other = self::line(json!({ "path": "/b", "suppressed": 7 }));
    let log = format!("start\n{line}\n{access_log}\n[x] {cut}\n{line}\n{other}\n");
    let all = DecisionLog::read(&log);
    let lines: Vec<_> = all.entries.iter().map(|entry| (entry.line, entry.alike)).collect();
    assert_eq!(lines, [(2, 1), (6, 0)], "the same line twice is one entry");
    assert_eq!((all.malformed.as_slice(), all.others), (&[4][..], 2));
}

#[test]
fn what_a_line_has_is_known_and_all_else_is_unreadable() {
    let entry = only(&line(json!({})));
    let request = &entry.request;
    assert_eq!(request.peer_name(PeerName::Uri), Lookup::Value(&b"spiffe://cluster.local/ns/a/sa/b"[..]));
    assert_eq!(request.address(Address::Remote), Lookup::Value("192.0.2.1".parse().unwrap()));
    assert_eq!(request.destination_port(), Lookup::Value(8080));
    let header = |name: &'static str| request.header(name.as_bytes()).known().and_then(|mut all| all.next());
    assert_eq!([":method", ":authority", ":path"].map(header), ["GET", "a.example", "/a"].map(|v| Some(v.as_bytes())));
    assert_eq!(
        entry.labels,
        Some([("app", "a"), ("v", "1")].map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect())
    );
    assert!(matches!(request.header(b"x-env"), Lookup::Unreadable));
    assert!(matches!(request.metadata(), Lookup::Unreadable));
    assert_eq!(request.address(Address::Source), Lookup::Unreadable);
    assert_eq!(request.address(Address::Destination), Lookup::Unreadable);
    assert_eq!(request.text(ConnectionText::Sni), Lookup::Unreadable);
}

#[test]
fn what_is_cut_or_replaced_or_missing_is_unreadable() {
    for (name, value) in [("path", format!("/{}…", "a".repeat(2_047))), ("path", "/\u{fffd}".to_owned())] {
        let entry = only(&line(json!({ name: value })));
        assert!(matches!(entry.request.header(b":path"), Lookup::Unreadable), "{value}");
    }
    let old = "{\"decision\":\"ALLOW\",\"reason\":\"r\",\"principal\":null,\"method\":\"GET\",\"path\":\"/\"}";
    let entry = only(old);
    assert!(matches!(entry.request.header(b":authority"), Lookup::Unreadable), "an older filter");
    assert_eq!((entry.namespace, entry.labels), (None, None));
    assert_eq!(entry.request.peer_name(PeerName::Uri), Lookup::Absent);
    let unreadable = only(&line(json!({ "principal": null, "unreadable": "source.principal" })));
    assert_eq!(unreadable.request.peer_name(PeerName::Uri), Lookup::Unreadable);
    let labels = |labels: &str| only(&line(json!({ "workload": { "namespace": "a", "labels": labels } }))).labels;
    assert_eq!(labels(""), Some(Labels::default()), "a workload without labels");
}

const POLICIES: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: a, namespace: default }
spec:
  selector: { matchLabels: { app: a } }
  rules:
  - to: [{ operation: { paths: [/a], hosts: ['a.example:80'] } }]
  - { to: [{ operation: { paths: [/hdr] } }], when: [{ key: 'request.headers[x-env]', values: [prod] }] }
  - { to: [{ operation: { paths: [/ip] } }], from: [{ source: { ipBlocks: [10.0.0.0/8] } }] }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: d, namespace: default }
spec:
  action: DENY
  rules:
  - { to: [{ operation: { paths: ['/claim*'] } }], when: [{ key: 'request.auth.claims[g]', values: [x] }] }
  - to: [{ operation: { paths: [/claim-or-not] } }]
";

/// What the command prints about a log, and its exit status.
fn explain(log: &str, options: &[&str]) -> (String, Option<i32>) {
    explain_with(POLICIES, log, options)
}

fn explain_with(policies: &str, log: &str, options: &[&str]) -> (String, Option<i32>) {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let file = dir.path().join(name);
        fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let (policies, log) = (file("policies.yaml", policies), file("log", log));
    let mut command = Command::new(env!("CARGO_BIN_EXE_mesh-authz"));
    let output = command.args(["explain", &policies, "--log", &log]).args(options).output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (text.replace(&policies, "policies.yaml").replace(&log, "log"), output.status.code())
}

#[test]
fn each_line_is_decided_again_and_compared() {
    for (change, status, words) in [
        (json!({}), 0, &["DENY: no ALLOW policy matched", "The log says the same.", "only the port differs"][..]),
        (json!({ "host": "a.example:80" }), 1, &["ALLOW: rule 0 of default/a", "The log says otherwise: DENY"]),
        (json!({ "path": "/hdr" }), 0, &["this depends on request.headers[x-env], which the line does not have"]),
        (
            json!({ "path": "/hdr", "decision": "ALLOW" }),
            0,
            &["this depends on request.headers[x-env]", "The log says ALLOW"],
        ),
        (json!({ "path": "/claim" }), 0, &["this depends on request.auth.claims[g]"]),
        // Another rule refuses it in any case.
        (json!({ "path": "/claim-or-not" }), 0, &["The log has the same decision, for another reason"]),
        (json!({ "path": "/claim-or-not", "decision": "ALLOW" }), 1, &["The log says otherwise: ALLOW"]),
        (json!({ "path": "/ip" }), 0, &["this depends on source.ip"]),
        (json!({ "path": "/ip", "unreadable": "source.ip" }), 0, &["The log says the same."]),
        (json!({ "path": "/ip", "source_ip": "10.1.1.1" }), 1, &["ALLOW: rule 2 of default/a matched"]),
        (json!({ "workload": { "namespace": "default", "labels": "app=b" } }), 1, &["ALLOW: no ALLOW policy applies"]),
        (json!({ "reason": "the path is not normalized", "path": "//a" }), 0, &["`paths: strict`"]),
        (
            json!({ "nearest": { "policy": "default/a", "rule": 1, "failed": "when[0].values", "key": "k", "how": "absent" } }),
            0,
            &["The nearest miss in the log: rule 1 of default/a, when[0].values (k): absent"],
        ),
    ] {
        let (out, code) = explain(&line(change.clone()), &[]);
        assert_eq!(code, Some(status), "{change}: {out}");
        for word in words {
            assert!(out.contains(word), "{change}: {word} in {out}");
        }
    }
}

#[test]
fn options_replace_the_workload_of_a_line() {
    let (out, _) = explain(
        &line(json!({ "workload": { "namespace": "other" } })),
        &["--namespace", "default", "--label", "app=a"],
    );
    assert!(out.contains("DENY: no ALLOW policy matched"), "{out}");
    let (out, code) = explain(&line(json!({ "workload": { "namespace": "default" } })), &[]);
    assert!(code == Some(2) && out.contains("has a selector, and the lines have no labels: give --label"), "{out}");
    // A workload that is not known well enough hides no other.
    let waypoint = "gateway.istio.io/managed=istio.io-mesh-controller,gateway.networking.k8s.io/gateway-name=w";
    let lines = [
        line(json!({ "workload": { "namespace": "default", "labels": waypoint } })),
        line(json!({ "workload": { "namespace": "default", "labels": "app=a" } })),
    ];
    let (out, code) = explain(&lines.join("\n"), &[]);
    assert!(code.is_some_and(|code| code < 2) && out.contains("give --waypoint"), "{out}");
    assert!(out.contains("Line 2") && !out.contains("Line 1"), "{out}");
    let (out, code) = explain(&line(json!({ "workload": null })), &["--label", "app=a"]);
    assert!(code == Some(2) && out.contains("line 1 of the log does not name its workload: give --namespace"), "{out}");
}

/// A policy of the whole waypoint, one of a Service and one of a `ServiceEntry`.
const WAYPOINT: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: whole, namespace: default }
spec:
  targetRefs: [{ group: gateway.networking.k8s.io, kind: Gateway, name: w }]
  action: DENY
  rules: [{ to: [{ operation: { paths: [/whole] } }] }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: cart, namespace: shop }
spec:
  targetRefs: [{ kind: Service, name: cart }]
  action: DENY
  rules: [{ to: [{ operation: { paths: [/cart] } }] }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: partners, namespace: shop }
spec:
  targetRefs: [{ group: networking.istio.io, kind: ServiceEntry, name: partners }]
  action: DENY
  rules: [{ to: [{ operation: { paths: [/partners] } }] }]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: partners, namespace: shop }
spec: { hosts: [partner.example, '*.partner.example'] }
";

#[test]
fn a_line_of_a_waypoint_names_the_service_that_the_request_was_for() {
    let at = |service: Value, path: &str| {
        line(json!({ "service": service, "path": path, "workload": { "namespace": "default" } }))
    };
    let cart = || json!("cart.shop.svc.cluster.local");
    for (service, path, verdict) in [
        (cart(), "/whole", "DENY"),
        (cart(), "/cart", "DENY"),
        (json!("cart.shop.svc.mesh"), "/cart", "DENY"),
        (cart(), "/partners", "ALLOW"),
        (json!("partner.example"), "/partners", "DENY"),
        (json!("*.Partner.example"), "/partners", "DENY"),
        (json!("www.partner.example"), "/partners", "ALLOW"),
        (json!("partner.example"), "/cart", "ALLOW"),
        (json!("other.shop.svc.cluster.local"), "/cart", "ALLOW"),
        (json!("other.shop.svc.cluster.local"), "/whole", "DENY"),
        (Value::Null, "/cart", "ALLOW"),
        (Value::Null, "/whole", "DENY"),
    ] {
        let (out, _) = explain_with(WAYPOINT, &at(service.clone(), path), &["--waypoint", "w"]);
        assert!(out.contains(&format!("Line 1: {verdict}")), "{service} {path}: {out}");
    }
    let lines = [at(cart(), "/cart"), at(json!("partner.example"), "/partners")].join("\n");
    let (out, code) = explain_with(WAYPOINT, &lines, &["--waypoint", "w"]);
    assert!(code == Some(0) && out.contains("Decisions: 2 as in the log"), "{out}");
    let (out, code) = explain_with(WAYPOINT, &lines, &["--waypoint", "w", "--service", "shop/cart"]);
    assert!(code == Some(1) && out.contains("1 as in the log, 1 otherwise"), "an option counts more: {out}");
    let unknown = line(json!({
        "reason": "the filter chain does not tell which service the request is for", "path": "/free",
        "service": "cart.shop.svc.mesh", "workload": { "namespace": "default" },
    }));
    let (out, code) = explain_with(WAYPOINT, &unknown, &["--waypoint", "w"]);
    assert!(code == Some(0) && out.contains("does not tell which service of the waypoint"), "{out}");
}

#[test]
fn many_lines_are_summed_up_and_scripts_get_json() {
    let log = [json!({}), json!({ "path": "/hdr" }), json!({}), json!({ "host": "a.example:80" })].map(line).join("\n");
    let (out, code) = explain(&format!("start\n{log}"), &[]);
    assert_eq!(code, Some(1));
    assert!(out.contains("Line 2 and 1 more like it: DENY"), "{out}");
    let total = "Decisions: 1 as in the log, 1 otherwise, 1 not known from the line. Other lines: 1.";
    assert!(out.contains(total), "{out}");
    let (out, _) = explain(&log, &["--format", "json"]);
    let all: Vec<Value> = serde_json::from_str(&out).unwrap();
    let seen: Vec<_> = all.iter().map(|entry| (&entry["line"], &entry["alike"], &entry["agrees"])).collect();
    assert_eq!(
        seen,
        [
            (&json!(1), &json!(1), &json!(true)),
            (&json!(2), &json!(0), &Value::Null),
            (&json!(4), &json!(0), &json!(false)),
        ]
    );
    assert_eq!(all[1]["notInTheLine"], json!(["request.headers[x-env]"]));
    assert_eq!(all[2]["explanation"]["decision"], "ALLOW");
}

#[test]
fn a_log_without_a_decision_is_not_an_answer() {
    let (out, code) = explain("nothing here\n", &[]);
    assert!(code == Some(2) && out.contains("there is no line of a decision log"), "{out}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_mesh-authz"));
    let both = command.args(["explain", "-", "--log", "-"]).output().unwrap();
    assert_eq!(both.status.code(), Some(2));
    let with_request = Command::new(env!("CARGO_BIN_EXE_mesh-authz"))
        .args(["explain", "x.yaml", "--log", "log", "--path", "/a"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&with_request.stderr).contains("cannot be used with"));
}
