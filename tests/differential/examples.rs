//! The examples that the analysis of all requests gives: Envoy decides them as the analysis says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use mesh_authz::analysis::{self, Budget, Example, Policies, Proof, Sides, Workloads, prove};
use mesh_authz::attribute::Address;
use mesh_authz::diagnostic::Diagnostics;
use mesh_authz::engine::{Combining, Custom, Engine, Options, Verdict};
use mesh_authz::identity::TrustDomains;
use mesh_authz::policy::scope::{Scope, scope};
use mesh_authz::policy::{AuthorizationPolicy, Traffic, read};
use mesh_authz::request::PeerName;

use crate::arena::workload;
use crate::policies::PolicySet;
use crate::questions::{Link, Peer, Question};

/// A request that the analysis says is decided so.
pub struct Claim {
    pub link: Link,
    pub question: Question,
    pub is_allowed: bool,
}

/// For each policy, a request that one of its rules matches and that is allowed, and one that is refused. Those that cannot be
/// sent are left out.
pub fn claims(set: &PolicySet, on_ipv6: bool) -> Result<Vec<Claim>> {
    let mut diagnostics = Diagnostics::new();
    let policies: Option<Vec<_>> = set.nodes().iter().map(|node| read::policy(node, &mut diagnostics)).collect();
    let policies = policies.context("a policy that cannot be read")?;
    let options = Options {
        trust_domains: TrustDomains::new(set.trust_domain.clone(), set.aliases.clone()),
        combining: Combining::DenyOverrides,
        custom: Custom::Refuse,
        jwt_payload_key: "payload".to_owned(),
        traffic: Traffic::Http,
    };
    let workload = workload();
    let all: Vec<&AuthorizationPolicy> = policies.iter().collect();
    let compiled = Policies::new(&all, &options, Workloads::One(Box::new(workload.clone())));
    let rules: Vec<_> = policies.iter().map(|policy| analysis::rules(policy, &options)).collect();
    let mut sides = Sides::default();
    let side = sides.side(&compiled);
    let engine = Engine::new(policies.iter().filter(|policy| scope(policy, &workload) == Scope::Applies), &options);
    let mut claims = Vec::new();
    for rules in &rules {
        let region = sides.region(rules);
        for (expected, claimed) in [(Verdict::Allow, Verdict::Deny), (Verdict::Deny, Verdict::Allow)] {
            let Ok(Proof::Fails(example)) = prove(&region, &side, expected, &mut Budget::default()) else { continue };
            let decide = |example: &Example| engine.decide(&example.request()).outcome.verdict();
            ensure!(decide(&example) == claimed, "the engine contradicts the analysis: {example:#?}");
            let Some((sent, link, question)) = sent(*example, on_ipv6) else { continue };
            if decide(&sent) == claimed {
                claims.push(Claim { link, question, is_allowed: claimed == Verdict::Allow });
            }
        }
    }
    Ok(claims)
}

/// The example as it can be sent: from an address of this machine. `None`: it cannot be.
fn sent(mut example: Example, on_ipv6: bool) -> Option<(Example, Link, Question)> {
    let from = if on_ipv6 { IpAddr::V6(Ipv6Addr::LOCALHOST) } else { IpAddr::V4(Ipv4Addr::LOCALHOST) };
    example.addresses.insert(Address::Source, from);
    let text = |bytes: &[u8]| Some(&*String::from_utf8(bytes.to_vec()).ok()?.leak());
    let peer = match example.names.as_slice() {
        [] => Peer::Anonymous,
        [(PeerName::Uri, name)] => Peer::Spiffe(text(name)?.strip_prefix("spiffe://")?),
        _ => return None,
    };
    // Only such a name can be sent in a handshake. A number at its end would make it an address.
    let is_label = |label: &str| {
        let is_plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        is_plain && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    let is_host = |name: &str| name.split('.').all(is_label) && !name.ends_with(|last: char| last.is_ascii_digit());
    let sni = match &example.sni {
        Some(name) => Some(text(name).filter(|name| is_host(name))?),
        None => None,
    };
    let address = |which| example.addresses.get(&which).copied();
    let (remote, local) = (address(Address::Remote)?, address(Address::Destination)?);
    // In a PROXY header, Envoy takes only the address of one.
    if [remote, local].iter().any(|ip| ip.is_unspecified() || ip.is_multicast()) {
        return None;
    }
    let proxied = (SocketAddr::new(remote, 4000), SocketAddr::new(local, example.destination_port?));
    let pseudo =
        |name: &str| example.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice());
    let (method, path) = (text(pseudo(":method")?)?, pseudo(":path")?.to_vec());
    let host = text(pseudo(":authority")?).filter(|host| !host.is_empty())?;
    let known = [":method", ":path", ":authority"];
    let headers = example.headers.iter().filter(|(name, _)| !known.contains(&name.as_str()));
    let headers: Option<Vec<_>> = headers
        .map(|(name, value)| {
            let is_plain = !name.starts_with(':') && name != "host" && name != "cookie" && value.trim_ascii() == value;
            Some((text(name.as_bytes()).filter(|_| is_plain)?, value.clone()))
        })
        .collect();
    let claims = match example.metadata.as_slice() {
        [] => None,
        [(filter, node)] if filter == "envoy.filters.http.jwt_authn" => {
            Some(serde_json::to_value(node).ok()?.get("payload")?.clone())
        }
        _ => return None,
    };
    let is_usual = example.is_expected && method != "CONNECT" && remote.is_ipv4() == local.is_ipv4();
    let link = Link { peer, sni, from: (!on_ipv6).then_some(1), proxied, http2: true };
    let question =
        Question { method, path, host, headers: headers?, forwarded_for: None, claims, metadata: Vec::new() };
    is_usual.then_some((example, link, question))
}
