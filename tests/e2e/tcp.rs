//! Connections through `envoy/database.yaml`, with an application that speaks first or answers.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use mesh_authz_cli::load::yaml;
use serde_json::{Value, json};
use testbed::ext_authz::v3::pb::CheckResponse;
use testbed::rpc;
use testbed::{Client, Envoy, GrpcAuthorizer, StartOptions, TcpApp, Tls, tells_once_a_connection};

use crate::rendered::{TLS_FILES, folder, start_rendered, text};
use crate::shared::resources;
use crate::sidecar::{FRONTEND, PATIENCE, STRANGER, authority, client_of, filter_lines, policy, project, wasm, when};

/// What the application says first.
const GREETING: &[u8] = b"220 ready\r\n";

/// A sidecar in front of an application that speaks TCP.
struct Database {
    envoy: Envoy,
    app: TcpApp,
}

/// A sidecar before it is started.
struct Blueprint {
    bootstrap: Value,
    app: TcpApp,
    module: Vec<u8>,
}

impl Blueprint {
    /// `envoy/database.yaml` with this plugin configuration.
    fn new(plugin_config: &Value, greeting: &'static [u8]) -> Self {
        let text = std::fs::read_to_string(project("envoy/database.yaml")).unwrap();
        let document = yaml::documents(&text).unwrap().remove(0);
        let mut bootstrap = serde_json::to_value(document).unwrap();
        let app = TcpApp::start(greeting).unwrap();
        let resources = &mut bootstrap["static_resources"];
        resources["listeners"][0]["address"]["socket_address"]["port_value"] = json!(0);
        resources["clusters"][0]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
            ["port_value"] = json!(app.address().port());
        let mut blueprint = Self { bootstrap, app, module: wasm() };
        blueprint.filter(1)["config"]["configuration"]["value"] = plugin_config.clone();
        blueprint
    }

    fn of(policies: &[Value], greeting: &'static [u8]) -> Self {
        Self::new(&json!({ "policies": policies, "allowNoneApplies": true }), greeting)
    }

    fn chain(&mut self) -> &mut Value {
        &mut self.bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]
    }

    /// The configuration of a network filter: 0 tells the peer, 1 is ours, 2 is `tcp_proxy`.
    fn filter(&mut self, position: usize) -> &mut Value {
        &mut self.chain()["filters"][position]["typed_config"]
    }

    fn plaintext(mut self) -> Self {
        self.chain().as_object_mut().unwrap().remove("transport_socket");
        // It would wait for the client to speak.
        self.bootstrap["static_resources"]["listeners"][0]["listener_filters"]
            .as_array_mut()
            .unwrap()
            .retain(|filter| filter["name"] != "envoy.filters.listener.tls_inspector");
        let proxy = self.filter(2).as_object_mut().unwrap();
        proxy.remove("upstream_connect_mode");
        proxy.remove("max_early_data_bytes");
        self
    }

    fn optional_client_certificate(mut self) -> Self {
        self.chain()["transport_socket"]["typed_config"]["require_client_certificate"] = json!(false);
        self
    }

    /// Connects to the application at once, as Envoy does by default.
    fn connecting_at_once(mut self) -> Self {
        let proxy = self.filter(2).as_object_mut().unwrap();
        proxy.remove("upstream_connect_mode");
        proxy.remove("max_early_data_bytes");
        self
    }

    /// Removes the listener, for a file that Envoy reads again each time it is replaced.
    fn take_listener(&mut self) -> Value {
        self.bootstrap["dynamic_resources"] = json!({ "lds_config": {
            "resource_api_version": "V3",
            "path_config_source": { "path": "./lds.json" },
        } });
        self.bootstrap["static_resources"]["listeners"].as_array_mut().unwrap().remove(0)
    }

    /// `None`: this Envoy does not have what the sidecar needs.
    fn start(self) -> Option<Database> {
        self.start_with(&[])
    }

    fn start_with(self, files: &[(&str, String)]) -> Option<Database> {
        if !tells_once_a_connection() {
            return None;
        }
        let own = authority().server("cluster.local/ns/default/sa/database").unwrap();
        let options = files.iter().fold(StartOptions::default(), |options, (name, text)| options.file(name, text));
        let options = options
            .file("mesh_authz.wasm", &self.module)
            .file("certs/ca.crt", authority().pem())
            .file("certs/database.crt", &own.cert_pem)
            .file("certs/database.key", &own.key_pem);
        let envoy = Envoy::start_with(&self.bootstrap, &options).unwrap();
        Some(Database { envoy, app: self.app })
    }
}

impl Database {
    fn address(&self) -> SocketAddr {
        self.envoy.address("inbound_tcp").unwrap()
    }

    fn client(&self, principal: &str) -> Client {
        client_of(self.address(), principal)
    }

    fn anonymous(&self) -> Client {
        Client::tls(self.address(), Tls::new(authority().pem()))
    }

    fn plain(&self) -> Client {
        Client::plain(self.address())
    }

    /// The decision log so far.
    fn decisions(&self) -> Vec<Value> {
        let lines = filter_lines(&self.envoy.log());
        lines.iter().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.envoy.log());
        }
    }
}

/// What a client gets that says this.
fn says(client: &Client, bytes: &[u8]) -> Vec<u8> {
    // A connection that is closed at once can fail in any step.
    let Ok(mut connection) = client.connect() else { return Vec::new() };
    let _closed = connection.write(bytes);
    // While a listener filter waits for data, Envoy takes the end of one half for the end of the connection.
    std::thread::sleep(Duration::from_millis(50));
    let _closed = connection.finish();
    connection.read_to_end().unwrap()
}

/// What a client gets that says nothing for a while.
fn listens(client: &Client) -> Vec<u8> {
    let patient = Client { timeout: Duration::from_millis(400), ..client.clone() };
    let Ok(mut connection) = patient.connect() else { return Vec::new() };
    let mut got = Vec::new();
    while let Ok(byte) = connection.read_exact(1) {
        got.extend(byte);
    }
    got
}

fn principals(action: &str, principal: &str) -> Value {
    policy("identity", action, &[json!({ "from": [{ "source": { "principals": [principal] } }] })])
}

const PASSED: &[u8] = b"SELECT 1;bye";

/// Every client, with the certificate of `FRONTEND` where it has one, and whether its identity is known.
fn clients(database: &Database) -> [(&'static str, Client); 2] {
    [("frontend", database.client(FRONTEND)), ("anonymous", database.anonymous())]
}

#[test]
fn who_is_allowed_gets_answers_and_who_is_not_gets_nothing() {
    for greeting in [b"".as_slice(), GREETING] {
        let Some(database) = Blueprint::of(&[principals("ALLOW", FRONTEND)], greeting).start() else { return };
        assert_eq!(says(&database.client(FRONTEND), b"SELECT 1;"), [greeting, PASSED].concat());
        assert_eq!(listens(&database.client(FRONTEND)), greeting);
        let received = database.app.received();
        assert_eq!(says(&database.client(STRANGER), b"SELECT 1;"), b"");
        // A client that only closes its half asks for something, too.
        assert_eq!(says(&database.client(STRANGER), b""), b"");
        assert_eq!(listens(&database.client(STRANGER)), b"");
        assert_eq!(database.app.received(), received, "the application got something");
    }
}

#[test]
fn what_the_application_says_first_passes_only_if_the_decision_is_allow() {
    // Without a certificate, a client has no identity: that is known when the handshake is over.
    let policies = [
        (principals("ALLOW", FRONTEND), [true, false]),
        (principals("DENY", FRONTEND), [false, true]),
        (policy("not", "ALLOW", &[json!({ "from": [{ "source": { "notPrincipals": [FRONTEND] } }] })]), [false, true]),
        (policy("not", "DENY", &[json!({ "from": [{ "source": { "notPrincipals": [FRONTEND] } }] })]), [true, false]),
        (policy("here", "ALLOW", &[json!({ "from": [{ "source": { "ipBlocks": ["127.0.0.0/8"] } }] })]), [true, true]),
        (
            policy("there", "ALLOW", &[json!({ "from": [{ "source": { "ipBlocks": ["10.0.0.0/8"] } }] })]),
            [false, false],
        ),
    ];
    for (policy, expected) in policies {
        let blueprint = Blueprint::of(std::slice::from_ref(&policy), GREETING).optional_client_certificate();
        let Some(database) = blueprint.start() else { return };
        for ((name, client), allowed) in clients(&database).into_iter().zip(expected) {
            let greeting = if allowed { GREETING } else { b"" };
            assert_eq!(listens(&client), greeting, "{name}: {policy}");
            let answer = if allowed { [GREETING, PASSED].concat() } else { Vec::new() };
            assert_eq!(says(&client, b"SELECT 1;"), answer, "{name}: {policy}");
        }
    }
}

/// Envoy may connect to the application before it knows the peer. Then what the application says first comes too early:
/// it passes only if the peer's identity does not count.
#[test]
fn a_greeting_before_the_handshake_reaches_nobody_whose_identity_decides() {
    let identity = Blueprint::of(&[principals("ALLOW", FRONTEND)], GREETING).connecting_at_once();
    let Some(database) = identity.start() else { return };
    // Envoy gets only the first half of the handshake.
    let stalled = Client { address: SlowPipe::start(database.address(), 1), ..database.client(FRONTEND) };
    assert_eq!(stalled.connect().unwrap().read_to_end().unwrap(), b"", "the connection is closed");
    let lines = database.decisions();
    assert_eq!(lines[0]["unreadable"], "source.principal", "{lines:?}");
    // The certificate of the client is not there yet.
    assert_eq!(lines[0]["principal"], Value::Null, "{lines:?}");

    let port = policy("port", "DENY", &[json!({ "to": [{ "operation": { "ports": ["1"] } }] })]);
    let Some(database) = Blueprint::of(&[port], GREETING).connecting_at_once().start() else { return };
    assert_eq!(listens(&database.client(STRANGER)), GREETING);
}

#[test]
fn without_tls_a_decision_comes_before_the_application_is_asked() {
    for greeting in [b"".as_slice(), GREETING] {
        let here = |action: &str, block: &str| {
            policy("address", action, &[json!({ "from": [{ "source": { "ipBlocks": [block] } }] })])
        };
        for (policy, allowed) in [
            (here("ALLOW", "127.0.0.0/8"), true),
            (here("ALLOW", "10.0.0.0/8"), false),
            (here("DENY", "127.0.0.0/8"), false),
            (here("DENY", "10.0.0.0/8"), true),
            (principals("ALLOW", "*"), false),
            (principals("DENY", "*"), true),
        ] {
            let Some(database) = Blueprint::of(std::slice::from_ref(&policy), greeting).plaintext().start() else {
                return;
            };
            let expected = if allowed { [greeting, PASSED].concat() } else { Vec::new() };
            assert_eq!(says(&database.plain(), b"SELECT 1;"), expected, "{policy}");
            assert_eq!(listens(&database.plain()), if allowed { greeting } else { b"" }, "{policy}");
            assert_eq!(database.app.connections(), if allowed { 2 } else { 0 }, "{policy}");
        }
    }
}

/// What identity cannot change is decided when the connection begins: the client does not get as far as a handshake.
#[test]
fn what_identity_cannot_change_is_decided_before_the_handshake() {
    let sni =
        policy("sni", "DENY", &[json!({ "when": [{ "key": "connection.sni", "values": ["secret.example.com"] }] })]);
    let Some(database) = Blueprint::of(&[sni, principals("ALLOW", FRONTEND)], b"").start() else { return };
    let named = |name: &str| {
        let tls = Tls::mutual(authority().pem(), &authority().spiffe(FRONTEND).unwrap()).server_name(name);
        Client::tls(database.address(), tls)
    };
    let error = named("secret.example.com").connect().err().expect("a handshake");
    assert!(format!("{error:#}").contains("handshake"), "{error:#}");
    assert_eq!(says(&named("public.example.com"), b"SELECT 1;"), PASSED);
    let lines = database.decisions();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["sni"], "secret.example.com");
    assert_eq!(database.app.connections(), 1);
}

/// Why `check --envoy` wants the listener filter: nothing else reads the server name, also where Envoy ends TLS. And Envoy
/// writes it in lower case, as `explain` does.
#[test]
fn only_the_tls_inspector_reads_the_server_name() {
    let sni = policy("sni", "DENY", &[when("connection.sni", &["secret.example.com"])]);
    for inspected in [true, false] {
        let mut blueprint = Blueprint::of(std::slice::from_ref(&sni), b"");
        if !inspected {
            blueprint.bootstrap["static_resources"]["listeners"][0]["listener_filters"] = json!([]);
        }
        let Some(database) = blueprint.start() else { return };
        for name in ["secret.example.com", "Secret.EXAMPLE.com"] {
            let tls = Tls::mutual(authority().pem(), &authority().spiffe(FRONTEND).unwrap()).server_name(name);
            let passes = says(&Client::tls(database.address(), tls), b"SELECT 1;") == PASSED;
            assert_eq!(passes, !inspected, "{name}, inspected: {inspected}");
        }
    }
}

/// What decides nothing keeps nothing open: a policy that is tried out asks for what is not known yet.
#[test]
fn a_dry_run_delays_no_denial() {
    let mut dry_run = policy("tried", "DENY", &[when("experimental.envoy.filters.a[b]", &["c"])]);
    dry_run["metadata"]["annotations"] = json!({ "istio.io/dry-run": "true" });
    let audit = policy("audited", "AUDIT", &[json!({ "from": [{ "source": { "principals": ["*"] } }] })]);
    let here = |block: &str| policy("a", "ALLOW", &[json!({ "from": [{ "source": { "ipBlocks": [block] } }] })]);
    for (block, passes) in [("10.0.0.0/8", false), ("127.0.0.0/8", true)] {
        let policies = [here(block), dry_run.clone(), audit.clone()];
        let Some(database) = Blueprint::of(&policies, b"").plaintext().start() else { return };
        assert_eq!(says(&database.plain(), b"SELECT 1;") == PASSED, passes);
        assert_eq!(database.app.connections(), u64::from(passes), "{block}");
    }
}

/// HTTP-only fields: a rule of ALLOW with one of them is left out; in DENY, the field is left out.
#[test]
fn a_policy_has_its_form_for_tcp() {
    let get = |action: &str, from: Value| {
        policy("get", action, &[json!({ "from": from, "to": [{ "operation": { "methods": ["GET"] } }] })])
    };
    let from = json!([{ "source": { "principals": [FRONTEND] } }]);
    for (policies, frontend, stranger) in [
        (vec![get("ALLOW", from.clone())], false, false),
        (vec![get("DENY", from.clone())], false, true),
        (vec![get("DENY", json!([{ "source": { "requestPrincipals": ["*"] } }]))], false, false),
        (vec![get("ALLOW", from.clone()), principals("ALLOW", FRONTEND)], true, false),
        (vec![policy("nothing", "ALLOW", &[])], false, false),
        (vec![principals("ALLOW", "*"), policy("all", "DENY", &[json!({})])], false, false),
    ] {
        let Some(database) = Blueprint::of(&policies, b"").start() else { return };
        let passes = |principal: &str| says(&database.client(principal), b"SELECT 1;") == PASSED;
        assert_eq!([passes(FRONTEND), passes(STRANGER)], [frontend, stranger], "{policies:?}");
    }
}

/// Logs, counters and the access log say of a connection what they say of a request.
#[test]
fn a_connection_is_reported_like_a_request() {
    let audit = policy("audited", "AUDIT", &[json!({ "from": [{ "source": { "principals": ["*"] } }] })]);
    let config = json!({
        "policies": [principals("ALLOW", FRONTEND), audit], "decisionLog": "all", "filterState": "all",
    });
    let Some(database) = Blueprint::new(&config, b"").start() else { return };
    assert_eq!(says(&database.client(FRONTEND), b"SELECT 1;"), PASSED);
    assert_eq!(says(&database.client(STRANGER), b"SELECT 1;"), b"");
    let lines = database.decisions();
    let [allowed, denied] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!([&allowed["decision"], &denied["decision"]], ["ALLOW", "DENY"]);
    assert_eq!([&allowed["policy"], &allowed["rule"]], [&json!("default/identity"), &json!(0)]);
    assert_eq!([&allowed["protocol"], &denied["protocol"]], ["tcp", "tcp"]);
    assert_eq!(denied["principal"], format!("spiffe://{STRANGER}"));
    assert_eq!(denied["source_ip"], "127.0.0.1");
    assert_eq!(denied["destination_port"], json!(database.address().port()));
    assert_eq!(denied["nearest"]["failed"], "from[0].source.principals");
    assert_eq!(denied["audited"], "ns[default]-policy[audited]-rule[0]");
    for absent in ["method", "host", "path"] {
        assert_eq!(denied.get(absent), None, "{absent}");
    }
    for (name, count) in [("allowed", 1), ("denied", 1), ("audited", 2), ("policy.default.identity.matched", 1)] {
        let name = format!("wasmcustom.mesh_authz.{name}");
        database.envoy.wait_for_stat(&name, |value| value == count, PATIENCE).unwrap();
    }
    // The access log: `tcp_proxy` writes it when the connection has ended.
    let of_stranger = r#"\"decision\":\"DENY\""#;
    database.envoy.wait_for_log(of_stranger, PATIENCE).unwrap();
    let log = database.envoy.log();
    let line = log.lines().find(|line| line.starts_with('{') && line.contains(of_stranger)).unwrap();
    assert!(line.contains(STRANGER) && line.contains(r#""sent":0"#), "{line}");
}

/// Nothing is decided twice: a connection lasts as long as it likes, and the timer of the filter does not harm it.
#[test]
fn a_connection_that_is_allowed_stays_open_and_is_decided_once() {
    let Some(database) = Blueprint::of(&[principals("ALLOW", FRONTEND)], GREETING).start() else { return };
    let mut connections: Vec<_> = (0..50).map(|_| database.client(FRONTEND).connect().unwrap()).collect();
    for _ in 0..3 {
        for connection in &mut connections {
            connection.write(b"ping").unwrap();
        }
        std::thread::sleep(Duration::from_millis(1_200));
    }
    for connection in &mut connections {
        let expected = [GREETING, b"pingpingping"].concat();
        assert_eq!(connection.read_exact(expected.len()).unwrap(), expected);
    }
    let allowed = "wasmcustom.mesh_authz.allowed";
    assert_eq!(database.envoy.wait_for_stat(allowed, |count| count >= 50, PATIENCE).unwrap(), 50);
}

/// A client that is slow to send its TLS handshake, byte by byte, gets nothing before it is over.
#[test]
fn a_slow_handshake_is_no_way_around() {
    let Some(database) = Blueprint::of(&[principals("ALLOW", FRONTEND)], GREETING).start() else { return };
    for (principal, expected) in [(FRONTEND, GREETING), (STRANGER, b"")] {
        let slow = SlowPipe::start(database.address(), usize::MAX);
        let client = Client { address: slow, ..database.client(principal) };
        assert_eq!(listens(&client), expected, "{principal}");
    }
}

/// Forwards each byte of a client by itself, of so many records of TLS.
struct SlowPipe;

impl SlowPipe {
    fn start(to: SocketAddr, records: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut server = TcpStream::connect(to).unwrap();
            server.set_nodelay(true).unwrap();
            let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || {
                let _closed = std::io::copy(&mut from_server, &mut to_client);
                let _closed = to_client.shutdown(Shutdown::Both);
            });
            for _ in 0..records {
                let mut record = vec![0; 5];
                if client.read_exact(&mut record).is_err() {
                    return;
                }
                let length = u16::from_be_bytes([record[3], record[4]]);
                record.resize(5 + usize::from(length), 0);
                client.read_exact(&mut record[5..]).unwrap();
                for byte in record {
                    if server.write_all(&[byte]).is_err() {
                        return;
                    }
                    std::thread::sleep(Duration::from_micros(300));
                }
            }
            // The client stays connected.
            let _closed = client.read_to_end(&mut Vec::new());
        });
        address
    }
}

/// Behind a load balancer that uses the PROXY protocol, `ipBlocks` is about the load balancer, and `remoteIpBlocks` about
/// its client.
#[test]
fn the_proxy_protocol_tells_the_client_and_not_the_peer() {
    for (field, block, allowed) in [
        ("ipBlocks", "127.0.0.1", true),
        ("ipBlocks", "203.0.113.7", false),
        ("remoteIpBlocks", "203.0.113.7", true),
        ("remoteIpBlocks", "127.0.0.1", false),
    ] {
        let policy = policy("address", "ALLOW", &[json!({ "from": [{ "source": { field: [block] } }] })]);
        for plaintext in [false, true] {
            let mut blueprint = Blueprint::of(std::slice::from_ref(&policy), GREETING);
            let proxied = json!({
                "name": "envoy.filters.listener.proxy_protocol",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
                },
            });
            let listener = &mut blueprint.bootstrap["static_resources"]["listeners"][0];
            listener["listener_filters"].as_array_mut().unwrap().insert(0, proxied);
            let blueprint = if plaintext { blueprint.plaintext() } else { blueprint };
            let Some(database) = blueprint.start() else { return };
            let client = if plaintext { database.plain() } else { database.client(STRANGER) };
            let client = client.proxied("203.0.113.7:4000".parse().unwrap(), "198.51.100.1:5432".parse().unwrap());
            let expected = if allowed { [GREETING, PASSED].concat() } else { Vec::new() };
            assert_eq!(says(&client, b"SELECT 1;"), expected, "{field} {block}, plaintext: {plaintext}");
        }
    }
}

/// In every failure, nothing passes.
#[test]
fn a_filter_that_fails_lets_no_connection_pass() {
    let refused = json!({ "policies": 5, "onInvalid": "deny" });
    let Some(database) = Blueprint::new(&refused, GREETING).start() else { return };
    assert_eq!(says(&database.client(FRONTEND), b"SELECT 1;"), b"");
    assert_eq!(listens(&database.client(FRONTEND)), b"");
    assert_eq!(database.app.received(), b"");
    database.envoy.wait_for_log("mesh_authz_configuration_refused", PATIENCE).unwrap();

    // A module that traps.
    let mut blueprint = Blueprint::of(&[principals("ALLOW", FRONTEND)], GREETING);
    blueprint.module = trapping();
    let Some(database) = blueprint.start() else { return };
    for _ in 0..2 {
        assert_eq!(says(&database.client(FRONTEND), b"SELECT 1;"), b"");
        assert_eq!(listens(&database.client(FRONTEND)), b"");
    }
    assert_eq!(database.app.received(), b"");
}

/// A module whose callbacks for connections trap.
fn trapping() -> Vec<u8> {
    let text = r#"(module
        (memory (export "memory") 1)
        (func (export "_initialize"))
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "proxy_on_memory_allocate") (param i32) (result i32) unreachable)
        (func (export "proxy_on_vm_start") (param i32 i32) (result i32) i32.const 1)
        (func (export "proxy_on_configure") (param i32 i32) (result i32) i32.const 1)
        (func (export "proxy_on_context_create") (param i32 i32))
        (func (export "proxy_on_new_connection") (param i32) (result i32) unreachable)
        (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32) unreachable)
        (func (export "proxy_on_upstream_data") (param i32 i32 i32) (result i32) unreachable))"#;
    wat::parse_str(text).unwrap()
}

/// An update of the policies is for new connections. An open one goes on as it was decided, as with Envoy's own filter.
#[test]
fn an_update_is_for_new_connections() {
    let mut blueprint = Blueprint::of(&[principals("ALLOW", FRONTEND)], b"");
    let listener = blueprint.take_listener();
    let Some(database) = blueprint.start_with(&[("lds.json", resources(std::slice::from_ref(&listener)))]) else {
        return;
    };
    database.envoy.address("inbound_tcp").unwrap();
    let mut open = database.client(FRONTEND).connect().unwrap();
    open.write(b"one").unwrap();
    assert_eq!(open.read_exact(3).unwrap(), b"one");
    let mut undecided = database.client(FRONTEND).connect().unwrap();

    let mut updated = listener;
    let plugin = &mut updated["filter_chains"][0]["filters"][1]["typed_config"]["config"]["configuration"]["value"];
    plugin["policies"] = json!([principals("ALLOW", STRANGER)]);
    database.envoy.write_file_atomically("lds.json", resources(&[updated])).unwrap();
    database.envoy.wait_for_stat("listener_manager.listener_in_place_updated", |count| count == 1, PATIENCE).unwrap();
    let begin = std::time::Instant::now();
    while says(&database.client(STRANGER), b"SELECT 1;") != PASSED {
        assert!(begin.elapsed() < PATIENCE, "the update has no effect");
    }
    assert_eq!(says(&database.client(FRONTEND), b"SELECT 1;"), b"");
    open.write(b"two").unwrap();
    assert_eq!(open.read_exact(3).unwrap(), b"two");
    // Its chain has the policies from before, until it is drained.
    undecided.write(b"two").unwrap();
    assert_eq!(undecided.read_exact(3).unwrap(), b"two");
}

/// One configuration is for both kinds of filter, also in one virtual machine.
#[test]
fn a_module_serves_requests_and_connections() {
    let policies = [
        policy(
            "get",
            "ALLOW",
            &[json!({
                "from": [{ "source": { "principals": [FRONTEND] } }], "to": [{ "operation": { "methods": ["GET"] } }],
            })],
        ),
        principals("ALLOW", STRANGER),
    ];
    let mut blueprint = Blueprint::of(&policies, b"");
    let mut http = blueprint.bootstrap["static_resources"]["listeners"][0].clone();
    http["name"] = json!("inbound");
    let ours = http["filter_chains"][0]["filters"][1]["typed_config"]["config"].clone();
    let wasm = json!({
        "name": "mesh_authz",
        "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm", "config": ours },
    });
    let answer = testbed::bootstrap::direct_response(200, "passed");
    let manager = testbed::bootstrap::http_connection_manager(&[wasm], &[answer]);
    let filters = http["filter_chains"][0]["filters"].as_array_mut().unwrap();
    filters.splice(1.., [manager]);
    blueprint.bootstrap["static_resources"]["listeners"].as_array_mut().unwrap().push(http);
    let Some(database) = blueprint.start() else { return };
    let requests = |principal: &str| client_of(database.envoy.address("inbound").unwrap(), principal);
    for _ in 0..3 {
        assert_eq!(requests(FRONTEND).send(&testbed::Request::get("/")).unwrap().status, 200);
        assert_eq!(requests(FRONTEND).send(&testbed::Request::new("POST", "/")).unwrap().status, 403);
        assert_eq!(requests(STRANGER).send(&testbed::Request::new("POST", "/")).unwrap().status, 200);
        assert_eq!(says(&database.client(FRONTEND), b"SELECT 1;"), b"");
        assert_eq!(says(&database.client(STRANGER), b"SELECT 1;"), PASSED);
    }
}

/// What `render envoy --listen-tcp` prints for these policies, started in front of an application.
fn rendered(documents: &[Value], app: &TcpApp, more: &[&str]) -> Envoy {
    let files = folder(documents);
    let upstream = format!("127.0.0.1:{}", app.address().port());
    let arguments =
        [text(files.path()), "--namespace=default", "--no-labels", "--listen-tcp=127.0.0.1:0", "--upstream"];
    start_rendered(&[&arguments[..], &[&upstream], more].concat()).0
}

#[test]
fn a_rendered_listener_is_the_shipped_one() {
    if !tells_once_a_connection() {
        return;
    }
    let app = TcpApp::start(GREETING).unwrap();
    let envoy = rendered(&[principals("ALLOW", FRONTEND)], &app, &TLS_FILES);
    let client = |principal: &str| client_of(envoy.address("inbound_tcp").unwrap(), principal);
    assert_eq!(says(&client(FRONTEND), b"SELECT 1;"), [GREETING, PASSED].concat());
    assert_eq!(listens(&client(STRANGER)), b"");

    let here = policy("here", "ALLOW", &[json!({ "from": [{ "source": { "ipBlocks": ["127.0.0.1"] } }] })]);
    let envoy = rendered(&[here], &app, &["--plaintext"]);
    let plain = Client::plain(envoy.address("inbound_tcp").unwrap());
    assert_eq!(says(&plain, b"SELECT 1;"), [GREETING, PASSED].concat());
    let reached = app.connections();
    assert_eq!(listens(&plain.from_ip([127, 0, 0, 2])), b"");
    assert_eq!(app.connections(), reached);
}

/// As in Istio: a provider over gRPC is asked about a connection, and one over HTTP is not.
#[test]
fn a_provider_over_grpc_is_asked_about_a_connection() {
    if !tells_once_a_connection() {
        return;
    }
    let mut custom = policy(
        "ask",
        "CUSTOM",
        &[json!({
            "from": [{ "source": { "notIpBlocks": ["127.0.0.9"] } }], "to": [{ "operation": { "methods": ["GET"] } }],
        })],
    );
    custom["spec"]["provider"] = json!({ "name": "provider" });
    let provider = GrpcAuthorizer::start(|question| {
        let source = question.attributes.as_ref().and_then(|all| all.source.as_ref());
        let address = format!("{:?}", source.and_then(|source| source.address.as_ref()));
        let code = if address.contains("127.0.0.3") { 0 } else { 7 };
        Ok(CheckResponse { status: Some(rpc::Status { code, ..rpc::Status::default() }), ..CheckResponse::default() })
    });
    let provider = provider.unwrap();
    for (kind, expected) in [("envoyExtAuthzGrpc", [false, true, true]), ("envoyExtAuthzHttp", [true, true, true])] {
        let service = json!({ "service": "localhost", "port": provider.address().port() });
        let mesh = json!({ "extensionProviders": [{ "name": "provider", (kind): service }] });
        let app = TcpApp::start(b"").unwrap();
        let envoy = rendered(&[custom.clone(), mesh], &app, &["--plaintext", "--allow", "MA030"]);
        let client = |last: u8| Client::plain(envoy.address("inbound_tcp").unwrap()).from_ip([127, 0, 0, last]);
        let passes = [2, 3, 9].map(|last| says(&client(last), b"SELECT 1;") == PASSED);
        assert_eq!(passes, expected, "{kind}\n{}", envoy.log());
    }
    assert_eq!(provider.questions().len(), 2);
}
