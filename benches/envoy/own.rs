//! The user's own policies: `make bench POLICIES=folder`. The requests are those of the test files in the folder.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use mesh_authz::attribute::Subject;
use mesh_authz::engine::Verdict;
use mesh_authz::policy::Action;
use mesh_authz_cli::load::policy_set::PolicySet;
use mesh_authz_cli::testfile::{RequestFields, TestFile};
use serde_json::{Value, json};

use crate::mix::{Call, Set};

/// The name of the set.
pub const OWN: &str = "own";

/// The policies of a test file that apply to its workload, with its requests.
pub struct Own {
    /// The policies and requests.
    pub set: Set,
    /// How many rules the policies have.
    pub rules: usize,
    /// The fields of the plugin configuration beside the policies.
    pub settings: Value,
}

impl Own {
    /// Reads the first test file in the folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let file = test_file(folder)?;
        let TestFile { set, tests, .. } = TestFile::read(&file).map_err(|error| anyhow!("{error}"))?;
        let applying: Vec<_> = set.applying().collect();
        ensure!(!applying.is_empty(), "{}: no policy applies to its workload", file.display());
        if let Some(custom) = applying.iter().find(|resource| resource.policy.action == Action::Custom) {
            bail!("policy {}: a CUSTOM policy asks a provider, and nothing here does", custom.policy.name);
        }
        let look_at_identity = applying
            .iter()
            .flat_map(|resource| resource.policy.predicates())
            .any(|predicate| predicate.attribute().info().subject == Subject::Identity);
        let (mut allowed, mut denied, mut left_out) = (Vec::new(), Vec::new(), 0_usize);
        for test in &tests {
            match (call(&test.request, look_at_identity), test.expect.decision) {
                (Some(call), Verdict::Allow) => allowed.push(call),
                (Some(call), Verdict::Deny) => denied.push(call),
                (None, _) => left_out += 1,
            }
        }
        println!(
            "{}: {} requests that are allowed, {} that are refused; {left_out} left out, which need other addresses, ports, \
             metadata or no certificate",
            file.display(),
            allowed.len(),
            denied.len()
        );
        ensure!(!allowed.is_empty() || !denied.is_empty(), "{}: none of its requests can be sent", file.display());
        Ok(Self {
            rules: applying.iter().map(|resource| resource.policy.rules.len()).sum(),
            settings: settings(&set),
            set: Set {
                name: OWN,
                policies: applying.iter().map(|resource| json!(resource.node)).collect(),
                allowed,
                denied,
            },
        })
    }
}

fn settings(set: &PolicySet) -> Value {
    let PolicySet { workload, mesh, .. } = set;
    let labels: serde_json::Map<_, _> = workload
        .labels
        .iter()
        .flat_map(|labels| labels.iter())
        .map(|(key, value)| (key.to_owned(), json!(value)))
        .collect();
    json!({
        "workload": { "namespace": workload.namespace, "labels": labels },
        "trustDomain": mesh.trust_domain,
        "trustDomainAliases": mesh.aliases,
        "rootNamespace": mesh.root_namespace,
    })
}

/// The first file in the folder, by name, that is a test file. A test file can also be given itself.
fn test_file(folder: &Path) -> Result<PathBuf> {
    if folder.is_file() {
        return Ok(folder.to_owned());
    }
    let files = folder.read_dir().with_context(|| folder.display().to_string())?;
    let mut files = files.map(|file| Ok(file?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    let is_test_file = |file: &PathBuf| {
        let documents = mesh_authz_cli::load::documents(file).unwrap_or_default();
        documents.first().is_some_and(TestFile::is_one)
    };
    let found = files.into_iter().find(is_test_file);
    found.with_context(|| {
        format!(
            "{}: there is no test file, so nobody knows which requests to send; docs/commands/test.md",
            folder.display()
        )
    })
}

/// The request, if it can be sent over mutual TLS on the loopback. One in plaintext can be if no policy looks at identities.
fn call(request: &RequestFields, look_at_identity: bool) -> Option<Call> {
    const SOMEBODY: &str = "cluster.local/ns/default/sa/somebody";
    let source_ip = match request.source_ip {
        None => Ipv4Addr::LOCALHOST,
        Some(IpAddr::V4(ip)) if ip.is_loopback() => ip,
        Some(_) => return None,
    };
    let needs_more = request.remote_ip.is_some()
        || request.destination_ip.is_some()
        || request.destination_port.is_some()
        || request.sni.is_some()
        || !request.metadata.is_empty()
        || request.protocol.is_some();
    if needs_more {
        return None;
    }
    let principal = match &request.principal {
        Some(principal) => principal.clone(),
        None if look_at_identity => return None,
        None => SOMEBODY.to_owned(),
    };
    // The benchmark ends with the process, and so do its names.
    let kept = |text: &str| -> &'static str { text.to_owned().leak() };
    Some(Call {
        source_ip,
        host: kept(request.host()),
        headers: request.headers.iter().map(|(name, value)| (kept(name), value.clone())).collect(),
        claims: request.jwt.as_ref().map(|claims| json!(claims)),
        ..Call::new(principal, kept(request.method()), request.path())
    })
}
