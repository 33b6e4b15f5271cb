//! Sends every request of the project's own test files through Envoy. Envoy must give the result that `mesh-authz test`
//! reports.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use mesh_authz::engine::Verdict;
use mesh_authz::policy::Traffic;
use mesh_authz_cli::lint::PathNormalization;
use mesh_authz_cli::load::request_authentication::SPACE_DELIMITED;
use mesh_authz_cli::render::{self, FilterSettings};
use mesh_authz_cli::testfile::{RequestFields, Test, TestFile};
use serde_json::{Value, json};
use testbed::{Client, Request, Response, Tls, tells_once_a_connection};

use crate::jwt::{issuer, jwt_authn};
use crate::sidecar::{Blueprint, DENIED_BY_NONE, PATIENCE, Sidecar, authority, filter_lines, project};

/// The headers that carry the token and the direct peer's address. They are added to the headers of the test's request.
const TOKEN: &str = "x-test-token";
const SOURCE_IP: &str = "x-test-source-ip";

fn files() -> Vec<PathBuf> {
    let examples =
        folder("examples").into_iter().filter(|path| path.is_dir()).flat_map(|dir| yaml_files(&dir, "tests"));
    let cases = yaml_files(&project("tests/cases"), "");
    let own = yaml_files(&project("tests/e2e/every_field"), "tests");
    let mut files: Vec<_> = examples.chain(cases).chain(own).collect();
    files.sort();
    assert!(files.iter().any(|file| file.starts_with(project("examples"))), "no test file in examples/");
    files
}

fn folder(path: &str) -> Vec<PathBuf> {
    fs::read_dir(project(path)).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

fn yaml_files(folder: &PathBuf, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let wanted = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with(prefix) && path.extension().is_some_and(|extension| extension == "yaml")
    };
    entries.filter(wanted).collect()
}

/// The reason why a connection cannot be opened as it is written; `None` if it can be.
fn cannot_be_opened(connection: &RequestFields) -> Option<&'static str> {
    if !tells_once_a_connection() {
        Some("this Envoy does not tell the peer of a connection")
    } else if !connection.metadata.is_empty() {
        Some("no network filter sets any metadata that a test wants")
    } else if !connection.providers.is_empty() {
        Some("its provider is not there")
    } else {
        None
    }
}

/// The reason why a request cannot be sent as it is written; `None` if it can be sent.
fn cannot_be_sent(request: &RequestFields) -> Option<&'static str> {
    if request.traffic() == Traffic::Tcp {
        return cannot_be_opened(request);
    }
    let visible = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    let families = [request.remote_ip.or(request.source_ip), request.destination_ip];
    let families: Vec<_> = families.into_iter().flatten().map(|ip| ip.is_ipv4()).collect();
    if request.path().contains('#') {
        Some("Envoy refuses a path with a fragment")
    } else if !request.providers.is_empty() {
        Some("its provider is asked in `login` and `providers`")
    } else if request.method() == "CONNECT" {
        Some("a CONNECT has no path")
    } else if !visible(request.path()) || !visible(request.method()) || !visible(request.host()) {
        Some("HTTP/1.1 has no way to write it")
    } else if request.headers.iter().any(|(name, _)| name.starts_with(':') || name.eq_ignore_ascii_case("host")) {
        Some("a pseudo-header is not a header over HTTP/1.1")
    } else if families.contains(&true) && families.contains(&false) {
        Some("a connection has one family of addresses")
    } else {
        None
    }
}

/// The listener for those tests of a file that have this dynamic metadata.
fn listener(file: &TestFile, metadata: &[(String, Value)]) -> Value {
    // In some files no policy applies, to test just that.
    let settings = FilterSettings { allow_none_applies: true, ..FilterSettings::default() };
    let config = render::plugin_config(&file.set.resources, &(&file.set.workload).into(), &file.set.mesh, settings);
    let mut config = serde_json::to_value(config).unwrap();
    config["decisionLog"] = json!("all");
    config["decisionLogRate"] = json!(1_000_000);
    let mut jwt = jwt_authn();
    let provider = &mut jwt["typed_config"]["providers"]["test"];
    provider["from_headers"] = json!([{ "name": TOKEN }]);
    let authentications = file.set.resources.request_authentications.iter();
    let rules = authentications.flat_map(|found| &found.authentication.rules);
    let claims = rules.flat_map(|rule| rule.space_delimited_claims.iter().map(String::as_str)).chain(SPACE_DELIMITED);
    provider["normalize_payload_in_metadata"] = json!({ "space_delimited_claims": claims.collect::<BTreeSet<_>>() });
    let paths = file.set.envoy.path_normalization.unwrap_or_default();
    let is_decoded = paths == PathNormalization::DecodeAndMergeSlashes;
    let escaped = if is_decoded { "UNESCAPE_AND_FORWARD" } else { "KEEP_UNCHANGED" };
    let set: Vec<_> =
        metadata.iter().map(|(filter, value)| json!({ "metadata_namespace": filter, "value": value })).collect();
    let mut blueprint = Blueprint::new(&config)
        .without_source_ip()
        .filter(source_ip_from_header())
        .filter(jwt)
        .filter(json!({
            "name": "envoy.filters.http.set_metadata",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.set_metadata.v3.Config",
                "metadata": set,
            },
        }))
        // Paths are normalized as the file says, and the addresses are those of the test.
        .setting("normalize_path", json!(paths >= PathNormalization::Base))
        .setting("merge_slashes", json!(paths >= PathNormalization::MergeSlashes))
        .setting("path_with_escaped_slashes_action", json!(escaped))
        .proxy_protocol()
        .optional_client_certificate()
        .answering_by_itself()
        .telling_details();
    let chains = blueprint.listener()["filter_chains"].as_array_mut().unwrap();
    chains[0]["filter_chain_match"] = json!({ "transport_protocol": "tls" });
    let mut plaintext = chains[0].clone();
    plaintext["filter_chain_match"] = json!({ "transport_protocol": "raw_buffer" });
    plaintext.as_object_mut().unwrap().remove("transport_socket");
    chains.push(plaintext);
    blueprint.listener().clone()
}

/// The listener for those tests of a file that are about connections from this address. What passes is sent back.
fn tcp_listener(file: &TestFile, source_ip: Option<IpAddr>) -> Value {
    let mut listener = listener(file, &[]);
    let told = source_ip.map_or_else(|| "-".to_owned(), |ip| ip.to_string());
    for chain in listener["filter_chains"].as_array_mut().unwrap() {
        let http_filters = chain["filters"][0]["typed_config"]["http_filters"].as_array().unwrap().clone();
        let ours = http_filters.into_iter().find(|filter| filter["name"] == "mesh_authz").unwrap();
        let network = |name: &str, kind: &str, mut config: Value| {
            config["@type"] = json!(format!("type.googleapis.com/envoy.extensions.filters.network.{kind}"));
            json!({ "name": name, "typed_config": config })
        };
        let peer = format!("{told}\n%DOWNSTREAM_LOCAL_PORT%\n%DOWNSTREAM_PEER_URI_SAN%");
        chain["filters"] = json!([
            network(
                "peer",
                "set_filter_state.v3.Config",
                json!({ "on_downstream_tls_handshake": [{
                "object_key": "mesh_authz.peer",
                "factory_key": "envoy.string",
                "format_string": { "omit_empty_values": true, "text_format_source": { "inline_string": peer } },
            }] })
            ),
            network("mesh_authz", "wasm.v3.Wasm", json!({ "config": ours["typed_config"]["config"] })),
            network("envoy.filters.network.echo", "echo.v3.Echo", json!({})),
        ]);
    }
    listener
}

fn source_ip_from_header() -> Value {
    json!({
        "name": "envoy.filters.http.set_filter_state",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config",
            "on_request_headers": [{
                "object_key": "mesh_authz.source_ip",
                "factory_key": "envoy.string",
                "skip_if_empty": true,
                "format_string": {
                    "text_format_source": { "inline_string": format!("%REQ({SOURCE_IP})%") },
                    "omit_empty_values": true,
                },
            }],
        },
    })
}

fn metadata_of(test: &Test) -> Vec<(String, Value)> {
    let entries = test.request.metadata.iter();
    entries.map(|(filter, node)| (filter.clone(), serde_json::to_value(node).unwrap())).collect()
}

fn client(request: &RequestFields, address: SocketAddr) -> Client {
    let mut client = Client::plain(address);
    if request.principal.is_some() || request.sni.is_some() {
        let mut tls = Tls::new(authority().pem());
        tls.certificate = request.principal.as_deref().map(|id| authority().spiffe(id).unwrap());
        tls.server_name.clone_from(&request.sni);
        client.tls = Some(tls);
    }
    let remote = request.remote_ip.or(request.source_ip);
    let like = remote.or(request.destination_ip).unwrap_or(Ipv4Addr::LOCALHOST.into());
    let unspecified: IpAddr = if like.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
    client.proxied(
        SocketAddr::new(remote.unwrap_or(unspecified), 40_000),
        SocketAddr::new(request.destination_ip.unwrap_or(unspecified), request.destination_port.unwrap_or(1)),
    )
}

fn http_request(fields: &RequestFields) -> Request {
    let mut request = Request::new(fields.method(), fields.path()).host(fields.host());
    for (name, value) in &fields.headers {
        request = request.header(name, value);
    }
    if let Some(ip) = fields.source_ip {
        request = request.header(SOURCE_IP, ip.to_string());
    }
    if let Some(claims) = &fields.jwt {
        let claims = serde_json::to_value(claims).unwrap();
        request = request.header(TOKEN, issuer().token(&claims).unwrap());
    }
    request
}

/// Sends the request of a test. `Err` says what is not as expected.
fn run(sidecar: &Sidecar, address: SocketAddr, test: &Test) -> Result<(), String> {
    let mark = sidecar.envoy.log_mark();
    let got = match test.request.traffic() {
        Traffic::Http => {
            let response = client(&test.request, address).send(&http_request(&test.request));
            Got::Response(response.map_err(|e| e.to_string())?)
        }
        Traffic::Tcp => Got::Echo(echo(&client(&test.request, address))),
    };
    sidecar.envoy.wait_for_log_since(mark, "{\"decision\"", PATIENCE).map_err(|e| e.to_string())?;
    let lines = filter_lines(&sidecar.envoy.log_since(mark));
    let line = lines.iter().find(|line| line.starts_with('{')).unwrap();
    let line: Value = serde_json::from_str(line).map_err(|e| format!("{e}: {line}"))?;
    let decided = outcome(&got, &line)?;
    let policy = line["policy"].as_str().unwrap_or("none");
    let rule = line["rule"].as_u64().map(|rule| usize::try_from(rule).unwrap());
    let expect = &test.expect;
    let as_expected = decided == expect.decision
        && expect.policy.as_ref().is_none_or(|expected| expected == policy)
        && expect.rule.is_none_or(|expected| rule == Some(expected));
    if as_expected { Ok(()) } else { Err(format!("expected {expect}, and Envoy says {line}")) }
}

/// What a client gets.
enum Got {
    Response(Response),
    /// Of a connection: whether Envoy sends back what it gets.
    Echo(bool),
}

/// Whether a client gets back what it sends. If not, it gets nothing.
fn echo(client: &Client) -> bool {
    // The TLS inspector waits for as many bytes as a record of TLS begins with.
    const SENT: &[u8] = b"ping, and more";
    let Ok(mut connection) = client.connect() else { return false };
    let _closed = connection.write(SENT);
    connection.read_exact(SENT.len()).is_ok_and(|answer| answer == SENT)
}

/// The verdict on the request. The status, the response code details and the decision log must agree on it.
fn outcome(got: &Got, line: &Value) -> Result<Verdict, String> {
    let response = match got {
        Got::Response(response) => response,
        Got::Echo(passes) if line["protocol"] == "tcp" && *passes == (line["decision"] == "ALLOW") => {
            return Ok(if *passes { Verdict::Allow } else { Verdict::Deny });
        }
        Got::Echo(passes) => return Err(format!("passes: {passes}, which does not agree with {line}")),
    };
    let details = response.header("x-details").unwrap_or_default();
    let (verdict, expected) = match (line["policy"].as_str(), line["rule"].as_u64()) {
        _ if line["decision"] == "ALLOW" => (Verdict::Allow, (200, "direct_response".to_owned())),
        (Some(policy), Some(rule)) => {
            let (namespace, name) = policy.split_once('/').unwrap();
            let details = format!("rbac_access_denied_matched_policy[ns[{namespace}]-policy[{name}]-rule[{rule}]]");
            (Verdict::Deny, (403, details))
        }
        _ => (Verdict::Deny, (403, DENIED_BY_NONE.to_owned())),
    };
    let got = (response.status, details);
    if got == expected { Ok(verdict) } else { Err(format!("{got:?} does not agree with {line}")) }
}

/// The requests to send, each with its file and the name of its listener, and the requests that cannot be sent, each
/// with the reason.
#[derive(Default)]
struct Plan<'f> {
    listeners: Vec<Value>,
    planned: Vec<(String, &'f TestFile, &'f Test)>,
    skipped: Vec<String>,
}

impl<'f> Plan<'f> {
    fn new(files: &'f [TestFile]) -> Self {
        let mut plan = Self::default();
        for file in files {
            // All tests of the file with the same dynamic metadata share one listener.
            let mut groups: Vec<(Vec<(String, Value)>, String)> = Vec::new();
            let mut of_connections: Vec<(Option<IpAddr>, String)> = Vec::new();
            for test in &file.tests {
                if let Some(reason) = cannot_be_sent(&test.request) {
                    plan.skipped.push(format!("{}: {}: {reason}", file.source.file.display(), test.name));
                    continue;
                }
                if test.request.traffic() == Traffic::Tcp {
                    let source_ip = test.request.source_ip;
                    let known = of_connections.iter().find(|(ip, _)| *ip == source_ip).map(|(_, name)| name.clone());
                    let name = known.unwrap_or_else(|| {
                        let name = plan.add_listener(tcp_listener(file, source_ip));
                        of_connections.push((source_ip, name.clone()));
                        name
                    });
                    plan.planned.push((name, file, test));
                    continue;
                }
                let metadata = metadata_of(test);
                let known = groups.iter().find(|(group, _)| *group == metadata).map(|(_, name)| name.clone());
                let name = known.unwrap_or_else(|| {
                    let name = plan.add_listener(listener(file, &metadata));
                    groups.push((metadata, name.clone()));
                    name
                });
                plan.planned.push((name, file, test));
            }
        }
        plan
    }

    fn add_listener(&mut self, mut listener: Value) -> String {
        let name = format!("listener-{}", self.listeners.len());
        listener["name"] = json!(name);
        self.listeners.push(listener);
        name
    }

    /// Sends all requests through one Envoy. Returns what is not as expected.
    fn run(&self) -> Vec<String> {
        let mut blueprint = Blueprint::new(&json!({ "policies": [] }));
        blueprint.bootstrap["static_resources"]["listeners"] = json!(self.listeners);
        let sidecar = blueprint.start();
        let failure = |(listener, file, test): &(String, &TestFile, &Test)| {
            let problem = run(&sidecar, sidecar.envoy.address(listener).unwrap(), test).err()?;
            Some(format!("{}: {}: {problem}", file.source.file.display(), test.name))
        };
        self.planned.iter().filter_map(failure).collect()
    }
}

fn read(files: &[PathBuf]) -> Vec<TestFile> {
    files.iter().map(|file| TestFile::read(file).unwrap_or_else(|error| panic!("{error}"))).collect()
}

#[test]
fn every_request_of_every_test_file_meets_its_expectation_in_envoy() {
    let files = read(&files());
    let plan = Plan::new(&files);
    let failures = plan.run();
    println!("{} requests of {} files sent; not sent:\n{}", plan.planned.len(), files.len(), plan.skipped.join("\n"));
    assert!(failures.is_empty(), "{} requests end otherwise:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn hardly_any_request_of_a_test_file_cannot_be_sent() {
    let files = read(&files());
    if !tells_once_a_connection() {
        return;
    }
    let skipped = Plan::new(&files).skipped;
    let requests: usize = files.iter().map(|file| file.tests.len()).sum();
    // If you add a request that cannot be sent, change this number.
    assert_eq!(skipped.len(), SKIPPED, "of {requests} requests:\n{}", skipped.join("\n"));
}

/// The number of requests in all files that cannot be sent as they are written: those of examples/login with a provider.
const SKIPPED: usize = 6;

#[test]
fn an_expectation_that_is_not_met_is_noticed() {
    let mut files = read(&[project("examples/tutorial/tests.yaml")]);
    let tests = &mut files[0].tests;
    let count = tests.len();
    for (index, test) in tests.iter_mut().enumerate() {
        let expect = &mut test.expect;
        match index {
            0 => expect.rule = Some(1),
            1 => expect.policy = Some("default/allow-frontend-get-data".to_owned()),
            _ => expect.decision = if expect.decision == Verdict::Allow { Verdict::Deny } else { Verdict::Allow },
        }
    }
    assert_eq!(Plan::new(&files).run().len(), count);
}
