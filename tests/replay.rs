//! `replay` and `suggest` on logs that are made here: hostile lines, formats from configurations, pods, and policies that are
//! suggested. That Envoy decides as `replay` says is in the differential tests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "tests fail by panicking"
)]

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder with files, in which the command runs.
struct Folder(TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (name, content) in files {
            folder.write(name, content.as_bytes());
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: &[u8]) {
        std::fs::write(self.path(name), content).unwrap();
    }

    fn run_with(&self, arguments: &[&str], stdin: &[u8]) -> Output {
        let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_mesh-authz")));
        command.current_dir(self.0.path()).args(arguments).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let stdin = stdin.to_vec();
        // The command can end before it has read everything.
        let writer = std::thread::spawn(move || drop(input.write_all(&stdin)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }

    /// The JSON report.
    fn replay(&self, arguments: &[&str]) -> Value {
        let all = [&["replay"], arguments, &["--format", "json"]].concat();
        let output = self.run_with(&all, b"");
        let errors = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{all:?}: {errors}"))
    }
}

fn counts(report: &Value) -> [u64; 3] {
    ["allow", "deny", "undecided"].map(|name| report["decisions"][name].as_u64().unwrap())
}

/// How many lines were not replayed for a reason that contains this text.
fn skipped(report: &Value, why: &str) -> u64 {
    let all = report["notReplayed"].as_array().unwrap().iter();
    let matching = all.filter(|entry| entry["reason"].as_str().unwrap().contains(why));
    matching.map(|entry| entry["count"].as_u64().unwrap()).sum()
}

const POLICY: &str = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: gets, namespace: default }
spec:
  rules:
  - from: [{ source: { principals: ["cluster.local/ns/default/sa/frontend"] } }]
    to: [{ operation: { methods: ["GET"], paths: ["/data"] } }]
"#;

const FRONTEND: &str = "spiffe://cluster.local/ns/default/sa/frontend";
const FORMAT: &str = r#"{"protocol":"%PROTOCOL%","method":"%REQ(:METHOD)%","path":"%REQ(:PATH)%","peer":"%DOWNSTREAM_PEER_URI_SAN%","code":"%RESPONSE_CODE%","details":"%RESPONSE_CODE_DETAILS%","cluster":"%UPSTREAM_CLUSTER_RAW%","agent":"%REQ(USER-AGENT)%","tls":"%DOWNSTREAM_TLS_VERSION%","tunnel":"%FILTER_STATE(io.istio.peer_principal:PLAIN)%"}"#;

fn line(method: &str, path: &str, peer: Option<&str>, details: &str) -> Value {
    json!({
        "protocol": "HTTP/1.1", "method": method, "path": path, "peer": peer, "code": 200, "details": details,
        "cluster": "inbound|8080||", "agent": "test", "tls": peer.map(|_| "TLSv1.3"), "tunnel": null,
    })
}

fn with(mut line: Value, name: &str, value: Value) -> Value {
    line[name] = value;
    line
}

fn text(lines: &[Value]) -> String {
    lines.iter().fold(String::new(), |mut text, line| {
        writeln!(text, "{line}").unwrap();
        text
    })
}

const ARGUMENTS: [&str; 5] = ["policy.yaml", "log", "--no-labels", "--log-format", FORMAT];

#[test]
fn what_a_line_does_not_say_is_decided_for_every_value() {
    let frontend = || line("GET", "/data", Some(FRONTEND), "via_upstream");
    let unknown = |name| with(frontend(), name, Value::Null);
    for (line, expected) in [
        (frontend(), [1, 0, 0]),
        (line("POST", "/data", Some(FRONTEND), "via_upstream"), [0, 1, 0]),
        // In plaintext, there is no identity. In TLS, the peer can have a certificate without a URI.
        (line("GET", "/data", None, "via_upstream"), [0, 1, 0]),
        (unknown("peer"), [0, 0, 1]),
        // A tunnel looks like plaintext.
        (with(line("GET", "/data", None, "via_upstream"), "tunnel", json!(FRONTEND)), [1, 0, 0]),
        // A route can have changed the path.
        (with(frontend(), "cluster", json!("backend")), [0, 0, 1]),
        // A stranger is refused whatever the path was.
        (with(with(frontend(), "cluster", json!("backend")), "peer", json!("spiffe://x/ns/a/sa/b")), [0, 1, 0]),
        (with(frontend(), "peer", json!(format!("{FRONTEND},spiffe://x/ns/a/sa/b"))), [0, 0, 1]),
        // No route saw a denied request.
        (
            with(with(frontend(), "cluster", json!("b")), "details", json!("rbac_access_denied_matched_policy[none]")),
            [1, 0, 0],
        ),
        (with(frontend(), "details", json!("internal_redirect")), [0, 0, 1]),
    ] {
        let folder = Folder::new(&[("policy.yaml", POLICY), ("log", &text(std::slice::from_ref(&line)))]);
        let report = folder.replay(&ARGUMENTS);
        assert_eq!(counts(&report), expected, "{line}: {report:#}");
        if expected[2] == 0 {
            continue;
        }
        let is_about_peer = line["peer"].is_null() || line["peer"].to_string().contains(',');
        let needed = if is_about_peer { "source.principal" } else { ":path" };
        assert_eq!(report["needs"][0]["needs"], json!([needed]), "{line}: {report:#}");
        let report = folder.replay(&[&ARGUMENTS[..], &["--as-logged"]].concat());
        let is_redirected = line["details"] == "internal_redirect";
        assert_eq!(counts(&report)[2] == 1, is_about_peer || is_redirected, "{line}");
    }
}

/// A header of several lines with commas in them: the lengths tell the lines apart, if they fit.
#[test]
fn the_lengths_of_lines_tell_them_apart() {
    let policy = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: no-ab, namespace: default }
spec:
  action: DENY
  rules: [{ when: [{ key: "request.headers[x]", values: ["a,b"] }] }]
"#;
    let format = FORMAT.replace(
        "\"tunnel\":",
        "\"first\":\"%FILTER_STATE(decided.first.x:PLAIN)%\",\"all\":\"%FILTER_STATE(decided.all.x:PLAIN)%\",\"has\":\"%FILTER_STATE(decided.has.x:PLAIN)%\",\"lengths\":\"%DYNAMIC_METADATA(decided:x)%\",\"tunnel\":",
    );
    for (lengths, expected) in [
        (json!("3,1"), [0, 1, 0]),
        (json!("1,3"), [1, 0, 0]),
        (json!("1,1,1"), [1, 0, 0]),
        // These are of something else.
        (json!("2,2"), [0, 0, 1]),
        (json!("9,9"), [0, 0, 1]),
        (json!("x"), [0, 0, 1]),
        (Value::Null, [0, 0, 1]),
    ] {
        let first = if lengths == "3,1" { "a,b" } else { "a" };
        let line = line("GET", "/", Some(FRONTEND), "via_upstream");
        let line =
            [("first", json!(first)), ("all", json!("a,b,c")), ("has", json!("true")), ("lengths", lengths.clone())]
                .into_iter()
                .fold(line, |line, (name, value)| with(line, name, value));
        let folder = Folder::new(&[("policy.yaml", policy), ("log", &text(&[line]))]);
        let report = folder.replay(&["policy.yaml", "log", "--no-labels", "--log-format", &format]);
        assert_eq!(counts(&report), expected, "{lengths}: {report:#}");
    }
}

#[test]
fn the_log_is_compared_with_what_the_policies_decide() {
    let lines = [
        line("GET", "/data", Some(FRONTEND), "rbac_access_denied_matched_policy[ns[default]-policy[old]-rule[0]]"),
        line("POST", "/data", Some(FRONTEND), "via_upstream"),
        line("PUT", "/data", Some(FRONTEND), "rbac_access_denied_matched_policy[none]"),
        line("PUT", "/data", Some(FRONTEND), "rbac_access_denied_matched_policy[ns[default]-policy[old]-rule[1]]"),
        line("GET", "/data", Some(FRONTEND), "something_else"),
    ];
    let folder = Folder::new(&[("policy.yaml", POLICY), ("log", &text(&lines))]);
    let report = folder.replay(&ARGUMENTS);
    let total =
        |name: &str| report[name].as_array().unwrap().iter().map(|group| group["count"].as_u64().unwrap()).sum::<u64>();
    assert_eq!(["gained", "lost", "denied", "disagreements"].map(total), [1, 1, 2, 1], "{report:#}");
    assert_eq!(report["recorded"], 4);
    for (what, status) in [("lost", 1), ("gained", 1), ("any", 1)] {
        let output = folder.run_with(&[&["replay"], &ARGUMENTS[..], &["--fail-on", what]].concat(), b"");
        assert_eq!(output.status.code(), Some(status));
    }
    // With a second set, the first is compared with the log, and the second with the first.
    let then = POLICY.replace("GET", "POST");
    folder.write("then.yaml", then.as_bytes());
    let report = folder.replay(&[&ARGUMENTS[..], &["--then", "then.yaml"]].concat());
    let total =
        |name: &str| report[name].as_array().unwrap().iter().map(|group| group["count"].as_u64().unwrap()).sum::<u64>();
    assert_eq!(["gained", "lost", "denied", "disagreements"].map(total), [1, 2, 0, 3], "{report:#}");
}

/// A group names the rule that denies it, and where the rule stands.
#[test]
fn the_rule_that_denies_is_named() {
    let deny = POLICY.replace("name: gets", "name: no-gets").replace("spec:\n", "spec:\n  action: DENY\n");
    let folder = Folder::new(&[
        ("policy.yaml", &format!("{POLICY}---{deny}")),
        ("log", &text(&[line("GET", "/data", Some(FRONTEND), "via_upstream")])),
    ]);
    let report = folder.replay(&ARGUMENTS);
    let lost = &report["lost"][0];
    assert!(lost["after"].as_str().unwrap().contains("rule 0 of default/no-gets"), "{report:#}");
    assert!(lost["place"].as_str().unwrap().starts_with("policy.yaml:"), "{report:#}");
}

/// Hostile lines: each is counted, and none changes what is said about the others.
#[test]
fn hostile_lines_are_counted_and_named() {
    let good = line("GET", "/data", Some(FRONTEND), "via_upstream").to_string();
    let cut = &good[..good.len() - 10];
    let forged = with(line("GET", "/none", None, "via_upstream"), "agent", json!(format!("\n{good}"))).to_string();
    let hides = json!({ "peer": "spiffe://evil", "agent": "" });
    let in_value = with(serde_json::from_str(&good).unwrap(), "agent", hides).to_string();
    let twice = good.replace("\"peer\":", &format!("\"peer\":\"{FRONTEND}\",\"peer\":"));
    let decision = r#"{"decision":"ALLOW","reason":"x"}"#;
    let in_agent = with(line("GET", "/none", None, "via_upstream"), "agent", json!(decision)).to_string();
    // What a client can do where the format is one of text that looks like JSON: the true end of the line is hidden.
    let hidden =
        with(serde_json::from_str(&good).unwrap(), "more", json!({ "of": [{ "peer": "spiffe://evil", "agent": "" }] }))
            .to_string();
    let mut log = Vec::new();
    for line in [&good, cut, &forged, &twice, &in_agent, &hidden, &in_value, "\u{0}\u{1}", "{}", "[]", "null", &good] {
        log.extend_from_slice(line.as_bytes());
        log.push(b'\n');
    }
    log.extend_from_slice(b"\xff\xfe {\"method\":\"GET\"}\n");
    log.extend_from_slice(&[b"{\"agent\":\"", &vec![b'a'; 1 << 20][..], b"\n"].concat());
    log.extend_from_slice(&[&vec![b'\"'; (1 << 24) + 5][..], b"\n"].concat());
    log.extend_from_slice(format!("{good}\r\n\n   \n").as_bytes());
    log.extend_from_slice(good.as_bytes());
    let folder = Folder::new(&[("policy.yaml", POLICY)]);
    folder.write("log", &log);
    let report = folder.replay(&ARGUMENTS);
    // The two with a forged line in them are denied.
    assert_eq!(counts(&report), [4, 2, 0], "{report:#}");
    assert_eq!(report["lines"], 17);
    assert_eq!(skipped(&report, "of another format or cut"), 10, "{report:#}");
    assert_eq!(skipped(&report, "longer than 16 MiB"), 1);
    // The same from standard input, and compressed.
    let mut compressed = GzEncoder::new(Vec::new(), Compression::fast());
    compressed.write_all(&log).unwrap();
    folder.write("log", &compressed.finish().unwrap());
    let of_file = folder.replay(&ARGUMENTS);
    assert_eq!(of_file, report);
    let arguments = ["replay", "policy.yaml", "-", "--no-labels", "--log-format", FORMAT, "--format", "json"];
    let output = folder.run_with(&arguments, &log);
    let of_stdin: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(counts(&of_stdin), counts(&report));
}

/// A stream that is reset, or a connection that breaks, after the policies have decided: Envoy writes why it broke, and no longer
/// what was decided.
#[test]
fn what_broke_was_perhaps_refused() {
    let format = FORMAT.replace("\"tunnel\":", "\"host\":\"%UPSTREAM_HOST%\",\"tunnel\":");
    let with_host = |line: Value, host: Value| with(line, "host", host);
    let user = |number: u8| {
        with_host(line("GET", &format!("/users/{number}"), Some(FRONTEND), "via_upstream"), json!("10.0.0.1:80"))
    };
    let users: Vec<_> = (1..5).map(user).collect();
    for details in
        ["http1.codec_error", "http2.remote_reset", "codec_error:The_user_callback_function_failed", "wasm_fail_stream"]
    {
        let broken = |host: Value| with_host(line("GET", "/users/9", Some(FRONTEND), details), host);
        let folder = |line: Value| {
            Folder::new(&[("policy.yaml", POLICY), ("log", &text(&[users.clone(), vec![line]].concat()))])
        };
        let suggest = |folder: &Folder| {
            let output = folder.run_with(&["suggest", "log", "--label", "app=x", "--log-format", &format], b"");
            String::from_utf8(output.stdout).unwrap()
        };
        let policy = suggest(&folder(broken(Value::Null)));
        assert!(policy.contains("- /users/4\n") && !policy.contains("{*}"), "{details}: {policy}");
        // It came through to the host, so that it was allowed.
        let passed = folder(broken(json!("10.0.0.1:80")));
        let policy = suggest(&passed);
        assert!(policy.contains("- /users/{*}\n"), "{details}: {policy}");
        let report = passed.replay(&["policy.yaml", "log", "--no-labels", "--log-format", &format]);
        assert_eq!((&report["recorded"], report["lost"][0]["count"].as_u64()), (&json!(5), Some(5)), "{report:#}");
        // Nothing of it was read.
        let unread = with(with(broken(Value::Null), "method", Value::Null), "path", Value::Null);
        let policy = suggest(&folder(unread));
        assert!(policy.contains("- /users/{*}\n") || details == "wasm_fail_stream", "{details}: {policy}");
    }
}

/// Where a policy no longer asks a provider, a request that the provider refused passes.
#[test]
fn what_an_authorizer_refused_can_be_allowed_now() {
    let custom = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: ask, namespace: default }\n\
        spec:\n  action: CUSTOM\n  provider: { name: opa }\n  rules:\n  - to: [{ operation: { paths: [\"/admin\"] } }]\n";
    let open = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: all, namespace: default }\n\
        spec:\n  rules: [{}]\n";
    let [asks, asks_nobody] = [format!("{custom}---\n{open}"), open.to_owned()];
    let other = asks.replace("name: opa", "name: other");
    let sometimes = asks.replace(
        "  - to: [{ operation: { paths: [\"/admin\"] } }]\n",
        "  - when: [{ key: \"request.headers[x]\", values: [\"a\"] }]\n",
    );
    let refuses_sometimes = sometimes.replace("action: CUSTOM\n  provider: { name: opa }", "action: DENY");
    let refuses =
        refuses_sometimes.replace("  - when: [{ key: \"request.headers[x]\", values: [\"a\"] }]\n", "  - {}\n");
    let lines =
        [line("GET", "/", Some(FRONTEND), "via_upstream"), line("GET", "/admin", Some(FRONTEND), "ext_authz_denied")];
    let folder = Folder::new(&[
        ("asks.yaml", &asks),
        ("asks-nobody.yaml", &asks_nobody),
        ("other.yaml", &other),
        ("sometimes.yaml", &sometimes),
        ("refuses-sometimes.yaml", &refuses_sometimes),
        ("refuses.yaml", &refuses),
        ("log", &text(&lines)),
    ]);
    let common = ["log", "--no-labels", "--log-format", FORMAT, "--fail-on", "gained"];
    for (old, new, is_allowed_now) in [
        ("asks.yaml", Some("asks-nobody.yaml"), true),
        ("asks.yaml", Some("asks.yaml"), false),
        // The provider is not one of these policies.
        ("asks-nobody.yaml", Some("asks-nobody.yaml"), false),
        ("asks-nobody.yaml", Some("asks.yaml"), false),
        ("asks.yaml", None, false),
        ("asks-nobody.yaml", None, true),
        // Another provider can answer otherwise, and so can policies of which a line does not say what they decide.
        ("asks.yaml", Some("other.yaml"), true),
        ("asks.yaml", Some("sometimes.yaml"), true),
        ("sometimes.yaml", Some("asks-nobody.yaml"), true),
        ("asks.yaml", Some("refuses-sometimes.yaml"), true),
        ("refuses-sometimes.yaml", None, true),
        ("asks.yaml", Some("refuses.yaml"), false),
    ] {
        let then = new.map(|new| vec!["--then", new]).unwrap_or_default();
        let output = folder.run_with(&[&["replay", old], &common[..], &then].concat(), b"");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.contains("An external authorizer refused 1 request"), is_allowed_now, "{old} {new:?}: {said}");
        assert_eq!(output.status.code(), Some(i32::from(is_allowed_now)), "{old} {new:?}: {said}");
        let report = folder.replay(&[&[old][..], &common[..4], &then].concat());
        assert_eq!(report["notAskedAbout"]["count"], u64::from(is_allowed_now), "{report:#}");
    }
}

/// The log says what became of a request where a line is not enough for the old policies.
#[test]
fn the_log_tells_what_undecided_policies_did() {
    let old = POLICY.replace("    to:", "    when: [{ key: \"request.headers[x-tenant]\", values: [\"a\"] }]\n    to:");
    let new = POLICY.replace("/data", "/other");
    let replay = |details: &str| {
        let log = text(&[line("GET", "/data", Some(FRONTEND), details)]);
        let folder = Folder::new(&[("old.yaml", &old), ("new.yaml", &new), ("log", &log)]);
        let output = folder.run_with(
            &[
                "replay",
                "old.yaml",
                "log",
                "--then",
                "new.yaml",
                "--no-labels",
                "--log-format",
                FORMAT,
                "--fail-on",
                "lost",
            ],
            b"",
        );
        (String::from_utf8(output.stdout).unwrap(), output.status.code())
    };
    let (said, status) = replay("via_upstream");
    assert!(said.contains("LOST") && !said.contains("UNDECIDED") && status == Some(1), "{said}");
    let (said, status) = replay("rbac_access_denied_matched_policy[none]");
    assert!(!said.contains("LOST") && !said.contains("UNDECIDED") && status == Some(0), "{said}");
    let (said, status) = replay("something_else");
    assert!(said.contains("UNDECIDED: the lines do not say enough: 1 request\n") && status == Some(1), "{said}");
    assert!(said.contains("1 needs request.headers[x-tenant] (first: log:1)\n"), "{said}");
}

/// What is undecided before and after is only the same if both leave the same open.
#[test]
fn what_stays_open_must_stay_the_same() {
    let policy = |name: &str, more: &str, header: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{ name: {name}, namespace: default }}\n\
             spec:\n  {more}\n  rules:\n  - when: [{{ key: \"request.headers[{header}]\", values: [\"a\"] }}]\n---\n"
        )
    };
    let allow = |header: &str| policy("allow", "action: ALLOW", header);
    let deny = |header: &str| policy("deny", "action: DENY", header);
    let ask = |provider: &str, header: &str| {
        policy("ask", &format!("action: CUSTOM\n  provider: {{ name: {provider} }}"), header)
    };
    let elsewhere = POLICY.replace("/data", "/elsewhere");
    let log = text(&[line("GET", "/data", Some(FRONTEND), "something_else")]);
    for (old, new, is_same) in [
        (allow("x"), allow("x"), true),
        (allow("x"), allow("x") + &elsewhere, true),
        (allow("x"), allow("y"), false),
        (deny("x"), deny("x"), true),
        (deny("x"), deny("y"), false),
        (deny("x"), allow("x"), false),
        (deny("x"), deny("x") + &allow("y"), false),
        (ask("one", "x"), ask("one", "x"), true),
        (ask("one", "x"), ask("one", "y"), false),
        (ask("one", "x"), ask("two", "x"), false),
        (ask("one", "x"), deny("x"), false),
    ] {
        let folder = Folder::new(&[("old.yaml", &old), ("new.yaml", &new), ("log", &log)]);
        let common = ["replay", "old.yaml", "log", "--then", "new.yaml", "--no-labels", "--log-format", FORMAT];
        let output = folder.run_with(&[&common[..], &["--fail-on", "any"]].concat(), b"");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.success(), is_same, "{old}{new}{said}");
        assert_eq!(said.contains("1 of them are decided alike by both policies"), is_same, "{old}{new}{said}");
    }
}

/// What may be otherwise is no proof that nothing is.
#[test]
fn fail_on_fails_if_something_cannot_be_ruled_out() {
    let lines = [line("GET", "/data", Some(FRONTEND), "via_upstream")];
    let decision = r#"{"decision":"ALLOW","reason":"an ALLOW policy matches","method":"GET","path":"/data","principal":"spiffe://cluster.local/ns/default/sa/frontend"}"#;
    let suppressed = decision.replace("\"ALLOW\",", "\"ALLOW\",\"suppressed\":5,");
    let other = POLICY.replace("/data", "/other");
    let folder = Folder::new(&[
        ("policy.yaml", POLICY),
        ("other.yaml", &other),
        ("log", &text(&lines)),
        ("decisions", decision),
        ("suppressed", &suppressed),
    ]);
    for (arguments, is_ruled_out) in [
        (&["policy.yaml", "log", "--then", "policy.yaml"][..], true),
        // The old policies are not those of the log.
        (&["other.yaml", "log", "--then", "other.yaml"], false),
        (&["policy.yaml", "decisions"], true),
        (&["policy.yaml", "suppressed"], false),
    ] {
        let more = ["--no-labels", "--log-format", FORMAT, "--fail-on", "any"];
        let output = folder.run_with(&[&["replay"], arguments, &more].concat(), b"");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.success(), is_ruled_out, "{arguments:?}: {said}");
        let claims = said.contains("decide no request in the logs otherwise") || said.contains("as the log says");
        assert_eq!(claims, is_ruled_out, "{arguments:?}: {said}");
    }
}

/// A client that sends quotes into a text format makes its own lines ambiguous, and no others.
#[test]
fn a_forged_text_line_is_not_believed() {
    let format = "%PROTOCOL% \"%REQ(USER-AGENT)%\" %REQ(:METHOD)% \"%REQ(:PATH)%\" %RESPONSE_CODE_DETAILS% %UPSTREAM_CLUSTER_RAW%";
    let line = |agent: &str| format!("HTTP/1.1 \"{agent}\" POST \"/data\" via_upstream inbound|80||\n");
    let policy = POLICY.replace(
        "  - from: [{ source: { principals: [\"cluster.local/ns/default/sa/frontend\"] } }]\n    to:",
        "  - to:",
    );
    let log = [line("curl"), line("x\" GET \"/data\" via_upstream inbound|80|| \"")].concat();
    let folder = Folder::new(&[("policy.yaml", &policy), ("log", &log)]);
    let report = folder.replay(&["policy.yaml", "log", "--no-labels", "--log-format", format]);
    let [allowed, denied, undecided] = counts(&report);
    assert_eq!((allowed, denied + undecided), (0, 2), "{report:#}");
}

#[test]
fn formats_are_found_where_they_are_configured() {
    let json_line = line("GET", "/data", Some(FRONTEND), "via_upstream").to_string();
    let text_line = format!("GET /data {FRONTEND} inbound|80||");
    let text_format = "%REQ(:METHOD)% %REQ(:PATH)% %DOWNSTREAM_PEER_URI_SAN% %UPSTREAM_CLUSTER_RAW%";
    let labels: Value = serde_json::from_str(FORMAT).unwrap();
    let envoy = |format: Value| {
        json!({ "static_resources": { "listeners": [{ "filter_chains": [{ "filters": [{ "typed_config": { "access_log": [{
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog", "path": "x",
                "log_format": format,
            },
        }] } }] }] }] } })
        .to_string()
    };
    let mesh = |mesh: Value| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "istio", "namespace": "istio-system" },
            "data": { "mesh": mesh.to_string() },
        })
        .to_string()
    };
    let provider = |format: Value| {
        json!({ "defaultProviders": { "accessLogging": ["p"] }, "extensionProviders": [
            { "name": "p", "envoyFileAccessLog": { "path": "x", "logFormat": format } },
            { "name": "q", "envoyFileAccessLog": { "path": "x", "logFormat": { "text": "%REQ(:PATH)%" } } },
        ] })
    };
    for (config, line) in [
        (mesh(json!({ "accessLogFile": "x", "accessLogEncoding": "JSON", "accessLogFormat": FORMAT })), &json_line),
        (mesh(json!({ "accessLogFile": "x", "accessLogFormat": format!("{text_format}\n") })), &text_line),
        (mesh(provider(json!({ "labels": labels }))), &json_line),
        (mesh(provider(json!({ "text": text_format }))), &text_line),
        (envoy(json!({ "json_format": labels })), &json_line),
        (envoy(json!({ "text_format_source": { "inline_string": format!("{text_format}\n") } })), &text_line),
        (envoy(json!({ "text_format": format!("{text_format}\n") })), &text_line),
    ] {
        let folder = Folder::new(&[("policy.yaml", POLICY), ("config.json", &config), ("log", &format!("{line}\n"))]);
        let report = folder.replay(&["policy.yaml", "log", "--no-labels", "--config", "config.json"]);
        assert_eq!(counts(&report), [1, 0, 0], "{config}\n{report:#}");
    }
}

#[test]
fn pods_tell_workloads_and_peers() {
    let pod = |name: &str, ip: &str, account: &str, more: Value| {
        let mut pod = json!({
            "kind": "Pod", "metadata": { "name": name, "namespace": "default", "labels": { "app": name } },
            "spec": { "serviceAccountName": account, "containers": [] },
            "status": { "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }], "startTime": "2026-11-27T00:00:00Z" },
        });
        for (path, value) in more.as_object().unwrap() {
            *pod.pointer_mut(path).unwrap() = value.clone();
        }
        pod
    };
    let none = || json!({});
    let pods = json!({ "kind": "List", "items": [
        pod("backend", "10.0.0.1", "backend", none()),
        pod("frontend", "10.0.0.2", "frontend", none()),
        pod("ended", "10.0.0.3", "frontend", json!({ "/status/phase": "Succeeded" })),
        pod("one", "10.0.0.4", "frontend", none()),
        pod("two", "10.0.0.4", "frontend", none()),
        pod("gateway", "10.0.0.5", "gateway", json!({ "/spec/containers": [{ "args": ["proxy", "router", "--log"] }] })),
    ] });
    let format = r#"{"protocol":"%PROTOCOL%","method":"%REQ(:METHOD)%","path":"%REQ(:PATH)%","from":"%DOWNSTREAM_REMOTE_ADDRESS%","to":"%DOWNSTREAM_LOCAL_ADDRESS%","sni":"%REQUESTED_SERVER_NAME%","start":"%START_TIME%","details":"%RESPONSE_CODE_DETAILS%","cluster":"%UPSTREAM_CLUSTER_RAW%"}"#;
    let policy = POLICY.replace("spec:\n", "spec:\n  selector: { matchLabels: { app: backend } }\n");
    let line = |from: &str, to: &str, sni: Option<&str>, start: &str| {
        json!({
            "protocol": "HTTP/1.1", "method": "GET", "path": "/data", "from": from, "to": to, "sni": sni, "start": start,
            "details": "via_upstream", "cluster": "inbound|80||",
        })
    };
    let (mesh, day) = (Some("outbound_.80_._.backend.default.svc.cluster.local"), "2026-11-27T10:00:00.000Z");
    for (line, expected) in [
        (line("10.0.0.2:4000", "10.0.0.1:80", mesh, day), [1, 0, 0]),
        // In plaintext, an address is no identity.
        (line("10.0.0.2:4000", "10.0.0.1:80", None, day), [0, 0, 1]),
        // The address is from a header.
        (line("10.0.0.2:0", "10.0.0.1:80", mesh, day), [0, 0, 1]),
        // Several pods have the address, or had it.
        (line("10.0.0.4:4000", "10.0.0.1:80", mesh, day), [0, 0, 1]),
        (line("10.0.0.3:4000", "10.0.0.1:80", mesh, day), [0, 0, 1]),
        // Another pod had the addresses then.
        (line("10.0.0.2:4000", "10.0.0.1:80", mesh, "2026-11-26T23:00:00.000Z"), [0, 0, 0]),
        (line("10.0.0.2:4000", "10.0.0.9:80", mesh, day), [0, 0, 0]),
        // No policy applies to the frontend.
        (line("10.0.0.1:4000", "10.0.0.2:80", mesh, day), [1, 0, 0]),
        (line("[::ffff:10.0.0.2]:4000", "[::ffff:10.0.0.1]:80", mesh, day), [1, 0, 0]),
        (line("10.0.0.2:4000", "10.0.0.5:80", mesh, day), [0, 0, 0]),
    ] {
        let folder = Folder::new(&[
            ("policy.yaml", &policy),
            ("pods.json", &pods.to_string()),
            ("log", &text(std::slice::from_ref(&line))),
        ]);
        let report = folder.replay(&["policy.yaml", "log", "--pods", "pods.json", "--log-format", format]);
        assert_eq!(counts(&report), expected, "{line}\n{report:#}");
    }
}

/// The policies that are made allow what was allowed, and nothing that was refused.
#[test]
fn suggested_policies_allow_what_was_allowed() {
    let random = &mut fastrand::Rng::with_seed(7);
    let peers = ["a", "b", "c"].map(|name| format!("spiffe://cluster.local/ns/default/sa/{name}"));
    for round in 0..12 {
        let mut lines = Vec::new();
        for _ in 0..300 {
            let path = match random.u8(..6) {
                0 => format!("/users/{}", random.u16(..40)),
                1 => format!("/users/{}/orders/{}", random.u16(..9), random.u16(..200)),
                2 => format!("/files/{:08x}", random.u32(..)),
                3 => "/users/me".to_owned(),
                4 => format!("/odd/{}[1]", random.u16(..50)),
                _ => "/".to_owned(),
            };
            let peer = if random.u8(..12) == 0 { None } else { Some(peers[random.usize(..3)].as_str()) };
            let method = ["GET", "POST"][random.usize(..2)];
            let is_denied = (path == "/users/7" && round % 2 == 0) || method == "POST" && path.starts_with("/files");
            let details = if is_denied { "rbac_access_denied_matched_policy[none]" } else { "via_upstream" };
            lines.push(line(method, &path, peer, details));
        }
        let folder = Folder::new(&[("log", &text(&lines))]);
        let suggest = ["suggest", "log", "--label", "app=x", "--log-format", FORMAT];
        let output = folder.run_with(&suggest, b"");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        folder.write("policy.yaml", &output.stdout);
        let report = folder.replay(&["policy.yaml", "log", "--label", "app=x", "--log-format", FORMAT]);
        let policy = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(report["gained"].as_array().unwrap().is_empty(), "{report:#}\n{policy}");
        // Peers without an identity are left out.
        let lost = report["lost"].as_array().unwrap();
        assert!(lost.iter().all(|group| group["peer"] == "a peer without an identity"), "{report:#}\n{policy}");
        assert!(policy.contains("/users/{*}/orders/{*}"), "{policy}");
        assert!(policy.contains("- /users/{*}\n") || round % 2 == 0, "{policy}");
        let output = folder.run_with(&["check", "policy.yaml", "--deny-warnings"], b"");
        assert!(output.status.success(), "{}{policy}", String::from_utf8_lossy(&output.stdout));
    }
}

/// What nobody knows about a refused request counts against a pattern, and a port against requests.
#[test]
fn suggested_policies_do_not_say_more_than_was_seen() {
    let user = |number: u8| line("GET", &format!("/users/{number}"), Some(FRONTEND), "via_upstream");
    let users: Vec<_> = (1..6).map(user).collect();
    let denied = "rbac_access_denied_matched_policy[none]";
    let by_somebody = with(line("GET", "/users/9", None, denied), "tls", json!("TLSv1.3"));
    let tcp = json!({
        "protocol": null, "method": null, "path": null, "peer": FRONTEND, "code": 0, "details": null,
        "cluster": "inbound|6379||", "agent": null, "tls": "TLSv1.3", "tunnel": null, "port": 6379, "received": 5, "sent": 7, "end": null,
    });
    let format = FORMAT.replace(
        "\"tunnel\":",
        "\"port\":\"%DOWNSTREAM_LOCAL_PORT%\",\"received\":\"%BYTES_RECEIVED%\",\"sent\":\"%BYTES_SENT%\",\"end\":\"%CONNECTION_TERMINATION_DETAILS%\",\"tunnel\":",
    );
    let complete = |line: &Value| {
        ["port", "received", "sent", "end"].iter().fold(line.clone(), |mut line, name| {
            if line.get(*name).is_none() {
                line[*name] = Value::Null;
            }
            line
        })
    };
    let suggest = |lines: Vec<Value>| {
        let folder = Folder::new(&[("log", &text(&lines.iter().map(complete).collect::<Vec<_>>()))]);
        let output = folder.run_with(&["suggest", "log", "--label", "app=x", "--log-format", &format], b"");
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (policy, _) = suggest(users.clone());
    assert!(policy.contains("- /users/{*}\n"), "{policy}");
    let (policy, _) = suggest([users.clone(), vec![by_somebody]].concat());
    assert!(!policy.contains("{*}") && policy.contains("- /users/5\n"), "{policy}");
    let (policy, _) = suggest(vec![tcp.clone()]);
    assert!(policy.contains("ports:\n        - \"6379\"\n"), "{policy}");
    let (policy, notes) = suggest([users.clone(), vec![tcp.clone()]].concat());
    assert!(!policy.contains("6379") && notes.contains("left out: connections of 1 kinds"), "{policy}{notes}");
    // Also if the requests are refused.
    let refused = |path: &str, peer: &str| line("GET", path, Some(peer), denied);
    let (policy, notes) = suggest(vec![refused("/admin", FRONTEND), tcp.clone()]);
    assert!(policy.is_empty() && notes.contains("left out: connections of 1 kinds"), "{policy}{notes}");
    for details in ["jwt_authn_access_denied{Jwt_is_missing}", "ext_authz_denied", "http1.codec_error"] {
        let (policy, notes) = suggest(vec![line("GET", "/admin", Some(FRONTEND), details), tcp.clone()]);
        assert!(policy.is_empty() && notes.contains("left out: connections of 1 kinds"), "{policy}{notes}");
    }
    // The filter gives no reason for closing a connection, but then the client gets nothing.
    let (policy, notes) = suggest(vec![with(tcp, "sent", json!(0))]);
    assert!(policy.is_empty() && notes.contains("does not say whether they were allowed"), "{policy}{notes}");
    // What a policy cannot say counts too.
    for path in ["/users/*", "/users/a*b", "/users/{}"] {
        let (policy, _) = suggest([users.clone(), vec![refused(path, FRONTEND)]].concat());
        assert!(!policy.contains("{*}") && policy.contains("- /users/5\n"), "{path}: {policy}");
    }
    // One peer's paths say nothing about another, and GET nothing about DELETE.
    let other = line("DELETE", "/users/1", Some("spiffe://cluster.local/ns/default/sa/other"), "via_upstream");
    let (policy, _) = suggest([users.clone(), vec![other]].concat());
    assert!(policy.contains("- DELETE\n        paths:\n        - /users/1\n"), "{policy}");
    // What was also refused depends on something else.
    let (policy, notes) = suggest(
        [users.clone(), vec![line("GET", "/a", Some(FRONTEND), "via_upstream"), refused("/a", FRONTEND)]].concat(),
    );
    assert!(!policy.contains("/a\n") && notes.contains("left out: GET /a from"), "{policy}{notes}");
    // A client that left does not make an allowed request a refused one, but nobody knows about its other paths.
    let left = |path: &str| with(line("GET", path, Some(FRONTEND), "downstream_remote_disconnect"), "code", json!(0));
    let (policy, notes) = suggest([users.clone(), vec![left("/users/2")]].concat());
    assert!(policy.contains("- /users/{*}\n"), "{policy}{notes}");
    let (policy, notes) = suggest([users.clone(), vec![left("/users/9")]].concat());
    assert!(policy.contains("- /users/2\n") && !policy.contains("{*}"), "{policy}{notes}");
    // Paths that no pattern can have, and very long ones, stand for themselves.
    for odd in ["//", "/[x]/", "/a|b/", &"/a".repeat(20_000)] {
        let lines = (0..5).map(|number| line("GET", &format!("{odd}/{number}"), Some(FRONTEND), "via_upstream"));
        let (policy, notes) = suggest(lines.collect());
        assert!(!policy.contains("{*}") && policy.contains("/4"), "{policy}{notes}");
    }
    // What did not come to the policies, or came from nobody, says nothing about paths.
    let early = line("GET", "/users/9", None, "http1.codec_error");
    let plain = with(line("GET", "/users/9", None, denied), "tls", Value::Null);
    let gone = with(
        with(line("GET", "/users/9", None, "downstream_remote_disconnect"), "tls", Value::Null),
        "path",
        Value::Null,
    );
    let (policy, notes) = suggest([users.clone(), vec![early, plain, gone]].concat());
    assert!(policy.contains("- /users/{*}\n"), "{policy}{notes}");
    // A policy has at most 512 rules.
    let peers = (0..600).map(|number| {
        line(
            "GET",
            &format!("/of/p{number}"),
            Some(&format!("spiffe://cluster.local/ns/default/sa/p{number}")),
            "via_upstream",
        )
    });
    let (policies, notes) = suggest(peers.collect());
    assert!(policies.contains("name: allow-x.part-2\n") && policies.contains("- /of/p599\n"), "{notes}");
    // An unknown outcome of what was allowed at another time does not stand in the way of a policy.
    let mut of_many: Vec<_> =
        (0..1_001).map(|number| line("GET", &format!("/odd/{number}[1]"), Some(FRONTEND), "via_upstream")).collect();
    of_many.extend([line("GET", "/users/me", Some(FRONTEND), "via_upstream"), left("/users/me")]);
    let (policy, notes) = suggest([users.clone(), of_many].concat());
    assert!(policy.contains("- /users/{*}\n"), "{policy}{notes}");
    // Nobody reads a list of thousands.
    let many = (0..1_500).map(|number| line("GET", &format!("/odd/{number}[1]"), Some(FRONTEND), "via_upstream"));
    let (policy, notes) = suggest([users, many.collect()].concat());
    assert!(!policy.contains("odd") && notes.contains("left out: GET of 1500 paths from"), "{policy}{notes}");
}

#[test]
fn suggested_policies_have_names_of_their_own() {
    let pod = |name: &str, ip: &str, labels: Value| {
        json!({
            "kind": "Pod", "metadata": { "name": name, "namespace": "default", "labels": labels },
            "status": { "podIP": ip, "startTime": "2026-01-01T00:00:00Z" },
        })
    };
    let pods = json!({ "kind": "List", "items": [
        pod("one", "10.0.0.1", json!({ "app": "a.b" })),
        pod("two", "10.0.0.2", json!({ "app": "A-b" })),
        pod("three", "10.0.0.3", json!({ "app": "a.b", "version": "2" })),
    ] });
    let format =
        FORMAT.replace("\"tunnel\":", "\"to\":\"%DOWNSTREAM_LOCAL_ADDRESS%\",\"start\":\"%START_TIME%\",\"tunnel\":");
    let to = |address: &str| {
        let line = with(line("GET", "/", Some(FRONTEND), "via_upstream"), "to", json!(format!("{address}:80")));
        with(line, "start", json!("2026-11-27T10:00:00.000Z"))
    };
    let log = text(&[to("10.0.0.1"), to("10.0.0.2")]);
    let folder = Folder::new(&[("log", &log), ("pods.json", &pods.to_string())]);
    let output = folder.run_with(&["suggest", "log", "--pods", "pods.json", "--log-format", &format], b"");
    let (policies, notes) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(policies.contains("name: allow-a-b\n") && policies.contains("name: allow-a-b-2\n"), "{policies}{notes}");
}

/// A name that a workload has cannot be that of the second part of another policy.
#[test]
fn parts_of_suggested_policies_have_names_of_their_own() {
    let pods = json!({ "items": [
        { "metadata": { "namespace": "default", "labels": { "app": "shop" } }, "status": { "podIP": "10.0.0.1" } },
        { "metadata": { "namespace": "default", "labels": { "app": "shop.part-2" } }, "status": { "podIP": "10.0.0.2" } },
        { "metadata": { "namespace": "default", "labels": { "app": "shop-part-2" } }, "status": { "podIP": "10.0.0.3" } },
    ] });
    let format = FORMAT.replace("\"tunnel\":", "\"to\":\"%DOWNSTREAM_LOCAL_ADDRESS%\",\"tunnel\":");
    let to = |address: &str, number: usize| {
        let peer = format!("spiffe://cluster.local/ns/default/sa/p{number}");
        with(line("GET", &format!("/{number}"), Some(&peer), "via_upstream"), "to", json!(format!("{address}:80")))
    };
    let mut lines: Vec<_> = (0..600).map(|number| to("10.0.0.1", number)).collect();
    lines.extend([to("10.0.0.2", 0), to("10.0.0.3", 0)]);
    let folder = Folder::new(&[("log", &text(&lines)), ("pods.json", &pods.to_string())]);
    let output = folder.run_with(&["suggest", "log", "--pods", "pods.json", "--log-format", &format], b"");
    let policies = String::from_utf8(output.stdout).unwrap();
    let names: Vec<_> = policies.lines().filter(|line| line.starts_with("  name: ")).collect();
    let unique: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!((names.len(), unique.len()), (4, 4), "{names:?}");
}

/// What was refused where the line does not say by which workload counts for each.
#[test]
fn what_was_refused_somewhere_is_suggested_nowhere() {
    let pods = json!({ "items": [
        { "metadata": { "namespace": "default", "labels": { "app": "shop" } }, "status": { "podIP": "10.0.0.1" } },
    ] });
    let format = FORMAT.replace("\"tunnel\":", "\"to\":\"%DOWNSTREAM_LOCAL_ADDRESS%\",\"tunnel\":");
    let to =
        |address: Value, path: &str, details: &str| with(line("GET", path, Some(FRONTEND), details), "to", address);
    let users = (1..5).map(|number| to(json!("10.0.0.1:80"), &format!("/users/{number}"), "via_upstream"));
    let users: Vec<_> = users.chain([to(json!("10.0.0.1:80"), "/x", "via_upstream")]).collect();
    let denied = "rbac_access_denied_matched_policy[none]";
    let suggest = |line: Value| {
        let log = text(&[users.clone(), vec![line]].concat());
        let folder = Folder::new(&[("log", &log), ("pods.json", &pods.to_string())]);
        let output = folder.run_with(&["suggest", "log", "--pods", "pods.json", "--log-format", &format], b"");
        String::from_utf8(output.stdout).unwrap()
    };
    for (address, is_known) in [(json!("10.0.0.9:80"), true), (Value::Null, false)] {
        let policy = suggest(to(address.clone(), "/users/9", denied));
        assert_eq!(policy.contains("- /users/{*}\n"), is_known, "{policy}");
        let policy = suggest(to(address, "/x", denied));
        assert_eq!(policy.contains("- /x\n"), is_known, "{policy}");
    }
}

/// A client can make its own lines unreadable, or of several formats. They can be about what was refused.
#[test]
fn lines_that_cannot_be_read_forbid_patterns() {
    let users = (1..5).map(|number| line("GET", &format!("/users/{number}"), Some(FRONTEND), "via_upstream"));
    let users = text(&users.collect::<Vec<_>>());
    for (more, has_pattern) in
        [("", true), ("[2026-11-27 10:00:00.000][1][info] of Envoy itself\n", true), ("{\"cut\":", false)]
    {
        let folder = Folder::new(&[("log", &format!("{users}{more}"))]);
        let output = folder.run_with(&["suggest", "log", "--label", "app=x", "--log-format", FORMAT], b"");
        let [policy, notes] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert_eq!(policy.contains("- /users/{*}\n"), has_pattern, "{policy}{notes}");
        assert!(policy.contains("- /users/4\n") || has_pattern, "{policy}{notes}");
    }
}

/// In a text format, `-` stands for none, and a client can send it as its method.
#[test]
fn a_request_whose_method_is_a_dash_was_read() {
    let format = "%PROTOCOL% %REQ(:METHOD)% \"%REQ(:PATH)%\" %DOWNSTREAM_PEER_URI_SAN% %RESPONSE_CODE_DETAILS% %UPSTREAM_CLUSTER_RAW% %UPSTREAM_HOST%";
    let policy = POLICY.replace("spec:\n", "spec:\n  action: DENY\n").replace("methods: [\"GET\"], ", "");
    let log = |method: &str, path: &str, details: &str, host: &str| {
        format!("HTTP/2 {method} \"{path}\" {FRONTEND} {details} inbound|80|| {host}\n")
    };
    for (line, replayed, recorded) in [
        (log("GET", "/data", "via_upstream", "10.0.0.1:80"), 1, 1),
        (log("-", "/data", "via_upstream", "10.0.0.1:80"), 1, 1),
        (log("-", "/data", "http2.remote_reset", "-"), 1, 0),
        (log("-", "-", "http2.remote_reset", "-"), 0, 0),
    ] {
        let folder = Folder::new(&[("policy.yaml", &policy), ("log", &line)]);
        let report = folder.replay(&["policy.yaml", "log", "--no-labels", "--log-format", format]);
        assert_eq!(
            (counts(&report).iter().sum::<u64>(), &report["recorded"]),
            (replayed, &json!(recorded)),
            "{line}{report:#}"
        );
    }
}

/// A policy selects the workload that it was made of, and no other pods.
#[test]
fn suggested_policies_are_for_the_workload_that_was_seen() {
    let pod = |number: usize, labels: Value| {
        json!({
            "kind": "Pod", "metadata": { "name": format!("pod-{number}"), "namespace": "default", "labels": labels },
            "status": { "podIP": format!("10.0.0.{number}"), "startTime": "2026-01-01T00:00:00Z" },
        })
    };
    let format =
        FORMAT.replace("\"tunnel\":", "\"to\":\"%DOWNSTREAM_LOCAL_ADDRESS%\",\"start\":\"%START_TIME%\",\"tunnel\":");
    let to = |number: usize| {
        let line = with(
            line("GET", &format!("/at-{number}"), Some(FRONTEND), "via_upstream"),
            "to",
            json!(format!("10.0.0.{number}:80")),
        );
        with(line, "start", json!("2026-11-27T10:00:00.000Z"))
    };
    let suggest = |labels: &[Value], more: &[&str]| {
        let mut pods: Vec<_> = (1..).zip(labels).map(|(number, labels)| pod(number, labels.clone())).collect();
        // This one has no address yet.
        pods.push(pod(99, json!({ "app": "starting", "part": "web" })));
        pods.last_mut().unwrap()["status"] = json!({ "phase": "Pending" });
        let log = text(&(1..=labels.len()).map(to).collect::<Vec<_>>());
        let folder = Folder::new(&[("log", &log), ("pods.json", &json!({ "items": pods }).to_string())]);
        let output =
            folder.run_with(&[&["suggest", "log", "--pods", "pods.json", "--log-format", &format], more].concat(), b"");
        let policies = String::from_utf8(output.stdout).unwrap();
        (policies.split("---\n").map(str::to_owned).collect::<Vec<_>>(), String::from_utf8(output.stderr).unwrap())
    };
    let has = |policy: &str, texts: &[&str]| texts.iter().all(|text| policy.contains(text));
    let (policies, notes) =
        suggest(&[json!({ "app": "shop", "part": "db" }), json!({ "app": "shop", "part": "web" })], &[]);
    assert!(has(&policies[0], &["/at-1\n", "part: db"]) && !policies[0].contains("/at-2"), "{policies:?}{notes}");
    assert!(has(&policies[1], &["/at-2\n", "part: web"]) && !policies[1].contains("/at-1"), "{policies:?}{notes}");
    let (policies, notes) = suggest(&[json!({ "app": "starting" })], &[]);
    assert!(
        policies.concat().is_empty() && notes.contains("other pods have all these labels too"),
        "{policies:?}{notes}"
    );
    // Versions are one workload.
    let (policies, _) =
        suggest(&[json!({ "app": "shop", "version": "1" }), json!({ "app": "shop", "version": "2" })], &[]);
    assert!(has(&policies[0], &["/at-1\n", "/at-2\n", "matchLabels:\n      app: shop\n"]), "{policies:?}");
    // So are the two sides of a rollout.
    let of_rollout = |hash: &str| json!({ "app": "shop", "rollouts-pod-template-hash": hash });
    let (policies, _) = suggest(&[of_rollout("1"), of_rollout("2")], &[]);
    assert!(policies.len() == 1 && has(&policies[0], &["/at-1\n", "/at-2\n"]), "{policies:?}");
    // The policy is for one revision.
    let (policies, _) = suggest(&[json!({ "app": "shop" })], &["--revision", "canary"]);
    assert!(has(&policies[0], &["labels:\n    istio.io/rev: canary\n"]), "{policies:?}");
    // No labels select these pods alone.
    let (policies, notes) = suggest(&[json!({ "pod-template-hash": "1" }), json!({ "app": "vault" })], &[]);
    assert!(policies.len() == 1 && has(&policies[0], &["/at-2", "app: vault"]), "{policies:?}");
    assert!(notes.contains("without labels of their own"), "{notes}");
    let (policies, notes) = suggest(&[json!({ "k8s-app": "dns" }), json!({ "k8s-app": "dns", "app": "vault" })], &[]);
    assert!(
        policies.len() == 1 && has(&policies[0], &["/at-2", "app: vault"]) && !policies[0].contains("/at-1"),
        "{policies:?}"
    );
    assert!(notes.contains("with k8s-app=dns, because other pods have all these labels too"), "{notes}");
    // The pods of a job are not the workload, although they have its label.
    let (policies, notes) = suggest(&[json!({ "app": "shop" }), json!({ "app": "shop", "job-name": "migrate" })], &[]);
    assert!(
        policies.concat().is_empty() && notes.contains("other pods have all these labels too"),
        "{policies:?}{notes}"
    );
    // Gateways have policies of another kind.
    let labels = [json!({ "app": "a" }), json!({ "gateway.networking.k8s.io/gateway-name": "w" })];
    let (policies, notes) = suggest(&labels, &[]);
    assert!(policies.len() == 1 && notes.contains("because they are a gateway"), "{policies:?}{notes}");
    // The pods tell that a line is of another workload than the one that is named.
    let labels = [json!({ "app": "a" }), json!({ "app": "b" })];
    let (policies, notes) = suggest(&labels, &["--label", "app=a"]);
    assert!(has(&policies[0], &["/at-1\n"]) && !policies[0].contains("/at-2"), "{policies:?}");
    assert!(notes.contains("1 line, of another workload, as the pods tell"), "{notes}");
}

/// At a waypoint, a policy is for one service, in the namespace of the service. The filter chain tells the service, and the
/// cluster does not: a route can lead to another one.
#[test]
fn suggested_policies_at_a_waypoint_are_for_one_service() {
    let format = FORMAT.replace("\"tunnel\":", "\"chain\":\"%FILTER_CHAIN_NAME%\",\"tunnel\":");
    let at = |chain: Value, cluster: &str, path: &str| {
        let line = with(line("GET", path, None, "via_upstream"), "tunnel", json!(FRONTEND));
        with(with(line, "chain", chain), "cluster", json!(cluster))
    };
    let host = |host: &str| format!("inbound-vip|80|http|{host}.svc.cluster.local");
    let routed = host("reviews-v1.prod");
    let lines = [
        at(json!(host("reviews.prod")), &routed, "/reviews"),
        at(json!(host("other.prod")), &host("reviews.prod"), "/other"),
        at(json!(host("reviews.default")), &routed, "/another"),
        at(json!("direct-http"), "encap", "/direct"),
        at(Value::Null, &host("reviews.prod"), "/unknown"),
        at(Value::Null, "inbound|80||", "/sidecar"),
        // A `ServiceEntry` can have this host.
        at(json!("inbound-vip|80|http|reviews.prod.svc.example.com"), &routed, "/external"),
        with(at(json!(host("reviews.prod")), &routed, "/missing"), "details", json!("route_not_found")),
    ];
    let folder = Folder::new(&[("log", &text(&lines))]);
    let all = ["suggest", "log", "--as-logged", "--log-format", &format];
    let suggest = |more: &[&str]| {
        let output = folder.run_with(&[&all, more].concat(), b"");
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap())
    };
    let [policy, notes] = suggest(&["--waypoint", "w", "--service", "prod/reviews"]);
    assert!(policy.contains("namespace: prod\n") && policy.contains("name: reviews\n"), "{policy}{notes}");
    assert!(policy.contains("- GET\n        paths:\n        - /reviews\n  targetRefs"), "{policy}{notes}");
    for note in [
        "3 lines, of another service, or of none",
        "1 line, of a sidecar",
        "2 requests, of which the line does not say for certain which service they were for: log %FILTER_CHAIN_NAME%",
        "1 request, for which there was no route",
    ] {
        assert!(notes.contains(note), "{notes}");
    }
    let [policy, notes] = suggest(&["--waypoint", "w"]);
    assert!(policy.is_empty() && notes.contains("give --service NAMESPACE/NAME"), "{policy}{notes}");
    let [policy, notes] = suggest(&["--label", "app=reviews"]);
    assert!(policy.contains("- /sidecar\n  selector") && notes.contains("7 lines, of a waypoint"), "{policy}{notes}");
    let [policy, notes] = suggest(&["--gateway", "g"]);
    assert!(
        !policy.contains("reviews") && notes.contains("of a waypoint") && notes.contains("of a sidecar"),
        "{policy}{notes}"
    );
}

/// A decision is of the workload that its line names.
#[test]
fn decisions_of_other_workloads_are_left_out() {
    let decision = |labels: &str, path: &str| {
        json!({
            "decision": "ALLOW", "reason": "rule 0 of default/a matched", "policy": "default/a", "rule": 0, "method": "GET", "path": path,
            "principal": "spiffe://cluster.local/ns/default/sa/frontend", "workload": { "namespace": "default", "labels": labels },
        })
    };
    let ours = decision("app=backend,version=1", "/ours").to_string();
    let theirs = decision("app=vault", "/theirs").to_string();
    // An application writes JSON, and a client chooses the text in it.
    let by_client = json!({ "level": "info", "message": decision("app=backend", "/forged").to_string() }).to_string();
    let by_runtime = json!({ "stream": "stdout", "log": decision("app=backend", "/shipped").to_string() }).to_string();
    let folder = Folder::new(&[("log", &[ours, theirs, by_client, by_runtime].join("\n"))]);
    let output = folder.run_with(&["suggest", "log", "--label", "app=backend"], b"");
    let [policy, notes] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(policy.contains("/ours") && policy.contains("/shipped"), "{policy}{notes}");
    assert!(!policy.contains("theirs") && !policy.contains("forged"), "{policy}{notes}");
    assert!(notes.contains("1 line, of a workload with other labels"), "{notes}");
}

#[test]
fn metrics_say_little_and_nothing_more_is_allowed() {
    let series = |peer: &str, at: &str, changed: &[(&str, &str)]| {
        let mut metric = json!({
            "reporter": "destination", "connection_security_policy": "mutual_tls", "response_code": "200",
            "request_protocol": "http", "response_flags": "-", "destination_app": "shop", "destination_workload": at,
            "destination_workload_namespace": "default", "source_principal": format!("spiffe://cluster.local/ns/default/sa/{peer}"),
        });
        for (name, value) in changed {
            metric[*name] = json!(value);
        }
        json!({ "metric": metric, "value": [1_764_266_400, "1"] })
    };
    let suggest = |series: &[Value]| {
        let folder =
            Folder::new(&[("metrics", &json!({ "status": "success", "data": { "result": series } }).to_string())]);
        let output = folder.run_with(&["suggest", "--metrics", "metrics"], b"");
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap())
    };
    let good = series("good", "shop", &[]);
    for (changed, why) in [
        (&[("request_protocol", "grpc"), ("grpc_response_status", "7")][..], "were refused"),
        (&[("request_protocol", "grpc")], "no label `grpc_response_status`"),
        (&[("request_protocol", "")], "no label `request_protocol`"),
        (&[("response_flags", "")], "no label `response_flags`"),
        (&[("response_code", "302"), ("response_flags", "UAEX")], "by an authorizer"),
        (&[("response_code", "429"), ("response_flags", "RL")], "perhaps before the policies"),
        (&[("response_code", "0"), ("response_flags", "DC")], "not answered"),
        (&[("reporter", "waypoint")], "reported by a waypoint"),
        (&[("source_principal", "spiffe://cluster.local/ns/default/sa/a,b")], "without a principal"),
        (&[("response_code", "403")], "were refused"),
    ] {
        let [policy, notes] = suggest(&[good.clone(), series("evil", "shop", changed)]);
        assert!(
            policy.contains("sa/good") && !policy.contains("evil") && !policy.contains("a,b"),
            "{changed:?}: {policy}{notes}"
        );
        assert!(why == "were refused" || notes.contains(why), "{changed:?}: {notes}");
    }
    // What a peer was once refused is nothing that metrics can tell from the rest.
    let [policy, notes] = suggest(&[good.clone(), series("good", "shop", &[("response_code", "403")])]);
    assert!(
        policy.is_empty() && notes.contains("sa/good, because some of its requests were refused"),
        "{policy}{notes}"
    );
    // Also under an alias, and in a series that says nothing else.
    let old = ("source_principal", "spiffe://old/ns/default/sa/good");
    for changed in [&[old, ("response_code", "403")][..], &[old, ("grpc_response_status", "7"), ("reporter", "")]] {
        let metrics = json!({ "data": { "result": [good.clone(), series("", "shop", changed)] } }).to_string();
        let folder = Folder::new(&[("metrics", &metrics)]);
        let output = folder.run_with(&["suggest", "--metrics", "metrics", "--trust-domain-alias", "old"], b"");
        assert!(output.stdout.is_empty(), "{changed:?}: {}", String::from_utf8_lossy(&output.stdout));
    }
    let [policy, notes] = suggest(&[good.clone(), series("x", "", &[])]);
    assert!(policy.is_empty() && notes.contains("no label `destination_workload`"), "{policy}{notes}");
    // Another workload has the label, although nobody was identified there.
    let [policy, notes] = suggest(&[good, series("x", "db", &[("connection_security_policy", "none")])]);
    assert!(policy.is_empty() && notes.contains("sa/good, because it called only shop"), "{policy}{notes}");
    // A policy in the root namespace is for others too.
    let root = [("destination_workload_namespace", "istio-system")];
    let [policy, notes] = suggest(&[series("a", "shop", &root), series("b", "shop", &[])]);
    assert!(
        !policy.contains("sa/a") && policy.contains("sa/b") && notes.contains("in every namespace"),
        "{policy}{notes}"
    );
    let seen_elsewhere = series("b", "shop", &[("connection_security_policy", "none")]);
    let [policy, notes] = suggest(&[series("a", "shop", &root), seen_elsewhere]);
    assert!(policy.is_empty() && notes.contains("in every namespace"), "{policy}{notes}");
    // Each cluster has its own workload.
    let cluster = |name: &'static str| [("destination_cluster", name)];
    let [policy, notes] = suggest(&[
        series("a", "shop", &cluster("east")),
        series("b", "shop", &cluster("west")),
        series("c", "shop", &cluster("east")),
        series("c", "shop", &cluster("west")),
    ]);
    assert!(policy.contains("sa/c") && !policy.contains("sa/a") && !policy.contains("sa/b"), "{policy}{notes}");
    assert!(notes.contains("sa/a, because it called only shop in cluster east"), "{notes}");
    // Two workloads have the label.
    let [policy, notes] = suggest(&[series("a", "web", &[]), series("a", "db", &[]), series("b", "web", &[])]);
    assert!(policy.contains("sa/a") && !policy.contains("sa/b"), "{policy}");
    assert!(notes.contains("sa/b, because it called only web"), "{notes}");
}

#[test]
fn suggested_policies_name_those_who_were_seen() {
    let of = |peer: &str, details: &str| line("GET", "/data", Some(&format!("spiffe://{peer}")), details);
    let lines = [
        of("td1/ns/default/sa/web", "via_upstream"),
        of("old/ns/default/sa/web", "via_upstream"),
        of("cluster.local/ns/default/sa/batch", "via_upstream"),
        of("other/ns/default/sa/web", "via_upstream"),
    ];
    let folder = Folder::new(&[("log", &text(&lines))]);
    let all = ["suggest", "log", "--label", "app=x", "--log-format", FORMAT, "--trust-domain", "td1"];
    let suggest = |more: &[&str]| {
        let output = folder.run_with(&[&all, more].concat(), b"");
        let [policy, notes] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (policy.lines().filter_map(|line| Some(line.split_once("- ")?.1.to_owned())).collect::<Vec<_>>(), notes)
    };
    // In a mesh of `td1`, a policy that names `cluster.local` is about td1, where nobody was seen.
    let has = |values: &[String], name: &str| values.iter().any(|value| value == name);
    let (values, notes) = suggest(&[]);
    let names = ["td1/ns/default/sa/web", "old/ns/default/sa/web", "other/ns/default/sa/web"];
    assert!(names.iter().all(|name| has(&values, name)) && !values.iter().any(|value| value.contains("batch")));
    assert!(notes.contains("1 request of cluster.local/ns/default/sa/batch, because"), "{notes}");
    // Under aliases, it is the same peer.
    let (values, notes) = suggest(&["--trust-domain-alias", "old", "--trust-domain-alias", "cluster.local"]);
    let names = ["td1/ns/default/sa/batch", "td1/ns/default/sa/web", "other/ns/default/sa/web"];
    assert!(names.iter().all(|name| has(&values, name)) && !has(&values, "old/ns/default/sa/web"), "{values:?}");
    assert!(notes.contains("allows all of the 4 requests"), "{notes}");
}
