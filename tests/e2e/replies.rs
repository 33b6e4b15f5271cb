//! The response to a refused request, and what is logged about it.

use serde_json::{Value, json};
use testbed::{Http2Request, Request, San};

use crate::sidecar::{Blueprint, DENIED_BY_NONE, FRONTEND, PATIENCE, Sidecar, denied_by, policy, to, when};

fn deny_admin() -> Value {
    policy("deny-admin", "DENY", &[to(json!({ "paths": ["/admin*"] }))])
}

/// Waits for a line of the access log that `envoy/backend.yaml` writes.
fn wait_for_access_log(sidecar: &Sidecar, mark: usize, path: &str, status: u16, details: &str, decision: Value) {
    let peer = format!("spiffe://{FRONTEND}");
    let line = json!({
        "method": "GET", "path": path, "peer": peer, "status": status, "details": details,
        "mesh_authz": decision,
    });
    sidecar.envoy.wait_for_log_since(mark, &format!("{line}\n"), PATIENCE).unwrap();
}

#[test]
fn a_refused_request_gets_what_istio_users_know() {
    let sidecar = Sidecar::start(&json!({ "policies": [deny_admin()] }));
    let client = sidecar.client(FRONTEND);

    assert_eq!(client.send(&Request::get("/data")).unwrap().status, 200);
    let refused = client.send(&Request::get("/admin")).unwrap();
    assert_eq!((refused.status, refused.text().as_str()), (403, "RBAC: access denied"));
    assert_eq!(refused.header("content-type").as_deref(), Some("text/plain"));
    let names: Vec<_> = refused.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["content-length", "content-type", "date", "server"]);

    wait_for_access_log(&sidecar, 0, "/data", 200, "via_upstream", Value::Null);
    let decision = r#"{"decision":"DENY","policy":"default/deny-admin","rule":0}"#;
    wait_for_access_log(&sidecar, 0, "/admin", 403, &denied_by("deny-admin", 0), json!(decision));
}

#[test]
fn the_details_name_namespace_policy_and_rule_or_none() {
    let mut elsewhere =
        policy("root-deny", "DENY", &[when("request.headers[x-a]", &["1"]), when("request.headers[x-a]", &["2"])]);
    elsewhere["metadata"]["namespace"] = json!("istio-system");
    let sidecar = Sidecar::start(
        &json!({ "policies": [elsewhere, policy("get", "ALLOW", &[to(json!({ "paths": ["/data"] }))])] }),
    );
    let client = sidecar.client(FRONTEND);
    for (path, value, status, details, decision) in [
        ("/data", "0", 200, "via_upstream", Value::Null),
        (
            "/data",
            "2",
            403,
            "rbac_access_denied_matched_policy[ns[istio-system]-policy[root-deny]-rule[1]]",
            json!(r#"{"decision":"DENY","policy":"istio-system/root-deny","rule":1}"#),
        ),
        ("/other", "0", 403, DENIED_BY_NONE, json!(r#"{"decision":"DENY"}"#)),
    ] {
        let mark = sidecar.envoy.log_mark();
        client.send(&Request::get(path).header("x-a", value)).unwrap();
        wait_for_access_log(&sidecar, mark, path, status, details, decision);
    }
}

#[test]
fn a_configuration_can_word_the_refusal() {
    let config = json!({
        "policies": [deny_admin()],
        "denyResponse": { "status": 451, "body": "{\"no\": \"\u{e9}\"}", "headers": { "x-why": "policy", "content-type": "application/json" } },
    });
    let sidecar = Blueprint::new(&config).telling_details().start_shared();
    let client = sidecar.client(FRONTEND);
    let http1 = client.send(&Request::get("/admin")).unwrap();
    let http2 = client.send_http2(&Http2Request::get("/admin")).unwrap();
    for refused in [http1, http2] {
        assert_eq!((refused.status, refused.text().as_str()), (451, "{\"no\": \"\u{e9}\"}"));
        assert_eq!(refused.header("x-why").as_deref(), Some("policy"));
        assert_eq!(refused.header_values("content-type"), [b"application/json"]);
        assert_eq!(refused.header("x-details"), Some(denied_by("deny-admin", 0)));
    }
    assert_eq!(client.send(&Request::get("/data")).unwrap().status, 200);
}

#[test]
fn a_head_request_is_refused_without_a_body() {
    let sidecar = Blueprint::new(&json!({ "policies": [deny_admin()] })).start_shared();
    let refused = sidecar.client(FRONTEND).send(&Request::new("HEAD", "/admin")).unwrap();
    assert_eq!((refused.status, refused.body.len()), (403, 0));
}

#[test]
fn a_request_with_a_body_is_refused_before_the_body_is_read() {
    let sidecar = Blueprint::new(&json!({ "policies": [deny_admin()] })).start_shared();
    let mut unfinished = Http2Request::new("POST", "/admin").header("content-length", "1000000");
    unfinished.ends = false;
    let refused = sidecar.client(FRONTEND).send_http2(&unfinished).unwrap();
    assert_eq!((refused.status, refused.header("x-app")), (403, None));
}

#[test]
fn the_decision_log_holds_what_the_configuration_asks_for() {
    for (setting, expected) in [
        (json!("none"), &[][..]),
        (Value::Null, &["/null/admin"]),
        (json!("denied"), &["/denied/admin"]),
        (json!("all"), &["/all/data", "/all/admin"]),
    ] {
        // The Envoy is shared. The path identifies the log lines of this test.
        let name = setting.as_str().unwrap_or("null");
        let [data, admin] = ["data", "admin"].map(|path| format!("/{name}/{path}"));
        let deny = policy("deny-admin", "DENY", &[to(json!({ "paths": [admin] }))]);
        let mut config = json!({ "policies": [deny] });
        if !setting.is_null() {
            config["decisionLog"] = setting.clone();
        }
        let sidecar = Blueprint::new(&config).start_shared();
        for path in [&data, &admin] {
            sidecar.client(FRONTEND).send(&Request::get(path)).unwrap();
        }
        let decisions = sidecar.decisions();
        let paths: Vec<_> = decisions.iter().filter_map(|line| line["path"].as_str()).collect();
        let paths: Vec<_> = paths.into_iter().filter(|path| path.starts_with(&format!("/{name}/"))).collect();
        assert_eq!(paths, expected, "{setting}");
    }
}

#[test]
fn decisions_are_logged_as_soon_as_envoy_logs_at_info_level() {
    let mut blueprint = Blueprint::new(&json!({ "policies": [deny_admin()] }));
    blueprint.options.component_log_level = "main:warning,wasm:warning".to_owned();
    let sidecar = blueprint.start();
    let refuse = |path: &str| {
        let response = sidecar.client(FRONTEND).send(&Request::get(path)).unwrap();
        assert_eq!(response.status, 403, "{path}");
    };
    refuse("/admin/quiet");
    sidecar.envoy.admin_post("/logging?wasm=info").unwrap();
    refuse("/admin/loud");
    let decisions = sidecar.decisions();
    let paths: Vec<_> = decisions.iter().map(|line| &line["path"]).collect();
    assert_eq!(paths, ["/admin/loud"]);
}

#[test]
fn a_line_of_the_decision_log_says_who_what_and_why() {
    let sidecar = Sidecar::start(&json!({ "policies": [deny_admin()] }));
    sidecar.client(FRONTEND).send(&Request::new("PUT", "/admin/1?x").header("content-length", "0")).unwrap();
    let decisions = sidecar.decisions();
    assert_eq!(
        decisions,
        [json!({
            "decision": "DENY",
            "policy": "default/deny-admin",
            "rule": 0,
            "reason": "rule 0 of default/deny-admin matched",
            "principal": format!("spiffe://{FRONTEND}"),
            "method": "PUT",
            "host": "localhost",
            "path": "/admin/1",
            "source_ip": "127.0.0.1",
            "remote_ip": "127.0.0.1",
            "destination_port": sidecar.address().port(),
            "workload": { "namespace": "default", "labels": "app=backend" },
        })]
    );
}

#[test]
fn hostile_paths_and_identities_stay_on_one_line_of_json() {
    // CVE-2024-45808.
    let config = json!({ "policies": [deny_admin()], "decisionLog": "all" });
    let sidecar = Blueprint::new(&config).setting("normalize_path", json!(false)).answering_by_itself().start();
    let identity = "spiffe://evil/\"}\n{\"decision\":\"ALLOW\",\"policy\":\"forged\"}\r\n\u{1b}[31m";
    let client = sidecar.client_named(&[San::Uri(identity.to_owned())], None);
    let paths: [&[u8]; 5] = [
        b"/admin/\",\"decision\":\"ALLOW\",\"x\":\"",
        b"/admin/\\",
        b"/admin/{}[]",
        b"/admin/\xff\xfe\xc3(",
        b"/admin/\xed\xa0\x80\xf4\x90\x80\x80",
    ];
    for path in paths {
        assert_eq!(client.send_http2(&Http2Request::get(path)).unwrap().status, 403, "{}", path.escape_ascii());
    }
    let lines: Vec<_> = sidecar.filter_log().into_iter().filter(|line| line.starts_with('{')).collect();
    assert_eq!(lines.len(), paths.len());
    sidecar.envoy.wait_for_log("\\\\\",\"peer\"", PATIENCE).unwrap();
    assert!(!sidecar.envoy.log().contains('\u{1b}'), "an escape sequence in the access log");
    for (decision, path) in sidecar.decisions().into_iter().zip(paths) {
        assert_eq!(decision["decision"], "DENY");
        assert_eq!(decision["principal"], identity);
        assert_eq!(decision["path"], String::from_utf8_lossy(path).as_ref());
    }
    assert!(!lines.iter().any(|line| line.contains(|c: char| c.is_ascii_control())), "{lines:#?}");
}

#[test]
fn no_character_of_a_path_can_end_a_line_or_command_a_terminal() {
    // NEL and LINE SEPARATOR end a line for some readers. CSI starts a terminal command.
    let config = json!({ "policies": [deny_admin()] });
    let sidecar = Blueprint::new(&config).setting("normalize_path", json!(false)).answering_by_itself().start();
    for character in ['\u{85}', '\u{2028}', '\u{9b}'] {
        let path = format!("/admin/{character}31m");
        assert_eq!(sidecar.client(FRONTEND).send_http2(&Http2Request::get(&path)).unwrap().status, 403);
        assert_eq!(sidecar.decisions().last().unwrap()["path"], path);
        let lines = sidecar.filter_log();
        assert!(!lines.iter().any(|line| line.contains(character)), "{character:?} in {lines:#?}");
    }
}

#[test]
fn no_header_value_and_no_query_is_ever_logged() {
    let config = json!({ "policies": [deny_admin()], "decisionLog": "all" });
    let sidecar = Sidecar::start(&config);
    for path in ["/data", "/admin"] {
        let request = Request::get(format!("{path}?token=s3cret"))
            .host("s3cret:s3cret@shop.example")
            .header("authorization", "Bearer s3cret")
            .header("cookie", "session=s3cret")
            .header("x-any", "s3cret");
        sidecar.client(FRONTEND).send(&request).unwrap();
    }
    let lines = sidecar.filter_log();
    assert_eq!(sidecar.decisions().len(), 2);
    assert!(!lines.iter().any(|line| line.contains("s3cret")), "{lines:#?}");
    assert!(sidecar.decisions().iter().all(|line| line["host"] == "shop.example"), "{lines:#?}");
}
