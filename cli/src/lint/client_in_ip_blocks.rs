//! MA020. A public address in ipBlocks, where remoteIpBlocks may be meant.

use mesh_authz::policy::{Cidr, Predicate, Target};

use super::tcp_traffic::may_be_reached_directly;
use super::{Check, Lint, LintContext, Remark, ValueList};

pub(super) static LINT: Lint = Lint {
    code: "MA020",
    name: "client-in-ip-blocks",
    summary: "a public address in ipBlocks, where remoteIpBlocks may be meant",
    explanation: "The values of ipBlocks (source.ip) are compared with the address of the direct peer, which opened \
            the connection. Behind a gateway or a load balancer, this is the address of the gateway or the load \
            balancer. The values of remoteIpBlocks (remote.ip) are compared with the client's address, which Envoy \
            takes from X-Forwarded-For or the PROXY protocol. A public address in ipBlocks is right only if clients \
            connect directly. Change ipBlocks to remoteIpBlocks only if Envoy knows how many proxies in front of it to \
            trust (numTrustedProxies in Istio, xff_num_trusted_hops in Envoy). Otherwise a client writes any address \
            into X-Forwarded-For, and an ALLOW rule for that address lets it in. The lint is silent about gateways, since clients \
            may connect to them directly, and about waypoints, for which no value of ipBlocks is right (MA047).",
    bad: r#"
spec:
  rules:
  - from:
    - source:
        ipBlocks: ["203.0.113.0/24"]
"#,
    good: r#"
spec:
  rules:
  - from:
    - source:
        remoteIpBlocks: ["203.0.113.0/24"]
"#,
    trust_domain: None,
    check: Check::Value(check),
};

fn check(value: &str, list: &ValueList<'_>, _: &LintContext) -> Option<Remark> {
    const NOT_PUBLIC: [&str; 12] = [
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "0.0.0.0/32",
        "fc00::/7",
        "fe80::/10",
        "::1/128",
        "::/128",
        "::ffff:0:0/96",
    ];
    let Predicate::SourceIp(_) = list.predicate else { return None };
    let target = &list.resource.policy.target;
    if matches!(target, Target::References(_)) || may_be_reached_directly(target) {
        return None;
    }
    let block = Cidr::parse(value).ok()?;
    let is_within = |known: &&str| {
        Cidr::parse(known).is_ok_and(|known| known.prefix <= block.prefix && known.contains(block.address))
    };
    // A block of all addresses, or of half of them, is not meant for particular clients.
    if block.prefix < 2 || NOT_PUBLIC.iter().any(is_within) {
        return None;
    }
    Some(Remark::new(
        format!(
            "`{value}` is public, and ipBlocks is the address of whoever connects: often a gateway or a load balancer"
        ),
        "if clients connect directly, keep it; for the client's address behind proxies, use remoteIpBlocks, but only where \
         Envoy knows how many proxies to trust: elsewhere, clients choose that address themselves",
    ))
}
