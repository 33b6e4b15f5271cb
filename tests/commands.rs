//! Compares what the command prints with recorded output: every subcommand on every example, the errors, and every
//! output in the documentation.
//!
//! `TRYCMD=overwrite cargo test --test commands` records the current output. Review the diff before you keep it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

#[test]
fn the_command_prints_what_it_printed_before() {
    // The paths in the cases are relative to the project's root. The other tests in this binary work in any directory.
    std::env::set_current_dir(project("")).unwrap();
    // Without COLUMNS, the terminal's width would decide where the help text is wrapped.
    let cases = trycmd::TestCases::new();
    cases
        .env("COLUMNS", "100")
        .case("tests/commands/*.trycmd")
        .case("docs/commands/*.md")
        .case("examples/mistakes/README.md")
        .case("examples/replay/README.md");
}

fn project(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}

/// Runs the command in the project's root with these arguments and this standard input. Returns its standard output and
/// its exit status.
fn run(arguments: &[&str], stdin: &str, environment: &[(&str, &str)]) -> (String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mesh-authz"));
    command
        .current_dir(project(""))
        .args(arguments)
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR_FORCE")
        .envs(environment.iter().copied());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}

const BROKEN: &str = "tests/commands/input/broken.yaml";

#[test]
fn sarif_is_what_its_readers_expect() {
    let (out, status) = run(&["check", "--format", "sarif", BROKEN, "examples/tutorial"], "", &[]);
    assert_eq!(status, Some(1));
    let log: serde_sarif::sarif::Sarif = serde_json::from_str(&out).unwrap();
    let run = &log.runs[0];
    let rules: Vec<_> = run.tool.driver.rules.as_ref().unwrap().iter().map(|rule| rule.id.clone()).collect();
    let results = run.results.as_ref().unwrap();
    assert_eq!(results.len(), 8);
    for result in results {
        assert!(rules.contains(result.rule_id.as_ref().unwrap()));
        let location = &result.locations.as_ref().unwrap()[0];
        let physical = location.physical_location.as_ref().unwrap();
        assert!(project(physical.artifact_location.as_ref().unwrap().uri.as_ref().unwrap()).exists());
        let region = physical.region.as_ref().unwrap();
        assert!(region.start_line.unwrap() >= 1 && region.start_column.unwrap() >= 1);
    }
}

#[test]
fn colours_are_for_terminals() {
    let (plain, _) = run(&["check", BROKEN], "", &[]);
    assert!(!plain.contains('\x1b'));
    let (coloured, _) = run(&["check", BROKEN], "", &[("CLICOLOR_FORCE", "1")]);
    assert!(coloured.contains("\x1b["));
    let (quiet, _) = run(&["check", BROKEN], "", &[("NO_COLOR", "1")]);
    assert_eq!(quiet, plain);
}

#[test]
fn what_a_file_holds_does_not_command_the_terminal() {
    let evil = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: \"a\\e[31mb\" }\nspec:\n  \
                \"act\\e]0;x\\ation\": DENY\n  action: \"D\\e[2J\" # \u{1b}[2J\n";
    let (out, status) = run(&["check", "-"], evil, &[("CLICOLOR_FORCE", "1")]);
    assert_eq!(status, Some(1));
    // The only escape sequences in the output start or end a colour: `ESC [ numbers m`.
    for after in out.split('\x1b').skip(1) {
        let rest = after.strip_prefix('[').expect("only colours");
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == ';')).unwrap();
        assert_eq!(&rest[end..=end], "m", "{after:?}");
    }
    assert!(!out.contains("\x1b[31mb") && !out.contains("\x1b[2J") && !out.contains('\x07'), "{out:?}");
    for format in ["json", "sarif"] {
        let (out, _) = run(&["check", "--format", format, "-"], evil, &[("CLICOLOR_FORCE", "1")]);
        assert!(serde_json::from_str::<Value>(&out).is_ok() && !out.contains('\x1b'));
    }
}

#[test]
fn the_same_input_gives_the_same_output() {
    let folders = ["examples", "tests/cases", "tests/golden", "tests/commands/input"];
    for arguments in [&["check"][..], &["check", "--format", "json"], &["check", "--format", "sarif"]] {
        let arguments = [arguments, &folders].concat();
        assert_eq!(run(&arguments, "", &[]), run(&arguments, "", &[]));
    }
}

#[test]
fn a_list_from_a_cluster_is_read_from_standard_input() {
    let policy = std::fs::read_to_string(project("examples/tutorial/deny-all-backend.yaml")).unwrap();
    let item = policy.replace('\n', "\n  ").trim_end().to_owned();
    let (out, status) = run(&["check", "-"], &format!("apiVersion: v1\nkind: List\nitems:\n- {item}\n"), &[]);
    assert_eq!((out.lines().last(), status), (Some("valid policies: 1, errors: 0, warnings: 0"), Some(0)));
}

#[test]
fn one_mistake_does_not_hide_the_others() {
    let text = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: a }\nspec: { action: DENI \
                }\n---\na: [b\n";
    let (out, status) = run(&["check", "-"], text, &[]);
    assert_eq!(status, Some(1));
    assert!(out.contains("-:4:17:") && out.contains("this is not YAML"), "{out}");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.yaml"), text).unwrap();
    std::fs::write(folder.path().join("b.yaml"), b"\xffa").unwrap();
    std::os::unix::fs::symlink(folder.path(), folder.path().join("loop")).unwrap();
    std::os::unix::fs::symlink("nothing", folder.path().join("dangling")).unwrap();
    let (out, status) = run(&["check", folder.path().to_str().unwrap()], "", &[]);
    assert_eq!(status, Some(1));
    assert!(out.contains("a.yaml:4:17:") && out.contains("the file is not UTF-8, from byte 0 on"), "{out}");
}

#[test]
fn a_test_file_that_cannot_be_run_is_a_failure_among_others() {
    let folder = tempfile::tempdir().unwrap();
    let tests = "tests: [{ name: \"a\\ufffeb\", request: {}, expect: DENY }]\n";
    std::fs::write(folder.path().join("a.yaml"), format!("policies: [nothing.yaml]\n{tests}")).unwrap();
    let policies = std::fs::canonicalize(project("examples/tutorial/deny-all-backend.yaml")).unwrap();
    let whole = format!("policies: [{}]\nworkload: {{ labels: {{ app: backend }} }}\n{tests}", policies.display());
    std::fs::write(folder.path().join("b.yaml"), whole).unwrap();
    let folder = folder.path().to_str().unwrap();
    let (out, status) = run(&["test", folder], "", &[]);
    assert_eq!((out.lines().last(), status), (Some("1 passed, 1 failed"), Some(1)), "{out}");
    let (out, _) = run(&["test", folder, "--format", "junit"], "", &[]);
    assert!(out.contains("errors=\"1\"") && !out.contains('\u{fffe}'), "{out}");
}

#[test]
fn a_value_is_what_it_is_in_every_form() {
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: a }\nspec: { rules: [{ to: [{ \
                  operation: { paths: [\"/pub\\x7f*\"] } }] }] }\n";
    let (out, _) = run(&["render", "plugin-config", "-"], policy, &[]);
    let config: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(config.pointer("/policies/0/spec/rules/0/to/0/operation/paths/0").unwrap(), "/pub\u{7f}*");
    let claim = |claim: &str| {
        let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: a }\nspec: { rules: [{ \
                      when: [{ key: 'request.auth.claims[level]', values: ['5'] }] }] }\n";
        run(&["explain", "-", "--claim", claim], policy, &[]).0.lines().next().unwrap().to_owned()
    };
    assert_eq!(claim("level=5"), "ALLOW: rule 0 of default/a matched");
    assert_eq!(claim("level:=5"), "DENY: no ALLOW policy matched");
    assert_eq!(claim("level:=[\"5\"]"), "ALLOW: rule 0 of default/a matched");
}

#[test]
fn a_line_that_is_a_whole_file_is_shown_around_the_mistake() {
    let policy = |n: usize| {
        format!(
            r#"{{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{{"name":"p{n}"}},"spec":{{"x":1}}}}"#
        )
    };
    let policies: Vec<_> = (0..300).map(policy).collect();
    let (out, status) =
        run(&["check", "-"], &format!(r#"{{"apiVersion":"v1","kind":"List","items":[{}]}}"#, policies.join(",")), &[]);
    assert_eq!(status, Some(1));
    assert!(out.lines().all(|line| line.chars().count() < 400), "{:?}", out.lines().map(str::len).max());
    assert!(out.contains("valid policies: 0, errors: 300, warnings: 0"));
}

fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{ name: {name} }}\nspec: {spec}\n"
    )
}

/// Like [`run`], and also returns what is on standard error.
fn run_with_notes(arguments: &[&str], stdin: &str) -> (String, String, Option<i32>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mesh-authz"))
        .current_dir(project(""))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that refuses its arguments does not read.
    let _closed_pipe = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    let [out, notes] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (out, notes, output.status.code())
}

#[test]
fn many_of_a_kind_are_a_count() {
    let other = |kind: &str| format!("---\napiVersion: v1\nkind: {kind}\nmetadata: {{ name: x }}\n");
    let methods = "{ rules: [{ to: [{ operation: { methods: [get] } }] }] }";
    let text = [
        policy("a", methods),
        policy("b", &methods.replace("get", "put")),
        policy("c", "{ rules: [{ to: [{ operation: { paths: [a] } }] }] }"),
        other("ConfigMap").repeat(400),
        other("Secret").repeat(22),
        "---\ntests: []\n".to_owned(),
    ]
    .concat();
    let (out, status) = run(&["check", "-", "--allow=MA030"], &text, &[]);
    let end: Vec<_> = out.lines().rev().take(4).collect();
    assert_eq!(status, Some(0));
    assert_eq!(end[3], "skipped 423 documents: ConfigMap 400, Secret 22, test file 1");
    assert_eq!(end[2], "valid policies: 3, errors: 0, warnings: 3");
    assert_eq!(end[1], "findings by code: MA006 2, MA009 1");
    // Other formats are for programs, which can count.
    let (json, _) = run(&["check", "-", "--allow=MA030", "--format=json"], &text, &[]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["skipped"].as_array().unwrap().len(), 423);
    let fields: Vec<_> = json.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["errors", "findings", "policies", "skipped", "warnings"]);

    let elsewhere: String = (0..400)
        .map(|number| policy(&format!("p{number}"), methods).replace("name:", "namespace: elsewhere, name:"))
        .collect();
    let text = [policy("here", methods), elsewhere].concat();
    let render = ["render", "envoy-rbac", "-", "--label=a=b", "--allow=MA006", "--allow=MA012"];
    let (_, notes, status) = run_with_notes(&render, &text);
    assert_eq!(status, Some(0));
    assert_eq!(notes.lines().count(), 2, "{notes}");
    assert!(notes.ends_with("policy: 399 more do not apply either\n"), "{notes}");
}

#[test]
fn a_workload_without_labels_is_known_to_have_none() {
    let text = [
        policy("selects", "{ action: DENY, selector: { matchLabels: { a: b } }, rules: [{}] }"),
        policy("all", "{ rules: [{}] }"),
    ];
    let text = text.concat();
    for command in [
        &["explain", "-"][..],
        &["render", "envoy-rbac", "-"],
        &["render", "envoy", "-", "--namespace=default", "--plaintext"],
    ] {
        let (_, notes, status) = run_with_notes(command, &text);
        assert_eq!(status, Some(2), "{command:?}");
        assert!(notes.contains("--label, or --no-labels if it has none"), "{command:?}: {notes}");
        let (out, notes, status) = run_with_notes(&[command, &["--no-labels"]].concat(), &text);
        assert_eq!(status, Some(0), "{command:?}: {notes}");
        assert!([out, notes].concat().contains("names labels that this workload does not carry"), "{command:?}");
    }
    let (out, _) = run(&["render", "envoy", "-", "--namespace=default", "--plaintext", "--no-labels"], &text, &[]);
    assert!(out.contains("    LABELS: {}\n"), "{out}");
    for command in ["plugin-config", "ecds"] {
        let (out, notes, status) = run_with_notes(
            &["render", command, "-", "--namespace=default", "--no-labels", "--format=json"]
                [..5 + usize::from(command == "ecds")],
            &text,
        );
        assert_eq!(status, Some(0), "{notes}");
        assert!(out.contains("\"labels\": {}"), "{out}");
    }
    let (out, status) = run(&["explain", "-", "--no-labels"], &text, &[]);
    assert!(out.starts_with("ALLOW") && status == Some(0), "{out}");
    let (_, notes, status) = run_with_notes(&["explain", "-", "--no-labels", "--label=a=b"], &text);
    assert!(notes.contains("cannot be used with") && status == Some(2), "{notes}");

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("policies.yaml"), &text).unwrap();
    for (workload, expected) in [("{ labels: {} }", Some(0)), ("{}", Some(2))] {
        let tests = format!(
            "policies: [policies.yaml]\nworkload: {workload}\ntests: [{{ name: a, request: {{}}, expect: ALLOW }}]\n"
        );
        std::fs::write(folder.path().join("tests.yaml"), tests).unwrap();
        let (out, status) = run(&["test", folder.path().join("tests.yaml").to_str().unwrap()], "", &[]);
        assert_eq!(status, expected, "{out}");
    }
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let text = policy("a", "{}");
    for command in [
        "check examples/tutorial/deny-all-backend.yaml",
        "explain -",
        "test examples/jwt/tests.yaml",
        "render plugin-config -",
    ] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mesh-authz"))
            .current_dir(project(""))
            .args(command.split(' '))
            .stdin(Stdio::piped())
            .stdout(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _closed_pipe = child.stdin.take().unwrap().write_all(text.as_bytes());
        let output = child.wait_with_output().unwrap();
        let notes = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{command}: {notes}");
        assert!(notes.contains("the output cannot be written: No space left on device"), "{command}: {notes}");
    }
}

#[test]
fn standard_input_is_read_once() {
    let text = policy("a", "{}");
    let (_, notes, status) = run_with_notes(&["explain", "-", "--request", "-"], &text);
    assert!(status == Some(2) && notes.contains("cannot both be `-`"), "{notes}");
    assert_eq!(run(&["check", "-", "-"], &text, &[]).1, Some(0));
    let tests = "policies: [\"-\"]\ntests: [{ name: a, request: {}, expect: DENY }]\n";
    let (out, notes, status) = run_with_notes(&["test", "-"], tests);
    assert!(status == Some(2) && notes.contains("cannot both be `-`"), "{out}{notes}");
    let tests = tests
        .replace("\"-\"", "examples/tutorial/allow-nothing-backend.yaml")
        .replace("tests:", "workload: { labels: { app: backend } }\ntests:");
    assert_eq!(run(&["test", "-", "-"], &tests, &[]), ("ok     -: a\n1 passed, 0 failed\n".to_owned(), Some(0)));
}

#[test]
fn what_cannot_be_read_in_a_folder_hides_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("a.yaml"), policy("a", "{}")).unwrap();
    std::os::unix::fs::symlink("nothing", path("link.yaml")).unwrap();
    assert!(Command::new("mkfifo").arg(path("pipe.yaml")).status().unwrap().success());
    let named = folder.path().to_str().unwrap();
    let (out, status) = run(&["check", named], "", &[]);
    assert_eq!(status, Some(1));
    assert!(
        out.contains("link.yaml: cannot be read: No such file") && out.contains("valid policies: 1, errors: 2"),
        "{out}"
    );
    assert!(out.contains("pipe.yaml: cannot be read: is a named pipe"), "{out}");
    for command in [&["explain"][..], &["render", "plugin-config"]] {
        let (out, notes, status) = run_with_notes(&[command, &[named]].concat(), "");
        assert!(out.is_empty() && status == Some(1) && notes.contains("link.yaml: cannot be read"), "{notes}");
    }
    let (out, status) = run(&["test", named], "", &[]);
    assert!(status == Some(1) && out.contains("link.yaml: No such file") && out.contains("is a named pipe"), "{out}");
    // What is named has to be there.
    for name in ["link.yaml", "pipe.yaml"] {
        let (_, notes, status) = run_with_notes(&["check", path(name).to_str().unwrap()], "");
        assert!(status == Some(2) && notes.contains(name), "{notes}");
    }
    // The pipe of a shell has a writer.
    let check = format!("exec {} check <(cat {})", env!("CARGO_BIN_EXE_mesh-authz"), path("a.yaml").display());
    assert!(Command::new("bash").args(["-c", &check]).status().unwrap().success());
}

#[test]
fn several_lints_are_disabled_at_once() {
    let text = policy("a", "{ rules: [{ to: [{ operation: { methods: [get], paths: [a] } }] }] }");
    for allow in [&["--allow=MA006,MA009"][..], &["--allow", "ma006, MA009"], &["--allow=MA006", "--allow=MA009"]] {
        let (out, status) = run(&[&["check", "-", "--deny-warnings"], allow].concat(), &text, &[]);
        assert_eq!(status, Some(0), "{allow:?}: {out}");
    }
    assert_eq!(run(&["check", "-", "--deny-warnings", "--allow=MA006"], &text, &[]).1, Some(1));
    let (_, notes, status) = run_with_notes(&["check", "-", "--allow=MA006,MA999"], &text);
    assert!(status == Some(2) && notes.contains("MA999"), "{notes}");
}

#[test]
fn an_address_to_listen_on_is_not_guessed() {
    let text = policy("a", "{}");
    for (address, expected) in [
        (":15006", "0.0.0.0:15006 for every machine"),
        ("localhost:15006", "write an IP address before the port: 127.0.0.1:15006"),
        ("::1:15006", "an IPv6 address stands in brackets"),
        ("15006", "write ADDRESS:PORT"),
        ("127.0.0.1", "write ADDRESS:PORT"),
    ] {
        for option in ["--listen", "--admin"] {
            let render = ["render", "envoy", "-", "--namespace=default", "--plaintext", option, address];
            let (_, notes, status) = run_with_notes(&render, &text);
            assert!(status == Some(2) && notes.contains(expected) && notes.contains(address), "{notes}");
        }
    }
}

#[test]
fn each_test_has_a_name_of_its_own() {
    let test = "{ name: a, request: {}, expect: ALLOW }";
    let text = format!("policies: [examples/tutorial/allow-nothing-backend.yaml]\ntests:\n- {test}\n- {test}\n");
    let (out, status) = run(&["test", "-"], &text, &[]);
    assert_eq!(status, Some(1));
    assert!(out.contains("-:4:11: tests[1].name: another test is called `a` too"), "{out}");
}

/// A policy that nobody tests is found, although no test file names it.
#[test]
fn coverage_is_about_every_policy_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let policy = |name: &str, namespace: &str, rules: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{ name: {name}, namespace: {namespace} }}\nspec: {{ rules: [{rules}] }}\n"
        )
    };
    let tests = |policies: &str| {
        format!("policies: [{policies}]\ntests:\n- {{ name: a, request: {{ path: /a }}, expect: ALLOW }}\n")
    };
    let path = "{ to: [{ operation: { paths: [/a] } }] }";
    write("a.yaml", &policy("a", "default", path));
    write("tests.yaml", &tests("a.yaml"));
    let coverage = |more: &[&str]| {
        let (out, status) =
            run(&[&["test", "--require-coverage", "-q", folder.path().to_str().unwrap()], more].concat(), "", &[]);
        let found: Vec<_> = out.lines().filter_map(|line| line.strip_prefix("  ")).map(str::to_owned).collect();
        assert_eq!(status, Some(i32::from(!found.is_empty())), "{out}");
        found
    };
    assert_eq!(coverage(&[]), [""; 0]);
    // Without rules, a policy is not covered either, as long as nobody tests it.
    write("b.yaml", &policy("b", "default", ""));
    let path_of = |name: &str| folder.path().join(name).display().to_string();
    let no_test =
        |name: &str, file: &str| format!("no test file has a workload to which {name} applies  {}:3:19", path_of(file));
    // The test file tests a workload that does not have this policy.
    let missing = |name: &str, file: &str| {
        format!("{} does not have {name}, which applies to its workload  {}", path_of("tests.yaml"), path_of(file))
    };
    assert_eq!(coverage(&[]), [missing("default/b", "b.yaml")]);
    assert_eq!(coverage(&["--exclude", "b.yaml"]), [""; 0]);
    write("tests.yaml", &tests("."));
    assert_eq!(coverage(&[]), [""; 0]);
    // A test file for another workload says nothing about it.
    write("c.yaml", &policy("c", "shop", path));
    assert_eq!(coverage(&[]), [no_test("shop/c", "c.yaml")]);
    write("c.yaml", &policy("c", "shop", path).replace("paths", "pathz"));
    write("tests.yaml", &tests("a.yaml, b.yaml"));
    let c = path_of("c.yaml");
    let gap = format!("{c} is not valid; `mesh-authz check {c}` says why");
    assert_eq!(coverage(&[]), std::slice::from_ref(&gap));
    let place = folder.path().to_str().unwrap();
    let (out, notes, status) = run_with_notes(&["test", "--require-coverage", "--format", "junit", place], "");
    assert!(out.contains(r#"<testsuite name="coverage" tests="1" skipped="0" errors="0" failures="1">"#), "{out}");
    assert!(notes.contains(&gap) && status == Some(1), "{notes}");
}

/// Lints that take Istio's defaults for granted know better if the input has the Envoy.
#[test]
fn lints_know_the_envoy_that_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: no-admin }\n\
                  spec: { action: DENY, rules: [{ to: [{ operation: { paths: [/admin*] } }] }] }\n";
    std::fs::write(place("policy.yaml"), policy).unwrap();
    let envoy = include_str!("envoy/complete.yaml");
    let lints = |from: &str, to: &str, more: &[&str]| {
        assert!(envoy.contains(from), "{from}");
        std::fs::write(place("envoy.yaml"), envoy.replace(from, to)).unwrap();
        let (policy, envoy) = (place("policy.yaml"), place("envoy.yaml"));
        let (out, _) = run(&[&["check", &policy, "--envoy", &envoy, "--format", "json"], more].concat(), "", &[]);
        let report: Value = serde_json::from_str(&out).unwrap();
        let codes = report["findings"].as_array().unwrap().iter().map(|finding| finding["code"].as_str().unwrap());
        codes.filter(|code| code.starts_with("MA")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(lints("", "", &[]), [""; 0]);
    assert_eq!(lints("merge_slashes: true", "merge_slashes: false", &[]), ["MA019"]);
    assert_eq!(lints("UNESCAPE_AND_FORWARD", "KEEP_UNCHANGED", &[]), ["MA019"]);
    assert_eq!(lints("", "", &["--path-normalization", "base"]), ["MA019"]);
    assert_eq!(lints("id: ", "id: sidecar~", &[]), ["MA013"]);
    assert_eq!(lints("node:", "other:", &[]), ["MA013"], "nothing says that it is none of Istio's");
}

/// A provider is not asked offline. What it answers is an input, and without it, both answers count.
#[test]
fn a_test_says_what_the_provider_answers() {
    let policies = include_str!("commands/input/login.yaml").to_owned();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("policies.yaml"), &policies).unwrap();
    let results = |policies: &str, tests: &[(&str, &str)]| {
        let tests: Vec<_> = tests
            .iter()
            .enumerate()
            .map(|(number, (request, expect))| {
                format!("- {{ name: t{number}, request: {{ {request} }}, expect: {expect} }}\n")
            })
            .collect();
        std::fs::write(folder.path().join("policies.yaml"), policies).unwrap();
        let text = format!("policies: [policies.yaml]\ntests:\n{}", tests.concat());
        let file = folder.path().join("tests.yaml");
        std::fs::write(&file, text).unwrap();
        let (out, notes, _) = run_with_notes(&["test", file.to_str().unwrap(), "--format", "json"], "");
        let report: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{notes}"));
        let errors = report["files"][0]["errors"].as_array().cloned().unwrap_or_default();
        assert_eq!(errors, [Value::Null; 0], "{notes}");
        let tests = report["files"][0]["tests"].as_array().unwrap().iter();
        tests.map(|test| test["passed"].as_bool().unwrap()).collect::<Vec<_>>()
    };
    let by_login = "{ decision: DENY, policy: default/login, rule: 0 }";
    let tests = [
        ("path: /account, provider: { oauth2-proxy: allow }", "ALLOW"),
        ("path: /account, provider: { oauth2-proxy: deny }", by_login),
        ("path: /account, provider: { oauth2-proxy: deny }", "ALLOW"),
        // Another policy refuses it, whatever the provider says.
        ("path: /account, method: PUT, provider: { oauth2-proxy: allow }", "DENY"),
        ("path: /account, method: PUT", "DENY"),
        ("path: /account", "ALLOW"),
        ("path: /account", "DENY"),
        ("path: /", "ALLOW"),
        ("path: /, provider: { oauth2-proxy: deny }", "ALLOW"),
    ];
    assert_eq!(results(&policies, &tests), [true, true, false, true, true, false, false, true, true]);
    // Policies for several providers refuse what they match, as in Istio.
    let second = policies.replace("name: login", "name: second").replace("oauth2-proxy", "other");
    let second = format!("{policies}---\n{}", second.split("---").next().unwrap());
    let tests = [("path: /account, provider: { oauth2-proxy: allow, other: allow }", by_login), ("path: /", "ALLOW")];
    assert_eq!(results(&second, &tests), [true, true]);

    // The provider is asked before jwt_authn, which changes headers.
    let custom = |condition: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{ name: login }}\n\
             spec: {{ action: CUSTOM, provider: {{ name: oauth2-proxy }}, rules: [{{ when: [{condition}] }}] }}\n\
             ---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{ name: r }}\n\
             spec: {{ jwtRules: [{{ issuer: me, jwksUri: 'https://me/jwks', \
             outputClaimToHeaders: [{{ header: x-grp, claim: grp }}] }}] }}\n"
        )
    };
    let token = "jwt: { iss: me, sub: bob, grp: team }";
    let removed = custom("{ key: 'request.headers[authorization]', values: ['*'] }");
    let with_token = format!("{token}, headers: {{ authorization: Bearer x }}, provider: {{ oauth2-proxy: deny }}");
    assert_eq!(results(&removed, &[(&with_token, "DENY")]), [true]);
    let written = custom("{ key: 'request.headers[x-grp]', notValues: [team] }");
    let denied = format!("{token}, provider: {{ oauth2-proxy: deny }}");
    let allowed = format!("{token}, provider: {{ oauth2-proxy: allow }}");
    // The filter sees no x-grp from the client: it finds a match that Envoy's filters have not found.
    let not_asked = "headers: { x-grp: team }, provider: { oauth2-proxy: allow }";
    assert_eq!(results(&written, &[(&denied, "DENY"), (&allowed, "ALLOW"), (not_asked, "DENY")]), [true; 3]);

    // The provider is not in the mesh configuration, or it has a mistake.
    let mesh = folder.path().join("mesh.yaml");
    let explained = |service: &str| {
        let text = format!("extensionProviders: [{{ name: {service}, port: 80 }} }}]\n");
        std::fs::write(&mesh, text).unwrap();
        let policies = folder.path().join("policies.yaml");
        std::fs::write(&policies, include_str!("commands/input/login.yaml")).unwrap();
        let files = [policies.to_str().unwrap(), mesh.to_str().unwrap()];
        let arguments =
            [&["explain"][..], &files, &["--path", "/account", "--provider", "oauth2-proxy=allow"]].concat();
        run_with_notes(&arguments, "")
    };
    let (out, notes, _) = explained("oauth2-proxy, envoyExtAuthzHttp: { service: a.example");
    assert!(out.starts_with("ALLOW: rule 0 of default/read matched"), "{out}{notes}");
    let (out, notes, _) = explained("another, envoyExtAuthzHttp: { service: a.example");
    assert!(out.starts_with("DENY: rule 0 of default/login matched, and CUSTOM has no provider"), "{out}{notes}");
    let (out, notes, status) = explained("oauth2-proxy, envoyExtAuthzHttp: { service: 'a.example:1'");
    assert!(notes.contains("`a.example:1` is not a service") && status == Some(1), "{out}{notes}");
    let (out, notes, _) =
        explained("oauth2-proxy, envoyExtAuthzHttp: { headersToUpstreamOnAllow: [x-user], service: a.example");
    assert!(
        notes.contains("can set x-user, which is not taken into account") && out.starts_with("ALLOW"),
        "{out}{notes}"
    );

    let input = "tests/commands/input/login.yaml";
    let (_, notes, status) = run_with_notes(&["explain", input, "--provider", "oauth-proxy=allow"], "");
    assert!(
        notes.contains("names the provider `oauth-proxy`; did you mean `oauth2-proxy`?") && status == Some(2),
        "{notes}"
    );
    let (_, notes, status) = run_with_notes(&["explain", input, "--provider", "oauth2-proxy=yes"], "");
    assert!(notes.contains("provider.oauth2-proxy: `yes` is unknown") && status == Some(2), "{notes}");
}

/// What a kustomization makes of policies is not in the files. So no answer is given that would be about other policies.
#[test]
fn policies_that_a_kustomization_changes_are_not_taken_for_what_is_deployed() {
    const POLICY: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: a }\n\
                          spec: { rules: [{ to: [{ operation: { methods: [GET] } }] }] }\n";
    for (overlay, folder, is_built) in [
        ("resources: [../base]", ".", false),
        ("resources: [../base]\nnamespace: shop", ".", true),
        ("resources: [../base]\nnamePrefix: x-", ".", true),
        ("resources: [../base]\ncommonLabels: { a: b }", ".", true),
        ("resources: [../base]\npatches: [{ path: patch.yaml }]", ".", true),
        // Without the base, there is only a patch.
        ("resources: [../base]\npatches: [{ path: patch.yaml }]", "overlay", true),
        ("resources: [../base]\npatches: [{ path: patch.yaml }]", "base", false),
    ] {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let file = root.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        };
        write("base/a.yaml", POLICY);
        write("base/kustomization.yaml", "resources: [a.yaml]");
        write("overlay/kustomization.yaml", overlay);
        if overlay.contains("patch") {
            write("overlay/patch.yaml", &POLICY.replace("[{ to: [{ operation: { methods: [GET] } }] }]", "[{}]"));
        }
        write("tests.yaml", &format!("policies: [{folder}]\ntests:\n- {{ name: a, request: {{}}, expect: ALLOW }}\n"));
        let place = root.path().join(folder);
        let place = place.to_str().unwrap();
        for command in [&["explain", place][..], &["render", "plugin-config", place]] {
            let (out, notes, status) = run_with_notes(command, "");
            let refuses = notes.contains("changes what it deploys, so a cluster gets other policies");
            let expected = if is_built { Some(2) } else { Some(0) };
            assert!(refuses == is_built && status == expected, "{command:?} {overlay}: {out}{notes}");
        }
        let (out, status) = run(&["test", root.path().join("tests.yaml").to_str().unwrap()], "", &[]);
        assert_eq!(status, Some(if is_built { 2 } else { 0 }), "{overlay}: {out}");
        let (out, _) = run(&["check", place], "", &[]);
        assert_eq!(out.contains("not checked: what the kustomization in "), is_built, "{overlay}: {out}");
    }
}

#[test]
fn a_kustomization_in_the_current_folder_is_named() {
    let root = tempfile::tempdir().unwrap();
    let policy =
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: a }\nspec: { rules: [{}] }\n";
    let tests = "policies: [.]\ntests:\n- { name: a, request: {}, expect: ALLOW }\n";
    for (name, text) in
        [("a.yaml", policy), ("kustomization.yaml", "resources: [a.yaml]\nnamePrefix: x-"), ("tests.yaml", tests)]
    {
        std::fs::write(root.path().join(name), text).unwrap();
    }
    for command in [&["check"][..], &["test"], &["explain", "."]] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_mesh-authz")).current_dir(root.path()).args(command).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(said.contains("the kustomization in ."), "{command:?}: {said}");
    }
}

/// A file that Envoy watches says by itself what it is for. A mistyped selector or workload would go unnoticed.
#[test]
fn a_watched_file_says_how_many_policies_apply_and_for_whom() {
    let folder = tempfile::tempdir().unwrap();
    let policies = ["app", "apq"].map(|key| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{ name: {key} }}\n\
             spec: {{ selector: {{ matchLabels: {{ {key}: cart }} }}, rules: [{{}}] }}\n"
        )
    });
    let file = folder.path().join("watched.json");
    let render = |more: &[&str]| {
        let arguments = ["render", "ecds", "-", "--namespace", "default", "--output", file.to_str().unwrap()];
        let (_, notes, status) = run_with_notes(&[&arguments, more].concat(), &policies.join("---\n"));
        assert_eq!(status, Some(0), "{notes}");
        notes
    };
    let unknown = render(&[]);
    assert!(unknown.contains("policies: 2 (without --label, nobody can tell which of them apply)"), "{unknown}");
    let known = render(&["--label", "app=cart"]);
    assert!(known.contains("policies: 2 (1 of them apply)") && known.contains("for another workload"), "{known}");
    let again = render(&["--label", "app=cart"]);
    assert!(!again.contains("for another workload"), "{again}");
    let module = folder.path().join("m.wasm");
    std::fs::write(&module, "no module").unwrap();
    let arguments =
        ["render", "ecds", "-", "--namespace=default", "--label=app=cart", "--output", file.to_str().unwrap()];
    let with_module = [&arguments[..], &["--wasm", module.to_str().unwrap()]].concat();
    let (_, notes, status) = run_with_notes(&with_module, &policies.join("---\n"));
    assert!(notes.contains("this is no Wasm module") && status == Some(2), "{notes}");
    std::fs::remove_file(&module).unwrap();
    let (_, notes, status) = run_with_notes(&with_module, &policies.join("---\n"));
    assert!(notes.contains("Envoy must find the module there") && status == Some(0), "{notes}");
    let other = render(&["--label", "apq=cart"]);
    assert!(other.contains(r#"for another workload: {"labels":{"app":"cart"}"#), "{other}");
}

/// What `render` says about the providers of CUSTOM policies, where Envoy would not do what the input says.
#[test]
fn render_says_what_envoy_makes_of_providers() {
    let folder = tempfile::tempdir().unwrap();
    let policy = |name: &str, provider: &str, label: &str| {
        let selector =
            if label.is_empty() { String::new() } else { format!("selector: {{ matchLabels: {{ app: {label} }} }}, ") };
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{ name: {name} }}\n\
             spec: {{ {selector}action: CUSTOM, provider: {{ name: {provider} }}, rules: [{{}}] }}\n"
        )
    };
    let provider = |name: &str, kind: &str, more: &str| {
        format!("- name: {name}\n  envoyExtAuthz{kind}: {{ service: localhost, port: 9000{more} }}\n")
    };
    let file = folder.path().join("watched.json");
    let render = |command: &str, policies: &[&str], providers: &[&str], more: &[&str]| {
        let mesh = folder.path().join("mesh.yaml");
        std::fs::write(&mesh, format!("extensionProviders:\n{}", providers.concat())).unwrap();
        let arguments = ["render", command, "-", mesh.to_str().unwrap(), "--namespace=default"];
        let (out, notes, status) = run_with_notes(&[&arguments, more].concat(), &policies.join("---\n"));
        (out + &notes, status)
    };
    let to_file = ["--no-labels", "--output", file.to_str().unwrap()];
    let (login, http) = (policy("p", "login", ""), provider("login", "Http", ""));

    // What is at one address differs.
    let both = [&*http, &provider("admin", "Grpc", "")];
    let (said, status) = render("ecds", &[&login], &both, &to_file);
    assert!(
        said.contains("are both at localhost:9000, one over HTTP and one over gRPC") && status == Some(2),
        "{said}"
    );
    // Nobody can tell which policies apply.
    let (said, status) = render("ecds", &[&policy("p", "login", "web")], &[&http], &to_file[1..]);
    assert!(said.contains("CUSTOM policy default/p has a selector") && status == Some(2), "{said}");
    // Envoy would refuse the filter.
    let line_break = provider("login", "Http", r#", includeAdditionalHeadersInCheck: { x-a: "b\n" }"#);
    let (said, status) = render("ecds", &[&login], &[&line_break], &to_file);
    assert!(said.contains("includeAdditionalHeadersInCheck.x-a: has a line break") && status == Some(1), "{said}");
    assert!(!file.exists());
    for (field, problem) in [
        (r#"{ x-a: "100%" }"#, "x-a: has a percent sign"),
        ("{ Host: a }", "Host: is not the name of a header that can be set"),
    ] {
        let more = format!(", includeAdditionalHeadersInCheck: {field}");
        let (said, status) = render("ecds", &[&login], &[&provider("login", "Http", &more)], &to_file);
        assert!(said.contains(problem) && status == Some(1), "{said}");
    }
    assert!(!file.exists());
    // There is no folder.
    let nowhere = folder.path().join("nowhere/watched.json");
    let (said, status) = render("ecds", &[&login], &[&http], &["--no-labels", "--output", nowhere.to_str().unwrap()]);
    assert!(said.contains("nowhere/watched.json: there is no folder") && status == Some(2), "{said}");
    // What Envoy reads from one file is one document.
    let (said, _) = render("ecds", &[&login], &[&http], &["--no-labels", "--format=json"]);
    assert!(said.contains("in files of their own: --output writes them") && !said.contains("ExtAuthz"), "{said}");

    let (said, status) = render("ecds", &[&login], &[&http], &to_file);
    assert!(!said.contains("ATTENTION") && status == Some(0), "{said}");
    let elsewhere = http.replace("9000", "9001");
    let (said, _) = render("ecds", &[&login], &[&elsewhere], &to_file);
    assert!(said.contains("watched.ext_authz_login.json: ATTENTION: before, it asked another address"), "{said}");
    let (said, _) = render("ecds", &[&login], &[&http.replace("Http", "Grpc")], &to_file);
    assert!(said.contains("ATTENTION"), "{said}");
    let other = provider("admin", "Http", "");
    let (said, _) = render("ecds", &[&policy("p", "admin", "")], &[&other], &to_file);
    assert!(said.contains("watched.rbac_login.json: nothing is asked any more"), "{said}");
    let path = |name: &str| folder.path().join(format!("watched.rbac_{name}.json"));
    let idle = std::fs::read_to_string(path("login")).unwrap();
    assert!(idle.contains(r#""policies": {}"#) && idle.contains(r#""rbac_login""#), "{idle}");
    // What only looks like one of these files stays as it is.
    for name in ["login.bak", "mine"] {
        std::fs::write(path(name), "{}").unwrap();
    }
    std::fs::create_dir(path("dir")).unwrap();
    let (said, status) = render("ecds", &[&policy("p", "admin", "")], &[&other], &to_file);
    assert!(!said.contains("rbac_mine") && !said.contains("bak") && status == Some(0), "{said}");
    assert_eq!(["login.bak", "mine"].map(|name| std::fs::read_to_string(path(name)).unwrap()), ["{}", "{}"]);

    // One of several is not there, so none is asked: what the policies of the other match is refused, too.
    let two = [&*login, &policy("q", "missing", "")];
    let fails_open = provider("login", "Http", ", failOpen: true");
    for (command, more) in [("ecds", &to_file[..]), ("filters", &to_file[..1])] {
        let (said, _) = render(command, &two, &[&fails_open], &[more, &["--several-providers"]].concat());
        assert!(said.contains("policy default/p: spec.provider.name: this policy denies what it matches"), "{said}");
        assert!(said.contains("no provider called `missing`, which policy default/q names"), "{said}");
        assert!(!said.contains("MA050"), "{said}");
    }
    let (said, status) = render("ecds", &[], &[&http], &to_file);
    assert!(said.contains("only: mesh configuration 1") && status == Some(2), "{said}");
}

/// The files of two runs at once are those of one of them.
#[test]
fn two_runs_at_once_leave_the_files_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let mesh = ["login", "admin"]
        .map(|name| format!("- name: {name}\n  envoyExtAuthzHttp: {{ service: localhost, port: 9000 }}\n"));
    let inputs = ["login", "admin"].map(|name| {
        let input = folder.path().join(format!("{name}.yaml"));
        let policy = format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{ name: p }}\n\
             spec: {{ action: CUSTOM, provider: {{ name: {name} }}, rules: [{{}}] }}\n"
        );
        std::fs::write(folder.path().join("mesh.yaml"), format!("extensionProviders:\n{}", mesh.concat())).unwrap();
        std::fs::write(&input, policy).unwrap();
        input
    });
    let written = tempfile::tempdir().unwrap();
    let file = written.path().join("watched.json");
    for round in 0..20 {
        let run = |input: &PathBuf| {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_mesh-authz"));
            command.arg("render").arg("ecds").arg(input).arg(folder.path().join("mesh.yaml"));
            command.args(["--namespace=default", "--no-labels", "--output"]).arg(&file);
            command.stderr(std::process::Stdio::null()).spawn().unwrap()
        };
        let runs = [run(&inputs[0]), run(&inputs[1])];
        assert!(runs.map(|mut run| run.wait().unwrap().success()).iter().all(|is_good| *is_good));
        let read = |name: &str| std::fs::read_to_string(written.path().join(name)).unwrap();
        let asks = |name: &str| read(&format!("watched.rbac_{name}.json")).contains("rule[0]");
        let decides = |name: &str| read("watched.json").contains(&format!(r#""name": "{name}""#));
        for name in ["login", "admin"] {
            assert_eq!(asks(name), decides(name), "round {round}: {name}");
        }
    }
}

#[test]
fn messages_say_what_was_found() {
    const EXAMPLE: &str = "examples/tutorial/deny-all-backend.yaml";
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: x }\n---\n";
    for (arguments, stdin, expected) in [
        (&["explain", "-"][..], config, "no AuthorizationPolicy in the input, only: ConfigMap 1;"),
        (&["explain", "-"], "", "no AuthorizationPolicy in the input, and no other document;"),
        (&["check", "-"], config, "no AuthorizationPolicy in the input, only: ConfigMap 1\n"),
        (&["test", "-"], "a: 1\n---\nb: 2\n", "a test file is one document, and this file has 2"),
        (&["test", BROKEN], "", "this is of kind AuthorizationPolicy, and not a test file"),
        (&["explain", BROKEN, "--label=a"], "", "'a' for '--label <KEY=VALUE>': a `=` and a value are missing"),
        (&["explain", BROKEN, "--header==a"], "", "'=a' for '--header <NAME=VALUE>': nothing stands before `=`"),
        (&["explain", EXAMPLE, "--no-labels", "--principal=spiffe://a"], "", "`spiffe://a` has the scheme in it"),
        (&["explain", EXAMPLE, "--no-labels", "--request", "-"], "destinationPort: 70000", "to 65535, is 70000"),
        (&["explain", EXAMPLE, "--no-labels", "--request", "-"], "destinationPort: a", "to 65535, is `a`"),
        (&["test", "tests/golden/rendered"], "", "among its"),
        (
            &["explain", "examples/tutorial/deny-all-backend.yaml", "--label=app=backend", "--request", "-"],
            "a: 1\n---\nb: 2\n",
            "this file has 2",
        ),
    ] {
        let (_, notes, status) = run_with_notes(arguments, stdin);
        assert!(notes.contains(expected) && status == Some(2), "{arguments:?}: {notes}");
    }
}

/// 10,000 policies are not 20,000 lines.
#[test]
fn explain_sums_up_what_is_many() {
    use std::fmt::Write as _;

    let mut policies = String::new();
    for number in 0..3_000 {
        let (namespace, rules) = match number % 3 {
            0 => (format!("ns{number}"), "[{ to: [{ operation: { methods: [GET] } }] }]"),
            1 => ("default".to_owned(), "[{ to: [{ operation: { methods: [GET] } }] }]"),
            _ => ("default".to_owned(), "[]"),
        };
        let _infallible = writeln!(
            policies,
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{ name: p{number}, namespace: {namespace} }}\nspec: {{ rules: {rules} }}"
        );
    }
    let (allowed, status) = run(&["explain", "-"], &policies, &[]);
    assert_eq!(status, Some(0));
    assert!(allowed.starts_with("ALLOW: rule 0 of default/p1000 matched\n"), "{allowed}");
    for text in [
        "989 more rules match, and do not decide: `mesh-authz explain --all` shows them\n",
        "and so do 999 more policies without rules: `mesh-authz explain --all` shows them\n",
        "1000 policies do not apply: `mesh-authz explain --all` shows them\n",
        "  ns0/p0, ns3/p3, ns6/p6, ns9/p9, ns12/p12 and 995 more: it is for another namespace\n",
    ] {
        assert!(allowed.contains(text), "{text} in {allowed}");
    }
    let (denied, _) = run(&["explain", "-", "--method", "PUT"], &policies, &[]);
    assert!(denied.contains("  and 990 more: `mesh-authz explain --all` shows them\n"), "{denied}");
    assert!(allowed.lines().count() < 40 && denied.lines().count() < 80);
    let (all, _) = run(&["explain", "-", "--all"], &policies, &[]);
    for name in ["ns2997/p2997", "default/p2998", "default/p2999"] {
        assert!(all.contains(name), "{name}");
    }
}

/// Every first set of files is right, and tests everything it has.
#[test]
fn first_files_are_right_and_nothing_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for (name, more, recipe) in [
        ("plain", &[][..], ".github/workflows/policies.yaml"),
        ("odd", &["--namespace", "007", "--label", "example.com/on=no", "--ci", "gitlab"], ".gitlab-ci.yml"),
        ("hooks", &["--ci", "pre-commit"], ".pre-commit-config.yaml"),
        ("none", &["--ci", "none"], "policies/tests.yaml"),
    ] {
        let made = place(name);
        let (out, status) = run(&[&["init", &made], more].concat(), "", &[]);
        assert_eq!(status, Some(0), "{out}");
        assert!(folder.path().join(name).join(recipe).is_file(), "{out}");
        let (out, status) = run(&["check", "--deny-warnings", &made], "", &[]);
        assert_eq!(status, Some(0), "{out}");
        let (out, status) = run(&["test", "--require-coverage", "--quiet", &made], "", &[]);
        assert_eq!((out.as_str(), status), ("coverage: a test matches 1 of 1 rules\n5 passed, 0 failed\n", Some(0)));
    }
    let tests = folder.path().join("plain/policies/tests.yaml");
    std::fs::write(&tests, "mine").unwrap();
    let (out, notes, status) = run_with_notes(&["init", &place("plain"), "--ci", "none"], "");
    assert!(
        out.is_empty() && notes.contains("is there already, so nothing is written") && status == Some(2),
        "{notes}"
    );
    assert_eq!(std::fs::read_to_string(tests).unwrap(), "mine");
    let (_, notes, status) = run_with_notes(&["init", &place("bad"), "--label", "app=*"], "");
    assert!(notes.contains("the workload cannot be selected") && status == Some(2), "{notes}");
    assert!(!folder.path().join("bad").exists());
}

#[test]
fn without_files_the_current_folder_is_read_without_what_is_excluded() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    };
    write("good.yaml", &policy("good", "{}"));
    write("vendor/bad.yaml", &policy("bad", "{ rule: 1 }"));
    write("deep/vendor/bad.yaml", &policy("bad", "{ rule: 1 }"));
    let check = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_mesh-authz"))
            .current_dir(folder.path())
            .arg("check")
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (text, output.status.code())
    };
    let (out, status) = check(&[]);
    assert!(
        status == Some(1) && out.contains("\ndeep/vendor/bad.yaml:5:") | out.starts_with("deep/vendor/bad.yaml:5:"),
        "{out}"
    );
    assert_eq!(check(&["--exclude", "vendor"]), ("valid policies: 1, errors: 0, warnings: 0\n".to_owned(), Some(0)));
    assert_eq!(check(&["--exclude", "vendor/"]).1, Some(0));
    assert_eq!(check(&["--exclude", "b*.yaml"]).1, Some(0));
    assert_eq!(check(&["--exclude", "vendor/*", "--exclude", "deep/*"]).1, Some(0));
    let (out, status) = check(&["--exclude", "vendor/bad.yaml"]);
    assert!(
        status == Some(1) && !out.contains("vendor/bad.yaml:5:9: policy default/bad: spec.rule\n  ::: vendor"),
        "{out}"
    );
    assert_eq!(out.matches("unknown field").count(), 1, "{out}");
    // A file that is named is meant.
    assert_eq!(check(&["vendor/bad.yaml", "--exclude", "vendor"]).1, Some(1));
    let (out, status) = check(&["--exclude", "*"]);
    assert!(status == Some(2) && out.contains("in it that is not excluded"), "{out}");
    assert_eq!(check(&["**/*.yaml", "--exclude", "vendor/*", "--exclude", "deep/*"]).1, Some(0));
}

#[test]
fn tests_are_chosen_by_name_and_reported_in_short() {
    const TESTS: &str = "examples/tutorial/tests.yaml";
    let (out, status) = run(&["test", TESTS, "--filter", "MAY NOT", "--filter", "nobody else"], "", &[]);
    assert_eq!((out.lines().last(), status), (Some("3 passed, 0 failed"), Some(0)), "{out}");
    assert_eq!(run(&["test", TESTS, "--quiet"], "", &[]), ("7 passed, 0 failed\n".to_owned(), Some(0)));
    let failing = "tests/commands/input/failing.yaml";
    let (quiet, status) = run(&["test", failing, "-q"], "", &[]);
    assert!(quiet.starts_with("FAILED") && !quiet.contains("ok  ") && status == Some(1), "{quiet}");
    let (_, notes, status) = run_with_notes(&["test", TESTS, "--filter", "nothing like it"], "");
    assert_eq!((notes.as_str(), status), ("mesh-authz: no test has `nothing like it` in its name\n", Some(2)));
    let (out, _) = run(&["test", TESTS, "--durations", "--filter", "write"], "", &[]);
    assert!(out.contains("the frontend may not write (") && out.contains(" ms)"), "{out}");
    let (out, _) = run(&["test", TESTS, "--durations", "--format", "json"], "", &[]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(json["files"][0]["tests"][0]["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{out}");
    let (out, _) = run(&["test", TESTS, "--durations", "--format", "junit"], "", &[]);
    assert_eq!(out.matches(" time=\"").count(), 7, "{out}");
}

#[test]
fn a_watched_command_runs_again_when_a_file_changes() {
    use std::io::{BufRead as _, BufReader};

    let folder = tempfile::tempdir().unwrap();
    let policies = folder.path().join("policies");
    let tests = folder.path().join("tests");
    for new in [&policies, &tests] {
        std::fs::create_dir(new).unwrap();
    }
    std::fs::write(policies.join("a.yaml"), policy("a", "{}")).unwrap();
    let text = "policies: [../policies/a.yaml]\nworkload: { labels: {} }\ntests: [{ name: a, request: { path: /a }, expect: ALLOW }]\n";
    std::fs::write(tests.join("tests.yaml"), text).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_mesh-authz"))
        .args(["test", "--watch", "--quiet", tests.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.find(|line| line.contains("passed")).unwrap(), "0 passed, 1 failed");
    // The policies are not in the folder that is named. An editor writes a new file and renames it.
    let (new, old) = (policies.join("new"), policies.join("a.yaml"));
    std::fs::write(&new, policy("a", "{ rules: [{}] }")).unwrap();
    std::fs::rename(new, old).unwrap();
    assert_eq!(lines.find(|line| line.contains("passed")).unwrap(), "1 passed, 0 failed");
    std::fs::write(tests.join("tests.yaml"), text.replace("ALLOW", "DENY")).unwrap();
    assert_eq!(lines.find(|line| line.contains("passed")).unwrap(), "0 passed, 1 failed");
    child.kill().unwrap();
    child.wait().unwrap();
    let (_, notes, status) = run_with_notes(&["check", "-", "--watch"], "");
    assert!(notes.contains("standard input cannot be watched") && status == Some(2), "{notes}");
}

#[test]
fn findings_are_annotations_of_github() {
    let (out, status) = run(&["check", "--format", "github", BROKEN], "", &[]);
    let first = out.lines().next().unwrap();
    assert!(
        first.starts_with(
            "::error file=tests/commands/input/broken.yaml,line=7,endLine=7,col=3,endColumn=11,title=mesh-authz::"
        ),
        "{out}"
    );
    assert_eq!((out.lines().filter(|line| line.starts_with("::error ")).count(), status), (7, Some(1)));
    assert!(out.contains("\nvalid policies: 0, errors: 7, warnings: 0\n"), "{out}");
    let (out, _) = run(&["check", "--format", "github", "examples/tutorial"], "", &[]);
    assert!(out.starts_with("::warning file=") && out.contains(",title=mesh-authz MA001::policy "), "{out}");
    // What a file says cannot begin another command, or end this one.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a,b:c%.yaml");
    std::fs::write(&file, policy("a", "{ \"x\\n::error::y\": 1 }")).unwrap();
    let (out, _) = run(&["check", "--format", "github", file.to_str().unwrap()], "", &[]);
    assert!(out.starts_with("::error file=") && out.contains("a%2Cb%3Ac%25.yaml,line="), "{out}");
    assert_eq!(out.lines().filter(|line| line.starts_with("::")).count(), 1, "{out}");
}

/// The picture in the README is what the command prints on a terminal. `SNAPSHOTS=overwrite` draws it anew.
#[test]
fn the_picture_in_the_readme_is_real() {
    let request = ["--principal", "cluster.local/ns/default/sa/frontend", "--path", "/api/v1/other"];
    let policies = ["examples/tutorial/allow-frontend-get-data.yaml", "examples/tutorial/allow-nothing-backend.yaml"];
    let arguments = [&["explain"], &policies[..], &["--label", "app=backend"], &request].concat();
    let (out, status) = run(&arguments, "", &[("CLICOLOR_FORCE", "1")]);
    assert_eq!(status, Some(0));
    let typed = "\u{1b}[1m$ mesh-authz explain examples/tutorial/allow-*.yaml --label app=backend \\\n    --principal \
                 cluster.local/ns/default/sa/frontend --path /api/v1/other\u{1b}[0m\n\n";
    let drawn = anstyle_svg::Term::new().render_svg(&format!("{typed}{}", out.trim_end()));
    let file = project("docs/explain.svg");
    if std::env::var_os("SNAPSHOTS").is_some_and(|value| value == "overwrite") {
        std::fs::write(&file, &drawn).unwrap();
    }
    assert!(std::fs::read_to_string(file).unwrap() == drawn, "docs/explain.svg: SNAPSHOTS=overwrite draws it anew");
}

/// The examples of a command and of its subcommands.
fn examples(command: &clap::Command) -> Vec<String> {
    let own = command.get_after_help().map(ToString::to_string);
    own.into_iter().chain(command.get_subcommands().flat_map(examples)).collect()
}

/// A line that is wrapped cannot be copied.
#[test]
fn examples_in_the_help_fit_into_80_columns() {
    use clap::CommandFactory as _;

    let examples = examples(&mesh_authz_cli::command::Arguments::command());
    assert!(examples.len() > 10);
    for line in examples.iter().flat_map(|text| text.lines()) {
        assert!(line.chars().count() <= 80, "{line}");
    }
}
