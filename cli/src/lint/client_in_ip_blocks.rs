//! MA020. A public address in ipBlocks, where remoteIpBlocks may be meant.

use mesh_authz::policy::{Cidr, Predicate};

use super::{Check, Lint, LintContext, Remark, ValueList};

pub(super) static LINT: Lint = Lint {
    code: "MA020",
    name: "client-in-ip-blocks",
    summary: "a public address in ipBlocks, where remoteIpBlocks may be meant",
    explanation: "ipBlocks (source.ip) is the address of whoever holds the connection: behind a gateway or a load balancer, \
            that of the gateway or the load balancer. The client's address, from X-Forwarded-For or the PROXY protocol, is \
            remoteIpBlocks (remote.ip). A public address in ipBlocks is right only where clients connect directly.",
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
    let block = Cidr::parse(value).ok()?;
    let is_within = |known: &&str| {
        Cidr::parse(known).is_ok_and(|known| known.prefix <= block.prefix && known.contains(block.address))
    };
    // All addresses, or half of them, are nobody's in particular.
    if block.prefix < 2 || NOT_PUBLIC.iter().any(is_within) {
        return None;
    }
    Some(Remark::new(
        format!(
            "`{value}` is public, and ipBlocks is the address of whoever connects: often a gateway or a load balancer"
        ),
        "use remoteIpBlocks (remote.ip) for the client's address, unless clients connect directly",
    ))
}
