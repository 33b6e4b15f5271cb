//! Compares what the command decides about a raw request with what the filter decides in Envoy, under several settings.
//!
//! The command makes of a request what Envoy would show the filter ([`mesh_authz_cli::received`]). Here, the same request
//! is sent as it is, over HTTP/1.1 or HTTP/2, and both must decide alike. Also a request that Envoy itself refuses must be
//! known to be one.
//!
//! `make test` compares some thousand requests. `make differential COUNT=200000` compares as many as that.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use fastrand::Rng;
use mesh_authz::config::Mesh;
use mesh_authz::policy::Traffic;
use mesh_authz::policy::scope::Workload;
use mesh_authz::request::headers::JOINED;
use mesh_authz_cli::lint::PathNormalization;
use mesh_authz_cli::load::Resources;
use mesh_authz_cli::load::finding::SourceText;
use mesh_authz_cli::load::policy_set::PolicySet;
use mesh_authz_cli::received::{HostPort, Known, Protocol, Settings, Way, received};
use mesh_authz_cli::testfile::RequestFields;
use serde_json::{Value, json};
use testbed::bootstrap::{bootstrap, direct_response, http_connection_manager, listener};
use testbed::{Client, Connection, Envoy, Http2Connection, Http2Request, Issuer, Request, Response, StartOptions};

use crate::arena;
use crate::logged::{self, Replayed};
use crate::vocabulary::pick;

const LISTENERS: usize = 24;
const REQUESTS_OF_A_LISTENER: usize = 125;
const TOKEN: &str = "x-test-token";

const SEGMENTS: [&str; 42] = [
    "admin",
    "admin",
    "admin",
    "public",
    "public",
    "a",
    "b",
    "..",
    "..",
    "..",
    ".",
    "%2e",
    "%2E%2e",
    ".%2E",
    "..;",
    "..;x=1",
    ".;",
    "%2e%2e;",
    "..%3b",
    "...",
    "..x",
    "%61dmin",
    "ad%6Din",
    "%2F",
    "%2f..",
    "%5c",
    "%5C..%5Cadmin",
    "",
    "a;b",
    "{x}",
    "\"q\"",
    "<a>",
    "^",
    "`",
    "a|b",
    "%7Bx%7D",
    "%zz",
    "%",
    "%4",
    "%7e",
    "%252e",
    "é",
];
const ODD_PATHS: [&str; 17] = [
    "http://u@a.example/admin",
    "http:///admin",
    "http://a.example?x",
    "https://a.example/admin#b",
    "ftp://a.example/admin",
    "",
    "*",
    "a",
    "/a#b",
    "/a?b#c",
    "/%00",
    "/a b",
    "//",
    "///",
    "/%2f%2F",
    "http://a.example/x/../admin?q",
    "HTTP://b.example:80",
];
const POLICY_PATHS: [&str; 26] = [
    "/",
    "//",
    "/admin",
    "/admin",
    "/admin*",
    "/admin/*",
    "*/admin",
    "/public*",
    "/public/*",
    "//admin",
    "/a/b",
    "/admin/",
    "*",
    "/{*}/admin",
    "/public/{**}",
    "/{**}",
    "/a/{*}/b",
    "/%7Bx%7D",
    "/{**}/x",
    "*;",
    "/..;*",
    "/%2Fadmin",
    "/%2fadmin",
    "/a;b",
    "/~",
    "/%C3%A9",
];
const HOSTS: [&str; 18] = [
    "a b",
    "a/b",
    "a_b",
    "a|b",
    "a.example",
    "a.example",
    "A.example",
    "a.example.",
    "a.example:80",
    "a.example:8080",
    "[::1]:8080",
    "a.example.:80",
    "u@a.example",
    "b.example",
    "[::1]",
    "[::1]:80",
    "a.example..",
    "10.0.0.1",
];
const POLICY_HOSTS: [&str; 10] = [
    "a.example",
    "a.example:*",
    "*.example",
    "a.example.",
    "A.EXAMPLE",
    "[::1]",
    "b.example",
    "a.example:80",
    "*",
    "10.0.0.1*",
];
const NAMES: [&str; 24] = [
    "x-role",
    "X-Role",
    "cookie",
    "Cookie",
    "te",
    "keep-alive",
    "x-envoy-internal",
    "x-envoy-original-path",
    "x-envoy-max-retries",
    "x-envoy-attempt-count",
    "x-envoy-decorator-operation",
    "x-real-ip",
    "x-forwarded-port",
    "date",
    "range",
    "max-forwards",
    "x-b3-traceid",
    "proxy-authorization",
    "x-forwarded-proto",
    "x-request-id",
    "connection",
    "proxy-connection",
    "forwarded",
    "x-envoy-expected-rq-timeout-ms",
];
const VALUES: [&str; 19] = [
    "https",
    "a\u{1}b",
    "http://a.example/b",
    "http://u@a.example/b",
    "b#c",
    "a",
    "a",
    "b",
    "b",
    "c",
    "a,b",
    "a, b",
    " a",
    "a ",
    "\ta",
    "",
    "a; b",
    "trailers",
    "x-role",
];
const POLICY_VALUES: [&str; 12] = ["a", "b", "a,b", "a,b,a", "a; b", "*", "a*", "*b", "a,*", "*,a", "trailers", "b, a"];
const FORWARDED: [&str; 13] = [
    "1.1.1.1",
    "2.2.2.2",
    "1.1.1.1, 2.2.2.2",
    "2.2.2.2 ,3.3.3.3",
    "1.1.1.1,2.2.2.2,3.3.3.3",
    "bogus",
    "1.1.1.1,bogus",
    "::1",
    "1.1.1.1, fd00::7",
    "[::1]",
    "1.1.1.1:80",
    "",
    "3.3.3.3,",
];
const METHODS: [&str; 10] = ["GET", "GET", "GET", "POST", "POST", "OPTIONS", "PURGE", "get", "FOO", "x y"];
const CLIENTS: [&str; 4] = ["10.0.0.7", "192.168.3.4", "203.0.113.9", "1.1.1.1"];
const BLOCKS: [&str; 9] =
    ["1.1.1.1", "2.2.2.2", "3.3.3.3", "10.0.0.0/8", "192.168.0.0/16", "203.0.113.9", "::1", "fd00::/16", "0.0.0.0/0"];
const CLAIMS: [&str; 5] = ["scope", "permission", "teams", "aud", "groups"];
const CLAIM_VALUES: [&str; 10] =
    ["read", "read write", " write  read ", "", "write\tread", "reads", "read,write", "s", "write", "read "];

/// What was compared.
#[derive(Debug, Default)]
pub struct Count {
    requests: usize,
    allowed: usize,
    refused_by_envoy: usize,
    replayed: Replayed,
    /// How many requests were of each kind.
    kinds: BTreeMap<&'static str, usize>,
}

/// A listener: its settings, its policies and the address that it listens on.
struct Subject {
    settings: Settings,
    set: PolicySet,
    address: SocketAddr,
}

enum Open {
    Http1(Box<Connection>),
    Http2(Box<Http2Connection>),
}

#[test]
fn the_command_decides_about_a_raw_request_as_the_filter_in_envoy_does() {
    let number = |name: &str| {
        std::env::var(name).ok().filter(|text| !text.is_empty()).map(|text| text.parse::<u64>().expect("a number"))
    };
    let seed = number("SEED").unwrap_or(20_261_127);
    let wanted = usize::try_from(number("COUNT").unwrap_or(3_000)).unwrap();
    let mut count = Count::default();
    for batch in 0.. {
        if count.requests >= wanted {
            break;
        }
        let seed = seed.wrapping_add(batch);
        if let Err(error) = run_batch(&mut Rng::with_seed(seed), &mut count) {
            panic!("SEED={seed} shows it in its first batch: {error:#}");
        }
    }
    let Count { requests, allowed, refused_by_envoy, kinds, replayed } = count;
    println!("{replayed}");
    println!(
        "{requests} raw requests, {allowed} ALLOW, {refused_by_envoy} refused by Envoy itself, seed {seed}; {kinds:#?}"
    );
    assert!(allowed > requests / 20 && requests - allowed > requests / 20 && refused_by_envoy > 0);
    assert!(kinds.len() >= 12, "the generator no longer reaches every kind");
}

fn run_batch(rng: &mut Rng, count: &mut Count) -> Result<()> {
    let issuer = Issuer::new()?;
    let tokens: Vec<(Value, String)> = (0..40)
        .map(|_| {
            let claims = claims(rng);
            let token = issuer.token(&claims)?;
            Ok((claims, token))
        })
        .collect::<Result<_>>()?;
    let drawn: Vec<_> = (0..LISTENERS).map(|_| (settings(rng), policies(rng))).collect();
    let mut listeners = Vec::new();
    for (index, (settings, resources)) in drawn.iter().enumerate() {
        listeners.push(listener_of(&arena::name(index), settings, resources, &issuer)?);
    }
    let module = concat!(env!("CARGO_MANIFEST_DIR"), "/../dist/mesh_authz.wasm");
    let module = std::fs::read(module).context("dist/mesh_authz.wasm: run `make build`")?;
    let options = StartOptions { log_level: "error".into(), ..StartOptions::default() };
    let envoy = Envoy::start_with(&bootstrap(&listeners, &[]), &options.file("mesh_authz.wasm", module))?;
    let drops_parameters = drops_parameters(&envoy)?;
    for (index, (settings, resources)) in drawn.into_iter().enumerate() {
        let address = envoy.address(&arena::name(index))?;
        let subject = Subject { settings, set: policy_set(&resources)?, address };
        let before = [count.requests, count.allowed, count.refused_by_envoy];
        ask_all(rng, &subject, drops_parameters, &tokens, count)
            .with_context(|| format!("{settings:?}\npolicies: {}", json!(resources)))?;
        let now = [count.requests, count.allowed, count.refused_by_envoy];
        let [requests, allowed, refused] = std::array::from_fn(|at| (now[at] - before[at]) as u64);
        let log = envoy.dir().join(format!("{}.log", arena::name(index)));
        let replayed = logged::replay(&subject.set, &headers_logged(), &log, [allowed, requests - allowed - refused])
            .with_context(|| format!("{settings:?}\npolicies: {}", json!(resources)))?;
        count.replayed = count.replayed.plus(replayed);
    }
    Ok(())
}

/// Whether this Envoy drops the parameters of dots in paths.
fn drops_parameters(envoy: &Envoy) -> Result<bool> {
    let info: Value = serde_json::from_str(&envoy.admin_get("/server_info")?)?;
    let version = info["version"].as_str().and_then(|text| text.split('/').nth(1)).context("a version")?;
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or_default());
    Ok((numbers.next(), numbers.next()) >= (Some(1), Some(40)))
}

fn ask_all(
    rng: &mut Rng,
    subject: &Subject,
    drops_parameters: bool,
    tokens: &[(Value, String)],
    count: &mut Count,
) -> Result<()> {
    let engine = subject.set.engine(Traffic::Http);
    let mut open: BTreeMap<(Protocol, &str), Open> = BTreeMap::new();
    for _ in 0..REQUESTS_OF_A_LISTENER {
        let protocol = if rng.bool() { Protocol::Http1 } else { Protocol::Http2 };
        let client = pick(rng, &CLIENTS);
        let token = (rng.u8(..3) == 0).then(|| &tokens[rng.usize(..tokens.len())]);
        let fields = request(rng, protocol, client, token.map(|(claims, _)| claims));
        let way = Way { settings: subject.settings, protocol, drops_parameters };
        let found = received(&fields, &subject.set, &way);
        let expected = match &found.request {
            Ok(request) => {
                let decision = engine.decide(request);
                let rule = decision.outcome.rule().map(|rule| format!("{} {}", rule.policy, rule.index));
                Some((decision.outcome.verdict().to_string(), rule))
            }
            Err(_) => None,
        };
        let connection = match open.remove(&(protocol, client)) {
            Some(connection) => connection,
            None => connect(subject.address, protocol, client)?,
        };
        let (answer, connection) = ask(connection, &fields, token.map(|(_, token)| token.as_str()));
        if let Some(connection) = connection {
            open.insert((protocol, client), connection);
        }
        if answer != expected {
            let claims = token.map(|(claims, _)| claims.to_string());
            let sent = RequestFields { jwt: None, ..fields };
            bail!(
                "offline {expected:?} {:?}, Envoy {answer:?}\n{sent:?}\n{claims:?}\n{:?}",
                found.request.err(),
                found.notes
            );
        }
        count.requests += 1;
        count.allowed += usize::from(expected.as_ref().is_some_and(|(verdict, _)| verdict == "ALLOW"));
        count.refused_by_envoy += usize::from(expected.is_none());
        for kind in kinds(&fields) {
            *count.kinds.entry(kind).or_default() += 1;
        }
    }
    Ok(())
}

fn connect(address: SocketAddr, protocol: Protocol, client: &str) -> Result<Open> {
    let client = Client::plain(address).proxied(SocketAddr::new(client.parse()?, 40_000), "10.0.0.8:8080".parse()?);
    Ok(match protocol {
        Protocol::Http1 => Open::Http1(Box::new(client.connect()?)),
        Protocol::Http2 => Open::Http2(Box::new(client.connect_http2()?)),
        Protocol::Tcp => bail!("this test sends requests"),
    })
}

type Answer = Option<(String, Option<String>)>;

/// The answer of the filter, and the connection if it can be used again. `None`: Envoy itself refuses the request.
fn ask(connection: Open, fields: &RequestFields, token: Option<&str>) -> (Answer, Option<Open>) {
    let token = token.map(|token| (TOKEN.to_owned(), token.to_owned()));
    let headers = fields.headers.iter().cloned().chain(token);
    let (response, connection) = match connection {
        Open::Http1(mut connection) => {
            let request = Request::new(fields.method(), fields.path()).host(fields.host());
            let request = headers.fold(request, |request, (name, value)| request.header(name, value));
            let response = connection.send(&request);
            (response, Open::Http1(connection))
        }
        Open::Http2(mut connection) => {
            let request = Http2Request::new(fields.method(), fields.path())
                .replace(":authority", fields.host())
                .replace(":scheme", "http");
            let add = |request: Http2Request, (name, value): (String, String)| {
                request.header(name.to_ascii_lowercase(), value)
            };
            let response = connection.send(&headers.fold(request, add));
            (response, Open::Http2(connection))
        }
    };
    match response {
        Ok(response) => {
            let answer = answer(&response);
            let is_usable = answer.is_some();
            (answer, is_usable.then_some(connection))
        }
        Err(_) => (None, None),
    }
}

/// The filter's decision, and the rule that made it.
fn answer(response: &Response) -> Answer {
    let state: Value = serde_json::from_str(&response.header("x-decision")?).ok()?;
    let decision = state["decision"].as_str()?.to_owned();
    // What passes the filter can still be answered by another status.
    assert_eq!(decision == "DENY", response.status == 403, "{state}");
    let rule = state["policy"].as_str().zip(state["rule"].as_u64());
    Some((decision, rule.map(|(policy, rule)| format!("{policy} {rule}"))))
}

fn request(rng: &mut Rng, protocol: Protocol, client: &str, claims: Option<&Value>) -> RequestFields {
    let mut headers = Vec::new();
    for _ in 0..rng.usize(..4) {
        let name = if rng.bool() { pick(rng, &JOINED) } else { pick(rng, &NAMES) };
        for _ in 0..=rng.usize(..3) / 2 {
            headers.push((name.to_owned(), pick(rng, &VALUES).to_owned()));
        }
    }
    for _ in 0..rng.usize(..3) {
        headers.push(("x-forwarded-for".to_owned(), pick(rng, &FORWARDED).to_owned()));
    }
    RequestFields {
        method: Some(pick(rng, &METHODS).to_owned()),
        path: Some(path(rng)),
        host: Some(pick(rng, &HOSTS).to_owned()),
        protocol: Some(protocol),
        headers,
        source_ip: Some(client.parse().unwrap()),
        destination_ip: Some("10.0.0.8".parse().unwrap()),
        destination_port: Some(8080),
        jwt: claims.map(|claims| serde_json::from_value(claims.clone()).unwrap()),
        ..RequestFields::default()
    }
}

fn path(rng: &mut Rng) -> String {
    if rng.u8(..16) == 0 {
        return pick(rng, &ODD_PATHS).to_owned();
    }
    let mut path = String::new();
    for _ in 0..=rng.usize(..4) {
        path.push_str(if rng.u8(..16) == 0 { pick(rng, &["//", "\\", "/\\"]) } else { "/" });
        path.push_str(pick(rng, &SEGMENTS));
    }
    path + pick(rng, &["", "", "", "/", "?", "?x=/../y", "?a//b%2F"])
}

fn claims(rng: &mut Rng) -> Value {
    let mut claims = json!({ "iss": pick(rng, &["https://issuer.example", "https://other.example"]), "sub": "s" });
    for name in CLAIMS {
        match rng.u8(..4) {
            0 => claims[name] = json!([pick(rng, &CLAIM_VALUES), pick(rng, &CLAIM_VALUES)]),
            1 | 2 => claims[name] = json!(pick(rng, &CLAIM_VALUES)),
            _ => {}
        }
    }
    claims
}

fn settings(rng: &mut Rng) -> Settings {
    let paths = pick(rng, &PathNormalization::NAMES.map(|(_, normalization)| normalization));
    let mut settings = pick(rng, &[Settings::ISTIO, Settings::RENDERED]);
    if rng.u8(..3) > 0 {
        settings = settings.with_paths(paths);
        settings.trusted_hops = rng.usize(..3);
        settings.host_port = pick(rng, &[HostPort::Keep, HostPort::StripMatching, HostPort::StripAny]);
        settings.skip_xff_append = rng.bool();
        settings.preserve_external_request_id = rng.bool();
    }
    settings
}

/// Policies, and the `RequestAuthentication` that the listener's `jwt_authn` has.
fn policies(rng: &mut Rng) -> Vec<Value> {
    let mut all = vec![json!({
        "apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication",
        "metadata": { "name": "tokens", "namespace": "default" },
        "spec": { "jwtRules": [
            { "issuer": "https://issuer.example", "jwksUri": "https://issuer.example/keys", "spaceDelimitedClaims": ["teams"],
              "fromHeaders": [{ "name": TOKEN }] },
            { "issuer": "https://other.example", "jwksUri": "https://other.example/keys", "fromHeaders": [{ "name": TOKEN }] },
        ] },
    })];
    for number in 0..2 + rng.usize(..5) {
        let action = if rng.bool() { "ALLOW" } else { "DENY" };
        let rules: Vec<_> = (0..=rng.usize(..2)).map(|_| rule(rng)).collect();
        all.push(json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": { "name": format!("p{number}"), "namespace": "default" },
            "spec": { "action": action, "rules": rules },
        }));
    }
    all
}

fn rule(rng: &mut Rng) -> Value {
    let mut rule = json!({});
    let not = |rng: &mut Rng, name: &str, not: &str| if rng.u8(..4) == 0 { not.to_owned() } else { name.to_owned() };
    let two = |rng: &mut Rng, values: &[&'static str]| json!([pick(rng, values), pick(rng, values)]);
    let mut operation = json!({});
    if rng.u8(..3) > 0 {
        operation[not(rng, "paths", "notPaths")] = two(rng, &POLICY_PATHS);
    }
    if rng.u8(..4) == 0 {
        operation[not(rng, "hosts", "notHosts")] = two(rng, &POLICY_HOSTS);
    }
    if operation != json!({}) {
        rule["to"] = json!([{ "operation": operation }]);
    }
    if rng.u8(..5) == 0 {
        let mut source = json!({});
        source[not(rng, "remoteIpBlocks", "notRemoteIpBlocks")] = two(rng, &BLOCKS);
        rule["from"] = json!([{ "source": source }]);
    }
    if rng.u8(..3) == 0 || rule == json!({}) {
        let (key, values): (_, &[&'static str]) = match rng.u8(..8) {
            0 | 1 => (format!("request.auth.claims[{}]", pick(rng, &CLAIMS)), &CLAIM_VALUES[..3]),
            2 => ("request.headers[x-forwarded-for]".to_owned(), &FORWARDED[..5]),
            3 => ("request.headers[:scheme]".to_owned(), &["http", "https"]),
            other => match if other < 5 { pick(rng, &JOINED) } else { pick(rng, &NAMES) } {
                // Envoy makes random ones, which can begin or end with any digit.
                name @ "x-request-id" => (format!("request.headers[{name}]"), &["*", "a,b"]),
                name => (format!("request.headers[{name}]"), &POLICY_VALUES),
            },
        };
        let field = not(rng, "values", "notValues");
        rule["when"] = json!([{ "key": key, field: two(rng, values) }]);
    }
    rule
}

fn policy_set(resources: &[Value]) -> Result<PolicySet> {
    let text = json!({ "apiVersion": "v1", "kind": "List", "items": resources }).to_string();
    let resources = Resources::of(&Arc::new(SourceText::new(PathBuf::from("raw.json"), text)));
    if let Some(finding) = resources.findings.first() {
        bail!("{finding}");
    }
    let workload = Workload {
        namespace: "default".to_owned(),
        labels: Some(Vec::new().into()),
        gateway: None,
        root_namespace: "istio-system".to_owned(),
        revision: None,
    };
    Ok(PolicySet { resources: resources.into(), workload, mesh: Mesh::default(), envoy: Known::default() })
}

fn listener_of(name: &str, settings: &Settings, resources: &[Value], issuer: &Issuer) -> Result<Value> {
    use mesh_authz_cli::received::EscapedSlashes;
    let policies: Vec<_> = resources.iter().filter(|resource| resource["kind"] == "AuthorizationPolicy").collect();
    let plugin = json!({
        "policies": policies, "workload": { "namespace": "default", "labels": {} }, "decisionLog": "none", "filterState": "all",
    });
    let provider = |issuer_name: &str, claims: Value| {
        json!({
            "issuer": issuer_name,
            "local_jwks": { "inline_string": issuer.jwks() },
            "from_headers": [{ "name": TOKEN }],
            "payload_in_metadata": "payload",
            "normalize_payload_in_metadata": { "space_delimited_claims": claims },
        })
    };
    let jwt = json!({
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": {
                "own": provider("https://issuer.example", json!(["scope", "permission", "teams"])),
                "other": provider("https://other.example", json!(["scope", "permission"])),
            },
            // As Istio sets it.
            "bypass_cors_preflight": true,
            "rules": [{ "match": { "prefix": "/" }, "requires": { "requires_any": { "requirements": [
                { "provider_name": "own" }, { "provider_name": "other" }, { "allow_missing": {} },
            ] } } }],
        },
    });
    let filters = [vec![jwt], logged::decided(&headers_logged())?, vec![arena::peer(), arena::wasm(&plugin)]].concat();
    let mut manager = http_connection_manager(&filters, &[direct_response(200, "passed")]);
    let config = &mut manager["typed_config"];
    config.as_object_mut().context("an object")?.remove("upgrade_configs");
    config["access_log"] = json!([logged::access_log(&format!("{name}.log"), &headers_logged())?]);
    config["normalize_path"] = json!(settings.normalize_path);
    config["merge_slashes"] = json!(settings.merge_slashes);
    let escaped =
        if settings.escaped_slashes == EscapedSlashes::Decode { "UNESCAPE_AND_FORWARD" } else { "KEEP_UNCHANGED" };
    config["path_with_escaped_slashes_action"] = json!(escaped);
    config["strip_trailing_host_dot"] = json!(settings.strip_trailing_host_dot);
    // Envoy takes one of the two.
    match settings.host_port {
        HostPort::Keep => {}
        HostPort::StripMatching => config["strip_matching_host_port"] = json!(true),
        HostPort::StripAny => config["strip_any_host_port"] = json!(true),
    }
    config["skip_xff_append"] = json!(settings.skip_xff_append);
    config["preserve_external_request_id"] = json!(settings.preserve_external_request_id);
    config["use_remote_address"] = json!(settings.use_remote_address);
    // After a mistake in HTTP/2, Envoy waits so long before it closes the connection.
    config["delayed_close_timeout"] = json!("0.001s");
    config["xff_num_trusted_hops"] = json!(settings.trusted_hops);
    let add = |name: &str, value: &str| json!({ "header": { "key": name, "value": value } });
    config["local_reply_config"] = json!({ "mappers": [{
        "filter": { "status_code_filter": { "comparison": {
            "op": "GE", "value": { "default_value": 100, "runtime_key": "none" },
        } } },
        "headers_to_add": [add("x-decision", "%FILTER_STATE(wasm.mesh_authz:PLAIN)%")],
    }] });
    let mut listener = listener(name, manager, None);
    let proxy_protocol = json!({
        "name": "envoy.filters.listener.proxy_protocol",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
        },
    });
    match listener["listener_filters"].as_array_mut() {
        Some(filters) => filters.insert(0, proxy_protocol),
        None => listener["listener_filters"] = json!([proxy_protocol]),
    }
    Ok(listener)
}

/// The headers that policies look at.
fn headers_logged() -> Vec<&'static str> {
    let mut all: Vec<_> = JOINED.into_iter().chain(NAMES).chain(["x-forwarded-for"]).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// What is special about a request.
fn kinds(fields: &RequestFields) -> Vec<&'static str> {
    let path = fields.path();
    let has = |text: &str| path.contains(text);
    let count = |name: &str| fields.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name)).count();
    let repeated = fields.headers.iter().any(|(name, _)| count(name) > 1);
    let host = fields.host();
    let all = [
        (has("/.") || has("%2e") || has("%2E"), "path with dots"),
        (has("..;") || has(".;"), "path with dots with parameters"),
        (has("//"), "path with adjacent slashes"),
        (has("%2F") || has("%2f") || has("%5"), "path with escaped slashes"),
        (has("\\"), "path with a backslash"),
        (has("%6") || has("%7"), "path with another escape"),
        (has("é"), "path beyond ASCII"),
        (has("?"), "query"),
        (host.ends_with('.') || host.contains(".:"), "host with a dot at its end"),
        (host.contains('@'), "host with user information"),
        (repeated, "repeated header"),
        (fields.headers.iter().any(|(_, value)| value.trim() != value), "white space around a value"),
        (count("cookie") > 1, "several cookies"),
        (count("x-forwarded-for") > 0, "X-Forwarded-For"),
        (count("connection") > 0, "header about the connection"),
        (fields.jwt.is_some(), "token"),
        (fields.protocol == Some(Protocol::Http2), "HTTP/2"),
    ];
    all.into_iter().filter(|(is_one, _)| *is_one).map(|(_, name)| name).collect()
}
