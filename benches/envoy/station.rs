//! One Envoy with a listener for each case, and the connections to them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use fastrand::Rng;
use mesh_authz_cli::render::envoy::telling_filter;
use serde_json::{Value, json};
use testbed::bootstrap::{
    ClientCertificate, bootstrap, direct_response, http_connection_manager, listener, mutual_tls,
};
use testbed::{Certified, Envoy, StartOptions, tells_once_a_connection};

use crate::contestant::{Case, Claims, FILTER, NO_OP};
use crate::lanes::{Callers, Connections, Lanes, Prepared};
use crate::mix::Call;

/// The listener that the others are compared with. No filter decides there.
const BASELINE: &str = "baseline";

/// A running Envoy, and the callers that send requests to it.
pub struct Rig {
    /// The Envoy process.
    pub envoy: Envoy,
    callers: Callers,
    connections: Connections,
    claims: Claims,
}

/// A case with its requests and its connections.
pub struct Station {
    /// What is measured here.
    pub case: Case,
    /// Requests that a policy allows.
    pub allowed: Vec<Prepared>,
    /// Requests that no policy allows.
    pub denied: Vec<Prepared>,
    /// The address of the case's listener.
    pub address: SocketAddr,
    /// The connections to the case's listener.
    pub with: Lanes,
    /// The connections to the baseline, for the same requests.
    pub without: Lanes,
}

impl Rig {
    /// Starts Envoy with a listener for each case and with the baseline's listener.
    pub fn start(cases: &[Case], connections: Connections, claims: Claims) -> Result<Self> {
        let callers = Callers::new()?;
        let own = callers.authority().server("cluster.local/ns/default/sa/backend")?;
        let mut listeners = vec![inbound(BASELINE, &[claims.filter()], true, &callers, &own)?];
        for (index, case) in cases.iter().enumerate() {
            let name = name(index);
            let (filters, tells_peer) = (case.filters(&name, &claims)?, case.contestant.tells_peer());
            listeners.push(inbound(&name, &filters, tells_peer, &callers, &own)?);
        }
        let options = StartOptions {
            // Refused requests are logged at this level, which is Envoy's default.
            component_log_level: "wasm:info".into(),
            log_level: "warning".into(),
            ..StartOptions::default()
        };
        let options = options.file(FILTER, filter()?);
        let options = options.file(NO_OP, no_op()?);
        Ok(Self { envoy: Envoy::start_with(&bootstrap(&listeners, &[]), &options)?, callers, connections, claims })
    }

    /// Opens the connections for each case.
    pub fn stations(&mut self, cases: Vec<Case>, rng: &mut Rng) -> Result<Vec<Station>> {
        let baseline = self.envoy.address(BASELINE)?;
        cases.into_iter().enumerate().map(|(index, case)| self.station(index, case, baseline, rng)).collect()
    }

    fn station(&mut self, index: usize, case: Case, baseline: SocketAddr, rng: &mut Rng) -> Result<Station> {
        let mut prepare = |calls: &[Call]| {
            let mut prepared = calls.iter().map(|call| self.prepare(call)).collect::<Result<Vec<_>>>()?;
            rng.shuffle(&mut prepared);
            anyhow::Ok(prepared)
        };
        let (mut allowed, denied) = (prepare(&case.set.allowed)?, prepare(&case.set.denied)?);
        let count = allowed.len();
        allowed.extend(denied);
        let address = self.envoy.address(&name(index))?;
        let with = self.open(address, &allowed)?;
        let without = self.open(baseline, &allowed)?;
        let denied = allowed.split_off(count);
        Ok(Station { case, allowed, denied, address, with, without })
    }

    /// Prepares a request for being sent.
    pub fn prepare(&self, call: &Call) -> Result<Prepared> {
        Prepared::new(call, &self.claims)
    }

    /// Opens connections to a listener, for the senders of these requests.
    pub fn open(&mut self, address: SocketAddr, requests: &[Prepared]) -> Result<Lanes> {
        Lanes::open(address, requests, self.connections, &mut self.callers)
    }
}

/// This project's filter.
pub fn filter() -> Result<Vec<u8>> {
    module(&checkout().join("dist/mesh_authz.wasm"))
}

/// The filter that does nothing.
pub fn no_op() -> Result<Vec<u8>> {
    module(&crate::target().join("bench/noop.wasm"))
}

fn name(index: usize) -> String {
    format!("case-{index}")
}

/// A listener like that of a sidecar: see envoy/backend.yaml. The listener itself answers every request that passes,
/// with as many bytes as a refusal has.
fn inbound(name: &str, filters: &[Value], tells_peer: bool, callers: &Callers, own: &Certified) -> Result<Value> {
    let once = tells_once_a_connection();
    let telling = if tells_peer { Some(telling_filter(once)?) } else { None };
    let (network, http) = if once { (telling, None) } else { (None, telling) };
    let filters: Vec<_> = http.into_iter().chain(filters.iter().cloned()).collect();
    let mut manager = http_connection_manager(&filters, &[direct_response(200, "RBAC: access passed")]);
    if let Some(Value::Object(config)) = manager.get_mut("typed_config") {
        let settings = [
            ("normalize_path", json!(true)),
            ("merge_slashes", json!(true)),
            ("path_with_escaped_slashes_action", json!("UNESCAPE_AND_FORWARD")),
            ("use_remote_address", json!(true)),
            ("forward_client_cert_details", json!("SANITIZE")),
            // A token is larger than its claims.
            ("max_request_headers_kb", json!(96)),
            ("common_http_protocol_options", json!({ "max_headers_count": 128 })),
        ];
        config.extend(settings.map(|(name, value)| (name.to_owned(), value)));
    }
    let mut listener = listener(name, manager, Some(mutual_tls(callers.authority(), own, ClientCertificate::Required)));
    if let Some(Value::Array(filters)) = listener.pointer_mut("/filter_chains/0/filters") {
        filters.splice(0..0, network);
    }
    Ok(listener)
}

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("")
}

fn module(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{}: `make bench` builds it", path.display()))
}
