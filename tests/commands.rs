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
    cases.env("COLUMNS", "100").case("tests/commands/*.trycmd").case("docs/commands/*.md");
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
    std::fs::write(folder.path().join("b.yaml"), b"\xff\xfe").unwrap();
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
    let (out, status) = run(&["check", "-"], &format!(r#"{{"kind":"List","items":[{}]}}"#, policies.join(",")), &[]);
    assert_eq!(status, Some(1));
    assert!(out.lines().all(|line| line.chars().count() < 400), "{:?}", out.lines().map(str::len).max());
    assert!(out.contains("valid policies: 0, errors: 300, warnings: 0"));
}
