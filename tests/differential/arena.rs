//! Runs one Envoy in which both engines decide the same requests.
//!
//! Each set of policies has a listener. In it, Envoy's RBAC filters have Istio's rendering of the policies as shadow
//! rules: they write their verdicts into dynamic metadata and refuse nothing. The project's filter comes after them and
//! enforces its verdict. So one response carries both verdicts.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};
use mesh_authz::diagnostic::Diagnostics;
use mesh_authz::identity::TrustDomains;
use mesh_authz::policy::scope::{Scope, Workload, scope};
use mesh_authz::policy::{Action, AuthorizationPolicy, Traffic, read};
use mesh_authz_cli::render::envoy::telling_filter;
use mesh_authz_cli::render::rbac::{self, Place};
use serde_json::{Value, json};
use testbed::bootstrap::{
    ClientCertificate, bootstrap, direct_response, http_connection_manager, listener, mutual_tls,
};
use testbed::{Authority, Certified, Client, Envoy, Response, San, StartOptions, Tls};

use crate::logged;
use crate::policies::{NAMESPACE, PolicySet, ROOT_NAMESPACE};
use crate::questions::{Link, Open, Peer, Question};
use crate::vocabulary::{HEADERS_LOGGED, METADATA};

/// The verdict of one engine: whether it allows the request, and the rule that refuses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub allowed: bool,
    /// The DENY rule that matched; `none` if no ALLOW rule matched; empty if the request is allowed.
    pub refused_by: String,
}

/// The verdicts of both engines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    pub native: Verdict,
    pub filter: Verdict,
}

pub struct Arena {
    envoy: Envoy,
}

pub fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| Authority::new().unwrap())
}

/// The certificate of the workload.
pub fn server() -> &'static Certified {
    static SERVER: OnceLock<Certified> = OnceLock::new();
    SERVER.get_or_init(|| authority().server("cluster.local/ns/foo/sa/httpbin").unwrap())
}

fn certificate(peer: &Peer) -> Option<Certified> {
    thread_local! {
        static ISSUED: std::cell::RefCell<HashMap<Peer, Option<Certified>>> = std::cell::RefCell::default();
    }
    ISSUED.with_borrow_mut(|issued| {
        let issue = |names: &[San], subject| Some(authority().issue(names, subject).unwrap());
        issued
            .entry(peer.clone())
            .or_insert_with(|| match peer {
                Peer::Spiffe(id) => issue(&[San::Uri(format!("spiffe://{id}"))], None),
                Peer::Dns(name) => issue(&[San::Dns((*name).to_owned())], None),
                Peer::Subject(name) => issue(&[], Some(name)),
                Peer::Odd(uri) => issue(&[San::UriBytes(uri.to_vec())], None),
                Peer::Anonymous => None,
            })
            .clone()
    })
}

impl Arena {
    /// Starts an Envoy with a listener for each set. The listener is on `::1` if the boolean is true, otherwise on
    /// 127.0.0.1.
    pub fn start<'s>(sets: impl Iterator<Item = (&'s PolicySet, bool)>) -> Result<Self> {
        let mut listeners = Vec::new();
        for (index, (set, on_ipv6)) in sets.enumerate() {
            let filter = connection_manager(set, &log_of(index))?;
            let tls = mutual_tls(authority(), server(), ClientCertificate::Optional);
            let mut listener = listener(&name(index), filter, Some(tls));
            let proxy_protocol = json!({
                "name": "envoy.filters.listener.proxy_protocol",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
                },
            });
            listener["listener_filters"].as_array_mut().context("a list")?.insert(0, proxy_protocol);
            if on_ipv6 {
                listener["address"]["socket_address"]["address"] = json!("::1");
            }
            listeners.push(listener);
        }
        let wasm = concat!(env!("CARGO_MANIFEST_DIR"), "/../dist/mesh_authz.wasm");
        let wasm = std::fs::read(wasm).context("dist/mesh_authz.wasm: run `make build`")?;
        let options = StartOptions { log_level: "error".into(), ..StartOptions::default() };
        let envoy = Envoy::start_with(&bootstrap(&listeners, &[]), &options.file("mesh_authz.wasm", wasm))?;
        Ok(Self { envoy })
    }

    /// The address of each listener, by name.
    pub fn addresses(&self) -> Result<HashMap<String, std::net::SocketAddr>> {
        addresses_of(&self.envoy)
    }

    pub fn log(&self) -> String {
        self.envoy.log()
    }

    /// The access log of a set's listener.
    pub fn access_log(&self, set: usize) -> PathBuf {
        self.envoy.dir().join(log_of(set))
    }
}

/// The address of each listener, by name. One request to Envoy's admin interface returns all of them.
pub fn addresses_of(envoy: &Envoy) -> Result<HashMap<String, std::net::SocketAddr>> {
    let json: Value = serde_json::from_str(&envoy.admin_get("/listeners?format=json")?)?;
    let mut addresses = HashMap::new();
    for status in json["listener_statuses"].as_array().context("no listeners")? {
        let socket = &status["local_address"]["socket_address"];
        let ip = socket["address"].as_str().context("no address")?.parse()?;
        let port = u16::try_from(socket["port_value"].as_u64().context("no port")?)?;
        let name = status["name"].as_str().context("no name")?.to_owned();
        addresses.insert(name, std::net::SocketAddr::new(ip, port));
    }
    Ok(addresses)
}

/// The name of a set's listener.
pub fn name(set: usize) -> String {
    format!("set-{set}")
}

fn log_of(set: usize) -> String {
    format!("{}.log", name(set))
}

pub fn connect(address: std::net::SocketAddr, link: &Link) -> Result<Open> {
    Open::connect(&client(address, link), link.http2)
}

/// The client of a connection with TLS.
pub fn client(address: std::net::SocketAddr, link: &Link) -> Client {
    let tls = Tls {
        authority_pem: authority().pem().to_owned(),
        certificate: certificate(&link.peer),
        server_name: link.sni.map(str::to_owned),
        alpn: None,
    };
    let mut client = Client::tls(address, tls).proxied(link.proxied.0, link.proxied.1);
    if let Some(last) = link.from {
        client = client.from_ip([127, 0, 0, last]);
    }
    client
}

pub fn ask(open: &mut Open, question: &Question) -> Result<Answers> {
    answers(&open.send(question, question.metadata_headers())?)
}

fn answers(response: &Response) -> Result<Answers> {
    let header = |name: &str| response.header(name).filter(|value| value != "-").unwrap_or_default();
    let verdict = |allowed, refused_by: String| Verdict { allowed, refused_by };
    ensure!(matches!(response.status, 200 | 403), "status {}: {}", response.status, response.text());
    let native = if header("x-native-deny") == "denied" {
        verdict(false, header("x-native-deny-rule"))
    } else if header("x-native-allow") == "denied" {
        verdict(false, "none".to_owned())
    } else {
        verdict(true, String::new())
    };
    let details = header("x-details");
    let refused_by = details.strip_prefix("rbac_access_denied_matched_policy[").and_then(|d| d.strip_suffix("]"));
    let filter = if response.status == 403 {
        verdict(false, refused_by.with_context(|| format!("refused with details {details:?}"))?.to_owned())
    } else {
        verdict(true, String::new())
    };
    Ok(Answers { native, filter })
}

fn connection_manager(set: &PolicySet, log: &str) -> Result<Value> {
    let mut filters = vec![header_to_metadata()];
    filters.extend(logged::decided(&HEADERS_LOGGED)?);
    filters.push(peer());
    filters.extend(shadows(set)?);
    filters.push(wasm(&set.plugin_config()));
    let mut manager = http_connection_manager(&filters, &[direct_response(200, "passed")]);
    let config = &mut manager["typed_config"];
    config["generate_request_id"] = json!(false);
    config["access_log"] = json!([logged::access_log(log, &HEADERS_LOGGED)?]);
    let metadata = |key: &str| format!("%DYNAMIC_METADATA(envoy.filters.http.rbac:{key})%");
    let add = |name: &str, value: String| json!({ "header": { "key": name, "value": value } });
    config["local_reply_config"] = json!({ "mappers": [{
        "filter": { "status_code_filter": { "comparison": {
            "op": "GE", "value": { "default_value": 100, "runtime_key": "none" },
        } } },
        "headers_to_add": [
            add("x-native-deny", metadata("deny_shadow_engine_result")),
            add("x-native-deny-rule", metadata("deny_shadow_effective_policy_id")),
            add("x-native-allow", metadata("allow_shadow_engine_result")),
            add("x-details", "%RESPONSE_CODE_DETAILS%".to_owned()),
        ],
    }] });
    Ok(manager)
}

/// The workload that the policies protect.
pub fn workload() -> Workload {
    Workload {
        namespace: NAMESPACE.to_owned(),
        labels: Some(vec![("app".to_owned(), "httpbin".to_owned())].into()),
        gateway: None,
        root_namespace: ROOT_NAMESPACE.to_owned(),
        revision: None,
    }
}

/// RBAC filters with Istio's rendering of the enforced ALLOW and DENY policies.
pub fn native_filters(set: &PolicySet, traffic: Traffic) -> Result<Vec<Value>> {
    let mut diagnostics = Diagnostics::new();
    let policies: Vec<_> = set.nodes().iter().map(|node| read::policy(node, &mut diagnostics)).collect();
    ensure!(diagnostics.count() == 0, "{:?}", diagnostics.into_found());
    let workload = workload();
    let decides = |policy: &&AuthorizationPolicy| {
        scope(policy, &workload) == Scope::Applies
            && !policy.dry_run
            && matches!(policy.action, Action::Allow | Action::Deny)
    };
    let policies: Vec<_> = policies.iter().flatten().filter(decides).collect();
    let trust_domains = TrustDomains::new(set.trust_domain.clone(), set.aliases.clone());
    Ok(rbac::filters(&policies, Place::of_workload(traffic, &trust_domains)))
}

/// The same filters with shadow rules: they refuse nothing.
fn shadows(set: &PolicySet) -> Result<Vec<Value>> {
    let mut filters = native_filters(set, Traffic::Http)?;
    for filter in &mut filters {
        let config = filter["typedConfig"].as_object_mut().context("a filter has a configuration")?;
        let rules = config.remove("rules").context("an enforced policy has rules")?;
        let prefix = if rules["action"] == "DENY" { "deny_" } else { "allow_" };
        config.insert("shadowRules".to_owned(), rules);
        config.insert("shadowRulesStatPrefix".to_owned(), json!(prefix));
    }
    Ok(filters)
}

/// A replacement for `jwt_authn` and other filters. It turns the values of certain headers into typed dynamic metadata.
fn header_to_metadata() -> Value {
    let rule = |header: &str, filter: &str, key: &str| {
        json!({
            "header": header,
            "on_header_present": {
                "metadata_namespace": filter, "key": key, "type": "PROTOBUF_VALUE", "encode": "BASE64",
            },
            "remove": true,
        })
    };
    let mut rules = vec![rule("x-claims", "envoy.filters.http.jwt_authn", "payload")];
    for (index, (filter, key)) in METADATA.iter().enumerate() {
        rules.push(rule(&format!("x-metadata-{index}"), filter, key));
    }
    json!({
        "name": "envoy.filters.http.header_to_metadata",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config",
            "request_rules": rules,
        },
    })
}

/// Tells the project's filter about the peer. In this form, every version of Envoy takes it.
pub fn peer() -> Value {
    telling_filter(false).unwrap()
}

pub fn wasm(plugin_config: &Value) -> Value {
    json!({
        "name": "mesh_authz",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": wasm_config(plugin_config),
        },
    })
}

/// The plugin, for requests and for connections.
pub fn wasm_config(plugin_config: &Value) -> Value {
    json!({
        "failure_policy": "FAIL_CLOSED",
        "vm_config": {
            "runtime": "envoy.wasm.runtime.v8",
            "code": { "local": { "filename": "mesh_authz.wasm" } },
        },
        "configuration": {
            "@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": plugin_config.to_string(),
        },
    })
}
