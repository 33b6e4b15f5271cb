//! What installs a release does so, from a server on this machine, and every place names the same address and version.

#![cfg(target_os = "linux")]
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

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mesh_authz::document::Node;
use mesh_authz_cli::load::yaml;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn project(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path).canonicalize().unwrap()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(project(path)).unwrap()
}

fn document(path: &str) -> Value {
    let documents: Vec<Node> = yaml::documents(&read(path)).unwrap();
    json!(documents[0])
}

/// The address of releases, in the only place that anybody changes.
fn address() -> String {
    let manifest = read("Cargo.toml");
    let line = manifest.lines().find(|line| line.starts_with("releases = ")).unwrap();
    line.trim_start_matches("releases = ").trim_matches('"').to_owned()
}

/// The filter.
const MODULE: &str = concat!("mesh-authz-", env!("CARGO_PKG_VERSION"), ".wasm");

fn program() -> String {
    format!("mesh-authz-{VERSION}-{}-unknown-linux-musl", std::env::consts::ARCH)
}

/// A release with this command in it. Returns its address. The server ends with the test.
fn serve(checksum: impl Fn(&[u8]) -> String) -> String {
    let command = std::fs::read(env!("CARGO_BIN_EXE_mesh-authz")).unwrap();
    let module = b"\0asm".to_vec();
    let sums = [
        ("0".repeat(64), "another-file".to_owned()),
        (checksum(&command), program()),
        (checksum(&module), MODULE.to_owned()),
    ];
    let sums = sums.iter().fold(String::new(), |all, (sum, name)| format!("{all}{sum}  {name}\n"));
    let files = [
        (MODULE.to_owned(), module),
        ("SHA256SUMS".to_owned(), sums.into_bytes()),
        (program(), command),
        ("install.sh".to_owned(), read("install.sh").into_bytes()),
    ];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            reader.read_line(&mut line).unwrap();
            // The rest of the request must be read, or the answer is lost with the connection.
            let mut header = String::from("-");
            while !header.trim().is_empty() {
                header.clear();
                reader.read_line(&mut header).unwrap();
            }
            let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            let found = files.iter().find(|(name, _)| path == format!("/v{VERSION}/{name}"));
            let (status, body) = found.map_or(("404 Not Found", &b""[..]), |(_, body)| ("200 OK", body));
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _closed = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        }
    });
    format!("http://{address}")
}

fn checksum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

fn shell(script: &str, home: &Path, environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script]).current_dir(home).env("HOME", home);
    command.env_remove("XDG_CACHE_HOME").envs(environment.iter().copied()).output().unwrap()
}

#[track_caller]
fn assert_says(output: &Output, status: i32, text: &str) {
    let said = String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned();
    assert!(output.status.code() == Some(status) && said.contains(text), "{:?}: {said}", output.status);
}

#[test]
fn the_install_line_of_the_readme_installs_a_release() {
    let readme = read("README.md");
    let line = readme.lines().find(|line| line.contains("install.sh | sh")).expect("a line that installs");
    assert!(line.contains(&address()) && line.contains(&format!("/v{VERSION}/install.sh")), "{line}");
    let server = serve(checksum);
    let home = tempfile::tempdir().unwrap();
    let here = line.replace(&address(), &server);
    let output = shell(&here, home.path(), &[("MESH_AUTHZ_RELEASES", &server)]);
    assert_says(&output, 0, "is not on the PATH");
    let installed = home.path().join(".local/bin/mesh-authz");
    let version = Command::new(&installed).arg("--version").output().unwrap();
    assert_eq!(String::from_utf8(version.stdout).unwrap(), format!("mesh-authz {VERSION}\n"));
    // Once more, over the one that is there.
    assert_says(&shell(&here, home.path(), &[("MESH_AUTHZ_RELEASES", &server)]), 0, "installed");
}

#[test]
fn the_lines_of_the_readme_download_the_filter() {
    let readme = read("README.md");
    let lines =
        readme.lines().filter(|line| line.contains(".wasm") && line.contains("curl") || line.contains("--check"));
    let lines = lines.collect::<Vec<_>>().join("\n");
    let download = |server: &str| {
        let home = tempfile::tempdir().unwrap();
        shell(&lines.replace(&address(), server), home.path(), &[])
    };
    assert_says(&download(&serve(checksum)), 0, &format!("{MODULE}: OK"));
    assert_says(&download(&serve(|_| "0".repeat(64))), 1, &format!("{MODULE}: FAILED"));
}

#[test]
fn nothing_is_installed_that_is_not_what_was_released() {
    let home = tempfile::tempdir().unwrap();
    let script = project("install.sh");
    let install = |releases: &str, version: &str| {
        let environment = [("MESH_AUTHZ_RELEASES", releases), ("MESH_AUTHZ_VERSION", version)];
        shell(script.to_str().unwrap(), home.path(), &environment)
    };
    assert_says(&install(&serve(|_| "0".repeat(64)), VERSION), 1, "nothing is installed");
    assert_says(&install(&serve(checksum), "9.9.9"), 1, "cannot be downloaded");
    assert_says(&install("http://127.0.0.1:1", VERSION), 1, "cannot be downloaded");
    assert!(!home.path().join(".local/bin/mesh-authz").exists());
}

/// Runs the steps of an action or of a job as GitHub does: those with `run`, until one fails. `fill` replaces the
/// expressions in them.
fn run_steps(steps: &Value, folder: &Path, fill: impl Fn(&str) -> String) -> Output {
    let temp = tempfile::tempdir().unwrap();
    let (path, output) = (temp.path().join("path"), temp.path().join("output"));
    let mut last = None;
    for step in steps.as_array().unwrap().iter().filter(|step| step.get("run").is_some()) {
        let mut command = Command::new("bash");
        command
            .args(["--noprofile", "--norc", "-eo", "pipefail", "-c", &fill(step["run"].as_str().unwrap())])
            .current_dir(folder);
        for (name, text) in step["env"].as_object().into_iter().flatten() {
            let text = fill(text.as_str().unwrap()).replace("${{ runner.temp }}", temp.path().to_str().unwrap());
            assert!(!text.contains("${{"), "{text}");
            command.env(name, text);
        }
        let added = std::fs::read_to_string(&path).unwrap_or_default();
        let search =
            added.lines().map(str::to_owned).chain([std::env::var("PATH").unwrap()]).collect::<Vec<_>>().join(":");
        let result = command
            .env("GITHUB_ACTION_PATH", project("install.sh").parent().unwrap())
            .env("GITHUB_PATH", &path)
            .env("GITHUB_OUTPUT", &output)
            .env("GITHUB_STEP_SUMMARY", temp.path().join("summary"))
            .env("PATH", search)
            .output()
            .unwrap();
        let failed = !result.status.success();
        last = Some(result);
        if failed {
            break;
        }
    }
    last.unwrap()
}

/// Runs the steps of `action.yml`, with these inputs.
fn run_action(inputs: &[(&str, &str)], folder: &Path) -> Output {
    let action = document("action.yml");
    let server = serve(checksum);
    let value = |name: &str| {
        let given = inputs.iter().find(|(input, _)| *input == name).map(|(_, value)| (*value).to_owned());
        given.unwrap_or_else(|| action["inputs"][name]["default"].as_str().unwrap().to_owned())
    };
    let is_run = |step: &&Value| {
        step["if"].as_str().is_none_or(|condition| {
            let name = condition.strip_prefix("inputs.").and_then(|rest| rest.strip_suffix(" != ''")).unwrap();
            !value(name).is_empty()
        })
    };
    let mut steps: Vec<_> = action["runs"]["steps"].as_array().unwrap().iter().filter(is_run).cloned().collect();
    steps[0]["env"]["MESH_AUTHZ_RELEASES"] = json!(server);
    run_steps(&json!(steps), folder, |text| {
        let names = action["inputs"].as_object().unwrap().keys();
        names.fold(text.to_owned(), |text, name| text.replace(&format!("${{{{ inputs.{name} }}}}"), &value(name)))
    })
}

#[test]
fn the_action_checks_and_tests() {
    let examples = project("examples/tutorial");
    assert_says(&run_action(&[], &examples), 0, "::warning file=allow-frontend-get-data.yaml,line=");
    assert_says(&run_action(&[("check", "--deny-warnings .")], &examples), 1, "title=mesh-authz MA001::");
    assert_says(
        &run_action(&[("check", ""), ("test", "--quiet tests.yaml\n  tests-as-written.yaml")], &examples),
        0,
        "8 passed, 0 failed",
    );
    let difference = "allow-frontend-get-data.yaml deny-all-backend.yaml";
    assert_says(&run_action(&[("check", ""), ("diff", difference)], &examples), 0, "### Access: nobody gains access");
    let failing = format!("--fail-on any {difference}");
    assert_says(&run_action(&[("check", ""), ("diff", &failing)], &examples), 1, "### Access: nobody gains access");
    // What is given is words, and no code.
    let odd = run_action(&[("check", "$(touch /tmp/never); `x` 'a b'")], &examples);
    assert_says(&odd, 2, "$(touch: No such file");
}

/// The recipes that `mesh-authz init` writes.
#[test]
fn recipes_install_the_command_check_and_test() {
    let server = serve(checksum);
    let here = |text: &str| text.replace(&format!("{}/", address()), &format!("{server}/"));
    let folder = tempfile::tempdir().unwrap();
    let init = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mesh-authz"));
        assert_says(&command.arg("init").args(more).current_dir(&folder).output().unwrap(), 0, "wrote ");
    };
    init(&[]);
    init(&["--only-ci", "--ci", "gitlab", "--ci", "pre-commit"]);
    let recipe = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let page = read("docs/ci.md");
    for name in [".github/workflows/policies.yaml", ".gitlab-ci.yml", ".pre-commit-config.yaml"] {
        assert!(page.contains(&format!("```yaml\n{}```\n", recipe(name))), "docs/ci.md has another {name}");
    }
    let read = |name: &str| json!(yaml::documents(&recipe(name)).unwrap()[0]);

    let workflow = read(".github/workflows/policies.yaml");
    let mut steps = workflow["jobs"]["policies"]["steps"].clone();
    steps[1]["env"]["MESH_AUTHZ_RELEASES"] = json!(server);
    let mut without_diff = steps.clone();
    without_diff.as_array_mut().unwrap().pop();
    assert_says(&run_steps(&without_diff, folder.path(), here), 0, "5 passed, 0 failed");
    let git = "git init -q && git -c user.name=a -c user.email=a@example commit -q --allow-empty -m base";
    assert_says(
        &shell(&format!("cd {} && {git} && echo made", folder.path().display()), folder.path(), &[]),
        0,
        "made",
    );
    let of_pull_request = |text: &str| here(text).replace("origin/${{ github.base_ref }}", "HEAD");
    let none = "there is no AuthorizationPolicy in the old policies";
    assert_says(&run_steps(&steps, folder.path(), of_pull_request), 0, none);

    let bin = tempfile::tempdir().unwrap();
    let bin = bin.path().to_str().unwrap();
    let search = format!("{bin}:{}", std::env::var("PATH").unwrap());
    let environment = [("PATH", search.as_str()), ("MESH_AUTHZ_RELEASES", server.as_str())];
    let job = read(".gitlab-ci.yml")["policies"].clone();
    let lines = |field: &str| job[field].as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned());
    // curl is there already.
    let script: Vec<_> = lines("before_script").skip(1).chain(lines("script")).collect();
    let script = here(&script.join("\n")).replace("=/usr/local/bin ", &format!("={bin} "));
    assert_says(&shell(&script, folder.path(), &environment), 0, "errors: 0, warnings: 0");
    assert!(recipe("results.xml").contains("tests=\"5\""));

    let hooks = read(".pre-commit-config.yaml")["repos"][0]["hooks"].clone();
    for (hook, text) in hooks.as_array().unwrap().iter().zip(["errors: 0", "5 passed, 0 failed"]) {
        assert_says(&shell(hook["entry"].as_str().unwrap(), folder.path(), &environment), 0, text);
    }
}

#[test]
fn the_hooks_of_pre_commit_run_the_command() {
    let hooks = document(".pre-commit-hooks.yaml");
    let server = serve(checksum);
    let home = tempfile::tempdir().unwrap();
    let examples = project("examples/tutorial");
    for (hook, text) in hooks.as_array().unwrap().iter().zip(["errors: 0", "passed, 0 failed"]) {
        assert_eq!((hook["language"].as_str(), hook["pass_filenames"].as_bool()), (Some("script"), Some(false)));
        let entry = hook["entry"].as_str().unwrap();
        let script = project(entry.split(' ').next().unwrap());
        let arguments =
            entry.split(' ').skip(1).chain(hook["args"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()));
        for releases in [server.as_str(), "http://127.0.0.1:1"] {
            // The second time, nothing is downloaded.
            let output = Command::new(&script)
                .args(arguments.clone())
                .current_dir(&examples)
                .env("HOME", home.path())
                .env_remove("XDG_CACHE_HOME")
                .env("MESH_AUTHZ_RELEASES", releases)
                .output()
                .unwrap();
            assert_says(&output, 0, text);
        }
    }
}

#[test]
fn every_place_has_the_same_address_and_version() {
    let address = address();
    let defaults = [format!("MESH_AUTHZ_RELEASES:-{address}}}"), format!("MESH_AUTHZ_VERSION:-{VERSION}}}")];
    let script = read("install.sh");
    assert!(defaults.iter().all(|default| script.contains(default)), "{defaults:?}");
    let manifest = read("cli/Cargo.toml");
    let places: Vec<_> = manifest.lines().filter(|line| line.contains("pkg-url")).collect();
    assert_eq!(places.len(), 3);
    assert!(places.iter().all(|line| line.contains(&format!("{address}/v{{ version }}/mesh-authz-{{ version }}-"))));
    let recipes = ["github", "gitlab", "pre-commit"].map(|name| format!("cli/src/command/init/{name}.yaml"));
    for page in ["README.md", "docs/ci.md", "docs/image.md"].map(str::to_owned).iter().chain(&recipes) {
        let text = read(page);
        let named: Vec<_> = text.lines().filter(|line| line.contains("://releases")).collect();
        assert!(!named.is_empty() || page.starts_with("docs/image"), "{page}");
        let right = format!("{address}/v{VERSION}/");
        assert_eq!(named.iter().find(|line| !line.contains(&right)), None, "{page}");
    }
}
