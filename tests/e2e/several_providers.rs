//! CUSTOM policies of one workload that name several providers, and policies of CUSTOM that change without a restart.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::bootstrap::{self, cluster, http_connection_manager};
use testbed::{App, Client, Envoy, HttpAnswer, HttpAuthorizer, Request, StartOptions};

use crate::rendered::{Standalone, folder, render, text};
use crate::sidecar::{PATIENCE, policy, to, wasm};

const OF_WORKLOAD: [&str; 3] = ["--namespace=default", "--no-labels", "--several-providers"];

/// Two providers. The name of one begins the other's: `login` wants a session, and `login-admin` a key.
struct Providers {
    login: HttpAuthorizer,
    admin: HttpAuthorizer,
}

fn wants(header: &'static str, status: u16) -> HttpAuthorizer {
    HttpAuthorizer::start(move |question| {
        let is_there = !question.header_values(header).is_empty();
        HttpAnswer::Response(if is_there { 200 } else { status }, vec![], "")
    })
    .unwrap()
}

impl Providers {
    fn start() -> Self {
        Self { login: wants("x-session", 401), admin: wants("x-key", 407) }
    }

    fn mesh(&self) -> Value {
        let provider = |name: &str, authorizer: &HttpAuthorizer, header: &str| {
            let (host, port) = ("localhost", authorizer.address().port());
            let settings = json!({ "service": host, "port": port, "includeRequestHeadersInCheck": [header] });
            json!({ "name": name, "envoyExtAuthzHttp": settings })
        };
        let providers = [provider("login", &self.login, "x-session"), provider("login-admin", &self.admin, "x-key")];
        json!({ "extensionProviders": providers })
    }

    fn clusters(&self) -> Vec<Value> {
        let cluster_of = |authorizer: &HttpAuthorizer| {
            cluster(&format!("outbound|{}||localhost", authorizer.address().port()), authorizer.address())
        };
        vec![cluster_of(&self.login), cluster_of(&self.admin)]
    }

    fn asked(&self) -> [usize; 2] {
        [&self.login, &self.admin].map(|authorizer| authorizer.questions().len())
    }
}

fn custom(name: &str, provider: &str, paths: &[&str]) -> Value {
    let mut custom = policy(name, "CUSTOM", &[to(json!({ "paths": paths }))]);
    custom["spec"]["provider"] = json!({ "name": provider });
    custom
}

fn policies() -> [Value; 3] {
    [custom("people", "login", &["/app*"]), custom("machines", "login-admin", &["/app/admin*", "/keys*"]), closed()]
}

fn closed() -> Value {
    policy("closed", "DENY", &[to(json!({ "paths": ["/app/closed", "/app/closed/"] }))])
}

/// Path, whether there is a session and a key, the status, and how often each of the two providers is asked.
const ROWS: [(&str, bool, bool, u16, [usize; 2]); 11] = [
    ("/public", false, false, 200, [0, 0]),
    ("/app", true, false, 200, [1, 0]),
    ("/app", false, true, 401, [1, 0]),
    ("/app/closed", true, true, 403, [1, 0]),
    ("/keys", false, true, 200, [0, 1]),
    ("/keys", true, false, 407, [0, 1]),
    ("/keys", true, true, 200, [0, 1]),
    ("/app/admin", true, true, 200, [1, 1]),
    ("/app/admin", true, false, 407, [1, 1]),
    ("/app/admin", false, true, 401, [1, 0]),
    ("/app/admin", false, false, 401, [1, 0]),
];

fn request(path: &str, has_session: bool, has_key: bool) -> Request {
    let headers = [("x-session", has_session), ("x-key", has_key)].into_iter().filter(|(_, is_there)| *is_there);
    headers.fold(Request::get(path), |request, (name, _)| request.header(name, "alice"))
}

fn status(envoy: &Envoy, request: &Request) -> u16 {
    Client::plain(envoy.address("inbound").unwrap()).send(request).unwrap().status
}

#[track_caller]
fn assert_rows(envoy: &Envoy, providers: &Providers) {
    for (path, has_session, has_key, expected, asked) in ROWS {
        let before = providers.asked();
        let seen = status(envoy, &request(path, has_session, has_key));
        let [login, admin] = providers.asked();
        let row = (path, has_session, has_key);
        assert_eq!((seen, [login - before[0], admin - before[1]]), (expected, asked), "{row:?}\n{}", envoy.log());
    }
}

/// What `explain` says, with what the providers answer.
fn explained(files: &Path, path: &str, answers: [Option<bool>; 2]) -> String {
    let mut explain = Command::new(env!("CARGO_BIN_EXE_mesh-authz"));
    explain.arg("explain").arg(files).args(OF_WORKLOAD).args(["--method=GET", &format!("--path={path}")]);
    for (name, allows) in ["login", "login-admin"].into_iter().zip(answers) {
        let Some(allows) = allows else { continue };
        explain.args(["--provider", &format!("{name}={}", if allows { "allow" } else { "deny" })]);
    }
    String::from_utf8(explain.output().unwrap().stdout).unwrap()
}

#[test]
fn each_provider_is_asked_about_what_its_own_policies_match() {
    let providers = Providers::start();
    let files = folder(&[&policies()[..], &[providers.mesh()]].concat());
    let (standalone, notes) = Standalone::start(&[&[text(files.path()), "--plaintext"], &OF_WORKLOAD[..]].concat());
    assert!(!notes.contains("MA0"), "{notes}");
    assert_rows(&standalone.envoy, &providers);

    for (path, has_session, has_key, expected, _) in ROWS {
        let said = explained(files.path(), path, [Some(has_session), Some(has_key)]);
        assert_eq!(said.starts_with("ALLOW"), expected == 200, "{path}: {said}");
    }
    let unsaid = explained(files.path(), "/app/admin", [None, None]);
    for part in [
        "if the provider `login` allows and the provider `login-admin` allows",
        "if the provider `login` allows and the provider `login-admin` denies",
        "if the provider `login` denies",
    ] {
        assert!(unsaid.contains(part), "{unsaid}");
    }
}

/// What istiod makes with `PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS` decides the same, without this project's filter.
#[test]
fn the_filters_of_istio_ask_each_provider() {
    let providers = Providers::start();
    let files = folder(&[&policies()[..], &[providers.mesh()]].concat());
    let (filters, notes) = render(&[&["envoy-rbac", text(files.path())], &OF_WORKLOAD[..]].concat());
    assert!(!notes.contains("denies what it matches"), "{notes}");
    let app = App::start().unwrap();
    let manager = http_connection_manager(filters.as_array().unwrap(), &[bootstrap::route_to("app")]);
    let listener = bootstrap::listener("inbound", manager, None);
    let clusters = [&[cluster("app", app.address())][..], &providers.clusters()].concat();
    let envoy = Envoy::start(&bootstrap::bootstrap(&[listener], &clusters)).unwrap();
    assert_rows(&envoy, &providers);

    // By default, what they match is denied.
    let (filters, notes) = render(&[&["envoy-rbac", text(files.path())], &OF_WORKLOAD[..2]].concat());
    assert!(notes.contains("a workload can have policies for one provider only"), "{notes}");
    let manager = http_connection_manager(filters.as_array().unwrap(), &[bootstrap::route_to("app")]);
    let envoy =
        Envoy::start(&bootstrap::bootstrap(&[bootstrap::listener("inbound", manager, None)], &clusters)).unwrap();
    for (path, expected) in [("/public", 200), ("/app", 403), ("/keys", 403), ("/app/admin", 403)] {
        assert_eq!(status(&envoy, &request(path, true, true)), expected, "{path}");
    }
}

const CONFIGURATION: &str = "/typed_config/config/configuration/value";

/// The filter sees for each provider whether Envoy asks it: that another one has been asked does not count.
#[test]
fn a_provider_that_is_not_asked_is_missed_beside_one_that_is() {
    let providers = Providers::start();
    let files = folder(&[&policies()[..], &[providers.mesh()]].concat());
    let (rendered, _) = render(&[&["filters", text(files.path()), "--wasm=filter.wasm"], &OF_WORKLOAD[..]].concat());
    let filters = rendered["http_filters"].as_array().unwrap();
    let ours = filters.iter().position(|filter| filter["name"] == "mesh_authz").unwrap();
    assert_eq!(filters[ours].pointer(CONFIGURATION).unwrap()["custom"], "native-each");
    let app = App::start().unwrap();
    let clusters = [&[cluster("app", app.address())][..], rendered["clusters"].as_array().unwrap().as_slice()].concat();
    let statuses = |filters: &[Value]| {
        let manager = http_connection_manager(filters, &[bootstrap::route_to("app")]);
        let bootstrap = bootstrap::bootstrap(&[bootstrap::listener("inbound", manager, None)], &clusters);
        let envoy = Envoy::start_with(&bootstrap, &StartOptions::default().file("filter.wasm", wasm())).unwrap();
        // `check --envoy` finds it as well.
        let file = tempfile::NamedTempFile::with_suffix(".json").unwrap();
        fs::write(&file, bootstrap.to_string()).unwrap();
        let checked = mesh_authz_cli::envoy::check(&[file.path().to_owned()], &[]).unwrap();
        let is_found = checked.findings.iter().any(|finding| finding.code == Some("ME020"));
        let seen = ["/app", "/keys", "/app/admin", "/public"].map(|path| status(&envoy, &request(path, true, true)));
        (seen, is_found)
    };
    assert_eq!(statuses(filters), ([200; 4], false));
    // The pairs stand in any order.
    let mut swapped = filters.clone();
    let pairs: Vec<_> = (0..filters.len()).filter(|index| is_asking(&filters[*index])).collect();
    assert_eq!(pairs.len(), 4);
    swapped.swap(pairs[0], pairs[2]);
    swapped.swap(pairs[1], pairs[3]);
    assert_eq!(statuses(&swapped), ([200; 4], false));

    for (missing, expected) in [(0, [403, 200, 403, 200]), (2, [200, 403, 403, 200])] {
        // Without the rules of one provider, that of the other leaves its trace all the same.
        let mut without_rules = filters.clone();
        without_rules[pairs[missing]]["typed_config"]["shadow_rules"]["policies"] = json!({});
        assert_eq!(statuses(&without_rules), (expected, true), "{missing}");
        // Without one of the pairs, nothing shows that its provider would be asked.
        let mut without_pair = filters.clone();
        without_pair.drain(pairs[missing]..=pairs[missing + 1]);
        assert_eq!(statuses(&without_pair), ([403; 4], true), "{missing}");
        // The trace of all is that of the last one.
        let mut with_one_trace = filters.clone();
        let text = Value::from(with_one_trace.clone()).to_string();
        let shared = text
            .replace("istio_ext_authz_login-admin_", "istio_ext_authz_")
            .replace("istio_ext_authz_login_", "istio_ext_authz_");
        with_one_trace.clone_from(serde_json::from_str::<Value>(&shared).unwrap().as_array().unwrap());
        assert_eq!(statuses(&with_one_trace), ([403; 4], true));
    }
}

fn is_asking(filter: &Value) -> bool {
    ["envoy.filters.http.rbac", "envoy.filters.http.ext_authz"].iter().any(|name| filter["name"] == *name)
}

/// An Envoy whose filters are all in files that it watches.
struct Watching {
    envoy: Envoy,
    _app: App,
}

impl Watching {
    fn start(providers: &Providers, first: &[Value], more: &[&str]) -> Self {
        Self::start_in(providers, first, more, |_| ())
    }

    /// `change` changes the mesh.
    fn start_in(providers: &Providers, first: &[Value], more: &[&str], change: impl Fn(&mut Value)) -> Self {
        let app = App::start().unwrap();
        let source = source(providers, first, change);
        let watch = ["--watch=ecds/policies.json", "--plaintext", "--listen=127.0.0.1:0"];
        let upstream = format!("--upstream=localhost:{}", app.address().port());
        let arguments = [&["envoy", text(source.path()), &upstream], &OF_WORKLOAD[..2], &watch, more].concat();
        let (bootstrap, _) = render(&arguments);
        let written = tempfile::tempdir().unwrap();
        ecds(source.path(), written.path(), more);
        let mut options = StartOptions::default().file("mesh_authz.wasm", wasm());
        for file in fs::read_dir(written.path()).unwrap() {
            let file = file.unwrap();
            let name = format!("ecds/{}", file.file_name().to_str().unwrap());
            options = options.file(&name, fs::read(file.path()).unwrap());
        }
        let envoy = Envoy::start_with(&bootstrap, &options).unwrap();
        fs::write(envoy.dir().join("envoy.json"), bootstrap.to_string()).unwrap();
        Self { envoy, _app: app }
    }

    /// Replaces the policies.
    fn replace(&self, providers: &Providers, policies: &[Value], more: &[&str]) -> String {
        self.replace_in(providers, policies, more, |_| ())
    }

    fn replace_in(
        &self,
        providers: &Providers,
        policies: &[Value],
        more: &[&str],
        change: impl Fn(&mut Value),
    ) -> String {
        let source = source(providers, policies, change);
        ecds(source.path(), &self.envoy.dir().join("ecds"), more)
    }

    /// Whether `check --envoy` finds a provider that is not asked.
    fn lacks_asking(&self) -> bool {
        let checked = mesh_authz_cli::envoy::check(&[self.envoy.dir().join("envoy.json")], &[]).unwrap();
        checked.findings.iter().any(|finding| finding.code == Some("ME020"))
    }

    #[track_caller]
    fn wait_until(&self, path: &str, (has_session, has_key): (bool, bool), expected: u16) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = status(&self.envoy, &request(path, has_session, has_key));
            if seen == expected {
                return;
            }
            assert!(Instant::now() < deadline, "{path} stays {seen}, not {expected}:\n{}", self.envoy.log());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn source(providers: &Providers, policies: &[Value], change: impl Fn(&mut Value)) -> tempfile::TempDir {
    let mut mesh = providers.mesh();
    change(&mut mesh);
    folder(&[policies, &[mesh]].concat())
}

fn ecds(source: &Path, written: &Path, more: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mesh-authz"));
    let file = written.join("policies.json");
    command.args(["render", "ecds", text(source), "--output", text(&file)]).args(&OF_WORKLOAD[..2]).args(more);
    let output = command.output().unwrap();
    let notes = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{notes}");
    notes
}

/// Policies of CUSTOM come, change their provider, and go, without a restart.
#[test]
fn custom_policies_change_without_a_restart() {
    let providers = Providers::start();
    let watching = Watching::start(&providers, &[closed()], &[]);
    watching.wait_until("/app", (false, false), 200);
    for (provider, without, with) in
        [("login", 401, (true, false)), ("login-admin", 407, (false, true)), ("login", 401, (true, false))]
    {
        watching.replace(&providers, &[custom("ask", provider, &["/app"]), closed()], &[]);
        watching.wait_until("/app", (false, false), without);
        watching.wait_until("/app", with, 200);
        watching.wait_until("/app", (!with.0, !with.1), without);
        watching.wait_until("/public", (false, false), 200);
    }
    // A provider that the input does not have cannot be asked, so what the policy matches is refused.
    let notes = watching.replace(&providers, &[custom("ask", "logins", &["/app"]), closed()], &[]);
    assert!(notes.contains("did you mean `login`?"), "{notes}");
    watching.wait_until("/app", (true, true), 403);
    watching.wait_until("/public", (false, false), 200);
    // Neither can two, without the option.
    watching.replace(&providers, &policies(), &[]);
    watching.wait_until("/keys", (true, true), 403);
    watching.wait_until("/app", (true, true), 403);
    watching.replace(&providers, &[closed()], &[]);
    watching.wait_until("/app", (false, false), 200);
}

/// The option changes what is refused, and never what shows that a provider was asked: Envoy reads each file when it likes.
#[test]
fn nothing_passes_unasked_while_the_option_changes() {
    let providers = Providers::start();
    let everything = |name: &str, provider: &str| {
        let mut custom = custom(name, provider, &[]);
        custom["spec"]["rules"] = json!([{}]);
        custom
    };
    let one = [everything("people", "login")];
    // Whichever files Envoy has read, they are the same.
    let input = source(&providers, &one, |_| ());
    let [without, with] = [&[][..], &["--several-providers"]].map(|more| {
        let written = tempfile::tempdir().unwrap();
        ecds(input.path(), written.path(), more);
        ["policies", "policies.rbac_login", "policies.ext_authz_login", "policies.rbac_login-admin"]
            .map(|name| fs::read_to_string(written.path().join(format!("{name}.json"))).unwrap())
    });
    assert_eq!(without, with);
    let watching = Watching::start(&providers, &one, &[]);
    let address = watching.envoy.address("inbound").unwrap();
    let is_over = AtomicBool::new(false);
    let passed = thread::scope(|scope| {
        let clients: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::plain(address).connect().unwrap();
                    let mut passed = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        passed += u32::from(
                            client.send(&Request::get("/app").header("x-key", "alice")).unwrap().status == 200,
                        );
                    }
                    passed
                })
            })
            .collect();
        for round in 0..30 {
            let more: &[&str] = if round % 2 == 0 { &["--several-providers"] } else { &[] };
            watching.replace(&providers, &one, more);
        }
        is_over.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().unwrap()).sum::<u32>()
    });
    assert_eq!(passed, 0, "requests passed that the provider had not allowed");
}

/// A provider that the mesh has, and that no policy names, is not asked, whatever its name is.
#[test]
fn a_provider_that_no_policy_names_is_not_asked() {
    let providers = Providers::start();
    let rename = |mesh: &mut Value| mesh["extensionProviders"][1]["name"] = json!("login-ns");
    let watching = Watching::start_in(&providers, &policies()[..1], &[], rename);
    watching.wait_until("/app", (true, false), 200);
    assert_eq!(providers.asked()[1], 0);
    // It is named, and then it goes from the mesh: nobody is asked any more.
    let named = [custom("people", "login-ns", &["/app"])];
    watching.replace_in(&providers, &named, &[], rename);
    watching.wait_until("/app", (true, false), 407);
    let notes = watching.replace_in(&providers, &[closed()], &[], |mesh| {
        mesh["extensionProviders"].as_array_mut().unwrap().pop();
    });
    assert!(notes.contains("policies.rbac_login-ns.json: nothing is asked any more"), "{notes}");
    watching.wait_until("/app", (false, false), 200);
}

/// The first provider that gets bodies makes Envoy keep them: a longer one is not refused for those that come after it.
#[test]
fn a_second_provider_can_get_the_beginning_of_a_body() {
    let providers = Providers::start();
    let mut mesh = providers.mesh();
    for (index, most) in [(0, 1000), (1, 10)] {
        let settings = &mut mesh["extensionProviders"][index]["envoyExtAuthzHttp"];
        settings["includeRequestBodyInCheck"] = json!({ "maxRequestBytes": most });
    }
    let files = folder(&[&policies()[..], &[mesh]].concat());
    let (standalone, notes) = Standalone::start(&[&[text(files.path()), "--plaintext"], &OF_WORKLOAD[..]].concat());
    assert!(notes.contains("MA050") && notes.contains("gets the beginning of a body"), "{notes}");
    let post = |path: &str| Request { method: b"POST".to_vec(), ..request(path, true, true) }.body(vec![b'x'; 500]);
    standalone.assert_answers(&post("/keys"), 413);
    assert!(providers.admin.questions().is_empty());
    standalone.assert_answers(&post("/app/admin"), 200);
    let question = providers.admin.questions().pop().unwrap();
    assert_eq!(question.body.len(), 10);
    assert_eq!(question.header_values("x-envoy-auth-partial-body"), ["true"]);
    assert_eq!(providers.login.questions().pop().unwrap().body.len(), 500);
}

#[test]
fn two_providers_can_be_at_one_address() {
    let providers = Providers::start();
    let mut mesh = providers.mesh();
    let mut second = mesh["extensionProviders"][0].clone();
    second["name"] = json!("second");
    second["envoyExtAuthzHttp"]["pathPrefix"] = json!("/second");
    mesh["extensionProviders"].as_array_mut().unwrap().push(second);
    let files = folder(&[custom("people", "login", &["/app"]), custom("others", "second", &["/other"]), mesh]);
    let (standalone, _) = Standalone::start(&[&[text(files.path()), "--plaintext"], &OF_WORKLOAD[..]].concat());
    standalone.assert_answers(&request("/app", true, false), 200);
    standalone.assert_answers(&request("/other", false, false), 401);
    let paths: Vec<_> = providers.login.questions().into_iter().map(|question| question.path).collect();
    assert_eq!(paths, ["/app", "/second/other"]);
}

#[test]
fn several_providers_change_without_a_restart() {
    let providers = Providers::start();
    let each = ["--several-providers"];
    let watching = Watching::start(&providers, &policies()[..1], &each);
    watching.wait_until("/app", (false, false), 401);
    watching.wait_until("/keys", (false, false), 200);
    watching.replace(&providers, &policies(), &each);
    watching.wait_until("/keys", (false, false), 407);
    assert_rows(&watching.envoy, &providers);
    assert!(!watching.lacks_asking());

    // A file of the filters that ask is missing, or is that of other policies: what it should ask about is refused.
    let rbac = watching.envoy.dir().join("ecds/policies.rbac_login.json");
    let newer = fs::read_to_string(&rbac).unwrap();
    let draft = rbac.with_extension("draft");
    fs::write(&draft, newer.replace("/app", "/other")).unwrap();
    fs::rename(&draft, &rbac).unwrap();
    watching.wait_until("/app", (true, true), 403);
    watching.wait_until("/keys", (true, true), 200);
    fs::remove_file(&rbac).unwrap();
    assert!(watching.lacks_asking());
    watching.wait_until("/app", (true, true), 403);
}

/// Settings at the edge of what is valid. Envoy must take each that `render` takes: it would keep the old filter otherwise.
#[test]
fn envoy_takes_every_setting_that_render_takes() {
    let lists = [
        "includeRequestHeadersInCheck",
        "headersToUpstreamOnAllow",
        "headersToDownstreamOnDeny",
        "headersToDownstreamOnAllow",
    ];
    let long = "a".repeat(17_000);
    let mut candidates = Vec::new();
    for (name, value) in [
        ("x-a", "100%"),
        ("x-a", "100%%"),
        ("x-a", "%%%"),
        ("x-a", "%FOO%"),
        ("x-a", "%REQ(x-b)%"),
        ("host", "a"),
        ("Host", "a"),
        (":path", "/"),
        ("content-length", "5"),
        ("x-a", ""),
        ("x-a", "a\u{1}b"),
        ("x-a", "a\tb"),
        ("x-a", "a\nb"),
        ("x-a", "\u{e4}"),
        ("x-a", &long),
        (&long, "a"),
    ] {
        candidates.push(json!({ "includeAdditionalHeadersInCheck": { name: value } }));
    }
    for value in ["*", "**", "*-", "x-*", "a b", "\u{e4}", ":path", "a\nb", "x*y", "*x*", "X-Up"] {
        candidates.extend(lists.map(|list| json!({ list: [value] })));
    }
    for timeout in ["1ms", "0.5ms", "8760h", "8761h", "876000h", "2562047h47m16s"] {
        candidates.push(json!({ "timeout": timeout }));
    }
    for status in ["100", "200", "204", "304", "511", "599", "600"] {
        candidates.push(json!({ "statusOnError": status }));
    }
    for prefix in ["/a b", "/a\nb", "/a?x=", "/%41", "//"] {
        candidates.push(json!({ "pathPrefix": prefix }));
    }
    for host in ["::1", "ns/foo", "a%b", "a?b", "a@b", "\u{e9}", "a\nb", "-", "a_b", "a|b", "127.1", "999.1.1.1", "a b"]
    {
        candidates.push(json!({ "service": host }));
    }
    for most in [1_u32, u32::MAX] {
        candidates.push(json!({ "includeRequestBodyInCheck": { "maxRequestBytes": most } }));
    }
    let mut taken = Vec::new();
    for (number, candidate) in candidates.iter().enumerate() {
        for kind in ["envoyExtAuthzHttp", "envoyExtAuthzGrpc"] {
            let mut settings = json!({ "service": "127.0.0.1", "port": 20_000 + 2 * taken.len() });
            settings.as_object_mut().unwrap().extend(candidate.as_object().unwrap().clone());
            let provider = json!({ "name": format!("p{number}-{}", kind.to_lowercase()), kind: settings });
            let mesh = folder(&[
                custom("p", provider["name"].as_str().unwrap(), &["/"]),
                json!({ "extensionProviders": [provider] }),
            ]);
            let mut render = Command::new(env!("CARGO_BIN_EXE_mesh-authz"));
            render.args(["render", "filters", text(mesh.path())]).args(OF_WORKLOAD);
            if render.output().unwrap().status.success() {
                taken.push(provider);
            }
        }
    }
    assert!(taken.len() > 60 && taken.len() < 2 * candidates.len() - 40, "{} of {}", taken.len(), candidates.len());
    let names = taken.iter().map(|provider| provider["name"].as_str().unwrap());
    let mut documents: Vec<_> =
        names.enumerate().map(|(n, name)| custom(&format!("p{n}"), name, &[&format!("/{n}")])).collect();
    documents.push(json!({ "extensionProviders": taken }));
    let files = folder(&documents);
    let (rendered, _) = render(&[&["filters", text(files.path()), "--wasm=filter.wasm"], &OF_WORKLOAD[..]].concat());
    let manager =
        http_connection_manager(rendered["http_filters"].as_array().unwrap(), &[bootstrap::direct_response(200, "")]);
    let listener = bootstrap::listener("inbound", manager, None);
    let bootstrap = bootstrap::bootstrap(&[listener], rendered["clusters"].as_array().unwrap());
    let envoy = Envoy::start_with(&bootstrap, &StartOptions::default().file("filter.wasm", wasm())).unwrap();
    assert_eq!(status(&envoy, &Request::get("/public")), 200);
}

/// The longest template that a policy may have is the longest one that Envoy takes.
#[test]
fn envoy_takes_the_longest_template() {
    let longest = format!("/{{*}}/{}/{{**}}", "a".repeat(250));
    let providers = Providers::start();
    let files = folder(&[custom("long", "login", &[&longest]), providers.mesh()]);
    let (rendered, _) = render(&[&["filters", text(files.path()), "--wasm=filter.wasm"], &OF_WORKLOAD[..2]].concat());
    let mut filters = rendered["http_filters"].as_array().unwrap().clone();
    let start = |filters: &[Value]| {
        let manager = http_connection_manager(filters, &[bootstrap::direct_response(200, "")]);
        let listener = bootstrap::listener("inbound", manager, None);
        bootstrap::bootstrap(&[listener], &providers.clusters())
    };
    let options = StartOptions::default().file("filter.wasm", wasm());
    let envoy = Envoy::start_with(&start(&filters), &options).unwrap();
    assert_eq!(status(&envoy, &request(&format!("/x/{}/y", "a".repeat(250)), false, false)), 401);
    let longer = Value::from(filters.clone()).to_string().replace(&"a".repeat(250), &"a".repeat(251));
    filters.clone_from(serde_json::from_str::<Value>(&longer).unwrap().as_array().unwrap());
    assert!(Envoy::start_refused_with(&start(&filters), &options).unwrap().contains("256"));
}
