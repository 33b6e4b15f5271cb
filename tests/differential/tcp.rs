//! Compares the filter with Envoy's own RBAC filter for connections, which has the configuration that Istio generates.
//!
//! Each set of policies has two listeners, one for each filter, and each connection is opened to both. What passes is sent
//! back. Connections are in plaintext, or have TLS with or without a client certificate; they come from several addresses,
//! and the PROXY protocol tells further addresses and ports.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use fastrand::Rng;
use mesh_authz::policy::Traffic;
use mesh_authz_cli::render::envoy::telling_filter;
use serde_json::{Value, json};
use testbed::bootstrap::{ClientCertificate, bootstrap, listener, mutual_tls};
use testbed::{Client, Envoy, StartOptions, tells_once_a_connection};

use crate::arena::{authority, client, native_filters, server, wasm_config};
use crate::logged::{self, Replayed};
use crate::number;
use crate::policies::PolicySet;
use crate::questions::Link;

const BATCHES: u64 = 6;
const SETS_OF_A_BATCH: usize = 40;
const LINKS_OF_A_SET: usize = 12;
const WORKERS: usize = 2;

/// What clients say.
const SAID: &[u8] = b"SELECT 1; SELECT 2";

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    sets: usize,
    connections: usize,
    allowed: usize,
    plaintext: usize,
    stricter: usize,
    replayed: Replayed,
}

impl Count {
    fn plus(self, other: Self) -> Self {
        Self {
            sets: self.sets + other.sets,
            connections: self.connections + other.connections,
            allowed: self.allowed + other.allowed,
            plaintext: self.plaintext + other.plaintext,
            stricter: self.stricter + other.stricter,
            replayed: self.replayed.plus(other.replayed),
        }
    }
}

#[test]
fn native_rbac_and_the_filter_decide_alike_about_connections() {
    if !tells_once_a_connection() {
        return;
    }
    let seed = number("SEED").unwrap_or(20_261_128);
    let deadline = number("SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let work = || {
        let mut count = Count::default();
        loop {
            let batch = next.fetch_add(1, Ordering::Relaxed);
            let over = deadline.map_or(batch >= BATCHES, |deadline| Instant::now() >= deadline);
            if over || failed.load(Ordering::Relaxed) {
                return count;
            }
            if let Err(error) = run_batch(&mut Rng::with_seed(seed.wrapping_add(batch)), &mut count) {
                failed.store(true, Ordering::Relaxed);
                panic!("SEED={} shows it in its first batch: {error:#}", seed.wrapping_add(batch));
            }
        }
    };
    let count = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("see above")).fold(Count::default(), Count::plus)
    });
    let Count { sets, connections, allowed, plaintext, stricter, replayed } = count;
    println!(
        "{connections} connections to {sets} sets of policies, {plaintext} of them in plaintext, {allowed} allowed, {stricter} \
         stricter than native as meant, no other difference; seed {seed}"
    );
    println!("{replayed}");
    assert!(connections >= 500 && allowed > connections / 20 && connections - allowed > connections / 20);
    assert!(plaintext > connections / 20);
}

fn run_batch(rng: &mut Rng, count: &mut Count) -> Result<()> {
    let sets: Vec<_> = (0..SETS_OF_A_BATCH).map(|_| for_tcp(PolicySet::generate(rng), rng)).collect();
    let mut listeners = Vec::new();
    for (index, set) in sets.iter().enumerate() {
        listeners.push(listener_of(&name("native", index), native_filters(set, Traffic::Tcp)?)?);
        listeners.push(listener_of(&name("filter", index), vec![telling_filter(true)?, wasm(set)])?);
    }
    let module = concat!(env!("CARGO_MANIFEST_DIR"), "/../dist/mesh_authz.wasm");
    let module = std::fs::read(module).context("dist/mesh_authz.wasm: run `make build`")?;
    let options = StartOptions { log_level: "error".into(), ..StartOptions::default() };
    let envoy = Envoy::start_with(&bootstrap(&listeners, &[]), &options.file("mesh_authz.wasm", module))?;
    let addresses = crate::arena::addresses_of(&envoy)?;
    for (index, set) in sets.iter().enumerate() {
        count.sets += 1;
        let words = set.words();
        let mut allowed_by = [0, 0];
        for _ in 0..LINKS_OF_A_SET {
            let link = Link::generate(rng, false, &words);
            let in_plaintext = rng.u8(..6) == 0;
            let passes = |kind: &str| passes(&addresses, &name(kind, index), &link, in_plaintext);
            let (native, filter) = (passes("native")?, passes("filter")?);
            for (count, passes) in allowed_by.iter_mut().zip([native, filter]) {
                *count += u64::from(passes);
            }
            count.connections += 1;
            count.allowed += usize::from(filter);
            count.plaintext += usize::from(in_plaintext);
            if native == filter {
                continue;
            }
            if link.is_odd() && !filter {
                count.stricter += 1;
                continue;
            }
            bail!(
                "native RBAC allows: {native}, the filter allows: {filter}; plaintext: {in_plaintext}\npolicies: {}\n{link:#?}\n{}",
                serde_json::to_string_pretty(&set.plugin_config())?,
                envoy.log()
            );
        }
        // The filter is stricter, as the engine is.
        let log = envoy.dir().join(log_of(&name("filter", index)));
        let decided = [allowed_by[1], LINKS_OF_A_SET as u64 - allowed_by[1]];
        let replayed = logged::replay(&logged::policy_set(set)?, &[], &log, decided)
            .with_context(|| serde_json::to_string_pretty(&set.plugin_config()).unwrap())?;
        count.replayed = count.replayed.plus(replayed);
    }
    Ok(())
}

/// Leaves out, in most sets, what only HTTP has. Otherwise hardly any connection would be allowed.
fn for_tcp(mut set: PolicySet, rng: &mut Rng) -> PolicySet {
    const HTTP: [&str; 8] = [
        "requestPrincipals",
        "notRequestPrincipals",
        "hosts",
        "notHosts",
        "methods",
        "notMethods",
        "paths",
        "notPaths",
    ];
    if rng.u8(..4) == 0 {
        return set;
    }
    for policy in &mut set.policies {
        for rule in policy["spec"]["rules"].as_array_mut().into_iter().flatten() {
            if let Some(conditions) = rule.get_mut("when").and_then(Value::as_array_mut) {
                conditions.retain(|condition| !condition["key"].as_str().unwrap_or_default().starts_with("request."));
            }
            for (list, part) in [("from", "source"), ("to", "operation")] {
                let entries = rule.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
                for fields in entries.filter_map(|entry| entry[part].as_object_mut()) {
                    fields.retain(|name, _| !HTTP.contains(&name.as_str()));
                }
                // An entry without a field is no policy.
                if let Some(entries) = rule.get_mut(list).and_then(Value::as_array_mut) {
                    entries.retain(|entry| entry[part].as_object().is_some_and(|fields| !fields.is_empty()));
                    if entries.is_empty()
                        && let Some(rule) = rule.as_object_mut()
                    {
                        rule.remove(list);
                    }
                }
            }
        }
    }
    set
}

fn name(kind: &str, index: usize) -> String {
    format!("{kind}-{index}")
}

/// A listener with a chain for TLS and one for plaintext. What passes the filters is sent back.
fn listener_of(name: &str, mut filters: Vec<Value>) -> Result<Value> {
    filters.push(json!({
        "name": "envoy.filters.network.echo",
        "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo" },
    }));
    let tls = mutual_tls(authority(), server(), ClientCertificate::Optional);
    let mut listener = listener(name, Value::Null, None);
    let chain =
        |protocol: &str| json!({ "filter_chain_match": { "transport_protocol": protocol }, "filters": filters });
    let mut with_tls = chain("tls");
    with_tls["transport_socket"] = tls;
    listener["filter_chains"] = json!([with_tls, chain("raw_buffer")]);
    let proxy_protocol = json!({
        "name": "envoy.filters.listener.proxy_protocol",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
        },
    });
    listener["listener_filters"].as_array_mut().unwrap().insert(0, proxy_protocol);
    listener["access_log"] = json!([logged::access_log(&log_of(name), &[])?]);
    Ok(listener)
}

fn log_of(listener: &str) -> String {
    format!("{listener}.log")
}

fn wasm(set: &PolicySet) -> Value {
    json!({
        "name": "mesh_authz",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm",
            "config": wasm_config(&set.plugin_config()),
        },
    })
}

/// Whether a client gets back what it says. Otherwise, it gets nothing.
fn passes(addresses: &HashMap<String, SocketAddr>, listener: &str, link: &Link, in_plaintext: bool) -> Result<bool> {
    let client = client(*addresses.get(listener).context("no such listener")?, link);
    let client = if in_plaintext { Client { tls: None, ..client } } else { client };
    let Ok(mut connection) = client.connect() else { return Ok(false) };
    let _closed = connection.write(SAID);
    let mut got = Vec::new();
    while got.len() < SAID.len() {
        match connection.read_exact(1) {
            Ok(byte) => got.extend(byte),
            Err(_) => break,
        }
    }
    match got.len() {
        0 => Ok(false),
        _ if got == SAID => Ok(true),
        _ => bail!("got a part of what was said: {}", got.escape_ascii()),
    }
}
