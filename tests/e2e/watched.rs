//! Policies that change without a restart, under load: `render envoy --watch` once, and `render ecds` for each change.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::slice::from_ref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mesh_authz_cli::load::yaml;
use serde_json::{Value, json};
use testbed::{App, Client, Connection, Envoy, Request, StartOptions};

use crate::shared::resources;
use crate::sidecar::{FRONTEND, PATIENCE, authority, client_of, manager_of, policy, project, to, wasm};

/// The file that Envoy watches, relative to Envoy's working directory.
const WATCHED: &str = "ecds/policies.json";

/// Whether the filter has refused its last configuration.
const REFUSED: &str = "wasmcustom.mesh_authz.config.refused";

/// The prefix of Envoy's statistics about the file.
const STATISTICS: &str = "extension_config_discovery.http_filter.mesh_authz";

fn mesh_authz(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mesh-authz")).current_dir(project("")).args(arguments).output().unwrap()
}

/// A sidecar that reads its policies from a watched file.
struct Watching {
    envoy: Envoy,
    app: App,
    policies: PathBuf,
    /// Set if Envoy reads its listener from `lds.json`, not from the bootstrap.
    listener: Option<Value>,
    _folder: tempfile::TempDir,
}

impl Watching {
    /// Starts Envoy with the rendered file of the first policies, as changed by `content`.
    fn start(first: &[Value], content: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Self {
        Self::start_with(first, content, false)
    }

    /// Starts Envoy so that it reads its listener from `lds.json`.
    fn start_listening_dynamically(first: &[Value]) -> Self {
        Self::start_with(first, |content| content, true)
    }

    fn start_with(first: &[Value], content: impl FnOnce(Vec<u8>) -> Vec<u8>, dynamically: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let policies = folder.path().join("policies.json");
        let (app, file) = (App::start().unwrap(), folder.path().join("ecds.json"));
        let rendered = render(&policies, first, &file, &[]);
        assert!(rendered.status.success(), "{rendered:?}");

        let upstream = format!("localhost:{}", app.address().port());
        let output = mesh_authz(&[
            "render",
            "envoy",
            "--envoy-version",
            testbed::envoy_version(),
            "--namespace=default",
            policies.to_str().unwrap(),
            "--watch=ecds/policies.json",
            "--label=app=backend",
            "--listen=127.0.0.1:0",
            "--upstream",
            &upstream,
        ]);
        assert!(output.status.success(), "{output:?}");
        let bootstrap = yaml::documents(&String::from_utf8(output.stdout).unwrap()).unwrap().remove(0);
        let mut bootstrap = serde_json::to_value(bootstrap).unwrap();
        // Tells the client which policy refused its request. The policy's name contains the version.
        manager_of(&mut bootstrap["static_resources"]["listeners"][0])["local_reply_config"] = json!({ "mappers": [{
            "filter": { "status_code_filter": { "comparison": {
                "op": "GE", "value": { "default_value": 100, "runtime_key": "unset" },
            } } },
            "headers_to_add": [{ "header": { "key": "x-details", "value": "%RESPONSE_CODE_DETAILS%" } }],
        }] });
        let backend = authority().server("cluster.local/ns/default/sa/backend").unwrap();
        let mut options = StartOptions::default()
            .file("mesh_authz.wasm", wasm())
            .file("certs/ca.crt", authority().pem())
            .file("certs/backend.crt", &backend.cert_pem)
            .file("certs/backend.key", &backend.key_pem)
            .file(WATCHED, content(fs::read(file).unwrap()));
        options.concurrency = 2;
        let listener = dynamically.then(|| {
            let mut listener = bootstrap["static_resources"]["listeners"].take()[0].take();
            // A port that stays the same when the listener is replaced.
            let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            listener["address"]["socket_address"]["port_value"] = json!(free);
            bootstrap["static_resources"]["listeners"] = json!([]);
            bootstrap["dynamic_resources"] = json!({ "lds_config": {
                "resource_api_version": "V3",
                "path_config_source": { "path": "./lds.json" },
            } });
            listener
        });
        if let Some(listener) = &listener {
            options = options.file("lds.json", resources(from_ref(listener)));
            // While the old listener drains, its filter's configuration is in force.
            options.extra_args = ["--drain-time-s", "0"].map(str::to_owned).to_vec();
        }
        let envoy = Envoy::start_with(&bootstrap, &options).unwrap();
        Self { envoy, app, policies, listener, _folder: folder }
    }

    fn file(&self) -> PathBuf {
        self.envoy.dir().join(WATCHED)
    }

    /// Runs `render ecds` on these policies.
    fn render(&self, policies: &[Value], more: &[&str]) -> Output {
        render(&self.policies, policies, &self.file(), more)
    }

    fn client(&self) -> Client {
        client_of(self.envoy.address("inbound").unwrap(), FRONTEND)
    }

    fn status(&self, path: &str) -> u16 {
        self.client().send(&Request::get(path)).unwrap().status
    }

    #[track_caller]
    fn wait_until_status(&self, path: &str, status: u16) {
        let deadline = Instant::now() + PATIENCE;
        while self.status(path) != status {
            assert!(Instant::now() < deadline, "{path} does not become {status}:\n{}", self.envoy.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The filter has no configuration to decide with, and says so.
    #[track_caller]
    fn assert_nothing_decides(&self) {
        self.envoy.wait_for_stat(REFUSED, |refused| refused == 1, PATIENCE).unwrap();
        let said = "the last configuration was refused, and there is no previous one: every request is refused";
        self.envoy.wait_for_log(said, PATIENCE).unwrap();
        assert_eq!(self.envoy.stats().unwrap()["wasmcustom.mesh_authz.config.policies"], 0);
    }

    #[track_caller]
    fn wait_for(&self, statistic: &str, count: u64) {
        self.envoy.wait_for_stat(&format!("{STATISTICS}.{statistic}"), |is| is == count, PATIENCE).unwrap();
    }
}

fn render(input: &PathBuf, policies: &[Value], output: &PathBuf, more: &[&str]) -> Output {
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": policies });
    fs::write(input, list.to_string()).unwrap();
    let [input, output] = [input, output].map(|file| file.to_str().unwrap());
    mesh_authz(&[&["render", "ecds", input, "--namespace=default", "--output", output], more].concat())
}

const CLIENTS: usize = 6;

/// The policies of a version. A refusal names its version.
///
/// | path | refused by |
/// | --- | --- |
/// | `/always` | no version |
/// | `/never` | every version |
/// | `/even` | versions with an even number |
/// | `/odd` | versions with an odd number |
fn version(number: u64) -> [Value; 2] {
    let parity = if number.is_multiple_of(2) { "/even" } else { "/odd" };
    let allow = json!({
        "from": [{ "source": { "principals": [FRONTEND] } }],
        "to": [{ "operation": { "paths": ["/always", "/never", "/even", "/odd"] } }],
    });
    [
        policy("allow", "ALLOW", &[allow]),
        policy(&format!("v{number}"), "DENY", &[to(json!({ "paths": ["/never", parity] }))]),
    ]
}

/// The state that the clients and the updating thread share.
#[derive(Default)]
struct Board {
    /// The newest version that may be in force. It is stored here before its file is written.
    newest: AtomicU64,
    /// For each client, the oldest version that may still decide its requests.
    oldest: [AtomicU64; CLIENTS],
    stop: AtomicBool,
}

/// The responses that a client got.
#[derive(Default)]
struct Tally {
    responses: u64,
    passed: u64,
    unexplained: Vec<String>,
}

/// Sends requests over one connection until `stop` is set. Checks every response against the versions that may be in
/// force.
fn client(board: &Board, number: usize, mut connection: Connection) -> Tally {
    let mut tally = Tally::default();
    for path in ["/never", "/always", "/even", "/odd"].into_iter().cycle() {
        if board.stop.load(Ordering::SeqCst) {
            break;
        }
        let response = connection.send(&Request::get(path)).unwrap();
        let (oldest, newest) = (board.oldest[number].load(Ordering::SeqCst), board.newest.load(Ordering::SeqCst));
        tally.responses += 1;
        // A connection stays on one worker, and a worker never goes back to older policies.
        let refusing =
            |version: &u64| path == "/never" || path == if version.is_multiple_of(2) { "/even" } else { "/odd" };
        let judged_by = match response.status {
            200 if path != "/never" && response.header("x-app").is_some() => {
                tally.passed += 1;
                (oldest..=newest).find(|version| !refusing(version))
            }
            403 => {
                let details = response.header("x-details").unwrap_or_default();
                let name = details.split("-policy[v").nth(1).and_then(|rest| rest.split(']').next());
                let version = name.and_then(|name| name.parse().ok());
                version.filter(|version| refusing(version) && (oldest..=newest).contains(version))
            }
            _ => None,
        };
        match judged_by {
            Some(version) => board.oldest[number].store(version, Ordering::SeqCst),
            None => tally.unexplained.push(format!("{path} while {oldest} to {newest}: {response:?}")),
        }
        if !connection.is_open() {
            tally.unexplained.push("the connection ends".to_owned());
            break;
        }
    }
    tally
}

/// `UPDATES=200 RATE=1000` makes 200 updates and requires at least 1,000 requests per second.
#[test]
fn whatever_the_moment_of_an_update_the_old_policies_decide_or_the_new_ones() {
    let number_from = |name: &str, default: u64| env::var(name).map_or(default, |text| text.parse().unwrap());
    let (updates, least_rate) = (number_from("UPDATES", 40), number_from("RATE", 0));
    let sidecar = Watching::start(&version(1), |content| content);
    let board = Arc::new(Board::default());
    board.newest.store(1, Ordering::SeqCst);
    board.oldest.iter().for_each(|oldest| oldest.store(1, Ordering::SeqCst));
    let start = Instant::now();
    let clients: Vec<JoinHandle<Tally>> = (0..CLIENTS)
        .map(|number| {
            let (board, connection) = (Arc::clone(&board), sidecar.client().connect().unwrap());
            thread::spawn(move || client(&board, number, connection))
        })
        .collect();

    let (mut refused_by_filter, mut failed) = (0, 0);
    for number in 2..updates + 2 {
        // Before every tenth good update comes a bad one: invalid policies, or a truncated file.
        if number.is_multiple_of(10) {
            let before = fs::read(sidecar.file()).unwrap();
            let mut wrong = policy("wrong", "DENY", &[json!({})]);
            wrong["spec"]["rulez"] = json!([]);
            let refused = sidecar.render(&[wrong], &[]);
            assert_eq!(refused.status.code(), Some(1), "{refused:?}");
            assert!(fs::read(sidecar.file()).unwrap() == before, "the command has written it all the same");
            // These bad updates are written without the command.
            if number.is_multiple_of(20) {
                let text = String::from_utf8(before).unwrap().replace("\"rules\"", "\"rulez\"");
                sidecar.envoy.write_file_atomically(WATCHED, text).unwrap();
                // The file says `onInvalid: deny`: Envoy accepts it, and the filter keeps its policies.
                refused_by_filter += 1;
                sidecar.envoy.wait_for_stat(REFUSED, |refused| refused == 1, PATIENCE).unwrap();
            } else {
                sidecar.envoy.write_file_atomically(WATCHED, &before[..before.len() / 2]).unwrap();
                failed += 1;
                sidecar.wait_for("update_failure", failed);
            }
        }
        board.newest.store(number, Ordering::SeqCst);
        let written = sidecar.render(&version(number), &[]);
        assert!(written.status.success(), "{written:?}");
        let deadline = Instant::now() + PATIENCE;
        while board.oldest.iter().any(|oldest| oldest.load(Ordering::SeqCst) < number) {
            assert!(Instant::now() < deadline, "version {number} does not come:\n{}", sidecar.envoy.log());
            thread::sleep(Duration::from_millis(2));
        }
    }
    board.stop.store(true, Ordering::SeqCst);
    let tallies: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    let responses: u64 = tallies.iter().map(|tally| tally.responses).sum();
    let passed: u64 = tallies.iter().map(|tally| tally.passed).sum();
    let unexplained: Vec<_> = tallies.into_iter().flat_map(|tally| tally.unexplained).collect();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = responses as f64 / start.elapsed().as_secs_f64();
    println!(
        "updates: {updates}; refused: {refused_by_filter} wrong, {failed} cut off; responses: {responses}, {rate:.0} a \
         second, {passed} of them from the application; unexplained: {}",
        unexplained.len()
    );
    assert_eq!(unexplained, Vec::<String>::new());
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let least_rate = least_rate as f64;
    assert!(rate >= least_rate);

    // Envoy's counters agree, and no client had to reconnect.
    let statistics: BTreeMap<String, u64> = sidecar.envoy.stats().unwrap();
    let count = |name: &str| statistics[name];
    assert_eq!(count(&format!("{STATISTICS}.update_success")), updates + 1 + refused_by_filter);
    assert_eq!(count("http.inbound.downstream_cx_total"), u64::try_from(CLIENTS).unwrap());
    assert_eq!(count("http.inbound.downstream_rq_total"), responses);
    assert_eq!(sidecar.app.requests(), passed);
}

/// Spoils a file of `render ecds`: the filter refuses the policies in it.
fn wrong(content: Vec<u8>) -> Vec<u8> {
    String::from_utf8(content).unwrap().replace("\"rules\"", "\"rulez\"").into_bytes()
}

#[test]
fn while_the_file_says_nothing_valid_no_request_passes_and_a_good_file_mends_it() {
    type Spoil = fn(Vec<u8>) -> Vec<u8>;
    let cut_off = |content: Vec<u8>| content[..content.len() / 2].to_vec();
    // Envoy accepts wrong policies, because the file says `onInvalid: deny`. The filter refuses every request.
    let cases: [(Spoil, &str, &str, u16); 2] = [
        (wrong, "update_success", "spec.rulez: unknown field, did you mean rules?", 403),
        (cut_off, "update_failure", "Unable to parse JSON as proto", 500),
    ];
    for (content, statistic, cause, status) in cases {
        let sidecar = Watching::start(&version(1), content);
        sidecar.wait_for(statistic, 1);
        for path in ["/always", "/never"] {
            assert_eq!(sidecar.status(path), status);
        }
        assert_eq!(sidecar.app.requests(), 0);
        sidecar.envoy.wait_for_log(cause, PATIENCE).unwrap();
        if status == 403 {
            sidecar.assert_nothing_decides();
        }
        assert!(sidecar.render(&version(2), &[]).status.success());
        sidecar.wait_until_status("/always", 200);
        assert_eq!(sidecar.status("/never"), 403);
        sidecar.envoy.wait_for_stat(REFUSED, |refused| refused == 0, PATIENCE).unwrap();
    }
}

#[test]
fn after_a_wrong_update_the_policies_before_it_stay_in_force_with_their_hash() {
    let sidecar = Watching::start(&version(1), |content| content);
    let hash = "wasmcustom.mesh_authz.config.hash";
    sidecar.envoy.wait_for_stat(hash, |hash| hash != 0, PATIENCE).unwrap();
    let first = sidecar.envoy.stats().unwrap()[hash];
    let good = fs::read(sidecar.file()).unwrap();
    sidecar.envoy.write_file_atomically(WATCHED, wrong(good)).unwrap();
    sidecar.envoy.wait_for_stat(REFUSED, |refused| refused == 1, PATIENCE).unwrap();
    sidecar
        .envoy
        .wait_for_log("the last configuration was refused; the previous one stays in force", PATIENCE)
        .unwrap();
    assert_eq!(sidecar.envoy.stats().unwrap()[hash], first);
    for _ in 0..3 {
        assert_eq!(["/always", "/odd", "/even"].map(|path| sidecar.status(path)), [200, 403, 200]);
    }
    assert!(sidecar.render(&version(2), &[]).status.success());
    sidecar.wait_until_status("/even", 403);
    sidecar.envoy.wait_for_stat(REFUSED, |refused| refused == 0, PATIENCE).unwrap();
    assert_ne!(sidecar.envoy.stats().unwrap()[hash], first);
}

#[test]
fn bad_start_under_xds_lets_nothing_through_also_after_a_removal() {
    let sidecar = Watching::start_listening_dynamically(&version(1));
    let listener = sidecar.listener.clone().unwrap();
    let mut without_filter = listener.clone();
    let all = manager_of(&mut without_filter)["http_filters"].as_array_mut().unwrap();
    let before = all.len();
    all.retain(|filter| filter["name"] != "mesh_authz");
    assert_eq!(all.len() + 1, before);
    assert_eq!(["/always", "/odd"].map(|path| sidecar.status(path)), [200, 403]);

    let listen = |listener: &Value| sidecar.envoy.write_file_atomically("lds.json", resources(from_ref(listener)));
    listen(&without_filter).unwrap();
    sidecar.wait_until_status("/odd", 200);
    let good = fs::read(sidecar.file()).unwrap();
    sidecar.envoy.write_file_atomically(WATCHED, wrong(good)).unwrap();
    listen(&listener).unwrap();
    sidecar.wait_until_status("/always", 403);
    sidecar.assert_nothing_decides();
    assert_eq!(["/always", "/odd", "/even"].map(|path| sidecar.status(path)), [403; 3]);

    assert!(sidecar.render(&version(2), &[]).status.success());
    sidecar.wait_until_status("/always", 200);
    assert_eq!(["/odd", "/even"].map(|path| sidecar.status(path)), [200, 403]);
}

#[test]
fn a_module_under_another_name_takes_over_and_one_that_is_missing_changes_nothing() {
    let sidecar = Watching::start(&version(1), |content| content);
    let gauge = "wasmcustom.mesh_authz.config.hash";
    let hash_of = |output: Output| -> u64 {
        let notes = String::from_utf8(output.stderr).unwrap();
        notes.trim().rsplit(' ').next().unwrap().parse().expect(&notes)
    };
    let second = hash_of(sidecar.render(&version(2), &["--wasm=missing.wasm"]));
    sidecar.wait_for("update_rejected", 1);
    assert!(sidecar.envoy.log().contains("missing.wasm"), "{}", sidecar.envoy.log());
    // Envoy does not check again what it has refused. It reports success and shows the version.
    assert_eq!(hash_of(sidecar.render(&version(2), &["--wasm=missing.wasm"])), second);
    sidecar.wait_for("update_success", 2);
    let text = sidecar.envoy.admin_get(&format!("/stats?filter={STATISTICS}.version_text")).unwrap();
    assert!(text.contains(&second.to_string()), "{text}");
    assert_eq!([sidecar.status("/odd"), sidecar.status("/even")], [403, 200]);
    sidecar.envoy.wait_for_stat(gauge, |hash| hash != 0, PATIENCE).unwrap();
    assert_ne!(sidecar.envoy.stats().unwrap()[gauge], second);

    sidecar.envoy.write_file_atomically("newer.wasm", wasm()).unwrap();
    assert_eq!(hash_of(sidecar.render(&version(2), &["--wasm=newer.wasm"])), second);
    sidecar.envoy.wait_for_stat(gauge, |hash| hash == second, PATIENCE).unwrap();
    assert_eq!([sidecar.status("/odd"), sidecar.status("/even")], [200, 403]);
}

/// Kubernetes mounts a `ConfigMap` like this: the file is a link into a folder. The folder is a link too, and an update
/// replaces that link.
#[cfg(unix)]
#[test]
fn a_file_that_is_a_link_is_read_again_when_its_folder_is_replaced() {
    use std::os::unix::fs::symlink;

    let sidecar = Watching::start(&version(1), |content| content);
    let folder = sidecar.envoy.dir().join("ecds");
    for number in [2, 3] {
        let name = format!("..{number}");
        let file = folder.join(&name).join("policies.json");
        fs::create_dir(folder.join(&name)).unwrap();
        assert!(render(&sidecar.policies, &version(number), &file, &[]).status.success());
        symlink(&name, folder.join("..new")).unwrap();
        fs::rename(folder.join("..new"), folder.join("..data")).unwrap();
        if number == 2 {
            symlink("..data/policies.json", folder.join("link")).unwrap();
            fs::rename(folder.join("link"), sidecar.file()).unwrap();
        }
        let deadline = Instant::now() + PATIENCE;
        let expected = if number == 2 { [200, 403] } else { [403, 200] };
        while [sidecar.status("/odd"), sidecar.status("/even")] != expected {
            assert!(Instant::now() < deadline, "{}", sidecar.envoy.log());
        }
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_is_replaced_can_be_read_by_whoever_could_before() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let [input, file] = ["policies.yaml", "ecds.json"].map(|name| folder.path().join(name));
    assert!(render(&input, &version(1), &file, &[]).status.success());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let before = fs::read(&file).unwrap();
    let mut trial = version(2);
    trial[1]["metadata"]["annotations"] = json!({ "istio.io/dry-run": "true" });
    let stopped = render(&input, &trial, &file, &["--deny-warnings"]);
    assert_eq!(stopped.status.code(), Some(1));
    assert!(String::from_utf8(stopped.stderr).unwrap().contains("MA024"));
    assert!(fs::read(&file).unwrap() == before);

    assert!(render(&input, &version(2), &file, &[]).status.success());
    assert!(fs::read(&file).unwrap() != before);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.count(), 2, "a draft is left");
    let nowhere = render(&input, &version(2), &folder.path().join("none/ecds.json"), &[]);
    assert_eq!(nowhere.status.code(), Some(2));
}

/// Two listeners of one Envoy, each with a filter of the same name for a workload of its own. They share a virtual
/// machine.
#[test]
fn a_wrong_file_never_brings_the_policies_of_another_workload() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::start().unwrap();
    let upstream = format!("localhost:{}", app.address().port());
    let of = |namespace: &str, spec: Value| {
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": { "name": "p", "namespace": namespace }, "spec": spec,
        })
    };
    let [web, vault] = [of("web", json!({ "rules": [{}] })), of("vault", json!({}))];
    let mut options = StartOptions::default().file("mesh_authz.wasm", wasm());
    let mut bootstrap = json!(null);
    let render = |policy: &Value, what: &[&str]| {
        let file = folder.path().join("policy.json");
        fs::write(&file, policy.to_string()).unwrap();
        let output = mesh_authz(&[&["render"], what, &[file.to_str().unwrap(), "--format=json"]].concat());
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    let ecds = |namespace: &str, policy: &Value| render(policy, &["ecds", &format!("--namespace={namespace}")]);
    for (namespace, policy) in [("web", &web), ("vault", &vault)] {
        let (own, watch) = (format!("--namespace={namespace}"), format!("--watch={namespace}/p.json"));
        let version = format!("--envoy-version={}", testbed::envoy_version());
        let arguments =
            ["envoy", &own, &watch, &version, "--plaintext", "--listen=127.0.0.1:0", "--upstream", &upstream];
        let mut rendered: Value = serde_json::from_slice(&render(policy, &arguments)).unwrap();
        rendered["static_resources"]["listeners"][0]["name"] = json!(namespace);
        let listener = rendered["static_resources"]["listeners"][0].clone();
        if bootstrap.is_null() {
            bootstrap = rendered;
        } else {
            bootstrap["static_resources"]["listeners"].as_array_mut().unwrap().push(listener);
        }
        let content = if namespace == "vault" { wrong(ecds(namespace, policy)) } else { ecds(namespace, policy) };
        options = options.file(&format!("{namespace}/p.json"), content);
    }
    let envoy = Envoy::start_with(&bootstrap, &options).unwrap();
    let status = |namespace: &str, path: &str| {
        Client::plain(envoy.address(namespace).unwrap()).send(&Request::get(path)).unwrap().status
    };
    let wait_until = |namespace: &str, path: &str, expected: u16| {
        let deadline = Instant::now() + PATIENCE;
        while status(namespace, path) != expected {
            assert!(Instant::now() < deadline, "{}", envoy.log());
        }
    };
    let update = |namespace: &str, content: Vec<u8>| {
        envoy.write_file_atomically(&format!("{namespace}/p.json"), content).unwrap();
    };
    // The first file of the vault is wrong, so nothing decides there.
    assert_eq!([status("web", "/"), status("vault", "/")], [200, 403]);
    let open = of("vault", json!({ "rules": [to(json!({ "paths": ["/open"] }))] }));
    update("vault", ecds("vault", &open));
    wait_until("vault", "/open", 200);
    update("vault", wrong(ecds("vault", &open)));
    envoy.wait_for_log("the last configuration was refused; the previous one stays in force", PATIENCE).unwrap();
    // The policies of the other workload are now the newest in the virtual machine.
    update("web", ecds("web", &of("web", json!({ "rules": [to(json!({ "paths": ["/web"] }))] }))));
    wait_until("web", "/", 403);
    for _ in 0..5 {
        let statuses = ["/", "/open", "/web"].map(|path| status("vault", path));
        assert_eq!(statuses, [403, 200, 403], "{}", envoy.log());
    }
    let refused = |stats: &BTreeMap<String, u64>| {
        stats.iter().filter(|(name, _)| name.ends_with("config.refused")).map(|(_, value)| *value).sum::<u64>()
    };
    let stats: BTreeMap<String, u64> = envoy.stats().unwrap().into_iter().collect();
    assert!(refused(&stats) >= 1, "one of the gauges says that a configuration was refused: {stats:?}");
}
